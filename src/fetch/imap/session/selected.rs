//! The open folder as the client knows it: which number means which message.
//!
//! Invariants:
//! - A number means the same message until the client is told of an EXPUNGE (RFC 3501 §7.4.1). What others took out keeps its
//!   number until then, and no command finds it.
//! - The rows are in UID order, and all of them have been told by EXISTS.

use super::super::step::{Numbered, Opened, Output};
use super::sets;
use super::text::say;
use crate::fetch::folders::{Changes, FlagsSet, FolderMarks, FolderRow, Rights};
use crate::mail::{FlagChange, Flags, Uid};
use imap_codec::imap_types::sequence::SequenceSet;
use std::collections::BTreeSet;

/// The open folder.
#[derive(Debug)]
pub(super) struct Selected {
    rights: Rights,
    /// Opened by EXAMINE.
    examined: bool,
    marks: FolderMarks,
    rows: Vec<FolderRow>,
    /// Rows that others took out and the client was not told of.
    gone: BTreeSet<Uid>,
}

/// Messages a set names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Those that are there, in their order.
    pub(super) messages: Vec<Numbered>,
    /// Some have gone without the client being told.
    pub(super) some_gone: bool,
}

impl Found {
    pub(super) fn uids(&self) -> Vec<Uid> {
        self.messages.iter().map(|message| message.row.uid).collect()
    }
}

impl Selected {
    pub(super) fn new(opened: Opened, examined: bool) -> Selected {
        let (rights, marks, rows) = (opened.folder.rights(), opened.marks, opened.rows);
        Selected { rights, examined, marks, rows, gone: BTreeSet::new() }
    }

    /// What tells whether the folder is as the client knows it.
    pub(super) fn marks(&self) -> FolderMarks {
        self.marks
    }

    /// The flags this client may change.
    pub(super) fn changeable(&self) -> Flags {
        if self.examined { Flags::NONE } else { self.rights.flags }
    }

