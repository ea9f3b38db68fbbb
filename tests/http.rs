//! Health and metrics over HTTP, on the built program; and that the alert rules, the dashboard and the table of metrics name
//! only what is there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/daybook.rs"]
mod support;

#[path = "support/http.rs"]
mod http;

#[path = "http/names.rs"]
mod names;

use daybook::cli::Daybook;
use daybook::config::{Http, Imap, Settings};
use http::{Scrape, ask, exchange, get};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};
use support::{DOMAIN, Server, Site, Smtp, USERS, corpus, wait_until};

const OPEN_METRICS: &str =
    "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
const PAGES: [&str; 5] = ["/livez", "/readyz", "/healthz", "/version", "/metrics"];
/// A message that is neither report nor NDR.
const PLAIN: &[u8] = b"From: a@elsewhere.example\r\nSubject: x\r\n\r\nhello\r\n";

/// A gateway mailbox just made.
struct Account {
    address: String,
    login: String,
    password: String,
}

fn create(site: &Site, name: &str) -> Account {
    let made = site.run(&["mailbox", "create", "--name", name, "--json"]).expect(0).stdout;
    let made: Value = serde_json::from_str(&made).unwrap();
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    Account { address: text("address"), login: text("login"), password: text("password") }
}

fn port(server: &Server<'_>) -> SocketAddr {
    server.port("http")
}

/// A check of `/healthz`, by its name.
fn check(server: &Server<'_>, name: &str) -> Value {
    let health: Value = serde_json::from_str(&get(port(server), "/healthz").body).unwrap();
    let checks = health["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{health}")).clone()
}

#[test]
fn every_page_answers_and_head_says_the_same_without_its_body() {
    let site = Site::new();
    let server = site.serve();
    for path in PAGES {
        let answer = get(port(&server), path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.header("content-length"), answer.body.len().to_string(), "{path}");
        assert_eq!(answer.header("connection"), "close", "{path}");
        let head = ask(port(&server), "HEAD", path, "");
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        assert_eq!(head.header("content-type"), answer.header("content-type"), "{path}");
        let length: usize = head.header("content-length").parse().unwrap();
        // A number may have become longer by a digit since.
        assert!(length.abs_diff(answer.body.len()) < 16, "{path}: {length}");
    }
    assert_eq!(get(port(&server), "/livez").body, "ok\n");
    assert_eq!(get(port(&server), "/readyz").body, "ready\n");
    let version: Value = serde_json::from_str(&get(port(&server), "/version").body).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    for name in ["listeners", "store", "disk", "directory", "certificate", "configuration"] {
        assert_eq!(check(&server, name)["good"], true, "{name}");
    }
}

