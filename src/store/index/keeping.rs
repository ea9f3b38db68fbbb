//! What deleted entries, freed content and a restore change in the index, and what is asked of them.

use super::{Came, Index, int};
use crate::mail::{Timestamp, Uid};
use crate::store::StoreError;
use crate::store::fact::{ExpiredFact, FreedFact, PlacementFact, UndeletedFact};
use rusqlite::{OptionalExtension, params};

impl Index {
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
        for run in &fact.uids {
            self.end_grace(fact.folder, *run)?;
        }
        let mut freed = self.connection.prepare_cached("INSERT OR IGNORE INTO freed VALUES (?, ?)")?;
        let mut unpunched = self.connection.prepare_cached("INSERT OR IGNORE INTO unpunched VALUES (?)")?;
        for (first, last) in &fact.objects {
            for object in *first..=*last {
                freed.execute(params![int(object), fact.at.unix_ms()])?;
                unpunched.execute([int(object)])?;
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
