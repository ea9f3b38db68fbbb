//! Searches over folders in memory, asked for as clients write them.

#[path = "../../../../tests/support/imap_fake.rs"]
mod imap_fake;

use super::*;
use crate::fetch::folders::FolderRow;
use crate::mail::{Flags, Uid};
use imap_codec::CommandCodec;
use imap_codec::decode::Decoder;
use imap_codec::imap_types::IntoStatic;
use imap_codec::imap_types::command::CommandBody;
use imap_codec::imap_types::core::Vec1;
use imap_codec::imap_types::search::SearchKey;
use imap_fake::Fake;
use proptest::prelude::*;
use std::io::{self, Read};

/// A search as a client writes it, behind SEARCH; each `$` stands for one of the strings, sent as a literal.
fn key(written: &str, strings: &[&[u8]]) -> SearchKey<'static> {
    let mut command = b"a SEARCH ".to_vec();
    let mut strings = strings.iter();
    for octet in written.bytes() {
        if octet == b'$' {
            let string = strings.next().unwrap();
            command.extend_from_slice(format!("{{{}+}}\r\n", string.len()).as_bytes());
            command.extend_from_slice(string);
        } else {
            command.push(octet);
        }
    }
    command.extend_from_slice(b"\r\n");
    let (rest, command) =
        CommandCodec::default().decode(&command).unwrap_or_else(|e| panic!("{written}: {e:?}"));
    assert!(rest.is_empty());
    let CommandBody::Search { criteria, .. } = command.body else { panic!("{written}") };
    SearchKey::And(Vec1::try_from(criteria.into_iter().collect::<Vec<_>>()).unwrap()).into_static()
}

fn job(fake: &Fake, key: SearchKey<'static>) -> SearchJob {
    let rows = fake.rows("INBOX");
    let numbered = |(at, (uid, flags)): (usize, &(u32, Flags))| Numbered {
        number: at as u32 + 1,
        row: FolderRow { uid: Uid::new(*uid).unwrap(), flags: *flags },
    };
    let largest = (rows.len() as u32, rows.last().map_or(0, |row| row.0));
    SearchJob { messages: rows.iter().enumerate().map(numbered).collect(), key, uid: false, largest }
}

fn search(fake: &Fake, key: SearchKey<'static>) -> Result<Vec<u32>, SearchError> {
    let found = run(&*fake.folder("INBOX"), &job(fake, key), &|| true)?;
    Ok(found.into_iter().map(|message| message.number).collect())
}

fn check(fake: &Fake, written: &str, strings: &[&[u8]], expect: &[u32]) {
    assert_eq!(search(fake, key(written, strings)).unwrap(), expect, "{written} {strings:?}");
}

/// How many summaries and messages were opened.
fn read(fake: &Fake) -> (usize, usize) {
    let state = fake.state();
    (state.summaries, state.opened)
}

const LETTER: &[u8] = b"From: =?iso-8859-1?Q?J=FCrgen_M=FCller?= <juergen@example.com>\r\n\
    To: \"Ann, of Sales\" <ann@example.org>,\r\n bob@example.org\r\n\
    Cc: carl@example.net\r\nBcc: dora@example.net\r\n\
    Subject: =?utf-8?B?R3LDvA==?=\r\n =?utf-8?B?w59l?= from the\r\n\tcoast\r\n\
    Date: Sun, 1 Nov 2026 23:30:00 -0800\r\nX-Empty:\r\nMessage-ID: <letter@example.com>\r\n\
    Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
    Ein sch=F6ner Tag, wirk=\r\nlich.\r\n";

