//! The embedded store through its public face: what is acknowledged stays, whatever happens to the files around it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "store/addresses.rs"]
mod addresses;
#[path = "store/checkpoints.rs"]
mod checkpoints;
#[path = "support/delivery.rs"]
mod delivery;
#[path = "store/flags.rs"]
mod flags;
#[path = "store/keeping.rs"]
mod keeping;
#[path = "store/keyrings.rs"]
mod keyrings;
#[path = "store/relations.rs"]
mod relations;
#[path = "store/revisions.rs"]
mod revisions;
#[path = "store/turned_away.rs"]
mod turned_away;

use daybook::mail::*;
use daybook::store::*;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

fn open(dir: &Path) -> (Embedded, OpenReport) {
    Embedded::open(&Options { data_dir: dir.to_owned(), reserve_octets: 0 }).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn create(store: &Embedded) -> (Arc<GatewayMailbox>, String) {
    let new = NewGatewayMailbox {
        name: "Contoso".to_owned(),
        domain: "gw.example".to_owned(),
        tenant: None,
        profile: Profile::Microsoft365,
        role: Role::default(),
    };
    let (made, password) = runtime().block_on(store.create_gateway_mailbox(new, "test")).unwrap();
    (made, password.to_string())
}

fn receipt(n: u8) -> ReceiptId {
    ReceiptId::new(1_800_000_000_000 + u64::from(n), [n; 10])
}

/// A delivery of `body`, placed in INBOX and, once per join, in the incoming folder of each user.
fn delivery(
    store: &Embedded,
    to: &GatewayMailbox,
    n: u8,
    body: &[u8],
    identity: &str,
    join: &str,
    users: &[&str],
) -> Delivery {
    let at = Timestamp::from_unix_ms(1_800_000_000_000 + i64::from(n));
    let mut sent = delivery::delivery(store, to, at, [n; 10], body);
    let stage = store.stage(to.id).unwrap();
    sent.class = Class::JournalReport;
    sent.message_id = Some(format!("<{n}@wrapper>"));
    sent.identity = stage.digest_key().identity(&[identity.as_bytes()]);
    sent.messages[0].join = stage.digest_key().join(&Digest::of(join.as_bytes()));
    sent.placements.extend(users.iter().map(|user| WantedPlacement {
        folder: FolderName::User { user: (*user).to_owned(), folder: UserFolder::Incoming },
        slug: Some(format!("{user}@contoso.example")),
        message: 0,
        once_per_join: true,
        in_view: None,
        reasons: vec![format!("Recipient {user}")],
    }));
    sent
}

fn deliver(store: &Embedded, delivery: Delivery) -> Delivered {
    runtime().block_on(store.deliver(vec![delivery])).unwrap().remove(0)
}

fn inbox(store: &Embedded, of: &GatewayMailbox) -> Listing {
    store.list(of.id, &FolderName::Inbox).unwrap()
}

fn body(store: &Embedded, key: &Unlocked, entry: &Entry) -> std::io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    store.open(key, entry.message).map_err(std::io::Error::other)?.read_to_end(&mut octets)?;
    Ok(octets)
}

fn close(store: Embedded) {
    runtime().block_on(store.close());
}

/// Ends a store as a crash would: no clean mark.
fn crash(store: Embedded) {
    drop(store);
}

fn only_segment(dir: &Path) -> std::path::PathBuf {
    let mut segments: Vec<_> = fs::read_dir(dir.join("log"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "seg"))
        .collect();
    segments.sort();
    segments.pop().unwrap()
}

