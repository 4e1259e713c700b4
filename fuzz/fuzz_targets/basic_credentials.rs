//! See `stepgate_fuzz::basic_credentials`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stepgate_fuzz::basic_credentials(data));
