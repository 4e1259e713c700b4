//! The lock on a state folder: two processes on one folder would each believe their quotas and their audit chain whole.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    process,
};

const FILE_NAME: &str = "stepgate.lock";

/// Why a state folder could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("state_dir {dir} is in use by another stepgate{}", pid.as_ref().map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Held {
        /// The folder.
        dir: PathBuf,
        /// The other process, as it wrote itself down.
        pid: Option<u32>,
    },
    /// The folder or the file in it cannot be used.
    #[error("locking state_dir {dir}")]
    Io {
        /// The folder.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The right to use a state folder; given up when dropped, or when the process ends, however it ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Locks `dir`, which is made if it is missing.
    ///
    /// # Errors
    /// `Held` while another process has it.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io { dir: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(io)?;
        let path = dir.join(FILE_NAME);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held { dir: dir.to_owned(), pid: written_pid(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", process::id())).map_err(io)?;
        Ok(Self { _file: file })
    }
}

fn written_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_and_names_the_process_that_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let held = StateLock::acquire(dir.path()).unwrap();
        let error = StateLock::acquire(dir.path()).unwrap_err();
        assert!(error.to_string().ends_with(&format!("another stepgate (process {})", process::id())), "{error}");
        drop(held);
        StateLock::acquire(dir.path()).unwrap();
    }
}
