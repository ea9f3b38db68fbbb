//! Keeps the shape of the repository: which room may import which, what pure code may not touch, what may stand
//! at the top level, and that every room opens with its page.
//!
//! Imports are read from the text: `crate::room`, `crate::{room, …}`, `super::` chains that reach the crate's
//! root, and `daybook::room` in `main.rs`. Comments are left out, so doc links may point anywhere. Unit tests
//! count for imports, but may do I/O.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::string_slice, reason = "every index comes from a search in the same text")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which rooms each room may import besides itself. A new room has no arrows until it stands here.
const ARROWS: &[(&str, &[&str])] = &[
    ("mail", &[]),
    ("config", &["mail"]),
    ("extract", &["mail"]),
    ("authentic", &["mail"]),
    ("observe", &["mail"]),
    ("net", &["mail", "config", "observe"]),
    ("entra", &["mail", "config", "net", "observe"]),
    ("directory", &["mail", "config", "net", "entra", "observe"]),
    ("assign", &["mail", "directory"]),
    ("store", &["mail", "observe"]),
    ("smtp", &["mail", "net", "observe", "config"]),
    ("fetch", &["mail", "store", "net", "observe", "config"]),
    ("pull", &["mail", "config", "net", "entra", "smtp", "store", "observe"]),
    (
        "pipeline",
        &["mail", "config", "smtp", "extract", "authentic", "assign", "directory", "store", "observe"],
    ),
    (
        "admin",
        &[
            "mail",
            "config",
            "extract",
            "authentic",
            "directory",
            "assign",
            "observe",
            "store",
            "net",
            "smtp",
            "fetch",
            "entra",
            "pull",
            "pipeline",
        ],
    ),
    (
        "cli",
        &[
            "mail",
            "config",
            "extract",
            "authentic",
            "directory",
            "assign",
            "observe",
            "store",
            "net",
            "smtp",
            "fetch",
            "entra",
            "pull",
            "pipeline",
            "admin",
        ],
    ),
    ("main", &["cli"]),
];

/// What pure code must not mention: sockets, files, runtimes, logs and clocks are arguments or someone else's.
const IMPURE: &[&str] = &[
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "std::fs",
    "tokio::",
    "tracing::",
    "SystemTime::now",
    "Instant::now",
];

/// What may stand at the top level, besides dotfiles.
const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "src",
    "config",
    "benches",
    "tests",
    "corpus",
    "Dockerfile",
    "README.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "target",
];

/// A source file: its path below `src` with `/` between, and its text.
struct Source {
    path: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    walk(Path::new("src"), &mut found);
    found.sort();
    assert!(!found.is_empty(), "no source in src");
    found
        .into_iter()
        .map(|path| Source {
            text: std::fs::read_to_string(&path).unwrap(),
            path: path.strip_prefix("src").unwrap().to_str().unwrap().to_owned(),
        })
        .collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The room a file belongs to: `smtp` of `smtp/session.rs`, `main` of `main.rs`.
fn room_of(path: &str) -> &str {
    path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// Sans-IO protocol code inside a room that also has shells.
fn is_sans_io(path: &str) -> bool {
    let part_starts = |prefix: &str| path.split('/').skip(1).any(|part| part.starts_with(prefix));
    match room_of(path) {
        "smtp" => part_starts("session") || part_starts("data") || part_starts("reply"),
        "fetch" => path.split('/').skip(1).any(|part| part.contains("session")),
        "pull" => part_starts("parse") || part_starts("sets") || part_starts("unstuff"),
        _ => false,
    }
}

fn is_pure(path: &str) -> bool {
    matches!(room_of(path), "mail" | "extract" | "assign" | "authentic")
        || is_sans_io(path)
        || is_pure_of_directory(path)
        || path.starts_with("observe/alarm")
        || path.starts_with("observe/rhythm")
}

/// What judges and remembers between a source and what is in force; reading and keeping stand beside it.
fn is_pure_of_directory(path: &str) -> bool {
    let pure = ["snapshot", "filter", "plan", "diff", "holders", "roll", "schedule", "past"];
    let rest = path.strip_prefix("directory/").unwrap_or_default();
    pure.iter().any(|name| rest.starts_with(name))
}

/// The rooms `path` may import; `None` for `lib.rs`, which names them all.
fn allowed(path: &str) -> Option<Vec<&'static str>> {
    let room = room_of(path);
    if room == "lib" {
        return None;
    }
    if is_sans_io(path) {
        return Some(vec!["mail"]);
    }
    let arrows = ARROWS.iter().find(|(name, _)| *name == room).map(|(_, arrows)| *arrows);
    Some(arrows.unwrap_or_default().to_vec())
}

/// The text without comments. Strings keep theirs, but need not be told apart: `//` in one only hides its tail.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The part before the unit tests.
fn before_tests(code: &str) -> &str {
    code.split("#[cfg(test)]\nmod").next().unwrap_or_default()
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

/// The first names of what follows `root::`: one, or those of a `{…}` group.
fn first_names(rest: &str) -> Vec<String> {
    let rest = rest.trim_start();
    let Some(group) = rest.strip_prefix('{') else { return vec![identifier(rest).to_owned()] };
    let mut names = Vec::new();
    let mut depth = 0;
    let mut at_start = true;
    for (index, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            c if at_start && !c.is_whitespace() => {
                names.push(identifier(&group[index..]).to_owned());
                at_start = false;
            }
            _ => {}
        }
    }
    names
}

/// Every place behind `root::`, where `root` is a word of its own.
fn behind<'a>(code: &'a str, root: &str) -> Vec<&'a str> {
    let path = format!("{root}::");
    let found = code.match_indices(&path).filter(|(index, _)| {
        let before = code[..*index].chars().next_back();
        !before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
    });
    found.map(|(index, _)| &code[index + path.len()..]).collect()
}

