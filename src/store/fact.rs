//! What the log says: one JSON object an entry, tagged by `fact`, versioned by `v`.
//!
//! A fact holds everything the index keeps, so that the index can be made anew from the log alone, and nothing of a
//! message but its envelope: never subjects, never bodies. Fields may be added; a reader ignores what it does not know.
//! A change of meaning raises `v`.
//!
//! | fact | payload | says |
//! |---|---|---|
//! | `gateway-mailbox` | – | a gateway mailbox was made or changed, by whom; its whole state and digest key |
//! | `folder` | – | a folder was made: its number, name, UIDVALIDITY; or it has another UIDVALIDITY from here on |
//! | `object` | sealed octets, unless `file` | an object was stored |
//! | `received` | – | one message was received for one gateway mailbox: receipt, messages, placements with reasons |
//! | `fetched` | – | a client fetched these UIDs |
//! | `deleted` | – | a client deleted these UIDs |
//! | `flagged` | – | a client changed flags of these UIDs |
//! | `key-file` | – | a file of a wrapped keyring was written |
//! | `turned-away` | – | a transaction was refused or deferred ([`TurnedAway`]), and how many more since the entry before |
//! | `expired` | – | retention took these UIDs out of a folder: by which rule |
//! | `undeleted` | – | what was deleted came back, with new UIDs |
//! | `freed` | – | what was deleted from a folder can be had back no more; content that nothing needs any more is freed |
//! | `clock-trusted` | – | an admin confirmed a clock that had jumped |
//! | `restored` | – | the store was made from a backup: the next groups, UIDs and epoch step past what the original gave out since |
//! | `revised` | – | a receipt was looked at again, by whom: what reading it anew found, further placements, entries that left |

use super::{Client, Digest, FolderName, RevisionKind, TurnedAway};
use crate::mail::{
    CanonicalSize, Class, EnvelopeHeaders, Flags, GatewayMailbox, GatewayMailboxId, JournaledEnvelope,
    Judgement, ReceiptId, Rendition, Timestamp, TransportEnvelope, Trust, Uid, UidValidity,
};
use serde::{Deserialize, Serialize};

/// Newest version of an entry that is read. Each is written with the oldest whose readers understand it: see
/// [`Fact::version`].
pub(super) const FACT_VERSION_MAX: u32 = 6;

/// One entry with its version.
#[derive(Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) v: u32,
    #[serde(flatten)]
    pub(super) fact: Fact,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "kebab-case")]
pub(super) enum Fact {
    GatewayMailbox(Box<GatewayMailboxFact>),
    Folder(FolderFact),
    Object(ObjectFact),
    Received(Box<ReceivedFact>),
    Fetched(FolderEventFact),
    Deleted(FolderEventFact),
    Revised(Box<RevisedFact>),
    KeyFile(KeyFileFact),
    TurnedAway(Box<TurnedAway>),
    Expired(ExpiredFact),
    Undeleted(Box<UndeletedFact>),
    Freed(FreedFact),
    ClockTrusted(ClockTrustedFact),
    Restored(Box<RestoredFact>),
    Flagged(FlaggedFact),
}

