//! One address, or one recipient line, of a report text.
//!
//! X.500 names hold commas, colons, blanks and angle brackets, and so may quoted local parts: a line is never split
//! at a bare comma, only at `, Expanded:` or `, Forwarded:` outside quotes and outside `[EX:…]`.

use super::defect::{DefectKind, Defects};
use crate::mail::{Address, JournaledRecipient, RecipientField, Redirection, WrittenAddress};

/// Blanks that reports put around values; NBSP comes from HTML and from mangled charsets.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| matches!(c, ' ' | '\t' | '\r' | '\u{a0}'))
}

/// Reads the value of a `To:`, `Cc:`, `Bcc:` or `Recipient:` line. `None` when it names nobody.
pub(super) fn recipient_line(
    field: RecipientField,
    value: &str,
    line: usize,
    defects: &mut Defects,
) -> Option<JournaledRecipient> {
    let split = find_redirections(value, true).unwrap_or_else(|| {
        defects.note(DefectKind::UnbalancedQuote, || format!("line {line}"));
        find_redirections(value, false).unwrap_or_default()
    });
    if split.count > 1 {
        defects.note(DefectKind::SeveralRedirections, || format!("line {line}"));
    }
    let address = value.get(..split.address_end.unwrap_or(value.len())).unwrap_or(value);
    let redirection = split.last.and_then(|(expanded, start)| {
        let via = written(value.get(start..)?, line, defects);
        let kind = if expanded { Redirection::Expanded } else { Redirection::Forwarded };
        (!via.is_null()).then(|| kind(via))
    });
    recipient(field, address, redirection, line, defects)
}

fn recipient(
    field: RecipientField,
    address: &str,
    redirection: Option<Redirection>,
    line: usize,
    defects: &mut Defects,
) -> Option<JournaledRecipient> {
    let address = written(address, line, defects);
    if address.is_null() {
        defects.note(DefectKind::RecipientEmpty, || format!("line {line}"));
        return None;
    }
    Some(JournaledRecipient { field, address, redirection })
}

/// Reads a line of an Exchange 2003 `Recipients:` block: `Name <address>`, one a line, perhaps with a comma behind it.
/// Names hold commas too, so a line is split only where it has several addresses in angle brackets, or none. Of a line with
/// more than `room` recipients only so many are read, and that is noted.
pub(super) fn block_line(
    text: &str,
    line: usize,
    room: usize,
    defects: &mut Defects,
) -> Vec<JournaledRecipient> {
    let text = trim(text).trim_end_matches(',');
    let mut found = Vec::new();
    let mut take = |address: &str| {
        let has_room = found.len() < room;
        if has_room {
            found.extend(recipient(RecipientField::Unspecified, address, None, line, defects));
        } else {
            defects.note(DefectKind::ReportTextCut, || format!("line {line}: more recipients than are read"));
        }
        has_room
    };
    let mut in_doubt = false;
    match x500_start(text).filter(|_| !has_names_in_brackets(text)) {
        Some(at) => {
            let (before, name) = text.split_at(at);
            // The name may hold commas and brackets; what stands before it is its display name, or other addresses.
            if let Some((addresses, _)) =
                before.rsplit_once(',').filter(|(addresses, _)| addresses.contains('@'))
            {
                let _ = each_address(addresses, &mut take);
                in_doubt |= has_more_addresses(addresses);
            }
            let bare = trim(name.strip_suffix('>').unwrap_or(name));
            in_doubt |= !bare.ends_with(']');
            take(if bare.ends_with(']') { bare } else { text });
        }
        None => {
            let _ = each_address(text, &mut take);
            in_doubt |= has_more_addresses(text);
        }
    }
    if in_doubt {
        // Somebody may be missing: better in front of an admin than assigned without them.
        defects
            .note(DefectKind::ReportTextCut, || format!("line {line}: addresses that cannot be told apart"));
    }
    found
}

/// Every X.500 name of the line stands whole in brackets of its own.
fn has_names_in_brackets(text: &str) -> bool {
    let whole =
        bracketed(text).into_iter().filter(|inner| is_x500(trim(inner)) && trim(inner).ends_with(']'));
    let names = memchr::memchr_iter(b'[', text.as_bytes()).filter(|at| text.get(*at..).is_some_and(is_x500));
    whole.count() == names.count()
}

