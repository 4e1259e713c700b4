//! What one client connection is waiting for, and since when: the state behind every time limit on a client.
//!
//! The parts of a connection write counters and flags here as they work, and read no clock. Its worker sweeps over all
//! connections a few times a second, compares what it finds with what it found before, and passes a verdict when a
//! bound is exceeded. So a request costs no timer, an idle connection costs a few loads a second, and the rules can be
//! tested with a clock that is an argument. A bound may be overrun by one sweep; it is never cut short.
//!
//! ```text
//!   Handshake ──> Opening ──> Head ──> Busy ──> Idle ──> Closing
//!                    └────────────────> ↑ └─> Discarding ─┘   └─> (Lingering, when our side has closed)
//!                                       └──────────┘
//! ```
//! In `Busy` it may be the client's turn or the upstream's. Only the client's is timed, per body, by [`Wait`].

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::Waker,
    time::{Duration, Instant},
};

use super::{
    Received,
    bounds::{Bounds, Protocol, Verdict},
    pace::Pace,
    switch::Switch,
    wait::{StreamCut, Wait, register},
};

/// How long a client that has closed its sending side is still taken for one that waits for its answer. A client that
/// is gone looks the same until something is written to it, and its request upstream has to be dropped.
const HALF_CLOSE_GRACE: Duration = Duration::from_secs(1);

/// How long a connection is idle before it gives back its protocol's buffers. Longer than the gaps of a busy client,
/// much shorter than `keepalive_idle`.
const REST_AFTER: Duration = Duration::from_secs(1);

/// How long a connection that was told to end may go on without a request: a GOAWAY is final once the client has
/// answered a PING (RFC 9113 §6.8), which takes it a round trip.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// How long the bytes of a client are read off after our side has closed, so that it gets to see the last answer
/// instead of a reset (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Handshake,
    Opening,
    Head,
    Busy,
    Idle,
    Discarding,
    Closing,
    Lingering,
}

/// The part of a connection's life that only its owner knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Handshake,
    Serving,
    Closing,
    Lingering,
}

/// What the last sweep found.
#[derive(Debug, Clone, Copy)]
struct Seen {
    phase: Phase,
    epoch: u64,
    since: Instant,
    at: Instant,
    block_open: Option<(u64, Instant)>,
    half_closed: Option<(u64, Instant)>,
}

/// What one client connection is waiting for. Lives on its worker's thread, shared by `Rc`.
#[derive(Debug)]
pub struct ConnectionWatch {
    bounds: Rc<Bounds>,
    protocol: Cell<Protocol>,
    stage: Cell<Stage>,
    in_flight: Cell<u32>,
    answering: Cell<u32>,
    exchanges: Cell<u64>,
    head_started: Cell<bool>,
    header_block: Cell<Option<u64>>,
    read_bytes: Cell<u64>,
    written_bytes: Cell<u64>,
    write_blocked: Cell<bool>,
    half_closed: Cell<bool>,
    eof_due: Cell<bool>,
    control_frames: Cell<u32>,
    waits: RefCell<Vec<Rc<Wait>>>,
    request_bodies: Cell<u32>,
    leftover: RefCell<Option<Received>>,
    discarded: Cell<u64>,
    input_abandoned: Cell<bool>,
    may_rest: Cell<bool>,
    rested: Cell<bool>,
    last: Cell<bool>,
    switched: RefCell<Option<(Switch, Exchange)>>,
    offered_switch: Cell<bool>,
    verdict: Cell<Option<Verdict>>,
    waker: RefCell<Option<Waker>>,
    write_pace: Cell<Pace>,
    stalled: Cell<Option<(u64, Instant)>>,
    seen: Cell<Seen>,
}

