//! What is told of a request once it is over: one access record and one set of metrics, whatever became of it.

use std::{
    cell::Cell,
    error::Error,
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Method, Version};

use super::{
    faults::upstream_reason,
    ids::{RequestId, Trace},
};
use crate::{
    body::{ConnectionInfo, HowEnded, StreamEnd, Tail, Verdict},
    clock::Now,
    limit::InFlightPlace,
    policy::{Principal, Reason},
    runtime::{CompiledShaping, OnWorker, Services, Side, Snapshot},
    telemetry::{AccessRecord, with_causes},
};

/// A request's record, filled in on its way and told when it is dropped.
pub struct Record {
    services: OnWorker<Services>,
    snapshot: OnWorker<Snapshot>,
    info: Rc<ConnectionInfo>,
    /// When the request came.
    pub began: Now,
    /// The method of the request line.
    pub method: Method,
    /// The protocol that the client speaks.
    pub version: Version,
    /// The path as the client sent it, without its query; where it is going to be written.
    path: Option<Box<str>>,
    /// The identifier of the request.
    pub request_id: RequestId,
    /// The trace that it belongs to.
    pub trace: Option<Trace>,
    /// The client's address.
    pub client: IpAddr,
    /// Which route it took.
    pub route: Option<usize>,
    /// Its place among the requests in flight.
    pub place: Option<InFlightPlace>,
    /// Whoever was verified.
    pub principal: Option<Arc<Principal>>,
    /// By which way a second factor came that the request needed.
    pub step_up: Option<&'static str>,
    /// The status that was answered.
    pub status: u16,
    /// Why it ended as it did.
    pub reason: Reason,
    /// Which of the route's services it was sent to.
    pub side: Side,
    /// How long the upstream took to answer.
    pub upstream_took: Option<Duration>,
    /// How many bytes of body the client sent.
    pub bytes_in: Option<Rc<Cell<u64>>>,
    /// How many bytes of body it got.
    pub bytes_out: u64,
    /// How long an upgraded stream took to be opened.
    opened_after: Option<Duration>,
    /// How an upgraded stream ended.
    pub stream_end: Option<&'static str>,
}

impl Record {
    /// Starts a record; until it is answered it is one of a client that went away.
    pub fn begin(
        services: OnWorker<Services>,
        snapshot: OnWorker<Snapshot>,
        info: Rc<ConnectionInfo>,
        head: (&Method, Version, &str),
        request_id: RequestId,
        began: Now,
    ) -> Self {
        let (method, version, path) = head;
        let path = snapshot.access_log.is_kept().then(|| path.into());
        Self {
            services,
            snapshot,
            client: info.peer.ip(),
            info,
            began,
            method: method.clone(),
            version,
            path,
            request_id,
            trace: None,
            route: None,
            place: None,
            principal: None,
            step_up: None,
            status: 499,
            reason: Reason::ClientGone,
            side: Side::Own,
            upstream_took: None,
            bytes_in: None,
            bytes_out: 0,
            opened_after: None,
            stream_end: None,
        }
    }

    fn tell(&self) {
        let took = self.services.clock.instant().saturating_duration_since(self.began.instant);
        let route = self.route.and_then(|number| self.snapshot.routes.get(number));
        match route {
            Some(route) => route.metrics.answered(&self.method, self.status, self.opened_after.unwrap_or(took)),
            None => self.services.no_route.answered(&self.method, self.status, took),
        }
        self.services.metrics.decided(self.reason);
        let Some(path) = &self.path else { return };
        let principal = self.principal.as_deref();
        self.snapshot.access_log.record(&AccessRecord {
            unix_ms: self.began.unix_ms,
            request_id: self.request_id.as_str(),
            trace_id: self.trace.as_ref().and_then(Trace::trace_id),
            client: self.client,
            listener: &self.info.listener,
            protocol: protocol(self.version),
            tls: self.info.tls.as_ref().map(|tls| tls.version),
            method: self.method.as_str(),
            route: route.map(|route| &*route.name),
            path,
            status: self.status,
            reason: self.reason,
            bytes_in: self.bytes_in.as_ref().map_or(0, |bytes| bytes.get()),
            bytes_out: self.bytes_out,
            took,
            upstream: route
                .filter(|_| self.upstream_took.is_some())
                .and_then(|route| route.backend(self.side))
                .map(|backend| &*backend.upstream.name),
            upstream_took: self.upstream_took,
            issuer: principal.map(|principal| &*principal.issuer),
            subject: principal.map(|principal| &*principal.subject),
            step_up: self.step_up,
            stream_end: self.stream_end,
        });
    }

    /// Notes that the answer switches to a stream: how long that lasts is no measure of how long requests take.
    pub fn switched(&mut self) {
        // Nor is it in flight: streams that last have a bound of their own.
        self.leave();
        self.opened_after = Some(self.services.clock.instant().saturating_duration_since(self.began.instant));
    }

    /// Gives its place among the requests in flight to another.
    fn leave(&mut self) {
        let Some(place) = self.place.take() else { return };
        let route = self.route.and_then(|number| self.snapshot.routes.get(number));
        let holders = route.map_or(&self.snapshot.own_holders, |route| &route.holders);
        self.snapshot.in_flight.leave(place, holders);
    }

    /// Whether the client's connection is being cut because it takes nothing.
    pub(super) fn client_stalled(&self) -> bool {
        self.info.watch.verdict() == Some(Verdict::SlowReader)
    }

    /// What its route does besides passing requests on.
    pub(super) fn shaping(&self) -> Option<&CompiledShaping> {
        self.route.and_then(|number| self.snapshot.routes.get(number))?.shaping.as_deref()
    }

    /// Notes how long the upstream took.
    pub fn upstream_answered(&mut self, sent: Instant) {
        let took = self.services.clock.instant().saturating_duration_since(sent);
        self.upstream_took = Some(took);
        let route = self.route.and_then(|number| self.snapshot.routes.get(number));
        if let Some(backend) = route.and_then(|route| route.backend(self.side)) {
            backend.metrics.answered(took);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // To the request it is the same, whichever side closed its connection.
        if self.reason == Reason::ClientGone && self.info.watch.verdict() == Some(Verdict::Drain) {
            self.reason = Reason::Drained;
        }
        self.tell();
        self.leave();
    }
}

impl Tail for Box<Record> {
    fn end(mut self, end: StreamEnd) {
        self.bytes_out = end.bytes;
        match end.how {
            // What an upstream did was told before.
            HowEnded::Complete | HowEnded::UpstreamFault => {}
            HowEnded::ClientGone | HowEnded::TimedOut => {
                if self.reason == Reason::Allowed {
                    self.reason = Reason::ClientGone;
                }
            }
        }
    }

    fn broke(&mut self, error: &(dyn Error + 'static)) {
        tracing::warn!(request.id = self.request_id.as_str(), error = %with_causes(error), "the answer's body broke off");
        if self.reason == Reason::Allowed {
            self.reason = upstream_reason(error);
        }
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}
