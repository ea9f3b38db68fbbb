//! `daybook reassign`: users who were not in the directory when mail came get it; with a server and without one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/daybook.rs"]
mod support;

use daybook::observe::now;
use serde_json::Value;
use std::collections::BTreeSet;
use support::{Server, Site, USERS, corpus, wait_until};

const ALICE: &str = "[[user]]\nid = \"alice\"\nname = \"Alice\"\naddresses = [\"alice@contoso.example\"]\n";
const LATER: &str = "[[user]]\nid = \"carol\"\nname = \"Carol\"\naddresses = [\"carol@contoso.example\"]\n\
                     [[user]]\nid = \"erin\"\nname = \"Erin\"\naddresses = [\"erin@contoso.example\"]\n";

fn json_of(site: &Site, arguments: &[&str]) -> Value {
    serde_json::from_str(&site.run(arguments).expect(0).stdout).unwrap()
}

/// Receipt and folder of every change a run lists: what is placed, and what leaves.
fn changes(run: &Value) -> BTreeSet<(String, String, String)> {
    let mut all = BTreeSet::new();
    for receipt in run["receipts"].as_array().unwrap() {
        for kind in ["placements", "left"] {
            for entry in receipt[kind].as_array().unwrap() {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                all.insert((text(&receipt["receipt_id"]), kind.to_owned(), text(&entry["folder"])));
            }
        }
    }
    all
}

fn folder(site: &Site, path: &str) -> u64 {
    let shown = json_of(site, &["mailbox", "show", "Contoso", "--json"]);
    let found = shown["folders"].as_array().unwrap().iter().find(|folder| folder["path"] == path);
    found.and_then(|folder| folder["entries"].as_u64()).unwrap_or(0)
}

/// A site whose store holds a report and its fork, received while nobody was known; gives their receipts.
fn filled() -> (Site, Vec<String>) {
    let nobody = "[[user]]\nid = \"zoe\"\nname = \"Zoe\"\naddresses = [\"zoe@contoso.example\"]\n";
    let site = Site::with("", nobody);
    let made = json_of(&site, &["mailbox", "create", "--name", "Contoso", "--json"]);
    site.write("password", made["password"].as_str().unwrap());
    let mut server = site.serve();
    let to = made["address"].as_str().unwrap();
    let receipts = ["report", "fork", "hopeless"].map(|name| {
        let reply = server.send(to, &corpus(&format!("demo/{name}.eml")));
        reply.strip_prefix("250 2.0.0 Ok ").unwrap_or_else(|| panic!("{reply}")).to_owned()
    });
    assert_eq!(server.terminate(), 0);
    drop(server);
    (site, receipts.to_vec())
}

#[test]
fn a_dry_run_lists_what_apply_does_and_afterwards_nothing() {
    let (site, receipts) = filled();
    assert_eq!(folder(&site, "Unassigned"), 1, "the fork is the same message");
    // The sender is in both forks: each run lists the one message once.
    site.write("users.toml", &format!("{USERS}{LATER}"));
    let planned = json_of(&site, &["reassign", "--json"]);
    assert_eq!((planned["applied"].as_bool(), planned["more"].as_bool()), (Some(false), Some(false)));
    assert_eq!((planned["placed"].as_u64(), planned["left"].as_u64()), (Some(4), Some(1)));
    assert_eq!(folder(&site, "Unassigned"), 1, "a dry run changes nothing");
    let path = |user: &str, folder: &str| format!("Users/{user}@contoso.example/Journal {folder}");
    let expect = [
        (&receipts[0], "left", "Unassigned".to_owned()),
        (&receipts[0], "placements", path("alice", "Outgoing")),
        (&receipts[0], "placements", path("bob", "Incoming")),
        (&receipts[0], "placements", path("carol", "Incoming")),
        (&receipts[1], "placements", path("erin", "Incoming")),
    ];
    let expect = expect.map(|(receipt, kind, folder)| (receipt.clone(), kind.to_owned(), folder));
    assert_eq!(changes(&planned), BTreeSet::from(expect));

    let mut server = site.serve();
    assert_eq!(changes(&json_of(&site, &["reassign", "--dry-run", "--json"])), changes(&planned));
    let done = json_of(&site, &["reassign", "--apply", "--json"]);
    assert_eq!(changes(&done), changes(&planned));
    assert_eq!(done["differed"].as_array().unwrap().len(), 0);
    assert_eq!(folder(&site, "Unassigned"), 0);
    assert_eq!(folder(&site, &path("erin", "Incoming")), 1);
    assert_eq!(folder(&site, "Quarantine"), 1, "what cannot be read is given to nobody");
    assert!(changes(&json_of(&site, &["reassign", "--json"])).is_empty());
    let explained = site.run(&["explain", &receipts[0]]).expect(0).stdout;
    assert!(explained.contains("because reassigned on 20"), "{explained}");
    server.wait_for("journal.reassigned");
    assert_eq!(server.terminate(), 0);
    let text = site.run(&["reassign"]).expect(0).stdout;
    assert!(text.contains("0 messages would be placed in users' folders"), "{text}");
}

