//! What FETCH sends: sizes that are those of what is sent, sections that fit together, damage that is never sent as mail.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "support/corpus.rs"]
mod corpus;
#[path = "support/imap_fake.rs"]
mod imap_fake;
#[path = "support/imap_fetch.rs"]
mod imap_fetch;
#[path = "imap_output/known.rs"]
mod known;

use daybook::fetch::folders::FolderRow;
use daybook::fetch::imap::stream::Kept;
use daybook::fetch::maildrop::FetchError;
use daybook::mail::{Flags, Part, Uid};
use imap_codec::ResponseCodec;
use imap_codec::decode::Decoder;
use imap_fake::{Fake, Faults, summary_of};
use imap_fetch::{all, fetch, fetch_from, fetch_next, literal, numbered};
use proptest::prelude::*;
use std::time::{Duration, Instant};

/// The plainest way to say what canonical form is.
fn canonical(stored: &[u8]) -> Vec<u8> {
    let mut form = Vec::new();
    for (at, octet) in stored.iter().enumerate() {
        match octet {
            b'\r' => form.extend(b"\r\n"),
            b'\n' if at > 0 && stored[at - 1] == b'\r' => {}
            b'\n' => form.extend(b"\r\n"),
            other => form.push(*other),
        }
    }
    form
}

/// The first Content-Type of a header block, in lower case and without parameters; nothing where there is none.
fn media_type(header: &[u8]) -> String {
    let header = String::from_utf8_lossy(&canonical(header)).to_ascii_lowercase().replace("\r\n ", " ");
    let value = header
        .split("\r\n")
        .find_map(|line| line.strip_prefix("content-type")?.trim_start().strip_prefix(':'));
    value.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_owned()
}

/// Every part with a number, by walking the tree as RFC 3501 §6.4.5 numbers it.
fn numbers(part: &Part, prefix: &str, found: &mut Vec<(String, Part)>) {
    let media_type = media_type(&part.header);
    if part.children.is_empty() && !media_type.starts_with("multipart/") {
        found.push((format!("{prefix}1"), part.clone()));
    }
    for (child, number) in part.children.iter().zip(1..) {
        let name = format!("{prefix}{number}");
        found.push((name.clone(), child.clone()));
        let of_child = self::media_type(&child.header);
        if !child.children.is_empty() {
            numbers(child, &format!("{name}."), found);
        } else if let Some(message) = child.message.as_deref()
            && (of_child == "message/rfc822" || (of_child.is_empty() && media_type == "multipart/digest"))
        {
            numbers(message, &format!("{name}."), found);
        }
    }
}

/// Each section of a message must be the canonical form of its octets, and all sizes true.
fn check_sections(stored: &[u8]) {
    let fake = Fake::with(&[stored.to_vec()]);
    let of = |asked: &str| fetch(fake.folder("INBOX"), asked).octets;
    let whole = canonical(stored);
    let answer =
        of("(RFC822.SIZE BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT] RFC822 RFC822.HEADER RFC822.TEXT)");
    assert!(answer.starts_with(format!("* 1 FETCH (RFC822.SIZE {} BODY[] ", whole.len()).as_bytes()));
    assert_eq!(literal(&answer, "BODY[]"), whole);
    let (header, text) = (literal(&answer, "BODY[HEADER]"), literal(&answer, "BODY[TEXT]"));
    assert_eq!([header, text].concat(), whole);
    assert_eq!(literal(&answer, "RFC822"), whole);
    assert_eq!((literal(&answer, "RFC822.HEADER"), literal(&answer, "RFC822.TEXT")), (header, text));
    // Cut anywhere, pieces are pieces of the whole.
    let (a, b) = (whole.len() / 3 + 1, whole.len() / 3 + 8);
    let asked = format!("(BODY.PEEK[]<{a}.7> BODY.PEEK[]<{b}.4294967295>)");
    let pieces = of(&asked);
    let last = literal(&pieces, &format!("BODY[]<{b}>"));
    assert_eq!(last, whole.get(b..).unwrap_or_default());
    assert_eq!(
        literal(&pieces, &format!("BODY[]<{a}>")),
        whole.get(a..).map_or(&[][..], |s| &s[..s.len().min(7)])
    );

    let root = summary_of(stored).structure.unwrap().into_owned();
    let mut parts = Vec::new();
    numbers(&root, "", &mut parts);
    for (number, part) in parts {
        let (at, end) = (part.body_offset as usize, (part.body_offset + part.octets) as usize);
        let answer = of(&format!("(BODY.PEEK[{number}] BODY.PEEK[{number}.MIME])"));
        let body = literal(&answer, &format!("BODY[{number}]"));
        assert_eq!(body, canonical(&stored[at..end]), "BODY[{number}]");
        assert_eq!(body.len() as u64, part.canonical_octets);
        let header = &stored[part.header_offset as usize..][..part.header_octets as usize];
        assert!(
            literal(&answer, &format!("BODY[{number}.MIME]")) == canonical(header),
            "BODY[{number}.MIME]"
        );
    }
}

