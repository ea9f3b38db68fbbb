//! Alarms and status mail of the built program, with `mailin-embedded` as the relay, and of a gateway in this process where
//! hours or weeks must pass: there the time is given, not waited for.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/daybook.rs"]
mod support;

#[path = "support/delivery.rs"]
mod delivery;

#[path = "support/sink.rs"]
mod sink;

use daybook::admin::watch::{StatusView, Watch};
use daybook::cli::{Daybook, Running};
use daybook::config;
use daybook::mail::*;
use daybook::observe::alarm::Cause;
use daybook::observe::now;
use daybook::store::*;
use delivery::delivery;
use serde_json::Value;
use sink::{Door, Mail, Sink};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use support::{Outcome, Server, Site, USERS, corpus, wait_until};

const MINUTE_MS: i64 = 60 * 1000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

const REPORT: &str = "demo/report.eml";
/// Cannot be read: quarantined.
const HOPELESS: &str = "demo/hopeless.eml";

fn json_of(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{outcome:?}"))
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}")).to_owned()
}

/// The names of the alarms `daybook status` shows.
fn alarms(site: &Site, code: i32) -> Vec<String> {
    let status = json_of(&site.run(&["status", "--json"]).expect(code));
    status["alarms"].as_array().unwrap().iter().map(|alarm| text(alarm, "alarm")).collect()
}

