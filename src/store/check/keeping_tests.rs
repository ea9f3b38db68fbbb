//! Stores whose log tells of deletions, holds and freed content, rightly and wrongly.

use super::written::*;
use super::*;
use crate::store::format::GroupBuilder;
use crate::store::{Digest, Store};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Two receipts in INBOX and in Bob's folder each; the first is deleted from both.
fn two() -> Vec<Entries> {
    vec![
        received(1, None, &days(0), &[(INBOX, 1), (BOB, 1)]),
        received(2, None, &days(0), &[(INBOX, 2), (BOB, 2)]),
        deleted(&days(1), INBOX, 1),
        deleted(&days(1), BOB, 1),
    ]
}

#[test]
fn freed_content_is_no_damage_whatever_is_left_of_it() {
    let mut groups = two();
    groups.push(freed(&days(8), INBOX, 1, json!([])));
    groups.push(freed(&days(8), BOB, 1, json!([[1, 2]])));
    let mut written = Written::of(&groups);
    written.indexed();
    let report = written.verify(true);
    assert_eq!(written.damage(true), []);
    assert_eq!((report.freed.objects, report.freed.waiting_objects, report.in_grace), (2, Some(2), 0));
    assert_eq!(report.freed.waiting_octets, Some(report.freed.octets));
    written.blank(1);
    written.overwrite(2, &[0; 9]);
    let report = written.verify(true);
    assert_eq!(written.damage(true), []);
    assert_eq!((report.freed.objects, report.freed.waiting_objects), (2, Some(0)));
    assert_eq!(written.damage(false), []);
    assert_eq!(written.verify(false).freed.waiting_objects, None);
    // What was not freed is damage as ever, blank or not.
    for (object, with, what) in [
        (3, vec![0; payload(3).len()], "stored content reads as zeros"),
        (4, b"rotten".to_vec(), "hash of stored content does not match"),
    ] {
        written.overwrite(object, &with);
        let damage = written.damage(true);
        let found =
            damage.iter().find(|finding| finding.what == what).unwrap_or_else(|| panic!("{damage:#?}"));
        assert_eq!(found.receipts[0].to_string(), receipt_id(2));
        assert_eq!(found.entries.iter().map(|entry| entry.uid).collect::<Vec<_>>(), [2, 2], "{damage:#?}");
        assert_eq!(found.kind, FindingKind::Content);
        assert!(found.place.starts_with("log/"), "{found:#?}");
    }
    assert_eq!(written.damage(true).len(), 2);
}

#[test]
fn content_that_was_freed_although_it_is_needed_is_named_with_the_mail() {
    let in_grace = "entries that could be had back then needed it";
    let cases: Vec<(Vec<Entries>, &str, Vec<u32>)> = vec![
        // The second receipt is there.
        (vec![freed(&days(8), INBOX, 1, json!([[3, 3]]))], "entries that are there need it", vec![2, 2]),
        // The first can be had back from Bob's folder.
        (vec![freed(&days(8), INBOX, 1, json!([[1, 2]]))], in_grace, vec![1]),
        // It could then, and was freed later.
        (
            vec![freed(&days(8), INBOX, 1, json!([[1, 2]])), freed(&days(9), BOB, 1, json!([]))],
            in_grace,
            vec![1],
        ),
        // Shared: the third lies in what the first brought.
        (
            vec![
                received(3, Some(1), &days(1), &[(INBOX, 3)]),
                freed(&days(8), INBOX, 1, json!([])),
                freed(&days(8), BOB, 1, json!([[1, 2]])),
            ],
            "entries that are there need it",
            vec![3],
        ),
        // Brought back, and freed before.
        (
            vec![
                freed(&days(8), INBOX, 1, json!([])),
                freed(&days(8), BOB, 1, json!([[1, 2]])),
                undeleted(&days(9), BOB, 1, 3, 1),
            ],
            "entries that were brought back need it",
            vec![3],
        ),
        (vec![freed(&days(8), INBOX, 2, json!([]))], "frees entries that are there", vec![2]),
        // The fourth is a report of what the first brought: Bob's entry needs that alone, and the report stays with it.
        (
            vec![
                report(4, 1, &[(INBOX, 4), (BOB, 4)]),
                deleted(&days(1), INBOX, 4),
                freed(&days(8), INBOX, 4, json!([[7, 7]])),
            ],
            "entries that are there need it",
            vec![4],
        ),
        (
            vec![
                report(4, 1, &[(INBOX, 4), (BOB, 4)]),
                deleted(&days(1), INBOX, 4),
                deleted(&days(2), BOB, 4),
                freed(&days(8), INBOX, 4, json!([[7, 7]])),
                brought_back(&days(8), BOB, (4, 5), (4, 1)),
            ],
            "entries that were brought back need it",
            vec![5],
        ),
    ];
    for (further, what, uids) in cases {
        let written = Written::of(&[two(), further].concat());
        for deep in [false, true] {
            let damage = written.damage(deep);
            let of_freed: Vec<_> = damage.iter().filter(|found| found.what.ends_with(what)).collect();
            let [found] = &of_freed[..] else { panic!("{what}: {damage:#?}") };
            assert_eq!(found.kind, FindingKind::Freed);
            assert_eq!(found.entries.iter().map(|entry| entry.uid).collect::<Vec<_>>(), uids, "{damage:#?}");
        }
    }
}

