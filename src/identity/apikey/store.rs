//! The keys that a source knows now. One task looks at the file every second, and reads it again when it is another:
//! a file with a fault changes nothing, and is told of. The same task writes down when keys were last used.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Guard};
use tokio::{sync::Notify, task::AbortHandle};

use super::{
    last_use,
    table::{FileFault, KeyTable},
};
use crate::{
    files::Look,
    identity::{IdentityObserver, SourceServices},
    policy::IssuerName,
};

/// How often the file is looked at: about how long a revoked key goes on.
const POLL: Duration = Duration::from_secs(1);
/// How often it is written down when keys were last used.
const WRITE_PERIOD: Duration = Duration::from_secs(60);

/// The keys of a source, kept up to date until it is dropped.
#[derive(Debug)]
pub(super) struct Store {
    shelf: Arc<Shelf>,
    task: AbortHandle,
}

impl Drop for Store {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the requests and the task share.
#[derive(Debug)]
struct Shelf {
    table: ArcSwap<KeyTable>,
    /// Whether a key was used since that was last written down.
    used: AtomicBool,
    again: Notify,
    last_uses: PathBuf,
    writing: Mutex<()>,
}

impl Store {
    /// Keeps keys that were read, and the file under watch.
    pub(super) fn start(
        source: &IssuerName,
        file: &Path,
        (table, seen): (KeyTable, Look),
        last_uses: PathBuf,
        limits: Arc<HashSet<Arc<str>>>,
        services: &SourceServices,
    ) -> Self {
        let shelf = Arc::new(Shelf {
            table: ArcSwap::from_pointee(table),
            used: AtomicBool::new(false),
            again: Notify::new(),
            last_uses,
            writing: Mutex::default(),
        });
        let watch = Watch {
            source: source.clone(),
            file: file.to_owned(),
            seen,
            unread: None,
            limits,
            observer: services.observer.clone(),
            shelf: shelf.clone(),
        };
        Self { shelf, task: services.handle.spawn(watch.run()).abort_handle() }
    }

    /// The keys.
    pub(super) fn table(&self) -> Guard<Arc<KeyTable>> {
        self.shelf.table.load()
    }

    /// Where it is written down when keys were last used.
    pub(super) fn last_uses(&self) -> &Path {
        &self.shelf.last_uses
    }

    /// Has the file looked at now.
    pub(super) fn look_again(&self) {
        self.shelf.again.notify_one();
    }

    /// Notes that there is a use to write down.
    pub(super) fn note_use(&self) {
        if !self.shelf.used.load(Ordering::Relaxed) {
            self.shelf.used.store(true, Ordering::Relaxed);
        }
    }

    /// Writes down when keys were last used, if any was.
    pub(super) fn write_last_uses(&self) {
        self.shelf.write_last_uses();
    }
}

impl Shelf {
    fn write_last_uses(&self) {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.used.swap(false, Ordering::Relaxed) {
            return;
        }
        if let Err(error) = last_use::write(&self.last_uses, &self.table.load()) {
            // Tried again with the next use.
            tracing::warn!(file = %self.last_uses.display(), %error, "when keys were last used cannot be written");
        }
    }
}

/// The task.
struct Watch {
    source: IssuerName,
    file: PathBuf,
    seen: Look,
    /// Why the file could not be read as it is now, if that may pass: told once, tried again each time.
    unread: Option<String>,
    limits: Arc<HashSet<Arc<str>>>,
    observer: Arc<dyn IdentityObserver>,
    shelf: Arc<Shelf>,
}

impl Watch {
    /// Runs until it is aborted.
    async fn run(mut self) {
        let mut written = Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = self.shelf.again.notified() => {}
            }
            let seen = Look::at(&self.file);
            if seen != self.seen || self.unread.is_some() {
                // What changes while it is read is read again the next time.
                if seen != self.seen {
                    (self.seen, self.unread) = (seen, None);
                }
                self.read().await;
            }
            if written.elapsed() >= WRITE_PERIOD {
                written = Instant::now();
                let shelf = self.shelf.clone();
                // It logs its own failure.
                let _ = tokio::task::spawn_blocking(move || shelf.write_last_uses()).await;
            }
        }
    }

    async fn read(&mut self) {
        let (file, limits, shelf) = (self.file.clone(), self.limits.clone(), self.shelf.clone());
        // A million keys take a second or two; the runtime of background work has other things to do.
        let read = tokio::task::spawn_blocking(move || {
            let table = Arc::new(KeyTable::load(&file, &limits)?);
            let before = shelf.table.swap(table.clone());
            // After the swap, so that no use in between is lost.
            table.remember(&before);
            Ok::<_, FileFault>(table.len())
        });
        let fault = match read.await {
            Ok(Ok(keys)) => {
                self.unread = None;
                tracing::info!(source = %self.source, keys, "API keys read");
                self.observer.api_keys(&self.source, Ok(keys));
                return;
            }
            Ok(Err(fault @ FileFault::Unreadable(_))) => {
                // The moment may be to blame, as when too many files are open: a key that was revoked must not go on for it.
                let fault = fault.to_string();
                if self.unread.replace(fault.clone()).as_ref() == Some(&fault) {
                    return;
                }
                fault
            }
            Ok(Err(fault)) => fault.to_string(),
            Err(_) => "the reader failed".to_owned(),
        };
        tracing::error!(source = %self.source, file = %self.file.display(), fault, "API keys not read: those before stay");
        self.observer.api_keys(&self.source, Err(()));
    }
}
