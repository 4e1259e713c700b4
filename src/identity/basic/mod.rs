//! User names and passwords (RFC 7617).
//!
//! ```text
//!   Basic … ── TLS? ── in form? ── locked? ── right not long ago? ──yes──────────────────────────────┐
//!               │no      │no         │yes        │ no                                               ▼
//!               │        │           │        may it be tried? ─ a place in the queue? ─ hash ──> Credential
//!               ▼        ▼           ▼           │no: locked       │no: 503              └─ counted
//!            all the same 401 ───────────────────┘
//! ```
//!
//! Hashing takes tens of milliseconds and megabytes, so it is what an attacker would use us for: it is bounded, never done
//! on a thread that serves requests, and never done for who went away. A name that no user has is treated as one that has.

mod budget;
mod familiar;
mod flights;
mod keyed;
mod lockout;
mod presented;
mod softlock;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod users;

use std::sync::Arc;

use self::{
    keyed::Keyed,
    source::{Means, Source},
};
pub use self::{
    presented::UserPass,
    users::{LineFault, UserFault, UserLine, is_name, is_scope, read, with_line, without_line},
};
use super::{Accepted, Presented, SourceServices};
use crate::{
    clock::Now,
    config::{Basic, Config, Materials, Problem},
    policy::{Credential, IssuerName, Reason},
};

/// What a client is told of where passwords are taken (RFC 7617 §2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasicOffer {
    /// What the password is for.
    pub realm: Arc<str>,
    /// Whether it may come without TLS.
    pub cleartext: bool,
}

/// All sources of users of one configuration.
pub(super) struct Passwords {
    sources: Vec<Source>,
    means: Option<Means>,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passwords").field("sources", &self.sources).finish_non_exhaustive()
    }
}

impl Passwords {
    /// Finds what is wrong with the files of users: for `check`.
    pub(super) fn check(config: &Config, materials: &dyn Materials) -> Vec<Problem> {
        configured(config).flat_map(|(_, basic)| source::read(basic, materials).err().unwrap_or_default()).collect()
    }

    /// Reads the files of users. What happened before stays known.
    pub(super) fn compile(
        config: &Config,
        materials: &dyn Materials,
        services: &SourceServices,
        previous: Option<&Self>,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut read = Vec::new();
        for (name, basic) in configured(config) {
            match source::read(basic, materials) {
                Ok(users) => read.push((name, basic, users)),
                Err(found) => problems.extend(found),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let Some((_, first, _)) = read.first() else {
            return Ok(Self { sources: Vec::new(), means: previous.and_then(|previous| previous.means.clone()) });
        };
        let keyed = match previous.and_then(|previous| previous.means.as_ref()) {
            Some(means) => Arc::clone(&means.keyed),
            None => Arc::new(Keyed::new().ok_or_else(|| {
                vec![Problem::error(
                    &first.file.span,
                    "the system gives no randomness, without which users can be found out",
                )]
            })?),
        };
        let means = Means {
            keyed,
            clock: Arc::clone(&services.clock),
            observer: Arc::clone(&services.observer),
            handle: services.handle.clone(),
        };
        let before = |name: &str| previous.and_then(|previous| previous.named(name));
        let sources = read
            .into_iter()
            .map(|(name, basic, users)| Source::new(name, basic, users, &means, before(name)))
            .collect();
        Ok(Self { sources, means: Some(means) })
    }

    /// What a client is told where these sources are taken; `None`: none of them takes passwords.
    pub(super) fn offer(&self, names: &[IssuerName]) -> Option<BasicOffer> {
        let first = self.taken(names).next()?;
        let cleartext = self.taken(names).any(|source| source.basic.danger_cleartext);
        Some(BasicOffer { realm: Arc::clone(&first.basic.realm), cleartext })
    }

    /// Finds out what Basic credentials are worth where these sources are taken. Never [`Credential::Absent`].
    ///
    /// The first source that has a user of that name decides; where none has, the first one counts the attempt.
    pub(super) async fn authenticate(
        &self,
        encoded: &[u8],
        presented: &Presented<'_>,
        accepted: &Accepted,
        now: Now,
    ) -> Credential {
        let is_private = presented.scheme == "https";
        let mut sources =
            self.taken(accepted.names()).filter(|source| is_private || source.basic.danger_cleartext).peekable();
        let (Some(first), Some(means)) = (sources.peek().copied(), &self.means) else {
            return Credential::Invalid(Reason::PasswordCleartext);
        };
        let Some(claimed) = UserPass::parse(encoded) else { return Credential::Invalid(Reason::PasswordMalformed) };
        let source = sources.find(|source| source.knows(&claimed.user)).unwrap_or(first);
        source.authenticate(claimed, presented, means, now).await
    }

    /// Lets go of what says nothing any more.
    pub(super) fn sweep(&self, now: Now) {
        if let Some(means) = &self.means {
            self.sources.iter().for_each(|source| source.sweep(&means.keyed, now));
        }
    }

    /// How many users are locked at an address, by source.
    pub(super) fn locked(&self, now: Now) -> impl Iterator<Item = (&str, usize)> {
        self.sources.iter().map(move |source| (&*source.name, source.locked(now)))
    }

    /// The sources of these names in their order; with no name, all.
    fn taken<'a>(&'a self, names: &'a [IssuerName]) -> impl Iterator<Item = &'a Source> {
        let all = names.is_empty().then_some(&self.sources).into_iter().flatten();
        all.chain(names.iter().filter_map(|name| self.named(name)))
    }

    fn named(&self, name: &str) -> Option<&Source> {
        self.sources.iter().find(|source| *source.name == *name)
    }
}

fn configured(config: &Config) -> impl Iterator<Item = (&IssuerName, &Basic)> {
    config.credentials.iter().filter_map(|source| Some((&source.name, source.kind.basic()?)))
}
