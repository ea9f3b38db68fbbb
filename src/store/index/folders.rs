//! Folders: found by two indexes, and each knows what its live entries come to.
//!
//! Every listing adds its rows up and compares. A folder that is not found is looked for by the sum of its name as well: only
//! what neither index knows is not there.

use super::flags::FlagSums;
use super::sums::{Census, Kind, RowSum, damaged};
use super::{FolderRow, Index, PlacementRow, int, unsigned};
use crate::mail::{CanonicalSize, GatewayMailboxId, ReceiptId, Timestamp, Uid, UidValidity};
use crate::store::fact::FolderFact;
use crate::store::{FolderName, FolderStatus, StoreError};
use rusqlite::{OptionalExtension, Row, params};

const COLUMNS: &str = "id, gateway_mailbox, name, slug, uid_validity, uid_next, live, live_octets, live_sum, uid_sum, flag_changes,
    flagged, flag_sum, seen, marked_deleted, name_sum, row_check";
/// Live entries by their UIDs: passes over those deleted among them.
const LIVE_BY_UID: &str =
    "SELECT p.uid, p.message, p.receipt, p.at, p.epoch, m.octets, m.canonical_octets, m.lines, m.flags, p.row_check
FROM placement p CROSS JOIN message m ON m.id = p.message
WHERE p.folder = ? AND p.uid BETWEEN ? AND ? AND p.deleted_at IS NULL ORDER BY p.uid";
/// The same where most were deleted: goes by the index of those that were not.
const LIVE_AMONG_DELETED: &str =
    "SELECT p.uid, p.message, p.receipt, p.at, p.epoch, m.octets, m.canonical_octets, m.lines, m.flags, p.row_check
FROM placement p INDEXED BY placement_live CROSS JOIN message m ON m.id = p.message
WHERE p.folder = ? AND p.uid BETWEEN ? AND ? AND p.deleted_at IS NULL ORDER BY p.uid";
/// From one live entry in so many, the index of live ones costs less than passing over the deleted.
const MOSTLY_DELETED: u32 = 8;
/// The folders of the user with this slug.
const BY_SLUG: &str = "slug = ? AND gateway_mailbox = ?";
/// The time of the oldest live entry, from the end of an index.
const OLDEST: &str = "SELECT min(at) FROM placement WHERE folder = ? AND deleted_at IS NULL";

/// A folder's row, checked.
pub(super) struct Folder {
    pub(super) id: i64,
    gateway_mailbox: [u8; 16],
    name: String,
    slug: Option<String>,
    uid_validity: u32,
    uid_next: u32,
    pub(super) live: i64,
    live_octets: i64,
    /// What live entries come to: all that a listing shows of them, and their UIDs alone.
    live_sum: i64,
    uid_sum: i64,
    pub(super) flags: FlagSums,
}

/// A folder's row as it stands, and the two sums it comes with.
fn read(row: &Row<'_>) -> rusqlite::Result<(Folder, i64, i64)> {
    let folder = Folder {
        id: row.get(0)?,
        gateway_mailbox: row.get(1)?,
        name: row.get(2)?,
        slug: row.get(3)?,
        uid_validity: row.get(4)?,
        uid_next: row.get(5)?,
        live: row.get(6)?,
        live_octets: row.get(7)?,
        live_sum: row.get(8)?,
        uid_sum: row.get(9)?,
        flags: FlagSums {
            changes: row.get(10)?,
            flagged: row.get(11)?,
            sum: row.get(12)?,
            seen: row.get(13)?,
            marked_deleted: row.get(14)?,
        },
    };
    Ok((folder, row.get(15)?, row.get(16)?))
}

fn name_sum(gateway_mailbox: &[u8], name: &str) -> i64 {
    RowSum::of(Kind::FolderName).bytes(gateway_mailbox).bytes(name.as_bytes()).end()
}

/// What an entry adds to the sum of UIDs of its folder while it is live.
fn uid_sum(folder: i64, uid: Uid) -> i64 {
    RowSum::of(Kind::LiveUid).int(folder).int(uid.value()).end()
}

