//! The IMAP conversation without a connection: what is said in each state, to each command, and when others are at work in the same
//! folder. [`Play`] checks what must hold whatever is said.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/imap_fake.rs"]
mod imap_fake;
#[path = "support/imap_play.rs"]
mod imap_play;

use daybook::fetch::imap::session::{
    BAD_COMMANDS_MAX, LINE_OCTETS_MAX, LITERAL_OCTETS_MAX, LOGIN_ATTEMPTS_MAX, STRANGER_LINE_OCTETS_MAX,
    STRANGER_LITERAL_OCTETS_MAX,
};
use daybook::mail::Flags;
use imap_fake::Fake;
use imap_play::Play;
use proptest::prelude::*;

const USER_FOLDER: &str = "Users/a/Journal Incoming";

fn messages(count: usize) -> Fake {
    Fake::with(&vec![b"Subject: x\r\n\r\nx\r\n".to_vec(); count])
}

/// Says a line and compares all that is said to it.
#[track_caller]
fn check(play: &mut Play, line: &str, expect: &[&str]) {
    let expect: String = expect.iter().map(|line| format!("{line}\r\n")).collect();
    assert_eq!(play.line(line), expect, "{line}");
}

/// Says a line and looks at the beginning of the last line that is said to it.
#[track_caller]
fn check_end(play: &mut Play, line: &str, expect: &str) {
    let said = play.line(line);
    let last = said.trim_end().rsplit("\r\n").next().unwrap();
    assert!(last.starts_with(expect), "{line}: {said}");
}

#[test]
fn no_credentials_are_taken_or_asked_for_in_clear() {
    let mut play = Play::new(false, messages(0));
    let greeting = String::from_utf8(play.session.greeting()).unwrap();
    assert!(
        greeting.starts_with("* OK [CAPABILITY IMAP4rev1 ") && greeting.contains(" STARTTLS LOGINDISABLED]")
    );
    for line in
        ["a LOGIN x y", "a LOGIN {1}", "a AUTHENTICATE PLAIN", "a authenticate plain AGEAYg==", "a LOGIN"]
    {
        check_end(&mut play, line, "a NO [PRIVACYREQUIRED]");
    }
    play.octets(b"a LOGIN {1+}\nx {1+}\ny\n");
    check_end(&mut play, "a SELECT INBOX", "a BAD");
    check_end(&mut play, "a STARTTLS", "a OK");
    let capability = play.line("a CAPABILITY");
    assert!(
        capability.contains(" AUTH=PLAIN AUTH=LOGIN\r\n") && !capability.contains("STARTTLS"),
        "{capability}"
    );
    check_end(&mut play, "a STARTTLS", "a BAD");
    check_end(&mut play, "a LOGIN mbx-1 right", "a OK [CAPABILITY IMAP4rev1 ");
}

#[test]
fn what_was_begun_in_clear_is_forgotten_over_tls() {
    let mut play = Play::new(false, messages(0));
    play.line("a ID (\"name\" \"x\")");
    assert_eq!(play.session.client(), Some("x"));
    play.line("a STARTTLS");
    assert_eq!(play.session.client(), None);
}

#[test]
fn passwords_come_in_every_way() {
    let response = "AG1ieC0xAHJpZ2h0";
    let mut ways = vec![
        vec!["a LOGIN \"mbx-1\" \"right\"".to_owned()],
        vec![format!("a AUTHENTICATE PLAIN {response}")],
        vec!["a AUTHENTICATE PLAIN".to_owned(), response.to_owned()],
        vec!["a authenticate login  ".to_owned(), "bWJ4LTE=".to_owned(), "cmlnaHQ=".to_owned()],
        vec!["a AUTHENTICATE LOGIN bWJ4LTE=".to_owned(), "cmlnaHQ=".to_owned()],
    ];
    for lines in &mut ways {
        let mut play = Play::new(true, messages(0));
        let last = lines.pop().unwrap();
        for line in lines.iter() {
            assert!(play.line(line).starts_with("+ "), "{line}");
        }
        check_end(&mut play, &last, "a OK [CAPABILITY");
        assert!(play.session.is_logged_in());
    }
    let mut play = Play::new(true, messages(0));
    assert_eq!(play.line("a LOGIN {5}"), "+ go on\r\n");
    play.literal(b"mbx-1");
    assert_eq!(play.line(" {5+}"), "");
    play.literal(b"right");
    check_end(&mut play, "", "a OK");
}

#[test]
fn the_challenge_of_plain_is_empty() {
    let mut play = Play::new(true, messages(0));
    // Clients decode what is behind the blank.
    check(&mut play, "a AUTHENTICATE PLAIN", &["+ "]);
    check(&mut play, "*", &["a BAD authentication cancelled"]);
    check(&mut play, "b AUTHENTICATE LOGIN", &["+ VXNlcm5hbWU6"]);
    check_end(&mut play, "not base64", "b BAD");
    check_end(&mut play, "c AUTHENTICATE CRAM-MD5", "c NO [CANNOT]");
    check_end(&mut play, "d AUTHENTICATE PLAIN =", "d BAD");
    check_end(&mut play, "e AUTHENTICATE PLAIN YgBtYngtMQByaWdodA==", "e NO [AUTHORIZATIONFAILED]");
    // Whoever begins for ever and never ends is given up.
    for _ in 3..BAD_COMMANDS_MAX {
        play.line("f AUTHENTICATE PLAIN");
        assert!(!play.is_over);
        play.line("*");
    }
    assert!(play.is_over);
}

