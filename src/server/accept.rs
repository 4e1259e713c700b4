//! What stands before HTTP on a connection over a stream: accept ─ PROXY header ─ TLS. What is agreed there is who the client is, and
//! which version is spoken.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{HandshakeKind, server::Acceptor};
use tokio::{io::AsyncWriteExt, task::spawn_local, time::sleep};
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor, server::TlsStream};

use super::{
    Handshake, Refused,
    bind::{self, Listener},
    client_stream::{Accepted, Accepting, ClientStream, Queue},
    connection::{self, Draining, Serving, until_verdict},
    plan::PlanMode,
    proxy_header::{self, ProxyHeader},
    redirect::Redirect,
    socket::Socket,
    tls::ListenerTlsState,
    wire::Transport,
    worker::{Accepts, Held, Listening, Open, Settings, Shared},
};
use crate::{
    body::{
        AlpnChoice, Alternative, Arrival, Aside, ClientCertificate, ConnectionInfo, ConnectionWatch, Memory, Protocol,
        Serve, TlsInfo, Verdict,
    },
    config::Alpn,
};

/// After a failed accept, most likely for want of file descriptors, some connection has to end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The address of a peer that has none.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

/// Accepts until told to stop, and then what is in the queue, so that closing the socket resets nobody.
pub(super) async fn accept_all<S: Serve>(open: Open<S>, listening: Rc<Listening>, socket: Listener) {
    let shared = open.shared();
    let ended = || {
        listening.loops.set(listening.loops.get().saturating_sub(1));
        listening.turned.notify_waiters();
    };
    let Ok(listener) = Accepting::new(socket) else { return ended() };
    while listening.accepts.get() == Accepts::Yes {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => begin(shared, &listening, accepted),
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            // Registered before the next look, as nothing is waited for in between.
            () = listening.turned.notified() => {}
        }
    }
    if let Ok(queue) = listener.into_queue() {
        match listening.accepts.get() {
            Accepts::Paused => listening.paused.borrow_mut().push(queue),
            Accepts::Yes | Accepts::UntilEmpty => empty(shared, &listening, &queue),
        }
    }
    ended();
}

/// Serves what waits in a queue, and no more than waits in one at most: others may come as fast as these are taken out, and nothing
/// else has its turn meanwhile.
pub(super) fn empty<S: Serve>(shared: &Rc<Shared<S>>, listening: &Rc<Listening>, queue: &Queue) {
    for _ in 0..bind::BACKLOG {
        let Ok(accepted) = queue.accept() else { return };
        begin(shared, listening, accepted);
    }
}

