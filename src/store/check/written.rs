//! Logs written by hand, for tests of what is said of them.

use super::*;
use crate::mail::Timestamp;
use crate::store::format::GroupHeader;
use crate::store::log::{Log, Position};
use crate::store::{Digest, Embedded, Options};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Entries with their payloads, for one group.
pub(super) type Entries = Vec<(Value, Vec<u8>)>;

const VERSION_3: &str = include_str!("../../../corpus/store/version-3.jsonl");
pub(super) const OF: &str = "01a1fdec-98d4-74b4-b602-ba2aba77a626";
pub(super) const DAY_MS: i64 = 24 * 60 * 60 * 1000;
pub(super) const INBOX: u64 = 1;
pub(super) const BOB: u64 = 2;
pub(super) const UNASSIGNED: u64 = 3;

/// So many milliseconds after the first day.
pub(super) fn at(ms: i64) -> String {
    Timestamp::from_unix_ms(1_795_000_000_000 + ms).to_string()
}

pub(super) fn days(days: i64) -> String {
    at(days * DAY_MS)
}

fn line(part: &str) -> Value {
    serde_json::from_str(VERSION_3.lines().find(|line| line.contains(part)).unwrap()).unwrap()
}

pub(super) fn gateway_mailbox(change: Value) -> Value {
    let mut entry = line("\"fact\":\"gateway-mailbox\"");
    entry["v"] = json!(5);
    for (key, value) in change.as_object().unwrap() {
        entry["gateway_mailbox"][key] = value.clone();
    }
    entry
}

fn name(folder: u64) -> Value {
    match folder {
        INBOX => json!("inbox"),
        BOB => json!({"user": {"user": "bob", "folder": "incoming"}}),
        _ => json!("unassigned"),
    }
}

pub(super) fn payload(object: u64) -> Vec<u8> {
    format!("sealed octets of object {object}, and there is no other object that has them").into_bytes()
}

fn object(number: u64, receipt: u64) -> (Value, Vec<u8>) {
    let octets = payload(number);
    let entry = json!({
        "v": 1, "fact": "object", "object": number, "receipt_id": receipt_id(receipt), "gateway_mailbox": OF,
        "octets": 40, "sealed_octets": octets.len(), "sealed_sha256": Digest::of(&octets),
    });
    (entry, octets)
}

pub(super) fn receipt_id(receipt: u64) -> String {
    format!("01a1fdec-a23b-7c0c-8c24-{receipt:012x}")
}

/// A receipt of one message, in the objects `2n - 1` and, its summary, `2n`, unless it lies in `of`.
pub(super) fn received(receipt: u64, of: Option<u64>, received_at: &str, placed: &[(u64, u32)]) -> Entries {
    let mut entry = line("\"fact\":\"received\"");
    let (lies_in, summary) = (of.unwrap_or(2 * receipt - 1), 2 * receipt);
    let mut message = entry["messages"][0].clone();
    message["message"] = json!(receipt);
    message["extents"] = json!([{"object": lies_in, "offset": 0, "octets": 40}]);
    message["summary"] = json!([summary, 0]);
    message["exact"] = json!(Digest::of(&receipt.to_le_bytes()));
    message["join"] = message["exact"].clone();
    let placements = placed.iter().map(
        |(folder, uid)| json!({"folder": folder, "name": name(*folder), "uid": uid, "message": receipt, "reasons": []}),
    );
    entry["receipt_id"] = json!(receipt_id(receipt));
    entry["at"] = json!(received_at);
    entry["identity"] = message["exact"].clone();
    entry["reports"] = json!([]);
    entry["messages"] = json!([message]);
    entry["placements"] = placements.collect();
    let own = of.is_none().then(|| object(lies_in, receipt));
    own.into_iter().chain([object(summary, receipt), (entry, Vec::new())]).collect()
}

/// A report in the objects `2n - 1` and `2n`, placed in INBOX; elsewhere is what it reports: the message of receipt `of`.
pub(super) fn report(receipt: u64, of: u64, placed: &[(u64, u32)]) -> Entries {
    let mut entries = received(receipt, None, &days(0), placed);
    let (entry, _) = entries.last_mut().unwrap();
    let mut original = entry["messages"][0].clone();
    original["message"] = json!(of);
    original["held"] = json!(true);
    original["extents"][0]["object"] = json!(2 * of - 1);
    original["exact"] = json!(Digest::of(&of.to_le_bytes()));
    original["join"] = original["exact"].clone();
    entry["messages"].as_array_mut().unwrap().push(original);
    for placement in entry["placements"].as_array_mut().unwrap() {
        let is_report = placement["folder"] == json!(INBOX);
        placement["message"] = json!(if is_report { receipt } else { of });
    }
    entries
}

/// A receipt's message leaves one folder for another.
pub(super) fn released(at: &str, receipt: u64, (from, left): (u64, u32), (to, uid): (u64, u32)) -> Entries {
    let placement = json!({"folder": to, "name": name(to), "uid": uid, "message": receipt, "reasons": [],
        "join": Digest::of(&receipt.to_le_bytes())});
    let entry = json!({"v": 3, "fact": "revised", "receipt_id": receipt_id(receipt), "gateway_mailbox": OF, "at": at,
        "actor": "cli", "kind": "released", "received_at": days(0), "epoch": 1, "placements": [placement],
        "left": [{"folder": from, "name": name(from), "uid": left}]});
    vec![(entry, Vec::new())]
}

