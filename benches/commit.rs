//! Messages of 75 KB a second that are durable when their writer hears so, by 1, 16 and 128 writers that each wait for it.
//!
//! `daybook` is the whole way from the first octet to the moment of the 250: scan, extract, hash, seal, log, index. The others
//! only keep octets, on the same disk in the same run: `log` appends frames with one fdatasync a group (the floor), `sqlite`
//! keeps bodies as rows (WAL, synchronous = FULL, one transaction a group), `sled` inserts and flushes (and does not sync:
//! `tests/departures.rs`).
//!
//! The disk under the system's temporary directory is what is measured; set TMPDIR to the disk in question. Takes some
//! gigabytes there, one engine at a time.

#![allow(clippy::expect_used)]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/gateway.rs"]
#[allow(dead_code, reason = "other benches use the rest")]
mod gateway;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use daybook::mail::Profile;
use engines::{BareLog, Sqlite, grouped, share, sled};
use gateway::{Gateway, text};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const MESSAGE_OCTETS: usize = 75_000;
const WRITERS: [u64; 3] = [1, 16, 128];

/// A journal report of about [`MESSAGE_OCTETS`] with a number in it, so that no two are the same.
struct Reports {
    template: Vec<u8>,
    /// Where the number stands.
    numbers: Vec<usize>,
    next: AtomicU64,
}

const NUMBER: &str = "0123456789ABCDEF";

impl Reports {
    fn new() -> Reports {
        let body = text(MESSAGE_OCTETS);
        let template = format!(
            "X-MS-Journal-Report:\r\nMessage-ID: <{NUMBER}@journal.report.generator>\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/mixed; boundary=\"b\"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n\
             Sender: a@example.com\r\nSubject: s\r\nMessage-Id: <{NUMBER}@example.com>\r\nTo: b@example.com\r\n\r\n\
             --b\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: <{NUMBER}@example.com>\r\nSubject: s\r\n\r\n\
             {body}\r\n--b--\r\n"
        );
        let numbers = template.match_indices(NUMBER).map(|(at, _)| at).collect();
        Reports { template: template.into_bytes(), numbers, next: AtomicU64::new(1) }
    }

    fn next(&self) -> Vec<u8> {
        let number = format!("{:016X}", self.next.fetch_add(1, Ordering::Relaxed));
        let mut report = self.template.clone();
        for at in &self.numbers {
            report[*at..at + NUMBER.len()].copy_from_slice(number.as_bytes());
        }
        report
    }
}

/// `writers` tasks that deliver through the pipeline, each after the 250 of its last.
fn deliver(
    runtime: &Runtime,
    gateway: &Arc<Gateway>,
    reports: &Arc<Reports>,
    writers: u64,
    n: u64,
) -> Duration {
    let started = Instant::now();
    runtime.block_on(async {
        let write = |writer| {
            let (gateway, reports) = (gateway.clone(), reports.clone());
            tokio::spawn(async move {
                for _ in 0..share(writer, writers, n) {
                    gateway.deliver(&reports.next()).await;
                }
            })
        };
        let tasks: Vec<_> = (0..writers).map(write).collect();
        for task in tasks {
            task.await.expect("a writer");
        }
    });
    started.elapsed()
}

/// A new directory, on a disk that has nothing left to write of what was there before.
fn quiet_dir() -> TempDir {
    rustix::fs::sync();
    tempfile::tempdir().expect("a temporary directory")
}

/// The engines one after the other for each number of writers: a disk's mood lasts for minutes.
fn commit(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let reports = Arc::new(Reports::new());
    for writers in WRITERS {
        let mut group = criterion.benchmark_group(format!("commit 75 KB, writers: {writers}"));
        group
            .throughput(Throughput::Elements(1))
            .sampling_mode(SamplingMode::Flat)
            .sample_size(10)
            .warm_up_time(Duration::from_secs(1))
            .measurement_time(Duration::from_secs(6));
        {
            rustix::fs::sync();
            let gateway = Gateway::new(&runtime, Profile::Microsoft365);
            group.bench_function("daybook", |bencher| {
                bencher.iter_custom(|n| deliver(&runtime, &gateway, &reports, writers, n));
            });
        }
        {
            let dir = quiet_dir();
            let mut log = BareLog::new(dir.path());
            group.bench_function("log", |bencher| {
                bencher.iter_custom(|n| grouped(&mut log, writers, n, || reports.next()));
            });
        }
        {
            let dir = quiet_dir();
            let mut sqlite = Sqlite::new(dir.path());
            group.bench_function("sqlite", |bencher| {
                bencher.iter_custom(|n| grouped(&mut sqlite, writers, n, || reports.next()));
            });
        }
        {
            let dir = quiet_dir();
            let db = ::sled::open(dir.path()).expect("a database");
            group.bench_function("sled", |bencher| {
                bencher.iter_custom(|n| sled(&db, writers, n, || reports.next()));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, commit);
criterion_main!(benches);
