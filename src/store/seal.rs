//! Sealing: what is stored can be read only with the gateway mailbox's password.
//!
//! Each gateway mailbox has a *keyring* of X25519 identities. Content is sealed with `age` (v1, <https://age-encryption.org/v1>) to the
//! newest public key when it is received; the server keeps only the public key. The keyring lies in
//! `keys/<gateway mailbox id>/password.age`, an `age` passphrase file around this JSON:
//!
//! ```json
//! {"v": 1, "identities": ["AGE-SECRET-KEY-1…"]}
//! ```
//!
//! Newest identity first. Beside it lie the same for escrow recipients (escrow.rs); all of them are replaced together
//! (keyring.rs). A generated password carries 130 bits, so the scrypt work factor is low on purpose
//! ([`WORK_FACTOR`]): the default of `age` costs 1.7 s and 514 MB for each login.
//!
//! `age` has no associated data, so a sealed blob could be swapped for another of the same mailbox: the log entry
//! therefore records length and SHA-256 of the sealed octets ([`Sealed`]), which every read checks.

use super::files::{create_dir_durably, write_file_durably};
use super::{Digest, StoreError, escrow};
use crate::mail::GatewayMailbox;
use age::secrecy::{ExposeSecret, SecretString};
use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Version of the keyring file.
const KEYRING_VERSION: u32 = 1;
/// log2 of scrypt's N: 16 MB and about 50 ms for each login.
const WORK_FACTOR: u8 = 14;
/// A keyring asking for more is refused: it would be a way to exhaust memory.
const WORK_FACTOR_MAX: u8 = 15;
/// Keyring files are a few hundred octets; a larger one is not ours.
const KEYRING_OCTETS_MAX: u64 = 64 * 1024;
/// Octets of an identity as text, its quotes and comma counted.
const IDENTITY_OCTETS_MAX: usize = 128;
/// Characters of a generated password; 5 bits each.
const PASSWORD_CHARACTERS: usize = 26;
/// Crockford's base 32: no letter that reads as a digit.
const PASSWORD_ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
pub(super) const KEYRING_FILE: &str = "password.age";

/// The opened keyring of a gateway mailbox. Its secrets are wiped when the last clone is dropped.
#[derive(Clone)]
pub struct Keyring(Arc<Ring>);

struct Ring {
    /// Newest first; each wipes itself when dropped.
    identities: Vec<age::x25519::Identity>,
    /// The public key of each.
    public_keys: Vec<String>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyring(…)")
    }
}

#[derive(Serialize, Deserialize)]
struct KeyringFile {
    v: u32,
    identities: Vec<Zeroizing<String>>,
}

/// Why a keyring could not be opened.
#[derive(Debug)]
pub(super) enum KeyringError {
    /// The password does not fit.
    Wrong,
    /// The file cannot be read, or is not a keyring.
    Unreadable(String),
}

/// Draws a password of 130 bits.
///
/// # Errors
/// The system gives no randomness.
pub fn generate_password() -> Result<Zeroizing<String>, StoreError> {
    let mut random = Zeroizing::new([0u8; PASSWORD_CHARACTERS]);
    aws_lc_rs::rand::fill(random.as_mut_slice())
        .map_err(|_| StoreError::io("drawing randomness", io::ErrorKind::Other.into()))?;
    let mut password = Zeroizing::new(String::with_capacity(PASSWORD_CHARACTERS + 4));
    for (index, octet) in random.iter().enumerate() {
        if index > 0 && index % 6 == 0 {
            password.push('-');
        }
        password.push(char::from(PASSWORD_ALPHABET[usize::from(octet & 31)]));
    }
    Ok(password)
}

/// True for what [`generate_password`] draws: the work factor is low because nothing weaker is ever taken.
pub(super) fn is_generated(password: &str) -> bool {
    let drawn = |c: char| u8::try_from(c).is_ok_and(|octet| PASSWORD_ALPHABET.contains(&octet));
    let mut characters = password.chars().filter(|c| *c != '-');
    characters.by_ref().take(PASSWORD_CHARACTERS).filter(|c| drawn(*c)).count() == PASSWORD_CHARACTERS
        && characters.next().is_none()
}

fn keyring_path(keys_dir: &Path, owner: &str) -> PathBuf {
    keys_dir.join(owner).join(KEYRING_FILE)
}

fn passphrase(password: &str) -> SecretString {
    SecretString::from(password.to_owned())
}

