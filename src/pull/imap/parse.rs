//! What an IMAP server answers (RFC 3501 §7), as far as a puller asks: sans I/O.

/// Outcome of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    No,
    Bad,
}

/// The status response of a line after its tag, or after `*`: its kind, and its text.
pub(super) fn status(text: &str) -> Option<(Status, &str)> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let status = match word.to_ascii_uppercase().as_str() {
        "OK" => Status::Ok,
        "NO" => Status::No,
        "BAD" => Status::Bad,
        _ => return None,
    };
    Some((status, rest))
}

/// The number behind a response code: `UIDVALIDITY` in `* OK [UIDVALIDITY 7] …`.
pub(super) fn code_number(line: &str, code: &str) -> Option<u32> {
    let (_, text) = status(line.strip_prefix("* ")?)?;
    let (name, rest) = text.strip_prefix('[')?.split_once(' ')?;
    let (number, _) = rest.split_once(']')?;
    number.parse().ok().filter(|_| name.eq_ignore_ascii_case(code))
}

/// The number of a line `* 7 EXISTS`.
pub(super) fn exists(line: &str) -> Option<u32> {
    let (number, word) = line.strip_prefix("* ")?.trim_end().split_once(' ')?;
    number.parse().ok().filter(|_| word.eq_ignore_ascii_case("EXISTS"))
}

/// The capabilities of a line `* CAPABILITY …`, in upper case.
pub(super) fn capabilities(line: &str) -> Option<Vec<String>> {
    let mut words = line.strip_prefix("* ")?.split(' ');
    let is_it = words.next()?.eq_ignore_ascii_case("CAPABILITY");
    is_it.then(|| words.map(str::to_ascii_uppercase).collect())
}

/// True for a FETCH response, the only one in which a puller meets literals.
pub(super) fn is_fetch(line: &[u8]) -> bool {
    let mut words = line.splitn(4, |octet| *octet == b' ');
    let star = words.next() == Some(b"*".as_slice());
    let number = words.next().is_some_and(|n| !n.is_empty() && n.iter().all(u8::is_ascii_digit));
    star && number && words.next().is_some_and(|word| word.eq_ignore_ascii_case(b"FETCH"))
}

/// The octets of the literal a line announces at its end, and the line before that.
pub(super) fn literal(line: &[u8]) -> Option<(u64, &[u8])> {
    let inner = line.strip_suffix(b"}")?;
    let open = inner.iter().rposition(|octet| *octet == b'{')?;
    let digits = inner.get(open + 1..)?;
    let octets = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
    Some((octets.parse().ok()?, inner.get(..open)?))
}

/// True when a literal at the end of this text is the content asked for.
pub(super) fn awaits_body(text: &[u8]) -> bool {
    text.to_ascii_uppercase().ends_with(BODY_BEFORE)
}

const BODY_BEFORE: &[u8] = b"BODY[] ";

/// What stands for a body that came as a literal: no server can write it, since `{` begins a literal.
pub(super) const STREAMED: &[u8] = b"{}";

/// The content a FETCH response holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// It came as a literal.
    Streamed,
    /// It is so short that it stands in the line.
    Quoted(Vec<u8>),
    /// There is none.
    Nil,
}

/// What a FETCH response says, as far as a puller asks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fetched {
    pub(super) uid: Option<u32>,
    pub(super) octets: Option<u64>,
    /// Whether it is marked as deleted, when flags are told.
    pub(super) deleted: Option<bool>,
    pub(super) body: Option<Body>,
}

/// Reads a FETCH response; `None` when it is none, or not as it must be.
pub(super) fn fetched(text: &[u8]) -> Option<Fetched> {
    if !is_fetch(text) {
        return None;
    }
    let open = text.iter().position(|octet| *octet == b'(')?;
    let mut rest = Cursor(text.get(open + 1..)?);
    let mut found = Fetched::default();
    loop {
        rest.blanks();
        if rest.0 == b")" {
            return Some(found);
        }
        let name = rest.name()?.to_ascii_uppercase();
        rest.blanks();
        let value = rest.value()?;
        let number = || match &value {
            Value::Atom(atom) => std::str::from_utf8(atom).ok(),
            _ => None,
        };
        match name.as_slice() {
            b"UID" => found.uid = Some(number()?.parse().ok().filter(|uid| *uid > 0)?),
            b"RFC822.SIZE" => found.octets = Some(number()?.parse().ok()?),
            b"FLAGS" => found.deleted = Some(value.lists(b"\\Deleted")?),
            b"BODY[]" => found.body = Some(value.body()?),
            _ => {}
        }
    }
}

/// A value in a FETCH response.
enum Value<'a> {
    Atom(&'a [u8]),
    Quoted(Vec<u8>),
    List(&'a [u8]),
}

impl Value<'_> {
    fn lists(&self, flag: &[u8]) -> Option<bool> {
        let Value::List(inner) = self else { return None };
        Some(inner.split(|octet| *octet == b' ').any(|word| word.eq_ignore_ascii_case(flag)))
    }

    fn body(self) -> Option<Body> {
        match self {
            Value::Atom(atom) if atom == STREAMED => Some(Body::Streamed),
            Value::Atom(atom) if atom.eq_ignore_ascii_case(b"NIL") => Some(Body::Nil),
            Value::Quoted(text) => Some(Body::Quoted(text)),
            Value::Atom(_) | Value::List(_) => None,
        }
    }
}

