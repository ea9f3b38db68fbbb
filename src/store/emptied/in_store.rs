//! A store whose first segments gave way to their entries: it opens, serves, explains, and is proved whole as before.

use super::*;
use crate::mail::{GatewayMailbox, Keeping, Timestamp, Uid};
use crate::store::format::{GroupHeader, SegmentHeader};
use crate::store::freeing;
use crate::store::index::Index;
use crate::store::log::{Log, Position, segment_path};
use crate::store::{
    Client, Embedded, FolderName, GatewayMailboxChange, OpenReport, Options, Progress, ReceiptQuery, Store,
    StoreError, VerifyOptions, VerifyReport, rebuild_index, verify,
};
use rusqlite::types::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Messages that come while one segment is the last.
const MESSAGES: usize = 300;
/// Of four segments the first two give way to their entries.
const EMPTIED: u64 = 2;

fn options(dir: &Path) -> Options {
    Options { data_dir: dir.to_owned(), reserve_octets: 0 }
}

fn open(dir: &Path) -> (Embedded, OpenReport) {
    Embedded::open(&options(dir)).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// Message `n`: one to two KB, of which no two are alike.
fn message(n: usize) -> Vec<u8> {
    let lines =
        (0..16 + n % 16).map(|line| format!("{n:08} {:052x}\r\n", (n + 7) * (line + 11) * 7_919_000_003));
    let mut octets =
        format!("From: u{n}@contoso.example\r\nMessage-ID: <{n}@contoso.example>\r\n\r\n").into_bytes();
    octets.extend(lines.flat_map(String::into_bytes));
    octets
}

fn deliver(store: &Embedded, to: &GatewayMailbox, from: usize) {
    let numbers: Vec<usize> = (from..from + MESSAGES).collect();
    for some in numbers.chunks(50) {
        let deliveries = some.iter().map(|n| {
            let at = Timestamp::from_unix_ms(1_800_000_000_000 + *n as i64);
            let mut random = [0; 10];
            random[..8].copy_from_slice(&(*n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
            crate::store::delivered::delivery(store, to, at, random, &message(*n))
        });
        runtime().block_on(store.deliver(deliveries.collect())).unwrap();
    }
}

/// Begins segment `number`, as one that is full has the next one begun.
fn next_segment(dir: &Path, number: u64) {
    let mut take = |_: &Position, _: u64, _: &GroupHeader, _: &[u8]| Ok(());
    let (log, _) = Log::open(dir, None, false, None, &mut take).unwrap();
    let end = log.position();
    log.mark_clean().unwrap();
    let header =
        SegmentHeader { number, previous: number - 1, previous_octets: end.offset, chain: end.chain };
    fs::write(segment_path(dir, number), header.encode()).unwrap();
}

/// Has all that is deleted freed at once, and none of its room given back.
fn free(store: &Embedded, of: &GatewayMailbox) {
    let becomes = Keeping { grace_days: 0, ..Keeping::default() };
    let no_grace = vec![GatewayMailboxChange::Keeping { was: of.keeping, becomes }];
    runtime().block_on(store.change_gateway_mailbox(of.id, no_grace, "test")).unwrap();
    let in_grace = || {
        let count = |index: &Index| {
            let sql = "SELECT count(*) FROM in_grace";
            Ok(index.connection().query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap())
        };
        store.shared.read(count).unwrap()
    };
    assert_ne!(in_grace(), 0);
    let trusted = store.shared.clock.trusted().unwrap();
    freeing::pass(&store.shared, &store.commands.downgrade(), trusted, &|| in_grace() > 0).1.unwrap();
    assert_eq!(in_grace(), 0);
}

/// A store of four segments, of which the content in the first two is freed; closed.
fn store(dir: &Path) -> (Arc<GatewayMailbox>, String) {
    let (mut made, mut password) = (None, String::new());
    for segment in 1..=4 {
        let (store, _) = open(dir);
        if segment == 1 {
            let new = crate::store::NewGatewayMailbox {
                name: "Contoso".to_owned(),
                domain: "gw.example".to_owned(),
                tenant: None,
                profile: crate::mail::Profile::Microsoft365,
                role: crate::mail::Role::default(),
            };
            let created = runtime().block_on(store.create_gateway_mailbox(new, "test")).unwrap();
            (made, password) = (Some(created.0), created.1.to_string());
        }
        let to = made.clone().unwrap();
        deliver(&store, &to, (segment - 1) * MESSAGES);
        if segment == 4 {
            let uids: Vec<Uid> =
                (1..=MESSAGES as u32 * EMPTIED as u32).map(|uid| Uid::new(uid).unwrap()).collect();
            let by = Client {
                session_id: crate::mail::SessionId::new(1, [0; 10]),
                peer: "127.0.0.1".parse().unwrap(),
                protocol: "pop3".to_owned(),
            };
            let gone = runtime().block_on(store.expunge(to.id, &FolderName::Inbox, &uids, &by)).unwrap();
            assert_eq!(gone, uids);
            free(&store, &to);
        }
        store.close_blocking();
        if segment < 4 {
            next_segment(&dir.join("log"), segment as u64 + 1);
        }
    }
    (made.unwrap(), password)
}

/// Every row of the index.
fn rows(dir: &Path) -> BTreeMap<String, Vec<Vec<Value>>> {
    let index = rusqlite::Connection::open(dir.join("index.sqlite")).unwrap();
    let mut tables =
        index.prepare("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").unwrap();
    let names: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let rows_of = |name: &String| {
        let mut statement = index.prepare(&format!("SELECT * FROM {name}")).unwrap();
        let columns = statement.column_count();
        let row = |row: &rusqlite::Row<'_>| (0..columns).map(|column| row.get(column)).collect();
        let mut rows: Vec<Vec<Value>> = statement.query_map([], row).unwrap().map(Result::unwrap).collect();
        rows.sort_by_key(|row| format!("{row:?}"));
        rows
    };
    names.iter().map(|name| (name.clone(), rows_of(name))).collect()
}

fn verified(dir: &Path, deep: bool) -> VerifyReport {
    let (checkpoints, checkpoint_dir, key) = (None, None, None);
    let options = VerifyOptions { data_dir: dir.to_owned(), deep, checkpoints, checkpoint_dir, key };
    verify(&options, &mut |_| ()).unwrap()
}

/// Reads all that is stored again; gives what is damaged.
fn scrubbed(store: &Embedded) -> Vec<String> {
    store.set_scrub(1 << 40);
    let deadline = Instant::now() + Duration::from_secs(60);
    store.scrub_now().unwrap();
    while store.scrub().last.is_none() {
        assert!(Instant::now() < deadline, "not in time");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    store.scrub().things.into_iter().map(|thing| thing.place).collect()
}

#[test]
fn a_store_whose_first_segments_are_entries_alone_does_all_it_did() {
    let dir = tempfile::tempdir().unwrap();
    let (made, password) = store(dir.path());
    let before = rows(dir.path());
    let all = |store: &Embedded| {
        let views = store.receipts(&ReceiptQuery::All, Timestamp::from_unix_ms(0), 9_999).unwrap();
        views.iter().map(|view| format!("{view:?}")).collect::<Vec<String>>()
    };
    let explained = {
        let (store, _) = open(dir.path());
        let explained = all(&store);
        store.close_blocking();
        explained
    };
    assert_eq!(explained.len(), 4 * MESSAGES);
    for number in 1..=EMPTIED {
        assert!(exchange(&dir.path().join("log"), number).unwrap() > 0);
    }

    let (store, report) = open(dir.path());
    assert_eq!((report.damage, report.index_rebuilt), (vec![], None));
    assert!(all(&store) == explained, "what a receipt says is in its entry");
    let key = store.unlock(made.address().unwrap().local(), &password).unwrap();
    let listing = store.list(made.id, &FolderName::Inbox).unwrap();
    assert_eq!(listing.entries.len(), 2 * MESSAGES);
    for (entry, n) in listing.entries.iter().zip(EMPTIED as usize * MESSAGES..) {
        let mut octets = Vec::new();
        store.open(&key, entry.message).unwrap().read_to_end(&mut octets).unwrap();
        assert!(octets == message(n), "{n}");
    }
    assert_eq!(scrubbed(&store), Vec::<String>::new());
    store.close_blocking();
    drop(store);

    let verified_so = verified(dir.path(), false);
    assert!(verified_so.whole && verified_so.index_compared, "{:?}", verified_so.findings);
    assert_eq!(verified_so.segments, 4);
    let deep = verified(dir.path(), true);
    assert!(deep.whole, "{:?}", deep.findings.first());
    assert_eq!((deep.emptied_segments, deep.freed.waiting_objects), (EMPTIED, Some(0)));

    rebuild_index(&options(dir.path()), Arc::new(Progress::default())).unwrap();
    let after = rows(dir.path());
    for (table, rows) in &before {
        assert!(after.get(table) == Some(rows), "{table}");
    }
    assert_eq!(before.len(), after.len());
    let (store, report) = open(dir.path());
    assert_eq!(report.damage, Vec::<String>::new());
    assert!(all(&store) == explained);
}

#[test]
fn a_damaged_block_is_named_with_its_entries_and_all_others_are_told() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path());
    let log_dir = dir.path().join("log");
    exchange(&log_dir, 1).unwrap();
    let path = entries_path(&log_dir, 1);
    let mut octets = fs::read(&path).unwrap();
    let last = memchr::memmem::rfind(&octets, format::BLOCK_MAGIC).unwrap();
    octets[last + 100] ^= 1;
    fs::write(&path, &octets).unwrap();
    let report = verified(dir.path(), false);
    let damage: Vec<_> = report.findings.iter().filter(|found| found.damage).collect();
    assert!(
        !report.whole && damage.iter().any(|found| found.what.contains("00000001.entries: block at")),
        "{damage:?}"
    );
    let (store, _) = open(dir.path());
    let views = store.receipts(&ReceiptQuery::All, Timestamp::from_unix_ms(0), 9_999).unwrap();
    assert!((3 * MESSAGES..4 * MESSAGES).contains(&views.len()), "{}", views.len());
    let damaged = scrubbed(&store);
    octets[last + 100] ^= 1;
    fs::write(&path, &octets).unwrap();
    let views = store.receipts(&ReceiptQuery::All, Timestamp::from_unix_ms(0), 9_999).unwrap();
    assert_eq!(views.len(), 4 * MESSAGES, "a file that is put right is read at once");
    assert!(damaged.iter().any(|place| place.starts_with("log/00000001.entries at ")), "{damaged:?}");
}

#[test]
fn a_segment_of_small_messages_shrinks_to_a_small_part() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path());
    let log_dir = dir.path().join("log");
    let segment = fs::metadata(segment_path(&log_dir, 2)).unwrap().len();
    exchange(&log_dir, 2).unwrap();
    let entries = fs::metadata(entries_path(&log_dir, 2)).unwrap().len();
    assert!(entries * 5 < segment, "{segment} octets became {entries}");
    assert!(matches!(exchange(&log_dir, 4), Err(StoreError::Refused(_))));
}
