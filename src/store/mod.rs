//! The store: every message taken, sealed and durable, and the answer to "where is it and why".
//!
//! Callers see the trait [`Store`]: stage what is to be stored, deliver it all or not at all, list, open, expunge. They
//! never see a path, SQL or a sync. [`Embedded`] implements it in one `data_dir`:
//!
//! ```text
//! data_dir/
//!   lock                      held while a process has the store open
//!   log/NNNNNNNN.seg          the log: what is acknowledged, for ever            (format.rs, log.rs, fact.rs)
//!   log/NNNNNNNN.entries      in place of a segment in which no content is left: its entries, compressed (emptied.rs)
//!   log/00000000.seg          after the first such: keeps programs away that know of none (emptied.rs)
//!   log/torn/                 octets of a last group that a crash cut off, never acknowledged
//!   log/clean                 present after an orderly close: where the log ended     (state_file.rs)
//!   log/secured               how much of the last segment a start after a crash has synced (state_file.rs)
//!   content/xx/….age          sealed content over 1 MiB, synced before the entry that names it
//!   content/orphaned/         such files that no entry names, after a crash
//!   index.sqlite              answers questions; can be made anew from the log       (index.rs)
//!   index.sqlite.new          the next one, while it is made                            (replay.rs, reindex.rs)
//!   index.sqlite.damaged-…    the last one that was damaged, to be looked at
//!   keys/<id>/password.age    the wrapped keyring of a gateway mailbox               (seal.rs)
//!   keys/<id>/escrow-….age    the same, wrapped to an escrow recipient               (escrow.rs)
//!   keys/<id>/former-N-….age  such files of a keyring whose password was lost          (keyring.rs)
//!   keys/<id>/….age.next      one of these while it takes the other's place             (keyring.rs)
//!   keys/checkpoint.key       what signs checkpoints                                  (checkpoint.rs)
//!   checkpoints.jsonl         how far the log had come, signed; checkpoints.1.jsonl: those before
//!   ballast                   room to be given up when the disk is full                (ballast.rs)
//!   freeing.lock              held shared by whoever copies the store, alone by whoever frees content (freeing/lock.rs)
//!   restoring.json            while it is made of a backup: it is no store yet         (backup/)
//!   log-loss.json             what the log was once found to lack of what was signed (checkpoint/loss.rs)
//!   scrub.json                where the reading again stands, and what it found damaged  (scrub/)
//!   retention-clock.json      what time has reached, by which mail leaves                (keep/clock.rs)
//!   directory/NAME/           lists of users of a source that were in force, and whose an address was (room directory)
//!   pull/NAME.json            what was fetched of an account elsewhere                   (room pull)
//!   tmp/                      spools of messages being received: unlinked, encrypted  (spool.rs)
//! ```
//!
//! **One committer** (committer.rs) takes the deliveries of all sessions in groups: it decides what is a duplicate over the
//! store and the group, hands out UIDs, appends the group's frames with one write and one `fdatasync`, commits the
//! index, and only then do the sessions hear of it.
//!
//! **Format versions.** Every file says what version it is of; one of a newer version is refused by name, and nothing that
//! was there is written to: directories that are missing and `lock` may have been made. What is older is read for ever: `corpus/store/data_dir-version-1` is opened by a test.
//!
//! | file | version | refused by |
//! |---|---|---|
//! | `log/NNNNNNNN.seg` | 1, in its header (format.rs) | [`Embedded::open`]; groups and frames have that of their segment, also in `log/torn/` |
//! | `log/NNNNNNNN.entries` | 1, in its header (emptied/format.rs) | [`Embedded::open`] |
//! | `log/00000000.seg` | 2: it holds nothing but that | every version that knows of no `.entries` |
//! | entries in either | `v`, 1 to 6 (fact.rs): each the oldest whose readers understand it | [`Embedded::open`], which reads those the index lacks |
//! | `index.sqlite` | `user_version`, the newest of its entries (index.rs) | [`Embedded::open`] |
//! | `log/clean`, `log/secured`, `keys/checkpoint.key`, `watch.json`, `closed-gaps.json`, `self-test.json`, `scrub.json`, `log-loss.json`, `retention-clock.json`, `restoring.json`, those of `pull/`, and `backup.json` of a backup | `v`, 1 ([`state_file`]) | [`Embedded::open`], before any of them is written, and who reads them |
//! | `checkpoints.jsonl`, `checkpoints.1.jsonl` | `v` in each line, 1 (checkpoint.rs) | [`Embedded::open`]; a newer line in the folder outside is stepped over, and named |
//! | `pull/NAME.json` | `v`, 1 ([`state_file`]) | who reads it |
//! | `directory/NAME/N.jsonl`, `pending.jsonl` | `v` in the first line, 1 (`directory/state/`) | who reads it: the list before it is in force |
//! | `directory/NAME/status.json` | none: how the last try went, and nothing depends on it | |
//! | `keys/<id>/*.age`, `content/xx/*.age`, payloads in the log | `age-encryption.org/v1` in the first line, as `age` defines it | the crate `age`; the keyring in it has `v`, 1 (seal.rs) |
//! | `ports.json` | none: an interface that others read, written anew at each start and never read back | |
//! | `lock`, `freeing.lock`, `admin.sock`, `tmp/` | none: they hold nothing that outlives the process | |
//! | `ballast` | none: it holds nothing but room | |
//!
//! **What is "the same"** ([`Delivery::identity`], [`DeliveredMessage::exact`], [`DeliveredMessage::join`]): a report that
//! arrives again (same outermost and wrapper Message-ID, same joins, same recorded envelope) becomes one entry and no
//! placement. A fork gets its own INBOX entry, and a place in a user's folder only where that join is lacking. An original
//! whose exact octets are held already is referenced, not stored again. Other octets are always kept.
//!
//! **A folder that a client has open** (folders.rs): its flags are facts as well, and go with their entry; one row tells whether it
//! is as it was, and whoever listens hears when it is not ([`Store::changes`]). What is marked `\Deleted` is taken out by a client
//! that believes it: flags that are damaged are an error, never flags.
//!
//! **Without opening it**, beside a server or not, [`Reader`] lists and reads what is stored (reading.rs).
//!
//! **Whether it is whole** is told by [`verify`], beside a server or without one, and without any key (check/).
//!
//! **Backups** are made beside a server or without one, without any key; a store made of one gives out no UID and no UIDL that its
//! original gave out since (backup/).
//!
//! This room never knows SMTP or MIME, nor why a folder was chosen.

