//! Users from where they come from, through the built program: what is read whole and believable is put in force, all else
//! leaves what was there, tells the admin by exit code, log and alarm, and never keeps mail waiting.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::string_slice, reason = "a reply of our server is ASCII")]

#[path = "support/entra_double.rs"]
mod entra_double;
#[path = "support/graph_double.rs"]
mod graph_double;
#[path = "support/http_double.rs"]
mod http_double;
#[path = "support/ldap_fake.rs"]
mod ldap_fake;
#[path = "user_sync/network.rs"]
mod network;
#[path = "support/daybook.rs"]
mod support;

use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::ops::Range;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{Outcome, Server, Site, USERS, corpus, wait_until};

/// Users of the list besides Alice, Bob and Zed. Of 43, five may go at once.
const PEOPLE: Range<usize> = 0..40;
const EXPORT: &str = "[[directory]]\nkind = \"csv\"\nname = \"export\"\npath = \"users.csv\"\n";
const ZED: &str = "zed,Zed,zed@fabrikam.example,\n";

/// A list as some other program writes it. `more` are further rows.
fn export(people: Range<usize>, more: &str) -> String {
    let mut text = "id,name,primary,aliases\n\
                    alice,Alice Archer,alice@contoso.example,a.archer@contoso.example\n\
                    bob,Bob Baker,bob@contoso.example,\n"
        .to_owned();
    for n in people {
        text.push_str(&format!("u{n},User {n},u{n}@contoso.example,\n"));
    }
    text + more
}

/// Has users of a site come from this section alone.
fn only(site: &Site, section: &str) {
    let text = fs::read_to_string(site.path("daybook.toml")).unwrap();
    let file = "[[directory]]\nkind = \"file\"\npath = \"users.toml\"\n";
    assert!(text.contains(file));
    site.write("daybook.toml", &text.replace(file, section));
}

/// A site whose users come from `users.csv`.
fn site(keys: &str) -> Site {
    let site = Site::new();
    only(&site, &format!("{EXPORT}{keys}"));
    site.write("users.csv", &export(PEOPLE, ZED));
    site
}

fn create(site: &Site) -> String {
    let made = site.run(&["mailbox", "create", "--name", "Contoso", "--json"]).expect(0);
    json(&made)["address"].as_str().unwrap().to_owned()
}

fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome:?}"))
}

/// Runs a command about users, again while the server itself is reading them.
fn run(site: &Site, arguments: &[&str]) -> Outcome {
    let mut done = None;
    wait_until("nobody else reads the source", || {
        let outcome = site.run(arguments);
        let is_free = !outcome.stderr.contains("is being read already");
        done = is_free.then_some(outcome);
        is_free
    });
    done.unwrap()
}

/// Mail of Alice to Bob that is like no other: where it was placed.
fn placements(server: &Server<'_>, address: &str, n: usize) -> String {
    let report = String::from_utf8(corpus("demo/report.eml")).unwrap();
    let report = report
        .replace("quarter-1@", &format!("quarter-1-{n}@"))
        .replace("0d5f7a1c0001@", &format!("{n}@"))
        .replace("Dear all", &format!("Dear all {n}"));
    let reply = server.send(address, report.as_bytes());
    assert!(reply.starts_with("250 2.0.0 Ok "), "{reply}");
    let wanted = format!("\"event\":\"journal.committed\",\"receipt_id\":\"{}\"", &reply[13..]);
    let log = server.log_with(&wanted, 1);
    log.lines().find(|line| line.contains(&wanted)).unwrap().to_owned()
}

/// Alice's mail goes to Alice, and Bob's to Bob.
fn assert_assigned(server: &Server<'_>, address: &str, n: usize) {
    let placed = placements(server, address, n);
    assert!(placed.contains("Users/alice") && placed.contains("Users/bob"), "{placed}");
}

fn event(server: &Server<'_>, name: &str) -> Value {
    server.wait_for(name);
    let log = server.log();
    let wanted = format!("\"event\":\"{name}\"");
    serde_json::from_str(log.lines().rfind(|line| line.contains(&wanted)).unwrap()).unwrap()
}

/// What the running server says of its only source.
fn source(site: &Site) -> Value {
    json(&site.run(&["status", "--json"]))["directory"][0].clone()
}

fn alarms(site: &Site) -> Vec<String> {
    let status = json(&site.run(&["status", "--json"]));
    let alarms = status["alarms"].as_array().unwrap().iter();
    alarms.map(|alarm| alarm["alarm"].as_str().unwrap().to_owned()).collect()
}

/// What is done to a list, and what must come of it.
struct Sabotage {
    name: &'static str,
    list: fn() -> Option<String>,
    code: i32,
    event: &'static str,
    /// Among what the command prints.
    says: &'static str,
    /// Users in force after it.
    users: u64,
}

