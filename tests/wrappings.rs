//! Whatever a message is and however it comes wrapped, the original that is cut out is the one that was put in, by its SHA-256.
//!
//! Two thousand made messages in each of eight wrappings, the same in every run, and any octets at all.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "support/dice.rs"]
mod dice;
#[path = "support/extracted.rs"]
mod extracted;
#[path = "support/messages.rs"]
mod messages;
#[path = "support/wrap.rs"]
mod wrap;

use aws_lc_rs::digest::{SHA256, digest};
use daybook::extract::{Destination, Extraction};
use daybook::mail::{Class, Rendition};
use dice::Dice;
use extracted::Extracted;
use messages::Message;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Messages made, by their seeds.
const MESSAGES: std::ops::Range<u64> = 0..2_000;

/// Sizes of the chunks a message is read in; which one is drawn for each.
const CHUNKS: [usize; 6] = [1, 2, 7, 100, 4_096, 65_536];

/// A message of more octets is not read octet by octet.
const SMALL_OCTETS: usize = 20_000;

/// What a message put in is called in a failure.
fn sha256(octets: &[u8]) -> String {
    digest(&SHA256, octets).as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Reads a wrapped message in chunks of a drawn size: it is what it should be, goes to whom it names, and gives these originals,
/// report by report.
fn check(what: &str, wrapped: &[u8], class: Class, expect: &[&[&[u8]]], dice: &mut Dice) -> Extraction {
    let from = if wrapped.len() > SMALL_OCTETS { 3 } else { 0 };
    let chunk_octets = CHUNKS[from + dice.below((CHUNKS.len() - from) as u64) as usize];
    let read = Extracted::of(wrapped, chunk_octets);
    let hashes = |reports: &[Vec<&[u8]>]| -> Vec<Vec<String>> {
        reports.iter().map(|originals| originals.iter().map(|o| sha256(o)).collect()).collect()
    };
    let expect: Vec<Vec<&[u8]>> = expect.iter().map(|originals| originals.to_vec()).collect();
    assert_eq!(hashes(&read.originals()), hashes(&expect), "{what}, chunks of {chunk_octets}");
    assert_eq!(
        (read.found.class, read.found.destination),
        (class, Destination::Assign),
        "{what}: {:?}",
        read.found.defects
    );
    assert_eq!(read.found.whole.extent.octets, wrapped.len() as u64, "{what}");
    read.found
}

fn journal(what: &str, message: &Message, dice: &mut Dice) {
    let original = message.octets.as_slice();
    let report = wrap::report("report", &[original], "bob@contoso.example");
    let found = check(what, &report, Class::JournalReport, &[&[original]], dice);
    assert_eq!(found.reports[0].originals[0].facts.message_id, message.message_id, "{what}");
}

/// Two reports of one mail: both forks come back as they are, and they are seen to be the same mail.
fn forked_pair(what: &str, message: &Message, dice: &mut Dice) {
    let forks = ["inside", "outside"].map(|way| wrap::traced(&message.octets, way));
    let joined =
        ["bob@contoso.example", "carol@contoso.example"].iter().zip(&forks).map(|(recipient, fork)| {
            let report = wrap::report("report", &[fork], recipient);
            let found = check(what, &report, Class::JournalReport, &[&[fork]], dice);
            assert_eq!(found.reports[0].envelope.recipients[0].address.as_str(), *recipient);
            let facts = &found.reports[0].originals[0].facts;
            (facts.join_prefix.clone(), fork[facts.joined_from as usize..].to_vec())
        });
    let joined: BTreeSet<_> = joined.collect();
    // Without an end of the header every octet counts: nobody knows which are the trace lines.
    assert_eq!(joined.len(), if message.header_ends { 1 } else { 2 }, "{what}: what joins forks");
}

fn ndr(what: &str, message: &Message, dice: &mut Dice) {
    let original = message.octets.as_slice();
    let report = wrap::report("report", &[original], "bob@contoso.example");
    check(what, &wrap::ndr("ndr", &report), Class::JournalNdr, &[&[original]], dice);
}

fn double_ndr(what: &str, message: &Message, dice: &mut Dice) {
    let original = message.octets.as_slice();
    let report = wrap::report("report", &[original], "bob@contoso.example");
    let twice = wrap::ndr("ndr2", &wrap::ndr("ndr", &report));
    check(what, &twice, Class::JournalNdr, &[&[original]], dice);
}

fn base64_ndr(what: &str, message: &Message, dice: &mut Dice) {
    let original = message.octets.as_slice();
    let report = wrap::report("report", &[original], "bob@contoso.example");
    check(what, &wrap::ndr_in_base64("ndr", &report), Class::JournalNdr, &[&[original]], dice);
}

/// Rights protection: the clear copy and the protected one, in any order.
fn protected_pair(what: &str, message: &Message, dice: &mut Dice) {
    let clear = message.octets.as_slice();
    let protected = wrap::protected(message.message_id.as_deref());
    let clear_at = dice.below(2) as usize;
    let mut pair = [protected.as_slice(); 2];
    pair[clear_at] = clear;
    let report = wrap::report("report", &pair, "bob@contoso.example");
    let found = check(what, &report, Class::JournalReport, &[&pair], dice);
    assert_eq!(found.reports[0].primary, Some(clear_at), "{what}: the clear copy is shown");
    assert_eq!(found.reports[0].originals[clear_at].rendition, Rendition::Decrypted, "{what}");
}

/// The report with bare LF; the message put in has them too.
fn lf_only(what: &str, message: &Message, dice: &mut Dice) {
    let mut original = wrap::with_lf(&message.octets);
    // A CR before the delimiter's LF would be its line end.
    while original.last() == Some(&b'\r') {
        original.pop();
    }
    let report = wrap::with_lf(&wrap::report("report", &[&original], "bob@contoso.example"));
    check(what, &report, Class::JournalReport, &[&[&original]], dice);
}

fn journal_of_a_journal(what: &str, message: &Message, dice: &mut Dice) {
    let original = message.octets.as_slice();
    let inner = wrap::report("inner", &[original], "bob@contoso.example");
    let outer = wrap::report("report", &[&inner], "carol@contoso.example");
    check(what, &outer, Class::JournalReport, &[&[&inner], &[original]], dice);
}

type Wrapping = fn(&str, &Message, &mut Dice);

fn all_messages_in(wrapping: Wrapping) {
    let mut dice = Dice::new(1);
    for seed in MESSAGES {
        wrapping(&format!("message {seed}"), &messages::message(seed), &mut dice);
    }
}

#[test]
fn every_message_comes_back_from_a_journal_report() {
    all_messages_in(journal);
}

#[test]
fn every_message_comes_back_from_both_reports_of_a_fork() {
    all_messages_in(forked_pair);
}

#[test]
fn every_message_comes_back_from_an_ndr() {
    all_messages_in(ndr);
}

#[test]
fn every_message_comes_back_from_an_ndr_of_an_ndr() {
    all_messages_in(double_ndr);
}

#[test]
fn every_message_comes_back_from_an_ndr_in_base64() {
    all_messages_in(base64_ndr);
}

#[test]
fn every_message_comes_back_beside_its_protected_copy() {
    all_messages_in(protected_pair);
}

#[test]
fn every_message_comes_back_from_a_report_with_bare_line_ends() {
    all_messages_in(lf_only);
}

#[test]
fn every_message_comes_back_from_a_report_of_a_report() {
    all_messages_in(journal_of_a_journal);
}

#[test]
fn the_messages_are_of_many_kinds() {
    let all: Vec<Message> = MESSAGES.map(messages::message).collect();
    let distinct: BTreeSet<String> = all.iter().map(|message| sha256(&message.octets)).collect();
    assert_eq!(distinct.len(), all.len());
    let having = |octets: &[u8]| {
        all.iter()
            .filter(|message| message.octets.windows(octets.len()).any(|window| window == octets))
            .count()
    };
    let look_alike = wrap::look_alikes()[1].clone();
    for mark in
        ["multipart/", "message/rfc822", "\0", "\rb", "base64", "X-MS-Journal-Report:", look_alike.as_str()]
    {
        assert!(having(mark.as_bytes()) >= 100, "{mark:?} in {} only", having(mark.as_bytes()));
    }
    assert!(all.iter().filter(|message| !message.header_ends).count() >= 50);
    assert!(all.iter().filter(|message| !message.octets.ends_with(b"\n")).count() >= 200);
}

/// Octets of any value between lines that a reader could trip over.
fn any_message() -> impl Strategy<Value = Message> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        proptest::sample::select(wrap::look_alikes()).prop_map(String::into_bytes),
        proptest::sample::select(vec![
            "\r\n",
            "\n",
            "\r",
            "\r\n\r\n",
            "Content-Type: multipart/mixed; boundary=i\r\n",
            "\r\n--i\r\n",
            "\r\n--i--\r\n",
            "Content-Type: message/rfc822\r\n\r\n",
            "Content-Transfer-Encoding: base64\r\n",
            "Message-ID: <a@b>\r\n",
            "X-MS-Journal-Report:\r\n",
            "X-MS-Exchange-Message-Is-Ndr:\r\n",
            " ",
            "\t",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| Message {
        // An original of nothing but line ends is none.
        octets: [b"Subject: s".to_vec(), pieces.concat()].concat(),
        message_id: None,
        header_ends: false,
    })
}

/// The wrappings that say nothing of the message but its octets.
const PLAIN_WRAPPINGS: [Wrapping; 5] = [ndr, double_ndr, base64_ndr, lf_only, journal_of_a_journal];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_message_in_any_wrapping_comes_back(message in any_message(), seed: u64) {
        let mut dice = Dice::new(seed);
        for wrapping in PLAIN_WRAPPINGS {
            wrapping("a message", &message, &mut dice);
        }
    }
}
