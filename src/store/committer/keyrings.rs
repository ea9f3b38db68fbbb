//! Other keys for a gateway mailbox: with their files on record, in one group.

use super::{Committer, Group};
use crate::mail::{FormerKey, GatewayMailbox, GatewayMailboxId, GatewayMailboxState, KEYS_MAX, Timestamp};
use crate::store::fact::{Fact, GatewayMailboxFact, KeyFileFact};
use crate::store::seal::KEYRING_FILE;
use crate::store::stage::Sealed;
use crate::store::{Digest, StoreError};

/// What becomes of the keys of a gateway mailbox.
pub(in crate::store) struct KeyringChange {
    pub(in crate::store) id: GatewayMailboxId,
    /// The public key it had when the change was prepared.
    pub(in crate::store) was: String,
    /// The hash on record, then, of the file that its password opens; of none, what is there now counts.
    pub(in crate::store) password_file: Option<Digest>,
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

/// Makes the first of these keys the newest, and those that are not among them lost.
fn exchange(
    state: &mut GatewayMailbox,
    opens: &[String],
    at: Timestamp,
    objects_end: u64,
) -> Result<(), StoreError> {
    let Some(newest) = opens.first() else { return Ok(()) };
    if state.public_key != *newest {
        if state.former_keys.len() + 1 >= KEYS_MAX {
            return Err(StoreError::Refused(format!(
                "it has had {KEYS_MAX} keys, the most there can be: make another gateway mailbox"
            )));
        }
        let public_key = std::mem::replace(&mut state.public_key, newest.clone());
        state.former_keys.push(FormerKey { public_key, until: at, lost: false, objects_end });
    }
    for former in &mut state.former_keys {
        former.lost = !opens.contains(&former.public_key);
    }
    Ok(())
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
        // Nor may one that was asked for with a password bring it back when another is in force since.
        let file = group.index.key_file(change.id, KEYRING_FILE)?;
        let is_other = change.password_file.is_some() && change.password_file != file;
        if state.public_key != change.was || (loses && !change.gives_up) || is_other {
            let why = "its keys were changed at the same time: try again";
            return Err(StoreError::Refused(why.to_owned()));
        }
        exchange(&mut state, &change.opens, change.at, self.numbers.object)?;
        let lost = state.former_keys.iter().filter(|former| former.lost);
        self.given_up.extend(lost.map(|former| former.public_key.clone()));
        let (at, actor, action) = (change.at, change.actor, change.action.to_owned());
        let fact = GatewayMailboxFact { at, actor, action, gateway_mailbox: state, digest_key };
        let changed = self.gateway_mailbox(fact, group)?;
        change.key_files.into_iter().try_for_each(|file| group.push_fact(Fact::KeyFile(file)))?;
        Ok(changed)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_keeps_those_before_and_there_are_not_endlessly_many() {
        let json = r#"{"id":"00000000-0000-7000-8000-000000000000","name":"","addresses":[],"profile":"generic",
            "state":"active","archive":true,"created_at":"2026-01-01T00:00:00Z","public_key":"key-0"}"#;
        let mut state: GatewayMailbox = serde_json::from_str(json).unwrap();
        let at = Timestamp::from_unix_ms(0);
        let mut opens = vec!["key-0".to_owned()];
        for n in 1..KEYS_MAX {
            opens.insert(0, format!("key-{n}"));
            exchange(&mut state, &opens, at, n as u64).unwrap();
            assert_eq!((state.former_keys.len(), state.lacks_keys()), (n, false));
        }
        let more: Vec<String> = [vec!["key-64".to_owned()], opens.clone()].concat();
        assert!(matches!(exchange(&mut state, &more, at, 64), Err(StoreError::Refused(_))));
        // Another password for the same keys is always possible; what it does not open is lost, until it does again.
        exchange(&mut state, &opens[..1], at, 64).unwrap();
        assert_eq!(state.former_keys.iter().filter(|former| former.lost).count(), KEYS_MAX - 1);
        exchange(&mut state, &opens, at, 64).unwrap();
        assert!(!state.lacks_keys() && state.public_key == "key-63");
        exchange(&mut state, &[], at, 64).unwrap();
        assert!(!state.lacks_keys());
    }
}
