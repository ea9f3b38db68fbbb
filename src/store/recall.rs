//! Entries read back from the log, by the place the index knows.

use super::embedded::Shared;
use super::emptied::LastRead;
use super::fact::{Entry, Fact, ReceivedFact, RevisedFact};
use super::format::ENTRY_OCTETS_MAX;
use super::index::Index;
use super::{StoreError, TurnedAway};
use std::path::Path;

/// Where an entry stands: its segment, its first octet, its length.
pub(super) type EntryPlace = (u64, u64, u32);

/// # Errors
/// [`StoreError::Damaged`] when it cannot be read, or is another kind of entry.
pub(super) fn read_received(shared: &Shared, place: EntryPlace) -> Result<ReceivedFact, StoreError> {
    match read(shared, place)? {
        Fact::Received(fact) => Ok(*fact),
        _ => Err(damaged(place, "not a receipt".to_owned())),
    }
}

/// # Errors
/// [`StoreError::Damaged`] when it cannot be read, or is another kind of entry.
pub(super) fn read_revised(shared: &Shared, place: EntryPlace) -> Result<RevisedFact, StoreError> {
    match read(shared, place)? {
        Fact::Revised(fact) => Ok(*fact),
        _ => Err(damaged(place, "not a revision".to_owned())),
    }
}

/// # Errors
/// [`StoreError::Damaged`] when it cannot be read, or is another kind of entry.
pub(super) fn read_turned_away(shared: &Shared, place: EntryPlace) -> Result<TurnedAway, StoreError> {
    match read(shared, place)? {
        Fact::TurnedAway(told) => Ok(*told),
        _ => Err(damaged(place, "not a transaction that was turned away".to_owned())),
    }
}

/// What was found when a receipt was looked at again, oldest first.
///
/// # Errors
/// [`StoreError::Damaged`] when one of the entries cannot be read.
pub(super) fn read_revisions(
    shared: &Shared,
    index: &Index,
    of: &ReceivedFact,
) -> Result<Vec<RevisedFact>, StoreError> {
    let places = index.revision_entries(of.receipt_id, of.gateway_mailbox)?;
    places.into_iter().map(|place| read_revised(shared, place)).collect()
}

fn read(shared: &Shared, place: EntryPlace) -> Result<Fact, StoreError> {
    read_in(&shared.log_dir(), &shared.last_emptied, place)
}

/// The same of a log that nobody need have open.
///
/// # Errors
/// [`StoreError::Damaged`] when it cannot be read.
pub(super) fn read_in(
    log_dir: &Path,
    last: &LastRead,
    (segment, place, octets): EntryPlace,
) -> Result<Fact, StoreError> {
    let damaged = |why| damaged((segment, place, octets), why);
    if octets > ENTRY_OCTETS_MAX {
        return Err(damaged("impossible size".to_owned()));
    }
    let mut entry = vec![0; octets as usize];
    last.fill(log_dir, segment, &mut entry, place).map_err(|e| damaged(e.to_string()))?;
    let entry: Entry = serde_json::from_slice(&entry).map_err(|e| damaged(e.to_string()))?;
    Ok(entry.fact)
}

fn damaged((segment, place, _): EntryPlace, why: String) -> StoreError {
    StoreError::Damaged(format!("entry in log segment {segment} at {place}: {why}"))
}
