//! Transactions that were turned away: who they were for, and on record with them.

use super::Inner;
use crate::mail::{Address, GatewayMailbox, GatewayMailboxId, ReceiptId, ReversePath};
use crate::observe::now;
use crate::smtp::session::TurnedAway;
use crate::store::{self, RECIPIENTS_TOLD_MAX, Standing};
use std::sync::Arc;

/// Characters kept of the name that a peer gave: as many as a domain name has.
const HELO_CHARACTERS_MAX: usize = 255;

/// Hands one over to the store. Never blocks.
pub(super) fn record(inner: &Inner, receipt_id: ReceiptId, told: TurnedAway) {
    let named: Vec<&Address> = told.accepted.iter().chain(&told.refused).collect();
    let gateway_mailboxes = gateway_mailboxes(inner, &named);
    let standing = match gateway_mailboxes.is_empty() && told.accepted.is_empty() && !told.is_favoured {
        true => Standing::Stranger { before: told.before },
        false => Standing::Known,
    };
    let recipients = named.iter().take(RECIPIENTS_TOLD_MAX).map(|address| address.as_str().to_owned());
    let entry = store::TurnedAway {
        at: now(),
        receipt_id,
        session_id: told.session_id,
        peer: told.peer,
        recipients: recipients.collect(),
        helo: told.helo.map(|name| name.chars().take(HELO_CHARACTERS_MAX).collect()),
        code: told.reply.map(|(code, _)| code),
        enhanced: told.reply.map(|(_, enhanced)| enhanced.to_owned()),
        blame: told.blame.as_str().to_owned(),
        reason: told.reason.to_owned(),
        sender: told.reverse_path.map(|path| match path {
            ReversePath::Null => String::new(),
            ReversePath::Address(address) => address.as_str().to_owned(),
        }),
        recipient_count: told.recipients,
        gateway_mailboxes,
        octets_declared: told.octets_declared,
        octets_received: told.octets_received,
        further_deferred: 0,
        further_refused: 0,
    };
    inner.store.record_turned_away(entry, standing);
}

/// Those that are, or once were, at these addresses: each once.
fn gateway_mailboxes(inner: &Inner, named: &[&Address]) -> Vec<GatewayMailboxId> {
    let mut found: Vec<GatewayMailboxId> = Vec::new();
    for address in named {
        let key = address.key();
        let of_it: Option<Arc<GatewayMailbox>> =
            inner.store.gateway_mailbox(&key).or_else(|| inner.store.retired(&key));
        if let Some(id) = of_it.map(|of_it| of_it.id).filter(|id| !found.contains(id)) {
            found.push(id);
        }
    }
    found
}
