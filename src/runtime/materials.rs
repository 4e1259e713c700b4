//! The files and the environment, as they really are.

use std::{fs::File, io::Read, path::Path};

use crate::config::{LIST_BYTES, Materials};

/// The longest file that a configuration may name.
const MAX_BYTES: u64 = 1 << 20;

/// The machine's files and this process's environment.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskMaterials;

impl Materials for DiskMaterials {
    fn read_file(&self, path: &Path) -> Result<Vec<u8>, String> {
        read(path, MAX_BYTES)
    }

    fn read_list(&self, path: &Path) -> Result<Vec<u8>, String> {
        read(path, LIST_BYTES)
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| phrase(&error))?;
    let kind = file.metadata().map_err(|error| phrase(&error))?;
    if kind.is_dir() {
        return Err("it is a directory".to_owned());
    }
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too long from one that is just as long.
    file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(|error| phrase(&error))?;
    if bytes.len() as u64 > max_bytes {
        return Err(format!("it is longer than {} MiB", max_bytes >> 20));
    }
    Ok(bytes)
}

fn phrase(error: &std::io::Error) -> String {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the list is the system's; only these two have a phrase of ours"
    )]
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
