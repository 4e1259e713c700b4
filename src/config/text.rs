//! The other texts of a document: addresses, names, patterns, URLs. Each knows what it looks like and says what is
//! wrong with one that does not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::{HeaderName, Method};
use ipnet::IpNet;
use lettre::message::Mailbox;
use url::{Host, Url};

use super::{
    ClaimPath, LimitKey, MailProtection, MailServer, Target,
    decode::{FromText, Refusal, is_name, unknown_word},
    env,
    quantity::RateText,
    shape::{Shape, TextShape},
};
use crate::route::{HostPattern, NormalPath, PathPattern, Segment};

fn text_shape(name: &'static str, about: &'static str, pattern: Option<&'static str>) -> Shape {
    Shape::Text(TextShape { name, about, pattern })
}

impl FromText for bool {
    const WHAT: &'static str = "`true` or `false`";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        match text {
            "true" | "True" | "TRUE" => Ok(true),
            "false" | "False" | "FALSE" => Ok(false),
            "yes" | "on" => Err(Refusal::advice("write `true`")),
            "no" | "off" => Err(Refusal::advice("write `false`")),
            _ => Err(Refusal::default()),
        }
    }

    fn shape() -> Shape {
        Shape::Bool
    }
}

impl FromText for String {
    const WHAT: &'static str = "a text";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() {
            return Err(Refusal::because("it is empty"));
        }
        if text.chars().any(char::is_control) {
            return Err(Refusal::because("it has a control character"));
        }
        Ok(text.to_owned())
    }

    fn shape() -> Shape {
        text_shape("text", "any text", None)
    }
}

/// Words for people: of one line or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prose(pub(super) String);

impl FromText for Prose {
    const WHAT: &'static str = "a text";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let text = text.trim();
        if text.is_empty() || text.len() > 1_000 {
            return Err(Refusal::because("it must have 1 to 1000 bytes"));
        }
        if text.chars().any(|c| c.is_control() && c != '\n') {
            return Err(Refusal::because("it has a control character"));
        }
        Ok(Self(text.to_owned()))
    }

    fn shape() -> Shape {
        text_shape("prose", "words for people, at most 1000 bytes", None)
    }
}

/// The name of something else in the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name(pub(super) String);

impl FromText for Name {
    const WHAT: &'static str = "a name";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if is_name(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(Refusal::because("names have up to 64 letters, digits, `_`, `-` and `.`, a letter or digit first"))
    }

    fn shape() -> Shape {
        text_shape("name", "a name that is given elsewhere in the file", Some("[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"))
    }
}

/// The name of a route, as metrics and logs show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RouteName(pub(super) String);

impl FromText for RouteName {
    const WHAT: &'static str = "a route's name";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() || text.len() > 128 || text.chars().any(char::is_control) {
            return Err(Refusal::because("it must have 1 to 128 bytes and no control characters"));
        }
        Ok(Self(text.to_owned()))
    }

    fn shape() -> Shape {
        text_shape("route name", "a name for metrics, logs and `explain`", None)
    }
}

/// A path in the file system, not yet resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FilePath(pub(super) String);

impl FromText for FilePath {
    const WHAT: &'static str = "a file's path";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() || text.contains('\0') {
            return Err(Refusal::default());
        }
        Ok(Self(text.to_owned()))
    }

    fn shape() -> Shape {
        text_shape("path", "a path; a relative one starts at the configuration's folder", None)
    }
}

/// The name of an environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EnvName(pub(super) String);

impl FromText for EnvName {
    const WHAT: &'static str = "the name of an environment variable";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if env::is_name(text) { Ok(Self(text.to_owned())) } else { Err(Refusal::default()) }
    }

    fn shape() -> Shape {
        text_shape("variable", "the name of an environment variable", Some("[A-Za-z_][A-Za-z0-9_]*"))
    }
}

impl FromText for SocketAddr {
    const WHAT: &'static str = "an address and a port";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        text.parse().map_err(|_| match text.rsplit_once(':') {
            Some(("", port)) => Refusal::advice(format!("for every address of the machine write `0.0.0.0:{port}`")),
            Some(("localhost", port)) => Refusal::advice(format!("write `127.0.0.1:{port}`")),
            Some(_) | None => Refusal::advice("write an IP address and a port: `127.0.0.1:8443`, `[::1]:8443`"),
        })
    }

    fn shape() -> Shape {
        text_shape("address", "an IP address and a port: `127.0.0.1:8443`, `[::]:8443`", Some(".+:[0-9]{1,5}"))
    }
}

