//! What a scan leaves behind: one node per part, in document order.

use super::count::Mark;
use crate::extract::defect::Defects;
use crate::extract::header::{Head, MessageHead};
use crate::mail::CanonicalSize;
use crate::mail::{Part, assemble};
use std::collections::BTreeMap;

/// What a part's body was read as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::extract) enum Kind {
    /// Neither a multipart nor a message.
    #[default]
    Leaf,
    /// Its children are parts.
    Multipart,
    /// Its one child is the root of a message.
    Message,
    /// A message in a transfer encoding; decoded into [`Node::decoded`] where that was worth it.
    EncodedMessage,
}

/// A bounce whose text holds the returned message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::extract) struct Bounce {
    /// It says that only the start was returned.
    pub(in crate::extract) truncated: bool,
}

/// One part.
#[derive(Debug, Default)]
pub(in crate::extract) struct Node {
    /// 0 for the root of the scan.
    pub(in crate::extract) depth: usize,
    pub(in crate::extract) parent: Option<usize>,
    /// Root of the message this part belongs to; a root is its own.
    pub(in crate::extract) owner: usize,
    pub(in crate::extract) kind: Kind,
    /// The kept header block.
    pub(in crate::extract) header: Vec<u8>,
    pub(in crate::extract) header_cut: bool,
    pub(in crate::extract) head: Head,
    /// Set for the root of a message.
    pub(in crate::extract) message: Option<MessageHead>,
    /// A message that may wrap others: every message around it is one too.
    pub(in crate::extract) wrapper: bool,
    /// Close delimiter seen (multiparts only).
    pub(in crate::extract) closed: bool,
    /// The kept body of a report text, a delivery status or a returned header.
    pub(in crate::extract) copy: Option<Vec<u8>>,
    pub(in crate::extract) decoded: Option<Box<Scanned>>,
    /// The text of a bounce that is no MIME; its one child is the message returned in it.
    pub(in crate::extract) bounce: Option<Bounce>,
    pub(super) start: Mark,
    pub(super) body: Mark,
    pub(super) end: Mark,
}

impl Node {
    /// Header and body together: the extent of a message when this is its root.
    pub(in crate::extract) fn size(&self) -> CanonicalSize {
        self.start.until(&self.end)
    }

    pub(in crate::extract) fn offset(&self) -> u64 {
        self.start.octets
    }

    pub(in crate::extract) fn octets(&self) -> u64 {
        self.end.octets.saturating_sub(self.start.octets)
    }

    pub(in crate::extract) fn header_octets(&self) -> u64 {
        self.body.octets.saturating_sub(self.start.octets)
    }

    pub(in crate::extract) fn body_offset(&self) -> u64 {
        self.body.octets
    }

    pub(in crate::extract) fn body_octets(&self) -> u64 {
        self.end.octets.saturating_sub(self.body.octets)
    }

    /// Ends the part here. The line end before a delimiter may be the empty line of its header: a part keeps it.
    pub(super) fn close(&mut self, end: Mark) {
        self.end = self.body.or_later(end);
    }

    /// Ends the root of a message, or a part in it, where the message ends: even the empty line of a header, or a delimiter's
    /// line end, is not the message's then.
    pub(super) fn close_inside(&mut self, end: Mark) {
        if end.octets < self.body.octets {
            self.start = self.start.or_earlier(end);
            self.header.truncate(usize::try_from(end.octets - self.start.octets).unwrap_or(usize::MAX));
            self.body = end;
        }
        self.end = end;
    }

    fn part(&self, base: u64) -> Part {
        let body = self.body.until(&self.end);
        Part {
            header: self.header.clone(),
            header_offset: self.start.octets.saturating_sub(base),
            header_octets: self.header_octets(),
            body_offset: self.body.octets.saturating_sub(base),
            octets: self.body_octets(),
            canonical_octets: body.octets,
            lines: body.lines,
            children: Vec::new(),
            message: None,
        }
    }
}

/// What a [`Scanner`](super::Scanner) found in one byte string: the places of all parts, no bodies.
#[derive(Debug, Default)]
pub struct Scanned {
    pub(in crate::extract) nodes: Vec<Node>,
    /// Faults found, by the root of the message they were found in.
    pub(in crate::extract) defects: BTreeMap<usize, Defects>,
}

impl Scanned {
    /// Octets scanned.
    pub fn octets(&self) -> u64 {
        self.nodes.first().map_or(0, Node::octets)
    }

    /// Indices of a part and everything below it.
    pub(in crate::extract) fn subtree(&self, root: usize) -> std::ops::Range<usize> {
        let depth = self.nodes.get(root).map_or(0, |node| node.depth);
        let below = self.nodes.iter().skip(root + 1).take_while(|node| node.depth > depth).count();
        root..(root + 1 + below).min(self.nodes.len())
    }

    /// The parts that belong to the message with this root itself, not to a message inside it.
    pub(in crate::extract) fn own_parts(&self, root: usize) -> impl Iterator<Item = (usize, &Node)> {
        let range = self.subtree(root);
        self.nodes
            .iter()
            .enumerate()
            .take(range.end)
            .skip(range.start)
            .filter(move |(_, node)| node.owner == root)
    }

    /// The tree below the root of a message, with offsets from its first octet.
    pub(in crate::extract) fn tree(&self, root: usize) -> Part {
        let Some(top) = self.nodes.get(root) else { return Part::default() };
        let base = top.offset();
        let range = self.subtree(root);
        let nodes = self.nodes.iter().take(range.end).skip(range.start);
        assemble(nodes.map(|node| {
            let enclosed = node.message.is_some() && node.depth > top.depth;
            (node.depth - top.depth, enclosed, node.part(base))
        }))
        .unwrap_or_default()
    }
}
