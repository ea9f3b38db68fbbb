//! The README's two set-ups, followed to the letter: every shell block of a section in one script, in order, run by bash.
//!
//! The script runs in mount and network namespaces of its own, with throw-away layers over `/etc`, `/usr/local` and `/var`: it may
//! install, bind port 25 and make users, and leaves nothing. What a test machine lacks stands before the real thing in PATH:
//! `cargo` (the program is built already), `sudo` (we are root), `certbot` (signs itself), `systemctl` (starts the unit's
//! ExecStart as the unit's User with its capability, as systemd would).

use super::page;
use super::{MOVING, RUNNING, SETUP, TRIAL, corpus};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Whoever follows the README has this much time.
const PATIENCE: &str = "300";

/// Waits, as a reader does before going on in a second terminal.
const UNTIL_READY: &str =
    "for try in $(seq 600); do daybook $CONFIG readyz >/dev/null 2>&1 && break; sleep 0.1; done\n";

const SUDO: &str = "#!/bin/sh\nexec \"$@\"\n";
const CARGO: &str = "#!/bin/sh\ntest \"$1\" = build\n";

const CERTBOT: &str = r#"#!/bin/sh
set -eu
while [ $# -gt 0 ]; do
    case "$1" in
        --domain) domain=$2; shift ;;
        --deploy-hook) hook=$2; shift ;;
    esac
    shift
done
RENEWED_LINEAGE=/etc/letsencrypt/live/$domain
export RENEWED_LINEAGE
mkdir -p "$RENEWED_LINEAGE"
openssl req -x509 -newkey rsa:2048 -nodes -days 90 -subj "/CN=$domain" -addext "subjectAltName=DNS:$domain" \
    -keyout "$RENEWED_LINEAGE/privkey.pem" -out "$RENEWED_LINEAGE/fullchain.pem" 2>/dev/null
chmod 600 "$RENEWED_LINEAGE/privkey.pem"
"$hook"
"#;

const SYSTEMCTL: &str = r#"#!/bin/bash
set -eu
unit=/etc/systemd/system/daybook.service
pidfile=/var/daybook-test.pid
value() { sed -n "s/^$1=//p" "$unit" | tail -1; }
start() {
    user=$(value User)
    install -d -m 0700 -o "$user" -g "$user" "/var/lib/$(value StateDirectory)"
    setpriv --reuid="$user" --regid="$user" --init-groups --no-new-privs \
        --inh-caps=-all,+net_bind_service --ambient-caps=-all,+net_bind_service --bounding-set=-all,+net_bind_service \
        $(value ExecStart) </dev/null >/dev/null 2>>/var/daybook-test.log &
    echo $! > "$pidfile"
    for try in $(seq 600); do daybook readyz >/dev/null 2>&1 && return; sleep 0.1; done
    cat /var/daybook-test.log >&2
    exit 1
}
stop() {
    kill -TERM "$(cat "$pidfile")"
    for try in $(seq 600); do kill -0 "$(cat "$pidfile")" 2>/dev/null || return 0; sleep 0.1; done
    exit 1
}
case "$1" in
    daemon-reload) test -f "$unit" ;;
    enable) test "$2 $3" = "--now daybook"; start ;;
    start) start ;;
    stop) stop ;;
    restart) stop; start ;;
    reload) test -f "$pidfile" && kill -HUP "$(cat "$pidfile")" ;;
    *) echo "systemctl $*?" >&2; exit 1 ;;
esac
"#;

/// Blocks of a section as one script. A block that runs the gateway in the foreground is the first terminal.
fn script(section: &str) -> String {
    let mut script = String::new();
    for block in page::shell(section) {
        match block.strip_suffix(" serve\n") {
            Some(program) if !program.contains('\n') => {
                let options = program.strip_prefix("daybook").unwrap();
                script.push_str(&format!(
                    "{program} serve 2>serve.log &\nSERVER=$!\nCONFIG='{options}'\n{UNTIL_READY}"
                ));
            }
            _ => script.push_str(&block),
        }
        script.push('\n');
    }
    script
}

