//! `stepgate users`: the file of users and their passwords. A password is read from the terminal without an echo, or from
//! standard input; never from the command line, which other users of the machine can read.

use std::{
    io::{self, IsTerminal, Read, Write},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use thiserror::Error;

use super::{Exit, authority::accounts, complain, load, print_line};
use crate::{
    config::CredentialKind,
    files::{self, Lock},
    identity::basic::{self, LineFault},
    password::{PASSWORD_BYTES, StoredHash, is_password},
    runtime::DiskMaterials,
    secret::Secret,
};

/// The shortest password that is taken for a user who has nothing else to show (NIST SP 800-63B-4 §3.1.1.2).
const SHORTEST: usize = 15;

/// The longest file that is read, which is the longest that a gateway takes.
const LONGEST_FILE: u64 = 1 << 20;

/// Work on a file of users.
#[derive(Debug, Subcommand)]
pub(crate) enum UsersCommand {
    /// Adds a user, or gives one another password or other scopes
    ///
    /// The password is asked for, or read from standard input, its first line. A gateway that runs reads the file again by
    /// itself; what was locked for that user is not any more.
    Add {
        #[command(flatten)]
        place: Place,
        /// The user's name
        name: String,
        /// A scope that the user has
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
    },
    /// Lists the users with their scopes, and what each hash costs
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Removes a user
    Remove {
        #[command(flatten)]
        place: Place,
        /// The user's name
        name: String,
    },
    /// Makes accounts of the authority's (`mode: accounts`) of a file: `name,email,hash` lines, or JSON objects
    ///
    /// Hashes are argon2id or bcrypt. Every bad line is told, and nothing is imported unless all are good. The same file again
    /// changes nothing. While a gateway runs, a file of up to 1 MiB at a time.
    Import {
        /// The configuration
        #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
        config: PathBuf,
        /// The file of accounts
        #[arg(value_name = "ACCOUNTS")]
        file: PathBuf,
        /// Leaves bad lines out, and imports the others
        #[arg(long)]
        skip_bad: bool,
    },
    /// Invites somebody to register an account of the authority's
    Invite {
        /// The configuration
        #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
        config: PathBuf,
        /// The mail address that the code is sent to: it then needs no confirmation
        #[arg(long, value_name = "ADDRESS")]
        email: Option<String>,
        /// How long it is good for: 12h, 3d. Without it, `authority.invitation_ttl`
        #[arg(long, value_name = "DURATION")]
        ttl: Option<String>,
        /// Who invites, for the record
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// Prints the hash of a password, for files that are made in another way
    Hash,
}

/// Which users.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
    /// The source of users: a name under `credentials`; its file is made if it is not there
    source: String,
}

impl Place {
    fn file(&self) -> Result<PathBuf, UsersFault> {
        let loaded = load::load(&self.config, &DiskMaterials).map_err(|fault| {
            load::print_fault(&fault);
            UsersFault::Config
        })?;
        let pick = |kind: &CredentialKind| kind.basic().map(|users| users.file.path.clone());
        load::source(&loaded.config, &self.source, pick).map_err(|known| UsersFault::Source(self.source.clone(), known))
    }
}

#[derive(Debug, Error)]
enum UsersFault {
    /// What is wrong has been printed.
    #[error("the configuration is refused")]
    Config,
    #[error("no source of users is named `{0}` under `credentials`{1}")]
    Source(String, String),
    #[error("reading {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("writing {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path}: {fault}")]
    Refused { path: PathBuf, fault: String },
    #[error("reading the password")]
    Input(#[source] io::Error),
    #[error("{0}")]
    Usage(String),
    #[error("the system gives no randomness")]
    NoRandomness,
}

impl UsersFault {
    fn exit(&self) -> Exit {
        match self {
            Self::Read { .. } | Self::Write { .. } | Self::Input(_) | Self::NoRandomness => Exit::Io,
            Self::Refused { .. } | Self::Config => Exit::Config,
            Self::Usage(_) | Self::Source(..) => Exit::Usage,
        }
    }
}

/// Runs a command on users.
pub(crate) fn users(command: &UsersCommand) -> Exit {
    let result = match command {
        UsersCommand::Add { place, name, scopes } => {
            place.file().and_then(|file| add(&file, &place.source, name, scopes))
        }
        UsersCommand::List { place } => place.file().and_then(|file| list(&file)),
        UsersCommand::Remove { place, name } => place.file().and_then(|file| remove(&file, &place.source, name)),
        UsersCommand::Import { config, file, skip_bad } => return accounts::import(config, file, *skip_bad),
        UsersCommand::Invite { config, email, ttl, by } => {
            return accounts::invite(config, email.as_deref(), ttl.as_deref(), by.as_deref());
        }
        UsersCommand::Hash => hash().map(|hash| {
            print_line(&hash);
            Exit::Success
        }),
    };
    result.unwrap_or_else(|fault| {
        if !matches!(fault, UsersFault::Config) {
            complain(&fault);
        }
        fault.exit()
    })
}

fn add(path: &Path, source: &str, name: &str, scopes: &[String]) -> Result<Exit, UsersFault> {
    if !basic::is_name(name) {
        let why = "the name is empty, longer than 255 bytes, begins with a blank or `#`, ends with a blank, or has a colon or a control character";
        return Err(UsersFault::Usage(why.to_owned()));
    }
    if let Some(wrong) = scopes.iter().find(|scope| !basic::is_scope(scope)) {
        return Err(UsersFault::Usage(format!("`{wrong}` is not a scope (RFC 6749 §3.3)")));
    }
    // Before the password is asked for: nobody likes to type one in vain.
    count(path, &existing(path)?)?;
    let mut line = format!("{name}:{}", hash()?);
    if !scopes.is_empty() {
        line.push(':');
        line.push_str(&scopes.join(" "));
    }
    let lock = lock(path)?;
    // Again: who changed it while the password was typed has done so for good.
    let text = existing(path)?;
    let before = count(path, &text)?;
    let text = basic::with_line(&text, name, &line);
    let after = count(path, &text)?;
    replace(&lock, path, &text)?;
    print_line(&format!("{source}: {name} {}", if after > before { "added" } else { "changed" }));
    Ok(Exit::Success)
}

fn remove(path: &Path, source: &str, name: &str) -> Result<Exit, UsersFault> {
    let lock = lock(path)?;
    let text = read(path)?;
    count(path, &text)?;
    let Some(text) = basic::without_line(&text, name) else {
        print_line(&format!("{source}: there is no {name}"));
        return Ok(Exit::Failure);
    };
    replace(&lock, path, &text)?;
    print_line(&format!("{source}: {name} removed"));
    Ok(Exit::Success)
}

fn list(path: &Path) -> Result<Exit, UsersFault> {
    let text = read(path)?;
    for user in basic::read(text.as_bytes()).map_err(|faults| refused(path, &faults))? {
        let scopes = if user.scopes.is_empty() { "-".to_owned() } else { user.scopes.join(" ") };
        print_line(&format!("{}\t{}\t{scopes}", user.name, user.hash.cost()));
    }
    Ok(Exit::Success)
}

fn hash() -> Result<String, UsersFault> {
    let password = password()?;
    StoredHash::fresh(password.expose()).ok_or(UsersFault::NoRandomness)
}

/// How many users a file has; a file with a fault is not touched.
fn count(path: &Path, text: &str) -> Result<usize, UsersFault> {
    basic::read(text.as_bytes()).map(|users| users.len()).map_err(|faults| refused(path, &faults))
}

fn refused(path: &Path, faults: &[LineFault]) -> UsersFault {
    let fault = faults.first().map_or_else(String::new, ToString::to_string);
    UsersFault::Refused { path: path.to_owned(), fault }
}

fn read(path: &Path) -> Result<String, UsersFault> {
    files::read_text(path, LONGEST_FILE).map_err(|source| UsersFault::Read { path: path.to_owned(), source })
}

/// A file's text; nothing where there is no file yet.
fn existing(path: &Path) -> Result<String, UsersFault> {
    match files::read_text(path, LONGEST_FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Ok(text) => Ok(text),
        Err(source) => Err(UsersFault::Read { path: path.to_owned(), source }),
    }
}

/// Waits until nobody else changes the file, from reading it to writing it: what the first has done would be lost, a user who
/// was removed would come back.
fn lock(path: &Path) -> Result<Lock, UsersFault> {
    Lock::on(path).map_err(|source| UsersFault::Write { path: path.to_owned(), source })
}

/// Puts another file in the place of this one, whole or not at all; its owner alone may read a new one.
fn replace(lock: &Lock, path: &Path, text: &str) -> Result<(), UsersFault> {
    let written = lock.replace(|file| file.write_all(text.as_bytes()));
    written.map_err(|source| UsersFault::Write { path: path.to_owned(), source })
}

/// A password from the terminal, typed twice, or the first line of standard input.
fn password() -> Result<Secret, UsersFault> {
    let stdin = io::stdin();
    let password = if stdin.is_terminal() {
        let first = prompt("password: ")?;
        if prompt("once more: ")? != first {
            return Err(UsersFault::Usage("the two passwords differ".to_owned()));
        }
        first
    } else {
        let mut bytes = Vec::new();
        // With one byte more than the longest and its line's end.
        let longest = PASSWORD_BYTES as u64 + 3;
        stdin.lock().take(longest).read_to_end(&mut bytes).map_err(UsersFault::Input)?;
        first_line(bytes)
    };
    check(&password)?;
    Ok(password)
}

fn first_line(bytes: Vec<u8>) -> Secret {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let secret = Secret::new(line.strip_suffix(b"\r").unwrap_or(line));
    // The rest is wiped with it.
    drop(Secret::new(bytes));
    secret
}

fn check(password: &Secret) -> Result<(), UsersFault> {
    let usage = |why: String| Err(UsersFault::Usage(why));
    let Ok(text) = std::str::from_utf8(password.expose()) else {
        return usage("the password is not UTF-8".to_owned());
    };
    if text.chars().count() < SHORTEST {
        return usage(format!("the password is shorter than {SHORTEST} characters"));
    }
    if !is_password(text) {
        return usage(format!("the password is longer than {PASSWORD_BYTES} bytes, or has a control character"));
    }
    Ok(())
}

/// Reads a line from the terminal, which does not show it.
fn prompt(text: &str) -> Result<Secret, UsersFault> {
    let stdin = io::stdin();
    // To standard error: standard output may be a file that the hash goes to.
    let mut terminal = io::stderr();
    let _ = write!(terminal, "{text}").and_then(|()| terminal.flush());
    let silent = Silent::new(&stdin).map_err(|error| UsersFault::Input(error.into()))?;
    let mut line = String::new();
    let read = stdin.read_line(&mut line).map_err(UsersFault::Input);
    drop(silent);
    let _ = writeln!(terminal);
    read.map(|_| first_line(line.into_bytes()))
}

/// A terminal without an echo, as long as this lives.
struct Silent<'a> {
    terminal: &'a io::Stdin,
    before: rustix::termios::Termios,
}

impl<'a> Silent<'a> {
    fn new(terminal: &'a io::Stdin) -> rustix::io::Result<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Flush, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        use rustix::termios::{OptionalActions, tcsetattr};
        // There is nothing to be done about a terminal that is gone.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}
