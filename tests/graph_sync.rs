//! Users of a Microsoft 365 tenant, through the built program: whatever goes wrong there, who was a user stays one, mail goes on,
//! and the admin is told what to do.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/entra_double.rs"]
mod entra_double;
#[path = "support/graph_double.rs"]
mod graph_double;
#[path = "support/http_double.rs"]
mod http_double;
#[path = "support/daybook.rs"]
mod support;

use entra_double::graph_refusal;
use graph_double::{Graph, Group, person_id};
use http_double::Reply;
use serde_json::{Value, json};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Outcome, Server, Site, USERS, corpus, wait_until};

const SALES: &str = "02bd9fd6-8f93-4758-87c3-1fb73740a315";
/// Users of the tenant, on five pages. Of so many, five may go at once.
const USERS_COUNT: usize = 50;

/// A site that asks a tenant of its own, by hand only.
struct Tenant {
    graph: Arc<Graph>,
    site: Site,
}

impl Tenant {
    /// `keys` are further ones of the section.
    fn new(graph: Graph, keys: &str) -> Tenant {
        let (graph, address) = graph.start();
        let site = Site::with("", USERS);
        let keys = format!("name = \"tenant\"\npage_entries = 10\nevery_minutes = 0\n{keys}");
        let section = graph_double::section(address, &site.path(""), &keys);
        let text = std::fs::read_to_string(site.path("daybook.toml")).unwrap();
        let (before, file) = text.split_once("[[directory]]").unwrap();
        assert!(file.contains("users.toml"));
        site.write("daybook.toml", &format!("{before}{section}"));
        Tenant { graph, site }
    }

    /// Runs `daybook user sync tenant`.
    fn sync(&self, further: &[&str]) -> Outcome {
        self.site.run(&[&["user", "sync", "tenant"], further].concat())
    }

    fn users_in_force(&self) -> Value {
        self.status()["users"].clone()
    }

    fn status(&self) -> Value {
        let status = self.site.run(&["status", "--json"]);
        serde_json::from_str::<Value>(&status.stdout).unwrap()["directory"][0].clone()
    }

    /// Whom mail of Alice to Bob is placed with; `n` makes it another one.
    fn placed(&self, server: &Server<'_>, mailbox: &str, n: usize) -> String {
        let report = String::from_utf8(corpus("demo/report.eml")).unwrap();
        let report = report
            .replace("quarter-1@", &format!("quarter-1-{n}@"))
            .replace("0d5f7a1c0001@", &format!("{n}@"));
        assert!(server.send(mailbox, report.as_bytes()).starts_with("250 "));
        let wanted = format!("-{n}@journal.report.generator>\"");
        let log = server.log_with(&wanted, 1);
        log.lines().filter(|line| line.contains(&wanted)).collect()
    }
}

fn mailbox(site: &Site) -> String {
    let made = site.run(&["mailbox", "create", "--name", "Contoso", "--json"]).expect(0);
    serde_json::from_str::<Value>(&made.stdout).unwrap()["address"].as_str().unwrap().to_owned()
}

/// A user with these addresses, the primary one first.
fn user(name: &str, addresses: &[&str]) -> Value {
    let kinds = ["SMTP"].into_iter().chain(std::iter::repeat("smtp"));
    let proxies: Vec<String> =
        kinds.zip(addresses).map(|(kind, address)| format!("{kind}:{address}")).collect();
    json!({ "displayName": name, "mail": addresses[0], "userPrincipalName": addresses[0], "proxyAddresses": proxies })
}

/// Alice, Bob, Zed of another domain, and others, so many in all.
fn people(count: usize) -> Vec<Value> {
    let mut users = vec![
        user("Alice Archer", &["alice@contoso.example", "a.archer@contoso.example"]),
        user("Bob Baker", &["bob@contoso.example"]),
        user("Zed", &["zed@fabrikam.example"]),
    ];
    users.extend((users.len()..count).map(|_| json!({})));
    users
}

/// What becomes of a tenant, and what must come of it.
struct Sabotage {
    name: &'static str,
    done: fn(&Graph),
    code: i32,
    event: &'static str,
    /// All among what the command prints.
    says: &'static [&'static str],
}

const STAY: &str = "NOT READ, 50 users stay in force";

