//! Every transaction in a few words, accepted ones and those that were turned away, newest first.

use super::embedded::Shared;
use super::fact::ReceivedFact;
use super::index::{Index, TurnedAwayRow};
use super::recall::{read_received, read_turned_away};
use super::turned_away::{TurnedAway, is_zero};
use super::{Digest, ReceiptQuery, StoreError};
use crate::mail::{
    Address, AddressKey, Class, GatewayMailboxId, ReceiptId, ReversePath, SessionId, Timestamp, Verdict,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Addresses of RCPT that are told of a transaction; the others are only counted.
pub const RECIPIENTS_TOLD_MAX: usize = 5;

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransactionOutcome {
    /// 250: the message is here.
    Accepted,
    /// 4xx, or the connection broke: the peer keeps the message.
    Deferred,
    /// 5xx.
    Refused,
}

impl TransactionOutcome {
    /// The name in JSON and in arguments.
    pub fn as_str(self) -> &'static str {
        match self {
            TransactionOutcome::Accepted => "accepted",
            TransactionOutcome::Deferred => "deferred",
            TransactionOutcome::Refused => "refused",
        }
    }
}

/// What [`super::Store::transactions`] looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionQuery {
    /// Begun since.
    pub since: Timestamp,
    /// Begun before this time.
    pub until: Option<Timestamp>,
    /// Behind this one in the list, so older.
    pub before: Option<ReceiptId>,
    /// Only those that ended so.
    pub outcome: Option<TransactionOutcome>,
    /// Only those that concerned this gateway mailbox.
    pub gateway_mailbox: Option<GatewayMailboxId>,
    /// At most so many are looked at.
    pub most: usize,
}

/// A page of transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transactions {
    /// Newest first, by when they began.
    pub transactions: Vec<TransactionView>,
    /// The last that was looked at, shown or not: the next page goes on behind it. `None` at the end.
    pub last: Option<ReceiptId>,
}

/// One transaction in a few words; what its receipt says in full is for [`super::Store::receipts`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionView {
    /// The transaction.
    pub receipt_id: ReceiptId,
    /// When its message was received, or when it was turned away.
    pub at: Option<Timestamp>,
    /// How it ended.
    pub outcome: TransactionOutcome,
    /// Code of the reply that ended it; none when the connection broke before there was one.
    pub code: Option<u16>,
    /// Its enhanced code.
    pub enhanced: Option<String>,
    /// Why it was turned away, in one word.
    pub reason: Option<String>,
    /// Whose fault that was: `peer`, `ours`, `operator`, `nobody`.
    pub blame: Option<String>,
    /// The connection.
    pub session_id: Option<SessionId>,
    /// Who it was with.
    pub peer: Option<SocketAddr>,
    /// The name the peer gave, unverified.
    pub helo: Option<String>,
    /// MAIL FROM, empty for the null sender.
    pub sender: Option<String>,
    /// The first few addresses of RCPT.
    pub recipients: Vec<String>,
    /// How many there were.
    pub recipient_count: u64,
    /// The gateway mailboxes it was for, and what became of the message in each.
    pub gateway_mailboxes: Vec<TransactionMailbox>,
    /// Octets received.
    pub octets: Option<u64>,
    /// Octets that MAIL declared, of one turned away.
    pub octets_declared: Option<u64>,
    /// SHA-256 of the octets received, of one accepted.
    pub sha256: Option<Digest>,
    /// Placements made when it came, in all its gateway mailboxes.
    pub placements: u64,
    /// So many more were deferred since the entry before, whosever they were, and only counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub further_deferred: u64,
    /// So many more were refused.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub further_refused: u64,
    /// Why its entry cannot be read; then little more is known than the id and the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged: Option<String>,
}

/// What became of a transaction in one gateway mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionMailbox {
    /// Which one.
    pub id: GatewayMailboxId,
    /// Its address now, unless it was deleted.
    pub address: Option<String>,
    /// What the message is; none when it was turned away.
    pub class: Option<Class>,
    /// Who really sent it, when it came.
    pub verdict: Option<Verdict>,
    /// In Quarantine alone because of that, when it came.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held_back: bool,
    /// The receipt this one repeats: nothing was placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<ReceiptId>,
    /// Placements made when it came.
    pub placements: u64,
}

pub(super) fn transactions(shared: &Shared, query: &TransactionQuery) -> Result<Transactions, StoreError> {
    shared.read(|index| {
        // An id may be on both lists: what was answered 4xx may have reached the log before the disk failed.
        let mut found: BTreeMap<ReceiptId, (bool, Option<TurnedAwayRow>)> = BTreeMap::new();
        if matches!(query.outcome, None | Some(TransactionOutcome::Accepted)) {
            for id in index.accepted_before(query)? {
                found.entry(id).or_default().0 = true;
            }
        }
        if query.outcome != Some(TransactionOutcome::Accepted) {
            for row in index.turned_away_before(query)? {
                let (_, turned_away) = found.entry(row.receipt_id).or_default();
                *turned_away = Some(row);
            }
        }
        let mut page = Transactions::default();
        let is_end = found.len() < query.most;
        for (id, (accepted, turned_away)) in found.into_iter().rev().take(query.most) {
            page.last = Some(id).filter(|_| !is_end);
            if let Some(row) = turned_away {
                let view = view_turned_away(shared, &row)?;
                let concerns = |wanted| view.gateway_mailboxes.iter().any(|mailbox| mailbox.id == wanted);
                if query.gateway_mailbox.is_none_or(concerns) {
                    page.transactions.push(view);
                }
            }
            if accepted {
                page.transactions.push(view_accepted(shared, index, id)?);
            }
        }
        Ok(page)
    })
}

