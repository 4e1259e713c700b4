//! The opening handshake of a WebSocket (RFC 6455 §4, RFC 8441 §5): what a client must send, what its service is sent, and what the
//! service must answer. Both sides are read strictly: a handshake that one of them takes for something else than the other is how
//! requests are smuggled past a gateway.

use aws_lc_rs::{digest, rand};
use base64::{Engine, engine::general_purpose::STANDARD};
use h2::ext::Protocol;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header, request::Parts, response};

use crate::{config::Upgrades, gateway::Refusal, limit::StreamPlace, policy::Reason};

/// What RFC 6455 §1.3 adds to a key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const WEBSOCKET: &str = "websocket";
/// The one version that there is (RFC 6455 §4.1).
const VERSION: &str = "13";

/// What a request asks its protocol to be switched to. Nothing is checked yet.
#[derive(Debug)]
pub enum Wish {
    /// `Upgrade: websocket` in HTTP/1.1; whether `Connection` lists it.
    Field {
        /// Whether `Connection` has the token `upgrade`.
        connection: bool,
    },
    /// An extended CONNECT (RFC 8441 §4).
    Connect {
        /// What `:protocol` says.
        protocol: Box<str>,
    },
}

impl Wish {
    /// Whether it is an extended CONNECT, whose stream any 2xx would open.
    pub(in crate::gateway) const fn is_connect(&self) -> bool {
        match self {
            Self::Connect { .. } => true,
            Self::Field { .. } => false,
        }
    }

    /// Reads it off a head, hop-by-hop fields and all. An extended CONNECT becomes the GET that it stands for.
    pub(in crate::gateway) fn take(parts: &mut Parts) -> Option<Box<Self>> {
        let protocol = parts.extensions.remove::<Protocol>()?;
        if parts.method != Method::CONNECT {
            return None;
        }
        parts.method = Method::GET;
        Some(Box::new(Self::Connect { protocol: protocol.as_str().into() }))
    }

    /// Reads it off the fields of HTTP/1.1. RFC 9110 §7.8: in HTTP/1.0 it means nothing, and what we do not know we ignore.
    pub(in crate::gateway) fn of(version: Version, headers: &HeaderMap) -> Option<Box<Self>> {
        let wanted = version == Version::HTTP_11 && lists(headers, &header::UPGRADE, WEBSOCKET);
        wanted.then(|| Box::new(Self::Field { connection: lists(headers, &header::CONNECTION, "upgrade") }))
    }
}

/// An opening handshake that is right, as far as the client is concerned.
#[derive(Debug)]
pub(in crate::gateway) struct Handshake {
    rules: Upgrades,
    key: HeaderValue,
    /// What the service must answer to the key.
    accept: String,
    protocols: Vec<Box<str>>,
    extensions: Vec<Box<str>>,
    extended: bool,
    /// Among the streams that last; the stream's when there is one.
    place: Option<StreamPlace>,
}

impl Handshake {
    /// Checks a client's half (RFC 6455 §4.2.1).
    ///
    /// # Errors
    /// What is wrong with it.
    pub(in crate::gateway) fn check(
        wish: Wish,
        rules: Upgrades,
        method: &Method,
        headers: &HeaderMap,
        has_body: bool,
    ) -> Result<Box<Self>, Refusal> {
        let malformed = |why: &'static str| Err(Refusal::of(Reason::UpgradeMalformed).because(why));
        let extended = match wish {
            Wish::Field { connection: false } => return malformed("Connection does not list Upgrade"),
            Wish::Field { connection: true } => false,
            Wish::Connect { protocol } if *protocol == *WEBSOCKET => true,
            Wish::Connect { .. } => return Err(Refusal::of(Reason::UpgradeNotOffered)),
        };
        if *method != Method::GET {
            return malformed("the method is not GET");
        }
        if has_body {
            return malformed("the handshake has a body");
        }
        if only(headers, &header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != VERSION) {
            return Err(Refusal::of(Reason::UpgradeVersion));
        }
        let key = if extended {
            // RFC 8441 §5: HTTP/2 has none. The service speaks HTTP/1.1 and has to be sent one.
            own_key()?
        } else {
            match only(headers, &header::SEC_WEBSOCKET_KEY).filter(|key| is_key(key)) {
                Some(key) => key.clone(),
                None => return malformed("Sec-WebSocket-Key is not one of 16 bytes"),
            }
        };
        Ok(Box::new(Self {
            rules,
            accept: accept(key.as_bytes()),
            key,
            protocols: list(headers, &header::SEC_WEBSOCKET_PROTOCOL),
            extensions: extension_names(headers),
            extended,
            place: None,
        }))
    }

    /// Holds a place for the stream.
    pub(in crate::gateway) fn hold(&mut self, place: StreamPlace) {
        self.place = Some(place);
    }

