//! See `stepgate_fuzz::jose_token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stepgate_fuzz::jose_token(data));
