//! Reads what was received: finds journal reports, the NDRs that hold them, and the originals inside.
//!
//! ```text
//! octets ─▶ Scanner (mime) ─▶ Scanned ─▶ extract (classify) ─▶ Extraction ─▶ inspect
//!            places, headers,              ndr: takes NDRs off
//!            the report text               journal: originals, renditions ─ report: the text's grammar
//!                                          capture: reports in the form of a delivery status
//! ```
//!
//! Pure: takes octets in chunks of any size and gives an [`Extraction`]; the cut into chunks never shows in it. It
//! never fails, never panics and never refuses mail: what it cannot read becomes a [`Defect`], and the message is kept
//! whole elsewhere.
//!
//! Invariants:
//! - Originals are *cut* by offset, never rebuilt: an [`Extent`] of the received octets, or of the decoded form of a
//!   part ([`DerivedObject`]), which [`Decoder`] makes again from the sealed source at any time.
//! - A marker inside an original is text that its sender may have written: it changes nothing about who gets that original. A
//!   report of Exchange's generator in there is read too; whether people are assigned by it `pipeline/place.rs` says: only where
//!   the admin merely observes.
//! - Only structure and markers classify; never a subject, a language, a From or a MAIL FROM.
//! - What hits a limit, or two readers could cut differently, goes to quarantine; it is never assigned by a guess.
//! - Work is linear in the octets, memory bounded by the limits named in [`mime`] and by the cap on recipients in `report.rs`.
//!
//! On disk: [`Part`] (MIME tree), [`MessageFacts`], and the input of the `join` digest ([`mod@join`]) are contracts;
//! so are the names of [`DefectKind`] and the JSON of [`inspect`].
//!
//! It does not know files, users, peers, transport envelopes or clocks, and logs nothing.

mod capture;
mod classify;
mod defect;
mod header;
mod header_envelope;
mod inspect;
pub mod join;
mod journal;
mod message;
pub mod mime;
mod ndr;
mod origin;
mod recipient;
mod report;
mod text;

pub use crate::mail::Part;
pub use crate::mail::transfer::{Decoder, Encoding};
pub use classify::{LAYERS_MAX, extract};
pub use defect::{Defect, DefectKind};
pub use header_envelope::{HeaderEnvelope, header_envelope};
pub use inspect::{add_header_envelope, inspect};
pub use join::join_prefix;
pub use mime::{Scanned, Scanner};

use crate::mail::{CanonicalSize, Class, Extent, JournaledEnvelope, OriginMarks, Rendition};
use serde::{Deserialize, Serialize};

/// Where a message belongs before any directory is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Destination {
    /// Envelope and original found: assign by the envelope.
    Assign,
    /// Kept under `Unassigned`: readable, but nobody to give it to.
    Unassigned,
    /// Kept whole in `Quarantine`: unreadable or ambiguous.
    Quarantine,
}

/// An object that is not a run of the received octets: the decoded form of an encoded part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DerivedObject {
    /// The encoded octets.
    pub source: Extent,
    /// How to decode them; see [`Decoder`].
    pub encoding: Encoding,
}

/// What a folder listing and a header search need of a message, without opening it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageFacts {
    /// Where the message lies.
    pub extent: Extent,
    /// `Message-ID` with its angle brackets, as written.
    pub message_id: Option<String>,
    /// Size in the form POP3 and IMAP send.
    pub canonical: CanonicalSize,
    /// Octets of the header block, the empty line included.
    pub header_octets: u64,
    /// The MIME tree with the header block of each part (sealed before it is stored: it holds subjects).
    pub structure: Part,
    /// The header part of the input of the `join` digest. See [`join_prefix`].
    pub join_prefix: Vec<u8>,
    /// Where the octets begin that follow it in that input: behind the header block; at 0 when it has no end.
    pub joined_from: u64,
}

/// One original message found in a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Original {
    /// Size, place, structure.
    pub facts: MessageFacts,
    /// Which copy it is.
    pub rendition: Rendition,
}

/// One journal report found, at any level of wrapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The wrapper's own `Message-ID`: new for every report, the same when a report is sent again.
    pub wrapper_message_id: Option<String>,
    /// Where the report lies: the wrapper as a whole.
    pub extent: Extent,
    /// `Subject:` of the report text, decoded. Never stored or logged in clear.
    pub subject: Option<String>,
    /// Who sent and who got the documented message.
    pub envelope: JournaledEnvelope,
    /// The attached originals, in order.
    pub originals: Vec<Original>,
    /// The first original that is no protected copy of one that is there in clear, else the first.
    pub primary: Option<usize>,
}

/// Everything found in one received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extraction {
    /// What it is.
    pub class: Class,
    /// The received message as a whole; its extent covers object 0.
    pub whole: MessageFacts,
    /// Reports, outermost first.
    pub reports: Vec<Report>,
    /// Decoded parts: object 1 and up, in the order of this list.
    pub derived: Vec<DerivedObject>,
    /// Where it belongs.
    pub destination: Destination,
    /// Message-ID of the original as the wrapper names it: all that is left when an NDR returns a header only.
    pub parent_message_id: Option<String>,
    /// Message-ID of the journal report whose header block alone came back in an NDR.
    pub returned_message_id: Option<String>,
    /// What the outermost header block says of where the message comes from.
    pub outer: OriginMarks,
    /// When an NDR returned a report, or the header block of one: what each message says that was taken off an NDR, the report's
    /// wrapper last. Never an original, nor what is inside one.
    pub returned: Vec<OriginMarks>,
    /// Faults found.
    pub defects: Vec<Defect>,
}

#[cfg(test)]
mod tests;
