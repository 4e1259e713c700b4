//! Listening sockets: one for each worker on one port where the kernel spreads connections over them, or one for all.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::net::TcpStream;

use super::client_stream::ClientStream;
use crate::config::ListenerAddress;

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
pub(super) const BACKLOG: i32 = 4096;

/// Bytes that the kernel may hold unsent for a client. Little, so that what a slow client takes is seen as it takes
/// it, and not only when megabytes of buffer have drained; 8 KiB are half of it, the step at which the socket says that
/// it takes more, and at the default `body_min_rate` such a step comes within `body_idle_timeout`.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 16 * 1024;

/// A listening socket of one worker.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A listener's sockets, one a worker.
pub(super) struct Bound {
    pub(super) sockets: Vec<Listener>,
    /// Where they really listen.
    pub(super) local: ListenerAddress,
    /// The file of a Unix socket.
    pub(super) file: Option<SocketFile>,
}

/// Takes over sockets that somebody else has bound to `address`. The file of a Unix socket stays theirs until it is
/// [adopted](SocketFile::adopt): should nothing come of it, they serve on.
pub(super) fn inherited(address: &ListenerAddress, mut sockets: Vec<Listener>, mode: u32) -> io::Result<Bound> {
    let local = sockets.first().map_or_else(|| Ok(address.clone()), |socket| socket.local(address))?;
    let file = match address {
        ListenerAddress::Unix(path) => match SocketFile::at(path) {
            Ok(file) => {
                file.give_away(true);
                Some(file)
            }
            // Somebody has removed it: whoever waits in the queues is served, and who comes finds another socket.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (socket, file) = unix(path, mode)?;
                sockets.push(Listener::Unix(socket));
                Some(file)
            }
            Err(error) => return Err(error),
        },
        ListenerAddress::Socket(_) | ListenerAddress::Systemd(_) => None,
    };
    Ok(Bound { sockets, local, file })
}

/// Binds `count` sockets to `address`, one a worker. `v6_only` keeps `[::]` from taking IPv4's connections, too;
/// `mode` is of a Unix socket's file.
///
/// # Errors
/// Whatever the system says; also when another process listens there.
pub(super) fn listeners(address: &ListenerAddress, count: usize, v6_only: bool, mode: u32) -> io::Result<Bound> {
    match address {
        ListenerAddress::Socket(address) => {
            let sockets = tcp(*address, count, v6_only)?;
            let local = sockets.first().map_or(Ok(*address), TcpListener::local_addr)?;
            let sockets = sockets.into_iter().map(Listener::Tcp).collect();
            Ok(Bound { sockets, local: local.into(), file: None })
        }
        ListenerAddress::Unix(path) => {
            let (first, file) = unix(path, mode)?;
            let mut sockets =
                (1..count).map(|_| first.try_clone().map(Listener::Unix)).collect::<io::Result<Vec<_>>>()?;
            sockets.push(Listener::Unix(first));
            Ok(Bound { sockets, local: address.clone(), file: Some(file) })
        }
        ListenerAddress::Systemd(_) => {
            Err(io::Error::new(io::ErrorKind::NotFound, "systemd has handed over no socket of this name"))
        }
    }
}

/// Binds `count` UDP sockets to `address`, one a worker, for QUIC. Where the kernel does not spread packets over several,
/// there is one, and one worker serves it.
///
/// # Errors
/// As [`listeners`].
pub(super) fn datagrams(address: SocketAddr, count: usize, v6_only: bool) -> io::Result<Vec<UdpSocket>> {
    let socket = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(v6_only)?;
        }
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    // As for TCP: a port that another process has is refused instead of shared with it.
    let probe = socket()?;
    probe.bind(&address.into())?;
    if !cfg!(target_os = "linux") {
        return Ok(vec![probe.into()]);
    }
    drop(probe);
    (0..count)
        .map(|_| {
            let socket = socket()?;
            #[cfg(unix)]
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            Ok(socket.into())
        })
        .collect()
}

