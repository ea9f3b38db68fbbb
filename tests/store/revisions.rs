//! Receipts that are looked at again: planned and made alike, durable, and there again when the index is made anew.

use super::*;

fn wanted(folder: FolderName, once_per_join: bool) -> WantedPlacement {
    WantedPlacement {
        folder,
        slug: None,
        message: 0,
        once_per_join,
        in_view: None,
        reasons: vec!["revised".to_owned()],
    }
}

fn incoming(user: &str) -> WantedPlacement {
    let folder = FolderName::User { user: user.to_owned(), folder: UserFolder::Incoming };
    WantedPlacement { slug: Some(format!("{user}@contoso.example")), ..wanted(folder, true) }
}

/// A delivery that is nowhere but in this folder.
fn kept_in(folder: FolderName, sent: Delivery) -> Delivery {
    Delivery { placements: vec![wanted(folder, true)], unmatched: vec!["bob: unknown".to_owned()], ..sent }
}

fn revision(of: &GatewayMailbox, n: u8, kind: RevisionKind, placements: Vec<WantedPlacement>) -> Revision {
    Revision {
        gateway_mailbox: of.id,
        receipt_id: receipt(n),
        kind,
        known: 0,
        reading: None,
        unmatched: Vec::new(),
        placements,
        leaves: vec![FolderName::Unassigned, FolderName::Quarantine],
        identity: None,
    }
}

fn released(of: &GatewayMailbox, n: u8) -> Revision {
    revision(of, n, RevisionKind::Released, vec![wanted(FolderName::Inbox, false), incoming("bob")])
}

fn revise(store: &Embedded, revisions: Vec<Revision>) -> Result<Vec<Revised>, StoreError> {
    runtime().block_on(store.revise(revisions, "anna"))
}

fn view(store: &Embedded, n: u8) -> ReceiptView {
    let query = ReceiptQuery::Id(receipt(n));
    store.receipts(&query, Timestamp::from_unix_ms(0), 9).unwrap().remove(0)
}

/// All there is to see of a store: every folder with its listing, and every receipt.
fn everything(store: &Embedded, of: &GatewayMailbox) -> (Vec<(FolderStatus, Listing)>, Vec<ReceiptView>) {
    let folders = store.folders(of.id).unwrap();
    let listed = folders.into_iter().map(|status| {
        let listing = store.list(of.id, &status.name).unwrap();
        (status, listing)
    });
    (listed.collect(), store.receipts(&ReceiptQuery::All, Timestamp::from_unix_ms(0), 99).unwrap())
}

/// What is planned and what is made differ in the UIDs only.
fn without_uids(mut revised: Vec<Revised>) -> Vec<Revised> {
    revised.iter_mut().flat_map(|one| &mut one.placements).for_each(|(_, uid)| *uid = None);
    revised
}

fn client() -> Client {
    Client {
        protocol: "pop3".to_owned(),
        peer: "127.0.0.1".parse().unwrap(),
        session_id: SessionId::new(1, [1; 10]),
    }
}

fn paths(entries: &[(String, Uid)]) -> Vec<(&str, u32)> {
    entries.iter().map(|(path, uid)| (path.as_str(), uid.value())).collect()
}

fn live(store: &Embedded, of: &GatewayMailbox, folder: &FolderName) -> usize {
    store.list(of.id, folder).unwrap().entries.len()
}

