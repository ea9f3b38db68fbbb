//! Where users come from, behind one small trait: a directory is asked for everything, and says it whole or not at all.
//!
//! A source knows the ways of one kind of directory and nothing else: not what was in force before, not which of those it found
//! become users, not what is too large a change. Those are judged once, for all of them, by `filter.rs` and `plan.rs`.

pub mod csv;
pub mod file;
pub mod graph;
pub mod ldap;
mod proxies;

use super::snapshot::ProxyAddress;
use crate::config::{ConfigErrors, DirectoryKind, DirectorySource};
use crate::mail::Address;
use csv::CsvSource;
use file::{FileSource, Fingerprint};
use graph::GraphSource;
use ldap::LdapSource;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::time::Duration;

/// Most candidates one source may name: a larger directory must be divided, so that memory stays bounded.
pub const CANDIDATES_MAX: usize = 1_000_000;
/// Most addresses of one candidate; Exchange has a limit of 300 or so.
pub const CANDIDATE_ADDRESSES_MAX: usize = 2_000;
/// Entries that were left out and are listed one by one; the rest is counted.
pub const SKIPPED_LISTED_MAX: usize = 1_000;

/// A directory that can be asked who its users are.
pub trait Source: Send + Sync {
    /// Reads everything the directory says now. Blocks, for minutes where the directory is large or asks for patience; looks at
    /// `go_on` between requests and gives up when it says no.
    ///
    /// # Errors
    /// [`SourceError`]. A reading that is not complete is always an error: nothing of it is to be used.
    fn read(&self, go_on: &dyn Fn() -> bool) -> Result<Listing, SourceError>;
}

/// The source that a `[[directory]]` asks for.
pub fn open(configured: &DirectorySource) -> Box<dyn Source> {
    match &configured.kind {
        DirectoryKind::File { path } => Box::new(FileSource::new(path)),
        DirectoryKind::Csv(csv) => Box::new(CsvSource::new(csv, &configured.filters)),
        DirectoryKind::Ldap(ldap) => Box::new(LdapSource::new(ldap, &configured.filters)),
        DirectoryKind::Graph(graph) => Box::new(GraphSource::new(graph, &configured.filters)),
    }
}

/// How the files of a source look: tells one state of them from another without reading them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look(Vec<Option<Fingerprint>>);

/// How they look now. Nothing of what is asked over the network.
pub(super) fn look(kind: &DirectoryKind) -> Look {
    let mut files = Vec::new();
    if let Some(path) = kind.path() {
        files.push(path.to_owned());
        if let DirectoryKind::Csv(csv) = kind {
            let folder = if path.is_dir() { Some(path) } else { path.parent() };
            let names = [&csv.users_file, &csv.groups_file].into_iter().filter(|_| path.is_dir());
            let names = names.chain(&csv.done_file);
            files.extend(names.filter_map(|name| Some(folder?.join(name))));
        }
    }
    Look(files.iter().map(|file| Fingerprint::look(file)).collect())
}

/// Everything a directory said, complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Who may be a user, in the directory's order.
    pub candidates: Vec<Candidate>,
    /// Entries that could not be candidates, up to [`SKIPPED_LISTED_MAX`].
    pub skipped: Vec<Skipped>,
    /// Further ones.
    pub more_skipped: u64,
    /// Requests it took: pages, or files.
    pub requests: u64,
}

impl Listing {
    /// Notes an entry that cannot be a candidate.
    pub fn skip(&mut self, entry: impl Into<String>, why: impl Into<String>) {
        if self.skipped.len() < SKIPPED_LISTED_MAX {
            self.skipped.push(Skipped { entry: entry.into(), why: why.into() });
        } else {
            self.more_skipped += 1;
        }
    }
}

/// An entry of the directory that names nobody whom mail could be kept for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its id, or where it stands.
    pub entry: String,
    /// What is wrong with it.
    pub why: String,
}

