//! What alerts say. Written to be read on a telephone, at night, by somebody who set this up a year
//! ago: what was seen, whether mail is lost, what to do, how to have it silent.
//!
//! Nothing here comes from a message, and a gateway mailbox goes by its name: its address is a secret.

use crate::mail::{Timestamp, Untrusted};
use crate::observe::alarm::{Cause, Change, CredentialEnding, PlanWaiting, Raised, SourceFailing};

const MINUTE_MS: i64 = 60 * 1000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// `2026-11-21 09:14 UTC`
pub(super) fn minute(at: Timestamp) -> String {
    let text = at.to_string();
    format!("{} {} UTC", text.get(..10).unwrap_or_default(), text.get(11..16).unwrap_or_default())
}

/// `09:14 UTC`, with the date when that is another day than `now`'s.
fn lately(at: Timestamp, now: Timestamp) -> String {
    let text = minute(at);
    if at.unix_ms().div_euclid(DAY_MS) == now.unix_ms().div_euclid(DAY_MS) {
        return text.get(11..).unwrap_or_default().to_owned();
    }
    text
}

/// `1 h 36 min`, `12 min`, `3 days 4 h`
pub(in crate::admin) fn span(ms: i64) -> String {
    let (days, hours, minutes) = (ms / DAY_MS, ms % DAY_MS / HOUR_MS, ms % HOUR_MS / MINUTE_MS);
    match (days, hours) {
        (0, 0) => format!("{} min", minutes.max(0)),
        (0, _) => format!("{hours} h {minutes} min"),
        (1, _) => format!("1 day {hours} h"),
        _ => format!("{days} days {hours} h"),
    }
}

pub(in crate::admin) fn ago(at: Timestamp, now: Timestamp) -> String {
    match now.unix_ms() - at.unix_ms() {
        ..MINUTE_MS => format!("{} (just now)", minute(at)),
        ms => format!("{} ({} ago)", minute(at), span(ms)),
    }
}

/// `3.2 GiB`
pub(in crate::admin) fn size(octets: u64) -> String {
    const UNITS: [&str; 5] = ["octets", "KiB", "MiB", "GiB", "TiB"];
    let mut tenths = u128::from(octets) * 10;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths = (tenths + 512) / 1_024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 || tenths >= 1_000 {
        format!("{} {name}", tenths / 10)
    } else {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    }
}

/// How far a clock is ahead.
fn ahead(trusted: Timestamp, clock: Timestamp) -> String {
    span(clock.unix_ms().saturating_sub(trusted.unix_ms()))
}

fn reports(count: u64) -> String {
    if count == 1 { "1 report".to_owned() } else { format!("{count} reports") }
}

pub(super) fn messages(count: u64) -> String {
    if count == 1 { "1 message".to_owned() } else { format!("{count} messages") }
}

fn named(alarm: &Raised) -> String {
    let name = alarm.gateway_mailbox.as_ref().map(|subject| subject.name.as_str()).unwrap_or_default();
    format!("\"{}\"", Untrusted(name))
}

/// The first to end, and how many do.
fn ending(credentials: &[CredentialEnding], now: Timestamp) -> String {
    let Some(first) = credentials.first() else { return "A credential ends".to_owned() };
    let name = Untrusted(&first.name);
    let more = match credentials.len() {
        0 | 1 => String::new(),
        all => format!(", and {} more", all - 1),
    };
    if first.ends <= now {
        format!("The credential of {name} ended at {}{more}", minute(first.ends))
    } else {
        format!("The credential of {name} ends in {}{more}", span(first.ends.unix_ms() - now.unix_ms()))
    }
}

/// `ad, entra`
fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|name| Untrusted(name).to_string()).collect::<Vec<_>>().join(", ")
}

fn waiting_plan(plan: &PlanWaiting) -> String {
    let (source, id, why) = (Untrusted(&plan.source), Untrusted(&plan.plan), Untrusted(&plan.why));
    format!("{source} would change as plan {id} says: {why}.")
}

