//! However a body is chunked, stuffed and cut into reads, the reception gets the octets that were sent.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests fail by panicking.

#[path = "support/smtp_fake.rs"]
mod smtp_fake;
#[path = "support/smtp_sans_io.rs"]
mod smtp_sans_io;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use smtp_fake::{Fake, Faults};
use smtp_sans_io::{SansIo, policy};

const BEFORE: &[u8] = b"HELO client.example\r\nMAIL FROM:<>\r\nRCPT TO:<journal@gateway.example>\r\n";

/// Feeds `octets` in pieces of the given sizes, used in turn.
fn feed_in_pieces(driver: &mut SansIo<'_>, octets: &[u8], sizes: &[usize]) {
    let mut rest = octets;
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let octets = sizes.next().copied().unwrap_or(1).clamp(1, rest.len());
        let (piece, behind) = rest.split_at(octets);
        driver.feed(piece);
        rest = behind;
    }
}

/// Sends `body` by BDAT in chunks cut at the given sizes, then QUIT.
fn by_bdat(body: &[u8], chunks: &[usize]) -> Vec<u8> {
    let mut sent = Vec::new();
    let mut rest = body;
    for octets in chunks {
        let (chunk, behind) = rest.split_at((*octets).min(rest.len()));
        sent.extend_from_slice(format!("BDAT {}\r\n", chunk.len()).as_bytes());
        sent.extend_from_slice(chunk);
        rest = behind;
    }
    sent.extend_from_slice(format!("BDAT {} LAST\r\n", rest.len()).as_bytes());
    sent.extend_from_slice(rest);
    sent.extend_from_slice(b"QUIT\r\n");
    sent
}

/// Joins lines as DATA wants them, then QUIT.
fn by_data(lines: &[String]) -> Vec<u8> {
    let mut sent = Vec::new();
    for line in lines {
        if line.starts_with('.') {
            sent.push(b'.');
        }
        sent.extend_from_slice(line.as_bytes());
        sent.extend_from_slice(b"\r\n");
    }
    sent.extend_from_slice(b".\r\nQUIT\r\n");
    sent
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_chunking_and_any_cut_of_bdat_give_the_same_bytes(
        body in vec(hostile_octet(), 0..400),
        chunks in vec(0_usize..60, 0..12),
        cuts in vec(1_usize..90, 1..8),
        over_tls in any::<bool>(),
    ) {
        let fake = Fake::new(Faults::default());
        let mut driver = SansIo::new(&fake, policy());
        if over_tls {
            feed_in_pieces(&mut driver, b"EHLO client.example\r\nSTARTTLS\r\n", &cuts);
            driver.handshake();
        }
        feed_in_pieces(&mut driver, &[BEFORE, &by_bdat(&body, &chunks)].concat(), &cuts);
        check_kept(&fake, &driver, &body)?;
    }

    #[test]
    fn any_cut_of_data_gives_the_same_bytes(
        lines in vec("[.]{0,3}[ -~]{0,20}", 0..20),
        cuts in vec(1_usize..90, 1..8),
    ) {
        let fake = Fake::new(Faults::default());
        let mut driver = SansIo::new(&fake, policy());
        feed_in_pieces(&mut driver, BEFORE, &cuts);
        driver.feed(b"DATA\r\n");
        feed_in_pieces(&mut driver, &by_data(&lines), &cuts);
        let body: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        check_kept(&fake, &driver, body.as_bytes())?;
    }

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
