//! `self-delivery`: a report goes in by SMTP, through the running server's own doors; `fetching.rs` gets it out again.

use super::certificate::Pair;
use super::test_report;
use super::{Examined, Finding, Scope, Subject, View, fetching, ports};
use crate::admin::probe::Smtp;
use crate::admin::self_test::random;
use crate::admin::{Request, Response, ask};
use crate::mail::{Class, GatewayMailboxState, ReceiptId, Timestamp};
use crate::observe::now;
use crate::store::state_file::{self, StateError};
use crate::store::{Digest, ReceiptView};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;
use zeroize::Zeroizing;

pub(super) const NAME: &str = "self-delivery";
/// Address, login and password of the gateway mailbox for self-tests, in `data_dir`.
pub(super) const FILE: &str = "self-test.json";

pub(super) const SEE_LOG: &str = "the log says more: `journalctl -u daybook --since -5min`";

/// What [`FILE`] holds.
#[derive(Serialize, Deserialize)]
pub(super) struct Credentials {
    address: String,
    pub(super) login: String,
    pub(super) password: Zeroizing<String>,
}

/// What a round trip needs.
pub(super) struct Trial<'a> {
    pub(super) subject: &'a Subject,
    pub(super) credentials: Credentials,
    pub(super) certificate: CertificateDer<'static>,
}

/// What was sent.
struct Sent {
    message: Vec<u8>,
    seen: String,
}

pub(super) fn check(subject: &Subject, scope: &Scope, pair: &Pair) -> Vec<Finding> {
    let all =
        |why: &str| [NAME, fetching::POP3, fetching::IMAP].map(|name| Finding::skipped(name, why)).to_vec();
    if scope.no_delivery {
        return all("--no-delivery");
    }
    let View::Server(examined) = &subject.view else {
        return all(if subject.view.server_runs() {
            "the server cannot be asked: see server"
        } else {
            "no server runs"
        });
    };
    let Some(certificate) = pair.leaf().cloned() else {
        return all("the certificate cannot be read: see certificate");
    };
    match credentials(subject, examined) {
        Ok(credentials) => match alone(&subject.settings.data_dir) {
            Some(_lock) => Trial { subject, credentials, certificate }.run(),
            None => all("another doctor is at work: two would take each other's report away"),
        },
        Err(finding) => {
            let why = "there is no gateway mailbox to try: see self-delivery";
            vec![finding, Finding::skipped(fetching::POP3, why), Finding::skipped(fetching::IMAP, why)]
        }
    }
}

/// Those kept from an earlier run, if the gateway mailbox is still there; else of a new one.
fn credentials(subject: &Subject, examined: &Examined) -> Result<Credentials, Finding> {
    let data_dir = &subject.settings.data_dir;
    let path = data_dir.join(FILE);
    let kept: Option<Credentials> = match state_file::read(&path) {
        Ok(kept) => Some(kept),
        Err(StateError::Absent | StateError::Damaged(_)) => None,
        Err(error) => {
            let fix = "run doctor as the server's user or as root, or remove the file: it is made anew";
            return Err(Finding::problem(NAME, format!("{}: {error}", path.display()), fix));
        }
    };
    let known = kept.and_then(|kept| {
        let mut own = examined.gateway_mailboxes.iter().filter(|mailbox| mailbox.self_test);
        own.find(|mailbox| mailbox.gateway_mailbox.login == kept.login).map(|mailbox| (kept, mailbox))
    });
    match known {
        Some((kept, mailbox)) if mailbox.gateway_mailbox.state == GatewayMailboxState::Suspended => {
            let resume = subject.command(&format!("mailbox resume {}", kept.login));
            let seen = "the gateway mailbox for self-tests is suspended";
            Err(Finding::problem(NAME, seen, format!("let it take mail again: `{resume}`")))
        }
        Some((kept, _)) => Ok(kept),
        None => renew(data_dir).map_err(|why| {
            let seen = format!("a gateway mailbox for self-tests cannot be made: {why}");
            Finding::problem(NAME, seen, SEE_LOG)
        }),
    }
}

