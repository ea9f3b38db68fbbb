//! POP3 on its ports: the shell around [`super::session`].
//!
//! One [`Pop3`] serves all ports; the lock on a maildrop and the cap on password checks are those of the [`Logins`] it shares with
//! other protocols. Its [`Protocol::plain`] and [`Protocol::implicit_tls`] give the services for the accept loops of `net`.

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
use tokio::time::Instant;

pub use crate::fetch::door::{Protocol, Waits};

/// How long a client that is logged in may be silent. RFC 1939 §3 asks for at least this.
pub const IDLE_WAIT: Duration = Duration::from_secs(10 * 60);

/// The POP3 server, without its ports.
pub struct Pop3 {
    pub(super) logins: Arc<Logins>,
    pub(super) door: Door,
}

impl Pop3 {
    /// A server of the maildrops behind this door, which other protocols share.
    pub fn new(logins: Arc<Logins>, tls: Arc<ServerConfig>, drain: Drain, waits: Waits) -> Pop3 {
        Pop3 { logins, door: Door::new(tls, drain, waits) }
    }

    /// How long it waits when nobody asks for anything else.
    pub fn waits() -> Waits {
        Waits::with_idle(IDLE_WAIT)
    }
}

impl Protocol for Pop3 {
    const NAME: &'static str = "pop3";
    const TOO_MANY: &'static [u8] = b"-ERR [SYS/TEMP] too many connections, try again later\r\n";
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
