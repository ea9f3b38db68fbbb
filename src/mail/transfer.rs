//! Transfer decoding in pushes, for messages that came wrapped in base64 or quoted-printable.
//!
//! Tolerant as RFC 2045 asks: octets outside the base64 alphabet are skipped, padding may stand between joined
//! streams, an `=` that introduces nothing stays as it is. The output depends on the octets only, never on how they
//! were cut into pushes: the store decodes again from the sealed source and must get the same digest.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};

/// Longest run of blanks held back at a possible line end (they are not content there, RFC 2045 §6.7 rule 3).
const BLANKS_HELD_MAX: usize = 64 * 1024;

/// A transfer encoding that changes octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// RFC 2045 §6.8
    Base64,
    /// RFC 2045 §6.7
    QuotedPrintable,
}

impl Encoding {
    /// The name used in Content-Transfer-Encoding.
    pub fn as_str(self) -> &'static str {
        match self {
            Encoding::Base64 => "base64",
            Encoding::QuotedPrintable => "quoted-printable",
        }
    }
}

/// Decodes one transfer-encoded body, chunk by chunk.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// Up to three characters of an unfinished group, as their 6-bit values.
    Base64 {
        bits: u32,
        characters: u8,
    },
    QuotedPrintable {
        held: Vec<u8>,
    },
}

impl Decoder {
    /// A decoder for the body of one part.
    pub fn new(encoding: Encoding) -> Decoder {
        let state = match encoding {
            Encoding::Base64 => State::Base64 { bits: 0, characters: 0 },
            Encoding::QuotedPrintable => State::QuotedPrintable { held: Vec::new() },
        };
        Decoder { state }
    }

    /// Decodes the next octets and appends what they give to `out`.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        match &mut self.state {
            State::Base64 { bits, characters } => push_base64(bits, characters, chunk, out),
            State::QuotedPrintable { held } => push_quoted_printable(held, chunk, out),
        }
    }

    /// Ends the body: appends what an unfinished group or escape still holds.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        match &mut self.state {
            State::Base64 { bits, characters } => end_group(bits, characters, out),
            State::QuotedPrintable { held } => {
                // Blanks at the very end are at a line end too, and a lone `=` there is a soft break.
                if held.first() == Some(&b'=') && !is_soft_break_start(held) {
                    out.extend_from_slice(held);
                }
            }
        }
    }
}

fn push_base64(bits: &mut u32, characters: &mut u8, chunk: &[u8], out: &mut Vec<u8>) {
    for line in chunk.split_inclusive(|&b| b == b'\n') {
        let text = line.trim_ascii_end();
        // Whole clean groups, which is nearly every line, take the fast way.
        if *characters == 0 && text.len().is_multiple_of(4) {
            let before = out.len();
            if STANDARD_NO_PAD.decode_vec(text, out).is_ok() {
                continue;
            }
            out.truncate(before);
        }
        for &byte in text {
            match sextet(byte) {
                Some(value) => {
                    *bits = *bits << 6 | u32::from(value);
                    *characters += 1;
                    if *characters == 4 {
                        let [_, a, b, c] = bits.to_be_bytes();
                        out.extend_from_slice(&[a, b, c]);
                        (*bits, *characters) = (0, 0);
                    }
                }
                None if byte == b'=' => end_group(bits, characters, out),
                None => {}
            }
        }
    }
}

fn end_group(bits: &mut u32, characters: &mut u8, out: &mut Vec<u8>) {
    let [_, a, b, _] = (*bits << (6 * (4 - u32::from(*characters).min(4)))).to_be_bytes();
    match *characters {
        2 => out.push(a),
        3 => out.extend_from_slice(&[a, b]),
        _ => {}
    }
    (*bits, *characters) = (0, 0);
}

fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// `held` is empty, a run of blanks, or the start of an escape: `=`, `=X`, `=` with blanks, `=` with blanks and CR.
fn push_quoted_printable(held: &mut Vec<u8>, chunk: &[u8], out: &mut Vec<u8>) {
    let mut rest = chunk;
    while let [byte, tail @ ..] = rest {
        if held.is_empty() {
            let plain = rest.iter().position(|b| matches!(b, b'=' | b' ' | b'\t')).unwrap_or(rest.len());
            if plain > 0 {
                let (head, tail) = rest.split_at(plain);
                out.extend_from_slice(head);
                rest = tail;
                continue;
            }
            held.push(*byte);
            rest = tail;
        } else if held.first() == Some(&b'=') {
            if escape_takes(held, *byte, out) {
                rest = tail;
            }
        } else {
            match byte {
                b' ' | b'\t' if held.len() < BLANKS_HELD_MAX => {
                    held.push(*byte);
                    rest = tail;
                }
                // Blanks before a line end were added by a transport.
                b'\r' | b'\n' => held.clear(),
                _ => out.append(held),
            }
        }
    }
}

/// Feeds one octet to an open escape. False when the octet does not belong to it and must be looked at again.
fn escape_takes(held: &mut Vec<u8>, byte: u8, out: &mut Vec<u8>) -> bool {
    match (held.as_slice(), byte) {
        ([b'='], _) if hex(byte).is_some() => {
            held.push(byte);
            true
        }
        ([b'=', high], _) if hex(*high).is_some() => {
            if let (Some(high), Some(low)) = (hex(*high), hex(byte)) {
                out.push(high << 4 | low);
                held.clear();
                return true;
            }
            out.append(held);
            false
        }
        (_, b'\n') => {
            held.clear();
            true
        }
        (_, b' ' | b'\t' | b'\r') if held.last() != Some(&b'\r') && held.len() < BLANKS_HELD_MAX => {
            held.push(byte);
            true
        }
        _ => {
            out.append(held);
            false
        }
    }
}

fn is_soft_break_start(held: &[u8]) -> bool {
    matches!(held, [b'=', rest @ ..] if rest.iter().all(|b| matches!(b, b' ' | b'\t' | b'\r')))
}

/// The value of a hexadecimal digit of either case.
pub fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Decodes a whole body that is already in memory.
pub fn decoded(encoding: Encoding, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut decoder = Decoder::new(encoding);
    decoder.push(body, &mut out);
    decoder.finish(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(encoding: Encoding, input: &str, expect: &str) {
        assert_eq!(String::from_utf8_lossy(&decoded(encoding, input.as_bytes())), expect, "{input:?}");
    }

    #[test]
    fn base64_skips_junk_and_joins_streams() {
        for (input, expect) in [
            ("SGVsbG8=", "Hello"),
            ("SGVs\r\nbG8=\r\n", "Hello"),
            ("S GV!s\nb-G8", "Hello"),
            ("SGk=SGk=", "HiHi"),
            ("SGVsbG8", "Hello"),
            ("S", ""),
            ("", ""),
            ("====", ""),
        ] {
            check(Encoding::Base64, input, expect);
        }
    }

    #[test]
    fn quoted_printable_takes_soft_breaks_and_keeps_what_is_no_escape() {
        for (input, expect) in [
            ("a=3Db=c3=BC", "a=bü"),
            ("soft=\r\nbreak=  \nagain", "softbreakagain"),
            ("trailing \t \r\nblank", "trailing\r\nblank"),
            ("in  side", "in  side"),
            ("=ZZ =4", "=ZZ =4"),
            ("=4Z", "=4Z"),
            ("end=", "end"),
            ("a= b", "a= b"),
            ("=\r\r\n", "=\r\r\n"),
        ] {
            check(Encoding::QuotedPrintable, input, expect);
        }
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same(
            body in proptest::collection::vec(prop_oneof![Just(b'='), Just(b'\r'), Just(b'\n'), Just(b' '), Just(b'4'), any::<u8>()], 0..200),
            size in 1_usize..9, base64: bool
        ) {
            let encoding = if base64 { Encoding::Base64 } else { Encoding::QuotedPrintable };
            let (mut decoder, mut out) = (Decoder::new(encoding), Vec::new());
            body.chunks(size).for_each(|chunk| decoder.push(chunk, &mut out));
            decoder.finish(&mut out);
            prop_assert_eq!(out, decoded(encoding, &body));
        }

        #[test]
        fn base64_round_trips(body: Vec<u8>) {
            let text = base64::engine::general_purpose::STANDARD.encode(&body);
            let lines: String = text.as_bytes().chunks(76).map(|l| String::from_utf8_lossy(l).into_owned() + "\r\n").collect();
            prop_assert_eq!(decoded(Encoding::Base64, lines.as_bytes()), body);
        }
    }
}
