//! A message that cannot be read: what the log says of it, and what the client hears, whichever protocol asked.

use super::maildrop::FetchError;
use crate::mail::{ReceiptId, Uid};
use crate::store::{Client, StoreError};

/// A message that could not be read, and who asked for it.
pub(super) struct Unreadable<'a> {
    pub(super) receipt_id: ReceiptId,
    pub(super) uid: Uid,
    /// The user name of the gateway mailbox.
    pub(super) mailbox: &'a str,
    pub(super) client: &'a Client,
}

impl Unreadable<'_> {
    /// Why it could not. Logged, when `tells` says so of the event.
    pub(super) fn answer(&self, error: &StoreError, tells: impl FnOnce(&'static str) -> bool) -> FetchError {
        let (event, answer) = match error {
            StoreError::LacksKey => ("fetch.former_key", FetchError::LacksKey),
            StoreError::Damaged(_) => ("fetch.damaged", FetchError::Damaged),
            StoreError::Gone => ("fetch.gone", FetchError::Gone),
            _ => ("fetch.failed", FetchError::Temporary),
        };
        if tells(event) {
            self.log(event, error, answer);
        }
        answer
    }

    fn log(&self, event: &'static str, error: &StoreError, answer: FetchError) {
        let Unreadable { receipt_id, uid, mailbox, client } = self;
        let session_id = client.session_id;
        // Nothing is wrong with one that is sealed to a former key.
        match answer {
            FetchError::LacksKey => tracing::warn!(event, %receipt_id, %session_id, mailbox, %uid),
            _ => tracing::error!(event, %receipt_id, %session_id, mailbox, %uid, %error),
        }
    }
}
