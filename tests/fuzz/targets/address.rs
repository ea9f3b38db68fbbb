//! See `tests/support/fuzz/address.rs`.
#![no_main]

#[path = "../../support/fuzz/address.rs"]
mod address;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| address::run(octets));
