//! Addresses and trust of a gateway mailbox from outside: rotating, setting, learning, pinning, with a server and without.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/delivery.rs"]
mod delivery;
#[path = "support/daybook.rs"]
mod support;

use daybook::mail::*;
use daybook::store::*;
use delivery::delivery;
use serde_json::{Value, json};
use std::net::SocketAddr;
use support::{DOMAIN, Outcome, Site, Smtp, corpus};

const REPORT: &str = "demo/report.eml";
const TENANT: &str = "contoso.onmicrosoft.com";

fn json_of(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("{e}: {}", outcome.stdout))
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn create(site: &Site, name: &str) -> Value {
    json_of(&site.run(&["mailbox", "create", "--name", name, "--json"]).expect(0))
}

fn show(site: &Site, which: &str) -> Value {
    json_of(&site.run(&["mailbox", "show", which, "--json"]).expect(0))
}

/// The reply to a recipient.
fn asked(smtp: &mut Smtp, address: &str) -> String {
    assert!(smtp.say("RSET").starts_with("250"));
    assert!(smtp.say("MAIL FROM:<>").starts_with("250"));
    smtp.say(&format!("RCPT TO:<{address}>"))
}

#[test]
fn mail_and_logins_by_a_former_address_go_on_until_its_end() {
    let site = Site::new();
    let made = create(&site, "Contoso");
    let (old, login, password) = (text(&made, "address"), text(&made, "login"), text(&made, "password"));
    let mut server = site.serve();
    let rotated = json_of(&site.run(&["mailbox", "rotate", old, "--json"]).expect(0));
    let new = text(&rotated, "address");
    assert_ne!(new, old);
    assert_eq!(new, format!("{}@{DOMAIN}", text(&rotated, "login")));
    assert_eq!(text(&rotated, "id"), text(&made, "id"));
    let addresses = rotated["addresses"].as_array().unwrap();
    assert_eq!((text(&addresses[0], "address"), &addresses[0]["until"]), (new, &Value::Null));
    assert_eq!((text(&addresses[1], "address"), &addresses[1]["retired"]), (old, &json!(false)));
    assert!(Timestamp::parse(text(&addresses[1], "until")).unwrap() > daybook::observe::now());

    // Both in one transaction are one gateway mailbox and one message.
    let mut smtp = Smtp::connect(server.port("smtp"));
    assert!(asked(&mut smtp, old).starts_with("250"));
    assert!(smtp.say(&format!("RCPT TO:<{new}>")).starts_with("250"));
    assert!(smtp.say("DATA").starts_with("354"));
    let reply = smtp.say(&format!("{}.", String::from_utf8(corpus(REPORT)).unwrap()));
    assert!(reply.starts_with("250 2.0.0 Ok "), "{reply}");
    server.wait_for("mailbox.former_address_used");
    for name in [old, login, new, text(&rotated, "login")] {
        let mut pop3s = server.pop3s(name, password).unwrap();
        assert_eq!(pop3s.count(), 1, "{name}");
        pop3s.quit();
    }
    server.wait_for("mailbox.former_login_used");
    let shown = show(&site, old);
    assert_eq!(text(&shown, "address"), new, "shown by its former address");
    assert!(shown["addresses"][1]["last_used"].is_string(), "{shown}");

    site.run(&["mailbox", "rotate", new, "--overlap", "0"]).expect(0);
    let shown = show(&site, old);
    let retired: Vec<bool> =
        shown["addresses"].as_array().unwrap().iter().map(|a| a["retired"] == true).collect();
    assert_eq!(retired, [false, true, true], "an overlap of 0 ends them all: {shown}");
    let unknown = server.pop3s("mbx-00000000000000000000000000000000", password).err().unwrap().to_string();
    for name in [old, login, new] {
        assert_eq!(server.pop3s(name, password).err().unwrap().to_string(), unknown);
    }
    server.pop3s(text(&shown, "login"), password).unwrap().quit();
    assert!(server.send(text(&shown, "address"), &corpus(REPORT)).starts_with("250 "));
    let page = site.run(&["mailbox", "show", "Contoso"]).expect(0).stdout;
    assert!(page.contains(&format!("{old}, served no more since")), "{page}");
    let shown = show(&site, old);
    assert_eq!(server.terminate(), 0);
    assert_eq!(show(&site, old)["addresses"], shown["addresses"], "without a server too");
}

