//! `daybook verify`: what is stored is proved whole without a key and without a server, and what is not is named with its mail.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/daybook.rs"]
mod support;

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use support::{Site, USERS, corpus};

/// A site with a store that has seen everything once, as it was after an orderly stop.
struct Filled {
    site: Site,
    /// Receipts in the order they came: a report, its fork, mail for nobody, a large message.
    receipts: Vec<String>,
    login: String,
}

const LARGE: usize = 3;

impl Filled {
    fn new(sections: &str) -> Filled {
        let site = Site::with(sections, "");
        let made = json(&site.run(&["mailbox", "create", "--name", "Contoso", "--json"]).expect(0).stdout);
        let (to, password) = (made["address"].as_str().unwrap(), made["password"].as_str().unwrap());
        let login = made["login"].as_str().unwrap().to_owned();
        site.write("password", password);
        site.run(&["mailbox", "create", "--name", "NDRs", "--role", "ndr", "--serves", to]).expect(0);
        let mut server = site.serve();
        let mut large = b"From: a@contoso.example\r\nSubject: large\r\n\r\n".to_vec();
        while large.len() < 1_500_000 {
            large.extend_from_slice(format!("{} sealed in a file of its own\r\n", large.len()).as_bytes());
        }
        let send = |message: &[u8]| {
            let reply = server.send(to, message);
            reply.strip_prefix("250 2.0.0 Ok ").unwrap_or_else(|| panic!("{reply}")).to_owned()
        };
        let receipts = vec![
            send(&corpus("demo/report.eml")),
            send(&corpus("demo/fork.eml")),
            send(&corpus("demo/hopeless.eml")),
            send(&large),
        ];
        send(&corpus("demo/report.eml"));
        let mut poller = server.pop3s(&login, password).unwrap();
        poller.retrieve(1);
        poller.retrieve(2);
        poller.say("DELE 2").unwrap();
        poller.quit();
        let refused = server.send("nobody@gateway.example", b"Subject: x\r\n\r\nx\r\n");
        assert!(refused.starts_with("550 "), "{refused}");
        assert_eq!(server.terminate(), 0);
        drop(server);
        // Anybody who may read it can look at all of it.
        assert!(!site.path("data/index.sqlite-wal").exists(), "an orderly stop leaves a WAL");
        site.write("users.toml", USERS);
        site.run(&["reassign", "--apply"]).expect(0);
        let password = site.path("password");
        let reprocess =
            ["reprocess", &login, "--apply", "--all", "--password-file", password.to_str().unwrap()];
        for profile in ["profile=generic", "profile=microsoft365"] {
            site.run(&["mailbox", "set", &login, profile]).expect(0);
            site.run(&reprocess).expect(0);
        }
        Filled { site, receipts, login }
    }

    fn data(&self, name: &str) -> PathBuf {
        self.site.path("data").join(name)
    }

    /// Keeps the store as it is, for [`Filled::restore`].
    fn keep(&self) {
        copy(&self.site.path("data"), &self.site.path("kept"));
    }

    fn restore(&self) {
        fs::remove_dir_all(self.site.path("data")).unwrap();
        copy(&self.site.path("kept"), &self.site.path("data"));
    }

    fn verify(&self, arguments: &[&str], code: i32) -> Value {
        let all = [&["verify", "--json"], arguments].concat();
        json(&self.site.run(&all).expect(code).stdout)
    }

    /// What is damaged, by kind and place.
    fn damage(&self, arguments: &[&str]) -> Vec<(String, String, Value)> {
        let report = self.verify(arguments, 1);
        let found: Vec<_> = findings(&report, true);
        assert_eq!(report["damaged"].as_u64().unwrap() as usize, found.len());
        found
    }
}

fn findings(report: &Value, damage: bool) -> Vec<(String, String, Value)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = report["findings"].as_array().unwrap().iter();
    all.filter(|finding| finding["damage"] == damage)
        .map(|finding| (text(&finding["kind"]), text(&finding["place"]), finding.clone()))
        .collect()
}

