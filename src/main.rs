//! The `stepgate` program: everything is in the library, and the command line in [`stepgate::cli`].

use std::process::ExitCode;

/// Small, short-lived allocations are a part of what each request costs; see docs/decisions/014-small-and-cold.md.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Where it can be, mimalloc is C's `malloc`, which Rust's own allocator calls: for what C allocates as well, and by the shorter way
/// that blocks without a wish for their alignment have.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use mimalloc as _;

fn main() -> ExitCode {
    stepgate::cli::main()
}
