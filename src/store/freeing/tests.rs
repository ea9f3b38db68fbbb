use super::*;
use crate::mail::{Extent, Keeping, Profile, Role, SessionId, UserFolder};
use crate::store::index::{Index, ObjectPlace};
use crate::store::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const MINUTE_MS: i64 = 60 * 1000;
/// A few messages fill a segment.
const SEGMENT_OCTETS: u64 = 16 * 1024;

struct Rig {
    dir: tempfile::TempDir,
    store: Embedded,
    mailbox: Arc<GatewayMailbox>,
    key: Unlocked,
    ahead_ms: Arc<AtomicI64>,
    delivered: u32,
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn user(name: &str) -> FolderName {
    FolderName::User { user: name.to_owned(), folder: UserFolder::Incoming }
}

fn open(dir: &Path, ahead_ms: &Arc<AtomicI64>) -> Embedded {
    let options = Options { data_dir: dir.to_owned(), reserve_octets: 0 };
    Embedded::open_by_clock(&options, ahead_ms.clone()).unwrap().0
}

impl Rig {
    fn new() -> Rig {
        let (dir, ahead_ms) = (tempfile::tempdir().unwrap(), Arc::new(AtomicI64::new(0)));
        let store = open(dir.path(), &ahead_ms);
        fs::write(dir.path().join("log/segment-octets"), SEGMENT_OCTETS.to_string()).unwrap();
        let new = NewGatewayMailbox {
            name: "Contoso".to_owned(),
            domain: "gw.example".to_owned(),
            tenant: None,
            profile: Profile::Generic,
            role: Role::Journal,
        };
        let (mailbox, password) = runtime().block_on(store.create_gateway_mailbox(new, "test")).unwrap();
        let key = store.unlock(mailbox.login(), &password).unwrap();
        Rig { dir, store, mailbox, key, ahead_ms, delivered: 0 }
    }

    fn reopen(self, with_new_index: bool) -> Rig {
        runtime().block_on(self.store.close());
        drop(self.store);
        if with_new_index {
            fs::remove_file(self.dir.path().join("index.sqlite")).unwrap();
        }
        let store = open(self.dir.path(), &self.ahead_ms);
        Rig { store, ..self }
    }

    /// `wrapper` and behind it `original`, which goes to these users too. What is held of it is referenced.
    fn delivery(&mut self, wrapper: &[u8], original: &[u8], users: &[&str]) -> Delivery {
        self.delivered += 1;
        let number = self.delivered.to_be_bytes();
        let mut random = [0; 10];
        random[..4].copy_from_slice(&number);
        let whole = [wrapper, original].concat();
        let at = self.store.shared.clock.trusted().unwrap();
        let mut sent = delivered::delivery(&self.store, &self.mailbox, at, random, &whole);
        let stage = self.store.stage(self.mailbox.id).unwrap();
        sent.identity = stage.digest_key().identity(&[&number]);
        let exact = stage.digest_key().exact(&Digest::of(original));
        let mut part = sent.messages[0].clone();
        (part.octets, part.exact) = (original.len() as u64, exact);
        (part.canonical.octets, part.join) = (part.octets, stage.digest_key().join(&Digest::of(original)));
        let (first, behind) = (wrapper.len() as u64, original.len() as u64);
        part.sources = vec![Source::New(Extent { object: 0, offset: first, octets: behind })];
        if let Holding::Whole(held) = stage.held(&exact).unwrap() {
            let mut sealer = stage.sealer(first).unwrap();
            sealer.write_all(wrapper).unwrap();
            sent.objects = vec![sealer.finish().unwrap()];
            part.held = Some(held.message);
            part.sources = held.extents.into_iter().map(Source::Held).collect();
            let new = Source::New(Extent { object: 0, offset: 0, octets: first });
            sent.messages[0].sources = [vec![new], part.sources.clone()].concat();
        }
        sent.messages.push(part);
        sent.placements.extend(users.iter().map(|name| WantedPlacement {
            folder: user(name),
            slug: Some((*name).to_owned()),
            message: 1,
            once_per_join: false,
            in_view: None,
            reasons: vec!["test".to_owned()],
        }));
        sent
    }

