//! Counts octets and line ends on the way, so that the canonical size of any extent is a subtraction.

use crate::mail::CanonicalSize;

/// Counts over everything before one position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::extract) struct Mark {
    pub(in crate::extract) octets: u64,
    cr: u64,
    lf: u64,
    /// CR directly followed by LF, both before the position.
    crlf: u64,
    /// The octet before the position; 0 at the start.
    last: u8,
}

impl Mark {
    /// The size of what lies between this position and a later one, in the form POP3 and IMAP send it.
    pub(in crate::extract) fn until(&self, end: &Mark) -> CanonicalSize {
        let octets = end.octets.saturating_sub(self.octets);
        if octets == 0 {
            return CanonicalSize::default();
        }
        let crlf = end.crlf - self.crlf;
        let (lone_cr, lone_lf) =
            ((end.cr - self.cr).saturating_sub(crlf), (end.lf - self.lf).saturating_sub(crlf));
        CanonicalSize {
            octets: octets + lone_cr + lone_lf,
            lines: crlf + lone_cr + lone_lf,
            bare_line_ends: lone_cr + lone_lf > 0,
            ends_with_line_end: matches!(end.last, b'\r' | b'\n'),
        }
    }
}

impl Mark {
    pub(super) fn or_later(self, other: Mark) -> Mark {
        if other.octets > self.octets { other } else { self }
    }

    pub(super) fn or_earlier(self, other: Mark) -> Mark {
        if other.octets < self.octets { other } else { self }
    }
}

/// Longest block whose counts fit the octet-wide lanes the compiler makes of the loops.
const BLOCK_OCTETS: usize = 255;

/// The running counts of one scanner.
#[derive(Clone, Debug, Default)]
pub(super) struct Counter {
    mark: Mark,
    /// The last three octets, newest last: a delimiter takes the line end before it along.
    tail: [u8; 3],
}

impl Counter {
    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    pub(super) fn advance(&mut self, bytes: &[u8]) {
        let [first, .., last] = bytes else {
            if let [only] = bytes {
                self.step(*only);
            }
            return;
        };
        if self.mark.last == b'\r' && *first == b'\n' {
            self.mark.crlf += 1;
        }
        let cr = memchr::memchr_iter(b'\r', bytes).count() as u64;
        self.mark.cr += cr;
        self.mark.lf += memchr::memchr_iter(b'\n', bytes).count() as u64;
        if cr > 0 {
            self.mark.crlf += pairs(bytes);
        }
        self.mark.octets += bytes.len() as u64;
        self.mark.last = *last;
        self.tail = match bytes {
            [.., a, b, c] => [*a, *b, *c],
            [a, b] => [self.tail[2], *a, *b],
            _ => self.tail,
        };
    }

    fn step(&mut self, byte: u8) {
        self.mark.crlf += u64::from(self.mark.last == b'\r' && byte == b'\n');
        self.mark.cr += u64::from(byte == b'\r');
        self.mark.lf += u64::from(byte == b'\n');
        self.mark.octets += 1;
        self.mark.last = byte;
        self.tail = [self.tail[1], self.tail[2], byte];
    }

    /// The position before the line end that the counter stands behind (RFC 2046 §5.1.1: it belongs to the delimiter).
    pub(super) fn before_line_end(&self) -> Mark {
        let mut mark = self.mark;
        match self.tail {
            [before, b'\r', b'\n'] => {
                mark = Mark {
                    octets: mark.octets - 2,
                    cr: mark.cr - 1,
                    lf: mark.lf - 1,
                    crlf: mark.crlf - 1,
                    last: before,
                };
            }
            [_, before, b'\n'] => {
                mark = Mark { octets: mark.octets - 1, lf: mark.lf - 1, last: before, ..mark };
            }
            _ => {}
        }
        mark
    }
}

/// CRLF pairs that lie wholly in `bytes`.
fn pairs(bytes: &[u8]) -> u64 {
    let seconds = bytes.get(1..).unwrap_or_default();
    bytes
        .chunks(BLOCK_OCTETS)
        .zip(seconds.chunks(BLOCK_OCTETS))
        .map(|(firsts, seconds)| {
            let in_block: u8 =
                firsts.iter().zip(seconds).map(|(a, b)| u8::from(*a == b'\r') & u8::from(*b == b'\n')).sum();
            u64::from(in_block)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Turns every line end into CRLF, one octet at a time.
    fn canonical(bytes: &[u8]) -> (Vec<u8>, u64) {
        let (mut out, mut lines, mut at) = (Vec::new(), 0, 0);
        while at < bytes.len() {
            match (bytes[at], bytes.get(at + 1)) {
                (b'\r', Some(b'\n')) => at += 1,
                (b'\r' | b'\n', _) => {}
                (other, _) => {
                    out.push(other);
                    at += 1;
                    continue;
                }
            }
            at += 1;
            out.extend_from_slice(b"\r\n");
            lines += 1;
        }
        (out, lines)
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'x')], 0..700)
    }

    proptest! {
        #[test]
        fn counts_what_a_canonical_copy_would_hold(body in bytes(), size in 1_usize..300) {
            let mut counter = Counter::default();
            body.chunks(size).for_each(|chunk| counter.advance(chunk));
            let (copy, lines) = canonical(&body);
            let size = Mark::default().until(&counter.mark());
            prop_assert_eq!((size.octets, size.lines), (copy.len() as u64, lines));
            prop_assert_eq!(size.bare_line_ends, copy != body);
            prop_assert_eq!(size.ends_with_line_end, copy.ends_with(b"\n"));
        }

        #[test]
        fn stepping_back_equals_not_having_gone(body in bytes(), crlf: bool) {
            let mut before = Counter::default();
            // A CR before the line end must not be taken for half of it.
            let mut body = body;
            body.push(b'x');
            before.advance(&body);
            let mut after = before.clone();
            after.advance(if crlf { b"\r\n" } else { b"\n" });
            prop_assert_eq!(after.before_line_end(), before.mark());
        }
    }
}
