//! Text of a charset, decoded as it arrives.
//!
//! Single octets and lines are what text may be cut into without looking: a character of UTF-8 or UTF-16 that is not whole yet
//! is held back, and so is a line in any other charset, since those that shift do not do so over a line's end.

use mail_parser::decoders::charsets::DecoderFnc;
use mail_parser::decoders::charsets::map::charset_decoder;

/// A line longer than this is cut where it may be.
const LINE_OCTETS_MAX: usize = 64 * 1024;

/// Decodes one part.
pub(super) struct TextDecoder {
    charset: Charset,
    held: Vec<u8>,
}

enum Charset {
    /// Also US-ASCII, what is not known, and what is not said.
    Utf8,
    /// With the order of octets, once it is known.
    Utf16(Option<Order>),
    Lines {
        decoder: DecoderFnc,
        /// ASCII is not always ASCII.
        shifts: bool,
    },
}

#[derive(Clone, Copy)]
enum Order {
    Big,
    Little,
}

impl TextDecoder {
    /// For text of this charset, in lower case; empty where none is named.
    pub(super) fn new(charset: &str) -> TextDecoder {
        let charset = match charset {
            "" | "utf-8" | "utf8" | "us-ascii" | "ascii" => Charset::Utf8,
            "utf-16" => Charset::Utf16(None),
            "utf-16be" => Charset::Utf16(Some(Order::Big)),
            "utf-16le" => Charset::Utf16(Some(Order::Little)),
            other => match charset_decoder(other.as_bytes()) {
                Some(decoder) => Charset::Lines { decoder, shifts: shifts(other) },
                None => Charset::Utf8,
            },
        };
        TextDecoder { charset, held: Vec::new() }
    }

    /// Adds the text of the next octets, as far as it is known by now.
    pub(super) fn push(&mut self, octets: &[u8], text: &mut String) {
        let can_be_copied = match self.charset {
            Charset::Utf8 => true,
            Charset::Lines { shifts, .. } => !shifts,
            Charset::Utf16(_) => false,
        };
        if can_be_copied && self.held.is_empty() && octets.is_ascii() {
            text.push_str(&String::from_utf8_lossy(octets));
            return;
        }
        self.held.extend_from_slice(octets);
        let cut = match &mut self.charset {
            Charset::Utf8 => whole_characters(&self.held),
            Charset::Utf16(order) => return decode_utf16(order, &mut self.held, text),
            Charset::Lines { .. } => match memchr::memrchr(b'\n', &self.held) {
                Some(last) => last + 1,
                None if self.held.len() > LINE_OCTETS_MAX => self.held.len(),
                None => 0,
            },
        };
        self.decode(cut, text);
    }

    /// Adds the text of what is left.
    pub(super) fn finish(&mut self, text: &mut String) {
        if !matches!(self.charset, Charset::Utf16(_)) {
            self.decode(self.held.len(), text);
        }
    }

    fn decode(&mut self, cut: usize, text: &mut String) {
        if cut == 0 {
            return;
        }
        let octets = self.held.get(..cut).unwrap_or_default();
        match self.charset {
            Charset::Lines { decoder, .. } => text.push_str(&decoder(octets)),
            Charset::Utf8 | Charset::Utf16(_) => text.push_str(&String::from_utf8_lossy(octets)),
        }
        self.held.drain(..cut);
    }
}

/// Charsets that write other scripts in octets of ASCII.
fn shifts(charset: &str) -> bool {
    ["utf-7", "hz", "iso-2022"].iter().any(|beginning| charset.starts_with(beginning))
}

/// How many octets do not end within a character.
fn whole_characters(octets: &[u8]) -> usize {
    let from = octets.len().saturating_sub(3);
    let tail = octets.get(from..).unwrap_or_default();
    let begins = tail.iter().rposition(|octet| octet & 0xc0 != 0x80);
    let needs = |octet: &u8| match octet {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    };
    match begins {
        Some(at) if tail.get(at).map_or(1, needs) > tail.len() - at => from + at,
        _ => octets.len(),
    }
}

/// RFC 2781: the first character may tell the order of octets, and without one it is that of the network.
fn decode_utf16(order: &mut Option<Order>, held: &mut Vec<u8>, text: &mut String) {
    let mut at = 0;
    if order.is_none() && held.len() >= 2 {
        *order = Some(if held.starts_with(b"\xff\xfe") { Order::Little } else { Order::Big });
        at = if held.starts_with(b"\xff\xfe") || held.starts_with(b"\xfe\xff") { 2 } else { 0 };
    }
    let Some(order) = *order else { return };
    let unit = |pair: &[u8]| {
        let pair = <[u8; 2]>::try_from(pair).unwrap_or_default();
        match order {
            Order::Big => u16::from_be_bytes(pair),
            Order::Little => u16::from_le_bytes(pair),
        }
    };
    let mut units: Vec<u16> = held.get(at..).unwrap_or_default().chunks_exact(2).map(unit).collect();
    // The second half of a pair is still to come.
    if units.last().is_some_and(|unit| (0xd800..0xdc00).contains(unit)) {
        units.pop();
    }
    text.extend(char::decode_utf16(units.iter().copied()).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)));
    held.drain(..at + units.len() * 2);
}
