//! Whether a proof's `htu` is the URL of the request (RFC 9449 §4.3, 9): without query and fragment, after the
//! syntax-based and the scheme-based normalisation of RFC 3986 §6.2.2 and §6.2.3, and after no other. What is no such
//! URL is equal to nothing.

use crate::config::Target;

/// Where a request went, as the client sent it.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// `https` or `http`.
    pub scheme: &'a str,
    /// `Host` or `:authority`.
    pub authority: &'a str,
    /// The path, as it was sent.
    pub path: &'a str,
}

impl Place<'_> {
    /// Whether `htu` names it. Where clients know us by other origins, it must begin with one of those; with the very one
    /// that was asked for, where that is one of them.
    pub(super) fn is_named_by(&self, htu: &str, origins: &[Target]) -> bool {
        let Some((origin, path)) = split(htu) else { return false };
        let asked = Origin::parse(self.scheme, self.authority);
        let origin_fits = if origins.is_empty() {
            asked.is_some_and(|asked| asked == origin)
        } else {
            // By its name alone: something before us may have ended TLS.
            let host = Origin::parse("https", self.authority).map(|asked| asked.host);
            let mut named =
                origins.iter().filter(|known| host.is_some_and(|host| host.eq_ignore_ascii_case(&known.host)));
            let fits = |known: &Target| origin == Origin { tls: known.tls, host: &known.host, port: known.port };
            match named.next() {
                Some(first) => fits(first) || named.any(fits),
                None => origins.iter().any(fits),
            }
        };
        origin_fits && same_path(path, self.path)
    }
}

/// Scheme, host and port, the port always written out.
#[derive(Debug, Clone, Copy)]
struct Origin<'a> {
    tls: bool,
    host: &'a str,
    port: u16,
}

impl PartialEq for Origin<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.tls == other.tls && self.port == other.port && self.host.eq_ignore_ascii_case(other.host)
    }
}

impl<'a> Origin<'a> {
    fn parse(scheme: &str, authority: &'a str) -> Option<Self> {
        let tls = match scheme {
            _ if scheme.eq_ignore_ascii_case("https") => true,
            _ if scheme.eq_ignore_ascii_case("http") => false,
            _ => return None,
        };
        // RFC 3986 §3.2.2: colons are a host's own in brackets alone.
        let host_end = match authority.strip_prefix('[') {
            Some(literal) => literal.find(']')? + 2,
            None => authority.find(':').unwrap_or(authority.len()),
        };
        let (host, port) = authority.split_at_checked(host_end)?;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~[]:".contains(&b);
        if host.is_empty() || !host.bytes().all(allowed) {
            return None;
        }
        let port = match port.strip_prefix(':') {
            // RFC 3986 §6.2.3: an empty port is the scheme's own.
            _ if port.is_empty() || port == ":" => {
                if tls {
                    443
                } else {
                    80
                }
            }
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) | None => return None,
        };
        Some(Self { tls, host, port })
    }
}

/// The origin and the path of an absolute URL.
fn split(url: &str) -> Option<(Origin<'_>, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end)?;
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    // What is no URI at all is no other spelling of one (RFC 3986 §2).
    let legal = |b: u8| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b);
    if !url.bytes().all(legal) {
        return None;
    }
    Some((Origin::parse(scheme, authority)?, path))
}

/// Whether two paths are one. The request's own was judged already: it has no dot segments and nothing that is doubtful.
fn same_path(htu: &str, ours: &str) -> bool {
    let htu = if htu.is_empty() { "/" } else { htu };
    htu == ours || matches!((normal_path(htu), normal_path(ours)), (Some(htu), Some(ours)) if htu == ours)
}

/// A path as RFC 3986 §6.2.2 would write it; `None` if it cannot be read.
fn normal_path(path: &str) -> Option<String> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut normal = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let (byte, encoded) = match byte {
            b'%' => (hex(bytes.next()?)? << 4 | hex(bytes.next()?)?, true),
            _ => (byte, false),
        };
        let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        // §6.2.2.2; what may not stand in a path unencoded is the same as its encoding, to whoever sends it so.
        if unreserved || (!encoded && b"!$&'()*+,;=:@/".contains(&byte)) {
            normal.push(char::from(byte));
        } else {
            let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().map(char::from);
            normal.extend(['%', digit(byte >> 4)?, digit(byte & 15)?]);
        }
    }
    without_dot_segments(&normal)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// RFC 3986 §5.2.4, for a path that begins with a slash.