mod backup;
mod ballast;
mod changes;
mod check;
mod checkpoint;
mod committer;
mod content;
mod data_lock;
#[cfg(test)]
mod delivered;
mod embedded;
mod emptied;
mod escrow;
mod fact;
mod files;
mod folders;
mod format;
mod freeing;
mod index;
mod keep;
mod key_files;
mod keyring;
mod log;
mod plant;
mod read;
mod reading;
mod recall;
mod reindex;
mod relation;
mod replay;
mod revision;
mod rotation;
mod scrub;
mod seal;
mod spool;
mod stage;
pub mod state_file;
mod transactions;
mod turned_away;
mod view;

pub use backup::{
    BackupFinding, BackupOptions, BackupProgress, BackupReport, RestoreOptions, RestoreProgress,
    RestoreReport, RestoreStage, backup, restore,
};
pub use check::{
    FindingKind, FolderEntry, FreedContent, Unused, VerifyFinding, VerifyOptions, VerifyProgress,
    VerifyReport, verify,
};
pub use checkpoint::{
    Checkpoint, CheckpointError, CheckpointStatus, Checkpoints, PublicKey, checkpoints, try_checkpoint_dir,
};
pub use embedded::{Embedded, OpenReport, Options};
pub use escrow::{Escrow, EscrowIdentity};
pub use fact::{ReportRecord, StoredExtent};
pub use keep::{
    ClockPause, KeepingStatus, KeptPass, Recoverable, UNDELETED_MAX, UndeleteAsked, Undeleted,
    UndeletedEntryView,
};
pub use keyring::{KeyringSecret, Opened};
pub use reading::{CameBy, Reader, SealedObject, StoredMessage};
pub use reindex::{IndexJob, IndexOutcome, IndexProgress, IndexState, Progress, check_index, rebuild_index};
pub use relation::{RELATED_MAX, RelatedView, Relation};
pub use revision::{REVISIONS_MAX, Reading, Revised, Revision, RevisionKind, Walk};
pub use scrub::{DAMAGED_MAX, DamagedThing, ScrubPass, ScrubStatus, ScrubbedPass};
pub use seal::{Keyring, generate_password};
pub use spool::{SPOOL_MEMORY_OCTETS_MAX, Spool, Spooled};
pub use stage::{DigestKey, Held, Holding, Sealed, Sealer, Stage};
pub use transactions::{
    RECIPIENTS_TOLD_MAX, TransactionMailbox, TransactionOutcome, TransactionQuery, TransactionView,
    Transactions,
};
pub use turned_away::{Standing, TurnedAway};
pub use view::{EventView, MessageView, PlacementView, ReceiptView, RevisionView, Walked};

use crate::mail::{
    AddressKey, CanonicalSize, Class, Extent, FetchRules, FlagChange, Flags, GatewayMailbox,
    GatewayMailboxId, Judgement, Keeping, Maildrop, MessageSummary, Profile, ReceiptId, Rendition, Role,
    SessionId, Timestamp, TransportEnvelope, Trust, Uid, UidValidity, UserFolder,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A future that may be sent between threads; keeps [`Store`] usable behind `dyn`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why the store could not do what was asked. Never the peer's fault.
#[derive(Clone, Debug)]
pub enum StoreError {
    /// No space left, or less than the reserve. The operator's to mend; the sender should try later.
    Full,
    /// Reading or writing failed, or the store is closing. Try later.
    Io(Arc<std::io::Error>, &'static str),
    /// Stored octets are not what was stored. Named, kept, not served.
    Damaged(String),
    /// The index is not usable, at least for this. It is made anew from the log; until then try later.
    IndexDamaged(String),
    /// There is no such thing.
    Gone,
    /// Another process has the store open.
    Locked,
    /// Written by a newer version of Daybook.
    Newer(String),
    /// Sealed to a former key that what was given does not open. The asker's to give another.
    LacksKey,
    /// What was asked cannot be done in this state; says why. The asker's fault.
    Refused(String),
    /// Clients may not do that in this folder. The asker's fault.
    NotAllowed,
}

impl StoreError {
    pub(crate) fn io(doing: &'static str, e: std::io::Error) -> StoreError {
        if e.kind() == std::io::ErrorKind::StorageFull || e.kind() == std::io::ErrorKind::QuotaExceeded {
            return StoreError::Full;
        }
        StoreError::Io(Arc::new(e), doing)
    }

    fn closed() -> StoreError {
        StoreError::io("using the store", std::io::Error::other("the store is closed"))
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Full => f.write_str("no space left for mail"),
            StoreError::Io(e, doing) => write!(f, "{doing}: {e}"),
            StoreError::Damaged(what) => write!(f, "damaged: {what}"),
            StoreError::IndexDamaged(what) => write!(f, "index is damaged: {what}"),
            StoreError::Gone => f.write_str("not there"),
            StoreError::Locked => f.write_str("another process has this data_dir open"),
            StoreError::Newer(what) => write!(f, "written by a newer version: {what}"),
            StoreError::LacksKey => f.write_str("sealed to a former key, which this does not open"),
            StoreError::Refused(why) => f.write_str(why),
            StoreError::NotAllowed => f.write_str("clients may not do that in this folder"),
        }
    }
}

impl std::error::Error for StoreError {}

/// 32 octets of a hash or HMAC; written in hex.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// SHA-256 of `octets`.
    pub fn of(octets: &[u8]) -> Digest {
        Digest::from_ring(&aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, octets))
    }

    /// From a finished hash; anything but 32 octets gives zeros.
    pub(crate) fn from_ring(digest: &aws_lc_rs::digest::Digest) -> Digest {
        Digest(digest.as_ref().try_into().unwrap_or([0; 32]))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut digest = [0; 32];
        let octets = text.as_bytes();
        if octets.len() != 64 {
            return Err(serde::de::Error::custom("a digest has 64 hex digits"));
        }
        for (octet, pair) in digest.iter_mut().zip(octets.chunks_exact(2)) {
            let digit =
                |c: u8| char::from(c).to_digit(16).ok_or_else(|| serde::de::Error::custom("not a hex digit"));
            *octet = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).unwrap_or(0);
        }
        Ok(Digest(digest))
    }
}

