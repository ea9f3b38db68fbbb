//! Who the users are: sources of users and addresses, what is in force of each, and the immutable snapshot that mail is matched
//! against.
//!
//! ```text
//!  users.toml · CSV · LDAP · Graph
//!        │ read, whole or not at all                     source/
//!        ▼
//!     Listing ─▶ who is a user? ─▶ whose is it? ─▶ what is another? ─▶ can that be believed?
//!                 filter             plan · holders     diff                plan
//!                                                                      yes │        │ no
//!                                          durable in state/, then in force ▼        ▼ a plan waits for a person's word
//!                                                         Roll: users, since when, who had it before
//!                                                                          │ the sources that serve a gateway mailbox
//!                                                                          ▼
//!                                                                       Snapshot ─▶ assign
//! ```
//! Each source serves some gateway mailboxes, or all. What is in force of the sources serving one is merged in the order of the
//! configuration into one [`Snapshot`]; gateway mailboxes served by the same sources share it. Whoever asks for a
//! snapshot keeps it for as long as it needs it: a sync puts new ones in place and changes none.
//!
//! Invariants:
//! - Mail never waits for the directory. At start the list that was in force is so again before any source was asked. A source
//!   that was never read has no users, and what would have been theirs is kept under Unassigned.
//! - What was not read to its end changes nothing. Neither does what cannot be kept on disk: a list is durable before it is in
//!   force, and the last ten can be gone back to ([`Directory::rollback`]).
//! - Nobody is taken away in numbers unasked. A reading in which too many users, their addresses or a whole domain are missing,
//!   or too many addresses are another user's, becomes a plan, and what was in force stays until a person says yes
//!   ([`Directory::apply_plan`]). This holds for a `users.toml`, too. Only a first reading has nothing to be measured by.
//! - A user is who the source's id says, whatever name and addresses become. Who is gone keeps addresses for the grace period.
//! - An address belongs to one user at a time: within a source whoever has it, then the first in its list. Every further claim is
//!   listed as a [`Conflict`].
//! - Between sources each moment is looked at by itself. Mail of then goes to the user of the first source in the configuration that
//!   named somebody for the address then, whoever had it longer; else to who was gone and kept it in a grace period, of the first
//!   such source; else to the first who has had it since. So a source that begins to name an address takes it at once from the
//!   user of a later source, who keeps the mail from before; at its first reading, all of it, as what that says counts as always
//!   so. The guard does not see this, which measures each source by itself alone; the conflict is listed.
//! - An id belongs to whoever the first source has it for, or had. Somebody of that id in a later source is left out, and listed,
//!   unless the first one is gone there and both have an address in common: who moves between sources takes the past along.
//! - Who had which address when is kept ([`Roll`]), so that a message goes to who had it when it was sent.
//! - A file is read twice as often as needed rather than half: a change counts only when two looks in a row
//!   see the same time, size and inode.
//! - One source is read once at a time, and nobody waits for it: neither mail nor another source nor whoever asks how things stand.
//!
//! `filter`, `plan`, `diff`, `holders`, `ids`, `roll`, `schedule`, `past` and [`mod@snapshot`] are pure; [`source`] and `state`
//! touch disk and network. This room knows no messages, and logs nothing: reports are returned to whoever asked for a sync.

mod adopt;
mod choose;
mod diff;
mod entry;
mod filter;
mod holders;
mod ids;
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
    SourceStatus, StateFault, StateFaultKind, SyncMode, SyncRefusal, SyncReport, Trigger,
};
pub use roll::{FORMER_MAX, Roll, Tenure};
pub use snapshot::{Conflict, Contested, Form, Found, Gone, ProxyAddress, Snapshot, User};
pub use source::{Candidate, CandidateKind, Listing, Skipped, Source, SourceError};
pub use state::{KeptCheck, SNAPSHOTS_KEPT, check_kept};
pub use sync::CONFLICTS_LISTED_MAX;
pub use x500::{is_encapsulated, is_x500};
