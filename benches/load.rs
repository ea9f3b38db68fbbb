//! Group commit under load, and what it costs, in one run on one disk: the built server over SMTP with 1, 16 and 64 connections, the
//! same way without the socket with 1, 16, 64 and 128 writers, and an append with one fdatasync a group, which nothing that syncs
//! can beat. Then how long small reports wait while large ones are on their way in.
//!
//! Prints messages a second and their ratios, the time from the final dot to the 250, commands in a group, and octets written for
//! each octet received, as the store's metrics say and as Linux counts what the process sent to the disk.
//!
//! `COUNT` (2000) reports of 75 KB for each figure; `ROUNDS` (3), of which the median is shown; `LARGE` (150000000) octets of a large
//! report, 0 for none. TMPDIR is the disk in question: some gigabytes. The clients, threads of this process, share the processor.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stdout)]

#[path = "support/engines.rs"]
#[allow(dead_code, reason = "other benches use the rest")]
mod engines;
#[path = "support/gateway.rs"]
#[allow(dead_code, reason = "other benches use the rest")]
mod gateway;
#[path = "../tests/support/http.rs"]
mod http;
#[path = "support/reports.rs"]
mod reports;
#[path = "support/smtp_client.rs"]
#[allow(dead_code, reason = "other benches use the rest")]
mod smtp_client;
#[path = "../tests/support/daybook.rs"]
mod support;

use daybook::mail::Profile;
use engines::{BareLog, grouped};
use gateway::{Gateway, text};
use http::Scrape;
use reports::{Reports, deliver};
use smtp_client::{Client, share};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Server, Site};
use tokio::runtime::Runtime;

const REPORT_OCTETS: usize = 75_000;
const CONNECTIONS: [u64; 3] = [1, 16, 64];
const WRITERS: [u64; 4] = [1, 16, 64, 128];
/// Large reports on their way in at once, while small ones are timed.
const LARGE_CLIENTS: u64 = 2;
/// Connections that send the small ones.
const SMALL_CLIENTS: u64 = 4;

/// A number from the environment.
fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |value| value.parse().expect("a number"))
}

fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Median, lowest and highest.
fn spread(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    (figures[figures.len() / 2], figures[0], figures[figures.len() - 1])
}

fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// The time that `share` of them took at most, in milliseconds.
fn quantile(times: &[Duration], share: f64) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = (times.len().saturating_sub(1) as f64 * share) as usize;
    times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// `clients` connections that each send after the 250 of their last, together `count`; the times from the final dot to it.
fn send(server: &Server<'_>, to: &str, reports: &Reports, clients: u64, count: u64) -> Vec<Duration> {
    let address = server.port("smtp");
    std::thread::scope(|scope| {
        let work = |client| {
            scope.spawn(move || {
                let mut connection = Client::connect(address, None);
                let deliver = |_| connection.deliver(to, &reports.next());
                (0..share(client, clients, count)).map(deliver).collect::<Vec<_>>()
            })
        };
        let clients: Vec<_> = (0..clients).map(work).collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    })
}

/// What the server has done so far.
struct Done {
    groups: f64,
    commands: f64,
    received: f64,
    written: f64,
    /// As Linux counts it.
    to_disk: f64,
}

impl Done {
    fn by(server: &Server<'_>) -> Done {
        let scrape = Scrape::of(server.port("http"));
        let io =
            std::fs::read_to_string(format!("/proc/{}/io", server.pid())).expect("what it read and wrote");
        let to_disk = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).expect("what it wrote");
        Done {
            groups: scrape.value("daybook_store_group_size_count"),
            commands: scrape.value("daybook_store_group_size_sum"),
            received: scrape.value("daybook_store_received_octets_total"),
            written: scrape.total("daybook_store_written_octets_total"),
            to_disk: to_disk.parse().expect("a number"),
        }
    }
}

/// One row of the table of the server.
#[derive(Default)]
struct Served {
    rates: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    group: Vec<f64>,
    written: Vec<f64>,
    to_disk: Vec<f64>,
}

impl Served {
    fn measure(&mut self, server: &Server<'_>, to: &str, reports: &Reports, clients: u64, count: u64) {
        let before = Done::by(server);
        let started = Instant::now();
        let times = send(server, to, reports, clients, count);
        self.rates.push(per_second(count, started.elapsed()));
        let after = Done::by(server);
        let received = after.received - before.received;
        self.p50.push(quantile(&times, 0.5));
        self.p99.push(quantile(&times, 0.99));
        self.group.push((after.commands - before.commands) / (after.groups - before.groups));
        self.written.push((after.written - before.written) / received);
        self.to_disk.push((after.to_disk - before.to_disk) / received);
    }
}

/// A site whose connections last as long as their clients want, its server, and an address there.
fn site() -> Site {
    let site = Site::new();
    site.set_smtp("max_messages = 1000000");
    site
}

fn address(site: &Site) -> String {
    let made = site.run(&["mailbox", "create", "--name", "bench", "--json"]).expect(0).stdout;
    let (_, rest) = made.split_once("\"address\":\"").expect("an address");
    rest.split('"').next().expect("its end").to_owned()
}

