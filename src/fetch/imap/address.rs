//! Lists of addresses (RFC 5322 §3.4) as ENVELOPE gives them: taken apart, not judged.
//!
//! Works on raw octets: encoded words, 8-bit text and quoted parts are passed on as they are, without their quotes.
//! What is broken is never left out: it is shown as far as it can be taken apart, with `MISSING_DOMAIN` and its like where
//! nothing is (as Dovecot does), since an empty domain would make it a group. Work is linear in the octets, and no nesting
//! costs recursion.

use super::lexer::Lexer;
use super::strings::is_blank;

/// Most addresses given in one answer; the rest is said to be there. Of one field no more are read.
pub(super) const ADDRESSES_MAX: usize = 10_000;

/// One entry of an address list (RFC 3501 §7.4.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Address {
    /// The display name, or the comment that serves as one.
    pub(super) name: Option<Vec<u8>>,
    /// The source route, `@a,@b`.
    pub(super) route: Option<Vec<u8>>,
    /// The local part; the group's name where a group begins.
    pub(super) local_part: Option<Vec<u8>>,
    /// The domain; none where a group begins or ends.
    pub(super) domain: Option<Vec<u8>>,
}

/// Adds the addresses of the value of a field to those of the same field before it.
pub(super) fn add_addresses(found: &mut Vec<Address>, value: &[u8]) {
    let mut reader = Reader(Lexer::new(value));
    let mut in_group = false;
    while let Some(octet) = reader.0.skip() {
        if found.len() >= ADDRESSES_MAX {
            if found.len() == ADDRESSES_MAX {
                found.push(more_addresses());
            }
            break;
        }
        match octet {
            b';' if in_group => {
                reader.0.advance();
                in_group = false;
                found.push(Address::default());
            }
            b',' | b';' | b'>' => reader.0.advance(),
            _ => {
                let address = reader.address(in_group);
                in_group |= address.domain.is_none();
                found.push(address);
            }
        }
    }
    if in_group {
        found.push(Address::default());
    }
}

/// What stands for all addresses that are not given.
pub(super) fn more_addresses() -> Address {
    fixed(Address { local_part: Some(b"MORE_ADDRESSES".to_vec()), ..Address::default() })
}

fn ends_atom(octet: u8) -> bool {
    is_blank(octet) || b"\"(,:;<>@".contains(&octet)
}

/// Names what an address lacks.
fn fixed(address: Address) -> Address {
    let filled = |part: Option<Vec<u8>>, else_say: &[u8]| {
        Some(part.filter(|part| !part.is_empty()).unwrap_or_else(|| else_say.to_vec()))
    };
    Address {
        local_part: filled(address.local_part, b"MISSING_MAILBOX"),
        domain: filled(address.domain, b"MISSING_DOMAIN"),
        ..address
    }
}

/// Words up to something that is none.
#[derive(Default)]
struct Words {
    /// With one blank between them: a display name.
    phrase: Vec<u8>,
    /// With none beside dots: a local part or a domain.
    dotted: Vec<u8>,
}

impl Words {
    fn push(&mut self, word: &[u8], is_atom: bool) {
        if !self.phrase.is_empty() {
            self.phrase.push(b' ');
        }
        self.phrase.extend_from_slice(word);
        let at_dot = self.dotted.ends_with(b".") || (is_atom && word.starts_with(b"."));
        if !self.dotted.is_empty() && !at_dot {
            self.dotted.push(b' ');
        }
        self.dotted.extend_from_slice(word);
    }
}

struct Reader<'a>(Lexer<'a>);