#[test]
fn what_is_released_leaves_quarantine_for_the_folders_it_belongs_in() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, password) = create(&store);
    deliver(&store, kept_in(FolderName::Quarantine, delivery(&store, &mailbox, 1, b"held", "1", "1", &[])));
    deliver(&store, delivery(&store, &mailbox, 2, b"later", "2", "2", &[]));

    let planned = store.plan(&[released(&mailbox, 1)]).unwrap();
    assert!(view(&store, 1).revisions.is_empty(), "a plan changes nothing");
    let made = revise(&store, vec![released(&mailbox, 1)]).unwrap();
    assert_eq!(without_uids(made.clone()), planned);
    assert_eq!(paths(&made[0].left), [("Quarantine", 1)]);
    let to: Vec<_> =
        made[0].placements.iter().map(|(path, uid)| (path.as_str(), uid.unwrap().value())).collect();
    assert_eq!(to, [("INBOX", 2), ("Users/bob@contoso.example/Journal Incoming", 1)]);

    assert_eq!(live(&store, &mailbox, &FolderName::Quarantine), 0);
    let listed = inbox(&store, &mailbox);
    assert_eq!(listed.entries[1].received_at, Timestamp::from_unix_ms(1_800_000_000_001));
    assert_eq!(listed.entries[1].receipt_id, receipt(1));
    let key = store.unlock(mailbox.login(), &password).unwrap();
    assert_eq!(body(&store, &key, &listed.entries[1]).unwrap(), b"held");

    let view = view(&store, 1);
    assert_eq!(view.unmatched, Vec::<String>::new());
    assert_eq!((view.revisions[0].kind, view.revisions[0].actor.as_str()), (RevisionKind::Released, "anna"));
    let made_by: Vec<_> = view.placements.iter().map(|p| (p.folder.as_str(), p.revision)).collect();
    let by = Some(RevisionKind::Released);
    assert_eq!(made_by[..2], [("Quarantine", None), ("INBOX", by)]);
    let left = &view.placements[0].events[0];
    assert_eq!((left.kind.as_str(), left.actor.as_deref(), &left.client), ("released", Some("anna"), &None));
}

#[test]
fn of_copies_held_back_and_delivered_one_is_in_inbox_however_many_are_released() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, _) = create(&store);
    let identities = ["first", "second"].map(|report| {
        let stage = store.stage(mailbox.id).unwrap();
        stage.digest_key().identity(&[report.as_bytes()])
    });
    // Two copies of the first report, one of the second: each has an identity of its own while it is held back.
    for n in [1, 2, 3] {
        let (text, join) = (format!("copy {n}"), if n < 3 { "one" } else { "other" });
        let held = delivery(&store, &mailbox, n, text.as_bytes(), &text, join, &[]);
        deliver(&store, Delivery { placements: vec![wanted(FolderName::Quarantine, false)], ..held });
    }
    let release = |n: u8, identity| Revision { identity: Some(identity), ..released(&mailbox, n) };
    let copies = || vec![release(1, identities[0]), release(2, identities[0])];
    let planned = store.plan(&copies()).unwrap();
    let made = revise(&store, copies()).unwrap();
    assert_eq!(without_uids(made.clone()), planned);
    assert_eq!(made[0].placements.len(), 2);
    assert_eq!((made[1].placements.len(), paths(&made[1].left)), (0, vec![("Quarantine", 2)]));
    assert_eq!(paths(&made[1].spared), [("INBOX", 1), ("Users/bob@contoso.example/Journal Incoming", 1)]);

    // The second is delivered while its copy is held back, and a client takes it.
    deliver(&store, delivery(&store, &mailbox, 4, b"copy 4", "second", "other", &["bob"]));
    let by = client();
    let taken = [inbox(&store, &mailbox).entries.last().unwrap().uid];
    runtime().block_on(store.expunge(mailbox.id, &FolderName::Inbox, &taken, &by)).unwrap();
    let planned = store.plan(&[release(3, identities[1])]).unwrap();
    let made = revise(&store, vec![release(3, identities[1])]).unwrap();
    assert_eq!(without_uids(made.clone()), planned);
    assert_eq!((made[0].placements.len(), made[0].spared.len(), made[0].left.len()), (0, 2, 1));
    assert_eq!(live(&store, &mailbox, &FolderName::Inbox), 1);
}

#[test]
fn of_three_copies_held_back_one_is_in_inbox_whether_released_in_one_call_or_in_three() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, _) = create(&store);
    let key = store.stage(mailbox.id).unwrap();
    // Of each of three reports, three copies.
    for n in 1..=9 {
        let (text, join) = (format!("copy {n}"), ((n - 1) / 3).to_string());
        let held = delivery(&store, &mailbox, n, text.as_bytes(), &text, &join, &[]);
        deliver(&store, Delivery { placements: vec![wanted(FolderName::Quarantine, false)], ..held });
    }
    let release = |n: u8| {
        let identity = key.digest_key().identity(&[&[(n - 1) / 3]]);
        Revision { identity: Some(identity), ..released(&mailbox, n) }
    };
    let as_planned = |copies: &[u8]| {
        let copies = || copies.iter().map(|n| release(*n)).collect::<Vec<_>>();
        let planned = store.plan(&copies()).unwrap();
        let made = revise(&store, copies()).unwrap();
        assert_eq!(without_uids(made.clone()), planned);
        made
    };
    let in_one = as_planned(&[1, 2, 3]);
    let in_three: Vec<_> = [4, 5, 6].iter().flat_map(|n| as_planned(&[*n])).collect();
    for (made, uid) in [(in_one, 1), (in_three, 2)] {
        let new: Vec<_> = made.iter().map(|revised| revised.placements.len()).collect();
        assert_eq!(new, [2, 0, 0]);
        assert!(made[1..].iter().all(|revised| paths(&revised.spared)[0] == ("INBOX", uid)), "{made:?}");
    }
    // The newest is let out first, and a client takes it.
    let first = as_planned(&[9]);
    let uid = first[0].placements[0].1.unwrap();
    runtime().block_on(store.expunge(mailbox.id, &FolderName::Inbox, &[uid], &client())).unwrap();
    for n in [7, 8] {
        let made = as_planned(&[n]);
        assert_eq!((made[0].placements.len(), paths(&made[0].spared)[0]), (0, ("INBOX", uid.value())));
    }
    assert_eq!(live(&store, &mailbox, &FolderName::Inbox), 2);
    assert_eq!(live(&store, &mailbox, &FolderName::Quarantine), 0);
}

