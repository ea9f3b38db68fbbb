//! A disk that fills up, and is emptied again: by mail, by somebody else, by files without an octet, and at the very moment at
//! which a new segment is due.
//!
//! Mail is deferred then, never refused for good and never acknowledged in vain; what is there is fetched; it is taken again
//! as soon as there is room, without a restart; and the power cut at the end shows that every 250 was meant.

use super::disk::{Disk, segments};
use super::gateway::{Account, Gateway, until};
use super::ledger::{Door, Ledger, Visit};
use super::load::{Reply, Report, Sha256, Smtp, report, sha256};
use super::rig::{cut_under, gateway_on};
use super::strace::{Injection, On, Strace, Times};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const DISK_MEBIBYTES: u64 = 64;
/// What somebody else has there, and takes away again.
const FILLER_MEBIBYTES: u64 = 24;
/// Messages offered while there is no room.
const OFFERED_IN_VAIN: usize = 12;
/// After so long without one more inode there is none.
const SETTLED: Duration = Duration::from_secs(1);

/// One sender, who knows what became of each message, on a disk that fills up.
struct Bench {
    gateway: Gateway,
    disk: Disk,
    account: Account,
    connection: Option<Smtp>,
    begun: BTreeMap<String, Sha256>,
    acknowledged: BTreeSet<String>,
    deferred: Vec<Report>,
    ledger: Ledger,
}

impl Bench {
    fn new(options: &[&str]) -> Bench {
        let disk = Disk::made_with(DISK_MEBIBYTES, options);
        let mut gateway = gateway_on(&disk, "");
        gateway.start_again();
        let account = gateway.create_account();
        Bench {
            gateway,
            disk,
            account,
            connection: None,
            begun: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            deferred: Vec::new(),
            ledger: Ledger::default(),
        }
    }

    /// Offers a new message; any answer but 250 and 4xx fails.
    fn offer(&mut self, octets: usize) -> Reply {
        let report = report(&format!("full-{}", self.begun.len()), octets);
        self.begun.insert(report.id.clone(), sha256(&report.octets));
        let reply = self.offer_again(&report);
        if reply.code != 250 {
            self.deferred.push(report);
        }
        reply
    }

    fn offer_again(&mut self, report: &Report) -> Reply {
        let mut smtp = match self.connection.take() {
            Some(smtp) => smtp,
            None => Smtp::open(self.gateway.smtp()).unwrap(),
        };
        let reply = smtp.deliver(&self.account.address, &report.octets).unwrap();
        assert!(reply.code == 250 || reply.is_deferral(), "{}: {reply:?}", report.id);
        if reply.code == 250 {
            self.acknowledged.insert(report.id.clone());
        }
        if reply.code != 421 {
            self.connection = Some(smtp);
        }
        reply
    }

    /// Offers messages until there is no room, and a few more.
    fn fill(&mut self, octets: usize) {
        until("a disk without room", || is_full(&self.offer(octets)).then_some(()));
        for n in 0..OFFERED_IN_VAIN {
            self.offer(if n % 2 == 0 { octets } else { 2_000 });
        }
    }

    /// Sends again what was deferred, until it is taken: as soon as there is room, without a restart.
    fn recover(&mut self) {
        let deferred = std::mem::take(&mut self.deferred);
        assert!(!deferred.is_empty(), "nothing was deferred");
        for report in &deferred {
            until("room to be noticed", || (self.offer_again(report).code == 250).then_some(()));
        }
    }

    /// Everything that was acknowledged can be fetched, without a restart.
    fn judge(&mut self) {
        let verdict = self.ledger.judge(&self.gateway, &self.account, &self.begun, &self.acknowledged, true);
        assert!(verdict.is_good(), "{verdict}");
    }

    /// Deletes two messages; whether that worked.
    fn delete(&mut self) -> bool {
        let visit = Visit::pay(&Door::of(&self.gateway, &self.account), &self.ledger.some(2));
        let before = self.ledger.deleted();
        self.ledger.note(visit);
        self.ledger.deleted() == before + 2
    }

    /// Cuts the power, and judges.
    fn cut(&mut self) {
        let switch = self.disk.switch();
        cut_under(&mut self.gateway, switch);
        self.connection = None;
        self.disk.power_on();
        self.gateway.start_again();
        self.judge();
    }

    fn filler(&self, name: &str) -> PathBuf {
        self.disk.root().join(name)
    }

