//! Reports of one message that came in several pieces, and messages that only look alike: what is joined, what is kept apart, and
//! what the receipts say of each other.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/pipeline.rs"]
mod support;

use daybook::mail::*;
use daybook::observe::now;
use daybook::store::*;
use std::sync::Arc;
use support::{Gateway, as_str, eml, incoming};

const ALICE: &str = "Users/alice@contoso.example/Journal Outgoing";
const BOB: &str = "Users/bob@contoso.example/Journal Incoming";
const CAROL: &str = "Users/carol@contoso.example/Journal Incoming";
const ERIN: &str = "Users/erin@contoso.example/Journal Incoming";

struct Site {
    gateway: Gateway,
    mailbox: Arc<GatewayMailbox>,
    key: Unlocked,
}

impl Site {
    fn new() -> Site {
        let gateway = Gateway::new();
        let (mailbox, key) = gateway.create(Profile::Microsoft365);
        Site { gateway, mailbox, key }
    }

    /// Returns in a later millisecond: two receipts of the same one have no order.
    fn send(&self, message: &str) -> ReceiptId {
        let receipt_id = self.gateway.send(&self.mailbox, message.as_bytes());
        let sent = now();
        while now().unix_ms() <= sent.unix_ms() {
            std::hint::spin_loop();
        }
        receipt_id
    }

    /// Fails unless these and no other folders hold so many entries.
    fn expect(&self, folders: &[(&str, u64)]) {
        assert_eq!(as_str(&self.gateway.folders(&self.mailbox)), folders);
    }

    fn relations(&self, of: ReceiptId) -> Vec<(ReceiptId, Relation)> {
        let view = self.gateway.receipt(of);
        assert!(!view.more_related);
        view.related.iter().map(|other| (other.receipt_id, other.relation)).collect()
    }
}

fn report() -> String {
    String::from_utf8(eml("demo/report.eml")).unwrap()
}

/// The same message reported once more: another wrapper, and the original as another server saw it.
fn fork_of(report: &str, number: u8, recipients: &str) -> String {
    let wrapper = report.replace("0001@journal", &format!("{number:04}@journal"));
    let id = "\r\nMessage-Id: <quarter-1@contoso.example>\r\n";
    let (before, behind) = wrapper.split_once(id).unwrap();
    let (_, behind) = behind.split_once("\r\n\r\n").unwrap();
    format!("{before}{id}{recipients}\r\n{behind}").replace(
        "Received: from a.contoso.example by hub1",
        &format!(
            "X-MS-Exchange-Organization-SCL: -{number}\r\nReceived: from hub1 by hub{number}.contoso.example\r\n\
             Received: from a.contoso.example by hub1"
        ),
    )
}

#[test]
fn forks_are_joined_and_what_only_shares_a_message_id_is_kept_beside() {
    let site = Site::new();
    let first = site.send(&report());
    let before = [("INBOX", 1), (ALICE, 1), (BOB, 1), (CAROL, 1)];
    site.expect(&before);

    // The same report again, and once more over a relay.
    let again = site.send(&report());
    site.expect(&before);

    // Chipped: other recipients, of whom one is known to the first report too.
    let chip = site.send(&fork_of(&report(), 2, "To: bob@contoso.example\r\nTo: erin@contoso.example\r\n"));
    site.expect(&[("INBOX", 2), (ALICE, 1), (BOB, 1), (CAROL, 1), (ERIN, 1)]);

    // Another body under the same Message-ID is another message.
    let other_body = fork_of(&report(), 3, "To: bob@contoso.example\r\n").replace("4 %", "5 %");
    let other = site.send(&other_body);
    site.expect(&[("INBOX", 3), (ALICE, 2), (BOB, 2), (CAROL, 1), (ERIN, 1)]);

    // And a fork of that one is a fork, although it is not one of the first.
    let fork = site.send(&fork_of(&other_body.replace("0003@", "0001@"), 4, "To: carol@contoso.example\r\n"));

    use Relation::{Fork, Repetition, SameMessageId};
    assert_eq!(
        site.relations(first),
        [(fork, SameMessageId), (other, SameMessageId), (chip, Fork), (again, Repetition)]
    );
    assert_eq!(site.relations(other), [(fork, Fork), (chip, SameMessageId), (first, SameMessageId)]);
    assert_eq!(site.relations(chip)[2..], [(first, Fork)]);
}

#[test]
fn a_fork_for_nobody_of_the_first_report_is_known_for_one() {
    let site = Site::new();
    let first = site.send(&report().replace("Sender: alice@contoso", "Sender: zoe@fabrikam"));
    let fork = fork_of(&report(), 2, "To: erin@contoso.example\r\n")
        .replace("Sender: alice@contoso", "Sender: zoe@fabrikam");
    let fork = site.send(&fork);
    site.expect(&[("INBOX", 2), (BOB, 1), (CAROL, 1), (ERIN, 1)]);
    assert!(site.gateway.receipt(fork).placements.iter().all(|placement| !placement.spared));
    assert_eq!(site.relations(first), [(fork, Relation::Fork)]);
    assert_eq!(site.relations(fork), [(first, Relation::Fork)]);
}

