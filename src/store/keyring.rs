//! Replacing the files of a wrapped keyring, all of them together.
//!
//! ```text
//! NAME.age.next written, durable ─▶ one group: gateway mailbox, new hashes ─▶ NAME.age.next renamed to NAME.age, durable
//! ```
//! A file counts when its hash is the one on record: before the group those that were there, behind it the new ones. Until the
//! last step is done whoever opens a keyring reads the file on record, under either name; an opening of the store that finds a
//! `.next` on record renames it, and removes any other: the group that would have put it there was never acknowledged.
//!
//! A keyring whose password is given up keeps its files as `former-N-NAME.age`: the old password and the escrow identities of
//! then open it. They are never tried at a login. What is in the place of a wrap to a recipient that is configured no more is
//! empty from then on.

use super::committer::{Command, KeyringChange};
use super::embedded::{Embedded, Shared};
use super::fact::KeyFileFact;
use super::files::{create_dir_durably, sync_dir, write_file_durably};
use super::index::Index;
use super::plant::{Plant, is_planted};
use super::seal::{self, KEYRING_FILE, KeyringError};
use super::{Digest, EscrowIdentity, Keyring, StoreError, UnlockError, Unlocked, escrow};
use crate::mail::{GatewayMailbox, GatewayMailboxId, KEYS_MAX};
use crate::observe::now;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

/// What a file has behind its name until it takes the place of the one before.
const NEXT: &str = ".next";
/// What stands before the name of a file that was kept aside, its number behind.
const FORMER: &str = "former-";
/// Ending of every file that wraps a keyring.
const ENDING: &str = ".age";

/// What may open a keyring.
#[derive(Clone, Copy)]
pub enum KeyringSecret<'a> {
    /// A password, of today or before.
    Password(&'a str),
    /// An escrow identity.
    Identity(&'a EscrowIdentity),
}

/// What secrets opened of the keyrings of a gateway mailbox.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The gateway mailbox as it was.
    pub gateway_mailbox: Arc<GatewayMailbox>,
    /// All that they opened, the present keyring first.
    pub keyring: Keyring,
    /// As of [`Unlocked`].
    pub(super) password_file: Option<Digest>,
}

impl Opened {
    /// Whether the present keyring is part of it.
    pub fn has_present(&self) -> bool {
        self.keyring.knows(&self.gateway_mailbox.public_key)
    }

    /// As a login opens it.
    pub fn unlocked(&self) -> Unlocked {
        Unlocked {
            gateway_mailbox: self.gateway_mailbox.clone(),
            keyring: self.keyring.clone(),
            password_file: self.password_file,
        }
    }
}

/// Files to come, by name.
type Files = BTreeMap<String, Vec<u8>>;

/// Writes these as what takes the place of the files of that name. Durable when it returns.
fn write_next(dir: &Path, files: &Files) -> Result<(), StoreError> {
    files.iter().try_for_each(|(name, octets)| {
        write_file_durably(&dir.join(format!("{name}{NEXT}")), octets)
            .map_err(|e| StoreError::io("storing a keyring", e))
    })
}

/// Puts every `.next` in its place that is on record. Others are removed if the keyring in its place is the one on record; if it
/// is not, they may be worth more than it. Tells how many it found.
fn settle(dir: &Path, recorded: impl Fn(&str) -> Option<Digest>) -> io::Result<usize> {
    let mut left = Vec::new();
    let mut found = 0;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(name) = name.strip_suffix(NEXT).filter(|name| name.ends_with(ENDING)) else { continue };
        found += 1;
        if Some(Digest::of(&seal::read_wrapped(&path)?)) == recorded(name) {
            fs::rename(&path, dir.join(name))?;
        } else {
            left.push(path);
        }
    }
    let present = seal::read_wrapped(&dir.join(KEYRING_FILE)).map(|wrapped| Digest::of(&wrapped)).ok();
    if present.is_some() && present == recorded(KEYRING_FILE) {
        left.iter().try_for_each(fs::remove_file)?;
    }
    if found > 0 && !is_planted(Plant::SkipRenameDirSync) {
        sync_dir(dir)?;
    }
    Ok(found)
}