/// Somebody, or something, that the directory knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The directory's own name for it, which outlives renames: object id, objectGUID, entryUUID.
    pub id: String,
    /// For people.
    pub name: String,
    /// The address shown; `None` when it has no SMTP address: then it is no user.
    pub primary: Option<Address>,
    /// Every further address.
    pub aliases: Vec<ProxyAddress>,
    /// What it is.
    pub kind: CandidateKind,
    /// Whether its account is enabled; `None` when the directory does not say.
    pub enabled: Option<bool>,
    /// Whether it has an Exchange Online plan in force; `None` when the directory does not say.
    pub licensed: Option<bool>,
    /// Which of the configured groups it is in; empty when none is configured.
    pub groups: Vec<String>,
}

/// What a candidate is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CandidateKind {
    /// A person.
    #[default]
    User,
    /// A shared, room or equipment mailbox.
    Shared,
    /// Somebody of another tenant.
    Guest,
    /// A group that has a mailbox of its own.
    Group,
}

impl CandidateKind {
    /// The stable name used in logs and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            CandidateKind::User => "user",
            CandidateKind::Shared => "shared",
            CandidateKind::Guest => "guest",
            CandidateKind::Group => "group",
        }
    }
}

/// Why a reading was not taken. What was in force stays.
#[derive(Debug)]
pub enum SourceError {
    /// A file could not be opened or read.
    Unreadable(io::Error),
    /// A file is too large, is not text, or has faults; every one is listed. The operator's to mend.
    Invalid(ConfigErrors),
    /// There are no users. An export that failed looks like this.
    Empty,
    /// A file was written to while it was read, or is not finished. The next look will see it done.
    Changing,
    /// The directory cannot be reached, or broke off. Mends itself, or the network is at fault.
    Unreachable(String),
    /// The directory answered, and not all that it should have: a page is missing, an answer is cut or makes no sense.
    Incomplete(String),
    /// The same, and the directory said for how long it is not to be asked again.
    Throttled {
        /// What was asked for, and what it said.
        why: String,
        /// So long.
        wait: Duration,
    },
    /// The directory refused: credentials, permissions, a filter it does not take. The operator's to mend.
    Refused {
        /// What it said, with its trace and correlation ids where it gave them.
        said: String,
        /// What to do.
        advice: String,
    },
    /// It names more than is taken.
    TooLarge(String),
    /// The program is ending.
    Stopped,
}

impl SourceError {
    /// What to do about it, where something particular can be said.
    pub fn advice(&self) -> Option<&str> {
        match self {
            SourceError::Refused { advice, .. } => Some(advice),
            _ => None,
        }
    }

    /// For how long the directory is not to be asked again, where it said so.
    pub fn asks_for_patience(&self) -> Option<Duration> {
        match self {
            SourceError::Throttled { wait, .. } => Some(*wait),
            _ => None,
        }
    }

    /// The stable name used in logs, metrics and JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            SourceError::Unreadable(_) => "unreadable",
            SourceError::Invalid(_) => "invalid",
            SourceError::Empty => "empty",
            SourceError::Changing => "changing",
            SourceError::Unreachable(_) => "unreachable",
            SourceError::Incomplete(_) | SourceError::Throttled { .. } => "incomplete",
            SourceError::Refused { .. } => "refused",
            SourceError::TooLarge(_) => "too-large",
            SourceError::Stopped => "stopped",
        }
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceError::Unreadable(error) => write!(f, "cannot be read: {error}"),
            SourceError::Invalid(errors) => errors.fmt(f),
            SourceError::Empty => f.write_str("names no user"),
            SourceError::Changing => f.write_str("was written to while it was read"),
            SourceError::Unreachable(why) => write!(f, "cannot be reached: {why}"),
            SourceError::Incomplete(why) | SourceError::Throttled { why, .. } => {
                write!(f, "did not answer completely: {why}")
            }
            SourceError::Refused { said, .. } => write!(f, "refused: {said}"),
            SourceError::TooLarge(why) => write!(f, "names too much: {why}"),
            SourceError::Stopped => f.write_str("was not read to its end: the program is stopping"),
        }
    }
}

impl std::error::Error for SourceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SourceError::Unreadable(error) => Some(error),
            SourceError::Invalid(errors) => Some(errors),
            _ => None,
        }
    }
}
