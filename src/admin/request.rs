//! What can be asked, what is answered, and how it can fail: one JSON object each.
//!
//! ```text
//! {"op":"show-gateway-mailbox","gateway_mailbox":"mbx-…"}
//! {"gateway-mailbox":{"address":"mbx-…@gateway.example.com","login":"mbx-…","state":"active", …}}
//! {"kind":"not-found","why":"no gateway mailbox is named mbx-…"}
//! ```
//! The values inside a [`Response`] are what `--json` prints: fields are added to them, never renamed or taken away.

use super::Ports;
use super::export::ExportView;
use super::gaps::GapsView;
use super::key::{Key, NewPassword};
use super::key_changes::{KeyExportView, KeysView, PasswordResetView};
use super::learned::{LearnedView, RecentView};
use super::pulling::PULL_WAIT;
use super::quarantine::{QuarantineView, QuarantinedDetail};
use super::reassign::{ReassignPage, ReassignPlace};
use super::receipts::TracedView;
use super::reprocess::{REPROCESS_WAIT, Reached, ReprocessedView, Reprocessing};
use super::retention::{PassAsked, RETENTION_WAIT, RetentionView};
use super::revised::RevisedView;
use super::socket::CONNECTION_WAIT;
use super::syncs::{SYNC_WAIT, SyncsView};
use super::transactions::TransactionsAsked;
use super::undelete::{UNDELETE_WAIT, UndeletedView};
use super::watch::{StatusMailView, StatusView};
use crate::directory::{FoundAddress, PlanSummary, SnapshotSummary, SourceStatus};
use crate::mail::{
    GRACE_DAYS_DEFAULT, GatewayMailboxId, GatewayMailboxState, Hold, Maildrop, Mode, Network, Profile,
    ReceiptId, Timestamp, Untrusted,
};
use crate::observe::{Filter, Level};
use crate::store::{
    Escrow, IndexJob, IndexState, KeepingStatus, ReceiptView, ScrubStatus, StoreError, Transactions,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;
use zeroize::Zeroizing;

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Makes a gateway mailbox. Answered with [`Response::Created`].
    CreateGatewayMailbox {
        /// What it is called.
        name: String,
        /// Right-hand side of its address; the first of the configuration when absent.
        domain: Option<String>,
        /// The tenant it is for.
        tenant: Option<String>,
        /// How its messages are read.
        profile: Profile,
        /// Makes it an NDR mailbox of this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        serves: Option<String>,
    },
    /// Every gateway mailbox.
    ListGatewayMailboxes,
    /// One gateway mailbox, with its folders.
    ShowGatewayMailbox {
        /// Which one.
        gateway_mailbox: String,
    },
    /// Changes keys of a gateway mailbox: all or none.
    SetGatewayMailbox {
        /// Which one.
        gateway_mailbox: String,
        /// Keys and their new values.
        settings: Vec<(String, String)>,
        /// False says what would be taken away, as [`OpError::NeedsApproval`], when anything would.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        approved: bool,
    },
    /// Sets a legal hold.
    HoldGatewayMailbox {
        /// On which one.
        gateway_mailbox: String,
        /// On this user's folders alone: the directory's id, or an address.
        user: Option<String>,
        /// The case it is for.
        reason: String,
    },
    /// Ends one.
    UnholdGatewayMailbox {
        /// On which one.
        gateway_mailbox: String,
        /// On this user's folders.
        user: Option<String>,
        /// False only says what ends, as [`OpError::NeedsApproval`].
        approved: bool,
    },
    /// Brings back what was deleted from a folder: as much as fits into one answer.
    Undelete {
        /// Of which gateway mailbox.
        gateway_mailbox: String,
        /// The path of the folder; INBOX when absent.
        folder: Option<String>,
        /// Deleted since; whatever can be had back when absent.
        since: Option<Timestamp>,
        /// And no later: what the answer before said; absent with the first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deleted_until: Option<Timestamp>,
        /// False only says what can be had back.
        apply: bool,
    },
    /// What retention and grace take, and when.
    Retention {
        /// Does it first, as far as one answer may wait for that.
        pass: Option<PassAsked>,
    },
    /// Has retention go by the clock again.
    ConfirmClock {
        /// False only says which clock that is, as [`OpError::NeedsApproval`].
        approved: bool,
    },
    /// Gives it a new address; the former ones are served for a while.
    RotateGatewayMailbox {
        /// Which one.
        gateway_mailbox: String,
        /// For so many days; 0 is not at all.
        overlap_days: u32,
    },
    /// Confirms who sends to it.
    PinGatewayMailbox {
        /// Which one.
        gateway_mailbox: String,
        /// The tenant; when neither it nor a certificate is given, the one learned.
        tenant: Option<String>,
        /// SHA-256 of a client certificate to trust, in hex.
        certificate: Option<String>,
        /// False only says what would be pinned, as [`OpError::NeedsApproval`].
        approved: bool,
    },
    /// Takes no mail for it any more; fetching goes on.
    SuspendGatewayMailbox {
        /// Which one.
        gateway_mailbox: String,
    },
    /// Takes mail for it again.
    ResumeGatewayMailbox {
        /// Which one.
        gateway_mailbox: String,
    },
    /// Wraps its keyring to the escrow recipients that cannot open it yet.
    EscrowGatewayMailbox {
        /// Which one.
        gateway_mailbox: String,
        /// What opens it.
        key: Key,
    },
    /// Makes a new key the newest: what comes from now on is sealed to it.
    RotateKey {
        /// Which one.
        gateway_mailbox: String,
        /// Its password.
        key: Key,
    },
    /// Gives it another password. Answered with [`Response::PasswordReset`].
    ResetPassword {
        /// Which one.
        gateway_mailbox: String,
        /// What opens it, or did; nothing given is given up.
        keys: Vec<Key>,
        /// The password to be, drawn; absent only says what would come of it.
        password: Option<NewPassword>,
        /// Although mail is given up.
        approved: bool,
    },
    /// Hands out its keys. Answered with [`Response::KeyExport`].
    ExportKey {
        /// Which one.
        gateway_mailbox: String,
        /// What opens it, or did.
        key: Key,
    },
    /// Serves it no more.
    DeleteGatewayMailbox {
        /// Which one.
        gateway_mailbox: String,
        /// Although messages are left in it.
        force: bool,
    },
    /// The users of one gateway mailbox, or of all.
    ListUsers {
        /// Which one.
        gateway_mailbox: Option<String>,
    },
    /// One user, in one gateway mailbox or in all.
    ShowUser {
        /// By the directory's id or an address.
        user: String,
        /// Which one.
        gateway_mailbox: Option<String>,
    },
    /// Reads users from where they come from, and puts what changed in force. Answered with [`Response::Synced`].
    SyncUsers {
        /// One source; all when absent.
        source: Option<String>,
        /// True only says what would be done.
        dry_run: bool,
    },
    /// Applies a change of users that waits for an approval. Answered with [`Response::Synced`].
    ApplyPlan {
        /// Which one.
        plan: String,
    },
    /// Every change of users that waits for an approval.
    ListPlans,
    /// The lists of users of a source that can be gone back to.
    ListSnapshots {
        /// Which source.
        source: String,
    },
    /// Puts a former list of users in force. Answered with [`Response::Synced`].
    RollBackUsers {
        /// Of which source.
        source: String,
        /// Which one; the one before that in force when absent, or before the one gone back to last.
        to: Option<u64>,
    },
    /// Whose an address is, was, and who wanted it.
    FindAddress {
        /// Which one.
        address: String,
        /// Whose it was then.
        at: Option<Timestamp>,
    },
    /// Receipts by receipt id, Message-ID or address, newest first.
    Trace {
        /// Any of the three.
        query: String,
        /// Received since.
        since: Option<Timestamp>,
        /// At most so many transactions.
        most: usize,
    },
    /// Every transaction, accepted or not, newest first: a page of them.
    ListTransactions(TransactionsAsked),
    /// Journal reports that came back in NDRs without their original.
    Gaps {
        /// Those for, or of NDRs to, this one.
        gateway_mailbox: Option<String>,
        /// Of NDRs received since.
        since: Option<Timestamp>,
        /// Those too that have turned up.
        all: bool,
    },
    /// Gaps that an admin has seen to.
    CloseGaps {
        /// Receipts of the NDRs.
        receipt_ids: Vec<ReceiptId>,
    },
    /// That folders were exported, past the server: it goes into the server's log.
    NoteExport(super::ExportNote),
    /// One transaction, by its receipt id.
    Explain {
        /// Which one.
        receipt_id: ReceiptId,
    },
    /// The newest messages in Quarantine.
    ListQuarantine {
        /// Of one gateway mailbox.
        gateway_mailbox: Option<String>,
        /// Received since.
        since: Option<Timestamp>,
        /// At most so many.
        most: usize,
    },
    /// One message in Quarantine, with what can be done about it.
    ShowQuarantined {
        /// Which one.
        receipt_id: ReceiptId,
        /// In this gateway mailbox; needed when it is in Quarantine in several.
        gateway_mailbox: Option<String>,
    },
    /// The message that came by a receipt, as it was received: its octets follow the answer.
    ExportMessage {
        /// Which one.
        receipt_id: ReceiptId,
        /// In this gateway mailbox; needed when it came to several.
        gateway_mailbox: Option<String>,
        /// What opens it.
        key: Key,
    },
    /// Reads messages of a gateway mailbox again: as many as fit into one answer. Answered with [`Response::Reprocessed`].
    Reprocess {
        /// Which one.
        gateway_mailbox: String,
        /// Which messages.
        which: Reprocessing,
        /// False only says what would become of them.
        apply: bool,
        /// Behind those of the answer before.
        after: Option<Reached>,
        /// What opens it.
        key: Key,
    },
    /// Lets messages out of Quarantine, all or none.
    ReleaseQuarantined {
        /// Which ones.
        receipt_ids: Vec<ReceiptId>,
        /// In this gateway mailbox; needed when one is in Quarantine in several.
        gateway_mailbox: Option<String>,
        /// False only says what would become of them.
        apply: bool,
    },
    /// Gives stored messages to users whom the directory knows now: a page of it.
    Reassign {
        /// Of one gateway mailbox.
        gateway_mailbox: Option<String>,
        /// Received since.
        since: Option<Timestamp>,
        /// False only says what would be done.
        apply: bool,
        /// Where the page before ended.
        from: Option<ReassignPlace>,
    },
    /// Events of the running server, one a line after the answer, for as long as the connection lives.
    Tail {
        /// Which ones. Its gateway mailbox is named as in any other request.
        filter: Filter,
        /// How many there were before are sent first, at most.
        lines: usize,
        /// Whether to go on after them.
        follow: bool,
    },
    /// The level of the running server's log: shows it, or sets it until the next start.
    LogLevel {
        /// The level to set.
        level: Option<Level>,
        /// Seconds after which the configured one is set again.
        seconds: Option<u64>,
    },
    /// What the running server is like, on one page.
    Status,
    /// The status report as mail.
    StatusMail {
        /// False only shows it.
        send: bool,
    },
    /// How reading again what is stored stands.
    Scrub {
        /// Begins it anew, from the beginning.
        begin: bool,
        /// Places at which damage is known, and no more to be alarmed.
        close: Vec<String>,
    },
    /// Whether a server runs that would take mail now.
    Ready,
    /// What only the server, or whoever has the store open, can tell `doctor`.
    Examine,
    /// What is being done about the index, and what came of the last of it.
    Index {
        /// To begin first; what is being done already is gone on with.
        begin: Option<IndexJob>,
    },
    /// Makes the gateway mailbox for self-tests anew; one that was there goes, with the test mail in it. Answered with
    /// [`Response::Created`].
    RenewSelfTest,
    /// Takes everything out of the gateway mailbox for self-tests.
    ClearSelfTest,
    /// Has pullers look now, and waits for what comes of it.
    Pull {
        /// One of them; all without.
        name: Option<String>,
        /// Only says how they are.
        status: bool,
    },
}

