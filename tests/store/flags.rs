//! What a client that has a folder open is told of it: flags, what tells whether it changed, entries; and when it hears of changes.

use super::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::collections::BTreeMap;

const INBOX: FolderName = FolderName::Inbox;

fn client() -> Client {
    Client {
        protocol: "imap".to_owned(),
        peer: "192.0.2.7".parse().unwrap(),
        session_id: SessionId::new(1, [9; 10]),
    }
}

fn uids(numbers: impl IntoIterator<Item = u32>) -> Vec<Uid> {
    numbers.into_iter().map(|number| Uid::new(number).unwrap()).collect()
}

/// A store with a gateway mailbox that has `messages` in INBOX and in Bob's folder.
struct Flagged {
    dir: tempfile::TempDir,
    store: Option<Embedded>,
    mailbox: Arc<GatewayMailbox>,
    came: u8,
}

impl Flagged {
    fn new(messages: u8) -> Flagged {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).0;
        let (mailbox, _) = create(&store);
        let mut flagged = Flagged { dir, store: Some(store), mailbox, came: 0 };
        (0..messages).for_each(|_| flagged.receive());
        flagged
    }

    fn store(&self) -> &Embedded {
        self.store.as_ref().unwrap()
    }

    fn receive(&mut self) {
        self.came += 1;
        let (n, name) = (self.came, self.came.to_string());
        let sent = delivery(self.store(), &self.mailbox, n, name.as_bytes(), &name, &name, &["bob"]);
        deliver(self.store(), sent);
    }

    fn set(&self, numbers: impl IntoIterator<Item = u32>, change: FlagChange) -> Vec<(u32, Flags)> {
        let (uids, by) = (uids(numbers), client());
        let asked = self.store().set_flags(self.mailbox.id, &INBOX, &uids, change, Flags::ALL, &by);
        pairs(&runtime().block_on(asked).unwrap().rows)
    }

    fn expunge(&self, numbers: impl IntoIterator<Item = u32>) -> usize {
        let uids = uids(numbers);
        runtime().block_on(self.store().expunge(self.mailbox.id, &INBOX, &uids, &client())).unwrap().len()
    }

    /// Brings all back that was deleted; gives the UIDs it had, and those it has.
    fn undelete(&self) -> Vec<(u32, u32)> {
        let asked = UndeleteAsked {
            gateway_mailbox: self.mailbox.id,
            folder: INBOX,
            since: Timestamp::from_unix_ms(0),
            until: None,
            most: UNDELETED_MAX,
        };
        let back = runtime().block_on(self.store().undelete(asked, "test")).unwrap();
        back.entries.iter().map(|entry| (entry.of.value(), entry.uid.value())).collect()
    }

    fn rows(&self) -> Result<(FolderMarks, Vec<FolderRow>), StoreError> {
        self.store().rows(self.mailbox.id, &INBOX, Uid::FIRST)
    }

    fn flags(&self) -> Vec<(u32, Flags)> {
        pairs(&self.rows().unwrap().1)
    }

    fn marks(&self) -> FolderMarks {
        self.store().marks(self.mailbox.id, &INBOX).unwrap()
    }

    /// Unseen, and to be deleted.
    fn counts(&self) -> (u64, u64) {
        let folders = self.store().folders(self.mailbox.id).unwrap();
        let inbox = folders.into_iter().find(|folder| folder.name == INBOX).unwrap();
        (inbox.unseen, inbox.marked_deleted)
    }

    fn open_again(&mut self) {
        self.store = None;
        self.store = Some(open(self.dir.path()).0);
    }

    /// What the index says of it: all of it is in the log.
    fn assert_whole(&mut self) {
        close(self.store.take().unwrap());
        assert_eq!(damage(self.dir.path()), Vec::<String>::new());
        self.store = Some(open(self.dir.path()).0);
    }
}