impl Fact {
    /// 6 for flags, for another UIDVALIDITY, and for a gateway mailbox that is fetched from in another way: an older program would
    /// place in INBOX what does not belong there.
    /// 5 for what ends or brings back entries in another way than a client, for content that was freed, for a store that was
    /// restored, and for a gateway mailbox with keeping, holds or former keys: an older program would list, free or drop what
    /// it must not.
    /// 4 for a key file and for a transaction that was turned away: a program that knows neither cannot read them.
    /// 3 for an NDR mailbox: a program that knows of none would give what was recovered to users of the wrong one. 3 for one that
    /// takes people from header fields: it would drop their names with the next change. 3 for a receipt looked at again: it
    /// would list what has left and give its UIDs to others.
    /// 2 for a gateway mailbox with a trust of its own: a program that knows of none would hand out what is to be held back.
    /// All else is read by version 1 as it is meant.
    pub(super) fn version(&self) -> u32 {
        match self {
            Fact::Flagged(_) => 6,
            Fact::GatewayMailbox(fact) if fact.is_fetched_otherwise() => 6,
            Fact::Folder(fact) if fact.again => 6,
            Fact::Revised(fact) if fact.kind == RevisionKind::Viewed => 6,
            Fact::Expired(_)
            | Fact::Undeleted(_)
            | Fact::Freed(_)
            | Fact::ClockTrusted(_)
            | Fact::Restored(_) => 5,
            Fact::GatewayMailbox(fact) if fact.keeps() => 5,
            Fact::GatewayMailbox(fact) if !fact.gateway_mailbox.role.is_journal() => 3,
            Fact::GatewayMailbox(fact)
                if fact.gateway_mailbox.envelope_headers != EnvelopeHeaders::default() =>
            {
                3
            }
            Fact::KeyFile(_) | Fact::TurnedAway(_) => 4,
            Fact::Revised(_) => 3,
            Fact::GatewayMailbox(fact) if fact.gateway_mailbox.trust != Trust::default() => 2,
            _ => 1,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct GatewayMailboxFact {
    pub(super) at: Timestamp,
    /// Who did it: `cli`, `demo`.
    pub(super) actor: String,
    /// `create`, `set`, `rotate`, `suspend`, `resume`, `hold`, `unhold`, `delete`, `key-rotate`, `password-reset`; `key-export`
    /// changes nothing.
    pub(super) action: String,
    pub(super) gateway_mailbox: GatewayMailbox,
    /// Key of the two content digests. Known to the server, in backups, never rotated.
    pub(super) digest_key: Digest,
}

impl GatewayMailboxFact {
    /// True when it says what was not said before version 5.
    fn keeps(&self) -> bool {
        let GatewayMailbox { keeping, holds, former_keys, deleted_at, .. } = &self.gateway_mailbox;
        !keeping.is_default() || !holds.is_empty() || !former_keys.is_empty() || deleted_at.is_some()
    }

    /// The same of version 6.
    fn is_fetched_otherwise(&self) -> bool {
        !self.gateway_mailbox.fetch.is_default() || self.gateway_mailbox.view_from.is_some()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct FolderFact {
    pub(super) folder: u64,
    pub(super) gateway_mailbox: GatewayMailboxId,
    pub(super) name: FolderName,
    /// The user's part of the folder's path, chosen at first placement and kept for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) slug: Option<String>,
    pub(super) uid_validity: UidValidity,
    /// It was made before, and has this UIDVALIDITY from here on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) again: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ObjectFact {
    pub(super) object: u64,
    pub(super) receipt_id: ReceiptId,
    pub(super) gateway_mailbox: GatewayMailboxId,
    pub(super) octets: u64,
    pub(super) sealed_octets: u64,
    pub(super) sealed_sha256: Digest,
    /// Name under `content/`, when the sealed octets are not this frame's payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
}

/// A run of octets of a stored object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredExtent {
    /// The store's number of the object.
    pub object: u64,
    /// First octet.
    pub offset: u64,
    /// Number of octets.
    pub octets: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct MessageFact {
    pub(super) message: u64,
    pub(super) extents: Vec<StoredExtent>,
    pub(super) octets: u64,
    pub(super) canonical: CanonicalSize,
    pub(super) exact: Digest,
    pub(super) join: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) message_id: Option<String>,
    pub(super) rendition: Rendition,
    /// The object holding the sealed summaries of this receipt, and which of them is this message's.
    pub(super) summary: (u64, u32),
    /// True when these octets were already held: the number is that of the message known before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) held: bool,
}

/// One journal report a receipt was found to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportRecord {
    /// The wrapper's own Message-ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrapper_message_id: Option<String>,
    /// Who sent and who got the documented message.
    pub envelope: JournaledEnvelope,
    /// The originals, as indexes into the receipt's messages.
    pub originals: Vec<u32>,
    /// The original to show, as an index into the receipt's messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PlacementFact {
    pub(super) folder: u64,
    /// The folder's name once more: should its own entry be lost, its messages are still found.
    pub(super) name: FolderName,
    pub(super) uid: Uid,
    pub(super) message: u64,
    pub(super) reasons: Vec<String>,
}

/// A placement that was wanted and not made, because this content is already there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SparedFact {
    pub(super) folder: u64,
    /// The entry that was there before.
    pub(super) uid: Uid,
    pub(super) reasons: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ReceivedFact {
    pub(super) receipt_id: ReceiptId,
    pub(super) gateway_mailbox: GatewayMailboxId,
    pub(super) at: Timestamp,
    pub(super) transport: TransportEnvelope,
    pub(super) class: Class,
    pub(super) octets: u64,
    pub(super) sha256: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) message_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parent_message_id: Option<String>,
    /// The NDR mailbox it was recovered in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) recovered_from: Option<GatewayMailboxId>,
    /// Of the report whose header alone came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) returned_message_id: Option<String>,
    pub(super) reports: Vec<ReportRecord>,
    /// Kind and detail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) defects: Vec<(String, String)>,
    /// Addresses nobody was found for, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) unmatched: Vec<String>,
    /// Who really sent it; absent in entries written before verdicts were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) judgement: Option<Judgement>,
    /// What time had reached, where the system's clock, and so `at`, was behind it: retention counts from then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kept_from: Option<Timestamp>,
    /// What makes another receipt "the same again"; see [`super::Delivery`].
    pub(super) identity: Digest,
    /// The receipt this one repeats: nothing was placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) repeats: Option<ReceiptId>,
    /// The first message is the received one as a whole.
    pub(super) messages: Vec<MessageFact>,
    /// Raised by a restore, part of every UIDL.
    pub(super) epoch: u32,
    pub(super) placements: Vec<PlacementFact>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) spared: Vec<SparedFact>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct FolderEventFact {
    pub(super) at: Timestamp,
    pub(super) gateway_mailbox: GatewayMailboxId,
    pub(super) folder: u64,
    /// First and last of each run.
    pub(super) uids: Vec<(Uid, Uid)>,
    pub(super) client: Client,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RevisedFact {
    pub(super) receipt_id: ReceiptId,
    pub(super) gateway_mailbox: GatewayMailboxId,
    pub(super) at: Timestamp,
    /// Who did it.
    pub(super) actor: String,
    pub(super) kind: RevisionKind,
    /// When the receipt was received: its entries are listed with that time.
    pub(super) received_at: Timestamp,
    /// Replaces what was read before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reading: Option<ReadingFact>,
    /// Replaces what was said before, also by none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) unmatched: Vec<String>,
    /// What makes another receipt "the same again", beside what did before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<Digest>,
    pub(super) epoch: u32,
    pub(super) placements: Vec<LaterPlacementFact>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) spared: Vec<SparedFact>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) left: Vec<LeftFact>,
}

impl RevisedFact {
    /// From when on retention counts its receipt: what waited in Quarantine or Unassigned for longer than retention keeps it is no
    /// older in its new folder than it is there, else releasing it would lose it. What is only shown otherwise is as old as it was.
    pub(super) fn kept_from(&self) -> Option<Timestamp> {
        (!self.placements.is_empty() && self.kind != RevisionKind::Viewed).then_some(self.at)
    }
}

/// What reading a receipt's octets anew found: as in [`ReceivedFact`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ReadingFact {
    pub(super) class: Class,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parent_message_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) returned_message_id: Option<String>,
    pub(super) reports: Vec<ReportRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) defects: Vec<(String, String)>,
    pub(super) messages: Vec<MessageFact>,
}

