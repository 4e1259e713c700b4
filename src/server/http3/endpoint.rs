//! A listener's UDP socket on one worker: which connections are let in, and their handshakes.
//!
//! Each worker has a socket of its own on the port (`SO_REUSEPORT`), and the kernel gives a client's packets to one of them
//! by its address and port. A connection therefore stays with its worker as long as its client's address stays, and ends
//! when that changes: migration (RFC 9000 §9) is declined in the handshake.

use std::{
    cell::{Cell, RefCell},
    io,
    net::{SocketAddr, UdpSocket},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderValue;
use quinn::{
    Connecting, Endpoint, EndpointConfig, IdleTimeout, Incoming, TokioRuntime, TransportConfig, VarInt,
    crypto::rustls::{HandshakeData, QuicServerConfig},
};
use rustls::pki_types::CertificateDer;
use tokio::{sync::Notify, task::spawn_local};

use super::{codes, connection, port::UdpPort};
use crate::{
    body::{
        AlpnChoice, Alternative, Arrival, Bounds, ClientCertificate, ConnectionInfo, ConnectionWatch, Memory, Serve,
        TlsInfo, Verdict,
    },
    server::{
        Handshake, Refused,
        connection::{Draining, Serving, until_verdict},
        settings::{CONNECTION_WINDOW, STREAM_WINDOW, STREAMS},
        worker::{Held, Listening, Open, Settings, Shared},
    },
};

/// RFC 9114 §3.1
const ALPN: &[u8] = b"h3";

/// Streams of the client's own that answer nothing: a control stream, two of QPACK's, and some that it means to be ignored
/// (RFC 9114 §6.2 asks for at least three).
const OWN_STREAMS: u32 = 8;

/// Of answers that a client has not acknowledged, on one connection: enough for 160 Mbit/s at 100 ms.
const SEND_WINDOW: u64 = 2 * 1024 * 1024;

/// Handshakes under way on one worker before a client has to show that it gets what is sent to its address (RFC 9000
/// §8.1.2). That takes it a round trip; until then a handshake costs its sender one packet and us a signature.
const HANDSHAKES: usize = 32;

/// Handshakes that are held back while others are begun; beyond, they are refused.
const WAITING_HANDSHAKES: usize = 256;

/// Bytes that may come for each of these, and for all of them, before they are begun.
const WAITING_BYTES: u64 = 16 * 1024;
const ALL_WAITING_BYTES: u64 = 1024 * 1024;

/// Of the kernel, so that a burst is not lost while the worker is at something else.
const SOCKET_BYTES: usize = 1024 * 1024;

/// What a listener does over QUIC, on one worker.
#[derive(Debug, Default)]
pub(in crate::server) struct Quic {
    pub(in crate::server) draining: RefCell<Rc<Draining>>,
    alternative: Rc<Alternative>,
    port: Cell<u16>,
    /// Whether the worker has what it takes.
    serves: Cell<bool>,
    stop: Notify,
}

impl Quic {
    /// What clients over TCP are told.
    pub(in crate::server) fn alternative(&self) -> Rc<Alternative> {
        Rc::clone(&self.alternative)
    }

    /// Has clients told that it is found on `port`, for a day (RFC 7838 §3, RFC 9114 §3.1.1): it is taken back by closing.
    pub(in crate::server) fn advertise(&self, port: u16) {
        self.port.set(port);
        if self.serves.get() {
            self.alternative.set(HeaderValue::try_from(format!("h3=\":{port}\"; ma=86400")).ok());
        }
    }

    fn serve(&self) {
        self.serves.set(true);
        self.advertise(self.port.get());
    }

    /// Lets nobody in from now on.
    pub(in crate::server) fn stop(&self) {
        self.serves.set(false);
        self.alternative.set(None);
        self.stop.notify_one();
    }
}

/// The TLS of a listener as QUIC has it, made anew when the listener's is another.
#[derive(Default)]
struct Crypto {
    made: RefCell<Option<(Arc<rustls::ServerConfig>, Rc<Bounds>)>>,
}

impl Crypto {
    /// The endpoint's configuration, if there is another than before.
    fn changed(&self, settings: &Settings) -> Option<quinn::ServerConfig> {
        let tls = settings.tls.as_ref()?.config();
        let bounds = &settings.http.bounds;
        let same = |(before, bounded): &(Arc<rustls::ServerConfig>, Rc<Bounds>)| {
            Arc::ptr_eq(before, &tls) && Rc::ptr_eq(bounded, bounds)
        };
        if self.made.borrow().as_ref().is_some_and(same) {
            return None;
        }
        let config = server_config(&tls, bounds)?;
        *self.made.borrow_mut() = Some((tls, Rc::clone(bounds)));
        Some(config)
    }
}

/// `None`: TLS without the suite that every QUIC handshake begins with.
fn server_config(tls: &rustls::ServerConfig, bounds: &Bounds) -> Option<quinn::ServerConfig> {
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    // Its requests could be replayed (RFC 8446 §8).
    tls.max_early_data_size = 0;
    let crypto = QuicServerConfig::try_from(tls).ok()?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(transport(bounds)))
        .migration(false)
        .max_incoming(WAITING_HANDSHAKES)
        .incoming_buffer_size(WAITING_BYTES)
        .incoming_buffer_size_total(ALL_WAITING_BYTES);
    Some(config)
}

