//! Round trips, damage to every octet, a crash at every step.

use super::exchange::{Step, exchange_in_steps};
use super::*;
use crate::store::format::{GroupHeader, SegmentHeader};
use crate::store::log::{
    Finding, Log, Octets, Position, SegmentFile, counted_segments, find_segments, segment_path,
};
use crate::store::{Digest, StoreError};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

/// A log of which segment 1 holds these groups of entries and payloads, and segment 2 is the last. Gives segment 1 with zeros where
/// its payloads were.
fn log(dir: &Path, groups: &[Vec<(Vec<u8>, usize)>]) -> Vec<u8> {
    let (mut log, _) = open(dir);
    let mut payloads = Vec::new();
    for frames in groups {
        let mut group = log.start_group().unwrap();
        let (_, at) = log.next_group_at();
        for (entry, payload) in frames {
            let payload: Vec<u8> = (0..*payload).map(|n| (n % 251) as u8 + 1).collect();
            let frame = group.push(entry, &payload, &Digest::of(&payload)).unwrap();
            payloads.push((at + frame.payload_offset, payload.len()));
        }
        log.append(group).unwrap();
    }
    let end = log.position();
    drop(log);
    next_segment(dir, end);
    let mut octets = fs::read(segment_path(dir, 1)).unwrap();
    for (at, count) in payloads {
        octets[at as usize..][..count].fill(0);
    }
    octets
}

/// Begins segment 2, as a segment that is full or was given up has the next one begun.
fn next_segment(dir: &Path, end: Position) {
    let header = SegmentHeader { number: 2, previous: 1, previous_octets: end.offset, chain: end.chain };
    fs::write(segment_path(dir, 2), header.encode()).unwrap();
}

/// Opens the log in `dir`; gives the numbers of its groups and what was found.
fn open(dir: &Path) -> (Log, (Vec<u64>, Vec<Finding>)) {
    let mut taken = Vec::new();
    let mut take = |_: &Position, _: u64, header: &GroupHeader, _: &[u8]| {
        taken.push(header.sequence);
        Ok(())
    };
    let (log, findings) = Log::open(dir, None, true, None, &mut take).unwrap();
    (log, (taken, findings))
}

fn whole(file: &SegmentFile) -> Vec<u8> {
    let mut octets = vec![0xff; file.len().unwrap() as usize];
    file.fill(&mut octets, 0).unwrap();
    octets
}

fn json(text: &str) -> Vec<u8> {
    format!("{{\"fact\":\"{text}\"}}").into_bytes()
}

/// Three groups, of which the second has two frames with payloads.
fn some_groups() -> Vec<Vec<(Vec<u8>, usize)>> {
    vec![
        vec![(json("one"), 3_000)],
        vec![(json("two"), 5_000), (json("three"), 0), (json("four"), 70)],
        vec![(json("five"), 0)],
    ]
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.path().is_file());
    let mut names: Vec<String> = files.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn copy(from: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names(from) {
        fs::copy(from.join(&name), dir.path().join(&name)).unwrap();
    }
    dir
}

#[test]
fn the_segment_reads_as_before_but_for_its_payloads_and_its_room_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let groups: Vec<_> = (0..200).map(|n| vec![(json(&n.to_string()), 8_000)]).collect();
    let expected = log(dir.path(), &groups);
    let before = SegmentFile::open(dir.path(), 1).unwrap();
    let with_payloads = whole(&before);
    let returned = exchange(dir.path(), 1).unwrap();
    assert!(returned > 1_500_000, "{returned}");
    assert_eq!(names(dir.path()), ["00000000.seg", "00000001.entries", "00000002.seg"]);
    assert_eq!(whole(&before), with_payloads, "who has it open goes on reading it");
    let after = SegmentFile::open(dir.path(), 1).unwrap();
    assert!(after.is_emptied() && whole(&after) == expected);
    assert_eq!(counted_segments(dir.path()).unwrap(), [(1, expected.len() as u64), (2, 100)]);
    let (taken, findings) = open(dir.path()).1;
    assert_eq!((taken, findings), ((1..=200).collect(), vec![]));
    assert_eq!(exchange(dir.path(), 1).unwrap(), 0, "it was done before");
}

