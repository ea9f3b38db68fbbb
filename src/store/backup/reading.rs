//! A log read from one position to another, and what its entries say of content and keyrings.

use crate::mail::{GatewayMailboxId, ReceiptId, Timestamp};
use crate::store::check::{Bits, Damage, End, Expect, Seen, Tail, Visit, walk_segment};
use crate::store::fact::Fact;
use crate::store::log::{Found as Segment, Position, find_segments, segment_path};
use crate::store::{Digest, StoreError};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

/// Findings that are named; all are counted.
pub(super) const FINDINGS_MAX: usize = 1_000;

/// Something that is not what was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackupFinding {
    /// Where: `log/00000003.seg at 8123`.
    pub place: String,
    /// What is wrong there.
    pub what: String,
    /// Transactions it touches, as far as is known.
    pub receipts: Vec<ReceiptId>,
}

/// The first of them, and how many there are.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) kept: Vec<BackupFinding>,
    pub(super) count: u64,
}

impl Findings {
    pub(super) fn add(&mut self, damage: Damage) {
        self.count += 1;
        if self.kept.len() < FINDINGS_MAX {
            let place = damage.place();
            self.kept.push(BackupFinding { place, what: damage.what, receipts: damage.receipts });
        }
    }

    /// Adds others, which were counted apart.
    pub(super) fn join(&mut self, others: Findings) {
        self.count += others.count;
        let room = FINDINGS_MAX.saturating_sub(self.kept.len());
        self.kept.extend(others.kept.into_iter().take(room));
    }

    pub(super) fn tell(&mut self, file: &str, what: String) {
        self.add(Damage { file: file.to_owned(), what, ..Damage::default() });
    }
}

/// Where a walk through a log is.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub(super) segment: u64,
    pub(super) offset: u64,
    /// Not known behind what cannot be read.
    pub(super) chain: Option<Digest>,
    pub(super) sequence: Option<u64>,
}

impl At {
    /// Before the first segment.
    pub(super) const BEGINNING: At =
        At { segment: 0, offset: 0, chain: Some(Digest([0; 32])), sequence: Some(0) };

    pub(super) fn position(&self) -> Position {
        Position {
            segment: self.segment,
            offset: self.offset,
            chain: self.chain.unwrap_or_default(),
            sequence: self.sequence.unwrap_or_default(),
        }
    }
}

/// Walks on from `at`: to `to`, or behind the last whole group. Gives what stands behind that and is no whole group.
///
/// # Errors
/// See [`walk_segment`].
pub(super) fn walk_on(
    log: &Path,
    at: &mut At,
    to: Option<&Position>,
    payloads: bool,
    visit: &mut dyn Visit,
) -> Result<Option<Tail>, StoreError> {
    let (segments, _) = find_segments(log, &mut Vec::new())?;
    let is_wanted = |number: &u64| to.is_none_or(|to| *number <= to.segment);
    let last = segments.keys().rev().copied().find(is_wanted);
    for (number, found) in segments.range(at.segment..) {
        let end = match to {
            Some(to) if *number > to.segment => break,
            Some(to) if *number == to.segment => to.offset.min(length(log, *number, found)),
            _ => found.octets,
        };
        let from = if *number == at.segment { at.offset } else { 0 };
        if end <= from {
            continue;
        }
        let expect = Expect { number: *number, from, end, chain: at.chain, sequence: at.sequence, payloads };
        let file = found.open().map_err(|e| StoreError::io("opening a log segment", e))?;
        let End { offset, chain, sequence, tail, .. } = walk_segment(&file, &expect, visit)?;
        *at = At { segment: *number, offset, chain, sequence };
        match tail {
            Some(tail) if Some(*number) == last => return Ok(Some(tail)),
            // Something was written behind it, so it was whole once.
            Some(tail) => {
                tail.damage.into_iter().for_each(|damage| visit.damage(damage));
                tail.seen.iter().for_each(|seen| visit.entry(seen));
                (at.chain, at.sequence) = (None, None);
            }
            None => {}
        }
    }
    Ok(None)
}

/// Octets of a segment, whatever one behind it says of them: in a backup that was broken off that one does not count yet.
fn length(log: &Path, number: u64, found: &Segment) -> u64 {
    fs::metadata(segment_path(log, number)).map_or(found.octets, |there| there.len())
}

/// What the entries of a log, or of a part of one, say.
#[derive(Default)]
pub(super) struct Said {
    /// Objects whose content is freed.
    pub(super) freed: Bits,
    pub(super) has_freed: bool,
    /// What each file of a keyring must hash to.
    pub(super) key_files: BTreeMap<(GatewayMailboxId, String), Digest>,
    /// When the last message was received.
    pub(super) newest: Option<Timestamp>,
    pub(super) receipts: u64,
    pub(super) content_files: u64,
    pub(super) findings: Findings,
    /// Chain hashes that were signed, by the group they stand behind.
    pub(super) signed: BTreeMap<u64, Digest>,
}

impl Visit for Said {
    fn pace(&mut self, _: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn group(&mut self, sequence: u64, chain: Option<&Digest>) {
        if let (Some(signed), Some(chain)) = (self.signed.get(&sequence), chain)
            && signed != chain
        {
            let what = format!("group {sequence} of the log is not the one that was signed");
            self.findings.tell("log", what);
            // All behind it are others too.
            self.signed.clear();
        }
    }

    fn entry(&mut self, seen: &Seen) {
        match &seen.fact {
            Fact::Freed(fact) => {
                self.has_freed |= !fact.objects.is_empty();
                for (first, last) in &fact.objects {
                    for object in *first..=*last {
                        self.freed.add(object);
                    }
                }
            }
            Fact::KeyFile(fact) => {
                self.key_files.insert((fact.gateway_mailbox, fact.name.clone()), fact.sha256);
            }
            Fact::Received(fact) => {
                self.receipts += 1;
                self.newest = self.newest.max(Some(fact.at));
            }
            Fact::Object(fact) => self.content_files += u64::from(fact.file.is_some()),
            _ => {}
        }
    }

    fn damage(&mut self, damage: Damage) {
        self.findings.add(damage);
    }
}

/// Nobody who looks on.
pub(super) struct Nobody;

impl Visit for Nobody {
    fn pace(&mut self, _: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn entry(&mut self, _: &Seen) {}

    fn damage(&mut self, _: Damage) {}
}
