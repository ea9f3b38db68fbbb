//! The `file` source: a `users.toml` kept by hand or written by a script.
//!
//! ```toml
//! [[user]]
//! id = "e2f1"                       # names the user for ever; renames keep it
//! name = "Bob Baker"
//! addresses = ["bob@x.example",     # primary first
//!              "sales@x.example", "x500:/o=Org/ou=…/cn=bob"]
//! ```
//! Unknown keys are refused by line and nearest known key, as in the configuration: a misspelt `adresses` must
//! not quietly leave a user without mail. So are a list without users, an id used twice, and an address that is
//! none. An address claimed by two users is no fault of the file (people leave, addresses are handed on): the
//! first keeps it and [`Snapshot::conflicts`](crate::directory::Snapshot::conflicts) lists the other.
//!
//! All reading of directory files is here; everything else in this room is pure or keeps what was read.

use super::{Candidate, CandidateKind, Listing, Source, SourceError};
use crate::config::{ConfigErrors, Problems, Section, parse_document};
use crate::directory::snapshot::{ProxyAddress, User};
use crate::mail::{Address, Untrusted};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Largest list read, in octets: some 200,000 users.
const FILE_OCTETS_MAX: u64 = 64 * 1024 * 1024;
/// Longest id, in octets: it becomes part of store keys.
const ID_OCTETS_MAX: usize = 255;
/// Longest name, in octets.
const NAME_OCTETS_MAX: usize = 1_024;

/// Tells one state of a file from another without reading it.
///
/// The change time is there for files replaced with their modification time kept (`rsync -t`, `cp -p`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::directory) struct Fingerprint {
    inode: u64,
    size_octets: u64,
    modified_ns: (i64, i64),
    changed_ns: (i64, i64),
}