    /// Why flags may not be changed so, if they may not.
    pub(super) fn refusal_of(&self, change: FlagChange) -> Option<&'static str> {
        let sets = match change {
            FlagChange::Replace(flags) | FlagChange::Add(flags) => flags,
            FlagChange::Remove(_) => Flags::NONE,
        };
        if self.is_read_only() {
            Some("NO [READ-ONLY] folder is open for reading only")
        } else if sets.contains(Flags::DELETED) && !self.changeable().contains(Flags::DELETED) {
            Some("NO [NOPERM] nothing may be deleted in this folder")
        } else {
            None
        }
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.changeable().is_empty()
    }

    /// How many messages the client knows of.
    pub(super) fn messages(&self) -> usize {
        self.rows.len()
    }

    /// What SELECT and EXAMINE tell of it (RFC 3501 §6.3.1).
    pub(super) fn tell_opened(&self) -> Output {
        let mut output = Output::new();
        say(&mut output, &format!("* FLAGS ({})", Flags::ALL));
        say(&mut output, &format!("* {} EXISTS", self.rows.len()));
        say(&mut output, "* 0 RECENT");
        if let Some(unseen) = self.rows.iter().position(|row| !row.flags.contains(Flags::SEEN)) {
            say(&mut output, &format!("* OK [UNSEEN {}] first unseen message", unseen + 1));
        }
        say(&mut output, &format!("* OK [PERMANENTFLAGS ({})] flags that are kept", self.changeable()));
        say(&mut output, &format!("* OK [UIDVALIDITY {}] UIDs are valid", self.marks.uid_validity.value()));
        say(&mut output, &format!("* OK [UIDNEXT {}] next UID", self.marks.uid_next));
        output
    }

    /// Takes over what happened, and tells it: all but EXPUNGE.
    pub(super) fn apply(&mut self, changes: Changes, uid: bool) -> Output {
        let mut output = Output::new();
        let mut flagged = Vec::new();
        let known = self.rows.len();
        match changes {
            Changes::None => {}
            Changes::Came(marks, came) => {
                self.marks = marks;
                self.append(came);
            }
            Changes::All(marks, all) => {
                self.marks = marks;
                flagged = self.merge(all);
            }
        }
        if self.rows.len() > known {
            say(&mut output, &format!("* {} EXISTS", self.rows.len()));
        }
        for uid_of_row in flagged {
            self.tell_flags(uid_of_row, uid, &mut output);
        }
        output
    }

    fn append(&mut self, came: Vec<FolderRow>) {
        let last = self.rows.last().map(|row| row.uid);
        self.rows.extend(came.into_iter().filter(|row| Some(row.uid) > last));
    }

    /// Compares with all there is now; gives the messages whose flags are others.
    fn merge(&mut self, all: Vec<FolderRow>) -> Vec<Uid> {
        let mut flagged = Vec::new();
        let mut now = all.into_iter().peekable();
        for row in &mut self.rows {
            // What the client was told is gone does not come back under its number.
            while now.next_if(|there| there.uid < row.uid).is_some() {}
            match now.next_if(|there| there.uid == row.uid) {
                Some(there) => {
                    self.gone.remove(&row.uid);
                    if there.flags != row.flags {
                        row.flags = there.flags;
                        flagged.push(row.uid);
                    }
                }
                None => {
                    self.gone.insert(row.uid);
                }
            }
        }
        self.append(now.collect());
        flagged
    }

    /// Tells what is gone, where a command may be told so. The largest number first: none of them is another by then.
    pub(super) fn tell_expunged(&mut self) -> Output {
        let gone = std::mem::take(&mut self.gone);
        self.remove(&gone)
    }

    /// The client's own expunge: these were taken out, which is told with all else that is gone.
    pub(super) fn expunged(&mut self, uids: &[Uid]) -> Output {
        let gone: BTreeSet<Uid> = uids.iter().copied().collect();
        self.marks.live = self.marks.live.saturating_sub(gone.len() as u64);
        self.gone.extend(gone);
        self.tell_expunged()
    }

    fn remove(&mut self, gone: &BTreeSet<Uid>) -> Output {
        let mut output = Output::new();
        for uid in gone.iter().rev() {
            if let Some((index, _)) = self.row(*uid) {
                say(&mut output, &format!("* {} EXPUNGE", index + 1));
            }
        }
        // Some clients expunge after every message: then the others need not be looked at.
        match gone.first() {
            Some(uid) if gone.len() == 1 => {
                if let Some((index, _)) = self.row(*uid) {
                    self.rows.remove(index);
                }
            }
            Some(_) => self.rows.retain(|row| !gone.contains(&row.uid)),
            None => {}
        }
        output
    }

    fn tell_flags(&self, uid: Uid, with_uid: bool, output: &mut Output) {
        let Some((index, row)) = self.row(uid) else { return };
        let uid = if with_uid { format!("UID {uid} ") } else { String::new() };
        say(output, &format!("* {} FETCH ({uid}FLAGS ({}))", index + 1, row.flags));
    }

    fn row(&self, uid: Uid) -> Option<(usize, FolderRow)> {
        let index = self.rows.binary_search_by_key(&uid, |row| row.uid).ok()?;
        Some((index, *self.rows.get(index)?))
    }

    /// The largest number and UID, what `*` means; 0 in an empty folder.
    pub(super) fn largest(&self) -> (u32, u32) {
        (number(self.rows.len()), self.rows.last().map_or(0, |row| row.uid.value()))
    }

    /// The messages a set of numbers or UIDs names. `None` when a number is none: UIDs may be any.
    pub(super) fn find(&self, set: &SequenceSet, by_uid: bool) -> Option<Found> {
        let (largest, largest_uid) = self.largest();
        if !by_uid && !sets::are_there(set, self.rows.len()) {
            return None;
        }
        let mut found = Found::default();
        for (first, last) in sets::runs(set, if by_uid { largest_uid } else { largest }) {
            let (from, to) = if by_uid {
                let from = self.rows.partition_point(|row| row.uid.value() < first);
                (from, self.rows.partition_point(|row| row.uid.value() <= last))
            } else {
                (index(first), index(last).saturating_add(1))
            };
            for (index, row) in self.rows.iter().enumerate().take(to).skip(from) {
                self.find_one(index, *row, &mut found);
            }
        }
        Some(found)
    }

    fn find_one(&self, index: usize, row: FolderRow, found: &mut Found) {
        if self.gone.contains(&row.uid) {
            found.some_gone = true;
        } else {
            found.messages.push(Numbered { number: number(index + 1), row });
        }
    }

    /// Every message that is there.
    pub(super) fn all(&self) -> Vec<Numbered> {
        let mut found = Found::default();
        for (index, row) in self.rows.iter().enumerate() {
            self.find_one(index, *row, &mut found);
        }
        found.messages
    }

    /// The messages marked `\Deleted`, of a set of UIDs or of all.
    pub(super) fn deleted(&self, set: Option<&SequenceSet>) -> Vec<Uid> {
        let is_deleted =
            |row: &FolderRow| row.flags.contains(Flags::DELETED) && !self.gone.contains(&row.uid);
        match set {
            Some(set) => {
                let found = self.find(set, true).unwrap_or_default();
                found.messages.iter().filter(|m| is_deleted(&m.row)).map(|m| m.row.uid).collect()
            }
            None => self.rows.iter().filter(|row| is_deleted(row)).map(|row| row.uid).collect(),
        }
    }

    /// Tells the flags of these messages.
    pub(super) fn tell_all_flags(&self, messages: &[Numbered], uid: bool) -> Output {
        let mut output = Output::new();
        messages.iter().for_each(|message| self.tell_flags(message.row.uid, uid, &mut output));
        output
    }

    /// Takes over the flags these messages have now, and tells them.
    pub(super) fn flagged(&mut self, set: &FlagsSet, uid: bool) -> Output {
        self.take_over(set, |_, _| true, uid)
    }

    /// Takes over what STORE came to, of these messages. Those that are not among the rows are gone, which is told by `false`.
    pub(super) fn stored(
        &mut self,
        asked: &[Uid],
        set: &FlagsSet,
        change: FlagChange,
        silent: bool,
        uid: bool,
    ) -> (Output, bool) {
        let there: BTreeSet<Uid> = set.rows.iter().map(|row| row.uid).collect();
        let missing: Vec<Uid> = asked.iter().filter(|uid| !there.contains(uid)).copied().collect();
        let all_there = missing.is_empty();
        self.gone.extend(
            missing.into_iter().filter(|uid| self.rows.binary_search_by_key(uid, |row| row.uid).is_ok()),
        );
        let changeable = self.changeable();
        // Silence is about what the client asked for, not about what others did (RFC 3501 §6.4.6).
        let is_told = |before: Flags, after: Flags| !silent || change.applied(before, changeable) != after;
        (self.take_over(set, is_told, uid), all_there)
    }

    fn take_over(&mut self, set: &FlagsSet, is_told: impl Fn(Flags, Flags) -> bool, uid: bool) -> Output {
        let mut output = Output::new();
        for now in &set.rows {
            let Ok(index) = self.rows.binary_search_by_key(&now.uid, |row| row.uid) else { continue };
            let Some(row) = self.rows.get_mut(index) else { continue };
            let before = std::mem::replace(&mut row.flags, now.flags);
            if is_told(before, now.flags) {
                self.tell_flags(now.uid, uid, &mut output);
            }
        }
        // What this client did need not be looked for, unless another changed flags too: then all is read again.
        if let Some((before, after)) = set.counted
            && before == self.marks.flag_changes
        {
            self.marks.flag_changes = after;
        }
        output
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The index of a message number, which is at least 1.
fn index(number: u32) -> usize {
    usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX)
}
