//! How many blocks of memory a request takes from the allocator, and how many bytes: counts, which a busy machine does not change.
//! A request that comes to take more fails this test; so does one that comes to take less, so that what was won stays won.
#![cfg(target_os = "linux")] // The figures are Linux's: elsewhere sockets are read and written in other steps.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    unreachable_pub,
    reason = "a test states what it expects in the plainest way, and takes of the harness what it needs"
)]

mod case;
mod client;
mod gateway;
mod upstream;

/// What this shares with the suites of the whole gateway.
#[path = "../gateway/harness"]
mod harness {
    mod answer;
    mod secrets;
    mod tls;
    mod tokens;
    mod wire;

    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    pub use answer::Answer;
    pub use tls::Authority;
    pub use tokens::{AUDIENCE, ISSUER, Signer};
    pub use wire::Wire;

    /// How long anything that is expected to happen may take on a busy machine.
    pub const PATIENCE: Duration = Duration::from_secs(20);

    /// Seconds since the Unix epoch.
    pub fn unix_now() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
    }
}

use alloc_tracker::Allocator;
use case::{Case, Quota};

#[global_allocator]
static ALLOCATOR: Allocator<std::alloc::System> = Allocator::system();

const TLS: Case = Case { tls: true, ..Case::PLAIN };
const VERIFIED: Case = Case { token: true, ..TLS };
const SECURED: Case = Case { quota: Quota::Enough, access_log: true, ..VERIFIED };

/// What a browser sends besides.
const BROWSER: &[(&str, &str)] = &[
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("connection", "keep-alive"),
    ("cookie", "session=0123456789abcdef0123456789abcdef; theme=dark"),
    ("upgrade-insecure-requests", "1"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "none"),
    ("sec-fetch-user", "?1"),
    ("priority", "u=0, i"),
];

#[test]
fn a_plain_request_takes_what_is_written() {
    Case::PLAIN.takes(9.0, 21_615);
}

#[test]
fn a_browsers_request_takes_what_is_written() {
    Case { fields: BROWSER, ..Case::PLAIN }.takes(14.0, 21_679);
}

#[test]
fn a_request_over_tls_takes_what_is_written() {
    TLS.takes(12.0, 22_002);
}

#[test]
fn a_request_with_a_token_seen_before_takes_what_is_written() {
    VERIFIED.takes(12.0, 22_678);
}

#[test]
fn a_request_with_a_quota_and_an_access_log_takes_what_is_written() {
    SECURED.takes(14.0, 22_789);
}

#[test]
fn a_request_over_its_quota_takes_what_is_written() {
    Case { quota: Quota::Exceeded, ..SECURED }.takes(20.0, 24_729);
}

#[test]
fn a_request_over_http2_takes_what_is_written() {
    Case { http2: true, ..TLS }.takes(13.0, 7_622);
}

#[test]
fn a_request_over_http2_with_all_of_that_takes_what_is_written() {
    Case { http2: true, ..SECURED }.takes(19.4, 10_364);
}
