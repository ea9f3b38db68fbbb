//! One segment of the log, from its header to its end, in bounded memory: a group's entries and a chunk of a payload.
//!
//! Every hash is followed as opening the store does (log.rs), and more is told: opening steps over a damaged group, here it is
//! looked through for what it spoke of. Entries of a group are handed on when the whole group has been read; a bad group with no
//! other behind it is handed to the caller apart, who knows whether it was ever acknowledged.

use super::damage::Damage;
use super::source::{Fault, Source};
use crate::store::fact::{Entry, FACT_VERSION_MAX, Fact};
use crate::store::format::{
    FRAME_BEGINNING, FRAME_HEADER_OCTETS, FormatError, FrameHeader, GROUP_HEADER_OCTETS, GroupHeader,
    SEGMENT_HEADER_OCTETS, SegmentHeader,
};
use crate::store::index::Place;
use crate::store::log::{Found, SegmentFile, next_group_behind};
use crate::store::{Digest, StoreError};
use std::io;
use std::ops::ControlFlow;

/// Octets read at a time.
pub(super) const CHUNK_OCTETS: usize = 256 * 1024;
/// Octets of a damaged group that are looked through for entries, to name what it spoke of.
const SALVAGE_OCTETS_MAX: u64 = 64 * 1024 * 1024;

/// Group numbers that are left out at once, from which on it is a step that was made, and no groups that are missing: a restore
/// leaves out twice as many.
pub(super) const NUMBERS_STEP_MIN: u64 = 1 << 39;

/// Who looks on while something is walked through.
pub(in crate::store) trait Visit {
    /// So many octets were read since the last time. To break ends the walk.
    fn pace(&mut self, octets: u64) -> ControlFlow<()>;
    /// An entry that is whole, in the order of the log.
    fn entry(&mut self, seen: &Seen);
    /// Something that should be whole and is not.
    fn damage(&mut self, damage: Damage);
    /// A group whose entries come next: its number, and the chain hash behind it, if it could be read to its end.
    fn group(&mut self, sequence: u64, chain: Option<&Digest>) {
        let (_, _) = (sequence, chain);
    }
}

/// An entry of the log, and where it and its payload stand.
#[derive(Debug)]
pub(in crate::store) struct Seen {
    pub(in crate::store) fact: Fact,
    pub(in crate::store) place: Place,
    pub(in crate::store) payload_octets: u64,
    pub(in crate::store) payload_sha256: Digest,
}

/// What is known of a segment before it is read.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Expect {
    pub(in crate::store) number: u64,
    /// Where the first group header to look at stands; 0 is the beginning, whose header is looked at then.
    pub(in crate::store) from: u64,
    /// So many octets count.
    pub(in crate::store) end: u64,
    /// Chain hash before the first group, if known.
    pub(in crate::store) chain: Option<Digest>,
    /// Sequence number of the group before the first, if known.
    pub(in crate::store) sequence: Option<u64>,
    /// Whether payloads are hashed; else only entries are.
    pub(in crate::store) payloads: bool,
}

/// Where a walk came to.
#[derive(Debug, Default)]
pub(in crate::store) struct End {
    /// Behind the last group that was taken.
    pub(in crate::store) offset: u64,
    pub(in crate::store) chain: Option<Digest>,
    pub(in crate::store) sequence: Option<u64>,
    pub(in crate::store) groups: u64,
    /// The last group, when it is bad.
    pub(in crate::store) tail: Option<Tail>,
    /// The visitor broke off.
    pub(in crate::store) stopped: bool,
}

/// A bad last group: torn, if nobody was told of it, else damage.
#[derive(Debug)]
pub(in crate::store) struct Tail {
    pub(in crate::store) offset: u64,
    pub(in crate::store) octets: u64,
    /// Its number and the chain hash behind it, where all of its frames could be followed.
    pub(in crate::store) sequence: Option<u64>,
    pub(in crate::store) chain: Option<Digest>,
    pub(in crate::store) damage: Vec<Damage>,
    /// What could be read of it.
    pub(in crate::store) seen: Vec<Seen>,
}

/// The name of a segment in findings.
pub(in crate::store) fn segment_name(number: u64) -> String {
    format!("log/{number:08}.seg")
}

/// Opens a segment that was found.
pub(super) fn open(found: &Found) -> Result<SegmentFile, StoreError> {
    found.open().map_err(|e| StoreError::io("opening a log segment", e))
}

/// Walks through a segment.
///
/// # Errors
/// [`StoreError::Io`] for want of memory and the like; octets that cannot be read are damage. [`StoreError::Newer`] when a newer version
/// wrote it.
pub(in crate::store) fn walk_segment(
    file: &SegmentFile,
    expect: &Expect,
    visit: &mut dyn Visit,
) -> Result<End, StoreError> {
    let source = Source::new(file, expect.end, visit);
    let end = End { chain: expect.chain, sequence: expect.sequence, ..End::default() };
    Walker { file, source, expect, name: file.name(expect.number), end }.walk()
}

