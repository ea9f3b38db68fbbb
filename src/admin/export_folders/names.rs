//! Names of folders that every file system takes: Windows' and macOS' too, when an export is copied there.
//!
//! A part of a path keeps ASCII letters, digits and `@ . _ + - =` and blanks; every other octet becomes `=XX`, as in the slugs
//! that most of them are. What is left of a name that means something else somewhere (`..`, `CON`, a dot or blank at either end)
//! has its first or last character written so as well. What is too long is cut and gets a hash. Two folders whose names differ
//! only in case get different names: the later one a hash.

use crate::store::{Digest, FolderName};
use std::collections::{BTreeMap, BTreeSet};

/// Longest part of a path, in octets: every file system takes 255, and names of files in it become longer by a suffix.
const PART_OCTETS_MAX: usize = 200;
/// Hex digits of the hash that tells names apart.
const HASH_DIGITS: usize = 16;
/// Names of devices on Windows, with any suffix.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];
/// The same with a digit behind.
const NUMBERED_DEVICES: [&str; 2] = ["com", "lpt"];

/// The parts of a folder's path, whatever characters are in them.
pub(super) fn parts(name: &FolderName, slug_path: &str) -> Vec<String> {
    match name {
        FolderName::User { folder, .. } => {
            // The middle may hold the delimiter: of a user without a slug it is the directory's id.
            let rest = slug_path.strip_prefix("Users/").unwrap_or(slug_path);
            let user = rest.strip_suffix(folder.as_str()).and_then(|rest| rest.strip_suffix('/'));
            vec!["Users".to_owned(), user.unwrap_or(rest).to_owned(), folder.as_str().to_owned()]
        }
        FolderName::Inbox | FolderName::Unassigned | FolderName::Quarantine => vec![slug_path.to_owned()],
    }
}

/// Gives every folder a path of its own.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Of parts that were named: the path so far, by the parts it stands for.
    named: BTreeMap<Vec<String>, String>,
    /// Paths that are given, folded.
    taken: BTreeSet<String>,
}

impl Names {
    /// None are given but those the export needs itself.
    pub(super) fn new(reserved: &[&str]) -> Names {
        let taken = reserved.iter().map(|name| name.to_ascii_lowercase()).collect();
        Names { named: BTreeMap::new(), taken }
    }

    /// These parts stand at this path already.
    pub(super) fn know(&mut self, parts: &[String], path: &str) {
        let given: Vec<&str> = path.split('/').collect();
        for count in 1..=parts.len().min(given.len()) {
            let (Some(parts), Some(given)) = (parts.get(..count), given.get(..count)) else { continue };
            let given = given.join("/");
            self.taken.insert(given.to_ascii_lowercase());
            self.named.insert(parts.to_vec(), given);
        }
    }

    /// The path of these parts, `/` between its own.
    pub(super) fn path(&mut self, parts: &[String]) -> String {
        let mut path = String::new();
        for (index, part) in parts.iter().enumerate() {
            let so_far = parts.get(..=index).unwrap_or(parts).to_vec();
            if let Some(known) = self.named.get(&so_far) {
                path.clone_from(known);
                continue;
            }
            let before = if path.is_empty() { String::new() } else { format!("{path}/") };
            path = format!("{before}{}", safe(part));
            if self.taken.contains(&path.to_ascii_lowercase()) {
                path = format!("{before}{}", hashed(&safe(part), part));
            }
            self.taken.insert(path.to_ascii_lowercase());
            self.named.insert(so_far, path.clone());
        }
        path
    }
}

/// A part of a path in characters that no file system trips over, none of them with a meaning of its own there.
fn safe(part: &str) -> String {
    let mut text: String = part.bytes().map(written).collect();
    if text.starts_with(['.', ' ', '-']) || text.is_empty() || is_device(&text) {
        let first = text.bytes().next();
        text = format!("{}{}", escaped(first.unwrap_or_default()), text.get(1..).unwrap_or_default());
    }
    if let Some(last) = text.bytes().last().filter(|last| matches!(last, b'.' | b' ')) {
        text.pop();
        text.push_str(&escaped(last));
    }
    if text.len() > PART_OCTETS_MAX { hashed(&text, part) } else { text }
}

fn written(octet: u8) -> String {
    match octet {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(octet).to_string(),
        b'@' | b'.' | b'_' | b'+' | b'-' | b'=' | b' ' => char::from(octet).to_string(),
        other => escaped(other),
    }
}

