//! Gateway mailboxes: the RCPT addresses Daybook serves.

use super::{Address, AddressKey, GatewayMailboxId, Timestamp, Trust, Uid};
use serde::{Deserialize, Serialize};

/// How messages of a gateway mailbox are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Journal reports and NDRs holding them are unwrapped.
    #[default]
    Microsoft365,
    /// Nothing is ever unwrapped.
    Generic,
}

/// What a gateway mailbox is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Journal reports of a tenant.
    #[default]
    Journal,
    /// NDRs of journal reports. What is recovered from them belongs to the gateway mailbox it serves.
    Ndr {
        /// That one.
        serves: GatewayMailboxId,
    },
}

impl Role {
    /// True for a gateway mailbox that reports are sent to.
    pub fn is_journal(&self) -> bool {
        *self == Role::Journal
    }
}

/// The header fields in which a trusted sender writes the envelope of plain mail, by name: `X-Gm-Original-To`. Names are
/// compared without regard to case. None by default: whoever writes mail can write any field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeHeaders {
    /// They name a recipient.
    #[serde(default)]
    pub recipients: Vec<String>,
    /// They name the sender.
    #[serde(default)]
    pub senders: Vec<String>,
}

/// Most header fields that may be trusted to name recipients, and most that may name the sender.
pub const ENVELOPE_HEADERS_MAX: usize = 16;
/// Longest name of one, in octets: RFC 5322 §2.1.1 asks for lines no longer.
const HEADER_NAME_OCTETS_MAX: usize = 78;
/// Fields in which whoever writes mail names whom he likes (RFC 5322 §3.6.2 and §3.6.3).
const WRITERS_FIELDS: [&str; 6] = ["From", "Sender", "Reply-To", "To", "Cc", "Bcc"];

impl EnvelopeHeaders {
    /// Why a field of this name cannot be trusted to name an envelope; `None` when it can.
    pub fn refusal(name: &str) -> Option<&'static str> {
        let is_name = (1..=HEADER_NAME_OCTETS_MAX).contains(&name.len())
            && name.bytes().all(|octet| octet.is_ascii_graphic() && octet != b':');
        if !is_name {
            return Some("it is no name of a header field");
        }
        let is_writers = WRITERS_FIELDS.iter().any(|field| name.eq_ignore_ascii_case(field));
        is_writers.then_some("whoever writes the mail writes it")
    }

    /// True when none is trusted.
    pub fn is_empty(&self) -> bool {
        self.recipients.is_empty() && self.senders.is_empty()
    }
}

/// Whether a gateway mailbox takes mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GatewayMailboxState {
    /// Mail is taken, fetch works.
    #[default]
    Active,
    /// SMTP answers 450 so that the sender keeps trying; fetch works.
    Suspended,
    /// Gone: SMTP answers 550, login fails. Its entries stay in the log.
    Deleted,
}

/// One address of a gateway mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayAddress {
    /// `mbx-<32 hex>@<domain>`.
    pub address: Address,
    /// Served until then; `None` is for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// How the local part of every gateway mailbox's address begins.
const MADE_PREFIX: &str = "mbx-";
/// Hex digits behind that.
const MADE_DIGITS: usize = 32;

impl GatewayAddress {
    /// Whether an address looks like one that was made for a gateway mailbox, in whatever domain.
    pub fn looks_made(address: &AddressKey) -> bool {
        let local = address.as_str().rsplit_once('@').map(|(local, _)| local);
        let digits = local.and_then(|local| local.strip_prefix(MADE_PREFIX));
        digits.is_some_and(|d| d.len() == MADE_DIGITS && d.bytes().all(|b| b.is_ascii_hexdigit()))
    }