fn failing_source(source: &SourceFailing, now: Timestamp) -> String {
    let advice = source.advice.as_ref().map(|advice| format!(" Advice: {}", Untrusted(advice)));
    let (name, why) = (Untrusted(&source.source), Untrusted(&source.why));
    format!("{name}, since {}: {why}.{}", ago(source.since, now), advice.unwrap_or_default())
}

/// One line: what is wrong.
pub(super) fn headline(alarm: &Raised, now: Timestamp) -> String {
    let name = named(alarm);
    match &alarm.cause {
        Cause::StoreNotAcknowledging { .. } => {
            format!("The store has not taken mail since {}", lately(alarm.since, now))
        }
        Cause::DiskLow { free_octets, refuses: true, .. } => {
            format!("The disk is full, mail is refused for now: {} free", size(*free_octets))
        }
        Cause::DiskLow { free_octets, .. } => format!("The disk is filling up: {} free", size(*free_octets)),
        Cause::LogEndMissing { .. } => "The end of the log is missing: acknowledged mail is lost".to_owned(),
        Cause::CheckpointsNotKept { .. } => "Signed checkpoints cannot be written".to_owned(),
        Cause::StoreDamaged { damaged: 1, .. } => "Stored mail is damaged in 1 place".to_owned(),
        Cause::StoreDamaged { damaged, .. } => format!("Stored mail is damaged in {damaged} places"),
        Cause::RetentionPaused { restored: true, .. } => {
            "The store was restored from a backup: retention is paused".to_owned()
        }
        Cause::RetentionPaused { trusted, clock, .. } => {
            format!("The clock jumped ahead by {}: retention is paused", ahead(*trusted, *clock))
        }
        Cause::RetentionFailed { .. } => "Nothing is freed: the passes of retention fail".to_owned(),
        Cause::DirectoryPlanWaiting { plans } => format!(
            "Users of {} changed so much that somebody must approve it",
            listed(plans.iter().map(|plan| &plan.source))
        ),
        Cause::DirectoryFailing { sources } => {
            let names = listed(sources.iter().map(|source| &source.source));
            format!("Users of {names} have not been read since {}", lately(alarm.since, now))
        }
        Cause::PullerFailing { pullers } => {
            let names = listed(pullers.iter().map(|puller| &puller.source));
            format!("NDRs have not been fetched by {names} since {}", lately(alarm.since, now))
        }
        Cause::CertificateExpiring { ends, .. } if *ends <= now => {
            format!("The certificate ended at {}", minute(*ends))
        }
        Cause::CertificateExpiring { ends, .. } => {
            format!("The certificate ends in {}", span(ends.unix_ms() - now.unix_ms()))
        }
        Cause::CertificateNotLoaded { .. } => "The new certificate cannot be used".to_owned(),
        Cause::CredentialExpiring { credentials } => ending(credentials, now),
        Cause::MailRefused { in_a_day, .. } => {
            format!("{} refused for good, maybe journal reports", messages(*in_a_day))
        }
        Cause::NoReport { last_received, .. } => {
            format!("No report for {name} since {}", lately(*last_received, now))
        }
        Cause::NobodyFetched { .. } => {
            format!("Nobody fetched from {name} since {}", lately(alarm.since, now))
        }
        Cause::ReportMissing { missing, original_held } => {
            format!(
                "Only the header of {} came back to {name}",
                reports(missing.saturating_add(*original_held))
            )
        }
        Cause::QuarantineGrowing { in_a_day } => format!("{} for {name} quarantined", messages(*in_a_day)),
        Cause::UnassignedGrowing { in_a_day, received } => {
            format!("{in_a_day} of {received} messages for {name} belong to nobody")
        }
    }
}

