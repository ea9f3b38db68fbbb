//! What SMTP itself costs: the state machine without sockets, and the server over loopback before a receiver that keeps nothing.
//!
//! `session` is [`Session::step`] over whole messages in reads of 64 KiB, as the server shows them: dot-stuffing undone, line ends
//! checked, and the commands around. `dialogue` is the commands of one message with a body of one line. `server` is acknowledged
//! reports of 75 KB over connections that stay open, plain and by STARTTLS; the clients, threads of this process, share the
//! processor. What storing costs besides is in `commit.rs`; both together are in `peers.sh`.

#![allow(clippy::expect_used)]

#[path = "support/gateway.rs"]
#[allow(dead_code, reason = "other benches use the rest")]
mod gateway;
#[path = "support/smtp_client.rs"]
mod smtp_client;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use daybook::mail::{Address, ReceiptId, SessionId, TransportEnvelope};
use daybook::net::admission::{Admission, AdmissionPolicy};
use daybook::net::drain::Drain;
use daybook::net::listen;
use daybook::net::tls::TlsIdentity;
use daybook::smtp::server::{self, Settings};
use daybook::smtp::session::{Effect, Policy, Session, Step};
use daybook::smtp::{BoxFuture, Fault, Peer, Receiver, Reception, RecipientVerdict};
use gateway::text;
use smtp_client::{Client, share, trusting};
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Octets that a read gives at most, as in the server.
const READ_OCTETS: usize = server::BODY_OCTETS;
const REPORT_OCTETS: usize = 75_000;
const CONNECTIONS: [u64; 3] = [1, 16, 64];
const HOST: &str = "localhost";
const RCPT: &str = "journal@gateway.example";

/// Takes every message and keeps none.
#[derive(Default)]
struct Null(AtomicU64);

impl Receiver for Null {
    fn room(&self, _octets: Option<u64>) -> Result<(), Fault> {
        Ok(())
    }

    fn recipient(&self, _address: &Address, _already: &[Address], _peer: &Peer<'_>) -> RecipientVerdict {
        RecipientVerdict::Accept
    }

    fn session_id(&self) -> SessionId {
        SessionId::new(self.0.fetch_add(1, Ordering::Relaxed), [0; 10])
    }

    fn receipt_id(&self) -> ReceiptId {
        ReceiptId::new(self.0.fetch_add(1, Ordering::Relaxed), [0; 10])
    }

    fn begin(&self, _: ReceiptId, _: TransportEnvelope) -> Result<Box<dyn Reception>, Fault> {
        Ok(Box::new(Forgets))
    }
}

struct Forgets;

impl Reception for Forgets {
    fn write<'a>(&'a mut self, octets: &'a [u8]) -> BoxFuture<'a, Result<(), Fault>> {
        black_box(octets);
        Box::pin(async { Ok(()) })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async { Ok(()) })
    }
}

fn session() -> Session {
    let settings = Settings::new(HOST);
    let policy = Policy {
        hostname: settings.hostname,
        message_octets_max: settings.message_octets_max,
        tls_offered: true,
        require_tls: false,
        recipients_max: settings.recipients_max,
        errors_max: settings.errors_max,
        messages_max: u64::MAX,
        tarpit_max: Duration::ZERO,
    };
    Session::new(policy, SessionId::new(1, [0; 10]), ([127, 0, 0, 1], 25).into())
}

/// Plays a whole input to a new session, answering every question well; octets of bodies and messages taken.
fn play(input: &[u8]) -> (usize, usize) {
    let mut session = session();
    let (mut start, mut end, mut octets, mut messages) = (0, 0, 0, 0);
    loop {
        let Step { consumed, effect } = session.step(&input[start..end]);
        start += consumed;
        assert!(!matches!(effect, Effect::Input) || end < input.len(), "a dialogue up to QUIT");
        match effect {
            // Behind QUIT.
            Effect::Close => return (octets, messages),
            // 354 has been read before the body is sent.
            Effect::Input if !session.is_in_body() && end < start + 1 => end = next_line(input, end),
            Effect::Input => end = (end + READ_OCTETS).min(input.len()),
            Effect::Reply(reply) => assert!(black_box(&reply).code < 400, "{reply:?}"),
            Effect::Open(_) => drop(black_box(session.opened(Ok(ReceiptId::new(1, [0; 10]))))),
            Effect::Recipient(_) => drop(black_box(session.recipient(RecipientVerdict::Accept))),
            Effect::Begin(_) => drop(black_box(session.begun(Ok(())))),
            Effect::Body(body) => octets += black_box(body).len(),
            Effect::Commit => {
                messages += 1;
                drop(black_box(session.committed(Ok(()))));
            }
            Effect::Discard | Effect::StartTls => panic!("a good dialogue"),
        }
    }
}

