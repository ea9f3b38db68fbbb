//! Groups of messages of every kind that a gateway mailbox receives, and what is to become of each.
//!
//! Take it in with `#[path = "support/mixed.rs"] mod mixed;`. Groups are told apart by their number and share no message. The
//! users are `user0@contoso.example` and so on; those from `known` on are not in the directory when the mail comes.

use daybook::mail::Class;

/// What is to become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Fate {
    Users,
    Unassigned,
    Quarantine,
    HeldBack,
    Repeats,
}

pub(crate) struct Mixed {
    pub(crate) octets: Vec<u8>,
    pub(crate) class: Class,
    pub(crate) fate: Fate,
}

/// Messages of a group.
pub(crate) const MESSAGES: usize = 20;
/// Entries they make in users' folders, and in Unassigned and Quarantine of the gateway mailbox that observes.
pub(crate) const IN_USERS: usize = 40;
pub(crate) const IN_UNASSIGNED: usize = 4;
pub(crate) const IN_QUARANTINE: usize = 3;
/// Entries that users who come later are given, and those of Unassigned that they are taken from.
pub(crate) const FOR_LATER: usize = 5;
pub(crate) const LEAVE_UNASSIGNED: usize = 2;

/// How many users there are.
#[derive(Clone, Copy)]
pub(crate) struct Users {
    pub(crate) known: usize,
    pub(crate) later: usize,
}

impl Users {
    /// `users.toml` with the first `count` of them.
    pub(crate) fn toml(count: usize) -> String {
        let user = |n| format!("[[user]]\nid = \"u{n}\"\nname = \"U\"\naddresses = [\"{}\"]\n", address(n));
        (0..count).map(user).collect()
    }
}

fn address(user: usize) -> String {
    format!("user{user}@contoso.example")
}

/// One group. The last two are for a gateway mailbox that holds back what is not proven.
pub(crate) fn group(number: usize, users: Users) -> Vec<Mixed> {
    let known = |k: usize| address((number * 7 + k * 13) % users.known);
    let later = |k: usize| address(users.known + (number + k) % users.later);
    let outside = |k: usize| format!("guest{number}-{k}@fabrikam.example");
    let report = |id: &str, original: &str, sender: &str, lines: &[String]| {
        wrapped(&format!("{id}-{number}"), &original_of(&format!("{original}-{number}"), id), sender, lines)
    };
    let to = |address: String| format!("To: {address}");
    let anyone = |address: String| format!("Recipient: {address}");
    let listed = |address: String| format!("Bcc: {address}, Expanded: list@contoso.example");
    let many: Vec<String> =
        (30..58).map(|k| anyone(known(k))).chain((0..2).map(|k| anyone(outside(k)))).collect();
    let first = report("a0", "a0", &known(0), &[to(known(1)), to(known(2))]);
    let incoming = report("a1", "a1", &outside(1), &[anyone(known(4))]);
    let mixed = |text: String, class: Class, fate: Fate| Mixed { octets: text.into_bytes(), class, fate };
    let is_report = |text: String, fate: Fate| mixed(text, Class::JournalReport, fate);
    vec![
        is_report(first.clone(), Fate::Users),
        is_report(report("a0-fork", "a0", &known(0), &[to(known(3)), to(outside(0))]), Fate::Users),
        is_report(first, Fate::Repeats),
        is_report(incoming.clone(), Fate::Users),
        is_report(report("a2", "a2", &known(5), &[listed(known(6)), to(outside(2))]), Fate::Users),
        is_report(report("a3", "a3", &known(7), &[format!("Cc: {}", known(7))]), Fate::Users),
        is_report(report("a4", "a4", &outside(3), &[anyone(later(0))]), Fate::Unassigned),
        is_report(report("a5", "a5", &known(8), &[to(later(1)), to(known(9))]), Fate::Users),
        is_report(report("a6", "a6", &outside(4), &[to(outside(5))]), Fate::Unassigned),
        mixed(
            ndr(
                number,
                "message/rfc822",
                &report("a7", "a7", &outside(6), &[anyone(known(10)), anyone(later(2))]),
            ),
            Class::JournalNdr,
            Fate::Users,
        ),
        mixed(ndr(number, "message/rfc822", &incoming), Class::JournalNdr, Fate::Users),
        mixed(
            ndr(number, "text/rfc822-headers", &header(&format!("lost-{number}"))),
            Class::NdrWithoutReport,
            Fate::Quarantine,
        ),
        mixed(original_of(&format!("plain-{number}"), "hub"), Class::Plain, Fate::Unassigned),
        is_report(without_original(&format!("empty-{number}"), &later(0)), Fate::Quarantine),
        mixed(bomb(number), Class::Unreadable, Fate::Quarantine),
        is_report(report("a9", "a9", &outside(7), &[anyone(later(4))]), Fate::Unassigned),
        is_report(report("a9-fork", "a9", &outside(7), &[anyone(later(5))]), Fate::Unassigned),
        is_report(report("a10", "a10", &outside(8), &many), Fate::Users),
        is_report(report("a8", "a8", &known(11), &[to(later(3))]), Fate::HeldBack),
        mixed(original_of(&format!("forged-{number}"), "hub"), Class::Plain, Fate::HeldBack),
    ]
}

