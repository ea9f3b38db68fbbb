//! A renewed certificate is taken into use while the server runs: by the hook for certbot and lego that comes with Daybook, and
//! by itself when the files change. What is bad changes nothing and is said.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests fail by panicking.

#[path = "support/daybook.rs"]
mod support;

use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SignatureScheme, StreamOwned};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::{HOST, SOON, Server, Site, wait_until};

const TLS: &str = "[tls]\ncertificate = \"tls/fullchain.pem\"\nprivate_key = \"tls/privkey.pem\"\n";
const HOOK: &str = "config/certbot-hook.sh";

struct Pair {
    certificate: String,
    key: String,
    der: CertificateDer<'static>,
}

fn pair() -> Pair {
    let made = rcgen::generate_simple_self_signed(vec![HOST.to_owned()]).unwrap();
    Pair { certificate: made.cert.pem(), key: made.signing_key.serialize_pem(), der: made.cert.der().clone() }
}

/// Has no certificate to show, and notes when it is asked for one.
#[derive(Debug, Default)]
struct Asked(AtomicBool);

impl ResolvesClientCert for Asked {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::SeqCst);
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

type Secure = BufReader<StreamOwned<ClientConnection, TcpStream>>;

/// Shakes hands on a connection; trusts exactly these.
fn secure(socket: TcpStream, pairs: &[&Pair], asked: &Arc<Asked>) -> Secure {
    let mut roots = RootCertStore::empty();
    for pair in pairs {
        roots.add(pair.der.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::clone(asked) as Arc<dyn ResolvesClientCert>);
    let name = ServerName::try_from(HOST).unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, socket);
    stream.conn.complete_io(&mut stream.sock).unwrap();
    BufReader::new(stream)
}

/// The last line of a reply.
fn reply(stream: &mut impl BufRead) -> String {
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the server hung up");
        if line.as_bytes().get(3) != Some(&b'-') {
            return line.trim_end().to_owned();
        }
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

fn starttls(server: &Server<'_>, pairs: &[&Pair], asked: &Arc<Asked>) -> Secure {
    let mut clear = BufReader::new(connect(server.port("smtp")));
    assert!(reply(&mut clear).starts_with("220 "));
    for command in ["EHLO client.example\r\n", "STARTTLS\r\n"] {
        clear.get_mut().write_all(command.as_bytes()).unwrap();
        assert!(reply(&mut clear).starts_with('2'), "{command}");
    }
    secure(clear.into_inner(), pairs, asked)
}

fn say(stream: &mut Secure, command: &str) -> String {
    stream.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap();
    reply(stream)
}

fn shown(stream: &Secure) -> CertificateDer<'static> {
    stream.get_ref().conn.peer_certificates().unwrap()[0].clone()
}

/// What a fresh handshake shows, over STARTTLS on SMTP and on POP3S.
fn shown_now(server: &Server<'_>, pairs: &[&Pair]) -> [CertificateDer<'static>; 2] {
    let asked = Arc::default();
    let mut smtp = starttls(server, pairs, &asked);
    assert!(say(&mut smtp, "QUIT").starts_with("221 "));
    [shown(&smtp), shown(&secure(connect(server.port("pop3s")), pairs, &asked))]
}

/// Files a pair as certbot does: the n-th under `archive`, and links to it under `live`.
fn renew_like_certbot(site: &Site, number: u32, pair: &Pair) {
    let (archive, live) = (site.path("letsencrypt/archive/gw"), site.path("letsencrypt/live/gw"));
    fs::create_dir_all(&archive).unwrap();
    fs::create_dir_all(&live).unwrap();
    for (name, pem) in [("fullchain", &pair.certificate), ("privkey", &pair.key)] {
        let file = archive.join(format!("{name}{number}.pem"));
        fs::write(&file, pem).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let link = live.join(format!("{name}.pem"));
        fs::remove_file(&link).ok();
        symlink(format!("../../archive/gw/{name}{number}.pem"), &link).unwrap();
    }
}

