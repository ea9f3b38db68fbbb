//! Content that nobody can ask for any more: which it is, and how its room is given back.
//!
//! ```text
//! deleted entries past their grace ─▶ walk: what do all others need? ─▶ committer: what does nothing need? ─▶ `freed`, durable
//!   ─▶ content files removed, payloads in closed segments punched out, synced ─▶ struck from `unpunched`
//! ```
//! * Content is shared: the original in a report, and whatever came again, is stored once. So an object goes only when no entry
//!   that is live or can be had back leads to it, a report not before the last entry that came by it, and that is asked twice: from the object, by the committer in the transaction
//!   in which it goes, and by a walk through every entry there ever was ([`needed`]), which goes by no index.
//! * Nothing is touched before the entry that says so is durable. What a crash leaves undone stands in `unpunched`, and is done
//!   again: to punch twice harms nothing.
//! * Frames, entries and hashes stay: the chain goes over the hash of a payload, not over its octets. What is freed reads as
//!   zeros. A segment in which no content is left makes place for its entries alone (`emptied.rs`).
//! * The segment that mail is appended to is left alone until it is full, and one that is damaged until somebody has looked.
//! * While the log is known to lack entries, or the index was made without some that could not be read, and no admin has closed that, nothing is freed: they may have told of more that needs it.
//! * While somebody holds `data_dir/freeing.lock`, shared or not, nothing is freed and nothing given back: a backup is made, or an
//!   admin copies the directory (`flock -s data_dir/freeing.lock …`).
//!
//! Objects that no entry of their receipt leads to (a report that came again in other octets, an original that was in its folder
//! already) go when no entry of that receipt, or of the one it repeats, is left, and they have been there as long as grace is.

mod lock;
mod needed;
mod room;

use super::committer::{Command, Freed, Freeing, Queued, ask_blocking};
use super::embedded::Shared;
use super::index::{Index, Unplaced};
use super::keep::grace_is_over;
use super::{FolderName, StoreError};
use crate::mail::{GatewayMailbox, GatewayMailboxId, ReceiptId, Timestamp, Uid};
use crate::observe::metrics;
pub(super) use lock::{Hold, lock, make_freeing_lock};
use needed::Rules;
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Entries that are freed with one entry of the log: a few milliseconds, in which mail waits.
const ENTRIES_A_COMMAND: usize = 256;
/// Rows that are asked of the index at a time: no reading connection may keep its WAL from being folded in.
const ROWS_AT_ONCE: usize = 4_096;
/// While syncs are slow each step waits for so long, at most: mail goes first, and freeing, whose own syncs may be those, goes on
/// all the same.
const REST: Duration = Duration::from_millis(200);
/// The same for each piece of a segment that is read.
const READING_REST: Duration = Duration::from_millis(5);

/// What one pass freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FreedPass {
    /// Deleted entries whose grace is over.
    pub(super) entries: u64,
    /// Objects whose content went with them.
    pub(super) objects: u64,
    /// Octets of that content.
    pub(super) octets: u64,
    /// Octets that the file system has back, of this content and of what was freed before.
    pub(super) returned: u64,
    /// Segments in which none is left.
    pub(super) segments: u64,
}

/// Frees what nothing needs any more at this time, and gives its room back, while `goes_on`.
///
/// Also gives what kept it from going on, or what it waits for. What was freed until then is freed; the rest is tried again with
/// the next pass.
pub(super) fn pass(
    shared: &Arc<Shared>,
    commands: &mpsc::WeakSender<Queued>,
    trusted: Timestamp,
    goes_on: &dyn Fn() -> bool,
) -> (FreedPass, Result<(), StoreError>) {
    if shared.witness().misses_entries() {
        return (FreedPass::default(), Err(waits(MISSES_ENTRIES)));
    }
    let mut pass = Pass { shared, commands, trusted, goes_on, freed: FreedPass::default() };
    let done = pass.free().and_then(|step| match step {
        Step::Ended => Ok(()),
        Step::Done => pass.give_back(),
    });
    let done = done.and_then(|()| match pass.index_is_sound() || !goes_on() {
        true => Ok(()),
        false => Err(waits("the index is damaged, or is made anew")),
    });
    let FreedPass { entries, objects, octets, returned, segments } = pass.freed;
    metrics::store_freed(objects, octets, returned);
    if let Ok(unpunched) = shared.read(|index| index.unpunched_count()) {
        metrics::store_unpunched(unpunched);
    }
    if pass.freed != FreedPass::default() {
        tracing::info!(event = "store.freed", entries, objects, octets, returned, segments);
    }
    (pass.freed, done)
}

/// Why nothing is freed: what is missing may tell of more that needs it.
const MISSES_ENTRIES: &str = "entries of the log are missing, and no admin has closed that";

fn waits(why: &str) -> StoreError {
    tracing::debug!(event = "retention.waits", why);
    StoreError::Refused(format!("nothing is freed: {why}"))
}

/// How a step ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Done,
    /// The pass is over: it is to stop, or the index must be looked at first.
    Ended,
}

struct Pass<'a> {
    shared: &'a Arc<Shared>,
    commands: &'a mpsc::WeakSender<Queued>,
    trusted: Timestamp,
    goes_on: &'a dyn Fn() -> bool,
    freed: FreedPass,
}

