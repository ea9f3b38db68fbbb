//! What an entry of the log changes in the index, for new mail and for replay alike.
//!
//! An entry may refer to what only an entry that the log has lost would have made. While the index is made anew, such a message
//! or object gets a row that says so; at any other time the row must be there, and the index is damaged.

use super::folders::{Folder, canonical, entry_sum};
use super::sums::{GATEWAY_MAILBOXES, Kind, RowSum, damaged};
use super::{Came, FLAG_BARE_LINE_ENDS, FLAG_ENDS_WITH_LINE_END, FLAG_LOST, Index, Place, PlacementRow, int};
use crate::mail::{CanonicalSize, GatewayMailboxId, ReceiptId, Timestamp, Uid, UidValidity};
use crate::store::StoreError;
use crate::store::fact::{
    Fact, FolderEventFact, FolderFact, GatewayMailboxFact, KeyFileFact, MessageFact, ObjectFact,
    PlacementFact, ReceivedFact, ReportRecord,
};
use rusqlite::{OptionalExtension, params};

/// The columns of `object`, as they are checked.
pub(in crate::store) struct ObjectColumns<'a> {
    pub(in crate::store) id: i64,
    pub(in crate::store) octets: i64,
    pub(in crate::store) sealed_octets: i64,
    pub(in crate::store) sealed_sha256: [u8; 32],
    pub(in crate::store) at: Option<(i64, i64)>,
    pub(in crate::store) file: Option<&'a str>,
}

impl ObjectColumns<'_> {
    pub(super) fn check(&self) -> RowSum {
        RowSum::of(Kind::Object)
            .int(self.id)
            .int(self.octets)
            .int(self.sealed_octets)
            .bytes(&self.sealed_sha256)
            .maybe(self.at, |sum, (segment, place)| sum.int(segment).int(place))
            .maybe(self.file, |sum, file| sum.bytes(file.as_bytes()))
    }

    /// The column `row_check`.
    pub(in crate::store) fn row_check(&self) -> i64 {
        self.check().end()
    }
}

/// The columns of `message`, as they are checked.
pub(in crate::store) struct MessageColumns<'a> {
    pub(in crate::store) id: i64,
    pub(in crate::store) gateway_mailbox: &'a [u8; 16],
    pub(in crate::store) extents: &'a str,
    pub(in crate::store) octets: i64,
    pub(in crate::store) canonical: [i64; 2],
    pub(in crate::store) flags: i64,
    pub(in crate::store) exact: [u8; 32],
    pub(in crate::store) join: [u8; 32],
    pub(in crate::store) sha256: Option<[u8; 32]>,
    pub(in crate::store) summary: [i64; 2],
}

impl MessageColumns<'_> {
    pub(super) fn check(&self) -> RowSum {
        let numbers =
            [self.id, self.octets, self.flags].into_iter().chain(self.canonical).chain(self.summary);
        numbers
            .fold(RowSum::of(Kind::Message), RowSum::int)
            .bytes(self.gateway_mailbox)
            .bytes(self.extents.as_bytes())
            .bytes(&self.exact)
            .bytes(&self.join)
            .maybe(self.sha256, |sum, sha256| sum.bytes(&sha256))
    }

    /// The column `row_check`.
    pub(in crate::store) fn row_check(&self) -> i64 {
        self.check().end()
    }
}

/// The check of a row of `receipt` or `revision`: where an entry stands.
pub(super) fn entry_check(
    kind: Kind,
    (receipt, gateway_mailbox): (&[u8; 16], &[u8; 16]),
    numbers: [i64; 4],
    identity: Option<[u8; 32]>,
) -> RowSum {
    numbers
        .into_iter()
        .fold(RowSum::of(kind).bytes(receipt).bytes(gateway_mailbox), RowSum::int)
        .maybe(identity, |sum, identity| sum.bytes(&identity))
}

/// The column `row_check` of a receipt.
pub(in crate::store) fn receipt_check(
    key: (&[u8; 16], &[u8; 16]),
    numbers: [i64; 4],
    identity: Option<[u8; 32]>,
) -> i64 {
    entry_check(Kind::Receipt, key, numbers, identity).end()
}

/// The column `row_check` of a revision.
pub(in crate::store) fn revision_check(
    key: (&[u8; 16], &[u8; 16]),
    numbers: [i64; 4],
    identity: Option<[u8; 32]>,
) -> i64 {
    entry_check(Kind::Revision, key, numbers, identity).end()
}

