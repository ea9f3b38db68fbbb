use super::*;
use crate::directory::roll;
use crate::directory::sample::{user, wanted};
use std::os::unix::fs::PermissionsExt;

pub(super) fn header(number: u64) -> Header {
    Header {
        number,
        taken_at: Timestamp::from_unix_ms(1_000),
        source: "one".to_owned(),
        place: "users.toml".to_owned(),
        users: 1,
        held: false,
        back_to: None,
    }
}

fn roll_of(id: &str) -> Roll {
    let first = roll::next(
        None,
        wanted(&[user("old", &["old@x.example"]), user(id, &["a@x.example"])]),
        Timestamp::from_unix_ms(0),
        1,
    );
    let both =
        [user(id, &["a@x.example", "info@x.example"]), user("twin", &["t@x.example", "info@x.example"])];
    roll::next(Some(&first), Wanted::of(both.to_vec(), Some(&first)), Timestamp::from_unix_ms(9), 1)
}

fn pending(base: u64) -> Pending {
    let wanted = wanted(&[user("p", &["p@x.example"])]);
    let summary = PlanSummary {
        plan: format!("one-{base}-00000000"),
        source: "one".to_owned(),
        made_at: Timestamp::from_unix_ms(5),
        base,
        why: Vec::new(),
        users_before: 1,
        users: 1,
        diff: Default::default(),
    };
    Pending { summary, wanted }
}

struct Fixture {
    _dir: tempfile::TempDir,
    folder: PathBuf,
}

/// A source of which two lists are kept.
fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("directory").join("one");
    let (mut kept, found) = Kept::open(Some(folder.clone()));
    assert!(found.in_force.is_none() && found.faults.is_empty(), "{found:?}");
    for (number, id) in [(1, "before"), (2, "now")] {
        assert_eq!(kept.next_number().unwrap(), number);
        kept.keep(&header(number), &roll_of(id)).unwrap();
    }
    Fixture { _dir: dir, folder }
}

impl Fixture {
    /// What a start finds: number and last user in force, and what is told.
    fn start(&self) -> (Option<(u64, String)>, Found) {
        let (_, found) = Kept::open(Some(self.folder.clone()));
        let in_force =
            found.in_force.as_ref().map(|(header, roll)| (header.number, roll.users[0].id.clone()));
        (in_force, found)
    }
}

fn list(number: u64, id: &str) -> Option<(u64, String)> {
    Some((number, id.to_owned()))
}

#[test]
fn the_list_of_the_highest_number_is_in_force_after_a_start_with_all_it_knows() {
    let fixture = fixture();
    let (in_force, found) = fixture.start();
    assert_eq!(in_force, list(2, "now"));
    assert!(found.faults.is_empty());
    let roll = found.in_force.unwrap().1;
    assert_eq!(roll, roll_of("now"));
    assert!(!roll.began.is_empty() && !roll.former.is_empty() && !roll.contested.is_empty(), "{roll:?}");
}

#[test]
fn what_is_kept_is_for_its_owner_alone() {
    let fixture = fixture();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&fixture.folder), 0o700);
    assert_eq!(mode(&list_path(&fixture.folder, 2)), 0o600);
}

#[test]
fn a_list_cut_off_anywhere_is_never_in_force_and_the_one_before_is() {
    let fixture = fixture();
    let path = list_path(&fixture.folder, 2);
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let (in_force, found) = fixture.start();
        assert_eq!(in_force, list(1, "before"), "cut at {cut}");
        assert!(found.faults.len() == 1 && found.faults[0].text.contains("2.jsonl"), "{:?}", found.faults);
        assert!(found.in_force.unwrap().0.held, "it may have been gone back to");
        assert_eq!(Kept::Folder(fixture.folder.clone()).next_number().unwrap(), 3, "it is not written over");
    }
    fs::write(&path, [whole.as_slice(), b"x"].concat()).unwrap();
    assert_eq!(fixture.start().0, list(1, "before"), "more than was written");
    fs::write(&path, whole).unwrap();
    assert_eq!(fixture.start().0, list(2, "now"));
}

#[test]
fn a_list_with_any_octet_changed_is_never_in_force() {
    let fixture = fixture();
    let path = list_path(&fixture.folder, 2);
    let whole = fs::read(&path).unwrap();
    for place in 0..whole.len() {
        let mut changed = whole.clone();
        changed[place] ^= 1;
        fs::write(&path, changed).unwrap();
        assert_eq!(fixture.start().0, list(1, "before"), "octet {place}");
    }
}

