use super::*;
use crate::directory::report::{StateFault, StateFaultKind};
use crate::directory::state::{Header, Kept};
use crate::mail::{
    EnvelopeHeaders, GatewayAddress, GatewayMailboxId, GatewayMailboxState, Keeping, Profile, Role, Trust,
};
use std::fmt::Write as _;

fn user(id: &str, addresses: &[&str]) -> String {
    format!("[[user]]\nid = '{id}'\nname = '{id}'\naddresses = {addresses:?}\n")
}

fn source(path: &Path, mailboxes: Option<&[&str]>) -> DirectorySource {
    DirectorySource {
        mailboxes: mailboxes.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        ..DirectorySource::file(path.display().to_string(), path)
    }
}

/// One with these local parts, the current one first.
fn gateway_mailbox(logins: &[&str]) -> GatewayMailbox {
    let address = |login: &&str| GatewayAddress {
        address: format!("{login}@gw.example").parse().unwrap(),
        until: None,
    };
    GatewayMailbox {
        id: GatewayMailboxId::new(1, [0; 10]),
        name: "one".to_owned(),
        addresses: logins.iter().map(address).collect(),
        tenant: None,
        profile: Profile::default(),
        state: GatewayMailboxState::default(),
        archive: true,
        created_at: Timestamp::from_unix_ms(0),
        public_key: String::new(),
        trust: Trust::default(),
        role: Role::default(),
        envelope_headers: EnvelopeHeaders::default(),
        keeping: Keeping::default(),
        holds: Vec::new(),
        former_keys: Vec::new(),
        deleted_at: None,
        fetch: crate::mail::FetchRules::default(),
        view_from: None,
    }
}

fn ids(directory: &Directory, login: &str) -> Vec<String> {
    let snapshot = directory.snapshot_of(&gateway_mailbox(&[login]));
    snapshot.users().iter().map(|user| user.id.clone()).collect()
}

fn changed(directory: &Directory) -> bool {
    !directory.due(now()).is_empty()
}

/// Polls as the server does until a change is reported.
fn looks_until_changed(directory: &Directory) -> usize {
    (1..=10).find(|_| changed(directory)).unwrap_or(usize::MAX)
}

#[test]
fn each_gateway_mailbox_sees_the_sources_that_serve_it_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let [all, named] = ["all.toml", "named.toml"].map(|name| dir.path().join(name));
    std::fs::write(&all, user("a", &["al@x.example", "info@x.example"])).unwrap();
    std::fs::write(&named, user("n", &["nora@x.example", "info@x.example"])).unwrap();
    let served: &[&str] = &["MBX-1", "mbx-2@gw.example"];
    let (directory, report) = Directory::open(&[source(&all, None), source(&named, Some(served))]);
    assert!(report.is_good());
    assert_eq!(ids(&directory, "mbx-1"), ["a", "n"]);
    assert_eq!(ids(&directory, "Mbx-2"), ["a", "n"]);
    assert_eq!(ids(&directory, "mbx-3"), ["a"]);
    let snapshot_of = |logins: &[&str]| directory.snapshot_of(&gateway_mailbox(logins));
    assert!(Arc::ptr_eq(&snapshot_of(&["mbx-1"]), &snapshot_of(&["mbx-2"])));
    assert!(Arc::ptr_eq(&snapshot_of(&["mbx-new", "mbx-2"]), &snapshot_of(&["mbx-2"])), "a new address");
    let counts: Vec<usize> = report.sources.iter().map(|source| source.conflicts.len()).collect();
    assert_eq!(counts, [0, 1]);
}

