//! Listeners: each does exactly one thing, on an address of its own.

use std::path::{Path, PathBuf};

use super::Context;
use crate::config::{
    CertificateFiles, ClientAuth, File, Http3, Listener, ListenerAddress, ListenerCertificate, ListenerMode,
    ListenerTls, Peers, Span,
    decode::At,
    document::{self, Document, ListenAt, PeerText, UNIX_PATH_BYTES},
    text::{is_loopback_address, same_socket},
};

/// Whoever is in the group of the file may connect: a proxy beside us runs as another user, and is put in our group.
const UNIX_MODE: u32 = 0o660;

pub(super) fn listeners(document: &Document, to: &mut Context<'_>) -> Vec<Listener> {
    let written = &document.listeners;
    let state_dir: PathBuf = to.base.join(&document.server.state_dir.0);
    let mut listeners: Vec<Listener> = Vec::with_capacity(written.value.0.len());
    for listener in &written.value.0 {
        let address = address(listener, &listeners, to);
        let (Some(address), Some(mode)) = (address, mode(listener, (document, &state_dir), to)) else { continue };
        listeners.push(Listener {
            span: listener.span.clone(),
            unix_mode: listener.unix_mode.as_ref().map_or(UNIX_MODE, |mode| mode.value.0),
            proxy_protocol: proxy_protocol(listener, &address, to),
            http3: http3(listener, &address, &mode, to),
            address,
            mode,
        });
    }
    if to.cx.failed() {
        return listeners;
    }
    if written.span.line == 0 {
        let message =
            "no listener is configured: the gateway serves plain HTTP on 127.0.0.1:8080, for this machine alone";
        to.warn(&written.span, message, "add `listeners` with `tls` to be reached from elsewhere");
    } else {
        report_weak(&listeners, to);
    }
    listeners
}

/// What goes wrong without TLS, in words.
pub(super) struct Without {
    /// Where `danger_cleartext` is said.
    pub(super) danger: &'static str,
    /// On a listener without, where another has it.
    pub(super) some: &'static str,
    /// Where none has it.
    pub(super) none: &'static str,
}

/// Reports listeners where what may not be read on the way would be, for a section and its `danger_cleartext`.
pub(super) fn report_cleartext(
    listeners: &[Listener],
    (section, cleartext): (&Span, &At<bool>),
    words: &Without,
    to: &mut Context<'_>,
) {
    if cleartext.value {
        let help = "leave it out unless a proxy before the gateway speaks TLS to the clients";
        to.warn(&cleartext.span, format!("`danger_cleartext`: {}", words.danger), help);
        return;
    }
    let open = |listener: &&Listener| {
        matches!(listener.mode, ListenerMode::Cleartext) && !is_of_this_machine(&listener.address)
    };
    let closed = listeners.iter().any(|listener| match listener.mode {
        ListenerMode::Tls(_) => true,
        ListenerMode::Cleartext => is_of_this_machine(&listener.address),
        ListenerMode::RedirectToHttps(_) => false,
    });
    let Some(listener) = listeners.iter().find(open) else { return };
    if closed {
        let message = format!("this listener has no TLS: {}", words.some);
        to.warn(&listener.span, message, "let callers use the listener with `tls`");
    } else {
        let message = format!("no listener has TLS, and {}", words.none);
        let help = "give a listener `tls`; or behind a proxy that ends TLS say `danger_cleartext: true`";
        to.error_with_help(section, message, help);
    }
}

/// Where it listens; what only one kind of address has is refused with another.
fn address(listener: &document::Listener, before: &[Listener], to: &mut Context<'_>) -> Option<ListenerAddress> {
    let written = &listener.address;
    let address = match &written.value {
        ListenAt::Socket(address) => {
            if let Some(mode) = &listener.unix_mode {
                to.error(&mode.span, "`unix_mode` is of a Unix socket's file, and this address is none");
            }
            ListenerAddress::Socket(*address)
        }
        ListenAt::Systemd(name) => {
            if let Some(mode) = &listener.unix_mode {
                to.error(&mode.span, "`unix_mode` is of a file that we make, and this socket is made by systemd");
            }
            ListenerAddress::Systemd(name.as_str().into())
        }
        ListenAt::Unix(path) => {
            let path = to.base.join(&path.0);
            let bytes = path.as_os_str().len();
            if bytes > UNIX_PATH_BYTES {
                let message = format!("the path of this socket has {bytes} bytes, and {UNIX_PATH_BYTES} are the most");
                to.error_with_help(&written.span, message, "choose a shorter one, as in /run/stepgate");
                return None;
            }
            ListenerAddress::Unix(path)
        }
    };
    report_clash(&address, &written.span, before, to);
    Some(address)
}

