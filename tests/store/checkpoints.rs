//! Signed checkpoints: an end of the log that is missing is named, and nothing about them stops mail.

use super::*;
use aws_lc_rs::signature::Ed25519KeyPair;
use daybook::store::{PublicKey, VerifyOptions, VerifyReport, verify};
use serde_json::{Value, json};
use std::path::PathBuf;

fn open_with_outside(dir: &Path, outside: &Path) -> (Embedded, OpenReport) {
    let options = Options { data_dir: dir.to_owned(), reserve_octets: 0 };
    Embedded::open_witnessed(&options, Some(outside.to_owned())).unwrap()
}

fn try_open(dir: &Path) -> Result<(Embedded, OpenReport), StoreError> {
    Embedded::open(&Options { data_dir: dir.to_owned(), reserve_octets: 0 })
}

fn deliver_one(store: &Embedded, mailbox: &GatewayMailbox, n: u8) -> Delivered {
    deliver(store, delivery(store, mailbox, n, &[n; 1000], &n.to_string(), &n.to_string(), &[]))
}

fn lines(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(dir.join("checkpoints.jsonl")).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Puts an index in place as it was before, as a power cut takes back what it had not synced.
fn put_back(index: &[u8], dir: &Path) {
    fs::write(dir.join("index.sqlite"), index).unwrap();
    for end in ["wal", "shm"] {
        drop(fs::remove_file(dir.join(format!("index.sqlite-{end}"))));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() { copy(&path, &to) } else { assert!(fs::copy(&path, &to).is_ok()) }
    }
}

/// A closed store with three messages, what its index was after the first, and how long its segment was after the second.
struct Closed {
    dir: tempfile::TempDir,
    mailbox: Arc<GatewayMailbox>,
    index: Vec<u8>,
    two: u64,
}

impl Closed {
    fn new() -> Closed {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let (mailbox, _) = create(&store);
        deliver_one(&store, &mailbox, 1);
        close(store);
        let index = fs::read(dir.path().join("index.sqlite")).unwrap();
        let (store, _) = open(dir.path());
        deliver_one(&store, &mailbox, 2);
        let two = fs::metadata(only_segment(dir.path())).unwrap().len();
        deliver_one(&store, &mailbox, 3);
        close(store);
        Closed { dir, mailbox, index, two }
    }

    /// Cuts the log off there, with no clean mark.
    fn cut(&self, octets: u64) {
        fs::remove_file(self.dir.path().join("log/clean")).unwrap();
        let segment = fs::OpenOptions::new().write(true).open(only_segment(self.dir.path())).unwrap();
        segment.set_len(octets).unwrap();
    }

    fn assert_named_and_no_uid_used_twice(&self) {
        let (store, report) = open(self.dir.path());
        assert_eq!(report.torn, Vec::<String>::new());
        assert!(
            report.damage.iter().any(|what| what.contains("a signed checkpoint reaches to group")),
            "{report:?}"
        );
        assert!(store.checkpoints().lost.is_some());
        assert!(deliver_one(&store, &self.mailbox, 9).placements[0].1.value() > 4);
        assert_eq!(inbox(&store, &self.mailbox).entries.len(), 3, "what is left, and the new one");
        close(store);
        let (store, report) = open(self.dir.path());
        assert_eq!(
            (report, store.checkpoints().lost.is_some()),
            (OpenReport::default(), true),
            "mail goes on, and it is alarmed until somebody knows of it"
        );
        // What stands there and cannot be read is a loss of its own: one closing closes both.
        assert!(store.close_damage(&["log-end".to_owned()], "test").unwrap() >= 1);
        assert_eq!(store.checkpoints().lost, None);
        close(store);
        let (store, report) = open(self.dir.path());
        assert_eq!((report, store.checkpoints().lost), (OpenReport::default(), None));
        close(store);
        let newest = checkpoints(self.dir.path()).unwrap().newest().unwrap().clone();
        assert_eq!(
            newest.sequence,
            lines(self.dir.path()).len() as u64 + 2,
            "no number of what was lost is used again"
        );
    }
}

#[test]
fn a_bad_end_that_a_checkpoint_reaches_past_is_damage_and_is_not_cut_off() {
    let closed = Closed::new();
    closed.cut(closed.two + 300);
    put_back(&closed.index, closed.dir.path());
    closed.assert_named_and_no_uid_used_twice();
    // Without checkpoints nobody can tell it from what a crash tears.
    let closed = Closed::new();
    closed.cut(closed.two + 300);
    put_back(&closed.index, closed.dir.path());
    fs::remove_file(closed.dir.path().join("checkpoints.jsonl")).unwrap();
    let (_store, report) = open(closed.dir.path());
    assert_eq!((report.torn.len(), report.damage.len()), (1, 0), "{report:?}");
}

#[test]
fn whole_groups_missing_at_the_end_are_named_also_when_the_index_is_gone() {
    let closed = Closed::new();
    closed.cut(closed.two);
    put_back(&closed.index, closed.dir.path());
    assert!(!verified(closed.dir.path(), None, None).whole);
    closed.assert_named_and_no_uid_used_twice();
    // Somebody knows of it by now.
    let report = verified(closed.dir.path(), None, None);
    assert!(report.whole && report.index_compared, "{report:#?}");
    assert!(report.findings.iter().any(|found| found.what.contains("known to test")), "{report:#?}");
    let key = checkpoints(closed.dir.path()).unwrap().trusted[0].key;
    assert!(
        !verified(closed.dir.path(), None, Some(key)).whole,
        "who comes from elsewhere is told all the same"
    );
    let closed = Closed::new();
    closed.cut(closed.two);
    fs::remove_file(closed.dir.path().join("index.sqlite")).unwrap();
    closed.assert_named_and_no_uid_used_twice();
}

fn verified(dir: &Path, outside: Option<&Path>, key: Option<PublicKey>) -> VerifyReport {
    let options = VerifyOptions {
        data_dir: dir.to_owned(),
        deep: false,
        checkpoints: outside.map(Path::to_owned),
        checkpoint_dir: None,
        key,
    };
    verify(&options, &mut |_| {}).unwrap()
}

fn whats(report: &VerifyReport) -> Vec<&str> {
    report.findings.iter().filter(|found| found.damage).map(|found| found.what.as_str()).collect()
}

#[test]
fn a_key_that_was_swapped_shows_to_who_kept_checkpoints_or_the_key_elsewhere() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, _) = open_with_outside(dir.path(), outside.path());
    let (mailbox, _) = create(&store);
    deliver_one(&store, &mailbox, 1);
    close(store);
    let key = checkpoints(dir.path()).unwrap().trusted[0].key;
    // What a power cut left of a file that is written without a sync.
    fs::write(dir.path().join("watch.json"), "").unwrap();
    let report = verified(dir.path(), Some(outside.path()), Some(key));
    assert!(report.whole, "{report:#?}");
    for name in ["keys/checkpoint.key", "checkpoints.jsonl", "log/clean"] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    let (store, _) = open(dir.path());
    deliver_one(&store, &mailbox, 2);
    close(store);
    let report = verified(dir.path(), Some(outside.path()), None);
    let [what] = whats(&report)[..] else { panic!("{report:#?}") };
    assert!(what.contains("only of other keys") && what.contains(&key.to_string()), "{what}");
    let report = verified(dir.path(), None, Some(key));
    assert!(whats(&report).iter().any(|what| what.contains("does not come after")), "{report:#?}");
    // Also when the new key writes to the same folder: its lines look as those of a store that shares it.
    let (store, _) = open_with_outside(dir.path(), outside.path());
    deliver_one(&store, &mailbox, 3);
    close(store);
    assert!(verified(dir.path(), Some(outside.path()), None).whole);
    assert!(!verified(dir.path(), Some(outside.path()), Some(key)).whole);
}

