//! The access log: one JSON object a line for each request, written by a thread of its own.
//!
//! A request appends its line to a buffer in memory and goes on. A full disk, a stalled pipe or a dead reader never
//! holds up traffic: when the buffer is full, lines are dropped and counted. Never written: queries, headers, bodies,
//! tokens.

use std::{
    cell::RefCell,
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::{self, Write},
    mem,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use prometheus::IntCounter;
use thiserror::Error;

use super::{
    json::Object,
    time::{self, push_thousandths},
};
use crate::policy::Reason;

/// What a request left behind. The path is without its query, which may hold secrets.
#[derive(Debug, Clone, Copy)]
pub struct AccessRecord<'a> {
    /// When the request came, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// `X-Request-Id`.
    pub request_id: &'a str,
    /// The trace that the request belongs to (W3C Trace Context).
    pub trace_id: Option<&'a str>,
    /// The client's address.
    pub client: IpAddr,
    /// The listener's address.
    pub listener: &'a str,
    /// `HTTP/1.1`, `HTTP/2.0` …
    pub protocol: &'a str,
    /// The version of TLS.
    pub tls: Option<&'a str>,
    /// The method.
    pub method: &'a str,
    /// The route's name.
    pub route: Option<&'a str>,
    /// The path, in normal form where there is one.
    pub path: &'a str,
    /// The status of the answer; 0 if the client was gone before there was one.
    pub status: u16,
    /// Why it ended so.
    pub reason: Reason,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// From the request's head to the end of the answer.
    pub took: Duration,
    /// The upstream.
    pub upstream: Option<&'a str>,
    /// From sending the request upstream to the head of the answer.
    pub upstream_took: Option<Duration>,
    /// The name of the issuer that vouches for the caller.
    pub issuer: Option<&'a str>,
    /// The caller.
    pub subject: Option<&'a str>,
    /// By which way a second factor came that the request needed: `elevation`, `code`, `grant` or `bound_grant`.
    pub step_up: Option<&'a str>,
    /// How an upgraded stream ended.
    pub stream_end: Option<&'a str>,
}

impl AccessRecord<'_> {
    /// Appends the record and a newline.
    fn push_line(&self, text: &mut String) {
        let mut line = Object::open(text);
        let time = line.member("time");
        time.push('"');
        time::push_rfc3339(time, self.unix_ms);
        time.push('"');
        line.string("message", "request");
        line.string("request.id", self.request_id);
        line.maybe("trace.id", self.trace_id);
        push_address(line.member("client.address"), self.client);
        line.string("listener", self.listener);
        line.string("protocol", self.protocol);
        line.maybe("tls.version", self.tls);
        line.string("method", self.method);
        line.maybe("route", self.route);
        line.string("path", self.path);
        line.number("status", u64::from(self.status));
        line.string("reason", self.reason.name());
        line.number("bytes.in", self.bytes_in);
        line.number("bytes.out", self.bytes_out);
        push_ms(line.member("duration_ms"), self.took);
        line.maybe("upstream", self.upstream);
        if let Some(took) = self.upstream_took {
            push_ms(line.member("upstream.duration_ms"), took);
        }
        line.maybe("principal.issuer", self.issuer);
        line.maybe("principal.subject", self.subject);
        line.maybe("step_up", self.step_up);
        line.maybe("stream.end", self.stream_end);
        line.close();
        text.push('\n');
    }
}

/// Milliseconds with three decimals, without the detour over a floating point number.
fn push_ms(text: &mut String, took: Duration) {
    // As a number of 64 bits it lasts for half a million years.
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    text.push_str(itoa::Buffer::new().format(micros / 1000));
    text.push('.');
    push_thousandths(text, micros % 1000);
}

/// An address in quotes.
fn push_address(text: &mut String, address: IpAddr) {
    text.push('"');
    match address {
        IpAddr::V4(address) => {
            for (at, octet) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    text.push('.');
                }
                text.push_str(itoa::Buffer::new().format(octet));
            }
        }
        IpAddr::V6(address) => {
            // Writing to a string cannot fail.
            let _ = write!(text, "{address}");
        }
    }
    text.push('"');
}

/// Where the lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessSink {
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
    /// Nowhere.
    Off,
}

