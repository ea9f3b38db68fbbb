//! Sealing through the store's own sealer, and opening again what was delivered: octets a second.
//!
//! Up to 1 MiB sealed content stays in memory for the log, so 50 KB and 1 MB measure the cipher and SHA-256. 30 MB becomes a
//! file that is synced before the sealer is done, so there the disk is measured too: TMPDIR says which. Opening reads from
//! the log or the file, checks the hash of the sealed octets, and decrypts.

#![allow(clippy::expect_used)]

#[path = "support/gateway.rs"]
mod gateway;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use daybook::mail::Profile;
use daybook::store::FolderName;
use gateway::{CHUNK_OCTETS, Gateway, text};
use std::hint::black_box;
use std::io::Write;
use std::time::Duration;
use tokio::runtime::Runtime;

const SIZES: [(&str, usize); 3] = [("50 KB", 50_000), ("1 MB", 1_000_000), ("30 MB", 30_000_000)];

fn seal(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let gateway = Gateway::new(&runtime, Profile::Generic);
    let mut group = criterion.benchmark_group("seal");
    group.sample_size(20).warm_up_time(Duration::from_secs(1));
    for (name, octets) in SIZES {
        let content = text(octets);
        group.throughput(Throughput::Bytes(content.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let stage = gateway.store.stage(gateway.to.id).expect("a stage");
                let mut sealer = stage.sealer(content.len() as u64).expect("a sealer");
                for chunk in black_box(content.as_bytes()).chunks(CHUNK_OCTETS) {
                    sealer.write_all(chunk).expect("write");
                }
                sealer.finish().expect("finish")
            });
        });
    }
    group.finish();
}

fn open(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("open");
    group.sample_size(20).warm_up_time(Duration::from_secs(1));
    for (name, octets) in SIZES {
        let gateway = Gateway::new(&runtime, Profile::Generic);
        let message = format!("Message-ID: <1@example.com>\r\n\r\n{}", text(octets));
        runtime.block_on(gateway.deliver(message.as_bytes()));
        let login = gateway.to.address().expect("an address").to_string();
        let unlocked = gateway.store.unlock(&login, &gateway.password).expect("the password");
        let listing = gateway.store.list(gateway.to.id, &FolderName::Inbox).expect("a listing");
        let key = listing.entries.first().expect("the message").message;
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut octets = gateway.store.open(&unlocked, key).expect("a message");
                let read = std::io::copy(&mut octets, &mut std::io::sink()).expect("its octets");
                assert_eq!(read, message.len() as u64);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, seal, open);
criterion_main!(benches);