#[test]
fn a_peer_hears_the_same_of_an_unknown_a_former_and_a_deleted_address() {
    let site = Site::new();
    let made = create(&site, "Contoso");
    let deleted = create(&site, "Gone");
    let mut server = site.serve();
    site.run(&["mailbox", "rotate", text(&made, "login"), "--overlap", "0"]).expect(0);
    site.run(&["mailbox", "suspend", "Gone"]).expect(0);
    let mut smtp = Smtp::connect(server.port("smtp"));
    assert!(asked(&mut smtp, text(&deleted, "address")).starts_with("450 4.2.1 "), "suspended");
    site.run(&["mailbox", "delete", "Gone", "--yes"]).expect(0);

    let unknown = asked(&mut smtp, &format!("mbx-00000000000000000000000000000000@{DOMAIN}"));
    assert!(unknown.starts_with("550 5.1.1 "), "{unknown}");
    for address in [text(&made, "address"), text(&deleted, "address"), &text(&made, "address").to_uppercase()]
    {
        assert_eq!(asked(&mut smtp, address), unknown);
    }
    assert_eq!(server.terminate(), 0);
    let log = server.log();
    let asked: Vec<Value> = log
        .lines()
        .filter(|line| line.contains("mailbox.retired_address_asked"))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(asked.len(), 2, "the admin hears it, once for each time: {log}");
    assert_eq!((text(&asked[0], "level"), text(&asked[0], "mailbox_id")), ("WARN", text(&made, "id")));
    let now = show(&site, text(&made, "id"));
    for login in [text(&made, "login"), text(&now, "login")] {
        assert!(
            !asked[0].to_string().contains(login),
            "neither the former address nor the new one: {}",
            asked[0]
        );
    }
}

#[test]
fn what_to_do_about_a_new_address_is_said() {
    let site = Site::new();
    let made = create(&site, "Contoso");
    for wrong in ["-1", "366", "soon"] {
        site.run(&["mailbox", "rotate", "Contoso", &format!("--overlap={wrong}")]).expect(2);
    }
    site.run(&["mailbox", "rotate", "Nobody"]).expect(1);
    let said = site.run(&["mailbox", "rotate", "Contoso"]).expect(0).stdout;
    let new = show(&site, "Contoso");
    for word in
        [text(&new, "address"), text(&made, "address"), "until its end", "Set-MailContact", "last used"]
    {
        assert!(said.contains(word), "{word} is not in\n{said}");
    }
    let said = site.run(&["mailbox", "rotate", "Contoso", "--overlap", "0"]).expect(0).stdout;
    assert!(said.contains("No former address is served any more"), "{said}");
}

#[test]
fn trust_is_set_checked_and_its_consequences_told() {
    let site = Site::new();
    let certificate = "AB:".repeat(31) + "AB";
    create(&site, "Contoso");
    let set = |what: &[&str]| site.run(&[&["mailbox", "set", "Contoso", "--json"][..], what].concat());
    let many: Vec<String> = (0..65).map(|n| format!("192.0.2.{n}")).collect();
    for wrong in [
        "mode=loose",
        "trusted_networks=192.0.2.1/24",
        "trusted_networks=example.com",
        &format!("trusted_networks={}", many.join(",")),
        "pinned_certificates=abc",
        &format!("pinned_certificates={}", "zz".repeat(32)),
    ] {
        set(&[wrong]).expect(2);
    }
    assert_eq!(show(&site, "Contoso")["mode"], "observe");

    let held = json_of(&set(&["mode=enforce"]).expect(0));
    assert_eq!(held["mode"], "enforce");
    let page = site.run(&["mailbox", "show", "Contoso"]).expect(0).stdout;
    assert!(page.contains("all mail is held back in Quarantine"), "{page}");
    let doctor = site.run(&["doctor", "--offline", "--no-delivery", "--check", "gateway-mailbox"]).expect(0);
    assert!(doctor.stdout.contains("all mail is held back in Quarantine"), "{}", doctor.stdout);

    let networks = "trusted_networks=192.0.2.0/24, 2001:db8::/32,192.0.2.0/24";
    let done =
        json_of(&set(&[networks, &format!("pinned_certificates={certificate}"), "name=Contoso"]).expect(0));
    assert_eq!(done["trusted_networks"], json!(["192.0.2.0/24", "2001:db8::/32"]));
    assert_eq!(done["pinned_certificates"], json!(["ab".repeat(32)]));
    assert_eq!((&done["mode"], done.get("notes")), (&json!("enforce"), None), "what is not named stays");
    let listed = json_of(&site.run(&["mailbox", "list", "--json"]).expect(0));
    assert_eq!(listed[0]["trusted_networks"], done["trusted_networks"]);
    let done = json_of(&set(&["trusted_networks=0.0.0.0/0", "pinned_certificates="]).expect(0));
    assert!(done["notes"][0].as_str().unwrap().contains("every tenant of Microsoft"), "{done}");
    assert_eq!(done["pinned_certificates"], json!([]));
}

