//! The integration tests: the real binary, real sockets, real files. The suites speak to Stepgate as its users do (command
//! line, YAML, HTTP) and know nothing of its modules, but for `fuzz` and `floor_plan`, which are about the source.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "a test states what it expects in the plainest way, and nothing outside this binary sees it"
)]

mod harness;

mod abuse;
mod accounts;
mod acme;
mod apache;
mod apikeys;
mod assertion;
mod audit;
mod authority;
mod balancing;
mod basic;
mod bearer;
mod cli;
mod contract;
mod dangers;
mod deletion;
mod demo;
mod documents;
mod dpop;
mod drain;
mod edge;
mod erasure;
mod erasure_covered;
mod erasure_crash;
mod erasure_operators;
mod erasure_pages;
mod erasure_proof;
mod floor_plan;
mod footprint;
mod forwarding;
mod forwarding_h2;
mod fuzz;
mod grpc;
mod guide;
mod handover;
mod handover_faults;
mod hostile;
mod http3;
mod introspection;
mod limits;
mod metrics;
mod mtls;
mod operators;
mod overload;
mod pages;
mod presets;
mod reach;
mod real;
mod regression;
mod relays;
mod release;
mod reload;
mod revocation;
mod schema;
mod sessions;
mod shape;
mod shape_split;
mod soak;
mod sse;
mod step_up;
mod stepup;
mod systemd;
mod weather;
mod websocket;
