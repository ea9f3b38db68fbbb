//! Rows of the index as sums: what the log says an index must hold, against what it holds, without holding either.
//!
//! Rows with neighbouring keys share a bucket; a bucket is the sum of a hash of each of its rows. The log comes in its order, the
//! index in that of its keys, and both come to the same sums in constant memory for each bucket; an index made anew to compare
//! with would take as long and as much disk as making it anew does. Where sums differ, a second look keeps the rows of those
//! buckets alone, and names them.

use crate::mail::ReceiptId;
use aws_lc_rs::digest::{SHA256, digest};
use rusqlite::types::ValueRef;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Neighbouring keys that share a bucket.
const BUCKET_KEYS: i64 = 256;
/// Buckets over rows that are found by receipt.
const RECEIPT_BUCKETS: u64 = 1 << 16;
/// Buckets over rows by name: more, since those of receipts read again are left out.
const NAME_BUCKETS: u64 = 1 << 20;
/// Buckets that differ and are looked at again; the others are counted.
pub(super) const LOOKED_AT_MAX: usize = 512;

/// The tables that have rows without number; gateway mailboxes and folders are compared one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Table {
    Object,
    Receipt,
    Message,
    Placement,
    /// Placements that were deleted, and when.
    Gone,
    FolderEvent,
    KeepingEvent,
    Freed,
    InGrace,
    /// Which messages lie in an object: where one is missing, content would be freed that is needed.
    ObjectUse,
    Revision,
    PlacedLater,
    Departure,
    Name,
    KeyFile,
    TurnedAway,
    TurnedAwayName,
    KeptFrom,
    /// Flags of what is there.
    Flags,
}

impl Table {
    pub(super) const ALL: [Table; 19] = [
        Table::Object,
        Table::Receipt,
        Table::Message,
        Table::Placement,
        Table::Gone,
        Table::FolderEvent,
        Table::KeepingEvent,
        Table::Freed,
        Table::InGrace,
        Table::ObjectUse,
        Table::Revision,
        Table::PlacedLater,
        Table::Departure,
        Table::Name,
        Table::KeyFile,
        Table::TurnedAway,
        Table::TurnedAwayName,
        Table::KeptFrom,
        Table::Flags,
    ];

