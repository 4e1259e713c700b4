//! Whose a factor is, and whose a proof.

use std::sync::Arc;

use crate::{policy::Principal, store::Store};

/// A person, as an issuer knows them: whose a factor is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The issuer's identifier (`iss`).
    pub issuer: Arc<str>,
    /// The subject there.
    pub subject: Arc<str>,
}

impl Owner {
    /// The owner behind a caller; `None` where the issuer names nobody.
    pub fn of(principal: &Principal) -> Option<Self> {
        let Principal { issuer_url, subject, .. } = principal;
        (!subject.is_empty()).then(|| Self { issuer: issuer_url.clone(), subject: subject.clone() })
    }

    /// The key of this owner's rows, which names nobody.
    pub fn key(&self, store: &Store) -> String {
        store.index("owner", &[self.issuer.as_bytes(), self.subject.as_bytes()])
    }
}

/// Whose a proof is: the owner, the client, and the very credential; or the provider's session in the credential's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Holder(pub [u8; 32]);
