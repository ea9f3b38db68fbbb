//! Logging in: who may have which maildrop, and at what cost to us.
//!
//! One [`Logins`] is shared by all connections of all protocols. An attempt is judged by [`backoff`](super::backoff), waits for
//! its turn in [`turns`](super::turns), since each check costs a password hash with its memory and a flood of logins must not
//! take the machine from the mail that arrives, nor keep the poller out; then the password is checked, the lock taken and the
//! maildrop opened. The log says who got in and who did not, and why.
//!
//! What the client is told does not say whether the name or the password was wrong, nor that the password was not even checked:
//! the words are the same, and the answer comes as late.
//!
//! A password is wiped after its check and never shown. What it opened lives in [`LoggedIn`] or [`Entered`] and nowhere else.

use super::backoff::{Attempt, Backoff};
use super::folders::Folders;
use super::lock::{CountedSession, MaildropLock, MaildropLocks, SessionCounts};
use super::maildrop::{Client, LoginError, Maildrop, Maildrops, UnlockedMaildrop};
use super::threads::Threads;
use super::turns::Gate;
use crate::mail::{GatewayMailboxId, Untrusted};
use crate::observe::metrics;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// Pause before the answer to a login that is refused; more for one that fails again and again.
pub const LOGIN_REFUSED_WAIT: Duration = Duration::from_secs(1);

/// A password, wiped when dropped and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes the text after `PASS `.
    pub fn new(text: &str) -> Password {
        Password(Zeroizing::new(text.to_owned()))
    }

    /// The secret itself, for the one place that checks it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Why a login did not get in, as far as the client may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginRefusal {
    /// Wrong name or password.
    Wrong,
    /// Not now; our fault.
    Unavailable,
    /// Another session has the maildrop.
    InUse,
    /// As many sessions are in this gateway mailbox as may be.
    TooMany,
}

impl LoginRefusal {
    /// Its name in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            LoginRefusal::Wrong => "wrong",
            LoginRefusal::Unavailable => "unavailable",
            LoginRefusal::InUse => "in-use",
            LoginRefusal::TooMany => "too-many",
        }
    }
}

/// The door to all maildrops, one for all protocols: what it limits is limited over all of them.
pub struct Logins {
    maildrops: Arc<dyn Maildrops>,
    locks: MaildropLocks,
    sessions: SessionCounts,
    gate: Gate,
    backoff: Mutex<Backoff>,
    first_wait: Duration,
    since: Instant,
    /// Logins are remembered as hashes under a secret of this process.
    secret: RandomState,
    /// How long the last check took, in microseconds: a refusal without one comes as late.
    check_us: AtomicU64,
    /// Refused since too many waited.
    busy: AtomicU64,
    /// For those who got in.
    pub(super) threads: Threads,
}

/// A login that got nowhere.
struct Refused {
    refusal: LoginRefusal,
    /// Why, for the log; it may know more than the client.
    reason: &'static str,
    /// How long to wait before it is told.
    wait: Duration,
}

/// An open maildrop, locked for as long as this lives.
pub struct LoggedIn {
    /// The gateway mailbox it belongs to.
    pub mailbox: GatewayMailboxId,
    /// Its user name, whichever name the client gave.
    pub login: String,
    /// Its messages.
    pub maildrop: Arc<dyn Maildrop>,
    _lock: MaildropLock,
}

/// The folders of a gateway mailbox. While this lives its session counts, so it lives as long as the session.
pub struct Entered {
    /// The gateway mailbox they belong to.
    pub mailbox: GatewayMailboxId,
    /// Its user name, whichever name the client gave.
    pub login: String,
    /// Its folders.
    pub folders: Arc<dyn Folders>,
    _session: CountedSession,
}

impl Logins {
    /// A door with nobody behind it yet.
    pub fn new(maildrops: Arc<dyn Maildrops>) -> Logins {
        Logins::with_first_wait(maildrops, LOGIN_REFUSED_WAIT)
    }