/// Who must send the header of the PROXY protocol.
fn proxy_protocol(listener: &document::Listener, address: &ListenerAddress, to: &mut Context<'_>) -> Peers {
    let Some(section) = &listener.proxy_protocol else { return Peers::default() };
    let from = &section.value.from.0;
    for peer in from {
        match (&peer.value, address) {
            (PeerText::Unix, ListenerAddress::Socket(_)) => {
                let message = "nobody comes to this listener by a Unix socket";
                to.error_with_help(&peer.span, message, "`unix` is for listeners at `unix:` addresses");
            }
            (PeerText::Network(_), ListenerAddress::Unix(_)) => {
                let message = "whoever connects to a Unix socket has no address";
                to.error_with_help(&peer.span, message, "write `unix`");
            }
            (PeerText::Network(network), ListenerAddress::Socket(_)) if network.0.prefix_len() == 0 => {
                let message = "every address is a relay of the PROXY protocol: any client can claim to be any other";
                to.warn(&peer.span, message, "list the networks of the relays in front alone");
            }
            _ => {}
        }
    }
    peers(from)
}

/// Those that are listed.
pub(super) fn peers(listed: &[At<PeerText>]) -> Peers {
    let networks = listed.iter().filter_map(|peer| match peer.value {
        PeerText::Network(network) => Some(network.0),
        PeerText::Unix => None,
    });
    Peers { networks: networks.collect(), unix: listed.iter().any(|peer| peer.value == PeerText::Unix) }
}

/// Whether only this machine reaches it.
fn is_of_this_machine(address: &ListenerAddress) -> bool {
    match address {
        ListenerAddress::Socket(address) => is_loopback_address(address),
        ListenerAddress::Unix(_) => true,
        // It is not said here what the unit listens on.
        ListenerAddress::Systemd(_) => false,
    }
}

/// HTTP/3 is for listeners with TLS, on a port.
fn http3(
    listener: &document::Listener,
    address: &ListenerAddress,
    mode: &ListenerMode,
    to: &mut Context<'_>,
) -> Option<Http3> {
    let port = listener.http3_port.as_ref();
    if !listener.http3.value {
        if let Some(port) = port {
            let message = "`http3_port` is given, and this listener does not serve HTTP/3";
            to.error_with_help(&port.span, message, "add `http3: true`, or leave it out");
        }
        return None;
    }
    let span = &listener.http3.span;
    if !matches!(mode, ListenerMode::Tls(_)) {
        to.error_with_help(
            span,
            "`http3` is on a listener without `tls`",
            "QUIC is never without TLS: move it to one with",
        );
    }
    if listener.proxy_protocol.is_some() {
        let message = "`http3` is on a listener with `proxy_protocol`: over QUIC no relay says for whom it sends";
        to.error_with_help(span, message, "let clients reach a listener of their own for HTTP/3");
    }
    if address.socket().is_none() {
        let message = "`http3` is on a listener without a port of its own";
        to.error_with_help(span, message, "give it an `address` with a port: QUIC is spoken over UDP");
    }
    Some(Http3 { port: port.and_then(|port| u16::try_from(port.value.0).ok()) })
}

fn mode(listener: &document::Listener, whole: (&Document, &Path), to: &mut Context<'_>) -> Option<ListenerMode> {
    let cleartext = listener.cleartext.as_ref().is_some_and(|cleartext| cleartext.value);
    match (&listener.tls, &listener.redirect_to_https, cleartext) {
        (Some(section), None, false) => Some(ListenerMode::Tls(tls(section, whole, to))),
        (None, Some(port), false) => u16::try_from(port.value.0).ok().map(ListenerMode::RedirectToHttps),
        (None, None, true) => Some(ListenerMode::Cleartext),
        (None, None, false) => {
            if !listener.broken {
                let message =
                    "this listener has neither `tls` nor `redirect_to_https`, and does not say `cleartext: true`";
                to.error_with_help(&listener.span, message, "choose one of the three");
            }
            None
        }
        _ => {
            let message = "this listener has more than one of `tls`, `redirect_to_https` and `cleartext: true`";
            to.error_with_help(
                &listener.span,
                message,
                "choose one of the three; a second address needs a second listener",
            );
            None
        }
    }
}

