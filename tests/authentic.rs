//! What is not authentic reaches no archive in enforce and strict mode, what is genuine always does, and nothing is lost.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "authentic/cases.rs"]
mod cases;

use cases::{
    Case, EXCHANGE, PIN, RELAY, STRANGER, TENANT, exchange_tls, feigned, feigned_original, forged, genuine,
    ndr, ndr_of_many_parts, ndr_of_our_header, report, report_of, self_made,
};
use daybook::config::{DirectorySource, Exchange};
use daybook::directory::Directory;
use daybook::mail::*;
use daybook::pipeline::Pipeline;
use daybook::smtp::{Peer, Receiver, RecipientVerdict};
use daybook::store::*;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

struct Gateway {
    store: Arc<Embedded>,
    pipeline: Arc<Pipeline>,
    runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

fn networks(written: &[&str]) -> Vec<Network> {
    written.iter().map(|network| network.parse().unwrap()).collect()
}

fn exchange() -> Exchange {
    Exchange { networks: networks(&["198.51.100.0/24", "2001:db8:ec::/48"]), ..Exchange::default() }
}

impl Gateway {
    fn new() -> Gateway {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) =
            Embedded::open(&Options { data_dir: dir.path().to_owned(), reserve_octets: 0 }).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/demo/users.toml");
        let source = DirectorySource::file("users", path);
        let (directory, report) = Directory::open(&[source]);
        assert!(report.is_good());
        let store = Arc::new(store);
        let pipeline = Pipeline::new(store.clone(), Arc::new(directory), &exchange());
        Gateway { store, pipeline, runtime: tokio::runtime::Runtime::new().unwrap(), _dir: dir }
    }

    /// A gateway mailbox pinned to the tenant, with a trusted network and a pinned certificate.
    fn create(&self, mode: Mode, changes: &[GatewayMailboxChange]) -> (Arc<GatewayMailbox>, Unlocked) {
        self.create_for(Role::Journal, mode, changes)
    }

    fn create_for(
        &self,
        role: Role,
        mode: Mode,
        changes: &[GatewayMailboxChange],
    ) -> (Arc<GatewayMailbox>, Unlocked) {
        let new = NewGatewayMailbox {
            name: "Contoso".to_owned(),
            domain: "gw.example".to_owned(),
            tenant: Some(TENANT.to_owned()),
            profile: Profile::Microsoft365,
            role,
        };
        let (made, password) = self.runtime.block_on(self.store.create_gateway_mailbox(new, "test")).unwrap();
        let trust =
            Trust { mode, networks: networks(&["203.0.113.0/24"]), certificates: vec![PIN.to_owned()] };
        let trust = GatewayMailboxChange::Trust { was: Trust::default(), becomes: trust };
        let changes = [&[trust], changes].concat();
        self.runtime.block_on(self.store.change_gateway_mailbox(made.id, changes, "test")).unwrap();
        let key = self.store.unlock(made.login(), &password).unwrap();
        (self.store.gateway_mailbox(&made.address().unwrap().key()).unwrap(), key)
    }

    fn send(&self, to: &[&GatewayMailbox], peer: &str, tls: Option<TlsFacts>, message: &str) -> ReceiptId {
        let receipt_id = self.pipeline.receipt_id();
        let envelope = TransportEnvelope {
            session_id: self.pipeline.session_id(),
            peer: peer.parse().unwrap(),
            helo: "mail.example".to_owned(),
            tls,
            reverse_path: ReversePath::Null,
            recipients: to.iter().map(|m| m.address().unwrap().clone()).collect(),
            smtputf8: false,
            pulled: None,
        };
        self.runtime.block_on(async {
            let mut reception = self.pipeline.begin(receipt_id, envelope).unwrap();
            for chunk in message.as_bytes().chunks(4096) {
                reception.write(chunk).await.unwrap();
            }
            reception.commit().await.unwrap();
        });
        receipt_id
    }

