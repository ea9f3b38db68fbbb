//! From SMTP's side of the pipeline to the folders: what is received, extracted, assigned and stored, and what is read back.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/corpus.rs"]
mod messages;
#[path = "support/pipeline.rs"]
mod support;

use daybook::mail::*;
use daybook::pipeline::InFlightLimits;
use daybook::smtp::{Fault, Peer, Receiver, RecipientVerdict};
use daybook::store::*;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use support::{Gateway, as_str, eml, incoming};

/// The original of a one-report message: what stands between the rfc822 part's empty line and its delimiter.
fn original_in(report: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(report.to_vec()).unwrap();
    let (_, original) = text.rsplit_once("Content-Type: message/rfc822\r\n\r\n").unwrap();
    let (original, _) = original.split_once("\r\n--_").unwrap();
    original.as_bytes().to_vec()
}

#[test]
fn a_report_its_fork_an_ndr_and_a_hopeless_message_land_where_they_belong() {
    let gateway = Gateway::new();
    let (mailbox, key) = gateway.create(Profile::Microsoft365);
    let messages = ["report", "fork", "ndr", "hopeless"].map(|name| eml(&format!("demo/{name}.eml")));
    let receipts: Vec<_> = messages.iter().map(|m| gateway.send(&mailbox, m)).collect();
    assert_eq!(
        as_str(&gateway.folders(&mailbox)),
        [
            ("INBOX", 4),
            ("Users/alice@contoso.example/Journal Outgoing", 1),
            ("Users/bob@contoso.example/Journal Incoming", 2),
            ("Users/carol@contoso.example/Journal Incoming", 2),
            ("Users/erin@contoso.example/Journal Incoming", 1),
            ("Quarantine", 1),
        ]
    );
    assert_eq!(gateway.read(&key, &FolderName::Inbox), messages, "as received, octet for octet");
    assert_eq!(gateway.read(&key, &FolderName::Quarantine), messages[3..]);
    let bob = gateway.read(&key, &incoming("bob"));
    assert_eq!(bob[0], original_in(&messages[0]));
    assert_eq!(bob[1], original_in(&messages[2]));
    assert_eq!(gateway.read(&key, &incoming("erin")), [original_in(&messages[1])]);

    let report = gateway.receipt(receipts[0]);
    let why: Vec<_> = report.placements.iter().map(|p| (p.folder.as_str(), p.reasons.join("; "))).collect();
    let carol = &why.iter().find(|(folder, _)| folder.contains("carol")).unwrap().1;
    assert!(
        carol.contains("carol@contoso.example") && carol.contains("via list team@contoso.example"),
        "{carol}"
    );
    let fork = gateway.receipt(receipts[1]);
    assert!(fork.placements.iter().any(|p| p.spared && p.folder.contains("alice")), "alice has it already");
    assert!(fork.unmatched.iter().any(|u| u.contains("dave@fabrikam.example") && u.contains("external")));
    assert_eq!(gateway.receipt(receipts[2]).class, Class::JournalNdr);
}

#[test]
fn the_same_report_again_is_one_entry_and_no_placement() {
    let gateway = Gateway::new();
    let (mailbox, _) = gateway.create(Profile::Microsoft365);
    let report = eml("demo/report.eml");
    let first = gateway.send(&mailbox, &report);
    let before = gateway.folders(&mailbox);
    let again = gateway.send(&mailbox, &report);
    // A relay added a line: the same report all the same, and its octets are kept.
    let relayed = gateway.send(&mailbox, &[b"Received: by relay.example\r\n".as_slice(), &report].concat());
    assert_eq!(gateway.folders(&mailbox), before);
    for receipt in [again, relayed] {
        let view = gateway.receipt(receipt);
        assert_eq!((view.repeats, view.placements.len()), (Some(first), 0));
    }
    let named = gateway.store.receipts(
        &ReceiptQuery::Naming("carol@CONTOSO.example".to_owned()),
        Timestamp::from_unix_ms(0),
        10,
    );
    assert_eq!(named.unwrap().len(), 3);
}

#[test]
fn a_report_of_the_same_mail_with_another_body_is_another_mail() {
    let gateway = Gateway::new();
    let (mailbox, key) = gateway.create(Profile::Microsoft365);
    let report = eml("demo/report.eml");
    gateway.send(&mailbox, &report);
    let text = String::from_utf8(report).unwrap();
    gateway.send(&mailbox, text.replace("4 %", "5 %").as_bytes());
    assert_eq!(gateway.read(&key, &incoming("bob")).len(), 2);
    assert_eq!(gateway.read(&key, &FolderName::Inbox).len(), 2);
}

