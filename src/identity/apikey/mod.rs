//! API keys: which source knows a key, and what it may do. A key is 256 random bits in a form that secret scanners find
//! and that tells a slip of the pen before anything is looked up; what is kept of it is its SHA-256.
//!
//! ```text
//!   key ── form ── SHA-256 ── table ── revoked? expired? network? ──> Credential
//!           │ no key of ours, none imported                ▲
//!           └─> malformed                      the file, read again when it changes
//! ```
//!
//! **Why a plain SHA-256 is enough.** Slow and salted hashes make guessing what people choose dear. Nobody guesses 256 random
//! bits at any speed, and no two keys are alike, so that a salt would keep nothing apart. Imported keys may be weaker, of
//! which `stepgate keys add --import` warns.
//!
//! **Why a look-up by hash gives nothing away by its time.** Where a look-up ends depends on the digest, and nobody can choose
//! a digest's bits without trying keys: what the time of one could tell is about a digest and says nothing of the key behind
//! it. The last comparison takes the same time wherever two digests differ, all the same.

mod edit;
mod format;
mod last_use;
mod record;
mod shown;
mod source;
mod store;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use smallvec::SmallVec;

pub use edit::{EditFault, KeyFile, Locked};
pub use format::{Form, NoRandomness, form, make, make_id};
pub use last_use::{LastUses, last_use_file, read as read_last_uses};
pub use record::{LONGEST_KEY, Record, Text, digest, written};
pub use table::{FileFault, KeyTable, LineFault};

pub(super) use self::shown::Shown;
use self::source::{Source, Verdict};
use super::{Accepted, Presented, SourceServices};
use crate::{
    clock::Now,
    config::{ApiKeys, Config, CredentialSource, Problem},
    policy::{Credential, Reason},
};

/// The sources of API keys of one configuration.
#[derive(Debug, Default)]
pub(super) struct ApiKeySources {
    sources: Vec<Arc<Source>>,
}

impl ApiKeySources {
    /// Finds what is wrong with the files, without starting anything.
    pub(super) fn check(config: &Config) -> Vec<Problem> {
        configured(config)
            .filter_map(|(source, keys)| source::check(source, keys, &config.limits).err())
            .flatten()
            .collect()
    }

    /// Reads the files and watches them from now on. A source whose definition did not change stays as it is, and looks at
    /// its file again at once.
    pub(super) fn compile(
        config: &Config,
        services: &SourceServices,
        previous: Option<&Self>,
    ) -> Result<Self, Vec<Problem>> {
        let (mut sources, mut problems) = (Vec::new(), Vec::new());
        for (source, keys) in configured(config) {
            let before = previous.and_then(|previous| previous.named(&source.name));
            match Source::compile(source, keys, config, services, before) {
                Ok(source) => sources.push(source),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() { Ok(Self { sources }) } else { Err(problems) }
    }

    /// What a request shows of keys to the sources that its route takes.
    pub(super) fn shown<'p>(&self, presented: &Presented<'p>, accepted: &Accepted) -> Shown<'p> {
        let sources = self.accepted(accepted);
        shown::shown(presented, accepted.kinds(), sources.iter().map(|source| &source.keys))
    }

    /// Judges a key: each source that reads where it stood is asked in order, and the first that knows it decides.
    pub(super) fn authenticate(
        &self,
        key: &shown::Key<'_>,
        presented: &Presented<'_>,
        accepted: &Accepted,
        now: Now,
    ) -> Credential {
        let mut worst = Reason::ApiKeyMalformed;
        let mut hash = None;
        for source in self.accepted(accepted) {
            if !key.place.is_read_by(&source.keys) {
                continue;
            }
            // It has been read by whoever was on the way, whether it is a key or not.
            if !presented.confidential && !source.keys.danger_cleartext {
                return Credential::Invalid(Reason::PasswordCleartext);
            }
            match source.judge(&key.bytes, &mut hash, presented.address, now) {
                Verdict::Malformed => {}
                Verdict::Unknown => worst = Reason::ApiKeyUnknown,
                Verdict::Known(credential) => return credential,
            }
        }
        Credential::Invalid(worst)
    }

    /// Writes down when keys were last used.
    pub(super) fn write_last_uses(&self) {
        self.sources.iter().for_each(|source| source.write_last_uses());
    }

    /// The sources of a route, in its order.
    fn accepted(&self, accepted: &Accepted) -> SmallVec<[&Source; 4]> {
        match accepted.names() {
            [] => self.sources.iter().map(|source| &**source).collect(),
            names => names.iter().filter_map(|name| self.named(name).map(|source| &**source)).collect(),
        }
    }

    fn named(&self, name: &str) -> Option<&Arc<Source>> {
        self.sources.iter().find(|source| *source.name == *name)
    }
}

fn configured(config: &Config) -> impl Iterator<Item = (&Arc<CredentialSource>, &ApiKeys)> {
    config.credentials.iter().filter_map(|source| Some((source, source.kind.api_keys()?)))
}
