//! Giving stored messages to users whom the directory did not know when they came.
//!
//! A run is asked for in pages, since a store may hold millions of receipts, and whoever asks is not to wait for all of them
//! on one line: [`page`] looks at some and says where to go on; [`Reassigned`] adds up what the pages tell. Within a page,
//! receipts are looked at and revised in batches, each batch all or none; mail goes on arriving between two.

use super::Context;
use super::ops::blocking;
use super::request::OpError;
use super::revised::{RevisedView, Told};
use super::users::chosen;
use crate::mail::{GatewayMailbox, GatewayMailboxId, ReceiptId, Timestamp, Uid};
use crate::observe::now;
use crate::pipeline;
use crate::store::{
    Digest, FolderName, PlacementView, ReceiptQuery, ReceiptView, Revised, Revision, StoreError, Walk, Walked,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant};

/// Changes one run lists at most; beyond it says that there is more.
pub const REASSIGNED_MAX: usize = 100_000;
/// Receipts looked at together, and revised with one sync. One receipt may name thousands of recipients.
const BATCH_RECEIPTS: usize = 64;
/// Placements thought of together; whoever brings more is the last of its batch.
const BATCH_PLACEMENTS: usize = 4_000;
/// How long a page goes on with batches: far below what an asker waits.
const PAGE_WAIT: Duration = Duration::from_secs(5);
/// Changes after which a page ends: each is some hundred octets of the answer.
const PAGE_CHANGES_MAX: usize = 2_000;
/// Receipts naming a Message-ID, the newest, that are looked at for other reports of the message.
const FORKS_MAX: usize = 256;
/// What the paths of users' folders begin with.
const USERS: &str = "Users/";
/// How often a batch is thought of anew when somebody else revised one of its receipts meanwhile.
const TRIES_MAX: usize = 3;

/// Where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReassignPlace {
    /// With this gateway mailbox, then with those of greater ids.
    pub gateway_mailbox: GatewayMailboxId,
    /// Behind this receipt.
    pub after: Option<ReceiptId>,
}

/// What a page tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReassignPage {
    /// Receipts looked at.
    pub looked_at: u64,
    /// What becomes, or would become, of those that change.
    pub receipts: Vec<RevisedView>,
    /// Receipts of which something else became than was thought just before: what `receipts` says of them was done.
    pub differed: Vec<ReceiptId>,
    /// Receipts that cannot be read, and why.
    pub unread: Vec<UnreadReceipt>,
    /// Where to go on; `None` at the end.
    pub next: Option<ReassignPlace>,
    /// Why it ended early; what the page tells was done before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<OpError>,
}

/// A receipt that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadReceipt {
    /// Which one.
    pub receipt_id: ReceiptId,
    /// Why not.
    pub why: String,
}

/// A whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reassigned {
    /// False: nothing was changed.
    pub applied: bool,
    /// Receipts looked at.
    pub looked_at: u64,
    /// Messages placed in users' folders, or to be placed.
    pub placed: usize,
    /// Messages taken out of Unassigned, or to be taken out.
    pub left: usize,
    /// Of each receipt that changes.
    pub receipts: Vec<RevisedView>,
    /// Receipts of which something else became than was thought just before.
    pub differed: Vec<ReceiptId>,
    /// Receipts that cannot be read.
    pub unread: Vec<UnreadReceipt>,
    /// There may be more to do than [`REASSIGNED_MAX`] changes: the run ended before it had looked at everything.
    pub more: bool,
    /// Why it ended early.
    #[serde(skip)]
    pub failed: Option<OpError>,
    /// What is listed already. Each page is planned over the store alone, so that it does not know of those before.
    #[serde(skip)]
    planned: HashSet<(String, String, Digest)>,
}

impl Reassigned {
    /// Nothing yet.
    pub fn new(applied: bool) -> Reassigned {
        Reassigned { applied, ..Reassigned::default() }
    }

    /// Adds a page; says where to go on.
    pub fn add(&mut self, page: ReassignPage) -> Option<ReassignPlace> {
        self.looked_at += page.looked_at;
        self.differed.extend(page.differed);
        self.unread.extend(page.unread);
        for mut receipt in page.receipts {
            let address = receipt.gateway_mailbox.clone();
            // A copy of the same message that an earlier receipt brings to this folder is there by then.
            receipt.placements.retain(|placed| {
                let is_new = self.planned.insert((address.clone(), placed.folder.clone(), placed.join));
                self.applied || is_new
            });
            self.placed += receipt.placements.len();
            self.left += receipt.left.len();
            if !receipt.placements.is_empty() || !receipt.left.is_empty() {
                self.receipts.push(receipt);
            }
        }
        self.failed = page.failed;
        if self.failed.is_some() {
            return None;
        }
        self.more = page.next.is_some() && self.placed + self.left >= REASSIGNED_MAX;
        page.next.filter(|_| !self.more)
    }
}

