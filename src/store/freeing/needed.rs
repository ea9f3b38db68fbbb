//! The second look: what all entries need, asked from the entries.
//!
//! It goes through every entry by its key and through no index, takes each message's row with its check, and counts as needed what
//! is live, and what was deleted and would not be past its grace, be it listed as such or not.

use super::{Pass, ROWS_AT_ONCE, Step, grace_is_over};
use crate::mail::{GatewayMailbox, GatewayMailboxId, Timestamp};
use crate::store::check::Bits;
use crate::store::index::Index;
use crate::store::{FolderName, StoreError};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// The objects that are needed.
pub(super) type Walked = Arc<Bits>;

/// Takes an entry: its folder, the time of its end, its message.
type TakeEntry<'a> = dyn FnMut(&Index, (u64, Option<Timestamp>, u64)) -> Result<(), StoreError> + 'a;

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
        let walked = self.through_entries(rules, &mut |index, (_, _, message)| {
            for object in objects(index, message)? {
                needed.add(object);
            }
            Ok(())
        })?;
        Ok(walked.then(|| Arc::new(needed)))
    }

    /// Hands over every entry that is kept: its folder, the time of its end, its message. False when it is to stop.
    fn through_entries(&self, rules: &Rules, take: &mut TakeEntry<'_>) -> Result<bool, StoreError> {
        let mut after = (i64::MIN, i64::MIN);
        loop {
            if !(self.goes_on)() || !self.index_is_sound() {
                return Ok(false);
            }
            let next = self.shared.read(|index| {
                index.begin_reading()?;
                let next = index.placed_behind(
                    after,
                    ROWS_AT_ONCE,
                    &mut |folder, ended, message| match rules.keeps(folder, ended, self.trusted) {
                        true => take(index, (folder, ended, message)),
                        false => Ok(()),
                    },
                );
                index.rollback()?;
                next
            })?;
            match next {
                Some(last) => after = last,
                None => return Ok(true),
            }
        }
    }

    /// Looks from the entries at objects that the committer found unneeded and the walk did not. What an entry that is there
    /// leads to must be found from the object as well: else the index is damaged, and nothing more is freed by it.
    pub(super) fn look_again(&self, rules: &Rules, disputed: &[u64]) -> Result<Step, StoreError> {
        let disputed: HashSet<u64> = disputed.iter().copied().collect();
        let mut damaged = None;
        let looked = self.through_entries(rules, &mut |index, (folder, ended, message)| {
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
