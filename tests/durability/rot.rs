//! Bits that flip and files that lose their end, long after they were written well.
//!
//! Each flip is made alone. `verify --deep` names the file it is in, or the octets are shown to say nothing: an index of which every
//! table reads as before and SQLite finds nothing wrong, a text that reads the same. For some of them the server is started as
//! well: whatever it does not serve as before is among what was named.

use super::gateway::{Account, Gateway, copy, last_lines, until};
use super::load::{Dice, Smtp};
use super::mixed::{self, Users};
use super::seen::Seen;
use super::sender::Sender;
use super::support::{DOMAIN, Site};
use super::table::Table;
use super::{given, is_long};
use daybook::store::{StoreError, VerifyFinding, VerifyOptions, VerifyReport, verify};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Groups of mail of every kind.
const GROUPS: usize = 10;
/// It holds nothing, and would be most of what there is.
const NO_BALLAST: &str = "[store]\nballast_bytes = 0\n";
/// Transactions that are refused, each in a session of its own.
const REFUSED: usize = 3;
/// Segments are begun at this size, so that there are several.
const SEGMENT_OCTETS: u64 = 200_000;
/// One in so many is shown to a server too, and to the command.
const SHOWN_TO_SERVER: usize = 10;
/// A block that a disk gives back empty.
const BLOCK: usize = 4096;

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
enum Rot {
    Flip { at: usize, bit: u32 },
    Truncate { at: usize },
    Zero { at: usize },
}

/// Everything stored, closed in good order or left by a crash, and what a poller has seen of it.
struct Store {
    gateway: Gateway,
    account: Account,
    seen: Seen,
    /// Where it is kept.
    kept: PathBuf,
    /// Its files, relative to `kept`, with what they hold.
    files: Vec<(String, Vec<u8>)>,
}

impl Store {
    /// With the index in one file, or, as a crash leaves it, for the most part in its write-ahead log.
    fn new(index_is_folded: bool) -> Store {
        let users = Users { known: 40, later: 10 };
        let environment = vec![("DAYBOOK_SEGMENT_OCTETS", SEGMENT_OCTETS.to_string())];
        let mut gateway = Gateway::start_on(Site::with(NO_BALLAST, &Users::toml(40)), environment);
        let account = gateway.create_account();
        let mut sender = Sender::new(&account);
        for number in 0..GROUPS {
            for message in mixed::group(number, users) {
                sender.send_octets(&message.octets, &gateway);
            }
            let report = sender.fresh([4_000, 30_000, 1_100_000, 90_000, 1_000][number % 5]);
            sender.insist(&report, &gateway);
        }
        // Refused ones are entries too.
        let nobody = format!("nobody@{DOMAIN}");
        for _ in 0..REFUSED {
            let refused = Smtp::open(gateway.smtp()).unwrap().deliver(&nobody, b"x\r\n").unwrap();
            assert_eq!(refused.code / 100, 5, "{refused:?}");
        }
        until("refused transactions on record", || {
            let listed = gateway.ask(&["receipts", "--outcome", "refused"]);
            (listed.as_array().unwrap().len() >= REFUSED).then_some(())
        });
        let mut seen = Seen::default();
        seen.catch_up(&gateway, &account);
        let some: Vec<String> = seen.messages.keys().step_by(23).cloned().collect();
        for uidl in some {
            seen.delete(&uidl, &gateway, &account);
        }
        if index_is_folded {
            gateway.terminate();
            // A start folds the index's write-ahead log into it.
            gateway.start_again();
            // Before it has started it would end without having closed anything.
            gateway.maildrop(&account).quit().unwrap();
            gateway.terminate();
            assert!(gateway.data_dir().join("log/clean").exists());
        } else {
            gateway.kill();
            let octets = fs::metadata(gateway.data_dir().join("index.sqlite-wal")).map_or(0, |wal| wal.len());
            assert!(octets > 0, "nothing that is not folded");
        }
        let kept = gateway.path("kept");
        copy(&gateway.data_dir(), &kept);
        let mut files = Vec::new();
        read_all(&kept, &kept, &mut files);
        Store { gateway, account, seen, kept, files }
    }

    fn verify(&self) -> Result<VerifyReport, StoreError> {
        let options = VerifyOptions {
            data_dir: self.kept.clone(),
            deep: true,
            checkpoints: None,
            checkpoint_dir: None,
            key: None,
        };
        verify(&options, &mut |_| {})
    }