#[test]
fn a_copy_of_a_large_original_costs_only_its_wrapper() {
    let gateway = Gateway::new();
    let (mailbox, key) = gateway.create(Profile::Microsoft365);
    let text = String::from_utf8(eml("demo/report.eml")).unwrap();
    let body = "x".repeat(70) + "\r\n";
    let large = text.replace("\r\nAlice\r\n", &format!("\r\n{}Alice\r\n", body.repeat(60_000)));
    // Another report of the same original: its own wrapper, the same octets inside.
    let copy = large
        .replace("0001@journal", "0009@journal")
        .replace("To: bob@contoso.example", "To: erin@contoso.example");
    assert_ne!(large, copy);
    gateway.send(&mailbox, large.as_bytes());
    let size = |gateway: &Gateway| -> u64 { walk(gateway.dir.path()) };
    let before = size(&gateway);
    gateway.try_send(&[&mailbox], copy.as_bytes(), 70_000).unwrap();
    let grown = size(&gateway) - before;
    assert!(grown < 600_000, "grew by {grown} for a {} octet copy", copy.len());
    assert_eq!(gateway.read(&key, &FolderName::Inbox), [large.as_bytes(), copy.as_bytes()]);
    assert_eq!(gateway.read(&key, &incoming("erin")), [original_in(large.as_bytes())]);
}

fn walk(dir: &Path) -> u64 {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path)
            } else if path.extension().is_some_and(|e| e == "seg" || e == "age") {
                std::fs::metadata(path).unwrap().len()
            } else {
                0
            }
        })
        .sum()
}

#[test]
fn an_original_that_came_in_base64_is_stored_decoded() {
    let gateway = Gateway::new();
    let (mailbox, key) = gateway.create(Profile::Microsoft365);
    let plain = eml("journal/exchange-online/s01_basic_recipient.eml");
    for name in ["journal/exchange-online/s27_inner_base64.eml", "journal-ndr/n05_ndr_base64.eml"] {
        let message = eml(name);
        let receipt = gateway.receipt(gateway.send(&mailbox, &message));
        assert_eq!(gateway.read(&key, &FolderName::Inbox).last(), Some(&message));
        assert_eq!(
            receipt.reports[0].envelope.recipients[0].address.as_str(),
            "bob@contoso.example",
            "{name}"
        );
    }
    assert_eq!(
        gateway.read(&key, &incoming("bob")),
        [original_in(&plain)],
        "one mail, however it was wrapped"
    );
}

#[test]
fn every_message_of_the_corpus_is_taken_and_given_back_as_it_came() {
    let gateway = Gateway::new();
    let (mailbox, key) = gateway.create(Profile::Microsoft365);
    let mut sent: Vec<Vec<u8>> =
        messages::messages().iter().map(|path| std::fs::read(path).unwrap()).collect();
    for message in &sent {
        gateway.send(&mailbox, message);
    }
    let mut got = gateway.read(&key, &FolderName::Inbox);
    got.sort();
    sent.sort();
    // Samples that are the same report by Message-ID, envelope and content become one entry.
    sent.retain(|message| got.contains(message) || !is_repeat(&gateway, message));
    assert_eq!(got, sent);
}

fn is_repeat(gateway: &Gateway, message: &[u8]) -> bool {
    let sha256 = Digest::of(message);
    let all = gateway.store.receipts(&ReceiptQuery::All, Timestamp::from_unix_ms(0), 1000).unwrap();
    all.iter().any(|view| view.sha256 == sha256 && view.repeats.is_some())
}

#[test]
fn bare_line_ends_and_nul_are_kept_and_counted() {
    let gateway = Gateway::new();
    let (mailbox, key) = gateway.create(Profile::Microsoft365);
    let message = b"Subject: x\n\na\rb\0\n.\nno end".to_vec();
    gateway.send(&mailbox, &message);
    let listing = gateway.store.list(mailbox.id, &FolderName::Inbox).unwrap();
    let size = listing.entries[0].canonical;
    // Five line ends are lone.
    assert_eq!(
        (size.octets, size.bare_line_ends, size.ends_with_line_end),
        (message.len() as u64 + 5, true, false)
    );
    assert_eq!(gateway.read(&key, &FolderName::Inbox), [message]);
}

