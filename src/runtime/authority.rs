//! What the authority, the store and the outbox report, turned into metrics and audit records.

use std::{sync::Arc, time::Duration};

use crate::{
    authority::{Actor, AuthorityObserver, Change, Occasion, Outcome},
    clock::Now,
    notify::{Loss, NotifyObserver},
    policy::Factor,
    state::StateObserver,
    telemetry::{
        audit::{AuditLog, AuthorityRecord, Happening},
        metrics::AuthorityMetrics,
    },
};

/// Counts what the authority does, and records it.
#[derive(Debug)]
pub struct AuthorityTeller {
    metrics: AuthorityMetrics,
    audit: Arc<AuditLog>,
}

impl AuthorityTeller {
    /// An observer that counts in `metrics` and records in `audit`.
    pub fn new(metrics: AuthorityMetrics, audit: Arc<AuditLog>) -> Self {
        Self { metrics, audit }
    }

    fn record(&self, actor: Actor<'_>, happening: Happening, factor: Option<Factor>, now: Now) {
        self.audit.authority(AuthorityRecord {
            unix_ms: now.unix_ms,
            happening,
            factor: factor.map(Factor::name),
            issuer_url: actor.owner.issuer.clone(),
            subject: actor.owner.subject.clone(),
            operator: actor.operator.map(Arc::from),
            address: actor.client,
            request_id: actor.request_id.map(Arc::from),
        });
    }
}

impl AuthorityObserver for AuthorityTeller {
    fn ceremony(&self, actor: Actor<'_>, factor: Option<Factor>, occasion: Occasion, outcome: Outcome, now: Now) {
        self.metrics.ceremony(factor.map(Factor::name), occasion.name(), outcome.name());
        match outcome {
            // Whoever has a token can begin as many as they like; how one ends is what somebody will ask for.
            Outcome::Begun => {}
            Outcome::Proved | Outcome::Refused | Outcome::Locked | Outcome::Unavailable => {
                let happening = Happening::Ceremony { occasion: occasion.name(), outcome: outcome.name() };
                self.record(actor, happening, factor, now);
            }
        }
    }

    fn change(&self, actor: Actor<'_>, change: Change, factor: Option<Factor>, detail: &'static str, now: Now) {
        match change {
            Change::HardLocked | Change::CounterWentBack | Change::TokenReused => {
                tracing::warn!(change = change.name(), "the authority: look at the audit log for whose it is");
            }
            Change::Invited
            | Change::Enrolled
            | Change::Renamed
            | Change::Removed
            | Change::RecoveryCodes
            | Change::RecoveryUsed
            | Change::ResetAsked
            | Change::Reset
            | Change::Unlocked
            | Change::Locked
            | Change::Elevated
            | Change::SteppedDown
            | Change::Granted
            | Change::Registered
            | Change::PasswordChanged
            | Change::AddressChanged
            | Change::Recovered
            | Change::SessionsEnded
            | Change::Forgotten => {}
        }
        self.metrics.changed(change.name());
        self.record(actor, Happening::Change { change: change.name(), detail }, factor, now);
    }

    fn sent(&self, factor: Factor, allowed: bool) {
        self.metrics.code_sent(factor.name(), allowed);
    }

    fn counts(&self, subjects: u64, elevations: u64) {
        self.metrics.counts(subjects, elevations);
    }

    fn store_fault(&self) {
        self.metrics.store_fault();
    }
}

impl StateObserver for AuthorityTeller {
    fn committed(&self, took: Duration) {
        self.metrics.committed(took);
    }

    fn store_fault(&self) {
        self.metrics.store_fault();
    }
}

impl NotifyObserver for AuthorityTeller {
    fn sent(&self, channel: &str) {
        self.metrics.message(channel, "delivered");
    }

    fn retried(&self, channel: &str) {
        self.metrics.message(channel, "retried");
    }

    fn lost(&self, channel: &str, why: Loss) {
        self.metrics.message(channel, why.name());
    }

    fn waiting(&self, channel: &str, count: usize) {
        self.metrics.messages_waiting(channel, count);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::{
        authority::Owner,
        clock::{Clock, SystemClock},
        telemetry::{Metrics, audit::AuditFiles},
    };

    #[test]
    fn each_end_of_a_ceremony_is_counted_and_recorded_and_names_nobody_in_clear() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        let files = AuditFiles {
            file: file.clone(),
            key: folder.path().join("audit.key"),
            head_interval: Duration::from_secs(60),
        };
        let metrics = Metrics::new().unwrap();
        let audit = Arc::new(AuditLog::open(&files, Arc::new(SystemClock), metrics.audit()).unwrap());
        let teller = AuthorityTeller::new(metrics.authority(), Arc::clone(&audit));
        let owner = Owner { issuer: "https://idp.example/".into(), subject: "alice".into() };
        let actor = Actor {
            owner: &owner,
            operator: None,
            client: Some("192.0.2.7".parse().unwrap()),
            request_id: Some("r-1"),
        };
        let now = SystemClock.now();
        teller.ceremony(actor, None, Occasion::StepUp, Outcome::Begun, now);
        teller.ceremony(actor, Some(Factor::Totp), Occasion::StepUp, Outcome::Refused, now);
        let operator = Actor { operator: Some("olga"), client: None, request_id: None, ..actor };
        teller.change(operator, Change::HardLocked, Some(Factor::Totp), "", now);
        NotifyObserver::sent(&teller, "mail");
        teller.lost("mail", Loss::Expired);
        assert!(audit.close());
        let text = std::fs::read_to_string(file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains(r#""kind":"ceremony""#) && lines[1].contains(r#""change":"hard_locked""#), "{text}");
        for name in ["alice", "olga", "192.0.2.7"] {
            assert!(!text.contains(name), "{name}: {text}");
        }
        let counted = metrics.render(now).unwrap();
        for line in [
            r#"stepgate_authority_ceremonies_total{factor="none",occasion="step_up",outcome="begun"} 1"#,
            r#"stepgate_authority_ceremonies_total{factor="totp",occasion="step_up",outcome="refused"} 1"#,
            r#"stepgate_authority_changes_total{change="hard_locked"} 1"#,
            r#"stepgate_messages_total{channel="mail",result="expired"} 1"#,
            r#"stepgate_audit_records_total{kind="ceremony"} 1"#,
        ] {
            assert!(counted.lines().any(|told| told == line), "{line} is missing in\n{counted}");
        }
    }
}
