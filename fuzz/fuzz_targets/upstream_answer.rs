//! See `stepgate_fuzz::upstream_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stepgate_fuzz::upstream_answer(data));