#[test]
fn a_message_that_stands_for_a_fork_of_nobody_stays_under_unassigned() {
    let (site, _) = filled();
    let (carol, erin) = LATER.split_once("[[user]]\nid = \"erin\"").unwrap();
    site.write("users.toml", carol);
    let planned = json_of(&site, &["reassign", "--json"]);
    assert_eq!((planned["placed"].as_u64(), planned["left"].as_u64()), (Some(1), Some(0)));
    assert_eq!(changes(&json_of(&site, &["reassign", "--apply", "--json"])), changes(&planned));
    assert_eq!(folder(&site, "Unassigned"), 1, "the fork is nowhere else");
    site.write("users.toml", &format!("{carol}[[user]]\nid = \"erin\"{erin}"));
    let done = json_of(&site, &["reassign", "--apply", "--json"]);
    assert_eq!((done["placed"].as_u64(), done["left"].as_u64()), (Some(1), Some(1)));
    assert_eq!(folder(&site, "Unassigned"), 0);
}

#[test]
fn what_is_read_again_leaves_what_stands_for_a_fork_too() {
    let (site, _) = filled();
    let (carol, _) = LATER.split_once("[[user]]\nid = \"erin\"").unwrap();
    site.write("users.toml", carol);
    json_of(&site, &["reprocess", "Contoso", "--apply", "--password-file", "password", "--json"]);
    assert_eq!(folder(&site, "Users/carol@contoso.example/Journal Incoming"), 1);
    assert_eq!(folder(&site, "Unassigned"), 1, "the fork is nowhere else");
}

#[test]
fn nothing_is_taken_from_a_user_and_what_came_before_is_left_alone() {
    let (site, receipts) = filled();
    site.write("users.toml", ALICE);
    json_of(&site, &["reassign", "--apply", "--json"]);
    let outgoing = "Users/alice@contoso.example/Journal Outgoing";
    assert_eq!((folder(&site, outgoing), folder(&site, "Unassigned")), (1, 0));
    // Another user has the address now: what was mail of the one who had it first stays that.
    let another = ALICE.replace("\"alice\"", "\"alice-2\"");
    site.write("users.toml", &another);
    let run = json_of(&site, &["reassign", "--apply", "--json"]);
    assert_eq!(run["placed"].as_u64(), Some(0), "{run}");
    assert_eq!(folder(&site, outgoing), 1);
    // Somebody else whom it names gets it too.
    site.write("users.toml", &format!("{another}{}", user("bob", "Bob", &["bob@contoso.example"])));
    let run = json_of(&site, &["reassign", "--apply", "--json"]);
    assert_eq!(run["placed"].as_u64(), Some(1), "{run}");
    assert_eq!((folder(&site, outgoing), folder(&site, &incoming("bob"))), (1, 1));
    assert_eq!(run["receipts"][0]["receipt_id"], receipts[0].as_str());
    // Only what came since is looked at.
    site.write("users.toml", LATER);
    let run = json_of(&site, &["reassign", "--since", "2099-01-01T00:00:00Z", "--json"]);
    assert_eq!((run["looked_at"].as_u64(), run["placed"].as_u64()), (Some(0), Some(0)));
    site.run(&["reassign", "--dry-run", "--apply"]).expect(2);
}

#[test]
fn a_gateway_mailbox_without_users_folders_gives_nobody_anything() {
    let (site, _) = filled();
    site.run(&["mailbox", "set", "Contoso", "archive=false"]).expect(0);
    site.write("users.toml", ALICE);
    let run = json_of(&site, &["reassign", "--apply", "--mailbox", "Contoso", "--json"]);
    assert_eq!((run["placed"].as_u64(), run["looked_at"].as_u64()), (Some(0), Some(3)));
}

fn user(id: &str, name: &str, addresses: &[&str]) -> String {
    format!("[[user]]\nid = \"{id}\"\nname = \"{name}\"\naddresses = {addresses:?}\n")
}

