//! The gateway's own second-factor authority: factors, who may enrol them, proofs and what they are good for. It sees calls and
//! principals, never sockets.

mod call;
mod owner;
pub mod passkey;

pub use call::{Answer, Call};
pub use owner::{Holder, Owner};