/// The hashes on record of the files of one gateway mailbox.
fn recorded_of(all: &[(GatewayMailboxId, String, Digest)], id: GatewayMailboxId) -> BTreeMap<&str, Digest> {
    let own = all.iter().filter(|(owner, _, _)| *owner == id);
    own.map(|(_, name, sha256)| (name.as_str(), *sha256)).collect()
}

/// Ends what a crash left of replacing files, of every gateway mailbox.
pub(super) fn settle_all(keys_dir: &Path, index: &Index) -> Result<(), StoreError> {
    let all = index.key_files()?;
    for (mailbox, _) in index.gateway_mailboxes()? {
        let recorded = recorded_of(&all, mailbox.id);
        match settle(&keys_dir.join(mailbox.id.to_string()), |name| recorded.get(name).copied()) {
            Ok(0) => {}
            Ok(files) => tracing::info!(event = "keys.settled", mailbox_id = %mailbox.id, files),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            // Who opens it reads whichever file is on record.
            Err(error) => tracing::warn!(event = "keys.unsettled", mailbox_id = %mailbox.id, %error),
        }
    }
    Ok(())
}

/// The octets of the file on record, wherever it stands; of the one in its place when there is no such record.
pub(super) fn wrapped_in(
    keys_dir: &Path,
    id: GatewayMailboxId,
    name: &str,
    recorded: impl Fn() -> Option<Digest>,
) -> io::Result<Vec<u8>> {
    let place = keys_dir.join(id.to_string()).join(name);
    let next = keys_dir.join(id.to_string()).join(format!("{name}{NEXT}"));
    // Between two looks it may be put on record, and then in its place.
    for _ in 0..2 {
        let Some(recorded) = recorded() else { break };
        for path in [&place, &next, &place] {
            match seal::read_wrapped(path) {
                Ok(wrapped) if Digest::of(&wrapped) == recorded => return Ok(wrapped),
                _ => {}
            }
        }
    }
    seal::read_wrapped(&place)
}

impl Shared {
    pub(super) fn recorded(&self, id: GatewayMailboxId, name: &str) -> Option<Digest> {
        self.read(|index| index.key_file(id, name)).ok().flatten()
    }

    /// See [`wrapped_in`].
    pub(super) fn wrapped(&self, id: GatewayMailboxId, name: &str) -> io::Result<Vec<u8>> {
        wrapped_in(&self.keys_dir(), id, name, || self.recorded(id, name))
    }
}

impl KeyFiles for Shared {
    fn wrapped(&self, id: GatewayMailboxId, name: &str) -> io::Result<Vec<u8>> {
        Shared::wrapped(self, id, name)
    }

    fn key_files(&self) -> Result<Vec<(GatewayMailboxId, String, Digest)>, StoreError> {
        self.read(Index::key_files)
    }
}

/// Where wrapped keyrings are: an open store, or a data directory as it lies there (reading.rs).
pub(super) trait KeyFiles {
    /// See [`wrapped_in`].
    fn wrapped(&self, id: GatewayMailboxId, name: &str) -> io::Result<Vec<u8>>;
    /// The hashes on record of the files of every gateway mailbox.
    fn key_files(&self) -> Result<Vec<(GatewayMailboxId, String, Digest)>, StoreError>;

    /// The numbers of the keyrings kept aside, the newest first.
    fn former_numbers(&self, id: GatewayMailboxId) -> Result<BTreeSet<std::cmp::Reverse<u32>>, StoreError> {
        let all = self.key_files()?;
        let number = |name: &str| name.strip_prefix(FORMER)?.split_once('-')?.0.parse().ok();
        Ok(all
            .iter()
            .filter(|(owner, _, _)| *owner == id)
            .filter_map(|(_, name, _)| number(name).map(std::cmp::Reverse))
            .collect())
    }