#[test]
fn metrics_come_in_the_form_that_is_asked_for() {
    let site = Site::new();
    let server = site.serve();
    let newer = ask(port(&server), "GET", "/metrics", OPEN_METRICS);
    assert_eq!(newer.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(newer.body.ends_with("\n# EOF\n") && newer.body.contains("# TYPE daybook_panics counter\n"));
    for accept in ["", "*/*", "text/plain"] {
        let older = ask(port(&server), "GET", "/metrics", accept);
        assert_eq!(older.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        assert!(
            !older.body.contains("# EOF") && older.body.contains("# TYPE daybook_panics_total counter\n")
        );
    }
}

#[test]
fn what_is_not_there_is_404_and_what_would_change_something_405() {
    let site = Site::new();
    let server = site.serve();
    for path in ["/", "/metrics/", "/metricsx", "/../livez", "/api/v1/users"] {
        assert_eq!(get(port(&server), path).status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        for path in PAGES {
            let answer = ask(port(&server), method, path, "");
            assert_eq!((answer.status, answer.header("allow")), (405, "GET,HEAD"), "{method} {path}");
        }
    }
    let garbage = exchange(port(&server), b"EHLO client.example\r\n\r\n");
    assert!(garbage.is_empty() || garbage.starts_with("HTTP/1.1 400 "), "{garbage}");
    let long = format!("GET /livez HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024));
    assert!(!exchange(port(&server), long.as_bytes()).starts_with("HTTP/1.1 200 "));
    assert_eq!(get(port(&server), "/livez").status, 200);
}

#[test]
fn clients_that_dawdle_are_sent_away_and_use_up_no_more_than_the_cap() {
    let site = Site::new();
    let server = site.serve();
    let dawdle = || {
        let mut stream = TcpStream::connect(port(&server)).unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: ").unwrap();
        stream
    };
    let mut dawdlers: Vec<TcpStream> = (0..8).map(|_| dawdle()).collect();
    assert_eq!(get(port(&server), "/livez").status, 200, "others are served meanwhile");
    wait_until("one connection too many", || {
        dawdlers.push(dawdle());
        exchange(port(&server), b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 503 ")
    });
    for dawdler in &mut dawdlers {
        dawdler.set_read_timeout(Some(support::SOON)).unwrap();
        let mut said = Vec::new();
        // A reset is a way of being sent away too.
        dawdler.read_to_end(&mut said).ok();
        assert!(!said.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&said));
    }
    assert_eq!(get(port(&server), "/livez").status, 200);
}

#[test]
fn counters_move_when_a_report_is_received_refused_and_fetched_whatever_is_logged() {
    let site = Site::with("[log]\nlevel = \"error\"\n", USERS);
    let account = create(&site, "Contoso");
    let server = site.serve();
    let before = Scrape::of(port(&server));
    for (name, kind) in before.families.iter().filter(|(_, kind)| *kind == "counter") {
        assert!(before.text.contains(&format!("\n{name}")), "{name} ({kind}) has no series at the start");
    }
    assert_eq!(before.total("daybook_reports_total"), 0.0);

    let report = corpus("demo/report.eml");
    for message in [&report, &report, &corpus("demo/hopeless.eml"), &PLAIN.to_vec()] {
        assert!(server.send(&account.address, message).starts_with("250 "));
    }
    assert!(server.send(&format!("nobody@{DOMAIN}"), PLAIN).starts_with("550 "));
    let mut pop3s = server.pop3s(&account.login, &account.password).unwrap();
    pop3s.retrieve(1);
    pop3s.retrieve(2);
    pop3s.say("DELE 1").unwrap();
    pop3s.quit();
    assert!(server.pop3s(&account.login, "wrong").is_err());
    wait_until("the end of the SMTP sessions", || {
        Scrape::of(port(&server)).value("daybook_smtp_connections") == 0.0
    });

    let after = Scrape::of(port(&server));
    for (series, expect) in [
        ("daybook_reports_total{class=\"journal-report\",result=\"stored\"}", 1.0),
        ("daybook_reports_total{class=\"journal-report\",result=\"repeated\"}", 1.0),
        ("daybook_reports_total{class=\"journal-report\",result=\"quarantined\"}", 1.0),
        ("daybook_reports_total{class=\"plain\",result=\"unassigned\"}", 1.0),
        ("daybook_report_bytes_count", 4.0),
        ("daybook_ingest_seconds_count{phase=\"commit\"}", 4.0),
        ("daybook_ingest_seconds_count{phase=\"receive\"}", 4.0),
        ("daybook_duplicates_total", 1.0),
        ("daybook_related_total{relation=\"repetition\"}", 1.0),
        ("daybook_related_total{relation=\"exact-copy\"}", 1.0),
        ("daybook_related_total{relation=\"fork\"}", 0.0),
        ("daybook_smtp_replies_total{code=\"354\"}", 4.0),
        ("daybook_smtp_replies_total{code=\"550\"}", 1.0),
        ("daybook_fetch_sessions_total{protocol=\"pop3\",result=\"quit\"}", 1.0),
        ("daybook_fetched_messages_total", 2.0),
        ("daybook_deleted_messages_total", 1.0),
        ("daybook_auth_failures_total{protocol=\"pop3\",reason=\"wrong\"}", 1.0),
        ("daybook_panics_total", 0.0),
        ("daybook_store_commit_failures_total", 0.0),
    ] {
        assert_eq!(after.value(series), expect, "{series}");
    }
    assert_eq!(after.total("daybook_smtp_sessions_total"), 5.0);
    assert!(after.value("daybook_store_sync_seconds_count") >= 5.0);
    assert!(after.value("daybook_report_bytes_sum") > report.len() as f64 * 2.0);
    assert!(
        !after.text.contains('@') && !after.text.contains("mbx-"),
        "addresses are secrets:\n{}",
        after.text
    );
    assert!(!server.log().contains("\"INFO\""), "{}", server.log());
}

#[test]
fn each_gateway_mailbox_has_its_gauges_and_one_for_self_tests_has_none() {
    let site = Site::new();
    let full = create(&site, "Contoso, \"Ltd\"\\");
    create(&site, "Empty");
    site.run(&["mailbox", "suspend", "Empty"]).expect(0);
    let server = site.serve();
    // As `daybook doctor` does; by hand none can be made under that name.
    let mut socket = UnixStream::connect(site.path("data/admin.sock")).unwrap();
    socket.write_all(b"{\"op\":\"renew-self-test\"}\n").unwrap();
    let mut made = String::new();
    socket.read_to_string(&mut made).unwrap();
    assert!(made.contains("daybook self-test"), "{made}");
    for message in [corpus("demo/report.eml"), corpus("demo/hopeless.eml"), PLAIN.to_vec()] {
        assert!(server.send(&full.address, &message).starts_with("250 "));
    }
    // A visit that takes nothing is a visit.
    server.pop3s(&full.login, &full.password).unwrap().quit();

    let scrape = Scrape::of(port(&server));
    assert!(!scrape.text.contains("self-test"), "{}", scrape.text);
    let gauge = |name: &str, of: &str| {
        let found = scrape.samples.iter().find(|(series, _)| {
            series.starts_with(&format!("{name}{{mailbox=\""))
                && series.ends_with(&format!(",name=\"{of}\"}}"))
        });
        found.map(|(_, value)| *value)
    };
    let name = r#"Contoso, \"Ltd\"\\"#;
    for (metric, expect) in [
        ("daybook_mailbox_active", 1.0),
        ("daybook_mailbox_messages", 3.0),
        ("daybook_mailbox_unfetched_messages", 3.0),
        ("daybook_mailbox_quarantine_messages", 1.0),
        ("daybook_mailbox_unassigned_messages", 1.0),
    ] {
        assert_eq!(gauge(metric, name), Some(expect), "{metric}");
    }
    let report = corpus("demo/report.eml").len() as f64;
    assert!(gauge("daybook_mailbox_bytes", name) > Some(report));
    let started = scrape.value("daybook_process_start_time_seconds");
    for metric in ["mailbox_oldest", "mailbox_oldest_unfetched", "last_report", "last_fetch"] {
        let metric = format!("daybook_{metric}_timestamp_seconds");
        assert!(gauge(&metric, name) >= Some(started), "{metric}: {:?}", gauge(&metric, name));
        assert_eq!(gauge(&metric, "Empty"), None, "{metric}");
    }
    assert_eq!(gauge("daybook_mailbox_active", "Empty"), Some(0.0));
    assert_eq!(gauge("daybook_mailbox_messages", "Empty"), Some(0.0));
    let year = 365.0 * 86_400.0;
    assert!(scrape.value("daybook_tls_cert_expiry_timestamp_seconds") > started + year);
    assert!(scrape.value("daybook_store_free_bytes") > 0.0);
    assert_eq!(scrape.value("daybook_store_reserve_bytes"), 2.0 * 419_430_400.0);
    assert_eq!(scrape.value("daybook_directory_users{source=\"file\",kind=\"file\"}"), 2.0);
}

#[test]
fn scrapes_at_the_same_time_are_each_whole() {
    let site = Site::new();
    let account = create(&site, "Contoso");
    let server = site.serve();
    let at = port(&server);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            for _ in 0..20 {
                assert!(server.send(&account.address, PLAIN).starts_with("250 "));
            }
        });
        let scrapers: Vec<_> = (0..12)
            .map(|n| {
                scope.spawn(move || {
                    let whole = ask(at, "GET", "/metrics", OPEN_METRICS);
                    assert!(whole.body.ends_with("# EOF\n"), "{n}: {}", whole.status);
                    Scrape::of(at).families.into_keys().collect::<Vec<_>>()
                })
            })
            .collect();
        let names: Vec<Vec<String>> = scrapers.into_iter().map(|scraper| scraper.join().unwrap()).collect();
        assert!(names.iter().all(|other| *other == names[0]));
        sender.join().unwrap();
    });
    assert_eq!(Scrape::of(at).total("daybook_reports_total"), 20.0);
}

