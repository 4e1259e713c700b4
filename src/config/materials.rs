//! What a valid configuration still has to read when it is compiled: the files and variables that it names. The trait
//! stands here, its implementation in the runtime, so that the stages above can be run on materials made up by a test.

use std::path::Path;

use super::{Problem, Source};
use crate::secret::Secret;

/// The longest file that holds a list of the operator's, as of revoked certificates.
pub const LIST_BYTES: u64 = 64 << 20;

/// The files and the environment that a configuration names.
pub trait Materials {
    /// Reads a file of at most 1 MiB; the error is a lower-case phrase without the path.
    fn read_file(&self, path: &Path) -> Result<Vec<u8>, String>;

    /// Reads a list, a file of at most [`LIST_BYTES`]; the error is a lower-case phrase without the path.
    fn read_list(&self, path: &Path) -> Result<Vec<u8>, String> {
        self.read_file(path)
    }

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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::config::{File, Span};

    struct One(&'static [u8]);

    impl Materials for One {
        fn read_file(&self, _: &Path) -> Result<Vec<u8>, String> {
            Ok(self.0.to_vec())
        }

        fn env(&self, name: &str) -> Option<String> {
            (name == "SET").then(|| "value\n".to_owned())
        }
    }

    fn from_file(bytes: &'static [u8]) -> Result<Vec<u8>, String> {
        let source = Source::File(File { span: Span::default(), path: "secret".into() });
        One(bytes).secret(&source).map(|secret| secret.expose().to_vec()).map_err(|problem| problem.message)
    }

    #[test]
    fn one_final_newline_of_a_file_is_not_part_of_its_secret() {
        for (file, secret) in [
            (&b"a b"[..], &b"a b"[..]),
            (b"a b\n", b"a b"),
            (b"a b\r\n", b"a b"),
            (b"a b\n\n", b"a b\n"),
            (b" a\r", b" a\r"),
        ] {
            assert_eq!(from_file(file).unwrap(), secret);
        }
    }

    #[test]
    fn an_empty_secret_is_a_problem() {
        for file in [&b""[..], b"\n", b"\r\n"] {
            assert_eq!(from_file(file), Err("the secret is empty".to_owned()));
        }
    }

    #[test]
    fn a_variable_is_taken_as_it_is_and_must_be_set() {
        let env = |name: &str| One(b"").secret(&Source::Env { span: Span::default(), name: name.into() });
        assert_eq!(env("SET").unwrap().expose(), b"value\n");
        assert_eq!(env("UNSET").unwrap_err().message, "the environment variable UNSET is not set");
    }
}
