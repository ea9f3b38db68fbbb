//! How receipts of one gateway mailbox stand to each other: the same report again, the same message reported again, or another
//! message under the same Message-ID.
//!
//! A Message-ID finds candidates, the join says what they are: of two messages with one Message-ID none is dropped because of
//! the other.

use super::embedded::Shared;
use super::fact::{MessageFact, ReceivedFact, RevisedFact};
use super::index::Index;
use super::recall::{read_received, read_revisions};
use super::{ARRIVAL_OCTETS_MAX, ARRIVALS_OCTETS_MAX, Digest, ReceiptView, StoreError};
use crate::mail::{ReceiptId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Related receipts shown of one receipt.
pub const RELATED_MAX: usize = 20;
/// Receipts naming a Message-ID that are looked at for it: those of other gateway mailboxes are among them.
const CANDIDATES_MAX: usize = 64;
/// Message-IDs of a receipt that related ones are looked for by.
const MESSAGE_IDS_MAX: usize = 16;

/// What a receipt is to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// The same report again, or the same message received again.
    Repetition,
    /// Another report of the same message: its recipients are united with those of the first.
    Fork,
    /// Another message that has the same Message-ID.
    SameMessageId,
}

impl Relation {
    /// All of them.
    pub const ALL: [Relation; 3] = [Relation::Repetition, Relation::Fork, Relation::SameMessageId];

    /// The stable name used in logs, JSON and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Relation::Repetition => "repetition",
            Relation::Fork => "fork",
            Relation::SameMessageId => "same-message-id",
        }
    }
}

/// A receipt that has to do with another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelatedView {
    /// It.
    pub receipt_id: ReceiptId,
    /// When it was received.
    pub at: Timestamp,
    /// What it is to the other.
    pub relation: Relation,
}

/// What related receipts are found by.
pub(super) struct Marks {
    receipt_id: ReceiptId,
    repeats: Option<ReceiptId>,
    messages: BTreeSet<(String, Digest)>,
}

impl Marks {
    pub(super) fn of(fact: &ReceivedFact, revisions: &[RevisedFact]) -> Marks {
        let newest = revisions.iter().rev().find_map(|revised| revised.reading.as_ref());
        let messages = newest.map_or(&fact.messages, |reading| &reading.messages);
        Marks { receipt_id: fact.receipt_id, repeats: fact.repeats, messages: told_by_id(messages) }
    }

    fn ids(&self) -> BTreeSet<&str> {
        self.messages.iter().map(|(id, _)| id.as_str()).take(MESSAGE_IDS_MAX).collect()
    }

    fn relation_to(&self, other: &Marks) -> Option<Relation> {
        let first_of = |marks: &Marks| marks.repeats.unwrap_or(marks.receipt_id);
        if first_of(self) == first_of(other) {
            return Some(Relation::Repetition);
        }
        if !self.messages.is_disjoint(&other.messages) {
            return Some(Relation::Fork);
        }
        (!self.ids().is_disjoint(&other.ids())).then_some(Relation::SameMessageId)
    }
}

/// Message-ID and join of the originals; of the message itself when it holds none.
fn told_by_id(messages: &[MessageFact]) -> BTreeSet<(String, Digest)> {
    let originals = messages.get(1..).filter(|originals| !originals.is_empty()).unwrap_or(messages);
    originals.iter().filter_map(|m| Some((m.message_id.clone()?, m.join))).collect()
}

/// Looks for what is related to a receipt. `octets` is what may still be read of entries, for all receipts that are asked for
/// together; what is beyond it counts as more.
pub(super) fn relate(
    shared: &Shared,
    index: &Index,
    marks: &Marks,
    view: &mut ReceiptView,
    octets: &mut u64,
) -> Result<(), StoreError> {
    let mut candidates = BTreeSet::new();
    for id in marks.ids() {
        let named = index.receipts_naming(id, Timestamp::from_unix_ms(0), CANDIDATES_MAX)?;
        view.more_related |= named.len() == CANDIDATES_MAX;
        candidates.extend(named);
    }
    candidates.remove(&view.receipt_id);
    // The newest first.
    for candidate in candidates.into_iter().rev() {
        let Some(place) = index.receipt_entry(candidate, view.gateway_mailbox)? else { continue };
        let (_, _, size) = place;
        if view.related.len() == RELATED_MAX || size > ARRIVAL_OCTETS_MAX || u64::from(size) > *octets {
            view.more_related = true;
            continue;
        }
        *octets -= u64::from(size);
        let read = read_received(shared, place)
            .and_then(|fact| Ok((Marks::of(&fact, &read_revisions(shared, index, &fact)?), fact.at)));
        match read {
            Ok((other, at)) => {
                let relation = marks.relation_to(&other);
                let related = |relation| RelatedView { receipt_id: candidate, at, relation };
                view.related.extend(relation.map(related));
            }
            // Its own damage is told where it is asked for.
            Err(StoreError::Damaged(_)) => view.more_related = true,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Octets of entries that [`relate`] reads for one question.
pub(super) const RELATED_OCTETS_MAX: u64 = ARRIVALS_OCTETS_MAX;
