//! Whether an answer has the shape of an LDAP message (RFC 4511), before it is handed on.
//!
//! ```text
//! 30 len  02 len id  <tag> len …  [a0 len controls]
//! ```
//! The decoder behind this one takes what a server sends for granted: it recurses as deeply as the octets say, keeps waiting for
//! the rest of an element that is longer than what holds it, and gives up hard on text that is none. So all of that is refused here.

/// How deeply elements may be nested; a search entry needs six levels.
const DEPTH_MAX: usize = 16;
/// Octets that a length may take: more would be larger than anything taken.
const LENGTH_OCTETS_MAX: usize = 4;

/// Elements of a message: the decoder keeps each for itself, with some hundred octets around it. A group has one for each member.
const ELEMENTS_MAX: usize = 500_000;
/// Elements of what has a fixed number of parts, as a result or a control has.
const PARTS_MAX: usize = 32;

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const ENUMERATED: u8 = 0x0a;
const SEQUENCE: u8 = 0x30;
const CONSTRUCTED: u8 = 0x20;
/// A tag whose number stands in further octets; LDAP has none.
const LONG_TAG: u8 = 0x1f;
const BIND_RESPONSE: u8 = 0x61;
const SEARCH_ENTRY: u8 = 0x64;
const SEARCH_DONE: u8 = 0x65;
const SEARCH_REFERENCE: u8 = 0x73;
const EXTENDED_RESPONSE: u8 = 0x78;
const INTERMEDIATE_RESPONSE: u8 = 0x79;
const CONTROLS: u8 = 0xa0;
const REFERRAL: u8 = 0xa3;

/// What is wrong with an answer. The server's fault, or that of whoever sits between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// Tag and content of an element.
#[derive(Clone, Copy, Debug)]
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
}

impl Element<'_> {
    fn is_text(&self) -> bool {
        self.tag == OCTET_STRING && std::str::from_utf8(self.content).is_ok()
    }
}

/// Tag, octets of the header and of the content of the element that begins here; `None` when more octets are needed to tell.
fn header(octets: &[u8]) -> Result<Option<(u8, usize, usize)>, Malformed> {
    let (Some(&tag), Some(&first)) = (octets.first(), octets.get(1)) else { return Ok(None) };
    if tag & LONG_TAG == LONG_TAG {
        return Err(Malformed("a tag that LDAP does not have"));
    }
    if first < 0x80 {
        return Ok(Some((tag, 2, usize::from(first))));
    }
    let more = usize::from(first & 0x7f);
    if more == 0 || more > LENGTH_OCTETS_MAX {
        return Err(Malformed("a length in a form that LDAP does not have"));
    }
    let Some(length) = octets.get(2..2 + more) else { return Ok(None) };
    let length = length.iter().fold(0_usize, |sum, octet| sum << 8 | usize::from(*octet));
    Ok(Some((tag, 2 + more, length)))
}

/// How many octets the message is long whose first octets these are; `None` when it cannot be told yet.
pub(super) fn message_octets(first: &[u8]) -> Result<Option<usize>, Malformed> {
    match header(first)? {
        None => Ok(None),
        Some((SEQUENCE, head, content)) => Ok(head.checked_add(content)),
        Some(_) => Err(Malformed("something that is no LDAP message")),
    }
}

/// The elements in here, one after the other: nothing is kept of them. A fault is the last.
struct Elements<'a>(&'a [u8]);

fn elements(content: &[u8]) -> Elements<'_> {
    Elements(content)
}

impl<'a> Elements<'a> {
    fn first_of(content: &'a [u8]) -> Result<(Element<'a>, &'a [u8]), Malformed> {
        const CUT: Malformed = Malformed("an element that is longer than what holds it");
        let (tag, head, length) = header(content)?.ok_or(CUT)?;
        let whole = head.checked_add(length).ok_or(CUT)?;
        let (element, rest) = content.split_at_checked(whole).ok_or(CUT)?;
        Ok((Element { tag, content: element.get(head..).ok_or(CUT)? }, rest))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let first = Elements::first_of(self.0);
        self.0 = first.as_ref().map_or(&[], |(_, rest)| rest);
        Some(first.map(|(element, _)| element))
    }
}

/// The elements in here where there can only be a few.
fn few(content: &[u8]) -> Result<Vec<Element<'_>>, Malformed> {
    let mut found = Vec::new();
    for element in elements(content) {
        if found.len() == PARTS_MAX {
            return Err(Malformed("an element of too many parts"));
        }
        found.push(element?);
    }
    Ok(found)
}

