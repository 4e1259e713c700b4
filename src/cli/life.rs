//! How a gateway that runs lives and ends: through reloads, visits of processes that take over, and the drain.
//!
//! ```text
//!   serves ── told to stop ────────────────────────────> drains, closes what is kept, ends
//!     │ a visitor has everything ready
//!     ▼
//!   gives ─── the other one serves ────────────────────> drains, touches nothing of what is kept, ends
//!     │ └──── told to stop ────────────────────────────> the visit is called off; drains, ends
//!     │ the other one does not serve
//!     ▼
//!   starts anew in this process ─ what was before drains beside it
//! ```

use std::{
    future::Future,
    pin::{Pin, pin},
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
    task::JoinHandle,
};

use super::{
    hand_over::{self, Following, Given, Giver},
    reload::{POLL_PERIOD, Reloader, Seen},
    run::{Origin, Running, StartFault},
    successor,
    systemd::{self, Watchdog},
};
use crate::{
    config::Loaded,
    server::{AdminServer, HandOverDoor, HandedSocket, LockError, SocketName, Visitor},
    telemetry::audit::AuditFault,
};

/// How long the lock of a process that failed to take over is waited for: it ends.
const TAKING_BACK: Duration = Duration::from_secs(10);

/// How often it is tried.
const TRYING: Duration = Duration::from_millis(50);

/// The signals that the process understands.
pub(super) struct Signals {
    stop: StopSignals,
    hangup: Signal,
    upgrade: Signal,
}

struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on none of them ends the process by itself.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            stop: StopSignals {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            },
            hangup: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }
}

impl StopSignals {
    /// Waits for a signal to stop.
    async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Why a gateway does not go on.
enum End {
    /// It was told to.
    Told,
    /// A worker has failed.
    Failed,
    /// Another process serves, or is about to, on these.
    Away(Vec<SocketName>),
    /// All was let go of for another process, and that does not serve.
    Back,
}

/// A process that takes over, until it has everything ready.
type Visit = Pin<Box<dyn Future<Output = Option<Visitor>>>>;

/// Connections of a gateway in this process that another one has taken the place of; they end by themselves, or with their drain.
pub(super) struct Retired(JoinHandle<()>);

impl Running {
    /// Serves until SIGTERM or SIGINT, reloading on SIGHUP and when a file changes; then drains. Another process may take over meanwhile.
    pub(crate) async fn until_told_to_stop(self) -> Result<(), StartFault> {
        let mut running = self;
        loop {
            match running.until_it_ends().await? {
                None => return Ok(()),
                // Another process was to take over, and could not.
                Some(again) => running = *again,
            }
        }
    }

    async fn until_it_ends(mut self) -> Result<Option<Box<Self>>, StartFault> {
        let end = self.serve().await;
        self.door = None;
        // Without the lock, the other process has been told that all is its own by now.
        let is_given = self.lock.is_none();
        match end {
            End::Told if is_given => self.leave_all().await,
            End::Told => self.stop().await,
            End::Failed if is_given => self.leave_all().await.and(Err(StartFault::Worker)),
            End::Failed => self.stop().await.and(Err(StartFault::Worker)),
            End::Away(taken) => self.leave(&taken).await,
            End::Back => return self.begin_again().await,
        }
        .map(|()| None)
    }

    /// Serves, reloads, and lets itself be visited, until one of that is over.
    async fn serve(&mut self) -> End {
        let Self { signals, services, reloader, admin, lock, door, file, .. } = self;
        let mut poll = tokio::time::interval(POLL_PERIOD);
        let mut watchdog = Watchdog::new();
        let control = reloader.control();
        let (workers_failed, admin_failed) = (reloader.server_failed(), admin.failed());
        let failed = || either(&workers_failed, &admin_failed);
        let mut visit: Option<Visit> = None;
        loop {
            let visitor = tokio::select! {
                () = signals.stop.told() => return End::Told,
                () = failed() => return failure(),
                _ = signals.upgrade.recv() => {
                    successor::start(file);
                    continue;
                }
                _ = signals.hangup.recv() => {
                    systemd::reloading(|| reloader.reload(admin));
                    continue;
                }
                () = control.reload_asked() => {
                    systemd::reloading(|| reloader.reload(admin));
                    continue;
                }
                // Not by itself meanwhile: what is new in the file may be what the other process was started for.
                _ = poll.tick(), if visit.is_none() => {
                    reloader.reload_if_changed(admin);
                    continue;
                }
                () = watchdog.due() => {
                    watchdog.tell(reloader.server());
                    continue;
                }
                // One at a time; the next one waits.
                visitor = asked(door.as_ref()), if visit.is_none() => {
                    visit = sockets_of(reloader, admin).map(|sockets| Box::pin(hand_over::offer(visitor, sockets)) as _);
                    continue;
                }
                visitor = visited(&mut visit) => visitor,
            };
            visit = None;
            let Some(visitor) = visitor else { continue };
            // From here on nothing is reloaded: what a configuration opens is another's to have.
            let snapshot = reloader.snapshot();
            let (server, acme) = (reloader.server(), reloader.acme());
            let giver = Giver { server, admin: admin.server(), services, control: &control, acme, snapshot, lock };
            let mut giving = pin!(giver.give(visitor));
            let given = loop {
                tokio::select! {
                    given = &mut giving => break given,
                    () = signals.stop.told() => return End::Told,
                    () = failed() => return failure(),
                    () = watchdog.due() => watchdog.tell(server),
                }
            };
            match given {
                Given::Nothing => {}
                Given::Away(taken) => return End::Away(taken),
                Given::Back => return End::Back,
            }
        }
    }

