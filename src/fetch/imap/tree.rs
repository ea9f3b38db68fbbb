//! The MIME tree of a message as IMAP numbers it (RFC 3501 §6.4.5): what kind each part is, and which part a number names.
//!
//! What a part holds was decided when the message was read ([`Part`]); here only what its type says is told apart, so that
//! BODYSTRUCTURE and the sections never disagree.

use super::mime_fields::MimeFields;
use crate::fetch::canonical::Canonical;
use crate::mail::Part;
use std::borrow::Cow;
use std::num::NonZeroU32;

/// A message as IMAP shows it.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    /// Its root.
    pub(super) root: Part,
    /// Nobody knows its parts: whatever its header says, its body is one text.
    pub(super) unread: bool,
}

/// One part with what must be known to tell its kind.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    /// The part.
    pub(super) part: &'a Part,
    in_digest: bool,
    unread: bool,
}

/// The parts of a multipart.
#[derive(Clone, Copy)]
pub(super) struct Children<'a> {
    parts: &'a [Part],
    in_digest: bool,
    unread: bool,
}

/// What a part is.
pub(super) enum Kind<'a> {
    /// A multipart; without children when none were found.
    Multipart(Children<'a>),
    /// A `message/rfc822`; the message, unless it is encoded or beyond the limits.
    Message(Option<Node<'a>>),
    /// Anything else.
    Leaf,
}

impl Tree {
    /// The root.
    pub(super) fn root(&self) -> Node<'_> {
        Node { part: &self.root, in_digest: false, unread: self.unread }
    }

    /// The part with this number.
    pub(super) fn find(&self, numbers: &[NonZeroU32]) -> Option<Node<'_>> {
        let mut at = self.root();
        for (step, number) in numbers.iter().enumerate() {
            let mut kind = at.kind();
            if step > 0 {
                // Only a message is numbered inside; that it has a number of its own counts for nothing.
                match kind {
                    Kind::Message(message) => {
                        at = message?;
                        kind = at.kind();
                    }
                    Kind::Multipart(_) => {}
                    Kind::Leaf => return None,
                }
            }
            if let Kind::Multipart(children) = kind {
                at = children.get(usize::try_from(number.get() - 1).ok()?)?;
            } else if number.get() != 1 {
                return None;
            }
        }
        Some(at)
    }
}

impl<'a> Children<'a> {
    fn node(self, part: &'a Part) -> Node<'a> {
        Node { part, in_digest: self.in_digest, unread: self.unread }
    }

    /// The one at this place.
    pub(super) fn get(self, index: usize) -> Option<Node<'a>> {
        self.parts.get(index).map(|part| self.node(part))
    }

    /// All, in order.
    pub(super) fn iter(self) -> impl Iterator<Item = Node<'a>> {
        self.parts.iter().map(move |part| self.node(part))
    }
}

impl<'a> Node<'a> {
    /// Its header block in canonical form, as far as it is kept.
    pub(super) fn block(&self) -> Cow<'a, [u8]> {
        Canonical::new().push(&self.part.header)
    }

    /// What its header block says of it.
    pub(super) fn fields(&self) -> MimeFields {
        let fields = MimeFields::of(&self.block());
        let holds_others = fields.is_type(b"message", b"rfc822")
            || fields.content_type.as_ref().is_some_and(|of| of.kind.eq_ignore_ascii_case(b"multipart"));
        if self.unread && holds_others { MimeFields::default() } else { fields }
    }

    /// What it is.
    pub(super) fn kind(&self) -> Kind<'a> {
        self.kind_by(&self.fields())
    }

    /// What it is, by fields that were read already.
    pub(super) fn kind_by(&self, fields: &MimeFields) -> Kind<'a> {
        let content_type = fields.content_type.as_ref();
        let is_multipart = content_type.is_some_and(|of| of.kind.eq_ignore_ascii_case(b"multipart"));
        if is_multipart || !self.part.children.is_empty() {
            let in_digest = fields.is_type(b"multipart", b"digest");
            let parts = &self.part.children;
            return Kind::Multipart(Children { parts, in_digest, unread: self.unread });
        }
        if fields.is_type(b"message", b"rfc822") || (self.in_digest && content_type.is_none()) {
            let node = |part| Node { part, in_digest: false, unread: self.unread };
            return Kind::Message(self.part.message.as_deref().map(node));
        }
        Kind::Leaf
    }
}
