//! Credentials → [`Principal`](crate::policy::Principal): who vouches for a caller, by what, and what is said of the caller.
//! It verifies and decides nothing: a credential comes out absent, invalid for a reason, valid, or not verifiable now, and
//! the policy does the rest. `authenticator` is the door; behind it stand the kinds: `tokens`, `apikey`, `basic`,
//! `certificate`, with `dpop` for what a token is bound to and `revocation` for what is refused although it verifies.
//!
//! A token's way:
//!
//! ```text
//!   token ── cache ──hit──────────────────────────────────────────────┐
//!              │ miss                                                  ▼
//!           inspect ─ iss ─ route takes it? ─ typ ─ alg ─ key ─ signature ─ claims ─ aud ─ times ─> Credential
//!                                                         │ unknown kid
//!                                                    KeyStore ── one refetch a cooldown, all wait for it
//!                                                         ▲
//!                                        refresh task, on the service runtime
//! ```
//! What only its issuer can read, or whose issuer has no keys here, the issuer is asked about: see `introspection`.
//!
//! Keys are kept by one task for each issuer. A request never fetches anything itself: it finds keys, or asks the task
//! for one attempt and waits for it, bounded in time and in number.

mod accepted;
pub mod apikey;
mod authenticator;
pub mod basic;
mod cache;
mod certificate;
mod claims;
#[cfg(test)]
mod door_tests;
pub mod dpop;
pub mod events;
mod introspection;
mod key_place;
mod keys;
mod observer;
mod presented;
mod refresh;
pub mod revocation;
mod services;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tokens;
mod verifier;

pub use accepted::{Accepted, Kinds};
pub use authenticator::Authenticator;
pub use basic::BasicOffer;
pub use certificate::CertificateNames;
pub use introspection::judge_answer;
pub use observer::{CacheLookup, IdentityObserver, IntrospectionOutcome, PasswordOutcome, RefreshOutcome, Unobserved};
pub use presented::{ApiKeyField, ApiKeyPlace, Field, Presented};
pub use services::{SourceReadiness, SourceServices};

/// What stands for `iss` where a source of credentials has none: its name, as no issuer's URL is written.
pub fn source_url(name: &str) -> std::sync::Arc<str> {
    format!("urn:stepgate:credentials:{name}").into()
}
