//! See `stepgate_fuzz::client_certificate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stepgate_fuzz::client_certificate(data));
