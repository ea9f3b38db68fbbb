//! What is said, as text: lines, quoted strings, and the names of folders in modified UTF-7 (RFC 3501 §5.1.3).
//!
//! Nothing a client sent stands in a line but its tag, which was found to be one.

use super::super::step::Output;
use base64::Engine;
use base64::alphabet::IMAP_MUTF7;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};

const MODIFIED_BASE64: GeneralPurpose = GeneralPurpose::new(&IMAP_MUTF7, NO_PAD);

/// Appends a line.
pub(super) fn say(output: &mut Output, line: &str) {
    output.extend_from_slice(line.as_bytes());
    output.extend_from_slice(b"\r\n");
}

/// The line that ends a command.
pub(super) fn tagged(tag: &str, answer: &str) -> Output {
    format!("{tag} {answer}\r\n").into_bytes()
}

/// Puts what is said about a command before the line that ends it.
pub(super) fn ended(mut output: Output, tag: &str, answer: &str) -> Output {
    output.extend_from_slice(&tagged(tag, answer));
    output
}

/// A folder's path as clients are told it: quoted, in modified UTF-7.
pub(super) fn mailbox(path: &str) -> String {
    quoted(&to_utf7(path))
}

/// A quoted string of printable ASCII; other characters are left out.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars().filter(|c| matches!(c, ' '..='~')) {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

fn to_utf7(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    let mut beyond: Vec<u8> = Vec::new();
    for c in text.chars() {
        if !matches!(c, ' '..='~') {
            let mut units = [0; 2];
            beyond.extend(c.encode_utf16(&mut units).iter().flat_map(|unit| unit.to_be_bytes()));
            continue;
        }
        end_shift(&mut beyond, &mut written);
        written.push(c);
        if c == '&' {
            written.push('-');
        }
    }
    end_shift(&mut beyond, &mut written);
    written
}

fn end_shift(beyond: &mut Vec<u8>, written: &mut String) {
    if !beyond.is_empty() {
        written.push('&');
        MODIFIED_BASE64.encode_string(&beyond, written);
        written.push('-');
        beyond.clear();
    }
}

/// What a client means by a folder's name: modified UTF-7, and where it is none UTF-8. `None` when it is neither.
pub(super) fn from_mailbox(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    Some(from_utf7(name).unwrap_or_else(|| name.to_owned()))
}

fn from_utf7(name: &str) -> Option<String> {
    let mut pieces = name.split('&');
    let mut text = pieces.next()?.to_owned();
    for piece in pieces {
        let (shifted, plain) = piece.split_once('-')?;
        if shifted.is_empty() {
            text.push('&');
        } else {
            let octets = MODIFIED_BASE64.decode(shifted).ok()?;
            let (units, rest) = octets.as_chunks::<2>();
            if !rest.is_empty() {
                return None;
            }
            let units: Vec<u16> = units.iter().map(|unit| u16::from_be_bytes(*unit)).collect();
            text.push_str(&String::from_utf16(&units).ok()?);
        }
        text.push_str(plain);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_written_in_modified_utf_7() {
        // The examples of RFC 3501 §5.1.3.
        assert_eq!(mailbox("~peter/mail/台北/日本語"), "\"~peter/mail/&U,BTFw-/&ZeVnLIqe-\"");
        assert_eq!(from_mailbox(b"~peter/mail/&U,BTFw-/&ZeVnLIqe-").unwrap(), "~peter/mail/台北/日本語");
        assert_eq!(mailbox("R&D \"x\" \\ \u{1f600}"), "\"R&-D \\\"x\\\" \\\\ &2D3eAA-\"");
        assert_eq!(from_mailbox("Zo\u{eb}".as_bytes()).unwrap(), "Zo\u{eb}");
        assert_eq!(from_mailbox(b"a & b").unwrap(), "a & b");
        assert_eq!(from_mailbox(b"\xff"), None);
    }

    proptest! {
        #[test]
        fn names_come_back(name in ".{0,40}") {
            let written = to_utf7(&name);
            prop_assert!(written.bytes().all(|octet| (b' '..=b'~').contains(&octet)));
            prop_assert_eq!(from_mailbox(written.as_bytes()), Some(name));
        }
    }
}
