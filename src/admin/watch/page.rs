//! The status on one page: what `daybook status` prints and the status mail says. Lines are short, for telephones.

use super::credentials;
use super::sources;
use super::status::{CertificateView, MailboxStatus, StatusView};
use super::words::{ago, headline, messages, minute, size};
use crate::mail::{GatewayMailboxState, Timestamp, Untrusted};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The subject of a status report.
pub(super) fn status_subject(status: &StatusView) -> String {
    let how = match status.alarms.len() {
        0 => "all well".to_owned(),
        1 => "1 alarm".to_owned(),
        count => format!("{count} alarms"),
    };
    format!("[daybook {}] Status: {how}", status.hostname)
}

/// The status on one page.
pub fn page(status: &StatusView) -> String {
    let now = status.at;
    let mut out = format!("Daybook {} on {}, {}\n\n", status.version, status.hostname, minute(now));
    if status.alarms.is_empty() {
        out.push_str("No alarm.\n");
    }
    for alarm in &status.alarms {
        let raised = ago(alarm.raised_at, now);
        let (severity, name) = (alarm.severity, alarm.cause.name());
        out.push_str(&format!("{}\n  {name}, {severity}, raised {raised}\n", headline(alarm, now)));
    }
    for mailbox in &status.gateway_mailboxes {
        out.push_str(&mailbox_lines(mailbox, now));
    }
    match (status.counted_at, status.gateway_mailboxes.is_empty()) {
        (None, _) => out.push_str("\nGateway mailboxes: not counted yet.\n"),
        (Some(_), true) => out.push_str("\nThere is no gateway mailbox yet.\n"),
        (Some(_), false) => {}
    }
    out.push('\n');
    match &status.store_trouble {
        None => out.push_str("store: takes mail\n"),
        Some(why) => out.push_str(&format!("store: DOES NOT TAKE MAIL: {}\n", Untrusted(why))),
    }
    match status.disk {
        Some(disk) => {
            let (free, reserve) = (size(disk.free_octets), size(disk.reserve_octets));
            out.push_str(&format!("disk: {free} free, {reserve} of it kept in reserve\n"));
        }
        None => out.push_str("disk: not known\n"),
    }
    if let Some(checkpoint) = &status.checkpoint {
        out.push_str(&format!("checkpoint: {}, of group {}", ago(checkpoint.at, now), checkpoint.group));
        out.push_str(&checkpoint.key.as_ref().map_or_else(String::new, |key| format!(", signed by {key}")));
        out.push('\n');
    }
    if let Some(scrub) = &status.scrub {
        out.push_str(&crate::admin::scrub::line(scrub, now));
        for thing in &scrub.things {
            out.push_str(&format!("  {}: {}\n", Untrusted(&thing.place), Untrusted(&thing.what)));
        }
    }
    if let Some(keeping) = &status.keeping {
        out.push_str(&crate::admin::retention::line(keeping, now));
    }
    for source in &status.directory {
        out.push_str(&sources::lines(source, now));
    }
    out.push_str(&certificate_line(status.certificate, now));
    for end in &status.credentials {
        out.push_str(&credentials::line(end, now));
    }
    match &status.mail {
        None => out.push_str("mail: alerts are not mailed, see [alerts]\n"),
        Some(mail) => {
            out.push_str(&format!(
                "mail: to {} over {}, {} waiting\n",
                mail.to.join(", "),
                mail.relay,
                mail.waiting
            ));
            if let Some(failure) = &mail.failure {
                out.push_str(&format!("mail: THE LAST TRY FAILED: {}\n", Untrusted(failure)));
            }
        }
    }
    out.push_str(&format!("watching since {}\n", ago(status.watching_since, now)));
    out
}

fn certificate_line(certificate: Option<CertificateView>, now: Timestamp) -> String {
    let Some(CertificateView { ends, self_signed }) = certificate else {
        return "certificate: not known\n".to_owned();
    };
    let left_ms = ends.unix_ms() - now.unix_ms();
    let by = if self_signed { ", self-signed: peers that check certificates refuse it" } else { "" };
    if left_ms > 0 {
        format!("certificate: until {}, {} days left{by}\n", minute(ends), left_ms / DAY_MS)
    } else {
        format!("certificate: ENDED at {}{by}\n", minute(ends))
    }
}

fn mailbox_lines(mailbox: &MailboxStatus, now: Timestamp) -> String {
    let suspended = if mailbox.state == GatewayMailboxState::Suspended { " (suspended)" } else { "" };
    let mut out = format!("\n{}{suspended}\n", Untrusted(&mailbox.name));
    let day = &mailbox.last_day;
    out.push_str(&format!(
        "  24 h: {} received ({}), {} placed, {} unassigned, {} quarantined, {} fetched\n",
        day.received,
        size(day.octets),
        day.in_user_folders,
        day.unassigned,
        day.quarantined,
        day.fetched
    ));
    match mailbox.oldest_waiting {
        None => out.push_str("  waiting: nothing\n"),
        Some(oldest) => {
            let (count, octets) = (messages(mailbox.waiting), size(mailbox.waiting_octets));
            out.push_str(&format!("  waiting: {count} ({octets}), the oldest since {}\n", ago(oldest, now)));
        }
    }
    let when = |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), |at| ago(at, now));
    out.push_str(&format!("  last report: {}\n", when(mailbox.last_report)));
    out.push_str(&format!("  last login: {}\n", when(mailbox.last_login)));
    out.push_str(&format!("  last fetch: {}\n", when(mailbox.last_fetched)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_counted_yet_is_not_called_none() {
        let at = Timestamp::from_unix_ms(1_794_787_200_000);
        let status = |counted_at| StatusView {
            at,
            hostname: "gw".to_owned(),
            version: "1".to_owned(),
            watching_since: at,
            alarms: Vec::new(),
            store_trouble: None,
            checkpoint: None,
            disk: None,
            scrub: None,
            keeping: None,
            certificate: None,
            credentials: Vec::new(),
            mail: None,
            counted_at,
            directory: Vec::new(),
            gateway_mailboxes: Vec::new(),
        };
        assert!(page(&status(None)).contains("Gateway mailboxes: not counted yet."));
        assert!(page(&status(Some(at))).contains("There is no gateway mailbox yet."));
    }
}