const SABOTAGE: &[Sabotage] = &[
    Sabotage {
        name: "page 3 of 5 failing",
        done: |graph| graph.break_page(3),
        code: 3,
        event: "directory.sync_failed",
        says: &[STAY, "users, page 3", "serviceNotAvailable"],
    },
    Sabotage {
        name: "page 3 of 5 truncated",
        done: |graph| graph.fault(3, usize::MAX, Reply::json(200, r#"{"value":[{"id":"x","disp"#)),
        code: 3,
        event: "directory.sync_failed",
        says: &[STAY, "users, page 3", "breaks off"],
    },
    Sabotage {
        name: "the link to page 4 leads elsewhere",
        done: |graph| {
            graph.twist(3, |page| page["@odata.nextLink"] = json!("https://evil.example/v1.0/users"));
        },
        code: 3,
        event: "directory.sync_failed",
        says: &[STAY, "another host"],
    },
    Sabotage {
        name: "an expired secret",
        done: Graph::expire_secret,
        code: 3,
        event: "directory.sync_failed",
        says: &[STAY, "AADSTS7000222", "The secret has expired"],
    },
    Sabotage {
        name: "consent withdrawn",
        done: |graph| {
            let denied = "Insufficient privileges to complete the operation.";
            graph.fault(1, usize::MAX, graph_refusal(403, "Authorization_RequestDenied", denied));
        },
        code: 3,
        event: "directory.sync_failed",
        says: &[STAY, "Authorization_RequestDenied", "User.Read.All"],
    },
    Sabotage {
        name: "30 % of users gone",
        done: |graph| graph.set_users(&people(35)),
        code: 4,
        event: "directory.plan_waiting",
        says: &["15 of 50 users would go, and 5 may go at once"],
    },
    Sabotage {
        name: "everybody gone",
        done: |graph| graph.set_users(&[]),
        code: 4,
        event: "directory.plan_waiting",
        says: &[],
    },
    Sabotage {
        name: "a domain gone",
        done: |graph| {
            let mut users = people(USERS_COUNT);
            users[2] = user("Zed", &["zed@contoso.example"]);
            graph.set_users(&users);
        },
        code: 4,
        event: "directory.plan_waiting",
        says: &["nobody would be left of fabrikam.example"],
    },
    Sabotage {
        name: "an address claimed twice",
        done: |graph| {
            let mut users = people(USERS_COUNT);
            users[9] = user("Thief", &["thief@contoso.example", "alice@contoso.example"]);
            users.swap(0, 9);
            // Ids go with the place; Alice stays who she is.
            users[0]["id"] = json!(person_id(9));
            users[9]["id"] = json!(person_id(0));
            graph.set_users(&users);
        },
        code: 0,
        event: "directory.conflict",
        says: &["alice@contoso.example is claimed by users"],
    },
];

#[test]
fn whatever_becomes_of_a_tenant_those_who_were_there_stay() {
    let tenant = Tenant::new(Graph::with_users(&people(USERS_COUNT)), "");
    let address = mailbox(&tenant.site);
    tenant.sync(&[]).expect(0);
    let mut server = tenant.site.serve();
    for (n, sabotage) in SABOTAGE.iter().enumerate() {
        (sabotage.done)(&tenant.graph);
        let outcome = tenant.sync(&[]);
        assert_eq!(outcome.code, sabotage.code, "{}: {outcome:?}", sabotage.name);
        for part in sabotage.says {
            assert!(outcome.stdout.contains(part), "{}: {part} is not in {}", sabotage.name, outcome.stdout);
        }
        server.log_with(&format!("\"event\":\"{}\"", sabotage.event), 1);
        assert!(!server.log().contains(entra_double::SECRET) && !outcome.stdout.contains("Bearer"));
        assert_eq!(tenant.users_in_force(), USERS_COUNT, "{}", sabotage.name);
        let placed = tenant.placed(&server, &address, n);
        assert!(
            placed.contains("Users/alice") && placed.contains("Users/bob"),
            "{}: {placed}",
            sabotage.name
        );

        tenant.graph.mend();
        tenant.graph.set_users(&people(USERS_COUNT));
        tenant.sync(&[]).expect(0);
        assert_eq!(tenant.status()["error"], Value::Null, "{}", sabotage.name);
    }
    // No tenant at all: the list that was kept.
    assert_eq!(server.terminate(), 0);
    tenant.graph.expire_secret();
    let server = tenant.site.serve();
    assert_eq!(tenant.users_in_force(), USERS_COUNT);
    let placed = tenant.placed(&server, &address, 99);
    assert!(placed.contains("Users/alice") && placed.contains("Users/bob"), "{placed}");
}

#[test]
fn a_rename_keeps_the_user_and_the_former_address_for_a_while() {
    let tenant = Tenant::new(Graph::with_users(&people(USERS_COUNT)), "grace_days = 30\n");
    mailbox(&tenant.site);
    tenant.sync(&[]).expect(0);
    let mut users = people(USERS_COUNT);
    users[1] = user("Robert Butcher", &["robert@contoso.example"]);
    tenant.graph.set_users(&users);
    tenant.sync(&[]).expect(0);
    for address in ["robert@contoso.example", "bob@contoso.example"] {
        let found = tenant.site.run(&["user", "find", address]).expect(0).stdout;
        assert!(found.contains(&person_id(1)), "{address}: {found}");
    }
}

#[test]
fn filters_say_who_is_left_out_and_shared_mailboxes_stay() {
    let keys = "licensed_only = true\nenabled_only = true\n";
    let mut users = people(6);
    users[3] = json!({ "displayName": "Info desk", "accountEnabled": false, "assignedPlans": [] });
    users[4] = json!({ "displayName": "No licence", "assignedPlans": [] });
    users[5] = json!({ "displayName": "Gary", "accountEnabled": false });
    users.push(json!({ "displayName": "Guest", "userType": "Guest" }));
    let tenant = Tenant::new(Graph::with_users(&users), keys);
    mailbox(&tenant.site);
    let kept = tenant.sync(&["--dry-run"]).expect(0).stdout;
    assert!(kept.contains("+ Info desk") && !kept.contains("SHARED MAILBOXES LEFT OUT"), "{kept}");
    // Graph does not tell it from somebody who left.
    assert!(kept.contains("LEFT OUT, MAY BE SHARED MAILBOXES"), "{kept}");
    for (name, why) in [("No licence", "no Exchange Online plan"), ("Gary", "disabled"), ("Guest", "guest")] {
        let line =
            kept.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("no {name} in {kept}"));
        assert!(line.contains(why), "{line}");
    }
    let tenant = Tenant::new(Graph::with_users(&users), &format!("{keys}include_shared = false\n"));
    mailbox(&tenant.site);
    let dropped = tenant.sync(&["--dry-run"]).expect(0).stdout;
    assert!(dropped.contains("SHARED MAILBOXES LEFT OUT") && dropped.contains("Info desk"), "{dropped}");
}

#[test]
fn only_members_of_a_group_are_users_and_a_mistyped_group_removes_nobody() {
    let graph = Graph::with_users(&people(20));
    let group = Group {
        id: SALES.to_owned(),
        members: (0..8).map(person_id).collect(),
        mail: Some("sales@contoso.example".to_owned()),
        ..Group::default()
    };
    *graph.groups.lock().unwrap() = vec![group];
    let tenant = Tenant::new(graph, &format!("groups = [\"{SALES}\"]\ninclude_groups = true\n"));
    mailbox(&tenant.site);
    let outcome = tenant.sync(&[]).expect(0).stdout;
    assert!(outcome.contains("9 users"), "{outcome}");
    let text = std::fs::read_to_string(tenant.site.path("daybook.toml")).unwrap();
    let mistyped = "02bd9fd6-8f93-4758-87c3-1fb73740a316";
    tenant.site.write("daybook.toml", &text.replace(SALES, mistyped));
    let outcome = tenant.sync(&[]).expect(3).stdout;
    assert!(outcome.contains("NOT READ, 9 users stay in force") && outcome.contains(mistyped), "{outcome}");
}

#[test]
fn the_end_of_the_server_waits_for_no_patience_that_graph_asks_for() {
    let tenant = Tenant::new(Graph::with_users(&people(USERS_COUNT)), "");
    mailbox(&tenant.site);
    let throttled = graph_refusal(429, "TooManyRequests", "Too many requests.").with("Retry-After", "250");
    tenant.graph.fault(2, usize::MAX, throttled);
    let mut server = tenant.site.serve();
    let mut asking = tenant.site.command(&["user", "sync", "tenant"]).stdout(Stdio::null()).spawn().unwrap();
    let mut pages = 0;
    wait_until("the tenant asks for patience", || {
        pages += tenant.graph.asked().len();
        pages >= 2
    });
    let began = Instant::now();
    assert_eq!(server.terminate(), 0);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    asking.wait().unwrap();
}
