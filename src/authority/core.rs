//! What outlives a configuration: the store, what is to be delivered, who is elevated, the keys that sign, and the task that
//! keeps all of it in order.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use rustls::RootCertStore;
use tokio::{runtime::Handle, task::JoinHandle};

use super::{AuthorityObserver, accounts::SessionEnds, elevation::Elevations, keys::Keys};
use crate::{
    clock::{Clock, Now},
    config::{self, Config, Materials, Problem},
    jose::{Algorithm, PublishedKeys},
    notify::{Channels, NotifyObserver, Outbox},
    store::{Engine, KeyId, SealingKeys, Sqlite, Store, StoreFault, Table, Watched},
};

/// The store's file, in the state directory.
const FILE: &str = "stepgate.db";
/// How often what has expired is swept, and it is looked whether another key is due.
const ROUND: Duration = Duration::from_secs(60);
/// Every so many rounds the people are counted and the file is purged.
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
    /// Where durable state lives.
    pub state_dir: &'a Path,
    /// The machine's roots, for mail servers and webhooks.
    pub roots: &'a Arc<RootCertStore>,
    /// Who hears of ceremonies and changes.
    pub observer: &'a Arc<dyn AuthorityObserver>,
    /// Who hears of deliveries.
    pub deliveries: &'a Arc<dyn NotifyObserver>,
    /// Who refuses the access tokens of accounts' sessions that have ended.
    pub ends: &'a Arc<dyn SessionEnds>,
    /// Where the public keys of access tokens are published for whoever verifies them in this process.
    pub published: &'a PublishedKeys,
}

/// What outlives a configuration.
pub(super) struct Core {
    pub(super) store: Arc<Store>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) elevations: Arc<Elevations>,
    pub(super) keys: Arc<Keys>,
    pub(super) observer: Arc<dyn AuthorityObserver>,
    engine: Arc<dyn Engine>,
    sealed_by: KeyId,
    sealing: config::Sealing,
    path: PathBuf,
    /// What the keys are to be, and how often another follows.
    signing: Mutex<(Algorithm, Duration)>,
    handle: Handle,
    clock: Arc<dyn Clock>,
    background: Mutex<Background>,
}

/// The tasks of a core. They run once it is in force, and no longer: of two outboxes over one store each would deliver all.
enum Background {
    /// Not in force yet; whose place it takes.
    Before(Option<Weak<Core>>),
    Running(Vec<JoinHandle<()>>),
    /// Another one is in force.
    After,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if let Background::Running(tasks) = self.background.get_mut().unwrap_or_else(PoisonError::into_inner) {
            tasks.iter().for_each(JoinHandle::abort);
        }
    }
}

/// Runs a future to its end where nobody can wait for it otherwise: on a thread of its own, so that it does not matter what
/// runs here.
pub(super) fn wait<T: Send>(future: impl Future<Output = Result<T, StoreFault>> + Send) -> Result<T, StoreFault> {
    let none = |why: &str| StoreFault::Unavailable(why.to_owned());
    std::thread::scope(|scope| {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.map_err(|error| none(&error.to_string()))?.block_on(future)
        };
        scope.spawn(run).join().unwrap_or_else(|_| Err(none("its reader stopped")))
    })
}

impl Core {
    /// Opens what there is, or makes it; what was open before is kept, unless it is sealed by other keys now. Of what is kept
    /// nothing changes before [`Self::put_in_force`]. With it come the channels of this configuration.
    pub(super) fn open(
        config: &Config,
        authority: &config::Authority,
        materials: &dyn Materials,
        means: &AuthorityMeans<'_>,
        previous: Option<&Arc<Self>>,
    ) -> Result<(Arc<Self>, Arc<Channels>), Vec<Problem>> {
        let channels = Channels::compile(config.notify.as_deref(), materials, means.roots);
        let keys = SealingKeys::load(&authority.sealing, materials);
        let (channels, keys) = match (channels, keys) {
            (Ok(channels), Ok(keys)) => (Arc::new(channels), keys),
            (Err(problems), Ok(_)) => return Err(problems),
            (Ok(_), Err(problem)) => return Err(vec![problem]),
            (Err(mut problems), Err(problem)) => {
                problems.push(problem);
                return Err(problems);
            }
        };
        let path = means.state_dir.join(FILE);
        let before = previous.filter(|before| before.path == path);
        if let Some(before) = before
            && before.sealed_by == keys.current()
            && before.sealing == authority.sealing
        {
            return Ok((before.clone(), channels));
        }
        let problem = |fault: StoreFault| vec![Problem::error(&authority.span, fault.to_string())];
        let engine = match before {
            Some(before) => before.engine.clone(),
            None => {
                let observer = means.observer.clone();
                let listener = Arc::new(move |took| observer.committed(took));
                Arc::new(Watched::new(Sqlite::open(&path).map_err(problem)?, means.clock.clone(), listener))
            }
        };
        let now = means.clock.now();
        let sealed_by = keys.current();
        let (algorithm, rotate) = signing(authority);
        let elevations = before.map(|before| before.elevations.clone());
        let opened = wait(async {
            let store = Arc::new(Store::open(engine.clone(), keys, now).await?);
            let ring = Keys::open(&store, algorithm, rotate, now).await?;
            let elevations = match elevations {
                Some(kept) => kept,
                None => Arc::new(Elevations::load(&store, now).await?),
            };
            Ok((store, ring, elevations))
        });
        let (store, ring, elevations) = opened.map_err(problem)?;
        let outbox = Outbox::new(store.clone(), channels.clone(), means.clock.clone(), means.deliveries.clone());
        let core = Arc::new(Self {
            store,
            outbox,
            elevations,
            keys: Arc::new(ring),
            observer: means.observer.clone(),
            engine,
            sealed_by,
            sealing: authority.sealing.clone(),
            path,
            signing: Mutex::new((algorithm, rotate)),
            handle: means.handle.clone(),
            clock: means.clock.clone(),
            background: Mutex::new(Background::Before(previous.map(Arc::downgrade))),
        });
        Ok((core, channels))
    }

