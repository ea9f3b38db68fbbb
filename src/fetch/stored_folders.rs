//! The folders of the store, as IMAP sees them.

use super::folders::{
    Account, FlagsSet, Folder, FolderEntry, FolderInfo, FolderMarks, FolderRow, Folders, Rights,
};
use super::maildrop::{BoxFuture, FetchError};
use super::unreadable::Unreadable;
use crate::mail::{FlagChange, Flags, GatewayMailbox, GatewayMailboxId, MessageSummary, Uid, UidValidity};
use crate::observe::{Visits, metrics, now};
use crate::store::{self, FolderName, FolderStatus, MessageKey, Store, StoreError, Unlocked};
use std::collections::HashSet;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

/// Folders that are there before anything came to them, in the order in which they are listed.
const ALWAYS: [FolderName; 3] = [FolderName::Inbox, FolderName::Unassigned, FolderName::Quarantine];

/// Messages that a session remembers to have told of; when they are more, it forgets them.
const TOLD_MAX: usize = 10_000;

/// [`Folders`] of a gateway mailbox whose password was given.
#[derive(Clone)]
pub(super) struct StoredFolders {
    store: Arc<dyn Store>,
    visits: Visits,
    key: Unlocked,
    client: store::Client,
    told: Told,
}

#[derive(Clone)]
struct StoredFolder {
    of: Arc<StoredFolders>,
    name: FolderName,
    path: String,
    rights: Rights,
}

impl StoredFolders {
    pub(super) fn new(
        store: Arc<dyn Store>,
        visits: Visits,
        key: Unlocked,
        client: store::Client,
    ) -> StoredFolders {
        StoredFolders { store, visits, key, client, told: Told::default() }
    }

    /// A session may last for weeks: whenever it looks at something it counts as a visit.
    fn note_visit(&self) {
        self.visits.note(self.id(), now());
    }

    fn id(&self) -> GatewayMailboxId {
        self.key.gateway_mailbox.id
    }

    fn now(&self) -> Result<Arc<GatewayMailbox>, FetchError> {
        let now = self.store.gateway_mailbox_now(self.id()).map_err(|e| self.failed(e))?;
        self.still_in().map(|()| now)
    }

    /// Whoever changes a password wants nobody to go on with the one before, and keys that were changed since it was given lock
    /// what comes from now on.
    fn still_in(&self) -> Result<(), FetchError> {
        let is_current = self.store.is_current(&self.key).map_err(|e| self.failed(e))?;
        if is_current { Ok(()) } else { Err(FetchError::LacksKey) }
    }

    /// Each folder there is, those that are always there first.
    fn statuses(&self) -> Result<Vec<FolderStatus>, FetchError> {
        self.note_visit();
        self.still_in()?;
        let mut found = self.store.folders_undated(self.id()).map_err(|e| self.failed(e))?;
        found.sort_by(|a, b| a.path.cmp(&b.path));
        let mut all: Vec<FolderStatus> = Vec::with_capacity(found.len() + ALWAYS.len());
        for name in ALWAYS {
            let at = found.iter().position(|status| status.name == name);
            all.push(at.map(|at| found.remove(at)).unwrap_or_else(|| not_yet(name)));
        }
        all.append(&mut found);
        Ok(all)
    }

    fn named(&self, path: &str) -> Result<Option<FolderStatus>, FetchError> {
        self.note_visit();
        self.still_in()?;
        let found = self.store.folder_at(self.id(), path).map_err(|e| self.failed(e))?;
        Ok(found.or_else(|| ALWAYS.into_iter().map(not_yet).find(|status| status.path == path)))
    }

    /// A message could not be read.
    fn unreadable(&self, error: StoreError, entry: &FolderEntry) -> FetchError {
        let of = Unreadable {
            receipt_id: entry.receipt_id,
            uid: entry.uid,
            mailbox: self.key.gateway_mailbox.login(),
            client: &self.client,
        };
        of.answer(&error, |event| self.told.is_first(entry.message, event))
    }

    fn failed(&self, error: StoreError) -> FetchError {
        let answer = match error {
            StoreError::Gone => return FetchError::Gone,
            StoreError::Damaged(_) => FetchError::Damaged,
            StoreError::LacksKey => return FetchError::LacksKey,
            _ => FetchError::Temporary,
        };
        tracing::error!(event = "fetch.failed", session_id = %self.client.session_id, %error);
        answer
    }
}

