//! Listening sockets that somebody else opened: systemd (`address: systemd:NAME`), or the process that hands over to this one.
//! Connections that wait in their queues are served like any other, so nothing that a client sees happens when they change hands.

use std::{
    fmt, io,
    net::TcpListener,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixListener,
    },
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{bind::Listener, worker::ListenerKey};
use crate::config::ListenerAddress;

/// What kind of socket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
    /// A TCP listener.
    Tcp,
    /// A listener on a Unix socket.
    Unix,
}

impl SocketKind {
    /// Its name on the wire of a hand-over.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
        }
    }

    /// The kind with a name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Tcp, Self::Unix].into_iter().find(|kind| kind.name() == name)
    }
}

/// Which listener a socket is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SocketName {
    /// Whose listener: the workers', or the admin's.
    pub server: Box<str>,
    /// Its address as configured.
    pub address: Box<str>,
    /// How many listeners before it have the same address.
    pub nth: usize,
}

/// A listening socket that can change hands.
#[derive(Debug)]
pub struct HandedSocket {
    /// Which listener it is of.
    pub name: SocketName,
    /// What it is.
    pub kind: SocketKind,
    /// The socket.
    pub socket: OwnedFd,
}

impl SocketName {
    pub(super) fn of(server: &str, (address, nth): &ListenerKey) -> Self {
        Self { server: server.into(), address: address.to_string().into(), nth: *nth }
    }
}

impl Listener {
    pub(super) fn another(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(listener) => listener.try_clone().map(Self::Tcp),
            Self::Unix(listener) => listener.try_clone().map(Self::Unix),
        }
    }

    pub(super) fn kind(&self) -> SocketKind {
        match self {
            Self::Tcp(_) => SocketKind::Tcp,
            Self::Unix(_) => SocketKind::Unix,
        }
    }

    fn of(socket: OwnedFd, kind: SocketKind) -> io::Result<Self> {
        let listener = match kind {
            SocketKind::Tcp => Self::Tcp(TcpListener::from(socket)),
            SocketKind::Unix => Self::Unix(UnixListener::from(socket)),
        };
        match &listener {
            Self::Tcp(listener) => listener.set_nonblocking(true)?,
            Self::Unix(listener) => listener.set_nonblocking(true)?,
        }
        Ok(listener)
    }

    /// Where it really listens, by the address that it was asked for under.
    pub(super) fn local(&self, asked: &ListenerAddress) -> io::Result<ListenerAddress> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(ListenerAddress::Socket),
            Self::Unix(_) => Ok(asked.clone()),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

/// The sockets that this process was given, until a listener takes them.
#[derive(Default)]
pub struct Inherited {
    handed: Mutex<Vec<HandedSocket>>,
    /// By the name that the unit gives them. They are kept, for listeners that a reload brings.
    activated: Vec<(Box<str>, Listener)>,
    taken: Mutex<Vec<SocketName>>,
}

impl fmt::Debug for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inherited").field("activated", &self.activated.len()).finish_non_exhaustive()
    }
}

impl Inherited {
    /// These, and what another process of ours has open.
    #[must_use]
    pub fn with(self, sockets: Vec<HandedSocket>) -> Self {
        lock(&self.handed).extend(sockets);
        self
    }