const SABOTAGE: &[Sabotage] = &[
    Sabotage {
        name: "an empty file",
        list: || Some(String::new()),
        code: 3,
        event: "directory.sync_failed",
        says: "NOT READ, 43 users stay in force",
        users: 43,
    },
    Sabotage {
        name: "a heading and nothing below",
        list: || Some("id,name,primary,aliases\n".to_owned()),
        code: 3,
        event: "directory.sync_failed",
        says: "NOT READ, 43 users stay in force",
        users: 43,
    },
    Sabotage {
        name: "half-written, within a row",
        list: || {
            let whole = export(PEOPLE, ZED);
            whole.get(..whole.len() - 40).map(str::to_owned)
        },
        code: 3,
        event: "directory.sync_failed",
        says: "NOT READ, 43 users stay in force",
        users: 43,
    },
    Sabotage {
        name: "30 % of users gone",
        list: || Some(export(0..27, ZED)),
        code: 4,
        event: "directory.plan_waiting",
        says: "13 of 43 users would go, and 5 may go at once",
        users: 43,
    },
    Sabotage {
        name: "a domain gone",
        list: || Some(export(PEOPLE, "")),
        code: 4,
        event: "directory.plan_waiting",
        says: "nobody would be left of fabrikam.example",
        users: 43,
    },
    Sabotage {
        name: "an address claimed twice, by the first in the list",
        list: || {
            let thief = "thief,Thief,thief@contoso.example,alice@contoso.example;bob@contoso.example\n";
            Some(export(PEOPLE, ZED).replacen("alice,", &format!("{thief}alice,"), 1))
        },
        code: 0,
        event: "directory.conflict",
        says: "alice@contoso.example is claimed by users alice and thief: alice keeps it",
        users: 44,
    },
    Sabotage {
        name: "no file",
        list: || None,
        code: 3,
        event: "directory.sync_failed",
        says: "NOT READ, 43 users stay in force",
        users: 43,
    },
];

#[test]
fn whatever_becomes_of_a_list_those_who_were_there_stay() {
    let site = site("");
    let address = create(&site);
    for (n, sabotage) in SABOTAGE.iter().enumerate() {
        site.write("users.csv", &export(PEOPLE, ZED));
        // Nothing is left of the one before.
        fs::remove_dir_all(site.path("data/directory")).ok();
        let mut server = site.serve();
        assert_eq!(source(&site)["users"], 43, "{}", sabotage.name);
        match (sabotage.list)() {
            Some(list) => site.write("users.csv", &list),
            None => fs::remove_file(site.path("users.csv")).unwrap(),
        }
        let outcome = run(&site, &["user", "sync", "export"]);
        assert_eq!(outcome.code, sabotage.code, "{}: {outcome:?}", sabotage.name);
        assert!(outcome.stdout.contains(sabotage.says), "{}: {}", sabotage.name, outcome.stdout);
        assert_eq!(event(&server, sabotage.event)["source"], "export", "{}", sabotage.name);
        assert_eq!(source(&site)["users"], sabotage.users, "{}", sabotage.name);
        assert_assigned(&server, &address, 2 * n);
        assert_eq!(site.run(&["readyz"]).code, 0, "mail is taken: {}", sabotage.name);

        assert_eq!(server.terminate(), 0);
        let mut server = site.serve();
        assert_eq!(source(&site)["users"], sabotage.users, "after a restart: {}", sabotage.name);
        assert_assigned(&server, &address, 2 * n + 1);
        assert_eq!(server.terminate(), 0);
    }
}

#[test]
fn a_users_toml_that_is_gone_or_emptied_leaves_its_users_also_over_a_restart() {
    let site = Site::new();
    let address = create(&site);
    let mut server = site.serve();
    fs::remove_file(site.path("users.toml")).unwrap();
    let outcome = run(&site, &["user", "sync", "file"]).expect(3);
    assert!(outcome.stdout.contains("NOT READ, 2 users stay in force"), "{}", outcome.stdout);
    assert_eq!(event(&server, "directory.kept")["source"], "file");
    assert_assigned(&server, &address, 1);
    assert_eq!(server.terminate(), 0);

    let mut server = site.serve();
    assert_eq!(event(&server, "directory.kept")["users"], 2);
    assert_assigned(&server, &address, 2);
    assert_eq!(server.terminate(), 0);

    site.write("users.toml", "# all gone\n");
    let server = site.serve();
    let outcome = run(&site, &["user", "sync", "file"]);
    assert!([3, 4].contains(&outcome.code), "{outcome:?}");
    assert_assigned(&server, &address, 3);
    site.write("users.toml", USERS);
    run(&site, &["user", "sync"]).expect(0);
    assert_eq!(source(&site)["failing_since"], Value::Null);
}