    fn take(&self, delivery: Delivery) -> Result<Delivered, StoreError> {
        runtime().block_on(self.store.deliver(vec![delivery])).map(|mut all| all.remove(0))
    }

    fn deliver(&mut self, wrapper: &[u8], original: &[u8], users: &[&str]) -> Delivered {
        let delivery = self.delivery(wrapper, original, users);
        self.take(delivery).unwrap()
    }

    fn list(&self, folder: &FolderName) -> Vec<Entry> {
        self.store.list(self.mailbox.id, folder).unwrap().entries
    }

    fn delete(&self, folder: &FolderName, uids: &[Uid]) {
        let session_id = SessionId::new(1, [0; 10]);
        let by = Client { protocol: "pop3".to_owned(), peer: "127.0.0.1".parse().unwrap(), session_id };
        runtime().block_on(self.store.expunge(self.mailbox.id, folder, uids, &by)).unwrap();
    }

    fn delete_all(&self, folder: &FolderName) {
        let uids: Vec<Uid> = self.list(folder).into_iter().map(|entry| entry.uid).collect();
        self.delete(folder, &uids);
    }

    fn read(&self, message: MessageKey) -> Result<Vec<u8>, StoreError> {
        let mut octets = Vec::new();
        self.store.open(&self.key, message)?.read_to_end(&mut octets).unwrap();
        Ok(octets)
    }

    fn change(&self, change: GatewayMailboxChange) {
        runtime().block_on(self.store.change_gateway_mailbox(self.mailbox.id, vec![change], "test")).unwrap();
    }

    fn no_grace(&self) {
        let (was, becomes) = (Keeping::default(), Keeping { grace_days: 0, ..Keeping::default() });
        self.change(GatewayMailboxChange::Keeping { was, becomes });
    }

    fn later(&self, ms: i64) {
        self.ahead_ms.fetch_add(ms, Ordering::Relaxed);
        self.store.shared.clock.trusted().unwrap();
    }

    /// So many messages more, so that what came before lies in closed segments.
    fn fill(&mut self) {
        for _ in 0..3 {
            let wrapper = format!("filling {}\r\n", self.delivered);
            self.deliver(wrapper.as_bytes(), &[b'f'; 9_000], &[]);
        }
    }

    fn pass(&self) -> Result<FreedPass, StoreError> {
        self.pass_while(&|| true)
    }

    fn pass_while(&self, goes_on: &dyn Fn() -> bool) -> Result<FreedPass, StoreError> {
        let trusted = self.store.shared.clock.trusted().unwrap();
        let (freed, done) = pass(&self.store.shared, &self.store.commands.downgrade(), trusted, goes_on);
        done.map(|()| freed)
    }

    fn index<T>(&self, ask: impl FnOnce(&Index) -> Result<T, StoreError>) -> T {
        self.store.shared.read(ask).unwrap()
    }

    fn objects(&self, message: MessageKey) -> Vec<u64> {
        self.index(|index| index.objects_of(message.0))
    }

    fn freed(&self) -> BTreeSet<u64> {
        self.index(|index| index.freed_between(0, u64::MAX / 2)).into_iter().collect()
    }

    /// The stored octets of an object; nothing when its segment, or its file, is gone.
    fn payload(&self, object: u64) -> Option<Vec<u8>> {
        let row = self.index(|index| index.object(object));
        let ObjectPlace::Log { segment, offset } = row.place else { return None };
        let path = self.dir.path().join(format!("log/{segment:08}.seg"));
        let mut octets = vec![0; usize::try_from(row.sealed_octets).unwrap()];
        File::open(path).ok()?.read_exact_at(&mut octets, offset).unwrap();
        Some(octets)
    }