/// How a report came.
struct Came {
    peer: &'static str,
    orgs: &'static [&'static str],
    certificate: CertificateWorth,
    class: Class,
}

const PROVEN: Came = Came {
    peer: "40.92.1.2:25",
    orgs: &["Contoso.onmicrosoft.com"],
    certificate: CertificateWorth::Exchange,
    class: Class::JournalReport,
};
const FORGED: Came = Came { peer: "198.51.100.7:25", certificate: CertificateWorth::None, ..PROVEN };

/// Stores reports that came so, as the server would.
fn receive(site: &Site, address: &str, reports: &[Came]) {
    let options = Options { data_dir: site.path("data"), reserve_octets: 0 };
    let (store, _) = Embedded::open(&options).unwrap();
    let to = store.gateway_mailbox(&AddressKey::of(address)).unwrap();
    let deliveries = reports.iter().map(|came| received(&store, &to, came)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        store.deliver(deliveries).await.unwrap();
        store.close().await;
    });
}

/// A message that came so, each at another millisecond.
fn received(store: &Embedded, to: &GatewayMailbox, came: &Came) -> Delivery {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let at = Timestamp::from_unix_ms(1_800_000_000_000 + i64::from(n));
    let plain = delivery(store, to, at, [0; 10], format!("{n}\r\n").as_bytes());
    let peer: SocketAddr = came.peer.parse().unwrap();
    let is_exchange = came.certificate == CertificateWorth::Exchange;
    let certificate = is_exchange.then(|| ClientCertificate {
        sha256: "cd".repeat(32),
        dns_names: vec!["mail.protection.outlook.com".to_owned()],
        chain: ChainVerdict::Good,
        proven: true,
    });
    let tls =
        TlsFacts { version: "TLSv1.3".to_owned(), cipher: "x".to_owned(), client_certificate: certificate };
    let owned = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect();
    let outer = OriginMarks {
        originator_orgs: owned(came.orgs),
        ld_processed: owned(&["0A1B-guid,ExtAddr"]),
        senders: owned(&["<MicrosoftExchange@contoso.onmicrosoft.com>"]),
        unclear: false,
    };
    let evidence = Evidence {
        exchange_network: is_exchange.then(|| Network::around(peer.ip(), 15)),
        certificate: came.certificate,
        outer,
        ..Evidence::default()
    };
    Delivery {
        transport: TransportEnvelope {
            peer,
            tls: Some(tls),
            reverse_path: ReversePath::Address(Address::parse("ndr@contoso.example").unwrap()),
            ..plain.transport
        },
        class: came.class,
        judgement: Some(Judgement {
            verdict: Verdict::Unverified,
            reasons: vec![],
            evidence,
            mode: Mode::Observe,
            held_back: false,
        }),
        ..plain
    }
}

fn learned_site(reports: &[Came]) -> Site {
    let site = Site::new();
    let made = create(&site, "Contoso");
    receive(&site, text(&made, "address"), reports);
    site
}

