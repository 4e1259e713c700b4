//! What erasure promises, shown.

mod life;
mod model;
mod shelf;
mod simulation;
