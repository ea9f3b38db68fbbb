//! The octets of a log segment. All integers are little-endian.
//!
//! ```text
//! segment  = segment header, group*
//! segment header (100 octets)
//!    0  8  "DAYBOOKS"
//!    8  2  format version, 1
//!   10  2  zero
//!   12  8  number of this segment
//!   20  8  number of the segment before it, 0 for none
//!   28  8  octets of that segment that count: what lies behind was given up after a failed write
//!   36 32  chain hash before the first group
//!   68 16  zero
//!   84 16  check: first half of SHA-256 over octets 0..84
//! group    = group header, frame+               one append, one fdatasync; counts as a whole or not at all
//! group header (72 octets)
//!    0  4  "DBG1"
//!    4  4  number of frames
//!    8  8  octets of all frames
//!   16  8  sequence number, rising by one over all segments
//!   24 32  chain hash before the first frame
//!   56 16  check: first half of SHA-256 over octets 0..56
//! frame    = frame header, entry, payload
//! frame header (84 octets)
//!    0  4  "DBF1"
//!    4  1  kind: 1 fact
//!    5  3  zero
//!    8  4  octets of the entry (JSON)
//!   12  8  octets of the payload (sealed content), may be 0
//!   20 32  SHA-256 of the payload
//!   52 32  chain hash: SHA-256(chain hash before, octets 0..52, entry)
//! ```
//!
//! The chain covers every entry and, through its hash, every payload, but not the payload's octets themselves: freed
//! content can be punched out and the chain still verifies.
//!
//! This module knows octets only: no files, no meaning of entries.

use super::Digest;
use aws_lc_rs::digest::{Context, SHA256};

/// Format version this build writes; a newer one is refused.
pub(super) const FORMAT_VERSION: u16 = 1;
pub(super) const SEGMENT_HEADER_OCTETS: usize = 100;
pub(super) const GROUP_HEADER_OCTETS: usize = 72;
pub(super) const FRAME_HEADER_OCTETS: usize = 84;
/// Largest entry: a report with 100,000 recipients fits many times over.
pub(super) const ENTRY_OCTETS_MAX: u32 = 256 * 1024 * 1024;
/// Largest group, far above what a committer builds; a length beyond it is damage.
pub(super) const GROUP_OCTETS_MAX: u64 = 1 << 32;

const SEGMENT_MAGIC: &[u8; 8] = b"DAYBOOKS";
pub(super) const GROUP_MAGIC: &[u8; 4] = b"DBG1";
/// Magic, kind 1 (fact) and zeros.
pub(super) const FRAME_BEGINNING: [u8; 8] = [b'D', b'B', b'F', b'1', 1, 0, 0, 0];
/// Octets of a frame header that the chain covers.
const FRAME_CHAINED_OCTETS: usize = 52;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) number: u64,
    pub(super) previous: u64,
    pub(super) previous_octets: u64,
    pub(super) chain: Digest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupHeader {
    pub(super) frames: u32,
    pub(super) octets: u64,
    pub(super) sequence: u64,
    pub(super) chain: Digest,
}

/// A frame found in a group, as places in the group's frame octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameAt {
    pub(super) entry_offset: u64,
    pub(super) entry_octets: u32,
    pub(super) payload_offset: u64,
    pub(super) payload_octets: u64,
}

/// What is wrong with a header or frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FormatError {
    /// Fewer octets than the header says.
    Short,
    /// Magic, check or reserved octets do not fit.
    NotOurs,
    /// Written by a newer version.
    Newer(u16),
    /// An entry, or the frame header before it, does not fit its hash.
    Hash,
    /// A payload does not fit its hash; its entry does.
    Payload,
}

impl std::fmt::Display for FormatError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FormatError::Short => f.write_str("cut short"),
            FormatError::NotOurs => f.write_str("header is not valid"),
            FormatError::Newer(version) => write!(f, "format version {version} is newer than this program"),
            FormatError::Hash => f.write_str("hash of an entry does not match"),
            FormatError::Payload => f.write_str("hash of stored content does not match"),
        }
    }
}