/// A network, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network(pub(super) IpNet);

impl FromText for Network {
    const WHAT: &'static str = "a network";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(IpNet::from(address)));
        }
        let net: IpNet =
            text.parse().map_err(|_| Refusal::advice("write `10.0.0.0/8`, `2001:db8::/32` or a single address"))?;
        if net.trunc() != net {
            return Err(
                Refusal::because("it has bits behind its prefix").help(format!("did you mean `{}`?", net.trunc()))
            );
        }
        Ok(Self(net))
    }

    fn shape() -> Shape {
        text_shape("network", "a network or an address: `10.0.0.0/8`, `::1`", Some("[0-9A-Fa-f:.]+(/[0-9]{1,3})?"))
    }
}

impl FromText for HeaderName {
    const WHAT: &'static str = "a header's name";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        Self::from_bytes(text.as_bytes()).map_err(|_| Refusal::because("it is no token (RFC 9110 §5.1)"))
    }

    fn shape() -> Shape {
        text_shape("header", "a header's name, in any case", Some("[A-Za-z0-9!#$%&'*+.^_`|~-]+"))
    }
}

/// The name of a cookie.
pub(super) fn cookie_name(text: &str) -> Result<&str, Refusal> {
    // RFC 6265 §4.1.1: a token, as a header's name is.
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(text),
        Err(_) => Err(Refusal::because("the cookie's name is no token (RFC 6265 §4.1.1)")),
    }
}

/// Whether a method is one of HTTP's own (RFC 9110 §9.3, RFC 5789).
pub(super) fn is_standard_method(method: &str) -> bool {
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"].contains(&method)
}

impl FromText for Method {
    const WHAT: &'static str = "a method";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let method =
            Self::from_bytes(text.as_bytes()).map_err(|_| Refusal::because("it is no token (RFC 9110 §9.1)"))?;
        match text {
            "CONNECT" => return Err(Refusal::because("a tunnel would carry requests that no policy sees")),
            "TRACE" => return Err(Refusal::because("it sends a request's credentials back to its client")),
            _ => {}
        }
        let upper = text.to_ascii_uppercase();
        if upper != text && is_standard_method(&upper) {
            return Err(Refusal::because("methods are case-sensitive").help(format!("did you mean `{upper}`?")));
        }
        if text.len() > 32 {
            return Err(Refusal::because("it is longer than 32 characters"));
        }
        Ok(method)
    }

    fn shape() -> Shape {
        text_shape(
            "method",
            "a method, case-sensitive; never CONNECT or TRACE",
            Some("[A-Za-z0-9!#$%&'*+.^_`|~-]{1,32}"),
        )
    }
}

impl FromText for PathPattern {
    const WHAT: &'static str = "a path pattern";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if text.len() > 2_048 {
            return Err(Refusal::because("it is longer than 2048 bytes"));
        }
        Self::parse(text).map_err(|fault| Refusal::because(fault.to_string()))
    }

    fn shape() -> Shape {
        text_shape(
            "path pattern",
            "a path whose segments are literal, `{name}` or `*` (any one), or a final `**` (any number)",
            Some("/.*"),
        )
    }
}

/// The path of an endpoint of the gateway's own: one path, in normal form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EventPath(pub(super) PathPattern);

impl FromText for EventPath {
    const WHAT: &'static str = "the path of an endpoint";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let pattern = PathPattern::from_text(text)?;
        if pattern.segments().iter().any(|segment| !matches!(segment, Segment::Literal(_))) {
            return Err(Refusal::because("it has to be one path, without `*` or `{name}`"));
        }
        // What clients may write in several ways would not be found in all of them.
        if !NormalPath::parse(text).is_ok_and(|path| path.as_str() == text) {
            return Err(Refusal::because("it is not in normal form: no escapes of plain letters, no empty segments"));
        }
        if text == "/" || text.starts_with("/.well-known/") {
            return Err(Refusal::because("this path is taken"));
        }
        Ok(Self(pattern))
    }

    fn shape() -> Shape {
        text_shape("endpoint", "one path of the gateway's own: `/_stepgate/events/main`", Some("/[^*{}]+"))
    }
}

impl FromText for HostPattern {
    const WHAT: &'static str = "a host pattern";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if text.len() > 255 {
            return Err(Refusal::because("it is longer than 255 bytes"));
        }
        Self::parse(text).map_err(|_| Refusal::advice("write a host, or `*.` and a host, without a port"))
    }

    fn shape() -> Shape {
        text_shape("host pattern", "a host, or `*.` and a host for every name below it", None)
    }
}

