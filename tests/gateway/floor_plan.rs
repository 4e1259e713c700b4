//! The house's floors: imports go down only, and the lower floors are pure. docs/architecture.md has the plan.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// The rooms of each floor, from the ground up. `body` is a leaf beside them.
const FLOORS: &[&[&str]] = &[
    &["clock", "secret", "jose", "spread", "subscriber"],
    &["policy", "route"],
    &["client", "config", "cork", "endpoint", "files", "notify", "password", "state", "store", "telemetry"],
    &["acme", "assertion", "authority", "erasure", "identity", "limit", "upstream"],
    &["runtime"],
    &["gateway"],
    &["server"],
    &["cli", "main"],
];

/// Neighbours on a floor that may be seen all the same: routes lead to policies, private keys are secrets, the audit trail is files, the outbox is rows,
/// the store is sealed with keys of the configuration,
/// and the state is the store with its outbox.
const NEIGHBOURS: &[(&str, &str)] = &[
    ("route", "policy"),
    ("main", "cli"),
    ("jose", "secret"),
    ("telemetry", "files"),
    ("client", "config"),
    ("notify", "client"),
    ("notify", "config"),
    ("notify", "store"),
    ("store", "config"),
    ("store", "files"),
    ("state", "config"),
    ("state", "notify"),
    ("state", "store"),
];

fn floor(room: &str) -> usize {
    FLOORS
        .iter()
        .position(|rooms| rooms.contains(&room))
        .unwrap_or_else(|| panic!("`{room}` has no floor: give it one here and in docs/architecture.md"))
}

fn may_see(room: &str, other: &str) -> bool {
    match (room, other) {
        _ if room == other => true,
        ("body", _) => floor(other) == 0,
        (_, "body") => floor(room) >= 3, // closed to floors 1 and 2
        _ => floor(other) < floor(room) || NEIGHBOURS.contains(&(room, other)),
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Each file's room, name, and its code without comments and unit tests.
fn rooms() -> Vec<(String, String, String)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let file = |path: PathBuf| {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        let room = name.split(['/', '.']).next().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap().lines();
        let code = code.filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        (room, name, code)
    };
    let is_test = |name: &str| name.ends_with("tests.rs") || name.contains("/tests/") || name.ends_with("vectors.rs");
    files.into_iter().map(file).filter(|(room, name, _)| room != "lib" && !is_test(name)).collect()
}

/// The rooms that a piece of code names by `crate::`, grouped imports included.
fn seen(code: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        let Some(group) = rest.strip_prefix('{') else {
            seen.insert(word(rest));
            continue;
        };
        let (mut depth, mut start) = (0_usize, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && c.is_alphanumeric() => {
                    seen.insert(word(&group[at..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    seen.retain(|room| !room.is_empty());
    seen
}

#[test]
fn imports_go_down_only() {
    let mut faults = Vec::new();
    for (room, name, code) in rooms() {
        for other in seen(&code) {
            // `main.rs` names the crate as users do, so what it says here is its own.
            if other == "self" || may_see(&room, &other) {
                continue;
            }
            faults.push(format!("src/{name} sees `{other}`"));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn the_lower_floors_are_pure() {
    let impure = [
        "tokio",
        "std::fs",
        "TcpListener",
        "TcpStream",
        "UdpSocket",
        "std::env",
        "Instant::now",
        "SystemTime::now",
        "async fn",
        ".await",
        "hyper",
        "std::process",
        "std::thread",
    ];
    let mut faults = Vec::new();
    for (room, name, code) in rooms() {
        let pure = room == "config" || (room != "body" && floor(&room) <= 1);
        // Materials is the one way to files, a trait that floor 4 implements.
        for word in impure.iter().filter(|_| pure) {
            let is_the_clock = name == "clock.rs" && word.ends_with("::now");
            let mut places = code.match_indices(word).map(|(at, _)| code[at + word.len()..].chars().next());
            let is_a_word = places.any(|after| !after.is_some_and(|c| c.is_alphanumeric() || c == '_'));
            if is_a_word && !is_the_clock {
                faults.push(format!("src/{name} has `{word}`"));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn only_the_clock_asks_the_system_for_the_wall_time() {
    let asks = rooms().into_iter().filter(|(_, _, code)| code.contains("SystemTime::now")).map(|(_, name, _)| name);
    assert_eq!(asks.collect::<Vec<_>>(), ["clock.rs"]);
}

#[test]
fn every_file_says_what_it_is_for() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "fuzz/src", "fuzz/fuzz_targets", "benches"] {
        if root.join(folder).is_dir() {
            sources(&root.join(folder), &mut files);
        }
    }
    files.retain(|path| !path.components().any(|part| part.as_os_str() == "node_modules"));
    let silent = files.iter().filter(|path| !std::fs::read_to_string(path).unwrap().starts_with("//! "));
    assert_eq!(silent.collect::<Vec<_>>(), Vec::<&PathBuf>::new());
}

/// The code of all tests.
fn tests() -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    sources(&root.join("tests/gateway"), &mut files);
    files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// The names of tests that a text quotes. They are sentences: nothing else between backticks has so many words.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    let names = text.split('`').skip(1).step_by(2).map(|name| name.rsplit("::").next().unwrap_or(name));
    names.filter(|name| name.matches('_').count() >= 3 && !name.contains([' ', '.', '/', '…']))
}

fn missing<'n>(names: &[&'n str]) -> Vec<&'n str> {
    let code = tests();
    let is_there = |name: &str| code.contains(&format!("fn {name}(")) || code.contains(&format!("    {name}: "));
    names.iter().copied().filter(|name| !is_there(name)).collect()
}

#[test]
fn every_test_that_the_threat_model_names_is_there() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let model = std::fs::read_to_string(root.join("docs/threat-model.md")).unwrap();
    let names: Vec<&str> = quoted(&model).collect();
    assert!(names.len() > 10, "{names:?}");
    assert_eq!(missing(&names), Vec::<&str>::new());
}

#[test]
fn every_test_that_a_table_of_attacks_names_is_there() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/credentials");
    let pages = std::fs::read_dir(folder).unwrap().map(|page| std::fs::read_to_string(page.unwrap().path()).unwrap());
    let pages: Vec<String> = pages.collect();
    let tables = pages.iter().filter_map(|page| page.split_once("\n| attack |"));
    let rows = tables.flat_map(|(_, table)| table.lines().take_while(|line| line.starts_with(['|', ' '])));
    let names: Vec<&str> =
        rows.filter_map(|row| row.trim_end_matches(['|', ' ']).rsplit("| ").next()).flat_map(quoted).collect();
    assert!(names.len() > 50, "{names:?}");
    assert_eq!(missing(&names), Vec::<&str>::new());
}
