//! `scrub`: what is stored is read again, and is what was stored.

use super::{Finding, Subject, finding::or_ok, size, span};
use crate::mail::Timestamp;
use crate::store::ScrubStatus;

pub(super) const NAME: &str = "scrub";

/// Damage that is found later than this may be in every backup.
const PASS_AGE_MS: i64 = 45 * 86_400_000;

pub(super) fn check(subject: &Subject, now: Timestamp) -> Vec<Finding> {
    match subject.view.examined().and_then(|examined| examined.scrub.as_ref()) {
        Some(scrub) => {
            let rate = subject.settings.store.scrub_bytes_per_second;
            judge(scrub, rate, &subject.command("scrub"), now)
        }
        None => vec![Finding::skipped(NAME, subject.view.why_unknown())],
    }
}

/// `rate` is the configured one: without a server none is in force.
fn judge(scrub: &ScrubStatus, rate: u64, command: &str, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    if scrub.damaged > 0 {
        let places: Vec<&str> = scrub.open().take(3).map(|thing| thing.place.as_str()).collect();
        findings.push(Finding::problem(
            NAME,
            format!("{} of what is stored is damaged: {}", scrub.damaged, places.join(", ")),
            format!("see which mail that is (`{command}`) and what the disk says (`dmesg`, `smartctl -a`), and bring it back from a backup"),
        ));
    }
    if rate == 0 {
        findings.push(Finding::warning(
            NAME,
            "what is stored is never read again: scrub_bytes_per_second is 0",
            "set it in [store], so that damage is found while there are backups still",
        ));
    } else if let Some(age) =
        scrub.read_until().map(|at| now.unix_ms() - at.unix_ms()).filter(|age| *age > PASS_AGE_MS)
    {
        let (seen, then) = match scrub.last {
            Some(last) => {
                ("all that is stored was read again", format!("; {} were read then", size(last.octets)))
            }
            None => ("all that is stored was to be read again, and it never was to the end", String::new()),
        };
        findings.push(Finding::warning(
            NAME,
            format!("it is {} since {seen}", span(age)),
            format!("let it read faster: scrub_bytes_per_second in [store] is {rate}{then}"),
        ));
    }
    or_ok(findings, NAME, || match scrub.last {
        Some(last) => {
            let ago = span(now.unix_ms() - last.ended.unix_ms());
            format!("everything stored was read again {ago} ago, at up to {} a second", size(rate))
        }
        None => format!("not everything was read again yet; it is, at up to {} a second", size(rate)),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use crate::store::{DamagedThing, ScrubbedPass};

    fn thing(place: &str, closed_by: Option<&str>) -> DamagedThing {
        serde_json::from_value(serde_json::json!({
            "place": place, "what": "hash", "found_at": Timestamp::from_unix_ms(1), "segment": 1, "receipt_ids": [],
            "gateway_mailbox": null, "placements": [], "closed_by": closed_by,
        }))
        .unwrap()
    }

    #[test]
    fn tells_of_damage_of_no_scrub_and_of_one_that_is_too_slow() {
        let at = Timestamp::from_unix_ms(PASS_AGE_MS * 10);
        let ended = |ms: i64| {
            let ended = Timestamp::from_unix_ms(at.unix_ms() - ms);
            Some(ScrubbedPass { began: ended, ended, octets: 1 << 30, objects: 1, unlisted: 0 })
        };
        for (damaged, last, rate, expect) in [
            (0, None, 1 << 20, vec![(Status::Ok, "not everything")]),
            (0, ended(7_200_000), 1 << 20, vec![(Status::Ok, "2 hours ago, at up to 1.0 MiB")]),
            (0, ended(PASS_AGE_MS + 1), 1 << 20, vec![(Status::Warning, "45 days")]),
            (0, ended(1), 0, vec![(Status::Warning, "never read again")]),
            (2, ended(1), 1, vec![(Status::Problem, "2 of what is stored is damaged: log/open")]),
        ] {
            let things = vec![thing("log/closed", Some("cli")), thing("log/open", None)];
            let scrub = ScrubStatus { damaged, last, things, ..ScrubStatus::default() };
            let found = judge(&scrub, rate, "daybook scrub", at);
            let seen: Vec<_> = found.iter().map(|finding| finding.status).collect();
            assert_eq!(seen, expect.iter().map(|(status, _)| *status).collect::<Vec<_>>(), "{found:?}");
            assert!(found[0].seen.contains(expect[0].1), "{found:?}");
        }
        let since = Some(Timestamp::from_unix_ms(at.unix_ms() - PASS_AGE_MS - 1));
        let found = judge(&ScrubStatus { since, ..ScrubStatus::default() }, 1, "daybook scrub", at);
        assert!(found[0].status == Status::Warning && found[0].seen.contains("45 days since"), "{found:?}");
    }
}
