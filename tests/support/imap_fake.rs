//! Folders in memory, with faults to order: a gateway mailbox as IMAP sees it, without a store.
//!
//! [`Fake`] gives [`Folders`] (as `Maildrops` for a whole server, or by [`Fake::folders`]) and, by [`Fake::folder`], one
//! [`Folder`]. Messages are read by `daybook::extract` when they are put in, so that their summaries are what the store would keep.

#![allow(dead_code, reason = "each test file uses a part")]

use daybook::extract::{Scanner, extract};
use daybook::fetch::folders::{
    Account, ENTRIES_MAX, FlagsSet, Folder, FolderEntry, FolderInfo, FolderMarks, FolderRow, Folders, Rights,
};
use daybook::fetch::maildrop::{
    BoxFuture, Client, FetchError, LoginError, Maildrop, Maildrops, UnlockedMaildrop,
};
use daybook::mail::{
    self, FlagChange, Flags, GatewayMailboxId, MessageSummary, Profile, ReceiptId, Role, Timestamp, Uid,
    UidValidity,
};
use std::borrow::Cow;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;

pub(crate) const LOGIN: &str = "mbx-1";
pub(crate) const PASSWORD: &str = "right";
/// When the first message came; each later one came a minute later. 2026-11-01T12:00:00Z.
pub(crate) const FIRST_CAME_MS: i64 = 1_793_534_400_000;
/// UIDVALIDITY of the first folder; each further one has one more.
pub(crate) const FIRST_UID_VALIDITY: u32 = 1_000;

/// A message in a folder.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) uid: u32,
    pub(crate) flags: Flags,
    pub(crate) octets: Arc<[u8]>,
    pub(crate) summary: Arc<MessageSummary<'static>>,
    pub(crate) received_at: Timestamp,
}

/// A folder.
pub(crate) struct Held {
    pub(crate) path: String,
    pub(crate) uid_validity: u32,
    pub(crate) uid_next: u32,
    pub(crate) flag_changes: u64,
    /// The flags a client may change.
    pub(crate) changeable: Flags,
    pub(crate) messages: Vec<Stored>,
}

/// What is to go wrong. UIDs count in every folder.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// Changing flags, recording fetches and expunging fail.
    pub(crate) commit: bool,
    /// Listing and opening folders fail.
    pub(crate) open: bool,
    /// The gateway mailbox was deleted.
    pub(crate) gone: bool,
    /// Its keys were changed since the login.
    pub(crate) lacks_key: bool,
    /// Reading this message fails after so many octets; after 0 it cannot be opened.
    pub(crate) damaged: Option<(u32, u64)>,
    /// This message ends three octets early.
    pub(crate) short: Option<u32>,
    /// The summary of this message cannot be read.
    pub(crate) no_summary: Option<u32>,
    /// Between a look at what is new and one at everything the folder gets another UIDVALIDITY.
    pub(crate) renewed: bool,
    /// This message is in the rows, but its entry is gone.
    pub(crate) vanished: Option<u32>,
}

/// What a gateway mailbox holds and what was done to it.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) folders: Vec<Held>,
    pub(crate) faults: Faults,
    /// Path and UID of recorded fetches, in order.
    pub(crate) fetched: Vec<(String, u32)>,
    /// Path and UID of what was taken out, in order.
    pub(crate) expunged: Vec<(String, u32)>,
    /// How often messages were opened.
    pub(crate) opened: usize,
    /// How often something failed as it was asked to.
    pub(crate) failed: usize,
    /// How often summaries were opened.
    pub(crate) summaries: usize,
}

/// One gateway mailbox. Clones share it.
#[derive(Clone)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    changes: Arc<watch::Sender<u64>>,
}

/// The summary that the store would keep of a message.
pub(crate) fn summary_of(octets: &[u8]) -> MessageSummary<'static> {
    let mut scanner = Scanner::new();
    scanner.push(octets);
    let whole = extract(&scanner.finish(), Profile::Generic).whole;
    MessageSummary {
        sha256: "00".repeat(32),
        octets: octets.len() as u64,
        header_octets: whole.header_octets,
        canonical: whole.canonical,
        structure: Some(Cow::Owned(whole.structure)),
    }
}

