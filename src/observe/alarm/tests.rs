//! Every alarm with given times: raised once when its cause is made, cleared once when that is gone.

use super::*;

const MINUTE_MS: i64 = 60 * 1000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
const GIB: u64 = 1 << 30;
/// A Monday, 0:00.
const MONDAY: i64 = 1_794_787_200_000;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(MONDAY + ms)
}

fn limits() -> Limits {
    Limits { fetch_silence_ms: Some(DAY_MS), remind_ms: None, disk_margin_octets: GIB }
}

fn id(n: u8) -> GatewayMailboxId {
    GatewayMailboxId::new(1, [n; 10])
}

fn mailbox(n: u8, numbers: MailboxNumbers) -> MailboxFacts {
    let subject = Subject { id: id(n), name: format!("Tenant {n}") };
    MailboxFacts { subject, watched_since: None, numbers: Some(numbers) }
}

/// One that lived 90 days when it ends.
fn certificate(ends_ms: i64) -> Option<Validity> {
    Some(Validity { begins: at(ends_ms - 90 * DAY_MS), ends: at(ends_ms) })
}

/// Nothing is wrong.
fn healthy() -> Facts {
    Facts {
        watching_since: at(-30 * DAY_MS),
        store: StoreState::Ready,
        space: Some(SpaceFacts { free_octets: 50 * GIB, reserve_octets: GIB, daily_octets: Some(GIB) }),
        checkpoints: Some(CheckpointFacts::default()),
        certificate: certificate(60 * DAY_MS),
        certificate_files: Some(CertificateFiles::Shown),
        refused_mail: RefusedFacts::default(),
        damage: DamageFacts::default(),
        retention_pause: None,
        retention_failure: None,
        credentials: Vec::new(),
        directory: Vec::new(),
        pullers: Vec::new(),
        gateway_mailboxes: vec![mailbox(
            1,
            MailboxNumbers { unassigned: Some(0), ..MailboxNumbers::default() },
        )],
    }
}

/// Steps by the minute through times at which the facts are as given; gives what changed and when, in minutes.
fn course(
    alarms: &mut Alarms,
    minutes: std::ops::Range<i64>,
    facts: impl Fn(i64) -> Facts,
) -> Vec<(i64, String)> {
    let mut told = Vec::new();
    for minute in minutes {
        for change in alarms.step(&facts(minute), at(minute * MINUTE_MS)) {
            let verb = match &change {
                Change::Raised(alarm) => format!("raised {}", alarm.severity),
                Change::Lasts(_) => "lasts".to_owned(),
                Change::Cleared(_) => "cleared".to_owned(),
            };
            told.push((minute, format!("{} {verb}", change.alarm().cause.name())));
        }
    }
    told
}

fn check(expect: &[(i64, &str)], minutes: i64, facts: impl Fn(i64) -> Facts) {
    let mut alarms = Alarms::new(limits(), Vec::new());
    let told = course(&mut alarms, 0..minutes, facts);
    let expect: Vec<(i64, String)> =
        expect.iter().map(|(minute, what)| (*minute, (*what).to_owned())).collect();
    assert_eq!(told, expect);
}

#[test]
fn a_store_that_fails_for_a_minute_and_works_for_two() {
    let failing = |minute: i64| (10..15).contains(&minute) || minute == 16 || minute == 30;
    check(
        &[(11, "store-not-acknowledging raised critical"), (19, "store-not-acknowledging cleared")],
        60,
        |m| {
            let store = if failing(m) {
                StoreState::Failing("write the log: EIO".to_owned())
            } else {
                StoreState::Ready
            };
            Facts { store, ..healthy() }
        },
    );
}

#[test]
fn damage_calls_at_once_and_again_when_it_grows_and_is_over_when_it_is_gone() {
    let facts = |minute: i64| {
        let damaged = match minute {
            10..20 => 1,
            20..25 => 3,
            25..30 => 2,
            _ => 0,
        };
        let damage = DamageFacts { damaged, places: vec!["log/00000001.seg at 9".to_owned()], since: None };
        Facts { damage, ..healthy() }
    };
    let grows = [
        (10, "store-damaged raised critical"),
        (20, "store-damaged raised critical"),
        (30, "store-damaged cleared"),
    ];
    check(&grows, 40, facts);
}