    /// The place, for the stream that there is now.
    pub(in crate::gateway) fn take_place(&mut self) -> Option<StreamPlace> {
        self.place.take()
    }

    /// What the route says of its streams.
    pub(in crate::gateway) const fn rules(&self) -> Upgrades {
        self.rules
    }

    /// Makes a head for the service a handshake; the last that is done to it.
    pub(in crate::gateway) fn dress(&self, headers: &mut HeaderMap) {
        for name in [header::TE, header::CONTENT_LENGTH, header::SEC_WEBSOCKET_ACCEPT] {
            headers.remove(name);
        }
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
        headers.insert(header::SEC_WEBSOCKET_KEY, self.key.clone());
    }

    /// Checks the service's half (RFC 6455 §4.1, at the end). `false`: it did not switch, and that may be told.
    ///
    /// # Errors
    /// What is wrong with it, for the operator.
    pub(in crate::gateway) fn verify(&self, status: StatusCode, headers: &HeaderMap) -> Result<bool, &'static str> {
        if status != StatusCode::SWITCHING_PROTOCOLS {
            // To an extended CONNECT any 2xx would say that the stream is open (RFC 8441 §5).
            let misleads = self.extended && status.is_success();
            return if misleads { Err("the service did not switch to WebSocket") } else { Ok(false) };
        }
        if !only(headers, &header::UPGRADE)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()))
        {
            return Err("the service did not switch to WebSocket");
        }
        if !lists(headers, &header::CONNECTION, "upgrade") {
            return Err("the service's Connection does not list Upgrade");
        }
        if only(headers, &header::SEC_WEBSOCKET_ACCEPT).is_none_or(|value| value != self.accept.as_str()) {
            return Err("the service's Sec-WebSocket-Accept is not the answer to the key");
        }
        if extension_names(headers).iter().any(|name| !self.extensions.contains(name)) {
            return Err("the service chose a WebSocket extension that was not offered");
        }
        let chosen = list(headers, &header::SEC_WEBSOCKET_PROTOCOL);
        if chosen.len() > 1 || chosen.iter().any(|name| !self.protocols.contains(name)) {
            return Err("the service chose a WebSocket subprotocol that was not offered");
        }
        Ok(true)
    }

    /// Makes the service's answer the client's, once its hop-by-hop fields are gone.
    pub(in crate::gateway) fn answer(&self, parts: &mut response::Parts) {
        let headers = &mut parts.headers;
        headers.remove(header::CONTENT_LENGTH);
        if self.extended {
            parts.status = StatusCode::OK;
            headers.remove(header::SEC_WEBSOCKET_ACCEPT);
        } else {
            parts.status = StatusCode::SWITCHING_PROTOCOLS;
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
        }
    }
}

/// The one field of a name.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut fields = headers.get_all(name).iter();
    fields.next().filter(|_| fields.next().is_none())
}

fn items<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
    let lines = headers.get_all(name).iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    items(headers, name).any(|item| item.eq_ignore_ascii_case(token.as_bytes()))
}

fn list(headers: &HeaderMap, name: &HeaderName) -> Vec<Box<str>> {
    items(headers, name).filter(|item| !item.is_empty()).map(|item| String::from_utf8_lossy(item).into()).collect()
}

/// The names alone: parameters may hold commas in quotes, and a part of one is taken for a name then. On the client's side that offers
/// more names than there are, which nobody can choose; on the service's it is one that was not offered.
fn extension_names(headers: &HeaderMap) -> Vec<Box<str>> {
    let name = |item: &[u8]| {
        let name = item.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        String::from_utf8_lossy(name).to_ascii_lowercase().into()
    };
    items(headers, &header::SEC_WEBSOCKET_EXTENSIONS).filter(|item| !item.is_empty()).map(name).collect()
}

fn is_key(key: &HeaderValue) -> bool {
    STANDARD.decode(key.as_bytes()).is_ok_and(|bytes| bytes.len() == 16)
}

fn own_key() -> Result<HeaderValue, Refusal> {
    let internal = || Refusal::of(Reason::InternalFault).because("the system gives no randomness");
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| internal())?;
    HeaderValue::try_from(STANDARD.encode(bytes)).map_err(|_| internal())
}

