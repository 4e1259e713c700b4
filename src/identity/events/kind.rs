//! The kinds of events that are told apart, and what may become of one: closed lists, for they are labels.

/// What an event reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKind {
    /// A session ended (OpenID Connect Back-Channel Logout 1.0 §2.4).
    Logout,
    /// A session was revoked (CAEP 1.0 §3.1).
    SessionRevoked,
    /// All sessions of an account were revoked (RISC 1.0 §2.9).
    SessionsRevoked,
    /// All tokens of an account were revoked.
    TokensRevoked,
    /// An account was disabled (RISC 1.0 §2.3).
    AccountDisabled,
    /// An account was deleted (RISC 1.0 §2.2).
    AccountPurged,
    /// An account must change its credential (RISC 1.0 §2.1).
    CredentialChangeRequired,
    /// A credential of an account is known to others (RISC 1.0 §2.7).
    CredentialCompromise,
    /// The provider tries whether events arrive (SSF 1.0 §8.1.4.1).
    Verification,
    /// Anything else: acknowledged, and nothing is done.
    Other,
    /// What could not be read far enough to tell.
    Unread,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Logout,
        Self::SessionRevoked,
        Self::SessionsRevoked,
        Self::TokensRevoked,
        Self::AccountDisabled,
        Self::AccountPurged,
        Self::CredentialChangeRequired,
        Self::CredentialCompromise,
        Self::Verification,
        Self::Other,
        Self::Unread,
    ];

    /// The name in metrics and in the reason of an entry.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::SessionRevoked => "session_revoked",
            Self::SessionsRevoked => "sessions_revoked",
            Self::TokensRevoked => "tokens_revoked",
            Self::AccountDisabled => "account_disabled",
            Self::AccountPurged => "account_purged",
            Self::CredentialChangeRequired => "credential_change_required",
            Self::CredentialCompromise => "credential_compromise",
            Self::Verification => "verification",
            Self::Other => "other",
            Self::Unread => "unread",
        }
    }

    /// The kind of a security event by its URI.
    pub(super) fn of(uri: &str) -> Self {
        let Some(name) = uri.strip_prefix("https://schemas.openid.net/secevent/") else { return Self::Other };
        match name {
            "caep/event-type/session-revoked" => Self::SessionRevoked,
            "risc/event-type/sessions-revoked" => Self::SessionsRevoked,
            "oauth/event-type/tokens-revoked" => Self::TokensRevoked,
            "risc/event-type/account-disabled" => Self::AccountDisabled,
            "risc/event-type/account-purged" => Self::AccountPurged,
            "risc/event-type/account-credential-change-required" => Self::CredentialChangeRequired,
            "risc/event-type/credential-compromise" => Self::CredentialCompromise,
            "ssf/event-type/verification" | "sse/event-type/verification" | "risc/event-type/verification" => {
                Self::Verification
            }
            _ => Self::Other,
        }
    }

    /// Whether what was issued before is no longer good.
    pub(super) const fn ends_something(self) -> bool {
        match self {
            Self::Logout
            | Self::SessionRevoked
            | Self::SessionsRevoked
            | Self::TokensRevoked
            | Self::AccountDisabled
            | Self::AccountPurged
            | Self::CredentialChangeRequired
            | Self::CredentialCompromise => true,
            Self::Verification | Self::Other | Self::Unread => false,
        }
    }

    /// Whether it is about one session, and not all of a subject's.
    pub(super) const fn is_about_a_session(self) -> bool {
        matches!(self, Self::Logout | Self::SessionRevoked)
    }
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventOutcome {
    /// What it names was revoked.
    Applied,
    /// What it names had been revoked already.
    Repeated,
    /// It is so old that every token that it could name has expired.
    Outdated,
    /// It names nobody in a way that is understood, so nothing was revoked.
    Unmatched,
    /// It ends nothing.
    Ignored,
    /// It is not to be believed, or malformed.
    Refused,
    /// It could not be carried out; the provider is asked to send it again.
    Unavailable,
}

impl EventOutcome {
    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Repeated => "repeated",
            Self::Outdated => "outdated",
            Self::Unmatched => "unmatched",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        }
    }
}