/// Runs the hook as it ships, but for what a test may not do: its target lies in the site, files stay ours, and the service
/// is this process.
fn run_hook(site: &Site, server: Option<&Server<'_>>, environment: &[(&str, String)]) {
    let shipped = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(HOOK)).unwrap();
    let target = "\ntls=/etc/daybook/tls\n";
    assert!(shipped.contains(target), "{shipped}");
    site.write("hook.sh", &shipped.replace(target, &format!("\ntls={}\n", site.path("tls").display())));
    let bin = site.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let reload = match server {
        Some(server) => format!("test \"$*\" = 'reload daybook' && kill -HUP {}", server.pid()),
        None => "echo 'Unit daybook.service not found.' >&2; exit 5".to_owned(),
    };
    let install = "for word; do shift; case $word in -o | -g | root | daybook) ;; *) set -- \"$@\" \"$word\" ;; esac; done\n\
                   exec /usr/bin/install \"$@\"";
    for (name, script) in [("systemctl", reload.as_str()), ("install", install)] {
        fs::write(bin.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("sh");
    command.arg(site.path("hook.sh")).env("PATH", path).envs(environment.iter().map(|(k, v)| (k, v)));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_hook_puts_what_certbot_and_lego_renewed_in_force_and_open_connections_go_on() {
    let site = Site::with(TLS, support::USERS);
    let [first, second, third, fourth] = [(); 4].map(|()| pair());
    let lineage = [("RENEWED_LINEAGE", site.path("letsencrypt/live/gw").display().to_string())];
    renew_like_certbot(&site, 1, &first);
    run_hook(&site, None, &lineage);
    let mode = fs::metadata(site.path("tls/privkey.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o400);

    let mut server = site.serve();
    assert_eq!(shown_now(&server, &[&first]), [first.der.clone(), first.der.clone()]);
    let asked = Arc::default();
    let mut open = starttls(&server, &[&first], &asked);
    renew_like_certbot(&site, 2, &second);
    run_hook(&site, Some(&server), &lineage);
    let both = [&first, &second];
    wait_until("the renewed certificate", || {
        shown_now(&server, &both).iter().all(|shown| *shown == second.der)
    });
    assert!(say(&mut open, "EHLO client.example").starts_with("250 "));
    assert!(say(&mut open, "NOOP").starts_with("250 "));
    assert_eq!(shown(&open), first.der);

    // lego's variables before version 5, and since.
    for (prefix, before, renewed) in [("LEGO", &second, &third), ("LEGO_HOOK", &third, &fourth)] {
        site.write("gw.crt", &renewed.certificate);
        site.write("gw.key", &renewed.key);
        let file = |name: &str| site.path(name).display().to_string();
        let named = [
            (format!("{prefix}_CERT_PATH"), file("gw.crt")),
            (format!("{prefix}_CERT_KEY_PATH"), file("gw.key")),
        ];
        let named = named.each_ref().map(|(name, value)| (name.as_str(), value.clone()));
        run_hook(&site, Some(&server), &named);
        let both = [before, renewed];
        wait_until("the renewed certificate", || shown_now(&server, &both)[0] == renewed.der);
    }
    assert!(!server.log().contains("\"event\":\"tls.kept\""), "{}", server.log());
    assert!(say(&mut open, "QUIT").starts_with("221 "));
    assert_eq!(server.terminate(), 0);
}

/// The alarms `daybook status` shows.
fn alarms(site: &Site, code: i32) -> Vec<String> {
    let status: serde_json::Value =
        serde_json::from_str(&site.run(&["status", "--json"]).expect(code).stdout).unwrap();
    let alarms = status["alarms"].as_array().unwrap();
    alarms.iter().map(|alarm| alarm["alarm"].as_str().unwrap().to_owned()).collect()
}

fn count(server: &Server<'_>, event: &str) -> usize {
    server.log().matches(&format!("\"event\":\"{event}\"")).count()
}

#[test]
fn files_that_change_are_taken_by_themselves_and_a_pair_that_stays_bad_is_an_alarm_until_it_is_good() {
    let site = Site::with(&TLS.replace("tls/", "letsencrypt/live/gw/"), support::USERS);
    let (first, second) = (pair(), pair());
    renew_like_certbot(&site, 1, &first);
    let mut server = site.serve();
    // Half of a renewal.
    let (key, other) = (second.key.clone(), first.key.clone());
    renew_like_certbot(&site, 2, &Pair { key: other, ..pair_of(&second) });
    server.wait_for("tls.kept");
    assert_eq!(shown_now(&server, &[&first]), [first.der.clone(), first.der.clone()]);
    wait_until("the alarm", || alarms(&site, 1) == ["certificate-not-loaded"]);
    let page = site.run(&["status"]).expect(1).stdout;
    assert!(page.contains("certificate-not-loaded"), "{page}");
    // The other half, late.
    site.write("letsencrypt/archive/gw/privkey2.pem", &key);
    server.wait_for("tls.reloaded");
    let both = [&first, &second];
    assert_eq!(shown_now(&server, &both), [second.der.clone(), second.der.clone()]);
    wait_until("the end of the alarm", || alarms(&site, 0).is_empty());
    server.wait_for("alarm.cleared");
    assert_eq!([count(&server, "tls.kept"), count(&server, "tls.reloaded")], [1, 1], "{}", server.log());
    assert_eq!([count(&server, "alarm.raised"), count(&server, "alarm.cleared")], [1, 1]);
    assert_eq!(server.terminate(), 0);
}

fn pair_of(pair: &Pair) -> Pair {
    Pair { certificate: pair.certificate.clone(), key: pair.key.clone(), der: pair.der.clone() }
}

#[test]
fn senders_are_asked_for_a_certificate_and_those_who_fetch_are_not() {
    let site = Site::with(TLS, support::USERS);
    let made = pair();
    fs::create_dir(site.path("tls")).unwrap();
    site.write("tls/fullchain.pem", &made.certificate);
    site.write("tls/privkey.pem", &made.key);
    let mut server = site.serve();
    let (smtp, pop3s) = (Arc::<Asked>::default(), Arc::<Asked>::default());
    let mut sender = starttls(&server, &[&made], &smtp);
    assert!(say(&mut sender, "EHLO client.example").starts_with("250 "));
    let mut poller = secure(connect(server.port("pop3s")), &[&made], &pop3s);
    let mut greeting = String::new();
    poller.read_line(&mut greeting).unwrap();
    assert!(greeting.starts_with("+OK"), "{greeting}");
    assert_eq!([smtp, pop3s].map(|asked| asked.0.load(Ordering::SeqCst)), [true, false]);
    assert!(say(&mut sender, "QUIT").starts_with("221 "));
    assert_eq!(server.terminate(), 0);
}

#[test]
fn authorities_that_cannot_be_read_keep_it_from_starting_and_change_nothing_later() {
    let site = Site::with("[exchange]\nca_file = \"ca.pem\"\n", support::USERS);
    let missing = site.run(&["serve"]).expect(3);
    assert!(missing.stderr.contains("ca.pem"), "{}", missing.stderr);
    site.write("ca.pem", "no authority\n");
    let empty = site.run(&["serve"]).expect(2);
    assert!(empty.stderr.contains("find an authority in"), "{}", empty.stderr);
    site.write("ca.pem", &pair().certificate);
    let mut server = site.serve();
    site.write("ca.pem", "no authority\n");
    server.signal("HUP");
    server.wait_for("tls.authorities_kept");
    assert_eq!(count(&server, "tls.reloaded"), 1);
    assert_eq!(server.terminate(), 0);
}
