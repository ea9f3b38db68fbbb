//! The `ldap` source against a server that does what no real one can be made to do: nothing but a whole answer is a list.
//!
//! What real servers say stands in `real/ldap`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/ldap_fake.rs"]
mod ldap_fake;

use daybook::config::{Filters, LdapFlavour, LdapSecurity, LdapSource as Settings, SecretSource};
use daybook::directory::source::ldap::LdapSource;
use daybook::directory::{Listing, Source, SourceError};
use ldap_fake::{BIND, EXTENDED, Fake, Request, SEARCH, Said, element};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

const SOON: Duration = Duration::from_secs(30);

/// How one server is asked; the file holds the password.
struct Asking {
    settings: Settings,
    _password: NamedTempFile,
}

fn asking(fake: &Fake) -> Asking {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(&file, "secret").unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    let settings = Settings {
        host: "127.0.0.1".to_owned(),
        port: fake.address.port(),
        security: LdapSecurity::None,
        ca_file: None,
        bind_dn: "reader@corp.example".to_owned(),
        password: SecretSource::File(file.path().to_owned()),
        base: "DC=corp,DC=example".to_owned(),
        flavour: LdapFlavour::Rfc2798,
        filter: None,
        page_entries: 10,
    };
    Asking { settings, _password: file }
}

impl Asking {
    fn read(&self) -> Result<Listing, SourceError> {
        LdapSource::new(&self.settings, &Filters::default()).read(&|| true)
    }
}

fn somebody(request: &Request, number: usize) -> Vec<u8> {
    let (id, mail) = (format!("id-{number}"), format!("u{number}@x.example"));
    request.entry(
        &format!("uid=u{number}"),
        &[("entryUUID", &[&id]), ("mail", &[&mail]), ("cn", &["Some Body"])],
    )
}

/// Two pages of two, and after the last search what `last` says instead of its end.
fn check_broken(what: &str, last: impl Fn(&Request) -> Said + Send + 'static, kind: &str) {
    let fake = Fake::start(move |request| match (request.operation, request.searches) {
        (SEARCH, 0) => Some(Said::Answer(
            [somebody(request, 0), somebody(request, 1), request.page_done("next")].concat(),
        )),
        (SEARCH, _) => {
            let mut octets = somebody(request, 2);
            Some(match last(request) {
                Said::Answer(end) => Said::Answer({
                    octets.extend(end);
                    octets
                }),
                Said::Last(end) => Said::Last({
                    octets.extend(end);
                    octets
                }),
                Said::Nothing => Said::Answer(octets),
            })
        }
        _ => None,
    });
    let read = asking(&fake).read();
    match (&read, kind) {
        (Ok(listing), "") => assert_eq!(listing.candidates.len(), 3, "{what}"),
        (Err(error), kind) => assert_eq!(error.kind(), kind, "{what}: {error}"),
        (Ok(_), kind) => panic!("{what}: not {kind}: {read:?}"),
    }
}

#[test]
fn a_list_that_is_not_whole_is_no_list() {
    check_broken("a good end", |request| Said::Answer(request.page_done("")), "");
    check_broken("an end without the control", |request| Said::Answer(request.done(0, "")), "incomplete");
    check_broken("cut between entries", |_| Said::Last(Vec::new()), "unreachable");
    check_broken(
        "cut within the end",
        |request| Said::Last(request.page_done("")[..20].to_vec()),
        "unreachable",
    );
    check_broken("size limit", |request| Said::Answer(request.done(4, "")), "incomplete");
    check_broken("time limit", |request| Said::Answer(request.done(3, "")), "incomplete");
    check_broken("administrative limit", |request| Said::Answer(request.done(11, "")), "incomplete");
    check_broken("no pages", |request| Said::Answer(request.done(12, "")), "incomplete");
    check_broken("busy", |request| Said::Answer(request.done(51, "")), "unreachable");
    check_broken("no rights any more", |request| Said::Answer(request.done(50, "")), "refused");
    let again = |request: &Request| Said::Answer([somebody(request, 0), request.page_done("")].concat());
    check_broken("an entry of the first page again", again, "incomplete");
    check_broken("the same page for ever", |request| Said::Answer(request.page_done("next")), "incomplete");
    check_broken("HTTP", |_| Said::Answer(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), "incomplete");
    check_broken(
        "a message of 2 GiB",
        |_| Said::Answer(vec![0x30, 0x84, 0x7f, 0xff, 0xff, 0xff]),
        "too-large",
    );
    let deep = |request: &Request| {
        let deep = (0..10_000).fold(Vec::new(), |inner, _| element(0x30, &inner));
        Said::Answer(request.message(&element(0x64, &deep), &[]))
    };
    check_broken("elements in elements in elements", deep, "incomplete");
    let no_text = |request: &Request| {
        let result = [element(0x0a, &[0]), element(4, b"\xff"), element(4, b"")].concat();
        Said::Answer(request.message(&element(0x65, &result), &[]))
    };
    check_broken("a result that is no text", no_text, "incomplete");
    let bare = |request: &Request| Said::Answer(request.message(&element(0x64, &[]), &[]));
    check_broken("an entry without anything", bare, "incomplete");
}

