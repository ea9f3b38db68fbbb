//! What a certificate says of itself: how long it is good, for which names, and who signed it.
//!
//! Read for people and alarms, not to trust anybody: nothing here checks a signature.

use crate::mail::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What stands in a certificate (RFC 5280).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Not valid before.
    pub not_before: Timestamp,
    /// Not valid after.
    pub not_after: Timestamp,
    /// The dNSName entries of its subjectAltName, in ASCII lower case, in order: what clients compare the host name with.
    pub dns_names: Vec<String>,
    /// Issuer and subject are the same: nobody vouches for it but itself.
    pub self_signed: bool,
}

/// Reads a certificate. `None` when it is not one that can be read.
pub fn facts(certificate: &CertificateDer<'_>) -> Option<CertificateFacts> {
    let (_, certificate) = X509Certificate::from_der(certificate.as_ref()).ok()?;
    let validity = certificate.validity();
    let at = |seconds: i64| Timestamp::from_unix_ms(seconds.saturating_mul(1_000));
    let names = certificate.subject_alternative_name().ok().flatten();
    let dns_names = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect();
    Some(CertificateFacts {
        not_before: at(validity.not_before.timestamp()),
        not_after: at(validity.not_after.timestamp()),
        dns_names,
        self_signed: certificate.subject() == certificate.issuer(),
    })
}

/// Who signed a certificate, as a distinguished name for people. `None` when it is not one that can be read.
pub fn issuer(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate.as_ref()).ok()?;
    Some(certificate.issuer().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(names: &[&str]) -> rcgen::CertificateParams {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = rcgen::CertificateParams::new(names).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2026, 1, 2);
        parameters.not_after = rcgen::date_time_ymd(2026, 4, 1);
        parameters
    }

    #[test]
    fn reads_validity_and_names() {
        let key = rcgen::KeyPair::generate().unwrap();
        let made = parameters(&["MX.example", "gateway.example", "192.0.2.1"]).self_signed(&key).unwrap();
        let facts = facts(made.der()).unwrap();
        assert_eq!(facts.not_before.to_string(), "2026-01-02T00:00:00.000Z");
        assert_eq!(facts.not_after.to_string(), "2026-04-01T00:00:00.000Z");
        assert_eq!(facts.dns_names, ["mx.example", "gateway.example"]);
        assert!(facts.self_signed);
    }

    #[test]
    fn one_that_another_signed_is_not_self_signed() {
        let (authority_key, key) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
        let mut authority = parameters(&[]);
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        authority.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let made = parameters(&["mx.example"]).signed_by(&key, &issuer).unwrap();
        assert!(!facts(made.der()).unwrap().self_signed);
        assert_eq!(super::issuer(made.der()).unwrap(), "CN=an authority");
    }

    #[test]
    fn what_is_no_certificate_has_no_facts() {
        assert_eq!(facts(&CertificateDer::from(b"0\x03\x02\x01".to_vec())), None);
    }
}
