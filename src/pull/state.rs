//! What was fetched of an account: `data_dir/pull/NAME.json`, owner-only, durable before anything is deleted there.
//!
//! Without it everything at the account is looked at again, which adds nothing twice: the store knows a message by its content.

use super::sets::UidSet;
use crate::store::state_file::{self, StateError};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// Folder of these files in `data_dir`.
pub const PULL_DIR: &str = "pull";
/// Runs of UIDs kept; of more the lowest are forgotten and looked at again.
const RUNS_MAX: usize = 20_000;
/// Messages that stay at the account which are remembered; of more the first are looked at again.
const LEFT_MAX: usize = 1_000;
/// Messages at which visits broke that are remembered.
const BROKEN_MAX: usize = 1_000;
/// Messages whose end at the account is not known that are remembered; more stay there.
const UNSETTLED_MAX: usize = 20_000;

/// What was fetched of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The account; another one's state says nothing about this.
    account: String,
    /// What the UIDs below belong to; 0 before there was one.
    #[serde(default)]
    uid_validity: u32,
    /// UIDs that are done.
    #[serde(default)]
    uids: UidSet,
    /// Unique ids of POP3 that are done and still listed.
    #[serde(default)]
    uidls: BTreeSet<String>,
    /// Those that are stored here and may still be at the account, although they should not.
    #[serde(default)]
    unsettled: BTreeSet<String>,
    /// Those that are left where they are, each with its octets: too large.
    #[serde(default)]
    left: BTreeMap<String, u64>,
    /// Those at which visits broke, each with how often.
    #[serde(default)]
    broken: BTreeMap<String, u32>,
}

impl State {
    /// Nothing is known of this account.
    pub fn new(account: &str) -> State {
        State { account: account.to_owned(), ..State::default() }
    }

    /// What is kept of `account`, and why that is nothing although there was a file. Blocks on the disk.
    ///
    /// # Errors
    /// The file cannot be read now, or a newer program wrote it. The operator's to mend.
    pub fn read(data_dir: &Path, name: &str, account: &str) -> Result<(State, Option<String>), StateError> {
        let nothing = || State::new(account);
        match state_file::read::<State>(&path(data_dir, name)) {
            Ok(state) if state.account != account => {
                Ok((nothing(), Some("it is of another account".to_owned())))
            }
            Ok(state) if !state.uids.is_sound() => Ok((nothing(), Some("it makes no sense".to_owned()))),
            Ok(state) => Ok((state, None)),
            Err(StateError::Absent) => Ok((nothing(), None)),
            Err(StateError::Damaged(why)) => Ok((nothing(), Some(why))),
            Err(error) => Err(error),
        }
    }

