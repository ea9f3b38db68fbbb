//! Calls that fail while the server starts: it serves all the same, or it ends with code 3 and says why; the next start works, and
//! nothing is lost, in whatever state the last process left the directory.

use super::gateway::{Account, Gateway, copy, last_lines, replace_index, until};
use super::is_long;
use super::load::{Dice, report};
use super::seen::Seen;
use super::sender::Sender;
use super::strace::{hits_in, site_of};
use super::support::Site;
use super::table::Table;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Instant;

/// Calls that fail, and how.
///
/// Not `write`: files of the store are written by `pwrite64`, and the runtime wakes itself by `write`.
const FAULTS: [(&str, &str); 14] = [
    ("openat", "EIO"),
    ("openat", "EMFILE"),
    ("fsync", "EIO"),
    ("fdatasync", "EIO"),
    ("pwrite64", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("rename,renameat,renameat2", "EIO"),
    ("mkdir,mkdirat", "ENOSPC"),
    ("unlink,unlinkat", "EIO"),
    ("copy_file_range,sendfile,splice", "EIO"),
    ("read", "EIO"),
    ("pread64", "EIO"),
    ("getdents64", "EIO"),
    ("flock", "EIO"),
];
/// Cases of a fault and a state: spread over the calls there are.
const CASES: usize = 1;
/// The same in the long form.
const CASES_LONG: usize = 24;

/// A directory as a process may leave it behind.
struct State {
    name: &'static str,
    dir: PathBuf,
    /// What a poller has seen in it.
    seen: Option<(Account, Seen)>,
}

/// The states a start can meet, over the same mail.
fn states(gateway: &mut Gateway) -> Vec<State> {
    let at = |name: &str| gateway.path(&format!("state-{name}"));
    let [clean, crashed, behind, bare, new] = ["clean", "crashed", "behind", "bare", "new"].map(at);
    let data = gateway.data_dir();
    let account = gateway.create_account();
    let mut sender = Sender::new(&account);
    let mut send = |gateway: &Gateway, sizes: &[usize]| {
        for octets in sizes {
            let report = sender.fresh(*octets);
            sender.insist(&report, gateway);
        }
        sender.connection = None;
    };
    let look = |gateway: &Gateway, deletes: bool| {
        let mut seen = Seen::default();
        seen.catch_up(gateway, &account);
        if deletes {
            let uidl = seen.messages.keys().next().unwrap().clone();
            seen.delete(&uidl, gateway, &account);
        }
        Some((account.clone(), seen))
    };
    send(gateway, &[3_000, 40_000, 1_100_000, 9_000, 3_000]);
    let first = look(gateway, true);
    gateway.terminate();
    copy(&data, &clean);
    gateway.start_again();
    send(gateway, &[2_000, 1_200_000, 7_000]);
    let mut second = look(gateway, false);
    if let (Some((_, second)), Some((_, first))) = (&mut second, &first) {
        second.deleted.clone_from(&first.deleted);
    }
    gateway.kill();
    copy(&data, &crashed);
    // As after a power cut: the index is as it was when it was last synced, and a group that nobody was told of was begun.
    copy(&data, &behind);
    replace_index(&behind, Some(&clean));
    let segments = fs::read_dir(behind.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let last = segments.filter(|path| path.extension().is_some_and(|e| e == "seg")).max().unwrap();
    let mut last = File::options().append(true).open(last).unwrap();
    last.write_all(&report("torn", 5_000).octets).unwrap();
    copy(&data, &bare);
    replace_index(&bare, None);
    fs::create_dir(&new).unwrap();
    fs::set_permissions(&new, fs::metadata(&clean).unwrap().permissions()).unwrap();
    let copy_of = |seen: &Option<(Account, Seen)>| {
        seen.as_ref().map(|(account, seen)| {
            let seen = Seen { messages: seen.messages.clone(), deleted: seen.deleted.clone() };
            (account.clone(), seen)
        })
    };
    vec![
        State { name: "closed in good order", dir: clean, seen: first },
        State { name: "killed", dir: crashed, seen: copy_of(&second) },
        State { name: "index behind, torn end", dir: behind, seen: copy_of(&second) },
        State { name: "without index", dir: bare, seen: second },
        State { name: "new", dir: new, seen: None },
    ]
}

/// What came of a start, and the calls of the site's files that failed in it.
struct Start {
    sites: Vec<String>,
    served: bool,
    /// What is wrong with how it ended.
    complaint: Option<String>,
}

/// Starts on a copy of `state` under strace; whether it served, and what was traced.
fn start_traced(
    gateway: &mut Gateway,
    state: &State,
    options: &[String],
) -> (Result<(), ExitStatus>, String) {
    let (data, out) = (gateway.data_dir(), gateway.path("strace.out"));
    copy(&state.dir, &data);
    let serve = gateway.serve();
    let mut traced = Command::new("strace");
    // The server is our child, and strace nobody's, so that status and signals are the server's.
    traced.args(["-D", "-f", "-q", "-y"]).args(options).arg("-o").arg(&out);
    traced.arg(serve.get_program()).args(serve.get_args()).current_dir(serve.get_current_dir().unwrap());
    gateway.begin_to_start(traced);
    let main = gateway.pid();
    let outcome = gateway.wait_until_it_serves();
    if outcome.is_ok() {
        gateway.kill();
    }
    let trace = until("the end of the trace", || {
        let trace = String::from_utf8_lossy(&fs::read(&out).ok()?).into_owned();
        let is_last = |line: &str| line.split_whitespace().take(2).eq([&*main.to_string(), "+++"]);
        trace.lines().any(is_last).then_some(trace)
    });
    (outcome, trace)
}

/// Which calls of a thread, counted by the name in `calls`, are of files of the site, in any thread.
fn calls_of_site(trace: &str, site: &Path, calls: &str) -> BTreeSet<u32> {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for line in trace.lines() {
        let (thread, call) = line.split_once(' ').unwrap_or(("", line));
        let Some((name, arguments)) = call.trim_start().split_once('(') else { continue };
        if calls.split(',').any(|wanted| wanted == name) {
            let count = counts.entry(thread).or_default();
            *count += 1;
            if arguments.contains(&*site.to_string_lossy()) {
                found.insert(*count);
            }
        }
    }
    found
}

/// Starts on a copy of `state`, while the `k`-th of these calls of each thread fails.
fn start_with(gateway: &mut Gateway, state: &State, (calls, error): (&str, &str), k: u32) -> Start {
    let data = gateway.data_dir();
    let options = [
        "-e".to_owned(),
        format!("trace={calls}"),
        "-e".to_owned(),
        format!("inject={calls}:error={error}:when={k}"),
    ];
    let (outcome, trace) = start_traced(gateway, state, &options);
    let site = data.parent().unwrap();
    let of_site = hits_in(&trace).into_iter().filter(|hit| hit.contains(&*site.to_string_lossy()));
    let sites: Vec<_> = of_site.map(|hit| site_of(&hit, &data)).collect();
    let log = gateway.log();
    let complaint = match outcome {
        Ok(()) => None,
        // A configuration that cannot be read is the one thing that is not ours.
        Err(status) if status.code() == Some(2) && sites.iter().all(|site| site.contains("daybook.toml")) => {
            None
        }
        Err(status) if status.code() != Some(3) => Some(format!("{status}")),
        // Said in the log, or, before there is one, on standard error.
        Err(_) if log.trim().is_empty() => Some("it did not say why".to_owned()),
        Err(_) => None,
    };
    let complaint = complaint.map(|what| format!("{what}: {}", last_lines(&log, 3)));
    Start { sites, served: outcome.is_ok(), complaint }
}

/// The next start works, and everything is there.
fn start_after(gateway: &mut Gateway, state: &State) -> Result<(), String> {
    gateway.begin_to_start(gateway.serve());
    if let Err(status) = gateway.wait_until_it_serves() {
        return Err(format!("the next start ended with {status}: {}", last_lines(&gateway.log(), 3)));
    }
    let damaged = gateway.events().into_iter().find(|(name, _)| name.contains("damaged"));
    match &state.seen {
        Some((account, seen)) => seen.check_again(gateway, account),
        None => drop(gateway.create_account()),
    }
    gateway.kill();
    damaged.map_or(Ok(()), |(_, line)| Err(format!("the next start found damage: {line}")))
}

#[test]
fn a_fault_while_starting_costs_a_start_and_never_mail() {
    let clock = Instant::now();
    let mut gateway = Gateway::start();
    let states = states(&mut gateway);
    let mut dice = Dice::new(20_261_121);
    let mut table = Table::new(["cases hit", "served", "ended", "wrong"]);
    let mut wrong = Vec::new();
    let site = gateway.path("");
    for state in &states {
        let all: Vec<_> = FAULTS.iter().map(|(calls, _)| *calls).collect();
        let (served, trace) =
            start_traced(&mut gateway, state, &["-e".to_owned(), format!("trace={}", all.join(","))]);
        served.unwrap();
        for fault in FAULTS {
            let mut ks: Vec<u32> = calls_of_site(&trace, &site, fault.0).into_iter().collect();
            while ks.len() > if is_long() { CASES_LONG } else { CASES } {
                ks.remove(dice.below(ks.len() as u64) as usize);
            }
            for k in ks {
                let start = start_with(&mut gateway, state, fault, k);
                let outcome = start_after(&mut gateway, state);
                let is_met = !start.sites.is_empty();
                let complaints: Vec<_> =
                    start.complaint.filter(|_| is_met).into_iter().chain(outcome.err()).collect();
                if is_met {
                    let holds = [true, start.served, !start.served, !complaints.is_empty()];
                    table.count(&format!("{} {}", fault.0, fault.1), holds);
                }
                let what = format!("{} {} at {k}, {}: {:?}", fault.0, fault.1, state.name, start.sites);
                wrong.extend(complaints.into_iter().map(|complaint| format!("{what}: {complaint}")));
            }
        }
    }
    println!("one fault while starting, {} states, {} s:\n{table}", states.len(), clock.elapsed().as_secs());
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_ballast_that_cannot_be_made_is_told_and_keeps_no_mail_out() {
    for error in ["EIO", "ENOSPC"] {
        let mut gateway = Gateway::at(Site::new());
        let out = gateway.path("strace.out");
        let inject = format!("inject=fallocate:error={error}");
        let strace = ["strace", "-D", "-f", "-qq", "-y", "-e", "trace=fallocate", "-e", &inject, "-o"];
        gateway.set_starter(&[&strace[..], &[out.to_str().unwrap()]].concat());
        gateway.start_again();
        until("the ballast to fail", || {
            gateway.events().iter().any(|(name, _)| name == "store.ballast_failed").then_some(())
        });
        let hits = hits_in(&fs::read_to_string(&out).unwrap());
        assert!(hits.iter().any(|hit| hit.contains("ballast")), "{hits:?}");
        assert!(!gateway.data_dir().join("ballast").exists(), "half of it is of no use");
        let account = gateway.create_account();
        let mut sender = Sender::new(&account);
        for octets in [3_000, 1_100_000] {
            let report = sender.fresh(octets);
            assert!(sender.try_to_send(&report, &gateway).unwrap(), "{error}: not taken");
        }
        gateway.terminate();
        gateway.set_starter(&[]);
        gateway.start_again();
        until("the ballast to be made", || gateway.data_dir().join("ballast").exists().then_some(()));
        let mut seen = Seen::default();
        seen.catch_up(&gateway, &account);
        assert_eq!(seen.judge(&sender.begun, &sender.acknowledged), (0, 0), "{error}");
    }
}
