//! Who really sent a report: the verdict, what it rests on, and what the admin trusts.

use super::Network;
use serde::{Deserialize, Serialize};

/// Whether a message came from where the admin said reports come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Proven.
    Authentic,
    /// Neither proven nor contradicted.
    Unverified,
    /// The evidence contradicts it.
    Suspect,
}

impl Verdict {
    /// The name used in logs, metrics and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Authentic => "authentic",
            Verdict::Unverified => "unverified",
            Verdict::Suspect => "suspect",
        }
    }
}

/// What is done with a message that is not authentic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is delivered like any other; the verdict is recorded and shown.
    #[default]
    Observe,
    /// It is taken and kept in Quarantine alone.
    Enforce,
    /// As [`Mode::Enforce`]; a peer that could not make anything authentic is refused at RCPT.
    Strict,
}

impl CertificateWorth {
    /// The name used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            CertificateWorth::None => "none",
            CertificateWorth::Other => "other",
            CertificateWorth::False => "false",
            CertificateWorth::Exchange => "exchange",
            CertificateWorth::Pinned => "pinned",
        }
    }
}

impl Mode {
    /// The name used in commands and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Observe => "observe",
            Mode::Enforce => "enforce",
            Mode::Strict => "strict",
        }
    }
}

/// Who may deliver to a gateway mailbox, besides Exchange Online for its tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// What is done with the rest.
    #[serde(default)]
    pub mode: Mode,
    /// Peers in these are trusted for everything they say: relays, hybrid hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Network>,
    /// So are peers that prove to hold the key of one of these certificates: SHA-256 of the DER, in lower-case hex.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<String>,
}

/// What the header block of a report's wrapper says of where it comes from. Text that anybody can write: it counts only
/// together with who the peer is. Every occurrence, in order, unfolded, surrounding blanks and tabs trimmed and nothing
/// else, at most [`MARKS_MAX`] of a kind; one longer than [`MARK_CHARACTERS_MAX`] is cut, and ends in `…` to show it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginMarks {
    /// `X-OriginatorOrg`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub originator_orgs: Vec<String>,
    /// `X-LD-Processed`: the tenant's GUID and a mark.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ld_processed: Vec<String>,
    /// `Sender`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub senders: Vec<String>,
    /// There may be more than these, or fewer: the header block is longer than what is kept of it, or holds a lone CR, a lone
    /// LF or a NUL, so that two readers could find its end, or the end of a line, at different places.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unclear: bool,
}

/// Occurrences of one header field kept; one more than one is a contradiction already.
pub const MARKS_MAX: usize = 8;

/// Longest value of one kept, in characters: a domain has at most 253.
pub const MARK_CHARACTERS_MAX: usize = 256;

/// What the client certificate of the peer is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateWorth {
    /// None was shown, or no TLS was spoken.
    #[default]
    None,
    /// It does not name Exchange Online; whether it is in order makes no difference.
    Other,
    /// It names Exchange Online, but nobody who may vouches for it (expired, unknown issuer, wrong purpose), or the peer did
    /// not prove to hold its key.
    False,
    /// Exchange Online's.
    Exchange,
    /// One the admin pinned.
    Pinned,
}

/// What a verdict rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The range of Exchange Online the peer is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange_network: Option<Network>,
    /// The trusted network of the gateway mailbox the peer is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_network: Option<Network>,
    /// What its certificate is worth; the certificate itself is in the transport envelope.
    pub certificate: CertificateWorth,
    /// The puller that fetched it; then the three above say nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub puller: Option<String>,
    /// What the outermost header block says.
    pub outer: OriginMarks,
    /// What the wrapper says that an NDR returns, when the message is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned: Option<OriginMarks>,
}

/// The verdict on one message for one gateway mailbox, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, one sentence each, for people.
    pub reasons: Vec<String>,
    /// What it rests on.
    pub evidence: Evidence,
    /// The mode in force then.
    pub mode: Mode,
    /// It is kept in Quarantine alone because of the verdict.
    pub held_back: bool,
}