impl Default for Fake {
    /// INBOX, Unassigned and Quarantine, all empty.
    fn default() -> Fake {
        let fake = Fake { state: Arc::default(), changes: Arc::new(watch::Sender::new(0)) };
        for path in ["INBOX", "Unassigned", "Quarantine"] {
            fake.add_folder(path);
        }
        fake
    }
}

impl Fake {
    /// With these messages in INBOX, UIDs from 1.
    pub(crate) fn with(messages: &[Vec<u8>]) -> Fake {
        let fake = Fake::default();
        for octets in messages {
            fake.deliver("INBOX", octets);
        }
        fake
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Adds a folder; in those of users a client may not delete.
    pub(crate) fn add_folder(&self, path: &str) {
        let mut state = self.state();
        let uid_validity = FIRST_UID_VALIDITY + state.folders.len() as u32;
        let changeable = if path == "INBOX" { Flags::ALL } else { Flags::ALL - Flags::DELETED };
        state.folders.push(Held {
            path: path.to_owned(),
            uid_validity,
            uid_next: 1,
            flag_changes: 0,
            changeable,
            messages: Vec::new(),
        });
    }

    /// Puts a message into a folder, which is made when there is none; gives its UID.
    pub(crate) fn deliver(&self, path: &str, octets: &[u8]) -> u32 {
        if !self.state().folders.iter().any(|folder| folder.path == path) {
            self.add_folder(path);
        }
        let summary = Arc::new(summary_of(octets));
        let uid = self.in_folder(path, |folder| {
            let uid = folder.uid_next;
            folder.uid_next += 1;
            let received_at = Timestamp::from_unix_ms(FIRST_CAME_MS + i64::from(uid - 1) * 60_000);
            folder.messages.push(Stored {
                uid,
                flags: Flags::NONE,
                octets: octets.into(),
                summary,
                received_at,
            });
            uid
        });
        self.tell();
        uid
    }

    /// Sets the flags of a message, as another client would.
    pub(crate) fn flag(&self, path: &str, uid: u32, flags: Flags) {
        self.flag_at_once(path, &[uid], flags);
    }

    /// Sets the flags of several messages with one command, as another client would.
    pub(crate) fn flag_at_once(&self, path: &str, uids: &[u32], flags: Flags) {
        self.in_folder(path, |folder| {
            folder.messages.iter_mut().filter(|m| uids.contains(&m.uid)).for_each(|m| m.flags = flags);
            folder.flag_changes += 1;
        });
        self.tell();
    }

    /// Takes a message out, as another client would.
    pub(crate) fn remove(&self, path: &str, uid: u32) {
        self.in_folder(path, |folder| folder.messages.retain(|message| message.uid != uid));
        self.tell();
    }

    /// UIDs and flags of what is in a folder.
    pub(crate) fn rows(&self, path: &str) -> Vec<(u32, Flags)> {
        self.in_folder(path, |folder| folder.messages.iter().map(|m| (m.uid, m.flags)).collect())
    }

    /// The account, as after a login.
    pub(crate) fn folders(&self) -> Arc<dyn Folders> {
        Arc::new(self.clone())
    }

    /// A folder, opened.
    pub(crate) fn folder(&self, path: &str) -> Arc<dyn Folder> {
        self.open(path).unwrap().unwrap()
    }

    /// How many hold on to it: sessions and their folders among them.
    pub(crate) fn handles(&self) -> usize {
        Arc::strong_count(&self.state)
    }

    fn in_folder<T>(&self, path: &str, act: impl FnOnce(&mut Held) -> T) -> T {
        act(self.state().folders.iter_mut().find(|folder| folder.path == path).unwrap())
    }

    fn tell(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn failing(&self, fails: impl Fn(&Faults) -> bool) -> Result<(), FetchError> {
        let mut state = self.state();
        if fails(&state.faults) {
            state.failed += 1;
            return Err(FetchError::Temporary);
        }
        Ok(())
    }
}

impl Maildrops for Fake {
    fn unlock(
        &self,
        login: &str,
        password: &str,
        by: &Client,
    ) -> Result<Box<dyn UnlockedMaildrop>, LoginError> {
        assert_eq!(by.protocol, "imap");
        let known = login.split('@').next() == Some(LOGIN) && password == PASSWORD;
        match login {
            "broken" => panic!("a bug in the store"),
            "unavailable" => Err(LoginError::Unavailable),
            _ if known => Ok(Box::new(self.clone())),
            _ => Err(LoginError::Wrong),
        }
    }
}

impl UnlockedMaildrop for Fake {
    fn mailbox(&self) -> GatewayMailboxId {
        GatewayMailboxId::new(2, [2; 10])
    }

    fn login(&self) -> String {
        LOGIN.to_owned()
    }

    fn open(self: Box<Self>) -> Result<Arc<dyn Maildrop>, LoginError> {
        Err(LoginError::Unavailable)
    }

    fn folders(self: Box<Self>) -> Result<Arc<dyn Folders>, LoginError> {
        Ok(Arc::new(*self))
    }
}

fn info(folder: &Held) -> FolderInfo {
    let unseen = folder.messages.iter().filter(|message| !message.flags.contains(Flags::SEEN)).count();
    FolderInfo {
        path: folder.path.clone(),
        uid_validity: UidValidity::new(folder.uid_validity),
        uid_next: Uid::new(folder.uid_next).unwrap(),
        messages: folder.messages.len() as u64,
        unseen: unseen as u64,
    }
}

impl Folders for Fake {
    fn account(&self) -> Result<Account, FetchError> {
        let faults = self.state().faults.clone();
        match faults {
            Faults { gone: true, .. } => Err(FetchError::Gone),
            Faults { lacks_key: true, .. } => Err(FetchError::LacksKey),
            _ => Ok(Account {
                login: LOGIN.to_owned(),
                profile: Profile::Microsoft365,
                role: Role::Journal,
                maildrop: mail::Maildrop::Reports,
            }),
        }
    }

    fn list(&self) -> Result<Vec<FolderInfo>, FetchError> {
        self.failing(|faults| faults.open)?;
        Ok(self.state().folders.iter().map(info).collect())
    }

    fn status(&self, path: &str) -> Result<Option<FolderInfo>, FetchError> {
        Ok(self.list()?.into_iter().find(|folder| folder.path == path))
    }

    fn open(&self, path: &str) -> Result<Option<Arc<dyn Folder>>, FetchError> {
        self.account()?;
        self.failing(|faults| faults.open)?;
        let state = self.state();
        let Some(folder) = state.folders.iter().find(|folder| folder.path == path) else { return Ok(None) };
        let rights = Rights { flags: folder.changeable };
        Ok(Some(Arc::new(Open { fake: self.clone(), path: path.to_owned(), rights })))
    }
}

struct Open {
    fake: Fake,
    path: String,
    rights: Rights,
}

impl Open {
    fn message(&self, entry: &FolderEntry) -> Result<Stored, FetchError> {
        let uid = u64::from(entry.uid.value());
        assert_eq!(entry.message, uid, "an entry that was not given");
        self.fake.in_folder(&self.path, |folder| {
            folder
                .messages
                .iter()
                .find(|message| u64::from(message.uid) == uid)
                .cloned()
                .ok_or(FetchError::Gone)
        })
    }

    /// As a store does: after a while, durably, or not at all.
    async fn commit<T>(&self, act: impl FnOnce(&mut Held) -> T) -> Result<T, FetchError> {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        self.fake.failing(|faults| faults.commit)?;
        let done = self.fake.in_folder(&self.path, act);
        self.fake.tell();
        Ok(done)
    }
}

fn marks(folder: &Held) -> FolderMarks {
    FolderMarks {
        uid_validity: UidValidity::new(folder.uid_validity).unwrap(),
        uid_next: Uid::new(folder.uid_next).unwrap(),
        live: folder.messages.len() as u64,
        flag_changes: folder.flag_changes,
    }
}

fn row(message: &Stored) -> FolderRow {
    FolderRow { uid: Uid::new(message.uid).unwrap(), flags: message.flags }
}

impl Folder for Open {
    fn path(&self) -> &str {
        &self.path
    }

    fn rights(&self) -> Rights {
        self.rights
    }

    fn rows(&self, from: Uid) -> Result<(FolderMarks, Vec<FolderRow>), FetchError> {
        self.fake.failing(|faults| faults.open)?;
        let is_renewed = self.fake.state().faults.renewed && from == Uid::FIRST;
        self.fake.in_folder(&self.path, |folder| {
            folder.uid_validity += u32::from(is_renewed);
            let rows =
                folder.messages.iter().filter(|message| message.uid >= from.value()).map(row).collect();
            Ok((marks(folder), rows))
        })
    }

    fn marks(&self) -> Result<FolderMarks, FetchError> {
        self.fake.in_folder(&self.path, |folder| Ok(marks(folder)))
    }

    fn entries(&self, uids: &[Uid]) -> Result<Vec<FolderEntry>, FetchError> {
        assert!(uids.len() <= ENTRIES_MAX && uids.is_sorted_by(|a, b| a < b), "{} UIDs", uids.len());
        let vanished = self.fake.state().faults.vanished;
        self.fake.in_folder(&self.path, |folder| {
            let wanted = |message: &&Stored| {
                Some(message.uid) != vanished && uids.binary_search(&Uid::new(message.uid).unwrap()).is_ok()
            };
            let entry = |message: &Stored| FolderEntry {
                uid: Uid::new(message.uid).unwrap(),
                received_at: message.received_at,
                canonical: message.summary.canonical,
                receipt_id: ReceiptId::new(1, [message.uid as u8; 10]),
                message: u64::from(message.uid),
            };
            Ok(folder.messages.iter().filter(wanted).map(entry).collect())
        })
    }

    fn summary(&self, entry: &FolderEntry) -> Result<MessageSummary<'static>, FetchError> {
        self.fake.state().summaries += 1;
        if self.fake.state().faults.no_summary == Some(entry.uid.value()) {
            return Err(FetchError::Damaged);
        }
        Ok(MessageSummary::clone(&self.message(entry)?.summary))
    }

    fn read(&self, entry: &FolderEntry) -> Result<Box<dyn Read + Send>, FetchError> {
        let message = self.message(entry)?;
        let faults = {
            let mut state = self.fake.state();
            state.opened += 1;
            state.faults.clone()
        };
        let cut = if faults.short == Some(message.uid) { 3 } else { 0 };
        let octets = io::Cursor::new(message.octets.get(..message.octets.len() - cut).unwrap().to_vec());
        match faults.damaged {
            Some((uid, 0)) if uid == message.uid => Err(FetchError::Damaged),
            Some((uid, after)) if uid == message.uid => Ok(Box::new(octets.take(after).chain(BadHash))),
            _ => Ok(Box::new(octets)),
        }
    }

    fn set_flags(&self, uids: Vec<Uid>, change: FlagChange) -> BoxFuture<'_, Result<FlagsSet, FetchError>> {
        Box::pin(self.commit(move |folder| {
            let before = folder.messages.iter().map(|message| message.flags).collect::<Vec<_>>();
            let counted_before = folder.flag_changes;
            let changeable = folder.changeable;
            let named = folder.messages.iter_mut().filter(|m| uids.iter().any(|uid| uid.value() == m.uid));
            let rows: Vec<FolderRow> = named
                .map(|message| {
                    message.flags = change.applied(message.flags, changeable);
                    row(message)
                })
                .collect();
            if folder.messages.iter().map(|message| message.flags).ne(before) {
                folder.flag_changes += 1;
            }
            FlagsSet { rows, counted: Some((counted_before, folder.flag_changes)) }
        }))
    }