#[test]
fn a_lost_key_that_the_next_one_names_is_no_damage_to_who_remembers_it() {
    let closed = Closed::new();
    let key = checkpoints(closed.dir.path()).unwrap().trusted[0].key;
    fs::remove_file(closed.dir.path().join("keys/checkpoint.key")).unwrap();
    let (store, _) = open(closed.dir.path());
    deliver_one(&store, &closed.mailbox, 4);
    close(store);
    let report = verified(closed.dir.path(), None, Some(key));
    assert!(report.whole, "{report:#?}");
    assert!(report.findings.iter().any(|found| found.what.contains("came after")), "{report:#?}");
}

#[test]
fn a_folder_that_is_set_later_is_held_against_the_log_before_it_is_written_to() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, _) = open_with_outside(dir.path(), outside.path());
    let (mailbox, _) = create(&store);
    deliver_one(&store, &mailbox, 1);
    close(store);
    let backup = tempfile::tempdir().unwrap();
    copy(dir.path(), backup.path());
    let (store, _) = open_with_outside(dir.path(), outside.path());
    deliver_one(&store, &mailbox, 2);
    deliver_one(&store, &mailbox, 3);
    close(store);
    // What was put back from the backup does not know of them.
    let (store, report) = open(backup.path());
    assert_eq!((report, store.checkpoints().lost), (OpenReport::default(), None));
    store.set_checkpoint_dir(Some(outside.path().to_owned()));
    deliver_one(&store, &mailbox, 4);
    close(store);
    let (store, _) = open(backup.path());
    let lost = store.checkpoints().lost.unwrap_or_default();
    assert!(lost.contains("a signed checkpoint reaches to group 4"), "{lost}");
    close(store);
    // The store that did sign them may be told of the folder again.
    let (store, _) = open(dir.path());
    store.set_checkpoint_dir(Some(outside.path().to_owned()));
    deliver_one(&store, &mailbox, 5);
    close(store);
    assert_eq!(open(dir.path()).0.checkpoints().lost, None);
}

