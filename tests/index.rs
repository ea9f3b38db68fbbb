//! The index is only an answer to questions: deleted, damaged, or cut off while it is made, it comes back from the log with every
//! row it had. Until then nothing is missing without an error.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures are to be read")]

#[path = "support/daybook.rs"]
mod support;

#[path = "support/delivery.rs"]
mod delivery;

#[path = "support/dice.rs"]
mod dice;

use daybook::mail::*;
use daybook::store::*;
use dice::Dice;
use rusqlite::types::Value;
use serde_json::Value as Json;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Instant;
use support::{Site, wait_until};

const TABLES: [&str; 22] = [
    "meta",
    "census",
    "gateway_mailbox",
    "folder",
    "object",
    "receipt",
    "message",
    "placement",
    "folder_event",
    "name",
    "revision",
    "placed_later",
    "departure",
    "key_file",
    "turned_away",
    "turned_away_name",
    "keeping_event",
    "in_grace",
    "object_use",
    "freed",
    "unpunched",
    "flags",
];

fn open(dir: &Path) -> (Embedded, OpenReport) {
    Embedded::open(&Options { data_dir: dir.to_owned(), reserve_octets: 0 }).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn close(store: Embedded) {
    runtime().block_on(store.close());
}

/// Message `number` of a store that is filled: its octets.
fn body(number: u16) -> Vec<u8> {
    match number % 10 {
        // Over the size from which content lies in a file of its own.
        9 => vec![b'x'; 1_200_000 + usize::from(number)],
        _ => format!("Subject: {number}\r\n\r\nbody of message {number}\r\n").into_bytes(),
    }
}

fn deliver(store: &Embedded, to: &GatewayMailbox, number: u16) {
    let [high, low] = number.to_be_bytes();
    let at = Timestamp::from_unix_ms(1_800_000_000_000 + i64::from(number));
    let mut sent = delivery::delivery(store, to, at, [high, low, 0, 0, 0, 0, 0, 0, 0, 1], &body(number));
    sent.message_id = Some(format!("<{number}@wrapper>"));
    sent.placements.extend(["bob", "eve"].iter().take(usize::from(number % 3)).map(|user| WantedPlacement {
        folder: FolderName::User { user: (*user).to_owned(), folder: UserFolder::Incoming },
        slug: Some(format!("{user}@contoso.example")),
        message: 0,
        once_per_join: true,
        in_view: None,
        reasons: vec![format!("Recipient {user}")],
    }));
    runtime().block_on(store.deliver(vec![sent])).unwrap();
}

/// A store with two gateway mailboxes and a bit of everything. Closed; with what opens the first.
fn filled(dir: &Path, messages: u16) -> (GatewayMailboxId, Unlocked) {
    let (store, _) = open(dir);
    let new = |name: &str| NewGatewayMailbox {
        name: name.to_owned(),
        domain: "gw.example".to_owned(),
        tenant: None,
        profile: Profile::Microsoft365,
        role: Role::default(),
    };
    let (mailbox, password) =
        runtime().block_on(store.create_gateway_mailbox(new("Contoso"), "test")).unwrap();
    let (other, _) = runtime().block_on(store.create_gateway_mailbox(new("Fabrikam"), "test")).unwrap();
    for number in 1..=messages {
        deliver(&store, if number % 7 == 0 { &other } else { &mailbox }, number);
    }
    let client = Client {
        protocol: "pop3".to_owned(),
        peer: "127.0.0.1".parse().unwrap(),
        session_id: SessionId::new(2, [1; 10]),
    };
    let uids: Vec<Uid> = (2..6).map(|uid| Uid::new(uid).unwrap()).collect();
    runtime().block_on(store.record_fetched(mailbox.id, &FolderName::Inbox, &uids, &client)).unwrap();
    runtime().block_on(store.expunge(mailbox.id, &FolderName::Inbox, &uids, &client)).unwrap();
    let uids: Vec<Uid> = (6..9).map(|uid| Uid::new(uid).unwrap()).collect();
    for (uids, flags) in [(&uids[..], Flags::SEEN), (&uids[2..], Flags::ALL - Flags::DELETED)] {
        let change = FlagChange::Replace(flags);
        runtime()
            .block_on(store.set_flags(mailbox.id, &FolderName::Inbox, uids, change, Flags::ALL, &client))
            .unwrap();
    }
    let key = store.unlock(mailbox.login(), &password).unwrap();
    close(store);
    (mailbox.id, key)
}

/// Every row of every table.
fn dump(dir: &Path) -> Vec<Vec<Vec<Value>>> {
    let connection = rusqlite::Connection::open(dir.join("index.sqlite")).unwrap();
    let rows = |table: &&str| {
        let mut select = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = select.column_count();
        let rows = select.query_map([], |row| (0..columns).map(|column| row.get(column)).collect()).unwrap();
        let mut rows: Vec<Vec<Value>> = rows.map(Result::unwrap).collect();
        rows.sort_by_key(|row| format!("{row:?}"));
        rows
    };
    TABLES.iter().map(rows).collect()
}

/// A folder, its listing, the octets of each message, and its flags.
type Seen = (FolderStatus, Listing, Vec<Vec<u8>>, Vec<FolderRow>);

/// All that a client sees: folders with their listings, and the octets of every message.
fn seen(store: &Embedded, id: GatewayMailboxId, key: &Unlocked) -> Result<Vec<Seen>, StoreError> {
    let folders = store.folders(id)?.into_iter().map(|mut folder| {
        // For an alarm alone, and said once in the index.
        folder.oldest = None;
        let listing = store.list(id, &folder.name)?;
        let read = |entry: &Entry| {
            let mut octets = Vec::new();
            let read = store.open(key, entry.message)?.read_to_end(&mut octets);
            // What says that it cannot be read is not silent.
            read.map_err(|e| StoreError::Damaged(e.to_string())).map(|_| octets)
        };
        let octets = listing.entries.iter().map(read).collect::<Result<_, _>>()?;
        let (_, rows) = store.rows(id, &folder.name, Uid::FIRST)?;
        Ok((folder, listing, octets, rows))
    });
    folders.collect()
}

fn check(dir: &Path) -> IndexOutcome {
    check_index(dir).unwrap()
}

fn rebuild(dir: &Path) -> IndexOutcome {
    rebuild_index(&Options { data_dir: dir.to_owned(), reserve_octets: 0 }, Arc::default()).unwrap()
}

#[test]
fn deleted_or_made_anew_it_has_the_same_rows_in_every_table() {
    let dir = tempfile::tempdir().unwrap();
    let (id, key) = filled(dir.path(), 40);
    let before = dump(dir.path());
    assert!(before.iter().take(10).all(|rows| !rows.is_empty()), "{before:?}");
    assert_eq!(check(dir.path()).damaged, 0);

    fs::remove_file(dir.path().join("index.sqlite")).unwrap();
    assert_eq!(check(dir.path()).findings, ["it is not there"]);
    let (store, report) = open(dir.path());
    assert_eq!((report.damage.len(), report.replayed_groups > 40), (0, true), "{report:?}");
    let shown = seen(&store, id, &key).unwrap();
    close(store);
    assert!(dump(dir.path()) == before);

    let outcome = rebuild(dir.path());
    assert_eq!((outcome.damaged, outcome.progress.messages), (0, 40));
    assert!(outcome.progress.octets > 0 && outcome.progress.octets <= outcome.progress.octets_total);
    assert!(dump(dir.path()) == before);
    let names = |dir: &Path| -> Vec<String> {
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert!(!names(dir.path()).iter().any(|name| name.contains(".new") || name.contains("damaged")));
    let (store, report) = open(dir.path());
    assert_eq!(report, OpenReport::default());
    assert!(seen(&store, id, &key).unwrap() == shown);
}

#[test]
fn a_flipped_bit_in_any_page_is_an_error_or_changes_nothing_and_the_repair_brings_all_back() {
    const FLIPS_A_PAGE: u64 = 4;
    const PAGE_OCTETS: u64 = 4096;
    let dir = tempfile::tempdir().unwrap();
    let (id, key) = filled(dir.path(), 40);
    let before = dump(dir.path());
    let path = dir.path().join("index.sqlite");
    let pristine = fs::read(&path).unwrap();
    let (store, _) = open(dir.path());
    let expected = seen(&store, id, &key).unwrap();
    close(store);
    let mut dice = Dice::new(6);
    let mut harms: Vec<(String, Vec<u8>)> = Vec::new();
    for page in 0..pristine.len() as u64 / PAGE_OCTETS {
        for nth in 0..FLIPS_A_PAGE {
            // The head of a page holds its structure, its end the rows.
            let places = [dice.below(24), dice.below(PAGE_OCTETS), PAGE_OCTETS - 1 - dice.below(1500)];
            let offset = page * PAGE_OCTETS + places[nth as usize % 3];
            let bit = dice.below(8);
            let mut flipped = pristine.clone();
            flipped[usize::try_from(offset).unwrap()] ^= 1 << bit;
            harms.push((format!("bit {bit} of octet {offset}"), flipped));
        }
        let mut zeroed = pristine.clone();
        let start = usize::try_from(page * PAGE_OCTETS).unwrap();
        zeroed[start..start + usize::try_from(PAGE_OCTETS).unwrap()].fill(0);
        harms.push((format!("page {page} zeroed"), zeroed));
        harms.push((format!("cut off before page {page}"), pristine[..start].to_vec()));
    }
    let (mut at_start, mut while_reading, mut mended) = (0, 0, 0);
    for (harm, octets) in &harms {
        for suffix in ["-wal", "-shm"] {
            fs::remove_file(dir.path().join(format!("index.sqlite{suffix}"))).ok();
        }
        fs::write(&path, octets).unwrap();
        let opened = Embedded::open(&Options { data_dir: dir.path().to_owned(), reserve_octets: 0 });
        let (store, report) = opened.unwrap_or_else(|e| panic!("{harm}: {e}"));
        assert!(report.damage.is_empty(), "{harm}: {report:?}");
        at_start += u64::from(report.index_rebuilt.is_some());
        match seen(&store, id, &key) {
            Ok(shown) => assert!(shown == expected, "{harm}: another answer"),
            Err(_) => {
                while_reading += 1;
                // Each takes the second until somebody looks whether something is to be mended.
                if while_reading % 16 == 1 {
                    mended += 1;
                    wait_until("it is mended", || seen(&store, id, &key).is_ok_and(|s| s == expected));
                    assert_eq!(store.index_state(None).unwrap().last.unwrap().error, None, "{harm}");
                }
            }
        }
        close(store);
    }
    let flips = harms.len();
    println!(
        "{flips} flips, zeroed and missing pages: {at_start} found at start, {while_reading} while reading, {mended} of them mended while open"
    );
    assert!(flips >= 180 && at_start > 8 && while_reading > 16);
    assert_eq!(rebuild(dir.path()).damaged, 0);
    assert!(dump(dir.path()) == before);
    assert_eq!(check(dir.path()).damaged, 0);
}

#[test]
fn rows_that_went_from_any_table_of_mail_are_missed() {
    let dir = tempfile::tempdir().unwrap();
    let (id, key) = filled(dir.path(), 20);
    let path = dir.path().join("index.sqlite");
    let pristine = fs::read(&path).unwrap();
    for spoil in [
        "DELETE FROM placement WHERE uid = 7 AND deleted_at IS NULL",
        "UPDATE placement SET deleted_at = 1 WHERE uid = 7",
        "UPDATE placement SET deleted_at = NULL WHERE uid = 3",
        "UPDATE placement SET message = message + 1 WHERE uid = 7",
        "UPDATE placement SET epoch = 9 WHERE uid = 7",
        "UPDATE placement SET row_check = row_check + 1 WHERE uid = 7",
        "DELETE FROM flags WHERE uid = 7",
        "UPDATE flags SET bits = bits | 16 WHERE uid = 7",
        "UPDATE flags SET uid = 12 WHERE uid = 7",
        "INSERT INTO flags SELECT folder, 9, bits, row_check FROM flags WHERE uid = 7",
        "UPDATE folder SET seen = seen - 1",
        "UPDATE folder SET flag_changes = 0",
        "DELETE FROM message WHERE id = 8",
        "UPDATE message SET octets = 1 WHERE id = 8",
        "UPDATE message SET extents = '[]' WHERE id = 8",
        "DELETE FROM object",
        "UPDATE object SET place = place + 1 WHERE place IS NOT NULL",
        "UPDATE object SET file = 'ab/cd.age' WHERE file IS NOT NULL",
        "DELETE FROM folder WHERE name = 'inbox'",
        "DELETE FROM folder",
        "UPDATE folder SET live = live - 1",
        "UPDATE folder SET uid_next = 1",
        "UPDATE folder SET uid_validity = uid_validity + 1",
        "UPDATE folder SET name = 'quarantine' WHERE name = 'inbox'",
        "DELETE FROM census",
        "DELETE FROM gateway_mailbox",
        "UPDATE gateway_mailbox SET state = replace(state, 'active', 'deleted')",
        "DELETE FROM meta WHERE key = 'position'",
        "UPDATE meta SET value = replace(value, 'offset\":', 'offset\":1')",
        "DROP TABLE placement",
    ] {
        let connection = rusqlite::Connection::open(&path).unwrap();
        assert!(connection.execute_batch(spoil).is_ok(), "{spoil}");
        drop(connection);
        let found = check(dir.path());
        assert!(found.damaged > 0, "{spoil}");
        let (store, report) = open(dir.path());
        let shown = seen(&store, id, &key);
        assert!(report.index_rebuilt.is_some() || shown.is_err(), "{spoil}: {shown:?}");
        close(store);
        fs::write(&path, &pristine).unwrap();
    }
    assert_eq!(check(dir.path()).findings, Vec::<String>::new());
}

#[test]
fn mail_comes_and_goes_while_it_is_made_anew_beside() {
    let dir = tempfile::tempdir().unwrap();
    let (id, key) = filled(dir.path(), 30);
    let (store, _) = open(dir.path());
    let mailbox = store.gateway_mailbox_now(id).unwrap();
    let mut number = 100;
    for _ in 0..3 {
        assert_eq!(store.index_state(Some(IndexJob::Rebuild)).unwrap().doing, Some(IndexJob::Rebuild));
        wait_until("it is made", || {
            deliver(&store, &mailbox, number);
            number += 10;
            assert!(seen(&store, id, &key).is_ok());
            store.index_state(None).unwrap().doing.is_none()
        });
        let outcome = store.index_state(None).unwrap().last.unwrap();
        assert_eq!((outcome.job, outcome.error), (IndexJob::Rebuild, None));
    }
    let shown = seen(&store, id, &key).unwrap();
    let inbox = shown.iter().find(|(folder, ..)| folder.name == FolderName::Inbox).unwrap();
    assert_eq!(inbox.1.entries.len(), 30 - 4 - 4 + usize::from((number - 100) / 10));
    assert_eq!(store.index_state(Some(IndexJob::Check)).unwrap().doing, Some(IndexJob::Check));
    wait_until("it is looked through", || store.index_state(None).unwrap().doing.is_none());
    let outcome = store.index_state(None).unwrap().last.unwrap();
    assert_eq!((outcome.findings, outcome.folders > 3), (vec![], true));
    close(store);
    let before = dump(dir.path());
    rebuild(dir.path());
    assert!(dump(dir.path()) == before);
}

#[test]
fn deleted_under_an_open_store_or_contradicting_new_mail_it_is_made_anew_and_mail_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (id, key) = filled(dir.path(), 10);
    let path = dir.path().join("index.sqlite");
    let (store, _) = open(dir.path());
    let mailbox = store.gateway_mailbox_now(id).unwrap();
    fs::remove_file(&path).unwrap();
    wait_until("it is there again", || seen(&store, id, &key).is_ok() && path.exists());
    deliver(&store, &mailbox, 100);

    // A row in the way of the next entry of every folder.
    let connection = rusqlite::Connection::open(&path).unwrap();
    let spoil = "INSERT INTO placement SELECT id, uid_next, 1, zeroblob(16), 0, 1, NULL, 1, 0 FROM folder";
    assert_ne!(connection.execute(spoil, []).unwrap(), 0);
    drop(connection);
    let at = Timestamp::from_unix_ms(1_800_000_000_000);
    let deliver_again = || {
        let sent = delivery::delivery(&store, &mailbox, at, [7; 10], b"Subject: again\r\n\r\n");
        runtime().block_on(store.deliver(vec![sent]))
    };
    assert!(matches!(deliver_again(), Err(StoreError::Damaged(_))));
    wait_until("it is mended", || deliver_again().is_ok());
    close(store);
    assert_eq!(check(dir.path()).findings, Vec::<String>::new());
}

fn json(site: &Site, arguments: &[&str], code: i32) -> Json {
    serde_json::from_str(&site.run(arguments).expect(code).stdout).unwrap()
}

#[test]
fn check_says_what_is_wrong_and_rebuild_mends_it_with_and_without_a_server() {
    let site = Site::new();
    let created = json(&site, &["--json", "mailbox", "create", "--name", "Contoso"], 0);
    let address = created["address"].as_str().unwrap();
    let server = site.serve();
    for number in 0..3 {
        let message = format!("Message-ID: <{number}@x>\r\nSubject: one\r\n\r\nbody {number}\r\n");
        assert!(server.send(address, message.as_bytes()).starts_with("250"));
    }
    let whole = json(&site, &["--json", "check"], 0);
    assert_eq!((&whole["job"], &whole["damaged"]), (&Json::from("check"), &Json::from(0)));
    let made = json(&site, &["--json", "check", "--rebuild"], 0);
    assert_eq!(made["progress"]["messages"], 3);
    let text = site.run(&["check", "--rebuild"]).expect(0).stdout;
    assert!(text.starts_with("The index was made anew: 3 messages from 0."), "{text}");
    let mut server = server;
    server.terminate();

    let path = site.path("data/index.sqlite");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("DELETE FROM placement").unwrap();
    drop(connection);
    let text = site.run(&["check"]).expect(1).stdout;
    assert!(text.contains("0 of 3 entries found") && text.contains("daybook check --rebuild"), "{text}");
    let made = json(&site, &["--json", "check", "--rebuild"], 0);
    assert_eq!(made["progress"]["messages"], 3);
    let text = site.run(&["check"]).expect(0).stdout;
    assert_eq!(text, "The index is whole: 2 folders with 6 live entries.\n");
    fs::remove_file(&path).unwrap();
    assert_eq!(json(&site, &["--json", "check"], 1)["findings"][0], "it is not there");
}

#[test]
fn killed_while_it_is_made_again_and_again_it_is_whole_in_the_end() {
    const ROUNDS: u64 = 8;
    const ROUNDS_MAX: u64 = 24;
    let site = Site::new();
    let data = site.path("data");
    let (id, key) = filled(&data, 300);
    let before = dump(&data);
    let mut dice = Dice::new(9);
    let began = Instant::now();
    site.run(&["check", "--rebuild"]).expect(0);
    let whole_ms = u64::try_from(began.elapsed().as_millis()).unwrap().max(2);
    let mut cut_off = 0;
    for round in 0..ROUNDS_MAX {
        if round >= ROUNDS && cut_off > 0 {
            break;
        }
        if round % 2 == 0 {
            fs::remove_file(data.join("index.sqlite")).ok();
        }
        let mut command = site.command(&["check", "--rebuild"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let kill_after = std::time::Duration::from_millis(dice.below(whole_ms));
        let begun = Instant::now();
        // On a machine that is busy with something else no time may be right: then as soon as it is being made.
        let is_time = |child: &mut Child| match round < ROUNDS {
            true => begun.elapsed() >= kill_after,
            false => data.join("index.sqlite.new").exists() || child.try_wait().unwrap().is_some(),
        };
        wait_until("its time has come", || is_time(&mut child));
        child.kill().unwrap();
        child.wait().unwrap();
        cut_off += u64::from(data.join("index.sqlite.new").exists());
    }
    println!("300 messages in {whole_ms} ms; {cut_off} were cut off while it was made");
    assert!(cut_off > 0, "no kill fell while it was made");
    let (store, report) = open(&data);
    assert!(report.damage.is_empty(), "{report:?}");
    assert!(seen(&store, id, &key).is_ok());
    close(store);
    site.run(&["check", "--rebuild"]).expect(0);
    let mut after = dump(&data);
    let mut before = before;
    // The log's end was copied to a segment of its own: places differ, and what is said of them.
    for dump in [&mut before, &mut after] {
        for (table, columns) in [(0, 1..2), (4, 4..8), (5, 3..8)] {
            dump[table].iter_mut().for_each(|row| row[columns.clone()].fill(Value::Null));
            dump[table].sort_by_key(|row| format!("{row:?}"));
        }
    }
    assert!(after == before);
}
