//! Plays every dialogue of `corpus/smtp`: against the sans-IO session, whole and cut in two at every octet,
//! and against a real server over a loopback socket, whole and octet by octet.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests fail by panicking.

#[path = "support/smtp_fake.rs"]
mod smtp_fake;
#[path = "support/smtp_play.rs"]
mod smtp_play;
#[path = "support/smtp_sans_io.rs"]
mod smtp_sans_io;

use daybook::net::admission::{Admission, AdmissionPolicy};
use daybook::net::drain::Drain;
use daybook::net::listen;
use daybook::net::tls::TlsIdentity;
use daybook::smtp::server::{self, Settings};
use rustls::pki_types::ServerName;
use smtp_fake::Fake;
use smtp_play::{Play, Scene, written};
use smtp_sans_io::{SansIo, policy};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const SOON: Duration = Duration::from_secs(20);

fn plays() -> Vec<Play> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/smtp");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    assert!(!paths.is_empty(), "no dialogue was found");
    paths.iter().map(|path| Play::read(path)).collect()
}

/// Plays without a socket; `cut` octets into what the client sends, a read ends.
fn play_sans_io(play: &Play, cut: usize) {
    let whence = format!("{} cut at {cut}", play.name);
    let fake = Fake::new(play.faults);
    let mut policy = policy();
    policy.require_tls = play.require_tls;
    policy.message_octets_max = play.message_octets_max;
    policy.recipients_max = play.recipients_max;
    policy.errors_max = play.errors_max;
    let mut driver = SansIo::new(&fake, policy);
    let mut sent = 0;
    for scene in &play.scenes {
        if scene.handshake {
            driver.handshake();
        }
        let (left, right) = scene.sent.split_at(cut.saturating_sub(sent).min(scene.sent.len()));
        driver.feed(left);
        driver.feed(right);
        sent += scene.sent.len();
        scene.check(&std::mem::take(&mut driver.said), &whence);
        assert_eq!(driver.closed, scene.closed, "{whence}: closed");
    }
    check_messages(play, &fake, &whence);
}

fn check_messages(play: &Play, fake: &Fake, whence: &str) {
    let kept: Vec<String> = fake.kept().iter().map(written).collect();
    assert_eq!(kept, play.messages, "{whence}: messages");
}

#[test]
fn every_dialogue_goes_as_written_wherever_it_is_cut() {
    for play in plays() {
        let octets: usize = play.scenes.iter().map(|scene| scene.sent.len()).sum();
        let cuts = if play.unsplit { 0..=0 } else { 0..=octets };
        // A long line makes thousands of cuts that differ in nothing; every one near the ends and a sample of
        // the rest will do.
        for cut in cuts.filter(|cut| octets < 4_000 || *cut < 600 || cut % 97 == 0 || octets - cut < 600) {
            play_sans_io(&play, cut);
        }
    }
}

#[tokio::test]
async fn every_dialogue_goes_as_written_over_a_socket() {
    for play in plays() {
        play_over_socket(&play, usize::MAX).await;
    }
}

#[tokio::test]
async fn every_dialogue_goes_as_written_over_a_socket_octet_by_octet() {
    for play in plays().iter().filter(|play| !play.unsplit) {
        play_over_socket(play, 1).await;
    }
}

async fn play_over_socket(play: &Play, piece_octets: usize) {
    let directory = tempfile::tempdir().unwrap();
    let tls = Arc::new(TlsIdentity::self_signed(directory.path(), "mx.example").unwrap());
    let fake = Arc::new(Fake::new(play.faults));
    let mut settings = Settings::new("mx.example");
    settings.require_tls = play.require_tls;
    settings.message_octets_max = play.message_octets_max;
    settings.recipients_max = play.recipients_max;
    settings.errors_max = play.errors_max;
    let listeners = listen::bind(&["127.0.0.1:0".parse().unwrap()]).await.unwrap();
    let address = listeners[0].address();
    let drain = Drain::new();
    let serving = tokio::spawn(server::serve(
        listeners,
        Admission::new(AdmissionPolicy::in_all(1000)),
        Arc::new(settings),
        Some(Arc::clone(&tls)),
        fake.clone(),
        drain.clone(),
    ));
    let whence = format!("{} over a socket in pieces of {piece_octets}", play.name);
    tokio::time::timeout(SOON, act(play, address, &tls, piece_octets, &whence))
        .await
        .expect(&whence)
        .unwrap();
    drain.start();
    tokio::time::timeout(SOON, serving).await.unwrap().unwrap();
    check_messages(play, &fake, &whence);
}

trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

async fn act(
    play: &Play,
    address: SocketAddr,
    tls: &TlsIdentity,
    piece_octets: usize,
    whence: &str,
) -> io::Result<()> {
    let split = play.scenes.iter().position(|scene| scene.handshake).unwrap_or(play.scenes.len());
    let (clear, encrypted) = play.scenes.split_at(split);
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    act_scenes(&mut stream, clear, piece_octets, whence).await?;
    if encrypted.is_empty() {
        return expect_silence(stream, play, whence).await;
    }
    let name = ServerName::try_from("mx.example").unwrap();
    let mut stream = connector(tls).connect(name, stream).await?;
    act_scenes(&mut stream, encrypted, piece_octets, whence).await?;
    expect_silence(stream, play, whence).await
}

async fn act_scenes(
    stream: &mut impl Connection,
    scenes: &[Scene],
    piece_octets: usize,
    whence: &str,
) -> io::Result<()> {
    for scene in scenes {
        for piece in scene.sent.chunks(piece_octets) {
            stream.write_all(piece).await?;
            stream.flush().await?;
        }
        let said = read_lines(stream, scene.said.len()).await?;
        scene.check(&said, whence);
    }
    Ok(())
}

async fn read_lines(stream: &mut impl Connection, lines: usize) -> io::Result<Vec<u8>> {
    let mut said = Vec::new();
    let mut octet = [0];
    while said.iter().filter(|octet| **octet == b'\n').count() < lines {
        if stream.read(&mut octet).await? == 0 {
            break;
        }
        said.push(octet[0]);
    }
    Ok(said)
}

/// Nothing may come behind the last line of a play; when the play says so, because the server has closed.
async fn expect_silence(mut stream: impl Connection, play: &Play, whence: &str) -> io::Result<()> {
    if !play.scenes.last().is_some_and(|scene| scene.closed) {
        stream.shutdown().await?;
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await?;
    assert_eq!(String::from_utf8_lossy(&rest), "", "{whence}: said behind the end");
    Ok(())
}

fn connector(identity: &TlsIdentity) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(identity.certificate().unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}
