//! The wall clock, as log lines and receipts show it.

use crate::mail::Timestamp;
use std::time::{SystemTime, UNIX_EPOCH};

/// The time now. A clock set before 1970 gives 1970.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
