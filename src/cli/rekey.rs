//! `stepgate rekey`, and the same in the admin API: `POST /rekey` answers 200, and `complete` says whether all is done.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::{
    Exit,
    answers::{done, problem},
    opened::Opened,
    place::{self, Fault, Place, end},
    print_line,
};
use crate::{
    clock::Now,
    config::{Config, Loaded},
    server::AdminAnswer,
    state::State,
};

/// How long one stretch of sealing anew may take: less than whoever asks waits.
const STRETCH: Duration = Duration::from_secs(15);

/// Seals what is kept with the current key
///
/// The new key is `sealing.key` and the one before stands under `previous`; a gateway that runs has been reloaded.
#[derive(Debug, Args)]
pub(crate) struct RekeyArgs {
    /// The configuration
    #[arg(value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
}

/// Seals everything with the current key.
pub(crate) fn rekey(args: &RekeyArgs) -> Exit {
    /// Far more rows than a store has, at what one stretch does.
    const STRETCHES: u32 = 10_000;
    const UNFINISHED: &str =
        "rows are still sealed with older keys: does the gateway that runs have this configuration? Reload it";
    end(Place::<Kept>::open(&args.config).and_then(|place| {
        for _ in 0..STRETCHES {
            let answer = place.ask(Method::POST, "/rekey", &Value::Null)?;
            print_line(&answer.body.to_string());
            let number = |name: &str| answer.body.get(name).and_then(Value::as_u64).unwrap_or_default();
            if answer.body.get("complete") == Some(&Value::Bool(true)) {
                print_line("all rows are under the current key: `previous` can be taken out of the configuration");
                return Ok(());
            }
            if number("unreadable") > 0 {
                return Err(Fault::No(format!(
                    "{} rows cannot be opened by any key of the configuration: put the key that sealed them under `previous`",
                    number("unreadable")
                )));
            }
            if number("resealed") == 0 {
                return Err(Fault::No(UNFINISHED.to_owned()));
            }
        }
        Err(Fault::No(UNFINISHED.to_owned()))
    }))
}

/// What is kept, under the lock.
struct Kept(Opened);

impl place::Kept for Kept {
    fn missing(config: &Config) -> Option<&'static str> {
        (config.authority.is_none() && config.deletions.is_none()).then_some("authority` or `deletions")
    }

    fn open(loaded: &Loaded) -> Result<Self, Fault> {
        Opened::open(loaded).map(Self)
    }

    fn call(&self, _: &Config, now: Now, call: (&Method, &str, Option<&str>), _: &[u8]) -> Option<AdminAnswer> {
        self::call(Some(&self.0.state), (&self.0.background.handle, now), call)
    }
}

/// Answers a call; `None` when it is none of ours. It is one stretch of the work, which goes on where it was at the next call.
pub(super) fn call(
    state: Option<&Arc<State>>,
    (handle, now): (&Handle, Now),
    (method, path, _): (&Method, &str, Option<&str>),
) -> Option<AdminAnswer> {
    if (method.as_str(), path) != ("POST", "/rekey") {
        return None;
    }
    let missing = || problem(StatusCode::NOT_FOUND, "nothing is kept by this configuration");
    let Some(state) = state.cloned() else { return Some(missing()) };
    let rekeyed = match done(handle, async move { state.rekey(now, STRETCH).await }) {
        Ok(Ok(rekeyed)) => rekeyed,
        Ok(Err(fault)) => {
            tracing::error!(%fault, "the store was not sealed anew");
            return Some(problem(StatusCode::SERVICE_UNAVAILABLE, &format!("the store: {fault}")));
        }
        Err(silent) => return Some(silent),
    };
    let body = json!({
        "complete": rekeyed.complete,
        "seen": rekeyed.seen,
        "resealed": rekeyed.resealed,
        "unreadable": rekeyed.unreadable,
    });
    Some(AdminAnswer { status: StatusCode::OK, body })
}