/// An original; forks of one differ in the line above.
fn original_of(name: &str, hub: &str) -> String {
    format!(
        "Received: from {hub}.contoso.example\r\nFrom: <a@contoso.example>\r\nTo: <b@contoso.example>\r\n\
         Subject: {name}\r\nDate: Mon, 2 Nov 2026 09:00:00 +0000\r\nMessage-ID: <{name}@contoso.example>\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\nThe text of {name}.\r\n"
    )
}

fn header(name: &str) -> String {
    format!(
        "Content-Type: multipart/mixed; boundary=\"_{name}_\"\r\nSubject: {name}\r\nMIME-Version: 1.0\r\n\
         Message-ID: <{name}@journal.report.generator>\r\nX-MS-Journal-Report:\r\n\
         X-MS-Exchange-Parent-Message-Id: <{name}@contoso.example>\r\n"
    )
}

fn wrapped(name: &str, original: &str, sender: &str, lines: &[String]) -> String {
    let subject =
        original.split("Message-ID: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap_or("");
    format!(
        "{}\r\n--_{name}_\r\nContent-Type: text/plain; charset=\"us-ascii\"\r\n\r\nSender: {sender}\r\n\
         Subject: s\r\nMessage-Id: {subject}\r\n{}\r\n\r\n--_{name}_\r\nContent-Type: message/rfc822\r\n\r\n\
         {original}\r\n--_{name}_--\r\n",
        header(name),
        lines.join("\r\n"),
    )
}

fn without_original(name: &str, recipient: &str) -> String {
    format!(
        "{}\r\n--_{name}_\r\nContent-Type: text/plain\r\n\r\nSender: x@fabrikam.example\r\nSubject: s\r\n\
         Message-Id: <{name}@contoso.example>\r\nRecipient: {recipient}\r\n\r\n--_{name}_--\r\n",
        header(name)
    )
}

/// More parts inside parts than are looked into.
fn bomb(number: usize) -> String {
    let layer = |n| format!("Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n");
    format!("Message-ID: <bomb-{number}@fabrikam.example>\r\n{}", (0..100).map(layer).collect::<String>())
}

fn ndr(number: usize, kind: &str, returned: &str) -> String {
    format!(
        "MIME-Version: 1.0\r\nFrom: <postmaster@contoso.example>\r\nMessage-ID: <ndr-{number}-{}@contoso.example>\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"ndr\"\r\n\
         X-MS-Exchange-Message-Is-Ndr:\r\nSubject: Undeliverable\r\n\r\n--ndr\r\nContent-Type: text/plain\r\n\r\n\
         Delivery has failed.\r\n\r\n--ndr\r\nContent-Type: message/delivery-status\r\n\r\n\
         Reporting-MTA: dns;x.example\r\n\r\nFinal-Recipient: rfc822;j@archive.example\r\nAction: failed\r\n\
         Status: 5.4.300\r\n\r\n--ndr\r\nContent-Type: {kind}\r\n\r\n{returned}\r\n--ndr--\r\n",
        returned.len(),
    )
}