impl Reader<'_> {
    /// Reads words, up to something that separates or introduces.
    fn words(&mut self) -> Words {
        let mut words = Words::default();
        while let Some(octet) = self.0.skip() {
            match octet {
                b'"' => words.push(&self.0.quoted(b'"'), false),
                b',' | b':' | b';' | b'<' | b'>' | b'@' => break,
                _ => words.push(self.0.until(ends_atom), true),
            }
        }
        words
    }

    /// Reads what follows an `@`. `a . b` is old syntax for `a.b`.
    fn domain(&mut self) -> Vec<u8> {
        self.0.advance();
        if self.0.skip() == Some(b'[') {
            let literal = self.0.quoted(b']');
            return [b"[".as_slice(), &literal, b"]"].concat();
        }
        let mut domain = Vec::new();
        loop {
            let atom = self.0.until(ends_atom);
            domain.extend_from_slice(atom);
            let next = self.0.skip();
            let goes_on = next == Some(b'.') || (domain.ends_with(b".") && !next.is_none_or(ends_atom));
            if atom.is_empty() || !goes_on {
                return domain;
            }
        }
    }

    /// Reads `local-part [@ domain]`, where one `@` too many belongs to the local part.
    fn addr_spec(&mut self, words: Words) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let mut local_part = words.dotted;
        let mut domain: Option<Vec<u8>> = None;
        while self.0.skip() == Some(b'@') {
            if let Some(before) = domain.take() {
                local_part.push(b'@');
                local_part.extend_from_slice(&before);
            }
            domain = Some(self.domain());
        }
        (Some(local_part), domain)
    }

    /// Reads `<…>`.
    fn angle(&mut self, phrase: Vec<u8>) -> Address {
        let mut address =
            Address { name: Some(phrase).filter(|name| !name.is_empty()), ..Address::default() };
        self.0.advance();
        if self.0.skip() == Some(b'@') {
            let mut route = Vec::new();
            while self.0.skip() == Some(b'@') {
                if !route.is_empty() {
                    route.push(b',');
                }
                route.push(b'@');
                route.extend(self.domain());
                while self.0.skip() == Some(b',') {
                    self.0.advance();
                }
            }
            if self.0.peek() == Some(b':') {
                self.0.advance();
            }
            address.route = Some(route);
        }
        let words = self.words();
        (address.local_part, address.domain) = self.addr_spec(words);
        if self.0.skip() == Some(b'>') {
            self.0.advance();
        }
        fixed(address)
    }

    /// Reads an address, or the beginning of a group; not at the end.
    fn address(&mut self, in_group: bool) -> Address {
        self.0.comment = None;
        let mut words = self.words();
        loop {
            match self.0.peek() {
                Some(b':') if !in_group && !words.phrase.is_empty() => {
                    self.0.advance();
                    return Address { local_part: Some(words.phrase), ..Address::default() };
                }
                Some(b':') => {
                    self.0.advance();
                    words.push(b":", true);
                    let more = self.words();
                    if !more.phrase.is_empty() {
                        words.push(&more.phrase, false);
                    }
                }
                Some(b'<') => return self.angle(words.phrase),
                _ => break,
            }
        }
        let (local_part, domain) = self.addr_spec(words);
        if self.0.peek() == Some(b'<') {
            // An address as the display name, without the quotes it should have.
            let name = [local_part.unwrap_or_default(), b"@".to_vec(), domain.unwrap_or_default()].concat();
            return self.angle(name);
        }
        fixed(Address { name: self.0.comment.take(), route: None, local_part, domain })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(value: &str) -> Vec<Address> {
        let mut found = Vec::new();
        add_addresses(&mut found, value.as_bytes());
        found
    }

    /// As `name|route|local|domain`, `-` for nothing.
    fn check(value: &str, expect: &[&str]) {
        let shown: Vec<String> = addresses(value)
            .into_iter()
            .map(|a| {
                let part = |part: Option<Vec<u8>>| part.map_or("-".into(), |p| String::from_utf8(p).unwrap());
                [a.name, a.route, a.local_part, a.domain].map(part).join("|")
            })
            .collect();
        assert_eq!(shown, expect, "{value}");
    }

    #[test]
    fn addresses_are_taken_apart() {
        check("", &[]);
        check("a@x", &["-|-|a|x"]);
        check("\"A \\\"q\\\" B\" <a@x>, b@y (Bob (x) C)", &["A \"q\" B|-|a|x", "Bob (x) C|-|b|y"]);
        check("=?utf-8?q?f?= <@r1,@r2:c@z>", &["=?utf-8?q?f?=|@r1,@r2|c|z"]);
        check("(c) \"x\" . y <p@q.(c)r>", &["x . y|-|p|q.r"]);
        check("\"a\\\\b\" \"c\" d <\"l p\"@[1.2.3.4]>", &["a\\b c d|-|l p|[1.2.3.4]"]);
        check("zoë@é.example", &["-|-|zoë|é.example"]);
        check("a . b @ c . d", &["-|-|a.b|c.d"]);
        check("\"a\".\"b\"@c", &["-|-|a.b|c"]);
    }

    #[test]
    fn groups_begin_and_end() {
        check(
            "undisclosed-recipients:;, G 1: d@x, <e@y>;",
            &["-|-|undisclosed-recipients|-", "-|-|-|-", "-|-|G 1|-", "-|-|d|x", "-|-|e|y", "-|-|-|-"],
        );
        check("g:a@x", &["-|-|g|-", "-|-|a|x", "-|-|-|-"]);
        check("g:h:i@x;", &["-|-|g|-", "-|-|h : i|x", "-|-|-|-"]);
    }

    #[test]
    fn nothing_broken_is_lost() {
        check("broken <foo bar>, no-at", &["broken|-|foo bar|MISSING_DOMAIN", "-|-|no-at|MISSING_DOMAIN"]);
        check("N <>, \"only name\"", &["N|-|MISSING_MAILBOX|MISSING_DOMAIN", "-|-|only name|MISSING_DOMAIN"]);
        check("\"unclosed <a@b>, c@d", &["-|-|unclosed <a@b>, c@d|MISSING_DOMAIN"]);
        check("<x@y", &["-|-|x|y"]);
        check("<x@y, z@w>", &["-|-|x|y", "-|-|z|w"]);
        check("a@b c@d; e@f", &["-|-|a|b", "-|-|c|d", "-|-|e|f"]);
        check("a@b <a@b>", &["a@b|-|a|b"]);
        check("c@d@e", &["-|-|c@d|e"]);
        check(
            "John [Ext] \\ <j@x>, k@ , @l",
            &["John [Ext] \\|-|j|x", "-|-|k|MISSING_DOMAIN", "-|-|MISSING_MAILBOX|l"],
        );
        check(", ,(only a comment),", &[]);
        check(": x", &["-|-|: x|MISSING_DOMAIN"]);
        check(") > a@b", &["-|-|)|MISSING_DOMAIN", "-|-|a|b"]);
    }

    #[test]
    fn hostile_lists_end_and_cost_little() {
        let most = "a,".repeat(ADDRESSES_MAX + 5);
        let found = addresses(&most);
        assert_eq!(found.len(), ADDRESSES_MAX + 1);
        assert_eq!(found.last().unwrap().local_part.as_deref(), Some(b"MORE_ADDRESSES".as_slice()));
        for piece in ["(", "<", "@", "\"", "[", ":", "a@b ", "a. ", "<@", "\\", "g:", ">", "a@[", "a@b@"] {
            let value = piece.repeat(300_000 / piece.len());
            assert!(addresses(&value).len() <= ADDRESSES_MAX + 2, "{piece}");
        }
    }
}
