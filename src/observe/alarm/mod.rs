//! Alarms: what must not stay unseen, raised once and cleared once.
//!
//! [`Alarms::step`] is given what is known now ([`Facts`]) and the time, and says what changed. It does no I/O and reads no
//! clock, so every alarm can be shown in a test by giving times.
//!
//! | alarm | about | raised when | cleared when |
//! |---|---|---|---|
//! | `store-not-acknowledging` | the gateway | the store failed for a minute | it worked for two |
//! | `disk-low` | the gateway | less is free than the reserve, the configured margin and two days of mail | a quarter more is free than the largest day since needs |
//! | `log-end-missing` | the gateway | the log was opened without what the index or a signed checkpoint says it once held (critical) | `daybook scrub --close log-end` |
//! | `checkpoints-not-kept` | the gateway | signed checkpoints could not be written to `data_dir` or `checkpoint_dir` for ten minutes | they can |
//! | `store-damaged` | the gateway | something stored was found not to be what was stored | it is found whole, nobody can ask for it any more, or `daybook scrub --close` |
//! | `retention-paused` | the gateway | the clock jumped more than seven days ahead, or the store was restored, and nothing leaves by it | `daybook retention confirm`, or the clock is back |
//! | `retention-failed` | the gateway | the last pass of retention and freeing failed | one comes to its end |
//! | `directory-plan-waiting` | the gateway | a source of users says so much less than before that nothing of it is applied without a person's word | it is applied, or the source says what can be |
//! | `directory-failing` | the gateway | a source of users could not be read for ten minutes where a person must mend it (a list with faults, credentials), for three hours where it may mend itself (a server out of reach, an answer that is cut) | all are read |
//! | `puller-failing` | the gateway | a puller could not empty its account for ten minutes where a person must mend it (login, certificate, gateway mailbox), for three hours where it may mend itself | none fails |
//! | `certificate-expiring` | the gateway | fewer than 28 days are left; told again at 14, 7 (critical from here on) and 1; a short-lived one is given a third of its life | another is shown |
//! | `certificate-not-loaded` | the gateway | certificate and key lie in their files and cannot be used | they can |
//! | `credential-expiring` | the gateway | a credential of an application in Entra ID has 60 days left; told again at 28, 14, 7 and 1, and when it has ended | another is used |
//! | `mail-refused` | the gateway | mail that may have been a report was refused for good: a message as broken or too large (critical), by strict mode, or for a former address (warnings) | none was for a day |
//! | `no-report` | a gateway mailbox | it is silent for longer than usual ([`rhythm`](super::rhythm)) | a report comes |
//! | `nobody-fetched` | a gateway mailbox | mail waits and nobody logged in for the configured hours | somebody logs in, or nothing waits |
//! | `report-missing` | a gateway mailbox | an NDR that came there and is not held back returned only the header of a report, which is not here or only in doubt (critical), or of which another one is that names the same Message-ID (warning) | it turned up whole, the NDR was taken out of Quarantine, or `daybook gaps --close` |
//! | `quarantine-growing` | a gateway mailbox | a message was quarantined | none was for a day, or those that were are gone |
//! | `unassigned-growing` | a gateway mailbox | a quarter of a day's mail, and at least twenty, belong to nobody | less than a tenth does |
//!
//! Between "raised" and "cleared" there is room in which nothing changes, so that no alarm flaps. One that lasts is told
//! again at the configured interval; one that becomes critical, or comes a stage nearer, is told at once, and stays critical
//! until it clears.
//! What cannot be found out now changes nothing. A clock that was ahead for a while silences nothing: times it has not reached
//! are none ([`is_ahead`]). A gateway mailbox that is no longer watched (suspended, deleted) has no
//! alarms.

mod check;
mod credential;
mod directory;

pub use credential::{CREDENTIAL_STAGES_DAYS, CredentialEnding, CredentialFacts};
pub use directory::{FailureFacts, PlanFacts, PlanWaiting, SourceFacts, SourceFailing};

