//! Transactions that were turned away, among those that were not.

use super::*;

const START_MS: i64 = 1_800_000_000_000;

/// The `n`-th of a run, in the order of their beginning; it ended a second after its beginning.
fn told(n: u8, code: Option<u16>, to: &str, of: Option<&GatewayMailbox>) -> TurnedAway {
    TurnedAway {
        at: Timestamp::from_unix_ms(START_MS + i64::from(n) + 1_000),
        receipt_id: receipt(n),
        session_id: SessionId::new(1, [n; 10]),
        peer: "203.0.113.7:25".parse().unwrap(),
        helo: Some("peer".to_owned()),
        code,
        enhanced: code.map(|code| format!("{}.0.0", code / 100)),
        blame: "peer".to_owned(),
        reason: "for-the-test".to_owned(),
        sender: Some("Sender@Fabrikam.example".to_owned()),
        recipients: vec![to.to_owned()],
        recipient_count: 1,
        gateway_mailboxes: of.iter().map(|of| of.id).collect(),
        octets_declared: Some(70_000),
        octets_received: None,
        further_deferred: 0,
        further_refused: 0,
    }
}

fn all(most: usize) -> TransactionQuery {
    TransactionQuery {
        since: Timestamp::from_unix_ms(0),
        until: None,
        before: None,
        outcome: None,
        gateway_mailbox: None,
        most,
    }
}

/// Every page, and how many there were.
fn pages(store: &Embedded, query: &TransactionQuery) -> (Vec<TransactionView>, usize) {
    let (mut found, mut pages, mut query) = (Vec::new(), 0, query.clone());
    loop {
        let page = store.transactions(&query).unwrap();
        found.extend(page.transactions);
        pages += 1;
        match page.last {
            Some(last) => query.before = Some(last),
            None => return (found, pages),
        }
    }
}

fn numbers(found: &[TransactionView]) -> Vec<u8> {
    found.iter().map(|one| u8::try_from(i64_of(one.receipt_id) - START_MS).unwrap()).collect()
}

/// The time in an id.
fn i64_of(id: ReceiptId) -> i64 {
    let mut time = [0; 8];
    time[2..].copy_from_slice(&id.as_bytes()[..6]);
    i64::from_be_bytes(time)
}

/// Accepted: 2 and 5; refused: 1 and 4; deferred: 3 and, by a connection that broke, 6.
fn fill(store: &Embedded) -> Arc<GatewayMailbox> {
    let (mailbox, _) = create(store);
    let address = mailbox.address().unwrap().to_string();
    for n in [2, 5] {
        deliver(store, delivery(store, &mailbox, n, &[b'a' + n], &n.to_string(), &n.to_string(), &["bob"]));
    }
    for (n, code) in [(1, Some(550)), (3, Some(451)), (4, Some(554)), (6, None)] {
        let of = Some(mailbox.as_ref()).filter(|_| n > 1);
        let to = if n > 1 { address.as_str() } else { "Nobody@gw.example" };
        store.record_turned_away(told(n, code, to, of), Standing::Known);
    }
    mailbox
}

fn check(store: &Embedded, mailbox: &GatewayMailbox) {
    let (found, _) = pages(store, &all(99));
    assert_eq!(numbers(&found), [6, 5, 4, 3, 2, 1]);
    let outcomes: Vec<&str> = found.iter().map(|one| one.outcome.as_str()).collect();
    assert_eq!(outcomes, ["deferred", "accepted", "refused", "deferred", "accepted", "refused"]);
    let codes: Vec<Option<u16>> = found.iter().map(|one| one.code).collect();
    assert_eq!(codes, [None, Some(250), Some(554), Some(451), Some(250), Some(550)]);
    let accepted = &found[1];
    assert_eq!((accepted.octets, accepted.sha256), (Some(1), Some(Digest::of(b"f"))));
    assert_eq!((accepted.placements, accepted.gateway_mailboxes[0].class), (2, Some(Class::JournalReport)));
    assert_eq!(accepted.gateway_mailboxes[0].id, mailbox.id);
    let refused = &found[2];
    assert_eq!(refused.at, Some(Timestamp::from_unix_ms(START_MS + 1_004)), "its own time");
    assert_eq!((refused.octets_declared, refused.helo.as_deref()), (Some(70_000), Some("peer")));
    assert_eq!(refused.gateway_mailboxes[0].address.as_deref(), mailbox.address().map(Address::as_str));
    let asked =
        |query: ReceiptQuery| numbers(&store.turned_away(&query, Timestamp::from_unix_ms(0), 99).unwrap());
    assert_eq!(asked(ReceiptQuery::Id(receipt(4))), [4]);
    assert_eq!(asked(ReceiptQuery::Id(receipt(5))), Vec::<u8>::new());
    assert_eq!(asked(ReceiptQuery::Naming("nobody@GW.example".to_owned())), [1]);
    assert_eq!(asked(ReceiptQuery::Naming("sender@fabrikam.example".to_owned())), [6, 4, 3, 1]);
}

