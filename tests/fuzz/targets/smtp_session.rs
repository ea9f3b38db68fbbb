//! See `tests/support/fuzz/smtp_session.rs`.
#![no_main]

#[path = "../../support/fuzz/smtp_session.rs"]
mod smtp_session;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| smtp_session::run(octets));
