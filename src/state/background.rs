//! Tasks that run for whatever is in force, and hand over to those of what follows: never two at once over the same rows.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::{runtime::Handle, sync::watch, task::JoinHandle};

/// Something that runs until it is stopped.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The tasks of something that outlives a configuration. They run once that is in force, and no longer.
pub struct Background {
    handle: Handle,
    phase: Mutex<Phase>,
}

enum Phase {
    /// Not in force yet; whose place it takes.
    Before(Option<Weak<Background>>),
    Running(Vec<JoinHandle<()>>),
    /// Another one is in force.
    After,
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Background").finish_non_exhaustive()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Phase::Running(tasks) = self.phase.get_mut().unwrap_or_else(PoisonError::into_inner) {
            tasks.iter().for_each(JoinHandle::abort);
        }
    }
}

impl Background {
    /// Nothing yet; what takes the place of `previous` once it is started.
    pub fn after(handle: &Handle, previous: Option<&Arc<Self>>) -> Arc<Self> {
        let phase = Phase::Before(previous.map(Arc::downgrade));
        Arc::new(Self { handle: handle.clone(), phase: Mutex::new(phase) })
    }

    /// Starts the tasks, unless they were started before; those whose place they take have ended by the time that they begin.
    pub fn start(&self, tasks: Vec<Task>) {
        let mut phase = self.phase();
        let Phase::Before(previous) = &*phase else { return };
        let mut before = previous.as_ref().and_then(Weak::upgrade).map_or_else(Vec::new, |previous| previous.stop());
        let (done, ended) = watch::channel(before.is_empty());
        let mut running = Vec::with_capacity(tasks.len() + 1);
        if !before.is_empty() {
            running.push(self.handle.spawn(async move {
                for task in before.drain(..) {
                    // How it ended says nothing: it was stopped.
                    let _ = task.await;
                }
                done.send_replace(true);
            }));
        }
        for task in tasks {
            let mut ended = ended.clone();
            running.push(self.handle.spawn(async move {
                // Who waits for them was stopped: so will this be.
                if ended.wait_for(|ended| *ended).await.is_ok() {
                    task.await;
                }
            }));
        }
        *phase = Phase::Running(running);
    }

    /// Gives up the tasks, for good: nothing takes their place. They run on until who has them now ends them.
    pub fn give_up(&self) -> Vec<JoinHandle<()>> {
        match std::mem::replace(&mut *self.phase(), Phase::After) {
            Phase::Running(tasks) => tasks,
            Phase::Before(_) | Phase::After => Vec::new(),
        }
    }

    /// Stops what runs, for good.
    fn stop(&self) -> Vec<JoinHandle<()>> {
        let tasks = self.give_up();
        tasks.iter().for_each(JoinHandle::abort);
        tasks
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing, for good: for what others keep going.
    #[cfg(test)]
    pub(crate) fn none() -> Arc<Self> {
        Arc::new(Self { handle: Handle::current(), phase: Mutex::new(Phase::After) })
    }

    #[cfg(test)]
    pub(crate) fn is_running(&self) -> bool {
        matches!(&*self.phase(), Phase::Running(_))
    }
}