/// Whether everything in here is whole, to the innermost, and not more than `left`.
fn check_nesting(content: &[u8], depth: usize, left: &mut usize) -> Result<(), Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed("elements nested too deeply"));
    }
    for element in elements(content) {
        let element = element?;
        *left = left.checked_sub(1).ok_or(Malformed("a message of too many elements"))?;
        if element.tag & CONSTRUCTED != 0 {
            check_nesting(element.content, depth + 1, left)?;
        }
    }
    Ok(())
}

/// Checks one whole message.
pub(super) fn check(message: &[u8]) -> Result<(), Malformed> {
    let mut left = ELEMENTS_MAX;
    check_nesting(message, 0, &mut left)?;
    let outer = few(message)?;
    let [Element { tag: SEQUENCE, content }] = outer.as_slice() else {
        return Err(Malformed("something that is no LDAP message"));
    };
    let parts = few(content)?;
    let Some((Element { tag: INTEGER, content: id }, [operation, rest @ ..])) = parts.split_first() else {
        return Err(Malformed("a message without number or answer"));
    };
    if id.is_empty() || id.len() > 4 {
        return Err(Malformed("a message without a usable number"));
    }
    match operation.tag {
        BIND_RESPONSE | SEARCH_DONE | EXTENDED_RESPONSE => check_result(operation.content)?,
        SEARCH_ENTRY | SEARCH_REFERENCE | INTERMEDIATE_RESPONSE => {}
        _ => return Err(Malformed("an answer of a kind that was not asked for")),
    }
    for controls in rest.iter().filter(|element| element.tag == CONTROLS) {
        check_controls(controls.content)?;
    }
    Ok(())
}

/// LDAPResult, RFC 4511 §4.1.9: code, matched name, diagnostic text, perhaps a referral and more.
fn check_result(content: &[u8]) -> Result<(), Malformed> {
    const BAD: Malformed = Malformed("a result that is none");
    let parts = few(content)?;
    let [code, matched, text, rest @ ..] = parts.as_slice() else { return Err(BAD) };
    if code.tag != ENUMERATED || code.content.is_empty() || code.content.len() > 4 {
        return Err(BAD);
    }
    if !matched.is_text() || !text.is_text() {
        return Err(Malformed("a result whose text is no text"));
    }
    for extra in rest {
        let good = match extra.tag {
            REFERRAL => elements(extra.content).all(|url| url.is_ok_and(|url| url.is_text())),
            // Name and value of an extended answer, credentials of a bind: text the first, of any kind the others.
            0x8a => std::str::from_utf8(extra.content).is_ok(),
            tag => tag & CONSTRUCTED == 0,
        };
        if !good {
            return Err(BAD);
        }
    }
    Ok(())
}

/// Controls, RFC 4511 §4.1.11: each a name, perhaps whether it is critical, perhaps a value.
fn check_controls(content: &[u8]) -> Result<(), Malformed> {
    const BAD: Malformed = Malformed("a control that is none");
    for control in elements(content) {
        let control = control?;
        let parts = few(control.content)?;
        let Some((name, rest)) = parts.split_first() else { return Err(BAD) };
        let value = match rest {
            [first, rest @ ..] if first.tag == BOOLEAN && !first.content.is_empty() => rest,
            rest => rest,
        };
        let whole = matches!(value, [] | [Element { tag: OCTET_STRING, .. }]);
        if control.tag != SEQUENCE || !name.is_text() || !whole {
            return Err(BAD);
        }
    }
    Ok(())
}

/// The cookie in the value of a paged results control (RFC 2696): size and cookie.
pub(super) fn cookie(value: &[u8]) -> Result<Vec<u8>, Malformed> {
    const BAD: Malformed = Malformed("a paged results control without a cookie");
    let outer = few(value)?;
    let [Element { tag: SEQUENCE, content }] = outer.as_slice() else { return Err(BAD) };
    match few(content)?.as_slice() {
        [Element { tag: INTEGER, .. }, Element { tag: OCTET_STRING, content }] => Ok(content.to_vec()),
        _ => Err(BAD),
    }
}

