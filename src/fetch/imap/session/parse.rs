//! What a whole command says: its tag, and what is to be done.
//!
//! LOGIN, AUTHENTICATE and APPEND are read here: the first takes passwords beyond ASCII, which no grammar allows in quotes but
//! clients send; the last is refused whatever its arguments are. All others are read by `imap-codec`.
//!
//! Quirks, accepted on purpose: a line that ends in LF alone, blanks at its end, and in LOGIN octets beyond ASCII and every
//! character but `"(){\` and blanks in words without quotes.

use crate::fetch::auth::Password;
use imap_codec::CommandCodec;
use imap_codec::decode::Decoder;
use imap_codec::imap_types::command::CommandBody;
use zeroize::Zeroizing;

/// Longest tag taken.
pub(super) const TAG_OCTETS_MAX: usize = 128;
/// Deepest nesting of search keys that `imap-codec` reads, the innermost counted: it reads them by recursion.
pub(super) const NESTING_MAX: usize = 9;

/// A command.
#[derive(Debug)]
pub(super) enum Said<'a> {
    /// A password.
    Login { login: String, password: Password },
    /// The beginning of an exchange.
    Authenticate { mechanism: &'a str, initial: Option<&'a [u8]> },
    /// A message to keep.
    Append,
    /// Anything else.
    Other(CommandBody<'a>),
}

/// The tag of a command and what is behind it; `None` when it has none that could be answered to.
pub(super) fn tag(octets: &[u8]) -> Option<(&str, &[u8])> {
    let line = octets.split(|octet| *octet == b'\n').next()?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let ends = line.iter().position(|octet| *octet == b' ').unwrap_or(line.len());
    let (tag, rest) = octets.split_at(ends);
    let is_tag = (1..=TAG_OCTETS_MAX).contains(&tag.len()) && tag.iter().all(|octet| is_tag_octet(*octet));
    if !is_tag {
        return None;
    }
    Some((std::str::from_utf8(tag).ok()?, rest.strip_prefix(b" ").unwrap_or(rest)))
}

/// RFC 3501 §9: any ASTRING-CHAR except `+`.
fn is_tag_octet(octet: u8) -> bool {
    octet.is_ascii_graphic() && !b"(){%*\"\\+".contains(&octet)
}

/// True when what is behind the tag begins with this verb.
pub(super) fn is(rest: &[u8], verb: &str) -> bool {
    let word = rest.split(|octet| matches!(octet, b' ' | b'\r' | b'\n')).next().unwrap_or_default();
    word.eq_ignore_ascii_case(verb.as_bytes())
}

/// Reads a whole command with CRLF at its end; `rest` is what is behind its tag.
///
/// # Errors
/// What is wrong with it. The client's fault.
pub(super) fn command<'a>(whole: &'a [u8], rest: &'a [u8]) -> Result<Said<'a>, &'static str> {
    if is(rest, "LOGIN") {
        return login(rest).ok_or("LOGIN takes a user name and a password");
    }
    if is(rest, "AUTHENTICATE") {
        return authenticate(rest).ok_or("AUTHENTICATE takes a mechanism and maybe an initial response");
    }
    if is(rest, "APPEND") {
        return Ok(Said::Append);
    }
    match CommandCodec::default().decode(whole) {
        Ok(([], command)) => Ok(Said::Other(command.body)),
        _ if is_search(rest) && nesting(rest) > NESTING_MAX => {
            Err("search keys are nested too deep, or not what they should be")
        }
        _ => Err("unknown command or wrong arguments"),
    }
}

fn is_search(rest: &[u8]) -> bool {
    let of_uids = rest.get(..4).filter(|verb| verb.eq_ignore_ascii_case(b"UID "));
    is(rest, "SEARCH") || of_uids.is_some() && rest.get(4..).is_some_and(|rest| is(rest, "SEARCH"))
}

/// How deep search keys are nested at most: as if whatever is behind NOT and OR belonged to them. What is in quotes does not
/// count; what is in a literal does, which matters to a search that cannot be read anyway.
fn nesting(octets: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut operators = 0;
    let unquoted = octets.split(|octet| *octet == b'"').step_by(2);
    for word in unquoted.flat_map(|text| text.split(|octet| b" \r\n".contains(octet))) {
        for octet in word {
            match octet {
                b'(' => depth += 1,
                b')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            deepest = deepest.max(depth);
        }
        let key = word.rsplit(|octet| *octet == b'(').next().unwrap_or_default();
        operators += usize::from(key.eq_ignore_ascii_case(b"NOT") || key.eq_ignore_ascii_case(b"OR"));
    }
    deepest + operators + 1
}

fn login(rest: &[u8]) -> Option<Said<'_>> {
    let mut words = Words { rest };
    words.atom()?;
    let login = words.space()?.string()?;
    let password = words.space()?.string()?;
    words.end()?;
    // What is not UTF-8 is no password of ours; it fails as any other, in the same time.
    let login = String::from_utf8_lossy(&login).trim().to_owned();
    let is_name = !login.is_empty() && !login.chars().any(char::is_control);
    let password = Zeroizing::new(String::from_utf8_lossy(&password).into_owned());
    (is_name && !password.is_empty()).then(|| Said::Login { login, password: Password::new(&password) })
}