/// An absolute URL of an identity provider: https, or http to loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProviderUrl(pub(super) Url);

impl FromText for ProviderUrl {
    const WHAT: &'static str = "a usable URL";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if text.len() > 2_048 || text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(Refusal::because("it is too long, or has a blank, a backslash or a control character"));
        }
        let url = Url::parse(text).map_err(|e| Refusal::because(e.to_string()).help("write it whole: `https://…`"))?;
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) => {}
            "http" => {
                let why = "plain http is for loopback alone: whoever is on the way could put in keys of their own";
                return Err(Refusal::because(why).help("use `https://`"));
            }
            _ => return Err(Refusal::because("its scheme must be https")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::because("it must not hold a user name or password"));
        }
        if url.fragment().is_some() {
            return Err(Refusal::because("it must not have a fragment (`#…`)"));
        }
        Ok(Self(url))
    }

    fn shape() -> Shape {
        text_shape("provider URL", "an `https://` URL; `http://` only to loopback", Some("https?://.+"))
    }
}

/// The URL of a webhook: https, or http to loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WebhookUrl(pub(super) Url);

impl FromText for WebhookUrl {
    const WHAT: &'static str = "a webhook's URL";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        match ProviderUrl::from_text(text) {
            Ok(ProviderUrl(url)) => Ok(Self(url)),
            Err(_) if text.starts_with("http://") => {
                let why = "plain http is for loopback alone: whoever is on the way would read what is told";
                Err(Refusal::because(why).help("use `https://`"))
            }
            Err(refusal) => Err(refusal),
        }
    }

    fn shape() -> Shape {
        <ProviderUrl as FromText>::shape()
    }
}

impl FromText for MailServer {
    const WHAT: &'static str = "a mail server";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        const HELP: &str = "write `smtps://HOST`, or `smtp://HOST` for STARTTLS, with a port if it is not 465 or 587";
        let (scheme, place) = text.split_once("://").ok_or_else(|| Refusal::advice(HELP))?;
        let (protection, usual) = match scheme {
            "smtps" => (MailProtection::Tls, 465),
            "smtp" => (MailProtection::StartTls, 587),
            _ => return Err(Refusal::because("its scheme must be smtps or smtp").help(HELP)),
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        if place.contains('@') {
            let help = "write `username` and `password` beside it";
            return Err(Refusal::because("a user name or password does not belong into it").help(help));
        }
        // The port is behind the last colon that is not inside of brackets.
        let (host, port) = match place.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
            Some((host, port)) => {
                (host, port.parse().ok().filter(|port| *port != 0).ok_or_else(|| Refusal::advice(HELP))?)
            }
            None => (place, usual),
        };
        let host = Host::parse(host).map_err(|e| Refusal::because(e.to_string()).help(HELP))?;
        Ok(Self { protection, host, port })
    }

    fn shape() -> Shape {
        text_shape(
            "mail server",
            "`smtps://HOST:PORT` (TLS) or `smtp://HOST:PORT` (STARTTLS)",
            Some("smtps?://[^/@]+/?"),
        )
    }
}

/// Whom mail is from (RFC 5322 §3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sender(pub(super) Mailbox);

impl FromText for Sender {
    const WHAT: &'static str = "a sender";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        const HELP: &str = "write `security@example.com` or `Example <security@example.com>`";
        if text.len() > 254 || text.chars().any(char::is_control) {
            return Err(Refusal::because("it is longer than 254 bytes, or has a control character"));
        }
        let mailbox: Mailbox = text.parse().map_err(|_| Refusal::advice(HELP))?;
        let address: &str = mailbox.email.as_ref();
        // The parser stops at the end of the first address, and of an address that is not ASCII few servers know what to do.
        if !address.is_ascii() || (text != address && !text.ends_with(&format!("<{address}>"))) {
            return Err(Refusal::advice(HELP));
        }
        Ok(Self(mailbox))
    }

    fn shape() -> Shape {
        text_shape("sender", "an address, or a name and an address: `Example <security@example.com>`", Some(".+@.+"))
    }
}

/// An issuer identifier: kept exactly as written, because `iss` is compared so (OpenID Connect Core §3.1.3.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IssuerUrl(pub(super) String);

