//! `stepgate erasures …`: what operators do with account deletions. They ask the gateway that runs, or, where none does, work on its
//! store under the lock that a gateway would hold; then nothing is carried out, only noted for the next one.

pub(super) mod api;
mod kept;
pub(super) mod pages;
mod shown;
mod told;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use self::kept::Kept;
use super::{
    Exit,
    place::{Fault, Place, end},
    print_line,
};

/// What every command has.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
    /// Prints JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Who does it, for the record.
#[derive(Debug, Args)]
pub(crate) struct By {
    /// Who does it, for the audit log
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// Some deletions, and who does what to them.
#[derive(Debug, Args)]
pub(crate) struct Chosen {
    /// Their numbers, as `list` shows them
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    common: Common,
}

/// A person, and who does what to them.
#[derive(Debug, Args)]
pub(crate) struct Person {
    /// Who vouches for the person: a name under `issuers` or `credentials`
    #[arg(short, long, value_name = "NAME")]
    issuer: String,
    /// The person, as the plan's `subject` names them
    #[arg(short, long, value_name = "SUB")]
    subject: String,
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    common: Common,
}

/// Works with account deletions.
#[derive(Debug, Subcommand)]
pub(crate) enum ErasuresCommand {
    /// Lists deletions: those that are open, then the others
    List(ListArgs),
    /// Shows all that is known of one: its steps, its probes, what happened to it
    Show {
        /// Its number
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// Holds deletions for legal reasons: nothing of them goes on until they are released
    Hold {
        /// Why, in your words; it is kept until the deletion is over
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        chosen: Chosen,
    },
    /// Takes a hold away: the legal one, or another
    Release {
        /// Which: legal, breaker or dispute. For `approval` there is `approve`
        #[arg(long, value_name = "KIND", default_value = "legal")]
        hold: String,
        #[command(flatten)]
        chosen: Chosen,
    },
    /// Approves deletions that wait for a second person
    Approve(Chosen),
    /// Has what is parked done again, or accepts it as it is
    Retry(RetryArgs),
    /// Cancels deletions of which no step was sent
    Cancel(Chosen),
    /// Lets a person's data be deleted again, after somebody said that it was not them who asked
    Unfreeze(Person),
    /// Lets tokens pass again that were issued to a person before they were erased
    Readmit(Person),
    /// Shows the breaker of mass deletions, or resets it
    Breaker {
        /// Resets it: deletions that are asked for from now on are not held by it
        #[arg(long)]
        reset: bool,
        #[command(flatten)]
        by: By,
        #[command(flatten)]
        common: Common,
    },
    /// Prints the signed certificate of a deletion, for an audit
    Report {
        /// Its number
        id: String,
        /// The configuration
        #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
        config: PathBuf,
    },
}

/// Which deletions to list.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only those in this state: held, carrying_out, verifying, scrubbing, erased or cancelled
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only those under this plan
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,
    /// Only those of this issuer's people; with `--subject`, of this person
    #[arg(short, long, value_name = "NAME", requires = "subject")]
    issuer: Option<String>,
    /// Only those of this person
    #[arg(short, long, value_name = "SUB", requires = "issuer")]
    subject: Option<String>,
    /// Only those with this hold: approval, legal, breaker or dispute
    #[arg(long, value_name = "KIND")]
    hold: Option<String>,
    /// Only those of which something waits for a person
    #[arg(long)]
    parked: bool,
    #[command(flatten)]
    common: Common,
}

/// What to do again.
#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    /// The deletion's number
    id: String,
    /// The step or probe; everything that is parked if it is left out
    #[arg(value_name = "NAME")]
    item: Option<String>,
    /// Takes it as done instead: a step that was done by hand, a probe that cannot count. Not a probe that still sees the data
    #[arg(long, requires = "item")]
    accept: bool,
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    common: Common,
}

/// Deletions, wherever they are worked on.
type Erasures = Place<Kept>;

/// Runs a command on deletions.
pub(crate) fn erasures(command: &ErasuresCommand) -> Exit {
    end(match command {
        ErasuresCommand::List(args) => list(args),
        ErasuresCommand::Show { id, common } => show(id, common),
        ErasuresCommand::Hold { reason, chosen } => each(chosen, "hold", json!({"reason": reason})),
        ErasuresCommand::Release { hold, chosen } => each(chosen, "release", json!({"hold": hold})),
        ErasuresCommand::Approve(chosen) => each(chosen, "approve", json!({})),
        ErasuresCommand::Cancel(chosen) => each(chosen, "cancel", json!({})),
        ErasuresCommand::Retry(args) => retry(args),
        ErasuresCommand::Unfreeze(person) => of_person(person, "/erasures/unfreeze", "unfrozen"),
        ErasuresCommand::Readmit(person) => of_person(person, "/erasures/readmit", "readmitted"),
        ErasuresCommand::Breaker { reset, by, common } => breaker(*reset, by, common),
        ErasuresCommand::Report { id, config } => report(id, config),
    })
}

