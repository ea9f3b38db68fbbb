//! Numbers for Prometheus: counted next to the log line, whatever the log's level, for the life of the process.
//!
//! Callers use typed functions, [`smtp_reply`] and the like; none can fail or block. What is a state and no event (how full a
//! folder is, how much disk is free) is asked for when somebody looks, and added by `admin`. [`expose`] writes both, in the
//! form that was asked for (exposition.rs). The set itself is in set.rs.
//!
//! Names follow Prometheus' rules: prefix `daybook_`, base units, `_total` for counters. No label holds an address, a login
//! or anything else a peer can choose: a login admits mail, and each value costs memory. Gateway mailboxes are told apart by
//! `mailbox`, the id, and `name`, what the admin calls them. A counter is there from the start with 0, so that a rate over its
//! first minutes is right and a panel shows 0 and not "no data".
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `daybook_smtp_sessions_total` | `result` | SMTP connections that ended: `closed` in good order, `hung_up` by the peer, `stuck` (it took no replies), `broken`, failed `handshake`, or `over_cap` |
//! | `daybook_smtp_replies_total` | `code` | SMTP replies by their code |
//! | `daybook_smtp_connections` | – | SMTP connections open now |
//! | `daybook_reports_total` | `class`, `result` | messages, one for each gateway mailbox they are for: `stored`, `quarantined`, `held_back` (in Quarantine alone, for its verdict), `unassigned`, `repeated` (nothing was added); `deferred` (4xx after its body or at DATA; class `unknown`) |
//! | `daybook_verdicts_total` | `verdict`, `held_back` | messages by who really sent them, as far as can be told: `authentic`, `unverified`, `suspect`; `held_back` is `true` for those that are in Quarantine alone because of it |
//! | `daybook_returned_reports_total` | `result` | journal reports that NDRs were about: `recovered` (it was not here), `already_held`, `held_back` (in Quarantine alone, for its verdict), `doubtful` (perhaps not whole, in Quarantine too), `missing` (only its header came back in the NDR, be the report here or not, and be the NDR genuine or not) |
//! | `daybook_forbidden_recipients_total` | – | RCPT refused because the gateway mailbox is in strict mode and nothing from that peer could be authentic |
//! | `daybook_smtp_refused_bodies_total` | `reason` | messages for a served address, or from a favoured peer, refused for good, which may have been reports: `bare-cr`, `bare-lf` or `nul` in DATA, `too-large`, `declared-size` (at MAIL, favoured peers only: anybody can declare anything), `pipelined` behind DATA, unreadable `chunk-size`, `parameter` not offered |
//! | `daybook_smtp_in_flight_bytes` | – | octets of messages begun and not yet stored or dropped |
//! | `daybook_smtp_favoured_connections` | – | those of them from `[exchange] networks` or `reserved_networks` |
//! | `daybook_smtp_turned_away_total` | `limit`, `from` | SMTP connections there was no room for, in all (`total`), from one `address`, or from one `network`; `from` tells `favoured` networks from `others` |
//! | `daybook_turned_away_transactions_total` | `record` | SMTP transactions that ended without mail of ours, 4xx or 5xx: `written` as an entry of their own, only `counted` in the next one, or `dropped` (the store could not write, and too many waited; they are counted too) |
//! | `daybook_report_bytes` | – | size of received messages, a histogram |
//! | `daybook_ingest_seconds` | `phase` | time of one message in `receive`, `extract`, `seal`, `commit`, a histogram |
//! | `daybook_unmatched_addresses_total` | – | recorded addresses nobody was found for |
//! | `daybook_duplicates_total` | – | messages that came again, and placements not made because the folder had the message already |
//! | `daybook_revised_receipts_total` | `kind` | receipts looked at again that something changed of: `released` from Quarantine, `reassigned` to users the directory knows now, `reprocessed` |
//! | `daybook_related_total` | `relation` | what was received once before in some way, for each gateway mailbox: a `repetition` of a report, a `fork` (another report of the same message), `same-message-id` (another message under it, kept beside it), and `exact-copy` (messages whose octets were held already and are stored once) |
//! | `daybook_former_address_uses_total` | `result` | messages to a former address of a gateway mailbox, counted at DATA (`taken`), and recipients `refused` because its time is over |
//! | `daybook_fetch_sessions_total` | `protocol`, `result` | sessions with a login that ended: `quit`, `drop`, `timeout`, `shutdown`, `error` |
//! | `daybook_fetched_messages_total` | – | messages fetched whole and recorded |
//! | `daybook_deleted_messages_total` | – | messages deleted by clients |
//! | `daybook_auth_failures_total` | `protocol`, `reason` | logins refused: `wrong` name or password, `backed-off` (not checked after too many wrong ones), `clear` (no TLS), `in-use`, `too-many` sessions, `busy` (too many wait), `unavailable` (our fault) |
//! | `daybook_pull_visits_total` | `result` | visits of pullers at their accounts: `good`, or why one ended before its work was done: `unreachable`, `tls`, `login`, `not-connected` (Exchange Online lets the application in, and not to this mailbox), `credential`, `protocol`, `message` (one is not given, or may not be deleted or marked there; the others are seen to), `mailbox` (the gateway mailbox cannot take it), `store`, `state` |
//! | `daybook_pull_messages_total` | – | messages that pullers fetched and that are stored, repetitions too |
//! | `daybook_pull_bytes_total` | – | their octets |
//! | `daybook_store_sync_seconds` | – | time of one write and sync of the log, a histogram |
//! | `daybook_store_group_size` | – | commands that shared one sync, a histogram |
//! | `daybook_store_commit_seconds` | `step` | time that commands `wait` for their group, and that a group takes to `build` (deciding, filling the index) and to commit to the `index`; its write and sync between these are above; a histogram |
//! | `daybook_store_received_octets_total` | – | octets of messages that became durable, once for each gateway mailbox |
//! | `daybook_store_written_octets_total` | `to` | octets that the store wrote for them and for all else: to the `log`, to `content` files (what is too large for the log), to the write-ahead log of the `index` (folding that in later writes less than as much again, and is not counted) |
//! | `daybook_store_commit_failures_total` | – | groups that could not be made durable; none of it was acknowledged |
//! | `daybook_scrub_bytes_total` | – | octets of log and content files read again in the background |
//! | `daybook_scrub_objects_total` | – | entries of the log, their payloads with them, and content files looked at so |
//! | `daybook_scrub_passes_total` | – | times that this came to its end |
//! | `daybook_retention_expired_messages_total` | – | messages that retention took out of folders |
//! | `daybook_store_checkpoint_failures_total` | `place` | attempts to write a signed checkpoint to `data_dir` or `checkpoint_dir` that failed |
//! | `daybook_store_freed_objects_total` | – | stored objects that nothing needs any more: their content is freed |
//! | `daybook_store_freed_octets_total` | – | octets of that content |
//! | `daybook_store_returned_octets_total` | – | octets that the file system has back of it: whole blocks, removed files, segments in which nothing else was left |
//! | `daybook_store_unpunched_objects` | – | freed objects whose octets may still be there: those in the segment of the log that is appended to, and what the next pass gives back |
//! | `daybook_directory_sync_seconds` | `source` | time of one reading of all users of a source, well or badly, a histogram |
//! | `daybook_directory_failures_total` | `source`, `error` | readings that failed, and what was in force stayed: `unreadable`, `invalid`, `empty`, `changing`, `unreachable`, `incomplete`, `refused`, `too-large`, and `storage` when what was read cannot be kept |
//! | `daybook_log_dropped_lines_total` | – | log lines lost because the log could not be written fast enough |
//! | `daybook_panics_total` | – | bugs that a task or thread died of |
//! | `daybook_process_start_time_seconds` | – | when the process started, since 1970 |
//! | `daybook_build_info` | `version` | always 1; the label tells what runs |
//! | `daybook_ready` | – | 1 when `/readyz` says so |
//! | `daybook_alarms` | `alarm` | alarms raised of each kind, as `daybook status` names them |
//! | `daybook_store_damaged` | – | things stored that were found not to be what was stored, and that nobody has closed |
//! | `daybook_scrub_limit_bytes_per_second` | – | how fast what is stored may be read again; 0 is off |
//! | `daybook_scrub_last_pass_timestamp_seconds` | – | when all that is stored had last been read again; before the first time, when that was first begun |
//! | `daybook_retention_paused` | – | 1 while the clock has jumped ahead or the store was restored, nobody has confirmed it, and nothing leaves by it |
//! | `daybook_retention_last_pass_timestamp_seconds` | – | when the last pass ended that takes out what is due and frees what can be had back no more; absent before the first since the start, a minute after it |
//! | `daybook_retention_last_pass_failed` | – | 1 when that one did not come to its end; absent as above |
//! | `daybook_store_ready` | – | 1 when the store takes mail: its last write succeeded and there is room |
//! | `daybook_store_free_bytes` | – | free on the file system of `data_dir` |
//! | `daybook_store_reserve_bytes` | – | with less free than this no mail is taken |
//! | `daybook_store_last_checkpoint_timestamp_seconds` | – | when the newest signed checkpoint was made; none is made while nothing is stored; absent before the first |
//! | `daybook_directory_good` | `source`, `kind` | 1 when the source was read well at the last try, 0 when an older list is in force; named as in `[[directory]]` |
//! | `daybook_directory_users` | `source`, `kind` | users in force |
//! | `daybook_directory_gone_users` | `source`, `kind` | users who are gone from the source, and whose addresses still lead to them |
//! | `daybook_directory_filtered_users` | `source` | entries that the filters left out when it was last read well |
//! | `daybook_directory_plan_waiting` | `source`, `kind` | 1 while a change of it waits for an approval |
//! | `daybook_directory_held` | `source`, `kind` | 1 after a rollback, until a change of it is approved |
//! | `daybook_directory_last_success_timestamp_seconds` | `source`, `kind` | when it was last read well; absent before the first time. Files are read when they change |
//! | `daybook_directory_last_try_timestamp_seconds` | `source`, `kind` | when it was last tried; absent before the first time |
//! | `daybook_pull_good` | `puller`, `protocol` | 0 when the last visit of this puller ended before its work was done |
//! | `daybook_pull_last_success_timestamp_seconds` | `puller`, `protocol` | when a visit last did all that was to be done; 0 before the first since the start |
//! | `daybook_pull_left_messages` | `puller`, `protocol` | messages that stay at the account, since they are larger than `[smtp] max_message_bytes`, when it last looked |
//! | `daybook_tls_cert_expiry_timestamp_seconds` | – | when the certificate shown to peers ends |
//! | `daybook_credential_expiry_timestamp_seconds` | name, used_by | when the credential of an application in Entra ID ends, where that is known; `used_by` is `directory` or `puller` |
//! | `daybook_tls_cert_files_good` | – | 0 when certificate and key in their files cannot be used and an older pair is shown |
//! | `daybook_mailbox_active` | `mailbox`, `name` | 1 active, 0 suspended |
//! | `daybook_mailbox_messages` | `mailbox`, `name` | messages in INBOX: not fetched and deleted yet |
//! | `daybook_mailbox_bytes` | `mailbox`, `name` | their stored size |
//! | `daybook_mailbox_oldest_timestamp_seconds` | `mailbox`, `name` | when the oldest of them was received; absent when there is none, and for NDR mailboxes, where nobody has to fetch |
//! | `daybook_mailbox_unfetched_messages` | `mailbox`, `name` | messages in INBOX that no fetch is on record for; absent where there is too much to look up: more than 100,000 messages of which some were fetched, or as many fetches since the oldest of them came |
//! | `daybook_mailbox_oldest_unfetched_timestamp_seconds` | `mailbox`, `name` | when the oldest of those was received; absent when there is none, and for NDR mailboxes |
//! | `daybook_mailbox_quarantine_messages` | `mailbox`, `name` | messages in Quarantine |
//! | `daybook_mailbox_unassigned_messages` | `mailbox`, `name` | messages in Unassigned |
//! | `daybook_last_report_timestamp_seconds` | `mailbox`, `name` | when a message last came; absent before the first, and for NDR mailboxes, where none is best |
//! | `daybook_last_fetch_timestamp_seconds` | `mailbox`, `name` | when a client last logged in, fetched or deleted; absent before the first. Logins that fetched nothing are forgotten at a restart |