    /// Ends in good order: says so, and has everybody served who comes until `drain_delay` is over.
    async fn stop(mut self) -> Result<(), StartFault> {
        let delay = self.reloader.snapshot().config.server.drain_delay;
        self.reloader.control().drain();
        systemd::stopping(self.reloader.drain_timeout());
        // Where a visit was called off, who waits in the queues is this process's again.
        self.reloader.server().resume();
        self.admin.server().resume();
        if !delay.is_zero() {
            tracing::info!(
                delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
                "not ready any more; accepting until then"
            );
            self.reloader.server().soften();
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = self.signals.stop.told() => {}
            }
        }
        self.drain(&[]).await;
        Ok(())
    }

    /// Leaves the field to another process, which serves on these listeners.
    async fn leave(self, taken: &[SocketName]) -> Result<(), StartFault> {
        self.reloader.control().drain();
        let _following = self.follow();
        self.drain(taken).await;
        Ok(())
    }

    /// The same to one that has not said yet which ones it serves on.
    async fn leave_all(self) -> Result<(), StartFault> {
        let all = names(sockets_of(&self.reloader, &self.admin));
        self.leave(&all).await
    }

    /// Starts anew with what was in force, and lets the connections of before end beside it.
    async fn begin_again(mut self) -> Result<Option<Box<Self>>, StartFault> {
        self.lock = None;
        let following = self.follow();
        match self.take_back().await {
            Ok(Some(again)) => Ok(Some(Box::new(again.in_place_of(self, following)))),
            Ok(None) => {
                systemd::stopping(self.reloader.drain_timeout());
                self.drain(&[]).await;
                Ok(None)
            }
            Err(fault) => {
                tracing::error!(%fault, "nothing could be taken back: this process ends");
                systemd::stopping(self.reloader.drain_timeout());
                self.drain(&[]).await;
                Err(fault)
            }
        }
    }