#[test]
fn a_clock_that_jumped_is_told_of_once_and_over_when_it_is_back_or_confirmed() {
    let facts = |minute: i64| {
        let pause =
            PauseFacts { trusted: at(0), clock: at(400 * DAY_MS + minute * MINUTE_MS), restored: false };
        Facts { retention_pause: (10..20).contains(&minute).then_some(pause), ..healthy() }
    };
    check(&[(10, "retention-paused raised warning"), (20, "retention-paused cleared")], 40, facts);
}

#[test]
fn passes_of_retention_that_fail_are_told_of_once_and_over_with_one_that_does_not() {
    let facts = |minute: i64| {
        let why = (10..200).contains(&minute).then(|| format!("no space left, {minute}"));
        Facts { retention_failure: why, ..healthy() }
    };
    check(&[(10, "retention-failed raised warning"), (200, "retention-failed cleared")], 240, facts);
}

fn source(name: &str, plan: Option<i64>, failure: Option<(i64, bool)>) -> SourceFacts {
    let since = |minute: i64| at(minute * MINUTE_MS);
    let plan =
        plan.map(|minute| PlanFacts { plan: "p".to_owned(), since: since(minute), why: "empty".to_owned() });
    let failure = failure.map(|(minute, mends_itself)| FailureFacts {
        since: since(minute),
        why: "refused".to_owned(),
        advice: None,
        mends_itself,
    });
    SourceFacts { name: name.to_owned(), plan, failure }
}

#[test]
fn a_plan_that_waits_is_told_of_at_once_again_with_another_source_and_over_with_the_last() {
    let waits = |minute: i64, times: std::ops::Range<i64>| times.contains(&minute).then_some(times.start);
    let facts = |minute: i64| Facts {
        directory: vec![
            source("ad", waits(minute, 10..30), None),
            source("entra", waits(minute, 20..40), None),
            source("users", None, None),
        ],
        ..healthy()
    };
    let expect = [
        (10, "directory-plan-waiting raised warning"),
        (20, "directory-plan-waiting raised warning"),
        (40, "directory-plan-waiting cleared"),
    ];
    check(&expect, 60, facts);
}

#[test]
fn a_source_that_fails_calls_after_ten_minutes_or_three_hours_by_what_is_wrong() {
    let expect = [(20, "directory-failing raised warning"), (50, "directory-failing cleared")];
    check(&expect, 90, |minute| {
        let fails = (10..50).contains(&minute).then_some((10, false));
        Facts { directory: vec![source("ad", None, fails)], ..healthy() }
    });
    // A server that is away for two hours is nobody's business, one that is for longer is.
    let expect = [(380, "directory-failing raised warning"), (500, "directory-failing cleared")];
    check(&expect, 600, |minute| {
        let fails = match minute {
            10..130 => Some((10, true)),
            200..400 => Some((200, true)),
            // After a restart, which forgot since when.
            400..500 => Some((400, true)),
            _ => None,
        };
        Facts { directory: vec![source("ad", None, fails), source("users", None, None)], ..healthy() }
    });
    let mut alarms = Alarms::new(limits(), Vec::new());
    let both = vec![source("ad", None, Some((0, true))), source("entra", None, Some((230, false)))];
    alarms.step(&Facts { directory: both, ..healthy() }, at(4 * HOUR_MS));
    let Cause::DirectoryFailing { sources } = &alarms.raised()[0].cause else { panic!() };
    assert_eq!(sources.iter().map(|source| &*source.source).collect::<Vec<_>>(), ["ad", "entra"]);
    assert_eq!(alarms.raised()[0].since, at(0));
}

