//! What a client looks for, made ready to be compared with many messages.

use super::header::Header;
use super::text::Needle;
use crate::fetch::folders::FolderEntry;
use crate::fetch::imap::session::sets::{Runs, runs};
use crate::fetch::imap::step::{Numbered, SearchError};
use crate::mail::Flags;
use imap_codec::imap_types::core::AString;
use imap_codec::imap_types::datetime::NaiveDate;
use imap_codec::imap_types::search::SearchKey;
use imap_codec::imap_types::sequence::SequenceSet;
use std::ops::Range;

/// Keys in one search, those in parentheses counted singly.
const KEYS_MAX: usize = 1_000;
/// How deep they may be nested.
const DEPTH_MAX: usize = 100;
/// BODY and TEXT in one search: each is looked for in all that is opened.
const CONTENT_KEYS_MAX: usize = 16;
/// The longest string that is looked for, in octets.
const STRING_OCTETS_MAX: usize = 4_096;
/// Seconds in a day, leap seconds never counted.
const DAY_SECONDS: i64 = 24 * 60 * 60;

/// What must be looked at to know whether a key is true, the dearest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Row,
    Entry,
    Header,
    Content,
}

/// A key that is true or false by itself.
#[derive(Debug)]
pub(super) enum Leaf {
    Number(Ranges),
    Uid(Ranges),
    /// Has this flag, or has it not.
    Flag(Flags, bool),
    Received(Range<i64>),
    Octets(Range<u64>),
    Sent(Range<i64>),
    /// There is a field of this name, with this in it.
    Field(Vec<u8>, Needle),
    Body(Needle),
    Text(Needle),
}

/// Keys joined.
#[derive(Debug)]
enum Node {
    Fixed(bool),
    Leaf(usize),
    All(Vec<Node>),
    Either(Box<(Node, Node)>),
    Not(Box<Node>),
}

/// What is known of one message: of each leaf whether it is true.
#[derive(Debug, Default)]
pub(super) struct Known(Vec<Option<bool>>);

impl Known {
    pub(super) fn is_open(&self, leaf: usize) -> bool {
        self.0.get(leaf).is_some_and(Option::is_none)
    }

    pub(super) fn set(&mut self, leaf: usize, value: bool) {
        if let Some(known) = self.0.get_mut(leaf) {
            *known = Some(value);
        }
    }
}

/// A search.
#[derive(Debug)]
pub(super) struct Plan {
    root: Node,
    leaves: Vec<Leaf>,
}

impl Plan {
    /// # Errors
    /// [`SearchError::TooMuch`] when there are too many keys, too deep, or too long strings.
    pub(super) fn new(key: &SearchKey<'_>, largest: (u32, u32)) -> Result<Plan, SearchError> {
        let mut making = Making { leaves: Vec::new(), keys: 0, largest };
        let root = making.node(key, 0)?;
        let contents = making.leaves.iter().filter(|leaf| leaf.level() == Level::Content).count();
        limit(contents, CONTENT_KEYS_MAX, "BODY and TEXT keys")?;
        Ok(Plan { root, leaves: making.leaves })
    }

    /// True when a leaf can be known at this level.
    pub(super) fn asks_for(&self, level: Level) -> bool {
        // TEXT can be true by the header alone.
        let found =
            |leaf: &Leaf| leaf.level() == level || (matches!(leaf, Leaf::Text(_)) && level == Level::Header);
        self.leaves.iter().any(found)
    }

    pub(super) fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// Begins with a message: what its number and flags tell.
    pub(super) fn look_at_row(&self, message: &Numbered, known: &mut Known) {
        let uid = message.row.uid.value();
        known.0.clear();
        known.0.extend(self.leaves.iter().map(|leaf| match leaf {
            Leaf::Number(numbers) => Some(numbers.contain(message.number)),
            Leaf::Uid(uids) => Some(uids.contain(uid)),
            Leaf::Flag(flag, wanted) => Some(message.row.flags.contains(*flag) == *wanted),
            _ => None,
        }));
    }