#[test]
fn a_directory_that_cannot_be_read_is_told_and_does_not_make_it_unready() {
    let site = Site::with("", "[[user]]\nid = \"a\"\naddresses = [\"secret@contoso.example\", 3]\n");
    let server = site.serve();
    let answer = get(port(&server), "/readyz");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.starts_with("ready\ndirectory (note): file "), "{}", answer.body);
    let directory = check(&server, "directory");
    assert_eq!((&directory["good"], &directory["advisory"]), (&Value::Bool(false), &Value::Bool(true)));
    let scrape = Scrape::of(port(&server));
    assert!(!answer.body.contains('@') && !directory.to_string().contains('@') && !scrape.text.contains('@'));
    assert_eq!(scrape.value("daybook_directory_good{source=\"file\",kind=\"file\"}"), 0.0);
    assert!(!scrape.text.contains("daybook_directory_last_success_timestamp_seconds{"));
    assert_eq!(scrape.value("daybook_ready"), 1.0);

    site.write("users.toml", USERS);
    server.signal("HUP");
    wait_until("the list that was mended", || get(port(&server), "/readyz").body == "ready\n");
    let scrape = Scrape::of(port(&server));
    assert_eq!(scrape.value("daybook_directory_good{source=\"file\",kind=\"file\"}"), 1.0);
    assert!(scrape.text.contains("daybook_directory_last_success_timestamp_seconds{"));
}

