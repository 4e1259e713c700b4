//! See `stepgate_fuzz::dpop_proof`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stepgate_fuzz::dpop_proof(data));