    fn open_one(
        &self,
        id: GatewayMailboxId,
        prefix: &str,
        secret: KeyringSecret<'_>,
    ) -> Result<Keyring, KeyringError> {
        let read = |name: &str| self.wrapped(id, &format!("{prefix}{name}"));
        match secret {
            KeyringSecret::Password(password) => match read(KEYRING_FILE) {
                Ok(wrapped) => seal::unwrap_by_password(&wrapped, password),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Err(KeyringError::Wrong),
                Err(e) => Err(KeyringError::Unreadable(e.to_string())),
            },
            KeyringSecret::Identity(identity) => escrow::open(identity, read),
        }
    }

    /// See [`Store::open_keyrings`](super::Store::open_keyrings).
    fn open_keyrings(
        &self,
        mailbox: Arc<GatewayMailbox>,
        secrets: &[KeyringSecret<'_>],
    ) -> Result<Opened, UnlockError> {
        // Before any is read: what changes meanwhile is found out.
        let recorded = self.key_files().map_err(UnlockError::Unavailable)?;
        let password_file = recorded_of(&recorded, mailbox.id).get(KEYRING_FILE).copied();
        let mut prefixes = vec![String::new()];
        let former = self.former_numbers(mailbox.id).map_err(UnlockError::Unavailable)?;
        prefixes.extend(former.into_iter().map(|number| format!("{FORMER}{}-", number.0)));
        let mut fits = vec![false; secrets.len()];
        let mut all: Option<Keyring> = None;
        let mut unreadable = None;
        for prefix in &prefixes {
            for (secret, fits) in secrets.iter().zip(&mut fits) {
                match self.open_one(mailbox.id, prefix, *secret) {
                    Ok(keyring) => {
                        *fits = true;
                        all = Some(all.map_or(keyring.clone(), |all| all.joined(&keyring)));
                    }
                    Err(KeyringError::Wrong) => {}
                    Err(KeyringError::Unreadable(why)) => {
                        unreadable = Some(format!("keyring {prefix}of {}: {why}", mailbox.login()));
                    }
                }
            }
        }
        match (all, unreadable) {
            (Some(keyring), _) if fits.iter().all(|fits| *fits) => {
                Ok(Opened { gateway_mailbox: mailbox, keyring, password_file })
            }
            (_, Some(why)) => Err(UnlockError::Unavailable(StoreError::Damaged(why))),
            _ => Err(UnlockError::Wrong),
        }
    }
}

/// What is to become of the keys of a gateway mailbox.
pub(super) struct Replacement<'a> {
    pub(super) gateway_mailbox: &'a GatewayMailbox,
    /// The keyring to be.
    pub(super) keyring: &'a Keyring,
    /// What opens it.
    pub(super) password: &'a str,
    /// The hash on record of what the password opened when this was asked for.
    pub(super) password_file: Option<Digest>,
    /// The files there are now are kept aside: nothing given opened them.
    pub(super) keeps_former: bool,
    pub(super) action: &'static str,
    pub(super) actor: &'a str,
}

