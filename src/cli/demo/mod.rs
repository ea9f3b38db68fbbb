//! `daybook demo`: the whole journey of four messages, on loopback, in a directory of its own.
//!
//! It starts the server as `serve` does, makes a gateway mailbox, sends a journal report, its fork, an NDR that holds another
//! report, and a message nobody can read, shows where each landed and why, fetches everything back over POP3S and compares the
//! octets. Any step that does not hold ends it with exit code 1.

use super::{Daybook, Running, limits, output};
use crate::admin::probe::{Begin, Pop3, Smtp};
use crate::config::{DirectorySource, Http, Imap, LogLevel, Settings};
use crate::mail::{Class, GatewayMailbox, Profile, ReceiptId, Role, Timestamp, Untrusted};
use crate::store::{NewGatewayMailbox, ReceiptQuery, ReceiptView};
use rustls::pki_types::CertificateDer;
use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const HOST: &str = "localhost";
const DOMAIN: &str = "gateway.demo.example";
const USERS: &[u8] = include_bytes!("../../../corpus/demo/users.toml");

/// One message of the demonstration.
struct Sample {
    file: &'static str,
    what: &'static str,
    octets: &'static [u8],
    class: Class,
}

const SAMPLES: [Sample; 4] = [
    Sample {
        file: "report.eml",
        what: "a journal report: Alice wrote to Bob and to a list that Carol is on",
        octets: include_bytes!("../../../corpus/demo/report.eml"),
        class: Class::JournalReport,
    },
    Sample {
        file: "fork.eml",
        what: "its fork: the same mail reported again, for Erin and an outsider",
        octets: include_bytes!("../../../corpus/demo/fork.eml"),
        class: Class::JournalReport,
    },
    Sample {
        file: "ndr.eml",
        what: "an NDR: a report that could not be delivered yesterday is inside",
        octets: include_bytes!("../../../corpus/demo/ndr.eml"),
        class: Class::JournalNdr,
    },
    Sample {
        file: "hopeless.eml",
        what: "hopeless: a report turned into winmail.dat, nothing can be read",
        octets: include_bytes!("../../../corpus/demo/hopeless.eml"),
        class: Class::JournalReport,
    },
];

/// Why the demonstration ended early.
#[derive(Debug)]
pub(crate) struct DemoError(String);

impl Display for DemoError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DemoError {}

/// Names the step that failed.
fn step<E: Display>(doing: &'static str) -> impl Fn(E) -> DemoError {
    move |e| DemoError(format!("{doing}: {e}"))
}

fn expect(holds: bool, what: impl FnOnce() -> String) -> Result<(), DemoError> {
    if holds { Ok(()) } else { Err(DemoError(what())) }
}

/// What was sent, and what the server said.
struct Sent {
    sample: &'static Sample,
    receipt_id: ReceiptId,
}

/// The demonstration's own directory, removed at the end unless kept.
struct Place {
    dir: PathBuf,
    keep: bool,
}

impl Place {
    fn make(keep: bool) -> io::Result<Place> {
        let mut random = [0u8; 6];
        aws_lc_rs::rand::fill(&mut random).map_err(io::Error::other)?;
        let name: String = random.iter().map(|octet| format!("{octet:02x}")).collect();
        let dir = std::env::temp_dir().join(format!("daybook-demo-{name}"));
        fs::DirBuilder::new().mode(0o700).create(&dir)?;
        fs::write(dir.join("users.toml"), USERS)?;
        Ok(Place { dir, keep })
    }

    fn config_file(&self) -> PathBuf {
        self.dir.join("daybook.toml")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed lies in the system's temporary directory, and is nobody's mail.
            fs::remove_dir_all(&self.dir).ok();
        }
    }
}

fn settings(place: &Place) -> Settings {
    let loopback = || vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    let mut settings = Settings::with_defaults(HOST, &[DOMAIN], &place.dir.join("data"));
    settings.smtp.listen = loopback();
    settings.pop3.listen = loopback();
    settings.pop3.listen_tls = loopback();
    settings.imap = Some(Imap { listen: loopback(), listen_tls: loopback() });
    settings.http = Some(Http { listen: None });
    settings.log.level = LogLevel::Error;
    settings.directories = vec![DirectorySource::file("users", place.dir.join("users.toml"))];
    settings
}