/// What an operation answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// A gateway mailbox was made.
    Created(Box<CreatedView>),
    /// Every gateway mailbox, oldest first.
    GatewayMailboxes(Vec<GatewayMailboxView>),
    /// A gateway mailbox as it is now.
    GatewayMailbox(Box<GatewayMailboxView>),
    /// Users, one for each gateway mailbox they are in.
    Users(Vec<UserView>),
    /// What came of syncs of users.
    Synced(Box<SyncsView>),
    /// Changes of users that wait for an approval.
    Plans(Vec<PlanSummary>),
    /// Lists of users that can be gone back to, oldest first.
    Snapshots(Vec<SnapshotSummary>),
    /// Whose an address is, by source.
    FoundAddresses(Vec<FoundAddress>),
    /// Receipts, newest first.
    Receipts(Vec<ReceiptView>),
    /// The same, and transactions that were turned away.
    Traced(Box<TracedView>),
    /// A page of transactions.
    Transactions(Transactions),
    /// Reports that are missing.
    Gaps(Box<GapsView>),
    /// What is in Quarantine.
    Quarantine(QuarantineView),
    /// One message in Quarantine.
    Quarantined(Box<QuarantinedDetail>),
    /// What became, or would become, of receipts.
    Revised(Vec<RevisedView>),
    /// The same, of receipts looked at one after the other.
    Reassigned(Box<ReassignPage>),
    /// What came back, or can be had back.
    Undeleted(Box<UndeletedView>),
    /// What retention and grace take.
    Retention(Box<RetentionView>),
    /// The level of the log, as it is now.
    LogLevel(LogLevelView),
    /// What became of messages that were read again, or would become.
    Reprocessed(ReprocessedView),
    /// It is in the log.
    ExportNoted(super::ExportNote),
    /// The octets follow.
    Exporting(ExportView),
    /// Lines follow.
    Tailing {
        /// The version of the server.
        version: String,
    },
    /// The gateway on one page.
    Status(Box<StatusView>),
    /// The status report, and what came of sending it.
    StatusMail(Box<StatusMailView>),
    /// How reading again what is stored stands.
    Scrub(Box<ScrubStatus>),
    /// Whether the server would take mail.
    Ready(Readiness),
    /// What `doctor` goes by.
    Examined(Box<Examined>),
    /// What is being done about the index.
    Index(Box<IndexState>),
    /// What came of another password.
    PasswordReset(Box<PasswordResetView>),
    /// Keys, handed out.
    KeyExport(Box<KeyExportView>),
    /// How pullers are, and what they brought.
    Pullers(Vec<super::PullerView>),
}

