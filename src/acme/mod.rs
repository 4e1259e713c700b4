//! Certificates that are ordered from an authority and renewed (ACME, RFC 8555), one after the other, on the runtime of
//! background work. Nothing waits for it: what cannot be ordered is tried again, later each time, and the certificate that is
//! there stays in use. Listeners read the files as they read other certificates, and show the challenges that are under way.
//!
//! ```text
//!   configure ─> for each certificate:  stored? ─ no ──────────────────────────┐
//!                     ▲                   │ yes: when is it renewed?           │ now
//!                     │                   │ two thirds of its life, or as the  ▼
//!                     │                   └ authority proposes (ARI) ────> order ─> challenges ─> file
//!                     └──────────── failed: later, and later yet ─────────────┘
//! ```

mod challenges;
mod order;
mod schedule;
mod stored;
mod transport;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use instant_acme::{Account, CertificateIdentifier};
use tokio::{runtime::Handle, sync::watch, time::timeout};

pub use self::challenges::{ChallengeFault, Challenges, Shown, WELL_KNOWN};
use self::{
    order::{Means, OrderFault},
    schedule::{Failure, Life, pause},
    stored::StoredCertificate,
    transport::Transport,
};
use crate::{
    client::{Fetcher, MachineRoots, authorities},
    clock::{Clock, Now},
    config::{self, CertificateOrder, Materials, Problem},
    secret::Secret,
    telemetry::with_causes,
};

/// How long an order may take in all.
const ORDER_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// How often an authority is asked when it wants a certificate renewed (RFC 9773 §4.3.2), whatever it says itself.
const SHORTEST_ASK: Duration = Duration::from_secs(60 * 60);
const LONGEST_ASK: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest sleep: a wall clock that was set is noticed by then.
const LONGEST_SLEEP: Duration = Duration::from_secs(60 * 60);

/// Told of what becomes of orders, on the runtime of background work.
pub trait AcmeObserver: Send + Sync + 'static {
    /// A certificate was ordered and is in its file.
    fn ordered(&self, name: &str);
    /// It was not; the one before stays in use.
    fn failed(&self, name: &str);
    /// These are ordered, by their first names, and no other.
    fn known(&self, names: &[&str]);
}

/// Who orders certificates, and by what; `None`: nothing is ordered.
type Plan = Option<Arc<Planned>>;

#[derive(Debug)]
struct Planned {
    acme: Arc<config::Acme>,
    transport: Transport,
    hmac_key: Option<Secret>,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Transport")
    }
}

/// A plan that can be carried out; nothing has been asked of anybody yet.
#[derive(Debug)]
pub struct Prepared(Plan);

/// Reads what ordering certificates by this configuration needs.
///
/// # Errors
/// What cannot be read or used.
pub fn prepare(
    acme: Option<&Arc<config::Acme>>,
    materials: &dyn Materials,
    machine: &MachineRoots,
) -> Result<Prepared, Vec<Problem>> {
    let Some(acme) = acme.filter(|acme| !acme.orders.is_empty()) else { return Ok(Prepared(None)) };
    let mut problems = Vec::new();
    let believed = authorities(acme.ca.as_ref(), materials).unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    let hmac_key = acme
        .external_account
        .as_ref()
        .and_then(|account| materials.secret(&account.hmac_key).map_err(|problem| problems.push(problem)).ok());
    let fetcher = Fetcher::new(machine.unless(believed.as_deref())).map_err(|error| {
        problems.push(Problem::error(&acme.span, format!("setting up TLS to the authority: {error}")));
    });
    match fetcher {
        Ok(fetcher) if problems.is_empty() => {
            let transport = Transport::new(fetcher);
            Ok(Prepared(Some(Arc::new(Planned { acme: Arc::clone(acme), transport, hmac_key }))))
        }
        Ok(_) | Err(()) => Err(problems),
    }
}

/// Orders certificates for as long as it lives.
#[derive(Debug)]
pub struct Acme {
    plan: watch::Sender<Plan>,
}

