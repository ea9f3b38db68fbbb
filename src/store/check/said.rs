//! Rows as the index makes them of an entry of the log, their checks included, for those tables that carry one or are made of
//! nothing else.

use super::rows::{Rows, Table};
use crate::mail::GatewayMailboxId;
use crate::store::fact::{KeyFileFact, MessageFact, ObjectFact, ReceivedFact, RevisedFact};
use crate::store::index::{
    MessageColumns, ObjectColumns, Place, receipt_check, revision_check, row_flags, turned_away_names,
};
use crate::store::{Digest, TurnedAway};
use rusqlite::types::ValueRef;
use std::collections::HashSet;

fn at(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn int(value: u64) -> ValueRef<'static> {
    ValueRef::Integer(at(value))
}

pub(super) fn blob_or_null(digest: Option<&Digest>) -> ValueRef<'_> {
    digest.map_or(ValueRef::Null, |digest| ValueRef::Blob(&digest.0))
}

fn key_file_row(fact: &KeyFileFact) -> [ValueRef<'_>; 4] {
    let gateway_mailbox = ValueRef::Blob(fact.gateway_mailbox.as_bytes());
    [gateway_mailbox, ValueRef::Text(fact.name.as_bytes()), int(fact.octets), ValueRef::Blob(&fact.sha256.0)]
}

impl Rows {
    pub(super) fn said_object(&mut self, fact: &ObjectFact, place: &Place) {
        let columns = ObjectColumns {
            id: at(fact.object),
            octets: at(fact.octets),
            sealed_octets: at(fact.sealed_octets),
            sealed_sha256: fact.sealed_sha256.0,
            at: fact.file.is_none().then_some((at(place.segment), at(place.payload_offset))),
            file: fact.file.as_deref(),
        };
        let row = [
            ValueRef::Integer(columns.id),
            ValueRef::Integer(columns.octets),
            ValueRef::Integer(columns.sealed_octets),
            ValueRef::Blob(&columns.sealed_sha256),
            columns.at.map_or(ValueRef::Null, |(segment, _)| ValueRef::Integer(segment)),
            columns.at.map_or(ValueRef::Null, |(_, place)| ValueRef::Integer(place)),
            columns.file.map_or(ValueRef::Null, |name| ValueRef::Text(name.as_bytes())),
            ValueRef::Integer(columns.row_check()),
        ];
        self.said(Table::Object, &row);
    }

    pub(super) fn said_receipt(&mut self, fact: &ReceivedFact, place: &Place) {
        let identity = fact.repeats.is_none().then_some(fact.identity.0);
        let key = (fact.receipt_id.as_bytes(), fact.gateway_mailbox.as_bytes());
        let numbers = numbers_of(fact.at.unix_ms(), place);
        self.said_entry(Table::Receipt, key, numbers, identity, receipt_check(key, numbers, identity));
    }

    pub(super) fn said_revision(&mut self, fact: &RevisedFact, number: i64, place: &Place) {
        let identity = fact.identity.map(|identity| identity.0);
        let key = (fact.receipt_id.as_bytes(), fact.gateway_mailbox.as_bytes());
        let numbers = numbers_of(number, place);
        self.said_entry(Table::Revision, key, numbers, identity, revision_check(key, numbers, identity));
    }

    /// A row of `receipt` or `revision`: where an entry stands.
    fn said_entry(
        &mut self,
        table: Table,
        (receipt, gateway_mailbox): (&[u8; 16], &[u8; 16]),
        numbers: [i64; 4],
        identity: Option<[u8; 32]>,
        check: i64,
    ) {
        let [number, segment, place, octets] = numbers.map(ValueRef::Integer);
        let identity = identity.as_ref().map_or(ValueRef::Null, |identity| ValueRef::Blob(identity));
        let (receipt, gateway_mailbox) = (ValueRef::Blob(receipt), ValueRef::Blob(gateway_mailbox));
        let check = ValueRef::Integer(check);
        self.said(table, &[receipt, gateway_mailbox, number, segment, place, octets, identity, check]);
    }

    pub(super) fn said_message(
        &mut self,
        gateway_mailbox: GatewayMailboxId,
        message: &MessageFact,
        sha256: Option<&Digest>,
    ) {
        let extents = serde_json::to_string(&message.extents).unwrap_or_default();
        let columns = MessageColumns {
            id: at(message.message),
            gateway_mailbox: gateway_mailbox.as_bytes(),
            extents: &extents,
            octets: at(message.octets),
            canonical: [at(message.canonical.octets), at(message.canonical.lines)],
            flags: row_flags(&message.canonical),
            exact: message.exact.0,
            join: message.join.0,
            sha256: sha256.map(|sha256| sha256.0),
            summary: [at(message.summary.0), message.summary.1.into()],
        };
        let ([octets, lines], [summary, summary_at]) = (columns.canonical, columns.summary);
        let row = [
            ValueRef::Integer(columns.id),
            ValueRef::Blob(columns.gateway_mailbox),
            ValueRef::Text(extents.as_bytes()),
            ValueRef::Integer(columns.octets),
            ValueRef::Integer(octets),
            ValueRef::Integer(lines),
            ValueRef::Integer(columns.flags),
            ValueRef::Blob(&columns.exact),
            ValueRef::Blob(&columns.join),
            blob_or_null(sha256),
            ValueRef::Integer(summary),
            ValueRef::Integer(summary_at),
            ValueRef::Integer(columns.row_check()),
        ];
        self.said(Table::Message, &row);
    }

    /// Which objects a message lies in. One that is held lies where it did, and has another summary with each receipt.
    pub(super) fn said_uses(
        &mut self,
        message: &MessageFact,
        is_new: bool,
        said_before: &mut HashSet<(u64, u64)>,
    ) {
        let extents = message.extents.iter().map(|extent| extent.object).filter(|_| is_new);
        for object in extents.chain([message.summary.0]) {
            if said_before.insert((object, message.message)) {
                self.said(Table::ObjectUse, &[int(object), int(message.message)]);
            }
        }
    }

    /// The index keeps what was written last.
    pub(super) fn said_key_file(&mut self, fact: &KeyFileFact, replaced: Option<&KeyFileFact>) {
        if let Some(replaced) = replaced {
            self.held(Table::KeyFile, &key_file_row(replaced));
        }
        self.said(Table::KeyFile, &key_file_row(fact));
    }

    pub(super) fn said_turned_away(&mut self, told: &TurnedAway, place: &Place) {
        let (id, network) = (ValueRef::Blob(told.receipt_id.as_bytes()), told.network().to_string());
        let [at, segment, entry, octets] = numbers_of(told.at.unix_ms(), place).map(ValueRef::Integer);
        let (session, network) =
            (ValueRef::Blob(told.session_id.as_bytes()), ValueRef::Text(network.as_bytes()));
        let code = ValueRef::Integer(told.code.unwrap_or(0).into());
        self.said(Table::TurnedAway, &[id, at, session, network, code, segment, entry, octets]);
        for name in turned_away_names(told) {
            self.said(Table::TurnedAwayName, &[ValueRef::Text(name.as_str().as_bytes()), id]);
        }
    }
}

/// A number of its own, and where an entry stands.
fn numbers_of(number: i64, place: &Place) -> [i64; 4] {
    [number, at(place.segment), at(place.entry_offset), place.entry_octets.into()]
}