/// What is shown of a message, read by somebody else's parser.
fn check_syntax(name: &str, stored: &[u8]) -> Vec<u8> {
    let fake = Fake::with(&[stored.to_vec()]);
    let answer =
        fetch(fake.folder("INBOX"), "(FLAGS UID INTERNALDATE RFC822.SIZE ENVELOPE BODY BODYSTRUCTURE)");
    // It reads no deeper.
    if answer.text().matches("((").count() + answer.text().matches(") (\"message\"").count() < 8 {
        let read = ResponseCodec::default().decode(&answer.octets);
        assert!(matches!(read, Ok((b"", _))), "{name}: {read:?}\n{}", answer.text());
    }
    answer.octets
}

#[test]
fn every_corpus_message_is_shown_and_cut_truly() {
    let messages = corpus::messages();
    assert!(messages.len() > 200);
    for path in messages {
        let stored = std::fs::read(&path).unwrap();
        check_syntax(&path.display().to_string(), &stored);
        check_sections(&stored);
    }
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let octet = prop_oneof![8 => b'a'..=b'z', 1 => Just(b' '), 1 => Just(0_u8), 1 => Just(b'\r'), 1 => Just(b'\n'), 1 => any::<u8>()];
    let end = prop_oneof![4 => Just(b"\r\n".to_vec()), 1 => Just(b"\n".to_vec()), 1 => Just(b"\r".to_vec()), 1 => Just(b"\r\r\n".to_vec())];
    let field = prop::sample::select(vec![
        "From: a@b, \"c\" <d@e>",
        "To: g:;",
        "Subject: x\r\n y",
        "Content-Type: text/html; charset=x",
        "Content-Type: message/rfc822",
        "Content-Type: multipart/mixed; boundary=b",
        "Content-Type: multipart/digest; boundary=\"c\"",
        "--b",
        "--b--",
        "--c",
        "--c--",
        "",
        "",
        "Content-Transfer-Encoding: base64",
    ]);
    let start = prop_oneof![
        3 => field.prop_map(|field| field.as_bytes().to_vec()),
        2 => prop::collection::vec(octet, 0..20),
    ];
    (start, end).prop_map(|(start, end)| [start, end].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sections_of_anything_fit_together(lines in prop::collection::vec(line(), 0..40)) {
        let stored = lines.concat();
        check_syntax("generated", &stored);
        check_sections(&stored);
    }
}

/// Three small messages.
fn three() -> Fake {
    Fake::with(&["one", "two", "three"].map(|text| format!("Subject: x\r\n\r\n{text}\r\n").into_bytes()))
}

/// How often messages and summaries were opened.
fn opened(fake: &Fake) -> (usize, usize) {
    let state = fake.state();
    (state.opened, state.summaries)
}

/// One larger than anything that is held in memory.
fn large(line_end: &str) -> Vec<u8> {
    let mut octets = b"Subject: large\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n".to_vec();
    for part in 0..30 {
        octets.extend(format!("--b{line_end}Content-Type: text/plain; x={part}{line_end}{line_end}").bytes());
        (0..3_000).for_each(|line| octets.extend(format!("part {part} line {line}{line_end}").bytes()));
    }
    octets.extend(b"--b--\r\n");
    octets
}

#[test]
fn a_small_message_that_cannot_be_read_is_left_out_and_counted() {
    let fake = three();
    for (damaged, short) in [(Some((2, 0)), None), (Some((2, 19)), None), (None, Some(2))] {
        fake.state().faults = Faults { damaged, short, ..Faults::default() };
        let answer = fetch(fake.folder("INBOX"), "(UID BODY[TEXT])");
        let expect = "* 1 FETCH (UID 1 BODY[TEXT] {5}\r\none\r\n)\r\n* 3 FETCH (UID 3 BODY[TEXT] {7}\r\nthree\r\n)\r\n";
        assert_eq!(answer.text(), expect);
        assert_eq!((answer.whole, answer.seen), (vec![1, 3], vec![1, 3]));
        assert_eq!(answer.ended.unwrap().failed, Some((1, FetchError::Damaged)));
    }
    fake.state().faults = Faults { vanished: Some(3), damaged: Some((2, 3)), ..Faults::default() };
    let ended = fetch(fake.folder("INBOX"), "(RFC822)").ended.unwrap();
    assert_eq!((ended.gone, ended.failed), (1, Some((1, FetchError::Damaged))));
}

#[test]
fn a_large_message_that_breaks_off_cuts_the_connection() {
    let stored = large("\r\n");
    let fake = Fake::with(&[stored.clone(), b"\r\nnext".to_vec()]);
    let last = stored.len() as u64 - 1;
    for (damaged, short) in [(Some((1, 500_000)), None), (Some((1, last)), None), (None, Some(1))] {
        fake.state().faults = Faults { damaged, short, ..Faults::default() };
        let answer = fetch(fake.folder("INBOX"), "(BODY.PEEK[])");
        assert!(answer.ended.is_none() && answer.whole.is_empty());
        assert!(answer.octets.len() > 300_000 && answer.octets.len() < stored.len());
    }
    // Nothing of it was sent yet.
    fake.state().faults = Faults { damaged: Some((1, 100)), ..Faults::default() };
    let answer = fetch(fake.folder("INBOX"), "(BODY.PEEK[])");
    assert_eq!(answer.text(), "* 2 FETCH (BODY[] {6}\r\n\r\nnext)\r\n");
    assert_eq!(answer.ended.unwrap().failed, Some((1, FetchError::Damaged)));
}

#[test]
fn large_messages_pass_in_pieces_and_are_read_once_forward() {
    let bare_cr = large("\r\n").iter().map(|b| if *b == b'1' { b'\r' } else { *b }).collect();
    for stored in [large("\r\n"), large("\n"), bare_cr] {
        let fake = Fake::with(std::slice::from_ref(&stored));
        let answer = fetch(fake.folder("INBOX"), "(BODY.PEEK[])");
        assert_eq!(literal(&answer.octets, "BODY[]"), canonical(&stored));
        assert!(answer.pieces.iter().all(|octets| *octets <= 2 * 64 * 1024), "{:?}", answer.pieces);

        fake.state().opened = 0;
        let whole = canonical(&stored);
        let pieces: Vec<String> =
            (0..whole.len()).step_by(50_000).map(|at| format!("BODY.PEEK[]<{at}.50000>")).collect();
        let answer = fetch(fake.folder("INBOX"), &format!("({})", pieces.join(" ")));
        let joined: Vec<u8> = (0..whole.len())
            .step_by(50_000)
            .flat_map(|at| literal(&answer.octets, &format!("BODY[]<{at}>")).to_vec())
            .collect();
        assert!(joined == whole);
        assert_eq!((opened(&fake).0, answer.whole), (1, vec![1]));

        fake.state().opened = 0;
        let parts: Vec<String> = (1..=30).map(|part| format!("BODY.PEEK[{part}]")).collect();
        let answer = fetch(fake.folder("INBOX"), &format!("({})", parts.join(" ")));
        assert!(literal(&answer.octets, "BODY[30]").starts_with(b"part 29 line 0"));
        assert_eq!((opened(&fake).0, answer.whole), (1, vec![]));
    }
}

#[test]
fn a_large_message_stays_open_for_a_client_that_reads_it_in_pieces() {
    for stored in [large("\r\n"), large("\n")] {
        let fake = Fake::with(std::slice::from_ref(&stored));
        let whole = canonical(&stored);
        let (kept, mut joined, mut fetched) = (Kept::default(), Vec::new(), Vec::new());
        for at in (0..whole.len()).step_by(100_000) {
            let answer = fetch_next(fake.folder("INBOX"), &format!("(BODY.PEEK[]<{at}.100000>)"), &kept);
            joined.extend_from_slice(literal(&answer.octets, &format!("BODY[]<{at}>")));
            fetched.extend(answer.whole);
        }
        assert!(joined == whole);
        assert_eq!((opened(&fake).0, fetched), (1, vec![1]));
        // Back, and forth again within another section.
        for (asked, label) in [
            ("BODY.PEEK[]<7.9>", "BODY[]<7>"),
            ("BODY.PEEK[2]<7.9>", "BODY[2]<7>"),
            ("BODY.PEEK[1]<7.9>", "BODY[1]<7>"),
        ] {
            let next = fetch_next(fake.folder("INBOX"), &format!("({asked})"), &kept);
            let alone = fetch(fake.folder("INBOX"), &format!("({asked})"));
            assert_eq!(literal(&next.octets, label), literal(&alone.octets, label));
        }
    }
}

#[test]
fn a_hundred_thousand_flags_are_few_pieces_and_open_nothing() {
    let fake = three();
    let row = |uid| FolderRow { uid: Uid::new(uid).unwrap(), flags: Flags::SEEN | Flags::DELETED };
    let messages = numbered((1..=100_000).map(row).collect());
    let answer = fetch_from(fake.folder("INBOX"), messages, "(UID FLAGS)", true);
    assert!(answer.octets.ends_with(b"* 100000 FETCH (UID 100000 FLAGS (\\Deleted \\Seen))\r\n"));
    assert!(answer.pieces.len() < 100 && answer.seen.is_empty());
    assert_eq!(opened(&fake), (0, 0));
}

#[test]
fn many_envelopes_come_in_order_and_open_no_message() {
    let messages: Vec<_> = (1..=200).map(|n| format!("Subject: {n}\r\n\r\n").into_bytes()).collect();
    let fake = Fake::with(&messages);
    fake.state().faults = Faults { vanished: Some(77), ..Faults::default() };
    let answer = fetch(fake.folder("INBOX"), "(ENVELOPE BODY.PEEK[HEADER.FIELDS (SUBJECT)])");
    let line = |n: u32| {
        let field = format!("Subject: {n}\r\n\r\n");
        format!(
            "* {n} FETCH (ENVELOPE (NIL \"{n}\" NIL NIL NIL NIL NIL NIL NIL NIL) BODY[HEADER.FIELDS (SUBJECT)] {{{}}}\r\n{field})\r\n",
            field.len()
        )
    };
    let expect: String = (1..=200).filter(|n| *n != 77).map(line).collect();
    assert_eq!(answer.text(), expect);
    assert_eq!(opened(&fake), (0, 199));
}

#[test]
fn only_what_is_looked_at_becomes_seen_and_only_what_is_whole_counts_as_fetched() {
    let check = |asked: &str, may_set_seen: bool, seen: usize, whole: usize| {
        let fake = three();
        fake.flag("INBOX", 1, Flags::SEEN);
        let folder = fake.folder("INBOX");
        let answer = fetch_from(folder.clone(), all(folder.as_ref()), asked, may_set_seen);
        assert_eq!((answer.seen.len(), answer.whole.len()), (seen, whole), "{asked}");
    };
    check("(BODY[])", true, 2, 3);
    check("(BODY[])", false, 0, 3);
    check("(BODY.PEEK[])", true, 0, 3);
    check("(RFC822.TEXT)", true, 2, 3);
    check("(RFC822.HEADER)", true, 0, 0);
    check("(BODY[HEADER])", true, 2, 0);
    check("(BODY.PEEK[1])", true, 0, 0);
    check("(BODY.PEEK[]<0.5>)", true, 0, 0);
    check("(BODY.PEEK[]<5.9999>)", true, 0, 3);
    check("(BODY.PEEK[]<9999.1>)", true, 0, 0);
    check("(FLAGS ENVELOPE BODYSTRUCTURE)", true, 0, 0);
}

#[test]
fn a_message_that_could_not_be_taken_apart_is_shown_as_one_text() {
    let stored = b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b--\n".to_vec();
    let fake = Fake::with(&[stored.clone(), b"Content-Type: text/html\r\nno end of it".to_vec()]);
    fake.state().faults = Faults { no_structure: Some(1), ..Faults::default() };
    let asked = "(BODYSTRUCTURE ENVELOPE BODY.PEEK[1] BODY.PEEK[TEXT] BODY.PEEK[HEADER] BODY.PEEK[2])";
    let answer = fetch(fake.folder("INBOX"), asked);
    let text = canonical(b"--b\n\none\n--b--\n");
    let structure = format!(
        "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" {} 4 NIL NIL NIL NIL)",
        text.len()
    );
    assert!(answer.text().contains(&structure), "{}", answer.text());
    assert!(answer.text().contains("ENVELOPE (NIL \"x\" "));
    assert_eq!(literal(&answer.octets, "BODY[1]"), text);
    assert_eq!(literal(&answer.octets, "BODY[TEXT]"), text);
    assert_eq!([literal(&answer.octets, "BODY[HEADER]"), &text].concat(), canonical(&stored));
    assert_eq!(literal(&answer.octets, "BODY[2]"), b"");

    fake.state().faults = Faults { no_structure: Some(2), ..Faults::default() };
    let answer = fetch(fake.folder("INBOX"), asked);
    assert!(
        answer
            .text()
            .contains("BODYSTRUCTURE (\"text\" \"html\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0 ")
    );
}

