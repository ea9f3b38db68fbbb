//! Transactions that were turned away, and every transaction in the order in which they began.

use super::{Index, Place, int, receipt_id, unsigned};
use crate::mail::{AddressKey, GatewayMailboxId, ReceiptId, Timestamp};
use crate::store::recall::EntryPlace;
use crate::store::{StoreError, TransactionOutcome, TransactionQuery, TurnedAway};
use rusqlite::{OptionalExtension, params};
use std::collections::BTreeSet;

/// A receipt id begins with its time: the key itself is the range, and its order that of time.
const ACCEPTED: &str = "SELECT DISTINCT id FROM receipt
WHERE id < ?1 AND id >= ?2 AND (?3 IS NULL OR gateway_mailbox = ?3) ORDER BY id DESC LIMIT ?4";
const TURNED_AWAY: &str = "SELECT segment, place, octets, id, code FROM turned_away
WHERE id < ?1 AND id >= ?2 AND code BETWEEN ?3 AND ?4 ORDER BY id DESC LIMIT ?5";
const NAMING: &str = "SELECT segment, place, octets, t.id, code FROM turned_away_name n
CROSS JOIN turned_away t ON t.id = n.id WHERE n.value = ?1 AND n.id >= ?2 ORDER BY n.id DESC LIMIT ?3";

/// One that was turned away, as the index knows it.
pub(in crate::store) struct TurnedAwayRow {
    pub(in crate::store) receipt_id: ReceiptId,
    /// As in the reply; none when the connection broke before there was one.
    pub(in crate::store) code: Option<u16>,
    pub(in crate::store) place: EntryPlace,
}

/// What one that was turned away can be asked for by.
pub(in crate::store) fn turned_away_names(told: &TurnedAway) -> BTreeSet<AddressKey> {
    let named = told.sender.iter().chain(&told.recipients).filter(|name| !name.is_empty());
    named.map(|name| AddressKey::of(name)).collect()
}

/// The first id of a time.
fn first_of(at: Timestamp) -> ReceiptId {
    ReceiptId::new(unsigned(at.unix_ms()), [0; 10])
}

/// The ids a query is about: from the second one on, up to but without the first.
fn range(query: &TransactionQuery) -> (ReceiptId, ReceiptId) {
    let last = ReceiptId::from_bytes([0xff; 16]);
    let until = query.until.map_or(last, first_of);
    (query.before.map_or(until, |before| before.min(until)), first_of(query.since))
}

impl Index {
    pub(super) fn apply_turned_away(&self, told: &TurnedAway, place: &Place) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO turned_away VALUES (?, ?, ?, ?, ?, ?, ?, ?)")?
            .execute(params![
                told.receipt_id.as_bytes(),
                told.at.unix_ms(),
                told.session_id.as_bytes(),
                told.network().to_string(),
                told.code.unwrap_or(0),
                int(place.segment),
                int(place.entry_offset),
                place.entry_octets
            ])?;
        let mut insert =
            self.connection.prepare_cached("INSERT OR IGNORE INTO turned_away_name VALUES (?, ?)")?;
        for name in turned_away_names(told) {
            insert.execute(params![name.as_str(), told.receipt_id.as_bytes()])?;
        }
        Ok(())
    }

    /// Where the entry of one stands.
    pub(in crate::store) fn turned_away_entry(
        &self,
        receipt: ReceiptId,
    ) -> Result<Option<TurnedAwayRow>, StoreError> {
        let mut select = self
            .connection
            .prepare_cached("SELECT segment, place, octets, id, code FROM turned_away WHERE id = ?")?;
        Ok(select.query_row([receipt.as_bytes()], turned_away_row).optional()?)
    }

    /// Those that name this address, folded, newest first.
    pub(in crate::store) fn turned_away_naming(
        &self,
        value: &str,
        since: Timestamp,
        most: usize,
    ) -> Result<Vec<TurnedAwayRow>, StoreError> {
        let mut select = self.connection.prepare_cached(NAMING)?;
        let rows = select
            .query_map(params![value, first_of(since).as_bytes(), int(most as u64)], turned_away_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The newest accepted transactions that a query is about, at most as many as it looks at.
    pub(in crate::store) fn accepted_before(
        &self,
        query: &TransactionQuery,
    ) -> Result<Vec<ReceiptId>, StoreError> {
        let (before, since) = range(query);
        let mut select = self.connection.prepare_cached(ACCEPTED)?;
        let gateway_mailbox = query.gateway_mailbox.as_ref().map(GatewayMailboxId::as_bytes);
        let rows = select.query_map(
            params![before.as_bytes(), since.as_bytes(), gateway_mailbox, int(query.most as u64)],
            |row| receipt_id(row, 0),
        )?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The same of those turned away, of whatever gateway mailbox.
    pub(in crate::store) fn turned_away_before(
        &self,
        query: &TransactionQuery,
    ) -> Result<Vec<TurnedAwayRow>, StoreError> {
        let (before, since) = range(query);
        let (first, last) = match query.outcome {
            Some(TransactionOutcome::Deferred) => (0, 499),
            Some(TransactionOutcome::Refused) => (500, i64::MAX),
            Some(TransactionOutcome::Accepted) | None => (0, i64::MAX),
        };
        let mut select = self.connection.prepare_cached(TURNED_AWAY)?;
        let rows = select.query_map(
            params![before.as_bytes(), since.as_bytes(), first, last, int(query.most as u64)],
            turned_away_row,
        )?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn turned_away_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<TurnedAwayRow> {
    let code = Some(row.get(4)?).filter(|code| *code > 0);
    Ok(TurnedAwayRow {
        receipt_id: receipt_id(row, 3)?,
        code,
        place: (unsigned(row.get(0)?), unsigned(row.get(1)?), row.get(2)?),
    })
}

#[cfg(test)]
mod tests {
    use super::super::questions::tests::{plan, position};
    use super::*;

    #[test]
    fn pages_are_read_from_the_keys_alone() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::create(&dir.path().join("index")).unwrap();
        for (sql, step) in [
            (ACCEPTED, "SEARCH receipt USING PRIMARY KEY (id>? AND id<?)"),
            (TURNED_AWAY, "SEARCH turned_away USING PRIMARY KEY (id>? AND id<?)"),
            (NAMING, "SEARCH n USING PRIMARY KEY (value=? AND id>?)"),
        ] {
            let plan = plan(&index, sql);
            position(&plan, step);
            assert!(!plan.iter().any(|step| step.contains("ORDER BY")), "{plan:#?}");
        }
    }
}