use super::rhythm::Rhythm;
use crate::mail::{GatewayMailboxId, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// The names of all alarms, for those who show one row or one metric for each.
pub const ALARMS: [&str; 19] = [
    "store-not-acknowledging",
    "disk-low",
    "log-end-missing",
    "checkpoints-not-kept",
    "store-damaged",
    "retention-paused",
    "retention-failed",
    "directory-plan-waiting",
    "directory-failing",
    "puller-failing",
    "certificate-expiring",
    "certificate-not-loaded",
    "credential-expiring",
    "mail-refused",
    "no-report",
    "nobody-fetched",
    "report-missing",
    "quarantine-growing",
    "unassigned-growing",
];

/// What seems to lie further ahead of now than this many milliseconds was noted while the clock was ahead, and counts for
/// nothing. Less than that is what happened while somebody looked.
pub const AHEAD_MS: i64 = 5 * 60 * 1000;

/// Whether a time was noted while the clock was ahead. See [`AHEAD_MS`].
pub fn is_ahead(at: Timestamp, now: Timestamp) -> bool {
    at.unix_ms() > now.unix_ms().saturating_add(AHEAD_MS)
}

/// What the admin chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Mail may wait so long without a login, in milliseconds; `None` is for ever.
    pub fetch_silence_ms: Option<i64>,
    /// An alarm that lasts is told again after so long, in milliseconds; `None` is never.
    pub remind_ms: Option<i64>,
    /// Free space beyond the store's reserve below which the disk is low, in octets.
    pub disk_margin_octets: u64,
}

/// How the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreState {
    /// It takes mail.
    Ready,
    /// It has no room, and refuses mail for now.
    Full,
    /// It cannot store; why.
    Failing(String),
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Not before.
    pub begins: Timestamp,
    /// Not after.
    pub ends: Timestamp,
}

/// Certificate and key as they lie in their files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateFiles {
    /// They are what is shown to peers.
    Shown,
    /// They cannot be used, and the pair before is shown; why.
    Bad(String),
}

/// What is known of the end of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointFacts {
    /// What was missing when the log was opened.
    pub missing: Option<String>,
    /// Since when checkpoints cannot be written to one of the places they should be, and why.
    pub failing: Option<(Timestamp, String)>,
}

/// Room on the disk, and what needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceFacts {
    /// Free octets.
    pub free_octets: u64,
    /// Below this mail is refused.
    pub reserve_octets: u64,
    /// Octets of mail received in the last day; `None` when they are not counted yet.
    pub daily_octets: Option<u64>,
}

/// Mail refused for good that may have been reports: how much in the last day, as far as this process remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusedFacts {
    /// Messages, although a recipient had been accepted, or from a favoured peer.
    pub messages: u64,
    /// Recipients, since the gateway mailbox is in strict mode and nothing from that peer could be authentic.
    pub forbidden: u64,
    /// Recipients that were former addresses.
    pub retired: u64,
    /// When the last of them was refused.
    pub last: Option<Timestamp>,
}

/// What was found damaged of what is stored, and nobody has closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DamageFacts {
    /// So many things.
    pub damaged: u64,
    /// Where the first few are.
    pub places: Vec<String>,
    /// When the first of those was found.
    pub since: Option<Timestamp>,
}

/// A clock that jumped ahead, so that nothing leaves by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PauseFacts {
    /// The last time it was known to be right.
    pub trusted: Timestamp,
    /// What it says.
    pub clock: Timestamp,
    /// The store was restored from a backup.
    pub restored: bool,
}

/// What is known of one gateway mailbox.
#[derive(Clone, Debug)]
pub struct MailboxFacts {
    /// Which one.
    pub subject: Subject,
    /// Since when it is watched over, where that is later than for the gateway: it was suspended before.
    pub watched_since: Option<Timestamp>,
    /// Its numbers; `None` when they cannot be read now.
    pub numbers: Option<MailboxNumbers>,
}

/// The numbers of a gateway mailbox. Mail about Daybook's own notices is in none of them.
#[derive(Clone, Debug, Default)]
pub struct MailboxNumbers {
    /// When they were counted, if not now.
    pub counted_at: Option<Timestamp>,
    /// When the last report came.
    pub last_received: Option<Timestamp>,
    /// What silence is usual, if enough is known.
    pub rhythm: Option<Arc<Rhythm>>,
    /// When somebody last logged in to fetch.
    pub last_visit: Option<Timestamp>,
    /// Messages nobody has taken away.
    pub waiting: u64,
    /// When the oldest of them came.
    pub oldest_waiting: Option<Timestamp>,
    /// Messages received in the last day.
    pub received: u64,
    /// Those of them in Quarantine.
    pub quarantined: u64,
    /// Those of them in Unassigned; `None` where nobody is expected to be known.
    pub unassigned: Option<u64>,
    /// Reports that did not come back from NDRs; `None` when that cannot be told.
    pub missing: Option<MissingFacts>,
}

