//! What was not exported, and why.

use super::{NAMED_MAX, NotExported};
use crate::store::Entry;

/// Messages of one kind.
#[derive(Default)]
pub(super) struct Kind {
    /// The first of them.
    pub(super) messages: Vec<NotExported>,
    pub(super) count: u64,
}

impl Kind {
    pub(super) fn add(&mut self, folder: &str, entry: &Entry, why: String) {
        self.count += 1;
        if self.messages.len() < NAMED_MAX {
            let (folder, uid) = (folder.to_owned(), entry.uid.value());
            self.messages.push(NotExported { folder, uid, receipt_id: entry.receipt_id, why });
        }
    }
}

/// Messages that were not exported.
#[derive(Default)]
pub(super) struct Found {
    /// Their content was freed.
    pub(super) gone: Kind,
    /// They cannot be read as they were stored.
    pub(super) damaged: Kind,
    /// They are sealed to a key that was not given.
    pub(super) former_key: Kind,
}