    /// The same with another wait than [`LOGIN_REFUSED_WAIT`].
    pub fn with_first_wait(maildrops: Arc<dyn Maildrops>, first_wait: Duration) -> Logins {
        Logins {
            maildrops,
            locks: MaildropLocks::default(),
            sessions: SessionCounts::default(),
            gate: Gate::default(),
            backoff: Mutex::new(Backoff::new(first_wait)),
            first_wait,
            since: Instant::now(),
            secret: RandomState::new(),
            check_us: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            threads: Threads::default(),
        }
    }

    /// Checks the password, takes the maildrop for this session alone and opens it. A refusal takes its time: who serves the
    /// connection need not wait on top.
    ///
    /// # Errors
    /// [`LoginRefusal`]; it has been logged.
    pub async fn exclusive(
        &self,
        login: &str,
        password: Password,
        client: &Client,
    ) -> Result<LoggedIn, LoginRefusal> {
        match self.try_exclusive(login, password, client).await {
            Ok(entered) => {
                log_login(login, client, &entered.login, entered.mailbox);
                Ok(entered)
            }
            Err(refused) => Err(self.refuse(refused, login, client).await),
        }
    }

    /// Checks the password and gives the folders; others may have them open too. A refusal takes its time.
    ///
    /// # Errors
    /// [`LoginRefusal`]; it has been logged.
    pub async fn folders(
        &self,
        login: &str,
        password: Password,
        client: &Client,
    ) -> Result<Entered, LoginRefusal> {
        match self.try_folders(login, password, client).await {
            Ok(entered) => {
                log_login(login, client, &entered.login, entered.mailbox);
                Ok(entered)
            }
            Err(refused) => Err(self.refuse(refused, login, client).await),
        }
    }

    async fn try_folders(
        &self,
        login: &str,
        password: Password,
        client: &Client,
    ) -> Result<Entered, Refused> {
        let unlocked = self.unlock(login, password, client).await?;
        let (mailbox, own_login) = (unlocked.mailbox(), unlocked.login());
        let session = self.sessions.enter(mailbox).ok_or_else(|| self.refused(LoginRefusal::TooMany))?;
        let opened = spawn_blocking(move || unlocked.folders()).await;
        let folders = flatten(opened, client).map_err(|refusal| self.refused(refusal))?;
        Ok(Entered { mailbox, login: own_login, folders, _session: session })
    }

    async fn try_exclusive(
        &self,
        login: &str,
        password: Password,
        client: &Client,
    ) -> Result<LoggedIn, Refused> {
        let unlocked = self.unlock(login, password, client).await?;
        let (mailbox, own_login) = (unlocked.mailbox(), unlocked.login());
        // Before the snapshot is taken, or it could list what the session before is just deleting.
        let lock = self.locks.acquire(mailbox).ok_or_else(|| self.refused(LoginRefusal::InUse))?;
        let opened = spawn_blocking(move || unlocked.open()).await;
        let maildrop = flatten(opened, client).map_err(|refusal| self.refused(refusal))?;
        Ok(LoggedIn { mailbox, login: own_login, maildrop, _lock: lock })
    }

