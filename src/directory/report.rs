//! What the directory says of itself: how a sync went, how the sources stand, what waits for a person's word.
//!
//! These are values for commands (`--json`), the log and alarms. Nothing here acts.

use super::diff::Diff;
use super::filter::FilteredOut;
use super::plan::Alarm;
use super::snapshot::Conflict;
use super::source::{Skipped, SourceError};
use crate::mail::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a sync may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Put in force what was read, if the guard lets it.
    Apply,
    /// Change nothing, and say what would be done.
    DryRun,
}

/// Who asked for a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// Its time had come.
    Schedule,
    /// The program started, its settings were read again, or a file changed.
    Change,
    /// A person.
    Admin,
}

impl Trigger {
    /// The stable name used in logs and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Trigger::Schedule => "schedule",
            Trigger::Change => "change",
            Trigger::Admin => "admin",
        }
    }
}

/// Why a reading was not taken, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFault {
    /// [`SourceError::kind`], or `storage`: what was read cannot be kept, and nothing is in force that is not.
    pub kind: String,
    /// What happened.
    pub text: String,
    /// What to do, where something particular can be said.
    pub advice: Option<String>,
}

/// [`SourceFault::kind`] of what cannot be kept.
const STORAGE: &str = "storage";
/// That of [`SourceError::Unreadable`].
const UNREADABLE: &str = "unreadable";
/// That of [`SourceError::Refused`].
const REFUSED: &str = "refused";

impl SourceFault {
    /// Whether the disk is at fault and not the source.
    pub fn is_storage(&self) -> bool {
        self.kind == STORAGE
    }

    /// Whether a file could not be opened or read: for good, or for a moment, as with too many open files.
    pub(super) fn is_unreadable(&self) -> bool {
        self.kind == UNREADABLE
    }

    pub(super) fn torn(name: &str, of: &str) -> SourceFault {
        SourceFault {
            kind: "ambiguous".to_owned(),
            text: format!("{name} asks what {of} asked, and another source goes on with the users of that"),
            advice: Some(format!("keep the name {of} for one of them, or restart")),
        }
    }

    /// Whether the source let nobody in. See [`SourceError::Refused`].
    pub(super) fn is_refusal(&self) -> bool {
        self.kind == REFUSED
    }

    pub(super) fn storage(error: &std::io::Error) -> SourceFault {
        SourceFault {
            kind: STORAGE.to_owned(),
            text: format!("what was read cannot be kept on disk: {error}"),
            advice: Some("see to data_dir: free space, and its owner and rights".to_owned()),
        }
    }
}

impl From<&SourceError> for SourceFault {
    fn from(error: &SourceError) -> SourceFault {
        SourceFault {
            kind: error.kind().to_owned(),
            text: error.to_string(),
            advice: error.advice().map(str::to_owned),
        }
    }
}

impl fmt::Display for SourceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What came of a sync.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Outcome {
    /// The source says what is in force.
    Unchanged,
    /// What it says is in force now.
    Applied {
        /// Number of the snapshot that was made of it.
        snapshot: u64,
    },
    /// The change is too large to be believed: it waits for a person's word, and what was in force stays.
    Pending {
        /// What to call it: `daybook user sync --apply PLAN`.
        plan: String,
        /// Why it waits.
        why: Vec<Alarm>,
    },
    /// Dry run: it would be applied.
    WouldApply,
    /// Dry run: it would wait for a person's word.
    WouldBePending {
        /// Why.
        why: Vec<Alarm>,
    },
    /// It was not read, or could not be kept. What was in force stays.
    Failed(SourceFault),
}

impl Outcome {
    /// The stable name used in logs and JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Outcome::Unchanged => "unchanged",
            Outcome::Applied { .. } => "applied",
            Outcome::Pending { .. } => "pending",
            Outcome::WouldApply => "would-apply",
            Outcome::WouldBePending { .. } => "would-be-pending",
            Outcome::Failed(_) => "failed",
        }
    }

    /// Whether a person has to say yes first.
    pub fn needs_approval(&self) -> bool {
        matches!(self, Outcome::Pending { .. } | Outcome::WouldBePending { .. })
    }

    /// Why nothing was read.
    pub fn fault(&self) -> Option<&SourceFault> {
        match self {
            Outcome::Failed(fault) => Some(fault),
            _ => None,
        }
    }
}