#[test]
fn a_plan_waits_with_an_alarm_until_somebody_applies_it_and_can_be_taken_back() {
    let site = site("grace_days = 30\n");
    let address = create(&site);
    let server = site.serve();
    let shrunk = export(0..27, ZED);
    site.write("users.csv", &shrunk);
    let outcome = run(&site, &["user", "sync", "export", "--json"]).expect(4);
    let waiting = json(&outcome)["sources"][0].clone();
    assert_eq!(waiting["outcome"]["result"], "pending", "{waiting}");
    assert_eq!(waiting["outcome"]["why"][0]["alarm"], "removed", "{waiting}");
    assert_eq!(waiting["diff"]["removed"]["count"], 13, "{waiting}");
    let plan = waiting["outcome"]["plan"].as_str().unwrap().to_owned();
    assert_eq!(event(&server, "directory.plan_waiting")["plan"], plan.as_str());
    let listed = site.run(&["user", "plans"]).expect(0).stdout;
    assert!(listed.contains(&plan) && listed.contains("- User 39 <u39@contoso.example> (u39)"), "{listed}");
    assert_eq!(alarms(&site), ["directory-plan-waiting"]);
    let ready = site.run(&["readyz"]).expect(0).stdout;
    assert!(ready.starts_with("ready\ndirectory (note): export "), "{ready}");
    let page = site.run(&["status"]).expect(1).stdout;
    assert!(page.contains("Users of export changed so much") && page.contains("A CHANGE WAITS"), "{page}");
    assert_assigned(&server, &address, 1);

    let applied = run(&site, &["user", "sync", "--apply", &plan]).expect(0).stdout;
    assert!(applied.contains("30 users in force as list 2, 43 before"), "{applied}");
    let line = event(&server, "directory.applied");
    assert_eq!((&line["plan"], &line["removed"]), (&Value::from(plan.clone()), &Value::from(13)));
    assert!(line["actor"].as_str().unwrap().starts_with("cli, uid "), "{line}");
    assert_eq!(alarms(&site), Vec::<String>::new());
    assert_eq!(source(&site)["gone"], 13, "{}", source(&site));
    assert!(run(&site, &["user", "sync", "--apply", &plan]).expect(1).stderr.contains(&plan));
    let found = site.run(&["user", "find", "u39@contoso.example"]).expect(0).stdout;
    assert!(found.contains("is still User 39 (u39)'s") && found.contains("until 20"), "{found}");

    // Back to all of them: what the list says now is another, and waits.
    let back = run(&site, &["user", "rollback", "export"]).expect(0).stdout;
    assert!(back.contains("43 users in force as list 3, 30 before"), "{back}");
    assert_eq!(event(&server, "directory.rolled_back")["users"], 43);
    assert_eq!(source(&site)["held"], true);
    let lists = site.run(&["user", "rollback", "export", "--list"]).expect(0).stdout;
    assert_eq!(lists.matches("in force").count(), 1, "{lists}");
    let outcome = run(&site, &["user", "sync", "export"]).expect(4).stdout;
    assert!(outcome.contains("someone went back to an earlier list"), "{outcome}");
    let plans = json(&site.run(&["user", "plans", "--json"]).expect(0));
    run(&site, &["user", "sync", "--apply", plans[0]["plan"].as_str().unwrap()]).expect(0);
    assert_eq!((&source(&site)["held"], &source(&site)["users"]), (&Value::from(false), &Value::from(30)));
    // No longer held: what adds goes through.
    site.write("users.csv", &export(0..28, ZED));
    run(&site, &["user", "sync"]).expect(0);
    assert_eq!(source(&site)["users"], 31);
}

#[test]
fn commands_mean_the_same_without_a_server_and_what_they_leave_is_taken_up() {
    let site = site("");
    create(&site);
    site.run(&["user", "sync"]).expect(0);
    site.write("users.csv", &export(0..27, ZED));
    let waiting = json(&site.run(&["user", "sync", "--json"]).expect(4));
    let plan = waiting["sources"][0]["outcome"]["plan"].as_str().unwrap().to_owned();
    assert!(site.run(&["user", "plans"]).expect(0).stdout.contains(&plan));
    {
        let server = site.serve();
        assert_eq!(source(&site)["plan"], plan.as_str(), "{}", server.log());
        assert_eq!(source(&site)["users"], 43);
    }
    site.run(&["user", "sync", "--apply", &plan]).expect(0);
    assert!(site.run(&["user", "plans"]).expect(0).stdout.contains("Nothing waits"));
    site.run(&["user", "rollback", "export"]).expect(0);
    let found = json(&site.run(&["user", "find", "u39@contoso.example", "--json"]).expect(0));
    assert_eq!((&found[0]["claim"], &found[0]["id"]), (&Value::from("owner"), &Value::from("u39")));
    site.run(&["user", "find", "nobody@contoso.example"]).expect(1);
    site.run(&["user", "rollback", "other"]).expect(1);
    site.run(&["user", "rollback", "export", "--to", "99"]).expect(1);
    site.run(&["user", "sync", "other"]).expect(1);
    site.run(&["user", "sync", "export", "--apply", &plan]).expect(2);
}