/// A placement made by a revision; its message may stand in an older entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LaterPlacementFact {
    #[serde(flatten)]
    pub(super) placement: PlacementFact,
    /// Join of the message.
    pub(super) join: Digest,
}

/// A file of a gateway mailbox's wrapped keyring as it was written: so damage to it is found without any key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct KeyFileFact {
    pub(super) at: Timestamp,
    pub(super) gateway_mailbox: GatewayMailboxId,
    /// Its name under `keys/<id>/`.
    pub(super) name: String,
    pub(super) octets: u64,
    pub(super) sha256: Digest,
}

/// An entry that left its folder.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct LeftFact {
    pub(super) folder: u64,
    pub(super) uid: Uid,
}

/// Entries that retention took out of a folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ExpiredFact {
    pub(super) at: Timestamp,
    pub(super) gateway_mailbox: GatewayMailboxId,
    pub(super) folder: u64,
    /// First and last of each run.
    pub(super) uids: Vec<(Uid, Uid)>,
    /// `retention`, or who had it done.
    pub(super) actor: String,
    /// The rule: `received more than 365 days ago`.
    pub(super) why: String,
}

/// Entries of a folder that were deleted and are there again, each under a new UID: no client ever sees one come back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct UndeletedFact {
    pub(super) at: Timestamp,
    pub(super) gateway_mailbox: GatewayMailboxId,
    pub(super) folder: u64,
    pub(super) name: FolderName,
    pub(super) actor: String,
    pub(super) epoch: u32,
    pub(super) entries: Vec<UndeletedEntry>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct UndeletedEntry {
    /// The UID it had.
    pub(super) of: Uid,
    pub(super) uid: Uid,
    pub(super) message: u64,
    pub(super) receipt_id: ReceiptId,
    /// When it was received: it is listed with that time.
    pub(super) received_at: Timestamp,
    /// Join of the message; absent where the entry had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) join: Option<Digest>,
}

