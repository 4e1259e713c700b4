//! `authority.accounts`: accounts for an API that has no identity provider.

use std::time::Duration;

use crate::config::{
    AssertionAlgorithm, Registration,
    decode::{At, section, words},
    document::AssuranceText,
    quantity::Count,
    text::{FilePath, Name, Scope},
};

section! {
    /// Accounts that the authority keeps, and the tokens that it issues for them. Its tokens are one more issuer's: routes name it
    /// in `auth`.
    "accounts" Accounts {
        /// The name of that issuer, for `auth`; no issuer and no source may have it.
        issuer: At<Name> = "authority",
        /// Whom access tokens are for: their `aud`, the API's URL at best.
        audience: At<String>,
        /// What signs access tokens.
        algorithm: AssertionAlgorithm = "ES256",
        /// How often another key follows, at least 2h.
        rotate: At<Duration> = "30d",
        /// Who may register.
        registration: At<Registration> = "invitation",
        /// How long an access token lives, at most 1h.
        access_ttl: At<Duration> = "5m",
        /// Sessions, and the tokens that renew access tokens.
        refresh: Refresh = "{}",
        /// The scopes of every account.
        scopes: Vec<Scope> = "[]",
        /// What a password must be.
        password: Password = "{}",
    }
}

section! {
    /// Sessions. Each refresh token is good for one renewal; one that comes again ends the session.
    "refresh" Refresh {
        /// How long a session lives without being renewed.
        idle: At<Duration> = "7d",
        /// How long it lives in all.
        ttl: At<Duration> = "30d",
        /// The proof that a renewal needs: a level.
        assurance: Option<AssuranceText>,
    }
}

section! {
    /// What a password must be (NIST SP 800-63B §3.1.1.2): long, and in no list. No rules for signs and digits.
    "password" Password {
        /// The fewest characters.
        min_length: At<Count<8, 128>> = "12",
        /// Passwords that nobody may choose, one a line; read again when it changes.
        refused: Option<At<FilePath>>,
    }
}

words! { Registration, "a rule for registration":
    "invitation" => Self::Invitation, "who has an invitation by an operator";
    "open" => Self::Open, "everybody who shows that they read the mail of their address; needs `notify.mail`";
    "closed" => Self::Closed, "nobody: accounts are imported";
}
