//! One message inside a scan, and the messages directly inside it.

use super::defect::DefectKind;
use super::header::{MessageHead, Transfer};
use super::join::{join_prefix, join_prefix_of_cut};
use super::mime::{Bounce, Kind, Node, Scanned};
use super::{DerivedObject, MessageFacts};
use crate::mail::Extent;

/// A message: the root of a scan or an enclosed one.
#[derive(Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) scanned: &'a Scanned,
    pub(super) root: usize,
    /// The object its offsets are relative to.
    pub(super) object: u32,
}

/// A part that is, or should be, a message.
pub(super) struct Enclosed<'a> {
    /// Index of the part that carries it.
    pub(super) part: usize,
    pub(super) found: Found<'a>,
    pub(super) form: Form,
}

/// What carries an enclosed message.
pub(super) enum Form {
    /// A part that says so: `message/rfc822`.
    Part,
    /// A file.
    File,
    /// The text of a bounce.
    Text(Bounce),
}

pub(super) enum Found<'a> {
    /// As it is, at this root of the same scan.
    Plain(usize),
    /// Decoded from these octets of the same object.
    Decoded(&'a Scanned, DerivedObject),
    /// In an encoding nobody knows, or beyond the limits.
    Undecoded,
}

impl<'a> Message<'a> {
    pub(super) fn node(&self) -> Option<&'a Node> {
        self.scanned.nodes.get(self.root)
    }

    pub(super) fn head(&self) -> Option<&'a MessageHead> {
        self.node()?.message.as_ref()
    }

    pub(super) fn message_id(&self) -> Option<&'a str> {
        self.head()?.message_id.as_deref()
    }

    pub(super) fn is_marked(&self) -> bool {
        self.head().is_some_and(|head| head.marked)
    }

    pub(super) fn is_generated(&self) -> bool {
        self.head().is_some_and(MessageHead::is_generated)
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = (usize, &'a Node)> {
        self.scanned.own_parts(self.root)
    }

    /// Holds nothing but blanks and line ends.
    pub(super) fn is_empty(&self) -> bool {
        self.node().is_none_or(|node| {
            node.body_octets() == 0 && !node.header_cut && node.header.iter().all(u8::is_ascii_whitespace)
        })
    }

    /// The messages directly inside, in order, however they are wrapped.
    pub(super) fn enclosed(&self) -> Vec<Enclosed<'a>> {
        let of_part = |(part, node): (usize, &'a Node)| {
            let is_message = matches!(node.head.media_type.as_str(), "message/rfc822" | "message/global");
            let found = match node.kind {
                Kind::Message => Found::Plain(part + 1),
                Kind::EncodedMessage => match (&node.decoded, node.head.transfer) {
                    (Some(decoded), Transfer::Encoded(encoding)) => {
                        Found::Decoded(decoded, DerivedObject { source: self.body_of(node), encoding })
                    }
                    _ => Found::Undecoded,
                },
                // Its header never ended, so there is no body either.
                Kind::Leaf if is_message => Found::Undecoded,
                Kind::Leaf | Kind::Multipart => return None,
            };
            let form = match node.bounce {
                Some(bounce) => Form::Text(bounce),
                None if is_message => Form::Part,
                None => Form::File,
            };
            Some(Enclosed { part, found, form })
        };
        self.parts().filter_map(of_part).collect()
    }

    fn body_of(&self, node: &Node) -> Extent {
        Extent { object: self.object, offset: node.body_offset(), octets: node.body_octets() }
    }

    /// A multipart around this part, up to the root of this message, lacks its close delimiter.
    pub(super) fn is_cut_at(&self, part: usize) -> bool {
        let mut at = self.scanned.nodes.get(part);
        while let Some(node) = at.filter(|node| node.owner == self.root) {
            if node.kind == Kind::Multipart && !node.closed {
                return true;
            }
            at = node.parent.and_then(|parent| self.scanned.nodes.get(parent));
        }
        false
    }

    /// Its lines end in bare CR, as no transport writes them: then all of it is one endless header line.
    pub(super) fn ends_lines_in_cr(&self) -> bool {
        let Some(node) = self.node() else { return false };
        memchr::memchr(b'\n', &node.header).is_none()
            && memchr::memchr(b'\r', &node.header).is_some_and(|at| at + 1 < node.header.len())
    }

    /// Holds the encrypted form of a rights-protected message.
    pub(super) fn is_protected(&self) -> bool {
        self.parts().any(|(_, node)| {
            let name = node.head.file_name.as_deref().unwrap_or_default();
            node.head.media_type == "application/x-microsoft-rpmsg-message"
                || (name.starts_with("message") && name.ends_with(".rpmsg"))
        })
    }

    /// Came as TNEF, so that its parts are hidden in one binary.
    pub(super) fn is_tnef(&self) -> bool {
        self.parts().any(|(_, node)| {
            matches!(node.head.media_type.as_str(), "application/ms-tnef" | "application/vnd.ms-tnef")
                || node.head.file_name.as_deref() == Some("winmail.dat")
        })
    }

    /// Where it lies.
    pub(super) fn extent(&self) -> Extent {
        self.node().map_or_else(Extent::default, |node| Extent {
            object: self.object,
            offset: node.offset(),
            octets: node.octets(),
        })
    }

    pub(super) fn facts(&self) -> MessageFacts {
        let Some(node) = self.node() else { return MessageFacts::default() };
        // A "header" that never ends may be anything: then every octet counts, or unlike messages would be joined.
        let body_is_empty = node.header_octets() == node.octets();
        let endless = body_is_empty && (node.header_cut || !ends_with_empty_line(&node.header));
        MessageFacts {
            extent: self.extent(),
            message_id: self.head().and_then(|head| head.message_id.clone()),
            canonical: node.size(),
            header_octets: node.header_octets(),
            structure: self.scanned.tree(self.root),
            join_prefix: match (endless, node.header_cut) {
                (true, _) => join_prefix(&[]),
                (false, true) => join_prefix_of_cut(&node.header, node.header_octets()),
                (false, false) => join_prefix(&node.header),
            },
            joined_from: if endless { 0 } else { node.header_octets() },
        }
    }
}

