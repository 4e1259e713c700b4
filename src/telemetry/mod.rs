//! What the gateway says of itself: metrics, one access record a request, the audit trail, and events for the operator.
//!
//! None of it may hold up traffic, but for one thing: an operation under the deletion guard waits until its intent is
//! durable. None of it ever holds a token, a cookie, a query or a body.

pub mod access;
pub mod audit;
mod causes;
mod events;
mod json;
pub mod metrics;
mod time;

pub use access::{AccessLog, AccessRecord};
pub use audit::AuditLog;
pub use causes::with_causes;
pub use events::{EventFormat, Events, EventsFault, init_tracing};
pub use metrics::{Metrics, OVER_UDP, RouteMetrics};