impl Embedded {
    /// Puts another keyring in force, in new files. Blocks.
    pub(super) fn replace_keyring(
        &self,
        wanted: &Replacement<'_>,
    ) -> Result<Arc<GatewayMailbox>, StoreError> {
        let shared = &self.shared;
        let id = wanted.gateway_mailbox.id;
        if wanted.keyring.public_keys().len() > KEYS_MAX {
            return Err(StoreError::Refused(format!("a keyring holds at most {KEYS_MAX} keys")));
        }
        let _alone = shared.key_changes.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = self.settle_keyring(id)?;
        let files = self.next_files(wanted)?;
        write_next(&dir, &files)?;
        let hash = |name: &str| files.get(name).map(|octets| Digest::of(octets));
        if is_planted(Plant::KeyringBeforeLog) {
            settle(&dir, hash).map_err(|e| StoreError::io("replacing a keyring", e))?;
        }
        let at = now();
        let fact = |(name, octets): (&String, &Vec<u8>)| KeyFileFact {
            at,
            gateway_mailbox: id,
            name: name.clone(),
            octets: octets.len() as u64,
            sha256: Digest::of(octets),
        };
        let change = Box::new(KeyringChange {
            id,
            was: wanted.gateway_mailbox.public_key.clone(),
            password_file: wanted.password_file,
            opens: wanted.keyring.public_keys().to_vec(),
            gives_up: wanted.keeps_former,
            key_files: files.iter().map(fact).collect(),
            action: wanted.action,
            actor: wanted.actor.to_owned(),
            at,
        });
        let changed = self.ask_blocking(|answer| Command::Keyring { change, answer });
        let settled = match &changed {
            // Durable, whatever the index knows of it by now.
            Ok(_) => settle(&dir, hash),
            Err(StoreError::Refused(_) | StoreError::Gone) => {
                let names = files.keys().map(|name| dir.join(format!("{name}{NEXT}")));
                names.map(fs::remove_file).collect::<io::Result<Vec<()>>>().map(|removed| removed.len())
            }
            // After trouble with the disk the group may be in the log all the same: the next opening knows.
            Err(_) => Ok(0),
        };
        if let Err(error) = settled {
            tracing::warn!(event = "keys.unsettled", mailbox_id = %id, %error);
        }
        changed.map(Arc::new)
    }

    /// Ends what was left of replacing files before, while nobody else does; gives where they are.
    pub(super) fn settle_keyring(&self, id: GatewayMailboxId) -> Result<PathBuf, StoreError> {
        // Behind this the index has all that is in the log, and what a failed write may have left at its end counts no more: nor
        // do the files it names.
        self.ask_blocking(|answer| Command::KeyFiles { facts: Vec::new(), answer })?;
        let all = self.shared.read(Index::key_files)?;
        let recorded = recorded_of(&all, id);
        let dir = self.shared.keys_dir().join(id.to_string());
        // Were it lost, another keyring can still be made.
        create_dir_durably(&dir)
            .and_then(|()| settle(&dir, |name| recorded.get(name).copied()))
            .map_err(|e| StoreError::io("replacing a keyring", e))?;
        Ok(dir)
    }

    fn next_files(&self, wanted: &Replacement<'_>) -> Result<Files, StoreError> {
        let (shared, id) = (&self.shared, wanted.gateway_mailbox.id);
        let mut files = Files::new();
        let mut former = Vec::new();
        if wanted.keeps_former {
            let number = shared.former_numbers(id)?.first().map_or(1, |newest| newest.0.saturating_add(1));
            let all = shared.read(Index::key_files)?;
            let present = all.iter().filter(|(owner, name, _)| *owner == id && !name.starts_with(FORMER));
            for (_, name, _) in present {
                former.push(name.clone());
                match shared.wrapped(id, name) {
                    Ok(octets) if octets.is_empty() => {}
                    Ok(octets) => drop(files.insert(format!("{FORMER}{number}-{name}"), octets)),
                    // What is lost is no reason not to make another.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(StoreError::io("keeping a keyring aside", e)),
                }
            }
        }
        files.insert(KEYRING_FILE.to_owned(), seal::wrap_by_password(wanted.keyring, wanted.password)?);
        for recipient in shared.escrow_recipients().iter() {
            files.insert(escrow::file_name(recipient), seal::wrap_to(wanted.keyring, recipient)?);
        }
        // What opens the keyring of then would pass for a wrap of this one, once its recipient is configured again.
        for name in former.into_iter().filter(|name| name.starts_with(escrow::PREFIX)) {
            files.entry(name).or_default();
        }
        Ok(files)
    }
}
