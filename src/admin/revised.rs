//! What became, or would become, of receipts that were looked at again, as admins see it and as the log tells it.

use crate::mail::{GatewayMailbox, ReceiptId, Uid};
use crate::observe::metrics;
use crate::store::{Digest, ReceiptView, Revised, Revision, RevisionKind};
use serde::{Deserialize, Serialize};

/// One receipt that was looked at again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisedView {
    /// The transaction.
    pub receipt_id: ReceiptId,
    /// Address of the gateway mailbox.
    pub gateway_mailbox: String,
    /// What is placed.
    pub placements: Vec<PlacedView>,
    /// Entries that are taken out.
    pub left: Vec<LeftView>,
}

/// A placement made, or to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedView {
    /// The folder's path.
    pub folder: String,
    /// The UID there; `None` while it is only planned.
    pub uid: Option<Uid>,
    /// Equal for copies of one message in this gateway mailbox, and for nothing else.
    pub join: Digest,
    /// Why.
    pub reasons: Vec<String>,
}

/// An entry that is taken out, or to be taken out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftView {
    /// The folder's path.
    pub folder: String,
    /// Its UID there.
    pub uid: Uid,
}

/// What there is to tell of a revision, besides what the store makes of it.
pub(super) struct Told {
    receipt_id: ReceiptId,
    kind: RevisionKind,
    login: String,
    address: String,
    /// Of each placement that was wanted: its message's join, and why.
    wanted: Vec<(Digest, Vec<String>)>,
}

impl Told {
    pub(super) fn of(receipt: &ReceiptView, mailbox: &GatewayMailbox, revision: &Revision) -> Told {
        let join = |message: u32| receipt.messages.get(message as usize).map(|m| m.join).unwrap_or_default();
        Told {
            receipt_id: receipt.receipt_id,
            kind: revision.kind,
            login: mailbox.login().to_owned(),
            address: mailbox.address().map(ToString::to_string).unwrap_or_default(),
            wanted: revision.placements.iter().map(|w| (join(w.message), w.reasons.clone())).collect(),
        }
    }

    /// With what the store made of it, or would make.
    pub(super) fn view(&self, revised: &Revised) -> RevisedView {
        let placed = |((folder, uid), wanted): (&(String, Option<Uid>), &u32)| {
            let (join, reasons) = self.wanted.get(*wanted as usize).cloned().unwrap_or_default();
            PlacedView { folder: folder.clone(), uid: *uid, join, reasons }
        };
        RevisedView {
            receipt_id: self.receipt_id,
            gateway_mailbox: self.address.clone(),
            placements: revised.placements.iter().zip(&revised.wanted).map(placed).collect(),
            left: revised
                .left
                .iter()
                .map(|(folder, uid)| LeftView { folder: folder.clone(), uid: *uid })
                .collect(),
        }
    }

    /// Says in the log, and counts, what was done.
    pub(super) fn log(&self, revised: &Revised, actor: &str) {
        let made =
            revised.placements.iter().filter_map(|(folder, uid)| uid.map(|uid| format!("{folder}:{uid}")));
        let placements = made.collect::<Vec<_>>().join(" ");
        let (receipt_id, mailbox) = (self.receipt_id, &self.login);
        match self.kind {
            RevisionKind::Released => {
                tracing::info!(event = "journal.released", %receipt_id, mailbox, placements, actor);
            }
            _ => tracing::info!(event = "journal.reassigned", %receipt_id, mailbox, placements, actor),
        }
        metrics::receipt_revised(self.kind.as_str());
    }
}
