//! Asking targets whether they are well. Each service that wants it has a task on the runtime of background work, which has all
//! targets of a round asked at once, each on a connection of its own, in the way in which requests reach them: connections are not
//! made for being sent from one thread to another, so that a round has a thread for as long as it takes.
//!
//! A target is asked for what the configuration says and nothing else: without the service's credential, as a health check that
//! needs one tells more of the credential than of the target.

use std::{
    future::poll_fn,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::Empty;
use tokio::{
    runtime::Handle,
    task::{AbortHandle, JoinSet, LocalSet},
    time::{Instant, sleep, sleep_until, timeout_at},
};

use super::{
    connect::{Purpose, Wanted},
    fault::UpstreamFault,
    framing::frame,
    line::Turn,
    pool::{Opening, TargetPool},
    service::Service,
    target::Target,
    upload::Upload,
};
use crate::{config::HealthCheck, telemetry::with_causes};

/// More targets at once would need more open files than a health check is worth.
const AT_ONCE: usize = 64;

/// The task of a service.
#[derive(Debug)]
pub(super) struct Checking {
    rules: HealthCheck,
    task: AbortHandle,
    round: Arc<Round>,
}

/// What a task and who replaces it know of each other.
#[derive(Debug)]
struct Round {
    /// When the next round is due.
    due: Mutex<Instant>,
}

/// Why a target is unwell.
#[derive(Debug, thiserror::Error)]
enum Unwell {
    #[error("no answer in time")]
    Late,
    #[error("status {0}")]
    Status(u16),
    #[error(transparent)]
    Fault(#[from] UpstreamFault),
    #[error("the request can't be made")]
    Request(#[from] http::Error),
}

impl Drop for Checking {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Has the targets of a service asked as its configuration says. A definition that stays goes on where it was; without one every
/// target is well, as far as this is concerned.
pub(super) fn put_in_force(service: &Arc<Service>, background: &Handle) {
    let mut checking = running(service);
    let Some(rules) = &service.config().balancing.health else {
        if checking.take().is_some() {
            service.targets().iter().for_each(|target| target.health.unasked());
        }
        return;
    };
    let due = match &*checking {
        Some(before) if before.rules == *rules => *locked(&before.round.due),
        Some(_) | None => Instant::now(),
    };
    let round = Arc::new(Round { due: Mutex::new(due) });
    let task = background.spawn(go_on(Arc::downgrade(service), Arc::downgrade(&round), rules.clone()));
    *checking = Some(Checking { rules: rules.clone(), task: task.abort_handle(), round });
}

async fn go_on(service: Weak<Service>, round: Weak<Round>, rules: HealthCheck) {
    loop {
        let Some(due) = round.upgrade().map(|round| *locked(&round.due)) else { return };
        sleep_until(due).await;
        let (Some(service), Some(round)) = (service.upgrade(), round.upgrade()) else { return };
        *locked(&round.due) = Instant::now() + jittered(rules.interval);
        let asked = rules.clone();
        // It fails only if the process ends.
        let _ = tokio::task::spawn_blocking(move || ask_all(&service, &round, &asked)).await;
        // Lets others run even if the next round is due already.
        sleep(Duration::from_millis(1)).await;
    }
}

/// Asks every target, on this thread.
fn ask_all(service: &Arc<Service>, round: &Arc<Round>, rules: &HealthCheck) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return tracing::warn!(upstream = service.name(), %error, "targets can't be asked whether they are well");
        }
    };
    let rules = Arc::new(rules.clone());
    LocalSet::new().block_on(&runtime, async {
        let mut asked = JoinSet::new();
        for member in service.targets().iter() {
            if asked.len() >= AT_ONCE {
                asked.join_next().await;
            }
            let (service, round, rules) = (Arc::clone(service), Arc::clone(round), Arc::clone(&rules));
            let target = Arc::clone(&member.target);
            asked.spawn_local(async move {
                let verdict = ask(&target, &rules).await;
                note(&service, &round, &target, &rules, verdict);
            });
        }
        while asked.join_next().await.is_some() {}
    });
    // A name that is still being looked up must not keep the thread.
    runtime.shutdown_background();
}

/// Notes a verdict, unless nobody asks for it any more.
fn note(service: &Service, round: &Arc<Round>, target: &Target, rules: &HealthCheck, verdict: Result<(), Unwell>) {
    // Held, so that what is turned off has no last word.
    let checking = running(service);
    if !checking.as_ref().is_some_and(|checking| Arc::ptr_eq(&checking.round, round)) {
        return;
    }
    let turned = target.health.asked(verdict.is_ok(), (rules.healthy, rules.unhealthy), std::time::Instant::now());
    drop(checking);
    let (upstream, target) = (service.name(), target.authority());
    match (turned, verdict) {
        (false, _) => {}
        (true, Ok(())) => tracing::info!(upstream, target, "target is well again: its health check succeeds"),
        (true, Err(why)) => {
            tracing::warn!(upstream, target, error = %with_causes(&why), "target left out: its health check fails")
        }
    }
}

/// Asks one target.
async fn ask(target: &Arc<Target>, rules: &HealthCheck) -> Result<(), Unwell> {
    let ends = Instant::now() + rules.timeout;
    let status = timeout_at(ends, status_of(target, rules, ends)).await.map_err(|_| Unwell::Late)??;
    if rules.statuses.iter().any(|(from, to)| (*from..=*to).contains(&status)) {
        Ok(())
    } else {
        Err(Unwell::Status(status))
    }
}

async fn status_of(target: &Arc<Target>, rules: &HealthCheck, ends: Instant) -> Result<u16, Unwell> {
    let now = Instant::now();
    let uri = rules.path.parse::<Uri>().map_err(http::Error::from)?;
    let host = match &rules.host {
        Some(host) => HeaderValue::from_str(host).map_err(http::Error::from)?,
        None => target.host.clone(),
    };
    let request = Request::builder().method(Method::GET).uri(uri).header(header::HOST, host);
    let request = request.header(header::USER_AGENT, "stepgate-health").body(Empty::<Bytes>::new())?;
    let mut request = request.map(|body| Upload::new(body, now));
    frame(&mut request);
    let pool: TargetPool<Empty<Bytes>> = TargetPool::new(Arc::clone(target));
    let wanted = Wanted { deadline: ends, purpose: Purpose::default() };
    let line = match pool.open(wanted, now).await {
        Opening::Made(line) | Opening::Joined(line) => line,
        Opening::Failed(fault) | Opening::FailedElsewhere(fault) => return Err(fault.into()),
    };
    let mut turn = Turn::begin(line, request, target, (now, false));
    let answered = poll_fn(|cx| turn.poll_answer(cx, rules.timeout)).await.map_err(|lost| lost.fault)?;
    Ok(answered.answer.status().as_u16())
}

/// Give or take a tenth, so that gateways that were started together do not ask together for ever.
fn jittered(interval: Duration) -> Duration {
    let drawn = RandomState::new().hash_one(interval) % 201;
    interval.mul_f64(0.9 + drawn as f64 / 1000.0)
}

fn running(service: &Service) -> MutexGuard<'_, Option<Checking>> {
    locked(&service.shared().checking)
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_an_interval_apart_give_or_take_a_tenth() {
        let interval = Duration::from_secs(10);
        let drawn: Vec<Duration> = (0..200).map(|_| jittered(interval)).collect();
        assert!(drawn.iter().all(|drawn| (Duration::from_secs(9)..=Duration::from_secs(11)).contains(drawn)));
        assert!(drawn.iter().any(|drawn| *drawn < interval) && drawn.iter().any(|drawn| *drawn > interval));
    }
}
