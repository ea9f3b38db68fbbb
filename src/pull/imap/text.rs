//! Text as IMAP writes it.

use base64::Engine;
use base64::alphabet::IMAP_MUTF7;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use std::fmt::Write;
use zeroize::Zeroizing;

/// As a quoted string, if it can be one.
pub(super) fn quoted(text: &str) -> Option<Zeroizing<String>> {
    let fits = text.bytes().all(|octet| (b' '..=b'~').contains(&octet));
    let mut quoted = Zeroizing::new(String::with_capacity(text.len() * 2 + 2));
    quoted.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    fits.then_some(quoted)
}

/// The name of a folder in modified UTF-7 (RFC 3501 §5.1.3), as it stands in a quoted string.
pub(super) fn folder_name(name: &str) -> String {
    let engine = GeneralPurpose::new(&IMAP_MUTF7, NO_PAD);
    let mut encoded = String::new();
    let mut shifted: Vec<u8> = Vec::new();
    let flush = |shifted: &mut Vec<u8>, encoded: &mut String| {
        if !shifted.is_empty() {
            // Writing to a String cannot fail.
            write!(encoded, "&{}-", engine.encode(&*shifted)).unwrap_or_default();
            shifted.clear();
        }
    };
    for c in name.chars() {
        match c {
            ' '..='~' => {
                flush(&mut shifted, &mut encoded);
                match c {
                    '&' => encoded.push_str("&-"),
                    '"' | '\\' => encoded.extend(['\\', c]),
                    _ => encoded.push(c),
                }
            }
            _ => {
                let mut units = [0; 2];
                shifted.extend(c.encode_utf16(&mut units).iter().flat_map(|unit| unit.to_be_bytes()));
            }
        }
    }
    flush(&mut shifted, &mut encoded);
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_folders_are_written_as_servers_know_them() {
        assert_eq!(folder_name("INBOX"), "INBOX");
        assert_eq!(folder_name("Zurückgewiesen & mehr"), "Zur&APw-ckgewiesen &- mehr");
        assert_eq!(folder_name("~peter/mail/台北/日本語"), "~peter/mail/&U,BTFw-/&ZeVnLIqe-");
        assert_eq!(folder_name("a\"b\\c"), "a\\\"b\\\\c");
    }

    #[test]
    fn credentials_are_quoted_or_sent_as_literals() {
        assert_eq!(quoted("a\"b\\c").unwrap().as_str(), "\"a\\\"b\\\\c\"");
        assert!(quoted("pässwort").is_none() && quoted("a\r\nb").is_none());
    }
}
