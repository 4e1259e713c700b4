//! The gateway under test: the real binary as a child process. When it ends, everything that it said is searched for the
//! secrets that the test minted and for panics.

use std::{
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::{Answer, Process, Wire, eventually, get, run, secrets};

/// A running gateway.
pub struct Gateway {
    process: Process,
    /// The plain listener's port; 0 where a test configures none.
    pub port: u16,
    /// The TLS listener's port.
    pub tls: u16,
    /// The admin listener's port.
    pub admin: u16,
    folder: PathBuf,
}

impl Gateway {
    /// Starts `stepgate run gateway.yaml` in a folder and waits until it takes connections.
    pub fn start(folder: &Path, port: u16, tls: u16, admin: u16) -> Self {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_stepgate")), folder, port, tls, admin)
    }

    /// The same from a shell that has run `preamble` first, to take something from it that it needs.
    pub fn start_in(folder: &Path, port: u16, tls: u16, admin: u16, preamble: &str) -> Self {
        let mut command = Command::new("bash");
        command.args(["-c", &format!("{preamble}; exec \"$@\""), "bash", env!("CARGO_BIN_EXE_stepgate")]);
        Self::spawn(command, folder, port, tls, admin)
    }

    /// The same by a command that ends in the gateway's own.
    pub fn start_by(mut command: Command, folder: &Path, port: u16, tls: u16, admin: u16) -> Self {
        command.arg(env!("CARGO_BIN_EXE_stepgate"));
        Self::spawn(command, folder, port, tls, admin)
    }

    /// Starts another process that takes over from this one, and waits until it serves.
    pub fn succeed(&self) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stepgate"));
        command.args(["run", "--hand-over", "gateway.yaml"]).current_dir(&self.folder);
        let folder = self.folder.clone();
        let mut next =
            Self { process: Process::spawn(&mut command), port: self.port, tls: self.tls, admin: self.admin, folder };
        eventually("the next process to serve", || {
            if let Some(code) = next.process.exit_code() {
                panic!("it ended with {code}: {}", next.stderr());
            }
            next.stderr().contains("stepgate is ready").then_some(())
        });
        next
    }

    fn spawn(mut command: Command, folder: &Path, port: u16, tls: u16, admin: u16) -> Self {
        command.args(["run", "gateway.yaml"]).current_dir(folder);
        let mut gateway = Self { process: Process::spawn(&mut command), port, tls, admin, folder: folder.to_owned() };
        gateway.wait_until_alive();
        gateway
    }

    fn wait_until_alive(&mut self) {
        let admin = self.admin;
        eventually("the gateway to live", || {
            if let Some(code) = self.process.exit_code() {
                panic!("the gateway ended with {code}: {}", self.stderr());
            }
            TcpStream::connect(("127.0.0.1", admin)).ok()?;
            let answer = get("/livez").bytes();
            Wire::connect(admin).send(answer).try_answer(false).ok().filter(|answer| answer.status == 200)
        });
    }

    /// Gives it all of a disk that was small; `false` where that cannot be: Linux lets another process give back what was taken from
    /// one.
    pub fn give_back_the_disk(&self) -> bool {
        if !Path::new("/proc/self/limits").exists() {
            return false;
        }
        let given = run(Command::new("prlimit").args(["--pid", &self.pid().to_string(), "--fsize=unlimited"]), "");
        assert_eq!(given.code, 0, "{given:?}");
        true
    }

    /// Waits until it says that it is ready.
    pub fn ready(self) -> Self {
        eventually("the gateway to be ready", || (self.readiness().status == 200).then_some(()));
        self
    }

    /// What /readyz says.
    pub fn readiness(&self) -> Answer {
        get("/readyz").send_to(self.admin)
    }

    /// What /metrics says.
    pub fn metrics(&self) -> String {
        get("/metrics").send_to(self.admin).expect(200).text()
    }

    /// The sum of a metric over all series whose labels hold each of `labels` (`reason="allowed"`).
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let metrics = self.metrics();
        let series = metrics.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        let series = series.filter(|line| labels.iter().all(|label| line.contains(label)));
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// A connection to the plain listener.
    pub fn connect(&self) -> Wire {
        Wire::connect(self.port)
    }

    /// Everything on standard error so far: events for the operator.
    pub fn stderr(&self) -> String {
        self.process.stderr.lock().unwrap().clone()
    }

    /// Everything on standard output so far: the access log.
    pub fn stdout(&self) -> String {
        self.process.stdout.lock().unwrap().clone()
    }

    /// Waits for a record of the access log.
    pub fn access(&self, what: impl Fn(&Value) -> bool) -> Value {
        eventually("an access record", || self.access_now().into_iter().find(&what))
    }

    /// Every record of the access log so far.
    pub fn access_now(&self) -> Vec<Value> {
        self.stdout().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Every record of the audit file so far.
    pub fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.audit_file()).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    /// The audit file.
    pub fn audit_file(&self) -> PathBuf {
        self.folder.join("state/audit.jsonl")
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends a signal by name.
    pub fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    /// Waits until it ends by itself and gives its exit code.
    pub fn wait(&mut self) -> i32 {
        self.process.wait()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.process.exit_code().is_none()
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.process.kill();
        if std::thread::panicking() {
            eprintln!("-- the gateway's events\n{}-- its access log\n{}", self.stderr(), self.stdout());
            return;
        }
        let audit = std::fs::read_to_string(self.audit_file()).unwrap_or_default();
        for (name, text) in [("events", self.stderr()), ("access log", self.stdout()), ("audit", audit)] {
            assert!(!text.contains("panicked at"), "the gateway panicked: {text}");
            if let Some(secret) = secrets::leaked(&text) {
                panic!("the {name} holds a secret, {secret}: {text}");
            }
        }
    }
}
