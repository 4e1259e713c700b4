//! Which route a request is for: patterns, the path normaliser and the table. Pure, and no async.

pub mod overlap;
mod path;
mod pattern;

pub use path::PathFault;
pub use pattern::{HostPattern, PathPattern, PatternFault, Segment};
