//! What the index is asked. Nothing here changes it.
//!
//! Questions that are asked again and again must not read what has piled up since the beginning: where SQLite would, the
//! order of its steps is forced, and a test looks at its plan.

use super::apply::{MessageColumns, ObjectColumns, entry_check, gateway_mailbox_check};
use super::flags::LIVE_UIDS;
use super::sums::{Census, GATEWAY_MAILBOXES, Kind, damaged};
use super::{
    EventRow, FLAG_LOST, Index, MessageRow, ObjectPlace, ObjectRow, bytes32, int, json_error, receipt_id,
    unsigned,
};
use crate::mail::{GatewayMailboxId, NOTICE_ID_BEGINNING, ReceiptId, Timestamp, Uid};
use crate::store::fact::{StoredExtent, runs};
use crate::store::recall::EntryPlace;
use crate::store::{ARRIVALS_SPAN_MS, Activity, Arrivals, Digest, FolderName, StoreError, Tally};
use rusqlite::{OptionalExtension, params};
use std::collections::{BTreeMap, HashSet};

/// Objects looked through before others may have the index.
const OBJECTS_AT_A_TIME: i64 = 65_536;
/// How far a message's time may lie before that of one with a lower UID, and behind that in its receipt id.
pub(super) const ARRIVAL_ORDER_SLACK_MS: i64 = 60 * 60 * 1000;
/// The receipts of mail about Daybook's own notices: the first parameter is what their Message-IDs begin with, the second
/// is the first text behind all of those.
const NOTICES: &str = "SELECT receipt FROM name WHERE value >= ?1 AND value < ?2";

/// What entries lie in that are live, or can be had back, in their order.
const IN_USE: &str = "SELECT p.folder, p.uid, m.extents, m.summary
FROM placement p NOT INDEXED CROSS JOIN message m ON m.id = p.message
WHERE (p.folder, p.uid) > (?1, ?2) AND (p.deleted_at IS NULL OR EXISTS (SELECT 1 FROM in_grace g
    WHERE g.folder = p.folder AND g.deleted_at = p.deleted_at AND g.uid = p.uid)) ORDER BY p.folder, p.uid LIMIT ?3";

/// What became of the receipts since some time. The order of the joins is forced: left to itself, SQLite begins with the
/// folders of the gateway mailbox and walks every placement ever made. What was brought back was counted when it came; of what
/// is shown otherwise than it was, only how it is shown now counts.
const OUTCOMES: &str = "
SELECT CASE WHEN f.name IN ('inbox', 'unassigned', 'quarantine') THEN f.name ELSE 'user' END,
       count(*), sum(p.deleted_at IS NULL), coalesce(sum(m.octets), 0), count(DISTINCT r.id)
FROM receipt r CROSS JOIN placement p ON p.receipt = r.id
CROSS JOIN folder f ON f.id = p.folder AND f.gateway_mailbox = r.gateway_mailbox
LEFT JOIN message m ON m.id = p.message
WHERE r.id >= ?3 AND r.gateway_mailbox = ?4 AND r.at >= ?5 AND NOT EXISTS (
    SELECT 1 FROM placement o WHERE o.receipt = p.receipt AND o.folder = p.folder AND o.uid < p.uid
    AND o.message = p.message AND NOT EXISTS (
        SELECT 1 FROM departure d WHERE d.folder = o.folder AND d.uid = o.uid))
