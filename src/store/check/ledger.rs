//! What the log says, taken in entry by entry, in little memory: what there must be, and what cannot be true together.
//!
//! For each object its size, for each message and folder entry a bit, for each file and folder its name; rows only as sums
//! ([`Rows`]). At 20 million messages of two objects and three folder entries each that comes to about 400 MB; where
//! rows are compared and every receipt was looked at again, to 300 MB more. What was expired, freed or brought back takes 4
//! octets more for each folder entry and object, and for each message while it is gone through again ([`super::needed`]): were
//! all of those freed, 550 MB. Flags take an octet for each folder entry: 60 MB where clients read all of it.

use super::bits::{Bits, Marks, Sizes};
use super::damage::{made_by, messages_of};
use super::flagged::FlagsSaid;
use super::kept::{Kept, in_grace_row};
use super::report::FolderEntry;
use super::rows::{Rows, Table, name_bucket};
use super::said::{blob_or_null, int};
use super::segment::Seen;
use crate::mail::{GatewayMailbox, GatewayMailboxId, ReceiptId, Timestamp, Uid};
use crate::store::fact::{
    Fact, FolderEventFact, FolderFact, KeyFileFact, MessageFact, ObjectFact, PlacementFact, ReceivedFact,
    RestoredFact, RevisedFact, UndeletedFact,
};
use crate::store::index::{Numbers, names};
use crate::store::{Digest, FolderName};
use rusqlite::types::ValueRef;
use std::collections::{BTreeMap, HashMap, HashSet};

/// A folder as the log tells of it.
pub(super) struct FolderSaid {
    pub(super) gateway_mailbox: GatewayMailboxId,
    pub(super) name: FolderName,
    /// The entry that made it; none when that is lost.
    pub(super) made: Option<FolderFact>,
    pub(super) uid_max: u32,
    pub(super) placed: u64,
    pub(super) live: u64,
    /// Entries that ended, and whose content stays for now.
    pub(super) in_grace: u64,
    /// Those of them that left, by a release or a reassignment: they are elsewhere, and cannot be had back here.
    pub(super) left_in_grace: u64,
    uids: Bits,
    gone: Bits,
    left: Bits,
    /// What became of entries that were expired, freed or brought back: see [`super::kept`].
    pub(super) fates: Marks,
    pub(super) flags: FlagsSaid,
}

impl FolderSaid {
    pub(super) fn has(&self, uid: u32) -> bool {
        self.uids.has(uid.into())
    }

    pub(super) fn is_gone(&self, uid: u32) -> bool {
        self.gone.has(uid.into())
    }

    pub(super) fn has_left(&self, uid: u32) -> bool {
        self.left.has(uid.into())
    }

    /// Deleted entries that can be had back.
    pub(super) fn recoverable(&self) -> u64 {
        self.in_grace.saturating_sub(self.left_in_grace)
    }
}

/// What is taken in.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) gateway_mailboxes: BTreeMap<GatewayMailboxId, (GatewayMailbox, Digest)>,
    pub(super) folders: BTreeMap<u64, FolderSaid>,
    pub(super) key_files: BTreeMap<(GatewayMailboxId, String), KeyFileFact>,
    /// Content files that entries name, by the first half of the hash of their names.
    files: HashSet<u128>,
    objects: Sizes,
    messages: Bits,
    pub(super) object_count: u64,
    pub(super) message_count: u64,
    pub(super) receipt_count: u64,
    pub(super) newest: Option<Timestamp>,
    /// The next free numbers.
    pub(super) numbers: Numbers,
    /// Rows an index at this place of the log has, if it is to be compared.
    pub(super) rows: Option<Rows>,
    /// Buckets of names that cannot be told: those of receipts that were read again.
    pub(super) names_left_out: HashSet<u64>,
    /// Receipts of a gateway mailbox that were looked at again, by a hash, and how often those were that were more than once.
    /// Counted for rows alone.
    looked_at_again: HashSet<u64>,
    revisions: HashMap<u64, i64>,
    /// Names of the receipts of this group: a transaction to several gateway mailboxes has them once.
    group_names: HashSet<(String, ReceiptId)>,
    /// Which messages of this group lie in which objects: one that is held may stand in an entry twice.
    group_uses: HashSet<(u64, u64)>,
    group: u64,
    /// What was found wrong while the last entry was taken in.
    wrong: Vec<String>,
    /// Freed objects, and what became of entries in folders.
    pub(super) freed: Marks,
    pub(super) kept: Kept,
}

