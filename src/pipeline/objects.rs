//! The received octets, what was decoded from them, and how both are laid out in stored objects.
//!
//! *Logical* objects are what extraction counts: 0 is the message as received, each further one a decoded part. What is
//! *stored* of them leaves out what the store holds already: a [`Layout`] says where each run of a logical object lies.

use crate::extract::{Decoder, DerivedObject};
use crate::mail::Extent;
use crate::store::{Digest, Sealer, Source, Spool, Spooled, StoreError, StoredExtent};
use aws_lc_rs::digest::{Context, SHA256};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::Arc;

/// Octets of all decoded parts of a message that stay in memory; the rest is spooled.
const DECODED_MEMORY_OCTETS_MAX: usize = 4 * 1024 * 1024;
/// Octets moved at a time.
const CHUNK_OCTETS: usize = 64 * 1024;

/// Hands `spooled` to `take` piece by piece, each with its offset.
pub(super) fn each_chunk(
    spooled: &Spooled,
    take: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    if let Some(octets) = spooled.in_memory() {
        return take(0, octets);
    }
    let mut reader = spooled.reader()?;
    let mut chunk = vec![0; CHUNK_OCTETS];
    let mut offset = 0;
    loop {
        let read = reader.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        take(offset, chunk.get(..read).unwrap_or_default())?;
        offset += read as u64;
    }
    if offset == spooled.octets() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// The part of `chunk`, which stands at `offset`, that lies in `range`.
pub(super) fn overlap<'a>(offset: u64, chunk: &'a [u8], range: &Range<u64>) -> &'a [u8] {
    let end = offset + chunk.len() as u64;
    if range.start >= end || range.end <= offset {
        return &[];
    }
    // Both lie within the chunk, whose length is a usize.
    let from = usize::try_from(range.start.saturating_sub(offset)).unwrap_or(chunk.len());
    let to = usize::try_from(range.end.min(end) - offset).unwrap_or(chunk.len());
    chunk.get(from..to).unwrap_or_default()
}

/// Makes the decoded objects, each in a spool of its own; a source always stands before what is decoded from it.
pub(super) fn decode_all(
    received: Arc<Spooled>,
    derived: &[DerivedObject],
    spool: &dyn Fn() -> Spool,
) -> io::Result<Vec<Arc<Spooled>>> {
    let mut objects = vec![received];
    let mut memory_left = DECODED_MEMORY_OCTETS_MAX;
    for object in derived {
        let source = objects.get(object.source.object as usize).ok_or(io::ErrorKind::InvalidInput)?;
        let range = object.source.offset..object.source.offset + object.source.octets;
        let mut decoder = Decoder::new(object.encoding);
        let mut target = spool();
        target.limit_memory(memory_left);
        let mut decoded = Vec::new();
        each_chunk(source, &mut |offset, chunk| {
            decoder.push(overlap(offset, chunk, &range), &mut decoded);
            target.write(&decoded)?;
            decoded.clear();
            Ok(())
        })?;
        decoder.finish(&mut decoded);
        target.write(&decoded)?;
        let target = target.finish()?;
        memory_left -= target.in_memory().map_or(0, <[u8]>::len).min(memory_left);
        objects.push(Arc::new(target));
    }
    Ok(objects)
}

/// A hash over a run of an object, behind a prefix.
pub(super) struct Tap {
    object: u32,
    range: Range<u64>,
    context: Context,
}

impl Tap {
    pub(super) fn new(extent: &Extent, skip: u64, prefix: &[u8]) -> Tap {
        let mut context = Context::new(&SHA256);
        context.update(prefix);
        let end = extent.offset + extent.octets;
        Tap { object: extent.object, range: (extent.offset + skip).min(end)..end, context }
    }

    pub(super) fn finish(self) -> Digest {
        Digest::from_ring(&self.context.finish())
    }
}