    fn try_case(&self, to: &GatewayMailbox, n: usize, case: &Case) -> ReceiptView {
        let id = self.send(&[to], case.peer, case.tls.clone(), &(case.message)(n));
        let mut views = self.receipts(id);
        assert_eq!(views.len(), 1);
        let view = views.remove(0);
        let judgement = view.judgement.as_ref().unwrap();
        assert_eq!(judgement.verdict, case.verdict, "{}: {:?}", case.name, judgement.reasons);
        assert!(!judgement.reasons.is_empty(), "{}", case.name);
        view
    }

    fn receipts(&self, id: ReceiptId) -> Vec<ReceiptView> {
        self.store.receipts(&ReceiptQuery::Id(id), Timestamp::from_unix_ms(0), 10).unwrap()
    }

    /// How many entries each folder has that is not empty; Quarantine last.
    fn folders(&self, of: &GatewayMailbox) -> Vec<(String, u64)> {
        let all = self.store.folders(of.id).unwrap().into_iter().map(|f| (f.path, f.entries));
        let mut all: Vec<_> = all.filter(|(_, entries)| *entries > 0).collect();
        all.sort_by_key(|(path, _)| path == "Quarantine");
        all
    }

    fn last_in(&self, key: &Unlocked, folder: &FolderName) -> String {
        let listing = self.store.list(key.gateway_mailbox.id, folder).unwrap();
        let mut octets = Vec::new();
        self.store
            .open(key, listing.entries.last().unwrap().message)
            .unwrap()
            .read_to_end(&mut octets)
            .unwrap();
        String::from_utf8(octets).unwrap()
    }
}

fn named(folders: &[(String, u64)]) -> Vec<(&str, u64)> {
    folders.iter().map(|(path, n)| (path.as_str(), *n)).collect()
}

#[test]
fn no_forgery_reaches_inbox_or_a_user_in_enforce_mode_and_all_are_kept_whole() {
    let forged = forged();
    assert!(forged.len() >= 24);
    for mode in [Mode::Enforce, Mode::Strict] {
        let gateway = Gateway::new();
        let (mailbox, key) = gateway.create(mode, &[]);
        for (n, case) in forged.iter().enumerate() {
            let view = gateway.try_case(&mailbox, n, case);
            assert!(view.judgement.as_ref().unwrap().held_back, "{}", case.name);
            assert_eq!(named(&gateway.folders(&mailbox)), [("Quarantine", n as u64 + 1)], "{}", case.name);
            assert!(gateway.last_in(&key, &FolderName::Quarantine) == (case.message)(n), "{}", case.name);
            let [placement] = view.placements.as_slice() else { panic!("{}: {view:?}", case.name) };
            let why = placement.reasons.join("; ");
            assert!(
                why.contains(case.verdict.as_str()) && why.contains(mode.as_str()),
                "{}: {why}",
                case.name
            );
        }
    }
}

#[test]
fn everything_genuine_reaches_inbox_and_its_users_in_enforce_mode() {
    let gateway = Gateway::new();
    let (mailbox, key) = gateway.create(Mode::Enforce, &[]);
    for (n, case) in genuine().iter().enumerate() {
        let view = gateway.try_case(&mailbox, n, case);
        assert_eq!(gateway.last_in(&key, &FolderName::Inbox), (case.message)(n), "{}", case.name);
        let bob = FolderName::User { user: "bob".to_owned(), folder: UserFolder::Incoming };
        let entries = |folder| gateway.store.list(mailbox.id, folder).unwrap().entries.len();
        assert_eq!((entries(&FolderName::Inbox), entries(&bob)), (n + 1, n + 1), "{}", case.name);
        assert!(!view.judgement.unwrap().held_back);
    }
    assert!(gateway.folders(&mailbox).iter().all(|(path, _)| path != "Quarantine"));
}

