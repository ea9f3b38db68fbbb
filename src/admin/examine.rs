//! What `doctor` cannot see from outside: it is asked of whoever has the store open.

use super::Context;
use super::gateway_mailboxes::view;
use super::health::readiness;
use super::request::{Examined, GatewayMailboxView, MailboxExamined, OpError};
use crate::mail::{GatewayMailbox, Timestamp};
use crate::observe::now;
use crate::store::ReceiptQuery;

pub(super) fn examine(context: &Context) -> Result<Examined, OpError> {
    let newest = context.store.receipts(&ReceiptQuery::All, Timestamp::from_unix_ms(0), 1)?;
    let mailboxes = context.store.gateway_mailboxes();
    Ok(Examined {
        pid: std::process::id(),
        uid: rustix::process::geteuid().as_raw(),
        readiness: readiness(context).ok(),
        newest: newest.iter().map(|receipt| receipt.at).max(),
        scrub: Some(context.store.scrub()),
        keeping: Some(context.store.keeping()),
        pullers: context.pullers.as_ref().map(|pullers| pullers.statuses()).unwrap_or_default(),
        directories: context.directory.sources(),
        gateway_mailboxes: mailboxes.iter().map(|mailbox| one(context, mailbox)).collect::<Result<_, _>>()?,
    })
}

fn one(context: &Context, mailbox: &GatewayMailbox) -> Result<MailboxExamined, OpError> {
    // Only the last ones are wanted, no counts by the hour.
    let activity = context.store.activity(mailbox.id, now())?;
    let escrow = Some(context.store.escrow(mailbox.id)?);
    Ok(MailboxExamined {
        gateway_mailbox: GatewayMailboxView {
            escrow,
            keys: super::key_changes::KeysView::counted(context, mailbox)?,
            ..view(context, mailbox, &context.store.folders(mailbox.id)?)
        },
        self_test: mailbox.is_self_test(),
        last_received: activity.last_received,
        last_fetched: activity.last_fetched,
    })
}