#[test]
fn what_was_freed_or_taken_out_before_its_time_or_under_a_hold_is_named() {
    let hold = |user: Option<&str>| {
        let mut hold = json!({"at": days(2), "actor": "cli", "reason": "case 7"});
        user.into_iter().for_each(|user| hold["user"] = json!(user));
        vec![(gateway_mailbox(json!({"holds": [hold]})), Vec::new())]
    };
    let keeping = |keeping: Value| vec![(gateway_mailbox(json!({"keeping": keeping})), Vec::new())];
    let held = json!({"at": days(2), "actor": "cli", "reason": "case 8"});
    let gone = json!({"state": "deleted", "deleted_at": days(3)});
    let gone = vec![(gateway_mailbox(gone), Vec::new())];
    // What waited is no older in its new folder than it is there.
    let waited = |until: i64| {
        let rule = gateway_mailbox(json!({"keeping": {"grace_days": 7, "user_days": 30}}));
        vec![
            vec![(rule, Vec::new())],
            received(3, None, &days(0), &[(UNASSIGNED, 3)]),
            released(&days(40), 3, (UNASSIGNED, 3), (BOB, 3)),
            expired(&at(until), BOB, 3),
        ]
    };
    // A report and what it reports go together.
    let together = vec![
        report(4, 1, &[(INBOX, 4), (BOB, 4)]),
        deleted(&days(1), INBOX, 4),
        deleted(&days(1), BOB, 4),
        freed(&days(8), INBOX, 4, json!([])),
        freed(&days(8), BOB, 4, json!([[7, 8]])),
    ];
    let early = "what was deleted less than 7 days before";
    let not_due = "what was received less than 30 days before";
    let cases: Vec<(Vec<Entries>, Option<&str>)> = vec![
        (vec![freed(&days(8), BOB, 1, json!([]))], None),
        (vec![freed(&at(8 * DAY_MS - 1), BOB, 1, json!([]))], Some(early)),
        (vec![keeping(json!({"grace_days": 0})), freed(&days(1), BOB, 1, json!([]))], None),
        (vec![hold(None), freed(&days(8), BOB, 1, json!([]))], Some("under a legal hold")),
        (vec![hold(Some("bob")), freed(&days(8), BOB, 1, json!([]))], Some("under a legal hold")),
        (vec![hold(Some("bob")), freed(&days(8), INBOX, 1, json!([]))], None),
        (
            vec![hold(Some("bob")), keeping(json!({"grace_days": 7})), freed(&days(8), BOB, 1, json!([]))],
            None,
        ),
        (vec![expired(&days(30), BOB, 2)], Some("no rule let it take")),
        (vec![keeping(json!({"grace_days": 7, "user_days": 30})), expired(&days(30), BOB, 2)], None),
        (
            vec![keeping(json!({"grace_days": 7, "user_days": 30})), expired(&at(30 * DAY_MS - 1), BOB, 2)],
            Some(not_due),
        ),
        (
            vec![keeping(json!({"grace_days": 7, "user_days": 30})), expired(&days(30), INBOX, 2)],
            Some("no rule let it take"),
        ),
        (waited(70 * DAY_MS), None),
        (waited(70 * DAY_MS - 1), Some(not_due)),
        (together, None),
        (vec![gone.clone(), expired(&days(10), INBOX, 2)], None),
        (vec![gone, expired(&at(10 * DAY_MS - 1), INBOX, 2)], Some("no rule let it take")),
        (
            vec![
                vec![(
                    gateway_mailbox(json!({"holds": [held], "keeping": {"grace_days": 7, "inbox_days": 1}})),
                    vec![],
                )],
                expired(&days(30), INBOX, 2),
            ],
            Some("was under a legal hold"),
        ),
        (vec![undeleted(&days(2), BOB, 1, 3, 1), deleted(&days(3), BOB, 3)], None),
        (vec![undeleted(&days(2), BOB, 2, 3, 2)], Some("what was never deleted is brought back")),
        (
            vec![undeleted(&days(2), BOB, 1, 3, 1), undeleted(&days(2), BOB, 1, 4, 1)],
            Some("what could be had back no more is brought back"),
        ),
    ];
    for (further, what) in cases {
        let written = Written::of(&[two(), further.clone()].concat());
        let damage = written.damage(false);
        let kept = damage.iter().filter(|found| found.kind != FindingKind::Index);
        match (&kept.collect::<Vec<_>>()[..], what) {
            ([], None) => {}
            ([.., found], Some(what)) => assert!(found.what.contains(what), "{what}: {damage:#?}"),
            (_, what) => panic!("{what:?}, {further:#?}: {damage:#?}"),
        }
    }
}