    fn is_zero(&self, object: u64) -> bool {
        self.payload(object).is_none_or(|octets| octets.iter().all(|octet| *octet == 0))
    }
}

#[test]
fn what_is_deleted_is_freed_when_its_grace_is_over_and_not_a_moment_before() {
    let mut rig = Rig::new();
    rig.deliver(b"wrapper\r\n", &[b'a'; 9_000], &[]);
    let large = vec![b'l'; 3_000_000];
    rig.deliver(b"large\r\n", &large, &[]);
    rig.fill();
    let entries = rig.list(&FolderName::Inbox);
    let files = || walk_files(&rig.dir.path().join("content"));
    assert_eq!(files(), 1);
    rig.delete(&FolderName::Inbox, &[entries[0].uid, entries[1].uid]);
    let deleted_at = rig.index(|index| index.in_grace_of(1, &[entries[0].uid]))[0].deleted_at;
    let end = Timestamp::from_unix_ms(deleted_at.unix_ms() + 7 * DAY_MS);
    let at = |trusted| {
        let (freed, done) = pass(&rig.store.shared, &rig.store.commands.downgrade(), trusted, &|| true);
        done.map(|()| freed).unwrap()
    };
    assert_eq!(at(Timestamp::from_unix_ms(end.unix_ms() - 1)), FreedPass::default());
    assert_eq!(rig.read(entries[0].message).unwrap().len(), 9_009);
    let freed = at(end);
    assert_eq!((freed.entries, freed.objects), (2, 4), "{freed:?}");
    assert!(freed.octets > 3_009_000 && freed.returned > 3_004_000, "{freed:?}");
    assert_eq!(at(end), FreedPass::default(), "there is nothing more to do");
    assert_eq!(files(), 0);
    for entry in &entries[..2] {
        assert!(matches!(rig.read(entry.message), Err(StoreError::Gone)));
        assert!(matches!(rig.store.summary(&rig.key, entry.message), Err(StoreError::Gone)));
        assert!(rig.objects(entry.message).into_iter().all(|object| rig.is_zero(object)));
        let view = rig.store.receipts(&ReceiptQuery::Id(entry.receipt_id), deleted_at, 1).unwrap();
        assert!(view[0].freed_at.is_some());
    }
    for entry in &entries[2..] {
        assert!(rig.read(entry.message).is_ok());
    }
    // The log says all of it once more.
    let (freed, live) = (rig.freed(), entries[2].message);
    let rig = rig.reopen(true);
    assert_eq!(rig.freed(), freed);
    assert!(rig.read(live).is_ok());
    assert_eq!(rig.pass().unwrap().objects, 0);
    assert_eq!(rig.index(|index| index.unpunched_count()), 0);
}

fn walk_files(dir: &Path) -> usize {
    let shards = fs::read_dir(dir).unwrap().map(|shard| shard.unwrap().path());
    shards.map(|shard| fs::read_dir(shard).unwrap().count()).sum()
}

#[test]
fn an_original_that_several_lie_in_goes_with_the_last_of_them() {
    let mut rig = Rig::new();
    rig.no_grace();
    let original = [b'o'; 5_000];
    rig.deliver(b"first\r\n", &original, &["bob"]);
    rig.deliver(b"second\r\n", &original, &["eve"]);
    rig.fill();
    let entries = rig.list(&FolderName::Inbox);
    let of_first = rig.objects(entries[0].message);
    rig.delete(&FolderName::Inbox, &[entries[0].uid]);
    rig.delete_all(&user("bob"));
    // What it lay in is that of the second report, and of eve's entry.
    assert_eq!(rig.pass().unwrap().entries, 2);
    assert_eq!(rig.read(entries[1].message).unwrap(), [&b"second\r\n"[..], &original].concat());
    rig.delete(&FolderName::Inbox, &[entries[1].uid]);
    assert_eq!(rig.pass().unwrap().entries, 1);
    let [eve] = &rig.list(&user("eve"))[..] else { panic!() };
    assert_eq!(rig.read(eve.message).unwrap(), original);
    // Held for eve, and in her folder only deleted.
    rig.change(GatewayMailboxChange::Hold { user: Some("eve".to_owned()), reason: "case 1".to_owned() });
    rig.delete(&user("eve"), &[eve.uid]);
    assert_eq!(rig.pass().unwrap(), FreedPass::default());
    rig.change(GatewayMailboxChange::Unhold { user: Some("eve".to_owned()) });
    assert_eq!(rig.pass().unwrap().entries, 1);
    assert!(of_first.into_iter().all(|object| rig.freed().contains(&object) && rig.is_zero(object)));
}

#[test]
fn a_report_stays_as_long_as_an_entry_that_came_by_it() {
    let mut rig = Rig::new();
    rig.no_grace();
    let original = [b'o'; 5_000];
    rig.deliver(b"first\r\n", &original, &[]);
    // Of this one the wrapper alone is stored, and eve's entry lies in what the first brought.
    rig.deliver(b"second\r\n", &original, &["eve"]);
    rig.fill();
    let second = rig.list(&FolderName::Inbox)[1].clone();
    let objects = rig.objects(second.message);
    let [eve] = &rig.list(&user("eve"))[..] else { panic!() };
    rig.delete(&FolderName::Inbox, &[second.uid]);
    let freed = rig.pass().unwrap();
    assert_eq!((freed.entries, freed.objects), (1, 0), "{freed:?}");
    rig.change(GatewayMailboxChange::Hold { user: Some("eve".to_owned()), reason: "case 1".to_owned() });
    rig.delete(&user("eve"), &[eve.uid]);
    assert_eq!(rig.pass().unwrap(), FreedPass::default());
    assert!(objects.iter().all(|object| !rig.is_zero(*object)));
    rig.change(GatewayMailboxChange::Unhold { user: Some("eve".to_owned()) });
    let freed = rig.pass().unwrap();
    assert!(freed.entries == 1 && freed.objects > 0, "{freed:?}");
    let first = rig.list(&FolderName::Inbox)[0].clone();
    let of_first = rig.objects(first.message);
    for object in objects {
        assert_ne!(of_first.contains(&object), rig.freed().contains(&object), "object {object}");
    }
    assert_eq!(rig.read(first.message).unwrap(), [&b"first\r\n"[..], &original].concat());
}

#[test]
fn an_entry_that_lost_its_life_to_a_flipped_bit_is_not_taken_for_deleted() {
    let mut rig = Rig::new();
    rig.no_grace();
    rig.deliver(b"first\r\n", &[b'o'; 5_000], &["bob"]);
    rig.fill();
    let first = rig.list(&FolderName::Inbox)[0].clone();
    let [bob] = &rig.list(&user("bob"))[..] else { panic!() };
    rig.delete(&FolderName::Inbox, &[first.uid]);
    let index = rusqlite::Connection::open(rig.dir.path().join("index.sqlite")).unwrap();
    let spoil = "UPDATE placement SET deleted_at = 0 WHERE message = ?";
    assert_eq!(index.execute(spoil, [bob.message.0.cast_signed()]).unwrap(), 1);
    assert!(matches!(rig.pass(), Err(StoreError::IndexDamaged(_))));
    assert!(rig.freed().is_empty());
}

#[test]
fn by_an_index_made_without_entries_of_the_log_nothing_is_freed_until_that_is_closed() {
    let mut rig = Rig::new();
    rig.no_grace();
    rig.deliver(b"wrapper\r\n", &[b'a'; 9_000], &[]);
    rig.fill();
    let entries = rig.list(&FolderName::Inbox);
    let object = rig.objects(entries[0].message)[0];
    let ObjectPlace::Log { segment, offset } = rig.index(|index| index.object(object)).place else {
        panic!()
    };
    rig.delete(&FolderName::Inbox, &[entries[2].uid]);
    let path = rig.dir.path().join(format!("log/{segment:08}.seg"));
    File::options().write(true).open(&path).unwrap().write_all_at(b"#", offset - 40).unwrap();
    let mut rig = rig.reopen(true);
    for with_new_index in [false, true] {
        assert!(matches!(rig.pass(), Err(StoreError::Refused(_))));
        assert!(rig.freed().is_empty());
        rig = rig.reopen(with_new_index);
    }
    let place = checkpoint::LOSS_PLACE.to_owned();
    rig.store.close_damage(&[place], "test").unwrap();
    assert_eq!(rig.reopen(false).pass().unwrap().entries, 1);
}

#[test]
fn what_is_freed_is_stored_anew_when_it_comes_again() {
    let mut rig = Rig::new();
    rig.no_grace();
    let original = [b'o'; 5_000];
    rig.deliver(b"first\r\n", &original, &["bob"]);
    rig.fill();
    // It was looked for while it was there, and is freed before it is stored.
    let late = rig.delivery(b"late\r\n", &original, &["bob"]);
    assert!(late.messages[1].held.is_some());
    let first = rig.list(&FolderName::Inbox)[0].uid;
    rig.delete(&FolderName::Inbox, &[first]);
    rig.delete_all(&user("bob"));
    assert!(rig.pass().unwrap().objects >= 2);
    assert!(matches!(rig.take(late), Err(StoreError::Gone)));
    assert!(rig.list(&user("bob")).is_empty());
    let again = rig.delivery(b"again\r\n", &original, &["bob"]);
    assert!(again.messages[1].held.is_none());
    rig.take(again).unwrap();
    let [bob] = &rig.list(&user("bob"))[..] else { panic!() };
    assert_eq!(rig.read(bob.message).unwrap(), original);
}

#[test]
fn a_report_that_came_again_is_freed_with_the_one_it_repeats() {
    let mut rig = Rig::new();
    rig.no_grace();
    let first = rig.delivery(b"first\r\n", &[b'o'; 5_000], &[]);
    let identity = first.identity;
    let first = rig.take(first).unwrap();
    let mut again = rig.delivery(b"in other octets\r\n", &[b'p'; 5_000], &[]);
    again.identity = identity;
    let again = rig.take(again).unwrap();
    assert!(again.repeats.is_some() && !first.placements.is_empty());
    rig.fill();
    rig.pass().unwrap();
    assert!(rig.freed().is_empty(), "it stays with the one it repeats");
    rig.delete(&FolderName::Inbox, &[first.placements[0].1]);
    let freed = rig.pass().unwrap();
    assert_eq!((freed.entries, freed.objects), (1, 4), "{freed:?}");
    assert!(rig.freed().into_iter().all(|object| rig.is_zero(object)));
    // One that comes when nothing is left of it goes when it has been there as long as grace is.
    let mut late = rig.delivery(b"and in others still\r\n", &[b'q'; 5_000], &[]);
    late.identity = identity;
    rig.take(late).unwrap();
    assert_eq!(rig.pass().unwrap().objects, 2);
}

#[test]
fn a_report_that_came_again_has_its_own_grace() {
    let mut rig = Rig::new();
    let first = rig.delivery(b"first\r\n", &[b'o'; 5_000], &[]);
    let identity = first.identity;
    let first = rig.take(first).unwrap();
    rig.delete(&FolderName::Inbox, &[first.placements[0].1]);
    // Further at once the clock is not believed.
    rig.later(4 * DAY_MS);
    rig.later(3 * DAY_MS - 60_000);
    let mut again = rig.delivery(b"in other octets\r\n", &[b'p'; 5_000], &[]);
    again.identity = identity;
    rig.take(again).unwrap();
    rig.later(60_000);
    let freed = rig.pass().unwrap();
    assert_eq!((freed.entries, freed.objects), (1, 2), "{freed:?}");
    rig.later(4 * DAY_MS);
    rig.later(3 * DAY_MS);
    assert_eq!(rig.pass().unwrap().objects, 2);
}

#[test]
fn while_somebody_copies_what_is_stored_it_stays_where_it_is() {
    let mut rig = Rig::new();
    rig.no_grace();
    rig.deliver(b"wrapper\r\n", &[b'a'; 9_000], &[]);
    rig.fill();
    rig.delete_all(&FolderName::Inbox);
    let copying = File::create(rig.dir.path().join(lock::LOCK_FILE)).unwrap();
    rustix::fs::flock(&copying, rustix::fs::FlockOperation::LockShared).unwrap();
    assert!(matches!(rig.pass(), Err(StoreError::Refused(why)) if why.contains("freeing.lock")));
    assert!(rig.freed().is_empty());
    drop(copying);
    assert_eq!(rig.pass().unwrap().entries, 4);
}

#[test]
fn what_a_crash_left_undone_is_done_by_the_next_pass() {
    let mut rig = Rig::new();
    rig.no_grace();
    rig.deliver(b"wrapper\r\n", &[b'a'; 9_000], &[]);
    rig.fill();
    let first = rig.list(&FolderName::Inbox)[0].clone();
    rig.delete(&FolderName::Inbox, &[first.uid]);
    let shared = rig.store.shared.clone();
    let none_is_freed = || shared.read(|index| index.unpunched_count()).unwrap() == 0;
    rig.pass_while(&none_is_freed).unwrap();
    let objects = rig.objects(first.message);
    assert!(objects.iter().all(|object| rig.freed().contains(object) && !rig.is_zero(*object)));
    drop(shared);
    let rig = rig.reopen(false);
    assert!(rig.pass().unwrap().returned > 0);
    assert!(objects.iter().all(|object| rig.is_zero(*object)));
}

#[test]
fn an_index_that_has_lost_what_leads_to_an_object_frees_nothing_of_it() {
    let mut rig = Rig::new();
    rig.no_grace();
    let original = [b'o'; 5_000];
    rig.deliver(b"first\r\n", &original, &[]);
    rig.deliver(b"second\r\n", &original, &[]);
    rig.fill();
    let entries = rig.list(&FolderName::Inbox);
    let second = entries[1].message;
    rig.delete(&FolderName::Inbox, &[entries[0].uid]);
    let index = rusqlite::Connection::open(rig.dir.path().join("index.sqlite")).unwrap();
    index.execute("DELETE FROM object_use WHERE message = ?", [second.0.cast_signed()]).unwrap();
    assert!(matches!(rig.pass(), Err(StoreError::IndexDamaged(_))));
    assert!(rig.freed().is_empty());
    // It waits to be made anew, or was.
    let knows = |index: &Index| Ok(!index.objects_of(second.0)?.is_empty());
    assert!(rig.store.shared.index_is_spoilt() || rig.index(knows));
    assert_eq!(rig.read(second).unwrap(), [&b"second\r\n"[..], &original].concat());
}

#[test]
fn a_damaged_segment_is_left_as_it_is() {
    let mut rig = Rig::new();
    rig.no_grace();
    rig.deliver(b"wrapper\r\n", &[b'a'; 9_000], &[]);
    rig.fill();
    let first = rig.list(&FolderName::Inbox)[0].clone();
    rig.delete(&FolderName::Inbox, &[first.uid]);
    let object = rig.objects(first.message)[0];
    let ObjectPlace::Log { segment, offset } = rig.index(|index| index.object(object)).place else {
        panic!()
    };
    let path = rig.dir.path().join(format!("log/{segment:08}.seg"));
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"#", offset - 40).unwrap();
    let before = fs::read(&path).unwrap();
    assert_eq!(rig.pass().unwrap().entries, 1);
    assert_eq!(fs::read(&path).unwrap(), before);
    assert!(rig.index(|index| index.unpunched_count()) > 0, "it is tried again");
}

