//! Lines, signatures and the keys that count.

use super::*;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

fn checkpoint(key: &SigningKey, sequence: u64) -> Checkpoint {
    Checkpoint {
        v: CHECKPOINT_VERSION,
        at: Timestamp::from_unix_ms(1_795_000_000_123),
        key: key.public(),
        previous_key: None,
        segment: 3,
        offset: 7212,
        sequence,
        chain: Digest([5; 32]),
    }
}

/// What was signed once must be checked alike for ever: by us, and by those who wrote a few lines of Python.
#[test]
fn the_signed_octets_are_what_the_page_says() {
    let key = key(7);
    let line = key.sign(&checkpoint(&key, 41)).unwrap();
    let value: Value = serde_json::from_str(&line).unwrap();
    let expect = format!(
        "daybook checkpoint\n{{\"at\":\"2026-11-18T11:06:40.123Z\",\"chain\":\"{}\",\"key\":\"{}\",\"offset\":7212,\
         \"segment\":3,\"sequence\":41,\"v\":1}}",
        "05".repeat(32),
        "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c",
    );
    assert_eq!(String::from_utf8(signed_octets(&value["checkpoint"]).unwrap()).unwrap(), expect);
    assert_eq!(Checkpoint::read(&line).unwrap(), checkpoint(&key, 41));
    // Ed25519 gives one signature only.
    assert_eq!(line, key.sign(&checkpoint(&key, 41)).unwrap());
    assert_eq!(key.public().file_stem(), "daybook-ea4a6c63e29c520a");
}

#[test]
fn no_flipped_bit_of_a_line_is_taken_for_a_checkpoint_of_ours_or_of_a_newer_program() {
    let key = key(7);
    let line = key.sign(&checkpoint(&key, 41)).unwrap();
    for at in 0..line.len() * 8 {
        let mut bad = line.clone().into_bytes();
        bad[at / 8] ^= 1 << (at % 8);
        match Checkpoint::read(&String::from_utf8_lossy(&bad)) {
            Ok(read) => assert_eq!(read, checkpoint(&key, 41), "a hex digit in capitals"),
            Err(CheckpointError::Newer(_)) => panic!("bit {at}"),
            Err(_) => {}
        }
    }
}

#[test]
fn a_newer_checkpoint_is_told_apart() {
    let key = key(7);
    let line = key.sign(&Checkpoint { v: 2, ..checkpoint(&key, 41) }).unwrap();
    assert_eq!(Checkpoint::read(&line), Err(CheckpointError::Newer(2)));
}

#[test]
fn a_full_file_becomes_the_one_before_and_what_was_cut_off_is_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let (path, before) = (dir.path().join("c"), dir.path().join("c.1"));
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let add = |line: &str| append(&path, &before, line, 8, 0o600).unwrap();
    add("one");
    add("two");
    assert_eq!((read(&path), read(&before)), ("one\ntwo\n".to_owned(), String::new()));
    add("three");
    std::fs::write(&path, "33\nha").unwrap();
    add("four");
    assert_eq!((read(&path), read(&before)), ("33\nfour\n".to_owned(), "one\ntwo\n".to_owned()));
    add("five");
    assert_eq!((read(&path), read(&before)), ("five\n".to_owned(), "33\nfour\n".to_owned()));
    assert!(append(dir.path(), &before, "x", u64::MAX, 0o600).is_err());
}

#[test]
fn a_whole_line_that_lost_its_end_stays_and_what_was_written_again_behind_a_cut_is_only_told() {
    let dir = tempfile::tempdir().unwrap();
    let (path, before) = (dir.path().join("c"), dir.path().join("c.1"));
    let key = key(1);
    let line = |sequence: u64| key.sign(&checkpoint(&key, sequence)).unwrap();
    std::fs::write(&path, format!("{}\n{}\n{}", line(1), line(2).get(..50).unwrap(), line(2))).unwrap();
    append(&path, &before, &line(3), u64::MAX, 0o600).unwrap();
    let read = read_files(&[path], &[key.public()], READ_OCTETS_MAX).unwrap();
    assert_eq!(read.trusted.iter().map(|c| c.sequence).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(read.refused.is_empty() && matches!(&read.cut_off[..], [(_, CheckpointError::CutOff(_))]));
}

#[test]
fn only_keys_of_this_store_and_those_before_them_count() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new, stranger) = (key(1), key(2), key(3));
    let after = Checkpoint { previous_key: Some(old.public()), ..checkpoint(&new, 2) };
    let lines = [
        old.sign(&checkpoint(&old, 1)).unwrap(),
        stranger.sign(&checkpoint(&stranger, 900)).unwrap(),
        new.sign(&after).unwrap(),
        "{\"checkpoint\":1}".to_owned(),
        new.sign(&checkpoint(&new, 3)).unwrap().replace("\"sequence\":3", "\"sequence\":8"),
    ];
    let path = dir.path().join("c.jsonl");
    std::fs::write(&path, format!("{}\n{{\"checkpoint\":{{", lines.join("\n"))).unwrap();
    for keys in [&[new.public()][..], &[]] {
        let read = read_files(&[path.clone(), dir.path().join("none")], keys, READ_OCTETS_MAX).unwrap();
        assert_eq!(read.trusted, [checkpoint(&old, 1), after.clone()]);
        assert_eq!(read.newest(), Some(&after));
        let refused: Vec<_> = read.refused.iter().map(|(_, why)| why.clone()).collect();
        assert!(matches!(
            &refused[..],
            [CheckpointError::NotOne(_), CheckpointError::Forged, CheckpointError::Stranger(_)]
        ));
        let at = format!("c.jsonl at {}", lines[0].len() + 1);
        assert_eq!(read.refused[2].0, at);
    }
    // The end alone is enough to find the newest.
    let end = std::fs::metadata(&path).unwrap().len() - 5;
    let short = read_files(&[path], &[new.public()], end).unwrap();
    assert_eq!(short.trusted, [after]);
}
