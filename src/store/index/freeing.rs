//! What is asked before content is freed and while its room is given back, and what that changes besides the log.
//!
//! Whether an object is needed is asked from the object: which messages lie in it, and which entries those have. The walk through
//! all entries that asks the other way round is in `store/freeing/needed.rs`.

use super::folders::{canonical, entry_sum};
use super::sums::damaged;
use super::{Index, MessageRow, PlacementRow, int, receipt_id, unsigned};
use crate::mail::{GatewayMailboxId, ReceiptId, Timestamp, Uid};
use crate::store::fact::{MessageFact, PlacementFact};
use crate::store::{FolderName, StoreError};
use rusqlite::{OptionalExtension, params};
use std::collections::HashSet;

/// The entries of a message, and whether each is live or can be had back.
const ENTRIES: &str = "SELECT p.folder, p.uid, p.deleted_at IS NULL OR EXISTS (SELECT 1 FROM in_grace g
    WHERE g.folder = p.folder AND g.deleted_at = p.deleted_at AND g.uid = p.uid)
FROM placement p INDEXED BY placement_message WHERE p.message = ?";
/// The same of a receipt, in one gateway mailbox.
const ENTRIES_OF_RECEIPT: &str =
    "SELECT p.folder, p.uid, p.deleted_at IS NULL OR EXISTS (SELECT 1 FROM in_grace g
    WHERE g.folder = p.folder AND g.deleted_at = p.deleted_at AND g.uid = p.uid)
FROM placement p INDEXED BY placement_receipt CROSS JOIN folder f ON f.id = p.folder
WHERE p.receipt = ? AND f.gateway_mailbox = ?";
/// All entries a folder ever had, by their key and by no index, with what its sum of live ones is made of.
const PLACED: &str = "SELECT p.uid, p.message, p.receipt, p.at, p.epoch, m.octets, m.canonical_octets, m.lines, m.flags, p.deleted_at
FROM placement p NOT INDEXED LEFT JOIN message m ON m.id = p.message
WHERE p.folder = ? ORDER BY p.uid";
/// The next folder, be it that of an entry alone.
const NEXT_FOLDER: &str = "SELECT min(id) FROM (SELECT min(id) AS id FROM folder WHERE id > ?1
UNION ALL SELECT min(folder) FROM placement NOT INDEXED WHERE folder > ?1)";
/// The entries of a receipt whose messages are received ones, in the gateway mailbox of a folder: what came as a whole, or stands
/// where whole reports do.
const REPORTS: &str = "SELECT p.folder, p.uid, p.message FROM placement p INDEXED BY placement_receipt
CROSS JOIN folder f ON f.id = p.folder LEFT JOIN message m ON m.id = p.message
WHERE p.receipt = ?1 AND f.gateway_mailbox = (SELECT gateway_mailbox FROM folder WHERE id = ?2)
AND (m.sha256 IS NOT NULL OR instr(f.name, '/') = 0)";
/// The receipts that a message is the received one of.
const REPORTED_BY: &str =
    "SELECT DISTINCT p.receipt, f.gateway_mailbox FROM placement p INDEXED BY placement_message
CROSS JOIN folder f ON f.id = p.folder LEFT JOIN message m ON m.id = p.message
WHERE p.message = ? AND (m.sha256 IS NOT NULL OR instr(f.name, '/') = 0)";
/// What is still to be given back of each segment: how much, and since when.
const UNPUNCHED: &str = "SELECT o.segment, sum(o.sealed_octets), min(f.at)
FROM unpunched u CROSS JOIN object o ON o.id = u.object CROSS JOIN freed f ON f.object = u.object
WHERE o.file IS NULL AND o.segment IS NOT NULL GROUP BY o.segment";

/// A deleted entry that can be had back.
pub(in crate::store) struct DueEntry {
    pub(in crate::store) uid: Uid,
    pub(in crate::store) deleted_at: Timestamp,
    pub(in crate::store) message: u64,
    pub(in crate::store) receipt_id: ReceiptId,
}