/// The check of a row of `gateway_mailbox`.
pub(super) fn gateway_mailbox_check(id: &[u8; 16], state: &str, digest_key: &[u8; 32]) -> RowSum {
    RowSum::of(Kind::GatewayMailbox).bytes(id).bytes(state.as_bytes()).bytes(digest_key)
}

impl Index {
    /// Takes one fact in.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when it contradicts what was before.
    pub(in crate::store) fn apply(&self, fact: &Fact, place: &Place) -> Result<(), StoreError> {
        match fact {
            Fact::GatewayMailbox(fact) => self.apply_gateway_mailbox(fact),
            Fact::Folder(fact) => self.apply_folder(fact),
            Fact::Object(fact) => self.apply_object(fact, place),
            Fact::Received(fact) => self.apply_received(fact, place),
            Fact::Fetched(fact) => self.apply_event(fact, "fetched"),
            Fact::Deleted(fact) => self.apply_deleted(fact),
            Fact::Revised(fact) => self.apply_revised(fact, place),
            Fact::KeyFile(fact) => self.apply_key_file(fact),
            Fact::TurnedAway(told) => self.apply_turned_away(told, place),
            Fact::Expired(fact) => self.apply_expired(fact),
            Fact::Undeleted(fact) => self.apply_undeleted(fact),
            Fact::Freed(fact) => self.apply_freed(fact),
            Fact::ClockTrusted(_) => Ok(()),
            Fact::Flagged(fact) => self.apply_flagged(fact),
            Fact::Restored(fact) => self.skip_uids_of_all(fact.uids_skipped),
        }
    }