    /// Adds what its entry tells.
    pub(super) fn look_at_entry(&self, entry: &FolderEntry, known: &mut Known) {
        let day = entry.received_at.unix_seconds().div_euclid(DAY_SECONDS);
        for (at, leaf) in self.leaves.iter().enumerate() {
            match leaf {
                Leaf::Received(days) => known.set(at, days.contains(&day)),
                Leaf::Octets(octets) => known.set(at, octets.contains(&entry.canonical.octets)),
                _ => {}
            }
        }
    }

    /// Adds what its header tells.
    pub(super) fn look_at_header(&self, header: &[u8], known: &mut Known) {
        let header = Header::new(header);
        for (at, leaf) in self.leaves.iter().enumerate() {
            match leaf {
                Leaf::Sent(days) => known.set(at, header.day().is_some_and(|day| days.contains(&day))),
                Leaf::Field(name, needle) => known.set(at, header.has(name, needle)),
                Leaf::Text(needle) if header.contains(needle) => known.set(at, true),
                _ => {}
            }
        }
    }

    /// Whether the message is what is looked for, if that is known by now.
    pub(super) fn judge(&self, known: &Known) -> Option<bool> {
        self.root.judge(&known.0)
    }
}

impl Leaf {
    fn level(&self) -> Level {
        match self {
            Leaf::Number(_) | Leaf::Uid(_) | Leaf::Flag(..) => Level::Row,
            Leaf::Received(_) | Leaf::Octets(_) => Level::Entry,
            Leaf::Sent(_) | Leaf::Field(..) => Level::Header,
            Leaf::Body(_) | Leaf::Text(_) => Level::Content,
        }
    }

    /// What is to be found in the content, if this is about content.
    pub(super) fn content_needle(&self) -> Option<&Needle> {
        match self {
            Leaf::Body(needle) | Leaf::Text(needle) => Some(needle),
            _ => None,
        }
    }
}

impl Node {
    fn judge(&self, known: &[Option<bool>]) -> Option<bool> {
        match self {
            Node::Fixed(value) => Some(*value),
            Node::Leaf(leaf) => known.get(*leaf).copied().flatten(),
            Node::Not(node) => node.judge(known).map(|value| !value),
            Node::Either(both) => match (both.0.judge(known), both.1.judge(known)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Node::All(nodes) => {
                let mut all = Some(true);
                for node in nodes {
                    match node.judge(known) {
                        Some(true) => {}
                        Some(false) => return Some(false),
                        None => all = None,
                    }
                }
                all
            }
        }
    }
}

fn limit(there: usize, max: usize, what: &str) -> Result<(), SearchError> {
    if there <= max {
        Ok(())
    } else {
        Err(SearchError::TooMuch(format!("at most {max} {what} in one search")))
    }
}

/// A plan being made.
struct Making {
    leaves: Vec<Leaf>,
    keys: usize,
    largest: (u32, u32),
}

impl Making {
    fn node(&mut self, key: &SearchKey<'_>, depth: usize) -> Result<Node, SearchError> {
        self.keys += 1;
        limit(self.keys, KEYS_MAX, "keys")?;
        limit(depth, DEPTH_MAX, "levels of nesting")?;
        Ok(match key {
            SearchKey::And(keys) => {
                let nodes = keys.as_ref().iter().map(|key| self.node(key, depth + 1));
                Node::All(nodes.collect::<Result<_, _>>()?)
            }
            SearchKey::Or(one, other) => {
                Node::Either(Box::new((self.node(one, depth + 1)?, self.node(other, depth + 1)?)))
            }
            SearchKey::Not(key) => Node::Not(Box::new(self.node(key, depth + 1)?)),
            SearchKey::All | SearchKey::Old | SearchKey::Unkeyword(_) => Node::Fixed(true),
            SearchKey::New | SearchKey::Recent | SearchKey::Keyword(_) => Node::Fixed(false),
            key => {
                self.leaves.push(self.leaf(key)?);
                Node::Leaf(self.leaves.len() - 1)
            }
        })
    }

