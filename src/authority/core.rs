//! What outlives a configuration: the state, who is elevated, the keys that sign, and the task that keeps them in order.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::runtime::Handle;

use super::{AuthorityObserver, accounts::SessionEnds, elevation::Elevations, keys::Keys};
use crate::{
    clock::{Clock, Now},
    config::{self, Problem},
    jose::{Algorithm, PublishedKeys},
    state::{self, Background, State},
    store::{Store, StoreFault, Table},
};

/// How often what has expired is swept, and it is looked whether another key is due.
const ROUND: Duration = Duration::from_secs(60);
/// Every so many rounds the people are counted.
const LONG_ROUND: u64 = 10;
/// How often another key follows, where no accounts say.
const ROTATE: Duration = Duration::from_secs(30 * 86_400);

/// What compiling needs besides the configuration.
#[derive(Clone, Copy)]
pub struct AuthorityMeans<'a> {
    /// The runtime of background work.
    pub handle: &'a Handle,
    /// The clock.
    pub clock: &'a Arc<dyn Clock>,
    /// What is durable, as this configuration has it.
    pub state: &'a Arc<State>,
    /// Who hears of ceremonies and changes.
    pub observer: &'a Arc<dyn AuthorityObserver>,
    /// Who refuses the access tokens of accounts' sessions that have ended.
    pub ends: &'a Arc<dyn SessionEnds>,
    /// Where the public keys of access tokens are published for whoever verifies them in this process.
    pub published: &'a PublishedKeys,
}

/// What outlives a configuration.
pub(super) struct Core {
    pub(super) state: Arc<State>,
    pub(super) elevations: Arc<Elevations>,
    pub(super) keys: Arc<Keys>,
    pub(super) observer: Arc<dyn AuthorityObserver>,
    /// What the keys are to be, and how often another follows.
    signing: Mutex<(Algorithm, Duration)>,
    clock: Arc<dyn Clock>,
    background: Arc<Background>,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Core {
    /// Reads what there is, or makes it; what was read before is kept, unless it is in another store now. Of what is kept nothing changes
    /// before [`Self::put_in_force`].
    pub(super) fn open(
        authority: &config::Authority,
        means: &AuthorityMeans<'_>,
        previous: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, Problem> {
        let store = means.state.store();
        if let Some(before) = previous.filter(|before| Arc::ptr_eq(before.state.store(), store)) {
            return Ok(before.clone());
        }
        let now = means.clock.now();
        let (algorithm, rotate) = signing(authority);
        // Another key seals the rows: who is elevated stays the same.
        let elevations = previous.filter(|before| before.state.has_file_of(means.state));
        let elevations = elevations.map(|before| before.elevations.clone());
        let opened = state::wait(async {
            let ring = Keys::open(store, algorithm, rotate, now).await?;
            let elevations = match elevations {
                Some(kept) => kept,
                None => Arc::new(Elevations::load(store, now).await?),
            };
            Ok((ring, elevations))
        });
        let (ring, elevations) = opened.map_err(|fault| Problem::error(&authority.span, fault.to_string()))?;
        Ok(Arc::new(Self {
            state: means.state.clone(),
            elevations,
            keys: Arc::new(ring),
            observer: means.observer.clone(),
            signing: Mutex::new((algorithm, rotate)),
            clock: means.clock.clone(),
            background: Background::after(means.handle, previous.map(|previous| &previous.background)),
        }))
    }

    /// Goes on as this configuration says.
    pub(super) fn put_in_force(self: &Arc<Self>, authority: &config::Authority) {
        self.background.start(vec![Box::pin(keep(Arc::downgrade(self), self.clock.clone()))]);
        self.elevations.weigh(authority);
        // The next round makes another key, where that asks for one.
        *self.signing.lock().unwrap_or_else(PoisonError::into_inner) = signing(authority);
    }

    /// Stops what runs in the background, for good.
    pub(super) fn let_go(&self) {
        for task in self.background.give_up() {
            task.abort();
        }
    }

    /// The store.
    pub(super) fn store(&self) -> &Arc<Store> {
        self.state.store()
    }

    /// The same over another store.
    #[cfg(test)]
    pub(super) fn over(&self, store: Store) -> Arc<Self> {
        Arc::new(Self {
            state: self.state.with(store),
            elevations: self.elevations.clone(),
            keys: self.keys.clone(),
            observer: self.observer.clone(),
            signing: Mutex::new(self.signing()),
            clock: self.clock.clone(),
            background: Background::none(),
        })
    }

    #[cfg(test)]
    pub(super) fn is_running(&self) -> bool {
        self.background.is_running()
    }

    fn signing(&self) -> (Algorithm, Duration) {
        *self.signing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What signs, and how often another key follows.
fn signing(authority: &config::Authority) -> (Algorithm, Duration) {
    match &authority.accounts {
        Some(accounts) => {
            let algorithm = match accounts.algorithm {
                config::AssertionAlgorithm::ES256 => Algorithm::ES256,
                config::AssertionAlgorithm::EdDSA => Algorithm::EdDSA,
            };
            (algorithm, accounts.rotate)
        }
        None => (Algorithm::ES256, ROTATE),
    }
}

/// Keeps all of it in order, for as long as anybody uses it.
async fn keep(core: Weak<Core>, clock: Arc<dyn Clock>) {
    let mut round = 0_u64;
    loop {
        let Some(core) = core.upgrade() else { return };
        let (now, store) = (clock.now(), core.store());
        core.elevations.sweep(now.unix_secs());
        let (algorithm, rotate) = core.signing();
        if let Err(fault) = core.keys.renew(store, algorithm, rotate, now).await {
            tracing::error!(%fault, "the authority's next signing key could not be made: the old one signs on");
        }
        if round.is_multiple_of(LONG_ROUND) {
            match people(store, now).await {
                Ok(people) => core.observer.counts(people, core.elevations.len()),
                Err(_) => core.observer.store_fault(),
            }
        }
        drop(core);
        round += 1;
        tokio::time::sleep(ROUND).await;
    }
}

/// How many people have a factor.
async fn people(store: &Store, now: Now) -> Result<u64, StoreFault> {
    let (mut count, mut after) = (0, None::<String>);
    loop {
        let page = store.readable::<serde::de::IgnoredAny>(Table::Subjects, "", after.as_deref(), 500, now).await?;
        count += (page.rows.len() + page.unreadable.len()) as u64;
        after = page.next;
        if after.is_none() {
            return Ok(count);
        }
    }
}
