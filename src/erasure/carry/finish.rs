//! What is left at the end: every event is written to the audit chain, and the person is struck out of it. What remains of the record
//! is what a certificate is made of.

use super::{Carrier, turn::Ended};
use crate::erasure::{
    evidence,
    life::Command,
    means::EvidenceFault,
    record::{Known, Place},
    scrub,
};

impl Carrier {
    /// Writes the events of a deletion to the audit chain that are not there yet.
    pub(super) async fn place(&self, id: &str) -> Result<(), Ended> {
        match self.ledger.get(id, self.now()).await? {
            Some(known) => self.place_of(&known).await,
            None => Ok(self.ledger.refresh(id, self.now()).await?),
        }
    }

    /// The same. What is written twice, as after a crash, is told apart by its number, and the first one counts.
    pub(super) async fn place_of(&self, known: &Known) -> Result<(), Ended> {
        let erasure = &known.erasure;
        let mut places = Vec::new();
        for event in erasure.unplaced() {
            match self.evidence.record(evidence::entry(known, event)).await {
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

    /// Takes the person out of what is left; all others who wait for that go with them, in one pass over the file.
    pub(super) async fn scrub(&self, known: &Known) -> Result<(), Ended> {
        let erasure = &known.erasure;
        let events = erasure.events.len();
        if let Some(struck) = scrub::struck(erasure) {
            self.evidence.strike(vec![struck]).await.map_err(|fault| {
                self.tell(&fault);
                Ended::Later
            })?;
        }
        self.note(&erasure.id, Command::Scrubbed(self.holder, events)).await
    }

    fn tell(&self, fault: &EvidenceFault) {
        tracing::error!(%fault, "evidence of deletions cannot be written: they wait");
    }
}
