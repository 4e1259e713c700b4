//! See `stepgate_fuzz::request_proof`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stepgate_fuzz::request_proof(data));