/// Deleted entries whose time is over, and the content that went with the last of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct FreedFact {
    pub(super) at: Timestamp,
    pub(super) gateway_mailbox: GatewayMailboxId,
    pub(super) folder: u64,
    /// First and last of each run: these can be had back no more.
    pub(super) uids: Vec<(Uid, Uid)>,
    /// First and last of each run of objects whose content is freed; the entries that tell of them stay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) objects: Vec<(u64, u64)>,
    /// `retention`, or who had it done.
    pub(super) actor: String,
}

/// A clock that had jumped, and that an admin says is right.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ClockTrustedFact {
    pub(super) at: Timestamp,
    pub(super) actor: String,
    /// What it was known to have reached.
    pub(super) from: Timestamp,
}

/// The store goes on from a backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RestoredFact {
    pub(super) at: Timestamp,
    pub(super) actor: String,
    /// When the backup was made, as it says itself.
    pub(super) backup_at: Timestamp,
    /// The last group of the backup, and the chain hash behind it: what was signed behind that is of the original.
    pub(super) sequence: u64,
    pub(super) chain: Digest,
    /// So many UIDs are left out in every folder there is.
    pub(super) uids_skipped: u32,
    /// Part of every UIDL from here on.
    pub(super) epoch: u32,
}

/// Flags of entries of a folder, as a client changed them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct FlaggedFact {
    pub(super) at: Timestamp,
    pub(super) gateway_mailbox: GatewayMailboxId,
    pub(super) folder: u64,
    /// First and last of each run, and the flags that its entries have now.
    pub(super) uids: Vec<(Uid, Uid, Flags)>,
    pub(super) client: Client,
}

/// Joins rising numbers into runs.
pub(super) fn number_runs(numbers: &[u64]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*number) => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    runs
}

/// Joins rising UIDs into runs.
pub(super) fn runs(uids: &[Uid]) -> Vec<(Uid, Uid)> {
    let mut runs: Vec<(Uid, Uid)> = Vec::new();
    for uid in uids {
        match runs.last_mut() {
            Some((_, last)) if last.value().checked_add(1) == Some(uid.value()) => *last = *uid,
            _ => runs.push((*uid, *uid)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_neighbouring_uids() {
        let uid = |n| Uid::new(n).unwrap();
        let got = runs(&[uid(1), uid(2), uid(3), uid(7), uid(9), uid(10)]);
        assert_eq!(got, [(uid(1), uid(3)), (uid(7), uid(7)), (uid(9), uid(10))]);
        assert!(runs(&[]).is_empty());
    }
}