#[test]
fn a_walk_tells_what_ended_an_entry_and_not_who_fetched_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, _) = create(&store);
    deliver(&store, delivery(&store, &mailbox, 1, b"one", "1", "1", &[]));
    deliver(&store, kept_in(FolderName::Quarantine, delivery(&store, &mailbox, 2, b"two", "2", "2", &[])));
    let by = client();
    runtime().block_on(store.record_fetched(mailbox.id, &FolderName::Inbox, &[Uid::FIRST], &by)).unwrap();
    let kinds = |view: &ReceiptView| -> Vec<String> {
        view.placements[0].events.iter().map(|event| event.kind.clone()).collect()
    };
    let ends = || {
        let since = Timestamp::from_unix_ms(0);
        let walk = Walk { gateway_mailbox: mailbox.id, since, after: None, folder: None, most: 9 };
        store.walk(&walk).unwrap().receipts.iter().map(kinds).collect::<Vec<_>>()
    };
    assert_eq!(ends(), [[""; 0], []]);
    runtime().block_on(store.expunge(mailbox.id, &FolderName::Inbox, &[Uid::FIRST], &by)).unwrap();
    revise(&store, vec![released(&mailbox, 2)]).unwrap();
    assert_eq!(ends(), [["deleted"], ["released"]]);
    assert_eq!(kinds(&view(&store, 1)), ["fetched", "deleted"], "asked for by itself, all is told");
}

#[test]
fn a_release_is_no_arrival() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, _) = create(&store);
    deliver(&store, kept_in(FolderName::Quarantine, delivery(&store, &mailbox, 1, b"held", "1", "1", &[])));
    deliver(&store, delivery(&store, &mailbox, 2, b"later", "2", "2", &[]));
    let since = Timestamp::from_unix_ms(0);
    let before = store.activity(mailbox.id, since).unwrap();
    revise(&store, vec![released(&mailbox, 1)]).unwrap();
    assert_eq!(store.activity(mailbox.id, since).unwrap(), before);
    let last = store.arrivals(mailbox.id, Arrivals::Last, 1).unwrap().arrivals;
    assert_eq!(last.iter().map(|arrival| arrival.receipt_id).collect::<Vec<_>>(), [receipt(2)]);
}

#[test]
fn what_an_ndr_brought_back_is_no_arrival() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, _) = create(&store);
    deliver(&store, delivery(&store, &mailbox, 1, b"came", "1", "1", &[]));
    let since = Timestamp::from_unix_ms(0);
    let before = store.activity(mailbox.id, since).unwrap();
    let recovered = delivery(&store, &mailbox, 2, b"returned", "2", "2", &[]);
    deliver(&store, Delivery { recovered_from: Some(mailbox.id), ..recovered });
    assert_eq!(store.activity(mailbox.id, since).unwrap(), before);
    let came = store.arrivals(mailbox.id, Arrivals::Last, 9).unwrap().arrivals;
    assert_eq!(came.iter().map(|arrival| arrival.receipt_id).collect::<Vec<_>>(), [receipt(1)]);
    assert_eq!(live(&store, &mailbox, &FolderName::Inbox), 2);
}

