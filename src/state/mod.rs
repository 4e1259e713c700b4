//! What is durable, opened once for all that keep something: the store, the outbox beside it, and the task that keeps both in
//! order. It outlives configurations; of two of them over one file the one in force alone delivers.

mod background;
mod observer;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use background::{Background, Task};
pub use observer::{StateObserver, Unobserved};

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::runtime::Handle;

use crate::{
    client::MachineRoots,
    clock::{Clock, Now},
    config::{self, Config, Materials, Problem, Span},
    notify::{Channels, NotifyObserver, Outbox},
    store::{Engine, KeyId, Rekeyed, SealingKeys, Sqlite, Store, StoreFault, Watched},
};

/// The store's file, in the state directory.
const FILE: &str = "stepgate.db";
/// How often what has expired is taken out of the file.
const PURGE: Duration = Duration::from_secs(600);

/// What opening needs besides the configuration.
#[derive(Clone, Copy)]
pub struct StateMeans<'a> {
    /// The runtime of background work.
    pub handle: &'a Handle,
    /// The clock.
    pub clock: &'a Arc<dyn Clock>,
    /// Where durable state lives.
    pub state_dir: &'a Path,
    /// The machine's roots, for mail servers and webhooks.
    pub roots: &'a MachineRoots,
    /// Who hears of commits and faults.
    pub observer: &'a Arc<dyn StateObserver>,
    /// Who hears of deliveries.
    pub deliveries: &'a Arc<dyn NotifyObserver>,
}

/// What is durable, as one configuration has it: what outlives that, and the channels that it delivers by.
pub struct State {
    channels: Arc<Channels>,
    kept: Arc<Kept>,
}

/// What outlives a configuration.
struct Kept {
    store: Arc<Store>,
    outbox: Arc<Outbox>,
    engine: Arc<dyn Engine>,
    sealed_by: KeyId,
    sealing: config::Sealing,
    path: PathBuf,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn StateObserver>,
    background: Arc<Background>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("store", &self.kept.store).finish_non_exhaustive()
    }
}

/// Runs a future to its end where nobody can wait for it otherwise: on a thread of its own, so that it does not matter what
/// runs here.
pub fn wait<T: Send>(future: impl Future<Output = Result<T, StoreFault>> + Send) -> Result<T, StoreFault> {
    let none = |why: &str| StoreFault::Unavailable(why.to_owned());
    std::thread::scope(|scope| {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.map_err(|error| none(&error.to_string()))?.block_on(future)
        };
        scope.spawn(run).join().unwrap_or_else(|_| Err(none("its reader stopped")))
    })
}

/// Who needs it, by where they stand in the file.
fn needed_by(config: &Config) -> Option<&Span> {
    let authority = config.authority.as_ref().map(|authority| &authority.span);
    authority.or_else(|| config.deletions.as_ref().map(|deletions| &deletions.span))
}

impl State {
    /// Finds what is wrong with the sealing keys, without opening or making anything: for `check`.
    pub fn check(config: &Config, materials: &dyn Materials) -> Option<Problem> {
        needed_by(config)?;
        SealingKeys::load(config.sealing.as_ref()?, materials).err()
    }

    /// Whether something was kept there once.
    pub fn is_there(state_dir: &Path) -> bool {
        state_dir.join(FILE).exists()
    }

    /// Opens what there is, or makes it, where anything is to be kept; what was open before is kept, unless it is sealed by other keys
    /// now. Of what is kept nothing changes before [`Self::put_in_force`]: another room's problem may refuse the whole configuration yet.
    ///
    /// # Errors
    /// What is wrong with keys, channels and file.
    pub fn open(
        config: &Config,
        materials: &dyn Materials,
        means: &StateMeans<'_>,
        previous: Option<&Self>,
    ) -> Result<Option<Arc<Self>>, Vec<Problem>> {
        // What is there is looked at, too: somebody may have left something in it.
        let left = (config.sealing.is_some() && Self::is_there(means.state_dir)).then(Span::default);
        let Some(span) = needed_by(config).or(left.as_ref()) else { return Ok(None) };
        let sealing = config.sealing.as_ref();
        let sealing = sealing.ok_or_else(|| vec![Problem::error(span, "it is not said what it is sealed with")])?;
        let channels = Channels::compile(config.notify.as_deref(), materials, means.roots);
        let keys = SealingKeys::load(sealing, materials);
        let (channels, keys) = match (channels, keys) {
            (Ok(channels), Ok(keys)) => (Arc::new(channels), keys),
            (Err(problems), Ok(_)) => return Err(problems),
            (Ok(_), Err(problem)) => return Err(vec![problem]),
            (Err(mut problems), Err(problem)) => {
                problems.push(problem);
                return Err(problems);
            }
        };
        let fault = |fault: StoreFault| vec![Problem::error(span, fault.to_string())];
        let kept = Kept::open((sealing, keys), &channels, means, previous.map(|previous| &previous.kept));
        let made = Arc::new(Self { channels, kept: kept.map_err(fault)? });
        if previous.is_none() {
            made.put_in_force();
        }
        Ok(Some(made))
    }