    /// What systemd has opened for this process (sd_listen_fds(3)). To be asked once, before there are other threads: it takes what it
    /// finds out of the environment.
    pub fn from_environment() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned).collect::<Vec<_>>().into_iter();
        let mut given = listenfd::ListenFd::from_env();
        let mut activated = Vec::new();
        for index in 0..given.len() {
            // sd_listen_fds_with_names(3): without names all are `unknown`.
            let name = names.next().filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned());
            let tcp =
                given.take_tcp_listener(index).ok().flatten().map(|tcp| Listener::of(tcp.into(), SocketKind::Tcp));
            let listener = tcp.or_else(|| {
                let unix = given.take_unix_listener(index).ok().flatten()?;
                Some(Listener::of(unix.into(), SocketKind::Unix))
            });
            match listener {
                Some(Ok(listener)) => activated.push((name.into(), listener)),
                Some(Err(_)) | None => {
                    tracing::warn!(name, "systemd handed over something that is no listening socket")
                }
            }
        }
        Self { activated, ..Self::default() }
    }

    /// What systemd has opened, for a gateway that starts anew in this process.
    #[must_use]
    pub fn again(&self) -> Self {
        let another = |(name, listener): &(Box<str>, Listener)| Some((name.clone(), listener.another().ok()?));
        Self { activated: self.activated.iter().filter_map(another).collect(), ..Self::default() }
    }

    /// The names that systemd gave.
    pub fn activated(&self) -> impl Iterator<Item = &str> {
        self.activated.iter().map(|(name, _)| &**name)
    }

    /// The sockets of a listener; empty where nobody opened any for it.
    pub(super) fn take(&self, server: &str, key: &ListenerKey) -> io::Result<Vec<Listener>> {
        let name = SocketName::of(server, key);
        let mut handed = lock(&self.handed);
        let (ours, others): (Vec<_>, Vec<_>) = handed.drain(..).partition(|socket| socket.name == name);
        *handed = others;
        drop(handed);
        let mut listeners =
            ours.into_iter().map(|one| Listener::of(one.socket, one.kind)).collect::<io::Result<Vec<_>>>()?;
        if let (true, (ListenerAddress::Systemd(wanted), 0)) = (listeners.is_empty(), key) {
            let named = self.activated.iter().filter(|(name, _)| **name == **wanted);
            listeners = named.map(|(_, listener)| listener.another()).collect::<io::Result<Vec<_>>>()?;
        }
        if !listeners.is_empty() {
            lock(&self.taken).push(name);
        }
        Ok(listeners)
    }

    /// The listeners whose sockets have been taken.
    pub fn taken(&self) -> Vec<SocketName> {
        lock(&self.taken).clone()
    }
}

/// Shares sockets out among workers: each has at least one, and each socket a worker.
pub(super) fn share_out(sockets: Vec<Listener>, workers: usize) -> io::Result<Vec<Vec<Listener>>> {
    let mut shares: Vec<Vec<Listener>> = (0..workers).map(|_| Vec::new()).collect();
    let count = sockets.len();
    for place in count..workers {
        if let (Some(share), Some(socket)) = (shares.get_mut(place), sockets.get(place % count.max(1))) {
            share.push(socket.another()?);
        }
    }
    for (place, socket) in sockets.into_iter().enumerate() {
        if let Some(share) = shares.get_mut(place % workers.max(1)) {
            share.push(socket);
        }
    }
    Ok(shares)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    fn bound(count: usize) -> Vec<Listener> {
        (0..count).map(|_| Listener::Tcp(TcpListener::bind("127.0.0.1:0").unwrap())).collect()
    }

    #[test]
    fn every_worker_gets_a_socket_and_every_socket_a_worker() {
        for (sockets, workers) in [(1, 4), (4, 1), (2, 3), (5, 2), (3, 3)] {
            let given = bound(sockets);
            let ports: Vec<_> =
                given.iter().map(|one| one.local(&ListenerAddress::Systemd("x".into())).unwrap()).collect();
            let shares = share_out(given, workers).unwrap();
            assert_eq!(shares.len(), workers);
            assert!(shares.iter().all(|share| !share.is_empty()), "{sockets} for {workers}");
            let used: Vec<_> =
                shares.iter().flatten().map(|one| one.local(&ListenerAddress::Systemd("x".into())).unwrap()).collect();
            assert!(ports.iter().all(|port| used.contains(port)), "{sockets} for {workers}");
        }
    }

    #[test]
    fn a_handed_socket_goes_to_the_listener_that_it_is_of_and_once() {
        let address: std::net::SocketAddr = "127.0.0.1:80".parse().unwrap();
        let key = (ListenerAddress::Socket(address), 0);
        let mut sockets = bound(2).into_iter();
        let mut handed = |server: &str| HandedSocket {
            name: SocketName::of(server, &key),
            kind: SocketKind::Tcp,
            socket: match sockets.next().unwrap() {
                Listener::Tcp(tcp) => tcp.into(),
                Listener::Unix(unix) => unix.into(),
            },
        };
        let inherited = Inherited::default().with(vec![handed("worker"), handed("admin")]);
        assert!(inherited.take("worker", &(key.0.clone(), 1)).unwrap().is_empty());
        assert_eq!(inherited.take("worker", &key).unwrap().len(), 1);
        assert!(inherited.take("worker", &key).unwrap().is_empty());
        assert_eq!(inherited.taken()[0], SocketName::of("worker", &key));
        assert_eq!(inherited.taken().len(), 1);
    }
}