/// The result code and text of an answer to an extended request.
pub(super) fn extended_result(message: &[u8]) -> Result<(u32, String), Malformed> {
    const OTHER: Malformed = Malformed("another answer than to what was asked");
    let outer = few(message)?;
    let parts = outer.first().map(|message| few(message.content)).transpose()?.unwrap_or_default();
    let Some(answer) = parts.get(1).filter(|answer| answer.tag == EXTENDED_RESPONSE) else {
        return Err(OTHER);
    };
    let result = few(answer.content)?;
    let [code, _, text, ..] = result.as_slice() else { return Err(OTHER) };
    let code = code.content.iter().fold(0_u32, |sum, octet| sum << 8 | u32::from(*octet));
    Ok((code, String::from_utf8_lossy(text.content).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut octets = vec![tag, 0x82];
        octets.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        octets.extend(content);
        octets
    }

    fn message(operation: &[u8], controls: &[u8]) -> Vec<u8> {
        element(SEQUENCE, &[&element(INTEGER, &[1]), operation, controls].concat())
    }

    fn result(tag: u8, matched: &[u8], text: &[u8]) -> Vec<u8> {
        let parts =
            [element(ENUMERATED, &[0]), element(OCTET_STRING, matched), element(OCTET_STRING, text)].concat();
        element(tag, &parts)
    }

    #[test]
    fn a_message_is_as_long_as_its_header_says() {
        assert_eq!(message_octets(&[]), Ok(None));
        assert_eq!(message_octets(&[0x30, 0x82, 1]), Ok(None));
        assert_eq!(message_octets(&[0x30, 5]), Ok(Some(7)));
        assert_eq!(message_octets(&[0x30, 0x82, 1, 0]), Ok(Some(260)));
        for none in [&[0x30, 0x80][..], &[0x30, 0x85], &[0x16, 3], &[0x3f, 1], b"HTTP/1.1 400"] {
            assert!(message_octets(none).is_err(), "{none:?}");
        }
    }

    #[test]
    fn takes_results_with_controls_and_referrals() {
        let value = element(SEQUENCE, &[element(INTEGER, &[0]), element(OCTET_STRING, b"next")].concat());
        assert_eq!(cookie(&value), Ok(b"next".to_vec()));
        let control =
            [element(OCTET_STRING, b"1.2.840.113556.1.4.319"), element(OCTET_STRING, &value)].concat();
        let controls = element(CONTROLS, &element(SEQUENCE, &control));
        assert_eq!(check(&message(&result(SEARCH_DONE, b"", b""), &controls)), Ok(()));
        let referral = [result(SEARCH_DONE, b"", b"").split_off(4), {
            element(REFERRAL, &element(OCTET_STRING, b"ldap://other.example/"))
        }]
        .concat();
        assert_eq!(check(&message(&element(SEARCH_DONE, &referral), &[])), Ok(()));
    }

    #[test]
    fn refuses_what_the_decoder_would_stumble_over() {
        let bad = |message: &[u8], why: &'static str| {
            assert_eq!(check(message), Err(Malformed(why)), "{:?}", message.get(..64).unwrap_or(message))
        };
        bad(&message(&result(BIND_RESPONSE, b"", b"\xff"), &[]), "a result whose text is no text");
        bad(&message(&element(BIND_RESPONSE, &[]), &[]), "a result that is none");
        bad(&message(&element(0x63, &[]), &[]), "an answer of a kind that was not asked for");
        bad(&element(SEQUENCE, &[]), "a message without number or answer");
        let longer = element(SEARCH_ENTRY, &[OCTET_STRING, 9, b'x']);
        bad(&message(&longer, &[]), "an element that is longer than what holds it");
        let control = element(CONTROLS, &element(SEQUENCE, &element(OCTET_STRING, b"\xff")));
        bad(&message(&result(SEARCH_DONE, b"", b""), &control), "a control that is none");
        let deep = (0..100).fold(Vec::new(), |inner, _| element(SEQUENCE, &inner));
        bad(&message(&element(SEARCH_ENTRY, &deep), &[]), "elements nested too deeply");
        let tiny = [OCTET_STRING, 0].repeat(ELEMENTS_MAX);
        let tiny = [&[SEQUENCE, 0x83, 0x0f, 0x42, 0x40], tiny.as_slice()].concat();
        let parts = [&[INTEGER, 1, 1], tiny.as_slice()].concat();
        let length = u32::try_from(parts.len()).unwrap().to_be_bytes();
        bad(&[&[SEQUENCE, 0x84], length.as_slice(), &parts].concat(), "a message of too many elements");
        bad(
            &message(&result(SEARCH_DONE, b"", b""), &[OCTET_STRING, 0].repeat(40)),
            "an element of too many parts",
        );
        assert!(cookie(b"0\x03\x02\x01\x00").is_err() && cookie(b"").is_err());
    }

    #[test]
    fn nothing_that_is_cut_or_flipped_is_more_than_refused() {
        let whole = message(&result(SEARCH_DONE, b"dc=x", b"text"), &[]);
        for end in 0..whole.len() {
            assert!(check(&whole[..end]).is_err(), "{end}");
        }
        for place in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[place] ^= 0xff;
            drop((check(&flipped), message_octets(&flipped), extended_result(&flipped)));
        }
    }
}
