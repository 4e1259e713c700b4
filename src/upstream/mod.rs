//! Connections to the services behind: where they are, which of them a request goes to, how it gets there and what becomes of it.
//!
//! What is shared by all workers and survives a reload is in [`Upstreams`]: for every service its targets, their health,
//! TLS material and ready-made credential, who waits for a place, what retries may cost. What belongs to one worker is in [`Pools`]:
//! connections, and whose turn it is, never locked and never sent to another thread.
//!
//! ```text
//! Pools::send ─┬─ plain: an idle connection of the next target ─────────────────────────┬─ exchange ─> Response<UpstreamBody>
//!              └─ careful: a place ─ a target ─┬─ idle connection, or a shared one ─────┤     │        └ end of body: dues are paid,
//!                          (gate)  (choose)    └─ resolve ─ TCP ─ PROXY header ─ TLS ───┘     │          the connection goes back
//!                                     ^                                                       │
//!                                     └─────── never reached it, or harmless and asked for ───┘
//! ```
//!
//! | what | files |
//! |---|---|
//! | the way of a request | `pools` the way in and the plain way; `careful` all else; `sending` what is to be known of a request; `replay` its head, to be sent again; `dues` what it owes until it and its answer are over |
//! | services and targets | `service` one of the configuration, and all of them; `target_set` its targets as they are now; `target` one of them; `observer` who is told |
//! | which target | `choose` who may be chosen; `balance` whose turn it is, by arithmetic alone; `health` ejection and return; `check` health checks; `gate` how many at once, and the queue; `retry_budget` how much may be repeated |
//! | names | `names` what is to be asked; `resolver` who asks; `discovery` the targets that come of it |
//! | connections | `pool` one worker's idle ones to one target; `connect` a new one; `tls` whom we believe; `introduction` the PROXY protocol |
//! | HTTP/1.1 | `http1` one connection and one exchange; `framing` how a request ends |
//! | HTTP/2 | `shared` connections that requests share; `call` one stream; `ahead` how much is read before clients take it |
//! | both | `line` what a request is sent on; `upload` its body; `answer` what is no answer; `body` the answer's; `lease` the connection until then; `timed` where that has an end; `switched` after 101; `fault` what went wrong |
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
mod discovery;
mod dues;
mod fault;
mod framing;
mod gate;
mod goaway;
mod health;
mod http1;
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
mod switched;
mod target;
mod target_set;
mod timed;
mod tls;
mod upload;

#[cfg(test)]
mod tests;

pub use body::UpstreamBody;
pub use fault::{ConnectFault, FaultKind, InvalidAnswer, UpstreamFault};
pub use http1::{BadAnswer, CutOff, WholeAnswer, read_answer};
pub use introduction::Introduced;
pub use observer::{Repetition, ServiceObserver, UpstreamObserver};
pub use pools::{Answer, Pools};
pub use sending::Sending;
pub use service::{Service, Upstreams};
pub use switched::SwitchedService;
pub use target::Target;
pub use target_set::{Member, TargetSet};
pub use upload::Upload;
