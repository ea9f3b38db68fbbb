//! Fuzz target `csv_list`: whatever octets come, a list of users is whole or it is not taken: cut short it is never read as another
//! one, but between two rows as the beginning of the same; the same text means the same in UTF-16, and in rows with any line end.
//! Run by `tests/fuzz` and, over all that was ever found and the lists of the corpus, by `tests/fuzz_replay.rs`.
//!
//! Input: which preset, then the number of cuts, a place for each in 256ths, and the list.

use daybook::config::{CsvPreset, CsvSource};
use daybook::directory::source::csv::parse;
use daybook::directory::{Listing, SourceError};
use std::collections::HashSet;
use std::path::Path;

/// Panics when a promise is broken.
pub(crate) fn run(input: &[u8]) {
    let [preset, cuts, rest @ ..] = input else { return };
    let preset = if preset % 2 == 0 { CsvPreset::Generic } else { CsvPreset::ExchangeGetMailbox };
    let source = CsvSource { preset, ..CsvSource::of("list.csv") };
    let Some((cuts, list)) = rest.split_at_checked(usize::from(cuts % 16)) else { return };
    let read = |octets: &[u8]| parse(octets, &source, Path::new("list.csv"));
    let whole = read(list);
    check(&whole);
    for cut in cuts {
        let end = list.len() * usize::from(*cut) / 256;
        let part = read(&list[..end]);
        check(&part);
        if let (Ok(part), Ok(whole)) = (&part, &whole) {
            assert!(whole.candidates.starts_with(&part.candidates), "cut at {end} it reads as another list");
        }
    }
    // A mark in the text itself would be taken for that of the file.
    let Ok(text) = str::from_utf8(list) else { return };
    if text.starts_with('\u{feff}') || matches!(list, [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..]) {
        return;
    }
    let units =
        || std::iter::once('\u{feff}').chain(text.chars()).flat_map(|c| c.encode_utf16(&mut [0; 2]).to_vec());
    let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
    for octets in [little, big, [b"\xEF\xBB\xBF", list].concat()] {
        let same = read(&octets);
        assert_eq!(same.as_ref().ok(), whole.as_ref().ok(), "another encoding reads as another list");
        let told = |read: &Result<Listing, SourceError>| read.as_ref().err().map(ToString::to_string);
        assert_eq!(told(&same), told(&whole));
    }
    if !text.contains(['"', '\r']) {
        let other = read(text.replace('\n', "\r\n").as_bytes());
        assert_eq!(other.ok(), whole.ok(), "another line end reads as another list");
    }
}

/// Everybody has an id of their own, a name for one line, and each address once.
fn check(read: &Result<Listing, SourceError>) {
    let Ok(listing) = read else { return };
    assert!(!listing.candidates.is_empty(), "nobody is in the list");
    let mut ids = HashSet::new();
    for candidate in &listing.candidates {
        assert!(
            !candidate.id.is_empty() && candidate.id.len() <= 255 && ids.insert(&candidate.id),
            "{candidate:?}"
        );
        let plain = |text: &str| !text.trim().is_empty() && !text.contains(char::is_control);
        assert!(plain(&candidate.id) && plain(&candidate.name), "{candidate:?}");
        let mut addresses: HashSet<_> = candidate.primary.iter().map(|primary| primary.key()).collect();
        assert!(candidate.aliases.iter().all(|alias| addresses.insert(alias.key())), "{candidate:?}");
    }
}