/// Names a folder of a gateway mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FolderName {
    /// Every accepted message; the POP3 maildrop.
    Inbox,
    /// Readable, but nobody to give it to.
    Unassigned,
    /// Unreadable or ambiguous, kept whole.
    Quarantine,
    /// `Users/<slug>/Journal Incoming` or `Journal Outgoing`.
    User {
        /// The directory's id of the user.
        user: String,
        /// Which of the two.
        folder: UserFolder,
    },
}

impl FolderName {
    /// Whether clients may delete in it. What is not INBOX is an archive: there only where the admin says so.
    pub fn may_delete(&self, rules: FetchRules) -> bool {
        *self == FolderName::Inbox || rules.user_delete
    }

    /// A text that names this folder within its gateway mailbox, for the index.
    fn key(&self) -> String {
        match self {
            FolderName::Inbox => "inbox".to_owned(),
            FolderName::Unassigned => "unassigned".to_owned(),
            FolderName::Quarantine => "quarantine".to_owned(),
            FolderName::User { user, folder: UserFolder::Incoming } => format!("incoming/{user}"),
            FolderName::User { user, folder: UserFolder::Outgoing } => format!("outgoing/{user}"),
        }
    }

    fn from_key(key: &str) -> Option<FolderName> {
        Some(match key.split_once('/') {
            None if key == "inbox" => FolderName::Inbox,
            None if key == "unassigned" => FolderName::Unassigned,
            None if key == "quarantine" => FolderName::Quarantine,
            Some(("incoming", user)) => {
                FolderName::User { user: user.to_owned(), folder: UserFolder::Incoming }
            }
            Some(("outgoing", user)) => {
                FolderName::User { user: user.to_owned(), folder: UserFolder::Outgoing }
            }
            _ => return None,
        })
    }

    /// The path clients and admins see.
    pub fn path(&self, slug: Option<&str>) -> String {
        match self {
            FolderName::Inbox => "INBOX".to_owned(),
            FolderName::Unassigned => "Unassigned".to_owned(),
            FolderName::Quarantine => "Quarantine".to_owned(),
            FolderName::User { user, folder } => {
                format!("Users/{}/{}", slug.unwrap_or(user), folder.as_str())
            }
        }
    }
}

/// The store's own number of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageKey(pub u64);

/// One message in a folder, as POP3 and IMAP list it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its UID in the folder.
    pub uid: Uid,
    /// Raised by a restore, so that no UIDL is ever reused.
    pub epoch: u32,
    /// The message placed here.
    pub message: MessageKey,
    /// The receipt it came by.
    pub receipt_id: ReceiptId,
    /// When it was received.
    pub received_at: Timestamp,
    /// Stored octets.
    pub octets: u64,
    /// Size as served.
    pub canonical: CanonicalSize,
}

/// A folder's entries at one moment, in UID order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// UIDVALIDITY of the folder; `None` while it has never held a message, and no client opened it.
    pub uid_validity: Option<UidValidity>,
    /// The UID the next message will get.
    pub uid_next: Uid,
    /// Its messages.
    pub entries: Vec<Entry>,
}

/// One message of a folder, as a client that has the folder open knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderRow {
    /// Its UID.
    pub uid: Uid,
    /// Its flags.
    pub flags: Flags,
}

/// What tells whether a folder is as it was: when all of it is equal, nothing came, went or was flagged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderMarks {
    /// UIDVALIDITY
    pub uid_validity: UidValidity,
    /// The UID the next message will get.
    pub uid_next: Uid,
    /// Messages in it.
    pub live: u64,
    /// How often flags were changed in it, ever.
    pub flag_changes: u64,
}

/// What came of changing flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlagsSet {
    /// What each of those that are there has now, in UID order.
    pub rows: Vec<FolderRow>,
    /// [`FolderMarks::flag_changes`] before and after: whoever knew the folder as of the first count knows all that is behind the
    /// second. `None` when others changed flags in between, or nothing was looked at.
    pub counted: Option<(u64, u64)>,
}

impl FlagsSet {
    /// Adds what came of the next part.
    fn join(&mut self, next: FlagsSet) {
        self.counted = match (self.counted, next.counted) {
            _ if self.rows.is_empty() => next.counted,
            (Some((before, known)), Some((unchanged, after))) if known == unchanged => Some((before, after)),
            _ => None,
        };
        self.rows.extend(next.rows);
    }
}

/// How full a folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderStatus {
    /// The path clients see.
    pub path: String,
    /// Its name in the store.
    pub name: FolderName,
    /// UIDVALIDITY
    pub uid_validity: u32,
    /// The UID the next message will get.
    pub uid_next: u32,
    /// Messages in it.
    pub entries: u64,
    /// Their stored octets.
    pub octets: u64,
    /// When the oldest of them was received.
    pub oldest: Option<Timestamp>,
    /// Those without `\\Seen`.
    pub unseen: u64,
    /// Those with `\\Deleted`.
    pub marked_deleted: u64,
}

/// Entries that [`Store::entries`] reads at once: as many rows are held in memory, however large the folder.
pub const ENTRIES_MAX: usize = 1_000;