/// The JSON that is wrapped.
fn plain(identities: &[age::x25519::Identity]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let file = KeyringFile {
        v: KEYRING_VERSION,
        identities: identities
            .iter()
            .map(|i| Zeroizing::new(i.to_string().expose_secret().to_owned()))
            .collect(),
    };
    // Of its full size at once: growing would leave copies behind.
    let mut plain = Zeroizing::new(Vec::with_capacity(64 + IDENTITY_OCTETS_MAX * identities.len()));
    serde_json::to_writer(&mut *plain, &file).map_err(|e| StoreError::io("writing a keyring", e.into()))?;
    Ok(plain)
}

/// Wraps `keyring` with `password`, as the octets of a keyring file.
pub(super) fn wrap_by_password(keyring: &Keyring, password: &str) -> Result<Vec<u8>, StoreError> {
    wrap(&keyring.0.identities, password)
}

fn wrap(identities: &[age::x25519::Identity], password: &str) -> Result<Vec<u8>, StoreError> {
    let mut recipient = age::scrypt::Recipient::new(passphrase(password));
    recipient.set_work_factor(WORK_FACTOR);
    encrypt(&recipient, &plain(identities)?).map_err(|e| StoreError::io("wrapping a keyring", e))
}

/// Wraps `keyring` to a public key, as the octets of a keyring file.
pub(super) fn wrap_to(keyring: &Keyring, recipient: &age::x25519::Recipient) -> Result<Vec<u8>, StoreError> {
    encrypt(recipient, &plain(&keyring.0.identities)?).map_err(|e| StoreError::io("wrapping a keyring", e))
}

/// Makes a new keyring for `owner`, wrapped by the password and to each of `recipients`, durable when this returns, and gives
/// its public key.
pub(super) fn create_keyring(
    keys_dir: &Path,
    owner: &str,
    password: &str,
    recipients: &[age::x25519::Recipient],
) -> Result<String, StoreError> {
    let identity = age::x25519::Identity::generate();
    let public_key = identity.to_public().to_string();
    let wrapped = wrap(std::slice::from_ref(&identity), password)?;
    let path = keyring_path(keys_dir, owner);
    let dir = keys_dir.join(owner);
    create_dir_durably(&dir).map_err(|e| StoreError::io("making the key directory", e))?;
    write_file_durably(&path, &wrapped).map_err(|e| StoreError::io("storing a keyring", e))?;
    escrow::wrap(keys_dir, owner, &Keyring::of(vec![identity]), recipients)?;
    Ok(public_key)
}

/// Opens the keyring of `owner`.
#[cfg(test)]
pub(super) fn open_keyring(keys_dir: &Path, owner: &str, password: &str) -> Result<Keyring, KeyringError> {
    let wrapped =
        read_wrapped(&keyring_path(keys_dir, owner)).map_err(|e| KeyringError::Unreadable(e.to_string()))?;
    unwrap_by_password(&wrapped, password)
}

/// The octets of a keyring file.
pub(super) fn read_wrapped(path: &Path) -> io::Result<Vec<u8>> {
    let mut wrapped = Vec::new();
    File::open(path)?.take(KEYRING_OCTETS_MAX).read_to_end(&mut wrapped)?;
    Ok(wrapped)
}

/// Octets that lie behind the header of a keyring file; `None` when it has no whole header. It is not opened.
pub(super) fn payload_octets(path: &Path) -> Option<usize> {
    let wrapped = read_wrapped(path).ok()?;
    let mut rest = wrapped.as_slice();
    age::Decryptor::new_buffered(&mut rest).ok()?;
    Some(rest.len())
}

/// Opens a keyring file. Takes [`WORK_FACTOR`]'s time and memory, whether the password fits or not.
pub(super) fn unwrap_by_password(wrapped: &[u8], password: &str) -> Result<Keyring, KeyringError> {
    let mut identity = age::scrypt::Identity::new(passphrase(password));
    identity.set_max_work_factor(WORK_FACTOR_MAX);
    unwrap(wrapped, &identity)
}

/// Opens a keyring file with what it is wrapped to.
pub(super) fn unwrap(wrapped: &[u8], identity: &dyn age::Identity) -> Result<Keyring, KeyringError> {
    let unreadable = |what: &str| KeyringError::Unreadable(what.to_owned());
    let decryptor =
        age::Decryptor::new_buffered(wrapped).map_err(|e| KeyringError::Unreadable(e.to_string()))?;
    let mut reader = match decryptor.decrypt(std::iter::once(identity)) {
        Ok(reader) => reader,
        Err(
            age::DecryptError::DecryptionFailed
            | age::DecryptError::NoMatchingKeys
            | age::DecryptError::KeyDecryptionFailed,
        ) => {
            return Err(KeyringError::Wrong);
        }
        Err(e) => return Err(KeyringError::Unreadable(e.to_string())),
    };
    // Of its full size at once: growing would leave copies behind.
    let mut plain = Zeroizing::new(Vec::with_capacity(wrapped.len()));
    reader.read_to_end(&mut plain).map_err(|e| KeyringError::Unreadable(e.to_string()))?;
    let file: KeyringFile = serde_json::from_slice(&plain).map_err(|_| unreadable("not a keyring"))?;
    if file.v != KEYRING_VERSION {
        return Err(unreadable("keyring of a newer version"));
    }
    let mut identities = Vec::with_capacity(file.identities.len());
    for text in &file.identities {
        identities.push(text.parse().map_err(|_| unreadable("keyring holds what is no identity"))?);
    }
    if identities.is_empty() {
        return Err(unreadable("keyring holds no identity"));
    }
    Ok(Keyring::of(identities))
}