    /// Keeps it, durably. Blocks on the disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, data_dir: &Path, name: &str) -> io::Result<()> {
        let path = path(data_dir, name);
        if let Some(dir) = path.parent() {
            state_file::make_dir(dir)?;
        }
        state_file::write(&path, self)
    }

    /// The folder has this UIDVALIDITY: under another one all UIDs mean something else.
    pub(super) fn begin_validity(&mut self, validity: u32) {
        if self.uid_validity != validity {
            *self = State {
                account: std::mem::take(&mut self.account),
                uid_validity: validity,
                ..State::default()
            };
        }
    }

    pub(super) fn first_open_uid(&self) -> u32 {
        self.uids.first_gap()
    }

    pub(super) fn has_uid(&self, uid: u32) -> bool {
        self.uids.contains(uid)
    }

    pub(super) fn has_uidl(&self, uidl: &str) -> bool {
        self.uidls.contains(uidl)
    }

    pub(super) fn uidls(&self) -> usize {
        self.uidls.len()
    }

    /// All there is was listed, and these are not done.
    pub(super) fn close_gaps(&mut self, open: &[u32]) {
        self.uids.close_gaps(open);
        let open: BTreeSet<String> = open.iter().map(u32::to_string).collect();
        self.left.retain(|id, _| open.contains(id));
        self.broken.retain(|id, _| open.contains(id));
    }

    /// All there is was listed, and these of it are done.
    pub(super) fn keep_uidls(&mut self, listed: &BTreeSet<String>) {
        self.uidls.retain(|uidl| listed.contains(uidl));
        self.unsettled.retain(|uidl| listed.contains(uidl));
    }

    pub(super) fn unsettled_uids(&self) -> impl Iterator<Item = u32> {
        self.unsettled.iter().filter_map(|uid| uid.parse().ok())
    }

    pub(super) fn is_unsettled(&self, id: &str) -> bool {
        self.unsettled.contains(id)
    }

    /// The message is stored here; `unsettled` when something is to be done at the account yet.
    pub(super) fn note_done(&mut self, id: &str, uid: u32, unsettled: bool) {
        match uid {
            0 => drop(self.uidls.insert(id.to_owned())),
            uid => self.uids.insert(uid),
        }
        self.uids.keep_highest(RUNS_MAX);
        self.left.remove(id);
        self.broken.remove(id);
        if unsettled && self.unsettled.len() < UNSETTLED_MAX {
            self.unsettled.insert(id.to_owned());
        }
    }

    /// What was to be done at the account is.
    pub(super) fn note_settled<'a>(&mut self, ids: impl IntoIterator<Item = &'a String>) {
        for id in ids {
            self.unsettled.remove(id);
        }
    }

    /// Messages that may still be at the account, although they should not.
    pub(super) fn unsettled(&self) -> usize {
        self.unsettled.len()
    }

    /// The message stays where it is; true when that is news.
    pub(super) fn note_left(&mut self, id: &str, octets: u64) -> bool {
        if self.left.len() >= LEFT_MAX && !self.left.contains_key(id) {
            self.left.pop_first();
        }
        self.left.insert(id.to_owned(), octets) != Some(octets)
    }

    /// A visit broke at this message.
    pub(super) fn note_broken(&mut self, id: &str) {
        if self.broken.len() >= BROKEN_MAX && !self.broken.contains_key(id) {
            self.broken.pop_first();
        }
        let breaks = self.broken.entry(id.to_owned()).or_default();
        *breaks = breaks.saturating_add(1);
    }

    /// How often visits broke at this message.
    pub(super) fn breaks(&self, id: &str) -> u32 {
        self.broken.get(id).copied().unwrap_or(0)
    }

    /// Messages that are left where they are, or at which visits broke.
    pub(super) fn staying(&self) -> usize {
        self.left.len() + self.broken.len()
    }

    /// The octets of a message that was left where it is.
    pub(super) fn left(&self, id: &str) -> Option<u64> {
        self.left.get(id).copied()
    }
}

fn path(data_dir: &Path, name: &str) -> PathBuf {
    data_dir.join(PULL_DIR).join(format!("{name}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn state_is_of_one_account_and_its_own_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::new("imaps://a@host/INBOX");
        state.begin_validity(7);
        state.note_done("5", 5, true);
        assert!(state.note_left("9", 100) && !state.note_left("9", 100));
        state.write(dir.path(), "outside").unwrap();
        let file = dir.path().join("pull/outside.json");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let read = |account: &str| State::read(dir.path(), "outside", account).unwrap();
        assert_eq!(read("imaps://a@host/INBOX"), (state.clone(), None));
        let (other, why) = read("imaps://b@host/INBOX");
        assert_eq!(other, State::new("imaps://b@host/INBOX"));
        assert!(why.unwrap().contains("another account"));
        let mut octets = std::fs::read(&file).unwrap();
        octets[20] ^= 1;
        std::fs::write(&file, octets).unwrap();
        assert_eq!(read("imaps://a@host/INBOX").0, State::new("imaps://a@host/INBOX"));
        // Another UIDVALIDITY: everything is another message.
        state.begin_validity(8);
        assert!(!state.has_uid(5) && state.left("9").is_none() && state.unsettled_uids().next().is_none());
    }

    #[test]
    fn breaks_at_a_message_are_counted_until_it_is_here() {
        let mut state = State::default();
        for breaks in 1..=3 {
            state.note_broken("5");
            assert_eq!((state.breaks("5"), state.breaks("6")), (breaks, 0));
        }
        state.note_done("5", 5, false);
        assert_eq!(state.breaks("5"), 0);
    }

    #[test]
    fn what_is_at_the_account_no_more_is_forgotten() {
        let mut state = State::new("pop3s://a@host");
        for id in ["a", "b", "c"] {
            state.note_done(id, 0, true);
        }
        state.keep_uidls(&BTreeSet::from(["b".to_owned()]));
        assert!(state.has_uidl("b") && !state.has_uidl("a"));
        assert!(state.is_unsettled("b") && !state.is_unsettled("c"));
        state.note_settled(&["b".to_owned()]);
        assert!(!state.is_unsettled("b"));
    }
}
