//! Flags of live entries: a row for each entry that has any, and in its folder what they come to.
//!
//! A client takes out what is marked `\Deleted`: so each row carries a check, whoever reads all of them adds them up and compares,
//! and what does not fit is an error and never a flag. The flags of an entry go with it.

use super::folders::Folder;
use super::sums::{Kind, RowSum, damaged};
use super::{Index, PlacementRow, int, unsigned};
use crate::mail::{Flags, GatewayMailboxId, Uid};
use crate::store::fact::{FlaggedFact, runs};
use crate::store::{FolderMarks, FolderName, FolderRow, StoreError};
use rusqlite::params;

/// Live UIDs from one to another: passes over those deleted among them.
pub(super) const LIVE_UIDS: &str =
    "SELECT uid FROM placement WHERE folder = ? AND uid BETWEEN ? AND ? AND deleted_at IS NULL ORDER BY uid";
/// The same where most were deleted: goes by the index of those that were not.
const LIVE_UIDS_AMONG_DELETED: &str = "SELECT uid FROM placement INDEXED BY placement_live
WHERE folder = ? AND uid BETWEEN ? AND ? AND deleted_at IS NULL ORDER BY uid";
const FLAGS: &str =
    "SELECT uid, bits, row_check FROM flags WHERE folder = ? AND uid BETWEEN ? AND ? ORDER BY uid";

/// What a folder knows of the flags in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FlagSums {
    /// How often they were changed, ever.
    pub(super) changes: i64,
    /// Live entries that have any.
    pub(super) flagged: i64,
    /// Of the checks of their rows.
    pub(super) sum: i64,
    /// Live entries that are `\Seen`.
    pub(super) seen: i64,
    /// Live entries that are `\Deleted`.
    pub(super) marked_deleted: i64,
}

impl FlagSums {
    fn of(folder: i64, rows: &[FolderRow]) -> FlagSums {
        let mut sums = FlagSums::default();
        rows.iter().for_each(|row| sums.replace(folder, row.uid, Flags::NONE, row.flags));
        sums
    }

    /// An entry has these flags, and had those.
    fn replace(&mut self, folder: i64, uid: Uid, before: Flags, after: Flags) {
        for (flags, sign) in [(before, -1), (after, 1)] {
            if flags.is_empty() {
                continue;
            }
            self.flagged += sign;
            let check = flags_check(folder, uid, flags.bits().into()).end();
            self.sum = self.sum.wrapping_add(check.wrapping_mul(sign));
            self.seen += i64::from(flags.contains(Flags::SEEN)) * sign;
            self.marked_deleted += i64::from(flags.contains(Flags::DELETED)) * sign;
        }
    }
}

fn flags_check(folder: i64, uid: Uid, bits: i64) -> RowSum {
    RowSum::of(Kind::Flags).int(folder).int(uid.value()).int(bits)
}

/// The columns `bits` and `row_check` of an entry that has flags.
pub(in crate::store) fn flags_row(folder: u64, uid: Uid, flags: Flags) -> [i64; 2] {
    let bits = flags.bits().into();
    [bits, flags_check(int(folder), uid, bits).end()]
}

/// Live UIDs with the flags they have.
fn joined(uids: Vec<Uid>, flagged: &[FolderRow]) -> Vec<FolderRow> {
    let mut flagged = flagged.iter().peekable();
    let row = |uid| {
        while flagged.next_if(|row| row.uid < uid).is_some() {}
        let flags = flagged.next_if(|row| row.uid == uid).map_or(Flags::NONE, |row| row.flags);
        FolderRow { uid, flags }
    };
    uids.into_iter().map(row).collect()
}

impl Folder {
    fn marks(&self) -> FolderMarks {
        let row = self.row();
        FolderMarks {
            uid_validity: row.uid_validity,
            uid_next: row.uid_next,
            live: unsigned(self.live),
            flag_changes: unsigned(self.flags.changes),
        }
    }
}

