//! What a process refuses once another one has taken over from it: all that rests on the store, the audit log, or on what is remembered
//! of them. Its connections end with these answers, and the next request is the other process's.

use super::{Gateway, Refusal, matched::Matched};
use crate::{
    policy::{Credential, Evidence, Reason},
    runtime::Snapshot,
};

/// The other process serves, or is about to.
const RETRY_SECS: u64 = 1;

/// Whether a request needs what another process may have changed: who is elevated, whose account is held or erased, and the record of
/// guarded operations.
pub(super) fn concerns(snapshot: &Snapshot, matched: &Matched<'_>, evidence: &Evidence) -> bool {
    let by_caller = matches!(evidence.credential, Credential::Valid(_))
        && (snapshot.erasures.is_some() || !evidence.second_factors.is_empty());
    by_caller || matched.guarded() || matched.planned.is_some() || !matched.covered.is_empty()
}

impl Gateway {
    /// Refuses what concerns it, once that is so.
    pub(super) fn refuse_let_go(&self, concerned: bool) -> Result<(), Refusal> {
        if !concerned || !self.services.has_let_go() {
            return Ok(());
        }
        let mut refusal = Refusal::of(Reason::AuthorityUnavailable).because("another process has taken over").closing();
        refusal.retry_after = Some(RETRY_SECS);
        Err(refusal)
    }
}