pub(super) fn entry(version: u32, fact: &str, at: &str, folder: u64, further: Value) -> Entries {
    let mut entry = json!({"v": version, "fact": fact, "at": at, "gateway_mailbox": OF, "folder": folder});
    for (key, value) in further.as_object().unwrap() {
        entry[key] = value.clone();
    }
    vec![(entry, Vec::new())]
}

pub(super) fn deleted(at: &str, folder: u64, uid: u32) -> Entries {
    let client = json!({"protocol": "pop3", "peer": "127.0.0.1", "session_id": receipt_id(99)});
    entry(1, "deleted", at, folder, json!({"uids": [[uid, uid]], "client": client}))
}

pub(super) fn freed(at: &str, folder: u64, uid: u32, objects: Value) -> Entries {
    entry(5, "freed", at, folder, json!({"uids": [[uid, uid]], "objects": objects, "actor": "retention"}))
}

pub(super) fn expired(at: &str, folder: u64, uid: u32) -> Entries {
    entry(
        5,
        "expired",
        at,
        folder,
        json!({"uids": [[uid, uid]], "actor": "retention", "why": "received long ago"}),
    )
}

pub(super) fn undeleted(at: &str, folder: u64, of: u32, uid: u32, receipt: u64) -> Entries {
    brought_back(at, folder, (of, uid), (receipt, receipt))
}

/// An entry of a message of a receipt.
pub(super) fn brought_back(
    at: &str,
    folder: u64,
    (of, uid): (u32, u32),
    (receipt, message): (u64, u64),
) -> Entries {
    let entries = json!([{"of": of, "uid": uid, "message": message, "receipt_id": receipt_id(receipt),
        "received_at": days(0), "join": Digest::of(&message.to_le_bytes())}]);
    entry(
        5,
        "undeleted",
        at,
        folder,
        json!({"name": name(folder), "actor": "cli", "epoch": 1, "entries": entries}),
    )
}

/// A store whose log is written by hand.
pub(super) struct Written {
    pub(super) dir: TempDir,
    pub(super) log: Option<Log>,
}

pub(super) fn open(dir: &Path) -> Embedded {
    Embedded::open(&Options { data_dir: dir.to_owned(), reserve_octets: 0 }).unwrap().0
}

impl Written {
    pub(super) fn new() -> Written {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()));
        let mut written = Written { dir, log: None };
        written.append(&[(gateway_mailbox(json!({})), Vec::new())]);
        for folder in [INBOX, BOB, UNASSIGNED] {
            let further =
                json!({"name": name(folder), "uid_validity": 7, "slug": (folder == BOB).then_some("bob")});
            written.append(&entry(1, "folder", &days(0), folder, further));
        }
        written
    }

    pub(super) fn of(groups: &[Entries]) -> Written {
        let mut written = Written::new();
        for group in groups {
            written.append(group);
        }
        written
    }

    pub(super) fn append(&mut self, entries: &[(Value, Vec<u8>)]) -> Position {
        let dir = self.dir.path().join("log");
        let take = &mut |_: &Position, _, _: &GroupHeader, _: &[u8]| Ok(());
        let log = self.log.get_or_insert_with(|| Log::open(&dir, None, true, None, take).unwrap().0);
        let mut group = log.start_group().unwrap();
        for (entry, payload) in entries {
            group.push(entry.to_string().as_bytes(), payload, &Digest::of(payload)).unwrap();
        }
        log.append(group).unwrap()
    }

    /// Has the index take all of it in.
    pub(super) fn indexed(&mut self) {
        self.log = None;
        drop(open(self.dir.path()));
    }

    pub(super) fn segments(&self) -> Vec<PathBuf> {
        let all = fs::read_dir(self.dir.path().join("log")).unwrap().map(|entry| entry.unwrap().path());
        all.filter(|path| path.extension().is_some_and(|end| end == "seg")).collect()
    }

    /// Writes these octets over the beginning of an object, wherever it is.
    pub(super) fn overwrite(&self, object: u64, with: &[u8]) {
        let payload = payload(object);
        for path in self.segments() {
            let mut octets = fs::read(&path).unwrap();
            while let Some(at) = memchr::memmem::find(&octets, &payload) {
                octets[at..at + with.len()].copy_from_slice(with);
            }
            fs::write(&path, octets).unwrap();
        }
    }

    pub(super) fn blank(&self, object: u64) {
        self.overwrite(object, &vec![0; payload(object).len()]);
    }

    pub(super) fn verify(&self, deep: bool) -> VerifyReport {
        let options = VerifyOptions {
            data_dir: self.dir.path().to_owned(),
            deep,
            checkpoints: None,
            checkpoint_dir: None,
            key: None,
        };
        verify(&options, &mut |_| {}).unwrap()
    }

    /// What is damaged, but for keyrings that such a store has none of.
    pub(super) fn damage(&self, deep: bool) -> Vec<VerifyFinding> {
        let found = self.verify(deep).findings.into_iter();
        found.filter(|finding| finding.damage && finding.kind != FindingKind::Key).collect()
    }
}
