//! See `stepgate_fuzz::security_event`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stepgate_fuzz::security_event(data));
