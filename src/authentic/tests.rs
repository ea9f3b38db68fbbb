//! Each rule, each thing that is almost the rule, and each contradiction.

use super::*;

const TENANT: &str = "contoso.onmicrosoft.com";
const INSIDE: &str = "40.107.22.83";
const OUTSIDE: &str = "192.0.2.1";
const PIN: &str = "aa11";

/// A genuine report, of which each test changes something.
struct Case {
    peer: &'static str,
    tls: Option<TlsFacts>,
    pulled: Option<&'static str>,
    trust: Trust,
    tenant: Option<&'static str>,
    outer: OriginMarks,
    returned: Vec<OriginMarks>,
}

fn genuine() -> Case {
    Case {
        peer: INSIDE,
        tls: Some(tls(certificate())),
        pulled: None,
        trust: Trust { mode: Mode::Enforce, ..Trust::default() },
        tenant: Some(TENANT),
        outer: orgs(&[TENANT]),
        returned: Vec::new(),
    }
}

fn genuine_ndr() -> Case {
    Case { outer: orgs(&[]), returned: vec![orgs(&[TENANT])], ..genuine() }
}

fn exchange() -> Exchange {
    Exchange {
        networks: vec!["40.107.0.0/16".parse().unwrap(), "2a01:111:f400::/48".parse().unwrap()],
        certificate_names: vec!["mail.protection.outlook.com".to_owned()],
    }
}

fn certificate() -> ClientCertificate {
    ClientCertificate {
        sha256: "bb22".to_owned(),
        dns_names: vec!["outlook.com".to_owned(), "mail.protection.outlook.com".to_owned()],
        chain: ChainVerdict::Good,
        proven: true,
    }
}

fn tls(certificate: ClientCertificate) -> TlsFacts {
    TlsFacts {
        version: "TLSv1.3".to_owned(),
        cipher: "TLS13_AES_256_GCM_SHA384".to_owned(),
        client_certificate: Some(certificate),
    }
}

fn orgs(values: &[&str]) -> OriginMarks {
    OriginMarks {
        originator_orgs: values.iter().map(|value| (*value).to_owned()).collect(),
        ..OriginMarks::default()
    }
}

fn unclear(marks: OriginMarks) -> OriginMarks {
    OriginMarks { unclear: true, ..marks }
}

impl Case {
    fn judge(&self) -> Judgement {
        let peer = Peer { address: self.peer.parse().unwrap(), tls: self.tls.as_ref(), pulled: self.pulled };
        let said = Said { outer: &self.outer, returned: &self.returned };
        judge(&exchange(), peer, Pins { trust: &self.trust, tenant: self.tenant }, said)
    }

    fn with(mut self, change: impl FnOnce(&mut Case)) -> Case {
        change(&mut self);
        self
    }

    fn certificate(self, change: impl FnOnce(&mut ClientCertificate)) -> Case {
        let mut certificate = certificate();
        change(&mut certificate);
        Case { tls: Some(tls(certificate)), ..self }
    }
}

#[track_caller]
fn check(case: Case, verdict: Verdict, reason: &str) {
    let judgement = case.judge();
    assert_eq!(judgement.verdict, verdict, "{:?}", judgement.reasons);
    assert!(judgement.reasons.iter().any(|r| r.contains(reason)), "{reason}: {:?}", judgement.reasons);
}

#[test]
fn a_report_by_network_certificate_and_tenant_is_authentic() {
    check(genuine(), Verdict::Authentic, "pinned tenant");
    check(genuine().with(|c| c.outer = orgs(&["CONTOSO.OnMicrosoft.com"])), Verdict::Authentic, "");
    check(genuine().with(|c| c.peer = "::ffff:40.107.1.2"), Verdict::Authentic, "");
    check(genuine().with(|c| c.peer = "2a01:111:f400::9"), Verdict::Authentic, "");
    check(genuine().certificate(|c| c.dns_names[1].make_ascii_uppercase()), Verdict::Authentic, "");
}

#[test]
fn an_ndr_is_authentic_by_the_wrapper_it_returns_when_nothing_contradicts() {
    check(genuine_ndr(), Verdict::Authentic, "the report it returns");
    check(genuine_ndr().with(|c| c.outer = orgs(&[TENANT])), Verdict::Authentic, "of the message");
    check(genuine_ndr().with(|c| c.outer = orgs(&["evil.example"])), Verdict::Suspect, "evil.example");
    check(genuine_ndr().with(|c| c.returned = vec![orgs(&["evil.example"])]), Verdict::Suspect, "returns");
    check(genuine_ndr().with(|c| c.returned = vec![orgs(&[TENANT, TENANT])]), Verdict::Suspect, "2 times");
    check(genuine_ndr().with(|c| c.returned = vec![orgs(&[])]), Verdict::Unverified, "no X-OriginatorOrg");
    check(genuine_ndr().with(|c| c.returned = Vec::new()), Verdict::Unverified, "no X-OriginatorOrg");
    check(genuine_ndr().with(|c| c.returned.insert(0, orgs(&[]))), Verdict::Unverified, "returns an NDR");
    check(genuine_ndr().with(|c| c.returned[0].unclear = true), Verdict::Unverified, "more than one way");
    check(genuine_ndr().with(|c| c.outer.unclear = true), Verdict::Unverified, "more than one way");
    check(genuine_ndr().with(|c| c.peer = OUTSIDE), Verdict::Unverified, "no network");
}