#[test]
fn a_disk_that_fills_warns_becomes_critical_and_clears_with_room_to_spare() {
    let gib = |minute: i64| match minute {
        0..10 => 50,
        // Two days of mail are 2 GiB, beyond a reserve of 1.
        10..20 => 2,
        20..30 => 1,
        30..40 => 2,
        _ => 6,
    };
    let facts = |minute: i64| {
        let free_octets = gib(minute) * GIB;
        let space = Some(SpaceFacts { free_octets, reserve_octets: GIB, daily_octets: Some(GIB) });
        Facts { space, ..healthy() }
    };
    check(
        &[(10, "disk-low raised warning"), (20, "disk-low raised critical"), (40, "disk-low cleared")],
        50,
        facts,
    );
    // Just above the limit nothing changes either way.
    let edge = |minute: i64| {
        let free_octets = 3 * GIB + if minute % 2 == 0 { 0 } else { GIB / 4 };
        Facts {
            space: Some(SpaceFacts { free_octets, reserve_octets: GIB, daily_octets: Some(GIB) }),
            ..healthy()
        }
    };
    check(&[], 50, edge);
    // A quota the free space does not show, or what cannot be found out.
    check(&[(0, "disk-low raised critical")], 3, |_| Facts { store: StoreState::Full, ..healthy() });
    check(&[], 3, |_| Facts { space: None, ..healthy() });
}

#[test]
fn a_weekend_and_a_restart_do_not_end_a_low_disk() {
    let space = |left_gib: u64, daily_octets| SpaceFacts {
        free_octets: (left_gib + 1) * GIB,
        reserve_octets: GIB,
        daily_octets,
    };
    let facts = |minute: i64| {
        let seen = match minute {
            0..10 => space(9, Some(5 * GIB)),
            // Two weekend days, and a server that has counted nothing yet.
            10..20 => space(11, Some(GIB)),
            20..30 => space(90, None),
            30..40 => space(9, Some(5 * GIB)),
            _ => space(13, Some(GIB)),
        };
        Facts { space: Some(seen), ..healthy() }
    };
    check(&[(0, "disk-low raised warning"), (40, "disk-low cleared")], 60, facts);
}

