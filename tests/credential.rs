//! `daybook credential` and what warns of a credential that ends, through the program, against doubles of Microsoft's hosts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/entra_double.rs"]
mod entra_double;
#[path = "support/http_double.rs"]
mod http_double;
#[path = "support/daybook.rs"]
mod support;

use entra_double::{CLIENT, CORRELATION, Login, SECRET, TENANT, TRACE, graph_refusal, refusal};
use http_double::{Asked, Reply};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use support::{Site, USERS, wait_until};

/// What Graph refuses, by the beginning of the path.
type Refused = &'static [&'static str];

/// Microsoft's hosts: tokens, and as much of Graph as is tried.
fn hosts(login: Login, refused: Refused, passwords: Value) -> SocketAddr {
    let login = Arc::new(login);
    http_double::start(move |asked| {
        login.answer(asked).unwrap_or_else(|| graph(&login, asked, refused, &passwords))
    })
}

fn graph(login: &Login, asked: &Asked, refused: Refused, passwords: &Value) -> Reply {
    assert_eq!(asked.header("host"), "graph.microsoft.com");
    if !login.is_good(asked.bearer()) {
        return graph_refusal(401, "InvalidAuthenticationToken", "Access token is empty.");
    }
    if refused.iter().any(|path| asked.path().starts_with(path)) {
        let message = "Insufficient privileges to complete the operation.";
        return graph_refusal(403, "Authorization_RequestDenied", message);
    }
    let application = format!("/v1.0/applications(appId='{CLIENT}')");
    match asked.path() {
        "/v1.0/users" | "/v1.0/groups" => {
            assert_eq!(asked.query("$top").as_deref(), Some("1"));
            Reply::json(200, json!({ "value": [{ "id": TENANT }] }).to_string())
        }
        path if path == application => {
            let said = json!({ "id": "o", "passwordCredentials": passwords, "keyCredentials": [] });
            Reply::json(200, said.to_string())
        }
        path => graph_refusal(404, "Request_ResourceNotFound", path),
    }
}

/// A site with a source of users in Entra ID.
fn site(address: SocketAddr, keys: &str) -> Site {
    let source = format!(
        "[[directory]]\nkind = \"graph\"\nname = \"entra\"\ntenant = \"{TENANT}\"\nclient_id = \"{CLIENT}\"\n\
         loopback = \"{address}\"\nevery_minutes = 0\n{keys}\n"
    );
    let site = Site::with(&source, USERS);
    site.write("entra-password", SECRET);
    site
}

fn tried(site: &Site, code: i32) -> Value {
    let out = site.run(&["credential", "test", "entra", "--json"]).expect(code).stdout;
    assert!(!out.contains(SECRET), "{out}");
    let tried: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(tried["ok"], code == 0);
    tried["credentials"][0].clone()
}

/// `credential ok, token ok, …`
fn steps(tried: &Value) -> String {
    let step =
        |step: &Value| format!("{} {}", step["name"].as_str().unwrap(), step["status"].as_str().unwrap());
    tried["steps"].as_array().unwrap().iter().map(step).collect::<Vec<_>>().join(", ")
}

/// What a step says to do.
fn fix(tried: &Value, name: &str) -> String {
    let steps = tried["steps"].as_array().unwrap();
    steps.iter().find(|step| step["name"] == name).unwrap()["fix"].as_str().unwrap().to_owned()
}

const BY_SECRET: &str = "secret_file = \"entra-password\"";

#[test]
fn every_permission_is_tried_and_named_when_it_is_missing() {
    let known = json!([{ "hint": "qWg", "endDateTime": "2126-03-01T00:00:00Z" }]);
    let plain = site(hosts(Login::default(), &[], known.clone()), BY_SECRET);
    let all = tried(&plain, 0);
    assert_eq!(steps(&all), "credential ok, token ok, users ok, application ok, expiry ok");
    assert_eq!((&all["ends"], &all["known_by"]), (&json!("2126-03-01T00:00:00.000Z"), &json!("graph")));
    assert_eq!(all["roles"], json!(["User.Read.All", "GroupMember.Read.All"]));
    let text = plain.run(&["credential", "test"]).expect(0).stdout;
    assert!(text.contains("it names User.Read.All") && !text.contains(SECRET), "{text}");

    let groups = "secret_file = \"entra-password\"\ngroups = [\"22223333-cccc-4444-dddd-5555eeee6666\"]";
    let refused: Refused = &["/v1.0/groups", "/v1.0/applications"];
    let without = tried(&site(hosts(Login::default(), refused, known), groups), 1);
    assert_eq!(
        steps(&without),
        "credential ok, token ok, users ok, groups problem, application skipped, expiry skipped"
    );
    assert!(fix(&without, "groups").contains("GroupMember.Read.All"), "{without}");
    assert!(without["steps"][3]["seen"].as_str().unwrap().contains(TRACE), "{without}");
}

