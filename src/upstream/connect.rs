//! From a target to a connection that speaks HTTP: resolve, TCP, an introduction, TLS, all within one deadline.

use std::{
    cell::Cell,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http_body::Body;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;

use super::{
    ahead::Ahead,
    fault::{BoxError, ConnectFault, UpstreamFault},
    http1::Io,
    introduction::{self, Introduced},
    names::Found,
    sending::Sending,
    shared::Shared,
    target::{Place, Target, TargetTls},
    tls::Offer,
};
use crate::{config::UpstreamProtocol, cork::Corked};

/// A silent connection is probed after a minute, so that a peer that vanished without a word is found out even while an
/// answer is being streamed.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// The address of one target that connected last, as one worker knows it: `localhost` may have two families of which one is
/// served.
#[derive(Debug, Default)]
pub(super) struct Addresses(Cell<Option<IpAddr>>);

/// What a connection is wanted for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// By when it must stand.
    pub(super) deadline: Instant,
    /// What for.
    pub(super) purpose: Purpose,
}

/// What is special about the request that a connection is for. Most have nothing special.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Purpose {
    /// For whom it is, where the target is told.
    pub(super) introduced: Option<Introduced>,
    /// Whether it may switch protocols, which HTTP/1.1 alone can.
    pub(super) upgrade: bool,
}

impl Purpose {
    /// What is special about a request.
    pub(super) const fn of(sending: &Sending) -> Self {
        Self { introduced: sending.introduced, upgrade: sending.upgrade }
    }
}

/// A connection, by what is spoken on it.
pub(super) enum Opened<B> {
    /// HTTP/1.1, for one request at a time.
    Own(Box<dyn Io>),
    /// HTTP/2.
    Shared(Shared<B>),
}

/// Connects to a target; `ahead` is for where it speaks HTTP/2.
///
/// Each address of a name is tried in turn, with an equal share of the time that is left, so that one that swallows
/// packets does not keep the others from being tried (RFC 8305 without the race).
pub(super) async fn connect<B>(
    target: &Target,
    addresses: &Addresses,
    wanted: Wanted,
    ahead: Ahead,
) -> Result<Opened<B>, UpstreamFault>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let Wanted { deadline, purpose: Purpose { introduced, upgrade } } = wanted;
    let unreachable = |source| UpstreamFault::Unreachable { target: target.authority().to_owned(), source };
    let protocol = if upgrade { UpstreamProtocol::Http1 } else { target.link.protocol };
    // Without TLS nothing is agreed: one side knows.
    let knows_http2 = protocol == UpstreamProtocol::Http2;
    let connecting = async {
        let mut stream = match &target.place {
            Place::Unix(path) => {
                let mut stream = UnixStream::connect(path).await.map_err(ConnectFault::Io)?;
                introduce(&mut stream, target, introduced).await?;
                return Ok(Socket::Unix(stream));
            }
            Place::Address(_) | Place::Name(..) => tcp(target, addresses, deadline).await?,
        };
        introduce(&mut stream, target, introduced).await?;
        Ok(Socket::Tcp(stream))
    };
    let socket = timeout_at(deadline, connecting).await.unwrap_or(Err(ConnectFault::Timeout)).map_err(unreachable)?;
    match (socket, &target.tls) {
        (Socket::Unix(stream), _) => speak(Corked::new(stream), knows_http2, ahead).await,
        (Socket::Tcp(stream), None) => speak(Corked::new(stream), knows_http2, ahead).await,
        (Socket::Tcp(stream), Some(tls)) => {
            let tls_fault = |source| UpstreamFault::Tls { target: target.authority().to_owned(), source };
            let stream = timeout_at(deadline, handshake(tls, protocol, stream))
                .await
                .map_err(|_| unreachable(ConnectFault::Timeout))?
                .map_err(tls_fault)?;
            let agreed_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            if knows_http2 && !agreed_http2 {
                let why = "the target does not choose HTTP/2 (ALPN `h2`), and `protocol` is `http2`";
                return Err(tls_fault(io::Error::new(io::ErrorKind::Unsupported, why)));
            }
            speak(stream, agreed_http2, ahead).await
        }
    }
}

