//! Events for the operator, on standard error.

use std::io::{self, IsTerminal};

use thiserror::Error;
use tracing_subscriber::EnvFilter;

/// The variable that says which events are written: `info`, `stepgate=debug,rustls=warn`.
const FILTER: &str = "STEPGATE_LOG";

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventFormat {
    /// A line for people, in colour on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why events cannot be written.
#[derive(Debug, Error)]
pub enum EventsFault {
    /// The filter cannot be read.
    #[error("reading the filter in STEPGATE_LOG: {0}")]
    Filter(#[from] tracing_subscriber::filter::FromEnvError),
    /// Somebody else writes them already.
    #[error("events are written already")]
    Taken,
}

/// Starts writing events of `info` and above, or what `STEPGATE_LOG` asks for.
pub fn init_tracing(format: EventFormat) -> Result<(), EventsFault> {
    let filter =
        EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).with_env_var(FILTER).from_env()?;
    let events = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        EventFormat::Text => events.with_ansi(io::stderr().is_terminal()).try_init(),
        EventFormat::Json => events.json().flatten_event(true).try_init(),
    }
    .map_err(|_| EventsFault::Taken)
}