/// What is not read yet of a response.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn blanks(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    fn take(&mut self, octets: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(octets)?;
        self.0 = rest;
        Some(taken)
    }

    /// Up to a blank that does not stand in brackets.
    fn name(&mut self) -> Option<&'a [u8]> {
        let mut in_brackets = false;
        let end = self.0.iter().position(|octet| {
            match octet {
                b'[' => in_brackets = true,
                b']' => in_brackets = false,
                _ => {}
            }
            !in_brackets && matches!(octet, b' ' | b'(' | b')')
        })?;
        self.take(end).filter(|name| !name.is_empty())
    }

    fn value(&mut self) -> Option<Value<'a>> {
        match self.0.first()? {
            b'"' => self.quoted().map(Value::Quoted),
            b'(' => self.list().map(Value::List),
            _ => {
                let end = self.0.iter().position(|octet| matches!(octet, b' ' | b')'))?;
                self.take(end).filter(|atom| !atom.is_empty()).map(Value::Atom)
            }
        }
    }

    fn quoted(&mut self) -> Option<Vec<u8>> {
        self.take(1)?;
        let mut text = Vec::new();
        loop {
            match self.take(1)? {
                b"\"" => return Some(text),
                b"\\" => text.extend_from_slice(self.take(1)?),
                octet => text.extend_from_slice(octet),
            }
        }
    }

    /// A list with what is in it, lists too.
    fn list(&mut self) -> Option<&'a [u8]> {
        let (mut depth, mut quoted, mut escaped) = (0_u32, false, false);
        let end = self.0.iter().position(|octet| {
            match octet {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b'(' if !quoted => depth = depth.saturating_add(1),
                b')' if !quoted => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0
        })?;
        self.take(end + 1)?.get(1..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fetch_responses_in_any_order_and_case() {
        let read = |text: &str| fetched(text.as_bytes()).unwrap();
        let sized = read("* 12 FETCH (UID 5 RFC822.SIZE 1234)");
        assert_eq!((sized.uid, sized.octets), (Some(5), Some(1234)));
        let sized =
            read("* 12 fetch (Flags (\\Seen \\DELETED) X-GM (a (b \")\") c) rfc822.size 0 uid 4294967295)");
        assert_eq!((sized.uid, sized.octets, sized.deleted), (Some(u32::MAX), Some(0), Some(true)));
        let body = read("* 1 FETCH (BODY[] {} UID 7)");
        assert_eq!((body.uid, body.body), (Some(7), Some(Body::Streamed)));
        assert_eq!(read("* 1 FETCH (BODY[] NIL UID 7)").body, Some(Body::Nil));
        let quoted = read("* 1 FETCH (UID 7 BODY[] \"a \\\"b\\\" )\" BODY[HEADER.FIELDS (A B)] x)");
        assert_eq!(quoted.body, Some(Body::Quoted(b"a \"b\" )".to_vec())));
    }

    #[test]
    fn what_is_not_as_it_must_be_is_nothing() {
        for bad in [
            "* 1 FETCH (UID 0)",
            "* 1 FETCH (UID 4294967296)",
            "* 1 FETCH (UID 5",
            "* 1 FETCH (UID)",
            "* 1 FETCH UID 5",
            "* 1 FETCH (UID 5) more",
            "* x FETCH (UID 5)",
            "* 1 FETCH (UID -5)",
            "* 1 FETCH (BODY[] (x) UID 1)",
            "* 1 FETCH (BODY[] \"open UID 1)",
            "* 1 EXPUNGE",
            "",
        ] {
            assert_eq!(fetched(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn literals_codes_and_capabilities() {
        assert_eq!(literal(b"* 1 FETCH (BODY[] {310}"), Some((310, b"* 1 FETCH (BODY[] ".as_slice())));
        for none in ["x {}", "x {-1}", "x {1", "x 1}", "x {99999999999999999999999}"] {
            assert_eq!(literal(none.as_bytes()), None, "{none}");
        }
        assert!(awaits_body(b"* 1 FETCH (UID 1 body[] ") && !awaits_body(b"* 1 FETCH (BODY[HEADER] "));
        assert_eq!(code_number("* OK [UIDVALIDITY 77] stay", "uidvalidity"), Some(77));
        assert_eq!(code_number("* OK [UIDNEXT 77] stay", "UIDVALIDITY"), None);
        assert_eq!(code_number("* OK UIDVALIDITY 77", "UIDVALIDITY"), None);
        assert_eq!(capabilities("* CAPABILITY IMAP4rev1 sasl-ir").unwrap(), ["IMAP4REV1", "SASL-IR"]);
        assert_eq!(status("NO [AUTHENTICATIONFAILED] x"), Some((Status::No, "[AUTHENTICATIONFAILED] x")));
        assert_eq!(status("BYE"), None);
    }
}
