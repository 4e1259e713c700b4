//! A small client for what the gateway itself asks of others: keys of identity providers, answers about tokens, mail servers
//! and webhooks; what erases somebody's data. Each connection is new, believes the roots that it is given, follows nothing and keeps nothing. Whoever
//! calls bounds the time. Requests of clients do not go this way: see `upstream`.

mod connect;
mod credential;
mod fetch;

pub use connect::{Connector, Identity, MachineRoots, authorities, open, roots};
pub use credential::credential;
pub use fetch::{Answer, FetchFault, Fetcher, Form, Incoming, Outgoing, is_loopback_http, is_trustworthy};