#[test]
fn forks_planned_together_are_decided_as_they_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, _) = create(&store);
    for n in [1, 2, 3] {
        let fork = delivery(&store, &mailbox, n, format!("fork {n}").as_bytes(), &n.to_string(), "same", &[]);
        deliver(&store, kept_in(FolderName::Unassigned, fork));
    }
    let known = |n| revision(&mailbox, n, RevisionKind::Reassigned, vec![incoming("bob")]);
    let nobody =
        |n| revision(&mailbox, n, RevisionKind::Reassigned, vec![wanted(FolderName::Unassigned, true)]);
    let all = || vec![known(1), known(2), nobody(3)];
    let planned = store.plan(&all()).unwrap();
    let made = revise(&store, all()).unwrap();
    assert_eq!(without_uids(made.clone()), planned);
    // The first has the entry in Unassigned that spared the others theirs. It leaves; the last is shown there from now on.
    assert_eq!(paths(&made[0].left), [("Unassigned", 1)]);
    assert!(made[1].is_nothing() && made[1].spared.len() == 1, "{made:?}");
    assert_eq!(made[2].placements, [("Unassigned".to_owned(), Uid::new(2))]);
    let bob = incoming("bob").folder;
    assert_eq!((live(&store, &mailbox, &bob), live(&store, &mailbox, &FolderName::Unassigned)), (1, 1));
    let recorded = [1, 2, 3].map(|n| view(&store, n).revisions.len());
    assert_eq!(recorded, [1, 0, 1], "what changes nothing is not recorded");
}

#[test]
fn users_whose_folders_would_have_one_path_are_told_apart_in_a_plan_too() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, _) = create(&store);
    for n in [1, 2] {
        let text = n.to_string();
        deliver(&store, delivery(&store, &mailbox, n, text.as_bytes(), &text, &text, &[]));
    }
    let to = |n, user: &str| {
        let slug = Some("info@contoso.example".to_owned());
        revision(&mailbox, n, RevisionKind::Reassigned, vec![WantedPlacement { slug, ..incoming(user) }])
    };
    let all = || vec![to(1, "bob"), to(2, "eve")];
    let planned = store.plan(&all()).unwrap();
    assert_eq!(planned[1].placements[0].0, "Users/info@contoso.example-2/Journal Incoming");
    assert_eq!(without_uids(revise(&store, all()).unwrap()), planned);
}

#[test]
fn what_a_receipt_has_is_not_made_twice_even_when_a_client_took_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, _) = create(&store);
    deliver(&store, delivery(&store, &mailbox, 1, b"one", "1", "1", &["bob"]));
    let by = client();
    runtime().block_on(store.expunge(mailbox.id, &FolderName::Inbox, &[Uid::FIRST], &by)).unwrap();
    let again = revise(&store, vec![released(&mailbox, 1)]).unwrap().remove(0);
    assert!(again.is_nothing(), "{again:?}");
    assert_eq!(again.spared.len(), 2);
    assert!(view(&store, 1).revisions.is_empty());
}

/// A reading that finds another message beside the one received.
fn reading(store: &Embedded, of: &GatewayMailbox, n: u8, found: &[u8]) -> Reading {
    let other = delivery(store, of, 99, found, "x", "found", &[]);
    let first = view(store, n).messages[0].key;
    let mut whole = delivery(store, of, n, b"unreadable", "x", "whole", &[]).messages.remove(0);
    let stage = store.stage(of.id).unwrap();
    let Holding::Whole(held) = stage.held(&whole.exact).unwrap() else { panic!("not held") };
    assert_eq!(held.message, first);
    whole.sources = held.extents.iter().map(|extent| Source::Held(*extent)).collect();
    whole.held = Some(held.message);
    let mut original = other.messages.into_iter().next().unwrap();
    original.message_id = Some("<found@contoso.example>".to_owned());
    Reading {
        class: Class::JournalReport,
        parent_message_id: Some("<found@contoso.example>".to_owned()),
        returned_message_id: None,
        reports: vec![],
        defects: vec![],
        objects: other.objects,
        summary: other.summary,
        messages: vec![whole, original],
    }
}

