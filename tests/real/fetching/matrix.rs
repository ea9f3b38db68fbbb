//! All clients on all ports, and the table of the README.

use super::messages::{late, ordinary};
use super::visit::{Visit, deliver, trails};
use super::{CLIENTS, Client, PORTS, Protocol, Tls};
use crate::gateway::Gateway;
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

/// Clients at work at the same time.
const AT_ONCE: usize = 4;

/// Between these lines the README has the table.
const BEGIN: &str = "<!-- What clients were tried with: made by tests/real/fetching/matrix.rs -->\n";
const END: &str = "<!-- What clients were tried with: end -->\n";

/// A client on a port.
pub(super) type Cell<'c> = (&'c dyn Client, Protocol, Tls);

/// Those of all cells that can be.
pub(super) fn cells<'c>(clients: &[&'c dyn Client]) -> Vec<Cell<'c>> {
    let cell = |client: &&'c dyn Client| {
        let client = *client;
        let can = PORTS.into_iter().filter(move |(protocol, tls)| client.can(*protocol, *tls));
        can.map(move |(protocol, tls)| (client, protocol, tls))
    };
    clients.iter().flat_map(cell).collect()
}

fn why(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}

/// Does `work` with each, some at a time; in the order of `all`.
pub(super) fn with_each<T: Sync, R: Send>(all: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let queue = Mutex::new(all.iter().enumerate());
    let done = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().next();
                    let Some((number, one)) = next else { return };
                    let result = work(one);
                    done.lock().unwrap().insert(number, result);
                }
            });
        }
    });
    done.into_inner().unwrap().into_values().collect()
}

/// Runs the cells over messages, each with a gateway mailbox of its own; fails with all that went wrong.
pub(super) fn run_all(cells: &[Cell<'_>], messages: &[Vec<u8>]) {
    let gateway = Gateway::start();
    let visits = with_each(cells, |(_, protocol, tls)| {
        Visit::new(&gateway, gateway.create_account(), *protocol, *tls)
    });
    deliver(&gateway, &visits.iter().map(|visit| &visit.account).collect::<Vec<_>>(), messages);
    let runs: Vec<_> = cells.iter().zip(&visits).collect();
    let results = with_each(&runs, |((client, ..), visit)| {
        let gone = catch_unwind(AssertUnwindSafe(|| visit.go(*client, messages, late())));
        gone.unwrap_or_else(|panic| Err(why(panic.as_ref())))
    });
    let mut wrong = String::new();
    let mut good = Vec::new();
    for (((client, protocol, tls), visit), result) in runs.iter().zip(results) {
        match result {
            Ok(()) => good.push(*visit),
            Err(why) => writeln!(wrong, "{} by {protocol:?}, {tls:?}: {why}", client.name()).unwrap(),
        }
    }
    let all: Vec<Vec<u8>> = messages.iter().cloned().chain([late()]).collect();
    let trails = trails(&gateway, &good, &all);
    for ((client, protocol, tls), visit) in &runs {
        if let Some(why) = trails.get(&visit.account.address) {
            writeln!(wrong, "{} by {protocol:?}, {tls:?}: {why}", client.name()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn column(protocol: Protocol, tls: Tls) -> &'static str {
    match (protocol, tls) {
        (Protocol::Pop3, Tls::Upgrade) => "POP3, STLS",
        (Protocol::Pop3, Tls::Implicit) => "POP3, TLS",
        (Protocol::Imap, Tls::Upgrade) => "IMAP, STARTTLS",
        (Protocol::Imap, Tls::Implicit) => "IMAP, TLS",
    }
}

/// The table, of the cells that ran.
fn table(ran: &[Cell<'_>]) -> String {
    let ports = PORTS.map(|(protocol, tls)| column(protocol, tls));
    let rule = "|---".repeat(ports.len() + 2);
    let mut table = format!("| client | {} | its own ways |\n{rule}|\n", ports.join(" | "));
    for client in CLIENTS {
        write!(table, "| {} |", client.name()).unwrap();
        for port in PORTS {
            let did = |cell: &&Cell<'_>| cell.0.name() == client.name() && (cell.1, cell.2) == port;
            table.push_str(if ran.iter().any(|cell| did(&cell)) { " ✓ |" } else { " – |" });
        }
        writeln!(table, " {} |", client.ways()).unwrap();
    }
    table
}

#[test]
fn every_client_fetches_keeps_and_deletes_and_the_readme_says_so() {
    let messages = ordinary();
    assert!(messages.len() >= 12);
    let cells = cells(&CLIENTS);
    run_all(&cells, &messages);
    let table = table(&cells);
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let written = readme.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(table, _)| table);
    assert!(written == Some(table.as_str()), "README should have\n{BEGIN}{table}{END}");
}
