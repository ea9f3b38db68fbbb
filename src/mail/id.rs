//! Identifiers that appear in logs, replies and on disk.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use uuid::Uuid;

/// A text that is not an identifier of the wanted kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdError;

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a valid identifier")
    }
}

impl std::error::Error for IdError {}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes one from the time in milliseconds since 1970 and ten random octets (uuid v7, RFC 9562 §5.7).
            pub fn new(unix_ms: u64, random: [u8; 10]) -> $name {
                $name(uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid())
            }

            /// From its sixteen octets, as [`Self::as_bytes`] gives them.
            pub fn from_bytes(octets: [u8; 16]) -> $name {
                $name(Uuid::from_bytes(octets))
            }

            /// The sixteen octets, most significant first.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<$name, IdError> {
                Uuid::parse_str(text).map($name).map_err(|_| IdError)
            }
        }
    };
}

uuid_id! {
    /// Names one SMTP transaction for ever: returned in the 250, in every log line, in the store.
    ReceiptId
}

uuid_id! {
    /// Names one client connection in the log.
    SessionId
}

uuid_id! {
    /// Names a gateway mailbox; unlike its address it never changes.
    GatewayMailboxId
}

/// An IMAP UID: rises within a folder, never reused (RFC 9051 §2.3.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uid(pub NonZeroU32);

impl Uid {
    /// The first UID of a new folder.
    pub const FIRST: Uid = Uid(NonZeroU32::MIN);

    /// `None` for 0, which is not a UID.
    pub fn new(value: u32) -> Option<Uid> {
        NonZeroU32::new(value).map(Uid)
    }

    /// The number itself.
    pub fn value(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A folder's UIDVALIDITY (RFC 9051 §2.3.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UidValidity(pub NonZeroU32);

impl UidValidity {
    /// `None` for 0, which is not a UIDVALIDITY.
    pub fn new(value: u32) -> Option<UidValidity> {
        NonZeroU32::new(value).map(UidValidity)
    }

    /// The number itself.
    pub fn value(self) -> u32 {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipt_ids_are_version_7_sort_by_time_and_round_trip() {
        let early = ReceiptId::new(1_000, [0xff; 10]);
        let late = ReceiptId::new(1_001, [0; 10]);
        assert!(early < late);
        assert_eq!(late.to_string().as_bytes()[14], b'7');
        assert_eq!(late.to_string().parse(), Ok(late));
        assert_eq!("not-one".parse::<ReceiptId>(), Err(IdError));
    }
}