#[test]
fn the_last_segment_and_one_that_is_not_whole_stay_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), &some_groups());
    assert!(matches!(exchange(dir.path(), 2), Err(StoreError::Refused(_))));
    assert!(matches!(exchange(dir.path(), 7), Err(StoreError::Gone)));
    let path = segment_path(dir.path(), 1);
    let sound = fs::read(&path).unwrap();
    for needle in [&b"DBG1"[..], b"DBF1", b"five", b"DAYBOOKS"] {
        let mut bad = sound.clone();
        let at = memchr::memmem::rfind(&bad, needle).unwrap();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        assert!(matches!(exchange(dir.path(), 1), Err(StoreError::Damaged(_))), "{at}");
        assert_eq!(fs::read(&path).unwrap(), bad);
        assert!(!names(dir.path()).iter().any(|name| name.contains("entries")));
    }
}

#[test]
fn what_was_given_up_at_the_end_of_a_segment_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let expected = log(dir.path(), &some_groups());
    let path = segment_path(dir.path(), 1);
    let mut octets = fs::read(&path).unwrap();
    octets.extend_from_slice(&[7; 9_000]);
    fs::write(&path, octets).unwrap();
    exchange(dir.path(), 1).unwrap();
    assert_eq!(whole(&SegmentFile::open(dir.path(), 1).unwrap()), expected);
    // And one that holds nothing at all: a start after a crash leaves it.
    let end = Position { segment: 2, offset: 100, chain: Digest([0; 32]), sequence: 3 };
    let header = SegmentHeader { number: 3, previous: 2, previous_octets: end.offset, chain: end.chain };
    fs::write(segment_path(dir.path(), 3), header.encode()).unwrap();
    exchange(dir.path(), 2).unwrap();
    assert_eq!(whole(&SegmentFile::open(dir.path(), 2).unwrap()).len(), 100);
}

#[test]
fn a_crash_at_any_step_leaves_one_file_that_counts_and_the_next_start_tidies() {
    let dir = tempfile::tempdir().unwrap();
    let expected = log(dir.path(), &some_groups());
    let with_payloads = fs::read(segment_path(dir.path(), 1)).unwrap();
    let mut crashes = Vec::new();
    exchange_in_steps(dir.path(), 1, &mut |step| {
        crashes.push((step, copy(dir.path())));
        // What is half-written, and a rename that reached the disk before what is removed did.
        match step {
            Step::Barred | Step::Removed | Step::Synced => {}
            Step::Written => {
                let cut = copy(dir.path());
                let path = cut.path().join("00000001.entries.new");
                let octets = fs::read(&path).unwrap();
                fs::write(path, &octets[..octets.len() / 2]).unwrap();
                crashes.push((step, cut));
            }
            Step::Renamed => {
                // No rename comes before the octets it names: one that did would not count.
                let cut = copy(dir.path());
                let path = entries_path(cut.path(), 1);
                let octets = fs::read(&path).unwrap();
                fs::write(path, &octets[..octets.len() / 2]).unwrap();
                crashes.push((step, cut));
            }
        }
    })
    .unwrap();
    assert_eq!(crashes.len(), 7);
    for (step, crash) in crashes {
        let file = SegmentFile::open(crash.path(), 1).unwrap();
        let octets = whole(&file);
        let is_read = if file.is_emptied() { octets == expected } else { octets == with_payloads };
        assert!(is_read, "{step:?}");
        assert_eq!(counted_segments(crash.path()).unwrap().len(), 2, "{step:?}");
        let restarted = copy(crash.path());
        let (taken, findings) = open(restarted.path()).1;
        assert_eq!((taken, findings), (vec![1, 2, 3], vec![]), "{step:?}");
        let left = names(restarted.path());
        let of_first: Vec<_> = left.iter().filter(|name| name.starts_with("00000001")).collect();
        assert_eq!(of_first.len(), 1, "{step:?}: {left:?}");
        exchange(crash.path(), 1).unwrap();
        let again = SegmentFile::open(crash.path(), 1).unwrap();
        assert!(again.is_emptied() && whole(&again) == expected, "{step:?}");
        assert_eq!(names(crash.path()), ["00000000.seg", "00000001.entries", "00000002.seg"], "{step:?}");
    }
}