impl ConnectionWatch {
    /// Starts watching a connection that was accepted at `now`.
    pub fn new(bounds: Rc<Bounds>, now: Instant) -> Rc<Self> {
        Rc::new(Self {
            bounds,
            protocol: Cell::new(Protocol::Http1),
            stage: Cell::new(Stage::Handshake),
            in_flight: Cell::new(0),
            answering: Cell::new(0),
            exchanges: Cell::new(0),
            head_started: Cell::new(false),
            header_block: Cell::new(None),
            read_bytes: Cell::new(0),
            written_bytes: Cell::new(0),
            write_blocked: Cell::new(false),
            half_closed: Cell::new(false),
            eof_due: Cell::new(false),
            control_frames: Cell::new(0),
            waits: RefCell::default(),
            request_bodies: Cell::new(0),
            leftover: RefCell::default(),
            discarded: Cell::new(0),
            input_abandoned: Cell::new(false),
            may_rest: Cell::new(false),
            rested: Cell::new(false),
            last: Cell::new(false),
            switched: RefCell::default(),
            offered_switch: Cell::new(false),
            verdict: Cell::new(None),
            waker: RefCell::default(),
            write_pace: Cell::default(),
            stalled: Cell::new(None),
            seen: Cell::new(Seen {
                phase: Phase::Handshake,
                epoch: 0,
                since: now,
                at: now,
                block_open: None,
                half_closed: None,
            }),
        })
    }

    /// How many exchanges are under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// How many exchanges there have been, with those under way.
    pub fn exchanges(&self) -> u64 {
        self.exchanges.get()
    }

