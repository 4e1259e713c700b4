//! The task that keeps a source's files in force: looked at every two seconds, read when they changed, taken as a whole.
//! What cannot be read changes nothing, and is tried again; a list that ends meanwhile refuses what it is asked about.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::task::AbortHandle;

use super::{Files, Place, Rules, SourceServices, Trust};
use crate::{
    clock::Clock,
    config::LIST_BYTES,
    files::{self, Look},
    identity::IdentityObserver,
    policy::IssuerName,
};

/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(2);

/// What the task has run into, for readiness.
type Failures = Arc<Mutex<(u32, Option<Arc<str>>)>>;

/// A source's task; it ends with the source.
#[derive(Debug)]
pub(super) struct Watching {
    task: AbortHandle,
    failures: Failures,
}

impl Watching {
    /// How many attempts have failed since the last that did not, and how.
    pub(super) fn failures(&self) -> (u32, Option<Arc<str>>) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All that the task needs.
pub(super) struct Watch {
    name: IssuerName,
    ca: PathBuf,
    lists: Vec<PathBuf>,
    trust: Arc<ArcSwap<Trust>>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn IdentityObserver>,
    failures: Failures,
}

/// What the files looked like.
type Seen = Vec<Look>;

impl Watch {
    /// Starts the task of a source that trusts what its files held just now.
    pub(super) fn start(rules: &Rules, trust: Arc<ArcSwap<Trust>>, services: &SourceServices) -> Watching {
        let failures = Failures::default();
        let watch = Self {
            name: rules.name.clone(),
            ca: rules.definition.ca.path.clone(),
            lists: rules.definition.crl.iter().map(|file| file.path.clone()).collect(),
            trust,
            clock: Arc::clone(&services.clock),
            observer: Arc::clone(&services.observer),
            failures: Arc::clone(&failures),
        };
        Watching { task: services.handle.spawn(watch.run()).abort_handle(), failures }
    }

    async fn run(self) {
        // What was read at the start may have changed since: the first look reads it again.
        let (mut good, mut bad): (Option<Seen>, Option<Seen>) = (None, None);
        let mut remarked = Vec::new();
        self.tell_lists();
        loop {
            let look = self.look();
            if good.as_ref() != Some(&look) {
                match self.refresh().await {
                    Ok(()) => {
                        self.set_failure(None);
                        (good, bad) = (Some(look), None);
                    }
                    Err(fault) => {
                        // Tried again and again, since it may be in the middle of being written; told once.
                        if bad.replace(look.clone()) != Some(look) {
                            tracing::error!(source = %self.name, fault, "authorities and lists not reloaded: the last good ones serve");
                            self.observer.authorities_read(&self.name, false);
                        }
                        self.set_failure(Some(fault));
                    }
                }
            }
            let remarks = self.trust.load().remarks(self.clock.now().unix_secs());
            if remarks != remarked {
                for (place, remark) in &remarks {
                    tracing::warn!(source = %self.name, file = %self.path(*place).display(), "{remark}");
                }
                remarked = remarks;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Reads the files, and takes what is in them if it has changed.
    async fn refresh(&self) -> Result<(), String> {
        let mut files = Files { ca: read(&self.ca).await?, lists: Vec::with_capacity(self.lists.len()) };
        for path in &self.lists {
            files.lists.push(read(path).await?);
        }
        // Up to 64 MiB each, and their signatures: the runtime of background work has other things to do.
        let trust =
            tokio::task::spawn_blocking(move || Trust::read(&files)).await.map_err(|error| error.to_string())?;
        let trust = trust.map_err(|(place, fault)| format!("{}: {fault}", self.path(place).display()))?;
        if trust.digest != self.trust.load().digest {
            self.trust.store(Arc::new(trust));
            self.tell_lists();
            self.observer.authorities_read(&self.name, true);
            tracing::info!(source = %self.name, "authorities and lists of revoked certificates reloaded");
        }
        Ok(())
    }

    /// Says until when the lists are good.
    fn tell_lists(&self) {
        self.observer.revocation_lists(&self.name, self.trust.load().next_update());
    }

    fn look(&self) -> Seen {
        [&self.ca].into_iter().chain(&self.lists).map(|path| Look::at(path)).collect()
    }

    fn set_failure(&self, fault: Option<String>) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        *failures = match fault {
            None => (0, None),
            Some(fault) => (failures.0.saturating_add(1), Some(fault.into())),
        };
    }

    fn path(&self, place: Place) -> &Path {
        match place {
            Place::Ca => &self.ca,
            Place::List(at) => self.lists.get(at).unwrap_or(&self.ca),
        }
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, String> {
    let fault = |error: std::io::Error| format!("{}: {error}", path.display());
    let path_there = path.to_owned();
    let read = tokio::task::spawn_blocking(move || files::read(&path_there, LIST_BYTES)).await;
    read.unwrap_or_else(|error| Err(error.into())).map_err(fault)
}