/// What the log was told of messages that cannot be read: clients that look at each again and again would flood it.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<HashSet<(u64, &'static str)>>>);

impl Told {
    fn is_first(&self, message: u64, event: &'static str) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= TOLD_MAX {
            told.clear();
        }
        told.insert((message, event))
    }
}

/// A folder that nothing ever came to.
fn not_yet(name: FolderName) -> FolderStatus {
    FolderStatus {
        path: name.path(None),
        name,
        uid_validity: 0,
        uid_next: 1,
        entries: 0,
        octets: 0,
        oldest: None,
        unseen: 0,
        marked_deleted: 0,
    }
}

fn info(status: FolderStatus) -> FolderInfo {
    FolderInfo {
        path: status.path,
        uid_validity: UidValidity::new(status.uid_validity),
        uid_next: Uid::new(status.uid_next).unwrap_or(Uid::FIRST),
        messages: status.entries,
        unseen: status.unseen,
    }
}

impl Folders for StoredFolders {
    fn account(&self) -> Result<Account, FetchError> {
        let now = self.now()?;
        Ok(Account {
            login: now.login().to_owned(),
            profile: now.profile,
            role: now.role,
            maildrop: now.fetch.maildrop,
        })
    }

    fn list(&self) -> Result<Vec<FolderInfo>, FetchError> {
        Ok(self.statuses()?.into_iter().map(info).collect())
    }

    fn status(&self, path: &str) -> Result<Option<FolderInfo>, FetchError> {
        let Some(mut status) = self.named(path)? else { return Ok(None) };
        if status.uid_validity == 0 {
            // A client that is told of a UIDVALIDITY must find the same one later: this makes the folder.
            let marks = self.store.marks(self.id(), &status.name).map_err(|e| self.failed(e))?;
            status.uid_validity = marks.uid_validity.value();
        }
        Ok(Some(info(status)))
    }

    fn open(&self, path: &str) -> Result<Option<Arc<dyn Folder>>, FetchError> {
        let now = self.now()?;
        let Some(status) = self.named(path)? else { return Ok(None) };
        // In an archive clients may mark what they read.
        let may_delete = status.name.may_delete(now.fetch);
        let rights = Rights { flags: if may_delete { Flags::ALL } else { Flags::ALL - Flags::DELETED } };
        let of = Arc::new(self.clone());
        Ok(Some(Arc::new(StoredFolder { of, name: status.name, path: status.path, rights })))
    }
}

impl StoredFolder {
    /// Does on a thread that may block what reads the index or writes many lines.
    async fn aside<T: Send + 'static>(
        &self,
        act: impl FnOnce(&StoredFolder) -> T + Send + 'static,
    ) -> Result<T, FetchError> {
        let folder = self.clone();
        spawn_blocking(move || act(&folder)).await.map_err(|error| {
            tracing::error!(event = "fetch.broken", session_id = %self.of.client.session_id, %error);
            FetchError::Temporary
        })
    }

    fn log_each(&self, event: &'static str, entries: &[store::Entry]) {
        for entry in entries {
            tracing::info!(
                event,
                receipt_id = %entry.receipt_id,
                session_id = %self.of.client.session_id,
                mailbox = self.of.key.gateway_mailbox.login(),
                folder = self.path,
                uid = %entry.uid,
                peer = %self.of.client.peer,
            );
        }
    }

    /// Entries for the log, before they are gone; none where they cannot be read.
    fn for_log(&self, uids: &[Uid]) -> Vec<store::Entry> {
        let chunks = uids.chunks(store::ENTRIES_MAX);
        chunks
            .filter_map(|uids| self.of.store.entries(self.of.id(), &self.name, uids).ok())
            .flatten()
            .collect()
    }
}

impl Folder for StoredFolder {
    fn path(&self) -> &str {
        &self.path
    }

    fn rights(&self) -> Rights {
        self.rights
    }

    fn rows(&self, from: Uid) -> Result<(FolderMarks, Vec<FolderRow>), FetchError> {
        self.of.note_visit();
        self.of.still_in()?;
        self.of.store.rows(self.of.id(), &self.name, from).map_err(|e| self.of.failed(e))
    }

    fn marks(&self) -> Result<FolderMarks, FetchError> {
        self.of.note_visit();
        self.of.still_in()?;
        self.of.store.marks(self.of.id(), &self.name).map_err(|e| self.of.failed(e))
    }

