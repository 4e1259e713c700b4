//! One key in the file: a JSON object on a line of its own.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The longest key that is looked at, ours or imported.
pub const LONGEST_KEY: usize = 512;
/// The longest text of each kind, in bytes.
const LONGEST_ID: usize = 64;
const LONGEST_OWNER: usize = 256;
const LONGEST_NOTE: usize = 1024;
/// The most scopes, networks or limits of one key.
const LONGEST_LIST: usize = 256;
/// What a hash begins with: which function it is of.
const FUNCTION: &str = "sha256:";

/// What is kept of a key, as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record<'a> {
    /// What names it in lists, logs and revocations; no secret.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// `sha256:` and the hash of the key in hexadecimal digits.
    #[serde(borrow)]
    pub hash: Cow<'a, str>,
    /// Whose it is: the subject of its requests.
    #[serde(borrow)]
    pub owner: Cow<'a, str>,
    /// What it may do.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Text<'a>>,
    /// When it ends (RFC 3339); without it, never.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Text<'a>>,
    /// From where it may be used; without any, from everywhere.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Text<'a>>,
    /// Quotas of its own, besides the route's.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Text<'a>>,
    /// When it was added (RFC 3339).
    #[serde(borrow)]
    pub created: Cow<'a, str>,
    /// When it was revoked (RFC 3339).
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Text<'a>>,
    /// What it is for.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Text<'a>>,
    /// Whether it was not made by us, so that its form says nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub imported: bool,
}

/// A text that is borrowed from its line where that is possible.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

/// The times and the hash of a record that is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) hash: [u8; 32],
    /// Seconds since the epoch.
    pub(super) created: u32,
    pub(super) expires: Option<u32>,
    pub(super) revoked: Option<u32>,
}

/// The hash of a key.
pub fn digest(key: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key).as_ref());
    hash
}

/// A hash as it is written.
pub fn written(hash: &[u8; 32]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or('0');
    let digits = hash.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    FUNCTION.chars().chain(digits).collect()
}

impl<'a> Record<'a> {
    /// Reads a line, or says what is wrong with it. Says nothing of what the line holds but names, so that a key that was
    /// put there by mistake is not told on.
    pub fn parse(line: &'a [u8]) -> Result<Self, String> {
        // Without names, what stands first would be taken for the first member.
        if !line.starts_with(b"{") {
            return Err("a JSON object is expected".to_owned());
        }
        serde_json::from_slice(line).map_err(|error| {
            let column = error.column();
            match error.classify() {
                serde_json::error::Category::Data => {
                    format!("column {column}: {}", without_values(&error.to_string()))
                }
                serde_json::error::Category::Eof => "the line breaks off".to_owned(),
                serde_json::error::Category::Syntax | serde_json::error::Category::Io => {
                    format!("column {column}: this is not JSON")
                }
            }
        })
    }

    /// Finds out whether everything that it says is usable; limits are known by name.
    pub(super) fn check(&self, limits: &HashSet<Arc<str>>) -> Result<Checked, String> {
        let clean =
            |text: &str, longest| !text.is_empty() && text.len() <= longest && !text.chars().any(char::is_control);
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        if self.id.is_empty() || self.id.len() > LONGEST_ID || !self.id.bytes().all(plain) {
            return Err("`id` must be 1 to 64 letters, digits, `_` and `-`".to_owned());
        }
        let hash = self
            .hash
            .strip_prefix(FUNCTION)
            .and_then(bytes)
            .ok_or("`hash` must be `sha256:` and 64 hexadecimal digits")?;
        if !clean(&self.owner, LONGEST_OWNER) {
            return Err("`owner` must have 1 to 256 bytes and no control characters".to_owned());
        }
        if self.note.as_ref().is_some_and(|Text(note)| !clean(note, LONGEST_NOTE)) {
            return Err("`note` must have 1 to 1024 bytes and no control characters".to_owned());
        }
        for (name, list) in [("scopes", &self.scopes), ("networks", &self.networks), ("limits", &self.limits)] {
            if list.len() > LONGEST_LIST {
                return Err(format!("`{name}` has more than {LONGEST_LIST} items"));
            }
        }
        if !self.scopes.iter().all(|Text(scope)| is_scope(scope)) {
            return Err("`scopes` has one with a character that a scope cannot hold (RFC 6749 section 3.3)".to_owned());
        }
        if let Some(at) = self.networks.iter().position(|Text(network)| parse_network(network).is_none()) {
            return Err(format!("`networks[{at}]` is no network: write `10.0.0.0/8`, `2001:db8::/32` or an address"));
        }
        if let Some(at) = self.limits.iter().position(|Text(limit)| !limits.contains(&**limit)) {
            return Err(format!("`limits[{at}]` is not the name of a limit of the configuration"));
        }
        let time = |name: &str, text: &str| seconds(text).ok_or_else(|| bad_time(name));
        let optional =
            |name: &str, text: &Option<Text<'_>>| text.as_ref().map(|Text(text)| time(name, text)).transpose();
        Ok(Checked {
            hash,
            created: time("created", &self.created)?,
            expires: optional("expires", &self.expires)?,
            revoked: optional("revoked", &self.revoked)?,
        })
    }