/// How the journey ended.
struct Arrived {
    gateway_mailbox: Arc<GatewayMailbox>,
    password: zeroize::Zeroizing<String>,
    sent: Vec<Sent>,
}

/// Runs the demonstration, telling `out` about it: in prose, or as one JSON value. With `keep` the server goes on until it
/// is told to end.
pub(crate) async fn run(keep: bool, json: bool, out: &mut (dyn Write + Send)) -> Result<(), DemoError> {
    let mut place = Place::make(keep).map_err(step("making a directory"))?;
    let settings = settings(&place);
    fs::write(place.config_file(), settings.to_toml()).map_err(step("writing the configuration"))?;
    limits::raise_descriptors();
    let running = Daybook::start(settings).await.map_err(step("starting the server"))?;
    let mut untold = io::sink();
    let told: &mut (dyn Write + Send) = if json { &mut untold } else { out };
    let arrived = journey(&running, &place, keep, told).await;
    let shown = match arrived {
        Ok(arrived) if json => print_json(&running, &place, keep, &arrived),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    if shown.is_err() {
        place.keep = false;
    }
    if keep && shown.is_ok() {
        running.run_until_told().await;
    }
    running.stop().await;
    shown
}

async fn journey(
    running: &Running,
    place: &Place,
    keep: bool,
    out: &mut (dyn Write + Send),
) -> Result<Arrived, DemoError> {
    let printing = step::<io::Error>("printing");
    let smtp = running.ports.smtp.ok_or_else(|| DemoError("SMTP is not bound".to_owned()))?;
    let pop3s = running.ports.pop3s.ok_or_else(|| DemoError("POP3S is not bound".to_owned()))?;
    let new = NewGatewayMailbox {
        name: "Contoso".to_owned(),
        domain: DOMAIN.to_owned(),
        tenant: Some("contoso.onmicrosoft.example".to_owned()),
        profile: Profile::Microsoft365,
        role: Role::default(),
    };
    let (gateway_mailbox, password) =
        running.store.create_gateway_mailbox(new, "demo").await.map_err(step("making a gateway mailbox"))?;
    let address = gateway_mailbox.address().map(ToString::to_string).unwrap_or_default();
    intro(place, &address, smtp, out).map_err(&printing)?;

    let certificate = running.certificate().ok_or_else(|| DemoError("there is no certificate".to_owned()))?;
    let sent = {
        let (address, certificate) = (address.clone(), certificate.clone());
        blocking(move || send_all(smtp, &address, &certificate)).await?
    };
    writeln!(out, "2. Exchange sends four messages over STARTTLS; each 250 means: durable.\n")
        .map_err(&printing)?;
    for sent in &sent {
        writeln!(
            out,
            "   {:<13} {}\n   {:<13} 250 2.0.0 Ok {}",
            sent.sample.file, sent.sample.what, "", sent.receipt_id
        )
        .map_err(&printing)?;
    }

    writeln!(out, "\n3. Where each landed, and why").map_err(&printing)?;
    for sent in &sent {
        let view = receipt(running, sent.receipt_id)?;
        landed(sent, &view, out).map_err(&printing)?;
        judge(sent, &view)?;
    }
    let fetched = {
        let (login, certificate) = (gateway_mailbox.login().to_owned(), certificate.clone());
        let password = password.clone();
        blocking(move || fetch_all(pop3s, certificate, &login, &password, !keep)).await?
    };
    compare(&sent, &fetched)?;
    outro(pop3s, &fetched, keep, out).map_err(&printing)?;
    after(running, &gateway_mailbox, &sent, keep, out)?;
    if keep {
        reach(place, running, &gateway_mailbox, &password, &sent, out).map_err(&printing)?;
    } else {
        writeln!(
            out,
            "\nEverything held. The directory is gone again; `daybook demo --keep` leaves it running."
        )
        .map_err(&printing)?;
    }
    out.flush().map_err(&printing)?;
    Ok(Arrived { gateway_mailbox, password, sent })
}

/// What the prose tells, for programs: each message with its receipt; with `keep`, how to reach the server.
fn print_json(running: &Running, place: &Place, keep: bool, arrived: &Arrived) -> Result<(), DemoError> {
    let mut messages = Vec::new();
    for sent in &arrived.sent {
        let receipt = receipt(running, sent.receipt_id)?;
        messages.push(serde_json::json!({
            "file": sent.sample.file, "what": sent.sample.what, "same_as_sent": true, "receipt": receipt,
        }));
    }
    let mut value = serde_json::json!({ "held": true, "messages": messages });
    if keep {
        value["kept"] = serde_json::json!({
            "config": place.config_file(), "ports": running.ports,
            "login": arrived.gateway_mailbox.login(), "password": arrived.password.as_str(),
        });
    }
    output::print_json(&value).map_err(|failure| DemoError(failure.why().to_owned()))
}

/// Runs what waits for the network where it keeps nobody waiting.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DemoError> + Send + 'static,
) -> Result<T, DemoError> {
    tokio::task::spawn_blocking(work).await.map_err(step("waiting"))?
}

