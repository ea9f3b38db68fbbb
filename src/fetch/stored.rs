//! The maildrops of the store: a gateway mailbox's INBOX, as POP3 sees it.
//!
//! A UIDL is `<epoch>.<uid validity>.<uid>` in hex: it names one stored copy, survives restarts, and is never used again,
//! not even after a restore, which raises the epoch.

use super::folders::Folders;
use super::maildrop::{
    BoxFuture, Client, FetchError, LoginError, Maildrop, MaildropEntry, Maildrops, UnlockedMaildrop,
};
use super::stored_folders::StoredFolders;
use super::unreadable::Unreadable;
use crate::mail::{GatewayMailbox, GatewayMailboxId, Uid};
use crate::observe::{Visits, metrics, now};
use crate::store::{self, Entry, FolderName, Listing, Store, StoreError, UnlockError, Unlocked};
use std::io::Read;
use std::sync::Arc;

/// [`Maildrops`] over a [`Store`].
pub struct StoredMaildrops {
    store: Arc<dyn Store>,
    visits: Visits,
}

struct UnlockedStored {
    store: Arc<dyn Store>,
    visits: Visits,
    key: Unlocked,
    client: store::Client,
}

struct StoredMaildrop {
    store: Arc<dyn Store>,
    key: Unlocked,
    client: store::Client,
    stored: Vec<Entry>,
    uid_validity: u32,
    entries: Arc<[MaildropEntry]>,
}

impl StoredMaildrops {
    /// The maildrops of this store. Logins are noted in `visits`.
    pub fn new(store: Arc<dyn Store>, visits: Visits) -> Arc<StoredMaildrops> {
        Arc::new(StoredMaildrops { store, visits })
    }
}

impl Maildrops for StoredMaildrops {
    fn unlock(
        &self,
        login: &str,
        password: &str,
        client: &Client,
    ) -> Result<Box<dyn UnlockedMaildrop>, LoginError> {
        let key = self.store.unlock(login, password).map_err(|e| match e {
            UnlockError::Wrong => LoginError::Wrong,
            // Another answer would tell whoever guesses that there is such a login.
            UnlockError::Unavailable(error) => {
                tracing::error!(event = "auth.unavailable", session_id = %client.session_id, %error);
                LoginError::Wrong
            }
        })?;
        note_former(&key.gateway_mailbox, login, client);
        let client = store::Client {
            protocol: client.protocol.to_owned(),
            peer: client.peer,
            session_id: client.session_id,
        };
        Ok(Box::new(UnlockedStored { store: self.store.clone(), visits: self.visits.clone(), key, client }))
    }
}

/// Says that a client will soon be kept out, unless it is told its new login.
fn note_former(gateway_mailbox: &GatewayMailbox, login: &str, client: &Client) {
    let used = gateway_mailbox.address_of_login(login);
    if let Some(until) = used.and_then(|address| address.until) {
        tracing::info!(
            event = "mailbox.former_login_used",
            session_id = %client.session_id,
            protocol = client.protocol,
            peer = %client.peer,
            mailbox = gateway_mailbox.login(),
            mailbox_id = %gateway_mailbox.id,
            %until,
        );
    }
}

impl UnlockedStored {
    /// Keys that were changed since the password was given may lock what is listed: the next login opens it.
    fn check_keys(&self) -> Result<(), LoginError> {
        if self.store.is_current(&self.key).map_err(|error| self.failed(&error))? {
            return Ok(());
        }
        tracing::info!(event = "auth.keys_changed", session_id = %self.client.session_id);
        Err(LoginError::Unavailable)
    }

    fn failed(&self, error: &StoreError) -> LoginError {
        tracing::error!(event = "fetch.failed", session_id = %self.client.session_id, %error);
        LoginError::Unavailable
    }
}

impl UnlockedMaildrop for UnlockedStored {
    fn mailbox(&self) -> GatewayMailboxId {
        self.key.gateway_mailbox.id
    }

    fn login(&self) -> String {
        self.key.gateway_mailbox.login().to_owned()
    }

    fn folders(self: Box<Self>) -> Result<Arc<dyn Folders>, LoginError> {
        self.check_keys()?;
        self.visits.note(self.key.gateway_mailbox.id, now());
        Ok(Arc::new(StoredFolders::new(self.store, self.visits, self.key, self.client)))
    }

    fn open(self: Box<Self>) -> Result<Arc<dyn Maildrop>, LoginError> {
        let listing = self
            .store
            .list(self.key.gateway_mailbox.id, &FolderName::Inbox)
            .map_err(|error| self.failed(&error))?;
        self.check_keys()?;
        self.visits.note(self.key.gateway_mailbox.id, now());
        let entries = maildrop_entries(&listing);
        Ok(Arc::new(StoredMaildrop {
            store: self.store,
            key: self.key,
            client: self.client,
            uid_validity: listing.uid_validity.map_or(0, |v| v.value()),
            stored: listing.entries,
            entries,
        }))
    }
}

