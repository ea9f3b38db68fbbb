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

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};
use criterion::{criterion_group, criterion_main};
use daybook::mail::Profile;
use engines::{BareLog, Group, Sqlite, grouped, share, sled};
use gateway::{Gateway, text};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
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

fn group<'c>(criterion: &'c mut Criterion, engine: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(format!("commit 75 KB, {engine}"));
    group
        .throughput(Throughput::Elements(1))
        .sampling_mode(SamplingMode::Flat)
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(6));
    group
}

fn daybook(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let reports = Arc::new(Reports::new());
    let mut group = group(criterion, "daybook");
    for writers in WRITERS {
        let gateway = Gateway::new(&runtime, Profile::Microsoft365);
        group.bench_function(BenchmarkId::new("writers", writers), |bencher| {
            bencher.iter_custom(|iterations| {
                let started = Instant::now();
                runtime.block_on(async {
                    let write = |writer| {
                        let (gateway, reports) = (gateway.clone(), reports.clone());
                        tokio::spawn(async move {
                            for _ in 0..share(writer, writers, iterations) {
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
            });
        });
    }
    group.finish();
}

fn baseline<G: Group>(criterion: &mut Criterion, engine: &str, make: fn(&Path) -> G) {
    let reports = Reports::new();
    let mut group = group(criterion, engine);
    for writers in WRITERS {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut engine = make(dir.path());
        group.bench_function(BenchmarkId::new("writers", writers), |bencher| {
            bencher.iter_custom(|iterations| grouped(&mut engine, writers, iterations, || reports.next()));
        });
    }
    group.finish();
}

fn log(criterion: &mut Criterion) {
    baseline(criterion, "log", BareLog::new);
}

fn sqlite(criterion: &mut Criterion) {
    baseline(criterion, "sqlite", Sqlite::new);
}

fn sled_flushed(criterion: &mut Criterion) {
    let reports = Reports::new();
    let mut group = group(criterion, "sled");
    for writers in WRITERS {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let db = ::sled::open(dir.path()).expect("a database");
        group.bench_function(BenchmarkId::new("writers", writers), |bencher| {
            bencher.iter_custom(|iterations| sled(&db, writers, iterations, || reports.next()));
        });
    }
    group.finish();
}

criterion_group!(benches, daybook, log, sqlite, sled_flushed);
criterion_main!(benches);
