//! See `stepgate_fuzz::http3_stream`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stepgate_fuzz::http3_stream(data));
