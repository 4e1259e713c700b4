//! `stepgate keys`: making, listing and revoking API keys. A running gateway takes up what changes within seconds.

use std::{
    io::{self, Read, Write},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Exit, complain, load, print_line, printable};
use crate::{
    config::{ApiKeys, Config, CredentialKind},
    identity::apikey::{
        EditFault, Form, KeyFile, LONGEST_KEY, LastUses, NoRandomness, Record, Text, digest, form, last_use_file, make,
        make_id, read_last_uses, written,
    },
    runtime::DiskMaterials,
};

/// An imported key that is shorter may be guessed from its hash.
const SHORT_KEY: usize = 22;
/// An imported key that is shorter may be guessed at the gateway.
const SHORTEST_KEY: usize = 12;

/// Work on API keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Makes a key and prints it, this once; only its hash is kept
    Add(AddArgs),
    /// Lists keys: whose they are, what they may do, when they were last used
    List(ListArgs),
    /// Revokes a key by its id
    Revoke(RevokeArgs),
}

/// Which keys.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
    /// Prints JSON, an object a line
    #[arg(long)]
    json: bool,
    /// The source of keys: a name under `credentials`
    source: String,
}

/// A key to add.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    place: Place,
    /// Whose it is: the subject of its requests
    #[arg(long)]
    owner: String,
    /// A scope that it has; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// When it ends: `90d`, `12h`, or a time such as `2027-01-31T00:00:00Z`
    #[arg(long, value_name = "WHEN", value_parser = expiry)]
    expires: Option<Timestamp>,
    /// A network, or an address, that it may be used from; may be repeated
    #[arg(long = "network", value_name = "NETWORK")]
    networks: Vec<String>,
    /// A limit of its own, a name under `limits`; may be repeated
    #[arg(long = "limit", value_name = "LIMIT")]
    limits: Vec<String>,
    /// What it is for
    #[arg(long)]
    note: Option<String>,
    /// Takes a key that exists already from standard input, in whatever form it has
    #[arg(long)]
    import: bool,
}

/// Keys to list.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    place: Place,
}

/// A key to revoke.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    place: Place,
    /// Its id, as `keys list` shows it
    // It may begin with a hyphen.
    #[arg(allow_hyphen_values = true)]
    id: String,
}

