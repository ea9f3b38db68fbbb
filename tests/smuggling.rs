//! SMTP smuggling (CVE-2023-51764 and kin): the sequences that some server somewhere takes for the end of a message,
//! each followed by a second transaction. There must never be a second message, nor a changed octet in the first, wherever
//! the sequence stands and wherever a read, or a TLS record, ends.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests fail by panicking.

#[path = "support/smtp_fake.rs"]
mod smtp_fake;
#[path = "support/smtp_sans_io.rs"]
mod smtp_sans_io;
#[path = "support/smtp_socket.rs"]
mod smtp_socket;

use daybook::smtp::server::Settings;
use smtp_fake::{Fake, Faults, Kept};
use smtp_sans_io::{SansIo, policy};
use smtp_socket::{Connection, Hosted, News, SOON, identity, read_lines, send_pieces};
use std::io;
use std::sync::{Arc, Mutex};
use tokio::io::AsyncReadExt;

/// What a sequence is to a strict server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// No end. The message goes on to the one the smuggled transaction brings along, and is refused there.
    NoEnd,
    /// A true end behind something bare: the message ends and is refused.
    EndOfRefused,
    /// A true end. The message is whole and kept; the NUL behind is no command.
    End,
}

/// The 13 of Wang et al. (USENIX Security 2025), the testers' and the older ones.
const SEQUENCES: [(&[u8], Kind); 17] = [
    (b"\n.\n", Kind::NoEnd),
    (b"\n.\r\n", Kind::NoEnd),
    (b"\r.\r", Kind::NoEnd),
    (b"\r.\r\n", Kind::NoEnd),
    (b"\r\n.\n", Kind::NoEnd),
    (b"\r\n.\r", Kind::NoEnd),
    (b"\r.\n", Kind::NoEnd),
    (b"\n.\r", Kind::NoEnd),
    (b"\0\r\n.\r\n", Kind::EndOfRefused),
    (b"\r\n\0.\r\n", Kind::NoEnd),
    (b"\r\0\n.\r\n", Kind::NoEnd),
    (b"\r\n.\0\r\n", Kind::NoEnd),
    (b"\r\n.\r\0\n", Kind::NoEnd),
    (b"\r\n.\r\n\0", Kind::End),
    (b"\r\n.\r\r\n", Kind::NoEnd),
    (b"\r\r\n.\r\n", Kind::EndOfRefused),
    (b"\r\r\n.\r\r\n", Kind::NoEnd),
];

const ENVELOPE: &str = "MAIL FROM:<sender@client.example>\r\nRCPT TO:<journal@gateway.example>\r\n";
const ENVELOPE_REPLIES: usize = 2;
const SMUGGLED: &str = "MAIL FROM:<evil@evil.example>\r\nRCPT TO:<journal@gateway.example>\r\nDATA\r\n\
                        From: <boss@client.example>\r\n\r\nevil\r\n.\r\nQUIT\r\n";
/// By BDAT the second message needs no end of its own, so that one stands behind it for the first.
const SMUGGLED_CHUNK: &str =
    "MAIL FROM:<evil@evil.example>\r\nRCPT TO:<journal@gateway.example>\r\nBDAT 6 LAST\r\nevil\r\n\r\n.\r\n";

/// One attack: what is sent behind the 354.
struct Attack {
    name: String,
    kind: Kind,
    sent: Vec<u8>,
    /// Where the sequence stands in it.
    sequence: std::ops::Range<usize>,
    /// The message, if there is to be one.
    message: Vec<u8>,
}

/// What stands before the sequence, as sent and as received.
fn leads() -> Vec<(&'static str, String, String)> {
    // Longer than a read of the server.
    let long = "All work and no play makes Jack a dull boy, and a dull boy he will be.\r\n"
        .repeat(64 * 1024 / 72 + 1);
    assert!(long.len() > 64 * 1024);
    vec![
        ("at the start", String::new(), String::new()),
        ("in a line", "Subject: harmless\r\n\r\nx".into(), "Subject: harmless\r\n\r\nx".into()),
        (
            "in a dot-stuffed line",
            "Subject: harmless\r\n\r\n..stuffed".into(),
            "Subject: harmless\r\n\r\n.stuffed".into(),
        ),
        ("behind a dot-stuffed dot", "x\r\n..\r\ny".into(), "x\r\n.\r\ny".into()),
        ("after 64 KiB", format!("{long}x"), format!("{long}x")),
    ]
}

