//! Keeping: what was deleted can be had back for a while, what is older than a gateway mailbox keeps leaves, and what is under a
//! legal hold stays.
//!
//! ```text
//! a pass, every hour:  clock ─▶ expire (retention takes entries out) ─▶ free (what was deleted is past its grace)
//! ```
//! One thread, the keeper, makes the passes. It only asks: whether an entry may go is decided by the committer, in the
//! transaction in which it goes, over the holds and rules of that moment and the trusted clock ([`clock`]).

mod clock;
mod expire;
mod keeper;
mod rules;
mod undelete;

pub(super) use clock::{Clock, stand_still};
pub(super) use keeper::Keeper;
pub(super) use rules::{due, grace_ends, grace_is_over, is_held};
pub(super) use undelete::{recoverable, trust_clock, undelete};

use super::FolderName;
use crate::mail::{GatewayMailboxId, ReceiptId, Timestamp, Uid};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most entries that [`Store::undelete`](super::Store::undelete) brings back at once.
pub const UNDELETED_MAX: usize = 1_000;

/// How keeping stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepingStatus {
    /// The time by which mail leaves.
    pub trusted: Timestamp,
    /// Why nothing leaves, while the system's clock is not believed.
    pub paused: Option<ClockPause>,
    /// A pass is under way, or begins at once.
    pub running: bool,
    /// The last pass of this process.
    pub last: Option<KeptPass>,
}

/// The system's clock is more than seven days ahead of what time had reached, and nothing leaves until an admin says that it is
/// right, or until it is back; or the store was made of a backup, and nothing leaves until an admin says that it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockPause {
    /// What the system's clock said when that was first seen.
    pub since: Timestamp,
    /// What time had reached.
    pub trusted: Timestamp,
    /// What the system's clock says now.
    pub clock: Timestamp,
    /// The store was restored from a backup, and no admin has had it go on yet: whatever the clock says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restored: bool,
}

impl ClockPause {
    /// How far the system's clock is ahead, in whole days.
    pub fn days_ahead(&self) -> i64 {
        self.clock.unix_ms().saturating_sub(self.trusted.unix_ms()) / rules::DAY_MS
    }

    /// True when the store was restored, however old its backup is: it asks for more than a look at the clock.
    pub fn is_of_restore(&self) -> bool {
        self.restored
    }
}

/// One pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPass {
    /// When it began, by the trusted clock.
    pub at: Timestamp,
    /// When it ended, by the trusted clock.
    pub ended_at: Timestamp,
    /// Entries that retention took out.
    pub expired: u64,
    /// Deleted entries that can be had back no more.
    pub freed_entries: u64,
    /// Objects whose content was freed with them.
    pub freed_objects: u64,
    /// Octets of that content.
    pub freed_octets: u64,
    /// Entries that would have left, or could be had back no more, but for a legal hold.
    pub held: u64,
    /// Why it did not come to its end.
    pub error: Option<String>,
}

/// What was deleted from a folder and can be had back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recoverable {
    /// The folder.
    pub folder: FolderName,
    /// Its path.
    pub path: String,
    /// Entries.
    pub entries: u64,
    /// Their octets.
    pub octets: u64,
    /// When the first of them was deleted.
    pub oldest: Timestamp,
    /// When the last of them was deleted.
    pub newest: Timestamp,
    /// From when on, at the earliest, that one of them that was deleted first can be had back no more: a pass takes it, and only
    /// while the clock is believed. `None` while a legal hold keeps it.
    pub freed_from: Option<Timestamp>,
}

/// What is to be brought back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndeleteAsked {
    /// Of this gateway mailbox.
    pub gateway_mailbox: GatewayMailboxId,
    /// To this folder, from which it was deleted.
    pub folder: FolderName,
    /// What was deleted at that time or later.
    pub since: Timestamp,
    /// And no later than that, if at all: what was brought back and deleted again is not brought back by who goes on.
    pub until: Option<Timestamp>,
    /// At most so many entries, and never more than [`UNDELETED_MAX`].
    pub most: usize,
}

/// What was brought back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undeleted {
    /// In the order of the UIDs they had.
    pub entries: Vec<UndeletedEntryView>,
    /// Entries left out because retention would take them out at once; counted when there are no more to ask for.
    pub skipped_due: u64,
    /// True when there are more: ask again.
    pub more: bool,
}

/// An entry that was brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndeletedEntryView {
    /// The UID it had.
    pub of: Uid,
    /// The UID it has.
    pub uid: Uid,
    /// The receipt it came by.
    pub receipt_id: ReceiptId,
}

impl fmt::Display for ClockPause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the clock says {}, {} days ahead of {}: nothing leaves until it is confirmed",
            self.clock,
            self.days_ahead(),
            self.trusted
        )
    }
}
