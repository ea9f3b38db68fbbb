//! Reading stored messages of a gateway mailbox again, and putting in force what that finds.
//!
//! One request goes through as many messages as fit into [`BATCH_WAIT`]; whoever asks goes on behind them. So no request lasts,
//! a server that ends breaks nothing off, and what was done is done. Each message is revised by itself: it is read, and unless
//! somebody else revised it meanwhile, its new reading and its moves are one commit.

use super::Context;
use super::gateway_mailboxes::resolve;
use super::key::{self, Key};
use super::ops::blocking;
use super::reassign::stands_for_a_fork;
use super::receipts::find;
use super::request::OpError;
use crate::mail::{Class, GatewayMailbox, GatewayMailboxId, ReceiptId, Timestamp, Uid};
use crate::observe::{metrics, now};
use crate::pipeline::{Difference, Pipeline, Recovered, Reread};
use crate::store::{
    FolderName, ReceiptQuery, ReceiptView, Revised, RevisionKind, RevisionView, StoreError, Unlocked, Walk,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Messages that can be named in one request.
pub const REPROCESS_RECEIPTS_MAX: usize = 1_000;
/// How long messages are read for one answer; the one being read then is finished.
const BATCH_WAIT: Duration = Duration::from_secs(10);
/// How long an answer may take: [`BATCH_WAIT`], and one message of the largest size on a slow disk.
pub(super) const REPROCESS_WAIT: Duration = Duration::from_secs(15 * 60);
/// Messages read again at once, whoever asks: each may take a core, and as much room as one that is received.
static READING: Semaphore = Semaphore::const_new(1);
/// Receipts looked at in one step.
const STEP_RECEIPTS: usize = 32;

/// Which messages are read again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reprocessing {
    /// Those in Quarantine or Unassigned, received since.
    Waiting(Timestamp),
    /// All, received since.
    All(Timestamp),
    /// These, wherever they are.
    Receipts(Vec<ReceiptId>),
}

/// How far a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// When the first request began: what it moved to a folder that comes later is not read again there.
    pub begun: Timestamp,
    /// Folders, or receipts that were named, gone through.
    pub done: usize,
    /// In the folder that is being gone through: the last receipt looked at.
    pub after: Option<ReceiptId>,
}

/// What was asked for.
pub(super) struct Asked {
    pub(super) gateway_mailbox: String,
    pub(super) which: Reprocessing,
    pub(super) apply: bool,
    pub(super) after: Option<Reached>,
    pub(super) key: Key,
}

/// What became of messages that were read again, or would become.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReprocessedView {
    /// Address of the gateway mailbox.
    pub gateway_mailbox: String,
    /// False: nothing was changed.
    pub applied: bool,
    /// Messages that were read.
    pub read: u64,
    /// Those that something changes of, oldest first.
    pub receipts: Vec<RereadView>,
    /// Those that could not be read or revised.
    pub damaged: Vec<Damaged>,
    /// There is more; go on behind this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Reached>,
    /// What ended it; what is said above was done all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<OpError>,
}

/// A message that something changes of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RereadView {
    /// The transaction.
    pub receipt_id: ReceiptId,
    /// When it was received.
    pub at: Timestamp,
    /// What it is, by the new reading.
    pub class: Class,
    /// What the new reading says differently.
    pub differences: Vec<Difference>,
    /// Where its messages are placed besides.
    pub placements: Vec<EntryView>,
    /// What is taken out.
    pub left: Vec<EntryView>,
    /// The report that it returns, when it came to an NDR mailbox and nobody saw that then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered: Option<RecoveredView>,
}

/// A report that was found in an NDR, for the gateway mailbox that its NDR mailbox serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveredView {
    /// Address of the gateway mailbox served.
    pub gateway_mailbox: String,
    /// Where its messages were placed there; empty while it is only planned.
    pub placements: Vec<EntryView>,
    /// The receipt it repeats, which had brought the same report.
    pub repeats: Option<ReceiptId>,
}

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryView {
    /// The folder's path.
    pub folder: String,
    /// Its UID; `None` while it is only planned.
    pub uid: Option<Uid>,
}