/// In turn, round by round: a disk's mood lasts for minutes.
fn rates(count: u64, rounds: u64) {
    let runtime = Runtime::new().expect("a runtime");
    let reports = Arc::new(Reports::new(REPORT_OCTETS));
    let site = site();
    let server = site.serve();
    let to = address(&site);
    let warm = 200;
    send(&server, &to, &reports, 8, warm);
    let mut floor: Vec<Vec<f64>> = WRITERS.map(|_| Vec::new()).into();
    let mut store: Vec<Vec<f64>> = WRITERS.map(|_| Vec::new()).into();
    let mut served: Vec<Served> = CONNECTIONS.map(|_| Served::default()).into();
    for _ in 0..rounds {
        for (writers, (floor, store)) in WRITERS.into_iter().zip(floor.iter_mut().zip(&mut store)) {
            rustix::fs::sync();
            let dir = tempfile::tempdir().expect("a temporary directory");
            let mut log = BareLog::new(dir.path());
            floor.push(per_second(count, grouped(&mut log, writers, count, || reports.next())));
            drop((log, dir));
            rustix::fs::sync();
            let gateway = Gateway::new(&runtime, Profile::Microsoft365);
            store.push(per_second(count, deliver(&runtime, &gateway, &reports, writers, count)));
        }
        for (clients, served) in CONNECTIONS.into_iter().zip(&mut served) {
            rustix::fs::sync();
            served.measure(&server, &to, &reports, clients, count);
        }
    }
    println!("\n| writers | append + fdatasync a second | store a second | ratio |\n|---|---|---|---|");
    for (writers, (floor, store)) in WRITERS.into_iter().zip(floor.iter().zip(&store)) {
        let ((floor, low, high), (store, from, to)) = (spread(floor.clone()), spread(store.clone()));
        println!(
            "| {writers} | {floor:.0} ({low:.0}–{high:.0}) | {store:.0} ({from:.0}–{to:.0}) | {:.2} |",
            store / floor
        );
    }
    println!(
        "\n| connections | SMTP a second | p50, p99 from dot to 250 | in a group | written, to disk for each octet | to the store | to append |\n\
         |---|---|---|---|---|---|---|"
    );
    for (clients, served) in CONNECTIONS.into_iter().zip(served) {
        let at = WRITERS.iter().position(|writers| *writers == clients).expect("measured as well");
        let middle = |figures: Vec<f64>| spread(figures).0;
        let (rate, low, high) = spread(served.rates);
        println!(
            "| {clients} | {rate:.0} ({low:.0}–{high:.0}) | {:.1}, {:.1} ms | {:.1} | {:.2}, {:.2} | {:.2} | {:.2} |",
            middle(served.p50),
            middle(served.p99),
            middle(served.group),
            middle(served.written),
            middle(served.to_disk),
            rate / middle(store[at].clone()),
            rate / middle(floor[at].clone()),
        );
    }
}

/// A report of so many octets by a connection of its own, again and again until told to stop; how many there were.
fn send_large(server: &Server<'_>, to: &str, octets: u64, stop: &AtomicBool) -> u64 {
    // Once for all of them: what differs is its head.
    let body = text(usize::try_from(octets).expect("a size"));
    let mut client = Client::connect(server.port("smtp"), None);
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let head = format!("Message-ID: <large-{sent}-{:p}@example.com>\r\nSubject: large\r\n\r\n", stop);
        let report = [head.as_bytes(), body.as_bytes()].concat();
        client.deliver(to, &report);
        sent += 1;
    }
    sent
}

/// Small reports alone, and beside large ones.
fn beside_large(count: u64, rounds: u64, octets: u64) {
    let small = Reports::new(REPORT_OCTETS / 10);
    let site = site();
    let server = site.serve();
    let to = address(&site);
    send(&server, &to, &small, 8, 200);
    println!(
        "\n| small reports ({SMALL_CLIENTS} connections) | a second | p50 | p99 | longest |\n|---|---|---|---|---|"
    );
    for large in [0, 1, LARGE_CLIENTS] {
        let (mut rates, mut times, mut sent) = (Vec::new(), Vec::new(), 0);
        for _ in 0..rounds {
            rustix::fs::sync();
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let senders: Vec<_> =
                    (0..large).map(|_| scope.spawn(|| send_large(&server, &to, octets, &stop))).collect();
                let started = Instant::now();
                let mut all = 0;
                // At least as long as a few large ones take.
                while all < count || (large > 0 && started.elapsed() < Duration::from_secs(6)) {
                    times.extend(send(&server, &to, &small, SMALL_CLIENTS, count / 4));
                    all += count / 4;
                }
                rates.push(per_second(all, started.elapsed()));
                stop.store(true, Ordering::Relaxed);
                sent += senders.into_iter().map(|sender| sender.join().expect("a sender")).sum::<u64>();
            });
        }
        let longest = times.iter().max().copied().unwrap_or_default().as_secs_f64() * 1e3;
        println!(
            "| beside {large} senders of {} MB ({sent} taken) | {:.0} | {:.1} ms | {:.1} ms | {longest:.0} ms |",
            octets / 1_000_000,
            spread(rates).0,
            quantile(&times, 0.5),
            quantile(&times, 0.99),
        );
    }
}

fn main() {
    let (count, rounds, large) =
        (setting("COUNT", 2000), setting("ROUNDS", 3), setting("LARGE", 150_000_000));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "{count} reports of {REPORT_OCTETS} octets a figure, median of {rounds} rounds; {cores} cores, load {}",
        load()
    );
    if std::env::var_os("ONLY_LARGE").is_none() {
        rates(count, rounds);
    }
    if large > 0 {
        beside_large(count, rounds, large);
    }
    println!("\nload at the end {}", load());
}
