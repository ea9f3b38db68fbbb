//! What is in Quarantine: listing it, showing what can be done about one message, and letting it out.

use super::Context;
use super::advice::{Advice, advice};
use super::ops::{blocking, look_soon};
use super::receipts::{RECEIPTS_MAX, Words, only};
use super::request::OpError;
use super::revised::{RevisedView, Told};
use super::users::chosen;
use crate::mail::{Class, GatewayMailbox, ReceiptId, Timestamp};
use crate::observe::now;
use crate::pipeline;
use crate::store::{FolderName, PlacementView, ReceiptQuery, ReceiptView, StoreError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Messages released at once: each may hold thousands of recipients, and all are made durable together.
const RELEASED_MAX: usize = 64;
/// Placements that several of them ask for together: each is some hundred octets of the answer.
const RELEASED_PLACEMENTS_MAX: usize = 50_000;

/// What is in Quarantine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineView {
    /// Newest first.
    pub messages: Vec<QuarantinedView>,
    /// There are so many more.
    pub more: usize,
}

/// One message in Quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantinedView {
    /// The transaction.
    pub receipt_id: ReceiptId,
    /// When it was received.
    pub at: Timestamp,
    /// Address of the gateway mailbox.
    pub gateway_mailbox: String,
    /// Its name.
    pub name: String,
    /// What it is; `None` when its receipt cannot be read.
    pub class: Option<Class>,
    /// Received octets.
    pub octets: u64,
    /// It is here for its verdict.
    pub held_back: bool,
    /// Why it is here, one sentence each.
    pub reasons: Vec<String>,
}

/// One message in Quarantine, and what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantinedDetail {
    /// All that is known of it.
    pub receipt: ReceiptView,
    /// One for each cause.
    pub advice: Vec<Advice>,
}

/// The newest messages in Quarantine, of one gateway mailbox or of all. Of what is not shown no receipt is
/// read; that it is there is read of the folder's listing, which holds all of it.
pub(super) fn list(
    context: &Context,
    gateway_mailbox: Option<&str>,
    since: Option<Timestamp>,
    most: usize,
) -> Result<QuarantineView, OpError> {
    let start = since.unwrap_or(Timestamp::from_unix_ms(0));
    let mailboxes = chosen(context, gateway_mailbox)?;
    let mut found = Vec::new();
    for mailbox in &mailboxes {
        let listing = context.store.list(mailbox.id, &FolderName::Quarantine)?;
        let since = listing.entries.into_iter().filter(|entry| entry.received_at >= start);
        found.extend(since.map(|entry| (entry.received_at, entry.receipt_id, mailbox, entry.octets)));
    }
    found.sort_unstable_by_key(|(at, receipt_id, mailbox, _)| {
        std::cmp::Reverse((*at, *receipt_id, mailbox.created_at))
    });
    found.dedup_by_key(|(_, receipt_id, mailbox, _)| (*receipt_id, mailbox.id));
    let most = most.clamp(1, RECEIPTS_MAX);
    let more = found.len().saturating_sub(most);
    found.truncate(most);
    let row = |(at, receipt_id, mailbox, octets): (Timestamp, ReceiptId, &Arc<GatewayMailbox>, u64)| {
        let mut view = QuarantinedView {
            receipt_id,
            at,
            gateway_mailbox: mailbox.address().map(ToString::to_string).unwrap_or_default(),
            name: mailbox.name.clone(),
            class: None,
            octets,
            held_back: false,
            reasons: Vec::new(),
        };
        match context.store.receipts(&ReceiptQuery::Id(receipt_id), Timestamp::from_unix_ms(0), 1) {
            Ok(receipts) => {
                if let Some(receipt) = receipts.into_iter().find(|r| r.gateway_mailbox == mailbox.id) {
                    view.class = Some(receipt.class);
                    view.held_back = receipt.came_held_back();
                    view.reasons = there(&receipt).flat_map(|placement| placement.reasons.clone()).collect();
                }
            }
            // One that is damaged hides no other.
            Err(StoreError::Damaged(why)) => view.reasons = vec![format!("its receipt is damaged: {why}")],
            Err(error) => return Err(OpError::from(error)),
        }
        Ok(view)
    };
    Ok(QuarantineView { messages: found.into_iter().map(row).collect::<Result<_, _>>()?, more })
}

/// Everything of one message in Quarantine.
pub(super) fn show(
    context: &Context,
    receipt_id: ReceiptId,
    gateway_mailbox: Option<&str>,
) -> Result<QuarantinedDetail, OpError> {
    let receipt = quarantined(context, receipt_id, gateway_mailbox)?;
    Ok(QuarantinedDetail { advice: advice(&receipt), receipt })
}

/// The receipt, if its message is in Quarantine now; in one gateway mailbox, or in the only one.
///
/// # Errors
/// [`OpError::NotFound`] when it is not, [`OpError::Usage`] when it is in several.
pub(super) fn quarantined(
    context: &Context,
    receipt_id: ReceiptId,
    gateway_mailbox: Option<&str>,
) -> Result<ReceiptView, OpError> {
    let words =
        Words { several: "is in Quarantine of", none: "is not in Quarantine; daybook trace tells more" };
    only(context, receipt_id, gateway_mailbox, |receipt| there(receipt).next().is_some(), words)
}

/// Its entries in Quarantine that are there still.
fn there(receipt: &ReceiptView) -> impl Iterator<Item = &PlacementView> {
    receipt.own_entries(&FolderName::Quarantine).filter(|placement| placement.is_there())
}

/// Lets messages out of Quarantine, all or none; without `apply` only says what would become of them.
pub(super) async fn release(
    context: &Context,
    actor: &str,
    mut receipt_ids: Vec<ReceiptId>,
    gateway_mailbox: Option<String>,
    apply: bool,
) -> Result<Vec<RevisedView>, OpError> {
    receipt_ids.sort_unstable();
    receipt_ids.dedup();
    if receipt_ids.len() > RELEASED_MAX {
        return Err(OpError::Usage(format!("at most {RELEASED_MAX} messages are released at once")));
    }
    let thought = blocking(context, move |context| {
        let policy = pipeline::policy(&context.settings.current().assign);
        let mut told = Vec::new();
        let mut revisions = Vec::new();
        for receipt_id in receipt_ids {
            let receipt = quarantined(context, receipt_id, gateway_mailbox.as_deref())?;
            let mailbox = context.store.gateway_mailbox_now(receipt.gateway_mailbox)?;
            let stage = context.store.stage(mailbox.id)?;
            let key = stage.digest_key();
            let revision = pipeline::released(&receipt, &mailbox, &context.directory, &policy, key, now())?;
            told.push(Told::of(&receipt, &mailbox, &revision));
            revisions.push(revision);
        }
        let placements: usize = revisions.iter().map(|revision| revision.placements.len()).sum();
        if revisions.len() > 1 && placements > RELEASED_PLACEMENTS_MAX {
            let why = format!("they name {placements} recipients together: release fewer of them at once");
            return Err(OpError::Usage(why));
        }
        let plan = if apply { Vec::new() } else { context.store.plan(&revisions)? };
        Ok((told, revisions, plan))
    });
    let (told, revisions, plan) = thought.await?;
    if !apply {
        return Ok(told.iter().zip(&plan).map(|(told, planned)| told.view(planned)).collect());
    }
    let done = context.store.revise(revisions, actor).await?;
    told.iter().zip(&done).for_each(|(told, revised)| told.log(revised, actor));
    // An alarm about what was in Quarantine is not to stand until the next count.
    look_soon(context);
    Ok(told.iter().zip(&done).map(|(told, revised)| told.view(revised)).collect())
}
