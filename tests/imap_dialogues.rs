//! IMAP as clients see it: every play of `corpus/imap`, and what does not fit into a play.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::string_slice,
    reason = "a test that panics has failed"
)]

#[path = "support/fetch_client.rs"]
mod fetch_client;
#[path = "support/fetch_play.rs"]
mod fetch_play;
#[path = "support/fetch_stage.rs"]
mod fetch_stage;
#[path = "support/imap_fake.rs"]
mod imap_fake;
#[path = "support/log_lines.rs"]
mod log_lines;

use daybook::fetch::folders::{Changes, changes};
use daybook::fetch::imap::server::{Imap, Waits};
use daybook::fetch::maildrop::FetchError;
use daybook::mail::Flags;
use daybook::net::drain::Drain;
use daybook::net::tls::TlsIdentity;
use fetch_client::{Client, SOON, Server, at_once, eventually};
use fetch_play::{Act, Play, check_received, unescape};
use fetch_stage::Stage;
use imap_fake::{Fake, Faults, PASSWORD};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Stands for anything.
const WILDCARD: char = '…';

async fn serve(fake: Fake, waits: Waits) -> Server {
    Server::start(|tls, drain| Imap::new(at_once(Arc::new(fake)), tls, drain, waits)).await
}

fn set_fault(faults: &mut Faults, words: &[&str]) -> Option<()> {
    match words {
        ["commit"] => faults.commit = true,
        ["open"] => faults.open = true,
        ["gone"] => faults.gone = true,
        ["lacks-key"] => faults.lacks_key = true,
        ["damaged", uid, after] => faults.damaged = Some((uid.parse().ok()?, after.parse().ok()?)),
        ["short", uid] => faults.short = uid.parse().ok(),
        ["vanished", uid] => faults.vanished = uid.parse().ok(),
        ["no-summary", uid] => faults.no_summary = uid.parse().ok(),
        ["mend"] => *faults = Faults::default(),
        _ => return None,
    }
    Some(())
}

/// The folders that a play is acted on.
fn fake_of(play: &Play) -> Fake {
    let fake = Fake::default();
    play.folders.iter().for_each(|path| fake.add_folder(path));
    for (folder, mail) in &play.mails {
        fake.deliver(folder, mail);
    }
    for fault in &play.faults {
        let words: Vec<&str> = fault.iter().map(String::as_str).collect();
        set_fault(&mut fake.state().faults, &words).unwrap_or_else(|| panic!("{}: {fault:?}", play.name));
    }
    fake
}

fn flags(names: &[&str]) -> Flags {
    let flag = |name: &&str| Flags::NAMES.iter().find(|(_, known)| known == name).unwrap().0;
    names.iter().map(flag).fold(Flags::NONE, |all, flag| all | flag)
}

fn numbers(words: &[String]) -> Vec<u32> {
    words.iter().map(|word| word.parse().unwrap()).collect()
}

/// What is so in the end, or happens beside the dialogue.
async fn happen(play: &Play, fake: &Fake, act: &Act) {
    let what = format!("{}: {act:?}", play.name);
    let inbox = || fake.rows("INBOX");
    match act {
        Act::Kept(uids) => {
            eventually(&what, || inbox().iter().map(|row| row.0).eq(numbers(uids))).await;
        }
        Act::Fetched(uids) => {
            eventually(&what, || {
                let mut fetched: Vec<u32> = fake.state().fetched.iter().map(|(_, uid)| *uid).collect();
                fetched.sort_unstable();
                fetched == numbers(uids)
            })
            .await;
        }
        Act::Other(key, rest) => {
            let words: Vec<&str> = rest.split_whitespace().collect();
            let uid = words.first().and_then(|word| word.parse().ok());
            match (key.as_str(), uid) {
                ("DELIVER", _) => {
                    fake.deliver("INBOX", &unescape(rest).unwrap());
                }
                ("REMOVE", Some(uid)) => fake.remove("INBOX", uid),
                ("FLAG", Some(uid)) => fake.flag("INBOX", uid, flags(&words[1..])),
                ("BREAK", _) => set_fault(&mut fake.state().faults, &words).unwrap(),
                ("HAS", Some(uid)) => {
                    eventually(&what, || inbox().contains(&(uid, flags(&words[1..])))).await;
                }
                _ => panic!("{what}"),
            }
        }
        _ => panic!("{what}"),
    }
}

