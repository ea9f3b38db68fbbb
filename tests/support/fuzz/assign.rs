//! Fuzz target `assign`: every line of an envelope is accounted for, every placement has its reasons, and neither the order of the
//! lines nor their distribution over reports matters. Run by `tests/fuzz` and, over all that was ever found, by
//! `tests/fuzz_replay.rs`.
//!
//! Input: sender and represented person, then four octets for each recipient line: its field and redirection, its address, the
//! address it came through, and how the lines are turned. An address is one of a list, or made of the octet itself.

use daybook::assign::{Assignment, Policy, Reason, assign};
use daybook::directory::Snapshot;
use daybook::directory::source::file;
use daybook::mail::{
    JournaledEnvelope, JournaledRecipient, RecipientField, Redirection, Timestamp, UserFolder, WrittenAddress,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

const USERS: &str = r#"
[[user]]
id = "alice"
name = "Alice"
addresses = ["alice@contoso.example", "al@contoso.example", "x500:/o=Contoso/ou=Exchange (FYDIBOHF)/cn=Recipients/cn=alice"]
[[user]]
id = "bob"
name = "Bob"
addresses = ["bob@contoso.example", "bob@fabrikam.example"]
[[user]]
id = "carol"
name = "Carol"
addresses = ["\"carol, c.\"@contoso.example"]
"#;

const ADDRESSES: [&str; 16] = [
    "",
    "alice@contoso.example",
    "ALICE@CONTOSO.EXAMPLE",
    "al@contoso.example",
    "[EX:/o=Contoso/ou=Exchange (FYDIBOHF)/cn=Recipients/cn=alice]",
    "[EX:/O=CONTOSO/OU=EXCHANGE (FYDIBOHF)/CN=RECIPIENTS/CN=ALICE]",
    "IMCEAEX-_O=CONTOSO_OU=EXCHANGE+20+28FYDIBOHF+29_CN=RECIPIENTS_CN=ALICE@contoso.example",
    "bob@contoso.example",
    "Bob@Fabrikam.example",
    "bob+news@contoso.example",
    "\"carol, c.\"@contoso.example",
    "nobody@contoso.example",
    "eve@elsewhere.example",
    "[EX:/o=Contoso/cn=gone]",
    "not an address",
    "list@contoso.example",
];

static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    Snapshot::of(file::parse(USERS, Path::new("users.toml")).expect("users of the target can be read"))
});

/// Panics when a promise is broken.
pub(crate) fn run(input: &[u8]) {
    let Some(([sender, on_behalf_of], lines)) = input.split_first_chunk() else { return };
    let (lines, _) = lines.as_chunks::<4>();
    let envelope = JournaledEnvelope {
        sender: Some(address(*sender)),
        on_behalf_of: Some(address(*on_behalf_of)).filter(|address| !address.is_null()),
        recipients: lines.iter().map(recipient).collect(),
        ..JournaledEnvelope::default()
    };
    let found = place(std::slice::from_ref(&envelope));
    check(&found, &envelope);
    let expect = said(&found);
    for turned in turned(&envelope, lines) {
        assert_eq!(said(&place(&turned)), expect, "{turned:?}");
    }
}

fn place(envelopes: &[JournaledEnvelope]) -> Assignment {
    assign(envelopes, Timestamp::from_unix_ms(0), &SNAPSHOT, &Policy::default())
}

/// Without blanks around it, as the reader of reports gives it: keys leave them away.
fn address(octet: u8) -> WrittenAddress {
    let made = format!("{}@contoso.example", char::from(octet));
    let text = ADDRESSES.get(usize::from(octet)).copied().unwrap_or(&made);
    WrittenAddress(text.trim().to_owned())
}

fn recipient([kind, to, via, _]: &[u8; 4]) -> JournaledRecipient {
    let field = [RecipientField::To, RecipientField::Cc, RecipientField::Bcc, RecipientField::Unspecified];
    let redirection = match kind / 4 % 4 {
        0 => Some(Redirection::Expanded(address(*via))),
        1 => Some(Redirection::Forwarded(address(*via))),
        _ => None,
    };
    JournaledRecipient { field: field[usize::from(kind % 4)], address: address(*to), redirection }
}

/// The same lines in another order, and over two reports.
fn turned(envelope: &JournaledEnvelope, lines: &[[u8; 4]]) -> Vec<Vec<JournaledEnvelope>> {
    let mut reversed = envelope.clone();
    reversed.recipients.reverse();
    let mut sorted: Vec<_> = lines.iter().zip(&envelope.recipients).collect();
    sorted.sort_by_key(|([.., turn], _)| *turn);
    let mut shuffled = envelope.clone();
    shuffled.recipients = sorted.into_iter().map(|(_, recipient)| recipient.clone()).collect();
    let (mut first, mut second) = (envelope.clone(), JournaledEnvelope::default());
    second.recipients = first.recipients.split_off(lines.len() / 2);
    second.on_behalf_of = first.on_behalf_of.take();
    let twice = vec![envelope.clone(), envelope.clone()];
    vec![vec![reversed], vec![shuffled], vec![first.clone(), second.clone()], vec![second, first], twice]
}

/// Whose it is and why, without order, whichever report says so; where two lines write one address differently, either may
/// stand in the reason.
fn said(found: &Assignment) -> (BTreeSet<String>, BTreeSet<String>) {
    let placed = found.placements.iter().flat_map(|placement| {
        let whose = format!("{} {:?}", placement.user_id, placement.folder);
        placement.reasons.iter().map(move |reason| {
            let reason = Reason { report: None, ..reason.clone() };
            format!("{whose}: {reason}").to_ascii_lowercase()
        })
    });
    let nobody = found.unmatched.iter().map(|unmatched| unmatched.to_string().to_ascii_lowercase());
    (placed.collect(), nobody.collect())
}

fn check(found: &Assignment, envelope: &JournaledEnvelope) {
    let mut seen = BTreeSet::new();
    for placement in &found.placements {
        assert!(seen.insert((&placement.user_id, placement.folder)), "two placements in one folder");
        assert!(!placement.reasons.is_empty(), "a placement without a reason");
        assert!(["alice", "bob", "carol"].contains(&placement.user_id.as_str()));
        assert!(placement.reasons.iter().all(|reason| reason.matched.user == placement.user_id));
    }
    let is_accounted_for = |address: &WrittenAddress, folder: UserFolder| {
        let key = address.key();
        let placed = found
            .placements
            .iter()
            .filter(|placement| placement.folder == folder)
            .flat_map(|placement| &placement.reasons)
            .any(|reason| reason.address.key() == key);
        placed
            || found.unmatched.iter().any(|unmatched| unmatched.address.key() == key)
            || key.as_str().is_empty()
    };
    for sender in envelope.sender.iter().chain(&envelope.on_behalf_of) {
        assert!(is_accounted_for(sender, UserFolder::Outgoing), "{sender:?} got lost");
    }
    for recipient in &envelope.recipients {
        assert!(is_accounted_for(&recipient.address, UserFolder::Incoming), "{recipient:?} got lost");
    }
}