/// One line for a change, the subject of its mail.
pub(super) fn title(change: &Change, now: Timestamp) -> String {
    match change {
        Change::Raised(alarm) => headline(alarm, now),
        Change::Lasts(alarm) => format!("Still: {}", headline(alarm, now)),
        Change::Cleared(alarm) => match alarm.gateway_mailbox {
            Some(_) => format!("Over: {} for {}", alarm.cause.name(), named(alarm)),
            None => format!("Over: {}", alarm.cause.name()),
        },
    }
}

fn seen(alarm: &Raised, now: Timestamp) -> String {
    match &alarm.cause {
        Cause::StoreNotAcknowledging { why } => {
            format!("The store has failed since {}: {}.", ago(alarm.since, now), Untrusted(why))
        }
        Cause::DiskLow { free_octets, reserve_octets, daily_octets, .. } => format!(
            "{} are free, {} are kept in reserve, up to {} of mail came in 24 hours.",
            size(*free_octets),
            size(*reserve_octets),
            size(*daily_octets)
        ),
        Cause::LogEndMissing { what } => format!("Found when the store was opened: {}.", Untrusted(what)),
        Cause::CheckpointsNotKept { why } => {
            format!("Not written since {}: {}.", ago(alarm.since, now), Untrusted(why))
        }
        Cause::StoreDamaged { damaged, places } => {
            let places: Vec<String> = places.iter().map(|place| Untrusted(place).to_string()).collect();
            let (listed, more) = (places.len() as u64, damaged.saturating_sub(places.len() as u64));
            let others = if more > 0 && listed > 0 { format!(", and {more} more") } else { String::new() };
            format!("Octets there are not what was stored: {}{others}.", places.join(", "))
        }
        Cause::RetentionPaused { restored: true, .. } => {
            "The backup knows of no legal hold and no rule that was set after it.".to_owned()
        }
        Cause::RetentionPaused { trusted, clock, .. } => format!(
            "The clock says {}; it was last known to be right at {}, {} before. A host that was off for more than a week is asked \
             about too.",
            minute(*clock),
            minute(*trusted),
            ahead(*trusted, *clock)
        ),
        Cause::RetentionFailed { why } => {
            format!("The last pass failed: {}. One is tried every hour.", Untrusted(why))
        }
        Cause::DirectoryPlanWaiting { plans } => plans.iter().map(waiting_plan).collect::<Vec<_>>().join(" "),
        Cause::DirectoryFailing { sources } => {
            sources.iter().map(|source| failing_source(source, now)).collect::<Vec<_>>().join(" ")
        }
        Cause::PullerFailing { pullers } => {
            pullers.iter().map(|puller| failing_source(puller, now)).collect::<Vec<_>>().join(" ")
        }
        Cause::CertificateExpiring { ends, .. } => {
            format!("The certificate shown to peers ends at {}.", minute(*ends))
        }
        Cause::CertificateNotLoaded { why } => {
            format!(
                "The files named in [tls] changed, and Daybook {}. The pair before is shown.",
                Untrusted(why)
            )
        }
        Cause::CredentialExpiring { credentials } => credentials
            .iter()
            .map(|one| format!("The credential of {} ends at {}.", Untrusted(&one.name), minute(one.ends)))
            .collect::<Vec<_>>()
            .join(" "),
        Cause::MailRefused { in_a_day, forbidden, retired, last } => format!(
            "Refused with 5xx in 24 hours: {}, the last at {}. {} of them named a served address, or came from Exchange Online or \
             a relay of yours, and were too large or broke SMTP; {forbidden} by strict mode; {retired} for former addresses.",
            messages(*in_a_day),
            ago(*last, now),
            in_a_day.saturating_sub(forbidden.saturating_add(*retired)),
        ),
        Cause::NoReport { last_received, usual_silence_ms } => format!(
            "The last report came at {}. In the last four weeks the longest silence at this time of the week was {}.",
            ago(*last_received, now),
            span((*usual_silence_ms).max(10 * MINUTE_MS))
        ),
        Cause::NobodyFetched { waiting, oldest_waiting, last_visit } => {
            let oldest =
                oldest_waiting.map(|at| format!(", the oldest since {}", ago(at, now))).unwrap_or_default();
            let visit = last_visit.map_or_else(
                || "No login is known.".to_owned(),
                |at| format!("The last login was at {}.", ago(at, now)),
            );
            format!("{} waiting{oldest}. {visit}", messages(*waiting))
        }
        Cause::ReportMissing { missing, original_held } => format!(
            "NDRs returned only the header of {}. {missing}: not here, or only in doubt. {original_held}: a mail with the same \
             Message-ID is here by another report, most likely the same one. The first NDR came at {}.",
            reports(missing.saturating_add(*original_held)),
            ago(alarm.since, now),
        ),
        Cause::QuarantineGrowing { in_a_day } => format!(
            "Put into Quarantine in the last 24 hours, not being readable as journal reports or not proven to come from where they should: {}.",
            messages(*in_a_day)
        ),
        Cause::UnassignedGrowing { in_a_day, received } => format!(
            "Of {received} messages of the last 24 hours {in_a_day} name nobody the directory knows; they are in Unassigned."
        ),
    }
}