pub(super) fn array<const N: usize>(octets: &[u8], at: usize) -> Result<[u8; N], FormatError> {
    octets.get(at..at + N).and_then(|s| s.try_into().ok()).ok_or(FormatError::Short)
}

pub(super) fn u32_at(octets: &[u8], at: usize) -> Result<u32, FormatError> {
    array(octets, at).map(u32::from_le_bytes)
}

pub(super) fn u64_at(octets: &[u8], at: usize) -> Result<u64, FormatError> {
    array(octets, at).map(u64::from_le_bytes)
}

pub(super) fn check_of(octets: &[u8]) -> [u8; 16] {
    let digest = Digest::of(octets);
    let mut check = [0; 16];
    check.copy_from_slice(&digest.0[..16]);
    check
}

pub(super) fn verify_check(octets: &[u8], at: usize) -> Result<(), FormatError> {
    let covered = octets.get(..at).ok_or(FormatError::Short)?;
    if array::<16>(octets, at)? == check_of(covered) { Ok(()) } else { Err(FormatError::NotOurs) }
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_OCTETS);
        out.extend_from_slice(SEGMENT_MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.previous.to_le_bytes());
        out.extend_from_slice(&self.previous_octets.to_le_bytes());
        out.extend_from_slice(&self.chain.0);
        out.extend_from_slice(&[0; 16]);
        let check = check_of(&out);
        out.extend_from_slice(&check);
        out
    }

    pub(super) fn decode(octets: &[u8]) -> Result<SegmentHeader, FormatError> {
        if &array::<8>(octets, 0)? != SEGMENT_MAGIC {
            return Err(FormatError::NotOurs);
        }
        // The check covers the version, and will in every later one: a flipped bit is damage, not a newer program.
        verify_check(octets, 84)?;
        let version = u16::from_le_bytes(array(octets, 8)?);
        if version > FORMAT_VERSION {
            return Err(FormatError::Newer(version));
        }
        Ok(SegmentHeader {
            number: u64_at(octets, 12)?,
            previous: u64_at(octets, 20)?,
            previous_octets: u64_at(octets, 28)?,
            chain: Digest(array(octets, 36)?),
        })
    }
}

/// A segment header of version 2, which no segment has: every program before `.entries` files reads it, and refuses the log.
pub(super) fn barring_header(number: u64) -> Vec<u8> {
    let header = SegmentHeader { number, previous: 0, previous_octets: 0, chain: Digest([0; 32]) };
    let mut octets = header.encode();
    octets.truncate(SEGMENT_HEADER_OCTETS - 16);
    if let Some(version) = octets.get_mut(8..10) {
        version.copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
    }
    let check = check_of(&octets);
    octets.extend_from_slice(&check);
    octets
}

impl GroupHeader {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(GROUP_HEADER_OCTETS);
        out.extend_from_slice(GROUP_MAGIC);
        out.extend_from_slice(&self.frames.to_le_bytes());
        out.extend_from_slice(&self.octets.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.chain.0);
        let check = check_of(&out);
        out.extend_from_slice(&check);
        out
    }

    pub(super) fn decode(octets: &[u8]) -> Result<GroupHeader, FormatError> {
        if &array::<4>(octets, 0)? != GROUP_MAGIC {
            return Err(FormatError::NotOurs);
        }
        verify_check(octets, 56)?;
        let header = GroupHeader {
            frames: u32_at(octets, 4)?,
            octets: u64_at(octets, 8)?,
            sequence: u64_at(octets, 16)?,
            chain: Digest(array(octets, 24)?),
        };
        if header.octets > GROUP_OCTETS_MAX { Err(FormatError::NotOurs) } else { Ok(header) }
    }
}

/// What a frame's header says of what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) entry_octets: u32,
    pub(super) payload_octets: u64,
    pub(super) payload_sha256: Digest,
    /// The chain hash behind this frame.
    pub(super) chain: Digest,
}

