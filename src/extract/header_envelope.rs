//! The envelope of plain mail, as header fields name it that an admin trusts for a gateway mailbox.
//!
//! Whoever writes mail can write any field, and whoever passes it on writes its own on top. So only the outermost header
//! block counts, and of each field only its topmost occurrence. Any further one, wherever it stands, may be forged: it is not
//! believed, and noted. A field that the relay did not write on a message at all
//! cannot be told from a forged one: only fields that it always writes, or removes where it does not, may be trusted.
//!
//! Values are addresses with or without angle brackets, names and comments, with commas between several. Linear in the block,
//! for each of the few names.

use super::defect::{Defect, DefectKind, Defects};
use super::header::fields;
use super::mime::Scanned;
use crate::mail::{
    Address, AddressKey, EnvelopeHeaders, HeaderSource, JournaledEnvelope, JournaledRecipient,
    RecipientField, WrittenAddress,
};

/// What trusted header fields say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEnvelope {
    /// Who sent and got the message; `None` when they name nobody.
    pub envelope: Option<JournaledEnvelope>,
    /// What was not believed, and what is no address.
    pub defects: Vec<Defect>,
}

/// Reads the envelope from the outermost header block. Addresses that `is_gateway` knows for the gateway's own are no
/// recipients: the copy was sent there, not the mail.
pub fn header_envelope(
    scanned: &Scanned,
    headers: &EnvelopeHeaders,
    is_gateway: &dyn Fn(&AddressKey) -> bool,
) -> HeaderEnvelope {
    // Of a block that is longer than what is kept the last field may be cut, and name fewer people than it did.
    let root = scanned.nodes.first().filter(|root| !root.header_cut);
    let block = root.map(|root| root.header.as_slice()).unwrap_or_default();
    let mut defects = Defects::default();
    let (mut envelope, mut source) = (JournaledEnvelope::default(), HeaderSource::default());
    for name in &headers.senders {
        let named = topmost(block, name, &mut defects);
        if envelope.sender.is_none()
            && let Some(first) = named.into_iter().next()
        {
            (envelope.sender, source.sender) = (Some(first), Some(name.clone()));
        }
    }
    for name in &headers.recipients {
        let before = envelope.recipients.len();
        let named = topmost(block, name, &mut defects).into_iter();
        let people = named.filter(|address| !address.is_null() && !is_gateway(&address.key()));
        envelope.recipients.extend(people.map(|address| JournaledRecipient {
            field: RecipientField::Unspecified,
            address,
            redirection: None,
        }));
        if let Ok(count @ 1..) = u32::try_from(envelope.recipients.len() - before) {
            source.recipients.push((name.clone(), count));
        }
    }
    let names_nobody = envelope.is_empty();
    envelope.headers = Some(source);
    HeaderEnvelope { envelope: (!names_nobody).then_some(envelope), defects: defects.into_list() }
}

/// The addresses in the topmost occurrence of a field.
fn topmost(block: &[u8], name: &str, defects: &mut Defects) -> Vec<WrittenAddress> {
    let mut occurrences = fields(block).filter(|field| field.is(name));
    let Some(believed) = occurrences.next() else { return Vec::new() };
    for _ in occurrences {
        defects.note(DefectKind::EnvelopeHeaderIgnored, || format!("{name} further down"));
    }
    let value = believed.unfolded();
    let mut found = Vec::new();
    for address in addresses(&String::from_utf8_lossy(&value)) {
        if !address.is_empty() && Address::parse(&address).is_err() {
            defects.note(DefectKind::MalformedAddress, || format!("in {name}"));
        }
        found.push(WrittenAddress(address));
    }
    found
}

/// What surrounds a character of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Nothing,
    Quotes,
    Brackets,
    /// And how deep (RFC 5322 §3.2.2).
    Comment(u32),
}

/// The addresses of a value, without names, comments and brackets; an empty one for `<>`.
fn addresses(value: &str) -> Vec<String> {
    // What does not end was not meant to begin.
    split(value).unwrap_or_else(|| {
        value.split(',').map(|item| bare(item).to_owned()).filter(|a| !a.is_empty()).collect()
    })
}

