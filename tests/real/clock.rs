//! Retention, grace, undeleting and legal holds under a clock that jumps while the server runs, and stays so over a restart:
//! nothing leaves early. By the Debian package `faketime`.

use super::gateway::{Account, Gateway, until};
use super::load::report;
use super::support::{Pop3s, Site};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

const DAY_MS: i64 = 86_400_000;
/// Where the server reads how far its clock is off.
const OFFSET_FILE: &str = "clock";
/// Rules of a month, for INBOX and for users' folders.
const RULES: &[&str] = &["inbox_retention_days=30", "user_retention_days=30"];

/// What is done to a gateway mailbox before the clock jumps, and what is there afterwards: messages in INBOX, in users' folders,
/// and deleted ones that can be had back.
struct Row {
    name: &'static str,
    rules: &'static [&'static str],
    hold: Option<&'static [&'static str]>,
    /// The first of its two messages is deleted from INBOX.
    deletes: bool,
    /// And brought back, once the clock has jumped and a pass was made.
    undeletes: bool,
    /// While nothing is due.
    stays: [u64; 3],
    /// After 400 days, once the clock is confirmed.
    after: [u64; 3],
}

const ROWS: [Row; 6] = [
    Row {
        name: "hold on mailbox",
        rules: RULES,
        hold: Some(&[]),
        deletes: true,
        undeletes: false,
        stays: [1, 4, 1],
        after: [1, 4, 1],
    },
    Row {
        name: "hold on a user",
        rules: RULES,
        hold: Some(&["--user", "alice"]),
        deletes: true,
        undeletes: false,
        stays: [1, 4, 1],
        // Hers stay. What retention took out a moment ago, from INBOX and the other's folder, has its grace before it.
        after: [0, 2, 3],
    },
    Row {
        name: "retention",
        rules: RULES,
        hold: None,
        deletes: false,
        undeletes: false,
        stays: [2, 4, 0],
        after: [0, 0, 6],
    },
    Row {
        name: "grace",
        rules: &[],
        hold: None,
        deletes: true,
        undeletes: false,
        stays: [1, 4, 1],
        after: [1, 4, 0],
    },
    Row {
        name: "undelete",
        rules: &[],
        hold: None,
        deletes: true,
        undeletes: true,
        stays: [2, 4, 0],
        after: [1, 4, 0],
    },
    Row {
        name: "nothing",
        rules: &[],
        hold: None,
        deletes: false,
        undeletes: false,
        stays: [2, 4, 0],
        after: [2, 4, 0],
    },
];

/// Offsets that the clock takes on, one after the other, in days; and whether the last is confirmed.
const CLOCKS: [(&str, &[i64], bool); 6] = [
    ("right", &[0], false),
    ("+6 d", &[6], false),
    ("+400 d", &[400], false),
    ("+400 d confirmed", &[400], true),
    ("-1 d", &[-1], false),
    ("+400 d then back", &[400, 0], false),
];

/// A server whose clock is set by a file.
struct Clocked {
    gateway: Gateway,
    began_ms: i64,
    accounts: BTreeMap<&'static str, Account>,
}

fn preloaded() -> PathBuf {
    let arches = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut libraries = arches.map(|arch| arch.join("faketime/libfaketimeMT.so.1"));
    libraries.find(|library| library.exists()).expect("faketime is needed")
}

impl Clocked {
    fn start() -> Clocked {
        let site = Site::new();
        site.write(OFFSET_FILE, "+0d\n");
        let mut gateway = Gateway::at(site);
        gateway.set_environment("LD_PRELOAD", preloaded().to_str().unwrap());
        gateway.set_environment("FAKETIME_TIMESTAMP_FILE", gateway.path(OFFSET_FILE).to_str().unwrap());
        gateway.set_environment("FAKETIME_CACHE_DURATION", "1");
        // What jumps is the time of day: the kernel waits by another clock, and files are older than both.
        gateway.set_environment("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        gateway.set_environment("NO_FAKE_STAT", "1");
        gateway.start_again();
        let began_ms = daybook::observe::now().unix_ms();
        Clocked { gateway, began_ms, accounts: BTreeMap::new() }
    }

    fn fill(&mut self) {
        for row in &ROWS {
            let account = Account::of(&self.gateway.ask(&["mailbox", "create", "--name", row.name]));
            for number in 1..=2 {
                let message = report(&format!("{}-{number}", row.name.replace(' ', "-")), 3_000);
                let mut smtp = super::load::Smtp::open(self.gateway.smtp()).unwrap();
                assert!(smtp.deliver(&account.address, &message.octets).unwrap().is_ok());
            }
            // Before there is a rule that could make this one shorter.
            if !row.rules.is_empty() {
                self.gateway.ask(&[&["mailbox", "set", &account.login, "--yes"], row.rules].concat());
            }
            if let Some(user) = row.hold {
                let hold = ["mailbox", "hold", &account.login, "--reason", "Case"];
                self.gateway.ask(&[&hold[..], user].concat());
            }
            if row.deletes {
                let config = self.gateway.client_config();
                let (port, login) = (self.gateway.pop3s(), &account.login);
                let mut pop3s = Pop3s::login(port, config, login, &account.password).unwrap();
                pop3s.say("DELE 1").unwrap();
                pop3s.quit();
            }
            self.accounts.insert(row.name, account);
        }
    }

    /// Sets the clock while the server runs, and waits until that sees it.
    fn set(&self, days: i64) {
        fs::write(self.gateway.path(OFFSET_FILE), format!("{days:+}d\n")).unwrap();
        until("the clock to jump", || {
            let at = self.retention(&[]).1["at"].as_str().map(str::to_owned)?;
            let at = daybook::mail::Timestamp::parse(&at)?.unix_ms();
            // So many days off, and the hour that a test may take.
            ((at - self.began_ms - days * DAY_MS).abs() < 3_600_000).then_some(())
        });
    }

    /// `daybook retention …`: whether it went well, and what it says.
    fn retention(&self, arguments: &[&str]) -> (bool, Value) {
        let output = self.gateway.run(&[&["retention"], arguments, &["--json"]].concat());
        let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output.status.success(), value)
    }

