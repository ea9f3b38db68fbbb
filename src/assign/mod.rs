//! Decides whose folders a journaled message belongs in, and says why.
//!
//! Takes what the reports say about a message ([`JournaledEnvelope`]s, united when a report holds a report), the
//! users known now and before ([`Snapshot`]), when it was received and a [`Policy`]; returns an [`Assignment`]. Pure: the same arguments give the
//! same answer, in the same order, so `explain` can be trusted and a re-run over stored envelopes shows exactly
//! what a changed directory changes.
//!
//! - Sender and On-Behalf-Of give the user's `Journal Outgoing`.
//! - Every recipient gives `Journal Incoming`: of an expanded one the member, not the list; of a forwarded one
//!   the target, and the user whose mail is forwarded too, if it is one.
//! - Addresses match over all proxy addresses, ASCII case-folded. No plus-tag is stripped and no domain stands for another
//!   unless the [`Policy`] says so, and nothing is folded beyond ASCII: guessing that two addresses are one person shows
//!   mail to the wrong one.
//! - One placement for each user and folder, however many lines name the user, with a [`Reason`] for each line: which one,
//!   of which report, what of the user's it matched, and how. The same line again is no further reason, and of more than
//!   [`REASONS_MAX`] the rest is only counted.
//! - An address is whose it was when the mail occurred ([`occurred_at`]), each report for itself: it may have been another's, or
//!   nobody's before; the reason says so ([`Held`](crate::directory::Held)). A later run over stored envelopes decides by the same moment.
//! - An address that is nobody's is recorded as [`Unmatched`]. When there is no placement at all, the caller keeps
//!   the message under Unassigned: nothing is ever dropped for want of a user.
//!
//! Linear in the number of recipients, which reaches 12,000. Knows no bytes, no store, no network and no clock.

mod occurred;
mod policy;
mod reason;
mod slug;

pub use occurred::occurred_at;
pub use policy::Policy;
pub use reason::{By, Matched, Reason, Role, Via};
pub use slug::slug;

use crate::directory::{Snapshot, User};
use crate::mail::{Address, AddressKey, JournaledEnvelope, JournaledRecipient, Redirection, UserFolder};
use crate::mail::{RecipientField, Timestamp, Untrusted, WrittenAddress};
use policy::Match;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::fmt;

/// Whose a message is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// One for each user and folder, in the order the envelopes name them. Empty: keep it under Unassigned.
    pub placements: Vec<Placement>,
    /// Every address that is nobody's, once for each role, in the order the envelopes name them.
    pub unmatched: Vec<Unmatched>,
}

/// A user's folder that the message belongs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The directory's id of the user.
    pub user_id: String,
    /// The user's name today.
    pub user_name: String,
    /// The user's primary address today: the folder is named after it when first used, see [`slug`].
    pub primary_address: Address,
    /// Which of the user's folders.
    pub folder: UserFolder,
    /// The lines that led here, at most [`REASONS_MAX`]. Never empty.
    pub reasons: Vec<Reason>,
    /// Further lines that led here; some may say the same as another.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_reasons: u64,
}

/// Reasons kept of one placement. A person is named by a few lines; a report that names one by hundreds of thousands was made to
/// fill memory.
pub const REASONS_MAX: usize = 100;

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// An address of the envelope that no user has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmatched {
    /// As the report wrote it.
    pub address: WrittenAddress,
    /// What it was to the message.
    pub role: Role,
    /// Whether a user should have had it.
    pub kind: UnmatchedKind,
}

/// Whether an address that is nobody's is worth a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnmatchedKind {
    /// In a domain where no user has an address: someone else's.
    External,
    /// In a domain where users have addresses, or an X.500 name, which only one's own Exchange writes: a user
    /// may be missing from the directory.
    Unknown,
}

impl UnmatchedKind {
    /// The stable name used in logs and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            UnmatchedKind::External => "external",
            UnmatchedKind::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Unmatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} is {}", self.role, Untrusted(self.address.as_str()), self.kind.as_str())
    }
}

/// Assigns one message, received then, by everything its reports say about it, the outermost first.
pub fn assign(
    envelopes: &[JournaledEnvelope],
    received_at: Timestamp,
    snapshot: &Snapshot,
    policy: &Policy,
) -> Assignment {
    let numbered = (0..).zip(envelopes);
    assign_numbered(numbered, received_at, snapshot, policy)
}

