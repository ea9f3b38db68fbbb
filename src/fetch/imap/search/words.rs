//! Encoded words in header fields (RFC 2047), decoded for comparison.
//!
//! Tolerant, since a message that is not found is as good as lost: words inside of quotes and glued to other text are decoded
//! too, and a character that was cut between two words of one charset is put together again.

use crate::mail::transfer::{Encoding, decoded as transfer_decoded};
use mail_parser::decoders::charsets::map::charset_decoder;

/// An encoded word: its charset, and its octets in that.
struct Word<'a> {
    charset: &'a [u8],
    octets: Vec<u8>,
}

/// An unfolded value as text.
pub(super) fn decoded(value: &[u8]) -> String {
    let mut text = String::with_capacity(value.len());
    // Words of one charset that follow each other, not decoded yet.
    let mut open: Option<Word<'_>> = None;
    let mut rest = value;
    while !rest.is_empty() {
        let begins = memchr::memmem::find(rest, b"=?").unwrap_or(rest.len());
        let (plain, word) = rest.split_at_checked(begins).unwrap_or((rest, b""));
        // Blanks between two encoded words are no part of the text.
        let between = open.is_some() && plain.iter().all(|octet| matches!(octet, b' ' | b'\t'));
        match read_word(word) {
            Some((found, after)) => {
                if !between {
                    close(&mut open, &mut text);
                    text.push_str(&String::from_utf8_lossy(plain));
                }
                add(&mut open, found, &mut text);
                rest = after;
            }
            None => {
                close(&mut open, &mut text);
                // What looked like a beginning is text.
                let (plain, after) = rest.split_at_checked(begins + 2).unwrap_or((rest, b""));
                text.push_str(&String::from_utf8_lossy(plain));
                rest = after;
            }
        }
    }
    close(&mut open, &mut text);
    text
}

fn add<'a>(open: &mut Option<Word<'a>>, found: Word<'a>, text: &mut String) {
    match open {
        Some(word) if word.charset.eq_ignore_ascii_case(found.charset) => word.octets.extend(found.octets),
        _ => {
            close(open, text);
            *open = Some(found);
        }
    }
}

fn close(open: &mut Option<Word<'_>>, text: &mut String) {
    let Some(word) = open.take() else { return };
    match charset_decoder(word.charset) {
        Some(decoder) if !is_utf8(word.charset) => text.push_str(&decoder(&word.octets)),
        _ => text.push_str(&String::from_utf8_lossy(&word.octets)),
    }
}

/// The standard library is quicker at this, and says more clearly what it cannot read.
fn is_utf8(charset: &[u8]) -> bool {
    charset.eq_ignore_ascii_case(b"utf-8") || charset.eq_ignore_ascii_case(b"utf8")
}

/// The word that begins here, and what follows it. Looks no further than the next question mark that belongs to no word, so
/// that a header full of beginnings costs no more than its length.
fn read_word(text: &[u8]) -> Option<(Word<'_>, &[u8])> {
    let (charset, rest) = before_question_mark(text.strip_prefix(b"=?")?)?;
    // RFC 2231 §5: a language may follow the charset.
    let charset = charset.split(|octet| *octet == b'*').next().filter(|charset| !charset.is_empty())?;
    let (encoding, rest) = before_question_mark(rest)?;
    let (data, rest) = before_question_mark(rest)?;
    let rest = rest.strip_prefix(b"=")?;
    let octets = match encoding {
        b"b" | b"B" => transfer_decoded(Encoding::Base64, data),
        b"q" | b"Q" => {
            let data: Vec<u8> = data.iter().map(|octet| if *octet == b'_' { b' ' } else { *octet }).collect();
            // Blanks at the end of a line are not part of a body; here they are part of the text.
            let kept = data.trim_ascii_end();
            let mut octets = transfer_decoded(Encoding::QuotedPrintable, kept);
            octets.extend(std::iter::repeat_n(b' ', data.len() - kept.len()));
            octets
        }
        _ => return None,
    };
    Some((Word { charset, octets }, rest))
}

fn before_question_mark(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let ends = memchr::memchr(b'?', text)?;
    Some((text.get(..ends)?, text.get(ends + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_decoded_wherever_they_stand() {
        for (value, expect) in [
            ("plain", "plain"),
            ("=?utf-8?q?Gr=C3=BC=C3=9Fe?= an =?iso-8859-1?Q?alle=5F?=", "Grüße an alle_"),
            ("=?utf-8?B?R3LDvA==?= \t =?utf-8?B?w59l?=", "Grüße"),
            // One character cut between two words.
            ("=?utf-8?B?R3LD?= =?UTF-8?B?vMOfZQ==?=", "Grüße"),
            ("=?utf-8*de?q?a_?==?utf-8?q?_b?=", "a  b"),
            ("\"=?utf-8?q?in_quotes?=\" <a@b>", "\"in quotes\" <a@b>"),
            ("=?iso-2022-jp?B?GyRCJU8lbSE8GyhC?=", "ハロー"),
            ("=?x-unknown?q?as_is?=", "as is"),
            ("=?utf-8?x?no?= =?utf-8?q?open", "=?utf-8?x?no?= =?utf-8?q?open"),
            ("=? =?? =???= =?a?q?=", "=? =?? =???= =?a?q?="),
            ("=?a?q??= b", " b"),
        ] {
            assert_eq!(decoded(value.as_bytes()), expect, "{value}");
        }
    }

    #[test]
    fn a_header_full_of_beginnings_takes_no_longer_than_its_length() {
        for beginning in ["=?", "=?a?", "=?a?q?", "=?a?q?b?"] {
            let value = beginning.repeat(1_000_000 / beginning.len());
            let begun = std::time::Instant::now();
            decoded(value.as_bytes());
            assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{beginning}");
        }
    }
}
