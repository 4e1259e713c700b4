//! `stepgate invite`, `stepgate factors`, `stepgate rekey`, `stepgate users import` and `stepgate users invite`: they ask the gateway that runs, or, where none does, work on its
//! store under the lock that a gateway would hold.

pub(super) mod accounts;
pub(super) mod api;

use std::{path::PathBuf, sync::Arc};

use clap::{Args, Subcommand};
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use thiserror::Error;
use tokio::{runtime::Handle, sync::oneshot};

use super::{Exit, admin_client, complain, load, print_line};
use crate::{
    authority::{
        Authority, AuthorityMeans, AuthorityObserver,
        accounts::{NoEnds, SessionEnds},
    },
    clock::{Clock, SystemClock},
    config::{Config, Materials, Problem},
    jose::PublishedKeys,
    notify::NotifyObserver,
    runtime::{AuthorityTeller, DiskMaterials},
    secret::Secret,
    server::{AdminAnswer, LockError, StateLock},
    state::{State, StateMeans, StateObserver},
    telemetry::{
        Metrics,
        audit::{AuditFault, AuditFiles, AuditLog},
        metrics::MetricsFault,
    },
};

/// Invites somebody to enrol a first factor
#[derive(Debug, Args)]
pub(crate) struct InviteArgs {
    #[command(flatten)]
    person: Person,
    /// How long it is good for: 12h, 3d. Without it, `authority.invitation_ttl`
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
}