#[test]
fn a_few_wrong_passwords_end_the_connection() {
    let mut play = Play::new(true, messages(0));
    for _ in 1..LOGIN_ATTEMPTS_MAX {
        check_end(&mut play, "a LOGIN mbx-1 wr\u{f6}ng", "a NO [AUTHENTICATIONFAILED]");
    }
    let said = play.line("a LOGIN \"mbx-1\" wrong");
    assert!(said.starts_with("* BYE ") && said.contains("\r\na NO [AUTHENTICATIONFAILED]"), "{said}");
    assert!(play.is_over && !play.session.is_logged_out());
}

#[test]
fn bad_commands_keep_their_tag_until_there_are_too_many() {
    let mut play = Play::new(true, messages(0));
    let bad =
        ["a1 XYZZY", "a.2", "]3 LIST", "4 LOGIN x", "a5 NOOP x", "a6 SELECT INBOX", "a7  NOOP", "a8 UID"];
    for line in bad {
        check_end(&mut play, line, &format!("{} BAD", line.split(' ').next().unwrap()));
    }
    check_end(&mut play, "a NOOP \t", "a BAD");
    check_end(&mut play, "a NOOP  ", "a OK");
    for line in ["", " NOOP", "+ NOOP", "* NOOP", "\u{e4} NOOP"] {
        check_end(&mut play, line, "* BAD");
    }
    for _ in 6..BAD_COMMANDS_MAX {
        check_end(&mut play, "GET / HTTP/1.1", "GET BAD");
    }
    let said = play.line("Host: x");
    assert!(said.starts_with("* BYE too many bad commands") && play.is_over, "{said}");
}

#[test]
fn what_is_too_long_is_refused_before_it_comes_or_ends_the_connection() {
    let fake = messages(0);
    for (mut play, line_max, literal_max) in [
        (Play::new(true, fake.clone()), STRANGER_LINE_OCTETS_MAX, STRANGER_LITERAL_OCTETS_MAX),
        (Play::logged_in(fake), LINE_OCTETS_MAX, LITERAL_OCTETS_MAX),
    ] {
        assert_eq!(play.session.line_octets_max(), line_max);
        check_end(&mut play, &format!("a X {{{}}}", literal_max + 1), "a BAD [TOOBIG]");
        check_end(&mut play, "a X {99999999999999999999}", "a BAD [TOOBIG]");
        assert_eq!(play.line(&format!("a X {{{literal_max}}}")), "+ go on\r\n");
        play.literal(&vec![b'x'; literal_max]);
        check_end(&mut play, &format!("{{{}}}", 2 * literal_max), "a BAD [TOOBIG]");
        check_end(&mut play, &format!("a {}", "x".repeat(line_max - 2)), "a BAD");
        // Nobody can say what is command and what is data behind it.
        let said = play.line(&format!("a X {{{}+}}", literal_max + 1));
        assert!(said.starts_with("* BYE ") && said.contains("\r\na BAD [TOOBIG]") && play.is_over, "{said}");
    }
    let mut play = Play::logged_in(messages(0));
    assert!(play.line(&"x".repeat(LINE_OCTETS_MAX + 1)).starts_with("* BYE ") && play.is_over);
}

#[test]
fn a_command_of_many_literals_has_an_end() {
    let mut play = Play::logged_in(messages(0));
    let mut lines = 0;
    let said = loop {
        let said = play.line(&format!("a X {{{LITERAL_OCTETS_MAX}+}}"));
        if play.is_over {
            break said;
        }
        play.literal(&vec![b'x'; LITERAL_OCTETS_MAX]);
        lines += 1;
    };
    assert!(lines == 1 && said.contains("a BAD [TOOBIG]"), "{lines} {said}");
}

#[test]
fn literals_hold_anything_but_nul_and_are_never_commands() {
    let mut play = Play::logged_in(messages(0));
    play.line("a STATUS {22+}");
    play.literal(b"x (\r\nb LOGOUT\r\nc NOOP)");
    check_end(&mut play, " (MESSAGES)", "a NO [NONEXISTENT]");
    play.line("a STATUS {3}");
    play.literal(b"x\0y");
    check_end(&mut play, " (MESSAGES)", "a BAD NUL");
    // Of what is no command either, the literal is data.
    play.line("a XYZZY {10+}");
    play.literal(b"b LOGOUT\r\n");
    check_end(&mut play, "", "a BAD");
    assert!(play.line("a STATUS {0+}").is_empty());
    check_end(&mut play, " (MESSAGES)", "a NO [NONEXISTENT]");
    assert_eq!(play.line("a STATUS {0}"), "+ go on\r\n");
    check_end(&mut play, " (MESSAGES)", "a NO [NONEXISTENT]");
}

#[test]
fn data_where_none_may_be_is_not_taken_for_a_command() {
    for line in ["i IDLE", "a AUTHENTICATE PLAIN"] {
        let mut play =
            if line.contains("IDLE") { Play::in_inbox(messages(0)) } else { Play::new(true, messages(0)) };
        play.line(line);
        let said = play.line("x {8+}");
        assert!(said.starts_with("* BYE ") && said.contains(" BAD ") && play.is_over, "{said}");
    }
}

