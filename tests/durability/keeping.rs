//! The power is cut while mail is deleted, had back and freed, while keys and passwords are replaced, backups and exports made, and
//! the index is lost: what is kept is all there, and what was freed is all that is missing.

use super::gateway::{Account, Gateway, replace_index};
use super::ledger::Door;
use super::load::{Dice, frame_of_report, report, sha256};
use super::power::{dice, rounds};
use super::rig::{Rig, sizes};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

/// Small, so that many are closed, and some emptied.
pub(crate) const SEGMENT_OCTETS: &str = "1048576";
/// Rounds on one disk.
const ROUNDS_A_DISK: u64 = 10;
/// To whom every report went.
const USER: &str = "bob@contoso.example";
/// How long commands run before the cut, at most.
const SPAN: Duration = Duration::from_millis(900);
/// The same where keys are derived from passwords, or much is read.
const LONG_SPAN: Duration = Duration::from_millis(2_500);

/// Deleted in a round, at least, and by how much more at most.
const DELETES: (u64, u64) = (8, 56);

/// What the power is cut amid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Amid {
    /// Freeing what was deleted.
    Freeing,
    /// The same, and the index does not outlive the cut.
    LosingIndex,
    /// The same, while the index is made anew beside it.
    Rebuilding,
    /// The same, while a legal hold keeps all of it.
    Hold,
    /// Having back what was deleted.
    Undelete,
    /// A new key.
    Rotation,
    /// A new password.
    Reset,
    /// A backup, while other mail is freed.
    Backup,
    /// An export, while mail is freed.
    Export,
}

const IN_TURN: [Amid; 10] = [
    Amid::Freeing,
    Amid::Rotation,
    Amid::LosingIndex,
    Amid::Hold,
    Amid::Freeing,
    Amid::Undelete,
    Amid::Reset,
    Amid::Backup,
    Amid::Rebuilding,
    Amid::Export,
];

pub(crate) fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// Runs a command that must work.
pub(crate) fn must(gateway: &Gateway, line: &str) {
    let words = words(line);
    let output = gateway.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {}: {said}", output.status);
}

/// A server whose mail is freed as soon as it is deleted. With `archive`, what is deleted in INBOX stays with the user it was sent to.
fn rig(n: u64, archive: bool) -> Rig {
    let rig = Rig::with_environment(&name(n), &[("DAYBOOK_SEGMENT_OCTETS", SEGMENT_OCTETS)]);
    fs::write(rig.gateway.path("password"), &rig.account.password).unwrap();
    must(&rig.gateway, &format!("mailbox set {} archive={archive} grace_days=0 --yes", rig.account.login));
    rig
}

/// What the messages on the disk of this round are named after.
fn name(n: u64) -> String {
    format!("keeping-{n}")
}

/// The command that exports to `dir`.
fn export(rig: &Rig, dir: &Path) -> String {
    let password = rig.gateway.path("password");
    format!("export {} --password-file {} --to {}", rig.account.login, password.display(), dir.display())
}

/// What runs while the power is cut.
fn commands(rig: &Rig, amid: Amid) -> Vec<String> {
    let login = &rig.account.login;
    let (password, backup) = (rig.gateway.path("password"), rig.gateway.path("backup"));
    let run = "retention run".to_owned();
    match amid {
        Amid::Freeing | Amid::LosingIndex => vec![run.clone(), run.clone(), run],
        Amid::Rebuilding => vec![run.clone(), "check --rebuild".to_owned(), run],
        Amid::Hold => vec![run.clone(), run],
        Amid::Undelete => vec![run, format!("undelete {login}")],
        Amid::Rotation => vec![format!("key rotate {login} --password-file {}", password.display()), run],
        Amid::Reset => {
            vec![format!("mailbox reset-password {login} --password-file {}", password.display()), run]
        }
        Amid::Backup => vec![run.clone(), format!("backup {}", backup.display()), run],
        Amid::Export => vec![run.clone(), export(rig, &rig.gateway.path("export")), run],
    }
}