/// Makes a certificate for `localhost` that ends in so many days, and its key.
fn write_pair(certificate: &Path, key: &Path, days: i64) {
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let today = time::OffsetDateTime::from_unix_timestamp(now().unix_seconds()).unwrap();
    parameters.not_before = today - time::Duration::days(90);
    parameters.not_after = today + time::Duration::days(days) + time::Duration::hours(1);
    let made_key = rcgen::KeyPair::generate().unwrap();
    fs::write(certificate, parameters.self_signed(&made_key).unwrap().pem()).unwrap();
    fs::write(key, made_key.serialize_pem()).unwrap();
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A site, and beside it what its relay needs.
fn site_with_relay_files() -> Site {
    let site = Site::new();
    write_pair(&site.path("relay.pem"), &site.path("relay-key.pem"), 30);
    site.write("relay-password", "open sesame\n");
    fs::set_permissions(site.path("relay-password"), fs::Permissions::from_mode(0o600)).unwrap();
    site
}

/// A relay that wants STARTTLS and a login.
fn guarded(site: &Site) -> Sink {
    Sink::start(&Door {
        pair: Some((&site.path("relay.pem"), &site.path("relay-key.pem"))),
        login: Some(("daybook", "open sesame")),
    })
}

/// `[alerts]` for a relay at this port that is to be logged in to.
fn guarded_section(port: u16) -> String {
    format!(
        "[alerts]\nto = [\"admin@example.net\"]\nfrom = \"gateway@example.com\"\nrelay = \"localhost\"\nport = {port}\n\
         username = \"daybook\"\npassword_file = \"relay-password\"\nca_file = \"relay.pem\"\ndaily_report_at = \"off\"\n"
    )
}

/// Adds sections to the configuration of a site.
fn configure(site: &Site, sections: &str) {
    let text = fs::read_to_string(site.path("daybook.toml")).unwrap();
    let (before, directory) = text.split_once("[[directory]]").unwrap();
    let before = before.split_once("[alerts]").map_or(before, |(before, _)| before);
    site.write("daybook.toml", &format!("{before}{sections}[[directory]]{directory}"));
}

fn wait_for_mails(sink: &Sink, count: usize) -> Vec<Mail> {
    wait_until(&format!("{count} mails"), || sink.mails().len() >= count);
    sink.mails()
}

fn count_of(server: &Server<'_>, event: &str) -> usize {
    server.log().matches(&format!("\"event\":\"{event}\"")).count()
}

#[test]
fn a_quarantined_message_is_told_of_once_also_over_a_restart() {
    let site = site_with_relay_files();
    let sink = guarded(&site);
    configure(&site, &guarded_section(sink.port));
    let made = json_of(&site.run(&["mailbox", "create", "--name", "Zo\u{eb} Ltd", "--json"]).expect(0));
    let (address, login) = (text(&made, "address"), text(&made, "login"));
    let mut server = site.serve();
    assert_eq!(alarms(&site, 0), Vec::<String>::new());
    assert!(server.send(&address, &corpus(REPORT)).starts_with("250 "));
    assert!(server.send(&address, &corpus(HOPELESS)).starts_with("250 "));
    assert_eq!(alarms(&site, 1), ["quarantine-growing"]);
    assert_eq!(alarms(&site, 1), ["quarantine-growing"]);

    let mails = wait_for_mails(&sink, 1);
    let mail = &mails[0];
    assert_eq!(
        (mail.from.as_str(), &mail.to),
        ("gateway@example.com", &vec!["admin@example.net".to_owned()])
    );
    assert_eq!(mail.header("X-Daybook-Notice"), "localhost");
    assert_eq!(mail.header("Auto-Submitted"), "auto-generated");
    assert!(mail.header("Message-ID").starts_with("<daybook-notice."), "{}", mail.text);
    assert!(mail.header("Subject").starts_with("[daybook localhost] 1 message for"), "{}", mail.text);
    assert!(
        mail.text.contains("Is mail lost? No.") && mail.text.contains("daybook explain RECEIPT"),
        "{}",
        mail.text
    );
    assert!(!mail.text.contains(&login) && !mail.text.contains("Annual review"), "{}", mail.text);
    server.wait_for("alert.mail_sent");
    assert_eq!((count_of(&server, "alarm.raised"), count_of(&server, "alarm.cleared")), (1, 0));
    let log = server.log();
    let raised = log.lines().find(|line| line.contains("\"event\":\"alarm.raised\"")).unwrap();
    assert!(raised.contains(&format!("\"mailbox\":\"{login}\"")), "{raised}");
    assert_eq!(server.terminate(), 0);
    let kept = fs::metadata(site.path("data/watch.json")).unwrap().permissions().mode();
    assert_eq!(kept & 0o777, 0o600);

    // A restart neither repeats nor forgets.
    let mut server = site.serve();
    assert_eq!(alarms(&site, 1), ["quarantine-growing"]);
    assert_eq!(count_of(&server, "alarm.raised"), 0);
    // A suspended gateway mailbox has no alarms.
    site.run(&["mailbox", "suspend", &login]).expect(0);
    assert_eq!(alarms(&site, 0), Vec::<String>::new());
    let mails = wait_for_mails(&sink, 2);
    assert!(mails[1].header("Subject").contains("Over: quarantine-growing"), "{}", mails[1].text);
    assert!(!server.log().contains("open sesame"));
    assert_eq!(server.terminate(), 0);
    assert_eq!(sink.mails().len(), 2);
}

#[test]
fn reports_about_our_own_notices_raise_nothing() {
    let site = Site::new();
    let made = json_of(&site.run(&["mailbox", "create", "--name", "Contoso", "--json"]).expect(0));
    let address = text(&made, "address");
    let mut server = site.serve();
    let notice = |name: &str, message_id: &str| {
        let message = String::from_utf8(corpus(name)).unwrap();
        message.replace(message_id, "<daybook-notice.1.2@localhost>").into_bytes()
    };
    let hopeless = notice(HOPELESS, "<5d6f2c1e-0004-4a1e-9c39-0d5f7a1c0004@journal.report.generator>");
    let report = notice(REPORT, "<quarter-1@contoso.example>");
    for message in [&hopeless, &report] {
        assert!(server.send(&address, message).starts_with("250 "));
    }
    let status = json_of(&site.run(&["status", "--json"]).expect(0));
    let mailbox = &status["gateway_mailboxes"][0];
    assert_eq!((&mailbox["last_day"]["received"], &mailbox["waiting"]), (&0.into(), &0.into()), "{mailbox}");
    assert_eq!(mailbox["last_report"], Value::Null);
    // They are stored all the same.
    let shown = json_of(&site.run(&["mailbox", "show", &address, "--json"]).expect(0));
    assert_eq!(shown["inbox"]["entries"], 2);
    assert_eq!(server.terminate(), 0);
}

#[test]
fn certificate_and_disk_are_told_of_in_one_mail_and_each_is_over_once() {
    let site = site_with_relay_files();
    let sink = guarded(&site);
    let pair = (site.path("cert.pem"), site.path("key.pem"));
    write_pair(&pair.0, &pair.1, 10);
    let tls = "[tls]\ncertificate = \"cert.pem\"\nprivate_key = \"key.pem\"\n";
    configure(&site, &format!("{tls}{}disk_margin_bytes = {}\n", guarded_section(sink.port), i64::MAX));
    let mut server = site.serve();
    let mail = wait_for_mails(&sink, 1).remove(0);
    assert!(mail.header("Subject").ends_with(", and 1 more"), "{}", mail.text);
    for part in ["The disk is filling up", "The certificate ends in 10 days", "disk_margin_bytes"] {
        assert!(mail.text.contains(part), "{part} is not in\n{}", mail.text);
    }
    let page = site.run(&["status"]).expect(1).stdout;
    for part in ["certificate-expiring, warning, raised", "disk-low, warning, raised", "10 days left"] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
    write_pair(&pair.0, &pair.1, 90);
    server.signal("HUP");
    server.wait_for("tls.reloaded");
    assert_eq!(alarms(&site, 1), ["disk-low"]);
    let mails = wait_for_mails(&sink, 2);
    assert!(mails[1].header("Subject").ends_with("Over: certificate-expiring"), "{}", mails[1].text);
    // The sink has it before its answer is read; a mail under way at the end would be sent again.
    wait_until("both sent", || count_of(&server, "alert.mail_sent") == 2);
    assert_eq!(server.terminate(), 0);

    configure(&site, &guarded_section(sink.port));
    let mut server = site.serve();
    assert_eq!(alarms(&site, 0), Vec::<String>::new());
    let mails = wait_for_mails(&sink, 3);
    assert!(mails[2].header("Subject").ends_with("Over: disk-low"), "{}", mails[2].text);
    assert_eq!(server.terminate(), 0);
    assert_eq!(sink.mails().len(), 3);
}

#[test]
fn a_relay_without_starttls_gets_neither_password_nor_mail() {
    let site = site_with_relay_files();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    configure(&site, &guarded_section(listener.local_addr().unwrap().port()));
    let said = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"220 relay.example\r\n").unwrap();
        let mut lines = Vec::new();
        for line in BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok) {
            let reply: &[u8] = match line.get(..4) {
                Some("EHLO") => b"250-relay.example\r\n250 AUTH PLAIN LOGIN\r\n",
                _ => b"502 5.5.1 no\r\n",
            };
            lines.push(line);
            stream.write_all(reply).ok();
        }
        lines
    });
    let mut server = site.serve();
    let outcome = site.run(&["status-mail", "--now"]).expect(1);
    assert!(outcome.stdout.contains("NOT TAKEN by localhost"), "{outcome:?}");
    assert!(outcome.stdout.contains("STARTTLS"), "{outcome:?}");
    assert_eq!(server.terminate(), 0);
    let said = said.join().unwrap();
    assert!(said.iter().all(|line| line.starts_with("EHLO") || line.starts_with("QUIT")), "{said:?}");
}