#[test]
fn what_was_delivered_is_there_after_a_restart_with_the_same_uids() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, password) = create(&store);
    let large = vec![b'x'; 3_000_000];
    deliver(&store, delivery(&store, &mailbox, 1, b"small\r\n", "1", "1", &["bob"]));
    deliver(&store, delivery(&store, &mailbox, 2, &large, "2", "2", &["bob", "eve"]));
    let before = inbox(&store, &mailbox);
    assert_eq!(before.entries.iter().map(|e| e.uid.value()).collect::<Vec<_>>(), [1, 2]);
    close(store);

    let (store, report) = open(dir.path());
    assert_eq!(report, OpenReport::default());
    assert_eq!(inbox(&store, &mailbox), before);
    let key = store.unlock(mailbox.login(), &password).unwrap();
    assert_eq!(body(&store, &key, &before.entries[0]).unwrap(), b"small\r\n");
    assert!(body(&store, &key, &before.entries[1]).unwrap() == large);
    let folders: Vec<_> =
        store.folders(mailbox.id).unwrap().into_iter().map(|f| (f.path, f.entries)).collect();
    assert_eq!(
        folders,
        [
            ("INBOX".to_owned(), 2),
            ("Users/bob@contoso.example/Journal Incoming".to_owned(), 2),
            ("Users/eve@contoso.example/Journal Incoming".to_owned(), 1),
        ]
    );
}

#[test]
fn the_same_again_adds_no_placement_and_a_fork_adds_only_what_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, _) = create(&store);
    deliver(&store, delivery(&store, &mailbox, 1, b"a", "report 1", "mail", &["bob"]));
    let again = deliver(&store, delivery(&store, &mailbox, 2, b"a", "report 1", "mail", &["bob"]));
    assert_eq!((again.repeats, again.placements.len()), (Some(receipt(1)), 0));
    let fork =
        deliver(&store, delivery(&store, &mailbox, 3, b"a, fork", "report 2", "mail", &["bob", "eve"]));
    assert_eq!(fork.repeats, None);
    assert_eq!(
        fork.placements.iter().map(|(path, uid)| (path.as_str(), uid.value())).collect::<Vec<_>>(),
        [("INBOX", 2), ("Users/eve@contoso.example/Journal Incoming", 1)]
    );
    assert_eq!(fork.spared.len(), 1);
    // Decided inside one group too.
    let both = vec![
        delivery(&store, &mailbox, 4, b"b", "report 3", "other", &["bob"]),
        delivery(&store, &mailbox, 5, b"b", "report 3", "other", &["bob"]),
    ];
    let both = runtime().block_on(store.deliver(both)).unwrap();
    assert_eq!(both[1].repeats, Some(receipt(4)));
    assert_eq!(inbox(&store, &mailbox).entries.len(), 3);
}

#[test]
fn the_index_can_be_deleted_or_spoilt_and_comes_back_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, password) = create(&store);
    for n in 1..20 {
        deliver(&store, delivery(&store, &mailbox, n, &[n; 100], &n.to_string(), &n.to_string(), &["bob"]));
    }
    let client = Client {
        protocol: "pop3".to_owned(),
        peer: "127.0.0.1".parse().unwrap(),
        session_id: SessionId::new(2, [1; 10]),
    };
    let uids = [Uid::new(2).unwrap(), Uid::new(3).unwrap(), Uid::new(77).unwrap()];
    assert_eq!(
        runtime().block_on(store.expunge(mailbox.id, &FolderName::Inbox, &uids, &client)).unwrap().len(),
        2
    );
    let before = inbox(&store, &mailbox);
    close(store);
    for spoil in [false, true] {
        for name in ["index.sqlite", "index.sqlite-wal", "index.sqlite-shm"] {
            let path = dir.path().join(name);
            if path.exists() {
                if spoil {
                    fs::write(&path, vec![0x55; 8192]).unwrap()
                } else {
                    fs::remove_file(&path).unwrap()
                }
            }
        }
        let (store, report) = open(dir.path());
        assert_eq!(report.index_rebuilt.is_some(), spoil);
        assert!(report.damage.is_empty() && report.replayed_groups >= 20, "{report:?}");
        assert_eq!(inbox(&store, &mailbox), before);
        let key = store.unlock(mailbox.login(), &password).unwrap();
        assert_eq!(body(&store, &key, &before.entries[0]).unwrap(), [1; 100]);
        let views = store.receipts(&ReceiptQuery::Id(receipt(2)), Timestamp::from_unix_ms(0), 10).unwrap();
        assert_eq!(views[0].placements[0].events[0].kind, "deleted");
        close(store);
    }
}