/// The column `row_check` of an entry, which is what it adds to the sum of its folder while it is live.
pub(super) fn entry_sum(folder: u64, row: &PlacementRow) -> i64 {
    entry_check(folder, row).end()
}

/// Over all that a listing shows of an entry.
fn entry_check(folder: u64, row: &PlacementRow) -> RowSum {
    RowSum::of(Kind::Placement)
        .int(int(folder))
        .int(row.uid.value())
        .int(int(row.message))
        .bytes(row.receipt_id.as_bytes())
        .int(row.at.unix_ms())
        .int(row.epoch)
        .int(int(row.octets))
        .int(int(row.canonical.octets))
        .int(int(row.canonical.lines))
        .int(row.canonical.bare_line_ends)
        .int(row.canonical.ends_with_line_end)
}

impl Folder {
    fn verified((folder, name_sum, check): (Folder, i64, i64)) -> Result<Folder, StoreError> {
        let fits = folder.check(name_sum).verify(check, "a folder");
        fits.map(|()| folder)
    }

    fn check(&self, name_sum: i64) -> RowSum {
        RowSum::of(Kind::Folder)
            .int(self.id)
            .bytes(&self.gateway_mailbox)
            .bytes(self.name.as_bytes())
            .maybe(self.slug.as_deref(), |sum, slug| sum.bytes(slug.as_bytes()))
            .int(self.uid_validity)
            .int(self.uid_next)
            .int(self.live)
            .int(self.live_octets)
            .int(self.live_sum)
            .int(self.uid_sum)
            .int(self.flags.changes)
            .int(self.flags.flagged)
            .int(self.flags.sum)
            .int(self.flags.seen)
            .int(self.flags.marked_deleted)
            .int(name_sum)
    }

    /// What the census counts of it: that it is there.
    fn presence(&self) -> i64 {
        RowSum::of(Kind::FolderName)
            .int(self.id)
            .bytes(&self.gateway_mailbox)
            .bytes(self.name.as_bytes())
            .end()
    }

    /// Steps past a UID that was handed out.
    pub(super) fn pass(&mut self, uid: Uid) {
        self.uid_next = self.uid_next.max(uid.value().saturating_add(1));
    }

    pub(super) fn gain(&mut self, row: &PlacementRow) {
        self.live += 1;
        self.live_octets = self.live_octets.wrapping_add(int(row.octets));
        self.live_sum = self.live_sum.wrapping_add(entry_sum(unsigned(self.id), row));
        self.uid_sum = self.uid_sum.wrapping_add(uid_sum(self.id, row.uid));
    }

    pub(super) fn lose(&mut self, row: &PlacementRow) {
        self.live -= 1;
        self.live_octets = self.live_octets.wrapping_sub(int(row.octets));
        self.live_sum = self.live_sum.wrapping_sub(entry_sum(unsigned(self.id), row));
        self.uid_sum = self.uid_sum.wrapping_sub(uid_sum(self.id, row.uid));
    }

    /// # Errors
    /// [`StoreError::IndexDamaged`] unless these are its live entries.
    fn compare(&self, rows: &[PlacementRow]) -> Result<(), StoreError> {
        let id = unsigned(self.id);
        let sum = rows.iter().fold(0_i64, |sum, row| sum.wrapping_add(entry_sum(id, row)));
        self.compare_sum(rows.len() as u64, sum)?;
        self.compare_uids(rows.iter().map(|row| row.uid))
    }

    /// The same for their UIDs alone.
    pub(super) fn compare_uids(&self, uids: impl Iterator<Item = Uid>) -> Result<(), StoreError> {
        let add = |(count, sum): (i64, i64), uid| (count + 1, sum.wrapping_add(uid_sum(self.id, uid)));
        let (count, sum) = uids.fold((0, 0), add);
        if (count, sum) == (self.live, self.uid_sum) {
            return Ok(());
        }
        Err(damaged(format!("folder {}: {count} of {} UIDs found, or others", self.id, self.live)))
    }

