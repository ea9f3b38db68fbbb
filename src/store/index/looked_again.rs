//! Receipts that are looked at again: what their entries change, and what is asked of them; and the walk through receipts to look at.

use super::apply::{names, revision_check};
use super::questions::{ARRIVAL_ORDER_SLACK_MS, entry_places};
use super::sums::Kind;
use super::{Came, Index, Place, int, receipt_id, unsigned};
use crate::mail::{GatewayMailboxId, ReceiptId, Uid};
use crate::store::fact::RevisedFact;
use crate::store::recall::EntryPlace;
use crate::store::{Digest, StoreError, Walk};
use rusqlite::params;

/// Receipts of a gateway mailbox behind an id, oldest first.
const WALK: &str = "SELECT id FROM receipt r
WHERE r.id > ?1 AND r.gateway_mailbox = ?2 AND r.at >= ?3 ORDER BY r.id LIMIT ?4";
/// The same, of those with an entry in a folder: all of its entries are looked at each time.
const WALK_SMALL_FOLDER: &str =
    "SELECT DISTINCT r.id FROM placement p CROSS JOIN receipt r ON r.id = p.receipt
WHERE p.folder = ?5 AND p.deleted_at IS NULL AND p.receipt > ?1 AND r.gateway_mailbox = ?2 AND r.at >= ?3
ORDER BY r.id LIMIT ?4";
/// The same, where the folder has had so many that going through the receipts is less.
const WALK_LARGE_FOLDER: &str = "SELECT id FROM receipt r
WHERE r.id > ?1 AND r.gateway_mailbox = ?2 AND r.at >= ?3 AND EXISTS (
    SELECT 1 FROM placement p WHERE p.receipt = r.id AND p.folder = ?5 AND p.deleted_at IS NULL)
ORDER BY r.id LIMIT ?4";
/// The entries in a folder of the receipts beside one that have an identity, from the beginning or since they were looked
/// at again, deleted ones included, but none that left: another came for it. Of so many receipts, the oldest: of copies
/// released together, the first has the entry.
const ALL_OF_SAME: &str = "SELECT p.uid, p.message FROM (
    SELECT id AS receipt FROM receipt WHERE gateway_mailbox = ?1 AND identity = ?2 AND id <> ?3
    UNION SELECT receipt FROM revision WHERE gateway_mailbox = ?1 AND identity = ?2 AND receipt <> ?3
    ORDER BY receipt LIMIT 64) same
CROSS JOIN placement p ON p.receipt = same.receipt AND p.folder = ?4
WHERE NOT EXISTS (SELECT 1 FROM departure d WHERE d.folder = p.folder AND d.uid = p.uid) ORDER BY p.uid";
/// Entries a folder has had, from which on it is a large one.
const SMALL_FOLDER_UIDS_MAX: u32 = 50_000;

impl Index {
    pub(super) fn apply_revised(&self, fact: &RevisedFact, place: &Place) -> Result<(), StoreError> {
        self.insert_revision(fact, place)?;
        if let Some(reading) = &fact.reading {
            for message in &reading.messages {
                // The received message is held already: its row has the hash of the plain octets.
                self.insert_message(&fact.gateway_mailbox, message, None)?;
            }
            let of = (fact.receipt_id, fact.gateway_mailbox, fact.at);
            self.insert_unplaced(
                of,
                &reading.messages,
                fact.placements.iter().map(|later| &later.placement),
            )?;
            let ids = [&reading.parent_message_id, &reading.returned_message_id];
            self.insert_names(fact.receipt_id, names(&ids, &reading.reports, &reading.messages))?;
        }
        let of = Came {
            receipt_id: fact.receipt_id,
            gateway_mailbox: fact.gateway_mailbox,
            at: fact.received_at,
            epoch: fact.epoch,
        };
        for later in &fact.placements {
            self.insert_placement(&of, &later.placement, Some(later.join.0))?;
            self.insert_placed_later(&later.placement)?;
        }
        if let Some(from) = fact.kept_from() {
            self.insert_kept_from(fact.receipt_id, from)?;
        }
        for left in &fact.left {
            let (folder, uid) = (int(left.folder), left.uid.value());
            let at = fact.at.unix_ms();
            let left_now = self.end_placements(left.folder, (uid, uid), fact.at, |index| {
                index
                    .connection
                    .prepare_cached(
                        "UPDATE placement SET deleted_at = ?, join_digest = NULL
                         WHERE folder = ? AND uid = ? AND deleted_at IS NULL",
                    )?
                    .execute(params![at, folder, uid])
            })?;
            if left_now > 0 {
                self.connection
                    .prepare_cached("INSERT INTO departure VALUES (?, ?, ?, ?, ?)")?
                    .execute(params![folder, uid, at, fact.kind.as_str(), fact.actor])?;
            }
        }
        Ok(())
    }