fn tls(tls: &document::Tls, whole: (&Document, &Path), to: &mut Context<'_>) -> ListenerTls {
    let client_auth = match (&tls.client_ca, &tls.client_auth) {
        (Some(_), Some(auth)) => auth.value,
        (None, None) => ClientAuth::Off,
        (Some(ca), None) => {
            if !tls.broken {
                let message = "`client_ca` is given, and `client_auth` does not say whether clients need a certificate";
                to.error_with_help(&ca.span, message, "add `client_auth: optional` or `client_auth: required`");
            }
            ClientAuth::Required
        }
        (None, Some(auth)) => {
            if !tls.broken {
                let message = "`client_auth` is given, and no `client_ca` that could vouch for a client's certificate";
                to.error_with_help(&auth.span, message, "add `client_ca: path` with the authorities, PEM");
            }
            ClientAuth::Required
        }
    };
    if let (Some(crl), None) = (&tls.client_crl, &tls.client_ca)
        && !tls.broken
    {
        let message = "`client_crl` is given, and no `client_ca` whose certificates could be revoked";
        to.error_with_help(&crl.span, message, "add `client_ca: path` with the authorities, PEM");
    }
    let client_crl = tls.client_crl.iter().flat_map(|at| &at.value.0).map(|file| to.file(file)).collect();
    let mut alpn = Vec::new();
    for protocol in &tls.alpn.0 {
        if alpn.contains(&protocol.value) {
            to.error(&protocol.span, format!("`{}` is listed twice", protocol.shown));
        } else {
            alpn.push(protocol.value);
        }
    }
    let self_signed = tls.danger_self_signed.value;
    ListenerTls {
        certificates: certificates(tls, whole, to),
        self_signed,
        min_version: tls.min_version,
        session_tickets: tls.session_tickets,
        alpn,
        client_ca: tls.client_ca.as_ref().map(|ca| to.file(ca)),
        client_crl,
        client_auth,
    }
}

/// The certificates of a listener: those that are named, or one of our own making.
fn certificates(
    tls: &document::Tls,
    (document, state_dir): (&Document, &Path),
    to: &mut Context<'_>,
) -> Vec<ListenerCertificate> {
    let span = &tls.danger_self_signed.span;
    match (&tls.certificates, tls.danger_self_signed.value) {
        (Some(pairs), false) => {
            let pairs = pairs.0.iter().filter_map(|pair| match &pair.acme {
                Some(names) if pair.cert.is_none() && pair.key.is_none() => {
                    super::acme::ordered(&names.0, document, to)
                }
                Some(_) => {
                    to.error(&pair.span, "a certificate is either ordered or read from files, not both");
                    None
                }
                None => super::acme::files(pair, to),
            });
            pairs.collect()
        }
        (None, true) => {
            let message = "`danger_self_signed`: nobody vouches for this listener's certificate";
            to.warn(span, message, "name real `certificates` before anybody else uses it");
            let file = |name: &str| File { span: span.clone(), path: state_dir.join(name) };
            let files = CertificateFiles { cert: file("self-signed.pem"), key: file("self-signed.key") };
            vec![ListenerCertificate { files, ordered: Vec::new() }]
        }
        (Some(_), true) => {
            let message = "`certificates` and `danger_self_signed` exclude each other";
            to.error_with_help(span, message, "leave out `danger_self_signed`");
            Vec::new()
        }
        (None, false) => {
            if !tls.broken {
                let message = "`tls` has no `certificates`";
                to.error_with_help(&tls.span, message, "add `certificates: [{cert: server.pem, key: server.key}]`");
            }
            Vec::new()
        }
    }
}

fn report_clash(address: &ListenerAddress, span: &Span, before: &[Listener], to: &mut Context<'_>) {
    let same = |other: &&Listener| match (&other.address, address) {
        (ListenerAddress::Socket(other), ListenerAddress::Socket(this)) => same_socket(other, this),
        (other, this) => other == this,
    };
    let Some(other) = before.iter().find(same) else { return };
    to.error(span, format!("the listener on line {} has this address already", other.span.line));
}

fn report_weak(listeners: &[Listener], to: &mut Context<'_>) {
    let mut served = false;
    for listener in listeners {
        match &listener.mode {
            ListenerMode::Tls(_) => served = true,
            ListenerMode::Cleartext => {
                served = true;
                if !is_of_this_machine(&listener.address) {
                    let message = "this listener serves plain HTTP beyond this machine: tokens can be read on the way";
                    to.warn(&listener.span, message, "use `tls`, or let it be reached by a TLS proxy alone");
                }
            }
            ListenerMode::RedirectToHttps(port) => {
                let there = |other: &Listener| {
                    matches!(other.mode, ListenerMode::Tls(_))
                        && other.address.socket().is_some_and(|other| other.port() == *port)
                };
                if !listeners.iter().any(there) {
                    let message =
                        format!("this listener redirects to port {port}, where no listener of this file has `tls`");
                    to.warn(&listener.span, message, "right only if something in front maps that port to one that has");
                }
            }
        }
    }
    if let (false, Some(first)) = (served, listeners.first()) {
        to.warn(&first.span, "every listener only redirects: nothing is ever served", "add a listener with `tls`");
    }
}