    /// Writes until not an octet is left.
    fn take_every_octet(&self) {
        let mut file = File::create(self.filler("filler")).unwrap();
        let mut piece = vec![0xa5; 1 << 20];
        while !piece.is_empty() {
            match file.write_all(&piece).and_then(|()| file.sync_data()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => piece.truncate(piece.len() / 2),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Makes files until no more can be made, nor a while later what the server let go of by then; gives how many.
    fn take_every_inode(&self) -> usize {
        fs::create_dir(self.filler("files")).unwrap();
        let (mut made, mut last) = (0, Instant::now());
        until("every inode to be taken", || {
            while File::create(self.filler(&format!("files/{made}"))).is_ok() {
                (made, last) = (made + 1, Instant::now());
            }
            (last.elapsed() >= SETTLED).then_some(made)
        })
    }
}

/// The answer that senders know as "no room now".
fn is_full(reply: &Reply) -> bool {
    reply.code == 452 && reply.text.starts_with("4.3.1")
}

#[test]
fn a_disk_full_of_mail_defers_serves_and_recovers() {
    let mut bench = Bench::new(&[]);
    let filler = File::create(bench.filler("filler")).unwrap();
    rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, FILLER_MEBIBYTES << 20).unwrap();
    bench.offer(3_000);
    bench.fill(700_000);
    let in_vain = bench.deferred.len();
    bench.judge();
    assert!(bench.delete(), "nothing can be deleted on a full disk");
    // Still full, and the sender is told so.
    assert!(is_full(&bench.offer(700_000)));
    fs::remove_file(bench.filler("filler")).unwrap();
    drop(filler);
    bench.recover();
    bench.cut();
    println!(
        "disk full of mail: {in_vain} deferred, {} acknowledged, all there; two deleted while it was full",
        bench.acknowledged.len()
    );
}

#[test]
fn a_disk_that_somebody_else_fills_to_the_last_octet_costs_nothing_acknowledged() {
    let mut bench = Bench::new(&[]);
    for octets in [3_000, 1_200_000, 40_000] {
        assert_eq!(bench.offer(octets).code, 250);
    }
    // Beyond the reserve, which only the gateway itself keeps.
    bench.take_every_octet();
    let has_ballast = bench.gateway.data_dir().join("ballast").exists();
    bench.fill(3_000);
    assert_eq!(bench.acknowledged.len(), 3, "acknowledged without an octet of room");
    bench.judge();
    let deleted = bench.delete();
    assert!(deleted || !has_ballast, "nothing can be deleted, ballast or not");
    fs::remove_file(bench.filler("filler")).unwrap();
    bench.recover();
    let segments = segments(&bench.gateway.data_dir());
    bench.cut();
    println!(
        "disk filled by somebody else: {} acknowledged, all there; segments {segments:?}; deleted meanwhile: {deleted}",
        bench.acknowledged.len()
    );
}

#[test]
fn a_disk_without_inodes_defers_what_needs_a_file_and_recovers() {
    let mut bench = Bench::new(&["-N", "1024"]);
    for octets in [3_000, 1_200_000] {
        assert_eq!(bench.offer(octets).code, 250);
    }
    let made = bench.take_every_inode();
    // What goes into the log needs no file.
    let small = bench.offer(3_000);
    let large: Vec<Reply> = (0..4).map(|_| bench.offer(1_200_000)).collect();
    assert!(large.iter().all(Reply::is_deferral), "{large:?}");
    bench.judge();
    fs::remove_dir_all(bench.filler("files")).unwrap();
    bench.recover();
    bench.cut();
    println!(
        "disk without inodes ({made} files more): small mail {}, large mail {}; {} acknowledged, all there",
        small.code,
        large[0].code,
        bench.acknowledged.len()
    );
}

#[test]
fn a_disk_without_room_for_a_new_segment_costs_nothing_acknowledged() {
    let mut bench = Bench::new(&["-N", "1024"]);
    assert_eq!(bench.offer(3_000).code, 250);
    bench.take_every_inode();
    let data_dir = bench.gateway.data_dir();
    let before = segments(&data_dir);
    // The segment is given up, and none can be made in its place.
    let fault =
        Injection { calls: "pwrite64", effect: "error=EIO", first: 1, times: Times::Once, on: On::Log };
    let strace = Strace::attach(bench.gateway.pid(), fault, &data_dir, &bench.gateway.path("strace.out"));
    let replies: Vec<Reply> = (0..6).map(|_| bench.offer(3_000)).collect();
    assert_eq!(strace.detach().len(), 1, "no write failed");
    assert!(!is_full(&replies[0]) && replies.iter().all(Reply::is_deferral), "{replies:?}");
    assert!(replies.iter().skip(1).all(is_full), "{replies:?}");
    assert_eq!(segments(&data_dir), before);
    bench.judge();
    fs::remove_dir_all(bench.filler("files")).unwrap();
    bench.recover();
    let after = segments(&data_dir);
    assert!(after.last() > before.last(), "{after:?}");
    bench.cut();
    println!(
        "no room for a new segment: segments {before:?}, then {after:?}; {} acknowledged, all there",
        bench.acknowledged.len()
    );
}
