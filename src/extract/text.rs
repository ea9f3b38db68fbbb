//! The text of a report part: transfer decoding, charset, HTML, on one bounded part.
//!
//! Recipient lines are ASCII in nearly every report; the subject is not. So lines are decoded one by one: a charset
//! with shift states cannot swallow the lines behind a subject that never shifts back, and a wrong charset spoils
//! only the lines that need one.

use super::defect::{DefectKind, Defects};
use super::header::{Head, Transfer};
use crate::mail::transfer::decoded;
use mail_parser::decoders::charsets::map::charset_decoder;

/// Stands for the charset of a part that names none: US-ASCII (RFC 2045 §5.2), in practice UTF-8.
const UNNAMED: &str = "";

/// Decodes the body of a report part to text with LF line ends.
pub(super) fn report_text(head: &Head, body: &[u8], defects: &mut Defects) -> String {
    let bytes = match head.transfer {
        Transfer::Encoded(encoding) => decoded(encoding, body),
        Transfer::Identity => body.to_vec(),
        Transfer::Unknown => {
            defects.note(DefectKind::UnsupportedEncoding, || "report text".into());
            body.to_vec()
        }
    };
    let text = decode_charset(&bytes, head.charset.as_deref().unwrap_or(UNNAMED), defects);
    if text.contains(is_stray) {
        defects.note(DefectKind::ControlCharacters, || "report text".into());
    }
    // No address can hold NUL, however it is sent: those in a text come from a wide charset or from damage on the way.
    if text.contains('\0') { text.replace('\0', "") } else { text }
}

/// Marks and controls that would hide a field name from the parser. In an address they are characters like any other: without them
/// it would be somebody else's.
pub(super) fn is_stray(c: char) -> bool {
    is_control(c) || matches!(c, '\u{feff}' | '\u{200b}'..='\u{200f}')
}

/// Of those, the ones that no address ends in, since none that can be sent holds them.
pub(super) fn is_control(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{e}'..='\u{1f}' | '\u{7f}')
}

fn decode_charset(bytes: &[u8], charset: &str, defects: &mut Defects) -> String {
    let decoder = charset_decoder(charset.as_bytes());
    if decoder.is_none() && !is_utf8(charset) && charset != UNNAMED {
        defects.note(DefectKind::CharsetUnknown, || "report text".into());
    }
    // Wide characters: line ends are two octets. A report that only claims to be UTF-16 has no NUL in it.
    let wide =
        if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") { Some("utf-16") } else { None };
    if let Some(wide) = wide.or(Some(charset).filter(|c| c.starts_with("utf-16")))
        && memchr::memchr(0, bytes).is_some()
        && let Some(decoder) = charset_decoder(wide.as_bytes())
    {
        return decoder(bytes);
    }
    let mut text = String::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|&b| b == b'\n') {
        match (std::str::from_utf8(line), decoder) {
            (Ok(plain), _) if line.is_ascii() && !line.contains(&0x1b) && !shifts_without_escape(charset) => {
                text.push_str(plain);
            }
            (Ok(utf8), _) if !line.is_ascii() && (is_utf8(charset) || !is_multibyte(charset)) => {
                // Text that is not UTF-8 is practically never valid UTF-8 by chance, in a single-octet charset.
                if !is_utf8(charset) && charset != UNNAMED {
                    defects.note(DefectKind::CharsetMismatch, || "report text".into());
                }
                text.push_str(utf8);
            }
            (_, Some(decoder)) => {
                let (body, end) = match line {
                    [body @ .., b'\r', b'\n'] => (body, "\n"),
                    [body @ .., b'\n'] => (body, "\n"),
                    body => (body, ""),
                };
                let decoded = decoder(body);
                if decoded.contains('\u{fffd}') {
                    defects.note(DefectKind::CharsetMismatch, || "report text".into());
                }
                // A line break that only the charset produced would forge a line.
                text.extend(decoded.chars().map(|c| if matches!(c, '\r' | '\n') { ' ' } else { c }));
                text.push_str(end);
            }
            (_, None) => {
                defects.note(DefectKind::CharsetMismatch, || "report text".into());
                text.push_str(&String::from_utf8_lossy(line));
            }
        }
    }
    text
}

fn is_utf8(charset: &str) -> bool {
    matches!(charset, "utf-8" | "utf8")
}

