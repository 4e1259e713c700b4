//! `stepgate audit`: whether the audit trail is what was written, and striking out what must be forgotten.

use std::{
    fs::{self, File},
    io::{self, BufReader, Write},
    path::{Path, PathBuf},
};

use clap::Subcommand;
use thiserror::Error;

use super::{Exit, complain, print_line};
use crate::{
    files,
    telemetry::audit::{
        self, CertificateKind, Head, MAX_CERTIFICATE, PublicKey, Report, SignedCertificate, Sought, Struck,
    },
};

/// Work on the audit trail.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Finds any edit, removal, reordering or truncation; and whether a deletion's certificate is what the log says
    ///
    /// Without --head, the head beside the file (FILE.head) is used if it is there. A head is only as good as the key that
    /// signed it: keep heads and the public key (FILE.pub) where whoever can write the file cannot, and name the key.
    Verify {
        /// The audit file; with a certificate none, or several: older ones, and those of other gateways on the same store
        #[arg(required_unless_present = "certificate", value_name = "FILE")]
        files: Vec<PathBuf>,
        /// A signed head: the file must hold at least the records that it speaks of
        #[arg(long, value_name = "HEAD")]
        head: Option<PathBuf>,
        /// The public key that must have signed the head, and the certificate: a file, or the key itself
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// A deletion's certificate: each record that it names must be in the files, and none of that deletion's left out
        #[arg(long, value_name = "CERT")]
        certificate: Option<PathBuf>,
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
    /// Strikes a person out of a file that no gateway writes any more, as the end of a deletion does in the running one
    ///
    /// All that identifies them goes from the records about them, and the path from other people's records of what is theirs.
    Forget {
        /// The audit file
        file: PathBuf,
        /// Who vouches for them: the issuer's identifier, the token's `iss`
        #[arg(long, value_name = "URL")]
        issuer: String,
        /// The subject of their tokens
        #[arg(long, value_name = "SUBJECT", required = true)]
        subject: Vec<String>,
        /// The number of their deletion
        #[arg(long, value_name = "ID", default_value = "")]
        deletion: String,
        /// The path that is theirs: `/accounts/42`, and all below
        #[arg(long, value_name = "PATH")]
        under: Option<String>,
    },
}

#[derive(Debug, Error)]
enum AuditFault {
    #[error("reading {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("striking out in {path}")]
    Erase { path: PathBuf, source: io::Error },
    #[error("--head is for one file")]
    Heads,
    #[error("{0} is not a signed head")]
    Head(PathBuf),
    #[error("`{0}` is neither a public key nor a file that holds one")]
    Key(String),
}

/// Runs an audit command.
pub(crate) fn audit(command: &AuditCommand) -> Exit {
    let result = match command {
        AuditCommand::Verify { files, head, key, certificate } => {
            verify(files, head.as_deref(), key.as_deref(), certificate.as_deref())
        }
        AuditCommand::Erase { file, name, value } => erase(file, name, value),
        AuditCommand::Forget { file, issuer, subject, deletion, under } => {
            let whose = Struck {
                id: deletion.as_str().into(),
                issuer_url: issuer.as_str().into(),
                subjects: subject.iter().map(|subject| subject.as_str().into()).collect(),
                request_ids: Vec::new(),
                under: under.as_deref().map(Into::into),
                until: None,
            };
            forget(file, &whose)
        }
    };
    match result {
        Ok(exit) => exit,
        Err(fault) => {
            complain(&fault);
            Exit::Io
        }
    }
}

fn verify(
    files: &[PathBuf],
    head: Option<&Path>,
    key: Option<&str>,
    certificate: Option<&Path>,
) -> Result<Exit, AuditFault> {
    if head.is_some() && files.len() > 1 {
        return Err(AuditFault::Heads);
    }
    let pinned = key.map(read_key).transpose()?;
    let Some(path) = certificate else {
        let all = files.iter().map(|file| verify_file(file, head, pinned.as_ref(), None));
        return all.reduce(worse).unwrap_or(Ok(Exit::Success));
    };
    let signed = match SignedCertificate::read(&read(path, MAX_CERTIFICATE + 2)?, pinned.as_ref()) {
        Ok(signed) => signed,
        Err(fault) => {
            print_line(&format!("{}: NOT ok: {fault}", path.display()));
            return Ok(Exit::Failure);
        }
    };
    let mut sought = Sought::new(signed.certificate());
    let mut exit = Ok(Exit::Success);
    for file in files {
        exit = worse(exit, verify_file(file, head, pinned.as_ref(), Some(&mut sought)));
        sought.next_log();
    }
    let exit = exit?;
    let mismatches = if files.is_empty() { Vec::new() } else { sought.mismatches() };
    for mismatch in &mismatches {
        print_line(&format!("{}: {mismatch}", path.display()));
    }
    if !mismatches.is_empty() {
        print_line(&format!("{}: NOT ok: {} found", path.display(), mismatches.len()));
        return Ok(Exit::Failure);
    }
    tell_certificate(path, &signed, pinned.is_some());
    print_line(&match (files.len(), exit) {
        (0, _) => "no audit file was given: whether the chain has its records was not looked at".to_owned(),
        (_, Exit::Success) => format!("all {} of its records are in the chain", signed.certificate().records.len()),
        _ => "its records are there, but the chain is NOT ok".to_owned(),
    });
    let further = sought.further().count();
    if further > 0 {
        print_line(&format!("{} since: ask for a newer report", count(further as u64, "event")));
    }
    Ok(exit)
}

