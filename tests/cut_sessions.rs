//! POP3 sessions over the embedded store that are cut at random octets after DELE, by the client or by the server's end:
//! nothing goes without a QUIT that came whole, nothing goes by halves, and nothing goes without a deletion on record.
//!
//! Each session costs a password hash: `DAYBOOK_LONG=1` plays 1,000, otherwise 80 are played.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

#[path = "support/delivery.rs"]
mod delivery;
#[path = "support/dice.rs"]
mod dice;
#[path = "support/fetch_gateway.rs"]
mod fetch_gateway;

use daybook::net::drain::Drain;
use dice::Dice;
use fetch_gateway::Gateway;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

const SOON: Duration = Duration::from_secs(60);
/// Messages in INBOX before each session.
const MESSAGES: usize = 4;

/// How a session ends.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// The client is gone, both ways.
    Gone,
    /// It says no more, but reads to the end.
    HalfClosed,
    /// The server goes down.
    Drain,
    /// The client waits until its deletes are done, if they will be, and is gone without having read the answer.
    Unread,
}

const CUTS: [Cut; 4] = [Cut::Gone, Cut::HalfClosed, Cut::Drain, Cut::Unread];

/// Plays one session up to `octets` of the script; gives what was read.
async fn play(gateway: &Gateway, script: &[u8], octets: usize, cut: Cut) -> String {
    let drain = Drain::new();
    let (client, served) = gateway.connect(&drain);
    let (reader, mut writer) = tokio::io::split(client);
    let mut reader = BufReader::new(reader);
    let mut read = String::new();
    writer
        .write_all(format!("USER {}\r\nPASS {}\r\n", gateway.mailbox.login(), gateway.password).as_bytes())
        .await
        .unwrap();
    for _ in 0..3 {
        reader.read_line(&mut read).await.unwrap();
    }
    assert!(read.contains("+OK 4 messages"), "{read}");
    writer.write_all(script.get(..octets).unwrap()).await.unwrap();
    match cut {
        Cut::Gone => drop((reader, writer)),
        Cut::Unread => {
            let done = async {
                while octets == script.len() && gateway.inbox().len() == MESSAGES {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(SOON, done).await.unwrap();
            drop((reader, writer));
        }
        Cut::HalfClosed => {
            writer.shutdown().await.unwrap();
            reader.read_to_string(&mut read).await.unwrap();
        }
        Cut::Drain => {
            drain.start();
            reader.read_to_string(&mut read).await.unwrap();
            // The server lingers for as long as the client may still say something.
            writer.shutdown().await.unwrap();
        }
    }
    tokio::time::timeout(SOON, served).await.unwrap().unwrap();
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_cut_at_random_octets_take_nothing_out_unless_quit_came_whole() {
    let is_long = std::env::var("DAYBOOK_LONG").is_ok_and(|value| value == "1");
    let rounds = if is_long { 1_000 } else { 80 };
    let mut gateway = Gateway::new().await;
    let mut dice = Dice::new(8);
    let (mut without_quit, mut kept, mut gone) = (0, 0, 0);
    for round in 0..rounds {
        let before = gateway.fill(MESSAGES).await;
        let script = b"DELE 1\r\nRETR 2\r\nDELE 3\r\nNOOP\r\nQUIT\r\n";
        // From behind the first DELE; the end more often, since that is where it matters.
        let from = b"DELE 1\r\n".len();
        let rest = u64::try_from(script.len() - from + 1).unwrap();
        let octets =
            if dice.below(3) == 0 { script.len() } else { from + usize::try_from(dice.below(rest)).unwrap() };
        let cut = CUTS[usize::try_from(dice.below(4)).unwrap()];
        let told = format!("round {round}: {octets} of {} octets, then {cut:?}", script.len());
        let read = play(&gateway, script, octets, cut).await;
        let after = gateway.inbox();

        let went: Vec<u32> = before.keys().filter(|uid| !after.contains_key(uid)).copied().collect();
        let uids: Vec<u32> = before.keys().copied().collect();
        let is_whole = octets == script.len();
        if went.is_empty() {
            assert!(!read.contains("2 messages deleted"), "{told}: not done but told");
            *(if is_whole { &mut kept } else { &mut without_quit }) += 1;
        } else {
            assert!(is_whole, "{told}: {went:?} went without QUIT");
            assert_eq!(went, [uids[0], uids[2]], "{told}");
            assert!(
                went.iter().all(|uid| gateway.is_deletion_on_record(before[uid])),
                "{told}: not on record"
            );
            gone += 1;
        }
        if is_whole && matches!(cut, Cut::HalfClosed) {
            assert!(read.ends_with("+OK 2 messages deleted, bye\r\n"), "{told}: {read}");
        }
    }
    println!(
        "{rounds} sessions: {without_quit} cut before QUIT kept all, of those with QUIT {gone} took out both and {kept} nothing"
    );
    assert!(without_quit > rounds / 3 && gone > rounds / 10);
    let Gateway { store, dir, .. } = gateway;
    store.close().await;
    drop(dir);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_sessions_that_race_one_gets_in_and_the_other_is_told_why() {
    let mut gateway = Gateway::new().await;
    gateway.fill(MESSAGES).await;
    for round in 0..10 {
        let drain = Drain::new();
        let mut racers = Vec::new();
        for _ in 0..2 {
            let (client, served) = gateway.connect(&drain);
            let login = format!("USER {}\r\nPASS {}\r\n", gateway.mailbox.login(), gateway.password);
            racers.push(tokio::spawn(async move {
                let mut client = BufReader::new(client);
                client.write_all(login.as_bytes()).await.unwrap();
                let mut read = String::new();
                for _ in 0..3 {
                    client.read_line(&mut read).await.unwrap();
                }
                (read, client, served)
            }));
        }
        let mut outcomes = Vec::new();
        for racer in racers {
            outcomes.push(racer.await.unwrap());
        }
        let count = |text: &str| outcomes.iter().filter(|(read, ..)| read.contains(text)).count();
        assert_eq!((count("+OK 4 messages"), count("-ERR [IN-USE] ")), (1, 1), "round {round}");
        for (_, client, served) in outcomes {
            drop(client);
            served.await.unwrap();
        }
    }
    assert_eq!(gateway.inbox().len(), MESSAGES);
}
