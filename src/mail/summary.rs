//! The summary of a received message: what a folder listing and a header search need, without opening whole messages.
//!
//! One object for each delivery, sealed like the messages (it holds subjects), JSON inside:
//!
//! ```json
//! {"v": 1, "messages": [{"sha256": "…", "octets": 1, "header_octets": 1, "canonical": {…}, "structure": {…}}]}
//! ```
//!
//! in the order of the delivery's messages. `structure` is the MIME tree with the header block of every part, from which
//! ENVELOPE and BODYSTRUCTURE follow without the message ([`Part`]). A message that could not be read has no structure.

use super::{CanonicalSize, Part};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Version of the summary.
const SUMMARY_VERSION: u32 = 1;

#[derive(Serialize)]
struct Written<'a> {
    v: u32,
    messages: &'a [MessageSummary<'a>],
}

/// Each message stays text until it is asked for: one of a report may be large, and the others with it.
#[derive(Deserialize)]
struct Found<'a> {
    v: u32,
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
}

/// The summary of one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageSummary<'a> {
    /// SHA-256 of the message's octets, in hex. Stands here and not in clear, so that nobody can test for a known message.
    pub sha256: String,
    /// Stored octets.
    pub octets: u64,
    /// Octets of its header block, the empty line included.
    pub header_octets: u64,
    /// Size as served.
    pub canonical: CanonicalSize,
    /// Its MIME tree; absent when it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structure: Option<Cow<'a, Part>>,
}

/// Why a summary cannot be read. It was written by another version, or is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SummaryError {
    /// Of a newer version.
    Newer(u32),
    /// Not a summary, or without this message.
    Unreadable(String),
}

impl fmt::Display for SummaryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SummaryError::Newer(version) => write!(f, "summary of version {version}"),
            SummaryError::Unreadable(why) => write!(f, "no summary: {why}"),
        }
    }
}

impl std::error::Error for SummaryError {}

impl MessageSummary<'_> {
    /// The octets to be sealed, of all messages of a delivery in their order.
    ///
    /// # Errors
    /// None that can be thought of; serialisation may fail by its signature.
    pub fn encode(messages: &[MessageSummary<'_>]) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Written { v: SUMMARY_VERSION, messages })
    }

    /// The summary of the message with this number from such octets.
    ///
    /// # Errors
    /// [`SummaryError`].
    pub fn decode(octets: &[u8], number: u32) -> Result<MessageSummary<'static>, SummaryError> {
        let unreadable = |e: serde_json::Error| SummaryError::Unreadable(e.to_string());
        let found: Found<'_> = serde_json::from_slice(octets).map_err(unreadable)?;
        if found.v > SUMMARY_VERSION {
            return Err(SummaryError::Newer(found.v));
        }
        let message = usize::try_from(number).ok().and_then(|number| found.messages.get(number));
        let message =
            message.ok_or_else(|| SummaryError::Unreadable(format!("there is no message {number}")))?;
        serde_json::from_str(message.get()).map_err(unreadable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_found_by_its_number() {
        let message = |octets| MessageSummary {
            sha256: "00".repeat(32),
            octets,
            header_octets: 1,
            canonical: CanonicalSize::default(),
            structure: (octets > 1).then(Cow::default),
        };
        let written = MessageSummary::encode(&[message(1), message(2)]).unwrap();
        assert_eq!(MessageSummary::decode(&written, 0).unwrap(), message(1));
        assert_eq!(MessageSummary::decode(&written, 1).unwrap(), message(2));
        for (octets, number) in [(written.as_slice(), 2), (b"{}", 0), (b"{\"v\":2,\"messages\":[]}", 0)] {
            assert!(MessageSummary::decode(octets, number).is_err());
        }
    }
}
