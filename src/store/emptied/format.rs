//! The octets of an entries file. All integers are little-endian; offsets of the segment are those it had as `.seg`.
//!
//! ```text
//! entries file = header, block+, table
//! header (88 octets)
//!    0  8  "DAYBOOKE"
//!    8  2  format version, 1
//!   10  2  zero
//!   12  8  number of the segment
//!   20  8  octets of the segment that counted
//!   28  8  where in this file the table stands
//!   36  4  number of blocks
//!   40 32  SHA-256 of the table
//!   72 16  check: first half of SHA-256 over octets 0..72
//! block (44 octets, and what is compressed)
//!    0  4  "DBE1"
//!    4  4  octets compressed
//!    8  4  octets when decompressed, at most 256 KiB
//!   12  8  the first octet of the segment that it tells of
//!   20  8  the octet of the segment behind the last it tells of
//!   28 16  check: first half of SHA-256 over octets 0..28 and what is compressed
//! compressed (DEFLATE, RFC 1951)
//!    0  4  number of extents
//!       8  of each extent: u32 octets left out before it, u32 octets of it that were kept
//!          the kept octets of all extents, one behind the other
//! table (32 octets a block, in the order of the segment)
//!    0  8  the first octet of the segment that the block tells of
//!    8  8  the octet of the segment behind the last
//!   16  8  where in this file the block stands
//!   24  4  octets compressed
//!   28  4  octets when decompressed
//! ```
//!
//! The first block holds the segment's header and nothing else: it is asked for most. The blocks tell of all octets of the segment,
//! without a gap; what is in none of their extents was payload, and reads as zeros. The table says only what the blocks say
//! themselves: where it or the header is damaged, the blocks are searched for.
//!
//! This module knows octets only: no files.

use crate::store::Digest;
use crate::store::format::{FormatError, array, check_of, u32_at, u64_at, verify_check};
use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;

/// Format version this build writes; a newer one is refused.
const VERSION: u16 = 1;
pub(super) const HEADER_OCTETS: usize = 88;
pub(super) const BLOCK_HEAD_OCTETS: usize = 44;
pub(super) const TABLE_ROW_OCTETS: usize = 32;
/// Kept octets that are compressed together: what damage takes at once, and what is decompressed to read one entry.
pub(super) const KEPT_OCTETS: usize = 64 * 1024;
/// Largest block, decompressed. A larger one is damage: whoever reads is not to be made to hold it.
pub(super) const RAW_OCTETS_MAX: u32 = 256 * 1024;
/// Largest block, compressed: what does not shrink grows a little.
pub(super) const COMPRESSED_OCTETS_MAX: u32 = RAW_OCTETS_MAX + 4096;
/// Blocks of one file: as many as a segment of the largest size could have, many times over.
const BLOCKS_MAX: u32 = 1 << 24;
/// Most of what is kept are hashes, which do not shrink: higher levels take twice the time for a hundredth less.
const LEVEL: u8 = 4;

const MAGIC: &[u8; 8] = b"DAYBOOKE";
pub(super) const BLOCK_MAGIC: &[u8; 4] = b"DBE1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) number: u64,
    pub(super) octets: u64,
    pub(super) table_at: u64,
    pub(super) blocks: u32,
    pub(super) table_sha256: Digest,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_OCTETS);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.octets.to_le_bytes());
        out.extend_from_slice(&self.table_at.to_le_bytes());
        out.extend_from_slice(&self.blocks.to_le_bytes());
        out.extend_from_slice(&self.table_sha256.0);
        let check = check_of(&out);
        out.extend_from_slice(&check);
        out
    }

    pub(super) fn decode(octets: &[u8]) -> Result<Header, FormatError> {
        if &array::<8>(octets, 0)? != MAGIC {
            return Err(FormatError::NotOurs);
        }
        // The check covers the version: a flipped bit is damage, not a newer program.
        verify_check(octets, 72)?;
        let version = u16::from_le_bytes(array(octets, 8)?);
        if version > VERSION {
            return Err(FormatError::Newer(version));
        }
        let header = Header {
            number: u64_at(octets, 12)?,
            octets: u64_at(octets, 20)?,
            table_at: u64_at(octets, 28)?,
            blocks: u32_at(octets, 36)?,
            table_sha256: Digest(array(octets, 40)?),
        };
        if header.blocks > BLOCKS_MAX { Err(FormatError::NotOurs) } else { Ok(header) }
    }

    /// Octets of the whole file.
    pub(super) fn file_octets(&self) -> u64 {
        self.table_at.saturating_add(u64::from(self.blocks) * TABLE_ROW_OCTETS as u64)
    }
}

