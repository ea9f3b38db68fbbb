use super::*;
use crate::mail::{GatewayMailboxId, ReceiptId, Timestamp};
use crate::store::fact::{Entry, Fact, FreedFact, ObjectFact, number_runs};
use crate::store::log::{Log, mark_clean_at, segment_path};
use crate::store::{Digest, Embedded, Options, StoreError};
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
        let options = BackupOptions { data_dir: self.data_dir(), dir: self.path("backup") };
        backup(&options, &mut |at| assert!(at.octets <= at.octets_total))
    }

    fn restore(&self, to: &str) -> Result<RestoreReport, StoreError> {
        let options = RestoreOptions {
            dir: self.path("backup"),
            data_dir: self.path(to),
            checkpoint_dir: None,
            despite_damage: false,
            actor: "test".to_owned(),
        };
        restore(&options, &mut |at| assert!(at.octets <= at.octets_total || at.octets_total == 0))
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
    // As a crash leaves it: more of the log, keyrings of later, and no word of it.
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
    let options = BackupOptions { data_dir: other.data_dir(), dir: store.path("backup") };
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
    // In the next second.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while crate::observe::now().unix_seconds() <= i64::from(first.epoch) {
        assert!(std::time::Instant::now() < deadline, "not in time");
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    let second = store.restore("second").unwrap();
    assert!(second.epoch > first.epoch, "{} {}", second.epoch, first.epoch);
}

#[test]
fn while_content_is_freed_a_backup_waits_and_while_it_is_made_none_is() {
    let store = Store::new();
    let free = |dir: &Path| {
        let mut options = fs::File::options();
        options.create(true).truncate(false).write(true);
        let lock = options.open(dir.join(places::FREEING_LOCK_FILE)).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).map(|()| lock)
    };
    let held = places::hold_freeing(&store.data_dir()).unwrap();
    assert!(free(&store.data_dir()).is_err());
    let other = places::hold_freeing(&store.data_dir()).unwrap();
    drop(held);
    assert!(free(&store.data_dir()).is_err(), "two may copy at a time");
    drop(other);
    drop(free(&store.data_dir()).unwrap());
}
