//! Fuzz target `data_scanner`: the scanner of DATA agrees with the plainest reading of RFC 5321 §4.5.2, however its input
//! is cut. Run by `tests/fuzz` and, over all that was ever found, by `tests/fuzz_replay.rs`.
//!
//! Input: an octet with the number of cuts (at most 15), that many octets of piece sizes, then what the peer sends.

use daybook::smtp::data::{DataScanner, Defect, Scanned};

/// What became of the octets.
#[derive(Debug, PartialEq, Eq)]
struct Reading {
    /// Not to be compared behind a defect.
    body: Option<Vec<u8>>,
    defect: Option<Defect>,
    /// Where the message ended, behind its last octet.
    end: Option<usize>,
}

/// Panics when the scanner and the reference disagree.
pub(crate) fn run(input: &[u8]) {
    let Some((&count, rest)) = input.split_first() else { return };
    let (sizes, sent) = rest.split_at(usize::from(count % 16).min(rest.len()));
    let expect = by_reference(sent);
    assert_eq!(by_scanner(sent, &[usize::MAX]), expect, "whole");
    assert_eq!(by_scanner(sent, &[1]), expect, "octet by octet");
    let sizes: Vec<usize> = sizes.iter().map(|size| usize::from(*size).max(1)).collect();
    if !sizes.is_empty() {
        assert_eq!(by_scanner(sent, &sizes), expect, "in pieces of {sizes:?}");
    }
}

/// Feeds pieces of these sizes, used in turn.
fn by_scanner(sent: &[u8], sizes: &[usize]) -> Reading {
    let mut scanner = DataScanner::new();
    let mut body = Vec::new();
    let mut end = None;
    let mut done = 0;
    let mut shown = 0;
    let mut sizes = sizes.iter().cycle();
    while shown < sent.len() && end.is_none() {
        shown = shown.saturating_add(*sizes.next().unwrap()).min(sent.len());
        while done < shown && end.is_none() {
            let (consumed, scanned) = scanner.scan(&sent[done..shown]);
            assert!(consumed > 0 && consumed <= shown - done, "consumed {consumed} of {}", shown - done);
            done += consumed;
            match scanned {
                Scanned::Body(octets) => {
                    assert!(octets.len() <= consumed, "more body than was consumed");
                    body.extend_from_slice(octets);
                }
                Scanned::End => end = Some(done),
            }
        }
    }
    Reading { body: scanner.defect().is_none().then_some(body), defect: scanner.defect(), end }
}

/// A message ends at the first CRLF.CRLF of CRLF and all that is sent; it is made of lines, each less one leading dot.
fn by_reference(sent: &[u8]) -> Reading {
    let with_start = [b"\r\n", sent].concat();
    let end = with_start.windows(5).position(|octets| octets == b"\r\n.\r\n").map(|at| at + 3);
    let message = end.map_or(sent, |end| &sent[..end - 3]);
    let scanned = end.map_or(sent, |end| &sent[..end]);
    let defect = first_defect(scanned);
    let body = defect.is_none().then(|| unstuffed(message, end.is_some()));
    Reading { body, defect, end }
}

fn first_defect(octets: &[u8]) -> Option<Defect> {
    octets.iter().enumerate().find_map(|(index, octet)| {
        let before = index.checked_sub(1).map(|before| octets[before]);
        match octet {
            0 => Some(Defect::Nul),
            b'\n' if before != Some(b'\r') => Some(Defect::BareLf),
            b'\r' if octets.get(index + 1).is_some_and(|behind| *behind != b'\n') => Some(Defect::BareCr),
            _ => None,
        }
    })
}

fn unstuffed(message: &[u8], ended: bool) -> Vec<u8> {
    let mut body = Vec::new();
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        match line {
            // Still open: it may yet become the end, so nothing of it has been given out.
            b".\r" if !ended => {}
            _ => body.extend_from_slice(line.strip_prefix(b".").unwrap_or(line)),
        }
    }
    body
}