impl Request {
    /// How long the answer may take, from the end of the request.
    pub(super) fn wait(&self) -> Duration {
        match self {
            Request::Reprocess { .. } => REPROCESS_WAIT,
            Request::Undelete { .. } => UNDELETE_WAIT,
            Request::Retention { .. } => RETENTION_WAIT,
            Request::SyncUsers { .. } => SYNC_WAIT,
            Request::Pull { .. } => PULL_WAIT,
            _ => CONNECTION_WAIT,
        }
    }
}

impl Response {
    /// What `--json` prints: the value without its label.
    ///
    /// # Errors
    /// A value that JSON cannot hold; our fault.
    pub fn to_json(&self) -> serde_json::Result<serde_json::Value> {
        match self {
            Response::Created(created) => serde_json::to_value(created),
            Response::GatewayMailboxes(list) => serde_json::to_value(list),
            Response::GatewayMailbox(one) => serde_json::to_value(one),
            Response::Users(list) => serde_json::to_value(list),
            Response::Synced(synced) => serde_json::to_value(synced),
            Response::Plans(list) => serde_json::to_value(list),
            Response::Snapshots(list) => serde_json::to_value(list),
            Response::FoundAddresses(list) => serde_json::to_value(list),
            Response::Receipts(list) => serde_json::to_value(list),
            Response::Traced(traced) => traced.to_json(),
            Response::Transactions(page) => serde_json::to_value(&page.transactions),
            Response::Gaps(gaps) => serde_json::to_value(gaps),
            Response::Quarantine(quarantine) => serde_json::to_value(quarantine),
            Response::Quarantined(detail) => serde_json::to_value(detail),
            Response::Revised(revised) => serde_json::to_value(revised),
            Response::Reassigned(page) => serde_json::to_value(page),
            Response::Undeleted(view) => serde_json::to_value(view),
            Response::Retention(view) => serde_json::to_value(view),
            Response::LogLevel(level) => serde_json::to_value(level),
            Response::Reprocessed(view) => serde_json::to_value(view),
            Response::ExportNoted(note) => serde_json::to_value(note),
            Response::Exporting(view) => serde_json::to_value(view),
            Response::Tailing { version } => Ok(serde_json::json!({ "version": version })),
            Response::Status(status) => serde_json::to_value(status),
            Response::StatusMail(mail) => serde_json::to_value(mail),
            Response::Scrub(scrub) => serde_json::to_value(scrub),
            Response::Ready(readiness) => serde_json::to_value(readiness),
            Response::Examined(examined) => serde_json::to_value(examined),
            Response::Index(state) => serde_json::to_value(state),
            Response::Pullers(views) => serde_json::to_value(views),
            Response::PasswordReset(reset) => serde_json::to_value(reset),
            Response::KeyExport(keys) => Ok(serde_json::json!({
                "gateway_mailbox": keys.gateway_mailbox, "public_keys": keys.public_keys, "lacking": keys.lacking,
            })),
        }
    }
}

