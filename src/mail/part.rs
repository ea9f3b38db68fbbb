//! The MIME tree of one message as it is stored: what IMAP needs for ENVELOPE, BODYSTRUCTURE and BODY[n.MIME]
//! without opening the message.
//!
//! On disk a tree is a flat list in document order, each part with its depth, so that reading it needs no recursion
//! and no parser's nesting limit is met.

use serde::{Deserialize, Serialize};

/// One part: the root of a message, a part of a multipart, or the message in a `message/rfc822`.
///
/// Offsets count from the first octet of the message whose tree this is, so that the same message has the same tree
/// wherever it lies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<FlatPart>", try_from = "Vec<FlatPart>")]
pub struct Part {
    /// The header block with its empty line, as received; cut when longer than the limit.
    pub header: Vec<u8>,
    /// Where the header block starts.
    pub header_offset: u64,
    /// Octets of the whole header block, its empty line included.
    pub header_octets: u64,
    /// Where the body starts.
    pub body_offset: u64,
    /// Octets of the body as stored.
    pub octets: u64,
    /// Octets of the body as POP3 and IMAP send it.
    pub canonical_octets: u64,
    /// Line ends in the body.
    pub lines: u64,
    /// Parts of a multipart, in order.
    pub children: Vec<Part>,
    /// The message a `message/rfc822` body is. `None` when it is transfer-encoded or beyond the limits. Also set for a
    /// file part (`application/octet-stream`, `*.eml`) or the text of a bounce that was read as a message: its own header tells.
    pub message: Option<Box<Part>>,
}

/// A part in the stored list.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct FlatPart {
    /// 0 for the root; children and an enclosed message are one deeper.
    depth: u16,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    message: bool,
    #[serde(with = "base64_text")]
    header: Vec<u8>,
    at: u64,
    header_octets: u64,
    body: u64,
    octets: u64,
    canonical: u64,
    lines: u64,
}

mod base64_text {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl From<Part> for Vec<FlatPart> {
    fn from(root: Part) -> Vec<FlatPart> {
        let mut flat = Vec::new();
        let mut todo = vec![(0_u16, false, root)];
        while let Some((depth, message, part)) = todo.pop() {
            todo.extend(part.children.into_iter().rev().map(|child| (depth + 1, false, child)));
            todo.extend(part.message.map(|inner| (depth + 1, true, *inner)));
            flat.push(FlatPart {
                depth,
                message,
                header: part.header,
                at: part.header_offset,
                header_octets: part.header_octets,
                body: part.body_offset,
                octets: part.octets,
                canonical: part.canonical_octets,
                lines: part.lines,
            });
        }
        flat
    }
}

impl TryFrom<Vec<FlatPart>> for Part {
    type Error = &'static str;

    fn try_from(flat: Vec<FlatPart>) -> Result<Part, &'static str> {
        assemble(flat.into_iter().map(|part| {
            let built = Part {
                header: part.header,
                header_offset: part.at,
                header_octets: part.header_octets,
                body_offset: part.body,
                octets: part.octets,
                canonical_octets: part.canonical,
                lines: part.lines,
                ..Part::default()
            };
            (usize::from(part.depth), part.message, built)
        }))
        .ok_or("not one tree of parts")
    }
}

/// Builds a tree from parts in document order, each with its depth and whether it is an enclosed message.
pub fn assemble(parts: impl IntoIterator<Item = (usize, bool, Part)>) -> Option<Part> {
    let mut open: Vec<(bool, Part)> = Vec::new();
    for (depth, message, part) in parts {
        if depth > open.len() || (depth == 0 && !open.is_empty()) {
            return None;
        }
        while open.len() > depth {
            close_last(&mut open);
        }
        open.push((message, part));
    }
    while open.len() > 1 {
        close_last(&mut open);
    }
    open.pop().map(|(_, root)| root)
}

fn close_last(open: &mut Vec<(bool, Part)>) {
    if let Some((message, part)) = open.pop()
        && let Some((_, parent)) = open.last_mut()
    {
        if message {
            parent.message = Some(Box::new(part));
        } else {
            parent.children.push(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(at: u64) -> Part {
        Part { header: vec![0xff, b'\n'], header_offset: at, lines: at, ..Part::default() }
    }

    #[test]
    fn a_stored_tree_reads_back_as_it_was() {
        let inner = Part { children: vec![leaf(5), leaf(6)], ..leaf(4) };
        let tree = Part {
            children: vec![leaf(1), Part { message: Some(Box::new(inner)), ..leaf(2) }, leaf(9)],
            ..leaf(0)
        };
        let text = serde_json::to_string(&tree).unwrap();
        assert_eq!(serde_json::from_str::<Part>(&text).unwrap(), tree);
    }

    #[test]
    fn a_deep_tree_meets_no_nesting_limit() {
        let tree = (0..300).fold(leaf(0), |inner, at| Part { children: vec![inner], ..leaf(at) });
        let text = serde_json::to_string(&tree).unwrap();
        assert_eq!(serde_json::from_str::<Part>(&text).unwrap(), tree);
    }

    #[test]
    fn what_is_no_tree_is_an_error() {
        for text in [
            "[]",
            r#"[{"depth":1,"header":"","at":0,"header_octets":0,"body":0,"octets":0,"canonical":0,"lines":0}]"#,
        ] {
            assert!(serde_json::from_str::<Part>(text).is_err(), "{text}");
        }
    }
}
