//! `listeners`: the sockets that clients connect to.

use super::{
    acme::ListenerCertificate,
    address::{FileMode, ListenAt, PeerText},
};
use crate::config::{
    Alpn, ClientAuth, TlsVersion,
    decode::{At, NonEmpty, section, words},
    quantity::Count,
    text::FilePath,
};

section! {
    /// A socket that clients connect to. It has `tls`, or only redirects, or says `cleartext: true`.
    "a listener" Listener {
        /// Where it listens: an address and a port, or a Unix socket.
        address: At<ListenAt>,
        /// The mode of a Unix socket's file: whoever may write to it may connect; `"0660"` without this key.
        unix_mode: Option<At<FileMode>>,
        /// The PROXY protocol, versions 1 and 2: who must say for whom they connect, before anything else.
        proxy_protocol: Option<At<ProxyProtocol>>,
        /// Terminates TLS and serves the gateway.
        tls: Option<Tls>,
        /// Serves HTTP/3 as well: QUIC on the same port over UDP, which answers over TCP point to by `Alt-Svc`. Needs `tls`.
        http3: At<bool> = "false",
        /// The port that `Alt-Svc` names, where something in front maps it to this listener's; without this key, this listener's.
        http3_port: Option<At<Count<1, 65535>>>,
        /// Answers every request with a redirect to `https` on this port, and forwards nothing.
        redirect_to_https: Option<At<Count<1, 65535>>>,
        /// Serves the gateway without TLS: tokens can be read on the way.
        cleartext: Option<At<bool>>,
    }
}

section! {
    /// Relays that say by the PROXY protocol for whom they connect.
    "proxy_protocol" ProxyProtocol {
        /// Networks of these relays, or single addresses; `unix` for whoever connects to this listener's Unix socket. They
        /// must send the header, and are closed without it. From others it is not read.
        from: NonEmpty<At<PeerText>>,
    }
}

section! {
    /// How a listener terminates TLS.
    "tls" Tls {
        /// Certificates, chosen by SNI; the first is for clients that send no name, or an unknown one. The files are
        /// watched and reloaded.
        certificates: Option<NonEmpty<ListenerCertificate>>,
        /// Makes a certificate for `localhost` in `server.state_dir` at the first start, in place of `certificates`. Nobody
        /// vouches for it: for trying things out.
        danger_self_signed: At<bool> = "false",
        /// The lowest version that is accepted.
        min_version: TlsVersion = "\"1.2\"",
        /// The protocols offered by ALPN, in order of preference.
        alpn: NonEmpty<At<Alpn>> = "[h2, http/1.1]",
        /// Whether clients may resume sessions, by tickets and in TLS 1.2 by identifiers as well. The tickets' keys turn every 6
        /// hours, and a ticket lives for 12 at most. A client's certificate is judged again all the same.
        session_tickets: bool = "true",
        /// The authorities of client certificates, PEM. Needs `client_auth`.
        client_ca: Option<At<FilePath>>,
        /// Lists of revoked client certificates, PEM or DER: a handshake with one that was revoked fails. A list after its
        /// `nextUpdate`, or none for a certificate, fails it as well. Read again when they change; up to 1 MiB each. Needs `client_ca`.
        client_crl: Option<At<NonEmpty<At<FilePath>>>>,
        /// Whether clients are asked for a certificate; without this key they are not. Needs `client_ca`.
        client_auth: Option<At<ClientAuth>>,
    }
}

section! {
    /// A certificate chain and its key, both PEM.
    "a certificate" Certificate {
        /// The chain, leaf first.
        cert: At<FilePath>,
        /// The private key.
        key: At<FilePath>,
    }
}

words! { TlsVersion, "a version of TLS":
    "1.2" => Self::V1_2, "RFC 5246, with AEAD suites alone";
    "1.3" => Self::V1_3, "RFC 8446";
}

words! { Alpn, "a protocol":
    "h2" => Self::H2, "HTTP/2";
    "http/1.1" => Self::Http1, "HTTP/1.1";
}

words! { ClientAuth, "a choice for client certificates":
    "optional" => Self::Optional, "asked for; one that is sent must verify";
    "required" => Self::Required, "the handshake fails without one";
}
