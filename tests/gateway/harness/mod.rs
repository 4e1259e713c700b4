//! What the suites share: processes that end with their test, clients that look at every byte, and tokens of every kind.
//! Nothing is shared between tests: each has its own folder, its own ports and its own gateway.

mod answer;
mod gateway;
pub mod grpc;
pub mod h2;
pub mod idp;
mod jwks;
mod mortal;
mod people;
mod ports;
mod process;
mod recorder;
mod relay;
mod request;
mod secrets;
mod tls;
mod tokens;
pub mod tools;
pub mod websocket;
mod wire;
mod world;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use answer::Answer;
pub use gateway::Gateway;
pub use jwks::{Jwks, Mood};
pub use mortal::Mortal;
pub use people::{People, app_code};
pub use ports::lease as lease_port;
pub use process::{Finished, Process, run, stepgate};
pub use recorder::Recorder;
pub use relay::{Relay, Weather};
pub use request::{Request, delete, get, post};
pub use secrets::remember as remember_secret;
pub use tls::Authority;
pub use tokens::{AUDIENCE, Signer, claims, encode};
pub use wire::Wire;
pub use world::World;

/// How long anything that is expected to happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Seconds since the Unix epoch.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Asks `probe` again and again until it has an answer; panics with `what` when it never does.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Lets time pass that a limit itself measures: the one way a test may wait without something to wait for.
pub fn let_pass(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}
