//! What is stored is read again while the server runs: damage is named once, alarmed, and stops nothing else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/daybook.rs"]
mod support;

#[path = "support/load.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod load;

use load::report;
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use support::{Server, Site, USERS, wait_until};

/// So fast that no test waits for it.
const FAST: &str = "[store]\nscrub_bytes_per_second = 1099511627776\n";
/// What every sealed object begins with.
const SEALED: &[u8] = b"age-encryption.org/v1";

struct Account {
    address: String,
    login: String,
    password: String,
}

fn json(site: &Site, arguments: &[&str], code: i32) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    serde_json::from_str(&site.run(&arguments).expect(code).stdout).unwrap()
}

fn create(site: &Site) -> Account {
    let made = json(site, &["mailbox", "create", "--name", "Contoso"], 0);
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    // Nothing but INBOX, so that a client that deletes leaves nothing behind.
    let login = text("login");
    site.run(&["mailbox", "set", &login, "archive=false"]).expect(0);
    Account { address: text("address"), login, password: text("password") }
}

/// Flips a bit `behind` octets behind the beginning of the first sealed object in a file; gives where, to flip it back.
fn rot(path: PathBuf, behind: usize) -> (PathBuf, u64) {
    let octets = fs::read(&path).unwrap();
    let at = octets.windows(SEALED.len()).position(|window| window == SEALED).unwrap() + behind;
    flip(&path, at as u64);
    (path, at as u64)
}

fn flip(path: &PathBuf, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut octet = [0];
    file.read_exact_at(&mut octet, at).unwrap();
    file.write_all_at(&[octet[0] ^ 1], at).unwrap();
}

fn segment(site: &Site) -> PathBuf {
    let log = fs::read_dir(site.path("data/log")).unwrap().map(|entry| entry.unwrap().path());
    let holds = |path: &PathBuf| {
        let octets =
            if path.extension().is_some_and(|e| e == "seg") { fs::read(path).unwrap() } else { Vec::new() };
        octets.windows(SEALED.len()).any(|window| window == SEALED)
    };
    log.into_iter().find(holds).unwrap()
}

fn content_file(site: &Site) -> PathBuf {
    let shards = fs::read_dir(site.path("data/content")).unwrap().map(|entry| entry.unwrap().path());
    let mut files = shards.flat_map(|shard| fs::read_dir(shard).unwrap()).map(|entry| entry.unwrap().path());
    files.next().unwrap()
}

/// Has everything read again, and gives how it stands once that is done.
fn scrub(site: &Site) -> Value {
    let passes = |status: &Value| status["last"]["ended"].as_str().map(str::to_owned);
    let status = || {
        let outcome = site.run(&["scrub", "--json"]);
        serde_json::from_str::<Value>(&outcome.stdout).unwrap_or_else(|_| panic!("{outcome:?}"))
    };
    let before = passes(&status());
    site.run(&["scrub", "--now"]);
    wait_until("a pass", || {
        let now = status();
        now["pass"].is_null() && passes(&now) != before
    });
    status()
}

/// Nobody can have back what is deleted.
fn free_what_is_deleted(site: &Site, account: &Account) {
    site.run(&["mailbox", "set", &account.login, "grace_days=0", "--yes"]).expect(0);
    site.run(&["retention", "run"]).expect(0);
}

fn alarms(site: &Site) -> Vec<String> {
    let outcome = site.run(&["status", "--json"]);
    let status: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let alarms = status["alarms"].as_array().unwrap().iter();
    alarms.map(|alarm| alarm["alarm"].as_str().unwrap().to_owned()).collect()
}

fn events(server: &Server<'_>, event: &str) -> Vec<Value> {
    let lines = server.log();
    // The last may be just being written.
    let whole = lines.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let all = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|line| line["event"] == event).collect()
}

fn accept(server: &Server<'_>, account: &Account, octets: &[u8]) -> String {
    let reply = server.send(&account.address, octets);
    reply.strip_prefix("250 2.0.0 Ok ").unwrap_or_else(|| panic!("{reply}")).to_owned()
}