/// A site where Zoe is known and whoever else, and the address of its gateway mailbox.
fn knowing(others: &str) -> (Site, String) {
    let site = Site::with("", &format!("{}{others}", user("zoe", "Zoe", &["zoe@contoso.example"])));
    let made = json_of(&site, &["mailbox", "create", "--name", "Contoso", "--json"]);
    let address = made["address"].as_str().unwrap().to_owned();
    (site, address)
}

/// Has the server read another list.
fn sync(site: &Site, users: &str) {
    site.write("users.toml", &format!("{}{users}", user("zoe", "Zoe", &["zoe@contoso.example"])));
    // The server may have seen it by itself, just now.
    wait_until("nobody else reads the list", || {
        let synced = site.run(&["user", "sync"]);
        assert!(synced.stderr.contains("is being read already") || synced.code == 0, "{synced:?}");
        synced.code == 0
    });
}

/// A moment so long ago, as Exchange writes it.
fn written(hours_ago: i64) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp(now().unix_seconds() - hours_ago * 3_600).unwrap();
    let format = time::format_description::parse_borrowed::<2>(
        "[month padding:none]/[day padding:none]/[year] [hour repr:12 padding:none]:[minute]:[second] [period]",
    );
    at.format(&format.unwrap()).unwrap()
}

/// Mail from outside that is like no other, to these recipients; gives its receipt.
fn send(server: &Server<'_>, address: &str, n: usize, received: Option<&str>, to: &[&str]) -> String {
    let report = String::from_utf8(corpus("demo/report.eml")).unwrap();
    let (before, behind) = report.split_once("To: bob@contoso.example\r\nTo: carol").unwrap();
    let (_, behind) = behind.split_once("\r\n").unwrap();
    let received = received.map(|at| format!("ReceivedUtc: {at}\r\n")).unwrap_or_default();
    let recipients: String = to.iter().map(|to| format!("To: {to}\r\n")).collect();
    let report = format!("{before}{received}{recipients}{behind}")
        .replace("Sender: alice@contoso", "Sender: eve@fabrikam")
        .replace("quarter-1@", &format!("quarter-1-{n}@"))
        .replace("0d5f7a1c0001@", &format!("{n}@"))
        .replace("Dear all", &format!("Dear all {n}"));
    let reply = server.send(address, report.as_bytes());
    reply.strip_prefix("250 2.0.0 Ok ").unwrap_or_else(|| panic!("{reply}")).to_owned()
}

fn incoming(user: &str) -> String {
    format!("Users/{user}@contoso.example/Journal Incoming")
}

#[test]
fn mail_of_nine_is_placed_when_its_user_comes_into_the_directory_at_ten_and_explain_says_why() {
    let (site, address) = knowing("");
    let mut server = site.serve();
    let early = send(&server, &address, 1, Some(&written(1)), &["carol@contoso.example"]);
    assert_eq!(folder(&site, "Unassigned"), 1);
    sync(&site, &user("carol", "Carol", &["carol@contoso.example"]));
    let late = send(&server, &address, 2, None, &["carol@contoso.example"]);
    assert_eq!((folder(&site, "Unassigned"), folder(&site, &incoming("carol"))), (1, 1));
    let done = json_of(&site, &["reassign", "--apply", "--json"]);
    assert_eq!((done["placed"].as_u64(), done["left"].as_u64()), (Some(1), Some(1)), "{done}");
    assert_eq!((folder(&site, "Unassigned"), folder(&site, &incoming("carol"))), (0, 2));
    let explained = |receipt: &str| site.run(&["explain", receipt]).expect(0).stdout;
    let why = "nobody had this address when the mail was sent, Carol has had it since 20";
    assert!(explained(&early).contains(why), "{}", explained(&early));
    assert!(!explained(&late).contains("nobody had"), "{}", explained(&late));
    assert!(changes(&json_of(&site, &["reassign", "--json"])).is_empty());
    assert_eq!(server.terminate(), 0);
}

