//! The log as admins meet it: in a file that is rotated, moved and lost, at another level, and tailed while mail comes in.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/daybook.rs"]
mod support;

use daybook::observe;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use support::{Outcome, Server, Site, USERS, corpus, wait_until};

const FILE_SECTION: &str = "[log]\nfile = \"logs/daybook.log\"\n";

/// A site whose log is a file, with further keys.
fn site_with_file(keys: &str) -> Site {
    let site = Site::with(&format!("{FILE_SECTION}{keys}"), USERS);
    fs::create_dir(site.path("logs")).unwrap();
    site
}

fn parsed(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

fn create(site: &Site, name: &str) -> BTreeMap<String, String> {
    let made = site.run(&["mailbox", "create", "--name", name, "--json"]).expect(0).stdout;
    let made: Value = serde_json::from_str(&made).unwrap();
    ["address", "login", "password"]
        .map(|key| (key.to_owned(), made[key].as_str().unwrap().to_owned()))
        .into()
}

/// Sends the demonstration's report; gives its receipt id.
fn send(server: &Server<'_>, to: &str) -> String {
    send_this(server, to, &corpus("demo/report.eml"))
}

fn send_this(server: &Server<'_>, to: &str, message: &[u8]) -> String {
    let reply = server.send(to, message);
    reply.strip_prefix("250 2.0.0 Ok ").unwrap_or_else(|| panic!("{reply}")).to_owned()
}

/// The names in `logs`, sorted; those set aside by Daybook come after the one being written.
fn log_files(site: &Site) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(site.path("logs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Every event in every file of `logs`.
fn logged(site: &Site) -> Vec<Value> {
    log_files(site).iter().flat_map(|file| parsed(&fs::read_to_string(file).unwrap())).collect()
}

/// How often a receipt was committed, as the events say.
fn committed(events: &[Value], receipt_id: &str) -> usize {
    events.iter().filter(|e| e["event"] == "journal.committed" && e["receipt_id"] == receipt_id).count()
}

fn wait_for_text(file: &PathBuf, wanted: &str) {
    wait_until(wanted, || fs::read_to_string(file).is_ok_and(|text| text.contains(wanted)));
}

#[test]
fn a_log_in_a_file_is_begun_anew_by_size_and_loses_no_line() {
    let site = site_with_file("rotate_bytes = 65536\nkeep = 100\n");
    let mut server = site.serve();
    let address = create(&site, "Contoso")["address"].clone();
    let receipts: Vec<String> = (0..120).map(|_| send(&server, &address)).collect();
    assert_eq!(server.terminate(), 0);
    assert_eq!(server.log(), "", "nothing but the file");
    let files = log_files(&site);
    assert!(files.len() > 2, "{files:?}");
    for file in &files {
        let metadata = fs::metadata(file).unwrap();
        assert!(metadata.len() <= 65_536, "{file:?}: {}", metadata.len());
        assert_eq!(metadata.permissions().mode() & 0o137, 0, "{file:?}");
    }
    let events = logged(&site);
    for receipt_id in &receipts {
        assert_eq!(committed(&events, receipt_id), 1, "{receipt_id}");
    }
    assert_eq!(events.iter().filter(|e| e["event"] == "log.rotated").count(), files.len() - 1);
    assert_eq!(events.iter().filter(|e| e["event"] == "service.stopped").count(), 1);
}

#[test]
fn sighup_opens_a_moved_file_anew_and_no_line_is_lost_meanwhile() {
    let site = site_with_file("rotate_bytes = 0\nrotate_days = 0\n");
    let mut server = site.serve();
    let address = create(&site, "Contoso")["address"].clone();
    let (path, moved) = (site.path("logs/daybook.log"), site.path("logs/daybook.log.moved"));
    let before = send(&server, &address);
    // Nothing is logged between: the signal alone has it done.
    wait_for_text(&path, "smtp.accepted");
    fs::rename(&path, &moved).unwrap();
    server.signal("HUP");
    wait_for_text(&path, "log.reopened");
    let after = send(&server, &address);

    // And once more under load.
    let done = AtomicBool::new(false);
    let receipts = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut receipts = Vec::new();
            while !done.load(Ordering::Relaxed) || receipts.len() < 20 {
                receipts.push(send(&server, &address));
            }
            receipts
        });
        for n in 0..5 {
            fs::rename(&path, site.path(&format!("logs/moved-{n}"))).unwrap();
            server.signal("HUP");
            wait_for_text(&path, "tls.reloaded");
        }
        done.store(true, Ordering::Relaxed);
        sender.join().unwrap()
    });
    assert_eq!(server.terminate(), 0);
    assert!(fs::read_to_string(&moved).unwrap().contains(&before));
    assert!(!fs::read_to_string(&moved).unwrap().contains(&after));
    let events = logged(&site);
    for receipt_id in receipts.iter().chain([&before, &after]) {
        assert_eq!(committed(&events, receipt_id), 1, "{receipt_id}");
    }
    assert_eq!(server.log(), "");
}

