//! See `stepgate_fuzz::users_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stepgate_fuzz::users_file(data));