/// Goes on with the password that opens it now: the one that was shown, where the reset was acknowledged.
fn take_password(rig: &mut Rig, reset: Option<&Output>) -> Result<(), String> {
    let Some(reset) = reset else { return Ok(()) };
    let said = String::from_utf8_lossy(&reset.stdout).into_owned();
    let shown = said.lines().find_map(|line| line.strip_prefix("  ").map(str::to_owned));
    let Some(shown) = shown else { return Ok(()) };
    let account = Account { password: shown, ..rig.account.clone() };
    match Door::of(&rig.gateway, &account).open() {
        Ok(maildrop) => maildrop.quit().map_err(|error| error.to_string())?,
        // The old one must open it then, which is asked when everything is looked at.
        Err(error) if reset.status.success() => return Err(format!("acknowledged, and no login: {error}")),
        Err(_) => return Ok(()),
    }
    fs::write(rig.gateway.path("password"), &account.password).unwrap();
    rig.account = account;
    Ok(())
}

/// How a round ended.
#[derive(PartialEq, Eq)]
enum Ended {
    Well,
    /// Well, too; but the power went amid an append, and the index that knew how much was acknowledged is gone: the bad end is
    /// named, and verify goes on naming it.
    BadEndNamed,
}

/// One round on the disk that began with the round `disk`; what is wrong with it.
fn round(
    rig: &mut Rig,
    (disk, n): (u64, u64),
    dice: &mut Dice,
    figures: &mut Figures,
) -> Result<Ended, String> {
    let amid = IN_TURN[n as usize % IN_TURN.len()];
    let login = rig.account.login.clone();
    let before: BTreeSet<String> = rig.ledger.gone().clone();
    match amid {
        Amid::Hold => must(&rig.gateway, &format!("mailbox hold {login} --reason durability")),
        Amid::Undelete => must(&rig.gateway, &format!("mailbox set {login} grace_days=7")),
        _ => {}
    }
    let lines: Vec<_> = commands(rig, amid).iter().map(|line| words(line)).collect();
    let deletes = DELETES.0 + dice.below(DELETES.1);
    let span = match amid {
        Amid::Rotation | Amid::Reset | Amid::Backup | Amid::Export | Amid::Rebuilding => LONG_SPAN,
        _ => SPAN,
    };
    let said = rig.cut_amid(deletes as usize, &lines, span, dice)?;
    rig.index_is_anew = matches!(amid, Amid::LosingIndex | Amid::Rebuilding);
    if amid == Amid::LosingIndex {
        replace_index(&rig.gateway.data_dir(), None);
    }
    rig.start()?;
    if amid == Amid::Reset {
        take_password(rig, said.first())?;
    }
    if matches!(amid, Amid::Hold | Amid::Undelete) {
        // All of it can be had back, once.
        figures.had_back += rig.ledger.gone().difference(&before).count();
        must(&rig.gateway, &format!("undelete {login}"));
    }
    let verdict = rig.look(n % 2 == 1);
    if amid == Amid::LosingIndex && verdict.is_good_but_for_the_end() {
        println!("round {n}, {amid:?}: the bad end of the log is named: {verdict}");
        return Ok(Ended::BadEndNamed);
    }
    if !verdict.is_good() {
        return Err(verdict.to_string());
    }
    match amid {
        Amid::Hold | Amid::Undelete => {
            let still_gone: Vec<_> = rig.ledger.gone().difference(&before).collect();
            if !still_gone.is_empty() {
                return Err(format!("not had back: {still_gone:?}"));
            }
            if amid == Amid::Hold {
                must(&rig.gateway, &format!("mailbox unhold {login} --yes"));
            }
            must(&rig.gateway, &format!("mailbox set {login} grace_days=0 --yes"));
        }
        // One that was broken off is gone on with.
        Amid::Backup => must(&rig.gateway, &format!("backup {}", rig.gateway.path("backup").display())),
        Amid::Export => {
            let dir = rig.gateway.path("export");
            must(&rig.gateway, &export(rig, &dir));
            must(&rig.gateway, &format!("export --check {}", dir.display()));
        }
        _ => {}
    }
    if disk_has_archive(disk) && n % 2 == 1 {
        look_at_user(rig, disk)?;
    }
    let (there, deleted) = (verdict.present, rig.ledger.deleted());
    let ended = said.iter().filter(|said| said.status.success()).count();
    println!(
        "round {n}, {amid:?}: {ended} of {} commands ended before the cut, {there} there, {deleted} deleted so far: {verdict}",
        lines.len()
    );
    Ok(Ended::Well)
}

/// Every second disk.
fn disk_has_archive(disk: u64) -> bool {
    disk / ROUNDS_A_DISK % 2 == 1
}