#[test]
fn a_refused_secret_is_explained_with_the_original_words_and_ids() {
    let login = Login::default();
    let text =
        "The provided client secret keys for app are expired. Visit the Azure portal to create new keys.";
    login.script.lock().unwrap().push_back(refusal(401, "invalid_client", 7_000_222, text));
    let refused = tried(&site(hosts(login, &[], json!([])), BY_SECRET), 1);
    assert_eq!(steps(&refused), "credential ok, token problem, expiry skipped");
    let seen = refused["steps"][1]["seen"].as_str().unwrap();
    assert!([text, TRACE, CORRELATION, "AADSTS7000222"].iter().all(|part| seen.contains(part)), "{seen}");
    assert!(fix(&refused, "token").contains("cannot be renewed"), "{refused}");
}

#[test]
fn nobody_who_answers_is_another_exit_code_than_a_refusal() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let unreachable = tried(&site(nobody, BY_SECRET), 3);
    assert!(fix(&unreachable, "token").contains("login.microsoftonline.com"), "{unreachable}");
    let none = site(nobody, BY_SECRET);
    none.run(&["credential", "test", "elsewhere"]).expect(2);
    let open = none.path("entra-password");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(steps(&tried(&none, 1)), "credential problem");
    Site::new().run(&["credential", "test"]).expect(2);
}

#[test]
fn a_pair_that_was_made_is_used_as_it_is_printed() {
    let away = Site::new();
    let made =
        away.run(&["credential", "create", "--out", "pair", "--name", "graph", "--json"]).expect(0).stdout;
    let made: Value = serde_json::from_str(&made).unwrap();
    let pem = std::fs::read(away.path("pair/graph.crt")).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
    let login = Login::with_certificate(pem.contents);
    let keys = |dir: &str| format!("certificate = \"{dir}graph.crt\"\nprivate_key = \"{dir}graph.key\"");
    let dir = format!("{}/", away.path("pair").display());
    let site = site(hosts(login, &[], json!([])), &keys(&dir));
    let good = tried(&site, 0);
    assert_eq!(steps(&good), "credential ok, token ok, users ok, application warning, expiry ok");
    assert_eq!((&good["sha1"], &good["known_by"]), (&made["sha1"], &json!("certificate")));
    assert_eq!(good["ends"], made["ends"]);
    let mode = away.path("pair/graph.key").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = away.run(&["credential", "create", "--out", "pair", "--name", "graph"]).expect(2);
    assert!(again.stderr.contains("is there already"), "{}", again.stderr);

    let text = away.run(&["credential", "create", "--out", "pair", "--days", "30"]).expect(0).stdout;
    for part in ["Upload certificate", "Grant admin consent", "pair/daybook-entra.key\"", "x5t#S256"] {
        assert!(text.contains(part), "{text}");
    }
    let list = site.run(&["credential", "list"]).expect(0).stdout;
    assert!(list.contains("entra") && list.contains("certificate"), "{list}");
}

#[test]
fn an_end_that_is_near_is_an_alarm_an_event_a_metric_and_a_warning_of_doctor() {
    let day = |days: i64| {
        let at = daybook::observe::now().unix_ms() + days * 86_400_000;
        let at = daybook::mail::Timestamp::from_unix_ms(at).to_string();
        at.split('T').next().unwrap().to_owned()
    };
    let ends = day(20);
    let keys = format!("{BY_SECRET}\nsecret_expires = \"{ends}\"");
    let site = site(hosts(Login::default(), &[], json!([])), &keys);
    let server = site.serve();
    server.wait_for("directory.credential_expiring");
    let status = site.run(&["status"]).expect(1).stdout;
    assert!(status.contains("The credential of entra ends in"), "{status}");
    assert!(status.contains(&format!("credential of entra (secret): until {ends}")), "{status}");
    drop(server);
    // Told once: a restart knows of it.
    let again = site.serve();
    wait_until("the alarm is known again", || site.run(&["status"]).stdout.contains("credential-expiring"));
    assert!(!again.log().contains("directory.credential_expiring"), "{}", again.log());
    let found = site.run(&["doctor", "--check", "credential", "--json"]).expect(0).stdout;
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["checks"][0]["status"], "warning", "{found}");
    assert!(!again.log().contains(SECRET));
}

#[test]
fn an_end_that_is_not_configured_is_asked_of_graph() {
    let known = json!([{ "hint": "qWg", "endDateTime": "2126-03-01T00:00:00Z" }]);
    let site = site(hosts(Login::default(), &[], known), BY_SECRET);
    let server = site.serve();
    wait_until("Graph has told it", || {
        site.run(&["status"]).stdout.contains("credential of entra (secret): until 2126-03-01")
    });
    assert!(!server.log().contains("credential_expiring"), "{}", server.log());
}
