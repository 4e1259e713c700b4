//! The command line: which command, with what, and the exit code that it ends with.

mod acme;
mod admin_client;
mod answers;
mod audit;
mod authority;
mod check;
mod demo;
mod erasures;
mod explain;
mod explain_shaping;
mod exposed;
mod hand_over;
mod keys;
mod life;
mod load;
mod named_files;
mod observers;
mod opened;
mod place;
mod rekey;
mod reload;
mod revocations;
mod run;
mod successor;
mod systemd;
mod users;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

/// How the program ends; the numbers are those of sysexits(3) where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Success = 0,
    /// The answer is no: a record that does not verify, a request that would be refused.
    Failure = 1,
    /// The command line cannot be understood.
    Usage = 2,
    /// An address is taken, or another process holds the state directory.
    Unavailable = 69,
    /// A fault of the program itself: a worker has failed, and the rest was drained.
    Software = 70,
    /// A file cannot be read or written.
    Io = 74,
    /// The configuration is refused.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

const EXIT_CODES: &str = "Exit codes:
  0   all is well
  1   the answer is no: records do not verify, the request would be refused
  2   the command line cannot be understood
  69  an address is taken, or another process holds the state directory
  70  a fault of the program: a worker has failed, and the rest was drained
  74  a file cannot be read or written
  78  the configuration is refused";

/// A gateway that puts bearer tokens, step-up authentication and guarded deletions in front of unmodified APIs.
#[derive(Debug, Parser)]
#[command(name = "stepgate", version, after_help = EXIT_CODES, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: ConfigFile,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Takes over from the gateway that runs over the same `state_dir`: its listening sockets, and all that it keeps. It ends once its
    /// connections have; what fails before it has taken over changes nothing
    #[arg(long)]
    hand_over: bool,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration
    #[arg(value_name = "FILE", default_value = "gateway.yaml")]
    file: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway (the default command)
    Run(RunArgs),
    /// Says everything that is wrong with a configuration, and what it leaves unguarded
    Check(ConfigFile),
    /// Says what would become of a request, and which requirement is missing
    Explain(explain::ExplainArgs),
    /// Prints the JSON Schema of the configuration, for editors
    Schema,
    /// Runs a gateway with everything around it, and prints what to try
    Demo(demo::DemoArgs),
    /// Revokes credentials, in the gateway that runs or for the next one
    Revoke(revocations::RevokeArgs),
    /// Invites somebody to enrol a first factor
    Invite(authority::InviteArgs),
    /// Lists, resets and unlocks people's factors
    Factors {
        #[command(subcommand)]
        command: authority::FactorsCommand,
    },
    /// Lists, holds, approves, retries and cancels account deletions, and prints their certificates
    Erasures {
        #[command(subcommand)]
        command: erasures::ErasuresCommand,
    },
    /// Seals what is kept with the current key
    Rekey(rekey::RekeyArgs),
    /// Works with the list of revocations
    Revocations {
        #[command(subcommand)]
        command: revocations::RevocationsCommand,
    },
    /// Makes, lists and revokes API keys
    Keys {
        #[command(subcommand)]
        command: keys::KeysCommand,
    },
    /// Works with the audit trail
    Audit {
        #[command(subcommand)]
        command: audit::AuditCommand,
    },
    /// Works with a file of users and their passwords
    Users {
        #[command(subcommand)]
        command: users::UsersCommand,
    },
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; if standard output is gone there is nobody to tell.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Success.into() };
        }
    };
    let exit = match cli.command.unwrap_or(Command::Run(RunArgs { hand_over: false, config: cli.run })) {
        Command::Run(RunArgs { hand_over, config }) => run::run(&config.file, hand_over),
        Command::Check(ConfigFile { file }) => check::check(&file),
        Command::Explain(args) => explain::explain(&args),
        Command::Schema => schema(),
        Command::Demo(args) => demo::demo(&args),
        Command::Revoke(args) => revocations::revoke(&args),
        Command::Invite(args) => authority::invite(&args),
        Command::Factors { command } => authority::factors(&command),
        Command::Erasures { command } => erasures::erasures(&command),
        Command::Rekey(args) => rekey::rekey(&args),
        Command::Revocations { command } => revocations::revocations(&command),
        Command::Keys { command } => keys::keys(&command),
        Command::Audit { command } => audit::audit(&command),
        Command::Users { command } => users::users(&command),
    };
    exit.into()
}

fn schema() -> Exit {
    print_line(&format!("{:#}", crate::config::schema()));
    Exit::Success
}

/// Prints to standard output; a reader that has gone away is not an error.
fn print_line(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{}", printable(text));
}

/// A text as a terminal may show it: what would steer the terminal, or turn the order of what is read, is written as JSON
/// escapes it, so that JSON stays what it is. Subjects, sessions and reasons are other people's.
fn printable(text: &str) -> std::borrow::Cow<'_, str> {
    let steers = |c: char| {
        let turns =
            matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        turns || (c.is_control() && c != '\n' && c != '\t')
    };
    if !text.contains(steers) {
        return text.into();
    }
    let escaped = |c: char| if steers(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    text.chars().map(escaped).collect::<String>().into()
}

/// Says on standard error why the program ends.
fn complain(error: &dyn std::error::Error) {
    use std::io::Write;
    let mut text = format!("stepgate: {error}");
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    let _ = writeln!(std::io::stderr(), "{}", printable(&text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_printed_steers_a_terminal_and_json_stays_what_it_is() {
        let plain = "a line\n\twith ümläuts, \"quotes\" and \\";
        assert_eq!(printable(plain), plain);
        assert_eq!(printable("\u{1b}[2J\u{9b}31m\r\u{202e}x\u{7f}"), "\\u001b[2J\\u009b31m\\u000d\\u202ex\\u007f");
        let json = serde_json::json!({"reason": "\u{9b}2J\u{2066}\u{7}"});
        let read: Result<serde_json::Value, _> = serde_json::from_str(&printable(&json.to_string()));
        assert_eq!(read.ok(), Some(json));
    }
}