    /// A pass, while the clock is believed; says whether it is.
    fn pass(&self) -> bool {
        let (ran, said) = self.retention(&["run"]);
        assert!(ran || said["error"]["why"].as_str().is_some_and(|why| why.contains("paused")), "{said}");
        ran
    }

    /// Messages in INBOX, in users' folders, and deleted ones that can be had back.
    fn seen(&self, row: &Row) -> [u64; 3] {
        let account = &self.accounts[row.name];
        let shown = self.gateway.ask(&["mailbox", "show", &account.login]);
        let folders = shown["folders"].as_array().unwrap();
        let count = |beginning: &str| {
            let of_it = folders.iter().filter(|f| f["path"].as_str().unwrap().starts_with(beginning));
            of_it.map(|f| f["entries"].as_u64().unwrap()).sum()
        };
        let (_, retention) = self.retention(&[]);
        let mut all = retention["gateway_mailboxes"].as_array().unwrap().iter();
        let mine = all.find(|mailbox| mailbox["name"] == row.name).unwrap();
        let back = mine["recoverable"].as_array().unwrap().iter();
        [count("INBOX"), count("Users/"), back.map(|one| one["entries"].as_u64().unwrap()).sum()]
    }
}

/// What is there under one clock, row by row.
fn under(offsets: &[i64], confirmed: bool) -> Vec<[u64; 3]> {
    let mut clocked = Clocked::start();
    clocked.fill();
    for days in offsets {
        clocked.set(*days);
    }
    if confirmed {
        clocked.gateway.ask(&["retention", "confirm", "--yes"]);
    }
    let jumped = offsets.last().is_some_and(|days| *days > 7) && !confirmed;
    assert_eq!(clocked.pass(), !jumped, "a jump of more than a week pauses, and nothing else does");
    for row in ROWS.iter().filter(|row| row.undeletes) {
        clocked.gateway.ask(&["undelete", &clocked.accounts[row.name].login]);
    }
    let seen: Vec<[u64; 3]> = ROWS.iter().map(|row| clocked.seen(row)).collect();
    // A restart changes nothing of it.
    clocked.gateway.terminate();
    clocked.gateway.start_again();
    assert_eq!(clocked.pass(), !jumped, "after a restart");
    assert_eq!(ROWS.iter().map(|row| clocked.seen(row)).collect::<Vec<_>>(), seen, "after a restart");
    let verified = clocked.gateway.run(&["verify", "--deep"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    clocked.gateway.terminate();
    seen
}

#[test]
fn nothing_leaves_early_whatever_the_clock_does() {
    let mut table = format!("INBOX + users' folders, deleted and to be had back\n{:<16}", "");
    let (mut lines, mut wrong): (Vec<String>, Vec<String>) =
        (ROWS.iter().map(|row| format!("{:<16}", row.name)).collect(), Vec::new());
    for (name, offsets, confirmed) in CLOCKS {
        table.push_str(&format!("| {name:<16} "));
        for ((row, line), seen) in ROWS.iter().zip(&mut lines).zip(under(offsets, confirmed)) {
            let [inbox, users, back] = seen;
            line.push_str(&format!("| {:<16} ", format!("{inbox} + {users}, {back}")));
            let expect = if confirmed { row.after } else { row.stays };
            if seen != expect {
                wrong.push(format!("{}, {name}: {seen:?} and not {expect:?}", row.name));
            }
        }
    }
    println!("{table}\n{}", lines.join("\n"));
    assert!(wrong.is_empty(), "{wrong:#?}");
}