fn intro(place: &Place, address: &str, smtp: SocketAddr, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "Daybook keeps what Microsoft 365 journal rules report. This is its whole journey, on loopback,"
    )?;
    writeln!(out, "in {}.\n", place.dir.display())?;
    writeln!(
        out,
        "1. A gateway mailbox: the address a journal rule sends to. Only its password can open what it keeps.\n"
    )?;
    writeln!(out, "   {address}   SMTP on {smtp}")?;
    writeln!(out, "   Users: Alice, Bob, Carol and Erin at contoso.example, from users.toml.\n")
}

fn send_all(
    smtp: SocketAddr,
    address: &str,
    certificate: &CertificateDer<'static>,
) -> Result<Vec<Sent>, DemoError> {
    let mut session = Smtp::connect(smtp, HOST).map_err(step("connecting to SMTP"))?;
    let shown = session.certificate().map_err(step("beginning TLS"))?;
    expect(shown == *certificate, || "SMTP shows another certificate".to_owned())?;
    let mut sent = Vec::new();
    for sample in &SAMPLES {
        // Exchange Online sends reports from the address for undeliverable ones; NDRs come from the null path.
        let receipt_id = session.send(address, sample.octets).map_err(step("sending"))?;
        sent.push(Sent { sample, receipt_id });
    }
    session.quit();
    Ok(sent)
}

fn receipt(running: &Running, id: ReceiptId) -> Result<ReceiptView, DemoError> {
    let views = running.store.receipts(&ReceiptQuery::Id(id), Timestamp::from_unix_ms(0), 1);
    let views = views.map_err(step("asking for a receipt"))?;
    views.into_iter().next().ok_or_else(|| DemoError(format!("there is no receipt {id}")))
}

fn landed(sent: &Sent, view: &ReceiptView, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n   {} is a {}", sent.sample.file, view.class)?;
    for placement in &view.placements {
        let there = if placement.spared { "had it already" } else { "" };
        writeln!(out, "     {:<46} {:>3} {there}", placement.folder, placement.uid.value())?;
        for reason in &placement.reasons {
            writeln!(out, "         {}", Untrusted(reason))?;
        }
    }
    for unmatched in &view.unmatched {
        writeln!(out, "     nobody here: {}", Untrusted(unmatched))?;
    }
    for (kind, _) in &view.defects {
        writeln!(out, "     defect: {kind}")?;
    }
    Ok(())
}

/// What must be true of each message for the demonstration to be one.
fn judge(sent: &Sent, view: &ReceiptView) -> Result<(), DemoError> {
    let made: Vec<&str> = view.placements.iter().filter(|p| !p.spared).map(|p| p.folder.as_str()).collect();
    let wanted: &[&str] = match sent.sample.file {
        "report.eml" => &[
            "INBOX",
            "alice@contoso.example/Journal Outgoing",
            "bob@contoso.example/Journal Incoming",
            "carol@contoso.example/Journal Incoming",
        ],
        "fork.eml" => &["INBOX", "erin@contoso.example/Journal Incoming"],
        "ndr.eml" => {
            &["INBOX", "carol@contoso.example/Journal Incoming", "bob@contoso.example/Journal Incoming"]
        }
        _ => &["INBOX", "Quarantine"],
    };
    let right = made.len() == wanted.len() && wanted.iter().all(|w| made.iter().any(|m| m.ends_with(w)));
    expect(right && view.class == sent.sample.class, || {
        format!("{} is a {} in {made:?}, not in {wanted:?}", sent.sample.file, view.class)
    })
}