mod exposition;
mod set;

pub use exposition::Form;
pub use set::{CheckpointPlace, Fate, Phase, Recorded, Return, Written};

use crate::mail::{Class, Verdict};
use prometheus_client::registry::Registry;
use set::METRICS;
use std::fmt;

/// An empty registry for states, whose names get the prefix. Nothing in it may have the name of a metric counted here.
pub fn registry() -> Registry {
    Registry::with_prefix("daybook")
}

/// Everything counted so far, and the states given, as text.
///
/// # Errors
/// A metric that cannot be written; our fault.
pub fn expose(states: &Registry, form: Form) -> Result<String, fmt::Error> {
    exposition::write(&[&METRICS.registry, states], form)
}

/// Notes that the process has started; the clock of its start time begins here. Calling it again changes nothing.
pub fn begin() {
    std::sync::LazyLock::force(&METRICS);
}

/// An SMTP connection while it is open.
#[derive(Debug)]
pub struct SmtpConnection {
    is_favoured: bool,
}

impl SmtpConnection {
    /// One more is open, until this is dropped.
    pub fn open(is_favoured: bool) -> SmtpConnection {
        METRICS.smtp_connections.inc();
        METRICS.smtp_favoured_connections.inc_by(i64::from(is_favoured));
        SmtpConnection { is_favoured }
    }
}

