//! The stay of a client that is logged in: its account, the folder it has open, and what it fetched that is not on record yet.
//!
//! Invariants:
//! - A message counts as fetched once its last octet was given to the connection.
//! - What was fetched from a folder is on record before anything is taken out of it and before it is left; else soon
//!   ([`fetches`](super::fetches)); in every ending at the end.
//! - When it cannot be recorded it is kept and tried again, also when the folder is left, and nothing is taken out of that folder.

use super::fetches::{Fetches, Left, RECORD_RETRY_WAIT};
use super::step::{Answer, Ask, Opened};
use super::stream::Kept;
use crate::fetch::auth::Entered;
use crate::fetch::folders::{Account, Changes, FlagsSet, Folder, FolderMarks, Folders, changes};
use crate::fetch::maildrop::{Client, FetchError};
use crate::fetch::talk::End;
use crate::fetch::visit::{Deeds, Visit};
use crate::mail::{FlagChange, Flags, Uid};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

/// A folder that is open.
struct Open {
    folder: Arc<dyn Folder>,
    /// A message that is being fetched in pieces.
    kept: Kept,
    /// Messages whose end is not sent yet.
    unsent: Vec<Uid>,
    fetches: Fetches,
}

/// One client's stay.
pub(super) struct Stay {
    /// Holds the right to be here.
    entered: Entered,
    visit: Visit,
    open: Option<Open>,
    left: Left,
    listed: usize,
    fetched: usize,
    deleted: usize,
    folders: u64,
    pub(super) searches: u64,
    /// Octets of answers to FETCH given to the connection.
    pub(super) octets: u64,
}

impl Stay {
    /// It begins. `login` is what the client called itself.
    pub(super) fn new(entered: Entered, login: String) -> Stay {
        let (mailbox, mailbox_id) = (entered.login.clone(), entered.mailbox);
        let visit = Visit { login, mailbox, mailbox_id, since: Instant::now() };
        Stay {
            entered,
            visit,
            open: None,
            left: Left::default(),
            listed: 0,
            fetched: 0,
            deleted: 0,
            folders: 0,
            searches: 0,
            octets: 0,
        }
    }

    /// The folder that is open.
    pub(super) fn folder(&self) -> Option<Arc<dyn Folder>> {
        self.open.as_ref().map(|open| Arc::clone(&open.folder))
    }

    /// What the next FETCH in it goes on with.
    pub(super) fn kept(&self) -> Kept {
        self.open.as_ref().map(|open| open.kept.clone()).unwrap_or_default()
    }

    /// Wakes when something happens in the gateway mailbox.
    pub(super) fn watch(&self) -> Option<watch::Receiver<u64>> {
        self.open.as_ref().map(|open| open.folder.watch())
    }

    /// A message was put into the output as a whole.
    pub(super) fn note_whole(&mut self, uid: Uid) {
        if let Some(open) = &mut self.open {
            open.unsent.push(uid);
        }
    }

    /// The output was given to the connection.
    pub(super) fn note_sent(&mut self) {
        let Some(open) = &mut self.open else { return };
        if !open.unsent.is_empty() {
            open.fetches.add(open.unsent.drain(..));
        }
    }

    /// When what was fetched is to be recorded; `None` while there is nothing.
    pub(super) fn due(&self) -> Option<Instant> {
        let open = self.open.as_ref().and_then(|open| open.fetches.due());
        open.into_iter().chain(self.left.due()).min()
    }

    /// Records what was fetched when it is time. A failure is logged and changes nothing for the client: it is tried again.
    pub(super) async fn record_when_due(&mut self, client: &Client) {
        let now = Instant::now();
        if self.open.as_ref().and_then(|open| open.fetches.due()).is_some_and(|due| due <= now) {
            self.record_open(client).await.unwrap_or_default();
        }
        if self.left.due().is_some_and(|due| due <= now) {
            self.record_left(now, client).await;
        }
    }

    /// Records all that was fetched, as far as it can be.
    pub(super) async fn record(&mut self, client: &Client) {
        // A due time is never further away than this.
        let any = Instant::now() + RECORD_RETRY_WAIT;
        self.record_left(any, client).await;
        self.record_open(client).await.unwrap_or_default();
    }

    async fn record_left(&mut self, by: Instant, client: &Client) {
        let (recorded, failed) = self.left.record(by).await;
        self.fetched += recorded;
        if let Some(error) = failed {
            self.visit.log_failed_commit(client, error);
        }
    }