fn without_dot_segments(path: &str) -> Option<String> {
    let segments = path.strip_prefix('/')?.split('/');
    let last = segments.clone().count();
    let mut kept: Vec<&str> = Vec::new();
    for (number, segment) in segments.enumerate() {
        let is_last = number + 1 == last;
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    Some(format!("/{}", kept.join("/")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(htu: &str, (scheme, authority, path): (&str, &str, &str)) -> bool {
        Place { scheme, authority, path }.is_named_by(htu, &[])
    }

    #[test]
    fn spellings_of_one_url_are_equal() {
        let asked = ("https", "api.example", "/items/a~b%2Fc");
        for htu in [
            "https://api.example/items/a~b%2Fc",
            "HTTPS://API.Example/items/a~b%2Fc",
            "https://api.example:443/items/a~b%2Fc",
            "https://api.example:/items/a~b%2Fc",
            "https://api.example:0443/items/a~b%2Fc",
            "https://api.example/items/a%7Eb%2Fc",
            "https://api.example/items/a%7eb%2fc",
            "https://api.example/%69tems/./x/../a~b%2Fc",
            "https://api.example/items/a~b%2Fc?page=2",
            "https://api.example/items/a~b%2Fc#part",
            "https://api.example/items/a~b%2Fc?a#b?c",
        ] {
            assert!(named(htu, asked), "{htu}");
        }
        for (htu, asked) in [
            ("https://api.example", ("https", "api.example", "/")),
            ("https://api.example?x", ("https", "api.example:443", "/")),
            ("http://api.example:80/", ("http", "API.example", "/")),
            ("http://[::1]:8080/x", ("http", "[::1]:8080", "/x")),
            ("https://[2001:DB8::1]/x", ("https", "[2001:db8::1]:443", "/x")),
            ("https://api.example/caf%c3%a9", ("https", "api.example", "/caf%C3%A9")),
            ("https://api.example/caf%c3%a9", ("https", "api.example", "/caf\u{e9}")),
            ("https://api.example/a%7Cb", ("https", "api.example", "/a|b")),
        ] {
            assert!(named(htu, asked), "{htu}");
        }
    }

    #[test]
    fn another_url_is_another_url() {
        let asked = ("https", "api.example", "/items/7");
        for htu in [
            "",
            "/items/7",
            "//api.example/items/7",
            "api.example/items/7",
            "http://api.example/items/7",
            "wss://api.example/items/7",
            "https:/api.example/items/7",
            "https:///items/7",
            "https://api.example:8443/items/7",
            "https://api.example:80/items/7",
            "https://api.example:99999/items/7",
            "https://api.example:+443/items/7",
            "https://api.example:443x/items/7",
            "https://api.example.evil/items/7",
            "https://api.example./items/7",
            "https://user@api.example/items/7",
            "https://api.example@evil.example/items/7",
            "https://evil.example/items/7?https://api.example/items/7",
            "https://evil.example\\@api.example/items/7",
            "https://api%2Eexample/items/7",
            "https://api.example/items/7/",
            "https://api.example//items/7",
            "https://api.example/Items/7",
            "https://api.example/items%2F7",
            "https://api.example/items/77",
            "https://api.example/items/%zz",
            "https://api.example/items/%3",
            "https://api.example/items/7 ",
            " https://api.example/items/7",
            "https://api.example/items/7\n",
            "https://[api.example]/items/7",
            "https://[::1/items/7",
            "https://[::1]x/items/7",
        ] {
            assert!(!named(htu, asked), "{htu}");
        }
        assert!(!named("https://api.example/x", ("https", "", "/x")), "a client of HTTP/1.0 that names no host");
    }

    #[test]
    fn declared_origins_stand_in_for_what_a_proxy_hides() {
        let target = |tls, host: &str, port| Target { tls, host: host.into(), port };
        let origins = [target(true, "api.example", 443), target(true, "old.example", 8443)];
        let named = |htu: &str, scheme, authority| Place { scheme, authority, path: "/x" }.is_named_by(htu, &origins);
        assert!(named("https://api.example/x", "http", "gateway.internal:8080"));
        assert!(named("https://old.example:8443/x", "http", "gateway.internal:8080"));
        assert!(named("https://API.example:443/x", "http", "api.example"));
        assert!(!named("http://gateway.internal:8080/x", "http", "gateway.internal:8080"));
        assert!(!named("https://old.example:8443/x", "http", "api.example"), "made for another of our names");
        assert!(!named("https://api.example/y", "http", "api.example"));
        assert!(!named("https://old.example/x", "http", "old.example"));
    }

    proptest! {
        #[test]
        fn any_text_gets_an_answer(htu in ".{0,80}", path in "/[ -~]{0,40}") {
            named(&htu, ("https", "api.example", &path));
        }

        #[test]
        fn a_url_names_itself_however_its_letters_are_encoded(
            path in "/[a-zA-Z0-9._~-]{1,12}(/[a-zA-Z0-9_~!$&'()*+,;=:@-]{1,12}){0,3}",
            encode in prop::collection::vec(prop::bool::ANY, 64),
        ) {
            prop_assume!(!path.split('/').any(|segment| segment == "." || segment == ".."));
            let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
            let spelt: String = path.bytes().zip(encode.iter().cycle())
                .map(|(b, encode)| if *encode && unreserved(b) { format!("%{b:02x}") } else { char::from(b).to_string() })
                .collect();
            let htu = format!("https://api.example{spelt}?q");
            prop_assert!(named(&htu, ("https", "api.example", &path)), "{}", htu);
            let longer = format!("{path}x");
            prop_assert!(!named(&htu, ("https", "api.example", &longer)));
        }
    }
}