impl Drop for SmtpConnection {
    fn drop(&mut self) {
        METRICS.smtp_connections.dec();
        METRICS.smtp_favoured_connections.dec_by(i64::from(self.is_favoured));
    }
}

/// An SMTP connection ended.
pub fn smtp_session(result: &'static str) {
    METRICS.smtp_sessions.get_or_create(&[("result", result)]).inc();
}

/// An SMTP connection was not let in, by this limit.
pub fn smtp_turned_away(limit: &'static str, is_favoured: bool) {
    METRICS.smtp_turned_away.get_or_create(&set::turned_away(limit, is_favoured)).inc();
}

/// An SMTP reply was given.
pub fn smtp_reply(code: u16) {
    METRICS.smtp_replies.get_or_create(&[("code", u32::from(code))]).inc();
}

/// A message was refused for good.
pub fn smtp_refused_body(reason: &'static str) {
    METRICS.smtp_refused_bodies.get_or_create(&[("reason", reason)]).inc();
}

/// So many octets more are in flight, or so many fewer.
pub fn smtp_in_flight(change: i64) {
    METRICS.smtp_in_flight_bytes.inc_by(change);
}

/// A message was stored for a gateway mailbox. `spared` placements were there already; for `unmatched` addresses nobody was
/// found.
pub fn report(class: Class, fate: Fate, spared: usize, unmatched: usize) {
    METRICS.reports.get_or_create(&set::handled(class, fate)).inc();
    let repeated = fate == Fate::Repeated;
    METRICS.duplicates.inc_by(spared as u64 + u64::from(repeated));
    // Those of a repeated report were counted when it first came.
    if !repeated {
        METRICS.unmatched_addresses.inc_by(unmatched as u64);
    }
}

