//! See `stepgate_fuzz::introspection_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stepgate_fuzz::introspection_answer(data));
