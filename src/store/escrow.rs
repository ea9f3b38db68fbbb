//! Escrow: the keyring of a gateway mailbox, wrapped to public keys besides its password.
//!
//! For each configured recipient there is `keys/<gateway mailbox id>/escrow-<fingerprint>.age`, an `age` file to that recipient
//! around the same JSON as in `password.age` (seal.rs). The fingerprint is the first half of the SHA-256 of the recipient as
//! `age` writes it, in hex: which recipient a file is for can be told without opening it, by who knows the recipient.
//!
//! The files of a new gateway mailbox are durable before it is acknowledged. Those of an older one can only be made by who opens
//! its keyring ([`wrap_missing`]). Files for recipients that are configured no more stay: whoever held those keys could have
//! opened them before.

use super::files::write_file_durably;
use super::seal::{self, Keyring, KeyringError};
use super::{Digest, StoreError};
use age::x25519::{Identity, Recipient};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(super) const PREFIX: &str = "escrow-";
const SUFFIX: &str = ".age";
/// Octets of the SHA-256 that stand in a file's name.
const FINGERPRINT_OCTETS: usize = 16;
/// Identities of one identity file that are tried.
const IDENTITIES_MAX: usize = 32;

/// Which escrow recipients a keyring is wrapped to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Escrow {
    /// Configured, and able to open it.
    pub open_by: Vec<String>,
    /// Configured, and not able to.
    pub missing: Vec<String>,
    /// Wraps to recipients that are configured no more.
    pub others: usize,
}

pub(super) fn file_name(recipient: &Recipient) -> String {
    let digest = Digest::of(recipient.to_string().as_bytes());
    let fingerprint: String = digest.0.iter().take(FINGERPRINT_OCTETS).map(|o| format!("{o:02x}")).collect();
    format!("{PREFIX}{fingerprint}{SUFFIX}")
}

fn dir(keys_dir: &Path, owner: &str) -> PathBuf {
    keys_dir.join(owner)
}

/// Wraps `keyring` to each of these recipients, durably.
pub(super) fn wrap(
    keys_dir: &Path,
    owner: &str,
    keyring: &Keyring,
    recipients: &[Recipient],
) -> Result<(), StoreError> {
    for recipient in recipients {
        let wrapped = seal::wrap_to(keyring, recipient)?;
        write_file_durably(&dir(keys_dir, owner).join(file_name(recipient)), &wrapped)
            .map_err(|e| StoreError::io("storing a keyring", e))?;
    }
    Ok(())
}

/// Wraps `keyring` to those of the recipients that it is not wrapped to yet, or only by a file that is `spoilt`; returns the names of the files it made.
pub(super) fn wrap_missing(
    keys_dir: &Path,
    owner: &str,
    keyring: &Keyring,
    recipients: &[Recipient],
    spoilt: &[String],
) -> Result<Vec<String>, StoreError> {
    let mut there = files(keys_dir, owner)?;
    there.retain(|name| !spoilt.contains(name));
    let missing: Vec<Recipient> =
        recipients.iter().filter(|recipient| !there.contains(&file_name(recipient))).cloned().collect();
    wrap(keys_dir, owner, keyring, &missing)?;
    Ok(missing.iter().map(file_name).collect())
}

/// Which of the recipients a keyring is wrapped to.
pub(super) fn escrow(keys_dir: &Path, owner: &str, recipients: &[Recipient]) -> Result<Escrow, StoreError> {
    let mut there = files(keys_dir, owner)?;
    let mut escrow = Escrow::default();
    for recipient in recipients {
        let known = there.remove(&file_name(recipient));
        let into = if known { &mut escrow.open_by } else { &mut escrow.missing };
        into.push(recipient.to_string());
    }
    escrow.others = there.len();
    Ok(escrow)
}

/// The files that are whole: a short one opens nothing, and is made anew as if it were not there.
fn files(keys_dir: &Path, owner: &str) -> Result<BTreeSet<String>, StoreError> {
    let whole = seal::payload_octets(&dir(keys_dir, owner).join(seal::KEYRING_FILE));
    let fail = |e| StoreError::io("looking for keyrings", e);
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir(keys_dir, owner)).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with(PREFIX) || !name.ends_with(SUFFIX) {
            continue;
        }
        // They hold the same as what the password opens. If that is damaged, all that can be told is that there is something.
        let octets = seal::payload_octets(&entry.path());
        if octets.is_some_and(|octets| octets > 0 && whole.is_none_or(|whole| octets == whole)) {
            found.insert(name.into_owned());
        }
    }
    Ok(found)
}

/// What an `age` identity file holds. Its secrets are wiped when it is dropped.
pub struct EscrowIdentity(Vec<Identity>);

impl fmt::Debug for EscrowIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EscrowIdentity(…)")
    }
}

impl EscrowIdentity {
    /// Reads the text of an identity file: one identity a line, comments behind `#`.
    ///
    /// # Errors
    /// What is no identity, and on which line; never the line itself. The asker's fault.
    pub fn parse(text: &str) -> Result<EscrowIdentity, String> {
        identities(text).map(EscrowIdentity)
    }
}