impl Index {
    /// What tells whether a folder is as it was: one row of it.
    pub(in crate::store) fn marks(
        &self,
        gateway_mailbox: GatewayMailboxId,
        name: &FolderName,
    ) -> Result<Option<FolderMarks>, StoreError> {
        let folder = self.at_once(|index| index.folder_named(gateway_mailbox, name))?;
        Ok(folder.map(|folder| folder.marks()))
    }

    /// The live entries of a folder from this UID on, with their flags. All of them are compared with what the folder knows; of a
    /// part, the flags alone say that they are as they were written.
    pub(in crate::store) fn flagged_rows(
        &self,
        gateway_mailbox: GatewayMailboxId,
        name: &FolderName,
        from: Uid,
    ) -> Result<Option<(FolderMarks, Vec<FolderRow>)>, StoreError> {
        self.at_once(|index| {
            let Some(folder) = index.folder_named(gateway_mailbox, name)? else { return Ok(None) };
            if from > Uid::FIRST {
                let rows = index.rows_between(folder.id, (from.value(), u32::MAX))?;
                return Ok(Some((folder.marks(), rows)));
            }
            let sql = if folder.is_mostly_live() { LIVE_UIDS } else { LIVE_UIDS_AMONG_DELETED };
            let uids = index.uids_of(sql, folder.id, (0, u32::MAX))?;
            folder.compare_uids(uids.iter().copied())?;
            let rows = joined(uids, &index.all_flags(&folder)?);
            Ok(Some((folder.marks(), rows)))
        })
    }

    /// Which of these entries are live, and their flags, in UID order. UIDs rise.
    pub(in crate::store) fn flags_of(&self, folder: u64, uids: &[Uid]) -> Result<Vec<FolderRow>, StoreError> {
        let mut found = Vec::with_capacity(uids.len());
        for (first, last) in runs(uids) {
            found.extend(self.rows_between(int(folder), (first.value(), last.value()))?);
        }
        Ok(found)
    }

    /// The live ones of these entries with what a listing shows of them, in UID order. UIDs rise.
    pub(in crate::store) fn entries_of(
        &self,
        gateway_mailbox: GatewayMailboxId,
        name: &FolderName,
        uids: &[Uid],
    ) -> Result<Vec<PlacementRow>, StoreError> {
        self.at_once(|index| {
            let Some(folder) = index.folder_named(gateway_mailbox, name)? else { return Ok(Vec::new()) };
            let mut found = Vec::with_capacity(uids.len());
            for (first, last) in runs(uids) {
                found.extend(index.live_between(unsigned(folder.id), (first.value(), last.value()))?);
            }
            Ok(found)
        })
    }

    fn rows_between(&self, folder: i64, (first, last): (u32, u32)) -> Result<Vec<FolderRow>, StoreError> {
        let uids = self.uids_of(LIVE_UIDS, folder, (first, last))?;
        Ok(joined(uids, &self.flags_between(folder, (first, last))?))
    }

    pub(super) fn uids_of(
        &self,
        sql: &str,
        folder: i64,
        (first, last): (u32, u32),
    ) -> Result<Vec<Uid>, StoreError> {
        let mut select = self.connection.prepare_cached(sql)?;
        let mut rows = select.query(params![folder, first, last])?;
        let mut uids = Vec::new();
        while let Some(row) = rows.next()? {
            uids.push(Uid::new(row.get(0)?).ok_or_else(|| damaged("an entry without a UID"))?);
        }
        Ok(uids)
    }