fn is_multibyte(charset: &str) -> bool {
    [
        "gb",
        "big5",
        "euc-",
        "shift",
        "sjis",
        "x-sjis",
        "ks_c",
        "iso-2022",
        "hz",
        "cp932",
        "windows-31j",
        "utf-7",
    ]
    .iter()
    .any(|start| charset.starts_with(start))
}

/// Charsets that write other scripts in plain ASCII without an escape character.
fn shifts_without_escape(charset: &str) -> bool {
    charset.starts_with("utf-7") || charset.starts_with("hz")
}

/// The text of an HTML body, with a line break wherever a reader would see one.
pub(super) fn html_text(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some((before, tag)) = rest.split_once('<') {
        push_unescaped(&mut text, before);
        let (name, after) = tag.split_once('>').unwrap_or((tag, ""));
        rest = after;
        if let Some(comment) = name.strip_prefix("!--") {
            if !comment.ends_with("--") {
                rest = tag.split_once("-->").map_or("", |(_, after)| after);
            }
            continue;
        }
        let name: String = name
            .trim_start_matches('/')
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect::<String>()
            .to_ascii_lowercase();
        match name.as_str() {
            "br" | "p" | "div" | "tr" | "li" | "table" | "body" | "html" | "pre" | "td" => text.push('\n'),
            _ => {}
        }
    }
    push_unescaped(&mut text, rest);
    text
}

/// Appends text with the entities an address can need resolved.
fn push_unescaped(text: &mut String, raw: &str) {
    const ENTITY_OCTETS_MAX: usize = 12;
    let mut rest = raw;
    while let Some((before, entity)) = rest.split_once('&') {
        text.push_str(before);
        let end = entity.bytes().take(ENTITY_OCTETS_MAX).position(|b| b == b';');
        let resolved = end.and_then(|end| Some((entity_char(entity.get(..end)?)?, entity.get(end + 1..)?)));
        match resolved {
            Some((c, after)) => {
                text.push(c);
                rest = after;
            }
            None => {
                text.push('&');
                rest = entity;
            }
        }
    }
    text.push_str(rest);
}

fn entity_char(name: &str) -> Option<char> {
    let code = match name {
        "lt" => return Some('<'),
        "gt" => return Some('>'),
        "amp" => return Some('&'),
        "quot" => return Some('"'),
        "apos" => return Some('\''),
        "nbsp" => return Some(' '),
        _ => name.strip_prefix('#')?,
    };
    let code = match code.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => code.parse().ok()?,
    };
    char::from_u32(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(charset: &str, body: &[u8], expect: &str) {
        let head = Head { charset: Some(charset.into()), ..Head::default() };
        assert_eq!(report_text(&head, body, &mut Defects::default()), expect, "{charset}");
    }

    #[test]
    fn charsets_right_wrong_and_unknown_leave_ascii_lines_readable() {
        check("iso-2022-jp", b"S: \x1b$B4A;z\x1b(B\nTo: a@b\n", "S: 漢字\nTo: a@b\n");
        // Never shifts back.
        check("iso-2022-jp", b"S: \x1b$B4A;z\nTo: a@b\n", "S: 漢字\nTo: a@b\n");
        check("utf-8", "S: ü\r\nTo: a@b".as_bytes(), "S: ü\r\nTo: a@b");
        check("us-ascii", "S: ü\n".as_bytes(), "S: ü\n");
        check("iso-8859-1", b"S: \xfc\nTo: a@b\n", "S: ü\nTo: a@b\n");
        check("utf-8", b"S: \xfc\nTo: a@b\n", "S: \u{fffd}\nTo: a@b\n");
        check("no-such", b"S: \xfc\nTo: a@b\n", "S: \u{fffd}\nTo: a@b\n");
        check("utf-16", b"To: a@b\n", "To: a@b\n");
        check("utf-16le", b"T\0o\0:\0a\0\n\0", "To:a\n");
        check("shift_jis", b"S: \x8a\xbf\x8e\x9a\nTo: a@b\n", "S: 漢字\nTo: a@b\n");
        check("utf-8", b"\xef\xbb\xbfTo: a\0@b\n", "\u{feff}To: a@b\n");
    }

    #[test]
    fn html_gives_lines_and_addresses() {
        assert_eq!(
            html_text(
                "<html><!-- <p>x</p> --><p>Sender: &lt;a@b&gt;<br/>To:&nbsp;c&#64;d &amp; &nope; &</p>"
            ),
            "\n\nSender: <a@b>\nTo: c@d & &nope; &\n"
        );
        assert_eq!(html_text("<unclosed"), "");
    }
}
