//! Where bytes are read to before it is known whose they are: one place for each worker.

use std::cell::Cell;

/// How much is read at once: a TLS record's worth (RFC 8446 §5.1).
const SCRATCH_BYTES: usize = 16 * 1024;

thread_local! {
    static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Lends the worker's place to read to, of 16 KiB, with whatever was read there before. A copy of what came costs less than
/// to zero a buffer for each read, and who has nothing to read holds none of it.
pub fn with_scratch<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut scratch = SCRATCH.take().unwrap_or_else(|| vec![0; SCRATCH_BYTES].into_boxed_slice());
    let value = read(&mut scratch);
    SCRATCH.set(Some(scratch));
    value
}