    fn record_fetched(&self, uids: Vec<Uid>) -> BoxFuture<'_, Result<(), FetchError>> {
        Box::pin(async move {
            self.commit(|_| ()).await?;
            self.fake.state().fetched.extend(uids.iter().map(|uid| (self.path.clone(), uid.value())));
            Ok(())
        })
    }

    fn expunge(&self, uids: Vec<Uid>) -> BoxFuture<'_, Result<Vec<Uid>, FetchError>> {
        Box::pin(async move {
            let gone = self
                .commit(|folder| {
                    if !folder.changeable.contains(Flags::DELETED) {
                        return Err(FetchError::NotAllowed);
                    }
                    let named = |message: &Stored| {
                        message.flags.contains(Flags::DELETED)
                            && uids.iter().any(|uid| uid.value() == message.uid)
                    };
                    let gone: Vec<u32> = folder.messages.iter().filter(|m| named(m)).map(|m| m.uid).collect();
                    folder.messages.retain(|message| !named(message));
                    Ok(gone)
                })
                .await??;
            self.fake.state().expunged.extend(gone.iter().map(|uid| (self.path.clone(), *uid)));
            Ok(gone.into_iter().filter_map(Uid::new).collect())
        })
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.fake.changes.subscribe()
    }
}

struct BadHash;

impl Read for BadHash {
    fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::new(io::ErrorKind::InvalidData, "hash does not match"))
    }
}
