//! Who the users are: sources of users and addresses, and the immutable snapshot that mail is matched against.
//!
//! ```text
//! [[directory]] users.toml ─▶ file ─▶ list of users ┐
//! [[directory]] users.toml ─▶ file ─▶ list of users ┴▶ snapshot per set of sources ─▶ assign
//! ```
//! Each source serves some gateway mailboxes, or all. The sources serving one are merged in the order of the
//! configuration into one [`Snapshot`]; gateway mailboxes served by the same sources share it. Whoever asks for a
//! snapshot keeps it for as long as it needs it: a reload puts new ones in place and changes none.
//!
//! Invariants:
//! - Mail never waits for the directory. A source that cannot be read at start has no users, and what would have
//!   been theirs is kept under Unassigned until the list is mended.
//! - A list that is bad, empty or still being written never replaces a good one: an export that failed writes an
//!   empty file, and every user's mail would go astray. The old list stays and the [`ReloadReport`] says why.
//! - An address belongs to one user: the first that claims it. Every further claim is listed as a [`Conflict`].
//! - The file is read twice as often as needed rather than half: a change counts only when two looks in a row
//!   see the same time, size and inode.
//!
//! [`mod@snapshot`] is pure; [`source`] alone touches the disk. This room knows no messages, and logs nothing: reports
//! are returned to whoever asked for the reload.

mod choose;
mod diff;
mod entry;
mod filter;
mod holders;
mod live;
mod merged;
mod past;
mod plan;
mod report;
mod roll;
#[cfg(test)]
mod sample;
mod schedule;
pub mod snapshot;
pub mod source;
mod state;
mod sync;
mod x500;

pub use diff::{AddressChange, AddressMove, CHANGES_LISTED_MAX, Changes, Diff, Renamed, UserChange};
pub use filter::{FILTERED_LISTED_MAX, FilteredOut};
pub use live::{Directory, STATE_FOLDER};
pub use past::Held;
pub use plan::Alarm;
pub use report::{
    Claim, FoundAddress, Outcome, PlanSummary, ReloadReport, SnapshotSummary, SourceFault, SourceReport,
    SourceStatus, SyncMode, SyncRefusal, SyncReport, Trigger,
};
pub use roll::{FORMER_MAX, Roll, Tenure};
pub use snapshot::{Conflict, Contested, Form, Found, Gone, ProxyAddress, Snapshot, User};
pub use source::{Candidate, CandidateKind, Listing, Skipped, Source, SourceError};
pub use state::SNAPSHOTS_KEPT;
pub use sync::CONFLICTS_LISTED_MAX;
pub use x500::{is_encapsulated, is_x500};
