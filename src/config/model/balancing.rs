//! How requests are spread over a service's targets, and what bounds them.

use std::{sync::Arc, time::Duration};

use http::HeaderName;

/// How requests are spread over a service's targets, and what bounds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balancing {
    /// Which target a request goes to.
    pub balance: Balance,
    /// How targets are asked whether they are well; `None`: they are not.
    pub health: Option<HealthCheck>,
    /// When targets are left out for what became of requests.
    pub ejection: Ejection,
    /// How long a target that is new or came back takes to its full share.
    pub slow_start: Option<Duration>,
    /// How many requests may be under way at once.
    pub concurrency: Option<Concurrency>,
    /// When a request is sent again.
    pub retries: Retries,
}

/// Which target a request goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    /// Turns are taken, by weight.
    RoundRobin,
    /// The one of two with fewer requests under way.
    LeastRequests,
    /// The same for the same key.
    Hash(HashKey),
}

/// What keeps requests together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// A header's value.
    Header(HeaderName),
    /// A cookie's value.
    Cookie(Arc<str>),
    /// The issuer and the subject of the caller.
    Subject,
    /// The client's address.
    Ip,
}

/// How targets are asked whether they are well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked for, in origin form.
    pub path: Arc<str>,
    /// What targets are told as `Host`; `None`: their own.
    pub host: Option<Arc<str>>,
    /// From one question to the next.
    pub interval: Duration,
    /// How long an answer may take, connecting included.
    pub timeout: Duration,
    /// Good answers in a row that make a target well.
    pub healthy: u32,
    /// Bad ones in a row that make it unwell.
    pub unhealthy: u32,
    /// Statuses of good answers, from and to.
    pub statuses: Vec<(u16, u16)>,
}

/// When targets are left out for what became of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    /// Failures in a row that eject.
    pub failures: u32,
    /// How long the first time.
    pub base: Duration,
    /// How long at most.
    pub max: Duration,
    /// Below this share of targets that are well, in percent, all are used.
    pub panic: u8,
    /// What counts as a failure besides a connection that could not be made: no answer, a broken one, and statuses of gateways.
    pub answers: bool,
}

/// How many requests may be under way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concurrency {
    /// Under way.
    pub requests: u32,
    /// Waiting.
    pub queue: u32,
    /// How long one may wait.
    pub queue_timeout: Duration,
}

/// When a request is sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// How often, at most.
    pub attempts: u8,
    /// Whether on another target when no connection could be made.
    pub connect: bool,
    /// Whether when the connection broke before the answer, even if it had served nobody before.
    pub reset: bool,
    /// On which statuses.
    pub statuses: Vec<u16>,
    /// How much of all requests may be repetitions, in percent; `None`: no bound but that of each request.
    pub budget: Option<u8>,
}

/// What holds where nothing is said: the failover and the repetitions that cannot do harm.
impl Default for Balancing {
    fn default() -> Self {
        Self {
            balance: Balance::RoundRobin,
            health: None,
            ejection: Ejection::default(),
            slow_start: None,
            concurrency: None,
            retries: Retries::default(),
        }
    }
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            // Fewer would eject on a single lost SYN and its retries; more would cost users more failures.
            failures: 3,
            // About as long as a service takes to restart.
            base: Duration::from_secs(5),
            // A target that comes back is found within a minute.
            max: Duration::from_secs(60),
            panic: 0,
            answers: false,
        }
    }
}

impl Default for Retries {
    /// A service may close an idle connection at any time (RFC 9112 §9.3.1): once for that, and once more if a target went away.
    fn default() -> Self {
        Self { attempts: 2, connect: true, reset: false, statuses: Vec::new(), budget: None }
    }
}
