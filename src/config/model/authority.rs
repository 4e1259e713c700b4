//! The gateway's own second-factor authority.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use url::Url;

use super::{File, Limit, Source, Span};
use crate::policy::{Categories, Factor, FactorRule, Factors, IssuerName};

/// The authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Where it stands in the file.
    pub span: Span,
    /// Whether it keeps accounts as well; `None`: the provider stays, and it adds the second factor.
    pub accounts: Option<Accounts>,
    /// The public origin that browsers know, without a path: where the pages are.
    pub url: Url,
    /// The path, in normal form, below which everything of the authority's is; no final slash.
    pub path: Arc<str>,
    /// Whose callers may have a second factor here; empty: every issuer's and source's.
    pub issuers: Vec<IssuerName>,
    /// Whether a caller's own credential counts as something known, where it says nothing of how it was had.
    pub first_factor: FirstFactor,
    /// The `acr` values that a proof here is worth, and what each takes.
    pub acr: Vec<(Arc<str>, FactorRule)>,
    /// Passkeys; `None`: off. So for each factor.
    pub passkey: Option<Passkey>,
    /// Authenticator apps.
    pub totp: Option<Totp>,
    /// Codes by e-mail.
    pub email: Option<SentCode>,
    /// Codes through the webhook named here.
    pub webhook: Option<SentCode>,
    /// Approvals through the webhook named here.
    pub push: Option<SentCode>,
    /// Recovery codes: how many a set has.
    pub recovery: Option<u32>,
    /// Who may enrol a first factor.
    pub enrolment: Enrolment,
    /// How long an invitation is good for.
    pub invitation_ttl: Duration,
    /// How long a factor that was enrolled without another one can delete nothing.
    pub probation: Duration,
    /// Who elevates, at a page.
    pub elevation: ElevationRule,
    /// Whose an elevation is.
    pub elevation_by: ElevationBy,
    /// How long an elevation is good for, for levels that say no `max_age`.
    pub elevation_ttl: Duration,
    /// How long a grant is good for.
    pub grant_ttl: Duration,
    /// The longest body that a grant may be bound to, in bytes.
    pub grant_body_bytes: usize,
    /// Origins that a page may send the browser back to.
    pub return_to: Vec<Url>,
    /// Bounds on guessing.
    pub guessing: Guessing,
    /// How many codes are sent to somebody in a period.
    pub send_limit: (NonZeroU32, Duration),
    /// How many calls and pages an address may ask for.
    pub limit: Arc<Limit>,
    /// Whether a reset needs a second operator.
    pub four_eyes: bool,
    /// How changes are told.
    pub notices: Notices,
    /// Whether it answers where no TLS is spoken, as behind a proxy that ends TLS.
    pub danger_cleartext: bool,
}

impl Authority {
    /// The factors that can be shown here.
    pub fn offered(&self) -> Factors {
        let on = |factor: &Factor| match factor {
            // The first factor of accounts, never shown as a second one.
            Factor::Password => false,
            Factor::Passkey => self.passkey.is_some(),
            Factor::Totp => self.totp.is_some(),
            Factor::Email => self.email.is_some(),
            Factor::Webhook => self.webhook.is_some(),
            Factor::Push => self.push.is_some(),
            Factor::Recovery => self.recovery.is_some(),
        };
        Factor::ALL.into_iter().filter(on).collect()
    }

    /// Those of them that a rule takes, each by itself: which together make enough categories is another question.
    pub fn taken_by(&self, rule: Option<FactorRule>) -> Factors {
        let alone = FactorRule { categories: 0, ..rule.unwrap_or_default() };
        let takes = |factor: &Factor| alone.is_met(Factors::NONE.with(*factor), Categories::NONE);
        self.offered().iter().filter(takes).collect()
    }
}

/// A caller's first factor, where the credential says nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstFactor {
    /// It counts as something known, as a password is.
    Knowledge,
    /// It counts as nothing: a second factor must then be two by itself to be `mfa`.
    Unknown,
}

