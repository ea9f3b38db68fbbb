//! offlineimap3: every folder into Maildirs, then only what is new; what is deleted there it deletes on the server (EXPUNGE).

use super::mbsync::{MAILDIRS, empty_maildir, maildir};
use super::visit::Visit;
use super::{Client, Protocol, Tls};
use crate::gateway::Account;
use crate::run;
use crate::support::HOST;

pub(super) struct OfflineImap;

impl OfflineImap {
    fn sync(visit: &Visit<'_>) -> Vec<Vec<u8>> {
        let maildirs = visit.folder(MAILDIRS);
        let (Account { login, password, .. }, port) = (&visit.account, visit.port());
        let tls = match visit.tls {
            Tls::Upgrade => "ssl = no\nstarttls = yes",
            Tls::Implicit => "ssl = yes",
        };
        let configuration = format!(
            "[general]\naccounts = gateway\nmetadata = {metadata}\nui = basic\n\
             [Account gateway]\nlocalrepository = near\nremoterepository = far\n\
             [Repository near]\ntype = Maildir\nlocalfolders = {maildirs}\nsep = /\n\
             [Repository far]\ntype = IMAP\nremotehost = {HOST}\nremoteport = {port}\nremoteuser = {login}\n\
             remotepass = {password}\n{tls}\nsslcacertfile = {certificate}\nauth_mechanisms = PLAIN\nexpunge = yes\n",
            metadata = visit.folder("metadata").display(),
            maildirs = maildirs.display(),
            certificate = visit.certificate().display(),
        );
        let configuration = visit.file("offlineimaprc", &configuration);
        run(visit.command("offlineimap").arg("-o").arg("-c").arg(configuration));
        maildir(&maildirs.join("INBOX"))
    }
}

impl Client for OfflineImap {
    fn name(&self) -> &'static str {
        "offlineimap3"
    }

    fn ways(&self) -> &'static str {
        "writes anew what Python's `email` reads; verifies no certificate over STARTTLS"
    }

    fn can(&self, protocol: Protocol, _: Tls) -> bool {
        protocol == Protocol::Imap
    }

    /// Its `starttls()` is called without any certificates.
    fn verifies(&self, _: Protocol, tls: Tls) -> bool {
        tls == Tls::Implicit
    }

    fn keep(&self, visit: &Visit<'_>) -> Vec<Vec<u8>> {
        OfflineImap::sync(visit)
    }

    fn delete(&self, visit: &Visit<'_>) -> Vec<Vec<u8>> {
        let fetched = OfflineImap::sync(visit);
        empty_maildir(&visit.home().join(MAILDIRS).join("INBOX"));
        assert!(OfflineImap::sync(visit).is_empty());
        fetched
    }

    fn as_written(&self, visit: &Visit<'_>, wire: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        visit.rewritten("offlineimap", wire)
    }
}