#[test]
fn a_dry_run_changes_nothing_and_says_who_is_left_out_and_why() {
    let site = site("enabled_only = true\ninclude_shared = false\n");
    create(&site);
    // Without a server, which would read the file by itself.
    site.run(&["user", "sync"]).expect(0);
    let rows = "new,New Person,new@contoso.example,,yes,user\n\
                left,Left Last Year,left@contoso.example,,no,user\n\
                info,Info,info@contoso.example,,no,SharedMailbox\n";
    let list: String = export(PEOPLE, ZED)
        .lines()
        .map(|line| format!("{line},{}\n", if line.starts_with("id,") { "enabled,kind" } else { "yes,user" }))
        .collect();
    site.write("users.csv", &(list + rows));
    let outcome = run(&site, &["user", "sync", "export", "--dry-run"]).expect(0).stdout;
    for part in [
        "+ New Person <new@contoso.example> (new)",
        "SHARED MAILBOXES LEFT OUT",
        "Info <info@contoso.example> (info): ",
        "Left Last Year <left@contoso.example> (left): ",
    ] {
        assert!(outcome.contains(part), "{part} is not in\n{outcome}");
    }
    let outcome = json(&run(&site, &["user", "sync", "--dry-run", "--json"]).expect(0));
    assert_eq!(outcome["dry_run"], true);
    let filtered = outcome["sources"][0]["filtered"].as_array().unwrap();
    assert_eq!((filtered.len(), &filtered[0]["id"]), (2, &Value::from("info")), "{outcome}");
    assert!(filtered.iter().all(|out| !out["reason"].as_str().unwrap().is_empty()), "{outcome}");
    let lists = site.run(&["user", "rollback", "export", "--list"]).expect(0).stdout;
    assert_eq!(lists.lines().count(), 2, "no list was made: {lists}");
}

/// A directory that takes connections and never says a word.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let section = format!(
        "[[directory]]\nkind = \"ldap\"\nname = \"silent\"\nhost = \"127.0.0.1\"\nport = {port}\nsecurity = \"none\"\n\
         bind_dn = \"cn=reader\"\npassword_file = \"ldap-password\"\nbase = \"dc=contoso,dc=example\"\n"
    );
    (listener, section)
}

#[test]
fn mail_and_the_end_of_the_server_wait_for_no_directory() {
    let (listener, section) = silent();
    let site = Site::with(&section, USERS);
    site.write("ldap-password", "secret\n");
    let address = create(&site);
    let mut server = site.serve();
    let asked = listener.accept().unwrap();
    assert_assigned(&server, &address, 1);
    let busy = site.run(&["user", "sync", "silent"]).expect(3);
    assert!(busy.stderr.contains("silent is being read already"), "{}", busy.stderr);
    let others = json(&site.run(&["user", "sync", "--json"]).expect(3));
    assert_eq!(others["sources"][0]["source"], "file", "{others}");
    assert_eq!(others["refused"][0]["source"], "silent", "{others}");
    site.run(&["readyz"]).expect(0);
    assert_assigned(&server, &address, 2);
    let began = Instant::now();
    assert_eq!(server.terminate(), 0);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    drop(asked);
}

#[test]
fn a_sync_that_is_interrupted_leaves_everything_as_it_was() {
    let (listener, section) = silent();
    let site = Site::with(&section, USERS);
    site.write("ldap-password", "secret\n");
    create(&site);
    let mut child = site.command(&["user", "sync"]).stdout(Stdio::null()).spawn().unwrap();
    let asked = listener.accept().unwrap();
    let kill = format!("kill -INT {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    assert!(!child.wait().unwrap().success());
    drop((asked, listener));
    assert!(site.run(&["user", "plans"]).expect(0).stdout.contains("Nothing waits"));
    assert!(site.run(&["user", "list"]).expect(0).stdout.contains("alice@contoso.example"));
    let outcome = site.run(&["user", "sync", "silent"]).expect(3).stdout;
    assert!(outcome.contains("NOT READ, 0 users stay in force"), "{outcome}");
}
