//! Syncs of users from a directory that says what a test wants: what comes in force, what waits for a person's word, what a failure
//! or a restart leaves.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/script.rs"]
mod script;

use daybook::config::{DirectorySource, Filters};
use daybook::directory::{
    Candidate, CandidateKind, Claim, Outcome, SourceError, SyncMode, SyncRefusal, Trigger,
};
use daybook::mail::Timestamp;
use daybook::observe::now;
use script::{Script, blocked, configured, in_force, listing, open, open_all, pending, people, person, sync};

#[test]
fn what_was_in_force_is_so_after_a_restart_before_the_directory_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::new();
    script.says(&people(0, 3));
    let directory = open(&script, Some(dir.path()));
    assert!(in_force(&directory).is_empty(), "it is not waited for");
    assert_eq!(sync(&directory).outcome, Outcome::Applied { snapshot: 1 });
    assert_eq!(sync(&directory).outcome, Outcome::Unchanged);
    drop(directory);
    script.answers(|| Err(SourceError::Unreachable("no route".to_owned())));
    let directory = open(&script, Some(dir.path()));
    assert_eq!(in_force(&directory), ["u000", "u001", "u002"]);
    let status = directory.sources().remove(0);
    assert!(status.snapshot == 1 && status.last_good.is_some() && status.error.is_none(), "{status:?}");
}

#[test]
fn whatever_goes_wrong_while_reading_leaves_what_was_in_force() {
    type Fault = fn() -> SourceError;
    let faults: [Fault; 7] = [
        || SourceError::Unreachable("no route".to_owned()),
        || SourceError::Incomplete("page 3 is missing".to_owned()),
        || SourceError::Refused { said: "no".to_owned(), advice: "ask the owner".to_owned() },
        || SourceError::TooLarge("more than a million".to_owned()),
        || SourceError::Unreadable(std::io::ErrorKind::NotFound.into()),
        || SourceError::Changing,
        || SourceError::Empty,
    ];
    let dir = tempfile::tempdir().unwrap();
    let script = Script::new();
    script.says(&people(0, 3));
    let directory = open(&script, Some(dir.path()));
    sync(&directory);
    for (failures, fault) in (1..).zip(faults) {
        script.answers(move || Err(fault()));
        let report = sync(&directory);
        let expect = fault();
        let told = report.outcome.fault().unwrap();
        assert_eq!((told.kind.as_str(), told.advice.as_deref()), (expect.kind(), expect.advice()));
        assert_eq!((in_force(&directory).len(), report.users), (3, 3));
        let status = directory.sources().remove(0);
        assert_eq!((status.failures, status.is_good, status.error.as_ref()), (failures, false, Some(told)));
        let restarted = open(&script, Some(dir.path()));
        assert_eq!(restarted.sources()[0].error.as_ref(), Some(told), "it is known after a restart, too");
        assert_eq!(in_force(&restarted).len(), 3);
    }
    script.says(&people(0, 3));
    sync(&directory);
    assert!(directory.sources()[0].error.is_none() && directory.sources()[0].failures == 0);
}

#[test]
fn a_program_that_ends_is_no_failure_of_the_source() {
    let script = Script::new();
    let directory = open(&script, None);
    let report = directory.sync("corp", SyncMode::Apply, Trigger::Schedule, &|| false).unwrap();
    assert_eq!(report.outcome.fault().unwrap().kind, "stopped");
    assert_eq!(directory.sources()[0].failures, 0);
}

#[test]
fn a_first_reading_without_users_is_an_error_and_not_a_list() {
    let script = Script::new();
    let mut guest = person("g", &["g@other.example"]);
    guest.kind = CandidateKind::Guest;
    script.says(&[guest]);
    let report = sync(&open(&script, None));
    assert_eq!(report.outcome.fault().unwrap().kind, "empty");
    assert_eq!(report.filtered[0].reason, "guest: include_guests = false");
}

