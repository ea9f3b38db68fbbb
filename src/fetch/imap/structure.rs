//! BODY and BODYSTRUCTURE (RFC 3501 §7.4.2), from the MIME tree of a message.
//!
//! Sizes are those of the sections with the same numbers: canonical octets and line ends. Where a part must hold something and
//! nothing was found, an empty text stands, as Dovecot has it: a multipart without parts, a message that is encoded or too deep.

use super::address::ADDRESSES_MAX;
use super::content::{Sink, Stop};
use super::envelope;
use super::mime_fields::MimeFields;
use super::strings::{nstring, string};
use super::tree::{Children, Kind, Node, Tree};

/// Parts deeper than this are not shown: reading stops earlier, so that only a tree of another make could be so deep.
const DEPTH_MAX: usize = 128;
/// The text that stands where nothing is.
const EMPTY_TEXT: &[u8] = b"(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0";
/// The envelope of no message.
const EMPTY_ENVELOPE: &[u8] = b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)";

/// Writes the structure; `extended` for BODYSTRUCTURE, without for BODY. What is written may be sent between two parts: the tree is
/// there, and nothing can fail half way.
///
/// # Errors
/// [`Stop::Unwanted`]
pub(super) fn write(out: &mut dyn Sink, tree: &Tree, extended: bool) -> Result<(), Stop> {
    Writer { out, extended, addresses_left: ADDRESSES_MAX }.part(&tree.root(), 0)
}

struct Writer<'o> {
    out: &'o mut dyn Sink,
    extended: bool,
    /// For the envelopes of all messages in it.
    addresses_left: usize,
}

