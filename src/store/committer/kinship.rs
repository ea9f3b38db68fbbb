//! What a delivery is to the mail a gateway mailbox holds, as far as the committer knows without reading entries.

use super::placing::Placed;
use crate::store::fact::MessageFact;
use crate::store::index::Index;
use crate::store::{Delivery, Relation, StoreError};
use std::collections::BTreeSet;

/// Message-IDs of a delivery that are looked up: while they are, others wait.
const MESSAGE_IDS_MAX: usize = 4;

/// A fork when something placed by join was there, or when what the same Message-ID was placed by has its join. Mail that is
/// only in INBOX or Quarantine is not compared: its placements tell nothing of the originals.
pub(super) fn kinship(
    index: &Index,
    delivery: &Delivery,
    messages: &[MessageFact],
    placed: &Placed,
) -> Result<Option<Relation>, StoreError> {
    let is_own = |folder: u64, uid| placed.placements.iter().any(|p| (p.folder, p.uid) == (folder, uid));
    if placed.spared.iter().any(|spared| !is_own(spared.folder, spared.uid)) {
        return Ok(Some(Relation::Fork));
    }
    let originals = messages.get(1..).filter(|originals| !originals.is_empty()).unwrap_or(messages);
    let ids: BTreeSet<&str> = originals.iter().filter_map(|m| m.message_id.as_deref()).collect();
    let mut kinship = None;
    for id in ids.into_iter().take(MESSAGE_IDS_MAX) {
        let of_this = |join: &_| originals.iter().any(|m| m.join == *join);
        match index.joins_named(delivery.gateway_mailbox, id, delivery.receipt_id, of_this)? {
            Some(true) => return Ok(Some(Relation::Fork)),
            Some(false) => kinship = Some(Relation::SameMessageId),
            None => {}
        }
    }
    Ok(kinship)
}
