//! What this room has to tell, said to whoever listens: metrics and the audit trail. Labels are closed enums; who it was is
//! for the audit alone.

use std::net::IpAddr;

use super::Owner;
use crate::{clock::Now, policy::Factor};

/// What a ceremony is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Occasion {
    /// A level of proof.
    StepUp,
    /// A grant.
    Grant,
    /// A code on the request itself.
    Request,
    /// A factor that is enrolled.
    Enrol,
    /// A change of factors.
    Manage,
    /// An account that signs in, or renews its session.
    SignIn,
    /// A code from the end of a page, presented by its holder.
    Handover,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was begun.
    Begun,
    /// The proof was right.
    Proved,
    /// It was wrong, used before, expired, or somebody else's.
    Refused,
    /// It was not looked at, as too much was wrong before.
    Locked,
    /// The store could not be asked.
    Unavailable,
}

/// Something that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// An invitation was made.
    Invited,
    /// A factor was enrolled.
    Enrolled,
    /// A factor was renamed.
    Renamed,
    /// A factor was removed.
    Removed,
    /// A set of recovery codes was made.
    RecoveryCodes,
    /// A recovery code was used.
    RecoveryUsed,
    /// A reset was asked for, and waits for a second operator.
    ResetAsked,
    /// All factors were taken away by an operator.
    Reset,
    /// Locks were lifted by an operator.
    Unlocked,
    /// Guessing was locked for one address and credential.
    Locked,
    /// Guessing was locked over all addresses.
    HardLocked,
    /// A passkey's signature counter went back.
    CounterWentBack,
    /// A credential was elevated.
    Elevated,
    /// An elevation was ended by its holder.
    SteppedDown,
    /// A grant was made.
    Granted,
    /// An account was made.
    Registered,
    /// An account's password was changed.
    PasswordChanged,
    /// An account got another mail address.
    AddressChanged,
    /// An account was recovered: it has another password.
    Recovered,
    /// An account's sessions were ended by its owner.
    SessionsEnded,
    /// A refresh token was shown a second time: its session was ended.
    TokenReused,
    /// All that was kept of somebody was taken away, as their account was erased.
    Forgotten,
}

macro_rules! names {
    ($kind:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $kind {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name in metrics and records.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

names!(Occasion {
    StepUp = "step_up", Grant = "grant", Request = "request", Enrol = "enrol", Manage = "manage", SignIn = "sign_in",
    Handover = "handover",
});
names!(Outcome { Begun = "begun", Proved = "proved", Refused = "refused", Locked = "locked", Unavailable = "unavailable" });
names!(Change {
    Invited = "invited", Enrolled = "enrolled", Renamed = "renamed", Removed = "removed",
    RecoveryCodes = "recovery_codes", RecoveryUsed = "recovery_used", ResetAsked = "reset_asked", Reset = "reset",
    Unlocked = "unlocked", Locked = "locked", HardLocked = "hard_locked", CounterWentBack = "counter_went_back",
    Elevated = "elevated", SteppedDown = "stepped_down", Granted = "granted",
    Registered = "registered", PasswordChanged = "password_changed", AddressChanged = "address_changed",
    Recovered = "recovered", SessionsEnded = "sessions_ended", TokenReused = "token_reused",
    Forgotten = "forgotten",
});

/// Who did something, for the audit.
#[derive(Debug, Clone, Copy)]
pub struct Actor<'a> {
    /// The person whose factors it is about.
    pub owner: &'a Owner,
    /// The operator, where one did it.
    pub operator: Option<&'a str>,
    /// The client's address, where it was a call.
    pub client: Option<IpAddr>,
    /// `X-Request-Id`, where it was a call.
    pub request_id: Option<&'a str>,
}

/// Listens. Called on the request's path, so implementations count, hand over, and return.
pub trait AuthorityObserver: Send + Sync {
    /// A ceremony went a step further. `factor` is `None` where none was recognised.
    fn ceremony(&self, _actor: Actor<'_>, _factor: Option<Factor>, _occasion: Occasion, _outcome: Outcome, _now: Now) {}

    /// Something changed. `factor` is the factor that it is about, `detail` a word of a closed list.
    fn change(&self, _actor: Actor<'_>, _change: Change, _factor: Option<Factor>, _detail: &'static str, _now: Now) {}

    /// A code was sent by this factor, or would have been and was not (`false`).
    fn sent(&self, _factor: Factor, _allowed: bool) {}

    /// So many people have a factor, and so many elevations live.
    fn counts(&self, _subjects: u64, _elevations: u64) {}

    /// The store could not be asked or written.
    fn store_fault(&self) {}
}

/// Nobody listens: for `check`, `explain` and tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl AuthorityObserver for Unobserved {}
