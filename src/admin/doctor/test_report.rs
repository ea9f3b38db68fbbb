//! A journal report about nothing, as Exchange Online writes them.

use crate::mail::Timestamp;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// The report with this id, its lines ending in CRLF. No two ids give the same message, so none passes for a repetition.
pub(super) fn build(id: &str, hostname: &str, at: Timestamp) -> Vec<u8> {
    let date = OffsetDateTime::from_unix_timestamp(at.unix_seconds()).ok();
    let date = date.and_then(|date| date.format(&Rfc2822).ok()).unwrap_or_default();
    let boundary = format!("_daybook-self-test-{id}_");
    let lines = [
        "From: <daybook-self-test@invalid>",
        "To: <daybook-self-test@invalid>",
        "Subject: Daybook tries itself out",
        &format!("Message-ID: <{id}@journal.report.generator>"),
        &format!("Date: {date}"),
        "MIME-Version: 1.0",
        "X-MS-Journal-Report:",
        "Auto-Submitted: auto-generated",
        &format!("Content-Type: multipart/mixed; boundary=\"{boundary}\""),
        "",
        &format!("--{boundary}"),
        "Content-Type: text/plain; charset=\"us-ascii\"",
        "Content-Transfer-Encoding: 7bit",
        "",
        "Sender: sender@self-test.invalid",
        "Subject: Daybook tries itself out",
        &format!("Message-Id: <{id}@self-test.invalid>"),
        "To: recipient@self-test.invalid",
        "",
        &format!("--{boundary}"),
        "Content-Type: message/rfc822",
        "",
        "From: <sender@self-test.invalid>",
        "To: <recipient@self-test.invalid>",
        "Subject: Daybook tries itself out",
        &format!("Message-ID: <{id}@self-test.invalid>"),
        &format!("Date: {date}"),
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=\"us-ascii\"",
        "",
        &format!(
            "The command daybook doctor on {hostname} sent this to itself, fetches it again and deletes it."
        ),
        ".",
        "The line above, a single dot, must survive.",
        "",
        &format!("--{boundary}--"),
        "",
    ];
    lines.join("\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::{Destination, Scanner, extract};
    use crate::mail::{Class, Profile};

    #[test]
    fn is_a_journal_report_without_defects() {
        let at = Timestamp::from_unix_ms(1_800_000_000_000);
        let message = build("0190", "gw.example", at);
        assert!(message.ends_with(b"_--\r\n"));
        let text = String::from_utf8(message.clone()).unwrap();
        assert!(text.contains("Date: Fri, 15 Jan 2027 08:00:00 +0000\r\n"), "{text}");
        assert_ne!(message, build("0191", "gw.example", at));
        let mut scanner = Scanner::new();
        scanner.push(&message);
        let found = extract(&scanner.finish(), Profile::Microsoft365);
        assert_eq!((found.class, found.destination), (Class::JournalReport, Destination::Assign));
        assert_eq!(found.defects, []);
        assert_eq!(found.reports.len(), 1);
    }
}
