//! What only a real connection shows: deadlines, drain, the cap, and who waits for whom.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests fail by panicking.

#[path = "support/smtp_fake.rs"]
mod smtp_fake;

use daybook::mail::{Address, ReceiptId, SessionId, TransportEnvelope};
use daybook::net::admission::{Admission, AdmissionPolicy};
use daybook::net::drain::Drain;
use daybook::net::listen;
use daybook::smtp::server::{self, PaceLimits, Settings};
use daybook::smtp::{BoxFuture, Fault, Peer, Receiver, Reception, RecipientVerdict};
use smtp_fake::{Fake, Faults};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

const SOON: Duration = Duration::from_secs(20);
const ENVELOPE: &str = "HELO client.example\r\nMAIL FROM:<>\r\nRCPT TO:<journal@gateway.example>\r\n";

struct Fixture {
    address: SocketAddr,
    drain: Drain,
    serving: JoinHandle<()>,
}

impl Fixture {
    async fn start(settings: Settings, receiver: Arc<dyn Receiver>) -> Fixture {
        Fixture::start_with(settings, receiver, 1000).await
    }

    async fn start_with(settings: Settings, receiver: Arc<dyn Receiver>, connections_max: usize) -> Fixture {
        let listeners = listen::bind(&["127.0.0.1:0".parse().unwrap()]).await.unwrap();
        let address = listeners[0].address();
        let drain = Drain::new();
        let admission = Admission::new(AdmissionPolicy::in_all(connections_max));
        let serving = tokio::spawn(server::serve(
            listeners,
            admission,
            Arc::new(settings),
            None,
            receiver,
            drain.clone(),
        ));
        Fixture { address, drain, serving }
    }

    async fn ended(self) {
        tokio::time::timeout(SOON, self.serving).await.expect("the server ends").unwrap();
    }
}

struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    async fn connect(address: SocketAddr) -> Client {
        Client { stream: BufReader::new(TcpStream::connect(address).await.unwrap()) }
    }

    async fn send(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads one line per start given.
    async fn expect(&mut self, starts: &[&str]) {
        for start in starts {
            let mut line = String::new();
            tokio::time::timeout(SOON, self.stream.read_line(&mut line)).await.expect("a reply").unwrap();
            assert!(line.starts_with(start), "wanted {start}, got {line:?}");
        }
    }

    async fn expect_end(&mut self) {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(SOON, self.stream.read_to_end(&mut rest)).await.expect("an end");
        assert!(read.is_err() || rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }
}

fn settings() -> Settings {
    Settings::new("mx.example")
}

/// Announces each commit and ends it when given a permit.
struct Held {
    fake: Fake,
    begun: mpsc::UnboundedSender<()>,
    go: Arc<Semaphore>,
}

struct HeldReception {
    inner: Box<dyn Reception>,
    begun: mpsc::UnboundedSender<()>,
    go: Arc<Semaphore>,
}

impl Receiver for Held {
    fn recipient(&self, address: &Address, already: &[Address], peer: &Peer<'_>) -> RecipientVerdict {
        self.fake.recipient(address, already, peer)
    }

    fn room(&self, octets: Option<u64>) -> Result<(), Fault> {
        self.fake.room(octets)
    }

    fn session_id(&self) -> SessionId {
        self.fake.session_id()
    }

    fn receipt_id(&self) -> ReceiptId {
        self.fake.receipt_id()
    }

    fn begin(&self, receipt_id: ReceiptId, envelope: TransportEnvelope) -> Result<Box<dyn Reception>, Fault> {
        let inner = self.fake.begin(receipt_id, envelope)?;
        Ok(Box::new(HeldReception { inner, begun: self.begun.clone(), go: Arc::clone(&self.go) }))
    }
}

impl Reception for HeldReception {
    fn write<'a>(&'a mut self, octets: &'a [u8]) -> BoxFuture<'a, Result<(), Fault>> {
        self.inner.write(octets)
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async move {
            self.begun.send(()).unwrap();
            self.go.acquire().await.unwrap().forget();
            self.inner.commit().await
        })
    }
}

fn held() -> (Arc<Held>, mpsc::UnboundedReceiver<()>) {
    let (begun, began) = mpsc::unbounded_channel();
    (Arc::new(Held { fake: Fake::new(Faults::default()), begun, go: Arc::new(Semaphore::new(0)) }), began)
}

