//! Fuzz target `classify`: whatever comes, what is found lies where it says, class, destination and reports fit each other, and
//! a message that was cut off is never assigned with other originals than the whole. Run by `tests/fuzz` and, over all that was
//! ever found and the corpus, by `tests/fuzz_replay.rs`.
//!
//! Input: an octet with the number of cuts (at most 15), an octet for each that says where, then the message.

#[path = "../extracted.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "each target stands alone, and none needs all of it")]
mod extracted;
#[path = "../pieces.rs"]
#[allow(clippy::duplicate_mod, reason = "each target stands alone")]
mod pieces;

use daybook::extract::{Destination, Extraction, LAYERS_MAX, Report, inspect};
use daybook::mail::{Class, Extent, Profile};
use extracted::{Extracted, read};

/// As the pipeline hands a message over.
const CHUNK_OCTETS: usize = 64 * 1024;

/// Panics when a promise is broken.
pub(crate) fn run(input: &[u8]) {
    let Some((cuts, message)) = pieces::numbers(input) else { return };
    let whole = Extracted::of(message, CHUNK_OCTETS);
    check(&whole, message);
    for cut in cuts {
        let end = message.len() * usize::from(*cut) / 256;
        let prefix = Extracted::of(&message[..end], CHUNK_OCTETS);
        check(&prefix, &message[..end]);
        if prefix.found.destination == Destination::Assign {
            assert_eq!(originals(&prefix.found), originals(&whole.found), "assigned when cut at octet {end}");
        }
    }
    let generic = read(message, CHUNK_OCTETS, Profile::Generic);
    assert_eq!((generic.class, generic.destination), (Class::Plain, Destination::Unassigned));
    assert!(generic.reports.is_empty() && generic.derived.is_empty() && generic.returned.is_empty());
}

fn originals(found: &Extraction) -> Vec<Extent> {
    found.reports.iter().flat_map(|report| &report.originals).map(|original| original.facts.extent).collect()
}

fn lies_in(inner: &Extent, outer: &Extent) -> bool {
    inner.object != outer.object
        || (inner.offset >= outer.offset && inner.offset + inner.octets <= outer.offset + outer.octets)
}

fn check(read: &Extracted, message: &[u8]) {
    let found = &read.found;
    assert_eq!(read.octets(&found.whole.extent), message, "the whole is kept");
    assert!(found.reports.len() <= LAYERS_MAX && found.returned.len() <= LAYERS_MAX);
    for (index, report) in found.reports.iter().enumerate() {
        check_report(read, report);
        let is_generated = report
            .wrapper_message_id
            .as_ref()
            .is_some_and(|id| id.to_ascii_lowercase().ends_with("@journal.report.generator>"));
        assert!(index == 0 || is_generated, "unwrapped inside an original without proof");
        assert!(index == 0 || !report.originals.is_empty() && !report.envelope.recipients.is_empty());
    }
    let has_report = !found.reports.is_empty();
    match found.class {
        Class::JournalReport | Class::JournalNdr => assert!(has_report),
        Class::Plain | Class::Ndr => assert!(!has_report),
        Class::NdrWithoutReport | Class::Unreadable => {
            assert_eq!(found.destination, Destination::Quarantine);
        }
    }
    if found.destination == Destination::Assign {
        assert!(matches!(found.class, Class::JournalReport | Class::JournalNdr), "{:?}", found.class);
        assert!(!found.reports[0].originals.is_empty(), "assigned without an original");
        let named = found.reports.iter().any(|report| !report.envelope.is_empty());
        assert!(named, "assigned to nobody");
    }
    let json = inspect(found, "", &|_| String::new());
    assert_eq!(json["reports"].as_array().map(Vec::len), Some(found.reports.len()));
}

fn check_report(read: &Extracted, report: &Report) {
    // Panics when it does not lie in its object.
    let wrapper = read.octets(&report.extent).len() as u64;
    assert_eq!(wrapper, report.extent.octets);
    let mut end_before = 0;
    for original in &report.originals {
        let extent = &original.facts.extent;
        assert_eq!(read.octets(extent).len() as u64, original.facts.extent.octets);
        assert!(lies_in(extent, &report.extent), "{extent:?} outside {:?}", report.extent);
        if extent.object == report.extent.object {
            assert!(extent.offset >= end_before, "originals overlap");
            end_before = extent.offset + extent.octets;
        }
    }
    match report.primary {
        Some(primary) => assert!(primary < report.originals.len()),
        None => assert!(report.originals.is_empty()),
    }
}
