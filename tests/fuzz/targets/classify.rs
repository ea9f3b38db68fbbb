//! See `tests/support/fuzz/classify.rs`.
#![no_main]

#[path = "../../support/fuzz/classify.rs"]
mod classify;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| classify::run(octets));
