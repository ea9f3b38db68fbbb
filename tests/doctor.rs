//! `daybook doctor` on real sites: each planted fault is named by the right check, and gone once the text was followed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::string_slice, reason = "every index comes from a search in the same text")]

#[path = "support/daybook.rs"]
mod support;

#[path = "support/delivery.rs"]
mod delivery;
#[path = "support/examined.rs"]
mod examined;
#[path = "support/nameserver.rs"]
mod nameserver;
#[path = "support/time_server.rs"]
mod time_server;

use examined::{
    Certificate, ESCROW, OFFLINE, assert_nothing_is_left, certificate, check, create, doctor, json, own,
    paste, quoted, receive_tomorrow, replace, site_with,
};
use nameserver::Nameserver;
use serde_json::Value;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;
use support::{DOMAIN, HOST, Server, Site, USERS, corpus, wait_until};

const REPORT: &str = "demo/report.eml";
/// A loopback address that no other test takes ports of: one that was bound there and let go stays free.
const NOBODY_ELSE: &str = "127.0.0.77:0";

#[test]
fn a_healthy_site_has_no_problem_and_nothing_stays_behind() {
    let host = "gw.gateway.example";
    let site = site_with(&certificate(host, 60));
    replace(&site, "daybook.toml", HOST, host);
    let made = create(&site, "Contoso");
    let mut server = site.serve();
    let reply = server.send(made["address"].as_str().unwrap(), &corpus(REPORT));
    assert!(reply.starts_with("250 "), "{reply}");
    let nameserver = Nameserver::start();
    for line in [
        format!("{host}. A 192.0.2.25"),
        format!("{DOMAIN}. MX 10 {host}."),
        "second.example. MX 10 mail.second.example.".to_owned(),
        "mail.second.example. A 192.0.2.25".to_owned(),
    ] {
        nameserver.add(&line);
    }
    let (dns, time) = (nameserver.address.to_string(), time_server::start(Duration::ZERO).to_string());
    let customer = json(&site, &["mailbox", "show", "Contoso"]);
    for _ in 0..2 {
        let found = doctor(&site, &["--nameserver", &dns, "--time-server", &time]);
        assert_eq!(found.code, 0);
        let names: Vec<&str> = found.checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
        assert_eq!(
            names,
            [
                "config",
                "server",
                "ports",
                "certificate",
                "dns",
                "disk",
                "checkpoint-dir",
                "scrub",
                "retention",
                "file-rights",
                "clock",
                "directory",
                "credential",
                "pullers",
                "gateway-mailbox",
                "last-report",
                "last-fetch",
                "self-delivery",
                "pop3-login",
                "imap-login"
            ]
        );
        // The disk is this machine's: it may be slow, or live in memory.
        for check in found.checks.iter().filter(|check| check["name"] != "disk") {
            // This site asks nobody over the network for users, and fetches from no account.
            let is_unused = ["credential", "pullers"].iter().any(|name| check["name"] == *name);
            assert_eq!(check["status"], if is_unused { "skipped" } else { "ok" }, "{check}");
        }
        assert_nothing_is_left(&site);
    }
    assert_eq!(json(&site, &["mailbox", "show", "Contoso"]), customer, "customers' mail is left alone");
    let users = json(&site, &["user", "list"]);
    assert_eq!(users.as_array().unwrap().len(), 2, "nobody is looked for among self-tests: {users}");
    site.run(&["mailbox", "create", "--name", "daybook self-test"]).expect(2);
    let mode = fs::metadata(site.path("data/self-test.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let password = fs::read_to_string(site.path("data/self-test.json")).unwrap();
    let kept: Value = serde_json::from_str(&password).unwrap();
    let password = kept["content"]["password"].as_str().unwrap().to_owned();
    assert!(!server.log().contains(&password), "a password in the log");

    let text = site.run(&["doctor", OFFLINE]).expect(0).stdout;
    assert!(text.contains("ok       self-delivery") && text.contains("\nno problem, "), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours where no terminal is");
    assert_eq!(server.terminate(), 0);
}

#[test]
fn a_site_as_it_comes_warns_of_its_self_signed_certificate_only() {
    let site = Site::with(ESCROW, USERS);
    create(&site, "Contoso");
    let _server = site.serve();
    let found = doctor(&site, &[OFFLINE]);
    let fix = found.fix("certificate", "warning", "self-signed");
    assert!(
        quoted(&fix, "certbot certonly").ends_with("--deploy-hook /etc/daybook/certbot-hook.sh"),
        "{fix}"
    );
    assert!(found.fix("last-report", "warning", "no message has come yet").contains("Get-JournalRule"));
    found.all("self-delivery", "ok");
    assert_eq!(found.code, 0);
}

#[test]
fn a_misspelt_key_is_named_with_its_line() {
    let site = Site::new();
    replace(&site, "daybook.toml", "listen = ", "listn = ");
    let found = doctor(&site, &[OFFLINE]);
    let fix = found.fix("config", "problem", "did you mean \"listen\"?");
    for name in ["server", "dns", "pop3-login"] {
        found.all(name, "skipped");
    }
    let (_, rest) = fix.split_once("edit line ").unwrap();
    let number: usize = rest.split(' ').next().unwrap().parse().unwrap();
    let text = fs::read_to_string(site.path("daybook.toml")).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[number - 1] = lines[number - 1].replace("listn", "listen");
    site.write("daybook.toml", &lines.join("\n"));
    check(&site, "config").all("config", "ok");
}

#[test]
fn a_configuration_that_is_not_there_or_open_to_all_is_a_problem() {
    let site = Site::new();
    fs::set_permissions(site.path("daybook.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    paste(&site, &check(&site, "config").fix("config", "problem", "changed by everyone"), "chmod");
    check(&site, "config").all("config", "ok");
    fs::remove_file(site.path("daybook.toml")).unwrap();
    let time = time_server::start(Duration::ZERO).to_string();
    let found = doctor(&site, &["--time-server", &time]);
    found.all("config", "problem");
    found.all("clock", "ok");
}

#[test]
fn a_port_that_is_taken_names_who_has_it() {
    let site = Site::new();
    let taken = TcpListener::bind(NOBODY_ELSE).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    replace(&site, "daybook.toml", "127.0.0.1:0", &address);
    let found = check(&site, "ports");
    let fix = found.fix("ports", "problem", &format!("{address} is taken by "));
    assert!(found.one("ports", "problem", &format!("process {}", std::process::id()))["fix"].is_string());
    assert!(fix.contains("[smtp] listen"), "{fix}");
    drop(taken);
    check(&site, "ports").all("ports", "ok");
}

#[test]
fn an_address_that_was_changed_under_a_running_server_does_not_answer() {
    let site = Site::new();
    let free = TcpListener::bind(NOBODY_ELSE).unwrap().local_addr().unwrap().to_string();
    let mut server = site.serve();
    replace(&site, "daybook.toml", "127.0.0.1:0", &free);
    let fix = check(&site, "ports").fix("ports", "problem", &format!("{free} does not answer"));
    assert!(fix.contains("restart"), "{fix}");
    server.terminate();
    let _server = site.serve();
    check(&site, "ports").all("ports", "ok");
}

#[test]
fn a_certificate_for_another_name_is_a_problem() {
    let site = site_with(&certificate("other.example", 60));
    let fix =
        check(&site, "certificate").fix("certificate", "problem", "for other.example, not for localhost");
    assert!(fix.contains(&format!("get one for {HOST}")), "{fix}");
    certificate(HOST, 60).install(&site);
    check(&site, "certificate").all("certificate", "ok");

    // One the server made for the name it had before is made anew.
    let site = Site::new();
    site.serve().terminate();
    replace(&site, "daybook.toml", HOST, "gw.gateway.example");
    paste(
        &site,
        &check(&site, "certificate").fix("certificate", "problem", "not for gw.gateway.example"),
        "rm",
    );
    site.serve().terminate();
    check(&site, "certificate").all("certificate", "warning");
}

/// Puts a certificate in place and has the server read it, as the text of a finding says.
fn reload(site: &Site, server: &Server<'_>, fix: &str) {
    let seen = |server: &Server<'_>| server.log().matches("\"event\":\"tls.reloaded\"").count();
    let before = seen(server);
    paste(site, fix, &format!("kill -HUP {}", server.pid()));
    wait_until("the reload", || seen(server) > before);
}

#[test]
fn a_certificate_that_ends_soon_or_has_ended_is_a_problem_until_renewed() {
    let site = site_with(&certificate(HOST, 60));
    let server = site.serve();
    for (days, word, status) in [
        (2, "expires in 2 days", "problem"),
        (-3, "expired ", "problem"),
        (10, "expires in 10 days", "warning"),
    ] {
        certificate(HOST, days).install(&site);
        server.signal("HUP");
        wait_until("the server to show it", || {
            let found = check(&site, "certificate");
            !found.checks.iter().any(|check| check["seen"].as_str().unwrap().contains("shows another"))
        });
        let fix = check(&site, "certificate").fix("certificate", status, word);
        certificate(HOST, 60).install(&site);
        reload(&site, &server, &fix);
        check(&site, "certificate").all("certificate", "ok");
    }
}

#[test]
fn a_certificate_that_was_replaced_and_not_loaded_is_seen_on_the_wire() {
    let site = site_with(&certificate(HOST, 40));
    let server = site.serve();
    certificate(HOST, 60).install(&site);
    let found = doctor(&site, &[OFFLINE]);
    let fix = found.fix("certificate", "problem", "the running server shows another certificate");
    found.all("self-delivery", "skipped");
    reload(&site, &server, &fix);
    let found = doctor(&site, &[OFFLINE]);
    found.all("certificate", "ok");
    found.all("self-delivery", "ok");
}

#[test]
fn a_key_that_belongs_to_another_certificate_is_a_problem() {
    let (right, other) = (certificate(HOST, 60), certificate(HOST, 60));
    let site = site_with(&Certificate { chain: right.chain.clone(), key: other.key });
    let fix = check(&site, "certificate").fix("certificate", "problem", "use the key with the certificate");
    assert!(fix.contains("[tls] private_key"), "{fix}");
    right.install(&site);
    check(&site, "certificate").all("certificate", "ok");
    fs::remove_file(site.path("key.pem")).unwrap();
    check(&site, "certificate").one("certificate", "problem", "key.pem");
}

#[test]
fn names_that_do_not_lead_here_are_problems_until_the_records_are_as_told() {
    let host = "gw.gateway.example";
    let site = Site::new();
    replace(&site, "daybook.toml", HOST, host);
    let nameserver = Nameserver::start();
    let server = nameserver.address.to_string();
    let look = || doctor(&site, &["--check", "dns", "--nameserver", &server]);
    for domain in [DOMAIN, "second.example"] {
        nameserver.add(&format!("{domain}. MX 10 old.example."));
    }
    nameserver.add("old.example. A 192.0.2.99");

    let found = look();
    let fix = found.fix("dns", "problem", &format!("{host} has no address"));
    nameserver.add(&quoted(&fix, host).replace("<public IPv4 address of this host>", "192.0.2.25"));
    for domain in [DOMAIN, "second.example"] {
        let fix = look().fix("dns", "problem", &format!("mail for {domain} goes to old.example"));
        nameserver.remove(&format!("{domain}."));
        nameserver.add(quoted(&fix, domain));
    }
    look().all("dns", "ok");

    // Bound, so that nobody else answers there, and silent.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = silent.local_addr().unwrap().to_string();
    let found = doctor(&site, &["--check", "dns", "--nameserver", &nobody]);
    assert!(found.fix("dns", "warning", "no name server").contains("--offline"));
    check(&site, "dns").all("dns", "skipped");
}

#[test]
fn files_open_to_others_are_closed_by_the_command_given() {
    let site = site_with(&certificate(HOST, 60));
    site.serve().terminate();
    check(&site, "file-rights").all("file-rights", "ok");
    for (file, mode, good) in [
        ("data", 0o755, 0o700),
        ("data/keys", 0o750, 0o700),
        ("key.pem", 0o640, 0o600),
        ("users.toml", 0o666, 0o664),
    ] {
        fs::set_permissions(site.path(file), fs::Permissions::from_mode(mode)).unwrap();
        let found = check(&site, "file-rights");
        assert_eq!(found.checks.len(), 1, "{:?}", found.checks);
        paste(&site, &found.fix("file-rights", "problem", file), "chmod");
        assert_eq!(fs::metadata(site.path(file)).unwrap().permissions().mode() & 0o777, good, "{file}");
        check(&site, "file-rights").all("file-rights", "ok");
    }
}

#[test]
fn a_list_of_users_that_is_broken_or_empty_is_a_problem() {
    let site = Site::new();
    for (text, word) in
        [("", "names no user"), ("[[user]]\nid = \"only\"\n", "users.toml:1"), ("[[us", "users.toml:1")]
    {
        site.write("users.toml", text);
        let fix = check(&site, "directory").fix("directory", "problem", word);
        assert!(fix.contains("users.toml"), "{fix}");
        site.write("users.toml", USERS);
        check(&site, "directory").all("directory", "ok");
    }
    fs::remove_file(site.path("users.toml")).unwrap();
    check(&site, "directory").one("directory", "problem", "cannot be read");
    let twice = USERS.replace("bob@contoso.example", "alice@contoso.example\", \"bob@contoso.example");
    site.write("users.toml", &twice);
    check(&site, "directory").one("directory", "warning", "alice@contoso.example");
}

#[test]
fn a_clock_that_is_off_is_a_problem() {
    let site = Site::new();
    for (ahead, status) in [(600, "problem"), (20, "warning"), (0, "ok")] {
        let server = time_server::start(Duration::from_secs(ahead)).to_string();
        doctor(&site, &["--check", "clock", "--time-server", &server]).all("clock", status);
    }
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = silent.local_addr().unwrap().to_string();
    doctor(&site, &["--check", "clock", "--time-server", &nobody]).all("clock", "warning");
}

#[test]
fn a_message_from_tomorrow_tells_that_the_clock_is_or_was_wrong() {
    let site = Site::new();
    create(&site, "Contoso");
    doctor(&site, &[OFFLINE]).all("clock", "ok");
    receive_tomorrow(&site);
    let without = doctor(&site, &[OFFLINE]).fix("clock", "problem", "hours later");
    assert!(without.contains("timedatectl set-ntp true") && without.contains("nothing is lost"), "{without}");
    let _server = site.serve();
    check(&site, "clock").all("clock", "problem");
}

#[test]
fn a_server_that_does_not_run_is_a_problem_until_it_is_started() {
    let site = Site::with(ESCROW, USERS);
    check(&site, "server").all("server", "problem");
    create(&site, "Contoso");
    let found = doctor(&site, &[OFFLINE]);
    let fix = found.fix("server", "problem", "no server runs");
    assert!(quoted(&fix, "daybook --config").ends_with("daybook.toml serve"), "{fix}");
    for name in ["config", "ports", "file-rights", "clock", "directory", "gateway-mailbox", "last-fetch"] {
        found.all(name, "ok");
    }
    for name in ["self-delivery", "pop3-login", "imap-login"] {
        found.all(name, "skipped");
    }
    let mut server = site.serve();
    check(&site, "server").all("server", "ok");
    server.kill();
    check(&site, "server").all("server", "problem");
}

#[test]
fn gateway_mailboxes_that_lack_or_are_suspended_are_named_with_the_command_that_helps() {
    let site = Site::with(ESCROW, USERS);
    let _server = site.serve();
    // The one for self-tests does not count.
    let found = doctor(&site, &[OFFLINE]);
    assert_nothing_is_left(&site);
    paste(&site, &found.fix("gateway-mailbox", "problem", "there is none"), "daybook");
    check(&site, "gateway-mailbox").all("gateway-mailbox", "ok");

    site.run(&["mailbox", "suspend", "NAME"]).expect(0);
    paste(
        &site,
        &check(&site, "gateway-mailbox").fix("gateway-mailbox", "problem", "is suspended"),
        "daybook",
    );
    check(&site, "gateway-mailbox").all("gateway-mailbox", "ok");
    create(&site, "Second");
    site.run(&["mailbox", "suspend", "Second"]).expect(0);
    let found = check(&site, "gateway-mailbox");
    found.all("gateway-mailbox", "warning");
    assert_eq!(found.code, 0);
}

#[test]
fn without_pop3_the_report_is_taken_out_all_the_same() {
    let site = Site::new();
    let config = fs::read_to_string(site.path("daybook.toml")).unwrap();
    let off = "listen = []\nlisten_tls = []\n";
    let on = "listen = [\"127.0.0.1:0\"]\nlisten_tls = [\"127.0.0.1:0\"]\n";
    assert!(config.contains(on), "{config}");
    site.write("daybook.toml", &config.replace(on, off));
    let mut server = site.serve();
    let found = doctor(&site, &[OFFLINE]);
    found.all("self-delivery", "ok");
    found.one("pop3-login", "skipped", "POP3 is off");
    found.one("imap-login", "skipped", "IMAP is off");
    assert_nothing_is_left(&site);
    server.terminate();
    site.write("daybook.toml", &config);
    let _server = site.serve();
    doctor(&site, &[OFFLINE]).all("pop3-login", "ok");
}

#[test]
fn a_self_test_that_lost_its_password_is_made_anew() {
    let site = Site::new();
    let server = site.serve();
    doctor(&site, &[OFFLINE, "--no-delivery"]).all("self-delivery", "skipped");
    assert_eq!(own(&site).len(), 0, "--no-delivery makes nothing");
    doctor(&site, &[OFFLINE]).all("pop3-login", "ok");
    let first = own(&site).remove(0);

    // Another doctor is at work.
    let other = fs::File::open(site.path("data/self-test.json")).unwrap();
    other.lock().unwrap();
    doctor(&site, &[OFFLINE]).one("self-delivery", "skipped", "another doctor is at work");
    drop(other);

    // The file is lost.
    fs::remove_file(site.path("data/self-test.json")).unwrap();
    doctor(&site, &[OFFLINE]).all("pop3-login", "ok");
    assert_nothing_is_left(&site);
    let second = own(&site).remove(0);
    assert_ne!(first["login"], second["login"]);
    let reply = server.send(first["address"].as_str().unwrap(), &corpus(REPORT));
    assert!(reply.starts_with("550 "), "the old one is gone: {reply}");

    // The password in it is another.
    let text = fs::read_to_string(site.path("data/self-test.json")).unwrap();
    let mut kept: Value = serde_json::from_str(&text).unwrap();
    kept["content"]["password"] = "wrong".into();
    // As it was written before it had a version.
    fs::write(site.path("data/self-test.json"), kept["content"].to_string()).unwrap();
    let found = doctor(&site, &[OFFLINE]);
    found.all("self-delivery", "ok");
    assert_nothing_is_left(&site);
    paste(&site, &found.fix("pop3-login", "problem", "wrong user name or password"), "rm");
    doctor(&site, &[OFFLINE]).all("pop3-login", "ok");
    assert_nothing_is_left(&site);

    // Somebody suspended it.
    site.run(&["mailbox", "suspend", "daybook self-test"]).expect(0);
    paste(&site, &doctor(&site, &[OFFLINE]).fix("self-delivery", "problem", "is suspended"), "daybook");
    doctor(&site, &[OFFLINE]).all("self-delivery", "ok");
}

#[test]
fn a_report_that_is_in_although_sending_failed_is_taken_out() {
    let site = site_with(&certificate(HOST, 60));
    let config = fs::read_to_string(site.path("daybook.toml")).unwrap();
    let on = "listen = [\"127.0.0.1:0\"]\nlisten_tls = [\"127.0.0.1:0\"]\n";
    assert!(config.contains(on), "{config}");
    site.write("daybook.toml", &config.replace(on, "listen = []\nlisten_tls = []\n"));
    let server = site.serve();
    doctor(&site, &[OFFLINE]).all("self-delivery", "ok");
    // As a run leaves it that never saw its 250.
    let reply = server.send(own(&site)[0]["address"].as_str().unwrap(), &corpus(REPORT));
    assert!(reply.starts_with("250 "), "{reply}");
    certificate(HOST, 60).install(&site);
    doctor(&site, &[OFFLINE]).one("self-delivery", "skipped", "another certificate");
    assert_nothing_is_left(&site);
}

#[test]
fn the_store_is_opened_only_for_a_look_into_it_and_what_that_mended_is_told() {
    let site = Site::new();
    create(&site, "Contoso");
    // Half a group, as a power cut leaves it.
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|end| end == "seg");
    let mut log = fs::read_dir(site.path("data/log")).unwrap().map(|entry| entry.unwrap().path());
    let segment = log.find(is_segment).unwrap();
    let whole = fs::read(&segment).unwrap();
    let group = whole.windows(4).position(|octets| octets == b"DBG1").unwrap();
    let torn = [&whole, &whole[group..group + 100]].concat();
    fs::write(&segment, &torn).unwrap();
    let aside = || fs::read_dir(site.path("data/log/torn")).map_or(0, Iterator::count);
    for name in ["clock", "server", "disk", "ports", "file-rights"] {
        check(&site, name);
        assert_eq!(aside(), 0, "{name} mended the store");
    }
    let outcome = site.run(&["doctor", OFFLINE, "--json", "--check", "gateway-mailbox"]).expect(0);
    assert_eq!(aside(), 1);
    assert!(outcome.stderr.contains("store.torn"), "{}", outcome.stderr);
}

#[test]
fn a_data_dir_that_is_not_there_yet_leaves_the_folder_above_alone() {
    let site = Site::new();
    replace(&site, "daybook.toml", "data_dir = \"data\"", "data_dir = \"lib/daybook/data\"");
    fs::create_dir(site.path("lib")).unwrap();
    let before = fs::metadata(site.path("lib")).unwrap().modified().unwrap();
    let found = check(&site, "disk");
    assert_eq!(fs::metadata(site.path("lib")).unwrap().modified().unwrap(), before, "it was written to");
    assert!(found.checks.iter().all(|check| check["status"] != "problem"), "{:?}", found.checks);
}

#[test]
fn only_the_checks_asked_for_are_made() {
    let site = Site::new();
    let found = doctor(&site, &[OFFLINE, "--check", "disk", "--check", "clock"]);
    let names: Vec<&str> = found.checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert!(names.iter().all(|name| ["disk", "clock"].contains(name)) && names.len() >= 2, "{names:?}");
    site.run(&["doctor", "--check", "weather"]).expect(2);
    assert!(!site.path("data").exists(), "looking makes nothing");
}
