//! A disk that somebody else fills to the last octet: mail waits, and everything else goes on. On a tmpfs of its own; root.

use super::load::report;
use super::support::{Server, Site, USERS, wait_until};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;

const DISK: &str = "size=96m";
const SECTIONS: &str = "[store]\nballast_bytes = 16777216\n";
/// Visits in which something is written before not even the ballast has room; each takes an octet or two of it.
const VISITS_MAX: usize = 400;

/// `data_dir` on a file system of its own.
struct SmallDisk<'s> {
    site: &'s Site,
}

impl SmallDisk<'_> {
    fn under(site: &Site) -> SmallDisk<'_> {
        let data = site.path("data");
        fs::create_dir(&data).unwrap();
        let mount = ["-t", "tmpfs", "-o", DISK, "daybook-test"];
        assert!(Command::new("mount").args(mount).arg(&data).status().unwrap().success(), "this needs root");
        SmallDisk { site }
    }

    fn filler(&self, name: &str) -> PathBuf {
        self.site.path("data").join(name)
    }

    /// Writes until not an octet is left.
    fn fill(&self, name: &str) {
        let mut file = File::create(self.filler(name)).unwrap();
        let mut piece = vec![0xa5; 1 << 20];
        while !piece.is_empty() {
            match file.write(&piece) {
                Ok(1..) => {}
                Err(error) if error.kind() != io::ErrorKind::StorageFull => panic!("{error}"),
                _ => piece.truncate(piece.len() / 2),
            }
        }
    }

    fn empty(&self, name: &str) {
        fs::remove_file(self.filler(name)).unwrap();
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Whoever works there is killed later.
        Command::new("umount").arg("--lazy").arg(self.site.path("data")).status().ok();
    }
}

struct Account {
    address: String,
    login: String,
    password: String,
}

fn account(site: &Site) -> Account {
    let made = site.run(&["mailbox", "create", "--name", "Contoso", "--json"]).expect(0);
    let made: Value = serde_json::from_str(&made.stdout).unwrap();
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    Account { address: text("address"), login: text("login"), password: text("password") }
}

/// Fetches the first message, and deletes it if that is asked for; gives the answer to QUIT.
fn visit(server: &Server<'_>, account: &Account, first: &[u8], delete: bool) -> io::Result<String> {
    let mut pop3s = server.pop3s(&account.login, &account.password).unwrap();
    assert!(pop3s.retrieve(1) == first, "not the octets that were sent");
    if delete {
        pop3s.say("DELE 1").unwrap();
    }
    pop3s.say("QUIT")
}

fn count(server: &Server<'_>, account: &Account) -> usize {
    server.pop3s(&account.login, &account.password).unwrap().count()
}

#[test]
fn on_a_disk_filled_by_somebody_else_mail_waits_and_all_else_goes_on() {
    let site = Site::with(SECTIONS, USERS);
    site.set_smtp("max_message_bytes = 1048576");
    let disk = SmallDisk::under(&site);
    let mut server = site.serve();
    let account = account(&site);
    let ballast = site.path("data/ballast");
    wait_until("the ballast", || ballast.exists());
    let sent: Vec<Vec<u8>> = (0..4).map(|n| report(&format!("ballast-{n}"), 5_000).octets).collect();
    for octets in &sent {
        assert!(server.send(&account.address, octets).starts_with("250 "));
    }
    let new = report("ballast-new", 5_000).octets;
    let is_refused = |server: &Server<'_>| {
        let reply = server.send(&account.address, &new);
        assert!(reply.starts_with("452 4.3.1"), "{reply}");
    };

    disk.fill("filler");
    is_refused(&server);
    assert!(ballast.exists(), "mail may not have it");
    visit(&server, &account, &sent[0], true).unwrap();
    site.run(&["mailbox", "set", &account.login, "name=Fabrikam"]).expect(0);
    assert!(!ballast.exists());
    server.wait_for("store.ballast_given_up");
    is_refused(&server);
    assert_eq!(count(&server, &account), 3);

    // Not even what was in it is left: messages are fetched, and nobody is told that one was deleted.
    disk.fill("another");
    let is_unrecorded = |server: &Server<'_>| server.log().contains("\"event\":\"fetch.unrecorded\"");
    let visits = (0..VISITS_MAX).take_while(|_| !is_unrecorded(&server));
    visits.for_each(|_| drop(visit(&server, &account, &sent[1], false).unwrap()));
    assert!(is_unrecorded(&server));
    let refused = visit(&server, &account, &sent[1], true).unwrap_err().to_string();
    assert!(refused.contains("nothing was deleted"), "{refused}");
    assert_eq!(count(&server, &account), 3);

    disk.empty("filler");
    disk.empty("another");
    wait_until("the ballast again", || ballast.exists());
    wait_until("room for mail", || server.send(&account.address, &new).starts_with("250 "));
    visit(&server, &account, &sent[1], true).unwrap();

    // A start on a full disk gives it up too, and serves what is there.
    server.kill();
    disk.empty("ports.json");
    disk.fill("filler");
    let server = site.serve();
    visit(&server, &account, &sent[2], true).unwrap();
    is_refused(&server);
    disk.empty("filler");
    wait_until("the ballast once more", || ballast.exists());
    wait_until("room for mail", || server.send(&account.address, &new).starts_with("250 "));
    assert_eq!(count(&server, &account), 2, "what came again is held already");
}
