//! See `tests/support/fuzz/mime.rs`.
#![no_main]

#[path = "../../support/fuzz/mime.rs"]
mod mime;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| mime::run(octets));
