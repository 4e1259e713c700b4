//! A listener's UDP sockets, one a worker: there at once, or when the process that hands over to this one has let go of the port.
//! Two processes on one port would take each other's packets.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::sleep;

use crate::server::bind;

/// How often a port is asked for that another process has. Its clients are served over TCP meanwhile.
const PERIOD: Duration = Duration::from_millis(200);

/// A port, and what was bound of it.
#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    workers: usize,
    v6_only: bool,
    bound: Mutex<Option<Vec<UdpSocket>>>,
}

/// One worker's share of a port.
#[derive(Debug, Clone)]
pub(in crate::server) struct UdpPort(Arc<Shared>);

impl UdpPort {
    /// Binds a socket for each of the workers. Where somebody else has the port that is a fault, unless it is to be `awaited`.
    ///
    /// # Errors
    /// Whatever the system says.
    pub(in crate::server) fn bind(
        address: SocketAddr,
        workers: usize,
        v6_only: bool,
        awaited: bool,
    ) -> io::Result<Self> {
        let bound = match bind::datagrams(address, workers, v6_only) {
            Ok(sockets) => Some(sockets),
            Err(error) if awaited && error.kind() == io::ErrorKind::AddrInUse => None,
            Err(error) => return Err(error),
        };
        Ok(Self(Arc::new(Shared { address, workers, v6_only, bound: Mutex::new(bound) })))
    }

    /// A worker's socket, when it is there; `None`: there is none for this worker.
    pub(super) async fn socket(&self) -> Option<UdpSocket> {
        loop {
            if let Some(socket) = self.ready() {
                return socket;
            }
            sleep(PERIOD).await;
        }
    }

    fn ready(&self) -> Option<Option<UdpSocket>> {
        let Shared { address, workers, v6_only, bound } = &*self.0;
        let mut bound = bound.lock().unwrap_or_else(PoisonError::into_inner);
        if bound.is_none() {
            *bound = bind::datagrams(*address, *workers, *v6_only).ok();
        }
        bound.as_mut().map(Vec::pop)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_another_has_is_refused_or_awaited() {
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap();
        assert_eq!(UdpPort::bind(address, 2, false, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let port = UdpPort::bind(address, 2, false, true).unwrap();
        assert!(port.ready().is_none());
        drop(other);
        let (first, second) = (port.ready().unwrap().unwrap(), port.ready().unwrap().unwrap());
        assert_eq!((first.local_addr().unwrap(), second.local_addr().unwrap()), (address, address));
        assert!(port.ready().unwrap().is_none());
    }
}
