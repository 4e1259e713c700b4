//! One client's connection over QUIC, from its handshake to its last packet: streams are given tasks of their own, and the
//! watch's verdicts are carried out.
//!
//! ```text
//!   requests ──> told to end ──> GOAWAY(all) ──a round trip──> GOAWAY(last) ──streams end, a round trip──> closed
//! ```

use std::{
    cell::Cell,
    future::poll_fn,
    ops::Deref,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use quinn::{SendStream, VarInt};
use tokio::{sync::Notify, task::spawn_local, time::sleep_until};

use super::{codes, control, exchange, frames, incoming::Unfinished, varint};
use crate::{
    body::{Protocol, Serve, Verdict},
    server::{
        connection::{Serving, until_verdict},
        frames::RESETS,
    },
};

/// RFC 9114 §7.2.4.1
const MAX_FIELD_SECTION_SIZE: u64 = 0x6;

/// A request's stream that there will never be: GOAWAY with it refuses nothing yet (RFC 9114 §5.2).
const NO_REQUEST: u64 = varint::LARGEST - 3;

/// The least that is waited for what a GOAWAY has crossed on its way, where a round trip is shorter.
const LEAST_PATIENCE: Duration = Duration::from_millis(10);

/// What all streams of a connection share.
pub(super) struct Conversation<S> {
    pub(super) serving: Serving<S>,
    pub(super) connection: quinn::Connection,
    pub(super) control: control::Seen,
    pub(super) unfinished: Rc<Unfinished>,
    live: Cell<u32>,
    all_ended: Notify,
    opened: Cell<u32>,
    reset: Cell<u32>,
}

/// A request's stream that has yet to end.
pub(super) struct OpenStream<S>(Rc<Conversation<S>>);

impl<S> Deref for OpenStream<S> {
    type Target = Conversation<S>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<S> Drop for OpenStream<S> {
    fn drop(&mut self) {
        let live = self.0.live.get().saturating_sub(1);
        self.0.live.set(live);
        if live == 0 {
            self.0.all_ended.notify_one();
        }
    }
}

impl<S> Conversation<S> {
    fn open_stream(self: &Rc<Self>) -> OpenStream<S> {
        self.live.set(self.live.get().saturating_add(1));
        self.opened.set(self.opened.get().saturating_add(1));
        OpenStream(Rc::clone(self))
    }

    /// Counts a stream that was in vain: the client did not want it to its end (CVE-2023-44487), or made it one that we had to
    /// end (CVE-2025-8671). Too many of them are a flood, by the same count as in HTTP/2.
    pub(super) fn count_in_vain(&self) {
        let reset = self.reset.get().saturating_add(1);
        self.reset.set(reset);
        if reset > RESETS && reset > self.opened.get() / 2 {
            self.serving.info.watch.condemn(Verdict::Flood);
        }
    }
}

/// How far the end of a connection has come.
#[derive(Debug, Clone, Copy)]
enum Ending {
    Not,
    /// The client knows, and what it sent before it did is still taken.
    Told(Instant),
    /// Requests from this stream on are refused; the connection is closed when the others have ended, and not before.
    Last {
        refused: u64,
        not_before: Instant,
    },
}

/// What the connection's task has to see to.
enum Event {
    Verdict(Verdict),
    Drain,
    Request(SendStream, quinn::RecvStream),
    Stream(quinn::RecvStream),
    Turn,
    Gone,
}

/// Serves `connection` to its end; gives the verdict, if there was one.
pub(super) async fn serve<S: Serve>(serving: Serving<S>, connection: quinn::Connection) -> Option<Verdict> {
    let watch = Rc::clone(&serving.info.watch);
    watch.serve(Protocol::Http3);
    let field_bytes = serving.settings.header_list_bytes();
    let mut control = match until_verdict(&watch, open_control(&connection, field_bytes)).await {
        Ok(Ok(control)) => control,
        Ok(Err(Gone)) => return None,
        Err(verdict) => {
            connection.close(code_of(verdict), b"");
            return Some(verdict);
        }
    };
    let conversation = Rc::new(Conversation {
        serving,
        connection,
        control: control::Seen::default(),
        unfinished: Rc::default(),
        live: Cell::new(0),
        all_ended: Notify::new(),
        opened: Cell::new(0),
        reset: Cell::new(0),
    });
    let connection = &conversation.connection;
    let (mut ending, mut told, mut next) = (Ending::Not, None, 0);
    loop {
        match conversation.next(ending).await {
            Event::Gone => return told,
            // In good order: nothing is under way.
            Event::Verdict(Verdict::Idle) if matches!(ending, Ending::Not) => {
                told = watch.take_verdict();
                ending = conversation.tell(&mut control).await;
            }
            Event::Verdict(verdict) => {
                connection.close(code_of(verdict), b"");
                return Some(verdict);
            }
            Event::Drain => ending = conversation.tell(&mut control).await,
            Event::Turn => match ending {
                Ending::Not => {}
                Ending::Told(_) => {
                    let _ = until_verdict(&watch, go_away(&mut control, next)).await;
                    ending = Ending::Last { refused: next, not_before: conversation.round_trip() };
                }
                Ending::Last { .. } => {
                    connection.close(codes::NO_ERROR, b"");
                    return told;
                }
            },
            Event::Request(send, recv) => {
                let id = u64::from(VarInt::from(recv.id()));
                if let Ending::Last { refused, .. } = ending
                    && id >= refused
                {
                    reject(send, recv);
                    continue;
                }
                next = next.max(id + 4);
                spawn_local(exchange::run(conversation.open_stream(), send, recv));
            }
            Event::Stream(recv) => {
                spawn_local(control::read(Rc::clone(&conversation), recv));
            }
        }
    }
}

impl<S: Serve> Conversation<S> {
    /// Waits for what comes next.
    async fn next(&self, ending: Ending) -> Event {
        let told = poll_fn(|cx| {
            let (watch, draining) = (&self.serving.info.watch, &self.serving.draining);
            watch.register(cx.waker());
            match watch.verdict() {
                Some(verdict) => Poll::Ready(Event::Verdict(verdict)),
                None if matches!(ending, Ending::Not) && draining.applies_to(watch) => Poll::Ready(Event::Drain),
                None => Poll::Pending,
            }
        });
        let turn = async {
            match ending {
                Ending::Not => std::future::pending().await,
                Ending::Told(until) => sleep_until(until.into()).await,
                Ending::Last { not_before, .. } => {
                    while self.live.get() > 0 {
                        self.all_ended.notified().await;
                    }
                    sleep_until(not_before.into()).await;
                }
            }
        };
        tokio::select! {
            biased;
            event = told => event,
            request = self.connection.accept_bi() => request.map_or(Event::Gone, |(send, recv)| Event::Request(send, recv)),
            stream = self.connection.accept_uni() => stream.map_or(Event::Gone, Event::Stream),
            () = turn => Event::Turn,
        }
    }

    /// Begins the end: the client is told, and may still have requests on their way.
    async fn tell(&self, control: &mut SendStream) -> Ending {
        let watch = &self.serving.info.watch;
        watch.closing();
        // Should it not get through, the bound on closing ends the connection.
        let _ = until_verdict(watch, go_away(control, NO_REQUEST)).await;
        Ending::Told(self.round_trip())
    }

    /// When what is sent now has been answered, most likely.
    fn round_trip(&self) -> Instant {
        Instant::now() + (self.connection.rtt() * 2).max(LEAST_PATIENCE)
    }
}

struct Gone;

/// Opens our control stream and says what a client may send (RFC 9114 §6.2.1). No dynamic table, no pushes, no extended
/// CONNECT: what is not said is not offered.
async fn open_control(connection: &quinn::Connection, field_bytes: u32) -> Result<SendStream, Gone> {
    let mut stream = connection.open_uni().await.map_err(|_| Gone)?;
    let mut settings = BytesMut::new();
    varint::write(&mut settings, MAX_FIELD_SECTION_SIZE);
    varint::write(&mut settings, u64::from(field_bytes));
    let mut bytes = BytesMut::new();
    varint::write(&mut bytes, control::CONTROL);
    frames::write_head(&mut bytes, frames::SETTINGS, settings.len());
    bytes.extend_from_slice(&settings);
    stream.write_all(&bytes).await.map_err(|_| Gone)?;
    Ok(stream)
}

async fn go_away(control: &mut SendStream, from: u64) -> Result<(), Gone> {
    let mut id = BytesMut::new();
    varint::write(&mut id, from);
    let mut bytes = BytesMut::new();
    frames::write_head(&mut bytes, frames::GOAWAY, id.len());
    bytes.extend_from_slice(&id);
    control.write_all(&bytes).await.map_err(|_| Gone)
}

/// A request that nothing was done for: the client may send it again elsewhere (RFC 9114 §4.1.1).
fn reject(mut send: SendStream, mut recv: quinn::RecvStream) {
    let _ = recv.stop(codes::REQUEST_REJECTED);
    let _ = send.reset(codes::REQUEST_REJECTED);
}

fn code_of(verdict: Verdict) -> VarInt {
    match verdict {
        Verdict::Flood => codes::EXCESSIVE_LOAD,
        Verdict::HandshakeTimeout
        | Verdict::HeaderTimeout
        | Verdict::Idle
        | Verdict::CloseTimeout
        | Verdict::SlowReader
        | Verdict::Drain => codes::NO_ERROR,
    }
}