#[test]
fn setting_up_says_what_the_relay_answers() {
    let site = site_with_relay_files();
    let sink = guarded(&site);
    for arguments in [&["status"] as &[&str], &["status-mail"], &["status-mail", "--now"]] {
        site.run(arguments).expect(3);
    }
    // Nothing configured: the report can be seen, not sent.
    let mut server = site.serve();
    let shown = site.run(&["status-mail"]).expect(0).stdout;
    assert!(shown.starts_with("Subject: [daybook localhost] Status: all well\n\n"), "{shown}");
    let refused = site.run(&["status-mail", "--now"]).expect(2);
    assert!(refused.stderr.contains("[alerts]"), "{refused:?}");
    assert_eq!(server.terminate(), 0);

    let two = guarded_section(sink.port).replace("[\"admin@", "[\"nobody@example.net\", \"admin@");
    configure(&site, &two);
    site.write("relay-password", "wrong\n");
    fs::set_permissions(site.path("relay-password"), fs::Permissions::from_mode(0o644)).unwrap();
    let mut refused = site.serve_unchecked();
    assert_eq!(refused.wait(), 2);
    assert!(refused.log().contains("run chmod go-rwx"), "{}", refused.log());
    // Not there is no reason to take no mail.
    fs::remove_file(site.path("relay-password")).unwrap();
    let mut server = site.serve();
    server.wait_for("alerts.password_file");
    site.write("relay-password", "wrong\n");
    let wrong = site.run(&["status-mail", "--now"]).expect(1).stdout;
    assert!(wrong.contains("admin@example.net: NOT TAKEN") && wrong.contains("535"), "{wrong}");
    assert!(site.run(&["status"]).expect(0).stdout.contains("THE LAST TRY FAILED"));
    // The file is read for every mail, and one who is refused keeps it from nobody else.
    site.write("relay-password", "open sesame\n");
    let now_right = json_of(&site.run(&["status-mail", "--now", "--json"]).expect(1));
    let taken: Vec<&Value> =
        now_right["sent"].as_array().unwrap().iter().map(|sent| &sent["taken"]).collect();
    assert_eq!(taken, [false, true], "{now_right}");
    assert!(text(&now_right["sent"][0], "answer").contains("550"), "{now_right}");
    let mails = sink.mails();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].text.contains("status.json") && mails[0].text.contains("\"gateway_mailboxes\": []"));
    assert_eq!(server.terminate(), 0);
    // A certificate nobody vouches for.
    write_pair(&site.path("relay.pem"), &site.path("other-key.pem"), 30);
    let mut server = site.serve();
    let distrusted = site.run(&["status-mail", "--now"]).expect(1).stdout;
    assert!(distrusted.contains("certificate"), "{distrusted}");
    assert_eq!((sink.mails().len(), server.terminate()), (1, 0));
}

