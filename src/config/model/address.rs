//! Where a listener listens, and who is at the other end of a connection.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenerAddress {
    /// An IP address and a port.
    Socket(SocketAddr),
    /// A Unix socket, by its file.
    Unix(PathBuf),
    /// A socket that systemd hands over, by its `FileDescriptorName`.
    Systemd(Box<str>),
}

impl ListenerAddress {
    /// The IP address and port, where there are such.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket(address) => Some(*address),
            Self::Unix(_) | Self::Systemd(_) => None,
        }
    }
}

impl From<SocketAddr> for ListenerAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Socket(address)
    }
}

/// As the configuration writes it.
impl fmt::Display for ListenerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}

/// Those at the other end of connections who are believed something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peers {
    /// Networks that they are in.
    pub networks: Vec<IpNet>,
    /// Whoever connects to a Unix socket.
    pub unix: bool,
}

impl Peers {
    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// Whether an address is in one of the networks.
    pub fn has(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }
}