/// An entry as the model knows it: what it says, and the objects it needs.
#[derive(Clone)]
struct Known {
    octets: Vec<u8>,
    message: MessageKey,
    /// The report it came by: its own message, but for entries of users.
    report: MessageKey,
    deleted_at: Option<i64>,
}

#[derive(Clone, Debug)]
enum Act {
    Deliver { original: u8, users: u8 },
    Delete { folder: usize, entry: usize },
    Undelete { folder: usize },
    Free { days: i64 },
    Reopen { with_new_index: bool },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (0..4_u8, 0..4_u8).prop_map(|(original, users)| Act::Deliver { original, users }),
        6 => (0..3_usize, 0..64_usize).prop_map(|(folder, entry)| Act::Delete { folder, entry }),
        1 => (0..3_usize).prop_map(|folder| Act::Undelete { folder }),
        3 => (0..5_i64).prop_map(|days| Act::Free { days }),
        1 => any::<bool>().prop_map(|with_new_index| Act::Reopen { with_new_index }),
    ];
    proptest::collection::vec(act, 10..40)
}

struct Model {
    rig: Rig,
    folders: [FolderName; 3],
    known: BTreeMap<(usize, Uid), Known>,
    /// All objects there ever were.
    ever: BTreeSet<u64>,
}

impl Model {
    fn act(mut self, act: &Act) -> Model {
        match act {
            Act::Deliver { original, users } => {
                let users: Vec<&str> = ["bob", "eve"]
                    .into_iter()
                    .zip([1, 2])
                    .filter(|(_, bit)| users & bit != 0)
                    .map(|(u, _)| u)
                    .collect();
                let octets = vec![b'0' + original; 2_000 + usize::from(*original) * 3_000];
                let wrapper = format!("wrapper {}\r\n", self.rig.delivered);
                self.rig.deliver(wrapper.as_bytes(), &octets, &users);
                self.learn(&[wrapper.as_bytes(), &octets].concat(), &octets);
            }
            Act::Delete { folder, entry } => {
                let entries = self.rig.list(&self.folders[*folder]);
                let Some(entry) = entries.get(entry % entries.len().max(1)) else { return self };
                self.rig.delete(&self.folders[*folder], &[entry.uid]);
                let known = self.known.get_mut(&(*folder, entry.uid)).unwrap();
                known.deleted_at = Some(self.rig.store.shared.clock.trusted().unwrap().unix_ms());
            }
            Act::Undelete { folder } => self.undelete(*folder),
            Act::Free { days } => {
                // Never seven days to the moment: the model knows the times of deletions no better than the machine is fast.
                self.rig.later(days * DAY_MS + MINUTE_MS);
                self.rig.pass().unwrap();
                self.forget();
            }
            Act::Reopen { with_new_index } => self.rig = self.rig.reopen(*with_new_index),
        }
        self
    }