/// Held while a trial goes on; `None` when another is.
fn alone(data_dir: &Path) -> Option<fs::File> {
    let file = fs::File::open(data_dir.join(FILE)).ok()?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

fn renew(data_dir: &Path) -> Result<Credentials, String> {
    let made = ask(data_dir, &Request::RenewSelfTest).map_err(|error| error.to_string())?;
    let Response::Created(made) = made else { return Err("the server gave another answer".to_owned()) };
    let credentials = Credentials {
        address: made.gateway_mailbox.address.clone(),
        login: made.gateway_mailbox.login.clone(),
        password: made.password.clone(),
    };
    write(data_dir, &credentials)
        .map_err(|error| format!("write {}: {error}", data_dir.join(FILE).display()))?;
    Ok(credentials)
}

/// Owner-only from its first octet on, and the server's: also when root runs this.
fn write(data_dir: &Path, credentials: &Credentials) -> io::Result<()> {
    let path = data_dir.join(FILE);
    let new = data_dir.join(format!("{FILE}.new"));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let text = Zeroizing::new(state_file::encode(credentials)?);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    let owner = fs::metadata(data_dir)?;
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    fs::rename(new, path)
}

impl Trial<'_> {
    fn run(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let sent = match self.deliver() {
            Ok(sent) => {
                findings.push(Finding::ok(NAME, sent.seen.clone()));
                Some(sent.message)
            }
            Err(finding) => {
                findings.push(finding);
                None
            }
        };
        // IMAP reads, POP3 takes out.
        let read = fetching::imap(self, sent.as_deref());
        let login = fetching::pop3(self, sent.as_deref());
        // What a POP3 client did not take out must not stay either; also when sending failed, since the report may be in all
        // the same: its 250 got lost.
        let taken_out = login.iter().any(|finding| finding.status == super::Status::Ok);
        if !taken_out {
            drop(ask(&self.subject.settings.data_dir, &Request::ClearSelfTest));
        }
        findings.extend(login);
        findings.extend(read);
        findings
    }

    fn deliver(&self) -> Result<Sent, Finding> {
        let problem = |doing: &str, error: &dyn std::fmt::Display| {
            Finding::problem(
                NAME,
                format!("{doing}: {error}"),
                format!("see the checks ports and disk first; {SEE_LOG}"),
            )
        };
        let Some(address) = ports::smtp(self.subject) else {
            return Err(Finding::skipped(NAME, "the server does not say where it takes mail"));
        };
        let hostname = &self.subject.settings.hostname;
        let mut session =
            Smtp::connect(address, hostname).map_err(|error| problem("begin SMTP with STARTTLS", &error))?;
        let shown = session.certificate().map_err(|error| problem("begin SMTP with STARTTLS", &error))?;
        if shown != self.certificate {
            return Err(Finding::skipped(NAME, "the listener shows another certificate: see certificate"));
        }
        let at = now();
        let random = random().map_err(|error| problem("make a report", &error))?;
        let id = ReceiptId::new(u64::try_from(at.unix_ms()).unwrap_or(0), random).to_string();
        let message = test_report::build(&id, hostname, at);
        let began = Instant::now();
        let receipt_id = session
            .send(&self.credentials.address, &message)
            .map_err(|error| problem("the report was not taken", &error))?;
        let took = began.elapsed().as_millis();
        session.quit();
        let receipt = self.receipt(receipt_id).map_err(|why| problem("the report was taken", &why))?;
        expected(&receipt, &message).map_err(|why| problem("the report was taken", &why))?;
        let seen = format!("250 after {took} ms, receipt {receipt_id}, placed in INBOX");
        Ok(Sent { message, seen })
    }

    fn receipt(&self, id: ReceiptId) -> Result<ReceiptView, String> {
        let request = Request::Trace { query: id.to_string(), since: None::<Timestamp>, most: 1 };
        match ask(&self.subject.settings.data_dir, &request) {
            Ok(Response::Receipts(found)) => {
                found.into_iter().next().ok_or_else(|| format!("there is no receipt {id}"))
            }
            Ok(_) => Err("the server gave another answer than asked for".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// What must be true of the receipt of a test report.
fn expected(receipt: &ReceiptView, message: &[u8]) -> Result<(), String> {
    if receipt.sha256 != Digest::of(message) {
        return Err("its receipt names other octets than were sent".to_owned());
    }
    if receipt.class != Class::JournalReport || !receipt.defects.is_empty() {
        return Err(format!("it was read as {} with {} defects", receipt.class, receipt.defects.len()));
    }
    let folders: Vec<&str> = receipt.placements.iter().map(|placement| placement.folder.as_str()).collect();
    if folders != ["INBOX"] {
        return Err(format!("it was placed in {folders:?}, not in INBOX alone"));
    }
    Ok(())
}
