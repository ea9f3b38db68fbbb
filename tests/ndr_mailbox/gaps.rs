//! What counts as turned up, what as missing, and what an admin can do about it.

use super::*;

/// An NDR that ends in the middle of what it returns.
fn ndr_cut_inside(n: usize) -> String {
    let whole = ndr_of(n, &report());
    let (before, original) = whole.rsplit_once("Content-Type: message/rfc822\r\n\r\n").unwrap();
    let half: Vec<&str> = original.lines().take(original.lines().count() / 2).collect();
    format!("{before}Content-Type: message/rfc822\r\n\r\n{}\r\n", half.join("\r\n"))
}

fn states(site: &Site, code: i32) -> Vec<String> {
    let found = json(site, &["gaps", "--all"], code);
    let gaps = found["gaps"].as_array().unwrap().iter();
    gaps.map(|gap| gap["state"].as_str().unwrap().to_owned()).collect()
}

fn is_alarmed(site: &Site) -> bool {
    let status = site.run(&["status", "--json"]);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    status["alarms"].as_array().unwrap().iter().any(|alarm| alarm["alarm"] == "report-missing")
}

#[test]
fn a_report_that_came_back_cut_short_has_not_turned_up_until_an_admin_lets_it_out() {
    let (site, journal, ndrs) = site();
    let server = site.serve();
    send(&server, &ndrs, &ndr_of_header(1, &report()));
    let cut = send(&server, &ndrs, &ndr_cut_inside(2));
    assert_eq!(states(&site, 1), ["doubtful"]);
    assert!(is_alarmed(&site));
    let found = json(&site, &["gaps"], 1);
    assert_eq!((&found["came_in_doubt"], &found["recovered"]), (&1.into(), &0.into()));
    server.log_with("\"result\":\"doubtful\"", 1);
    site.run(&["quarantine", "release", &cut, "--mailbox", &journal.login, "--yes"]).expect(0);
    assert_eq!(states(&site, 0), ["turned-up"]);
    assert!(!is_alarmed(&site));
}

#[test]
fn without_users_folders_its_faults_tell_that_it_is_cut_short() {
    let (site, journal, _) = site();
    let server = site.serve();
    site.run(&["mailbox", "set", &journal.login, "archive=false"]).expect(0);
    send(&server, &journal, &ndr_of_header(1, &report()));
    send(&server, &journal, &ndr_cut_inside(2));
    assert_eq!(states(&site, 1), ["doubtful"]);
    // Whole, it adds something; once more, it does not, though it is another NDR.
    send(&server, &journal, &ndr_of(3, &report()));
    let found = json(&site, &["gaps"], 0);
    assert_eq!((&found["turned_up"], &found["recovered"]), (&1.into(), &1.into()));
}

#[test]
fn without_users_folders_what_was_here_already_is_not_recovered() {
    let (site, journal, _) = site();
    let server = site.serve();
    site.run(&["mailbox", "set", &journal.login, "archive=false"]).expect(0);
    send(&server, &journal, &sent(&report()));
    send(&server, &journal, &ndr());
    let found = json(&site, &["gaps"], 0);
    assert_eq!((&found["recovered"], &found["already_held"]), (&0.into(), &1.into()));
}

#[test]
fn what_a_poller_takes_from_inbox_ends_nothing_and_what_an_admin_closes_does() {
    let (site, journal, _) = site();
    let mut server = site.serve();
    site.run(&["mailbox", "set", &journal.login, "archive=false"]).expect(0);
    let lost = send(&server, &journal, &ndr_of_header(1, &report()));
    let mut poller = server.pop3s(&journal.login, &journal.password).unwrap();
    poller.say("DELE 1").unwrap();
    poller.quit();
    assert!(is_alarmed(&site));
    let other = send(&server, &journal, "From: a@contoso.example\r\nSubject: x\r\n\r\nx\r\n");
    let refused = site.run(&["gaps", "--close", &lost, &other]).expect(1);
    assert!(refused.stderr.contains(&other) && is_alarmed(&site), "all or none: {refused:?}");
    let done = site.run(&["gaps", "--close", &lost]).expect(0);
    assert!(done.stdout.contains("Closed 1 gap"), "{done:?}");
    // A later NDR about the same report opens nothing either, nor does a restart.
    send(&server, &journal, &ndr_of_header(2, &report()));
    assert!(!is_alarmed(&site));
    assert_eq!(server.terminate(), 0);
    assert_eq!(states(&site, 0), ["closed", "closed"], "without a server too");
    let _server = site.serve();
    assert!(!is_alarmed(&site));
    assert_eq!(json(&site, &["gaps"], 0)["gaps"], Value::Array(vec![]));
    // What was closed is listed again rather than lost sight of when that cannot be read.
    site.write("data/closed-gaps.json", "{");
    assert_eq!(states(&site, 1), ["missing"]);
}

#[test]
fn an_ndr_that_is_held_back_alarms_nobody_until_an_admin_says_that_it_is_genuine() {
    let (site, journal, _) = site();
    let mut server = site.serve();
    site.run(&["mailbox", "set", &journal.login, "mode=enforce"]).expect(0);
    let held = send(&server, &journal, &ndr_of_header(1, &report()));
    assert_eq!(states(&site, 0), ["held-back"]);
    assert!(!is_alarmed(&site));
    assert!(site.run(&["gaps"]).expect(0).stdout.contains("held back"));
    // It hides no genuine one about the same report.
    site.run(&["mailbox", "set", &journal.login, "mode=observe"]).expect(0);
    let genuine = send(&server, &journal, &ndr_of_header(2, &report()));
    assert_eq!(states(&site, 1), ["held-back", "missing"]);
    assert!(is_alarmed(&site));
    site.run(&["quarantine", "release", &genuine, "--yes"]).expect(0);
    assert_eq!(states(&site, 0), ["held-back", "closed"]);
    // Closed as a forgery, it counts all the same once it is let out; and that survives a restart.
    site.run(&["gaps", "--close", &held]).expect(0);
    assert_eq!(states(&site, 0), ["closed", "closed"]);
    site.run(&["quarantine", "release", &held, "--yes"]).expect(0);
    assert_eq!(states(&site, 1), ["missing"]);
    assert!(is_alarmed(&site));
    assert_eq!(server.terminate(), 0);
    let _server = site.serve();
    assert!(is_alarmed(&site));
    site.run(&["gaps", "--close", &held]).expect(0);
    assert_eq!(states(&site, 0), ["closed", "closed"]);
    assert!(!is_alarmed(&site));
}