fn identities(text: &str) -> Result<Vec<Identity>, String> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if found.len() == IDENTITIES_MAX {
            return Err(format!("there are more than {IDENTITIES_MAX} identities in it"));
        }
        let number = index + 1;
        found.push(line.parse().map_err(|_| {
            format!("line {number} is no age identity, like \"AGE-SECRET-KEY-1…\" as age-keygen writes it")
        })?);
    }
    if found.is_empty() { Err("there is no age identity in it".to_owned()) } else { Ok(found) }
}

/// Opens a keyring with any of these identities: `read` gives the octets of the file of this name.
pub(super) fn open(
    identities: &EscrowIdentity,
    read: impl Fn(&str) -> io::Result<Vec<u8>>,
) -> Result<Keyring, KeyringError> {
    let mut failed = KeyringError::Wrong;
    for identity in &identities.0 {
        let opened = match read(&file_name(&identity.to_public())) {
            // Empty: wrapped to it no more.
            Ok(wrapped) if wrapped.is_empty() => continue,
            Ok(wrapped) => seal::unwrap(&wrapped, identity),
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => Err(KeyringError::Unreadable(e.to_string())),
        };
        // A bad one is no reason not to try the next.
        match opened {
            Err(unreadable @ KeyringError::Unreadable(_)) => failed = unreadable,
            Err(KeyringError::Wrong) => {}
            opened => return opened,
        }
    }
    Err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::seal::{create_keyring, open_keyring};
    use age::secrecy::ExposeSecret;

    #[test]
    fn every_recipient_opens_the_keyring_and_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let all: Vec<Identity> = (0..3).map(|_| Identity::generate()).collect();
        let recipients: Vec<Recipient> = all.iter().map(Identity::to_public).collect();
        create_keyring(dir.path(), "m", "password", &recipients[..1]).unwrap();
        let told = escrow(dir.path(), "m", &recipients[..2]).unwrap();
        assert_eq!(told.open_by, [recipients[0].to_string()]);
        assert_eq!((told.missing, told.others), (vec![recipients[1].to_string()], 0));
        let read = |name: &str| seal::read_wrapped(&dir.path().join("m").join(name));
        let opens = |identities: &[Identity]| open(&EscrowIdentity(identities.to_vec()), read);
        assert!(opens(&all[..1]).is_ok());
        assert!(matches!(opens(&all[1..]), Err(KeyringError::Wrong)));
        let keyring = open_keyring(dir.path(), "m", "password").unwrap();
        assert_eq!(wrap_missing(dir.path(), "m", &keyring, &recipients[..2], &[]).unwrap().len(), 1);
        assert_eq!(wrap_missing(dir.path(), "m", &keyring, &recipients[..2], &[]).unwrap().len(), 0);
        assert!(opens(&all[1..]).is_ok());
        assert!(matches!(opens(&all[2..]), Err(KeyringError::Wrong)));
        assert_eq!(escrow(dir.path(), "m", &recipients[2..]).unwrap().others, 2);
        let file = dir.path().join("m").join(file_name(&recipients[0]));
        fs::write(&file, "damaged").unwrap();
        assert!(matches!(opens(&all[..1]), Err(KeyringError::Unreadable(_))));
        assert!(opens(&all).is_ok(), "one that is bad hides none that is good");
        fs::write(&file, "").unwrap();
        assert!(matches!(opens(&all[..1]), Err(KeyringError::Wrong)));
    }

    #[test]
    fn a_file_that_is_not_whole_opens_nothing_and_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let recipients = [Identity::generate().to_public()];
        create_keyring(dir.path(), "m", "password", &recipients).unwrap();
        let keyring = open_keyring(dir.path(), "m", "password").unwrap();
        let file = dir.path().join("m").join(file_name(&recipients[0]));
        let whole = fs::read(&file).unwrap();
        for octets in [0, 30, whole.len() / 2, whole.len() - 1] {
            fs::write(&file, &whole[..octets]).unwrap();
            assert_eq!(escrow(dir.path(), "m", &recipients).unwrap().missing.len(), 1, "{octets} octets");
            assert_eq!(
                wrap_missing(dir.path(), "m", &keyring, &recipients, &[]).unwrap().len(),
                1,
                "{octets} octets"
            );
            assert_eq!(escrow(dir.path(), "m", &recipients).unwrap().open_by.len(), 1);
        }
    }

    #[test]
    fn identity_files_have_comments_and_their_faults_are_told_without_them() {
        let identity = Identity::generate();
        let secret = identity.to_string();
        let text = format!("# created: 2026-11-21\n# public key: x\n\n {} \r\n", secret.expose_secret());
        let found = identities(&text).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_public(), identity.to_public());
        for (text, expect) in [
            ("", "there is no age identity"),
            ("# nothing\n", "there is no age identity"),
            ("#\nAGE-SECRET-KEY-1TYPO\n", "line 2 is no age identity"),
            ("age-encryption.org/v1\n-> scrypt x", "line 1 is no age identity"),
        ] {
            let error = identities(text).map(|found| found.len()).unwrap_err();
            assert!(error.starts_with(expect) && !error.contains("TYPO"), "{error}");
        }
        assert!(identities(&text.repeat(IDENTITIES_MAX + 1)).is_err());
    }
}