    /// Its rows, columns as [`super::ledger`] gives them. What left a folder has no join any more: its message knows it.
    pub(super) fn select(self) -> &'static str {
        match self {
            Table::Object => "SELECT id, octets, sealed_octets, sealed_sha256, segment, place, file, row_check FROM object",
            Table::Receipt => {
                "SELECT id, gateway_mailbox, at, segment, place, octets, identity, row_check FROM receipt"
            }
            Table::Message => {
                "SELECT id, gateway_mailbox, extents, octets, canonical_octets, lines, flags, exact, join_digest,
                        sha256, summary, summary_at, row_check FROM message"
            }
            Table::Placement => {
                "SELECT p.folder, p.uid, p.message, p.receipt, p.at, p.epoch,
                        CASE WHEN d.folder IS NULL THEN p.join_digest ELSE m.join_digest END
                 FROM placement p LEFT JOIN departure d ON d.folder = p.folder AND d.uid = p.uid
                 LEFT JOIN message m ON d.folder IS NOT NULL AND m.id = p.message"
            }
            Table::Gone => "SELECT folder, uid, deleted_at FROM placement WHERE deleted_at IS NOT NULL",
            Table::FolderEvent => "SELECT folder, first, last, at, kind, client FROM folder_event",
            Table::KeepingEvent => "SELECT folder, first, last, at, kind, actor, why FROM keeping_event",
            Table::Freed => "SELECT object, at FROM freed",
            // With the time its entry has, which is compared there, it is 0.
            Table::InGrace => {
                "SELECT g.folder, g.uid, CASE WHEN p.deleted_at = g.deleted_at THEN 0 ELSE g.deleted_at END
                 FROM in_grace g LEFT JOIN placement p ON p.folder = g.folder AND p.uid = g.uid"
            }
            Table::ObjectUse => "SELECT object, message FROM object_use",
            Table::Revision => {
                "SELECT receipt, gateway_mailbox, number, segment, place, octets, identity, row_check FROM revision"
            }
            Table::PlacedLater => "SELECT folder, uid FROM placed_later",
            Table::Departure => "SELECT folder, uid, at, kind, actor FROM departure",
            Table::Name => "SELECT value, receipt FROM name",
            Table::KeyFile => "SELECT gateway_mailbox, name, octets, sha256 FROM key_file",
            Table::TurnedAway => "SELECT id, at, session, network, code, segment, place, octets FROM turned_away",
            Table::TurnedAwayName => "SELECT value, id FROM turned_away_name",
            Table::KeptFrom => "SELECT receipt, at FROM kept_from",
            Table::Flags => "SELECT folder, uid, bits, row_check FROM flags",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Table::Object => "object",
            Table::Receipt => "receipt",
            Table::Message => "message",
            Table::Placement => "placement",
            Table::Gone => "deletion",
            Table::FolderEvent => "folder event",
            Table::KeepingEvent => "keeping event",
            Table::Freed => "freed object",
            Table::InGrace => "deleted entry in grace",
            Table::ObjectUse => "use of an object by a message",
            Table::Revision => "revision",
            Table::PlacedLater => "later placement",
            Table::Departure => "departure",
            Table::Name => "name of",
            Table::KeyFile => "keyring file",
            Table::TurnedAway => "turned-away transaction",
            Table::TurnedAwayName => "name of turned-away transaction",
            Table::KeptFrom => "later begin of keeping of receipt",
            Table::Flags => "flags of entry",
        }
    }

    /// The bucket of a row.
    fn bucket(self, row: &[ValueRef<'_>]) -> u64 {
        let int = |column: usize| match row.get(column) {
            Some(ValueRef::Integer(value)) => *value,
            _ => 0,
        };
        match self {
            Table::Object | Table::Message | Table::Freed | Table::ObjectUse => {
                (int(0) / BUCKET_KEYS).cast_unsigned()
            }
            Table::Receipt | Table::Revision | Table::KeyFile | Table::TurnedAway | Table::KeptFrom => {
                by_receipt(row.first(), RECEIPT_BUCKETS)
            }
            Table::Name | Table::TurnedAwayName => by_receipt(row.get(1), NAME_BUCKETS),
            _ => ((int(0) << 32) | (int(1) / BUCKET_KEYS)).cast_unsigned(),
        }
    }

    /// What a row is about: `placement 3:17`. A name is not told: it is somebody's address, or says who wrote to whom.
    fn describe(self, row: &[ValueRef<'_>]) -> String {
        let keys = match self {
            Table::Object | Table::Message | Table::Freed | Table::TurnedAway | Table::KeptFrom => 0..1,
            Table::Name | Table::TurnedAwayName => 1..2,
            _ => 0..2,
        };
        let keys: Vec<String> = row.get(keys).unwrap_or_default().iter().map(|key| shown(*key)).collect();
        format!("{} {}", self.name(), keys.join(":"))
    }
}

/// The bucket in which names of a receipt are.
pub(super) fn name_bucket(receipt: &[u8; 16]) -> u64 {
    by_receipt(Some(&ValueRef::Blob(receipt)), NAME_BUCKETS)
}

fn by_receipt(value: Option<&ValueRef<'_>>, buckets: u64) -> u64 {
    let Some(ValueRef::Blob(octets)) = value else { return 0 };
    // The end of a receipt id is random.
    octets.iter().rev().take(8).fold(0u64, |sum, octet| sum << 8 | u64::from(*octet)) % buckets
}

fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "-".to_owned(),
        ValueRef::Integer(value) => value.to_string(),
        ValueRef::Real(value) => value.to_string(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(octets) => match <[u8; 16]>::try_from(octets) {
            Ok(id) => ReceiptId::from_bytes(id).to_string(),
            Err(_) => octets.iter().map(|octet| format!("{octet:02x}")).collect(),
        },
    }
}

/// Rows with neighbouring keys.
pub(super) type Bucket = (Table, u64);

/// Rows on their way into their buckets.
#[derive(Default)]
pub(super) struct Rows {
    sums: HashMap<Bucket, u128>,
    /// Rows seen of each table.
    pub(super) counts: HashMap<Table, u64>,
    /// The buckets to be looked at again, and their rows: how often the log has more of them than the index, and what they are.
    wanted: Option<HashSet<Bucket>>,
    kept: HashMap<Vec<u8>, (i64, String)>,
    buffer: Vec<u8>,
}

impl Rows {
    /// Keeps the rows of these buckets, for a second look.
    pub(super) fn of(buckets: &BTreeSet<Bucket>) -> Rows {
        let wanted = buckets.iter().take(LOOKED_AT_MAX).copied().collect();
        Rows { wanted: Some(wanted), ..Rows::default() }
    }

