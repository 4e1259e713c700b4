//! `credentials.NAME.basic`: user names and passwords.

use std::time::Duration;

use crate::config::{
    decode::{At, FromText, Refusal, section},
    quantity::{Count, Leeway, RateText},
    shape::{Shape, TextShape},
    text::{FilePath, Network, Scope},
};

section! {
    /// User names and passwords (RFC 7617). Where no TLS is spoken they are refused, right or wrong.
    "users" Basic {
        /// The users, `name:hash` or `name:hash:scope scope` a line; the hash is argon2id in PHC form, or bcrypt. `stepgate users`
        /// writes it. Read again when it changes.
        file: At<FilePath>,
        /// What a client is told that the password is for; without this key the name of the source.
        realm: Option<Realm>,
        /// Scopes of every user, besides those in the file.
        scopes: Vec<Scope> = "[]",
        /// How many passwords are hashed at once, each on a thread and in memory of its own.
        concurrent: Count<1, 64> = "2",
        /// How many passwords may wait to be hashed; one more is a 503.
        queue: Count<1, 10_000> = "64",
        /// How long a password that was right is known without being hashed again; `0s`: not at all.
        cache: At<Leeway> = "60s",
        /// What guessing leads to.
        lockout: Lockout = "{}",
        /// Takes passwords without TLS, where they can be read on the way: for a gateway behind a proxy that ends TLS.
        danger_cleartext: At<bool> = "false",
    }
}

section! {
    /// What guessing passwords leads to. The lock is on a user at an address (IPv6 by /64), so that a stranger cannot lock
    /// the user out elsewhere; the two rates bound what many strangers, or many names, can guess in all.
    "lockout" Lockout {
        /// How many wrong passwords for a user from an address lead to the first lock.
        failures: Count<1, 100> = "5",
        /// How long the first lock lasts. Each wrong password after it doubles the next.
        first: At<Duration> = "1m",
        /// How long a lock lasts at most; and how long after it all is forgotten.
        longest: At<Duration> = "1h",
        /// Wrong passwords for a user from all addresses where the user is not familiar: so many at once, and evenly as many
        /// again in each period.
        per_user: RateText = "100/day",
        /// Wrong passwords from an address for all users who are not familiar there, in the same way.
        per_address: RateText = "100/hour",
        /// Networks in which every user is familiar. Elsewhere a user is for 30 days after a right password, until a restart.
        familiar: Vec<Network> = "[]",
    }
}

/// The realm of a challenge (RFC 9110 §11.5): sent in a quoted string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct Realm(pub(in crate::config) String);

impl FromText for Realm {
    const WHAT: &'static str = "a realm";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let plain = |b: u8| (b.is_ascii_graphic() || b == b' ') && b != b'"' && b != b'\\';
        if text.is_empty() || text.len() > 128 || !text.bytes().all(plain) {
            return Err(Refusal::because("it must be up to 128 characters of ASCII without quotes and backslashes"));
        }
        Ok(Self(text.to_owned()))
    }

    fn shape() -> Shape {
        Shape::Text(TextShape {
            name: "realm",
            about: "what a password is for, as clients show it: ASCII without quotes and backslashes",
            pattern: Some("[ !#-\\[\\]-~]+"),
        })
    }
}