#[test]
fn a_torn_last_group_is_put_aside_and_everything_before_it_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, password) = create(&store);
    deliver(&store, delivery(&store, &mailbox, 1, b"kept", "1", "1", &[]));
    crash(store);
    // Half a group, as a power cut leaves it.
    let path = only_segment(dir.path());
    let whole = fs::read(&path).unwrap();
    let group = whole.windows(4).position(|w| w == b"DBG1").unwrap();
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(&whole[group..group + 300]).unwrap();
    let (store, report) = open(dir.path());
    assert_eq!((report.torn.len(), report.damage.len()), (1, 0), "{report:?}");
    assert_eq!(fs::read_dir(dir.path().join("log/torn")).unwrap().count(), 1);
    deliver(&store, delivery(&store, &mailbox, 2, b"after", "2", "2", &[]));
    crash(store);
    let (store, report) = open(dir.path());
    assert_eq!((report.torn.len(), report.damage.len()), (0, 0), "{report:?}");
    let listing = inbox(&store, &mailbox);
    let key = store.unlock(mailbox.login(), &password).unwrap();
    let bodies: Vec<_> = listing.entries.iter().map(|e| body(&store, &key, e).unwrap()).collect();
    assert_eq!(bodies, [b"kept".to_vec(), b"after".to_vec()]);
}

#[test]
fn damage_in_the_middle_is_named_and_other_mail_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, password) = create(&store);
    for n in 1..=3 {
        deliver(
            &store,
            delivery(&store, &mailbox, n, &[b'0' + n; 50_000], &n.to_string(), &n.to_string(), &[]),
        );
    }
    close(store);
    let path = only_segment(dir.path());
    let mut octets = fs::read(&path).unwrap();
    let middle = octets.len() / 2;
    octets[middle] ^= 0xff;
    fs::write(&path, &octets).unwrap();

    let (store, _) = open(dir.path());
    let listing = inbox(&store, &mailbox);
    let key = store.unlock(mailbox.login(), &password).unwrap();
    let read: Vec<_> = listing.entries.iter().map(|e| body(&store, &key, e)).collect();
    assert_eq!(read.iter().filter(|r| r.is_err()).count(), 1, "one is damaged");
    for (n, octets) in read.iter().enumerate().filter_map(|(n, r)| r.as_ref().ok().map(|o| (n, o))) {
        assert!(octets == &vec![b'1' + n as u8; 50_000]);
    }
    close(store);

    // Without its index the store says what it lost, and keeps the rest.
    fs::remove_file(dir.path().join("index.sqlite")).unwrap();
    let (store, report) = open(dir.path());
    assert_eq!(report.damage.len(), 1, "{report:?}");
    let after = inbox(&store, &mailbox);
    assert_eq!(after.entries.len(), 3, "never silently fewer");
    assert_eq!(after.entries.iter().filter(|e| body(&store, &key, e).is_err()).count(), 1);
    assert!(octets == fs::read(&path).unwrap(), "damaged octets are kept");
    drop(store);
}

#[test]
fn a_log_that_lost_its_end_is_damage_and_no_uid_is_handed_out_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, _) = create(&store);
    for n in 1..=3 {
        deliver(&store, delivery(&store, &mailbox, n, &[n; 1000], &n.to_string(), &n.to_string(), &[]));
    }
    close(store);
    let path = only_segment(dir.path());
    let length = fs::metadata(&path).unwrap().len();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 500).unwrap();
    let (store, report) = open(dir.path());
    assert_eq!(report.damage.len(), 1, "{report:?}");
    let new = deliver(&store, delivery(&store, &mailbox, 9, b"new", "9", "9", &[]));
    assert!(new.placements[0].1.value() > 3);
    assert_eq!(inbox(&store, &mailbox).entries.len(), 4, "never silently fewer");
}