fn file_key(name: &str) -> u128 {
    Digest::of(name.as_bytes()).0.iter().take(16).fold(0, |key, octet| key << 8 | u128::from(*octet))
}

impl Ledger {
    /// Takes an entry of group `group` in. Gives what is wrong with it; such an entry counts for nothing, as
    /// when the index is made.
    pub(super) fn take(&mut self, seen: &Seen, group: u64) -> Vec<String> {
        if self.group != group {
            self.group = group;
            self.group_names.clear();
            self.group_uses.clear();
        }
        let wrong = self.contradictions(&seen.fact);
        if !wrong.is_empty() {
            return wrong;
        }
        self.numbers.pass(&seen.fact);
        match &seen.fact {
            Fact::GatewayMailbox(fact) => {
                let said = (fact.gateway_mailbox.clone(), fact.digest_key);
                self.gateway_mailboxes.insert(fact.gateway_mailbox.id, said);
            }
            Fact::Folder(fact) => {
                let said = self.folders.entry(fact.folder);
                let said = said.or_insert_with(|| folder_said(fact.gateway_mailbox, &fact.name, None));
                said.made = Some(fact.clone());
            }
            Fact::Object(fact) => self.take_object(fact, seen),
            Fact::Received(fact) => self.take_received(fact, seen),
            Fact::Revised(fact) => self.take_revised(fact, seen),
            Fact::Fetched(fact) => self.take_event(fact, "fetched"),
            Fact::Deleted(fact) => {
                for (first, last) in &fact.uids {
                    for uid in first.value()..=last.value() {
                        self.go(fact.folder, uid, fact.at);
                    }
                }
                self.take_event(fact, "deleted");
            }
            Fact::Expired(fact) => self.take_expired(fact, seen),
            Fact::Undeleted(fact) => {
                self.take_back(fact, seen);
                self.take_undeleted(fact);
            }
            Fact::Freed(fact) => self.take_freed(fact, seen),
            Fact::ClockTrusted(_) => {}
            Fact::Flagged(fact) => self.take_flagged(fact),
            Fact::Restored(fact) => self.take_restored(fact),
            Fact::KeyFile(fact) => self.take_key_file(fact),
            Fact::TurnedAway(told) => {
                self.rows.iter_mut().for_each(|rows| rows.said_turned_away(told, &seen.place));
            }
        }
        let mut wrong = std::mem::take(&mut self.wrong);
        wrong.extend(self.dangling(&seen.fact));
        wrong
    }

    /// The path of a folder, for people.
    pub(super) fn path_of(&self, folder: u64) -> String {
        let Some(said) = self.folders.get(&folder) else { return format!("folder {folder}") };
        self.path(said.gateway_mailbox, &said.name)
    }

    /// The same, with the login of its gateway mailbox before it.
    fn path(&self, gateway_mailbox: GatewayMailboxId, name: &FolderName) -> String {
        let FolderEntry { gateway_mailbox, folder, .. } = self.entry(gateway_mailbox, name, 0);
        format!("{gateway_mailbox} {folder}")
    }

    /// An entry in a folder as a client knows it.
    pub(super) fn entry(&self, id: GatewayMailboxId, name: &FolderName, uid: u32) -> FolderEntry {
        let login =
            self.gateway_mailboxes.get(&id).map(|(gateway_mailbox, _)| gateway_mailbox.login().to_owned());
        let folder =
            self.folders.values().find(|folder| folder.gateway_mailbox == id && folder.name == *name);
        let slug = folder.and_then(|folder| folder.made.as_ref()).and_then(|made| made.slug.as_deref());
        FolderEntry { gateway_mailbox: login.unwrap_or_else(|| id.to_string()), folder: name.path(slug), uid }
    }

    /// True when an entry names this content file.
    pub(super) fn names_file(&self, name: &str) -> bool {
        self.files.contains(&file_key(name))
    }