/// Length of the spans in which [`Activity`] counts arrivals, in milliseconds: ten minutes.
pub const ARRIVALS_SPAN_MS: i64 = 10 * 60 * 1000;

/// When mail came to a gateway mailbox and when it was taken away, for those who watch over it. Mail about Daybook's own
/// notices ([`NOTICE_ID_BEGINNING`](crate::mail::NOTICE_ID_BEGINNING)) counts for nothing here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Messages accepted in each ten minutes that had any, oldest first: their beginning (UTC) and how many. A repetition
    /// to which nothing was added is not one.
    pub arrivals: Vec<(Timestamp, u64)>,
    /// When the last message was accepted, at whatever time.
    pub last_received: Option<Timestamp>,
    /// When a client last fetched or deleted a message. One that found nothing new leaves no trace here.
    pub last_fetched: Option<Timestamp>,
}

/// What became of the mail of a gateway mailbox since some time, and what waits in it. Mail about Daybook's own notices
/// counts for nothing here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages accepted: each counts once, also where its originals have an entry each ([`crate::mail::Maildrop::Originals`]).
    pub received: u64,
    /// Their octets, as they are shown in INBOX.
    pub octets: u64,
    /// Entries made in users' folders.
    pub in_user_folders: u64,
    /// Entries made in Unassigned and still there.
    pub unassigned: u64,
    /// Entries made in Quarantine and still there.
    pub quarantined: u64,
    /// Entries clients fetched, each time counted: of a message that is shown as its originals, each of those.
    pub fetched: u64,
    /// Entries in INBOX, however old: what no client has taken away. Counted as those fetched.
    pub waiting: u64,
    /// Their octets.
    pub waiting_octets: u64,
    /// When the oldest of them was received.
    pub oldest_waiting: Option<Timestamp>,
}

/// What waits in INBOX, and what of it no client has fetched: one that fetches and deletes nothing leaves all of it waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Messages in INBOX.
    pub waiting: u64,
    /// Those of them that no fetch is on record for; absent where that is too much to look up, beyond [`BACKLOG_LOOKED_AT_MAX`]. Where
    /// no fetch came since the oldest, it is all of them, however many.
    pub unfetched: Option<u64>,
    /// When the oldest of those was received; absent also when there is none.
    pub oldest_unfetched: Option<Timestamp>,
    /// Those that are still shown as before [`GatewayMailboxChange::Fetch`] changed that: see [`RevisionKind::Viewed`].
    pub former_view: u64,
}

/// Messages in INBOX, and fetches since the oldest of them was received, that [`Store::backlog`] looks at: an INBOX that a client
/// reads and never empties would take longer with every day.
pub const BACKLOG_LOOKED_AT_MAX: usize = 100_000;

/// Room on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Free for this process, in octets.
    pub free_octets: u64,
    /// New mail is refused for now when less than this is free, in octets.
    pub reserve_octets: u64,
}

/// Who fetched or deleted, for the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// `pop3` or `imap`.
    pub protocol: String,
    /// Address of the client, without port.
    pub peer: std::net::IpAddr,
    /// The connection.
    pub session_id: SessionId,
}

/// A gateway mailbox opened with its password or an escrow identity. The keyring's secrets are wiped on drop.
#[derive(Clone, Debug)]
pub struct Unlocked {
    /// Which one.
    pub gateway_mailbox: Arc<GatewayMailbox>,
    /// Opens what is sealed to it.
    pub keyring: Keyring,
    /// The hash on record of the file that its password opened then: a change of its keys finds out whether it still is.
    password_file: Option<Digest>,
}

/// Why a login did not work.
#[derive(Debug)]
pub enum UnlockError {
    /// No such gateway mailbox, or not its password: the two are not told apart.
    Wrong,
    /// The keyring cannot be read now; the operator's to mend.
    Unavailable(StoreError),
}

/// Octets of a delivered message: in an object stored with it, or held already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A run of one of [`Delivery::objects`], by index.
    New(Extent),
    /// A run of an object the store holds.
    Held(StoredExtent),
}

/// One message of a delivery.
#[derive(Clone, Debug)]
pub struct DeliveredMessage {
    /// Its octets, in order.
    pub sources: Vec<Source>,
    /// Number of octets.
    pub octets: u64,
    /// Size as served.
    pub canonical: CanonicalSize,
    /// Keyed digest of the octets: equal means the same octets.
    pub exact: Digest,
    /// Keyed digest of what forks of one message share: equal means the same message.
    pub join: Digest,
    /// `Message-ID`, for searching.
    pub message_id: Option<String>,
    /// Which copy it is.
    pub rendition: Rendition,
    /// The message the store already holds with this `exact`, as [`Stage::held`] found it to be whole.
    pub held: Option<MessageKey>,
}

/// A placement to be made, if it is not there yet.
#[derive(Clone, Debug)]
pub struct WantedPlacement {
    /// Where.
    pub folder: FolderName,
    /// For a user's folder seen first: the wanted path segment.
    pub slug: Option<String>,
    /// Index into [`Delivery::messages`].
    pub message: u32,
    /// Not when the folder already has, or had, a message of the same join.
    pub once_per_join: bool,
    /// Only where INBOX holds this as it is stored; absent is in either case. What was prepared while that changed is right so.
    pub in_view: Option<Maildrop>,
    /// Why, for `explain`.
    pub reasons: Vec<String>,
}

