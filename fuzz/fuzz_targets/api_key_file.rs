//! See `stepgate_fuzz::api_key_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stepgate_fuzz::api_key_file(data));