#[test]
fn the_generic_profile_unwraps_nothing_and_a_pure_gateway_places_nothing() {
    let gateway = Gateway::new();
    let (generic, _) = gateway.create(Profile::Generic);
    let (pure, _) = gateway.create(Profile::Microsoft365);
    gateway.change(&pure, GatewayMailboxChange::Archive(false));
    let report = eml("demo/report.eml");
    // One transaction to both: one receipt, one delivery each, read by each one's profile.
    let receipt = gateway.try_send(&[&generic, &pure], &report, 1000).unwrap();
    assert_eq!(as_str(&gateway.folders(&generic)), [("INBOX", 1), ("Unassigned", 1)]);
    assert_eq!(as_str(&gateway.folders(&pure)), [("INBOX", 1)]);
    let views = gateway.store.receipts(&ReceiptQuery::Id(receipt), Timestamp::from_unix_ms(0), 10).unwrap();
    let mut classes: Vec<_> = views.iter().map(|v| v.class.as_str()).collect();
    classes.sort_unstable();
    assert_eq!(classes, ["journal-report", "plain"]);
}

#[test]
fn recipients_are_known_active_and_not_too_many() {
    let gateway = Gateway::new();
    let mailboxes: Vec<_> = (0..9).map(|_| gateway.create(Profile::Microsoft365).0).collect();
    let addresses: Vec<Address> = mailboxes.iter().map(|m| m.address().unwrap().clone()).collect();
    let peer = Peer {
        session_id: gateway.pipeline.session_id(),
        receipt_id: None,
        address: "192.0.2.1".parse().unwrap(),
        tls: None,
    };
    let verdict =
        |address: &Address, already: &[Address]| gateway.pipeline.recipient(address, already, &peer);
    assert_eq!(verdict(&addresses[0], &[]), RecipientVerdict::Accept);
    assert_eq!(verdict(&addresses[8], &addresses[..8]), RecipientVerdict::TooMany);
    assert_eq!(
        verdict(&addresses[7], &addresses[..8]),
        RecipientVerdict::Accept,
        "named before: not one more"
    );
    assert_eq!(verdict(&"mbx-x@gw.example".parse().unwrap(), &[]), RecipientVerdict::Unknown);
    gateway.change(&mailboxes[0], GatewayMailboxChange::Suspend);
    assert_eq!(verdict(&addresses[0], &[]), RecipientVerdict::Suspended);
    gateway.change(&mailboxes[0], GatewayMailboxChange::Delete { force: false });
    assert_eq!(verdict(&addresses[0], &[]), RecipientVerdict::Unknown);
}

#[test]
fn a_closed_store_defers_and_never_refuses() {
    let gateway = Gateway::new();
    let (mailbox, _) = gateway.create(Profile::Microsoft365);
    gateway.runtime.block_on(gateway.store.close());
    assert_eq!(gateway.try_send(&[&mailbox], &eml("demo/report.eml"), 4096), Err(Fault::StoreTrouble));
}

#[test]
fn messages_without_an_end_of_header_are_unlike_however_alike_they_begin() {
    let gateway = Gateway::new();
    let (mailbox, key) = gateway.create(Profile::Microsoft365);
    let messages = ["", "hello", "Subject: s\r\nno header, no body", "Subject: s\r\nnor this"];
    for message in messages {
        gateway.send(&mailbox, message.as_bytes());
    }
    let mut kept = gateway.read(&key, &FolderName::Unassigned);
    kept.sort();
    let mut sent: Vec<Vec<u8>> = messages.iter().map(|m| m.as_bytes().to_vec()).collect();
    sent.sort();
    assert_eq!(kept, sent, "each is kept where an admin looks for it");
}

#[test]
fn a_report_sent_again_heals_a_copy_that_rotted() {
    let gateway = Gateway::new();
    let (mailbox, key) = gateway.create(Profile::Microsoft365);
    let report = eml("demo/report.eml");
    gateway.send(&mailbox, &report);
    let path = gateway.dir.path().join("log/00000001.seg");
    let mut octets = std::fs::read(&path).unwrap();
    let sealed = octets.windows(21).position(|w| w == b"age-encryption.org/v1").unwrap();
    octets[sealed + 600] ^= 1;
    std::fs::write(&path, &octets).unwrap();
    let listing = gateway.store.list(mailbox.id, &FolderName::Inbox).unwrap();
    assert!(gateway.store.open(&key, listing.entries[0].message).is_err());

    let again = gateway.receipt(gateway.send(&mailbox, &report));
    assert_eq!(again.repeats, None);
    let listing = gateway.store.list(mailbox.id, &FolderName::Inbox).unwrap();
    let mut back = Vec::new();
    gateway.store.open(&key, listing.entries[1].message).unwrap().read_to_end(&mut back).unwrap();
    assert_eq!(back, report);
    let bob = gateway.store.list(mailbox.id, &incoming("bob")).unwrap();
    assert_eq!(bob.entries.len(), 2, "placed anew for its users too");
    let third = gateway.receipt(gateway.send(&mailbox, &report));
    assert_eq!(third.repeats, Some(again.receipt_id), "and then it is the same again");
}

