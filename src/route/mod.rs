//! Which route a request is for: patterns, the path normaliser and the table. Pure, and no async.

pub mod overlap;
mod parts;
mod path;
mod pattern;
mod table;

pub use path::{NormalPath, PathFault};
pub use pattern::{HostPattern, PathPattern, PatternFault, Segment};
pub use table::{Entry, Found, RouteTable, RoutesAt};
