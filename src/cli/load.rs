//! From a file to a valid configuration, and from problems to what a person reads.

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
};

use crate::config::{self, Color, Config, CredentialKind, Input, Loaded, Materials, Problems};

/// Why there is no configuration.
#[derive(Debug)]
pub(crate) enum LoadFault {
    /// The file cannot be read.
    Unreadable(PathBuf, String),
    /// The file is read, and refused.
    Refused(Problems),
}

/// Reads and validates a configuration file.
pub(crate) fn load(file: &Path, materials: &dyn Materials) -> Result<Loaded, LoadFault> {
    let unreadable = |why: String| LoadFault::Unreadable(file.to_owned(), why);
    let bytes = materials.read_file(file).map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = line.iter().filter(|byte| **byte == b'\n').count() + 1;
        unreadable(format!("line {line} is not UTF-8"))
    })?;
    load_text(file, &text, materials)
}

/// Validates a configuration's text as if it stood in `file`.
pub(crate) fn load_text(file: &Path, text: &str, materials: &dyn Materials) -> Result<Loaded, LoadFault> {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let base = absolute.parent().unwrap_or(Path::new("/"));
    let env = |name: &str| materials.env(name);
    config::load(&Input { file, text, base, env: &env }).map_err(LoadFault::Refused)
}

/// Prints problems to standard error, in colour on a terminal.
pub(crate) fn print_problems(problems: &Problems) {
    let color = if std::io::stderr().is_terminal() { Color::Always } else { Color::Never };
    // Nobody is left to tell if standard error is gone.
    let _ = write!(std::io::stderr(), "{}", problems.render(color));
}

/// Prints why there is no configuration.
pub(crate) fn print_fault(fault: &LoadFault) {
    match fault {
        LoadFault::Unreadable(file, why) => {
            let _ = writeln!(std::io::stderr(), "stepgate: reading {}: {why}", file.display());
        }
        LoadFault::Refused(problems) => print_problems(problems),
    }
}

/// A source of credentials of one kind, by its name; the error names those that there are.
pub(crate) fn source<T>(config: &Config, name: &str, pick: impl Fn(&CredentialKind) -> Option<T>) -> Result<T, String> {
    let named = config.credentials.iter().find(|source| *source.name == *name);
    named.and_then(|source| pick(&source.kind)).ok_or_else(|| {
        let mut known: Vec<&str> = config
            .credentials
            .iter()
            .filter(|source| pick(&source.kind).is_some())
            .map(|source| &*source.name)
            .collect();
        known.sort_unstable();
        if known.is_empty() { String::new() } else { format!(": there is {}", known.join(", ")) }
    })
}