/// Notes, but for keyrings that are not on record.
fn notes(report: &Value) -> Vec<(String, String, Value)> {
    let mut notes = findings(report, false);
    notes.retain(|(kind, _, _)| kind != "key");
    notes
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    // Secrets that others can read are refused.
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy(&entry.path(), &target),
            kind if kind.is_file() => drop(fs::copy(entry.path(), target).unwrap()),
            _ => {}
        }
    }
}

fn flip(path: &Path, at: usize) {
    let mut octets = fs::read(path).unwrap();
    octets[at] ^= 4;
    fs::write(path, octets).unwrap();
}

/// The segments that hold groups, in their order.
fn segments(filled: &Filled) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(filled.data("log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "seg") && path.metadata().unwrap().len() > 100)
        .collect();
    all.sort();
    all
}

/// The segment that holds this text in an entry, and where.
fn find(filled: &Filled, text: &str) -> (PathBuf, usize) {
    let found = segments(filled).into_iter().find_map(|path| {
        let octets = fs::read(&path).unwrap();
        memchr::memmem::find(&octets, text.as_bytes()).map(|at| (path, at))
    });
    found.unwrap_or_else(|| panic!("no entry says {text}"))
}

fn content_file(filled: &Filled) -> PathBuf {
    let shards = fs::read_dir(filled.data("content")).unwrap();
    let files = shards.flat_map(|shard| fs::read_dir(shard.unwrap().path()).unwrap());
    files.map(|file| file.unwrap().path()).next().unwrap()
}

#[test]
fn a_store_that_has_seen_everything_is_whole_and_nothing_is_written() {
    let filled = Filled::new("");
    let index = rusqlite::Connection::open(filled.data("index.sqlite")).unwrap();
    for table in [
        "revision",
        "placed_later",
        "departure",
        "folder_event",
        "name",
        "key_file",
        "turned_away_name",
        "object_use",
        "in_grace",
    ] {
        let rows = index.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, u32>(0));
        assert!(rows.unwrap() > 0, "nothing is in {table}: the test compares too little");
    }
    drop(index);
    let before = listing(&filled.site.path("data"));
    for arguments in [&[][..], &["--deep"]] {
        let report = filled.verify(arguments, 0);
        assert!(notes(&report).is_empty(), "{report:#}");
        assert_eq!((&report["whole"], &report["index_compared"]), (&Value::Bool(true), &Value::Bool(true)));
        assert_eq!((&report["receipts"], &report["content_files"]), (&5.into(), &1.into()));
        assert!(report["in_grace"].as_u64().unwrap() > 0 && report["held"] == 0);
        assert_eq!((&report["freed"]["objects"], &report["emptied_segments"]), (&0.into(), &0.into()));
        let octets = report["octets"].as_u64().unwrap();
        assert_eq!(octets > 1_500_000, !arguments.is_empty(), "{octets}");
    }
    assert_eq!(listing(&filled.site.path("data")), before);
    let page = filled.site.run(&["verify", "--deep"]).expect(0).stdout;
    assert!(
        page.contains("compared with the log row by row")
            && page.contains("\nKept         deleted entries that can be had back ")
            && !page.contains("\nFreed ")
            && page.ends_with("Everything is there and whole.\n")
    );
}

/// Every file, its size and when it was changed; but SQLite's note of who reads.
fn listing(dir: &Path) -> Vec<(PathBuf, u64, std::time::SystemTime)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let (path, metadata) = {
            let e = entry.unwrap();
            (e.path(), e.metadata().unwrap())
        };
        match metadata.is_dir() {
            true => all.extend(listing(&path)),
            false if path.ends_with("index.sqlite-shm") => {}
            false => all.push((path, metadata.len(), metadata.modified().unwrap())),
        }
    }
    all.sort();
    all
}

