//! What must not give users to the wrong gateway mailbox, nor take them away: lists that are damaged, sources that are called
//! otherwise than before, settings that change while a source is read, a disk that is full.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/script.rs"]
mod script;

use daybook::config::{DirectoryKind, DirectorySource, Filters};
use daybook::directory::{Alarm, Directory, Outcome, Source, SourceError, SyncMode, SyncRefusal, Trigger};
use script::{Script, blocked, configured, in_force, listing, open, pending, people, person, sync};
use std::path::Path;

/// Why the last plan waits.
fn why(directory: &Directory) -> Vec<&'static str> {
    directory.plans().iter().flat_map(|plan| plan.why.iter().map(Alarm::as_str)).collect()
}

#[test]
fn when_no_list_can_be_used_the_next_reading_is_no_first_one() {
    for spoilt in ["", "{\"v\":2,\"will\":\"be\"}\n"] {
        let dir = tempfile::tempdir().unwrap();
        let script = Script::new();
        script.says(&people(0, 100));
        sync(&open(&script, Some(dir.path())));
        std::fs::write(dir.path().join("directory/corp/1.jsonl"), spoilt).unwrap();
        script.says(&people(70, 100));
        let directory = open(&script, Some(dir.path()));
        let faults = directory.sources().remove(0).state_faults;
        assert!(faults.len() == 1 && faults[0].ends_with("no list is in force"), "{faults:?}");
        let dry = directory.sync("corp", SyncMode::DryRun, Trigger::Admin, &|| true).unwrap();
        assert!(dry.outcome.needs_approval());
        let plan = pending(&sync(&directory));
        assert_eq!((in_force(&directory).len(), why(&directory)), (0, vec!["lost"]));
        let directory = open(&script, Some(dir.path()));
        directory.apply_plan(&plan).unwrap();
        assert_eq!(in_force(&directory).len(), 30);
        script.says(&people(69, 100));
        assert_eq!(sync(&directory).outcome, Outcome::Applied { snapshot: 3 });
        assert!(open(&script, Some(dir.path())).sources()[0].state_faults.is_empty());
    }
}

#[test]
fn the_list_that_somebody_went_back_from_is_not_believed_again_when_the_other_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::new();
    let directory = open(&script, Some(dir.path()));
    for to in [2, 3] {
        script.says(&people(0, to));
        sync(&directory);
    }
    directory.rollback("corp", None).unwrap();
    std::fs::write(dir.path().join("directory/corp/3.jsonl"), "").unwrap();
    script.says(&people(0, 4));
    let directory = open(&script, Some(dir.path()));
    pending(&sync(&directory));
    assert_eq!((in_force(&directory).len(), why(&directory)), (3, vec!["held"]));
}

/// Its place is its own.
fn source(name: &str, base: &str) -> DirectorySource {
    let mut source = configured(name);
    if let DirectoryKind::Ldap(ldap) = &mut source.kind {
        ldap.base = base.to_owned();
    }
    source
}

/// Two bases, `a` and `b`, each with one user of the same name.
fn open_two(sources: &[DirectorySource], data_dir: &Path) -> Directory {
    let make = |source: &DirectorySource| {
        let script = Script::new();
        let id = if source.kind.place().ends_with("/a") { "a" } else { "b" };
        script.says(&[person(id, &[&format!("{id}@x.example")])]);
        Box::new(script) as Box<dyn Source>
    };
    Directory::open_with(sources, Some(data_dir), make).0
}

fn ask(directory: &Directory, source: &str) -> Outcome {
    directory.sync(source, SyncMode::Apply, Trigger::Schedule, &|| true).unwrap().outcome
}

/// Each source and its users in force.
fn all(directory: &Directory) -> Vec<String> {
    let of = |name: String| {
        let roll = directory.roll(&name);
        let ids: Vec<String> =
            roll.iter().flat_map(|roll| roll.users.iter().map(|user| user.id.clone())).collect();
        format!("{name}: {}", ids.join(" "))
    };
    directory.sources().into_iter().map(|status| of(status.name)).collect()
}

/// Sources by name and base, and who is in force of each then.
type Renamed<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);

