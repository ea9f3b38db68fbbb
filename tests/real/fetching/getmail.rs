//! getmail6, as an ordinary user, since it delivers nothing for root.

use super::visit::Visit;
use super::{Client, Protocol, Tls};
use crate::gateway::Account;
use crate::support::HOST;
use crate::{files_in, run};
use std::process::Command;

pub(super) struct Getmail;

/// getmail does not notice the end of a delivery that ends before it begins to wait for it; it gives up a minute later.
const ONCE_IT_WAITS: &str = "while [ \"$(cut -d ' ' -f 3 /proc/$PPID/stat)\" = R ]; do :; done";

impl Getmail {
    fn poll(visit: &Visit<'_>, delete: bool) -> Vec<Vec<u8>> {
        let into = visit.folder(if delete { "deleted" } else { "kept" });
        let deliver = visit.delivery(&into, ONCE_IT_WAITS);
        let kind = match visit.protocol {
            Protocol::Pop3 => "SimplePOP3SSLRetriever",
            Protocol::Imap => "SimpleIMAPSSLRetriever",
        };
        let (Account { login, password, .. }, port) = (&visit.account, visit.port());
        let configuration = format!(
            "[retriever]\ntype = {kind}\nserver = {HOST}\nport = {port}\nusername = {login}\npassword = {password}\n\
             ca_certs = {certificate}\n\
             [destination]\ntype = MDA_external\npath = {deliver}\n\
             [options]\nreceived = false\ndelivered_to = false\nread_all = true\ndelete = {delete}\nverbose = 2\n",
            certificate = visit.certificate().display(),
            deliver = deliver.display(),
        );
        visit.file("getmailrc", &configuration);
        run(Command::new("chown").args(["-R", "nobody:nogroup"]).arg(visit.home()));
        let mut getmail = visit.command("setpriv");
        getmail.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "getmail", "--getmaildir"]);
        run(getmail.arg(visit.home()));
        files_in(&into)
    }
}

impl Client for Getmail {
    fn name(&self) -> &'static str {
        "getmail6"
    }

    fn ways(&self) -> &'static str {
        "a Return-Path on top, over IMAP the folder below the header; writes anew what Python's `email` reads"
    }

    /// It knows no upgrade.
    fn can(&self, _: Protocol, tls: Tls) -> bool {
        tls == Tls::Implicit
    }

    fn keep(&self, visit: &Visit<'_>) -> Vec<Vec<u8>> {
        Getmail::poll(visit, false)
    }

    fn delete(&self, visit: &Visit<'_>) -> Vec<Vec<u8>> {
        Getmail::poll(visit, true)
    }

    fn as_written(&self, visit: &Visit<'_>, wire: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        visit.rewritten(&format!("getmail-{}", visit.protocol.name()), wire)
    }
}