/// What `verify` finds.
fn damage(dir: &Path) -> Vec<String> {
    let options = VerifyOptions {
        data_dir: dir.to_owned(),
        deep: true,
        checkpoints: None,
        checkpoint_dir: None,
        key: None,
    };
    let report = verify(&options, &mut |_| {}).unwrap();
    assert_eq!((report.whole, report.index_compared), (report.damaged == 0, true));
    report.findings.into_iter().filter(|finding| finding.damage).map(|finding| finding.what).collect()
}

fn pairs(rows: &[FolderRow]) -> Vec<(u32, Flags)> {
    rows.iter().map(|row| (row.uid.value(), row.flags)).collect()
}

#[test]
fn flags_are_there_after_a_restart_a_crash_and_in_an_index_made_anew() {
    let mut flagged = Flagged::new(4);
    let both = Flags::SEEN | Flags::DELETED;
    assert_eq!(flagged.set([1, 2, 9], FlagChange::Add(Flags::SEEN)), [(1, Flags::SEEN), (2, Flags::SEEN)]);
    assert_eq!(
        flagged.set([3, 2], FlagChange::Add(Flags::DELETED)),
        [(2, both), (3, Flags::DELETED)],
        "in UID order, however it was asked"
    );
    assert_eq!(flagged.set([1], FlagChange::Replace(Flags::FLAGGED)), [(1, Flags::FLAGGED)]);
    let expect = [(1, Flags::FLAGGED), (2, both), (3, Flags::DELETED), (4, Flags::NONE)];
    let marks = flagged.marks();
    assert_eq!((marks.live, marks.flag_changes, marks.uid_next.value()), (4, 3, 5));
    for what in ["crash", "restart", "no index"] {
        match what {
            "crash" => flagged.open_again(),
            "restart" => flagged.assert_whole(),
            _ => {
                close(flagged.store.take().unwrap());
                fs::remove_file(flagged.dir.path().join("index.sqlite")).unwrap();
                flagged.open_again();
            }
        }
        assert_eq!(flagged.flags(), expect, "{what}");
        assert_eq!((flagged.counts(), flagged.marks()), ((3, 2), marks), "{what}");
    }
    assert_eq!(flagged.rows().unwrap().0, marks);
    // Another folder has its own.
    let bob = FolderName::User { user: "bob".to_owned(), folder: UserFolder::Incoming };
    let (_, rows) = flagged.store().rows(flagged.mailbox.id, &bob, Uid::FIRST).unwrap();
    assert!(rows.iter().all(|row| row.flags.is_empty()) && rows.len() == 4);
}

