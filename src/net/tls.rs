//! The certificate and key we show, and how TLS is spoken.
//!
//! A [`TlsIdentity`] holds the pair and the one `rustls` configuration made from it. The configuration asks
//! a resolver for the pair at each handshake, so replacing the pair changes new handshakes only, at once,
//! without touching open connections.
//!
//! Invariants:
//! - TLS 1.2 and 1.3 only, and only AEAD suites with ephemeral key agreement: what the provider's defaults
//!   are today is checked, not assumed, when the configuration is built.
//! - The provider is named, never taken from the process default: two providers in one process and no
//!   default is a panic in `rustls`.
//! - A pair that cannot be read, or whose key does not fit the certificate, never replaces a good one.
//! - A key we generate is readable by its owner only, from its first octet on.
//! - Who is asked for a client certificate resumes no session: [`client_certificate`](super::client_certificate) says why.

use super::authorities::Authorities;
use super::certificate::facts;
use super::client_certificate::{Asking, Proof};
use super::renewal::{Files, Renewal};
use crate::mail::{Timestamp, TlsFacts};
use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConnection};
use rustls::sign::CertifiedKey;
use rustls::{ConfigBuilder, ProtocolVersion, ServerConfig, WantsVerifier};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Largest certificate or key file read, in octets. A chain is a few thousand.
const PEM_OCTETS_MAX: u64 = 1024 * 1024;

/// Why a certificate and key cannot be used. Always the operator's to mend.
#[derive(Debug)]
pub enum TlsError {
    /// The file could not be read or written.
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no certificate, or a broken one, in the PEM text.
    Certificate,
    /// There is no private key, or a broken one, in the PEM text.
    Key,
    /// Key and certificate do not belong together, or the key is of an unusable kind.
    Pair(rustls::Error),
    /// A file of authorities holds none, or one that cannot be read.
    Authorities(PathBuf),
    /// A self-signed pair could not be made, mostly because the host name is not one.
    SelfSign(rcgen::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::File { path, .. } => write!(f, "access {}", path.display()),
            TlsError::Certificate => f.write_str("find a certificate in the PEM file"),
            TlsError::Key => f.write_str("find a private key in the PEM file"),
            TlsError::Pair(_) => f.write_str("use the key with the certificate"),
            TlsError::Authorities(path) => write!(f, "find an authority in {}", path.display()),
            TlsError::SelfSign(_) => f.write_str("make a self-signed certificate"),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TlsError::File { source, .. } => Some(source),
            TlsError::Pair(source) => Some(source),
            TlsError::SelfSign(source) => Some(source),
            TlsError::Certificate | TlsError::Key | TlsError::Authorities(_) => None,
        }
    }
}

/// The certificate chain and key shown to peers, replaceable while in use, and whom we believe about theirs.
pub struct TlsIdentity {
    current: Arc<Current>,
    config: Arc<ServerConfig>,
    /// A configuration up to the verifier of client certificates, which is made for each handshake.
    asking: ConfigBuilder<ServerConfig, WantsVerifier>,
    authorities: ArcSwap<Authorities>,
    files: Files,
    renewal: Mutex<Renewal>,
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity").field("files", &self.files).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Current {
    pair: ArcSwap<CertifiedKey>,
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.pair.load_full())
    }
}

