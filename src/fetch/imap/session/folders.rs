//! Commands about folders (RFC 3501 §6.3): SELECT, EXAMINE, LIST, LSUB, STATUS, NAMESPACE, ENABLE, IDLE, and those that are refused.

use super::super::step::{Ask, Opened, Output, Step};
use super::list::{self, Pattern};
use super::messages::Doing;
use super::selected::Selected;
use super::{Expect, Session, State, refused, text};
use crate::fetch::folders::FolderInfo;
use imap_codec::imap_types::command::CommandBody;
use imap_codec::imap_types::mailbox::{ListMailbox, Mailbox};
use imap_codec::imap_types::status::StatusDataItemName;

/// Most data items of one STATUS: there are five.
const STATUS_ITEMS_MAX: usize = 16;

pub(super) const NO_FOLDER: &str = "NO [NONEXISTENT] no such folder";

impl Session {
    /// A command after login.
    ///
    /// # Errors
    /// What is wrong with it. The client's fault.
    pub(super) fn when_logged_in(
        &mut self,
        tag: &str,
        body: CommandBody<'static>,
    ) -> Result<Step, &'static str> {
        match body {
            CommandBody::Select { mailbox } => Ok(self.open(tag, &mailbox, false)),
            CommandBody::Examine { mailbox } => Ok(self.open(tag, &mailbox, true)),
            CommandBody::List { reference, mailbox_wildcard } => {
                self.list(tag, "LIST", &reference, &mailbox_wildcard)
            }
            CommandBody::Lsub { reference, mailbox_wildcard } => {
                self.list(tag, "LSUB", &reference, &mailbox_wildcard)
            }
            CommandBody::Status { mailbox, item_names } => {
                self.status(tag, &mailbox, item_names.into_owned())
            }
            CommandBody::Subscribe { .. } | CommandBody::Unsubscribe { .. } => {
                Ok(Step::Reply(text::tagged(tag, "OK every folder is subscribed")))
            }
            CommandBody::Namespace => {
                let output = b"* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n".to_vec();
                Ok(Step::Reply(text::ended(output, tag, "OK one namespace")))
            }
            // Nothing we have needs to be switched on (RFC 5161 §3.1).
            CommandBody::Enable { .. } => {
                Ok(Step::Reply(text::ended(b"* ENABLED\r\n".to_vec(), tag, "OK nothing to enable")))
            }
            CommandBody::Idle => Ok(self.idle(tag)),
            CommandBody::Create { .. } | CommandBody::Delete { .. } | CommandBody::Rename { .. } => {
                Ok(refused(tag))
            }
            CommandBody::Noop if self.selected().is_none() => Ok(Step::Reply(text::tagged(tag, "OK done"))),
            body => self.when_selected(tag, body),
        }
    }

    /// Whatever comes of it, the folder that was open is not open any more.
    fn open(&mut self, tag: &str, mailbox: &Mailbox<'_>, examined: bool) -> Step {
        let mut had_one = false;
        if let State::LoggedIn { selected, .. } = &mut self.state {
            had_one = selected.take().is_some();
        }
        match path(mailbox) {
            Some(path) => {
                self.ask(tag.to_owned(), Doing::Open { examined, had_one }, Output::new(), Ask::Open(path))
            }
            None => self.not_opened(tag.to_owned(), had_one, NO_FOLDER),
        }
    }

    pub(super) fn opened(&mut self, tag: &str, opened: Opened, examined: bool) -> Step {
        let account = opened.account.clone();
        let folder = Selected::new(opened, examined);
        let answer = if folder.is_read_only() { "OK [READ-ONLY] opened" } else { "OK [READ-WRITE] opened" };
        let output = folder.tell_opened();
        self.state = State::LoggedIn { account, selected: Some(folder) };
        Step::Reply(text::ended(output, tag, answer))
    }

    /// It cannot be opened; the one that was open before is closed all the same (RFC 3501 §6.3.1).
    pub(super) fn not_opened(&mut self, tag: String, had_one: bool, answer: &'static str) -> Step {
        if had_one {
            return self.ask(tag, Doing::Leave { answer }, Output::new(), Ask::Leave);
        }
        Step::Reply(text::tagged(&tag, answer))
    }

    fn list(
        &mut self,
        tag: &str,
        verb: &'static str,
        reference: &Mailbox<'_>,
        wildcard: &ListMailbox<'_>,
    ) -> Result<Step, &'static str> {
        let wildcard = match wildcard {
            ListMailbox::Token(token) => token.as_ref(),
            ListMailbox::String(string) => string.as_ref(),
        };
        if wildcard.is_empty() {
            return Ok(Step::Reply(text::ended(list::delimiter(verb), tag, "OK that is the delimiter")));
        }
        let (Some(reference), Some(wildcard)) = (path(reference), text::from_mailbox(wildcard)) else {
            return Err("names of folders are modified UTF-7");
        };
        let Some(pattern) = Pattern::new(&reference, &wildcard) else {
            return Ok(Step::Reply(text::tagged(tag, "NO [LIMIT] too many wildcards")));
        };
        Ok(self.ask(tag.to_owned(), Doing::List { verb, pattern }, Output::new(), Ask::List))
    }

    fn status(
        &mut self,
        tag: &str,
        mailbox: &Mailbox<'_>,
        items: Vec<StatusDataItemName>,
    ) -> Result<Step, &'static str> {
        let known = |item: &StatusDataItemName| {
            !matches!(item, StatusDataItemName::Deleted | StatusDataItemName::DeletedStorage)
        };
        if items.len() > STATUS_ITEMS_MAX || !items.iter().all(known) {
            return Err("these data items are not offered");
        }
        let Some(path) = path(mailbox) else { return Ok(Step::Reply(text::tagged(tag, NO_FOLDER))) };
        Ok(self.ask(tag.to_owned(), Doing::Status { items }, Output::new(), Ask::Status(path)))
    }

    fn idle(&mut self, tag: &str) -> Step {
        self.expect = Expect::Done { tag: tag.to_owned() };
        let mut output = b"+ idling\r\n".to_vec();
        if let Some(selected) = self.selected() {
            output.extend(selected.tell_expunged());
        }
        Step::Idle(output)
    }

    pub(super) fn idle_ends(&mut self, tag: String, line: &[u8]) -> Step {
        if line.trim_ascii_end().eq_ignore_ascii_case(b"DONE") {
            return Step::Reply(text::tagged(&tag, "OK idled"));
        }
        self.bad(&tag, "only DONE ends IDLE")
    }
}

/// What STATUS tells of a folder.
pub(super) fn status_of(folder: &FolderInfo, items: &[StatusDataItemName]) -> Output {
    let told: Vec<String> = items
        .iter()
        .filter_map(|item| match item {
            StatusDataItemName::Messages => Some(format!("MESSAGES {}", folder.messages)),
            StatusDataItemName::UidNext => Some(format!("UIDNEXT {}", folder.uid_next)),
            // Who is asked for the status of one folder has made it.
            StatusDataItemName::UidValidity => {
                folder.uid_validity.map(|validity| format!("UIDVALIDITY {}", validity.value()))
            }
            StatusDataItemName::Unseen => Some(format!("UNSEEN {}", folder.unseen)),
            _ => Some("RECENT 0".to_owned()),
        })
        .collect();
    format!("* STATUS {} ({})\r\n", text::mailbox(&folder.path), told.join(" ")).into_bytes()
}

fn path(mailbox: &Mailbox<'_>) -> Option<String> {
    match mailbox {
        Mailbox::Inbox => Some("INBOX".to_owned()),
        Mailbox::Other(name) => text::from_mailbox(name.as_ref()),
    }
}
