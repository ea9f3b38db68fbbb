//! Backups: a copy of all that is stored, made while it takes mail; and a store made of one again.
//!
//! A backup is laid out as a `data_dir`, without what can be made anew:
//!
//! ```text
//! DIR/
//!   backup.json            written last: how far the log was copied, and when        (manifest.rs)
//!   backup.lock            held while somebody writes here
//!   log/NNNNNNNN.seg       up to a whole group; holes stay holes; or NNNNNNNN.entries, as in the store
//!   content/xx/….age       those that entries of that log name
//!   keys/, tls/            wrapped keyrings, the key of checkpoints, a certificate made here
//!   checkpoints*.jsonl     taken before the log, so that the log must reach as far as they say
//!   closed-gaps.json …     what is known of the store besides                       (SMALL_FILES in small.rs)
//!   pull/                  taken before the log, which has what they call fetched              (beside.rs)
//!   directory/             lists of users, and whose an address was when                        (beside.rs)
//! ```
//!
//! **Making one** (making.rs) needs no key, no lock of the store, and nothing from its server. What is acknowledged when it begins
//! is in it: a message is acknowledged when its group is whole and durable, and the log is copied up to its last whole group
//! after that. Segments only grow, so the next backup into the same folder copies what was added, once the chain says that the
//! folder holds a beginning of the same log. Keyrings are read between two looks at the log, until they were the same before
//! and behind: what an entry says of a keyring and the keyring are from one time.
//!
//! While it is made nothing is freed: it holds `freeing.lock` shared, and whoever frees content takes it alone. What was freed since
//! the last time is taken out of the backup too, once `backup.json` says that the entry which frees it is there. Till it is written
//! nothing of the backup before is taken away: its log ends where it ended, and keyrings that are others now lie beside (small.rs).
//! Content in the log is copied as it is, and hashed by a restore and by `verify`; content files are hashed as they are copied.
//!
//! **Making a store of one** (restoring.rs): everything is hashed first, and nothing is made of what is damaged unless that is
//! asked for. Then it is copied into an empty `data_dir`, the index is made, and one entry says that the store goes on from a
//! backup: every folder leaves [`UIDS_SKIPPED`] UIDs out, the epoch in UIDLs is another, and the numbers of groups step ahead
//! (log/stepping.rs). What the original gave out since the backup, UIDs, UIDLs, signed checkpoints, is never given out for anything
//! else. Two restores of one backup give out the same UIDs, under the same UIDVALIDITY, and never the same UIDL: no IMAP client may
//! be shown both. Its retention is paused until an admin has it go on, since holds and rules set after the backup are not there.
//! Checkpoints are signed by a new key from there on, which names the one before: the original may still be running, and share
//! a `checkpoint_dir` with what was restored only to try it.
//!
//! Neither a backup nor a half-restored `data_dir` is opened as a store ([`refuse_unrestored`]).

mod beside;
mod content;
mod copying;
mod hashing;
mod leaving;
mod making;
mod manifest;
mod places;
mod reading;
mod report;
mod restoring;
mod small;
#[cfg(test)]
mod tests;

pub use making::backup;
pub(super) use manifest::{is_backup, refuse_unrestored};
pub use reading::BackupFinding;
pub use report::{
    BackupOptions, BackupProgress, BackupReport, RestoreOptions, RestoreProgress, RestoreReport, RestoreStage,
};
pub use restoring::restore;

/// UIDs left out in every folder of a restored store: more than the original can have given out since the backup, at a hundred
/// messages a minute for a week.
const UIDS_SKIPPED: u32 = 1 << 20;