#[tokio::test]
async fn says_250_only_after_the_commit_and_commits_for_a_client_that_has_gone() {
    let (receiver, mut began) = held();
    let fixture = Fixture::start(settings(), receiver.clone()).await;

    let mut client = Client::connect(fixture.address).await;
    client.expect(&["220"]).await;
    client.send(&format!("{ENVELOPE}BDAT 1 LAST\r\nx")).await;
    began.recv().await.unwrap();
    assert!(receiver.fake.kept().is_empty());
    receiver.go.add_permits(1);
    client.expect(&["250", "250 2.1.0", "250 2.1.5", "250 2.0.0 Ok "]).await;
    assert_eq!(receiver.fake.kept().len(), 1);

    client.send("MAIL FROM:<>\r\nRCPT TO:<journal@gateway.example>\r\nBDAT 1 LAST\r\ny").await;
    began.recv().await.unwrap();
    drop(client);
    receiver.go.add_permits(1);
    fixture.drain.start();
    fixture.ended().await;
    assert_eq!(receiver.fake.kept().len(), 2);
}

#[tokio::test]
async fn a_panic_in_the_commit_is_a_451() {
    struct Panics(Fake);
    struct PanicsReception;
    impl Receiver for Panics {
        fn recipient(&self, address: &Address, already: &[Address], peer: &Peer<'_>) -> RecipientVerdict {
            self.0.recipient(address, already, peer)
        }

        fn room(&self, octets: Option<u64>) -> Result<(), Fault> {
            self.0.room(octets)
        }
        fn session_id(&self) -> SessionId {
            self.0.session_id()
        }
        fn receipt_id(&self) -> ReceiptId {
            self.0.receipt_id()
        }
        fn begin(&self, _: ReceiptId, _: TransportEnvelope) -> Result<Box<dyn Reception>, Fault> {
            Ok(Box::new(PanicsReception))
        }
    }
    impl Reception for PanicsReception {
        fn write<'a>(&'a mut self, _: &'a [u8]) -> BoxFuture<'a, Result<(), Fault>> {
            Box::pin(async { Ok(()) })
        }
        fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), Fault>> {
            Box::pin(async { panic!("wanted by the test") })
        }
    }
    let fixture = Fixture::start(settings(), Arc::new(Panics(Fake::new(Faults::default())))).await;
    let mut client = Client::connect(fixture.address).await;
    client.send(&format!("{ENVELOPE}BDAT 1 LAST\r\nxNOOP\r\n")).await;
    client.expect(&["220", "250", "250", "250", "451 4.3.0", "250 2.0.0 Ok"]).await;
}

#[tokio::test]
async fn a_drain_says_421_between_commands_and_lets_a_body_finish() {
    let fake = Arc::new(Fake::new(Faults::default()));
    let fixture = Fixture::start(settings(), fake.clone()).await;
    let mut idle = Client::connect(fixture.address).await;
    let mut in_data = Client::connect(fixture.address).await;
    let mut in_bdat = Client::connect(fixture.address).await;
    idle.expect(&["220"]).await;
    in_data.send(&format!("{ENVELOPE}DATA\r\n")).await;
    in_data.expect(&["220", "250", "250", "250", "354"]).await;
    in_data.send("half ").await;
    in_bdat.send(&format!("{ENVELOPE}BDAT 5\r\nhalf ")).await;
    in_bdat.expect(&["220", "250", "250", "250", "250 2.0.0 5 octets"]).await;

    fixture.drain.start();
    idle.expect(&["421 4.3.2"]).await;
    idle.expect_end().await;
    in_data.send("whole\r\n.\r\n").await;
    in_data.expect(&["250 2.0.0 Ok ", "421 4.3.2"]).await;
    in_data.expect_end().await;
    in_bdat.send("BDAT 5 LAST\r\nwhole").await;
    in_bdat.expect(&["250 2.0.0 Ok ", "421 4.3.2"]).await;
    in_bdat.expect_end().await;
    fixture.ended().await;
    let mut bodies: Vec<Vec<u8>> = fake.kept().into_iter().map(|kept| kept.body).collect();
    bodies.sort();
    assert_eq!(bodies, [b"half whole".to_vec(), b"half whole\r\n".to_vec()]);
}

#[tokio::test]
async fn a_body_that_outstays_the_drain_is_dropped_and_not_kept() {
    let fake = Arc::new(Fake::new(Faults::default()));
    let mut settings = settings();
    settings.timeouts.drain = Duration::from_millis(50);
    let fixture = Fixture::start(settings, fake.clone()).await;
    let mut client = Client::connect(fixture.address).await;
    client.send(&format!("{ENVELOPE}DATA\r\n")).await;
    client.expect(&["220", "250", "250", "250", "354"]).await;
    fixture.drain.start();
    fixture.ended().await;
    client.expect_end().await;
    assert!(fake.kept().is_empty());
}

