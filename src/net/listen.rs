//! Binding, accepting and draining.
//!
//! [`bind`] takes the configured addresses (port 0 allowed) and gives listeners that know the address they
//! really got. [`serve`] runs one accept loop per listener until the [`Drain`] starts, then closes the
//! listeners, waits for the connections it started and, past the deadline, drops them.
//!
//! Invariants:
//! - A connection runs only while it holds a permit of the [`Admission`]; one beyond a limit is answered
//!   with the service's refusal in a single non-blocking write and closed, costing no task and no buffer.
//! - A failing `accept` (out of descriptors or memory) is backed off from, doubling up to [`ACCEPT_BACKOFF_MAX`]: a loop
//!   that retries at once burns a core exactly when the machine is in need. It is reported at once and then at most every
//!   [`ACCEPT_REPORT_INTERVAL`]: who connects and hangs up at the edge of what there is would fill the log otherwise.
//! - A connection task that panics ends that connection only.
//! - Peers are known by the address they have: a dual-stack listener shows IPv4 peers as `::ffff:a.b.c.d`, which neither limits
//!   nor logs are to tell from `a.b.c.d`.

use super::admission::{Admission, Permit, Refusal};
use super::drain::Drain;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Connections the system holds for us until we accept them; it may hold fewer (`net.core.somaxconn`). The usual 128 overflow in a
/// burst, and then a peer that waits for our greeting may wait in vain: it takes itself for connected, and nobody knows of it.
pub const BACKLOG: u32 = 4096;
/// First pause after a failed accept.
pub const ACCEPT_BACKOFF_MIN: Duration = Duration::from_millis(10);
/// Longest pause after failed accepts in a row.
pub const ACCEPT_BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Failed accepts of one listener are reported at most this often.
pub const ACCEPT_REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Who has connected.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Address and port; an IPv4 address is one, however the listener shows it.
    pub peer: SocketAddr,
    /// The [`Admission`] favours it.
    pub is_favoured: bool,
}

/// A server of one protocol, as the accept loop sees it.
pub trait Service: Send + Sync + 'static {
    /// Serves one connection to its end. It should end soon after the drain started.
    fn connection(self: Arc<Self>, stream: TcpStream, arrival: Arrival) -> impl Future<Output = ()> + Send;

    /// A connection came that there is no room for. The octets returned are written to it before it is
    /// closed, if the socket takes them at once; empty for none (as TLS-only ports must).
    fn over_cap(&self, peer: SocketAddr, refusal: Refusal) -> &[u8];

    /// `accept` failed, `failed` times since this was last called; the loop pauses. For the log: the fault is ours or the
    /// operator's, never a peer's.
    fn accept_failed(&self, error: &io::Error, failed: u64);
}

/// A listening socket and the address it is really bound to.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// The address really bound; differs from the wanted one when that had port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A wanted address that could not be bound. The operator's fault: in use, not ours, or not permitted.
#[derive(Debug)]
pub struct BindError {
    /// The address that was wanted.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bind {}", self.address)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Binds every address, all or none.
///
/// # Errors
/// The first address that could not be bound.
pub async fn bind(addresses: &[SocketAddr]) -> Result<Vec<Listener>, BindError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for &address in addresses {
        let socket = listen(address).map_err(|source| BindError { address, source })?;
        let bound = socket.local_addr().map_err(|source| BindError { address, source })?;
        listeners.push(Listener { socket, address: bound });
    }
    Ok(listeners)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait for the last connections of the process before to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts on every listener until the drain starts, then waits for the open connections, at most
/// as long as `drain_wait` says then; those still open then are dropped. Dropping the future drops everything at once.
pub async fn serve<S: Service>(
    listeners: Vec<Listener>,
    service: Arc<S>,
    admission: Admission,
    drain: Drain,
    drain_wait: impl Fn() -> Duration + Clone + Send + 'static,
) {
    let mut loops = JoinSet::new();
    for listener in listeners {
        let (service, admission, drain) = (Arc::clone(&service), admission.clone(), drain.clone());
        loops.spawn(accept_loop(listener, service, admission, drain, drain_wait.clone()));
    }
    while loops.join_next().await.is_some() {}
}

async fn accept_loop<S: Service>(
    listener: Listener,
    service: Arc<S>,
    admission: Admission,
    drain: Drain,
    drain_wait: impl Fn() -> Duration + Clone + Send + 'static,
) {
    let mut connections = JoinSet::new();
    let mut backoff = Backoff::default();
    let mut complaints = Complaints::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.started() => break,
            Some(_ended) = connections.join_next() => continue,
            accepted = listener.socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                backoff = Backoff::default();
                admit(&mut connections, &service, &admission, stream, peer);
            }
            // The peer gave up between its SYN and our accept: nothing is short here.
            Err(error) if is_peers(&error) => {}
            Err(error) => {
                if let Some(failed) = complaints.failed(Instant::now()) {
                    service.accept_failed(&error, failed);
                }
                tokio::select! {
                    () = drain.started() => break,
                    () = tokio::time::sleep(backoff.next()) => {}
                }
            }
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(drain_wait(), all_ended).await.is_err() {
        connections.shutdown().await;
    }
}