fn ends_with_empty_line(header: &[u8]) -> bool {
    let Some(lines) = header.strip_suffix(b"\n") else { return false };
    let lines = lines.strip_suffix(b"\r").unwrap_or(lines);
    lines.is_empty() || lines.ends_with(b"\n")
}

impl<'a> Enclosed<'a> {
    /// The message as it would be, without giving a decoded one its object number yet.
    pub(super) fn peek(&self, around: &Message<'a>) -> Option<Message<'a>> {
        match &self.found {
            Found::Plain(root) => Some(Message { root: *root, ..*around }),
            Found::Decoded(scanned, _) => Some(Message { scanned, root: 0, object: u32::MAX }),
            Found::Undecoded => None,
        }
    }

    /// The message, its object added to `derived` when it is a decoded one.
    pub(super) fn open(&self, around: &Message<'a>, derived: &mut Vec<DerivedObject>) -> Option<Message<'a>> {
        match &self.found {
            Found::Plain(root) => Some(Message { root: *root, ..*around }),
            Found::Decoded(scanned, object) => {
                derived.push(*object);
                Some(Message { scanned, root: 0, object: u32::try_from(derived.len()).unwrap_or(u32::MAX) })
            }
            Found::Undecoded => None,
        }
    }

    /// What is unusual about how it is wrapped.
    pub(super) fn defect(&self) -> Option<DefectKind> {
        match &self.found {
            Found::Decoded(..) => Some(DefectKind::EncodedMessage),
            _ => match self.form {
                Form::Part => None,
                Form::File => Some(DefectKind::MessageAsFile),
                Form::Text(_) => Some(DefectKind::NonMimeBounce),
            },
        }
    }
}