#[test]
fn no_parts_are_made_up_where_the_summary_cannot_be_read() {
    let stored = b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b--\n".to_vec();
    let fake = Fake::with(&[stored.clone(), large("\r\n")]);
    for asked in
        ["BODY", "BODYSTRUCTURE", "BODY.PEEK[1]", "BODY.PEEK[2]", "BODY.PEEK[1.MIME]", "BODY.PEEK[1.TEXT]"]
    {
        for message in [1, 2] {
            fake.state().faults = Faults { no_summary: Some(message), ..Faults::default() };
            let answer = fetch(fake.folder("INBOX"), &format!("(ENVELOPE BODY.PEEK[] {asked})"));
            assert!(!answer.text().contains(&format!("* {message} FETCH")), "{asked} of {message}");
            assert_eq!(answer.ended.unwrap().failed, Some((1, FetchError::Damaged)), "{asked} of {message}");
        }
    }
    fake.state().faults = Faults { no_summary: Some(1), ..Faults::default() };
    let asked = "(ENVELOPE BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT] BODY.PEEK[HEADER.FIELDS (SUBJECT)])";
    let answer = fetch(fake.folder("INBOX"), asked);
    assert!(answer.text().contains("ENVELOPE (NIL \"x\" "));
    assert_eq!(literal(&answer.octets, "BODY[]"), canonical(&stored));
    let (header, text) = (literal(&answer.octets, "BODY[HEADER]"), literal(&answer.octets, "BODY[TEXT]"));
    assert_eq!([header, text].concat(), canonical(&stored));
    assert_eq!(literal(&answer.octets, "BODY[HEADER.FIELDS (SUBJECT)]"), b"Subject: x\r\n\r\n");
    assert_eq!(answer.ended.unwrap().failed, None);
}