#[test]
fn damage_in_the_log_is_named_with_the_mail_it_touches() {
    let filled = Filled::new("");
    filled.keep();
    let receipt = &filled.receipts[0];
    let (segment, entry) = find(&filled, &format!("\"fact\":\"received\",\"receipt_id\":\"{receipt}\""));
    let octets = fs::read(&segment).unwrap();
    let before = &octets[..entry];
    let object = memchr::memmem::rfind(before, b"\"fact\":\"object\"").unwrap();
    let payload = object + memchr::memmem::find(&octets[object..], b"}").unwrap() + 20;
    let group = memchr::memmem::rfind(before, b"DBG1").unwrap();
    let frame = memchr::memmem::rfind(before, b"DBF1").unwrap();
    for (what, at, deep) in [
        ("segment header", 20, false),
        ("group header", group + 9, false),
        ("frame header", frame + 2, false),
        ("frame length", frame + 9, false),
        ("entry", entry + 60, false),
        ("payload", payload, true),
    ] {
        flip(&segment, at);
        if deep {
            filled.verify(&[], 0);
        }
        let arguments: &[&str] = if deep { &["--deep"] } else { &[] };
        let damage = filled.damage(arguments);
        let name = format!("log/{}", segment.file_name().unwrap().to_str().unwrap());
        assert!(damage.iter().all(|(_, place, _)| place.starts_with(&name)), "{what}: {damage:#?}");
        if what != "segment header" {
            let names = |(_, _, finding): &&(String, String, Value)| {
                finding["receipts"].as_array().unwrap().contains(&Value::String(receipt.clone()))
            };
            assert!(damage.iter().any(|d| names(&d)), "{what}: {damage:#?}");
        }
        if what == "payload" {
            let [(kind, _, finding)] = &damage[..] else { panic!("{damage:#?}") };
            let entries = finding["entries"].as_array().unwrap();
            assert_eq!(kind, "content");
            assert!(
                entries
                    .iter()
                    .any(|e| e["folder"] == "INBOX" && e["gateway_mailbox"] == filled.login.as_str())
            );
        }
        let page = filled.site.run(&[&["verify"], arguments].concat()).expect(1).stdout;
        assert!(page.contains(&format!("DAMAGE  {name}")), "{page}");
        filled.restore();
    }
}

#[test]
fn a_log_that_lacks_something_in_the_middle_or_at_its_end_is_told() {
    let filled = Filled::new("");
    for _ in 0..2 {
        fs::remove_file(filled.data("ports.json")).ok();
        let mut server = filled.site.serve();
        server.send(&format!("{}@gateway.example", filled.login), &corpus("demo/ndr.eml"));
        server.kill();
        // As after a power cut: the index is behind, and what it lacks goes into a segment of its own.
        fs::remove_file(filled.data("index.sqlite-wal")).unwrap();
        fs::remove_file(filled.data("index.sqlite-shm")).unwrap();
    }
    fs::remove_file(filled.data("ports.json")).unwrap();
    let mut server = filled.site.serve();
    server.send(&format!("{}@gateway.example", filled.login), b"Subject: last\r\n\r\nlast\r\n");
    assert_eq!(server.terminate(), 0);
    filled.keep();
    let all = segments(&filled);
    assert!(all.len() >= 3, "{all:?}");
    // Segments that were written once more elsewhere are whole, and so is what a failed write left behind one that was given up.
    let report = filled.verify(&["--deep"], 0);
    assert!(notes(&report).is_empty(), "{report:#}");
    let unused = report["unused"][0]["octets"].as_u64().unwrap();
    let given_up = fs::read(&all[0]).unwrap();
    fs::write(&all[0], [&given_up[..], &given_up[given_up.len() - 100..]].concat()).unwrap();
    let report = filled.verify(&["--deep"], 0);
    assert_eq!(
        (notes(&report).len(), &report["unused"][0]["octets"]),
        (0, &(unused + 100).into()),
        "{report:#}"
    );
    filled.restore();

    fs::remove_file(&all[1]).unwrap();
    let damage = filled.damage(&[]);
    let name = |path: &Path| format!("log/{}", path.file_name().unwrap().to_str().unwrap());
    assert!(
        damage.iter().any(|(_, place, f)| *place == name(&all[1])
            && f["what"].as_str().unwrap().starts_with("is not there")),
        "{damage:#?}"
    );
    filled.restore();

    let last = all.last().unwrap();
    let octets = fs::read(last).unwrap();
    fs::write(last, &octets[..octets.len() - 10]).unwrap();
    let damage = filled.damage(&[]);
    assert!(
        damage.iter().all(|(kind, place, _)| kind == "log" && place.starts_with(&name(last))),
        "{damage:#?}"
    );
    filled.restore();

    fs::remove_file(last).unwrap();
    let told = |damage: &[(String, String, Value)]| {
        damage.iter().any(|(_, _, f)| f["what"].as_str().unwrap().contains("groups of entries before"))
    };
    assert!(told(&filled.damage(&[])));
    // Checkpoints alone tell it as well.
    for gone in ["log/clean", "index.sqlite"] {
        fs::remove_file(filled.data(gone)).unwrap();
    }
    let damage = filled.damage(&[]);
    assert!(told(&damage), "{damage:#?}");
    assert!(damage.iter().any(|(kind, _, _)| kind == "index"));
    // Without them nothing does, and that is said.
    fs::remove_file(filled.data("checkpoints.jsonl")).unwrap();
    let report = filled.verify(&[], 1);
    assert!(findings(&report, true).iter().all(|(kind, _, _)| kind == "index"), "{report:#}");
    assert!(
        findings(&report, false).iter().any(|(_, _, f)| f["what"].as_str().unwrap().contains("says how far"))
    );
    // Those kept elsewhere do.
    let elsewhere = filled.site.path("elsewhere.jsonl");
    fs::copy(filled.site.path("kept/checkpoints.jsonl"), &elsewhere).unwrap();
    assert!(told(&filled.damage(&["--checkpoints", elsewhere.to_str().unwrap()])));
    filled.verify(&["--checkpoints", "nowhere.jsonl"], 3);
}