impl Fingerprint {
    pub(super) fn of(metadata: &std::fs::Metadata) -> Fingerprint {
        Fingerprint {
            inode: metadata.ino(),
            size_octets: metadata.size(),
            modified_ns: (metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// How the file looks now; `None` when there is none.
    pub(in crate::directory) fn look(path: &Path) -> Option<Fingerprint> {
        std::fs::metadata(path).ok().map(|metadata| Fingerprint::of(&metadata))
    }
}

/// Opens a list, and says how it looks before anything of it is read.
///
/// # Errors
/// [`SourceError::Unreadable`], also of what is no plain file.
pub(super) fn open(path: &Path) -> Result<(File, Fingerprint), SourceError> {
    // A FIFO would keep the reader waiting for ever already here.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut options = File::options();
    let file = options.read(true).custom_flags(nonblocking).open(path).map_err(SourceError::Unreadable)?;
    let metadata = file.metadata().map_err(SourceError::Unreadable)?;
    if !metadata.is_file() {
        return Err(SourceError::Unreadable(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file")));
    }
    Ok((file, Fingerprint::of(&metadata)))
}

/// A `users.toml`. It tells neither licences nor groups: everybody in it is a user.
#[derive(Debug)]
pub struct FileSource {
    path: PathBuf,
}

impl FileSource {
    /// The list in `path`.
    pub fn new(path: impl Into<PathBuf>) -> FileSource {
        FileSource { path: path.into() }
    }
}

impl Source for FileSource {
    fn read(&self, _: &dyn Fn() -> bool) -> Result<Listing, SourceError> {
        let users = read(&self.path)?;
        Ok(Listing {
            candidates: users.into_iter().map(candidate).collect(),
            requests: 1,
            ..Listing::default()
        })
    }
}

fn candidate(user: User) -> Candidate {
    let User { id, name, primary, aliases } = user;
    let (primary, kind) = (Some(primary), CandidateKind::User);
    Candidate { id, name, primary, aliases, kind, enabled: None, licensed: None, groups: Vec::new() }
}

/// Reads the list in `path`.
///
/// # Errors
/// [`SourceError`] says why the list must not be used.
pub fn read(path: &Path) -> Result<Vec<User>, SourceError> {
    let (file, before) = open(path)?;
    let mut octets = Vec::new();
    (&file).take(FILE_OCTETS_MAX + 1).read_to_end(&mut octets).map_err(SourceError::Unreadable)?;
    let after = file.metadata().map_err(SourceError::Unreadable)?;
    if before != Fingerprint::of(&after) {
        return Err(SourceError::Changing);
    }
    let unusable = |why: String| SourceError::Invalid(ConfigErrors::whole_file(path, why));
    if octets.len() as u64 > FILE_OCTETS_MAX {
        return Err(unusable(format!("is larger than {FILE_OCTETS_MAX} octets")));
    }
    let text = String::from_utf8(octets).map_err(|_| unusable("is not UTF-8 text".to_owned()))?;
    parse(&text, path)
}

/// Reads a list given as text; `file` is only named in faults.
///
/// # Errors
/// [`SourceError::Invalid`] with every fault, or [`SourceError::Empty`].
pub fn parse(text: &str, file: &Path) -> Result<Vec<User>, SourceError> {
    let users = parse_document(text, file, |root, problems| {
        let sections = root.sections("user", "[[user]]", problems);
        let mut ids = HashMap::new();
        let users: Vec<User> =
            sections.into_iter().filter_map(|section| read_user(section, &mut ids, problems)).collect();
        Some(users)
    });
    match users {
        Ok(users) if users.is_empty() => Err(SourceError::Empty),
        Ok(users) => Ok(users),
        Err(errors) => Err(SourceError::Invalid(errors)),
    }
}

fn read_user(
    mut section: Section<'_, '_>,
    ids: &mut HashMap<String, usize>,
    problems: &mut Problems,
) -> Option<User> {
    let id = section.required("id", "what names the user for ever", problems);
    let name = section.required("name", "the user's name, for people", problems);
    let addresses = section.strings("addresses", problems);
    section.finish(problems);
    if !section.has("addresses") {
        section.missing("addresses", "the user's addresses, the primary one first", problems);
    }
    let (id, name, addresses) = (id?, name?, addresses?);
    check_text(&section, "id", &id.value, ID_OCTETS_MAX, id.line, problems);
    check_text(&section, "name", &name.value, NAME_OCTETS_MAX, name.line, problems);
    if let Some(first) = ids.insert(id.value.clone(), id.line) {
        let why = format!("\"{}\" is already the user of line {first}", Untrusted(&id.value));
        section.bad_value("id", id.line, &why, problems);
    }
    let mut texts = addresses.value.into_iter();
    let Some(first) = texts.next() else {
        section.bad_value("addresses", addresses.line, "must begin with the primary address", problems);
        return None;
    };
    let primary = Address::parse(&first.value);
    if let Err(error) = &primary {
        let why = format!("\"{}\" cannot be the primary address: {error}", Untrusted(&first.value));
        section.bad_value("addresses", first.line, &why, problems);
    }
    let mut aliases = Vec::with_capacity(texts.len());
    for text in texts {
        match ProxyAddress::parse(&text.value) {
            Ok(alias) => aliases.push(alias),
            Err(error) => {
                let why = format!("\"{}\": {error}", Untrusted(&text.value));
                section.bad_value("addresses", text.line, &why, problems);
            }
        }
    }
    Some(User { id: id.value, name: name.value, primary: primary.ok()?, aliases })
}

fn check_text(
    section: &Section<'_, '_>,
    key: &str,
    text: &str,
    octets_max: usize,
    line: usize,
    problems: &mut Problems,
) {
    if text.trim().is_empty() || text.len() > octets_max || text.chars().any(char::is_control) {
        let why = format!("must be 1 to {octets_max} octets of text without control characters");
        section.bad_value(key, line, &why, problems);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOB: &str = "[[user]]\nid = 'b'\nname = 'Bob'\naddresses = ['bob@x.example', 'b@x.example']\n";

    fn check(text: &str, expect: &str) {
        let found = match parse(text, Path::new("users.toml")) {
            Ok(users) => format!("{} users", users.len()),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expect, "{text}");
    }

    #[test]
    fn reads_users_with_their_primary_address_first() {
        let users = parse(BOB, Path::new("users.toml")).unwrap();
        let bob = users.first().unwrap();
        assert_eq!((bob.id.as_str(), bob.name.as_str(), bob.primary.as_str()), ("b", "Bob", "bob@x.example"));
        assert_eq!(bob.addresses().collect::<Vec<_>>(), ["bob@x.example", "b@x.example"]);
    }

    #[test]
    fn refuses_a_list_without_users() {
        check("", "names no user");
        check("# all gone\n", "names no user");
        check("user = []", "names no user");
    }

    #[test]
    fn names_line_and_key_of_every_fault() {
        check(
            "[[user]]\nid = 'b'\nname = 'Bob'\nadresses = ['bob@x.example']",
            "users.toml:1: \"addresses\" in [[user]] is missing: the user's addresses, the primary one first\n\
             users.toml:4: unknown key \"adresses\" in [[user]]; did you mean \"addresses\"?",
        );
        check(
            &format!("{BOB}{BOB}[[usr]]\n"),
            "users.toml:6: \"id\" in [[user]]: \"b\" is already the user of line 2\n\
             users.toml:9: unknown key \"usr\"; did you mean \"user\"?",
        );
        check(
            "[[user]]\nid = ' '\nname = 'Bob'\naddresses = [\n'x500:/o=a',\n'b']",
            "users.toml:2: \"id\" in [[user]]: must be 1 to 255 octets of text without control characters\n\
             users.toml:5: \"addresses\" in [[user]]: \"x500:/o=a\" cannot be the primary address: address has no domain\n\
             users.toml:6: \"addresses\" in [[user]]: \"b\": address has no domain",
        );
        check(
            "[[user]]\nid = 'b'\nname = 'Bob'\naddresses = []",
            "users.toml:4: \"addresses\" in [[user]]: must begin with the primary address",
        );
    }

    #[test]
    fn a_cut_off_list_is_invalid_rather_than_shorter() {
        let cut = BOB.trim_end().trim_end_matches(']');
        assert!(matches!(parse(cut, Path::new("users.toml")), Err(SourceError::Invalid(_))));
    }

    #[test]
    fn lists_only_so_many_faults() {
        let text: String =
            (0..200).map(|n| format!("[[user]]\nid = '{n}'\nname = 'N'\naddresses = ['nobody']\n")).collect();
        let shown = parse(&text, Path::new("users.toml")).unwrap_err().to_string();
        assert_eq!(shown.lines().count(), 51);
        assert!(shown.ends_with("and 150 more"), "{shown}");
    }
}