    fn leaf(&self, key: &SearchKey<'_>) -> Result<Leaf, SearchError> {
        let field = |name: &str, text| Ok(Leaf::Field(name.into(), needle(text)?));
        Ok(match key {
            SearchKey::SequenceSet(set) => Leaf::Number(Ranges::new(set, self.largest.0)),
            SearchKey::Uid(set) => Leaf::Uid(Ranges::new(set, self.largest.1)),
            SearchKey::Before(date) => Leaf::Received(i64::MIN..day(date)),
            SearchKey::On(date) => Leaf::Received(day(date)..day(date) + 1),
            SearchKey::Since(date) => Leaf::Received(day(date)..i64::MAX),
            SearchKey::SentBefore(date) => Leaf::Sent(i64::MIN..day(date)),
            SearchKey::SentOn(date) => Leaf::Sent(day(date)..day(date) + 1),
            SearchKey::SentSince(date) => Leaf::Sent(day(date)..i64::MAX),
            SearchKey::Larger(octets) => Leaf::Octets(u64::from(*octets) + 1..u64::MAX),
            SearchKey::Smaller(octets) => Leaf::Octets(0..u64::from(*octets)),
            SearchKey::Bcc(text) => field("Bcc", text)?,
            SearchKey::Cc(text) => field("Cc", text)?,
            SearchKey::From(text) => field("From", text)?,
            SearchKey::To(text) => field("To", text)?,
            SearchKey::Subject(text) => field("Subject", text)?,
            SearchKey::Header(name, text) => {
                limit(name.as_ref().len(), STRING_OCTETS_MAX, "octets in a string")?;
                Leaf::Field(name.as_ref().to_vec(), needle(text)?)
            }
            SearchKey::Body(text) => Leaf::Body(needle(text)?),
            SearchKey::Text(text) => Leaf::Text(needle(text)?),
            key => flag(key),
        })
    }
}

/// Everything else is about a flag.
fn flag(key: &SearchKey<'_>) -> Leaf {
    let (flag, wanted) = match key {
        SearchKey::Answered => (Flags::ANSWERED, true),
        SearchKey::Deleted => (Flags::DELETED, true),
        SearchKey::Draft => (Flags::DRAFT, true),
        SearchKey::Flagged => (Flags::FLAGGED, true),
        SearchKey::Seen => (Flags::SEEN, true),
        SearchKey::Unanswered => (Flags::ANSWERED, false),
        SearchKey::Undeleted => (Flags::DELETED, false),
        SearchKey::Undraft => (Flags::DRAFT, false),
        SearchKey::Unflagged => (Flags::FLAGGED, false),
        // UNSEEN; all others were taken by the callers.
        _ => (Flags::SEEN, false),
    };
    Leaf::Flag(flag, wanted)
}

fn needle(text: &AString<'_>) -> Result<Needle, SearchError> {
    limit(text.as_ref().len(), STRING_OCTETS_MAX, "octets in a string")?;
    Ok(Needle::new(text.as_ref()))
}

/// Days since 1970.
fn day(date: &NaiveDate) -> i64 {
    let midnight = date.as_ref().and_hms_opt(0, 0, 0);
    midnight.map_or(0, |midnight| midnight.and_utc().timestamp().div_euclid(DAY_SECONDS))
}

/// Numbers in a sequence set.
#[derive(Debug)]
pub(super) struct Ranges(Runs);

impl Ranges {
    fn new(set: &SequenceSet, largest: u32) -> Ranges {
        Ranges(runs(set, largest))
    }

    fn contain(&self, number: u32) -> bool {
        let at = self.0.partition_point(|(_, to)| *to < number);
        self.0.get(at).is_some_and(|(from, _)| *from <= number)
    }
}