#[test]
fn a_message_that_cannot_be_read_just_now_is_not_called_damaged() {
    let fake = three();
    fake.state().faults = Faults { busy: Some(2), ..Faults::default() };
    let answer = fetch(fake.folder("INBOX"), "(BODY.PEEK[])");
    assert_eq!(answer.ended.unwrap().failed, Some((1, FetchError::Temporary)));
}

#[test]
fn the_structure_of_many_messages_full_of_addresses_is_bounded_and_sent_in_pieces() {
    let mut stored = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_vec();
    for _ in 0..835 {
        stored.extend(b"--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: ");
        stored.extend([b'<'; 10_000]);
        stored.extend(b"\r\n\r\n\r\n");
    }
    stored.extend(b"--b--\r\n");
    let fake = Fake::with(&[stored]);
    let answer = fetch(fake.folder("INBOX"), "(BODYSTRUCTURE)");
    assert!(answer.ended.is_some() && answer.text().contains("MORE_ADDRESSES"));
    assert!(answer.octets.len() < 2 * 1024 * 1024, "{}", answer.octets.len());
    assert!(answer.pieces.iter().all(|octets| *octets < 1024 * 1024), "{:?}", answer.pieces);
    let (parts, envelopes) = (answer.text().matches("\"message\" \"rfc822\"").count(), answer.pieces.len());
    assert!(parts > 100 && envelopes > 1, "{parts} {envelopes}");
}