/// A gateway mailbox. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayMailboxView {
    /// The address reports are sent to.
    pub address: String,
    /// The POP3 user name.
    pub login: String,
    /// Whether it takes mail.
    pub state: GatewayMailboxState,
    /// Never changes.
    pub id: GatewayMailboxId,
    /// What it is called.
    pub name: String,
    /// The tenant it is for.
    pub tenant: Option<String>,
    /// How its messages are read.
    pub profile: Profile,
    /// What comes to it.
    #[serde(default)]
    pub role: RoleView,
    /// Of an NDR mailbox: the one that what comes back is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serves: Option<ServedView>,
    /// False: nothing is placed outside INBOX.
    pub archive: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// How full its INBOX is: what no poller has taken yet.
    pub inbox: InboxView,
    /// Every folder; only when one gateway mailbox was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folders: Option<Vec<FolderView>>,
    /// The current one first, then former ones, the last one first.
    #[serde(default)]
    pub addresses: Vec<AddressView>,
    /// What is done with mail that is not authentic.
    #[serde(default)]
    pub mode: Mode,
    /// Peers in these are trusted.
    #[serde(default)]
    pub trusted_networks: Vec<Network>,
    /// So are those with one of these certificates: SHA-256, in hex.
    #[serde(default)]
    pub pinned_certificates: Vec<String>,
    /// Header fields of plain mail that are trusted to name its recipients.
    #[serde(default)]
    pub recipient_headers: Vec<String>,
    /// Those that are trusted to name its sender.
    #[serde(default)]
    pub sender_headers: Vec<String>,
    /// So many days what was deleted can be had back.
    #[serde(default = "default_grace_days")]
    pub grace_days: u32,
    /// So many days after its receipt a message leaves INBOX; absent is never.
    #[serde(default)]
    pub inbox_retention_days: Option<u32>,
    /// The same for users' folders.
    #[serde(default)]
    pub user_retention_days: Option<u32>,
    /// Legal holds on it.
    #[serde(default)]
    pub holds: Vec<Hold>,
    /// What clients find in INBOX, and so in the POP3 maildrop.
    #[serde(default)]
    pub maildrop: Maildrop,
    /// True: clients may delete outside INBOX too.
    #[serde(default)]
    pub user_delete: bool,
    /// How fetching goes; not in a list of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetching: Option<FetchingView>,
    /// Who besides the password opens it; not in a list of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escrow: Option<Escrow>,
    /// The keys it had, and what they do not open any more.
    #[serde(default)]
    pub keys: KeysView,
    /// What the first reports teach about their senders; only when one gateway mailbox was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned: Option<LearnedView>,
    /// How the last messages were judged; only when one gateway mailbox was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recent: Option<RecentView>,
    /// What to know about the trust in force; only when one gateway mailbox was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Of a server that does not say.
