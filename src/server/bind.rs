//! Listening sockets: one for each worker on one port where the kernel spreads connections over them.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpStream;

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Bytes that the kernel may hold unsent for a client. Little, so that what a slow client takes is seen as it takes
/// it, and not only when megabytes of buffer have drained; 8 KiB are half of it, the step at which the socket says that
/// it takes more, and at the default `body_min_rate` such a step comes within `body_idle_timeout`.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 16 * 1024;

/// Binds `count` sockets to `address`, one a worker. `v6_only` keeps `[::]` from taking IPv4's connections, too.
///
/// # Errors
/// Whatever the system says; also when another process listens there.
pub(super) fn listeners(address: SocketAddr, count: usize, v6_only: bool) -> io::Result<Vec<TcpListener>> {
    if cfg!(target_os = "linux") { spread(address, count, v6_only) } else { share(address, count, v6_only) }
}

/// One socket each; the kernel spreads connections over them (SO_REUSEPORT).
fn spread(address: SocketAddr, count: usize, v6_only: bool) -> io::Result<Vec<TcpListener>> {
    // Without SO_REUSEPORT, so that a port on which another process listens is refused instead of shared with it.
    let probe = socket(address, v6_only)?;
    probe.bind(&address.into())?;
    let bound = probe.local_addr()?.as_socket().unwrap_or(address);
    drop(probe);
    (0..count)
        .map(|_| {
            let socket = socket(bound, v6_only)?;
            #[cfg(unix)]
            socket.set_reuse_port(true)?;
            listen(socket, bound)
        })
        .collect()
}

/// One socket for all, where the kernel would give everything to the last one.
fn share(address: SocketAddr, count: usize, v6_only: bool) -> io::Result<Vec<TcpListener>> {
    let first = listen(socket(address, v6_only)?, address)?;
    let mut sockets = (1..count).map(|_| first.try_clone()).collect::<io::Result<Vec<_>>>()?;
    sockets.push(first);
    Ok(sockets)
}

fn socket(address: SocketAddr, v6_only: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(v6_only)?;
    }
    Ok(socket)
}

fn listen(socket: Socket, address: SocketAddr) -> io::Result<TcpListener> {
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Sets up a client's socket. A socket that refuses an option is served all the same: the watch has its bounds.
pub(super) fn tune(tcp: &TcpStream, stall: Duration) {
    let socket = SockRef::from(tcp);
    let _ = socket.set_tcp_nodelay(true);
    #[cfg(target_os = "linux")]
    {
        let _ = socket.set_tcp_user_timeout(Some(stall));
        let _ = socket.set_tcp_notsent_lowat(UNSENT_BYTES);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = stall;
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    #[test]
    fn every_worker_gets_a_socket_on_the_same_port() {
        let sockets = listeners("127.0.0.1:0".parse().unwrap(), 3, false).unwrap();
        let ports: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
        assert_eq!(ports.len(), 3);
        assert!(ports.iter().all(|port| Some(port) == ports.first()));
    }

    #[test]
    fn a_port_on_which_another_listens_is_refused_even_where_it_could_be_shared() {
        let other = listeners("127.0.0.1:0".parse().unwrap(), 1, false).unwrap();
        let address = other.first().unwrap().local_addr().unwrap();
        assert_eq!(listeners(address, 1, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
