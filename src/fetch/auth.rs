//! Logging in: who may have which maildrop, and at what cost to us.
//!
//! [`Logins`] is shared by all connections. It checks one password at a time or few, since each costs a
//! password hash with its memory and a flood of logins must not take the machine from the mail that arrives;
//! takes the exclusive lock; opens the maildrop; and says in the log who got in and who did not, and why. What
//! the client is told does not say whether the name or the password was wrong.
//!
//! A password is wiped after its check and never shown.

use super::folders::Folders;
use super::lock::{CountedSession, MaildropLock, MaildropLocks, SessionCounts};
use super::maildrop::{Client, LoginError, Maildrop, Maildrops, UnlockedMaildrop};
use crate::mail::{GatewayMailboxId, Untrusted};
use crate::observe::metrics;
use std::fmt;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};
use zeroize::Zeroizing;

/// Passwords checked at once: each takes about 50 ms of a core and 16 MB.
pub const PASSWORD_CHECKS_MAX: usize = 2;

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
    checks: Semaphore,
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
        Logins {
            maildrops,
            locks: MaildropLocks::default(),
            sessions: SessionCounts::default(),
            checks: Semaphore::new(PASSWORD_CHECKS_MAX),
        }
    }

    /// Checks the password, takes the maildrop for this session alone and opens it.
    ///
    /// # Errors
    /// [`LoginRefusal`]; it has been logged.
    pub async fn exclusive(
        &self,
        login: &str,
        password: Password,
        client: &Client,
    ) -> Result<LoggedIn, LoginRefusal> {
        let result = self.try_exclusive(login, password, client).await;
        let entered = result.as_ref().map(|entered| (entered.login.as_str(), entered.mailbox));
        log_login(login, client, entered.map_err(|refusal| *refusal));
        result
    }

    /// Checks the password and gives the folders; others may have them open too.
    ///
    /// # Errors
    /// [`LoginRefusal`]; it has been logged.
    pub async fn folders(
        &self,
        login: &str,
        password: Password,
        client: &Client,
    ) -> Result<Entered, LoginRefusal> {
        let result = self.try_folders(login, password, client).await;
        let entered = result.as_ref().map(|entered| (entered.login.as_str(), entered.mailbox));
        log_login(login, client, entered.map_err(|refusal| *refusal));
        result
    }

    async fn try_folders(
        &self,
        login: &str,
        password: Password,
        client: &Client,
    ) -> Result<Entered, LoginRefusal> {
        let unlocked = self.unlock(login, password, client).await?;
        let (mailbox, own_login) = (unlocked.mailbox(), unlocked.login());
        let session = self.sessions.enter(mailbox).ok_or(LoginRefusal::TooMany)?;
        let opened = spawn_blocking(move || unlocked.folders()).await;
        let folders = flatten(opened, client)?;
        Ok(Entered { mailbox, login: own_login, folders, _session: session })
    }

    async fn try_exclusive(
        &self,
        login: &str,
        password: Password,
        client: &Client,
    ) -> Result<LoggedIn, LoginRefusal> {
        let unlocked = self.unlock(login, password, client).await?;
        let (mailbox, own_login) = (unlocked.mailbox(), unlocked.login());
        // Before the snapshot is taken, or it could list what the session before is just deleting.
        let lock = self.locks.acquire(mailbox).ok_or(LoginRefusal::InUse)?;
        let opened = spawn_blocking(move || unlocked.open()).await;
        let maildrop = flatten(opened, client)?;
        Ok(LoggedIn { mailbox, login: own_login, maildrop, _lock: lock })
    }

    async fn unlock(
        &self,
        login: &str,
        password: Password,
        client: &Client,
    ) -> Result<Box<dyn UnlockedMaildrop>, LoginRefusal> {
        let _permit = self.checks.acquire().await.map_err(|_closed| LoginRefusal::Unavailable)?;
        let (maildrops, login, by) = (Arc::clone(&self.maildrops), login.to_owned(), client.clone());
        let unlocked = spawn_blocking(move || maildrops.unlock(&login, password.reveal(), &by)).await;
        flatten(unlocked, client)
    }
}

/// Says who got in, as which gateway mailbox, or who did not and why.
fn log_login(login: &str, client: &Client, result: Result<(&str, GatewayMailboxId), LoginRefusal>) {
    match result {
        Ok((mailbox, mailbox_id)) => tracing::info!(
            event = "auth.ok",
            session_id = %client.session_id,
            protocol = client.protocol,
            peer = %client.peer,
            login = %Untrusted(login),
            mailbox,
            %mailbox_id,
        ),
        Err(refusal) => {
            metrics::login_refused(client.protocol, refusal.as_str());
            tracing::warn!(
                event = "auth.failed",
                session_id = %client.session_id,
                protocol = client.protocol,
                peer = %client.peer,
                login = %Untrusted(login),
                reason = refusal.as_str(),
            );
        }
    }
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