    fn learn(&mut self, whole: &[u8], original: &[u8]) {
        let Some(report) = self.rig.list(&FolderName::Inbox).last().map(|entry| entry.message) else {
            return;
        };
        for (number, folder) in self.folders.iter().enumerate() {
            for entry in self.rig.list(folder) {
                let (octets, message) = (if number == 0 { whole } else { original }.to_vec(), entry.message);
                self.ever.extend(self.rig.objects(message));
                let known = Known { octets, message, report, deleted_at: None };
                self.known.entry((number, entry.uid)).or_insert(known);
            }
        }
    }

    fn undelete(&mut self, folder: usize) {
        let asked = UndeleteAsked {
            gateway_mailbox: self.rig.mailbox.id,
            folder: self.folders[folder].clone(),
            since: Timestamp::from_unix_ms(0),
            until: None,
            most: UNDELETED_MAX,
        };
        let back = runtime().block_on(self.rig.store.undelete(asked, "test")).unwrap();
        let gone =
            self.known.iter().filter(|((of, _), known)| *of == folder && known.deleted_at.is_some()).count();
        assert_eq!(back.entries.len(), gone, "all that is not freed comes back");
        for entry in back.entries {
            let known = self.known.remove(&(folder, entry.of)).unwrap();
            self.known.insert((folder, entry.uid), Known { deleted_at: None, ..known });
        }
    }