    /// Delivers by the channels of this configuration from now on; what ran for the one before has ended by then.
    pub fn put_in_force(&self) {
        let (store, clock) = (Arc::downgrade(&self.kept.store), self.kept.clock.clone());
        let keeping = keep(store, clock, self.kept.observer.clone());
        self.kept.background.start(vec![Box::pin(self.kept.outbox.clone().run()), Box::pin(keeping)]);
        self.kept.outbox.replace(self.channels.clone());
    }

    /// Stops what runs in the background, and lets nobody read or write any more; comes back once all that was to be written is. For
    /// whoever hands the file over to another process.
    ///
    /// # Errors
    /// It cannot be said what was written.
    pub async fn let_go(&self) -> Result<(), StoreFault> {
        for task in self.kept.background.give_up() {
            task.abort();
            // How it ended says nothing: it was stopped.
            let _ = task.await;
        }
        self.kept.engine.close().await
    }

    /// Seals what older keys sealed with the current one, for as long as `patience` lasts; what was done by then stays so, and
    /// the next call goes on.
    ///
    /// # Errors
    /// The store cannot be used.
    pub async fn rekey(&self, now: Now, patience: Duration) -> Result<Rekeyed, StoreFault> {
        let so_far = Mutex::new(Rekeyed::default());
        let note = |done: &Rekeyed| *so_far.lock().unwrap_or_else(PoisonError::into_inner) = *done;
        match tokio::time::timeout(patience, self.store().rekey(now, note)).await {
            Ok(done) => done,
            Err(_) => Ok(*so_far.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// The store.
    pub fn store(&self) -> &Arc<Store> {
        &self.kept.store
    }

    /// What is to be delivered.
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.kept.outbox
    }

    /// Whether both have the same file, though perhaps sealed by other keys: what is remembered of the rows of one is true of the
    /// other's.
    pub fn has_file_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.kept.engine, &other.kept.engine)
    }
}

impl Kept {
    fn open(
        (sealing, keys): (&config::Sealing, SealingKeys),
        channels: &Arc<Channels>,
        means: &StateMeans<'_>,
        previous: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, StoreFault> {
        let path = means.state_dir.join(FILE);
        let before = previous.filter(|before| before.path == path);
        let sealed_by = keys.current();
        if let Some(before) = before
            && before.sealed_by == sealed_by
            && before.sealing == *sealing
        {
            return Ok(before.clone());
        }
        let engine = match before {
            Some(before) => before.engine.clone(),
            None => {
                let observer = means.observer.clone();
                let listener = Arc::new(move |took| observer.committed(took));
                Arc::new(Watched::new(Sqlite::open(&path)?, means.clock.clone(), listener))
            }
        };
        let store = Arc::new(wait(Store::open(engine.clone(), keys, means.clock.now()))?);
        let outbox = Outbox::new(store.clone(), channels.clone(), means.clock.clone(), means.deliveries.clone());
        Ok(Arc::new(Self {
            store,
            outbox,
            engine,
            sealed_by,
            sealing: sealing.clone(),
            path,
            clock: means.clock.clone(),
            observer: means.observer.clone(),
            background: Background::after(means.handle, previous.map(|previous| &previous.background)),
        }))
    }
}

/// Keeps the file in order, for as long as anybody uses it.
async fn keep(store: std::sync::Weak<Store>, clock: Arc<dyn Clock>, observer: Arc<dyn StateObserver>) {
    // Whether rows need a key that is not configured any more, as where `rekey` was cut off and the older key taken out all the
    // same: whoever they are of is turned away until it is put back.
    if let Some(store) = store.upgrade()
        && let Err(fault) = store.check_keys(clock.now()).await
    {
        tracing::error!(%fault, "not all of the store can be read");
        observer.store_fault();
    }
    loop {
        let Some(store) = store.upgrade() else { return };
        if let Err(fault) = store.purge(clock.now()).await {
            tracing::error!(%fault, "what has expired could not be taken out of the store");
        }
        drop(store);
        tokio::time::sleep(PURGE).await;
    }
}
