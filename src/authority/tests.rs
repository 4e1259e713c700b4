//! What must never pass, and what must, over a real store.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod abuse;
mod api;
mod damage;
mod forget;
mod passkeys;
mod races;