fn transport(bounds: &Bounds) -> TransportConfig {
    let mut transport = TransportConfig::default();
    // A client that answers nothing for that long is gone, as over TCP; asked in time for it to answer.
    let silence = bounds.write_stall_timeout;
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(OWN_STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .max_idle_timeout(IdleTimeout::try_from(silence).ok())
        .keep_alive_interval(Some((silence / 3).max(Duration::from_millis(100))))
        .datagram_receive_buffer_size(None);
    transport
}

/// Lets connections in until it is told to stop, and then until those that are open have ended.
pub(in crate::server) async fn accept_all<S: Serve>(
    open: Open<S>,
    listening: Rc<Listening>,
    quic: Rc<Quic>,
    udp: UdpPort,
) {
    let socket = tokio::select! {
        socket = udp.socket() => socket,
        () = quic.stop.notified() => return,
    };
    // Where the kernel does not spread packets over sockets, one worker has the only one, and the others say where it is.
    let Some(socket) = socket else { return quic.serve() };
    let crypto = Crypto::default();
    let Some(endpoint) = begin(&crypto, &listening.settings.borrow(), socket) else { return };
    quic.serve();
    let shared = open.shared();
    let handshakes = Rc::new(Cell::new(0));
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            () = quic.stop.notified() => break,
        };
        let Some(incoming) = incoming else { break };
        let settings = Rc::clone(&listening.settings.borrow());
        if let Some(config) = crypto.changed(&settings) {
            endpoint.set_server_config(Some(config));
        }
        let draining = Rc::clone(&quic.draining.borrow());
        admit(shared, &settings, draining, incoming, (&endpoint, &handshakes));
    }
    // Whoever comes now is told at once, and finds its way over TCP.
    loop {
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => incoming.refuse(),
                None => break,
            },
            // The last packets of each have been sent, and its last ones read off.
            () = endpoint.wait_idle() => break,
        }
    }
}

fn begin(crypto: &Crypto, settings: &Settings, socket: UdpSocket) -> Option<Endpoint> {
    let config = crypto.changed(settings)?;
    let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(SOCKET_BYTES);
    let _ = socket2::SockRef::from(&socket).set_send_buffer_size(SOCKET_BYTES);
    let endpoint = Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime));
    endpoint.inspect_err(|error: &io::Error| tracing::error!(%error, "HTTP/3 cannot be served on a socket")).ok()
}