/// A keyring file nobody knows the password of: a login for an unknown user works on it, and takes as long.
pub(super) struct DecoyKeyring(Vec<u8>);

impl DecoyKeyring {
    pub(super) fn new() -> Result<DecoyKeyring, StoreError> {
        let identity = age::x25519::Identity::generate();
        Ok(DecoyKeyring(wrap(std::slice::from_ref(&identity), &generate_password()?)?))
    }

    /// Spends the time of a wrong password.
    pub(super) fn try_open(&self, password: &str) {
        drop(unwrap_by_password(&self.0, password));
    }
}

fn encrypt(recipient: &dyn age::Recipient, plain: &[u8]) -> io::Result<Vec<u8>> {
    let encryptor = age::Encryptor::with_recipients(std::iter::once(recipient)).map_err(io::Error::other)?;
    let mut sealed = Vec::with_capacity(plain.len() + 512);
    let mut writer = encryptor.wrap_output(&mut sealed)?;
    writer.write_all(plain)?;
    writer.finish()?;
    Ok(sealed)
}

/// A recipient that content is sealed to.
pub(super) struct SealingKey(age::x25519::Recipient);

impl SealingKey {
    pub(super) fn parse(public_key: &str) -> Result<SealingKey, StoreError> {
        public_key.parse().map(SealingKey).map_err(|e: &str| StoreError::Damaged(format!("public key: {e}")))
    }

    /// Starts an `age` stream to this key over `output`.
    pub(super) fn stream<W: Write>(
        &self,
        output: W,
    ) -> io::Result<age::stream::StreamWriter<HashingWriter<W>>> {
        let encryptor = age::Encryptor::with_recipients(std::iter::once(&self.0 as &dyn age::Recipient))
            .map_err(io::Error::other)?;
        encryptor.wrap_output(HashingWriter::new(output))
    }
}

/// Counts and hashes what passes through it.
pub(super) struct HashingWriter<W> {
    output: W,
    hash: Context,
    octets: u64,
}

impl<W: Write> HashingWriter<W> {
    fn new(output: W) -> HashingWriter<W> {
        HashingWriter { output, hash: Context::new(&SHA256), octets: 0 }
    }

    pub(super) fn finish(self) -> (W, u64, Digest) {
        (self.output, self.octets, Digest::from_ring(&self.hash.finish()))
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let written = self.output.write(octets)?;
        self.hash.update(octets.get(..written).unwrap_or(octets));
        self.octets += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// What is sealed is sealed to a key that the keyring does not hold.
#[derive(Debug)]
pub(super) struct LacksKey;

impl std::fmt::Display for LacksKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("sealed to a former key")
    }
}

impl std::error::Error for LacksKey {}

impl LacksKey {
    /// Whether this is why something could not be read.
    pub(super) fn is_why(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|why| why.is::<LacksKey>())
    }
}

impl Keyring {
    /// Newest first.
    pub(super) fn of(identities: Vec<age::x25519::Identity>) -> Keyring {
        let public_keys = identities.iter().map(|identity| identity.to_public().to_string()).collect();
        Keyring(Arc::new(Ring { identities, public_keys }))
    }

    /// This one with a new identity in front.
    pub(super) fn rotated(&self) -> Keyring {
        Keyring::of(vec![age::x25519::Identity::generate()]).joined(self)
    }

    /// This one, and behind it what another holds besides.
    pub(super) fn joined(&self, other: &Keyring) -> Keyring {
        let more = || other.0.identities.iter().zip(&other.0.public_keys).filter(|(_, key)| !self.knows(key));
        // Of its full size at once: growing would leave copies behind.
        let mut identities = Vec::with_capacity(self.0.identities.len() + more().count());
        identities.extend(self.0.identities.iter().cloned());
        identities.extend(more().map(|(identity, _)| identity.clone()));
        Keyring::of(identities)
    }

