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
#[path = "support/reports.rs"]
mod reports;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use daybook::mail::Profile;
use engines::{BareLog, Sqlite, grouped, sled};
use gateway::Gateway;
use reports::{Reports, deliver};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const MESSAGE_OCTETS: usize = 75_000;
const WRITERS: [u64; 3] = [1, 16, 128];

/// A new directory, on a disk that has nothing left to write of what was there before.
fn quiet_dir() -> TempDir {
    rustix::fs::sync();
    tempfile::tempdir().expect("a temporary directory")
}

/// The engines one after the other for each number of writers: a disk's mood lasts for minutes.
fn commit(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let reports = Arc::new(Reports::new(MESSAGE_OCTETS));
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
