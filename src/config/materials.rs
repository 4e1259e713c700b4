//! What a configuration needs from outside of its text: files and the environment, behind a trait so that `config` and
//! everything that compiles a `Config` can be tested without either.

use std::path::Path;

/// Where files and environment variables come from.
pub trait Materials {
    /// Reads a whole file; the error is a phrase for a [`Problem`](super::Problem).
    ///
    /// # Errors
    /// When the file can't be read.
    fn read_file(&self, path: &Path) -> Result<Vec<u8>, String>;

    /// The value of an environment variable, if it is set and is UTF-8.
    fn env(&self, name: &str) -> Option<String>;
}
