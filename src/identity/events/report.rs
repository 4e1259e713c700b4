//! What a believed token reports, and which revocations follow from it.

use std::{sync::Arc, time::Duration};

use super::EventKind;
use crate::{
    clock::Now,
    config::{Events, SignOut},
    identity::revocation::{Revocation, TargetKind},
};

/// What a token reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// When the provider said so, in seconds since the epoch.
    pub issued_at: f64,
    /// Each event in it.
    pub findings: Vec<Finding>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What happened.
    pub kind: EventKind,
    /// Whom it is about; empty where that is not understood.
    pub targets: Vec<(TargetKind, Arc<str>)>,
}

impl Report {
    /// What is to be revoked. Tokens that were issued in the very second of the event are: it cannot be told which came
    /// first. All times come from the token, so that the same token asks for the same again.
    pub(super) fn revocations(&self, issuer: &Arc<str>, events: &Events, now: Now) -> Vec<Revocation> {
        let second = Duration::try_from_secs_f64(self.issued_at).unwrap_or(Duration::MAX).as_secs();
        let expires = second.saturating_add(1).saturating_add(events.keep.as_secs());
        if expires <= now.unix_secs() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for finding in self.findings.iter().filter(|finding| finding.kind.ends_something()) {
            let one_session = finding.kind.is_about_a_session()
                && events.sign_out == SignOut::Session
                && finding.targets.iter().any(|(kind, _)| *kind == TargetKind::Session);
            for (kind, value) in &finding.targets {
                if one_session && *kind == TargetKind::Subject {
                    continue;
                }
                found.push(Revocation {
                    source: Arc::clone(issuer),
                    kind: *kind,
                    value: Arc::clone(value),
                    // A session that has ended gets no more tokens that count; a subject may come back.
                    issued_before: (*kind == TargetKind::Subject).then(|| second.saturating_add(1)),
                    expires: Some(expires),
                    reason: Some(finding.kind.name().into()),
                    by: format!("events of {issuer}").into(),
                });
            }
        }
        found
    }
}