#[test]
fn a_relay_that_is_down_gets_everything_once_it_is_back() {
    let site = site_with_relay_files();
    let place = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    configure(&site, &format!("{}disk_margin_bytes = {}\n", guarded_section(address.port()), i64::MAX));
    let mut server = site.serve();
    server.wait_for("alert.mail_failed");
    assert!(site.run(&["status-mail", "--now"]).expect(1).stdout.contains("NOT TAKEN"));
    assert_eq!(server.terminate(), 0);
    assert_eq!(count_of(&server, "alert.mail_failed"), 1, "told once, not at each try");

    // It waits over a restart, and leaves once the relay is seen to work.
    let mut server = site.serve();
    server.wait_for("alert.mail_failed");
    let pair = (site.path("relay.pem"), site.path("relay-key.pem"));
    let door = Door { pair: Some((&pair.0, &pair.1)), login: Some(("daybook", "open sesame")) };
    let sink = Sink::start_on(TcpListener::bind(address).unwrap(), &door);
    site.run(&["status-mail", "--now"]).expect(0);
    let mails = wait_for_mails(&sink, 2);
    assert!(mails[0].header("Subject").contains("Status: 1 alarm"), "{}", mails[0].text);
    assert!(mails[1].header("Subject").contains("The disk is filling up"), "{}", mails[1].text);
    server.wait_for("alert.mail_sent");
    assert_eq!(server.terminate(), 0);
}

#[test]
fn what_was_kept_and_is_spoilt_is_begun_anew() {
    let site = Site::new();
    fs::create_dir(site.path("data")).unwrap();
    site.write("data/watch.json", "{\"raised\": 7}");
    let mut server = site.serve();
    server.wait_for("alarm.forgotten");
    assert_eq!(alarms(&site, 0), Vec::<String>::new());
    assert_eq!(server.terminate(), 0);
    assert!(fs::read_to_string(site.path("data/watch.json")).unwrap().contains("watching_since"));
}

#[test]
fn a_recipient_who_is_journaled_is_named_at_the_start() {
    let section =
        "[alerts]\nto = [\"bob@contoso.example\"]\nrelay = \"127.0.0.1\"\nport = 9\nsecurity = \"none\"\n";
    let site = Site::with("", USERS);
    configure(&site, section);
    site.run(&["mailbox", "create", "--name", "Contoso"]).expect(0);
    let mut server = site.serve();
    server.wait_for("alerts.recipient_is_journaled");
    assert_eq!(server.terminate(), 0);
}