#[test]
fn rows_of_what_can_be_had_back_and_of_uses_are_compared() {
    let mut groups = two();
    groups.push(vec![(gateway_mailbox(json!({"keeping": {"grace_days": 7, "user_days": 30}})), Vec::new())]);
    groups.push(received(3, Some(1), &days(1), &[(UNASSIGNED, 1)]));
    groups.push(undeleted(&days(2), BOB, 1, 3, 1));
    groups.push(freed(&days(8), INBOX, 1, json!([])));
    groups.push(received(4, None, &days(1), &[(UNASSIGNED, 2)]));
    // What left is elsewhere: it can be had back by nobody.
    groups.push(released(&days(2), 4, (UNASSIGNED, 2), (UNASSIGNED, 4)));
    groups.push(expired(&days(31), BOB, 2));
    groups.push(report(5, 2, &[(INBOX, 5), (BOB, 5)]));
    groups.push(deleted(&days(31), INBOX, 5));
    groups.push(deleted(&days(31), BOB, 3));
    groups.push(deleted(&days(31), UNASSIGNED, 1));
    groups.push(freed(&days(60), BOB, 3, json!([[2, 2]])));
    let hold = json!({"holds": [{"user": "bob", "at": days(61), "actor": "cli", "reason": "case 7"}]});
    groups.push(vec![(gateway_mailbox(hold), Vec::new())]);
    let mut written = Written::of(&groups);
    written.indexed();
    assert_eq!((written.damage(true), written.damage(false)), (vec![], vec![]));
    let report = written.verify(true);
    assert!(report.index_compared);
    assert_eq!((report.in_grace, report.held, report.freed.objects, report.folder_entries), (3, 2, 1, 3));
    let index = written.dir.path().join("index.sqlite");
    let whole = fs::read(&index).unwrap();
    for (change, expect) in [
        ("DELETE FROM object_use WHERE object = 1 AND message = 3", "use of an object by a message 1"),
        ("DELETE FROM object_use WHERE object = 3", "an object that message 2 lies in is not said"),
        ("INSERT INTO object_use VALUES (1, 2)", "use of an object by a message 1"),
        ("DELETE FROM in_grace WHERE folder = 2", "deleted entry in grace 2:2 is not in the index"),
        ("UPDATE in_grace SET deleted_at = 7", "UID 2 of folder 2 can be had back, and was not deleted then"),
        ("INSERT INTO in_grace SELECT folder, deleted_at, uid FROM placement WHERE uid = 3", "in grace 2:3"),
        ("DELETE FROM freed", "freed object 2 is not in the index"),
        ("INSERT INTO unpunched VALUES (1)", "object 1 waits for its room to be given back"),
        ("INSERT INTO freed VALUES (3, 7)", "object 3 was freed, and entries that are there need it"),
        ("INSERT INTO freed VALUES (1, 7)", "object 1 was freed, and entries that can be had back need it"),
        (
            "INSERT INTO freed VALUES (9, 7)",
            "object 9 was freed, and entries that came by the report in it need it",
        ),
        ("UPDATE kept_from SET at = at - 1", "later begin of keeping of receipt 01a1fdec"),
        ("DELETE FROM keeping_event WHERE kind = 'expired'", "keeping event 2:2 is not in the index"),
    ] {
        let connection = rusqlite::Connection::open(&index).unwrap();
        assert_ne!(connection.execute(change, []).unwrap(), 0, "{change}");
        drop(connection);
        let damage = written.damage(true);
        assert!(damage.iter().any(|found| found.what.contains(expect)), "{change}: {damage:#?}");
        assert!(damage.iter().all(|found| found.kind == FindingKind::Index), "{change}: {damage:#?}");
        fs::write(&index, &whole).unwrap();
    }
}