    /// Records what was fetched from the open folder.
    async fn record_open(&mut self, client: &Client) -> Result<(), FetchError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let recorded = open.fetches.record().await;
        recorded.map(|count| self.fetched += count).inspect_err(|error| {
            self.visit.log_failed_commit(client, *error);
        })
    }

    /// Does what the session asks for. Where that [is after fetches](Ask::is_after_fetches), all output must have been sent before.
    pub(super) async fn answer(&mut self, ask: Ask, client: &Client) -> Answer {
        match ask {
            Ask::List => Answer::List(self.in_account(client, |folders| folders.list()).await),
            Ask::Status(path) => {
                Answer::Status(self.in_account(client, move |folders| folders.status(&path)).await)
            }
            Ask::Open(path) => {
                self.leave_folder(client).await;
                Answer::Open(self.open(path, client).await)
            }
            Ask::Leave => {
                self.leave_folder(client).await;
                Answer::Leave
            }
            Ask::Changes(known) => Answer::Changes(self.changes(known, client).await),
            Ask::SetFlags(uids, change) => Answer::SetFlags(self.set_flags(uids, change).await),
            Ask::Expunge(uids) => Answer::Expunge(self.expunge(uids, client).await),
        }
    }

    /// What happened in the open folder since `known`.
    pub(super) async fn changes(&self, known: FolderMarks, client: &Client) -> Result<Changes, FetchError> {
        let folder = self.folder().ok_or(FetchError::Gone)?;
        blocking(client, move || changes(folder.as_ref(), known)).await
    }

    /// Messages whose content was given become `\Seen`; gives the flags they have now.
    pub(super) async fn see(&self, uids: Vec<Uid>, client: &Client) -> FlagsSet {
        if uids.is_empty() {
            return FlagsSet::default();
        }
        let seen = self.set_flags(uids, FlagChange::Add(Flags::SEEN)).await;
        // The client has what it asked for: to call that a failure would have it ask again.
        seen.unwrap_or_else(|error| {
            self.visit.log_failed_commit(client, error);
            FlagsSet::default()
        })
    }

    async fn set_flags(&self, uids: Vec<Uid>, change: FlagChange) -> Result<FlagsSet, FetchError> {
        let folder = self.folder().ok_or(FetchError::Gone)?;
        folder.set_flags(uids, change).await
    }

    async fn expunge(&mut self, uids: Vec<Uid>, client: &Client) -> Result<Vec<Uid>, FetchError> {
        self.record_open(client).await?;
        if self.left.is_incomplete() {
            return Err(FetchError::Temporary);
        }
        let folder = self.folder().ok_or(FetchError::Gone)?;
        let taken = folder.expunge(uids).await?;
        self.deleted += taken.len();
        Ok(taken)
    }

    async fn open(&mut self, path: String, client: &Client) -> Result<Option<Opened>, FetchError> {
        let opened = self.in_account(client, move |folders| {
            let account = folders.account()?;
            let Some(folder) = folders.open(&path)? else { return Ok(None) };
            let (marks, rows) = folder.rows(Uid::FIRST)?;
            Ok(Some(Opened { folder, marks, rows, account }))
        });
        let opened = opened.await?;
        if let Some(opened) = &opened {
            let folder = Arc::clone(&opened.folder);
            let fetches = self.left.reopened(Arc::clone(&folder));
            self.open = Some(Open { folder, kept: Kept::default(), unsent: Vec::new(), fetches });
            self.folders += 1;
            self.listed += opened.rows.len();
        }
        Ok(opened)
    }

    /// What cannot be recorded is kept: whoever opens the folder again must not take out what looks as if nobody had it.
    async fn leave_folder(&mut self, client: &Client) {
        let recorded = self.record_open(client).await;
        let Some(open) = self.open.take() else { return };
        if recorded.is_err()
            && let Some(messages) = self.left.keep(open.fetches)
        {
            let (session_id, peer) = (client.session_id, client.peer);
            tracing::warn!(event = "fetch.unrecorded", %session_id, mailbox = self.visit.mailbox, %peer, messages);
        }
    }

    /// Its end: what was fetched is recorded, and the log says how it was.
    pub(super) async fn end(mut self, client: &Client, program: Option<&str>, end: End) {
        self.record(client).await;
        let deeds = Deeds {
            listed: self.listed,
            fetched: self.fetched,
            octets: self.octets,
            deleted: self.deleted,
            folders: Some(self.folders),
            searches: Some(self.searches),
            program,
        };
        self.visit.log(client, &deeds, end);
    }

    /// The name of the gateway mailbox for the log.
    pub(super) fn mailbox(&self) -> &str {
        &self.visit.mailbox
    }

    async fn in_account<T: Send + 'static>(
        &self,
        client: &Client,
        act: impl FnOnce(&dyn Folders) -> Result<T, FetchError> + Send + 'static,
    ) -> Result<T, FetchError> {
        let folders = Arc::clone(&self.entered.folders);
        blocking(client, move || act(folders.as_ref())).await
    }
}

/// The account of a client that has just been let in.
pub(super) async fn account(entered: &Entered, client: &Client) -> Result<Account, FetchError> {
    let folders = Arc::clone(&entered.folders);
    blocking(client, move || folders.account()).await
}

/// Does on a thread that may block what a folder blocks for.
async fn blocking<T: Send + 'static>(
    client: &Client,
    act: impl FnOnce() -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    spawn_blocking(act).await.unwrap_or_else(|panic| {
        log_broken(client, &panic);
        Err(FetchError::Temporary)
    })
}

/// Something of ours ended in a panic.
pub(super) fn log_broken(client: &Client, error: &dyn std::fmt::Display) {
    tracing::error!(event = "fetch.broken", session_id = %client.session_id, %error);
}
