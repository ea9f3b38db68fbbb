//! Keys of a gateway mailbox that change while others are at work.

use super::{body, close, create, deliver, delivery, inbox, open, runtime};
use daybook::mail::GatewayMailbox;
use daybook::store::{
    Digest, Embedded, Holding, KeyringSecret, Opened, Store, StoreError, UnlockError, Unlocked,
    generate_password,
};

fn opened(store: &Embedded, mailbox: &GatewayMailbox, passwords: &[&str]) -> Result<Opened, UnlockError> {
    let secrets: Vec<_> = passwords.iter().map(|password| KeyringSecret::Password(password)).collect();
    store.open_keyrings(mailbox.id, &secrets)
}

fn held(store: &Embedded, mailbox: &GatewayMailbox, octets: &[u8]) -> Holding {
    let stage = store.stage(mailbox.id).unwrap();
    stage.held(&stage.digest_key().exact(&Digest::of(octets))).unwrap()
}

fn refused<T>(done: Result<T, StoreError>) -> bool {
    matches!(done, Err(StoreError::Refused(_)))
}

#[test]
fn what_was_staged_for_a_key_that_is_given_up_is_asked_for_again_and_refers_to_nothing_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, old) = create(&store);
    deliver(&store, delivery(&store, &mailbox, 1, b"one\r\n", "1", "1", &[]));
    assert!(matches!(held(&store, &mailbox, b"one\r\n"), Holding::Whole(_)));
    let staged = delivery(&store, &mailbox, 2, b"two\r\n", "2", "2", &[]);
    let new = generate_password().unwrap();
    let changed = store.set_password(mailbox.id, None, &new, "test").unwrap();
    assert!(changed.former_keys[0].lost && changed.public_key != mailbox.public_key);
    let late = runtime().block_on(store.deliver(vec![staged]));
    assert!(matches!(late, Err(StoreError::Gone)), "{late:?}");
    assert_eq!(held(&store, &mailbox, b"one\r\n"), Holding::Damaged);
    deliver(&store, delivery(&store, &mailbox, 3, b"three\r\n", "3", "3", &[]));
    assert_eq!(store.unopened(mailbox.id).unwrap(), 1);

    let read = |key: &Unlocked, store: &Embedded| -> Vec<_> {
        inbox(store, &mailbox).entries.iter().map(|entry| body(store, key, entry).ok()).collect()
    };
    let key = store.unlock(mailbox.login(), &new).unwrap();
    let lacking = store.open(&key, inbox(&store, &mailbox).entries[0].message).map(drop);
    assert!(matches!(lacking, Err(StoreError::LacksKey)), "{lacking:?}");
    assert_eq!(read(&key, &store), [None, Some(b"three\r\n".to_vec())]);

    assert!(matches!(store.unlock(mailbox.login(), &old), Err(UnlockError::Wrong)));
    assert!(matches!(opened(&store, &mailbox, &[&new, "wrong"]), Err(UnlockError::Wrong)));
    let former = opened(&store, &mailbox, &[&old]).unwrap();
    assert!(!former.has_present());
    let both = opened(&store, &mailbox, &[&old, &new]).unwrap();
    let third = generate_password().unwrap();
    let joined = store.set_password(mailbox.id, Some(&both), &third, "test").unwrap();
    assert!(!joined.lacks_keys() && joined.public_key == changed.public_key);
    // Prepared before, it would take away what came since.
    assert!(refused(store.rotate_key(&key, &new, "test")));
    assert!(refused(store.add_escrow(&key)));
    assert!(matches!(held(&store, &mailbox, b"one\r\n"), Holding::Whole(_)));
    close(store);
    let (store, _) = open(dir.path());
    let key = store.unlock(mailbox.login(), &third).unwrap();
    assert_eq!(read(&key, &store), [Some(b"one\r\n".to_vec()), Some(b"three\r\n".to_vec())]);
    assert_eq!(store.unopened(mailbox.id).unwrap(), 0);
}

#[test]
fn a_new_key_is_used_at_once_and_whoever_was_logged_in_reads_on() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (mailbox, password) = create(&store);
    deliver(&store, delivery(&store, &mailbox, 1, b"one\r\n", "1", "1", &[]));
    let before = store.unlock(mailbox.login(), &password).unwrap();
    // What was staged before a new key stays readable by its keyring.
    let staged = delivery(&store, &mailbox, 2, b"two\r\n", "2", "2", &[]);
    let rotated = store.rotate_key(&before, &password, "test").unwrap();
    assert!(refused(store.rotate_key(&before, &password, "test")), "it was opened before the last change");
    deliver(&store, staged);
    deliver(&store, delivery(&store, &mailbox, 3, b"three\r\n", "3", "3", &[]));
    let after = store.unlock(mailbox.login(), &password).unwrap();
    assert_eq!(after.keyring.public_keys(), [rotated.public_key.clone(), mailbox.public_key.clone()]);
    let entries = inbox(&store, &mailbox).entries;
    let opens =
        |key: &Unlocked| -> Vec<bool> { entries.iter().map(|e| body(&store, key, e).is_ok()).collect() };
    assert_eq!((opens(&before), opens(&after)), (vec![true, true, false], vec![true; 3]));
    assert!(refused(store.set_password(mailbox.id, None, "too-short", "test")));
    assert!(matches!(held(&store, &mailbox, b"one\r\n"), Holding::Whole(_)));
}