#[test]
fn content_files_and_keyrings_are_compared_with_what_was_written_down() {
    let filled = Filled::new("");
    filled.keep();
    let file = content_file(&filled);
    let name = file.strip_prefix(filled.site.path("data")).unwrap().to_str().unwrap().to_owned();
    let receipt = Value::String(filled.receipts[LARGE].clone());
    let is_named = |damage: Vec<(String, String, Value)>| {
        let [(kind, place, finding)] = &damage[..] else { panic!("{damage:#?}") };
        assert_eq!((kind.as_str(), place), ("content", &name));
        assert_eq!(finding["receipts"][0], receipt);
        assert_eq!(finding["entries"][0]["folder"], "INBOX");
    };
    flip(&file, 70_000);
    filled.verify(&[], 0);
    is_named(filled.damage(&["--deep"]));
    fs::write(&file, b"short").unwrap();
    is_named(filled.damage(&[]));
    fs::remove_file(&file).unwrap();
    is_named(filled.damage(&[]));
    filled.restore();

    fs::write(file.with_file_name("nobody.age"), b"x").unwrap();
    let report = filled.verify(&[], 0);
    let notes = notes(&report);
    assert!(notes[0].2["what"].as_str().unwrap().contains("nobody.age"), "{report:#}");
    filled.restore();

    let keys = fs::read_dir(filled.data("keys")).unwrap().map(|entry| entry.unwrap().path());
    let keyring = keys.filter(|path| path.is_dir()).min().unwrap().join("password.age");
    let octets = fs::read(&keyring).unwrap();
    fs::remove_file(&keyring).unwrap();
    assert_eq!(filled.damage(&[])[0].0, "key");
    fs::write(&keyring, octets).unwrap();
    filled.verify(&[], 0);
}