/// An entry, live or ended.
pub(in crate::store) struct PlacedEntry {
    pub(in crate::store) folder: u64,
    pub(in crate::store) ended: Option<Timestamp>,
    pub(in crate::store) message: u64,
    pub(in crate::store) receipt_id: ReceiptId,
}

/// An object that no entry of its receipt leads to.
pub(in crate::store) struct Unplaced {
    pub(in crate::store) object: u64,
    pub(in crate::store) receipt_id: ReceiptId,
    pub(in crate::store) gateway_mailbox: GatewayMailboxId,
    pub(in crate::store) at: Timestamp,
}

/// Whether somebody can still ask for what lies in an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Needed {
    Yes,
    No,
    /// So many that nobody needs were looked at that the rest was not.
    Untold,
}

impl Index {
    /// Notes the objects of these messages that no entry made with them leads to.
    pub(super) fn insert_unplaced<'a>(
        &self,
        (receipt, gateway_mailbox, at): (ReceiptId, GatewayMailboxId, Timestamp),
        messages: &[MessageFact],
        placements: impl Iterator<Item = &'a PlacementFact>,
    ) -> Result<(), StoreError> {
        let placed: HashSet<u64> = placements.map(|placement| placement.message).collect();
        let objects = |is_placed: bool| {
            let of = messages.iter().filter(|message| placed.contains(&message.message) == is_placed);
            let of = of.flat_map(|m| m.extents.iter().map(|extent| extent.object).chain([m.summary.0]));
            of.collect::<HashSet<u64>>()
        };
        let (led_to, others) = (objects(true), objects(false));
        let mut insert =
            self.connection.prepare_cached("INSERT OR IGNORE INTO unplaced VALUES (?, ?, ?, ?)")?;
        for object in others.difference(&led_to) {
            if !self.is_freed(*object)? {
                let id = gateway_mailbox.as_bytes();
                insert.execute(params![int(*object), receipt.as_bytes(), id, at.unix_ms()])?;
            }
        }
        Ok(())
    }

    /// When the content of a message was freed, or the first part of it.
    pub(in crate::store) fn freed_at(&self, message: &MessageRow) -> Result<Option<Timestamp>, StoreError> {
        let mut select = self.connection.prepare_cached("SELECT at FROM freed WHERE object = ?")?;
        let mut first: Option<i64> = None;
        for object in message.extents.iter().map(|extent| extent.object).chain([message.summary]) {
            let at: Option<i64> = select.query_row([int(object)], |row| row.get(0)).optional()?;
            first = first.into_iter().chain(at).min();
        }
        Ok(first.map(Timestamp::from_unix_ms))
    }

    /// The same by the number of the message. One whose entry was lost has no content that could be, and one that is only being
    /// made, or planned, has no row yet.
    pub(in crate::store) fn message_freed_at(&self, message: u64) -> Result<Option<Timestamp>, StoreError> {
        let mut known = self.connection.prepare_cached("SELECT 1 FROM message WHERE id = ?")?;
        if !known.exists([int(message)])? {
            return Ok(None);
        }
        match self.message(message) {
            Ok(row) => self.freed_at(&row),
            Err(StoreError::Gone) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every folder of a gateway mailbox, deleted or not, with its number.
    pub(in crate::store) fn folders_to_free(
        &self,
        gateway_mailbox: GatewayMailboxId,
    ) -> Result<Vec<(u64, FolderName)>, StoreError> {
        let mut select = self
            .connection
            .prepare_cached("SELECT id, name FROM folder WHERE gateway_mailbox = ? ORDER BY id")?;
        let mut rows = select.query([gateway_mailbox.as_bytes()])?;
        let mut folders = Vec::new();
        while let Some(row) = rows.next()? {
            let name: String = row.get(1)?;
            folders.extend(FolderName::from_key(&name).map(|name| (row.get(0).map(unsigned), name)));
        }
        folders.into_iter().map(|(id, name)| Ok((id?, name))).collect()
    }

    /// Deleted entries of a folder that can be had back, oldest deletion first, behind this one.
    pub(in crate::store) fn in_grace_behind(
        &self,
        folder: u64,
        after: (i64, u32),
        most: usize,
    ) -> Result<Vec<(Timestamp, Uid)>, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT deleted_at, uid FROM in_grace WHERE folder = ?1 AND (deleted_at, uid) > (?2, ?3)
             ORDER BY deleted_at, uid LIMIT ?4",
        )?;
        let mut rows = select.query(params![int(folder), after.0, after.1, int(most as u64)])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let at = Timestamp::from_unix_ms(row.get(0)?);
            found.extend(Uid::new(row.get(1)?).map(|uid| (at, uid)));
        }
        Ok(found)
    }

    /// Those of `uids` that can be had back now.
    pub(in crate::store) fn in_grace_of(
        &self,
        folder: u64,
        uids: &[Uid],
    ) -> Result<Vec<DueEntry>, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT p.deleted_at, p.message, p.receipt FROM placement p
             CROSS JOIN in_grace g ON g.folder = p.folder AND g.deleted_at = p.deleted_at AND g.uid = p.uid
             WHERE p.folder = ? AND p.uid = ?",
        )?;
        let mut found = Vec::new();
        for uid in uids {
            let row = select.query_row(params![int(folder), uid.value()], |row| {
                let deleted_at = Timestamp::from_unix_ms(row.get(0)?);
                let (message, receipt_id) = (unsigned(row.get(1)?), receipt_id(row, 2)?);
                Ok(DueEntry { uid: *uid, deleted_at, message, receipt_id })
            });
            found.extend(row.optional()?);
        }
        Ok(found)
    }

    /// The folder behind this one.
    pub(in crate::store) fn folder_behind(&self, after: Option<u64>) -> Result<Option<u64>, StoreError> {
        let mut select = self.connection.prepare_cached(NEXT_FOLDER)?;
        let after = after.map_or(i64::MIN, int);
        Ok(select.query_row([after], |row| row.get::<_, Option<i64>>(0))?.map(unsigned))
    }

    /// Hands over every entry that a folder ever had, until `take` wants no more; false then.
    ///
    /// # Errors
    /// [`StoreError::IndexDamaged`] when those that are live are not what the folder knows of them: no row says by itself that it
    /// is as it was written.
    pub(in crate::store) fn placed_in(
        &self,
        folder: u64,
        take: &mut dyn FnMut(&PlacedEntry) -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        let known = self.folder_of(folder)?;
        let known = known.ok_or_else(|| damaged(format!("folder {folder} is not there, and has entries")))?;
        let mut select = self.connection.prepare_cached(PLACED)?;
        let mut rows = select.query([int(folder)])?;
        let (mut live, mut sum) = (0, 0_i64);
        while let Some(row) = rows.next()? {
            let ended: Option<i64> = row.get(9)?;
            let (message, receipt_id) = (unsigned(row.get(1)?), receipt_id(row, 2)?);
            if ended.is_none() {
                live += 1;
                // One whose message is not there comes to nothing that fits.
                if row.get::<_, Option<i64>>(5)?.is_some() {
                    let entry = PlacementRow {
                        uid: Uid::new(row.get(0)?).unwrap_or(Uid::FIRST),
                        message,
                        receipt_id,
                        at: Timestamp::from_unix_ms(row.get(3)?),
                        epoch: row.get(4)?,
                        octets: unsigned(row.get(5)?),
                        canonical: canonical(row, 6)?,
                    };
                    sum = sum.wrapping_add(entry_sum(folder, &entry));
                }
            }
            let ended = ended.map(Timestamp::from_unix_ms);
            if !take(&PlacedEntry { folder, ended, message, receipt_id })? {
                return Ok(false);
            }
        }
        known.compare_sum(live, sum).map(|()| true)
    }

    /// The received messages of a receipt, in the gateway mailbox of this folder.
    pub(in crate::store) fn reports_of(
        &self,
        receipt: ReceiptId,
        folder: u64,
    ) -> Result<Vec<u64>, StoreError> {
        let mut select = self.connection.prepare_cached(REPORTS)?;
        let rows =
            select.query_map(params![receipt.as_bytes(), int(folder)], |row| row.get(2).map(unsigned))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The objects that a message lies in, or has its summary in.
    pub(in crate::store) fn objects_of(&self, message: u64) -> Result<Vec<u64>, StoreError> {
        self.objects("SELECT object FROM object_use WHERE message = ?", params![int(message)])
    }

    /// The objects that belong to a receipt and that none of its entries leads to, no more than `most`, and since when they are
    /// there.
    pub(in crate::store) fn unplaced_of(
        &self,
        receipt: ReceiptId,
        gateway_mailbox: GatewayMailboxId,
        most: usize,
    ) -> Result<Vec<(u64, Timestamp)>, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT object, at FROM unplaced WHERE receipt = ? AND gateway_mailbox = ? LIMIT ?",
        )?;
        let of = params![receipt.as_bytes(), gateway_mailbox.as_bytes(), int(most as u64)];
        let rows =
            select.query_map(of, |row| Ok((unsigned(row.get(0)?), Timestamp::from_unix_ms(row.get(1)?))))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn objects(&self, select: &str, parameters: &[&dyn rusqlite::ToSql]) -> Result<Vec<u64>, StoreError> {
        let mut select = self.connection.prepare_cached(select)?;
        let rows = select.query_map(parameters, |row| row.get(0).map(unsigned))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Those objects of all receipts, behind this one.
    pub(in crate::store) fn unplaced_behind(
        &self,
        (object, receipt): (u64, ReceiptId),
        most: usize,
    ) -> Result<Vec<Unplaced>, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT object, receipt, gateway_mailbox, at FROM unplaced WHERE (object, receipt) > (?1, ?2)
             ORDER BY object, receipt LIMIT ?3",
        )?;
        let parameters = params![int(object), receipt.as_bytes(), int(most as u64)];
        let rows = select.query_map(parameters, |row| {
            Ok(Unplaced {
                object: unsigned(row.get(0)?),
                receipt_id: receipt_id(row, 1)?,
                gateway_mailbox: GatewayMailboxId::from_bytes(row.get(2)?),
                at: Timestamp::from_unix_ms(row.get(3)?),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A folder that a receipt had an entry in.
    pub(in crate::store) fn folder_of_receipt(
        &self,
        receipt: ReceiptId,
        gateway_mailbox: GatewayMailboxId,
    ) -> Result<Option<u64>, StoreError> {
        let mut select = self.connection.prepare_cached(ENTRIES_OF_RECEIPT)?;
        let parameters = params![receipt.as_bytes(), gateway_mailbox.as_bytes()];
        Ok(select.query_row(parameters, |row| row.get(0).map(unsigned)).optional()?)
    }

    /// True when a receipt has an entry that is live or can be had back, beside those that are taken for gone.
    pub(in crate::store) fn has_entries(
        &self,
        receipt: ReceiptId,
        gateway_mailbox: GatewayMailboxId,
        gone: &dyn Fn(u64, u32) -> bool,
    ) -> Result<bool, StoreError> {
        let mut select = self.connection.prepare_cached(ENTRIES_OF_RECEIPT)?;
        let mut rows = select.query(params![receipt.as_bytes(), gateway_mailbox.as_bytes()])?;
        Ok(any_entry(&mut rows, gone, &mut endless())? == Needed::Yes)
    }

    /// Whether an entry that is live or can be had back, beside those that are taken for gone, leads to an object: by its
    /// message, or because it came by the report that lies there. An object without an entry is needed also until its own grace
    /// is over. Looks at no more than `most` entries and messages, the newest first.
    pub(in crate::store) fn is_needed(
        &self,
        object: u64,
        gone: &dyn Fn(u64, u32) -> bool,
        is_over: &dyn Fn(Timestamp) -> bool,
        most: usize,
    ) -> Result<Needed, StoreError> {
        let mut left = most;
        let mut uses = self
            .connection
            .prepare_cached("SELECT message FROM object_use WHERE object = ? ORDER BY message DESC")?;
        let mut entries = self.connection.prepare_cached(ENTRIES)?;
        let mut messages = uses.query([int(object)])?;
        while let Some(row) = messages.next()? {
            let message: i64 = row.get(0)?;
            match any_entry(&mut entries.query([message])?, gone, &mut left)? {
                Needed::No => {}
                other => return Ok(other),
            }
            match self.is_needed_report(message, gone, &mut left)? {
                Needed::No => {}
                other => return Ok(other),
            }
        }
        let mut unplaced = self
            .connection
            .prepare_cached("SELECT receipt, gateway_mailbox, at FROM unplaced WHERE object = ?")?;
        let mut owners = unplaced.query([int(object)])?;
        while let Some(row) = owners.next()? {
            let gateway_mailbox = GatewayMailboxId::from_bytes(row.get(1)?);
            if !is_over(Timestamp::from_unix_ms(row.get(2)?))
                || self.has_entries(receipt_id(row, 0)?, gateway_mailbox, gone)?
            {
                return Ok(Needed::Yes);
            }
        }
        Ok(Needed::No)
    }

    /// Whether a message is a report by which an entry came that is live or can be had back.
    fn is_needed_report(
        &self,
        message: i64,
        gone: &dyn Fn(u64, u32) -> bool,
        left: &mut usize,
    ) -> Result<Needed, StoreError> {
        let mut reported = self.connection.prepare_cached(REPORTED_BY)?;
        let mut entries = self.connection.prepare_cached(ENTRIES_OF_RECEIPT)?;
        let mut receipts = reported.query([message])?;
        while let Some(row) = receipts.next()? {
            let (receipt, owner): ([u8; 16], [u8; 16]) = (row.get(0)?, row.get(1)?);
            match any_entry(&mut entries.query([receipt, owner])?, gone, left)? {
                Needed::No => {}
                other => return Ok(other),
            }
        }
        Ok(Needed::No)
    }

    /// True when from an object a message is found that lies in it, and from that one an entry that is there.
    pub(in crate::store) fn leads_to(&self, object: u64, message: u64) -> Result<bool, StoreError> {
        let mut uses =
            self.connection.prepare_cached("SELECT 1 FROM object_use WHERE object = ? AND message = ?")?;
        let mut entries = self.connection.prepare_cached(ENTRIES)?;
        let is_used = uses.exists([int(object), int(message)])?;
        let mut rows = entries.query([int(message)])?;
        Ok(is_used && any_entry(&mut rows, &|_, _| false, &mut endless())? == Needed::Yes)
    }

    /// Content files that are still to be removed, by the object that lies in each, behind this one.
    pub(in crate::store) fn unpunched_files(
        &self,
        after: u64,
        most: usize,
    ) -> Result<Vec<(u64, String)>, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT o.id, o.file FROM unpunched u CROSS JOIN object o ON o.id = u.object
             WHERE u.object > ? AND o.file IS NOT NULL ORDER BY u.object LIMIT ?",
        )?;
        let rows = select.query_map([int(after), int(most as u64)], |row| {
            Ok((unsigned(row.get(0)?), row.get::<_, String>(1)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many objects lie in a content file.
    pub(in crate::store) fn objects_in_file(&self, file: &str) -> Result<u64, StoreError> {
        let mut select = self.connection.prepare_cached("SELECT count(*) FROM object WHERE file = ?")?;
        Ok(select.query_row([file], |row| row.get(0).map(unsigned))?)
    }

    /// Segments in which content is still to be given back: how many octets of it, and when the first of it was freed.
    pub(in crate::store) fn unpunched_segments(&self) -> Result<Vec<(u64, u64, Timestamp)>, StoreError> {
        let mut select = self.connection.prepare_cached(UNPUNCHED)?;
        let rows = select.query_map([], |row| {
            let at = Timestamp::from_unix_ms(row.get(2)?);
            Ok((unsigned(row.get(0)?), unsigned(row.get(1)?), at))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Objects of a segment that are still to be given back.
    pub(in crate::store) fn unpunched_of(&self, segment: u64, most: usize) -> Result<Vec<u64>, StoreError> {
        self.objects(
            "SELECT u.object FROM unpunched u CROSS JOIN object o ON o.id = u.object
             WHERE o.file IS NULL AND o.segment = ? LIMIT ?",
            params![int(segment), int(most as u64)],
        )
    }

    /// Objects of which there is nothing that could be given back: the entries that told of them are lost.
    pub(in crate::store) fn unpunched_lost(&self, most: usize) -> Result<Vec<u64>, StoreError> {
        self.objects(
            "SELECT u.object FROM unpunched u LEFT JOIN object o ON o.id = u.object
             WHERE o.file IS NULL AND o.segment IS NULL LIMIT ?",
            params![int(most as u64)],
        )
    }

    /// Objects from one number to another whose content is freed.
    pub(in crate::store) fn freed_between(&self, first: u64, last: u64) -> Result<HashSet<u64>, StoreError> {
        let select = "SELECT object FROM freed WHERE object BETWEEN ? AND ?";
        Ok(self.objects(select, params![int(first), int(last)])?.into_iter().collect())
    }

    /// Those of them that are still to be given back.
    pub(in crate::store) fn unpunched_between(
        &self,
        first: u64,
        last: u64,
    ) -> Result<HashSet<u64>, StoreError> {
        let select = "SELECT object FROM unpunched WHERE object BETWEEN ? AND ?";
        Ok(self.objects(select, params![int(first), int(last)])?.into_iter().collect())
    }

    /// How many objects are still to be given back.
    pub(in crate::store) fn unpunched_count(&self) -> Result<u64, StoreError> {
        let mut select = self.connection.prepare_cached("SELECT count(*) FROM unpunched")?;
        Ok(select.query_row([], |row| row.get(0).map(unsigned))?)
    }

    /// The octets of these are given back.
    pub(in crate::store) fn strike(&self, objects: &[u64]) -> Result<(), StoreError> {
        let mut delete = self.connection.prepare_cached("DELETE FROM unpunched WHERE object = ?")?;
        objects.iter().try_for_each(|object| Ok(delete.execute([int(*object)]).map(drop)?))
    }
}

/// As many looks as it takes.
fn endless() -> usize {
    usize::MAX
}

/// Goes through entries until one is needed.
fn any_entry(
    rows: &mut rusqlite::Rows<'_>,
    gone: &dyn Fn(u64, u32) -> bool,
    left: &mut usize,
) -> Result<Needed, StoreError> {
    while let Some(row) = rows.next()? {
        if row.get::<_, bool>(2)? && !gone(unsigned(row.get(0)?), row.get(1)?) {
            return Ok(Needed::Yes);
        }
        let Some(rest) = left.checked_sub(1) else { return Ok(Needed::Untold) };
        *left = rest;
    }
    Ok(Needed::No)
}

#[cfg(test)]
mod tests {
    use super::super::questions::tests::{plan, position};
    use super::*;

    #[test]
    fn what_is_needed_is_found_by_its_indexes_and_the_second_look_uses_none() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::create(&dir.path().join("index")).unwrap();
        let entries = plan(&index, ENTRIES);
        position(&entries, "SEARCH p USING INDEX placement_message (message=?)");
        position(&entries, "SEARCH g USING PRIMARY KEY (folder=? AND deleted_at=? AND uid=?)");
        position(&plan(&index, ENTRIES_OF_RECEIPT), "SEARCH p USING INDEX placement_receipt (receipt=?)");
        let placed = plan(&index, PLACED);
        position(&placed, "SEARCH p USING PRIMARY KEY (folder=?)");
        assert!(!placed.iter().any(|step| step.contains("ORDER BY")), "{placed:#?}");
        position(&plan(&index, REPORTS), "SEARCH p USING INDEX placement_receipt (receipt=?)");
        position(&plan(&index, REPORTED_BY), "SEARCH p USING INDEX placement_message (message=?)");
        position(
            &plan(&index, "SELECT object FROM object_use WHERE message = ?"),
            "SEARCH object_use USING COVERING INDEX object_use_message (message=?)",
        );
    }
}
