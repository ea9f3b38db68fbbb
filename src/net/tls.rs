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
//! - Who is asked for a client certificate resumes no session: [`client_certificate`](super::client_certificate) says why.

use super::authorities::Authorities;
use super::certificate::facts;
use super::client_certificate::{Asking, Proof};
use super::private_file::{self, Exposed, Secret};
use super::renewal::{Files, Renewal};
use super::self_signed;
use crate::mail::{Timestamp, TlsFacts};
use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CommonState, ConfigBuilder, ProtocolVersion, ServerConfig, WantsVerifier};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

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
    /// Others can read the private key.
    Exposed(Exposed),
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
            TlsError::Exposed(_) => f.write_str("use a private key that others can read"),
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
            TlsError::Exposed(source) => Some(source),
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
    followed: Mutex<Followed>,
}

/// The files the pair came from, and what is known of them.
#[derive(Debug)]
struct Followed {
    files: Files,
    renewal: Renewal,
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity").field("followed", &self.followed).finish_non_exhaustive()
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
        let renewal = Renewal::new(files.stamp());
        let pair = read_pair(&files, &provider)?;
        let current = Arc::new(Current { pair: ArcSwap::from_pointee(pair) });
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsError::Pair)?;
        let mut config = builder
            .clone()
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        // A client whose one thread reads while another writes (imaplib2) hangs over a ticket that comes before any answer; and
        // a poller that comes every few minutes gains nothing by one.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let authorities = ArcSwap::from_pointee(Authorities::public());
        let followed = Mutex::new(Followed { files, renewal });
        Ok(TlsIdentity { current, config: Arc::new(config), asking: builder, authorities, followed })
    }

    /// Uses `tls/cert.pem` and `tls/key.pem` under `directory`, making a self-signed pair for `hostname`
    /// first when either is missing. Good for a first run; peers that validate will not like it.
    ///
    /// # Errors
    /// [`TlsError`]; a pair that is there but bad is reported, never overwritten.
    pub fn self_signed(directory: &Path, hostname: &str) -> Result<TlsIdentity, TlsError> {
        let [certificate, key] = TlsIdentity::self_signed_files(directory);
        let files = Files { certificate, key };
        if !files.certificate.exists() || !files.key.exists() {
            self_signed::write(&directory.join("tls"), &files, hostname)?;
        }
        TlsIdentity::load(&files.certificate, &files.key)
    }

    /// Where [`TlsIdentity::self_signed`] keeps certificate and key.
    pub fn self_signed_files(directory: &Path) -> [PathBuf; 2] {
        ["cert.pem", "key.pem"].map(|name| directory.join("tls").join(name))
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
        let mut followed = self.followed();
        let stamp = followed.files.stamp();
        let read = self.read_and_show(&followed.files);
        followed.renewal.told(stamp, read.as_ref().err().map(in_words));
        read.map(|_| ())
    }

    /// The same from these files, which are followed from now on, good or bad: that is where the admin will put them right.
    /// Blocks.
    ///
    /// # Errors
    /// [`TlsError`]; the pair in use stays.
    pub fn reload_from(&self, certificate: &Path, key: &Path) -> Result<(), TlsError> {
        let mut followed = self.followed();
        if followed.files.certificate != certificate || followed.files.key != key {
            let files = Files { certificate: certificate.to_owned(), key: key.to_owned() };
            *followed = Followed { renewal: Renewal::new(files.stamp()), files };
        }
        drop(followed);
        self.reload()
    }

    /// Looks whether the files changed since they were last read, and reads them if so; see [`renewal`](super::renewal).
    /// Blocks.
    pub fn look(&self) -> Look {
        let mut followed = self.followed();
        let stamp = followed.files.stamp();
        if !followed.renewal.is_due(&stamp) {
            return Look::Same;
        }
        match self.read_and_show(&followed.files) {
            Ok(is_new) => {
                let was_bad = followed.renewal.fault().is_some();
                followed.renewal.told(stamp, None);
                if is_new || was_bad { Look::Reloaded } else { Look::Same }
            }
            Err(error) if followed.renewal.failed(stamp, in_words(&error)) => Look::Kept(error),
            Err(_) => Look::Same,
        }
    }

    /// Why the files cannot be used as they are now, when they have been so for a while; the pair before is shown then.
    pub fn fault(&self) -> Option<String> {
        self.followed().renewal.fault().map(str::to_owned)
    }

    /// True when it is another pair than the one shown before.
    fn read_and_show(&self, files: &Files) -> Result<bool, TlsError> {
        let pair = read_pair(files, self.config.crypto_provider())?;
        let is_new = self.current.pair.load().cert != pair.cert;
        self.current.pair.store(Arc::new(pair));
        Ok(is_new)
    }

    fn followed(&self) -> MutexGuard<'_, Followed> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
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
    private_file::check(&files.key, Secret::Lent).map_err(TlsError::Exposed)?;
    parse_pair(&read_file(&files.certificate)?, &Zeroizing::new(read_file(&files.key)?), provider)
}

pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
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

/// What the handshake of this connection agreed on.
pub fn facts_of(connection: &CommonState) -> TlsFacts {
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
    use std::fs;
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
    fn other_files_are_followed_once_they_were_read_well() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let identity = TlsIdentity::self_signed(one.path(), "mx.example").unwrap();
        let good = identity.certificate();
        let [certificate, key] = TlsIdentity::self_signed_files(other.path());
        assert!(identity.reload_from(&certificate, &key).is_err());
        assert_eq!(identity.certificate(), good);
        assert!(matches!(identity.look(), Look::Same), "those before are followed");
        TlsIdentity::self_signed(other.path(), "mx.example").unwrap();
        identity.reload_from(&certificate, &key).unwrap();
        let moved = identity.certificate();
        assert_ne!(moved, good);
        fs::remove_file(&certificate).unwrap();
        TlsIdentity::self_signed(other.path(), "mx.example").unwrap();
        assert!(matches!(identity.look(), Look::Reloaded));
        assert_ne!(identity.certificate(), moved);
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