fn authenticate(rest: &[u8]) -> Option<Said<'_>> {
    let mut words = Words { rest };
    words.atom()?;
    let mechanism = std::str::from_utf8(words.space()?.atom()?).ok()?;
    let initial = match words.end() {
        Some(()) => None,
        None => Some(words.space()?.atom()?),
    };
    words.end()?;
    Some(Said::Authenticate { mechanism, initial })
}

/// Reads words one after the other.
struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    fn space(&mut self) -> Option<&mut Self> {
        self.rest = self.rest.strip_prefix(b" ")?;
        Some(self)
    }

    fn end(&self) -> Option<()> {
        (self.rest == b"\r\n").then_some(())
    }

    fn atom(&mut self) -> Option<&'a [u8]> {
        let ends = self.rest.iter().position(|octet| *octet <= b' ' || b"\"(){\\\x7f".contains(octet))?;
        let (atom, rest) = self.rest.split_at(ends);
        self.rest = rest;
        (!atom.is_empty()).then_some(atom)
    }

    /// An astring.
    fn string(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        match self.rest.first()? {
            b'"' => self.quoted(),
            b'{' => self.literal(),
            _ => self.atom().map(|atom| Zeroizing::new(atom.to_vec())),
        }
    }

    fn quoted(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        let mut octets = self.rest.iter().enumerate().skip(1);
        let mut text = Zeroizing::new(Vec::with_capacity(self.rest.len()));
        while let Some((at, octet)) = octets.next() {
            match octet {
                b'"' => {
                    self.rest = self.rest.get(at + 1..)?;
                    return Some(text);
                }
                b'\\' => text.push(*octets.next().map(|(_, octet)| octet).filter(|o| b"\"\\".contains(o))?),
                0 | b'\r' | b'\n' => return None,
                octet => text.push(*octet),
            }
        }
        None
    }

    fn literal(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        let ends = self.rest.iter().position(|octet| *octet == b'\n')?;
        let (announced, data) = self.rest.split_at(ends + 1);
        let number = announced.strip_prefix(b"{")?.strip_suffix(b"}\r\n")?;
        let number = std::str::from_utf8(number.strip_suffix(b"+").unwrap_or(number)).ok()?;
        let (data, rest) = data.split_at_checked(number.parse().ok()?)?;
        self.rest = rest;
        Some(Zeroizing::new(data.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_login(line: &[u8], expect: Option<(&str, &str)>) {
        let line = [line, b"\r\n"].concat();
        let said = match command(&line, tag(&line).unwrap().1) {
            Ok(Said::Login { login, password }) => Some((login, password)),
            _ => None,
        };
        let expect = expect.map(|(login, password)| (login.to_owned(), Password::new(password)));
        assert_eq!(said, expect, "{:?}", String::from_utf8_lossy(&line));
    }

    #[test]
    fn login_takes_all_kinds_of_strings() {
        check_login(b"a LOGIN x y", Some(("x", "y")));
        check_login(b"a login \"x y\" \"a\\\"\\\\b\"", Some(("x y", "a\"\\b")));
        check_login(b"a LOGIN {1}\r\nx {3+}\r\n\"( ", Some(("x", "\"( ")));
        check_login("a LOGIN x \"p\u{e4}\"".as_bytes(), Some(("x", "p\u{e4}")));
        check_login("a LOGIN x p\u{e4}*%]".as_bytes(), Some(("x", "p\u{e4}*%]")));
        check_login(b"a LOGIN x \"p\xe4\"", Some(("x", "p\u{fffd}")));
        for wrong in
            ["x", "x y z", "x  y", " x y", "\"x\"y", "x \"y", "x \"\\y\"", "x \"\"", "{9}\r\nx y", "(x) y"]
        {
            check_login(format!("a LOGIN {wrong}").as_bytes(), None);
        }
    }

    #[test]
    fn authenticate_takes_an_initial_response() {
        let check = |line: &str, expect: Option<(&str, Option<&str>)>| {
            let line = format!("a {line}\r\n");
            let said = match command(line.as_bytes(), tag(line.as_bytes()).unwrap().1) {
                Ok(Said::Authenticate { mechanism, initial }) => {
                    Some((mechanism.to_owned(), initial.map(<[u8]>::to_vec)))
                }
                _ => None,
            };
            let expect = expect.map(|(m, i)| (m.to_owned(), i.map(|i| i.as_bytes().to_vec())));
            assert_eq!(said, expect, "{line:?}");
        };
        check("AUTHENTICATE PLAIN", Some(("PLAIN", None)));
        check("authenticate plain AGEAYg==", Some(("plain", Some("AGEAYg=="))));
        check("AUTHENTICATE LOGIN =", Some(("LOGIN", Some("="))));
        check("AUTHENTICATE", None);
        check("AUTHENTICATE PLAIN a b", None);
    }

    #[test]
    fn tags_are_checked() {
        assert_eq!(tag(b"a.1 NOOP\r\n"), Some(("a.1", b"NOOP\r\n".as_slice())));
        assert_eq!(tag(b"a\r\n"), Some(("a", b"\r\n".as_slice())));
        assert_eq!(tag(b"]=~ X\r\n").unwrap().0, "]=~");
        for wrong in [
            "\r\n",
            " NOOP\r\n",
            "+ NOOP\r\n",
            "a+b NOOP\r\n",
            "* OK\r\n",
            "\"a\" NOOP\r\n",
            "\u{e4} NOOP\r\n",
        ] {
            assert_eq!(tag(wrong.as_bytes()), None, "{wrong:?}");
        }
        assert_eq!(tag(&[[b'a'; TAG_OCTETS_MAX + 1].as_slice(), b" NOOP\r\n"].concat()), None);
    }

    #[test]
    fn a_search_that_is_nested_too_deep_is_told_so() {
        let check = |line: &str, expect: Option<&str>| {
            let whole = format!("a {line}\r\n");
            let said = command(whole.as_bytes(), tag(whole.as_bytes()).unwrap().1).err();
            assert_eq!(said.map(|why| why.split(',').next().unwrap()), expect, "{line}");
        };
        let deep = |depth: usize| format!("{}1{}", "(".repeat(depth), ")".repeat(depth));
        let too_deep = Some("search keys are nested too deep");
        let wrong = Some("unknown command or wrong arguments");
        for verb in ["SEARCH", "uid search"] {
            // The key within counts.
            check(&format!("{verb} {}", deep(NESTING_MAX - 1)), None);
            check(&format!("{verb} {}", deep(NESTING_MAX)), too_deep);
            check(&format!("{verb} {}", deep(10_000)), too_deep);
            check(&format!("{verb} {}1", "NOT ".repeat(NESTING_MAX - 1)), None);
            check(&format!("{verb} {}1", "not ".repeat(NESTING_MAX)), too_deep);
            check(&format!("{verb} {}1", "OR 1 ".repeat(NESTING_MAX - 1)), None);
            check(&format!("{verb} {}1", "(OR 1 ".repeat(NESTING_MAX)), too_deep);
            check(&format!("{verb} SUBJECT \"((((((((((\" X"), wrong);
        }
        check(&format!("FETCH 1 {}", deep(NESTING_MAX)), wrong);
    }

    #[test]
    fn commands_of_real_clients_are_read() {
        for line in [
            "LIST \"\" \"\"",
            "list \"\" \"*\"",
            "LSUB \"\" \"%\"",
            "FETCH 1:* (FLAGS UID INTERNALDATE)",
            "UID FETCH 1:7 (UID FLAGS)",
            "FETCH 1 RFC822.HEADER",
            "fetch 1 body.peek[text]",
            "UID FETCH 1 (UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS (From To \"X-A\")])",
            "FETCH 1 BODY[1.2.MIME]<0.100>",
            "STORE 1 +FLAGS (\\Seen \\Deleted)",
            "UID STORE 7 +FLAGS.SILENT (\\Deleted)",
            "STORE 1 FLAGS \\Seen $Fwd",
            "SEARCH UNSEEN",
            "UID SEARCH CHARSET UTF-8 OR FROM a (SINCE 1-Jan-2026 NOT DELETED)",
            "EXPUNGE",
            "UID EXPUNGE 1:*",
            "STATUS \"INBOX\" (MESSAGES UNSEEN UIDNEXT)",
            "ID (\"name\" \"x\" \"os\" NIL)",
            "ID NIL",
            "ENABLE CONDSTORE UTF8=ACCEPT",
            "NAMESPACE",
            "IDLE",
            "UNSELECT",
            "MOVE 1 x",
            "CREATE x",
            "STARTTLS",
            "noop",
        ] {
            let whole = format!("a1 {line}\r\n");
            let said = command(whole.as_bytes(), tag(whole.as_bytes()).unwrap().1);
            assert!(matches!(said, Ok(Said::Other(_))), "{line}");
        }
    }
}
