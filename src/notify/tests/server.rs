//! aiosmtpd from PyPI as a child process, and the other tools that `./test setup` installs beside it.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::Value;

use super::{Certificates, eventually};

/// A command that runs one of the tools.
pub(super) fn mail_tool(script: &str) -> Command {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/mail");
    let python = folder.join(".venv/bin/python");
    assert!(python.exists(), "aiosmtpd is not installed: run `./test setup`");
    let mut command = Command::new(python);
    command.arg(folder.join(script));
    command
}

/// The mail server.
pub(super) struct MailServer {
    child: Child,
    _stdin: ChildStdin,
    pub(super) port: u16,
    received: Arc<Mutex<Vec<Value>>>,
}

impl MailServer {
    /// Starts it; see `tests/mail/server.py` for what modes there are.
    pub(super) fn start(mode: &str, certificates: &Certificates) -> Self {
        let mut command = mail_tool("server.py");
        command.arg(mode).arg(certificates.path("server.pem")).arg(certificates.path("server.key"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.next().unwrap().unwrap();
        let port = ready.strip_prefix("ready ").unwrap().parse().unwrap();
        let received: Arc<Mutex<Vec<Value>>> = Arc::default();
        let into = Arc::clone(&received);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                into.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, _stdin: stdin, port, received }
    }

    /// What it has taken so far.
    pub(super) fn received(&self) -> Vec<Value> {
        self.received.lock().unwrap().clone()
    }

    /// The same, once it is so much.
    pub(super) async fn takes(&self, count: usize) -> Vec<Value> {
        eventually("mail", || Some(self.received()).filter(|received| received.len() >= count)).await
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
