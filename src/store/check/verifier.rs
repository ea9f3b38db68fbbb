//! `verify`: everything there is, gone through once, from the log's first segment on.
//!
//! What says how far the log must reach is read first, since beside a running server the log only grows. Then the log is walked to
//! the index's position, the index compared there, and the rest walked. Content files are looked at as the log names them.

use super::against::{Against, Unopened, why};
use super::covers::{Cover, Covers, is_open};
use super::files;
use super::ledger::Ledger;
use super::needed::Needed;
use super::report::{
    FINDINGS_MAX, FindingKind, FreedContent, Unused, VerifyFinding, VerifyProgress, VerifyReport,
};
use super::restored::Restores;
use super::rows::{Bucket, Rows};
use super::second::{SecondLook, each};
use super::segment::open;
use super::taking::{Findings, Taking};
use super::withheld::Withheld;
use super::{Damage, End, Expect, Tail, segment_name, walk_segment};
use crate::mail::Timestamp;
use crate::observe::now;
use crate::store::checkpoint::PublicKey;
use crate::store::format::SEGMENT_HEADER_OCTETS;
use crate::store::log::{Found as Segment, Position, find_segments};
use crate::store::{Digest, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

/// What to go through.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// The store.
    pub data_dir: PathBuf,
    /// Hash all content and compare the index row by row.
    pub deep: bool,
    /// Checkpoints kept outside, which must be there: a file of them, or a folder.
    pub checkpoints: Option<PathBuf>,
    /// The folder that is configured for them; that it is out of reach is only told.
    pub checkpoint_dir: Option<PathBuf>,
    /// The store's public key, as somebody outside remembers it: what is signed by others counts only if they came before or
    /// after it.
    pub key: Option<PublicKey>,
}

/// Goes through a store. Changes nothing, takes no lock, needs no key; a server may run. `progress` hears how far it is.
///
/// # Errors
/// [`StoreError::Io`] when there is no store or it may not be read, the operator's to mend; [`StoreError::Newer`].
pub fn verify(
    options: &VerifyOptions,
    progress: &mut dyn FnMut(&VerifyProgress),
) -> Result<VerifyReport, StoreError> {
    let (at, clock) = (now(), Instant::now());
    let mut verifier = Verifier::new(options, progress)?;
    verifier.run()?;
    // Nobody kept the index from being written to, and it was read as if nobody wrote.
    if verifier.taking.findings.damaged_index && !verifier.running && is_open(&options.data_dir) {
        return Err(StoreError::Refused("a server started meanwhile: verify it again".to_owned()));
    }
    Ok(verifier.report(at, clock.elapsed().as_secs_f64()))
}

pub(super) struct Verifier<'a> {
    pub(super) taking: Taking<'a>,
    pub(super) segments: BTreeMap<u64, Segment>,
    /// Where the walk is: chain and sequence unless they are lost.
    pub(super) at: (u64, u64),
    pub(super) chain: Option<Digest>,
    pub(super) sequence: Option<u64>,
    pub(super) groups: u64,
    pub(super) tail: Option<(u64, Tail)>,
    pub(super) running: bool,
    index_compared: bool,
    /// The index's position, before the log was looked at.
    pub(super) index_position: Option<Position>,
    freed: FreedContent,
}