fn escaped(octet: u8) -> String {
    format!("={octet:02X}")
}

/// True for what Windows takes for a device, whatever suffix and blanks stand behind.
fn is_device(text: &str) -> bool {
    let stem = text.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    let has_digit = |rest: &str| rest.len() == 1 && rest.bytes().all(|octet| octet.is_ascii_digit());
    let is_numbered = |device: &&str| stem.strip_prefix(*device).is_some_and(has_digit);
    DEVICES.contains(&stem.as_str()) || NUMBERED_DEVICES.iter().any(is_numbered)
}

/// The beginning of a name with a hash of what it stands for.
fn hashed(text: &str, of: &str) -> String {
    let hash = Digest::of(of.as_bytes()).to_string();
    let kept = text.get(..PART_OCTETS_MAX - HASH_DIGITS - 1).unwrap_or(text);
    format!("{kept}={}", hash.get(..HASH_DIGITS).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::UserFolder;
    use proptest::prelude::*;

    #[test]
    fn names_mean_nothing_else_anywhere() {
        for (part, expect) in [
            ("alice@contoso.example", "alice@contoso.example"),
            ("Journal Incoming", "Journal Incoming"),
            ("o=27hara@x.example", "o=27hara@x.example"),
            ("", "=00"),
            (".", "=2E"),
            ("..", "=2E=2E"),
            (".hidden", "=2Ehidden"),
            ("-rf", "=2Drf"),
            ("a/b\\c:d", "a=2Fb=5Cc=3Ad"),
            ("a.", "a=2E"),
            ("a ", "a=20"),
            (" ", "=20"),
            ("con", "=63on"),
            ("CON.example", "=43ON.example"),
            ("com1", "=63om1"),
            ("com10", "com10"),
            ("LPT9.txt", "=4CPT9.txt"),
            ("nul .x", "=6Eul .x"),
            ("prn@x.example", "prn@x.example"),
            ("zoë", "zo=C3=AB"),
            ("a~1", "a=7E1"),
            ("a\nb\0", "a=0Ab=00"),
        ] {
            assert_eq!(safe(part), expect, "{part:?}");
        }
        let long = safe(&"x".repeat(300));
        assert_eq!(long.len(), PART_OCTETS_MAX);
        assert_ne!(long, safe(&"x".repeat(301)));
    }

    #[test]
    fn folders_that_differ_in_case_alone_lie_apart_and_stay_where_they_were() {
        let parts = |user: &str| vec!["Users".to_owned(), user.to_owned(), "Journal Incoming".to_owned()];
        let mut names = Names::new(&["manifest.jsonl", "objects"]);
        let first = names.path(&parts("Bob"));
        let second = names.path(&parts("bob"));
        assert_eq!(first, "Users/Bob/Journal Incoming");
        assert!(second.starts_with("Users/bob=") && second.ends_with("/Journal Incoming"), "{second}");
        assert_eq!(names.path(&parts("Bob")), first);
        assert!(names.path(&["Objects".to_owned()]).starts_with("Objects="));
        let mut later = Names::new(&[]);
        later.know(&parts("bob"), &second);
        later.know(&parts("Bob"), &first);
        assert_eq!((later.path(&parts("bob")), later.path(&parts("Bob"))), (second, first));
    }

    #[test]
    fn a_user_without_a_slug_cannot_climb_out() {
        let name = FolderName::User { user: "../../etc".to_owned(), folder: UserFolder::Incoming };
        let found = parts(&name, &name.path(None));
        assert_eq!(found, ["Users", "../../etc", "Journal Incoming"]);
        assert_eq!(Names::new(&[]).path(&found), "Users/=2E.=2F..=2Fetc/Journal Incoming");
    }

    proptest! {
        #[test]
        fn every_name_is_safe(part in "\\PC{0,90}|[.a-c /\\\\]{0,6}") {
            let safe = safe(&part);
            prop_assert!(!safe.is_empty() && safe.len() <= 255);
            prop_assert!(!safe.starts_with(['.', ' ', '-']) && !safe.ends_with(['.', ' ']));
            prop_assert!(safe.bytes().all(|b| b.is_ascii_alphanumeric() || b"@._+-= ".contains(&b)));
            prop_assert!(!is_device(&safe));
        }
    }
}
