//! What a service manager hears of the built server, on a socket as `sd_notify(3)` describes it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/daybook.rs"]
mod support;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use support::{Server, Site, corpus, wait_until};

/// A watchdog interval that makes many signs of life.
const WATCHDOG_US: &str = "100000";

/// The manager's end: hears datagrams, each some lines.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn at(address: &SocketAddr) -> Manager {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        Manager { socket, heard: Vec::new() }
    }

    fn of(site: &Site) -> Manager {
        Manager::at(&SocketAddr::from_pathname(site.path("notify")).unwrap())
    }

    /// Waits for a datagram with a line that begins so, and forgets those before it.
    fn hears(&mut self, beginning: &str) -> String {
        let mut found = None;
        wait_until(beginning, || {
            let mut octets = [0; 4096];
            let Ok(length) = self.socket.recv(&mut octets) else { return false };
            let text = String::from_utf8(octets[..length].to_vec()).unwrap();
            self.heard.push(text.clone());
            found = text.lines().any(|line| line.starts_with(beginning)).then_some(text);
            found.is_some()
        });
        found.unwrap()
    }

    fn has_heard(&self, beginning: &str) -> bool {
        self.heard.iter().any(|text| text.lines().any(|line| line.starts_with(beginning)))
    }
}

fn serve(site: &Site) -> Command {
    let mut command = site.command(&["serve"]);
    command.env("NOTIFY_SOCKET", site.path("notify")).env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
    command
}

fn serve_watched(site: &Site) -> Command {
    let mut command = serve(site);
    command.env("WATCHDOG_USEC", WATCHDOG_US);
    command
}

#[test]
fn ready_is_told_when_all_that_ports_json_names_answers() {
    let site = Site::new();
    let mut manager = Manager::of(&site);
    let server = site.serve_by(serve(&site));
    let said = manager.hears("READY=1");
    assert!(site.path("data/ports.json").exists());
    let status = format!(
        "STATUS=serving smtp on {}, pop3 on {}, pop3s on {}, imap on {}, imaps on {}; 0 gateway mailboxes\n",
        server.port("smtp"),
        server.port("pop3"),
        server.port("pop3s"),
        server.port("imap"),
        server.port("imaps")
    );
    assert_eq!(said, format!("READY=1\n{status}"));
    site.run(&["readyz"]).expect(0);
}

#[test]
fn a_manager_with_an_abstract_name_hears_too() {
    let site = Site::new();
    let name = format!("daybook-test-notify-{}", std::process::id());
    let mut manager = Manager::at(&SocketAddr::from_abstract_name(&name).unwrap());
    let mut command = serve(&site);
    command.env("NOTIFY_SOCKET", format!("@{name}"));
    let _server = site.serve_by(command);
    manager.hears("READY=1");
}

#[test]
fn an_end_in_good_order_begins_with_stopping() {
    let site = Site::new();
    let mut manager = Manager::of(&site);
    let mut server = site.serve_by(serve(&site));
    manager.hears("READY=1");
    assert_eq!(server.terminate(), 0);
    let said = manager.hears("STOPPING=1");
    assert!(said.contains("EXTEND_TIMEOUT_USEC=90000000\n"), "{said}");
}

#[test]
fn a_manager_hears_how_long_a_longer_drain_may_take() {
    let site = Site::new();
    site.set_smtp("drain_seconds = 3600");
    let mut manager = Manager::of(&site);
    let mut server = site.serve_by(serve(&site));
    manager.hears("READY=1");
    assert_eq!(server.terminate(), 0);
    let said = manager.hears("STOPPING=1");
    assert!(said.contains("EXTEND_TIMEOUT_USEC=3660000000\n"), "{said}");
}

#[test]
fn a_hang_up_is_told_as_a_reload_that_ends() {
    let site = Site::new();
    let mut manager = Manager::of(&site);
    let server = site.serve_by(serve(&site));
    manager.hears("READY=1");
    for _ in 0..2 {
        server.signal("HUP");
        let said = manager.hears("RELOADING=1");
        let now = said.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
        assert!(now.parse::<u64>().unwrap() > 0, "{said}");
        manager.hears("READY=1");
    }
    server.wait_for("directory.reloaded");
}

