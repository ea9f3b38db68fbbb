//! Client certificates on STARTTLS: every handshake completes, every mail is taken, and what the certificate is worth is on
//! record. Real handshakes over real sockets, TLS 1.2 and 1.3; an authority of the test's own stands in for the public ones.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests fail by panicking.

#[path = "support/smtp_fake.rs"]
mod smtp_fake;
#[path = "support/daybook.rs"]
mod support;

use daybook::mail::{ChainVerdict, ClientCertificate, TlsFacts};
use daybook::net::admission::{Admission, AdmissionPolicy};
use daybook::net::client_certificate::sha256;
use daybook::net::drain::Drain;
use daybook::net::listen;
use daybook::net::tls::TlsIdentity;
use daybook::smtp::server::{self, Settings};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use smtp_fake::{Fake, Faults};
use std::net::SocketAddr;
use std::sync::Arc;
use support::{SOON, Site, USERS};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What every server here is called and its certificate is for.
const HOST: &str = support::HOST;
const NAME: &str = "mail.protection.outlook.com";
const CLIENT: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ClientAuth;
const SERVER: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ServerAuth;
const CODE: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::CodeSigning;
const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// An authority; `der` is its own certificate.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
}

fn authority_parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}

impl Authority {
    fn root(name: &str) -> Authority {
        let (parameters, key) = (authority_parameters(name), KeyPair::generate().unwrap());
        let made = parameters.self_signed(&key).unwrap();
        Authority { der: made.der().clone(), pem: made.pem(), issuer: Issuer::new(parameters, key) }
    }

    fn below(above: &Authority, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Authority {
        let (mut parameters, key) = (authority_parameters(name), KeyPair::generate().unwrap());
        change(&mut parameters);
        let made = parameters.signed_by(&key, &above.issuer).unwrap();
        Authority { der: made.der().clone(), pem: made.pem(), issuer: Issuer::new(parameters, key) }
    }
}

/// What a peer shows: a chain, and the key it signs with.
#[derive(Clone, Debug)]
struct Shown {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Shown {
    fn with(mut self, intermediate: &Authority) -> Shown {
        self.chain.push(intermediate.der.clone());
        self
    }
}

fn leaf_parameters(name: &str, purposes: &[ExtendedKeyUsagePurpose]) -> CertificateParams {
    let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
    parameters.extended_key_usages = purposes.to_vec();
    parameters.distinguished_name.push(DnType::CommonName, "a client");
    parameters
}

fn issued(by: &Authority, parameters: &CertificateParams) -> Shown {
    let key = KeyPair::generate().unwrap();
    let made = parameters.signed_by(&key, &by.issuer).unwrap();
    Shown { chain: vec![made.der().clone()], key: key.serialize_der() }
}

fn leaf(by: &Authority, purposes: &[ExtendedKeyUsagePurpose]) -> Shown {
    issued(by, &leaf_parameters(NAME, purposes))
}

/// Shows what it is told to, whether or not it fits together.
#[derive(Debug)]
struct Shows(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        assert!(hints.is_empty(), "a peer shows whichever it has");
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// Trusts one certificate of a server's.
fn client_config(
    server: CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
    shown: Option<&Shown>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(server).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let pair = shown.map(|shown| {
        let key = PrivateKeyDer::try_from(shown.key.clone()).unwrap();
        let key = provider.key_provider.load_private_key(key).unwrap();
        Arc::new(CertifiedKey::new(shown.chain.clone(), key))
    });
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(Shows(pair)));
    Arc::new(config)
}

/// A server that believes one authority.
struct Fixture {
    address: SocketAddr,
    identity: Arc<TlsIdentity>,
    fake: Arc<Fake>,
    _directory: tempfile::TempDir,
}

impl Fixture {
    async fn start(root: &Authority) -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let identity = Arc::new(TlsIdentity::self_signed(directory.path(), HOST).unwrap());
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, &root.pem).unwrap();
        identity.trust(Some(&ca_file)).unwrap();
        let fake = Arc::new(Fake::new(Faults::default()));
        let listeners = listen::bind(&["127.0.0.1:0".parse().unwrap()]).await.unwrap();
        let address = listeners[0].address();
        let settings = Arc::new(Settings::new(HOST));
        tokio::spawn(server::serve(
            listeners,
            Admission::new(AdmissionPolicy::in_all(1000)),
            settings,
            Some(Arc::clone(&identity)),
            fake.clone(),
            Drain::new(),
        ));
        Fixture { address, identity, fake, _directory: directory }
    }

