//! The marks of a header block that say where a message comes from. Every occurrence counts: one more than there should be
//! is as telling as a wrong one.

use super::header::{Field, fields};
use super::message::Message;
use crate::mail::{MARK_CHARACTERS_MAX, MARKS_MAX, OriginMarks};

/// The marks of a message's own header block, never of what it holds.
pub(super) fn marks(message: &Message<'_>) -> OriginMarks {
    message.node().map_or_else(OriginMarks::default, |node| of_block(&node.header, node.header_cut))
}

/// `cut`: the block was longer than this.
pub(super) fn of_block(block: &[u8], cut: bool) -> OriginMarks {
    let mut marks = OriginMarks { unclear: cut || has_two_readings(block), ..OriginMarks::default() };
    for field in fields(block) {
        let list = if field.is("X-OriginatorOrg") {
            &mut marks.originator_orgs
        } else if field.is("X-LD-Processed") {
            &mut marks.ld_processed
        } else if field.is("Sender") {
            &mut marks.senders
        } else {
            continue;
        };
        if list.len() < MARKS_MAX {
            list.push(value(&field));
        }
    }
    marks
}

/// The value with folds removed (RFC 5322 §2.2.3) and surrounding blanks and tabs trimmed. A value that is too long ends in a
/// sign that no shorter one has, so that it equals none.
fn value(field: &Field<'_>) -> String {
    let unfolded = field.unfolded();
    let text = String::from_utf8_lossy(&unfolded);
    match text.chars().nth(MARK_CHARACTERS_MAX) {
        None => text.into_owned(),
        Some(_) => text.chars().take(MARK_CHARACTERS_MAX).chain(['…']).collect(),
    }
}

/// A lone CR, a lone LF or a NUL: some readers end a line, a header block or a value there, others do not.
fn has_two_readings(block: &[u8]) -> bool {
    let mut before = 0;
    for &octet in block {
        if octet == 0 || (octet == b'\n') != (before == b'\r') {
            return true;
        }
        before = octet;
    }
    before == b'\r'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(block: &[u8], orgs: &[&str], unclear: bool) {
        let marks = of_block(block, false);
        assert_eq!(marks.originator_orgs, orgs, "{block:?}");
        assert_eq!(marks.unclear, unclear, "{block:?}");
    }

    #[test]
    fn every_occurrence_counts_however_the_name_is_written() {
        check(
            b"X-OriginatorOrg: a\r\nx-ORIGINATORorg:b\r\nX-OriginatorOrg : c\r\n\r\n",
            &["a", "b", "c"],
            false,
        );
        check(
            b"X-Originator-Org: a\r\nX-OriginatorOrg2: b\r\nSubject: X-OriginatorOrg: c\r\n\r\n",
            &[],
            false,
        );
        check(b"X-OriginatorOrg:\r\n\r\n", &[""], false);
    }

    #[test]
    fn folds_are_removed_and_nothing_but_blanks_and_tabs_is_trimmed() {
        check(b"X-OriginatorOrg:\r\n\t a.example \t\r\n\r\n", &["a.example"], false);
        check(b"X-OriginatorOrg: a.\r\n example\r\n\r\n", &["a. example"], false);
        check("X-OriginatorOrg: a\u{a0}\r\n\r\n".as_bytes(), &["a\u{a0}"], false);
        check(b"X-OriginatorOrg: a\xa0\r\n\r\n", &["a\u{fffd}"], false);
        check(b"X-OriginatorOrg: a\x0b\r\n\r\n", &["a\x0b"], false);
    }

    #[test]
    fn what_stands_behind_the_empty_line_does_not_count() {
        check(b"Subject: s\r\n\r\nX-OriginatorOrg: a\r\n", &[], false);
    }

    #[test]
    fn a_block_that_two_readers_could_end_differently_is_unclear() {
        check(b"X-OriginatorOrg: a\nSubject: s\n\n", &["a"], true);
        check(b"X-OriginatorOrg: a\r\nSubject: s\rX: y\r\n\r\n", &["a"], true);
        check(b"X-OriginatorOrg: a\r\nSubject: s\0\r\n\r\n", &["a"], true);
        check(b"X-OriginatorOrg: a\r\r\n\r\n", &["a"], true);
        check(b"X-OriginatorOrg: a\r\n\r", &["a"], true);
        assert!(of_block(b"X-OriginatorOrg: a\r\n", true).unclear, "cut");
    }

    #[test]
    fn long_values_and_many_of_them_are_cut_so_that_they_equal_nothing_shorter() {
        let long = "é".repeat(MARK_CHARACTERS_MAX);
        let marks = |value: &str| of_block(format!("X-OriginatorOrg: {value}\r\n").as_bytes(), false);
        assert_eq!(marks(&long).originator_orgs, std::slice::from_ref(&long));
        assert_eq!(marks(&format!("{long}x")).originator_orgs, [format!("{long}…")]);
        let many = of_block("Sender: <a@x>\r\n".repeat(MARKS_MAX + 1).as_bytes(), false);
        assert_eq!(many.senders.len(), MARKS_MAX);
        assert_eq!(many.ld_processed.len(), 0);
    }
}
