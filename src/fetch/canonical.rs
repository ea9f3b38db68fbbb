//! The form in which mail goes over the wire: every line ends in CRLF.
//!
//! Mail taken by BDAT may hold a lone LF or CR. Sent as they are, `LF . CRLF` would end the message early for
//! some clients and what follows would be taken for replies, or for a second message (output smuggling). So
//! each lone CR and each lone LF becomes CRLF on the way out, and only then lines that start with a dot get
//! their second one (RFC 1939 §3). Sizes are those of this form, before dots.
//!
//! [`Canonical`] is fed chunks of any size and keeps one octet of state: after a CR it has already sent CRLF,
//! and an LF that follows, in the same chunk or the next, is dropped. So nothing is ever held back, and no
//! output chunk ends between CR and LF. A chunk that needs no change is returned as it is, without a copy.
//!
//! [`Top`] cuts such output after the header and some lines of the body. It does not care about dots: they
//! neither make nor fill an empty line.
//!
//! Nothing here knows a protocol's replies, and the stored bytes are never touched.

use crate::mail::CanonicalSize;
use memchr::{memchr, memchr2};
use std::borrow::Cow;

/// A line end, as sent.
const CRLF: &[u8] = b"\r\n";

/// The octets a client receives for a message of this size, without stuffed dots and the final dot line:
/// a last line without a line end is given one, since the final dot needs a line of its own.
pub fn served_octets(size: &CanonicalSize) -> u64 {
    size.octets.saturating_add(if size.ends_with_line_end { 0 } else { 2 })
}

/// Turns chunks of stored bytes into canonical form.
#[derive(Clone, Debug)]
pub struct Canonical {
    dot_stuff: bool,
    /// The last octet seen was a CR; its CRLF is out, an LF now belongs to it.
    after_cr: bool,
    at_line_start: bool,
    ends_with_line_end: bool,
    octets: u64,
}

impl Canonical {
    /// Canonical line ends only.
    pub fn new() -> Canonical {
        Canonical {
            dot_stuff: false,
            after_cr: false,
            at_line_start: true,
            ends_with_line_end: false,
            octets: 0,
        }
    }

    /// Canonical line ends, then a second dot before each line that starts with one (RFC 1939 §3).
    pub fn dot_stuffed() -> Canonical {
        Canonical { dot_stuff: true, ..Canonical::new() }
    }

    /// The canonical form of the next chunk. Borrowed when it needs no change.
    pub fn push<'a>(&mut self, chunk: &'a [u8]) -> Cow<'a, [u8]> {
        let mut output = Output { chunk, copied: 0, changed: None };
        let mut at = 0;
        if !chunk.is_empty() && std::mem::take(&mut self.after_cr) && chunk.starts_with(b"\n") {
            output.skip(0);
            at = 1;
        }
        let mut stuffed = 0;
        while at < chunk.len() {
            if self.at_line_start && self.dot_stuff && chunk.get(at) == Some(&b'.') {
                output.insert(at, b".");
                stuffed += 1;
            }
            let rest = chunk.get(at..).unwrap_or_default();
            let Some(found) = memchr2(b'\r', b'\n', rest) else {
                self.at_line_start = false;
                break;
            };
            at = self.end_line(&mut output, at + found);
        }
        let form = output.finish();
        self.octets += form.len() as u64 - stuffed;
        if let Some(&last) = form.last() {
            self.ends_with_line_end = last == b'\n';
        }
        form
    }

    /// Ends the line whose CR or LF is at `at`, and gives where the next one starts.
    fn end_line(&mut self, output: &mut Output<'_>, at: usize) -> usize {
        self.at_line_start = true;
        let next = at + 1;
        if output.chunk.get(at) == Some(&b'\n') {
            output.insert(at, b"\r");
            return next;
        }
        match output.chunk.get(next) {
            Some(b'\n') => next + 1,
            following => {
                self.after_cr = following.is_none();
                output.insert(next, b"\n");
                next
            }
        }
    }

    /// The line end that a last line without one still needs; empty otherwise. To be sent after the last chunk.
    pub fn finish(&mut self) -> &'static [u8] {
        if self.ends_with_line_end {
            return b"";
        }
        self.ends_with_line_end = true;
        self.at_line_start = true;
        self.octets += CRLF.len() as u64;
        CRLF
    }

    /// Octets given so far, without stuffed dots.
    pub fn octets(&self) -> u64 {
        self.octets
    }
}

