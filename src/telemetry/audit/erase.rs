//! Erasing what identifies somebody: disclosures are struck out in their place, and the chain stays whole.
//!
//! A disclosure is overwritten with as many `-`, so no line moves and the gateway may go on appending meanwhile. What
//! is struck out here still stands in every copy that was made of the file.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::Path,
};

use super::{
    disclosure,
    record::{LINE_BYTES, Line},
};

/// Strikes out the disclosures that `matches` says yes to, by name (`subject`, `client`, `operator`, `address`, `path`,
/// `path_params.…`) and value; how many, once that is durable. Lines that are no records are left alone.
pub fn erase(path: &Path, matches: impl Fn(&str, &str) -> bool) -> io::Result<u64> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut file = OpenOptions::new().write(true).open(path)?;
    let (mut line, mut offset, mut erased) = (Vec::new(), 0, 0);
    loop {
        line.clear();
        let read = reader.by_ref().take(LINE_BYTES as u64).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        let record = line.strip_suffix(b"\n").and_then(Line::split).filter(Line::is_sound);
        for disclosure in record.map(|record| record.disclosures).unwrap_or_default() {
            if !disclosure::read(disclosure).is_some_and(|(name, value)| matches(&name, &value)) {
                continue;
            }
            // The salt makes it unique, and behind the body there is nothing that it could be part of.
            let at = line.windows(disclosure.len()).rposition(|window| window == disclosure.as_bytes());
            if let Some(at) = at {
                file.seek(SeekFrom::Start(offset + at as u64))?;
                file.write_all("-".repeat(disclosure.len()).as_bytes())?;
                erased += 1;
            }
        }
        offset += read as u64;
    }
    file.sync_all()?;
    Ok(erased)
}