impl TlsIdentity {
    /// Reads a PEM certificate chain (leaf first) and its PEM key.
    ///
    /// # Errors
    /// [`TlsError`] says which file or which half is bad.
    pub fn load(certificate: &Path, key: &Path) -> Result<TlsIdentity, TlsError> {
        let files = Files { certificate: certificate.to_owned(), key: key.to_owned() };
        let provider = provider();
        // Looked at before they are read: what changes in between is seen at the next look.
        let renewal = Mutex::new(Renewal::new(files.stamp()));
        let pair = read_pair(&files, &provider)?;
        let current = Arc::new(Current { pair: ArcSwap::from_pointee(pair) });
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsError::Pair)?;
        let config = builder
            .clone()
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        let authorities = ArcSwap::from_pointee(Authorities::public());
        Ok(TlsIdentity { current, config: Arc::new(config), asking: builder, authorities, files, renewal })
    }

    /// Uses `tls/cert.pem` and `tls/key.pem` under `directory`, making a self-signed pair for `hostname`
    /// first when either is missing. Good for a first run; peers that validate will not like it.
    ///
    /// # Errors
    /// [`TlsError`]; a pair that is there but bad is reported, never overwritten.
    pub fn self_signed(directory: &Path, hostname: &str) -> Result<TlsIdentity, TlsError> {
        let directory = directory.join("tls");
        let files = Files { certificate: directory.join("cert.pem"), key: directory.join("key.pem") };
        if !files.certificate.exists() || !files.key.exists() {
            write_self_signed(&directory, &files, hostname)?;
        }
        TlsIdentity::load(&files.certificate, &files.key)
    }

    /// The configuration to accept connections with that are not asked for a certificate. One for the life of the identity.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// What to accept one connection with that is asked for a certificate.
    pub fn asking(&self) -> Asking {
        let algorithms = self.config.crypto_provider().signature_verification_algorithms;
        let proof = Arc::new(Proof::new(algorithms));
        let mut config = self
            .asking
            .clone()
            .with_client_cert_verifier(Arc::clone(&proof) as _)
            .with_cert_resolver(Arc::clone(&self.current) as Arc<dyn ResolvesServerCert>);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Asking { config: Arc::new(config), proof, authorities: self.authorities.load_full() }
    }

    /// Believes from now on what the authorities of this PEM file say of client certificates, and nobody else; without a
    /// file, the public ones. Blocks.
    ///
    /// # Errors
    /// [`TlsError::File`] or [`TlsError::Authorities`]; who was believed stays so.
    pub fn trust(&self, ca_file: Option<&Path>) -> Result<(), TlsError> {
        let authorities = ca_file.map_or_else(|| Ok(Authorities::public()), Authorities::read)?;
        self.authorities.store(Arc::new(authorities));
        Ok(())
    }

    /// Reads the files again. On success new handshakes show the new pair. Blocks.
    ///
    /// # Errors
    /// [`TlsError`]; the pair in use stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        let mut renewal = self.renewal();
        let stamp = self.files.stamp();
        let read = self.read_and_show();
        renewal.told(stamp, read.as_ref().err().map(in_words));
        read.map(|_| ())
    }

    /// Looks whether the files changed since they were last read, and reads them if so; see [`renewal`](super::renewal).
    /// Blocks.
    pub fn look(&self) -> Look {
        let mut renewal = self.renewal();
        let stamp = self.files.stamp();
        if !renewal.is_due(&stamp) {
            return Look::Same;
        }
        match self.read_and_show() {
            Ok(is_new) => {
                let was_bad = renewal.fault().is_some();
                renewal.told(stamp, None);
                if is_new || was_bad { Look::Reloaded } else { Look::Same }
            }
            Err(error) if renewal.failed(stamp, in_words(&error)) => Look::Kept(error),
            Err(_) => Look::Same,
        }
    }

    /// Why the files cannot be used as they are now, when they have been so for a while; the pair before is shown then.
    pub fn fault(&self) -> Option<String> {
        self.renewal().fault().map(str::to_owned)
    }

    /// True when it is another pair than the one shown before.
    fn read_and_show(&self) -> Result<bool, TlsError> {
        let pair = read_pair(&self.files, self.config.crypto_provider())?;
        let is_new = self.current.pair.load().cert != pair.cert;
        self.current.pair.store(Arc::new(pair));
        Ok(is_new)
    }

    fn renewal(&self) -> MutexGuard<'_, Renewal> {
        self.renewal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows another pair, given as PEM, from now on.
    ///
    /// # Errors
    /// [`TlsError`]; the pair in use stays.
    pub fn replace(&self, certificate_pem: &[u8], key_pem: &[u8]) -> Result<(), TlsError> {
        let pair = parse_pair(certificate_pem, key_pem, self.config.crypto_provider())?;
        self.current.pair.store(Arc::new(pair));
        Ok(())
    }

    /// The leaf certificate now shown, in DER.
    pub fn certificate(&self) -> Option<CertificateDer<'static>> {
        self.current.pair.load().cert.first().cloned()
    }

    /// Until when that certificate is good; `None` when it cannot be read.
    pub fn not_after(&self) -> Option<Timestamp> {
        facts(&self.certificate()?).map(|facts| facts.not_after)
    }
}

/// What looking at the files brought.
#[derive(Debug)]
pub enum Look {
    /// Nothing, or nothing that was not said before.
    Same,
    /// They hold another pair, which is shown from now on, or are good again.
    Reloaded,
    /// What they hold cannot be used; the pair before stays. Said once for each state of the files.
    Kept(TlsError),
}

/// An error with its cause.
fn in_words(error: &TlsError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("cannot {error}: {cause}"),
        None => format!("cannot {error}"),
    }
}

/// The one provider, reduced to suites this page allows.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| {
        let name = suite.suite().as_str().unwrap_or_default();
        let ephemeral = name.starts_with("TLS13_") || name.starts_with("TLS_ECDHE_");
        ephemeral && (name.contains("_GCM_") || name.contains("_CHACHA20_POLY1305_"))
    });
    Arc::new(provider)
}

fn read_pair(files: &Files, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    parse_pair(&read_file(&files.certificate)?, &read_file(&files.key)?, provider)
}

pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    let at = |source| TlsError::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(at)?;
    let mut octets = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, PEM_OCTETS_MAX), &mut octets).map_err(at)?;
    Ok(octets)
}

fn parse_pair(
    certificate_pem: &[u8],
    key_pem: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let chain = CertificateDer::pem_slice_iter(certificate_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| TlsError::Certificate)?;
    if chain.is_empty() {
        return Err(TlsError::Certificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| TlsError::Key)?;
    CertifiedKey::from_der(chain, key, provider).map_err(TlsError::Pair)
}

/// Writes key, then certificate. The certificate comes last so that a crash between the two leaves a
/// missing half, which the next start makes anew, and never two halves that do not fit.
fn write_self_signed(directory: &Path, files: &Files, hostname: &str) -> Result<(), TlsError> {
    let (certificate, key) = self_sign(hostname).map_err(TlsError::SelfSign)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| TlsError::File { path: directory.to_owned(), source })?;
    match fs::remove_file(&files.certificate) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(TlsError::File { path: files.certificate.clone(), source });
        }
        _ => {}
    }
    write_file(&files.key, key.as_bytes(), 0o600)?;
    write_file(&files.certificate, certificate.as_bytes(), 0o644)
}

/// A certificate naming `hostname` and its key, both PEM.
fn self_sign(hostname: &str) -> Result<(String, String), rcgen::Error> {
    let mut parameters = rcgen::CertificateParams::new(vec![hostname.to_owned()])?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, hostname);
    let key = rcgen::KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Writes the file whole or not at all: beside it, synced, then renamed, then the directory synced.
fn write_file(path: &Path, octets: &[u8], mode: u32) -> Result<(), TlsError> {
    let write = || -> io::Result<()> {
        let beside = path.with_extension("new");
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(octets)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        match path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|source| TlsError::File { path: path.to_owned(), source })
}

/// What the handshake of this connection agreed on.
pub fn facts_of(connection: &ServerConnection) -> TlsFacts {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "unknown",
    };
    let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    // rustls writes TLS13_ for what IANA registers as TLS_.
    let cipher = match suite.and_then(|name| name.strip_prefix("TLS13_")) {
        Some(rest) => format!("TLS_{rest}"),
        None => suite.unwrap_or("unknown").to_owned(),
    };
    TlsFacts { version: version.to_owned(), cipher, client_certificate: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn makes_a_pair_once_and_keeps_its_key_private() {
        let directory = tempfile::tempdir().unwrap();
        let first = TlsIdentity::self_signed(directory.path(), "mx.example").unwrap();
        let mode = fs::metadata(directory.path().join("tls/key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = TlsIdentity::self_signed(directory.path(), "mx.example").unwrap();
        assert_eq!(first.certificate(), second.certificate());
    }

    #[test]
    fn makes_both_halves_anew_when_one_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let first = TlsIdentity::self_signed(directory.path(), "mx.example").unwrap();
        fs::remove_file(directory.path().join("tls/key.pem")).unwrap();
        let second = TlsIdentity::self_signed(directory.path(), "mx.example").unwrap();
        assert_ne!(first.certificate(), second.certificate());
    }

    #[test]
    fn a_bad_pair_is_refused_and_the_good_one_stays() {
        let directory = tempfile::tempdir().unwrap();
        let identity = TlsIdentity::self_signed(directory.path(), "mx.example").unwrap();
        let good = identity.certificate();
        let certificate = directory.path().join("tls/cert.pem");
        let other = rcgen::generate_simple_self_signed(vec!["other.example".to_owned()]).unwrap();
        fs::write(&certificate, other.cert.pem()).unwrap();
        assert!(matches!(identity.reload(), Err(TlsError::Pair(_))));
        fs::write(&certificate, "no pem at all").unwrap();
        assert!(matches!(identity.reload(), Err(TlsError::Certificate)));
        fs::remove_file(&certificate).unwrap();
        assert!(matches!(identity.reload(), Err(TlsError::File { .. })));
        assert_eq!(identity.certificate(), good);
        fs::write(&certificate, other.cert.pem()).unwrap();
        fs::write(directory.path().join("tls/key.pem"), other.signing_key.serialize_pem()).unwrap();
        identity.reload().unwrap();
        assert_ne!(identity.certificate(), good);
    }

    #[test]
    fn offers_aead_suites_with_ephemeral_keys_only() {
        let names: Vec<_> =
            provider().cipher_suites.iter().filter_map(|suite| suite.suite().as_str()).collect();
        assert!(names.len() >= 6, "{names:?}");
        assert!(
            names.iter().all(|name| !name.contains("_CBC_") && !name.starts_with("TLS_RSA_")),
            "{names:?}"
        );
    }
}