/// A group read to its end, as far as it could be.
struct Group {
    sequence: u64,
    chain_before: Digest,
    /// Behind its last frame, unless that could not be read.
    chain: Option<Digest>,
    end: u64,
    seen: Vec<Seen>,
    damage: Vec<Damage>,
}

struct Walker<'a, 'f, 'v> {
    file: &'f SegmentFile,
    source: Source<'f, 'v>,
    expect: &'a Expect,
    name: String,
    end: End,
}

impl Walker<'_, '_, '_> {
    fn walk(mut self) -> Result<End, StoreError> {
        let walked = match self.expect.from {
            0 => self.header().and_then(|()| self.groups(SEGMENT_HEADER_OCTETS as u64)),
            from => self.source.go_to(from).and_then(|()| self.groups(from)),
        };
        match walked {
            Ok(()) => {}
            Err(Fault::Stopped) => self.end.stopped = true,
            Err(Fault::Newer(version)) => {
                return Err(StoreError::Newer(format!("{}: version {version}", self.name)));
            }
            Err(Fault::Bad(e)) => self.rest_is_lost(&e.to_string()),
            // It was shortened while it was read.
            Err(Fault::Io(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {
                self.rest_is_lost(&FormatError::Short.to_string());
            }
            Err(Fault::Io(e)) => return Err(StoreError::io("reading a log segment", e)),
        }
        self.end.stopped |= self.source.settle();
        Ok(self.end)
    }

    fn damage_at(&self, offset: u64, octets: u64, what: String, loses_entries: bool) -> Damage {
        Damage { file: self.name.clone(), offset, octets, what, loses_entries, ..Damage::default() }
    }

    fn rest_is_lost(&mut self, what: &str) {
        let offset = self.end.offset;
        let octets = self.expect.end.saturating_sub(offset);
        let damage = self.damage_at(offset, octets, what.to_owned(), true);
        self.source.visit.damage(damage);
        self.end.chain = None;
    }

    fn header(&mut self) -> Result<(), Fault> {
        if let Some(fault) = self.file.fault() {
            let damage = self.damage_at(0, 0, fault.to_owned(), false);
            self.source.visit.damage(damage);
        }
        let mut head = Vec::new();
        let read = self.source.read(SEGMENT_HEADER_OCTETS, &mut head);
        let header = match read {
            Ok(()) => SegmentHeader::decode(&head),
            Err(Fault::Bad(e)) => Err(e),
            Err(other) => return Err(other),
        };
        self.end.offset = SEGMENT_HEADER_OCTETS as u64;
        match header {
            Ok(header) if header.number == self.expect.number => {
                if self.end.chain.is_some_and(|chain| chain != header.chain) {
                    let what = "the chain of entries is broken before this segment".to_owned();
                    let damage = self.damage_at(0, 0, what, true);
                    self.source.visit.damage(damage);
                }
                self.end.chain = Some(header.chain);
            }
            Ok(header) => {
                let what = format!("is segment {} by its header", header.number);
                let damage = self.damage_at(0, SEGMENT_HEADER_OCTETS as u64, what, false);
                self.source.visit.damage(damage);
            }
            Err(FormatError::Newer(version)) => return Err(Fault::Newer(version.into())),
            Err(e) => {
                let what = self.source.why(e, 0, SEGMENT_HEADER_OCTETS as u64);
                let damage = self.damage_at(0, SEGMENT_HEADER_OCTETS as u64, what, false);
                self.source.visit.damage(damage);
            }
        }
        Ok(())
    }

    fn groups(&mut self, from: u64) -> Result<(), Fault> {
        self.end.offset = from;
        while self.end.offset < self.expect.end {
            let at = self.end.offset;
            match self.group(at) {
                // Entries that were put in the place of a segment were synced whole: nothing of them is torn.
                Ok(group) if group.damage.is_empty() || self.file.is_emptied() => self.take(group),
                // Where content was freed every group is as this one: no more is read than must be.
                Ok(group) if self.is_followed(&group)? => self.take(group),
                Ok(mut group) => {
                    if group.end < self.expect.end {
                        let what = "what stands behind this group cannot be made out".to_owned();
                        let octets = self.expect.end - group.end;
                        group.damage.push(self.damage_at(group.end, octets, what, true));
                    }
                    let (sequence, chain) = (Some(group.sequence), group.chain);
                    self.end.tail = Some(Tail { sequence, chain, ..self.tail(at, group.damage, group.seen) });
                    return Ok(());
                }
                Err(Fault::Bad(e)) => match self.next_behind(at + 1, self.end.sequence.unwrap_or(0))? {
                    Some(next) => self.step_over(at, next, e)?,
                    None => {
                        let what = self.source.why(e, at, at + GROUP_HEADER_OCTETS as u64);
                        let mut damage = self.damage_at(at, self.expect.end - at, what, true);
                        self.salvage(at, self.expect.end, &mut damage)?;
                        self.end.tail = Some(self.tail(at, vec![damage], Vec::new()));
                        return Ok(());
                    }
                },
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    fn tail(&self, offset: u64, damage: Vec<Damage>, seen: Vec<Seen>) -> Tail {
        Tail { offset, octets: self.expect.end - offset, sequence: None, chain: None, damage, seen }
    }

    /// True when a group stands behind this one: at once, or somewhere.
    fn is_followed(&self, group: &Group) -> Result<bool, Fault> {
        let header = (group.end + GROUP_HEADER_OCTETS as u64).min(self.expect.end);
        if group.end >= header {
            return Ok(false);
        }
        let at_once = next_group_behind(self.file, group.end, header, group.sequence).map_err(Fault::Io)?;
        Ok(at_once.is_some() || self.next_behind(group.end, group.sequence)?.is_some())
    }

    fn next_behind(&self, from: u64, sequence: u64) -> Result<Option<u64>, Fault> {
        if from >= self.expect.end {
            return Ok(None);
        }
        next_group_behind(self.file, from, self.expect.end, sequence).map_err(Fault::Io)
    }

    /// Hands a group on.
    fn take(&mut self, group: Group) {
        let at = self.end.offset;
        let before = self.end.sequence.unwrap_or(group.sequence.saturating_sub(1));
        let missing = group.sequence.saturating_sub(before + 1);
        // Not so many were ever written: the numbers step, as they do behind a restore. The chain says that nothing is missing.
        let missing = if missing < NUMBERS_STEP_MIN { missing } else { 0 };
        let is_broken = self.end.chain.is_some_and(|chain| chain != group.chain_before);
        if is_broken || missing > 0 {
            let what = match missing {
                0 => "the chain of entries is broken before this group".to_owned(),
                groups => format!("{groups} groups of entries are missing before this one"),
            };
            let damage = self.damage_at(at, 0, what, true);
            self.source.visit.damage(damage);
        }
        for damage in group.damage {
            self.source.visit.damage(damage);
        }
        self.source.visit.group(group.sequence, group.chain.as_ref());
        for seen in &group.seen {
            self.source.visit.entry(seen);
        }
        self.end.offset = group.end;
        self.end.chain = group.chain;
        self.end.sequence = Some(group.sequence);
        self.end.groups += 1;
    }

    /// A group whose extent cannot be told: names what can be read between here and the next.
    fn step_over(&mut self, at: u64, next: u64, e: FormatError) -> Result<(), Fault> {
        let mut head = Vec::new();
        let e = self.source.why(e, at, at + GROUP_HEADER_OCTETS as u64);
        self.source.go_to(next)?;
        self.source.read(GROUP_HEADER_OCTETS, &mut head)?;
        let before = GroupHeader::decode(&head)?.sequence.saturating_sub(1);
        let what = match self.end.sequence.map(|sequence| before.saturating_sub(sequence)) {
            Some(groups @ 2..) => format!("{e}: {groups} groups of entries cannot be read"),
            _ => format!("{e}: a group of entries cannot be read"),
        };
        let mut damage = self.damage_at(at, next - at, what, true);
        self.salvage(at, next, &mut damage)?;
        self.source.visit.damage(damage);
        self.end.offset = next;
        self.end.sequence = Some(before);
        // Behind octets that could not be read neither can be followed.
        self.end.chain = None;
        Ok(())
    }

    fn group(&mut self, at: u64) -> Result<Group, Fault> {
        self.source.go_to(at)?;
        let mut octets = Vec::new();
        self.source.read(GROUP_HEADER_OCTETS, &mut octets)?;
        let header = GroupHeader::decode(&octets)?;
        let end = self.source.at + header.octets;
        if end > self.expect.end {
            return Err(FormatError::Short.into());
        }
        let mut group = Group {
            sequence: header.sequence,
            chain_before: header.chain,
            chain: Some(header.chain),
            end,
            seen: Vec::new(),
            damage: Vec::new(),
        };
        for _ in 0..header.frames {
            let frame_at = self.source.at;
            match self.frame(&mut group, &mut octets) {
                Ok(()) => {}
                Err(Fault::Bad(e)) => {
                    let what = self.source.why(e, frame_at, self.source.at);
                    let mut damage = self.damage_at(frame_at, end - frame_at, what, true);
                    self.salvage(frame_at, end, &mut damage)?;
                    group.damage.push(damage);
                    group.chain = None;
                    break;
                }
                Err(other) => return Err(other),
            }
        }
        if self.source.at != end && group.damage.is_empty() {
            let (at, what) = (self.source.at, FormatError::Short.to_string());
            group.damage.push(self.damage_at(at, end.abs_diff(at), what, true));
        }
        for damage in &mut group.damage {
            group.seen.iter().for_each(|seen| damage.touch(&seen.fact));
        }
        Ok(group)
    }

    /// Reads one frame into `group`.
    ///
    /// # Errors
    /// [`Fault::Bad`] when what follows it cannot be found.
    fn frame(&mut self, group: &mut Group, octets: &mut Vec<u8>) -> Result<(), Fault> {
        let at = self.source.at;
        self.source.read(FRAME_HEADER_OCTETS, octets)?;
        let header = FrameHeader::decode(octets)?;
        let entry_offset = self.source.at;
        let payload_offset = entry_offset + u64::from(header.entry_octets);
        let next = payload_offset.checked_add(header.payload_octets).filter(|next| *next <= group.end);
        let next = next.ok_or(FormatError::Short)?;
        let head = std::mem::take(octets);
        self.source.read(header.entry_octets as usize, octets)?;
        let entry: Result<Entry, _> = serde_json::from_slice(octets);
        let is_whole = group.chain.is_some_and(|chain| header.continues(&chain, &head, octets));
        group.chain = Some(header.chain);
        let why = match (&entry, is_whole) {
            (Ok(entry), true) if entry.v > FACT_VERSION_MAX => return Err(Fault::Newer(entry.v)),
            (Ok(_), true) => None,
            (Err(e), true) => Some(format!("an entry makes no sense: {e}")),
            (_, false) => Some(self.source.why(FormatError::Hash, at, payload_offset)),
        };
        let entry = entry.ok();
        if let Some(why) = why {
            let mut damage = self.damage_at(at, payload_offset - at, why, true);
            // Good for naming it, not for believing it.
            entry.iter().for_each(|entry| damage.lose(&entry.fact));
            damage.lose_text(octets);
            group.damage.push(damage);
            return self.source.go_to(next);
        }
        let Some(entry) = entry else { return self.source.go_to(next) };
        let place = Place {
            segment: self.expect.number,
            entry_offset,
            entry_octets: header.entry_octets,
            payload_offset,
        };
        if let Some((what, is_blank)) = self.payload(&header)? {
            let mut damage = self.damage_at(payload_offset, header.payload_octets, what, false);
            damage.is_blank = is_blank;
            if let Fact::Object(fact) = &entry.fact {
                damage.object = Some(fact.object);
                damage.add_receipt(fact.receipt_id);
            }
            group.damage.push(damage);
        }
        let (payload_octets, payload_sha256) = (header.payload_octets, header.payload_sha256);
        group.seen.push(Seen { fact: entry.fact, place, payload_octets, payload_sha256 });
        self.source.go_to(next)
    }

    /// What is wrong with a payload, if anything, and whether nothing is left of it.
    fn payload(&mut self, header: &FrameHeader) -> Result<Option<(String, bool)>, Fault> {
        if !self.expect.payloads {
            return Ok(None);
        }
        if self.file.is_emptied() && header.payload_octets > 0 {
            let what = "was left out when the entries took the place of the segment".to_owned();
            return Ok(Some((what, true)));
        }
        let from = self.source.at;
        let (sha256, is_blank) = self.source.hash(header.payload_octets)?;
        if sha256 == header.payload_sha256 {
            return Ok(None);
        }
        if is_blank && self.source.is_readable(from, self.source.at) {
            return Ok(Some(("stored content reads as zeros".to_owned(), true)));
        }
        Ok(Some((self.source.why(FormatError::Payload, from, self.source.at), false)))
    }

    /// Looks through octets whose structure is lost for entries, to name what they spoke of.
    fn salvage(&mut self, from: u64, to: u64, damage: &mut Damage) -> Result<(), Fault> {
        let octets = (to - from).min(SALVAGE_OCTETS_MAX);
        self.source.go_to(from)?;
        let mut lost = Vec::new();
        self.source.read(usize::try_from(octets).unwrap_or(usize::MAX), &mut lost)?;
        for at in memchr::memmem::find_iter(&lost, &FRAME_BEGINNING) {
            let head = lost.get(at..).unwrap_or_default();
            let behind = head.get(FRAME_HEADER_OCTETS..).unwrap_or_default();
            // Its length may be what is damaged: an entry ends where its JSON does.
            if let Some(Ok(entry)) = serde_json::Deserializer::from_slice(behind).into_iter::<Entry>().next()
            {
                damage.lose(&entry.fact);
            }
        }
        damage.lose_text(&lost);
        Ok(())
    }
}
