//! The set of metrics of this process: names, help, labels, and what is there from the start.

use super::registry;
use crate::mail::{Class, Verdict};
use crate::observe::now;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use std::sync::LazyLock;

/// Upper bounds in seconds: from a memory write to a slow peer's five minutes.
const SECONDS_BUCKETS: [f64; 16] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0];
/// Upper bounds in octets: 4 KiB to 1 GiB, the largest message there can be.
const OCTETS_BUCKETS: [f64; 10] = [
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
];
/// Upper bounds in commands: up to the most that share a sync.
const GROUP_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// What exists from the start, with 0.
const SMTP_RESULTS: [&str; 6] = ["closed", "hung_up", "stuck", "broken", "handshake", "over_cap"];
const SMTP_LIMITS: [&str; 3] = ["total", "address", "network"];
const SMTP_CODES: [u32; 20] =
    [214, 220, 221, 250, 252, 354, 421, 450, 451, 452, 500, 501, 502, 503, 530, 550, 552, 553, 554, 555];
const REFUSED_BODIES: [&str; 8] =
    ["bare-cr", "bare-lf", "nul", "too-large", "declared-size", "pipelined", "chunk-size", "parameter"];
const PULL_RESULTS: [&str; 11] = [
    "good",
    "unreachable",
    "tls",
    "login",
    "not-connected",
    "credential",
    "protocol",
    "message",
    "mailbox",
    "store",
    "state",
];
const REVISIONS: [&str; 3] = ["released", "reassigned", "reprocessed"];
const PROTOCOLS: [&str; 2] = ["pop3", "imap"];
const FETCH_RESULTS: [&str; 5] = ["quit", "drop", "timeout", "shutdown", "error"];
const LOGIN_REFUSALS: [&str; 7] =
    ["wrong", "backed-off", "clear", "in-use", "too-many", "busy", "unavailable"];
const CLASSES: [Class; 6] = [
    Class::JournalReport,
    Class::JournalNdr,
    Class::NdrWithoutReport,
    Class::Ndr,
    Class::Plain,
    Class::Unreadable,
];

/// A message to a former address was taken, as long as that was served.
pub(super) const FORMER_TAKEN: &str = "taken";
/// It was refused, since its time was over.
pub(super) const FORMER_REFUSED: &str = "refused";

/// What a message can be to mail received before.
const RELATIONS: [&str; 4] = ["repetition", "fork", "same-message-id", EXACT_COPY];
/// Octets that were held already.
pub(super) const EXACT_COPY: &str = "exact-copy";

/// What became of a message in one gateway mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Placed.
    Stored,
    /// Placed in Quarantine.
    Quarantined,
    /// Placed in Quarantine alone, for its verdict.
    HeldBack,
    /// Placed in Unassigned.
    Unassigned,
    /// Held already: nothing was added.
    Repeated,
}

impl Fate {
    const ALL: [Fate; 5] =
        [Fate::Stored, Fate::Quarantined, Fate::HeldBack, Fate::Unassigned, Fate::Repeated];

    fn as_str(self) -> &'static str {
        match self {
            Fate::Stored => "stored",
            Fate::Quarantined => "quarantined",
            Fate::HeldBack => "held_back",
            Fate::Unassigned => "unassigned",
            Fate::Repeated => "repeated",
        }
    }
}

/// What became of a journal report that an NDR was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// It came back, and was not here.
    Recovered,
    /// It came back, and was here.
    AlreadyHeld,
    /// It came back, and is in Quarantine alone for its verdict.
    HeldBack,
    /// It came back in doubt, as when it is cut short.
    Doubtful,
    /// Only its header came back, wherever the report is.
    Missing,
}

impl Return {
    const ALL: [Return; 5] =
        [Return::Recovered, Return::AlreadyHeld, Return::HeldBack, Return::Doubtful, Return::Missing];