#[test]
fn every_flipped_octet_is_noticed_and_named() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), &some_groups());
    exchange(dir.path(), 1).unwrap();
    let path = entries_path(dir.path(), 1);
    let sound = fs::read(&path).unwrap();
    let blocks: Vec<usize> = memchr::memmem::find_iter(&sound, format::BLOCK_MAGIC).collect();
    let of_entries = blocks[1]..sound.len() - blocks.len() * format::TABLE_ROW_OCTETS;
    for at in 0..sound.len() {
        let mut bad = sound.clone();
        bad[at] ^= 0x20;
        fs::write(&path, &bad).unwrap();
        let (taken, findings) = open(dir.path()).1;
        assert!(!findings.is_empty(), "a flip at {at} is not noticed");
        let named = findings.iter().all(|finding| finding.to_string().contains("of log segment 1"));
        assert!(named, "{at}: {findings:?}");
        // The header and the table say only what the blocks say, and the first block holds the segment's header alone.
        let loses = taken != [1, 2, 3] || findings.iter().any(Finding::loses_entries);
        assert_eq!(loses, of_entries.contains(&at), "{at}: {findings:?}");
    }
    for cut in [0, 1, 87, 88, 100, 200, sound.len() - 1] {
        fs::write(&path, &sound[..cut]).unwrap();
        assert!(!open(dir.path()).1.1.is_empty(), "a cut at {cut} is not noticed");
    }
}

#[test]
fn a_damaged_block_costs_its_entries_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let text: String = (0..2_000u64).map(|n| (n * n * 7_919).to_string()).collect();
    let groups: Vec<_> = (0..120).map(|n| vec![(json(&format!("{n}{text}")), 300)]).collect();
    log(dir.path(), &groups);
    exchange(dir.path(), 1).unwrap();
    let path = entries_path(dir.path(), 1);
    let sound = fs::read(&path).unwrap();
    let blocks: Vec<usize> = memchr::memmem::find_iter(&sound, format::BLOCK_MAGIC).collect();
    assert!(blocks.len() > 6, "{}", blocks.len());
    let mut bad = sound.clone();
    bad[blocks[3] + 60] ^= 1;
    fs::write(&path, &bad).unwrap();
    let (taken, findings) = open(dir.path()).1;
    assert!((100..120).contains(&taken.len()), "{}", taken.len());
    assert!(findings.iter().any(Finding::loses_entries));
    assert!(
        findings.iter().all(|found| found.to_string().contains("cannot be read: 00000001.entries: block at")),
        "{findings:?}"
    );
    // Without header and table the others are found as well.
    bad[20] ^= 1;
    fs::write(&path, &bad).unwrap();
    assert_eq!(open(dir.path()).1.0, taken);
}

#[test]
fn a_program_that_knows_of_no_entries_files_refuses_the_log_by_name() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), &some_groups());
    exchange(dir.path(), 1).unwrap();
    // As every version reads each file that ends so.
    let mut refused = Vec::new();
    for name in names(dir.path()).iter().filter(|name| name.ends_with(".seg")) {
        if let Err(e) = SegmentHeader::decode(&fs::read(dir.path().join(name)).unwrap()) {
            refused.push((name.clone(), e.to_string()));
        }
    }
    let why = "format version 2 is newer than this program".to_owned();
    assert_eq!(refused, [("00000000.seg".to_owned(), why)]);
    fs::remove_file(segment_path(dir.path(), BARRED_NUMBER)).unwrap();
    open(dir.path());
    assert!(segment_path(dir.path(), BARRED_NUMBER).exists(), "a copy without it gets it again");
    // And a newer file of entries is refused by this one.
    let path = entries_path(dir.path(), 1);
    let mut octets = fs::read(&path).unwrap();
    octets[8] = 2;
    let check = crate::store::format::check_of(&octets[..72]);
    octets[72..88].copy_from_slice(&check);
    fs::write(&path, octets).unwrap();
    assert!(matches!(find_segments(dir.path(), &mut Vec::new()), Err(StoreError::Newer(_))));
}