    /// Bytes read from the socket so far.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.get()
    }

    /// Bytes written to the socket so far.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.get()
    }

    /// What is spoken.
    pub fn protocol(&self) -> Protocol {
        self.protocol.get()
    }

    /// The connection is ready for requests in `protocol`.
    pub fn serve(&self, protocol: Protocol) {
        self.protocol.set(protocol);
        self.stage.set(Stage::Serving);
        // The bytes of a handshake are not those of a head.
        self.head_started.set(false);
    }

    /// The connection was told to end once its exchanges have.
    pub(crate) fn closing(&self) {
        self.stage.set(Stage::Closing);
    }

    /// Each answer that comes is the connection's last one, where the protocol has no better way to say so.
    pub(crate) fn last_answers(&self) {
        self.last.set(true);
    }

    /// Whether the connection was told to end.
    pub(crate) fn is_closing(&self) -> bool {
        self.stage.get() == Stage::Closing
    }

    /// Our side has closed, and the client's last bytes are being read off.
    pub(crate) fn lingering(&self) {
        self.stage.set(Stage::Lingering);
    }

    /// Whether the connection has been idle for long enough to give back what it can; asked once each time.
    pub(crate) fn may_rest(&self) -> bool {
        self.may_rest.replace(false) && self.phase() == Phase::Idle
    }

    /// A request named something to switch to.
    pub(crate) fn offer_switch(&self) {
        self.offered_switch.set(true);
    }

    /// Whether any did.
    pub(crate) fn was_offered_switch(&self) -> bool {
        self.offered_switch.get()
    }

    /// HTTP/1.1: what the connection goes on with in place of the protocol, when the answer that says so was written.
    pub(crate) fn take_switch(&self) -> Option<(Switch, Exchange)> {
        self.switched.borrow_mut().take()
    }

    /// Registers the task to wake for a verdict.
    pub(crate) fn register(&self, waker: &Waker) {
        register(&self.waker, waker);
    }

    /// Why the connection has to end, if it has to.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        self.verdict.get()
    }

    /// Takes the verdict, where ending in good order takes more than one step.
    pub(crate) fn take_verdict(&self) -> Option<Verdict> {
        self.verdict.take()
    }

    /// Passes a verdict; the first one stands.
    pub(crate) fn condemn(&self, verdict: Verdict) {
        if self.verdict.get().is_none() {
            self.verdict.set(Some(verdict));
        }
        self.wake();
    }

    /// Wakes the connection's task.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// `count` bytes came in from the socket.
    pub(crate) fn on_read(&self, count: usize) {
        self.read_bytes.set(self.read_bytes.get().wrapping_add(count as u64));
        if self.in_flight.get() == 0 {
            self.head_started.set(true);
        }
    }

    /// The socket took `count` bytes.
    pub(crate) fn on_written(&self, count: usize) {
        self.written_bytes.set(self.written_bytes.get().wrapping_add(count as u64));
        self.write_blocked.set(false);
    }

    /// The socket takes no more for now.
    pub(crate) fn on_write_blocked(&self) {
        self.write_blocked.set(true);
    }

    /// Whether the end of the client's bytes should be kept from the protocol for a while, because an answer is still
    /// to come and the request is complete. In HTTP/2 a closed direction ends the connection.
    pub(crate) fn defers_eof(&self) -> bool {
        let defers = self.protocol.get() == Protocol::Http1
            && self.in_flight.get() > 0
            && self.request_bodies.get() == 0
            && self.leftover.borrow().is_none()
            && !self.eof_due.get();
        self.half_closed.set(defers);
        defers
    }

    /// An HTTP/2 header block has begun (`true`) or ended.
    pub(crate) fn on_header_block(&self, open: bool) {
        let block = open.then(|| self.read_bytes.get());
        self.header_block.set(block);
    }

    /// Counts a frame that carries nothing of a request; gives how many there were since the last sweep took some off.
    pub(crate) fn on_control_frame(&self) -> u32 {
        let count = self.control_frames.get().saturating_add(1);
        self.control_frames.set(count);
        count
    }

    /// An exchange begins: its head has been read.
    pub(crate) fn begin(self: &Rc<Self>) -> Exchange {
        self.in_flight.set(self.in_flight.get().saturating_add(1));
        self.answering.set(self.answering.get().saturating_add(1));
        self.exchanges.set(self.exchanges.get().wrapping_add(1));
        self.head_started.set(false);
        let wait = (self.protocol.get() != Protocol::Http1).then(|| self.enrol(false));
        Exchange { watch: Rc::clone(self), wait, answered: Cell::new(false) }
    }

    /// HTTP/3: an answer was handed over whole, and is still on its way. The connection is as busy as before, and it is the
    /// client's turn.
    pub(crate) fn on_its_way(self: &Rc<Self>) -> Exchange {
        self.in_flight.set(self.in_flight.get().saturating_add(1));
        let wait = self.enrol(false);
        wait.pause(None);
        Exchange { watch: Rc::clone(self), wait: Some(wait), answered: Cell::new(true) }
    }

    pub(super) fn enrol_request_body(&self) -> Rc<Wait> {
        self.request_bodies.set(self.request_bodies.get().saturating_add(1));
        self.enrol(true)
    }

    pub(super) fn dismiss_request_body(&self, wait: &Rc<Wait>) {
        self.request_bodies.set(self.request_bodies.get().saturating_sub(1));
        self.dismiss(wait);
    }

    fn enrol(&self, needs_confirmation: bool) -> Rc<Wait> {
        let wait = Wait::new(needs_confirmation);
        self.waits.borrow_mut().push(Rc::clone(&wait));
        wait
    }

    fn dismiss(&self, wait: &Rc<Wait>) {
        let mut waits = self.waits.borrow_mut();
        if let Some(at) = waits.iter().position(|each| Rc::ptr_eq(each, wait)) {
            waits.swap_remove(at);
        }
    }

    /// Takes over what is left of a body that nobody wants, so that the client can finish sending and read the answer.
    /// In HTTP/2 it is left to its stream's task, and in HTTP/3 dropping it says so for the stream alone (RFC 9114 §4.1).
    pub(super) fn leave_over(&self, body: Received) {
        if self.protocol.get() == Protocol::Http1 {
            self.discarded.set(0);
            *self.leftover.borrow_mut() = Some(body);
            self.wake();
        }
    }

    /// The rest of a refused body, once its answer has been given; put back with [`Self::put_back_leftover`].
    pub(crate) fn take_leftover(&self) -> Option<Received> {
        // Reading earlier would ask the client for what it may be holding back for a 100 (Continue).
        if self.answering.get() > 0 {
            return None;
        }
        self.leftover.borrow_mut().take()
    }

    /// Goes on with a leftover after `count` more bytes of it; gives `false` when that was enough of them.
    pub(crate) fn put_back_leftover(&self, body: Received, count: u64) -> bool {
        let discarded = self.discarded.get().saturating_add(count);
        self.discarded.set(discarded);
        if discarded > self.bounds.refused_body_bytes {
            self.input_abandoned.set(true);
            return false;
        }
        *self.leftover.borrow_mut() = Some(body);
        true
    }

    /// How many bytes of a refused body are read off, and how long.
    pub(crate) fn refused_body_bounds(&self) -> (u64, Duration) {
        (self.bounds.refused_body_bytes, self.bounds.refused_body_timeout)
    }

    /// Whether the client may still be sending something that will not be read.
    pub(crate) fn input_abandoned(&self) -> bool {
        self.input_abandoned.get()
    }

    pub(super) fn abandon_input(&self) {
        self.input_abandoned.set(true);
    }

    fn phase(&self) -> Phase {
        match self.stage.get() {
            Stage::Handshake => return Phase::Handshake,
            Stage::Lingering => return Phase::Lingering,
            Stage::Serving | Stage::Closing => {}
        }
        if self.leftover.borrow().is_some() && self.answering.get() == 0 {
            Phase::Discarding
        } else if self.in_flight.get() > 0 || self.request_bodies.get() > 0 || self.write_blocked.get() {
            Phase::Busy
        } else if self.stage.get() == Stage::Closing {
            Phase::Closing
        } else if self.exchanges.get() == 0 {
            Phase::Opening
        } else if self.head_started.get() && self.protocol.get() == Protocol::Http1 {
            Phase::Head
        } else {
            Phase::Idle
        }
    }

    /// Compares the connection with its bounds at `now`; called by its worker, a few times a second.
    pub fn sweep(&self, now: Instant) {
        let mut seen = self.seen.get();
        let elapsed = now.saturating_duration_since(seen.at);
        seen.at = now;
        let (phase, epoch) = (self.phase(), self.exchanges.get());
        if (phase, epoch) != (seen.phase, seen.epoch) {
            (seen.phase, seen.epoch, seen.since) = (phase, epoch, now);
            self.rested.set(false);
        } else {
            self.judge_phase(phase, now.saturating_duration_since(seen.since));
        }
        seen.block_open = since(seen.block_open, self.header_block.get(), now);
        if seen.block_open.is_some_and(|(_, at)| now.saturating_duration_since(at) >= self.bounds.header_timeout) {
            self.condemn(Verdict::HeaderTimeout);
        }
        let half_closed = self.half_closed.get().then(|| self.written_bytes.get());
        seen.half_closed = since(seen.half_closed, half_closed, now);
        if seen.half_closed.is_some_and(|(_, at)| now.saturating_duration_since(at) >= HALF_CLOSE_GRACE) {
            self.eof_due.set(true);
            self.wake();
        }
        self.seen.set(seen);
        self.judge_writes(elapsed, now);
        for wait in self.waits.borrow().iter() {
            wait.sweep(elapsed, self.bounds.pace());
        }
        // Control frames are forgiven at 512 a second.
        let forgiven = u32::try_from(elapsed.as_millis() * 512 / 1000).unwrap_or(u32::MAX);
        self.control_frames.set(self.control_frames.get().saturating_sub(forgiven));
    }

    fn judge_phase(&self, phase: Phase, lasted: Duration) {
        let (bound, verdict) = match phase {
            Phase::Busy => return,
            Phase::Handshake => (self.bounds.tls_handshake_timeout, Verdict::HandshakeTimeout),
            Phase::Opening | Phase::Head => (self.bounds.header_timeout, Verdict::HeaderTimeout),
            Phase::Idle => {
                if lasted >= REST_AFTER && !self.rested.replace(true) {
                    self.may_rest.set(true);
                    self.wake();
                }
                (self.bounds.keepalive_idle, Verdict::Idle)
            }
            Phase::Closing => (CLOSE_GRACE.min(self.bounds.write_stall_timeout), Verdict::CloseTimeout),
            Phase::Lingering => (LINGER.min(self.bounds.refused_body_timeout), Verdict::CloseTimeout),
            Phase::Discarding => {
                if lasted >= self.bounds.refused_body_timeout {
                    // Dropped, it makes the protocol close after the answer.
                    self.leftover.borrow_mut().take();
                    self.abandon_input();
                    self.wake();
                }
                return;
            }
        };
        if lasted >= bound {
            self.condemn(verdict);
        }
    }

    /// What is ready and not taken: bytes that the socket refuses.
    fn judge_writes(&self, elapsed: Duration, now: Instant) {
        let written = self.written_bytes.get();
        let mut pace = self.write_pace.get();
        if self.write_blocked.get() {
            if pace.wait(elapsed, written, self.bounds.pace()).is_some() {
                self.condemn(Verdict::SlowReader);
            }
        } else {
            pace.rest(written);
        }
        self.write_pace.set(pace);
        let stalled = since(self.stalled.get(), self.write_blocked.get().then_some(written), now);
        if stalled.is_some_and(|(_, at)| now.saturating_duration_since(at) >= self.bounds.write_stall_timeout) {
            self.condemn(Verdict::SlowReader);
        }
        self.stalled.set(stalled);
    }
}

