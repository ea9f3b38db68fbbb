//! The same cuts against `sled`, the store that the design card names: the harness sees there what design decision D3 states. Its
//! `flush`, documented as "flushes all dirty IO buffers and calls fsync", leaves what it flushed to the next power cut.
//!
//! The writer is this test once more, in a process of its own; it says each number once `flush` has returned.

use super::disk::Disk;
use super::gateway::until;
use super::load::Dice;
use super::rig::linger;
use super::{given, is_long};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// In a child: `write` or `read`.
const PART: &str = "DAYBOOK_SLED";
/// In a child: where the database is.
const DIR: &str = "DAYBOOK_SLED_DIR";
const RECORD_OCTETS: usize = 4096;
/// How long a writer is left at work, at most.
const WORK: Duration = Duration::from_millis(700);
/// Stands before what a child says: the test runner says things as well.
const SAID: &str = "sled says ";

fn child(part: &str, dir: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", "sled::flushed_records_are_lost_in_a_power_cut"]);
    command.env(PART, part).env(DIR, dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Writes and flushes without end, and says each number that is flushed.
fn write(dir: &str) -> ! {
    let db = sled::open(dir).unwrap();
    let mut out = std::io::stdout();
    for n in 0_u64.. {
        db.insert(n.to_be_bytes(), vec![n as u8; RECORD_OCTETS]).unwrap();
        db.flush().unwrap();
        writeln!(out, "\n{SAID}{n}").unwrap();
    }
    std::process::exit(0)
}

/// Says how many of the records from 0 on are there.
fn read(dir: &str) -> ! {
    let db = sled::open(dir).unwrap();
    let is_there = |n: &u64| {
        let record = db.get(n.to_be_bytes()).unwrap();
        record.is_some_and(|record| *record == vec![*n as u8; RECORD_OCTETS])
    };
    println!("\n{SAID}{}", (0_u64..).take_while(is_there).count());
    std::process::exit(0)
}

/// The last number a child said, as far as it came; its output ends with it.
fn last_said(child: &mut Child, last: &AtomicU64) {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    for said in lines.filter_map(|line| line.strip_prefix(SAID)?.parse::<u64>().ok()) {
        last.store(said + 1, Relaxed);
    }
}

#[test]
fn flushed_records_are_lost_in_a_power_cut() {
    if let Ok(dir) = std::env::var(DIR) {
        match std::env::var(PART).as_deref() {
            Ok("write") => write(&dir),
            _ => read(&dir),
        }
    }
    let rounds = given("DAYBOOK_ROUNDS").unwrap_or(if is_long() { 20 } else { 5 });
    let mut dice = Dice::new(given("DAYBOOK_SEED").unwrap_or(20_261_121));
    let (mut flushed, mut lost, mut bad_rounds, mut unopenable) = (0, 0, 0, 0);
    let clock = Instant::now();
    for _ in 0..rounds {
        let disk = Disk::new(512);
        let dir = disk.root().join("db");
        let switch = disk.switch();
        let mut writer = child("write", &dir);
        let said = AtomicU64::new(0);
        let pid = Pid::from_child(&writer);
        std::thread::scope(|scope| {
            scope.spawn(|| last_said(&mut writer, &said));
            until("the first flush", || (said.load(Relaxed) > 0).then_some(()));
            linger(&mut dice, WORK);
            // As the gateway: it stands still before the power goes.
            kill_process(pid, Signal::STOP).unwrap();
            switch.cut();
            kill_process(pid, Signal::KILL).unwrap();
        });
        writer.wait().unwrap();
        disk.power_on();
        let there = AtomicU64::new(0);
        let mut reader = child("read", &dir);
        last_said(&mut reader, &there);
        unopenable += u64::from(!reader.wait().unwrap().success());
        // A reader that says how many there are says one less than is taken for said.
        let (said, there) = (said.into_inner(), there.into_inner().saturating_sub(1));
        flushed += said;
        lost += said.saturating_sub(there);
        bad_rounds += u64::from(there < said);
    }
    println!(
        "sled: {rounds} cuts, {flushed} records flushed, {lost} of them lost, in {bad_rounds} of the rounds; \
         {unopenable} times it would not open; {:.1} s",
        clock.elapsed().as_secs_f64()
    );
    // Good news on the day this fails: look again at design decision D3, an append-only log of our own.
    assert!(lost > 0, "sled keeps what it has flushed now");
}
