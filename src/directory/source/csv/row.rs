//! From a row to somebody who may be a user.

use super::addresses::{self, FieldFault};
use super::table::Places;
use crate::config::CsvPreset;
use crate::directory::source::proxies::{Addresses, Collected};
use crate::directory::source::{CANDIDATE_ADDRESSES_MAX, Candidate, CandidateKind, Listing};
use crate::mail::{Address, Untrusted};
use csv::ByteRecord;
use uuid::Uuid;

/// Longest id, in octets: it becomes part of store keys.
const ID_OCTETS_MAX: usize = 255;
/// Longest name kept, in characters.
const NAME_CHARS_MAX: usize = 256;

/// RecipientTypeDetails of mailboxes that belong to nobody alone.
const SHARED: [&str; 12] = [
    "SharedMailbox",
    "RoomMailbox",
    "EquipmentMailbox",
    "SchedulingMailbox",
    "TeamMailbox",
    "LinkedRoomMailbox",
    "RemoteSharedMailbox",
    "RemoteRoomMailbox",
    "RemoteEquipmentMailbox",
    "RemoteTeamMailbox",
    "shared",
    "room",
];
/// Groups that have a mailbox.
const GROUPS: [&str; 3] = ["GroupMailbox", "RemoteGroupMailbox", "group"];
/// People of other tenants.
const GUESTS: [&str; 2] = ["GuestMailUser", "guest"];
/// Everybody else that is a person.
const USERS: [&str; 8] = [
    "UserMailbox",
    "LinkedMailbox",
    "LegacyMailbox",
    "RemoteUserMailbox",
    "MailUser",
    "User",
    "Mailbox",
    "MailboxUser",
];
/// What Exchange keeps for itself.
const EXCHANGES_OWN: [&str; 11] = [
    "ArbitrationMailbox",
    "AuditLogMailbox",
    "AuxAuditLogMailbox",
    "DiscoveryMailbox",
    "MonitoringMailbox",
    "PublicFolderMailbox",
    "SupervisoryReviewPolicyMailbox",
    "SystemAttendantMailbox",
    "SystemMailbox",
    "MailboxPlan",
    "HealthMailbox",
];
/// Lists that hand mail on and keep none.
const DISTRIBUTION: [&str; 6] = [
    "MailUniversalDistributionGroup",
    "MailUniversalSecurityGroup",
    "MailNonUniversalGroup",
    "DynamicDistributionGroup",
    "RoomList",
    "MailForestContact",
];

const TRUE: [&str; 5] = ["true", "yes", "1", "enabled", "active"];
const FALSE: [&str; 5] = ["false", "no", "0", "disabled", "inactive"];

/// What a row came to.
pub(super) enum Read {
    /// Somebody.
    Candidate(Candidate),
    /// Nobody; `why`, for people.
    Nobody { id: String, why: &'static str },
}

/// How the rows of a list are read.
pub(super) struct Rows<'a> {
    pub(super) places: &'a Places,
    pub(super) preset: CsvPreset,
    /// They are groups, whatever else they say.
    pub(super) are_groups: bool,
}

/// What is wrong with a row, each for people. The fault of whoever wrote the list.
type Faults = Vec<String>;

