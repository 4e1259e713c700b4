//! See `stepgate_fuzz::method_override`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stepgate_fuzz::method_override(data));
