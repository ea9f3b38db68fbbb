//! `daybook undelete`: what was deleted comes back, as long as it can be had back.
//!
//! One request brings back as many pages as fit into [`BATCH_WAIT`]; whoever asks goes on. Each page is one entry of the log:
//! an interruption leaves whole ones.

use super::gateway_mailboxes::resolve;
use super::ops::{Context, blocking};
use super::request::OpError;
use super::retention::RecoverableView;
use crate::mail::{Address, GatewayMailbox, Timestamp};
use crate::store::{FolderName, Recoverable, StoreError, UndeleteAsked};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Entries brought back by one entry of the log.
const PAGE_ENTRIES: usize = 1_000;
/// How long pages are brought back for one answer; the one under way then is finished.
const BATCH_WAIT: Duration = Duration::from_secs(10);
/// How long an answer may take: [`BATCH_WAIT`], and one page on a slow disk behind the mail that waits for it too.
pub(super) const UNDELETE_WAIT: Duration = Duration::from_secs(2 * 60);
/// Runs of UIDs that one answer lists. Each page is one run, unless mail comes in between.
const RUNS_MAX: usize = 10_000;

/// What came back to a folder, or can be had back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndeletedView {
    /// Address of the gateway mailbox.
    pub gateway_mailbox: String,
    /// The path of the folder.
    pub folder: String,
    /// False: nothing was changed.
    pub applied: bool,
    /// Entries that came back, or can be had back.
    pub entries: u64,
    /// Under these new UIDs: first and last of each run.
    pub uids: Vec<(u32, u32)>,
    /// Entries left where they are, since retention would take them out at once.
    pub skipped_due: u64,
    /// Entries of those that came back that were deleted before what INBOX holds was last changed: they are shown as they were then.
    #[serde(default)]
    pub shown_as_before: u64,
    /// What else can be had back now, in any folder.
    pub left: Vec<RecoverableView>,
    /// What was deleted later is not meant: to be said with the next request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_until: Option<Timestamp>,
    /// There is more to be brought back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// What ended it; what is said above was done all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<OpError>,
}

/// Brings back what was deleted from a folder from some time to another; without `apply` only says what can be.
pub(super) async fn undelete(
    context: &Context,
    actor: &str,
    text: &str,
    path: Option<&str>,
    (since, until): (Option<Timestamp>, Option<Timestamp>),
    apply: bool,
) -> Result<UndeletedView, OpError> {
    let mailbox = resolve(context, text)?;
    let since = since.unwrap_or(Timestamp::from_unix_ms(0));
    let asked = GatewayMailbox::clone(&mailbox);
    let path = path.unwrap_or("INBOX").to_owned();
    let (folder, path) = blocking(context, move |c| find(c, &asked, &path)).await?;
    let there = recoverable(context, &mailbox, since).await?;
    let found = there.iter().find(|one| one.folder == folder);
    // While it comes back a client may fetch and delete it again: the next request must not bring that back once more.
    let until = until.or(found.map(|one| one.newest));
    let there = found.map_or(0, |one| one.entries);
    let mut view = UndeletedView {
        gateway_mailbox: mailbox.address().map(Address::as_str).unwrap_or_default().to_owned(),
        folder: path,
        applied: apply,
        deleted_until: until,
        ..UndeletedView::default()
    };
    if apply {
        let asked = UndeleteAsked { gateway_mailbox: mailbox.id, folder, since, until, most: PAGE_ENTRIES };
        pages(context, actor, &asked, there, &mut view).await?;
        let (entries, due) = (view.entries, view.skipped_due);
        let (id, login, folder) = (mailbox.id, mailbox.login(), &view.folder);
        tracing::info!(event = "mailbox.undeleted", mailbox = login, mailbox_id = %id, folder, entries, due, actor);
    } else {
        view.entries = there;
    }
    let left = recoverable(context, &mailbox, Timestamp::from_unix_ms(0)).await?;
    view.left = left.into_iter().map(RecoverableView::from).collect();
    Ok(view)
}