#[test]
fn users_stay_with_what_they_were_read_from_however_it_is_called() {
    let cases: [Renamed<'_>; 6] = [
        (&[("ldap", "b")], &["ldap: b"]),
        (&[("ldap", "b"), ("ldap-2", "a")], &["ldap: b", "ldap-2: a"]),
        (&[("corp", "a"), ("ldap-2", "b")], &["corp: a", "ldap-2: b"]),
        (&[("corp", "a"), ("ldap", "b")], &["corp: a", "ldap: b"]),
        (&[("ldap", "c"), ("ldap-2", "b")], &["ldap: a", "ldap-2: b"]),
        (&[("ldap", "c"), ("ldap-2", "a"), ("ldap-3", "b")], &["ldap: ", "ldap-2: a", "ldap-3: b"]),
    ];
    for (to, expect) in cases {
        for restarts in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut directory = open_two(&[source("ldap", "a"), source("ldap-2", "b")], dir.path());
            ask(&directory, "ldap");
            ask(&directory, "ldap-2");
            let sources: Vec<_> = to.iter().map(|(name, base)| source(name, base)).collect();
            if restarts {
                directory = open_two(&sources, dir.path());
            } else {
                assert!(directory.reconfigure(&sources).taken);
            }
            assert_eq!(all(&directory), expect, "restarts: {restarts}");
            // What is kept from now on is found again, too.
            let told: Vec<Outcome> = to.iter().map(|(name, _)| ask(&directory, name)).collect();
            let before = all(&directory);
            assert_eq!(all(&open_two(&sources, dir.path())), before, "{told:?}");
        }
    }
}

#[test]
fn a_corrected_place_is_noted_so_that_another_source_does_not_get_its_users() {
    let dir = tempfile::tempdir().unwrap();
    let directory = open_two(&[source("one", "x")], dir.path());
    ask(&directory, "one");
    assert!(directory.reconfigure(&[source("one", "b")]).taken);
    assert_eq!(ask(&directory, "one"), Outcome::Applied { snapshot: 2 }, "the same users, of another place");
    assert_eq!(ask(&directory, "one"), Outcome::Unchanged);
    let directory = open_two(&[source("one", "b"), source("two", "x")], dir.path());
    assert_eq!(all(&directory), ["one: b", "two: "]);
}

#[test]
fn sources_that_divide_what_one_asked_are_refused_while_it_is_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let directory = open_two(&[source("ldap", "a")], dir.path());
    ask(&directory, "ldap");
    let report = directory.reconfigure(&[source("sales", "a"), source("support", "a")]);
    assert!(!report.taken && report.sources[0].error.as_ref().unwrap().kind == "ambiguous", "{report:?}");
    assert_eq!(all(&directory), ["ldap: a"]);
    assert!(directory.reconfigure(&[source("ldap", "a"), source("support", "a")]).taken, "one goes on");
    assert_eq!(all(&directory), ["ldap: a", "support: "]);
}

#[test]
fn what_was_read_under_other_settings_is_not_noted_under_those() {
    let says: [fn() -> Result<_, SourceError>; 3] = [
        || Ok(listing(&people(0, 1))),
        || Ok(listing(&people(0, 100))),
        || Err(SourceError::Unreachable("no route".to_owned())),
    ];
    for (case, says) in says.into_iter().enumerate() {
        let script = Script::new();
        script.says(&people(0, 100));
        let directory = open(&script, None);
        sync(&directory);
        let (has_begun, go_on) = blocked(&script, says);
        std::thread::scope(|scope| {
            let reading =
                scope.spawn(|| directory.sync("corp", SyncMode::Apply, Trigger::Schedule, &|| true));
            has_begun.recv().unwrap();
            let filters = Filters { enabled_only: true, ..Filters::default() };
            assert!(directory.reconfigure(&[DirectorySource { filters, ..configured("corp") }]).taken);
            let before = directory.sources();
            go_on.send(()).unwrap();
            let refused = reading.join().unwrap().unwrap_err();
            assert_eq!(refused, SyncRefusal::Superseded("corp".to_owned()), "case {case}");
            assert_eq!(directory.sources(), before, "case {case}");
        });
    }
}

#[test]
fn a_plan_that_cannot_be_kept_is_told_of_once_and_no_more_when_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::new();
    script.says(&people(0, 100));
    let directory = open(&script, Some(dir.path()));
    sync(&directory);
    // A folder stands where the plan is to be written, as if the disk said no.
    let obstacle = dir.path().join("directory/corp/unfinished");
    std::fs::create_dir_all(obstacle.join("full")).unwrap();
    let told = |from: usize| {
        script.says(&people(from, 100));
        let report = sync(&directory);
        pending(&report);
        (report.state_faults.len(), directory.sources()[0].state_faults.len())
    };
    assert_eq!([told(50), told(50), told(60), told(70)], [(1, 1), (0, 1), (1, 1), (1, 1)]);
    std::fs::remove_dir_all(obstacle).unwrap();
    assert_eq!(told(70), (0, 0));
    assert_eq!(open(&script, Some(dir.path())).plans().len(), 1, "it waits across a restart now");
}