async fn act(play: &Play) {
    let fake = fake_of(play);
    let server = serve(fake.clone(), Imap::waits()).await;
    let mut stage = Stage::new(play, server, WILDCARD);
    for act in &play.acts {
        if !stage.act(act).await {
            happen(play, &fake, act).await;
        }
    }
    stage.end().await;
}

#[tokio::test]
async fn the_server_plays_its_part_in_every_play() {
    let plays = Play::all("imap");
    assert!(plays.len() >= 20, "only {} plays were found", plays.len());
    let mut failed = Vec::new();
    for play in plays {
        let name = play.name.clone();
        if tokio::spawn(async move { act(&play).await }).await.is_err() {
            failed.push(name);
        }
    }
    assert_eq!(failed, Vec::<String>::new());
}

async fn converse(fake: &Fake, tls: &TlsIdentity, pieces: [&[u8]; 2], piece_octets: usize) -> Vec<u8> {
    let imap = Imap::new(at_once(Arc::new(fake.clone())), tls.server_config(), Drain::new(), Imap::waits());
    fetch_stage::converse(imap, pieces, piece_octets).await
}

#[tokio::test]
async fn what_the_client_says_means_the_same_however_it_is_cut() {
    let directory = tempfile::tempdir().unwrap();
    let tls = TlsIdentity::self_signed(directory.path(), "localhost").unwrap();
    let mut acted = 0;
    for play in Play::all("imap").iter().filter(|play| play.is_simple()) {
        let sent = play.sent();
        // Long ones are cut here and there only.
        let every = sent.len() / 300 + 1;
        for at in (0..=sent.len()).step_by(every) {
            let fake = fake_of(play);
            let (head, tail) = sent.split_at(at);
            let piece_octets = if at == 0 { 1 } else { at };
            let received = converse(&fake, &tls, [head, tail], piece_octets).await;
            check_received(play, &received, &format!("cut at {at}"), WILDCARD);
            // What is so at the end; on the way it may not have come to be, or be no more.
            let last =
                play.acts.iter().rev().take_while(|act| !matches!(act, Act::Send(..) | Act::Expect(..)));
            for act in last.filter(|act| matches!(act, Act::Kept(_) | Act::Fetched(_))) {
                happen(play, &fake, act).await;
            }
            acted += 1;
        }
    }
    assert!(acted >= 2_000, "only {acted} cuts were acted");
}

/// A server and a client of it that is logged in over TLS and has INBOX open.
async fn with_inbox_open(fake: &Fake, waits: Waits) -> (Server, Client) {
    let server = serve(fake.clone(), waits).await;
    let mut client = server.connect(true).await;
    client.send(format!("a LOGIN mbx-1 {PASSWORD}\r\nb SELECT INBOX\r\n").as_bytes()).await;
    until(&mut client, "b OK").await;
    (server, client)
}

/// Reads up to the line that begins so, and gives all before it.
async fn until(client: &mut Client, beginning: &str) -> Vec<String> {
    let mut before = Vec::new();
    loop {
        let line = client.line().await.unwrap_or_else(|| panic!("no {beginning}: {before:?}"));
        if line.starts_with(beginning) {
            return before;
        }
        before.push(line);
    }
}

fn fetched(fake: &Fake) -> Vec<u32> {
    fake.state().fetched.iter().map(|(_, uid)| *uid).collect()
}