    fn apply_key_file(&self, fact: &KeyFileFact) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO key_file VALUES (?, ?, ?, ?)")?
            .execute(params![fact.gateway_mailbox.as_bytes(), fact.name, int(fact.octets), fact.sha256.0])?;
        Ok(())
    }

    /// The files of wrapped keyrings that are on record, with their hashes.
    pub(in crate::store) fn key_files(
        &self,
    ) -> Result<Vec<(GatewayMailboxId, String, crate::store::Digest)>, StoreError> {
        let mut files =
            self.connection.prepare_cached("SELECT gateway_mailbox, name, sha256 FROM key_file")?;
        let file = |row: &rusqlite::Row<'_>| {
            Ok((GatewayMailboxId::from_bytes(row.get(0)?), row.get(1)?, crate::store::Digest(row.get(2)?)))
        };
        let rows = files.query_map([], file)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The hash of one of them.
    pub(in crate::store) fn key_file(
        &self,
        id: GatewayMailboxId,
        name: &str,
    ) -> Result<Option<crate::store::Digest>, StoreError> {
        let mut file = self
            .connection
            .prepare_cached("SELECT sha256 FROM key_file WHERE gateway_mailbox = ? AND name = ?")?;
        let sha256 = |row: &rusqlite::Row<'_>| row.get(0).map(crate::store::Digest);
        Ok(file.query_row(params![id.as_bytes(), name], sha256).optional()?)
    }

    fn apply_gateway_mailbox(&self, fact: &GatewayMailboxFact) -> Result<(), StoreError> {
        let state = serde_json::to_string(&fact.gateway_mailbox).map_err(super::json_error)?;
        let id = fact.gateway_mailbox.id;
        let check = gateway_mailbox_check(id.as_bytes(), &state, &fact.digest_key.0).end();
        let mut select =
            self.connection.prepare_cached("SELECT row_check FROM gateway_mailbox WHERE id = ?")?;
        let before: Option<i64> = select.query_row([id.as_bytes()], |row| row.get(0)).optional()?;
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO gateway_mailbox VALUES (?, ?, ?, ?)")?
            .execute(params![id.as_bytes(), state, fact.digest_key.0, check])?;
        self.count(GATEWAY_MAILBOXES, before, check)
    }

    fn apply_object(&self, fact: &ObjectFact, place: &Place) -> Result<(), StoreError> {
        let at = fact.file.is_none().then_some((int(place.segment), int(place.payload_offset)));
        self.insert_object(&ObjectColumns {
            id: int(fact.object),
            octets: int(fact.octets),
            sealed_octets: int(fact.sealed_octets),
            sealed_sha256: fact.sealed_sha256.0,
            at,
            file: fact.file.as_deref(),
        })
    }

    fn insert_object(&self, row: &ObjectColumns<'_>) -> Result<(), StoreError> {
        self.connection.prepare_cached("INSERT INTO object VALUES (?, ?, ?, ?, ?, ?, ?, ?)")?.execute(
            params![
                row.id,
                row.octets,
                row.sealed_octets,
                row.sealed_sha256,
                row.at.map(|a| a.0),
                row.at.map(|a| a.1),
                row.file,
                row.row_check()
            ],
        )?;
        Ok(())
    }

    /// An object some message refers to has its row.
    fn ensure_object(&self, object: u64) -> Result<(), StoreError> {
        let mut known = self.connection.prepare_cached("SELECT 1 FROM object WHERE id = ?")?;
        if known.exists([int(object)])? {
            return Ok(());
        }
        if !self.is_made_anew() {
            return Err(damaged(format!("object {object} is not there")));
        }
        let (sealed_sha256, id) = ([0; 32], int(object));
        self.insert_object(&ObjectColumns {
            id,
            octets: 0,
            sealed_octets: 0,
            sealed_sha256,
            at: None,
            file: None,
        })
    }

    /// A row of `receipt` or `revision`: where an entry stands.
    pub(super) fn insert_entry(
        &self,
        insert: &str,
        key: (&[u8; 16], &[u8; 16]),
        numbers: [i64; 4],
        identity: Option<[u8; 32]>,
        check: i64,
    ) -> Result<(), StoreError> {
        let [first, segment, place, octets] = numbers;
        self.connection
            .prepare_cached(insert)?
            .execute(params![key.0, key.1, first, segment, place, octets, identity, check])?;
        Ok(())
    }

    fn apply_received(&self, fact: &ReceivedFact, place: &Place) -> Result<(), StoreError> {
        let identity = fact.repeats.is_none().then_some(fact.identity.0);
        let key = (fact.receipt_id.as_bytes(), fact.gateway_mailbox.as_bytes());
        let numbers =
            [fact.at.unix_ms(), int(place.segment), int(place.entry_offset), i64::from(place.entry_octets)];
        let check = receipt_check(key, numbers, identity);
        self.insert_entry(
            "INSERT INTO receipt VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            key,
            numbers,
            identity,
            check,
        )?;
        if let Some(from) = fact.kept_from {
            self.insert_kept_from(fact.receipt_id, from)?;
        }
        for (index, message) in fact.messages.iter().enumerate() {
            let whole = (index == 0).then_some(fact.sha256.0);
            self.insert_message(&fact.gateway_mailbox, message, whole)?;
        }
        for placement in &fact.placements {
            let join = fact.messages.iter().find(|m| m.message == placement.message).map(|m| m.join.0);
            let of = Came {
                receipt_id: fact.receipt_id,
                gateway_mailbox: fact.gateway_mailbox,
                at: fact.at,
                epoch: fact.epoch,
            };
            self.insert_placement(&of, placement, join)?;
            if fact.recovered_from.is_some() {
                self.insert_placed_later(placement)?;
            }
        }
        let of = (
            fact.repeats.unwrap_or(fact.receipt_id),
            fact.gateway_mailbox,
            fact.kept_from.unwrap_or(fact.at),
        );
        self.insert_unplaced(of, &fact.messages, fact.placements.iter())?;
        let ids = [&fact.message_id, &fact.parent_message_id, &fact.returned_message_id];
        self.insert_names(fact.receipt_id, names(&ids, &fact.reports, &fact.messages))
    }

    pub(super) fn insert_placement(
        &self,
        of: &Came,
        placement: &PlacementFact,
        join: Option<[u8; 32]>,
    ) -> Result<(), StoreError> {
        let size = self.size_of(&of.gateway_mailbox, placement.message)?;
        // One whose message was lost with its entry is over from the beginning.
        let deleted_at = size.is_none().then_some(of.at.unix_ms());
        let row = size.map(|(octets, canonical)| PlacementRow {
            uid: placement.uid,
            message: placement.message,
            receipt_id: of.receipt_id,
            at: of.at,
            epoch: of.epoch,
            octets,
            canonical,
        });
        let row_check = row.as_ref().map_or(0, |row| entry_sum(placement.folder, row));
        self.connection.prepare_cached("INSERT INTO placement VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")?.execute(
            params![
                int(placement.folder),
                placement.uid.value(),
                int(placement.message),
                of.receipt_id.as_bytes(),
                of.at.unix_ms(),
                of.epoch,
                join,
                deleted_at,
                row_check
            ],
        )?;
        let mut folder = match self.folder_of(placement.folder)? {
            Some(folder) => folder,
            None => self.lost_folder(of, placement)?,
        };
        folder.pass(placement.uid);
        row.iter().for_each(|row| folder.gain(row));
        self.save_folder(&folder)
    }

    /// What a listing shows of a message; nothing when its entry was lost.
    fn size_of(
        &self,
        gateway_mailbox: &GatewayMailboxId,
        message: u64,
    ) -> Result<Option<(u64, CanonicalSize)>, StoreError> {
        let mut select = self
            .connection
            .prepare_cached("SELECT octets, canonical_octets, lines, flags FROM message WHERE id = ?")?;
        let row = select
            .query_row([int(message)], |row| {
                let lost = row.get::<_, i64>(3)? & FLAG_LOST != 0;
                Ok((!lost).then_some((super::unsigned(row.get(0)?), canonical(row, 1)?)))
            })
            .optional()?;
        if let Some(size) = row {
            return Ok(size);
        }
        if !self.is_made_anew() {
            return Err(damaged(format!("message {message} is not there")));
        }
        let lost = MessageColumns {
            id: int(message),
            gateway_mailbox: gateway_mailbox.as_bytes(),
            extents: "[]",
            octets: 0,
            canonical: [0; 2],
            flags: FLAG_LOST,
            exact: [0; 32],
            join: [0; 32],
            sha256: None,
            summary: [0; 2],
        };
        self.insert_message_row(&lost, false).map(|()| None)
    }

    pub(super) fn insert_placed_later(&self, placement: &PlacementFact) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("INSERT INTO placed_later VALUES (?, ?)")?
            .execute(params![int(placement.folder), placement.uid.value()])?;
        Ok(())
    }

    pub(super) fn insert_names(&self, receipt: ReceiptId, names: Vec<String>) -> Result<(), StoreError> {
        let mut insert = self.connection.prepare_cached("INSERT OR IGNORE INTO name VALUES (?, ?)")?;
        for name in names {
            insert.execute(params![name, receipt.as_bytes()])?;
        }
        Ok(())
    }

    /// Makes a folder's row anew when its own entry was lost. Its UIDVALIDITY changes, so clients look at it afresh.
    fn lost_folder(&self, of: &Came, placement: &PlacementFact) -> Result<Folder, StoreError> {
        if !self.is_made_anew() {
            return Err(damaged(format!("folder {} is not there", placement.folder)));
        }
        let validity = u32::try_from(of.at.unix_seconds()).ok().and_then(UidValidity::new);
        self.apply_folder(&FolderFact {
            folder: placement.folder,
            gateway_mailbox: of.gateway_mailbox,
            name: placement.name.clone(),
            slug: None,
            uid_validity: validity.unwrap_or(UidValidity(std::num::NonZeroU32::MIN)),
            again: false,
        })?;
        self.folder_of(placement.folder)?.ok_or_else(|| damaged("a folder just made is not there"))
    }

    pub(super) fn insert_message(
        &self,
        gateway_mailbox: &GatewayMailboxId,
        message: &MessageFact,
        sha256: Option<[u8; 32]>,
    ) -> Result<(), StoreError> {
        let canonical = &message.canonical;
        let flags = row_flags(canonical);
        for object in message.extents.iter().map(|extent| extent.object).chain([message.summary.0]) {
            self.ensure_object(object)?;
        }
        let columns = MessageColumns {
            id: int(message.message),
            gateway_mailbox: gateway_mailbox.as_bytes(),
            extents: &serde_json::to_string(&message.extents).map_err(super::json_error)?,
            octets: int(message.octets),
            canonical: [int(canonical.octets), int(canonical.lines)],
            flags,
            exact: message.exact.0,
            join: message.join.0,
            sha256,
            summary: [int(message.summary.0), i64::from(message.summary.1)],
        };
        self.insert_message_row(&columns, message.held)?;
        let objects = message.extents.iter().map(|extent| extent.object).chain([message.summary.0]);
        self.insert_object_uses(message.message, objects)
    }

    fn insert_message_row(&self, row: &MessageColumns<'_>, held: bool) -> Result<(), StoreError> {
        // A held message has its row, unless the entry it came with was lost.
        let insert = match held {
            true => "INSERT OR IGNORE INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            false => "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        };
        self.connection.prepare_cached(insert)?.execute(params![
            row.id,
            row.gateway_mailbox,
            row.extents,
            row.octets,
            row.canonical[0],
            row.canonical[1],
            row.flags,
            row.exact,
            row.join,
            row.sha256,
            row.summary[0],
            row.summary[1],
            row.row_check()
        ])?;
        Ok(())
    }

    fn apply_event(&self, fact: &FolderEventFact, kind: &str) -> Result<(), StoreError> {
        let client = serde_json::to_string(&fact.client).map_err(super::json_error)?;
        let mut insert =
            self.connection.prepare_cached("INSERT INTO folder_event VALUES (?, ?, ?, ?, ?, ?)")?;
        for (first, last) in &fact.uids {
            insert.execute(params![
                int(fact.folder),
                first.value(),
                last.value(),
                fact.at.unix_ms(),
                kind,
                client
            ])?;
        }
        Ok(())
    }

    fn apply_deleted(&self, fact: &FolderEventFact) -> Result<(), StoreError> {
        self.end_runs(fact.folder, &fact.uids, fact.at)?;
        self.apply_event(fact, "deleted")
    }

    /// Ends the live entries of a folder in these runs. The folder's row is read and saved once, however many runs there are.
    pub(super) fn end_runs(&self, folder: u64, uids: &[(Uid, Uid)], at: Timestamp) -> Result<(), StoreError> {
        let mut left = None;
        for (first, last) in uids {
            self.end_stretch(folder, (first.value(), last.value()), at, &mut left, |index| {
                index
                    .connection
                    .prepare_cached(
                        "UPDATE placement SET deleted_at = ?
                         WHERE folder = ? AND uid BETWEEN ? AND ? AND deleted_at IS NULL",
                    )?
                    .execute(params![at.unix_ms(), int(folder), first.value(), last.value()])
            })?;
        }
        left.map_or(Ok(()), |left| self.save_folder(&left))
    }

    /// Has `end` end the live entries of a folder from one UID to another at this time, and gives how many there were. Until
    /// they are freed they can be had back.
    pub(super) fn end_placements(
        &self,
        folder: u64,
        uids: (u32, u32),
        at: Timestamp,
        end: impl FnOnce(&Index) -> rusqlite::Result<usize>,
    ) -> Result<usize, StoreError> {
        let mut left = None;
        let ended = self.end_stretch(folder, uids, at, &mut left, end)?;
        left.map_or(Ok(()), |left| self.save_folder(&left))?;
        Ok(ended)
    }

    /// The same, and takes the entries from `left`: the folder's row, read when the first entry is to leave it. Whoever asks
    /// for it saves it.
    fn end_stretch(
        &self,
        folder: u64,
        uids: (u32, u32),
        at: Timestamp,
        left: &mut Option<Folder>,
        end: impl FnOnce(&Index) -> rusqlite::Result<usize>,
    ) -> Result<usize, StoreError> {
        let live = self.live_between(folder, uids)?;
        let ended = end(self)?;
        if ended != live.len() {
            return Err(damaged(format!(
                "folder {folder}: {} of {ended} entries have a message",
                live.len()
            )));
        }
        if ended > 0 {
            self.insert_in_grace(folder, at, live.iter().map(|row| row.uid))?;
            if left.is_none() {
                *left = self.folder_of(folder)?;
            }
            let left = left.as_mut().ok_or_else(|| damaged("entries of a folder that is not there"))?;
            live.iter().for_each(|row| left.lose(row));
            self.drop_flags(left, uids)?;
        }
        Ok(ended)
    }
}

/// The column `flags` of a message.
pub(in crate::store) fn row_flags(canonical: &CanonicalSize) -> i64 {
    let bare_line_ends = if canonical.bare_line_ends { FLAG_BARE_LINE_ENDS } else { 0 };
    bare_line_ends | if canonical.ends_with_line_end { FLAG_ENDS_WITH_LINE_END } else { 0 }
}

/// What a receipt can be asked for by: Message-IDs as written, addresses folded.
pub(in crate::store) fn names(
    ids: &[&Option<String>],
    reports: &[ReportRecord],
    messages: &[MessageFact],
) -> Vec<String> {
    let mut names: Vec<String> = ids.iter().copied().flatten().cloned().collect();
    for report in reports {
        names.extend(report.wrapper_message_id.iter().chain(&report.envelope.message_id).cloned());
        names.extend(report.envelope.participants().map(|a| a.key().as_str().to_owned()));
    }
    names.extend(messages.iter().filter_map(|m| m.message_id.clone()));
    names.sort_unstable();
    names.dedup();
    names.retain(|name| !name.is_empty());
    names
}