    /// What is past its grace is no more.
    fn forget(&mut self) {
        let now = self.rig.store.shared.clock.trusted().unwrap().unix_ms();
        self.known.retain(|_, known| known.deleted_at.is_none_or(|at| now - at < 7 * DAY_MS));
        let messages = self.known.values().flat_map(|known| [known.message, known.report]);
        let needed: BTreeSet<u64> = messages.flat_map(|message| self.rig.objects(message)).collect();
        let freed = self.rig.freed();
        assert!(freed.is_disjoint(&needed), "freed although needed");
        for object in self.ever.difference(&needed) {
            assert!(freed.contains(object), "object {object} is needed by nobody and not freed");
        }
    }

    fn check(&self) {
        for (number, folder) in self.folders.iter().enumerate() {
            for entry in self.rig.list(folder) {
                let known = &self.known[&(number, entry.uid)];
                assert_eq!(self.rig.read(entry.message).unwrap(), known.octets);
            }
        }
        let unpunched = self.rig.index(|index| index.unpunched_between(0, u64::MAX / 2));
        for object in self.rig.freed() {
            assert!(
                unpunched.contains(&object) || self.rig.is_zero(object),
                "object {object} is there still"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_shared_deleted_brought_back_and_freed_what_is_needed_stays_and_nothing_else(acts in acts()) {
        let folders = [FolderName::Inbox, user("bob"), user("eve")];
        let mut model = Model { rig: Rig::new(), folders, known: BTreeMap::new(), ever: BTreeSet::new() };
        for act in &acts {
            model = model.act(act);
            model.check();
        }
    }
}