impl Default for Canonical {
    fn default() -> Canonical {
        Canonical::new()
    }
}

/// A chunk that is copied from the first change on.
struct Output<'a> {
    chunk: &'a [u8],
    /// `chunk[..copied]` is in `changed`, or dropped.
    copied: usize,
    changed: Option<Vec<u8>>,
}

impl<'a> Output<'a> {
    /// Copies what stands before `at`.
    fn copy_to(&mut self, at: usize) -> &mut Vec<u8> {
        // Room for the worst ordinary case, a line end every 32 octets, spares growing the copy again and again.
        let octets = self.chunk.len();
        let changed = self.changed.get_or_insert_with(|| Vec::with_capacity(octets + octets / 32 + 2));
        changed.extend_from_slice(self.chunk.get(self.copied..at).unwrap_or_default());
        self.copied = at;
        changed
    }

    fn insert(&mut self, at: usize, octets: &[u8]) {
        self.copy_to(at).extend_from_slice(octets);
    }

    fn skip(&mut self, at: usize) {
        self.copy_to(at);
        self.copied = at + 1;
    }

    fn finish(mut self) -> Cow<'a, [u8]> {
        if self.changed.is_none() {
            return Cow::Borrowed(self.chunk);
        }
        self.copy_to(self.chunk.len());
        Cow::Owned(self.changed.unwrap_or_default())
    }
}

/// Cuts a message after its header, the empty line and a number of body lines (TOP, RFC 1939 §7).
#[derive(Clone, Debug)]
pub struct Top {
    in_header: bool,
    at_line_start: bool,
    lines_left: u64,
}

impl Top {
    /// Lets `lines` lines of the body through; more than there are is the whole message.
    pub fn new(lines: u64) -> Top {
        Top { in_header: true, at_line_start: true, lines_left: lines }
    }

