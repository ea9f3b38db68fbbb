//! Five hundred clients that send one octet at a time, in every place where the server waits for a peer: all are cut off, and
//! somebody who sends mail meanwhile does not notice.
//!
//! With the server's deadlines set to seconds. `DAYBOOK_LONG=1` takes them as they are unless told otherwise, with an octet every
//! ten seconds: some six minutes. How long a delivery may take beside them is judged by `tests/real.sh` alone (feature `real`), on the
//! optimised server.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures are to be read")]

#[path = "support/daybook.rs"]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::{Site, corpus};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Barrier;

/// Of each kind.
const CLIENTS: usize = 125;
/// What the deliveries beside them may take, at the 99th percentile.
const P99_MAX: Duration = Duration::from_secs(2);
/// Fewer deliveries than this have no 99th percentile to speak of.
const DELIVERIES_MIN: usize = 100;
/// A delivery counts as one beside the slow ones while so many of them are connected.
const BESIDE_MIN: usize = 4 * CLIENTS / 2;

/// The seconds the server is given, between two octets, and for all clients to be cut off.
struct Pace {
    smtp: &'static str,
    drip: Duration,
    all_cut: Duration,
}

fn pace() -> Pace {
    let connections = "max_connections_per_address = 1000\nmax_connections_per_network = 1000\n";
    if std::env::var("DAYBOOK_LONG").is_ok_and(|value| value == "1") {
        let (drip, all_cut) = (Duration::from_secs(10), Duration::from_secs(400));
        return Pace { smtp: connections, drip, all_cut };
    }
    // Time for enough deliveries where they are judged.
    let seconds = if cfg!(feature = "real") { 10 } else { 5 };
    let deadlines = ["command", "handshake", "data_idle", "data_grace"];
    let deadlines: String = deadlines.map(|what| format!("{what}_seconds = {seconds}\n")).concat();
    let smtp = Box::leak(format!("{connections}{deadlines}").into_boxed_str());
    Pace { smtp, drip: Duration::from_millis(100), all_cut: Duration::from_secs(60) }
}

/// Where a client begins to be slow.
#[derive(Clone, Copy, Debug)]
enum Slow {
    Command,
    Data,
    Bdat,
    Handshake,
}

/// What it says first, and how many lines it hears; what it sends then, octet by octet, and over again.
fn script(slow: Slow, to: &str) -> (String, usize, &'static [u8]) {
    let envelope = format!("HELO client.example\r\nMAIL FROM:<>\r\nRCPT TO:<{to}>\r\n");
    match slow {
        Slow::Command => (String::new(), 1, b"NOOP without end "),
        // Only what an octet at a time can be: no line is too long, no mail ends.
        Slow::Data => (format!("{envelope}DATA\r\n"), 5, b"x\r\n"),
        Slow::Bdat => (format!("{envelope}BDAT 1000000 LAST\r\n"), 4, b"x"),
        // A record of TLS 1.2 with a ClientHello of 512 octets.
        Slow::Handshake => (
            "EHLO client.example\r\nSTARTTLS\r\n".to_owned(),
            10,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03x",
        ),
    }
}

/// Sends slowly until the server hangs up; gives what it said at the end.
async fn be_slow(slow: Slow, smtp: SocketAddr, to: Arc<str>, drip: Duration, all_in: Arc<Barrier>) -> String {
    let (opening, lines, octets) = script(slow, &to);
    let (read, mut write) = TcpStream::connect(smtp).await.unwrap().into_split();
    let mut read = BufReader::new(read);
    write.write_all(opening.as_bytes()).await.unwrap();
    let mut line = String::new();
    for _ in 0..lines {
        line.clear();
        read.read_line(&mut line).await.unwrap();
        assert!(line.starts_with(['2', '3']), "{slow:?}: {line:?}");
    }
    all_in.wait().await;
    let dripping = async {
        let mut ticks = tokio::time::interval(drip);
        for octet in octets.iter().cycle() {
            ticks.tick().await;
            if write.write_all(&[*octet]).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let mut said = Vec::new();
    // A reset is an end too.
    tokio::select! {
        () = dripping => {}
        _ = read.read_to_end(&mut said) => {}
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn five_hundred_slow_clients_are_cut_off_and_nobody_else_is_slowed_down() {
    let Pace { smtp: keys, drip, all_cut } = pace();
    let site = Site::new();
    site.set_smtp(keys);
    let made = site.run(&["mailbox", "create", "--name", "Contoso", "--json"]).expect(0);
    let made: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
    let to: Arc<str> = made["address"].as_str().unwrap().into();
    let server = site.serve();
    let (smtp, report) = (server.port("smtp"), corpus("demo/report.eml"));

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let kinds = [Slow::Command, Slow::Data, Slow::Bdat, Slow::Handshake];
    let all_in = Arc::new(Barrier::new(kinds.len() * CLIENTS + 1));
    let cut = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = kinds
        .into_iter()
        .flat_map(|slow| std::iter::repeat_n(slow, CLIENTS))
        .map(|slow| {
            let (to, all_in, cut) = (Arc::clone(&to), Arc::clone(&all_in), Arc::clone(&cut));
            runtime.spawn(async move {
                let said = be_slow(slow, smtp, to, drip, all_in).await;
                cut.fetch_add(1, Ordering::SeqCst);
                (slow, said)
            })
        })
        .collect();
    runtime
        .block_on(async { tokio::time::timeout(all_cut, all_in.wait()).await.expect("all are connected") });

    let began = Instant::now();
    let connected = || clients.len() - cut.load(Ordering::SeqCst);
    let (mut took, mut others) = (Vec::new(), 0);
    while connected() > 0 {
        assert!(began.elapsed() < all_cut, "{} of {} are still there", connected(), clients.len());
        let clock = Instant::now();
        let reply = server.send(&to, &report);
        assert!(reply.starts_with("250 "), "{reply}");
        if connected() >= BESIDE_MIN { took.push(clock.elapsed()) } else { others += 1 }
    }
    let seconds = began.elapsed().as_secs_f64();
    for client in clients {
        let (slow, said) = runtime.block_on(client).unwrap();
        // Who is in a handshake cannot be told anything.
        let expect = if matches!(slow, Slow::Handshake) { "" } else { "421 4.4.2 " };
        assert!(said.starts_with(expect) && said.lines().count() <= 1, "{slow:?}: {said:?}");
    }
    assert!(!took.is_empty(), "nothing was delivered beside them");
    took.sort();
    let p99 = took[took.len() * 99 / 100];
    println!(
        "{} slow clients cut off in {seconds:.1} s; {} deliveries beside at least {BESIDE_MIN} of them: median {:?}, p99 {p99:?}; \
         {others} beside fewer",
        kinds.len() * CLIENTS,
        took.len(),
        took[took.len() / 2],
    );
    if cfg!(feature = "real") {
        assert!(took.len() >= DELIVERIES_MIN && p99 < P99_MAX, "p99 of {} is {p99:?}", took.len());
    }
}