#[test]
fn append_is_refused_before_the_message_is_sent() {
    let mut play = Play::logged_in(messages(0));
    check_end(&mut play, "a APPEND INBOX (\\Seen) {310000000}", "a NO [CANNOT]");
    play.line("a APPEND INBOX {5+}");
    play.literal(b"x\0y\r\n");
    assert!(play.line("").starts_with("a BAD NUL"));
    play.line("a APPEND INBOX {5+}");
    play.literal(b"x y\r\n");
    check_end(&mut play, "", "a NO [CANNOT]");
    let said = play.line("a APPEND INBOX {310000000+}");
    assert!(said.starts_with("* BYE ") && play.is_over, "{said}");
}

#[test]
fn what_would_make_or_move_is_refused() {
    let mut play = Play::in_inbox(messages(1));
    for line in ["CREATE x", "DELETE x", "RENAME x y", "COPY 1 x", "UID COPY 1 x", "MOVE 1 x", "UID MOVE 1 x"]
    {
        check_end(&mut play, &format!("a {line}"), "a NO [CANNOT]");
    }
    for line in ["SUBSCRIBE x", "UNSUBSCRIBE INBOX"] {
        check_end(&mut play, &format!("a {line}"), "a OK");
    }
    for line in [
        "SORT (DATE) UTF-8 ALL",
        "GETQUOTAROOT INBOX",
        "COMPRESS DEFLATE",
        "FETCH 1 BINARY[1]",
        "XLIST \"\" *",
    ] {
        check_end(&mut play, &format!("a {line}"), "a BAD");
    }
    assert_eq!(play.asked, Vec::<String>::new());
}

#[test]
fn id_tells_the_version_to_nobody_who_is_not_logged_in() {
    let mut play = Play::new(true, messages(0));
    check(&mut play, "a ID NIL", &["* ID (\"name\" \"Daybook\")", "a OK pleased to meet you"]);
    play.line("a LOGIN mbx-1 right");
    let said = play.line("a ID (\"NAME\" \"Some\\\"thing\" \"version\" \"1.2\" \"os\" NIL)");
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        said.starts_with(&format!(
            "* ID (\"name\" \"Daybook\" \"version\" \"{version}\" \"profile\" \"microsoft365\" \"role\" \"journal\" \
             \"maildrop\" \"reports\")\r\n"
        )),
        "{said}"
    );
    assert_eq!(play.session.client(), Some("Some\"thing 1.2"));
    play.line(&format!("a ID (\"name\" \"{}\")", "x".repeat(1_000)));
    assert!(play.session.client().unwrap().len() < 120);
    check_end(&mut play, "a ID (\"version\" \"2\")", "a OK");
}

#[test]
fn folders_are_listed_and_all_subscribed() {
    let fake = messages(0);
    fake.add_folder(USER_FOLDER);
    let mut play = Play::logged_in(fake);
    check(&mut play, "a LIST \"\" \"\"", &["* LIST (\\Noselect) \"/\" \"\"", "a OK that is the delimiter"]);
    for verb in ["LIST", "LSUB"] {
        let line = |rest: &str| format!("* {verb} {rest}");
        let leaf = |path: &str| line(&format!("(\\HasNoChildren) \"/\" \"{path}\""));
        let parent = |path: &str| line(&format!("(\\Noselect \\HasChildren) \"/\" \"{path}\""));
        let all = [
            leaf("INBOX"),
            leaf("Unassigned"),
            leaf("Quarantine"),
            parent("Users"),
            parent("Users/a"),
            leaf(USER_FOLDER),
            "a OK done".to_owned(),
        ];
        let all = all.each_ref().map(String::as_str);
        check(&mut play, &format!("a {verb} \"\" *"), &all);
        let level = [&all[..4], &all[6..]].concat();
        check(&mut play, &format!("a {verb} \"\" \"%\""), &level);
        check(&mut play, &format!("a {verb} Users/ %"), &[all[4], all[6]]);
    }
    check_end(&mut play, "a LIST \"\" (INBOX x)", "a BAD");
    check_end(&mut play, &format!("a LIST \"\" {}", "*x".repeat(40)), "a NO [LIMIT]");
    check(&mut play, "a NAMESPACE", &["* NAMESPACE ((\"\" \"/\")) NIL NIL", "a OK one namespace"]);
    check(&mut play, "a ENABLE CONDSTORE X", &["* ENABLED", "a OK nothing to enable"]);
}

#[test]
fn status_tells_what_is_asked() {
    let fake = messages(3);
    fake.flag("INBOX", 1, Flags::SEEN);
    let mut play = Play::logged_in(fake);
    check(
        &mut play,
        "a STATUS inbox (MESSAGES UNSEEN UIDNEXT UIDVALIDITY RECENT)",
        &["* STATUS \"INBOX\" (MESSAGES 3 UNSEEN 2 UIDNEXT 4 UIDVALIDITY 1000 RECENT 0)", "a OK done"],
    );
    check_end(&mut play, "a STATUS Nothing (MESSAGES)", "a NO [NONEXISTENT]");
    check_end(&mut play, "a STATUS INBOX (DELETED)", "a BAD");
    check_end(&mut play, "a STATUS INBOX (SIZE)", "a BAD");
}

