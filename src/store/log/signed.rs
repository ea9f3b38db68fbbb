//! The end of the log, compared with what was signed.
//!
//! A checkpoint names a group by its number and the chain hash behind it. Where that group lies may have changed since: a start
//! after a crash copies what was not known to be synced into a later segment.

use super::{Apply, Finding, Found, Log, Position, next_group_behind, read_over, replay};
use crate::store::StoreError;
use crate::store::checkpoint::Gap;
use crate::store::format::{GROUP_HEADER_OCTETS, GroupHeader, SEGMENT_HEADER_OCTETS};
use std::collections::BTreeMap;
use std::io;

/// The position that reaches further; a checkpoint counts only beyond the other.
pub(super) fn furthest(known: Option<Position>, signed: Option<&Position>) -> Option<Position> {
    let beyond = |signed: &&Position| known.is_none_or(|known| signed.sequence > known.sequence);
    signed.filter(beyond).copied().or(known)
}

/// What tells how far the log once reached.
pub(super) struct Known<'a> {
    pub(super) clean: Option<&'a Position>,
    pub(super) signed: Option<&'a Position>,
    /// The index's position, or where the log begins.
    pub(super) start: &'a Position,
}

impl Log {
    /// Where its end is missing, just after it was opened, if it is.
    pub(in crate::store) fn gap(&self) -> Gap {
        Gap { behind: self.last, to: self.position() }
    }
}

/// The number of the last group before segment `number`, read from the headers of groups behind `start`.
pub(super) fn sequence_before(
    segments: &BTreeMap<u64, Found>,
    start: &Position,
    number: u64,
) -> io::Result<u64> {
    let mut sequence = start.sequence;
    for (segment, found) in segments.range(start.segment..number) {
        let file = found.open()?;
        let mut at = if *segment == start.segment { start.offset } else { SEGMENT_HEADER_OCTETS as u64 };
        let mut head = [0; GROUP_HEADER_OCTETS];
        while at + GROUP_HEADER_OCTETS as u64 <= found.octets {
            read_over(&file, &mut head, at)?;
            let end = at + GROUP_HEADER_OCTETS as u64;
            match GroupHeader::decode(&head) {
                Ok(header) if end + header.octets <= found.octets => {
                    (at, sequence) = (end + header.octets, header.sequence);
                }
                _ => match next_group_behind(&file, at + 1, found.octets, sequence)? {
                    Some(next) => at = next,
                    None => break,
                },
            }
        }
    }
    Ok(sequence)
}

/// The same as [`replay`], compared with what was signed.
pub(super) fn replay_signed(
    segments: &BTreeMap<u64, Found>,
    start: Position,
    signed: Option<&Position>,
    apply: Apply<'_>,
    findings: &mut Vec<Finding>,
) -> Result<Position, StoreError> {
    let differs = |p: &Position| {
        signed.is_some_and(|s| s.sequence == p.sequence && s.chain != p.chain && p.sequence > 0)
    };
    let mut differing = differs(&start).then_some((start.offset, start));
    let mut compare = |position: &Position, at: u64, header: &GroupHeader, octets: &[u8]| {
        if differs(position) {
            differing = Some((at, *position));
        }
        apply(position, at, header, octets)
    };
    let end = replay(segments, start, &mut compare, findings)?;
    if let Some((at, position)) = differing {
        // Damage in the group itself is named already.
        let is_named = findings.iter().any(|finding| {
            matches!(finding, Finding::Damage { segment, offset, .. }
                if *segment == position.segment && (at..position.offset).contains(offset))
        });
        if !is_named {
            let what = "the log says something else here than was signed in a checkpoint";
            findings.push(Finding::missing(position.segment, at, what));
        }
    }
    if let Some(signed) = signed.filter(|signed| signed.sequence > end.sequence) {
        let what = format!(
            "the log ends with group {}, and a signed checkpoint reaches to group {}: mail that was acknowledged is missing",
            end.sequence, signed.sequence
        );
        findings.push(Finding::missing(end.segment, end.offset, &what));
    }
    Ok(end)
}