    /// How much of the next chunk of canonical form is wanted: `None` is all of it, and more may follow;
    /// a number of octets means the cut is there and nothing more is wanted.
    pub fn cut(&mut self, chunk: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(found) = memchr(b'\n', chunk.get(at..).unwrap_or_default()) {
            let is_empty_line = self.at_line_start && found == 1;
            self.at_line_start = true;
            at += found + 1;
            if !self.in_header {
                self.lines_left = self.lines_left.saturating_sub(1);
            } else if is_empty_line {
                self.in_header = false;
            }
            if !self.in_header && self.lines_left == 0 {
                return Some(at);
            }
        }
        if at < chunk.len() {
            self.at_line_start = false;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The plainest way to say it.
    fn naive(stored: &[u8], dot_stuff: bool) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> = vec![Vec::new()];
        let mut octets = stored.iter().copied().peekable();
        while let Some(octet) = octets.next() {
            if octet == b'\r' {
                octets.next_if_eq(&b'\n');
            }
            match octet {
                b'\r' | b'\n' => lines.push(Vec::new()),
                _ => lines.last_mut().unwrap().push(octet),
            }
        }
        for line in &mut lines {
            if dot_stuff && line.first() == Some(&b'.') {
                line.insert(0, b'.');
            }
        }
        lines.join(CRLF)
    }

    fn measure(stored: &[u8]) -> CanonicalSize {
        let form = naive(stored, false);
        CanonicalSize {
            octets: form.len() as u64,
            lines: form.iter().filter(|&&octet| octet == b'\n').count() as u64,
            bare_line_ends: form != stored,
            ends_with_line_end: form.ends_with(CRLF),
        }
    }

    fn pushed(mut form: Canonical, chunks: &[&[u8]]) -> (Vec<u8>, u64) {
        let mut output = Vec::new();
        for chunk in chunks {
            output.extend_from_slice(&form.push(chunk));
        }
        output.extend_from_slice(form.finish());
        (output, form.octets())
    }

    fn check(stored: &str, expect: &str) {
        for at in 0..=stored.len() {
            let (head, tail) = stored.as_bytes().split_at(at);
            let (sent, octets) = pushed(Canonical::dot_stuffed(), &[head, tail]);
            assert_eq!(String::from_utf8(sent).unwrap(), expect, "split at {at}");
            assert_eq!(octets, served_octets(&measure(stored.as_bytes())), "split at {at}");
        }
    }

    #[test]
    fn makes_every_line_end_crlf_and_stuffs_dots_after_that() {
        check("a\r\nb\r\n", "a\r\nb\r\n");
        check("a\nb", "a\r\nb\r\n");
        check("a\rb\r", "a\r\nb\r\n");
        check("a\n\rb\r\r\n", "a\r\n\r\nb\r\n\r\n");
        check(".a\r\n..\r\n.", "..a\r\n...\r\n..\r\n");
        check("x\n.\r\nsmuggled", "x\r\n..\r\nsmuggled\r\n");
        check("x\r.\r.\n", "x\r\n..\r\n..\r\n");
        check("", "\r\n");
        check("\0é\n", "\0é\r\n");
    }

    #[test]
    fn a_chunk_in_canonical_form_is_not_copied() {
        let chunk = b"Subject: x\r\n\r\na line\r\nhalf a";
        assert!(matches!(Canonical::dot_stuffed().push(chunk), Cow::Borrowed(_)));
    }

    fn check_top(stored: &str, lines: u64, expect: &str) {
        let form = naive(stored.as_bytes(), true);
        for at in 0..=form.len() {
            let (head, tail) = form.split_at(at);
            // A chunk never ends between CR and LF.
            if head.ends_with(b"\r") {
                continue;
            }
            let mut top = Top::new(lines);
            let mut sent = Vec::new();
            for chunk in [head, tail] {
                match top.cut(chunk) {
                    None => sent.extend_from_slice(chunk),
                    Some(octets) => {
                        sent.extend_from_slice(&chunk[..octets]);
                        break;
                    }
                }
            }
            assert_eq!(String::from_utf8(sent).unwrap(), expect, "split at {at}");
        }
    }

    #[test]
    fn top_counts_canonical_lines_of_the_body() {
        let stored = "A: b\nC: d\n\n1\n\n.3\r4";
        check_top(stored, 0, "A: b\r\nC: d\r\n\r\n");
        check_top(stored, 1, "A: b\r\nC: d\r\n\r\n1\r\n");
        check_top(stored, 2, "A: b\r\nC: d\r\n\r\n1\r\n\r\n");
        check_top(stored, 3, "A: b\r\nC: d\r\n\r\n1\r\n\r\n..3\r\n");
        check_top(stored, u64::MAX, "A: b\r\nC: d\r\n\r\n1\r\n\r\n..3\r\n4");
        check_top("\r\nbody\r\n", 0, "\r\n");
        check_top("A: no body\r\n", 0, "A: no body\r\n");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn canonical_form_of_anything_in_any_chunks_equals_the_naive_one(
            stored in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), any::<u8>()], 0..200),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stored.len() + 1)).collect();
            cuts.extend([0, stored.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|cut| &stored[cut[0]..cut[1]]).collect();

            let size = measure(&stored);
            let (plain, octets) = pushed(Canonical::new(), &chunks);
            prop_assert_eq!(octets, plain.len() as u64);
            prop_assert_eq!(octets, served_octets(&size));
            let mut expect = naive(&stored, false);
            prop_assert_eq!(expect.len() as u64, size.octets);
            if !size.ends_with_line_end {
                expect.extend_from_slice(CRLF);
            }
            prop_assert_eq!(&plain, &expect);
            let lone = plain.iter().enumerate().any(|(at, octet)| match octet {
                b'\r' => plain.get(at + 1) != Some(&b'\n'),
                b'\n' => at == 0 || plain[at - 1] != b'\r',
                _ => false,
            });
            prop_assert!(!lone);

            let (stuffed, octets) = pushed(Canonical::dot_stuffed(), &chunks);
            prop_assert_eq!(octets, plain.len() as u64);
            prop_assert_eq!(naive(&plain, true), stuffed);
        }
    }
}
