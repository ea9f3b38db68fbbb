//! What clients find in INBOX and may do: changing it, and showing what waits there in the new way.
//!
//! With the change INBOX has another UIDVALIDITY, and what comes from then on is shown in the new way. What waits follows in batches,
//! oldest first, each all or none and with one sync: its entries leave and come again under new UIDs, behind all others. Until the
//! last has, a client finds some as before and some as now, each message once. What is left of it is known from the store alone
//! ([`Backlog::former_view`]): the next start goes on with it.
//!
//! The command that changes it does so for [`ASKED_WAIT`]; then the server goes on by itself, and without one the command to the end.
//! 100,000 messages took about 4 minutes, unoptimised.
//!
//! Some never follow: what cannot be read, and what would need content that is freed. Those are left as they are.

use super::Context;
use super::ops::blocking;
use super::request::{FetchingView, GatewayMailboxView, OpError, RoleView};
use crate::mail::{FetchRules, GatewayMailbox, GatewayMailboxId, Maildrop, Profile, ReceiptId, Timestamp};
use crate::observe::now;
use crate::pipeline;
use crate::store::{Backlog, FolderName, REVISIONS_MAX, Revision, StoreError, Walk};
use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Notify};

/// Receipts looked at together, and shown anew with one sync: mail that arrives meanwhile waits for some milliseconds. One receipt
/// may name thousands of recipients.
const BATCH_RECEIPTS: usize = 128;
const _: () = assert!(BATCH_RECEIPTS <= REVISIONS_MAX);
/// How often a batch is thought of anew when somebody else revised one of its receipts meanwhile.
const TRIES_MAX: usize = 3;
/// How long the command waits, far below what an asker does.
const ASKED_WAIT: Duration = Duration::from_secs(5);
/// When it could not go on, the server tries again then.
const RETRY: Duration = Duration::from_secs(30);
/// In whose name the server goes on.
const ACTOR: &str = "view";

/// One at a time: two would do the same.
static TURN: Mutex<()> = Mutex::const_new(());
/// Entries that went through a whole pass and stay as they are, by gateway mailbox: known to the process that made the pass.
static KEPT: std::sync::Mutex<BTreeMap<GatewayMailboxId, u64>> = std::sync::Mutex::new(BTreeMap::new());
/// There is something to go on with.
static WAKE: Notify = Notify::const_new();