/// How many `super` lead from a file to the crate's root.
fn depth_of(path: &str) -> usize {
    let parts = path.split('/').count();
    if path.ends_with("mod.rs") || !path.contains('/') { parts.saturating_sub(1).max(1) } else { parts }
}

/// The first names of `super::` chains that reach the root from code that many levels below it.
fn above(code: &str, depth: usize) -> Vec<String> {
    let mut names = Vec::new();
    for mut rest in behind(code, "super") {
        let mut supers = 1;
        while let Some(further) = rest.strip_prefix("super::") {
            rest = further;
            supers += 1;
        }
        if supers >= depth {
            names.extend(first_names(rest));
        }
    }
    names
}

/// Every room a file imports from, itself included.
fn imports(path: &str, text: &str) -> BTreeSet<String> {
    let code = code(text);
    let roots = if path == "main.rs" { ["crate", "daybook"].as_slice() } else { ["crate"].as_slice() };
    let mut names: Vec<String> =
        roots.iter().flat_map(|root| behind(&code, root)).flat_map(first_names).collect();
    let (plain, tests) = code.split_at(before_tests(&code).len());
    names.extend(above(plain, depth_of(path)));
    names.extend(above(tests, depth_of(path) + 1));
    let is_room =
        |name: &String| ARROWS.iter().any(|(room, _)| room == name) || Path::new("src").join(name).is_dir();
    names.into_iter().filter(is_room).collect()
}

fn forbidden_imports(path: &str, text: &str) -> Vec<String> {
    let Some(allowed) = allowed(path) else { return Vec::new() };
    let forbidden = imports(path, text)
        .into_iter()
        .filter(|room| room != room_of(path) && !allowed.contains(&room.as_str()));
    forbidden.map(|room| format!("src/{path} imports {room}")).collect()
}

fn impure_mentions(path: &str, text: &str) -> Vec<String> {
    if !is_pure(path) {
        return Vec::new();
    }
    let code = code(text);
    let plain = before_tests(&code).split_whitespace().collect::<Vec<_>>().join(" ");
    let found = IMPURE.iter().filter(|word| mentions(&plain, word));
    found.map(|word| format!("src/{path} mentions {word}")).collect()
}

/// `use std::{fs, io}` mentions `std::fs` as well.
fn mentions(plain: &str, word: &str) -> bool {
    let grouped = word.strip_prefix("std::").is_some_and(|name| {
        behind(plain, "std")
            .iter()
            .any(|rest| rest.starts_with('{') && first_names(rest).iter().any(|n| n == name))
    });
    grouped || plain.contains(word)
}

#[test]
fn imports_point_one_way() {
    let sources = sources();
    let wrong: Vec<String> =
        sources.iter().flat_map(|file| forbidden_imports(&file.path, &file.text)).collect();
    assert_eq!(wrong, Vec::<String>::new(), "arrows that run back; the table is in tests/tidy.rs");
    let arrows = sources.iter().filter(|file| code(&file.text).contains("use crate::")).count();
    assert!(arrows > 0, "no `use crate::` found at all: the scan reads the wrong place");
}

#[test]
fn every_room_is_in_the_table() {
    let rooms: BTreeSet<String> = sources().iter().map(|file| room_of(&file.path).to_owned()).collect();
    let unknown = rooms.iter().filter(|room| *room != "lib" && !ARROWS.iter().any(|(name, _)| name == room));
    assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&String>::new(), "rooms without an entry in tests/tidy.rs");
}

#[test]
fn the_table_has_no_circles() {
    // Rooms stand in an order in which each imports only earlier ones, but for `main`, the last.
    for (index, (room, arrows)) in ARROWS.iter().enumerate() {
        for arrow in *arrows {
            let target = ARROWS.iter().position(|(name, _)| name == arrow);
            assert!(target.is_some_and(|target| target < index), "{room} → {arrow}");
        }
    }
}