/// What a certificate says, for whoever reads it here.
fn tell_certificate(path: &Path, signed: &SignedCertificate, pinned: bool) {
    let certificate = signed.certificate();
    let what = match certificate.kind {
        CertificateKind::Certificate => "certificate",
        CertificateKind::Report => "report of something under way",
    };
    print_line(&format!("{}: ok: {what}: deletion {} of plan {}", path.display(), certificate.id, certificate.plan));
    print_line(&format!("{}: {}", certificate.state, certificate.result));
    for (what, at) in &certificate.times {
        print_line(&format!("  {what:<11} {at}"));
    }
    let insist = if pinned { "" } else { " (give --key to insist on a key)" };
    print_line(&format!("signed by {}{insist}", certificate.key));
}

fn verify_file(
    file: &Path,
    head: Option<&Path>,
    pinned: Option<&PublicKey>,
    sought: Option<&mut Sought<'_>>,
) -> Result<Exit, AuditFault> {
    let beside = PathBuf::from(format!("{}.head", file.display()));
    let head_path = head.map(Path::to_owned).or_else(|| beside.exists().then_some(beside));
    let head = head_path.as_deref().map(read_head).transpose()?;
    let opened = File::open(file).map_err(|source| AuditFault::Read { path: file.to_owned(), source })?;
    match audit::verify_and_seek(BufReader::new(opened), head.as_ref(), pinned, sought) {
        Ok(report) => {
            let head = head_path.as_deref().zip(head.as_ref());
            tell_report(file, &report, head, pinned.is_some());
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

fn tell_report(file: &Path, report: &Report, head: Option<(&Path, &Head)>, pinned: bool) {
    print_line(&format!("{}: ok: {}, hash {}", file.display(), count(report.records, "record"), report.hash));
    print_line(&match head {
        Some((path, head)) => format!(
            "{} vouches for {} of them; signed by {}{}",
            path.display(),
            report.vouched,
            head.key,
            if pinned { "" } else { " (give --key to insist on a key)" },
        ),
        None => "no head was given: records missing at the end would not be noticed".to_owned(),
    });
    if report.erased > 0 {
        print_line(&format!("{} erased", count(report.erased, "value")));
    }
    if report.erased_unnamed > 0 {
        print_line(&format!(
            "{} of them by no deletion that the chain tells of: by `stepgate audit erase`, or by somebody who hid something",
            report.erased_unnamed
        ));
    }
    if report.unerased > 0 {
        print_line(&format!(
            "{} that the chain says were struck out still there: a crash came between, or this is an older copy",
            count(report.unerased, "value")
        ));
    }
    if report.open_intents > 0 {
        print_line(&format!("{} without an outcome yet", count(report.open_intents, "intent")));
    }
}

fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Of two results the one that is further from good.
fn worse(one: Result<Exit, AuditFault>, other: Result<Exit, AuditFault>) -> Result<Exit, AuditFault> {
    Ok(match (one?, other?) {
        (Exit::Success, other) => other,
        (one, _) => one,
    })
}

fn forget(file: &Path, whose: &Struck) -> Result<Exit, AuditFault> {
    let struck = audit::forget(file, std::slice::from_ref(whose));
    let struck = struck.map_err(|source| AuditFault::Erase { path: file.to_owned(), source })?;
    print_line(&format!("{}: {} struck out", file.display(), count(struck, "value")));
    Ok(if struck > 0 { Exit::Success } else { Exit::Failure })
}

fn erase(file: &Path, name: &str, value: &str) -> Result<Exit, AuditFault> {
    let matches = |found: &str, disclosed: &str| found == name && disclosed == value;
    let erased = audit::erase(file, matches).map_err(|source| AuditFault::Erase { path: file.to_owned(), source })?;
    print_line(&format!("{}: {erased} of {name} struck out", file.display()));
    Ok(if erased > 0 { Exit::Success } else { Exit::Failure })
}

fn read(path: &Path, most: usize) -> Result<String, AuditFault> {
    files::read_text(path, most as u64).map_err(|source| AuditFault::Read { path: path.to_owned(), source })
}

fn read_head(path: &Path) -> Result<Head, AuditFault> {
    let text = fs::read_to_string(path).map_err(|source| AuditFault::Read { path: path.to_owned(), source })?;
    Head::parse(&text).ok_or_else(|| AuditFault::Head(path.to_owned()))
}

fn read_key(key: &str) -> Result<PublicKey, AuditFault> {
    let text = fs::read_to_string(key).unwrap_or_else(|_| key.to_owned());
    PublicKey::parse(&text).ok_or_else(|| AuditFault::Key(key.to_owned()))
}