fn default_grace_days() -> u32 {
    GRACE_DAYS_DEFAULT
}

/// What comes to a gateway mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleView {
    /// Journal reports.
    #[default]
    Journal,
    /// NDRs of journal reports.
    Ndr,
}

impl RoleView {
    /// The name in JSON and in arguments.
    pub fn as_str(self) -> &'static str {
        match self {
            RoleView::Journal => "journal",
            RoleView::Ndr => "ndr",
        }
    }
}

/// The gateway mailbox that an NDR mailbox serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedView {
    /// Never changes.
    pub id: GatewayMailboxId,
    /// Its login; absent when it is not there.
    pub login: Option<String>,
    /// What it is called; absent when it is not there.
    pub name: Option<String>,
}

/// One address of a gateway mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressView {
    /// The address.
    pub address: String,
    /// Served until then; absent for the current one.
    pub until: Option<Timestamp>,
    /// Its time is over: mail to it and logins by it are refused like unknown ones.
    pub retired: bool,
    /// When the last of the messages came to it that [`GatewayMailboxView::recent`] looks at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
}

/// How full an INBOX is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxView {
    /// Messages in it.
    pub entries: u64,
    /// Their stored octets.
    pub octets: u64,
    /// When the oldest of them was received.
    pub oldest: Option<Timestamp>,
}