#[test]
fn the_first_reports_teach_who_sends_and_others_do_not() {
    let plain = Came { class: Class::Plain, orgs: &["plain.example"], ..PROVEN };
    let ndr = Came { class: Class::JournalNdr, ..PROVEN };
    let double = Came { orgs: &[TENANT, "evil.example"], ..PROVEN };
    let site = learned_site(&[PROVEN, plain, ndr, FORGED, double]);
    std::fs::remove_file(site.path("data/index.sqlite")).unwrap();
    let shown = show(&site, "Contoso");
    let learned = &shown["learned"];
    assert_eq!((&learned["reports"], &learned["verdicts"]["unverified"]), (&json!(4), &json!(4)));
    let one = |value: &str, reports: u64| json!({ "value": value, "reports": reports });
    assert_eq!(learned["tenants_proven"], json!([one(TENANT, 2)]));
    assert_eq!(learned["tenants_elsewhere"], json!([one(TENANT, 2), one("evil.example", 1)]));
    assert_eq!(learned["ld_processed"], json!([one("0a1b-guid", 4)]));
    assert_eq!(learned["senders"], json!([one("<MicrosoftExchange@contoso.onmicrosoft.com>", 4)]));
    assert_eq!(learned["reverse_paths"], json!([one("ndr@contoso.example", 4)]));
    assert_eq!(learned["networks"], json!([one("40.92.1.0/24", 3), one("198.51.100.0/24", 1)]));
    assert_eq!(learned["certificates"][0]["sha256"], "cd".repeat(32));
    assert_eq!(learned["certificates"][0]["exchange"], 3);
    assert_eq!(shown["recent"]["messages"], 5);
    let page = site.run(&["mailbox", "show", "Contoso"]).expect(0).stdout;
    for word in
        ["Learned from the only 4 reports", "contoso.onmicrosoft.com (2)", "mailbox pin mbx-", "unverified 5"]
    {
        assert!(page.contains(word), "{word} is not in\n{page}");
    }

    let flood: Vec<Came> = (0..120).map(|_| FORGED).collect();
    receive(&site, text(&shown, "address"), &flood);
    let learned = &show(&site, "Contoso")["learned"];
    assert_eq!((&learned["reports"], &learned["tenants_proven"][0]["reports"]), (&json!(100), &json!(2)));
    assert_eq!(learned["complete"], false);
}

#[test]
fn junk_before_the_journal_rule_neither_hides_the_tenant_nor_lets_another_be_pinned_unseen() {
    let flood = |count: usize| (0..count).map(|_| FORGED);
    // More reports than teach came from anybody before the first proven one.
    let site = learned_site(&flood(150).chain([PROVEN, PROVEN]).collect::<Vec<_>>());
    let shown = show(&site, "Contoso");
    let one = |value: &str, reports: u64| json!([{ "value": value, "reports": reports }]);
    assert_eq!(shown["learned"]["tenants_proven"], one(TENANT, 2));
    assert_eq!(shown["learned"]["tenants_recent"], one(TENANT, 2));
    let page = site.run(&["mailbox", "show", "Contoso"]).expect(0).stdout;
    assert!(
        page.contains("Learned from the first 100 reports") && page.contains("mailbox pin mbx-"),
        "{page}"
    );

    // More messages than are looked through came before it: the last ones tell.
    let plain = (0..1_000).map(|_| Came { class: Class::Plain, ..FORGED });
    let site = learned_site(&plain.chain([FORGED, PROVEN]).collect::<Vec<_>>());
    let learned = &show(&site, "Contoso")["learned"];
    assert_eq!((&learned["tenants_proven"], &learned["tenants_recent"]), (&json!([]), &one(TENANT, 1)));
    assert_eq!(learned["complete"], false);
    site.run(&["mailbox", "pin", "Contoso"]).expect(4);
    // Another tenant lately: neither is guessed.
    let address = text(&show(&site, "Contoso"), "address").to_owned();
    receive(&site, &address, &[Came { orgs: &["fabrikam.onmicrosoft.com"], ..PROVEN }]);
    let refused = site.run(&["mailbox", "pin", "Contoso", "--yes"]).expect(1);
    assert!(refused.stderr.contains("more than one tenant"), "{}", refused.stderr);
    let page = site.run(&["mailbox", "show", "Contoso"]).expect(0).stdout;
    assert!(!page.contains("mailbox pin mbx-") && !page.contains("only"), "{page}");

    // The first say one, the last another.
    let first = Came { orgs: &["fabrikam.onmicrosoft.com"], ..PROVEN };
    let site = learned_site(&std::iter::once(first).chain(flood(600)).chain([PROVEN]).collect::<Vec<_>>());
    site.run(&["mailbox", "pin", "Contoso", "--yes"]).expect(1);
}