/// Reports of which NDRs returned only the header, and that are not here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MissingFacts {
    /// Nothing of them is here, or only what may be cut short.
    pub missing: u64,
    /// A mail with the same Message-ID is, by another report.
    pub original_held: u64,
    /// When the first of their NDRs came.
    pub oldest: Option<Timestamp>,
}

/// What is known now.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Since when this server has been there to receive and to be fetched from, but for short restarts.
    pub watching_since: Timestamp,
    /// How the store is.
    pub store: StoreState,
    /// Room on the disk; `None` when it cannot be found out now.
    pub space: Option<SpaceFacts>,
    /// The end of the log, and what is to show it; `None` when it cannot be found out now.
    pub checkpoints: Option<CheckpointFacts>,
    /// When the certificate shown to peers begins and ends; `None` when it cannot be read.
    pub certificate: Option<Validity>,
    /// Whether the one in the files can be used; `None` when it cannot be found out now.
    pub certificate_files: Option<CertificateFiles>,
    /// What was refused for good.
    pub refused_mail: RefusedFacts,
    /// What is damaged.
    pub damage: DamageFacts,
    /// Why retention is paused; `None` when it is not.
    pub retention_pause: Option<PauseFacts>,
    /// Why its last pass failed; `None` when it did not, or none was made.
    pub retention_failure: Option<String>,
    /// Every credential of an application.
    pub credentials: Vec<CredentialFacts>,
    /// Every source of users.
    pub directory: Vec<SourceFacts>,
    /// Every puller.
    pub pullers: Vec<SourceFacts>,
    /// Every gateway mailbox that is watched over.
    pub gateway_mailboxes: Vec<MailboxFacts>,
}

/// The gateway mailbox an alarm is about. Its address is a secret, so it is named by id and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Never changes.
    pub id: GatewayMailboxId,
    /// What the admin calls it.
    pub name: String,
}

/// How urgent an alarm is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody should look today.
    Warning,
    /// Mail is not taken, or soon will not be.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        })
    }
}

/// What an alarm is about, with what was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "alarm", rename_all = "kebab-case")]
pub enum Cause {
    /// The store does not take mail.
    StoreNotAcknowledging {
        /// What it says.
        why: String,
    },
    /// There is little room left.
    DiskLow {
        /// Free octets.
        free_octets: u64,
        /// Below this mail is refused.
        reserve_octets: u64,
        /// Octets of mail received in a day, the most since the alarm was raised.
        daily_octets: u64,
        /// Mail is refused, or was when last seen.
        #[serde(default)]
        refuses: bool,
    },
    /// Acknowledged mail is not in the log any more.
    LogEndMissing {
        /// What is missing, and where.
        what: String,
    },
    /// Signed checkpoints cannot be written.
    CheckpointsNotKept {
        /// Where, and why not.
        why: String,
    },
    /// Something stored is damaged.
    StoreDamaged {
        /// So many things.
        damaged: u64,
        /// Where the first few are.
        places: Vec<String>,
    },
    /// The clock jumped ahead, and retention does not go by it.
    RetentionPaused {
        /// The last time it was known to be right.
        trusted: Timestamp,
        /// What it says.
        clock: Timestamp,
        /// The store was restored from a backup: whatever the clock says.
        restored: bool,
    },
    /// The last pass of retention and freeing failed.
    RetentionFailed {
        /// Why.
        why: String,
    },
    /// Changes of sources of users wait for a person.
    DirectoryPlanWaiting {
        /// Which ones.
        plans: Vec<PlanWaiting>,
    },
    /// Sources of users cannot be read.
    DirectoryFailing {
        /// Which ones.
        sources: Vec<SourceFailing>,
    },
    /// Accounts elsewhere are not emptied.
    PullerFailing {
        /// By which pullers.
        pullers: Vec<SourceFailing>,
    },
    /// The certificate ends soon, or has ended.
    CertificateExpiring {
        /// When.
        ends: Timestamp,
        /// Fewer days than this are left: the stage that was told of.
        #[serde(default = "check::first_stage_days")]
        within_days: u16,
    },
    /// A new certificate lies in its file and cannot be used.
    CertificateNotLoaded {
        /// What is wrong with the files.
        why: String,
    },
    /// Credentials end soon, or have ended.
    CredentialExpiring {
        /// Which, the first to end first.
        credentials: Vec<CredentialEnding>,
    },
    /// Mail was refused for good that may have been reports.
    MailRefused {
        /// How many in a day, the most since the alarm was raised: messages, and recipients of the two kinds below.
        in_a_day: u64,
        /// Of those, recipients refused by strict mode.
        #[serde(default)]
        forbidden: u64,
        /// Of those, former addresses.
        #[serde(default)]
        retired: u64,
        /// When the last of them was refused.
        last: Timestamp,
    },
    /// No report came for longer than usual.
    NoReport {
        /// When the last one came.
        last_received: Timestamp,
        /// The longest silence seen at this time of the week, in milliseconds.
        usual_silence_ms: i64,
    },
    /// Mail waits and nobody logs in.
    NobodyFetched {
        /// Messages waiting.
        waiting: u64,
        /// When the oldest of them came.
        oldest_waiting: Option<Timestamp>,
        /// The last login, if one is known.
        last_visit: Option<Timestamp>,
    },
    /// Reports did not come back from NDRs.
    ReportMissing {
        /// So many.
        missing: u64,
        /// And so many of which a mail with the same Message-ID is here by another report.
        original_held: u64,
    },
    /// Messages are quarantined.
    QuarantineGrowing {
        /// How many in the last day.
        in_a_day: u64,
    },
    /// Mail belongs to nobody.
    UnassignedGrowing {
        /// How many in the last day.
        in_a_day: u64,
        /// Of how many.
        received: u64,
    },
}

