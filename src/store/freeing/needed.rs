//! The second look: what all entries need, asked from the entries.
//!
//! It goes through every entry by its key and through no index, takes each message's row with its check, and counts as needed what
//! is live, and what was deleted and would not be past its grace, be it listed as such or not; and the report it came by. What
//! is live of a folder must be what the folder knows of it, so each is read as it is at one moment.

use super::{Pass, ROWS_AT_ONCE, Step, grace_is_over};
use crate::mail::{GatewayMailbox, GatewayMailboxId, Timestamp};
use crate::store::check::Bits;
use crate::store::index::{Index, PlacedEntry};
use crate::store::{FolderName, StoreError};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// The objects that are needed.
pub(super) type Walked = Arc<Bits>;

type TakeEntry<'a> = dyn FnMut(&Index, &PlacedEntry) -> Result<(), StoreError> + 'a;

/// What is kept for how long, folder by folder, as it was when the pass began.
#[derive(Default)]
pub(super) struct Rules {
    gateway_mailboxes: Vec<GatewayMailbox>,
    /// Of each folder the place of its gateway mailbox, and its name.
    folders: BTreeMap<u64, (usize, FolderName)>,
}

impl Rules {
    pub(super) fn add(&mut self, gateway_mailbox: GatewayMailbox, folders: Vec<(u64, FolderName)>) {
        let at = self.gateway_mailboxes.len();
        self.gateway_mailboxes.push(gateway_mailbox);
        self.folders.extend(folders.into_iter().map(|(folder, name)| (folder, (at, name))));
    }

    pub(super) fn folders(&self) -> impl Iterator<Item = (&GatewayMailbox, u64, &FolderName)> {
        self.folders.iter().filter_map(|(folder, (at, name))| {
            self.gateway_mailboxes.get(*at).map(|gateway_mailbox| (gateway_mailbox, *folder, name))
        })
    }

    pub(super) fn gateway_mailbox(&self, id: GatewayMailboxId) -> Option<&GatewayMailbox> {
        self.gateway_mailboxes.iter().find(|of| of.id == id)
    }

    /// True for a live entry, and for one that ended and is not past its grace. A folder that was made since keeps everything.
    fn keeps(&self, folder: u64, ended: Option<Timestamp>, trusted: Timestamp) -> bool {
        let Some(ended) = ended else { return true };
        let of =
            self.folders.get(&folder).and_then(|(at, name)| Some((self.gateway_mailboxes.get(*at)?, name)));
        of.is_none_or(|(gateway_mailbox, name)| !grace_is_over(gateway_mailbox, name, ended, trusted))
    }
}

impl Pass<'_> {
    /// Goes through all entries; nothing when it is to stop.
    pub(super) fn walk(&self, rules: &Rules) -> Result<Option<Walked>, StoreError> {
        let mut needed = Bits::default();
        let walked = self.through_entries(rules, &mut |index, entry| {
            let reports = index.reports_of(entry.receipt_id, entry.folder)?;
            for message in
                reports.into_iter().filter(|message| *message != entry.message).chain([entry.message])
            {
                for object in objects(index, message)? {
                    needed.add(object);
                }
            }
            Ok(())
        })?;
        Ok(walked.then(|| Arc::new(needed)))
    }

    /// Hands over every entry that is kept. False when it is to stop.
    fn through_entries(&self, rules: &Rules, take: &mut TakeEntry<'_>) -> Result<bool, StoreError> {
        let mut after = None;
        loop {
            let next = self.shared.read(|index| {
                index.at_once(|index| {
                    let Some(folder) = index.folder_behind(after)? else { return Ok(Some(None)) };
                    let went_on = self.through_folder(index, folder, rules, take)?;
                    Ok(went_on.then_some(Some(folder)))
                })
            })?;
            match next {
                Some(Some(folder)) => after = Some(folder),
                Some(None) => return Ok(true),
                None => return Ok(false),
            }
        }
    }

    fn through_folder(
        &self,
        index: &Index,
        folder: u64,
        rules: &Rules,
        take: &mut TakeEntry<'_>,
    ) -> Result<bool, StoreError> {
        let mut seen = 0_usize;
        index.placed_in(folder, &mut |entry| {
            if seen.is_multiple_of(ROWS_AT_ONCE) && !((self.goes_on)() && self.index_is_sound()) {
                return Ok(false);
            }
            seen += 1;
            if rules.keeps(entry.folder, entry.ended, self.trusted) {
                take(index, entry)?;
            }
            Ok(true)
        })
    }

    /// Looks from the entries at objects that the committer found unneeded and the walk did not. What an entry that is there
    /// leads to must be found from the object as well: else the index is damaged, and nothing more is freed by it.
    pub(super) fn look_again(&self, rules: &Rules, disputed: &[u64]) -> Result<Step, StoreError> {
        let disputed: HashSet<u64> = disputed.iter().copied().collect();
        let mut damaged = None;
        let looked = self.through_entries(rules, &mut |index, entry| {
            let PlacedEntry { folder, ended, message, .. } = *entry;
            if ended.is_some() || damaged.is_some() {
                return Ok(());
            }
            for object in objects(index, message)? {
                if disputed.contains(&object) && !index.leads_to(object, message)? {
                    let why =
                        format!("folder {folder}: an entry needs object {object}, which does not say so");
                    damaged = Some(why);
                }
            }
            Ok(())
        })?;
        match damaged {
            Some(why) => {
                self.shared.set_index_spoilt(&why);
                Err(StoreError::IndexDamaged(why))
            }
            // What changed since the walk is known by the next pass.
            None if looked => Ok(Step::Done),
            None => Ok(Step::Ended),
        }
    }
}

/// The objects that a message needs, as its own row says; of one whose entry was lost, none.
fn objects(index: &Index, message: u64) -> Result<Vec<u64>, StoreError> {
    match index.message(message) {
        Ok(row) => Ok(row.extents.iter().map(|extent| extent.object).chain([row.summary]).collect()),
        Err(StoreError::Gone) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