#[test]
fn content_files_of_a_crash_are_put_aside_and_those_in_use_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, password) = create(&store);
    let large = vec![7; 2_000_000];
    deliver(&store, delivery(&store, &mailbox, 1, &large, "1", "1", &[]));
    // Sealed, never delivered: the file goes when it is dropped.
    drop(delivery(&store, &mailbox, 2, &large, "2", "2", &[]));
    let files = || -> usize {
        let shards = fs::read_dir(dir.path().join("content")).unwrap().map(|e| e.unwrap().path());
        shards.filter(|p| !p.ends_with("orphaned")).map(|p| fs::read_dir(p).unwrap().count()).sum()
    };
    assert_eq!(files(), 1);
    fs::create_dir_all(dir.path().join("content/00")).unwrap();
    fs::write(dir.path().join("content/00/left.age"), b"half").unwrap();
    crash(store);
    let (store, report) = open(dir.path());
    assert_eq!(report.orphaned, ["00/left.age"]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while files() > 1 {
        assert!(std::time::Instant::now() < deadline, "not put aside");
        std::thread::yield_now();
    }
    assert_eq!(fs::read(dir.path().join("content/orphaned/00left.age")).unwrap(), b"half");
    let key = store.unlock(mailbox.login(), &password).unwrap();
    assert!(body(&store, &key, &inbox(&store, &mailbox).entries[0]).unwrap() == large);
}

#[test]
fn only_one_process_and_only_the_right_password_get_in() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let again = Embedded::open(&Options { data_dir: dir.path().to_owned(), reserve_octets: 0 });
    assert!(matches!(again, Err(StoreError::Locked)));
    let (mailbox, password) = create(&store);
    assert!(matches!(store.unlock(mailbox.login(), "wrong"), Err(UnlockError::Wrong)));
    assert!(matches!(store.unlock("mbx-nobody", &password), Err(UnlockError::Wrong)));
    assert!(store.unlock(mailbox.address().unwrap().as_str(), &password).is_ok());
    let full =
        Embedded::open(&Options { data_dir: dir.path().join("other"), reserve_octets: u64::MAX }).unwrap().0;
    let (other, _) = create(&full);
    assert!(matches!(full.stage(other.id), Err(StoreError::Full)));
}

#[test]
fn nothing_readable_lies_in_the_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, password) = create(&store);
    let secret = b"the-quick-brown-secret".repeat(100_000);
    deliver(&store, delivery(&store, &mailbox, 1, &secret, "1", "1", &[]));
    deliver(&store, delivery(&store, &mailbox, 2, b"the-quick-brown-secret", "2", "2", &[]));
    close(store);
    fn walk(dir: &Path, found: &mut Vec<u8>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.extend(fs::read(&path).unwrap()) }
        }
    }
    let mut all = Vec::new();
    walk(dir.path(), &mut all);
    assert!(all.len() > secret.len());
    let holds = |needle: &[u8]| all.windows(needle.len()).any(|w| w == needle);
    assert!(!holds(b"quick-brown"));
    assert!(!holds(password.as_bytes()) && !holds(b"AGE-SECRET-KEY"));
}

#[test]
fn a_gateway_mailbox_is_deleted_only_when_suspended_and_empty_or_by_force() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, password) = create(&store);
    deliver(&store, delivery(&store, &mailbox, 1, b"x", "1", "1", &[]));
    let change = |c: GatewayMailboxChange| {
        runtime().block_on(store.change_gateway_mailbox(mailbox.id, vec![c], "test"))
    };
    assert!(matches!(change(GatewayMailboxChange::Delete { force: true }), Err(StoreError::Refused(_))));
    assert_eq!(change(GatewayMailboxChange::Suspend).unwrap().state, GatewayMailboxState::Suspended);
    assert!(matches!(change(GatewayMailboxChange::Delete { force: false }), Err(StoreError::Refused(_))));
    change(GatewayMailboxChange::Delete { force: true }).unwrap();
    assert!(store.gateway_mailbox(&mailbox.address().unwrap().key()).is_none());
    assert!(store.gateway_mailboxes().is_empty());
    assert!(matches!(store.unlock(mailbox.login(), &password), Err(UnlockError::Wrong)));
}

