//! Exports that are broken off, are old, or stand beside something else.

use super::delivery::delivery;
use super::opened::{Account, json};
use super::support::{Site, wait_until};
use super::{Filled, lines, messages, past_smtp};
use daybook::mail::Timestamp;
use daybook::store::Store;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How long ten thousand messages may take.
const EXPORT_WAIT: Duration = Duration::from_secs(300);

/// Puts so many small messages into INBOX, past SMTP.
fn fill(site: &Site, account: &Account, count: u32) {
    let numbers: Vec<u32> = (0..count).collect();
    past_smtp(site, account, |store, to, runtime| {
        for some in numbers.chunks(500) {
            let make = |number: &u32| {
                let mut random = [0; 10];
                random[..4].copy_from_slice(&number.to_be_bytes());
                let at = Timestamp::from_unix_ms(1_790_000_000_000 + i64::from(*number));
                let body = format!("Subject: {number}\r\n\r\nFrom {number}\r\n{}", "text\r\n".repeat(100));
                delivery(store, to, at, random, body.as_bytes())
            };
            runtime.block_on(store.deliver(some.iter().map(make).collect())).unwrap();
        }
    });
}

/// Every file of an export with its octets; of the manifest only what does not say when.
fn tree(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir_inside) = waiting.pop() {
        for entry in fs::read_dir(dir_inside).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                waiting.push(path);
            } else if name != "manifest.jsonl" {
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut lines = lines(dir);
    lines[0]["begun_at"] = Value::Null;
    lines.retain(|line| line["kind"] != "run");
    found.insert("manifest.jsonl".to_owned(), serde_json::to_vec(&lines).unwrap());
    found
}

#[test]
fn an_export_that_is_killed_again_and_again_ends_as_one_that_was_not() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    fill(&site, &account, 1_500);
    site.write("password", &account.password);
    for form in [
        &["--password-file", "password"][..],
        &["--format", "mbox", "--password-file", "password"],
        &["--sealed"],
    ] {
        let export =
            |to: &str| site.command(&[&["export", account.login.as_str(), "--to", to], form].concat());
        assert!(export("whole").stdout(Stdio::null()).status().unwrap().success());
        let whole = fs::metadata(site.path("whole/manifest.jsonl")).unwrap().len();
        let manifest = site.path("broken/manifest.jsonl");
        for quarter in 0..4 {
            let mut child = export("broken").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let is_far = || fs::metadata(&manifest).is_ok_and(|m| m.len() > whole * quarter / 4);
            wait_until("the export comes that far, or to its end", || {
                is_far() || child.try_wait().unwrap().is_some()
            });
            child.kill().ok();
            child.wait().unwrap();
            // A crash of the machine may leave half a line as well.
            let text = fs::read(&manifest).unwrap();
            fs::write(&manifest, [&text[..], b"{\"kind\":\"mess"].concat()).unwrap();
        }
        assert!(export("broken").stdout(Stdio::null()).status().unwrap().success());
        let (whole, broken) = (tree(&site.path("whole")), tree(&site.path("broken")));
        assert!(whole.keys().eq(broken.keys()), "{form:?}");
        assert_eq!(messages(&site.path("broken")).len(), 1_500);
        assert!(form[0] == "--sealed" || whole == broken, "{form:?}");
        site.run(&["export", "--check", "broken"]).expect(0);
        ["whole", "broken"].iter().for_each(|dir| fs::remove_dir_all(site.path(dir)).unwrap());
    }
}

#[test]
fn ten_thousand_messages_take_seconds_and_on_a_busy_machine_minutes() {
    let site = Site::new();
    let account = Account::create(&site, &[]);
    fill(&site, &account, 10_000);
    let began = Instant::now();
    let told = json(account.opened(&site, &["export", &account.login, "--to", "out", "--json"]));
    assert_eq!((&told["added"], &told["messages"]), (&Value::from(10_000), &Value::from(10_000)));
    let again = json(account.opened(&site, &["export", &account.login, "--to", "out", "--json"]));
    assert_eq!((&again["added"], &again["messages"]), (&Value::from(0), &Value::from(10_000)));
    // One sync after the other would take far longer on a disk that others use.
    assert!(began.elapsed() < EXPORT_WAIT, "{:?}", began.elapsed());
}