/// Page after page, at most as many entries as there were at first: what is deleted anew meanwhile was not meant.
async fn pages(
    context: &Context,
    actor: &str,
    asked: &UndeleteAsked,
    there: u64,
    view: &mut UndeletedView,
) -> Result<(), OpError> {
    let now_is = context.store.gateway_mailbox_now(asked.gateway_mailbox)?;
    let view_from = now_is.view_from.filter(|_| asked.folder == FolderName::Inbox);
    let began = Instant::now();
    loop {
        let page = match context.store.undelete(asked.clone(), actor).await {
            Ok(page) => page,
            Err(error) if view.entries == 0 => return Err(error.into()),
            Err(error) => {
                view.error = Some(error.into());
                return Ok(());
            }
        };
        view.skipped_due = view.skipped_due.max(page.skipped_due);
        let came = page.entries.len() as u64;
        view.entries += came;
        for entry in &page.entries {
            add(&mut view.uids, entry.uid.value());
            view.shown_as_before += u64::from(view_from.is_some_and(|from| entry.of < from));
        }
        if !page.more || came == 0 || view.entries >= there {
            return Ok(());
        }
        if began.elapsed() > BATCH_WAIT || view.uids.len() >= RUNS_MAX {
            view.more = true;
            return Ok(());
        }
    }
}

/// Takes a UID into rising runs.
fn add(runs: &mut Vec<(u32, u32)>, uid: u32) {
    match runs.last_mut() {
        Some((_, last)) if last.checked_add(1) == Some(uid) => *last = uid,
        _ => runs.push((uid, uid)),
    }
}

impl UndeletedView {
    /// Takes up what the next request brought back.
    pub fn go_on(&mut self, next: UndeletedView) {
        let before = std::mem::replace(self, next);
        self.entries += before.entries;
        self.uids.splice(..0, before.uids);
        self.shown_as_before += before.shown_as_before;
        self.skipped_due = self.skipped_due.max(before.skipped_due);
    }
}

/// The folder a path means, and the path as it is written.
fn find(context: &Context, mailbox: &GatewayMailbox, path: &str) -> Result<(FolderName, String), OpError> {
    let folders = context.store.folders(mailbox.id)?;
    // RFC 9051 §5.1: INBOX in whatever case.
    let is_meant = |known: &str| known == path || known == "INBOX" && path.eq_ignore_ascii_case(known);
    match folders.into_iter().find(|folder| is_meant(&folder.path)) {
        Some(folder) => Ok((folder.name, folder.path)),
        None if is_meant("INBOX") => Ok((FolderName::Inbox, "INBOX".to_owned())),
        None => Err(OpError::NotFound(format!(
            "there is no folder {path} in it; daybook mailbox show lists those there are"
        ))),
    }
}

async fn recoverable(
    context: &Context,
    mailbox: &GatewayMailbox,
    since: Timestamp,
) -> Result<Vec<Recoverable>, OpError> {
    let id = mailbox.id;
    let found = blocking(context, move |c| match c.store.recoverable(id, since) {
        Err(StoreError::Gone) => Ok(Vec::new()),
        found => Ok(found?),
    });
    found.await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_uids_are_told_in_runs_also_over_several_answers() {
        let mut runs = Vec::new();
        [4, 5, 6, 9, 10, 12].into_iter().for_each(|uid| add(&mut runs, uid));
        assert_eq!(runs, [(4, 6), (9, 10), (12, 12)]);
        let mut all = UndeletedView {
            entries: 6,
            uids: runs,
            skipped_due: 2,
            shown_as_before: 4,
            more: true,
            ..Default::default()
        };
        all.go_on(UndeletedView { entries: 1, uids: vec![(13, 13)], skipped_due: 2, ..Default::default() });
        assert_eq!((all.entries, all.skipped_due, all.more), (7, 2, false));
        assert_eq!(all.uids, [(4, 6), (9, 10), (12, 12), (13, 13)]);
    }
}
