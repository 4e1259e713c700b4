//! What is left at the end: every event is written to the audit chain, the person is struck out of it, and what remains is the
//! certificate.

use tokio::sync::oneshot;

use super::{Carrier, turn::Ended};
use crate::{
    erasure::{
        life::Command,
        means::{EvidenceFault, Struck},
        record::{Erasure, Event, Known, Party, Place, Selector},
    },
    telemetry::audit::{ErasureParty, ErasureRecord},
};

/// Someone who waits to be struck out, and who waits for that.
pub(super) type Waiting = (Struck, oneshot::Sender<bool>);

impl Carrier {
    /// Writes the events of a deletion to the audit chain that are not there yet.
    pub(super) async fn place(&self, id: &str) -> Result<(), Ended> {
        match self.ledger.get(id, self.now()).await? {
            Some(known) => self.place_of(&known.erasure).await,
            None => Ok(self.ledger.refresh(id, self.now()).await?),
        }
    }

    /// The same. What is written twice, as after a crash, is told apart by its number, and the first one counts.
    pub(super) async fn place_of(&self, erasure: &Erasure) -> Result<(), Ended> {
        let mut places = Vec::new();
        for event in erasure.unplaced() {
            match self.evidence.record(entry(erasure, event)).await {
                Ok(place) => places.push((event.number, Place { seq: place.seq, hash: place.hash })),
                Err(fault) => {
                    self.tell(&fault);
                    // What is there already need not be written again.
                    if !places.is_empty() {
                        self.note(&erasure.id, Command::Placed(places)).await?;
                    }
                    return Err(Ended::Later);
                }
            }
        }
        if places.is_empty() { Ok(()) } else { self.note(&erasure.id, Command::Placed(places)).await }
    }

    /// Takes the person out of what is left, and puts the certificate in their place.
    pub(super) async fn scrub(&self, known: &Known) -> Result<(), Ended> {
        let Known { erasure, terms, .. } = known;
        if let Some(struck) = struck(erasure) {
            self.strike(struck).await?;
        }
        let payload = serde_json::json!({"id": erasure.id, "plan": terms.plan}).to_string();
        let signed = self.evidence.sign(payload.as_bytes()).await.map_err(|fault| {
            self.tell(&fault);
            Ended::Later
        })?;
        self.note(&erasure.id, Command::Scrubbed(self.holder, signed.into())).await
    }

    /// Strikes a person out, with all others who wait for that: it is one pass over the file.
    async fn strike(&self, struck: Struck) -> Result<(), Ended> {
        let (done, is_done) = oneshot::channel();
        self.waiting().push((struck, done));
        let turn = self.striking.lock().await;
        let all = std::mem::take(&mut *self.waiting());
        if !all.is_empty() {
            let (whose, waiting): (Vec<_>, Vec<_>) = all.into_iter().unzip();
            let outcome = self.evidence.strike(whose).await;
            if let Err(fault) = &outcome {
                self.tell(fault);
            }
            for one in waiting {
                // Who is gone comes again.
                let _ = one.send(outcome.is_ok());
            }
        }
        drop(turn);
        if is_done.await.unwrap_or(false) { Ok(()) } else { Err(Ended::Later) }
    }

    fn tell(&self, fault: &EvidenceFault) {
        tracing::error!(%fault, "evidence of deletions cannot be written: they wait");
    }
}

/// Whose values go from the audit log; nobody's, once they are gone from the record.
fn struck(erasure: &Erasure) -> Option<Struck> {
    let personal = erasure.personal.as_ref()?;
    let mut subjects: Vec<Box<str>> = personal.token_subject.iter().cloned().collect();
    // Another claim's value may be another person's subject.
    if erasure.whose.claim == Selector::Subject && !subjects.contains(&personal.subject) {
        subjects.push(personal.subject.clone());
    }
    Some(Struck {
        id: erasure.id.clone(),
        issuer_url: erasure.whose.issuer_url.clone(),
        subjects,
        request_ids: erasure.proof.request_id.iter().cloned().collect(),
    })
}

fn entry(erasure: &Erasure, event: &Event) -> ErasureRecord {
    ErasureRecord {
        unix_ms: event.at.saturating_mul(1000),
        id: (&*erasure.id).into(),
        plan: (&*erasure.plan).into(),
        number: event.number,
        event: event.what.name(),
        detail: "",
        call: None,
        by: match &event.by {
            Party::Owner => ErasureParty::Owner,
            Party::Caller { issuer_url, subject } => {
                ErasureParty::Caller { issuer_url: (&**issuer_url).into(), subject: (&**subject).into() }
            }
            Party::Operator { name } => ErasureParty::Operator((&**name).into()),
            Party::Link => ErasureParty::Link,
            Party::Gateway => ErasureParty::Gateway,
        },
        subject: None,
        reason: None,
        request_id: None,
    }
}