    fn certificate(&self) -> CertificateDer<'static> {
        self.identity.certificate().unwrap()
    }

    /// Delivers a message; gives how the handshake went and what is on record about it.
    async fn deliver(&self, config: Arc<ClientConfig>) -> (HandshakeKind, TlsFacts) {
        let before = self.fake.kept().len();
        let kind = deliver(self.address, config, "journal@gateway.example").await;
        let kept = self.fake.kept();
        assert_eq!(kept.len(), before + 1);
        (kind, kept[before].envelope.tls.clone().unwrap())
    }

    async fn check(&self, what: &str, shown: Option<&Shown>, expect: Option<(ChainVerdict, bool)>) {
        for version in VERSIONS {
            let config = client_config(self.certificate(), version, shown);
            let delivering = tokio::time::timeout(SOON, self.deliver(config));
            let (_, facts) = delivering.await.unwrap_or_else(|_| panic!("{what}: not in time"));
            let expect_version =
                if version.version == rustls::ProtocolVersion::TLSv1_2 { "TLSv1.2" } else { "TLSv1.3" };
            assert_eq!(facts.version, expect_version, "{what}");
            let found = facts.client_certificate;
            let expect = shown.zip(expect).map(|(shown, (chain, proven))| ClientCertificate {
                sha256: sha256(&shown.chain[0]),
                dns_names: found.as_ref().unwrap().dns_names.clone(),
                chain,
                proven,
            });
            assert_eq!(found, expect, "{what}, {expect_version}");
        }
    }
}

/// Delivers a message over STARTTLS; gives how the handshake went.
async fn deliver(address: SocketAddr, config: Arc<ClientConfig>, to: &str) -> HandshakeKind {
    let mut clear = BufReader::new(TcpStream::connect(address).await.unwrap());
    talk(&mut clear, &["", "EHLO client.example", "STARTTLS"]).await;
    let name = ServerName::try_from(HOST).unwrap();
    let stream = TlsConnector::from(config).connect(name, clear.into_inner()).await.unwrap();
    let mut stream = BufReader::new(stream);
    let rcpt = format!("RCPT TO:<{to}>");
    let message = "Subject: a\r\n\r\nb\r\n.";
    talk(&mut stream, &["EHLO client.example", "MAIL FROM:<>", &rcpt, "DATA", message, "QUIT"]).await;
    stream.get_ref().get_ref().1.handshake_kind().unwrap()
}

/// Says each line, the first one being the silence before the greeting, and expects each to be agreed to.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>, lines: &[&str]) {
    for line in lines {
        if !line.is_empty() {
            stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
            stream.get_mut().flush().await.unwrap();
        }
        loop {
            let mut reply = String::new();
            assert!(stream.read_line(&mut reply).await.unwrap() > 0, "hung up after {line}");
            assert!(reply.starts_with(['2', '3']), "{line}: {reply}");
            if reply.as_bytes().get(3) == Some(&b' ') {
                break;
            }
        }
    }
}