    /// What the index refuses: numbers given out twice.
    fn contradictions(&self, fact: &Fact) -> Vec<String> {
        let mut wrong = Vec::new();
        match fact {
            Fact::Object(fact) if self.objects.get(fact.object).is_some() => {
                wrong.push(format!("object {} was stored before", fact.object));
            }
            Fact::Folder(fact) => wrong.extend(self.told_before(fact)),
            _ => {}
        }
        for message in messages_of(fact).iter().filter(|m| !m.held && self.messages.has(m.message)) {
            wrong.push(format!("message {} was stored before", message.message));
        }
        for made in made_by(fact) {
            if self.folders.get(&made.folder).is_some_and(|folder| folder.has(made.uid.value())) {
                wrong.push(format!("UID {} of folder {} was given before", made.uid, made.folder));
            }
        }
        wrong
    }

    /// A folder that was made before is told of again for nothing but a greater UIDVALIDITY.
    fn told_before(&self, fact: &FolderFact) -> Option<String> {
        let known = self.folders.get(&fact.folder)?;
        let rises = known.made.as_ref().is_none_or(|made| made.uid_validity < fact.uid_validity);
        let is_same = (known.gateway_mailbox, &known.name) == (fact.gateway_mailbox, &fact.name);
        match fact.again {
            false => Some(format!("folder {} was made before", fact.folder)),
            true if !is_same => Some(format!("folder {} was another before", fact.folder)),
            true => (!rises).then(|| format!("UIDVALIDITY of folder {} does not rise", fact.folder)),
        }
    }

    /// What an entry speaks of that is not there, or is smaller.
    fn dangling(&self, fact: &Fact) -> Vec<String> {
        let mut wrong = Vec::new();
        for message in messages_of(fact) {
            for extent in &message.extents {
                let end = extent.offset.saturating_add(extent.octets);
                match self.objects.get(extent.object) {
                    None => wrong.push(format!(
                        "message {} lies in object {}, which no entry tells of",
                        message.message, extent.object
                    )),
                    Some(octets) if end > octets => wrong.push(format!(
                        "message {} reaches beyond the end of object {}",
                        message.message, extent.object
                    )),
                    Some(_) => {}
                }
            }
            if self.objects.get(message.summary.0).is_none() {
                wrong.push(format!(
                    "the summary of message {} is object {}, which no entry tells of",
                    message.message, message.summary.0
                ));
            }
        }
        for made in made_by(fact).iter().filter(|made| !self.messages.has(made.message)) {
            wrong.push(format!("UID {} is of message {}, which no entry tells of", made.uid, made.message));
        }
        wrong.extend(self.freed_unknown(fact));
        wrong
    }

    pub(super) fn has_object(&self, object: u64) -> bool {
        self.objects.get(object).is_some()
    }

