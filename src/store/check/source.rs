//! The octets of a segment, read in order and at the pace of whoever looks on.

use super::segment::{CHUNK_OCTETS, Visit};
use crate::store::Digest;
use crate::store::format::FormatError;
use crate::store::log::{Sectors, SegmentFile};
use aws_lc_rs::digest::{Context, SHA256};
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;

/// Why reading stopped short.
pub(super) enum Fault {
    Bad(FormatError),
    /// Nothing that tells of what is stored: octets that cannot be read are [`Fault::Bad`].
    Io(io::Error),
    Newer(u32),
    Stopped,
}

impl From<FormatError> for Fault {
    fn from(e: FormatError) -> Fault {
        Fault::Bad(e)
    }
}

/// The octets that count, read in order, at the visitor's pace.
pub(super) struct Source<'f, 'v> {
    reader: BufReader<Sectors<'f>>,
    /// Of the next octet.
    pub(super) at: u64,
    end: u64,
    unpaced: u64,
    pub(super) visit: &'v mut dyn Visit,
}

impl<'f, 'v> Source<'f, 'v> {
    /// Of these octets of a segment.
    pub(super) fn new(file: &'f SegmentFile, end: u64, visit: &'v mut dyn Visit) -> Source<'f, 'v> {
        let reader = BufReader::with_capacity(CHUNK_OCTETS, Sectors::new(file, end));
        Source { reader, at: 0, end, unpaced: 0, visit }
    }

    /// Tells of what was read since the last time. True when the visitor breaks off.
    pub(super) fn settle(&mut self) -> bool {
        let unpaced = std::mem::take(&mut self.unpaced);
        self.visit.pace(unpaced).is_break()
    }

    /// What is wrong with these octets, which were just read, or why they could not be.
    pub(super) fn why(&self, what: FormatError, from: u64, to: u64) -> String {
        let unreadable = self.reader.get_ref().unreadable_in(from, to);
        unreadable.map_or_else(|| what.to_string(), |why| format!("cannot be read: {why}"))
    }

    /// True when all of these octets, which were just read, could be.
    pub(super) fn is_readable(&self, from: u64, to: u64) -> bool {
        self.reader.get_ref().unreadable_in(from, to).is_none()
    }

    fn paced(&mut self, octets: u64) -> Result<(), Fault> {
        self.unpaced += octets;
        if self.unpaced < CHUNK_OCTETS as u64 {
            return Ok(());
        }
        match self.visit.pace(std::mem::take(&mut self.unpaced)) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Fault::Stopped),
        }
    }

    pub(super) fn go_to(&mut self, at: u64) -> Result<(), Fault> {
        let by = i64::try_from(at).unwrap_or(i64::MAX) - i64::try_from(self.at).unwrap_or(i64::MAX);
        self.reader.seek_relative(by).map_err(Fault::Io)?;
        self.at = at;
        Ok(())
    }

    pub(super) fn read(&mut self, octets: usize, into: &mut Vec<u8>) -> Result<(), Fault> {
        into.clear();
        if self.end.saturating_sub(self.at) < octets as u64 {
            return Err(FormatError::Short.into());
        }
        let read = (&mut self.reader).take(octets as u64).read_to_end(into).map_err(Fault::Io)?;
        self.at += read as u64;
        if read < octets {
            return Err(FormatError::Short.into());
        }
        self.paced(octets as u64)
    }

    /// The hash of so many octets, and whether all of them are zeros.
    pub(super) fn hash(&mut self, octets: u64) -> Result<(Digest, bool), Fault> {
        let mut context = Context::new(&SHA256);
        let (mut left, mut is_blank) = (octets, true);
        while left > 0 {
            let chunk = self.reader.fill_buf().map_err(Fault::Io)?;
            let chunk = chunk.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(chunk);
            let read = chunk.len();
            if read == 0 {
                return Err(FormatError::Short.into());
            }
            context.update(chunk);
            is_blank = is_blank && chunk.iter().all(|octet| *octet == 0);
            self.reader.consume(read);
            self.at += read as u64;
            left -= read as u64;
            self.paced(read as u64)?;
        }
        Ok((Digest::from_ring(&context.finish()), is_blank))
    }
}