#[test]
fn trusted_networks_and_pinned_certificates_are_trusted_for_everything() {
    let relay = |c: &mut Case| {
        c.trust.networks = vec!["192.0.2.0/24".parse().unwrap()];
        c.peer = "::ffff:192.0.2.1";
        c.tls = None;
        c.outer = orgs(&["other.example", "another.example"]);
    };
    check(genuine().with(relay), Verdict::Authentic, "trusted network 192.0.2.0/24");
    let pinned = |proven: bool, pin: &str| {
        genuine()
            .certificate(|c| {
                c.sha256 = PIN.to_ascii_uppercase();
                c.chain = ChainVerdict::UnknownIssuer;
                c.dns_names.clear();
                c.proven = proven;
            })
            .with(|c| {
                c.peer = OUTSIDE;
                c.outer = orgs(&[]);
                c.trust.certificates = vec![pin.to_owned()];
            })
    };
    check(pinned(true, PIN), Verdict::Authentic, "pinned certificate");
    check(pinned(false, PIN), Verdict::Unverified, "no network");
    check(pinned(true, "aa12"), Verdict::Unverified, "no network");
}

#[test]
fn without_one_of_the_three_nothing_is_authentic() {
    check(genuine().with(|c| c.tls = None), Verdict::Unverified, "no certificate");
    let clean = || genuine().with(|c| c.outer = orgs(&[]));
    check(clean(), Verdict::Unverified, "no X-OriginatorOrg");
    check(clean().with(|c| c.peer = OUTSIDE), Verdict::Unverified, "no network");
    check(genuine().with(|c| c.tenant = None), Verdict::Unverified, "no tenant is pinned");
    check(
        genuine().with(|c| (c.tenant, c.outer) = (Some(""), orgs(&[""]))),
        Verdict::Unverified,
        "no tenant",
    );
    let other = genuine().certificate(|c| c.dns_names = vec!["x.mail.protection.outlook.com".to_owned()]);
    check(other, Verdict::Unverified, "not Exchange Online's");
    check(genuine().with(|c| c.outer = unclear(orgs(&[TENANT]))), Verdict::Unverified, "more than one way");
}

#[test]
fn a_certificate_that_claims_the_name_and_is_not_in_order_is_suspect() {
    for chain in [
        ChainVerdict::Expired,
        ChainVerdict::NotYetValid,
        ChainVerdict::UnknownIssuer,
        ChainVerdict::WrongPurpose,
        ChainVerdict::Unusable,
    ] {
        check(genuine().certificate(|c| c.chain = chain), Verdict::Suspect, chain.as_str());
    }
    check(genuine().certificate(|c| c.proven = false), Verdict::Suspect, "did not prove");
}

#[test]
fn any_other_x_originator_org_is_suspect() {
    for wrong in [
        &["fabrikam.onmicrosoft.com"][..],
        &[TENANT, "fabrikam.onmicrosoft.com"],
        &["fabrikam.onmicrosoft.com", TENANT],
        &[TENANT, TENANT],
        &[""],
        &["contoso.onmicrosoft.com."],
        &["contoso.onmicrosoft.com\u{a0}"],
        &["contoso. onmicrosoft.com"],
        &["contoso.onmicrosoft.com, fabrikam.onmicrosoft.com"],
        &["contoso.onmicrosoft.com (x)"],
        &["cont\u{43e}so.onmicrosoft.com"],
        &["notcontoso.onmicrosoft.com"],
    ] {
        check(genuine().with(|c| c.outer = orgs(wrong)), Verdict::Suspect, "X-OriginatorOrg");
    }
    let unpinned = |values: &[&str]| {
        let outer = orgs(values);
        genuine().with(|c| (c.tenant, c.outer) = (None, outer))
    };
    check(unpinned(&[TENANT, "evil.example"]), Verdict::Suspect, "2 times");
    check(unpinned(&["evil.example"]), Verdict::Unverified, "no tenant is pinned");
}

#[test]
fn the_mark_from_a_peer_that_may_not_make_it_is_suspect() {
    check(genuine().with(|c| c.peer = OUTSIDE), Verdict::Suspect, "not in Exchange Online's networks");
    check(genuine().with(|c| c.peer = "127.0.0.1"), Verdict::Suspect, "not in Exchange Online's networks");
    check(genuine().with(|c| c.peer = "::40.107.1.2"), Verdict::Suspect, "not in Exchange Online's networks");
}