/// Copies the index of an open store, as a power cut may leave it: behind the log.
fn copy_index(from: &Path, to: &Path) {
    for name in ["index.sqlite", "index.sqlite-wal"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

#[test]
fn an_index_that_is_behind_is_brought_up_and_the_unsynced_end_is_secured_first() {
    let dir = tempfile::tempdir().unwrap();
    let old = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, password) = create(&store);
    deliver(&store, delivery(&store, &mailbox, 1, b"one", "1", "1", &["bob"]));
    copy_index(dir.path(), old.path());
    for n in 2..=5 {
        deliver(&store, delivery(&store, &mailbox, n, &[n; 3000], &n.to_string(), &n.to_string(), &["bob"]));
    }
    let before = inbox(&store, &mailbox);
    crash(store);
    copy_index(old.path(), dir.path());
    let segment = only_segment(dir.path());

    let (store, report) = open(dir.path());
    assert_eq!((report.replayed_groups, report.damage.len(), report.torn.len()), (4, 0, 0), "{report:?}");
    assert_eq!(inbox(&store, &mailbox), before);
    assert_ne!(only_segment(dir.path()), segment, "the end stands in a segment of its own, synced");
    let key = store.unlock(mailbox.login(), &password).unwrap();
    for (entry, n) in before.entries.iter().zip(1_u8..).skip(1) {
        assert_eq!(body(&store, &key, entry).unwrap(), [n; 3000]);
    }
    // What was replayed counts as known: the same again is the same.
    assert_eq!(
        deliver(&store, delivery(&store, &mailbox, 9, &[3; 3000], "3", "3", &["bob"])).repeats,
        Some(receipt(3))
    );
    crash(store);
    let (store, report) = open(dir.path());
    assert_eq!((report.damage.len(), report.torn.len()), (0, 0), "{report:?}");
    assert_eq!(inbox(&store, &mailbox), before);
}

#[test]
fn a_spoilt_index_is_noticed_and_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, _) = create(&store);
    for n in 1..=40 {
        deliver(&store, delivery(&store, &mailbox, n, &[n; 200], &n.to_string(), &n.to_string(), &["bob"]));
    }
    close(store);
    let path = dir.path().join("index.sqlite");
    let mut octets = fs::read(&path).unwrap();
    // All pages but the first, which says how large the file is.
    octets[4096..].fill(0x55);
    fs::write(&path, &octets).unwrap();
    let (store, report) = open(dir.path());
    assert!(report.index_rebuilt.is_some(), "{report:?}");
    let new = deliver(&store, delivery(&store, &mailbox, 99, b"new", "99", "99", &["bob"]));
    assert_eq!(new.placements[0].1.value(), 41);
    assert_eq!(inbox(&store, &mailbox).entries.len(), 41);
}

#[test]
fn without_an_index_nothing_is_cut_and_no_uidl_is_used_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, _) = create(&store);
    for n in 1..=3 {
        deliver(&store, delivery(&store, &mailbox, n, &[n; 500], &n.to_string(), &n.to_string(), &[]));
    }
    let before = inbox(&store, &mailbox);
    crash(store);
    fs::remove_file(dir.path().join("index.sqlite")).unwrap();
    // One bit of the last entry: with the index gone, nobody can tell whether it was acknowledged.
    let path = only_segment(dir.path());
    let mut octets = fs::read(&path).unwrap();
    let last = octets.windows(19).rposition(|w| w == b"\"fact\":\"received\",\"" as &[u8]).unwrap();
    octets[last] ^= 1;
    fs::write(&path, &octets).unwrap();

    let (store, report) = open(dir.path());
    assert!(report.torn.is_empty() && report.damage.len() == 1, "{report:?}");
    let left = inbox(&store, &mailbox);
    assert_eq!(left.entries, before.entries[..2]);
    let new = deliver(&store, delivery(&store, &mailbox, 9, b"new", "9", "9", &[]));
    let listing = inbox(&store, &mailbox);
    assert!(new.placements[0].1.value() > 3 && listing.entries[2].epoch > before.entries[2].epoch);
    assert_eq!(listing.entries.len(), 3);
}