#[derive(Debug, thiserror::Error)]
enum KeysFault {
    /// What is wrong has been printed.
    #[error("the configuration is refused")]
    Config,
    #[error("no source of API keys is named `{0}` under `credentials`{1}")]
    Source(String, String),
    #[error(transparent)]
    Random(#[from] NoRandomness),
    #[error(transparent)]
    Edit(#[from] EditFault),
    #[error("{0}")]
    Import(&'static str),
    #[error("reading the key from standard input")]
    Input(#[source] io::Error),
    #[error("no key of `{0}` has the id `{1}`")]
    Unknown(String, String),
}

impl KeysFault {
    fn exit(&self) -> Exit {
        match self {
            Self::Config => Exit::Config,
            Self::Source(..) | Self::Import(_) | Self::Edit(EditFault::Record(_)) => Exit::Usage,
            Self::Unknown(..) | Self::Edit(EditFault::Known) => Exit::Failure,
            Self::Edit(EditFault::File(..)) => Exit::Config,
            Self::Random(_) | Self::Input(_) | Self::Edit(EditFault::Io(..)) => Exit::Io,
        }
    }
}

/// Runs a command on keys.
pub(crate) fn keys(command: &KeysCommand) -> Exit {
    let done = match command {
        KeysCommand::Add(args) => add(args),
        KeysCommand::List(args) => list(args),
        KeysCommand::Revoke(args) => revoke(args),
    };
    match done {
        Ok(()) => Exit::Success,
        Err(fault) => {
            if !matches!(fault, KeysFault::Config) {
                complain(&fault);
            }
            fault.exit()
        }
    }
}

/// A source of keys, found in a configuration.
struct Found {
    config: Config,
    keys: ApiKeys,
    file: KeyFile,
}

impl Place {
    fn find(&self) -> Result<Found, KeysFault> {
        let loaded = load::load(&self.config, &DiskMaterials).map_err(|fault| {
            load::print_fault(&fault);
            KeysFault::Config
        })?;
        let config = loaded.config.clone();
        let pick = |kind: &CredentialKind| kind.api_keys().cloned();
        let keys =
            load::source(&config, &self.source, pick).map_err(|known| KeysFault::Source(self.source.clone(), known))?;
        let limits = config.limits.iter().map(|limit| limit.name.clone()).collect();
        let file = KeyFile::new(&keys.file.path, limits);
        Ok(Found { config, keys, file })
    }
}

fn add(args: &AddArgs) -> Result<(), KeysFault> {
    let found = args.place.find()?;
    let (key, imported) = match args.import {
        true => import(&found.keys.prefix)?,
        false => (make(&found.keys.prefix)?, false),
    };
    let texts = |list: &[String]| list.iter().cloned().map(Into::into).collect();
    let record = Record {
        id: make_id()?.into(),
        hash: written(&digest(key.as_bytes())).into(),
        owner: args.owner.as_str().into(),
        scopes: texts(&args.scopes),
        expires: args.expires.map(|expires| in_seconds(expires).into()),
        networks: texts(&args.networks),
        limits: texts(&args.limits),
        created: in_seconds(Timestamp::now()).into(),
        revoked: None,
        note: args.note.clone().map(Into::into),
        imported,
    };
    // Nothing is shown before it is there to stay.
    found.file.lock()?.append(&record)?;
    if args.place.json {
        let mut told = shown(&record, Timestamp::now(), None);
        if let (false, Value::Object(members)) = (args.import, &mut told) {
            members.insert("key".into(), key.into());
        }
        print_line(&told.to_string());
        return Ok(());
    }
    if !args.import {
        print_line(&key);
    }
    let once = if args.import { "the key was imported" } else { "the key above is not shown again" };
    say(&format!("{once}; its id is {}", record.id));
    Ok(())
}

/// Reads a key that was made elsewhere; says whether its form is none of ours.
fn import(prefix: &str) -> Result<(String, bool), KeysFault> {
    let mut text = String::new();
    io::stdin().take(2 * LONGEST_KEY as u64).read_to_string(&mut text).map_err(KeysFault::Input)?;
    let key = text.trim_end_matches(['\r', '\n']);
    if key.len() > LONGEST_KEY || key.len() < SHORTEST_KEY {
        return Err(KeysFault::Import("a key must have 12 to 512 characters: what is shorter can be guessed"));
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(KeysFault::Import("a key must be visible ASCII without blanks, to stand in a header"));
    }
    match form(prefix, key.as_bytes()) {
        Form::Ours => return Ok((key.to_owned(), false)),
        Form::Broken => return Err(KeysFault::Import("this key begins as ours do, and its checksum is wrong")),
        Form::Foreign => {}
    }
    let mut kinds = [false; 256];
    key.bytes().for_each(|byte| kinds.iter_mut().skip(usize::from(byte)).take(1).for_each(|kind| *kind = true));
    if key.len() < SHORT_KEY || kinds.iter().filter(|kind| **kind).count() < 8 {
        say(
            "warning: this key is short or regular: whoever reads the file could guess it from its hash. Replace it soon",
        );
    }
    Ok((key.to_owned(), true))
}

fn list(args: &ListArgs) -> Result<(), KeysFault> {
    let found = args.place.find()?;
    let now = Timestamp::now();
    let path = last_use_file(&found.config.server.state_dir, &args.place.source);
    let last_uses = read_last_uses(&path).unwrap_or_else(|error| {
        say(&format!("warning: when keys were last used is not known: reading {}: {error}", path.display()));
        LastUses::new()
    });
    let mut out = io::stdout().lock();
    let mut lines = 0_usize;
    found.file.each(|record| {
        let told = shown(record, now, last_uses.get(&*record.id).copied());
        // A reader that has gone away is not an error.
        let line = if args.place.json { told.to_string() } else { row(&told) };
        let _ = writeln!(out, "{}", printable(&line));
        lines += 1;
    })?;
    if lines == 0 && !args.place.json {
        say(&format!("`{}` has no keys yet", args.place.source));
    }
    Ok(())
}

fn revoke(args: &RevokeArgs) -> Result<(), KeysFault> {
    let found = args.place.find()?;
    let record = found.file.lock()?.revoke(&args.id, &in_seconds(Timestamp::now()))?;
    let record = record.ok_or_else(|| KeysFault::Unknown(args.place.source.clone(), args.id.clone()))?;
    let told = shown(&record, Timestamp::now(), None);
    match args.place.json {
        true => print_line(&told.to_string()),
        false => print_line(&row(&told)),
    }
    Ok(())
}

/// What is shown of a key: never its hash.
fn shown(record: &Record<'_>, now: Timestamp, last_used: Option<u32>) -> Value {
    let text = |text: &Option<Text<'_>>| text.as_ref().map(|text| text.0.clone().into_owned());
    let list = |list: &[Text<'_>]| list.iter().map(|text| text.0.clone().into_owned()).collect::<Vec<_>>();
    let ended = |time: &Option<Text<'_>>| {
        time.as_ref().and_then(|time| time.0.parse::<Timestamp>().ok()).is_some_and(|time| time <= now)
    };
    let state = match (record.revoked.is_some(), ended(&record.expires)) {
        (true, _) => "revoked",
        (false, true) => "expired",
        (false, false) => "active",
    };
    let last_used = last_used.and_then(|seconds| Timestamp::from_second(i64::from(seconds)).ok()).map(in_seconds);
    json!({
        "id": record.id, "state": state, "owner": record.owner, "scopes": list(&record.scopes),
        "expires": text(&record.expires), "networks": list(&record.networks), "limits": list(&record.limits),
        "created": record.created, "revoked": text(&record.revoked), "last_used": last_used, "note": text(&record.note),
        "imported": record.imported,
    })
}

/// A line for a person: what is always there in columns, the rest by name.
fn row(told: &Value) -> String {
    let text = |name: &str| told.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let last_used = Some(text("last_used")).filter(|time| !time.is_empty()).unwrap_or_else(|| "never used".to_owned());
    let mut row = format!("{:<12}  {:<7}  {:<20}  {last_used:<20}", text("id"), text("state"), text("owner"));
    for name in ["scopes", "networks", "limits"] {
        let items = told.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let items = items.collect::<Vec<_>>().join(",");
        if !items.is_empty() {
            row.push_str(&format!("  {name}={items}"));
        }
    }
    for name in ["created", "expires", "revoked", "note"] {
        let value = text(name);
        if !value.is_empty() {
            row.push_str(&format!("  {name}={value}"));
        }
    }
    row
}

fn in_seconds(time: Timestamp) -> String {
    // A time without a fraction is written without one.
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

fn expiry(text: &str) -> Result<Timestamp, String> {
    let wrong =
        || "write a time from now on, such as `90d` or `12h`, or a moment such as `2027-01-31T00:00:00Z`".to_owned();
    let hours = |digits: &str, each: i64| digits.parse::<i64>().ok().and_then(|count| count.checked_mul(each));
    let span = match (text.strip_suffix('d'), text.strip_suffix('h')) {
        (Some(days), _) => Some(hours(days, 24).ok_or_else(wrong)?),
        (None, Some(count)) => Some(hours(count, 1).ok_or_else(wrong)?),
        (None, None) => None,
    };
    let time = match span {
        Some(hours) => {
            let seconds = hours.checked_mul(3600).filter(|seconds| *seconds > 0).ok_or_else(wrong)?;
            Timestamp::now().checked_add(SignedDuration::from_secs(seconds)).map_err(|_| wrong())?
        }
        None => text.parse().map_err(|_| wrong())?,
    };
    if time <= Timestamp::now() { Err("this time is over".to_owned()) } else { Ok(time) }
}

/// Says something beside the output.
fn say(text: &str) {
    let mut out = io::stderr();
    // Nobody is left to tell if standard error is gone.
    let _ = writeln!(out, "stepgate: {text}");
}
