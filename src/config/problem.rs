//! What is wrong with a configuration, where, and what to do about it. Never quotes a secret.

use std::{fmt, path::PathBuf, sync::Arc};

/// A place in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Span {
    /// Line, from 1; 0 when the place is a default that stands in no file.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// The path of keys that leads there: `routes[3].auth[0]`.
    pub key: Arc<str>,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration loads; an operator should know.
    Warning,
    /// The configuration is refused.
    Error,
}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is.
    pub span: Span,
    /// What is wrong: a lower-case phrase.
    pub message: String,
    /// What to do, or the nearest right name.
    pub help: Option<String>,
}

impl Problem {
    /// An error at a place.
    pub fn error(span: &Span, message: impl Into<String>) -> Self {
        Self::made(Severity::Error, span, message.into())
    }

    /// A warning at a place.
    pub fn warning(span: &Span, message: impl Into<String>) -> Self {
        Self::made(Severity::Warning, span, message.into())
    }

    #[inline(never)]
    fn made(severity: Severity, span: &Span, message: String) -> Self {
        Self { severity, span: span.clone(), message, help: None }
    }

    /// The same with what to do.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// All that is wrong with a configuration, at least one of them an error.
#[derive(Debug, Clone)]
pub struct Problems {
    /// The file, as the user named it.
    pub file: PathBuf,
    /// Its text, for snippets; lines that hold secrets are blanked when rendered.
    pub text: Arc<str>,
    /// The problems, in the order of the file.
    pub list: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What has to be mended stands before what may stay.
        for (severity, kind) in [(Severity::Error, "error"), (Severity::Warning, "warning")] {
            for Problem { span, message, help, .. } in self.list.iter().filter(|problem| problem.severity == severity) {
                write!(f, "{}:{}:{}: {kind}: {message}", self.file.display(), span.line, span.column)?;
                match help {
                    Some(help) => writeln!(f, " ({help})")?,
                    None => writeln!(f)?,
                }
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
