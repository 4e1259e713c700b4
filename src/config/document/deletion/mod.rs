//! `deletions`: what becomes of account deletions.

mod call;
mod plan;
mod value;

pub(in crate::config) use call::{CallText, JsonText, Status, Step, Texts};
pub(in crate::config) use plan::{CoveredText, DeletionPlan, Grace, Scope, Verify};
pub(in crate::config) use value::{RecipientText, SourceText};

use std::time::Duration;

use super::WebOrigin;
use crate::config::{
    decode::{At, Named, section},
    quantity::RateText,
    text::EventPath,
};

section! {
    /// What becomes of account deletions: a plan takes the operation of an API over, holds it for as long as it can be taken back,
    /// carries it out in steps, verifies that the data is gone, and keeps the evidence. See docs/deletions.
    "deletions" Deletions {
        /// The origin that people's links have: where clients reach the gateway. Without a path.
        url: At<WebOrigin>,
        /// The path below which status, cancelling, preview and pages are, on every listener. It comes before the routes.
        path: At<EventPath> = "/deletions",
        /// When too many deletions at once are held for a person to look at.
        breaker: Breaker = "{}",
        /// Who is told of what waits for a person: steps that failed for good, disputes, the breaker.
        operators: Vec<RecipientText> = "[]",
        /// How long the certificate of a deletion is kept after it; without this key for good.
        evidence_for: Option<At<Duration>>,
        /// How many calls and pages one address (IPv6: one /64) may ask for; one that asks for more is told to wait.
        limit: At<RateText> = "60/minute",
        /// Takes tokens, links and codes without TLS, where they can be read on the way: for a gateway behind a proxy that ends TLS.
        danger_cleartext: At<bool> = "false",
        /// The plans, by name. What a deletion was asked for under holds for it to its end, whatever becomes of the plan.
        plans: Named<DeletionPlan>,
    }
}

section! {
    /// How many deletions may be asked for in a period. Each further one is held, and operators are told; it goes on when one of
    /// them resets the breaker.
    "a breaker" Breaker {
        /// In all.
        total: At<RateText> = "100/1h",
        /// By one principal.
        by_principal: At<RateText> = "10/1h",
    }
}
