//! Connections to the services behind: per-worker pools, balancing, passive health, and faults told apart.
//!
//! What is shared by all workers and survives a reload is in [`Upstreams`]: for every service its targets, their health,
//! TLS material and ready-made credential. What belongs to one worker is in [`Pools`]: idle connections and resolved
//! addresses, never locked and never sent to another thread.
//!
//! ```text
//! Pools::send ─ choose a target ─┬─ idle connection ────────┬─ exchange ─> Response<UpstreamBody>
//!                 (round robin,  └─ resolve ─ TCP ─ TLS ────┘     │            └ end of body: back to the pool
//!                  health)                                       └ lost unsent: again, on a fresh connection
//! ```
//!
//! This room never decides whether a request may pass, and never touches a header but those that frame the message
//! (RFC 9112 §6) and, where the configuration says so, `Host`.

mod ahead;
mod answer;
mod balance;
mod body;
mod call;
mod careful;
mod check;
mod choose;
mod connect;
mod connection;
mod discovery;
mod drive;
mod dues;
mod fault;
mod framing;
mod gate;
mod health;
mod introduction;
mod lease;
mod line;
mod names;
mod observer;
mod pool;
mod pools;
mod replay;
mod resolver;
mod retry_budget;
mod sending;
mod service;
mod shared;
mod small_writes;
mod switched;
mod target;
mod target_set;
mod tls;
mod upload;

#[cfg(test)]
mod tests;

pub use body::UpstreamBody;
pub use fault::{ConnectFault, FaultKind, InvalidAnswer, UpstreamFault};
pub use introduction::Introduced;
pub use observer::{Repetition, ServiceObserver, UpstreamObserver};
pub use pools::Pools;
pub use sending::Sending;
pub use service::{Service, Upstreams};
pub use switched::SwitchedService;
pub use target::Target;
pub use target_set::{Member, TargetSet};
pub use upload::Upload;
