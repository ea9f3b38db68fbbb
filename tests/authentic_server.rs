//! Who really sent it, with the built server: real handshakes with certificates of a test authority, loopback addresses in
//! place of Exchange Online's ranges, and what reaches POP3 in the end.

#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests fail by panicking.

#[allow(dead_code, reason = "the other test uses all of it")]
#[path = "authentic/cases.rs"]
mod cases;
#[path = "support/http.rs"]
mod http;
#[path = "support/daybook.rs"]
mod support;

use cases::{TENANT, ndr, report};
use daybook::net::client_certificate::sha256;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use support::{HOST, Server, Site, USERS, wait_until};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

/// In the configured networks of Exchange Online.
const EXCHANGE: &str = "127.0.0.2";
/// In the network that the gateway mailbox trusts.
const RELAY: &str = "127.0.0.3";
const STRANGER: &str = "127.0.0.1";
/// In those networks only after the configuration was read again.
const MOVED: &str = "127.0.0.4";
/// The name in Exchange Online's certificate.
const NAME: &str = "mail.protection.exchange.example";

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Authority {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, "a root");
        let key = KeyPair::generate().unwrap();
        let pem = parameters.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: Issuer::new(parameters, key) }
    }

    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Shown {
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut parameters);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap().der().clone();
        Shown { certificate, key: key.serialize_der() }
    }
}

/// A certificate with its key.
#[derive(Clone)]
struct Shown {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

/// How a peer connects.
enum Security<'a> {
    Clear,
    Tls(Option<&'a Shown>),
}

/// A peer at one address of this host.
struct Client<'a> {
    from: &'static str,
    security: Security<'a>,
}

impl Client<'_> {
    /// Sends a message; gives the first reply that refuses it, or the one to its end.
    async fn send(&self, site: &Site, smtp: SocketAddr, to: &str, message: &str) -> String {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(self.from.parse().unwrap(), 0)).unwrap();
        let mut clear = BufReader::new(socket.connect(smtp).await.unwrap());
        assert!(reply(&mut clear).await.starts_with("220"));
        let Security::Tls(shown) = self.security else { return converse(&mut clear, to, message).await };
        assert!(say(&mut clear, "EHLO client.example").await.starts_with("250"));
        assert!(say(&mut clear, "STARTTLS").await.starts_with("220"));
        let connector = TlsConnector::from(client_config(site, shown));
        let name = ServerName::try_from(HOST).unwrap();
        let stream = connector.connect(name, clear.into_inner()).await.unwrap();
        converse(&mut BufReader::new(stream), to, message).await
    }
}

fn client_config(site: &Site, shown: Option<&Shown>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(site.path("data/tls/cert.pem")).unwrap()).unwrap();
    let builder =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
    Arc::new(match shown {
        None => builder.with_no_client_auth(),
        Some(shown) => {
            let key = PrivateKeyDer::try_from(shown.key.clone()).unwrap();
            builder.with_client_auth_cert(vec![shown.certificate.clone()], key).unwrap()
        }
    })
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    to: &str,
    message: &str,
) -> String {
    let rcpt = format!("RCPT TO:<{to}>");
    for line in ["EHLO client.example", "MAIL FROM:<>", &rcpt, "DATA"] {
        let reply = say(stream, line).await;
        if !reply.starts_with(['2', '3']) {
            return reply;
        }
    }
    let stuffed = message.replace("\r\n.", "\r\n..");
    say(stream, &format!("{stuffed}.")).await
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>, line: &str) -> String {
    stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    stream.get_mut().flush().await.unwrap();
    reply(stream).await
}

/// The last line of the next reply.
async fn reply<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>) -> String {
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).await.unwrap() > 0, "hung up");
        if line.as_bytes().get(3) != Some(&b'-') {
            return line;
        }
    }
}

fn json_of(site: &Site, arguments: &[&str]) -> Value {
    serde_json::from_str(&site.run(arguments).expect(0).stdout).unwrap()
}