fn is_mail_lost(alarm: &Raised) -> &'static str {
    match &alarm.cause {
        Cause::StoreNotAcknowledging { .. } => {
            "No. Senders are told to try again; Exchange Online does for 24 hours, then it returns reports to the \
             address for undeliverable journal reports."
        }
        Cause::DiskLow { refuses: true, .. } => {
            "No. Senders are told to try again; Exchange Online does for 24 hours, then it returns reports to the \
             address for undeliverable journal reports. Fetching goes on."
        }
        Cause::DiskLow { .. } => {
            "No. Mail is taken until only the reserve is left; then senders are told to try again."
        }
        Cause::LogEndMissing { .. } => {
            "Yes, here: what came after that place in the log, unless it was fetched. What is left is served, and mail is taken."
        }
        Cause::CheckpointsNotKept { .. } => {
            "No. Mail is taken and kept as ever; only should the end of the log be lost, that could not be proven."
        }
        Cause::StoreDamaged { .. } => {
            "Perhaps. What is damaged is never served as mail; all other mail is taken and served. What the archive had fetched \
             before, it has."
        }
        Cause::RetentionPaused { .. } => {
            "No. What retention should take out stays, and what was deleted is not freed: that needs room. Mail is taken and served."
        }
        Cause::RetentionFailed { .. } => {
            "No. What retention should take out may stay, and what was deleted is not freed: the disk fills. Mail is taken and served."
        }
        Cause::PullerFailing { .. } => {
            "Not yet. Reports that came back as NDRs wait at that account, for as long as it keeps mail and has room."
        }
        Cause::DirectoryPlanWaiting { .. } | Cause::DirectoryFailing { .. } => {
            "No. Mail is taken, and the users known before stay in force; mail of users who are new is kept in Unassigned until then."
        }
        Cause::CertificateExpiring { .. } => {
            "No. But once it has ended, a connector that checks certificates stops delivering, and clients that fetch \
             stop too."
        }
        Cause::CertificateNotLoaded { .. } => {
            "No. Everything goes on with the certificate shown before, until that ends."
        }
        Cause::CredentialExpiring { .. } => {
            "No. But once it has ended, users are not read any more (those known stay, new ones' mail goes to Unassigned), and an \
             NDR mailbox elsewhere is not emptied."
        }
        Cause::MailRefused { .. } => {
            "Perhaps. The sender will not try again: Exchange Online returns a refused report to the address for \
             undeliverable journal reports. If that mailbox is read by Daybook or by somebody, it is there."
        }
        Cause::NoReport { .. } => {
            "Nothing that was received. What Exchange Online could not deliver it keeps for 24 hours and brings later; \
             what was never journaled, because a rule is off, is missing."
        }
        Cause::NobodyFetched { .. } => "No. Everything is kept here until it is fetched.",
        Cause::ReportMissing { missing: 0, .. } => {
            "Most likely not: a mail with the same Message-ID is here. Whether it is the same mail can be seen by looking at it; \
             users whom only the missing report named do not have it in their folders."
        }
        Cause::ReportMissing { .. } => {
            "Yes, unless the report comes another way: what an NDR does not return is nowhere else. The NDR is kept."
        }
        Cause::QuarantineGrowing { .. } => {
            "No. Everything is kept as received; in INBOX too, where clients fetch it, unless it was held back for its verdict."
        }
        Cause::UnassignedGrowing { .. } => {
            "No. Everything is kept, in INBOX too; only users' folders lack it."
        }
    }
}

