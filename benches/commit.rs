//! Acknowledged deliveries of 75 KB a second, sealed and durable, by 1, 16 and 64 writers; beside them the floor: the same
//! octets appended to one file with an fdatasync each, and with one for every 16.
//!
//! Run on a quiet machine: `cargo bench --bench commit`. The disk under the system's temporary directory is what is measured;
//! set TMPDIR to the disk in question.

#![allow(clippy::expect_used)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use daybook::directory::Directory;
use daybook::mail::{GatewayMailbox, Profile, ReversePath, TransportEnvelope};
use daybook::pipeline::Pipeline;
use daybook::smtp::Receiver;
use daybook::store::{Embedded, NewGatewayMailbox, Options, Store};
use std::hint::black_box;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const MESSAGE_OCTETS: usize = 75_000;

/// A journal report of about [`MESSAGE_OCTETS`], unlike every other.
fn report(n: u64) -> Vec<u8> {
    let mut body = String::with_capacity(MESSAGE_OCTETS + 1024);
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while body.len() < MESSAGE_OCTETS {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        body.push_str(&format!(
            "{state:016x}{:016x}{:016x}{:016x}\r\n",
            state.rotate_left(17),
            !state,
            state.rotate_left(41)
        ));
    }
    format!(
        "X-MS-Journal-Report:\r\nMessage-ID: <{n}@journal.report.generator>\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=\"b{n}\"\r\n\r\n--b{n}\r\nContent-Type: text/plain\r\n\r\n\
         Sender: a@example.com\r\nSubject: s\r\nMessage-Id: <{n}@example.com>\r\nTo: b@example.com\r\n\r\n\
         --b{n}\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: <{n}@example.com>\r\nSubject: s\r\n\r\n{body}\r\n--b{n}--\r\n"
    )
    .into_bytes()
}

struct Gateway {
    pipeline: Arc<Pipeline>,
    to: Arc<GatewayMailbox>,
    next: AtomicU64,
    _dir: tempfile::TempDir,
}

fn gateway(runtime: &tokio::runtime::Runtime) -> Arc<Gateway> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = Options { data_dir: dir.path().to_owned(), reserve_octets: 0 };
    let store: Arc<dyn Store> = Arc::new(Embedded::open(&options).expect("a store").0);
    let new = NewGatewayMailbox {
        name: "bench".to_owned(),
        domain: "gw.example".to_owned(),
        tenant: None,
        profile: Profile::Microsoft365,
    };
    let (to, _) = runtime.block_on(store.create_gateway_mailbox(new, "bench")).expect("a gateway mailbox");
    let pipeline = Pipeline::new(store, Arc::new(Directory::open(&[]).0));
    Arc::new(Gateway { pipeline, to, next: AtomicU64::new(1), _dir: dir })
}

async fn deliver(gateway: &Gateway) {
    let message = report(gateway.next.fetch_add(1, Ordering::Relaxed));
    let envelope = TransportEnvelope {
        session_id: gateway.pipeline.session_id(),
        peer: ([127, 0, 0, 1], 25).into(),
        helo: "bench".to_owned(),
        tls: None,
        reverse_path: ReversePath::Null,
        recipients: gateway.to.address().cloned().into_iter().collect(),
        smtputf8: false,
    };
    let mut reception = gateway.pipeline.begin(gateway.pipeline.receipt_id(), envelope).expect("reception");
    reception.write(&message).await.expect("write");
    reception.commit().await.expect("commit");
}

fn delivered(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("delivered-75k");
    group
        .throughput(Throughput::Bytes(MESSAGE_OCTETS as u64))
        .sample_size(10)
        .measurement_time(Duration::from_secs(10));
    for writers in [1_u64, 16, 64] {
        let gateway = gateway(&runtime);
        group.bench_function(BenchmarkId::new("writers", writers), |bencher| {
            bencher.iter_custom(|iterations| {
                let started = Instant::now();
                runtime.block_on(async {
                    let tasks: Vec<_> = (0..writers)
                        .map(|writer| {
                            let gateway = gateway.clone();
                            let mine = iterations / writers + u64::from(writer < iterations % writers);
                            tokio::spawn(async move {
                                for _ in 0..mine {
                                    deliver(&gateway).await;
                                }
                            })
                        })
                        .collect();
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

fn floor(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append-75k");
    group
        .throughput(Throughput::Bytes(MESSAGE_OCTETS as u64))
        .sample_size(10)
        .measurement_time(Duration::from_secs(10));
    for grouped in [1_u64, 16] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut file = std::fs::File::create(dir.path().join("floor")).expect("a file");
        group.bench_function(BenchmarkId::new("per-fdatasync", grouped), |bencher| {
            let message = report(1);
            bencher.iter_custom(|iterations| {
                let started = Instant::now();
                for n in 1..=iterations {
                    file.write_all(black_box(&message)).expect("write");
                    if n % grouped == 0 || n == iterations {
                        file.sync_data().expect("fdatasync");
                    }
                }
                started.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, delivered, floor);
criterion_main!(benches);
