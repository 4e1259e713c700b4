//! A program that prints a key, as a key management service's client does: run once, without a shell, with nothing to read and
//! not for long. What it prints is a secret; what it complains of is the operator's.

use std::{
    io::{self, Read},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;

use super::plain::wipe;
use crate::secret::Secret;

/// How long a command may take: a service asked over the network answers in less, and nothing starts before.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The longest output: a key takes 65 bytes.
const OUTPUT: u64 = 4096;
/// How much of its complaints is shown.
const COMPLAINTS: u64 = 2048;

/// Why a command gave no key.
#[derive(Debug, Error)]
pub(super) enum CommandFault {
    #[error("the command is empty")]
    Empty,
    #[error("running {program}: {why}")]
    Start { program: String, why: io::Error },
    #[error("{program} took longer than {} s{complaints}", patience.as_secs())]
    Slow { program: String, patience: Duration, complaints: String },
    #[error("{program} failed ({status}){complaints}")]
    Failed { program: String, status: ExitStatus, complaints: String },
    #[error("{program} printed more than a key")]
    TooLong { program: String },
}

/// Runs a program and takes what it prints.
pub(super) fn output(argv: &[String], patience: Duration) -> Result<Secret, CommandFault> {
    let (program, arguments) = argv.split_first().ok_or(CommandFault::Empty)?;
    let program = program.clone();
    let started = Instant::now();
    let mut child = Command::new(&program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that whatever it starts ends with it.
        .process_group(0)
        .spawn()
        .map_err(|why| CommandFault::Start { program: program.clone(), why })?;
    let printed = drain(child.stdout.take(), OUTPUT);
    let complained = drain(child.stderr.take(), COMPLAINTS);
    let left = || patience.saturating_sub(started.elapsed());

    let text = printed.recv_timeout(left());
    let status = wait(&mut child, left());
    // Also when all went well: what it left behind must not hold a key for longer than it takes.
    end(&mut child);
    let mut complaints = complained.recv_timeout(Duration::from_millis(200)).unwrap_or_default();
    let complaints = shown(&mut complaints);
    let (Ok(text), Some(status)) = (text, status) else {
        return Err(CommandFault::Slow { program, patience, complaints });
    };
    let text = Secret::new(text);
    if !status.success() {
        return Err(CommandFault::Failed { program, status, complaints });
    }
    if text.expose().len() as u64 > OUTPUT {
        return Err(CommandFault::TooLong { program });
    }
    Ok(text)
}

/// Reads in a thread of its own, for either pipe may fill first. It reads to the end, so that the program never waits for
/// us, and keeps one byte more than may be, so that too much is seen.
fn drain(pipe: Option<impl Read + Send + 'static>, most: u64) -> mpsc::Receiver<Vec<u8>> {
    let (give, given) = mpsc::channel();
    thread::spawn(move || {
        // Room for all of it from the start: a buffer that grows leaves copies of a key behind.
        let mut bytes = Vec::with_capacity(usize::try_from(most).unwrap_or(0).saturating_add(64));
        if let Some(mut pipe) = pipe {
            let _ = pipe.by_ref().take(most.saturating_add(1)).read_to_end(&mut bytes);
            let _ = io::copy(&mut pipe, &mut io::sink());
        }
        if let Err(mpsc::SendError(mut unwanted)) = give.send(bytes) {
            wipe(&mut unwanted);
        }
    });
    given
}

/// Waits for the end of a program whose output has ended.
fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if started.elapsed() < patience => thread::park_timeout(Duration::from_millis(5)),
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Ends a program and all that it started.
fn end(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

/// Complaints as a problem can hold them.
fn shown(complaints: &mut Vec<u8>) -> String {
    complaints.truncate(usize::try_from(COMPLAINTS).unwrap_or(0));
    let text = String::from_utf8_lossy(complaints);
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let text =
        text.trim().lines().map(|line| line.chars().map(plain).collect::<String>()).collect::<Vec<_>>().join("; ");
    if text.is_empty() { text } else { format!(": {text}") }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    fn shell(script: &str, patience_ms: u64) -> Result<Secret, CommandFault> {
        output(&["sh", "-c", script].map(str::to_owned), Duration::from_millis(patience_ms))
    }

    #[test]
    fn what_a_command_prints_is_taken_and_its_arguments_meet_no_shell() {
        assert_eq!(shell("printf abc; echo noise >&2", 9000).unwrap().expose(), b"abc");
        let argv = ["echo", "$HOME `id` ; exit"].map(str::to_owned);
        assert_eq!(output(&argv, PATIENCE).unwrap().expose(), b"$HOME `id` ; exit\n");
    }

    #[test]
    fn a_command_that_fails_tells_the_operator_and_never_the_key() {
        let fault =
            shell("echo KEY; printf 'no \\033[1m token\\nin vault\\n' >&2; exit 2", 9000).unwrap_err().to_string();
        assert_eq!(fault, "sh failed (exit status: 2): no  [1m token; in vault");
        assert!(matches!(output(&[], PATIENCE), Err(CommandFault::Empty)));
        let absent = output(&["/no/such/program".to_owned()], PATIENCE).unwrap_err();
        assert!(absent.to_string().starts_with("running /no/such/program: "), "{absent}");
    }

    #[test]
    fn a_command_has_a_bound_in_time_and_length_whatever_it_starts() {
        let started = Instant::now();
        let slow = shell("echo asking >&2; sleep 30 & sleep 30", 200).unwrap_err();
        assert_eq!(slow.to_string(), "sh took longer than 0 s: asking");
        // Its own output has ended, but a child of its still holds the pipe.
        assert!(matches!(shell("echo key; sleep 30 &", 200), Err(CommandFault::Slow { .. })));
        assert!(matches!(shell("exec >&-; sleep 30", 200), Err(CommandFault::Slow { .. })));
        assert!(started.elapsed() < Duration::from_secs(20));
        let long = shell("head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2", 9000);
        assert!(matches!(long, Err(CommandFault::TooLong { .. })));
    }
}