/// Who is meant, and who asks.
#[derive(Debug, Args)]
pub(crate) struct Person {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
    /// Who vouches for the person: a name under `issuers` or `credentials`
    #[arg(short, long, value_name = "NAME")]
    issuer: String,
    /// The person, as the issuer names them: `sub`
    #[arg(short, long, value_name = "SUB")]
    subject: String,
    /// Who asks, for the audit log
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// Works with people's factors.
#[derive(Debug, Subcommand)]
pub(crate) enum FactorsCommand {
    /// Prints people with factors, or somebody's factors, one JSON object a line
    List {
        /// The configuration
        #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
        config: PathBuf,
        /// Who vouches for the person
        #[arg(short, long, value_name = "NAME", requires = "subject")]
        issuer: Option<String>,
        /// The person
        #[arg(short, long, value_name = "SUB", requires = "issuer")]
        subject: Option<String>,
    },
    /// Takes all factors of somebody's away: they need an invitation then
    ///
    /// With `authority.four_eyes` it waits for another operator.
    Reset(Person),
    /// Approves a reset that another operator asked for
    Approve {
        /// The configuration
        #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
        config: PathBuf,
        /// The reset's number, as it was printed
        id: String,
        /// Who approves it
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// Lifts the locks that wrong codes led to
    Unlock(Person),
}

/// Seals what the authority keeps with its current key
///
/// The new key is `sealing.key` and the one before stands under `previous`; a gateway that runs has been reloaded.
#[derive(Debug, Args)]
pub(crate) struct RekeyArgs {
    /// The configuration
    #[arg(value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
}

#[derive(Debug, Error)]
enum Fault {
    #[error("the configuration is refused")]
    Config,
    #[error("{0} has no `authority`")]
    NoAuthority(PathBuf),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Audit(#[from] AuditFault),
    #[error(transparent)]
    Metrics(#[from] MetricsFault),
    #[error("starting a runtime")]
    Runtime(#[source] std::io::Error),
    #[error("reading {0}")]
    Import(PathBuf, #[source] std::io::Error),
    #[error("a gateway runs with this state_dir, and its admin API is off: set `admin.token`, or stop it")]
    ApiOff,
    #[error(transparent)]
    Client(#[from] admin_client::ClientFault),
    #[error("{status}: {detail}")]
    Refused { status: StatusCode, detail: String },
    #[error("{0} rows cannot be opened by any key of the configuration: put the key that sealed them under `previous`")]
    Unreadable(u64),
    #[error("rows are still sealed with older keys: does the gateway that runs have this configuration? Reload it")]
    Unfinished,
}

impl Fault {
    fn exit(&self) -> Exit {
        match self {
            Self::Config | Self::NoAuthority(_) => Exit::Config,
            Self::Refused { status, .. } if status.is_client_error() => Exit::Failure,
            Self::Unreadable(_) | Self::Unfinished => Exit::Failure,
            Self::Refused { .. } | Self::ApiOff | Self::Client(_) => Exit::Unavailable,
            Self::Lock(_) | Self::Import(..) | Self::Runtime(_) | Self::Audit(_) | Self::Metrics(_) => Exit::Io,
        }
    }
}

/// Invites somebody.
pub(crate) fn invite(args: &InviteArgs) -> Exit {
    let mut body = args.person.body();
    body.extend(args.ttl.as_deref().map(|ttl| ("ttl".to_owned(), ttl.into())));
    ask_and_print(&args.person.config, Method::POST, "/invitations", &Value::Object(body))
}

/// Runs a command on factors.
pub(crate) fn factors(command: &FactorsCommand) -> Exit {
    match command {
        FactorsCommand::List { config, issuer, subject } => {
            end(Authorities::open(config).and_then(|authority| match (issuer, subject) {
                (Some(issuer), Some(subject)) => print_factors(&authority, issuer, subject),
                _ => print_people(&authority),
            }))
        }
        FactorsCommand::Reset(person) => {
            ask_and_print(&person.config, Method::POST, "/resets", &Value::Object(person.body()))
        }
        FactorsCommand::Approve { config, id, by } => {
            let body = by.as_ref().map_or_else(|| json!({}), |by| json!({"by": by}));
            let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
            ask_and_print(config, Method::POST, &format!("/resets/{id}/approve"), &body)
        }
        FactorsCommand::Unlock(person) => {
            ask_and_print(&person.config, Method::POST, "/unlock", &Value::Object(person.body()))
        }
    }
}

/// Seals everything with the current key.
pub(crate) fn rekey(args: &RekeyArgs) -> Exit {
    /// Far more rows than a store has, at what one stretch does.
    const STRETCHES: u32 = 10_000;
    end(Authorities::open(&args.config).and_then(|authority| {
        for _ in 0..STRETCHES {
            let answer = authority.ask(Method::POST, "/rekey", &Value::Null)?;
            print_line(&answer.body.to_string());
            let number = |name: &str| answer.body.get(name).and_then(Value::as_u64).unwrap_or_default();
            if answer.body.get("complete") == Some(&Value::Bool(true)) {
                print_line("all rows are under the current key: `previous` can be taken out of the configuration");
                return Ok(());
            }
            if number("unreadable") > 0 {
                return Err(Fault::Unreadable(number("unreadable")));
            }
            if number("resealed") == 0 {
                return Err(Fault::Unfinished);
            }
        }
        Err(Fault::Unfinished)
    }))
}

impl Person {
    fn body(&self) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("issuer".into(), self.issuer.as_str().into());
        body.insert("subject".into(), self.subject.as_str().into());
        body.extend(self.by.as_deref().map(|by| ("by".to_owned(), by.into())));
        body
    }
}

fn ask_and_print(config: &std::path::Path, method: Method, target: &str, body: &Value) -> Exit {
    end(Authorities::open(config).and_then(|authority| {
        print_line(&authority.ask(method, target, body)?.body.to_string());
        Ok(())
    }))
}

fn end(result: Result<(), Fault>) -> Exit {
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

fn print_factors(authority: &Authorities, issuer: &str, subject: &str) -> Result<(), Fault> {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("issuer", issuer).append_pair("subject", subject);
    let answer = authority.ask(Method::GET, &format!("/subjects/factors?{}", query.finish()), &Value::Null)?;
    for factor in answer.body.get("factors").and_then(Value::as_array).into_iter().flatten() {
        print_line(&factor.to_string());
    }
    Ok(())
}

fn print_people(authority: &Authorities) -> Result<(), Fault> {
    let mut after: Option<String> = None;
    loop {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", "500").extend_pairs(after.iter().map(|after| ("after", after)));
        let answer = authority.ask(Method::GET, &format!("/subjects?{}", query.finish()), &Value::Null)?;
        for person in answer.body.get("subjects").and_then(Value::as_array).into_iter().flatten() {
            print_line(&person.to_string());
        }
        match answer.body.get("next").and_then(Value::as_str) {
            Some(next) => after = Some(next.to_owned()),
            None => return Ok(()),
        }
    }
}

/// The authority of a configuration, wherever it is in force.
struct Authorities {
    config: Config,
    place: Place,
}

enum Place {
    /// No gateway runs: the store is ours while we hold the lock.
    Store { authority: Arc<Authority>, background: Background, _lock: StateLock },
    /// A gateway runs.
    Gateway(Secret),
}

/// A runtime on a thread of its own, as the gateway's service runtime is; it ends when this is dropped.
struct Background {
    handle: Handle,
    _alive: oneshot::Sender<()>,
}

impl Background {
    fn start() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (alive, ended) = oneshot::channel::<()>();
        // It ends by an error, as nothing is ever sent.
        let run = move || drop(runtime.block_on(ended));
        std::thread::Builder::new().name("service".into()).spawn(run)?;
        Ok(Self { handle, _alive: alive })
    }
}

impl Authorities {
    fn open(file: &std::path::Path) -> Result<Self, Fault> {
        let loaded = load::load(file, &DiskMaterials).map_err(|fault| {
            load::print_fault(&fault);
            Fault::Config
        })?;
        let config = loaded.config.clone();
        if config.authority.is_none() {
            return Err(Fault::NoAuthority(file.to_owned()));
        }
        let refused = |problems: Vec<Problem>| {
            load::print_problems(&loaded.report(problems));
            Fault::Config
        };
        let place = match StateLock::acquire(&config.server.state_dir) {
            Ok(lock) => {
                let background = Background::start().map_err(Fault::Runtime)?;
                let clock: Arc<dyn Clock> = Arc::new(SystemClock);
                let teller = Arc::new(teller(&config, &clock)?);
                let opening = StateMeans {
                    handle: &background.handle,
                    clock: &clock,
                    state_dir: &config.server.state_dir,
                    roots: &Arc::new(crate::client::native_roots()),
                    observer: &(teller.clone() as Arc<dyn StateObserver>),
                    deliveries: &(teller.clone() as Arc<dyn NotifyObserver>),
                };
                let state = State::open(&config, &DiskMaterials, &opening, None).map_err(refused)?;
                let state = state.ok_or_else(|| Fault::NoAuthority(file.to_owned()))?;
                let means = AuthorityMeans {
                    handle: &background.handle,
                    clock: &clock,
                    state: &state,
                    observer: &(teller as Arc<dyn AuthorityObserver>),
                    // No gateway runs that could be asked with an access token.
                    ends: &(Arc::new(NoEnds) as Arc<dyn SessionEnds>),
                    published: &PublishedKeys::default(),
                };
                let authority = Authority::compile(&config, &DiskMaterials, &means, None).map_err(refused)?;
                let authority = authority.map(Arc::new).ok_or_else(|| Fault::NoAuthority(file.to_owned()))?;
                Place::Store { authority, background, _lock: lock }
            }
            Err(LockError::Held { .. }) => {
                let token = config.admin.token.as_ref().ok_or(Fault::ApiOff)?;
                Place::Gateway(DiskMaterials.secret(token).map_err(|problem| refused(vec![problem]))?)
            }
            Err(fault @ LockError::Io { .. }) => return Err(fault.into()),
        };
        Ok(Self { config, place })
    }

    fn ask(&self, method: Method, target: &str, body: &Value) -> Result<AdminAnswer, Fault> {
        let answer = self.look(method, target, body)?;
        if answer.status.is_success() { Ok(answer) } else { Err(refusal(answer.status, &answer.body)) }
    }

    /// The same, where a refusal has more to say than why.
    fn look(&self, method: Method, target: &str, body: &Value) -> Result<AdminAnswer, Fault> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        Ok(match &self.place {
            Place::Gateway(token) => admin_client::call(self.config.admin.address, token, method, target, body)?,
            Place::Store { authority, background, .. } => {
                let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
                let operators = api::Operators {
                    authority: Some(authority),
                    config: &self.config,
                    handle: &background.handle,
                    now: SystemClock.now(),
                };
                let answer = operators.call((&method, path, query), body.as_bytes());
                answer.ok_or_else(|| refusal(StatusCode::NOT_FOUND, &Value::Null))?
            }
        })
    }
}

/// Records in the audit log of the gateway that does not run what is done in its place.
fn teller(config: &Config, clock: &Arc<dyn Clock>) -> Result<AuthorityTeller, Fault> {
    let metrics = Metrics::new()?;
    let files = AuditFiles {
        file: config.audit.file.path.clone(),
        key: config.server.state_dir.join("audit.key"),
        head_interval: config.audit.head_interval,
    };
    let audit = AuditLog::open(&files, clock.clone(), metrics.audit())?;
    Ok(AuthorityTeller::new(metrics.authority(), Arc::new(audit)))
}

fn refusal(status: StatusCode, body: &Value) -> Fault {
    let detail = match (status, body.get("detail").and_then(Value::as_str)) {
        (_, Some(detail)) => detail,
        (StatusCode::UNAUTHORIZED, None) => "the gateway that runs has another admin token",
        (StatusCode::NOT_FOUND, None) => "the gateway that runs has no such call: its admin API is off, or it is older",
        (_, None) => "the gateway says no more",
    };
    Fault::Refused { status, detail: detail.to_owned() }
}