/// A receipt was looked at again, and something changed.
pub fn receipt_revised(kind: &'static str) {
    METRICS.revised_receipts.get_or_create(&[("kind", kind)]).inc();
}

/// What a message was to mail received before, by the names of the table above; and how many of its messages were held already.
pub fn related(relation: Option<&'static str>, exact_copies: usize) {
    if let Some(relation) = relation {
        METRICS.related.get_or_create(&[("relation", relation)]).inc();
    }
    METRICS.related.get_or_create(&[("relation", set::EXACT_COPY)]).inc_by(exact_copies as u64);
}

/// A message was not taken now, by no fault of the peer.
pub fn report_deferred() {
    METRICS.reports.get_or_create(&set::DEFERRED).inc();
}

/// A message was judged for a gateway mailbox; `held_back`: it is in Quarantine alone because of it.
pub fn verdict(verdict: Verdict, held_back: bool) {
    METRICS.verdicts.get_or_create(&set::judged(verdict, held_back)).inc();
}

/// An NDR was about a journal report.
pub fn returned(result: Return) {
    METRICS.returned.get_or_create(&[("result", result.as_str())]).inc();
}

/// A recipient was refused to a peer from which nothing could be authentic.
pub fn report_forbidden() {
    METRICS.forbidden.inc();
}

/// A puller visited its account: `good`, or the kind of what went wrong.
pub fn pull_visit(result: &'static str) {
    METRICS.pull_visits.get_or_create(&[("result", result)]).inc();
}

/// A puller fetched a message of so many octets, and it is stored.
pub fn pull_message(octets: u64) {
    METRICS.pull_messages.inc();
    METRICS.pull_octets.inc_by(octets);
}

/// So many transactions were turned away, and are on record in this way.
pub fn turned_away(record: Recorded, count: u64) {
    METRICS.turned_away_transactions.get_or_create(&[("record", record.as_str())]).inc_by(count);
}

/// A message of this size was received.
pub fn report_octets(octets: u64) {
    METRICS.report_bytes.observe(octets as f64);
}

/// A message took so long in a phase.
pub fn ingest(phase: Phase, seconds: f64) {
    METRICS.ingest_seconds.get_or_create(&[("phase", phase.as_str())]).observe(seconds);
}

