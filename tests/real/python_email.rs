//! Our scanner and Python's `email` package find the same parts, with the same bodies, in every well-formed message of the corpus.
//!
//! As `tests/cross_check.rs` does it with `mail-parser`; the key of an explanation is `python`. A message in which Python finds a
//! defect of its own, or which it cannot read, is excused by that.

use super::corpus_messages as corpus;
use super::parts::{Comparison, Excuse, FILE_READ_AS_MESSAGE, Theirs};
use serde::Deserialize;
use std::path::Path;
use std::process::Command;

/// Messages of the corpus that must agree at least.
const AGREE_MIN: usize = 50;

const EXCUSES: &[Excuse] = &[FILE_READ_AS_MESSAGE];

/// What `parts.py` says of a message.
#[derive(Deserialize)]
struct Parsed {
    #[serde(default)]
    defects: usize,
    /// None when it failed.
    root: Option<Theirs>,
}

#[test]
fn python_finds_the_same_parts() {
    let paths = corpus::messages();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/parts.py");
    let output = Command::new("python3").arg(script).args(&paths).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let parsed: Vec<Parsed> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(parsed.len(), paths.len());
    let mut comparison = Comparison::with("python", EXCUSES);
    let mut faulty = 0;
    for (path, parsed) in paths.iter().zip(parsed) {
        let (Some(root), 0) = (parsed.root, parsed.defects) else {
            faulty += 1;
            continue;
        };
        let message = std::fs::read(path).unwrap();
        comparison.take(&path.display().to_string(), Some(path), &message, || Some(root));
    }
    println!("python: {faulty} messages with defects of their own");
    comparison.finish(AGREE_MIN);
}
