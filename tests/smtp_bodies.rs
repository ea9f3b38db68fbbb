//! However a body is chunked, stuffed and cut into reads, the reception gets the octets that were sent.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests fail by panicking.

#[path = "support/smtp_fake.rs"]
mod smtp_fake;
#[path = "support/smtp_sans_io.rs"]
mod smtp_sans_io;
#[path = "support/smtp_socket.rs"]
mod smtp_socket;

use daybook::smtp::server::Settings;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use smtp_fake::{Fake, Faults};
use smtp_sans_io::{SansIo, policy};
use smtp_socket::{Connection, Hosted, News, SOON, identity, read_lines, send_pieces};
use std::sync::Arc;
use tokio::io::AsyncReadExt;

const ENVELOPE: &[u8] = b"MAIL FROM:<>\r\nRCPT TO:<journal@gateway.example>\r\n";
const BEFORE: &[u8] = b"HELO client.example\r\nMAIL FROM:<>\r\nRCPT TO:<journal@gateway.example>\r\n";

/// Cut at the given sizes, used in turn.
fn pieces<'o>(octets: &'o [u8], sizes: &[usize]) -> Vec<&'o [u8]> {
    let mut pieces = Vec::new();
    let mut rest = octets;
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(sizes.next().copied().unwrap_or(1).clamp(1, rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

/// Feeds `octets` in pieces of the given sizes, used in turn.
fn feed_in_pieces(driver: &mut SansIo<'_>, octets: &[u8], sizes: &[usize]) {
    for piece in pieces(octets, sizes) {
        driver.feed(piece);
    }
}

/// What a client does between two chunks.
#[derive(Clone, Copy, Debug)]
enum Between {
    Nothing,
    Noop,
    /// An address to verify, and a recipient too late.
    Chatter,
    /// Begins again: what was sent so far belongs to no message.
    Reset,
}

/// Sends `body` by BDAT in chunks cut at the given sizes, then QUIT.
fn by_bdat(body: &[u8], chunks: &[(usize, Between)]) -> Vec<u8> {
    let mut sent = Vec::new();
    let mut rest = body;
    for (octets, between) in chunks {
        let (chunk, behind) = rest.split_at((*octets).min(rest.len()));
        sent.extend_from_slice(format!("BDAT {}\r\n", chunk.len()).as_bytes());
        sent.extend_from_slice(chunk);
        rest = behind;
        match between {
            Between::Nothing => {}
            Between::Noop => sent.extend_from_slice(b"NOOP\r\n"),
            Between::Chatter => sent.extend_from_slice(b"VRFY x\r\nRCPT TO:<other@gateway.example>\r\n"),
            Between::Reset => {
                sent.extend_from_slice(b"RSET\r\n");
                sent.extend_from_slice(ENVELOPE);
                rest = body;
            }
        }
    }
    sent.extend_from_slice(format!("BDAT {} LAST\r\n", rest.len()).as_bytes());
    sent.extend_from_slice(rest);
    sent.extend_from_slice(b"QUIT\r\n");
    sent
}

/// As DATA wants it, then QUIT; `None` for a body that DATA cannot carry: it is lines, without anything bare in them.
fn by_data(body: &[u8]) -> Option<Vec<u8>> {
    let mut sent = Vec::new();
    for line in body.split_inclusive(|octet| *octet == b'\n') {
        let inner = line.strip_suffix(b"\r\n")?;
        if inner.iter().any(|octet| b"\r\0".contains(octet)) {
            return None;
        }
        if line.starts_with(b".") {
            sent.push(b'.');
        }
        sent.extend_from_slice(line);
    }
    sent.extend_from_slice(b".\r\nQUIT\r\n");
    Some(sent)
}

fn check_kept(fake: &Fake, driver: &SansIo<'_>, body: &[u8]) -> Result<(), TestCaseError> {
    prop_assert!(driver.closed, "{}", String::from_utf8_lossy(&driver.said));
    let kept = fake.kept();
    prop_assert_eq!(kept.len(), 1);
    prop_assert_eq!(&kept[0].body, &body);
    Ok(())
}

/// Octets that matter to a scanner, more often than chance would bring them.
fn hostile_octet() -> impl Strategy<Value = u8> {
    prop_oneof![3 => select(&b"\r\n.\0"[..]), 2 => any::<u8>()]
}

fn command() -> impl Strategy<Value = Vec<u8>> {
    let line = select(vec![
        "HELO a",
        "EHLO a",
        "MAIL FROM:<>",
        "MAIL FROM:<a@b.example> SIZE=3",
        "MAIL FROM:<x",
        "RSET",
        "NOOP",
        "RCPT TO:<journal@gateway.example>",
        "RCPT TO:<nobody@gateway.example>",
        "RCPT TO:<postmaster>",
        "VRFY x",
        "BDAT 3\r\nabc",
        "BDAT 0 LAST",
        "BDAT 6 LAST\r\nQUIT\r\n",
        "BDAT 2000000\r\n",
        "BDAT x",
        "QUIT",
        "\0",
        "",
        "AUTH PLAIN",
        "HELP",
        "DATA x",
    ]);
    prop_oneof![
        8 => line.prop_map(|line| {
            let end = if line.starts_with("BDAT") && line.contains('\n') { "" } else { "\r\n" };
            format!("{line}{end}").into_bytes()
        }),
        1 => vec(hostile_octet(), 0..40),
    ]
}

/// Anything, or lines that DATA can carry too.
fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(hostile_octet(), 0..400),
        vec("[.]{0,3}[ -~]{0,20}", 0..20)
            .prop_map(|lines| lines.iter().flat_map(|line| format!("{line}\r\n").into_bytes()).collect()),
    ]
}