/// Keeps the moment since which `state` has been what it is.
fn since(before: Option<(u64, Instant)>, state: Option<u64>, now: Instant) -> Option<(u64, Instant)> {
    let state = state?;
    before.filter(|(same, _)| *same == state).or(Some((state, now)))
}

/// One exchange under way, from its head to the end of its answer's body; ends when dropped.
#[derive(Debug)]
pub(crate) struct Exchange {
    watch: Rc<ConnectionWatch>,
    /// In HTTP/2 and HTTP/3, whether the client takes the answer's bytes; in HTTP/1.1 the socket says so.
    wait: Option<Rc<Wait>>,
    answered: Cell<bool>,
}

impl Exchange {
    /// The head of the answer is there.
    pub(crate) fn answered(&self) {
        if !self.answered.replace(true) {
            self.watch.answering.set(self.watch.answering.get().saturating_sub(1));
        }
    }

    /// Whether the connection ends with this answer.
    pub(crate) fn is_last(&self) -> bool {
        self.watch.last.get() && self.watch.protocol.get() == Protocol::Http1
    }

    /// HTTP/1.1: goes on with `switch` in place of the connection's protocol, when the answer that says so was sent.
    pub(crate) fn switch(self, switch: Switch) {
        let watch = Rc::clone(&self.watch);
        *watch.switched.borrow_mut() = Some((switch, self));
    }