    /// A row that was said before is there no more.
    pub(super) fn row_held(&mut self, table: Table, row: &[ValueRef<'_>]) {
        if let Some(rows) = &mut self.rows {
            rows.held(table, row);
        }
    }

    pub(super) fn row(&mut self, table: Table, row: &[ValueRef<'_>]) {
        if let Some(rows) = &mut self.rows {
            rows.said(table, row);
        }
    }

    fn take_object(&mut self, fact: &ObjectFact, seen: &Seen) {
        self.objects.set(fact.object, fact.octets);
        self.object_count += 1;
        if let Some(name) = &fact.file {
            self.files.insert(file_key(name));
        }
        if let Some(rows) = &mut self.rows {
            rows.said_object(fact, &seen.place);
        }
    }

    fn take_received(&mut self, fact: &ReceivedFact, seen: &Seen) {
        self.receipt_count += 1;
        self.newest = self.newest.max(Some(fact.at));
        if let Some(rows) = &mut self.rows {
            rows.said_receipt(fact, &seen.place);
        }
        if let Some(from) = fact.kept_from {
            self.keep_from(fact.receipt_id, from);
        }
        for (index, message) in fact.messages.iter().enumerate() {
            let whole = (index == 0).then_some(&fact.sha256);
            self.take_message(fact.gateway_mailbox, message, whole);
        }
        for placement in &fact.placements {
            let join = fact.messages.iter().find(|m| m.message == placement.message).map(|m| &m.join);
            let came = (fact.receipt_id, fact.gateway_mailbox, fact.at, fact.epoch);
            self.place(placement, came, join);
            if fact.recovered_from.is_some() {
                let row = [int(placement.folder), ValueRef::Integer(placement.uid.value().into())];
                self.row(Table::PlacedLater, &row);
            }
        }
        if self.rows.is_some() {
            let ids = [&fact.message_id, &fact.parent_message_id, &fact.returned_message_id];
            for name in names(&ids, &fact.reports, &fact.messages) {
                let row = [ValueRef::Text(name.as_bytes()), ValueRef::Blob(fact.receipt_id.as_bytes())];
                if !self.group_names.contains(&(name.clone(), fact.receipt_id)) {
                    if let Some(rows) = &mut self.rows {
                        rows.said(Table::Name, &row);
                    }
                    self.group_names.insert((name, fact.receipt_id));
                }
            }
        }
    }

    fn take_revised(&mut self, fact: &RevisedFact, seen: &Seen) {
        if self.rows.is_some() {
            let number =
                self.number_of_revision((fact.receipt_id.as_bytes(), fact.gateway_mailbox.as_bytes()));
            self.rows.iter_mut().for_each(|rows| rows.said_revision(fact, number, &seen.place));
        }
        if let Some(reading) = &fact.reading {
            for message in &reading.messages {
                self.take_message(fact.gateway_mailbox, message, None);
            }
            self.names_left_out.insert(name_bucket(fact.receipt_id.as_bytes()));
        }
        if let Some(from) = fact.kept_from() {
            self.keep_from(fact.receipt_id, from);
        }
        if !fact.placements.is_empty() {
            self.kept.placed_later.insert(fact.receipt_id);
        }
        for later in &fact.placements {
            let came = (fact.receipt_id, fact.gateway_mailbox, fact.received_at, fact.epoch);
            self.place(&later.placement, came, Some(&later.join));
            let row = [int(later.placement.folder), ValueRef::Integer(later.placement.uid.value().into())];
            self.row(Table::PlacedLater, &row);
        }
        for left in &fact.left {
            if self.go(left.folder, left.uid.value(), fact.at) {
                if let Some(said) = self.folders.get_mut(&left.folder) {
                    said.left.add(left.uid.value().into());
                    said.left_in_grace += 1;
                }
                let row = [
                    int(left.folder),
                    ValueRef::Integer(left.uid.value().into()),
                    ValueRef::Integer(fact.at.unix_ms()),
                    ValueRef::Text(fact.kind.as_str().as_bytes()),
                    ValueRef::Text(fact.actor.as_bytes()),
                ];
                self.row(Table::Departure, &row);
            }
        }
    }

    /// How often a receipt was looked at again so far, this time counted.
    fn number_of_revision(&mut self, (receipt, gateway_mailbox): (&[u8; 16], &[u8; 16])) -> i64 {
        let hash = Digest::of(&[*receipt, *gateway_mailbox].concat());
        let key = hash.0.iter().take(8).fold(0u64, |key, octet| key << 8 | u64::from(*octet));
        if self.looked_at_again.insert(key) {
            return 1;
        }
        let number = self.revisions.entry(key).or_insert(1);
        *number += 1;
        *number
    }

    fn take_key_file(&mut self, fact: &KeyFileFact) {
        let replaced = self.key_files.insert((fact.gateway_mailbox, fact.name.clone()), fact.clone());
        let Some(rows) = &mut self.rows else { return };
        rows.said_key_file(fact, replaced.as_ref());
    }

    fn take_message(
        &mut self,
        gateway_mailbox: GatewayMailboxId,
        message: &MessageFact,
        sha256: Option<&Digest>,
    ) {
        // A held message has its row, unless the entry it came with was lost.
        let is_new = self.messages.add(message.message);
        if let Some(rows) = &mut self.rows {
            rows.said_uses(message, is_new, &mut self.group_uses);
            if is_new {
                rows.said_message(gateway_mailbox, message, sha256);
            }
        }
        self.message_count += u64::from(is_new);
    }

    fn place(
        &mut self,
        placement: &PlacementFact,
        came: (ReceiptId, GatewayMailboxId, Timestamp, u32),
        join: Option<&Digest>,
    ) {
        let (receipt, gateway_mailbox, at, epoch) = came;
        let folder = self
            .folders
            .entry(placement.folder)
            .or_insert_with(|| folder_said(gateway_mailbox, &placement.name, None));
        if placement.uid.value() <= folder.uid_max {
            self.wrong.push(format!("UID {} of folder {} does not rise", placement.uid, placement.folder));
        }
        folder.uids.add(placement.uid.value().into());
        folder.uid_max = folder.uid_max.max(placement.uid.value());
        folder.placed += 1;
        folder.live += 1;
        let row = [
            int(placement.folder),
            ValueRef::Integer(placement.uid.value().into()),
            int(placement.message),
            ValueRef::Blob(receipt.as_bytes()),
            ValueRef::Integer(at.unix_ms()),
            ValueRef::Integer(epoch.into()),
            blob_or_null(join),
        ];
        self.row(Table::Placement, &row);
    }

    /// Takes an entry out of its folder. False when it is not there.
    pub(super) fn go(&mut self, folder: u64, uid: u32, at: Timestamp) -> bool {
        let Some(said) = self.folders.get_mut(&folder) else { return false };
        if !said.uids.has(uid.into()) || !said.gone.add(uid.into()) {
            return false;
        }
        said.live -= 1;
        said.in_grace += 1;
        let row = [int(folder), ValueRef::Integer(uid.into()), ValueRef::Integer(at.unix_ms())];
        self.row(Table::Gone, &row);
        self.lose_flags(folder, uid);
        self.row(Table::InGrace, &in_grace_row(folder, uid));
        true
    }

    pub(super) fn take_keeping(
        &mut self,
        folder: u64,
        uids: &[(Uid, Uid)],
        (at, kind): (Timestamp, &str),
        actor: &str,
        why: Option<&str>,
    ) {
        for (first, last) in uids {
            let row = [
                int(folder),
                ValueRef::Integer(first.value().into()),
                ValueRef::Integer(last.value().into()),
                ValueRef::Integer(at.unix_ms()),
                ValueRef::Text(kind.as_bytes()),
                ValueRef::Text(actor.as_bytes()),
                why.map_or(ValueRef::Null, |why| ValueRef::Text(why.as_bytes())),
            ];
            self.row(Table::KeepingEvent, &row);
        }
    }

    fn take_undeleted(&mut self, fact: &UndeletedFact) {
        for entry in &fact.entries {
            self.kept.placed_later.insert(entry.receipt_id);
            let placement = PlacementFact {
                folder: fact.folder,
                name: fact.name.clone(),
                uid: entry.uid,
                message: entry.message,
                reasons: Vec::new(),
            };
            let came = (entry.receipt_id, fact.gateway_mailbox, entry.received_at, fact.epoch);
            self.place(&placement, came, entry.join.as_ref());
            let row = [int(fact.folder), ValueRef::Integer(entry.uid.value().into())];
            self.row(Table::PlacedLater, &row);
            self.take_keeping(
                fact.folder,
                &[(entry.of, entry.of)],
                (fact.at, "undeleted"),
                &fact.actor,
                None,
            );
        }
    }

    fn take_restored(&mut self, fact: &RestoredFact) {
        for folder in self.folders.values_mut() {
            folder.uid_max = folder.uid_max.saturating_add(fact.uids_skipped);
            folder.flags.changes += u64::from(fact.uids_skipped);
        }
    }

    fn take_event(&mut self, fact: &FolderEventFact, kind: &str) {
        if self.rows.is_none() {
            return;
        }
        let client = serde_json::to_string(&fact.client).unwrap_or_default();
        let uid = |uid: Uid| ValueRef::Integer(uid.value().into());
        for (first, last) in &fact.uids {
            let row = [
                int(fact.folder),
                uid(*first),
                uid(*last),
                ValueRef::Integer(fact.at.unix_ms()),
                ValueRef::Text(kind.as_bytes()),
                ValueRef::Text(client.as_bytes()),
            ];
            self.row(Table::FolderEvent, &row);
        }
    }
}

fn folder_said(gateway_mailbox: GatewayMailboxId, name: &FolderName, made: Option<FolderFact>) -> FolderSaid {
    FolderSaid {
        gateway_mailbox,
        name: name.clone(),
        made,
        uid_max: 0,
        placed: 0,
        live: 0,
        in_grace: 0,
        left_in_grace: 0,
        uids: Bits::default(),
        gone: Bits::default(),
        left: Bits::default(),
        fates: Marks::default(),
        flags: FlagsSaid::default(),
    }
}
