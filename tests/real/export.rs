//! Exports, read by what others have: Python's `mailbox` takes an mbox apart, `age`, `tail` and `head` open what is sealed.

use super::support::{Site, corpus};
use serde_json::Value;
use std::fs;
use std::process::{Command, Output};

/// What a command printed that must succeed.
fn printed(output: Output) -> Vec<u8> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A site with mail in several folders, and the login of its gateway mailbox; the password lies in a file.
fn filled() -> (Site, String) {
    let site = Site::new();
    let made = site.run(&["mailbox", "create", "--name", "Contoso", "--json"]).expect(0).stdout;
    let made: Value = serde_json::from_str(&made).unwrap();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    site.write("password", &text("password"));
    let mut server = site.serve();
    let from_lines: &[u8] = b"Subject: x\r\n\r\nFrom here\r\n>From there\r\n\r\nFrom \r\n";
    for message in [&corpus("demo/report.eml")[..], from_lines, &corpus("demo/hopeless.eml")] {
        assert!(server.send(&text("address"), message).starts_with("250 "));
    }
    server.terminate();
    drop(server);
    (site, text("login"))
}

/// The lines of messages in a manifest.
fn messages(site: &Site, dir: &str) -> Vec<Value> {
    let text = fs::read_to_string(site.path(dir).join("manifest.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.filter(|line: &Value| line["kind"] == "message").collect()
}

#[test]
fn python_reads_an_exported_mbox() {
    let (site, login) = filled();
    let export = ["export", &login, "--to", "out", "--format", "mbox", "--password-file", "password"];
    site.run(&export).expect(0);
    let messages = messages(&site, "out");
    let mut paths: Vec<&str> = messages.iter().map(|line| line["path"].as_str().unwrap()).collect();
    paths.dedup();
    assert!(paths.len() >= 3, "{paths:?}");
    for path in paths {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/mbox.py");
        let read = Command::new("python3").arg(script).arg(site.path("out").join(path)).output().unwrap();
        let expect: Vec<&str> = messages
            .iter()
            .filter(|line| line["path"] == path)
            .map(|line| line["sha256"].as_str().unwrap())
            .collect();
        assert_eq!(String::from_utf8(printed(read)).unwrap().lines().collect::<Vec<_>>(), expect, "{path}");
    }
}

/// The line that the README gives for this, of one extent.
fn shown(extent: &Value) -> String {
    let readme = include_str!("../../README.md");
    let line = readme.lines().find(|line| line.starts_with("age -d -i keys.txt ")).unwrap();
    let from = extent["offset"].as_u64().unwrap() + 1;
    let mut line = line.to_owned();
    for (example, this) in [
        ("/var/exports/contoso/objects/7.age", format!("sealed/objects/{}.age", extent["object"])),
        ("+1481", format!("+{from}")),
        ("-c 75000", format!("-c {}", extent["octets"])),
    ] {
        assert!(line.contains(example), "{example} is not in {line}");
        line = line.replace(example, &this);
    }
    line
}

#[test]
fn with_exported_keys_age_tail_and_head_open_a_sealed_message_as_the_readme_shows() {
    let (site, login) = filled();
    site.run(&["key", "rotate", &login, "--password-file", "password"]).expect(0);
    site.run(&["export", &login, "--to", "sealed", "--sealed"]).expect(0);
    site.run(&["export", &login, "--to", "eml", "--password-file", "password"]).expect(0);
    site.run(&["key", "export", &login, "--to", "keys.txt", "--password-file", "password"]).expect(0);
    let opened = messages(&site, "eml");
    assert!(opened.len() >= 5);
    for (sealed, opened) in messages(&site, "sealed").iter().zip(&opened) {
        assert_eq!((&sealed["folder"], &sealed["uid"]), (&opened["folder"], &opened["uid"]));
        let mut octets = Vec::new();
        for extent in sealed["extents"].as_array().unwrap() {
            let run =
                Command::new("sh").args(["-c", &shown(extent)]).current_dir(site.path("")).output().unwrap();
            assert!(printed(run).is_empty());
            octets.extend(fs::read(site.path("message.eml")).unwrap());
        }
        let file = site.path("eml").join(opened["path"].as_str().unwrap());
        assert!(octets == fs::read(file).unwrap(), "{sealed}");
    }
}