/// Assigns what one report, received then, holds by that report alone. `report` is its number, counted from 0 and the outermost one: the
/// reasons name it.
pub fn assign_one(
    envelope: &JournaledEnvelope,
    report: u32,
    received_at: Timestamp,
    snapshot: &Snapshot,
    policy: &Policy,
) -> Assignment {
    assign_numbered([(report, envelope)], received_at, snapshot, policy)
}

fn assign_numbered<'e>(
    envelopes: impl IntoIterator<Item = (u32, &'e JournaledEnvelope)>,
    received_at: Timestamp,
    snapshot: &Snapshot,
    policy: &Policy,
) -> Assignment {
    let mut matcher = Matcher {
        snapshot,
        policy,
        occurred_at: received_at,
        found: Assignment::default(),
        placement_of: HashMap::new(),
        reasons_seen: HashSet::new(),
        unmatched_seen: HashSet::new(),
    };
    for (report, envelope) in envelopes {
        matcher.occurred_at = occurred_at(envelope, received_at);
        let header = envelope.headers.as_ref().and_then(|headers| headers.sender.as_deref());
        let line = |role| Line { role, field: None, via: None, header, report };
        if let Some(sender) = &envelope.sender {
            matcher.outgoing(sender, line(Role::Sender));
        }
        if let Some(principal) = &envelope.on_behalf_of {
            matcher.outgoing(principal, line(Role::OnBehalfOf));
        }
        for (recipient, header) in envelope.recipients_with_headers() {
            let field = Some(recipient.field).filter(|field| *field != RecipientField::Unspecified);
            matcher.recipient(recipient, Line { role: Role::Recipient, field, via: None, header, report });
        }
    }
    matcher.found
}

/// Where an address stands.
struct Line<'e> {
    role: Role,
    /// Of a typed recipient line.
    field: Option<RecipientField>,
    via: Option<Via>,
    /// The header field, where it is no report that names it.
    header: Option<&'e str>,
    /// Number of the report.
    report: u32,
}

/// Which line of which placement a reason is for. The report is not part of it: a report and the report inside it name the
/// same people.
type Seen = (usize, Role, Option<RecipientField>, AddressKey, Option<Via>);

/// An assignment being made.
struct Matcher<'a> {
    snapshot: &'a Snapshot,
    policy: &'a Policy,
    /// Of the report that is looked at.
    occurred_at: Timestamp,
    found: Assignment,
    placement_of: HashMap<(&'a str, UserFolder), usize>,
    /// Lists repeat members.
    reasons_seen: HashSet<Seen>,
    unmatched_seen: HashSet<(Role, AddressKey)>,
}

impl Matcher<'_> {
    fn outgoing(&mut self, address: &WrittenAddress, line: Line<'_>) {
        let role = line.role;
        if !self.place(address, UserFolder::Outgoing, line) {
            self.unmatched(address, role);
        }
    }

    fn recipient(&mut self, recipient: &JournaledRecipient, line: Line<'_>) {
        let Line { header, report, .. } = line;
        let via = recipient.redirection.as_ref().map(|redirection| match redirection {
            Redirection::Expanded(list) => Via::List(list.clone()),
            Redirection::Forwarded(user) => Via::ForwardedBy(user.clone()),
        });
        if !self.place(&recipient.address, UserFolder::Incoming, Line { via, ..line }) {
            self.unmatched(&recipient.address, Role::Recipient);
        }
        if let Some(Redirection::Forwarded(user)) = &recipient.redirection {
            // The message was addressed to this user before it went on. Often a contact or group: then nobody's.
            let via = Some(Via::ForwardedTo(recipient.address.clone()));
            let line = Line { role: Role::ForwardingUser, field: None, via, header, report };
            self.place(user, UserFolder::Incoming, line);
        }
    }

    /// Adds a reason to the placement of the user who has `address`; false when nobody has.
    fn place(&mut self, address: &WrittenAddress, folder: UserFolder, line: Line<'_>) -> bool {
        let key = address.key();
        let found = self.policy.find(self.snapshot, &key, line.role, self.occurred_at);
        let Some(Match { user, proxy, by, held }) = found else { return false };
        let placements = &mut self.found.placements;
        let index = *self.placement_of.entry((&user.id, folder)).or_insert_with(|| {
            placements.push(placement(user, folder));
            placements.len() - 1
        });
        let Line { role, field, via, header, report } = line;
        if let Some(full) = placements.get_mut(index).filter(|placed| placed.reasons.len() >= REASONS_MAX) {
            full.more_reasons += 1;
            return true;
        }
        if !self.reasons_seen.insert((index, role, field, key, via.clone())) {
            return true;
        }
        if let Some(placement) = placements.get_mut(index) {
            let (user, name) = (user.id.clone(), user.name.clone());
            placement.reasons.push(Reason {
                role,
                address: address.clone(),
                matched: Matched { user, name, address: proxy.to_owned(), by, held },
                via,
                field,
                header: header.map(str::to_owned),
                report: (report > 0).then_some(report),
            });
        }
        true
    }

    fn unmatched(&mut self, address: &WrittenAddress, role: Role) {
        let key = address.key();
        // The null path is nobody, and so is a line without an address.
        if key.as_str().is_empty() || self.unmatched_seen.contains(&(role, key.clone())) {
            return;
        }
        let ours = self.policy.is_ours(self.snapshot, &key, self.occurred_at);
        let kind = if ours { UnmatchedKind::Unknown } else { UnmatchedKind::External };
        self.found.unmatched.push(Unmatched { address: address.clone(), role, kind });
        self.unmatched_seen.insert((role, key));
    }
}

