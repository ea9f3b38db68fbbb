//! POP3 as clients see it: every play of `corpus/pop3`, and what does not fit into a play.

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
#[path = "support/log_lines.rs"]
mod log_lines;
#[path = "support/pop3_fake.rs"]
mod pop3_fake;

use daybook::fetch::pop3::server::{Pop3, Waits};
use daybook::net::drain::Drain;
use daybook::net::tls::TlsIdentity;
use fetch_client::{Client, SOON, Server, at_once, eventually};
use fetch_play::{Act, Play, check_received};
use fetch_stage::Stage;
use pop3_fake::{Fake, PASSWORD, canonical, size_as_served};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// `*` stands for anything.
const WILDCARD: char = '*';

async fn serve(fake: Fake, waits: Waits) -> Server {
    Server::start(|tls, drain| Pop3::new(at_once(Arc::new(fake)), tls, drain, waits)).await
}

/// Logs in again and again until nobody holds the maildrop.
async fn wait_until_free(server: &Server) {
    let free = async {
        loop {
            let mut client = server.connect(true).await;
            client.line().await.unwrap();
            client.send(format!("USER mbx-1\r\nPASS {PASSWORD}\r\n").as_bytes()).await;
            client.line().await.unwrap();
            if client.line().await.unwrap().starts_with("+OK") {
                client.send(b"QUIT\r\n").await;
                client.line().await.unwrap();
                return;
            }
        }
    };
    tokio::time::timeout(SOON, free).await.unwrap();
}

/// The maildrop that a play is acted on.
fn fake_of(play: &Play) -> Fake {
    let mails: Vec<Vec<u8>> = play.mails.iter().map(|(_, mail)| mail.clone()).collect();
    let fake = Fake::with(&mails);
    let mut state = fake.state.lock().unwrap();
    for fault in &play.faults {
        match fault.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["commit"] => state.fail_commit = true,
            ["open"] => state.fail_open = true,
            ["damaged", uidl, after] => state.damaged = Some((uidl.to_owned(), after.parse().unwrap())),
            ["short", uidl] => state.short = Some(uidl.to_owned()),
            _ => panic!("{}: {fault:?}", play.name),
        }
    }
    drop(state);
    fake
}

async fn check_kept(play: &Play, fake: &Fake, expect: &[String]) {
    eventually(&play.name, || fake.uidls() == expect).await;
}

async fn check_fetched(play: &Play, fake: &Fake, expect: &[String]) {
    eventually(&play.name, || {
        let mut fetched = fake.state.lock().unwrap().fetched.clone();
        fetched.sort();
        fetched == expect
    })
    .await;
}

async fn act(play: &Play) {
    let fake = fake_of(play);
    let server = serve(fake.clone(), Pop3::waits()).await;
    let mut stage = Stage::new(play, server, WILDCARD);
    for act in &play.acts {
        if stage.act(act).await {
            continue;
        }
        match act {
            Act::Kept(uidls) => check_kept(play, &fake, uidls).await,
            Act::Fetched(uidls) => check_fetched(play, &fake, uidls).await,
            _ => panic!("{}: {act:?}", play.name),
        }
    }
    stage.end().await;
}

#[tokio::test]
async fn the_server_plays_its_part_in_every_play() {
    let plays = Play::all("pop3");
    for play in &plays {
        act(play).await;
    }
    assert!(plays.len() >= 15, "only {} plays were found", plays.len());
}

async fn converse(fake: &Fake, tls: &TlsIdentity, pieces: [&[u8]; 2], piece_octets: usize) -> Vec<u8> {
    let pop3 = Pop3::new(at_once(Arc::new(fake.clone())), tls.server_config(), Drain::new(), Pop3::waits());
    fetch_stage::converse(pop3, pieces, piece_octets).await
}

#[tokio::test]
async fn what_the_client_says_means_the_same_however_it_is_cut() {
    let directory = tempfile::tempdir().unwrap();
    let tls = TlsIdentity::self_signed(directory.path(), "localhost").unwrap();
    let mut acted = 0;
    for play in Play::all("pop3").iter().filter(|play| play.is_simple()) {
        let sent = play.sent();
        for at in 0..=sent.len() {
            let fake = fake_of(play);
            let (head, tail) = sent.split_at(at);
            // A pipe no wider than the first piece delivers it alone; as wide as one octet, each octet alone.
            let piece_octets = if at == 0 { 1 } else { at };
            let received = converse(&fake, &tls, [head, tail], piece_octets).await;
            check_received(play, &received, &format!("cut at {at}"), WILDCARD);
            for act in &play.acts {
                match act {
                    Act::Fetched(uidls) => check_fetched(play, &fake, uidls).await,
                    Act::Kept(uidls) if play.acts.last() == Some(act) => check_kept(play, &fake, uidls).await,
                    _ => {}
                }
            }
            acted += 1;
        }
    }
    assert!(acted >= 500, "only {acted} cuts were acted");
}