    fn entries(&self, uids: &[Uid]) -> Result<Vec<FolderEntry>, FetchError> {
        let entries = self.of.store.entries(self.of.id(), &self.name, uids).map_err(|e| self.of.failed(e))?;
        let entry = |entry: store::Entry| FolderEntry {
            uid: entry.uid,
            received_at: entry.received_at,
            canonical: entry.canonical,
            receipt_id: entry.receipt_id,
            message: entry.message.0,
        };
        Ok(entries.into_iter().map(entry).collect())
    }

    fn summary(&self, entry: &FolderEntry) -> Result<MessageSummary<'static>, FetchError> {
        self.of
            .store
            .summary(&self.of.key, MessageKey(entry.message))
            .map_err(|e| self.of.unreadable(e, entry))
    }

    fn read(&self, entry: &FolderEntry) -> Result<Box<dyn Read + Send>, FetchError> {
        self.of.store.open(&self.of.key, MessageKey(entry.message)).map_err(|e| self.of.unreadable(e, entry))
    }

    fn set_flags(&self, uids: Vec<Uid>, change: FlagChange) -> BoxFuture<'_, Result<FlagsSet, FetchError>> {
        Box::pin(async move {
            self.of.still_in()?;
            let (id, changeable) = (self.of.id(), self.rights.flags);
            let set =
                self.of.store.set_flags(id, &self.name, &uids, change, changeable, &self.of.client).await;
            set.map_err(|e| self.of.failed(e))
        })
    }

    fn record_fetched(&self, uids: Vec<Uid>) -> BoxFuture<'_, Result<(), FetchError>> {
        Box::pin(async move {
            let recorded =
                self.of.store.record_fetched(self.of.id(), &self.name, &uids, &self.of.client).await;
            recorded.map_err(|e| self.of.failed(e))?;
            metrics::fetched(uids.len(), 0);
            // It is on record, whatever becomes of the lines.
            self.aside(move |folder| folder.log_each("fetch.fetched", &folder.for_log(&uids)))
                .await
                .unwrap_or_default();
            Ok(())
        })
    }

    fn expunge(&self, uids: Vec<Uid>) -> BoxFuture<'_, Result<Vec<Uid>, FetchError>> {
        Box::pin(async move {
            self.of.still_in()?;
            let (mut gone, uids) = self.aside(move |folder| (folder.for_log(&uids), uids)).await?;
            let taken = self.of.store.expunge_marked(self.of.id(), &self.name, &uids, &self.of.client).await;
            let taken = taken.map_err(|error| match error {
                StoreError::NotAllowed => FetchError::NotAllowed,
                error => self.of.failed(error),
            })?;
            metrics::fetched(0, taken.len());
            gone.retain(|entry| taken.binary_search(&entry.uid).is_ok());
            self.aside(move |folder| folder.log_each("fetch.deleted", &gone)).await.unwrap_or_default();
            Ok(taken)
        })
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.of.store.changes(self.of.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Profile, Role, SessionId};
    use crate::store::{Embedded, NewGatewayMailbox, Options};

    #[test]
    fn a_folder_that_nothing_came_to_keeps_the_uidvalidity_that_a_client_was_told() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { data_dir: dir.path().to_owned(), reserve_octets: 0 };
        let store: Arc<dyn Store> = Arc::new(Embedded::open(&options).unwrap().0);
        let new = NewGatewayMailbox {
            name: "Contoso".to_owned(),
            domain: "gw.example".to_owned(),
            tenant: None,
            profile: Profile::Generic,
            role: Role::Journal,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (made, password) = runtime.block_on(store.create_gateway_mailbox(new, "test")).unwrap();
        let key = store.unlock(made.login(), &password).unwrap();
        let session_id = SessionId::new(1, [1; 10]);
        let peer = "192.0.2.7".parse().unwrap();
        let client = store::Client { protocol: "imap".to_owned(), peer, session_id };
        let folders = StoredFolders::new(store, Visits::default(), key, client);
        let listed = folders.list().unwrap();
        assert!(listed.iter().all(|folder| folder.uid_validity.is_none()), "to list them makes none");
        assert_eq!(listed.len(), ALWAYS.len());
        for folder in listed {
            let told = folders.status(&folder.path).unwrap().unwrap();
            let opened = folders.open(&folder.path).unwrap().unwrap().marks().unwrap();
            assert_eq!(told.uid_validity, Some(opened.uid_validity), "{}", folder.path);
        }
        assert_eq!(folders.status("Users/nobody").unwrap(), None);
    }
}