#[test]
fn in_observe_mode_everything_is_delivered_and_judged_all_the_same() {
    let gateway = Gateway::new();
    let (mailbox, key) = gateway.create(Mode::Observe, &[]);
    for (n, case) in genuine().iter().chain(&forged()).enumerate() {
        let view = gateway.try_case(&mailbox, n, case);
        assert!(!view.judgement.unwrap().held_back, "{}", case.name);
        assert!(gateway.last_in(&key, &FolderName::Inbox) == (case.message)(n), "{}", case.name);
        let inbox = gateway.store.list(mailbox.id, &FolderName::Inbox).unwrap();
        assert_eq!(inbox.entries.len(), n + 1, "{}", case.name);
    }
}

const DELIVERED: [(&str, u64); 4] = [
    ("INBOX", 1),
    ("Users/alice@contoso.example/Journal Outgoing", 1),
    ("Users/bob@contoso.example/Journal Incoming", 1),
    ("Users/carol@contoso.example/Journal Incoming", 1),
];

#[test]
fn a_forged_copy_neither_keeps_the_genuine_report_out_nor_comes_in_with_it() {
    for genuine_first in [false, true] {
        let gateway = Gateway::new();
        let (mailbox, _) = gateway.create(Mode::Enforce, &[]);
        let genuine = || gateway.send(&[&mailbox], EXCHANGE, exchange_tls(), &report(1));
        let copy = || gateway.send(&[&mailbox], STRANGER, None, &report(1));
        let similar = || gateway.send(&[&mailbox], STRANGER, None, &format!("X: y\r\n{}", report(1)));
        let first = if genuine_first { genuine() } else { copy() };
        similar();
        let second = if genuine_first { copy() } else { genuine() };
        let mut expect = DELIVERED.to_vec();
        expect.push(("Quarantine", 2));
        assert_eq!(named(&gateway.folders(&mailbox)), expect, "genuine first: {genuine_first}");
        // The same octets again add nothing, each to its own kind.
        let (genuine, copy) = (genuine(), copy());
        assert_eq!(named(&gateway.folders(&mailbox)), expect);
        let repeats = |id| gateway.receipts(id)[0].repeats;
        let expect = if genuine_first { (first, second) } else { (second, first) };
        assert_eq!((repeats(genuine), repeats(copy)), (Some(expect.0), Some(expect.1)));
    }
}

#[test]
fn what_is_held_back_is_read_as_any_other_so_that_releasing_it_needs_no_key() {
    let gateway = Gateway::new();
    let (mailbox, _) = gateway.create(Mode::Enforce, &[]);
    let view = gateway.receipts(gateway.send(&[&mailbox], STRANGER, None, &ndr(1))).remove(0);
    assert_eq!(view.class, Class::JournalNdr);
    assert_eq!(view.reports[0].originals, [1]);
    assert_eq!(view.reports[0].envelope.recipients[0].address.as_str(), "carol@contoso.example");
    let returned = view.judgement.unwrap().evidence.returned.unwrap();
    assert_eq!(returned.originator_orgs, [TENANT]);
    assert_eq!(returned.senders, [format!("<MicrosoftExchange329e71ec88ae4615bbc36ab6ce41109e@{TENANT}>")]);
}

#[test]
fn a_pure_gateway_and_a_generic_one_hold_back_too() {
    let gateway = Gateway::new();
    let (pure, _) = gateway.create(Mode::Enforce, &[GatewayMailboxChange::Archive(false)]);
    let (generic, _) = gateway.create(Mode::Enforce, &[GatewayMailboxChange::Profile(Profile::Generic)]);
    let (open, _) = gateway.create(Mode::Observe, &[]);
    // One transaction to all: each judges for itself.
    let id = gateway.send(&[&pure, &generic, &open], STRANGER, None, &report(1));
    assert_eq!(named(&gateway.folders(&pure)), [("Quarantine", 1)]);
    assert_eq!(named(&gateway.folders(&generic)), [("Quarantine", 1)]);
    assert_eq!(named(&gateway.folders(&open)), DELIVERED);
    let held_back = gateway.receipts(id).iter().filter(|v| v.judgement.as_ref().unwrap().held_back).count();
    assert_eq!(held_back, 2);
    gateway.send(&[&pure, &generic], EXCHANGE, exchange_tls(), &report(1));
    assert_eq!(named(&gateway.folders(&pure)), [("INBOX", 1), ("Quarantine", 1)]);
    assert_eq!(named(&gateway.folders(&generic)), [("INBOX", 1), ("Unassigned", 1), ("Quarantine", 1)]);
}