#[test]
fn what_keeps_a_server_with_a_log_file_from_starting_is_said_on_standard_error() {
    let site = Site::with(FILE_SECTION, USERS);
    let mut server = site.serve_unchecked();
    assert_eq!(server.wait(), 3);
    assert!(server.log().contains("logs/daybook.log: No such file or directory"), "{}", server.log());

    let site = site_with_file("[tls]\ncertificate = \"none.pem\"\nprivate_key = \"none.pem\"\n");
    let mut server = site.serve_unchecked();
    assert_eq!(server.wait(), 3);
    assert!(server.log().contains("none.pem"), "{}", server.log());
    assert!(logged(&site).iter().any(|event| event["event"] == "service.failed"));
}

#[test]
fn a_log_file_that_goes_away_stops_no_mail_and_its_lines_go_to_standard_error() {
    let site = site_with_file("");
    let mut server = site.serve();
    let address = create(&site, "Contoso")["address"].clone();
    fs::remove_dir_all(site.path("logs")).unwrap();
    let unfiled = send(&server, &address);
    server.wait_for("log.file_failed");
    server.wait_for("smtp.accepted");
    assert_eq!(committed(&parsed(&server.log()), &unfiled), 1);
    fs::create_dir(site.path("logs")).unwrap();
    let filed = send(&server, &address);
    assert_eq!(server.terminate(), 0);
    let events = logged(&site);
    assert_eq!(committed(&events, &filed), 1);
    let dropped = events.iter().find(|event| event["event"] == "log.dropped").unwrap();
    assert_eq!(dropped["instead"], "standard error");
    assert_eq!(dropped["lines"].as_u64(), Some(server.log().lines().count() as u64));
    assert_eq!(parsed(&server.log()).iter().filter(|e| e["event"] == "log.file_failed").count(), 1, "once");
}

#[test]
fn the_level_is_shown_changed_and_falls_back_by_itself() {
    let site = Site::new();
    site.run(&["log-level"]).expect(3);
    let server = site.serve();
    assert_eq!(site.run(&["log-level"]).expect(0).stdout, "info\n");
    assert!(!server.log().contains("\"DEBUG\""));

    assert_eq!(site.run(&["log-level", "debug"]).expect(0).stdout, "debug until the next start, then info\n");
    server.send("mbx-1@gateway.example", b"x\r\n");
    server.wait_for("smtp.connected");
    server.wait_for("smtp.refused");
    let shown: Value = serde_json::from_str(&site.run(&["log-level", "--json"]).expect(0).stdout).unwrap();
    assert_eq!(
        (&shown["level"], &shown["configured"], &shown["until"]),
        (&"debug".into(), &"info".into(), &Value::Null)
    );

    site.run(&["log-level", "error"]).expect(0);
    server.send("mbx-1@gateway.example", b"x\r\n");
    // Those who tail are told at every level: then the log had its chance.
    let refused = ["tail", "--no-follow", "-n", "1000", "--event", "smtp.refused"];
    wait_until("both refusals", || site.run(&refused).expect(0).stdout.lines().count() == 2);

    let shown = site.run(&["log-level", "trace", "--for", "1s"]).expect(0).stdout;
    assert!(shown.starts_with("trace until 20") && shown.ends_with(", then info\n"), "{shown}");
    // Written after whatever was logged before.
    let told = |level: &str| server.log().contains(&format!("\"now\":\"{level}\""));
    wait_until("word of the change", || told("trace"));
    assert_eq!(server.log().matches("smtp.refused").count(), 1, "{}", server.log());
    wait_until("the old level", || site.run(&["log-level"]).expect(0).stdout == "info\n");
    wait_until("word of the old level", || told("info"));
    let changes: Vec<Value> =
        parsed(&server.log()).into_iter().filter(|event| event["event"] == "log.level_changed").collect();
    let levels: Vec<&str> = changes.iter().map(|event| event["now"].as_str().unwrap()).collect();
    assert_eq!(levels, ["debug", "error", "trace", "info"]);
    assert!(changes.iter().all(|event| event["level"] == "INFO"), "{changes:?}");
    assert!(changes[0]["actor"].as_str().unwrap().starts_with("cli, uid "), "{}", changes[0]);

    site.run(&["log-level", "loud"]).expect(2);
    site.run(&["log-level", "--for", "1m"]).expect(2);
    site.run(&["log-level", "debug", "--for", "99d"]).expect(2);
}

