//! Requests that ask for their connection to be switched to WebSocket: judged whole, as the GET that they are, then forwarded with a
//! handshake, and joined with the service when that has switched. Before its 101 nothing but the handshake goes either way. A service
//! that answers otherwise has answered a GET, and nothing was switched.
//!
//! ```text
//!   Wish ── what the head asks for        (step 1; h2: an extended CONNECT becomes the GET that it stands for)
//!     └ Handshake::check                  (step 3; where the route upgrades: 400 426; h2 elsewhere: 501)
//!        └ … judged …  Handshake::dress   (step 7)
//!           └ 101, Handshake::verify      (step 8; 502)
//!              └ Relay, among OpenStreams: until a side ends, nothing moves, or the credential is worth nothing any more
//! ```

mod frames;
mod handshake;
mod open;
mod relay;

use std::{cell::Cell, future::poll_fn, rc::Rc};

use http::{Response, Version};
use tokio::io::{AsyncRead, AsyncWrite};

pub use self::handshake::Wish;
pub(super) use self::{handshake::Handshake, open::OpenStreams};
use self::{
    open::{End, Place},
    relay::Relay,
};
use super::{Enforcement, Exchange, Record, Refusal, shaping::AnswerOf};
use crate::{
    body::{HowEnded, RequestBody, ResponseBody, StreamEnd, Switch, Tail},
    policy::Reason,
    upstream::UpstreamBody,
};

/// What a request's wish to be upgraded comes to on its route; `None`: it is a plain request, and stays one.
pub(super) fn asked(
    wish: Wish,
    &Enforcement { inbound, matched, .. }: &Enforcement<'_>,
    has_body: bool,
) -> Result<Option<Box<Handshake>>, Refusal> {
    match (wish, matched.route.upgrades) {
        // RFC 9110 §7.8: a server may ignore it.
        (Wish::Field { .. }, None) => Ok(None),
        (Wish::Connect { .. }, None) => Err(Refusal::of(Reason::UpgradeNotOffered)),
        // What a deletion plan takes over is answered here, and no stream.
        (_, Some(_)) if matched.planned.is_some() => Err(Refusal::of(Reason::UpgradeNotOffered)),
        (wish, Some(rules)) => Handshake::check(wish, rules, &inbound.method, &inbound.headers, has_body).map(Some),
    }
}

/// What the client gets.
type Answer = Response<ResponseBody<Box<Record>>>;

impl Exchange {
    /// Gives the answer to a handshake that was forwarded.
    pub(super) fn shaken(
        mut self,
        answer: Response<UpstreamBody<RequestBody>>,
        mut handshake: Handshake,
        streams: &Rc<OpenStreams>,
    ) -> Result<Answer, Box<(Self, Refusal)>> {
        match handshake.verify(answer.status(), answer.headers()) {
            Ok(true) => {}
            Ok(false) => return Ok(self.forwarded(answer)),
            Err(why) => return Err(Box::new((self, Refusal::of(Reason::UpstreamInvalid).because(why)))),
        }
        let (mut parts, body) = answer.into_parts();
        let service = body.take_over();
        self.dress(&mut parts.headers);
        self.shape(&mut parts.headers, AnswerOf::Upstream);
        handshake.answer(&mut parts);
        self.record.status = parts.status.as_u16();
        self.record.switched();
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        let (record, rules, streams) = (self.record, handshake.rules(), Rc::clone(streams));
        let held = handshake.take_place();
        let switch = Switch::new(async move |client| {
            // Among the streams that last, until this one has ended.
            let _held = held;
            let mut record = record;
            record.reason = Reason::Allowed;
            match service.await {
                Ok(service) => {
                    let place = streams.add(record.principal.clone(), rules);
                    let relay = Relay::new(client, service, Rc::clone(&place.open));
                    let mut joined = Joined { relay, record: Some(record), place };
                    poll_fn(|cx| joined.relay.poll(cx)).await;
                }
                Err(fault) => {
                    record.broke(&fault);
                    record.end(StreamEnd { bytes: 0, how: HowEnded::UpstreamFault });
                }
            }
        });
        Ok(Response::from_parts(parts, ResponseBody::switched(switch)))
    }
}

/// A relay with the record that it fills; told when it is dropped, however it ends.
struct Joined<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    relay: Relay<C, U>,
    record: Option<Box<Record>>,
    place: Place,
}

impl<C, U> Drop for Joined<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    fn drop(&mut self) {
        let told = self.relay.told();
        let Some(mut record) = self.record.take() else { return };
        // Without an end of its own it was cut, with its connection.
        let end = told.end.unwrap_or_else(|| match record.client_stalled() {
            true => End::ClientStalled,
            false => End::ClientGone,
        });
        self.place.ended(end);
        record.stream_end = Some(end.name());
        record.bytes_in = Some(Rc::new(Cell::new(told.up)));
        record.end(StreamEnd { bytes: told.down, how: HowEnded::Complete });
    }
}