fn attacks() -> Vec<Attack> {
    let mut attacks = Vec::new();
    for (place, sent, received) in leads() {
        for (sequence, kind) in SEQUENCES {
            for (smuggled, how) in [(SMUGGLED, "DATA"), (SMUGGLED_CHUNK, "BDAT")] {
                // Kept is what stands before the end, with its CRLF.
                let message = if kind == Kind::End { format!("{received}\r\n") } else { String::new() };
                attacks.push(Attack {
                    name: format!("{:?} {place}, before {how}", String::from_utf8_lossy(sequence)),
                    kind,
                    sent: [sent.as_bytes(), sequence, smuggled.as_bytes()].concat(),
                    sequence: sent.len()..sent.len() + sequence.len(),
                    message: message.into_bytes(),
                });
            }
        }
    }
    attacks
}

impl Attack {
    /// Every octet, but for a long lead, of which every one near the sequence and a sample of the rest will do.
    fn cuts(&self) -> impl Iterator<Item = usize> {
        let near = self.sequence.start.saturating_sub(100);
        (1..self.sent.len()).filter(move |cut| *cut >= near || *cut % 4_099 == 0)
    }

    /// From just before the sequence to just behind it.
    fn cuts_in_sequence(&self) -> impl Iterator<Item = usize> {
        let last = self.sequence.end + 1;
        (self.sequence.start.saturating_sub(2).max(1)..=last).filter(|cut| *cut < self.sent.len())
    }

    fn replies(&self) -> usize {
        if self.kind == Kind::End { 2 } else { 1 }
    }

    /// The replies behind the 354, and what was kept. That the session is closed is for the caller to see.
    fn check(&self, said: &[u8], kept: &[Kept], whence: &str) {
        let said = str::from_utf8(said).unwrap();
        if self.kind == Kind::End {
            let (first, second) = said.split_once("\r\n").unwrap_or_default();
            assert!(first.starts_with("250 2.0.0 Ok "), "{whence}: {said:?}");
            assert_eq!(second, "500 5.5.2 Bare CR, bare LF or NUL in command\r\n", "{whence}");
            assert_eq!(kept.len(), 1, "{whence}: messages");
            assert!(kept[0].body == self.message, "{whence}: kept another message");
            assert_eq!(kept[0].envelope.reverse_path.to_string(), "sender@client.example", "{whence}");
        } else {
            assert_eq!(said, "554 5.6.0 Bare CR, bare LF or NUL in message\r\n", "{whence}");
            assert!(kept.is_empty(), "{whence}: kept {kept:?}");
        }
    }
}

/// Behind the envelope, in pieces.
fn against_session(attack: &Attack, pieces: &[&[u8]], whence: &str) {
    let fake = Fake::new(Faults::default());
    let mut driver = SansIo::new(&fake, policy());
    driver.feed(format!("EHLO client.example\r\n{ENVELOPE}DATA\r\n").as_bytes());
    assert!(std::mem::take(&mut driver.said).ends_with(b"354 End data with <CR><LF>.<CR><LF>\r\n"));
    for piece in pieces {
        driver.feed(piece);
    }
    attack.check(&driver.said, &fake.kept(), whence);
    assert!(driver.closed, "{whence}: not closed");
}

#[test]
fn no_sequence_smuggles_a_message_wherever_the_session_is_shown_it_cut() {
    for attack in attacks() {
        against_session(&attack, &[&attack.sent], &attack.name);
        for cut in attack.cuts() {
            let (left, right) = attack.sent.split_at(cut);
            against_session(&attack, &[left, right], &format!("{} cut at {cut}", attack.name));
        }
        if attack.sent.len() < 1_000 {
            let octets: Vec<&[u8]> = attack.sent.chunks(1).collect();
            against_session(&attack, &octets, &format!("{} octet by octet", attack.name));
        }
    }
}