impl FrameHeader {
    pub(super) fn decode(head: &[u8]) -> Result<FrameHeader, FormatError> {
        if array::<8>(head, 0)? != FRAME_BEGINNING {
            return Err(FormatError::NotOurs);
        }
        Ok(FrameHeader {
            entry_octets: u32_at(head, 8)?,
            payload_octets: u64_at(head, 12)?,
            payload_sha256: Digest(array(head, 20)?),
            chain: Digest(array(head, 52)?),
        })
    }

    /// True when this header, whose octets are `head`, and the entry behind it are what was written behind `chain`.
    pub(super) fn continues(&self, chain: &Digest, head: &[u8], entry: &[u8]) -> bool {
        chain_after(chain, head.get(..FRAME_CHAINED_OCTETS).unwrap_or_default(), entry) == self.chain
    }
}

fn chain_after(chain: &Digest, header: &[u8], entry: &[u8]) -> Digest {
    let mut context = Context::new(&SHA256);
    context.update(&chain.0);
    context.update(header);
    context.update(entry);
    Digest::from_ring(&context.finish())
}

/// Collects the frames of one group.
pub(super) struct GroupBuilder {
    octets: Vec<u8>,
    frames: u32,
    start: Digest,
    chain: Digest,
}

/// Where the builder stood, to go back to when a later frame of the same delivery cannot be built.
#[derive(Clone, Copy)]
pub(super) struct GroupMark {
    octets: usize,
    frames: u32,
    chain: Digest,
}

impl GroupBuilder {
    /// Starts a group behind `chain`, reusing `buffer`'s memory.
    pub(super) fn new(chain: Digest, mut buffer: Vec<u8>) -> GroupBuilder {
        buffer.clear();
        buffer.resize(GROUP_HEADER_OCTETS, 0);
        GroupBuilder { octets: buffer, frames: 0, start: chain, chain }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Octets so far, with those of the header.
    pub(super) fn octets(&self) -> u64 {
        self.octets.len() as u64
    }

    pub(super) fn mark(&self) -> GroupMark {
        GroupMark { octets: self.octets.len(), frames: self.frames, chain: self.chain }
    }

    pub(super) fn go_back(&mut self, mark: GroupMark) {
        self.octets.truncate(mark.octets);
        self.frames = mark.frames;
        self.chain = mark.chain;
    }

    /// Appends a frame; offsets of the result count from the group header.
    pub(super) fn push(
        &mut self,
        entry: &[u8],
        payload: &[u8],
        payload_sha256: &Digest,
    ) -> Result<FrameAt, FormatError> {
        let entry_octets =
            u32::try_from(entry.len()).ok().filter(|n| *n <= ENTRY_OCTETS_MAX).ok_or(FormatError::NotOurs)?;
        let at = self.octets.len();
        self.octets.extend_from_slice(&FRAME_BEGINNING);
        self.octets.extend_from_slice(&entry_octets.to_le_bytes());
        self.octets.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        self.octets.extend_from_slice(&payload_sha256.0);
        self.chain = chain_after(&self.chain, self.octets.get(at..).unwrap_or_default(), entry);
        self.octets.extend_from_slice(&self.chain.0);
        self.octets.extend_from_slice(entry);
        let payload_offset = self.octets.len() as u64;
        self.octets.extend_from_slice(payload);
        self.frames += 1;
        Ok(FrameAt {
            entry_offset: payload_offset - u64::from(entry_octets),
            entry_octets,
            payload_offset,
            payload_octets: payload.len() as u64,
        })
    }

    /// The whole group, and the chain hash behind it.
    pub(super) fn finish(mut self, sequence: u64) -> (Vec<u8>, Digest) {
        let header = GroupHeader {
            frames: self.frames,
            octets: (self.octets.len() - GROUP_HEADER_OCTETS) as u64,
            sequence,
            chain: self.start,
        };
        if let Some(place) = self.octets.get_mut(..GROUP_HEADER_OCTETS) {
            place.copy_from_slice(&header.encode());
        }
        (self.octets, self.chain)
    }
}

/// One frame read back, and where it stood, counted from the group header.
pub(super) struct Frame<'a> {
    pub(super) at: FrameAt,
    pub(super) entry: &'a [u8],
}