#[test]
fn rows_of_the_index_that_differ_are_named_one_by_one() {
    let filled = Filled::new("");
    filled.keep();
    let changes = [
        ("UPDATE message SET canonical_octets = canonical_octets + 1 WHERE id = 2", "message 2 is otherwise"),
        ("UPDATE placement SET message = 1 WHERE folder = 1 AND uid = 3", "placement 1:3 is otherwise"),
        ("UPDATE placement SET deleted_at = 7 WHERE folder = 1 AND uid = 1", "deletion 1:1 is in the index"),
        ("DELETE FROM placement WHERE folder = 1 AND uid = 3", "placement 1:3 is not in the index"),
        ("UPDATE object SET sealed_octets = 7 WHERE id = 4", "object 4 is otherwise"),
        ("DELETE FROM name", "is not in the index"),
        ("DELETE FROM folder_event", "is not in the index"),
        ("UPDATE folder SET uid_validity = 7 WHERE id = 1", "INBOX otherwise than the log says"),
        ("UPDATE gateway_mailbox SET digest_key = zeroblob(32)", "otherwise than the log says"),
        ("DELETE FROM receipt", "receipt"),
    ];
    for (change, expect) in changes {
        let index = rusqlite::Connection::open(filled.data("index.sqlite")).unwrap();
        index.execute_batch(change).unwrap();
        drop(index);
        let damage = filled.damage(&["--deep"]);
        assert!(damage.iter().all(|(kind, _, _)| kind == "index"), "{change}: {damage:#?}");
        let is_told = damage.iter().any(|(_, _, f)| f["what"].as_str().unwrap().contains(expect));
        assert!(is_told, "{change}: {damage:#?}");
        filled.restore();
    }
    // What the server refuses is not called whole.
    let row_by_row = [
        ("UPDATE object SET row_check = 7 WHERE id = 4", "object 4 is otherwise"),
        ("UPDATE receipt SET row_check = row_check + 1", "receipt "),
        ("UPDATE message SET row_check = 7 WHERE id = 2", "message 2 is otherwise"),
        ("UPDATE revision SET row_check = 7", "revision "),
        ("DELETE FROM key_file WHERE name = 'password.age'", "keyring file "),
        (
            "INSERT INTO turned_away VALUES (zeroblob(16), 1, zeroblob(16), '192.0.2.0', 550, 1, 1, 1)",
            "turned-away transaction 00000000-0000-0000-0000-000000000000 is in the index and not in the log",
        ),
        (
            "INSERT INTO turned_away_name VALUES ('x@example', zeroblob(16))",
            "name of turned-away transaction 0",
        ),
    ];
    let refused = [
        "UPDATE folder SET row_check = 7 WHERE id = 1",
        "UPDATE folder SET live_sum = live_sum + 1 WHERE id = 1",
        "UPDATE census SET sum = sum + 1",
        "DELETE FROM census WHERE length(scope) = 16",
        "DELETE FROM meta WHERE key = 'version'",
        "UPDATE meta SET value = '7 \"done\"' WHERE key = 'making'",
        "UPDATE meta SET value = 'x' WHERE key = 'position'",
        "UPDATE meta SET value = replace(value, '\"sequence\":', '\"sequence\":1') WHERE key = 'position'",
        "UPDATE meta SET value = '7' || value WHERE key = 'numbers'",
    ];
    for changes in std::iter::once(&row_by_row[..]).chain(refused.map(|change| (change, "")).chunks(1)) {
        let index = rusqlite::Connection::open(filled.data("index.sqlite")).unwrap();
        for (change, _) in changes {
            assert_ne!(index.execute(change, []).unwrap(), 0, "{change} changes nothing");
        }
        drop(index);
        let damage = filled.damage(&["--deep"]);
        let whats = || damage.iter().map(|(_, _, finding)| finding["what"].as_str().unwrap());
        assert!(damage.iter().all(|(kind, _, _)| kind == "index"), "{changes:?}: {damage:#?}");
        assert!(!whats().any(|what| what.contains('@')), "addresses are told: {damage:#?}");
        for (change, expect) in changes {
            assert!(whats().any(|what| what.contains(expect)), "{change}: {damage:#?}");
        }
        filled.restore();
    }
    let page = fs::read(filled.data("index.sqlite")).unwrap().len() / 2;
    fs::write(filled.data("index.sqlite"), vec![7; page]).unwrap();
    let damage = filled.damage(&["--deep"]);
    assert!(damage.iter().all(|(kind, _, _)| kind == "index"), "{damage:#?}");
    let text = filled.site.run(&["verify"]).expect(1).stdout;
    assert!(text.contains("daybook check --rebuild"), "{text}");
}

struct EndsWhenDropped<'a>(&'a AtomicBool);