/// Reads every object once and feeds all taps.
pub(super) fn run_taps(objects: &[Arc<Spooled>], taps: &mut [Tap]) -> io::Result<()> {
    for (index, object) in objects.iter().enumerate() {
        let mut taps: Vec<&mut Tap> = taps.iter_mut().filter(|tap| tap.object as usize == index).collect();
        if taps.is_empty() {
            continue;
        }
        each_chunk(object, &mut |offset, chunk| {
            for tap in &mut taps {
                tap.context.update(overlap(offset, chunk, &tap.range));
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// A run of a logical object and where it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    logical: Range<u64>,
    /// Where the run's first octet is stored.
    source: Source,
}

/// Where the octets of one logical object are stored. Runs rise and do not overlap; octets no message needs have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    runs: Vec<Run>,
    /// Octets that must be stored anew.
    pub(super) new_octets: u64,
}

impl Layout {
    /// Lays out the `needed` ranges of a logical object, taking the `held` ones from the store. What is new goes to the
    /// stored object `stored`, in order.
    pub(super) fn new(
        needed: &[Range<u64>],
        held: &[(Range<u64>, Vec<StoredExtent>)],
        stored: u32,
    ) -> Layout {
        let mut layout = Layout::default();
        let mut held: Vec<_> = held.iter().collect();
        held.sort_by_key(|(range, _)| (range.start, u64::MAX - range.end));
        for range in merge(needed) {
            let mut at = range.start;
            for (known, extents) in
                held.iter().filter(|(known, _)| known.start >= range.start && known.end <= range.end)
            {
                // Inside one already taken, or overlapping it: it is stored with that one.
                if known.start < at {
                    continue;
                }
                layout.push_new(at..known.start, stored);
                let mut logical = known.start;
                for extent in extents {
                    let run =
                        Run { logical: logical..logical + extent.octets, source: Source::Held(*extent) };
                    logical = run.logical.end;
                    layout.runs.push(run);
                }
                at = known.end;
            }
            layout.push_new(at..range.end, stored);
        }
        layout
    }

    fn push_new(&mut self, logical: Range<u64>, stored: u32) {
        if logical.is_empty() {
            return;
        }
        let octets = logical.end - logical.start;
        let source = Source::New(Extent { object: stored, offset: self.new_octets, octets });
        self.new_octets += octets;
        self.runs.push(Run { logical, source });
    }

    /// Where the octets of `range` are stored, in order.
    pub(super) fn sources(&self, range: &Range<u64>) -> Vec<Source> {
        let mut sources = Vec::new();
        for run in &self.runs {
            let (from, to) = (run.logical.start.max(range.start), run.logical.end.min(range.end));
            if from < to {
                let (skip, octets) = (from - run.logical.start, to - from);
                sources.push(match run.source {
                    Source::New(extent) => {
                        Source::New(Extent { offset: extent.offset + skip, octets, ..extent })
                    }
                    Source::Held(extent) => {
                        Source::Held(StoredExtent { offset: extent.offset + skip, octets, ..extent })
                    }
                });
            }
        }
        sources
    }

    /// Seals what is new of `object`.
    pub(super) fn seal(
        &self,
        object: &Spooled,
        mut sealer: Sealer,
    ) -> Result<crate::store::Sealed, StoreError> {
        let fail = |e| StoreError::io("sealing a message", e);
        each_chunk(object, &mut |offset, chunk| {
            for run in self.runs.iter().filter(|run| matches!(run.source, Source::New(_))) {
                sealer.write_all(overlap(offset, chunk, &run.logical))?;
            }
            Ok(())
        })
        .map_err(fail)?;
        sealer.finish()
    }
}

fn merge(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted: Vec<_> = ranges.iter().filter(|r| !r.is_empty()).cloned().collect();
    sorted.sort_by_key(|r| r.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn held(object: u64, offset: u64, octets: u64) -> StoredExtent {
        StoredExtent { object, offset, octets }
    }

    #[test]
    fn leaves_out_what_is_held_and_still_finds_every_octet() {
        let layout = Layout::new(
            std::slice::from_ref(&(0..100)),
            &[(20..60, vec![held(7, 5, 30), held(8, 0, 10)])],
            0,
        );
        assert_eq!(layout.new_octets, 60);
        assert_eq!(
            layout.sources(&(0..100)),
            [
                Source::New(Extent { object: 0, offset: 0, octets: 20 }),
                Source::Held(held(7, 5, 30)),
                Source::Held(held(8, 0, 10)),
                Source::New(Extent { object: 0, offset: 20, octets: 40 }),
            ]
        );
        assert_eq!(layout.sources(&(45..55)), [Source::Held(held(7, 30, 5)), Source::Held(held(8, 0, 5))]);
    }

    #[test]
    fn stores_nothing_of_an_object_that_is_held_whole() {
        let layout = Layout::new(std::slice::from_ref(&(10..30)), &[(10..30, vec![held(1, 0, 20)])], 1);
        assert_eq!((layout.new_octets, layout.sources(&(10..30))), (0, vec![Source::Held(held(1, 0, 20))]));
    }

    proptest! {
        /// Whatever is needed and held: the sources of each needed range cover it exactly, octet for octet.
        #[test]
        fn sources_give_back_the_same_octets(
            needed in prop::collection::vec((0u64..200, 0u64..60), 1..4),
            known in prop::collection::vec((0u64..200, 1u64..40), 0..4),
        ) {
            let needed: Vec<Range<u64>> = needed.into_iter().map(|(s, l)| s..s + l).collect();
            // Held object N holds the octets of the logical range N, shifted by 1000.
            let held: Vec<_> = known.iter().enumerate().map(|(n, (s, l))| (*s..s + l, vec![held(n as u64, 1000 + s, *l)])).collect();
            let layout = Layout::new(&needed, &held, 0);
            // What the new object holds, as logical offsets.
            let mut new = Vec::new();
            for run in layout.runs.iter().filter(|r| matches!(r.source, Source::New(_))) {
                new.extend(run.logical.clone());
            }
            prop_assert_eq!(new.len() as u64, layout.new_octets);
            for range in &needed {
                let mut got: Vec<u64> = Vec::new();
                for source in layout.sources(range) {
                    match source {
                        Source::New(e) => got.extend(&new[e.offset as usize..(e.offset + e.octets) as usize]),
                        Source::Held(e) => got.extend((e.offset..e.offset + e.octets).map(|o| o - 1000)),
                    }
                }
                prop_assert_eq!(got, range.clone().collect::<Vec<_>>());
            }
        }
    }
}