    /// What the server makes of the store as it is kept now: UIDLs that are not served as before. `None`: it does not start.
    fn served(&mut self) -> Option<Vec<String>> {
        copy(&self.kept, &self.gateway.data_dir());
        self.gateway.begin_to_start(self.gateway.serve());
        self.gateway.wait_until_it_serves().ok()?;
        let mut maildrop = self.gateway.maildrop(&self.account);
        let uidls = maildrop.uidls();
        let mut bad = Vec::new();
        for (uidl, before) in &self.seen.messages {
            match uidls.get(uidl).map(|number| maildrop.try_to_fetch(*number)) {
                Some(Ok(now)) => assert_eq!(now, *before, "{uidl}: other octets"),
                Some(Err(_)) | None => bad.push(uidl.clone()),
            }
        }
        drop(maildrop);
        self.gateway.kill();
        Some(bad)
    }
}

/// The files below `dir` that hold what must last.
fn read_all(root: &Path, dir: &Path, into: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        // Of the server, not of the store: written anew, or for others.
        let is_other = name.starts_with("tls") || name == "ports.json" || name.ends_with("-shm");
        if path.is_dir() {
            read_all(root, &path, into);
        } else if path.is_file() && !is_other {
            let octets = fs::read(&path).unwrap();
            if !octets.is_empty() {
                into.push((name, octets));
            }
        }
    }
    into.sort();
}

fn kind_of(name: &str) -> String {
    let kinds = [
        ("log/clean", "log/clean"),
        ("log/", "log segment"),
        ("content/", "content file"),
        ("keys/checkpoint", "checkpoint key"),
    ];
    let kind = kinds.iter().find(|(start, _)| name.starts_with(start)).map(|(_, kind)| *kind);
    kind.unwrap_or(if name.starts_with("keys/") { "keyring" } else { name }).to_owned()
}

/// What is done, and to which file: half by size, half by kind.
fn choose(files: &[(String, Vec<u8>)], dice: &mut Dice) -> (usize, Rot) {
    let below = |end: usize, dice: &mut Dice| dice.below(end as u64) as usize;
    let file = if dice.below(2) == 0 {
        let mut at = below(files.iter().map(|(_, octets)| octets.len()).sum(), dice);
        files
            .iter()
            .position(|(_, octets)| at.checked_sub(octets.len()).map(|left| at = left).is_none())
            .unwrap()
    } else {
        let mut kinds: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (number, (name, _)) in files.iter().enumerate() {
            kinds.entry(kind_of(name)).or_default().push(number);
        }
        let kind = kinds.values().nth(below(kinds.len(), dice)).unwrap();
        kind[below(kind.len(), dice)]
    };
    let octets = &files[file].1;
    let at = below(octets.len(), dice);
    let block = at / BLOCK * BLOCK;
    let is_zero = |at: usize| octets[at..octets.len().min(at + BLOCK)].iter().all(|octet| *octet == 0);
    match dice.below(20) {
        0 => (file, Rot::Truncate { at }),
        1 if !is_zero(block) => (file, Rot::Zero { at: block }),
        _ => (file, Rot::Flip { at, bit: dice.below(8) as u32 }),
    }
}

fn rotten(octets: &[u8], rot: Rot) -> Vec<u8> {
    let mut octets = octets.to_vec();
    match rot {
        Rot::Flip { at, bit } => octets[at] ^= 1 << bit,
        Rot::Truncate { at } => octets.truncate(at),
        Rot::Zero { at } => octets.iter_mut().skip(at).take(BLOCK).for_each(|octet| *octet = 0),
    }
    octets
}

/// Every row of every table of an index, and what SQLite says of the file; an error if it cannot be read.
fn dump(index: &Path) -> rusqlite::Result<Vec<String>> {
    let connection =
        rusqlite::Connection::open_with_flags(index, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    let mut dump = vec![check];
    let mut tables = connection.prepare("SELECT name, sql FROM sqlite_master ORDER BY name")?;
    let tables: Vec<(String, Option<String>)> =
        tables.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    for (name, sql) in tables {
        // In names of tables and columns SQLite tells no capitals from small letters.
        dump.push(format!("{name} {:?}", sql.as_deref().map(str::to_ascii_lowercase)));
        if sql.is_none_or(|sql| !sql.starts_with("CREATE TABLE")) {
            continue;
        }
        let mut rows = connection.prepare(&format!("SELECT * FROM \"{name}\""))?;
        let columns = rows.column_count();
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let cells: Result<Vec<rusqlite::types::Value>, _> =
                (0..columns).map(|column| row.get(column)).collect();
            dump.push(format!("{:?}", cells?));
        }
    }
    Ok(dump)
}