impl FromText for IssuerUrl {
    const WHAT: &'static str = "an issuer identifier";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let ProviderUrl(url) = ProviderUrl::from_text(text)?;
        if url.query().is_some() {
            return Err(Refusal::because("it must not have a query (OpenID Connect Discovery 1.0 §3)"));
        }
        Ok(Self(text.to_owned()))
    }

    fn shape() -> Shape {
        <ProviderUrl as FromText>::shape()
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

impl FromText for Target {
    const WHAT: &'static str = "an upstream's address";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        const HELP: &str = "write `http://HOST:PORT` or `https://HOST`";
        if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(Refusal::because("it has a blank, a backslash or a control character").help(HELP));
        }
        let url = Url::parse(text).map_err(|e| Refusal::because(e.to_string()).help(HELP))?;
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(Refusal::because("its scheme must be http or https").help(HELP)),
        };
        if !url.username().is_empty() || url.password().is_some() {
            let help = "give the upstream a `credential`";
            return Err(Refusal::because("a user name or password does not belong into it").help(help));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            let why = "it has a path, query or fragment: what the policy judged is what is forwarded";
            return Err(Refusal::because(why).help("a route's `rewrite` changes paths"));
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| Refusal::advice(HELP))?;
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or_else(|| Refusal::advice(HELP))?;
        Ok(Self { tls, host: host.into(), port })
    }

    fn shape() -> Shape {
        text_shape("target", "`http://HOST:PORT` or `https://HOST`, without a path", Some("https?://[^/]+/?"))
    }
}

impl FromText for ClaimPath {
    const WHAT: &'static str = "the place of a claim";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() || text.len() > 256 {
            return Err(Refusal::because("it must have 1 to 256 bytes"));
        }
        if !text.starts_with('/') {
            return Ok(Self::Name(text.into()));
        }
        let escaped = |part: &str| part.starts_with('0') || part.starts_with('1');
        if !text.split('~').skip(1).all(escaped) {
            return Err(Refusal::because(
                "in a JSON pointer `~` is written `~0` and `/` is written `~1` (RFC 6901 §3)",
            ));
        }
        Ok(Self::Pointer(text.into()))
    }

    fn shape() -> Shape {
        text_shape("claim", "a claim's name, or a JSON pointer when it starts with `/`: `/realm/roles`", None)
    }
}

impl FromText for LimitKey {
    const WHAT: &'static str = "a quota's key";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        match text.split_once(':') {
            Some(("claim", place)) => return Ok(Self::Claim(ClaimPath::from_text(place)?)),
            Some(("header", name)) => return Ok(Self::Header(HeaderName::from_text(name)?)),
            Some(_) | None => {}
        }
        match text {
            "subject" => Ok(Self::Subject),
            "issuer" => Ok(Self::Issuer),
            "client" => Ok(Self::Client),
            "ip" => Ok(Self::Ip),
            "route" => Ok(Self::Route),
            "global" => Ok(Self::Global),
            _ => Err(unknown_word(
                text,
                &["subject", "issuer", "client", "ip", "route", "global", "header:NAME", "claim:PLACE"],
            )),
        }
    }

    fn shape() -> Shape {
        text_shape(
            "quota key",
            "`subject` (issuer and subject), `issuer`, `client` (`azp`, else `client_id`), `ip` (IPv6 by /64), `route`, \
             `global`, `claim:NAME` or `claim:/pointer`, `header:NAME` (unverified)",
            Some("(subject|issuer|client|ip|route|global|(header|claim):.+)"),
        )
    }
}

/// A quota: by name, or a rate of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LimitText {
    Name(String),
    Rate(RateText),
}

impl FromText for LimitText {
    const WHAT: &'static str = "a rate or the name of a limit";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if text.contains('/') {
            return RateText::from_text(text).map(Self::Rate);
        }
        match Name::from_text(text) {
            Ok(Name(name)) => Ok(Self::Name(name)),
            Err(_) => Err(Refusal::advice("write a rate, `3/10m`, or a name under `limits`")),
        }
    }

    fn shape() -> Shape {
        Shape::Either(vec![<RateText as FromText>::shape(), <Name as FromText>::shape()])
    }
}

/// `METHOD /path`, or `* /path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OperationText {
    pub(super) text: String,
    pub(super) method: Option<Method>,
    pub(super) path: PathPattern,
}

