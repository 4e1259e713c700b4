//! What a grant is once it was read, and whether a request is the one that it was made for. How one is made, signed and read is
//! another file's.

use std::{fmt, sync::Arc};

use aws_lc_rs::digest;

use super::Owner;
use crate::{policy::SecondFactor, route::NormalPath};

/// SHA-256 of a body.
pub type BodyDigest = [u8; 32];

/// A grant whose signature, holder and times were found good.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// Its number (`jti`): what is spent once.
    pub id: Arc<str>,
    /// What it is worth: [`Covers::Grant`](crate::policy::Covers::Grant), `bound` where `binding` is there.
    pub proof: Arc<SecondFactor>,
    /// From when on it is good for nothing, in seconds since the epoch: as long must it be remembered as spent.
    pub expires_at: u64,
    /// The one request that it is good for; `None`: any of its holder's that asks for its level.
    pub binding: Option<GrantBinding>,
    /// What it rests on.
    pub basis: GrantBasis,
}

/// The factor that a grant rests on: once that is gone, so is the grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantBasis {
    /// Whose it is.
    pub owner: Owner,
    /// The factor's identifier; empty for a recovery code.
    pub factor_id: Box<str>,
    /// How often the person's factors had been taken away by then.
    pub era: u32,
}

/// The one request that a grant is good for: all of it, or nothing is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantBinding {
    /// The effective method.
    pub method: http::Method,
    /// What it is done to.
    pub target: Target,
    /// The body; that of an empty one, where there is none.
    pub body: BodyDigest,
}

impl Grant {
    /// Whether the request's body must be known before [`Self::fits`] can tell.
    pub fn wants_body(&self) -> bool {
        self.binding.is_some()
    }

    /// Whether a request is the one that it was made for.
    pub fn fits(&self, request: &GrantBinding) -> bool {
        self.binding.as_ref().is_none_or(|binding| binding == request)
    }
}

impl GrantBinding {
    /// The digest of a body.
    pub fn digest(body: &[u8]) -> BodyDigest {
        let mut out = [0; 32];
        out.copy_from_slice(digest::digest(&digest::SHA256, body).as_ref());
        out
    }
}

/// What a request is done to, in one spelling: host and port as they were asked for (lower case, without a final dot and
/// without the ports that schemes have by themselves), the path in its normal form, the query byte for byte, without the
/// parameters that carry API keys. The scheme is no part of it: a gateway behind another proxy may not know it.
#[derive(Clone, PartialEq, Eq)]
pub struct Target(Box<str>);

impl Target {
    /// The target of a request as it is judged.
    pub fn new(authority: &str, path: &NormalPath<'_>, query: Option<&str>) -> Self {
        let authority = plain_authority(authority);
        let path = path.as_str();
        Self(match query {
            Some(query) => format!("{authority}{path}?{query}").into(),
            None => format!("{authority}{path}").into(),
        })
    }

    /// The target in a text: an absolute URL of http or https, or a path and a query, at `authority` then. `None`: it is
    /// neither, or one that the gateway would take no request for.
    pub fn parse(text: &str, authority: &str) -> Option<Self> {
        let (authority, rest) = match text.starts_with('/') {
            true => (authority, text),
            false => {
                let (scheme, rest) = text.split_once("://")?;
                if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
                    return None;
                }
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                rest.split_at_checked(end)?
            }
        };
        let host = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':' | b'[' | b']');
        if authority.is_empty() || !authority.bytes().all(host) {
            return None;
        }
        // As it will stand in a request line: printable, and without a fragment.
        if !rest.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
            return None;
        }
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        let path = NormalPath::parse(if path.is_empty() { "/" } else { path }).ok()?;
        Some(Self::new(authority, &path, query))
    }

    /// As text: what [`Self::read`] takes back.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A target that [`Self::as_str`] wrote down.
    pub fn read(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Target {
    /// Without the query, which may hold what is nobody's to read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.split('?').next().unwrap_or_default())
    }
}