#[test]
fn select_tells_all_and_examine_changes_nothing() {
    let fake = messages(3);
    fake.flag("INBOX", 1, Flags::SEEN);
    let mut play = Play::logged_in(fake.clone());
    let all = "(\\Answered \\Flagged \\Deleted \\Seen \\Draft)";
    let told = |permanent: &str, mode: &str| {
        format!(
            "* FLAGS {all}\r\n* 3 EXISTS\r\n* 0 RECENT\r\n* OK [UNSEEN 2] first unseen message\r\n\
             * OK [PERMANENTFLAGS {permanent}] flags that are kept\r\n* OK [UIDVALIDITY 1000] UIDs are valid\r\n\
             * OK [UIDNEXT 4] next UID\r\na OK [{mode}] opened\r\n"
        )
    };
    assert_eq!(play.line("a SELECT InBox"), told(all, "READ-WRITE"));
    assert_eq!(play.line("a EXAMINE INBOX"), told("()", "READ-ONLY"));
    check_end(&mut play, "a STORE 1 +FLAGS (\\Seen)", "a NO [READ-ONLY]");
    check_end(&mut play, "a EXPUNGE", "a NO [READ-ONLY]");
    play.line("a FETCH 2 BODY[]");
    assert!(!play.jobs.last().unwrap().may_set_seen);
    fake.flag("INBOX", 1, Flags::DELETED);
    play.line("a NOOP");
    check_end(&mut play, "a CLOSE", "a OK");
    assert_eq!(fake.rows("INBOX").len(), 3);
    check_end(&mut play, "a FETCH 1 FLAGS", "a BAD");
}

#[test]
fn a_select_that_fails_leaves_none_open() {
    let mut play = Play::in_inbox(messages(1));
    check_end(&mut play, "a SELECT Users", "a NO [NONEXISTENT]");
    assert_eq!(play.asked, ["Open", "Leave"]);
    check_end(&mut play, "a FETCH 1 FLAGS", "a BAD");
    play.line("a SELECT INBOX");
    play.fake.state().faults.open = true;
    play.asked.clear();
    check_end(&mut play, "a SELECT INBOX", "a NO [UNAVAILABLE]");
    assert_eq!(play.asked, ["Open", "Leave"]);
    assert_eq!(play.session.marks(), None);
}

#[test]
fn fetch_names_messages_by_number_and_uid() {
    let fake = messages(5);
    fake.remove("INBOX", 2);
    let mut play = Play::in_inbox(fake);
    let line = |number: u32, uid: u32| format!("* {number} FETCH (UID {uid} FLAGS ())\r\n");
    assert_eq!(
        play.line("a FETCH 2:* FLAGS"),
        format!("{}{}{}a OK fetched\r\n", line(2, 3), line(3, 4), line(4, 5))
    );
    assert_eq!(
        play.line("a UID FETCH 4294967295:4,2 FLAGS"),
        format!("{}{}a OK fetched\r\n", line(3, 4), line(4, 5))
    );
    check(&mut play, "a UID FETCH 2,9:20 FLAGS", &[line(4, 5).trim_end(), "a OK fetched"][1..]);
    assert_eq!(play.line("a UID FETCH * FLAGS"), format!("{}a OK fetched\r\n", line(4, 5)));
    for wrong in
        ["FETCH 5 FLAGS", "FETCH 1:5 FLAGS", "FETCH 0 FLAGS", "FETCH 1 ()", "FETCH 1:4294967296 FLAGS"]
    {
        check_end(&mut play, &format!("a {wrong}"), "a BAD");
    }
    play.line("a UID FETCH 3 (FLAGS UID)");
    play.line("a UID FETCH 3 FAST");
    let items: Vec<String> = play.jobs.iter().rev().take(2).map(|job| format!("{:?}", job.items)).collect();
    assert_eq!(items, ["[Uid, Flags, InternalDate, Rfc822Size]", "[Flags, Uid]"]);
    check_end(&mut play, &format!("a FETCH 1 ({})", ["UID"; 65].join(" ")), "a BAD");
}

#[test]
fn numbers_of_an_empty_folder_name_nothing() {
    let mut play = Play::in_inbox(messages(0));
    check_end(&mut play, "a FETCH 1:* FLAGS", "a BAD no message");
    check_end(&mut play, "a SEARCH 1:*", "a BAD no message");
    check(&mut play, "a UID FETCH 1:* FLAGS", &["a OK fetched"]);
    check(&mut play, "a SEARCH ALL", &["* SEARCH", "a OK searched"]);
    check(&mut play, "a UID STORE 1:* +FLAGS (\\Seen)", &["a OK stored"]);
}

#[test]
fn what_is_fetched_without_peek_becomes_seen_and_is_told() {
    let mut play = Play::in_inbox(messages(2));
    let said = play.line("a FETCH 1 BODY[]");
    assert!(said.ends_with("* 1 FETCH (FLAGS (\\Seen))\r\na OK fetched\r\n"), "{said}");
    let said = play.line("a UID FETCH 2 RFC822");
    assert!(said.ends_with("* 2 FETCH (UID 2 FLAGS (\\Seen))\r\na OK fetched\r\n"), "{said}");
    check(&mut play, "a NOOP", &["a OK done"]);
    assert_eq!(play.fake.rows("INBOX"), [(1, Flags::SEEN), (2, Flags::SEEN)]);
}