    /// Whether mail and logins by it are taken at `now`.
    pub fn is_served(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// How long what was deleted can be had back when nothing else is said, in days.
pub const GRACE_DAYS_DEFAULT: u32 = 7;

/// How long a gateway mailbox keeps mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keeping {
    /// So many days what was deleted can be had back; then its content is freed. 0 frees it at once.
    pub grace_days: u32,
    /// So many days after its receipt an entry leaves INBOX; absent is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbox_days: Option<u32>,
    /// The same for users' folders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_days: Option<u32>,
}

impl Default for Keeping {
    fn default() -> Keeping {
        Keeping { grace_days: GRACE_DAYS_DEFAULT, inbox_days: None, user_days: None }
    }
}

impl Keeping {
    /// True when nothing else was said.
    pub fn is_default(&self) -> bool {
        *self == Keeping::default()
    }
}

/// What a client finds in INBOX, and so in the POP3 maildrop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Maildrop {
    /// Every message as received: the journal report with the original in it.
    #[default]
    Reports,
    /// Every original, the clear copy first; what holds none as received.
    Originals,
}

impl Maildrop {
    /// The stable name used by admins, in logs and on disk.
    pub fn as_str(self) -> &'static str {
        match self {
            Maildrop::Reports => "reports",
            Maildrop::Originals => "originals",
        }
    }
}

/// What clients find, and what they may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchRules {
    /// What INBOX holds.
    #[serde(default)]
    pub maildrop: Maildrop,
    /// True: clients may delete outside INBOX too: from users' folders, Unassigned and Quarantine.
    #[serde(default)]
    pub user_delete: bool,
}

impl FetchRules {
    /// True when nothing else was said.
    pub fn is_default(&self) -> bool {
        *self == FetchRules::default()
    }
}

/// A legal hold: while it is there no content is freed and no retention takes anything out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Of this user's folders alone, by the directory's id; absent is of all of the gateway mailbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Since then.
    pub at: Timestamp,
    /// Who set it.
    pub actor: String,
    /// Why: the case it is for.
    pub reason: String,
}

/// Most holds on users of one gateway mailbox; there is always room for the one that is on all of it.
pub const HOLDS_MAX: usize = 1_000;
/// Longest reason of a hold, in characters.
pub const HOLD_REASON_CHARACTERS_MAX: usize = 500;

/// A public key that content was sealed to before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerKey {
    /// The `age` recipient.
    pub public_key: String,
    /// Until then.
    pub until: Timestamp,
    /// The password of today does not open what is sealed to it: that was lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
    /// Objects of the store numbered below it are sealed to this key or to one before it.
    #[serde(default)]
    pub objects_end: u64,
}

/// Most keys of one gateway mailbox, present and former ones: an opened keyring holds them all.
pub const KEYS_MAX: usize = 64;

/// A gateway mailbox as the store keeps it. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayMailbox {
    /// Never changes.
    pub id: GatewayMailboxId,
    /// What the admin calls it.
    pub name: String,
    /// Current address first, then rotated ones.
    pub addresses: Vec<GatewayAddress>,
    /// The tenant the admin named, e.g. `contoso.onmicrosoft.com`: what `X-OriginatorOrg` must say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// How its messages are read.
    pub profile: Profile,
    /// Whether it takes mail.
    pub state: GatewayMailboxState,
    /// False: a pure gateway, nothing is placed outside INBOX.
    pub archive: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Content is sealed to this `age` recipient.
    pub public_key: String,
    /// Who may deliver to it.
    #[serde(default)]
    pub trust: Trust,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Role::is_journal")]
    pub role: Role,
    /// Where plain mail names its envelope.
    #[serde(default, skip_serializing_if = "EnvelopeHeaders::is_empty")]
    pub envelope_headers: EnvelopeHeaders,
    /// How long it keeps mail.
    #[serde(default, skip_serializing_if = "Keeping::is_default")]
    pub keeping: Keeping,
    /// Legal holds on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Hold>,
    /// Keys before this one, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_keys: Vec<FormerKey>,
    /// When it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
    /// How it is fetched from.
    #[serde(default, skip_serializing_if = "FetchRules::is_default")]
    pub fetch: FetchRules,
    /// Entries of INBOX below this UID came while it held something else than `fetch` says now: they leave, and come again behind
    /// all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view_from: Option<Uid>,
}