#[test]
fn strict_mode_hears_only_peers_whose_mail_could_be_authentic() {
    let gateway = Gateway::new();
    let (strict, _) = gateway.create(Mode::Strict, &[]);
    let (enforce, _) = gateway.create(Mode::Enforce, &[]);
    let ask = |address: &Address, peer: &str, tls: Option<&TlsFacts>| {
        let address_of_peer = peer.parse::<std::net::SocketAddr>().unwrap().ip();
        let session_id = gateway.pipeline.session_id();
        let peer = Peer { session_id, receipt_id: None, address: address_of_peer, tls };
        gateway.pipeline.recipient(address, &[], &peer)
    };
    let address = |of: &GatewayMailbox| of.address().unwrap().clone();
    let strict_address = address(&strict);
    assert_eq!(ask(&strict_address, STRANGER, exchange_tls().as_ref()), RecipientVerdict::Forbidden);
    assert_eq!(ask(&strict_address, STRANGER, self_made(PIN, false).as_ref()), RecipientVerdict::Forbidden);
    assert_eq!(ask(&strict_address, "[::198.51.100.7]:25", None), RecipientVerdict::Forbidden);
    for (peer, tls) in [
        (EXCHANGE, None),
        ("[::ffff:198.51.100.7]:25", None),
        (RELAY, None),
        (STRANGER, self_made(PIN, true)),
    ] {
        assert_eq!(ask(&strict_address, peer, tls.as_ref()), RecipientVerdict::Accept, "{peer}");
    }
    assert_eq!(ask(&address(&enforce), STRANGER, None), RecipientVerdict::Accept);
    assert_eq!(ask(&"mbx-0@gw.example".parse().unwrap(), STRANGER, None), RecipientVerdict::Unknown);

    // The ranges have changed: they hold from the next question on, and for the verdict too.
    gateway.pipeline.replace_exchange(&Exchange { networks: networks(&["192.0.2.0/24"]), ..exchange() });
    assert_eq!(ask(&strict_address, STRANGER, None), RecipientVerdict::Accept);
    assert_eq!(ask(&strict_address, EXCHANGE, None), RecipientVerdict::Forbidden);
    gateway.send(&[&strict], STRANGER, exchange_tls(), &report(1));
    assert_eq!(named(&gateway.folders(&strict)), DELIVERED);
}

const INNER: (&str, &str) = (
    "inner-report-not-assigned",
    "a report inside the original was not unwrapped to users: only the outermost is proven",
);

fn of_user(user: &str, folder: UserFolder) -> FolderName {
    FolderName::User { user: user.to_owned(), folder }
}

/// The findings of a receipt that name a report inside an original.
fn findings(view: &ReceiptView) -> Vec<(&str, &str)> {
    let all = view.defects.iter().map(|(kind, why)| (kind.as_str(), why.as_str()));
    all.filter(|(kind, _)| *kind == INNER.0).collect()
}

