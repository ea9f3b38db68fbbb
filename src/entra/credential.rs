//! What an application proves itself with: making a key with a certificate to upload, and when a credential ends.

use super::assertion::{self, Signer, Thumbprints};
use super::refusal::Refusal;
use super::token::{TokenError, Tokens};
use crate::config::{Assertion, EntraApp, EntraCredential};
use crate::mail::Timestamp;
use crate::net::{certificate, secret};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA256, RsaKeySize,
};
use serde::Deserialize;
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

/// Days a certificate is good for unless told otherwise: ten years.
pub const DAYS: u32 = 3_650;
/// Longest life of a certificate, in days.
pub const DAYS_MAX: u32 = 36_500;
/// Longest name of a certificate.
pub const NAME_LENGTH_MAX: usize = 64;
/// Certificates begin so long before now, for hosts whose clocks differ.
const BEGINS_BEFORE: Duration = Duration::hours(1);
/// Octets of the answer about an application: some KiB, with many certificates more.
const APPLICATION_OCTETS_MAX: u64 = 4 * 1024 * 1024;
/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// A key and a certificate that were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// PEM file to upload.
    pub certificate: PathBuf,
    /// PEM file that stays here.
    pub private_key: PathBuf,
    /// Of the certificate.
    pub thumbprints: Thumbprints,
    /// When it ends.
    pub not_after: Timestamp,
}

/// Why none were made. The operator's to mend.
#[derive(Debug)]
pub enum MakeError {
    /// The name is not one for a file, or the days are 0 or too many.
    Arguments(String),
    /// Something is there already, and is not overwritten.
    Exists(PathBuf),
    /// The disk says no.
    Disk(PathBuf, io::Error),
    /// Key or certificate cannot be made.
    Crypto(rcgen::Error),
}

impl fmt::Display for MakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MakeError::Arguments(why) => f.write_str(why),
            MakeError::Exists(path) => {
                write!(f, "{} is there already: choose another --name or --out", path.display())
            }
            MakeError::Disk(path, error) => write!(f, "{}: {error}", path.display()),
            MakeError::Crypto(error) => write!(f, "no key can be made: {error}"),
        }
    }
}

impl std::error::Error for MakeError {}

/// Makes an RSA key of 3072 bits (Microsoft takes no elliptic curves here, and 2048 would have to last ten years) and a certificate
/// it signs itself, as `NAME.key` (mode 0600) and `NAME.crt` in `folder`, which is made if need be. Takes a second of computing.
///
/// # Errors
/// [`MakeError`]; then nothing new is left behind.
pub fn create(folder: &Path, name: &str, days: u32, now: Timestamp) -> Result<Made, MakeError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > NAME_LENGTH_MAX || name.starts_with('.') || !name.chars().all(fits) {
        return Err(MakeError::Arguments(format!(
            "a name has 1 to {NAME_LENGTH_MAX} letters, digits, -, _ and ., and does not begin with ."
        )));
    }
    if days == 0 || days > DAYS_MAX {
        return Err(MakeError::Arguments(format!("a certificate is good for 1 to {DAYS_MAX} days")));
    }
    let files = [folder.join(format!("{name}.crt")), folder.join(format!("{name}.key"))];
    if let Some(there) = files.iter().find(|path| path.symlink_metadata().is_ok()) {
        return Err(MakeError::Exists(there.clone()));
    }
    let [certificate, private_key] = files;
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072).map_err(MakeError::Crypto)?;
    let made = parameters(name, days, now).self_signed(&key).map_err(MakeError::Crypto)?;
    let not_after = certificate::facts(made.der()).map_or(now, |facts| facts.not_after);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| MakeError::Disk(folder.to_owned(), error))?;
    write(&private_key, Zeroizing::new(key.serialize_pem()).as_bytes(), 0o600)?;
    if let Err(error) = write(&certificate, made.pem().as_bytes(), 0o644) {
        // It was made a moment ago, and nobody knows its certificate.
        std::fs::remove_file(&private_key).ok();
        return Err(error);
    }
    Ok(Made { certificate, private_key, thumbprints: Thumbprints::of(made.der()), not_after })
}

fn parameters(name: &str, days: u32, now: Timestamp) -> CertificateParams {
    let now = OffsetDateTime::from_unix_timestamp(now.unix_seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.not_before = now - BEGINS_BEFORE;
    parameters.not_after = now + Duration::days(i64::from(days));
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    parameters
}

fn write(path: &Path, octets: &[u8], mode: u32) -> Result<(), MakeError> {
    let write = |mut file: File| -> io::Result<()> {
        file.write_all(octets)?;
        file.sync_all()?;
        match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|file| {
        // What was begun here is half a key, or half a certificate, and stands in the way of another try.
        write(file).inspect_err(|_| drop(std::fs::remove_file(path)))
    });
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => MakeError::Exists(path.to_owned()),
        _ => MakeError::Disk(path.to_owned(), error),
    })
}

/// When a credential ends, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The moment it ends.
    pub ends: Timestamp,
    /// How that is known.
    pub known_by: KnownBy,
}

/// How an end is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownBy {
    /// The certificate says so.
    Certificate,
    /// `secret_expires` says so; the day it names counts as its end.
    Configuration,
    /// Graph says so of the secret that begins as the one here does.
    Graph,
    /// Graph knows several secrets that it may be: the earliest that has not ended.
    GraphEarliest,
}