    /// The stable name used in logs and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Return::Recovered => "recovered",
            Return::AlreadyHeld => "already_held",
            Return::HeldBack => "held_back",
            Return::Doubtful => "doubtful",
            Return::Missing => "missing",
        }
    }
}

/// How a transaction that was turned away is on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// As an entry of its own.
    Written,
    /// In the count of another.
    Counted,
    /// In a count, for want of room to wait in.
    Dropped,
}

impl Recorded {
    const ALL: [Recorded; 3] = [Recorded::Written, Recorded::Counted, Recorded::Dropped];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Recorded::Written => "written",
            Recorded::Counted => "counted",
            Recorded::Dropped => "dropped",
        }
    }
}

/// A step of taking a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// From the first octet to the last.
    Receive,
    /// Reading and assigning.
    Extract,
    /// Encrypting.
    Seal,
    /// Waiting for the group, its write and its sync.
    Commit,
}

impl Phase {
    const ALL: [Phase; 4] = [Phase::Receive, Phase::Extract, Phase::Seal, Phase::Commit];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Phase::Receive => "receive",
            Phase::Extract => "extract",
            Phase::Seal => "seal",
            Phase::Commit => "commit",
        }
    }
}

/// Where signed checkpoints are written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointPlace {
    /// Beside the log.
    DataDir,
    /// The folder outside.
    CheckpointDir,
}

impl CheckpointPlace {
    const ALL: [CheckpointPlace; 2] = [CheckpointPlace::DataDir, CheckpointPlace::CheckpointDir];

    /// The stable name used in logs and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            CheckpointPlace::DataDir => "data_dir",
            CheckpointPlace::CheckpointDir => "checkpoint_dir",
        }
    }
}

/// Where the store writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Segments.
    Log,
    /// Content too large for the log.
    Content,
    /// The index's write-ahead log.
    Index,
}

impl Written {
    const ALL: [Written; 3] = [Written::Log, Written::Content, Written::Index];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Written::Log => "log",
            Written::Content => "content",
            Written::Index => "index",
        }
    }
}

/// Waiting for a group to be begun.
pub(super) const WAIT: &str = "wait";
/// Deciding about all of a group.
pub(super) const BUILD: &str = "build";
/// Committing it to the index.
pub(super) const INDEX: &str = "index";

/// Names and values of the labels of one series.
type Labels<const N: usize> = [(&'static str, &'static str); N];

/// The labels of what was not taken: nobody has looked what it is.
pub(super) const DEFERRED: Labels<2> = [("class", "unknown"), ("result", "deferred")];

/// What can be said of who sent a message. What is authentic is never held back.
const VERDICTS: [(Verdict, bool); 5] = [
    (Verdict::Authentic, false),
    (Verdict::Unverified, false),
    (Verdict::Unverified, true),
    (Verdict::Suspect, false),
    (Verdict::Suspect, true),
];

pub(super) fn judged(verdict: Verdict, held_back: bool) -> Labels<2> {
    [("verdict", verdict.as_str()), ("held_back", if held_back { "true" } else { "false" })]
}

pub(super) fn handled(class: Class, fate: Fate) -> Labels<2> {
    [("class", class.as_str()), ("result", fate.as_str())]
}

pub(super) fn turned_away(limit: &'static str, is_favoured: bool) -> Labels<2> {
    [("limit", limit), ("from", if is_favoured { "favoured" } else { "others" })]
}