/// `None` when a quote, bracket or comment does not end.
fn split(value: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    // What is outside of brackets, and what is inside of the last ones.
    let (mut plain, mut bracketed): (String, Option<String>) = (String::new(), None);
    let (mut inside, mut around) = (Inside::Nothing, Inside::Nothing);
    let mut escaped = false;
    for c in value.chars() {
        let was_escaped = std::mem::take(&mut escaped);
        let mut kept = true;
        match (inside, c) {
            (Inside::Quotes | Inside::Comment(_), _) if was_escaped => {}
            (Inside::Quotes | Inside::Comment(_), '\\') => escaped = true,
            (Inside::Quotes, '"') => inside = around,
            (Inside::Nothing | Inside::Brackets, '"') => (around, inside) = (inside, Inside::Quotes),
            (Inside::Nothing, '<') => {
                (inside, bracketed, kept) = (Inside::Brackets, Some(String::new()), false);
            }
            (Inside::Brackets, '>') => (inside, kept) = (Inside::Nothing, false),
            (Inside::Nothing, '(') => inside = Inside::Comment(1),
            (Inside::Comment(depth), '(') => inside = Inside::Comment(depth.saturating_add(1)),
            (Inside::Comment(1), ')') => (inside, kept) = (Inside::Nothing, false),
            (Inside::Comment(depth), ')') => inside = Inside::Comment(depth - 1),
            (Inside::Nothing, ',') => {
                found.extend(address(&std::mem::take(&mut plain), bracketed.take()));
                kept = false;
            }
            _ => {}
        }
        kept &= !matches!(inside, Inside::Comment(_));
        match &mut bracketed {
            _ if !kept => {}
            Some(address) if inside == Inside::Brackets || around == Inside::Brackets => address.push(c),
            _ => plain.push(c),
        }
        if inside == Inside::Nothing {
            around = Inside::Nothing;
        }
    }
    (inside == Inside::Nothing).then(|| {
        found.extend(address(&plain, bracketed));
        found
    })
}

/// What stands in brackets, else all there is; `None` for nothing.
fn address(plain: &str, bracketed: Option<String>) -> Option<String> {
    let plain = bare(plain);
    bracketed
        .map(|address| address.trim_ascii().to_owned())
        .or_else(|| (!plain.is_empty()).then(|| plain.to_owned()))
}

