//! Commands about messages of the open folder (RFC 3501 §6.4, RFC 4315), and what is done when the answers to all commands come.

use super::super::step::{Answer, Ask, FetchJob, Fetched, Numbered, Output, SearchError, SearchJob, Step};
use super::arguments::{change, every_number, is_known, items, one_key};
use super::list::{self, Pattern};
use super::{Running, Session, State, folders, refused, sets, text};
use crate::fetch::folders::Changes;
use crate::fetch::maildrop::FetchError;
use crate::mail::{FlagChange, Flags, Uid};
use imap_codec::imap_types::command::CommandBody;
use imap_codec::imap_types::fetch::MessageDataItemName;
use imap_codec::imap_types::flag::StoreResponse;
use imap_codec::imap_types::search::SearchKey;
use imap_codec::imap_types::sequence::SequenceSet;
use imap_codec::imap_types::status::StatusDataItemName;

/// How often the folder is looked at before a FETCH begins, if it changes every time: what there is to tell cannot be sent
/// together with what is fetched, but with the next look.
const LOOKS_MAX: u8 = 3;

const SOME_GONE: &str = "NO [EXPUNGEISSUED] some of these messages are gone";
const NOT_THERE: &str = "BAD no message has this number";

/// A command that waits.
#[derive(Debug)]
pub(super) enum Doing {
    Login,
    Open { examined: bool, had_one: bool },
    Leave { answer: &'static str },
    List { verb: &'static str, pattern: Pattern },
    Status { items: Vec<StatusDataItemName> },
    Look { then: Then, looks: u8 },
    SetFlags { asked: Vec<Uid>, store: Store, some_gone: bool },
    Expunge { close: bool },
    Fetch { uid: bool, some_gone: bool },
    Search { uid: bool, held: Output },
}

/// What follows upon a look at the folder.
#[derive(Debug)]
pub(super) enum Then {
    /// Nothing.
    End,
    Fetch {
        set: SequenceSet,
        items: Vec<MessageDataItemName<'static>>,
        uid: bool,
    },
    /// Numbers among the keys mean what the client knows.
    Search {
        key: SearchKey<'static>,
        uid: bool,
        with_numbers: bool,
    },
    Store {
        set: SequenceSet,
        store: Store,
    },
    Expunge {
        set: Option<SequenceSet>,
        close: bool,
    },
}

/// How flags are to be changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Store {
    change: FlagChange,
    silent: bool,
    uid: bool,
}

impl Then {
    /// EXPUNGE may not be told while numbers are in use (RFC 3501 §7.4.1).
    fn may_tell_expunged(&self) -> bool {
        match self {
            Then::End => true,
            // If it fails the folder stays open, and what was not told must not be forgotten.
            Then::Expunge { close, .. } => !close,
            Then::Search { uid, with_numbers, .. } => *uid && !with_numbers,
            Then::Fetch { .. } | Then::Store { .. } => self.is_by_uid(),
        }
    }