/// The attack in two writes that are two reads, and over TLS two records.
async fn over_connection(
    stream: &mut impl Connection,
    attack: &Attack,
    cut: usize,
    whence: &str,
) -> io::Result<Vec<u8>> {
    send_pieces(stream, &[format!("HELO client.example\r\n{ENVELOPE}DATA\r\n").as_bytes()]).await?;
    let said = read_lines(stream, 1 + ENVELOPE_REPLIES + 1).await?;
    assert!(said.ends_with(b"354 End data with <CR><LF>.<CR><LF>\r\n"), "{whence}");
    let (left, right) = attack.sent.split_at(cut);
    // The server closes without reading what is left, and may do so in the middle of a write.
    send_pieces(stream, &[left, right]).await.unwrap_or_default();
    let mut said = read_lines(stream, attack.replies()).await?;
    stream.read_to_end(&mut said).await?;
    Ok(said)
}

async fn against_server(
    hosted: &Hosted,
    attack: &Attack,
    cut: usize,
    over_tls: bool,
    whence: &str,
) -> io::Result<Vec<u8>> {
    let mut stream = hosted.connect().await?;
    read_lines(&mut stream, 1).await?;
    if !over_tls {
        return over_connection(&mut stream, attack, cut, whence).await;
    }
    send_pieces(&mut stream, &[b"STARTTLS\r\n"]).await?;
    read_lines(&mut stream, 1).await?;
    let mut stream = hosted.handshake(stream).await?;
    over_connection(&mut stream, attack, cut, whence).await
}

/// Runs all attacks on as many threads as there are cores, each with a server of its own, cut as said.
fn over_sockets(over_tls: bool, cuts: fn(&Attack) -> Vec<usize>) {
    let tls = identity();
    let attacks = Mutex::new(attacks().into_iter());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let fake = Arc::new(Fake::new(Faults::default()));
                    let hosted = Hosted::start(Settings::new("mx.example"), &tls, fake.clone()).await;
                    let mut news = News::of(&fake);
                    loop {
                        let attack = attacks.lock().unwrap().next();
                        let Some(attack) = attack else { break };
                        for cut in cuts(&attack) {
                            let whence = format!("{} cut at {cut}, over TLS: {over_tls}", attack.name);
                            let said = against_server(&hosted, &attack, cut, over_tls, &whence);
                            let said = tokio::time::timeout(SOON, said).await.expect(&whence).expect(&whence);
                            attack.check(&said, &news.kept(), &whence);
                        }
                    }
                    hosted.end().await;
                });
            });
        }
    });
}

#[test]
fn no_sequence_smuggles_a_message_over_a_socket_wherever_a_read_ends() {
    over_sockets(false, |attack| {
        // A long lead takes long to send, and what is read last does not depend on it.
        let long = attack.sequence.start > 1_000;
        if long { attack.cuts_in_sequence().collect() } else { attack.cuts().collect() }
    });
}

#[test]
fn no_sequence_smuggles_a_message_over_tls_wherever_a_record_ends() {
    over_sockets(true, |attack| attack.cuts_in_sequence().collect());
}

#[test]
fn by_bdat_every_sequence_is_kept_as_sent_however_it_is_chunked() {
    for attack in attacks().iter().filter(|attack| attack.sent.len() < 1_000) {
        let body = attack.sent.as_slice();
        for cut in 0..=body.len() {
            let whence = format!("{} in chunks of {cut} and the rest", attack.name);
            let fake = Fake::new(Faults::default());
            let mut driver = SansIo::new(&fake, policy());
            if cut % 2 == 1 {
                driver.feed(b"EHLO client.example\r\nSTARTTLS\r\n");
                driver.handshake();
            }
            driver.feed(format!("EHLO client.example\r\n{ENVELOPE}").as_bytes());
            let (left, right) = body.split_at(cut);
            let first = format!("BDAT {}\r\n", left.len());
            let last = format!("BDAT {} LAST\r\n", right.len());
            driver.feed(&[first.as_bytes(), left, last.as_bytes(), right, b"QUIT\r\n"].concat());
            let kept = fake.kept();
            assert_eq!(kept.len(), 1, "{whence}");
            assert!(kept[0].body == body, "{whence}: changed");
            assert!(driver.said.ends_with(b"\r\n221 2.0.0 Bye\r\n") && driver.closed, "{whence}");
        }
    }
}
