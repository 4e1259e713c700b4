//! See `stepgate_fuzz::passkey_response`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stepgate_fuzz::passkey_response(data));
