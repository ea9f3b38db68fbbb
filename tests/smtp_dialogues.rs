//! Plays every dialogue of `corpus/smtp`, against the sans-IO session and against a real server over a loopback socket:
//! whole, cut in two at every octet, and octet by octet.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests fail by panicking.

#[path = "support/smtp_fake.rs"]
mod smtp_fake;
#[path = "support/smtp_play.rs"]
mod smtp_play;
#[path = "support/smtp_sans_io.rs"]
mod smtp_sans_io;
#[path = "support/smtp_socket.rs"]
mod smtp_socket;

use daybook::mail::{Address, ReceiptId, SessionId, TransportEnvelope};
use daybook::smtp::server::Settings;
use daybook::smtp::{BoxFuture, Fault, Peer, Receiver, Reception, RecipientVerdict};
use smtp_fake::{Fake, Faults, Kept};
use smtp_play::{Play, Scene, written};
use smtp_sans_io::{SansIo, policy};
use smtp_socket::{Connection, Hosted, News, SOON, identity, read_lines, send_pieces};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
    policy.messages_max = play.messages_max;
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
    check_messages(play, &fake.kept(), &whence);
}

fn check_messages(play: &Play, kept: &[Kept], whence: &str) {
    let kept: Vec<String> = kept.iter().map(written).collect();
    assert_eq!(kept, play.messages, "{whence}: messages");
}

/// Where to cut a play. A long line makes thousands of cuts that differ in nothing; every one near the ends and a sample
/// of the rest will do.
fn cuts(play: &Play) -> impl Iterator<Item = usize> {
    let octets: usize = play.scenes.iter().map(|scene| scene.sent.len()).sum();
    let last = if play.unsplit { 0 } else { octets };
    (0..=last).filter(move |cut| octets < 4_000 || *cut < 600 || cut % 97 == 0 || octets - cut < 600)
}

#[test]
fn every_dialogue_goes_as_written_wherever_it_is_cut() {
    for play in plays() {
        for cut in cuts(&play) {
            play_sans_io(&play, cut);
        }
    }
}

#[test]
fn every_dialogue_goes_as_written_over_a_socket_wherever_it_is_cut() {
    over_sockets(|play| cuts(play).map(Pieces::Two).collect());
}

#[test]
fn every_dialogue_goes_as_written_over_a_socket_octet_by_octet() {
    over_sockets(|play| if play.unsplit { Vec::new() } else { vec![Pieces::Octets] });
}

/// How what the client sends is cut into reads.
#[derive(Clone, Copy, Debug)]
enum Pieces {
    /// In two, so many octets into the play. Zero leaves it whole.
    Two(usize),
    Octets,
}

/// Plays all dialogues in each of these ways, on as many threads as there are cores: each has a server of its own.
fn over_sockets(ways: fn(&Play) -> Vec<Pieces>) {
    let tls = identity();
    let plays = Mutex::new(plays().into_iter());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                loop {
                    let play = plays.lock().unwrap().next();
                    let Some(play) = play else { break };
                    runtime.block_on(play_over_socket(&play, &tls, &ways(&play)));
                }
            });
        }
    });
}

async fn play_over_socket(play: &Play, tls: &Arc<daybook::net::tls::TlsIdentity>, ways: &[Pieces]) {
    let fake = Arc::new(Fake::new(play.faults));
    let mut settings = Settings::new("mx.example");
    settings.require_tls = play.require_tls;
    settings.message_octets_max = play.message_octets_max;
    settings.recipients_max = play.recipients_max;
    settings.errors_max = play.errors_max;
    settings.messages_max = play.messages_max;
    // What waiting does is seen elsewhere.
    settings.tarpit_max = std::time::Duration::ZERO;
    let hosted = Hosted::start(settings, tls, fake.clone()).await;
    let mut news = News::of(&fake);
    for pieces in ways {
        let whence = format!("{} over a socket, cut: {pieces:?}", play.name);
        tokio::time::timeout(SOON, act(play, &hosted, *pieces, &whence))
            .await
            .expect(&whence)
            .expect(&whence);
        check_messages(play, &news.kept(), &whence);
    }
    hosted.end().await;
}