/// Takes one key of `set` into `rules`; false when the key is none of it.
pub(super) fn set(rules: &mut FetchRules, key: &str, value: &str) -> Result<bool, OpError> {
    match (key, value) {
        ("maildrop", "reports") => rules.maildrop = Maildrop::Reports,
        ("maildrop", "originals") => rules.maildrop = Maildrop::Originals,
        ("maildrop", _) => {
            return Err(OpError::Usage(format!("maildrop is reports or originals, not {value}")));
        }
        ("user_delete", "true") => rules.user_delete = true,
        ("user_delete", "false") => rules.user_delete = false,
        ("user_delete", _) => {
            return Err(OpError::Usage(format!("user_delete is true or false, not {value}")));
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// What an admin should know of what clients find, one sentence each.
pub(super) fn notes(mailbox: &GatewayMailboxView) -> Vec<String> {
    let why = match mailbox.maildrop {
        Maildrop::Reports => None,
        Maildrop::Originals if mailbox.role == RoleView::Ndr => Some("an NDR mailbox shows NDRs whole"),
        Maildrop::Originals => (mailbox.profile == Profile::Generic)
            .then_some("the profile is generic, which unwraps nothing: mail is shown as received"),
    };
    let without_effect = why.map(|why| format!("maildrop=originals changes nothing here: {why}"));
    let (left, kept) =
        mailbox.fetching.map_or((0, 0), |fetching| (fetching.former_view, fetching.kept_as_before));
    let kept = kept.min(left);
    let staying = (kept > 0).then(|| {
        format!("messages in INBOX that stay as before: {kept}; they cannot be read, or what would come in their place is freed")
    });
    let left = left - kept;
    let going_on = (left > 0).then(|| {
        format!(
            "messages in INBOX that are still shown as before: {left}; they come again as {}, but for what cannot be read or is freed",
            mailbox.maildrop.as_str()
        )
    });
    without_effect.into_iter().chain(staying).chain(going_on).collect()
}

/// What the last whole pass left as it was.
fn kept(id: GatewayMailboxId) -> u64 {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied().unwrap_or(0)
}

/// `None` when another pass begins.
fn note_kept(id: GatewayMailboxId, count: Option<u64>) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    match count.filter(|count| *count > 0) {
        Some(count) => drop(kept.insert(id, count)),
        None => drop(kept.remove(&id)),
    }
}

/// How fetching goes.
pub(super) fn fetching(context: &Context, mailbox: &GatewayMailbox) -> Result<FetchingView, OpError> {
    let Backlog { unfetched, oldest_unfetched, former_view, .. } = context.store.backlog(mailbox.id)?;
    let on_record = context.store.activity(mailbox.id, now())?.last_fetched;
    let last = on_record.max(context.visits.last(mailbox.id));
    let kept_as_before = kept(mailbox.id).min(former_view);
    Ok(FetchingView { unfetched, oldest_unfetched, last, former_view, kept_as_before })
}

/// Shows what waits in the new way, after a change. While a server runs, no longer than an asker waits.
pub(super) async fn follow(context: &Context, actor: &str, id: GatewayMailboxId) -> Result<(), OpError> {
    let serves = context.ports.is_some();
    let until = serves.then(|| Instant::now() + ASKED_WAIT);
    match show_anew(context, actor, id, until).await {
        Ok(true) => Ok(()),
        Ok(false) => {
            WAKE.notify_one();
            Ok(())
        }
        // The change is made, and stays: the server goes on when it can.
        Err(error) if serves => {
            tell_waits(id, &error);
            WAKE.notify_one();
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Goes on with what a change, or a start after one, has left, for as long as the server runs.
pub async fn go_on(context: Context) {
    let drain = context.serving.drain.clone();
    loop {
        let mut failed = false;
        for gateway_mailbox in context.store.gateway_mailboxes() {
            if let Err(error) = show_anew(&context, ACTOR, gateway_mailbox.id, None).await {
                tell_waits(gateway_mailbox.id, &error);
                failed = true;
            }
        }
        tokio::select! {
            () = drain.started() => return,
            () = WAKE.notified() => {}
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}

fn tell_waits(id: GatewayMailboxId, error: &OpError) {
    tracing::warn!(event = "mailbox.view_waits", mailbox_id = %id, %error);
}

/// Shows what waits in the new way. False when there was no time for all of it, or the server ends.
async fn show_anew(
    context: &Context,
    actor: &str,
    id: GatewayMailboxId,
    until: Option<Instant>,
) -> Result<bool, OpError> {
    let turn = TURN.lock();
    let _turn = match until {
        None => turn.await,
        Some(until) => match tokio::time::timeout_at(until.into(), turn).await {
            Ok(turn) => turn,
            Err(_) => return Ok(false),
        },
    };
    let left = blocking(context, move |c| Ok(c.store.backlog(id)?.former_view)).await?;
    note_kept(id, None);
    if left == 0 {
        return Ok(true);
    }
    let (clock, mut shown, mut after) = (Instant::now(), 0, None);
    loop {
        let is_time = until.is_some_and(|until| Instant::now() >= until);
        if is_time || context.serving.drain.is_started() {
            return Ok(false);
        }
        let (done, last) = show_batch(context, actor, id, after).await?;
        shown += done;
        after = last;
        if after.is_none() {
            break;
        }
    }
    let kept = blocking(context, move |c| Ok(c.store.backlog(id)?.former_view)).await?;
    note_kept(id, Some(kept));
    let now_is = context.store.gateway_mailbox_now(id)?;
    tracing::info!(
        event = "mailbox.view_shown",
        mailbox = now_is.login(),
        mailbox_id = %id,
        maildrop = now_is.fetch.maildrop.as_str(),
        shown,
        kept,
        seconds = clock.elapsed().as_secs_f64(),
        actor,
    );
    Ok(true)
}

/// Shows the next receipts, behind `after`. Gives how many messages left for it, and where to go on.
async fn show_batch(
    context: &Context,
    actor: &str,
    id: GatewayMailboxId,
    after: Option<ReceiptId>,
) -> Result<(usize, Option<ReceiptId>), OpError> {
    let mut tries = 1;
    loop {
        let (revisions, last) = blocking(context, move |c| Ok(thoughts(c, id, after)?)).await?;
        if revisions.is_empty() {
            return Ok((0, last));
        }
        match context.store.revise(revisions, actor).await {
            Ok(revised) => {
                let shown = revised.iter().map(|revised| revised.left.len()).sum();
                return Ok((shown, last));
            }
            Err(StoreError::Refused(_)) if tries < TRIES_MAX => tries += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// What is to become of the next receipts. One that cannot be read stays as it is shown.
fn thoughts(
    context: &Context,
    id: GatewayMailboxId,
    after: Option<ReceiptId>,
) -> Result<(Vec<Revision>, Option<ReceiptId>), StoreError> {
    let mailbox = context.store.gateway_mailbox_now(id)?;
    let walked = context.store.walk(&Walk {
        gateway_mailbox: id,
        since: Timestamp::from_unix_ms(0),
        after,
        folder: Some(FolderName::Inbox),
        most: BATCH_RECEIPTS,
    })?;
    for (receipt_id, why) in &walked.unread {
        tracing::warn!(event = "mailbox.view_unread", %receipt_id, mailbox = mailbox.login(), why);
    }
    let at = now();
    let thought = walked.receipts.iter().filter_map(|receipt| pipeline::viewed(receipt, &mailbox, at));
    Ok((thought.collect(), walked.last))
}
