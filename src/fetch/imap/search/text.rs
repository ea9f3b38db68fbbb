//! Text without its case, and what is looked for in it.
//!
//! Both are folded character by character to one character each (Unicode simple case folding, by way of the standard library's
//! upper and lower case), and compared as UTF-8 octets. Octets that are not UTF-8 stay as they are in what is looked for, so
//! that text as written, which is compared too, can hold them.

use memchr::memmem::Finder;

/// A string to be found in text, in any case. The empty one is in every text.
#[derive(Debug)]
pub(super) struct Needle(Finder<'static>);

impl Needle {
    /// From what the client sent.
    pub(super) fn new(text: &[u8]) -> Needle {
        let mut folded = Vec::with_capacity(text.len());
        match std::str::from_utf8(text) {
            Ok(text) => fold(text, &mut folded),
            Err(_) => fold_octets(text, &mut folded),
        }
        Needle(Finder::new(&folded).into_owned())
    }

    /// True when it is in this text, which is folded.
    pub(super) fn is_in(&self, folded: &[u8]) -> bool {
        self.0.find(folded).is_some()
    }

    /// Octets of it, folded.
    pub(super) fn len(&self) -> usize {
        self.0.needle().len()
    }
}

/// Adds the folded form of a text.
pub(super) fn fold(text: &str, folded: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        let plain = rest.bytes().position(|octet| !octet.is_ascii()).unwrap_or(rest.len());
        let (ascii, other) = rest.split_at_checked(plain).unwrap_or((rest, ""));
        fold_octets(ascii.as_bytes(), folded);
        let mut characters = other.chars();
        let Some(character) = characters.next() else { return };
        let mut octets = [0; 4];
        folded.extend_from_slice(fold_character(character).encode_utf8(&mut octets).as_bytes());
        rest = characters.as_str();
    }
}

/// Adds the form of octets in which only ASCII is folded.
pub(super) fn fold_octets(octets: &[u8], folded: &mut Vec<u8>) {
    let from = folded.len();
    folded.extend_from_slice(octets);
    if let Some(added) = folded.get_mut(from..) {
        added.make_ascii_lowercase();
    }
}

/// By way of upper case, so that all lower forms of a letter become one. What has no single letter for its other case stays.
fn fold_character(character: char) -> char {
    let upper = only(character.to_uppercase()).unwrap_or(character);
    only(upper.to_lowercase()).unwrap_or(upper)
}

fn only(mut characters: impl Iterator<Item = char>) -> Option<char> {
    let first = characters.next();
    if characters.next().is_none() { first } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(needle: &str, text: &str, expect: bool) {
        let mut folded = Vec::new();
        fold(text, &mut folded);
        assert_eq!(Needle::new(needle.as_bytes()).is_in(&folded), expect, "{needle:?} in {text:?}");
    }

    #[test]
    fn letters_are_found_in_any_case() {
        for (needle, text, expect) in [
            ("GRÜSSE", "viele grüsse", true),
            ("ὈΔΥΣΣΕΎΣ", "ὀδυσσεύς", true),
            ("straße", "STRAẞE", true),
            ("\u{212a}elvin", "KELVIN", true),
            ("ЖУРНАЛ", "журнал", true),
            ("strasse", "straße", false),
            ("gruss", "GRÜSSE", false),
            ("", "", true),
            ("a", "", false),
        ] {
            check(needle, text, expect);
        }
    }

    #[test]
    fn octets_that_are_no_utf8_are_found_as_they_are() {
        let mut folded = Vec::new();
        fold_octets(b"GR\xdcSSE", &mut folded);
        assert!(Needle::new(b"gr\xdcss").is_in(&folded));
    }
}
