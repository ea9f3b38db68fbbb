//! The power is cut while mail is deleted, had back and freed, while keys are rotated and backups made: what is kept is all there,
//! and what was freed is all that is missing.

use super::gateway::Gateway;
use super::power::{dice, rounds};
use super::rig::Rig;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Small, so that many are closed, and some emptied.
pub(crate) const SEGMENT_OCTETS: &str = "1048576";
/// Rounds on one disk.
const ROUNDS_A_DISK: u64 = 10;
/// How long commands run before the cut, at most.
const SPAN: Duration = Duration::from_millis(900);

/// What the power is cut amid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Amid {
    /// Freeing what was deleted.
    Freeing,
    /// The same, while a legal hold keeps all of it.
    Hold,
    /// Having back what was deleted.
    Undelete,
    /// A new key.
    Rotation,
    /// A backup, while other mail is freed.
    Backup,
}

const IN_TURN: [Amid; 10] = [
    Amid::Freeing,
    Amid::Rotation,
    Amid::Freeing,
    Amid::Hold,
    Amid::Freeing,
    Amid::Undelete,
    Amid::Freeing,
    Amid::Backup,
    Amid::Freeing,
    Amid::Freeing,
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

/// A server whose mail is in INBOX alone, and freed as soon as it is deleted.
fn rig(n: u64) -> Rig {
    let rig = Rig::with_environment(&format!("keeping-{n}"), &[("DAYBOOK_SEGMENT_OCTETS", SEGMENT_OCTETS)]);
    fs::write(rig.gateway.path("password"), &rig.account.password).unwrap();
    must(&rig.gateway, &format!("mailbox set {} archive=false grace_days=0 --yes", rig.account.login));
    rig
}

/// One round; what is wrong with it.
fn round(rig: &mut Rig, n: u64, dice: &mut super::load::Dice) -> Result<(), String> {
    let amid = IN_TURN[n as usize % IN_TURN.len()];
    let login = rig.account.login.clone();
    let (password, backup) = (rig.gateway.path("password"), rig.gateway.path("backup"));
    let before: BTreeSet<String> = rig.ledger.gone().clone();
    let run = words("retention run");
    let commands = match amid {
        Amid::Freeing => vec![run.clone(), run.clone(), run],
        Amid::Hold => {
            must(&rig.gateway, &format!("mailbox hold {login} --reason durability"));
            vec![run.clone(), run]
        }
        Amid::Undelete => {
            must(&rig.gateway, &format!("mailbox set {login} grace_days=7"));
            vec![run, words(&format!("undelete {login}"))]
        }
        Amid::Rotation => {
            vec![words(&format!("key rotate {login} --password-file {}", password.display())), run]
        }
        Amid::Backup => vec![run.clone(), words(&format!("backup {}", backup.display())), run],
    };
    rig.cut_amid(2 + dice.below(24) as usize, &commands, SPAN, dice)?;
    if matches!(amid, Amid::Hold | Amid::Undelete) {
        // All of it can be had back, once.
        must(&rig.gateway, &format!("undelete {login}"));
    }
    let verdict = rig.look(n % 2 == 1);
    if !verdict.is_good() {
        return Err(format!("round {n}, {amid:?}: {verdict}"));
    }
    match amid {
        Amid::Hold | Amid::Undelete => {
            let still_gone: Vec<_> = rig.ledger.gone().difference(&before).collect();
            if !still_gone.is_empty() {
                return Err(format!("round {n}, {amid:?}: not had back: {still_gone:?}"));
            }
            if amid == Amid::Hold {
                must(&rig.gateway, &format!("mailbox unhold {login} --yes"));
            }
            must(&rig.gateway, &format!("mailbox set {login} grace_days=0 --yes"));
        }
        // One that was broken off is gone on with.
        Amid::Backup => must(&rig.gateway, &format!("backup {}", backup.display())),
        Amid::Freeing | Amid::Rotation => {}
    }
    println!(
        "round {n}, {amid:?}: {} there, {} deleted so far: {verdict}",
        verdict.present,
        rig.ledger.deleted()
    );
    Ok(())
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
    let (mut dice, _) = dice("power cuts while freeing");
    let rounds = rounds(40, 200);
    let (mut acknowledged, mut deleted, mut objects, mut emptied, mut done) = (0, 0, 0, 0, 0);
    while done < rounds {
        let mut rig = rig(done);
        for _ in 0..ROUNDS_A_DISK.min(rounds - done) {
            if let Err(why) = round(&mut rig, done, &mut dice) {
                panic!("{why}");
            }
            done += 1;
        }
        must(&rig.gateway, "retention run");
        let (more_objects, more_emptied) = freed(&rig.gateway.data_dir());
        deleted += rig.ledger.deleted();
        let (outcome, verdict) = rig.end();
        assert!(verdict.is_good(), "in the end: {verdict}");
        assert_eq!(outcome.refused, Vec::<String>::new());
        acknowledged += outcome.acknowledged.len();
        objects += more_objects;
        emptied += more_emptied;
    }
    println!(
        "power cuts while freeing: {rounds} rounds, {acknowledged} acknowledged, {deleted} deleted, {objects} objects freed, \
         {emptied} segments emptied, 0 lost, 0 damaged"
    );
    assert!(objects > 0 && emptied > 0, "nothing was freed: the power was cut amid nothing");
}