    /// The `age` recipients of its identities, newest first.
    pub fn public_keys(&self) -> &[String] {
        &self.0.public_keys
    }

    /// Whether it opens what is sealed to this `age` recipient.
    pub fn knows(&self, public_key: &str) -> bool {
        self.0.public_keys.iter().any(|known| known == public_key)
    }

    /// Whether it opens all that was ever sealed for this gateway mailbox.
    pub(super) fn opens_all_of(&self, gateway_mailbox: &GatewayMailbox) -> bool {
        self.knows(&gateway_mailbox.public_key)
            && gateway_mailbox.former_keys.iter().all(|former| self.knows(&former.public_key))
    }

    /// Whether it opens all that the password of today opens.
    pub(super) fn opens_present_of(&self, gateway_mailbox: &GatewayMailbox) -> bool {
        let mut kept = gateway_mailbox.former_keys.iter().filter(|former| !former.lost);
        self.knows(&gateway_mailbox.public_key) && kept.all(|former| self.knows(&former.public_key))
    }

    /// Its identities as `age` writes them into an identity file, newest first.
    pub fn reveal(&self) -> Vec<Zeroizing<String>> {
        let text = |identity: &age::x25519::Identity| identity.to_string().expose_secret().to_owned();
        self.0.identities.iter().map(|identity| Zeroizing::new(text(identity))).collect()
    }

    /// Opens a sealed stream for reading from any place.
    pub(super) fn open<R: BufRead + Seek>(&self, sealed: R) -> io::Result<age::stream::StreamReader<R>> {
        age::Decryptor::new_buffered(sealed)
            .and_then(|d| d.decrypt(self.0.identities.iter().map(|i| i as &dyn age::Identity)))
            .map_err(|e| match e {
                age::DecryptError::NoMatchingKeys => io::Error::new(io::ErrorKind::InvalidData, LacksKey),
                e => io::Error::new(io::ErrorKind::InvalidData, e),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_with_the_password_only() {
        let dir = tempfile::tempdir().unwrap();
        let password = generate_password().unwrap();
        let public = create_keyring(dir.path(), "m", &password, &[]).unwrap();
        let keyring = open_keyring(dir.path(), "m", &password).unwrap();
        let writer = SealingKey::parse(&public).unwrap().stream(Vec::new()).unwrap();
        let (sealed, octets, digest) = {
            let mut writer = writer;
            writer.write_all(b"hello").unwrap();
            writer.finish().unwrap().finish()
        };
        assert_eq!(octets, sealed.len() as u64);
        assert_eq!(digest, Digest::of(&sealed));
        let mut plain = Vec::new();
        keyring.open(io::Cursor::new(&sealed)).unwrap().read_to_end(&mut plain).unwrap();
        assert_eq!(plain, b"hello");
        assert!(matches!(open_keyring(dir.path(), "m", "wrong"), Err(KeyringError::Wrong)));
        assert!(matches!(open_keyring(dir.path(), "nobody", &password), Err(KeyringError::Unreadable(_))));
    }

    #[test]
    fn passwords_are_long_and_differ() {
        let (a, b) = (generate_password().unwrap(), generate_password().unwrap());
        assert_ne!(*a, *b);
        assert_eq!(a.chars().filter(|c| *c != '-').count(), PASSWORD_CHARACTERS);
        assert!(is_generated(&a) && is_generated(&b));
        let (short, long) = (a.split_at(25).0, format!("{}0", *a));
        for weak in ["", "password", "------", short, &long, &a.to_uppercase(), &a.replace('-', "u")] {
            assert!(!is_generated(weak) || *weak == *a, "{weak}");
        }
    }

    #[test]
    fn a_joined_keyring_holds_each_identity_once_and_opens_what_either_opens() {
        let (one, other) = (
            Keyring::of(vec![age::x25519::Identity::generate()]).rotated(),
            Keyring::of(vec![age::x25519::Identity::generate()]),
        );
        let both = one.joined(&other).joined(&one);
        let expect: Vec<_> = one.public_keys().iter().chain(other.public_keys()).cloned().collect();
        assert_eq!(both.public_keys(), expect);
        let sealed =
            encrypt(&other.public_keys()[0].parse::<age::x25519::Recipient>().unwrap(), b"x").unwrap();
        assert!(both.open(io::Cursor::new(&sealed)).is_ok());
        let Err(error) = one.open(io::Cursor::new(&sealed)) else { panic!("opened without its key") };
        assert!(LacksKey::is_why(&error));
        assert_eq!(format!("{both:?} {:?}", both.reveal().len()), "Keyring(…) 3");
    }
}