const MIXED: &[u8] = b"From: carl@example.net\r\nTo: list@example.org\r\nSubject: parcel\r\n\
    Date: 2 Nov 2026 00:10 +0100\r\nMIME-Version: 1.0\r\n\
    Content-Type: multipart/mixed; boundary=b\r\n\r\nPREAMBLE here\r\n--b\r\n\
    Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n\
    PGI+w4lUw4k8L2I+IGluIFBh\r\ncmlz\r\n--b\r\n\
    Content-Type: application/octet-stream; name=\"=?utf-8?q?pl=C3=A4ne?=.bin\"\r\n\r\nbinary needle\r\n--b\r\n\
    Content-Type: message/rfc822\r\n\r\n\
    From: inner@example.com\r\nSubject: =?utf-8?q?inner_s=C3=BCbject?=\r\n\r\nthe inner text\r\n--b--\r\nEPILOGUE\r\n";

const BARE: &[u8] = b"Subject: bare\r\n\r\nNothing but this text, and \xc3\xb6.\r\n";

fn three() -> Fake {
    let fake = Fake::with(&[LETTER.to_vec(), MIXED.to_vec(), BARE.to_vec()]);
    fake.flag("INBOX", 1, Flags::SEEN | Flags::ANSWERED);
    fake.flag("INBOX", 2, Flags::FLAGGED | Flags::DRAFT | Flags::DELETED);
    fake
}

#[test]
fn flags_and_numbers_decide_alone() {
    let fake = three();
    for (written, expect) in [
        ("ALL", &[1, 2, 3][..]),
        ("SEEN", &[1]),
        ("UNSEEN", &[2, 3]),
        ("ANSWERED", &[1]),
        ("UNANSWERED", &[2, 3]),
        ("FLAGGED", &[2]),
        ("UNFLAGGED", &[1, 3]),
        ("DRAFT", &[2]),
        ("UNDRAFT", &[1, 3]),
        ("DELETED", &[2]),
        ("UNDELETED", &[1, 3]),
        ("NEW", &[]),
        ("RECENT", &[]),
        ("OLD", &[1, 2, 3]),
        ("KEYWORD Junk", &[]),
        ("UNKEYWORD work", &[1, 2, 3]),
        ("1,3", &[1, 3]),
        ("3:2", &[2, 3]),
        ("*", &[3]),
        ("9:*", &[3]),
        ("UID 1:4294967295", &[1, 2, 3]),
        ("UID 2", &[2]),
        ("NOT 2", &[1, 3]),
        ("OR SEEN FLAGGED", &[1, 2]),
        ("NOT (OR SEEN FLAGGED)", &[3]),
        ("UNSEEN UNFLAGGED", &[3]),
    ] {
        check(&fake, written, &[], expect);
    }
    assert_eq!(fake.state().summaries, 0);
}

#[test]
fn uids_are_not_numbers() {
    let fake = three();
    fake.remove("INBOX", 1);
    check(&fake, "UID 2:3 1", &[], &[1]);
    check(&fake, "UID 1", &[], &[]);
    check(&fake, "UID *", &[], &[2]);
    check(&fake, "UID 100:*", &[], &[2]);
}

#[test]
fn days_and_sizes_come_from_the_index() {
    let fake = three();
    let size = fake.state().folders[0].messages[2].summary.canonical.octets;
    for (written, expect) in [
        ("ON 1-Nov-2026".to_owned(), &[1, 2, 3][..]),
        ("BEFORE 1-Nov-2026".to_owned(), &[]),
        ("BEFORE 2-Nov-2026".to_owned(), &[1, 2, 3]),
        ("SINCE 1-Nov-2026".to_owned(), &[1, 2, 3]),
        ("SINCE 2-Nov-2026".to_owned(), &[]),
        (format!("SMALLER {}", size + 1), &[3]),
        (format!("SMALLER {size}"), &[]),
        (format!("LARGER {size}"), &[1, 2]),
        (format!("LARGER {}", size - 1), &[1, 2, 3]),
        ("LARGER 4294967295".to_owned(), &[]),
    ] {
        check(&fake, &written, &[], expect);
    }
    assert_eq!(fake.state().summaries, 0);
}

