//! Child processes that end with their owner, and whose output can be waited for.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use super::eventually;

/// A child process; dropping it kills it.
pub struct Process {
    name: String,
    child: Child,
    pub stdout: Arc<Mutex<String>>,
    pub stderr: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts a command with its output captured.
    pub fn spawn(command: &mut Command) -> Self {
        Self::spawn_with(command, Stdio::null())
    }

    /// The same with a standard input that stays open for as long as its owner lives.
    pub fn spawn_listening(command: &mut Command) -> Self {
        Self::spawn_with(command, Stdio::piped())
    }

    fn spawn_with(command: &mut Command, stdin: Stdio) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("starting {name}: {error} (`./test setup` installs it)"));
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let readers =
            vec![collect(child.stdout.take().unwrap(), &stdout), collect(child.stderr.take().unwrap(), &stderr)];
        Self { name, child, stdout, stderr, readers }
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, to this process alone.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(format!("-{signal}")).arg(self.pid().to_string()).status().unwrap();
        assert!(status.success(), "kill -{signal} of {}", self.name);
    }

    /// Its exit code if it has ended; 128 and the signal for one that was killed.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().map(code)
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> i32 {
        eventually(&format!("{} to end", self.name), || self.exit_code())
    }

    /// Kills it and collects the rest of its output.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }

    /// Waits for a line of its standard output.
    pub fn wait_for_line(&mut self, start: &str) -> String {
        eventually(&format!("{} to print {start:?}", self.name), || {
            let found = self.stdout.lock().unwrap().lines().find(|line| line.starts_with(start)).map(str::to_owned);
            if found.is_none() {
                let ended = self.exit_code();
                assert!(ended.is_none(), "{} ended: {ended:?} {}", self.name, self.stderr.lock().unwrap());
            }
            found
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn collect(pipe: impl Read + Send + 'static, into: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            into.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

fn code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap()
}

/// What became of a command that ended.
#[derive(Debug)]
pub struct Finished {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end, with `input` on its standard input.
pub fn run(command: &mut Command, input: &str) -> Finished {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().unwrap_or_else(|error| panic!("starting {name}: {error} (`./test setup` installs it)"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Finished {
        code: code(output.status),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs `stepgate` with arguments, in a folder, to its end.
pub fn stepgate(folder: &Path, arguments: &[&str]) -> Finished {
    run(Command::new(env!("CARGO_BIN_EXE_stepgate")).args(arguments).current_dir(folder), "")
}