    /// Whether the connection has no others beside it, and ends or is switched with it: HTTP/1.1.
    pub(crate) fn is_all_there_is(&self) -> bool {
        self.wait.is_none()
    }

    /// What can end this exchange alone, where the protocol can.
    pub(crate) fn stream_cut(&self) -> Option<StreamCut> {
        self.wait.clone().map(StreamCut::new)
    }

    /// The client took so many bytes.
    pub(crate) fn moved(&self, bytes: u64) {
        if let Some(wait) = &self.wait {
            wait.moved(bytes);
        }
    }

    pub(super) fn wait(&self) -> Option<&Wait> {
        self.wait.as_deref()
    }

    /// Whether the exchange ends because the client was too slow.
    pub(super) fn timed_out(&self) -> bool {
        self.wait.as_ref().is_some_and(|wait| wait.is_expired())
            || self.watch.verdict().is_some_and(|verdict| match verdict {
                Verdict::SlowReader | Verdict::HeaderTimeout | Verdict::HandshakeTimeout | Verdict::CloseTimeout => {
                    true
                }
                Verdict::Idle | Verdict::Flood | Verdict::Drain => false,
            })
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.answered();
        self.watch.in_flight.set(self.watch.in_flight.get().saturating_sub(1));
        if let Some(wait) = &self.wait {
            self.watch.dismiss(wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Watched {
        watch: Rc<ConnectionWatch>,
        now: Instant,
    }

    impl Watched {
        fn new(protocol: Protocol) -> Self {
            let bounds = Bounds {
                tls_handshake_timeout: 10 * SECOND,
                header_timeout: 10 * SECOND,
                keepalive_idle: 15 * SECOND,
                body_idle_timeout: 10 * SECOND,
                body_min_rate: 1024,
                write_stall_timeout: 25 * SECOND,
                refused_body_timeout: 20 * SECOND,
                refused_body_bytes: 1 << 20,
            };
            let now = Instant::now();
            let watch = ConnectionWatch::new(Rc::new(bounds), now);
            watch.serve(protocol);
            Self { watch, now }
        }

        /// Lets seconds pass, with `each` before every sweep, until there is a verdict or they are over.
        fn pass(&mut self, seconds: u32, each: impl Fn(&ConnectionWatch)) -> Option<(u32, Verdict)> {
            for second in 1..=seconds {
                each(&self.watch);
                self.now += SECOND;
                self.watch.sweep(self.now);
                if let Some(verdict) = self.watch.verdict() {
                    return Some((second, verdict));
                }
            }
            None
        }
    }

    #[test]
    fn a_connection_without_a_request_is_given_the_header_timeout_whatever_it_sends() {
        let mut watched = Watched::new(Protocol::Http1);
        assert_eq!(watched.pass(60, |watch| watch.on_read(1)), Some((11, Verdict::HeaderTimeout)));
    }

    #[test]
    fn a_connection_between_requests_is_idle_until_the_first_byte_of_the_next_head() {
        let mut watched = Watched::new(Protocol::Http1);
        drop(watched.watch.begin());
        assert_eq!(watched.pass(10, |_| {}), None);
        assert_eq!(watched.pass(60, |watch| watch.on_read(1)), Some((11, Verdict::HeaderTimeout)));
        let mut watched = Watched::new(Protocol::Http1);
        drop(watched.watch.begin());
        assert_eq!(watched.pass(60, |_| {}), Some((16, Verdict::Idle)));
    }

    #[test]
    fn an_idle_http2_connection_stays_idle_whatever_frames_come() {
        let mut watched = Watched::new(Protocol::Http2);
        drop(watched.watch.begin());
        assert_eq!(watched.pass(60, |watch| watch.on_read(17)), Some((16, Verdict::Idle)));
    }

    #[test]
    fn an_exchange_that_waits_for_the_upstream_may_take_for_ever() {
        let mut watched = Watched::new(Protocol::Http1);
        let _exchange = watched.watch.begin();
        assert_eq!(watched.pass(3600, |_| {}), None);
    }

    #[test]
    fn a_request_body_counts_only_while_somebody_keeps_asking_for_it() {
        let mut watched = Watched::new(Protocol::Http1);
        let _exchange = watched.watch.begin();
        let wait = watched.watch.enrol_request_body();
        wait.pause(None);
        // The upstream takes nothing: nobody asks again.
        assert_eq!(watched.pass(600, |_| {}), None);
        assert!(!wait.is_expired());
        assert_eq!(watched.pass(11, |_| wait.pause(None)), None);
        assert!(wait.is_expired());
    }

    #[test]
    fn a_socket_that_takes_nothing_is_a_slow_reader_and_one_that_takes_enough_is_not() {
        let mut watched = Watched::new(Protocol::Http1);
        let _exchange = watched.watch.begin();
        let takes = |bytes| {
            move |watch: &ConnectionWatch| {
                watch.on_written(bytes);
                watch.on_write_blocked();
            }
        };
        assert_eq!(watched.pass(600, takes(1024)), None);
        assert_eq!(watched.pass(60, takes(100)).map(|(_, verdict)| verdict), Some(Verdict::SlowReader));
        let mut watched = Watched::new(Protocol::Http1);
        let _exchange = watched.watch.begin();
        assert_eq!(watched.pass(60, ConnectionWatch::on_write_blocked), Some((11, Verdict::SlowReader)));
    }

    #[test]
    fn a_header_block_that_stays_open_is_timed_although_streams_are_busy() {
        let mut watched = Watched::new(Protocol::Http2);
        let _exchange = watched.watch.begin();
        watched.watch.on_header_block(true);
        assert_eq!(watched.pass(60, |watch| watch.on_read(9)), Some((11, Verdict::HeaderTimeout)));
    }

    #[test]
    fn the_end_of_a_clients_bytes_is_kept_back_only_while_an_answer_is_due_and_not_for_long() {
        let mut watched = Watched::new(Protocol::Http1);
        assert!(!watched.watch.defers_eof());
        let _exchange = watched.watch.begin();
        assert!(watched.watch.defers_eof());
        watched.pass(3, |_| {});
        assert!(!watched.watch.defers_eof());
    }
}
