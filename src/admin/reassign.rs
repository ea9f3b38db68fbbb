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
use crate::mail::{GatewayMailboxId, ReceiptId, Timestamp};
use crate::observe::now;
use crate::pipeline;
use crate::store::{Digest, Revised, Revision, StoreError, Walk};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Changes one run lists at most; beyond it says that there is more.
pub const REASSIGNED_MAX: usize = 100_000;
/// Receipts looked at together, and revised with one sync. One receipt may name thousands of recipients.
const BATCH_RECEIPTS: usize = 64;
/// How long a page goes on with batches: far below what an asker waits.
const PAGE_WAIT: Duration = Duration::from_secs(5);
/// Changes after which a page ends: each is some hundred octets of the answer.
const PAGE_CHANGES_MAX: usize = 2_000;
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
        let batch = match apply {
            true => do_batch(context, actor, &ids, place, since, &mut page).await?,
            false => {
                let batch = think_of(context, &ids, place, since).await?;
                page.receipts.extend(views(&batch.told, &batch.plan));
                batch
            }
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
        batch.looked_at = (walked.receipts.len() + walked.unread.len()) as u64;
        let unread = |(receipt_id, why)| UnreadReceipt { receipt_id, why };
        batch.unread = walked.unread.into_iter().map(unread).collect();
        if let Some(last) = walked.last {
            batch.next = Some(ReassignPlace { gateway_mailbox: mailbox.id, after: Some(last) });
        }
        let at = now();
        let mut thoughts: Vec<(Told, Revision)> = Vec::new();
        for receipt in &walked.receipts {
            if let Some(revision) = pipeline::reassigned(receipt, &mailbox, &context.directory, at) {
                thoughts.push((Told::of(receipt, &mailbox, &revision), revision));
            }
        }
        drop(walked.receipts);
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