AND NOT EXISTS (SELECT 1 FROM departure d WHERE d.folder = p.folder AND d.uid = p.uid AND d.kind = 'viewed')
AND r.id NOT IN (";
/// The entries of a folder with a join, and their messages; those that were brought back are others now.
const WITH_JOIN: &str = "SELECT p.uid, p.message FROM placement p WHERE p.folder = ?1 AND p.join_digest = ?2
AND NOT EXISTS (SELECT 1 FROM keeping_event e WHERE e.folder = p.folder AND e.first = p.uid AND e.kind = 'undeleted')
ORDER BY p.uid";
/// What is left in a folder: goes by the index of live entries.
const WAITING: &str = "
SELECT count(*), coalesce(sum(m.octets), 0), min(p.at)
FROM placement p INDEXED BY placement_live LEFT JOIN message m ON m.id = p.message
WHERE p.folder = ?3 AND p.deleted_at IS NULL AND p.receipt NOT IN (";
const FETCHED: &str = "SELECT coalesce(sum(last - first + 1), 0) FROM folder_event
WHERE folder = ? AND kind = 'fetched' AND at >= ?";
/// One look at the end of an index for each folder: a join would read every event.
const LAST_EVENT: &str = "SELECT max((SELECT max(e.at) FROM folder_event e WHERE e.folder = f.id))
FROM folder f WHERE f.gateway_mailbox = ?";
/// The `+` keeps SQLite from reading all events of a folder in the order of their times.
const EVENTS: &str = "SELECT at, kind, client, NULL, NULL FROM folder_event
WHERE folder = ? AND first <= ? AND last >= ? ORDER BY +at";
/// The same of what retention and undeleting did.
const KEEPING_EVENTS: &str = "SELECT at, kind, NULL, actor, why FROM keeping_event
WHERE folder = ? AND first <= ? AND last >= ? ORDER BY +at";
/// What ended one placement: found by its key, however often clients came.
const ENDED: &str = "SELECT p.deleted_at, coalesce(d.kind, 'deleted'), NULL, d.actor, NULL FROM placement p
LEFT JOIN departure d ON d.folder = p.folder AND d.uid = p.uid
WHERE p.folder = ? AND p.uid = ? AND p.deleted_at IS NOT NULL";
const DEPARTURE: &str = "SELECT at, kind, NULL, actor, NULL FROM departure WHERE folder = ? AND uid = ?";

/// What the first receipts that name a Message-ID were placed by, outside of INBOX and Quarantine: there it is the join of the
/// received message.
const JOINS_NAMED: &str = "SELECT p.join_digest
FROM (SELECT receipt FROM name WHERE value = ?1 AND receipt <> ?2 ORDER BY receipt LIMIT 16) n
CROSS JOIN placement p ON p.receipt = n.receipt
CROSS JOIN folder f ON f.id = p.folder AND f.gateway_mailbox = ?3 AND f.name NOT IN ('inbox', 'quarantine')
WHERE p.join_digest IS NOT NULL LIMIT 64";

impl Index {
    /// Every gateway mailbox, deleted ones too, with its digest key.
    pub(in crate::store) fn gateway_mailboxes(
        &self,
    ) -> Result<Vec<(crate::mail::GatewayMailbox, Digest)>, StoreError> {
        self.at_once(|index| {
            let mut select = index
                .connection
                .prepare_cached("SELECT id, state, digest_key, row_check FROM gateway_mailbox ORDER BY id")?;
            let mut rows = select.query([])?;
            let (mut found, mut census) = (Vec::new(), Census::default());
            while let Some(row) = rows.next()? {
                let (id, state, key): ([u8; 16], String, Digest) =
                    (row.get(0)?, row.get(1)?, bytes32(row, 2)?);
                let check = row.get(3)?;
                gateway_mailbox_check(&id, &state, &key.0).verify(check, "a gateway mailbox")?;
                census.add(check);
                found.push((serde_json::from_str(&state).map_err(json_error)?, key));
            }
            index.compare(GATEWAY_MAILBOXES, census, "gateway mailboxes")?;
            Ok(found)
        })
    }

    /// The path of a folder by its number, for trails.
    pub(in crate::store) fn folder_path(&self, folder: u64) -> Result<String, StoreError> {
        let mut select = self.connection.prepare_cached("SELECT name, slug FROM folder WHERE id = ?")?;
        let (name, slug): (String, Option<String>) =
            select.query_row([int(folder)], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(FolderName::from_key(&name).map(|n| n.path(slug.as_deref())).unwrap_or(name))
    }

    /// The slug a user's folders already have in a gateway mailbox.
    pub(in crate::store) fn slug_of(
        &self,
        gateway_mailbox: GatewayMailboxId,
        user: &str,
    ) -> Result<Option<String>, StoreError> {
        for folder in [crate::mail::UserFolder::Incoming, crate::mail::UserFolder::Outgoing] {
            let name = FolderName::User { user: user.to_owned(), folder };
            let mut select = self
                .connection
                .prepare_cached("SELECT slug FROM folder WHERE gateway_mailbox = ? AND name = ?")?;
            let slug: Option<Option<String>> = select
                .query_row(params![gateway_mailbox.as_bytes(), name.key()], |row| row.get(0))
                .optional()?;
            if let Some(Some(slug)) = slug {
                return Ok(Some(slug));
            }
        }
        Ok(None)
    }

    pub(in crate::store) fn slug_is_taken(
        &self,
        gateway_mailbox: GatewayMailboxId,
        slug: &str,
    ) -> Result<bool, StoreError> {
        let mut select = self
            .connection
            .prepare_cached("SELECT 1 FROM folder WHERE gateway_mailbox = ? AND slug = ? LIMIT 1")?;
        Ok(select.exists(params![gateway_mailbox.as_bytes(), slug])?)
    }

    /// The receipt that has this identity already, from the beginning or since it was looked at again.
    pub(in crate::store) fn receipt_with_identity(
        &self,
        gateway_mailbox: GatewayMailboxId,
        identity: &Digest,
    ) -> Result<Option<ReceiptId>, StoreError> {
        for question in [
            "SELECT id FROM receipt WHERE gateway_mailbox = ? AND identity = ? ORDER BY id DESC LIMIT 1",
            "SELECT receipt FROM revision WHERE gateway_mailbox = ? AND identity = ? ORDER BY receipt DESC LIMIT 1",
        ] {
            let mut select = self.connection.prepare_cached(question)?;
            let found = select
                .query_row(params![gateway_mailbox.as_bytes(), identity.0], |row| receipt_id(row, 0))
                .optional()?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first entry of a folder with this join that `counts`, given its message, deleted ones included: what a client took
    /// stays taken. One that was brought back is another now.
    pub(in crate::store) fn entry_with_join(
        &self,
        folder: u64,
        join: &Digest,
        counts: impl Fn(Uid, u64) -> Result<bool, StoreError>,
    ) -> Result<Option<Uid>, StoreError> {
        let mut select = self.connection.prepare_cached(WITH_JOIN)?;
        let mut rows = select.query(params![int(folder), join.0])?;
        while let Some(row) = rows.next()? {
            let Some(uid) = Uid::new(row.get(0)?) else { continue };
            if counts(uid, unsigned(row.get(1)?))? {
                self.confirm_join(folder, uid, join)?;
                return Ok(Some(uid));
            }
        }
        Ok(None)
    }

    /// What is spared for an entry is nowhere else: that it is there, the entry itself must say too.
    fn confirm_join(&self, folder: u64, uid: Uid, join: &Digest) -> Result<(), StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT 1 FROM placement NOT INDEXED WHERE folder = ? AND uid = ? AND join_digest = ?",
        )?;
        match select.exists(params![int(folder), uid.value(), join.0])? {
            true => Ok(()),
            false => {
                Err(damaged(format!("folder {folder}: entry {uid} is found by one of its indexes alone")))
            }
        }
    }

    /// Whether what names this Message-ID, beside `receipt`, was placed by a join that `is_looked_for`; nothing when it was placed
    /// by none. Asked for every message that is delivered: it reads a bounded number of rows, and mostly none.
    pub(in crate::store) fn joins_named(
        &self,
        gateway_mailbox: GatewayMailboxId,
        message_id: &str,
        receipt: ReceiptId,
        is_looked_for: impl Fn(&Digest) -> bool,
    ) -> Result<Option<bool>, StoreError> {
        let mut select = self.connection.prepare_cached(JOINS_NAMED)?;
        let mut rows = select.query(params![message_id, receipt.as_bytes(), gateway_mailbox.as_bytes()])?;
        let mut found = None;
        while let Some(row) = rows.next()? {
            let is_it = is_looked_for(&bytes32(row, 0)?);
            found = Some(is_it);
            if is_it {
                break;
            }
        }
        Ok(found)
    }

    /// Messages of a gateway mailbox that lie, in part at least, in objects of these runs and are in some folder.
    pub(in crate::store) fn messages_in(
        &self,
        gateway_mailbox: GatewayMailboxId,
        objects: &[(u64, u64)],
    ) -> Result<u64, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT count(DISTINCT u.message) FROM json_each(?) run
             CROSS JOIN object_use u ON u.object >= run.value ->> 0 AND u.object < run.value ->> 1
             CROSS JOIN message m ON m.id = u.message
             WHERE m.gateway_mailbox = ?
               AND EXISTS (SELECT 1 FROM placement p WHERE p.message = u.message AND p.deleted_at IS NULL)",
        )?;
        let runs = serde_json::to_string(objects).map_err(json_error)?;
        let count: i64 = select.query_row(params![runs, gateway_mailbox.as_bytes()], |row| row.get(0))?;
        Ok(unsigned(count))
    }

    /// The newest message of these exact octets whose content is not freed.
    pub(in crate::store) fn message_with_exact(
        &self,
        gateway_mailbox: GatewayMailboxId,
        exact: &Digest,
    ) -> Result<Option<(u64, MessageRow)>, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT id FROM message WHERE gateway_mailbox = ? AND exact = ? ORDER BY id DESC",
        )?;
        let mut rows = select.query(params![gateway_mailbox.as_bytes(), exact.0])?;
        while let Some(row) = rows.next()? {
            let id = unsigned(row.get(0)?);
            let message = self.message(id)?;
            if self.freed_at(&message)?.is_none() {
                return Ok(Some((id, message)));
            }
        }
        Ok(None)
    }

    /// # Errors
    /// [`StoreError::Gone`] when its entry was lost; [`StoreError::IndexDamaged`] when it has no row, or another than was
    /// written.
    pub(in crate::store) fn message(&self, message: u64) -> Result<MessageRow, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT id, gateway_mailbox, extents, octets, canonical_octets, lines, flags, exact, join_digest, sha256,
                    summary, summary_at, row_check FROM message WHERE id = ?",
        )?;
        let mut rows = select.query([int(message)])?;
        let missing = || damaged(format!("message {message} is not there"));
        let row = rows.next()?.ok_or_else(missing)?;
        let (gateway_mailbox, extents): ([u8; 16], String) = (row.get(1)?, row.get(2)?);
        let columns = MessageColumns {
            id: row.get(0)?,
            gateway_mailbox: &gateway_mailbox,
            extents: &extents,
            octets: row.get(3)?,
            canonical: [row.get(4)?, row.get(5)?],
            flags: row.get(6)?,
            exact: row.get(7)?,
            join: row.get(8)?,
            sha256: row.get(9)?,
            summary: [row.get(10)?, row.get(11)?],
        };
        columns.check().verify(row.get(12)?, "a message")?;
        let [summary, summary_at] = columns.summary;
        if columns.flags & FLAG_LOST != 0 {
            return Err(StoreError::Gone);
        }
        Ok(MessageRow {
            gateway_mailbox: GatewayMailboxId::from_bytes(gateway_mailbox),
            extents: serde_json::from_str(&extents).map_err(json_error)?,
            summary: unsigned(summary),
            summary_at: u32::try_from(summary_at).unwrap_or(u32::MAX),
            octets: unsigned(columns.octets),
            sha256: columns.sha256.map(Digest),
        })
    }

    /// # Errors
    /// As [`Index::message`].
    pub(in crate::store) fn object(&self, object: u64) -> Result<ObjectRow, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT id, octets, sealed_octets, sealed_sha256, segment, place, file, row_check FROM object WHERE id = ?",
        )?;
        let mut rows = select.query([int(object)])?;
        let missing = || damaged(format!("object {object} is not there"));
        let row = rows.next()?.ok_or_else(missing)?;
        let file: Option<String> = row.get(6)?;
        let (segment, place): (Option<i64>, Option<i64>) = (row.get(4)?, row.get(5)?);
        let columns = ObjectColumns {
            id: row.get(0)?,
            octets: row.get(1)?,
            sealed_octets: row.get(2)?,
            sealed_sha256: row.get(3)?,
            at: segment.zip(place),
            file: file.as_deref(),
        };
        columns.check().verify(row.get(7)?, "an object")?;
        let place = match (columns.at, columns.file) {
            (_, Some(file)) => ObjectPlace::File(file.to_owned()),
            (Some((segment, place)), None) => {
                ObjectPlace::Log { segment: unsigned(segment), offset: unsigned(place) }
            }
            (None, None) => return Err(StoreError::Gone),
        };
        Ok(ObjectRow {
            octets: unsigned(columns.octets),
            sealed_octets: unsigned(columns.sealed_octets),
            sealed_sha256: Digest(columns.sealed_sha256),
            place,
        })
    }

    /// The objects that entries need which are live or can be had back, from the entry behind `after` on, folder and UID, in their order; at most so many
    /// entries. Gives the last of them.
    pub(in crate::store) fn objects_in_use(
        &self,
        after: (i64, i64),
        most: usize,
        take: &mut dyn FnMut(u64),
    ) -> Result<Option<(i64, i64)>, StoreError> {
        let mut select = self.connection.prepare_cached(IN_USE)?;
        let mut rows = select.query(params![after.0, after.1, int(most as u64)])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            last = Some((row.get(0)?, row.get(1)?));
            let extents: Vec<StoredExtent> =
                serde_json::from_str(row.get_ref(2)?.as_str().unwrap_or_default()).map_err(json_error)?;
            extents.iter().for_each(|extent| take(extent.object));
            take(unsigned(row.get(3)?));
        }
        Ok(last)
    }

    /// True when some object lies in this content file.
    pub(in crate::store) fn names_content_file(&self, file: &str) -> Result<bool, StoreError> {
        let mut select = self.connection.prepare_cached("SELECT 1 FROM object WHERE file = ? LIMIT 1")?;
        Ok(select.exists([file])?)
    }

    /// Looks through the next objects from this one on for any in these content files; gives the last it looked at, and none at
    /// the end.
    ///
    /// # Errors
    /// [`StoreError::IndexDamaged`] when there is one.
    pub(in crate::store) fn confirm_unnamed(
        &self,
        files: &HashSet<&str>,
        from: u64,
    ) -> Result<Option<u64>, StoreError> {
        let mut select = self
            .connection
            .prepare_cached("SELECT id, file FROM object NOT INDEXED WHERE id >= ? ORDER BY id LIMIT ?")?;
        let mut rows = select.query([int(from), OBJECTS_AT_A_TIME])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            last = Some(unsigned(row.get(0)?));
            let file = row.get_ref(1)?.as_str_or_null();
            let file = file.map_err(|e| damaged(format!("an object's file: {e}")))?;
            if let Some(file) = file.filter(|file| files.contains(file)) {
                return Err(damaged(format!("content file {file} is not found by its index")));
            }
        }
        Ok(last)
    }

    /// Those of `uids` that are live in `folder`, rising: found by the runs they make.
    pub(in crate::store) fn live_uids(&self, folder: u64, uids: &[Uid]) -> Result<Vec<Uid>, StoreError> {
        let mut uids = uids.to_vec();
        uids.sort_unstable();
        uids.dedup();
        let mut live = Vec::with_capacity(uids.len());
        for (first, last) in runs(&uids) {
            live.extend(self.uids_of(LIVE_UIDS, int(folder), (first.value(), last.value()))?);
        }
        Ok(live)
    }

    /// Where the entries of a receipt stand in the log, one for each gateway mailbox.
    pub(in crate::store) fn receipt_entries(
        &self,
        receipt: ReceiptId,
    ) -> Result<Vec<EntryPlace>, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT id, gateway_mailbox, at, segment, place, octets, identity, row_check FROM receipt
             WHERE id = ? ORDER BY gateway_mailbox",
        )?;
        entry_places(Kind::Receipt, select.query([receipt.as_bytes()])?)
    }

    /// Where the entry of a receipt for one gateway mailbox stands in the log.
    pub(in crate::store) fn receipt_entry(
        &self,
        receipt: ReceiptId,
        gateway_mailbox: GatewayMailboxId,
    ) -> Result<Option<EntryPlace>, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT id, gateway_mailbox, at, segment, place, octets, identity, row_check FROM receipt
             WHERE id = ? AND gateway_mailbox = ?",
        )?;
        let rows = select.query(params![receipt.as_bytes(), gateway_mailbox.as_bytes()])?;
        Ok(entry_places(Kind::Receipt, rows)?.pop())
    }

    /// The receipts of the first or the last entries of a folder, each once, deleted ones included, with the times of their arrival. An
    /// entry made later than its mail came is not among them.
    pub(in crate::store) fn receipts_of_folder(
        &self,
        folder: u64,
        which: Arrivals,
        most: usize,
    ) -> Result<Vec<(Timestamp, ReceiptId)>, StoreError> {
        let mut select = self.connection.prepare_cached(match which {
            Arrivals::First => {
                "SELECT at, receipt FROM placement p WHERE folder = ? AND NOT EXISTS (
                     SELECT 1 FROM placed_later l WHERE l.folder = p.folder AND l.uid = p.uid)
                 ORDER BY uid"
            }
            Arrivals::Last => {
                "SELECT at, receipt FROM placement p WHERE folder = ? AND NOT EXISTS (
                     SELECT 1 FROM placed_later l WHERE l.folder = p.folder AND l.uid = p.uid)
                 ORDER BY uid DESC"
            }
        })?;
        let mut rows = select.query([int(folder)])?;
        let mut came: Vec<(Timestamp, ReceiptId)> = Vec::new();
        while came.len() < most {
            let Some(row) = rows.next()? else { break };
            let arrival = (Timestamp::from_unix_ms(row.get(0)?), receipt_id(row, 1)?);
            // The originals of one message have their entries one behind the other.
            if came.last().is_none_or(|(_, receipt)| *receipt != arrival.1) {
                came.push(arrival);
            }
        }
        Ok(came)
    }

    /// Receipts that name `value` (folded address or Message-ID), newest first.
    pub(in crate::store) fn receipts_naming(
        &self,
        value: &str,
        since: Timestamp,
        most: usize,
    ) -> Result<Vec<ReceiptId>, StoreError> {
        // A receipt id begins with its time: the key itself is the range.
        let from = ReceiptId::new(unsigned(since.unix_ms()), [0; 10]);
        let mut select = self.connection.prepare_cached(
            "SELECT receipt FROM name WHERE value = ? AND receipt >= ? ORDER BY receipt DESC LIMIT ?",
        )?;
        let rows =
            select.query_map(params![value, from.as_bytes(), int(most as u64)], |row| receipt_id(row, 0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Receipts since a time, newest first.
    pub(in crate::store) fn receipts_since(
        &self,
        since: Timestamp,
        most: usize,
    ) -> Result<Vec<ReceiptId>, StoreError> {
        let from = ReceiptId::new(unsigned(since.unix_ms()), [0; 10]);
        let mut select = self
            .connection
            .prepare_cached("SELECT DISTINCT id FROM receipt WHERE id >= ? ORDER BY id DESC LIMIT ?")?;
        let rows = select.query_map(params![from.as_bytes(), int(most as u64)], |row| receipt_id(row, 0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// When mail came and went. Everything accepted has an entry in INBOX, and their order is that of their arrival; what was
    /// released from Quarantine later did not come then, and what an NDR brought back shows that mail does not come.
    pub(in crate::store) fn activity(
        &self,
        gateway_mailbox: GatewayMailboxId,
        since: Timestamp,
    ) -> Result<Activity, StoreError> {
        let Some(inbox) = self.folder(gateway_mailbox, &FolderName::Inbox)? else {
            return Ok(Activity::default());
        };
        let mut activity = Activity::default();
        let (first, behind) = notice_ids();
        let mut select = self.connection.prepare_cached(&format!(
            "SELECT at, receipt FROM placement p WHERE folder = ?3 AND receipt NOT IN ({NOTICES}) AND NOT EXISTS (
                 SELECT 1 FROM placed_later l WHERE l.folder = p.folder AND l.uid = p.uid)
             ORDER BY uid DESC"
        ))?;
        let mut rows = select.query(params![first, behind, int(inbox.id)])?;
        let mut spans = BTreeMap::new();
        let mut counted: Option<ReceiptId> = None;
        while let Some(row) = rows.next()? {
            let at: i64 = row.get(0)?;
            // The originals of one message have their entries one behind the other.
            let receipt = receipt_id(row, 1)?;
            if counted.replace(receipt) == Some(receipt) {
                continue;
            }
            let last = activity.last_received.get_or_insert(Timestamp::from_unix_ms(at));
            *last = Timestamp::from_unix_ms(last.unix_ms().max(at));
            // Sessions that end together may be numbered in another order than they began in.
            if at < since.unix_ms().min(last.unix_ms()).saturating_sub(ARRIVAL_ORDER_SLACK_MS) {
                break;
            }
            if at >= since.unix_ms() {
                *spans.entry(at - at.rem_euclid(ARRIVALS_SPAN_MS)).or_insert(0_u64) += 1;
            }
        }
        activity.arrivals =
            spans.into_iter().map(|(span, count)| (Timestamp::from_unix_ms(span), count)).collect();
        let mut select = self.connection.prepare_cached(LAST_EVENT)?;
        let at: Option<i64> = select.query_row([gateway_mailbox.as_bytes()], |row| row.get(0))?;
        activity.last_fetched = at.map(Timestamp::from_unix_ms);
        Ok(activity)
    }

    /// What became of the mail since, and what waits.
    pub(in crate::store) fn tally(
        &self,
        gateway_mailbox: GatewayMailboxId,
        since: Timestamp,
    ) -> Result<Tally, StoreError> {
        let mut tally = Tally::default();
        let (first, behind) = notice_ids();
        // A receipt's id is drawn when its transaction begins, its time when that ends.
        let from_ms = since.unix_ms().saturating_sub(ARRIVAL_ORDER_SLACK_MS);
        let from = ReceiptId::new(unsigned(from_ms), [0; 10]);
        let mut select = self.connection.prepare_cached(&format!("{OUTCOMES}{NOTICES}) GROUP BY 1"))?;
        let id = gateway_mailbox.as_bytes();
        let mut rows = select.query(params![first, behind, from.as_bytes(), id, since.unix_ms()])?;
        while let Some(row) = rows.next()? {
            let (made, there) = (unsigned(row.get(1)?), unsigned(row.get(2)?));
            match row.get_ref(0)?.as_str().unwrap_or_default() {
                "inbox" => (tally.received, tally.octets) = (unsigned(row.get(4)?), unsigned(row.get(3)?)),
                "unassigned" => tally.unassigned = there,
                "quarantine" => tally.quarantined = there,
                _ => tally.in_user_folders = made,
            }
        }
        // There may be none yet, and messages that were held back all the same.
        let Some(inbox) = self.folder(gateway_mailbox, &FolderName::Inbox)? else { return Ok(tally) };
        let mut select = self.connection.prepare_cached(FETCHED)?;
        tally.fetched =
            unsigned(select.query_row(params![int(inbox.id), since.unix_ms()], |row| row.get(0))?);
        let mut select = self.connection.prepare_cached(&format!("{WAITING}{NOTICES})"))?;
        let (waiting, octets, oldest) = select.query_row(params![first, behind, int(inbox.id)], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get::<_, Option<i64>>(2)?))
        })?;
        (tally.waiting, tally.waiting_octets) = (unsigned(waiting), unsigned(octets));
        tally.oldest_waiting = oldest.map(Timestamp::from_unix_ms);
        Ok(tally)
    }

    /// What happened to one placement after it was made, and whether it is still there.
    pub(in crate::store) fn events(&self, folder: u64, uid: Uid) -> Result<Vec<EventRow>, StoreError> {
        let mut select = self.connection.prepare_cached(EVENTS)?;
        let rows = select.query_map(params![int(folder), uid.value(), uid.value()], event_row)?;
        let mut events: Vec<EventRow> = rows.collect::<Result<_, _>>()?;
        let mut select = self.connection.prepare_cached(KEEPING_EVENTS)?;
        for event in select.query_map(params![int(folder), uid.value(), uid.value()], event_row)? {
            events.push(event?);
        }
        events.sort_by_key(|event| event.at);
        let mut select = self.connection.prepare_cached(DEPARTURE)?;
        events.extend(select.query_row(params![int(folder), uid.value()], event_row).optional()?);
        Ok(events)
    }

    /// What ended one placement, if something did. Unlike [`Index::events`] it does not read the sessions of all clients that
    /// came since, and so can be asked for every receipt there is; nor does it know the client.
    pub(in crate::store) fn ended(&self, folder: u64, uid: Uid) -> Result<Option<EventRow>, StoreError> {
        let mut select = self.connection.prepare_cached(ENDED)?;
        Ok(select.query_row(params![int(folder), uid.value()], event_row).optional()?)
    }
}

fn event_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<EventRow> {
    Ok(EventRow {
        at: Timestamp::from_unix_ms(row.get(0)?),
        kind: row.get(1)?,
        client: row.get(2)?,
        actor: row.get(3)?,
        why: row.get(4)?,
    })
}

/// Where entries stand, from all columns of `receipt` or `revision`.
pub(super) fn entry_places(kind: Kind, mut rows: rusqlite::Rows<'_>) -> Result<Vec<EntryPlace>, StoreError> {
    let mut places = Vec::new();
    while let Some(row) = rows.next()? {
        let (receipt, gateway_mailbox): ([u8; 16], [u8; 16]) = (row.get(0)?, row.get(1)?);
        let numbers @ [_, segment, place, octets]: [i64; 4] =
            [row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?];
        let identity: Option<[u8; 32]> = row.get(6)?;
        let check = entry_check(kind, (&receipt, &gateway_mailbox), numbers, identity);
        check.verify(row.get(7)?, "the place of an entry")?;
        places.push((unsigned(segment), unsigned(place), u32::try_from(octets).unwrap_or(u32::MAX)));
    }
    Ok(places)
}

/// The first Message-ID a notice can have, and the first text behind all of them.
fn notice_ids() -> (&'static str, String) {
    (NOTICE_ID_BEGINNING, format!("{NOTICE_ID_BEGINNING}\u{10ffff}"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// How SQLite goes about a question, one line a step.
    pub(in crate::store::index) fn plan(index: &Index, sql: &str) -> Vec<String> {
        let mut select = index.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        for parameter in 1..=select.parameter_count() {
            select.raw_bind_parameter(parameter, 1).unwrap();
        }
        let mut rows = select.raw_query();
        let mut steps = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            steps.push(row.get(3).unwrap());
        }
        steps
    }

    pub(in crate::store::index) fn position(plan: &[String], step: &str) -> usize {
        let place = plan.iter().position(|line| line.starts_with(step));
        place.unwrap_or_else(|| panic!("no step {step} in {plan:#?}"))
    }

    #[test]
    fn what_became_of_a_day_is_read_from_that_days_receipts_alone() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::create(&dir.path().join("index")).unwrap();
        let outcomes = plan(&index, &format!("{OUTCOMES}{NOTICES}) GROUP BY 1"));
        let steps = [
            "SEARCH r USING PRIMARY KEY (id>?)",
            "SEARCH p USING INDEX placement_receipt (receipt=?)",
            "SEARCH f USING INTEGER PRIMARY KEY (rowid=?)",
        ];
        assert!(steps.map(|step| position(&outcomes, step)).is_sorted(), "{outcomes:#?}");
        position(
            &plan(&index, FETCHED),
            "SEARCH folder_event USING INDEX folder_event_at (folder=? AND at>?)",
        );
        let in_use = plan(&index, IN_USE);
        position(&in_use, "SEARCH p USING PRIMARY KEY");
        assert!(!in_use.iter().any(|step| step.contains("ORDER BY")), "{in_use:#?}");
        let last = plan(&index, LAST_EVENT);
        position(&last, "SEARCH e USING COVERING INDEX folder_event_at (folder=?)");
        assert!(!last.iter().any(|step| step.starts_with("SCAN e")), "{last:#?}");
        let named = plan(&index, JOINS_NAMED);
        let steps =
            ["SEARCH name USING PRIMARY KEY (value=?)", "SEARCH p USING INDEX placement_receipt (receipt=?)"];
        assert!(steps.map(|step| position(&named, step)).is_sorted(), "{named:#?}");
        let of_one = plan(&index, EVENTS);
        position(&of_one, "SEARCH folder_event USING INDEX folder_event_uids (folder=? AND first<?)");
        let ended = plan(&index, ENDED);
        for step in [
            "SEARCH p USING PRIMARY KEY (folder=? AND uid=?)",
            "SEARCH d USING PRIMARY KEY (folder=? AND uid=?)",
        ] {
            position(&ended, step);
        }
        assert_eq!(ended.len(), 2, "{ended:#?}");
    }
}
