//! Sabotage of directories that are asked over the network: whatever does not come whole, or is refused, changes nothing.

use super::entra_double::TRACE;
use super::graph_double::{Graph, People, person, section};
use super::http_double::{Flaw, Reply};
use super::ldap_fake::{Fake, Request, SEARCH, Said};
use super::support::{Server, Site, wait_until};
use super::{alarms, assert_assigned, create, event, only, run, source};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Users of the tenant: five pages of ten.
const PEOPLE: usize = 45;
const PAGES: &str = "name = \"entra\"\npage_entries = 10";

fn people(from: usize) -> People {
    let mut people: Vec<Value> = (0..PEOPLE).map(person).collect();
    for (user, name) in people.iter_mut().rev().zip(["alice", "bob"]) {
        user["mail"] = json!(format!("{name}@contoso.example"));
        user["proxyAddresses"] = json!([format!("SMTP:{name}@contoso.example")]);
    }
    People::Listed(people.split_off(from))
}

fn wait_for_users(site: &Site, count: usize) {
    wait_until(&format!("{count} users"), || source(site)["users"] == count);
}

/// Those who were there still are, and mail finds them.
fn assert_unharmed(site: &Site, server: &Server<'_>, address: &str, n: usize) {
    assert_eq!(source(site)["users"], PEOPLE);
    assert_assigned(server, address, n);
    site.run(&["readyz"]).expect(0);
}

/// The source could not be read; gives the line that says so.
fn assert_not_read(site: &Site, server: &Server<'_>, name: &str, kinds: &[&str]) -> Value {
    let outcome = run(site, &["user", "sync"]).expect(3).stdout;
    assert!(outcome.contains("NOT READ, 45 users stay in force"), "{name}: {outcome}");
    let line = event(server, "directory.sync_failed");
    assert!(kinds.contains(&line["kind"].as_str().unwrap()), "{name}: {line}");
    line
}

#[test]
fn a_tenant_that_answers_in_part_refuses_or_lost_its_users_keeps_those_it_had() {
    let (graph, graph_at) = Graph::default().start();
    *graph.people.lock().unwrap() = people(0);
    let site = Site::new();
    only(&site, &section(graph_at, &site.path(""), PAGES));
    let address = create(&site);
    let mut server = site.serve();
    wait_for_users(&site, PEOPLE);
    assert_eq!(event(&server, "directory.synced")["requests"], 5);

    let passing = ["unreachable", "incomplete"];
    graph.break_page(3);
    assert_not_read(&site, &server, "page 3 of 5 fails", &passing);
    assert_unharmed(&site, &server, &address, 1);
    graph.mend();
    graph.fault(4, usize::MAX, Reply::json(200, "{\"value\":[]}".repeat(100)).flawed(Flaw::Cut(300)));
    assert_not_read(&site, &server, "page 4 of 5 is cut", &passing);
    assert_unharmed(&site, &server, &address, 2);
    graph.mend();
    run(&site, &["user", "sync"]).expect(0);

    *graph.people.lock().unwrap() = people(15);
    let outcome = run(&site, &["user", "sync"]).expect(4).stdout;
    assert!(outcome.contains("15 of 45 users would go, and 5 may go at once"), "{outcome}");
    assert_eq!(event(&server, "directory.plan_waiting")["source"], "entra");
    assert_eq!(alarms(&site), ["directory-plan-waiting"]);
    assert_unharmed(&site, &server, &address, 3);
    // They are back: nothing waits any more.
    *graph.people.lock().unwrap() = people(0);
    run(&site, &["user", "sync"]).expect(0);
    assert_eq!(alarms(&site), Vec::<String>::new());

    assert_eq!(server.terminate(), 0);
    graph.expire_secret();
    let server = site.serve();
    let line = assert_not_read(&site, &server, "an expired secret", &["refused"]);
    assert!(line["error"].as_str().unwrap().contains(TRACE), "{line}");
    assert!(line["error"].as_str().unwrap().contains("7000222"), "{line}");
    assert!(line["advice"].as_str().unwrap().contains("secret"), "{line}");
    assert_eq!(line["level"], "ERROR", "somebody must mend it");
    let page = site.run(&["status"]).stdout;
    assert!(page.contains("CANNOT BE READ since") && page.contains("what to do: "), "{page}");
    assert_unharmed(&site, &server, &address, 4);
}

fn entry(request: &Request, n: usize) -> Vec<u8> {
    let name = match n {
        0 => "alice".to_owned(),
        1 => "bob".to_owned(),
        n => format!("user{n}"),
    };
    let (id, mail) = (format!("id-{n}"), format!("{name}@contoso.example"));
    request.entry(&format!("uid={name}"), &[("entryUUID", &[&id]), ("mail", &[&mail]), ("cn", &[&name])])
}

#[test]
fn an_ldap_server_that_breaks_off_within_a_page_keeps_its_users() {
    let breaks = Arc::new(AtomicBool::new(false));
    let broken = Arc::clone(&breaks);
    let fake = Fake::start(move |request| {
        if request.operation != SEARCH {
            return None;
        }
        let page = |numbers: std::ops::Range<usize>| -> Vec<u8> {
            numbers.flat_map(|n| entry(request, n)).collect()
        };
        Some(match request.searches {
            0 => Said::Answer([page(0..25), request.page_done("next")].concat()),
            _ if broken.load(Ordering::SeqCst) => {
                let half = page(25..PEOPLE);
                Said::Last(half[..half.len() / 2].to_vec())
            }
            _ => Said::Answer([page(25..PEOPLE), request.page_done("")].concat()),
        })
    });
    let site = Site::new();
    site.write("ldap-password", "secret\n");
    only(
        &site,
        &format!(
            "[[directory]]\nkind = \"ldap\"\nname = \"ldap\"\nhost = \"127.0.0.1\"\nport = {}\nsecurity = \"none\"\n\
             flavour = \"rfc2798\"\nbind_dn = \"cn=reader\"\npassword_file = \"ldap-password\"\n\
             base = \"dc=contoso,dc=example\"\n",
            fake.address.port()
        ),
    );
    let address = create(&site);
    let server = site.serve();
    wait_for_users(&site, PEOPLE);
    breaks.store(true, Ordering::SeqCst);
    let line = assert_not_read(&site, &server, "cut within page 2", &["unreachable"]);
    assert_eq!((&line["level"], &line["users"]), (&json!("WARN"), &json!(PEOPLE)), "it may mend itself");
    assert_unharmed(&site, &server, &address, 1);
    breaks.store(false, Ordering::SeqCst);
    run(&site, &["user", "sync", "ldap"]).expect(0);
    assert_eq!(source(&site)["failing_since"], Value::Null);
}
