//! IMAP on its ports: the shell around [`super::session`].
//!
//! One [`Imap`] serves all ports, behind the [`Logins`] it shares with other protocols. Its [`Protocol::plain`] and
//! [`Protocol::implicit_tls`] give the services for the accept loops of `net`.

use super::conversation::Conversation;
use super::session::Session;
use crate::fetch::auth::Logins;
use crate::fetch::door::Door;
use crate::fetch::maildrop::Client;
use crate::net::drain::Drain;
use crate::net::wire::Wire;
use rustls::ServerConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub use crate::fetch::door::{Protocol, Waits};

/// How long a client that is logged in may be silent, in IDLE too. RFC 3501 §5.4 asks for at least this.
pub const IDLE_WAIT: Duration = Duration::from_secs(30 * 60);

/// Searches at work at once; others wait for their turn. Each may keep two cores busy for long, and mail that arrives needs them.
pub const SEARCHES_MAX: usize = 4;

/// The IMAP server, without its ports.
pub struct Imap {
    pub(super) logins: Arc<Logins>,
    pub(super) door: Door,
    pub(super) searches: Arc<Semaphore>,
}

impl Imap {
    /// A server of the folders behind this door, which other protocols share.
    pub fn new(logins: Arc<Logins>, tls: Arc<ServerConfig>, drain: Drain, waits: Waits) -> Imap {
        let searches = Arc::new(Semaphore::new(SEARCHES_MAX));
        Imap { logins, door: Door::new(tls, drain, waits), searches }
    }

    /// How long it waits when nobody asks for anything else.
    pub fn waits() -> Waits {
        Waits::with_idle(IDLE_WAIT)
    }
}

impl Protocol for Imap {
    const NAME: &'static str = "imap";
    const TOO_MANY: &'static [u8] = b"* BYE [UNAVAILABLE] Too many connections, try again later\r\n";
    type Session = Session;

    fn door(&self) -> &Door {
        &self.door
    }

    async fn begin<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &self,
        wire: Wire<S>,
        encrypted: bool,
        client: Client,
        login_by: Instant,
    ) -> Option<(Wire<S>, Session)> {
        let mut conversation = Conversation::new(self, wire, Session::new(encrypted), client, login_by);
        conversation.greet();
        conversation.run().await
    }

    async fn go_on<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &self,
        wire: Wire<S>,
        mut session: Session,
        client: Client,
        login_by: Instant,
    ) {
        session.tls_started();
        Conversation::new(self, wire, session, client, login_by).run().await;
    }
}