/// Rows that are not in both, so that whoever mends it knows where to look.
fn other_rows(whole: &[String], rotten: rusqlite::Result<Vec<String>>) -> String {
    let rotten = match rotten {
        Ok(rows) => rows,
        Err(error) => return error.to_string(),
    };
    let only = |one: &[String], other: &[String]| -> Vec<String> {
        one.iter().filter(|row| !other.contains(row)).take(3).cloned().collect()
    };
    format!("before: {:?}; now: {:?}", only(whole, &rotten), only(&rotten, whole))
}

/// The values in a text of JSON lines, with digests in small letters: how they are written says nothing.
fn values(text: &[u8]) -> Option<Vec<String>> {
    let text = std::str::from_utf8(text).ok()?;
    let values = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let is_hex = |word: &&str| word.len() >= 64 && word.bytes().all(|octet| octet.is_ascii_hexdigit());
    let folded = |value: serde_json::Value| {
        let text = value.to_string();
        let long: Vec<String> = text.split('"').filter(is_hex).map(str::to_owned).collect();
        long.iter().fold(text, |text, word| text.replace(word, &word.to_ascii_lowercase()))
    };
    values.map(|value| value.map(folded)).collect()
}

/// Why what was done to a file says nothing, if so. `is_whole`: nothing else was found, the index being compared row by row.
fn says_nothing(
    store: &Store,
    name: &str,
    [whole, rotten]: [&[u8]; 2],
    whole_index: &[String],
    is_whole: bool,
) -> Option<&'static str> {
    if name.starts_with("index.sqlite") {
        let dump = dump(&store.kept.join("index.sqlite")).ok()?;
        if dump == whole_index {
            return Some("every table reads as before");
        }
        // What SQLite takes back of its write-ahead log, since a sum there is wrong, the log has.
        let is_older = name.ends_with("-wal") && is_whole && dump.first().is_some_and(|check| check == "ok");
        return is_older.then_some("the index is as it was before, and the log has the rest");
    }
    if name.starts_with("directory/") && name.ends_with("/status.json") {
        return Some("the source is tried again");
    }
    if name == "checkpoints.jsonl" && is_whole && !rotten.ends_with(b"\n") {
        // Just so a crash leaves it while a line is appended; the mark of the orderly close says how far the log must reach.
        return Some("its last line is cut short, and log/clean covers the last group");
    }
    (values(whole).is_some() && values(whole) == values(rotten)).then_some("the text reads the same")
}

#[test]
fn every_bit_that_rots_is_named_or_says_nothing() {
    rot(true);
}

#[test]
fn every_bit_that_rots_beside_an_index_not_yet_folded_is_named_or_says_nothing() {
    rot(false);
}