/// `MAKE_FIXTURE=1 cargo test --lib entries_of_version_1` wrote it once; it is never made anew.
#[test]
fn entries_of_version_1_are_read_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let expected = log(dir.path(), &some_groups());
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/store/entries-version-1");
    if std::env::var_os("MAKE_FIXTURE").is_some() {
        exchange(dir.path(), 1).unwrap();
        fs::create_dir_all(&fixture).unwrap();
        fs::copy(entries_path(dir.path(), 1), entries_path(&fixture, 1)).unwrap();
    }
    let file = SegmentFile::open(&fixture, 1).unwrap();
    assert!(file.is_emptied() && file.fault().is_none() && whole(&file) == expected);
}

#[test]
fn whoever_reads_meanwhile_finds_the_segment_in_one_file_or_the_other() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let expected = log(dir.path(), &some_groups());
        let with_payloads = fs::read(segment_path(dir.path(), 1)).unwrap();
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let read = || {
                let mut times = 0;
                while !is_done.load(Ordering::Relaxed) || times == 0 {
                    assert_eq!(counted_segments(dir.path()).unwrap(), [(1, expected.len() as u64), (2, 100)]);
                    let octets = whole(&SegmentFile::open(dir.path(), 1).unwrap());
                    assert!(octets == expected || octets == with_payloads);
                    times += 1;
                }
            };
            let readers = [scope.spawn(read), scope.spawn(read)];
            exchange(dir.path(), 1).unwrap();
            is_done.store(true, Ordering::Relaxed);
            readers.map(|reader| reader.join().unwrap());
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_segment_reads_as_before_at_any_place(
        groups in proptest::collection::vec(
            proptest::collection::vec(
                ((0usize..60_000).prop_map(|n| n * n / 60_000), 0usize..200, (0usize..300_000).prop_map(|n| n * n / 300_000)),
                1..4,
            ),
            0..12,
        ),
        places in proptest::collection::vec((0.0f64..1.0, 0usize..70_000), 40),
        cut in 0.0f64..1.0,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let entry = |(size, seed, payload): &(usize, usize, usize)| {
            let octets = (0..size * 8).map(|n| ((n * n * (seed + 1)) >> 7) as u8).collect();
            (octets, *payload)
        };
        let groups: Vec<Vec<_>> = groups.iter().map(|frames| frames.iter().map(entry).collect()).collect();
        let expected = log(dir.path(), &groups);
        let path = segment_path(dir.path(), 1);
        let written = fs::read(&path).unwrap();
        fs::write(&path, &written[..(cut * written.len() as f64) as usize]).unwrap();
        prop_assert!(matches!(exchange(dir.path(), 1), Err(StoreError::Damaged(_) | StoreError::Gone)));
        fs::write(&path, &written).unwrap();
        exchange(dir.path(), 1).unwrap();
        let file = SegmentFile::open(dir.path(), 1).unwrap();
        prop_assert!(whole(&file) == expected);
        for (place, octets) in places {
            let at = (place * expected.len() as f64) as usize;
            let octets = octets.min(expected.len() - at);
            let mut read = vec![9; octets];
            file.fill(&mut read, at as u64).unwrap();
            prop_assert!(read == expected[at..at + octets]);
        }
        let mut end = [0];
        prop_assert_eq!(file.fill_some(&mut end, expected.len() as u64).unwrap(), 0);
        let counted: BTreeMap<u64, u64> = counted_segments(dir.path()).unwrap().into_iter().collect();
        prop_assert_eq!(counted.get(&1), Some(&(expected.len() as u64)));
    }
}