#[test]
fn lines_missing_behind_an_orderly_close_are_named_and_what_was_cut_off_is_no_damage() {
    let closed = Closed::new();
    let dir = closed.dir.path();
    let signed = lines(dir);
    fs::write(dir.join("checkpoints.jsonl"), format!("{}\n", signed[0])).unwrap();
    let report = verified(dir, None, None);
    assert!(report.whole && report.findings.iter().any(|found| found.what.contains("the last are missing")));
    let cut = format!("{}\n{}\n{}\n", signed[0], signed[1].get(..80).unwrap(), signed[1]);
    fs::write(dir.join("checkpoints.jsonl"), cut).unwrap();
    let report = verified(dir, None, None);
    assert!(
        report.whole && report.findings.iter().any(|found| found.what.contains("cut off")),
        "{report:#?}"
    );
}

#[test]
fn a_missing_end_is_missed_again_when_the_index_is_made_anew_and_no_uid_is_used_twice() {
    for while_open in [true, false] {
        let closed = Closed::new();
        closed.cut(closed.two);
        let dir = closed.dir.path();
        put_back(&closed.index, dir);
        let (store, _) = open(dir);
        let (store, outcome) = if while_open {
            store.index_state(Some(IndexJob::Rebuild)).unwrap();
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
            while store.index_state(None).unwrap().doing.is_some() {
                assert!(std::time::Instant::now() < deadline, "not in time");
                std::thread::park_timeout(std::time::Duration::from_millis(5));
            }
            let outcome = store.index_state(None).unwrap().last.unwrap();
            (store, outcome)
        } else {
            close(store);
            let options = Options { data_dir: dir.to_owned(), reserve_octets: 0 };
            let outcome = rebuild_index(&options, Arc::default()).unwrap();
            (open(dir).0, outcome)
        };
        assert_eq!((&outcome.error, outcome.damaged), (&None, 2), "{outcome:?}");
        let told = |what: &str| outcome.findings.iter().any(|found| found.contains(what));
        assert!(told("entries are missing"), "{outcome:?}");
        // The index that was in use may be all that still tells of them.
        assert!(told("it stays as it is"), "{outcome:?}");
        assert!(!dir.join("index.sqlite.new").exists());
        assert!(deliver_one(&store, &closed.mailbox, 9).placements[0].1.value() > 4);
        close(store);
    }
}

