//! `stepgate revoke` and `stepgate revocations`: they ask the gateway that runs, or, where none does, change its list under
//! the lock that a gateway would hold.

pub(super) mod api;

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::{
    Exit,
    place::{self, Fault, Place, end},
    print_line,
};
use crate::{
    clock::{Clock, Now, SystemClock},
    config::{Config, Loaded},
    identity::revocation::Revocations,
    server::AdminAnswer,
};

/// Revokes credentials
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("target").required(true).args(["jti", "subject", "session", "key", "all"])))]
pub(crate) struct RevokeArgs {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
    /// Who vouches for the credentials: a name under `issuers` or `credentials`, or * for any
    #[arg(short, long, value_name = "NAME")]
    issuer: String,
    /// One credential: a token's jti, an API key's id, a certificate's serial number
    #[arg(long)]
    jti: Option<String>,
    /// Everything of a subject
    #[arg(long)]
    subject: Option<String>,
    /// Everything of a session at the provider (sid)
    #[arg(long, value_name = "SID")]
    session: Option<String>,
    /// Everything that a key vouches for, by its kid; or an API key by its id
    #[arg(long, value_name = "KID")]
    key: Option<String>,
    /// Everything of the source
    #[arg(long)]
    all: bool,
    /// Only what was issued before: now, a moment (2026-11-22T12:00:00Z), or seconds since 1970. Without it, whenever
    /// it was or will be issued
    #[arg(long, value_name = "WHEN")]
    issued_before: Option<String>,
    /// When it ends: a moment, or seconds since 1970. Without it, never
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// Why, for the list
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Who says so, for the list
    #[arg(long, value_name = "TEXT")]
    by: Option<String>,
}

/// Works with the list of revocations.
#[derive(Debug, Subcommand)]
pub(crate) enum RevocationsCommand {
    /// Prints the list, one JSON object a line
    List {
        /// The configuration
        #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
        config: PathBuf,
        /// Only what concerns this source
        #[arg(short, long, value_name = "NAME")]
        issuer: Option<String>,
        /// Only this kind: jti, subject, session, key or all
        #[arg(long)]
        kind: Option<String>,
        /// Only what has this name
        #[arg(long)]
        value: Option<String>,
    },
    /// Takes a revocation back
    Remove {
        /// The configuration
        #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
        config: PathBuf,
        /// Its number, as the list shows it
        id: u64,
    },
}

/// Revokes credentials.
pub(crate) fn revoke(args: &RevokeArgs) -> Exit {
    end(List::open(&args.config).and_then(|list| {
        let answer = list.ask(Method::POST, "/revocations", &body(args))?;
        if answer.status == StatusCode::OK {
            print_line("revoked already:");
        }
        print_line(&answer.body.to_string());
        Ok(())
    }))
}

/// Runs a command on the list.
pub(crate) fn revocations(command: &RevocationsCommand) -> Exit {
    end(match command {
        RevocationsCommand::List { config, issuer, kind, value } => {
            List::open(config).and_then(|list| print_all(&list, [("issuer", issuer), ("kind", kind), ("value", value)]))
        }
        RevocationsCommand::Remove { config, id } => List::open(config).and_then(|list| {
            let answer = list.ask(Method::DELETE, &format!("/revocations/{id}"), &Value::Null)?;
            print_line(&answer.body.to_string());
            Ok(())
        }),
    })
}

fn print_all(list: &List, filter: [(&str, &Option<String>); 3]) -> Result<(), Fault> {
    let mut after = 0;
    loop {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(filter.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))));
        query.append_pair("after", &after.to_string()).append_pair("limit", "1000");
        let answer = list.ask(Method::GET, &format!("/revocations?{}", query.finish()), &Value::Null)?;
        for entry in answer.body.get("revocations").and_then(Value::as_array).into_iter().flatten() {
            print_line(&entry.to_string());
        }
        match answer.body.get("next").and_then(Value::as_u64) {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

fn body(args: &RevokeArgs) -> Value {
    let mut body = Map::new();
    body.insert("issuer".into(), args.issuer.as_str().into());
    let texts = [
        ("jti", &args.jti),
        ("subject", &args.subject),
        ("session", &args.session),
        ("key", &args.key),
        ("reason", &args.reason),
        ("by", &args.by),
    ];
    for (name, text) in texts {
        body.extend(text.as_deref().map(|text| (name.to_owned(), text.into())));
    }
    if args.all {
        body.insert("all".into(), true.into());
    }
    for (name, text) in [("issued_before", &args.issued_before), ("expires", &args.expires)] {
        let moment = |text: &str| text.parse::<u64>().map_or_else(|_| json!(text), |seconds| json!(seconds));
        body.extend(text.as_deref().map(|text| (name.to_owned(), moment(text))));
    }
    Value::Object(body)
}

/// The list, under the lock.
struct Kept(Box<Revocations>);

/// The list, wherever it is in force.
type List = Place<Kept>;

impl place::Kept for Kept {
    fn missing(_: &Config) -> Option<&'static str> {
        None
    }

    fn open(loaded: &Loaded) -> Result<Self, Fault> {
        Ok(Self(Box::new(Revocations::open(&loaded.config.server.state_dir, SystemClock.now())?)))
    }

    fn call(&self, config: &Config, now: Now, call: (&Method, &str, Option<&str>), body: &[u8]) -> Option<AdminAnswer> {
        api::call(&self.0, config, now, call, body)
    }
}
