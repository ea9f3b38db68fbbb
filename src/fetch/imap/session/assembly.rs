//! A command put together from its lines and literals (RFC 3501 §4.3, RFC 7888), before anybody looks at what it says.
//!
//! A line that ends in `{n}` or `{n+}` announces a literal whatever stands before it, so that what a client calls data is never
//! taken for a command. Line ends become CRLF here, one that is a bare LF too, and blanks at the end of a command go.

use std::fmt;
use zeroize::Zeroizing;

/// What becomes of a command with the line just taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gathered {
    /// It is whole.
    Whole,
    /// It goes on with a literal.
    Literal(Announced),
    /// It is whole but longer than a command may be.
    TooLong,
}

/// A literal to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Announced {
    /// Its octets; `u64::MAX` for more.
    pub(super) octets: u64,
    /// The client waits until it is asked to go on.
    pub(super) waits: bool,
}

/// A command so far. Wiped when dropped: there may be a password in it.
#[derive(Default)]
pub(super) struct Assembly {
    octets: Zeroizing<Vec<u8>>,
    holds_nul: bool,
}

impl fmt::Debug for Assembly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Assembly({} octets)", self.octets.len())
    }
}

impl Assembly {
    /// A command so far, or all of it with CRLF at its end.
    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// True when a literal held NUL, which no string may (RFC 3501 §9, `CHAR8`).
    pub(super) fn holds_nul(&self) -> bool {
        self.holds_nul
    }

    /// How long it is so far.
    pub(super) fn len(&self) -> usize {
        self.octets.len()
    }

    /// Takes a line, with or without its end, of a command of at most `octets_max`.
    pub(super) fn line(&mut self, line: &[u8], octets_max: usize) -> Gathered {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if self.octets.len().saturating_add(line.len()) > octets_max {
            return Gathered::TooLong;
        }
        if let Some(announced) = announced(line) {
            self.append(line);
            self.append(b"\r\n");
            return Gathered::Literal(announced);
        }
        let blanks = line.iter().rev().take_while(|octet| **octet == b' ').count();
        self.append(line.get(..line.len() - blanks).unwrap_or(line));
        self.append(b"\r\n");
        Gathered::Whole
    }

    /// Takes the literal that was announced.
    pub(super) fn literal(&mut self, octets: &[u8]) {
        self.holds_nul |= octets.contains(&0);
        self.append(octets);
    }

    /// Grows into a new place: one that grows by itself would leave a password behind in the old one.
    fn append(&mut self, octets: &[u8]) {
        let needed = self.octets.len() + octets.len();
        if needed > self.octets.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * self.octets.len())));
            larger.extend_from_slice(&self.octets);
            self.octets = larger;
        }
        self.octets.extend_from_slice(octets);
    }
}

/// True when octets that are no line follow a line unasked.
pub(super) fn is_followed_by_data(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    announced(line.strip_suffix(b"\r").unwrap_or(line)).is_some_and(|announced| !announced.waits)
}

/// The literal a line announces at its end.
fn announced(line: &[u8]) -> Option<Announced> {
    let inside = line.strip_suffix(b"}")?;
    let (inside, waits) = match inside.strip_suffix(b"+") {
        Some(inside) => (inside, false),
        None => (inside, true),
    };
    let digits = inside.iter().rev().take_while(|octet| octet.is_ascii_digit()).count();
    let (before, digits) = inside.split_at(inside.len() - digits);
    if digits.is_empty() || !before.ends_with(b"{") {
        return None;
    }
    let octets = digits
        .iter()
        .fold(0_u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    Some(Announced { octets, waits })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: Option<(u64, bool)>) {
        let expect = expect.map(|(octets, waits)| Announced { octets, waits });
        assert_eq!(announced(line.as_bytes()), expect, "{line:?}");
    }

    #[test]
    fn literals_are_announced_at_the_end_of_a_line() {
        check("a LOGIN {11}", Some((11, true)));
        check("a LOGIN {0+}", Some((0, false)));
        check("{007}", Some((7, true)));
        check("a ~{5}", Some((5, true)));
        check("{99999999999999999999999}", Some((u64::MAX, true)));
        for none in ["", "}", "{}", "{+}", "5}", "{-5}", "{5} ", "{5+ }", "\"{5}\"", "{5}x", "(5}"] {
            check(none, None);
        }
    }

    #[test]
    fn lines_end_in_crlf_without_blanks_and_literals_are_kept() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.line(b"a X {3}\n", 100), Gathered::Literal(Announced { octets: 3, waits: true }));
        assembly.literal(b"b  ");
        assert_eq!(assembly.line(b"  \r\n", 100), Gathered::Whole);
        assert_eq!(assembly.octets(), b"a X {3}\r\nb  \r\n");
    }

    #[test]
    fn a_command_has_an_end() {
        let mut assembly = Assembly::default();
        assembly.line(b"a X {50}", 100);
        assembly.literal(&[b'x'; 50]);
        assert_eq!(assembly.line(&[b'x'; 41], 100), Gathered::TooLong);
        assert_eq!(assembly.line(&[b'x'; 40], 100), Gathered::Whole);
    }
}