fn maildrop_entries(listing: &Listing) -> Arc<[MaildropEntry]> {
    let validity = listing.uid_validity.map_or(0, |v| v.value());
    let entry = |e: &Entry| MaildropEntry { uidl: uidl(e, validity), canonical: e.canonical };
    listing.entries.iter().map(entry).collect()
}

/// The UIDL of an entry of a folder with this UIDVALIDITY.
pub fn uidl(entry: &Entry, uid_validity: u32) -> String {
    format!("{:x}.{uid_validity:x}.{:x}", entry.epoch, entry.uid.value())
}

impl StoredMaildrop {
    fn log_unrecorded(&self, messages: usize) {
        tracing::warn!(
            event = "fetch.unrecorded",
            session_id = %self.client.session_id,
            mailbox = self.key.gateway_mailbox.login(),
            peer = %self.client.peer,
            messages,
        );
    }

    fn uids(&self, indexes: &[usize]) -> Vec<Uid> {
        indexes.iter().filter_map(|index| self.stored.get(*index)).map(|e| e.uid).collect()
    }
}

impl Maildrop for StoredMaildrop {
    fn entries(&self) -> Arc<[MaildropEntry]> {
        self.entries.clone()
    }

    fn read(&self, index: usize) -> Result<Box<dyn Read + Send>, FetchError> {
        let entry = self.stored.get(index).ok_or(FetchError::Gone)?;
        self.store.open(&self.key, entry.message).map_err(|error| {
            let of = Unreadable {
                receipt_id: entry.receipt_id,
                uid: entry.uid,
                mailbox: self.key.gateway_mailbox.login(),
                client: &self.client,
            };
            of.answer(&error, |_event| true)
        })
    }

    fn finish(&self, fetched: Vec<usize>, deleted: Vec<usize>) -> BoxFuture<'_, Result<usize, FetchError>> {
        Box::pin(async move {
            let id = self.key.gateway_mailbox.id;
            let failed = |error: StoreError| {
                tracing::error!(event = "fetch.failed", session_id = %self.client.session_id, %error);
                FetchError::Temporary
            };
            let (fetched, mut deleted) = (self.uids(&fetched), self.uids(&deleted));
            // Fetched first: a delete whose fetch is not on record would look like a loss.
            match self.store.record_fetched(id, &FolderName::Inbox, &fetched, &self.client).await {
                // Fetching goes on when the disk is full to the last octet.
                Err(StoreError::Full) if deleted.is_empty() => {
                    self.log_unrecorded(fetched.len());
                    return Ok(0);
                }
                recorded => recorded.map_err(failed)?,
            }
            metrics::fetched(fetched.len(), 0);
            // Nothing to delete is nothing that can fail.
            if !deleted.is_empty() {
                let taken = self.store.expunge(id, &FolderName::Inbox, &deleted, &self.client).await;
                // Others may have taken some out since the login: those are not this client's.
                deleted = taken.map_err(failed)?;
                metrics::fetched(0, deleted.len());
            }
            for (event, uids) in [("fetch.fetched", &fetched), ("fetch.deleted", &deleted)] {
                for entry in self.stored.iter().filter(|e| uids.binary_search(&e.uid).is_ok()) {
                    tracing::info!(
                        event,
                        receipt_id = %entry.receipt_id,
                        session_id = %self.client.session_id,
                        mailbox = self.key.gateway_mailbox.login(),
                        folder = "INBOX",
                        uid = %entry.uid,
                        uidl = uidl(entry, self.uid_validity),
                        peer = %self.client.peer,
                    );
                }
            }
            Ok(deleted.len())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{CanonicalSize, ReceiptId, Timestamp, UidValidity};
    use crate::store::MessageKey;

    #[test]
    fn a_uidl_names_epoch_folder_and_uid() {
        let entry = |uid, epoch| Entry {
            uid: Uid::new(uid).unwrap(),
            epoch,
            message: MessageKey(7),
            receipt_id: ReceiptId::new(0, [0; 10]),
            received_at: Timestamp::from_unix_ms(0),
            octets: 0,
            canonical: CanonicalSize::default(),
        };
        let listing = Listing {
            uid_validity: UidValidity::new(0x6789),
            uid_next: Uid::FIRST,
            entries: vec![entry(1, 1), entry(0xffff_ffff, 2)],
        };
        let uidls: Vec<_> = maildrop_entries(&listing).iter().map(|e| e.uidl.clone()).collect();
        assert_eq!(uidls, ["1.6789.1", "2.6789.ffffffff"]);
    }
}
