//! What a careful poller has seen of a maildrop: the same message must be there under the same UIDL for ever.

use super::gateway::{Account, Gateway};
use super::load::Sha256;
use super::maildrop::Fetched;
use std::collections::{BTreeMap, BTreeSet};

/// What was fetched so far, by UIDL.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) messages: BTreeMap<String, Fetched>,
    pub(crate) deleted: BTreeSet<String>,
}

impl Seen {
    /// Fetches what is new. Fails if anything seen before is gone, or anything deleted is back.
    pub(crate) fn catch_up(&mut self, gateway: &Gateway, account: &Account) {
        let mut maildrop = gateway.maildrop(account);
        let uidls = maildrop.uidls();
        for uidl in self.messages.keys() {
            assert!(uidls.contains_key(uidl), "{uidl} was there before and is not now");
        }
        for (uidl, number) in &uidls {
            assert!(!self.deleted.contains(uidl), "{uidl} was deleted and is back");
            if !self.messages.contains_key(uidl) {
                self.messages.insert(uidl.clone(), maildrop.fetch(*number));
            }
        }
        maildrop.quit().unwrap();
    }

    /// Fetches everything again: the same UIDL must give the same octets.
    pub(crate) fn check_again(&self, gateway: &Gateway, account: &Account) {
        let mut maildrop = gateway.maildrop(account);
        let uidls = maildrop.uidls();
        assert_eq!(uidls.len(), self.messages.len());
        for (uidl, number) in &uidls {
            assert_eq!(Some(&maildrop.fetch(*number)), self.messages.get(uidl), "{uidl}");
        }
        maildrop.quit().unwrap();
    }

    /// Deletes one message and makes sure of it.
    pub(crate) fn delete(&mut self, uidl: &str, gateway: &Gateway, account: &Account) {
        let mut maildrop = gateway.maildrop(account);
        let number = maildrop.uidls()[uidl];
        maildrop.delete(number);
        maildrop.quit().unwrap();
        self.messages.remove(uidl);
        self.deleted.insert(uidl.to_owned());
    }

    /// Judges what is there: `(lost, doubled)`. Fails on octets that were never sent.
    pub(crate) fn judge(
        &self,
        begun: &BTreeMap<String, Sha256>,
        acknowledged: &BTreeSet<String>,
    ) -> (usize, usize) {
        let mut copies: BTreeMap<&str, usize> = BTreeMap::new();
        for (uidl, fetched) in &self.messages {
            let id = fetched.message_id.as_deref().unwrap_or_else(|| panic!("{uidl} has no Message-ID"));
            let sent = begun.get(id).unwrap_or_else(|| panic!("{uidl}: nobody sent {id}"));
            assert_eq!(*sent, fetched.sha256, "{uidl}: the octets of {id} are not those sent");
            *copies.entry(id).or_default() += 1;
        }
        let lost: Vec<_> = acknowledged.iter().filter(|id| !copies.contains_key(id.as_str())).collect();
        let doubled: Vec<_> = copies.iter().filter(|(_, count)| **count > 1).collect();
        if !lost.is_empty() || !doubled.is_empty() {
            eprintln!("lost: {lost:?}\ndoubled: {doubled:?}");
        }
        (lost.len(), doubled.len())
    }
}
