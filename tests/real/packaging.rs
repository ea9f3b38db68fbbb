//! The unit as systemd's own tools see it, and the program under what unit and image take away from it: other users' rights,
//! capabilities, a file system to write to, system calls.
//!
//! Namespaces stand in for an engine and a booted systemd, which are not needed: everything that is mounted, and every port that
//! is bound, goes with the process.

use super::run;
use super::support::{HOST, Server, Site, corpus, wait_until};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Exposure, in tenths, that `systemd-analyze security` may find at most.
const EXPOSURE_TENTHS_MAX: &str = "15";
/// What becomes of a process in a mount namespace of its own: the program stands where it is installed.
const INSTALL: &str = "set -e
    mount --make-rprivate /
    mount -t tmpfs -o mode=0755 tmpfs /usr/local/bin
    cp \"$BUILT\" /usr/local/bin/daybook
    ";

/// All that a command says, which is more than is shown when it fails.
fn whole(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{command:?}: {}\n{said}", String::from_utf8_lossy(&output.stderr));
    said
}

/// A shell in namespaces of its own, with the program installed.
fn installed(namespaces: &[&str], script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(namespaces).args(["--mount", "sh", "-c", &format!("{INSTALL}{script}"), "sh"]);
    command.env("BUILT", env!("CARGO_BIN_EXE_daybook")).env_remove("NOTIFY_SOCKET");
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let output =
        installed(&[], "exec systemd-analyze verify --man=no config/daybook.service").output().unwrap();
    let said = [output.stdout, output.stderr].map(|octets| String::from_utf8(octets).unwrap()).concat();
    assert!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
}

#[test]
fn the_unit_exposes_no_more_than_it_says() {
    let said = whole(
        Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE_TENTHS_MAX])
            .arg("config/daybook.service"),
    );
    let overall = said.lines().last().unwrap();
    println!("{overall}");
    let unit = fs::read_to_string("config/daybook.service").unwrap();
    let (_, noted) = unit.split_once("still counts, ").unwrap();
    let noted = noted.split(' ').next().unwrap();
    assert!(overall.contains(&format!(": {noted} ")), "the unit notes {noted}: {overall}");
}

#[test]
fn sysusers_and_tmpfiles_make_the_user_and_its_folders() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let file = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    let tool = |tool: &str, name: &str| {
        let mut command = Command::new(tool);
        run(command
            .args((tool == "systemd-tmpfiles").then_some("--create"))
            .arg("--root")
            .arg(root.path())
            .arg(file(name)))
    };
    tool("systemd-sysusers", "sysusers.conf");
    let users = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    let user: Vec<&str> =
        users.lines().find(|line| line.starts_with("daybook:")).unwrap().split(':').collect();
    assert_eq!(user[5..], ["/var/lib/daybook", "/usr/sbin/nologin"], "{users}");
    let (uid, gid) = (user[2], user[3]);

    tool("systemd-tmpfiles", "tmpfiles.conf");
    for (folder, expect) in [
        ("etc/daybook", format!("750 0 {gid}")),
        ("var/lib/daybook", format!("700 {uid} {gid}")),
        ("var/log/daybook", format!("750 {uid} {gid}")),
    ] {
        let found = run(Command::new("stat").args(["-c", "%a %u %g"]).arg(root.path().join(folder)));
        assert_eq!(found.trim(), expect, "{folder}");
    }
}

/// A gateway mailbox: its address, login and password.
fn account(site: &Site) -> [String; 3] {
    let made = site.run(&["mailbox", "create", "--name", "Contoso", "--json"]).expect(0).stdout;
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    ["address", "login", "password"].map(|key| made[key].as_str().unwrap().to_owned())
}

/// One report in, one out, one reload.
fn work(site: &Site, server: &Server<'_>) {
    let [address, login, password] = account(site);
    let message = corpus("demo/report.eml");
    let reply = server.send(&address, &message);
    assert!(reply.starts_with("250 "), "{reply}\n{}", server.log());
    let mut maildrop = server.pop3s(&login, &password).unwrap();
    assert_eq!(maildrop.retrieve(1), message);
    maildrop.say("DELE 1").unwrap();
    maildrop.quit();
    server.signal("HUP");
    server.wait_for("tls.reloaded");
    site.run(&["readyz"]).expect(0);
}

