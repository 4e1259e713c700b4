//! Events for the operator, on standard error, written by a thread of its own.
//!
//! An event is appended to a buffer in memory, and whoever tells it goes on: standard error is often a pipe, and one
//! that nobody reads would otherwise hold up a worker, and with it all of its clients, for the sake of a log line.

use std::{
    io::{self, IsTerminal, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use thiserror::Error;
use tracing_subscriber::EnvFilter;

/// The variable that says which events are written: `info`, `stepgate=debug,rustls=warn`.
const FILTER: &str = "STEPGATE_LOG";

/// What is written otherwise. Of the libraries nothing but errors: they warn of each thing that a stranger does wrong, one frame after the
/// other, and whoever writes the log at will fills the disk, or has what matters dropped.
const USUAL: &str = "error,stepgate=info";

/// Bytes of events that wait to be written; above it events are dropped. Some 4,000 of them.
const CAPACITY: usize = 1 << 20;

/// How long the end of the program waits for a reader that may be stalled.
const CLOSE: Duration = Duration::from_secs(2);

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventFormat {
    /// A line for people, in colour on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why events cannot be written.
#[derive(Debug, Error)]
pub enum EventsFault {
    /// The filter cannot be read.
    #[error("reading the filter in STEPGATE_LOG: {0}")]
    Filter(#[from] tracing_subscriber::filter::FromEnvError),
    /// Somebody else writes them already.
    #[error("events are written already")]
    Taken,
    /// There is no thread to write them.
    #[error("starting the events' thread")]
    Thread(#[source] io::Error),
}

/// Starts writing our events of `info` and above and the libraries' errors, or what `STEPGATE_LOG` asks for. What waits is
/// written when the value is dropped.
pub fn init_tracing(format: EventFormat) -> Result<Events, EventsFault> {
    let builder = EnvFilter::builder().with_env_var(FILTER);
    let filter = match std::env::var_os(FILTER).is_some_and(|text| !text.is_empty()) {
        true => builder.from_env()?,
        false => builder.parse_lossy(USUAL),
    };
    let events = Events::start(io::stderr())?;
    let queue = Arc::clone(&events.queue);
    let layer = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || Line(Arc::clone(&queue)));
    match format {
        EventFormat::Text => layer.with_ansi(io::stderr().is_terminal()).try_init(),
        EventFormat::Json => layer.json().flatten_event(true).try_init(),
    }
    .map_err(|_| EventsFault::Taken)?;
    Ok(events)
}

/// Keeps events being written; dropping it waits, not for long, until the last of them is.
#[derive(Debug)]
pub struct Events {
    queue: Arc<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    text: Vec<u8>,
    lost: u64,
    /// What has been taken out is still being written.
    writing: bool,
}

impl Events {
    fn start(sink: impl Write + Send + 'static) -> Result<Self, EventsFault> {
        let queue = Arc::new(Queue::default());
        let theirs = Arc::clone(&queue);
        let thread = thread::Builder::new().name("events".into());
        thread.spawn(move || theirs.write_to(sink)).map_err(EventsFault::Thread)?;
        Ok(Self { queue })
    }

    fn close(&self, patience: Duration) {
        let busy = |waiting: &mut Waiting| waiting.writing || !waiting.text.is_empty();
        // What a stalled reader has not taken by then is lost; the process ends anyway.
        let _ = self.queue.wake.wait_timeout_while(self.queue.waiting(), patience, busy);
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.close(CLOSE);
    }
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an event; never waits for the sink.
    fn push(&self, event: &[u8]) {
        let mut waiting = self.waiting();
        if waiting.text.len() + event.len() > CAPACITY {
            waiting.lost += 1;
            return;
        }
        waiting.text.extend_from_slice(event);
        drop(waiting);
        self.wake.notify_all();
    }

    /// Writes what comes, for as long as the process lives.
    fn write_to(&self, mut sink: impl Write) {
        let mut text = Vec::new();
        loop {
            let idle = |waiting: &mut Waiting| waiting.text.is_empty();
            let mut waiting = self.wake.wait_while(self.waiting(), idle).unwrap_or_else(PoisonError::into_inner);
            mem::swap(&mut text, &mut waiting.text);
            let lost = mem::take(&mut waiting.lost);
            waiting.writing = true;
            drop(waiting);
            // If standard error is gone, nobody is left to tell.
            let _ = sink.write_all(&text);
            if lost > 0 {
                let _ =
                    writeln!(sink, r#"{{"level":"WARN","message":"events lost: nobody took them","events":{lost}}}"#);
            }
            let _ = sink.flush();
            text.clear();
            // A burst does not keep its memory for good.
            text.shrink_to(CAPACITY / 8);
            self.waiting().writing = false;
            self.wake.notify_all();
        }
    }
}

/// What an event is written to: the whole of it arrives at once.
struct Line(Arc<Queue>);

impl Write for Line {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.push(event);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes nothing until it is let, and then says what it was given.
    struct Stalled(mpsc::Receiver<()>, mpsc::Sender<Vec<u8>>);

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Ends when the test drops its end.
            let _ = self.0.recv();
            self.1.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_takes_nothing_holds_nobody_up_and_what_is_lost_is_said() {
        let ((release, stalled), (sender, written)) = (mpsc::channel(), mpsc::channel());
        let events = Events::start(Stalled(stalled, sender)).unwrap();
        let event = [b'x'; 1024];
        for _ in 0..4096 {
            Line(Arc::clone(&events.queue)).write_all(&event).unwrap();
        }
        assert!(events.queue.waiting().text.len() <= CAPACITY);
        // Ends although nothing is taken.
        events.close(Duration::from_millis(10));
        drop(release);
        drop(events);
        let text: Vec<u8> = written.try_iter().flatten().collect();
        assert!(String::from_utf8(text).unwrap().contains("events lost"));
    }

    #[test]
    fn every_event_is_written_before_the_end() {
        let ((_, open), (sender, written)) = (mpsc::channel(), mpsc::channel());
        let events = Events::start(Stalled(open, sender)).unwrap();
        (0..100).for_each(|n| writeln!(Line(Arc::clone(&events.queue)), "{n}").unwrap());
        drop(events);
        let text: Vec<u8> = written.try_iter().flatten().collect();
        assert_eq!(String::from_utf8(text).unwrap().lines().count(), 100);
    }
}
