//! Fuzz target `mime`: the scanner finds the same in any chunks, its tree lies inside the message and inside itself, its counts are
//! those of a reference of a few lines, and a message is the same, with the same tree, wherever it lies. Run by `tests/fuzz`
//! and, over all that was ever found and the corpus, by `tests/fuzz_replay.rs`.
//!
//! Input: an octet with the number of chunk sizes (at most 15), that many sizes, then the message.

#[path = "../extracted.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "each target stands alone, and none needs all of it")]
mod extracted;
#[path = "../pieces.rs"]
#[allow(clippy::duplicate_mod, reason = "each target stands alone")]
mod pieces;
#[path = "../wrap.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod wrap;

use daybook::extract::{DefectKind, Extraction, Part, Scanner, extract};
use daybook::mail::{CanonicalSize, Profile};
use extracted::Extracted;
use std::ops::Range;

const LINE_END_OCTETS_MAX: u64 = 2;

/// Panics when the scanner breaks a promise.
pub(crate) fn run(input: &[u8]) {
    let Some((sizes, message)) = pieces::numbers(input) else { return };
    let whole = in_chunks(message, &[]);
    assert_eq!(in_chunks(message, &[0]), whole, "octet by octet");
    assert_eq!(in_chunks(message, sizes), whole, "in chunks of {sizes:?}");
    let facts = &whole.whole;
    assert_eq!((facts.extent.offset, facts.extent.octets), (0, message.len() as u64));
    assert_eq!(facts.canonical, canonical(message), "of the whole");
    assert_eq!(facts.structure.header_octets, facts.header_octets);
    check_part(&facts.structure, message, 0..message.len() as u64, message.len() as u64);
    check_wrapped(message, &whole);
}

/// Fed chunks of one octet more than these numbers say, used in turn; at once without any.
fn in_chunks(message: &[u8], sizes: &[u8]) -> Extraction {
    let mut scanner = Scanner::new();
    let mut sizes = sizes.iter().map(|size| usize::from(*size) + 1).cycle();
    let mut rest = message;
    while !rest.is_empty() {
        let (chunk, later) = rest.split_at(sizes.next().unwrap_or(usize::MAX).min(rest.len()));
        scanner.push(chunk);
        rest = later;
    }
    extract(&scanner.finish(), Profile::Microsoft365)
}

/// The size with every line end as CRLF, one octet at a time.
fn canonical(octets: &[u8]) -> CanonicalSize {
    let mut size = CanonicalSize::default();
    let mut before = 0;
    for &octet in octets {
        match (before, octet) {
            (b'\r', b'\n') => {}
            (_, b'\r' | b'\n') => {
                size.octets += 2;
                size.lines += 1;
            }
            _ => size.octets += 1,
        }
        before = octet;
    }
    size.bare_line_ends = size.octets != octets.len() as u64;
    size.ends_with_line_end = octets.ends_with(b"\r") || octets.ends_with(b"\n");
    size
}

fn slice(message: &[u8], range: Range<u64>) -> &[u8] {
    &message[range.start as usize..range.end as usize]
}

/// The part lies inside `room`, its own parts one behind the other inside its body; `end` is that of the message it is of.
fn check_part(part: &Part, message: &[u8], room: Range<u64>, end: u64) {
    let header = part.header_offset..part.header_offset + part.header_octets;
    let body = part.body_offset..part.body_offset + part.octets;
    // A header keeps its empty line even where that is the line end of a delimiter which ends the multipart around it as well.
    let room_end = if part.octets == 0 { end.min(room.end + LINE_END_OCTETS_MAX) } else { room.end };
    assert!(header.start >= room.start && body.end <= room_end, "{header:?} {body:?} outside {room:?}");
    assert_eq!(header.end, body.start, "between header and body");
    assert!(slice(message, header).starts_with(&part.header), "another header");
    let counted = canonical(slice(message, body.clone()));
    assert_eq!((part.canonical_octets, part.lines), (counted.octets, counted.lines), "of {body:?}");
    let mut free = body.clone();
    for child in &part.children {
        check_part(child, message, free.clone(), end);
        free.start = child.body_offset + child.octets;
    }
    if let Some(enclosed) = &part.message {
        assert!(part.children.is_empty(), "a message and parts");
        assert!(
            is_bounce(part) || enclosed.header_offset == body.start,
            "a message begins where its part's body does"
        );
        check_part(enclosed, message, body.clone(), body.end.min(end));
    }
}

/// The part is the text of a bounce that is no MIME: the returned message begins somewhere in it.
fn is_bounce(part: &Part) -> bool {
    !String::from_utf8_lossy(&part.header).to_ascii_lowercase().contains("message/")
}

/// The line end of the report's delimiter can be the empty line that a header at the very end had lacked: behind it a message of no
/// octets begins.
fn without_empty_messages(part: &Part) -> Part {
    let message = part.message.as_deref().filter(|enclosed| enclosed.header_octets + enclosed.octets > 0);
    Part {
        children: part.children.iter().map(without_empty_messages).collect(),
        message: message.map(|enclosed| Box::new(without_empty_messages(enclosed))),
        ..part.clone()
    }
}

fn holds_bounce(part: &Part) -> bool {
    let inner = part.children.iter().chain(part.message.as_deref());
    (part.message.is_some() && is_bounce(part)) || inner.into_iter().any(holds_bounce)
}

/// Inside a report the message is what it is alone.
fn check_wrapped(message: &[u8], alone: &Extraction) {
    let imitates = wrap::boundary("report");
    if message.iter().all(u8::is_ascii_whitespace)
        || message.windows(imitates.len()).any(|octets| octets == imitates.as_bytes())
    {
        return;
    }
    let read = Extracted::of(&wrap::report("report", &[message], "bob@contoso.example"), usize::MAX);
    let originals = read.originals();
    assert_eq!(originals[0], [message], "cut out of a report");
    let facts = &read.found.reports[0].originals[0].facts;
    assert_eq!(facts.canonical, alone.whole.canonical, "inside a report");
    // It is deeper there, and what the report itself takes is missing from what all may take together.
    let limits =
        [DefectKind::TooDeep, DefectKind::TooManyParts, DefectKind::TooManyEncodings, DefectKind::HeaderCut];
    let is_limited = |found: &Extraction| found.defects.iter().any(|defect| limits.contains(&defect.kind));
    // Such a bounce is looked into only where an NDR can stand, and as far as whole lines tell.
    let is_read_otherwise = [&alone.whole.structure, &facts.structure].into_iter().any(holds_bounce);
    if !is_limited(alone) && !is_limited(&read.found) && !is_read_otherwise {
        let [inside, alone_tree] = [&facts.structure, &alone.whole.structure].map(without_empty_messages);
        assert_eq!(inside, alone_tree, "inside a report");
        assert_eq!(facts.join_prefix, alone.whole.join_prefix, "inside a report");
    }
}