#[test]
fn what_is_new_is_added_what_was_deleted_stays_and_nothing_is_written_again() {
    for form in [&[][..], &["--format", "mbox"]] {
        let filled = Filled::new();
        filled.export("out", form).expect(0);
        let before = filled.messages("out");
        let stamps = |dir: &Path| -> Vec<(u64, i64, i64)> {
            let mut found = Vec::new();
            for line in messages(dir).values().filter(|line| before.values().any(|known| known == *line)) {
                let metadata = fs::metadata(dir.join(line["path"].as_str().unwrap())).unwrap();
                found.push((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()));
            }
            found
        };
        let written = stamps(&filled.site.path("out"));
        let mut server = filled.site.serve();
        let mut poller = filled.account_pop3(&server);
        poller.say("DELE 1").unwrap();
        poller.quit();
        filled.account.receives(&server, b"Subject: new\r\n\r\nnew\r\n");
        server.terminate();
        let told = json(filled.export("out", &[form, &["--json"]].concat()));
        assert_eq!((&told["deleted_since"], &told["damaged"]), (&Value::from(1), &Value::from(0)), "{told}");
        assert!(told["added"].as_u64().unwrap() >= 1);
        let after = filled.messages("out");
        assert!(before.iter().all(|(key, line)| after.get(key) == Some(line)));
        if form.is_empty() {
            assert_eq!(stamps(&filled.site.path("out")), written, "a file was written again");
        }
        filled.site.run(&["export", "--check", "out"]).expect(0);
        let said = filled.export("out", form).expect(0).stdout;
        assert!(said.contains("Deleted since, and kept in the export: 1 message."), "{said}");
        let runs = lines(&filled.site.path("out")).into_iter().filter(|line| line["kind"] == "run").count();
        assert_eq!(runs, 3);
    }
}

impl Filled {
    fn account_pop3(&self, server: &super::support::Server<'_>) -> super::support::Pop3s {
        server.pop3s(&self.account.login, &self.account.password).unwrap()
    }
}

#[test]
fn a_directory_that_holds_something_else_is_left_alone() {
    let filled = Filled::new();
    let site = &filled.site;
    filled.export("out", &[]).expect(0);
    let other = Account::create_named(site, "Fabrikam", &[]);
    let arguments = ["export", other.login.as_str(), "--to", "out"];
    let refused = other.opened(site, &arguments).expect(1);
    assert!(refused.stderr.contains("holds an export of gateway mailbox"), "{}", refused.stderr);
    let refused = filled.export("out", &["--format", "mbox"]).expect(1);
    assert!(refused.stderr.contains("in the format eml"), "{}", refused.stderr);
    for (name, text) in [("letter.txt", "theirs"), ("manifest.jsonl", "{\"their\":\"manifest\"}")] {
        fs::create_dir(site.path("foreign")).unwrap();
        site.write(&format!("foreign/{name}"), text);
        let refused = filled.export("foreign", &[]).expect(1);
        assert!(refused.stderr.contains("holds no export"), "{}", refused.stderr);
        assert_eq!(fs::read_to_string(site.path(&format!("foreign/{name}"))).unwrap(), text);
        assert_eq!(fs::read_dir(site.path("foreign")).unwrap().count(), 1);
        fs::remove_dir_all(site.path("foreign")).unwrap();
    }
    filled.export("data/out", &[]).expect(2);
    assert!(!site.path("data/out").exists());
    // UIDs of other messages: the manifest is of another store.
    let manifest = fs::read_to_string(site.path("out/manifest.jsonl")).unwrap();
    let mine = filled.messages("out").remove(&("INBOX".to_owned(), 1)).unwrap();
    let receipt_id = mine["receipt_id"].as_str().unwrap();
    site.write("out/manifest.jsonl", &manifest.replace(receipt_id, "01990000-0000-7000-8000-000000000000"));
    let refused = filled.export("out", &[]).expect(1);
    assert!(refused.stderr.contains("is not the folder that was exported"), "{}", refused.stderr);
}
