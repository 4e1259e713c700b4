//! Where what an operator asks for is done: by the gateway that runs, through its admin API, or, where none does, on what a gateway
//! keeps, under the lock that it would hold. Both answer the same calls.

use std::path::{Path, PathBuf};

use http::{Method, StatusCode};
use serde_json::Value;
use thiserror::Error;
use tokio::{runtime::Handle, sync::oneshot};

use super::{Exit, admin_client, complain, load, print_line};
use crate::{
    clock::{Clock, Now, SystemClock},
    config::{Config, Loaded, Materials, Problem},
    identity::revocation::RevocationFault,
    runtime::DiskMaterials,
    secret::Secret,
    server::{AdminAnswer, LockError, StateLock},
    telemetry::{audit::AuditFault, metrics::MetricsFault},
};

/// Why a command of operators is not done.
#[derive(Debug, Error)]
pub(super) enum Fault {
    /// What is wrong has been printed.
    #[error("the configuration is refused")]
    Config,
    #[error("{0} has no `{1}`")]
    Missing(PathBuf, &'static str),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Revocation(#[from] RevocationFault),
    #[error(transparent)]
    Audit(#[from] AuditFault),
    #[error(transparent)]
    Metrics(#[from] MetricsFault),
    #[error("starting a runtime")]
    Runtime(#[source] std::io::Error),
    #[error("reading {0}")]
    Read(PathBuf, #[source] std::io::Error),
    #[error("a gateway runs with this state_dir, and its admin API is off: set `admin.token`, or stop it")]
    ApiOff,
    #[error(transparent)]
    Client(#[from] admin_client::ClientFault),
    #[error("{status}: {detail}")]
    Refused { status: StatusCode, detail: String },
    /// All was asked, and the answer is no.
    #[error("{0}")]
    No(String),
}

impl Fault {
    /// Prints what is wrong with a configuration.
    pub(super) fn config(loaded: &Loaded, problems: Vec<Problem>) -> Self {
        load::print_problems(&loaded.report(problems));
        Self::Config
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Config | Self::Missing(..) => Exit::Config,
            Self::Refused { status, .. } if status.is_client_error() => Exit::Failure,
            Self::No(_) => Exit::Failure,
            Self::Refused { .. } | Self::ApiOff | Self::Client(_) => Exit::Unavailable,
            Self::Lock(_)
            | Self::Revocation(_)
            | Self::Audit(_)
            | Self::Metrics(_)
            | Self::Runtime(_)
            | Self::Read(..) => Exit::Io,
        }
    }
}

/// How a command ends; a fault is told.
pub(super) fn end(result: Result<(), Fault>) -> Exit {
    match result {
        Ok(()) => Exit::Success,
        Err(fault) => {
            if !matches!(fault, Fault::Config) {
                complain(&fault);
            }
            fault.exit()
        }
    }
}

/// What a command works on where no gateway runs.
pub(super) trait Kept: Sized {
    /// The section of the configuration without which there is nothing to work on, where it is missing.
    fn missing(config: &Config) -> Option<&'static str>;
    /// Opens it, under the lock.
    fn open(loaded: &Loaded) -> Result<Self, Fault>;
    /// Answers a call as the admin API does; `None` when there is no such call.
    fn call(&self, config: &Config, now: Now, call: (&Method, &str, Option<&str>), body: &[u8]) -> Option<AdminAnswer>;
}

/// What a configuration keeps, wherever that is in force.
pub(super) struct Place<K> {
    config: Config,
    holder: Holder<K>,
}

enum Holder<K> {
    /// No gateway runs: it is ours while we hold the lock.
    Us { kept: K, _lock: StateLock },
    /// A gateway runs.
    Gateway(Secret),
}

impl<K: Kept> Place<K> {
    pub(super) fn open(file: &Path) -> Result<Self, Fault> {
        let loaded = load::load(file, &DiskMaterials).map_err(|fault| {
            load::print_fault(&fault);
            Fault::Config
        })?;
        let config = loaded.config.clone();
        if let Some(section) = K::missing(&config) {
            return Err(Fault::Missing(file.to_owned(), section));
        }
        let holder = match StateLock::acquire(&config.server.state_dir) {
            Ok(lock) => Holder::Us { kept: K::open(&loaded)?, _lock: lock },
            Err(LockError::Held { .. }) => {
                let token = config.admin.token.as_ref().ok_or(Fault::ApiOff)?;
                let token = DiskMaterials.secret(token);
                Holder::Gateway(token.map_err(|problem| Fault::config(&loaded, vec![problem]))?)
            }
            Err(fault @ LockError::Io { .. }) => return Err(fault.into()),
        };
        Ok(Self { config, holder })
    }

    /// Makes a call; a refusal is a fault.
    pub(super) fn ask(&self, method: Method, target: &str, body: &Value) -> Result<AdminAnswer, Fault> {
        let answer = self.look(method, target, body)?;
        if answer.status.is_success() { Ok(answer) } else { Err(refusal(answer.status, &answer.body)) }
    }

    /// The same, where a refusal has more to say than why.
    pub(super) fn look(&self, method: Method, target: &str, body: &Value) -> Result<AdminAnswer, Fault> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        Ok(match &self.holder {
            Holder::Gateway(token) => admin_client::call(self.config.admin.address, token, method, target, body)?,
            Holder::Us { kept, .. } => {
                let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
                let answer = kept.call(&self.config, SystemClock.now(), (&method, path, query), body.as_bytes());
                answer.ok_or_else(|| refusal(StatusCode::NOT_FOUND, &Value::Null))?
            }
        })
    }
}

/// Makes one call, and prints its answer.
pub(super) fn ask_and_print<K: Kept>(config: &Path, method: Method, target: &str, body: &Value) -> Exit {
    end(Place::<K>::open(config).and_then(|place| {
        print_line(&place.ask(method, target, body)?.body.to_string());
        Ok(())
    }))
}

/// Why a call was refused, by its problem document.
pub(super) fn refusal(status: StatusCode, body: &Value) -> Fault {
    let detail = match (status, body.get("detail").and_then(Value::as_str)) {
        (_, Some(detail)) => detail,
        (StatusCode::UNAUTHORIZED, None) => "the gateway that runs has another admin token",
        (StatusCode::NOT_FOUND, None) => "the gateway that runs has no such call: its admin API is off, or it is older",
        (_, None) => "the gateway says no more",
    };
    Fault::Refused { status, detail: detail.to_owned() }
}

/// A runtime on a thread of its own, as the gateway's service runtime is; it ends when this is dropped.
pub(super) struct Background {
    /// What it is asked by.
    pub(super) handle: Handle,
    _alive: oneshot::Sender<()>,
}

impl Background {
    pub(super) fn start() -> Result<Self, Fault> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Fault::Runtime)?;
        let handle = runtime.handle().clone();
        let (alive, ended) = oneshot::channel::<()>();
        // It ends by an error, as nothing is ever sent.
        let run = move || drop(runtime.block_on(ended));
        std::thread::Builder::new().name("service".into()).spawn(run).map_err(Fault::Runtime)?;
        Ok(Self { handle, _alive: alive })
    }
}