    fn is_by_uid(&self) -> bool {
        match self {
            Then::End | Then::Expunge { .. } => false,
            Then::Fetch { uid, .. } | Then::Search { uid, .. } => *uid,
            Then::Store { store, .. } => store.uid,
        }
    }
}

impl Session {
    /// A command that needs an open folder.
    ///
    /// # Errors
    /// What is wrong with it. The client's fault.
    pub(super) fn when_selected(
        &mut self,
        tag: &str,
        body: CommandBody<'static>,
    ) -> Result<Step, &'static str> {
        let Some(selected) = self.selected() else {
            return Err("open a folder first, with this or a known command");
        };
        let then = match body {
            CommandBody::Noop | CommandBody::Check => Then::End,
            CommandBody::Fetch { sequence_set, macro_or_item_names, uid } => {
                Then::Fetch { set: sequence_set, items: items(macro_or_item_names, uid)?, uid }
            }
            CommandBody::Store { sequence_set, kind, response, flags, uid } => {
                let silent = response == StoreResponse::Silent;
                let store = Store { change: change(kind, &flags)?, silent, uid };
                match selected.refusal_of(store.change) {
                    Some(answer) => return Ok(Step::Reply(text::tagged(tag, answer))),
                    None => Then::Store { set: sequence_set, store },
                }
            }
            CommandBody::Search { charset, criteria, uid } => {
                if !is_known(charset.as_ref()) {
                    let answer = "NO [BADCHARSET (US-ASCII UTF-8)] charset is not offered";
                    return Ok(Step::Reply(text::tagged(tag, answer)));
                }
                let key = one_key(criteria);
                let mut with_numbers = false;
                let are_there = |set: &SequenceSet| {
                    with_numbers = true;
                    sets::are_there(set, selected.messages())
                };
                if !every_number(&key, &mut { are_there }) {
                    return Ok(Step::Reply(text::tagged(tag, NOT_THERE)));
                }
                Then::Search { key, uid, with_numbers }
            }
            CommandBody::Expunge => return Ok(self.expunge(tag, None)),
            CommandBody::ExpungeUid { sequence_set } => return Ok(self.expunge(tag, Some(sequence_set))),
            CommandBody::Close => return Ok(self.close(tag)),
            CommandBody::Unselect => return Ok(self.leave(tag.to_owned())),
            CommandBody::Copy { .. } | CommandBody::Move { .. } => return Ok(refused(tag)),
            _ => return Err("command is not offered"),
        };
        Ok(self.look(tag.to_owned(), then, Output::new(), 1))
    }

    fn look(&mut self, tag: String, then: Then, output: Output, looks: u8) -> Step {
        let Some(marks) = self.marks() else { return self.confused() };
        self.ask(tag, Doing::Look { then, looks }, output, Ask::Changes(marks))
    }

    /// Looks first, whatever the session knows: another may have marked something. When nothing is marked nothing more is asked of
    /// the store: some clients expunge all the time.
    fn expunge(&mut self, tag: &str, set: Option<SequenceSet>) -> Step {
        let Some(selected) = self.selected() else { return self.confused() };
        if selected.is_read_only() {
            return Step::Reply(text::tagged(tag, "NO [READ-ONLY] folder is open for reading only"));
        }
        self.look(tag.to_owned(), Then::Expunge { set, close: false }, Output::new(), 1)
    }

    /// Expunges without a word, where that is allowed.
    fn close(&mut self, tag: &str) -> Step {
        let Some(selected) = self.selected() else { return self.confused() };
        if selected.changeable().contains(Flags::DELETED) {
            return self.look(tag.to_owned(), Then::Expunge { set: None, close: true }, Output::new(), 1);
        }
        self.leave(tag.to_owned())
    }

    fn leave(&mut self, tag: String) -> Step {
        if let State::LoggedIn { selected, .. } = &mut self.state {
            *selected = None;
        }
        self.ask(tag, Doing::Leave { answer: "OK closed" }, Output::new(), Ask::Leave)
    }

