//! The list as requests ask it: by name, without waiting for whoever changes it, and for one load where it is empty.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use dashmap::DashMap;
use serde_json::Value;
use smallvec::SmallVec;

use super::entry::{ANY_SOURCE, Entry, TargetKind};
use crate::policy::Principal;

/// The entries of one name. Few: one that covers others takes their place.
type Named = SmallVec<[Arc<Entry>; 1]>;

/// Entries by what they name.
#[derive(Debug, Default)]
pub(super) struct List {
    /// How many there are of all kinds.
    total: AtomicUsize,
    shelves: [Shelf; TargetKind::ALL.len()],
}

/// The entries of one kind, by the name that they give; those of whole sources by the source.
#[derive(Debug, Default)]
struct Shelf {
    count: AtomicUsize,
    names: DashMap<Arc<str>, Named>,
}

impl List {
    /// Whether an entry names this caller's credential.
    pub(super) fn names(&self, principal: &Principal, now_secs: u64) -> bool {
        if self.total.load(Ordering::Acquire) == 0 {
            return false;
        }
        let marks = &principal.marks;
        let named = |kind, value: &str| self.shelf(kind).names(value, principal, now_secs);
        let marked = |kind, mark: &Option<Arc<str>>| mark.as_ref().is_some_and(|mark| named(kind, mark));
        named(TargetKind::All, &principal.issuer)
            || named(TargetKind::All, ANY_SOURCE)
            || marked(TargetKind::Jti, &marks.id)
            || marked(TargetKind::Session, &marks.session)
            || marked(TargetKind::Key, if marks.key.is_some() { &marks.key } else { &marks.id })
            || self.names_subject(principal, now_secs)
    }

    /// A provider's events name a subject by `sub`, and an operator by what is in the records: both count.
    fn names_subject(&self, principal: &Principal, now_secs: u64) -> bool {
        let shelf = self.shelf(TargetKind::Subject);
        if shelf.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let sub = principal.claims.get("sub").and_then(Value::as_str).filter(|sub| **sub != *principal.subject);
        shelf.names(&principal.subject, principal, now_secs)
            || sub.is_some_and(|sub| shelf.names(sub, principal, now_secs))
    }

    /// Adds an entry.
    pub(super) fn add(&self, entry: Arc<Entry>) {
        let shelf = self.shelf(entry.revocation.kind);
        shelf.names.entry(shelf_name(&entry)).or_default().push(entry);
        shelf.count.fetch_add(1, Ordering::Release);
        self.total.fetch_add(1, Ordering::Release);
    }

    /// Takes an entry out.
    pub(super) fn take(&self, entry: &Entry) {
        let shelf = self.shelf(entry.revocation.kind);
        let name = shelf_name(entry);
        let mut taken = 0;
        shelf.names.remove_if_mut(&name, |_, named| {
            let before = named.len();
            named.retain(|other| other.id != entry.id);
            taken = before - named.len();
            named.is_empty()
        });
        shelf.count.fetch_sub(taken, Ordering::Release);
        self.total.fetch_sub(taken, Ordering::Release);
    }

    /// The entries of the same kind and name.
    pub(super) fn beside(&self, kind: TargetKind, name: &str) -> Named {
        self.shelf(kind).names.get(name).map(|named| named.clone()).unwrap_or_default()
    }

    /// How many entries there are of each kind.
    pub(super) fn counts(&self) -> [(TargetKind, usize); TargetKind::ALL.len()] {
        TargetKind::ALL.map(|kind| (kind, self.shelf(kind).count.load(Ordering::Relaxed)))
    }

    #[expect(clippy::indexing_slicing, reason = "the array has a place for each member of the enum")]
    fn shelf(&self, kind: TargetKind) -> &Shelf {
        &self.shelves[kind as usize]
    }
}

impl Shelf {
    fn names(&self, name: &str, principal: &Principal, now_secs: u64) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        self.names.get(name).is_some_and(|named| {
            named.iter().any(|entry| {
                let revocation = &entry.revocation;
                revocation.is_about(&principal.issuer)
                    && revocation.reaches(principal.marks.issued_at)
                    && revocation.holds(now_secs)
            })
        })
    }
}

/// What an entry is found by.
pub(super) fn shelf_name(entry: &Entry) -> Arc<str> {
    match entry.revocation.kind {
        TargetKind::All => Arc::clone(&entry.revocation.source),
        TargetKind::Jti | TargetKind::Subject | TargetKind::Session | TargetKind::Key => {
            Arc::clone(&entry.revocation.value)
        }
    }
}