/// What rows are sealed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealing {
    /// The key that seals.
    pub key: SealingKey,
    /// Keys that still open what they sealed.
    pub previous: Vec<SealingKey>,
}

/// Where a key of 32 bytes is, as base64, base64url or hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealingKey {
    /// In a file, or in the environment.
    Source(Source),
    /// A command prints it.
    Command {
        /// Where it stands.
        span: Span,
        /// The program and its arguments; no shell.
        argv: Vec<String>,
    },
}

/// Passkeys and security keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passkey {
    /// The relying party's identifier: the host of `url`, or a parent domain of it.
    pub rp_id: Arc<str>,
    /// What people are shown.
    pub rp_name: Arc<str>,
    /// Origins whose pages may run ceremonies, besides `url`'s.
    pub origins: Vec<Url>,
    /// Whether the device must verify the person.
    pub user_verification: bool,
}

/// Authenticator apps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totp {
    /// What the app shows as the name of the service.
    pub label: Arc<str>,
    /// How many digits a code has: 6 or 8.
    pub digits: u32,
    /// How many steps of 30 seconds before and after now are accepted.
    pub skew: u32,
}

/// Codes that are sent, or approvals that are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentCode {
    /// How long one is good for.
    pub ttl: Duration,
    /// The name of the webhook under `notify.webhooks`; `None` for mail.
    pub webhook: Option<Arc<str>>,
    /// The claim that names the address to send to; `None`: the person says it when enrolling.
    pub claim: Option<super::ClaimPath>,
}

/// Who may enrol a first factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrolment {
    /// Who has an invitation, beside a valid credential.
    Invitation,
    /// Who comes first with a valid credential.
    Open,
}

/// How a page elevates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElevationRule {
    /// It ends in a code, which the credential's holder presents.
    ByCode,
    /// The credential that asked for the page is elevated by it.
    ByPage,
}

/// Whose an elevation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElevationBy {
    /// The credential's alone.
    Credential,
    /// Every token's of the provider's session (`sid`).
    Session,
}

/// Bounds on guessing codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guessing {
    /// Wrong codes until guessing locks, by subject, address and credential.
    pub failures: u32,
    /// How long the first lock lasts; each further one twice as long.
    pub first: Duration,
    /// The longest that guessing is slowed over all addresses.
    pub longest: Duration,
    /// Wrong codes over all addresses until only passkeys are left.
    pub hard: u32,
}

/// How changes are told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notices {
    /// The claim with the person's mail address.
    pub email_claim: Option<super::ClaimPath>,
    /// The name of the webhook under `notify.webhooks` that hears of every change.
    pub webhook: Option<Arc<str>>,
}

/// Accounts that the authority keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounts {
    /// The name of the issuer in the configuration: `authority` if not said.
    pub issuer: IssuerName,
    /// Whom access tokens are for.
    pub audience: Arc<str>,
    /// What signs access tokens.
    pub algorithm: super::AssertionAlgorithm,
    /// How often another key follows.
    pub rotate: Duration,
    /// Who may register.
    pub registration: Registration,
    /// How long an access token lives.
    pub access_ttl: Duration,
    /// How long a session lives without being refreshed, and in all.
    pub refresh_idle: Duration,
    /// How long it lives in all.
    pub refresh_ttl: Duration,
    /// The level that a renewal needs, if it needs one.
    pub refresh_assurance: Option<crate::policy::Requirement>,
    /// The scopes that every account has.
    pub scopes: Vec<Arc<str>>,
    /// The shortest password.
    pub password_chars: usize,
    /// A list of passwords that nobody may choose, one a line.
    pub refused_passwords: Option<File>,
}

/// Who may register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Who has an invitation.
    Invitation,
    /// Everybody who shows that they read the mail of the address.
    Open,
    /// Nobody: accounts are imported.
    Closed,
}
