use super::*;

static PAYLOAD: [u8; 5 * 4096] = [7; 5 * 4096];

/// Opens the log in `dir`; gives the numbers of the groups that are taken in.
fn open(dir: &Path) -> (Log, Vec<Finding>, Vec<u64>) {
    let mut taken = Vec::new();
    let mut apply = |_: &Position, _: u64, header: &GroupHeader, _: &[u8]| {
        taken.push(header.sequence);
        Ok(())
    };
    let (log, findings) = Log::open(dir, None, true, None, &mut apply).unwrap();
    (log, findings, taken)
}

fn append(log: &mut Log) -> Position {
    let mut group = log.start_group().unwrap();
    group.push(b"{}", &PAYLOAD, &Digest::of(&PAYLOAD)).unwrap();
    log.append(group).unwrap()
}

/// The ends of so many groups in a new log, which is then left as a crash leaves it.
fn crashed(dir: &Path, groups: usize) -> Vec<u64> {
    let (mut log, ..) = open(dir);
    (0..groups).map(|_| append(&mut log).offset).collect()
}

#[test]
fn a_sector_that_cannot_be_read_costs_what_stands_on_it_and_the_log_goes_on_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let ends = crashed(dir.path(), 4);
    let path = segment_path(dir.path(), 1);
    // In a payload; in the header of a group.
    for (at, groups, loses) in
        [(ends[0] + 3 * 4096, vec![1, 2, 3, 4], false), (ends[1] + 8, vec![1, 2, 4], true)]
    {
        bad::make(Some((&path, at)));
        let (_, findings, taken) = open(dir.path());
        bad::make(None);
        assert_eq!(taken, groups);
        assert_eq!(findings.iter().any(Finding::loses_entries), loses, "{findings:?}");
        assert!(findings.iter().all(|f| f.to_string().contains("cannot be read")), "{findings:?}");
        assert!(!segment_path(dir.path(), 2).exists(), "a copy would hold less than there is");
    }
    bad::make(Some((&path, ends[1] + 8)));
    let (mut log, ..) = open(dir.path());
    let position = append(&mut log);
    bad::make(None);
    assert_eq!((position.segment, position.sequence), (2, 5));
    // Once it can be read again it is all there.
    assert_eq!(open(dir.path()).2, [1, 2, 3, 4, 5]);
}

#[test]
fn a_last_group_that_cannot_be_read_is_not_taken_for_torn() {
    let dir = tempfile::tempdir().unwrap();
    let ends = crashed(dir.path(), 3);
    let path = segment_path(dir.path(), 1);
    bad::make(Some((&path, ends[2] - 1)));
    let (_, findings, taken) = open(dir.path());
    bad::make(None);
    assert_eq!(taken, [1, 2, 3], "its entry stands before its payload");
    assert!(matches!(&findings[..], [Finding::Damage { segment: 1, .. }]), "{findings:?}");
    assert_eq!(fs::read_dir(dir.path().join(TORN_DIR)).unwrap().count(), 0);
    assert!(open(dir.path()).1.is_empty());
}

#[test]
fn what_a_start_secured_is_not_copied_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    crashed(dir.path(), 2);
    for _ in 0..3 {
        // Whatever makes the index from this is killed.
        assert_eq!(open(dir.path()).2, [1, 2]);
        assert!(segment_path(dir.path(), 2).exists() && !segment_path(dir.path(), 3).exists());
    }
    append(&mut open(dir.path()).0);
    open(dir.path());
    assert!(segment_path(dir.path(), 3).exists(), "what came since is secured");
}

#[test]
fn content_punched_out_of_a_closed_segment_is_no_damage_and_anything_else_is() {
    use std::os::unix::fs::FileExt;
    let dir = tempfile::tempdir().unwrap();
    let ends = crashed(dir.path(), 2);
    // The payload is what a group ends with.
    let punch = |from: u64| {
        let file = File::options().write(true).open(segment_path(dir.path(), 1)).unwrap();
        file.write_all_at(&vec![0; (ends[1] - from) as usize], from).unwrap();
    };
    let whole = fs::read(segment_path(dir.path(), 1)).unwrap();
    let damaged = || open_untouched(dir.path()).iter().filter(|found| !found.loses_entries()).count();
    punch(ends[1] - PAYLOAD.len() as u64);
    assert_eq!(damaged(), 1, "nothing is punched out of the last segment");
    let header = SegmentHeader { number: 2, previous: 1, previous_octets: ends[1], chain: Digest([0; 32]) };
    fs::write(segment_path(dir.path(), 2), header.encode()).unwrap();
    assert_eq!(damaged(), 0);
    fs::write(segment_path(dir.path(), 1), whole).unwrap();
    punch(ends[1] - 4096);
    assert_eq!(damaged(), 1);
}

/// What is found when the log is read as it is, and nothing is secured or cut off.
fn open_untouched(dir: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let end = Position { segment: u64::MAX, offset: 0, chain: Digest([0; 32]), sequence: 0 };
    Log::replay_onto(dir, None, end, &mut findings, &mut |_, _, _, _| Ok(())).unwrap();
    findings
}