#[test]
fn pure_code_does_no_io_and_reads_no_clock() {
    let sources = sources();
    assert!(sources.iter().any(|file| is_pure(&file.path)), "no pure file found");
    let wrong: Vec<String> =
        sources.iter().flat_map(|file| impure_mentions(&file.path, &file.text)).collect();
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn every_room_opens_with_its_page() {
    let rooms: Vec<Source> = sources()
        .into_iter()
        .filter(|file| file.path.split('/').count() == 2 && file.path.ends_with("/mod.rs"))
        .collect();
    assert!(!rooms.is_empty(), "no room found");
    for room in rooms {
        assert!(room.text.starts_with("//!"), "src/{} must open with its page", room.path);
    }
}

#[test]
fn the_top_level_holds_what_it_should() {
    let names = tracked().unwrap_or_else(listed);
    assert!(names.contains("Cargo.toml") && names.contains("src"), "{names:?}");
    let strange: Vec<&String> =
        names.iter().filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str())).collect();
    assert_eq!(strange, Vec::<&String>::new(), "does not belong at the top level");
}

/// First parts of all paths git tracks; `None` without git or outside a repository.
fn tracked() -> Option<BTreeSet<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z"])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let names: BTreeSet<String> = text
        .split('\0')
        .filter_map(|path| path.split('/').next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    // A source archive unpacked inside some other repository has nothing tracked.
    (!names.is_empty()).then_some(names)
}

fn listed() -> BTreeSet<String> {
    std::fs::read_dir(".")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

#[cfg(test)]
mod the_scan_itself {
    use super::*;

    fn check_imports(path: &str, text: &str, expect: &[&str]) {
        assert_eq!(imports(path, text).into_iter().collect::<Vec<_>>(), expect, "{path}: {text}");
    }

    #[test]
    fn sees_every_way_to_write_an_import() {
        check_imports("smtp/mod.rs", "use crate::mail::Address;", &["mail"]);
        check_imports(
            "smtp/mod.rs",
            "use crate::{mail::{Address, Uid}, store, net as n};",
            &["mail", "net", "store"],
        );
        check_imports("smtp/mod.rs", "fn f() { crate::observe::event!(1) } // crate::cli", &["observe"]);
        check_imports("smtp/mod.rs", "/// [`crate::cli`]\npub(in crate::smtp) fn f() {}", &["smtp"]);
        check_imports("smtp/mod.rs", "use super::store::X;", &["store"]);
        check_imports("smtp/server.rs", "use super::store::X;", &[]);
        check_imports("smtp/server.rs", "use super::super::store::X;", &["store"]);
        check_imports("fetch/pop3/mod.rs", "use super::super::{store::X, mail};", &["mail", "store"]);
        check_imports(
            "smtp/mod.rs",
            "#[cfg(test)]\nmod tests { use super::mail::X; use super::super::store; }",
            &["store"],
        );
        check_imports("main.rs", "fn main() { daybook::cli::main() }", &["cli"]);
        check_imports("smtp/mod.rs", "mycrate::cli; other::crate::cli", &[]);
    }

    fn check_forbidden(path: &str, text: &str, expect: usize) {
        assert_eq!(forbidden_imports(path, text).len(), expect, "{path}: {text}");
    }

    #[test]
    fn finds_arrows_that_run_back() {
        check_forbidden("mail/address.rs", "use crate::config::X;", 1);
        check_forbidden("store/log.rs", "use crate::{mail::X, observe, pipeline::Y};", 1);
        check_forbidden("smtp/server.rs", "use crate::net::X;", 0);
        check_forbidden("smtp/session.rs", "use crate::net::X;", 1);
        check_forbidden("smtp/session/command.rs", "use crate::smtp::reply::X; use crate::config::Y;", 1);
        check_forbidden("fetch/pop3/session.rs", "use crate::store::X;", 1);
        check_forbidden("fetch/pop3/server.rs", "use crate::store::X;", 0);
        check_forbidden("admin/ops.rs", "use crate::cli::X;", 1);
        check_forbidden("newroom/mod.rs", "use crate::mail::X;", 1);
        check_forbidden("main.rs", "use daybook::store::X;", 1);
        check_forbidden("lib.rs", "pub use crate::cli::X;", 0);
    }

    fn check_impure(path: &str, text: &str, expect: usize) {
        assert_eq!(impure_mentions(path, text).len(), expect, "{path}: {text}");
    }

    #[test]
    fn finds_io_in_pure_code_but_not_in_its_tests() {
        check_impure("extract/mime.rs", "use std::fs::File;", 1);
        check_impure("extract/mime.rs", "use std::{fmt, fs};", 1);
        check_impure("extract/mime.rs", "use std::{fmt, io};", 0);
        check_impure("extract/mime.rs", "let t = std::time::Instant::now();", 1);
        check_impure("extract/mime.rs", "#[cfg(test)]\nmod tests { use std::fs; }", 0);
        check_impure("extract/mime.rs", "// std::fs is for others", 0);
        check_impure("directory/snapshot.rs", "tracing::info!(1)", 1);
        check_impure("directory/file.rs", "use std::fs;", 0);
        check_impure("mail/id.rs", "use std::{fmt, net::{IpAddr, TcpStream}};", 1);
        check_impure("mail/id.rs", "use std::net::SocketAddr;", 0);
        check_impure("smtp/server.rs", "use tokio::net::TcpStream;", 0);
        check_impure("smtp/data.rs", "use tokio::io::AsyncRead;", 1);
    }
}