#[test]
fn what_changes_nothing_is_not_recorded() {
    let flagged = Flagged::new(3);
    flagged.set([1, 2], FlagChange::Add(Flags::SEEN));
    let (log, marks) = (fs::metadata(only_segment(flagged.dir.path())).unwrap().len(), flagged.marks());
    assert_eq!(flagged.set([1, 2], FlagChange::Add(Flags::SEEN)).len(), 2);
    assert_eq!(flagged.set([3], FlagChange::Remove(Flags::ALL)), [(3, Flags::NONE)]);
    assert_eq!(flagged.set([7], FlagChange::Add(Flags::SEEN)), []);
    assert_eq!(flagged.set([], FlagChange::Add(Flags::SEEN)), []);
    assert_eq!(flagged.marks(), marks);
    assert_eq!(fs::metadata(only_segment(flagged.dir.path())).unwrap().len(), log);
    flagged.set([1, 2, 3], FlagChange::Add(Flags::SEEN));
    let written = fs::read(only_segment(flagged.dir.path())).unwrap();
    let entry = String::from_utf8_lossy(&written[usize::try_from(log).unwrap()..]).into_owned();
    assert!(entry.contains(r#""uids":[[3,3,1]]"#), "those alone whose flags change: {entry}");
    assert!(entry.contains(r#"{"v":6,"fact":"flagged""#), "an older program refuses it: {entry}");
}

#[test]
fn flags_go_with_the_entry_and_what_comes_back_has_none() {
    let mut flagged = Flagged::new(4);
    flagged.set(1..=4, FlagChange::Add(Flags::SEEN | Flags::DELETED));
    assert_eq!(flagged.expunge([2, 3]), 2);
    assert_eq!((flagged.counts(), flagged.flags().len()), ((0, 2), 2));
    assert_eq!(flagged.set([2, 3], FlagChange::Add(Flags::SEEN)), [], "they are not there");
    assert_eq!(flagged.undelete(), [(2, 5), (3, 6)]);
    let all = Flags::SEEN | Flags::DELETED;
    assert_eq!(flagged.flags(), [(1, all), (4, all), (5, Flags::NONE), (6, Flags::NONE)]);
    assert_eq!(flagged.counts(), (2, 2));
    flagged.assert_whole();
}

#[test]
fn what_another_unmarked_is_not_taken_out_by_who_saw_it_marked() {
    let mut flagged = Flagged::new(4);
    flagged.set([1, 2, 3], FlagChange::Add(Flags::DELETED));
    let (asked, by) = (uids([3, 2, 1, 4, 9]), client());
    flagged.set([2], FlagChange::Remove(Flags::DELETED));
    let taken = flagged.store().expunge_marked(flagged.mailbox.id, &INBOX, &asked, &by);
    assert_eq!(runtime().block_on(taken).unwrap(), uids([1, 3]));
    let again = flagged.store().expunge_marked(flagged.mailbox.id, &INBOX, &asked, &by);
    assert_eq!(runtime().block_on(again).unwrap(), []);
    assert_eq!(flagged.flags(), [(2, Flags::NONE), (4, Flags::NONE)]);
    flagged.assert_whole();
}

#[test]
fn whoever_changes_flags_learns_which_changes_are_behind_it() {
    let flagged = Flagged::new(2);
    let set = |change| {
        let (uids, by) = (uids([1]), client());
        let asked = flagged.store().set_flags(flagged.mailbox.id, &INBOX, &uids, change, Flags::ALL, &by);
        runtime().block_on(asked).unwrap().counted
    };
    assert_eq!(set(FlagChange::Add(Flags::SEEN)), Some((0, 1)));
    assert_eq!(set(FlagChange::Add(Flags::SEEN)), Some((1, 1)), "nothing was written");
    assert_eq!(set(FlagChange::Remove(Flags::SEEN)), Some((1, 2)));
}

#[test]
fn a_client_that_may_delete_no_more_changes_no_mark_and_takes_nothing_out() {
    let flagged = Flagged::new(1);
    let bob = FolderName::User { user: "bob".to_owned(), folder: UserFolder::Incoming };
    let (id, one, by) = (flagged.mailbox.id, uids([1]), client());
    let rule = |user_delete: bool| {
        let was = FetchRules { user_delete: !user_delete, ..FetchRules::default() };
        let change = vec![GatewayMailboxChange::Fetch { was, becomes: FetchRules { user_delete, ..was } }];
        runtime().block_on(flagged.store().change_gateway_mailbox(id, change, "test")).unwrap();
    };
    let set = |change, changeable| {
        let set = flagged.store().set_flags(id, &bob, &one, change, changeable, &by);
        runtime().block_on(set).unwrap().rows[0].flags
    };
    let expunge = || runtime().block_on(flagged.store().expunge_marked(id, &bob, &one, &by));
    assert_eq!(set(FlagChange::Add(Flags::ALL), Flags::ALL), Flags::ALL - Flags::DELETED);
    rule(true);
    assert_eq!(set(FlagChange::Add(Flags::ALL), Flags::ALL - Flags::DELETED), Flags::ALL - Flags::DELETED);
    assert_eq!(set(FlagChange::Add(Flags::DELETED), Flags::ALL), Flags::ALL);
    rule(false);
    assert_eq!(set(FlagChange::Replace(Flags::NONE), Flags::ALL), Flags::DELETED);
    assert!(matches!(expunge(), Err(StoreError::NotAllowed)));
    rule(true);
    assert_eq!(expunge().unwrap(), one);
}

#[test]
fn a_part_of_a_folder_is_what_comes_behind_a_uid() {
    let mut flagged = Flagged::new(5);
    flagged.expunge([4]);
    flagged.set([5], FlagChange::Add(Flags::SEEN));
    let from = |uid| flagged.store().rows(flagged.mailbox.id, &INBOX, Uid::new(uid).unwrap()).unwrap();
    assert_eq!(pairs(&from(3).1), [(3, Flags::NONE), (5, Flags::SEEN)]);
    assert_eq!((from(6).1, from(6).0), (vec![], flagged.marks()));
    let listed = inbox(flagged.store(), &flagged.mailbox).entries;
    let entries = flagged.store().entries(flagged.mailbox.id, &INBOX, &uids([2, 3, 4, 5, 9])).unwrap();
    assert_eq!(entries, listed[1..]);
    assert_eq!(flagged.store().entries(flagged.mailbox.id, &FolderName::Quarantine, &uids([1])).unwrap(), []);
    flagged.assert_whole();
}

#[test]
fn a_folder_that_nothing_came_to_is_made_by_who_opens_it_and_stays_that_folder() {
    let mut flagged = Flagged::new(0);
    let id = flagged.mailbox.id;
    assert_eq!(flagged.store().list(id, &INBOX).unwrap().uid_validity, None);
    let (marks, rows) = flagged.rows().unwrap();
    assert_eq!((marks.uid_next, marks.live, marks.flag_changes, rows), (Uid::FIRST, 0, 0, vec![]));
    assert_eq!(flagged.store().list(id, &INBOX).unwrap().uid_validity, Some(marks.uid_validity));
    let unassigned = flagged.store().marks(id, &FolderName::Unassigned).unwrap();
    flagged.open_again();
    assert_eq!(flagged.store().marks(id, &FolderName::Unassigned).unwrap(), unassigned);
    flagged.receive();
    let now = flagged.marks();
    assert_eq!((now.uid_validity, now.uid_next.value(), now.live), (marks.uid_validity, 2, 1));
    let paths: Vec<_> = flagged.store().folders(id).unwrap().into_iter().map(|folder| folder.path).collect();
    assert_eq!(paths, ["INBOX", "Unassigned", "Users/bob@contoso.example/Journal Incoming"]);
    flagged.assert_whole();

    let nobody = FolderName::User { user: "nobody".to_owned(), folder: UserFolder::Incoming };
    assert!(matches!(flagged.store().rows(id, &nobody, Uid::FIRST), Err(StoreError::Gone)));
    let delete = vec![GatewayMailboxChange::Suspend, GatewayMailboxChange::Delete { force: true }];
    let changed = flagged.store().changes(id);
    runtime().block_on(flagged.store().change_gateway_mailbox(id, delete, "test")).unwrap();
    assert!(changed.has_changed().unwrap(), "who has it open hears of it");
    for folder in [INBOX, FolderName::Quarantine] {
        assert!(matches!(flagged.store().marks(id, &folder), Err(StoreError::Gone)));
        let (one, by) = (uids([1]), client());
        let set = flagged.store().set_flags(id, &folder, &one, FlagChange::Add(Flags::SEEN), Flags::ALL, &by);
        assert!(matches!(runtime().block_on(set), Err(StoreError::Gone)));
    }
}

#[test]
fn whoever_listens_hears_of_everything_that_happens_in_a_folder_and_of_nothing_else() {
    let mut flagged = Flagged::new(3);
    let (other, _) = create(flagged.store());
    let id = flagged.mailbox.id;
    let mut changed = flagged.store().changes(id);
    let others = flagged.store().changes(other.id);
    let mut hears = |what: &str, expect: bool| {
        assert_eq!(changed.has_changed().unwrap(), expect, "{what}");
        changed.mark_unchanged();
    };
    hears("nothing yet", false);
    flagged.receive();
    hears("mail came", true);
    flagged.set([1], FlagChange::Add(Flags::SEEN));
    hears("flagged", true);
    flagged.set([1], FlagChange::Add(Flags::SEEN));
    hears("flagged as it was", false);
    runtime().block_on(flagged.store().record_fetched(id, &INBOX, &uids([1]), &client())).unwrap();
    hears("fetched", false);
    flagged.expunge([1]);
    hears("deleted", true);
    flagged.expunge([1]);
    hears("deleted before", false);
    flagged.undelete();
    hears("brought back", true);
    assert!(!others.has_changed().unwrap());
    // What is heard of can be seen.
    let runtime = runtime();
    let heard = runtime.spawn({
        let mut changed = flagged.store().changes(id);
        async move { changed.changed().await }
    });
    flagged.receive();
    runtime.block_on(heard).unwrap().unwrap();
    assert_eq!(flagged.marks().live, 5);
    close(flagged.store.take().unwrap());
    assert!(others.has_changed().is_err(), "the store is over");
}

#[test]
fn damaged_flags_are_an_error_and_never_flags_and_are_made_anew() {
    let mut flagged = Flagged::new(3);
    flagged.set([1, 2], FlagChange::Add(Flags::SEEN));
    let expect = flagged.flags();
    let path = flagged.dir.path().join("index.sqlite");
    let bits = [0, 1, 4, 7].map(|bit| {
        format!("UPDATE flags SET bits = bits + (1 - 2 * (bits >> {bit} & 1)) * (1 << {bit}) WHERE uid = 1")
    });
    let others = [
        "UPDATE flags SET uid = 3 WHERE uid = 2",
        "DELETE FROM flags WHERE uid = 2",
        "UPDATE flags SET row_check = row_check + 1 WHERE uid = 2",
        "INSERT INTO flags SELECT folder, 3, 16, row_check FROM flags WHERE uid = 2",
        "UPDATE folder SET marked_deleted = 1",
    ];
    for harm in bits.into_iter().chain(others.map(str::to_owned)) {
        close(flagged.store.take().unwrap());
        let index = rusqlite::Connection::open(&path).unwrap();
        assert_ne!(index.execute(&harm, []).unwrap(), 0, "{harm}");
        drop(index);
        assert!(!damage(flagged.dir.path()).is_empty(), "{harm}");
        flagged.open_again();
        let found = flagged.rows();
        assert!(matches!(found, Err(StoreError::IndexDamaged(_))), "{harm}: {found:?}");
        // The store makes it anew by itself.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while flagged.rows().is_err() {
            assert!(std::time::Instant::now() < deadline, "{harm}");
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
        assert_eq!(flagged.flags(), expect, "{harm}");
        // The next one waits for longer otherwise.
        flagged.open_again();
    }
    flagged.assert_whole();
}

#[test]
fn a_restored_store_has_the_flags_and_another_count_of_their_changes() {
    let mut flagged = Flagged::new(3);
    flagged.set([1, 3], FlagChange::Add(Flags::SEEN));
    let (before, rows) = flagged.rows().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let backup_dir = elsewhere.path().join("backup");
    close(flagged.store.take().unwrap());
    let options = BackupOptions {
        data_dir: flagged.dir.path().to_owned(),
        dir: backup_dir.clone(),
        checkpoint_dir: None,
    };
    backup(&options, &mut |_| {}).unwrap();
    let restored = elsewhere.path().join("restored");
    let options = RestoreOptions {
        dir: backup_dir,
        data_dir: restored.clone(),
        checkpoint_dir: None,
        despite_damage: false,
        actor: "test".to_owned(),
    };
    assert!(restore(&options, &mut |_| {}).unwrap().restored);
    let store = open(&restored).0;
    let (after, same) = store.rows(flagged.mailbox.id, &INBOX, Uid::FIRST).unwrap();
    assert_eq!((after.uid_validity, after.live, same), (before.uid_validity, before.live, rows));
    assert!(
        after.uid_next > before.uid_next && after.flag_changes > before.flag_changes + 1_000,
        "{after:?}"
    );
    close(store);
    assert_eq!(damage(&restored), Vec::<String>::new());
}

#[test]
fn a_change_of_very_many_is_made_part_by_part_and_told_as_one() {
    let flagged = Flagged::new(3);
    assert_eq!(
        flagged.set((3..=12_000).chain([1]), FlagChange::Add(Flags::SEEN)),
        [(1, Flags::SEEN), (3, Flags::SEEN)]
    );
    assert_eq!(flagged.counts(), (1, 0));
}

/// What a client, the server or an admin does.
#[derive(Clone, Debug)]
enum Deed {
    Receive,
    Set(Vec<u32>, FlagChange),
    Expunge(Vec<u32>),
    Undelete,
    Crash,
    Remake,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let some = || proptest::collection::vec(1..12_u32, 1..5);
    let flags = (0..32_u8).prop_map(Flags::from_bits);
    let change = (flags, 0..3).prop_map(|(flags, how)| match how {
        0 => FlagChange::Replace(flags),
        1 => FlagChange::Add(flags),
        _ => FlagChange::Remove(flags),
    });
    let deed = prop_oneof![
        3 => Just(Deed::Receive),
        6 => (some(), change).prop_map(|(uids, change)| Deed::Set(uids, change)),
        3 => some().prop_map(Deed::Expunge),
        1 => Just(Deed::Undelete),
        1 => Just(Deed::Crash),
        1 => Just(Deed::Remake),
    ];
    proptest::collection::vec(deed, 1..20)
}

fn plays(deeds: &[Deed]) -> Result<(), TestCaseError> {
    let mut flagged = Flagged::new(2);
    let mut model: BTreeMap<u32, Flags> = (1..=2).map(|uid| (uid, Flags::NONE)).collect();
    let mut next = 3;
    for deed in deeds {
        let before = flagged.marks();
        match deed {
            Deed::Receive => {
                flagged.receive();
                model.insert(next, Flags::NONE);
                next += 1;
            }
            Deed::Set(uids, change) => {
                let told = flagged.set(uids.clone(), *change);
                for uid in uids {
                    model.entry(*uid).and_modify(|flags| *flags = change.applied(*flags, Flags::ALL));
                }
                let asked = |(uid, _): &(&u32, &Flags)| uids.contains(uid);
                let expect: Vec<_> = model.iter().filter(asked).map(|(uid, flags)| (*uid, *flags)).collect();
                prop_assert_eq!(told, expect);
            }
            Deed::Expunge(uids) => {
                flagged.expunge(uids.clone());
                model.retain(|uid, _| !uids.contains(uid));
            }
            Deed::Undelete => {
                for (_, uid) in flagged.undelete() {
                    model.insert(uid, Flags::NONE);
                    next = uid + 1;
                }
            }
            Deed::Crash => flagged.open_again(),
            Deed::Remake => {
                close(flagged.store.take().unwrap());
                fs::remove_file(flagged.dir.path().join("index.sqlite")).unwrap();
                flagged.open_again();
            }
        }
        let (marks, rows) = flagged.rows().unwrap();
        let expect: Vec<_> = model.iter().map(|(uid, flags)| (*uid, *flags)).collect();
        let (was, is) = (before.flag_changes, marks.flag_changes);
        prop_assert_eq!(pairs(&rows), expect);
        prop_assert_eq!((marks.live, marks.uid_next.value()), (model.len() as u64, next));
        prop_assert!(is == was || (is == was + 1 && matches!(deed, Deed::Set(..))));
        let having = |flag| model.values().filter(|flags| flags.contains(flag)).count() as u64;
        prop_assert_eq!(flagged.counts(), (marks.live - having(Flags::SEEN), having(Flags::DELETED)));
    }
    flagged.assert_whole();
    Ok(())
}

#[test]
fn flags_and_counts_are_true_after_whatever_was_done() {
    let config = Config { cases: 12, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&deeds(), |deeds| plays(&deeds)).unwrap();
}