#[test]
fn what_the_original_signed_behind_a_backup_is_explained_by_the_entry_that_restored_it() {
    let mut written = Written::new();
    let backup = written.append(&received(1, None, &days(0), &[(INBOX, 1)]));
    for receipt in 2..5 {
        written.append(&received(receipt, None, &days(0), &[(INBOX, receipt as u32)]));
    }
    written.indexed();
    // The log as the backup has it: all of it lies in the last segment that has groups.
    let holds = |path: &PathBuf| memchr::memmem::find(&fs::read(path).unwrap(), &payload(1)).is_some();
    let path = written.segments().into_iter().filter(holds).max().unwrap();
    let all = fs::read(&path).unwrap();
    let behind = memchr::memmem::find(&all, &payload(7)).unwrap();
    let starts: Vec<usize> = memchr::memmem::find_iter(&all[..behind], b"DBG1").collect();
    let groups_behind = 3;
    let end = starts[starts.len() - groups_behind];
    let cut = &all[..end];
    for name in ["log/clean", "index.sqlite"] {
        fs::remove_file(written.dir.path().join(name)).ok();
    }
    let restored = |sequence: u64| {
        json!({"v": 5, "fact": "restored", "at": days(3), "actor": "cli", "backup_at": days(1), "sequence": sequence,
            "chain": backup.chain, "uids_skipped": 1 << 20, "epoch": 2})
    };
    let group = |chain: Digest, entry: &Value, sequence: u64| {
        let mut group = GroupBuilder::new(chain, Vec::new());
        group.push(entry.to_string().as_bytes(), &[], &Digest::of(&[])).unwrap();
        group.finish(sequence)
    };
    let step = 1u64 << 40;
    let placed = |uid: u32| received(9, Some(1), &days(3), &[(INBOX, uid)]).pop().unwrap().0;
    let (later, too_low) = (placed(2 + (1 << 20)), placed(2));
    let after = |entry: Value| {
        // Its summary would be an object of its own.
        serde_json::from_str::<Value>(&entry.to_string().replace("[18,0]", "[2,0]")).unwrap()
    };
    let sequence = backup.sequence;
    // The numbers of the entry's group, and of the one behind it.
    for (first, second, entry, expect) in [
        (sequence + step, sequence + step + 1, &later, None),
        (sequence + 1, sequence + step, &later, None),
        (sequence + step, sequence + step + 1, &too_low, Some("does not rise")),
        (sequence + step, sequence + step + 7, &later, Some("6 groups of entries are missing")),
    ] {
        let (octets, chain) = group(backup.chain, &restored(sequence), first);
        let (further, _) = group(chain, &after(entry.clone()), second);
        fs::write(&path, [cut, &octets, &further].concat()).unwrap();
        let report = written.verify(true);
        let damage: Vec<_> =
            written.damage(true).into_iter().filter(|d| d.kind != FindingKind::Index).collect();
        match expect {
            None => assert_eq!(damage, []),
            Some(expect) => assert!(damage.iter().any(|d| d.what.contains(expect)), "{damage:#?}"),
        }
        let notes: Vec<_> = report.findings.iter().filter(|f| f.what.starts_with("restored at")).collect();
        let [note] = &notes[..] else { panic!("{report:#?}") };
        assert!(note.what.contains("3 groups of entries signed after it are not here"), "{note:?}");
        assert!(!note.damage && report.restores == 1);
    }
    // Nothing explains a step, or what is missing, but that entry.
    let (octets, chain) = group(backup.chain, &restored(sequence - 1), sequence + step);
    let (further, _) = group(chain, &after(later.clone()), sequence + step + 1);
    fs::write(&path, [cut, &octets, &further].concat()).unwrap();
    let damage = written.damage(true);
    assert!(
        damage.iter().any(|found| found.what.contains("no entry says that the store was restored")),
        "{damage:#?}"
    );
    fs::write(&path, cut).unwrap();
    let damage = written.damage(true);
    assert!(damage.iter().any(|found| found.what.starts_with("the log ends 3 groups")), "{damage:#?}");
}