fn tcp(address: SocketAddr, count: usize, v6_only: bool) -> io::Result<Vec<TcpListener>> {
    if cfg!(target_os = "linux") { spread(address, count, v6_only) } else { share(address, count, v6_only) }
}

/// One Unix socket for all workers: the kernel spreads no connections over several. A file that is left of a process that is
/// gone gives way; one on which somebody answers does not, nor does anything that is no socket.
fn unix(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something that is no socket"));
        }
        Ok(_) if is_answered(path)? => return Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Nobody can connect before `listen`, so that the mode holds from the first connection on.
    let file = SocketFile::at(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    Ok((socket.into(), file))
}

/// Whether somebody listens there. Who has a full queue would keep us waiting, and does listen.
fn is_answered(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    Ok(!socket.connect(&SockAddr::unix(path)?).is_err_and(refused))
}

/// The file of a Unix socket that we made: removed when it is dropped, unless another has taken its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    place: (u64, u64),
    /// Another process has it now.
    given_away: AtomicBool,
}

impl SocketFile {
    /// The file of the socket that was just bound there.
    fn at(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), place: (found.dev(), found.ino()), given_away: AtomicBool::new(false) })
    }

    fn is_ours(&self) -> bool {
        !self.given_away.load(Ordering::Relaxed)
            && fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.place)
    }

    /// Leaves it to another process, or takes it back.
    pub(super) fn give_away(&self, away: bool) {
        self.given_away.store(away, Ordering::Relaxed);
    }

    /// It is ours from now on, whoever bound it.
    pub(super) fn adopt(&self, mode: u32) {
        self.give_away(false);
        self.set_mode(mode);
    }

    /// Lets others connect, or no longer.
    pub(super) fn set_mode(&self, mode: u32) {
        if self.is_ours() {
            // A mode that cannot be changed is the one before, which the operator chose as well.
            let _ = fs::set_permissions(&self.path, fs::Permissions::from_mode(mode));
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_ours() {
            let _ = fs::remove_file(&self.path);
        }
    }
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

/// Sets up a client's connection, where there is something to set up.
pub(super) fn tune_client(stream: &ClientStream, stall: Duration) {
    match stream {
        ClientStream::Tcp(tcp) => tune(tcp, stall),
        ClientStream::Unix(_) => {}
    }
}

/// Sets up a client's socket. A socket that refuses an option is served all the same: the watch has its bounds.
fn tune(tcp: &TcpStream, stall: Duration) {
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
        let sockets = tcp("127.0.0.1:0".parse().unwrap(), 3, false).unwrap();
        let ports: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
        assert_eq!(ports.len(), 3);
        assert!(ports.iter().all(|port| Some(port) == ports.first()));
    }

    #[test]
    fn a_port_on_which_another_listens_is_refused_even_where_it_could_be_shared() {
        let other = tcp("127.0.0.1:0".parse().unwrap(), 1, false).unwrap();
        let address = other.first().unwrap().local_addr().unwrap();
        assert_eq!(tcp(address, 1, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_unix_sockets_file_has_its_mode_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.sock");
        let address = ListenerAddress::Unix(path.clone());
        let bound = listeners(&address, 2, false, 0o600).unwrap();
        assert_eq!((bound.sockets.len(), fs::metadata(&path).unwrap().mode() & 0o777), (2, 0o600));
        assert_eq!(listeners(&address, 1, false, 0o600).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        bound.file.as_ref().unwrap().set_mode(0o666);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o666);
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn only_a_socket_on_which_nobody_answers_gives_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.sock");
        let address = ListenerAddress::Unix(path.clone());
        // What is left of a process that was killed.
        drop(UnixListener::bind(&path).unwrap());
        let bound = listeners(&address, 1, false, 0o600).unwrap();
        // Another has taken its place: it is not ours to remove.
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(bound);
        assert!(path.exists());
        drop(other);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "a file of somebody").unwrap();
        assert_eq!(listeners(&address, 1, false, 0o600).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        assert!(path.exists());
    }
}
