//! What Microsoft Graph answers with, and the candidates that come of it. Pure.
//!
//! Only what is asked for by `$select` is read, everything else is passed over. Whatever is asked for may be null.

use super::super::proxies::{Addresses, Collected, TooMany};
use super::super::{Candidate, CandidateKind};
use crate::config::Filters;
use crate::directory::snapshot::ProxyAddress;
use serde::Deserialize;

/// What is asked for of a user.
pub(super) const USER_FIELDS: &str =
    "id,userPrincipalName,displayName,mail,proxyAddresses,otherMails,accountEnabled,userType,assignedPlans";
/// What is asked for of a group.
pub(super) const GROUP_FIELDS: &str =
    "id,displayName,mail,mailEnabled,proxyAddresses,securityEnabled,visibility";
/// Longest id, in octets: it becomes part of store keys. Graph's own are GUIDs of 36.
const ID_OCTETS_MAX: usize = 255;
/// Longest name, in octets.
const NAME_OCTETS_MAX: usize = 1_024;
/// Exchange Foundation: comes with almost every licence (Power BI, Entra ID P1) and gives nobody a mailbox.
const EXCHANGE_FOUNDATION: &str = "113feb6c-3fe4-4440-bddc-54d774bf0318";
/// What the sign-in name of a guest has in it, in lower case.
const GUEST_MARK: &str = "#ext#";

/// One page of a collection. Without `value` it is none.
#[derive(Debug, Deserialize)]
pub(super) struct Page<T> {
    pub(super) value: Vec<T>,
    #[serde(rename = "@odata.nextLink")]
    pub(super) next_link: Option<String>,
}

/// <https://learn.microsoft.com/graph/api/resources/user>
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GraphUser {
    pub(super) id: String,
    user_principal_name: Option<String>,
    display_name: Option<String>,
    mail: Option<String>,
    proxy_addresses: Option<Vec<String>>,
    other_mails: Option<Vec<String>>,
    account_enabled: Option<bool>,
    user_type: Option<String>,
    assigned_plans: Option<Vec<AssignedPlan>>,
}

/// <https://learn.microsoft.com/graph/api/resources/assignedplan>
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AssignedPlan {
    service: Option<String>,
    capability_status: Option<String>,
    service_plan_id: Option<String>,
}

/// <https://learn.microsoft.com/graph/api/resources/group>
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GraphGroup {
    pub(super) id: String,
    pub(super) display_name: Option<String>,
    mail: Option<String>,
    mail_enabled: Option<bool>,
    proxy_addresses: Option<Vec<String>>,
    pub(super) visibility: Option<String>,
}

/// A member of a group, of whom only this is asked for.
#[derive(Debug, Deserialize)]
pub(super) struct GraphMember {
    pub(super) id: String,
}

/// A candidate and what of it had to be left out.
pub(super) struct Read {
    pub(super) candidate: Candidate,
    pub(super) weak: Weak,
    pub(super) faults: Vec<String>,
}

/// Addresses that only count where nobody has them by proxy address or mail: whoever administers writes somebody's own address
/// beside an account for administration.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Weak {
    /// The name to sign in with, which goes before others' other mails.
    pub(super) sign_in: Vec<ProxyAddress>,
    pub(super) other_mails: Vec<ProxyAddress>,
}

/// Why an entry is no candidate.
pub(super) enum NoCandidate {
    /// It is left out alone.
    Skipped(&'static str),
    /// It has more addresses than are taken.
    TooLarge,
}

/// An id as it is compared and kept: GUIDs mean the same in either case.
pub(super) fn id_of(text: &str) -> Option<String> {
    let is_id = !text.trim().is_empty() && text.len() <= ID_OCTETS_MAX && !text.contains(char::is_control);
    is_id.then(|| text.to_ascii_lowercase())
}

impl GraphUser {
    /// Whether Graph shows this application what only a permission to read users in full shows.
    pub(super) fn is_shown_in_full(&self) -> bool {
        self.account_enabled.is_some()
    }