#[tokio::test]
async fn a_line_that_drips_is_cut_off() {
    let mut settings = settings();
    settings.timeouts.command = Duration::from_millis(100);
    let fixture = Fixture::start(settings, Arc::new(Fake::new(Faults::default()))).await;
    let mut client = Client::connect(fixture.address).await;
    client.expect(&["220"]).await;
    let (read, mut write) = client.stream.into_inner().into_split();
    let dripping = tokio::spawn(async move {
        let mut drip = tokio::time::interval(Duration::from_millis(5));
        while write.write_all(b"x").await.is_ok() {
            drip.tick().await;
        }
    });
    let mut line = String::new();
    let mut read = BufReader::new(read);
    tokio::time::timeout(SOON, read.read_line(&mut line)).await.unwrap().unwrap();
    assert_eq!(line, "421 4.4.2 Waited too long\r\n");
    dripping.abort();
}

#[tokio::test]
async fn a_body_below_the_lowest_rate_is_cut_off_and_not_kept() {
    let fake = Arc::new(Fake::new(Faults::default()));
    let mut settings = settings();
    settings.timeouts.body = PaceLimits {
        grace: Duration::from_millis(100),
        octets_per_second_min: 1_000_000,
        ..PaceLimits::default()
    };
    let fixture = Fixture::start(settings, fake.clone()).await;
    let mut client = Client::connect(fixture.address).await;
    client.send(&format!("{ENVELOPE}DATA\r\n")).await;
    client.expect(&["220", "250", "250", "250", "354"]).await;
    let (read, mut write) = client.stream.into_inner().into_split();
    let dripping = tokio::spawn(async move {
        let mut drip = tokio::time::interval(Duration::from_millis(5));
        while write.write_all(b"x\r\n").await.is_ok() {
            drip.tick().await;
        }
    });
    let mut line = String::new();
    let mut read = BufReader::new(read);
    tokio::time::timeout(SOON, read.read_line(&mut line)).await.unwrap().unwrap();
    assert_eq!(line, "421 4.4.2 Waited too long\r\n");
    dripping.abort();
    assert!(fake.kept().is_empty());
}

#[tokio::test]
async fn one_connection_too_many_hears_421() {
    let fixture = Fixture::start_with(settings(), Arc::new(Fake::new(Faults::default())), 1).await;
    let mut first = Client::connect(fixture.address).await;
    first.expect(&["220"]).await;
    let mut second = Client::connect(fixture.address).await;
    second.expect(&["421 4.7.0"]).await;
    second.expect_end().await;
    first.send("NOOP\r\n").await;
    first.expect(&["250"]).await;
}

#[tokio::test]
async fn tls_is_not_offered_without_a_certificate() {
    let fixture = Fixture::start(settings(), Arc::new(Fake::new(Faults::default()))).await;
    let mut client = Client::connect(fixture.address).await;
    client.send("EHLO client.example\r\nSTARTTLS\r\n").await;
    client
        .expect(&[
            "220",
            "250-mx.example",
            "250-PIPELINING",
            "250-SIZE 419430400",
            "250-8BITMIME",
            "250-SMTPUTF8",
            "250-CHUNKING",
            "250 ENHANCEDSTATUSCODES",
            "502",
        ])
        .await;
}

#[tokio::test]
async fn a_large_body_arrives_whole() {
    let fake = Arc::new(Fake::new(Faults::default()));
    let fixture = Fixture::start(settings(), fake.clone()).await;
    let mut client = Client::connect(fixture.address).await;
    client.send(&format!("{ENVELOPE}DATA\r\n")).await;
    client.expect(&["220", "250", "250", "250", "354"]).await;
    let body = format!("{}\r\n", "0123456789".repeat(7)).repeat(50_000);
    client.send(&format!("{body}.\r\n")).await;
    client.expect(&["250 2.0.0 Ok "]).await;
    assert!(fake.kept()[0].body == body.as_bytes());
}

#[tokio::test]
async fn who_guesses_addresses_waits_and_a_drain_ends_the_waiting() {
    let fixture = Fixture::start(settings(), Arc::new(Fake::new(Faults::default()))).await;
    let mut client = Client::connect(fixture.address).await;
    // Nine guesses: after the first two they wait 1, 2, 4, 8, 8, 8 and 8 seconds, longer than this test may take.
    let guesses = "RCPT TO:<nobody@gateway.example>\r\n".repeat(9);
    client.send(&format!("HELO client.example\r\nMAIL FROM:<>\r\n{guesses}")).await;
    client.expect(&["220", "250", "250", "550", "550"]).await;
    fixture.drain.start();
    client.expect(&["550"; 7]).await;
    client.expect(&["421 4.3.2"]).await;
    client.expect_end().await;
}

