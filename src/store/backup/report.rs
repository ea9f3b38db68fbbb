//! What is asked of a backup and of a restore, and what came of it.

use super::reading::{BackupFinding, FINDINGS_MAX};
use crate::mail::Timestamp;
use crate::store::checkpoint::PublicKey;
use serde::Serialize;
use std::path::PathBuf;

/// What is copied where.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// The store.
    pub data_dir: PathBuf,
    /// The folder of the backup: missing, empty, or a backup of this store.
    pub dir: PathBuf,
    /// Where checkpoints are kept outside: they too tell how far the log must reach.
    pub checkpoint_dir: Option<PathBuf>,
}

/// How far a backup is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupProgress {
    /// Octets that were dealt with.
    pub octets: u64,
    /// All that are known of: content files are met as the log names them.
    pub octets_total: u64,
}

/// What was made.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BackupReport {
    /// Nothing that was read is damaged.
    pub whole: bool,
    /// When it was begun: all that was acknowledged before is in it, but for what is named as damaged or missing.
    pub began_at: Option<Timestamp>,
    /// How long it took.
    pub seconds: f64,
    /// Octets of the log that are in the backup, and in how many segments.
    pub log_octets: u64,
    /// See `log_octets`.
    pub segments: u64,
    /// Number of the last group of the log.
    pub sequence: u64,
    /// Octets that were written now: what the backup before had not.
    pub written_octets: u64,
    /// Messages received since the backup before, or in all.
    pub receipts: u64,
    /// Content files copied now.
    pub content_files: u64,
    /// Objects whose content was freed since, and that left the backup.
    pub freed_objects: u64,
    /// Octets of that content.
    pub freed_octets: u64,
    /// How much of what was read now is damaged.
    pub damaged: u64,
    /// The first of it.
    pub findings: Vec<BackupFinding>,
}

/// What is made of what.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// The backup, or a plain copy of a `data_dir`.
    pub dir: PathBuf,
    /// Where the store is to be: missing, or empty.
    pub data_dir: PathBuf,
    /// Where checkpoints are kept outside: they tell how far the original had come.
    pub checkpoint_dir: Option<PathBuf>,
    /// Restore what is damaged as it is.
    pub despite_damage: bool,
    /// Who does it.
    pub actor: String,
}

/// What is being done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestoreStage {
    /// Everything is hashed.
    #[default]
    Checking,
    /// It is copied.
    Copying,
    /// The index is made.
    Indexing,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestoreProgress {
    /// At this.
    pub stage: RestoreStage,
    /// Octets of that stage that were dealt with.
    pub octets: u64,
    /// All that are known of.
    pub octets_total: u64,
}

/// What was made.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RestoreReport {
    /// False when it was not, for what is damaged.
    pub restored: bool,
    /// True for a copy made by other means than `backup`.
    pub plain: bool,
    /// When the backup was begun: what was acknowledged before is here. Of a plain copy: of its newest checkpoint.
    pub backup_at: Option<Timestamp>,
    /// When the last message in it was received.
    pub received_until: Option<Timestamp>,
    /// Number of its last group.
    pub sequence: u64,
    /// Messages.
    pub receipts: u64,
    /// Octets of its log, and segments.
    pub log_octets: u64,
    /// See `log_octets`.
    pub segments: u64,
    /// Content files.
    pub content_files: u64,
    /// Octets behind the last whole group, which nobody was told of; left out.
    pub torn_octets: u64,
    /// So many groups were signed after the backup, as the newest checkpoint that is known says: mail in them is not here.
    pub missing_groups: u64,
    /// When that was signed.
    pub missing_until: Option<Timestamp>,
    /// What is wrong with checkpoints kept outside.
    pub outside_unread: Option<String>,
    /// UIDs left out in every folder.
    pub uids_skipped: u32,
    /// Part of the UIDLs of messages received from now on.
    pub epoch: u32,
    /// What signs checkpoints from now on.
    pub checkpoint_key: Option<PublicKey>,
    /// How much is damaged.
    pub damaged: u64,
    /// The first of it.
    pub findings: Vec<BackupFinding>,
    /// How long it took.
    pub seconds: f64,
}

impl RestoreReport {
    /// Adds damage that was found in what was restored beside the store, by others.
    pub fn add_damage(&mut self, place: String, what: String) {
        self.damaged += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(BackupFinding { place, what, receipts: Vec::new() });
        }
    }
}
