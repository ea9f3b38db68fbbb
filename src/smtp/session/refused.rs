//! Messages that were refused for good and may have been reports.

use crate::mail::ReceiptId;
use crate::smtp::data::Defect;
use crate::smtp::reply::Outcome;

/// A message that was refused for good after a recipient had been accepted, or to a favoured peer. It may be a report that
/// nobody will bring again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedBody {
    /// The transaction; none when it was refused at MAIL.
    pub receipt_id: Option<ReceiptId>,
    /// What was wrong with it.
    pub reason: RefusedReason,
    /// Its octets, as far as they were read, announced or declared.
    pub octets: u64,
}

/// Why a message was refused for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedReason {
    /// A bare CR, bare LF or NUL in DATA: the first that was met.
    Octet(Defect),
    /// Over the limit.
    TooLarge,
    /// Declared over the limit at MAIL. Of favoured peers only: anybody can declare anything.
    DeclaredSize,
    /// Octets came behind DATA before it was answered.
    Pipelined,
    /// The size of a chunk could not be read.
    ChunkSize,
    /// A parameter of MAIL or RCPT that is not offered.
    Parameter,
}

impl RefusedReason {
    /// The name used in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            RefusedReason::Octet(Defect::BareCr) => "bare-cr",
            RefusedReason::Octet(Defect::BareLf) => "bare-lf",
            RefusedReason::Octet(Defect::Nul) => "nul",
            RefusedReason::TooLarge => "too-large",
            RefusedReason::DeclaredSize => "declared-size",
            RefusedReason::Pipelined => "pipelined",
            RefusedReason::ChunkSize => "chunk-size",
            RefusedReason::Parameter => "parameter",
        }
    }

    /// Of a reply that refuses a message for good; of others there is none.
    pub(super) fn of(outcome: Outcome, defect: Option<Defect>) -> Option<RefusedReason> {
        match (outcome, defect) {
            (Outcome::BareLineEnd, Some(defect)) => Some(RefusedReason::Octet(defect)),
            (Outcome::MessageTooLarge, _) => Some(RefusedReason::TooLarge),
            (Outcome::Pipelined, _) => Some(RefusedReason::Pipelined),
            (Outcome::BadChunkSize, _) => Some(RefusedReason::ChunkSize),
            (Outcome::BadParameter | Outcome::BinaryMimeNotOffered, _) => Some(RefusedReason::Parameter),
            _ => None,
        }
    }
}