#[test]
fn store_tells_flags_unless_silent() {
    let mut play = Play::in_inbox(messages(2));
    check(
        &mut play,
        "a STORE 1:2 +FLAGS (\\Seen \\Deleted $Forwarded)",
        &["* 1 FETCH (FLAGS (\\Deleted \\Seen))", "* 2 FETCH (FLAGS (\\Deleted \\Seen))", "a OK stored"],
    );
    check(&mut play, "a UID STORE 2 -FLAGS \\Deleted", &["* 2 FETCH (UID 2 FLAGS (\\Seen))", "a OK stored"]);
    check(&mut play, "a STORE 1 FLAGS.SILENT (\\Draft)", &["a OK stored"]);
    assert_eq!(play.fake.rows("INBOX"), [(1, Flags::DRAFT), (2, Flags::SEEN)]);
    play.asked.clear();
    check(&mut play, "a STORE 1 +FLAGS ($Junk)", &["* 1 FETCH (FLAGS (\\Draft))", "a OK stored"]);
    assert_eq!(play.asked, ["Changes"]);
    check_end(&mut play, "a STORE 1 +FLAGS (\\Recent)", "a BAD");
    play.fake.state().faults.commit = true;
    check_end(&mut play, "a STORE 1 +FLAGS (\\Seen)", "a NO [UNAVAILABLE]");
}

#[test]
fn silence_is_not_about_what_others_did() {
    let mut play = Play::in_inbox(messages(2));
    play.meanwhile = Some(Box::new(|fake, asked| {
        if asked == "SetFlags" {
            fake.flag("INBOX", 2, Flags::FLAGGED);
        }
    }));
    check(
        &mut play,
        "a STORE 1:2 +FLAGS.SILENT (\\Seen)",
        &["* 2 FETCH (FLAGS (\\Flagged \\Seen))", "a OK stored"],
    );
}

#[test]
fn users_folders_are_not_deleted_from() {
    let fake = messages(0);
    fake.deliver(USER_FOLDER, b"x: y\r\n\r\n");
    let mut play = Play::logged_in(fake.clone());
    let said = play.line(&format!("a SELECT \"{USER_FOLDER}\""));
    assert!(
        said.contains("[PERMANENTFLAGS (\\Answered \\Flagged \\Seen \\Draft)]")
            && said.contains("READ-WRITE")
    );
    check_end(&mut play, "a STORE 1 +FLAGS (\\Seen \\Deleted)", "a NO [NOPERM]");
    check_end(&mut play, "a STORE 1 FLAGS (\\Deleted)", "a NO [NOPERM]");
    assert_eq!(fake.rows(USER_FOLDER), [(1, Flags::NONE)]);
    check_end(&mut play, "a STORE 1 +FLAGS (\\Seen)", "a OK");
    check_end(&mut play, "a STORE 1 -FLAGS (\\Deleted)", "a OK");
    check_end(&mut play, "a EXPUNGE", "a OK");
    // It was allowed once.
    fake.flag(USER_FOLDER, 1, Flags::DELETED);
    play.line("a NOOP");
    check_end(&mut play, "a EXPUNGE", "a NO [NOPERM]");
    check_end(&mut play, "a CLOSE", "a OK");
    assert_eq!(fake.rows(USER_FOLDER).len(), 1);
}

#[test]
fn expunge_takes_out_what_is_marked() {
    let mut play = Play::in_inbox(messages(5));
    // Some clients send it all the time.
    check(&mut play, "a EXPUNGE", &["a OK nothing to expunge"]);
    assert_eq!(play.asked, ["Changes"]);
    play.line("a STORE 1,3,4 +FLAGS.SILENT (\\Deleted)");
    check(&mut play, "a UID EXPUNGE 2:3", &["* 3 EXPUNGE", "a OK expunged"]);
    check(&mut play, "a UID EXPUNGE 2:3", &["a OK nothing to expunge"]);
    check(&mut play, "a EXPUNGE", &["* 3 EXPUNGE", "* 1 EXPUNGE", "a OK expunged"]);
    assert_eq!(play.fake.rows("INBOX"), [(2, Flags::NONE), (5, Flags::NONE)]);
    // What it did itself need not be looked for.
    play.asked.clear();
    check(&mut play, "a NOOP", &["a OK done"]);
    play.line("a STORE 1 +FLAGS (\\Deleted)");
    play.fake.state().faults.commit = true;
    check_end(&mut play, "a EXPUNGE", "a NO [UNAVAILABLE]");
    play.fake.state().faults.commit = false;
    check(&mut play, "a EXPUNGE", &["* 1 EXPUNGE", "a OK expunged"]);
}

#[test]
fn expunge_spares_what_another_unmarked() {
    let mut play = Play::in_inbox(messages(2));
    play.line("a STORE 1:2 +FLAGS.SILENT (\\Deleted)");
    play.fake.flag("INBOX", 1, Flags::NONE);
    check(&mut play, "a EXPUNGE", &["* 1 FETCH (FLAGS ())", "* 2 EXPUNGE", "a OK expunged"]);
}

#[test]
fn expunge_spares_what_another_unmarks_meanwhile() {
    let mut play = Play::in_inbox(messages(3));
    play.line("a STORE 1:3 +FLAGS.SILENT (\\Deleted)");
    play.meanwhile = Some(Box::new(|fake, asked| {
        if asked == "Expunge" {
            fake.flag("INBOX", 2, Flags::NONE);
        }
    }));
    check(&mut play, "a EXPUNGE", &["* 3 EXPUNGE", "* 1 EXPUNGE", "a OK expunged"]);
    play.meanwhile = None;
    assert_eq!(play.fake.rows("INBOX"), [(2, Flags::NONE)]);
    check(&mut play, "a NOOP", &["* 1 FETCH (FLAGS ())", "a OK done"]);
}