/// What a block tells of, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockAt {
    /// The octets of the segment from here …
    pub(super) from: u64,
    /// … to before here.
    pub(super) to: u64,
    /// Where in the file its head stands.
    pub(super) at: u64,
    pub(super) compressed: u32,
    pub(super) raw: u32,
}

impl BlockAt {
    /// Behind it in the file.
    pub(super) fn end(&self) -> u64 {
        self.at.saturating_add(BLOCK_HEAD_OCTETS as u64 + u64::from(self.compressed))
    }

    fn head(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BLOCK_HEAD_OCTETS);
        out.extend_from_slice(BLOCK_MAGIC);
        out.extend_from_slice(&self.compressed.to_le_bytes());
        out.extend_from_slice(&self.raw.to_le_bytes());
        out.extend_from_slice(&self.from.to_le_bytes());
        out.extend_from_slice(&self.to.to_le_bytes());
        out
    }

    /// Reads the head that stands at `at`. Whether it is whole only [`BlockAt::kept`] tells.
    pub(super) fn decode(octets: &[u8], at: u64) -> Result<BlockAt, FormatError> {
        if &array::<4>(octets, 0)? != BLOCK_MAGIC {
            return Err(FormatError::NotOurs);
        }
        let (compressed, raw) = (u32_at(octets, 4)?, u32_at(octets, 8)?);
        let block = BlockAt { from: u64_at(octets, 12)?, to: u64_at(octets, 20)?, at, compressed, raw };
        if block.is_possible() { Ok(block) } else { Err(FormatError::NotOurs) }
    }

    fn is_possible(&self) -> bool {
        self.from < self.to && self.compressed <= COMPRESSED_OCTETS_MAX && self.raw <= RAW_OCTETS_MAX
    }

    /// What it kept; `octets` are those of the whole block.
    pub(super) fn kept(&self, octets: &[u8]) -> Result<Kept, FormatError> {
        if BlockAt::decode(octets, self.at)? != *self {
            return Err(FormatError::NotOurs);
        }
        let (head, compressed) = octets.split_at_checked(BLOCK_HEAD_OCTETS).ok_or(FormatError::Short)?;
        if array::<16>(head, 28)? != block_check(&self.head(), compressed) {
            return Err(FormatError::Hash);
        }
        let raw =
            decompress_to_vec_with_limit(compressed, self.raw as usize).map_err(|_| FormatError::Hash)?;
        if raw.len() != self.raw as usize {
            return Err(FormatError::Short);
        }
        Kept::decode(self, &raw)
    }
}

fn block_check(head: &[u8], compressed: &[u8]) -> [u8; 16] {
    let mut covered = Vec::with_capacity(head.len() + compressed.len());
    covered.extend_from_slice(head);
    covered.extend_from_slice(compressed);
    check_of(&covered)
}

pub(super) fn encode_table(blocks: &[BlockAt]) -> Vec<u8> {
    let mut out = Vec::with_capacity(blocks.len() * TABLE_ROW_OCTETS);
    for block in blocks {
        out.extend_from_slice(&block.from.to_le_bytes());
        out.extend_from_slice(&block.to.to_le_bytes());
        out.extend_from_slice(&block.at.to_le_bytes());
        out.extend_from_slice(&block.compressed.to_le_bytes());
        out.extend_from_slice(&block.raw.to_le_bytes());
    }
    out
}

/// The blocks that a table names, when they tell of all the segment and fill the file.
pub(super) fn decode_table(header: &Header, octets: &[u8]) -> Result<Vec<BlockAt>, FormatError> {
    if Digest::of(octets) != header.table_sha256 {
        return Err(FormatError::Hash);
    }
    let (mut from, mut at) = (0, HEADER_OCTETS as u64);
    let mut blocks = Vec::with_capacity(octets.len() / TABLE_ROW_OCTETS);
    for row in octets.chunks(TABLE_ROW_OCTETS) {
        let block = BlockAt {
            from: u64_at(row, 0)?,
            to: u64_at(row, 8)?,
            at: u64_at(row, 16)?,
            compressed: u32_at(row, 24)?,
            raw: u32_at(row, 28)?,
        };
        if (block.from, block.at) != (from, at) || !block.is_possible() {
            return Err(FormatError::NotOurs);
        }
        (from, at) = (block.to, block.end());
        blocks.push(block);
    }
    if (from, at) == (header.octets, header.table_at) { Ok(blocks) } else { Err(FormatError::NotOurs) }
}

/// The octets of a segment that one block kept.
#[derive(Debug)]
pub(super) struct Kept {
    /// Of each extent: where in the segment it begins, and where in `octets`.
    extents: Vec<(u64, usize)>,
    octets: Vec<u8>,
}

