//! What structured header fields are made of: blanks, comments, quoted strings (RFC 5322 §3.2), read from raw octets.
//!
//! Never fails: what is not closed runs to the end. Nesting costs no recursion, and every octet is passed once.

use super::strings::is_blank;

/// A place in the value of a field.
pub(super) struct Lexer<'a> {
    rest: &'a [u8],
    /// The comment passed last, without its parentheses.
    pub(super) comment: Option<Vec<u8>>,
}

impl<'a> Lexer<'a> {
    /// At the start of a value.
    pub(super) fn new(value: &'a [u8]) -> Lexer<'a> {
        Lexer { rest: value, comment: None }
    }

    /// The octet here.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Passes an octet.
    pub(super) fn advance(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }

    /// Passes octets up to one for which this is true, and gives them.
    pub(super) fn until(&mut self, ends: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|b| ends(*b)).unwrap_or(self.rest.len());
        let (found, rest) = self.rest.split_at(end);
        self.rest = rest;
        found
    }

    /// Passes blanks and comments; gives the octet that comes then.
    pub(super) fn skip(&mut self) -> Option<u8> {
        loop {
            match self.peek()? {
                b'(' => self.comment(),
                octet if is_blank(octet) => self.advance(),
                octet => return Some(octet),
            }
        }
    }

    fn comment(&mut self) {
        let mut depth = 0_usize;
        let mut text = Vec::new();
        while let Some(octet) = self.unescaped() {
            match octet {
                Octet::Plain(b'(') => {
                    depth += 1;
                    if depth == 1 {
                        continue;
                    }
                }
                Octet::Plain(b')') => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        break;
                    }
                }
                _ => {}
            }
            text.push(octet.value());
        }
        self.comment = Some(text);
    }

    /// Passes a quoted string, or a domain literal, which ends with this octet; gives what is in it.
    pub(super) fn quoted(&mut self, end: u8) -> Vec<u8> {
        let mut text = Vec::new();
        self.advance();
        while let Some(octet) = self.unescaped() {
            if octet == Octet::Plain(end) {
                break;
            }
            text.push(octet.value());
        }
        text
    }

    fn unescaped(&mut self) -> Option<Octet> {
        let octet = self.peek()?;
        self.advance();
        if octet != b'\\' {
            return Some(Octet::Plain(octet));
        }
        let escaped = self.peek()?;
        self.advance();
        Some(Octet::Escaped(escaped))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Octet {
    Plain(u8),
    Escaped(u8),
}

impl Octet {
    fn value(self) -> u8 {
        match self {
            Octet::Plain(octet) | Octet::Escaped(octet) => octet,
        }
    }
}