impl Rows<'_> {
    /// Reads a row; addresses that are none are noted in `listing`.
    ///
    /// # Errors
    /// Every fault of the row: the list is not to be used.
    pub(super) fn read(&self, row: &ByteRecord, listing: &mut Listing) -> Result<Read, Faults> {
        let mut faults = Vec::new();
        let mut field =
            |place: Option<usize>| match place.and_then(|place| row.get(place)).map(str::from_utf8) {
                None => "",
                Some(Ok(text)) => text.trim(),
                Some(Err(_)) => {
                    faults.push("is not UTF-8 text: with Export-Csv give -Encoding utf8".to_owned());
                    ""
                }
            };
        let places = self.places;
        let id =
            Some(field(places.id)).filter(|id| !id.is_empty()).unwrap_or_else(|| field(places.second_id));
        let (name, primary, aliases) = (field(places.name), field(places.primary), field(places.aliases));
        let (legacy, kind) = (field(places.legacy), field(places.kind));
        let (enabled, disabled) = (field(places.enabled), field(places.disabled));
        let id = id_of(id, &mut faults);
        let kind = self.kind(kind, &mut faults);
        let enabled =
            flag(enabled, &mut faults).or_else(|| flag(disabled, &mut faults).map(|disabled| !disabled));
        let listed = addresses::split(aliases).map_err(FieldFault::advice).unwrap_or_else(|advice| {
            faults.push(advice.to_owned());
            Vec::new()
        });
        let (Some(id), Some(kind), true) = (id, kind, faults.is_empty()) else { return Err(faults) };
        let kind = match kind {
            Ok(kind) => kind,
            Err(why) => return Ok(Read::Nobody { id, why }),
        };
        let Some(Collected { primary, aliases, faults: left_out }) = choose(primary, legacy, &listed) else {
            return Err(vec![format!("names more than {CANDIDATE_ADDRESSES_MAX} addresses")]);
        };
        left_out.into_iter().for_each(|why| listing.skip(&id, why));
        let name = name_of(name, primary.as_ref(), &id);
        let groups = Vec::new();
        Ok(Read::Candidate(Candidate { id, name, primary, aliases, kind, enabled, licensed: None, groups }))
    }

    /// `Err` for what keeps no mail of anybody's; `None` is a fault.
    fn kind(&self, text: &str, faults: &mut Faults) -> Option<Result<CandidateKind, &'static str>> {
        let is_one_of = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(text));
        if is_one_of(&EXCHANGES_OWN) {
            return Some(Err("is a mailbox that Exchange keeps for itself"));
        }
        if is_one_of(&DISTRIBUTION) {
            return Some(Err("has no mailbox of its own"));
        }
        if self.are_groups {
            return Some(Ok(CandidateKind::Group));
        }
        if is_one_of(&SHARED) || text.eq_ignore_ascii_case("equipment") {
            return Some(Ok(CandidateKind::Shared));
        }
        if is_one_of(&GROUPS) {
            return Some(Ok(CandidateKind::Group));
        }
        if is_one_of(&GUESTS) {
            return Some(Ok(CandidateKind::Guest));
        }
        // What Exchange learns of one day is somebody's, too; in other lists it is the wrong column.
        if text.is_empty() || is_one_of(&USERS) || self.preset == CsvPreset::ExchangeGetMailbox {
            return Some(Ok(CandidateKind::User));
        }
        faults.push(format!(
            "kind \"{}\" is neither user, shared, guest or group nor one of RecipientTypeDetails",
            Untrusted(text)
        ));
        None
    }
}

fn id_of(text: &str, faults: &mut Faults) -> Option<String> {
    if text.is_empty() {
        faults.push("has no id".to_owned());
        return None;
    }
    if text.len() > ID_OCTETS_MAX || text.contains(char::is_control) {
        faults.push(format!(
            "has an id that is not 1 to {ID_OCTETS_MAX} octets of text without control characters"
        ));
        return None;
    }
    // One program writes the same GUID in capitals, another does not.
    let guid =
        Uuid::try_parse(text).ok().filter(|_| text.len() == Uuid::nil().hyphenated().to_string().len());
    Some(guid.map_or_else(|| text.to_owned(), |guid| guid.hyphenated().to_string()))
}

fn flag(text: &str, faults: &mut Faults) -> Option<bool> {
    let is_one_of = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    if text.is_empty() {
        return None;
    }
    if is_one_of(&TRUE) || is_one_of(&FALSE) {
        return Some(is_one_of(&TRUE));
    }
    faults.push(format!("\"{}\" is neither true nor false", Untrusted(text)));
    None
}

/// A name for one line, or what there is instead of one.
fn name_of(name: &str, primary: Option<&Address>, id: &str) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(NAME_CHARS_MAX).collect();
    match plain.trim() {
        "" => primary.map_or(id, Address::as_str).to_owned(),
        name => name.to_owned(),
    }
}

/// The primary address, and every other one once; `None` when there are too many.
fn choose(primary: &str, legacy: &str, listed: &[&str]) -> Option<Collected> {
    let mut addresses = Addresses::new();
    let bare = primary.get(..5).filter(|start| start.eq_ignore_ascii_case("smtp:")).and(primary.get(5..));
    // What the list itself calls so is so, whatever is marked among the others.
    addresses.proxy(&format!("SMTP:{}", bare.unwrap_or(primary)));
    listed.iter().for_each(|address| addresses.proxy(address));
    if !legacy.is_empty() {
        addresses.proxy(&format!("x500:{legacy}"));
    }
    addresses.collected().ok()
}