impl Cause {
    /// The stable name of the alarm, one of [`ALARMS`].
    pub fn name(&self) -> &'static str {
        match self {
            Cause::StoreNotAcknowledging { .. } => "store-not-acknowledging",
            Cause::DiskLow { .. } => "disk-low",
            Cause::LogEndMissing { .. } => "log-end-missing",
            Cause::CheckpointsNotKept { .. } => "checkpoints-not-kept",
            Cause::StoreDamaged { .. } => "store-damaged",
            Cause::RetentionPaused { .. } => "retention-paused",
            Cause::RetentionFailed { .. } => "retention-failed",
            Cause::DirectoryPlanWaiting { .. } => "directory-plan-waiting",
            Cause::DirectoryFailing { .. } => "directory-failing",
            Cause::PullerFailing { .. } => "puller-failing",
            Cause::CertificateExpiring { .. } => "certificate-expiring",
            Cause::CertificateNotLoaded { .. } => "certificate-not-loaded",
            Cause::CredentialExpiring { .. } => "credential-expiring",
            Cause::MailRefused { .. } => "mail-refused",
            Cause::NoReport { .. } => "no-report",
            Cause::NobodyFetched { .. } => "nobody-fetched",
            Cause::ReportMissing { .. } => "report-missing",
            Cause::QuarantineGrowing { .. } => "quarantine-growing",
            Cause::UnassignedGrowing { .. } => "unassigned-growing",
        }
    }

    /// It has come a stage nearer than it was.
    fn is_nearer_than(&self, before: &Cause) -> bool {
        match (self, before) {
            (
                Cause::CertificateExpiring { within_days, .. },
                Cause::CertificateExpiring { within_days: before, .. },
            ) => within_days < before,
            // Told again for each thing more, as far as each is named.
            (Cause::StoreDamaged { damaged, .. }, Cause::StoreDamaged { damaged: before, .. }) => {
                damaged > before
            }
            (
                Cause::CredentialExpiring { credentials },
                Cause::CredentialExpiring { credentials: before },
            ) => credential::is_nearer(credentials, before),
            (Cause::DirectoryPlanWaiting { plans }, Cause::DirectoryPlanWaiting { plans: before }) => {
                directory::more_wait(plans, before)
            }
            (Cause::DirectoryFailing { sources }, Cause::DirectoryFailing { sources: before }) => {
                directory::more_fail(sources, before)
            }
            (Cause::PullerFailing { pullers }, Cause::PullerFailing { pullers: before }) => {
                directory::more_fail(pullers, before)
            }
            _ => false,
        }
    }
}