impl FromText for OperationText {
    const WHAT: &'static str = "an operation";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let mut words = text.split_ascii_whitespace();
        let (Some(method), Some(path), None) = (words.next(), words.next(), words.next()) else {
            return Err(Refusal::advice("write a method, or `*` for any, and a path: `DELETE /**`"));
        };
        let method = if method == "*" { None } else { Some(Method::from_text(method)?) };
        let path = PathPattern::from_text(path)?;
        Ok(Self { text: format!("{} {path}", method.as_ref().map_or("*", |m| m.as_str())), method, path })
    }

    fn shape() -> Shape {
        text_shape("operation", "`METHOD /path` or `* /path`, the path a pattern: `DELETE /**`", Some("[^ ]+ +/.*"))
    }
}

/// A scope (RFC 6749 §3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope(pub(super) String);

impl FromText for Scope {
    const WHAT: &'static str = "a scope";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let allowed = |b: u8| b == 0x21 || (0x23..=0x5b).contains(&b) || (0x5d..=0x7e).contains(&b);
        if text.is_empty() || !text.bytes().all(allowed) {
            return Err(Refusal::because("it has a character that a scope cannot hold (RFC 6749 §3.3)"));
        }
        Ok(Self(text.to_owned()))
    }

    fn shape() -> Shape {
        text_shape("scope", "one scope", Some("[!#-\\[\\]-~]+"))
    }
}

/// A value of `acr` or `amr`: it is sent in a challenge's quoted string, `acr` values separated by spaces (RFC 9470 §3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AssuranceValue(pub(super) String);

impl FromText for AssuranceValue {
    const WHAT: &'static str = "an assurance value";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\') {
            return Err(Refusal::because("it must be visible ASCII without blanks, quotes and backslashes"));
        }
        Ok(Self(text.to_owned()))
    }

    fn shape() -> Shape {
        text_shape("assurance value", "one value, exactly as the token has it", Some("[!#-\\[\\]-~]+"))
    }
}

/// A time zone of the IANA database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Zone(pub(super) String);

impl FromText for Zone {
    const WHAT: &'static str = "a time zone";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        // The bundled database, never the machine's: the same file means the same everywhere.
        let zones = jiff::tz::TimeZoneDatabase::bundled();
        if text.len() <= 64 && zones.get(text).is_ok() {
            return Ok(Self(text.to_owned()));
        }
        let names: Vec<String> = zones.available().map(|name| name.as_str().to_owned()).collect();
        let near = super::nearest::nearest(text, names.iter().map(String::as_str));
        Err(match near {
            Some(name) => Refusal::advice(format!("did you mean `{name}`?")),
            None => Refusal::advice("write an IANA name: `Europe/Paris`, `UTC`"),
        })
    }

    fn shape() -> Shape {
        text_shape("time zone", "an IANA time zone: `Europe/Paris`", None)
    }
}

/// Whether an address is reachable from this machine alone.
pub(super) fn is_loopback_address(address: &SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip: Ipv4Addr| ip.is_loopback()),
    }
}