impl Pass<'_> {
    /// True when the index can be relied on: what it lacks would not be missed.
    fn index_is_sound(&self) -> bool {
        let shared = self.shared;
        !shared.index_is_spoilt() && !shared.index_is_behind() && !shared.index_is_awaited()
    }

    /// Holds what keeps others from copying what is stored; nothing when one of them was first, or the pass is to stop.
    fn take_turn(&self) -> Result<Option<File>, StoreError> {
        self.shared.rest_while_syncs_are_slow(REST, self.goes_on);
        if !(self.goes_on)() || !self.index_is_sound() {
            return Ok(None);
        }
        if self.shared.witness().misses_entries() {
            return Err(waits(MISSES_ENTRIES));
        }
        let held = lock(self.shared.data_dir(), Hold::Alone)
            .map_err(|e| StoreError::io("locking what is stored", e))?;
        held.map(Some)
            .ok_or_else(|| waits("somebody holds freeing.lock: a backup is made, or the directory is copied"))
    }

    fn free(&mut self) -> Result<Step, StoreError> {
        let all = self.shared.read(|index| index.gateway_mailboxes())?;
        let mut rules = Rules::default();
        for (gateway_mailbox, _) in all {
            let folders = self.shared.read(|index| index.folders_to_free(gateway_mailbox.id))?;
            rules.add(gateway_mailbox, folders);
        }
        let mut walked = None;
        for (gateway_mailbox, folder, name) in rules.folders() {
            let step = self.free_folder(&rules, &mut walked, (gateway_mailbox, folder, name))?;
            if step == Step::Ended {
                return Ok(step);
            }
        }
        self.free_unplaced(&rules, &mut walked)
    }

    fn free_folder(
        &mut self,
        rules: &Rules,
        walked: &mut Option<needed::Walked>,
        (gateway_mailbox, folder, name): (&GatewayMailbox, u64, &FolderName),
    ) -> Result<Step, StoreError> {
        let mut after = (i64::MIN, 0);
        loop {
            let ask = |index: &Index| index.in_grace_behind(folder, after, ENTRIES_A_COMMAND);
            let mut due = self.shared.read(ask)?;
            let asked = due.len();
            due.retain(|(at, _)| grace_is_over(gateway_mailbox, name, *at, self.trusted));
            let Some((last_at, last)) = due.last().copied() else { return Ok(Step::Done) };
            after = (last_at.unix_ms(), last.value());
            let is_last = due.len() < asked || asked < ENTRIES_A_COMMAND;
            let uids: Vec<Uid> = due.into_iter().map(|(_, uid)| uid).collect();
            let batch = (gateway_mailbox.id, folder, name.clone(), uids, Vec::new());
            if self.free_batch(rules, walked, batch)? == Step::Ended {
                return Ok(Step::Ended);
            }
            if is_last {
                return Ok(Step::Done);
            }
        }
    }

    /// What belongs to receipts of which no entry is left.
    fn free_unplaced(
        &mut self,
        rules: &Rules,
        walked: &mut Option<needed::Walked>,
    ) -> Result<Step, StoreError> {
        let mut after = (0, ReceiptId::from_bytes([0; 16]));
        loop {
            let rows = self.shared.read(|index| index.unplaced_behind(after, ENTRIES_A_COMMAND))?;
            let Some(last) = rows.last() else { return Ok(Step::Done) };
            after = (last.object, last.receipt_id);
            let mut of_folders: BTreeMap<(GatewayMailboxId, u64), Vec<(u64, Timestamp)>> = BTreeMap::new();
            for row in rows {
                if let Some(folder) = self.folder_of_due(rules, &row)? {
                    of_folders.entry((row.gateway_mailbox, folder)).or_default().push((row.object, row.at));
                }
            }
            for ((id, folder), objects) in of_folders {
                let batch = (id, folder, FolderName::Inbox, Vec::new(), objects);
                if self.free_batch(rules, walked, batch)? == Step::Ended {
                    return Ok(Step::Ended);
                }
            }
        }
    }

    /// The folder in whose name an object without an entry is freed, when it is time.
    fn folder_of_due(&self, rules: &Rules, row: &Unplaced) -> Result<Option<u64>, StoreError> {
        let is_due = |of: &GatewayMailbox| grace_is_over(of, &FolderName::Inbox, row.at, self.trusted);
        if !rules.gateway_mailbox(row.gateway_mailbox).is_some_and(is_due) {
            return Ok(None);
        }
        self.shared.read(|index| {
            match index.has_entries(row.receipt_id, row.gateway_mailbox, &|_, _| false)? {
                true => Ok(None),
                false => index.folder_of_receipt(row.receipt_id, row.gateway_mailbox),
            }
        })
    }

    fn free_batch(
        &mut self,
        rules: &Rules,
        walked: &mut Option<needed::Walked>,
        (gateway_mailbox, folder, name, uids, unplaced): Batch,
    ) -> Result<Step, StoreError> {
        if walked.is_none() {
            *walked = self.walk(rules)?;
        }
        let Some(walk) = walked else { return Ok(Step::Ended) };
        let Some(_turn) = self.take_turn()? else { return Ok(Step::Ended) };
        let (needed, trusted) = (walk.clone(), self.trusted);
        let freeing = Freeing { gateway_mailbox, folder, name, uids, unplaced, trusted, needed };
        self.punch_too_early(&freeing)?;
        let freed: Freed =
            ask_blocking(self.commands, |answer| Command::Free { freeing: Box::new(freeing), answer })?;
        self.freed.entries += freed.entries;
        self.freed.objects += freed.objects;
        self.freed.octets += freed.octets;
        match freed.disputed.is_empty() {
            true => Ok(Step::Done),
            false => self.look_again(rules, &freed.disputed),
        }
    }
}

/// Gateway mailbox, folder and its name; entries past their grace, and objects without an entry.
type Batch = (GatewayMailboxId, u64, FolderName, Vec<Uid>, Vec<(u64, Timestamp)>);

#[cfg(test)]
mod tests;