/// An alarm that is raised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    /// What it is about, as last seen.
    #[serde(flatten)]
    pub cause: Cause,
    /// How urgent it has become.
    pub severity: Severity,
    /// The gateway mailbox it is about; `None` for the gateway itself.
    pub gateway_mailbox: Option<Subject>,
    /// Since when it is so.
    pub since: Timestamp,
    /// When it was raised.
    pub raised_at: Timestamp,
    /// When it was last told of.
    pub told_at: Timestamp,
}

impl Raised {
    fn is(&self, alarm: &str, gateway_mailbox: Option<GatewayMailboxId>) -> bool {
        self.cause.name() == alarm
            && self.gateway_mailbox.as_ref().map(|subject| subject.id) == gateway_mailbox
    }

    /// Takes back times the clock had not reached: what is to come after them would not end the alarm.
    fn set_back(&mut self, now: Timestamp) {
        self.since = self.since.min(now);
        self.raised_at = self.raised_at.min(now);
        if let Cause::NoReport { last_received: last, .. } | Cause::MailRefused { last, .. } = &mut self.cause
        {
            *last = (*last).min(now);
        }
    }
}

/// What changed, to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was raised, became critical, or came a stage nearer.
    Raised(Raised),
    /// It lasts.
    Lasts(Raised),
    /// It is over.
    Cleared(Raised),
}

impl Change {
    /// The alarm.
    pub fn alarm(&self) -> &Raised {
        match self {
            Change::Raised(alarm) | Change::Lasts(alarm) | Change::Cleared(alarm) => alarm,
        }
    }
}

/// How one alarm's cause stands.
enum Verdict {
    Bad(Severity, Cause, Timestamp),
    Good,
    /// Not known, or neither: nothing changes.
    Unclear,
}

/// The alarms that are raised, and what they need to remember.
#[derive(Clone, Debug)]
pub struct Alarms {
    limits: Limits,
    raised: Vec<Raised>,
    store_failing_since: Option<Timestamp>,
    store_working_since: Option<Timestamp>,
}

impl Alarms {
    /// Begins with the alarms that were raised before.
    pub fn new(limits: Limits, raised: Vec<Raised>) -> Alarms {
        Alarms { limits, raised, store_failing_since: None, store_working_since: None }
    }

    /// Judges by other limits from the next step on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Every alarm that is raised, in the order they were.
    pub fn raised(&self) -> &[Raised] {
        &self.raised
    }

    /// Looks at what is known now; gives what changed.
    pub fn step(&mut self, facts: &Facts, now: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        self.raised.iter_mut().for_each(|raised| raised.set_back(now));
        let store = self.check_store(&facts.store, now);
        self.settle("store-not-acknowledging", None, store, now, &mut changes);
        let disk = check::disk(facts, self.limits.disk_margin_octets, self.find("disk-low", None), now);
        self.settle("disk-low", None, disk, now, &mut changes);
        self.settle("log-end-missing", None, check::log_end(facts, now), now, &mut changes);
        self.settle("checkpoints-not-kept", None, check::checkpoints(facts, now), now, &mut changes);
        self.settle("store-damaged", None, check::damage(&facts.damage, now), now, &mut changes);
        self.settle("retention-paused", None, check::retention(facts, now), now, &mut changes);
        self.settle("retention-failed", None, check::retention_passes(facts, now), now, &mut changes);
        self.settle("directory-plan-waiting", None, directory::plans(facts, now), now, &mut changes);
        let failures = directory::failures(facts, self.find("directory-failing", None).is_some(), now);
        self.settle("directory-failing", None, failures, now, &mut changes);
        let failures = directory::pullers(facts, self.find("puller-failing", None).is_some(), now);
        self.settle("puller-failing", None, failures, now, &mut changes);
        let certificate = check::certificate(facts, now);
        self.settle("certificate-expiring", None, certificate, now, &mut changes);
        let files = check::certificate_files(facts, now);
        self.settle("certificate-not-loaded", None, files, now, &mut changes);
        let before = self.find("credential-expiring", None).map(|raised| &raised.cause);
        let credentials = credential::expiring(facts, before, now);
        self.settle("credential-expiring", None, credentials, now, &mut changes);
        let refused = check::refused(&facts.refused_mail, self.find("mail-refused", None), now);
        self.settle("mail-refused", None, refused, now, &mut changes);
        for MailboxFacts { subject, watched_since, numbers } in &facts.gateway_mailboxes {
            let Some(numbers) = numbers else { continue };
            let since = watched_since.map_or(facts.watching_since, |at| at.max(facts.watching_since));
            let (limit, id) = (self.limits.fetch_silence_ms, subject.id);
            let silence = check::silence(numbers, since, self.find("no-report", Some(id)), now);
            self.settle("no-report", Some(subject), silence, now, &mut changes);
            let fetch = check::fetch(numbers, since, limit, self.find("nobody-fetched", Some(id)), now);
            self.settle("nobody-fetched", Some(subject), fetch, now, &mut changes);
            self.settle("report-missing", Some(subject), check::missing(numbers, now), now, &mut changes);
            self.settle(
                "quarantine-growing",
                Some(subject),
                check::quarantine(numbers, now),
                now,
                &mut changes,
            );
            self.settle(
                "unassigned-growing",
                Some(subject),
                check::unassigned(numbers, now),
                now,
                &mut changes,
            );
        }
        let is_watched = |alarm: &Raised| {
            let watched =
                |subject: &Subject| facts.gateway_mailboxes.iter().any(|m| m.subject.id == subject.id);
            alarm.gateway_mailbox.as_ref().is_none_or(watched)
        };
        let gone = self.raised.extract_if(.., |alarm| !is_watched(alarm));
        changes.extend(gone.map(Change::Cleared));
        changes
    }

