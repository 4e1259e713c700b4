//! One revocation: which credentials it names, until when, and who said so. Its JSON is the same in the file, in the
//! admin API and on the command line.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// The longest value that an entry names: far beyond any subject (OpenID Connect Core §2 allows 255 characters).
pub(super) const VALUE_BYTES: usize = 2048;
/// The longest reason, and the longest name of who gave it.
pub(super) const TEXT_BYTES: usize = 512;
/// The source that stands for all.
pub const ANY_SOURCE: &str = "*";

/// What an entry names credentials by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TargetKind {
    /// One credential, by its identifier: a token's `jti`, an API key's id, a certificate's serial number.
    Jti,
    /// Everything of a subject: as the source's `claims.subject` finds it, or as the token's `sub` has it.
    Subject,
    /// Everything of one session at the provider (`sid`).
    Session,
    /// Everything that a key vouches for, by its `kid`; of a credential without one, the credential's own identifier.
    Key,
    /// Everything of the source.
    All,
}

impl TargetKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Jti, Self::Subject, Self::Session, Self::Key, Self::All];

    /// The name in metrics and in the JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jti => "jti",
            Self::Subject => "subject",
            Self::Session => "session",
            Self::Key => "key",
            Self::All => "all",
        }
    }
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The name of the source that vouches for the credentials; `*` is any.
    pub source: Arc<str>,
    /// How they are named.
    pub kind: TargetKind,
    /// The name; empty for everything of the source.
    pub value: Arc<str>,
    /// Only what was issued before this second of the epoch, or does not say when; `None`: whenever it was issued.
    pub issued_before: Option<u64>,
    /// The second of the epoch from which on it holds no longer; `None`: never.
    pub expires: Option<u64>,
    /// Why, for people.
    pub reason: Option<Arc<str>>,
    /// Who said so.
    pub by: Arc<str>,
}

/// Why a revocation is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryFault {
    /// It names nothing, or several things.
    #[error("exactly one of `jti`, `subject`, `session`, `key` and `all: true` is wanted")]
    Target,
    /// Its name is empty or too long.
    #[error("the name of what is revoked is empty, or longer than 2048 bytes")]
    Value,
    /// Its source has no name that one could have.
    #[error("`issuer` is the name of a source in the configuration, or `*`")]
    Source,
    /// A text is too long.
    #[error("`reason` and `by` have at most 512 bytes")]
    Text,
    /// A single credential was issued once.
    #[error("`issued_before` is not for a `jti`, which names one credential")]
    NeedlessTime,
}

impl Revocation {
    /// Whether this one refuses everything that the other refuses, for as long.
    pub fn covers(&self, other: &Self) -> bool {
        let reaches = |own: Option<u64>, theirs: Option<u64>| match (own, theirs) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(theirs)) => own >= theirs,
        };
        self.kind == other.kind
            && self.value == other.value
            && (self.source == other.source || *self.source == *ANY_SOURCE)
            && reaches(self.issued_before, other.issued_before)
            && reaches(self.expires, other.expires)
    }

    /// Whether it holds at this second of the epoch.
    pub fn holds(&self, now_secs: u64) -> bool {
        self.expires.is_none_or(|expires| now_secs < expires)
    }

    /// Whether it is about what this source vouches for.
    pub fn is_about(&self, source: &str) -> bool {
        *self.source == *source || *self.source == *ANY_SOURCE
    }

    /// Whether a credential that was issued then is among those that it names. One that does not say when is.
    pub fn reaches(&self, issued_at: Option<f64>) -> bool {
        match (self.issued_before, issued_at) {
            (None, _) | (Some(_), None) => true,
            // A time that cannot be compared counts as early.
            (Some(before), Some(at)) => at < before as f64 || at.is_nan(),
        }
    }

    /// Checks what a type cannot.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), EntryFault> {
        if (self.kind == TargetKind::All) != self.value.is_empty() || self.value.len() > VALUE_BYTES {
            return Err(EntryFault::Value);
        }
        if self.source.is_empty() || self.source.len() > 64 {
            return Err(EntryFault::Source);
        }
        if self.by.len() > TEXT_BYTES || self.reason.as_ref().is_some_and(|reason| reason.len() > TEXT_BYTES) {
            return Err(EntryFault::Text);
        }
        if self.kind == TargetKind::Jti && self.issued_before.is_some() {
            return Err(EntryFault::NeedlessTime);
        }
        Ok(())
    }
}

/// A revocation in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number, never used again.
    pub id: u64,
    /// When it was added, in seconds since the epoch.
    pub at: u64,
    /// What is revoked.
    pub revocation: Revocation,
}

/// An entry as JSON has it. Unknown members are a fault: what is not understood might have narrowed it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenEntry<'a> {
    id: u64,
    at: u64,
    issuer: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    all: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issued_before: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Cow<'a, str>>,
    by: Cow<'a, str>,
}

/// Reads which one of the four names, or all, is given.
pub fn target(names: [Option<Arc<str>>; 4], all: bool) -> Result<(TargetKind, Arc<str>), EntryFault> {
    let kinds = [TargetKind::Jti, TargetKind::Subject, TargetKind::Session, TargetKind::Key];
    let mut given = kinds.into_iter().zip(names).filter_map(|(kind, name)| Some((kind, name?)));
    match (given.next(), given.next(), all) {
        (Some(target), None, false) => Ok(target),
        (None, None, true) => Ok((TargetKind::All, "".into())),
        (Some(_), Some(_), _) | (Some(_), None, true) | (None, _, _) => Err(EntryFault::Target),
    }
}

impl WrittenEntry<'_> {
    /// The entry that is meant; `text` gives texts that many entries share.
    pub(super) fn read(self, mut text: impl FnMut(&str) -> Arc<str>) -> Result<Entry, EntryFault> {
        let Self { id, at, issuer, jti, subject, session, key, all, issued_before, expires, reason, by } = self;
        let (kind, value) = target([jti, subject, session, key].map(|name| name.map(Arc::from)), all)?;
        let (source, by) = (text(&issuer), text(&by));
        let reason = reason.map(|reason| text(&reason));
        let revocation = Revocation { source, kind, value, issued_before, expires, reason, by };
        revocation.check()?;
        Ok(Entry { id, at, revocation })
    }
}

impl<'a> From<&'a Entry> for WrittenEntry<'a> {
    fn from(Entry { id, at, revocation }: &'a Entry) -> Self {
        let named = |kind| (revocation.kind == kind).then(|| Cow::Borrowed(&*revocation.value));
        Self {
            id: *id,
            at: *at,
            issuer: Cow::Borrowed(&revocation.source),
            jti: named(TargetKind::Jti),
            subject: named(TargetKind::Subject),
            session: named(TargetKind::Session),
            key: named(TargetKind::Key),
            all: revocation.kind == TargetKind::All,
            issued_before: revocation.issued_before,
            expires: revocation.expires,
            reason: revocation.reason.as_deref().map(Cow::Borrowed),
            by: Cow::Borrowed(&revocation.by),
        }
    }
}

impl Serialize for Entry {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WrittenEntry::from(self).serialize(serializer)
    }
}
