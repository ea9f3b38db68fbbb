//! The sealed summary: what a folder listing and a header search need, without opening whole messages.
//!
//! One object for each delivery, sealed like the messages (it holds subjects), JSON inside:
//!
//! ```json
//! {"v": 1, "messages": [{"sha256": "…", "octets": 1, "header_octets": 1, "canonical": {…}, "structure": {…}}]}
//! ```
//!
//! in the order of the delivery's messages. `structure` is the MIME tree with the header block of every part, from which
//! ENVELOPE and BODYSTRUCTURE follow without the message ([`crate::extract::Part`]). A message that could not be
//! read has no structure.

use crate::extract::{MessageFacts, Part};
use crate::mail::CanonicalSize;
use crate::store::Digest;
use serde::Serialize;

/// Version of the summary.
const SUMMARY_VERSION: u32 = 1;

#[derive(Serialize)]
struct Summary<'a> {
    v: u32,
    messages: Vec<MessageSummary<'a>>,
}

/// The summary of one message.
#[derive(Serialize)]
pub(super) struct MessageSummary<'a> {
    /// Of the message's octets. Stands here and not in clear, so that nobody can test for a known message.
    sha256: Digest,
    octets: u64,
    header_octets: u64,
    canonical: CanonicalSize,
    #[serde(skip_serializing_if = "Option::is_none")]
    structure: Option<&'a Part>,
}

impl<'a> MessageSummary<'a> {
    pub(super) fn of(facts: &'a MessageFacts, sha256: Digest) -> MessageSummary<'a> {
        MessageSummary {
            sha256,
            octets: facts.extent.octets,
            header_octets: facts.header_octets,
            canonical: facts.canonical,
            structure: Some(&facts.structure),
        }
    }

    pub(super) fn unread(octets: u64, canonical: CanonicalSize, sha256: Digest) -> MessageSummary<'static> {
        MessageSummary { sha256, octets, header_octets: 0, canonical, structure: None }
    }
}

/// The octets to be sealed.
pub(super) fn encode(messages: Vec<MessageSummary<'_>>) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Summary { v: SUMMARY_VERSION, messages })
}