impl Kept {
    fn decode(block: &BlockAt, raw: &[u8]) -> Result<Kept, FormatError> {
        let count = u32_at(raw, 0)? as usize;
        let lists =
            count.checked_mul(8).and_then(|octets| octets.checked_add(4)).ok_or(FormatError::Short)?;
        let list = raw.get(4..lists).ok_or(FormatError::Short)?;
        let octets = raw.get(lists..).ok_or(FormatError::Short)?.to_vec();
        let mut extents = Vec::with_capacity(count);
        let (mut at, mut start) = (block.from, 0);
        for row in list.chunks(8) {
            at += u64::from(u32_at(row, 0)?);
            extents.push((at, start));
            let kept = u32_at(row, 4)?;
            at += u64::from(kept);
            start += kept as usize;
        }
        if at <= block.to && start == octets.len() {
            Ok(Kept { extents, octets })
        } else {
            Err(FormatError::Short)
        }
    }

    /// Puts what was kept of the octets from `at` on into `into`, which holds zeros.
    pub(super) fn copy(&self, at: u64, into: &mut [u8]) {
        let end = at.saturating_add(into.len() as u64);
        let first = self.extents.partition_point(|(from, _)| *from <= at).saturating_sub(1);
        let mut extents = self.extents.iter().skip(first).peekable();
        while let Some((from, start)) = extents.next() {
            if *from >= end {
                break;
            }
            let behind = extents.peek().map_or(self.octets.len(), |(_, start)| *start);
            let kept = self.octets.get(*start..behind).unwrap_or_default();
            // Of this extent what is asked for, as offsets into it and into what is asked for.
            let skip = usize::try_from(at.saturating_sub(*from)).unwrap_or(usize::MAX);
            let target = usize::try_from(from.saturating_sub(at)).unwrap_or(usize::MAX);
            let (Some(kept), Some(into)) = (kept.get(skip..), into.get_mut(target..)) else { continue };
            let count = kept.len().min(into.len());
            if let (Some(into), Some(kept)) = (into.get_mut(..count), kept.get(..count)) {
                into.copy_from_slice(kept);
            }
        }
    }
}

/// Gathers what one block keeps.
#[derive(Default)]
pub(super) struct BlockBuilder {
    /// The first octet of the segment that it tells of.
    from: u64,
    /// Behind the last extent, in the segment.
    end: u64,
    /// Of each extent: octets left out before it, octets of it.
    extents: Vec<(u32, u32)>,
    octets: Vec<u8>,
}

impl BlockBuilder {
    pub(super) fn new(from: u64) -> BlockBuilder {
        BlockBuilder { from, end: from, ..BlockBuilder::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// So many octets can be kept still.
    pub(super) fn room(&self) -> usize {
        KEPT_OCTETS.saturating_sub(self.octets.len())
    }

    /// Keeps octets of the segment that stand at `at`, not before those kept last.
    ///
    /// # Errors
    /// When more is left out at once than can be: no group is that large.
    pub(super) fn keep(&mut self, at: u64, octets: &[u8]) -> Result<(), FormatError> {
        let size = |octets: u64| u32::try_from(octets).map_err(|_| FormatError::NotOurs);
        let left_out = size(at.checked_sub(self.end).ok_or(FormatError::NotOurs)?)?;
        let count = size(octets.len() as u64)?;
        match self.extents.last_mut() {
            Some((_, kept)) if left_out == 0 => *kept += count,
            _ => self.extents.push((left_out, count)),
        }
        self.octets.extend_from_slice(octets);
        self.end = at + octets.len() as u64;
        Ok(())
    }

    /// The block, which tells of the segment up to `to` and stands at `at`; and its octets.
    ///
    /// # Errors
    /// When it is larger than a block may be.
    pub(super) fn finish(self, to: u64, at: u64) -> Result<(BlockAt, Vec<u8>), FormatError> {
        let size = |octets: usize| u32::try_from(octets).map_err(|_| FormatError::NotOurs);
        let mut raw = Vec::with_capacity(4 + self.extents.len() * 8 + self.octets.len());
        raw.extend_from_slice(&size(self.extents.len())?.to_le_bytes());
        for (left_out, kept) in &self.extents {
            raw.extend_from_slice(&left_out.to_le_bytes());
            raw.extend_from_slice(&kept.to_le_bytes());
        }
        raw.extend_from_slice(&self.octets);
        let compressed = compress_to_vec(&raw, LEVEL);
        let block =
            BlockAt { from: self.from, to, at, compressed: size(compressed.len())?, raw: size(raw.len())? };
        if !block.is_possible() {
            return Err(FormatError::NotOurs);
        }
        let mut octets = block.head();
        octets.extend_from_slice(&block_check(&octets, &compressed));
        octets.extend_from_slice(&compressed);
        Ok((block, octets))
    }
}