    /// The same for so many entries that come to this sum.
    pub(super) fn compare_sum(&self, rows: u64, sum: i64) -> Result<(), StoreError> {
        if (rows, sum) == (unsigned(self.live), self.live_sum) {
            return Ok(());
        }
        Err(damaged(format!("folder {}: {rows} of {} entries found, or others", self.id, self.live)))
    }

    /// What was deleted stays in its place: a folder that is emptied again and again is mostly that.
    pub(super) fn is_mostly_live(&self) -> bool {
        self.live >= i64::from(self.uid_next / MOSTLY_DELETED)
    }

    pub(super) fn row(&self) -> FolderRow {
        FolderRow {
            id: unsigned(self.id),
            uid_validity: UidValidity::new(self.uid_validity)
                .unwrap_or(UidValidity(std::num::NonZeroU32::MIN)),
            uid_next: Uid::new(self.uid_next).unwrap_or(Uid::FIRST),
        }
    }
}

impl Index {
    /// One state for several questions: whatever is committed between them is not seen.
    pub(in crate::store) fn at_once<T>(
        &self,
        ask: impl FnOnce(&Index) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.in_transaction() {
            return ask(self);
        }
        self.begin_reading()?;
        let answer = ask(self);
        self.rollback()?;
        answer
    }

    /// Makes a folder, or gives it another UIDVALIDITY when it is told of again. One whose making was lost is made.
    pub(super) fn apply_folder(&self, fact: &FolderFact) -> Result<(), StoreError> {
        let known = if fact.again { self.folder_of(fact.folder)? } else { None };
        match known {
            Some(folder) => self.renew_uid_validity(folder, fact),
            None => self.insert_folder(fact),
        }
    }

    fn renew_uid_validity(&self, mut folder: Folder, fact: &FolderFact) -> Result<(), StoreError> {
        if (folder.gateway_mailbox, &folder.name) != (*fact.gateway_mailbox.as_bytes(), &fact.name.key()) {
            return Err(damaged(format!("folder {} is another than its entry says", fact.folder)));
        }
        folder.uid_validity = fact.uid_validity.value();
        let check = folder.check(name_sum(&folder.gateway_mailbox, &folder.name)).end();
        self.connection
            .prepare_cached("UPDATE folder SET uid_validity = ?, row_check = ? WHERE id = ?")?
            .execute(params![folder.uid_validity, check, folder.id])?;
        Ok(())
    }

    fn insert_folder(&self, fact: &FolderFact) -> Result<(), StoreError> {
        let folder = Folder {
            id: int(fact.folder),
            gateway_mailbox: *fact.gateway_mailbox.as_bytes(),
            name: fact.name.key(),
            slug: fact.slug.clone(),
            uid_validity: fact.uid_validity.value(),
            uid_next: 1,
            live: 0,
            live_octets: 0,
            live_sum: 0,
            uid_sum: 0,
            flags: FlagSums::default(),
        };
        let name_sum = name_sum(&folder.gateway_mailbox, &folder.name);
        self.connection
            .prepare_cached("INSERT INTO folder VALUES (?, ?, ?, ?, ?, ?, 0, 0, 0, 0, 0, 0, 0, 0, 0, ?, ?)")?
            .execute(params![
                folder.id,
                folder.gateway_mailbox,
                folder.name,
                folder.slug,
                folder.uid_validity,
                folder.uid_next,
                name_sum,
                folder.check(name_sum).end()
            ])?;
        self.count(&folder.gateway_mailbox, None, folder.presence())
    }

    pub(super) fn folder_of(&self, id: u64) -> Result<Option<Folder>, StoreError> {
        let mut select =
            self.connection.prepare_cached(&format!("SELECT {COLUMNS} FROM folder WHERE id = ?"))?;
        select.query_row([int(id)], read).optional()?.map(Folder::verified).transpose()
    }