fn admit<S: Service>(
    connections: &mut JoinSet<()>,
    service: &Arc<S>,
    admission: &Admission,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let permit = match admission.enter(peer.ip()) {
        Ok(permit) => permit,
        Err(refusal) => {
            // A peer that does not take the octets at once gets none: waiting for it is what a flood wants.
            match stream.try_write(service.over_cap(peer, refusal)) {
                Ok(_) | Err(_) => {}
            }
            return;
        }
    };
    // Replies are small and awaited; holding them back for Nagle only adds latency. Failing is harmless.
    stream.set_nodelay(true).unwrap_or_default();
    connections.spawn(run(Arc::clone(service), stream, peer, permit));
}

async fn run<S: Service>(service: Arc<S>, stream: TcpStream, peer: SocketAddr, permit: Permit) {
    service.connection(stream, Arrival { peer, is_favoured: permit.is_favoured() }).await;
    drop(permit);
}

fn is_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Pauses that double from [`ACCEPT_BACKOFF_MIN`] to [`ACCEPT_BACKOFF_MAX`].
struct Backoff {
    pause: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { pause: ACCEPT_BACKOFF_MIN }
    }
}

impl Backoff {
    fn next(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = pause.saturating_mul(2).min(ACCEPT_BACKOFF_MAX);
        pause
    }
}

/// Failed accepts that nobody has been told of yet.
#[derive(Default)]
struct Complaints {
    untold: u64,
    told: Option<Instant>,
}

