//! The certificate a peer shows: asked for, never required, and judged beside the handshake.
//!
//! `rustls`' own verifier ends the handshake over a certificate it does not like, even where none is required. Public
//! authorities have stopped issuing for clients, so a host of Exchange Online may show one that is good for servers only, and
//! the day it does all mail would stop. `Proof` lets every handshake complete and notes one thing: whether the peer signed it
//! with the key of the certificate. What the certificate is worth is found out afterwards and recorded.
//!
//! Invariants:
//! - No certificate, and nothing in one, fails a handshake.
//! - What is noted belongs to one connection: each has a verifier, and so a configuration, of its own.
//! - Nobody resumes a session: a resumed one shows the certificate of the first again without proving to hold its key now,
//!   and verdicts would rest on a proof that nobody here has seen.

use super::authorities::Authorities;
use super::certificate::facts;
use super::stream::Stream;
use crate::mail::{ChainVerdict, ClientCertificate};
use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use webpki::RawPublicKeyEntity;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Names of a certificate that are kept; those of Exchange Online have about twenty. They go into every receipt.
const NAMES_MAX: usize = 64;
/// Longest name kept, in octets: no host has a longer one (RFC 1035 §2.3.4).
const NAME_OCTETS_MAX: usize = 253;

/// Notes whether the peer of one handshake holds the key of the certificate it shows.
#[derive(Debug)]
pub(super) struct Proof {
    algorithms: WebPkiSupportedAlgorithms,
    proven: AtomicBool,
}

impl Proof {
    pub(super) fn new(algorithms: WebPkiSupportedAlgorithms) -> Proof {
        Proof { algorithms, proven: AtomicBool::new(false) }
    }

    /// The handshake goes on either way.
    fn note(&self, proven: bool) -> HandshakeSignatureValid {
        self.proven.store(proven, Ordering::Relaxed);
        HandshakeSignatureValid::assertion()
    }

    fn proves_tls12(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Option<bool> {
        let key = public_key(leaf)?;
        let key = RawPublicKeyEntity::try_from(&key).ok()?;
        // In TLS 1.2 a scheme does not fix the curve, so there may be several algorithms.
        let (_, algorithms) = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme)?;
        Some(algorithms.iter().any(|a| key.verify_signature(*a, message, signed.signature()).is_ok()))
    }
}

/// The key alone, so that an odd certificate, such as one of X.509 version 1, proves possession like any other.
fn public_key(certificate: &CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'static>> {
    let (_, certificate) = X509Certificate::from_der(certificate.as_ref()).ok()?;
    Some(SubjectPublicKeyInfoDer::from(certificate.public_key().raw.to_vec()))
}

impl ClientCertVerifier for Proof {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: a peer shows whichever it has.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(self.note(self.proves_tls12(message, leaf, signed).unwrap_or(false)))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let proven = public_key(leaf).is_some_and(|key| {
            verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms).is_ok()
        });
        Ok(self.note(proven))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// One handshake in which the peer is asked for a certificate.
#[derive(Debug)]
pub struct Asking {
    pub(super) config: Arc<ServerConfig>,
    pub(super) proof: Arc<Proof>,
    pub(super) authorities: Arc<Authorities>,
}

impl Asking {
    /// The configuration for this handshake and no other.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// What the peer showed in the handshake that made `stream`, judged at `now`; `None` when it showed nothing.
    pub async fn client_certificate(&self, stream: &Stream, now: UnixTime) -> Option<ClientCertificate> {
        let shown: Vec<_> = stream.peer_certificates().iter().map(|c| c.clone().into_owned()).collect();
        let sha256 = sha256(shown.first()?);
        let (authorities, algorithms) = (Arc::clone(&self.authorities), self.proof.algorithms);
        // What a peer made up to be costly to check must not hold up everybody else's sessions.
        let judged = tokio::task::spawn_blocking(move || judge(&shown, &authorities, now, &algorithms)).await;
        let (dns_names, chain) = judged.unwrap_or((Vec::new(), ChainVerdict::Unusable));
        let proven = self.proof.proven.load(Ordering::Relaxed);
        Some(ClientCertificate { sha256, dns_names, chain, proven })
    }
}

fn judge(
    shown: &[CertificateDer<'_>],
    authorities: &Authorities,
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> (Vec<String>, ChainVerdict) {
    let Some((leaf, intermediates)) = shown.split_first() else {
        return (Vec::new(), ChainVerdict::Unusable);
    };
    let mut names = facts(leaf).map(|facts| facts.dns_names).unwrap_or_default();
    names.retain(|name| name.len() <= NAME_OCTETS_MAX);
    names.truncate(NAMES_MAX);
    (names, authorities.verdict(leaf, intermediates, now, algorithms))
}

/// SHA-256 of the DER, in lower-case hex.
pub fn sha256(certificate: &CertificateDer<'_>) -> String {
    digest(&SHA256, certificate).as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_in_number_and_length() {
        let mut names: Vec<String> = (0..100).map(|n| format!("N{n}.example")).collect();
        names.insert(0, format!("{}.example", "x".repeat(300)));
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        let shown = [made.cert.der().clone()];
        let (names, _) = judge(&shown, &Authorities::public(), UnixTime::now(), &algorithms);
        assert_eq!(names.len(), NAMES_MAX);
        assert_eq!(names[0], "n0.example");
    }

    #[test]
    fn what_is_no_certificate_is_unusable_and_proves_nothing() {
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        let shown = [CertificateDer::from(vec![0x30, 0x03, 2, 1, 1])];
        let judged = judge(&shown, &Authorities::public(), UnixTime::now(), &algorithms);
        assert_eq!(judged, (Vec::new(), ChainVerdict::Unusable));
        assert!(public_key(&shown[0]).is_none());
    }
}
