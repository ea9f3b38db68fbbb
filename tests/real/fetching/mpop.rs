//! mpop, into a Maildir. It pipelines.

use super::messages::with_lf;
use super::visit::Visit;
use super::{Client, Protocol, Tls};
use crate::gateway::Account;
use crate::support::HOST;
use crate::{files_in, run};

pub(super) struct Mpop;

impl Mpop {
    fn poll(visit: &Visit<'_>, keep: bool) -> Vec<Vec<u8>> {
        let maildir = visit.maildir(if keep { "kept" } else { "deleted" });
        let on = |is_on: bool| if is_on { "on" } else { "off" };
        let (Account { login, password, .. }, port) = (&visit.account, visit.port());
        let configuration = format!(
            "defaults\ntls on\ntls_starttls {upgrade}\ntls_certcheck on\ntls_trust_file {certificate}\n\
             account gateway\nhost {HOST}\nport {port}\nauth user\nuser {login}\npassword {password}\n\
             delivery maildir {maildir}\nreceived_header off\nkeep {keep}\nonly_new off\nuidls_file {uidls}\n",
            upgrade = on(visit.tls == Tls::Upgrade),
            certificate = visit.certificate().display(),
            maildir = maildir.display(),
            keep = on(keep),
            uidls = visit.home().join("uidls").display(),
        );
        let configuration = visit.file("mpoprc", &configuration);
        run(visit.command("mpop").arg("-C").arg(configuration).arg("gateway"));
        files_in(&maildir.join("new"))
    }
}

impl Client for Mpop {
    fn name(&self) -> &'static str {
        "mpop"
    }

    fn ways(&self) -> &'static str {
        "LF line ends"
    }

    fn can(&self, protocol: Protocol, _: Tls) -> bool {
        protocol == Protocol::Pop3
    }

    fn keep(&self, visit: &Visit<'_>) -> Vec<Vec<u8>> {
        Mpop::poll(visit, true)
    }

    fn delete(&self, visit: &Visit<'_>) -> Vec<Vec<u8>> {
        Mpop::poll(visit, false)
    }

    fn as_written(&self, _: &Visit<'_>, wire: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        with_lf(wire)
    }
}
