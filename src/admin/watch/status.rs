//! What `daybook status` and the status mail show, as plain data.

use super::credentials::CredentialEnd;
use super::sources::SourceView;
use crate::mail::{GatewayMailboxId, GatewayMailboxState, Timestamp};
use crate::observe::alarm::Raised;
use crate::store::{CheckpointStatus, KeepingStatus, ScrubStatus, Space, Tally};
use serde::{Deserialize, Serialize};

/// The gateway on one page. Holds neither addresses of gateway mailboxes nor anything of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusView {
    /// When this was seen.
    pub at: Timestamp,
    /// The name of the host.
    pub hostname: String,
    /// The version of the server.
    pub version: String,
    /// Since when it has been there, but for short restarts.
    pub watching_since: Timestamp,
    /// The alarms that are raised.
    pub alarms: Vec<Raised>,
    /// Why the store does not take mail; `None` when it does.
    pub store_trouble: Option<String>,
    /// Room on the disk; `None` when it cannot be found out.
    pub disk: Option<DiskView>,
    /// The newest signed checkpoint; `None` before the first, or when it cannot be found out.
    #[serde(default)]
    pub checkpoint: Option<CheckpointView>,
    /// How reading again what is stored stands, with the first few things that are damaged.
    #[serde(default)]
    pub scrub: Option<ScrubStatus>,
    /// How retention stands, and the clock it goes by.
    #[serde(default)]
    pub keeping: Option<KeepingStatus>,
    /// The certificate shown to peers; `None` when it cannot be read.
    pub certificate: Option<CertificateView>,
    /// When the credentials of applications in Entra ID end.
    #[serde(default)]
    pub credentials: Vec<CredentialEnd>,
    /// How alerts leave; `None` when they are not mailed.
    pub mail: Option<MailView>,
    /// When all gateway mailboxes were last counted; `None` when they are not yet.
    #[serde(default)]
    pub counted_at: Option<Timestamp>,
    /// Every source of users, in the order of the configuration.
    #[serde(default)]
    pub directory: Vec<SourceView>,
    /// Every gateway mailbox but the one for self-tests, oldest first.
    pub gateway_mailboxes: Vec<MailboxStatus>,
}

/// Room on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskView {
    /// Free octets.
    pub free_octets: u64,
    /// Below this mail is refused.
    pub reserve_octets: u64,
}

impl From<Space> for DiskView {
    fn from(space: Space) -> DiskView {
        DiskView { free_octets: space.free_octets, reserve_octets: space.reserve_octets }
    }
}

/// How far the log had come, as it was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointView {
    /// When. None is made while nothing is stored.
    pub at: Timestamp,
    /// Number of the last group of the log.
    pub group: u64,
    /// The Ed25519 public key that checkpoints are signed by now, in hex; `None` when none could be had.
    pub key: Option<String>,
    /// When one was last written to `checkpoint_dir` by this server; `None` before, and without such a folder.
    pub outside_at: Option<Timestamp>,
}

impl CheckpointView {
    pub(super) fn of(status: CheckpointStatus) -> Option<CheckpointView> {
        let newest = status.newest?;
        let key = status.key.map(|key| key.to_string());
        Some(CheckpointView { at: newest.at, group: newest.sequence, key, outside_at: status.outside_at })
    }
}

/// The certificate shown to peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateView {
    /// When it ends.
    pub ends: Timestamp,
    /// Nobody vouches for it but itself.
    pub self_signed: bool,
}

/// How alerts leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailView {
    /// To whom.
    pub to: Vec<String>,
    /// Over which host.
    pub relay: String,
    /// Mails waiting to be sent.
    pub waiting: usize,
    /// Why the last try failed; `None` when it did not.
    pub failure: Option<String>,
}

/// A gateway mailbox as those who watch over it see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxStatus {
    /// Never changes.
    pub id: GatewayMailboxId,
    /// What it is called.
    pub name: String,
    /// Whether it takes mail; a suspended one has no alarms.
    pub state: GatewayMailboxState,
    /// When the last report came.
    pub last_report: Option<Timestamp>,
    /// When a client last fetched or deleted a message.
    pub last_fetched: Option<Timestamp>,
    /// When a client last logged in.
    pub last_login: Option<Timestamp>,
    /// Messages nobody has taken away.
    pub waiting: u64,
    /// Their octets.
    pub waiting_octets: u64,
    /// When the oldest of them came.
    pub oldest_waiting: Option<Timestamp>,
    /// What became of the last 24 hours' mail.
    pub last_day: DayView,
}

/// What became of a day's mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayView {
    /// Messages received.
    pub received: u64,
    /// Their octets.
    pub octets: u64,
    /// Entries made in users' folders.
    pub in_user_folders: u64,
    /// Entries made in Unassigned.
    pub unassigned: u64,
    /// Entries made in Quarantine.
    pub quarantined: u64,
    /// Messages fetched.
    pub fetched: u64,
}

impl From<Tally> for DayView {
    fn from(tally: Tally) -> DayView {
        DayView {
            received: tally.received,
            octets: tally.octets,
            in_user_folders: tally.in_user_folders,
            unassigned: tally.unassigned,
            quarantined: tally.quarantined,
            fetched: tally.fetched,
        }
    }
}

/// The status report as mail, and what came of sending it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusMailView {
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub text: String,
    /// Over which host it was sent; `None` when it was only to be shown.
    pub relay: Option<String>,
    /// What came of it, for each recipient.
    pub sent: Vec<SentView>,
}

/// What came of sending to one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentView {
    /// The recipient.
    pub to: String,
    /// Whether the relay took it.
    pub taken: bool,
    /// What the relay said, or why it could not be asked.
    pub answer: String,
}
