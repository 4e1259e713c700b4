//! See `stepgate_fuzz::covered_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stepgate_fuzz::covered_request(data));