#[test]
fn a_change_that_was_none_hides_nothing_of_what_another_changed() {
    let mut play = Play::in_inbox(messages(2));
    play.line("a STORE 1:2 +FLAGS.SILENT (\\Deleted)");
    play.meanwhile = Some(Box::new(|fake, asked| {
        if asked == "SetFlags" {
            fake.flag_at_once("INBOX", &[1, 2], Flags::SEEN);
        }
    }));
    check(&mut play, "a STORE 1 +FLAGS (\\Seen)", &["* 1 FETCH (FLAGS (\\Seen))", "a OK stored"]);
    play.meanwhile = None;
    check(&mut play, "a EXPUNGE", &["* 2 FETCH (FLAGS (\\Seen))", "a OK nothing to expunge"]);
    assert_eq!(play.fake.rows("INBOX").len(), 2);
}

#[test]
fn what_another_connection_marked_is_taken_out() {
    for command in ["a EXPUNGE", "a UID EXPUNGE 1:*", "a CLOSE"] {
        let mut play = Play::in_inbox(messages(2));
        play.fake.flag("INBOX", 2, Flags::DELETED);
        check_end(&mut play, command, "a OK");
        assert_eq!(play.fake.rows("INBOX"), [(1, Flags::NONE)], "{command}");
    }
}

#[test]
fn a_right_to_delete_that_was_taken_away_is_gone_for_who_has_the_folder_open() {
    let mut play = Play::in_inbox(messages(1));
    play.line("a STORE 1 +FLAGS (\\Deleted)");
    play.fake.state().folders[0].changeable = Flags::ALL - Flags::DELETED;
    check_end(&mut play, "a EXPUNGE", "a NO [NOPERM]");
    check_end(&mut play, "a CLOSE", "a OK");
    assert_eq!(play.fake.rows("INBOX").len(), 1);
}

#[test]
fn close_takes_out_what_is_marked_without_a_word() {
    let mut play = Play::in_inbox(messages(3));
    play.line("a UID STORE 2 +FLAGS.SILENT (\\Deleted)");
    play.fake.deliver("INBOX", b"x: y\r\n\r\n");
    play.asked.clear();
    check(&mut play, "a CLOSE", &["* 4 EXISTS", "a OK closed"]);
    assert_eq!(play.asked, ["Changes", "Expunge", "Leave"]);
    assert_eq!(play.fake.rows("INBOX").iter().map(|row| row.0).collect::<Vec<_>>(), [1, 3, 4]);
    play.line("a SELECT INBOX");
    play.line("a STORE 1 +FLAGS (\\Deleted)");
    check(&mut play, "a UNSELECT", &["a OK closed"]);
    assert_eq!(play.fake.rows("INBOX").len(), 3);
    check_end(&mut play, "a CLOSE", "a BAD");
}

#[test]
fn a_close_that_cannot_expunge_closes_nothing() {
    let mut play = Play::in_inbox(messages(2));
    play.line("a STORE 2 +FLAGS (\\Deleted)");
    play.fake.remove("INBOX", 1);
    play.fake.state().faults.commit = true;
    check_end(&mut play, "a CLOSE", "a NO [UNAVAILABLE]");
    check_end(&mut play, "a FETCH 2 FLAGS", "a OK");
    check(&mut play, "a NOOP", &["* 1 EXPUNGE", "a OK done"]);
    play.fake.state().faults.commit = false;
    check_end(&mut play, "a CLOSE", "a OK");
    assert!(play.fake.rows("INBOX").is_empty());
}

#[test]
fn what_others_do_is_told_where_it_may_be() {
    let mut play = Play::in_inbox(messages(4));
    play.fake.remove("INBOX", 2);
    play.fake.flag("INBOX", 4, Flags::SEEN);
    play.fake.deliver("INBOX", b"x: y\r\n\r\n");
    // Numbers are in use: message 2 keeps its own.
    let said = play.line("a FETCH 3 FLAGS");
    let expect = "* 5 EXISTS\r\n* 4 FETCH (FLAGS (\\Seen))\r\n* 3 FETCH (UID 3 FLAGS ())\r\na OK fetched\r\n";
    assert_eq!(said, expect);
    check(&mut play, "a SEARCH ALL", &["* SEARCH 1 3 4 5", "a OK searched"]);
    check_end(&mut play, "a FETCH 2 FLAGS", "a NO [EXPUNGEISSUED]");
    check_end(&mut play, "a FETCH 1:3 FLAGS", "a NO [EXPUNGEISSUED]");
    check_end(&mut play, "a STORE 2 +FLAGS (\\Seen)", "a NO [EXPUNGEISSUED]");
    let said = play.line("a STORE 1:3 +FLAGS (\\Seen)");
    assert!(
        said.starts_with("* 1 FETCH") && said.contains("* 3 FETCH") && said.contains("a NO [EXPUNGEISSUED]")
    );
    check(&mut play, "a UID SEARCH 1:5 UNSEEN", &["* SEARCH 1 3 4 5", "a OK searched"]);
    check(&mut play, "a UID FETCH 2 FLAGS", &["* 2 EXPUNGE", "a OK fetched"]);
    check(&mut play, "a CHECK", &["a OK done"]);
}

