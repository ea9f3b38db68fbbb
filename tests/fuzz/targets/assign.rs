//! See `tests/support/fuzz/assign.rs`.
#![no_main]

#[path = "../../support/fuzz/assign.rs"]
mod assign;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| assign::run(octets));