#[test]
fn a_new_reading_is_kept_found_and_served_through_a_kill_and_without_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, password) = create(&store);
    let unread = delivery(&store, &mailbox, 1, b"unreadable", "1", "1", &[]);
    let mut unread = Delivery { class: Class::Unreadable, ..unread };
    unread.placements.push(wanted(FolderName::Quarantine, false));
    deliver(&store, unread);
    deliver(&store, kept_in(FolderName::Quarantine, delivery(&store, &mailbox, 2, b"held", "2", "2", &[])));

    // Larger than what lies in the log, so that it is a file of its own.
    let large = vec![b'x'; 2_000_000];
    let stage = store.stage(mailbox.id).unwrap();
    let identity = stage.digest_key().identity(&[b"as read now"]);
    let reprocessed = || {
        let original = WantedPlacement { message: 1, ..incoming("bob") };
        let placements = vec![wanted(FolderName::Inbox, false), original];
        let mut revision = revision(&mailbox, 1, RevisionKind::Reprocessed, placements);
        revision.reading = Some(reading(&store, &mailbox, 1, &large));
        revision.identity = Some(identity);
        vec![revision, released(&mailbox, 2)]
    };
    let planned = store.plan(&reprocessed()).unwrap();
    let made = revise(&store, reprocessed()).unwrap();
    assert_eq!(without_uids(made.clone()), planned);
    assert_eq!(paths(&made[0].spared), [("INBOX", 1)]);

    let check = |store: &Embedded| {
        let view = view(store, 1);
        assert_eq!((view.class, view.messages.len()), (Class::JournalReport, 2));
        assert_eq!(view.messages[1].message_id.as_deref(), Some("<found@contoso.example>"));
        let naming = ReceiptQuery::Naming("found@contoso.example".to_owned());
        assert_eq!(store.receipts(&naming, Timestamp::from_unix_ms(0), 9).unwrap(), [view]);
        let listed = store.list(mailbox.id, &incoming("bob").folder).unwrap();
        let key = store.unlock(mailbox.login(), &password).unwrap();
        assert_eq!(body(store, &key, &listed.entries[0]).unwrap(), large);
    };
    check(&store);
    let before = everything(&store, &mailbox);
    let mut again = delivery(&store, &mailbox, 3, b"unreadable too", "3", "3", &[]);
    again.identity = identity;
    drop(stage);
    crash(store);
    fs::remove_file(dir.path().join("index.sqlite")).unwrap();
    for suffix in ["sqlite-wal", "sqlite-shm"] {
        fs::remove_file(dir.path().join("index").with_extension(suffix)).ok();
    }
    let (store, report) = open(dir.path());
    assert_eq!((report.damage, report.orphaned), (vec![], vec![]));
    assert_eq!(everything(&store, &mailbox), before);
    check(&store);
    assert_eq!(deliver(&store, again).repeats, Some(receipt(1)));
    let next = deliver(&store, delivery(&store, &mailbox, 4, b"next", "4", "4", &["bob"]));
    assert_eq!(next.placements.iter().map(|(_, uid)| uid.value()).collect::<Vec<_>>(), [3, 3]);
}

#[test]
fn of_two_looks_at_the_same_time_one_is_refused_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, _) = create(&store);
    for n in [1, 2] {
        let text = n.to_string();
        let held = delivery(&store, &mailbox, n, text.as_bytes(), &text, &text, &[]);
        deliver(&store, kept_in(FolderName::Quarantine, held));
    }
    let (first, second) = runtime().block_on(async {
        let (one, both) = (vec![released(&mailbox, 1)], vec![released(&mailbox, 2), released(&mailbox, 1)]);
        tokio::join!(store.revise(one, "anna"), store.revise(both, "otto"))
    });
    assert_eq!(first.unwrap().len(), 1);
    assert!(matches!(second, Err(StoreError::Refused(_))), "{second:?}");
    assert!(view(&store, 2).revisions.is_empty(), "all or none");
    assert_eq!(live(&store, &mailbox, &FolderName::Quarantine), 1);
    let twice = revise(&store, vec![released(&mailbox, 2), released(&mailbox, 2)]);
    assert!(matches!(twice, Err(StoreError::Refused(_))), "{twice:?}");
    let unknown = revise(&store, vec![released(&mailbox, 7)]);
    assert!(matches!(unknown, Err(StoreError::Gone)), "{unknown:?}");
    let known =
        Revision { known: 1, ..revision(&mailbox, 1, RevisionKind::Reassigned, vec![incoming("eve")]) };
    assert_eq!(revise(&store, vec![known]).unwrap()[0].placements.len(), 1);
}