/// Whatever became of the reports in INBOX, their originals are in the folder of the user they went to, once and octet for octet.
fn look_at_user(rig: &Rig, disk: u64) -> Result<(), String> {
    let dir = rig.gateway.path("export-of-user");
    must(&rig.gateway, &format!("{} --folder Users/{USER}", export(rig, &dir)));
    must(&rig.gateway, &format!("export --check {}", dir.display()));
    let manifest = fs::read_to_string(dir.join("manifest.jsonl")).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    let lines = manifest.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut there = BTreeSet::new();
    for line in lines.filter(|line| line["kind"] == "message") {
        let id = line["message_id"].as_str().unwrap_or_default();
        let report_id = format!("<journal-{}@load.example>", id.split(['<', '@']).nth(1).unwrap_or_default());
        if line["sha256"] != original_sha256(&report_id, &name(disk)) {
            return Err(format!("altered in the folder of {USER}: {line}"));
        }
        if !there.insert(report_id) {
            return Err(format!("twice in the folder of {USER}: {line}"));
        }
    }
    let lost: Vec<String> = rig.acknowledged_ids().into_iter().filter(|id| !there.contains(id)).collect();
    if lost.is_empty() { Ok(()) } else { Err(format!("lost to {USER}: {lost:?}")) }
}

/// The hash of the original in the report of this Message-ID, as hex digits.
fn original_sha256(report_id: &str, name: &str) -> String {
    let number = report_id.split(['-', '@']).nth(3).and_then(|number| number.parse().ok());
    let number: u64 = number.unwrap_or_else(|| panic!("{report_id} is none of ours"));
    let (_, head, tail) = frame_of_report(&format!("{name}-{number}"));
    let report = report(&format!("{name}-{number}"), sizes(number));
    let attached = b"message/rfc822\r\n\r\n";
    let begin = memchr::memmem::find(&head, attached).unwrap() + attached.len();
    let original = &report.octets[begin..report.octets.len() - tail.len()];
    sha256(original).iter().map(|octet| format!("{octet:02x}")).collect()
}

/// What was done.
#[derive(Debug, Default)]
struct Figures {
    acknowledged: usize,
    deleted: usize,
    had_back: usize,
    objects: u32,
    emptied: usize,
}

/// Objects whose content was freed, and segments that are emptied.
fn freed(data_dir: &Path) -> (u32, usize) {
    let index = rusqlite::Connection::open(data_dir.join("index.sqlite")).unwrap();
    let objects: u32 = index.query_row("SELECT count(*) FROM freed", [], |row| row.get(0)).unwrap();
    let names = fs::read_dir(data_dir.join("log")).unwrap().flatten();
    (objects, names.filter(|name| name.file_name().to_string_lossy().ends_with(".entries")).count())
}

#[test]
fn power_cuts_while_deleting_and_freeing_cost_nothing_that_is_kept() {
    let (mut dice, seed) = dice("power cuts while freeing");
    let (rounds, clock) = (rounds(40, 200), Instant::now());
    let (mut figures, mut done) = (Figures::default(), 0);
    while done < rounds {
        let disk = done;
        let mut rig = rig(disk, disk_has_archive(disk));
        let mut ended = Ended::Well;
        for _ in 0..ROUNDS_A_DISK.min(rounds - done) {
            ended = round(&mut rig, (disk, done), &mut dice, &mut figures).unwrap_or_else(|why| {
                panic!("seed {seed}, round {done}, {:?}: {why}", IN_TURN[done as usize % IN_TURN.len()])
            });
            done += 1;
            if ended == Ended::BadEndNamed {
                break;
            }
        }
        figures.acknowledged += rig.acknowledged();
        figures.deleted += rig.ledger.deleted();
        if ended == Ended::BadEndNamed {
            continue;
        }
        must(&rig.gateway, "retention run");
        let (objects, emptied) = freed(&rig.gateway.data_dir());
        let (outcome, verdict) = rig.end();
        assert!(verdict.is_good(), "in the end: {verdict}");
        assert_eq!(outcome.refused, Vec::<String>::new());
        figures.objects += objects;
        figures.emptied += emptied;
    }
    let Figures { acknowledged, deleted, had_back, objects, emptied } = figures;
    println!(
        "power cuts while freeing: {rounds} rounds, {acknowledged} acknowledged, {deleted} deleted, {had_back} had back, \
         {objects} objects freed, {emptied} segments emptied, 0 lost, 0 damaged, {:.1} s",
        clock.elapsed().as_secs_f64()
    );
    assert!(objects > 0 && emptied > 0, "nothing was freed: the power was cut amid nothing");
}