fn plain_authority(authority: &str) -> String {
    let lower = authority.to_ascii_lowercase();
    let plain = lower.strip_suffix(":443").or(lower.strip_suffix(":80")).unwrap_or(&lower);
    let plain = plain.strip_suffix(':').unwrap_or(plain);
    match plain.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(']') && !port.ends_with(']') => {
            format!("{}:{port}", host.strip_suffix('.').unwrap_or(host))
        }
        Some(_) | None => plain.strip_suffix('.').unwrap_or(plain).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that fails should panic")]

    use super::*;

    fn of(authority: &str, path: &str, query: Option<&str>) -> String {
        Target::new(authority, &NormalPath::parse(path).unwrap(), query).as_str().to_owned()
    }

    #[test]
    fn a_target_has_one_spelling_however_it_is_said() {
        let one = "api.example/items/a%2Bb?x=1&y";
        assert_eq!(of("api.example", "/items/a%2bb", Some("x=1&y")), one);
        for (text, authority) in [
            ("/items/a%2bb?x=1&y", "API.example"),
            ("/items/a%2Bb?x=1&y", "api.example.:443"),
            ("https://api.example/items/%61%2bb?x=1&y", "other.example"),
            ("HTTP://Api.Example:80/items/a%2Bb?x=1&y", "other.example"),
        ] {
            assert_eq!(Target::parse(text, authority).unwrap().as_str(), one, "{text}");
        }
        assert_eq!(Target::parse("https://[::1]:8443", "x").unwrap().as_str(), "[::1]:8443/");
        assert_eq!(of("[::1]:443", "/", None), "[::1]/");
        assert_eq!(Target::parse("https://a.example.:8443?q", "x").unwrap().as_str(), "a.example:8443/?q");
    }

    #[test]
    fn two_targets_that_differ_are_never_one() {
        let all = ["/a", "/a?", "/a?x", "/a?x=1", "/a/", "/A", "https://b.example/a", "https://h:81/a", "/a%2Fb2"];
        let all: Vec<_> = all.into_iter().filter_map(|text| Target::parse(text, "h")).collect();
        assert_eq!(all.len(), 8, "an encoded slash is none");
        for (at, one) in all.iter().enumerate() {
            assert!(all.iter().skip(at + 1).all(|other| other != one), "{one:?}");
        }
    }

    #[test]
    fn what_no_request_could_be_for_is_no_target() {
        for text in [
            "",
            "a",
            "ftp://a/b",
            "https://",
            "https://a@b/",
            "/a#b",
            "/a b",
            "/a/../b",
            "//a",
            "https:///a",
            "/a\u{e9}",
            "https://a\\b/",
        ] {
            assert!(Target::parse(text, "h").is_none(), "{text}");
        }
        assert!(Target::parse("/a", "").is_none());
    }

    #[test]
    fn a_bound_grant_fits_its_own_request_alone() {
        let binding = |method: &str, target: &str, body: &[u8]| GrantBinding {
            method: method.parse().unwrap(),
            target: Target::parse(target, "h").unwrap(),
            body: GrantBinding::digest(body),
        };
        let proof = SecondFactor {
            assurance: Default::default(),
            factors: Default::default(),
            categories: Default::default(),
            covers: crate::policy::Covers::Grant { level: "l".into(), bound: true },
            may_delete: true,
        };
        let owner = Owner { issuer: "i".into(), subject: "s".into() };
        let basis = GrantBasis { owner, factor_id: "f".into(), era: 0 };
        let bound = Some(binding("DELETE", "/a?x", b"body"));
        let grant = Grant { id: "1".into(), proof: Arc::new(proof), expires_at: 1, binding: bound, basis };
        assert!(grant.wants_body() && grant.fits(&binding("DELETE", "/a?x", b"body")));
        for other in [
            binding("POST", "/a?x", b"body"),
            binding("delete", "/a?x", b"body"),
            binding("DELETE", "/a?y", b"body"),
            binding("DELETE", "/a?x", b"bodz"),
            binding("DELETE", "/a?x", b""),
        ] {
            assert!(!grant.fits(&other), "{other:?}");
        }
        let free = Grant { binding: None, ..grant };
        assert!(!free.wants_body() && free.fits(&binding("POST", "/", b"")));
    }
}