impl KnownBy {
    /// The stable name used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            KnownBy::Certificate => "certificate",
            KnownBy::Configuration => "configuration",
            KnownBy::Graph => "graph",
            KnownBy::GraphEarliest => "graph-earliest",
        }
    }
}

/// When it ends, as far as that is known here: of a certificate, and of a secret with `secret_expires`. `None` when Graph must be
/// asked. Blocks on the disk.
///
/// # Errors
/// The certificate or its key cannot be read or do not belong together, in words.
pub fn local_expiry(app: &EntraApp) -> Result<Option<Expiry>, String> {
    match &app.credential {
        EntraCredential::Certificate { certificate, .. } => {
            let der = assertion::read_certificate(certificate)?;
            let facts = certificate::facts(&der)
                .ok_or_else(|| format!("{} holds no certificate that can be read", certificate.display()))?;
            Ok(Some(Expiry { ends: facts.not_after, known_by: KnownBy::Certificate }))
        }
        EntraCredential::Secret { expires_day, .. } => Ok(expires_day.map(|day| Expiry {
            ends: Timestamp::from_unix_ms(i64::from(day).saturating_mul(DAY_MS)),
            known_by: KnownBy::Configuration,
        })),
    }
}

/// Whether certificate and key are there and belong together; of a secret, whether it can be read. Blocks on the disk.
///
/// # Errors
/// What is wrong, in words.
pub fn check(app: &EntraApp) -> Result<Option<Thumbprints>, String> {
    match &app.credential {
        EntraCredential::Certificate { certificate, private_key, .. } => {
            let signer = Signer::load(certificate, private_key, Assertion::default())?;
            Ok(Some(signer.thumbprints().clone()))
        }
        EntraCredential::Secret { secret, .. } => {
            secret::read(secret).map(|_| None).map_err(|error| error.to_string())
        }
    }
}

/// What Graph knows of the credentials of an application; the rest is left aside.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Application {
    #[serde(default)]
    password_credentials: Vec<PasswordCredential>,
    #[serde(default)]
    key_credentials: Vec<KeyCredential>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PasswordCredential {
    end_date_time: Option<String>,
    /// How the secret begins: three characters.
    hint: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyCredential {
    custom_key_identifier: Option<String>,
}

/// Why Graph did not say what it knows of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskError {
    /// There is no token.
    Token(TokenError),
    /// Graph said no; with 403 the application may not read itself (`Application.Read.All`), which it need not.
    Refused(Box<Refusal>),
    /// There is no whole answer that makes sense.
    Incomplete(String),
}

impl Application {
    /// Asks Graph, which needs the permission `Application.Read.All`. Blocks.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn ask(tokens: &Tokens) -> Result<Application, AskError> {
        let app = tokens.app();
        let url = format!(
            "https://{}/v1.0/applications(appId='{}')?$select=passwordCredentials,keyCredentials",
            app.cloud.graph_host(),
            app.client_id
        );
        let token = tokens.get().map_err(AskError::Token)?;
        let bearer = Zeroizing::new(format!("Bearer {}", *token));
        let headers = [("Authorization", bearer.as_str()), ("Accept", "application/json")];
        let answer = tokens.http().get(&url, &headers, APPLICATION_OCTETS_MAX);
        let answer = answer.map_err(|error| AskError::Incomplete(error.to_string()))?;
        if answer.status != 200 {
            return Err(AskError::Refused(Box::new(Refusal::read(answer.status, &answer.body))));
        }
        serde_json::from_slice(&answer.body)
            .map_err(|_| AskError::Incomplete("what Graph says of the application makes no sense".to_owned()))
    }

    /// When the secret ends: the one that begins as `secret` does, or else the earliest that has not ended; `None` when Graph
    /// knows of none.
    pub fn secret_expiry(&self, secret: &str, now: Timestamp) -> Option<Expiry> {
        let end = |known: &PasswordCredential| Timestamp::parse(known.end_date_time.as_deref()?);
        let begins = |known: &&PasswordCredential| {
            known.hint.as_deref().is_some_and(|hint| !hint.is_empty() && secret.starts_with(hint))
        };
        let alike: Vec<_> = self.password_credentials.iter().filter(begins).filter_map(end).collect();
        if let [ends] = alike[..] {
            return Some(Expiry { ends, known_by: KnownBy::Graph });
        }
        let all: Vec<_> = self.password_credentials.iter().filter_map(end).collect();
        let among = if alike.is_empty() { &all } else { &alike };
        let ends = among.iter().filter(|ends| **ends > now).min().or_else(|| among.iter().max())?;
        let known_by = if all.len() == 1 { KnownBy::Graph } else { KnownBy::GraphEarliest };
        Some(Expiry { ends: *ends, known_by })
    }

    /// Whether this certificate was uploaded. Graph writes its SHA-1, in Base64 or hexadecimal.
    pub fn has(&self, thumbprints: &Thumbprints) -> bool {
        let Thumbprints { sha1, sha256 } = thumbprints;
        let base64 = [sha1, sha256].map(|hash| BASE64_STANDARD.encode(hash));
        let hex = [thumbprints.sha1_hex(), thumbprints.sha256_hex()];
        let known = self.key_credentials.iter().filter_map(|key| key.custom_key_identifier.as_deref());
        known.into_iter().any(|id| {
            base64.iter().any(|name| name == id) || hex.iter().any(|name| name.eq_ignore_ascii_case(id))
        })
    }
}