/// How a sync of one source went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncReport {
    /// The source's name.
    pub source: String,
    /// `file`, `csv`, `ldap` or `graph`.
    pub kind: String,
    /// What it reads, for people.
    pub place: String,
    /// Who asked.
    pub by: Trigger,
    /// When it was over.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Requests or files it took.
    pub requests: u64,
    /// What came of it.
    pub outcome: Outcome,
    /// Users of this source in force before.
    pub users_before: usize,
    /// Users of it in force now; in a dry run, and while a plan waits, those that would be.
    pub users: usize,
    /// What is or would be another than before.
    pub diff: Diff,
    /// Who is in the directory and is no user, with the reason: the first [`FILTERED_LISTED_MAX`](super::FILTERED_LISTED_MAX),
    /// shared mailboxes before all others.
    pub filtered: Vec<FilteredOut>,
    /// Further ones.
    pub more_filtered: u64,
    /// Entries that cannot be used.
    pub skipped: Vec<Skipped>,
    /// Further ones.
    pub more_skipped: u64,
    /// Claims that were not granted, the first [`CONFLICTS_LISTED_MAX`](super::CONFLICTS_LISTED_MAX).
    pub conflicts: Vec<Conflict>,
    /// Further ones.
    pub more_conflicts: u64,
    /// What this sync found wrong with what is kept on disk, and could not keep there itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state_faults: Vec<StateFault>,
}

/// Something that is wrong with what a source keeps on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFault {
    /// Of what kind.
    pub kind: StateFaultKind,
    /// What, for people.
    pub text: String,
}

/// Kinds of [`StateFault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateFaultKind {
    /// A file cannot be read, or is not what was written, or is of a newer version.
    Damaged,
    /// A plan cannot be written.
    Unkept,
    /// A list was made while the clock was ahead.
    Clock,
}

/// Why nothing was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncRefusal {
    /// No source has this name. The asker's mistake.
    NoSuchSource(String),
    /// The source is being read already. Ask again in a while.
    Busy(String),
    /// No plan has this name: it was applied, or a later reading took its place. The asker's mistake.
    NoSuchPlan(String),
    /// What is in force has changed since the plan was made: what it would do is no longer what was shown.
    Outdated {
        /// The plan's name.
        plan: String,
        /// Number of the snapshot it was made against.
        base: u64,
        /// Number of the snapshot in force.
        in_force: u64,
    },
    /// There is no such snapshot, or none before the one in force. The asker's mistake.
    NoSuchSnapshot(String),
    /// The settings of the source changed meanwhile: what was read may not be what they ask for. Ask again.
    Superseded(String),
    /// It cannot be kept or read on disk. The operator's to mend; nothing has changed.
    Storage(String),
}

impl fmt::Display for SyncRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SyncRefusal::NoSuchSource(name) => write!(f, "there is no [[directory]] called {name}"),
            SyncRefusal::Busy(name) => write!(f, "{name} is being read already: ask again in a while"),
            SyncRefusal::NoSuchPlan(plan) => write!(
                f,
                "no plan {plan} is waiting: it was applied, or a later reading took its place; `daybook user plans` lists \
                 those that wait"
            ),
            SyncRefusal::Outdated { plan, base, in_force } => write!(
                f,
                "plan {plan} was made against snapshot {base}, and {in_force} is in force now: `daybook user sync` makes a new one"
            ),
            SyncRefusal::NoSuchSnapshot(which) => write!(f, "there is no snapshot {which} to go back to"),
            SyncRefusal::Superseded(name) => {
                write!(f, "the settings of {name} changed while it was read: ask again")
            }
            SyncRefusal::Storage(why) => write!(f, "the directory's state on disk: {why}"),
        }
    }
}

impl std::error::Error for SyncRefusal {}

/// A change that waits for a person's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanSummary {
    /// What to call it: `daybook user sync --apply PLAN`.
    pub plan: String,
    /// The source's name.
    pub source: String,
    /// When it was first read so.
    pub made_at: Timestamp,
    /// Number of the snapshot it was made against.
    pub base: u64,
    /// Why it waits.
    pub why: Vec<Alarm>,
    /// Users in force.
    pub users_before: usize,
    /// Users that would be.
    pub users: usize,
    /// What it would change.
    pub diff: Diff,
}

/// A list that was or is in force and can be gone back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSummary {
    /// Its number: each is one more than the one before it.
    pub number: u64,
    /// When it came in force.
    pub taken_at: Timestamp,
    /// Users in it.
    pub users: usize,
    /// What the source read then, for people.
    pub place: String,
    /// Whether it is in force.
    pub in_force: bool,
}