    pub(super) fn save_folder(&self, folder: &Folder) -> Result<(), StoreError> {
        let check = folder.check(name_sum(&folder.gateway_mailbox, &folder.name)).end();
        self.connection
            .prepare_cached(
                "UPDATE folder SET uid_next = ?, live = ?, live_octets = ?, live_sum = ?, uid_sum = ?, flag_changes = ?,
                     flagged = ?, flag_sum = ?, seen = ?, marked_deleted = ?, row_check = ? WHERE id = ?",
            )?
            .execute(params![
                folder.uid_next,
                folder.live,
                folder.live_octets,
                folder.live_sum,
                folder.uid_sum,
                folder.flags.changes,
                folder.flags.flagged,
                folder.flags.sum,
                folder.flags.seen,
                folder.flags.marked_deleted,
                check,
                folder.id
            ])?;
        Ok(())
    }

    pub(super) fn folder_named(
        &self,
        gateway_mailbox: GatewayMailboxId,
        name: &FolderName,
    ) -> Result<Option<Folder>, StoreError> {
        let (owner, key) = (gateway_mailbox.as_bytes(), name.key());
        let mut select = self.connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM folder WHERE gateway_mailbox = ? AND name = ?"
        ))?;
        if let Some(row) = select.query_row(params![owner, key], read).optional()? {
            return Folder::verified(row).map(Some);
        }
        let mut select =
            self.connection.prepare_cached(&format!("SELECT {COLUMNS} FROM folder WHERE name_sum = ?"))?;
        let mut rows = select.query([name_sum(owner, &key)])?;
        while let Some(row) = rows.next()? {
            let folder = Folder::verified(read(row)?)?;
            if folder.gateway_mailbox == *owner && folder.name == key {
                return Err(damaged("a folder is found by one of its indexes alone"));
            }
        }
        Ok(None)
    }

    pub(in crate::store) fn folder(
        &self,
        gateway_mailbox: GatewayMailboxId,
        name: &FolderName,
    ) -> Result<Option<FolderRow>, StoreError> {
        let folder = self.at_once(|index| index.folder_named(gateway_mailbox, name))?;
        Ok(folder.map(|folder| folder.row()))
    }

    /// A folder with its live entries, in UID order, compared with what it knows of them.
    pub(in crate::store) fn listing(
        &self,
        gateway_mailbox: GatewayMailboxId,
        name: &FolderName,
    ) -> Result<Option<(FolderRow, Vec<PlacementRow>)>, StoreError> {
        self.at_once(|index| {
            let Some(folder) = index.folder_named(gateway_mailbox, name)? else { return Ok(None) };
            let rows = index.placements(&folder)?;
            Ok(Some((folder.row(), rows)))
        })
    }

    fn placements(&self, folder: &Folder) -> Result<Vec<PlacementRow>, StoreError> {
        let sql = if folder.is_mostly_live() { LIVE_BY_UID } else { LIVE_AMONG_DELETED };
        let rows = self.live_rows(sql, folder.id, (0, u32::MAX))?;
        folder.compare(&rows)?;
        Ok(rows)
    }

    /// The live entries of a folder from one UID to another, in their order.
    pub(super) fn live_between(
        &self,
        folder: u64,
        uids: (u32, u32),
    ) -> Result<Vec<PlacementRow>, StoreError> {
        self.live_rows(LIVE_BY_UID, int(folder), uids)
    }

    fn live_rows(&self, sql: &str, folder: i64, uids: (u32, u32)) -> Result<Vec<PlacementRow>, StoreError> {
        let mut select = self.connection.prepare_cached(sql)?;
        let rows = select.query_map(params![folder, uids.0, uids.1], |row| {
            let placed = PlacementRow {
                uid: Uid::new(row.get(0)?).unwrap_or(Uid::FIRST),
                message: unsigned(row.get(1)?),
                receipt_id: row.get::<_, [u8; 16]>(2).map(ReceiptId::from_bytes)?,
                at: Timestamp::from_unix_ms(row.get(3)?),
                epoch: row.get(4)?,
                octets: unsigned(row.get(5)?),
                canonical: canonical(row, 6)?,
            };
            Ok((placed, row.get(9)?))
        })?;
        let verified = |row: rusqlite::Result<(PlacementRow, i64)>| {
            let (row, check) = row?;
            entry_check(unsigned(folder), &row).verify(check, "an entry of a folder").map(|()| row)
        };
        rows.map(verified).collect()
    }

    /// What is known of a folder without a look at its entries.
    fn status(folder: &Folder) -> Result<FolderStatus, StoreError> {
        let name = FolderName::from_key(&folder.name).ok_or_else(|| damaged("a folder's name"))?;
        Ok(FolderStatus {
            path: name.path(folder.slug.as_deref()),
            name,
            uid_validity: folder.uid_validity,
            uid_next: folder.uid_next,
            entries: unsigned(folder.live),
            octets: unsigned(folder.live_octets),
            oldest: None,
            unseen: unsigned(folder.live - folder.flags.seen),
            marked_deleted: unsigned(folder.flags.marked_deleted),
        })
    }

    /// As [`Index::folders`], without the oldest entries.
    pub(in crate::store) fn folders_undated(
        &self,
        gateway_mailbox: GatewayMailboxId,
    ) -> Result<Vec<FolderStatus>, StoreError> {
        let folders = self.at_once(|index| index.folders_of(gateway_mailbox.as_bytes()))?;
        folders.iter().map(Index::status).collect()
    }

    /// The folder with this path. One of a user that is not found by its slug is looked for among all.
    pub(in crate::store) fn folder_at(
        &self,
        gateway_mailbox: GatewayMailboxId,
        path: &str,
    ) -> Result<Option<FolderStatus>, StoreError> {
        let always = [FolderName::Inbox, FolderName::Unassigned, FolderName::Quarantine];
        if let Some(name) = always.into_iter().find(|name| name.path(None) == path) {
            let folder = self.at_once(|index| index.folder_named(gateway_mailbox, &name))?;
            return folder.as_ref().map(Index::status).transpose();
        }
        let Some((slug, _)) = path.strip_prefix("Users/").and_then(|path| path.rsplit_once('/')) else {
            return Ok(None);
        };
        let own = self.at_once(|index| index.folders_with_slug(gateway_mailbox.as_bytes(), slug))?;
        for folder in &own {
            let status = Index::status(folder)?;
            if status.path == path {
                return Ok(Some(status));
            }
        }
        Ok(self.folders_undated(gateway_mailbox)?.into_iter().find(|status| status.path == path))
    }

    fn folders_with_slug(&self, gateway_mailbox: &[u8; 16], slug: &str) -> Result<Vec<Folder>, StoreError> {
        let mut select =
            self.connection.prepare_cached(&format!("SELECT {COLUMNS} FROM folder WHERE {BY_SLUG}"))?;
        let rows = select.query_map(params![slug, gateway_mailbox], read)?;
        rows.map(|row| Folder::verified(row?)).collect()
    }

    /// Every folder of a gateway mailbox: its name, slug, and how many entries of how many octets it holds, the oldest
    /// entry's time. Costs the same however many entries there are.
    pub(in crate::store) fn folders(
        &self,
        gateway_mailbox: GatewayMailboxId,
    ) -> Result<Vec<FolderStatus>, StoreError> {
        self.at_once(|index| {
            let mut oldest = index.connection.prepare_cached(OLDEST)?;
            let folders = index.folders_of(gateway_mailbox.as_bytes())?;
            let status = |folder: Folder| {
                let oldest: Option<i64> = oldest.query_row([folder.id], |row| row.get(0))?;
                Ok(FolderStatus { oldest: oldest.map(Timestamp::from_unix_ms), ..Index::status(&folder)? })
            };
            folders.into_iter().map(status).collect()
        })
    }

    /// All of them, by their numbers.
    fn folders_of(&self, gateway_mailbox: &[u8; 16]) -> Result<Vec<Folder>, StoreError> {
        let mut select = self
            .connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM folder WHERE gateway_mailbox = ? ORDER BY id"))?;
        let mut folders = Vec::new();
        let mut census = Census::default();
        let mut rows = select.query([gateway_mailbox])?;
        while let Some(row) = rows.next()? {
            let folder = Folder::verified(read(row)?)?;
            census.add(folder.presence());
            folders.push(folder);
        }
        self.compare(gateway_mailbox, census, "folders")?;
        Ok(folders)
    }

    /// Looks through every folder: all its live entries, and the messages and objects behind them. Gives how many folders
    /// and entries that were; what is damaged is told, and stepped over.
    pub(in crate::store) fn examine_folders(
        &self,
        go_on: &dyn Fn() -> bool,
        tell: &mut dyn FnMut(StoreError),
    ) -> Result<(u64, u64), StoreError> {
        let mut owners: Vec<[u8; 16]> = Vec::new();
        // A folder whose gateway mailbox is not counted is wrong as well.
        let mut select = self.connection.prepare(
            "SELECT scope FROM census WHERE length(scope) = 16 UNION SELECT gateway_mailbox FROM folder",
        )?;
        for owner in select.query_map([], |row| row.get(0))? {
            owners.push(owner?);
        }
        let (mut folders, mut entries) = (0, 0);
        for owner in owners {
            let found = self.folders_of(&owner).unwrap_or_else(|error| {
                tell(error);
                Vec::new()
            });
            for folder in found {
                if !go_on() {
                    return Ok((folders, entries));
                }
                folders += 1;
                match self
                    .placements(&folder)
                    .and_then(|rows| self.examine_entries(&rows).map(|()| rows.len()))
                {
                    Ok(count) => entries += count as u64,
                    Err(error) => tell(error),
                }
                self.all_flags(&folder).map(drop).unwrap_or_else(&mut *tell);
            }
        }
        Ok((folders, entries))
    }

    fn examine_entries(&self, rows: &[PlacementRow]) -> Result<(), StoreError> {
        for row in rows {
            self.receipt_entries(row.receipt_id)?;
            for extent in self.message(row.message)?.extents {
                match self.object(extent.object) {
                    // The log lost its entry: named when the index was made.
                    Ok(_) | Err(StoreError::Gone) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Leaves a gap of so many before the next UID of every folder.
    pub(super) fn skip_uids_of_all(&self, skipped: u32) -> Result<(), StoreError> {
        let mut select = self.connection.prepare("SELECT id FROM folder")?;
        let ids: Vec<i64> = select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for id in ids {
            if let Some(mut folder) = self.folder_of(unsigned(id))? {
                folder.uid_next = folder.uid_next.saturating_add(skipped);
                // Changes may be lost too: what a client was told then must not pass for what is said next.
                folder.flags.changes = folder.flags.changes.saturating_add(skipped.into());
                self.save_folder(&folder)?;
            }
        }
        Ok(())
    }
}

/// A message's canonical size, from its octets, lines and flags.
pub(super) fn canonical(row: &Row<'_>, column: usize) -> rusqlite::Result<CanonicalSize> {
    let flags: i64 = row.get(column + 2)?;
    Ok(CanonicalSize {
        octets: unsigned(row.get(column)?),
        lines: unsigned(row.get(column + 1)?),
        bare_line_ends: flags & super::FLAG_BARE_LINE_ENDS != 0,
        ends_with_line_end: flags & super::FLAG_ENDS_WITH_LINE_END != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::super::questions::tests::{plan, position};
    use super::*;

    #[test]
    fn what_a_folder_holds_is_known_without_walking_through_it() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::create(&dir.path().join("index")).unwrap();
        let oldest = plan(&index, OLDEST);
        position(&oldest, "SEARCH placement USING INDEX placement_live (folder=?)");
        assert_eq!(oldest.len(), 1, "{oldest:#?}");
        let of_user = plan(&index, &format!("SELECT {COLUMNS} FROM folder WHERE {BY_SLUG}"));
        position(&of_user, "SEARCH folder USING INDEX folder_slug (slug=? AND gateway_mailbox=?)");
        let few = plan(&index, LIVE_AMONG_DELETED);
        position(&few, "SEARCH p USING INDEX placement_live (folder=?)");
        let all = plan(&index, LIVE_BY_UID);
        position(&all, "SEARCH p USING PRIMARY KEY (folder=? AND uid>? AND uid<?)");
    }
}