    fn find(&self, alarm: &str, gateway_mailbox: Option<GatewayMailboxId>) -> Option<&Raised> {
        self.raised.iter().find(|raised| raised.is(alarm, gateway_mailbox))
    }

    fn check_store(&mut self, store: &StoreState, now: Timestamp) -> Verdict {
        let StoreState::Failing(why) = store else {
            self.store_failing_since = None;
            let since = now.min(*self.store_working_since.get_or_insert(now));
            self.store_working_since = Some(since);
            return if elapsed_ms(since, now) >= check::STORE_CALM_MS {
                Verdict::Good
            } else {
                Verdict::Unclear
            };
        };
        self.store_working_since = None;
        let since = now.min(*self.store_failing_since.get_or_insert(now));
        self.store_failing_since = Some(since);
        if elapsed_ms(since, now) < check::STORE_TROUBLE_MS {
            return Verdict::Unclear;
        }
        Verdict::Bad(Severity::Critical, Cause::StoreNotAcknowledging { why: why.clone() }, since)
    }

    fn settle(
        &mut self,
        alarm: &str,
        subject: Option<&Subject>,
        verdict: Verdict,
        now: Timestamp,
        changes: &mut Vec<Change>,
    ) {
        let place = self.raised.iter().position(|raised| raised.is(alarm, subject.map(|subject| subject.id)));
        let Some(raised) = place.and_then(|place| self.raised.get_mut(place)) else {
            if let Verdict::Bad(severity, cause, since) = verdict {
                let gateway_mailbox = subject.cloned();
                let raised = Raised { cause, severity, gateway_mailbox, since, raised_at: now, told_at: now };
                self.raised.push(raised.clone());
                changes.push(Change::Raised(raised));
            }
            return;
        };
        // It may have been renamed.
        raised.gateway_mailbox = subject.cloned();
        let mut worse = false;
        match verdict {
            Verdict::Good => {
                changes.push(Change::Cleared(raised.clone()));
                self.raised.retain(|raised| !raised.is(alarm, subject.map(|subject| subject.id)));
                return;
            }
            Verdict::Bad(severity, cause, _) => {
                worse = severity > raised.severity || cause.is_nearer_than(&raised.cause);
                raised.severity = raised.severity.max(severity);
                raised.cause = cause;
            }
            Verdict::Unclear => {}
        }
        let told_at = raised.told_at;
        let is_due = |remind_ms| is_ahead(told_at, now) || elapsed_ms(told_at, now) >= remind_ms;
        if worse || self.limits.remind_ms.is_some_and(is_due) {
            raised.told_at = now;
            let raised = raised.clone();
            changes.push(if worse { Change::Raised(raised) } else { Change::Lasts(raised) });
        }
    }
}

/// Milliseconds from `since` to `now`; none when the clock was set back.
fn elapsed_ms(since: Timestamp, now: Timestamp) -> i64 {
    (now.unix_ms() - since.unix_ms()).max(0)
}

#[cfg(test)]
mod tests;
