//! When what a report documents happened, by which it is decided whose an address was.

use crate::mail::{JournaledEnvelope, Timestamp, written_times};

/// How far back a report is believed, in milliseconds: thirty days. What journaling sends late it sends within days; anything
/// older is a wrong clock, or says something that nobody can check.
const BELIEVED_MS: i64 = 30 * 24 * 60 * 60 * 1_000;

/// The moment by which a message is assigned: when it was delivered, as its report writes it, else when it was sent, else when
/// the report came.
///
/// What lies after the receipt, or long before it, is not believed, nor is what cannot be read. Of a date that has two meanings
/// (`3/4/2026`) that one counts which can be believed, of two of those the one nearest before the receipt: a report comes within
/// minutes, as a rule, and not a month later.
pub fn occurred_at(envelope: &JournaledEnvelope, received_at: Timestamp) -> Timestamp {
    let earliest = Timestamp::from_unix_ms(received_at.unix_ms().saturating_sub(BELIEVED_MS));
    let written = [&envelope.received, &envelope.sent].into_iter().flatten();
    let believed = |at: &Timestamp| (earliest..=received_at).contains(at);
    let mut meant =
        written.filter_map(|text| written_times(text).into_iter().flatten().filter(believed).max());
    meant.next().unwrap_or(received_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(received: Option<&str>, sent: Option<&str>, expect: &str) {
        check_at("2026-11-22T10:00:00Z", received, sent, expect);
    }

    fn check_at(receipt: &str, received: Option<&str>, sent: Option<&str>, expect: &str) {
        let envelope = JournaledEnvelope {
            received: received.map(str::to_owned),
            sent: sent.map(str::to_owned),
            ..JournaledEnvelope::default()
        };
        let at = |text: &str| Timestamp::parse(text).unwrap();
        let occurred = occurred_at(&envelope, at(receipt));
        assert_eq!(occurred, at(expect), "{received:?} {sent:?}");
    }

    #[test]
    fn what_the_report_says_counts_within_thirty_days() {
        const RECEIPT: &str = "2026-11-22T10:00:00Z";
        let (sent, received) = (Some("11/22/2026 8:59:58 AM"), Some("11/22/2026 9:00:00 AM"));
        check(received, sent, "2026-11-22T09:00:00Z");
        check(None, sent, "2026-11-22T08:59:58Z");
        check(Some("in the morning"), sent, "2026-11-22T08:59:58Z");
        check(Some("11/22/2026 10:00:01 AM"), sent, "2026-11-22T08:59:58Z");
        check(Some("11/22/2026 10:00:01 AM"), None, RECEIPT);
        check(Some("10/23/2026 9:59:59 AM"), None, RECEIPT);
        check(Some("10/23/2026 10:00:00 AM"), None, "2026-10-23T10:00:00Z");
        check(Some(""), Some("?"), RECEIPT);
        check(None, None, RECEIPT);
    }

    #[test]
    fn of_two_meanings_the_one_that_can_be_believed_counts() {
        check(Some("11/12/2026 9:00:00 AM"), None, "2026-11-12T09:00:00Z");
        check(Some("12/11/2026 9:00:00 AM"), None, "2026-11-12T09:00:00Z");
        check(Some("03/04/2026 9:00:00 AM"), None, "2026-11-22T10:00:00Z");
    }

    #[test]
    fn of_two_meanings_that_fit_the_one_nearest_before_the_receipt_counts() {
        const RECEIPT: &str = "2026-12-11T09:01:00Z";
        // A server that writes the day first: its month-first meaning is 29 days old.
        check_at(RECEIPT, Some("11/12/2026 09:00:00"), None, "2026-12-11T09:00:00Z");
        check_at(RECEIPT, None, Some("11/12/2026 09:00:00"), "2026-12-11T09:00:00Z");
        check_at(RECEIPT, Some("12/11/2026 9:00:00 AM"), None, "2026-12-11T09:00:00Z");
        check_at(RECEIPT, Some("11-12-2026 09:00:00"), None, "2026-12-11T09:00:00Z");
        check_at(RECEIPT, Some("11/12/2026 09:00:00"), Some("12/11/2026"), "2026-12-11T09:00:00Z");
        // Written after the receipt by one meaning: only the other fits.
        check_at(RECEIPT, Some("11/12/2026 09:02:00"), None, "2026-11-12T09:02:00Z");
    }
}