/// One received message for one gateway mailbox, ready to be stored.
#[derive(Debug)]
pub struct Delivery {
    /// For whom.
    pub gateway_mailbox: GatewayMailboxId,
    /// The transaction.
    pub receipt_id: ReceiptId,
    /// When it ended.
    pub received_at: Timestamp,
    /// How it came.
    pub transport: TransportEnvelope,
    /// What it is.
    pub class: Class,
    /// Received octets.
    pub octets: u64,
    /// SHA-256 of the received octets.
    pub sha256: Digest,
    /// Outermost Message-ID.
    pub message_id: Option<String>,
    /// Message-ID of the original as a wrapper names it.
    pub parent_message_id: Option<String>,
    /// The NDR mailbox whose NDR held it; the octets are those of the report it returned.
    pub recovered_from: Option<GatewayMailboxId>,
    /// Message-ID of the journal report whose header alone came back in an NDR.
    pub returned_message_id: Option<String>,
    /// The reports found, outermost first.
    pub reports: Vec<ReportRecord>,
    /// Kind and detail of each fault found.
    pub defects: Vec<(String, String)>,
    /// Addresses nobody was found for, each with why.
    pub unmatched: Vec<String>,
    /// Who really sent it, as far as can be told.
    pub judgement: Option<Judgement>,
    /// Equal to another's: the same report again, to which nothing is added.
    pub identity: Digest,
    /// A copy held of it is damaged: it is placed anew, whatever is there already.
    pub heals: bool,
    /// Sealed content that is new.
    pub objects: Vec<Sealed>,
    /// Sealed summaries of the messages, one object.
    pub summary: Sealed,
    /// Messages; the first is the received one as a whole.
    pub messages: Vec<DeliveredMessage>,
    /// Where they go.
    pub placements: Vec<WantedPlacement>,
}

/// What became of a delivery.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// For whom.
    pub gateway_mailbox: GatewayMailboxId,
    /// The receipt this one repeats; then nothing was placed.
    pub repeats: Option<ReceiptId>,
    /// What it is to mail received before, if anything.
    pub relation: Option<Relation>,
    /// Messages, the received one among them, whose exact octets were held already: they are stored once.
    pub exact_copies: usize,
    /// Path and UID of every placement made.
    pub placements: Vec<(String, Uid)>,
    /// Path and UID of entries that were there already.
    pub spared: Vec<(String, Uid)>,
    /// Deliveries that shared the sync.
    pub group: usize,
    /// Seconds the write and its sync took.
    pub sync_seconds: f64,
}

/// A gateway mailbox to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewGatewayMailbox {
    /// What the admin calls it.
    pub name: String,
    /// Right-hand side of its address.
    pub domain: String,
    /// The tenant it is for.
    pub tenant: Option<String>,
    /// How its messages are read.
    pub profile: Profile,
    /// What it is for.
    #[serde(default)]
    pub role: Role,
}

/// A gateway mailbox just made, and its password.
pub type Created = (Arc<GatewayMailbox>, Zeroizing<String>);

/// A change to a gateway mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GatewayMailboxChange {
    /// Another name.
    Name(String),
    /// Another tenant, or none.
    Tenant(Option<String>),
    /// Read its messages in another way from now on.
    Profile(Profile),
    /// Place mail in user folders, or only in INBOX, from now on.
    Archive(bool),
    /// Trust others from now on: replaces all that was trusted. Refused when that is not `was` any more, so that of two changes
    /// at the same time none undoes the other.
    Trust {
        /// What was trusted when the change was thought of.
        was: Trust,
        /// What is to be trusted.
        becomes: Trust,
    },
    /// Trust these header fields of plain mail to name its recipients, from now on.
    RecipientHeaders(Vec<String>),
    /// Trust these to name its sender.
    SenderHeaders(Vec<String>),
    /// A new unguessable address; the current one becomes a former one. No former address is served
    /// for longer than so many milliseconds from now; one that ends sooner keeps its end.
    Rotate {
        /// The domain it is in; that of the current one when absent.
        domain: Option<String>,
        /// 0 is at once.
        overlap_ms: u64,
    },
    /// Take no mail; fetching goes on.
    Suspend,
    /// Take mail again.
    Resume,
    /// Keep its mail for so long from now on. Refused with retention of 0 days, and when it is not kept as it `was` any more.
    Keeping {
        /// How it was kept when the change was thought of.
        was: Keeping,
        /// How it is to be kept.
        becomes: Keeping,
    },
    /// What its clients find and may do from now on. Refused when it is not as it `was` any more. What waits in INBOX is shown
    /// in the new way too: its entries leave, and come again under new UIDs.
    Fetch {
        /// What was in force when the change was thought of.
        was: FetchRules,
        /// What is to be.
        becomes: FetchRules,
    },
    /// A legal hold. Refused where there is one on the same already, and on a user where users have no folders.
    Hold {
        /// On this user's folders alone, by the directory's id; absent is on all of it.
        user: Option<String>,
        /// Why: the case it is for.
        reason: String,
    },
    /// Lift the legal hold on this user, or on all of it. Refused where there is none.
    Unhold {
        /// As it was set.
        user: Option<String>,
    },
    /// Serve it no more. Only when suspended, without any legal hold, served by no NDR mailbox and, unless forced, empty.
    Delete {
        /// Although messages are left in it.
        force: bool,
    },
}

/// Former addresses kept of one gateway mailbox: served still, or kept to tell what they were. Beyond it those that ended
/// first are forgotten.
pub const FORMER_ADDRESSES_MAX: usize = 32;

/// Which messages of a gateway mailbox [`Store::arrivals`] tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// The first that ever came.
    First,
    /// The last that came.
    Last,
}

/// How one message came to a gateway mailbox, and who really sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The transaction.
    pub receipt_id: ReceiptId,
    /// When it was received.
    pub at: Timestamp,
    /// What it is.
    pub class: Class,
    /// How it came.
    pub transport: TransportEnvelope,
    /// Who really sent it; absent for receipts older than verdicts.
    pub judgement: Option<Judgement>,
}

/// What [`Store::arrivals`] tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Came {
    /// In the order of their arrival.
    pub arrivals: Vec<Arrival>,
    /// Messages among those asked for whose entries were not read: larger than [`ARRIVAL_OCTETS_MAX`], damaged, or beyond
    /// [`ARRIVALS_OCTETS_MAX`] in all.
    pub left_out: u64,
}

/// Largest entry that [`Store::arrivals`] reads. One that names a thousand recipients is a tenth of it.
pub const ARRIVAL_OCTETS_MAX: u32 = 1024 * 1024;

