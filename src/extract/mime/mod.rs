//! The push scanner: finds the MIME structure of a byte string while it arrives.
//!
//! Fed chunks of any size, with the same result for any cut. It keeps header blocks, byte positions and, where a
//! wrapper makes it worth it, one bounded copy of a report text; never a body. The open parts are a stack of frames,
//! so nesting costs no recursion. Work per octet is constant: bodies are searched for `LF - -` only, and only lines
//! that begin with `--` are compared with the open boundaries.
//!
//! Rules, where RFC 2046 leaves room or senders take it:
//! - A delimiter is a whole line: `--boundary`, blanks, line end. A boundary that starts like another never matches it.
//! - CRLF and bare LF both end lines. The line end before a delimiter belongs to the delimiter.
//! - A delimiter of an outer multipart ends every part inside; the innermost open multipart is asked first.
//! - A boundary used again inside itself, and a delimiter behind the close delimiter, are noted: two readers would cut
//!   the message differently.
//! - Beyond a limit, parts are not looked into, but delimiters of the parts already open still count.
//! - The text of a bounce that is no MIME may hold the returned message (`copied.rs`): it is opened like a message part.
//! - A message in base64 or quoted-printable inside a *wrapper* (journal report or NDR, all the way out) is decoded on
//!   the fly into a scanner of its own. Nothing else is ever decoded.
//!
//! It does not know what a journal report is beyond that one question, nor where the octets are kept.

mod body;
mod copied;
mod count;
mod delimiter;
mod node;
mod sink;

use super::defect::{DefectKind, Defects};
use super::header::{Head, MessageHead};
use copied::Watch;
use count::{Counter, Mark};
use memchr::memmem::Finder;
use sink::Sink;
use std::collections::BTreeMap;
use std::sync::LazyLock;

pub use node::Scanned;
pub(super) use node::{Bounce, Kind, Node};

/// Deepest nesting of parts and messages.
pub const DEPTH_MAX: usize = 64;
/// Most parts of one received message.
pub const PARTS_MAX: usize = 10_000;
/// Most octets kept of one header block; the rest is only counted.
pub const HEADER_OCTETS_MAX: usize = 1024 * 1024;
/// Most octets kept of all header blocks of one received message.
pub const HEADERS_OCTETS_MAX: usize = 8 * 1024 * 1024;
/// Most octets kept of report texts of one received message, before decoding.
pub const REPORT_OCTETS_MAX: usize = 16 * 1024 * 1024;
/// Most octets kept of a delivery status or a returned header.
pub const STATUS_OCTETS_MAX: usize = 1024 * 1024;
/// Longest boundary taken for one. RFC 2046 allows 70; no line of a lawful mail is longer than this.
pub const BOUNDARY_OCTETS_MAX: usize = 998;
/// Deepest nesting of encoded messages in encoded messages.
pub const ENCODINGS_MAX: usize = 4;
/// Longest line that can be a delimiter: dashes, boundary, blanks added by transports, line end.
const DELIMITER_LINE_OCTETS_MAX: usize = BOUNDARY_OCTETS_MAX + 128;

static DELIMITER_START: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\n--"));

/// What is left of the limits that one received message shares with the encoded messages inside it.
#[derive(Clone, Copy, Debug)]
struct Budget {
    parts: usize,
    header_octets: usize,
    report_octets: usize,
}

/// Reads a message chunk by chunk. See the [module page](self).
#[derive(Debug)]
pub struct Scanner {
    nodes: Vec<Node>,
    /// Open parts, outermost first. Not empty before [`Scanner::finish`].
    frames: Vec<Frame>,
    in_header: bool,
    /// Behind the start of the current line: no delimiter or empty line can be found before the next line end.
    mid_line: bool,
    /// The start of a line whose end has not come yet. Empty when `mid_line`.
    line: Vec<u8>,
    counter: Counter,
    sink: Sink,
    /// Set while the innermost part is a text that may hold a returned message.
    watch: Option<Watch>,
    budget: Budget,
    /// By the message they were found in.
    defects: BTreeMap<usize, Defects>,
    depth_base: usize,
    encodings: usize,
}

#[derive(Debug)]
struct Frame {
    node: usize,
    multipart: Option<Multipart>,
}

#[derive(Debug)]
struct Multipart {
    /// `--boundary`
    delimiter: Vec<u8>,
    closed: bool,
}

impl Default for Scanner {
    fn default() -> Scanner {
        Scanner::new()
    }
}

impl Scanner {
    /// A scanner at the first octet of a message.
    pub fn new() -> Scanner {
        let budget =
            Budget { parts: PARTS_MAX, header_octets: HEADERS_OCTETS_MAX, report_octets: REPORT_OCTETS_MAX };
        Scanner::nested(budget, 0, 0)
    }

    fn nested(budget: Budget, depth_base: usize, encodings: usize) -> Scanner {
        let mut scanner = Scanner {
            nodes: Vec::new(),
            frames: Vec::new(),
            in_header: true,
            mid_line: false,
            line: Vec::new(),
            counter: Counter::default(),
            sink: Sink::default(),
            watch: None,
            budget,
            defects: BTreeMap::new(),
            depth_base,
            encodings,
        };
        scanner.open_node(true);
        scanner
    }

