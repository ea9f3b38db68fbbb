//! What clients change in folders without taking anything out: flags, and a folder that they are the first to open.

use super::{Committer, FolderEvent, Group};
use crate::mail::{FlagChange, Flags, GatewayMailboxId, Timestamp, Uid};
use crate::store::fact::{Fact, FlaggedFact};
use crate::store::index::Index;
use crate::store::{FlagsSet, FolderName, FolderRow, StoreError};

/// Entries whose flags one command may change: some ten milliseconds, in which mail waits.
pub(in crate::store) const FLAGS_CHANGED_AT_ONCE_MAX: usize = 5_000;

impl Committer {
    /// Changes flags of those that are there, and tells what each of them has then.
    pub(super) fn set_flags(
        &mut self,
        event: FolderEvent,
        change: FlagChange,
        mut changeable: Flags,
        group: &mut Group<'_>,
    ) -> Result<FlagsSet, StoreError> {
        let id = event.gateway_mailbox;
        self.refuse_deleted(id)?;
        let Some(folder) = group.index.folder(id, &event.folder)? else { return Ok(FlagsSet::default()) };
        if !self.may_delete(id, &event.folder, group.index)? {
            changeable = changeable - Flags::DELETED;
        }
        let count =
            |index: &Index| Ok::<_, StoreError>(index.marks(id, &event.folder)?.map(|m| m.flag_changes));
        let before = count(group.index)?;
        let mut rows = group.index.flags_of(folder.id, &event.uids)?;
        let mut changed = Vec::new();
        for row in &mut rows {
            let flags = change.applied(row.flags, changeable);
            if flags != row.flags {
                row.flags = flags;
                changed.push(*row);
            }
        }
        if !changed.is_empty() {
            group.push_fact(Fact::Flagged(FlaggedFact {
                at: event.at,
                gateway_mailbox: id,
                folder: folder.id,
                uids: flag_runs(&changed),
                client: event.client.clone(),
            }))?;
        }
        Ok(FlagsSet { rows, counted: before.zip(count(group.index)?) })
    }

    /// Which of these clients may take out: those that are marked now, whatever they were when it was asked.
    pub(super) fn marked(
        &self,
        event: &FolderEvent,
        folder: u64,
        index: &Index,
    ) -> Result<Vec<Uid>, StoreError> {
        if !self.may_delete(event.gateway_mailbox, &event.folder, index)? {
            return Err(StoreError::NotAllowed);
        }
        let rows = index.flags_of(folder, &event.uids)?;
        Ok(rows.iter().filter(|row| row.flags.contains(Flags::DELETED)).map(|row| row.uid).collect())
    }

    fn may_delete(
        &self,
        id: GatewayMailboxId,
        folder: &FolderName,
        index: &Index,
    ) -> Result<bool, StoreError> {
        // A client in INBOX needs no rule, also where the gateway mailbox was deleted meanwhile.
        Ok(*folder == FolderName::Inbox || folder.may_delete(self.fetch_rules(id, index)?))
    }

    /// Makes a folder that is always there, unless somebody did meanwhile: its UIDVALIDITY is told now, and must stay.
    pub(super) fn make_empty_folder(
        &mut self,
        id: GatewayMailboxId,
        name: &FolderName,
        at: Timestamp,
        group: &mut Group<'_>,
    ) -> Result<(), StoreError> {
        self.refuse_deleted(id)?;
        if group.index.folder(id, name)?.is_some() {
            return Ok(());
        }
        if matches!(name, FolderName::User { .. }) {
            return Err(StoreError::Gone);
        }
        // Nothing but damage may hide one that is there: all of them are counted.
        group.index.folders(id)?;
        self.make_folder(id, at, name, None, group).map(drop)
    }

    fn refuse_deleted(&self, id: GatewayMailboxId) -> Result<(), StoreError> {
        let is_there = self.shared.known(id).is_some() && !self.deleted.contains(&id);
        if is_there { Ok(()) } else { Err(StoreError::Gone) }
    }
}

/// Joins rising UIDs into runs with the same flags.
fn flag_runs(rows: &[FolderRow]) -> Vec<(Uid, Uid, Flags)> {
    let mut runs: Vec<(Uid, Uid, Flags)> = Vec::new();
    for FolderRow { uid, flags } in rows {
        match runs.last_mut() {
            Some((_, last, same)) if same == flags && last.value().checked_add(1) == Some(uid.value()) => {
                *last = *uid;
            }
            _ => runs.push((*uid, *uid, *flags)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_with_the_same_flags_are_one_run() {
        let row = |uid, flags| FolderRow { uid: Uid::new(uid).unwrap(), flags };
        let rows = [row(1, Flags::SEEN), row(2, Flags::SEEN), row(3, Flags::NONE), row(5, Flags::NONE)];
        let runs: Vec<_> =
            flag_runs(&rows).iter().map(|(a, b, flags)| (a.value(), b.value(), flags.bits())).collect();
        assert_eq!(runs, [(1, 2, 1), (3, 3, 0), (5, 5, 0)]);
    }
}
