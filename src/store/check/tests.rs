use super::*;
use crate::store::Digest;
use crate::store::format::{GroupHeader, SEGMENT_HEADER_OCTETS};
use crate::store::log::{Log, Position, SegmentFile, bad, segment_path};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Entries of a whole store: gateway mailboxes, folders, receipts.
const ENTRIES: &str = include_str!("../../../corpus/store/version-3.jsonl");
const PAYLOAD: &[u8] = b"sealed octets that stand behind an entry";

#[derive(Default)]
struct Heard {
    entries: usize,
    octets: u64,
    damage: Vec<Damage>,
}

impl Visit for Heard {
    fn pace(&mut self, octets: u64) -> ControlFlow<()> {
        self.octets += octets;
        ControlFlow::Continue(())
    }
    fn entry(&mut self, _: &Seen) {
        self.entries += 1;
    }
    fn damage(&mut self, damage: Damage) {
        self.damage.push(damage);
    }
}

/// A log with an entry a group, each with a payload; gives the ends of its groups.
fn log(dir: &Path, groups: usize) -> (PathBuf, Vec<u64>) {
    let (mut log, _) =
        Log::open(dir, None, true, None, &mut |_: &Position, _, _: &GroupHeader, _: &[u8]| Ok(())).unwrap();
    let mut ends = Vec::new();
    for entry in ENTRIES.lines().cycle().take(groups) {
        let mut group = log.start_group().unwrap();
        group.push(entry.as_bytes(), PAYLOAD, &Digest::of(PAYLOAD)).unwrap();
        group.push(ENTRIES.lines().next().unwrap().as_bytes(), &[], &Digest::of(&[])).unwrap();
        ends.push(log.append(group).unwrap().offset);
    }
    (segment_path(dir, 1), ends)
}

fn walk(path: &Path, payloads: bool) -> (Heard, End) {
    let end = std::fs::metadata(path).unwrap().len();
    let expect = Expect { number: 1, from: 0, end, chain: None, sequence: Some(0), payloads };
    let mut heard = Heard::default();
    let file = SegmentFile::open(path.parent().unwrap(), 1).unwrap();
    let end = walk_segment(&file, &expect, &mut heard).unwrap();
    (heard, end)
}

#[test]
fn a_whole_segment_is_walked_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let (path, ends) = log(dir.path(), 5);
    for payloads in [false, true] {
        let (heard, end) = walk(&path, payloads);
        assert_eq!((heard.entries, heard.damage), (10, vec![]));
        assert_eq!((end.offset, end.groups, end.sequence), (ends[4], 5, Some(5)));
        assert!(end.tail.is_none() && !end.stopped);
    }
    let all = walk(&path, true).0.octets;
    assert_eq!(all, ends[4]);
}

#[test]
fn every_flipped_octet_is_damage_and_the_groups_around_it_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let (path, ends) = log(dir.path(), 3);
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut bad = whole.clone();
        bad[at] ^= 4;
        std::fs::write(&path, &bad).unwrap();
        let (heard, end) = match at {
            // A version that is not ours to read.
            8 | 9 => continue,
            _ => walk(&path, true),
        };
        let tail = end.tail.iter().flat_map(|tail| &tail.damage);
        let named: Vec<&Damage> = heard.damage.iter().chain(tail).collect();
        let group = ends.iter().position(|end| (at as u64) < *end).unwrap();
        let starts = [SEGMENT_HEADER_OCTETS as u64, ends[0], ends[1]];
        assert!(!named.is_empty(), "a flip at {at} is not named");
        assert_eq!(end.tail.is_some(), group == 2, "{at}: {named:?}");
        if at >= SEGMENT_HEADER_OCTETS {
            assert!(heard.entries >= 4 - 2 * usize::from(group < 2), "{at}: {}", heard.entries);
            assert!(
                named.iter().any(|d| (starts[group]..ends[group]).contains(&d.offset)),
                "{at}: {named:?}"
            );
        }
    }
}

#[test]
fn what_a_damaged_group_spoke_of_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = log(dir.path(), ENTRIES.lines().count());
    let whole = std::fs::read(&path).unwrap();
    let at = memchr::memmem::find(&whole, b"\"fact\":\"received\"").unwrap();
    let group = memchr::memmem::rfind(&whole[..at], b"DBG1").unwrap();
    let text = at + memchr::memmem::find(&whole[at..], b"\"message_id\":\"<").unwrap() + 16;
    // A text, a key, its frame header's length, its group header: the less is left, the more must be pieced together.
    for (flip, reads_entry) in [(text, true), (at + 1, false), (group + 72 + 9, false), (group + 5, true)] {
        let mut bad = whole.clone();
        bad[flip] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        let (heard, _) = walk(&path, true);
        let [damage, ..] = &heard.damage[..] else { panic!("nothing is named") };
        assert!(damage.loses_entries && damage.receipts.len() == 1, "{damage:?}");
        assert_eq!(damage.entries.is_empty(), !reads_entry, "{damage:?}");
    }
}