/// Files of the server cannot grow beyond 1 MiB, so that the segment it writes to fails in the end; and with the log's folder
/// out of the way it cannot begin another. Both work as any user.
#[test]
fn a_store_that_cannot_write_makes_it_unready_until_it_can() {
    let site = Site::new();
    let account = create(&site, "Contoso");
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$0\" --config \"$1\" serve"]);
    command.arg(env!("CARGO_BIN_EXE_daybook")).arg(site.path("daybook.toml"));
    let server = site.serve_by(command).wait_until_it_serves();
    assert_eq!(get(port(&server), "/readyz").status, 200);

    let (log, away) = (site.path("data/log"), site.path("data/log-away"));
    std::fs::rename(&log, &away).unwrap();
    std::fs::write(&log, "in the way").unwrap();
    let mut n = 0;
    wait_until("a write that fails", || {
        n += 1;
        let mut message = format!("Message-ID: <{n}@x>\r\n\r\n").into_bytes();
        message.extend(b"0123456789abcdef\r\n".repeat(10_000));
        server.send(&account.address, &message).starts_with("451 ")
    });
    let answer = get(port(&server), "/readyz");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.starts_with("not ready\nstore: "), "{}", answer.body);
    assert_eq!(get(port(&server), "/healthz").status, 503);
    assert_eq!(check(&server, "store")["good"], false);
    assert_eq!(get(port(&server), "/livez").status, 200);
    assert_eq!(site.run(&["readyz"]).expect(1).stdout, answer.body);
    let scrape = Scrape::of(port(&server));
    assert_eq!((scrape.value("daybook_ready"), scrape.value("daybook_store_ready")), (0.0, 0.0));
    assert!(scrape.value("daybook_store_commit_failures_total") >= 1.0);
    assert!(scrape.value("daybook_reports_total{class=\"unknown\",result=\"deferred\"}") >= 1.0);
    assert!(scrape.value("daybook_smtp_replies_total{code=\"451\"}") >= 1.0);

    std::fs::remove_file(&log).unwrap();
    std::fs::rename(&away, &log).unwrap();
    wait_until("the store to try again by itself", || get(port(&server), "/readyz").status == 200);
    assert!(server.send(&account.address, PLAIN).starts_with("250 "));
}

