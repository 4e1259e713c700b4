//! `credentials.*.api_keys`: where keys are kept, and where a request may carry one.

use http::HeaderName;

use crate::config::{
    decode::{At, FromText, Refusal, section},
    shape::{Shape, TextShape},
    text::FilePath,
};

section! {
    /// API keys: made, listed and revoked by `stepgate keys`. Taken over TLS, or from a peer on this machine.
    "API keys" ApiKeys {
        /// The keys, as hashes, one JSON object a line; `stepgate keys` writes it. Read again when it changes.
        file: At<FilePath>,
        /// The header that carries a key. It is taken away from every request, whatever its route, in every spelling.
        header: At<HeaderName> = "x-api-key",
        /// Whether a key is also taken as the user name of Basic credentials without a password.
        basic_username: bool = "false",
        /// Takes a key from this parameter of the query as well: queries end up in histories, logs of others and `Referer`. It
        /// is taken away from every request, whatever its route.
        danger_query: Option<At<ParameterName>>,
        /// Takes keys over connections that whoever is on the way can read.
        danger_cleartext: At<bool> = "false",
        /// What keys begin with, before an underscore: by it, secret scanners find keys that leaked.
        prefix: KeyPrefix = "sgk",
    }
}

/// The name of a parameter in a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct ParameterName(pub(in crate::config) String);

impl FromText for ParameterName {
    const WHAT: &'static str = "a parameter's name";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
            return Err(Refusal::because(
                "it must be 1 to 64 letters, digits, `_` and `-`, which every service reads alike",
            ));
        }
        if text == "access_token" || text == "_method" {
            return Err(Refusal::because("this name means something else to the gateway"));
        }
        Ok(Self(text.to_owned()))
    }

    fn shape() -> Shape {
        let about = "up to 64 letters, digits, `_` and `-`";
        Shape::Text(TextShape { name: "parameter", about, pattern: Some("[A-Za-z0-9_-]{1,64}") })
    }
}

/// What a key begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct KeyPrefix(pub(in crate::config) String);

impl FromText for KeyPrefix {
    const WHAT: &'static str = "a key's prefix";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
        if (2..=32).contains(&text.len()) && text.split('_').all(word) {
            return Ok(Self(text.to_owned()));
        }
        Err(Refusal::because("it must have 2 to 32 letters and digits, in words joined by `_`")
            .help("write `acme` or `acme_live`"))
    }

    fn shape() -> Shape {
        let about = "2 to 32 letters and digits, in words joined by `_`";
        Shape::Text(TextShape { name: "key prefix", about, pattern: Some("[A-Za-z0-9]+(_[A-Za-z0-9]+)*") })
    }
}
