//! The users of a tenant, asked of a double of Microsoft Graph: every page or nothing, patience within bounds, and who may be a user.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/entra_double.rs"]
mod entra_double;
#[path = "support/graph_double.rs"]
mod graph_double;
#[path = "support/http_double.rs"]
mod http_double;

use daybook::config::{Cloud, Filters, GraphSource as Configured};
use daybook::directory::source::graph::{GraphSource, Patience};
use daybook::directory::{Candidate, CandidateKind, Listing, Source, SourceError};
use entra_double::{SECRET, TRACE, graph_refusal};
use graph_double::{Graph, Group, person, person_id};
use http_double::{Flaw, Reply};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Small enough for five pages of few people.
const PAGE: u32 = 10;
const SALES: &str = "02bd9fd6-8f93-4758-87c3-1fb73740a315";
const NORTH: &str = "4d0ef681-e88f-42a3-a2db-e6bf1e249e10";

/// Waits so short that a test is soon over.
fn hasty() -> Patience {
    Patience {
        first: Duration::from_millis(1),
        answer: Duration::from_millis(500),
        retries: 2,
        ..Patience::default()
    }
}

struct Stage {
    graph: Arc<Graph>,
    address: SocketAddr,
    folder: tempfile::TempDir,
    cloud: Cloud,
}

impl Stage {
    fn of(graph: Graph, cloud: Cloud) -> Stage {
        let (graph, address) = graph.start();
        Stage { graph, address, folder: tempfile::tempdir().unwrap(), cloud }
    }

    fn new(graph: Graph) -> Stage {
        Stage::of(graph, Cloud::Global)
    }

    fn source(&self, filters: &Filters) -> GraphSource {
        let app = graph_double::app(self.cloud, self.address, self.folder.path());
        GraphSource::new(&Configured { app, page_entries: PAGE }, filters).with_patience(hasty())
    }

    fn read(&self, filters: &Filters) -> Result<Listing, SourceError> {
        self.source(filters).read(&|| true)
    }

    fn everybody(&self) -> Result<Listing, SourceError> {
        self.read(&Filters::default())
    }
}

fn in_groups(groups: &[&str]) -> Filters {
    Filters { groups: Some(groups.iter().map(|&group| group.to_owned()).collect()), ..Filters::default() }
}

fn sales_and_north() -> Graph {
    let graph = Graph::with_people(25);
    let group = |id: &str, members: &[String]| Group {
        id: id.to_owned(),
        members: members.to_vec(),
        ..Group::default()
    };
    // Each in the other: a circle.
    let north: Vec<String> = (10..22).map(person_id).chain([SALES.to_owned()]).collect();
    let sales = [person_id(1), person_id(2), person_id(10), NORTH.to_owned()];
    *graph.groups.lock().unwrap() = vec![group(SALES, &sales), group(NORTH, &north)];
    graph
}

fn refused(result: Result<Listing, SourceError>) -> (String, String) {
    match result {
        Err(SourceError::Refused { said, advice }) => (said, advice),
        other => panic!("{other:?}"),
    }
}

#[test]
fn everybody_is_read_from_all_pages() {
    let stage = Stage::new(Graph::with_people(47));
    let listing = stage.everybody().unwrap();
    assert_eq!((listing.candidates.len(), listing.requests), (47, 5));
    assert_eq!((listing.skipped.len(), listing.more_skipped), (0, 0));
    let asked = stage.graph.asked();
    assert!(asked.iter().all(|asked| asked.query("$top").as_deref() == Some("10")), "{asked:?}");
    let last = listing.candidates.last().unwrap();
    let aliases: Vec<&str> = last.aliases.iter().map(|alias| alias.as_str()).collect();
    assert_eq!(last.primary.as_ref().unwrap().as_str(), "user46@contoso.example");
    assert_eq!(
        aliases,
        [
            "x500:/o=ExchangeLabs/ou=Exchange Administrative Group/cn=Recipients/cn=0000002e-user46",
            "user46@contoso.onmicrosoft.example"
        ]
    );
    assert_eq!((last.id.clone(), last.name.as_str()), (person_id(46), "User 46"));
    assert_eq!((last.kind, last.enabled, last.licensed), (CandidateKind::User, Some(true), Some(true)));
}