#[test]
fn while_it_opens_it_asks_for_time() {
    let site = Site::new();
    fs::create_dir(site.path("data")).unwrap();
    let lock = File::create(site.path("data/lock")).unwrap();
    lock.lock().unwrap();
    let mut manager = Manager::of(&site);
    let _server = site.serve_by(serve_watched(&site));
    let said = manager.hears("EXTEND_TIMEOUT_USEC=");
    assert!(said.contains("STATUS=opening the store"), "{said}");
    drop(lock);
    manager.hears("READY=1");
    assert!(
        !manager.has_heard("WATCHDOG=1"),
        "the watchdog waits only for what is ready: {:?}",
        manager.heard
    );
}

#[test]
fn a_watchdog_hears_signs_of_life_and_what_is_served() {
    let site = Site::new();
    let mut manager = Manager::of(&site);
    let _server = site.serve_by(serve_watched(&site));
    manager.hears("READY=1");
    for _ in 0..5 {
        manager.hears("WATCHDOG=1");
    }
    site.run(&["mailbox", "create", "--name", "Contoso"]).expect(0);
    wait_until("the new gateway mailbox in the status", || {
        manager.hears("WATCHDOG=1").trim_end().ends_with("; 1 gateway mailbox")
    });
}

#[test]
fn a_disk_that_fails_is_no_reason_to_be_killed() {
    let site = Site::new();
    let mut manager = Manager::of(&site);
    let server = site.serve_by(serve_watched(&site));
    manager.hears("READY=1");
    let made = site.run(&["mailbox", "create", "--name", "Contoso", "--json"]).expect(0).stdout;
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let address = made["address"].as_str().unwrap();
    let message = corpus("demo/report.eml");
    let port = server.port("smtp");
    let send = || support::Smtp::connect(port).send(address, &message);
    // Gone, as the file system of a disk that was pulled.
    fs::rename(site.path("data"), site.path("gone")).unwrap();
    let refused = send();
    assert!(refused.starts_with("4"), "{refused}");
    for _ in 0..5 {
        manager.hears("WATCHDOG=1");
    }
    fs::rename(site.path("gone"), site.path("data")).unwrap();
    assert!(send().starts_with("250 "));
}

#[test]
fn signs_of_life_are_only_made_for_whoever_asked_for_them() {
    let site = Site::new();
    let mut manager = Manager::of(&site);
    let mut command = serve_watched(&site);
    command.env("WATCHDOG_PID", "1");
    let mut server = site.serve_by(command);
    manager.hears("READY=1");
    server.signal("HUP");
    manager.hears("RELOADING=1");
    assert_eq!(server.terminate(), 0);
    manager.hears("STOPPING=1");
    assert!(!manager.has_heard("WATCHDOG=1"), "{:?}", manager.heard);
}

#[test]
fn a_start_that_fails_says_why_and_is_never_ready() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = Site::new();
    let text = fs::read_to_string(site.path("daybook.toml")).unwrap();
    let address = format!("listen_tls = [\"{}\"]", taken.local_addr().unwrap());
    site.write("daybook.toml", &text.replacen("listen_tls = [\"127.0.0.1:0\"]", &address, 1));
    let mut manager = Manager::of(&site);
    let mut server = site.serve_by(serve(&site));
    assert_eq!(server.wait(), 3, "{}", server.log());
    let said = manager.hears("STATUS=pop3s: ");
    assert!(said.contains(&taken.local_addr().unwrap().to_string()), "{said}");
    assert!(!manager.has_heard("READY=1"));
    let mut octets = [0; 4096];
    assert!(manager.socket.recv(&mut octets).is_err(), "that stays the last word");
}

fn threads(server: &Server<'_>) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok()).collect()
}

#[test]
fn without_a_manager_nobody_is_told() {
    let site = Site::new();
    for socket in [None, Some(OsStr::new(""))] {
        let mut command = serve_watched(&site);
        match socket {
            Some(name) => command.env("NOTIFY_SOCKET", name),
            None => command.env_remove("NOTIFY_SOCKET"),
        };
        let mut server = site.serve_by(command);
        wait_until("readyz", || site.run(&["readyz"]).code == 0);
        assert!(!threads(&server).contains(&"notify\n".to_owned()), "{:?}", threads(&server));
        assert_eq!(server.terminate(), 0);
        assert!(!server.log().contains("service.manager_deaf"));
    }
}

#[test]
fn a_manager_that_does_not_listen_stops_nothing() {
    let site = Site::new();
    let mut server = site.serve_by(serve_watched(&site));
    server.wait_for("service.manager_deaf");
    wait_until("readyz", || site.run(&["readyz"]).code == 0);
    assert!(threads(&server).contains(&"notify\n".to_owned()));
    assert_eq!(server.terminate(), 0);
    assert_eq!(server.log().matches("service.manager_deaf").count(), 1, "{}", server.log());
}
