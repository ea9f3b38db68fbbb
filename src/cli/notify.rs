//! What the service manager is told: that the gateway is ready, reloads, stops, and lives (`sd_notify(3)`).
//!
//! ```text
//! serve ─ready, reloading, stopping─▶ teller (a thread) ─▶ $NOTIFY_SOCKET
//!                                        │ each beat: does the runtime take turns? are all vitals there?
//! ```
//! One thread tells everything, so that nothing arrives out of order and a manager that does not listen keeps no mail
//! waiting. Without `NOTIFY_SOCKET` there is no thread and nothing happens.
//!
//! - Opening: `EXTEND_TIMEOUT_USEC`, again and again. A store that must be read through takes its time.
//! - `READY=1` once every listener is bound, the store is open and `ports.json` is there.
//! - `WATCHDOG=1` at half the interval asked for, but only after a task of the runtime had its turn and nothing of
//!   [`Vitals`] is missing. Withheld for what a restart mends, never for a disk.
//! - `RELOADING=1` … `READY=1` around SIGHUP, `STOPPING=1` when the end begins, with `EXTEND_TIMEOUT_USEC` for what it may take:
//!   the drain is configured here, and the patience of the manager elsewhere.
//!
//! The variables stay in the environment: the gateway starts no other programs that could mistake them for theirs, and
//! taking them out of a process with threads is not safe.

use super::vitals::Vitals;
use sd_notify::NotifyState;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// While the gateway opens, how often the manager hears that it still does.
const OPENING_BEAT: Duration = Duration::from_secs(10);
/// How much longer the manager is asked to wait for the next of these.
const OPENING_EXTENSION_US: u32 = 60_000_000;
/// Beside the drain, how long the end may take: the store closes.
const CLOSING_WAIT: Duration = Duration::from_secs(60);
/// How often the status is told anew when no watchdog asks for more.
const STATUS_BEAT: Duration = Duration::from_secs(30);
/// The shortest beat, whatever interval is asked for.
const BEAT_MIN: Duration = Duration::from_millis(1);
/// How long one datagram may take; a manager that does not read misses it.
const SEND_WAIT: Duration = Duration::from_secs(2);
/// How long whoever tells something waits until it is told.
const TELL_WAIT: Duration = Duration::from_secs(3);

/// Something to tell.
enum News {
    Ready(Vitals),
    Reloading,
    /// Connections may go on for so long.
    Stopping(Duration),
    Failed(String),
}

/// News, and who waits until they are told.
type Told = (News, oneshot::Sender<()>);

/// The way to the service manager. When it is dropped, nothing more is told.
pub(super) struct Notify {
    teller: Option<Sender<Told>>,
}

impl Notify {
    /// As the environment says. Call it inside the runtime whose turns are to be watched.
    pub(super) fn from_environment() -> Notify {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Notify::nobody();
        };
        let started = Line::open(&name).and_then(|line| {
            let (teller, inbox) = mpsc::channel();
            let watchdog = sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero());
            let mut thread = Teller {
                line,
                runtime: Handle::current(),
                watchdog,
                phase: Phase::Opening(Instant::now()),
                stuck: false,
                deaf: false,
            };
            std::thread::Builder::new().name("notify".to_owned()).spawn(move || thread.run(&inbox))?;
            Ok(teller)
        });
        match started {
            Ok(teller) => Notify { teller: Some(teller) },
            Err(error) => {
                tracing::warn!(event = "service.manager_deaf", %error);
                Notify::nobody()
            }
        }
    }

    /// No service manager.
    pub(super) fn nobody() -> Notify {
        Notify { teller: None }
    }

    /// The gateway serves, or does so again after a reload.
    pub(super) async fn ready(&self, vitals: Vitals) {
        self.tell(News::Ready(vitals)).await;
    }

    /// A reload has begun; [`Notify::ready`] ends it.
    pub(super) async fn reloading(&self) {
        self.tell(News::Reloading).await;
    }

    /// The end has begun; open connections may go on for so long.
    pub(super) async fn stopping(&self, drain: Duration) {
        self.tell(News::Stopping(drain)).await;
    }

    /// The start has failed.
    pub(super) async fn failed(&self, why: String) {
        self.tell(News::Failed(why)).await;
    }

    async fn tell(&self, news: News) {
        let Some(teller) = &self.teller else { return };
        let (told, done) = oneshot::channel();
        if teller.send((news, told)).is_ok() {
            // Told too late or not at all, it goes on all the same.
            drop(tokio::time::timeout(TELL_WAIT, done).await);
        }
    }
}