#[test]
fn sent_days_are_those_of_the_date_field_in_its_own_zone() {
    let fake = three();
    for (written, expect) in [
        ("SENTON 1-Nov-2026", &[1][..]),
        ("SENTON 2-Nov-2026", &[2]),
        ("SENTBEFORE 2-Nov-2026", &[1]),
        ("SENTBEFORE 1-Nov-2026", &[]),
        ("SENTSINCE 2-Nov-2026", &[2]),
        ("SENTSINCE 1-Nov-2026", &[1, 2]),
        ("NOT SENTSINCE 1-Jan-1970", &[3]),
    ] {
        check(&fake, written, &[], expect);
    }
}

#[test]
fn header_fields_are_found_decoded_and_as_written() {
    let fake = three();
    for (written, string, expect) in [
        ("FROM $", "JÜRGEN müller", &[1][..]),
        ("FROM $", "=?ISO-8859-1?q?j=fc", &[1]),
        ("FROM $", "example", &[1, 2]),
        ("FROM $", "inner@", &[]),
        ("TO $", "ann, of", &[1]),
        ("TO $", "bob@example.org", &[1]),
        ("CC $", "CARL@", &[1]),
        ("BCC $", "dora", &[1]),
        ("SUBJECT $", "grüße FROM THE coast", &[1]),
        ("SUBJECT $", "from the\tcoast", &[1]),
        ("SUBJECT $", "", &[1, 2, 3]),
        ("SUBJECT $", "subject", &[]),
        ("HEADER X-Empty $", "", &[1]),
        ("HEADER x-empty $", "a", &[]),
        ("HEADER Message-Id $", "<LETTER@", &[1]),
        ("HEADER Date $", "nov 2026", &[1, 2]),
        ("HEADER Missing $", "", &[]),
        ("NOT HEADER Date $", "", &[3]),
    ] {
        check(&fake, written, &[string.as_bytes()], expect);
    }
    assert_eq!(fake.state().opened, 0);
}

#[test]
fn text_is_found_decoded_in_every_part_that_is_text() {
    let fake = three();
    for (string, body, text) in [
        ("SCHÖNER tag, wirklich", &[1][..], &[1][..]),
        ("sch=F6ner", &[], &[]),
        ("<b>été</b> in paris", &[2], &[2]),
        ("needle", &[], &[]),
        ("the INNER text", &[2], &[2]),
        ("inner sübject", &[2], &[2]),
        ("pläne.bin", &[2], &[2]),
        ("preamble", &[], &[]),
        ("epilogue", &[], &[]),
        ("ö.", &[3], &[3]),
        ("grüße", &[], &[1]),
        ("bare", &[], &[3]),
        ("subject: bare", &[], &[3]),
        ("", &[1, 2, 3], &[1, 2, 3]),
    ] {
        check(&fake, "BODY $", &[string.as_bytes()], body);
        check(&fake, "TEXT $", &[string.as_bytes()], text);
    }
}

#[test]
fn octets_that_are_no_utf8_are_found_as_written() {
    let fake = Fake::with(&[b"Subject: gr\xfc\xdfe\r\n\r\nbody\r\n".to_vec()]);
    check(&fake, "SUBJECT $", &[b"GR\xfc\xdf"], &[1]);
}

#[test]
fn nothing_dearer_is_opened_than_needed() {
    let fake = three();
    check(&fake, "TEXT needle SEEN FROM nobody", &[], &[]);
    assert_eq!(read(&fake), (1, 0));
    check(&fake, "OR (TEXT needle) (OR SEEN UNSEEN)", &[], &[1, 2, 3]);
    check(&fake, "BODY needle ON 2-Nov-2026", &[], &[]);
    assert_eq!(read(&fake), (1, 0));
    check(&fake, "TEXT parcel FLAGGED", &[], &[2]);
    assert_eq!(read(&fake), (2, 0));
    check(&fake, "BODY paris FROM carl", &[], &[2]);
    assert_eq!(fake.state().opened, 1);
}