#[test]
fn a_missing_group_is_counted_and_a_visitor_ends_the_walk() {
    let dir = tempfile::tempdir().unwrap();
    let (path, ends) = log(dir.path(), 4);
    let mut cut = std::fs::read(&path).unwrap();
    cut.drain(ends[0] as usize..ends[2] as usize);
    std::fs::write(&path, &cut).unwrap();
    let (heard, end) = walk(&path, false);
    assert_eq!((heard.entries, end.groups), (4, 2));
    assert_eq!(heard.damage[0].place(), format!("log/00000001.seg at {}", ends[0]));
    assert_eq!(heard.damage[0].what, "2 groups of entries are missing before this one");

    struct Impatient;
    impl Visit for Impatient {
        fn pace(&mut self, _: u64) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
        fn entry(&mut self, _: &Seen) {}
        fn damage(&mut self, _: Damage) {}
    }
    let expect = Expect { number: 1, from: 0, end: ends[3], chain: None, sequence: None, payloads: true };
    let file = SegmentFile::open(path.parent().unwrap(), 1).unwrap();
    assert!(walk_segment(&file, &expect, &mut Impatient).unwrap().stopped);
}

#[test]
fn content_files_are_compared_by_presence_size_and_hash() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("ab")).unwrap();
    std::fs::write(dir.path().join("ab/c.age"), PAYLOAD).unwrap();
    let sha256 = Digest::of(PAYLOAD);
    let octets = PAYLOAD.len() as u64;
    let ask = |name: &str, octets, sha256: Option<&Digest>| {
        content_file(dir.path(), name, octets, sha256, &mut |_| ControlFlow::Continue(()))
    };
    let what = |found| match found {
        Found::Damaged(damage) => damage.what,
        other => panic!("{other:?}"),
    };
    assert_eq!(ask("ab/c.age", octets, Some(&sha256)), Found::Whole);
    assert_eq!(ask("ab/c.age", octets, None), Found::Whole);
    assert_eq!(what(ask("ab/c.age", 7, None)), "has 40 octets, not 7");
    assert_eq!(
        what(ask("ab/c.age", octets, Some(&Digest::of(b"")))),
        "hash of stored content does not match"
    );
    assert_eq!(what(ask("ab/gone.age", octets, None)), "is not there");
    assert_eq!(what(ask("../lock", octets, None)), "is no name of a content file");
    let stopped =
        content_file(dir.path(), "ab/c.age", octets, Some(&sha256), &mut |_| ControlFlow::Break(()));
    assert_eq!(stopped, Found::Stopped);
}

/// A log with groups of which each has a payload of several sectors; gives the ends of its groups.
fn large_groups(dir: &Path, groups: usize) -> (PathBuf, Vec<u64>) {
    let (mut log, _) =
        Log::open(dir, None, true, None, &mut |_: &Position, _, _: &GroupHeader, _: &[u8]| Ok(())).unwrap();
    let payload = vec![7; 5 * 4096];
    let append = |entry: &str| {
        let mut group = log.start_group().unwrap();
        group.push(entry.as_bytes(), &payload, &Digest::of(&payload)).unwrap();
        log.append(group).unwrap().offset
    };
    let ends = ENTRIES.lines().take(groups).map(append).collect();
    (segment_path(dir, 1), ends)
}

#[test]
fn a_sector_that_cannot_be_read_is_named_once_and_what_is_behind_is_walked() {
    let dir = tempfile::tempdir().unwrap();
    let (path, ends) = large_groups(dir.path(), 4);
    // In a payload; in the header of the third group, with the end of the payload before; in that of the segment and the first.
    for (at, entries, faults) in [(ends[0] + 3 * 4096, 4, 1), (ends[1] + 8, 3, 2), (0, 3, 2)] {
        bad::make(Some((&path, at)));
        let (heard, end) = walk(&path, true);
        bad::make(None);
        assert_eq!((heard.entries, heard.damage.len()), (entries, faults), "{at}: {:?}", heard.damage);
        assert!(
            heard.damage.iter().all(|damage| damage.what.starts_with("cannot be read")),
            "{:?}",
            heard.damage
        );
        assert_eq!((end.offset, end.stopped, end.sequence), (ends[3], false, Some(4)), "{at}");
    }
}
