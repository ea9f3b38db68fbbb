//! See `tests/support/fuzz/data_scanner.rs`.
#![no_main]

#[path = "../../support/fuzz/data_scanner.rs"]
mod data_scanner;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| data_scanner::run(octets));
