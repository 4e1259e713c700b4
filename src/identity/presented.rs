//! What a request carries that may tell who is calling, as the wire has it, and how it is told apart.

use std::{net::IpAddr, sync::Arc};

use crate::{body::ClientCertificate, secret::Secret};

/// What a request carries that may tell who is calling. Nothing of it is believed yet.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// The `Authorization` field.
    pub authorization: Field<'a>,
    /// What stood where a source looks for API keys.
    pub keys: &'a [ApiKeyField],
    /// The `DPoP` field (RFC 9449 §4.1).
    pub proof: Field<'a>,
    /// The query without `?`.
    pub query: Option<&'a str>,
    /// The method of the request line.
    pub method: &'a http::Method,
    /// `https` or `http`, as the client spoke to us.
    pub scheme: &'a str,
    /// `Host` or `:authority` as the client sent it.
    pub authority: &'a str,
    /// The path as the client sent it.
    pub path: &'a str,
    /// The certificates that the client showed in the handshake.
    pub certificate: Option<&'a ClientCertificate>,
    /// The client's address.
    pub address: IpAddr,
    /// Whether nobody on a network could read it on its last leg: it came over TLS, or from this machine.
    pub confidential: bool,
}

/// What stood in a field of API keys.
#[derive(Debug)]
pub struct ApiKeyField {
    /// Where.
    pub place: ApiKeyPlace,
    /// What; `None` for several values, or one in a form that could be read in two ways.
    pub value: Option<Secret>,
}

/// A field that a source looks for API keys in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiKeyPlace {
    /// A header, by its folded name.
    Header(Arc<str>),
    /// A parameter of the query.
    Parameter(Arc<str>),
}

/// A header field of which there must be no more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// None.
    Absent,
    /// One.
    One(&'a [u8]),
    /// Several, or one in a form that could be read in two ways.
    Several,
}

impl Field<'_> {
    /// Whether this `Authorization` is by the DPoP scheme, whatever follows it (RFC 9449 §7.1).
    pub fn is_by_dpop(&self) -> bool {
        matches!(self, Self::One(value) if scheme(value).0.eq_ignore_ascii_case(b"dpop"))
    }
}

/// The value of `Authorization` (RFC 9110 §11.4): a scheme in any case, then what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Authorization<'a> {
    /// RFC 6750 §2.1. Whether it is well formed is asked where it is not known.
    Bearer(&'a [u8]),
    /// RFC 9449 §7.1; as with the other.
    Dpop(&'a [u8]),
    /// RFC 7617 §2: still in base64.
    Basic(&'a [u8]),
    /// A scheme that is none of ours.
    OtherScheme,
}

impl<'a> Authorization<'a> {
    pub(super) fn parse(value: &'a [u8]) -> Self {
        let (scheme, rest) = scheme(value);
        if scheme.eq_ignore_ascii_case(b"bearer") {
            Self::Bearer(rest)
        } else if scheme.eq_ignore_ascii_case(b"dpop") {
            Self::Dpop(rest)
        } else if scheme.eq_ignore_ascii_case(b"basic") {
            Self::Basic(rest)
        } else {
            Self::OtherScheme
        }
    }
}

/// The scheme, and what follows it. RFC 9110 §5.6.2: a scheme is a token, and one of ours is one whatever comes after it: many a
/// service splits at any white space, or at a comma.
fn scheme(value: &[u8]) -> (&[u8], &[u8]) {
    let end = value.iter().position(|byte| !is_tchar(*byte)).unwrap_or(value.len());
    let (scheme, after) = value.split_at_checked(end).unwrap_or((value, b""));
    // With what is no space before it, nothing is a credential of it.
    (scheme, after.strip_prefix(b" ").unwrap_or_default().trim_ascii())
}

/// RFC 9110 §5.6.2.
const fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// What follows a token's scheme, if it is one (RFC 9110 §11.2).
pub(super) fn token68(text: &[u8]) -> Option<&str> {
    let legal =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
    std::str::from_utf8(text).ok().filter(|text| !text.is_empty() && text.as_bytes().iter().all(legal))
}

/// RFC 6750 §2: a client uses one way a request, and the query is none of ours.
pub(super) fn has_query_token(query: &str) -> bool {
    let named = |pair: &str| url::form_urlencoded::parse(pair.as_bytes()).any(|(name, _)| name == "access_token");
    query.split(['&', ';']).any(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_well_formed_token_is_a_token() {
        let parse = |value: &'static str| Authorization::parse(value.as_bytes());
        assert_eq!(parse("Bearer a.b.c"), Authorization::Bearer(b"a.b.c"));
        assert_eq!(parse("bearer  a.b.c "), Authorization::Bearer(b"a.b.c"));
        assert_eq!(parse("DPoP a.b.c"), Authorization::Dpop(b"a.b.c"));
        assert_eq!(token68(b"a.b-c_d~e+f/g="), Some("a.b-c_d~e+f/g="));
        assert_eq!(parse("Basic YTpi"), Authorization::Basic(b"YTpi"));
        assert_eq!(parse("basic"), Authorization::Basic(b""));
        assert_eq!(parse("Digest x"), Authorization::OtherScheme);
        let is_malformed = |value: &'static str| match parse(value) {
            Authorization::Bearer(token) | Authorization::Dpop(token) => token68(token).is_none(),
            Authorization::Basic(_) | Authorization::OtherScheme => false,
        };
        for malformed in ["Bearer", "Bearer a b", "Bearer a,b", "DPoP", "dpop a b"] {
            assert!(is_malformed(malformed), "{malformed}");
        }
        assert_eq!(parse("Bearertoken"), Authorization::OtherScheme);
        // A scheme of ours is never taken for another's, whatever parts it from the rest.
        for malformed in ["Bearer\ta.b.c", "DPoP,a.b.c", "bearer:a.b.c", "Bearer\u{a0}a.b.c", "Bearer=a", "Bearer/a"] {
            assert!(is_malformed(malformed), "{malformed}");
        }
        assert_eq!(parse("Basic\tYTpi"), Authorization::Basic(b""));
        assert_eq!(parse("Basic/YTpi"), Authorization::Basic(b""));
    }

    #[test]
    fn a_token_in_the_query_is_seen() {
        assert!(has_query_token("a=1&access_token=x"));
        assert!(has_query_token("access_token"));
        assert!(has_query_token("%61ccess%5ftoken=x"));
        assert!(!has_query_token("my_access_token=1&b=access_token"));
    }
}
