//! Takes a request to the function that carries it out.

use super::health::{Serving, readiness};
use super::key::NewPassword;
use super::request::{OpError, Request, Response};
use super::watch::Watch;
use super::{
    Ports, check, examine, gaps, gateway_mailboxes, keeping, key, key_changes, log_level, pulling,
    quarantine, reassign, receipts, reprocess, retention, scrub, self_test, syncs, transactions, trust,
    undelete, users,
};
use crate::config::Live;
use crate::directory::Directory;
use crate::observe::{RefusedMail, Visits, now};
use crate::pull::Pullers;
use crate::store::{ReceiptQuery, Store};
use std::sync::Arc;

/// What operations work on. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The store, open.
    pub store: Arc<dyn Store>,
    /// The users in force.
    pub directory: Arc<Directory>,
    /// The configuration in force.
    pub settings: Live,
    /// Where this process listens; `None` when it serves nobody.
    pub ports: Option<Ports>,
    /// What a process that serves knows of itself.
    pub serving: Serving,
    /// Who logged in to fetch, and when.
    pub visits: Visits,
    /// When messages were refused for good.
    pub refused_mail: RefusedMail,
    /// Watches over the gateway; `None` where none runs.
    pub watch: Option<Arc<Watch>>,
    /// Fetches from accounts elsewhere; `None` where no server runs.
    pub pullers: Option<Arc<Pullers>>,
}