#[test]
fn a_change_too_large_waits_for_a_persons_word_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::new();
    script.says(&people(0, 100));
    let directory = open(&script, Some(dir.path()));
    sync(&directory);
    script.says(&people(70, 100));
    let dry = directory.sync("corp", SyncMode::DryRun, Trigger::Admin, &|| true).unwrap();
    assert!(matches!(dry.outcome, Outcome::WouldBePending { .. }) && dry.users == 30);
    assert!(directory.plans().is_empty(), "a dry run leaves nothing behind");
    let report = sync(&directory);
    let plan = pending(&report);
    assert!(report.outcome.needs_approval() && report.diff.removed.count == 70);
    assert_eq!(in_force(&directory).len(), 100);
    let made_at = directory.plans()[0].made_at;
    assert_eq!(pending(&sync(&directory)), plan, "the same reading is the same plan");
    assert_eq!(directory.plans()[0].made_at, made_at);
    let status = directory.sources().remove(0);
    assert!(!status.is_good && status.failures == 0 && status.pending.is_some(), "{status:?}");

    let directory = open(&script, Some(dir.path()));
    assert_eq!(directory.plans()[0].plan, plan);
    assert_eq!(directory.apply_plan("corp-1-0").unwrap_err(), SyncRefusal::NoSuchPlan("corp-1-0".to_owned()));
    let applied = directory.apply_plan(&plan).unwrap();
    assert_eq!((applied.outcome, applied.diff.removed.count), (Outcome::Applied { snapshot: 2 }, 70));
    assert_eq!(in_force(&directory).len(), 30);
    assert_eq!(directory.sources()[0].gone, 70, "their addresses lead to them for the grace period");
    assert!(matches!(directory.apply_plan(&plan), Err(SyncRefusal::NoSuchPlan(_))));
    assert_eq!(sync(&directory).outcome, Outcome::Unchanged);
}

#[test]
fn a_plan_is_dropped_when_the_directory_mends_and_replaced_when_it_says_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::new();
    script.says(&people(0, 100));
    let directory = open(&script, Some(dir.path()));
    sync(&directory);
    script.says(&[]);
    let empty = pending(&sync(&directory));
    script.says(&people(50, 100));
    let half = pending(&sync(&directory));
    assert_ne!(empty, half);
    assert!(matches!(directory.apply_plan(&empty), Err(SyncRefusal::NoSuchPlan(_))));
    script.says(&people(0, 101));
    assert_eq!(sync(&directory).outcome, Outcome::Applied { snapshot: 2 });
    assert!(
        directory.plans().is_empty()
            && matches!(directory.apply_plan(&half), Err(SyncRefusal::NoSuchPlan(_)))
    );
    script.says(&people(50, 101));
    sync(&directory);
    script.says(&people(0, 101));
    assert_eq!(sync(&directory).outcome, Outcome::Unchanged);
    assert!(directory.plans().is_empty() && open(&script, Some(dir.path())).plans().is_empty());
}

#[test]
fn going_back_holds_what_the_directory_says_until_a_person_takes_it() {
    for kept in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let script = Script::new();
        let directory = open(&script, kept.then_some(dir.path()));
        for to in [2, 3, 4] {
            script.says(&people(0, to));
            sync(&directory);
        }
        assert!(matches!(directory.rollback("corp", Some(9)), Err(SyncRefusal::NoSuchSnapshot(_))));
        let report = directory.rollback("corp", None).unwrap();
        assert_eq!((report.outcome, report.diff.removed.count), (Outcome::Applied { snapshot: 4 }, 1));
        assert_eq!(in_force(&directory).len(), 3);
        assert_eq!(directory.rollback("corp", Some(1)).unwrap().outcome, Outcome::Applied { snapshot: 5 });
        let numbers: Vec<(u64, usize, bool)> =
            directory.snapshots("corp").unwrap().iter().map(|s| (s.number, s.users, s.in_force)).collect();
        assert_eq!(numbers, [(1, 2, false), (2, 3, false), (3, 4, false), (4, 3, false), (5, 2, true)]);

        let directory = if kept { open(&script, Some(dir.path())) } else { directory };
        assert!(directory.sources()[0].held);
        let plan = pending(&sync(&directory));
        assert_eq!(in_force(&directory).len(), 2, "what was gone back from does not come back by itself");
        directory.apply_plan(&plan).unwrap();
        assert_eq!(in_force(&directory).len(), 4);
        assert!(!directory.sources()[0].held);
        script.says(&people(0, 5));
        assert_eq!(sync(&directory).outcome, Outcome::Applied { snapshot: 7 });
    }
}

