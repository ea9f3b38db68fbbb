//! See `tests/support/fuzz/imap_command.rs`.
#![no_main]

#[path = "../../support/fuzz/imap_command.rs"]
mod imap_command;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| imap_command::run(octets));