fn between() -> impl Strategy<Value = Between> {
    prop_oneof![
        12 => Just(Between::Nothing),
        3 => Just(Between::Noop),
        2 => Just(Between::Chatter),
        1 => Just(Between::Reset),
    ]
}

/// What is kept of a body sent like this behind the envelope.
fn check_sent(sent: &[u8], cuts: &[usize], over_tls: bool, body: &[u8]) -> Result<(), TestCaseError> {
    let fake = Fake::new(Faults::default());
    let mut driver = SansIo::new(&fake, policy());
    if over_tls {
        feed_in_pieces(&mut driver, b"EHLO client.example\r\nSTARTTLS\r\n", cuts);
        driver.handshake();
    }
    feed_in_pieces(&mut driver, BEFORE, cuts);
    let sent = match sent.strip_prefix(b"DATA\r\n") {
        // The client waits for the 354.
        Some(behind) => {
            driver.feed(b"DATA\r\n");
            behind
        }
        None => sent,
    };
    feed_in_pieces(&mut driver, sent, cuts);
    check_kept(&fake, &driver, body)
}

proptest! {
    // As many as the promise of byte-for-byte bodies is worth; they take seconds.
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_chunking_and_any_cut_give_the_same_bytes_as_one_chunk_and_as_data(
        body in body(),
        chunks in vec((0_usize..60, between()), 0..12),
        cuts in vec(1_usize..90, 1..8),
        over_tls in any::<bool>(),
    ) {
        check_sent(&by_bdat(&body, &[]), &[usize::MAX], over_tls, &body)?;
        check_sent(&by_bdat(&body, &chunks), &cuts, over_tls, &body)?;
        if let Some(sent) = by_data(&body) {
            let sent = [b"DATA\r\n", sent.as_slice()].concat();
            check_sent(&sent, &[usize::MAX], over_tls, &body)?;
            check_sent(&sent, &cuts, over_tls, &body)?;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_hostile_body_is_kept_as_sent_or_not_at_all(
        body in vec(hostile_octet(), 0..60),
        cuts in vec(1_usize..20, 1..8),
    ) {
        let fake = Fake::new(Faults::default());
        let mut driver = SansIo::new(&fake, policy());
        driver.feed(BEFORE);
        driver.feed(b"DATA\r\n");
        feed_in_pieces(&mut driver, &body, &cuts);
        driver.feed(b"\r\n.\r\n");
        // Read once more, by the plainest rule there is: a message is what stands before the first CRLF.CRLF.
        let mut sent = b"\r\n".to_vec();
        sent.extend_from_slice(&body);
        sent.extend_from_slice(b"\r\n.\r\n");
        let end = sent.windows(5).position(|octets| octets == b"\r\n.\r\n").unwrap();
        let message = &sent[2..end + 2];
        let clean = String::from_utf8_lossy(message).replace("\r\n", "");
        let kept = fake.kept();
        if clean.contains(['\r', '\n', '\0']) {
            prop_assert!(kept.is_empty());
            prop_assert!(driver.closed);
        } else {
            prop_assert_eq!(kept.len(), 1);
            let mut unstuffed = Vec::new();
            for line in message.split_inclusive(|octet| *octet == b'\n') {
                unstuffed.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
            }
            prop_assert_eq!(&kept[0].body, &unstuffed);
        }
    }

    #[test]
    fn no_session_depends_on_how_its_octets_are_cut(
        commands in vec(command(), 0..20),
        cuts in vec(1_usize..40, 1..8),
    ) {
        let sent = commands.concat();
        let run = |cuts: &[usize]| {
            let fake = Fake::new(Faults::default());
            let mut driver = SansIo::new(&fake, policy());
            feed_in_pieces(&mut driver, &sent, cuts);
            (driver.said, driver.closed, fake.kept())
        };
        prop_assert_eq!(run(&cuts), run(&[usize::MAX]));
    }
}

async fn over_connection(stream: &mut impl Connection, sent: &[u8], cuts: &[usize]) -> String {
    send_pieces(stream, &pieces(&[BEFORE, sent].concat(), cuts)).await.unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    String::from_utf8(said).unwrap()
}

#[test]
fn any_chunking_and_any_cut_give_the_same_bytes_over_a_socket() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fake = Arc::new(Fake::new(Faults::default()));
    let hosted = runtime.block_on(Hosted::start(Settings::new("mx.example"), &identity(), fake.clone()));
    let news = std::cell::RefCell::new(News::of(&fake));
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    let cases = (body(), vec((0_usize..60, between()), 0..12), vec(1_usize..90, 1..8), any::<bool>());
    let check = |(body, chunks, cuts, over_tls): (Vec<u8>, Vec<_>, Vec<_>, bool)| {
        let sent = by_bdat(&body, &chunks);
        let talk = async {
            let mut stream = hosted.connect().await.unwrap();
            read_lines(&mut stream, 1).await.unwrap();
            if !over_tls {
                return over_connection(&mut stream, &sent, &cuts).await;
            }
            send_pieces(&mut stream, &[b"STARTTLS\r\n"]).await.unwrap();
            read_lines(&mut stream, 1).await.unwrap();
            over_connection(&mut hosted.handshake(stream).await.unwrap(), &sent, &cuts).await
        };
        let said = runtime.block_on(async { tokio::time::timeout(SOON, talk).await });
        let kept = news.borrow_mut().kept();
        prop_assert_eq!(kept.len(), 1, "{:?}", said);
        prop_assert_eq!(&kept[0].body, &body);
        Ok(())
    };
    TestRunner::new(config).run(&cases, check).unwrap();
    runtime.block_on(hosted.end());
}