#[test]
fn what_a_crash_leaves_unfinished_is_no_list_and_in_nobodys_way() {
    let fixture = fixture();
    let whole = fs::read(list_path(&fixture.folder, 2)).unwrap();
    let unfinished = fixture.folder.join(files::UNFINISHED);
    for cut in [0, 1, whole.len() / 2, whole.len()] {
        fs::write(&unfinished, &whole[..cut]).unwrap();
        let (in_force, found) = fixture.start();
        assert_eq!((in_force, found.faults.len()), (list(2, "now"), 0));
    }
    let (mut kept, _) = Kept::open(Some(fixture.folder.clone()));
    kept.keep(&header(3), &roll_of("next")).unwrap();
    assert_eq!(fixture.start().0, list(3, "next"));
    assert!(!unfinished.exists());
}

#[test]
fn a_list_that_cannot_be_written_changes_nothing() {
    let fixture = fixture();
    // A folder stands where the file is to be written, as if the disk said no; then where it is to be renamed to.
    for obstacle in [files::UNFINISHED, "3.jsonl"] {
        let obstacle = fixture.folder.join(obstacle);
        fs::create_dir_all(obstacle.join("full")).unwrap();
        let (mut kept, _) = Kept::open(Some(fixture.folder.clone()));
        assert!(kept.keep(&header(3), &roll_of("next")).is_err());
        fs::remove_dir_all(&obstacle).unwrap();
        let (in_force, found) = fixture.start();
        assert_eq!((in_force, found.faults), (list(2, "now"), Vec::new()));
    }
}

#[test]
fn a_list_of_a_newer_version_is_told_of_and_not_touched() {
    let fixture = fixture();
    let path = list_path(&fixture.folder, 3);
    let newer = b"{\"v\":2,\"will\":\"be\"}\nnobody knows\n";
    fs::write(&path, newer).unwrap();
    let (in_force, found) = fixture.start();
    assert_eq!(in_force, list(2, "now"));
    assert!(found.faults[0].text.contains("format version 2 is newer"), "{:?}", found.faults);
    let (mut kept, _) = Kept::open(Some(fixture.folder.clone()));
    for _ in 0..SNAPSHOTS_KEPT + 3 {
        let number = kept.next_number().unwrap();
        kept.keep(&header(number), &roll_of("later")).unwrap();
    }
    assert_eq!(fs::read(&path).unwrap(), newer);
    let check = check_kept(fixture.folder.ancestors().nth(2).unwrap());
    assert!(check.damaged.is_empty(), "{check:?}");
    assert!(check.newer.len() == 1 && check.newer[0].0 == "directory/one/3.jsonl", "{check:?}");
}

#[test]
fn the_last_ten_lists_are_kept() {
    let fixture = fixture();
    let (mut kept, _) = Kept::open(Some(fixture.folder.clone()));
    for number in 3..=14 {
        kept.keep(&header(number), &roll_of("later")).unwrap();
    }
    let numbers: Vec<u64> = kept.lists().unwrap().iter().map(|header| header.number).collect();
    assert_eq!(numbers, (5..=14).collect::<Vec<u64>>());
    assert_eq!(kept.users_of(4), Ok(None));
    assert_eq!(kept.users_of(5).unwrap().unwrap().users.len(), 2);
}

#[test]
fn a_plan_waits_across_a_start_until_another_list_is_in_force() {
    let fixture = fixture();
    let (mut kept, _) = Kept::open(Some(fixture.folder.clone()));
    kept.keep_plan(Some(&pending(2))).unwrap();
    assert_eq!(fixture.start().1.pending, Some(pending(2)));
    let path = fixture.folder.join(PLAN_FILE);
    let plan = fs::read(&path).unwrap();
    kept.keep(&header(3), &roll_of("next")).unwrap();
    assert!(fixture.start().1.pending.is_none());
    fs::write(&path, &plan).unwrap();
    let found = fixture.start().1;
    assert!(found.pending.is_none() && found.faults.is_empty(), "made against another list");
    fs::write(&path, &plan[..plan.len() - 2]).unwrap();
    let found = fixture.start().1;
    assert!(found.pending.is_none() && found.faults[0].text.contains("pending.jsonl"), "{found:?}");
    kept.keep_plan(None).unwrap();
    assert!(fixture.start().1.faults.is_empty());
}

#[test]
fn how_the_last_try_went_is_known_after_a_start() {
    let fixture = fixture();
    let tries = Tries { last_try: Some(Timestamp::from_unix_ms(7)), failures: 3, ..Tries::default() };
    Kept::Folder(fixture.folder.clone()).keep_tries(&tries);
    assert_eq!(fixture.start().1.tries, tries);
    fs::write(fixture.folder.join(STATUS_FILE), "{").unwrap();
    assert_eq!(fixture.start().1.tries, Tries::default());
}
