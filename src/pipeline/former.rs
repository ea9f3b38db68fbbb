//! Former addresses of gateway mailboxes: an admin who has rotated one must hear that it is in use still, and a peer must
//! not hear that it ever was.

use super::Inner;
use crate::mail::{Address, GatewayMailbox, ReceiptId, TransportEnvelope};
use crate::observe::{Refused, metrics, now};
use crate::smtp::Peer;
use std::sync::Arc;

/// Says that mail for an address whose time is over is being refused: what was on its way may be lost.
pub(super) fn note_refused(inner: &Inner, address: &Address, peer: &Peer<'_>) {
    let Some(gateway_mailbox) = inner.store.retired(&address.key()) else { return };
    metrics::former_address_refused();
    inner.refused_mail.note(Refused::Retired, now());
    let until = gateway_mailbox.address_of(&address.key()).and_then(|former| former.until);
    tracing::warn!(
        event = "mailbox.retired_address_asked",
        receipt_id = peer.receipt_id.map(|id| id.to_string()),
        session_id = %peer.session_id,
        // Not by its login: that is part of the new address, which this peer need not know.
        mailbox_id = %gateway_mailbox.id,
        peer = %peer.address,
        until = until.map(|until| until.to_string()),
    );
}

/// Says that mail comes by an address that will soon be refused.
pub(super) fn note_used(
    receipt_id: ReceiptId,
    envelope: &TransportEnvelope,
    gateway_mailboxes: &[Arc<GatewayMailbox>],
) {
    for gateway_mailbox in gateway_mailboxes {
        let former = gateway_mailbox.addresses.iter().skip(1);
        let used = former.filter(|a| envelope.recipients.iter().any(|to| to.key() == a.address.key()));
        // One is enough; the one that ends first is the most urgent.
        let Some(until) = used.filter_map(|former| former.until).min() else { continue };
        metrics::former_address_used();
        tracing::info!(
            event = "mailbox.former_address_used",
            %receipt_id,
            session_id = %envelope.session_id,
            mailbox = gateway_mailbox.login(),
            mailbox_id = %gateway_mailbox.id,
            peer = %envelope.peer,
            %until,
        );
    }
}