    /// As a candidate; `groups` are the configured ones it is in.
    pub(super) fn candidate(&self, filters: &Filters, groups: Vec<String>) -> Result<Read, NoCandidate> {
        let id = id_of(&self.id).ok_or(NoCandidate::Skipped("its id is empty, too long or no text"))?;
        let mut addresses = Addresses::new();
        add_all(&mut addresses, self.proxy_addresses.as_deref(), self.mail.as_deref());
        let sign_in = self.user_principal_name.as_deref();
        let mut collected = addresses.collected().map_err(|TooMany| NoCandidate::TooLarge)?;
        // A guest's is made up of the address at home and leads nowhere.
        let signs_in = sign_in.filter(|name| !is_guest_name(name) && is_routable(name));
        let others = self.other_mails.iter().flatten().filter(|_| filters.other_mails);
        let weak = Weak {
            sign_in: weak(signs_in, &mut collected.faults)?,
            other_mails: weak(others.map(String::as_str), &mut collected.faults)?,
        };
        let is_guest = self.user_type.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("guest"))
            || sign_in.is_some_and(is_guest_name);
        let name = name_of(&[self.display_name.as_deref(), sign_in], &id);
        let kind = if is_guest { CandidateKind::Guest } else { CandidateKind::User };
        let read = read(id, name, collected, kind);
        let (enabled, licensed) = (self.account_enabled, self.is_licensed());
        Ok(Read { candidate: Candidate { enabled, licensed, groups, ..read.candidate }, weak, ..read })
    }

    /// Service and status must be in the same entry; entries of plans that have ended stay in the list. In "Warning" the licence
    /// is past its end and everything still works: to lose the user then would lose mail that still comes.
    fn is_licensed(&self) -> Option<bool> {
        let plans = self.assigned_plans.as_ref()?;
        Some(plans.iter().any(|plan| {
            let is = |field: &Option<String>, value: &str| {
                field.as_deref().is_some_and(|text| text.eq_ignore_ascii_case(value))
            };
            let works = is(&plan.capability_status, "Enabled") || is(&plan.capability_status, "Warning");
            is(&plan.service, "exchange") && works && !is(&plan.service_plan_id, EXCHANGE_FOUNDATION)
        }))
    }
}

impl GraphGroup {
    /// As a candidate: a group with a mailbox of its own. `groups` are the configured ones it is.
    pub(super) fn candidate(&self, groups: Vec<String>) -> Result<Read, NoCandidate> {
        let id = id_of(&self.id).ok_or(NoCandidate::Skipped("its id is empty, too long or no text"))?;
        if self.mail_enabled == Some(false) {
            return Err(NoCandidate::Skipped("the group has no mailbox"));
        }
        let mut addresses = Addresses::new();
        add_all(&mut addresses, self.proxy_addresses.as_deref(), self.mail.as_deref());
        let collected = addresses.collected().map_err(|TooMany| NoCandidate::TooLarge)?;
        let name = name_of(&[self.display_name.as_deref(), self.mail.as_deref()], &id);
        let read = read(id, name, collected, CandidateKind::Group);
        Ok(Read { candidate: Candidate { groups, ..read.candidate }, ..read })
    }
}

fn read(id: String, name: String, collected: Collected, kind: CandidateKind) -> Read {
    let Collected { primary, aliases, faults } = collected;
    let groups = Vec::new();
    Read {
        candidate: Candidate { id, name, primary, aliases, kind, enabled: None, licensed: None, groups },
        weak: Weak::default(),
        faults,
    }
}

fn add_all(addresses: &mut Addresses, proxies: Option<&[String]>, mail: Option<&str>) {
    proxies.unwrap_or_default().iter().for_each(|proxy| addresses.proxy(proxy));
    if let Some(mail) = mail {
        addresses.plain(mail);
    }
}

