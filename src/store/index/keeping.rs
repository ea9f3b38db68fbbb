//! What deleted entries, freed content and a restore change in the index, and what is asked of them.

use super::apply::gateway_mailbox_check;
use super::{Came, Index, bytes32, int, json_error, receipt_id, unsigned};
use crate::mail::{GatewayMailbox, GatewayMailboxId, ReceiptId, Timestamp, Uid};
use crate::store::fact::{ExpiredFact, FreedFact, PlacementFact, UndeletedFact};
use crate::store::{Digest, FolderName, StoreError};
use rusqlite::{OptionalExtension, params};

/// The live entries of a folder that were received first, but for those that count from a later time.
const RECEIVED_UNTIL: &str = "SELECT p.uid FROM placement p INDEXED BY placement_live
WHERE p.folder = ?1 AND p.deleted_at IS NULL AND p.at <= ?2
AND NOT EXISTS (SELECT 1 FROM kept_from k WHERE k.receipt = p.receipt AND k.at > ?2)
ORDER BY p.at LIMIT ?3";
const COUNT_RECEIVED_UNTIL: &str = "SELECT count(*) FROM placement p INDEXED BY placement_live
WHERE p.folder = ?1 AND p.deleted_at IS NULL AND p.at <= ?2
AND NOT EXISTS (SELECT 1 FROM kept_from k WHERE k.receipt = p.receipt AND k.at > ?2)";
/// One of them.
const IS_RECEIVED_UNTIL: &str = "SELECT 1 FROM placement p
WHERE p.folder = ?1 AND p.uid = ?2 AND p.deleted_at IS NULL AND p.at <= ?3
AND NOT EXISTS (SELECT 1 FROM kept_from k WHERE k.receipt = p.receipt AND k.at > ?3)";
const COUNT_DELETED_UNTIL: &str = "SELECT count(*) FROM in_grace WHERE folder = ? AND deleted_at <= ?";
/// The deleted entries of a folder that can be had back, lowest UIDs first: what was deleted from some time to another, and
/// received behind some time. What left is elsewhere. Goes by UIDs: a part of many must not cost a look at all of them.
const IN_GRACE: &str = "SELECT g.uid FROM in_grace g INDEXED BY in_grace_uid
CROSS JOIN placement p ON p.folder = g.folder AND p.uid = g.uid
WHERE g.folder = ?1 AND g.deleted_at BETWEEN ?2 AND ?5
AND (p.at > ?3 OR EXISTS (SELECT 1 FROM kept_from k WHERE k.receipt = p.receipt AND k.at > ?3))
AND NOT EXISTS (SELECT 1 FROM departure d WHERE d.folder = g.folder AND d.uid = g.uid)
ORDER BY g.uid LIMIT ?4";
/// How many of them were received until that time.
const COUNT_IN_GRACE: &str =
    "SELECT count(*) FROM in_grace g CROSS JOIN placement p ON p.folder = g.folder AND p.uid = g.uid
WHERE g.folder = ?1 AND g.deleted_at BETWEEN ?2 AND ?4 AND p.at <= ?3
AND NOT EXISTS (SELECT 1 FROM kept_from k WHERE k.receipt = p.receipt AND k.at > ?3)
AND NOT EXISTS (SELECT 1 FROM departure d WHERE d.folder = g.folder AND d.uid = g.uid)";
/// What those deleted at some time or later come to.
const SUM_IN_GRACE: &str = "SELECT count(*), coalesce(sum(m.octets), 0), min(g.deleted_at), max(g.deleted_at)
FROM in_grace g CROSS JOIN placement p ON p.folder = g.folder AND p.uid = g.uid
LEFT JOIN message m ON m.id = p.message
WHERE g.folder = ?1 AND g.deleted_at >= ?2
AND NOT EXISTS (SELECT 1 FROM departure d WHERE d.folder = g.folder AND d.uid = g.uid)";
/// One of them.
const ONE_IN_GRACE: &str = "SELECT p.message, p.receipt, p.at, p.join_digest,
       (SELECT k.at FROM kept_from k WHERE k.receipt = p.receipt)