#[tokio::test]
async fn too_little_room_makes_it_unready() {
    let dir = tempfile::tempdir().unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut settings = Settings::with_defaults("localhost", &[DOMAIN], dir.path());
    settings.smtp.listen = vec![any];
    settings.pop3.listen = vec![any];
    settings.pop3.listen_tls = vec![any];
    settings.imap = Some(Imap { listen: vec![any], listen_tls: vec![any] });
    settings.http = Some(Http { listen: Some(any) });
    // No disk has room for two of these.
    settings.smtp.max_message_bytes = u64::MAX;
    let running = Daybook::start(settings).await.unwrap();
    let at = running.ports.http.unwrap();
    let (ready, scrape) =
        tokio::task::spawn_blocking(move || (get(at, "/readyz"), Scrape::of(at))).await.unwrap();
    assert_eq!(ready.status, 503, "{ready:?}");
    assert!(ready.body.starts_with("not ready\ndisk: "), "{}", ready.body);
    assert_eq!((scrape.value("daybook_ready"), scrape.value("daybook_store_ready")), (0.0, 0.0));
    running.stop().await;
    assert!(TcpStream::connect(at).is_err(), "it is drained with the server");
}

#[test]
fn it_is_unready_while_it_ends() {
    let site = Site::new();
    let account = create(&site, "Contoso");
    let mut server = site.serve();
    let at = port(&server);
    let mut smtp = Smtp::connect(server.port("smtp"));
    for command in ["MAIL FROM:<>", &format!("RCPT TO:<{}>", account.address), "DATA"] {
        assert!(smtp.say(command).starts_with(['2', '3']), "{command}");
    }
    server.signal("TERM");
    wait_until("not ready", || get(at, "/readyz").body == "not ready\nlisteners: the server is stopping\n");
    assert!(smtp.say("Subject: x\r\n\r\nlate\r\n.").starts_with("250 "), "what was begun is finished");
    drop(smtp);
    assert_eq!(server.wait(), 0);
    assert!(TcpStream::connect(at).is_err());
}

#[test]
fn a_default_port_that_is_taken_stops_nobody_and_one_that_was_asked_for_does() {
    // Somebody else may have it, for long or for the length of a test; then it is taken as well.
    let patience = Instant::now() + Duration::from_secs(2);
    let mut holder = TcpListener::bind("127.0.0.1:8450");
    while holder.is_err() && Instant::now() < patience {
        holder = TcpListener::bind("127.0.0.1:8450");
    }
    let site = Site::new();
    let configured = std::fs::read_to_string(site.path("daybook.toml")).unwrap();
    let with = |listen: &str| configured.replace("[http]\nlisten = \"127.0.0.1:0\"\n", listen);

    site.write("daybook.toml", &with(""));
    let mut server = site.serve();
    server.wait_for("http.unavailable");
    assert!(!std::fs::read_to_string(site.path("data/ports.json")).unwrap().contains("http"));
    assert!(Smtp::connect(server.port("smtp")).say("NOOP").starts_with("250 "));
    assert_eq!(server.terminate(), 0);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("[http]\nlisten = \"{}\"\n", taken.local_addr().unwrap());
    site.write("daybook.toml", &with(&listen));
    assert_eq!(site.serve_unchecked().wait(), 3);

    site.write("daybook.toml", &with("[http]\nlisten = \"off\"\n"));
    let mut server = site.serve();
    assert!(!server.log().contains("http"), "{}", server.log());
    assert!(!std::fs::read_to_string(site.path("data/ports.json")).unwrap().contains("http"));
    assert_eq!(server.terminate(), 0);

    site.write("daybook.toml", &with("[http]\nlisten = \"[::]:0\"\n"));
    let checked = site.run(&["config", "check"]).expect(0).stdout;
    assert!(checked.contains("note: [http] listens on [::]:0: whoever reaches it reads"), "{checked}");
}