/// What could be read of a group.
pub(super) struct Group<'a> {
    /// Frames whose entry is whole; a payload may be damaged still, as `damage` then says.
    pub(super) frames: Vec<Frame<'a>>,
    /// The chain hash behind the last frame.
    pub(super) chain: Digest,
    /// Offsets from the group header, and what is wrong there. Empty: the group is whole.
    pub(super) damage: Vec<(u64, FormatError)>,
}

/// Reads the frames of a group and verifies every hash. `octets` begins with the group header.
///
/// One damaged frame does not take its neighbours with it: each carries the chain hash the next one builds on.
pub(super) fn decode_group<'a>(header: &GroupHeader, octets: &'a [u8]) -> Group<'a> {
    let mut group = Group { frames: Vec::new(), chain: header.chain, damage: Vec::new() };
    let end = usize::try_from(header.octets)
        .ok()
        .map(|n| n + GROUP_HEADER_OCTETS)
        .filter(|end| *end <= octets.len());
    let octets = octets.get(..end.unwrap_or(octets.len())).unwrap_or_default();
    let mut at = GROUP_HEADER_OCTETS;
    for _ in 0..header.frames {
        match decode_frame(octets, at, &group.chain) {
            Ok((frame, chain, damage)) => {
                let start = at;
                at = usize::try_from(frame.at.payload_offset + frame.at.payload_octets)
                    .unwrap_or(octets.len());
                group.chain = chain;
                let entry_is_whole = !matches!(damage, Some(FormatError::Hash));
                group.damage.extend(damage.map(|what| (start as u64, what)));
                if entry_is_whole {
                    group.frames.push(frame);
                }
            }
            Err(e) => {
                group.damage.push((at as u64, e));
                return group;
            }
        }
    }
    if end.is_none() || Some(at) != end {
        group.damage.push((at as u64, FormatError::Short));
    }
    group
}

/// True when the payload of the frame that begins at `at` is there and reads as zeros alone: nothing sealed does.
pub(super) fn has_blank_payload(octets: &[u8], at: u64) -> bool {
    let payload = || {
        let head = octets.get(usize::try_from(at).ok()?..)?;
        let header = FrameHeader::decode(head).ok()?;
        let from = FRAME_HEADER_OCTETS.checked_add(header.entry_octets as usize)?;
        head.get(from..from.checked_add(usize::try_from(header.payload_octets).ok()?)?)
    };
    payload().is_some_and(|payload| !payload.is_empty() && payload.iter().all(|octet| *octet == 0))
}

