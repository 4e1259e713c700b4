//! Handing over to another process, on the side of the one that runs: it stops accepting, ends what needs the store and the audit log,
//! lets go of both and of the lock, and hears whether the other one serves.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use super::reload::Control;
use crate::{
    acme::Acme,
    runtime::{Services, Snapshot},
    server::{HandOverFault, Server, SocketName, StateLock, Visitor},
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

/// What is handed over.
pub(super) struct Giver<'a> {
    pub(super) server: &'a Server,
    pub(super) admin: &'a Server,
    pub(super) services: &'a Arc<Services>,
    pub(super) control: &'a Control,
    pub(super) acme: &'a Acme,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) lock: &'a mut Option<StateLock>,
}

/// A process that has asked and gets everything ready; `None`: nothing comes of it, and nothing has changed. This one does all that it
/// did meanwhile, however long that takes. Let go of, it is forgotten.
pub(super) type Offering = Pin<Box<dyn Future<Output = Option<Visitor>>>>;

/// Offers the listening sockets to who asks.
pub(super) fn offer(server: &Server, admin: &Server, visitor: Visitor) -> Offering {
    let sockets = server.sockets().and_then(|mut all| {
        all.extend(admin.sockets()?);
        Ok(all)
    });
    Box::pin(async move {
        let sockets = sockets
            .inspect_err(|error| {
                tracing::error!(%error, "the listening sockets cannot be handed over: nothing has changed");
            })
            .ok()?;
        let (visitor, offered) = blocking(visitor, move |visitor| visitor.offer(&sockets)).await;
        match offered {
            Ok(pid) => tracing::info!(pid, "handing over"),
            Err(fault) => {
                tracing::warn!(%fault, "another process asked to take over, and did not: nothing has changed");
                return None;
            }
        }
        visitor
    })
}

/// What has been offered to whom, once that one is ready; never, where nobody has asked.
pub(super) async fn ready(offering: &mut Option<Offering>) -> Option<Visitor> {
    match offering {
        Some(offering) => offering.await,
        None => std::future::pending().await,
    }
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

/// Does what blocks where it may. Gives the visitor back, unless that panicked.
async fn blocking<T: Send + 'static>(
    mut visitor: Visitor,
    speak: impl FnOnce(&mut Visitor) -> Result<T, HandOverFault> + Send + 'static,
) -> (Option<Visitor>, Result<T, HandOverFault>) {
    let spoken = tokio::task::spawn_blocking(move || {
        let result = speak(&mut visitor);
        (visitor, result)
    });
    match spoken.await {
        Ok((visitor, result)) => (Some(visitor), result),
        Err(_) => (None, Err(HandOverFault::Unknown)),
    }
}

/// Learns what the other process revokes, for as long as connections of this one last.
pub(super) async fn follow(services: Arc<Services>, snapshot: Arc<Snapshot>) {
    let state_dir: Arc<std::path::Path> = snapshot.config.server.state_dir.clone().into();
    drop(snapshot);
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
