//! Where the octets of the current part's body go besides being counted: nowhere, into a bounded copy, or through a
//! transfer decoder into a scanner of their own.

use super::{Budget, Scanned, Scanner};
use crate::extract::{Decoder, Encoding};

/// Encoded octets decoded at a time, which bounds the buffer between decoder and scanner.
const DECODE_STEP_OCTETS: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Sink {
    target: Target,
    /// A line end at the very end of what was fed: if a delimiter follows, it belongs to the delimiter.
    held: &'static [u8],
}

#[derive(Debug, Default)]
enum Target {
    #[default]
    None,
    Copy {
        bytes: Vec<u8>,
        octets_max: usize,
        cut: bool,
    },
    Decode(Box<Nested>),
}

#[derive(Debug)]
struct Nested {
    decoder: Decoder,
    buffer: Vec<u8>,
    scanner: Scanner,
}

/// What a sink gathered from one body.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) copy: Option<Vec<u8>>,
    pub(super) copy_cut: bool,
    pub(super) decoded: Option<(Box<Scanned>, Budget)>,
}

impl Sink {
    pub(super) fn copy(octets_max: usize) -> Sink {
        Sink { target: Target::Copy { bytes: Vec::new(), octets_max, cut: false }, held: b"" }
    }

    pub(super) fn decode(encoding: Encoding, scanner: Scanner) -> Sink {
        let nested = Nested { decoder: Decoder::new(encoding), buffer: Vec::new(), scanner };
        Sink { target: Target::Decode(Box::new(nested)), held: b"" }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if matches!(self.target, Target::None) || bytes.is_empty() {
            return;
        }
        if self.held == b"\r" && bytes == b"\n" {
            self.held = b"\r\n";
            return;
        }
        let held = std::mem::take(&mut self.held);
        self.target.take(held);
        self.held = match bytes {
            [.., b'\r', b'\n'] => b"\r\n",
            [.., b'\n'] => b"\n",
            [.., b'\r'] => b"\r",
            _ => b"",
        };
        self.target.take(bytes.get(..bytes.len() - self.held.len()).unwrap_or_default());
    }

    /// Ends the body. `delimited`: a delimiter follows, and the line end before it is not content.
    pub(super) fn finish(mut self, delimited: bool) -> Gathered {
        // A held CR is content even then: delimiters start after LF only.
        if !delimited || self.held == b"\r" {
            let held = self.held;
            self.target.take(held);
        }
        match self.target {
            Target::None => Gathered::default(),
            Target::Copy { bytes, cut, .. } => Gathered { copy: Some(bytes), copy_cut: cut, decoded: None },
            Target::Decode(nested) => {
                let Nested { decoder, mut buffer, mut scanner } = *nested;
                decoder.finish(&mut buffer);
                scanner.push(&buffer);
                let (scanned, budget) = scanner.finish_with_budget();
                Gathered { decoded: Some((Box::new(scanned), budget)), ..Gathered::default() }
            }
        }
    }
}

impl Target {
    fn take(&mut self, bytes: &[u8]) {
        match self {
            Target::None => {}
            Target::Copy { bytes: copy, octets_max, cut } => {
                let room = octets_max.saturating_sub(copy.len());
                *cut |= bytes.len() > room;
                copy.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            }
            Target::Decode(nested) => {
                for step in bytes.chunks(DECODE_STEP_OCTETS) {
                    nested.decoder.push(step, &mut nested.buffer);
                    nested.scanner.push(&nested.buffer);
                    nested.buffer.clear();
                }
            }
        }
    }
}