/// How a source stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// `file`, `csv`, `ldap` or `graph`.
    pub kind: String,
    /// What it reads, for people: a path, or a host and where in it.
    pub place: String,
    /// Users of it in force.
    pub users: usize,
    /// Users who are gone from it and whose addresses still lead to them.
    pub gone: usize,
    /// False when its last reading was not taken, or waits for a person's word: an older list is in force, or none. True also
    /// before the first.
    pub is_good: bool,
    /// When it was last read well.
    pub last_good: Option<Timestamp>,
    /// When it was last tried.
    pub last_try: Option<Timestamp>,
    /// What went wrong then.
    pub error: Option<SourceFault>,
    /// How often it failed since it was last read well.
    pub failures: u32,
    /// Number of the snapshot in force; 0 is none.
    pub snapshot: u64,
    /// Since when that is in force.
    pub taken_at: Option<Timestamp>,
    /// The change that waits for a person's word.
    pub pending: Option<PlanSummary>,
    /// Someone went back to an earlier list: a reading that differs from it waits for a person's word.
    pub held: bool,
    /// When it is asked next; `None` is only by hand, or when its file changes.
    pub next_due: Option<Timestamp>,
    /// What is wrong with the lists that were kept on disk.
    pub state_faults: Vec<String>,
    /// Shared mailboxes that filters left out at the last reading, as far as they are kept in mind.
    #[serde(default)]
    pub shared_dropped: usize,
}

/// What is known of an address from one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundAddress {
    /// The source's name.
    pub source: String,
    /// Id of the user, or of whoever was filtered out.
    pub id: String,
    /// For people.
    pub name: String,
    /// The address as the source wrote it.
    pub address: String,
    /// How it is theirs, or why not.
    #[serde(flatten)]
    pub claim: Claim,
    /// Whether mail of the time that was asked for goes to this user by this claim, or mail of now when none was: at most one is so.
    /// By what all sources say together; a gateway mailbox that some do not serve may give it to another.
    pub then: bool,
}

/// How an address stands to somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "claim", rename_all = "kebab-case")]
pub enum Claim {
    /// It is this user's.
    Owner {
        /// Since then; `None` is as long as the source is known.
        since: Option<Timestamp>,
    },
    /// It was this user's, or still is in the grace period.
    Former {
        /// From then on; `None` is as long as the source is known.
        from: Option<Timestamp>,
        /// When the directory ceased to name the user; what is after that is grace. `None` when it only took the address away.
        gone: Option<Timestamp>,
        /// Up to and without this moment.
        until: Timestamp,
    },
    /// The directory lists it for this user too, and another one keeps it.
    Refused {
        /// Id of the user who has it.
        kept_by: String,
    },
    /// The directory lists it for this user, who is left out: an earlier source has, or had, the id for another.
    LeftOut,
    /// It is in the directory, of somebody who is no user.
    FilteredOut {
        /// Why.
        reason: String,
    },
}

/// What a reload did, source by source, in the order of the configuration.
#[derive(Debug)]
pub struct ReloadReport {
    /// One for each source.
    pub sources: Vec<SourceReport>,
    /// They are in force. If not, other sources are, as before.
    pub taken: bool,
}

impl ReloadReport {
    /// True when every source that was read was read well.
    pub fn is_good(&self) -> bool {
        self.sources.iter().all(|source| source.error.is_none())
    }
}

/// What a reload did to one source.
#[derive(Debug)]
pub struct SourceReport {
    /// Its name.
    pub name: String,
    /// `file`, `csv`, `ldap` or `graph`.
    pub kind: &'static str,
    /// What it reads, for people.
    pub place: String,
    /// Users of it now in force. With an error: those of the last good list, 0 when there was none yet.
    pub users: usize,
    /// True when the list in force is another than before.
    pub changed: bool,
    /// Claims of its users that were not granted, because of another user here or in an earlier source.
    pub conflicts: Vec<Conflict>,
    /// Why it was not taken. The list in force before it stays.
    pub error: Option<SourceFault>,
    /// How reading it went; `None` of a source that was not read now: it is asked when it is due.
    pub sync: Option<SyncReport>,
    /// What is wrong with what is kept on disk.
    pub state_faults: Vec<StateFault>,
}