#[test]
fn other_sources_take_the_place_of_the_old_and_known_ones_keep_their_lists() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two] = ["one.toml", "two.toml"].map(|name| dir.path().join(name));
    std::fs::write(&one, user("a", &["a@x.example"])).unwrap();
    std::fs::write(&two, user("b", &["b@x.example"])).unwrap();
    let (directory, _) = Directory::open(&[source(&one, None)]);
    assert_eq!(ids(&directory, "mbx-1"), ["a"]);
    std::fs::write(&one, "not a list").unwrap();
    let report = directory.reconfigure(&[source(&two, Some(&["mbx-1"])), source(&one, None)]);
    assert!(!report.is_good());
    assert_eq!(ids(&directory, "mbx-1"), ["b", "a"], "a bad file never replaces a good list");
    assert_eq!(ids(&directory, "mbx-2"), ["a"]);
    let none = dir.path().join("none.toml");
    let report = directory.reconfigure(&[source(&two, None), source(&none, None)]);
    assert!(!report.taken && !report.is_good());
    assert_eq!(ids(&directory, "mbx-2"), ["a"], "a mistyped path changes nothing");
    assert!(directory.reconfigure(&[]).is_good());
    assert_eq!(ids(&directory, "mbx-1"), Vec::<String>::new());
    assert!(!changed(&directory));
}

#[test]
fn a_bad_empty_or_missing_file_keeps_the_list_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users.toml");
    let (directory, report) = Directory::open(&[source(&path, None)]);
    assert_eq!(report.sources[0].error.as_ref().unwrap().kind, "unreadable");
    assert_eq!(ids(&directory, "m"), Vec::<String>::new());

    std::fs::write(&path, user("a", &["al@x.example"])).unwrap();
    let report = directory.reload();
    assert!(report.is_good() && report.sources[0].changed);
    let kept = directory.snapshot_of(&gateway_mailbox(&["m"]));
    let good = directory.sources();
    assert!(good[0].is_good && good[0].users == 1 && good[0].last_good.is_some(), "{good:?}");
    for bad in ["", "[[user]]\nid = 3", "[[user"] {
        std::fs::write(&path, bad).unwrap();
        let report = directory.reload();
        let source = &report.sources[0];
        assert!(source.error.is_some() && !source.changed && source.users == 1, "{bad}");
        assert_eq!(ids(&directory, "m"), ["a"], "{bad}");
        let status = directory.sources();
        assert!(!status[0].is_good && status[0].last_good == good[0].last_good, "{status:?}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(!directory.reload().is_good());
    assert_eq!(ids(&directory, "m"), ["a"]);

    std::fs::write(&path, user("b", &["bo@x.example"])).unwrap();
    assert!(directory.reload().is_good());
    assert_eq!(ids(&directory, "m"), ["b"]);
    assert_eq!(kept.users()[0].id, "a", "a snapshot in use never changes");
}

#[test]
fn a_change_counts_when_two_looks_see_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users.toml");
    std::fs::write(&path, user("a", &["al@x.example"])).unwrap();
    let (directory, _) = Directory::open(&[source(&path, None)]);
    assert!(!changed(&directory) && !changed(&directory));

    std::fs::write(&path, "[[us").unwrap();
    assert!(!changed(&directory), "it may still be being written");
    std::fs::write(&path, "[[user]] # one more").unwrap();
    assert!(!changed(&directory), "it was");
    assert!(changed(&directory));
    assert!(!directory.reload().is_good());
    assert!(!changed(&directory) && !changed(&directory), "a bad file is reported once");

    std::fs::remove_file(&path).unwrap();
    assert_eq!(looks_until_changed(&directory), 2);
    assert!(!directory.reload().is_good());
    std::fs::write(&path, user("b", &["bo@x.example"])).unwrap();
    assert_eq!(looks_until_changed(&directory), 2);
}

#[test]
fn reports_an_unchanged_list_as_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users.toml");
    std::fs::write(&path, user("a", &["al@x.example"])).unwrap();
    let (directory, report) = Directory::open(&[source(&path, None)]);
    assert!(report.sources[0].changed);
    assert!(!directory.reload().sources[0].changed);
}

#[test]
fn takes_ten_thousand_users() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users.toml");
    let mut text = String::new();
    for n in 0..10_000 {
        writeln!(text, "{}", user(&n.to_string(), &[&format!("u{n}@x.example"), &format!("a{n}@x.example")]))
            .unwrap();
    }
    std::fs::write(&path, text).unwrap();
    let (directory, report) = Directory::open(&[source(&path, None)]);
    assert_eq!((report.sources[0].users, report.is_good()), (10_000, true));
    let found = directory
        .snapshot_of(&gateway_mailbox(&["m"]))
        .find(&AddressKey::of("A9999@x.example"))
        .unwrap()
        .id
        .clone();
    assert_eq!(found, "9999");
}

