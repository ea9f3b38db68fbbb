use super::*;
use crate::mail::Address;

/// Somebody enabled, licensed and in no group.
fn candidate(id: &str) -> Candidate {
    Candidate {
        id: id.to_owned(),
        name: id.to_uppercase(),
        primary: Some(Address::parse(&format!("{id}@x.example")).unwrap()),
        aliases: Vec::new(),
        kind: CandidateKind::User,
        enabled: Some(true),
        licensed: Some(true),
        groups: Vec::new(),
    }
}

/// Disabled and without licence, as shared mailboxes are.
fn shared(kind: CandidateKind) -> Candidate {
    Candidate { kind, enabled: Some(false), licensed: Some(false), ..candidate("shop") }
}

fn strict() -> Filters {
    Filters { licensed_only: true, enabled_only: true, ..Filters::default() }
}

fn check(candidate: Candidate, filters: &Filters, expect: Option<&str>) {
    let shown = format!("{candidate:?} {filters:?}");
    let filtered = sort(vec![candidate], filters);
    let reason = filtered.dropped.first().map(|dropped| dropped.out.reason.as_str());
    assert_eq!(reason, expect, "{shown}");
    assert_eq!(filtered.users.len(), usize::from(expect.is_none()));
    assert_eq!(filtered.dropped_count, u64::from(expect.is_some()));
}

#[test]
fn whoever_is_no_user_is_told_why() {
    let all = Filters::default();
    let of = |kind| Candidate { kind, ..candidate("a") };
    check(candidate("a"), &strict(), None);
    check(Candidate { primary: None, ..candidate("a") }, &all, Some("no SMTP address"));
    check(Candidate { licensed: Some(false), ..candidate("a") }, &all, None);
    check(Candidate { licensed: Some(false), ..candidate("a") }, &strict(), Some("no Exchange Online plan"));
    check(
        Candidate { enabled: Some(false), licensed: None, ..candidate("a") },
        &strict(),
        Some("account is disabled"),
    );
    check(of(CandidateKind::Guest), &all, Some("guest: include_guests = false"));
    check(of(CandidateKind::Guest), &Filters { include_guests: true, ..Filters::default() }, None);
    check(of(CandidateKind::Group), &all, Some("group: include_groups = false"));
    check(of(CandidateKind::Group), &Filters { include_groups: true, ..strict() }, None);
    check(
        Candidate { id: " ".to_owned(), ..candidate("a") },
        &all,
        Some("its id is empty, too long or no text"),
    );
    check(
        Candidate { id: "a".repeat(256), ..candidate("a") },
        &all,
        Some("its id is empty, too long or no text"),
    );
}

#[test]
fn what_a_source_cannot_tell_is_not_filtered_by() {
    check(Candidate { licensed: None, enabled: None, ..candidate("a") }, &strict(), None);
}

#[test]
fn only_members_of_the_groups_are_users_and_a_group_is_compared_without_case() {
    let groups = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let filters = Filters { groups: Some(groups(&["CN=Mail,DC=x", "7a"])), ..Filters::default() };
    check(candidate("a"), &filters, Some("not in any of the groups"));
    check(Candidate { groups: groups(&["cn=mail,dc=X"]), ..candidate("a") }, &filters, None);
    check(Candidate { groups: groups(&["7A"]), ..candidate("a") }, &filters, None);
    check(
        Candidate { groups: groups(&["other"]), ..candidate("a") },
        &filters,
        Some("not in any of the groups"),
    );
}

#[test]
fn shared_mailboxes_survive_filters_for_people_and_are_flagged_when_they_are_dropped() {
    for kind in [CandidateKind::Shared, CandidateKind::User] {
        check(shared(kind), &strict(), None);
        let without = Filters { include_shared: false, ..strict() };
        check(shared(kind), &without, Some("shared mailbox: include_shared = false"));
        let groups = Filters { groups: Some(vec!["7a".to_owned()]), ..Filters::default() };
        let leaver = candidate("gone");
        let filtered = sort(vec![leaver, shared(kind)], &groups);
        let flags: Vec<(&str, bool)> =
            filtered.dropped.iter().map(|d| (d.out.id.as_str(), d.out.is_shared)).collect();
        assert_eq!(flags, [("shop", true), ("gone", false)], "what is lost most easily comes first");
    }
    let leaver = Candidate { enabled: Some(false), licensed: None, ..candidate("left") };
    check(leaver, &strict(), Some("account is disabled"));
}

#[test]
fn a_disabled_account_with_a_licence_is_told_to_be_a_shared_mailbox_perhaps() {
    let licensed = Candidate { enabled: Some(false), ..candidate("archive") };
    let told = "account is disabled, and has an Exchange plan: may be a shared mailbox";
    check(licensed.clone(), &strict(), Some(told));
    let nobody = Candidate { kind: CandidateKind::Guest, ..candidate("guest") };
    let without = Filters { include_shared: false, ..strict() };
    let filtered = sort(vec![nobody, licensed, shared(CandidateKind::Shared)], &without);
    let flags: Vec<(&str, bool, bool)> = filtered
        .dropped
        .iter()
        .map(|dropped| (dropped.out.id.as_str(), dropped.out.is_shared, dropped.out.may_be_shared))
        .collect();
    assert_eq!(flags, [("shop", true, false), ("archive", false, true), ("guest", false, false)]);
}

#[test]
fn an_id_that_stands_twice_is_one_user() {
    let filtered = sort(vec![candidate("a"), candidate("a")], &Filters::default());
    assert_eq!((filtered.users.len(), filtered.dropped_count), (1, 1));
    assert_eq!(filtered.dropped[0].out.reason, "its id stands in the list twice");
}

#[test]
fn addresses_are_listed_once_and_names_are_one_line_of_text() {
    let alias = |text: &str| ProxyAddress::parse(text).unwrap();
    let mut bob = candidate("bob");
    bob.name = format!(" Bob\r\nBaker{}", "é".repeat(2_000));
    bob.aliases =
        vec![alias("BOB@x.example"), alias("b@x.example"), alias("x500:/o=Org/cn=bob"), alias("B@X.example")];
    let mut nameless = candidate("n");
    nameless.name = "\u{1}".to_owned();
    let filtered = sort(vec![bob, nameless], &Filters::default());
    let addresses: Vec<&str> = filtered.users[0].addresses().collect();
    assert_eq!(addresses, ["bob@x.example", "b@x.example", "x500:/o=Org/cn=bob"]);
    let name = &filtered.users[0].name;
    assert!(name.starts_with("Bob  Baker") && name.len() <= NAME_OCTETS_MAX, "{name}");
    assert_eq!(filtered.users[1].name, "n@x.example");
}