/// Where the line that begins at `from` ends.
fn next_line(input: &[u8], from: usize) -> usize {
    let rest = &input[from..];
    rest.iter().position(|octet| *octet == b'\n').map_or(input.len(), |at| from + at + 1)
}

fn dialogue(body: &str, by_bdat: bool) -> Vec<u8> {
    let begin = format!("EHLO client.example\r\nMAIL FROM:<> BODY=8BITMIME\r\nRCPT TO:<{RCPT}>\r\n");
    let message = match by_bdat {
        true => format!("BDAT {} LAST\r\n{body}", body.len()),
        false => format!("DATA\r\n{body}.\r\n"),
    };
    format!("{begin}{message}QUIT\r\n").into_bytes()
}

fn bodies(criterion: &mut Criterion) {
    for (command, by_bdat) in [("DATA", false), ("BDAT", true)] {
        let mut group = criterion.benchmark_group(format!("session, {command}"));
        group.sample_size(30).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
        for (name, octets) in [("75 KB", REPORT_OCTETS), ("10 MB", 10_000_000)] {
            let body = text(octets);
            let input = dialogue(&body, by_bdat);
            assert_eq!(play(&input), (body.len(), 1));
            group.throughput(Throughput::Bytes(body.len() as u64));
            group.bench_function(name, |bencher| bencher.iter(|| play(black_box(&input))));
        }
        group.finish();
    }
    let input = dialogue("Subject: x\r\n", false);
    let mut group = criterion.benchmark_group("dialogue");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Elements(1));
    group.bench_function("EHLO to QUIT", |bencher| bencher.iter(|| play(black_box(&input))));
    group.finish();
}

/// `connections` clients that each send after the 250 of their last, together `n` reports.
fn send(address: SocketAddr, tls: Option<&TlsIdentity>, connections: u64, n: u64, body: &str) -> Duration {
    let trust = tls.map(|identity| trusting(identity.certificate().expect("a certificate")));
    // Connected before the clock starts: what counts is how fast reports go.
    let open = |_| Client::connect(address, trust.clone().map(|trust| (trust, HOST)));
    let clients: Vec<_> = (0..connections).map(open).collect();
    let started = Instant::now();
    std::thread::scope(|scope| {
        for (client, mut connection) in (0..).zip(clients) {
            scope.spawn(move || {
                for _ in 0..share(client, connections, n) {
                    connection.deliver(RCPT, body.as_bytes());
                }
            });
        }
    });
    started.elapsed()
}

fn acknowledged(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tls = Arc::new(TlsIdentity::self_signed(dir.path(), HOST).expect("a certificate"));
    let any = "127.0.0.1:0".parse().expect("an address");
    let listeners = runtime.block_on(listen::bind(&[any])).expect("a port");
    let address = listeners[0].address();
    // However long a sample lasts, its connections do.
    let settings = Arc::new(Settings { messages_max: u64::MAX, ..Settings::new(HOST) });
    let drain = Drain::new();
    let serving = server::serve(
        listeners,
        Admission::new(AdmissionPolicy::in_all(1000)),
        settings,
        Some(tls.clone()),
        Arc::new(Null::default()),
        drain.clone(),
    );
    let serving = runtime.spawn(serving);
    let body = text(REPORT_OCTETS);
    for (way, tls) in [("plain", None), ("STARTTLS", Some(&*tls))] {
        let mut group = criterion.benchmark_group(format!("server, {way}"));
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
        group.throughput(Throughput::Elements(1));
        for connections in CONNECTIONS {
            group.bench_function(format!("connections: {connections}"), |bencher| {
                bencher.iter_custom(|n| send(address, tls, connections, n, &body));
            });
        }
        group.finish();
    }
    drain.start();
    runtime.block_on(serving).expect("an orderly end");
}

criterion_group!(benches, bodies, acknowledged);
criterion_main!(benches);
