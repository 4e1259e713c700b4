//! What a million API keys cost: `cargo bench --bench api_keys`.
//!
//! Writes a file of keys of a thousand owners, each key with an id, scopes, a limit and an expiry, into a folder of its own, then
//! reads it in a process of its own: how long that takes, by how much the resident set grows, and at its peak, and how long one
//! key takes from its text to the table's answer. The targets are 5 s and 300 MB.

use std::{
    env, fs,
    io::{BufWriter, Write},
    path::Path,
    process::{Command, ExitCode},
    sync::Arc,
    time::Instant,
};

use stepgate::identity::apikey::{Form, KeyTable, Record, digest, form, make, written};

/// The allocator of the gateway itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEYS: usize = 1_000_000;
/// How many of them are kept as text, for looking them up.
const ASKED: usize = 100_000;

fn main() -> ExitCode {
    if let Some(folder) = env::args().skip(1).find(|argument| argument.starts_with('/')) {
        return measure(Path::new(&folder)).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let folder = env::temp_dir().join(format!("stepgate-api-keys-{}", std::process::id()));
    let done = fill(&folder).is_some()
        && env::current_exe()
            .and_then(|me| Command::new(me).arg(&folder).status())
            .is_ok_and(|status| status.success());
    let _ = fs::remove_dir_all(&folder);
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn fill(folder: &Path) -> Option<()> {
    fs::create_dir_all(folder).ok()?;
    let mut file = BufWriter::new(fs::File::create(folder.join("keys")).ok()?);
    let mut asked = BufWriter::new(fs::File::create(folder.join("asked")).ok()?);
    for number in 0..KEYS {
        let key = make("sgk").ok()?;
        let record = Record {
            id: format!("{number:012x}").into(),
            hash: written(&digest(key.as_bytes())).into(),
            owner: format!("customer-{:04}@partners.example", number % 1000).into(),
            scopes: vec!["orders:read".to_owned().into(), format!("region:{}", number % 10).into()],
            limits: vec!["per-key".to_owned().into()],
            expires: Some("2027-01-31T00:00:00Z".to_owned().into()),
            created: "2026-01-31T00:00:00Z".into(),
            ..Record::default()
        };
        serde_json::to_writer(&mut file, &record).ok()?;
        file.write_all(b"\n").ok()?;
        if number < ASKED {
            writeln!(asked, "{key}").ok()?;
        }
    }
    file.flush().ok()?;
    asked.flush().ok()
}

fn measure(folder: &Path) -> Option<()> {
    let path = folder.join("keys");
    let asked = fs::read_to_string(folder.join("asked")).ok()?;
    let asked: Vec<&str> = asked.lines().collect();
    let limits = ["per-key".into()].into_iter().collect::<std::collections::HashSet<Arc<str>>>();
    let (before, start) = (status("VmRSS:")?, Instant::now());
    let table = KeyTable::load(&path, &limits).ok()?;
    let took = start.elapsed();
    let (grown, peak) = (status("VmRSS:")?.saturating_sub(before), status("VmHWM:")?.saturating_sub(before));
    let bytes = fs::metadata(&path).ok()?.len();
    println!("{} keys, {:.0} MB of text", table.len(), bytes as f64 / 1e6);
    println!("load     {:9.2} s", took.as_secs_f64());
    println!("memory   {:9.1} MB at rest, {:.1} MB at its peak", grown as f64 / 1e6, peak as f64 / 1e6);
    let start = Instant::now();
    let found =
        asked.iter().filter(|key| form("sgk", key.as_bytes()) == Form::Ours && table.has(&digest(key.as_bytes())));
    let found = found.count();
    println!("look-up  {:9} ns: form, checksum, SHA-256, table", start.elapsed().as_nanos() / ASKED as u128);
    (table.len() == KEYS && found == ASKED).then_some(())
}

fn status(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
