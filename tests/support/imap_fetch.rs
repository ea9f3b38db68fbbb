//! A FETCH without a server: what the thread that answers it gives.

#![allow(dead_code, reason = "each test file uses a part")]

use daybook::fetch::folders::{Folder, FolderRow};
use daybook::fetch::imap::step::{FetchJob, Numbered};
use daybook::fetch::imap::stream::{self, Ended, Kept, Piece};
use daybook::mail::Uid;
use imap_codec::CommandCodec;
use imap_codec::decode::Decoder;
use imap_codec::imap_types::IntoStatic;
use imap_codec::imap_types::command::CommandBody;
use imap_codec::imap_types::fetch::{MacroOrMessageDataItemNames, MessageDataItemName};
use std::sync::Arc;

/// What came of a FETCH.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    pub(crate) octets: Vec<u8>,
    /// UIDs of messages given whole.
    pub(crate) whole: Vec<u32>,
    /// UIDs of messages that become `\Seen`.
    pub(crate) seen: Vec<u32>,
    /// `None` when it broke off.
    pub(crate) ended: Option<Ended>,
    /// The length of each piece for the socket.
    pub(crate) pieces: Vec<usize>,
}

impl Answered {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.octets).into_owned()
    }
}

/// What a client asks for, macros expanded.
pub(crate) fn items(asked: &str) -> Vec<MessageDataItemName<'static>> {
    let line = format!("a FETCH 1 {asked}\r\n");
    let (_, command) = CommandCodec::default().decode(line.as_bytes()).expect(asked);
    let CommandBody::Fetch { macro_or_item_names, .. } = command.body else { panic!("{line}") };
    match macro_or_item_names {
        MacroOrMessageDataItemNames::Macro(name) => name.expand().into_static(),
        MacroOrMessageDataItemNames::MessageDataItemNames(names) => names.into_static(),
    }
}

/// All that is in a folder, numbered.
pub(crate) fn all(folder: &dyn Folder) -> Vec<Numbered> {
    let (_, rows) = folder.rows(Uid::FIRST).unwrap();
    numbered(rows)
}

/// Rows, numbered from 1.
pub(crate) fn numbered(rows: Vec<FolderRow>) -> Vec<Numbered> {
    rows.into_iter().zip(1..).map(|(row, number)| Numbered { number, row }).collect()
}

/// Fetches from all messages of a folder.
pub(crate) fn fetch(folder: Arc<dyn Folder>, asked: &str) -> Answered {
    let messages = all(folder.as_ref());
    fetch_from(folder, messages, asked, true)
}

/// Fetches from these messages.
pub(crate) fn fetch_from(
    folder: Arc<dyn Folder>,
    messages: Vec<Numbered>,
    asked: &str,
    may_set_seen: bool,
) -> Answered {
    run(folder, FetchJob { messages, items: items(asked), may_set_seen }, Kept::default())
}

/// Fetches from all messages of a folder, as the next command of a connection.
pub(crate) fn fetch_next(folder: Arc<dyn Folder>, asked: &str, kept: &Kept) -> Answered {
    let job = FetchJob { messages: all(folder.as_ref()), items: items(asked), may_set_seen: true };
    run(folder, job, kept.clone())
}

fn run(folder: Arc<dyn Folder>, job: FetchJob, kept: Kept) -> Answered {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut pieces = stream::start(folder, job, kept, ());
        let mut answered = Answered::default();
        while let Some(piece) = pieces.recv().await {
            match piece {
                Piece::Octets(octets) => {
                    answered.pieces.push(octets.len());
                    answered.octets.extend(octets);
                }
                Piece::Whole(uid) => answered.whole.push(uid.value()),
                Piece::Seen(uid) => answered.seen.push(uid.value()),
                Piece::Broken => assert!(answered.ended.is_none()),
                Piece::End(ended) => answered.ended = Some(ended),
            }
        }
        answered
    })
}

/// One literal or quoted answer: the octets behind `label` in the first answer that has it.
pub(crate) fn literal<'a>(answer: &'a [u8], label: &str) -> &'a [u8] {
    let start = format!("{label} {{");
    let at = memchr::memmem::find(answer, start.as_bytes()).unwrap_or_else(|| panic!("no {label}"));
    let rest = &answer[at + start.len()..];
    let end = rest.iter().position(|b| *b == b'}').unwrap();
    let octets: usize = std::str::from_utf8(&rest[..end]).unwrap().parse().unwrap();
    assert_eq!(&rest[end..end + 3], b"}\r\n");
    &rest[end + 3..end + 3 + octets]
}