/// Admits a connection and gives it a task of its own.
fn admit<S: Serve>(
    shared: &Rc<Shared<S>>,
    settings: &Rc<Settings>,
    draining: Rc<Draining>,
    incoming: Incoming,
    (endpoint, handshakes): (&Endpoint, &Rc<Cell<usize>>),
) {
    let peer = incoming.remote_address();
    let is_proven = incoming.remote_address_validated();
    let is_full = handshakes.get() >= HANDSHAKES || !shared.admission.has_room_for(peer.ip());
    if !is_proven && is_full && incoming.may_retry() {
        // It may be answered to somebody who never asked: a small packet for a large one.
        let _ = incoming.retry();
        return;
    }
    // Who must say for whom it connects has no way to, here.
    if settings.proxy_protocol.has(peer.ip().to_canonical()) {
        incoming.refuse();
        return shared.observer.connection_refused(&settings.udp_name, Refused::ProxyHeader);
    }
    let admitted = match is_proven {
        true => shared.admission.admit(peer.ip()),
        false => shared.admission.admit_unproven(),
    };
    let permit = match admitted {
        Ok(permit) => permit,
        Err(why) => {
            incoming.refuse();
            return shared.observer.connection_refused(&settings.udp_name, why);
        }
    };
    let port = endpoint.local_addr().map_or(0, |address| address.port());
    let Ok(connecting) = incoming.accept() else {
        return shared.observer.handshake(&settings.udp_name, Handshake::Failed);
    };
    let watch = ConnectionWatch::new(Rc::clone(&settings.http.bounds), Instant::now());
    let held = Held::new(shared, &settings.udp_name, Rc::clone(&watch), Rc::clone(&draining), permit);
    let under_way = UnderWay::new(handshakes);
    let (shared, settings) = (Rc::clone(shared), Rc::clone(settings));
    spawn_local(async move {
        let verdict = converse(&shared, &settings, draining, (connecting, port, under_way), &held, watch).await;
        held.end(verdict);
    });
}

/// A handshake that is being made.
struct UnderWay(Rc<Cell<usize>>);

impl UnderWay {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get().saturating_add(1));
        Self(Rc::clone(count))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

async fn converse<S: Serve>(
    shared: &Rc<Shared<S>>,
    settings: &Settings,
    draining: Rc<Draining>,
    (connecting, port, under_way): (Connecting, u16, UnderWay),
    held: &Held<S>,
    watch: Rc<ConnectionWatch>,
) -> Option<Verdict> {
    let (outcome, result) = match until_verdict(&watch, connecting).await {
        Ok(Ok(connection)) => (Handshake::Done, Ok(Some(connection))),
        Ok(Err(_)) => (Handshake::Failed, Ok(None)),
        Err(verdict) => (Handshake::TimedOut, Err(verdict)),
    };
    drop(under_way);
    shared.observer.handshake(&settings.udp_name, outcome);
    let connection = match result {
        Ok(connection) => connection?,
        Err(verdict) => return Some(verdict),
    };
    // A session that was resumed has brought its certificate with it, judged by nobody since; quinn does not say whether it was.
    let judged = |chain: Vec<CertificateDer<'static>>| settings.tls.as_ref().is_some_and(|tls| tls.judges_well(&chain));
    if !peer_chain(&connection).is_none_or(judged) {
        connection.close(VarInt::from_u32(0), b"");
        return None;
    }
    let peer = connection.remote_address();
    // A handshake that was made shows it (RFC 9000 §8.1).
    if let Err(why) = held.count_for(peer.ip()) {
        connection.close(codes::EXCESSIVE_LOAD, b"");
        shared.observer.connection_refused(&settings.udp_name, why);
        return None;
    }
    let local = connection.local_ip()?;
    let info = Rc::new(ConnectionInfo {
        peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
        local: SocketAddr::new(local.to_canonical(), port),
        arrival: Arrival::Direct,
        listener: Arc::clone(&settings.name),
        listener_index: settings.index,
        tls: Some(agreed(&connection)),
        watch,
        memory: Memory::default(),
        alternative: None,
    });
    let service = Rc::clone(&shared.service);
    let serving = Serving { service, info, settings: Rc::clone(&settings.http), draining, challenges: None };
    connection::serve(serving, connection).await
}

/// The certificates that the client showed, now or when its session began.
fn peer_chain(connection: &quinn::Connection) -> Option<Vec<CertificateDer<'static>>> {
    connection.peer_identity().and_then(|chain| chain.downcast().ok()).map(|chain| *chain)
}

/// What the handshake agreed: TLS 1.3 always (RFC 9001 §4.2).
fn agreed(connection: &quinn::Connection) -> TlsInfo {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let chain = peer_chain(connection);
    TlsInfo {
        version: "TLSv1.3",
        sni: data.and_then(|data| data.server_name.as_ref().map(|name| name.to_ascii_lowercase().into())),
        alpn: Some(AlpnChoice::H3),
        client_certificate: chain.and_then(|chain| ClientCertificate::new(chain.iter().map(AsRef::as_ref))),
    }
}