#[tokio::test]
async fn a_connection_that_has_lasted_long_enough_is_ended_between_messages() {
    let mut settings = settings();
    settings.timeouts.session = Duration::from_millis(50);
    let fixture = Fixture::start(settings, Arc::new(Fake::new(Faults::default()))).await;
    let mut client = Client::connect(fixture.address).await;
    client.expect(&["220", "421 4.4.2 Connected long enough"]).await;
    client.expect_end().await;
}

#[tokio::test]
async fn by_default_a_thousand_messages_come_over_one_connection_and_then_a_421() {
    const MESSAGES: usize = 1_000;
    let fake = Arc::new(Fake::new(Faults::default()));
    let fixture = Fixture::start(settings(), fake.clone()).await;
    let mut client = Client::connect(fixture.address).await;
    client.send("HELO client.example\r\n").await;
    client.expect(&["220", "250"]).await;
    let message = "MAIL FROM:<>\r\nRCPT TO:<journal@gateway.example>\r\nBDAT 1 LAST\r\nx";
    for _ in 0..MESSAGES {
        client.send(message).await;
        client.expect(&["250 2.1.0", "250 2.1.5", "250 2.0.0 Ok "]).await;
    }
    client.send(message).await;
    client.expect(&["421 4.7.0 Enough messages"]).await;
    assert_eq!(fake.kept().len(), MESSAGES);
}

#[tokio::test]
async fn commands_without_a_message_keep_no_old_connection_open() {
    let mut settings = settings();
    settings.timeouts.session = Duration::from_millis(200);
    let fixture = Fixture::start(settings, Arc::new(Fake::new(Faults::default()))).await;
    let mut client = Client::connect(fixture.address).await;
    client.send(ENVELOPE).await;
    client.expect(&["220", "250", "250", "250", "421 4.4.2 Connected long enough"]).await;
    client.expect_end().await;
}

#[tokio::test]
async fn a_body_that_never_pauses_ends_with_its_time_and_is_not_kept() {
    let fake = Arc::new(Fake::new(Faults::default()));
    let mut settings = settings();
    settings.message_octets_max = u64::MAX;
    settings.timeouts.body = PaceLimits { total: Duration::from_millis(300), ..PaceLimits::default() };
    let fixture = Fixture::start(settings, fake.clone()).await;
    let mut client = Client::connect(fixture.address).await;
    client.send("HELO client.example\r\nMAIL FROM:<>\r\nRCPT TO:<nobody@gateway.example>\r\n").await;
    client.expect(&["220", "250", "250", "550"]).await;
    client.send(&format!("BDAT {}\r\n", u64::MAX)).await;
    let (read, mut write) = client.stream.into_inner().into_split();
    let flooding = tokio::spawn(async move {
        let piece = vec![b'x'; 256 * 1024];
        while write.write_all(&piece).await.is_ok() {}
    });
    let mut line = String::new();
    let mut read = BufReader::new(read);
    tokio::time::timeout(SOON, read.read_line(&mut line)).await.unwrap().unwrap();
    assert_eq!(line, "421 4.4.2 Waited too long\r\n");
    flooding.abort();
    assert!(fake.kept().is_empty());
}

#[tokio::test]
async fn waiting_between_chunks_is_the_messages_time() {
    let fake = Arc::new(Fake::new(Faults::default()));
    let mut settings = settings();
    settings.timeouts.body = PaceLimits { grace: Duration::from_millis(100), ..PaceLimits::default() };
    let fixture = Fixture::start(settings, fake.clone()).await;
    let mut client = Client::connect(fixture.address).await;
    client.send(&format!("{ENVELOPE}BDAT 1\r\nx")).await;
    client.expect(&["220", "250", "250", "250", "250 2.0.0 1 octets received"]).await;
    client.expect(&["421 4.4.2 Waited too long"]).await;
    client.expect_end().await;
    assert!(fake.kept().is_empty());
}

#[tokio::test]
async fn thousands_of_chunks_of_one_octet_make_one_message() {
    const CHUNKS: usize = 5_000;
    let fake = Arc::new(Fake::new(Faults::default()));
    let fixture = Fixture::start(settings(), fake.clone()).await;
    let mut client = Client::connect(fixture.address).await;
    client.send(ENVELOPE).await;
    client.expect(&["220", "250", "250", "250"]).await;
    for _ in 0..CHUNKS / 100 {
        client.send(&"BDAT 1\r\n\n".repeat(100)).await;
        client.expect(&["250 2.0.0 1 octets received"; 100]).await;
    }
    client.send("BDAT 0 LAST\r\n").await;
    client.expect(&["250 2.0.0 Ok "]).await;
    assert!(fake.kept()[0].body == b"\n".repeat(CHUNKS));
}