/// A gateway in this process, looked at with times of the test's choice.
struct Given {
    runtime: tokio::runtime::Runtime,
    running: Running,
    watch: Arc<Watch>,
    sink: Sink,
    mailbox: Arc<GatewayMailbox>,
    count: u64,
    dir: tempfile::TempDir,
}

impl Given {
    fn start() -> Given {
        let sink = Sink::start(&Door { pair: None, login: None });
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "hostname = \"localhost\"\ndomains = [\"gw.example\"]\ndata_dir = \"data\"\n\
             smtp.listen = [\"127.0.0.1:0\"]\nsmtp.max_message_bytes = 1048576\n\
             pop3.listen = [\"127.0.0.1:0\"]\npop3.listen_tls = []\n\
             imap.listen = []\nimap.listen_tls = []\n\
             [alerts]\nto = [\"admin@example.net\"]\nrelay = \"127.0.0.1\"\nport = {}\nsecurity = \"none\"\n\
             disk_margin_bytes = 0\nremind_hours = 0\n",
            sink.port
        );
        let settings = config::parse(&text, dir.path()).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let running = runtime.block_on(Daybook::start(settings)).unwrap();
        let watch = running.context().watch.unwrap();
        let new = NewGatewayMailbox {
            name: "Contoso".to_owned(),
            domain: "gw.example".to_owned(),
            tenant: None,
            profile: Profile::Microsoft365,
            role: Role::default(),
        };
        let (mailbox, _) = runtime.block_on(running.store.create_gateway_mailbox(new, "test")).unwrap();
        Given { runtime, running, watch, sink, mailbox, count: 0, dir }
    }

    fn look(&self, at: Timestamp) -> StatusView {
        self.runtime.block_on(self.watch.look(at, true))
    }

    /// The alarms at that time.
    fn alarms(&self, at: Timestamp) -> Vec<&'static str> {
        self.look(at).alarms.iter().map(|alarm| alarm.cause.name()).collect()
    }

    /// Stores a message as if it had been received then.
    fn receive(&mut self, at: Timestamp) {
        self.receive_as(at, |delivery| Delivery { class: Class::JournalReport, ..delivery });
    }

    /// The same of an NDR that returned the header alone of a report about this message.
    fn receive_header_of(&mut self, at: Timestamp, original: &str) {
        self.receive_as(at, |mut delivery| {
            let quarantine =
                WantedPlacement { folder: FolderName::Quarantine, ..delivery.placements[0].clone() };
            delivery.placements.push(quarantine);
            Delivery {
                class: Class::NdrWithoutReport,
                returned_message_id: delivery.message_id.clone().map(|id| format!("{id}-report")),
                parent_message_id: Some(original.to_owned()),
                ..delivery
            }
        });
    }

    fn receive_as(&mut self, at: Timestamp, change: impl FnOnce(Delivery) -> Delivery) {
        self.count += 1;
        let store = &self.running.store;
        let mut random = [0; 10];
        random[2..].copy_from_slice(&self.count.to_be_bytes());
        let body = format!("message {}\r\n", self.count);
        let delivery = Delivery {
            message_id: Some(format!("<{}@wrapper>", self.count)),
            ..delivery(&**store, &self.mailbox, at, random, body.as_bytes())
        };
        self.runtime.block_on(store.deliver(vec![change(delivery)])).unwrap();
    }

    /// Spoils one octet of every entry of the log that names this.
    fn damage(&self, named: &str) {
        self.change_log(named, &named.replacen('@', "#", 1));
    }

    fn repair(&self, named: &str) {
        self.change_log(&named.replacen('@', "#", 1), named);
    }

    fn change_log(&self, from: &str, to: &str) {
        for segment in fs::read_dir(self.dir.path().join("data/log")).unwrap() {
            let path = segment.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "seg") {
                continue;
            }
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            let octets = fs::read(&path).unwrap();
            let places = octets.windows(from.len()).enumerate().filter(|(_, run)| *run == from.as_bytes());
            for (place, _) in places {
                file.write_all_at(to.as_bytes(), place as u64).unwrap();
            }
        }
    }

    /// Takes away everything that waits, as a poller does.
    fn empty(&self, folder: &FolderName) {
        let uids: Vec<Uid> = {
            let listing = self.running.store.list(self.mailbox.id, folder).unwrap();
            listing.entries.iter().map(|entry| entry.uid).collect()
        };
        let client = Client {
            protocol: "pop3".to_owned(),
            peer: "127.0.0.1".parse().unwrap(),
            session_id: SessionId::new(2, [0; 10]),
        };
        let expunged = self.running.store.expunge(self.mailbox.id, folder, &uids, &client);
        self.runtime.block_on(expunged).unwrap();
    }

    fn subjects(&self, count: usize) -> Vec<String> {
        wait_for_mails(&self.sink, count).iter().map(|mail| mail.header("Subject")).collect()
    }

    fn stop(self) -> tempfile::TempDir {
        self.runtime.block_on(self.running.stop());
        self.dir
    }
}

