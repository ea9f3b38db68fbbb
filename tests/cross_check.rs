//! Our scanner and `mail-parser` find the same parts, with the same bodies, in every well-formed message of the corpus.
//!
//! A message is well-formed when its structure is lawful, all the way in. Where the two differ even then, either the difference is of
//! a kind named here, or the message's expectation explains it: `"cross_check": {"mail-parser": "why"}`. An explanation or a kind
//! that is not needed any more fails too. Python's `email` is asked the same in `tests/real/python_email.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "counts are to be read")]

#[path = "support/corpus.rs"]
mod corpus;
#[path = "support/extracted.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod extracted;
#[path = "support/parts.rs"]
mod parts;

use daybook::extract::Part;
use mail_parser::{Encoding, Message, MessageParser, PartType};
use parts::{Comparison, Excuse, FILE_READ_AS_MESSAGE, Kind, Theirs, boundary, sha256, well_formed};

/// Messages of the corpus that must agree at least.
const AGREE_MIN: usize = 50;

/// Where `mail-parser` is known to differ. `tests/departures/mail_parser.rs` shows the second.
const EXCUSES: &[Excuse] = &[
    FILE_READ_AS_MESSAGE,
    ("a boundary taken for a delimiter inside a line or another word", |message, _| {
        well_formed(message).is_some_and(|whole| has_boundary_in_text(message, &whole))
    }),
    ("a message part in an unknown transfer encoding, which is none for it", |_, part| {
        part.message.is_none()
            && String::from_utf8_lossy(&part.header).to_ascii_lowercase().contains("uuencode")
    }),
];

/// One message for each kind of difference.
const EXAMPLES: [&str; 3] = [
    "X-MS-Journal-Report:\r\nContent-Type: multipart/mixed; boundary=w\r\n\r\n--w\r\n\
     Content-Type: application/octet-stream; name=a.eml\r\n\r\nSubject: s\r\n\r\nx\r\n--w--\r\n",
    "Content-Type: multipart/mixed; boundary=w\r\n\r\n--w\r\n\r\n> --w\r\n--wide\r\n--w--\r\n",
    "Content-Type: multipart/mixed; boundary=w\r\n\r\n--w\r\nContent-Type: message/rfc822\r\n\
     Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 a\r\n\r\nend\r\n--w--\r\n",
];

/// Some open boundary stands where it is no delimiter.
fn has_boundary_in_text(message: &[u8], whole: &Part) -> bool {
    let mut todo = vec![whole];
    while let Some(part) = todo.pop() {
        todo.extend(part.children.iter().chain(part.message.as_deref()));
        let Some(delimiter) = boundary(part).map(|boundary| format!("--{boundary}")) else { continue };
        let in_text = message.split(|octet| *octet == b'\n').any(|line| {
            let text = String::from_utf8_lossy(line);
            let text = text.trim_end();
            text.contains(&delimiter)
                && text != delimiter
                && text.strip_suffix("--") != Some(delimiter.as_str())
        });
        if in_text {
            return true;
        }
    }
    false
}

fn theirs(whole: &[u8], message: &Message<'_>, id: usize) -> Theirs {
    let part = &message.parts[id];
    let octets = whole.get(part.offset_body as usize..part.offset_end as usize).unwrap_or_default();
    let (kind, parts) = match &part.body {
        PartType::Multipart(ids) => {
            (Kind::Multipart, ids.iter().map(|id| theirs(whole, message, *id as usize)).collect())
        }
        // One in a transfer encoding has been decoded: its offsets are no longer those of the message.
        PartType::Message(enclosed) if part.encoding == Encoding::None => {
            (Kind::Message, vec![theirs(whole, enclosed, 0)])
        }
        _ => (Kind::Leaf, Vec::new()),
    };
    Theirs { kind, body: Some(sha256(octets)), parts }
}

#[test]
fn mail_parser_finds_the_same_parts() {
    let mut comparison = Comparison::with("mail-parser", EXCUSES);
    let parse = |message: &[u8]| {
        let parsed = MessageParser::default().parse(message)?;
        Some(theirs(message, &parsed, 0))
    };
    for path in corpus::messages() {
        let message = std::fs::read(&path).unwrap();
        comparison.take(&path.display().to_string(), Some(&path), &message, || parse(&message));
    }
    for example in EXAMPLES {
        comparison.take(example, None, example.as_bytes(), || parse(example.as_bytes()));
    }
    comparison.finish(AGREE_MIN);
}
