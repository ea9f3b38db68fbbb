//! Addresses and trust of a gateway mailbox, and how its mail came: durable, and there again when the index is made anew.

use super::*;

const DAY_MS: u64 = 86_400_000;

fn change(store: &Embedded, id: GatewayMailboxId, change: GatewayMailboxChange) -> Arc<GatewayMailbox> {
    runtime().block_on(store.change_gateway_mailbox(id, vec![change], "test")).unwrap()
}

fn rotate(store: &Embedded, id: GatewayMailboxId, overlap_ms: u64) -> Arc<GatewayMailbox> {
    change(store, id, GatewayMailboxChange::Rotate { domain: None, overlap_ms })
}

/// Closes the store and opens it again, then once more without its index.
fn each_time_anew(dir: &Path, store: Embedded, check: impl Fn(&Embedded)) -> Embedded {
    check(&store);
    close(store);
    let (store, _) = open(dir);
    check(&store);
    close(store);
    fs::remove_file(dir.join("index.sqlite")).unwrap();
    let (store, report) = open(dir);
    assert!(report.damage.is_empty() && report.replayed_groups > 0, "{report:?}");
    check(&store);
    store
}

#[test]
fn a_former_address_is_served_until_its_end_and_known_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (made, password) = create(&store);
    let first = made.address().unwrap().clone();
    let unguessable = |address: &Address| {
        let hex = address.local().strip_prefix("mbx-").unwrap();
        assert!(hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()), "{address}");
        assert_eq!(address.domain(), "gw.example");
    };

    let before = daybook::observe::now();
    let rotated = rotate(&store, made.id, 14 * DAY_MS);
    let second = rotated.address().unwrap().clone();
    assert_ne!(first, second);
    unguessable(&second);
    let until = rotated.addresses[1].until.unwrap().unix_ms() - before.unix_ms();
    assert!((14 * 86_400_000..14 * 86_400_000 + 60_000).contains(&until), "{until}");
    let store = each_time_anew(dir.path(), store, |store| {
        assert_eq!(store.gateway_mailboxes(), std::slice::from_ref(&rotated));
        for address in [&first, &second] {
            assert_eq!(store.gateway_mailbox(&address.key()), Some(rotated.clone()));
            assert_eq!(store.retired(&address.key()), None);
            for login in [address.as_str(), address.local(), &address.local().to_uppercase()] {
                assert_eq!(store.unlock(login, &password).unwrap().gateway_mailbox, rotated);
            }
        }
    });

    let ended = rotate(&store, made.id, 0);
    let third = ended.address().unwrap().clone();
    let store = each_time_anew(dir.path(), store, |store| {
        assert_eq!(store.gateway_mailbox(&third.key()), Some(ended.clone()));
        assert!(store.unlock(third.local(), &password).is_ok());
        for address in [&first, &second] {
            assert_eq!(store.gateway_mailbox(&address.key()), None);
            assert_eq!(store.retired(&address.key()), Some(ended.clone()));
            for login in [address.as_str(), address.local()] {
                assert!(matches!(store.unlock(login, &password), Err(UnlockError::Wrong)), "{login}");
            }
        }
    });

    // Of one that is deleted nothing is told any more.
    change(&store, made.id, GatewayMailboxChange::Suspend);
    change(&store, made.id, GatewayMailboxChange::Delete { force: true });
    for address in [first, second, third] {
        assert_eq!((store.gateway_mailbox(&address.key()), store.retired(&address.key())), (None, None));
    }
}

#[test]
fn who_is_trusted_is_replaced_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (made, _) = create(&store);
    let trust = Trust {
        mode: Mode::Enforce,
        networks: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        certificates: vec!["ab".repeat(32)],
    };
    let set = |store: &Embedded, was: &Trust, becomes: &Trust| {
        let change = GatewayMailboxChange::Trust { was: was.clone(), becomes: becomes.clone() };
        runtime().block_on(store.change_gateway_mailbox(made.id, vec![change], "test"))
    };
    let versions = |entry: &str| {
        let log = fs::read(only_segment(dir.path())).unwrap();
        let entry = format!("{{\"v\":{entry},\"fact\":\"gateway-mailbox\"");
        assert!(log.windows(entry.len()).any(|octets| octets == entry.as_bytes()), "{entry}");
        let connection = rusqlite::Connection::open(dir.path().join("index.sqlite")).unwrap();
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(found, 6);
    };
    versions("1");
    set(&store, &Trust::default(), &trust).unwrap();
    // A program that knows of no trust would hand out what is to be held back: it must refuse, by log and by index.
    versions("2");
    // Somebody who still sees the old state must not undo it, nor do anything else of the same change.
    let stale = GatewayMailboxChange::Trust { was: Trust::default(), becomes: Trust::default() };
    let both = vec![GatewayMailboxChange::Name("Other".to_owned()), stale];
    let refused = runtime().block_on(store.change_gateway_mailbox(made.id, both, "test"));
    assert!(matches!(refused, Err(StoreError::Refused(why)) if why.contains("at the same time")));
    assert_eq!(store.gateway_mailboxes()[0].name, made.name);
    let store = each_time_anew(dir.path(), store, |store| {
        assert_eq!(store.gateway_mailboxes()[0].trust, trust);
        versions("2");
    });
    set(&store, &trust, &Trust::default()).unwrap();
    assert_eq!(store.gateway_mailboxes()[0].trust, Trust::default());
    // One that knows of no header fields would drop their names with its next change.
    let fields = GatewayMailboxChange::RecipientHeaders(vec!["X-Gm-Original-To".to_owned()]);
    runtime().block_on(store.change_gateway_mailbox(made.id, vec![fields], "test")).unwrap();
    versions("3");
    close(store);
}