#[test]
fn a_damaged_segment_header_is_named_and_its_mail_served() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, password) = create(&store);
    deliver(&store, delivery(&store, &mailbox, 1, b"kept", "1", "1", &[]));
    close(store);
    let path = only_segment(dir.path());
    let mut octets = fs::read(&path).unwrap();
    octets[20] ^= 1;
    fs::write(&path, &octets).unwrap();
    for without_index in [false, true] {
        if without_index {
            fs::remove_file(dir.path().join("index.sqlite")).unwrap();
        }
        let (store, report) = open(dir.path());
        assert_eq!(report.damage.len(), 1, "{report:?}");
        let key = store.unlock(mailbox.login(), &password).unwrap();
        assert_eq!(body(&store, &key, &inbox(&store, &mailbox).entries[0]).unwrap(), b"kept");
        close(store);
    }
}

#[test]
fn a_rotten_copy_is_never_taken_for_one_that_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, _) = create(&store);
    deliver(&store, delivery(&store, &mailbox, 1, &[7; 9000], "1", "1", &[]));
    let stage = store.stage(mailbox.id).unwrap();
    let exact = stage.digest_key().exact(&Digest::of(&[7; 9000]));
    assert!(matches!(stage.held(&exact).unwrap(), Holding::Whole(_)));
    let path = only_segment(dir.path());
    let mut octets = fs::read(&path).unwrap();
    let payload = octets.windows(21).position(|w| w == b"age-encryption.org/v1").unwrap();
    octets[payload + 500] ^= 1;
    fs::write(&path, &octets).unwrap();
    assert_eq!(stage.held(&exact).unwrap(), Holding::Damaged);
    // The same report again heals: it is no repetition, and placed anew.
    let mut again = delivery(&store, &mailbox, 2, &[7; 9000], "1", "1", &[]);
    again.heals = true;
    let healed = deliver(&store, again);
    assert_eq!((healed.repeats, healed.placements.len()), (None, 1));
    assert!(matches!(stage.held(&exact).unwrap(), Holding::Whole(_)), "the newest copy counts");
}

#[test]
fn activity_tells_when_mail_came_and_went() {
    const HOUR_MS: i64 = 3_600_000;
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (to, _) = create(&store);
    let (other, _) = create(&store);
    assert_eq!(store.activity(to.id, Timestamp::from_unix_ms(0)).unwrap(), Activity::default());

    let start = 1_800_000_000_000_i64 - 1_800_000_000_000_i64 % HOUR_MS;
    // Two in the first hour, none in the second, two in the third: the last one had begun earlier.
    for (n, at) in [(1, start), (2, start + 5), (3, start + 2 * HOUR_MS + 9), (4, start + 2 * HOUR_MS + 7)] {
        let mut sent = delivery(&store, &to, n, &[n; 40], &format!("i{n}"), &format!("j{n}"), &["a"]);
        sent.received_at = Timestamp::from_unix_ms(at);
        deliver(&store, sent);
    }
    let hours = |since: i64| store.activity(to.id, Timestamp::from_unix_ms(since)).unwrap().arrivals;
    let at = Timestamp::from_unix_ms;
    assert_eq!(hours(0), [(at(start), 2), (at(start + 2 * HOUR_MS), 2)]);
    assert_eq!(hours(start + 6), [(at(start + 2 * HOUR_MS), 2)]);
    assert_eq!(hours(start + 2 * HOUR_MS + 8), [(at(start + 2 * HOUR_MS), 1)]);
    let late = store.activity(to.id, at(start + 9 * HOUR_MS)).unwrap();
    assert_eq!((late.arrivals, late.last_fetched), (vec![], None));
    assert_eq!(late.last_received, Some(at(start + 2 * HOUR_MS + 9)), "whatever since is");

    // The same report again is no arrival; what is deleted was one.
    deliver(&store, delivery(&store, &to, 9, &[1; 40], "i1", "j1", &["a"]));
    let client = Client {
        protocol: "pop3".to_owned(),
        peer: "127.0.0.1".parse().unwrap(),
        session_id: SessionId::new(2, [0; 10]),
    };
    let before = daybook::observe::now();
    let uids: Vec<Uid> = inbox(&store, &to).entries.iter().map(|entry| entry.uid).collect();
    runtime().block_on(store.expunge(to.id, &FolderName::Inbox, &uids, &client)).unwrap();
    let after = store.activity(to.id, at(0)).unwrap();
    assert_eq!(after.arrivals, hours(0));
    assert_eq!(after.arrivals.iter().map(|(_, count)| count).sum::<u64>(), 4);
    assert!(after.last_fetched.unwrap() >= before, "{after:?}");
    assert_eq!(store.activity(other.id, at(0)).unwrap(), Activity::default(), "of another gateway mailbox");
    close(store);
}

