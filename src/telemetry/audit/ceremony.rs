//! What the authority does, as records: a ceremony's outcome, or a change. Whom it is about is committed to and not in the
//! chain, as with attempts.

use std::{net::IpAddr, sync::Arc};

use super::disclosure::{Commitments, NoSalt};
use crate::telemetry::json::Object;

/// What happened. The texts are members of closed lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// Somebody showed a factor, or tried to.
    Ceremony {
        /// What for.
        occasion: &'static str,
        /// What became of it.
        outcome: &'static str,
    },
    /// Something changed.
    Change {
        /// What.
        change: &'static str,
        /// A word more; empty: none.
        detail: &'static str,
    },
}

/// Something that the authority did.
#[derive(Debug, Clone)]
pub struct AuthorityRecord {
    /// When, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// What.
    pub happening: Happening,
    /// By which factor, or to which.
    pub factor: Option<&'static str>,
    /// Who vouches for the person: the issuer's identifier; empty: it is about nobody.
    pub issuer_url: Arc<str>,
    /// The person.
    pub subject: Arc<str>,
    /// The operator, where one did it.
    pub operator: Option<Arc<str>>,
    /// The client's address, where it was a call.
    pub address: Option<IpAddr>,
    /// `X-Request-Id`, where it was a call.
    pub request_id: Option<Arc<str>>,
}

impl AuthorityRecord {
    /// The bytes of all its strings.
    pub(super) fn weight(&self) -> usize {
        let optional = [&self.operator, &self.request_id].into_iter().flatten();
        [&self.issuer_url, &self.subject].into_iter().chain(optional).map(|text| text.len()).sum()
    }

    pub(super) fn kind(&self) -> &'static str {
        match self.happening {
            Happening::Ceremony { .. } => "ceremony",
            Happening::Change { .. } => "change",
        }
    }

    pub(super) fn push(&self, line: &mut Object<'_>, commitments: &mut Commitments) -> Result<(), NoSalt> {
        match self.happening {
            Happening::Ceremony { occasion, outcome } => {
                line.string("occasion", occasion);
                line.string("outcome", outcome);
            }
            Happening::Change { change, detail } => {
                line.string("change", change);
                line.maybe("detail", Some(detail).filter(|detail| !detail.is_empty()));
            }
        }
        line.maybe("factor", self.factor);
        line.maybe("request_id", self.request_id.as_deref());
        if !self.issuer_url.is_empty() {
            let mut who = Object::open(line.member("who"));
            who.string("issuer_url", &self.issuer_url);
            who.close();
            commitments.commit("subject", &self.subject)?;
        }
        if let Some(operator) = &self.operator {
            commitments.commit("operator", operator)?;
        }
        if let Some(address) = self.address {
            commitments.commit("address", &address.to_string())?;
        }
        Ok(())
    }
}