#[test]
fn damage_is_named_once_and_alarmed_while_all_other_mail_goes_on() {
    let site = Site::with(FAST, USERS);
    let account = create(&site);
    let mut server = site.serve();
    let [small, large, other] = [("small", 3_000), ("large", 1_500_000), ("other", 3_000)]
        .map(|(name, octets)| report(name, octets).octets);
    let receipts = [&small, &large, &other].map(|octets| accept(&server, &account, octets));
    let whole = scrub(&site);
    assert_eq!((&whole["damaged"], &whole["last"]["unlisted"]), (&0.into(), &0.into()), "{whole}");
    assert!(whole["last"]["octets"].as_u64().unwrap() > 1_500_000, "{whole}");
    assert_eq!(alarms(&site), Vec::<String>::new());

    let rotten = [rot(segment(&site), 600), rot(content_file(&site), 70_000)];
    let found = scrub(&site);
    assert_eq!(found["damaged"], 2, "{found}");
    site.run(&["scrub"]).expect(1);
    server.log_with("\"event\":\"store.damaged\"", 2);
    let named = events(&server, "store.damaged");
    let named_as =
        |n: usize| (named[n]["receipt_id"].as_str().unwrap(), named[n]["placements"].as_str().unwrap());
    assert_eq!(named.len(), 2, "{named:?}");
    assert_eq!([named_as(0), named_as(1)], [(&*receipts[0], "INBOX:1"), (&*receipts[1], "INBOX:2")]);
    assert!(
        named.iter().all(|line| line["mailbox"] == account.login && line["level"] == "ERROR"),
        "{named:?}"
    );
    assert!(named[1]["place"].as_str().unwrap().starts_with("content/"), "{named:?}");
    assert_eq!(alarms(&site), ["store-damaged"]);
    let page = site.run(&["status"]).expect(1).stdout;
    assert!(page.contains("DAMAGED: 2") && page.contains(named[1]["place"].as_str().unwrap()), "{page}");

    // What is damaged never passes for mail, what is not goes on, and a copy that comes again is stored anew.
    accept(&server, &account, &report("later", 3_000).octets);
    accept(&server, &account, &small);
    let mut pop3s = server.pop3s(&account.login, &account.password).unwrap();
    assert_eq!(pop3s.count(), 5);
    for damaged in [1, 2] {
        let refused = pop3s.say(&format!("RETR {damaged}")).unwrap_err().to_string();
        assert!(refused.contains("[SYS/PERM] message is damaged"), "{refused}");
    }
    for (number, octets) in [(3, &other), (4, &report("later", 3_000).octets), (5, &small)] {
        assert!(pop3s.retrieve(number) == *octets, "message {number}");
    }
    pop3s.quit();

    // Neither a further pass nor a restart names it again; the alarm stays.
    scrub(&site);
    assert_eq!(server.terminate(), 0);
    let server = site.serve();
    assert_eq!(scrub(&site)["damaged"], 2);
    server.wait_for("store.scrubbed");
    assert_eq!(
        (events(&server, "store.damaged").len(), alarms(&site)),
        (0, vec!["store-damaged".to_owned()])
    );

    rotten.iter().for_each(|(path, at)| flip(path, *at));
    assert_eq!(scrub(&site)["damaged"], 0);
    server.log_with("\"event\":\"store.damage_over\"", 2);
    assert_eq!(alarms(&site), Vec::<String>::new());
}