    /// A row that the log says there is.
    pub(super) fn said(&mut self, table: Table, row: &[ValueRef<'_>]) {
        self.add(table, row, 1);
    }

    /// A row that the index has; or one that was said, and that what was said since takes away again.
    pub(super) fn held(&mut self, table: Table, row: &[ValueRef<'_>]) {
        self.add(table, row, -1);
    }

    fn add(&mut self, table: Table, row: &[ValueRef<'_>], sign: i64) {
        let bucket = (table, table.bucket(row));
        if self.wanted.as_ref().is_some_and(|wanted| !wanted.contains(&bucket)) {
            return;
        }
        self.buffer.clear();
        self.buffer.push(table as u8);
        row.iter().for_each(|value| encode(*value, &mut self.buffer));
        if self.wanted.is_some() {
            let kept = self.kept.entry(self.buffer.clone()).or_insert_with(|| (0, table.describe(row)));
            kept.0 += sign;
            return;
        }
        let hash = digest(&SHA256, &self.buffer);
        let hash = hash.as_ref().iter().take(16).fold(0u128, |sum, octet| sum << 8 | u128::from(*octet));
        let sum = self.sums.entry(bucket).or_default();
        *sum = if sign > 0 { sum.wrapping_add(hash) } else { sum.wrapping_sub(hash) };
        if sign > 0 {
            *self.counts.entry(table).or_default() += 1;
        }
    }

    /// The buckets in which log and index do not agree, but for names in these.
    pub(super) fn differing(&self, names_left_out: &HashSet<u64>) -> BTreeSet<Bucket> {
        let differ = self.sums.iter().filter(|(_, sum)| **sum != 0).map(|(bucket, _)| *bucket);
        differ.filter(|(table, bucket)| *table != Table::Name || !names_left_out.contains(bucket)).collect()
    }

    /// The rows that differ: what they are, and how. True for what is in the index alone.
    pub(super) fn named(&self) -> Vec<(String, bool)> {
        let mut rows: HashMap<&str, (bool, bool)> = HashMap::new();
        for (more, what) in self.kept.values().filter(|(more, _)| *more != 0) {
            let (lacks, has) = rows.entry(what).or_default();
            *lacks |= *more > 0;
            *has |= *more < 0;
        }
        let how = |(lacks, has)| match (lacks, has) {
            (true, true) => "is otherwise in the index than the log says",
            (true, false) => "is not in the index",
            _ => "is in the index and not in the log",
        };
        let mut named: Vec<(String, bool)> = rows
            .into_iter()
            .map(|(what, which)| (format!("{what} {}", how(which)), which == (false, true)))
            .collect();
        named.sort_unstable();
        named
    }
}

fn encode(value: ValueRef<'_>, into: &mut Vec<u8>) {
    let (kind, octets) = match value {
        ValueRef::Null => (0, &[][..]),
        ValueRef::Integer(value) => {
            into.push(1);
            into.extend_from_slice(&value.to_le_bytes());
            return;
        }
        ValueRef::Real(value) => {
            into.push(2);
            into.extend_from_slice(&value.to_le_bytes());
            return;
        }
        ValueRef::Text(text) => (3, text),
        ValueRef::Blob(octets) => (4, octets),
    };
    into.push(kind);
    into.extend_from_slice(&(octets.len() as u64).to_le_bytes());
    into.extend_from_slice(octets);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_in_another_order_are_the_same_and_one_that_differs_is_named() {
        let row = |id, octets| [ValueRef::Integer(id), ValueRef::Integer(octets)];
        let all = |rows: &mut Rows| {
            (1..2_000).for_each(|id| rows.said(Table::Object, &row(id, id * 7)));
            (1..2_000).rev().for_each(|id| rows.held(Table::Object, &row(id, id * 7 + i64::from(id == 900))));
            rows.held(Table::Name, &[ValueRef::Text(b"x"), ValueRef::Blob(&[7; 16])]);
        };
        let mut rows = Rows::default();
        all(&mut rows);
        assert_eq!(rows.counts[&Table::Object], 1_999);
        let name = name_bucket(&[7; 16]);
        let differing = rows.differing(&HashSet::new());
        assert_eq!(differing.iter().copied().collect::<Vec<_>>(), [(Table::Object, 3), (Table::Name, name)]);
        assert_eq!(rows.differing(&HashSet::from([name])).len(), 1);
        let mut again = Rows::of(&differing);
        all(&mut again);
        let named = again.named();
        assert_eq!(named[1], ("object 900 is otherwise in the index than the log says".to_owned(), false));
        let (name, is_beside) = &named[0];
        let of = ReceiptId::from_bytes([7; 16]);
        assert_eq!(*name, format!("name of {of} is in the index and not in the log"), "no name is told");
        assert!(is_beside);
    }
}