#[test]
fn hybrid_copies_are_one_message_for_its_users_and_two_reports() {
    let site = Site::new();
    // On-premises: another wrapper, without what the cloud adds, the same recipients in another order and untyped.
    let on_premises = fork_of(
        &report(),
        2,
        "Recipient: carol@contoso.example\r\nRecipient: bob@contoso.example\r\n",
    )
    .replace("X-OriginatorOrg: contoso.onmicrosoft.example\r\n", "")
    .replace(
        "Sender:\r\n\t<MicrosoftExchange329e71ec88ae4615bbc36ab6ce41109e@contoso.onmicrosoft.example>\r\n",
        "Sender: <MicrosoftExchange329e71ec88ae4615bbc36ab6ce41109e@contoso.example>\r\n",
    );
    let first = site.send(&on_premises);
    let second = site.send(&report());
    site.expect(&[("INBOX", 2), (ALICE, 1), (CAROL, 1), (BOB, 1)]);
    let spared = site.gateway.receipt(second).placements.iter().filter(|placement| placement.spared).count();
    assert_eq!(spared, 3);
    assert_eq!(site.relations(second), [(first, Relation::Fork)]);
}

/// An NDR that returns this report whole.
fn ndr_of(report: &str, action: &str, number: u8) -> String {
    let ndr = String::from_utf8(eml("demo/ndr.eml")).unwrap();
    let (before, behind) = ndr.split_once("Content-Type: message/rfc822\r\n\r\n").unwrap();
    let (_, end) = behind.rsplit_once("\r\n--eff0ee02").unwrap();
    format!("{before}Content-Type: message/rfc822\r\n\r\n{report}\r\n--eff0ee02{end}")
        .replace("Action: failed", &format!("Action: {action}"))
        .replace("<0fff00ef-2022@", &format!("<0fff00ef-{number}@"))
}

#[test]
fn a_delay_notice_and_the_late_report_and_the_final_ndr_place_a_message_once() {
    let site = Site::new();
    let delayed = site.send(&ndr_of(&report(), "delayed", 1));
    assert_eq!(site.gateway.receipt(delayed).class, Class::JournalNdr);
    let late = site.send(&report());
    let failed = site.send(&ndr_of(&report(), "failed", 2));
    site.expect(&[("INBOX", 3), (ALICE, 1), (BOB, 1), (CAROL, 1)]);
    assert_eq!(site.relations(late), [(failed, Relation::Fork), (delayed, Relation::Fork)]);
}

#[test]
fn a_copy_written_anew_by_a_client_is_linked_and_not_dropped() {
    let site = Site::new();
    let first = site.send(&report());
    // As out of a PST: the header rebuilt, the body in quoted-printable.
    let rebuilt = fork_of(&report(), 2, "To: bob@contoso.example\r\n")
        .replace("Content-Transfer-Encoding: 8bit", "Content-Transfer-Encoding: quoted-printable")
        .replace("must survive", "must=20survive");
    let second = site.send(&rebuilt);
    site.expect(&[("INBOX", 2), (ALICE, 2), (BOB, 2), (CAROL, 1)]);
    assert_eq!(site.gateway.read(&site.key, &incoming("bob")).len(), 2);
    assert_eq!(site.relations(second), [(first, Relation::SameMessageId)]);
}

#[test]
fn plain_copies_of_a_message_are_related_too_and_strangers_are_not() {
    let site = Site::new();
    let plain = "From: a@x.example\r\nSubject: s\r\nMessage-ID: <plain@x.example>\r\n\r\nbody\r\n";
    let first = site.send(plain);
    let hop = site.send(&format!("Received: by relay.example\r\nX-Spam: no\r\n{plain}"));
    let other = site.send(&plain.replace("body", "another body"));
    let (neighbour, _) = site.gateway.create(Profile::Microsoft365);
    site.gateway.send(&neighbour, plain.as_bytes());
    assert_eq!(site.relations(first), [(other, Relation::SameMessageId), (hop, Relation::Fork)]);
    site.expect(&[("INBOX", 3), ("Unassigned", 2)]);
}

#[test]
fn a_message_id_that_everybody_uses_gives_twenty_and_says_that_there_are_more() {
    let site = Site::new();
    let plain = |n: usize| format!("Message-ID: <same@x.example>\r\nSubject: {n}\r\n\r\n{n}\r\n");
    let receipts: Vec<ReceiptId> = (0..RELATED_MAX + 3).map(|n| site.send(&plain(n))).collect();
    let view = site.gateway.receipt(receipts[0]);
    assert_eq!(view.related.len(), RELATED_MAX);
    assert!(view.more_related);
    assert_eq!(view.related[0].receipt_id, receipts[RELATED_MAX + 2], "the newest first");
}