    /// Goes on as this configuration says.
    pub(super) fn put_in_force(self: &Arc<Self>, authority: &config::Authority, channels: Arc<Channels>) {
        self.start();
        self.outbox.replace(channels);
        self.elevations.weigh(authority);
        // The next round makes another key, where that asks for one.
        *self.signing.lock().unwrap_or_else(PoisonError::into_inner) = signing(authority);
    }

    /// Starts what runs in the background, where it does not run yet; what ran for the one before has ended by then.
    fn start(self: &Arc<Self>) {
        let mut background = self.background.lock().unwrap_or_else(PoisonError::into_inner);
        let Background::Before(previous) = &*background else { return };
        let before = previous.as_ref().and_then(Weak::upgrade).map_or_else(Vec::new, |previous| previous.stop());
        let (outbox, keeping) = (self.outbox.clone(), keep(Arc::downgrade(self), self.clock.clone()));
        let delivering = self.handle.spawn(async move {
            for task in before {
                // How it ended says nothing: it was stopped.
                let _ = task.await;
            }
            outbox.run().await;
        });
        *background = Background::Running(vec![delivering, self.handle.spawn(keeping)]);
    }

    /// Stops what runs in the background, for good.
    fn stop(&self) -> Vec<JoinHandle<()>> {
        let mut background = self.background.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *background, Background::After) {
            Background::Running(tasks) => {
                tasks.iter().for_each(JoinHandle::abort);
                tasks
            }
            Background::Before(_) | Background::After => Vec::new(),
        }
    }

    /// The same over another store.
    #[cfg(test)]
    pub(super) fn over(&self, store: Store) -> Arc<Self> {
        let (outbox, keys) = (self.outbox.clone(), self.keys.clone());
        let (observer, engine, sealing) = (self.observer.clone(), self.engine.clone(), self.sealing.clone());
        Arc::new(Self {
            store: Arc::new(store),
            outbox,
            elevations: self.elevations.clone(),
            keys,
            observer,
            engine,
            sealed_by: self.sealed_by,
            sealing,
            path: self.path.clone(),
            signing: Mutex::new(self.signing()),
            handle: self.handle.clone(),
            clock: self.clock.clone(),
            background: Mutex::new(Background::After),
        })
    }

    #[cfg(test)]
    pub(super) fn is_running(&self) -> bool {
        matches!(&*self.background.lock().unwrap_or_else(PoisonError::into_inner), Background::Running(_))
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
    check_rows(&core, &clock).await;
    loop {
        let Some(core) = core.upgrade() else { return };
        let now = clock.now();
        core.elevations.sweep(now.unix_secs());
        let (algorithm, rotate) = core.signing();
        if let Err(fault) = core.keys.renew(&core.store, algorithm, rotate, now).await {
            tracing::error!(%fault, "the authority's next signing key could not be made: the old one signs on");
        }
        if round.is_multiple_of(LONG_ROUND) {
            if let Err(fault) = core.store.purge(now).await {
                tracing::error!(%fault, "what has expired could not be taken out of the store");
            }
            match people(&core.store, now).await {
                Ok(people) => core.observer.counts(people, core.elevations.len()),
                Err(_) => core.observer.store_fault(),
            }
        }
        drop(core);
        round += 1;
        tokio::time::sleep(ROUND).await;
    }
}

/// Says at start whether rows need a key that is not configured any more, as where `rekey` was cut off and the older key taken out
/// all the same: whoever they are of is turned away until it is put back.
async fn check_rows(core: &Weak<Core>, clock: &Arc<dyn Clock>) {
    let Some(store) = core.upgrade().map(|core| core.store.clone()) else { return };
    if let Err(fault) = store.check_keys(clock.now()).await {
        tracing::error!(%fault, "not all of the authority's store can be read");
        if let Some(core) = core.upgrade() {
            core.observer.store_fault();
        }
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