#[test]
fn what_goes_between_look_and_work_is_told_by_the_next_command() {
    let mut play = Play::in_inbox(messages(3));
    play.fake.state().faults.vanished = Some(2);
    check_end(&mut play, "a FETCH 1:3 FLAGS", "a NO [EXPUNGEISSUED]");
    check_end(&mut play, "a UID FETCH 1:3 FLAGS", "a OK");
    play.fake.state().faults.vanished = None;
    for (line, answer) in [
        ("a STORE 1:2 +FLAGS (\\Seen)", "a NO [EXPUNGEISSUED]"),
        ("a UID STORE 1:3 +FLAGS (\\Draft)", "a OK"),
    ] {
        play.meanwhile = Some(Box::new(|fake, asked| {
            if asked == "SetFlags" {
                fake.remove("INBOX", fake.rows("INBOX")[1].0);
            }
        }));
        check_end(&mut play, line, answer);
        play.meanwhile = None;
        let said = play.line("a NOOP");
        assert!(said.contains("EXPUNGE\r\n"), "{said}");
    }
    assert_eq!(play.known, [1]);
}

#[test]
fn mail_that_keeps_coming_does_not_keep_a_fetch_waiting() {
    let mut play = Play::in_inbox(messages(1));
    play.meanwhile = Some(Box::new(|fake, _| {
        fake.deliver("INBOX", b"x: y\r\n\r\n");
    }));
    check_end(&mut play, "a FETCH 1:* FLAGS", "a OK");
    assert!(play.asked.len() < 6, "{:?}", play.asked);
}

#[test]
fn a_message_that_cannot_be_read_is_an_answer() {
    let mut play = Play::in_inbox(messages(2));
    play.fake.state().faults.damaged = Some((2, 0));
    check_end(&mut play, "a FETCH 1:2 BODY.PEEK[]", "a NO [CORRUPTION]");
    check_end(&mut play, "a FETCH 1 BODY.PEEK[]", "a OK");
}

#[test]
fn searches_are_checked_and_may_be_too_much() {
    let mut play = Play::in_inbox(messages(3));
    play.fake.flag("INBOX", 2, Flags::SEEN);
    check(
        &mut play,
        "a SEARCH CHARSET utf-8 UNSEEN",
        &["* 2 FETCH (FLAGS (\\Seen))", "* SEARCH 1 3", "a OK searched"],
    );
    check_end(&mut play, "a SEARCH CHARSET ISO-8859-1 ALL", "a NO [BADCHARSET (US-ASCII UTF-8)]");
    check_end(&mut play, "a SEARCH BODY x", "a NO [LIMIT]");
    for wrong in ["4", "NOT 4", "OR 4 ALL", "(1 (ALL 1:4))", "RETURN (ALL) ALL"] {
        check_end(&mut play, &format!("a SEARCH {wrong}"), "a BAD");
    }
    let deep = |depth: usize| format!("a SEARCH {}ALL{}", "(".repeat(depth), ")".repeat(depth));
    check_end(&mut play, &deep(7), "a OK");
    check_end(&mut play, &deep(100), "a BAD");
    check_end(&mut play, &deep(10_000), "a BAD");
}

#[test]
fn idle_tells_what_happens_until_done() {
    let mut play = Play::in_inbox(messages(3));
    play.fake.remove("INBOX", 1);
    play.line("a FETCH 2 FLAGS");
    check(&mut play, "i IDLE", &["+ idling", "* 1 EXPUNGE"]);
    assert!(play.session.is_idling());
    assert_eq!(play.push(), "");
    play.fake.deliver("INBOX", b"x: y\r\n\r\n");
    assert_eq!(play.push(), "* 3 EXISTS\r\n");
    play.fake.remove("INBOX", 3);
    play.fake.flag("INBOX", 2, Flags::SEEN);
    assert_eq!(play.push(), "* 1 FETCH (FLAGS (\\Seen))\r\n* 2 EXPUNGE\r\n");
    check(&mut play, "done ", &["i OK idled"]);
    check(&mut play, "a NOOP", &["a OK done"]);
    play.line("i IDLE");
    check(&mut play, "a NOOP", &["i BAD only DONE ends IDLE"]);
    assert!(!play.session.is_idling());
    play.line("i IDLE");
    check(&mut play, "DONE {9}", &["i BAD only DONE ends IDLE"]);
    // Without a folder there is nothing to tell.
    play.line("a UNSELECT");
    check(&mut play, "i IDLE", &["+ idling"]);
    assert_eq!(play.push(), "");
    check(&mut play, "DONE", &["i OK idled"]);
}

#[test]
fn a_folder_that_is_another_ends_the_connection() {
    for idling in [false, true] {
        let mut play = Play::in_inbox(messages(1));
        if idling {
            play.line("i IDLE");
        }
        play.fake.state().folders[0].uid_validity += 7;
        let said = if idling { play.push() } else { play.line("a NOOP") };
        assert!(said.starts_with("* BYE [UNAVAILABLE]") && play.is_over, "{said}");
    }
    let mut play = Play::logged_in(messages(1));
    play.fake.state().faults.lacks_key = true;
    let said = play.line("a SELECT INBOX");
    assert!(said.starts_with("* BYE ") && said.contains("\r\na NO ") && play.is_over, "{said}");
}

#[test]
fn logout_is_a_good_end() {
    let mut play = Play::new(true, messages(0));
    check(&mut play, "a LOGOUT", &["* BYE logging out", "a OK bye"]);
    assert!(play.is_over && !play.session.is_logged_out());
    let mut play = Play::in_inbox(messages(0));
    check(&mut play, "a logout", &["* BYE logging out", "a OK bye"]);
    assert!(play.session.is_logged_out());
    assert_eq!(play.session.shutdown_reply(), b"* BYE [UNAVAILABLE] shutting down\r\n");
}

