//! Stepgate: a reverse-proxy gateway that puts bearer tokens, step-up authentication and guarded deletions in front
//! of unmodified APIs. The request's path starts in [`gateway`]; docs/architecture.md has the plan of the house.

pub mod acme;
pub mod assertion;
pub mod authority;
pub mod body;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
mod cork;
pub mod endpoint;
pub mod erasure;
pub mod files;
pub mod gateway;
pub mod identity;
pub mod jose;
pub mod limit;
pub mod notify;
pub mod password;
pub mod policy;
pub mod route;
pub mod runtime;
pub mod secret;
pub mod server;
pub mod spread;
pub mod state;
pub mod store;
pub mod subscriber;
pub mod telemetry;
pub mod upstream;