fn await_ready(site: &Site, server: &Server<'_>) {
    wait_until("readyz", || {
        assert!(Path::new(&format!("/proc/{}/exe", server.pid())).exists(), "{}", server.log());
        site.run(&["readyz"]).code == 0
    });
}

fn give_away(site: &Site) {
    fs::create_dir(site.path("data")).unwrap();
    run(Command::new("chown").arg("65532:65532").arg(site.path("data")));
}

/// As a container with `--read-only --cap-drop=ALL` runs it: nothing but the volume can be written to, `/tmp` neither.
const AS_CONTAINED: &str = "
    mount --bind \"$DATA\" \"$DATA\"
    cut -d' ' -f2 /proc/self/mounts | grep -v '^/proc' | while read -r place; do
        [ \"$place\" = \"$DATA\" ] || mount -o remount,bind,ro \"$place\"
    done
    for place in / /tmp /var/tmp /dev/shm /run; do
        if touch \"$place/daybook-test\" 2>/dev/null; then echo \"$place can be written to\"; exit 99; fi
    done
    exec setpriv --reuid=65532 --regid=65532 --clear-groups --no-new-privs --inh-caps=-all --ambient-caps=-all \
        --bounding-set=-all /usr/local/bin/daybook \"$@\"";

#[test]
fn it_works_with_a_read_only_root_as_an_ordinary_user_without_capabilities() {
    let site = Site::new();
    give_away(&site);
    let mut command = installed(&[], AS_CONTAINED);
    command.env("DATA", site.path("data")).arg("--config").arg(site.path("daybook.toml")).arg("serve");
    let mut server = site.serve_by(command);
    await_ready(&site, &server);
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    for line in ["Uid:\t65532\t65532\t65532\t65532", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000"]
    {
        assert!(status.contains(line), "{line}: {status}");
    }
    work(&site, &server);
    assert_eq!(server.terminate(), 0);
    let log = server.log();
    assert!(!log.contains("Read-only") && !log.contains("\"ERROR\""), "{log}");
}

/// As the unit runs it: that one capability.
const AS_THE_UNIT: &str = "exec setpriv --reuid=65532 --regid=65532 --clear-groups --no-new-privs \
    --inh-caps=-all,$CAPABILITY --ambient-caps=-all,$CAPABILITY --bounding-set=-all,$CAPABILITY \
    /usr/local/bin/daybook \"$@\"";

#[test]
fn one_capability_opens_the_low_ports_and_without_it_they_stay_shut() {
    let site = Site::new();
    give_away(&site);
    let example = fs::read_to_string("config/daybook.toml").unwrap();
    site.write(
        "daybook.toml",
        &example.replace("\"/var/lib/daybook\"", "\"data\"").replace("gateway.example.com", HOST),
    );
    // A network of its own: ports 25, 110 and 995 are free there, and low.
    let serve = |capability: &str| {
        let mut command = installed(&["--net"], AS_THE_UNIT);
        command.env("CAPABILITY", capability).arg("--config").arg(site.path("daybook.toml")).arg("serve");
        site.serve_by(command)
    };
    let mut server = serve("+net_bind_service");
    await_ready(&site, &server);
    assert_eq!(["smtp", "pop3", "pop3s"].map(|service| server.port(service).port()), [25, 110, 995]);
    assert_eq!(server.terminate(), 0);

    let mut server = serve("-net_bind_service");
    assert_eq!(server.wait(), 3);
    assert!(server.log().contains("ermission denied"), "{}", server.log());
}

/// What systemd means by each set of system calls.
fn call_sets() -> BTreeMap<String, BTreeSet<String>> {
    let mut sets: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut set = String::new();
    for line in whole(Command::new("systemd-analyze").args(["syscall-filter", "--no-pager"])).lines() {
        let word = line.trim();
        if line.starts_with('@') {
            set = word.to_owned();
        } else if !word.is_empty() && !word.starts_with('#') {
            sets.entry(set.clone()).or_default().insert(word.to_owned());
        }
    }
    sets
}

fn calls_of(set: &str, sets: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let members = sets.get(set).unwrap_or_else(|| panic!("no {set}"));
    let expand = |member: &String| match member.starts_with('@') {
        true => calls_of(member, sets),
        false => BTreeSet::from([member.clone()]),
    };
    members.iter().flat_map(expand).collect()
}

/// What the unit's filters leave.
fn calls_allowed() -> BTreeSet<String> {
    let sets = call_sets();
    let unit = fs::read_to_string("config/daybook.service").unwrap();
    let mut allowed = BTreeSet::new();
    for filter in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        match filter.strip_prefix('~') {
            Some(denied) => denied.split(' ').for_each(|set| {
                let denied = calls_of(set, &sets);
                allowed.retain(|call| !denied.contains(call));
            }),
            None => filter.split(' ').for_each(|set| allowed.extend(calls_of(set, &sets))),
        }
    }
    allowed
}

/// As the unit runs it: an ordinary user (SQLite calls more as root), with limits that leave nothing to raise. With `-D` the server is
/// not a child of strace, and hears its signals itself.
const TRACED: &str = "exec prlimit --nofile=4096:4096 -- setpriv --reuid=65532 --regid=65532 --clear-groups \
    strace -D -f -o \"$CALLS\" /usr/local/bin/daybook \"$@\"";

#[test]
fn it_makes_only_system_calls_that_the_unit_allows() {
    let site = Site::new();
    give_away(&site);
    site.write("calls", "");
    run(Command::new("chown").arg("65532").arg(site.path("calls")));
    let mut command = installed(&[], TRACED);
    command.env("CALLS", site.path("calls")).arg("--config").arg(site.path("daybook.toml")).arg("serve");
    let mut server = site.serve_by(command);
    await_ready(&site, &server);
    work(&site, &server);
    let pid = server.pid();
    assert_eq!(server.terminate(), 0);
    // strace pads short process ids.
    let end = format!("{pid} +++ exited with 0 +++");
    let is_end = |line: &str| line.split_whitespace().eq(end.split_whitespace());
    let read = || fs::read_to_string(site.path("calls")).unwrap();
    wait_until("the end of the trace", || read().lines().any(is_end));

    let allowed = calls_allowed();
    let text = read();
    let made: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split_once(' ')?.1.trim_start().split_once('('))
        .map(|(call, _)| call)
        .filter(|call| call.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'))
        .collect();
    assert!(made.contains("fdatasync") && made.contains("accept4"), "{made:?}");
    let denied: Vec<&&str> = made.iter().filter(|call| !allowed.contains(**call)).collect();
    assert!(denied.is_empty(), "{denied:?}");
    println!("{} system calls made, {} allowed", made.len(), allowed.len());
    // MemoryDenyWriteExecute
    let both = text.lines().find(|line| line.contains("PROT_WRITE|PROT_EXEC"));
    assert_eq!(both, None);
    // RestrictAddressFamilies
    let families = ["AF_INET", "AF_INET6", "AF_UNIX"].map(|family| format!("socket({family},"));
    let other = text
        .lines()
        .find(|line| line.contains(" socket(") && !families.iter().any(|family| line.contains(family)));
    assert_eq!(other, None);
}

#[test]
fn the_image_can_be_compiled_from_what_is_copied_into_it() {
    let context = tempfile::tempdir().unwrap();
    let dockerfile = fs::read_to_string("Dockerfile").unwrap();
    let (build, _) = dockerfile.split_once("\nFROM debian").unwrap();
    for arguments in build.lines().filter_map(|line| line.strip_prefix("COPY ")) {
        let words: Vec<&str> = arguments.split(' ').collect();
        for source in &words[..words.len() - 1] {
            run(Command::new("cp").arg("-r").arg(source).arg(context.path()));
        }
    }
    // Checked, not built: what is compiled already need not be compiled again.
    let target = Path::new(env!("CARGO_BIN_EXE_daybook")).ancestors().nth(2).unwrap();
    run(Command::new("cargo")
        .args(["check", "--locked", "--offline", "--bin", "daybook", "--target-dir"])
        .arg(target)
        .current_dir(context.path()));
}