    fn insert_revision(&self, fact: &RevisedFact, place: &Place) -> Result<(), StoreError> {
        let key = (fact.receipt_id.as_bytes(), fact.gateway_mailbox.as_bytes());
        let mut select = self.connection.prepare_cached(
            "SELECT coalesce(max(number), 0) + 1 FROM revision WHERE receipt = ? AND gateway_mailbox = ?",
        )?;
        let number: i64 = select.query_row(params![key.0, key.1], |row| row.get(0))?;
        let numbers = [number, int(place.segment), int(place.entry_offset), i64::from(place.entry_octets)];
        let identity = fact.identity.map(|identity| identity.0);
        let check = revision_check(key, numbers, identity);
        self.insert_entry(
            "INSERT INTO revision VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            key,
            numbers,
            identity,
            check,
        )
    }

    /// The first entry a receipt has of a message in a folder that `counts`, deleted ones included, but none that left, or that
    /// was brought back: it is another now.
    pub(in crate::store) fn entry_of_receipt(
        &self,
        folder: u64,
        receipt: ReceiptId,
        message: u64,
        counts: impl Fn(Uid) -> Result<bool, StoreError>,
    ) -> Result<Option<Uid>, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT p.uid FROM placement p WHERE p.receipt = ? AND p.folder = ? AND p.message = ? AND NOT EXISTS (
                 SELECT 1 FROM departure d WHERE d.folder = p.folder AND d.uid = p.uid)
             AND NOT EXISTS (
                 SELECT 1 FROM keeping_event e WHERE e.folder = p.folder AND e.first = p.uid AND e.kind = 'undeleted')
             ORDER BY p.uid",
        )?;
        let mut rows = select.query(params![receipt.as_bytes(), int(folder), int(message)])?;
        while let Some(row) = rows.next()? {
            let Some(uid) = Uid::new(row.get(0)?) else { continue };
            if counts(uid)? {
                return Ok(Some(uid));
            }
        }
        Ok(None)
    }

    /// The first entry in a folder of the receipts beside `receipt` that have this identity, from the beginning or since they
    /// were looked at again. Deleted ones are included, as long as they can be read: what a client took stays taken.
    pub(in crate::store) fn first_entry_of_same(
        &self,
        folder: u64,
        gateway_mailbox: GatewayMailboxId,
        receipt: ReceiptId,
        identity: &Digest,
    ) -> Result<Option<Uid>, StoreError> {
        let mut select = self.connection.prepare_cached(ALL_OF_SAME)?;
        let of = params![gateway_mailbox.as_bytes(), identity.0, receipt.as_bytes(), int(folder)];
        let mut rows = select.query(of)?;
        while let Some(row) = rows.next()? {
            if self.message_freed_at(unsigned(row.get(1)?))?.is_none() {
                return Ok(Uid::new(row.get(0)?));
            }
        }
        Ok(None)
    }

    /// What is there now of a receipt in a folder, in UID order.
    pub(in crate::store) fn live_entries_of_receipt(
        &self,
        folder: u64,
        receipt: ReceiptId,
    ) -> Result<Vec<Uid>, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT uid FROM placement WHERE receipt = ? AND folder = ? AND deleted_at IS NULL ORDER BY uid",
        )?;
        let rows = select.query_map(params![receipt.as_bytes(), int(folder)], |row| row.get(0))?;
        let uids: Vec<u32> = rows.collect::<Result<_, _>>()?;
        Ok(uids.into_iter().filter_map(Uid::new).collect())
    }

    /// Where the entries stand that look at a receipt again, oldest first.
    pub(in crate::store) fn revision_entries(
        &self,
        receipt: ReceiptId,
        gateway_mailbox: GatewayMailboxId,
    ) -> Result<Vec<EntryPlace>, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT receipt, gateway_mailbox, number, segment, place, octets, identity, row_check FROM revision
             WHERE receipt = ? AND gateway_mailbox = ? ORDER BY number",
        )?;
        entry_places(Kind::Revision, select.query(params![receipt.as_bytes(), gateway_mailbox.as_bytes()])?)
    }

    /// The receipts a walk goes through.
    pub(in crate::store) fn walk(&self, walk: &Walk) -> Result<Vec<ReceiptId>, StoreError> {
        // A receipt's id is drawn when its transaction begins, its time when that ends.
        let since = unsigned(walk.since.unix_ms().saturating_sub(ARRIVAL_ORDER_SLACK_MS));
        let from = ReceiptId::new(since, [0; 10]).max(walk.after.unwrap_or(ReceiptId::from_bytes([0; 16])));
        let of = walk.gateway_mailbox.as_bytes();
        let (from, at, most) = (from.as_bytes(), walk.since.unix_ms(), int(walk.most as u64));
        let ids = |sql, folder: Option<u64>| -> Result<Vec<ReceiptId>, StoreError> {
            let mut select = self.connection.prepare_cached(sql)?;
            let id = |row: &rusqlite::Row<'_>| receipt_id(row, 0);
            Ok(match folder {
                Some(folder) => select.query_map(params![from, of, at, most, int(folder)], id)?.collect(),
                None => select.query_map(params![from, of, at, most], id)?.collect::<Result<_, _>>(),
            }?)
        };
        let Some(name) = &walk.folder else { return ids(WALK, None) };
        match self.folder(walk.gateway_mailbox, name)? {
            None => Ok(Vec::new()),
            Some(folder) if folder.uid_next.value() <= SMALL_FOLDER_UIDS_MAX => {
                ids(WALK_SMALL_FOLDER, Some(folder.id))
            }
            Some(folder) => ids(WALK_LARGE_FOLDER, Some(folder.id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::questions::tests::{plan, position};
    use super::*;

    #[test]
    fn a_walk_reads_receipts_in_their_order_and_entries_of_its_folder_alone() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::create(&dir.path().join("index")).unwrap();
        let all = plan(&index, WALK);
        position(&all, "SEARCH r USING PRIMARY KEY (id>?)");
        let small = plan(&index, WALK_SMALL_FOLDER);
        let steps = [
            "SEARCH p USING PRIMARY KEY (folder=?)",
            "SEARCH r USING PRIMARY KEY (id=? AND gateway_mailbox=?)",
        ];
        assert!(steps.map(|step| position(&small, step)).is_sorted(), "{small:#?}");
        let large = plan(&index, WALK_LARGE_FOLDER);
        position(&large, "SEARCH r USING PRIMARY KEY (id>?)");
        position(&large, "SEARCH p EXISTS USING INDEX placement_receipt (receipt=? AND folder=?)");
        for walk in [all, large] {
            assert!(!walk.iter().any(|step| step.contains("TEMP B-TREE")), "{walk:#?}");
        }
    }

    #[test]
    fn what_copies_of_a_report_have_is_found_by_their_identity_and_not_in_the_whole_folder() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::create(&dir.path().join("index")).unwrap();
        let all = plan(&index, ALL_OF_SAME);
        for step in [
            "SEARCH receipt USING COVERING INDEX receipt_identity (gateway_mailbox=? AND identity=?",
            "SEARCH revision USING COVERING INDEX revision_identity (gateway_mailbox=? AND identity=?",
            "SEARCH p USING INDEX placement_receipt (receipt=? AND folder=?)",
        ] {
            position(&all, step);
        }
    }
}