impl Drop for EndsWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn beside_a_server_that_takes_mail_all_is_whole() {
    let filled = Filled::new("");
    let server = filled.site.serve();
    let to = format!("{}@gateway.example", filled.login);
    let ended = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0u64;
            while !ended.load(Ordering::Relaxed) {
                let message = format!("Message-ID: <{sent}@x>\r\nSubject: one more\r\n\r\nbody\r\n");
                let reply = server.send(&to, message.as_bytes());
                assert!(reply.starts_with("250 "), "{reply}");
                sent += 1;
            }
            sent
        });
        // A failed assertion must end the sender too, or nobody hears of it.
        let _ends = EndsWhenDropped(&ended);
        for arguments in [&["--deep"][..], &[], &["--deep"]] {
            let report = filled.verify(arguments, 0);
            assert_eq!(
                (&report["running"], &report["index_compared"]),
                (&Value::Bool(true), &Value::Bool(true))
            );
            assert!(notes(&report).is_empty(), "{report:#}");
        }
        ended.store(true, Ordering::Relaxed);
        sender.join().unwrap()
    });
    assert!(sent > 0);
    let report = filled.verify(&["--deep"], 0);
    assert_eq!(report["receipts"].as_u64().unwrap(), 5 + sent);
}

#[test]
fn a_copy_of_a_running_store_is_whole_as_it_lies_and_after_it_was_brought_back() {
    let filled = Filled::new("");
    let mut server = filled.site.serve();
    let to = format!("{}@gateway.example", filled.login);
    let last = server.send(&to, b"Subject: last before the copy\r\n\r\nlast\r\n");
    filled.keep();
    server.send(&to, b"Subject: lost with the disk\r\n\r\nlost\r\n");
    assert_eq!(server.terminate(), 0);
    for with_index in [true, false] {
        filled.restore();
        if with_index {
            filled.verify(&["--deep"], 0);
        } else {
            ["", "-wal", "-shm"].iter().for_each(|end| {
                fs::remove_file(filled.data(&format!("index.sqlite{end}"))).ok();
            });
        }
        fs::remove_file(filled.data("ports.json")).ok();
        let mut server = filled.site.serve();
        assert_eq!(server.terminate(), 0);
        let report = filled.verify(&["--deep"], 0);
        assert_eq!(
            (&report["index_compared"], &report["receipts"]),
            (&Value::Bool(true), &6.into()),
            "{last}"
        );
    }
}

#[test]
fn an_end_that_was_never_acknowledged_is_no_damage_and_what_checkpoints_cover_is() {
    let filled = Filled::new("");
    let last = segments(&filled).pop().unwrap();
    let whole = fs::read(&last).unwrap();
    let group = memchr::memmem::rfind(&whole, b"DBG1").unwrap();
    // The beginning of a group, as a crash leaves it.
    fs::write(&last, [&whole[..], &whole[group..group + 200]].concat()).unwrap();
    fs::remove_file(filled.data("log/clean")).unwrap();
    for arguments in [&[][..], &["--deep"]] {
        let report = filled.verify(arguments, 0);
        let [(kind, place, finding)] = &findings(&report, false)[..] else { panic!("{report:#}") };
        assert_eq!(
            (kind.as_str(), place.ends_with(&format!("seg at {}", whole.len()))),
            ("log", true),
            "{place}"
        );
        assert!(finding["what"].as_str().unwrap().starts_with("a torn end that was never acknowledged"));
    }
    // What a checkpoint has signed was acknowledged, whatever is left of it.
    fs::write(&last, &whole[..group + 100]).unwrap();
    let damage = filled.damage(&[]);
    assert!(damage.iter().all(|(kind, _, _)| kind == "log"), "{damage:#?}");
    let mut signed = fs::read_to_string(filled.data("checkpoints.jsonl")).unwrap();
    fs::write(&last, &whole).unwrap();
    filled.verify(&[], 0);
    let at = signed.rfind("sequence").unwrap() + 11;
    let other = if signed.as_bytes()[at] == b'9' { "8" } else { "9" };
    signed.replace_range(at..=at, other);
    fs::write(filled.data("checkpoints.jsonl"), signed).unwrap();
    let damage = filled.damage(&[]);
    assert_eq!(damage[0].0, "checkpoint", "{damage:#?}");
}

#[test]
fn without_a_store_it_says_so() {
    let site = Site::new();
    assert!(site.run(&["verify"]).expect(3).stderr.contains("verify "));
    site.run(&["verify", "--quick"]).expect(2);
}