/// All that is counted, and the registry that shows it.
pub(super) struct Metrics {
    pub(super) registry: Registry,
    pub(super) smtp_sessions: Family<Labels<1>, Counter>,
    pub(super) smtp_replies: Family<[(&'static str, u32); 1], Counter>,
    pub(super) smtp_connections: Gauge,
    pub(super) smtp_refused_bodies: Family<Labels<1>, Counter>,
    pub(super) smtp_in_flight_bytes: Gauge,
    pub(super) smtp_favoured_connections: Gauge,
    pub(super) smtp_turned_away: Family<Labels<2>, Counter>,
    pub(super) reports: Family<Labels<2>, Counter>,
    pub(super) verdicts: Family<Labels<2>, Counter>,
    pub(super) returned: Family<Labels<1>, Counter>,
    pub(super) forbidden: Counter,
    pub(super) pull_visits: Family<Labels<1>, Counter>,
    pub(super) pull_messages: Counter,
    pub(super) pull_octets: Counter,
    pub(super) turned_away_transactions: Family<Labels<1>, Counter>,
    pub(super) report_bytes: Histogram,
    pub(super) ingest_seconds: Family<Labels<1>, Histogram>,
    pub(super) unmatched_addresses: Counter,
    pub(super) duplicates: Counter,
    pub(super) revised_receipts: Family<Labels<1>, Counter>,
    pub(super) related: Family<Labels<1>, Counter>,
    pub(super) former_addresses: Family<Labels<1>, Counter>,
    pub(super) fetch_sessions: Family<Labels<2>, Counter>,
    pub(super) fetched_messages: Counter,
    pub(super) deleted_messages: Counter,
    pub(super) auth_failures: Family<Labels<2>, Counter>,
    pub(super) store_sync_seconds: Histogram,
    pub(super) store_group_size: Histogram,
    pub(super) store_commit_seconds: Family<Labels<1>, Histogram>,
    pub(super) store_received_octets: Counter,
    pub(super) store_written_octets: Family<Labels<1>, Counter>,
    pub(super) store_commit_failures: Counter,
    pub(super) scrub_bytes: Counter,
    pub(super) scrub_objects: Counter,
    pub(super) scrub_passes: Counter,
    pub(super) retention_expired_messages: Counter,
    pub(super) store_checkpoint_failures: Family<Labels<1>, Counter>,
    pub(super) store_freed_objects: Counter,
    pub(super) store_freed_octets: Counter,
    pub(super) store_returned_octets: Counter,
    pub(super) store_unpunched_objects: Gauge,
    pub(super) directory_sync_seconds: Family<[(&'static str, String); 1], Histogram>,
    pub(super) directory_failures: Family<[(&'static str, String); 2], Counter>,
    pub(super) directory_filtered_users: Family<[(&'static str, String); 1], Gauge>,
    pub(super) log_dropped_lines: Counter,
    pub(super) panics: Counter,
}

/// The numbers of this process.
pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

fn seconds() -> Histogram {
    Histogram::new(SECONDS_BUCKETS)
}

impl Metrics {
    fn new() -> Metrics {
        let mut registry = registry();
        let r = &mut registry;
        let started: Gauge =
            add(r, "process_start_time_seconds", "When the process started", Gauge::default());
        started.set(now().unix_seconds());
        let build: Family<Labels<1>, Gauge> = add(r, "build_info", "The version running", Family::default());
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        let metrics = Metrics {
            smtp_sessions: add(r, "smtp_sessions", "SMTP connections that ended", Family::default()),
            smtp_replies: add(r, "smtp_replies", "SMTP replies by code", Family::default()),
            smtp_connections: add(r, "smtp_connections", "SMTP connections open now", Gauge::default()),
            smtp_refused_bodies: add(
                r,
                "smtp_refused_bodies",
                "Messages refused for good, by what was wrong with them",
                Family::default(),
            ),
            smtp_in_flight_bytes: add(
                r,
                "smtp_in_flight_bytes",
                "Octets of messages begun and not yet stored or dropped",
                Gauge::default(),
            ),
            smtp_favoured_connections: add(
                r,
                "smtp_favoured_connections",
                "SMTP connections open now from networks that are favoured",
                Gauge::default(),
            ),
            smtp_turned_away: add(
                r,
                "smtp_turned_away",
                "SMTP connections there was no room for",
                Family::default(),
            ),
            reports: add(r, "reports", "Messages by class and what became of them", Family::default()),
            verdicts: add(r, "verdicts", "Messages by who really sent them", Family::default()),
            returned: add(r, "returned_reports", "Journal reports that NDRs were about", Family::default()),
            forbidden: add(
                r,
                "forbidden_recipients",
                "RCPT refused since nothing from that peer could be authentic",
                Counter::default(),
            ),
            pull_visits: add(r, "pull_visits", "Visits of pullers at their accounts", Family::default()),
            pull_messages: add(r, "pull_messages", "Messages that pullers fetched", Counter::default()),
            pull_octets: add(r, "pull_bytes", "Octets of those", Counter::default()),
            turned_away_transactions: add(
                r,
                "turned_away_transactions",
                "SMTP transactions that ended without mail of ours",
                Family::default(),
            ),
            report_bytes: add(r, "report_bytes", "Size of received messages", Histogram::new(OCTETS_BUCKETS)),
            ingest_seconds: add(
                r,
                "ingest_seconds",
                "Time of one message in each phase",
                Family::new_with_constructor(seconds as fn() -> Histogram),
            ),
            unmatched_addresses: add(
                r,
                "unmatched_addresses",
                "Recorded addresses nobody was found for",
                Counter::default(),
            ),
            duplicates: add(
                r,
                "duplicates",
                "Messages and placements that were there already",
                Counter::default(),
            ),
            revised_receipts: add(
                r,
                "revised_receipts",
                "Receipts looked at again that something changed of",
                Family::default(),
            ),
            related: add(r, "related", "Messages received before in some way", Family::default()),
            former_addresses: add(
                r,
                "former_address_uses",
                "Mail to former addresses of gateway mailboxes",
                Family::default(),
            ),
            fetch_sessions: add(r, "fetch_sessions", "Fetch sessions that ended", Family::default()),
            fetched_messages: add(r, "fetched_messages", "Messages fetched", Counter::default()),
            deleted_messages: add(r, "deleted_messages", "Messages deleted by clients", Counter::default()),
            auth_failures: add(r, "auth_failures", "Logins refused", Family::default()),
            store_sync_seconds: add(
                r,
                "store_sync_seconds",
                "Time of one write and sync of the log",
                seconds(),
            ),
            store_group_size: add(
                r,
                "store_group_size",
                "Commands that shared one sync",
                Histogram::new(GROUP_BUCKETS),
            ),
            store_commit_seconds: add(
                r,
                "store_commit_seconds",
                "Time of the steps of a commit besides write and sync",
                Family::new_with_constructor(seconds as fn() -> Histogram),
            ),
            store_received_octets: add(
                r,
                "store_received_octets",
                "Octets of messages that became durable",
                Counter::default(),
            ),
            store_written_octets: add(
                r,
                "store_written_octets",
                "Octets the store wrote, by where to",
                Family::default(),
            ),
            store_commit_failures: add(
                r,
                "store_commit_failures",
                "Groups that could not be made durable",
                Counter::default(),
            ),
            scrub_bytes: add(r, "scrub_bytes", "Octets read again in the background", Counter::default()),
            scrub_objects: add(
                r,
                "scrub_objects",
                "Entries and content files looked at again in the background",
                Counter::default(),
            ),
            scrub_passes: add(
                r,
                "scrub_passes",
                "Times all that is stored was read again",
                Counter::default(),
            ),
            retention_expired_messages: add(
                r,
                "retention_expired_messages",
                "Messages that retention took out of folders",
                Counter::default(),
            ),
            store_checkpoint_failures: add(
                r,
                "store_checkpoint_failures",
                "Attempts to write a signed checkpoint that failed",
                Family::default(),
            ),
            store_freed_objects: add(
                r,
                "store_freed_objects",
                "Objects whose content was freed",
                Counter::default(),
            ),
            store_freed_octets: add(r, "store_freed_octets", "Octets of content freed", Counter::default()),
            store_returned_octets: add(
                r,
                "store_returned_octets",
                "Octets the file system has back of content freed",
                Counter::default(),
            ),
            store_unpunched_objects: add(
                r,
                "store_unpunched_objects",
                "Objects freed whose octets may still be there",
                Gauge::default(),
            ),
            directory_sync_seconds: add(
                r,
                "directory_sync_seconds",
                "Time of one reading of all users of a source",
                Family::new_with_constructor(seconds as fn() -> Histogram),
            ),
            directory_failures: add(
                r,
                "directory_failures",
                "Readings of users that failed, by source and what was wrong",
                Family::default(),
            ),
            directory_filtered_users: add(
                r,
                "directory_filtered_users",
                "Entries of a source that its filters left out",
                Family::default(),
            ),
            log_dropped_lines: add(r, "log_dropped_lines", "Log lines lost", Counter::default()),
            panics: add(r, "panics", "Bugs that a task or thread died of", Counter::default()),
            registry,
        };
        metrics.begin();
        metrics
    }

    /// Makes every series that can be named, with 0, and those that never change.
    fn begin(&self) {
        for result in SMTP_RESULTS {
            drop(self.smtp_sessions.get_or_create(&[("result", result)]));
        }
        for (limit, is_favoured) in SMTP_LIMITS.iter().flat_map(|limit| [(limit, false), (limit, true)]) {
            drop(self.smtp_turned_away.get_or_create(&turned_away(limit, is_favoured)));
        }
        for code in SMTP_CODES {
            drop(self.smtp_replies.get_or_create(&[("code", code)]));
        }
        for reason in REFUSED_BODIES {
            drop(self.smtp_refused_bodies.get_or_create(&[("reason", reason)]));
        }
        for result in PULL_RESULTS {
            drop(self.pull_visits.get_or_create(&[("result", result)]));
        }
        for record in Recorded::ALL.map(Recorded::as_str) {
            drop(self.turned_away_transactions.get_or_create(&[("record", record)]));
        }
        for kind in REVISIONS {
            drop(self.revised_receipts.get_or_create(&[("kind", kind)]));
        }
        for relation in RELATIONS {
            drop(self.related.get_or_create(&[("relation", relation)]));
        }
        for result in [FORMER_TAKEN, FORMER_REFUSED] {
            drop(self.former_addresses.get_or_create(&[("result", result)]));
        }
        for class in CLASSES {
            for fate in Fate::ALL {
                drop(self.reports.get_or_create(&handled(class, fate)));
            }
        }
        drop(self.reports.get_or_create(&DEFERRED));
        for (verdict, held_back) in VERDICTS {
            drop(self.verdicts.get_or_create(&judged(verdict, held_back)));
        }
        for result in Return::ALL.map(Return::as_str) {
            drop(self.returned.get_or_create(&[("result", result)]));
        }
        for step in [WAIT, BUILD, INDEX] {
            drop(self.store_commit_seconds.get_or_create(&[("step", step)]));
        }
        for to in Written::ALL.map(Written::as_str) {
            drop(self.store_written_octets.get_or_create(&[("to", to)]));
        }
        for phase in Phase::ALL.map(Phase::as_str) {
            drop(self.ingest_seconds.get_or_create(&[("phase", phase)]));
        }
        for place in CheckpointPlace::ALL.map(CheckpointPlace::as_str) {
            drop(self.store_checkpoint_failures.get_or_create(&[("place", place)]));
        }
        for protocol in PROTOCOLS {
            for result in FETCH_RESULTS {
                drop(self.fetch_sessions.get_or_create(&[("protocol", protocol), ("result", result)]));
            }
            for reason in LOGIN_REFUSALS {
                drop(self.auth_failures.get_or_create(&[("protocol", protocol), ("reason", reason)]));
            }
        }
    }
}

/// Registers a metric and gives it back.
fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}