/// A server and a client of it that is logged in over TLS.
async fn logged_in(fake: &Fake, waits: Waits) -> (Server, Client) {
    let server = serve(fake.clone(), waits).await;
    let mut client = server.connect(true).await;
    client.line().await.unwrap();
    client.send(format!("USER mbx-1\r\nPASS {PASSWORD}\r\n").as_bytes()).await;
    assert!(client.line().await.unwrap().starts_with("+OK"));
    assert!(client.line().await.unwrap().starts_with("+OK"));
    (server, client)
}

#[tokio::test]
async fn sizes_are_the_octets_received() {
    let lines = "a line of some length\r\n.dot\r\n".repeat(20_000);
    let mails: Vec<Vec<u8>> = [
        "a\n.\nb",
        "a\r.\rb\r",
        "\r\r\n\n\r",
        ".",
        "..\r\n",
        "x\r",
        "x\n",
        "\n.\r\n",
        "no line end",
        "\0\r\0\n\0",
        &lines,
        &lines.replace('\r', ""),
        &lines.replace('\n', ""),
        &lines.replace("\r\n", "\n\r"),
        &"x".repeat(300_000),
        &"\r".repeat(200_000),
        &"\n".repeat(200_000),
        &format!("x{}", "\r\n".repeat(100_000)),
    ]
    .iter()
    .map(|mail| mail.as_bytes().to_vec())
    .collect();
    let fake = Fake::with(&mails);
    let (server, mut client) = logged_in(&fake, Pop3::waits()).await;
    client.send(b"STAT\r\n").await;
    let total: u64 = mails.iter().map(|mail| size_as_served(mail)).sum();
    assert_eq!(client.line().await.unwrap(), format!("+OK {} {total}", mails.len()));
    for (index, mail) in mails.iter().enumerate() {
        let number = index + 1;
        for command in [format!("RETR {number}"), format!("TOP {number} 99999999")] {
            client.send(format!("LIST {number}\r\n{command}\r\n").as_bytes()).await;
            let listed = client.line().await.unwrap();
            assert!(client.line().await.unwrap().starts_with("+OK"));
            let received = client.message().await;
            assert_eq!(listed, format!("+OK {number} {}", received.len()));
            let mut expect = canonical(mail);
            if !expect.ends_with(b"\r\n") {
                expect.extend(b"\r\n");
            }
            assert!(received == expect, "mail {number}");
        }
    }
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn damage_met_on_the_way_breaks_the_connection() {
    let mail = "a line of some length\r\n".repeat(20_000).into_bytes();
    for (fault, is_short) in [("damaged", false), ("short", true)] {
        let fake = Fake::with(&[mail.clone(), b"good\r\n".to_vec()]);
        {
            let mut state = fake.state.lock().unwrap();
            if is_short {
                state.short = Some("u1".to_owned())
            } else {
                state.damaged = Some(("u1".to_owned(), 200_000))
            }
        }
        let (server, mut client) = logged_in(&fake, Pop3::waits()).await;
        client.send(b"RETR 2\r\n").await;
        client.line().await.unwrap();
        client.message().await;
        client.send(b"RETR 1\r\nDELE 2\r\nQUIT\r\n").await;
        let mut received = 0;
        while let Some(line) = client.line_if_whole().await {
            assert_ne!(line, ".", "{fault}");
            received += 1;
        }
        assert!(received < 20_000, "{fault}: {received} lines");
        eventually("the fetch of the good mail is recorded", || fake.state.lock().unwrap().fetched == ["u2"])
            .await;
        assert_eq!(fake.uidls(), ["u1", "u2"]);
        drop(client);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_silent_client_is_let_go_without_a_word_and_without_a_delete() {
    let fake = Fake::with(&[b"one\r\n".to_vec()]);
    let waits = Waits { idle: Duration::from_millis(100), ..Pop3::waits() };
    let (server, mut client) = logged_in(&fake, waits).await;
    client.send(b"DELE 1\r\n").await;
    assert!(client.line().await.unwrap().starts_with("+OK"));
    assert_eq!(client.line().await, None);
    // The lock is free again, so the session is over.
    wait_until_free(&server).await;
    assert_eq!(fake.uidls(), ["u1"]);
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_stranger_has_so_long_to_log_in_whatever_it_says_meanwhile() {
    let waits = Waits { login: Duration::from_secs(2), ..Pop3::waits() };
    let server = serve(Fake::with(&[]), waits).await;
    for is_implicit_tls in [false, true] {
        let mut client = server.connect(is_implicit_tls).await;
        client.say_until_the_end(b"CAPA\r\n").await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_let_go() {
    let fake = Fake::with(&[vec![b'x'; 64 << 20]]);
    let waits = Waits { write: Duration::from_millis(100), ..Pop3::waits() };
    let (server, mut client) = logged_in(&fake, waits).await;
    client.send(b"RETR 1\r\n").await;
    wait_until_free(&server).await;
    assert!(fake.state.lock().unwrap().fetched.is_empty());
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn shutdown_is_told_between_commands_and_deletes_nothing() {
    let fake = Fake::with(&[b"one\r\n".to_vec()]);
    let (server, mut client) = logged_in(&fake, Pop3::waits()).await;
    client.send(b"DELE 1\r\n").await;
    assert!(client.line().await.unwrap().starts_with("+OK"));
    server.stop().await;
    assert!(client.line().await.unwrap().starts_with("-ERR [SYS/TEMP]"));
    assert_eq!(client.line().await, None);
    assert_eq!(fake.uidls(), ["u1"]);
}

#[tokio::test]
async fn a_thousand_cut_sessions_delete_nothing() {
    let fake = Fake::with(&[b"one\r\n".to_vec(), b"two\r\n".to_vec()]);
    let directory = tempfile::tempdir().unwrap();
    let tls = TlsIdentity::self_signed(directory.path(), "localhost").unwrap();
    let script = format!("USER mbx-1\r\nPASS {PASSWORD}\r\nDELE 1\r\nRETR 2\r\nDELE 2\r\nNOOP\r\nQUIT\r");
    for round in 0..1_000 {
        let cut = round % (script.len() + 1);
        converse(&fake, &tls, [&script.as_bytes()[..cut], b""], 1 + round % 7).await;
    }
    assert_eq!(fake.uidls(), ["u1", "u2"]);
}

#[tokio::test]
async fn a_store_that_panics_is_our_trouble_and_not_the_end() {
    let server = serve(Fake::default(), Pop3::waits()).await;
    let mut client = server.connect(true).await;
    client.line().await.unwrap();
    client.send(b"USER broken\r\nPASS x\r\nQUIT\r\n").await;
    assert_eq!(client.line().await.unwrap(), "+OK send PASS");
    assert!(client.line().await.unwrap().starts_with("-ERR [SYS/TEMP]"));
    assert_eq!(client.line().await.unwrap(), "+OK bye");
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn ten_thousand_pipelined_commands_are_all_answered() {
    let fake = Fake::with(&[b"one\r\n".to_vec()]);
    let (server, client) = logged_in(&fake, Pop3::waits()).await;
    let (mut reader, mut writer) = client.split();
    let writing = tokio::spawn(async move {
        writer.write_all("RETR 1\r\nNOOP\r\n".repeat(5_000).as_bytes()).await.unwrap();
        writer.write_all(b"QUIT\r\n").await.unwrap();
        writer.flush().await.unwrap();
        writer
    });
    let mut received = String::new();
    tokio::time::timeout(SOON, reader.read_to_string(&mut received)).await.unwrap().unwrap();
    let expect =
        format!("{}+OK 0 messages deleted, bye\r\n", "+OK 5 octets\r\none\r\n.\r\n+OK\r\n".repeat(5_000));
    assert!(received == expect, "{} octets", received.len());
    drop(writing.await.unwrap());
    server.stop().await;
}

#[tokio::test]
async fn the_log_tells_each_visit_in_one_line_and_never_a_password() {
    let log = log_lines::Log::default();
    let _guard = log.listen();
    let fake = Fake::with(&[b"one\r\n".to_vec(), b"three\r\n".to_vec()]);
    let (server, mut client) = logged_in(&fake, Pop3::waits()).await;
    client.send(b"RETR 2\r\nDELE 1\r\nQUIT\r\n").await;
    while client.line().await.is_some() {}
    let mut wrong = server.connect(true).await;
    wrong.line().await.unwrap();
    wrong.send(b"USER evil\x7f\r\nUSER a\xe2\x80\xaeb\r\nPASS hunter2\r\n").await;
    for _ in 0..3 {
        wrong.line().await.unwrap();
    }
    let mut clear = server.connect(false).await;
    clear.line().await.unwrap();
    clear.send(b"USER hunter2\r\nQUIT\r\n").await;
    while clear.line().await.is_some() {}
    drop(client);
    drop(wrong);
    drop(clear);
    server.stop().await;

    let lines = log.lines();
    let of = |event: &str| lines.iter().filter(|line| line["event"] == event).cloned().collect::<Vec<_>>();
    let visits = of("fetch.session");
    assert_eq!(visits.len(), 1, "{lines:?}");
    let visit = &visits[0];
    for (key, value) in [
        ("login", "mbx-1"),
        ("mailbox", "mbx-1"),
        ("protocol", "pop3"),
        ("peer", "127.0.0.1"),
        ("end", "quit"),
    ] {
        assert_eq!(visit[key], value, "{visit}");
    }
    for (key, value) in [("listed", 2), ("fetched", 1), ("deleted", 1), ("octets", 7)] {
        assert_eq!(visit[key], value, "{visit}");
    }
    assert_eq!(of("auth.ok").len(), 1);
    assert_eq!(of("auth.ok")[0]["session_id"], visit["session_id"]);
    let failed = of("auth.failed");
    assert_eq!(failed.iter().map(|line| &line["reason"]).collect::<Vec<_>>(), ["wrong", "clear"]);
    assert_eq!(failed[0]["login"], r"a\u{202e}b");
    let text = format!("{lines:?}");
    assert!(!text.contains("hunter2") && !text.contains(PASSWORD), "{text}");
}