#[test]
fn a_report_feigned_inside_a_genuine_one_gives_nobody_anything_and_takes_nothing_from_those_who_got_it() {
    let faulty = |n| {
        feigned(n).replace(
            "Content-Type: message/rfc822\r\n",
            "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: x-none\r\n",
        ) + "\r\n"
    };
    for (peer, tls) in [(EXCHANGE, exchange_tls()), (RELAY, None), (STRANGER, self_made(PIN, true))] {
        for mode in [Mode::Enforce, Mode::Strict] {
            let gateway = Gateway::new();
            let (mailbox, key) = gateway.create(mode, &[]);
            let view =
                gateway.receipts(gateway.send(&[&mailbox], peer, tls.clone(), &report_of(1, &feigned(1))));
            assert_eq!(named(&gateway.folders(&mailbox)), DELIVERED, "{peer}");
            assert_eq!(gateway.last_in(&key, &of_user("bob", UserFolder::Incoming)), feigned(1));
            assert_eq!(
                (view[0].reports.len(), findings(&view[0])),
                (2, vec![INNER]),
                "recorded all the same"
            );

            // Nor does one of which the whole would have to be kept in Quarantine.
            gateway.send(&[&mailbox], peer, tls.clone(), &report_of(2, &faulty(2)));
            assert_eq!(gateway.last_in(&key, &of_user("bob", UserFolder::Incoming)), faulty(2));

            let mut deep = feigned(50);
            for n in 51..62 {
                deep = feigned(n).replace(&feigned_original(n), &deep);
            }
            gateway.send(&[&mailbox], peer, tls.clone(), &report_of(4, &deep));
            assert_eq!(gateway.last_in(&key, &of_user("bob", UserFolder::Incoming)), deep);

            // Nobody whom the proven one names is known: it is kept for an admin, as it was.
            let unknown = report_of(3, &feigned(3)).replacen("alice@contoso", "a@contoso", 9);
            let unknown = unknown
                .replace("To: bob@contoso", "To: b@contoso")
                .replace("To: carol@contoso", "To: c@contoso");
            gateway.send(&[&mailbox], peer, tls.clone(), &unknown);
            let kept = gateway.last_in(&key, &FolderName::Unassigned);
            assert!(kept.contains("feigned-3@journal.report.generator"), "{kept}");
            let erin = gateway.store.list(mailbox.id, &of_user("erin", UserFolder::Incoming)).unwrap();
            assert_eq!(erin.entries.len(), 0);
        }
    }
}

#[test]
fn in_observe_mode_a_report_of_a_report_is_read_and_each_names_who_gets_its_own_originals() {
    let gateway = Gateway::new();
    let (mailbox, key) = gateway.create(Mode::Observe, &[]);
    let id = gateway.send(&[&mailbox], EXCHANGE, exchange_tls(), &report_of(1, &feigned(1)));
    for user in ["bob", "carol"] {
        assert_eq!(gateway.last_in(&key, &of_user(user, UserFolder::Incoming)), feigned(1), "{user}");
    }
    assert_eq!(gateway.last_in(&key, &of_user("alice", UserFolder::Outgoing)), feigned(1));
    assert_eq!(gateway.last_in(&key, &of_user("carol", UserFolder::Outgoing)), feigned_original(1));
    assert_eq!(gateway.last_in(&key, &of_user("erin", UserFolder::Incoming)), feigned_original(1));
    assert_eq!(gateway.folders(&mailbox).iter().map(|(_, entries)| entries).sum::<u64>(), 6);
    assert_eq!(findings(&gateway.receipts(id)[0]), []);

    // One with more originals than any report has gives them to nobody.
    let original = "Content-Type: message/rfc822\r\n\r\nSubject: s\r\n\r\nb\r\n--feigned-2\r\n".repeat(20);
    let many = feigned(2).replacen(
        "Content-Type: message/rfc822\r\n",
        &(original + "Content-Type: message/rfc822\r\n"),
        1,
    );
    let id = gateway.send(&[&mailbox], EXCHANGE, exchange_tls(), &report_of(2, &many));
    assert_eq!(gateway.last_in(&key, &of_user("bob", UserFolder::Incoming)), many);
    let view = gateway.receipts(id).remove(0);
    assert_eq!((view.reports[1].originals.len(), view.reports.len()), (21, 2));
    assert!(findings(&view)[0].1.contains("too many originals"), "{:?}", view.defects);
    assert_eq!(
        gateway.store.list(mailbox.id, &of_user("erin", UserFolder::Incoming)).unwrap().entries.len(),
        1
    );
}