/// One frame at `at`, the chain hash it leaves behind, and whether its entry or its payload is damaged.
fn decode_frame<'a>(
    octets: &'a [u8],
    at: usize,
    chain: &Digest,
) -> Result<(Frame<'a>, Digest, Option<FormatError>), FormatError> {
    let head = octets.get(at..at + FRAME_HEADER_OCTETS).ok_or(FormatError::Short)?;
    let header = FrameHeader::decode(head)?;
    let FrameHeader { entry_octets, payload_octets, .. } = header;
    let entry_offset = at + FRAME_HEADER_OCTETS;
    let payload_offset = entry_offset.checked_add(entry_octets as usize).ok_or(FormatError::Short)?;
    let next = usize::try_from(payload_octets)
        .ok()
        .and_then(|n| payload_offset.checked_add(n))
        .ok_or(FormatError::Short)?;
    let entry = octets.get(entry_offset..payload_offset).ok_or(FormatError::Short)?;
    let payload = octets.get(payload_offset..next).ok_or(FormatError::Short)?;
    let damage = if !header.continues(chain, head, entry) {
        Some(FormatError::Hash)
    } else if Digest::of(payload) != header.payload_sha256 {
        Some(FormatError::Payload)
    } else {
        None
    };
    let at = FrameAt {
        entry_offset: entry_offset as u64,
        entry_octets,
        payload_offset: payload_offset as u64,
        payload_octets,
    };
    Ok((Frame { at, entry }, header.chain, damage))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> (Vec<u8>, Digest) {
        let mut builder = GroupBuilder::new(Digest([7; 32]), Vec::new());
        builder.push(b"{\"a\":1}", b"payload", &Digest::of(b"payload")).unwrap();
        let mark = builder.mark();
        builder.push(b"{}", b"gone", &Digest::of(b"gone")).unwrap();
        builder.go_back(mark);
        builder.push(b"{\"b\":2}", b"", &Digest::of(b"")).unwrap();
        builder.finish(9)
    }

    #[test]
    fn reads_back_what_it_wrote() {
        let (octets, chain) = group();
        let header = GroupHeader::decode(&octets).unwrap();
        assert_eq!((header.frames, header.sequence), (2, 9));
        let group = decode_group(&header, &octets);
        assert_eq!((group.chain, group.damage.len()), (chain, 0));
        assert_eq!(group.frames.iter().map(|f| f.entry).collect::<Vec<_>>(), [b"{\"a\":1}", b"{\"b\":2}"]);
        let at = group.frames[0].at;
        assert_eq!(&octets[at.payload_offset as usize..][..at.payload_octets as usize], b"payload");
    }

    #[test]
    fn notices_every_flipped_bit_and_every_cut() {
        let (octets, _) = group();
        let whole = |octets: &[u8]| {
            GroupHeader::decode(octets).is_ok_and(|h| decode_group(&h, octets).damage.is_empty())
        };
        assert!(whole(&octets));
        for at in 0..octets.len() {
            let mut bad = octets.clone();
            bad[at] ^= 1;
            assert!(!whole(&bad), "flip at {at}");
            assert!(!whole(&octets[..at]), "cut at {at}");
        }
    }

    #[test]
    fn a_damaged_frame_leaves_its_neighbours_readable() {
        let (octets, chain) = group();
        let header = GroupHeader::decode(&octets).unwrap();
        let check = |needle: &[u8], what: FormatError, left: &[&[u8]]| {
            let mut bad = octets.clone();
            let at = bad.windows(needle.len()).position(|w| w == needle).unwrap();
            bad[at] ^= 1;
            let group = decode_group(&header, &bad);
            assert_eq!(group.damage.iter().map(|d| d.1).collect::<Vec<_>>(), [what]);
            assert_eq!(group.frames.iter().map(|f| f.entry).collect::<Vec<_>>(), left);
            assert_eq!(group.chain, chain);
        };
        check(b"payload", FormatError::Payload, &[b"{\"a\":1}", b"{\"b\":2}"]);
        check(b"{\"a\":1}", FormatError::Hash, &[b"{\"b\":2}"]);
        check(b"{\"b\":2}", FormatError::Hash, &[b"{\"a\":1}"]);
    }

    #[test]
    fn refuses_a_newer_segment_by_name() {
        let header = SegmentHeader { number: 3, previous: 2, previous_octets: 100, chain: Digest([1; 32]) };
        let octets = header.encode();
        assert_eq!(octets.len(), SEGMENT_HEADER_OCTETS);
        assert_eq!(SegmentHeader::decode(&octets), Ok(header));
        let mut newer = octets.clone();
        newer[8] = 2;
        assert_eq!(SegmentHeader::decode(&newer), Err(FormatError::NotOurs), "a flipped bit");
        let check = check_of(&newer[..84]);
        newer[84..].copy_from_slice(&check);
        assert_eq!(SegmentHeader::decode(&newer), Err(FormatError::Newer(2)));
        let mut bad = octets;
        bad[13] ^= 1;
        assert_eq!(SegmentHeader::decode(&bad), Err(FormatError::NotOurs));
    }
}
