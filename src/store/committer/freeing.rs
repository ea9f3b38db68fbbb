//! Which content goes: decided in the transaction in which it does, over the entries, holds and rules of that moment.
//!
//! An object goes when no entry leads to it any more that is live or can be had back; a report, when that is so of whatever came by
//! it. That is asked from the object, and was asked
//! the other way round before ([`Freeing::needed`]). Where the two disagree nothing goes, and the pass hears of it.

use super::{Committer, Conclusion, Group};
use crate::mail::{GatewayMailbox, GatewayMailboxId, Timestamp, Uid};
use crate::store::check::Bits;
use crate::store::fact::{Fact, FreedFact, number_runs, runs};
use crate::store::index::{Index, Needed};
use crate::store::keep::grace_is_over;
use crate::store::{FolderName, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// In whose name content is freed.
const RETENTION: &str = "retention";
/// Entries looked at for one object that the walk found needed: with more, the walk is believed.
const LOOKS_MAX: usize = 1_000;

/// Objects without an entry that go along with the entries of one command; the rest goes by itself when none is left.
const UNPLACED_A_COMMAND: usize = 4_096;

/// What may be freed of one folder.
pub(in crate::store) struct Freeing {
    pub(in crate::store) gateway_mailbox: GatewayMailboxId,
    pub(in crate::store) folder: u64,
    pub(in crate::store) name: FolderName,
    /// Deleted entries that were past their grace.
    pub(in crate::store) uids: Vec<Uid>,
    /// Objects that no entry of their receipt led to, and since when they are there.
    pub(in crate::store) unplaced: Vec<(u64, Timestamp)>,
    /// The time of the pass.
    pub(in crate::store) trusted: Timestamp,
    /// What a walk through all entries found to be needed.
    pub(in crate::store) needed: Arc<Bits>,
}

/// What was freed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Freed {
    pub(in crate::store) entries: u64,
    pub(in crate::store) objects: u64,
    /// Sealed octets of those.
    pub(in crate::store) octets: u64,
    /// Objects that the walk found needed and the index does not: what leads to them was left out.
    pub(in crate::store) disputed: Vec<u64>,
}

impl Conclusion for Freed {}

/// What is said of an object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Stays,
    Goes,
    Disputed,
}

impl Committer {
    /// Frees what is past its grace still, and that nothing needs any more.
    pub(super) fn free(&mut self, freeing: &Freeing, group: &mut Group<'_>) -> Result<Freed, StoreError> {
        let (index, clock) = (group.index, &group.shared.clock);
        clock.trusted().map_err(|pause| StoreError::Refused(pause.to_string()))?;
        // A pass may last hours, and this may have come to light within it.
        if group.shared.witness().misses_entries() {
            return Err(StoreError::Refused("entries of the log are missing".to_owned()));
        }
        let gateway_mailbox = index.gateway_mailbox(freeing.gateway_mailbox)?.ok_or(StoreError::Gone)?;
        let mut due = due_entries(index, freeing, &gateway_mailbox)?;
        let mut unplaced = unplaced_due(index, freeing, &gateway_mailbox)?;
        let mut disputed = BTreeSet::new();
        let gone = loop {
            let goes: BTreeSet<u64> = due.values().flatten().chain(&unplaced).copied().collect();
            let of = (freeing, &gateway_mailbox);
            let verdicts = goes.into_iter().map(|object| Ok((object, judge(index, of, &due, object)?)));
            let verdicts = verdicts.collect::<Result<Vec<_>, StoreError>>()?;
            let of = |wanted| verdicts.iter().filter(move |(_, v)| *v == wanted).map(|(object, _)| *object);
            let found: BTreeSet<u64> = of(Verdict::Disputed).collect();
            if found.is_empty() {
                break of(Verdict::Goes).collect::<Vec<u64>>();
            }
            due.retain(|_, objects| !objects.iter().any(|object| found.contains(object)));
            unplaced.retain(|object| !found.contains(object));
            disputed.extend(found);
        };
        let mut octets = 0;
        for object in &gone {
            octets += match index.object(*object) {
                Ok(row) => row.sealed_octets,
                // The entry that told of it is lost, and with it where it lies.
                Err(StoreError::Gone) => 0,
                Err(error) => return Err(error),
            };
        }
        let uids: Vec<Uid> = due.keys().copied().collect();
        let freed = Freed {
            entries: uids.len() as u64,
            objects: gone.len() as u64,
            octets,
            disputed: disputed.into_iter().collect(),
        };
        if freed.entries > 0 || freed.objects > 0 {
            let at = clock.stamp();
            group.push_fact(Fact::Freed(FreedFact {
                at,
                gateway_mailbox: freeing.gateway_mailbox,
                folder: freeing.folder,
                uids: runs(&uids),
                objects: number_runs(&gone),
                actor: RETENTION.to_owned(),
            }))?;
        }
        Ok(freed)
    }

