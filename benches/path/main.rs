//! What each thing costs that a request passes: `cargo bench --bench path`; with a word behind it, what has the word in its name.
//!
//! `cargo test --bench path` runs each once, unoptimised, to show that it still works.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench states what it expects in the plainest way"
)]

mod decisions;
mod heads;
mod limits;
mod records;
mod routes;
mod setup;
mod tokens;

use criterion::{criterion_group, criterion_main};

/// The allocator of the gateway itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

criterion_group!(
    path,
    routes::normalise,
    routes::find,
    decisions::judge,
    tokens::seen,
    tokens::unseen,
    heads::parse,
    heads::prepare,
    heads::clean,
    limits::check,
    records::metrics,
    records::access_log
);
criterion_main!(path);
