//! See `tests/support/fuzz/pop3_command.rs`.
#![no_main]

#[path = "../../support/fuzz/pop3_command.rs"]
mod pop3_command;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| pop3_command::run(octets));