#[test]
fn one_gateway_mailbox_of_two_that_cannot_take_it_leaves_nothing_in_the_other() {
    let gateway = Gateway::new();
    let (one, _) = gateway.create(Profile::Microsoft365);
    let (other, _) = gateway.create(Profile::Microsoft365);
    let report = eml("demo/report.eml");
    let ended = gateway.runtime.block_on(async {
        let envelope = gateway.envelope(&[&one, &other]);
        let mut reception = gateway.pipeline.begin(gateway.pipeline.receipt_id(), envelope)?;
        reception.write(&report).await?;
        // Its admin deletes it while the report is on its way.
        let delete = vec![GatewayMailboxChange::Suspend, GatewayMailboxChange::Delete { force: true }];
        gateway.store.change_gateway_mailbox(other.id, delete, "test").await.unwrap();
        reception.commit().await
    });
    assert_eq!(ended, Err(Fault::Busy));
    assert_eq!(as_str(&gateway.folders(&one)), []);
    assert_eq!(gateway.pipeline.octets_in_flight(), 0);
    gateway.send(&one, &report);
    assert_eq!(as_str(&gateway.folders(&one))[0], ("INBOX", 1));
}

#[test]
fn more_large_messages_than_fit_at_once_end_or_come_again_and_none_hangs() {
    const MESSAGE: usize = 3 * 1024 * 1024;
    let gateway = Gateway::new();
    let (mailbox, _) = gateway.create(Profile::Microsoft365);
    let limits = |octets_max, milliseconds| InFlightLimits {
        octets_max,
        message_octets_max: MESSAGE as u64,
        wait: std::time::Duration::from_millis(milliseconds),
    };
    // Alone, the largest message fits a budget of its size without waiting.
    gateway.pipeline.limit_in_flight(limits(MESSAGE as u64, 0));
    gateway.try_send(&[&mailbox], &vec![b'a'; MESSAGE], 64 * 1024).unwrap();

    gateway.pipeline.limit_in_flight(limits(2 * MESSAGE as u64, 500));
    let begun = Arc::new(tokio::sync::Barrier::new(8));
    let messages: Vec<_> = (b'b'..b'j')
        .map(|letter| {
            let (pipeline, envelope) = (gateway.pipeline.clone(), gateway.envelope(&[&mailbox]));
            let begun = begun.clone();
            gateway.runtime.spawn(async move {
                let mut reception = pipeline.begin(pipeline.receipt_id(), envelope)?;
                let first = reception.write(&[letter; 1024]).await;
                begun.wait().await;
                first?;
                for _ in 1..MESSAGE / 1024 {
                    reception.write(&[letter; 1024]).await?;
                }
                reception.commit().await
            })
        })
        .collect();
    let mut stored = 1;
    for message in messages {
        match gateway.runtime.block_on(message).unwrap() {
            Ok(()) => stored += 1,
            fault => assert_eq!(fault, Err(Fault::Busy)),
        }
    }
    assert!(stored > 1);
    assert_eq!(as_str(&gateway.folders(&mailbox))[0], ("INBOX", stored));
    assert_eq!(gateway.pipeline.octets_in_flight(), 0);
}

#[test]
fn a_message_that_spool_and_store_have_no_room_for_together_is_not_sent() {
    let gateway = Gateway::new();
    let free = gateway.store.space().unwrap().free_octets;
    assert_eq!(gateway.pipeline.room(None), Ok(()));
    assert_eq!(gateway.pipeline.room(Some(free / 4)), Ok(()));
    assert_eq!(gateway.pipeline.room(Some(free / 4 * 3)), Err(Fault::StoreFull));
    assert_eq!(gateway.pipeline.room(Some(u64::MAX)), Err(Fault::StoreFull));
}