/// Beside addresses in brackets there is one without, which is not merely the display name of one of them.
fn has_more_addresses(text: &str) -> bool {
    let addresses = bracketed(text);
    let (mut quoted, mut escaped) = (false, false);
    let mut pieces = text.split(|c| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return c == ',' && !quoted,
        }
        false
    });
    let is_named =
        |piece: &str| addresses.iter().any(|address| trim(address).eq_ignore_ascii_case(trim(piece)));
    !addresses.is_empty()
        && pieces.any(|piece| piece.contains('@') && !piece.contains(['<', '>', '"']) && !is_named(piece))
}

/// What stands in angle brackets, else what stands between commas; until `take` has enough.
fn each_address(text: &str, take: &mut impl FnMut(&str) -> bool) -> bool {
    let addresses = bracketed(text);
    if addresses.is_empty() {
        text.split(',').map(trim).filter(|t| !t.is_empty()).all(take)
    } else {
        addresses.into_iter().all(take)
    }
}

/// Where an X.500 name begins in a line.
fn x500_start(text: &str) -> Option<usize> {
    memchr::memchr_iter(b'[', text.as_bytes()).find(|at| text.get(*at..).is_some_and(is_x500))
}

/// True for a line with an X.500 name in it.
pub(super) fn holds_x500(text: &str) -> bool {
    x500_start(text).is_some()
}

/// What stands in angle brackets outside quotes.
fn bracketed(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut quoted, mut escaped, mut open) = (false, false, None);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'<' if !quoted => open = Some(at + 1),
            b'>' if !quoted => found.extend(open.take().and_then(|start| text.get(start..at))),
            _ => {}
        }
    }
    found
}

/// An address as the report wrote it, without brackets and display name.
pub(super) fn written(text: &str, line: usize, defects: &mut Defects) -> WrittenAddress {
    let text = trim(text);
    if is_x500(text) {
        return WrittenAddress(text.to_owned());
    }
    let bare = without_name(text);
    if bare.len() != text.len() {
        // `<>` is how a null path is written, not a deviation.
        if !bare.is_empty() {
            defects.note(DefectKind::BracketedAddress, || format!("line {line}"));
        }
    }
    if !bare.is_empty() && !is_x500(bare) && !is_encapsulated(bare) && Address::parse(bare).is_err() {
        defects.note(DefectKind::MalformedAddress, || format!("line {line}"));
    }
    WrittenAddress(bare.to_owned())
}

/// `IMCEAEX-…@domain` and its kin: an address of another kind in the local part, which makes it longer than RFC 5321 allows.
fn is_encapsulated(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let is_kin =
        local.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("IMCEA")) && local.contains('-');
    is_kin
        && local.bytes().all(|b| b.is_ascii_graphic())
        && Address::parse(&format!("imcea@{domain}")).is_ok()
}

fn is_x500(text: &str) -> bool {
    text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("[EX:"))
}

fn without_name(text: &str) -> &str {
    let Some(open) = text.strip_suffix('>') else { return text };
    let inner = match open.strip_prefix('<') {
        Some(inner) => Some(inner),
        None => bracketed(text).pop().or_else(|| open.rsplit_once('<').map(|(_, inner)| inner)),
    };
    inner.map_or(text, trim)
}

#[derive(Default)]
struct Redirections {
    count: usize,
    /// Where the first one starts: the address ends here.
    address_end: Option<usize>,
    /// Of the last one: whether it is `Expanded`, and where its address starts.
    last: Option<(bool, usize)>,
}

/// Finds the redirections of a recipient value. `None` when a quote or `[EX:` does not end.
fn find_redirections(value: &str, honour_quotes: bool) -> Option<Redirections> {
    let bytes = value.as_bytes();
    let mut found = Redirections::default();
    let (mut at, mut token_start) = (0, true);
    while let Some(&byte) = bytes.get(at) {
        let rest = bytes.get(at..)?;
        if token_start && matches!(byte, b' ' | b'\t' | b'<') {
            at += 1;
            continue;
        }
        if token_start && honour_quotes && byte == b'"' {
            at += quoted_octets(rest)?;
        } else if token_start
            && honour_quotes
            && rest.get(..4).is_some_and(|s| s.eq_ignore_ascii_case(b"[EX:"))
        {
            at += x500_octets(rest)?;
        } else if byte == b','
            && let Some((expanded, octets)) = redirection_keyword(rest)
        {
            found.count += 1;
            found.address_end.get_or_insert(at);
            at += octets;
            found.last = Some((expanded, at));
            token_start = true;
            continue;
        } else {
            at += 1;
        }
        token_start = false;
    }
    Some(found)
}