    /// Takes the next octets.
    pub fn push(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while !rest.is_empty() {
            rest = if self.in_header { self.header_step(rest) } else { self.body_step(rest) };
        }
    }

    /// Ends the message and gives what was found.
    pub fn finish(self) -> Scanned {
        self.finish_with_budget().0
    }

    fn finish_with_budget(mut self) -> (Scanned, Budget) {
        let line = std::mem::take(&mut self.line);
        match self.delimiter_of(&line) {
            Some(delimiter) if !self.mid_line => self.cross(delimiter, &line),
            _ if self.in_header => self.keep_header(&line),
            _ => self.consume(&line),
        }
        if self.in_header {
            // What the header announces never came: it stays a leaf.
            self.note(DefectKind::UnterminatedHeader, "header of the part");
            self.end_header_at(self.counter.mark());
        }
        self.close_frames(0, self.counter.mark(), false);
        (Scanned { nodes: self.nodes, defects: self.defects }, self.budget)
    }

    // ---- header blocks

    fn header_step<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let (now, later, ended) = match memchr::memchr(b'\n', rest) {
            Some(end) => {
                let (now, later) = rest.split_at(end + 1);
                (now, later, true)
            }
            None => (rest, &rest[rest.len()..], false),
        };
        if self.mid_line {
            self.keep_header(now);
            self.mid_line = !ended;
        } else if !ended {
            self.line.extend_from_slice(now);
            if self.line.len() > DELIMITER_LINE_OCTETS_MAX {
                let line = std::mem::take(&mut self.line);
                self.keep_header(&line);
                self.mid_line = true;
            }
        } else if self.line.is_empty() {
            self.header_line(now);
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(now);
            self.header_line(&line);
        }
        later
    }

    fn header_line(&mut self, line: &[u8]) {
        if let Some(delimiter) = self.delimiter_of(line) {
            self.cross(delimiter, line);
            return;
        }
        self.keep_header(line);
        if matches!(line, b"\n" | b"\r\n") {
            self.end_header_at(self.counter.mark());
            self.begin_body();
        }
    }

    fn keep_header(&mut self, bytes: &[u8]) {
        self.counter.advance(bytes);
        let Some(node) = self.frames.last().and_then(|frame| self.nodes.get_mut(frame.node)) else { return };
        let room =
            (HEADER_OCTETS_MAX - node.header.len().min(HEADER_OCTETS_MAX)).min(self.budget.header_octets);
        let kept = bytes.get(..room).unwrap_or(bytes);
        node.header.extend_from_slice(kept);
        self.budget.header_octets -= kept.len();
        if kept.len() < bytes.len() {
            node.header_cut = true;
            self.note(DefectKind::HeaderCut, "header of the part");
        }
    }

    fn end_header_at(&mut self, body: Mark) {
        self.in_header = false;
        self.mid_line = false;
        let Some(node) = self.frames.last().and_then(|frame| self.nodes.get_mut(frame.node)) else { return };
        node.body = body;
        node.head = Head::parse(&node.header);
        if node.message.is_some() {
            let message = MessageHead::parse(&node.header);
            if node.wrapper {
                self.watch = Watch::over(&node.head, &message, body.octets);
            }
            node.wrapper &= message.marked
                || message.is_ndr
                || message.failed_recipients
                || node.head.media_type == "multipart/report";
            node.message = Some(message);
        }
    }

    // ---- the stack

    fn open_node(&mut self, message: bool) {
        let index = self.nodes.len();
        let parent = self.frames.last().map(|frame| frame.node);
        let owner = parent.and_then(|parent| self.nodes.get(parent)).map_or(index, |parent| parent.owner);
        let around = self.nodes.get(owner).is_none_or(|owner| owner.wrapper);
        let start = self.counter.mark();
        self.nodes.push(Node {
            depth: self.frames.len(),
            parent,
            owner: if message { index } else { owner },
            message: message.then(MessageHead::default),
            // Settled when the header is complete.
            wrapper: message && around,
            start,
            body: start,
            end: start,
            ..Node::default()
        });
        self.frames.push(Frame { node: index, multipart: None });
        self.budget.parts = self.budget.parts.saturating_sub(1);
        self.in_header = true;
        self.mid_line = false;
    }

    /// Notes a fault of the innermost open part.
    fn note(&mut self, kind: DefectKind, what: &str) {
        if let Some(index) = self.frames.last().map(|frame| frame.node) {
            self.note_at(kind, index, what);
        }
    }

    fn note_at(&mut self, kind: DefectKind, index: usize, what: &str) {
        let Some(node) = self.nodes.get(index) else { return };
        self.defects
            .entry(node.owner)
            .or_default()
            .note(kind, || format!("{what} at octet {}", node.offset()));
    }

    fn set_kind(&mut self, index: usize, kind: Kind) {
        if let Some(node) = self.nodes.get_mut(index) {
            node.kind = kind;
        }
    }

    fn depth(&self) -> usize {
        self.depth_base + self.frames.len()
    }
}