#[tokio::test]
async fn damage_met_on_the_way_breaks_the_connection_and_what_was_whole_is_recorded() {
    let long = "a line of some length\r\n".repeat(80_000).into_bytes();
    for fault in ["damaged 3 1700000", "short 3"] {
        let fake = Fake::with(&[b"one\r\n".to_vec(), long.clone(), long.clone(), b"four\r\n".to_vec()]);
        let words: Vec<&str> = fault.split(' ').collect();
        set_fault(&mut fake.state().faults, &words).unwrap();
        let (server, mut client) = with_inbox_open(&fake, Imap::waits()).await;
        client.send(b"c UID FETCH 2:4 BODY.PEEK[]\r\nd LOGOUT\r\n").await;
        let mut lines = 0;
        while let Some(line) = client.line_if_whole().await {
            assert!(!line.starts_with("c ") && !line.starts_with("* 4 FETCH"), "{fault}: {line}");
            lines += 1;
        }
        assert!((80_000..160_001).contains(&lines), "{fault}: {lines} lines");
        eventually("the fetch of the good mail is recorded", || fetched(&fake) == [2]).await;
        drop(client);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_client_that_goes_away_amid_a_fetch_has_fetched_what_it_was_given_whole() {
    let fake = Fake::with(&[b"one\r\n".to_vec(), vec![b'x'; 32 << 20]]);
    let (server, mut client) = with_inbox_open(&fake, Imap::waits()).await;
    client.send(b"c UID FETCH 1 BODY.PEEK[]\r\n").await;
    until(&mut client, "c OK").await;
    client.send(b"d UID FETCH 2 BODY.PEEK[]\r\n").await;
    assert!(client.line_if_part().await.contains("xxx"));
    drop(client);
    eventually("the first is recorded, the second not", || fetched(&fake) == [1]).await;
    server.stop().await;
    assert_eq!(fetched(&fake), [1]);
}

#[tokio::test]
async fn what_could_not_be_recorded_when_a_folder_was_left_is_recorded_before_anything_is_taken_out_of_it() {
    let fake = Fake::with(&[b"one\r\n".to_vec(), b"two\r\n".to_vec()]);
    let (server, mut client) = with_inbox_open(&fake, Imap::waits()).await;
    fake.state().faults.commit = true;
    client
        .send(b"c UID FETCH 1:2 BODY.PEEK[]\r\nd UNSELECT\r\ne SELECT Unassigned\r\nf SELECT INBOX\r\n")
        .await;
    until(&mut client, "f OK").await;
    assert_eq!(fetched(&fake), Vec::<u32>::new());
    fake.state().faults.commit = false;
    client.send(b"g STORE 1 +FLAGS (\\Deleted)\r\nh EXPUNGE\r\n").await;
    until(&mut client, "h OK").await;
    assert_eq!(fetched(&fake), [1, 2]);
    // And what was left for good, at the end.
    fake.state().faults.commit = true;
    client.send(b"i UID FETCH 2 BODY.PEEK[]\r\nj UNSELECT\r\n").await;
    until(&mut client, "j OK").await;
    fake.state().faults.commit = false;
    client.send(b"k LOGOUT\r\n").await;
    until(&mut client, "k OK").await;
    assert_eq!(fetched(&fake), [1, 2, 2]);
    server.stop().await;
}

#[tokio::test]
async fn a_silent_client_hears_bye_and_loses_nothing() {
    let fake = Fake::with(&[b"one\r\n".to_vec()]);
    let waits = Waits { idle: Duration::from_millis(100), ..Imap::waits() };
    for command in ["", "d IDLE\r\n"] {
        let (server, mut client) = with_inbox_open(&fake, waits).await;
        client.send(format!("c UID STORE 1 +FLAGS (\\Deleted)\r\n{command}").as_bytes()).await;
        until(&mut client, "* BYE ").await;
        assert_eq!(client.line().await, None);
        assert_eq!(fake.rows("INBOX"), [(1, Flags::DELETED)]);
        drop(client);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_stranger_has_so_long_to_log_in_whatever_it_says_meanwhile() {
    let waits = Waits { login: Duration::from_secs(2), ..Imap::waits() };
    let server = serve(Fake::default(), waits).await;
    for is_implicit_tls in [false, true] {
        let mut client = server.connect(is_implicit_tls).await;
        client.say_until_the_end(b"a NOOP\r\n").await;
    }
    // Who got in has all the time there is.
    let mut client = server.connect(true).await;
    let connected = Instant::now();
    client.send(format!("a LOGIN mbx-1 {PASSWORD}\r\n").as_bytes()).await;
    until(&mut client, "a OK").await;
    while connected.elapsed() < 2 * waits.login {
        client.send(b"b NOOP\r\n").await;
        until(&mut client, "b OK").await;
    }
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn news_that_could_not_be_looked_at_are_told_later() {
    let fake = Fake::default();
    let (server, mut client) = with_inbox_open(&fake, Imap::waits()).await;
    client.send(b"c IDLE\r\n").await;
    until(&mut client, "+ ").await;
    fake.state().faults.open = true;
    fake.deliver("INBOX", b"one\r\n");
    eventually("a look failed", || fake.state().failed > 0).await;
    fake.state().faults.open = false;
    until(&mut client, "* 1 EXISTS").await;
    drop(client);
    server.stop().await;
}

#[test]
fn another_uidvalidity_is_seen_however_late_it_comes() {
    let fake = Fake::with(&[b"one\r\n".to_vec()]);
    let folder = fake.folder("INBOX");
    let known = folder.marks().unwrap();
    fake.flag("INBOX", 1, Flags::SEEN);
    assert!(matches!(changes(folder.as_ref(), known), Ok(Changes::All(..))));
    fake.state().faults.renewed = true;
    assert_eq!(changes(folder.as_ref(), known), Err(FetchError::Gone));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_let_go() {
    let fake = Fake::with(&[vec![b'x'; 64 << 20]]);
    let waits = Waits { write: Duration::from_millis(100), ..Imap::waits() };
    let (server, mut client) = with_inbox_open(&fake, waits).await;
    let handles = fake.handles();
    client.send(b"c FETCH 1 BODY[]\r\n").await;
    eventually("it is over", || fake.handles() < handles).await;
    assert_eq!(fetched(&fake), [0_u32; 0]);
    assert_eq!(fake.rows("INBOX"), [(1, Flags::NONE)]);
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn shutdown_is_told_between_commands_and_in_idle() {
    for command in ["c NOOP\r\n", "c IDLE\r\n"] {
        let fake = Fake::with(&[b"one\r\n".to_vec()]);
        let (server, mut client) = with_inbox_open(&fake, Imap::waits()).await;
        client.send(format!("x FETCH 1 BODY[]\r\n{command}").as_bytes()).await;
        until(&mut client, if command.contains("IDLE") { "+ " } else { "c OK" }).await;
        server.stop().await;
        until(&mut client, "* BYE ").await;
        assert_eq!(client.line().await, None);
        assert_eq!(fetched(&fake), [1]);
    }
}

#[tokio::test]
async fn a_burst_of_mail_is_told_of_in_few_looks() {
    let fake = Fake::default();
    let (server, mut client) = with_inbox_open(&fake, Imap::waits()).await;
    client.send(b"c IDLE\r\n").await;
    until(&mut client, "+ ").await;
    for _ in 0..200 {
        fake.deliver("INBOX", b"Subject: x\r\n\r\n");
        tokio::task::yield_now().await;
    }
    let news = until(&mut client, "* 200 EXISTS").await;
    assert!(news.len() <= 4, "{news:?}");
    client.send(b"DONE\r\n").await;
    until(&mut client, "c OK").await;
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_thousand_cut_sessions_expunge_nothing_and_record_what_was_given() {
    let directory = tempfile::tempdir().unwrap();
    let tls = TlsIdentity::self_signed(directory.path(), "localhost").unwrap();
    let script = format!(
        "a LOGIN mbx-1 {PASSWORD}\r\nb SELECT INBOX\r\nc FETCH 1 BODY.PEEK[]\r\nd STORE 1 +FLAGS (\\Deleted)\r\n\
         e EXPUNGE\r"
    );
    for round in 0..1_000 {
        let fake = Fake::with(&[b"one\r\n".to_vec(), b"two\r\n".to_vec()]);
        let cut = round % (script.len() + 1);
        let received = converse(&fake, &tls, [&script.as_bytes()[..cut], b""], 1 + round % 7).await;
        assert_eq!(fake.rows("INBOX").len(), 2);
        let was_given = String::from_utf8_lossy(&received).contains("c OK");
        assert_eq!(fetched(&fake).len(), usize::from(was_given), "cut at {cut}");
    }
}

#[tokio::test]
async fn a_store_that_panics_is_our_trouble_and_not_the_end() {
    let server = serve(Fake::default(), Imap::waits()).await;
    let mut client = server.connect(true).await;
    client.send(b"a LOGIN broken x\r\nb NOOP\r\n").await;
    until(&mut client, "a NO [UNAVAILABLE]").await;
    until(&mut client, "b OK").await;
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn ten_thousand_pipelined_commands_are_all_answered() {
    let fake = Fake::with(&[b"one\r\n".to_vec()]);
    let (server, client) = with_inbox_open(&fake, Imap::waits()).await;
    let (mut reader, mut writer) = client.split();
    let writing = tokio::spawn(async move {
        writer.write_all("x FETCH 1 BODY.PEEK[]\r\ny NOOP\r\n".repeat(5_000).as_bytes()).await.unwrap();
        writer.write_all(b"z LOGOUT\r\n").await.unwrap();
        writer.flush().await.unwrap();
        writer
    });
    let mut received = String::new();
    tokio::time::timeout(SOON, reader.read_to_string(&mut received)).await.unwrap().unwrap();
    let one = "* 1 FETCH (BODY[] {5}\r\none\r\n)\r\nx OK fetched\r\ny OK done\r\n";
    let expect = format!("{}* BYE logging out\r\nz OK bye\r\n", one.repeat(5_000));
    assert!(received == expect, "{} octets", received.len());
    drop(writing.await.unwrap());
    server.stop().await;
}

#[tokio::test]
async fn the_log_tells_each_visit_in_one_line_and_never_a_password() {
    let log = log_lines::Log::default();
    let _guard = log.listen();
    let fake = Fake::with(&[b"one\r\n".to_vec(), b"three\r\n".to_vec()]);
    let (server, mut client) = with_inbox_open(&fake, Imap::waits()).await;
    client
        .send(b"c ID (\"name\" \"some client\" \"version\" \"1\")\r\nd SEARCH ALL\r\ne FETCH 1:2 BODY[]\r\n")
        .await;
    client.send(b"f STORE 1 +FLAGS (\\Deleted)\r\ng SELECT Quarantine\r\nh SELECT INBOX\r\ni EXPUNGE\r\nj LOGOUT\r\n").await;
    while client.line().await.is_some() {}
    let mut wrong = server.connect(true).await;
    wrong.send(b"a LOGIN {8+}\r\na\xe2\x80\xaebcde {7+}\r\nhunter2\r\n").await;
    until(&mut wrong, "a NO [AUTHENTICATIONFAILED]").await;
    let mut clear = server.connect(false).await;
    clear.send(b"a LOGIN hunter2 hunter2\r\nb LOGOUT\r\n").await;
    while clear.line().await.is_some() {}
    drop((client, wrong, clear));
    server.stop().await;

    let lines = log.lines();
    let of = |event: &str| lines.iter().filter(|line| line["event"] == event).cloned().collect::<Vec<_>>();
    let visits = of("fetch.session");
    assert_eq!(visits.len(), 1, "{lines:?}");
    let visit = &visits[0];
    for (key, value) in [
        ("login", "mbx-1"),
        ("mailbox", "mbx-1"),
        ("protocol", "imap"),
        ("peer", "127.0.0.1"),
        ("client", "some client 1"),
        ("end", "quit"),
    ] {
        assert_eq!(visit[key], value, "{visit}");
    }
    for (key, value) in [("listed", 4), ("fetched", 2), ("deleted", 1), ("folders", 3), ("searches", 1)] {
        assert_eq!(visit[key], value, "{visit}");
    }
    assert_eq!(of("auth.ok")[0]["session_id"], visit["session_id"]);
    let failed = of("auth.failed");
    assert_eq!(failed.iter().map(|line| &line["reason"]).collect::<Vec<_>>(), ["wrong", "clear"]);
    assert_eq!(failed[0]["login"], r"a\u{202e}bcde");
    let text = format!("{lines:?}");
    assert!(!text.contains("hunter2") && !text.contains(PASSWORD), "{text}");
}
