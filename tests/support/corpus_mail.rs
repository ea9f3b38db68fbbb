//! The messages of the corpus, wherever below it they lie.

use std::path::{Path, PathBuf};

/// A message, and where it stands.
pub(crate) struct Mail {
    pub(crate) path: PathBuf,
    pub(crate) octets: Vec<u8>,
}

/// Every `.eml` below `corpus`, in the order of their paths.
pub(crate) fn all() -> Vec<Mail> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "eml") {
                found.push(Mail { octets: std::fs::read(&path).unwrap(), path });
            }
        }
    }
    assert!(!found.is_empty(), "no message in the corpus");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}