    /// An answer came to a command that waits.
    pub(super) fn go_on(&mut self, tag: String, doing: Doing, answer: Answer) -> Step {
        let step = match (doing, answer) {
            (Doing::Open { examined, .. }, Answer::Open(Ok(Some(opened)))) => {
                Ok(self.opened(&tag, opened, examined))
            }
            (Doing::Open { had_one, .. }, Answer::Open(Ok(None))) => {
                Ok(self.not_opened(tag.clone(), had_one, folders::NO_FOLDER))
            }
            (Doing::Open { had_one, .. }, Answer::Open(Err(error))) => match final_text(error) {
                Some(_) => Err(error),
                None => Ok(self.not_opened(tag.clone(), had_one, failure(error))),
            },
            (Doing::Leave { answer }, Answer::Leave) => Ok(Step::Reply(text::tagged(&tag, answer))),
            (Doing::List { verb, pattern }, Answer::List(listed)) => listed.map(|folders| {
                Step::Reply(text::ended(list::listing(verb, &pattern, &folders), &tag, "OK done"))
            }),
            (Doing::Status { items }, Answer::Status(status)) => status.map(|folder| match folder {
                Some(folder) => {
                    Step::Reply(text::ended(folders::status_of(&folder, &items), &tag, "OK done"))
                }
                None => Step::Reply(text::tagged(&tag, folders::NO_FOLDER)),
            }),
            (Doing::Look { then, looks }, Answer::Changes(changes)) => {
                changes.map(|changes| self.looked(tag.clone(), then, changes, looks))
            }
            (Doing::SetFlags { asked, store, some_gone }, Answer::SetFlags(set)) => set.map(|set| {
                let Some(selected) = self.selected() else { return self.confused() };
                let (output, all_there) =
                    selected.stored(&asked, &set, store.change, store.silent, store.uid);
                let is_whole = store.uid || all_there && !some_gone;
                Step::Reply(text::ended(output, &tag, if is_whole { "OK stored" } else { SOME_GONE }))
            }),
            // The right was taken away since it was opened: nothing is left to do there.
            (Doing::Expunge { close: true }, Answer::Expunge(Err(FetchError::NotAllowed))) => {
                Ok(self.leave(tag.clone()))
            }
            (Doing::Expunge { close }, Answer::Expunge(taken)) => taken.map(|taken| {
                let Some(selected) = self.selected() else { return self.confused() };
                let output = selected.expunged(&taken);
                if close {
                    return self.leave(tag.clone());
                }
                Step::Reply(text::ended(output, &tag, "OK expunged"))
            }),
            (doing, _) => {
                self.running = Some(Running { tag: tag.clone(), doing });
                Ok(self.confused())
            }
        };
        step.unwrap_or_else(|error| match final_text(error) {
            Some(why) => self.give_up(&tag, "NO [UNAVAILABLE] not done", why),
            None => Step::Reply(text::tagged(&tag, failure(error))),
        })
    }

    /// Tells what happened in the folder, and goes on.
    fn looked(&mut self, tag: String, then: Then, changes: Changes, looks: u8) -> Step {
        let Some(selected) = self.selected() else { return self.confused() };
        let mut output = Output::new();
        if looks <= LOOKS_MAX {
            output = selected.apply(changes, then.is_by_uid());
            if then.may_tell_expunged() {
                output.extend(selected.tell_expunged());
            }
        }
        match then {
            Then::End => Step::Reply(text::ended(output, &tag, "OK done")),
            then @ Then::Fetch { .. } if !output.is_empty() => self.look(tag, then, output, looks + 1),
            Then::Fetch { set, items, uid } => self.fetch(tag, &set, items, uid),
            Then::Search { key, uid, .. } => {
                let job = SearchJob { messages: selected.all(), key, uid, largest: selected.largest() };
                self.running = Some(Running { tag, doing: Doing::Search { uid, held: output } });
                Step::Search(job)
            }
            Then::Store { set, store } => self.store(tag, &set, store, output),
            Then::Expunge { set, close } => {
                let uids = selected.deleted(set.as_ref());
                match (uids.is_empty(), close) {
                    (false, _) if !selected.changeable().contains(Flags::DELETED) => {
                        Step::Reply(text::ended(output, &tag, failure(FetchError::NotAllowed)))
                    }
                    (false, _) => self.ask(tag, Doing::Expunge { close }, output, Ask::Expunge(uids)),
                    (true, true) => self.leave(tag),
                    (true, false) => Step::Reply(text::ended(output, &tag, "OK nothing to expunge")),
                }
            }
        }
    }

