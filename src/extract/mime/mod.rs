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
//! - The text of a bounce that is no MIME may hold the returned message ([`copied`]): it is opened like a message part.
//! - A message in base64 or quoted-printable inside a *wrapper* (journal report or NDR, all the way out) is decoded on
//!   the fly into a scanner of its own. Nothing else is ever decoded.
//!
//! It does not know what a journal report is beyond that one question, nor where the octets are kept.

mod copied;
mod count;
mod node;
mod sink;

use super::Encoding;
use super::defect::{DefectKind, Defects};
use super::header::{Head, MessageHead, Transfer};
use copied::{Seen, Watch};
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

#[derive(Clone, Copy)]
struct Delimiter {
    frame: usize,
    close: bool,
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

    // ---- bodies

    /// Decides what the body of the current part is, now that its header is complete.
    fn begin_body(&mut self) {
        let Some(index) = self.frames.last().map(|frame| frame.node) else { return };
        let Some(node) = self.nodes.get(index) else { return };
        let in_digest = node.parent.and_then(|parent| self.nodes.get(parent)).is_some_and(|parent| {
            parent.kind == Kind::Multipart && parent.head.media_type == "multipart/digest"
        });
        let in_wrapper = self.nodes.get(node.owner).is_some_and(|owner| owner.wrapper);
        let is_message = is_message_type(&node.head, in_digest);
        let is_file = in_wrapper && is_message_file(&node.head);
        if node.head.media_type.starts_with("multipart/") {
            self.begin_multipart(index);
        } else if is_message || is_file {
            match node.head.transfer {
                Transfer::Identity => self.begin_message(index),
                Transfer::Encoded(encoding) => self.begin_encoded(index, encoding, in_wrapper),
                Transfer::Unknown => self.set_kind(index, Kind::EncodedMessage),
            }
        } else if in_wrapper {
            let marked =
                self.nodes.get(node.owner).and_then(|o| o.message.as_ref()).is_some_and(|m| m.marked);
            let head = &node.head;
            let octets_max = if head.is_delivery_status() || head.is_returned_header() {
                STATUS_OCTETS_MAX
            } else if marked && (head.media_type.is_empty() || head.media_type.starts_with("text/")) {
                REPORT_OCTETS_MAX
            } else {
                0
            };
            if octets_max > 0 {
                self.sink = Sink::copy(octets_max.min(self.budget.report_octets));
            }
        }
    }

    fn begin_multipart(&mut self, index: usize) {
        let depth = self.depth();
        let Some(head) = self.nodes.get(index).map(|node| &node.head) else { return };
        let recovered = head.boundary_recovered;
        let Some(boundary) = head.boundary.clone() else {
            return self.note(DefectKind::BoundaryMissing, "multipart");
        };
        if boundary.len() > BOUNDARY_OCTETS_MAX {
            return self.note(DefectKind::BoundaryTooLong, "multipart");
        }
        if depth >= DEPTH_MAX {
            return self.note(DefectKind::TooDeep, "multipart");
        }
        if recovered {
            self.note(DefectKind::BoundaryRecovered, "multipart");
        }
        self.set_kind(index, Kind::Multipart);
        let delimiter = [b"--", boundary.as_slice()].concat();
        let same = |frame: &Frame| {
            frame.multipart.as_ref().is_some_and(|open| can_be_mixed_up(&open.delimiter, &delimiter))
        };
        if let Some(first) = self.frames.iter().find(|frame| same(frame)).map(|frame| frame.node) {
            self.note_at(DefectKind::BoundaryReused, first, "multipart");
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.multipart = Some(Multipart { delimiter, closed: false });
        }
    }

    fn begin_message(&mut self, index: usize) {
        if self.depth() >= DEPTH_MAX {
            self.note(DefectKind::TooDeep, "message part");
        } else if self.budget.parts == 0 {
            self.note(DefectKind::TooManyParts, "message part");
        } else {
            self.set_kind(index, Kind::Message);
            self.open_node(true);
        }
    }

    fn begin_encoded(&mut self, index: usize, encoding: Encoding, in_wrapper: bool) {
        self.set_kind(index, Kind::EncodedMessage);
        if !in_wrapper {
            return;
        }
        if self.encodings >= ENCODINGS_MAX || self.depth() >= DEPTH_MAX {
            return self.note(DefectKind::TooManyEncodings, "message part");
        }
        if self.budget.parts == 0 {
            return self.note(DefectKind::TooManyParts, "message part");
        }
        let none = Budget { parts: 0, header_octets: 0, report_octets: 0 };
        let budget = std::mem::replace(&mut self.budget, none);
        let scanner = Scanner::nested(budget, self.depth(), self.encodings + 1);
        self.sink = Sink::decode(encoding, scanner);
    }

