//! When keys were last used, beside the state: for an operator who wants to know which keys nobody needs any more. Written
//! every minute and at a drain; what a process that is killed had not written yet is lost, and nothing but this list with it.

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use super::table::KeyTable;
use crate::files;

/// The largest file that is read.
const LONGEST_FILE: u64 = 1 << 30;

/// When keys were last used, in seconds since the epoch, by id.
pub type LastUses = HashMap<Box<str>, u32>;

/// The file of a source.
pub fn last_use_file(state_dir: &Path, source: &str) -> PathBuf {
    state_dir.join(format!("api-keys-{source}.last-used"))
}

/// Reads the file; a line that is not one of ours is passed over, as nothing depends on it.
pub fn read(path: &Path) -> io::Result<LastUses> {
    let file = match files::open(path) {
        Ok(file) => BufReader::new(file.take(LONGEST_FILE)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LastUses::new()),
        Err(error) => return Err(error),
    };
    let mut found = LastUses::new();
    for line in file.lines() {
        let line = line?;
        let pair = line.split_once(' ').and_then(|(id, seconds)| Some((id, seconds.parse().ok()?)));
        found.extend(pair.map(|(id, seconds)| (id.into(), seconds)));
    }
    Ok(found)
}

/// Writes the file whole: `ID SECONDS`, a line for each key that was ever used.
pub(super) fn write(path: &Path, table: &KeyTable) -> io::Result<()> {
    files::replace(path, |file| {
        let mut out = BufWriter::with_capacity(64 << 10, file);
        for (id, seconds) in table.last_uses() {
            writeln!(out, "{id} {seconds}")?;
        }
        out.flush()
    })
}