fn later(at: Timestamp, ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(at.unix_ms() + ms)
}

const NONE: [&str; 0] = [];

#[test]
fn nobody_fetching_is_told_of_after_a_day_and_over_with_a_login() {
    let mut given = Given::start();
    let start = now();
    given.receive(start);
    assert_eq!(given.alarms(later(start, 23 * HOUR_MS)), NONE);
    let later_on = later(start, 25 * HOUR_MS);
    assert_eq!(given.alarms(later_on), ["nobody-fetched"]);
    assert_eq!(given.alarms(later(start, 40 * HOUR_MS)), ["nobody-fetched"]);
    // Somebody comes and takes nothing: that is enough.
    given.running.context().visits.note(given.mailbox.id, later(start, 41 * HOUR_MS));
    assert_eq!(given.alarms(later(start, 41 * HOUR_MS + 1)), NONE);
    // By the time of day, one or two daily reports come between.
    wait_until("the end of it", || {
        let mails = given.sink.mails();
        mails.iter().any(|mail| mail.header("Subject").contains("Over: nobody-fetched for \"Contoso\""))
    });
    let subjects = given.subjects(3);
    assert!(
        subjects.iter().any(|subject| subject.contains("Nobody fetched from \"Contoso\" since")),
        "{subjects:?}"
    );
    // The admin named no time for the daily report: it came at seven.
    assert!(subjects.iter().any(|subject| subject.contains("Status: ")), "{subjects:?}");
    given.stop();
}

#[test]
fn a_clock_that_was_ahead_for_a_while_silences_nothing() {
    let mut given = Given::start();
    let start = now();
    given.receive(start);
    let ahead = later(start, 10 * DAY_MS);
    given.receive(ahead);
    given.running.context().visits.note(given.mailbox.id, ahead);
    assert_eq!(given.alarms(ahead), NONE);
    given.subjects(1);
    // It is right again.
    let back = given.look(later(start, HOUR_MS));
    let mailbox = &back.gateway_mailboxes[0];
    assert_eq!((back.alarms.len(), mailbox.last_login), (0, None));
    let last_report = mailbox.last_report.unwrap();
    assert!(last_report <= later(start, 10 * MINUTE_MS), "{last_report}");
    assert_eq!(given.alarms(later(start, 25 * HOUR_MS)), ["nobody-fetched"]);
    // The report of each day comes, too.
    given.look(later(start, 30 * HOUR_MS));
    let reports =
        || given.sink.mails().iter().filter(|mail| mail.header("Subject").contains("Status: ")).count();
    wait_until("the next daily report", || reports() >= 2);
    given.stop();
}