/// Addresses that claim little, in the order they came; what is none is a fault.
fn weak<'a>(
    texts: impl IntoIterator<Item = &'a str>,
    faults: &mut Vec<String>,
) -> Result<Vec<ProxyAddress>, NoCandidate> {
    let mut addresses = Addresses::new();
    texts.into_iter().for_each(|text| addresses.alias(text));
    let collected = addresses.collected().map_err(|TooMany| NoCandidate::TooLarge)?;
    faults.extend(collected.faults);
    Ok(collected.primary.into_iter().map(ProxyAddress::Smtp).chain(collected.aliases).collect())
}

fn is_guest_name(sign_in: &str) -> bool {
    sign_in.to_ascii_lowercase().contains(GUEST_MARK)
}

/// Sign-in names need be no addresses: what has no domain of several labels is none, and no fault either.
fn is_routable(sign_in: &str) -> bool {
    sign_in.rsplit_once('@').is_some_and(|(_, domain)| domain.contains('.'))
}

/// The first that has something to show, without control characters, cut where it is too long.
fn name_of(names: &[Option<&str>], id: &str) -> String {
    let named = names.iter().flatten().map(|name| name.trim()).find(|name| !name.is_empty());
    let mut name: String =
        named.unwrap_or(id).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut end = name.len().min(NAME_OCTETS_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    name
}

#[cfg(test)]
mod tests {
    use super::super::super::proxies::Held;
    use super::*;

    /// A user, given as the fields that matter, to `kind enabled licensed primary [aliases] faults`.
    fn check(fields: &str, expect: &str) {
        check_with(&Filters::default(), fields, expect);
    }

    fn check_with(filters: &Filters, fields: &str, expect: &str) {
        let user: GraphUser = serde_json::from_str(&format!("{{\"id\":\"A1\",{fields}}}")).unwrap();
        let Ok(read) = user.candidate(filters, Vec::new()) else { panic!("no candidate: {fields}") };
        let mut candidate = read.candidate;
        let mut held = Held::by([&candidate]);
        let Weak { sign_in, other_mails } = read.weak;
        sign_in.into_iter().chain(other_mails).for_each(|address| held.give(&mut candidate, address));
        assert_eq!(candidate.id, "a1");
        let flag = |flag: Option<bool>| flag.map_or("?", |is| if is { "yes" } else { "no" });
        let aliases: Vec<&str> = candidate.aliases.iter().map(ProxyAddress::as_str).collect();
        let found = format!(
            "{} {} {} {} [{}] {}",
            candidate.kind.as_str(),
            flag(candidate.enabled),
            flag(candidate.licensed),
            candidate.primary.as_ref().map_or("-", |primary| primary.as_str()),
            aliases.join(" "),
            read.faults.len()
        );
        assert_eq!(found, expect, "{fields}");
    }

    #[test]
    fn addresses_are_proxies_mail_and_sign_in_name_and_the_primary_one_is_written_in_capitals() {
        check(
            r#""userPrincipalName":"bob@x.onmicrosoft.com","mail":"Bob@x.example","accountEnabled":true,
               "proxyAddresses":["smtp:b@x.example","SMTP:bob@x.example","SIP:bob@x.example","x500:/o=X/cn=bob"]"#,
            "user yes ? bob@x.example [b@x.example x500:/o=X/cn=bob bob@x.onmicrosoft.com] 0",
        );
        check(
            r#""mail":"a@x.example","proxyAddresses":["smtp:b@x.example"]"#,
            "user ? ? a@x.example [b@x.example] 0",
        );
        check(r#""userPrincipalName":"a@x.example","mail":null"#, "user ? ? a@x.example [] 0");
        check(r#""userPrincipalName":"a@local","proxyAddresses":[]"#, "user ? ? - [] 0");
        check(r#""mail":"no address","userPrincipalName":"a@x.example""#, "user ? ? a@x.example [] 1");
    }

    #[test]
    fn private_addresses_count_only_when_asked_for() {
        let fields = r#""mail":"a@x.example","otherMails":["a@home.example"]"#;
        check(fields, "user ? ? a@x.example [] 0");
        let filters = Filters { other_mails: true, ..Filters::default() };
        check_with(&filters, fields, "user ? ? a@x.example [a@home.example] 0");
    }

    #[test]
    fn guests_are_known_by_type_or_sign_in_name() {
        check(r#""userType":"Guest","mail":"g@y.example""#, "guest ? ? g@y.example [] 0");
        check(
            r##""userPrincipalName":"g_y.example#EXT#@x.onmicrosoft.com","userType":null,"mail":"g@y.example""##,
            "guest ? ? g@y.example [] 0",
        );
        check(r#""userType":"Member","mail":"a@x.example""#, "user ? ? a@x.example [] 0");
    }

    #[test]
    fn a_licence_is_an_exchange_plan_that_works_in_one_entry() {
        let check = |plans: &str, expect: &str| {
            check(
                &format!("\"mail\":\"a@x.example\",\"assignedPlans\":{plans}"),
                &format!("user ? {expect} a@x.example [] 0"),
            );
        };
        let plan = |service: &str, status: &str, id: &str| {
            format!(r#"{{"service":"{service}","capabilityStatus":"{status}","servicePlanId":"{id}"}}"#)
        };
        check("null", "?");
        check("[]", "no");
        check(&format!("[{}]", plan("exchange", "Enabled", "efb87545-963c-4e0d-99df-69c6916d9eb0")), "yes");
        check(&format!("[{}]", plan("exchange", "Warning", "x")), "yes");
        check(&format!("[{}]", plan("exchange", "Suspended", "x")), "no");
        let (ended, other) = (plan("exchange", "Deleted", "x"), plan("SharePoint", "Enabled", "y"));
        check(&format!("[{ended},{other}]"), "no");
        check(&format!("[{}]", plan("exchange", "Enabled", EXCHANGE_FOUNDATION)), "no");
    }

    #[test]
    fn a_page_without_a_value_is_none_and_what_is_unknown_is_passed_over() {
        let page = |text: &str| serde_json::from_str::<Page<GraphMember>>(text);
        assert!(page(r#"{"@odata.context":"x"}"#).is_err());
        assert!(page(r#"{"value":null}"#).is_err());
        assert!(page(r#"{"value":[{"mail":"a"}]}"#).is_err(), "an entry without its id");
        let full = page(r#"{"@odata.count":9,"value":[{"id":"a","new":{}}],"@odata.nextLink":"https://x"}"#)
            .unwrap();
        assert_eq!((full.value.len(), full.next_link.as_deref()), (1, Some("https://x")));
    }

    #[test]
    fn a_group_with_a_mailbox_is_a_candidate() {
        let group = |fields: &str| -> GraphGroup {
            serde_json::from_str(&format!("{{\"id\":\"G1\",{fields}}}")).unwrap()
        };
        let sales = group(
            r#""displayName":"Sales","mail":"sales@x.example","mailEnabled":true,"proxyAddresses":["SMTP:sales@x.example","SPO:SPO_1@SPO_2"]"#,
        );
        let Ok(read) = sales.candidate(Vec::new()) else { panic!("no candidate") };
        assert_eq!((read.candidate.kind, read.candidate.name.as_str()), (CandidateKind::Group, "Sales"));
        assert_eq!(read.candidate.primary.unwrap().as_str(), "sales@x.example");
        let none = group(r#""displayName":"Doors","mailEnabled":false"#);
        assert!(matches!(none.candidate(Vec::new()), Err(NoCandidate::Skipped(_))));
    }

    #[test]
    fn a_name_is_one_line_and_no_longer_than_it_may_be() {
        assert_eq!(name_of(&[Some(" "), Some("b\nc")], "id"), "b c");
        assert_eq!(name_of(&[None, None], "id"), "id");
        assert_eq!(name_of(&[Some(&"é".repeat(600))], "id").len(), 1_024);
        assert_eq!(name_of(&[Some(&format!("a{}", "é".repeat(600)))], "id").len(), 1_023);
    }
}