/// A message that could not be read or revised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    /// The transaction.
    pub receipt_id: ReceiptId,
    /// Why not.
    pub why: String,
}

/// Goes through messages until [`BATCH_WAIT`] is over.
///
/// # Errors
/// As [`key::open`]; [`OpError::NotFound`] for a receipt that did not come to it, before anything is done. What fails after
/// something was done is told with that.
pub(super) async fn reprocess(
    context: &Context,
    actor: &str,
    asked: Asked,
) -> Result<ReprocessedView, OpError> {
    let Asked { gateway_mailbox, which, apply, after, key } = asked;
    if matches!(&which, Reprocessing::Receipts(named) if named.len() > REPROCESS_RECEIPTS_MAX) {
        return Err(OpError::Usage(format!("at most {REPROCESS_RECEIPTS_MAX} receipts at once")));
    }
    let mailbox = resolve(context, &gateway_mailbox)?;
    if let (Reprocessing::Receipts(named), None) = (&which, after) {
        let (named, mailbox_id) = (named.clone(), mailbox.id);
        let all_came =
            move |c: &Context| named.iter().try_for_each(|id| came_to(c, mailbox_id, *id).map(drop));
        blocking(context, all_came).await?;
    }
    let opener = {
        let (mailbox, actor) = (Arc::clone(&mailbox), actor.to_owned());
        move |c: &Context| key::open(c, &actor, &mailbox, &key, "reprocess")
    };
    let unlocked = blocking(context, opener).await?;
    let settings = context.settings.current();
    let pipeline =
        Pipeline::new(Arc::clone(&context.store), Arc::clone(&context.directory), &settings.exchange);
    pipeline.replace_assign(&settings.assign, &settings.domains);
    let mut run = Run {
        context,
        actor,
        pipeline,
        unlocked,
        apply,
        view: ReprocessedView {
            gateway_mailbox: mailbox.address().map(ToString::to_string).unwrap_or_default(),
            applied: apply,
            ..ReprocessedView::default()
        },
    };
    let start = Reached { begun: now(), done: 0, after: None };
    match run.go(&mailbox, &which, after.unwrap_or(start)).await {
        Err(error) if run.view.receipts.is_empty() && run.view.damaged.is_empty() => return Err(error),
        outcome => run.view.error = outcome.err(),
    }
    Ok(run.view)
}

struct Run<'a> {
    context: &'a Context,
    actor: &'a str,
    pipeline: Arc<Pipeline>,
    unlocked: Unlocked,
    apply: bool,
    view: ReprocessedView,
}

