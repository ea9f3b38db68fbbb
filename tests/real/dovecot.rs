//! Dovecot, serving a Maildir of the caller's to clients on loopback ports, who are logged in already.

use super::imap::Imap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};
use tempfile::TempDir;

/// What it is run as: it does not read mail as root.
const USER: &str = "nobody";
const GROUP: &str = "nogroup";
/// The program that speaks IMAP, without the others that let clients in.
const PROGRAM: &str = "/usr/lib/dovecot/imap";

/// A message, and when it came, in seconds since 1970.
pub(crate) struct Kept<'a> {
    pub(crate) octets: &'a [u8],
    pub(crate) received_at: u64,
}

/// A directory with a Maildir.
pub(crate) struct Dovecot {
    dir: TempDir,
    children: Vec<Child>,
}

impl Dovecot {
    /// With these messages, numbered in this order.
    pub(crate) fn with(messages: &[Kept<'_>]) -> Dovecot {
        let dir = tempfile::Builder::new().prefix("daybook-dovecot-").tempdir().unwrap();
        let cur = dir.path().join("Maildir/cur");
        for name in ["Maildir/cur", "Maildir/new", "Maildir/tmp", "run"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        for (at, message) in messages.iter().enumerate() {
            // Numbers follow the time in the name, INTERNALDATE that of the file.
            let path = cur.join(format!("{}.M1P1.loopback:2,", 1_700_000_000 + at));
            fs::write(&path, message.octets).unwrap();
            let received_at = UNIX_EPOCH + Duration::from_secs(message.received_at);
            File::options().write(true).open(path).unwrap().set_modified(received_at).unwrap();
        }
        fs::write(dir.path().join("dovecot.conf"), configuration(dir.path())).unwrap();
        run(Command::new("chown").arg("-R").arg(format!("{USER}:{GROUP}")).arg(dir.path()));
        Dovecot { dir, children: Vec::new() }
    }

    /// A client, logged in.
    pub(crate) fn client(&mut self) -> Imap {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = Imap::plain(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let stream = OwnedFd::from(stream);
        let user = [format!("--reuid={USER}"), format!("--regid={GROUP}"), "--clear-groups".to_owned()];
        let child = Command::new("setpriv")
            .args(user)
            .args([PROGRAM, "-c"])
            .arg(self.dir.path().join("dovecot.conf"))
            .env("HOME", self.dir.path())
            .env("USER", USER)
            .env("TZ", "UTC")
            .stdin(Stdio::from(stream.try_clone().unwrap()))
            .stdout(Stdio::from(stream))
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("setpriv is needed: {e}"));
        self.children.push(child);
        assert!(client.next().text.starts_with("* PREAUTH "));
        client
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        for child in &mut self.children {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "base_dir = {dir}/run\nstate_dir = {dir}/run\nprotocols = imap\nssl = no\n\
         mail_location = maildir:{dir}/Maildir\n\
         mail_uid = {USER}\nmail_gid = {GROUP}\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n"
    )
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}