#[test]
fn a_disk_that_was_full_is_not_said_to_refuse_mail_it_takes_again() {
    let mut alarms = Alarms::new(limits(), Vec::new());
    let mut seen = |left_octets: u64| {
        let (free_octets, daily_octets) = (GIB + left_octets, Some(GIB));
        let space = Some(SpaceFacts { free_octets, reserve_octets: GIB, daily_octets });
        alarms.step(&Facts { space, ..healthy() }, at(0));
        match &alarms.raised()[0] {
            Raised { cause: Cause::DiskLow { refuses, .. }, severity, .. } => (*refuses, *severity),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(seen(0), (true, Severity::Critical));
    assert_eq!(seen(GIB), (false, Severity::Critical));
    assert_eq!(seen(0), (true, Severity::Critical));
    // Neither low nor enough.
    assert_eq!(seen(2 * GIB + GIB / 4), (false, Severity::Critical));
    let older = r#"{"alarm":"disk-low","free_octets":1,"reserve_octets":2,"daily_octets":3}"#;
    assert!(matches!(serde_json::from_str(older).unwrap(), Cause::DiskLow { refuses: false, .. }));
}

#[test]
fn a_certificate_is_told_of_once_at_28_14_7_and_1_days_before_its_end() {
    let day = 24 * 60;
    let facts = |minute: i64| {
        let ends_ms = if minute < 60 * day { 50 * DAY_MS } else { 150 * DAY_MS };
        Facts { certificate: certificate(ends_ms), ..healthy() }
    };
    check(
        &[
            (22 * day + 1, "certificate-expiring raised warning"),
            (36 * day + 1, "certificate-expiring raised warning"),
            (43 * day + 1, "certificate-expiring raised critical"),
            (49 * day + 1, "certificate-expiring raised critical"),
            (60 * day, "certificate-expiring cleared"),
        ],
        100 * day,
        facts,
    );
    check(&[], 5, |_| Facts { certificate: None, ..healthy() });
}

#[test]
fn a_stage_told_of_before_a_restart_is_not_told_again_and_an_older_alarm_has_the_first() {
    let facts = |_| Facts { certificate: certificate(10 * DAY_MS), ..healthy() };
    let mut before = Alarms::new(limits(), Vec::new());
    assert_eq!(course(&mut before, 0..2, facts).len(), 1);
    let saved = serde_json::to_string(before.raised()).unwrap();
    let mut after = Alarms::new(limits(), serde_json::from_str(&saved).unwrap());
    assert_eq!(course(&mut after, 2..4, facts), []);
    let older = saved.replace(",\"within_days\":14", "");
    assert_ne!(older, saved);
    let mut after = Alarms::new(limits(), serde_json::from_str(&older).unwrap());
    assert_eq!(course(&mut after, 2..4, facts), [(2, "certificate-expiring raised warning".to_owned())]);
}

#[test]
fn a_certificate_that_lives_for_days_is_no_alarm_as_long_as_it_is_renewed_in_time() {
    let hours = |minute: i64| minute / 60;
    // Six days, renewed when two are left.
    let renewed = |minute: i64| {
        let begins = (hours(minute) / 96) * 96;
        let validity = Validity { begins: at(begins * HOUR_MS), ends: at((begins + 144) * HOUR_MS) };
        Facts { certificate: Some(validity), ..healthy() }
    };
    check(&[], 30 * 24 * 60, renewed);
    let forgotten = |_| Facts { certificate: renewed(0).certificate, ..healthy() };
    let expect = [
        (96 * 60 + 1, "certificate-expiring raised critical"),
        (120 * 60 + 1, "certificate-expiring raised critical"),
    ];
    check(&expect, 10 * 24 * 60, forgotten);
}

#[test]
fn checkpoints_that_fail_for_a_while_are_told_of_and_a_missing_end_of_the_log_at_once() {
    let facts = |minute: i64| {
        let failing = match minute {
            3..8 => Some(3),
            10..30 => Some(10),
            _ => None,
        };
        let failing = failing.map(|since| (at(since * MINUTE_MS), "read-only".to_owned()));
        let missing = (minute >= 40).then(|| "the log ends with group 7".to_owned());
        let checkpoints = (!(25..28).contains(&minute)).then_some(CheckpointFacts { missing, failing });
        Facts { checkpoints, ..healthy() }
    };
    check(
        &[
            (20, "checkpoints-not-kept raised warning"),
            (30, "checkpoints-not-kept cleared"),
            (40, "log-end-missing raised critical"),
        ],
        50,
        facts,
    );
}

#[test]
fn a_new_certificate_that_cannot_be_used_is_told_once_until_it_can() {
    let facts = |minute: i64| {
        let certificate_files = match minute {
            10..20 => Some(CertificateFiles::Bad("cannot use the key with the certificate".to_owned())),
            20..30 => None,
            _ => Some(CertificateFiles::Shown),
        };
        Facts { certificate_files, ..healthy() }
    };
    check(
        &[(10, "certificate-not-loaded raised warning"), (30, "certificate-not-loaded cleared")],
        40,
        facts,
    );
}

/// The rhythm of a mailbox with a report every five minutes, always.
fn steady() -> Arc<Rhythm> {
    let spans: Vec<(Timestamp, u64)> = (-28 * 144..0).map(|span| (at(span * 10 * MINUTE_MS), 2)).collect();
    Arc::new(Rhythm::learn(&spans, at(-90 * DAY_MS), at(-MINUTE_MS)).unwrap())
}

fn silent(last_minute: i64, rhythm: &Arc<Rhythm>) -> MailboxFacts {
    let last_received = Some(at(last_minute * MINUTE_MS));
    mailbox(
        1,
        MailboxNumbers { last_received, rhythm: Some(Arc::clone(rhythm)), ..MailboxNumbers::default() },
    )
}

#[test]
fn a_silence_ends_with_a_report_and_with_nothing_else() {
    let rhythm = steady();
    let facts = |minute: i64| {
        let last = if minute < 500 { minute.min(100) } else { 500.max(minute - 3) };
        Facts { gateway_mailboxes: vec![silent(last, &rhythm)], ..healthy() }
    };
    check(&[(140, "no-report raised warning"), (500, "no-report cleared")], 600, facts);
    // Counted every fifty minutes only: what is not known to be silence is none.
    let facts = |minute: i64| {
        let counted = minute - minute % 50;
        let mut mailbox = silent(counted - counted % 3, &rhythm);
        if let Some(numbers) = &mut mailbox.numbers {
            numbers.counted_at = Some(at(counted * MINUTE_MS));
        }
        Facts { gateway_mailboxes: vec![mailbox], ..healthy() }
    };
    check(&[], 600, facts);
    // Without a rhythm nothing is too long.
    let facts = |_| {
        let numbers = MailboxNumbers { last_received: Some(at(-9 * DAY_MS)), ..MailboxNumbers::default() };
        Facts { gateway_mailboxes: vec![mailbox(1, numbers)], ..healthy() }
    };
    check(&[], 600, facts);
}

#[test]
fn time_in_which_the_server_was_down_is_nobodys_silence() {
    let rhythm = steady();
    let facts = |_| Facts {
        watching_since: at(0),
        gateway_mailboxes: vec![
            silent(-3 * 1440, &rhythm),
            mailbox(
                2,
                MailboxNumbers {
                    waiting: 7,
                    oldest_waiting: Some(at(-9 * DAY_MS)),
                    last_visit: Some(at(-8 * DAY_MS)),
                    ..MailboxNumbers::default()
                },
            ),
        ],
        ..healthy()
    };
    check(&[(40, "no-report raised warning"), (1440, "nobody-fetched raised warning")], 1500, facts);
}

#[test]
fn a_clock_that_was_ahead_silences_nothing() {
    let rhythm = steady();
    // Everything was noted a month ahead; then the clock is right again.
    let month = 30 * 1440;
    let facts = |last_visit: i64, last_received: i64, store| {
        let mut silent = silent(last_received, &rhythm);
        if let Some(numbers) = &mut silent.numbers {
            let waiting = 7;
            let oldest_waiting = Some(at((last_visit - 2000) * MINUTE_MS));
            let last_visit = Some(at(last_visit * MINUTE_MS));
            *numbers = MailboxNumbers { waiting, oldest_waiting, last_visit, ..numbers.clone() };
        }
        Facts { watching_since: at(0), gateway_mailboxes: vec![silent], store, ..healthy() }
    };
    let mut alarms = Alarms::new(Limits { remind_ms: Some(10 * HOUR_MS), ..limits() }, Vec::new());
    let failing = || StoreState::Failing("EIO".to_owned());
    let ahead = course(&mut alarms, month..month + 2, |_| facts(month - 1500, month - 60, failing()));
    assert_eq!(ahead.len(), 3, "{ahead:?}");
    let told = course(&mut alarms, 0..1, |_| facts(month, -1, failing()));
    let lasts =
        ["store-not-acknowledging", "no-report", "nobody-fetched"].map(|name| (0, format!("{name} lasts")));
    assert_eq!(told, lasts);
    let told = course(&mut alarms, 1..5, |minute| facts(minute, minute, StoreState::Ready));
    let over = [
        (1, "no-report cleared".to_owned()),
        (1, "nobody-fetched cleared".to_owned()),
        (3, "store-not-acknowledging cleared".to_owned()),
    ];
    assert_eq!(told, over);
    // Nor does a visit that is still to come stand for one.
    let told = course(&mut alarms, 5..1500, |minute| facts(month, minute, StoreState::Ready));
    assert_eq!(told, [(1440, "nobody-fetched raised warning".to_owned())]);
}

#[test]
fn time_in_which_a_gateway_mailbox_was_suspended_is_nobodys_silence() {
    let rhythm = steady();
    let facts = |_| {
        let mut resumed = silent(-9 * 1440, &rhythm);
        resumed.watched_since = Some(at(0));
        if let Some(numbers) = &mut resumed.numbers {
            (numbers.waiting, numbers.oldest_waiting) = (7, Some(at(-9 * DAY_MS)));
        }
        Facts { gateway_mailboxes: vec![resumed], ..healthy() }
    };
    check(&[(40, "no-report raised warning"), (1440, "nobody-fetched raised warning")], 1500, facts);
}

#[test]
fn mail_that_waits_a_day_without_a_login_is_told_of() {
    let facts = |last_visit: fn(i64) -> Option<i64>, waiting: fn(i64) -> u64| {
        move |minute: i64| {
            let waiting = waiting(minute);
            let numbers = MailboxNumbers {
                last_visit: last_visit(minute).map(|minute| at(minute * MINUTE_MS)),
                waiting,
                oldest_waiting: (waiting > 0).then(|| at(60 * MINUTE_MS)),
                ..MailboxNumbers::default()
            };
            Facts { gateway_mailboxes: vec![mailbox(1, numbers)], ..healthy() }
        }
    };
    let told = [(1500, "nobody-fetched raised warning"), (2000, "nobody-fetched cleared")];
    // Somebody comes, finds mail and leaves it: that is being there.
    check(&told, 2500, facts(|m| (m >= 2000).then_some(2000), |m| u64::from(m >= 60)));
    check(&told, 2500, facts(|_| None, |m| u64::from((60..2000).contains(&m))));
    check(&[], 5000, facts(|m| Some(m - m % 600), |_| 3));
    check(&[], 5000, facts(|_| Some(0), |_| 0));
}

#[test]
fn fetching_is_not_watched_when_the_admin_says_so() {
    let numbers =
        MailboxNumbers { waiting: 3, oldest_waiting: Some(at(-9 * DAY_MS)), ..MailboxNumbers::default() };
    let facts = Facts { gateway_mailboxes: vec![mailbox(1, numbers)], ..healthy() };
    let mut alarms = Alarms::new(Limits { fetch_silence_ms: None, ..limits() }, Vec::new());
    assert_eq!(alarms.step(&facts, at(0)), []);
}

#[test]
fn the_first_quarantined_message_is_told_of_and_a_quiet_day_ends_it() {
    let facts = |minute: i64| {
        // One at 10, two more later, and none for a day after 100.
        let quarantined = match minute {
            0..10 => 0,
            10..50 => 1,
            50..1450 => 3,
            1450..1540 => 2,
            _ => 0,
        };
        let numbers = MailboxNumbers { received: 50, quarantined, ..MailboxNumbers::default() };
        Facts { gateway_mailboxes: vec![mailbox(1, numbers)], ..healthy() }
    };
    check(&[(10, "quarantine-growing raised warning"), (1540, "quarantine-growing cleared")], 2000, facts);
}

#[test]
fn mail_for_nobody_is_told_of_when_it_is_much() {
    let facts = |of: fn(i64) -> (u64, u64)| {
        move |minute: i64| {
            let (unassigned, received) = of(minute);
            let numbers =
                MailboxNumbers { received, unassigned: Some(unassigned), ..MailboxNumbers::default() };
            Facts { gateway_mailboxes: vec![mailbox(1, numbers)], ..healthy() }
        }
    };
    let told = [(10, "unassigned-growing raised warning"), (30, "unassigned-growing cleared")];
    check(
        &told,
        50,
        facts(|m| {
            if m < 10 {
                (5, 100)
            } else if m < 20 {
                (30, 100)
            } else if m < 30 {
                (15, 100)
            } else {
                (9, 100)
            }
        }),
    );
    check(&[], 50, facts(|_| (19, 19)));
    check(&[], 50, facts(|_| (200, 1000)));
}

#[test]
fn a_gateway_mailbox_that_is_not_watched_any_more_has_no_alarms() {
    let facts = |minute: i64| {
        let numbers = MailboxNumbers { quarantined: 1, ..MailboxNumbers::default() };
        let gateway_mailboxes = match minute {
            0..5 => vec![mailbox(1, numbers)],
            // Its numbers cannot be read for a while.
            5..10 => vec![MailboxFacts { numbers: None, ..mailbox(1, numbers) }],
            _ => Vec::new(),
        };
        Facts { gateway_mailboxes, ..healthy() }
    };
    check(&[(0, "quarantine-growing raised warning"), (10, "quarantine-growing cleared")], 20, facts);
}

#[test]
fn an_alarm_that_lasts_is_told_again_as_often_as_asked() {
    let facts = |_| Facts { certificate: certificate(6 * DAY_MS), ..healthy() };
    let mut alarms = Alarms::new(Limits { remind_ms: Some(10 * HOUR_MS), ..limits() }, Vec::new());
    let told = course(&mut alarms, 0..1300, facts);
    let expect = [
        (0, "certificate-expiring raised critical".to_owned()),
        (600, "certificate-expiring lasts".to_owned()),
        (1200, "certificate-expiring lasts".to_owned()),
    ];
    assert_eq!(told, expect);
}

#[test]
fn a_restart_neither_repeats_nor_forgets() {
    let rhythm = steady();
    let facts = |last: i64| Facts {
        certificate: certificate(6 * DAY_MS),
        watching_since: at(0),
        gateway_mailboxes: vec![silent(last, &rhythm)],
        ..healthy()
    };
    let mut before = Alarms::new(limits(), Vec::new());
    assert_eq!(course(&mut before, 0..100, |_| facts(0)).len(), 2);
    let saved = serde_json::to_string(before.raised()).unwrap();
    assert!(saved.contains(r#""alarm":"no-report""#), "{saved}");
    let mut after = Alarms::new(limits(), serde_json::from_str(&saved).unwrap());
    let restarted = |last| Facts { watching_since: at(100 * MINUTE_MS), ..facts(last) };
    assert_eq!(course(&mut after, 100..200, |_| restarted(0)), []);
    let told =
        course(&mut after, 200..201, |_| Facts { certificate: certificate(90 * DAY_MS), ..restarted(199) });
    assert_eq!(
        told,
        [(200, "certificate-expiring cleared".to_owned()), (200, "no-report cleared".to_owned())]
    );
}

#[test]
fn a_quiet_healthy_day_raises_nothing_and_every_alarm_has_its_name() {
    let rhythm = steady();
    let facts = |minute: i64| {
        let numbers = MailboxNumbers {
            counted_at: None,
            last_received: Some(at((minute - minute % 9) * MINUTE_MS)),
            rhythm: Some(Arc::clone(&rhythm)),
            last_visit: Some(at((minute - minute % 15) * MINUTE_MS)),
            waiting: 12,
            oldest_waiting: Some(at((minute - 14) * MINUTE_MS)),
            received: 288,
            quarantined: 0,
            unassigned: Some(8),
            missing: Some(MissingFacts::default()),
        };
        Facts { gateway_mailboxes: vec![mailbox(1, numbers.clone()), mailbox(2, numbers)], ..healthy() }
    };
    check(&[], 24 * 60, facts);
    let causes = [
        Cause::StoreNotAcknowledging { why: String::new() },
        Cause::DiskLow { free_octets: 0, reserve_octets: 0, daily_octets: 0, refuses: false },
        Cause::LogEndMissing { what: String::new() },
        Cause::CheckpointsNotKept { why: String::new() },
        Cause::StoreDamaged { damaged: 1, places: Vec::new() },
        Cause::RetentionPaused { trusted: at(0), clock: at(1), restored: false },
        Cause::RetentionFailed { why: String::new() },
        Cause::DirectoryPlanWaiting { plans: Vec::new() },
        Cause::DirectoryFailing { sources: Vec::new() },
        Cause::PullerFailing { pullers: Vec::new() },
        Cause::CertificateExpiring { ends: at(0), within_days: 28 },
        Cause::CertificateNotLoaded { why: String::new() },
        Cause::CredentialExpiring { credentials: Vec::new() },
        Cause::MailRefused { in_a_day: 0, forbidden: 0, retired: 0, last: at(0) },
        Cause::NoReport { last_received: at(0), usual_silence_ms: 0 },
        Cause::NobodyFetched { waiting: 0, oldest_waiting: None, last_visit: None },
        Cause::ReportMissing { missing: 0, original_held: 0 },
        Cause::QuarantineGrowing { in_a_day: 0 },
        Cause::UnassignedGrowing { in_a_day: 0, received: 0 },
    ];
    let names: Vec<&str> = causes.iter().map(Cause::name).collect();
    assert_eq!(names, ALARMS);
    for cause in causes {
        let written = serde_json::to_value(&cause).unwrap();
        assert_eq!(written["alarm"], cause.name());
    }
}

#[test]
fn mail_refused_for_good_calls_once_and_is_over_a_day_after_the_last_also_over_a_restart() {
    let refused = |messages, last: i64| RefusedFacts {
        messages,
        last: Some(at(last * MINUTE_MS)),
        ..RefusedFacts::default()
    };
    let day = DAY_MS / MINUTE_MS;
    check(&[(10, "mail-refused raised critical"), (40 + day, "mail-refused cleared")], 60 + day, |minute| {
        let refused_mail = match minute {
            ..10 => RefusedFacts::default(),
            10..40 => refused(1, 10),
            40..80 => refused(2, 40),
            // The process started anew, and remembers nothing.
            _ => RefusedFacts::default(),
        };
        Facts { refused_mail, ..healthy() }
    });
    let mut alarms = Alarms::new(limits(), Vec::new());
    alarms.step(&Facts { refused_mail: refused(3, 1), ..healthy() }, at(MINUTE_MS));
    alarms.step(&Facts { refused_mail: refused(1, 5), ..healthy() }, at(6 * MINUTE_MS));
    let cause = Cause::MailRefused { in_a_day: 3, forbidden: 0, retired: 0, last: at(5 * MINUTE_MS) };
    assert_eq!(alarms.raised()[0].cause, cause);
}

#[test]
fn recipients_refused_for_good_are_told_too_and_become_critical_with_the_first_message() {
    let refused = |messages, forbidden, retired| RefusedFacts {
        messages,
        forbidden,
        retired,
        last: Some(at(10 * MINUTE_MS)),
    };
    let changes = [(10, "mail-refused raised warning"), (30, "mail-refused raised critical")];
    check(&changes, 60, |minute| {
        let refused_mail = match minute {
            ..10 => RefusedFacts::default(),
            10..20 => refused(0, 2, 0),
            20..30 => refused(0, 2, 1),
            _ => refused(1, 0, 0),
        };
        Facts { refused_mail, ..healthy() }
    });
    let mut alarms = Alarms::new(limits(), Vec::new());
    for facts in [refused(0, 2, 0), refused(0, 1, 4), refused(1, 0, 0)] {
        alarms.step(&Facts { refused_mail: facts, ..healthy() }, at(11 * MINUTE_MS));
    }
    let cause = Cause::MailRefused { in_a_day: 7, forbidden: 2, retired: 4, last: at(10 * MINUTE_MS) };
    assert_eq!(alarms.raised()[0].cause, cause);
}

#[test]
fn a_report_that_did_not_come_back_is_critical_until_it_turns_up() {
    let known = |missing, original_held| {
        let oldest = Some(at(-30 * DAY_MS));
        Some(MissingFacts { missing, original_held, oldest })
    };
    let facts = |minute: i64| {
        let missing = match minute {
            0..5 => None,
            5..10 => known(0, 1),
            10..15 => known(1, 1),
            // What cannot be told changes nothing; what is better does not calm.
            15..20 => None,
            20..25 => known(0, 1),
            _ => Some(MissingFacts::default()),
        };
        let numbers = MailboxNumbers { missing, ..MailboxNumbers::default() };
        Facts { gateway_mailboxes: vec![mailbox(1, numbers)], ..healthy() }
    };
    let expect = [
        (5, "report-missing raised warning"),
        (10, "report-missing raised critical"),
        (25, "report-missing cleared"),
    ];
    check(&expect, 30, facts);
}

#[test]
fn a_credential_is_told_of_at_each_stage_and_no_more_when_another_is_used() {
    let day = 24 * 60;
    let facts = |minute: i64| {
        let one = |name: &str, ends: Option<Timestamp>| CredentialFacts { name: name.to_owned(), ends };
        // Graph cannot be asked for a while; another credential comes; in the end a new one is used.
        let ends = at(if minute >= 63 * day { 400 * DAY_MS } else { 61 * DAY_MS });
        let is_known = !(5 * day..6 * day).contains(&minute);
        let mut credentials = vec![one("entra", is_known.then_some(ends)), one("unknown", None)];
        if (40 * day..50 * day).contains(&minute) {
            credentials.push(one("ndr", Some(at(70 * DAY_MS))));
        }
        Facts { credentials, certificate: certificate(400 * DAY_MS), ..healthy() }
    };
    let mut alarms = Alarms::new(limits(), Vec::new());
    let told = course(&mut alarms, 0..65 * day, facts);
    let told: Vec<_> = told.iter().map(|(minute, what)| (minute / day, what.as_str())).collect();
    let raised = "credential-expiring raised warning";
    let days = [1, 33, 40, 42, 47, 54, 60, 61];
    let mut expect: Vec<_> = days.into_iter().map(|day| (day, raised)).collect();
    expect.push((63, "credential-expiring cleared"));
    assert_eq!(told, expect);
}