#[test]
fn what_was_turned_away_is_there_after_a_restart_and_when_the_index_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mailbox = fill(&store);
    close(store);
    let (store, report) = open(dir.path());
    assert_eq!(report, OpenReport::default());
    check(&store, &mailbox);
    crash(store);
    fs::remove_file(dir.path().join("index.sqlite")).unwrap();
    let (store, report) = open(dir.path());
    assert!(report.damage.is_empty() && report.replayed_groups > 0, "{report:?}");
    check(&store, &mailbox);
}

#[test]
fn pages_and_filters_leave_nothing_out() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mailbox = fill(&store);
    close(store);
    let (store, _) = open(dir.path());
    for (most, count) in [(1, 7), (2, 4), (4, 2), (6, 2), (7, 1)] {
        let (found, in_pages) = pages(&store, &all(most));
        assert_eq!((numbers(&found), in_pages), (vec![6, 5, 4, 3, 2, 1], count), "{most}");
    }
    let numbers_of = |query: TransactionQuery| numbers(&pages(&store, &query).0);
    let of = |outcome| TransactionQuery { outcome: Some(outcome), ..all(1) };
    assert_eq!(numbers_of(of(TransactionOutcome::Accepted)), [5, 2]);
    assert_eq!(numbers_of(of(TransactionOutcome::Deferred)), [6, 3]);
    assert_eq!(numbers_of(of(TransactionOutcome::Refused)), [4, 1]);
    let of_mailbox = TransactionQuery { gateway_mailbox: Some(mailbox.id), ..all(2) };
    assert_eq!(numbers_of(of_mailbox), [6, 5, 4, 3, 2]);
    let at = |n| Timestamp::from_unix_ms(START_MS + n);
    assert_eq!(numbers_of(TransactionQuery { since: at(2), until: Some(at(5)), ..all(2) }), [4, 3, 2]);
    assert_eq!(numbers_of(TransactionQuery { since: at(9), ..all(2) }), Vec::<u8>::new());
}

#[test]
fn a_damaged_entry_is_named_in_its_place_and_hides_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    fill(&store);
    close(store);
    let segment = only_segment(dir.path());
    let mut octets = fs::read(&segment).unwrap();
    let mark = b"for-the-test";
    let at = octets.windows(mark.len()).position(|octets| octets == mark).unwrap();
    octets[at] = 0xff;
    fs::write(&segment, octets).unwrap();
    let (store, _) = open(dir.path());
    let (found, _) = pages(&store, &all(4));
    assert_eq!(numbers(&found), [6, 5, 4, 3, 2, 1]);
    let damaged: Vec<_> = found.iter().filter(|one| one.damaged.is_some()).collect();
    let [one] = damaged.as_slice() else { panic!("{damaged:?}") };
    assert_eq!((one.receipt_id, one.code, one.outcome), (receipt(1), Some(550), TransactionOutcome::Refused));
}

#[test]
fn what_is_left_of_a_full_disk_is_not_spent_on_it_and_it_is_written_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, _) = create(&store);
    let make_a_group = |name: &str| {
        let change = vec![GatewayMailboxChange::Name(name.to_owned())];
        runtime().block_on(store.change_gateway_mailbox(mailbox.id, change, "test")).unwrap();
    };
    store.set_reserve(u64::MAX);
    store.record_turned_away(told(1, Some(452), "x@gw.example", Some(&mailbox)), Standing::Known);
    make_a_group("one");
    assert_eq!(pages(&store, &all(9)).0, []);
    store.set_reserve(0);
    make_a_group("two");
    let (found, _) = pages(&store, &all(9));
    assert_eq!((numbers(&found), found[0].at), (vec![1], Some(Timestamp::from_unix_ms(START_MS + 1_001))));
}

#[test]
fn what_finds_no_group_to_go_with_is_written_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    store.record_turned_away(told(1, Some(550), "x@gw.example", None), Standing::Stranger { before: 0 });
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while pages(&store, &all(9)).0.is_empty() {
        assert!(std::time::Instant::now() < deadline, "not in time");
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
}