#[test]
fn what_was_taken_off_an_ndr_proves_it_whatever_became_of_the_rest() {
    let gateway = Gateway::new();
    let (mailbox, _) = gateway.create(Mode::Enforce, &[]);
    for (n, message, class) in
        [(1, ndr_of_our_header(1), Class::NdrWithoutReport), (2, ndr_of_many_parts(2), Class::Unreadable)]
    {
        let view = gateway.receipts(gateway.send(&[&mailbox], EXCHANGE, exchange_tls(), &message)).remove(0);
        let judgement = view.judgement.unwrap();
        assert_eq!((view.class, judgement.verdict), (class, Verdict::Authentic), "{:?}", judgement.reasons);
        assert_eq!(judgement.evidence.returned.unwrap().originator_orgs, [TENANT]);
        assert_eq!(named(&gateway.folders(&mailbox)), [("INBOX", n), ("Quarantine", n)]);
    }
}

#[test]
fn the_mode_at_the_end_of_a_message_counts_not_the_one_at_its_beginning() {
    let gateway = Gateway::new();
    let (mailbox, _) = gateway.create(Mode::Observe, &[]);
    let envelope = TransportEnvelope {
        session_id: gateway.pipeline.session_id(),
        peer: STRANGER.parse().unwrap(),
        helo: "mail.example".to_owned(),
        tls: None,
        reverse_path: ReversePath::Null,
        recipients: vec![mailbox.address().unwrap().clone()],
        smtputf8: false,
        pulled: None,
    };
    gateway.runtime.block_on(async {
        let mut reception = gateway.pipeline.begin(gateway.pipeline.receipt_id(), envelope).unwrap();
        reception.write(report(1).as_bytes()).await.unwrap();
        // While the peer takes its time, the admin turns it on.
        let becomes = Trust { mode: Mode::Enforce, ..mailbox.trust.clone() };
        let change = GatewayMailboxChange::Trust { was: mailbox.trust.clone(), becomes };
        gateway.store.change_gateway_mailbox(mailbox.id, vec![change], "test").await.unwrap();
        reception.commit().await.unwrap();
    });
    assert_eq!(named(&gateway.folders(&mailbox)), [("Quarantine", 1)]);
}

#[test]
fn what_an_ndr_mailbox_recovers_is_judged_by_the_pins_and_the_mode_of_the_one_it_serves() {
    for (peer, tls, genuine) in [(EXCHANGE, exchange_tls(), true), (STRANGER, None, false)] {
        let gateway = Gateway::new();
        let (strict, _) = gateway.create(Mode::Strict, &[]);
        let other = vec![GatewayMailboxChange::Tenant(Some("fabrikam.onmicrosoft.example".to_owned()))];
        let (foreign, _) = gateway.create(Mode::Enforce, &other);
        // The NDR mailboxes themselves take anything.
        let ndrs_of = |served: &GatewayMailbox| {
            gateway.create_for(Role::Ndr { serves: served.id }, Mode::Observe, &[]).0
        };
        for (served, expect) in [
            (&strict, if genuine { Verdict::Authentic } else { Verdict::Unverified }),
            (&foreign, Verdict::Suspect),
        ] {
            let ndrs = ndrs_of(served);
            let id = gateway.send(&[&ndrs], peer, tls.clone(), &ndr(1));
            let views = gateway.receipts(id);
            let there = views.iter().find(|view| view.gateway_mailbox == served.id).unwrap();
            let judgement = there.judgement.as_ref().unwrap();
            assert_eq!(judgement.verdict, expect, "{:?}", judgement.reasons);
            let is_held_back = expect != Verdict::Authentic;
            assert_eq!(judgement.held_back, is_held_back);
            let quarantined = named(&gateway.folders(served)) == [("Quarantine", 1)];
            assert_eq!(quarantined, is_held_back, "{:?}", gateway.folders(served));
            assert_eq!(named(&gateway.folders(&ndrs)), [("INBOX", 1)]);
        }
    }
}