/// Admits a connection and gives it a task of its own.
fn begin<S: Serve>(shared: &Rc<Shared<S>>, listening: &Rc<Listening>, (stream, peer): Accepted) {
    let settings = Rc::clone(&listening.settings.borrow());
    let peer = peer.map(canonical);
    let relays = &settings.proxy_protocol;
    let is_relay = peer.map_or(relays.unix, |peer| relays.has(peer.ip()));
    let admitted = match is_relay {
        true => shared.admission.admit_untold(),
        false => shared.admission.admit(peer.unwrap_or(NOBODY).ip()),
    };
    let permit = match admitted {
        Ok(permit) => permit,
        Err(why) => return shared.observer.connection_refused(&settings.name, why),
    };
    bind::tune_client(&stream, settings.http.bounds.write_stall_timeout);
    let watch = ConnectionWatch::new(Rc::clone(&settings.http.bounds), Instant::now());
    let draining = listening.draining();
    if draining.is_soft() {
        watch.last_answers();
    }
    let held = Held::new(shared, &settings.name, Rc::clone(&watch), Rc::clone(&draining), permit);
    let shared = Rc::clone(shared);
    let alternative = listening.http3.borrow().as_ref().map(|quic| quic.alternative());
    let arrival = if peer.is_some() { Arrival::Direct } else { Arrival::Unix };
    spawn_local(async move {
        let mut stream = stream;
        let from = match is_relay {
            // Boxed: few connections come from a relay.
            true => Box::pin(told(&shared, &settings, (&mut stream, peer), &watch, &held)).await,
            false => Ok((peer.unwrap_or(NOBODY), arrival)),
        };
        let verdict = match from {
            Ok(from) => converse(&shared, &settings, draining, stream, from, (watch, alternative)).await,
            Err(verdict) => verdict,
        };
        held.end(verdict);
    });
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Hears from a relay for whom it connects, and counts the connection for that client. What is not told within the time of
/// a handshake ends the connection.
async fn told<S>(
    shared: &Shared<S>,
    settings: &Settings,
    (stream, relay): (&mut ClientStream, Option<SocketAddr>),
    watch: &ConnectionWatch,
    held: &Held<S>,
) -> Result<(SocketAddr, Arrival), Option<Verdict>> {
    let refused = |why| shared.observer.connection_refused(&settings.name, why);
    let header = match until_verdict(watch, proxy_header::read(stream)).await {
        Ok(Ok(header)) => header,
        Ok(Err(fault)) => {
            tracing::debug!(listener = &*settings.name, relay = ?relay, %fault, "a relay is closed");
            refused(Refused::ProxyHeader);
            return Err(None);
        }
        Err(verdict) => {
            refused(Refused::ProxyHeader);
            return Err(Some(verdict));
        }
    };
    let (peer, arrival) = match header {
        ProxyHeader::Own => match relay {
            Some(relay) => (relay, Arrival::Direct),
            None => (NOBODY, Arrival::Unix),
        },
        ProxyHeader::Unknown => (NOBODY, Arrival::Relay { address: relay, tls: false }),
        ProxyHeader::Client { source, tls } => (canonical(source), Arrival::Relay { address: relay, tls }),
    };
    held.count_for(peer.ip()).map_err(|why| {
        refused(why);
        None
    })?;
    Ok((peer, arrival))
}

/// Finds out what is spoken on a connection, and speaks it.
async fn converse<S: Serve>(
    shared: &Rc<Shared<S>>,
    settings: &Settings,
    draining: Rc<Draining>,
    stream: ClientStream,
    (peer, arrival): (SocketAddr, Arrival),
    (watch, alternative): (Rc<ConnectionWatch>, Option<Rc<Alternative>>),
) -> Option<Verdict> {
    let local = stream.local().ok()?.map_or(NOBODY, canonical);
    let info = |tls: Option<TlsInfo>| {
        Rc::new(ConnectionInfo {
            peer,
            arrival,
            local,
            listener: Arc::clone(&settings.name),
            listener_index: settings.index,
            tls,
            watch: Rc::clone(&watch),
            memory: Memory::default(),
            alternative: alternative.clone().filter(|_| settings.tls.is_some()),
        })
    };
    let http = || Rc::clone(&settings.http);
    let socket = Socket::new(stream, Rc::clone(&watch));
    match (&settings.mode, &settings.tls) {
        (PlanMode::Tls(_), Some(tls)) => {
            // Boxed, so that the room of the handshake is given back when it is done.
            let (transport, agreed) = match Box::pin(handshake(shared, settings, tls, socket, &watch)).await {
                Ok(agreed) => agreed?,
                Err(verdict) => return Some(verdict),
            };
            let protocol = spoken(tls, agreed.alpn)?;
            let serving = Serving {
                service: Rc::clone(&shared.service),
                info: info(Some(agreed)),
                settings: http(),
                draining,
                challenges: None,
            };
            connection::serve(serving, Some(protocol), transport).await
        }
        // A listener without its certificates serves nobody.
        (PlanMode::Tls(_), None) => None,
        (PlanMode::Redirect(port), _) => {
            let service = Rc::clone(
                shared.redirects.borrow_mut().entry(*port).or_insert_with(|| Aside::new(Redirect::to_port(*port))),
            );
            let challenges = Some(Arc::clone(&shared.challenges));
            let serving = Serving { service, info: info(None), settings: http(), draining, challenges };
            connection::serve(serving, Some(Protocol::Http1), Transport::Plain(socket)).await
        }
        (mode @ (PlanMode::Cleartext | PlanMode::Http1), _) => {
            let protocol = (*mode == PlanMode::Http1).then_some(Protocol::Http1);
            let challenges = (*mode == PlanMode::Cleartext).then(|| Arc::clone(&shared.challenges));
            let service = Rc::clone(&shared.service);
            let serving = Serving { service, info: info(None), settings: http(), draining, challenges };
            connection::serve(serving, protocol, Transport::Plain(socket)).await
        }
    }
}

/// What ALPN chose is what is spoken. A client that offers nothing speaks HTTP/1.1, where that is offered.
fn spoken(tls: &ListenerTlsState, alpn: Option<AlpnChoice>) -> Option<Protocol> {
    match alpn {
        Some(AlpnChoice::H2) => Some(Protocol::Http2),
        Some(AlpnChoice::Http1) => Some(Protocol::Http1),
        // Offered over QUIC alone.
        Some(AlpnChoice::H3) => None,
        None => tls.plan().alpn.contains(&Alpn::Http1).then_some(Protocol::Http1),
    }
}

async fn handshake<S>(
    shared: &Shared<S>,
    settings: &Settings,
    tls: &ListenerTlsState,
    socket: Socket,
    watch: &ConnectionWatch,
) -> Result<Option<(Transport, TlsInfo)>, Verdict> {
    let agreed = match shared.challenges.expect_handshakes() {
        false => {
            until_verdict(watch, TlsAcceptor::from(tls.config()).accept(socket)).await.map(|agreed| agreed.map(Some))
        }
        true => until_verdict(watch, Box::pin(accept_or_show(shared, tls, socket))).await,
    };
    let (outcome, result) = match agreed {
        Err(verdict) => (Handshake::TimedOut, Err(verdict)),
        Ok(Err(_)) => (Handshake::Failed, Ok(None)),
        // A certificate authority has seen what it wanted to.
        Ok(Ok(None)) => (Handshake::Done, Ok(None)),
        Ok(Ok(Some(stream))) => {
            let session = stream.get_ref().1;
            let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
            if resumed && !session.peer_certificates().is_none_or(|chain| tls.judges_well(chain)) {
                shared.observer.handshake(&settings.name, Handshake::Failed);
                return Ok(None);
            }
            let info = TlsInfo {
                version: match session.protocol_version() {
                    Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
                    _ => "TLSv1.3",
                },
                sni: session.server_name().map(|name| name.to_ascii_lowercase().into()),
                alpn: session.alpn_protocol().map(|chosen| match chosen {
                    b"h2" => AlpnChoice::H2,
                    _ => AlpnChoice::Http1,
                }),
                client_certificate: session
                    .peer_certificates()
                    .and_then(|chain| ClientCertificate::new(chain.iter().map(AsRef::as_ref))),
            };
            (Handshake::Done, Ok(Some((Transport::Tls(Box::new(stream)), info))))
        }
    };
    shared.observer.handshake(&settings.name, outcome);
    result
}

/// Takes a handshake, or shows the certificate of a challenge to an authority that asks for it; then there is no more to say.
async fn accept_or_show<S>(
    shared: &Shared<S>,
    tls: &ListenerTlsState,
    socket: Socket,
) -> io::Result<Option<TlsStream<Socket>>> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
    let hello = start.client_hello();
    let Some(challenge) = shared.challenges.handshake(hello.server_name(), hello.alpn()) else {
        return start.into_stream(tls.config()).await.map(Some);
    };
    let mut shown = start.into_stream(challenge).await?;
    shown.shutdown().await?;
    Ok(None)
}