#[test]
fn going_back_twice_goes_back_two_lists_and_never_to_what_was_gone_back_from() {
    for kept in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let script = Script::new();
        let mut directory = open(&script, kept.then_some(dir.path()));
        for to in [2, 3, 4, 5] {
            script.says(&people(0, to));
            sync(&directory);
        }
        for (snapshot, users) in [(5, 4), (6, 3), (7, 2)] {
            let report = directory.rollback("corp", None).unwrap();
            assert_eq!((report.outcome, report.users), (Outcome::Applied { snapshot }, users));
            if kept {
                directory = open(&script, Some(dir.path()));
            }
        }
        let refused = directory.rollback("corp", None).unwrap_err();
        assert_eq!(refused, SyncRefusal::NoSuchSnapshot("before 1".to_owned()));
        directory.apply_plan(&pending(&sync(&directory))).unwrap();
        assert_eq!(directory.rollback("corp", None).unwrap().users, 2, "to 7, which is 1");
        assert!(matches!(directory.rollback("corp", None), Err(SyncRefusal::NoSuchSnapshot(_))));
    }
}

#[test]
fn while_a_source_is_read_nobody_waits_for_it() {
    let scripts = [Script::new(), Script::new()];
    scripts[0].says(&people(0, 2));
    scripts[1].says(&[person("o", &["o@y.example"])]);
    let sources = [configured("corp"), configured("other")];
    let directory = open_all(&sources, None, &scripts);
    sync(&directory);
    let (has_begun, go_on) = blocked(&scripts[0], || Ok(listing(&people(0, 3))));
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| sync(&directory));
        has_begun.recv().unwrap();
        let refused = directory.sync("corp", SyncMode::Apply, Trigger::Admin, &|| true);
        assert_eq!(refused.unwrap_err(), SyncRefusal::Busy("corp".to_owned()));
        assert!(matches!(directory.rollback("corp", None), Err(SyncRefusal::Busy(_))));
        let other = directory.sync("other", SyncMode::Apply, Trigger::Schedule, &|| true).unwrap();
        assert_eq!(other.outcome, Outcome::Applied { snapshot: 1 });
        assert_eq!(in_force(&directory).len(), 2);
        assert_eq!(directory.sources().len(), 2);
        assert!(!directory.due(now()).contains(&"corp".to_owned()), "it is being read already");
        assert_eq!(directory.find("u1@x.example", None).len(), 1);
        go_on.send(()).unwrap();
        assert_eq!(reading.join().unwrap().outcome, Outcome::Applied { snapshot: 2 });
    });
    assert_eq!(in_force(&directory).len(), 3);
}

#[test]
fn what_was_read_under_other_settings_is_not_applied() {
    let script = Script::new();
    script.says(&people(0, 2));
    let directory = open(&script, None);
    sync(&directory);
    let (has_begun, go_on) = blocked(&script, || Ok(listing(&people(0, 3))));
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| directory.sync("corp", SyncMode::Apply, Trigger::Schedule, &|| true));
        has_begun.recv().unwrap();
        let filters = Filters { enabled_only: true, ..Filters::default() };
        assert!(directory.reconfigure(&[DirectorySource { filters, ..configured("corp") }]).taken);
        go_on.send(()).unwrap();
        assert_eq!(reading.join().unwrap().unwrap_err(), SyncRefusal::Superseded("corp".to_owned()));
    });
    assert_eq!(in_force(&directory).len(), 2, "what was in force of it stays");
    assert_eq!(directory.due(now()), ["corp"], "and it is asked anew at once");
    assert!(directory.reconfigure(&[]).taken);
    assert!(in_force(&directory).is_empty());
    let unknown = directory.sync("corp", SyncMode::Apply, Trigger::Admin, &|| true);
    assert_eq!(unknown.unwrap_err(), SyncRefusal::NoSuchSource("corp".to_owned()));
}

