//! `retention`: the clock it goes by is trusted, and its passes come to their end.

use super::{Finding, Subject, View, finding::or_ok, span};
use crate::mail::Timestamp;
use crate::store::KeepingStatus;

pub(super) const NAME: &str = "retention";

/// A pass is made every hour; one that is older than this was missed again and again.
const PASS_AGE_MS: i64 = 86_400_000;
/// A clock that is further behind what time had reached was set back, or had been ahead.
const BEHIND_MS: i64 = 3_600_000;

pub(super) fn check(subject: &Subject, now: Timestamp) -> Vec<Finding> {
    match subject.view.examined().and_then(|examined| examined.keeping.as_ref()) {
        Some(keeping) => {
            let serves = matches!(subject.view, View::Server(_));
            judge(keeping, serves, &|arguments| subject.command(arguments), now)
        }
        None => vec![Finding::skipped(NAME, subject.view.why_unknown())],
    }
}

/// `serves`: a server makes the passes; without one nobody does.
fn judge(
    keeping: &KeepingStatus,
    serves: bool,
    command: &dyn Fn(&str) -> String,
    now: Timestamp,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(pause) = keeping.paused.as_ref().filter(|pause| pause.is_of_restore()) {
        findings.push(Finding::problem(
            NAME,
            format!(
                "nothing leaves and nothing is freed since {}: the store was restored from a backup, which knows of no legal hold \
                 and no rule that was set after it",
                pause.since
            ),
            format!(
                "set again what was set since (`{}`), then have it go on: `{}`",
                command("mailbox hold"),
                command("retention confirm")
            ),
        ));
    } else if let Some(pause) = &keeping.paused {
        findings.push(Finding::problem(
            NAME,
            format!(
                "nothing leaves and nothing is freed: it is {}, {} after {}, the last time the clock was known to be right",
                pause.clock,
                span(pause.clock.unix_ms() - pause.trusted.unix_ms()),
                pause.trusted
            ),
            format!(
                "if the clock is right, or the store was restored from a backup and the holds set since are set again, say so (`{}`); \
                 if it is not, set it (`timedatectl`), and retention goes on by itself",
                command("retention confirm")
            ),
        ));
    }
    let behind = keeping.trusted.unix_ms() - now.unix_ms();
    if behind > BEHIND_MS {
        findings.push(Finding::warning(
            NAME,
            format!("it is {now}, and time had reached {} before: what is due leaves {} late", keeping.trusted, span(behind)),
            "have the clock set by a time server (`timedatectl set-ntp true`); if it is right already, it was ahead before, and this \
             ends when it has passed that time",
        ));
    }
    if let Some(last) = &keeping.last {
        let age = now.unix_ms() - last.ended_at.unix_ms();
        if let Some(error) = &last.error {
            findings.push(Finding::warning(
                NAME,
                format!("the last pass failed, {} ago: {error}", span(age.max(0))),
                format!(
                    "mend what it says, then `{}`; until then nothing is freed, and the disk fills",
                    command("retention run")
                ),
            ));
        } else if serves && keeping.paused.is_none() && age > PASS_AGE_MS {
            findings.push(Finding::warning(
                NAME,
                format!("the last pass ended {} ago, and one is due every hour", span(age)),
                format!(
                    "have one made (`{}`), and look into the log for retention.failed",
                    command("retention run")
                ),
            ));
        }
    }
    or_ok(findings, NAME, || match &keeping.last {
        Some(last) => {
            format!("the last pass ended {} ago", span((now.unix_ms() - last.ended_at.unix_ms()).max(0)))
        }
        None => format!("it goes by {}; no pass was made since the start", keeping.trusted),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use crate::store::{ClockPause, KeptPass};

    const DAY_MS: i64 = 86_400_000;

    fn day(days: i64) -> Timestamp {
        Timestamp::from_unix_ms((1_000 + days) * DAY_MS)
    }

    fn passed(ended_at: Timestamp, error: Option<&str>) -> Option<KeptPass> {
        let error = error.map(str::to_owned);
        let (freed_entries, freed_objects, freed_octets) = (0, 0, 0);
        Some(KeptPass {
            at: ended_at,
            ended_at,
            expired: 0,
            freed_entries,
            freed_objects,
            freed_octets,
            held: 0,
            error,
        })
    }

    #[test]
    fn tells_of_a_clock_that_jumped_or_went_back_and_of_passes_that_fail_or_are_missed() {
        let paused = Some(ClockPause { since: day(0), trusted: day(-400), clock: day(0), restored: false });
        let keeping = |trusted, paused, last| KeepingStatus { trusted, paused, running: false, last };
        for (keeping, serves, status, word) in [
            (keeping(day(0), None, None), true, Status::Ok, "no pass was made"),
            (keeping(day(0), None, passed(day(0), None)), true, Status::Ok, "0 seconds ago"),
            (keeping(day(-400), paused, None), true, Status::Problem, "400 days after"),
            (keeping(day(-400), paused, passed(day(-400), None)), true, Status::Problem, "400 days after"),
            (keeping(day(1), None, None), true, Status::Warning, "24 hours late"),
            (keeping(day(0), None, passed(day(-3), None)), true, Status::Warning, "3 days ago"),
            (keeping(day(0), None, passed(day(-3), None)), false, Status::Ok, "3 days ago"),
            (
                keeping(day(0), None, passed(day(0), Some("EIO"))),
                true,
                Status::Warning,
                "failed, 0 seconds ago: EIO",
            ),
        ] {
            let found = judge(&keeping, serves, &|arguments| format!("daybook {arguments}"), day(0));
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].status, status, "{found:?}");
            assert!(found[0].seen.contains(word), "{word} is not in {found:?}");
        }
    }
}