#[test]
fn a_server_that_knows_no_pages_says_everything_at_once() {
    let fake = Fake::start(|request| {
        (request.operation == SEARCH)
            .then(|| Said::Answer([somebody(request, 0), request.done(0, "")].concat()))
    });
    assert_eq!(asking(&fake).read().unwrap().candidates.len(), 1);
}

#[test]
fn pages_without_an_entry_are_no_end_and_end_sometime() {
    let fake = Fake::start(|request| match (request.operation, request.searches) {
        (SEARCH, 0..50) => Some(Said::Answer(request.page_done("next"))),
        (SEARCH, 50) => Some(Said::Answer([somebody(request, 1), request.page_done("")].concat())),
        _ => None,
    });
    let listing = asking(&fake).read().unwrap();
    assert_eq!((listing.candidates.len(), listing.requests), (1, 51));
    let endless =
        Fake::start(|request| (request.operation == SEARCH).then(|| Said::Answer(request.page_done("next"))));
    let error = asking(&endless).read().unwrap_err();
    assert_eq!(error.kind(), "incomplete", "{error}");
}

#[test]
fn an_attribute_that_comes_in_parts_is_asked_for_to_its_end() {
    let fake = Fake::start(|request| {
        let id: (&str, &[&str]) = ("entryUUID", &["id"]);
        let part = |name: &str, values: &[&str]| request.entry("uid=u", &[id, (name, values)]);
        let entry = match (request.operation, request.searches) {
            (SEARCH, 0) => part("proxyAddresses;range=0-1", &["smtp:a@x.example", "SMTP:b@x.example"]),
            (SEARCH, 1) if request.says("proxyaddresses;range=2-*") => {
                part("proxyAddresses;range=2-2", &["smtp:c@x.example"])
            }
            (SEARCH, 2) if request.says("proxyaddresses;range=3-*") => {
                part("proxyAddresses;range=3-*", &["x500:/o=a"])
            }
            _ => return None,
        };
        Some(Said::Answer([entry, request.page_done("")].concat()))
    });
    let listing = asking(&fake).read().unwrap();
    let candidate = listing.candidates.first().unwrap();
    assert_eq!(candidate.primary.as_ref().unwrap().as_str(), "b@x.example");
    assert_eq!(candidate.aliases.len(), 3, "{candidate:?}");
    // One that is promised and does not come.
    let broken = Fake::start(|request| {
        let first: &[(&str, &[&str])] =
            &[("entryUUID", &["id"]), ("proxyAddresses;range=0-0", &["smtp:a@x.example"])];
        let entry = request.entry("uid=u", if request.searches == 0 { first } else { &[] });
        (request.operation == SEARCH).then(|| Said::Answer([entry, request.page_done("")].concat()))
    });
    assert_eq!(asking(&broken).read().unwrap_err().kind(), "incomplete");
}

#[test]
fn what_active_directory_says_of_a_login_becomes_advice() {
    let check = |code: &'static str, expect: &str| {
        let said = format!(
            "80090308: LdapErr: DSID-0C090447, comment: AcceptSecurityContext error, data {code}, v4563\0"
        );
        let fake = Fake::start(move |request| {
            (request.operation == BIND).then(|| Said::Answer(request.done(49, &said)))
        });
        let error = asking(&fake).read().unwrap_err();
        assert!(error.to_string().contains(&format!("data {code}")), "{error}");
        assert!(error.advice().unwrap().contains(expect), "{code}: {:?}", error.advice());
    };
    check("525", "no such account");
    check("52e", "password is wrong");
    check("530", "logon hours");
    check("531", "workstations");
    check("532", "has expired: set a new one");
    check("533", "is disabled");
    check("701", "account has expired");
    check("773", "must change its password");
    check("775", "is locked");
    check("abc", "Check bind_dn");
}