/// Mail is on its way to a former address that is served still.
pub fn former_address_used() {
    METRICS.former_addresses.get_or_create(&[("result", set::FORMER_TAKEN)]).inc();
}

/// Mail to a former address whose time is over was refused.
pub fn former_address_refused() {
    METRICS.former_addresses.get_or_create(&[("result", set::FORMER_REFUSED)]).inc();
}

/// A fetch session with a login ended.
pub fn fetch_session(protocol: &'static str, result: &'static str) {
    METRICS.fetch_sessions.get_or_create(&[("protocol", protocol), ("result", result)]).inc();
}

/// A client's fetches and deletes are on record.
pub fn fetched(fetched: usize, deleted: usize) {
    METRICS.fetched_messages.inc_by(fetched as u64);
    METRICS.deleted_messages.inc_by(deleted as u64);
}

/// A login was refused.
pub fn login_refused(protocol: &'static str, reason: &'static str) {
    METRICS.auth_failures.get_or_create(&[("protocol", protocol), ("reason", reason)]).inc();
}

/// A group of commands became durable.
pub fn store_synced(seconds: f64, group: usize) {
    METRICS.store_sync_seconds.observe(seconds);
    METRICS.store_group_size.observe(group as f64);
}

/// A command waited so long until its group was begun.
pub fn store_waited(seconds: f64) {
    METRICS.store_commit_seconds.get_or_create(&[("step", set::WAIT)]).observe(seconds);
}

/// A durable group took so long to build, and to commit to the index.
pub fn store_built(build_seconds: f64, index_seconds: f64) {
    METRICS.store_commit_seconds.get_or_create(&[("step", set::BUILD)]).observe(build_seconds);
    METRICS.store_commit_seconds.get_or_create(&[("step", set::INDEX)]).observe(index_seconds);
}

/// Messages of so many octets became durable.
pub fn store_received(octets: u64) {
    METRICS.store_received_octets.inc_by(octets);
}

/// So many octets were written there by a group that became durable.
pub fn store_written(to: Written, octets: u64) {
    METRICS.store_written_octets.get_or_create(&[("to", to.as_str())]).inc_by(octets);
}

/// A group of commands could not be made durable.
pub fn store_commit_failed() {
    METRICS.store_commit_failures.inc();
}

/// So much was read again in the background, and looked at.
pub fn scrubbed(octets: u64, objects: u64) {
    METRICS.scrub_bytes.inc_by(octets);
    METRICS.scrub_objects.inc_by(objects);
}

/// All that is stored was read again.
pub fn scrub_passed() {
    METRICS.scrub_passes.inc();
}

/// Retention took so many messages out of a folder.
pub fn expired(messages: u64) {
    METRICS.retention_expired_messages.inc_by(messages);
}

/// A signed checkpoint could not be written.
pub fn store_checkpoint_failed(place: CheckpointPlace) {
    METRICS.store_checkpoint_failures.get_or_create(&[("place", place.as_str())]).inc();
}

/// So many objects were freed, with so many octets; the file system has so many octets back.
pub fn store_freed(objects: u64, octets: u64, returned: u64) {
    METRICS.store_freed_objects.inc_by(objects);
    METRICS.store_freed_octets.inc_by(octets);
    METRICS.store_returned_octets.inc_by(returned);
}

/// So many freed objects are still to be given back.
pub fn store_unpunched(objects: u64) {
    METRICS.store_unpunched_objects.set(i64::try_from(objects).unwrap_or(i64::MAX));
}

/// A source of users was read, which took so long; `error` is what was wrong, by the names of the table above.
pub fn directory_read(source: &str, error: Option<&str>, seconds: f64) {
    METRICS.directory_sync_seconds.get_or_create(&[("source", source.to_owned())]).observe(seconds);
    if let Some(error) = error {
        let labels = [("source", source.to_owned()), ("error", error.to_owned())];
        METRICS.directory_failures.get_or_create(&labels).inc();
    }
}

/// A source of users was read well, and its filters left so many entries out.
pub fn directory_filtered(source: &str, filtered: u64) {
    let gauge = METRICS.directory_filtered_users.get_or_create(&[("source", source.to_owned())]);
    gauge.set(i64::try_from(filtered).unwrap_or(i64::MAX));
}

/// A log line was lost.
pub fn log_line_dropped() {
    METRICS.log_dropped_lines.inc();
}

/// Something panicked.
pub fn panicked() {
    METRICS.panics.inc();
}
