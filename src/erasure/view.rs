//! Who may see which deletion, and do what to it. Whoever may not gets the same answer as where there is none.

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::{
    record::{Known, Party, State},
    subject::{key_of, requester_key},
    target::claim_of,
};
use crate::{policy::Principal, store::Store};

/// Who looks at a deletion.
#[derive(Debug, Clone, Copy)]
pub enum Viewer<'a> {
    /// Somebody with a credential.
    Caller(&'a Principal),
    /// An operator, by the name they gave.
    Operator(&'a str),
}

/// What somebody is to a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The data's subject.
    Owner,
    /// Whoever asked for it.
    Requester,
    /// Somebody with a scope that entitles to it.
    Entitled,
    /// An operator.
    Operator,
}

/// What a caller may be entitled to by a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum May {
    /// See other people's deletions.
    See,
    /// Cancel them.
    Cancel,
    /// Approve them.
    Approve,
}

/// What a caller is to a deletion, if anything: a scope counts where it says `may`.
pub(super) fn role(store: &Store, known: &Known, principal: &Principal, may: May) -> Option<Role> {
    let erasure = &known.erasure;
    if is_owner(store, known, principal) {
        return Some(Role::Owner);
    }
    let is_same = |key: String| verify_slices_are_equal(key.as_bytes(), erasure.requester_key.as_bytes()).is_ok();
    let is_another = erasure.whose.own && is_newer(known, principal);
    if !is_another
        && !principal.subject.is_empty()
        && is_same(requester_key(store, &principal.issuer_url, &principal.subject))
    {
        return Some(Role::Requester);
    }
    let scopes = match may {
        May::See => &known.terms.may_see,
        May::Cancel => &known.terms.may_cancel,
        May::Approve => &known.terms.may_approve,
    };
    // What another issuer calls the same says nothing of these people.
    let is_known = [&erasure.whose.issuer_url, &erasure.requester_issuer].contains(&&Box::from(&*principal.issuer_url));
    let is_entitled = is_known && scopes.iter().any(|scope| principal.scopes.iter().any(|has| **has == **scope));
    is_entitled.then_some(Role::Entitled)
}

/// Whether a token was issued after all of an erased person was gone: names are used again, and it is somebody else's, as far as it says.
fn is_newer(known: &Known, principal: &Principal) -> bool {
    let erasure = &known.erasure;
    let newer = |gone: u64| {
        let until = gone as f64 + principal.leeway_secs.max(0.0);
        principal.marks.issued_at.is_some_and(|issued| issued.is_finite() && issued > until)
    };
    erasure.state == State::Erased && erasure.gone_at.is_some_and(newer)
}

/// Whether a caller is the data's subject.
pub(super) fn is_owner(store: &Store, known: &Known, principal: &Principal) -> bool {
    let whose = &known.erasure.whose;
    if *principal.issuer_url != *whose.issuer_url || is_newer(known, principal) {
        return false;
    }
    let Some(value) = claim_of(principal, &whose.claim) else { return false };
    let key = key_of(store, &principal.issuer_url, &whose.claim, &value);
    verify_slices_are_equal(key.as_bytes(), whose.key.as_bytes()).is_ok()
}

/// A caller as a party to a deletion: the data's subject is named nowhere.
pub(super) fn party(store: &Store, known: &Known, principal: &Principal) -> Party {
    if is_owner(store, known, principal) {
        return Party::Owner;
    }
    Party::Caller { issuer_url: (&*principal.issuer_url).into(), subject: (&*principal.subject).into() }
}

/// The secret of a deletion's link: whoever has it may look, and say that it was not them.
pub(super) fn link_token(store: &Store, id: &str) -> String {
    store.index("erasure link", &[id.as_bytes()])
}

/// Whether this is it.
pub(super) fn is_link_token(store: &Store, id: &str, token: &str) -> bool {
    verify_slices_are_equal(link_token(store, id).as_bytes(), token.as_bytes()).is_ok()
}
