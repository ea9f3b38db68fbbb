//! Bodies: what the one of a part is read as, and the way to the next line that matters in it.

use super::copied::Seen;
use super::node::{Bounce, Kind};
use super::sink::Sink;
use super::{
    BOUNDARY_OCTETS_MAX, Budget, DELIMITER_LINE_OCTETS_MAX, DELIMITER_START, DEPTH_MAX, ENCODINGS_MAX, Frame,
    Multipart, REPORT_OCTETS_MAX, STATUS_OCTETS_MAX, Scanner,
};
use crate::extract::Encoding;
use crate::extract::defect::DefectKind;
use crate::extract::header::{Head, Transfer};

impl Scanner {
    /// Decides what the body of the current part is, now that its header is complete.
    pub(super) fn begin_body(&mut self) {
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

    pub(super) fn body_step<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
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

    pub(super) fn consume(&mut self, bytes: &[u8]) {
        self.counter.advance(bytes);
        self.sink.feed(bytes);
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