    /// Checks the password, if it is to be checked, when it is its turn.
    async fn unlock(
        &self,
        login: &str,
        password: Password,
        client: &Client,
    ) -> Result<Box<dyn UnlockedMaildrop>, Refused> {
        let attempt = Attempt::new(self.hash(login), client.peer);
        let verdict = self.backoff().begin(attempt, self.since.elapsed());
        if !verdict.check {
            if verdict.is_first {
                log_backed_off(&attempt, client);
            }
            let as_long = Duration::from_micros(self.check_us.load(Ordering::Relaxed));
            let wait = verdict.wait.saturating_add(as_long);
            return Err(Refused { refusal: LoginRefusal::Wrong, reason: BACKED_OFF, wait });
        }
        let Some(turn) = self.gate.turn(attempt.network, verdict.is_known).await else {
            self.backoff().came_to_nothing(attempt);
            return Err(Refused { reason: BUSY, ..self.refused(LoginRefusal::Unavailable) });
        };
        let (maildrops, name, by) = (Arc::clone(&self.maildrops), login.to_owned(), client.clone());
        let began = Instant::now();
        // The turn goes along: it is over when the check is, whether or not anybody still waits for it.
        let unlocked = spawn_blocking(move || {
            let unlocked = maildrops.unlock(&name, password.reveal(), &by);
            drop(turn);
            unlocked
        });
        let unlocked = flatten(unlocked.await, client);
        let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or_default();
        self.check_us.store(took_us, Ordering::Relaxed);
        match &unlocked {
            Ok(_) => self.backoff().succeeded(attempt, self.since.elapsed()),
            Err(LoginRefusal::Wrong) => {}
            Err(_) => self.backoff().came_to_nothing(attempt),
        }
        unlocked.map_err(|refusal| Refused { wait: verdict.wait, ..self.refused(refusal) })
    }

    fn refused(&self, refusal: LoginRefusal) -> Refused {
        Refused { refusal, reason: refusal.as_str(), wait: self.first_wait }
    }

    /// Logs a refusal, and lets its time go by.
    async fn refuse(&self, refused: Refused, login: &str, client: &Client) -> LoginRefusal {
        metrics::login_refused(client.protocol, refused.reason);
        match refused.reason {
            // Told once for each network that is at it, and of what comes without a check a line each would be a flood.
            BACKED_OFF => {}
            BUSY => {
                let refused = self.busy.fetch_add(1, Ordering::Relaxed) + 1;
                if refused.is_power_of_two() {
                    let (session_id, peer) = (client.session_id, client.peer);
                    tracing::warn!(event = "auth.busy", %session_id, protocol = client.protocol, %peer, refused);
                }
            }
            reason => tracing::warn!(
                event = "auth.failed",
                session_id = %client.session_id,
                protocol = client.protocol,
                peer = %client.peer,
                login = %Untrusted(login),
                reason,
            ),
        }
        tokio::time::sleep(refused.wait).await;
        refused.refusal
    }

    /// The local part in lower case, which is all that tells gateway mailboxes apart: two names of one are one login.
    fn hash(&self, login: &str) -> u64 {
        let local = login.trim().split('@').next().unwrap_or_default();
        self.secret.hash_one(local.to_ascii_lowercase())
    }

    fn backoff(&self) -> MutexGuard<'_, Backoff> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refused without a check.
const BACKED_OFF: &str = "backed-off";
/// Refused since too many wait.
const BUSY: &str = "busy";

/// Says who got in, as which gateway mailbox.
fn log_login(login: &str, client: &Client, mailbox: &str, mailbox_id: GatewayMailboxId) {
    tracing::info!(
        event = "auth.ok",
        session_id = %client.session_id,
        protocol = client.protocol,
        peer = %client.peer,
        login = %Untrusted(login),
        mailbox,
        %mailbox_id,
    );
}

fn log_backed_off(attempt: &Attempt, client: &Client) {
    tracing::warn!(
        event = "auth.backed_off",
        session_id = %client.session_id,
        protocol = client.protocol,
        peer = %client.peer,
        network = %attempt.network,
    );
}

fn flatten<T>(result: Result<Result<T, LoginError>, JoinError>, client: &Client) -> Result<T, LoginRefusal> {
    match result {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(LoginError::Wrong)) => Err(LoginRefusal::Wrong),
        Ok(Err(LoginError::Unavailable)) => Err(LoginRefusal::Unavailable),
        Err(panic) => {
            tracing::error!(event = "auth.broken", session_id = %client.session_id, error = %panic);
            Err(LoginRefusal::Unavailable)
        }
    }
}
