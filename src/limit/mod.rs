//! How much may be done: one state per process, shared by all workers. It is three things:
//!
//! - **quotas**, how much a key may do in a time: `key`, `quota`, `limiter`, `table`, measured by `gcra` or `window`, told by `headers`;
//! - **requests in flight**, how many there may be at once and who holds them: `in_flight`, counted by `tally`;
//! - **pressure**, whether what is ready waits too long for its turn on a worker: `pressure`.
//!
//! A rate per second is GCRA with a burst, by governor; a rate per longer period is a sliding log, so that no interval
//! of that length ever admits more than N. Several quotas on one request are all charged or none. Nothing here reads a
//! clock: the instant of the request is an argument. Keys are hashes under a secret of the process, never the values.

mod gcra;
mod headers;
mod in_flight;
mod key;
mod limiter;
mod open_files;
mod pressure;
mod quota;
mod table;
mod tally;
mod window;

pub use headers::RateHeaders;
pub use in_flight::{Full, Holder, Holders, InFlight, InFlightPlace, StreamPlace, StreamsOpen};
pub use key::{KeyFacts, QuotaKey, QuotaKeyBuilder};
pub use limiter::RateLimiter;
pub use open_files::{connections_within_open_files, raise_open_files, streams_within_open_files};
pub use pressure::Pressure;
pub use quota::{Combined, Outcome, Quota, Verdict, check_all};

/// What a meter says of one key's state at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    /// How long to wait until a request would be admitted, in nanoseconds; `None` if it is admitted now.
    wait_ns: Option<u64>,
    /// How many more requests would be admitted now.
    remaining: u32,
    /// How long until one more than `remaining` would be, in nanoseconds; 0 if nothing is used.
    reset_ns: u64,
}

/// A way to measure a rate. Times are nanoseconds since the quota's origin.
trait Meter {
    /// What is kept for each key; the default is a key that never did anything.
    type State: Clone + Default + Send;

    /// Says what would become of a request, and charges nothing.
    fn look(&self, state: &mut Self::State, now_ns: u64) -> Reading;

    /// Charges a request that `look` would admit at the same moment, and says what is left.
    fn charge(&self, state: &mut Self::State, now_ns: u64) -> Reading;

    /// When the state is indistinguishable from a fresh one.
    fn full_at_ns(&self, state: &Self::State) -> u64;
}
