//! Sessions of the authority's accounts that have ended: what is left of their access tokens goes on the list of revocations,
//! which every worker asks after each verification, and which survives a crash.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::{
    authority::accounts::SessionEnds,
    clock::Now,
    identity::revocation::{Revocation, Revocations, TargetKind},
    store::{Pending, StoreFault},
};

/// Puts sessions on the list of revocations.
#[derive(Debug)]
pub struct RevokedSessions {
    revocations: Arc<Revocations>,
    handle: Handle,
}

impl RevokedSessions {
    /// By this list; its disk is waited for on the blocking threads of that runtime.
    pub fn new(revocations: Arc<Revocations>, handle: Handle) -> Self {
        Self { revocations, handle }
    }
}

impl SessionEnds for RevokedSessions {
    fn end(&self, issuer: &str, sids: Vec<String>, until: u64, now: Now) -> Pending<()> {
        let issuer: Arc<str> = issuer.into();
        let entry = move |sid: String| Revocation {
            source: issuer.clone(),
            kind: TargetKind::Session,
            value: sid.into(),
            issued_before: None,
            expires: Some(until),
            reason: Some("the session has ended".into()),
            by: "authority".into(),
        };
        let wanted: Vec<Revocation> = sids.into_iter().map(entry).collect();
        let (revocations, handle) = (self.revocations.clone(), self.handle.clone());
        Box::pin(async move {
            let fault = |why: String| StoreFault::Unavailable(format!("a session's end could not be revoked: {why}"));
            let revoked = handle.spawn_blocking(move || revocations.revoke(&wanted, now)).await;
            revoked.map_err(|error| fault(error.to_string()))?.map(drop).map_err(|error| fault(error.to_string()))
        })
    }
}