#[test]
fn mail_about_our_own_notices_counts_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (to, _) = create(&store);
    let (other, _) = create(&store);
    let at = Timestamp::from_unix_ms;
    let start = 1_800_000_000_000_i64;
    let since = at(start);
    assert_eq!(store.tally(to.id, since).unwrap(), Tally::default());
    let send = |n: u8, message_id: &str, folder: FolderName| {
        let mut sent = delivery(&store, &to, n, &[n; 40], &format!("i{n}"), &format!("j{n}"), &["a"]);
        sent.message_id = Some(message_id.to_owned());
        sent.placements[1].folder = folder;
        deliver(&store, sent);
    };
    let incoming = || FolderName::User { user: "a".to_owned(), folder: UserFolder::Incoming };
    send(1, "<1@x>", incoming());
    send(2, "<daybook-notice.1@gw.example>", incoming());
    send(3, "<3@x>", FolderName::Quarantine);
    send(4, "<4@x>", FolderName::Unassigned);
    send(5, "<daybook-notice.2@gw.example>", FolderName::Quarantine);
    let expect = Tally {
        received: 3,
        octets: 120,
        in_user_folders: 1,
        unassigned: 1,
        quarantined: 1,
        fetched: 0,
        waiting: 3,
        waiting_octets: 120,
        oldest_waiting: Some(at(start + 1)),
    };
    assert_eq!(store.tally(to.id, since).unwrap(), expect);
    let activity = store.activity(to.id, since).unwrap();
    assert_eq!(activity.last_received, Some(at(start + 4)), "the notice that came last is not told of");
    assert_eq!(activity.arrivals.iter().map(|(_, count)| count).sum::<u64>(), 3);

    let client = Client {
        protocol: "pop3".to_owned(),
        peer: "127.0.0.1".parse().unwrap(),
        session_id: SessionId::new(2, [0; 10]),
    };
    let uids: Vec<Uid> = inbox(&store, &to).entries.iter().map(|entry| entry.uid).collect();
    // Fetching happens by the clock, which is behind the times of these messages.
    let before = daybook::observe::now();
    runtime().block_on(store.record_fetched(to.id, &FolderName::Inbox, &uids, &client)).unwrap();
    runtime().block_on(store.expunge(to.id, &FolderName::Inbox, &uids[..2], &client)).unwrap();
    let left = store.tally(to.id, before).unwrap();
    assert_eq!((left.received, left.fetched, left.waiting), (3, 5, 2));
    assert_eq!(left.oldest_waiting, Some(at(start + 3)));
    let later = store.tally(to.id, at(start + 4)).unwrap();
    assert_eq!((later.received, later.quarantined, later.waiting), (1, 0, 2), "what waits is older");
    assert_eq!(store.tally(other.id, since).unwrap(), Tally::default(), "of another gateway mailbox");
    let space = store.space().unwrap();
    assert!(space.free_octets > 0 && space.reserve_octets == 0, "{space:?}");
    close(store);
}