/// The manager's socket.
struct Line {
    socket: UnixDatagram,
    manager: SocketAddr,
}

impl Line {
    /// A name that begins with `@` is an abstract one.
    fn open(name: &OsStr) -> io::Result<Line> {
        let manager = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_WAIT))?;
        Ok(Line { socket, manager })
    }

    fn send(&self, states: &[NotifyState<'_>]) -> io::Result<()> {
        let text: String = states.iter().map(|state| format!("{state}\n")).collect();
        self.socket.send_to_addr(text.as_bytes(), &self.manager).map(drop)
    }
}

enum Phase {
    /// Since when.
    Opening(Instant),
    Serving(Box<Vitals>),
    /// In good order, or since the start failed. The last status told stays.
    Ending,
}

struct Teller {
    line: Line,
    runtime: Handle,
    /// How long the manager waits for a sign of life, if it does.
    watchdog: Option<Duration>,
    phase: Phase,
    /// Signs of life are withheld.
    stuck: bool,
    /// The last datagram did not get through.
    deaf: bool,
}

impl Teller {
    fn run(&mut self, inbox: &Receiver<Told>) {
        let mut next_beat = Instant::now();
        loop {
            match inbox.recv_timeout(next_beat.saturating_duration_since(Instant::now())) {
                Ok((news, told)) => {
                    self.pass_on(news);
                    next_beat = Instant::now();
                    // Whoever waited may have given up.
                    told.send(()).ok();
                }
                Err(RecvTimeoutError::Timeout) => {
                    let began = Instant::now();
                    self.beat();
                    next_beat = began + self.interval();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn interval(&self) -> Duration {
        match (&self.phase, self.watchdog) {
            (Phase::Opening(_), _) => OPENING_BEAT,
            (_, Some(watchdog)) => (watchdog / 2).max(BEAT_MIN),
            (_, None) => STATUS_BEAT,
        }
    }

    fn pass_on(&mut self, news: News) {
        match news {
            News::Ready(vitals) => {
                self.send(&[NotifyState::Ready, NotifyState::Status(&vitals.summary())]);
                self.phase = Phase::Serving(Box::new(vitals));
            }
            News::Reloading => {
                // Whoever waits for the end of a reload compares this with its beginning.
                let now = NotifyState::monotonic_usec_now().unwrap_or(NotifyState::MonotonicUsec(0));
                self.send(&[NotifyState::Reloading, now, NotifyState::Status("reading its files again")]);
            }
            News::Stopping(drain) => {
                let wait_us = drain.saturating_add(CLOSING_WAIT).as_micros();
                self.send(&[
                    NotifyState::Stopping,
                    NotifyState::ExtendTimeoutUsec(u32::try_from(wait_us).unwrap_or(u32::MAX)),
                    NotifyState::Status("stopping: open connections may end"),
                ]);
                self.phase = Phase::Ending;
            }
            News::Failed(why) => {
                self.send(&[NotifyState::Status(&one_line(&why))]);
                self.phase = Phase::Ending;
            }
        }
    }

    /// A sign of life, if there is life.
    fn beat(&mut self) {
        if let Some(why) = self.trouble() {
            if !std::mem::replace(&mut self.stuck, true) {
                tracing::error!(event = "service.stuck", why, advice = "no sign of life for the watchdog");
            }
            return;
        }
        if std::mem::take(&mut self.stuck) {
            tracing::warn!(event = "service.unstuck");
        }
        let status = match &self.phase {
            Phase::Opening(since) => format!("opening the store, for {} s", since.elapsed().as_secs()),
            Phase::Serving(vitals) => vitals.summary(),
            Phase::Ending => String::new(),
        };
        let mut states = Vec::new();
        match self.phase {
            Phase::Opening(_) => states.push(NotifyState::ExtendTimeoutUsec(OPENING_EXTENSION_US)),
            _ if self.watchdog.is_some() => states.push(NotifyState::Watchdog),
            _ => {}
        }
        if !status.is_empty() {
            states.push(NotifyState::Status(&status));
        }
        if !states.is_empty() {
            self.send(&states);
        }
    }

    fn trouble(&self) -> Option<&'static str> {
        // As long as a late turn still makes a sign of life in time.
        if !takes_turns(&self.runtime, self.interval()) {
            return Some("no task gets a turn");
        }
        match &self.phase {
            Phase::Serving(vitals) => vitals.missing(),
            Phase::Opening(_) | Phase::Ending => None,
        }
    }

    fn send(&mut self, states: &[NotifyState<'_>]) {
        match self.line.send(states) {
            Ok(()) => self.deaf = false,
            // At the first of a row only: the manager will be told again.
            Err(error) => {
                if !std::mem::replace(&mut self.deaf, true) {
                    tracing::warn!(event = "service.manager_deaf", %error);
                }
            }
        }
    }
}

/// Whether a task of the runtime gets a turn within `patience`.
fn takes_turns(runtime: &Handle, patience: Duration) -> bool {
    let (turn, taken) = mpsc::sync_channel::<()>(1);
    runtime.spawn(async move { turn.send(()).ok() });
    // Dropped without a turn, it was in a runtime that ends, and so does this thread.
    taken.recv_timeout(patience) != Err(RecvTimeoutError::Timeout)
}

/// A status is one line: in another the manager would read an order.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_failure_gives_no_orders() {
        assert_eq!(one_line("open x\nREADY=1\r\0"), "open x READY=1  ");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_lacks_a_vital_part_gives_no_sign_of_life() {
        let dir = tempfile::tempdir().unwrap();
        let options = crate::store::Options { data_dir: dir.path().join("data"), reserve_octets: 0 };
        let store = std::sync::Arc::new(crate::store::Embedded::open(&options).unwrap().0);
        let manager = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        manager.set_nonblocking(true).unwrap();
        let task = tokio::spawn(std::future::pending::<()>());
        let services = vec![("smtp", task.abort_handle())];
        let ports = crate::admin::Ports::default();
        let mut teller = Teller {
            line: Line::open(dir.path().join("notify").as_os_str()).unwrap(),
            runtime: Handle::current(),
            watchdog: Some(Duration::from_secs(60)),
            phase: Phase::Serving(Box::new(Vitals::new(ports, std::sync::Arc::downgrade(&store), services))),
            stuck: false,
            deaf: false,
        };
        let mut octets = [0; 1024];
        teller.beat();
        let length = manager.recv(&mut octets).unwrap();
        assert!(octets[..length].starts_with(b"WATCHDOG=1\n"));
        task.abort();
        assert!(task.await.is_err());
        teller.beat();
        assert!(manager.recv(&mut octets).is_err());
    }

    #[test]
    fn a_runtime_whose_only_worker_is_held_up_takes_no_turns() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (release, held) = mpsc::channel::<()>();
        let (holds, begun) = mpsc::channel::<()>();
        runtime.spawn(async move {
            holds.send(()).unwrap();
            held.recv().ok();
        });
        begun.recv().unwrap();
        assert!(!takes_turns(runtime.handle(), Duration::from_millis(20)));
        release.send(()).unwrap();
        assert!(takes_turns(runtime.handle(), Duration::from_secs(60)));
    }
}
