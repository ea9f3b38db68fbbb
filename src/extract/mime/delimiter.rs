//! Delimiters: which open multipart a line ends a part of, and the closing of what ends there.

use super::count::Mark;
use super::{DELIMITER_LINE_OCTETS_MAX, Frame, Scanner};
use crate::extract::defect::DefectKind;

#[derive(Clone, Copy)]
pub(super) struct Delimiter {
    frame: usize,
    close: bool,
}

impl Scanner {
    /// The open multipart whose delimiter this line is; the innermost one that still expects it.
    pub(super) fn delimiter_of(&self, line: &[u8]) -> Option<Delimiter> {
        if !line.starts_with(b"--") || line.len() > DELIMITER_LINE_OCTETS_MAX {
            return None;
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let blanks = line.iter().rev().take_while(|b| matches!(b, b' ' | b'\t')).count();
        let line = line.get(..line.len() - blanks)?;
        let stem = line.strip_suffix(b"--");
        let mut behind_close = None;
        for (frame, open) in self.frames.iter().enumerate().rev() {
            let Some(open) = &open.multipart else { continue };
            let close = stem == Some(open.delimiter.as_slice());
            if (close || line == open.delimiter) && !open.closed {
                return Some(Delimiter { frame, close });
            } else if close || line == open.delimiter {
                behind_close.get_or_insert(Delimiter { frame, close });
            }
        }
        behind_close
    }

    /// Ends the parts before a delimiter line and begins what follows it.
    pub(super) fn cross(&mut self, delimiter: Delimiter, line: &[u8]) {
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
    pub(super) fn close_frames(&mut self, down_to: usize, end: Mark, delimited: bool) {
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
}
