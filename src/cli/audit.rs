//! `stepgate audit`: whether the audit trail is what was written, and striking out what must be forgotten.

use std::{
    fs::{self, File},
    io::{self, BufReader, Write},
    path::{Path, PathBuf},
};

use clap::Subcommand;
use thiserror::Error;

use super::{Exit, complain, print_line};
use crate::telemetry::audit::{self, Head, PublicKey};

/// Work on the audit trail.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Finds any edit, removal, reordering or truncation
    ///
    /// Without --head, the head beside the file (FILE.head) is used if it is there. A head is only as good as the key that
    /// signed it: keep heads and the public key (FILE.pub) where whoever can write the file cannot, and name the key.
    Verify {
        /// The audit file
        file: PathBuf,
        /// A signed head: the file must hold at least the records that it speaks of
        #[arg(long, value_name = "HEAD")]
        head: Option<PathBuf>,
        /// The public key that must have signed the head: a file, or the key itself
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
    },
    /// Strikes a person's value out; the records stay, and still verify
    ///
    /// What is struck out cannot be brought back. The gateway may go on running.
    Erase {
        /// The audit file
        file: PathBuf,
        /// What the value is: subject, client, operator, address, path, or `path_params.` and a parameter's name
        name: String,
        /// The value, exactly
        value: String,
    },
}

#[derive(Debug, Error)]
enum AuditFault {
    #[error("reading {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("striking out in {path}")]
    Erase { path: PathBuf, source: io::Error },
    #[error("{0} is not a signed head")]
    Head(PathBuf),
    #[error("`{0}` is neither a public key nor a file that holds one")]
    Key(String),
}

/// Runs an audit command.
pub(crate) fn audit(command: &AuditCommand) -> Exit {
    let result = match command {
        AuditCommand::Verify { file, head, key } => verify(file, head.as_deref(), key.as_deref()),
        AuditCommand::Erase { file, name, value } => erase(file, name, value),
    };
    match result {
        Ok(exit) => exit,
        Err(fault) => {
            complain(&fault);
            Exit::Io
        }
    }
}

fn verify(file: &Path, head: Option<&Path>, key: Option<&str>) -> Result<Exit, AuditFault> {
    let beside = PathBuf::from(format!("{}.head", file.display()));
    let head_path = head.map(Path::to_owned).or_else(|| beside.exists().then_some(beside));
    let head = head_path.as_deref().map(read_head).transpose()?;
    let pinned = key.map(read_key).transpose()?;
    let opened = File::open(file).map_err(|source| AuditFault::Read { path: file.to_owned(), source })?;
    match audit::verify(BufReader::new(opened), head.as_ref(), pinned.as_ref()) {
        Ok(report) => {
            let count = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
            print_line(&format!("{}: ok: {}, hash {}", file.display(), count(report.records, "record"), report.hash));
            match (&head_path, &head) {
                (Some(path), Some(head)) => print_line(&format!(
                    "{} vouches for {} of them; signed by {}{}",
                    path.display(),
                    report.vouched,
                    head.key,
                    if pinned.is_some() { "" } else { " (give --key to insist on a key)" },
                )),
                (None, _) | (_, None) => {
                    print_line("no head was given: records missing at the end would not be noticed")
                }
            }
            if report.erased > 0 {
                print_line(&format!("{} erased", count(report.erased, "value")));
            }
            if report.open_intents > 0 {
                print_line(&format!("{} without an outcome yet", count(report.open_intents, "intent")));
            }
            Ok(Exit::Success)
        }
        Err(findings) => {
            let mut out = io::stdout().lock();
            for finding in &findings {
                // A reader that has gone away is not an error; the exit code says it all.
                let _ = writeln!(out, "{}: {finding}", file.display());
            }
            let _ = writeln!(out, "{}: NOT ok: {} found", file.display(), findings.len());
            Ok(Exit::Failure)
        }
    }
}

fn erase(file: &Path, name: &str, value: &str) -> Result<Exit, AuditFault> {
    let matches = |found: &str, disclosed: &str| found == name && disclosed == value;
    let erased = audit::erase(file, matches).map_err(|source| AuditFault::Erase { path: file.to_owned(), source })?;
    print_line(&format!("{}: {erased} of {name} struck out", file.display()));
    Ok(if erased > 0 { Exit::Success } else { Exit::Failure })
}

fn read_head(path: &Path) -> Result<Head, AuditFault> {
    let text = fs::read_to_string(path).map_err(|source| AuditFault::Read { path: path.to_owned(), source })?;
    Head::parse(&text).ok_or_else(|| AuditFault::Head(path.to_owned()))
}

fn read_key(key: &str) -> Result<PublicKey, AuditFault> {
    let text = fs::read_to_string(key).unwrap_or_else(|_| key.to_owned());
    PublicKey::parse(&text).ok_or_else(|| AuditFault::Key(key.to_owned()))
}