fn rot(index_is_folded: bool) {
    let rots = given("DAYBOOK_ROUNDS").unwrap_or(if is_long() { 1_000 } else { 60 }) as usize;
    let seed = given("DAYBOOK_SEED").unwrap_or(20_261_121);
    let (clock, mut dice) = (Instant::now(), Dice::new(seed));
    let mut store = Store::new(index_is_folded);
    let whole = store.verify().unwrap();
    assert!(whole.whole, "{:?}", whole.findings);
    let whole_index = dump(&store.kept.join("index.sqlite")).unwrap();
    assert_eq!(store.served(), Some(Vec::new()));
    let mut table =
        Table::new(["rots", "named", "with mail", "nothing", "missed", "served", "refused", "lacking"]);
    let mut missed = Vec::new();
    let mut nothings: BTreeMap<String, u64> = BTreeMap::new();
    for number in 0..rots {
        let (file, rot) = choose(&store.files, &mut dice);
        let (name, octets) = store.files[file].clone();
        let bad = rotten(&octets, rot);
        let path = store.kept.join(&name);
        fs::write(&path, &bad).unwrap();
        let report = store.verify();
        let what = format!("{name}: {rot:?}");
        let (named, named_mail) = match &report {
            Ok(report) => {
                let mut damage = report.findings.iter().filter(|f| f.damage && is_about(f, &name));
                (
                    damage.clone().next().is_some(),
                    damage.any(|f| !f.receipts.is_empty() || !f.entries.is_empty()),
                )
            }
            // Refused whole, with what it is of.
            Err(error) => (is_refusal_of(&error.to_string(), &name), false),
        };
        let lists = daybook::directory::check_kept(&store.kept).damaged;
        let named = named || lists.iter().any(|(place, _)| *place == name);
        let is_whole = report.as_ref().is_ok_and(|report| report.whole && report.index_compared);
        let nothing =
            if named { None } else { says_nothing(&store, &name, [&octets, &bad], &whole_index, is_whole) };
        if let Some(why) = nothing {
            *nothings.entry(format!("{}: {why}", kind_of(&name))).or_default() += 1;
        }
        if !named && nothing.is_none() {
            missed.push(format!("{what}: {:?}", report.as_ref().map(|report| &report.findings)));
            if name.starts_with("index.sqlite") {
                missed.push(other_rows(&whole_index, dump(&store.kept.join("index.sqlite"))));
            }
        }
        let is_shown = number % SHOWN_TO_SERVER == 0 && !name.starts_with("keys/");
        let (mut served, mut lacking) = (None, false);
        if is_shown {
            served = Some(store.served());
            if served == Some(None) && report.is_ok() {
                let words = last_lines(&store.gateway.log(), 3);
                missed
                    .push(format!("{what}: the server does not start, and verify goes through it: {words}"));
            }
            if let Some(Some(bad)) = &served {
                lacking = !bad.is_empty();
                let silent =
                    bad.iter().find(|uidl| !report.as_ref().is_ok_and(|report| is_named(report, uidl)));
                missed.extend(silent.map(|uidl| format!("{what}: {uidl} is not served, and not named")));
            }
            let damaged = report.as_ref().is_ok_and(|report| !report.whole) || !lists.is_empty();
            copy(&store.kept, &store.gateway.data_dir());
            let command = store.gateway.run(&["verify", "--deep", "--json"]);
            let expected = if report.is_err() { 3 } else { i32::from(damaged) };
            assert_eq!(command.status.code(), Some(expected), "{what}");
        }
        let holds = [
            true,
            named,
            named_mail,
            nothing.is_some(),
            !named && nothing.is_none(),
            matches!(served, Some(Some(_))),
            matches!(served, Some(None)),
            lacking,
        ];
        table.count(&kind_of(&name), holds);
        fs::write(&path, &octets).unwrap();
    }
    println!(
        "rot, seed {seed}, {} files, {} octets, {} messages, {} s:\n{table}",
        store.files.len(),
        store.files.iter().map(|(_, octets)| octets.len()).sum::<usize>(),
        store.seen.messages.len(),
        clock.elapsed().as_secs()
    );
    for (why, count) in &nothings {
        println!("  {count:4} × {why}");
    }
    assert!(table.total(5) > 0, "no server served");
    assert!(missed.is_empty(), "{} missed:\n{}", missed.len(), missed.join("\n"));
}

/// Whether a finding names the file.
fn is_about(finding: &VerifyFinding, name: &str) -> bool {
    // Groups that are gone are missed where the log goes on, or where it ends.
    let is_of_groups = ["missing", "the log ends", "chain"].iter().any(|sign| finding.what.contains(sign));
    finding.place.contains(name)
        || (name.starts_with("log/") && finding.place.starts_with("log") && is_of_groups)
}

/// Whether what cannot be gone through at all is said to be the file: by its name, or by what it is.
fn is_refusal_of(error: &str, name: &str) -> bool {
    let segment = name.strip_prefix("log/").and_then(|name| name.strip_suffix(".seg")?.parse::<u64>().ok());
    let is_segment = segment.is_some_and(|number| error.contains(&format!("log segment {number}:")));
    error.contains(name) || is_segment || (name.starts_with("checkpoints") && error.contains("checkpoint"))
}

/// Whether mail is named: itself, or entries are gone of which nobody can tell any more what they were, or the index, which is to be
/// made anew.
fn is_named(report: &VerifyReport, uidl: &str) -> bool {
    let uid = uidl.rsplit('.').next().and_then(|uid| u32::from_str_radix(uid, 16).ok());
    report.findings.iter().filter(|finding| finding.damage).any(|finding| {
        let is_itself = finding.entries.iter().any(|entry| entry.folder == "INBOX" && Some(entry.uid) == uid);
        is_itself || finding.place.starts_with("log") || finding.place.starts_with("index")
    })
}