/// Runs a script in a world of its own, in `dir`, which looks like the repository after a build; gives what it printed.
fn follow(dir: &Path, script: &str) -> String {
    for name in ["config", "corpus"] {
        std::os::unix::fs::symlink(page::repository().join(name), dir.join(name)).unwrap();
    }
    fs::create_dir_all(dir.join("target/release")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_daybook"), dir.join("target/release/daybook")).unwrap();
    fs::create_dir(dir.join("bin")).unwrap();
    for (name, text) in [("sudo", SUDO), ("cargo", CARGO), ("certbot", CERTBOT), ("systemctl", SYSTEMCTL)] {
        let path = dir.join("bin").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let world = "mount -t tmpfs none layers
        for top in etc usr/local var; do
            mkdir -p layers/$top layers/scratch/$top
            mount -t overlay none -o lowerdir=/$top,upperdir=layers/$top,workdir=layers/scratch/$top /$top
        done
        ip link set lo up
        echo '127.0.0.1 localhost gateway.example.com' > /etc/hosts\n";
    fs::create_dir(dir.join("layers")).unwrap();
    let whole = format!("set -euo pipefail\nexport PATH=\"$PWD/bin:$PATH\"\n{world}\n{script}");
    fs::write(dir.join("script"), &whole).unwrap();
    // With a process namespace the gateway ends with the script, whatever happens.
    let output = Command::new("timeout")
        .args([
            "--kill-after=10",
            PATIENCE,
            "unshare",
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .args(["bash", "script"])
        .current_dir(dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{whole}\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn who_follows_the_trial_to_the_letter_has_the_report_back() {
    let dir = tempfile::tempdir().unwrap();
    let said = follow(dir.path(), &format!("{}\nkill $SERVER; wait $SERVER\n", script(TRIAL)));
    let report = String::from_utf8(corpus("demo/report.eml")).unwrap();
    let (_, behind) = said.split_once(&report).unwrap_or_else(|| panic!("no report as it was sent:\n{said}"));
    // The last command prints what Bob got: the original, cut out of it.
    assert!(behind.starts_with("From: ") || behind.contains("\r\nFrom: "), "no original:\n{behind}");
    assert!(report.contains(behind) && behind.len() < report.len(), "not as it was sent:\n{behind}");
    for folder in
        ["Users/alice@contoso.example/Journal Outgoing", "Users/bob@contoso.example/Journal Incoming"]
    {
        assert!(said.contains(folder), "{said}");
    }
}

#[test]
fn who_follows_the_setup_to_the_letter_has_a_gateway_that_takes_reports() {
    let dir = tempfile::tempdir().unwrap();
    // A reader keeps what the command prints; Exchange, played by curl, sends to the address in it.
    let setup = script(SETUP).replace(
        "mailbox create --name Contoso --tenant contoso.onmicrosoft.com\n",
        "mailbox create --name Contoso --tenant contoso.onmicrosoft.com | tee kept.txt\n",
    );
    assert!(setup.contains("kept.txt"), "{setup}");
    let exchange = "\
        curl --silent --show-error --ssl-reqd --cacert /etc/daybook/tls/fullchain.pem --mail-from '' \
        --mail-rcpt \"$(awk '$1 == \"address\" { print $2 }' kept.txt)\" \
        --upload-file corpus/demo/report.eml smtp://gateway.example.com:25\n";
    let archive = "\
        curl --silent --show-error --ssl-reqd --cacert /etc/daybook/tls/fullchain.pem \
        --user \"$(awk '$1 == \"login\" { print $2 }' kept.txt):$(awk '$1 == \"password\" { print $2 }' kept.txt)\" \
        pop3://gateway.example.com:110/1\n";
    // Twice, as in two weeks. The people in the README's list are not those of the report: the day's trace must find something.
    let running = script(RUNNING).replace("trace alice@contoso.com", "trace alice@contoso.example");
    let moving = script(MOVING);
    // Then from the plain copy, as from the backup.
    let restoring = page::shell(MOVING).into_iter().find(|block| block.contains(" restore ")).unwrap();
    let again = restoring
        .replace("/var/backups/daybook", "/var/backups/daybook-copy")
        .replace("/var/lib/daybook.before", "/var/lib/daybook.before-that");
    let said = follow(
        dir.path(),
        &format!(
            "{setup}\n{exchange}\n{running}\n{running}\n{archive}\n{moving}\n{archive}\n{again}\n{archive}\n\
             daybook verify --deep\nsystemctl stop\n"
        ),
    );
    let report = String::from_utf8(corpus("demo/report.eml")).unwrap();
    // As it was, restored from the backup, and restored from the plain copy.
    assert_eq!(said.matches(&report).count(), 3, "the archive gets what was sent:\n{said}");
    assert!(said.contains("Unassigned"), "{said}");
}
