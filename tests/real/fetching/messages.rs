//! What is fetched, and its form for the wire.

use super::Protocol;
use crate::load::{self, awkward_text};
use crate::support::corpus;
use std::fmt::Write as _;

/// A message is known by its first Message-ID, on a line of its own.
pub(super) fn id(message: &[u8]) -> String {
    let head = &message[..message.len().min(4_000)];
    crate::maildrop::message_id(head).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(head)))
}

/// Journal reports and other mail with what clients trip over, but for what SMTP calls bare.
pub(super) fn ordinary() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        "demo/report.eml",
        "demo/ndr.eml",
        "journal/exchange-online/s26_inner_8bit_binary_cte.eml",
        "journal/exchange-online/lines-of-3000-octets.eml",
        "journal/exchange-online/five-hundred-recipients.eml",
        "journal/exchange-online/no-line-end-behind-the-close-delimiter.eml",
        "journal/exchange-online/international-addresses-in-utf-8.eml",
        "journal/exchange-online/smime-clear-signed.eml",
        "journal/exchange-online/text-in-shift-jis.eml",
        "journal/exchange-online/mail-attached-to-mail-attached-to-mail.eml",
        "journal-ndr/n01_exo_ndr_full.eml",
    ]
    .into_iter()
    .map(corpus)
    .collect();
    all.push(load::report("fetching", 200_000).octets);
    all.push(load::report("fetching-five-megabytes", 5_000_000).octets);
    all.push(empty());
    all.push(dots());
    all
}

/// The one that comes while the client is away.
pub(super) fn late() -> Vec<u8> {
    load::report("fetching-late", 20_000).octets
}

fn head(name: &str) -> String {
    format!(
        "From: Alice Archer <alice@contoso.example>\r\nTo: Bob Baker <bob@contoso.example>\r\nSubject: {name}\r\n\
         Message-ID: <{name}@fetching.example>\r\nDate: Mon, 2 Nov 2026 09:00:00 +0000\r\n\r\n"
    )
}

/// A header and nothing behind it.
fn empty() -> Vec<u8> {
    head("empty-body").into_bytes()
}

/// Lines that begin with dots, and some that are nothing else.
fn dots() -> Vec<u8> {
    let mut text = head("dots");
    for dots in 1..=5 {
        let dots = ".".repeat(dots);
        write!(text, "{dots}\r\n{dots} text\r\n{dots}\r\n\r\n{dots}\r\n").unwrap();
    }
    text.push_str(".\r\n");
    text.into_bytes()
}

/// What would end a message early, or begin another, if it went over the wire as it is stored. It can only come by BDAT.
pub(super) fn smuggling() -> Vec<Vec<u8>> {
    let second = "From: Mallory <mallory@evil.example>\r\nTo: bob@contoso.example\r\nMessage-ID: <smuggled@evil.example>\r\n\r\nNot sent.\r\n";
    let pop3 = format!("+OK 9 octets\r\n{second}.\r\n-ERR [SYS/PERM] gone\r\n");
    let imap = format!(
        ")\r\n* 99 EXISTS\r\n* 1 FETCH (UID 1 BODY[] {{{}}}\r\n{second})\r\n* BYE\r\nA0001 OK done\r\n1 OK done\r\n",
        second.len()
    );
    let ends: [(&str, &str); 10] = [
        ("lf-dot-crlf", "\n.\r\n"),
        ("lf-dot-lf", "\n.\n"),
        ("cr-dot-cr", "\r.\r"),
        ("cr-dot-crlf", "\r.\r\n"),
        ("crlf-dot-crlf", "\r\n.\r\n"),
        ("crlf-dot-cr", "\r\n.\r"),
        ("cr-cr-lf-dot", "\r\r\n.\r\r\n"),
        ("nul", "\0\r\n.\0\r\n\0.\r\n"),
        ("dots", "\n..\r\n...\n.\r.\r\n"),
        ("cr-at-the-end", "\r"),
    ];
    let mut all: Vec<Vec<u8>> = Vec::new();
    for (name, end) in ends {
        all.push(format!("{}text{end}{pop3}{end}{imap}{end}", head(name)).into_bytes());
    }
    // Long enough that pieces end everywhere in it.
    let mut long = head("long").into_bytes();
    let mut dice = load::Dice::new(8);
    for (_, end) in ends {
        awkward_text(&mut dice, 70_000, &mut long);
        long.extend_from_slice(end.as_bytes());
        long.extend_from_slice(pop3.as_bytes());
    }
    all.push(long);
    // In a header.
    all.push(format!("X-Odd: a\rb\nX-Dot: c\n.\r\n{}text\0\n.\n", head("header")).into_bytes());
    all.push(dots());
    all
}

/// The form of stored octets on the wire: every CR LF, CR or LF ends a line, and every line ends in CR LF. POP3 ends the last line
/// as well, since its final dot needs a line of its own.
pub(super) fn on_the_wire(stored: &[u8], protocol: Protocol) -> Vec<u8> {
    let mut wire = Vec::with_capacity(stored.len() + stored.len() / 16);
    for (at, octet) in stored.iter().enumerate() {
        match octet {
            b'\n' if at > 0 && stored[at - 1] == b'\r' => {}
            b'\r' | b'\n' => wire.extend_from_slice(b"\r\n"),
            _ => wire.push(*octet),
        }
    }
    if protocol == Protocol::Pop3 && !wire.ends_with(b"\n") {
        wire.extend_from_slice(b"\r\n");
    }
    wire
}

/// Unix line ends. On the wire there is neither a CR nor an LF alone, so this hides nothing.
pub(super) fn with_lf(wire: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let plain = |message: Vec<u8>| {
        let mut octets = message;
        octets.retain(|octet| *octet != b'\r');
        octets
    };
    wire.into_iter().map(plain).collect()
}
