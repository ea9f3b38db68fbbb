//! The same messages in Daybook and in a Maildir that Dovecot serves: what both say of them over IMAP is compared, message by
//! message and search by search.
//!
//! Run by `tests/real.sh`, which gets Dovecot.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures are to be read")]
#![allow(clippy::string_slice, reason = "every index comes from a search in the same text")]

#[path = "support/daybook.rs"]
mod support;

#[path = "support/corpus.rs"]
mod corpus_messages;

#[path = "support/imap.rs"]
mod imap;

#[path = "support/imap_value.rs"]
mod imap_value;

#[path = "real/dovecot.rs"]
mod dovecot;

#[path = "real/dovecot_messages.rs"]
mod messages;

#[path = "real/dovecot_explained.rs"]
mod explained;

use dovecot::{Dovecot, Kept};
use explained::{FETCHES, SEARCHES, THE_PART_ITSELF};
use imap::Imap;
use imap_value::{Value, fetched};
use messages::{Message, messages};
use std::collections::{BTreeMap, BTreeSet};
use support::{HOST, Site};

/// What is asked for of every message.
const ITEMS: &[&str] = &[
    "RFC822.SIZE",
    "ENVELOPE",
    "BODYSTRUCTURE",
    "BODY",
    "BODY.PEEK[]",
    "BODY.PEEK[HEADER]",
    "BODY.PEEK[TEXT]",
    "BODY.PEEK[]<100.200>",
    "BODY.PEEK[HEADER.FIELDS (From To Subject Date Message-ID Content-Type X-Missing)]",
    "BODY.PEEK[HEADER.FIELDS.NOT (Received From To)]",
    "BODY.PEEK[1]",
    "BODY.PEEK[1.MIME]",
    "BODY.PEEK[1.HEADER]",
    "BODY.PEEK[1.1]",
    "BODY.PEEK[1.2.MIME]",
    "BODY.PEEK[2]",
    "BODY.PEEK[2.MIME]",
    "BODY.PEEK[2.HEADER]",
    "BODY.PEEK[2.HEADER.FIELDS (Subject From)]",
    "BODY.PEEK[2.TEXT]",
    "BODY.PEEK[2.1]",
    "BODY.PEEK[2.1.MIME]",
    "BODY.PEEK[2.2]",
    "BODY.PEEK[3]",
    "BODY.PEEK[3.1]",
    "BODY.PEEK[2.1.1]",
];

/// Searches, each the rest of a command. `$` stands for a literal with the text that follows the bar.
const SEARCHED: &[&str] = &[
    "ALL",
    "1:10,20",
    "*",
    "UID 5:*",
    "SEEN",
    "UNSEEN",
    "FLAGGED",
    "DELETED UNSEEN",
    "NEW",
    "OLD",
    "RECENT",
    "KEYWORD Junk",
    "UNKEYWORD Junk",
    "LARGER 3000",
    "SMALLER 3000",
    "NOT LARGER 3000 UNFLAGGED",
    "SINCE 1-Jan-2020",
    "BEFORE 1-Jan-2020",
    "SENTSINCE 1-Jan-2020",
    "SENTBEFORE 1-Jan-1980",
    "HEADER Date \"\" SENTBEFORE 1-Jan-2020",
    "NOT HEADER Date \"\" SENTBEFORE 1-Jan-2020",
    "SENTON 21-Nov-2026",
    "NOT SENTSINCE 1-Jan-1990",
    "HEADER Date \"\" SENTBEFORE 1-Jan-2100",
    "SENTSINCE 1-Jan-1980 SENTBEFORE 3-Nov-2026",
    "FROM postmaster",
    "FROM example.com",
    "FROM \"\"",
    "TO bob",
    "TO contoso",
    "CC example",
    "CC \"\"",
    "BCC \"\"",
    "SUBJECT report",
    "SUBJECT RE:",
    "SUBJECT undeliverable",
    "SUBJECT $|grüße",
    "SUBJECT $|GRÜSSE",
    "SUBJECT $|счёт",
    "SUBJECT $|ハロー",
    "SUBJECT \"\"",
    "FROM $|müller",
    "HEADER Message-ID example",
    "HEADER X-MS-Journal-Report \"\"",
    "HEADER Content-Type multipart",
    "HEADER Received from",
    "HEADER X-Missing \"\"",
    "OR FROM alice TO alice",
    "OR (SUBJECT test) (NOT HEADER To \"\")",
    "NOT (OR SUBJECT a SUBJECT e)",
    "BODY budget",
    "BODY hello",
    "BODY $|grüße",
    "BODY $|schöner Tag",
    "BODY sender",
    "BODY recipient",
    "TEXT budget",
    "TEXT postmaster",
    "TEXT $|grüße",
    "TEXT journal",
    "NOT TEXT a",
    "BODY \"wrapped word\"",
    "TEXT \"this is folded  over\"",
    "SUBJECT \"folded over\"",
    "LARGER 1000 SMALLER 2000 NOT FROM postmaster UNSEEN",
    "OR BODY hello (OR SUBJECT undeliverable SENTON 2-Nov-2026)",
    "HEADER From \"<\"",
    "TO \"bob@\"",
    "BODY needle",
];