#[test]
fn other_servers_parts_of_the_tree_are_told_of_and_not_followed() {
    let fake = Fake::start(|request| {
        let answer = [
            request.reference("ldap://ForestDnsZones.corp.example/DC=ForestDnsZones,DC=corp,DC=example"),
            somebody(request, 1),
            request.reference("ldap://child.corp.example/DC=child,DC=corp,DC=example"),
            request.page_done(""),
        ];
        (request.operation == SEARCH).then(|| Said::Answer(answer.concat()))
    });
    let listing = asking(&fake).read().unwrap();
    assert_eq!(listing.candidates.len(), 1);
    assert_eq!(listing.skipped.len(), 1, "{:?}", listing.skipped);
    assert!(listing.skipped[0].entry.contains("child.corp.example"));
    let elsewhere = Fake::start(|request| {
        (request.operation == SEARCH).then(|| Said::Answer(request.referral("ldap://other.example/")))
    });
    let error = asking(&elsewhere).read().unwrap_err();
    assert!(
        matches!(&error, SourceError::Refused { said, .. } if said.contains("ldap://other.example/")),
        "{error}"
    );
}

#[test]
fn a_silent_server_is_left_soon_after_the_program_is_told_to_stop() {
    for silent in [BIND, SEARCH] {
        let fake = Fake::start(move |request| (request.operation == silent).then_some(Said::Nothing));
        let asking = asking(&fake);
        let began = Instant::now();
        let source = LdapSource::new(&asking.settings, &Filters::default());
        let read = source.read(&|| began.elapsed() < Duration::from_millis(100));
        assert!(matches!(read, Err(SourceError::Stopped)), "{read:?}");
        assert!(began.elapsed() < SOON);
    }
}

#[test]
fn no_password_is_sent_in_clear_to_another_machine_or_before_tls() {
    let fake = Fake::start(|_| None);
    let mut asking_it = asking(&fake);
    asking_it.settings.host = "192.0.2.1".to_owned();
    let began = Instant::now();
    let error = asking_it.read().unwrap_err();
    assert!(
        error.advice().is_some_and(|advice| advice.contains("ldaps")) && began.elapsed() < SOON,
        "{error}"
    );

    let mut asking_it = asking(&fake);
    asking_it.settings.security = LdapSecurity::StartTls;
    let error = asking_it.read().unwrap_err();
    assert!(error.advice().is_some_and(|advice| advice.contains("ldaps")), "{error}");

    // What is slipped in behind the consent, in clear, is taken for TLS, and is none.
    let slipping = Fake::start(|request| {
        let consent = [request.done(0, ""), request.done(0, "slipped in")].concat();
        (request.operation == EXTENDED).then_some(Said::Answer(consent))
    });
    let mut asking_it = asking(&slipping);
    asking_it.settings.security = LdapSecurity::StartTls;
    assert_eq!(asking_it.read().unwrap_err().kind(), "unreachable");

    let mut asking_it = asking(&fake);
    asking_it.settings.security = LdapSecurity::Ldaps;
    assert_eq!(asking_it.read().unwrap_err().kind(), "unreachable");
    assert_eq!(fake.passwords() + slipping.passwords(), 0);
}

#[test]
fn entries_that_are_nobody_are_listed_with_the_reason() {
    let fake = Fake::start(|request| {
        let answer = [
            request.entry("uid=anonymous", &[("mail", &["a@x.example"])]),
            request.entry("uid=bad", &[("entryUUID", &["1"]), ("mail", &["no address"]), ("uid", &["bad"])]),
            request.page_done(""),
        ];
        (request.operation == SEARCH).then(|| Said::Answer(answer.concat()))
    });
    let listing = asking(&fake).read().unwrap();
    let skipped: Vec<String> =
        listing.skipped.iter().map(|skipped| format!("{}: {}", skipped.entry, skipped.why)).collect();
    assert_eq!(skipped.len(), 2, "{skipped:?}");
    assert!(skipped[0].starts_with("uid=anonymous: has no entryUUID"), "{skipped:?}");
    assert!(skipped[1].contains("no address"), "{skipped:?}");
    let bad = listing.candidates.first().unwrap();
    assert_eq!((bad.name.as_str(), &bad.primary), ("bad", &None));
}