/// Why the access log cannot be written.
#[derive(Debug, Error)]
pub enum AccessFault {
    /// The file cannot be opened.
    #[error("opening the access log {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no thread to write it.
    #[error("starting the access log's thread")]
    Thread(#[source] io::Error),
}

/// Bytes of lines that wait to be written; above it lines are dropped. Some 25,000 requests.
const CAPACITY: usize = 8 << 20;
/// How long the writer gathers lines once there is one: it is woken a hundred times a second at most.
const GATHER: Duration = Duration::from_millis(10);
/// How long a close waits for a sink that may be stalled.
const CLOSE: Duration = Duration::from_secs(5);

/// The access log.
#[derive(Debug)]
pub struct AccessLog {
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    dropped: IntCounter,
}

#[derive(Debug, Default)]
struct Queue {
    lines: String,
    count: u64,
    reopen: bool,
    closing: bool,
    done: bool,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccessLog {
    /// Opens the log and starts its thread. `dropped` counts the lines that are lost.
    pub fn start(sink: &AccessSink, dropped: IntCounter) -> Result<Self, AccessFault> {
        match sink {
            AccessSink::Off => Ok(Self { shared: None }),
            AccessSink::Stdout => Self::spawn(Box::new(Stdout), dropped),
            AccessSink::File(path) => Self::spawn(Box::new(LogFile::open(path.clone())?), dropped),
        }
    }

    fn spawn(sink: Box<dyn Sink>, dropped: IntCounter) -> Result<Self, AccessFault> {
        let shared = Arc::new(Shared { queue: Mutex::default(), wake: Condvar::new(), dropped });
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_lines(&theirs, sink))
            .map_err(AccessFault::Thread)?;
        Ok(Self { shared: Some(shared) })
    }

    /// Whether what is recorded is written anywhere.
    pub fn is_kept(&self) -> bool {
        self.shared.is_some()
    }

    /// Records a request. Never waits for the sink.
    pub fn record(&self, record: &AccessRecord<'_>) {
        thread_local!(static LINE: RefCell<String> = const { RefCell::new(String::new()) });
        let Some(shared) = &self.shared else { return };
        LINE.with_borrow_mut(|line| {
            line.clear();
            record.push_line(line);
            let mut queue = shared.queue();
            if queue.lines.len() + line.len() > CAPACITY {
                drop(queue);
                shared.dropped.inc();
                return;
            }
            let first = queue.lines.is_empty();
            queue.lines.push_str(line);
            queue.count += 1;
            drop(queue);
            if first {
                shared.wake.notify_all();
            }
        });
    }

    /// Opens the file again, after it was moved away. A file that cannot be opened leaves the old one in use.
    pub fn reopen(&self) {
        if let Some(shared) = &self.shared {
            shared.queue().reopen = true;
            shared.wake.notify_all();
        }
    }

    /// Writes what waits and stops; gives up after five seconds if the sink is stalled.
    pub fn close(&self) {
        let Some(shared) = &self.shared else { return };
        let mut queue = shared.queue();
        queue.closing = true;
        shared.wake.notify_all();
        // What a stalled sink still holds is lost; the process ends anyway.
        let _ = shared.wake.wait_timeout_while(queue, CLOSE, |queue| !queue.done);
    }
}

impl Drop for AccessLog {
    /// Has the rest written, and does not wait for it: after a reload it is a worker, in the middle of its requests, that
    /// lets go of the last one.
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.queue().closing = true;
            shared.wake.notify_all();
        }
    }
}

/// The writer's thread: gathers lines for a moment, writes them in one go, and never holds the lock meanwhile.
fn write_lines(shared: &Shared, mut sink: Box<dyn Sink>) {
    let mut lines = String::new();
    loop {
        let idle = |queue: &mut Queue| queue.lines.is_empty() && !queue.reopen && !queue.closing;
        let queue = shared.wake.wait_while(shared.queue(), idle).unwrap_or_else(PoisonError::into_inner);
        let gathering = |queue: &mut Queue| !queue.closing && !queue.reopen && queue.lines.len() < CAPACITY / 2;
        let (mut queue, _) =
            shared.wake.wait_timeout_while(queue, GATHER, gathering).unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut lines, &mut queue.lines);
        let count = mem::take(&mut queue.count);
        let reopen = mem::take(&mut queue.reopen);
        let closing = queue.closing;
        drop(queue);
        if !lines.is_empty()
            && let Err(fault) = sink.write(lines.as_bytes())
        {
            shared.dropped.inc_by(count);
            tracing::error!(error = %fault, lines = count, "the access log cannot be written: lines dropped");
        }
        lines.clear();
        // A burst does not keep its memory for good.
        lines.shrink_to(CAPACITY / 8);
        // What was queued before the file was moved belongs into the old one.
        if reopen && let Err(fault) = sink.reopen() {
            tracing::error!(error = %fault, "the access log cannot be opened again: the old file stays in use");
        }
        if closing {
            shared.queue().done = true;
            shared.wake.notify_all();
            return;
        }
    }
}

