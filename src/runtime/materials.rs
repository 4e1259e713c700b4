//! The files and the environment, as they really are.

use std::path::Path;

use crate::{
    config::{LIST_BYTES, Materials},
    files,
};

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
    files::read(path, max_bytes).map_err(|error| phrase(&error))
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
