//! Carrying deletions out: what is asked of services, when, how often, and by whom.

mod call;
mod calls;
pub mod fill;
mod lookups;
mod pauses;
#[cfg(test)]
mod testing;
mod upstreams;
mod values;

pub use lookups::LookupFault;
pub use upstreams::Upstreams;
pub use values::Known;