impl Run<'_> {
    async fn go(
        &mut self,
        mailbox: &GatewayMailbox,
        which: &Reprocessing,
        mut reached: Reached,
    ) -> Result<(), OpError> {
        let deadline = Instant::now() + BATCH_WAIT;
        loop {
            let (mailbox_id, asked, at) = (mailbox.id, which.clone(), reached);
            let step = blocking(self.context, move |c| step(c, mailbox_id, &asked, at)).await?;
            let Some(step) = step else { return Ok(()) };
            for receipt in step.receipts {
                let this = receipt.receipt_id;
                match receipt.freed_at {
                    // Of those that are named one is told why; of all there may be many.
                    Some(at) if matches!(which, Reprocessing::Receipts(_)) => {
                        let why = format!("its content was freed on {at}: nobody has it any more");
                        self.note(this, StoreError::Refused(why))?;
                    }
                    Some(_) => {}
                    None if is_done(&receipt, reached.begun) => {}
                    None => self.one(mailbox, receipt).await?,
                }
                if Instant::now() >= deadline {
                    // Behind this one; of those named one by one each is a step.
                    let told = step.unread.into_iter().filter(|unread| unread.receipt_id < this);
                    self.view.damaged.extend(told);
                    self.view.next = Some(match which {
                        Reprocessing::Receipts(_) => step.next,
                        _ => Reached { after: Some(this), ..reached },
                    });
                    return Ok(());
                }
            }
            self.view.damaged.extend(step.unread);
            reached = step.next;
        }
    }

    /// Reads one message again and revises its receipt.
    async fn one(&mut self, mailbox: &GatewayMailbox, receipt: ReceiptView) -> Result<(), OpError> {
        let receipt_id = receipt.receipt_id;
        let closed = |_| OpError::Unavailable("nothing is read any more".to_owned());
        let _permit = READING.acquire().await.map_err(closed)?;
        self.context.store.admits(receipt.octets)?;
        let (at, class_was, since) = (receipt.at, receipt.class, now());
        let (pipeline, unlocked) = (Arc::clone(&self.pipeline), self.unlocked.clone());
        let read = blocking(self.context, move |context| {
            let mut read = pipeline.reread(&unlocked, &receipt, since);
            if let Ok(Some(reread)) = &mut read {
                let leaves = &mut reread.revision.leaves;
                // The entry of another report of the message too, which may not find its people now.
                if leaves.contains(&FolderName::Unassigned)
                    && stands_for_a_fork(context, &receipt, |_| false)?
                {
                    leaves.retain(|folder| *folder != FolderName::Unassigned);
                }
            }
            Ok(read)
        });
        let read = read.await?;
        let reread = match read {
            Ok(None) => return Ok(()),
            Ok(Some(reread)) => reread,
            Err(error) => return self.note(receipt_id, error),
        };
        self.view.read += 1;
        let Reread { revision, differences, class, recovered } = reread;
        let given = match recovered {
            Some(recovered) => self.give(*recovered).await.map(Some),
            None => Ok(None),
        };
        let recovered = match given {
            Ok(recovered) => recovered,
            Err(error) => return self.note(receipt_id, error),
        };
        let revised = if self.apply {
            self.context.store.revise(vec![revision], self.actor).await
        } else {
            blocking(self.context, move |c| Ok(c.store.plan(&[revision]))).await?
        };
        let revised = match revised {
            Ok(revised) => revised.into_iter().next(),
            Err(error) => {
                self.tell_given(receipt_id, at, class, recovered);
                return self.note(receipt_id, error);
            }
        };
        let Some(revised) = revised else { return Ok(()) };
        let view = RereadView { recovered, ..view(receipt_id, at, class, differences, revised) };
        let moves = !view.placements.is_empty() || !view.left.is_empty() || view.recovered.is_some();
        if view.differences.is_empty() && !moves {
            return Ok(());
        }
        if self.apply {
            log(&view, mailbox, class_was, self.actor);
        }
        self.view.receipts.push(view);
        Ok(())
    }

    /// Delivers a report that was found in an NDR.
    async fn give(&self, recovered: Recovered) -> Result<RecoveredView, StoreError> {
        let gateway_mailbox = recovered.served.address().map(ToString::to_string).unwrap_or_default();
        let mut view = RecoveredView { gateway_mailbox, placements: Vec::new(), repeats: None };
        if self.apply {
            let delivered = self.pipeline.deliver_recovered(recovered).await?;
            let entry = |(folder, uid)| EntryView { folder, uid: Some(uid) };
            view.placements = delivered.placements.into_iter().map(entry).collect();
            view.repeats = delivered.repeats;
        }
        Ok(view)
    }

    /// A report that was delivered stays so, and is told, though what brought it could not be revised.
    fn tell_given(
        &mut self,
        receipt_id: ReceiptId,
        at: Timestamp,
        class: Class,
        recovered: Option<RecoveredView>,
    ) {
        if self.apply && recovered.is_some() {
            let (differences, placements, left) = (Vec::new(), Vec::new(), Vec::new());
            let told = RereadView { receipt_id, at, class, differences, placements, left, recovered };
            self.view.receipts.push(told);
        }
    }

    /// What concerns one message alone hides no other.
    fn note(&mut self, receipt_id: ReceiptId, error: StoreError) -> Result<(), OpError> {
        match error {
            StoreError::Damaged(_) | StoreError::Refused(_) | StoreError::Gone | StoreError::LacksKey => {
                self.view.damaged.push(Damaged { receipt_id, why: error.to_string() });
                Ok(())
            }
            error => Err(error.into()),
        }
    }
}