#[test]
fn a_source_is_due_at_the_start_and_then_at_its_times() {
    let script = Script::new();
    script.says(&people(0, 2));
    let directory = open(&script, None);
    assert_eq!(directory.due(now()), ["corp"]);
    let at = sync(&directory).at;
    let minutes = |n: i64| Timestamp::from_unix_ms(at.unix_ms() + n * 60_000);
    assert!(directory.due(minutes(53)).is_empty());
    assert_eq!(directory.due(minutes(67)), ["corp"]);
    script.answers(|| Err(SourceError::Unreachable("no route".to_owned())));
    let at = sync(&directory).at;
    let minutes = |n: i64| Timestamp::from_unix_ms(at.unix_ms() + n * 60_000);
    assert!(directory.due(at).is_empty());
    assert_eq!(directory.due(minutes(2)), ["corp"], "a failure is tried again soon");
    script.answers(|| Err(SourceError::Refused { said: "password".to_owned(), advice: String::new() }));
    let at = sync(&directory).at;
    let minutes = |n: i64| Timestamp::from_unix_ms(at.unix_ms() + n * 60_000);
    assert!(directory.due(minutes(53)).is_empty(), "a password that is wrong is not tried again and again");
    let wait = std::time::Duration::from_secs(20 * 60);
    script.answers(move || Err(SourceError::Throttled { why: "busy".to_owned(), wait }));
    let at = sync(&directory).at;
    let minutes = |n: i64| Timestamp::from_unix_ms(at.unix_ms() + n * 60_000);
    assert!(directory.due(minutes(19)).is_empty(), "it said for how long it is not to be asked");
    assert_eq!(directory.due(minutes(21)), ["corp"]);
    let by_hand = DirectorySource { every_minutes: 0, ..configured("corp") };
    let directory = open_all(&[by_hand], None, std::slice::from_ref(&script));
    assert!(directory.due(minutes(1_000_000)).is_empty());
}

#[test]
fn another_place_under_the_same_name_is_measured_by_what_was_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::new();
    script.says(&people(0, 100));
    sync(&open(&script, Some(dir.path())));
    script.says(&people(500, 600));
    let mut elsewhere = configured("corp");
    if let daybook::config::DirectoryKind::Ldap(ldap) = &mut elsewhere.kind {
        ldap.base = "DC=elsewhere".to_owned();
    }
    let directory = open_all(&[elsewhere], Some(dir.path()), std::slice::from_ref(&script));
    assert_eq!(in_force(&directory).len(), 100);
    pending(&sync(&directory));
}

#[test]
fn a_damaged_list_is_told_of_and_the_one_before_it_is_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::new();
    let directory = open(&script, Some(dir.path()));
    for to in [2, 3] {
        script.says(&people(0, to));
        sync(&directory);
    }
    let newest = dir.path().join("directory/corp/2.jsonl");
    let whole = std::fs::read(&newest).unwrap();
    std::fs::write(&newest, &whole[..whole.len() / 2]).unwrap();
    let directory = open(&script, Some(dir.path()));
    assert_eq!(in_force(&directory).len(), 2);
    let faults = directory.sources().remove(0).state_faults;
    assert!(faults.len() == 1 && faults[0].contains("2.jsonl is damaged"), "{faults:?}");
    assert!(directory.sources()[0].held, "it may be the one that somebody went back from");
    let plan = pending(&sync(&directory));
    directory.apply_plan(&plan).unwrap();
    let status = directory.sources().remove(0);
    assert!(status.snapshot == 3 && status.state_faults.is_empty() && !status.held, "{status:?}");
}

#[test]
fn what_cannot_be_kept_does_not_come_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::new();
    script.says(&people(0, 2));
    let directory = open(&script, Some(dir.path()));
    sync(&directory);
    // A folder stands where the next list is to be written, as if the disk said no.
    let obstacle = dir.path().join("directory/corp/unfinished");
    std::fs::create_dir_all(obstacle.join("full")).unwrap();
    script.says(&people(0, 3));
    let report = sync(&directory);
    assert_eq!(report.outcome.fault().unwrap().kind, "storage");
    assert_eq!((in_force(&directory).len(), report.users), (2, 2));
    assert_eq!(directory.due(Timestamp::from_unix_ms(now().unix_ms() + 2 * 60_000)), ["corp"]);
    std::fs::remove_dir_all(obstacle).unwrap();
    assert_eq!(sync(&directory).outcome, Outcome::Applied { snapshot: 2 });
}

