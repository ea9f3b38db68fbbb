//! A tenant of 100,000 users, synced by the built server from a double of Microsoft Graph: time and memory.
//!
//! Run by `tests/real.sh`; alone: `cargo test --release --features real --test large_tenant -- --show-output`.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures are to be read")]

#[path = "support/entra_double.rs"]
mod entra_double;
#[path = "support/graph_double.rs"]
mod graph_double;
#[path = "support/http_double.rs"]
mod http_double;
#[path = "support/process_memory.rs"]
mod process_memory;
#[path = "support/daybook.rs"]
mod support;

use graph_double::Graph;
use process_memory::{forget_peak, memory_kib};
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::{Duration, Instant};
use support::{Server, Site, USERS, corpus, wait_until};

const PEOPLE: usize = 100_000;
/// When a sync has failed. How long it takes is printed.
const SYNC_MAX: Duration = Duration::from_secs(180);
/// How much memory a sync may take on top of what the server takes with these users, in KiB.
const SYNC_KIB_MAX: u64 = 512 * 1024;
/// When mail has waited for the directory, which it must not. How long it takes is printed.
const MAIL_MAX: Duration = Duration::from_secs(30);

struct Measured<'s> {
    site: &'s Site,
    server: &'s Server<'s>,
    address: String,
}

impl Measured<'_> {
    /// Syncs while mail comes, prints what it took, and gives what the command said of the tenant.
    fn sync(&self, what: &str) -> Value {
        let pid = self.server.pid();
        let before = memory_kib(pid, "VmRSS");
        forget_peak(pid);
        let mut command = self.site.command(&["user", "sync", "tenant", "--json"]);
        let began = Instant::now();
        let mut asking = command.stdout(Stdio::piped()).spawn().unwrap();
        // Read beside it: the answer is longer than a pipe holds.
        let mut stdout = asking.stdout.take().unwrap();
        let reader = std::thread::spawn(move || std::io::read_to_string(&mut stdout).unwrap());
        let (mut mails, mut slowest) = (0, Duration::ZERO);
        while asking.try_wait().unwrap().is_none() {
            let sent = Instant::now();
            assert!(self.server.send(&self.address, &corpus("demo/report.eml")).starts_with("250 "));
            (mails, slowest) = (mails + 1, slowest.max(sent.elapsed()));
        }
        let took = began.elapsed();
        let said: Value = serde_json::from_str(&reader.join().unwrap()).unwrap();
        let tenant = said["sources"][0].clone();
        let (peak, after) = (memory_kib(pid, "VmHWM"), memory_kib(pid, "VmRSS"));
        println!(
            "{what}: {:.2} s ({} requests, {} ms in the server); RSS {} MiB before, {} at most, {} after; {mails} mails meanwhile, \
             the slowest in {} ms",
            took.as_secs_f64(),
            tenant["requests"],
            tenant["took_ms"],
            before / 1_024,
            peak / 1_024,
            after / 1_024,
            slowest.as_millis()
        );
        assert!(took < SYNC_MAX, "{took:?}");
        assert!(peak < before + SYNC_KIB_MAX, "{peak} KiB");
        assert!(slowest < MAIL_MAX, "mail waited {slowest:?}");
        tenant
    }
}

#[test]
fn a_tenant_of_100_000_users_is_synced_while_mail_comes() {
    let (graph, address) = Graph::with_people(PEOPLE).start();
    let site = Site::with("", USERS);
    let section = graph_double::section(address, &site.path(""), "name = \"tenant\"\nevery_minutes = 0\n");
    let text = std::fs::read_to_string(site.path("daybook.toml")).unwrap();
    site.write("daybook.toml", &format!("{text}{section}"));
    let made = site.run(&["mailbox", "create", "--name", "Contoso", "--json"]).expect(0);
    let made: Value = serde_json::from_str(&made.stdout).unwrap();
    let mut server = site.serve();
    {
        let address = made["address"].as_str().unwrap().to_owned();
        let measured = Measured { site: &site, server: &server, address };
        let first = measured.sync("everybody is new");
        assert_eq!((&first["outcome"]["result"], &first["users"]), (&json!("applied"), &json!(PEOPLE)));
        assert_eq!(first["requests"], 101);
        let same = measured.sync("nobody has changed");
        assert_eq!(same["outcome"]["result"], "unchanged");
        // A page of people, each with another name.
        graph.twist(50, |page| {
            for user in page["value"].as_array_mut().unwrap() {
                user["displayName"] = json!(format!("{} married", user["displayName"].as_str().unwrap()));
            }
        });
        let renamed = measured.sync("999 have another name");
        assert_eq!((&renamed["outcome"]["result"], &renamed["users"]), (&json!("applied"), &json!(PEOPLE)));
    }
    assert_eq!(server.terminate(), 0);
    std::fs::remove_file(site.path("data/ports.json")).ok();
    let began = Instant::now();
    let server = site.serve();
    let serves = began.elapsed();
    let in_force = || {
        let status: Value = serde_json::from_str(&site.run(&["status", "--json"]).stdout).unwrap();
        status["directory"].as_array().unwrap().iter().any(|source| source["users"] == PEOPLE)
    };
    wait_until("the users that were kept", in_force);
    let on_disk = folder_octets(&site);
    println!(
        "started again: serves after {:.2} s, RSS {} MiB, {} MiB on disk",
        serves.as_secs_f64(),
        memory_kib(server.pid(), "VmRSS") / 1_024,
        on_disk / 1_048_576
    );
}

/// What is kept of the tenant.
fn folder_octets(site: &Site) -> u64 {
    let files = std::fs::read_dir(site.path("data/directory/tenant")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}
