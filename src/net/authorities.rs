//! Who may vouch for a client certificate, and whether somebody does.
//!
//! Without a file of the operator's these are the public authorities, built into the program: the system's store is mostly
//! missing in a container, and what Exchange Online shows is issued by public ones.

use super::certificate::facts;
use super::tls::{TlsError, read_file};
use crate::mail::ChainVerdict;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::path::Path;
use webpki::{EndEntityCert, Error, KeyUsage};

/// Certificates above the leaf that are looked at; chains of public authorities have one or two. Whoever sends hundreds
/// wants us to search, and `webpki` bounds the search itself too: 100 signatures, 200,000 steps.
const INTERMEDIATES_MAX: usize = 8;

/// Authorities that may vouch for a client certificate.
#[derive(Debug)]
pub struct Authorities {
    anchors: Vec<TrustAnchor<'static>>,
}

impl Authorities {
    /// The public ones, as Mozilla's programme lists them.
    pub fn public() -> Authorities {
        Authorities { anchors: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
    }

    /// Those of a PEM file, and no others. Blocks.
    ///
    /// # Errors
    /// [`TlsError::File`] when it cannot be read, [`TlsError::Authorities`] when it holds none or one that cannot be read.
    /// The operator's to mend.
    pub fn read(path: &Path) -> Result<Authorities, TlsError> {
        let bad = || TlsError::Authorities(path.to_owned());
        let pem = read_file(path)?;
        let mut anchors = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|_| bad())?;
            let anchor = webpki::anchor_from_trusted_cert(&certificate).map_err(|_| bad())?;
            anchors.push(anchor.to_owned());
        }
        if anchors.is_empty() { Err(bad()) } else { Ok(Authorities { anchors }) }
    }

    /// All of them.
    pub(super) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    /// Whether one of them vouches for `leaf` at this time, for use by a client or by a server, by way of what the peer
    /// showed with it. Bounded work, some of it with hostile keys: milliseconds.
    pub fn verdict(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> ChainVerdict {
        let der = leaf;
        let Ok(leaf) = EndEntityCert::try_from(der) else { return ChainVerdict::Unusable };
        let intermediates = intermediates.get(..INTERMEDIATES_MAX).unwrap_or(intermediates);
        let check = |usage: KeyUsage| {
            let path =
                leaf.verify_for_usage(algorithms.all, &self.anchors, intermediates, now, usage, None, None);
            path.map(|_| ())
        };
        // Each purpose by itself: a chain must be good for one of them from its root to its leaf.
        let Err(as_server) = check(KeyUsage::server_auth()) else { return ChainVerdict::Good };
        let Err(as_client) = check(KeyUsage::client_auth()) else { return ChainVerdict::Good };
        match (&as_server, verdict_of(&as_server), verdict_of(&as_client)) {
            // What `openssl req -x509` makes: an authority that nobody knows, shown as if it were somebody's certificate.
            (Error::CaUsedAsEndEntity, ..) if facts(der).is_some_and(|facts| facts.self_signed) => {
                ChainVerdict::UnknownIssuer
            }
            (_, ChainVerdict::WrongPurpose, other) | (_, other, _) => other,
        }
    }
}

fn verdict_of(error: &Error) -> ChainVerdict {
    match error {
        Error::CertExpired { .. } => ChainVerdict::Expired,
        Error::CertNotValidYet { .. } => ChainVerdict::NotYetValid,
        Error::UnknownIssuer => ChainVerdict::UnknownIssuer,
        Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => ChainVerdict::WrongPurpose,
        _ => ChainVerdict::Unusable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_its_authorities_and_no_others_or_says_what_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        assert!(matches!(Authorities::read(&file), Err(TlsError::File { .. })));
        for nothing in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&file, nothing).unwrap();
            assert!(matches!(Authorities::read(&file), Err(TlsError::Authorities(_))), "{nothing}");
        }
        let made = rcgen::generate_simple_self_signed(vec!["ca.example".to_owned()]).unwrap();
        std::fs::write(&file, made.cert.pem().repeat(2)).unwrap();
        assert_eq!(Authorities::read(&file).unwrap().anchors.len(), 2);
        assert!(Authorities::public().anchors.len() > 100);
    }
}
