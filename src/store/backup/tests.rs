use super::*;
use crate::mail::{GatewayMailboxId, ReceiptId, Timestamp};
use crate::store::emptied::entries_path;
use crate::store::fact::{Entry, Fact, FreedFact, ObjectFact, number_runs};
use crate::store::freeing;
use crate::store::log::{Log, Position, mark_clean_at, segment_path};
use crate::store::{Digest, Embedded, Options, StoreError};
use manifest::Manifest;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Octets of the content of one object: some file-system blocks.
const PAYLOAD_OCTETS: usize = 64 * 1024;

/// A `data_dir` whose log is written by hand.
struct Store {
    dir: tempfile::TempDir,
    objects: u64,
}

fn payload(object: u64) -> Vec<u8> {
    vec![u8::try_from(object).unwrap(); PAYLOAD_OCTETS]
}

fn file_of(object: u64) -> String {
    format!("{object:02x}/of-{object}.age")
}

impl Store {
    fn new() -> Store {
        let dir = tempfile::tempdir().unwrap();
        let store = Store { dir, objects: 0 };
        drop(Embedded::open(&store.options()).unwrap());
        store
    }

    fn options(&self) -> Options {
        Options { data_dir: self.data_dir(), reserve_octets: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    /// One group of these entries, as the committer writes it.
    fn append(&self, facts: &[(Fact, Vec<u8>)]) {
        let log_dir = self.data_dir().join("log");
        let (mut log, found) = Log::open(&log_dir, None, false, None, &mut |_, _, _, _| Ok(())).unwrap();
        assert_eq!(found, []);
        let mut group = log.start_group().unwrap();
        for (fact, payload) in facts {
            let entry = serde_json::to_vec(&Entry { v: fact.version(), fact: fact.clone() }).unwrap();
            group.push(&entry, payload, &Digest::of(payload)).unwrap();
        }
        let end = log.append(group).unwrap();
        mark_clean_at(&log_dir, &end).unwrap();
    }

    /// An object in the log, or in a file of its own.
    fn store(&mut self, in_file: bool) {
        self.objects += 1;
        let (object, octets) = (self.objects, payload(self.objects));
        let file = in_file.then(|| file_of(object));
        if let Some(file) = &file {
            fs::write(self.data_dir().join("content").join(file), &octets).unwrap();
        }
        let fact = Fact::Object(ObjectFact {
            object,
            receipt_id: ReceiptId::new(object, [1; 10]),
            gateway_mailbox: GatewayMailboxId::new(1, [1; 10]),
            octets: PAYLOAD_OCTETS as u64,
            sealed_octets: PAYLOAD_OCTETS as u64,
            sealed_sha256: Digest::of(&octets),
            file,
        });
        self.append(&[(fact, if in_file { Vec::new() } else { octets })]);
    }

    fn free(&self, objects: &[u64]) {
        let fact = FreedFact {
            at: Timestamp::from_unix_ms(1),
            gateway_mailbox: GatewayMailboxId::new(1, [1; 10]),
            folder: 1,
            uids: Vec::new(),
            objects: number_runs(objects),
            actor: "retention".to_owned(),
        };
        self.append(&[(Fact::Freed(fact), Vec::new())]);
    }

    fn back_up(&self) -> Result<BackupReport, StoreError> {
        let options =
            BackupOptions { data_dir: self.data_dir(), dir: self.path("backup"), checkpoint_dir: None };
        backup(&options, &mut |at| assert!(at.octets <= at.octets_total))
    }

    fn restoring(&self, to: &str) -> RestoreOptions {
        RestoreOptions {
            dir: self.path("backup"),
            data_dir: self.path(to),
            checkpoint_dir: None,
            despite_damage: false,
            actor: "test".to_owned(),
        }
    }

    fn restore(&self, to: &str) -> Result<RestoreReport, StoreError> {
        restore(&self.restoring(to), &mut |at| assert!(at.octets <= at.octets_total || at.octets_total == 0))
    }

    /// How often the content of an object stands in the log of a copy.
    fn is_in(&self, copy: &str, object: u64) -> bool {
        let log = self.path(copy).join("log");
        let whole = payload(object);
        fs::read_dir(log).unwrap().any(|entry| {
            let path = entry.unwrap().path();
            path.is_file() && memchr::memmem::find(&fs::read(path).unwrap(), &whole).is_some()
        }) || fs::read(self.path(copy).join("content").join(file_of(object)))
            .is_ok_and(|there| there == whole)
    }
}

#[test]
fn what_is_freed_leaves_the_backup_too() {
    let mut store = Store::new();
    (0..6).for_each(|n| store.store(n % 3 == 2));
    let first = store.back_up().unwrap();
    assert_eq!((first.whole, first.content_files, first.freed_objects), (true, 2, 0));
    assert!((1..=6).all(|object| store.is_in("backup", object)));
    let blocks = |store: &Store| fs::metadata(segment_path(&store.path("backup/log"), 1)).unwrap().blocks();
    let before = blocks(&store);
    // Its room is not given back in the store yet: an entry says that it is freed.
    store.free(&[1, 3, 4]);
    let second = store.back_up().unwrap();
    assert_eq!((second.whole, second.freed_objects), (true, 3));
    assert!(second.written_octets < PAYLOAD_OCTETS as u64, "{second:?}");
    for object in 1..=6 {
        assert_eq!(store.is_in("backup", object), ![1, 3, 4].contains(&object), "object {object}");
    }
    assert!(blocks(&store) < before, "its room is not given back");
    let restored = store.restore("restored").unwrap();
    assert_eq!((restored.restored, restored.damaged, restored.content_files), (true, 0, 1), "{restored:?}");
    for object in 1..=6 {
        assert_eq!(store.is_in("restored", object), ![1, 3, 4].contains(&object), "object {object}");
    }
    let there = fs::metadata(segment_path(&store.path("restored/log"), 1)).unwrap();
    assert!(there.blocks() * 512 < there.len(), "holes stay holes");
}

#[test]
fn a_backup_that_was_broken_off_is_what_it_was_before_and_is_gone_on_with() {
    let mut store = Store::new();
    (0..3).for_each(|_| store.store(false));
    store.back_up().unwrap();
    let sequence = store.restore("first").unwrap().sequence;
    // As a crash leaves it: more of the log, and no word of it.
    let segment = segment_path(&store.path("backup/log"), 1);
    let end = fs::metadata(&segment).unwrap().len();
    let half = fs::File::options().write(true).open(&segment).unwrap();
    half.write_all_at(&[7; 100_000], end).unwrap();
    fs::write(segment_path(&store.path("backup/log"), 2), [8; 5_000]).unwrap();
    let restored = store.restore("second").unwrap();
    assert_eq!((restored.restored, restored.damaged, restored.sequence), (true, 0, sequence), "{restored:?}");
    fs::remove_file(segment_path(&store.path("backup/log"), 2)).unwrap();
    store.store(false);
    let report = store.back_up().unwrap();
    assert!(report.whole && report.sequence > sequence, "{report:?}");
    assert!((1..=4).all(|object| store.is_in("backup", object)));
    assert_eq!(store.restore("third").unwrap().damaged, 0);
}

#[test]
fn neither_a_backup_nor_a_half_restored_store_is_opened() {
    let mut store = Store::new();
    store.store(false);
    store.back_up().unwrap();
    let open = |name: &str| {
        Embedded::open(&Options { data_dir: store.path(name), reserve_octets: 0 }).map(|_| ()).unwrap_err()
    };
    assert!(matches!(open("backup"), StoreError::Refused(_)));
    store.restore("restored").unwrap();
    let again = store.restore("restored").unwrap_err();
    assert!(matches!(again, StoreError::Refused(_)), "{again}");
    fs::write(store.path("restored").join(manifest::RESTORING_FILE), b"").unwrap();
    assert!(matches!(open("restored"), StoreError::Refused(_)));
    assert!(store.restore("restored").unwrap().restored, "begun anew");
    drop(Embedded::open(&Options { data_dir: store.path("restored"), reserve_octets: 0 }).unwrap());
}

#[test]
fn damage_at_the_very_end_of_a_backup_is_damage_and_no_torn_end() {
    let mut store = Store::new();
    (0..2).for_each(|_| store.store(false));
    store.back_up().unwrap();
    let segment = segment_path(&store.path("backup/log"), 1);
    let mut octets = fs::read(&segment).unwrap();
    *octets.last_mut().unwrap() ^= 1;
    fs::write(&segment, octets).unwrap();
    let report = store.restore("restored").unwrap();
    assert_eq!((report.restored, report.damaged, report.torn_octets), (false, 1, 0), "{report:?}");
    assert_eq!(report.findings[0].receipts, [ReceiptId::new(2, [1; 10])]);
    assert!(!store.path("restored").exists());
}

#[test]
fn a_backup_of_another_store_is_left_alone() {
    let (mut store, mut other) = (Store::new(), Store::new());
    store.store(false);
    store.back_up().unwrap();
    other.store(true);
    other.store(true);
    let options =
        BackupOptions { data_dir: other.data_dir(), dir: store.path("backup"), checkpoint_dir: None };
    let refused = backup(&options, &mut |_| ()).map(|_| ()).unwrap_err();
    assert!(matches!(&refused, StoreError::Refused(_)), "{refused}");
    assert_eq!(store.restore("restored").unwrap().damaged, 0);
}

#[test]
fn the_log_goes_on_far_behind_and_a_second_restore_gives_out_nothing_twice() {
    let mut store = Store::new();
    store.store(false);
    let made = store.back_up().unwrap();
    let first = store.restore("first").unwrap();
    let newest = crate::store::checkpoints(&store.path("first")).unwrap().newest().cloned().unwrap();
    assert_eq!(newest.sequence, made.sequence + (1 << 40));
    let key = crate::store::checkpoint::signing_key(&store.path("backup"));
    assert!(key.is_some() && newest.previous_key == key && Some(newest.key) != key, "{newest:?}");
    // In the same second, it may be.
    let second = store.restore("second").unwrap();
    assert_ne!(second.epoch, first.epoch);
    // Nor has it numbers of objects, messages and folders that the original may have given out since.
    let numbers = |name: &str| {
        let index = crate::store::index::Index::open_reader(&store.path(name).join("index.sqlite"));
        index.unwrap().numbers().unwrap()
    };
    let (of_original, of_restored) = (numbers("data"), numbers("first"));
    assert!(of_restored.object > of_original.object + (1 << 20), "{of_restored:?}");
    assert!(of_restored.message > 1 << 20 && of_restored.folder > 1 << 20, "{of_restored:?}");
}

#[test]
fn while_content_is_freed_a_backup_waits_and_while_it_is_made_none_is() {
    let store = Store::new();
    let free = |dir: &Path| freeing::lock(dir, freeing::Hold::Alone).unwrap();
    let held = places::hold_freeing(&store.data_dir()).unwrap();
    assert!(free(&store.data_dir()).is_none());
    let other = places::hold_freeing(&store.data_dir()).unwrap();
    drop(held);
    assert!(free(&store.data_dir()).is_none(), "two may copy at a time");
    drop(other);
    drop(free(&store.data_dir()).unwrap());
}

#[test]
fn a_store_that_is_made_while_the_backup_is_hashed_is_not_overwritten() {
    let mut store = Store::new();
    store.store(false);
    store.back_up().unwrap();
    let made = store.path("meanwhile");
    let file = made.join("index.sqlite");
    let refused = restore(&store.restoring("meanwhile"), &mut |_| {
        fs::create_dir_all(&made).unwrap();
        fs::write(&file, "of somebody else").unwrap();
    });
    assert!(matches!(refused.unwrap_err(), StoreError::Refused(_)));
    assert_eq!(fs::read_to_string(&file).unwrap(), "of somebody else");
    // What a restore that was ended at once has left is nobody's.
    fs::remove_file(&file).unwrap();
    assert!(made.join("lock").exists());
    assert!(store.restore("meanwhile").unwrap().restored);
}

#[test]
fn what_was_signed_before_the_backup_and_is_not_in_it_is_a_loss_that_stays_known() {
    let mut store = Store::new();
    (0..3).for_each(|_| store.store(false));
    store.back_up().unwrap();
    let manifest = Manifest::read(&store.path("backup")).unwrap().unwrap();
    let end = Position { sequence: manifest.end.sequence + 11, ..manifest.end };
    let signed_at = Timestamp::from_unix_ms(manifest.began_at.unix_ms() - 1_000);
    // By the key of the store, which the backup has too, in a folder outside.
    crate::store::checkpoint::sign_anew(&store.path("backup"), &end, signed_at).unwrap();
    let report = store.restore("restored").unwrap();
    assert_eq!((report.restored, report.damaged, report.missing_groups), (false, 1, 11), "{report:?}");
    assert!(report.findings[0].what.contains("mail that was acknowledged then is missing"), "{report:?}");
    let options = RestoreOptions { despite_damage: true, ..store.restoring("restored") };
    assert!(restore(&options, &mut |_| ()).unwrap().restored);
    let lost = fs::read_to_string(store.path("restored/log-loss.json")).unwrap();
    assert!(lost.contains("was acknowledged then is missing"), "{lost}");
}

#[test]
fn a_file_of_state_that_is_not_what_was_written_is_damage() {
    let mut store = Store::new();
    store.store(false);
    store.back_up().unwrap();
    fs::write(store.path("backup/log-loss.json"), "{\"content\":{},\"v\":1}").unwrap();
    let report = store.restore("restored").unwrap();
    assert_eq!((report.restored, report.damaged), (false, 1), "{report:?}");
    assert_eq!(report.findings[0].place, "log-loss.json");
}

#[test]
fn a_first_backup_that_was_broken_off_is_told_from_a_plain_copy() {
    let mut store = Store::new();
    store.store(false);
    store.back_up().unwrap();
    fs::remove_file(store.path("backup").join(manifest::MANIFEST_FILE)).unwrap();
    let refused = store.restore("restored").unwrap_err();
    assert!(refused.to_string().contains("broken off"), "{refused}");
}

#[test]
fn a_restored_store_is_made_anew_without_a_word_of_what_was_freed_and_its_clock_stands() {
    let mut store = Store::new();
    (0..4).for_each(|_| store.store(false));
    store.free(&[1, 2]);
    store.back_up().unwrap();
    assert!(store.restore("restored").unwrap().restored);
    let options = Options { data_dir: store.path("restored"), reserve_octets: 0 };
    let (open, report) = Embedded::open(&options).unwrap();
    assert_eq!((&report.damage, &report.index_rebuilt), (&Vec::new(), &None));
    let paused = crate::store::Store::keeping(&open).paused;
    assert!(paused.is_some_and(|pause| pause.is_of_restore()), "{paused:?}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let keeping = runtime.block_on(crate::store::Store::trust_clock(&open, "test")).unwrap();
    assert_eq!(keeping.paused, None);
    open.close_blocking();
    drop(open);
    fs::remove_file(store.path("restored/index.sqlite")).unwrap();
    let (open, report) = Embedded::open(&options).unwrap();
    assert_eq!(report.damage, Vec::<String>::new(), "{report:?}");
    assert_eq!(crate::store::Store::keeping(&open).paused, None, "it stays trusted");
    open.close_blocking();
}

#[test]
fn segments_that_gave_way_to_their_entries_are_backed_up_and_restored_as_such() {
    let mut store = Store::new();
    (0..2).for_each(|_| store.store(false));
    store.back_up().unwrap();
    // More in the segment that the backup ends in, which is closed then, and of which nothing is left.
    (0..2).for_each(|_| store.store(false));
    let log = store.data_dir().join("log");
    fs::write(log.join("segment-octets"), "1").unwrap();
    store.free(&[1, 2, 3, 4]);
    crate::store::emptied::exchange(&log, 1).unwrap();
    let report = store.back_up().unwrap();
    assert_eq!((report.whole, report.damaged), (true, 0), "{report:?}");
    let is_in = |name: &str| {
        let log = store.path(name).join("log");
        (entries_path(&log, 1).exists(), segment_path(&log, 1).exists())
    };
    assert_eq!(is_in("backup"), (true, false));
    let restored = store.restore("restored").unwrap();
    assert_eq!((restored.restored, restored.damaged), (true, 0), "{restored:?}");
    assert_eq!(is_in("restored"), (true, false));
    // And into a folder that had nothing of it.
    fs::remove_dir_all(store.path("backup")).unwrap();
    assert!(store.back_up().unwrap().whole);
    assert_eq!(store.restore("again").unwrap().damaged, 0);
    assert_eq!(is_in("again"), (true, false));
    for name in ["restored", "again"] {
        let options = Options { data_dir: store.path(name), reserve_octets: 0 };
        let (open, report) = Embedded::open(&options).unwrap();
        assert_eq!(report.damage, Vec::<String>::new());
        open.close_blocking();
    }
}

#[test]
fn a_keyring_of_later_takes_the_place_of_the_one_before_with_the_backup_alone() {
    let dir = tempfile::tempdir().unwrap();
    let name = "keys/some/password.age";
    let files = |octets: &[u8]| small::Files::from([(name.to_owned(), octets.to_vec().into())]);
    small::put(&files(b"old"), dir.path()).unwrap();
    small::put_beside(&files(b"new"), dir.path()).unwrap();
    for octets in [b"old", b"new"] {
        let recorded = std::collections::BTreeMap::from([(name.to_owned(), Digest::of(octets))]);
        assert_eq!(small::settled(small::keys(dir.path()).unwrap(), &recorded), files(octets));
    }
    small::put(&files(b"new"), dir.path()).unwrap();
    assert_eq!(small::keys(dir.path()).unwrap(), files(b"new"));
}

#[test]
fn what_other_rooms_keep_beside_the_store_goes_with_it() {
    let mut store = Store::new();
    store.store(false);
    let write = |path: &str, text: &str| {
        let path = store.data_dir().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let in_copy = |copy: &str, path: &str| fs::read_to_string(store.path(copy).join(path)).ok();
    write("directory/hr/1.jsonl", "one");
    write("directory/hr/status.json", "old");
    write("directory/hr/unfinished", "half");
    write("pull/ndr.json", "seen 1");
    store.back_up().unwrap();
    write("directory/hr/2.jsonl", "two");
    write("directory/hr/status.json", "new");
    write("pull/ndr.json", "seen 2");
    fs::remove_file(store.data_dir().join("directory/hr/1.jsonl")).unwrap();
    store.back_up().unwrap();
    store.restore("restored").unwrap();
    for copy in ["backup", "restored"] {
        let there = |path: &str| in_copy(copy, path);
        assert_eq!(there("directory/hr/2.jsonl").as_deref(), Some("two"), "{copy}");
        assert_eq!(
            there("directory/hr/status.json").as_deref(),
            Some("new"),
            "{copy}: as long as the old one"
        );
        assert_eq!(there("pull/ndr.json").as_deref(), Some("seen 2"), "{copy}");
        assert_eq!((there("directory/hr/1.jsonl"), there("directory/hr/unfinished")), (None, None), "{copy}");
    }
    let lists = fs::metadata(store.path("restored/directory/hr/2.jsonl")).unwrap();
    assert_eq!(lists.mode() & 0o777, 0o600);
}

#[test]
fn a_list_under_a_number_that_was_used_before_takes_the_place_of_its_copy() {
    let mut store = Store::new();
    store.store(false);
    let list = store.data_dir().join("directory/hr/1.jsonl");
    let copy = store.path("backup").join("directory/hr/1.jsonl");
    fs::create_dir_all(list.parent().unwrap()).unwrap();
    for text in ["of alice", "of bobby"] {
        fs::write(&list, text).unwrap();
        store.back_up().unwrap();
        assert_eq!(fs::read_to_string(&copy).unwrap(), text);
    }
    // Zeros stand where the source could not be read.
    fs::write(&copy, [0; 8]).unwrap();
    store.back_up().unwrap();
    assert_eq!(fs::read_to_string(&copy).unwrap(), "of bobby");
    let written = fs::metadata(&copy).unwrap().ino();
    store.back_up().unwrap();
    assert_eq!(fs::metadata(&copy).unwrap().ino(), written, "what is the same is not written again");
}
