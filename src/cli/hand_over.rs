//! Handing over to another process, on the side of the one that runs: it offers its sockets while it serves on; then it stops accepting,
//! ends what needs the store and the audit log, lets go of both and of the lock, and hears whether the other one serves.
//!
//! Both parts run beside what the process does otherwise, and whoever drops one calls the visit off.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::reload::Control;
use crate::{
    acme::Acme,
    runtime::{Services, Snapshot},
    server::{HandOverFault, HandedSocket, Server, SocketName, StateLock, Visitor},
};

/// How often it is looked whether operations are over.
const LOOK: Duration = Duration::from_millis(5);
/// How long workers may take to stop accepting: they do nothing that takes longer than moments.
const STOPPING: Duration = Duration::from_secs(5);
/// How often what another process revokes is learnt.
const FOLLOW: Duration = Duration::from_secs(1);

/// What became of it.
#[derive(Debug)]
pub(super) enum Given {
    /// Nothing has changed.
    Nothing,
    /// Another process serves, on these.
    Away(Vec<SocketName>),
    /// All was let go of, and the other process does not serve: it is to be taken back.
    Back,
}

/// Offers the sockets to a process that asks, and waits until that has everything ready; until then nothing changes. `None`: nothing
/// comes of it.
pub(super) async fn offer(visitor: Visitor, sockets: Vec<HandedSocket>) -> Option<Visitor> {
    let (visitor, offered) = blocking(visitor, move |visitor| visitor.offer(&sockets)).await;
    match offered {
        Ok(pid) => {
            tracing::info!(pid, "handing over");
            visitor
        }
        Err(fault) => {
            tracing::warn!(%fault, "another process asked to take over, and did not: nothing has changed");
            None
        }
    }
}

/// What is handed over.
pub(super) struct Giver<'a> {
    pub(super) server: &'a Server,
    pub(super) admin: &'a Server,
    pub(super) services: &'a Arc<Services>,
    pub(super) control: &'a Control,
    pub(super) acme: &'a Acme,
    pub(super) snapshot: Arc<Snapshot>,
    /// Taken as soon as all that it guards is another's to have.
    pub(super) lock: &'a mut Option<StateLock>,
}

impl Giver<'_> {
    /// Hands over to who has everything ready.
    pub(super) async fn give(mut self, mut visitor: Visitor) -> Given {
        let paused = async {
            self.server.pause().await;
            self.admin.pause().await;
        };
        if tokio::time::timeout(STOPPING, paused).await.is_err() {
            tracing::error!("the workers do not stop accepting: nothing is handed over");
            visitor.refuse("its workers do not stop accepting");
            self.server.resume();
            self.admin.resume();
            return Given::Nothing;
        }
        if let Err(why) = self.let_go().await {
            tracing::error!(why, "what is kept could not be let go of in order: it is taken back");
            visitor.refuse(&why);
            return Given::Back;
        }
        *self.lock = None;
        match blocking(visitor, Visitor::released).await.1 {
            Ok(taken) => {
                tracing::info!("another process serves: what is left here ends");
                Given::Away(taken)
            }
            Err(fault) => {
                tracing::error!(%fault, "the other process does not serve: all is taken back");
                Given::Back
            }
        }
    }

    /// Ends what needs what is durable, and lets go of it.
    async fn let_go(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + self.snapshot.config.server.handover_timeout;
        // From here on what needs it is refused, and asked again of the other process.
        self.services.let_go();
        while self.services.audit.under_way() > 0 && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
        self.acme.stop();
        let stored = self.snapshot.let_go(deadline).await;
        self.control.write_down();
        self.services.revocations.let_go();
        // What is still under way has an outcome that nobody knows: so it is recorded when the log is opened again.
        let audit = Arc::clone(&self.services.audit);
        let closed = tokio::task::spawn_blocking(move || audit.close()).await.unwrap_or(false);
        stored.map_err(|fault| fault.to_string())?;
        if closed { Ok(()) } else { Err("the audit log could not be written to its end".to_owned()) }
    }
}

/// Does what blocks where it may, until it is dropped. Gives the visitor back, unless that panicked.
async fn blocking<T: Send + 'static>(
    mut visitor: Visitor,
    speak: impl FnOnce(&mut Visitor) -> Result<T, HandOverFault> + Send + 'static,
) -> (Option<Visitor>, Result<T, HandOverFault>) {
    let call_off = match visitor.call_off() {
        Ok(call_off) => call_off,
        Err(error) => return (Some(visitor), Err(error.into())),
    };
    let spoken = tokio::task::spawn_blocking(move || {
        let result = speak(&mut visitor);
        (visitor, result)
    });
    let spoken = spoken.await;
    call_off.over();
    match spoken {
        Ok((visitor, result)) => (Some(visitor), result),
        Err(_) => (None, Err(HandOverFault::Unknown)),
    }
}

/// Learns what another one revokes over the same folder, for as long as connections of this one last: until it is dropped.
pub(super) struct Following(tokio::task::JoinHandle<()>);

impl Following {
    /// Begins to.
    pub(super) fn begin(services: &Arc<Services>, state_dir: &Path) -> Self {
        Self(tokio::spawn(follow(Arc::clone(services), state_dir.into())))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn follow(services: Arc<Services>, state_dir: Arc<Path>) {
    let mut told = false;
    loop {
        tokio::time::sleep(FOLLOW).await;
        let (services, state_dir) = (services.clone(), state_dir.clone());
        match tokio::task::spawn_blocking(move || services.revocations.follow(&state_dir)).await {
            Ok(Ok(())) => told = false,
            Ok(Err(error)) if !told => {
                told = true;
                tracing::error!(%error, "what another process revokes cannot be read");
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
}