impl Complaints {
    /// One more. `Some` when it is time to tell how many there were.
    fn failed(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told.is_some_and(|told| now.duration_since(told) < ACCEPT_REPORT_INTERVAL) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::super::admission::{AdmissionPolicy, Limit};
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const SOON: Duration = Duration::from_secs(10);

    /// Echoes one octet at a time until the peer closes or, when `heeds_drain`, until the drain starts.
    struct Echo {
        drain: Drain,
        heeds_drain: bool,
        refused: Mutex<Vec<(SocketAddr, Limit)>>,
        met: AtomicUsize,
        failures: Mutex<Vec<io::ErrorKind>>,
    }

    impl Service for Echo {
        async fn connection(self: Arc<Self>, mut stream: TcpStream, arrival: Arrival) {
            assert!(arrival.peer.is_ipv4(), "{arrival:?}");
            self.met.fetch_add(1, Ordering::SeqCst);
            let mut octet = [0];
            loop {
                let read = tokio::select! {
                    () = self.drain.started(), if self.heeds_drain => return,
                    read = stream.read(&mut octet) => read,
                };
                if !matches!(read, Ok(1)) || stream.write_all(&octet).await.is_err() {
                    return;
                }
            }
        }

        fn over_cap(&self, peer: SocketAddr, refusal: Refusal) -> &[u8] {
            self.refused.lock().unwrap().push((peer, refusal.limit));
            b"full\r\n"
        }

        fn accept_failed(&self, error: &io::Error, _failed: u64) {
            self.failures.lock().unwrap().push(error.kind());
        }
    }

    struct Fixture {
        address: SocketAddr,
        service: Arc<Echo>,
        drain: Drain,
        server: tokio::task::JoinHandle<()>,
    }

    async fn start(connections_max: usize, heeds_drain: bool, drain_deadline: Duration) -> Fixture {
        let admission = Admission::new(AdmissionPolicy::in_all(connections_max));
        start_at("127.0.0.1:0", admission, heeds_drain, drain_deadline).await
    }

    async fn start_at(
        listen: &str,
        admission: Admission,
        heeds_drain: bool,
        drain_deadline: Duration,
    ) -> Fixture {
        let listeners = bind(&[listen.parse().unwrap()]).await.unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], listeners[0].address().port()));
        let drain = Drain::new();
        let service = Arc::new(Echo {
            drain: drain.clone(),
            heeds_drain,
            refused: Mutex::default(),
            met: AtomicUsize::new(0),
            failures: Mutex::default(),
        });
        let server =
            tokio::spawn(serve(listeners, Arc::clone(&service), admission, drain.clone(), move || {
                drain_deadline
            }));
        Fixture { address, service, drain, server }
    }

    async fn connect_and_echo(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        let mut octet = [0];
        stream.read_exact(&mut octet).await.unwrap();
        assert_eq!(&octet, b"x");
        stream
    }

    #[tokio::test]
    async fn refuses_one_too_many_and_takes_the_next_once_there_is_room() {
        let fixture = start(1, true, SOON).await;
        let first = connect_and_echo(fixture.address).await;
        let mut second = TcpStream::connect(fixture.address).await.unwrap();
        let mut said = Vec::new();
        second.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"full\r\n");
        let peer = second.local_addr().unwrap();
        assert_eq!(*fixture.service.refused.lock().unwrap(), [(peer, Limit::Total)]);
        assert_eq!(fixture.service.met.load(Ordering::SeqCst), 1);
        drop(first);
        let again = async {
            loop {
                let mut stream = TcpStream::connect(fixture.address).await.unwrap();
                let mut octet = [0];
                if stream.write_all(b"x").await.is_ok()
                    && stream.read_exact(&mut octet).await.is_ok()
                    && &octet == b"x"
                {
                    return;
                }
            }
        };
        tokio::time::timeout(SOON, again).await.unwrap();
        assert!(fixture.service.failures.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn knows_an_ipv4_peer_behind_an_ipv6_listener() {
        let favoured = vec!["127.0.0.0/8".parse().unwrap()];
        let policy =
            AdmissionPolicy { per_address_max: 1, reserved: 9, favoured, ..AdmissionPolicy::in_all(9) };
        let fixture = start_at("[::]:0", Admission::new(policy), true, SOON).await;
        let _first = connect_and_echo(fixture.address).await;
        let mut second = TcpStream::connect(fixture.address).await.unwrap();
        let mut said = Vec::new();
        second.read_to_end(&mut said).await.unwrap();
        let peer = second.local_addr().unwrap();
        assert_eq!(*fixture.service.refused.lock().unwrap(), [(peer, Limit::Address)]);
    }

    #[tokio::test]
    async fn drain_closes_the_listener_and_waits_for_connections() {
        let fixture = start(8, true, SOON).await;
        let mut open = connect_and_echo(fixture.address).await;
        fixture.drain.start();
        tokio::time::timeout(SOON, fixture.server).await.unwrap().unwrap();
        assert_eq!(open.read(&mut [0]).await.unwrap(), 0);
        assert!(TcpStream::connect(fixture.address).await.is_err());
    }

    #[tokio::test]
    async fn drain_drops_a_connection_that_outstays_the_deadline() {
        let fixture = start(8, false, Duration::from_millis(20)).await;
        let mut open = connect_and_echo(fixture.address).await;
        fixture.drain.start();
        tokio::time::timeout(SOON, fixture.server).await.unwrap().unwrap();
        assert!(matches!(open.read(&mut [0]).await, Ok(0) | Err(_)));
    }

    #[tokio::test]
    async fn names_the_address_that_cannot_be_bound() {
        let held = bind(&["127.0.0.1:0".parse().unwrap()]).await.unwrap();
        let error = bind(&[held[0].address()]).await.unwrap_err();
        assert_eq!(error.address, held[0].address());
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn complains_at_once_and_then_now_and_then() {
        let (mut complaints, began) = (Complaints::default(), Instant::now());
        let mut at = |seconds| complaints.failed(began + Duration::from_secs(seconds));
        let told = [0, 1, 2, 59, 60, 61, 200].map(&mut at);
        assert_eq!(told, [Some(1), None, None, None, Some(4), None, Some(2)]);
    }

    #[test]
    fn backs_off_up_to_a_limit() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..9).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
    }
}
