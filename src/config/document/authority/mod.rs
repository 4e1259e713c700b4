//! `authority`: the gateway's own second-factor authority.

mod accounts;
mod factors;

pub(in crate::config) use accounts::Accounts;
pub(in crate::config) use factors::{FactorText, Factors, Passkey, Totp, UserVerification, WorthTable};

use std::time::Duration;

use url::Url;

use crate::config::{
    ClaimPath, ElevationBy, ElevationRule, Enrolment, FirstFactor,
    decode::{At, FromText, Refusal, section, words},
    quantity::{Count, Leeway, RateText, Size},
    shape::{Shape, TextShape},
    text::{EventPath, Name, ProviderUrl},
};

section! {
    /// A second factor for any route, whatever the identity provider can do: passkeys, authenticator apps, codes that are sent.
    /// Callers keep the credential that they have. See docs/authority.
    "authority" Authority {
        /// The origin that browsers know the gateway by: where its pages are. Without a path.
        url: At<WebOrigin>,
        /// The path below which all of its endpoints and pages are, on every listener. It comes before the routes.
        path: At<EventPath> = "/stepgate",
        /// Whether it keeps accounts as well.
        mode: At<Mode> = "second_factor",
        /// Whose callers may have a second factor here: names under `issuers` and `credentials`; an empty list: everybody's.
        issuers: Vec<At<Name>> = "[]",
        /// What a caller's own credential counts as, where it says nothing of how it was had.
        first_factor: At<FirstFactor> = "knowledge",
        /// The `acr` values that a proof is worth, and what each takes. A level that asks for another value can be reached by the
        /// provider's tokens alone.
        acr: WorthTable = "{}",
        /// The factors that people can have; what is left out of this section is off.
        factors: Factors = "{passkey: {}, totp: {}, recovery: {}}",
        /// Who may enrol a first factor. A further one always needs one that is there.
        enrolment: At<Enrolment> = "invitation",
        /// How long an invitation is good for, at most 90d.
        invitation_ttl: At<Duration> = "7d",
        /// How long a factor that was enrolled without another one (after a reset, a recovery, or by open enrolment) can delete
        /// nothing.
        probation: At<Leeway> = "24h",
        /// How a page elevates a credential.
        elevation: At<ElevationRule> = "by_code",
        /// Whose an elevation is.
        elevation_by: At<ElevationBy> = "credential",
        /// How long an elevation is good for, for levels without `max_age`; at most 24h.
        elevation_ttl: At<Duration> = "5m",
        /// Proofs for a single request.
        grants: Grants = "{}",
        /// Origins that a page may send the browser back to, and whose scripts may call the JSON API.
        return_to: Vec<At<WebOrigin>> = "[]",
        /// What wrong codes lead to.
        guessing: Guessing = "{}",
        /// How many codes are sent to a person.
        send_limit: At<RateText> = "3/10m",
        /// How many calls and pages one address may ask for; one that asks for more is told to wait.
        limit: CallLimit = "{rate: 10/s, burst: 60}",
        /// Whether a reset needs a second operator to approve it.
        four_eyes: bool = "false",
        /// How people are told of changes to their factors.
        notices: Notices = "{}",
        /// Takes codes and serves pages without TLS, where they can be read on the way: for a gateway behind a proxy that ends TLS.
        danger_cleartext: At<bool> = "false",
        /// The accounts, with `mode: accounts`.
        accounts: Option<Accounts>,
    }
}

section! {
    /// How many calls and pages one address (IPv6: one /64) may ask for, whoever asks. What bounds guessing is another thing.
    "calls by address" CallLimit {
        /// How much is admitted.
        rate: At<RateText> = "10/s",
        /// How many at once, for a rate per second only; by default N.
        burst: Option<At<Count<1, 1_000_000_000>>>,
    }
}

section! {
    /// Proofs for a single request: short tokens that are used once (RFC 8693).
    "grants" Grants {
        /// How long one is good for, at most 10m.
        ttl: At<Duration> = "2m",
        /// The longest body that one may be bound to; it is held in memory until it is compared.
        body_bytes: Size<0, 16_777_216> = "64KiB",
    }
}

section! {
    /// What wrong codes lead to. The lock is on a subject at an address (IPv6 by /64) with a credential, so that a stranger cannot
    /// lock the owner out; over all addresses guessing only gets slower. A right code or a passkey forgets it all.
    "guessing" Guessing {
        /// How many wrong codes lead to the first lock.
        failures: At<Count<1, 100>> = "5",
        /// How long the first lock lasts. Each wrong code after it doubles the next.
        first: At<Duration> = "30s",
        /// How long a lock lasts at most, and the longest pause between two guesses over all addresses.
        longest: At<Duration> = "15m",
        /// How many wrong codes over all addresses leave only passkeys, until an operator unlocks.
        hard: At<Count<1, 100_000>> = "100",
    }
}

section! {
    /// How people are told of changes to their factors.
    "notices" Notices {
        /// Where a token has the person's mail address; it is kept with the factors. Needs `notify.mail`.
        email_claim: Option<At<ClaimPath>>,
        /// The webhook under `notify.webhooks` that hears of every change.
        webhook: Option<At<Name>>,
    }
}

/// Whether the authority keeps accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Mode {
    SecondFactor,
    Accounts,
}

words! { Mode, "a mode of the authority":
    "second_factor" => Self::SecondFactor, "the provider stays: it says who callers are, and the authority adds the second factor";
    "accounts" => Self::Accounts, "there is no provider: the authority keeps accounts and issues the tokens, too";
}

words! { FirstFactor, "what a credential counts as":
    "knowledge" => Self::Knowledge, "as something known, as a password is: with an authenticator app it makes two factors";
    "unknown" => Self::Unknown, "as nothing: only a passkey that verifies the person is two factors";
}

words! { Enrolment, "a rule for enrolment":
    "invitation" => Self::Invitation, "who has an invitation by an operator, beside a valid credential";
    "open" => Self::Open, "who comes first with a valid credential, a thief perhaps";
}

words! { ElevationRule, "a way to elevate by a page":
    "by_code" => Self::ByCode, "the page ends in a code that the credential's holder presents: nobody can have a stranger elevate it";
    "by_page" => Self::ByPage, "the credential that asked for the page is elevated when the page is done, whoever did it";
}

words! { ElevationBy, "whose an elevation is":
    "credential" => Self::Credential, "the very credential's that asked for it";
    "session" => Self::Session, "every token's of the provider's session (`sid`)";
}

/// An origin that browsers know: https, or http on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct WebOrigin(pub(in crate::config) Url);

impl FromText for WebOrigin {
    const WHAT: &'static str = "an origin";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let ProviderUrl(url) = ProviderUrl::from_text(text).map_err(|refusal| {
            refusal.help("write `https://HOST` or `https://HOST:PORT`; `http://` to loopback alone")
        })?;
        if url.path() != "/" || url.query().is_some() {
            return Err(
                Refusal::because("it has a path or a query").help("write the scheme, the host and the port alone")
            );
        }
        Ok(Self(url))
    }

    fn shape() -> Shape {
        let about = "`https://HOST` or `https://HOST:PORT`, without a path; `http://` only to loopback";
        Shape::Text(TextShape { name: "web origin", about, pattern: Some("https?://[^/]+/?") })
    }
}
