//! mbsync: every folder into Maildirs, then only what is new; what is deleted there it deletes on the server (CLOSE).

use super::messages::with_lf;
use super::visit::Visit;
use super::{Client, Protocol, Tls};
use crate::gateway::Account;
use crate::support::HOST;
use crate::{files_in, run};
use std::fs;
use std::path::Path;

pub(super) struct Mbsync;

/// Both programs that keep Maildirs have them here.
pub(super) const MAILDIRS: &str = "maildirs";

/// What lies in a Maildir, seen or not.
pub(super) fn maildir(dir: &Path) -> Vec<Vec<u8>> {
    ["cur", "new"].into_iter().flat_map(|part| files_in(&dir.join(part))).collect()
}

/// Deletes what lies in a Maildir, as its owner does.
pub(super) fn empty_maildir(dir: &Path) {
    for part in ["cur", "new"] {
        for entry in fs::read_dir(dir.join(part)).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
}

impl Mbsync {
    fn sync(visit: &Visit<'_>) -> Vec<Vec<u8>> {
        let maildirs = visit.folder(MAILDIRS);
        let (Account { login, password, .. }, port) = (&visit.account, visit.port());
        let tls = match visit.tls {
            Tls::Upgrade => "STARTTLS",
            Tls::Implicit => "IMAPS",
        };
        let configuration = format!(
            "IMAPAccount gateway\nHost {HOST}\nPort {port}\nUser {login}\nPass {password}\nSSLType {tls}\n\
             SystemCertificates no\nCertificateFile {certificate}\n\n\
             IMAPStore far\nAccount gateway\n\n\
             MaildirStore near\nPath {maildirs}/\nInbox {maildirs}/INBOX\nSubFolders Verbatim\n\n\
             Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Near\nSync All\nExpunge Both\nSyncState *\n",
            certificate = visit.certificate().display(),
            maildirs = maildirs.display(),
        );
        let configuration = visit.file("mbsyncrc", &configuration);
        run(visit.command("mbsync").arg("-V").arg("-c").arg(configuration).arg("all"));
        maildir(&maildirs.join("INBOX"))
    }
}

impl Client for Mbsync {
    fn name(&self) -> &'static str {
        "mbsync"
    }

    fn ways(&self) -> &'static str {
        "LF line ends; an X-TUID behind the header"
    }

    fn can(&self, protocol: Protocol, _: Tls) -> bool {
        protocol == Protocol::Imap
    }

    fn keep(&self, visit: &Visit<'_>) -> Vec<Vec<u8>> {
        Mbsync::sync(visit)
    }

    fn delete(&self, visit: &Visit<'_>) -> Vec<Vec<u8>> {
        let fetched = Mbsync::sync(visit);
        empty_maildir(&visit.home().join(MAILDIRS).join("INBOX"));
        assert!(Mbsync::sync(visit).is_empty());
        fetched
    }

    fn undo(&self, mut fetched: Vec<u8>) -> Vec<u8> {
        const FIELD: &[u8] = b"X-TUID: ";
        let at =
            fetched.windows(FIELD.len()).position(|octets| octets == FIELD).expect("mbsync adds its X-TUID");
        let line = fetched[at..].iter().position(|octet| *octet == b'\n').unwrap();
        fetched.drain(at..=at + line);
        fetched
    }

    fn as_written(&self, _: &Visit<'_>, wire: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        with_lf(wire)
    }
}