/// Both servers, and the messages by their numbers.
struct Both {
    messages: Vec<Message>,
    ours: Imap,
    theirs: Imap,
    _dovecot: Dovecot,
}

fn with_both(compare: impl FnOnce(Both)) {
    let site =
        Site::with("[imap]\nlisten = [\"127.0.0.1:0\"]\nlisten_tls = [\"127.0.0.1:0\"]\n", support::USERS);
    let server = site.serve();
    let made =
        site.run(&["mailbox", "create", "--name", "Compared", "--profile", "generic", "--json"]).expect(0);
    let made: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    let sent = messages();
    for message in &sent {
        let reply = server.send(&text("address"), &message.octets);
        assert!(reply.starts_with("250 "), "{}: {reply}", message.name);
    }
    let credentials = (&*text("login"), &*text("password"));
    let mut ours = Imap::login(server.port("imaps"), site.client_config(), HOST, credentials).unwrap();
    ours.say("SELECT INBOX").ok();
    let (messages, dates) = stored(&mut ours, &sent);
    println!("{} messages, of {} sent", messages.len(), sent.len());
    assert!(messages.len() >= 100);
    let kept: Vec<_> = messages
        .iter()
        .zip(&dates)
        .map(|(message, received_at)| Kept { octets: &message.octets, received_at: *received_at })
        .collect();
    let mut dovecot = Dovecot::with(&kept);
    // Nothing is recent to the second who opens the folder.
    let mut theirs = dovecot.client();
    theirs.say("SELECT INBOX").ok();
    theirs.logout();
    let mut theirs = dovecot.client();
    theirs.say("SELECT INBOX").ok();
    compare(Both { messages, ours, theirs, _dovecot: dovecot });
}

/// The messages as they are numbered, and when each came: what was sent is there as it was sent.
fn stored(ours: &mut Imap, sent: &[Message]) -> (Vec<Message>, Vec<u64>) {
    let by_octets: BTreeMap<&[u8], &Message> =
        sent.iter().map(|message| (&*message.octets, message)).collect();
    let done = ours.say("FETCH 1:* (INTERNALDATE BODY.PEEK[])").ok();
    let mut messages = Vec::new();
    let mut dates = Vec::new();
    for (_, items) in done.untagged.iter().filter_map(fetched) {
        let items: BTreeMap<_, _> = items.into_iter().collect();
        let (Value::Text(octets), Value::Text(date)) = (&items["BODY[]"], &items["INTERNALDATE"]) else {
            panic!()
        };
        let Some(message) = by_octets.get(&**octets) else { panic!("not as sent: {:?}", items["BODY[]"]) };
        messages.push((*message).clone());
        let format = "[day padding:space]-[month repr:short]-[year] [hour]:[minute]:[second] \
                      [offset_hour sign:mandatory][offset_minute]";
        let format = time::format_description::parse_borrowed::<2>(format).unwrap();
        let date = time::OffsetDateTime::parse(std::str::from_utf8(date).unwrap(), &format).unwrap();
        dates.push(date.unix_timestamp().try_into().unwrap());
    }
    (messages, dates)
}

/// What both say of a message, by item.
fn items(imap: &mut Imap, number: usize) -> BTreeMap<String, Value> {
    let done = imap.say(&format!("FETCH {number} ({})", ITEMS.join(" ")));
    assert!(done.tagged.starts_with("OK"), "message {number}: {}", done.tagged);
    let mut found = BTreeMap::new();
    for (of, items) in done.untagged.iter().filter_map(fetched) {
        assert_eq!(of as usize, number);
        found.extend(items);
    }
    found
}

