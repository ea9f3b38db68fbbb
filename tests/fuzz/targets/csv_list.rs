//! See `tests/support/fuzz/csv_list.rs`.
#![no_main]

#[path = "../../support/fuzz/csv_list.rs"]
mod csv_list;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| csv_list::run(octets));