#[test]
fn a_hundred_thousand_messages_are_no_trouble() {
    let fake = messages(0);
    {
        let one = fake.deliver("Unassigned", b"x: y\r\n\r\n");
        let mut state = fake.state();
        let message = state.folders[1].messages[one as usize - 1].clone();
        let inbox = &mut state.folders[0];
        inbox.messages =
            (1..=100_000).map(|uid| imap_fake::Stored { uid: 2 * uid, ..message.clone() }).collect();
        inbox.uid_next = 200_001;
    }
    let mut play = Play::in_inbox(fake);
    let set: Vec<String> = (1..=8_000).map(|n| (n * 4).to_string()).collect();
    let said = play.line(&format!("a UID FETCH {} FLAGS", set.join(",")));
    assert_eq!(said.lines().count(), 8_001);
    let said = play.line("a SEARCH ALL");
    assert_eq!(said.lines().next().unwrap().split(' ').count(), 2 + 100_000);
}

#[derive(Clone, Debug)]
enum Turn {
    Client(String),
    Came,
    Gone(usize),
    Flagged(usize, u8),
}

/// What a client may say in an open folder, what it may not, and what others do meanwhile.
fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let set = "([1-9]|[*])(:([1-9]|[*]))?(,[1-9])?";
    let flags = prop::sample::select(vec!["\\Seen", "\\Deleted", "\\Deleted \\Flagged", "", "$x"]);
    let sign = prop::sample::select(vec!["+", "-", ""]);
    let silent = prop::sample::select(vec!["", ".SILENT"]);
    let uid = prop::sample::select(vec!["", "UID "]);
    let numbered = (uid.clone(), set, sign, silent, flags).prop_map(|(uid, set, sign, silent, flags)| {
        format!("a {uid}STORE {set} {sign}FLAGS{silent} ({flags})")
    });
    let fetch = (uid.clone(), set, prop::sample::select(vec!["FLAGS", "BODY[]", "FAST"]))
        .prop_map(|(uid, set, items)| format!("a {uid}FETCH {set} {items}"));
    let search = (uid, set).prop_map(|(uid, set)| format!("a {uid}SEARCH OR UNSEEN {set}"));
    let other = prop::sample::select(vec![
        "a NOOP",
        "a CHECK",
        "a EXPUNGE",
        "a UID EXPUNGE 1:5",
        "a CLOSE",
        "a SELECT INBOX",
        "a EXAMINE INBOX",
        "a UNSELECT",
        "a IDLE",
        "DONE",
        "a LIST \"\" *",
        "a STATUS INBOX (MESSAGES)",
        "a SELECT x",
        "a ID NIL",
        "a X",
    ]);
    let client = prop_oneof![numbered, fetch, search, other.prop_map(str::to_owned)].prop_map(Turn::Client);
    let others = prop_oneof![
        Just(Turn::Came),
        (0..9_usize).prop_map(Turn::Gone),
        (0..9_usize, 0..32_u8).prop_map(|(index, bits)| Turn::Flagged(index, bits)),
    ];
    prop::collection::vec(prop_oneof![2 => client, 1 => others], 0..40)
}

fn others_turn(fake: &Fake, turn: &Turn) {
    let uid = |index: usize| fake.rows("INBOX").get(index).map(|row| row.0);
    match turn {
        Turn::Client(_) => {}
        Turn::Came => {
            fake.deliver("INBOX", b"x: y\r\n\r\n");
        }
        Turn::Gone(index) => {
            if let Some(uid) = uid(*index) {
                fake.remove("INBOX", uid);
            }
        }
        Turn::Flagged(index, bits) => {
            if let Some(uid) = uid(*index) {
                fake.flag("INBOX", uid, Flags::from_bits(*bits));
            }
        }
    }
}

proptest! {
    #[test]
    fn clients_and_others_agree_in_the_end(turns in turns()) {
        let mut play = Play::in_inbox(messages(4));
        for turn in &turns {
            match turn {
                Turn::Client(line) if !play.is_over => {
                    play.line(line);
                }
                turn => others_turn(&play.fake, turn),
            }
            if play.session.is_idling() {
                play.push();
            }
        }
        if !play.is_over && play.session.marks().is_some() {
            if play.session.is_idling() {
                play.line("DONE");
            }
            play.line("z NOOP");
            let rows = play.fake.rows("INBOX");
            prop_assert_eq!(&play.known, &rows.iter().map(|row| row.0).collect::<Vec<_>>());
            play.line("z UID FETCH 1:* FLAGS");
            let fetched = play.jobs.last().filter(|_| !rows.is_empty()).map(|job| {
                job.messages.iter().map(|m| (m.row.uid.value(), m.row.flags)).collect::<Vec<_>>()
            });
            prop_assert_eq!(fetched.unwrap_or_default(), rows);
        }
    }

    #[test]
    fn octets_of_any_kind_are_answered(encrypted: bool, octets in prop::collection::vec(any::<u8>(), 0..400)) {
        Play::new(encrypted, messages(1)).octets(&octets);
        Play::in_inbox(messages(1)).octets(&octets);
    }

    #[test]
    fn lines_that_nearly_are_commands_are_answered(
        lines in prop::collection::vec("[a*+] ?(LOGIN|FETCH|uid search|STORE|LIST|APPEND|X|ID)( [A-Z0-9*:,(){}+\"\\\\\\[\\]]{0,9}){0,4}", 1..12)
    ) {
        let octets = lines.join("\n") + "\n";
        Play::in_inbox(messages(2)).octets(octets.as_bytes());
        Play::new(true, messages(2)).octets(octets.as_bytes());
    }
}