/// Name of the gateway mailbox in which Daybook tries itself out: it holds no customer's mail, and nobody is alarmed about it.
pub const SELF_TEST_NAME: &str = "daybook self-test";

impl GatewayMailbox {
    /// Whether it is there for Daybook to try itself out in.
    pub fn is_self_test(&self) -> bool {
        self.name == SELF_TEST_NAME
    }

    /// True when some of its keys are lost to the password of today.
    pub fn lacks_keys(&self) -> bool {
        self.former_keys.iter().any(|former| former.lost)
    }

    /// True when the object of the store with this number is sealed to a key that is lost to the password of today.
    pub fn is_lost(&self, object: u64) -> bool {
        self.former_keys.iter().find(|former| object < former.objects_end).is_some_and(|former| former.lost)
    }

    /// Runs of objects that are sealed to lost keys: the first number, and the one behind the last.
    pub fn lost_objects(&self) -> Vec<(u64, u64)> {
        let mut first = 0;
        let mut lost: Vec<(u64, u64)> = Vec::new();
        for former in &self.former_keys {
            if former.lost && first < former.objects_end {
                match lost.last_mut().filter(|(_, end)| *end == first) {
                    // One run: what has its objects in both is counted once.
                    Some((_, end)) => *end = former.objects_end,
                    None => lost.push((first, former.objects_end)),
                }
            }
            first = former.objects_end;
        }
        lost
    }

    /// True while a legal hold is on all of it.
    pub fn is_held(&self) -> bool {
        self.holds.iter().any(|hold| hold.user.is_none())
    }

    /// True while a legal hold keeps this user's folders.
    pub fn holds_user(&self, user: &str) -> bool {
        self.holds.iter().any(|hold| hold.user.as_deref().is_none_or(|held| held == user))
    }

    /// The one of its addresses, current or former, that `key` is compared with and means.
    pub fn address_of(&self, key: &AddressKey) -> Option<&GatewayAddress> {
        self.addresses.iter().find(|served| served.address.key() == *key)
    }

    /// The one of its addresses that a client means by `login`: whole, or its local part.
    pub fn address_of_login(&self, login: &str) -> Option<&GatewayAddress> {
        let key = AddressKey::of(login);
        let means = |address: &Address| address.key() == key || AddressKey::of(address.local()) == key;
        self.addresses.iter().find(|served| means(&served.address))
    }

    /// The address to give to Exchange today.
    pub fn address(&self) -> Option<&Address> {
        self.addresses.first().map(|a| &a.address)
    }

    /// The POP3 user name: the local part of the current address.
    pub fn login(&self) -> &str {
        self.address().map(Address::local).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_to_a_lost_key_is_known_by_its_number() {
        let former = |objects_end, lost| FormerKey {
            public_key: String::new(),
            until: Timestamp::from_unix_ms(0),
            lost,
            objects_end,
        };
        let check = |former_keys: Vec<FormerKey>, lost: &[u64], runs: &[(u64, u64)]| {
            let json = r#"{"id":"00000000-0000-7000-8000-000000000000","name":"","addresses":[],"profile":"generic",
                "state":"active","archive":true,"created_at":"2026-01-01T00:00:00Z","public_key":""}"#;
            let mailbox: GatewayMailbox = serde_json::from_str(json).unwrap();
            let mailbox = GatewayMailbox { former_keys, ..mailbox };
            assert_eq!((0..30).filter(|object| mailbox.is_lost(*object)).collect::<Vec<_>>(), lost);
            assert_eq!(mailbox.lost_objects(), runs);
        };
        check(vec![], &[], &[]);
        check(vec![former(5, false)], &[], &[]);
        check(vec![former(3, true)], &[0, 1, 2], &[(0, 3)]);
        check(vec![former(2, true), former(4, true)], &[0, 1, 2, 3], &[(0, 4)]);
        check(vec![former(3, false), former(5, true), former(5, true), former(9, false)], &[3, 4], &[(3, 5)]);
    }
}