#[test]
fn without_sources_nobody_is_known() {
    let (directory, report) = Directory::open(&[]);
    assert!(report.is_good() && !changed(&directory));
    assert!(directory.snapshot_of(&gateway_mailbox(&["m"])).users().is_empty());
}

#[test]
fn a_file_that_could_not_be_read_is_tried_again_though_it_looks_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users.toml");
    std::fs::create_dir(&path).unwrap();
    let (directory, report) = Directory::open(&[source(&path, None)]);
    assert_eq!(report.sources[0].error.as_ref().unwrap().kind, "unreadable");
    assert!(!changed(&directory) && !changed(&directory));
    let later = Timestamp::from_unix_ms(now().unix_ms() + 2 * 60_000);
    assert_eq!(directory.due(later), [path.display().to_string()]);
}

#[test]
fn what_was_noted_while_the_clock_was_ahead_counts_from_now() {
    use crate::directory::roll;
    use crate::directory::sample::{user, wanted};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users.toml");
    let lists = [
        vec![user("ann", &["ann@x.example", "info@x.example"]), user("eve", &["eve@x.example"])],
        vec![user("ann", &["ann@x.example"]), user("bob", &["bob@x.example", "info@x.example"])],
    ];
    let in_2099 = Timestamp::from_unix_ms(4_070_908_800_000);
    let first = roll::next(None, wanted(&lists[0]), Timestamp::from_unix_ms(1_000), 30);
    let ahead = roll::next(Some(&first), wanted(&lists[1]), in_2099, 30);
    let (mut kept, _) = Kept::open(Some(dir.path().join(STATE_FOLDER).join("corp")));
    let header = Header {
        number: 1,
        taken_at: in_2099,
        source: "corp".to_owned(),
        place: path.display().to_string(),
        users: 2,
        held: false,
        back_to: None,
    };
    kept.keep(&header, &ahead).unwrap();
    let text = lists[1].iter().map(|user| {
        let addresses: Vec<&str> = user.addresses().collect();
        format!("[[user]]\nid = '{}'\nname = '{}'\naddresses = {addresses:?}\n", user.id, user.name)
    });
    std::fs::write(&path, text.collect::<String>()).unwrap();

    let configured = DirectorySource { name: "corp".to_owned(), every_minutes: 60, ..source(&path, None) };
    let before = now();
    let (directory, report) = Directory::open_kept(&[configured], dir.path());
    let sync = report.sources[0].sync.as_ref().unwrap();
    let clock = |fault: &StateFault| fault.kind == StateFaultKind::Clock;
    assert!(sync.state_faults.iter().any(clock) && sync.diff.is_empty(), "{sync:?}");
    assert!(directory.sources()[0].state_faults.is_empty());
    let roll = directory.roll("corp").unwrap();
    let (after, day_ms) = (now(), 86_400_000);
    let is_now = |at: Timestamp| before <= at && at <= after;
    assert!(is_now(roll.began[&AddressKey::of("info@x.example")]), "{roll:?}");
    let of = |id: &str| roll.former.iter().find(|tenure| tenure.user.id == id).unwrap();
    assert!(is_now(of("ann").until) && is_now(of("eve").gone.unwrap()), "{roll:?}");
    assert_eq!(of("eve").until.unix_ms() - of("eve").gone.unwrap().unix_ms(), 30 * day_ms);
    let entry = directory.entry("corp").unwrap();
    assert!(directory.due(now()).is_empty());
    lock(&entry.work.standing).next_due = Some(in_2099);
    assert_eq!(directory.due(now()), ["corp"], "chosen while the clock was ahead");
    assert!(directory.reload().sources[0].sync.as_ref().unwrap().state_faults.is_empty(), "told once");
}