async fn act(play: &Play, hosted: &Hosted, pieces: Pieces, whence: &str) -> io::Result<()> {
    let split = play.scenes.iter().position(|scene| scene.handshake).unwrap_or(play.scenes.len());
    let (clear, encrypted) = play.scenes.split_at(split);
    let mut stream = hosted.connect().await?;
    act_scenes(&mut stream, clear, 0, pieces, whence).await?;
    if encrypted.is_empty() {
        return expect_silence(stream, play, whence).await;
    }
    let before = clear.iter().map(|scene| scene.sent.len()).sum();
    let mut stream = hosted.handshake(stream).await?;
    act_scenes(&mut stream, encrypted, before, pieces, whence).await?;
    expect_silence(stream, play, whence).await
}

/// `before` octets of the play have been sent already.
async fn act_scenes(
    stream: &mut impl Connection,
    scenes: &[Scene],
    mut before: usize,
    pieces: Pieces,
    whence: &str,
) -> io::Result<()> {
    for scene in scenes {
        match pieces {
            Pieces::Two(cut) => {
                let (left, right) = scene.sent.split_at(cut.saturating_sub(before).min(scene.sent.len()));
                send_pieces(stream, &[left, right]).await?;
            }
            Pieces::Octets => send_pieces(stream, &scene.sent.chunks(1).collect::<Vec<_>>()).await?,
        }
        before += scene.sent.len();
        let said = read_lines(stream, scene.said.len()).await?;
        scene.check(&said, whence);
    }
    Ok(())
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

/// Notes how many octets each read of a body brought.
struct Reads {
    fake: Fake,
    octets: Arc<Mutex<Vec<usize>>>,
}

struct ReadsReception(Arc<Mutex<Vec<usize>>>);

impl Receiver for Reads {
    fn room(&self, octets: Option<u64>) -> Result<(), Fault> {
        self.fake.room(octets)
    }
    fn recipient(&self, address: &Address, already: &[Address], peer: &Peer<'_>) -> RecipientVerdict {
        self.fake.recipient(address, already, peer)
    }
    fn session_id(&self) -> SessionId {
        self.fake.session_id()
    }
    fn receipt_id(&self) -> ReceiptId {
        self.fake.receipt_id()
    }
    fn begin(&self, _: ReceiptId, _: TransportEnvelope) -> Result<Box<dyn Reception>, Fault> {
        Ok(Box::new(ReadsReception(self.octets.clone())))
    }
}

impl Reception for ReadsReception {
    fn write<'a>(&'a mut self, octets: &'a [u8]) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            self.0.lock().unwrap().push(octets.len());
            Ok(())
        })
    }
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async { Ok(()) })
    }
}

const BODY: &[u8] = b"Subject: cut here\r\n\r\nor there\r\n";

/// The reads of one body sent in two writes.
async fn reads_of(hosted: &Hosted, reads: &Reads, over_tls: bool, cut: usize) -> io::Result<Vec<usize>> {
    let mut stream = hosted.connect().await?;
    let envelope = format!(
        "HELO client.example\r\nMAIL FROM:<>\r\nRCPT TO:<journal@gateway.example>\r\nBDAT {} LAST\r\n",
        BODY.len()
    );
    let (left, right) = BODY.split_at(cut);
    let pieces = [envelope.as_bytes(), left, right];
    read_lines(&mut stream, 1).await?;
    if over_tls {
        send_pieces(&mut stream, &[b"STARTTLS\r\n"]).await?;
        read_lines(&mut stream, 1).await?;
        let mut stream = hosted.handshake(stream).await?;
        send_pieces(&mut stream, &pieces).await?;
        read_lines(&mut stream, 4).await?;
    } else {
        send_pieces(&mut stream, &pieces).await?;
        read_lines(&mut stream, 4).await?;
    }
    Ok(std::mem::take(&mut *reads.octets.lock().unwrap()))
}

/// Without this the tests over sockets would prove nothing about cuts.
#[tokio::test]
async fn what_is_sent_in_two_is_read_in_two() {
    let octets = Arc::new(Mutex::new(Vec::new()));
    let reads = Arc::new(Reads { fake: Fake::new(Faults::default()), octets });
    let hosted = Hosted::start(Settings::new("mx.example"), &identity(), reads.clone()).await;
    for over_tls in [false, true] {
        for cut in 1..BODY.len() {
            // The machine may be so busy that a packet is late, but not again and again.
            let mut tries = 0;
            while reads_of(&hosted, &reads, over_tls, cut).await.unwrap() != [cut, BODY.len() - cut] {
                tries += 1;
                assert!(tries < 10, "cut at {cut}, over TLS: {over_tls}");
            }
        }
    }
    hosted.end().await;
}