#[test]
fn a_log_that_was_written_anew_is_not_what_was_signed() {
    let closed = Closed::new();
    // As long a log, with as many groups, of another store: but for the signature nothing is wrong with it.
    let other = Closed::new();
    for name in ["log", "content"] {
        fs::remove_dir_all(closed.dir.path().join(name)).unwrap();
        copy(&other.dir.path().join(name), &closed.dir.path().join(name));
    }
    fs::remove_file(closed.dir.path().join("index.sqlite")).unwrap();
    let report = verified(closed.dir.path(), None, None);
    let differing: Vec<_> = whats(&report).into_iter().filter(|what| what.contains("was signed: ")).collect();
    assert!(differing.len() == 1 && differing[0].ends_with("1 more checkpoints of this and later groups"));
    let (_store, report) = open(closed.dir.path());
    assert!(
        report.damage.iter().any(|what| what.contains("something else here than was signed")),
        "{report:?}"
    );
}

#[test]
fn a_data_dir_put_back_from_an_older_copy_is_told_by_the_folder_outside() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data = dir.path().join("data");
    let (store, _) = open_with_outside(&data, outside.path());
    let (mailbox, _) = create(&store);
    deliver_one(&store, &mailbox, 1);
    close(store);
    copy(&data, &dir.path().join("backup"));
    let (store, _) = open_with_outside(&data, outside.path());
    deliver_one(&store, &mailbox, 2);
    deliver_one(&store, &mailbox, 3);
    close(store);
    fs::remove_dir_all(&data).unwrap();
    fs::rename(dir.path().join("backup"), &data).unwrap();
    let (store, report) = open_with_outside(&data, outside.path());
    assert!(report.damage[0].contains("a signed checkpoint reaches to group 4"), "{report:?}");
    assert!(
        deliver_one(&store, &mailbox, 9).placements[0].1.value() > 4,
        "no UID of what was lost is used again"
    );
    close(store);
    let key = checkpoints(&data).unwrap().newest().unwrap().key;
    let pem = fs::read_to_string(outside.path().join(format!("{}.pub", key.file_stem()))).unwrap();
    assert_eq!(pem, key.pem());
    let (_store, report) = open_with_outside(&data, outside.path());
    assert_eq!(report, OpenReport::default());
}

#[test]
fn a_restart_continues_and_signs_nothing_twice() {
    let closed = Closed::new();
    let before = lines(closed.dir.path());
    assert_eq!(before.len(), 2, "one for each orderly close: {before:?}");
    let (store, report) = open(closed.dir.path());
    assert_eq!(report, OpenReport::default());
    close(store);
    assert_eq!(lines(closed.dir.path()), before);
    let all = checkpoints(closed.dir.path()).unwrap();
    assert_eq!(all.refused, []);
    assert_eq!(all.trusted.iter().map(|c| c.sequence).collect::<Vec<_>>(), [2, 4]);
    assert_eq!(all.trusted[1].offset, fs::metadata(only_segment(closed.dir.path())).unwrap().len());
    // What a crash cut off is no checkpoint, and does not spoil the next.
    let mut file =
        fs::OpenOptions::new().append(true).open(closed.dir.path().join("checkpoints.jsonl")).unwrap();
    file.write_all(&before[1].as_bytes()[..100]).unwrap();
    let (store, _) = open(closed.dir.path());
    deliver_one(&store, &closed.mailbox, 4);
    close(store);
    assert_eq!(checkpoints(closed.dir.path()).unwrap().trusted.len(), 3);
}

#[test]
fn a_key_that_is_lost_or_damaged_stops_no_mail_and_the_next_names_it() {
    let closed = Closed::new();
    let path = closed.dir.path().join("keys/checkpoint.key");
    let first = checkpoints(closed.dir.path()).unwrap().trusted[0].key;
    fs::remove_file(&path).unwrap();
    let (store, report) = open(closed.dir.path());
    assert_eq!(report, OpenReport::default());
    deliver_one(&store, &closed.mailbox, 4);
    close(store);
    let all = checkpoints(closed.dir.path()).unwrap();
    let second = all.trusted.last().unwrap();
    assert_eq!((all.trusted.len(), second.previous_key, &all.refused[..]), (3, Some(first), &[][..]));
    assert_ne!(second.key, first);
    let mut octets = fs::read(&path).unwrap();
    octets[30] ^= 1;
    fs::write(&path, octets).unwrap();
    let (store, _) = open(closed.dir.path());
    deliver_one(&store, &closed.mailbox, 5);
    close(store);
    let all = checkpoints(closed.dir.path()).unwrap();
    assert_eq!((all.trusted.len(), all.trusted[3].previous_key), (4, Some(second.key)));
    let aside = fs::read_dir(closed.dir.path().join("keys")).unwrap().map(|e| e.unwrap().file_name());
    assert_eq!(aside.filter(|name| name.to_string_lossy().contains("key.damaged-")).count(), 1);
}