/// How fetching goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchingView {
    /// Messages in INBOX that no fetch is on record for; absent where there is too much to look up.
    pub unfetched: Option<u64>,
    /// When the oldest of those was received.
    pub oldest_unfetched: Option<Timestamp>,
    /// When a client last logged in, fetched or deleted. Logins that fetched nothing are known to a running server alone.
    pub last: Option<Timestamp>,
    /// Messages in INBOX that are still shown as before `maildrop` was set; the server goes on with them.
    #[serde(default)]
    pub former_view: u64,
    /// Those of them that stay so, as the last pass over all of them found: they cannot be read, or what would come is freed.
    #[serde(default)]
    pub kept_as_before: u64,
}

/// A gateway mailbox just made, and its password: shown now, kept nowhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedView {
    /// What was made.
    #[serde(flatten)]
    pub gateway_mailbox: GatewayMailboxView,
    /// Its password.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for CreatedView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedView").field("gateway_mailbox", &self.gateway_mailbox).finish_non_exhaustive()
    }
}

/// How full a folder is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderView {
    /// The path clients see.
    pub path: String,
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
}

/// A user as one gateway mailbox knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserView {
    /// The directory's id.
    pub id: String,
    /// For people, as last known; `None` when that is not known any more.
    pub name: Option<String>,
    /// The address shown for the user.
    pub primary: Option<String>,
    /// Every address that leads to the user, the primary one first.
    pub addresses: Vec<String>,
    /// False when mail is kept for the user, but the directory no longer names it.
    pub in_directory: bool,
    /// When the directory ceased to name it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_since: Option<Timestamp>,
    /// Up to when addresses lead to a user who is gone; in the past where none does any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses_until: Option<Timestamp>,
    /// Address of the gateway mailbox.
    pub gateway_mailbox: String,
    /// The user's folders there.
    pub folders: Vec<FolderView>,
}

/// The level of a running server's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLevelView {
    /// The least severe events written now.
    pub level: Level,
    /// What the configuration says, in force from the next start.
    pub configured: Level,
    /// When `configured` is set again without a start.
    pub until: Option<Timestamp>,
}

/// Whether a server would take mail now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// True when every check is good that does not only advise.
    pub ready: bool,
    /// What was looked at.
    pub checks: Vec<Check>,
    /// The version of the server.
    pub version: String,
    /// Where it listens.
    pub ports: Ports,
}

impl Readiness {
    /// For people: a line that says it, and one for each check that is not good.
    pub fn to_text(&self) -> String {
        let mut text = if self.ready { "ready\n".to_owned() } else { "not ready\n".to_owned() };
        for check in self.checks.iter().filter(|check| !check.good) {
            let why = Untrusted(check.why.as_deref().unwrap_or("not good"));
            let note = if check.advisory { " (note)" } else { "" };
            text.push_str(&format!("{}{note}: {why}\n", Untrusted(&check.name)));
        }
        text
    }
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// Whether it is as it should be.
    pub good: bool,
    /// True when it only advises: mail is taken all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub advisory: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What the process that has the store open tells `doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examined {
    /// Its process id.
    pub pid: u32,
    /// The user it runs as.
    pub uid: u32,
    /// Whether it would take mail; `None` when it serves nobody.
    pub readiness: Option<Readiness>,
    /// When the newest message was received, whatever the clock was then.
    pub newest: Option<Timestamp>,
    /// How reading again what is stored stands; `None` where that is not known.
    #[serde(default)]
    pub scrub: Option<ScrubStatus>,
    /// How retention stands, and the clock it goes by; `None` where that is not known.
    #[serde(default)]
    pub keeping: Option<KeepingStatus>,
    /// How pullers are; none where no server runs.
    #[serde(default)]
    pub pullers: Vec<crate::pull::PullerStatus>,
    /// How every source of users stands, in the order of the configuration.
    #[serde(default)]
    pub directories: Vec<SourceStatus>,
    /// Every gateway mailbox, oldest first.
    pub gateway_mailboxes: Vec<MailboxExamined>,
}

