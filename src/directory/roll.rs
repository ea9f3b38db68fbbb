//! What is in force of one source, over time: who its users are, since when addresses are theirs, and whose they were before.
//!
//! ```text
//! address   ────[ Ann, until 10 May ]────[ Bob, from 10 May ]──────────▶ time
//! ```
//! A message belongs to whoever had the address when it was sent, so what ended is kept, and whoever is gone keeps an address to
//! the end of the grace period: until then lies in the future.

use super::snapshot::User;
use crate::mail::{AddressKey, Timestamp};
use std::collections::HashMap;
use std::sync::Arc;

/// Addresses that were somebody's which one source keeps in mind; the oldest are forgotten first.
pub const FORMER_MAX: usize = 1_000_000;

/// One source's users and what is known of the past.
#[derive(Clone, Debug, Default)]
pub struct Roll {
    /// Those it names now, in its order.
    pub users: Vec<Arc<User>>,
    /// Since when an address is its present owner's, where that is known: those that were already so when the source was first
    /// read are not here, and count as if they always had been.
    pub began: HashMap<AddressKey, Timestamp>,
    /// What was somebody's and has ended, or will: of a user who is gone, at the end of the grace period.
    pub former: Vec<Tenure>,
}

/// That somebody had an address for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// As the source wrote it.
    pub address: String,
    /// Who, as last known.
    pub user: Arc<User>,
    /// From then on; `None` is as long as the source is known.
    pub from: Option<Timestamp>,
    /// When the source ceased to name the user; what is after that is grace. `None` when it only lost the address.
    pub gone: Option<Timestamp>,
    /// Up to and without this moment.
    pub until: Timestamp,
}

impl Tenure {
    /// Whether the address was this user's then.
    pub fn covers(&self, at: Timestamp) -> bool {
        at < self.until && self.from.is_none_or(|from| from <= at)
    }
}