    /// Notes that the octets of freed objects are given back: in the index alone, which knows it again when that is lost.
    pub(super) fn strike(&mut self, objects: &[u64], group: &Group<'_>) -> Result<usize, StoreError> {
        group.index.strike(objects)?;
        self.changes_index_alone = true;
        Ok(objects.len())
    }
}

/// The entries that are due now, each with the objects that may go with it.
fn due_entries(
    index: &Index,
    freeing: &Freeing,
    gateway_mailbox: &GatewayMailbox,
) -> Result<BTreeMap<Uid, Vec<u64>>, StoreError> {
    let is_over = |at: Timestamp| grace_is_over(gateway_mailbox, &FolderName::Inbox, at, freeing.trusted);
    let (mut due, mut left) = (BTreeMap::new(), UNPLACED_A_COMMAND);
    for entry in index.in_grace_of(freeing.folder, &freeing.uids)? {
        if grace_is_over(gateway_mailbox, &freeing.name, entry.deleted_at, freeing.trusted) {
            let mut objects = index.objects_of(entry.message)?;
            // The report it came by waited for it, if that ended before.
            for report in index.reports_of(entry.receipt_id, freeing.folder)? {
                objects.extend(index.objects_of(report)?);
            }
            let unplaced = index.unplaced_of(entry.receipt_id, freeing.gateway_mailbox, left)?;
            left -= unplaced.len().min(left);
            objects.extend(unplaced.into_iter().filter(|(_, at)| is_over(*at)).map(|(object, _)| object));
            due.insert(entry.uid, objects);
        }
    }
    Ok(due)
}

/// Those of the objects without an entry that are due now. They are in nobody's folder: a hold on a user keeps them by that
/// user's entries of the same receipt.
fn unplaced_due(
    index: &Index,
    freeing: &Freeing,
    gateway_mailbox: &GatewayMailbox,
) -> Result<Vec<u64>, StoreError> {
    let is_due = |at: Timestamp| grace_is_over(gateway_mailbox, &FolderName::Inbox, at, freeing.trusted);
    let due = freeing.unplaced.iter().filter(|(_, at)| is_due(*at)).map(|(object, _)| *object);
    let mut objects = Vec::new();
    for object in due {
        if !index.is_freed(object)? {
            objects.push(object);
        }
    }
    Ok(objects)
}

fn judge(
    index: &Index,
    (freeing, gateway_mailbox): (&Freeing, &GatewayMailbox),
    due: &BTreeMap<Uid, Vec<u64>>,
    object: u64,
) -> Result<Verdict, StoreError> {
    if index.is_freed(object)? {
        return Ok(Verdict::Stays);
    }
    let gone = |folder: u64, uid: u32| {
        folder == freeing.folder && Uid::new(uid).is_some_and(|uid| due.contains_key(&uid))
    };
    let is_over = |at: Timestamp| grace_is_over(gateway_mailbox, &FolderName::Inbox, at, freeing.trusted);
    let walked = freeing.needed.has(object);
    let most = if walked { LOOKS_MAX } else { usize::MAX };
    Ok(match index.is_needed(object, &gone, &is_over, most)? {
        Needed::Yes | Needed::Untold => Verdict::Stays,
        Needed::No if walked => Verdict::Disputed,
        Needed::No => Verdict::Goes,
    })
}
