//! TLS towards a server of the operator's: who it must prove to be, and in plain words why it could not.

use super::authorities::Authorities;
use super::certificate;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Names of a certificate that are told; it may hold hundreds.
const NAMES_TOLD_MAX: usize = 5;

/// Why no TLS came about with a server.
#[derive(Debug)]
pub enum TlsRefused {
    /// It did not prove to be the one that was meant. The operator's to mend, here or there.
    Certificate {
        /// What is wrong, with what it showed.
        why: String,
        /// Nobody vouches for it whom we believe: the remedy is to name its authority.
        unknown_issuer: bool,
    },
    /// The name asked for is no host name or IP address.
    Name,
    /// It speaks no TLS, none that we take, or broke off.
    Handshake(io::Error),
}

impl fmt::Display for TlsRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsRefused::Certificate { why, .. } => f.write_str(why),
            TlsRefused::Name => f.write_str("no host name that a certificate could be for"),
            TlsRefused::Handshake(error) => write!(f, "no TLS came about: {error}"),
        }
    }
}

impl std::error::Error for TlsRefused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TlsRefused::Handshake(error) => Some(error),
            TlsRefused::Certificate { .. } | TlsRefused::Name => None,
        }
    }
}

/// Begins TLS with `host`, a name or an IP address, for whom one of `authorities` must vouch. Sets no time limit.
///
/// # Errors
/// [`TlsRefused`].
pub async fn connect<S>(stream: S, host: &str, authorities: &Authorities) -> Result<TlsStream<S>, TlsRefused>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsRefused::Name)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots = Arc::new(RootCertStore { roots: authorities.anchors().to_vec() });
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
    let verifier = verifier.map_err(|error| TlsRefused::Handshake(io::Error::other(error)))?;
    let remembering = Arc::new(Remembering { verifier, shown: Mutex::new(None) });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsRefused::Handshake(io::Error::other(error)))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&remembering) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    connected.map_err(|error| refused(error, host, &remembering))
}

fn refused(error: io::Error, host: &str, remembering: &Remembering) -> TlsRefused {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(fault)) = inner else { return TlsRefused::Handshake(error) };
    let shown = remembering.shown.lock().unwrap_or_else(PoisonError::into_inner).take();
    let shown = shown.as_ref();
    let facts = shown.and_then(certificate::facts);
    let names = facts.as_ref().map(|facts| facts.dns_names.as_slice()).unwrap_or_default();
    let more = if names.len() > NAMES_TOLD_MAX { ", …" } else { "" };
    let told = names.get(..NAMES_TOLD_MAX).unwrap_or(names);
    let names =
        if told.is_empty() { "no host name".to_owned() } else { format!("{}{more}", told.join(", ")) };
    let issuer = shown.and_then(certificate::issuer).unwrap_or_else(|| "nobody it names".to_owned());
    // An authority that was renewed with the name it had signs with another key.
    let unknown_issuer = matches!(fault, CertificateError::UnknownIssuer | CertificateError::BadSignature);
    let why = match fault {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("its certificate is for {names}, not for {host}")
        }
        _ if unknown_issuer => {
            format!("nobody trusted vouches for its certificate: it is for {names}, issued by {issuer}")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            let until = facts.map(|facts| format!(" since {}", facts.not_after)).unwrap_or_default();
            format!("its certificate has expired{until}: it is for {names}, issued by {issuer}")
        }
        other => format!("its certificate, for {names}, issued by {issuer}, is not taken: {other}"),
    };
    TlsRefused::Certificate { why, unknown_issuer }
}

/// Verifies as ever, and keeps the certificate that was shown, to tell of it.
#[derive(Debug)]
struct Remembering {
    verifier: Arc<WebPkiServerVerifier>,
    shown: Mutex<Option<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Remembering {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown.clone().into_owned());
        self.verifier.verify_server_cert(shown, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