/// What lines are written to.
trait Sink: Send {
    fn write(&mut self, lines: &[u8]) -> io::Result<()>;

    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Stdout;

impl Sink for Stdout {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(lines)?;
        stdout.flush()
    }
}

struct LogFile {
    path: PathBuf,
    file: File,
    /// The last write stopped inside a line: the next one starts on a fresh line.
    torn: bool,
}

impl LogFile {
    fn open(path: PathBuf) -> Result<Self, AccessFault> {
        match append(&path) {
            Ok(file) => Ok(Self { path, file, torn: false }),
            Err(source) => Err(AccessFault::Open { path, source }),
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    // Lines name subjects and addresses: they are not for everybody on the machine.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    options.open(path)
}

impl Sink for LogFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
        }
        self.torn = true;
        self.file.write_all(lines)?;
        self.torn = false;
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.file = append(&self.path)?;
        self.torn = false;
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{fs, sync::mpsc};

    use serde_json::{Value, json};

    use super::*;

    fn record(request_id: &str) -> AccessRecord<'_> {
        AccessRecord {
            unix_ms: 1_795_315_217_120,
            request_id,
            trace_id: None,
            client: "2001:db8::1".parse().unwrap(),
            listener: "127.0.0.1:8443",
            protocol: "HTTP/2.0",
            tls: Some("1.3"),
            method: "GET",
            route: Some("/api/**"),
            path: "/api/\"x\"\u{7}",
            status: 401,
            reason: Reason::TokenExpired,
            bytes_in: 0,
            bytes_out: 312,
            took: Duration::from_micros(1_050),
            upstream: None,
            upstream_took: Some(Duration::from_millis(12)),
            issuer: Some("main"),
            subject: Some("ann"),
            step_up: Some("elevation"),
            stream_end: None,
        }
    }

    fn dropped() -> IntCounter {
        IntCounter::new("dropped", "dropped").unwrap()
    }

    #[test]
    fn a_record_is_one_line_of_json() {
        let mut text = String::new();
        record("r1").push_line(&mut text);
        assert_eq!(text.matches('\n').count(), 1);
        let expected = json!({
            "time": "2026-11-22T02:40:17.120Z", "message": "request", "request.id": "r1",
            "client.address": "2001:db8::1", "listener": "127.0.0.1:8443", "protocol": "HTTP/2.0", "tls.version": "1.3",
            "method": "GET", "route": "/api/**", "path": "/api/\"x\"\u{7}", "status": 401, "reason": "token_expired",
            "bytes.in": 0, "bytes.out": 312, "duration_ms": 1.05, "upstream.duration_ms": 12.0,
            "principal.issuer": "main", "principal.subject": "ann", "step_up": "elevation",
        });
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
    }

    #[test]
    fn every_line_reaches_the_file_before_a_close_returns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.jsonl");
        let log = AccessLog::start(&AccessSink::File(path.clone()), dropped()).unwrap();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..250).for_each(|n| log.record(&record(&n.to_string()))));
            }
        });
        log.close();
        let written = fs::read_to_string(&path).unwrap();
        assert_eq!(written.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count(), 1000);
    }

    #[test]
    fn after_a_reopen_lines_go_to_the_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("access.jsonl"), folder.path().join("access.jsonl.1"));
        let mut file = LogFile::open(path.clone()).unwrap();
        file.write(b"one\n").unwrap();
        fs::rename(&path, &moved).unwrap();
        file.write(b"two\n").unwrap();
        file.reopen().unwrap();
        file.write(b"three\n").unwrap();
        assert_eq!(fs::read_to_string(&moved).unwrap(), "one\ntwo\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
    }

    struct Stalled(mpsc::Receiver<()>);

    impl Sink for Stalled {
        fn write(&mut self, _: &[u8]) -> io::Result<()> {
            // Ends when the test drops its end.
            let _ = self.0.recv();
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    #[test]
    fn a_stalled_sink_holds_nobody_up_and_what_is_lost_is_counted() {
        let (release, stalled) = mpsc::channel();
        let counter = dropped();
        let log = AccessLog::spawn(Box::new(Stalled(stalled)), counter.clone()).unwrap();
        for _ in 0..80_000 {
            log.record(&record("r"));
        }
        assert!(counter.get() > 10_000);
        drop(release);
        log.close();
        assert_eq!(counter.get(), 80_000);
    }

    #[test]
    fn a_log_that_is_off_writes_nothing() {
        let counter = dropped();
        AccessLog::start(&AccessSink::Off, counter.clone()).unwrap().record(&record("r"));
        assert_eq!(counter.get(), 0);
    }
}