#[test]
fn a_key_file_that_is_on_record_under_its_next_name_is_no_damage() {
    let mut written = Written::new();
    let file = |name: &str, text: &[u8]| {
        let entry = json!({"v": 4, "fact": "key-file", "at": days(0), "gateway_mailbox": OF, "name": name,
            "octets": text.len(), "sha256": Digest::of(text)});
        vec![(entry, Vec::new())]
    };
    written.append(&file("password.age", b"old"));
    written.append(&file("password.age", b"new"));
    written.append(&file("former-1-password.age", b"old"));
    written.indexed();
    let keys = written.dir.path().join("keys").join(OF);
    fs::create_dir_all(&keys).unwrap();
    let write = |name: &str, text: &[u8]| fs::write(keys.join(name), text).unwrap();
    let told = || {
        let found = written.verify(false).findings.into_iter().filter(|found| found.kind == FindingKind::Key);
        found.map(|f| (f.damage, f.place.rsplit('/').next().unwrap().to_owned(), f.what)).collect::<Vec<_>>()
    };
    write("former-1-password.age", b"old");
    write("password.age", b"old");
    let [(true, place, _)] = &told()[..] else { panic!("{:?}", told()) };
    assert_eq!(place, "password.age");
    write("password.age.next", b"new");
    let [(false, place, what)] = &told()[..] else { panic!("{:?}", told()) };
    assert!(place == "password.age.next" && what.starts_with("is on record"), "{what}");
    write("password.age", b"new");
    write("password.age.next", b"newer");
    let [(false, _, what)] = &told()[..] else { panic!("{:?}", told()) };
    assert!(what.starts_with("was to replace"), "{what}");
    fs::remove_file(keys.join("password.age.next")).unwrap();
    assert_eq!(told(), []);
}

#[test]
fn content_that_is_gone_from_the_last_group_of_a_segment_breaks_no_chain() {
    let mut groups = two();
    groups.push(freed(&days(8), INBOX, 1, json!([])));
    let mut written = Written::of(&groups);
    written.append(&received(3, None, &days(0), &[(INBOX, 3)]));
    // As a segment that is full: the next group begins another.
    let (path, position) = (written.segments().remove(0), written.log.as_ref().unwrap().position());
    written.log = None;
    written.blank(5);
    written.blank(6);
    let number = position.segment + 1;
    let header = crate::store::format::SegmentHeader {
        number,
        chain: position.chain,
        previous: position.segment,
        previous_octets: position.offset,
    };
    let mut group = GroupBuilder::new(position.chain, Vec::new());
    let last = deleted(&days(9), INBOX, 3).pop().unwrap().0;
    group.push(last.to_string().as_bytes(), &[], &Digest::of(&[])).unwrap();
    let (octets, _) = group.finish(position.sequence + 1);
    let next = path.with_file_name(format!("{number:08}.seg"));
    fs::write(next, [header.encode(), octets].concat()).unwrap();
    let damage = written.damage(true);
    let of_log: Vec<_> = damage.iter().filter(|found| found.kind == FindingKind::Log).collect();
    assert!(of_log.is_empty(), "{damage:#?}");
    assert_eq!(damage.iter().filter(|found| found.kind == FindingKind::Content).count(), 2, "{damage:#?}");
}

#[test]
fn the_scrub_takes_freed_content_for_no_damage() {
    let mut groups = two();
    groups.push(freed(&days(8), INBOX, 1, json!([])));
    groups.push(freed(&days(8), BOB, 1, json!([[1, 2]])));
    let mut written = Written::of(&groups);
    written.indexed();
    let scrubbed = || {
        let store = open(written.dir.path());
        let before = store.scrub().last;
        store.set_scrub(1 << 30);
        store.scrub_now().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while store.scrub().last == before {
            assert!(Instant::now() < deadline, "not in time");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        store.scrub().damaged
    };
    written.blank(1);
    written.overwrite(2, &[0; 9]);
    assert_eq!(scrubbed(), 0);
    written.blank(3);
    assert_eq!(scrubbed(), 1);
}