impl Acme {
    /// Begins to order what `prepared` says; challenges are shown by who has `challenges`.
    pub fn start(
        handle: &Handle,
        prepared: Prepared,
        challenges: Arc<Challenges>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn AcmeObserver>,
    ) -> Self {
        let (plan, receiver) = watch::channel(prepared.0);
        handle.spawn(Worker { challenges, clock, observer, states: HashMap::new(), account: None }.run(receiver));
        Self { plan }
    }

    /// Goes on by another configuration. An order that is under way is given up only where that changed.
    pub fn apply(&self, prepared: Prepared) {
        self.plan.send_if_modified(|plan| {
            let same = match (&*plan, &prepared.0) {
                (None, None) => true,
                (Some(before), Some(after)) => {
                    // Where it stands in the file is nothing to an order.
                    let span = after.acme.span.clone();
                    let moved = config::Acme { span, ..(*before.acme).clone() };
                    moved == *after.acme && before.hmac_key == after.hmac_key
                }
                (None, Some(_)) | (Some(_), None) => false,
            };
            *plan = prepared.0;
            !same
        });
    }

    /// Orders nothing any more: another process may.
    pub fn stop(&self) {
        self.apply(Prepared(None));
    }
}

/// What is known of one certificate between attempts.
#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Not before.
    again: Option<Instant>,
    /// By chance, once for a certificate: from 0 to 1.
    chance: Option<f64>,
    /// What the authority proposed, and until when that holds.
    proposed: Option<(CertificateIdentifier<'static>, Life)>,
    ask: Option<Instant>,
}

struct Worker {
    challenges: Arc<Challenges>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn AcmeObserver>,
    states: HashMap<PathBuf, State>,
    account: Option<Account>,
}