#[test]
fn damage_ends_when_nobody_can_ask_for_that_mail_or_an_admin_closes_it() {
    let site = Site::with(FAST, USERS);
    let account = create(&site);
    let server = site.serve();
    ["one", "two"].iter().for_each(|name| drop(accept(&server, &account, &report(name, 1_500_000).octets)));
    let shards = site.path("data/content");
    let mut files: Vec<PathBuf> = fs::read_dir(&shards)
        .unwrap()
        .flat_map(|shard| fs::read_dir(shard.unwrap().path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert_eq!(files.len(), 2);
    // One is cut short and one is not there.
    OpenOptions::new().write(true).open(&files[0]).unwrap().set_len(1_000).unwrap();
    fs::remove_file(&files[1]).unwrap();
    let found = scrub(&site);
    let things = found["things"].as_array().unwrap();
    assert_eq!((things.len(), &found["damaged"]), (2, &2.into()), "{found}");

    let refused = site.run(&["scrub", "--close", "log/00000099.seg"]).expect(1).stderr;
    assert!(refused.contains("nothing there is known to be damaged"), "{refused}");
    let place = |n: usize| things[n]["place"].as_str().unwrap();
    let closed = json(&site, &["scrub", "--close", place(0)], 1);
    assert_eq!(closed["damaged"], 1, "{closed}");
    let both = scrub(&site);
    assert_eq!((&both["damaged"], both["things"].as_array().unwrap().len()), (&1.into(), 2), "{both}");

    let mut pop3s = server.pop3s(&account.login, &account.password).unwrap();
    ["DELE 1", "DELE 2"].iter().for_each(|command| drop(pop3s.say(command).unwrap()));
    pop3s.quit();
    let deleted = scrub(&site);
    assert_eq!(deleted["damaged"], 1, "it can still be had back: {deleted}");
    free_what_is_deleted(&site, &account);
    let over = scrub(&site);
    assert_eq!((&over["damaged"], over["things"].as_array().unwrap().len()), (&0.into(), 0), "{over}");
    assert_eq!(alarms(&site), Vec::<String>::new());
}

#[test]
fn damage_of_content_that_is_shared_lasts_as_long_as_a_message_needs_it() {
    let site = Site::with(FAST, USERS);
    let account = create(&site);
    let server = site.serve();
    let first = report("shared", 1_500_000).octets;
    // A fork: the same original, to others.
    let mut fork = first.clone();
    for (from, to) in [(&b"<journal-shared@"[..], &b"<journal-shares@"[..]), (b"Bcc: carol@", b"Bcc: peter@")]
    {
        let at = fork.windows(from.len()).position(|window| window == from).unwrap();
        fork[at..at + to.len()].copy_from_slice(to);
    }
    [&first, &fork].iter().for_each(|octets| drop(accept(&server, &account, octets)));
    let files = fs::read_dir(site.path("data/content")).unwrap();
    let files = files.flat_map(|shard| fs::read_dir(shard.unwrap().path()).unwrap()).count();
    assert_eq!(files, 1, "the original is not shared: the test shows nothing");
    rot(content_file(&site), 70_000);
    assert_eq!(scrub(&site)["damaged"], 1);
    for damaged in [1, 0] {
        let mut pop3s = server.pop3s(&account.login, &account.password).unwrap();
        pop3s.say("DELE 1").unwrap();
        pop3s.quit();
        let found = scrub(&site);
        assert_eq!(found["damaged"], 1, "what is deleted can be had back: {found}");
        free_what_is_deleted(&site, &account);
        let found = scrub(&site);
        assert_eq!(found["damaged"], damaged, "{found}");
    }
}

#[test]
fn a_reload_turns_it_off_and_on_and_it_is_stopped_at_once() {
    let slow = "[store]\nscrub_bytes_per_second = 65536\n";
    let site = Site::with(slow, USERS);
    let account = create(&site);
    let mut server = site.serve();
    // Half a minute's reading.
    accept(&server, &account, &report("large", 2_000_000).octets);
    site.run(&["scrub", "--now"]).expect(0);
    wait_until("a pass under way", || !json(&site, &["scrub"], 0)["pass"].is_null());
    let configuration = fs::read_to_string(site.path("daybook.toml")).unwrap();
    let off = "[store]\nscrub_bytes_per_second = 0\n";
    site.write("daybook.toml", &configuration.replace(slow, off));
    server.signal("HUP");
    server.wait_for("config.reloaded");
    let refused = site.run(&["scrub", "--now"]).expect(1).stderr;
    assert!(refused.contains("scrub_bytes_per_second"), "{refused}");
    assert!(!json(&site, &["scrub"], 0)["pass"].is_null(), "it rests where it stood");

    site.write("daybook.toml", &configuration.replace(slow, FAST));
    server.signal("HUP");
    server.wait_for("store.scrubbed");
    site.write("daybook.toml", &configuration);
    server.signal("HUP");
    server.log_with("\"event\":\"config.reloaded\"", 3);
    site.run(&["scrub", "--now"]).expect(0);
    wait_until("a pass under way", || !json(&site, &["scrub"], 0)["pass"].is_null());
    assert_eq!(server.terminate(), 0);
    // Without a server it says how far that came.
    assert!(!json(&site, &["scrub"], 0)["pass"].is_null());
    let refused = site.run(&["scrub", "--now"]).expect(1).stderr;
    assert!(refused.contains("no server is running"), "{refused}");
}
