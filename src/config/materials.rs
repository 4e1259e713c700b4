//! What a valid configuration still has to read when it is compiled: the files and variables that it names. The trait
//! stands here, its implementation in the runtime, so that the stages above can be run on materials made up by a test.

use std::path::Path;

use super::{Problem, Source};
use crate::secret::Secret;

/// The files and the environment that a configuration names.
pub trait Materials {
    /// Reads a file of at most 1 MiB; the error is a lower-case phrase without the path.
    fn read_file(&self, path: &Path) -> Result<Vec<u8>, String>;

    /// Reads an environment variable.
    fn env(&self, name: &str) -> Option<String>;

    /// Reads a secret where it stands. One final newline of a file is dropped, since editors write one; an empty secret
    /// is a problem, since everything would match it.
    fn secret(&self, source: &Source) -> Result<Secret, Problem> {
        let (span, bytes) = match source {
            Source::File(file) => {
                let mut bytes = self.read_file(&file.path).map_err(|error| {
                    Problem::error(&file.span, format!("cannot read {}: {error}", file.path.display()))
                })?;
                if bytes.last() == Some(&b'\n') {
                    bytes.pop();
                    if bytes.last() == Some(&b'\r') {
                        bytes.pop();
                    }
                }
                (&file.span, bytes)
            }
            Source::Env { span, name } => {
                let value = self
                    .env(name)
                    .ok_or_else(|| Problem::error(span, format!("the environment variable {name} is not set")))?;
                (span, value.into_bytes())
            }
            Source::Inline { span, value } => (span, value.expose().to_vec()),
        };
        if bytes.is_empty() {
            return Err(Problem::error(span, "the secret is empty"));
        }
        Ok(Secret::new(bytes))
    }
}
