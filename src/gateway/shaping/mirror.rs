//! Copies of requests for another service, whose answers nobody sees. A copy is made of what was cleared, by a right that the
//! clearance gives; it is sent once the request's own body was read, and nobody waits for it: neither the client nor the
//! service that answers. What goes wrong with it is counted, and that is all.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, Request, header};
use hyper::body::Body;

use super::{Known, change_request, drop_all, request_values};
use crate::{
    body::{ConnectionInfo, CopyReceiver, NoCopy, RequestBody},
    clock::Now,
    config,
    gateway::{
        Gateway, Inbound, SoleField,
        enforce::{Clearance, CopyRight},
        grpc::Dialect,
        introduced,
        outbound::Outbound,
    },
    runtime::{Backend, CompiledShaping, Snapshot},
    spread::Spread,
    upstream::Sending,
};

/// How many copies one worker makes and sends at once: with the longest usual body 64 MiB, and a mirror that hangs takes no more.
const IN_FLIGHT: usize = 64;
/// How long a request's own body may take to be copied: a stream that goes on is no request to repeat, and would take a place.
const COPY_TIME: Duration = Duration::from_secs(30);
/// How long a copy and its answer may take; upstreams have 30 seconds for the head alone.
const EXCHANGE_TIME: Duration = Duration::from_secs(60);
/// How much of an answer is read before its connection is given up: more is dearer than another connection.
const ANSWER_BYTES: usize = 1 << 20;

/// The copies that one worker has under way.
#[derive(Debug, Default, Clone)]
pub(in crate::gateway) struct Mirrors(Rc<Cell<usize>>);

/// A place among them, given back when it is dropped.
struct Place(Rc<Cell<usize>>);

impl Mirrors {
    fn enter(&self) -> Option<Place> {
        let taken = self.0.get();
        if taken >= IN_FLIGHT {
            return None;
        }
        self.0.set(taken.saturating_add(1));
        Some(Place(self.0.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// A request that is to be copied: what it was judged as.
#[derive(Clone, Copy)]
pub(in crate::gateway) struct Original<'a> {
    pub(in crate::gateway) inbound: &'a Inbound,
    /// The path that the upstream gets.
    pub(in crate::gateway) target: &'a str,
    pub(in crate::gateway) known: Known<'a>,
    /// The request's moment.
    pub(in crate::gateway) now: Now,
    /// Its own upstream.
    pub(in crate::gateway) backend: &'a Backend,
}

impl Gateway {
    /// Sends a copy of a request to the route's mirror, if it is among those that are copied.
    pub(in crate::gateway) fn mirror(
        &self,
        (snapshot, info): (&Snapshot, &ConnectionInfo),
        shaping: &CompiledShaping,
        (clearance, right): (&Clearance, CopyRight),
        original: Original<'_>,
        body: &mut RequestBody,
    ) {
        let (Some(mirror), Some(backend)) = (&shaping.rules.mirror, &shaping.mirror) else { return };
        let inbound = original.inbound;
        let point = Spread::new().with(b"mirror").with(inbound.request_id.as_str().as_bytes()).finish();
        // A call of gRPC may have no end, and its head does not tell.
        if !mirror.share.has(point) || Dialect::of_headers(&inbound.headers).is_some() {
            return;
        }
        let metrics = &self.services.metrics;
        let Some(place) = self.mirrors.enter() else {
            metrics.mirror().copied(&backend.upstream.name, "busy");
            return;
        };
        let Some(outbound) = self.head(snapshot, mirror, backend, clearance, original) else {
            metrics.mirror().copied(&backend.upstream.name, "failed");
            return;
        };
        let request_rules = &shaping.rules.request_headers;
        let Outbound { method, uri, mut headers } = outbound;
        if let Some(values) = request_values(request_rules, &original.known) {
            change_request(request_rules, &values, &mut headers);
        }
        let mut request = Request::new(());
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, uri, headers);
        let copy = body.copy(mirror.body_bytes);
        let client = inbound.origin.client;
        let sending = Sending {
            client: Some(client),
            introduced: introduced(backend, client, info),
            ..Sending::plain(self.services.clock.now())
        };
        let sent = self.send_copy(right, backend, request, copy, sending);
        let (metrics, name) = (self.services.metrics.clone(), backend.upstream.name.clone());
        tokio::task::spawn_local(async move {
            let outcome = sent.await;
            metrics.mirror().copied(&name, outcome);
            drop(place);
        });
    }

    /// The head of a copy, made as that of any request is, of what is left without the client's credentials.
    fn head(
        &self,
        snapshot: &Snapshot,
        mirror: &config::Mirror,
        backend: &Backend,
        clearance: &Clearance,
        Original { inbound, target, backend: own, now, .. }: Original<'_>,
    ) -> Option<Outbound> {
        let principal = clearance.principal();
        let mut copied = without_credentials(inbound, mirror, own);
        let outbound = Outbound::prepare(
            &mut copied,
            target,
            principal.map(|principal| &**principal),
            &backend.upstream,
            backend.service.default_host(),
            backend.service.credential(),
            |assertion| self.assert(snapshot, assertion, principal, &inbound.request_id, now),
        );
        outbound.ok()
    }

    /// Sends a copy once it is whole, and reads its answer off. Boxed by who spawns it.
    fn send_copy(
        &self,
        CopyRight { .. }: CopyRight,
        backend: &Backend,
        request: Request<()>,
        copy: Option<CopyReceiver>,
        sending: Sending,
    ) -> impl Future<Output = &'static str> + use<> {
        let (pools, service, services) = (self.pools.clone(), Arc::clone(&backend.service), self.services.clone());
        async move {
            let body = match copy {
                None => Bytes::new(),
                Some(copy) => match tokio::time::timeout(COPY_TIME, copy).await {
                    Ok(Ok(Ok(bytes))) => bytes,
                    Ok(Ok(Err(NoCopy::TooLong))) => return "too_long",
                    Ok(Ok(Err(NoCopy::Broken)) | Err(_)) => return "incomplete",
                    Err(_) => return "incomplete",
                },
            };
            let request = request.map(|()| RequestBody::buffered(body));
            let sending = Sending { now: services.clock.now(), ..sending };
            let exchange = async {
                let Ok(answer) = pools.send(&service, request, &sending).await else { return "failed" };
                read_off(answer.into_body()).await
            };
            tokio::time::timeout(EXCHANGE_TIME, exchange).await.unwrap_or("failed")
        }
    }
}

/// Reads an answer's body, so that its connection can be used again; one that is too long is left.
async fn read_off<B: Body<Data = Bytes> + Unpin>(mut body: B) -> &'static str {
    let mut read = 0_usize;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame {
            Ok(frame) => read = read.saturating_add(frame.data_ref().map_or(0, Bytes::len)),
            Err(_) => return "failed",
        }
        if read > ANSWER_BYTES {
            break;
        }
    }
    "answered"
}