fn advice(alarm: &Raised) -> &'static [&'static str] {
    match &alarm.cause {
        Cause::StoreNotAcknowledging { .. } => &[
            "look at the disk: dmesg, smartctl, df -h",
            "daybook doctor",
            "the server tries again by itself and says when it works",
        ],
        Cause::DiskLow { .. } => &[
            "make room or enlarge the disk of data_dir",
            "daybook status: is a gateway mailbox not being fetched?",
            "the limit is disk_margin_bytes in [alerts], or two days of mail",
        ],
        Cause::LogEndMissing { .. } => &[
            "was data_dir put back from a backup, or copied while a server wrote to it? Then the original may hold what is missing",
            "look at the disk: dmesg, smartctl; a disk that forgets what it was told to sync must be replaced",
            "the archive has what was fetched before; reports of the time in question can be journaled or searched for again",
            "once that is known, it ends with: daybook scrub --close log-end; daybook verify goes on telling of it",
        ],
        Cause::CheckpointsNotKept { .. } => &[
            "checkpoint_dir in [store]: is it mounted, is there room, may the server's user write there?",
            "daybook doctor",
            "it is tried again every few seconds; what was missed is made up for by the next",
        ],
        Cause::StoreDamaged { .. } => &[
            "daybook scrub: where, since when, and which mail",
            "look at the disk: dmesg, smartctl; one bad place is seldom the last",
            "bring the file back from a backup, while the server is stopped; or have the report sent again: it is stored anew",
            "it ends when the next reading finds it whole, when that mail was deleted, or with: daybook scrub --close PLACE",
        ],
        Cause::RetentionPaused { .. } => &[
            "is the clock of this host right? timedatectl; daybook doctor --check clock --time-server HOST",
            "was the store restored from a backup? then set again the legal holds and rules that were set after it, first",
            "if all is right: daybook retention confirm",
            "if it is not, set it: retention goes on by itself; certificates, logs and receipts go by the same clock",
        ],
        Cause::RetentionFailed { .. } => &[
            "daybook retention run: tries it at once, and says why it fails",
            "daybook doctor; is there room on the disk, does it work? dmesg",
            "the log has each failure as retention.failed",
        ],
        Cause::DirectoryPlanWaiting { .. } => &[
            "daybook user plans; daybook user sync SOURCE --dry-run: who would go or lose what, and why",
            "if it is right: daybook user sync --apply PLAN",
            "if it is not, mend the directory, its filters or what exports it: the plan goes with the next sync that is no more too large",
            "what may change without a word: max_removed and max_removed_percent in [[directory]]",
        ],
        Cause::DirectoryFailing { .. } => &[
            "daybook user sync SOURCE: tries it at once, and says what is wrong",
            "in the log directory.sync_failed and directory.kept tell of each try",
            "it is tried again by itself; daybook doctor --check directory",
        ],
        Cause::PullerFailing { .. } => &[
            "daybook pull NAME: tries it at once, and says what is wrong and what to do",
            "in the log pull.failed tells of each try",
            "it is tried again by itself, ever more seldom up to once an hour; daybook doctor --check pullers",
        ],
        Cause::CertificateExpiring { .. } => &[
            "renew it: once the new one lies in the files named in [tls] it is shown within seconds",
            "does the renewal run, and does it write the files named in [tls]?",
            "daybook doctor",
        ],
        Cause::CertificateNotLoaded { .. } => &[
            "daybook doctor: it reads the same files and says what to do",
            "after a renewal both must be replaced, by files that the server's user can read: config/certbot-hook.sh does that",
            "the files are read again by themselves until they are good",
        ],
        Cause::CredentialExpiring { .. } => &[
            "a secret: make a new one in the app registration, put its Value where the configuration reads it, set secret_expires",
            "a certificate: daybook credential create, upload it beside the old one, then change certificate and private_key",
            "systemctl reload daybook; then daybook credential test",
        ],
        Cause::MailRefused { .. } => &[
            "in the log smtp.body_refused names each: receipt, peer, reason, octets",
            "reason too-large or declared-size: is max_message_bytes in [smtp] at least what your senders may send?",
            "by strict mode: journal.forbidden in the log names the peer; is it yours, complete trusted_networks or [exchange] networks",
            "for former addresses: mailbox.retired_address_asked; a journal rule or relay may have the old one still",
            "peer: is it Exchange Online, a relay of yours, or a stranger who knows the address?",
            "look into the mailbox for undeliverable journal reports, and bring what is there",
        ],
        Cause::NoReport { .. } => &[
            "daybook doctor: can senders reach this host?",
            "in Exchange: is the journal rule on, and what does a message trace say?",
            "if your users are away today, nothing is wrong: it ends with the next report",
            "if it is not used any more: daybook mailbox suspend MAILBOX",
        ],
        Cause::NobodyFetched { .. } => &[
            "does the archive's import job run, and what does its log say?",
            "daybook tail, or the log: auth.failed tells of a wrong password",
            "daybook doctor",
            "the limit is fetch_silence_hours in [alerts]; 0 turns it off",
        ],
        Cause::ReportMissing { .. } => &[
            "daybook gaps: which reports, and the Message-ID of each mail",
            "find the mail by that Message-ID in the tenant, where its sender or a recipient has it, and bring it",
            "in Exchange: what returns headers only? A relay has a limit for the size of bounces, a server of yours for that of DSNs",
            "it ends when the report comes whole, or with: daybook gaps --close NDR-RECEIPT",
        ],
        Cause::QuarantineGrowing { .. } => &[
            "in the log journal.quarantined names the receipt and what is wrong; daybook explain RECEIPT says more",
            "journal.held_back names those that are not authentic: forged, or genuine and not recognised? explain shows the evidence",
            "daybook quarantine list; daybook quarantine show RECEIPT says what can be done, release lets it out",
            "mail other than journal reports does not belong here: does somebody know the address?",
        ],
        Cause::UnassignedGrowing { .. } => &[
            "daybook user list: is the directory complete?",
            "in the log journal.unassigned names the receipts; directory.kept tells of a list that was not taken",
            "once the users are there: daybook reassign gives them what came before",
        ],
    }
}

