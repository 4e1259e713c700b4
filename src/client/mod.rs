//! A small client for what the gateway itself asks of others: keys of identity providers, answers about tokens, mail servers
//! and webhooks. Each connection is new, believes the roots that it is given, follows nothing and keeps nothing. Whoever
//! calls bounds the time. Requests of clients do not go this way: see `upstream`.

mod connect;
mod fetch;

pub use connect::{Connector, Identity, authorities, native_roots, open, roots};
pub use fetch::{Answer, FetchFault, Fetcher, Form, is_loopback_http, is_trustworthy};