#[test]
fn a_walk_goes_through_receipts_in_order_and_steps_over_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, _) = create(&store);
    let (other, _) = create(&store);
    for n in 1..=6 {
        let text = format!("message number {n}");
        let sent = delivery(&store, &mailbox, n, text.as_bytes(), &text, &text, &[]);
        deliver(&store, if n % 2 == 0 { kept_in(FolderName::Quarantine, sent) } else { sent });
    }
    deliver(&store, delivery(&store, &other, 7, b"other", "7", "7", &[]));
    let walk = |folder: Option<FolderName>, since: i64, after, most| Walk {
        gateway_mailbox: mailbox.id,
        since: Timestamp::from_unix_ms(since),
        after,
        folder,
        most,
    };
    let ids = |walked: &Walked| walked.receipts.iter().map(|view| view.receipt_id).collect::<Vec<_>>();

    let first = store.walk(&walk(None, 0, None, 4)).unwrap();
    assert_eq!((ids(&first), first.last), ([1, 2, 3, 4].map(receipt).to_vec(), Some(receipt(4))));
    let second = store.walk(&walk(None, 0, first.last, 4)).unwrap();
    assert_eq!((ids(&second), second.last), ([5, 6].map(receipt).to_vec(), None));
    let late = store.walk(&walk(None, 1_800_000_000_005, None, 4)).unwrap();
    assert_eq!(ids(&late), [5, 6].map(receipt));

    let held = |store: &Embedded| store.walk(&walk(Some(FolderName::Quarantine), 0, None, 9)).unwrap();
    assert_eq!(ids(&held(&store)), [2, 4, 6].map(receipt));
    revise(&store, vec![released(&mailbox, 4)]).unwrap();
    assert_eq!(ids(&held(&store)), [2, 6].map(receipt));
    let nowhere = store.walk(&walk(Some(FolderName::Unassigned), 0, None, 9)).unwrap();
    assert_eq!(nowhere, Walked::default());

    // The entry of the last receipt is damaged in place.
    let segment = only_segment(dir.path());
    let mut octets = fs::read(&segment).unwrap();
    let needle = format!("\"receipt_id\":\"{}\"", receipt(6));
    let is_it = |window: &[u8]| window == needle.as_bytes();
    let at = octets.windows(needle.len()).enumerate().rfind(|(_, window)| is_it(window)).unwrap().0;
    octets[at] = b'!';
    fs::write(&segment, octets).unwrap();
    let walked = held(&store);
    assert_eq!(ids(&walked), [receipt(2)]);
    assert_eq!(walked.unread.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [receipt(6)]);

    let receipts = |query| store.receipts(&query, Timestamp::from_unix_ms(0), 99);
    assert_eq!(receipts(ReceiptQuery::All).unwrap().len(), 6, "the damaged one hides no other");
    assert!(matches!(receipts(ReceiptQuery::Id(receipt(6))), Err(StoreError::Damaged(_))));

    let stranger = Walk { gateway_mailbox: GatewayMailboxId::new(1, [0; 10]), ..walk(None, 0, None, 9) };
    assert!(matches!(store.walk(&stranger), Err(StoreError::Gone)));
}

#[test]
fn an_ndr_mailbox_serves_one_that_takes_reports_and_keeps_it_from_being_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, _) = create(&store);
    let make = |serves| {
        let new = NewGatewayMailbox {
            name: "NDRs".to_owned(),
            domain: "gw.example".to_owned(),
            tenant: None,
            profile: Profile::Microsoft365,
            role: Role::Ndr { serves },
        };
        runtime().block_on(store.create_gateway_mailbox(new, "test")).map(|(made, _)| made)
    };
    let ndr = make(mailbox.id).unwrap();
    for serves in [ndr.id, GatewayMailboxId::new(1, [0; 10])] {
        assert!(matches!(make(serves), Err(StoreError::Refused(_))));
    }
    let change = |id, changes| runtime().block_on(store.change_gateway_mailbox(id, changes, "test"));
    let delete = || vec![GatewayMailboxChange::Suspend, GatewayMailboxChange::Delete { force: false }];
    assert!(matches!(change(mailbox.id, delete()), Err(StoreError::Refused(_))));
    change(ndr.id, delete()).unwrap();
    assert!(matches!(make(ndr.id), Err(StoreError::Refused(_))), "a deleted one serves nobody");
    change(mailbox.id, delete()).unwrap();
    assert!(matches!(
        store.walk(&Walk {
            gateway_mailbox: mailbox.id,
            since: Timestamp::from_unix_ms(0),
            after: None,
            folder: None,
            most: 1,
        }),
        Err(StoreError::Gone)
    ));
}
