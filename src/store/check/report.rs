//! What `daybook verify` tells.

use crate::mail::{ReceiptId, Timestamp};
use serde::Serialize;

/// Findings that are listed; all are counted.
pub(super) const FINDINGS_MAX: usize = 1_000;

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// What was freed, or taken out by retention, although it was needed, held or not due.
    Freed,
    /// The log: entries, or what holds them together.
    Log,
    /// Sealed content, in the log or in a file of its own.
    Content,
    /// A file of a wrapped keyring.
    Key,
    /// A checkpoint, or what one says of the log.
    Checkpoint,
    /// A small file of state.
    State,
    /// A list of users, or a change of one that waits for a person's word.
    Directory,
    /// The index, which can be made anew.
    Index,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifyFinding {
    /// What it is about.
    pub kind: FindingKind,
    /// False for what is only worth knowing.
    pub damage: bool,
    /// Relative to `data_dir`: `log/00000003.seg at 8123`.
    pub place: String,
    /// Octets that are touched; 0 when that cannot be told.
    pub octets: u64,
    /// What is wrong.
    pub what: String,
    /// Transactions whose mail is touched.
    pub receipts: Vec<ReceiptId>,
    /// Entries in folders whose message is touched.
    pub entries: Vec<FolderEntry>,
}

impl VerifyFinding {
    fn beside(kind: FindingKind, damage: bool, place: String, what: String) -> VerifyFinding {
        VerifyFinding { kind, damage, place, octets: 0, what, receipts: Vec::new(), entries: Vec::new() }
    }
}

/// An entry in a folder, as a client knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct FolderEntry {
    /// Login of the gateway mailbox.
    pub gateway_mailbox: String,
    /// Path of the folder.
    pub folder: String,
    /// UID in it.
    pub uid: u32,
}

/// The end of a file that counts for nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unused {
    /// Relative to `data_dir`.
    pub file: String,
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub octets: u64,
}

/// Content that nothing needs any more, and that was freed: the entries that tell of it stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FreedContent {
    /// So many objects.
    pub objects: u64,
    /// Octets they had, sealed.
    pub octets: u64,
    /// Of those objects, the ones whose octets are all there yet; none when content was not read.
    pub waiting_objects: Option<u64>,
    /// Octets of these.
    pub waiting_octets: Option<u64>,
}

impl VerifyReport {
    /// Adds damage that was found beside the store, by others.
    pub fn add_damage(&mut self, kind: FindingKind, place: String, what: String) {
        self.whole = false;
        self.damaged += 1;
        // Damage comes before what is only worth knowing.
        let index = self.findings.iter().take_while(|finding| finding.damage).count();
        self.insert(index, VerifyFinding::beside(kind, true, place, what));
    }

    /// Adds what others found beside the store and is only worth knowing.
    pub fn add_note(&mut self, kind: FindingKind, place: String, what: String) {
        self.notes += 1;
        self.insert(self.findings.len(), VerifyFinding::beside(kind, false, place, what));
    }

    fn insert(&mut self, index: usize, finding: VerifyFinding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.insert(index, finding);
        }
    }
}

/// How far it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Octets gone through.
    pub octets: u64,
    /// Octets there are, as far as is known beforehand.
    pub octets_total: u64,
}

/// What was gone through, and what was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VerifyReport {
    /// No damage was found.
    pub whole: bool,
    /// Whether content was hashed and the index compared row by row.
    pub deep: bool,
    /// Whether a server had the store open.
    pub running: bool,
    /// When it began.
    pub at: Timestamp,
    /// How long it took.
    pub seconds: f64,
    /// Segments of the log.
    pub segments: u64,
    /// Groups in them.
    pub groups: u64,
    /// Entries in those.
    pub entries: u64,
    /// Transactions received, each gateway mailbox counted.
    pub receipts: u64,
    /// Messages stored.
    pub messages: u64,
    /// Entries in folders now.
    pub folder_entries: u64,
    /// Entries that were deleted and can be had back.
    pub in_grace: u64,
    /// Entries under a legal hold, those that can be had back included.
    pub held: u64,
    /// Content in files of its own.
    pub content_files: u64,
    /// Content that was freed.
    pub freed: FreedContent,
    /// Segments in which no content was left, and of which the entries alone are kept.
    pub emptied_segments: u64,
    /// How often the store went on from a backup.
    pub restores: u64,
    /// Octets read, of log and content.
    pub octets: u64,
    /// Checkpoints that were compared with the log.
    pub checkpoints: u64,
    /// The key that signed them, if there are any.
    pub checkpoint_key: Option<String>,
    /// Whether the index was compared with the log.
    pub index_compared: bool,
    /// Octets of segments that count for nothing: a write failed before them, or they were written once more elsewhere.
    pub unused: Vec<Unused>,
    /// Findings that are damage.
    pub damaged: u64,
    /// Findings that are not.
    pub notes: u64,
    /// The first of them, damage first.
    pub findings: Vec<VerifyFinding>,
}