#[test]
fn a_message_that_cannot_be_read_matches_nothing() {
    let fake = three();
    fake.state().faults.vanished = Some(1);
    check(&fake, "OR FROM nobody SUBJECT $", &[b""], &[2, 3]);
    // Its row is enough.
    check(&fake, "SEEN", &[], &[1]);
    fake.state().faults = imap_fake::Faults { damaged: Some((3, 30)), ..Default::default() };
    check(&fake, "NOT BODY nowhere", &[], &[1, 2]);
    fake.state().faults =
        imap_fake::Faults { damaged: Some((2, 0)), no_summary: Some(2), ..Default::default() };
    check(&fake, "NOT SUBJECT nowhere", &[], &[1, 3]);
}

#[test]
fn a_message_without_a_summary_is_read_as_it_stands() {
    let fake = three();
    fake.state().faults.no_summary = Some(2);
    check(&fake, "SUBJECT parcel", &[], &[2]);
    check(&fake, "BODY PREAMBLE", &[], &[2]);
    check(&fake, "BODY parcel", &[], &[]);
    check(&fake, "TEXT parcel", &[], &[2]);
}

#[test]
fn a_search_ends_when_nobody_waits_for_it() {
    let fake = three();
    let job = job(&fake, key("BODY needle", &[]));
    let gave_up = run(&*fake.folder("INBOX"), &job, &|| false);
    assert_eq!(gave_up, Err(SearchError::Failed(FetchError::Temporary)));
    assert_eq!(fake.state().opened, 0);
}

#[test]
fn too_much_is_refused_before_anything_is_opened() {
    let fake = Fake::default();
    let message: std::sync::Arc<[u8]> = BARE.into();
    let summary = std::sync::Arc::new(imap_fake::summary_of(BARE));
    let stored = |uid| imap_fake::Stored {
        uid,
        flags: Flags::NONE,
        octets: message.clone(),
        summary: summary.clone(),
        received_at: crate::mail::Timestamp::from_unix_ms(imap_fake::FIRST_CAME_MS),
    };
    let most = OPENED_MAX as u32;
    fake.state().folders[0].messages = (1..=most + 1).map(stored).collect();
    for written in ["BODY nowhere", "TEXT nowhere"] {
        let refused = search(&fake, key(written, &[])).unwrap_err();
        assert!(matches!(refused, SearchError::TooMuch(why) if why.contains("5000 messages")), "{written}");
    }
    assert_eq!(fake.state().opened, 0);
    assert!(fake.state().summaries <= OPENED_MAX + ENTRIES_MAX);
    check(&fake, "BODY nowhere 2:*", &[], &[]);
    assert_eq!(fake.state().opened, OPENED_MAX);
}

#[test]
fn headers_read_from_messages_count_as_opened() {
    let fake = Fake::default();
    let message: std::sync::Arc<[u8]> = BARE.into();
    let mut summary = imap_fake::summary_of(BARE);
    summary.structure = None;
    let summary = std::sync::Arc::new(summary);
    let stored = |uid| imap_fake::Stored {
        uid,
        flags: Flags::NONE,
        octets: message.clone(),
        summary: summary.clone(),
        received_at: crate::mail::Timestamp::from_unix_ms(imap_fake::FIRST_CAME_MS),
    };
    let most = OPENED_MAX as u32;
    fake.state().folders[0].messages = (1..=most + 1).map(stored).collect();
    check(&fake, "SUBJECT nowhere 2:*", &[], &[]);
    assert_eq!(fake.state().opened, OPENED_MAX);
    fake.state().opened = 0;
    assert!(matches!(search(&fake, key("SUBJECT nowhere", &[])), Err(SearchError::TooMuch(_))));
    assert!(fake.state().opened <= OPENED_MAX);
}

#[test]
fn headers_are_searched_as_they_are_served() {
    let part = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX-A: 1\rX-B: =?utf-8?q?k=C3=B6y?=\r\n\r\nx\r\n--b--\r\n";
    let fake = Fake::with(&[b"Subject: x\rFrom: boss@x\r\n\r\nbody".to_vec(), part.as_bytes().to_vec()]);
    check(&fake, "FROM boss", &[], &[1]);
    check(&fake, "SUBJECT boss", &[], &[]);
    check(&fake, "BODY $", &["x-b: k\u{f6}y".as_bytes()], &[2]);
    fake.state().faults.no_summary = Some(1);
    check(&fake, "FROM boss", &[], &[1]);
}