impl Worker {
    async fn run(mut self, mut plans: watch::Receiver<Plan>) {
        loop {
            let plan = plans.borrow_and_update().clone();
            let orders = plan.as_ref().map_or(&[][..], |planned| &planned.acme.orders);
            let names: Vec<&str> = orders.iter().map(first_name).collect();
            self.observer.known(&names);
            self.states.retain(|file, _| orders.iter().any(|order| order.file == *file));
            self.account = None;
            let changed = match &plan {
                None => plans.changed().await,
                Some(planned) => tokio::select! {
                    // An order that is given up shows its challenges no more.
                    changed = plans.changed() => changed,
                    () = self.carry_out(planned) => Ok(()),
                },
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Orders what is due, over and over.
    async fn carry_out(&mut self, planned: &Planned) {
        loop {
            let mut sleep = LONGEST_SLEEP;
            for wanted in &planned.acme.orders {
                sleep = sleep.min(self.look_after(planned, wanted).await);
            }
            tokio::time::sleep(sleep).await;
        }
    }

    /// Orders a certificate if it is due; gives how long to wait until it may be.
    async fn look_after(&mut self, planned: &Planned, wanted: &CertificateOrder) -> Duration {
        let now = self.clock.now();
        let wait = self
            .states
            .entry(wanted.file.clone())
            .or_default()
            .again
            .map(|again| again.saturating_duration_since(now.instant));
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            return wait;
        }
        let stored = StoredCertificate::read(&wanted.file);
        if let Some(stored) = &stored {
            self.ask(planned, wanted, stored, now).await;
            let state = self.states.entry(wanted.file.clone()).or_default();
            let chance = *state.chance.get_or_insert_with(chance);
            let renewal = stored.life.renewal(state.proposed.as_ref().map(|(_, window)| *window), chance);
            let wait = renewal.saturating_sub(now.unix_secs());
            if wait > 0 {
                let ask = state.ask.map_or(LONGEST_SLEEP, |ask| ask.saturating_duration_since(now.instant));
                return Duration::from_secs(wait).min(ask);
            }
        }
        let name = first_name(wanted);
        let replaces =
            self.states.get(&wanted.file).and_then(|state| state.proposed.as_ref()).map(|(name, _)| name.clone());
        let result = timeout(ORDER_TIMEOUT, self.order(planned, wanted, replaces)).await;
        let state = self.states.entry(wanted.file.clone()).or_default();
        match result {
            Ok(Ok(stored)) => {
                let rest = stored.life.rest();
                *state = State { again: Some(self.clock.now().after(rest).instant), ..State::default() };
                let days = stored.life.to.saturating_sub(now.unix_secs()) / 86_400;
                tracing::info!(certificate = name, days, "a certificate was ordered and is in use soon");
                self.observer.ordered(name);
                rest
            }
            failed => {
                let (failure, text) = match &failed {
                    Ok(Err(fault)) => (fault.failure(), with_causes(fault)),
                    _ => (Failure::Passing, "the order took too long".to_owned()),
                };
                state.failures = state.failures.saturating_add(1);
                // Asked anew: a proposal may be what was wrong with it.
                (state.proposed, state.ask) = (None, None);
                let pause = pause(failure, state.failures, chance())
                    .max(asked_to_wait(&failed))
                    .max(planned.transport.asked_to_wait());
                state.again = Some(self.clock.now().after(pause).instant);
                let kept = if stored.is_some() { "the one before stays in use" } else { "there is none yet" };
                tracing::error!(
                    certificate = name,
                    error = text,
                    again_secs = pause.as_secs(),
                    "a certificate was not ordered: {kept}"
                );
                self.observer.failed(name);
                pause
            }
        }
    }

    async fn order(
        &mut self,
        planned: &Planned,
        wanted: &CertificateOrder,
        replaces: Option<CertificateIdentifier<'static>>,
    ) -> Result<StoredCertificate, OrderFault> {
        let challenges = Arc::clone(&self.challenges);
        let means = planned.means(&challenges);
        // Opened anew for each order: the authority's directory may have changed since.
        let account = means.account().await?;
        let stored = means.order(&account, wanted, replaces).await;
        self.account = stored.is_ok().then_some(account);
        stored
    }

    /// Asks the authority when it wants a certificate renewed, if it is time to.
    async fn ask(&mut self, planned: &Planned, wanted: &CertificateOrder, stored: &StoredCertificate, now: Now) {
        let due = |state: &State| state.ask.is_none_or(|ask| ask <= now.instant);
        if !self.states.get(&wanted.file).is_none_or(due) {
            return;
        }
        if self.account.is_none() {
            let challenges = Arc::clone(&self.challenges);
            self.account = timeout(ORDER_TIMEOUT, planned.means(&challenges).account()).await.ok().and_then(Result::ok);
        }
        let proposal = match &self.account {
            Some(account) => order::proposal(account, stored).await,
            None => None,
        };
        let again = proposal.as_ref().map_or(LONGEST_SLEEP, |(_, _, again)| (*again).clamp(SHORTEST_ASK, LONGEST_ASK));
        let state = self.states.entry(wanted.file.clone()).or_default();
        state.ask = Some(now.after(again).instant);
        state.proposed = proposal.map(|(name, window, _)| (name, window));
    }
}

impl Planned {
    fn means<'a>(&'a self, challenges: &'a Arc<Challenges>) -> Means<'a> {
        Means { acme: &self.acme, transport: &self.transport, hmac_key: self.hmac_key.as_ref(), challenges }
    }
}

/// How long the authority asks to be left alone, as far as is known.
fn asked_to_wait<T, E>(failed: &Result<Result<T, OrderFault>, E>) -> Duration {
    match failed {
        Ok(Err(OrderFault::Authority { source: instant_acme::Error::Timeout(Some(until)), .. })) => {
            until.saturating_duration_since(Instant::now())
        }
        _ => Duration::ZERO,
    }
}

/// A certificate is named by the first name that was written, which is how its file begins.
fn first_name(order: &CertificateOrder) -> &str {
    order.names.first().map_or("", |name| name)
}

/// From 0 to 1; in the middle where there is no randomness.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}