/// What is left of a head without anything that would let its reader act as the client.
fn without_credentials(inbound: &Inbound, mirror: &config::Mirror, own: &Backend) -> Inbound {
    const CREDENTIALS: [HeaderName; 5] = [
        header::AUTHORIZATION,
        HeaderName::from_static("x-api-key"),
        HeaderName::from_static("api-key"),
        HeaderName::from_static("x-csrf-token"),
        HeaderName::from_static("x-xsrf-token"),
    ];
    let mut headers = inbound.headers.clone();
    drop_all(&mut headers, &CREDENTIALS);
    if !mirror.cookies {
        drop_all(&mut headers, &[header::COOKIE]);
    }
    // What the route's own upstream would get in its place is not the mirror's either.
    let told = own.service.credential().map(|(name, _)| name.clone());
    let assertion = own.upstream.assertion.as_ref().map(|assertion| assertion.header.clone());
    drop_all(&mut headers, &told.into_iter().chain(assertion).collect::<Vec<_>>());
    Inbound {
        method: inbound.method.clone(),
        version: inbound.version,
        scheme: inbound.scheme,
        site: inbound.site.clone(),
        uri: inbound.uri.clone(),
        headers,
        overrides: inbound.overrides.clone(),
        authorization: SoleField::Absent,
        keys: Vec::new(),
        proof: SoleField::Absent,
        shown: None,
        origin: inbound.origin.clone(),
        te: crate::gateway::hygiene::Te::None,
        request_id: inbound.request_id.clone(),
        trace: inbound.trace.clone(),
        upgrade: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_copies_are_under_way_than_have_a_place() {
        let mirrors = Mirrors::default();
        let places: Vec<Place> = std::iter::from_fn(|| mirrors.enter()).collect();
        assert_eq!(places.len(), IN_FLIGHT);
        drop(places);
        assert!(mirrors.enter().is_some());
        assert_eq!(mirrors.0.get(), 0);
    }
}