/// Octets of entries that [`Store::arrivals`] reads at once: strangers write them, and an admin waits.
pub const ARRIVALS_OCTETS_MAX: u64 = 64 * 1024 * 1024;

/// What [`Store::receipts`] looks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReceiptQuery {
    /// One receipt.
    Id(ReceiptId),
    /// Receipts naming this Message-ID or address.
    Naming(String),
    /// All.
    All,
}

/// The store as the rest of Daybook sees it.
///
/// Methods that are not `async` may block for a disk read or a key derivation: call them from a blocking task.
/// [`Store::gateway_mailbox`], [`Store::gateway_mailbox_now`], [`Store::retired`], [`Store::spool`] and
/// [`Store::record_turned_away`] never block.
pub trait Store: Send + Sync {
    /// The gateway mailbox served at this address, active or suspended.
    fn gateway_mailbox(&self, address: &AddressKey) -> Option<Arc<GatewayMailbox>>;

    /// The gateway mailbox that was served at this former address until its time was over.
    fn retired(&self, address: &AddressKey) -> Option<Arc<GatewayMailbox>>;

    /// The gateway mailbox as it is now, active or suspended.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when it was deleted.
    fn gateway_mailbox_now(&self, id: GatewayMailboxId) -> Result<Arc<GatewayMailbox>, StoreError>;

    /// Every gateway mailbox that is not deleted, oldest first.
    fn gateway_mailboxes(&self) -> Vec<Arc<GatewayMailbox>>;