#[test]
fn how_mail_came_is_told_from_either_end() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (to, _) = create(&store);
    let (other, _) = create(&store);
    for n in 1..=6 {
        let mut sent = delivery(&store, &to, n, &[n; 10], &format!("i{n}"), &format!("j{n}"), &["bob"]);
        // Held back: no entry in INBOX.
        if n % 3 == 0 {
            sent.placements =
                vec![WantedPlacement { folder: FolderName::Quarantine, ..sent.placements.remove(0) }];
        }
        sent.judgement = Some(Judgement {
            verdict: Verdict::Unverified,
            reasons: vec![format!("reason {n}")],
            evidence: Evidence::default(),
            mode: Mode::Enforce,
            held_back: n % 3 == 0,
        });
        deliver(&store, sent);
        deliver(&store, delivery(&store, &other, n + 100, b"x", &format!("o{n}"), &format!("o{n}"), &[]));
    }
    // The same again is told of once.
    deliver(&store, delivery(&store, &to, 7, &[1; 10], "i1", "j1", &["bob"]));
    each_time_anew(dir.path(), store, |store| {
        let told = |which, most| -> Vec<ReceiptId> {
            let came = store.arrivals(to.id, which, most).unwrap();
            assert_eq!(came.left_out, 0);
            came.arrivals.iter().map(|arrival| arrival.receipt_id).collect()
        };
        assert_eq!(told(Arrivals::First, 4), [1, 2, 3, 4].map(receipt));
        assert_eq!(told(Arrivals::Last, 4), [3, 4, 5, 6].map(receipt));
        assert_eq!(told(Arrivals::First, 100).len(), 6);
        let third = store.arrivals(to.id, Arrivals::First, 3).unwrap().arrivals.pop().unwrap();
        assert!(third.judgement.as_ref().unwrap().held_back, "{third:?}");
        assert_eq!((third.class, third.transport.helo.as_str()), (Class::JournalReport, "peer"));
    });
}

#[test]
fn receipts_of_a_size_nobody_needs_do_not_make_an_admin_wait() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (to, _) = create(&store);
    for n in 1..=3 {
        let mut sent = delivery(&store, &to, n, &[n; 10], &format!("i{n}"), &format!("j{n}"), &[]);
        if n == 2 {
            sent.unmatched = vec!["x".repeat(ARRIVAL_OCTETS_MAX as usize)];
        }
        deliver(&store, sent);
    }
    for which in [Arrivals::First, Arrivals::Last] {
        let came = store.arrivals(to.id, which, 10).unwrap();
        let told: Vec<_> = came.arrivals.iter().map(|arrival| arrival.receipt_id).collect();
        assert_eq!((told, came.left_out), (vec![receipt(1), receipt(3)], 1));
    }

    // As many as fit into what is read at once, from the end that was asked for.
    let large = ARRIVAL_OCTETS_MAX as usize * 15 / 16;
    let fit = ARRIVALS_OCTETS_MAX / large as u64;
    for n in 10..=90 {
        let mut sent = delivery(&store, &to, n, &[n; 10], &format!("i{n}"), &format!("j{n}"), &[]);
        sent.unmatched = vec!["x".repeat(large)];
        deliver(&store, sent);
    }
    let came = store.arrivals(to.id, Arrivals::Last, 81).unwrap();
    assert_eq!(came.arrivals.last().unwrap().receipt_id, receipt(90));
    let told = came.arrivals.len() as u64;
    assert!(told.abs_diff(fit) <= 1 && told + came.left_out == 81, "{told}, {}", came.left_out);
}