    /// Starts another gateway on the same sockets: what waits in their queues is served. `None`: told to stop before it could.
    async fn take_back(&mut self) -> Result<Option<Self>, StartFault> {
        let until = Instant::now() + TAKING_BACK;
        let mut watchdog = Watchdog::new();
        loop {
            let sockets = sockets_of(&self.reloader, &self.admin).unwrap_or_default();
            let origin = Origin {
                inherited: self.reloader.server().inherited().again().with(sockets),
                before: None,
                metrics: Some(self.services.metrics.clone()),
            };
            let loaded = Loaded::again(self.reloader.snapshot().config.clone());
            match Self::start((&self.file, Seen::look(self.file.clone())), loaded, self.materials.clone(), origin) {
                Ok(again) => {
                    tracing::warn!("taken back: this process serves on");
                    return Ok(Some(again));
                }
                // The other process has yet to end.
                Err(StartFault::Lock(LockError::Held { .. }) | StartFault::Audit(AuditFault::Locked { .. }))
                    if Instant::now() < until =>
                {
                    tokio::select! {
                        () = tokio::time::sleep(TRYING) => {}
                        () = self.signals.stop.told() => return Ok(None),
                        () = watchdog.due() => watchdog.tell(self.reloader.server()),
                    }
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Goes on in the place of one whose connections end beside it.
    fn in_place_of(mut self, before: Self, following: Following) -> Self {
        let taken = names(sockets_of(&before.reloader, &before.admin));
        let deadline = Instant::now() + before.reloader.drain_timeout();
        let admin = before.admin.into_server().drain_but(deadline, &taken);
        let server = before.reloader.into_server().map(|server| server.drain_but(deadline, &taken));
        let task = tokio::spawn(async move {
            // Until they have ended, what this one revokes is theirs to know.
            let _following = following;
            admin.done().await;
            if let Some(server) = server {
                server.done().await;
            }
        });
        self.retired = before.retired;
        self.retired.retain(|retired| !retired.0.is_finished());
        self.retired.push(Retired(task));
        // What they have heard since is to be heard.
        self.signals = before.signals;
        self
    }

    fn follow(&self) -> Following {
        Following::begin(&self.services, &self.reloader.snapshot().config.server.state_dir)
    }

    /// Lets all connections end, and closes what is kept where that is this process's.
    async fn drain(self, taken: &[SocketName]) {
        let Self { mut signals, services, reloader, admin, lock, retired, .. } = self;
        let (timeout, control) = (reloader.drain_timeout(), reloader.control());
        tracing::info!(timeout_secs = timeout.as_secs(), "draining");
        let deadline = Instant::now() + timeout;
        let mut cut = false;
        if let Some(server) = reloader.into_server() {
            let mut drain = server.drain_but(deadline, taken);
            loop {
                tokio::select! {
                    () = drain.ended() => break,
                    () = signals.stop.told() => {
                        tracing::warn!("told again to stop: what is left is cut");
                        drain.hurry(Instant::now());
                        cut = true;
                    }
                }
            }
        }
        for Retired(task) in retired {
            tokio::select! {
                // Its own deadline comes before this one's.
                _ = task, if !cut => {}
                () = signals.stop.told(), if !cut => cut = true,
                else => {}
            }
        }
        if lock.is_some() {
            // Closing waits for the disk, at most ten seconds: nothing that was acknowledged may be lost.
            if !services.audit.close() {
                tracing::error!("the audit log could not be written to its end");
            }
            control.write_down();
        }
        control.close_access_log();
        admin.into_server().drain_but(Instant::now() + Duration::from_millis(200), taken).wait();
        tracing::info!("stopped");
    }
}

fn failure() -> End {
    tracing::error!("a worker has failed: draining what is left, to be started anew");
    End::Failed
}

async fn asked(door: Option<&HandOverDoor>) -> Visitor {
    match door {
        Some(door) => door.asked().await,
        None => std::future::pending().await,
    }
}

async fn visited(visit: &mut Option<Visit>) -> Option<Visitor> {
    match visit {
        Some(visit) => visit.await,
        None => std::future::pending().await,
    }
}

async fn either(one: &Notify, other: &Notify) {
    tokio::select! {
        () = one.notified() => {}
        () = other.notified() => {}
    }
}

/// All sockets that a gateway listens on, once more.
fn sockets_of(reloader: &Reloader, admin: &AdminServer) -> Option<Vec<HandedSocket>> {
    let sockets = reloader.server().sockets().and_then(|mut all| {
        all.extend(admin.server().sockets()?);
        Ok(all)
    });
    sockets.inspect_err(|error| tracing::error!(%error, "the listening sockets cannot change hands")).ok()
}

fn names(sockets: Option<Vec<HandedSocket>>) -> Vec<SocketName> {
    sockets.into_iter().flatten().map(|socket| socket.name).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use std::{
        fs,
        io::{Read, Write},
        os::unix::net::UnixStream,
    };

    use super::*;
    use crate::{cli::load, runtime::DiskMaterials};

    #[tokio::test]
    async fn nothing_of_a_gateway_lives_on_once_another_one_has_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.yaml");
        let text = "listeners: [{address: 127.0.0.1:0, cleartext: true}]
admin: {address: 127.0.0.1:0}
upstreams: {api: {targets: [http://127.0.0.1:9], health: {path: /}}}
routes: [{path: /**, upstream: api, auth: none}]
access_log: off
";
        fs::write(&file, text).unwrap();
        let loaded = load::load(&file, &DiskMaterials).unwrap();
        let state_dir = loaded.config.server.state_dir.clone();
        let seen = Seen::look(file.clone());
        let mut running =
            Running::start((&file, seen), loaded, std::sync::Arc::new(DiskMaterials), Origin::default()).unwrap();
        for _ in 0..2 {
            let (snapshot, services) =
                (std::sync::Arc::downgrade(&running.reloader.snapshot()), std::sync::Arc::downgrade(&running.services));
            let door = state_dir.join("hand-over.sock");
            let stranger = std::thread::spawn(move || {
                let mut line = UnixStream::connect(door).unwrap();
                for word in [r#"{"ask":{"protocol":1,"version":"0","pid":1}}"#, "\"ready\""] {
                    let length = u32::try_from(word.len()).unwrap().to_be_bytes();
                    line.write_all(&[&length[..], word.as_bytes()].concat()).unwrap();
                }
                let (mut heard, mut buffer) = (Vec::<u8>::new(), [0; 4096]);
                while !heard.windows(8).any(|bytes| bytes == b"released") {
                    let count = line.read(&mut buffer).unwrap();
                    assert!(count > 0);
                    heard.extend(buffer.iter().take(count));
                }
            });
            running = *running.until_it_ends().await.unwrap().unwrap();
            stranger.join().unwrap();
            let end = Instant::now() + Duration::from_secs(20);
            while snapshot.strong_count() > 0 || services.strong_count() > 0 {
                assert!(Instant::now() < end, "{} {}", snapshot.strong_count(), services.strong_count());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}