#[tokio::test]
async fn whatever_certificate_a_peer_shows_its_mail_is_taken_and_the_verdict_is_right() {
    use ChainVerdict::{Expired, Good, NotYetValid, UnknownIssuer, Unusable, WrongPurpose};
    let (root, stranger) = (Authority::root("a root"), Authority::root("a stranger"));
    let middle = Authority::below(&root, "one between", |_| ());
    let stale = Authority::below(&root, "one gone by", |parameters| {
        parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let for_servers = Authority::below(&root, "one for servers", |parameters| {
        parameters.extended_key_usages = vec![SERVER];
    });
    let mut expired = leaf_parameters(NAME, &[CLIENT, SERVER]);
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let mut early = leaf_parameters(NAME, &[CLIENT, SERVER]);
    early.not_before = rcgen::date_time_ymd(2199, 1, 1);
    early.not_after = rcgen::date_time_ymd(2200, 1, 1);
    let own_key = KeyPair::generate().unwrap();
    let self_signed = |parameters: CertificateParams| Shown {
        chain: vec![parameters.self_signed(&own_key).unwrap().der().clone()],
        key: own_key.serialize_der(),
    };
    let good = leaf(&root, &[CLIENT, SERVER]);
    let stolen = Shown { key: own_key.serialize_der(), ..good.clone() };
    let noise = Shown { chain: vec![CertificateDer::from(vec![0x30, 3, 2, 1, 1])], ..stolen.clone() };
    let mut flood = good.clone();
    flood.chain.extend((0..60).map(|_| middle.der.clone()));

    let fixture = Fixture::start(&root).await;
    fixture.check("none", None, None).await;
    for (what, shown, chain, proven) in [
        ("clientAuth", leaf(&root, &[CLIENT]), Good, true),
        ("serverAuth only", leaf(&root, &[SERVER]), Good, true),
        ("both", good, Good, true),
        ("no purpose named", leaf(&root, &[]), Good, true),
        ("another purpose only", leaf(&root, &[CODE]), WrongPurpose, true),
        ("wrong name", issued(&root, &leaf_parameters("relay.example", &[SERVER])), Good, true),
        ("expired", issued(&root, &expired), Expired, true),
        ("not yet valid", issued(&root, &early), NotYetValid, true),
        ("unknown authority", leaf(&stranger, &[SERVER]), UnknownIssuer, true),
        ("unknown authority, shown", leaf(&stranger, &[SERVER]).with(&stranger), UnknownIssuer, true),
        ("self-signed", self_signed(leaf_parameters(NAME, &[SERVER])), UnknownIssuer, true),
        ("self-signed as an authority", self_signed(authority_parameters(NAME)), UnknownIssuer, true),
        ("by one between", leaf(&middle, &[SERVER]).with(&middle), Good, true),
        ("by one between, not shown", leaf(&middle, &[SERVER]), UnknownIssuer, true),
        ("by one between, expired", leaf(&stale, &[SERVER]).with(&stale), Expired, true),
        ("by one for servers", leaf(&for_servers, &[SERVER]).with(&for_servers), Good, true),
        (
            "for clients by one for servers",
            leaf(&for_servers, &[CLIENT]).with(&for_servers),
            WrongPurpose,
            true,
        ),
        ("another's, without its key", stolen, Good, false),
        ("no certificate at all", noise, Unusable, false),
        ("sixty between, of no use", flood, Good, true),
    ] {
        fixture.check(what, Some(&shown), Some((chain, proven))).await;
    }
}

#[tokio::test]
async fn the_names_on_record_are_those_of_the_certificate_in_lower_case() {
    let root = Authority::root("a root");
    let fixture = Fixture::start(&root).await;
    for (names, expect) in [
        (vec!["Mail.Protection.Outlook.com", "192.0.2.1", "*.outlook.com"], vec![NAME, "*.outlook.com"]),
        (vec!["relay.example"], vec!["relay.example"]),
        (vec![], vec![]),
    ] {
        let mut parameters = leaf_parameters("unused.example", &[SERVER]);
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        parameters.subject_alt_names = CertificateParams::new(names).unwrap().subject_alt_names;
        let shown = issued(&root, &parameters);
        let config = client_config(fixture.certificate(), &rustls::version::TLS13, Some(&shown));
        let (_, facts) = fixture.deliver(config).await;
        assert_eq!(facts.client_certificate.unwrap().dns_names, expect);
    }
}

#[tokio::test]
async fn no_session_is_resumed_so_each_proves_itself() {
    let root = Authority::root("a root");
    let fixture = Fixture::start(&root).await;
    let shown = leaf(&root, &[SERVER]);
    for version in VERSIONS {
        // One configuration: it would offer to resume if it had been given something to resume with.
        let config = client_config(fixture.certificate(), version, Some(&shown));
        for _ in 0..2 {
            let (kind, facts) = fixture.deliver(Arc::clone(&config)).await;
            assert_ne!(kind, HandshakeKind::Resumed);
            assert!(facts.client_certificate.unwrap().proven);
        }
    }
}

#[tokio::test]
async fn other_authorities_are_believed_from_the_next_handshake_on_and_a_bad_file_changes_nothing() {
    let (root, stranger) = (Authority::root("a root"), Authority::root("a stranger"));
    let fixture = Fixture::start(&root).await;
    let shown = leaf(&stranger, &[SERVER]);
    let file = fixture._directory.path().join("other.pem");
    for (pem, expect) in [
        ("no authority", ChainVerdict::UnknownIssuer),
        (stranger.pem.as_str(), ChainVerdict::Good),
        ("", ChainVerdict::Good),
    ] {
        std::fs::write(&file, pem).unwrap();
        assert_eq!(fixture.identity.trust(Some(&file)).is_ok(), pem == stranger.pem);
        fixture.check("of the stranger", Some(&shown), Some((expect, true))).await;
    }
    // Without a file, the public ones.
    fixture.identity.trust(None).unwrap();
    fixture.check("of the stranger", Some(&shown), Some((ChainVerdict::UnknownIssuer, true))).await;
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn a_stored_receipt_and_the_log_say_what_the_peer_showed() {
    let root = Authority::root("a root");
    let site = Site::with("[exchange]\nca_file = \"ca.pem\"\n", USERS);
    site.write("ca.pem", &root.pem);
    let made = json(&site.run(&["mailbox", "create", "--name", "Contoso", "--json"]).expect(0).stdout);
    let mut server = site.serve();
    let certificate = CertificateDer::from_pem_file(site.path("data/tls/cert.pem")).unwrap();
    let shown = leaf(&root, &[SERVER]);
    let config = client_config(certificate, &rustls::version::TLS13, Some(&shown));
    deliver(server.port("smtp"), config, made["address"].as_str().unwrap()).await;
    let event = |name: &str| {
        let log = server.log_with(&format!("\"event\":\"{name}\""), 1);
        let mut lines = log.lines().map(json).filter(|line| line["event"] == name);
        lines.next_back().unwrap_or_else(|| panic!("no {name} in {log}"))
    };
    let receipt_id = event("smtp.accepted")["receipt_id"].as_str().unwrap().to_owned();
    let receipt = json(&site.run(&["explain", &receipt_id, "--json"]).expect(0).stdout).to_string();
    let (sha256, handshake) = (sha256(&shown.chain[0]), event("smtp.tls"));
    let stored = format!(
        "\"client_certificate\":{{\"chain\":\"good\",\"dns_names\":[\"{NAME}\"],\"proven\":true,\"sha256\":\"{sha256}\"}}"
    );
    assert!(receipt.contains(&stored), "{receipt}");
    for (field, expect) in [
        ("client_certificate", serde_json::Value::from(sha256.as_str())),
        ("client_chain", "good".into()),
        ("client_proven", true.into()),
        ("client_names", NAME.into()),
    ] {
        assert_eq!(handshake[field], expect, "{handshake}");
    }
    assert_eq!(server.terminate(), 0);
}