/// A stream before anything is spoken on it.
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Says for whom the connection is, where the target expects that.
async fn introduce(
    stream: &mut (impl AsyncWrite + Unpin),
    target: &Target,
    introduced: Option<Introduced>,
) -> Result<(), ConnectFault> {
    let Some(version) = target.link.introduction else { return Ok(()) };
    stream.write_all(&introduction::header(version, introduced)).await.map_err(ConnectFault::Io)
}

async fn tcp(target: &Target, addresses: &Addresses, deadline: Instant) -> Result<TcpStream, ConnectFault> {
    let (name, port) = match &target.place {
        Place::Address(address) => return dial(*address, deadline).await,
        Place::Name(name, port) => (name, *port),
        Place::Unix(_) => return Err(ConnectFault::Io(io::ErrorKind::Unsupported.into())),
    };
    let places = name.places(deadline).await?;
    let mut last = ConnectFault::Resolve(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for (position, ip) in addresses.in_turn(&places).enumerate() {
        let left = u32::try_from(places.len().saturating_sub(position)).unwrap_or(u32::MAX).max(1);
        let now = Instant::now();
        match dial(SocketAddr::new(ip, port), now + deadline.saturating_duration_since(now) / left).await {
            Ok(stream) => {
                addresses.0.set(Some(ip));
                return Ok(stream);
            }
            Err(fault) => last = fault,
        }
    }
    Err(last)
}

async fn dial(address: SocketAddr, deadline: Instant) -> Result<TcpStream, ConnectFault> {
    let stream = timeout_at(deadline, TcpStream::connect(address))
        .await
        .map_err(|_| ConnectFault::Timeout)?
        .map_err(ConnectFault::Io)?;
    stream.set_nodelay(true).map_err(ConnectFault::Io)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(ConnectFault::Io)?;
    Ok(stream)
}

async fn handshake(
    tls: &TargetTls,
    protocol: UpstreamProtocol,
    stream: TcpStream,
) -> io::Result<tokio_rustls::client::TlsStream<Corked<TcpStream>>> {
    let offer = match protocol {
        UpstreamProtocol::Http1 => Offer::Http1,
        UpstreamProtocol::Http2 => Offer::Http2,
        UpstreamProtocol::Auto => Offer::Either,
    };
    TlsConnector::from(tls.trust.client(offer)).connect(tls.name.clone(), Corked::new(stream)).await
}

/// Starts HTTP on a stream.
async fn speak<B, S>(stream: S, http2: bool, ahead: Ahead) -> Result<Opened<B>, UpstreamFault>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    if http2 {
        return Shared::speak(stream, ahead).await.map(Opened::Shared);
    }
    Ok(Opened::Own(Box::new(stream)))
}

impl Addresses {
    /// The one that connected last, if it is still one of them, and then the others.
    fn in_turn<'p>(&self, places: &'p [Found]) -> impl Iterator<Item = IpAddr> + use<'p> {
        let first = self.0.get().filter(|last| places.iter().any(|place| place.ip == *last));
        first.into_iter().chain(places.iter().map(|place| place.ip).filter(move |ip| Some(*ip) != first))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that fails should panic")]

    use super::*;

    #[test]
    fn the_address_that_connected_is_tried_first_the_next_time() {
        let [one, two, gone]: [IpAddr; 3] = ["::1", "127.0.0.1", "192.0.2.1"].map(|address| address.parse().unwrap());
        let places = [one, two].map(|ip| Found { ip, port: None, weight: 1, heaviest: 1, priority: 0 });
        let addresses = Addresses::default();
        for (last, expected) in [(None, [one, two]), (Some(two), [two, one]), (Some(gone), [one, two])] {
            addresses.0.set(last);
            assert_eq!(addresses.in_turn(&places).collect::<Vec<_>>(), expected);
        }
    }
}