/// Those turned away that are asked for, newest first.
pub(super) fn turned_away(
    shared: &Shared,
    query: &ReceiptQuery,
    since: Timestamp,
    most: usize,
) -> Result<Vec<TransactionView>, StoreError> {
    shared.read(|index| {
        let found = match query {
            ReceiptQuery::Id(id) => index.turned_away_entry(*id)?.into_iter().collect(),
            ReceiptQuery::Naming(name) => {
                index.turned_away_naming(AddressKey::of(name).as_str(), since, most)?
            }
            ReceiptQuery::All => Vec::new(),
        };
        found.iter().map(|row| view_turned_away(shared, row)).collect()
    })
}

/// Where nothing is known but the id and the outcome.
fn unread(receipt_id: ReceiptId, outcome: TransactionOutcome) -> TransactionView {
    TransactionView {
        receipt_id,
        at: None,
        outcome,
        code: None,
        enhanced: None,
        reason: None,
        blame: None,
        session_id: None,
        peer: None,
        helo: None,
        sender: None,
        recipients: Vec::new(),
        recipient_count: 0,
        gateway_mailboxes: Vec::new(),
        octets: None,
        octets_declared: None,
        sha256: None,
        placements: 0,
        further_deferred: 0,
        further_refused: 0,
        damaged: None,
    }
}

fn view_turned_away(shared: &Shared, row: &TurnedAwayRow) -> Result<TransactionView, StoreError> {
    match read_turned_away(shared, row.place) {
        Ok(told) => Ok(of_turned_away(shared, told)),
        // One that is damaged hides no other.
        Err(StoreError::Damaged(why)) => Ok(TransactionView {
            code: row.code,
            damaged: Some(why),
            ..unread(row.receipt_id, outcome(row.code))
        }),
        Err(other) => Err(other),
    }
}

fn outcome(code: Option<u16>) -> TransactionOutcome {
    match code {
        Some(500..) => TransactionOutcome::Refused,
        _ => TransactionOutcome::Deferred,
    }
}

fn of_turned_away(shared: &Shared, told: TurnedAway) -> TransactionView {
    let mailbox =
        |id: &GatewayMailboxId| TransactionMailbox { address: address(shared, *id), ..mailbox(*id) };
    TransactionView {
        at: Some(told.at),
        code: told.code,
        enhanced: told.enhanced,
        reason: Some(told.reason),
        blame: Some(told.blame),
        session_id: Some(told.session_id),
        peer: Some(told.peer),
        helo: told.helo,
        sender: told.sender,
        recipients: told.recipients,
        recipient_count: told.recipient_count,
        gateway_mailboxes: told.gateway_mailboxes.iter().map(mailbox).collect(),
        octets: told.octets_received,
        octets_declared: told.octets_declared,
        further_deferred: told.further_deferred,
        further_refused: told.further_refused,
        ..unread(told.receipt_id, outcome(told.code))
    }
}

fn view_accepted(shared: &Shared, index: &Index, id: ReceiptId) -> Result<TransactionView, StoreError> {
    let mut view = unread(id, TransactionOutcome::Accepted);
    (view.code, view.enhanced) = (Some(250), Some("2.0.0".to_owned()));
    for place in index.receipt_entries(id)? {
        match read_received(shared, place) {
            Ok(fact) => add_received(shared, &mut view, fact),
            Err(StoreError::Damaged(why)) => view.damaged = Some(why),
            Err(other) => return Err(other),
        }
    }
    Ok(view)
}

fn add_received(shared: &Shared, view: &mut TransactionView, fact: ReceivedFact) {
    let placements = fact.placements.len() as u64;
    view.placements += placements;
    let judgement = fact.judgement.as_ref();
    view.gateway_mailboxes.push(TransactionMailbox {
        address: address(shared, fact.gateway_mailbox),
        class: Some(fact.class),
        verdict: judgement.map(|judgement| judgement.verdict),
        held_back: judgement.is_some_and(|judgement| judgement.held_back),
        repeats: fact.repeats,
        placements,
        ..mailbox(fact.gateway_mailbox)
    });
    view.at = Some(view.at.map_or(fact.at, |at| at.min(fact.at)));
    // What an NDR brought back has octets of its own.
    if fact.recovered_from.is_none() || view.octets.is_none() {
        (view.octets, view.sha256) = (Some(fact.octets), Some(fact.sha256));
    }
    let transport = fact.transport;
    (view.session_id, view.peer) = (Some(transport.session_id), Some(transport.peer));
    view.helo = Some(transport.helo);
    view.sender = Some(sender(&transport.reverse_path));
    view.recipient_count = transport.recipients.len() as u64;
    let told = transport.recipients.iter().take(RECIPIENTS_TOLD_MAX);
    view.recipients = told.map(Address::as_str).map(str::to_owned).collect();
}

/// MAIL FROM as it is told: empty for the null sender.
fn sender(reverse_path: &ReversePath) -> String {
    match reverse_path {
        ReversePath::Null => String::new(),
        ReversePath::Address(address) => address.as_str().to_owned(),
    }
}

fn mailbox(id: GatewayMailboxId) -> TransactionMailbox {
    TransactionMailbox {
        id,
        address: None,
        class: None,
        verdict: None,
        held_back: false,
        repeats: None,
        placements: 0,
    }
}

fn address(shared: &Shared, id: GatewayMailboxId) -> Option<String> {
    shared.known(id).and_then(|known| known.address().map(ToString::to_string))
}