#[test]
fn an_address_that_was_handed_on_is_of_each_in_its_time_whenever_that_is_asked() {
    let ann = |addresses: &[&str]| user("ann", "Ann", addresses);
    let (site, address) = knowing(&format!(
        "{}{}",
        ann(&["ann@contoso.example", "info@contoso.example"]),
        user("bob", "Bob", &["bob@contoso.example"])
    ));
    let mut server = site.serve();
    let kept = |person: &str| folder(&site, &incoming(person));
    let before = send(&server, &address, 1, None, &["info@contoso.example", "carol@contoso.example"]);
    assert_eq!((kept("ann"), kept("bob")), (1, 0));
    let moved = format!(
        "{}{}{}",
        ann(&["ann@contoso.example"]),
        user("bob", "Bob", &["bob@contoso.example", "info@contoso.example"]),
        user("carol", "Carol", &["carol@contoso.example"])
    );
    sync(&site, &moved);
    let after = send(&server, &address, 2, None, &["info@contoso.example"]);
    assert_eq!((kept("ann"), kept("bob")), (1, 1));
    let on_its_way = send(&server, &address, 3, Some(&written(2)), &["info@contoso.example"]);
    assert_eq!((kept("ann"), kept("bob")), (2, 1));
    let explained = |receipt: &str| site.run(&["explain", receipt]).expect(0).stdout;
    assert!(explained(&on_its_way).contains("; Ann had this address until 20"), "{}", explained(&on_its_way));
    assert!(!explained(&before).contains("until") && !explained(&after).contains("since"));
    // Carol is new, and Bob had the address later than this.
    let done = json_of(&site, &["reassign", "--apply", "--json"]);
    assert_eq!(done["placed"].as_u64(), Some(1), "{done}");
    assert_eq!((kept("ann"), kept("bob"), kept("carol")), (2, 1, 1));
    assert_eq!(server.terminate(), 0);
    // Whose it was is known after a start, and with the list gone.
    std::fs::remove_file(site.path("users.toml")).unwrap();
    let mut server = site.serve();
    send(&server, &address, 4, Some(&written(2)), &["info@contoso.example"]);
    send(&server, &address, 5, None, &["info@contoso.example"]);
    assert_eq!((kept("ann"), kept("bob")), (3, 2));
    assert_eq!(server.terminate(), 0);
}

#[test]
fn a_restored_gateway_knows_whose_an_address_was_and_a_list_that_is_damaged_is_named() {
    let ann = user("ann", "Ann", &["ann@contoso.example", "info@contoso.example"]);
    let (site, address) = knowing(&format!("{ann}{}", user("bob", "Bob", &["bob@contoso.example"])));
    let mut server = site.serve();
    send(&server, &address, 1, None, &["ann@contoso.example"]);
    let bob = user("bob", "Bob", &["bob@contoso.example", "info@contoso.example"]);
    sync(&site, &bob);
    let list = site.run(&["user", "list"]).expect(0).stdout;
    assert!(list.contains("Ann (gone since 20") && list.contains("what is kept stays)"), "{list}");
    let shown = json_of(&site, &["user", "show", "ann", "--json"])[0].clone();
    assert_eq!(
        (shown["in_directory"].as_bool(), shown["name"].as_str()),
        (Some(false), Some("Ann")),
        "{shown}"
    );
    assert!(shown["gone_since"].is_string() && shown["addresses"].as_array().unwrap().is_empty(), "{shown}");
    assert_eq!(server.terminate(), 0);
    drop(server);
    site.run(&["verify"]).expect(0);
    let backup = site.path("backup");
    site.run(&["backup", backup.to_str().unwrap()]).expect(0);

    let elsewhere = Site::with("", &std::fs::read_to_string(site.path("users.toml")).unwrap());
    elsewhere.run(&["restore", backup.to_str().unwrap()]).expect(0);
    let mut server = elsewhere.serve();
    send(&server, &address, 2, Some(&written(2)), &["info@contoso.example"]);
    assert_eq!((folder(&elsewhere, &incoming("ann")), folder(&elsewhere, &incoming("bob"))), (2, 0));
    assert_eq!(server.terminate(), 0);
    drop(server);

    let folder = std::fs::read_dir(elsewhere.path("data/directory")).unwrap().next().unwrap().unwrap().path();
    let newest =
        (1..).map(|n| folder.join(format!("{n}.jsonl"))).take_while(|path| path.exists()).last().unwrap();
    let text = std::fs::read_to_string(&newest).unwrap();
    std::fs::write(&newest, text.replacen("Bob", "Rob", 1)).unwrap();
    let told = elsewhere.run(&["verify"]).expect(1).stdout;
    assert!(told.contains("DAMAGE  directory/") && told.contains("daybook user sync"), "{told}");
    let told = elsewhere.run(&["doctor", "--check", "directory"]).expect(0).stdout;
    assert!(told.contains("warning") && told.contains("is damaged"), "{told}");
}