impl<'a> Verifier<'a> {
    fn new(
        options: &'a VerifyOptions,
        progress: &'a mut dyn FnMut(&VerifyProgress),
    ) -> Result<Verifier<'a>, StoreError> {
        let running = is_open(&options.data_dir);
        let taking = Taking {
            options,
            progress,
            so_far: VerifyProgress::default(),
            skipped_octets: 0,
            ledger: Ledger::default(),
            covers: Covers::read(options)?,
            findings: Findings::default(),
            entries: 0,
            content_files: 0,
            sequence: 0,
            withheld: Withheld::default(),
            restores: Restores::default(),
            unsettled: None,
            differing: None,
        };
        Ok(Verifier {
            taking,
            segments: BTreeMap::new(),
            at: (0, 0),
            chain: Some(Digest([0; 32])),
            sequence: Some(0),
            groups: 0,
            tail: None,
            running,
            index_compared: false,
            index_position: None,
            freed: FreedContent::default(),
        })
    }

    fn run(&mut self) -> Result<(), StoreError> {
        let data_dir = &self.taking.options.data_dir;
        files::states(data_dir, &mut self.taking.findings)?;
        for (place, why) in std::mem::take(&mut self.taking.covers.refused) {
            self.taking.findings.damage(FindingKind::Checkpoint, place, why);
        }
        for (place, why) in std::mem::take(&mut self.taking.covers.noted) {
            self.taking.findings.note(FindingKind::Checkpoint, place, why);
        }
        let index = Against::open(data_dir, self.running);
        let index = index.and_then(|index| {
            index.position().map(|position| (index, position)).map_err(|e| Unopened::Damaged(why(&e)))
        });
        if let Ok((_, Some(position))) = &index {
            let (who, position) = ("the index".to_owned(), *position);
            self.index_position = Some(position);
            self.taking.covers.furthest.push(Cover { who, at: None, position });
        }
        self.find_segments()?;
        self.predecessors();
        self.taking.so_far.octets_total = self.octets_total()?;
        match index {
            Ok((index, Some(_))) => self.walk_and_compare(&index)?,
            Ok((_, None)) => {
                let what = "is being made anew, and was not compared".to_owned();
                self.taking.findings.note(FindingKind::Index, "index.sqlite".to_owned(), what);
                self.walk_log()?;
            }
            Err(unopened) => {
                let (is_damage, what) = match unopened {
                    Unopened::Damaged(what) => (true, what),
                    Unopened::OutOfReach(what) => (false, what),
                };
                let found = Damage { file: "index.sqlite".to_owned(), what, ..Damage::default() };
                self.taking.findings.add(FindingKind::Index, is_damage, found);
                self.walk_log()?;
            }
        }
        self.taking.count_differing();
        let (ledger, findings) = (&self.taking.ledger, &mut self.taking.findings);
        files::keys(&self.taking.options.data_dir, ledger, findings);
        if !self.running {
            files::orphans(&self.taking.options.data_dir, ledger, findings)
                .map_err(|e| StoreError::io("looking through content files", e))?;
        }
        Ok(())
    }

    /// Walks the log where there is no index to hold against it.
    fn walk_log(&mut self) -> Result<(), StoreError> {
        self.walk_to_end()?;
        self.second_look(None)
    }

    /// Walks the rest of the log, and judges what takes knowing all of it.
    fn walk_to_end(&mut self) -> Result<(), StoreError> {
        self.walk_to(None)?;
        // What a server freed meanwhile it put on record before: that stands behind the end that was known.
        if self.running && self.taking.withheld.is_asked() {
            self.find_segments()?;
            self.walk_to(None)?;
        }
        self.settle_end();
        self.look_at_freed()
    }

    /// Tells of content that is not as it was stored, and of what should not have been freed.
    fn look_at_freed(&mut self) -> Result<(), StoreError> {
        let Taking { ledger, withheld, findings, options, .. } = &mut self.taking;
        withheld.tell_found(ledger, findings);
        if !Needed::is_asked(ledger, withheld) {
            return Ok(());
        }
        let mut needed = Needed::new(ledger, withheld, findings);
        each(&self.segments, None, |seen, _| needed.take(seen))?;
        self.freed = needed.end(options.deep);
        Ok(())
    }

    fn find_segments(&mut self) -> Result<(), StoreError> {
        // What it finds wrong with headers the walk tells too.
        let log = self.taking.options.data_dir.join("log");
        self.segments = find_segments(&log, &mut Vec::new())?.0;
        Ok(())
    }

    fn octets_total(&self) -> Result<u64, StoreError> {
        let mut octets = self.segments.values().map(|segment| segment.octets).sum();
        if self.taking.options.deep {
            files::for_each_content_file(&self.taking.options.data_dir, &mut |_, size| octets += size)
                .map_err(|e| StoreError::io("looking through content files", e))?;
        }
        Ok(octets)
    }

    /// What segments say of those before them: they are there, and as long as they were.
    fn predecessors(&mut self) {
        let claims: Vec<_> = self
            .segments
            .values()
            .filter(|segment| segment.header_is_whole)
            .map(|segment| (segment.header.number, segment.header.previous, segment.header.previous_octets))
            .collect();
        for (number, previous, octets) in claims {
            let lose = |what: String| Damage {
                file: segment_name(previous),
                what,
                loses_entries: true,
                ..Damage::default()
            };
            let damage = match self.segments.get(&previous) {
                _ if previous == 0 || octets <= SEGMENT_HEADER_OCTETS as u64 => continue,
                None => lose(format!("is not there; {} goes on behind it", segment_name(number))),
                Some(segment) if segment.octets < octets => {
                    let missing = octets - segment.octets;
                    lose(format!("is {missing} octets shorter than {} says", segment_name(number)))
                }
                Some(_) => continue,
            };
            self.taking.findings.add(FindingKind::Log, true, damage);
        }
    }

    /// Walks on to `to`, or to the end.
    fn walk_to(&mut self, to: Option<&Position>) -> Result<(), StoreError> {
        // What was bad at an end that has moved since is looked at again.
        self.tail = None;
        let numbers: Vec<u64> = self.segments.range(self.at.0..).map(|(number, _)| *number).collect();
        for number in numbers {
            if number != self.at.0 {
                self.step_over_known(Some(number));
            }
            let Some(found) = self.segments.get(&number) else { continue };
            let is_last = self.segments.range(number + 1..).next().is_none();
            let end = match to {
                Some(to) if to.segment < number => return Ok(()),
                Some(to) if to.segment == number => to.offset.min(found.octets),
                _ => found.octets,
            };
            let from = if number == self.at.0 { self.at.1 } else { 0 };
            if end <= from {
                continue;
            }
            let payloads = self.taking.options.deep;
            let (chain, sequence) = (self.chain, self.sequence);
            let expect = Expect { number, from, end, chain, sequence, payloads };
            let is_cut = end < found.octets;
            let walked: End = walk_segment(&open(found)?, &expect, &mut self.taking)?;
            (self.chain, self.sequence) = (walked.chain, walked.sequence);
            self.groups += walked.groups;
            self.at = (number, walked.offset);
            match walked.tail {
                // What stands behind says whether it is damage.
                Some(_) if is_cut => return Ok(()),
                Some(tail) if is_last => self.tail = Some((number, tail)),
                Some(tail) => self.take_tail(tail),
                None => {}
            }
        }
        Ok(())
    }

    /// Walks to where the index is, compares it there, and walks on.
    fn walk_and_compare(&mut self, index: &Against) -> Result<(), StoreError> {
        self.taking.ledger.rows = self.taking.options.deep.then(Rows::default);
        self.walk_to(self.index_position.as_ref().copied().as_ref())?;
        let position = match index.hold().and_then(|()| index.position()) {
            Ok(position) => position,
            Err(e) => {
                self.index_is_unreadable(&e);
                None
            }
        };
        if self.running {
            self.find_segments()?;
        }
        self.walk_to(position.as_ref())?;
        let mut differing = BTreeSet::new();
        if let Some(position) = &position {
            if self.sequence.is_some_and(|sequence| sequence < position.sequence) {
                self.step_over_known(None);
            }
            let end = self.sequence.zip(self.chain);
            let is_there = end.is_some_and(|end| end == (position.sequence, position.chain));
            self.index_compared = is_there && !self.taking.findings.loses_entries;
            match self.compare(index) {
                Ok(found) => differing = found,
                Err(e) => self.index_is_unreadable(&e),
            }
        }
        self.taking.ledger.rows = None;
        self.walk_to_end()?;
        self.second_look(Some((index, differing, position)))?;
        if !self.index_compared && !self.taking.findings.damaged_index {
            let what = match self.taking.findings.loses_entries {
                true => {
                    "could not be compared as a whole: the log does not hold all it was made of. Keep it, it may hold more"
                }
                false => {
                    "could not be compared as a whole: the last of the log that it was made of is damaged. Keep it"
                }
            };
            self.taking.findings.note(FindingKind::Index, "index.sqlite".to_owned(), what.to_owned());
        }
        Ok(())
    }

    fn index_is_unreadable(&mut self, e: &StoreError) {
        self.taking.findings.damage(FindingKind::Index, "index.sqlite".to_owned(), why(e));
    }

    /// Compares the index with what the log has said so far; gives the rows to look at again.
    fn compare(&mut self, index: &Against) -> Result<BTreeSet<Bucket>, StoreError> {
        let Taking { ledger, findings, .. } = &mut self.taking;
        if self.index_compared {
            index.compare_counts(ledger, findings)?;
        }
        let Some(mut rows) = ledger.rows.take() else { return Ok(BTreeSet::new()) };
        index.integrity(findings)?;
        index.add_rows(&mut rows)?;
        Ok(rows.differing(&ledger.names_left_out))
    }

    /// Goes through entries once more, when it must be told which mail is damaged or which rows differ.
    fn second_look(
        &mut self,
        index: Option<(&Against, BTreeSet<Bucket>, Option<Position>)>,
    ) -> Result<(), StoreError> {
        let look = SecondLook::new(&self.segments, &mut self.taking.findings);
        look.touched()?;
        let Some((index, differing, Some(position))) = index else { return Ok(()) };
        if differing.is_empty() {
            return Ok(());
        }
        let look = SecondLook::new(&self.segments, &mut self.taking.findings);
        look.rows(index, &differing, &position, self.index_compared)
    }

    fn report(self, at: Timestamp, seconds: f64) -> VerifyReport {
        let Taking { ledger, findings, covers, so_far, restores, .. } = self.taking;
        let Findings { mut kept, damaged, notes, .. } = findings;
        let unused = self.segments.values().filter_map(unused).collect();
        let is_emptied = |segment: &&Segment| segment.is_emptied;
        let (held, in_grace) = ledger.held_and_recoverable();
        kept.sort_by_key(|(kind, is_damage, _)| (!is_damage, *kind));
        kept.truncate(FINDINGS_MAX);
        let finding = |(kind, damage, found): (FindingKind, bool, Damage)| VerifyFinding {
            kind,
            damage,
            place: found.place(),
            octets: found.octets,
            what: found.what,
            receipts: found.receipts,
            entries: found
                .entries
                .iter()
                .map(|entry| ledger.entry(entry.gateway_mailbox, &entry.folder, entry.uid.value()))
                .collect(),
        };
        VerifyReport {
            whole: damaged == 0,
            deep: self.taking.options.deep,
            running: self.running,
            at,
            seconds,
            segments: self.segments.len() as u64,
            groups: self.groups,
            entries: self.taking.entries,
            receipts: ledger.receipt_count,
            messages: ledger.message_count,
            folder_entries: ledger.folders.values().map(|folder| folder.live).sum(),
            in_grace,
            held,
            content_files: self.taking.content_files,
            freed: self.freed,
            emptied_segments: self.segments.values().filter(is_emptied).count() as u64,
            restores: restores.count(),
            octets: so_far.octets,
            checkpoints: covers.count,
            checkpoint_key: covers.key,
            index_compared: self.index_compared,
            unused,
            damaged,
            notes,
            findings: kept.into_iter().map(finding).collect(),
        }
    }
}

/// What of a segment counts for nothing.
fn unused(segment: &Segment) -> Option<Unused> {
    let octets = segment.length.checked_sub(segment.octets)?;
    let file = segment_name(segment.header.number);
    (octets > 0).then_some(Unused { file, offset: segment.octets, octets })
}