#[test]
fn an_address_can_be_asked_for_with_everything_known_of_it() {
    let scripts = [Script::new(), Script::new()];
    let sources = [configured("corp"), configured("other")];
    let directory = open_all(&sources, None, &scripts);
    let other = |says: &[Candidate]| {
        scripts[1].says(says);
        directory.sync("other", SyncMode::Apply, Trigger::Schedule, &|| true).unwrap()
    };
    scripts[0]
        .says(&[person("ann", &["ann@x.example", "info@x.example"]), person("bob", &["bob@x.example"])]);
    let first = sync(&directory).at;
    scripts[0].says(&[
        person("bob", &["bob@x.example", "info@x.example"]),
        person("ann", &["ann@x.example"]),
        person("kim", &["kim@x.example", "info@x.example"]),
    ]);
    let report = sync(&directory);
    assert_eq!(report.diff.addresses_moved.listed[0].to, "bob");
    assert_eq!((report.conflicts.len(), report.conflicts[0].refused_to.as_str()), (1, "kim"));
    let mut guest = person("g", &["g@y.example", "INFO@x.example"]);
    guest.kind = CandidateKind::Guest;
    let report = other(&[person("o", &["o@y.example", "info@x.example"]), guest]);
    assert_eq!(report.conflicts[0].kept_by, "bob", "the earlier source comes first");

    let before = Timestamp::from_unix_ms(first.unix_ms() - 1);
    let found = directory.find("Info@X.example", Some(before));
    let told: Vec<(&str, &str, bool)> =
        found.iter().map(|f| (f.source.as_str(), f.id.as_str(), f.then)).collect();
    assert_eq!(
        told,
        [
            ("corp", "bob", false),
            ("corp", "kim", false),
            ("corp", "ann", true),
            ("other", "o", false),
            ("other", "g", false)
        ]
    );
    let claims: Vec<&Claim> = found.iter().map(|f| &f.claim).collect();
    assert!(matches!(claims[0], Claim::Owner { since: Some(_) }));
    assert!(matches!(claims[1], Claim::Refused { kept_by } if kept_by == "bob"));
    assert!(matches!(claims[2], Claim::Former { from: None, gone: None, .. }));
    assert!(matches!(claims[3], Claim::Owner { since: None }));
    assert!(matches!(claims[4], Claim::FilteredOut { reason } if reason.contains("guest")));
    assert!(directory.find("nobody@x.example", None).is_empty());
}

#[test]
fn of_everything_known_of_an_address_what_mail_of_the_moment_follows_is_marked() {
    let scripts = [Script::new(), Script::new()];
    let directory = open_all(&[configured("corp"), configured("other")], None, &scripts);
    let other = |says: &[Candidate]| {
        scripts[1].says(says);
        directory.sync("other", SyncMode::Apply, Trigger::Schedule, &|| true).unwrap()
    };
    let marked = |address: &str, at: Option<Timestamp>| {
        let found = directory.find(address, at);
        let marked = found.iter().filter(|found| found.then);
        marked.map(|found| (found.source.clone(), found.id.clone())).collect::<Vec<_>>()
    };
    let is = |source: &str, id: &str| vec![(source.to_owned(), id.to_owned())];
    scripts[0].says(&[person("ann", &["ann@x.example", "info@x.example"]), person("7", &["7@x.example"])]);
    sync(&directory);
    // Gone, and still kept by her in the one source; the other has it for somebody.
    scripts[0].says(&[person("7", &["7@x.example"])]);
    sync(&directory);
    assert_eq!(marked("info@x.example", None), is("corp", "ann"), "in the grace period");
    other(&[person("bob", &["bob@y.example", "info@x.example"]), person("7", &["new@y.example"])]);
    assert_eq!(marked("Info@x.example", None), is("other", "bob"));
    assert_eq!(marked("ann@x.example", None), is("corp", "ann"));
    // The other source's user of that id is left out.
    assert_eq!(marked("new@y.example", None), []);
    assert_eq!(directory.find("new@y.example", None)[0].claim, Claim::LeftOut);
    // Who had it first later, when nobody did then.
    let long_ago = Timestamp::from_unix_ms(0);
    other(&[person("bob", &["bob@y.example", "info@x.example"]), person("kim", &["kim@y.example"])]);
    assert_eq!(marked("kim@y.example", Some(long_ago)), is("other", "kim"));
}