#[test]
fn a_new_address_is_in_a_domain_that_is_configured_still() {
    let site = Site::new();
    create(&site, "Contoso");
    let text_of = std::fs::read_to_string(site.path("daybook.toml")).unwrap();
    site.write("daybook.toml", &text_of.replace(&format!("\"{DOMAIN}\", "), ""));
    let said = site.run(&["mailbox", "rotate", "Contoso"]).expect(0).stdout;
    assert!(said.contains(&format!("{DOMAIN} is not one of the configured domains any more")), "{said}");
    assert!(text(&show(&site, "Contoso"), "address").ends_with("@second.example"));
    let again = json_of(&site.run(&["mailbox", "rotate", "Contoso", "--json"]).expect(0));
    assert_eq!(again.get("notes"), None, "{again}");
}

#[test]
fn the_tenant_that_was_learned_is_pinned_after_an_approval() {
    let site = learned_site(&[PROVEN, PROVEN, FORGED]);
    let asked = site.run(&["mailbox", "pin", "Contoso"]).expect(4);
    assert!(
        asked.stderr.contains("2 of the first reports over") && asked.stderr.contains("--yes"),
        "{}",
        asked.stderr
    );
    assert_eq!(show(&site, "Contoso")["tenant"], Value::Null, "nothing was done");
    let contradicts = site.run(&["mailbox", "pin", "Contoso", "--tenant", "other.example"]).expect(4);
    assert!(contradicts.stderr.contains("contradicts what was learned: contoso.onmicrosoft.com (2)"));

    let pinned = json_of(&site.run(&["mailbox", "pin", "Contoso", "--yes", "--json"]).expect(0));
    assert_eq!(pinned["tenant"], TENANT);
    // Once more there is nothing to approve.
    site.run(&["mailbox", "pin", "Contoso"]).expect(0);
    let page =
        site.run(&["mailbox", "pin", "Contoso", "--tenant", "other.example", "--yes"]).expect(0).stdout;
    assert!(
        page.contains("the tenant named is other.example, and reports from Exchange Online bear another"),
        "{page}"
    );

    let certificate = "ef".repeat(32);
    let pin = ["mailbox", "pin", "Contoso", "--certificate", &certificate];
    site.run(&pin).expect(4);
    let pinned = json_of(&site.run(&[&pin[..], &["--yes", "--json"]].concat()).expect(0));
    assert_eq!(
        (&pinned["pinned_certificates"], &pinned["tenant"]),
        (&json!([certificate]), &json!("other.example"))
    );
    let shared = site.run(&["mailbox", "pin", "Contoso", "--certificate", &"cd".repeat(32)]).expect(4);
    assert!(shared.stderr.contains("every tenant of Microsoft would be trusted"), "{}", shared.stderr);
}

#[test]
fn without_one_tenant_learned_nothing_is_guessed() {
    let site = learned_site(&[FORGED]);
    let refused = site.run(&["mailbox", "pin", "Contoso", "--yes"]).expect(1);
    assert!(
        refused.stderr.contains("no tenant was learned")
            && refused.stderr.contains("contoso.onmicrosoft.com (1)")
    );
    let site = learned_site(&[PROVEN, Came { orgs: &["fabrikam.onmicrosoft.com"], ..PROVEN }]);
    let refused = site.run(&["mailbox", "pin", "Contoso", "--yes"]).expect(1);
    for tenant in [TENANT, "fabrikam.onmicrosoft.com"] {
        assert!(refused.stderr.contains(tenant), "{}", refused.stderr);
    }
    site.run(&["mailbox", "pin", "Contoso", "--tenant", TENANT, "--yes"]).expect(0);
    // A server says the same.
    let mut server = site.serve();
    let asked = site.run(&["mailbox", "pin", "Contoso", "--tenant", "fabrikam.onmicrosoft.com"]).expect(4);
    assert!(asked.stderr.contains("it replaces the tenant named before: contoso.onmicrosoft.com"));
    assert_eq!(server.terminate(), 0);
}
