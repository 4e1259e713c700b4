//! The tables.

/// A kind of rows. The names stand in the store, and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// What the store says of itself: the key that names are hidden with.
    Meta,
    /// People with a second factor: who they are.
    Subjects,
    /// Their factors, by subject.
    Factors,
    /// Recovery codes, by subject.
    RecoveryCodes,
    /// Ceremonies under way: each is used once.
    Ceremonies,
    /// Wrong guesses and what they led to.
    Guesses,
    /// Codes that were sent, and how many.
    Sent,
    /// Invitations to enrol.
    Invitations,
    /// Resets that wait for a second operator.
    Resets,
    /// Elevated tokens.
    Elevations,
    /// Codes at the end of a page, to be presented by the token's holder.
    Handovers,
    /// Grants that were used.
    Spent,
    /// Sessions of pages.
    PageSessions,
    /// Accounts, by the name that one logs in with.
    Accounts,
    /// Sessions of accounts, with their refresh tokens.
    Sessions,
    /// Keys that sign grants and access tokens.
    SigningKeys,
    /// Messages that are to be delivered.
    Outbox,
    /// Account deletions, by number.
    Erasures,
    /// Whose they are: the one that is open, whether tokens are refused, and what was erased before.
    ErasureSubjects,
    /// The terms that they were asked for under, by SHA-256.
    ErasurePlans,
    /// Since when deletions are held, as there were too many.
    ErasureBreaker,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 21] = [
        Self::Meta,
        Self::Subjects,
        Self::Factors,
        Self::RecoveryCodes,
        Self::Ceremonies,
        Self::Guesses,
        Self::Sent,
        Self::Invitations,
        Self::Resets,
        Self::Elevations,
        Self::Handovers,
        Self::Spent,
        Self::PageSessions,
        Self::Accounts,
        Self::Sessions,
        Self::SigningKeys,
        Self::Outbox,
        Self::Erasures,
        Self::ErasureSubjects,
        Self::ErasurePlans,
        Self::ErasureBreaker,
    ];

    /// Its name in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Subjects => "subjects",
            Self::Factors => "factors",
            Self::RecoveryCodes => "recovery_codes",
            Self::Ceremonies => "ceremonies",
            Self::Guesses => "guesses",
            Self::Sent => "sent",
            Self::Invitations => "invitations",
            Self::Resets => "resets",
            Self::Elevations => "elevations",
            Self::Handovers => "handovers",
            Self::Spent => "spent",
            Self::PageSessions => "page_sessions",
            Self::Accounts => "accounts",
            Self::Sessions => "sessions",
            Self::SigningKeys => "signing_keys",
            Self::Outbox => "outbox",
            Self::Erasures => "erasures",
            Self::ErasureSubjects => "erasure_subjects",
            Self::ErasurePlans => "erasure_plans",
            Self::ErasureBreaker => "erasure_breaker",
        }
    }
}