fn list(args: &ListArgs) -> Result<(), Fault> {
    let place = Erasures::open(&args.common.config)?;
    let parked = args.parked.then(|| "true".to_owned());
    let filter = [
        ("state", &args.state),
        ("plan", &args.plan),
        ("issuer", &args.issuer),
        ("subject", &args.subject),
        ("hold", &args.hold),
        ("parked", &parked),
    ];
    let (mut after, mut count) = (None::<String>, 0_usize);
    loop {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(filter.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))));
        query.extend_pairs(after.iter().map(|after| ("after", after))).append_pair("limit", "500");
        let answer = place.ask(Method::GET, &format!("/erasures?{}", query.finish()), &Value::Null)?;
        let page = answer.body.get("erasures").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if args.common.json {
            page.iter().for_each(|one| print_line(&one.to_string()));
        } else if !page.is_empty() {
            print_line(&shown::list(page, count == 0));
        }
        count += page.len();
        for id in
            answer.body.get("unreadable").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
        {
            count += 1;
            print_line(&if args.common.json {
                json!({"id": id, "state": "unreadable"}).to_string()
            } else {
                format!("{id} cannot be read: it waits until it can, and the gateway's log says why")
            });
        }
        match answer.body.get("next").and_then(Value::as_str) {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    if count == 0 && !args.common.json {
        print_line("none");
    }
    Ok(())
}

fn show(id: &str, common: &Common) -> Result<(), Fault> {
    let answer = Erasures::open(&common.config)?.ask(Method::GET, &one(id, ""), &Value::Null)?;
    print_line(&if common.json { answer.body.to_string() } else { shown::whole(&answer.body) });
    Ok(())
}

/// Does the same to each. The first that cannot be done ends it: those before are done.
fn each(chosen: &Chosen, verb: &str, body: Value) -> Result<(), Fault> {
    let place = Erasures::open(&chosen.common.config)?;
    let body = with_operator(body, &chosen.by);
    for id in &chosen.ids {
        let answer = place.ask(Method::POST, &one(id, verb), &body)?;
        print_line(&if chosen.common.json { answer.body.to_string() } else { shown::line(&answer.body) });
    }
    Ok(())
}

fn retry(args: &RetryArgs) -> Result<(), Fault> {
    let place = Erasures::open(&args.common.config)?;
    let body = with_operator(json!({"item": args.item, "accept": args.accept}), &args.by);
    let answer = place.ask(Method::POST, &one(&args.id, "retry"), &body)?;
    print_line(&if args.common.json { answer.body.to_string() } else { shown::line(&answer.body) });
    Ok(())
}

fn of_person(person: &Person, target: &str, done: &str) -> Result<(), Fault> {
    let place = Erasures::open(&person.common.config)?;
    let body = with_operator(json!({"issuer": person.issuer, "subject": person.subject}), &person.by);
    let answer = place.ask(Method::POST, target, &body)?;
    print_line(&if person.common.json { answer.body.to_string() } else { done.to_owned() });
    Ok(())
}

fn breaker(reset: bool, by: &By, common: &Common) -> Result<(), Fault> {
    let place = Erasures::open(&common.config)?;
    let answer = if reset {
        place.ask(Method::POST, "/erasures/breaker/reset", &with_operator(json!({}), by))?
    } else {
        place.ask(Method::GET, "/erasures/breaker", &Value::Null)?
    };
    print_line(&if common.json { answer.body.to_string() } else { shown::breaker(&answer.body) });
    Ok(())
}

fn report(id: &str, config: &Path) -> Result<(), Fault> {
    let answer = Erasures::open(config)?.ask(Method::GET, &one(id, "report"), &Value::Null)?;
    // As it was signed, byte for byte: a string is printed without quotes.
    match answer.body.get("certificate").and_then(Value::as_str) {
        Some(text) => print_line(text),
        None => return Err(Fault::No("the gateway that runs gave no certificate".to_owned())),
    }
    Ok(())
}

/// The path of one deletion, or of what is done to it.
fn one(id: &str, verb: &str) -> String {
    let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
    if verb.is_empty() { format!("/erasures/{id}") } else { format!("/erasures/{id}/{verb}") }
}

fn with_operator(body: Value, by: &By) -> Value {
    let mut members: Map<String, Value> = match body {
        Value::Object(members) => members,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    };
    members.extend(by.by.as_deref().map(|by| ("by".to_owned(), by.into())));
    Value::Object(members)
}
