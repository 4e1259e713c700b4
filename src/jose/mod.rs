//! The one hardened gate for signed tokens: compact JWS (RFC 7515), keys (RFC 7517) and time claims (RFC 7519), as
//! RFC 8725 wants them handled. Pure: no clock, no socket, no file. It never follows `jku` or `x5u`, never takes a key
//! out of a token but for a proof that is there to show it ([`inspect_proof`]), and never knows the algorithm `none`.
//!
//! A token passes in two steps: [`inspect`] takes it apart without believing a word, and [`verify`] turns what it found
//! into claims that a key vouches for. What the gateway vouches for itself is signed by a [`SigningKey`].

mod algorithm;
mod fault;
mod json;
mod jwk;
mod jws;
mod key;
mod pem;
mod proof;
mod published;
mod ring;
mod sign;
mod times;
#[cfg(test)]
mod vectors;

pub use algorithm::{Algorithm, Algorithms};
pub use fault::TokenFault;
pub use json::object;
pub use jwk::{JwkSet, LeftAside, SetFault};
pub use jws::{UnverifiedJws, VerifiedJws, inspect, verify, verify_any};
pub use key::{KeyFault, VerifyingKey};
pub use proof::{PROOF_ALGORITHMS, inspect_proof};
pub use published::PublishedKeys;
pub use ring::{Entry, Ring};
pub use sign::{SigningFault, SigningKey};
pub use times::TimeClaims;
