//! See `tests/support/fuzz/report_body.rs`.
#![no_main]

#[path = "../../support/fuzz/report_body.rs"]
mod report_body;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| report_body::run(octets));
