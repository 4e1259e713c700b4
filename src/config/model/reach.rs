//! How a service is reached: the protocol, what TLS shows and wants to see, whom connections are introduced as, and the
//! name servers.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use super::CertificateFiles;

/// What is spoken with a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: by ALPN alone where there is TLS, with prior knowledge where there is none (RFC 9113 §3.3).
    Http2,
    /// What the target chooses by ALPN; HTTP/1.1 where there is no TLS.
    Auto,
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// How TLS is spoken with a service, besides who vouches for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Whose certificate must be shown, in place of the target's name.
    pub server_name: Option<Arc<str>>,
    /// What the gateway shows.
    pub certificate: Option<CertificateFiles>,
}

/// How the places of a target are found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reach {
    /// At an address, or at any of the addresses of a name.
    Host,
    /// Every address of a name is a target of its own.
    EachAddress,
    /// Every service that a name has (RFC 2782) is a target of its own; the port is theirs.
    Services(Arc<str>),
    /// At a socket in the file system. The target's host and port are what its `Host` says.
    Unix(PathBuf),
}

/// Who is asked for the addresses of names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// In place of the machine's; empty: the machine's.
    pub servers: Vec<SocketAddr>,
}