/// A `daybook tail` at work, its output in files.
struct Tail {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Tail {
    fn start(site: &Site, arguments: &[&str]) -> Tail {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (site.path(&format!("tail-{n}.out")), site.path(&format!("tail-{n}.err")));
        let mut command = site.command(&["tail"]);
        command.args(arguments).stdin(Stdio::null());
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        Tail { child: command.spawn().unwrap(), out, err }
    }

    fn wait_for(&self, wanted: &str) {
        wait_until(wanted, || self.shown().contains(wanted));
    }

    fn shown(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }

    fn interrupt(mut self) -> i32 {
        let kill = format!("kill -INT {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn tail_shows_the_last_lines_that_meet_every_condition() {
    let site = Site::with("[log]\nlevel = \"error\"\n", USERS);
    let server = site.serve();
    let mailbox = create(&site, "Contoso");
    let other = create(&site, "Other");
    let report = send(&server, &mailbox["address"]);
    let plain = send_this(&server, &other["address"], b"Subject: x\r\n\r\nhello\r\n");
    let mut pop3s = server.pop3s(&mailbox["login"], &mailbox["password"]).unwrap();
    pop3s.retrieve(1);
    pop3s.say("DELE 1").unwrap();
    pop3s.quit();
    server.send("nobody@gateway.example", b"x\r\n");

    let show = |arguments: &[&str]| -> Outcome {
        site.run(&[&["tail", "--no-follow"], arguments].concat()).expect(0)
    };
    // What a fetch did may be logged after the client has gone.
    wait_until("the end of the fetch", || show(&["-n", "1000"]).stdout.contains("fetch.session"));
    let events = |arguments: &[&str]| -> Vec<String> {
        let json = show(&[&["--json", "-n", "1000"], arguments].concat()).stdout;
        parsed(&json).iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(show(&["-n", "3"]).stdout.lines().count(), 3);
    assert_eq!(show(&["-n", "0"]).stdout, "");
    assert_eq!(show(&[]).stdout.lines().count(), 10);
    assert_eq!(events(&["--event", "smtp.refused"]), ["smtp.refused"]);
    assert_eq!(events(&["--class", "journal-report"]), ["journal.committed"]);
    assert_eq!(events(&["--class", "plain"]), ["journal.committed", "journal.unassigned"]);
    assert_eq!(events(&["--class", "ndr"]), [] as [&str; 0]);
    assert_eq!(events(&["--level", "warn", "--event", "journal."]), ["journal.unassigned"]);
    assert_eq!(events(&["--address", "BOB@contoso.example"]), ["journal.committed"]);
    assert_eq!(
        events(&["--mailbox", "Other"]),
        ["mailbox.created", "journal.committed", "journal.unassigned"]
    );
    let of_contoso = [
        "mailbox.created",
        "journal.committed",
        "auth.ok",
        "fetch.fetched",
        "fetch.deleted",
        "fetch.session",
    ];
    for named in ["Contoso", &mailbox["login"], &mailbox["address"]] {
        assert_eq!(events(&["--mailbox", named]), of_contoso, "{named}");
    }
    let of_report = [
        "journal.received",
        "journal.committed",
        "smtp.accepted",
        "auth.ok",
        "fetch.fetched",
        "fetch.deleted",
        "fetch.session",
    ];
    assert_eq!(events(&["--receipt", &report]), of_report);
    assert_eq!(events(&["--receipt", &plain, "--level", "warn"]), ["journal.unassigned"]);

    site.run(&["tail", "--no-follow", "--mailbox", "nobody"]).expect(1);
    site.run(&["tail", "--class", "fish"]).expect(2);
    site.run(&["tail", "--level", "loud"]).expect(2);

    let line = show(&["--event", "journal.committed", "--class", "journal-report"]).stdout;
    let short: String = mailbox["login"].chars().take(8).collect();
    assert!(line.chars().count() <= 121, "{line}");
    assert!(line.contains(&format!(" I journal.committed {report} {short} report ")), "{line}");
    assert!(line.contains("alice/out bob/in"), "{line}");
    let wide = show(&["--event", "journal.committed", "--class", "journal-report", "--wide"]).stdout;
    for whole in [
        format!("mailbox={}", mailbox["login"]),
        "sender=".to_owned(),
        "sha256=".to_owned(),
        "verdict=suspect".to_owned(),
    ] {
        assert!(wide.contains(&whole), "{whole}: {wide}");
    }
    assert!(!server.log().contains("journal.committed"), "the log itself was told to be quiet");
}

#[test]
fn tail_follows_also_debug_events_and_ends_well_at_ctrl_c() {
    let site = Site::new();
    let server = site.serve();
    let address = create(&site, "Contoso")["address"].clone();
    let plain = Tail::start(&site, &[]);
    let curious = Tail::start(&site, &["--level", "debug", "--json", "-n", "0"]);
    for tail in [&plain, &curious] {
        // A tail shows what is there when it begins, or is there when this happens.
        wait_until("a tail that follows", || {
            server.send("nobody@gateway.example", b"x\r\n");
            tail.shown().contains("smtp.refused")
        });
    }
    let receipt_id = send(&server, &address);
    plain.wait_for(&format!("smtp.accepted     {receipt_id}"));
    curious.wait_for(&receipt_id);
    curious.wait_for("smtp.connected");
    assert!(!server.log().contains("smtp.connected"));
    assert!(!plain.shown().contains("smtp.connected"));
    assert!(!plain.shown().contains('\u{1b}'), "no colours in a file");
    assert_eq!(plain.interrupt(), 0);
    assert_eq!(curious.interrupt(), 0);
}

#[test]
fn tail_outlives_a_restart_of_the_server() {
    let site = Site::new();
    site.run(&["tail"]).expect(3);
    let mut server = site.serve();
    let address = create(&site, "Contoso")["address"].clone();
    let tail = Tail::start(&site, &["-n", "100"]);
    let before = send(&server, &address);
    tail.wait_for(&before);
    assert_eq!(server.terminate(), 0);
    wait_until("word of the end", || tail.said().contains("the server has ended"));
    tail.wait_for("service.stopping");
    let again = site.serve();
    wait_until("word of the return", || tail.said().contains("the server is back"));
    let after = send(&again, &address);
    tail.wait_for(&format!("smtp.accepted     {after}"));
    assert_eq!(tail.shown().matches("service.started").count(), 2, "{}", tail.shown());
    assert_eq!(tail.shown().matches("service.stopping").count(), 1, "{}", tail.shown());
    assert_eq!(tail.interrupt(), 0);
}

#[test]
fn tails_have_their_own_places_and_do_not_keep_the_server_from_ending() {
    let site = Site::new();
    let mut server = site.serve();
    let tails: Vec<Tail> = (0..observe::FOLLOWERS_MAX).map(|_| Tail::start(&site, &["-n", "1000"])).collect();
    tails.iter().for_each(|tail| tail.wait_for("listening"));
    let refused = site.run(&["tail"]).expect(1);
    assert!(refused.stderr.contains("8 others"), "{}", refused.stderr);
    site.run(&["readyz"]).expect(0);
    drop(tails);
    wait_until("a free place", || site.run(&["tail", "--no-follow"]).code == 0);
    let _last = Tail::start(&site, &[]);
    assert_eq!(server.terminate(), 0);
}

const LOG: &str = r#"{"timestamp":"2026-11-21T09:30:00.000Z","level":"INFO","event":"smtp.tls","session_id":"s1","version":"TLSv1.3","cipher":"X"}
{"timestamp":"2026-11-21T09:30:01.000Z","level":"INFO","event":"journal.received","receipt_id":"019aa5b0-7e21-7c43-a1b2-0123456789ab","session_id":"s1","bytes":812}
not a line of ours [31m
{"timestamp":"2026-11-21T09:30:02.000Z","level":"WARN","event":"smtp.refused","session_id":"s2","peer":"192.0.2.1:1","code":550,"enhanced":"5.1.1"}
{"timestamp":"2026-11-21T09:30:03.000Z","level":"INFO","event":"auth.ok","session_id":"s3","mailbox":"mbx-1"}
"#;

#[test]
fn tail_reads_a_log_with_the_same_conditions_and_needs_no_configuration() {
    let site = Site::new();
    site.write("old.log", &LOG.replace(" [31m", " \u{1b}[31m"));
    fs::remove_file(site.path("daybook.toml")).unwrap();
    let all = site.run(&["tail", "old.log"]).expect(0).stdout;
    assert_eq!(
        all,
        "09:30:00 I smtp.tls          TLSv1.3 X\n\
         09:30:01 I journal.received  019aa5b0-7e21-7c43-a1b2-0123456789ab 812\n\
         not a line of ours \\u{1b}[31m\n\
         09:30:02 W smtp.refused      550 5.1.1 192.0.2.1:1\n\
         09:30:03 I auth.ok           mbx-1\n"
    );
    assert_eq!(site.run_with_input(&["tail", "-"], LOG.as_bytes()).expect(0).stdout.lines().count(), 5);
    let last = site.run(&["tail", "-n", "1", "old.log"]).expect(0).stdout;
    assert!(last.contains("auth.ok"), "{last}");
    let of = |arguments: &[&str]| site.run(&[&["tail", "old.log"], arguments].concat()).expect(0).stdout;
    assert_eq!(
        of(&["--receipt", "019aa5b0-7e21-7c43-a1b2-0123456789ab"]).lines().count(),
        2,
        "the session too"
    );
    assert_eq!(of(&["--level", "warn"]).lines().count(), 1);
    assert_eq!(of(&["--mailbox", "MBX-1@gateway.example"]).lines().count(), 1);
    let json = of(&["--json"]);
    assert_eq!(parsed(&json).len(), 4);
    assert_eq!(json.lines().next(), LOG.lines().next());
    site.run(&["tail", "none.log"]).expect(3);
}

#[test]
fn tail_ends_quietly_when_nobody_reads_it_any_more() {
    let site = Site::new();
    site.write("old.log", &LOG.repeat(20_000));
    let mut command = site.command(&["tail", "old.log"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("smtp.tls"), "{first}");
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(String::from_utf8(ended.stderr).unwrap(), "");
}

#[test]
fn the_stanza_for_logrotate_is_about_the_file_of_the_example() {
    let stanza = fs::read_to_string("config/logrotate").unwrap();
    let example = fs::read_to_string("config/daybook.toml").unwrap();
    let path = stanza.lines().find_map(|line| line.strip_suffix(" {")).unwrap();
    assert!(example.contains(&format!("# file = \"{path}\"")), "{path}");
    assert!(stanza.contains("--signal=HUP") && stanza.contains("nocreate"));
}

/// Debian's logrotate with our stanza, but for the path, the user and how the signal is sent.
#[cfg(feature = "real")]
#[test]
fn debians_logrotate_rotates_with_our_stanza_and_no_line_is_lost() {
    let site = site_with_file("rotate_bytes = 0\nrotate_days = 0\n");
    let mut server = site.serve();
    let address = create(&site, "Contoso")["address"].clone();
    let path = site.path("logs/daybook.log");
    let stanza = fs::read_to_string("config/logrotate").unwrap();
    let stanza = stanza
        .replace("/var/log/daybook/daybook.log", path.to_str().unwrap())
        .replace("    su daybook daybook\n", "")
        .replace(
            "systemctl kill --signal=HUP --kill-who=main daybook.service",
            &format!("kill -HUP {}", server.pid()),
        );
    assert!(!stanza.contains("systemctl") && !stanza.contains("    su "), "{stanza}");
    site.write("stanza", &stanza);
    let second = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut rotated = 0;
    let mut receipts = vec![send(&server, &address)];
    for n in 1..=2 {
        // The names that logrotate gives tell seconds, of a clock that may lag behind ours.
        wait_until("another second", || second() > rotated + 1);
        let mut logrotate = Command::new("/usr/sbin/logrotate");
        logrotate.args(["--force", "--verbose", "--state"]).arg(site.path("state")).arg(site.path("stanza"));
        let output = logrotate.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        rotated = second();
        wait_for_text(&path, "tls.reloaded");
        receipts.push(send(&server, &address));
        assert_eq!(log_files(&site).len(), n + 1, "{:?}", log_files(&site));
    }
    assert_eq!(server.terminate(), 0);
    let mut events = Vec::new();
    for file in log_files(&site) {
        let output = if file.extension().is_some_and(|extension| extension == "gz") {
            Command::new("gzip").arg("-dc").arg(&file).output().unwrap().stdout
        } else {
            fs::read(&file).unwrap()
        };
        events.extend(parsed(&String::from_utf8(output).unwrap()));
    }
    for receipt_id in &receipts {
        assert_eq!(committed(&events, receipt_id), 1, "{receipt_id}");
    }
}
