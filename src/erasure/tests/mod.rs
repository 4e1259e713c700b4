//! What erasure promises, shown.

mod life;
mod model;
mod people;
mod shelf;
mod simulation;
mod target;
