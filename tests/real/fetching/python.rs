//! Python's poplib and imaplib, by scripts that do what their documentation shows.

use super::visit::Visit;
use super::{Client, Protocol, Tls, beside};
use crate::gateway::Account;
use crate::support::HOST;
use crate::{files_in, run};

pub(super) struct Python;

impl Python {
    fn poll(visit: &Visit<'_>, then: &str) -> Vec<Vec<u8>> {
        let into = visit.folder(then);
        let script = match visit.protocol {
            Protocol::Pop3 => "pop3.py",
            Protocol::Imap => "imap.py",
        };
        let tls = match visit.tls {
            Tls::Upgrade => "upgrade",
            Tls::Implicit => "implicit",
        };
        let Account { login, password, .. } = &visit.account;
        let mut python = visit.command("python3");
        python.arg(beside(script)).args([HOST, &visit.port().to_string()]).arg(visit.certificate());
        run(python.args([login, password, tls, then]).arg(&into));
        files_in(&into)
    }
}

impl Client for Python {
    fn name(&self) -> &'static str {
        "Python's poplib and imaplib"
    }

    fn ways(&self) -> &'static str {
        "nothing; poplib takes long lines only with a larger `_MAXLINE`"
    }

    fn can(&self, _: Protocol, _: Tls) -> bool {
        true
    }

    fn keep(&self, visit: &Visit<'_>) -> Vec<Vec<u8>> {
        Python::poll(visit, "keep")
    }

    fn delete(&self, visit: &Visit<'_>) -> Vec<Vec<u8>> {
        Python::poll(visit, "delete")
    }

    fn as_written(&self, _: &Visit<'_>, wire: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        wire
    }
}
