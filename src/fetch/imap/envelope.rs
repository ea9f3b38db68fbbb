//! ENVELOPE (RFC 3501 §7.4.2), from a header block in canonical form.
//!
//! Texts are given as written, unfolded, encoded words left alone. Of a field that occurs again, addresses are joined, so
//! that nobody shows one From and checks another; of a text the last counts. Both as Dovecot does.

use super::address::{Address, add_addresses, more_addresses};
use super::fields::fields;
use super::strings::{nstring, string_for_people};

/// Writes the envelope of the message with this header block. `addresses_left` is how many addresses the answer may still give: a
/// short header can say many, each From counts three times, and one answer may hold the envelopes of many messages.
pub(super) fn write(out: &mut Vec<u8>, block: &[u8], addresses_left: &mut usize) {
    let found = Found::of(block);
    out.push(b'(');
    nstring(out, found.date.as_deref());
    out.push(b' ');
    match &found.subject {
        Some(subject) => string_for_people(out, subject),
        None => out.extend_from_slice(b"NIL"),
    }
    // Those two are the author, where nobody else is named.
    let or_from = |list| if Vec::is_empty(list) { &found.from } else { list };
    let (sender, reply_to) = (or_from(&found.sender), or_from(&found.reply_to));
    for list in [&found.from, sender, reply_to, &found.to, &found.cc, &found.bcc] {
        out.push(b' ');
        write_list(out, list, addresses_left);
    }
    for text in [&found.in_reply_to, &found.message_id] {
        out.push(b' ');
        nstring(out, text.as_deref());
    }
    out.push(b')');
}

#[derive(Default)]
struct Found {
    date: Option<Vec<u8>>,
    subject: Option<Vec<u8>>,
    from: Vec<Address>,
    sender: Vec<Address>,
    reply_to: Vec<Address>,
    to: Vec<Address>,
    cc: Vec<Address>,
    bcc: Vec<Address>,
    in_reply_to: Option<Vec<u8>>,
    message_id: Option<Vec<u8>>,
}

impl Found {
    fn of(block: &[u8]) -> Found {
        let mut found = Found::default();
        for field in fields(block) {
            match field.name.to_ascii_lowercase().as_slice() {
                b"date" => found.date = Some(field.unfolded()),
                b"subject" => found.subject = Some(field.unfolded()),
                b"from" => add_addresses(&mut found.from, &field.unfolded()),
                b"sender" => add_addresses(&mut found.sender, &field.unfolded()),
                b"reply-to" => add_addresses(&mut found.reply_to, &field.unfolded()),
                b"to" => add_addresses(&mut found.to, &field.unfolded()),
                b"cc" => add_addresses(&mut found.cc, &field.unfolded()),
                b"bcc" => add_addresses(&mut found.bcc, &field.unfolded()),
                b"in-reply-to" => found.in_reply_to = Some(field.unfolded()),
                b"message-id" => found.message_id = Some(field.unfolded()),
                _ => {}
            }
        }
        found
    }
}

fn write_list(out: &mut Vec<u8>, list: &[Address], left: &mut usize) {
    if list.is_empty() {
        return out.extend_from_slice(b"NIL");
    }
    let (given, cut) = list.split_at(list.len().min(*left));
    *left -= given.len();
    out.push(b'(');
    given.iter().for_each(|address| write_address(out, address));
    if !cut.is_empty() {
        write_address(out, &more_addresses());
        // A group that was begun is ended.
        if given
            .iter()
            .rfind(|address| address.domain.is_none())
            .is_some_and(|last| last.local_part.is_some())
        {
            write_address(out, &Address::default());
        }
    }
    out.push(b')');
}

fn write_address(out: &mut Vec<u8>, address: &Address) {
    out.push(b'(');
    match &address.name {
        Some(name) => string_for_people(out, name),
        None => out.extend_from_slice(b"NIL"),
    }
    for part in [&address.route, &address.local_part, &address.domain] {
        out.push(b' ');
        nstring(out, part.as_deref());
    }
    out.push(b')');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(block: &str, expect: &str) {
        let mut out = Vec::new();
        write(&mut out, block.as_bytes(), &mut 100);
        assert_eq!(String::from_utf8(out).unwrap(), expect, "{block}");
    }

    #[test]
    fn addresses_beyond_what_an_answer_may_give_are_said_to_be_there() {
        let (mut out, mut left) = (Vec::new(), 5);
        write(&mut out, b"From: a@x\r\nTo: g: b@x, c@x;\r\nCc: d@x\r\n", &mut left);
        let (a, more) = ("((NIL NIL \"a\" \"x\"))", "(NIL NIL \"MORE_ADDRESSES\" \"MISSING_DOMAIN\")");
        let to = format!("((NIL NIL \"g\" NIL)(NIL NIL \"b\" \"x\"){more}(NIL NIL NIL NIL))");
        let expect = format!("(NIL NIL {a} {a} {a} {to} ({more}) NIL NIL NIL)");
        assert_eq!((String::from_utf8(out).unwrap(), left), (expect, 0));
    }

    #[test]
    fn fields_are_given_as_written() {
        check("", "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)");
        check(
            "Date: Mon, 1 Jan 2001 (c) \r\nFrom: A <a@x>\r\nsubject: =?x?= \"q\"\r\n\tz\r\nMessage-ID: <i>\r\nIn-Reply-To:\r\nBcc: \r\n",
            "(\"Mon, 1 Jan 2001 (c) \" \"=?x?= \\\"q\\\" z\" ((\"A\" NIL \"a\" \"x\")) ((\"A\" NIL \"a\" \"x\")) \
             ((\"A\" NIL \"a\" \"x\")) NIL NIL NIL \"\" \"<i>\")",
        );
        check(
            "From: a@x\r\nSender: s@x\r\nReply-To: r@x\r\nTo: g:;\r\nCc: zo\u{eb}@x\r\nFrom: b@x\r\n",
            "(NIL NIL ((NIL NIL \"a\" \"x\")(NIL NIL \"b\" \"x\")) ((NIL NIL \"s\" \"x\")) ((NIL NIL \"r\" \"x\")) \
             ((NIL NIL \"g\" NIL)(NIL NIL NIL NIL)) ((NIL NIL {4}\r\nzo\u{eb} \"x\")) NIL NIL NIL)",
        );
    }
}