/// Some receipts, and what is to become of them.
struct Batch {
    looked_at: u64,
    unread: Vec<UnreadReceipt>,
    told: Vec<Told>,
    revisions: Vec<Revision>,
    plan: Vec<Revised>,
    next: Option<ReassignPlace>,
}

/// Looks at receipts from `from` on, or from the first; with `apply`, what is found is done for `actor`.
pub(super) async fn page(
    context: &Context,
    actor: &str,
    gateway_mailbox: Option<&str>,
    since: Option<Timestamp>,
    apply: bool,
    from: Option<ReassignPlace>,
) -> Result<ReassignPage, OpError> {
    let mut ids: Vec<GatewayMailboxId> =
        chosen(context, gateway_mailbox)?.iter().map(|mailbox| mailbox.id).collect();
    ids.sort_unstable();
    let first = ids.first().map(|id| ReassignPlace { gateway_mailbox: *id, after: None });
    let mut page = ReassignPage { next: from.or(first), ..ReassignPage::default() };
    let clock = Instant::now();
    let mut changes = 0;
    while let Some(place) = page.next
        && clock.elapsed() < PAGE_WAIT
        && changes < PAGE_CHANGES_MAX
    {
        let thought = match apply {
            true => do_batch(context, actor, &ids, place, since, &mut page).await,
            false => think_of(context, &ids, place, since).await.inspect(|batch| {
                page.receipts.extend(views(&batch.told, &batch.plan));
            }),
        };
        let batch = match thought {
            Ok(batch) => batch,
            // The batches before are done for good, and who did that must be told.
            Err(error) if page.looked_at > 0 => {
                page.failed = Some(error);
                break;
            }
            Err(error) => return Err(error),
        };
        page.looked_at += batch.looked_at;
        page.unread.extend(batch.unread);
        page.next = batch.next;
        changes = page.receipts.iter().map(|receipt| receipt.placements.len() + receipt.left.len()).sum();
    }
    Ok(page)
}