/// The events of a name that the server wrote into its log.
fn events(server: &Server<'_>, name: &str) -> Vec<Value> {
    let log = server.log();
    let all = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|event| event["event"] == name).collect()
}

/// A metric as `/metrics` shows it; 0 when it is not there.
fn metric(server: &Server<'_>, name: &str, labels: &[&str]) -> u64 {
    let text = http::get(server.port("http"), "/metrics").body;
    let is_meant = |line: &&str| {
        let shown = line.split([' ', '{']).next() == Some(name);
        shown && labels.iter().all(|label| line.contains(label))
    };
    let values = text.lines().filter(is_meant).filter_map(|line| line.rsplit(' ').next());
    values.map(|value| value.parse::<u64>().unwrap()).sum()
}

fn quarantined(shown: &Value) -> u64 {
    let folders = shown["folders"].as_array().unwrap();
    let found = folders.iter().find(|folder| folder["path"] == "Quarantine");
    found.and_then(|folder| folder["entries"].as_u64()).unwrap_or(0)
}

fn with_mark(n: usize, mark: &str) -> String {
    let ours = format!("X-OriginatorOrg: {TENANT}\r\n");
    let report = report(n);
    assert!(report.contains(&ours));
    report.replace(&ours, mark)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_genuine_reaches_the_archive_and_what_is_forged_is_kept_for_the_admin() {
    use Security::{Clear, Tls};
    let (root, stranger) = (Authority::new(), Authority::new());
    let good = root.issue(NAME, |_| ());
    let wrong_ca = stranger.issue(NAME, |_| ());
    let expired = root.issue(NAME, |parameters| parameters.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let pinned = stranger.issue("relay.fabrikam.example", |_| ());
    let exchange = format!(
        "[exchange]\nnetworks = [\"{EXCHANGE}/32\"]\ncertificate_names = [\"{NAME}\"]\nca_file = \"ca.pem\"\n"
    );
    let site = Site::with(&exchange, USERS);
    site.write("ca.pem", &root.pem);
    let made = json_of(&site, &["mailbox", "create", "--name", "Contoso", "--tenant", TENANT, "--json"]);
    let [address, login, password] = ["address", "login", "password"].map(|key| made[key].as_str().unwrap());
    let pin = format!("pinned_certificates={}", sha256(&pinned.certificate));
    let trusted = format!("trusted_networks={RELAY}/32");
    site.run(&["mailbox", "set", "Contoso", "mode=enforce", &trusted, &pin]).expect(0);
    let mut server = site.serve();
    let smtp = server.port("smtp");
    let client = |from, security| Client { from, security };
    let show = || json_of(&site, &["mailbox", "show", "Contoso", "--json"]);

    let genuine = [
        (client(EXCHANGE, Tls(Some(&good))), report(1)),
        (client(EXCHANGE, Tls(Some(&good))), ndr(2)),
        (client(RELAY, Clear), report(3)),
        (client(STRANGER, Tls(Some(&pinned))), report(4)),
    ];
    let theirs = "X-OriginatorOrg: fabrikam.onmicrosoft.example\r\n";
    let forged = [
        (client(EXCHANGE, Clear), report(10), "unverified"),
        (client(EXCHANGE, Tls(None)), report(11), "unverified"),
        (client(EXCHANGE, Tls(Some(&wrong_ca))), report(12), "suspect"),
        (client(EXCHANGE, Tls(Some(&expired))), report(13), "suspect"),
        (client(EXCHANGE, Tls(Some(&good))), with_mark(14, theirs), "suspect"),
        (client(EXCHANGE, Tls(Some(&good))), theirs.to_owned() + &report(15), "suspect"),
        (client(EXCHANGE, Tls(Some(&good))), with_mark(16, ""), "unverified"),
        (client(STRANGER, Tls(Some(&good))), report(17), "suspect"),
        (client(STRANGER, Clear), ndr(18), "unverified"),
    ];
    for (client, message) in &genuine {
        let reply = client.send(&site, smtp, address, message).await;
        assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    }
    for (client, message, _) in &forged {
        let reply = client.send(&site, smtp, address, message).await;
        assert!(reply.starts_with("250 2.0.0 "), "held back, not refused: {reply}");
    }
    let mut pop3s = server.pop3s(login, password).unwrap();
    assert_eq!(pop3s.count(), genuine.len());
    for (number, (_, message)) in genuine.iter().enumerate() {
        assert_eq!(String::from_utf8(pop3s.retrieve(number + 1)).unwrap(), *message);
    }
    pop3s.quit();
    let shown = show();
    assert_eq!(quarantined(&shown), 9, "{shown}");
    assert_eq!(
        shown["recent"]["verdicts"],
        json!({ "authentic": 4, "unverified": 4, "suspect": 5, "unjudged": 0, "held_back": 9 })
    );
    wait_until("the log", || events(&server, "journal.held_back").len() == 9);
    let held = events(&server, "journal.held_back");
    for (event, (_, _, verdict)) in held.iter().zip(&forged) {
        assert_eq!((&event["level"], &event["verdict"]), (&json!("WARN"), &json!(verdict)), "{event}");
    }
    let verdicts = |verdict: &str, held_back: bool| {
        let labels = [format!("verdict=\"{verdict}\""), format!("held_back=\"{held_back}\"")];
        metric(&server, "daybook_verdicts_total", &[&labels[0], &labels[1]])
    };
    let counted = [("authentic", false), ("authentic", true), ("unverified", true), ("suspect", true)];
    assert_eq!(counted.map(|(verdict, held)| verdicts(verdict, held)), [4, 0, 4, 5]);

    // Strict: who could prove nothing is told so, and is not heard.
    site.run(&["mailbox", "set", "Contoso", "mode=strict"]).expect(0);
    for (client, n) in [(client(STRANGER, Clear), 20), (client(STRANGER, Tls(Some(&good))), 21)] {
        let reply = client.send(&site, smtp, address, &report(n)).await;
        assert!(reply.starts_with("550 5.7.1 "), "{reply}");
    }
    let heard = client(EXCHANGE, Tls(Some(&good))).send(&site, smtp, address, &report(22)).await;
    assert!(heard.starts_with("250 2.0.0 "), "{heard}");
    assert_eq!(metric(&server, "daybook_forbidden_recipients_total", &[]), 2);
    server.log_with("\"event\":\"journal.forbidden\"", 2);
    let forbidden = events(&server, "journal.forbidden");
    assert_eq!(forbidden.len(), 2);
    assert_eq!((&forbidden[0]["mailbox_id"], &forbidden[0]["peer"]), (&made["id"], &json!(STRANGER)));
    assert_eq!((quarantined(&show()), verdicts("authentic", false)), (9, 5));

    // Other networks: from the next message on the verdict is another.
    site.run(&["mailbox", "set", "Contoso", "mode=enforce"]).expect(0);
    let text = std::fs::read_to_string(site.path("daybook.toml")).unwrap();
    site.write("daybook.toml", &text.replace(&format!("{EXCHANGE}/32"), &format!("{MOVED}/32")));
    server.signal("HUP");
    server.wait_for("config.reloaded");
    for (from, n) in [(EXCHANGE, 30), (MOVED, 31)] {
        let reply = client(from, Tls(Some(&good))).send(&site, smtp, address, &report(n)).await;
        assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    }
    assert_eq!((verdicts("suspect", true), verdicts("authentic", false)), (6, 6));
    let mut pop3s = server.pop3s(login, password).unwrap();
    assert_eq!(pop3s.count(), 6);
    assert_eq!(String::from_utf8(pop3s.retrieve(6)).unwrap(), report(31));
    pop3s.quit();
    assert_eq!(quarantined(&show()), 10);
    assert_eq!(server.terminate(), 0);
}