    fn fetch(
        &mut self,
        tag: String,
        set: &SequenceSet,
        items: Vec<MessageDataItemName<'static>>,
        uid: bool,
    ) -> Step {
        let Some(selected) = self.selected() else { return self.confused() };
        let Some(found) = selected.find(set, uid) else {
            return Step::Reply(text::tagged(&tag, NOT_THERE));
        };
        if found.messages.is_empty() {
            return Step::Reply(text::tagged(
                &tag,
                if found.some_gone && !uid { SOME_GONE } else { "OK fetched" },
            ));
        }
        let may_set_seen = selected.changeable().contains(Flags::SEEN);
        let job = FetchJob { messages: found.messages, items, may_set_seen };
        self.running = Some(Running { tag, doing: Doing::Fetch { uid, some_gone: found.some_gone } });
        Step::Fetch(job)
    }

    pub(super) fn end_fetch(&mut self, tag: &str, fetched: &Fetched, uid: bool, some_gone: bool) -> Step {
        let Some(selected) = self.selected() else { return self.confused() };
        let output = selected.flagged(&fetched.seen, uid);
        match fetched.failed {
            Some((_, error)) => Step::Reply(text::ended(output, tag, failure(error))),
            None if !uid && (some_gone || fetched.gone > 0) => {
                Step::Reply(text::ended(output, tag, SOME_GONE))
            }
            None => Step::Reply(text::ended(output, tag, "OK fetched")),
        }
    }

    fn store(&mut self, tag: String, set: &SequenceSet, store: Store, mut output: Output) -> Step {
        let Some(selected) = self.selected() else { return self.confused() };
        let Some(found) = selected.find(set, store.uid) else {
            return Step::Reply(text::ended(output, &tag, NOT_THERE));
        };
        let is_nothing =
            matches!(store.change, FlagChange::Add(Flags::NONE) | FlagChange::Remove(Flags::NONE));
        if is_nothing || found.messages.is_empty() {
            if !store.silent {
                output.extend(selected.tell_all_flags(&found.messages, store.uid));
            }
            let answer = if found.some_gone && !store.uid { SOME_GONE } else { "OK stored" };
            return Step::Reply(text::ended(output, &tag, answer));
        }
        let asked = found.uids();
        let doing = Doing::SetFlags { asked: asked.clone(), store, some_gone: found.some_gone };
        self.ask(tag, doing, output, Ask::SetFlags(asked, store.change))
    }

    pub(super) fn end_search(
        &mut self,
        tag: &str,
        found: Result<Vec<Numbered>, SearchError>,
        uid: bool,
        mut output: Output,
    ) -> Step {
        match found {
            Ok(found) => {
                output.extend_from_slice(b"* SEARCH");
                for message in found {
                    let number = if uid { message.row.uid.value() } else { message.number };
                    output.extend_from_slice(format!(" {number}").as_bytes());
                }
                output.extend_from_slice(b"\r\n");
                Step::Reply(text::ended(output, tag, "OK searched"))
            }
            Err(SearchError::TooMuch(why)) => {
                Step::Reply(text::ended(output, tag, &format!("NO [LIMIT] {why}")))
            }
            Err(SearchError::Failed(error)) => Step::Reply(text::ended(output, tag, failure(error))),
        }
    }
}

/// Why it could not be done.
fn failure(error: FetchError) -> &'static str {
    match error {
        FetchError::Temporary => "NO [UNAVAILABLE] cannot be done now, try again later",
        FetchError::Damaged => "NO [CORRUPTION] a message is damaged; it is kept and reported",
        FetchError::LacksKey => {
            "NO [CONTACTADMIN] a message is sealed to a former key, which this password does not open; it is kept"
        }
        FetchError::Gone => "NO [UNAVAILABLE] it is there no more",
        FetchError::NotAllowed => "NO [NOPERM] nothing may be deleted in this folder",
    }
}

/// Why the connection has to end, when it cannot be kept after such an answer about a folder: what the client knows of it is
/// worth nothing any more, and no command could tell it so.
pub(super) fn final_text(error: FetchError) -> Option<&'static str> {
    match error {
        FetchError::Gone => Some("[UNAVAILABLE] folder is not what it was, connect again"),
        FetchError::LacksKey => Some("[UNAVAILABLE] keys were changed, log in again"),
        FetchError::Temporary | FetchError::Damaged | FetchError::NotAllowed => None,
    }
}