/// Thinks of a batch and does it; anew when one of its receipts was revised in between.
async fn do_batch(
    context: &Context,
    actor: &str,
    ids: &[GatewayMailboxId],
    place: ReassignPlace,
    since: Option<Timestamp>,
    page: &mut ReassignPage,
) -> Result<Batch, OpError> {
    let mut tries = 1;
    loop {
        let mut batch = think_of(context, ids, place, since).await?;
        let revisions = std::mem::take(&mut batch.revisions);
        if revisions.is_empty() {
            return Ok(batch);
        }
        match context.store.revise(revisions, actor).await {
            Ok(done) => {
                for ((told, revised), planned) in batch.told.iter().zip(&done).zip(&batch.plan) {
                    told.log(revised, actor);
                    if !is_as_planned(revised, planned) {
                        page.differed.push(revised.receipt_id);
                    }
                }
                page.receipts.extend(views(&batch.told, &done));
                return Ok(batch);
            }
            Err(StoreError::Refused(_)) if tries < TRIES_MAX => tries += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// The same folders; UIDs are given out only when it is done.
fn is_as_planned(done: &Revised, planned: &Revised) -> bool {
    let folders = |revised: &Revised| -> Vec<String> {
        revised.placements.iter().map(|(folder, _)| folder.clone()).collect()
    };
    folders(done) == folders(planned) && done.left == planned.left
}

fn views(told: &[Told], revised: &[Revised]) -> Vec<RevisedView> {
    let all = told.iter().zip(revised).filter(|(_, revised)| !revised.is_nothing());
    all.map(|(told, revised)| told.view(revised)).collect()
}

/// What would change among the next receipts. Nothing is kept of those that do not change.
async fn think_of(
    context: &Context,
    ids: &[GatewayMailboxId],
    place: ReassignPlace,
    since: Option<Timestamp>,
) -> Result<Batch, OpError> {
    let following = ids.iter().find(|id| **id > place.gateway_mailbox);
    let following = following.map(|id| ReassignPlace { gateway_mailbox: *id, after: None });
    blocking(context, move |context| {
        let mut batch = Batch {
            looked_at: 0,
            unread: Vec::new(),
            told: Vec::new(),
            revisions: Vec::new(),
            plan: Vec::new(),
            next: following,
        };
        let mailbox = match context.store.gateway_mailbox_now(place.gateway_mailbox) {
            Ok(mailbox) => mailbox,
            // Deleted meanwhile.
            Err(StoreError::Gone) => return Ok(batch),
            Err(error) => return Err(error.into()),
        };
        let walked = context.store.walk(&Walk {
            gateway_mailbox: mailbox.id,
            since: since.unwrap_or(Timestamp::from_unix_ms(0)),
            after: place.after,
            folder: None,
            most: BATCH_RECEIPTS,
        })?;
        let thoughts = thoughts(context, &mailbox, since, walked, &mut batch)?;
        let (told, revisions): (Vec<Told>, Vec<Revision>) = thoughts.into_iter().unzip();
        let plan = context.store.plan(&revisions)?;
        for ((told, revision), planned) in told.into_iter().zip(revisions).zip(plan) {
            if !planned.is_nothing() {
                batch.told.push(told);
                batch.revisions.push(revision);
                batch.plan.push(planned);
            }
        }
        Ok(batch)
    })
    .await
}

/// What is thought of each receipt, as far as the batch goes.
fn thoughts(
    context: &Context,
    mailbox: &GatewayMailbox,
    since: Option<Timestamp>,
    walked: Walked,
    batch: &mut Batch,
) -> Result<Vec<(Told, Revision)>, OpError> {
    let at = now();
    let policy = pipeline::policy(&context.settings.current().assign);
    let (mut wanted, mut last) = (0, walked.last);
    let mut thoughts: Vec<(Told, Revision)> = Vec::new();
    for receipt in walked.receipts {
        batch.looked_at += 1;
        let thought =
            |receipt: &ReceiptView| pipeline::reassigned(receipt, mailbox, &context.directory, &policy, at);
        if let Some(mut revision) = thought(&receipt) {
            let is_placed =
                |fork: &ReceiptView| since.is_none_or(|since| fork.at >= since) && thought(fork).is_some();
            if stands_for_a_fork(context, &receipt, is_placed)? {
                revision.leaves.retain(|name| *name != FolderName::Unassigned);
            }
            wanted += revision.placements.len();
            thoughts.push((Told::of(&receipt, mailbox, &revision), revision));
        }
        if wanted >= BATCH_PLACEMENTS {
            last = Some(receipt.receipt_id);
            break;
        }
    }
    for (receipt_id, why) in walked.unread {
        if last.is_none_or(|last| receipt_id <= last) {
            batch.looked_at += 1;
            batch.unread.push(UnreadReceipt { receipt_id, why });
        }
    }
    if let Some(last) = last {
        batch.next = Some(ReassignPlace { gateway_mailbox: mailbox.id, after: Some(last) });
    }
    Ok(thoughts)
}

/// True when the receipt's entry under Unassigned is all that another report of the same message has outside INBOX: of reports
/// whose people nobody knew, the first spared the others theirs. It then stays, for those that this run does not place either.
/// They are found by Message-ID: a message without one has none that could be found.
pub(super) fn stands_for_a_fork(
    context: &Context,
    receipt: &ReceiptView,
    is_placed: impl Fn(&ReceiptView) -> bool,
) -> Result<bool, OpError> {
    let unassigned = FolderName::Unassigned.path(None);
    let own = receipt.own_entries(&FolderName::Unassigned).filter(|placement| placement.is_there());
    let own: Vec<Uid> = own.map(|placement| placement.uid).collect();
    if own.is_empty() {
        return Ok(false);
    }
    let is_spared = |placement: &PlacementView| {
        placement.folder == unassigned && placement.spared && own.contains(&placement.uid)
    };
    let is_elsewhere = |placement: &PlacementView| {
        placement.folder.starts_with(USERS)
            || (placement.folder == unassigned && !own.contains(&placement.uid) && placement.is_there())
    };
    let message_ids: BTreeSet<&String> =
        receipt.messages.iter().filter_map(|message| message.message_id.as_ref()).collect();
    for message_id in message_ids {
        let query = ReceiptQuery::Naming(message_id.clone());
        let naming = context.store.receipts(&query, Timestamp::from_unix_ms(0), FORKS_MAX)?;
        let mut forks = naming.iter().filter(|fork| {
            fork.gateway_mailbox == receipt.gateway_mailbox && fork.placements.iter().any(is_spared)
        });
        if forks.any(|fork| !fork.placements.iter().any(is_elsewhere) && !is_placed(fork)) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_failed_is_the_last_and_what_it_did_is_told() {
        let next = ReassignPlace { gateway_mailbox: GatewayMailboxId::new(1, [1; 10]), after: None };
        let done = ReceiptId::new(1, [1; 10]);
        let failed = Some(OpError::Unavailable("the disk is full".to_owned()));
        let page = |failed: &Option<OpError>| ReassignPage {
            looked_at: 64,
            differed: vec![done],
            next: Some(next),
            failed: failed.clone(),
            ..ReassignPage::default()
        };
        let mut run = Reassigned::new(true);
        assert_eq!(run.add(page(&None)), Some(next));
        assert_eq!(run.add(page(&failed)), None);
        assert_eq!((run.looked_at, run.differed.len(), &run.failed), (128, 2, &failed));
    }
}
