//! The two envelopes: the one that carried a report to us, and the one recorded inside it.

use super::{Address, AddressKey, SessionId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;

/// The path of a MAIL command (RFC 5321 §4.1.2). Every NDR carries the null one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReversePath {
    /// `<>`
    Null,
    /// `<address>`
    Address(Address),
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReversePath::Null => Ok(()),
            ReversePath::Address(address) => address.fmt(f),
        }
    }
}

impl Serialize for ReversePath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ReversePath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<ReversePath, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(ReversePath::Null);
        }
        Ok(ReversePath::Address(Address::stored(text)))
    }
}

/// What is known of the TLS session a message came over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: String,
    /// The IANA name of the cipher suite.
    pub cipher: String,
    /// The certificate the peer showed; most show none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificate>,
}

/// A certificate the peer showed in the handshake. It is never required, and what is wrong with it is recorded, not
/// refused: whoever changes a certificate at Microsoft must not stop the mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientCertificate {
    /// SHA-256 of the leaf's DER, in lower-case hex.
    pub sha256: String,
    /// The dNSName entries of its subjectAltName, in ASCII lower case, the first of them.
    pub dns_names: Vec<String>,
    /// Whether somebody we know vouches for it.
    pub chain: ChainVerdict,
    /// The peer signed the handshake with its key.
    pub proven: bool,
}

/// What checking a certificate chain against the roots gave (RFC 5280 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChainVerdict {
    /// A root we know vouches for it, for use by a client or by a server: public authorities no longer issue for clients.
    Good,
    /// Its time, or that of a certificate above it, is over.
    Expired,
    /// Its time has not begun.
    NotYetValid,
    /// No root we know stands above it.
    UnknownIssuer,
    /// It is good for neither clients nor servers.
    WrongPurpose,
    /// It cannot be read, or breaks another rule.
    Unusable,
}

impl ChainVerdict {
    /// The name used in logs and output.
    pub fn as_str(self) -> &'static str {
        match self {
            ChainVerdict::Good => "good",
            ChainVerdict::Expired => "expired",
            ChainVerdict::NotYetValid => "not-yet-valid",
            ChainVerdict::UnknownIssuer => "unknown-issuer",
            ChainVerdict::WrongPurpose => "wrong-purpose",
            ChainVerdict::Unusable => "unusable",
        }
    }
}

/// How a message was fetched from an account elsewhere. The server was the one configured: its certificate was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulled {
    /// Name of the puller.
    pub by: String,
    /// Name of the server, as in its certificate.
    pub host: String,
    /// `imaps` or `pop3s`.
    pub protocol: String,
}

/// How a message reached us: peer, greeting, TLS and the paths of the SMTP transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportEnvelope {
    /// The SMTP session the transaction belongs to; of a message that was pulled, the session that fetched it.
    pub session_id: SessionId,
    /// Address and port of the peer.
    pub peer: SocketAddr,
    /// The name the peer gave in EHLO or HELO. Unverified. Of a message that was pulled, the name of the server.
    pub helo: String,
    /// `None` when the session was not encrypted.
    pub tls: Option<TlsFacts>,
    /// MAIL FROM.
    pub reverse_path: ReversePath,
    /// Every accepted RCPT TO, in order.
    pub recipients: Vec<Address>,
    /// SMTPUTF8 was asked for (RFC 6531).
    pub smtputf8: bool,
    /// It was fetched from an account elsewhere: no SMTP peer brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulled: Option<Box<Pulled>>,
}

/// An address as a journal report wrote it, without angle brackets: SMTP, `[EX:…]`, or empty for the null path.
///
/// Reports hold addresses no SMTP server would take (X.500 names, encapsulated ones); they must survive as
/// written, so this is not an [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WrittenAddress(pub String);

impl WrittenAddress {
    /// True for the null reverse path.
    pub fn is_null(&self) -> bool {
        self.0.is_empty()
    }

    /// What this address is compared by.
    pub fn key(&self) -> AddressKey {
        AddressKey::of(&self.0)
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The field a recipient line was written with (MS-XJRNL recipient-p2-type).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RecipientField {
    /// `To:`
    To,
    /// `Cc:`
    Cc,
    /// `Bcc:`
    Bcc,
    /// `Recipient:`, used when Exchange does not trust the header addressing. Says nothing about To, Cc or Bcc.
    #[serde(rename = "Recipient")]
    Unspecified,
}

/// Why a recipient got the message although it was not addressed directly.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Redirection {
    /// Member of this group.
    Expanded(WrittenAddress),
    /// This user's mail is forwarded to the recipient.
    Forwarded(WrittenAddress),
}

/// One recipient line of a journal report.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JournaledRecipient {
    /// Which field named it.
    pub field: RecipientField,
    /// Who the message was delivered to.
    pub address: WrittenAddress,
    /// Through which group or forwarding user, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirection: Option<Redirection>,
}

/// The header fields that named an envelope's addresses, where no report did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HeaderSource {
    /// The one that named the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// Those that named the recipients, in their order, each with how many it named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<(String, u32)>,
}

/// What a journal report says about the message it documents; or, of plain mail, what trusted header fields say about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournaledEnvelope {
    /// `Sender:`; `None` when the report names none, empty for the null path.
    #[serde(default)]
    pub sender: Option<WrittenAddress>,
    /// `On-Behalf-Of:`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<WrittenAddress>,
    /// `Message-ID:` with its angle brackets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// `Label:`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// `Mailbox:`, the owner of the journaled copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<WrittenAddress>,
    /// `SentUtc:` or `Sent:`, as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<String>,
    /// `ReceivedUtc:` or `Received:`, as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<String>,
    /// Every recipient line, in order.
    #[serde(default)]
    pub recipients: Vec<JournaledRecipient>,
    /// Where the addresses stand, when it is no report that names them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<HeaderSource>,
}

impl JournaledEnvelope {
    /// Every recipient line, with the header field that named it, if one did.
    pub fn recipients_with_headers(&self) -> impl Iterator<Item = (&JournaledRecipient, Option<&str>)> {
        let named = self.headers.iter().flat_map(|headers| &headers.recipients);
        let named = named.flat_map(|(name, count)| (0..*count).map(|_| Some(name.as_str())));
        self.recipients.iter().zip(named.chain(std::iter::repeat(None)))
    }

    /// True when the report named nobody at all: there is no envelope to assign by.
    pub fn is_empty(&self) -> bool {
        self.sender.is_none() && self.on_behalf_of.is_none() && self.recipients.is_empty()
    }

    /// Every address the report names, groups and forwarding users included.
    pub fn participants(&self) -> impl Iterator<Item = &WrittenAddress> {
        let recipients = self.recipients.iter().flat_map(|r| {
            let via = r.redirection.as_ref().map(|via| match via {
                Redirection::Expanded(group) => group,
                Redirection::Forwarded(user) => user,
            });
            std::iter::once(&r.address).chain(via)
        });
        self.sender.iter().chain(&self.on_behalf_of).chain(&self.owner).chain(recipients)
    }
}