fn view(
    receipt_id: ReceiptId,
    at: Timestamp,
    class: Class,
    differences: Vec<Difference>,
    revised: Revised,
) -> RereadView {
    let placements = revised.placements.into_iter().map(|(folder, uid)| EntryView { folder, uid }).collect();
    let left = revised.left.into_iter().map(|(folder, uid)| EntryView { folder, uid: Some(uid) }).collect();
    RereadView { receipt_id, at, class, differences, placements, left, recovered: None }
}

fn log(view: &RereadView, mailbox: &GatewayMailbox, class_was: Class, actor: &str) {
    let entries = |entries: &[EntryView]| {
        let entry = |entry: &EntryView| match entry.uid {
            Some(uid) => format!("{}:{uid}", entry.folder),
            None => entry.folder.clone(),
        };
        entries.iter().map(entry).collect::<Vec<_>>().join(" ")
    };
    let differences: Vec<&str> = view.differences.iter().map(|difference| difference.what.as_str()).collect();
    metrics::receipt_revised("reprocessed");
    tracing::info!(
        event = "journal.reprocessed",
        receipt_id = %view.receipt_id,
        mailbox = mailbox.login(),
        class_was = class_was.as_str(),
        class = view.class.as_str(),
        differences = differences.join(" "),
        placements = entries(&view.placements),
        left = entries(&view.left),
        actor,
    );
}

/// It was read again since.
fn is_done(receipt: &ReceiptView, begun: Timestamp) -> bool {
    let since = |revision: &RevisionView| revision.kind == RevisionKind::Reprocessed && revision.at >= begun;
    receipt.revisions.iter().any(since)
}

/// Receipts to be read next.
struct Step {
    receipts: Vec<ReceiptView>,
    unread: Vec<Damaged>,
    next: Reached,
}

/// A receipt that was named.
fn came_to(
    context: &Context,
    gateway_mailbox: GatewayMailboxId,
    receipt_id: ReceiptId,
) -> Result<ReceiptView, OpError> {
    let receipts = find(context, &ReceiptQuery::Id(receipt_id), None, 1)?;
    let came = receipts.into_iter().find(|receipt| receipt.gateway_mailbox == gateway_mailbox);
    came.ok_or_else(|| OpError::NotFound(format!("{receipt_id} did not come to this gateway mailbox")))
}

/// The next receipts; `None` when there are no more.
fn step(
    context: &Context,
    gateway_mailbox: GatewayMailboxId,
    which: &Reprocessing,
    at: Reached,
) -> Result<Option<Step>, OpError> {
    let (folders, since) = match which {
        Reprocessing::Receipts(named) => {
            let Some(receipt_id) = named.get(at.done) else { return Ok(None) };
            let receipts = vec![came_to(context, gateway_mailbox, *receipt_id)?];
            let next = Reached { done: at.done + 1, after: None, ..at };
            return Ok(Some(Step { receipts, unread: Vec::new(), next }));
        }
        Reprocessing::Waiting(since) => {
            (vec![Some(FolderName::Quarantine), Some(FolderName::Unassigned)], since)
        }
        Reprocessing::All(since) => (vec![None], since),
    };
    let Some(folder) = folders.into_iter().nth(at.done) else { return Ok(None) };
    let walk = Walk { gateway_mailbox, since: *since, after: at.after, folder, most: STEP_RECEIPTS };
    let walked = context.store.walk(&walk)?;
    let unread = walked.unread.into_iter().map(|(receipt_id, why)| Damaged { receipt_id, why }).collect();
    let next = match walked.last {
        Some(last) => Reached { after: Some(last), ..at },
        None => Reached { done: at.done + 1, after: None, ..at },
    };
    Ok(Some(Step { receipts: walked.receipts, unread, next }))
}
