//! One client's connection: each stream becomes a task, and the watch's verdicts are carried out.

use std::{
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::server::{Connection, Handshake};
use tokio::task::spawn_local;

use super::exchange;
use crate::{
    body::{Serve, Verdict},
    server::{
        connection::{Ended, Serving},
        wire::Wire,
    },
};

/// How far a connection has come.
enum Stage {
    /// Its preface and settings are read.
    Beginning {
        handshake: Handshake<Wire, Bytes>,
        /// Whether it is to end with what has begun.
        ends: bool,
    },
    Serving(Connection<Wire, Bytes>),
}

impl Stage {
    /// Gives each request that comes its task. Ready when the connection has ended, in good order or not.
    fn poll<S: Serve>(&mut self, cx: &mut Context<'_>, serving: &Serving<S>) -> Poll<()> {
        loop {
            match self {
                Self::Beginning { handshake, ends } => {
                    let Ok(mut connection) = ready!(Pin::new(handshake).poll(cx)) else { return Poll::Ready(()) };
                    if *ends {
                        connection.graceful_shutdown();
                    }
                    *self = Self::Serving(connection);
                }
                Self::Serving(connection) => {
                    // After a fault h2 has said good-bye.
                    let Some(Ok((request, reply))) = ready!(connection.poll_accept(cx)) else { return Poll::Ready(()) };
                    spawn_local(exchange::run(serving, request, reply));
                }
            }
        }
    }

    /// Takes no more requests, once those have come that are on their way (RFC 9113 §6.8).
    fn go_away(&mut self) {
        match self {
            Self::Beginning { ends, .. } => *ends = true,
            Self::Serving(connection) => connection.graceful_shutdown(),
        }
    }
}

/// Serves a connection to its end.
pub(in crate::server) async fn serve<S: Serve>(serving: Serving<S>, wire: Wire) -> Ended {
    let watch = Rc::clone(&serving.info.watch);
    let mut stage = Stage::Beginning { handshake: serving.settings.http2().handshake(wire), ends: false };
    let (mut told, mut verdict) = (false, None);
    poll_fn(|cx| {
        watch.register(cx.waker());
        loop {
            if stage.poll(cx, &serving).is_ready() {
                return Poll::Ready(match watch.verdict() {
                    Some(verdict) => Ended::Cut(verdict),
                    None => Ended::Finished { client_may_send: false, verdict },
                });
            }
            match watch.verdict() {
                Some(Verdict::Idle) => verdict = watch.take_verdict(),
                Some(verdict) => return Poll::Ready(Ended::Cut(verdict)),
                None if !told && serving.draining.applies_to(&watch) => {}
                None => return Poll::Pending,
            }
            told = true;
            watch.closing();
            stage.go_away();
        }
    })
    .await
}
