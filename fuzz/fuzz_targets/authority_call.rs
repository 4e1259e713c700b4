//! See `stepgate_fuzz::authority_call`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stepgate_fuzz::authority_call(data));