    /// The line that it is written as, with its end.
    pub(super) fn line(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }
}

/// A network, or a single address; without bits behind its prefix.
pub(super) fn parse_network(text: &str) -> Option<IpNet> {
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Some(IpNet::from(address.to_canonical()));
    }
    text.parse::<IpNet>().ok().filter(|network| network.trunc() == *network)
}

fn bad_time(name: &str) -> String {
    format!("`{name}` is no time before the year 2106 as RFC 3339 has it: `2027-01-31T00:00:00Z`")
}

fn seconds(text: &str) -> Option<u32> {
    let moment: Timestamp = text.parse().ok()?;
    // The largest is taken as "none" in the table.
    u32::try_from(moment.as_second()).ok().filter(|seconds| *seconds != u32::MAX)
}

fn is_scope(scope: &str) -> bool {
    let legal = |b: u8| b == 0x21 || (0x23..=0x5b).contains(&b) || (0x5d..=0x7e).contains(&b);
    !scope.is_empty() && scope.bytes().all(legal)
}

fn bytes(digits: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut out = [0; 32];
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if pairs.len() != out.len() || !rest.is_empty() {
        return None;
    }
    for (place, [high, low]) in out.iter_mut().zip(pairs) {
        *place = digit(*high)? << 4 | digit(*low)?;
    }
    Some(out)
}

/// What serde says of a value, without the value.
fn without_values(message: &str) -> String {
    let message = message.split(" at line ").next().unwrap_or_default();
    match message.split_once(", expected ") {
        Some((found, expected)) if found.starts_with("invalid ") => format!("{expected} is expected"),
        Some((unknown, expected)) if unknown.starts_with("unknown field") => {
            format!("this member is none of a key's: {}", expected.trim_start_matches("one of "))
        }
        Some(_) | None => message.to_owned(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"id":"a1","hash":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","owner":"acme","scopes":["read"],"expires":"2027-01-01T00:00:00Z","networks":["10.0.0.0/8","::1"],"limits":["per-key"],"created":"2026-01-01T00:00:00Z"}"#;

    fn check(line: &str) -> Result<Checked, String> {
        Record::parse(line.as_bytes())?.check(&["per-key".into()].into())
    }

    #[test]
    fn a_record_is_read_and_written_back_as_it_was() {
        let record = Record::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(record.line().unwrap(), format!("{GOOD}\n").as_bytes());
        let checked = check(GOOD).unwrap();
        assert_eq!((checked.hash, written(&checked.hash)), (digest(b""), record.hash.into_owned()));
        assert_eq!((checked.created, checked.expires, checked.revoked), (1_767_225_600, Some(1_798_761_600), None));
    }

    #[test]
    fn every_member_is_checked() {
        for (from, to, says) in [
            (r#""a1""#, r#""""#, "`id`"),
            (r#""a1""#, r#""a b""#, "`id`"),
            ("sha256:", "", "`hash`"),
            ("sha256:e3", "sha256:", "`hash`"),
            ("e3b0", "e3x0", "`hash`"),
            (r#""acme""#, r#""a\nb""#, "`owner`"),
            (r#""read""#, r#""re ad""#, "`scopes`"),
            ("2027-01-01", "2027-13-01", "`expires`"),
            ("2027-01-01", "2107-01-01", "`expires`"),
            (r#""2027-01-01T00:00:00Z""#, r#""2027-01-01""#, "`expires`"),
            ("10.0.0.0/8", "10.0.0.1/8", "`networks[0]`"),
            ("::1", "everywhere", "`networks[1]`"),
            ("per-key", "per-kex", "`limits[0]`"),
            ("2026-01-01T00:00:00Z", "1969-01-01T00:00:00Z", "`created`"),
            (r#","created":"2026-01-01T00:00:00Z""#, "", "missing field `created`"),
            (r#""owner":"acme""#, r#""owner":7"#, "a string is expected"),
            (r#""owner""#, r#""sgk_secret":1,"owner""#, "none of a key's"),
            (r#""owner""#, r#""id":"x","owner""#, "duplicate field `id`"),
            ("}", "", "the line breaks off"),
            ("{", "", "a JSON object is expected"),
            (":", "", "this is not JSON"),
            (GOOD, r#"["a1", "x"]"#, "a JSON object is expected"),
            ("}", "} {}", "this is not JSON"),
        ] {
            let line = GOOD.replacen(from, to, 1);
            let fault = check(&line).unwrap_err();
            assert!(fault.contains(says) && !fault.contains("sgk_secret"), "{line}: {fault}");
        }
    }
}