fn quoted_octets(rest: &[u8]) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in rest.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// A name may hold `]`; the one that ends it is followed by a comma, a blank or nothing.
fn x500_octets(rest: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b']', rest)
        .map(|at| at + 1)
        .find(|end| matches!(rest.get(*end), None | Some(b',' | b' ' | b'\t' | b'>')))
}

/// Octets of `, Expanded:` or `, Forwarded:` at the start of `rest`; blanks may differ.
fn redirection_keyword(rest: &[u8]) -> Option<(bool, usize)> {
    let blanks = |text: &[u8]| text.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    let mut at = 1 + blanks(rest.get(1..)?);
    let word = rest.get(at..)?;
    let starts =
        |keyword: &str| word.get(..keyword.len()).is_some_and(|w| w.eq_ignore_ascii_case(keyword.as_bytes()));
    let (expanded, octets) = if starts("Expanded") {
        (true, "Expanded".len())
    } else if starts("Forwarded") {
        (false, "Forwarded".len())
    } else {
        return None;
    };
    at += octets;
    at += blanks(rest.get(at..)?);
    (rest.get(at) == Some(&b':')).then_some((expanded, at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, address: &str, via: Option<&str>) {
        let mut defects = Defects::default();
        let read = recipient_line(RecipientField::To, value, 1, &mut defects).unwrap();
        let found = read.redirection.map(|r| match r {
            Redirection::Expanded(via) => format!("expanded {}", via.0),
            Redirection::Forwarded(via) => format!("forwarded {}", via.0),
        });
        assert_eq!((read.address.as_str(), found.as_deref()), (address, via), "{value}");
    }

    #[test]
    fn redirections_are_split_off_outside_quotes_and_names_only() {
        check("a@b", "a@b", None);
        check("a@b, Expanded: g@b", "a@b", Some("expanded g@b"));
        check(" a@b ,FORWARDED :u@b ", "a@b", Some("forwarded u@b"));
        check("a@b, c", "a@b, c", None);
        check(r#""x, Expanded: y"@b, Forwarded: u@b"#, r#""x, Expanded: y"@b"#, Some("forwarded u@b"));
        check(
            "[EX:/o=A, B/cn=x, Expanded: y], Expanded: [EX:/o=A/cn=<g>: h]",
            "[EX:/o=A, B/cn=x, Expanded: y]",
            Some("expanded [EX:/o=A/cn=<g>: h]"),
        );
        check("IMCEAEX-_O=ORG_OU=x+20y_CN=u@b.example", "IMCEAEX-_O=ORG_OU=x+20y_CN=u@b.example", None);
        check("a@b, Expanded: g1@b, Expanded: g2@b", "a@b", Some("expanded g2@b"));
        check(r#""open@b, Expanded: g@b"#, r#""open@b"#, Some("expanded g@b"));
        check("[EX:/o=open, Expanded: g@b", "[EX:/o=open", Some("expanded g@b"));
        check("a@b, Expanded:", "a@b", None);
    }

    #[test]
    fn brackets_and_names_are_taken_off() {
        check("<a@b>", "a@b", None);
        check("\"Bob, B.\" <a@b>", "a@b", None);
        check("Bob, B. <a@b>", "a@b", None);
        check(r#"<"x<y"@b>"#, r#""x<y"@b"#, None);
        check(r#""x <y>"@b"#, r#""x <y>"@b"#, None);
        check("<[EX:/o=A/cn=B]>", "[EX:/o=A/cn=B]", None);
        check("<a@b>, Expanded: <g@b>", "a@b", Some("expanded g@b"));
    }

    #[test]
    fn block_lines_hold_one_named_or_several_plain_addresses() {
        let read = |text: &str| -> Vec<String> {
            block_line(text, 1, 9, &mut Defects::default()).into_iter().map(|r| r.address.0).collect()
        };
        assert_eq!(read("\t\"Bob, B.\" <bob@x>,"), ["bob@x"]);
        assert_eq!(read("\tBob, B. <bob@x>"), ["bob@x"]);
        assert_eq!(read(" a@x, b@x ,"), ["a@x", "b@x"]);
        assert_eq!(read("A <a@x>, \"B>\" <b@x>"), ["a@x", "b@x"]);
        for x500 in ["[EX:/o=A, B/cn=C]", "[ex:/o=A, B/cn=<g>: C]"] {
            for line in [
                x500.to_owned(),
                format!("\"B, B.\" {x500},"),
                format!("Name <{x500}>"),
                format!("B, {x500}"),
            ] {
                assert_eq!(read(&line), [x500], "{line}");
            }
            assert_eq!(read(&format!("A <a@x>, b@x, {x500}")), ["a@x", x500]);
            assert_eq!(read(&format!("a@x, {x500}")), ["a@x", x500]);
        }
        assert_eq!(read("Bob <b@x>, C <[EX:/o=A/cn=c]>"), ["b@x", "[EX:/o=A/cn=c]"]);
        assert_eq!(read("A <[EX:/o=A/cn=a]>, Bob <b@x>"), ["[EX:/o=A/cn=a]", "b@x"]);
        assert_eq!(read("A <[EX:/o=A/cn=a]>, B <[EX:/o=A/cn=b]>"), ["[EX:/o=A/cn=a]", "[EX:/o=A/cn=b]"]);
        assert_eq!(read("[EX:/o=A, B/cn=C"), ["[EX:/o=A, B/cn=C"]);
        assert!(read("\t,").is_empty());
    }

    #[test]
    fn a_block_line_on_which_somebody_may_be_missed_is_told() {
        let is_told = |text: &str| {
            let mut defects = Defects::default();
            block_line(text, 1, 9, &mut defects);
            defects.has(DefectKind::ReportTextCut)
        };
        for line in
            ["A <a@x>, b@x", "A <a@x>, b@x, [EX:/o=A/cn=c]", "A <[EX:/o=A, B/cn=<g>]>, Bob <b@x>", "[EX:/o=A"]
        {
            assert!(is_told(line), "{line}");
        }
        for line in [
            "\"b@x, B.\" <bob@x>",
            "bob@x <bob@x>",
            "bob@x, <BOB@x>",
            "Bob, B. <bob@x>",
            "a@x, b@x",
            "a@x, [EX:/o=A, B/cn=C]",
            "Name <[EX:/o=A/cn=<g>: h]>",
        ] {
            assert!(!is_told(line), "{line}");
        }
    }

    #[test]
    fn a_block_line_stops_where_there_is_no_room() {
        for (line, is_cut) in [("a@x, b@x", false), ("a@x, b@x, c@x", true), ("<a@x>, <b@x>, <c@x>", true)] {
            let mut defects = Defects::default();
            let found = block_line(line, 1, 2, &mut defects);
            assert_eq!((found.len(), defects.has(DefectKind::ReportTextCut)), (2, is_cut), "{line}");
        }
    }

    #[test]
    fn encapsulated_addresses_may_be_long() {
        for (address, is_well_formed) in [
            (format!("IMCEAEX-_O=ORG_CN={}@b.example", "x".repeat(100)), true),
            (format!("imceafax-{}@b.example", "1".repeat(80)), true),
            (format!("IMCEAEX-{}@", "x".repeat(100)), false),
            (format!("IMCEAEX-{} x@b.example", "x".repeat(100)), false),
            (format!("{}@b.example", "x".repeat(100)), false),
        ] {
            let mut defects = Defects::default();
            assert_eq!(written(&address, 1, &mut defects).as_str(), address);
            assert_eq!(defects.has(DefectKind::MalformedAddress), !is_well_formed, "{address}");
        }
    }

    #[test]
    fn an_empty_line_names_nobody() {
        let mut defects = Defects::default();
        assert_eq!(recipient_line(RecipientField::To, " ", 1, &mut defects), None);
        assert!(defects.has(DefectKind::RecipientEmpty));
    }
}