#[test]
fn many_pieces_of_a_large_header_are_never_held_together() {
    let field = format!("X: {}\r\n", "x".repeat(90));
    let stored = [field.repeat(8_000), "\r\n".to_owned()].concat().into_bytes();
    let (octets, fake) = (stored.len(), Fake::with(&[stored]));
    let asked: Vec<String> = (0..64).map(|at| format!("BODY.PEEK[HEADER]<{at}.4294967295>")).collect();
    let answer = fetch(fake.folder("INBOX"), &format!("({})", asked.join(" ")));
    assert!(answer.octets.len() > 60 * octets && answer.ended.is_some());
    assert!(answer.pieces.iter().all(|piece| *piece <= octets + 64 * 1024), "{:?}", answer.pieces);
}

#[test]
fn header_blocks_beyond_the_limit_are_served_whole() {
    let field = format!("X: {}\n", "x".repeat(90));
    let stored =
        ["Subject: x\n".to_owned(), field.repeat(20_000), "\nbody\n".to_owned()].concat().into_bytes();
    assert!(stored.len() > 1024 * 1024);
    check_sections(&stored);
    check_syntax("long header", &stored);
}

#[test]
fn hostile_headers_cost_no_more_than_their_length() {
    let pieces = [
        "a,",
        "(",
        "<",
        "\"",
        "@",
        "a@b ",
        "g:",
        ";",
        "\\",
        "=?x?=",
        "[",
        "\r\n ",
        "a=b;",
        "; a*0*=x'",
        "\0",
        "\u{e9}",
    ];
    for piece in pieces {
        for field in ["To: ", "Content-Type: ", "Content-Type: a/b;", "Content-Language: ", "Subject: ", "X"]
        {
            let stored = format!("{field}{}\r\n\r\nbody", piece.repeat(200_000 / piece.len()));
            let clock = Instant::now();
            let answer = check_syntax(piece, stored.as_bytes());
            assert!(answer.len() < 6 * 1024 * 1024, "{field}{piece}: {}", answer.len());
            assert!(clock.elapsed() < Duration::from_secs(20), "{field}{piece}: {:?}", clock.elapsed());
        }
    }
}