FROM placement p
WHERE p.folder = ?1 AND p.uid = ?2
AND EXISTS (SELECT 1 FROM in_grace g WHERE g.folder = p.folder AND g.deleted_at = p.deleted_at AND g.uid = p.uid)
AND NOT EXISTS (SELECT 1 FROM departure d WHERE d.folder = p.folder AND d.uid = p.uid)";

const NEWEST_TIME: &str = "SELECT max(at) FROM (
    SELECT (SELECT at FROM receipt ORDER BY id DESC LIMIT 1) AS at
    UNION ALL SELECT (SELECT max(g.deleted_at) FROM in_grace g WHERE g.folder = f.id) FROM folder f
    UNION ALL SELECT max(at) FROM freed)";

const OF_RECEIPT: &str =
    "SELECT p.folder, p.uid, p.message FROM placement p CROSS JOIN folder f ON f.id = p.folder
WHERE p.receipt = ? AND f.gateway_mailbox = ? ORDER BY p.folder, p.uid";

/// A deleted entry that can be had back.
pub(in crate::store) struct InGrace {
    pub(in crate::store) message: u64,
    pub(in crate::store) receipt_id: ReceiptId,
    pub(in crate::store) received_at: Timestamp,
    /// Retention counts from then.
    pub(in crate::store) kept_from: Timestamp,
    pub(in crate::store) join: Option<Digest>,
}

impl Index {
    /// A gateway mailbox, deleted ones too.
    pub(in crate::store) fn gateway_mailbox(
        &self,
        id: GatewayMailboxId,
    ) -> Result<Option<GatewayMailbox>, StoreError> {
        let mut select = self
            .connection
            .prepare_cached("SELECT state, digest_key, row_check FROM gateway_mailbox WHERE id = ?")?;
        let mut rows = select.query([id.as_bytes()])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let state: String = row.get(0)?;
        let check = gateway_mailbox_check(id.as_bytes(), &state, &bytes32(row, 1)?.0);
        check.verify(row.get(2)?, "a gateway mailbox")?;
        serde_json::from_str(&state).map(Some).map_err(json_error)
    }

    /// The newest time anything here tells of: when the newest receipt came, something was deleted, or freed. Reads all that is
    /// freed: asked where nothing else says what time had reached.
    pub(in crate::store) fn newest_time(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut select = self.connection.prepare_cached(NEWEST_TIME)?;
        let newest: Option<i64> = select.query_row([], |row| row.get(0))?;
        Ok(newest.map(Timestamp::from_unix_ms))
    }

    /// Live entries of a folder that were received until then, the first of them, in UID order.
    pub(in crate::store) fn received_until(
        &self,
        gateway_mailbox: GatewayMailboxId,
        name: &FolderName,
        until: Timestamp,
        most: usize,
    ) -> Result<Vec<Uid>, StoreError> {
        let Some(folder) = self.folder(gateway_mailbox, name)? else { return Ok(Vec::new()) };
        let mut uids =
            self.uids(RECEIVED_UNTIL, params![int(folder.id), until.unix_ms(), int(most as u64)])?;
        uids.sort_unstable();
        Ok(uids)
    }

    /// Which of these entries of a folder are there and were received until then, in UID order.
    pub(in crate::store) fn live_received_until(
        &self,
        folder: u64,
        uids: &[Uid],
        until: Timestamp,
    ) -> Result<Vec<Uid>, StoreError> {
        let mut select = self.connection.prepare_cached(IS_RECEIVED_UNTIL)?;
        let mut live = Vec::with_capacity(uids.len());
        for uid in uids {
            if select.exists(params![int(folder), uid.value(), until.unix_ms()])? {
                live.push(*uid);
            }
        }
        live.sort_unstable();
        live.dedup();
        Ok(live)
    }