fn fetch_all(
    pop3s: SocketAddr,
    certificate: CertificateDer<'static>,
    login: &str,
    password: &str,
    delete: bool,
) -> Result<Vec<Vec<u8>>, DemoError> {
    let fail = step::<io::Error>("fetching over POP3S");
    let mut client = Pop3::connect(pop3s, Begin::Implicit, HOST, certificate).map_err(&fail)?;
    client.login(login, password).map_err(&fail)?;
    let mut fetched = Vec::new();
    for number in 1..=client.count().map_err(&fail)? {
        fetched.push(client.retrieve(number).map_err(&fail)?);
        if delete {
            client.delete(number).map_err(&fail)?;
        }
    }
    client.quit().map_err(&fail)?;
    Ok(fetched)
}

fn compare(sent: &[Sent], fetched: &[Vec<u8>]) -> Result<(), DemoError> {
    expect(fetched.len() == sent.len(), || {
        format!("{} messages were sent and {} fetched", sent.len(), fetched.len())
    })?;
    for (sent, fetched) in sent.iter().zip(fetched) {
        expect(sent.sample.octets == fetched, || format!("{} came back changed", sent.sample.file))?;
    }
    Ok(())
}

fn outro(pop3s: SocketAddr, fetched: &[Vec<u8>], keep: bool, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n4. An archive polls over POP3S on {pop3s}\n")?;
    for (sample, octets) in SAMPLES.iter().zip(fetched) {
        let sha256 = crate::store::Digest::of(octets).to_string();
        let short: String = sha256.chars().take(16).collect();
        writeln!(
            out,
            "   {:<13} {:>5} octets, SHA-256 {short}…: the same as sent",
            sample.file,
            octets.len()
        )?;
    }
    if !keep {
        writeln!(
            out,
            "   It deletes what it has; at QUIT they are gone from the maildrop, and stay recorded:"
        )?;
    }
    Ok(())
}

/// Shows the end of the trail, and that the maildrop is empty.
fn after(
    running: &Running,
    gateway_mailbox: &Arc<GatewayMailbox>,
    sent: &[Sent],
    keep: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), DemoError> {
    let listing = running.store.list(gateway_mailbox.id, &crate::store::FolderName::Inbox);
    let left = listing.map_err(step("listing the maildrop"))?.entries.len();
    let wanted = if keep { sent.len() } else { 0 };
    expect(left == wanted, || format!("{left} messages are left in the maildrop, not {wanted}"))?;
    let Some(first) = sent.first() else { return Ok(()) };
    let view = receipt(running, first.receipt_id)?;
    let events = view.placements.iter().filter(|p| p.folder == "INBOX").flat_map(|p| &p.events);
    let kinds: Vec<&str> = events.clone().map(|e| e.kind.as_str()).collect();
    let wanted: &[&str] = if keep { &["fetched"] } else { &["fetched", "deleted"] };
    expect(kinds == wanted, || format!("the receipt says {kinds:?}, not {wanted:?}"))?;
    for event in events {
        let client =
            event.client.as_ref().map(|c| format!("{} from {}", c.protocol, c.peer)).unwrap_or_default();
        writeln!(out, "   {} {} {client}", event.at, event.kind).map_err(step("printing"))?;
    }
    Ok(())
}

fn reach(
    place: &Place,
    running: &Running,
    gateway_mailbox: &GatewayMailbox,
    password: &str,
    sent: &[Sent],
    out: &mut dyn Write,
) -> io::Result<()> {
    let config = place.config_file();
    let config = config.display();
    let show = |port: Option<SocketAddr>| port.map(|p| p.to_string()).unwrap_or_default();
    writeln!(out, "\nEverything held, and goes on running until you press Ctrl-C:\n")?;
    writeln!(
        out,
        "   SMTP {}   POP3 {} (STLS)   POP3S {}",
        show(running.ports.smtp),
        show(running.ports.pop3),
        show(running.ports.pop3s)
    )?;
    let (imap, imaps) = (show(running.ports.imap), show(running.ports.imaps));
    writeln!(out, "   IMAP {imap} (STARTTLS)   IMAPS {imaps}")?;
    writeln!(out, "   user      {}\n   password  {password}\n", gateway_mailbox.login())?;
    if let Some(first) = sent.first() {
        writeln!(out, "   daybook --config {config} trace {}", first.receipt_id)?;
        writeln!(out, "   daybook --config {config} explain {}", first.receipt_id)?;
    }
    writeln!(out, "   daybook --config {config} mailbox list\n")?;
    writeln!(out, "Afterwards remove {}.", Path::new(&place.dir).display())
}
