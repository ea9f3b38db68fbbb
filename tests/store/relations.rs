//! What the committer tells of a delivery: what it is to the mail that came before, in the store or in its own group.

use super::*;

/// A delivery of a message with this Message-ID and join, to these users.
fn named(store: &Embedded, to: &GatewayMailbox, n: u8, id: &str, join: &str, users: &[&str]) -> Delivery {
    let mut sent = delivery(store, to, n, format!("octets {n}").as_bytes(), &n.to_string(), join, users);
    sent.messages[0].message_id = Some(id.to_owned());
    sent
}

#[test]
fn a_delivery_is_a_fork_by_its_join_and_another_message_by_its_message_id_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, _) = create(&store);
    let (other, _) = create(&store);
    let relation = |sent| deliver(&store, sent).relation;
    assert_eq!(relation(named(&store, &other, 1, "<a@x>", "a", &["bob"])), None);
    assert_eq!(relation(named(&store, &mailbox, 2, "<a@x>", "a", &["bob"])), None, "each has its own");
    assert_eq!(relation(named(&store, &mailbox, 3, "<b@x>", "b", &["bob"])), None);
    let fork = Some(Relation::Fork);
    assert_eq!(relation(named(&store, &mailbox, 4, "<a@x>", "a", &["bob"])), fork, "bob has it");
    assert_eq!(relation(named(&store, &mailbox, 5, "<a@x>", "a", &["eve"])), fork, "another has it");
    let alike = Some(Relation::SameMessageId);
    assert_eq!(relation(named(&store, &mailbox, 6, "<a@x>", "other", &["bob"])), alike);
    assert_eq!(relation(named(&store, &mailbox, 7, "<a@x>", "other", &["eve"])), fork);
    let mut again = named(&store, &mailbox, 8, "<a@x>", "a", &["bob"]);
    again.identity = named(&store, &mailbox, 2, "<a@x>", "a", &[]).identity;
    assert_eq!(relation(again), Some(Relation::Repetition));
}

#[test]
fn deliveries_of_one_group_are_told_apart_like_others() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, _) = create(&store);
    let group = vec![
        named(&store, &mailbox, 1, "<a@x>", "a", &["bob"]),
        named(&store, &mailbox, 2, "<a@x>", "a", &["eve"]),
        named(&store, &mailbox, 3, "<a@x>", "b", &["bob"]),
    ];
    let told = runtime().block_on(store.deliver(group)).unwrap();
    let relations: Vec<_> = told.iter().map(|delivered| delivered.relation).collect();
    assert_eq!(relations, [None, Some(Relation::Fork), Some(Relation::SameMessageId)]);
}

#[test]
fn one_message_to_a_user_twice_is_no_fork_of_itself_and_octets_held_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, _) = create(&store);
    let delivered = deliver(&store, named(&store, &mailbox, 1, "<a@x>", "a", &["bob", "bob"]));
    assert_eq!((delivered.relation, delivered.spared.len(), delivered.exact_copies), (None, 1, 0));

    let mut copy = named(&store, &mailbox, 1, "<a@x>", "a", &["bob"]);
    copy.receipt_id = receipt(2);
    copy.identity = named(&store, &mailbox, 2, "<a@x>", "a", &[]).identity;
    let Holding::Whole(held) = store.stage(mailbox.id).unwrap().held(&copy.messages[0].exact).unwrap() else {
        panic!("not held")
    };
    copy.messages[0].held = Some(held.message);
    copy.messages[0].sources = held.extents.iter().map(|extent| Source::Held(*extent)).collect();
    let delivered = deliver(&store, copy);
    assert_eq!((delivered.relation, delivered.exact_copies), (Some(Relation::Fork), 1));
}
