//! `stepgate invite`, `stepgate factors`, `stepgate users import` and `stepgate users invite`: they ask the gateway that runs, or, where none does, work on its
//! store under the lock that a gateway would hold.

pub(super) mod accounts;
pub(super) mod api;

use std::{path::PathBuf, sync::Arc};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::{
    Exit,
    opened::Opened,
    place::{self, Fault, Place, ask_and_print, end},
    print_line,
};
use crate::{
    authority::{
        Authority, AuthorityMeans, AuthorityObserver,
        accounts::{NoEnds, SessionEnds},
    },
    clock::Now,
    config::{Config, Loaded},
    jose::PublishedKeys,
    runtime::DiskMaterials,
    server::AdminAnswer,
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
        // It may begin with a hyphen.
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// Who approves it
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// Lifts the locks that wrong codes led to
    Unlock(Person),
}

/// Invites somebody.
pub(crate) fn invite(args: &InviteArgs) -> Exit {
    let mut body = args.person.body();
    body.extend(args.ttl.as_deref().map(|ttl| ("ttl".to_owned(), ttl.into())));
    ask_and_print::<Kept>(&args.person.config, Method::POST, "/invitations", &Value::Object(body))
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
            ask_and_print::<Kept>(&person.config, Method::POST, "/resets", &Value::Object(person.body()))
        }
        FactorsCommand::Approve { config, id, by } => {
            let body = by.as_ref().map_or_else(|| json!({}), |by| json!({"by": by}));
            let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
            ask_and_print::<Kept>(config, Method::POST, &format!("/resets/{id}/approve"), &body)
        }
        FactorsCommand::Unlock(person) => {
            ask_and_print::<Kept>(&person.config, Method::POST, "/unlock", &Value::Object(person.body()))
        }
    }
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

/// The authority, under the lock.
struct Kept {
    authority: Arc<Authority>,
    opened: Opened,
}

/// The authority of a configuration, wherever it is in force.
type Authorities = Place<Kept>;

impl place::Kept for Kept {
    fn missing(config: &Config) -> Option<&'static str> {
        config.authority.is_none().then_some("authority")
    }

    fn open(loaded: &Loaded) -> Result<Self, Fault> {
        let opened = Opened::open(loaded)?;
        let means = AuthorityMeans {
            handle: &opened.background.handle,
            clock: &opened.clock,
            state: &opened.state,
            observer: &(opened.teller.clone() as Arc<dyn AuthorityObserver>),
            // No gateway runs that could be asked with an access token.
            ends: &(Arc::new(NoEnds) as Arc<dyn SessionEnds>),
            published: &PublishedKeys::default(),
        };
        let authority = Authority::compile(&loaded.config, &DiskMaterials, &means, None);
        let authority = authority.map_err(|problems| Fault::config(loaded, problems))?;
        Ok(Self { authority: Arc::new(authority.ok_or(Fault::Config)?), opened })
    }

    fn call(&self, config: &Config, now: Now, call: (&Method, &str, Option<&str>), body: &[u8]) -> Option<AdminAnswer> {
        let handle = &self.opened.background.handle;
        api::Operators { authority: Some(&self.authority), config, handle, now }.call(call, body)
    }
}