fn placement(user: &User, folder: UserFolder) -> Placement {
    Placement {
        user_id: user.id.clone(),
        user_name: user.name.clone(),
        primary_address: user.primary.clone(),
        folder,
        reasons: Vec::new(),
        more_reasons: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{Roll, Tenure};
    use crate::mail::RecipientField;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn received() -> Timestamp {
        Timestamp::parse("2026-11-22T10:00:00Z").unwrap()
    }

    fn snapshot() -> Snapshot {
        let user = |n: usize| User {
            id: format!("u{n}"),
            name: format!("User {n}"),
            primary: Address::parse(&format!("u{n}@x.example")).unwrap(),
            aliases: vec![crate::directory::ProxyAddress::parse(&format!("alias{n}@y.example")).unwrap()],
        };
        Snapshot::of((0..4).map(user).collect())
    }

    fn address() -> impl Strategy<Value = WrittenAddress> {
        let known = (0..6usize, any::<bool>(), any::<bool>()).prop_map(|(n, alias, upper)| {
            let text = if alias { format!("alias{n}@y.example") } else { format!("u{n}@x.example") };
            WrittenAddress(if upper { text.to_uppercase() } else { text })
        });
        prop_oneof![8 => known, 1 => Just(WrittenAddress(String::new())), 1 => any::<String>().prop_map(WrittenAddress)]
    }

    fn recipient() -> impl Strategy<Value = JournaledRecipient> {
        let redirection = prop_oneof![
            Just(None),
            address().prop_map(|list| Some(Redirection::Expanded(list))),
            address().prop_map(|user| Some(Redirection::Forwarded(user)))
        ];
        (address(), redirection).prop_map(|(address, redirection)| JournaledRecipient {
            field: RecipientField::Unspecified,
            address,
            redirection,
        })
    }

    fn envelope() -> impl Strategy<Value = JournaledEnvelope> {
        let addresses = (proptest::option::of(address()), proptest::option::of(address()));
        (addresses, proptest::collection::vec(recipient(), 0..12)).prop_map(
            |((sender, on_behalf_of), recipients)| JournaledEnvelope {
                sender,
                on_behalf_of,
                recipients,
                ..JournaledEnvelope::default()
            },
        )
    }

    fn places(assignment: &Assignment) -> HashSet<(String, UserFolder)> {
        assignment.placements.iter().map(|place| (place.user_id.clone(), place.folder)).collect()
    }

    proptest! {
        #[test]
        fn every_placement_has_a_reason_and_no_folder_comes_twice(
            envelopes in proptest::collection::vec(envelope(), 0..4)
        ) {
            let assignment = assign(&envelopes, received(), &snapshot(), &Policy::default());
            prop_assert_eq!(places(&assignment).len(), assignment.placements.len());
            for placement in &assignment.placements {
                prop_assert!(!placement.reasons.is_empty());
                prop_assert!(placement.reasons.iter().all(|reason| reason.matched.user == placement.user_id));
            }
        }

        #[test]
        fn the_order_of_recipients_does_not_matter(
            (envelope, shuffled) in envelope().prop_flat_map(|envelope| {
                let recipients = Just(envelope.recipients.clone()).prop_shuffle();
                (Just(envelope), recipients)
            })
        ) {
            let other = JournaledEnvelope { recipients: shuffled, ..envelope.clone() };
            let one = assign(&[envelope], received(), &snapshot(), &Policy::default());
            let two = assign(&[other], received(), &snapshot(), &Policy::default());
            prop_assert_eq!(places(&one), places(&two));
            let count = |assignment: &Assignment| -> usize {
                assignment.placements.iter().map(|placement| placement.reasons.len()).sum()
            };
            prop_assert_eq!(count(&one), count(&two));
            prop_assert_eq!(one.unmatched.len(), two.unmatched.len());
        }

        #[test]
        fn choosing_to_match_more_takes_nothing_from_anybody(envelopes in proptest::collection::vec(envelope(), 0..4)) {
            let policy = Policy::new([("x.example".to_owned(), "y.example".to_owned())], true);
            let before = assign(&envelopes, received(), &snapshot(), &Policy::default());
            let after = assign(&envelopes, received(), &snapshot(), &policy);
            prop_assert!(places(&before).is_subset(&places(&after)));
            prop_assert!(after.unmatched.iter().all(|unmatched| before.unmatched.iter().any(|b| b.address == unmatched.address)));
        }

        #[test]
        fn uniting_envelopes_gives_what_each_gives(one in envelope(), two in envelope()) {
            let both = places(&assign(&[one.clone(), two.clone()], received(), &snapshot(), &Policy::default()));
            let mut each = places(&assign(&[one], received(), &snapshot(), &Policy::default()));
            each.extend(places(&assign(&[two], received(), &snapshot(), &Policy::default())));
            prop_assert_eq!(both, each);
        }
    }

    #[test]
    fn twelve_thousand_recipients_are_each_placed_or_recorded() {
        let recipients = (0..12_000)
            .map(|n| JournaledRecipient {
                field: RecipientField::To,
                address: WrittenAddress(if n % 3 == 0 {
                    "u1@x.example".into()
                } else {
                    format!("e{n}@z.example")
                }),
                redirection: None,
            })
            .collect();
        let envelope = JournaledEnvelope { recipients, ..JournaledEnvelope::default() };
        let assignment = assign(&[envelope], received(), &snapshot(), &Policy::default());
        assert_eq!((assignment.placements.len(), assignment.unmatched.len()), (1, 8_000));
        assert_eq!(assignment.placements[0].reasons.len(), 1);
    }

    #[test]
    fn reasons_beyond_the_limit_are_counted() {
        let line = |n: usize| JournaledRecipient {
            field: RecipientField::To,
            address: WrittenAddress("u1@x.example".into()),
            redirection: Some(Redirection::Expanded(WrittenAddress(format!("list{n}@x.example")))),
        };
        let recipients = (0..REASONS_MAX + 7).map(line).collect();
        let envelope = JournaledEnvelope { recipients, ..JournaledEnvelope::default() };
        let placements = assign(&[envelope], received(), &snapshot(), &Policy::default()).placements;
        let [placement] = placements.as_slice() else { panic!("{placements:?}") };
        assert_eq!((placement.reasons.len(), placement.more_reasons), (REASONS_MAX, 7));
    }

    /// Ann had the address up to 09:00, nobody for an hour, then Bob.
    fn handed_on() -> Snapshot {
        let user = |id: &str, address: &str| User {
            id: id.to_owned(),
            name: id.to_uppercase(),
            primary: Address::parse(address).unwrap(),
            aliases: Vec::new(),
        };
        let at = |text: &str| Timestamp::parse(text).unwrap();
        let former = Tenure {
            address: "info@x.example".to_owned(),
            user: Arc::new(user("ann", "info@x.example")),
            from: None,
            gone: None,
            until: at("2026-11-22T09:00:00Z"),
        };
        let roll = Roll {
            users: vec![Arc::new(user("bob", "info@x.example"))],
            began: [(AddressKey::of("info@x.example"), received())].into(),
            former: vec![former],
            ..Roll::default()
        };
        Snapshot::of_rolls([&roll])
    }

    fn to_info(received: Option<&str>) -> JournaledEnvelope {
        JournaledEnvelope {
            received: received.map(str::to_owned),
            recipients: vec![JournaledRecipient {
                field: RecipientField::To,
                address: WrittenAddress("Info@x.example".to_owned()),
                redirection: None,
            }],
            ..JournaledEnvelope::default()
        }
    }

    #[test]
    fn each_report_is_by_its_own_moment_and_the_reason_says_what_was_not_plain() {
        let envelopes = [
            to_info(Some("11/22/2026 8:59:59 AM")),
            to_info(Some("11/22/2026 9:00:00 AM")),
            to_info(None),
            to_info(Some("11/22/2026 11:00:00 AM")),
        ];
        let reasons = |envelope: &JournaledEnvelope| -> Vec<String> {
            let assignment =
                assign(std::slice::from_ref(envelope), received(), &handed_on(), &Policy::default());
            let placements = assignment.placements.iter();
            placements.flat_map(|placed| placed.reasons.iter().map(ToString::to_string)).collect()
        };
        let ann = "To Info@x.example matched proxy address of user ann (ANN)";
        let bob = "To Info@x.example matched proxy address of user bob (BOB)";
        let until = format!("{ann}; ANN had this address until 2026-11-22T09:00:00.000Z");
        let since = format!(
            "{bob}; nobody had this address when the mail was sent, BOB has had it since 2026-11-22T10:00:00.000Z"
        );
        let told: Vec<Vec<String>> = envelopes.iter().map(reasons).collect();
        assert_eq!(told, [[until], [since], [bob.to_owned()], [bob.to_owned()]]);
        let united = assign(&envelopes, received(), &handed_on(), &Policy::default());
        assert_eq!(places(&united).len(), 2, "both, each by the report that names him");
    }

    #[test]
    fn what_was_somebodys_comes_before_what_was_somebodys_only_later() {
        let mut envelope = to_info(Some("11/22/2026 9:30:00 AM"));
        let alias = |to: &str| Policy::new([("x.example".to_owned(), to.to_owned())], false);
        let owner = |envelope: &JournaledEnvelope, policy: &Policy| {
            let user = User {
                id: "eve".to_owned(),
                name: "EVE".to_owned(),
                primary: Address::parse("info@y.example").unwrap(),
                aliases: Vec::new(),
            };
            let eve = Roll { users: vec![Arc::new(user)], ..Roll::default() };
            let former = Roll {
                users: vec![Arc::new(User {
                    id: "bob".to_owned(),
                    name: "BOB".to_owned(),
                    primary: Address::parse("info@x.example").unwrap(),
                    aliases: Vec::new(),
                })],
                began: [(AddressKey::of("info@x.example"), received())].into(),
                ..Roll::default()
            };
            let snapshot = Snapshot::of_rolls([&former, &eve]);
            let found = assign(std::slice::from_ref(envelope), received(), &snapshot, policy);
            found.placements.first().map(|placed| placed.user_id.clone())
        };
        assert_eq!(owner(&envelope, &alias("y.example")).as_deref(), Some("eve"), "bob had it only later");
        assert_eq!(owner(&envelope, &alias("z.example")).as_deref(), Some("bob"), "nobody else had it");
        envelope.received = None;
        assert_eq!(owner(&envelope, &alias("y.example")).as_deref(), Some("bob"));
    }

    #[test]
    fn a_reason_that_is_not_plain_says_so_in_json() {
        let placed = |at: &str| {
            let assignment = assign(&[to_info(Some(at))], received(), &handed_on(), &Policy::default());
            serde_json::to_value(&assignment.placements[0].reasons[0].matched).unwrap()["held"].clone()
        };
        assert_eq!(
            placed("11/22/2026 8:00:00 AM"),
            serde_json::json!({ "until": "2026-11-22T09:00:00.000Z" })
        );
        assert_eq!(
            placed("11/22/2026 9:00:00 AM"),
            serde_json::json!({ "since": "2026-11-22T10:00:00.000Z" })
        );
        assert_eq!(placed("11/22/2026 10:00:00 AM"), serde_json::Value::Null);
    }

    #[test]
    fn reasons_keep_their_json_shape() {
        let envelope = JournaledEnvelope {
            recipients: vec![JournaledRecipient {
                field: RecipientField::To,
                address: WrittenAddress("Alias1@y.example".into()),
                redirection: Some(Redirection::Expanded(WrittenAddress("all@x.example".into()))),
            }],
            sender: Some(WrittenAddress("u1@x.example".into())),
            ..JournaledEnvelope::default()
        };
        let assignment = assign(&[envelope], received(), &snapshot(), &Policy::default());
        let json = serde_json::to_string(&assignment.placements).unwrap();
        let expect = concat!(
            r#"[{"user_id":"u1","user_name":"User 1","primary_address":"u1@x.example","folder":"outgoing","reasons":["#,
            r#"{"role":"sender","address":"u1@x.example","#,
            r#""matched":{"user":"u1","name":"User 1","address":"u1@x.example"},"via":null}]},"#,
            r#"{"user_id":"u1","user_name":"User 1","primary_address":"u1@x.example","folder":"incoming","reasons":["#,
            r#"{"role":"recipient","address":"Alias1@y.example","#,
            r#""matched":{"user":"u1","name":"User 1","address":"alias1@y.example"},"via":{"list":"all@x.example"},"field":"To"}]}]"#
        );
        assert_eq!(json, expect);
        assert_eq!(serde_json::from_str::<Vec<Placement>>(&json).unwrap(), assignment.placements);
    }
}