#[test]
fn a_gateway_mailbox_that_is_resumed_begins_anew() {
    let mut given = Given::start();
    let start = now();
    given.receive(start);
    let change = |change: GatewayMailboxChange| {
        let store = &given.running.store;
        let changing = store.change_gateway_mailbox(given.mailbox.id, vec![change], "test");
        given.runtime.block_on(changing).unwrap();
    };
    change(GatewayMailboxChange::Suspend);
    let suspended = given.look(later(start, DAY_MS));
    assert_eq!((suspended.alarms.len(), suspended.counted_at), (0, Some(suspended.at)));
    change(GatewayMailboxChange::Resume);
    let resumed = later(start, 9 * DAY_MS);
    assert_eq!(given.alarms(resumed), NONE);
    assert_eq!(given.alarms(later(resumed, 23 * HOUR_MS)), NONE);
    assert_eq!(given.alarms(later(resumed, 25 * HOUR_MS)), ["nobody-fetched"]);
    let kept = fs::read_to_string(given.stop().path().join("data/watch.json")).unwrap();
    assert!(kept.contains("\"watched_since\":{\""), "{kept}");
}

#[test]
fn a_login_counts_even_if_nothing_was_there() {
    let site = Site::new();
    let made = json_of(&site.run(&["mailbox", "create", "--name", "Contoso", "--json"]).expect(0));
    let mut server = site.serve();
    let last_login =
        || json_of(&site.run(&["status", "--json"]).expect(0))["gateway_mailboxes"][0]["last_login"].clone();
    assert_eq!(last_login(), Value::Null);
    assert!(server.pop3s(&text(&made, "login"), "wrong").is_err());
    assert_eq!(last_login(), Value::Null);
    server.pop3s(&text(&made, "login"), &text(&made, "password")).unwrap().quit();
    let known = last_login();
    assert!(known.is_string(), "{known}");
    assert_eq!(server.terminate(), 0);
    // Known after a restart, too.
    let mut server = site.serve();
    assert_eq!(last_login(), known);
    assert_eq!(server.terminate(), 0);
}

#[test]
fn a_store_that_fails_is_told_of_after_a_minute_and_over_after_two_good_ones() {
    let given = Given::start();
    let start = now();
    assert_eq!(given.alarms(start), NONE);
    let (data, away) = (given.dir.path().join("data"), given.dir.path().join("away"));
    fs::rename(&data, &away).unwrap();
    assert_eq!(given.alarms(later(start, MINUTE_MS)), NONE, "it may mend itself");
    let failing = given.look(later(start, 2 * MINUTE_MS));
    assert_eq!(failing.alarms.len(), 1);
    assert_eq!(failing.alarms[0].cause.name(), "store-not-acknowledging");
    assert!(failing.store_trouble.is_some() && failing.disk.is_none());
    fs::rename(&away, &data).unwrap();
    assert_eq!(given.alarms(later(start, 3 * MINUTE_MS)), ["store-not-acknowledging"]);
    assert_eq!(given.alarms(later(start, 5 * MINUTE_MS)), NONE);
    let subjects = given.subjects(2);
    assert!(
        subjects.iter().any(|subject| subject.contains("The store has not taken mail since")),
        "{subjects:?}"
    );
    assert!(subjects.iter().any(|subject| subject.contains("Over: store-not-acknowledging")), "{subjects:?}");
    given.stop();
}

