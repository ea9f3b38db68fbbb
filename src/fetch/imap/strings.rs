//! Strings as IMAP writes them: quoted where that is allowed and short, else literals.

/// What stands for an octet NUL, which no IMAP string may hold: the replacement character, in UTF-8.
const FOR_NUL: &[u8] = "\u{fffd}".as_bytes();
/// Quotes and backslashes above which a literal is the shorter form.
const ESCAPES_MAX: usize = 4;

/// Writes a string (RFC 3501 §4.3): quoted when it is printable ASCII, else a literal. No octet of it can end a line.
pub(super) fn string(out: &mut Vec<u8>, text: &[u8]) {
    let printable = text.iter().all(|b| matches!(b, b' '..=b'~' | b'\t'));
    let escapes = text.iter().filter(|b| needs_escape(**b)).count();
    if printable && escapes <= ESCAPES_MAX {
        out.push(b'"');
        for &octet in text {
            if needs_escape(octet) {
                out.push(b'\\');
            }
            out.push(octet);
        }
        out.push(b'"');
        return;
    }
    let nuls = text.iter().filter(|b| **b == 0).count();
    literal_start(out, (text.len() + nuls * (FOR_NUL.len() - 1)) as u64);
    for (number, piece) in text.split(|b| *b == 0).enumerate() {
        if number > 0 {
            out.extend_from_slice(FOR_NUL);
        }
        out.extend_from_slice(piece);
    }
}

/// Writes a string, or NIL when there is none.
pub(super) fn nstring(out: &mut Vec<u8>, text: Option<&[u8]>) {
    match text {
        Some(text) => string(out, text),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// Writes a string meant for people's eyes: runs of blanks are one blank, none are at its ends.
pub(super) fn string_for_people(out: &mut Vec<u8>, text: &[u8]) {
    let words = text.split(|b| is_blank(*b)).filter(|word| !word.is_empty());
    string(out, &words.collect::<Vec<_>>().join(&b' '));
}

/// Writes what announces a literal of so many octets.
pub(super) fn literal_start(out: &mut Vec<u8>, octets: u64) {
    out.extend_from_slice(format!("{{{octets}}}\r\n").as_bytes());
}

/// Writes a string without quotes where it can stand so (`astring`), in upper case: the name of a header field.
pub(super) fn upper_case_name(out: &mut Vec<u8>, name: &[u8]) {
    let name = name.to_ascii_uppercase();
    let plain =
        |b: &u8| b.is_ascii_graphic() && !matches!(b, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\');
    if !name.is_empty() && name != b"NIL" && name.iter().all(plain) {
        out.extend_from_slice(&name);
    } else {
        string(out, &name);
    }
}

fn needs_escape(octet: u8) -> bool {
    matches!(octet, b'"' | b'\\')
}

/// What separates words.
pub(super) fn is_blank(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(write: fn(&mut Vec<u8>, &[u8]), text: &[u8], expect: &str) {
        let mut out = Vec::new();
        write(&mut out, text);
        assert_eq!(String::from_utf8_lossy(&out), expect);
    }

    #[test]
    fn strings_are_quoted_where_they_may_be() {
        check(string, b"", "\"\"");
        check(string, b"a \"b\" \\", "\"a \\\"b\\\" \\\\\"");
        check(string, b"\"\"\"\"\"", "{5}\r\n\"\"\"\"\"");
        check(string, "zoë".as_bytes(), "{4}\r\nzoë");
        check(string, b"a\r\n* BYE", "{8}\r\na\r\n* BYE");
        check(string, b"\x7f\x1b", "{2}\r\n\x7f\x1b");
        check(string, b"a\0b\0", "{8}\r\na\u{fffd}b\u{fffd}");
        check(string_for_people, b" a \t b\r\n c ", "\"a b c\"");
        check(upper_case_name, b"x-Spam", "X-SPAM");
        check(upper_case_name, b"nil", "\"NIL\"");
        check(upper_case_name, b"a (b", "\"A (B\"");
    }
}
