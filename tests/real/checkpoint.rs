//! Signed checkpoints, checked by `openssl` and a few lines of Python: whoever holds them needs nothing of ours.

use daybook::store::checkpoints;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What checkpoint.py says of these lines.
fn checked(lines: &str, key: &Path) -> Output {
    let mut command = Command::new("python3");
    command.arg("tests/real/checkpoint.py").arg(key).current_dir(env!("CARGO_MANIFEST_DIR"));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may have ended at a forged line before it read all.
    drop(child.stdin.take().unwrap().write_all(lines.as_bytes()));
    child.wait_with_output().unwrap()
}

#[test]
fn openssl_and_python_take_our_checkpoints_and_no_forged_one() {
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/store/data_dir-version-1");
    let lines = std::fs::read_to_string(stored.join("checkpoints.jsonl")).unwrap();
    let trusted = checkpoints(&stored).unwrap().trusted;
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key.pub");
    std::fs::write(&key, trusted[0].key.pem()).unwrap();
    let good = checked(&lines, &key);
    let expect: String = trusted.iter().map(|checkpoint| format!("{}\n", checkpoint.sequence)).collect();
    assert_eq!(String::from_utf8_lossy(&good.stdout), expect, "{}", String::from_utf8_lossy(&good.stderr));
    let forged = lines.replacen("\"segment\":1", "\"segment\":2", 1);
    assert_ne!(forged, lines);
    assert!(!checked(&forged, &key).status.success());
}