    /// Entries of a folder that were received until a time and are there, and those deleted until another.
    pub(in crate::store) fn count_kept(
        &self,
        gateway_mailbox: GatewayMailboxId,
        name: &FolderName,
        received_until: Option<Timestamp>,
        deleted_until: Timestamp,
    ) -> Result<u64, StoreError> {
        let Some(folder) = self.folder(gateway_mailbox, name)? else { return Ok(0) };
        let count = |sql, until: Timestamp| -> Result<u64, StoreError> {
            let mut select = self.connection.prepare_cached(sql)?;
            let count: i64 = select.query_row(params![int(folder.id), until.unix_ms()], |row| row.get(0))?;
            Ok(unsigned(count))
        };
        let received = received_until.map_or(Ok(0), |until| count(COUNT_RECEIVED_UNTIL, until))?;
        Ok(received + count(COUNT_DELETED_UNTIL, deleted_until)?)
    }

    /// Deleted entries of a folder that can be had back, in UID order: those deleted from `since` to `until`, received behind
    /// `received_after`, if at all.
    pub(in crate::store) fn undeletable(
        &self,
        folder: u64,
        (since, until): (Timestamp, Timestamp),
        received_after: Option<Timestamp>,
        most: usize,
    ) -> Result<Vec<Uid>, StoreError> {
        let after = received_after.map_or(-1, Timestamp::unix_ms);
        let of = params![int(folder), since.unix_ms(), after, int(most as u64), until.unix_ms()];
        self.uids(IN_GRACE, of)
    }

    /// How many of them were received until that time. Reads each.
    pub(in crate::store) fn count_undeletable(
        &self,
        folder: u64,
        (since, until): (Timestamp, Timestamp),
        received_until: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut select = self.connection.prepare_cached(COUNT_IN_GRACE)?;
        let of = params![int(folder), since.unix_ms(), received_until.unix_ms(), until.unix_ms()];
        Ok(unsigned(select.query_row(of, |row| row.get(0))?))
    }

