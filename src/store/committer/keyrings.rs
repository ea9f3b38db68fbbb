//! Other keys for a gateway mailbox: with their files on record, in one group.

use super::{Committer, Group};
use crate::mail::{FormerKey, GatewayMailbox, GatewayMailboxId, GatewayMailboxState, KEYS_MAX, Timestamp};
use crate::store::StoreError;
use crate::store::fact::{Fact, GatewayMailboxFact, KeyFileFact};
use crate::store::stage::Sealed;

/// What becomes of the keys of a gateway mailbox.
pub(in crate::store) struct KeyringChange {
    pub(in crate::store) id: GatewayMailboxId,
    /// The public key it had when the change was prepared.
    pub(in crate::store) was: String,
    /// The keys that the password opens now, newest first; empty when they stay as they are.
    pub(in crate::store) opens: Vec<String>,
    /// The others are given up.
    pub(in crate::store) gives_up: bool,
    pub(in crate::store) key_files: Vec<KeyFileFact>,
    /// `key-rotate`, `password-reset`, `key-export`.
    pub(in crate::store) action: &'static str,
    pub(in crate::store) actor: String,
    pub(in crate::store) at: Timestamp,
}

impl Committer {
    pub(super) fn change_keyring(
        &mut self,
        change: KeyringChange,
        group: &mut Group<'_>,
    ) -> Result<GatewayMailbox, StoreError> {
        let found = group.index.gateway_mailboxes()?.into_iter();
        let mut found = found.filter(|(other, _)| other.state != GatewayMailboxState::Deleted);
        let (mut state, digest_key) =
            found.find(|(other, _)| other.id == change.id).ok_or(StoreError::Gone)?;
        // Of two changes at the same time none may take a key away that the other brought.
        let opens = |key: &String| change.opens.is_empty() || change.opens.contains(key);
        let mut kept =
            state.former_keys.iter().filter(|former| !former.lost).map(|former| &former.public_key);
        let loses = !opens(&state.public_key) || !kept.all(opens);
        if state.public_key != change.was || (loses && !change.gives_up) {
            let why = "its keys were changed at the same time: try again";
            return Err(StoreError::Refused(why.to_owned()));
        }
        if let Some(newest) = change.opens.first() {
            self.exchange_keys(&mut state, newest, &change)?;
        }
        let (at, actor, action) = (change.at, change.actor, change.action.to_owned());
        let fact = GatewayMailboxFact { at, actor, action, gateway_mailbox: state, digest_key };
        let changed = self.gateway_mailbox(fact, group)?;
        change.key_files.into_iter().try_for_each(|file| group.push_fact(Fact::KeyFile(file)))?;
        Ok(changed)
    }

    fn exchange_keys(
        &mut self,
        state: &mut GatewayMailbox,
        newest: &str,
        change: &KeyringChange,
    ) -> Result<(), StoreError> {
        if state.public_key != newest {
            if state.former_keys.len() + 1 >= KEYS_MAX {
                return Err(StoreError::Refused(format!(
                    "it has had {KEYS_MAX} keys, the most there can be: make another gateway mailbox"
                )));
            }
            state.former_keys.push(FormerKey {
                public_key: std::mem::replace(&mut state.public_key, newest.to_owned()),
                until: change.at,
                lost: false,
                objects_end: self.numbers.object,
            });
        }
        for former in &mut state.former_keys {
            former.lost = !change.opens.contains(&former.public_key);
            if former.lost {
                self.given_up.insert(former.public_key.clone());
            }
        }
        Ok(())
    }

    /// True for what was sealed to a key that the password does not open any more: it was staged before.
    pub(super) fn is_sealed_to_lost(&self, sealed: &Sealed) -> bool {
        let staged = &sealed.sealed_for;
        if self.given_up.contains(&staged.public_key) {
            return true;
        }
        self.shared.known(staged.id).is_some_and(|now| {
            now.public_key != staged.public_key
                && now.former_keys.iter().any(|f| f.lost && f.public_key == staged.public_key)
        })
    }
}