    /// The entries in a stretch that have flags, each checked.
    fn flags_between(&self, folder: i64, uids: (u32, u32)) -> Result<Vec<FolderRow>, StoreError> {
        let mut select = self.connection.prepare_cached(FLAGS)?;
        let mut rows = select.query(params![folder, uids.0, uids.1])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let uid = Uid::new(row.get(0)?).ok_or_else(|| damaged("flags of no UID"))?;
            let bits: u8 = row.get(1)?;
            flags_check(folder, uid, bits.into()).verify(row.get(2)?, "the flags of an entry")?;
            found.push(FolderRow { uid, flags: Flags::from_bits(bits) });
        }
        Ok(found)
    }

    /// All of a folder, compared with what it knows of them.
    pub(super) fn all_flags(&self, folder: &Folder) -> Result<Vec<FolderRow>, StoreError> {
        let rows = self.flags_between(folder.id, (0, u32::MAX))?;
        let found = FlagSums { changes: folder.flags.changes, ..FlagSums::of(folder.id, &rows) };
        if found == folder.flags {
            return Ok(rows);
        }
        Err(damaged(format!(
            "folder {}: flags of {} of {} entries found, or others",
            folder.id, found.flagged, folder.flags.flagged
        )))
    }

    pub(super) fn apply_flagged(&self, fact: &FlaggedFact) -> Result<(), StoreError> {
        let Some(mut folder) = self.folder_of(fact.folder)? else {
            // With its entry all that it held was lost.
            return if self.is_made_anew() {
                Ok(())
            } else {
                Err(damaged("flags in a folder that is not there"))
            };
        };
        let mut set = self.connection.prepare_cached("INSERT OR REPLACE INTO flags VALUES (?, ?, ?, ?)")?;
        let mut clear = self.connection.prepare_cached("DELETE FROM flags WHERE folder = ? AND uid = ?")?;
        for (first, last, flags) in &fact.uids {
            let flags = Flags::from_bits(flags.bits());
            for row in self.rows_between(folder.id, (first.value(), last.value()))? {
                if row.flags == flags {
                    continue;
                }
                if flags.is_empty() {
                    clear.execute(params![folder.id, row.uid.value()])?;
                } else {
                    let [bits, check] = flags_row(fact.folder, row.uid, flags);
                    set.execute(params![folder.id, row.uid.value(), bits, check])?;
                }
                folder.flags.replace(folder.id, row.uid, row.flags, flags);
            }
        }
        folder.flags.changes += 1;
        self.save_folder(&folder)
    }

    /// The entries of a stretch are over, and their flags with them. Whoever asks for it saves the folder.
    pub(super) fn drop_flags(&self, folder: &mut Folder, uids: (u32, u32)) -> Result<(), StoreError> {
        if folder.flags.flagged == 0 {
            return Ok(());
        }
        let rows = self.flags_between(folder.id, uids)?;
        if rows.is_empty() {
            return Ok(());
        }
        self.connection
            .prepare_cached("DELETE FROM flags WHERE folder = ? AND uid BETWEEN ? AND ?")?
            .execute(params![folder.id, uids.0, uids.1])?;
        rows.iter().for_each(|row| folder.flags.replace(folder.id, row.uid, row.flags, Flags::NONE));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::questions::tests::{plan, position};
    use super::*;

    #[test]
    fn what_a_client_opens_is_read_by_its_key_and_among_many_deleted_by_what_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::create(&dir.path().join("index")).unwrap();
        let few = plan(&index, LIVE_UIDS_AMONG_DELETED);
        position(&few, "SEARCH placement USING INDEX placement_live (folder=?)");
        position(
            &plan(&index, LIVE_UIDS),
            "SEARCH placement USING PRIMARY KEY (folder=? AND uid>? AND uid<?)",
        );
        position(&plan(&index, FLAGS), "SEARCH flags USING PRIMARY KEY (folder=? AND uid>? AND uid<?)");
        for sql in [LIVE_UIDS, FLAGS] {
            assert!(!plan(&index, sql).iter().any(|step| step.contains("TEMP B-TREE")), "{sql}");
        }
    }

    #[test]
    fn flags_stand_beside_the_entries_that_have_them() {
        let uid = |uid| Uid::new(uid).unwrap();
        let row = |number, flags| FolderRow { uid: uid(number), flags };
        let flagged = [row(1, Flags::SEEN), row(3, Flags::DELETED), row(9, Flags::SEEN)];
        let rows = joined(vec![uid(2), uid(3), uid(4), uid(9)], &flagged);
        let flags: Vec<u8> = rows.iter().map(|row| row.flags.bits()).collect();
        assert_eq!(flags, [0, Flags::DELETED.bits(), 0, Flags::SEEN.bits()]);
    }
}
