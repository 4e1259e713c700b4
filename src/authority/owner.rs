//! Whose a factor is, and whose a proof.

use std::sync::Arc;

use aws_lc_rs::digest;

use crate::{config::ElevationBy, policy::Principal, store::Store};

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

impl Holder {
    /// The holder of proofs that this caller shows; `None` where nothing tells the caller's credential from others of the same
    /// person, or nobody is named at all.
    pub fn of(principal: &Principal, by: ElevationBy) -> Option<Self> {
        let Owner { issuer, subject } = Owner::of(principal)?;
        let credential = principal.marks.fingerprint.as_ref().map(|digest| (&b"credential"[..], &digest[..]));
        let session = || principal.marks.session.as_ref().map(|session| (&b"session"[..], session.as_bytes()));
        let (kind, of) = match by {
            ElevationBy::Credential => credential,
            // A token without a session is elevated alone.
            ElevationBy::Session => session().or(credential),
        }?;
        // By length, so that no two lists give the same; without a client is another than with an empty one.
        let client = principal.client.as_deref().map(str::as_bytes);
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [issuer.as_bytes(), subject.as_bytes(), client.unwrap_or_default(), kind, of] {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        context.update(&[u8::from(client.is_some())]);
        let mut holder = [0; 32];
        holder.copy_from_slice(context.finish().as_ref());
        Some(Self(holder))
    }
}
