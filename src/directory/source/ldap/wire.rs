//! The connection: found, protected, and with every answer measured before it is handed to the decoder.
//!
//! ```text
//! server ◀──TLS──▶ checks each message ◀──pair of sockets──▶ ldap3
//! ```

use super::ber;
use super::fault;
use crate::config::{LdapSecurity, LdapSource as Settings};
use crate::directory::source::SourceError;
use crate::net::authorities::Authorities;
use crate::net::tls_client;
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, StdStream};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long each of these may take: finding the host, reaching one of its addresses, agreeing on TLS.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// Addresses of a host that are tried: every domain controller may stand behind one name.
const ADDRESSES_MAX: usize = 4;
/// Largest message, in octets: one entry with all that is asked of it, or a group with some 100,000 members.
const MESSAGE_OCTETS_MAX: usize = 16 * 1024 * 1024;
/// Most octets of one answer, which is a page: 1000 entries of 64 KiB.
const ANSWER_OCTETS_MAX: u64 = 64 * 1024 * 1024;
/// How long a server may take over a good-bye.
const GOODBYE_WAIT: Duration = Duration::from_secs(1);
/// Octets read at once.
const READ_OCTETS: usize = 64 * 1024;

/// StartTLS (RFC 4511 §4.14): message 1, an extended request for 1.3.6.1.4.1.1466.20037.
const STARTTLS: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";

/// What is known of a connection from outside the decoder.
#[derive(Debug, Default)]
pub(super) struct Watch {
    answer_octets: AtomicU64,
    broken: Mutex<Option<Broken>>,
}

impl Watch {
    /// A request is about to be sent: its answer may be [`ANSWER_OCTETS_MAX`] long.
    pub(super) fn begin_answer(&self) {
        self.answer_octets.store(0, Ordering::Relaxed);
    }

    /// Why the connection ended, if that is known.
    pub(super) fn broken(&self) -> Option<Broken> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, broken: Broken) {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(broken);
    }
}

/// How a connection ended before its time.
#[derive(Clone, Debug)]
pub(super) enum Broken {
    /// Closed, or cut.
    Closed(String),
    /// What came is no LDAP.
    Malformed(&'static str),
    /// An answer is longer than is taken.
    TooMuch,
}

impl Broken {
    fn of(error: &io::Error, between_messages: bool) -> Broken {
        Broken::Closed(match error.kind() {
            io::ErrorKind::UnexpectedEof if between_messages => "the server closed the connection".to_owned(),
            io::ErrorKind::UnexpectedEof => "it broke off within an answer".to_owned(),
            _ => error.to_string(),
        })
    }

    /// The same, of what was being done.
    pub(super) fn into_error(self, doing: &str) -> SourceError {
        match self {
            Broken::Closed(why) => SourceError::Unreachable(format!("{doing}: {why}")),
            Broken::Malformed(what) => SourceError::Incomplete(format!("{doing}: the server sent {what}")),
            Broken::TooMuch => SourceError::TooLarge(format!(
                "{doing}: one answer is longer than {} MiB, or one entry than {} MiB; a smaller page_entries may help",
                ANSWER_OCTETS_MAX / 1_048_576,
                MESSAGE_OCTETS_MAX / 1_048_576
            )),
        }
    }
}

/// An open connection, before anybody logged in.
pub(super) struct Connection {
    pub(super) ldap: Ldap,
    pub(super) watch: Arc<Watch>,
    relay: JoinHandle<()>,
}

impl Connection {
    /// Says good-bye, as far as the server listens.
    pub(super) async fn close(mut self) {
        let goodbye = async {
            // A server that is gone has been said good-bye to.
            drop(self.ldap.unbind().await);
            drop(self.relay.await);
        };
        drop(timeout(GOODBYE_WAIT, goodbye).await);
    }
}

/// Connects as configured.
///
/// # Errors
/// [`SourceError::Unreachable`], or [`SourceError::Refused`] where the certificate or the settings are at fault.
pub(super) async fn connect(settings: &Settings) -> Result<Connection, SourceError> {
    let mut socket = reach(settings).await?;
    if settings.security == LdapSecurity::StartTls {
        let begun = timeout(CONNECT_WAIT, start_tls(&mut socket)).await;
        let begun = begun.unwrap_or_else(|_| Err(fault::slow("StartTLS", CONNECT_WAIT)));
        begun?;
    }
    if settings.security == LdapSecurity::None {
        return attach(socket).await;
    }
    let authorities = match &settings.ca_file {
        None => Authorities::public(),
        Some(file) => Authorities::read(file).map_err(|error| fault::authorities(file, &error))?,
    };
    let agreed = timeout(CONNECT_WAIT, tls_client::connect(socket, &settings.host, &authorities)).await;
    let agreed = agreed.map_err(|_| fault::slow("TLS", CONNECT_WAIT))?;
    attach(agreed.map_err(|refused| fault::tls(settings, &refused))?).await
}

async fn reach(settings: &Settings) -> Result<TcpStream, SourceError> {
    let (host, port) = (settings.host.as_str(), settings.port);
    let unreachable = |why: String| SourceError::Unreachable(format!("{host}:{port}: {why}"));
    let found = timeout(CONNECT_WAIT, tokio::net::lookup_host((host, port))).await;
    let found = found.map_err(|_| unreachable("the name was not found in time".to_owned()))?;
    let mut why = "the name has no address".to_owned();
    let addresses: Vec<_> =
        found.map_err(|error| unreachable(error.to_string()))?.take(ADDRESSES_MAX).collect();
    for address in addresses {
        if settings.security == LdapSecurity::None && !address.ip().is_loopback() {
            return Err(fault::in_clear(host));
        }
        match timeout(CONNECT_WAIT, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) => why = format!("{address}: {error}"),
            Err(_) => why = format!("{address} did not answer within {} s", CONNECT_WAIT.as_secs()),
        }
    }
    Err(unreachable(why))
}

