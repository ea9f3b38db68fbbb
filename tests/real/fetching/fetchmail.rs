//! fetchmail, handing each message to a program.

use super::messages::with_lf;
use super::visit::Visit;
use super::{Client, Protocol, Tls};
use crate::files_in;
use crate::gateway::Account;
use crate::support::HOST;

pub(super) struct Fetchmail;

impl Fetchmail {
    fn poll(visit: &Visit<'_>, keep: bool) -> Vec<Vec<u8>> {
        let into = visit.folder(if keep { "kept" } else { "deleted" });
        let deliver = visit.delivery(&into, "");
        // Without `ssl` a protocol that must not be auto makes the upgrade mandatory.
        let ssl = if visit.tls == Tls::Implicit { "ssl" } else { "" };
        let uidl = if visit.protocol == Protocol::Pop3 { "uidl" } else { "" };
        let keep = if keep { "keep" } else { "no keep" };
        let (Account { login, password, .. }, port) = (&visit.account, visit.port());
        let configuration = format!(
            "set invisible\nset no bouncemail\nset no syslog\n\
             poll {HOST} service {port} protocol {protocol} {uidl} timeout 60 bad-header accept\n\
             user \"{login}\" password \"{password}\" is root here\n\
             {ssl} sslproto TLS1.2+ sslcertck sslcertfile {certificate:?}\n\
             no rewrite pass8bits no mimedecode no dropstatus no dropdelivered {keep} fetchall\n\
             mda {deliver:?}\n",
            protocol = visit.protocol.name(),
            certificate = visit.certificate(),
        );
        let configuration = visit.file("fetchmailrc", &configuration);
        let mut fetchmail = visit.command("fetchmail");
        fetchmail.args(["--nodetach", "-v", "--fetchmailrc"]).arg(configuration);
        fetchmail.args(["--idfile", "ids", "--pidfile", "pid"]).env("FETCHMAILHOME", visit.home());
        crate::run(&mut fetchmail);
        files_in(&into)
    }
}

impl Client for Fetchmail {
    fn name(&self) -> &'static str {
        "fetchmail"
    }

    fn ways(&self) -> &'static str {
        "LF line ends; ends the last line; leaves POP3's second dot in headers; skips mail with a broken header unless `bad-header accept`"
    }

    fn can(&self, _: Protocol, _: Tls) -> bool {
        true
    }

    fn keep(&self, visit: &Visit<'_>) -> Vec<Vec<u8>> {
        Fetchmail::poll(visit, true)
    }

    fn delete(&self, visit: &Visit<'_>) -> Vec<Vec<u8>> {
        Fetchmail::poll(visit, false)
    }

    fn as_written(&self, visit: &Visit<'_>, wire: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut all = with_lf(wire);
        for message in all.iter_mut() {
            if visit.protocol == Protocol::Pop3 {
                *message = with_dots_in_header(message);
            }
            if !message.ends_with(b"\n") {
                message.push(b'\n');
            }
        }
        all
    }
}

/// POP3 puts a dot before a line that begins with one. fetchmail takes it away again in the body only.
fn with_dots_in_header(message: &[u8]) -> Vec<u8> {
    let (mut written, mut in_header) = (Vec::with_capacity(message.len()), true);
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        in_header &= line != b"\n";
        if in_header && line.starts_with(b".") {
            written.push(b'.');
        }
        written.extend_from_slice(line);
    }
    written
}