/// The paragraphs about one change.
fn section(change: &Change, now: Timestamp) -> String {
    let alarm = change.alarm();
    let mut text = format!("{}\n\n", title(change, now));
    if let Change::Cleared(alarm) = change {
        let lasted = span(now.unix_ms() - alarm.raised_at.unix_ms());
        text.push_str(&format!("It was raised at {} and lasted {lasted}.\n", minute(alarm.raised_at)));
        if matches!(alarm.cause, Cause::QuarantineGrowing { .. }) {
            text.push_str("Nothing new was quarantined for a day, or it was let out. What is in Quarantine stays there.\n");
        }
        return text;
    }
    text.push_str(&format!(
        "Seen: {}\n\nIs mail lost? {}\n\nWhat to do:\n",
        seen(alarm, now),
        is_mail_lost(alarm)
    ));
    // Commands take the id as well as the name, and no shell minds it.
    let id = alarm.gateway_mailbox.as_ref().map(|subject| subject.id.to_string()).unwrap_or_default();
    for line in advice(alarm) {
        text.push_str(&format!("- {}\n", line.replace("MAILBOX", &id)));
    }
    text
}

/// The text of a mail about these changes.
pub(super) fn changes(changes: &[Change], hostname: &str, remind_hours: u64, now: Timestamp) -> String {
    let sections: Vec<String> = changes.iter().map(|change| section(change, now)).collect();
    let mut text = sections.join("\n\n");
    if changes.iter().any(|change| !matches!(change, Change::Cleared(_))) {
        let again = match remind_hours {
            0 => "It is told once".to_owned(),
            hours => format!("It is told again every {hours} h while it lasts (remind_hours in [alerts])"),
        };
        text.push_str(&format!("\n{again}, and once more when it is over.\n"));
    }
    text.push_str(&format!("\nDaybook on {hostname}, {}. Everything at once: daybook status\n", minute(now)));
    text
}