#[test]
fn a_folder_outside_that_cannot_be_written_to_stops_no_mail_and_is_made_up_for() {
    let (dir, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let outside = place.path().join("not mounted");
    let (store, _) = open_with_outside(dir.path(), &outside);
    let (mailbox, _) = create(&store);
    deliver_one(&store, &mailbox, 1);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while store.checkpoints().failing_outside.is_none() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    deliver_one(&store, &mailbox, 2);
    assert!(store.ready().is_ok() && store.checkpoints().failing_inside.is_none());
    fs::create_dir(&outside).unwrap();
    close(store);
    let name = format!("{}.jsonl", checkpoints(dir.path()).unwrap().trusted[0].key.file_stem());
    let there = fs::read_to_string(outside.join(name)).unwrap();
    assert_eq!(there.lines().last(), lines(dir.path()).last().map(String::as_str));
    // Another folder is told what was signed before it was set.
    let (store, _) = open_with_outside(dir.path(), place.path());
    close(store);
    assert_eq!(
        fs::read_dir(place.path()).unwrap().count(),
        3,
        "checkpoints, public key, and the other folder"
    );
}

#[test]
fn a_forged_checkpoint_counts_for_nothing() {
    let closed = Closed::new();
    let path = closed.dir.path().join("checkpoints.jsonl");
    let forged = lines(closed.dir.path())[1].replace("\"sequence\":4", "\"sequence\":900");
    fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(format!("{forged}\n").as_bytes())
        .unwrap();
    let (_store, report) = open(closed.dir.path());
    assert_eq!(report, OpenReport::default());
    let all = checkpoints(closed.dir.path()).unwrap();
    assert_eq!(all.newest().unwrap().sequence, 4);
    assert!(matches!(&all.refused[..], [(_, CheckpointError::Forged)]), "{:?}", all.refused);
}

/// A state file as a newer program would write it: the form stays.
fn newer_state(content: &Value) -> Vec<u8> {
    let octets = format!("daybook state\n2\n{content}");
    json!({"content": content, "sha256": Digest::of(octets.as_bytes()), "v": 2}).to_string().into_bytes()
}

/// A checkpoint as a newer program would write it, by the key of this store.
fn newer_checkpoint(dir: &Path) -> Vec<u8> {
    let key: Value = serde_json::from_slice(&fs::read(dir.join("keys/checkpoint.key")).unwrap()).unwrap();
    let seed = key["content"]["seed"].as_str().unwrap().as_bytes();
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let seed: Vec<u8> = seed.chunks(2).map(octet).collect();
    let key = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let mut line: Value = serde_json::from_str(&lines(dir)[0]).unwrap();
    line["checkpoint"]["v"] = 2.into();
    line["checkpoint"]["shape"] = "round".into();
    let signed = key.sign(format!("daybook checkpoint\n{}", line["checkpoint"]).as_bytes());
    line["signature"] = signed.as_ref().iter().map(|o| format!("{o:02x}")).collect::<String>().into();
    format!("{line}\n").into_bytes()
}

fn newer_segment(dir: &Path) -> (PathBuf, Vec<u8>) {
    let path = only_segment(dir);
    let mut octets = fs::read(&path).unwrap();
    octets[8] = 2;
    let check = Digest::of(&octets[..84]);
    octets[84..100].copy_from_slice(&check.0[..16]);
    (path, octets)
}

#[test]
fn every_file_of_a_newer_version_is_refused_by_name_and_left_alone() {
    let closed = Closed::new();
    let dir = closed.dir.path();
    let state = |name: &str, content: Value| (dir.join(name), newer_state(&content));
    let cases = [
        (state("watch.json", json!({"other": 1})), "watch.json: version 2"),
        (state("closed-gaps.json", json!([])), "closed-gaps.json: version 2"),
        (state("self-test.json", json!({})), "self-test.json: version 2"),
        (state("log/clean", json!({"segment": 1})), "log/clean: version 2"),
        (state("keys/checkpoint.key", json!({"seed": "?"})), "keys/checkpoint.key: version 2"),
        ((dir.join("checkpoints.jsonl"), newer_checkpoint(dir)), "checkpoints.jsonl: version 2"),
        (newer_segment(dir), "log segment 1: version 2"),
    ];
    for ((path, newer), expect) in cases {
        let before = fs::read(&path).ok();
        fs::write(&path, &newer).unwrap();
        let error = try_open(dir).map(|(_, report)| report).unwrap_err();
        assert_eq!(error.to_string(), format!("written by a newer version: {expect}"));
        assert_eq!(fs::read(&path).unwrap(), newer, "{expect}");
        match before {
            Some(before) => fs::write(&path, before).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    }
    let index = rusqlite::Connection::open(dir.join("index.sqlite")).unwrap();
    let version: u32 = index.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    // A version counts as newer only if the index says it twice.
    let said: String =
        index.query_row("SELECT value FROM meta WHERE key = 'version'", [], |row| row.get(0)).unwrap();
    index.pragma_update(None, "user_version", 1000).unwrap();
    index.execute("UPDATE meta SET value = '1000' WHERE key = 'version'", []).unwrap();
    let error = try_open(dir).map(|(_, report)| report).unwrap_err();
    assert_eq!(error.to_string(), "written by a newer version: index: version 1000");
    index.pragma_update(None, "user_version", version).unwrap();
    index.execute("UPDATE meta SET value = ? WHERE key = 'version'", [said]).unwrap();
    drop(index);
    assert_eq!(open(dir).1, OpenReport::default(), "nothing was spoilt by it");
}

#[test]
fn files_of_keyrings_are_on_record_from_the_start_and_older_ones_are_put_there() {
    let recorded = |dir: &Path| -> Vec<(String, i64, [u8; 32])> {
        let index = rusqlite::Connection::open(dir.join("index.sqlite")).unwrap();
        let mut files = index.prepare("SELECT name, octets, sha256 FROM key_file ORDER BY name").unwrap();
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        files.query_map([], row).unwrap().map(Result::unwrap).collect()
    };
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let first = age::x25519::Identity::generate();
    store.set_escrow(vec![first.to_public()]);
    let (mailbox, password) = create(&store);
    let keys = dir.path().join(format!("keys/{}", mailbox.id));
    let found = || -> Vec<(String, i64, [u8; 32])> {
        let mut names: Vec<_> =
            fs::read_dir(&keys).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        let file = |name: String| {
            let octets = fs::read(keys.join(&name)).unwrap();
            (name, octets.len() as i64, Digest::of(&octets).0)
        };
        names.into_iter().map(file).collect()
    };
    assert_eq!((recorded(dir.path()), found().len()), (found(), 2));
    store.set_escrow(vec![first.to_public(), age::x25519::Identity::generate().to_public()]);
    let key = store.unlock(mailbox.login(), &password).unwrap();
    assert_eq!(store.add_escrow(&key).unwrap(), 1);
    assert_eq!((recorded(dir.path()), found().len()), (found(), 3));
    // Made again, and not recorded: a crash came between.
    let wrap = fs::read_dir(&keys).unwrap().map(|e| e.unwrap().path());
    let wrap = wrap.into_iter().find(|path| path.to_string_lossy().contains("escrow-")).unwrap();
    let mut octets = fs::read(&wrap).unwrap();
    *octets.last_mut().unwrap() ^= 1;
    fs::write(&wrap, octets).unwrap();
    assert_eq!(store.add_escrow(&key).unwrap(), 1);
    assert_eq!((recorded(dir.path()), found().len()), (found(), 3));
    // As if it had been there before there was such a record.
    fs::copy(keys.join("password.age"), keys.join("escrow-older.age")).unwrap();
    close(store);
    let (store, report) = open(dir.path());
    assert_eq!(report, OpenReport::default());
    close(store);
    assert_eq!((recorded(dir.path()), found().len()), (found(), 4));
    // It comes from the log: an index made anew has it too.
    fs::remove_file(dir.path().join("index.sqlite")).unwrap();
    close(open(dir.path()).0);
    assert_eq!(recorded(dir.path()), found());
}