    /// How many deleted entries of a folder can be had back, their octets, and when the first and the last of them was deleted.
    pub(in crate::store) fn sum_in_grace(
        &self,
        folder: u64,
        since: Timestamp,
    ) -> Result<Option<(u64, u64, [Timestamp; 2])>, StoreError> {
        let mut select = self.connection.prepare_cached(SUM_IN_GRACE)?;
        let (entries, octets, oldest, newest): (i64, i64, Option<i64>, Option<i64>) = select
            .query_row(params![int(folder), since.unix_ms()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?;
        let times = oldest.zip(newest).map(|(oldest, newest)| [oldest, newest].map(Timestamp::from_unix_ms));
        Ok(times.map(|times| (unsigned(entries), unsigned(octets), times)))
    }

    /// A deleted entry, if it still can be had back.
    pub(in crate::store) fn in_grace(&self, folder: u64, uid: Uid) -> Result<Option<InGrace>, StoreError> {
        let mut select = self.connection.prepare_cached(ONE_IN_GRACE)?;
        let found = select
            .query_row(params![int(folder), uid.value()], |row| {
                Ok(InGrace {
                    message: unsigned(row.get(0)?),
                    receipt_id: receipt_id(row, 1)?,
                    received_at: Timestamp::from_unix_ms(row.get(2)?),
                    kept_from: Timestamp::from_unix_ms(
                        row.get::<_, Option<i64>>(4)?.unwrap_or(i64::MIN).max(row.get(2)?),
                    ),
                    join: row.get::<_, Option<[u8; 32]>>(3)?.map(Digest),
                })
            })
            .optional()?;
        let Some(found) = found else { return Ok(None) };
        let row = match self.message(found.message) {
            // Its entry was lost, and what it was with it.
            Err(StoreError::Gone) => return Ok(None),
            row => row?,
        };
        for extent in row.extents {
            if self.is_freed(extent.object)? {
                return Ok(None);
            }
        }
        Ok(Some(found))
    }

    /// All entries of a receipt in a gateway mailbox, the deleted ones too: folder, UID and message.
    pub(in crate::store) fn entries_of_receipt(
        &self,
        receipt: ReceiptId,
        gateway_mailbox: GatewayMailboxId,
    ) -> Result<Vec<(u64, Uid, u64)>, StoreError> {
        let mut select = self.connection.prepare_cached(OF_RECEIPT)?;
        let of = params![receipt.as_bytes(), gateway_mailbox.as_bytes()];
        let rows = select.query_map(of, |row| {
            let uid = Uid::new(row.get(1)?).unwrap_or(Uid::FIRST);
            Ok((unsigned(row.get(0)?), uid, unsigned(row.get(2)?)))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn uids(&self, sql: &str, of: impl rusqlite::Params) -> Result<Vec<Uid>, StoreError> {
        let mut select = self.connection.prepare_cached(sql)?;
        let rows = select.query_map(of, |row| row.get(0))?;
        let uids: Vec<u32> = rows.collect::<Result<_, _>>()?;
        Ok(uids.into_iter().filter_map(Uid::new).collect())
    }

    pub(super) fn apply_expired(&self, fact: &ExpiredFact) -> Result<(), StoreError> {
        self.end_runs(fact.folder, &fact.uids, fact.at)?;
        fact.uids.iter().try_for_each(|run| {
            self.insert_keeping_event(fact.folder, *run, fact.at, "expired", &fact.actor, Some(&fact.why))
        })
    }

    pub(super) fn apply_undeleted(&self, fact: &UndeletedFact) -> Result<(), StoreError> {
        for entry in &fact.entries {
            let of = Came {
                receipt_id: entry.receipt_id,
                gateway_mailbox: fact.gateway_mailbox,
                at: entry.received_at,
                epoch: fact.epoch,
            };
            let placement = PlacementFact {
                folder: fact.folder,
                name: fact.name.clone(),
                uid: entry.uid,
                message: entry.message,
                reasons: Vec::new(),
            };
            self.insert_placement(&of, &placement, entry.join.map(|join| join.0))?;
            self.insert_placed_later(&placement)?;
            self.end_grace(fact.folder, (entry.of, entry.of))?;
            let run = (entry.of, entry.of);
            self.insert_keeping_event(fact.folder, run, fact.at, "undeleted", &fact.actor, None)?;
        }
        Ok(())
    }

    pub(super) fn apply_freed(&self, fact: &FreedFact) -> Result<(), StoreError> {
        // They ended before, unless the entry that said so is lost: what is freed must not be live then.
        self.end_runs(fact.folder, &fact.uids, fact.at)?;
        for run in &fact.uids {
            self.end_grace(fact.folder, *run)?;
        }
        let mut freed = self.connection.prepare_cached("INSERT OR IGNORE INTO freed VALUES (?, ?)")?;
        let mut unpunched = self.connection.prepare_cached("INSERT OR IGNORE INTO unpunched VALUES (?)")?;
        let mut unplaced = self.connection.prepare_cached("DELETE FROM unplaced WHERE object = ?")?;
        for (first, last) in &fact.objects {
            for object in *first..=*last {
                freed.execute(params![int(object), fact.at.unix_ms()])?;
                unpunched.execute([int(object)])?;
                unplaced.execute([int(object)])?;
            }
        }
        Ok(())
    }

    fn insert_keeping_event(
        &self,
        folder: u64,
        (first, last): (Uid, Uid),
        at: Timestamp,
        kind: &str,
        actor: &str,
        why: Option<&str>,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("INSERT INTO keeping_event VALUES (?, ?, ?, ?, ?, ?, ?)")?
            .execute(params![int(folder), first.value(), last.value(), at.unix_ms(), kind, actor, why])?;
        Ok(())
    }

    /// Retention counts from the latest of these.
    pub(super) fn insert_kept_from(&self, receipt: ReceiptId, at: Timestamp) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO kept_from VALUES (?, ?) ON CONFLICT DO UPDATE SET at = max(at, excluded.at)",
            )?
            .execute(params![receipt.as_bytes(), at.unix_ms()])?;
        Ok(())
    }

    pub(super) fn insert_in_grace(
        &self,
        folder: u64,
        at: Timestamp,
        uids: impl Iterator<Item = Uid>,
    ) -> Result<(), StoreError> {
        let mut insert = self.connection.prepare_cached("INSERT OR IGNORE INTO in_grace VALUES (?, ?, ?)")?;
        for uid in uids {
            insert.execute(params![int(folder), at.unix_ms(), uid.value()])?;
        }
        Ok(())
    }

    /// These can be had back no more, or are back.
    fn end_grace(&self, folder: u64, (first, last): (Uid, Uid)) -> Result<(), StoreError> {
        let mut deleted = self
            .connection
            .prepare_cached("SELECT deleted_at FROM placement WHERE folder = ? AND uid = ?")?;
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM in_grace WHERE folder = ? AND deleted_at = ? AND uid = ?")?;
        for uid in first.value()..=last.value() {
            let at: Option<Option<i64>> =
                deleted.query_row(params![int(folder), uid], |row| row.get(0)).optional()?;
            if let Some(Some(at)) = at {
                delete.execute(params![int(folder), at, uid])?;
            }
        }
        Ok(())
    }

    pub(super) fn insert_object_uses(
        &self,
        message: u64,
        objects: impl Iterator<Item = u64>,
    ) -> Result<(), StoreError> {
        let mut insert = self.connection.prepare_cached("INSERT OR IGNORE INTO object_use VALUES (?, ?)")?;
        for object in objects {
            insert.execute(params![int(object), int(message)])?;
        }
        Ok(())
    }

    /// True when the content of an object is gone, or goes.
    pub(in crate::store) fn is_freed(&self, object: u64) -> Result<bool, StoreError> {
        Ok(self.connection.prepare_cached("SELECT 1 FROM freed WHERE object = ?")?.exists([int(object)])?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::questions::tests::{plan, position};
    use super::*;

    #[test]
    fn what_is_due_is_found_by_its_time_and_not_by_looking_through_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::create(&dir.path().join("index")).unwrap();
        for sql in [RECEIVED_UNTIL, COUNT_RECEIVED_UNTIL] {
            let due = plan(&index, sql);
            position(&due, "SEARCH p USING INDEX placement_live (folder=? AND at<?)");
            assert!(!due.iter().any(|step| step.contains("TEMP B-TREE")), "{due:#?}");
        }
        position(
            &plan(&index, COUNT_DELETED_UNTIL),
            "SEARCH in_grace USING PRIMARY KEY (folder=? AND deleted_at<?)",
        );
        let part = plan(&index, IN_GRACE);
        position(&part, "SEARCH g USING COVERING INDEX in_grace_uid (folder=?)");
        assert!(!part.iter().any(|step| step.contains("TEMP B-TREE")), "{part:#?}");
        for (sql, times) in
            [(COUNT_IN_GRACE, "deleted_at>? AND deleted_at<?"), (SUM_IN_GRACE, "deleted_at>?")]
        {
            let steps = [
                &format!("SEARCH g USING PRIMARY KEY (folder=? AND {times})"),
                "SEARCH p USING PRIMARY KEY (folder=? AND uid=?)",
            ];
            let plan = plan(&index, sql);
            assert!(steps.map(|step| position(&plan, step)).is_sorted(), "{plan:#?}");
        }
        position(&plan(&index, ONE_IN_GRACE), "SEARCH p USING PRIMARY KEY (folder=? AND uid=?)");
        position(&plan(&index, OF_RECEIPT), "SEARCH p USING INDEX placement_receipt (receipt=?)");
    }
}
