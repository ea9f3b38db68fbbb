//! The statement that stands for a secret: a JSON Web Token (RFC 7523) signed with the key of an uploaded certificate.

use crate::config::Assertion;
use crate::mail::Timestamp;
use crate::net::certificate;
use crate::net::private_file::{self, Secret};
use crate::net::tls;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use std::fmt::Write;
use std::path::Path;
use uuid::Uuid;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

/// Seconds a statement is good for; Microsoft takes up to 600.
const LIFE_SECONDS: i64 = 9 * 60;

/// A certificate as Microsoft and its portal name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbprints {
    /// SHA-1 of the DER.
    pub sha1: Vec<u8>,
    /// SHA-256 of the DER.
    pub sha256: Vec<u8>,
}

impl Thumbprints {
    /// Of this certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Thumbprints {
        let hash = |algorithm| digest(algorithm, certificate.as_ref()).as_ref().to_vec();
        Thumbprints { sha1: hash(&SHA1_FOR_LEGACY_USE_ONLY), sha256: hash(&SHA256) }
    }

    /// The SHA-1 as the portal shows it: hexadecimal capitals.
    pub fn sha1_hex(&self) -> String {
        hex(&self.sha1)
    }

    /// The SHA-256 in the same way.
    pub fn sha256_hex(&self) -> String {
        hex(&self.sha256)
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        // Writing to a string does not fail.
        write!(text, "{octet:02X}").ok();
        text
    })
}

/// A certificate with its key, able to make statements.
pub struct Signer {
    key: RsaKeyPair,
    thumbprints: Thumbprints,
    not_after: Timestamp,
    assertion: Assertion,
}

impl Signer {
    /// Reads both PEM files and sees that they belong together. Blocks on the disk.
    ///
    /// # Errors
    /// What is wrong, in words; nothing of the key. The operator's to mend.
    pub fn load(certificate: &Path, private_key: &Path, assertion: Assertion) -> Result<Signer, String> {
        let der = read_certificate(certificate)?;
        let key = read_key(private_key)?;
        let no_certificate = || format!("{} holds no certificate that can be read", certificate.display());
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| no_certificate())?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key().as_ref() {
            return Err(format!("{} is not the key of {}", private_key.display(), certificate.display()));
        }
        let facts = certificate::facts(&der).ok_or_else(no_certificate)?;
        Ok(Signer { key, thumbprints: Thumbprints::of(&der), not_after: facts.not_after, assertion })
    }

    /// Of the certificate.
    pub fn thumbprints(&self) -> &Thumbprints {
        &self.thumbprints
    }

    /// When the certificate ends.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// A statement by this client for this endpoint, good from now on for some minutes. `id` must be new each time.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn statement(
        &self,
        endpoint: &str,
        client: &str,
        now: Timestamp,
        id: Uuid,
    ) -> Result<Zeroizing<String>, String> {
        let Thumbprints { sha1, sha256 } = &self.thumbprints;
        let encode = |octets: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(octets);
        let (encoding, header): (&'static dyn RsaEncoding, _) = match self.assertion {
            Assertion::Ps256 => {
                (&RSA_PSS_SHA256, json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": encode(sha256) }))
            }
            Assertion::Rs256 => {
                (&RSA_PKCS1_SHA256, json!({ "alg": "RS256", "typ": "JWT", "x5t": encode(sha1) }))
            }
        };
        let begins = now.unix_seconds();
        let claims = json!({
            "aud": endpoint, "iss": client, "sub": client, "jti": id.to_string(),
            "nbf": begins, "iat": begins, "exp": begins + LIFE_SECONDS,
        });
        let mut text = Zeroizing::new(format!(
            "{}.{}",
            encode(header.to_string().as_bytes()),
            encode(claims.to_string().as_bytes())
        ));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let signed = self.key.sign(encoding, &SystemRandom::new(), text.as_bytes(), &mut signature);
        signed.map_err(|_| "the key cannot sign".to_owned())?;
        text.push('.');
        text.push_str(&encode(&signature));
        Ok(text)
    }
}

/// The first certificate of a PEM file. Blocks on the disk.
///
/// # Errors
/// What is wrong, in words.
pub fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, String> {
    let pem = tls::read_file(path).map_err(|error| error.to_string())?;
    CertificateDer::from_pem_slice(&pem).map_err(|_| format!("{} holds no PEM certificate", path.display()))
}

fn read_key(path: &Path) -> Result<RsaKeyPair, String> {
    private_file::check(path, Secret::Lent).map_err(|error| error.to_string())?;
    let pem = Zeroizing::new(tls::read_file(path).map_err(|error| error.to_string())?);
    let key = PrivateKeyDer::from_pem_slice(&pem);
    let key = key.map_err(|_| format!("{} holds no PEM private key without a password", path.display()))?;
    let pair = match &key {
        PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
        _ => return Err(not_rsa(path)),
    };
    pair.map_err(|_| not_rsa(path))
}

fn not_rsa(path: &Path) -> String {
    format!("{} holds no RSA key of 2048 to 8192 bits, and Microsoft takes no other", path.display())
}