    fn body_step<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        if !self.mid_line && self.watch.is_some() {
            return self.line_start_step(rest);
        }
        if self.watch.is_some() {
            let (now, later) = rest.split_at(memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1));
            self.consume(now);
            self.mid_line = !now.ends_with(b"\n");
            return later;
        }
        if self.frames.iter().all(|frame| frame.multipart.is_none()) {
            self.consume(rest);
            return &[];
        }
        if !self.mid_line {
            return self.line_start_step(rest);
        }
        let end = self.next_candidate(rest).unwrap_or(match rest {
            [.., b'\n', b'-'] => rest.len() - 1,
            _ => rest.len(),
        });
        let (body, later) = rest.split_at(end);
        self.consume(body);
        self.mid_line = !body.ends_with(b"\n");
        later
    }

    /// Where the next line starts that is, or without its end could be, a delimiter. Prose is full of lines that only
    /// begin like one: they are passed over here, without cutting the run that is counted at once.
    fn next_candidate(&self, rest: &[u8]) -> Option<usize> {
        let mut from = 0;
        loop {
            let start = from + DELIMITER_START.find(rest.get(from..)?)? + 1;
            let line = rest.get(start..)?;
            let window = line.get(..DELIMITER_LINE_OCTETS_MAX).unwrap_or(line);
            match memchr::memchr(b'\n', window) {
                // The line end may be the start of the next delimiter.
                Some(end) if self.delimiter_of(window.get(..=end)?).is_none() => from = start + end,
                None if window.len() < line.len() => from = start,
                _ => return Some(start),
            }
        }
    }

    /// At the start of a body line: finds out whether it is a delimiter, or one of those watched for.
    fn line_start_step<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let dashes = self.line.iter().chain(rest).take(2);
        if self.watch.is_none() && !dashes.clone().all(|b| *b == b'-') {
            return self.leave_line_start(rest);
        }
        let room = DELIMITER_LINE_OCTETS_MAX.saturating_sub(self.line.len()).min(rest.len());
        let window = rest.get(..room).unwrap_or(rest);
        match memchr::memchr(b'\n', window) {
            Some(end) => {
                let (now, later) = rest.split_at(end + 1);
                let mut line = std::mem::take(&mut self.line);
                if line.is_empty() {
                    self.body_line(now);
                } else {
                    line.extend_from_slice(now);
                    self.body_line(&line);
                }
                later
            }
            None if room < rest.len() || room == 0 => self.leave_line_start(rest),
            None => {
                self.line.extend_from_slice(rest);
                &[]
            }
        }
    }

    fn leave_line_start<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let line = std::mem::take(&mut self.line);
        self.consume(&line);
        self.mid_line = true;
        self.watch = self.watch.take().and_then(|mut watch| watch.long_line().then_some(watch));
        rest
    }

    fn body_line(&mut self, line: &[u8]) {
        if let Some(delimiter) = self.delimiter_of(line) {
            return self.cross(delimiter, line);
        }
        let offset = self.counter.mark().octets;
        match self.watch.as_mut().map(|watch| watch.line(line, offset)) {
            Some(Seen::Copy { truncated }) => self.begin_copy(Bounce { truncated }, line),
            Some(Seen::NoBounce) => {
                self.watch = None;
                self.consume(line);
            }
            Some(Seen::Text) | None => self.consume(line),
        }
    }

    /// Opens the message that the text of a bounce returns, at its first line.
    fn begin_copy(&mut self, bounce: Bounce, line: &[u8]) {
        self.watch = None;
        let Some(index) = self.frames.last().map(|frame| frame.node) else { return self.consume(line) };
        // The text before it is nothing that anybody asks for.
        self.sink = Sink::default();
        if let Some(node) = self.nodes.get_mut(index) {
            node.wrapper = true;
        }
        self.begin_message(index);
        if self.in_header {
            if let Some(node) = self.nodes.get_mut(index) {
                node.bounce = Some(bounce);
            }
            self.header_line(line);
        } else {
            self.consume(line);
        }
    }

    fn consume(&mut self, bytes: &[u8]) {
        self.counter.advance(bytes);
        self.sink.feed(bytes);
    }

    // ---- delimiters

    /// The open multipart whose delimiter this line is; the innermost one that still expects it.
    fn delimiter_of(&self, line: &[u8]) -> Option<Delimiter> {
        if !line.starts_with(b"--") || line.len() > DELIMITER_LINE_OCTETS_MAX {
            return None;
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let blanks = line.iter().rev().take_while(|b| matches!(b, b' ' | b'\t')).count();
        let line = line.get(..line.len() - blanks)?;
        let stem = line.strip_suffix(b"--");
        let matching = |frame: usize, closed: bool| {
            let open = self.frames.get(frame)?.multipart.as_ref()?;
            let close = stem == Some(open.delimiter.as_slice());
            (open.closed == closed && (close || line == open.delimiter)).then_some(Delimiter { frame, close })
        };
        let inside_out = || (0..self.frames.len()).rev();
        inside_out()
            .find_map(|frame| matching(frame, false))
            .or_else(|| inside_out().find_map(|frame| matching(frame, true)))
    }

    /// Ends the parts before a delimiter line and begins what follows it.
    fn cross(&mut self, delimiter: Delimiter, line: &[u8]) {
        let end = self.counter.before_line_end();
        if self.in_header {
            self.note(DefectKind::UnterminatedHeader, "header of the part");
            let node = self.frames.last().and_then(|frame| self.nodes.get_mut(frame.node));
            let kept = node.map_or(end, |node| {
                let end = if end.octets < node.start.octets { node.start } else { end };
                let octets = usize::try_from(end.octets - node.start.octets).unwrap_or(usize::MAX);
                node.header.truncate(octets);
                end
            });
            self.end_header_at(kept);
        }
        self.close_frames(delimiter.frame + 1, end, true);
        self.counter.advance(line);
        self.mid_line = false;
        let Some(frame) = self.frames.get_mut(delimiter.frame) else { return };
        let (index, Some(multipart)) = (frame.node, frame.multipart.as_mut()) else { return };
        if multipart.closed {
            // More delimiters than the multipart has parts: some other reader would go on cutting here.
            self.note_at(DefectKind::DelimiterAfterClose, index, "multipart");
        } else if delimiter.close {
            multipart.closed = true;
            if let Some(node) = self.nodes.get_mut(index) {
                node.closed = true;
            }
        } else if self.budget.parts == 0 {
            self.note_at(DefectKind::TooManyParts, index, "multipart");
        } else {
            self.open_node(false);
        }
    }

    /// Closes open parts from the innermost down to the frame with this index.
    fn close_frames(&mut self, down_to: usize, end: Mark, delimited: bool) {
        // Only a leaf gathers its body, and a leaf is always the innermost frame.
        let gathered = std::mem::take(&mut self.sink).finish(delimited);
        self.watch = None;
        if gathered.copy_cut {
            self.note(DefectKind::ReportTextCut, "part");
        }
        self.budget.report_octets -=
            gathered.copy.as_ref().map_or(0, Vec::len).min(self.budget.report_octets);
        if let Some(node) = self.frames.last().and_then(|frame| self.nodes.get_mut(frame.node)) {
            node.copy = gathered.copy;
            node.decoded = gathered.decoded.map(|(scanned, budget)| {
                self.budget = budget;
                scanned
            });
        }
        let of = |frame: &Frame| self.nodes.get(frame.node).filter(|node| node.message.is_some());
        let closing = self.frames.iter().enumerate().skip(down_to);
        // The outermost message that ends here, with everything in it.
        let message = closing.filter_map(|(at, frame)| Some((at, end.or_later(of(frame)?.start)))).next();
        while self.frames.len() > down_to {
            if self.frames.last().and_then(|frame| frame.multipart.as_ref()).is_some_and(|open| !open.closed)
            {
                self.note(DefectKind::MissingCloseDelimiter, "multipart");
            }
            let Some(frame) = self.frames.pop() else { return };
            if let Some(node) = self.nodes.get_mut(frame.node) {
                match message {
                    Some((first, end)) if self.frames.len() >= first => node.close_inside(end),
                    _ => node.close(end),
                }
            }
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

/// Two delimiters that are the same, or one of which is the other's close delimiter.
fn can_be_mixed_up(a: &[u8], b: &[u8]) -> bool {
    a == b || a.strip_suffix(b"--") == Some(b) || b.strip_suffix(b"--") == Some(a)
}

fn is_message_type(head: &Head, in_digest: bool) -> bool {
    match head.media_type.as_str() {
        "message/rfc822" | "message/global" => true,
        "" => in_digest,
        _ => false,
    }
}

/// A message sent as a file: what some relays and clients make of a `message/rfc822`.
fn is_message_file(head: &Head) -> bool {
    let binary = matches!(head.media_type.as_str(), "application/octet-stream" | "application/eml");
    binary && head.file_name.as_deref().is_some_and(|name| name.trim_end().ends_with(".eml"))
}
