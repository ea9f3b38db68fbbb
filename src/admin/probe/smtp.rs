//! SMTP with STARTTLS, as Exchange speaks it (RFC 5321, 3207).

use super::{ANSWER_WAIT, first_of};
use crate::mail::ReceiptId;
use lettre::address::Envelope;
use lettre::transport::smtp::client::{CertificateStore, SmtpConnection, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use rustls::pki_types::CertificateDer;
use std::io;
use std::net::SocketAddr;

/// A session over TLS.
pub(crate) struct Smtp {
    connection: SmtpConnection,
}

impl Smtp {
    /// Connects and begins TLS, whatever certificate is shown.
    ///
    /// # Errors
    /// Nobody is there, or what is there does not speak SMTP with STARTTLS.
    pub(crate) fn connect(address: SocketAddr, host: &str) -> io::Result<Smtp> {
        let tls = TlsParameters::builder(host.to_owned())
            .certificate_store(CertificateStore::None)
            // Which certificate it must be is for the caller, who knows its octets.
            .dangerous_accept_invalid_certs(true)
            .dangerous_accept_invalid_hostnames(true)
            .build()
            .map_err(io::Error::other)?;
        let hello = ClientId::Domain(host.to_owned());
        let mut connection = first_of(address, |address| {
            SmtpConnection::connect(address, Some(ANSWER_WAIT), &hello, None, None).map_err(io::Error::other)
        })?;
        connection.starttls(&tls, &hello).map_err(io::Error::other)?;
        Ok(Smtp { connection })
    }

    /// The certificate shown.
    ///
    /// # Errors
    /// There was none.
    pub(crate) fn certificate(&self) -> io::Result<CertificateDer<'static>> {
        self.connection.peer_certificate().map(CertificateDer::from).map_err(io::Error::other)
    }

    /// Sends one message, whose lines and end are CRLF, from the null path as NDRs come; gives the receipt id of the 250.
    ///
    /// # Errors
    /// The answer, if it was another; then the session is at its end.
    pub(crate) fn send(&mut self, to: &str, message: &[u8]) -> io::Result<ReceiptId> {
        let to = to.parse().map_err(io::Error::other)?;
        let envelope = Envelope::new(None, vec![to]).map_err(io::Error::other)?;
        // The client ends every body with a CRLF of its own.
        let body = message.strip_suffix(b"\r\n").unwrap_or(message);
        let response = self.connection.send(&envelope, body).map_err(io::Error::other)?;
        let text: Vec<&str> = response.message().collect();
        let text = text.concat();
        let receipt_id = text.rsplit(' ').next().and_then(|id| id.parse().ok());
        receipt_id.ok_or_else(|| io::Error::other(format!("the answer names no receipt: {text}")))
    }

    /// Ends the session in good order. What was sent is taken already.
    pub(crate) fn quit(mut self) {
        drop(self.connection.quit());
    }
}