fn accept(key: &[u8]) -> String {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(GUID);
    STANDARD.encode(hash.finish())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    const RULES: Upgrades = Upgrades { idle: Upgrades::IDLE, close_on_expiry: true };
    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    const THIRTEEN: (&str, &str) = ("sec-websocket-version", "13");
    const ACCEPT: (&str, &str) = ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    const SWITCHED: [(&str, &str); 3] = [("upgrade", "WebSocket"), ("connection", "keep-alive, Upgrade"), ACCEPT];

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn checked(fields: &[(&'static str, &str)]) -> Result<Box<Handshake>, Reason> {
        let wish = Wish::Field { connection: true };
        Handshake::check(wish, RULES, &Method::GET, &headers(fields), false).map_err(|refusal| refusal.reason)
    }

    #[test]
    fn the_example_of_the_rfc_is_answered_as_it_says() {
        let handshake = checked(&[KEY, THIRTEEN]).unwrap();
        assert_eq!(handshake.accept, ACCEPT.1);
        assert_eq!(handshake.verify(StatusCode::SWITCHING_PROTOCOLS, &headers(&SWITCHED)), Ok(true));
    }

    #[test]
    fn a_wish_is_seen_only_where_it_means_something() {
        let fields = headers(&[("upgrade", "h2c, WEBSOCKET"), ("connection", "upgrade")]);
        assert!(Wish::of(Version::HTTP_11, &fields).is_some());
        assert!(Wish::of(Version::HTTP_10, &fields).is_none());
        for other in ["h2c", "websocket2", "TLS/1.3", ""] {
            assert!(Wish::of(Version::HTTP_11, &headers(&[("upgrade", other)])).is_none(), "{other}");
        }
    }

    #[test]
    fn a_handshake_that_is_not_one_is_refused() {
        assert_eq!(checked(&[THIRTEEN]).unwrap_err(), Reason::UpgradeMalformed);
        for key in ["", "short", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZSE=", "dGhlIHNhbXBsZSBub25jZQ==x"] {
            assert_eq!(
                checked(&[THIRTEEN, ("sec-websocket-key", key)]).unwrap_err(),
                Reason::UpgradeMalformed,
                "{key}"
            );
        }
        let mut twice = headers(&[THIRTEEN, KEY]);
        twice.append("sec-websocket-key", KEY.1.parse().unwrap());
        let of = |wish, method: Method, headers: &HeaderMap, body| {
            Handshake::check(wish, RULES, &method, headers, body).map_err(|refusal| refusal.reason).err()
        };
        let field = || Wish::Field { connection: true };
        let good = headers(&[THIRTEEN, KEY]);
        assert_eq!(of(field(), Method::GET, &good, false), None);
        assert_eq!(of(field(), Method::GET, &twice, false), Some(Reason::UpgradeMalformed));
        assert_eq!(of(field(), Method::POST, &good, false), Some(Reason::UpgradeMalformed));
        assert_eq!(of(field(), Method::GET, &good, true), Some(Reason::UpgradeMalformed));
        assert_eq!(of(Wish::Field { connection: false }, Method::GET, &good, false), Some(Reason::UpgradeMalformed));
        for version in ["8", "13, 8", "0", " 14", ""] {
            let fields = headers(&[KEY, ("sec-websocket-version", version)]);
            assert_eq!(of(field(), Method::GET, &fields, false), Some(Reason::UpgradeVersion), "{version}");
        }
        let connect = |protocol: &str| Wish::Connect { protocol: protocol.into() };
        for protocol in ["connect-udp", "WebSocket", "webtransport"] {
            assert_eq!(of(connect(protocol), Method::GET, &good, false), Some(Reason::UpgradeNotOffered), "{protocol}");
        }
    }

    #[test]
    fn an_answer_that_no_client_would_take_is_refused() {
        let offer = [
            KEY,
            THIRTEEN,
            ("sec-websocket-protocol", "chat, superchat"),
            ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
        ];
        let handshake = checked(&offer).unwrap();
        let verified = |more: &[(&'static str, &str)]| {
            handshake.verify(StatusCode::SWITCHING_PROTOCOLS, &headers(&[&SWITCHED, more].concat()))
        };
        let deflate = ("sec-websocket-extensions", "Permessage-Deflate;server_no_context_takeover");
        assert_eq!(verified(&[("sec-websocket-protocol", "superchat"), deflate]), Ok(true));
        for protocol in ["mqtt", "chat, superchat", "Chat"] {
            assert!(verified(&[("sec-websocket-protocol", protocol)]).is_err(), "{protocol}");
        }
        assert!(verified(&[("sec-websocket-extensions", "permessage-deflate, x-other")]).is_err());
        let wrong = |fields: &[(&'static str, &str)]| {
            handshake.verify(StatusCode::SWITCHING_PROTOCOLS, &headers(fields)).is_err()
        };
        let [upgrade, connection, accept] = SWITCHED;
        assert!(wrong(&[upgrade, connection]));
        assert!(wrong(&[upgrade, accept]));
        assert!(wrong(&[connection, accept]));
        assert!(wrong(&[("upgrade", "h2c"), connection, accept]));
        assert!(wrong(&[upgrade, connection, ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOp=")]));
    }
}