/// What came to a gateway mailbox, and what was fetched from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxExamined {
    /// The gateway mailbox.
    pub gateway_mailbox: GatewayMailboxView,
    /// It is there for Daybook to try itself out in.
    pub self_test: bool,
    /// When the last message was accepted.
    pub last_received: Option<Timestamp>,
    /// When a client last fetched or deleted a message.
    pub last_fetched: Option<Timestamp>,
}

/// Why an operation was not done. Nothing was changed, except perhaps by one whose answer was lost on the way
/// ([`OpError::Unavailable`] says so).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "why", rename_all = "kebab-case")]
pub enum OpError {
    /// There is no such thing.
    NotFound(String),
    /// It cannot be done in the present state.
    Refused(String),
    /// It destroys something and was not confirmed.
    NeedsApproval(String),
    /// Server or store cannot be reached, or failed. Trying again later may help.
    Unavailable(String),
    /// The request itself is wrong.
    Usage(String),
}

impl OpError {
    /// 1 found a problem, 2 wrong usage, 3 could not do it, 4 needs an approval.
    pub fn exit_code(&self) -> u8 {
        match self {
            OpError::NotFound(_) | OpError::Refused(_) => 1,
            OpError::Usage(_) => 2,
            OpError::Unavailable(_) => 3,
            OpError::NeedsApproval(_) => 4,
        }
    }

    /// The reason alone.
    pub fn why(&self) -> &str {
        match self {
            OpError::NotFound(why)
            | OpError::Refused(why)
            | OpError::NeedsApproval(why)
            | OpError::Unavailable(why)
            | OpError::Usage(why) => why,
        }
    }
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why())
    }
}

impl std::error::Error for OpError {}

impl From<StoreError> for OpError {
    fn from(error: StoreError) -> OpError {
        match error {
            StoreError::Refused(why) => OpError::Refused(why),
            StoreError::Gone => OpError::NotFound("it is not there any more".to_owned()),
            StoreError::LacksKey | StoreError::NotAllowed => OpError::Refused(error.to_string()),
            StoreError::Full
            | StoreError::Io(..)
            | StoreError::Damaged(_)
            | StoreError::IndexDamaged(_)
            | StoreError::Locked
            | StoreError::Newer(_) => OpError::Unavailable(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_errors_read_back_as_written() {
        let request = Request::ShowGatewayMailbox { gateway_mailbox: "mbx-1".to_owned() };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(text, r#"{"op":"show-gateway-mailbox","gateway_mailbox":"mbx-1"}"#);
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
        let error = OpError::NeedsApproval("3 messages are left".to_owned());
        let text = serde_json::to_string(&error).unwrap();
        assert_eq!(text, r#"{"kind":"needs-approval","why":"3 messages are left"}"#);
        assert_eq!(serde_json::from_str::<OpError>(&text).unwrap(), error);
    }

    #[test]
    fn no_secret_is_shown_in_debug() {
        let secret = || Zeroizing::new("open sesame".to_owned());
        let identity = Zeroizing::new("open sesame\n".to_owned());
        let keys = vec![Key::Password(secret()), Key::Identity(identity)];
        let password = Some(NewPassword::new(secret()));
        let gateway_mailbox = "mbx-1".to_owned();
        let request = Request::ResetPassword { gateway_mailbox, keys, password, approved: true };
        let (shown, written) = (format!("{request:?}"), serde_json::to_string(&request).unwrap());
        assert!(!shown.contains("sesame") && written.matches("sesame").count() == 3, "{shown}");
        assert_eq!(serde_json::from_str::<Request>(&written).unwrap(), request);
    }

    #[test]
    fn what_a_request_does_not_know_is_refused_not_ignored() {
        for text in [
            r#"{"op":"format-disk"}"#,
            r#"{"op":"delete-gateway-mailbox","gateway_mailbox":"a","force":false,"dry_run":true}"#,
        ] {
            assert!(serde_json::from_str::<Request>(text).is_err(), "{text}");
        }
    }
}