#[test]
fn only_enforce_and_strict_hold_back_and_never_what_is_authentic() {
    for mode in [Mode::Observe, Mode::Enforce, Mode::Strict] {
        let judged = |case: Case| case.with(|c| c.trust.mode = mode).judge();
        assert!(!judged(genuine()).held_back);
        assert_eq!(judged(genuine().with(|c| c.tls = None)).held_back, mode != Mode::Observe);
        assert_eq!(judged(genuine().with(|c| c.peer = OUTSIDE)).held_back, mode != Mode::Observe);
        assert_eq!(judged(genuine()).mode, mode);
    }
}

#[test]
fn the_evidence_holds_what_was_looked_at() {
    let evidence = genuine_ndr().judge().evidence;
    assert_eq!(evidence.exchange_network.map(|n| n.to_string()).as_deref(), Some("40.107.0.0/16"));
    assert_eq!(evidence.trusted_network, None);
    assert_eq!(evidence.certificate, CertificateWorth::Exchange);
    assert_eq!((evidence.outer, evidence.returned), (orgs(&[]), Some(orgs(&[TENANT]))));
}

#[test]
fn what_a_puller_fetched_is_authentic_by_the_wrapper_it_returns_and_by_nothing_else() {
    let pulled = || genuine_ndr().with(|c| (c.pulled, c.peer, c.tls) = (Some("outside"), OUTSIDE, None));
    check(pulled(), Verdict::Authentic, "puller outside fetched it over verified TLS");
    check(pulled().with(|c| c.outer = orgs(&[TENANT])), Verdict::Authentic, "the report it returns");
    assert_eq!(pulled().judge().evidence.puller.as_deref(), Some("outside"));
    // Anybody can write to the account: its outermost header is no proof, and who keeps the account is nobody's proof.
    let bare = || pulled().with(|c| (c.outer, c.returned) = (orgs(&[TENANT]), vec![]));
    check(bare(), Verdict::Unverified, "returns no report");
    check(bare().with(|c| (c.peer, c.tls) = (INSIDE, Some(tls(certificate())))), Verdict::Unverified, "");
    let trusting = || bare().with(|c| c.trust.networks = vec!["192.0.2.0/24".parse().unwrap()]);
    check(trusting(), Verdict::Unverified, "returns no report");
    check(pulled().with(|c| c.returned = vec![orgs(&[])]), Verdict::Unverified, "returns no report");
    check(pulled().with(|c| c.tenant = None), Verdict::Unverified, "no tenant is pinned");
    check(pulled().with(|c| c.returned.push(orgs(&[TENANT]))), Verdict::Unverified, "returns an NDR");
    check(
        pulled().with(|c| c.returned = vec![unclear(orgs(&[TENANT]))]),
        Verdict::Unverified,
        "more than one",
    );
    // A contradiction stays one.
    check(pulled().with(|c| c.returned = vec![orgs(&["evil.example"])]), Verdict::Suspect, "evil.example");
    check(pulled().with(|c| c.returned = vec![orgs(&[TENANT, TENANT])]), Verdict::Suspect, "2 times");
    check(pulled().with(|c| c.outer = orgs(&["evil.example"])), Verdict::Suspect, "of the message");
    // The same without a puller is nothing.
    check(pulled().with(|c| c.pulled = None), Verdict::Unverified, "no network");
}

#[test]
fn values_of_strangers_are_escaped_in_reasons() {
    let case = genuine().with(|c| c.outer = orgs(&["evil\u{1b}[2J\u{202e}\n.example"]));
    let reasons = case.judge().reasons.join(" ");
    assert!(!reasons.contains(['\u{1b}', '\n', '\u{202e}']), "{reasons:?}");
}

#[test]
fn strict_hears_networks_and_pinned_certificates_only() {
    let trust = Trust {
        mode: Mode::Strict,
        networks: vec!["198.51.100.0/24".parse().unwrap()],
        certificates: vec![PIN.to_owned()],
    };
    let may = |peer: &str, tls: Option<&TlsFacts>| {
        may_deliver(&exchange(), Peer { address: peer.parse().unwrap(), tls, pulled: None }, &trust)
    };
    assert!(may(INSIDE, None) && may("198.51.100.7", None) && may("::ffff:198.51.100.7", None));
    assert!(!may(OUTSIDE, None) && !may(OUTSIDE, Some(&tls(certificate()))));
    let pinned = |proven| tls(ClientCertificate { sha256: PIN.to_owned(), proven, ..certificate() });
    assert!(may(OUTSIDE, Some(&pinned(true))));
    assert!(!may(OUTSIDE, Some(&pinned(false))));
}
