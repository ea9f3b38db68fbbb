//! Clients and keys over the embedded store: what a client that stays logged in may do once its keys are changed or its gateway
//! mailbox is gone, and that the time of a refusal does not tell what was wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

#[path = "support/delivery.rs"]
mod delivery;
#[path = "support/fetch_gateway.rs"]
mod fetch_gateway;
#[path = "support/log_lines.rs"]
mod log_lines;

use daybook::fetch::auth::{LoginRefusal, Password};
use daybook::fetch::maildrop::{Client, FetchError, LoginError, Maildrops};
use daybook::fetch::stored::StoredMaildrops;
use daybook::mail::{FlagChange, Flags, SessionId, Uid};
use daybook::observe::Visits;
use daybook::store::{GatewayMailboxChange, KeyringSecret, Store, generate_password};
use fetch_gateway::Gateway;
use std::io::Read;
use std::time::{Duration, Instant};

fn client(peer: &str) -> Client {
    Client { protocol: "pop3", peer: peer.parse().unwrap(), session_id: SessionId::new(1, [1; 10]) }
}

/// Tries to log in; gives the refusal.
async fn refused(gateway: &Gateway, login: &str, password: &str, peer: &str) -> Option<LoginRefusal> {
    gateway.logins.exclusive(login, Password::new(password), &client(peer)).await.err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_changed_while_a_client_is_in_send_it_to_log_in_anew() {
    let mut gateway = Gateway::new().await;
    gateway.fill(2).await;
    let login = gateway.mailbox.login().to_owned();
    let password = || Password::new(&gateway.password);
    let pop3 = gateway.logins.exclusive(&login, password(), &client("192.0.2.1")).await.ok().unwrap();
    let imap = gateway.logins.folders(&login, password(), &client("192.0.2.1")).await.ok().unwrap();
    let folder = imap.folders.open("INBOX").unwrap().unwrap();
    let (_, rows) = folder.rows(Uid::FIRST).unwrap();
    // The password is lost: another keyring takes the place of this one.
    let new = generate_password().unwrap();
    tokio::task::block_in_place(|| gateway.store.set_password(gateway.mailbox.id, None, &new, "test"))
        .unwrap();

    assert_eq!(imap.folders.account(), Err(FetchError::LacksKey));
    assert_eq!(imap.folders.open("INBOX").err(), Some(FetchError::LacksKey));
    assert_eq!(folder.marks(), Err(FetchError::LacksKey));
    // What is open, was sealed to the key that the client has.
    let entries = folder.entries(&[rows[0].uid]).unwrap();
    let mut text = String::new();
    folder.read(&entries[0]).unwrap().read_to_string(&mut text).unwrap();
    assert!(text.starts_with("Subject: "));
    pop3.maildrop.finish(vec![0], vec![0]).await.unwrap();
    assert_eq!(gateway.inbox().len(), 1);
    drop((pop3, imap, folder));
    assert_eq!(refused(&gateway, &login, &gateway.password, "192.0.2.1").await, Some(LoginRefusal::Wrong));
    assert_eq!(refused(&gateway, &login, &new, "192.0.2.1").await, None);
    gateway.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_is_reset_ends_what_the_one_before_began() {
    let mut gateway = Gateway::new().await;
    gateway.fill(1).await;
    let login = gateway.mailbox.login().to_owned();
    let password = || Password::new(&gateway.password);
    let imap = gateway.logins.folders(&login, password(), &client("192.0.2.1")).await.ok().unwrap();
    let folder = imap.folders.open("INBOX").unwrap().unwrap();
    let maildrops = StoredMaildrops::new(gateway.store.clone(), Visits::default());
    let unlocked = || maildrops.unlock(&login, &gateway.password, &client("192.0.2.1")).ok().unwrap();
    let (for_imap, for_pop3) = (unlocked(), unlocked());
    // The keys stay, so that what is there can be read on.
    let new = generate_password().unwrap();
    let opened = [KeyringSecret::Password(&gateway.password)];
    tokio::task::block_in_place(|| {
        let opened = gateway.store.open_keyrings(gateway.mailbox.id, &opened).unwrap();
        gateway.store.set_password(gateway.mailbox.id, Some(&opened), &new, "test")
    })
    .unwrap();

    let uids = vec![Uid::FIRST];
    assert_eq!(imap.folders.account(), Err(FetchError::LacksKey));
    assert_eq!(imap.folders.list(), Err(FetchError::LacksKey));
    assert_eq!(imap.folders.status("INBOX"), Err(FetchError::LacksKey));
    assert_eq!(folder.marks(), Err(FetchError::LacksKey));
    assert_eq!(folder.rows(Uid::FIRST), Err(FetchError::LacksKey));
    assert_eq!(folder.expunge(uids.clone()).await, Err(FetchError::LacksKey));
    let seen = folder.set_flags(uids, FlagChange::Add(Flags::SEEN)).await;
    assert_eq!(seen, Err(FetchError::LacksKey));
    // Whoever was just coming in is told to come again.
    assert_eq!(for_imap.folders().err(), Some(LoginError::Unavailable));
    assert_eq!(for_pop3.open().err(), Some(LoginError::Unavailable));
    assert_eq!(refused(&gateway, &login, &new, "192.0.2.1").await, None);
    gateway.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_in_a_gateway_mailbox_that_is_deleted_ends_its_session_and_gets_no_further() {
    let mut gateway = Gateway::new().await;
    let inbox = gateway.fill(1).await;
    let login = gateway.mailbox.login().to_owned();
    let password = || Password::new(&gateway.password);
    let pop3 = gateway.logins.exclusive(&login, password(), &client("192.0.2.1")).await.ok().unwrap();
    let imap = gateway.logins.folders(&login, password(), &client("192.0.2.1")).await.ok().unwrap();
    let changes = vec![GatewayMailboxChange::Suspend, GatewayMailboxChange::Delete { force: true }];
    for change in changes {
        gateway.store.change_gateway_mailbox(gateway.mailbox.id, vec![change], "test").await.unwrap();
    }
    assert_eq!(imap.folders.account(), Err(FetchError::Gone));
    assert_eq!(imap.folders.open("INBOX").err(), Some(FetchError::Gone));
    // What a poller has taken over it may still delete: it was let in, and it stands on record.
    pop3.maildrop.finish(vec![0], vec![0]).await.unwrap();
    assert!(inbox.values().all(|receipt| gateway.is_deletion_on_record(*receipt)));
    drop((pop3, imap));
    assert_eq!(refused(&gateway, &login, &gateway.password, "192.0.2.1").await, Some(LoginRefusal::Wrong));
    gateway.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_took_out_is_not_told_as_deleted_by_a_poller() {
    let mut gateway = Gateway::new().await;
    let inbox = gateway.fill(2).await;
    let login = gateway.mailbox.login().to_owned();
    let password = || Password::new(&gateway.password);
    let pop3 = gateway.logins.exclusive(&login, password(), &client("192.0.2.1")).await.ok().unwrap();
    let imap = gateway.logins.folders(&login, password(), &client("192.0.2.2")).await.ok().unwrap();
    let folder = imap.folders.open("INBOX").unwrap().unwrap();
    let first = vec![Uid::FIRST];
    let (log, deleted) = (log_lines::Log::default(), FlagChange::Add(Flags::DELETED));
    folder.set_flags(first.clone(), deleted).await.unwrap();
    assert_eq!(folder.expunge(first.clone()).await, Ok(first));
    let listening = log.listen();
    assert_eq!(pop3.maildrop.finish(vec![0, 1], vec![0, 1]).await, Ok(1));
    drop(listening);
    let told: Vec<_> = log.lines().into_iter().filter(|line| line["event"] == "fetch.deleted").collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["receipt_id"], inbox[&2].to_string());
    gateway.store.close().await;
}

/// The middle of them, and how far the middle half spreads.
fn middle(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort();
    let quarter = times.len() / 4;
    (times[times.len() / 2], times[times.len() - 1 - quarter] - times[quarter])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_takes_as_long_whatever_was_wrong() {
    let is_long = std::env::var("DAYBOOK_LONG").is_ok_and(|value| value == "1");
    let rounds: u8 = if is_long { 200 } else { 9 };
    let gateway = Gateway::new().await;
    let login = gateway.mailbox.login().to_owned();
    let cases = [
        ("unknown login", "mbx-00000000000000000000000000000000", "x"),
        ("wrong password", login.as_str(), "x"),
        ("password nearly right", login.as_str(), &format!("{}x", gateway.password)),
    ];
    let mut times = vec![Vec::new(); cases.len()];
    for round in 0..rounds {
        for turn in 0..cases.len() {
            // None is always the first.
            let case = (turn + usize::from(round)) % cases.len();
            let (_, login, password) = cases[case];
            let began = Instant::now();
            // From another network each time: nobody is held off.
            let peer = format!("192.{case}.{round}.1");
            assert_eq!(refused(&gateway, login, password, &peer).await, Some(LoginRefusal::Wrong));
            times[case].push(began.elapsed());
        }
    }
    let middles: Vec<(Duration, Duration)> = times.iter_mut().map(|times| middle(times)).collect();
    for ((name, ..), (middle, spread)) in cases.iter().zip(&middles) {
        println!("{name}: {middle:?}, the middle half within {spread:?}");
    }
    let slowest = middles.iter().map(|(middle, _)| *middle).max().unwrap();
    let fastest = middles.iter().map(|(middle, _)| *middle).min().unwrap();
    let noise = middles.iter().map(|(_, spread)| *spread).max().unwrap();
    // A check that is left out would take nothing at all.
    assert!(slowest - fastest <= noise.max(slowest / 2), "{middles:?}");
    gateway.store.close().await;
}
