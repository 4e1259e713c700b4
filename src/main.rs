//! The `stepgate` program: everything is in the library, and the command line in [`stepgate::cli`].

use std::process::ExitCode;

/// Small, short-lived allocations are most of what a request costs; see docs/decisions.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    stepgate::cli::main()
}