/// Whether two listeners would ask the system for the same socket.
pub(super) fn same_socket(a: &SocketAddr, b: &SocketAddr) -> bool {
    let family = a.is_ipv4() == b.is_ipv4();
    let any = a.ip() == Ipv4Addr::UNSPECIFIED || a.ip() == Ipv6Addr::UNSPECIFIED;
    let other = b.ip() == Ipv4Addr::UNSPECIFIED || b.ip() == Ipv6Addr::UNSPECIFIED;
    a.port() != 0 && a.port() == b.port() && family && (a.ip() == b.ip() || any || other)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused<T: FromText>(texts: &[&str]) {
        for text in texts {
            assert!(T::from_text(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn provider_urls_are_https_or_loopback() {
        for good in ["https://idp.example/", "http://127.0.0.1:9/x", "http://localhost:1", "http://[::1]/"] {
            assert!(ProviderUrl::from_text(good).is_ok(), "{good}");
        }
        refused::<ProviderUrl>(&[
            "http://idp.example/",
            "http://127.0.0.1.example/",
            "http://localhost.example/",
            "ftp://idp.example/",
            "https://u:p@idp.example/",
            "https://idp.example/#x",
            " https://idp.example/",
            "https:\\\\idp.example",
            "idp.example",
            "",
        ]);
        assert_eq!(IssuerUrl::from_text("https://IDP.example").unwrap().0, "https://IDP.example");
        refused::<IssuerUrl>(&["https://idp.example/?a"]);
    }

    #[test]
    fn targets_have_a_scheme_a_host_and_a_port_and_nothing_else() {
        let target = |text: &str| Target::from_text(text).map(|t| (t.tls, t.host.to_string(), t.port)).unwrap();
        assert_eq!(target("http://127.0.0.1:9100"), (false, "127.0.0.1".into(), 9100));
        assert_eq!(target("https://api.internal"), (true, "api.internal".into(), 443));
        assert_eq!(target("http://[::1]:80/"), (false, "[::1]".into(), 80));
        refused::<Target>(&[
            "http://a/b",
            "http://a?x",
            "http://a#x",
            "http://u@a",
            "a:80",
            "unix:/x",
            "http://",
            "http://a:0",
            "",
        ]);
    }

    #[test]
    fn mail_servers_are_smtp_or_smtps_with_a_port_of_their_own() {
        let server =
            |text: &str| MailServer::from_text(text).map(|it| (it.protection, it.host.to_string(), it.port)).unwrap();
        assert_eq!(server("smtps://mail.example"), (MailProtection::Tls, "mail.example".into(), 465));
        assert_eq!(server("smtp://mail.example/"), (MailProtection::StartTls, "mail.example".into(), 587));
        assert_eq!(server("smtp://127.0.0.1:25"), (MailProtection::StartTls, "127.0.0.1".into(), 25));
        assert_eq!(server("smtps://[::1]:4650"), (MailProtection::Tls, "[::1]".into(), 4650));
        assert_eq!(server("smtps://[::1]"), (MailProtection::Tls, "[::1]".into(), 465));
        refused::<MailServer>(&[
            "mail.example:587",
            "smtp://",
            "smtp://:25",
            "smtp://mail.example:0",
            "smtp://mail.example:x",
            "smtp://mail.example/x",
            "smtp://mail.example?tls=required",
            "smtp://u:p@mail.example",
            "smtp://mail example",
            "https://mail.example",
        ]);
        for bad in
            ["a@example.com, b@example.com", "a@example.com b", "A <a@example.com> b", "A\r\nBcc: b <a@example.com>"]
        {
            assert!(Sender::from_text(bad).is_err(), "{bad}");
        }
        assert!(Sender::from_text("Müller & Söhne <a@example.com>").is_ok());
    }

    #[test]
    fn methods_are_tokens_and_never_connect_or_trace() {
        assert!(Method::from_text("PROPFIND").is_ok());
        refused::<Method>(&["CONNECT", "TRACE", "get", "G ET", "", "connect"]);
    }

    #[test]
    fn keys_of_quotas_are_read() {
        assert_eq!(LimitKey::from_text("header:X-Api-Key"), Ok(LimitKey::Header(HeaderName::from_static("x-api-key"))));
        assert_eq!(LimitKey::from_text("claim:/a/b"), Ok(LimitKey::Claim(ClaimPath::Pointer("/a/b".into()))));
        assert_eq!(LimitKey::from_text("claim:tenant"), Ok(LimitKey::Claim(ClaimPath::Name("tenant".into()))));
        refused::<LimitKey>(&["user", "header:", "header:a b", "claim:", "claim:/a~2", "", "ip:"]);
    }

    #[test]
    fn operations_are_a_method_and_a_path() {
        let operation = OperationText::from_text("*   /account/delete/**").unwrap();
        assert_eq!((operation.text.as_str(), operation.method), ("* /account/delete/**", None));
        refused::<OperationText>(&["/x", "DELETE", "DELETE x", "DELETE /a /b", "delete /a", ""]);
    }

    #[test]
    fn networks_are_exact() {
        assert_eq!(Network::from_text("10.1.2.3").unwrap().0.to_string(), "10.1.2.3/32");
        refused::<Network>(&["10.0.0.1/8", "10.0.0.0/33", "ten", ""]);
    }

    #[test]
    fn zones_come_from_the_bundled_database() {
        assert!(Zone::from_text("Europe/Paris").is_ok() && Zone::from_text("UTC").is_ok());
        assert_eq!(Zone::from_text("Europe/Pariss"), Err(Refusal::advice("did you mean `Europe/Paris`?")));
    }

    #[test]
    fn sockets_clash_by_port_and_address() {
        let clash = |a: &str, b: &str| same_socket(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(clash("127.0.0.1:1", "127.0.0.1:1") && clash("0.0.0.0:1", "127.0.0.1:1"));
        assert!(!clash("127.0.0.1:1", "127.0.0.1:2") && !clash("127.0.0.1:1", "127.0.0.2:1"));
        assert!(!clash("127.0.0.1:0", "127.0.0.1:0") && !clash("0.0.0.0:1", "[::]:1"));
    }
}
