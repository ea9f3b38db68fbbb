//! What Prometheus' own tool says of the alert rules, of what they do over made-up days, and of a real scrape.

use super::gateway::Gateway;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs promtool on a file or, without one, on `input`; it must find nothing wrong.
fn promtool(arguments: &[&str], input: &str) {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    println!("{arguments:?}: {said}");
    assert!(output.status.success(), "{arguments:?}: {said}");
}

#[test]
fn promtool_takes_the_alert_rules() {
    promtool(&["check", "rules", "config/prometheus-alerts.yml"], "");
}

#[test]
fn each_alert_fires_for_its_cause_and_none_on_quiet_days() {
    promtool(&["test", "rules", "tests/real/alerts.yml"], "");
    let read =
        |path: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let tests = read("tests/real/alerts.yml");
    for name in
        read("config/prometheus-alerts.yml").lines().filter_map(|line| line.trim().strip_prefix("- alert: "))
    {
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "nothing makes {name} fire");
    }
}

#[test]
fn promtool_takes_the_metrics() {
    let gateway = Gateway::start();
    let account = gateway.create_account();
    gateway.maildrop(&account).quit().unwrap();
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", &format!("http://{}/metrics", gateway.http())])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    promtool(&["check", "metrics"], &String::from_utf8(output.stdout).unwrap());
}