impl Writer<'_> {
    fn part(&mut self, node: &Node<'_>, depth: usize) -> Result<(), Stop> {
        // Whether there is enough to be sent.
        self.out.put(b"")?;
        let fields = node.fields();
        self.text("(");
        match node.kind_by(&fields) {
            Kind::Multipart(children) => self.multipart(children, &fields, depth)?,
            Kind::Message(message) => self.message(node, message.as_ref(), &fields, depth)?,
            Kind::Leaf => self.leaf(node, &fields),
        }
        self.text(")");
        Ok(())
    }

    fn multipart(&mut self, children: Children<'_>, fields: &MimeFields, depth: usize) -> Result<(), Stop> {
        let mut shown = children.iter().filter(|_| depth < DEPTH_MAX).peekable();
        if shown.peek().is_none() {
            self.empty_text();
        }
        shown.try_for_each(|child| self.part(&child, depth + 1))?;
        self.text(" ");
        let content_type = fields.content_type.as_ref();
        let subtype = content_type.map(|of| of.subtype.as_slice()).filter(|subtype| !subtype.is_empty());
        string(self.out.room(), subtype.unwrap_or(b"mixed"));
        if self.extended {
            self.text(" ");
            self.parameters(content_type.map_or(&[], |of| &of.parameters));
            self.extension(fields);
        }
        Ok(())
    }

    fn message(
        &mut self,
        node: &Node<'_>,
        message: Option<&Node<'_>>,
        fields: &MimeFields,
        depth: usize,
    ) -> Result<(), Stop> {
        self.text("\"message\" \"rfc822\" ");
        self.parameters(fields.content_type.as_ref().map_or(&[], |of| &of.parameters));
        self.basic(node, fields);
        self.text(" ");
        match message.filter(|_| depth < DEPTH_MAX) {
            Some(message) => {
                envelope::write(self.out.room(), &message.block(), &mut self.addresses_left);
                self.text(" ");
                self.part(message, depth + 1)?;
            }
            None => {
                self.out.room().extend_from_slice(EMPTY_ENVELOPE);
                self.text(" ");
                self.empty_text();
            }
        }
        self.lines(node);
        self.md5(fields);
        Ok(())
    }

    fn leaf(&mut self, node: &Node<'_>, fields: &MimeFields) {
        let content_type = fields.content_type.as_ref();
        let kind = content_type.map_or(b"text".as_slice(), |of| &of.kind);
        string(self.out.room(), kind);
        self.text(" ");
        string(self.out.room(), content_type.map_or(b"plain".as_slice(), |of| &of.subtype));
        self.text(" ");
        let is_text = kind.eq_ignore_ascii_case(b"text");
        let mut parameters = content_type.map(|of| of.parameters.clone()).unwrap_or_default();
        if is_text && !parameters.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"charset")) {
            parameters.push((b"charset".to_vec(), b"us-ascii".to_vec()));
        }
        self.parameters(&parameters);
        self.basic(node, fields);
        if is_text {
            self.lines(node);
        }
        self.md5(fields);
    }

    /// What every part has that is no multipart.
    fn basic(&mut self, node: &Node<'_>, fields: &MimeFields) {
        for text in [&fields.id, &fields.description] {
            self.text(" ");
            nstring(self.out.room(), text.as_deref());
        }
        self.text(" ");
        string(self.out.room(), fields.encoding.as_deref().unwrap_or(b"7bit"));
        self.text(&format!(" {}", node.part.canonical_octets));
    }

    fn lines(&mut self, node: &Node<'_>) {
        self.text(&format!(" {}", node.part.lines));
    }

    fn md5(&mut self, fields: &MimeFields) {
        if self.extended {
            self.text(" ");
            nstring(self.out.room(), fields.md5.as_deref());
            self.extension(fields);
        }
    }

    /// What the extended form adds for every part.
    fn extension(&mut self, fields: &MimeFields) {
        self.text(" ");
        match &fields.disposition {
            Some((kind, parameters)) => {
                self.text("(");
                string(self.out.room(), kind);
                self.text(" ");
                self.parameters(parameters);
                self.text(")");
            }
            None => self.text("NIL"),
        }
        self.text(" ");
        if fields.languages.is_empty() {
            self.text("NIL");
        } else {
            self.list(fields.languages.iter().map(Vec::as_slice));
        }
        self.text(" ");
        nstring(self.out.room(), fields.location.as_deref());
    }

    fn parameters(&mut self, parameters: &[(Vec<u8>, Vec<u8>)]) {
        if parameters.is_empty() {
            return self.text("NIL");
        }
        self.list(parameters.iter().flat_map(|(name, value)| [name.as_slice(), value.as_slice()]));
    }

    fn list<'a>(&mut self, texts: impl Iterator<Item = &'a [u8]>) {
        for (number, text) in texts.enumerate() {
            self.text(if number == 0 { "(" } else { " " });
            string(self.out.room(), text);
        }
        self.text(")");
    }

    fn empty_text(&mut self) {
        self.out.room().extend_from_slice(EMPTY_TEXT);
        self.text(if self.extended { " NIL NIL NIL NIL)" } else { ")" });
    }

    fn text(&mut self, text: &str) {
        self.out.room().extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Part;

    impl Sink for Vec<u8> {
        fn room(&mut self) -> &mut Vec<u8> {
            self
        }

        fn put(&mut self, octets: &[u8]) -> Result<(), Stop> {
            self.extend_from_slice(octets);
            Ok(())
        }
    }

    fn part(header: &str, canonical_octets: u64, lines: u64) -> Part {
        Part { header: header.into(), canonical_octets, lines, ..Part::default() }
    }

    fn check(root: Part, unread: bool, extended: bool, expect: &str) {
        let mut out = Vec::new();
        write(&mut out, &Tree { root, unread }, extended).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    }

    const EMPTY: &str = "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0";

    #[test]
    fn a_text_is_plain_and_us_ascii_where_nothing_else_is_said() {
        check(
            part("Subject: x\r\n", 5, 1),
            false,
            false,
            "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 5 1)",
        );
        check(
            part("Content-Type: TEXT/html; format=flowed\r\nContent-Disposition: inline\r\n", 5, 1),
            false,
            true,
            "(\"TEXT\" \"html\" (\"format\" \"flowed\" \"charset\" \"us-ascii\") NIL NIL \"7bit\" 5 1 NIL (\"inline\" NIL) NIL NIL)",
        );
    }

    #[test]
    fn messages_and_multiparts_hold_what_is_in_them() {
        let inner = part("Subject: in\r\n", 1, 0);
        let digest = Part {
            children: vec![Part { message: Some(Box::new(inner.clone())), ..part("\r\n", 9, 2) }],
            ..part("Content-Type: multipart/digest; boundary=b\r\nContent-Language: en\r\n", 30, 4)
        };
        let envelope = "(NIL \"in\" NIL NIL NIL NIL NIL NIL NIL NIL)";
        let text = "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 1 0";
        check(
            digest.clone(),
            false,
            false,
            &format!("((\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 9 {envelope} {text}) 2) \"digest\")"),
        );
        check(
            digest,
            false,
            true,
            &format!(
                "((\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 9 {envelope} {text} NIL NIL NIL NIL) 2 NIL NIL NIL NIL) \
                 \"digest\" (\"boundary\" \"b\") NIL (\"en\") NIL)"
            ),
        );
        // A bounce whose text was read as a message is a text all the same.
        let bounce = Part { message: Some(Box::new(inner)), ..part("", 9, 2) };
        check(bounce, false, false, "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 9 2)");
    }

    #[test]
    fn where_nothing_is_found_an_empty_text_stands() {
        check(
            part("Content-Type: multipart/mixed\r\n", 3, 0),
            false,
            false,
            &format!("({EMPTY}) \"mixed\")"),
        );
        check(
            part("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n", 3, 1),
            false,
            false,
            &format!(
                "(\"message\" \"rfc822\" NIL NIL NIL \"base64\" 3 (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL) {EMPTY}) 1)"
            ),
        );
        let unread = "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 3 0)";
        check(part("Content-Type: multipart/mixed\r\n", 3, 0), true, false, unread);
    }

    #[test]
    fn a_tree_of_any_depth_is_shown_within_bounds() {
        let root = (0..400).fold(part("", 1, 0), |inner, _| Part {
            children: vec![inner],
            ..part("Content-Type: multipart/mixed; boundary=b\r\n", 1, 0)
        });
        let mut out = Vec::new();
        write(&mut out, &Tree { root, unread: false }, true).unwrap();
        assert!(out.len() < 10_000);
        assert_eq!(out.iter().filter(|b| **b == b'(').count(), out.iter().filter(|b| **b == b')').count());
    }
}
