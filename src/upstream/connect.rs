//! From a target to a connection that speaks HTTP/1.1: resolve, TCP, TLS, all within one deadline.

use std::{cell::RefCell, io, net::SocketAddr, rc::Rc, time::Duration};

use bytes::Bytes;
use http_body::Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;

use super::{
    connection::Sender,
    drive::Driven,
    fault::{BoxError, ConnectFault, UpstreamFault},
    small_writes::SmallWrites,
    target::{Place, Target, TargetTls},
};

/// How long an address is believed: names of services that move (containers) move within seconds, and asking for every
/// connection would load the resolver.
const ADDRESSES_FRESH: Duration = Duration::from_secs(30);
/// How long an old address still serves while the resolver fails: a broken resolver should not be a broken service.
const ADDRESSES_STALE: Duration = Duration::from_secs(300);
/// The largest head of an answer: eight times what common servers send at most.
const HEAD_BYTES: usize = 64 * 1024;
/// What is read ahead of the client, per connection, when it reads slower than the upstream writes.
const BUFFER_BYTES: usize = 128 * 1024;
/// A silent connection is probed after a minute, so that a peer that vanished without a word is found out even while an
/// answer is being streamed.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// The addresses of one target, as one worker knows them.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    known: RefCell<Option<Known>>,
    /// Held while asking, so that a burst of new connections asks once.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct Known {
    at: Instant,
    /// The one that connected last is first.
    addresses: Rc<[SocketAddr]>,
}

/// Connects to a target by `deadline`.
///
/// Each address of a name is tried in turn, with an equal share of the time that is left, so that one that swallows
/// packets does not keep the others from being tried (RFC 8305 without the race).
pub(super) async fn connect<B>(
    target: &Target,
    addresses: &Addresses,
    deadline: Instant,
) -> Result<(Sender<B>, Driven), UpstreamFault>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let unreachable = |source| UpstreamFault::Unreachable { target: target.authority().to_owned(), source };
    let stream = timeout_at(deadline, tcp(target, addresses, deadline))
        .await
        .unwrap_or(Err(ConnectFault::Timeout))
        .map_err(unreachable)?;
    match &target.tls {
        None => speak(stream).await,
        Some(tls) => {
            let stream = timeout_at(deadline, handshake(tls, stream))
                .await
                .map_err(|_| unreachable(ConnectFault::Timeout))?
                .map_err(|source| UpstreamFault::Tls { target: target.authority().to_owned(), source })?;
            speak(stream).await
        }
    }
}

async fn tcp(target: &Target, addresses: &Addresses, deadline: Instant) -> Result<TcpStream, ConnectFault> {
    let (name, port) = match &target.place {
        Place::Address(address) => return dial(*address, deadline).await,
        Place::Name(name, port) => (name, *port),
    };
    let candidates = addresses.of(name, port).await?;
    let mut last = ConnectFault::Resolve(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for (position, address) in candidates.iter().enumerate() {
        let left = u32::try_from(candidates.len().saturating_sub(position)).unwrap_or(u32::MAX).max(1);
        let now = Instant::now();
        match dial(*address, now + deadline.saturating_duration_since(now) / left).await {
            Ok(stream) => {
                addresses.prefer(position);
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

async fn handshake(tls: &TargetTls, stream: TcpStream) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    TlsConnector::from(std::sync::Arc::clone(&tls.trust.client)).connect(tls.name.clone(), stream).await
}

/// Starts HTTP/1.1 on a stream. Whoever uses the connection drives it.
async fn speak<B, S>(stream: S) -> Result<(Sender<B>, Driven), UpstreamFault>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    // What hyper leaves off by default stays off: folded lines, spaces before the colon, HTTP/0.9, invalid fields.
    // Its limit of 100 fields stays too, as a higher one costs two allocations for every answer.
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(BUFFER_BYTES)
        .max_header_size(HEAD_BYTES)
        .handshake(TokioIo::new(SmallWrites(stream)))
        .await
        .map_err(UpstreamFault::from_hyper)?;
    // Whether a service may switch is for the request to say; here it costs nothing.
    Ok((sender, Box::pin(connection.with_upgrades())))
}

impl Addresses {
    /// The addresses of a name, from memory while they are fresh.
    async fn of(&self, name: &str, port: u16) -> Result<Rc<[SocketAddr]>, ConnectFault> {
        if let Some(known) = self.younger_than(ADDRESSES_FRESH) {
            return Ok(known);
        }
        let _one_at_a_time = self.asking.lock().await;
        if let Some(known) = self.younger_than(ADDRESSES_FRESH) {
            return Ok(known);
        }
        match lookup_host((name, port)).await {
            Ok(found) => {
                let addresses: Rc<[SocketAddr]> = found.collect();
                *self.known.borrow_mut() = Some(Known { at: Instant::now(), addresses: Rc::clone(&addresses) });
                Ok(addresses)
            }
            Err(error) => self.younger_than(ADDRESSES_STALE).ok_or(ConnectFault::Resolve(error)),
        }
    }

    fn younger_than(&self, age: Duration) -> Option<Rc<[SocketAddr]>> {
        let known = self.known.borrow();
        known.as_ref().filter(|known| known.at.elapsed() < age).map(|known| Rc::clone(&known.addresses))
    }

    /// Puts the address that connected first: `localhost` may have two families of which one is served.
    fn prefer(&self, position: usize) {
        if position == 0 {
            return;
        }
        if let Some(known) = self.known.borrow_mut().as_mut() {
            let mut addresses = known.addresses.to_vec();
            if position < addresses.len() {
                addresses.swap(0, position);
            }
            known.addresses = addresses.into();
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that fails should panic")]

    use super::*;

    #[test]
    fn the_address_that_connected_is_tried_first_the_next_time() {
        let [one, two]: [SocketAddr; 2] = ["[::1]:80", "127.0.0.1:80"].map(|address| address.parse().unwrap());
        let addresses = Addresses::default();
        addresses.prefer(1);
        let known = Known { at: Instant::now(), addresses: Rc::from([one, two]) };
        *addresses.known.borrow_mut() = Some(known);
        addresses.prefer(1);
        assert_eq!(*addresses.younger_than(ADDRESSES_FRESH).unwrap(), [two, one]);
        addresses.prefer(7);
        assert_eq!(*addresses.younger_than(ADDRESSES_FRESH).unwrap(), [two, one]);
    }
}