/// `[daybook gateway.example.com] No report for "Contoso" since 09:14 UTC`
pub(super) fn subject(changes: &[Change], hostname: &str, now: Timestamp) -> String {
    // What is wrong says more than what is over.
    let most_urgent = changes.iter().max_by_key(|change| match change {
        Change::Raised(alarm) => (2, Some(alarm.severity)),
        Change::Lasts(alarm) => (1, Some(alarm.severity)),
        Change::Cleared(_) => (0, None),
    });
    let first = most_urgent.map(|change| title(change, now)).unwrap_or_default();
    let more = match changes.len() {
        0 | 1 => String::new(),
        count => format!(", and {} more", count - 1),
    };
    format!("[daybook {hostname}] {first}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::GatewayMailboxId;
    use crate::observe::alarm::{Severity, Subject};

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn raised(cause: Cause, severity: Severity) -> Raised {
        let id = GatewayMailboxId::new(1, [1; 10]);
        Raised {
            cause,
            severity,
            gateway_mailbox: Some(Subject { id, name: "Contoso".to_owned() }),
            since: at("2026-11-21T09:14:00Z"),
            raised_at: at("2026-11-21T10:50:00Z"),
            told_at: at("2026-11-21T10:50:00Z"),
        }
    }

    #[test]
    fn an_alert_says_what_was_seen_whether_mail_is_lost_and_what_to_do() {
        let cause =
            Cause::NoReport { last_received: at("2026-11-21T09:14:33Z"), usual_silence_ms: 12 * MINUTE_MS };
        let now = at("2026-11-21T10:50:33Z");
        let all = [Change::Raised(raised(cause, Severity::Warning))];
        let subject = subject(&all, "gateway.example.com", now);
        assert_eq!(subject, "[daybook gateway.example.com] No report for \"Contoso\" since 09:14 UTC");
        let text = changes(&all, "gateway.example.com", 24, now);
        for part in [
            "The last report came at 2026-11-21 09:14 UTC (1 h 36 min ago).",
            "longest silence at this time of the week was 12 min",
            "Is mail lost? Nothing that was received.",
            "What to do:\n- daybook doctor",
            "It is told again every 24 h while it lasts",
            "Daybook on gateway.example.com, 2026-11-21 10:50 UTC",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn users_that_wait_or_cannot_be_read_say_which_why_and_what_to_do() {
        let now = at("2026-11-22T10:50:00Z");
        let told = |cause| changes(&[Change::Raised(raised(cause, Severity::Warning))], "gw", 24, now);
        let plan = PlanWaiting {
            source: "entra".to_owned(),
            plan: "entra-7".to_owned(),
            why: "13 of 43 users would go".to_owned(),
        };
        let text = told(Cause::DirectoryPlanWaiting { plans: vec![plan] });
        for part in [
            "Users of entra changed so much that somebody must approve it",
            "entra would change as plan entra-7 says: 13 of 43 users would go.",
            "Is mail lost? No. Mail is taken, and the users known before stay in force",
            "daybook user sync --apply PLAN",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let source = SourceFailing {
            source: "ad".to_owned(),
            since: at("2026-11-22T09:50:00Z"),
            why: "refused: invalid\r\ncredentials".to_owned(),
            advice: Some("make a new password".to_owned()),
        };
        let text = told(Cause::DirectoryFailing { sources: vec![source] });
        assert!(text.contains("Users of ad have not been read since 2026-11-21 09:14 UTC"), "{text}");
        let seen = "ad, since 2026-11-22 09:50 UTC (1 h 0 min ago): refused: invalid";
        assert!(text.contains(seen) && text.contains("Advice: make a new password"), "{text}");
        assert!(!text.contains('\r'), "{text}");
    }

    fn disk(refuses: bool) -> Cause {
        Cause::DiskLow { free_octets: 3 << 30, reserve_octets: 1 << 30, daily_octets: 5 << 20, refuses }
    }

    #[test]
    fn a_disk_that_takes_mail_again_is_not_called_full() {
        let now = at("2026-11-22T10:50:00Z");
        let told =
            |refuses| changes(&[Change::Lasts(raised(disk(refuses), Severity::Critical))], "gw", 24, now);
        assert!(told(true).contains("Still: The disk is full, mail is refused for now"), "{}", told(true));
        assert!(told(false).contains("Still: The disk is filling up: 3.0 GiB free"), "{}", told(false));
        assert!(told(false).contains("Mail is taken until only the reserve is left"), "{}", told(false));
    }

    #[test]
    fn several_changes_make_one_mail_led_by_the_most_urgent() {
        let now = at("2026-11-22T10:50:00Z");
        let mut full = raised(disk(true), Severity::Critical);
        full.gateway_mailbox = None;
        let fetched = Cause::NobodyFetched { waiting: 1, oldest_waiting: None, last_visit: None };
        let all = [
            Change::Cleared(raised(Cause::QuarantineGrowing { in_a_day: 2 }, Severity::Warning)),
            Change::Raised(raised(fetched, Severity::Warning)),
            Change::Raised(full),
        ];
        assert_eq!(
            subject(&all, "gw", now),
            "[daybook gw] The disk is full, mail is refused for now: 3.0 GiB free, and 2 more"
        );
        let text = changes(&all, "gw", 0, now);
        assert!(text.contains("Over: quarantine-growing for \"Contoso\""), "{text}");
        assert!(text.contains("Nobody fetched from \"Contoso\" since 2026-11-21 09:14 UTC"), "{text}");
        assert!(text.contains("It is told once, and once more when it is over."), "{text}");
        let over = changes(&all[..1], "gw", 24, now);
        assert!(!over.contains("told again") && over.contains("lasted 1 day 0 h"), "{over}");
    }

    #[test]
    fn spans_and_sizes_read_well() {
        for (ms, expect) in [
            (-5, "0 min"),
            (59_999, "0 min"),
            (36 * MINUTE_MS, "36 min"),
            (HOUR_MS, "1 h 0 min"),
            (26 * HOUR_MS, "1 day 2 h"),
            (72 * HOUR_MS, "3 days 0 h"),
        ] {
            assert_eq!(span(ms), expect);
        }
        for (octets, expect) in [
            (0, "0 octets"),
            (1_023, "1023 octets"),
            (1_024, "1.0 KiB"),
            (150 << 20, "150 MiB"),
            ((3 << 30) + (200 << 20), "3.2 GiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(size(octets), expect);
        }
    }

    #[test]
    fn a_name_can_forge_no_line() {
        let mut alarm = raised(Cause::QuarantineGrowing { in_a_day: 1 }, Severity::Warning);
        alarm.gateway_mailbox.as_mut().unwrap().name = "x\r\nBcc: all@example.org\u{202e}".to_owned();
        let subject = subject(&[Change::Raised(alarm)], "gw", at("2026-11-21T10:50:33Z"));
        assert!(!subject.contains(['\r', '\n', '\u{202e}']), "{subject}");
    }
}