/// Without blanks and a pair of brackets around it.
fn bare(item: &str) -> &str {
    let item = item.trim_ascii();
    item.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).map_or(item, str::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::Scanner;

    fn headers(recipients: &[&str], senders: &[&str]) -> EnvelopeHeaders {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        EnvelopeHeaders { recipients: owned(recipients), senders: owned(senders) }
    }

    fn read(block: &str, headers: &EnvelopeHeaders) -> HeaderEnvelope {
        let mut scanner = Scanner::new();
        scanner.push(format!("{block}\r\n\r\nX-To: body@x\r\n").as_bytes());
        let gateway = AddressKey::of("mbx-0@gw.example");
        header_envelope(&scanner.finish(), headers, &|key| *key == gateway)
    }

    /// Recipients by `X-To` and `X-Also`, sender by `X-From`.
    fn check(block: &str, sender: Option<&str>, recipients: &[&str], ignored: usize) {
        let found = read(block, &headers(&["X-To", "X-Also"], &["X-From", "X-Path"]));
        let envelope = found.envelope.unwrap_or_default();
        assert_eq!(envelope.sender.as_ref().map(WrittenAddress::as_str), sender, "{block}");
        let named: Vec<&str> = envelope.recipients.iter().map(|r| r.address.as_str()).collect();
        assert_eq!(named, recipients, "{block}");
        let kinds = found.defects.iter().filter(|d| d.kind == DefectKind::EnvelopeHeaderIgnored);
        assert_eq!(kinds.count(), ignored, "{block}");
    }

    #[test]
    fn blanks_beyond_ascii_are_part_of_an_address() {
        check("X-To: <\u{2003}bob@x>\r\nX-From: \u{a0}a@x", Some("\u{a0}a@x"), &["\u{2003}bob@x"], 0);
    }

    #[test]
    fn addresses_are_read_however_they_are_written() {
        let list = |value: &str, expect: &[&str]| assert_eq!(addresses(value), expect, "{value}");
        list("a@x", &["a@x"]);
        list("<a@x>", &["a@x"]);
        list(" Bob B. <a@x> , c@x,<d@x>,", &["a@x", "c@x", "d@x"]);
        list("\"B, <Bob>\" <a@x>, c@x (for, d@x (really))", &["a@x", "c@x"]);
        list("\"a, \\\"b\"@x, <\"c>d\"@x>", &["\"a, \\\"b\"@x", "\"c>d\"@x"]);
        list("<>", &[""]);
        list("", &[]);
        list(" , ,", &[]);
        list("\"open <a@x>, b@x", &["\"open <a@x>", "b@x"]);
        list("(open a@x, <b@x>", &["(open a@x", "b@x"]);
        list("<a@x, b@x", &["<a@x", "b@x"]);
    }

    #[test]
    fn the_topmost_occurrence_alone_counts() {
        check("X-To: a@x, b@x\r\nx-to: forged@x\r\nReceived: r", None, &["a@x", "b@x"], 1);
        check("Received: r\r\nX-To: a@x\r\nReceived: r\r\nX-To: forged@x\r\nX-To: too@x", None, &["a@x"], 1);
        check("X-Also: c@x\r\nX-To: a@x\r\nX-Also: forged@x", None, &["a@x", "c@x"], 1);
        check("X-From: s@x\r\nTo: t@x\r\nX-From: forged@x", Some("s@x"), &[], 1);
        check("X-Path: <>\r\nX-To: a@x,\r\n b@x", Some(""), &["a@x", "b@x"], 0);
        check("X-Path: p@x\r\nX-From: s@x\r\n", Some("s@x"), &[], 0);
        check("To: t@x\r\nSubject: X-To: a@x\r\nX-To2: b@x", None, &[], 0);
        check("X-To:\r\nSubject: s\r\nX-To: forged@x", None, &[], 1);
    }

    #[test]
    fn nobody_named_is_no_envelope() {
        assert_eq!(read("To: t@x", &headers(&["X-To"], &[])), HeaderEnvelope::default());
        assert_eq!(read("X-To: a@x", &headers(&[], &[])), HeaderEnvelope::default());
        assert_eq!(read("X-To: <MBX-0@GW.example>, <>", &headers(&["X-To"], &[])).envelope, None);
    }

    #[test]
    fn the_gateway_is_no_recipient_and_each_field_is_told() {
        let found = read(
            "X-Also: mbx-0@gw.example, c@x\r\nX-To: a@x, bob",
            &headers(&["X-To", "X-None", "X-Also"], &[]),
        );
        let envelope = found.envelope.unwrap();
        let told: Vec<(&str, Option<&str>)> =
            envelope.recipients_with_headers().map(|(r, header)| (r.address.as_str(), header)).collect();
        assert_eq!(told, [("a@x", Some("X-To")), ("bob", Some("X-To")), ("c@x", Some("X-Also"))]);
        assert_eq!(found.defects.iter().map(|d| d.kind).collect::<Vec<_>>(), [DefectKind::MalformedAddress]);
    }

    #[test]
    fn a_block_that_is_longer_than_what_is_kept_names_nobody() {
        let long = "X-Fill: 0123456789\r\n".repeat(crate::extract::mime::HEADER_OCTETS_MAX / 20 + 1);
        assert_eq!(
            read(&format!("X-To: a@x\r\n{long}"), &headers(&["X-To"], &[])),
            HeaderEnvelope::default()
        );
    }

    #[test]
    fn many_addresses_are_all_read() {
        let many: Vec<String> = (0..12_000).map(|n| format!("Name {n} <u{n}@x.example>")).collect();
        let found = read(&format!("X-To: {}", many.join(",\r\n ")), &headers(&["X-To"], &[]));
        assert_eq!(found.envelope.unwrap().recipients.len(), 12_000);
    }
}