/// Carries out `request` for `actor`, who is named in the store's log.
///
/// # Errors
/// [`OpError`]; nothing was changed.
pub async fn perform(context: &Context, actor: &str, request: Request) -> Result<Response, OpError> {
    match request {
        Request::CreateGatewayMailbox { name, domain, tenant, profile, serves } => {
            let created =
                gateway_mailboxes::create(context, actor, name, domain, tenant, profile, serves).await?;
            Ok(Response::Created(Box::new(created)))
        }
        Request::ListGatewayMailboxes => {
            blocking(context, gateway_mailboxes::list).await.map(Response::GatewayMailboxes)
        }
        Request::ShowGatewayMailbox { gateway_mailbox } => {
            gateway_mailbox_response(context, move |c| gateway_mailboxes::show(c, &gateway_mailbox)).await
        }
        Request::SetGatewayMailbox { gateway_mailbox, settings, approved } => {
            let id = gateway_mailboxes::set(context, actor, &gateway_mailbox, &settings, approved).await?;
            gateway_mailbox_response(context, move |c| gateway_mailboxes::changed(c, id, None)).await
        }
        Request::HoldGatewayMailbox { gateway_mailbox, user, reason } => {
            let id = keeping::hold(context, actor, &gateway_mailbox, user, &reason).await?;
            gateway_mailbox_response(context, move |c| gateway_mailboxes::changed(c, id, None)).await
        }
        Request::UnholdGatewayMailbox { gateway_mailbox, user, approved } => {
            let id = keeping::unhold(context, actor, &gateway_mailbox, user, approved).await?;
            gateway_mailbox_response(context, move |c| gateway_mailboxes::changed(c, id, None)).await
        }
        Request::Undelete { gateway_mailbox, folder, since, deleted_until, apply } => {
            let (folder, times) = (folder.as_deref(), (since, deleted_until));
            let undeleted = undelete::undelete(context, actor, &gateway_mailbox, folder, times, apply);
            undeleted.await.map(|view| Response::Undeleted(Box::new(view)))
        }
        Request::Retention { pass } => {
            retention::retention(context, pass).await.map(|view| Response::Retention(Box::new(view)))
        }
        Request::ConfirmClock { approved } => {
            let confirmed = retention::confirm(context, actor, approved);
            confirmed.await.map(|view| Response::Retention(Box::new(view)))
        }
        Request::RotateGatewayMailbox { gateway_mailbox, overlap_days } => {
            let (id, note) =
                gateway_mailboxes::rotate(context, actor, &gateway_mailbox, overlap_days).await?;
            let noted = move |c: &Context| {
                let mut view = gateway_mailboxes::changed(c, id, None)?;
                view.notes.extend(note);
                Ok(view)
            };
            gateway_mailbox_response(context, noted).await
        }
        Request::PinGatewayMailbox { gateway_mailbox, tenant, certificate, approved } => {
            let (id, learned) =
                trust::pin(context, actor, &gateway_mailbox, tenant, certificate, approved).await?;
            gateway_mailbox_response(context, move |c| gateway_mailboxes::changed(c, id, Some(learned))).await
        }
        Request::SuspendGatewayMailbox { gateway_mailbox } => {
            let id = gateway_mailboxes::suspend(context, actor, &gateway_mailbox).await?;
            gateway_mailbox_response(context, move |c| gateway_mailboxes::changed(c, id, None)).await
        }
        Request::ResumeGatewayMailbox { gateway_mailbox } => {
            let id = gateway_mailboxes::resume(context, actor, &gateway_mailbox).await?;
            gateway_mailbox_response(context, move |c| gateway_mailboxes::changed(c, id, None)).await
        }
        Request::EscrowGatewayMailbox { gateway_mailbox, key } => {
            let actor = actor.to_owned();
            let wrap = move |c: &Context| key::add_escrow(c, &actor, &gateway_mailbox, &key);
            let id = blocking(context, wrap).await?;
            gateway_mailbox_response(context, move |c| gateway_mailboxes::changed(c, id, None)).await
        }
        Request::RotateKey { gateway_mailbox, key } => {
            let actor = actor.to_owned();
            let rotate = move |c: &Context| key_changes::rotate(c, &actor, &gateway_mailbox, &key);
            let id = blocking(context, rotate).await?;
            gateway_mailbox_response(context, move |c| gateway_mailboxes::changed(c, id, None)).await
        }
        Request::ResetPassword { gateway_mailbox, keys, password, approved } => {
            let actor = actor.to_owned();
            let reset = move |c: &Context| {
                let given = (&keys[..], password.as_ref().map(NewPassword::reveal));
                key_changes::reset_password(c, &actor, &gateway_mailbox, given, approved)
            };
            blocking(context, reset).await.map(|reset| Response::PasswordReset(Box::new(reset)))
        }
        Request::ExportKey { gateway_mailbox, key } => {
            let actor = actor.to_owned();
            let export = move |c: &Context| key_changes::export(c, &actor, &gateway_mailbox, &key);
            blocking(context, export).await.map(|keys| Response::KeyExport(Box::new(keys)))
        }
        Request::DeleteGatewayMailbox { gateway_mailbox, force } => {
            let deleted = gateway_mailboxes::delete(context, actor, &gateway_mailbox, force).await?;
            Ok(Response::GatewayMailbox(Box::new(deleted)))
        }
        Request::ListUsers { gateway_mailbox } => {
            blocking(context, move |c| users::list(c, gateway_mailbox.as_deref())).await.map(Response::Users)
        }
        Request::ShowUser { user, gateway_mailbox } => {
            let found = blocking(context, move |c| users::show(c, &user, gateway_mailbox.as_deref())).await?;
            Ok(Response::Users(found))
        }
        Request::SyncUsers { source, dry_run } => {
            syncs::sync(context, source, dry_run).await.map(|view| Response::Synced(Box::new(view)))
        }
        Request::ApplyPlan { plan } => {
            syncs::apply(context, actor, plan).await.map(|view| Response::Synced(Box::new(view)))
        }
        Request::ListPlans => blocking(context, |c| Ok(syncs::plans(c))).await.map(Response::Plans),
        Request::ListSnapshots { source } => {
            blocking(context, move |c| syncs::snapshots(c, &source)).await.map(Response::Snapshots)
        }
        Request::RollBackUsers { source, to } => {
            syncs::roll_back(context, actor, source, to).await.map(|view| Response::Synced(Box::new(view)))
        }
        Request::FindAddress { address, at } => {
            let find = move |c: &Context| syncs::find(c, &address, at);
            blocking(context, find).await.map(Response::FoundAddresses)
        }
        Request::Trace { query, since, most } => {
            blocking(context, move |c| receipts::trace(c, &query, since, most)).await.map(Response::from)
        }
        Request::ListTransactions(asked) => {
            blocking(context, move |c| transactions::page(c, &asked)).await.map(Response::Transactions)
        }
        Request::Gaps { gateway_mailbox, since, all } => {
            let found = move |c: &Context| gaps::gaps(c, gateway_mailbox.as_deref(), since, all);
            blocking(context, found).await.map(|gaps| Response::Gaps(Box::new(gaps)))
        }
        Request::CloseGaps { receipt_ids } => {
            let closed = gaps::close(context, actor, receipt_ids);
            closed.await.map(|closed| Response::Gaps(Box::new(closed)))
        }
        Request::Explain { receipt_id } => {
            let query = ReceiptQuery::Id(receipt_id);
            blocking(context, move |c| receipts::with_turned_away(c, &query, None, 1))
                .await
                .map(Response::from)
        }
        Request::ListQuarantine { gateway_mailbox, since, most } => {
            let list = move |c: &Context| quarantine::list(c, gateway_mailbox.as_deref(), since, most);
            blocking(context, list).await.map(Response::Quarantine)
        }
        Request::ShowQuarantined { receipt_id, gateway_mailbox } => {
            let show = move |c: &Context| quarantine::show(c, receipt_id, gateway_mailbox.as_deref());
            blocking(context, show).await.map(|detail| Response::Quarantined(Box::new(detail)))
        }
        Request::ReleaseQuarantined { receipt_ids, gateway_mailbox, apply } => {
            let released = quarantine::release(context, actor, receipt_ids, gateway_mailbox, apply);
            released.await.map(Response::Revised)
        }
        Request::Reassign { gateway_mailbox, since, apply, from } => {
            let page = reassign::page(context, actor, gateway_mailbox.as_deref(), since, apply, from);
            page.await.map(|page| Response::Reassigned(Box::new(page)))
        }
        Request::NoteExport(note) => {
            super::export_folders::note(actor, &note);
            Ok(Response::ExportNoted(note))
        }
        Request::LogLevel { level, seconds } => {
            log_level::log_level(context, actor, level, seconds).map(Response::LogLevel)
        }
        Request::Reprocess { gateway_mailbox, which, apply, after, key } => {
            let asked = reprocess::Asked { gateway_mailbox, which, apply, after, key };
            reprocess::reprocess(context, actor, asked).await.map(Response::Reprocessed)
        }
        // The socket hands it to those who can stream.
        Request::Tail { .. } | Request::ExportMessage { .. } => {
            Err(OpError::Unavailable("no server is running".to_owned()))
        }
        Request::Status => {
            let status = watch(context)?.look(now(), true).await;
            Ok(Response::Status(Box::new(status)))
        }
        Request::StatusMail { send } => {
            watch(context)?.status_mail(send).await.map(|mail| Response::StatusMail(Box::new(mail)))
        }
        Request::Scrub { begin, close } => {
            scrub::scrub(context, actor, begin, close).await.map(|scrub| Response::Scrub(Box::new(scrub)))
        }
        Request::Ready => blocking(context, readiness).await.map(Response::Ready),
        Request::Examine => {
            blocking(context, examine::examine).await.map(|seen| Response::Examined(Box::new(seen)))
        }
        Request::Index { begin } => {
            let state = move |c: &Context| check::index_state(c, begin);
            blocking(context, state).await.map(|state| Response::Index(Box::new(state)))
        }
        Request::Pull { name, status: true } => {
            pulling::status(context, name.as_deref()).map(Response::Pullers)
        }
        Request::Pull { name, status: false } => {
            pulling::pull(context, name.as_deref()).await.map(Response::Pullers)
        }
        Request::RenewSelfTest => {
            self_test::renew(context, actor).await.map(|made| Response::Created(Box::new(made)))
        }
        Request::ClearSelfTest => {
            let id = self_test::clear(context).await?;
            gateway_mailbox_response(context, move |c| gateway_mailboxes::changed(c, id, None)).await
        }
    }
}

async fn gateway_mailbox_response(
    context: &Context,
    show: impl FnOnce(&Context) -> Result<super::GatewayMailboxView, OpError> + Send + 'static,
) -> Result<Response, OpError> {
    blocking(context, show).await.map(|view| Response::GatewayMailbox(Box::new(view)))
}

/// Runs what reads from the disk where it keeps nobody waiting.
pub(super) async fn blocking<T: Send + 'static>(
    context: &Context,
    work: impl FnOnce(&Context) -> Result<T, OpError> + Send + 'static,
) -> Result<T, OpError> {
    let context = context.clone();
    match tokio::task::spawn_blocking(move || work(&context)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(OpError::Unavailable("the operation failed; the log says where".to_owned())),
    }
}

fn watch(context: &Context) -> Result<&Watch, OpError> {
    context.watch.as_deref().ok_or_else(|| OpError::Unavailable("no server is running".to_owned()))
}

/// Has the alarms judged anew, not waiting for it: what was just done may end one.
pub(super) fn look_soon(context: &Context) {
    if let Some(watch) = context.watch.clone() {
        tokio::spawn(async move { drop(watch.look(now(), true).await) });
    }
}
