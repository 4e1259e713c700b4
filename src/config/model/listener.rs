//! Sockets that clients connect to.

use std::sync::Arc;

use super::{File, ListenerAddress, Peers, Span};

/// A socket that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where it stands in the file.
    pub span: Span,
    /// Where it listens.
    pub address: ListenerAddress,
    /// The mode of the file, where that is a Unix socket.
    pub unix_mode: u32,
    /// Who must say by the PROXY protocol for whom they connect; from others it is not read.
    pub proxy_protocol: Peers,
    /// What it does with a connection.
    pub mode: ListenerMode,
    /// Whether it serves HTTP/3 as well.
    pub http3: Option<Http3>,
}

/// HTTP/3 on a listener's port over UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http3 {
    /// The port that clients are told, where it is not the listener's own.
    pub port: Option<u16>,
}

/// What a listener does with a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerMode {
    /// Terminates TLS and serves the gateway.
    Tls(ListenerTls),
    /// Answers every request with a 308 to `https` on this port.
    RedirectToHttps(u16),
    /// Serves the gateway without TLS.
    Cleartext,
}

/// How a listener terminates TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// Certificates, chosen by SNI; the first is the one for clients that send no name, or an unknown one.
    pub certificates: Vec<ListenerCertificate>,
    /// Whether the one certificate is of our own making, by `danger_self_signed: true`, made at the first start.
    pub self_signed: bool,
    /// The lowest version that is accepted.
    pub min_version: TlsVersion,
    /// The protocols offered by ALPN, in order of preference.
    pub alpn: Vec<Alpn>,
    /// Whether sessions are resumed by tickets.
    pub session_tickets: bool,
    /// The authorities of client certificates.
    pub client_ca: Option<File>,
    /// Lists of revoked client certificates, asked in the handshake; empty: it asks none.
    pub client_crl: Vec<File>,
    /// Whether clients are asked for a certificate.
    pub client_auth: ClientAuth,
}

impl ListenerTls {
    /// Whether it asks all of a client that `before` did, and no more: what a connection was admitted by still holds.
    pub fn asks_what(&self, before: &Self) -> bool {
        self.client_auth == before.client_auth
            && self.client_ca == before.client_ca
            && self.client_crl == before.client_crl
            && self.min_version == before.min_version
    }
}

/// A certificate of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerCertificate {
    /// Its files.
    pub files: CertificateFiles,
    /// The names that it is ordered for, whose one file may not be there yet; none: it is there.
    pub ordered: Vec<Arc<str>>,
}

/// A certificate chain and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub cert: File,
    /// The private key.
    pub key: File,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    V1_2,
    /// RFC 8446.
    V1_3,
}

/// A protocol that ALPN can choose (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// `h2`
    H2,
    /// `http/1.1`
    Http1,
}

/// Whether clients are asked for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Not asked.
    Off,
    /// Asked; one that is sent must verify.
    Optional,
    /// The handshake fails without one.
    Required,
}