/// A value short enough to be read, around where it parts from the other.
fn shown(value: Option<&Value>, other: Option<&Value>) -> String {
    let (value, other) = (format!("{value:?}"), format!("{other:?}"));
    let at = value.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let window: String = value.chars().skip(at.saturating_sub(60)).take(180).collect();
    format!("…{window}")
}

/// The item one part up: `BODY[2.MIME]` of `BODY[2.1.MIME]`.
fn parent(item: &str) -> Option<String> {
    let (before, after) = item.rsplit_once(".1")?;
    Some(format!("{before}{after}"))
}

#[test]
fn messages_are_shown_as_dovecot_shows_them() {
    with_both(|mut both| {
        let mut differences = Vec::new();
        let mut compared = 0;
        for (at, message) in both.messages.iter().enumerate() {
            let (ours, theirs) = (items(&mut both.ours, at + 1), items(&mut both.theirs, at + 1));
            let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
            for name in names {
                compared += 1;
                let mut shown_as = name.clone();
                if ours.get(name) == Some(&Value::Text(Vec::new()))
                    && theirs.get(name) == parent(name).and_then(|name| theirs.get(&name))
                {
                    shown_as += THE_PART_ITSELF;
                }
                let (ours, theirs) = (ours.get(name), theirs.get(name));
                if ours != theirs {
                    let (ours, theirs) = (shown(ours, theirs), shown(theirs, ours));
                    differences.push((message.name.clone(), shown_as, ours, theirs));
                }
            }
        }
        println!("{compared} items compared, {} differ", differences.len());
        let mut met = BTreeSet::new();
        let mut unexplained = 0;
        for (message, item, ours, theirs) in &differences {
            match FETCHES.iter().position(|explained| explained.is_about(message, item)) {
                Some(at) => {
                    met.insert(at);
                }
                None => {
                    unexplained += 1;
                    println!("{message} {item}\n  ours   {ours}\n  theirs {theirs}");
                }
            }
        }
        assert_eq!(unexplained, 0, "differences without an explanation");
        for (at, explained) in FETCHES.iter().enumerate() {
            assert!(met.contains(&at), "no longer differs: {explained:?}");
        }
    });
}

/// The numbers found.
fn search(imap: &mut Imap, written: &str) -> Vec<u32> {
    let command = match written.split_once('|') {
        Some((keys, text)) => {
            let literal = format!("{{{}+}}\r\n{text}", text.len());
            format!("SEARCH CHARSET UTF-8 {}", keys.replace('$', &literal))
        }
        None => format!("SEARCH {written}"),
    };
    let done = imap.say(&command);
    assert!(done.tagged.starts_with("OK"), "{written}: {}", done.tagged);
    let texts = done.texts();
    let found = texts.iter().find_map(|text| text.strip_prefix("* SEARCH")).unwrap();
    found.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

#[test]
fn searches_find_what_dovecot_finds() {
    with_both(|mut both| {
        for imap in [&mut both.ours, &mut both.theirs] {
            imap.say("STORE 3:30 +FLAGS.SILENT (\\Seen)").ok();
            imap.say("STORE 20:40 +FLAGS.SILENT (\\Flagged \\Answered)").ok();
            imap.say("STORE 35:50 +FLAGS.SILENT (\\Deleted \\Draft)").ok();
        }
        let mut met = BTreeSet::new();
        let mut unexplained = 0;
        for written in SEARCHED {
            let (ours, theirs) = (search(&mut both.ours, written), search(&mut both.theirs, written));
            let only = |here: &[u32], there: &[u32]| {
                let only = here.iter().filter(|number| !there.contains(number));
                only.map(|number| both.messages[*number as usize - 1].name.clone()).collect::<Vec<_>>()
            };
            let sides = [("ours", only(&ours, &theirs)), ("theirs", only(&theirs, &ours))];
            println!("{written}: {} found", ours.len());
            for (side, names) in sides {
                for name in names {
                    let key = format!("{side}: {name}");
                    match SEARCHES.iter().position(|explained| explained.is_about(&key, written)) {
                        Some(at) => {
                            met.insert(at);
                        }
                        None => {
                            unexplained += 1;
                            println!("  only {key}");
                        }
                    }
                }
            }
        }
        assert_eq!(unexplained, 0, "differences without an explanation");
        for (at, explained) in SEARCHES.iter().enumerate() {
            assert!(met.contains(&at), "no longer differs: {explained:?}");
        }
    });
}
