//! The vocabulary every other room speaks: addresses, envelopes, identifiers, sizes, classes.
//!
//! Values only. Nothing here reads a clock, draws randomness or does I/O: both are arguments, so that every
//! room built on these types can be tested with fixed inputs. This room imports no other.
//!
//! How a header block is read ([`header`]) and a body decoded ([`transfer`]) is the same for those who take reports apart and those
//! who serve mail, so it stands here.
//!
//! Two envelopes exist and are never mixed: the [`TransportEnvelope`] carried a report to us over SMTP, the
//! [`JournaledEnvelope`] is what the report says about the message it documents. Who gets a message is decided
//! by the second; which gateway mailbox it belongs to by the first.

mod address;
mod envelope;
mod flags;
mod gateway;
pub mod header;
mod id;
mod message;
mod network;
mod part;
mod summary;
mod timestamp;
pub mod transfer;
mod untrusted;
mod verdict;
mod written_time;

pub use address::{Address, AddressError, AddressKey};
pub use envelope::{
    ChainVerdict, ClientCertificate, HeaderSource, JournaledEnvelope, JournaledRecipient, Pulled,
    RecipientField, Redirection, ReversePath, TlsFacts, TransportEnvelope, WrittenAddress,
};
pub use flags::{FlagChange, Flags};
pub use gateway::{
    ENVELOPE_HEADERS_MAX, EnvelopeHeaders, FetchRules, FormerKey, GRACE_DAYS_DEFAULT, GatewayAddress,
    GatewayMailbox, GatewayMailboxState, HOLD_REASON_CHARACTERS_MAX, HOLDS_MAX, Hold, KEYS_MAX, Keeping,
    Maildrop, Profile, Role, SELF_TEST_NAME,
};
pub use id::{GatewayMailboxId, IdError, ReceiptId, SessionId, Uid, UidValidity};
pub use message::{CanonicalSize, Class, Extent, NOTICE_ID_BEGINNING, Rendition, UserFolder};
pub use network::{Network, NetworkError};
pub use part::{Part, assemble};
pub use summary::{MessageSummary, SummaryError};
pub use timestamp::Timestamp;
pub use untrusted::Untrusted;
pub use verdict::{
    CertificateWorth, Evidence, Judgement, MARK_CHARACTERS_MAX, MARKS_MAX, Mode, OriginMarks, Trust, Verdict,
};
pub use written_time::written_times;