/// Asks for TLS. Exactly the answer is read: what comes behind it in clear fails the handshake.
async fn start_tls(socket: &mut TcpStream) -> Result<(), SourceError> {
    socket.write_all(STARTTLS).await.map_err(|error| Broken::of(&error, true).into_error("StartTLS"))?;
    let mut answer = Vec::new();
    read_message(socket, &mut answer).await.map_err(|broken| broken.into_error("StartTLS"))?;
    let (code, text) =
        ber::extended_result(&answer).map_err(|what| Broken::Malformed(what.0).into_error("StartTLS"))?;
    if code == 0 { Ok(()) } else { Err(fault::no_starttls(code, &text)) }
}

/// Gives the decoder one end of a pair of sockets and relays between the other and the server.
async fn attach<S>(server: S) -> Result<Connection, SourceError>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let failed = |error: io::Error| SourceError::Unreachable(format!("no sockets are left: {error}"));
    let (near, far) = UnixStream::pair().map_err(failed)?;
    let near = near.into_std().map_err(failed)?;
    let settings = LdapConnSettings::new().set_std_stream(StdStream::Unix(near));
    let made = LdapConnAsync::with_settings(settings, "ldapi:///").await;
    let (connection, ldap) = made.map_err(|error| SourceError::Unreachable(error.to_string()))?;
    let watch = Arc::new(Watch::default());
    let relay = tokio::spawn(relay(server, far, Arc::clone(&watch)));
    // What ends it is in the watch, or of no matter.
    tokio::spawn(async move { drop(connection.drive().await) });
    Ok(Connection { ldap, watch, relay })
}

/// Carries requests to the server and answers from it, until either side ends or an answer is not to be passed on.
async fn relay<S: AsyncRead + AsyncWrite>(server: S, far: UnixStream, watch: Arc<Watch>) {
    let (from_server, mut to_server) = tokio::io::split(server);
    let (mut from_client, to_client) = far.into_split();
    let requests = async {
        // A server that takes no more will not answer either: that is said there.
        drop(tokio::io::copy(&mut from_client, &mut to_server).await);
        drop(to_server.shutdown().await);
    };
    tokio::select! {
        () = requests => {}
        broken = answers(from_server, to_client, &watch) => watch.note(broken),
    }
}

async fn answers<S: AsyncRead>(server: ReadHalf<S>, mut client: OwnedWriteHalf, watch: &Watch) -> Broken {
    let mut server = BufReader::with_capacity(READ_OCTETS, server);
    let mut message = Vec::new();
    loop {
        if let Err(broken) = read_message(&mut server, &mut message).await {
            return broken;
        }
        if let Err(what) = ber::check(&message) {
            return Broken::Malformed(what.0);
        }
        let octets = message.len() as u64;
        if watch.answer_octets.fetch_add(octets, Ordering::Relaxed) + octets > ANSWER_OCTETS_MAX {
            return Broken::TooMuch;
        }
        if client.write_all(&message).await.is_err() {
            return Broken::Closed("we did not wait for it".to_owned());
        }
    }
}

/// Reads one message and not an octet more from `reader`.
async fn read_message<R: AsyncRead + Unpin>(reader: &mut R, message: &mut Vec<u8>) -> Result<(), Broken> {
    message.clear();
    let octets = loop {
        let octet = reader.read_u8().await.map_err(|error| Broken::of(&error, message.is_empty()))?;
        message.push(octet);
        match ber::message_octets(message) {
            Err(what) => return Err(Broken::Malformed(what.0)),
            Ok(None) => {}
            Ok(Some(octets)) => break octets,
        }
    };
    if octets > MESSAGE_OCTETS_MAX {
        return Err(Broken::TooMuch);
    }
    let missing = octets.saturating_sub(message.len()) as u64;
    let read = reader.take(missing).read_to_end(message).await;
    match read {
        Err(error) => Err(Broken::of(&error, false)),
        Ok(read) if (read as u64) < missing => {
            Err(Broken::Closed("it broke off within an answer".to_owned()))
        }
        Ok(_) => Ok(()),
    }
}