    /// Makes a gateway mailbox with its keyring; the password is given here and never again.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for an NDR mailbox that serves none that reports are sent to.
    fn create_gateway_mailbox<'a>(
        &'a self,
        new: NewGatewayMailbox,
        actor: &'a str,
    ) -> BoxFuture<'a, Result<Created, StoreError>>;

    /// Changes a gateway mailbox; all changes or none.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when its state forbids the change.
    fn change_gateway_mailbox<'a>(
        &'a self,
        id: GatewayMailboxId,
        changes: Vec<GatewayMailboxChange>,
        actor: &'a str,
    ) -> BoxFuture<'a, Result<Arc<GatewayMailbox>, StoreError>>;

    /// A place to gather a message in while it is received.
    fn spool(&self) -> Spool;

    /// Prepares to store something for a gateway mailbox.
    ///
    /// # Errors
    /// [`StoreError::Full`] when free space is below the reserve.
    fn stage(&self, gateway_mailbox: GatewayMailboxId) -> Result<Box<dyn Stage>, StoreError>;

    /// Stores all deliveries or none. When this is `Ok`, nothing can lose them any more.
    fn deliver(&self, deliveries: Vec<Delivery>) -> BoxFuture<'_, Result<Vec<Delivered>, StoreError>>;

    /// Opens the keyring of the gateway mailbox that `login` names, by local part or whole address, current or served still.
    /// Takes about 50 ms and 16 MB, for an unknown login too.
    fn unlock(&self, login: &str, password: &str) -> Result<Unlocked, UnlockError>;

    /// True while the password that opened this opens all that comes now: neither it nor the keys were changed since. Reads one
    /// row.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when the gateway mailbox was deleted.
    fn is_current(&self, key: &Unlocked) -> Result<bool, StoreError>;

    /// Opens the keyring of a gateway mailbox with an escrow identity.
    ///
    /// # Errors
    /// [`UnlockError::Wrong`] also when the keyring was never wrapped to it.
    fn unlock_with_identity(
        &self,
        gateway_mailbox: GatewayMailboxId,
        identity: &EscrowIdentity,
    ) -> Result<Unlocked, UnlockError>;

    /// Which escrow recipients can open this gateway mailbox.
    fn escrow(&self, gateway_mailbox: GatewayMailboxId) -> Result<Escrow, StoreError>;

    /// Wraps the keyring durably to every configured escrow recipient that cannot open it yet, and puts the files on record;
    /// returns how many they were. Waits for the disk: for threads that may.
    fn add_escrow(&self, key: &Unlocked) -> Result<usize, StoreError>;

    /// Opens every keyring of a gateway mailbox that these secrets open: the present one, and those whose password was lost.
    /// Takes the time of a login for each password and each keyring.
    ///
    /// # Errors
    /// [`UnlockError::Wrong`] when one of the secrets opens none.
    fn open_keyrings(
        &self,
        gateway_mailbox: GatewayMailboxId,
        secrets: &[KeyringSecret<'_>],
    ) -> Result<Opened, UnlockError>;

    /// Makes a new key the newest of the keyring: what comes from now on is sealed to it, what came before stays readable. Durable
    /// when it returns. `password` is the present one. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when it was opened before another change of its keys, or has [`KEYS_MAX`](crate::mail::KEYS_MAX)
    /// of them.
    fn rotate_key(
        &self,
        key: &Unlocked,
        password: &str,
        actor: &str,
    ) -> Result<Arc<GatewayMailbox>, StoreError>;

    /// Gives a gateway mailbox another password, one of [`generate_password`]'s, which opens what `opened` holds. When the present
    /// keyring is not part of that, or nothing was opened, its files are kept aside and a new key is made. Durable when it
    /// returns. Blocks.
    ///
    /// # Errors
    /// As [`Store::rotate_key`]; [`StoreError::Refused`] also for a weak password.
    fn set_password(
        &self,
        gateway_mailbox: GatewayMailboxId,
        opened: Option<&Opened>,
        password: &str,
        actor: &str,
    ) -> Result<Arc<GatewayMailbox>, StoreError>;

    /// Puts on record that the keys of a gateway mailbox were handed out. Blocks.
    fn record_key_export(&self, gateway_mailbox: GatewayMailboxId, actor: &str) -> Result<(), StoreError>;

    /// Messages in some folder of a gateway mailbox that the password of today does not open. Reads a row for each message that
    /// came before keys were lost.
    fn unopened(&self, gateway_mailbox: GatewayMailboxId) -> Result<u64, StoreError>;

    /// The entries of a folder; empty, and without UIDVALIDITY, when it does not exist yet.
    fn list(&self, gateway_mailbox: GatewayMailboxId, folder: &FolderName) -> Result<Listing, StoreError>;

    /// Every folder of a gateway mailbox: those that something came to, or that a client opened.
    fn folders(&self, gateway_mailbox: GatewayMailboxId) -> Result<Vec<FolderStatus>, StoreError>;

    /// The same, without the times of the oldest entries, which are looked for folder by folder.
    fn folders_undated(&self, gateway_mailbox: GatewayMailboxId) -> Result<Vec<FolderStatus>, StoreError>;

    /// The one of them with this path, undated. Costs the same however many there are, unless one of a user is not found.
    fn folder_at(
        &self,
        gateway_mailbox: GatewayMailboxId,
        path: &str,
    ) -> Result<Option<FolderStatus>, StoreError>;

    /// When mail came and went; arrivals since `since`. Reads as many rows as messages arrived since, or within an hour of
    /// the last, and one for each folder; and one for each entry of INBOX made later behind those: after
    /// [`GatewayMailboxChange::Fetch`] as many as were shown anew.
    fn activity(&self, gateway_mailbox: GatewayMailboxId, since: Timestamp) -> Result<Activity, StoreError>;

    /// What became of the mail received since `since`, and what waits. Reads as many rows as transactions ended since, in
    /// all gateway mailboxes, as this one's messages of them have entries, as events of INBOX came since, and as INBOX ever
    /// held.
    fn tally(&self, gateway_mailbox: GatewayMailboxId, since: Timestamp) -> Result<Tally, StoreError>;

    /// What waits in INBOX. Reads a row for each message there, and for each fetch since the oldest of them was received, both
    /// within [`BACKLOG_LOOKED_AT_MAX`].
    fn backlog(&self, gateway_mailbox: GatewayMailboxId) -> Result<Backlog, StoreError>;

    /// How signed checkpoints are doing.
    fn checkpoints(&self) -> CheckpointStatus;

    /// How much room there is.
    fn space(&self) -> Result<Space, StoreError>;

    /// Opens a message's stored octets, decrypting while they are read. Damage is an error of the reader, also at the
    /// end of the message: it never passes for mail.
    ///
    /// # Errors
    /// [`StoreError::LacksKey`] when part of it is sealed to a key that is not in the keyring.
    fn open(&self, key: &Unlocked, message: MessageKey) -> Result<Box<dyn std::io::Read + Send>, StoreError>;

    /// Takes entries out of a folder, all or none, durably; returns those that were there, in UID order.
    fn expunge<'a>(
        &'a self,
        gateway_mailbox: GatewayMailboxId,
        folder: &'a FolderName,
        uids: &'a [Uid],
        by: &'a Client,
    ) -> BoxFuture<'a, Result<Vec<Uid>, StoreError>>;

    /// The same for those alone that are marked `\Deleted` at that moment, where clients may delete at that moment.
    ///
    /// # Errors
    /// [`StoreError::NotAllowed`] where they may not.
    fn expunge_marked<'a>(
        &'a self,
        gateway_mailbox: GatewayMailboxId,
        folder: &'a FolderName,
        uids: &'a [Uid],
        by: &'a Client,
    ) -> BoxFuture<'a, Result<Vec<Uid>, StoreError>>;

    /// Records that a client fetched entries.
    fn record_fetched<'a>(
        &'a self,
        gateway_mailbox: GatewayMailboxId,
        folder: &'a FolderName,
        uids: &'a [Uid],
        by: &'a Client,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// A folder as a client opens it: what tells whether it changed, and every message with a UID of at least `from`, in UID
    /// order; all of one moment. INBOX, Unassigned and Quarantine are there when nothing ever came to them: the first to ask
    /// makes them, durably, since their UIDVALIDITY must not change. Waits for the disk: for threads that may.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when there is no such folder of a user, or the gateway mailbox is deleted.
    fn rows(
        &self,
        gateway_mailbox: GatewayMailboxId,
        folder: &FolderName,
        from: Uid,
    ) -> Result<(FolderMarks, Vec<FolderRow>), StoreError>;

    /// Whether a folder is as it was: reads one row of it.
    ///
    /// # Errors
    /// As [`Store::rows`].
    fn marks(
        &self,
        gateway_mailbox: GatewayMailboxId,
        folder: &FolderName,
    ) -> Result<FolderMarks, StoreError>;

    /// The entries with these UIDs that are still there, in UID order; at most [`ENTRIES_MAX`] UIDs, rising.
    ///
    /// # Errors
    /// The index cannot be read.
    fn entries(
        &self,
        gateway_mailbox: GatewayMailboxId,
        folder: &FolderName,
        uids: &[Uid],
    ) -> Result<Vec<Entry>, StoreError>;

    /// The summary of a message, decrypted. Reads one small object.
    ///
    /// # Errors
    /// As [`Store::open`]; [`StoreError::Damaged`] also when it is no summary.
    fn summary(&self, key: &Unlocked, message: MessageKey) -> Result<MessageSummary<'static>, StoreError>;

    /// Changes flags of entries, those that are still there, durably; tells what each of them has now, in UID order. Flags that
    /// are not `changeable` stay, as does `\Deleted` where clients may not delete at that moment. What would
    /// change nothing is not recorded. Of very many a part after the other is changed: after an error some may be, and asking
    /// once more is right.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when the gateway mailbox is deleted.
    fn set_flags<'a>(
        &'a self,
        gateway_mailbox: GatewayMailboxId,
        folder: &'a FolderName,
        uids: &'a [Uid],
        change: FlagChange,
        changeable: Flags,
        by: &'a Client,
    ) -> BoxFuture<'a, Result<FlagsSet, StoreError>>;

    /// Tells whenever anything came, went or was flagged in some folder of a gateway mailbox, or its settings changed, or it was
    /// deleted: the number rises, once that is seen by whoever looks. It may rise for nothing. Its end is that of the store. Never
    /// blocks.
    fn changes(&self, gateway_mailbox: GatewayMailboxId) -> tokio::sync::watch::Receiver<u64>;

    /// Receipts, newest first, at most `most` transactions; one view for each gateway mailbox of a transaction. Unless all are
    /// asked for, each names those related to it.
    fn receipts(
        &self,
        query: &ReceiptQuery,
        since: Timestamp,
        most: usize,
    ) -> Result<Vec<ReceiptView>, StoreError>;

    /// Puts a transaction that was turned away on record: soon, at no cost to mail. It is durable about a second later, or when the
    /// store can write again; of what comes in a flood, only that it came and how often (see [`Standing`]).
    fn record_turned_away(&self, told: TurnedAway, standing: Standing);

    /// Those turned away that have this id, or whose MAIL FROM or first few recipients name this address: at most `most`, newest
    /// first. Of [`ReceiptQuery::All`] there are none: see [`Store::transactions`].
    fn turned_away(
        &self,
        query: &ReceiptQuery,
        since: Timestamp,
        most: usize,
    ) -> Result<Vec<TransactionView>, StoreError>;

    /// Every transaction, accepted or not, a page at a time. A damaged entry is named in its place.
    fn transactions(&self, query: &TransactionQuery) -> Result<Transactions, StoreError>;

    /// Receipts of a gateway mailbox, oldest first, with what became of each. A damaged one is named and stepped over.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when the gateway mailbox is deleted or never was.
    fn walk(&self, walk: &Walk) -> Result<Walked, StoreError>;

    /// What [`Store::revise`] would do with all of these, one after the other, however many. Changes nothing.
    ///
    /// # Errors
    /// As [`Store::revise`].
    fn plan(&self, revisions: &[Revision]) -> Result<Vec<Revised>, StoreError>;

    /// Makes all of these revisions or none, durably, in the name of `actor`. One that would change nothing is not recorded.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when a receipt was revised since it was looked at, is named twice, or when there are more than
    /// [`REVISIONS_MAX`]; [`StoreError::Gone`] when there is no such receipt or its gateway mailbox is deleted.
    fn revise<'a>(
        &'a self,
        revisions: Vec<Revision>,
        actor: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Revised>, StoreError>>;

    /// How the first or the last messages came, at most `most`, in the order of their arrival. A report that came again is
    /// told of once. Reads as many entries of the log, nearest to the end that was asked for first, within bounds: see
    /// [`Came::left_out`].
    fn arrivals(
        &self,
        gateway_mailbox: GatewayMailboxId,
        which: Arrivals,
        most: usize,
    ) -> Result<Came, StoreError>;

    /// What is being done about the index, and what came of the last of it; begins something first, if told so.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when something is to begin while something is done.
    fn index_state(&self, begin: Option<IndexJob>) -> Result<IndexState, StoreError>;

    /// `Ok` when it is worth trying to store a message of so many octets, 0 if that is not known: there is room, and the store
    /// is open. A message needs room once where it is kept, and once more while it is received, when it does not stay in memory.
    /// Copies for further gateway mailboxes are not known of yet; for those the reserve is there.
    ///
    /// # Errors
    /// [`StoreError::Full`] when free space is below the reserve, or would be with it.
    fn admits(&self, octets: u64) -> Result<(), StoreError>;

    /// How reading again what is stored stands, and what it found damaged. Never blocks.
    fn scrub(&self) -> ScrubStatus;

    /// Has all that is stored read again from now on, whenever that was last done. Never blocks.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where nobody does that.
    fn scrub_now(&self) -> Result<(), StoreError>;

    /// Notes in the name of `actor` that damage at these places, all or none, is known: it counts no more until it is found
    /// whole and damaged again. Tells how many were not closed yet.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when nothing at one of them is known to be damaged.
    fn close_damage(&self, places: &[String], actor: &str) -> Result<usize, StoreError>;

    /// How keeping stands: the clock by which mail leaves, and the last pass. Never blocks.
    fn keeping(&self) -> KeepingStatus;

    /// Begins a pass: retention takes out what is due, and what is past its grace is freed. Never blocks.
    ///
    /// # Errors
    /// [`StoreError::Refused`] while the clock is not believed.
    fn keep_now(&self) -> Result<(), StoreError>;

    /// Puts on record in the name of `actor` that the system's clock is right, and goes on by it. Where it is believed already,
    /// nothing changes.
    fn trust_clock<'a>(&'a self, actor: &'a str) -> BoxFuture<'a, Result<KeepingStatus, StoreError>>;

    /// How many entries of a folder were received until then, and are there: what a rule of retention would take out.
    ///
    /// # Errors
    /// The index cannot be read.
    fn received_until(
        &self,
        gateway_mailbox: GatewayMailboxId,
        folder: &FolderName,
        until: Timestamp,
    ) -> Result<u64, StoreError>;

    /// What was deleted since `since` and can be had back, folder by folder. Reads a row for each such entry.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when the gateway mailbox is deleted or never was.
    fn recoverable(
        &self,
        gateway_mailbox: GatewayMailboxId,
        since: Timestamp,
    ) -> Result<Vec<Recoverable>, StoreError>;

    /// Brings back what was deleted, durably and in the name of `actor`: each as a new entry behind all others of its folder, with
    /// the time it was received. What a look at its receipt took out is elsewhere, and does not come back.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when the gateway mailbox is deleted or never was.
    fn undelete<'a>(
        &'a self,
        asked: UndeleteAsked,
        actor: &'a str,
    ) -> BoxFuture<'a, Result<Undeleted, StoreError>>;

    /// `Ok` when the store admits mail and its last write succeeded: for health checks. A store that is not ready still
    /// tries the next message, by which it recovers.
    fn ready(&self) -> Result<(), StoreError>;
}