fn refused(key: SearchKey<'static>) -> bool {
    matches!(search(&Fake::default(), key), Err(SearchError::TooMuch(_)))
}

#[test]
fn too_many_too_deep_and_too_long_keys_are_refused() {
    let deep = |depth| (0..depth).fold(SearchKey::Seen, |inner, _| SearchKey::Not(Box::new(inner)));
    assert!(!refused(deep(90)));
    assert!(refused(deep(2_000)));
    let many = |count| SearchKey::And(Vec1::try_from(vec![SearchKey::Seen; count]).unwrap());
    assert!(!refused(many(999)));
    assert!(refused(many(1_000)));
    assert!(!refused(key("SUBJECT $", &[&[b'a'; 4_096]])));
    assert!(refused(key("SUBJECT $", &[&[b'a'; 4_097]])));
    assert!(!refused(key("BODY a ".repeat(16).trim_end(), &[])));
    assert!(refused(key("BODY a ".repeat(17).trim_end(), &[])));
}

/// Content that is made while it is read, a few octets at a time.
struct Long {
    left: u64,
    end: io::Cursor<&'static [u8]>,
}

impl Read for Long {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return self.end.read(into);
        }
        let octets = into.len().min(7_001).min(usize::try_from(self.left).unwrap());
        into[..octets].fill(b'x');
        self.left -= octets as u64;
        Ok(octets)
    }
}

#[test]
fn a_long_text_is_searched_through_a_window() {
    let head = b"Subject: long\r\n\r\n".to_vec();
    let outline = Outline::Header(head.clone());
    let plan = Plan::new(&key("BODY xxxstraddles BODY end", &[]), (0, 0)).unwrap();
    let mut known = Known::default();
    let message = job(&Fake::with(&[BARE.to_vec()]), SearchKey::All).messages[0];
    plan.look_at_row(&message, &mut known);
    let left = 40_000_000;
    let open =
        || Ok(Box::new(Long { left, end: io::Cursor::new(b"straddles the END") }) as Box<dyn Read + Send>);
    content::look(&outline, open, &|| true, &plan, &mut known).unwrap();
    assert_eq!(plan.judge(&known), Some(true));
}

#[test]
fn text_in_any_charset_is_found_wherever_it_is_cut() {
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
    for (charset, text, expect) in [
        ("utf-8", "aa 💌 grüße".as_bytes().to_vec(), "aa 💌 grüße"),
        ("utf-16", utf16("aa 💌 grüße"), "aa 💌 grüße"),
        ("utf-16be", utf16("aa 💌 grüße"), "aa 💌 grüße"),
        ("iso-8859-1", b"aa gr\xfc\xdfe".to_vec(), "aa grüße"),
        ("gbk", b"aa\n\xc4\xe3\xba\xc3".to_vec(), "aa\n你好"),
        ("iso-2022-jp", b"aa\n\x1b$B%O%m!<\x1b(B".to_vec(), "aa\nハロー"),
    ] {
        for size in 1..7 {
            let mut decoder = charset::TextDecoder::new(charset);
            let mut found = String::new();
            text.chunks(size).for_each(|chunk| decoder.push(chunk, &mut found));
            decoder.finish(&mut found);
            assert_eq!(found, expect, "{charset} in pieces of {size}");
        }
    }
}

/// What the messages of a random search are made of.
#[derive(Clone, Debug)]
struct Simple {
    flags: u8,
    subject: usize,
    body: usize,
    filler: usize,
    day: Option<u8>,
}

const WORDS: [&str; 4] = ["alpha", "Beta", "gamma", "béta"];