#[test]
fn a_healthy_day_is_quiet_and_then_a_silence_is_not() {
    let mut given = Given::start();
    let start = later(now(), 8 * DAY_MS);
    // Eight days with a report every quarter of an hour, then one that is watched.
    for quarter in 0..8 * 96 {
        given.receive(later(start, (quarter - 8 * 96) * 15 * MINUTE_MS));
    }
    given.empty(&FolderName::Inbox);
    for step in 0..288 {
        let at = later(start, step * 5 * MINUTE_MS);
        if step % 3 == 0 {
            given.receive(at);
        }
        given.running.context().visits.note(given.mailbox.id, at);
        let status = given.runtime.block_on(given.watch.look(at, false));
        assert_eq!(status.alarms, [], "{at}");
    }
    let subjects = given.subjects(1);
    assert!(subjects.iter().all(|subject| subject.contains("Status: all well")), "{subjects:?}");

    // Silent from then on. Eight are missing after two hours.
    let last = later(start, 285 * 5 * MINUTE_MS);
    let mut raised_after = None;
    for minute in (0..600).step_by(5) {
        given.running.context().visits.note(given.mailbox.id, later(last, minute * MINUTE_MS));
        if raised_after.is_none() && given.alarms(later(last, minute * MINUTE_MS)) == ["no-report"] {
            raised_after = Some(minute);
        }
    }
    assert!(raised_after.is_some_and(|minutes| (100..=150).contains(&minutes)), "{raised_after:?}");
    given.receive(later(last, 601 * MINUTE_MS));
    assert_eq!(given.alarms(later(last, 602 * MINUTE_MS)), NONE);
    wait_until("the end of it", || {
        given
            .sink
            .mails()
            .iter()
            .any(|mail| mail.header("Subject").contains("Over: no-report for \"Contoso\""))
    });
    let told: Vec<String> = given.sink.mails().iter().map(|mail| mail.header("Subject")).collect();
    assert_eq!(
        told.iter().filter(|subject| subject.contains("No report for \"Contoso\" since")).count(),
        1,
        "{told:?}"
    );
    // The sink may have it before the answer to it is read; until then it counts as not sent.
    let at = later(last, 602 * MINUTE_MS);
    wait_until("the relay's answer", || {
        given.runtime.block_on(given.watch.look(at, false)).mail.is_some_and(|mail| mail.waiting == 0)
    });
    // What was raised and sent is known to the next start.
    let kept = fs::read_to_string(given.stop().path().join("data/watch.json")).unwrap();
    assert!(kept.contains("\"raised\":[]") && kept.contains("\"letters\":[]"), "{kept}");
}

#[test]
fn a_stop_keeps_nobody_waiting_for_a_relay_that_says_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = Site::new();
    let port = listener.local_addr().unwrap().port();
    configure(
        &site,
        &format!(
            "[alerts]\nto = [\"a@example.net\"]\nrelay = \"127.0.0.1\"\nport = {port}\nsecurity = \"none\"\n\
             disk_margin_bytes = {}\n",
            i64::MAX
        ),
    );
    let mut server = site.serve();
    let (_held, _) = listener.accept().unwrap();
    let began = std::time::Instant::now();
    site.run(&["readyz"]).expect(0);
    assert_eq!(server.terminate(), 0);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let kept = fs::read_to_string(site.path("data/watch.json")).unwrap();
    assert!(kept.contains("The disk is filling up"), "{kept}");
}

#[test]
fn a_report_that_did_not_come_back_is_told_of_until_its_ndr_is_taken_out_of_quarantine() {
    let mut given = Given::start();
    let start = now();
    let is_raised = |given: &Given, at| given.alarms(at).contains(&"report-missing");
    assert!(!is_raised(&given, start));
    // That mail was about an alarm: it would keep this one alive.
    given.receive_header_of(start, "<daybook-notice.1.2@localhost>");
    assert!(!is_raised(&given, start));
    // More than are looked at in one page, and others between.
    for _ in 0..300 {
        given.receive(start);
    }
    given.receive_header_of(later(start, HOUR_MS), "<lost@contoso.example>");
    let status = given.look(later(start, HOUR_MS));
    let cause = Cause::ReportMissing { missing: 1, original_held: 0 };
    assert!(status.alarms.iter().any(|alarm| alarm.cause == cause), "{:?}", status.alarms);
    assert!(is_raised(&given, later(start, 30 * DAY_MS)), "it does not end by itself");
    let subjects = given.subjects(1);
    assert!(subjects.iter().any(|subject| subject.contains("Only the header of 1 report")), "{subjects:?}");
    given.empty(&FolderName::Inbox);
    assert!(is_raised(&given, later(start, 31 * DAY_MS)), "what pollers take is no answer");
    // One that is damaged stays open, and hides no other.
    given.receive_header_of(later(start, 31 * DAY_MS), "<damaged@contoso.example>");
    assert!(is_raised(&given, later(start, 31 * DAY_MS)));
    given.damage("damaged@contoso.example");
    let damaged = given.look(later(start, 31 * DAY_MS));
    let cause = Cause::ReportMissing { missing: 2, original_held: 0 };
    assert!(damaged.alarms.iter().any(|alarm| alarm.cause == cause), "{:?}", damaged.alarms);
    given.repair("damaged@contoso.example");
    given.empty(&FolderName::Quarantine);
    assert!(!is_raised(&given, later(start, 31 * DAY_MS)));
    given.stop();
}