#[test]
fn every_cloud_is_asked_at_its_own_hosts_with_its_own_token() {
    for cloud in Cloud::ALL {
        let graph = Graph::of(cloud);
        *graph.people.lock().unwrap() = graph_double::People::Made(11);
        let stage = Stage::of(graph, cloud);
        // The double refuses other hosts than its own.
        assert_eq!(stage.everybody().unwrap().candidates.len(), 11, "{cloud:?}");
        let scopes: Vec<_> =
            stage.graph.login.asked.lock().unwrap().iter().map(|asked| asked.field("scope")).collect();
        assert_eq!(scopes, [Some(format!("https://{}/.default", cloud.graph_host()))]);
    }
}

#[test]
fn a_page_that_does_not_come_whole_ends_the_reading_and_nothing_is_taken() {
    let page = || Reply::json(200, json!({ "value": [person(20), person(21)] }).to_string());
    let gone = graph_refusal(410, "Gone", "The requested resource is no longer available.");
    let expired =
        graph_refusal(400, "Directory_ExpiredPageToken", "The specified page token value has expired.");
    let throttled = graph_refusal(429, "TooManyRequests", "Too many requests from Identifier:…");
    let cases = [
        ("incomplete", 3, graph_refusal(503, "serviceNotAvailable", "The service is not available.")),
        ("incomplete", 3, graph_refusal(500, "generalException", "An unspecified error has occurred.")),
        ("incomplete", 3, throttled.clone()),
        ("incomplete", 1, throttled.with("Retry-After", "3600")),
        ("incomplete", 7, gone),
        ("incomplete", 1, graph_refusal(404, "Request_ResourceNotFound", "Resource not found.")),
        ("incomplete", 7, expired),
        ("incomplete", 1, Reply { body: page().body[..900].to_vec(), ..page() }),
        ("incomplete", 3, page().flawed(Flaw::Cut(900))),
        ("incomplete", 3, page().flawed(Flaw::CutChunks(900))),
        ("incomplete", 3, page().flawed(Flaw::Mute)),
        ("incomplete", 3, page().flawed(Flaw::Never)),
        ("incomplete", 1, Reply::json(200, r#"{"@odata.context":"x"}"#)),
        ("incomplete", 1, Reply::json(200, r#"{"value":[{"mail":"a@x.example"}]}"#)),
        ("incomplete", 1, Reply::json(200, "<html>Please log in to the guest network</html>")),
        ("incomplete", 1, Reply::json(302, "").with("Location", "https://evil.example/")),
        ("refused", 2, graph_refusal(401, "InvalidAuthenticationToken", "Access token validation failure.")),
        ("refused", 1, graph_refusal(403, "Authorization_RequestDenied", "Insufficient privileges.")),
    ];
    let stage = Stage::new(Graph::with_people(50));
    for (kind, tries, reply) in cases {
        stage.graph.fault(3, usize::MAX, reply.clone());
        let error = stage.everybody().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}: {reply:?}");
        assert!(error.to_string().contains("users, page 3"), "{error}");
        let asked = stage.graph.asked();
        assert_eq!(asked.len(), 2 + tries, "{error}: pages 1 and 2, then page 3, or all that thrice");
        let secrets = asked.iter().map(|asked| asked.bearer().to_owned()).chain([SECRET.to_owned()]);
        for secret in secrets {
            assert!(!error.to_string().contains(&secret), "{error}");
        }
    }
    stage.graph.mend();
    assert_eq!(stage.everybody().unwrap().candidates.len(), 50);
}

#[test]
fn pages_that_lead_astray_end_the_reading() {
    let astray = |twist: fn(&mut Value)| {
        let stage = Stage::new(Graph::with_people(50));
        stage.graph.twist(3, twist);
        let read = stage.everybody().map(|listing| listing.candidates.len());
        (read.map_err(|error| error.kind()), stage.graph.asked().len())
    };
    let elsewhere =
        |page: &mut Value| page["@odata.nextLink"] = json!("https://graph.microsoft.us/v1.0/users?$top=10");
    assert_eq!(astray(elsewhere), (Err("incomplete"), 3));
    let in_clear =
        |page: &mut Value| page["@odata.nextLink"] = json!("http://graph.microsoft.com/v1.0/users?$top=10");
    assert_eq!(astray(in_clear), (Err("incomplete"), 3));
    let to_login = |page: &mut Value| page["@odata.nextLink"] = json!("https://login.microsoftonline.com/x");
    assert_eq!(astray(to_login), (Err("incomplete"), 3));
    let back = |page: &mut Value| {
        let link = page["@odata.nextLink"].as_str().unwrap().replace("RFNwdA30", "RFNwdA10");
        page["@odata.nextLink"] = json!(link);
    };
    assert_eq!(astray(back), (Err("incomplete"), 3));
    let another = |page: &mut Value| {
        let mut again = person(4);
        again["displayName"] = json!("Somebody else");
        page["value"].as_array_mut().unwrap().push(again);
    };
    assert_eq!(astray(another), (Err("incomplete"), 3));
    // The documentation says that these come: a page may be empty, and a change while pages are read may show somebody twice.
    let empty = |page: &mut Value| page["value"] = json!([]);
    assert_eq!(astray(empty), (Ok(40), 5));
    let twice = |page: &mut Value| page["value"].as_array_mut().unwrap().push(person(4));
    assert_eq!(astray(twice), (Ok(50), 5));
}

#[test]
fn empty_pages_without_end_do_not_keep_the_reading_going() {
    let graph = Graph::with_people(2_000);
    for page in 1..=200 {
        graph.twist(page, |page| page["value"] = json!([]));
    }
    let stage = Stage::new(graph);
    let error = stage.everybody().unwrap_err();
    assert_eq!(error.kind(), "incomplete", "{error}");
    assert_eq!(stage.graph.asked().len(), 101);
}

#[test]
fn what_passes_is_waited_for() {
    let throttled = || graph_refusal(429, "TooManyRequests", "Too many requests.");
    let passing = [
        (2, throttled()),
        (2, throttled().with("Retry-After", "0")),
        (
            1,
            graph_refusal(503, "serviceNotAvailable", "The service is not available.")
                .with("Retry-After", "0"),
        ),
        (1, graph_refusal(504, "GatewayTimeout", "The server did not receive a timely response.")),
        (
            1,
            graph_refusal(401, "InvalidAuthenticationToken", "Access token has expired or is not yet valid."),
        ),
        (1, Reply::json(200, json!({ "value": [person(20)] }).to_string()).flawed(Flaw::Cut(100))),
        (1, Reply::json(200, "{}").flawed(Flaw::Never)),
        (1, Reply::json(200, "{}").flawed(Flaw::Mute)),
    ];
    let stage = Stage::new(Graph::with_people(50));
    for (times, reply) in passing {
        stage.graph.fault(3, times, reply.clone());
        let listing = stage.everybody().unwrap_or_else(|error| panic!("{error}: {reply:?}"));
        assert_eq!((listing.candidates.len(), listing.requests), (50, 5 + times as u64), "{reply:?}");
    }
}

#[test]
fn a_reading_whose_place_is_lost_begins_anew() {
    let stage = Stage::new(Graph::with_people(50));
    let forgotten =
        graph_refusal(400, "Directory_ExpiredPageToken", "The specified page token value has expired.");
    stage.graph.fault(3, 1, forgotten);
    let listing = stage.everybody().unwrap();
    assert_eq!((listing.candidates.len(), listing.requests), (50, 3 + 5));
}

#[test]
fn a_wait_is_as_long_as_graph_asks_for() {
    let stage = Stage::new(Graph::with_people(20));
    stage.graph.fault(
        2,
        1,
        graph_refusal(429, "TooManyRequests", "Too many requests.").with("Retry-After", "1"),
    );
    let began = Instant::now();
    assert_eq!(stage.everybody().unwrap().candidates.len(), 20);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn all_waits_together_are_bounded() {
    let stage = Stage::new(Graph::with_people(50));
    let throttled = graph_refusal(429, "TooManyRequests", "Too many requests.").with("Retry-After", "200");
    stage.graph.fault(3, usize::MAX, throttled);
    let patience = Patience { waits: Duration::from_secs(100), ..hasty() };
    let error = stage.source(&Filters::default()).with_patience(patience).read(&|| true).unwrap_err();
    assert_eq!((error.kind(), stage.graph.asked().len()), ("incomplete", 3), "{error}");
}

#[test]
fn a_wait_ends_when_the_program_does() {
    let stage = Stage::new(Graph::with_people(50));
    stage.graph.fault(
        3,
        1,
        graph_refusal(429, "TooManyRequests", "Too many requests.").with("Retry-After", "120"),
    );
    let goes_on = AtomicBool::new(true);
    let began = Instant::now();
    let error = std::thread::scope(|scope| {
        let reading =
            scope.spawn(|| stage.source(&Filters::default()).read(&|| goes_on.load(Ordering::Relaxed)));
        let mut pages = 0;
        while pages < 3 {
            pages += stage.graph.asked().len();
            assert!(began.elapsed() < Duration::from_secs(30));
            std::thread::yield_now();
        }
        goes_on.store(false, Ordering::Relaxed);
        reading.join().unwrap().unwrap_err()
    });
    assert_eq!(error.kind(), "stopped");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[test]
fn only_members_of_a_group_and_of_groups_in_it_are_in_it() {
    let stage = Stage::new(sales_and_north());
    let listing = stage.read(&in_groups(&[&SALES.to_uppercase(), NORTH])).unwrap();
    let within = |group: &str| {
        let has =
            |candidate: &&Candidate| candidate.groups.iter().any(|name| name.eq_ignore_ascii_case(group));
        listing.candidates.iter().filter(has).count()
    };
    assert_eq!((listing.candidates.len(), within(SALES), within(NORTH)), (25, 14, 14));
    assert_eq!(listing.candidates[1].groups, [SALES.to_uppercase(), NORTH.to_owned()], "as configured");
    // 2 groups looked up, each of one page of members, and 3 pages of users.
    assert_eq!(listing.requests, 7);
}

#[test]
fn a_group_that_is_not_there_is_refused_rather_than_empty() {
    let stage = Stage::new(sales_and_north());
    let (said, advice) = refused(stage.read(&in_groups(&[SALES, "02bd9fd6-8f93-4758-87c3-1fb73740a316"])));
    assert!(said.contains("02bd9fd6-8f93-4758-87c3-1fb73740a316") && said.contains(TRACE), "{said}");
    assert!(advice.contains("object id"), "{advice}");
    assert!(stage.graph.asked().iter().all(|asked| asked.path() != "/v1.0/users"));
    let (said, _) = refused(stage.read(&in_groups(&["sales@contoso.example"])));
    assert!(said.contains("is no object id") && stage.graph.asked().is_empty(), "{said}");
}

#[test]
fn a_group_that_hides_its_members_is_refused_rather_than_empty() {
    let graph = sales_and_north();
    graph.groups.lock().unwrap()[0].visibility = Some("HiddenMembership".to_owned());
    let (_, advice) = refused(Stage::new(graph).read(&in_groups(&[SALES])));
    assert!(advice.contains("Member.Read.Hidden"), "{advice}");
}

#[test]
fn groups_with_a_mailbox_are_candidates_when_asked_for() {
    let graph = Graph::with_people(3);
    let mail = Some("falcon@contoso.example".to_owned());
    graph.groups.lock().unwrap().extend([
        Group { id: SALES.to_owned(), ..Group::default() },
        Group { id: NORTH.to_owned(), mail, ..Group::default() },
    ]);
    let stage = Stage::new(graph);
    assert_eq!(stage.everybody().unwrap().candidates.len(), 3);
    let listing = stage.read(&Filters { include_groups: true, ..in_groups(&[NORTH]) }).unwrap();
    let group = listing.candidates.last().unwrap();
    assert_eq!((listing.candidates.len(), group.kind, group.id.as_str()), (4, CandidateKind::Group, NORTH));
    assert_eq!(
        (group.enabled, group.licensed, group.groups.as_slice()),
        (None, None, [NORTH.to_owned()].as_slice())
    );
    assert_eq!(group.primary.as_ref().unwrap().as_str(), "falcon@contoso.example");
}

#[test]
fn a_missing_permission_is_named() {
    let mut graph = sales_and_north();
    graph.login.roles = vec!["GroupMember.Read.All".to_owned()];
    let (said, advice) = refused(Stage::new(graph).everybody());
    assert!(said.contains("Authorization_RequestDenied") && said.contains(TRACE), "{said}");
    assert!(advice.contains("User.Read.All"), "{advice}");
    let mut graph = sales_and_north();
    graph.login.roles = vec!["User.Read.All".to_owned()];
    let (_, advice) = refused(Stage::new(graph).read(&in_groups(&[SALES])));
    assert!(advice.contains("GroupMember.Read.All"), "{advice}");
}

#[test]
fn users_shown_in_part_are_refused_as_their_addresses_would_go() {
    let users = [json!({ "accountEnabled": null, "proxyAddresses": null, "assignedPlans": null })];
    let (_, advice) = refused(Stage::new(Graph::with_users(&users)).everybody());
    assert!(advice.contains("User.Read.All"), "{advice}");
}

#[test]
fn an_expired_secret_is_told_with_what_to_do() {
    let stage = Stage::new(Graph::with_people(3));
    stage.graph.expire_secret();
    let (said, advice) = refused(stage.everybody());
    assert!(said.contains("AADSTS7000222") && said.contains(TRACE), "{said}");
    assert!(advice.contains("expired"), "{advice}");
    assert!(stage.graph.asked().is_empty(), "Graph was asked without a token");
}

#[test]
fn a_graph_nobody_answers_for_is_unreachable() {
    let stage = Stage::new(Graph::with_people(3));
    stage.graph.fault(1, usize::MAX, Reply::json(200, "{}").flawed(Flaw::Mute));
    let error = stage.everybody().unwrap_err();
    assert_eq!(error.kind(), "unreachable", "{error}");
}

#[test]
fn kinds_licences_and_faults_are_told() {
    let stage = Stage::new(Graph::with_users(&[
        json!({ "displayName": "Ann" }),
        json!({ "displayName": "Shared", "accountEnabled": false, "assignedPlans": [] }),
        json!({ "userType": "Guest", "userPrincipalName": "g_y.example#EXT#@contoso.example", "mail": "g@y.example", "proxyAddresses": ["SMTP:g@y.example"] }),
        json!({ "displayName": "Odd", "proxyAddresses": ["SMTP:odd@contoso.example", "smtp:not an address"] }),
        json!({ "id": " " }),
    ]));
    let listing = stage.everybody().unwrap();
    let told: Vec<_> = listing
        .candidates
        .iter()
        .map(|candidate| (candidate.kind.as_str(), candidate.enabled, candidate.licensed))
        .collect();
    assert_eq!(
        told,
        [
            ("user", Some(true), Some(true)),
            ("user", Some(false), Some(false)),
            ("guest", Some(true), Some(true)),
            ("user", Some(true), Some(true)),
        ]
    );
    let skipped: Vec<&str> = listing.skipped.iter().map(|skipped| skipped.why.as_str()).collect();
    assert_eq!(skipped.len(), 2, "{skipped:?}");
    assert!(skipped[0].contains("not an address") && skipped[1].contains("id"), "{skipped:?}");
}

#[test]
fn what_somebody_has_is_not_taken_by_another_ones_sign_in_name_or_other_mails() {
    let stage = Stage::new(Graph::with_users(&[
        json!({ "id": "adm-bob", "userPrincipalName": "sales@contoso.example", "mail": null, "proxyAddresses": [],
            "otherMails": ["bob@contoso.example", "carol@contoso.example", "bob@home.example"] }),
        json!({ "id": "carol", "userPrincipalName": "carol@contoso.example", "mail": null, "proxyAddresses": [] }),
        json!({ "id": "bob", "userPrincipalName": "bob@contoso.example", "mail": "bob@contoso.example",
            "proxyAddresses": ["SMTP:bob@contoso.example", "smtp:sales@contoso.example"],
            "otherMails": ["bob@home.example"] }),
    ]));
    let filters = Filters { other_mails: true, ..Filters::default() };
    let listing = stage.read(&filters).unwrap();
    let shown: Vec<String> = listing
        .candidates
        .iter()
        .map(|candidate| {
            let primary = candidate.primary.iter().map(|primary| primary.as_str());
            let all: Vec<&str> =
                primary.chain(candidate.aliases.iter().map(|alias| alias.as_str())).collect();
            format!("{}: {}", candidate.id, all.join(" "))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "adm-bob: bob@home.example",
            "carol: carol@contoso.example",
            "bob: bob@contoso.example sales@contoso.example"
        ]
    );
}