impl Simple {
    fn octets(&self) -> Vec<u8> {
        let date = self.day.map(|day| format!("Date: {day} Nov 2026 12:00:00 +0000\r\n")).unwrap_or_default();
        let (subject, body) = (WORDS[self.subject], WORDS[self.body]);
        let filler = "x".repeat(self.filler);
        format!(
            "Subject: {subject}\r\n{date}Content-Type: text/plain; charset=utf-8\r\n\r\n{filler} {body}\r\n"
        )
        .into_bytes()
    }

    /// The plainest way to say it.
    fn is(&self, number: u32, last: u32, key: &SearchKey<'_>) -> bool {
        let flag = |flag| Flags::from_bits(self.flags).contains(flag);
        let has =
            |at: usize, word: &[u8]| WORDS[at].to_lowercase() == String::from_utf8_lossy(word).to_lowercase();
        match key {
            SearchKey::And(keys) => keys.as_ref().iter().all(|key| self.is(number, last, key)),
            SearchKey::Or(one, other) => self.is(number, last, one) || self.is(number, last, other),
            SearchKey::Not(key) => !self.is(number, last, key),
            SearchKey::Seen => flag(Flags::SEEN),
            SearchKey::Unflagged => !flag(Flags::FLAGGED),
            SearchKey::Recent => false,
            SearchKey::Larger(octets) => self.octets().len() > *octets as usize,
            SearchKey::SentSince(date) => {
                self.day.is_some_and(|day| format!("2026-11-{day:02}") >= date.as_ref().to_string())
            }
            SearchKey::Subject(word) => has(self.subject, word.as_ref()),
            SearchKey::Body(word) => has(self.body, word.as_ref()),
            SearchKey::Text(word) => has(self.subject, word.as_ref()) || has(self.body, word.as_ref()),
            SearchKey::SequenceSet(set) => {
                use imap_codec::imap_types::sequence::SequenceSet;
                *set == SequenceSet::try_from("2:3").unwrap() && (2..=3).contains(&number)
                    || *set == SequenceSet::try_from("*").unwrap() && number == last
            }
            other => panic!("{other:?}"),
        }
    }
}

fn simple() -> impl Strategy<Value = Simple> {
    let day = prop::option::of(1..20_u8);
    (0..32_u8, 0..4_usize, 0..4_usize, 0..200_usize, day)
        .prop_map(|(flags, subject, body, filler, day)| Simple { flags, subject, body, filler, day })
}

fn any_key() -> impl Strategy<Value = SearchKey<'static>> {
    let word = |name: &'static str| {
        (0..4_usize).prop_map(move |at| key(&format!("{name} $"), &[WORDS[at].as_bytes()]))
    };
    let leaf = prop_oneof![
        Just(SearchKey::Seen),
        Just(SearchKey::Unflagged),
        Just(SearchKey::Recent),
        Just(key("2:3", &[])),
        Just(key("*", &[])),
        (0..300_u32).prop_map(SearchKey::Larger),
        (1..20_u8).prop_map(|day| key(&format!("SENTSINCE {day}-Nov-2026"), &[])),
        word("SUBJECT"),
        word("BODY"),
        word("TEXT"),
    ];
    leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|key| SearchKey::Not(Box::new(key))),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| SearchKey::Or(Box::new(a), Box::new(b))),
            prop::collection::vec(inner, 1..4).prop_map(|keys| SearchKey::And(Vec1::try_from(keys).unwrap())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_search_finds_what_the_plainest_one_finds(messages in prop::collection::vec(simple(), 0..40), key in any_key()) {
        let fake = Fake::with(&messages.iter().map(Simple::octets).collect::<Vec<_>>());
        for (at, message) in messages.iter().enumerate() {
            fake.flag("INBOX", at as u32 + 1, Flags::from_bits(message.flags));
        }
        let last = messages.len() as u32;
        let expect: Vec<u32> = (1..=last).filter(|number| messages[*number as usize - 1].is(*number, last, &key)).collect();
        prop_assert_eq!(search(&fake, key).unwrap(), expect);
    }
}
