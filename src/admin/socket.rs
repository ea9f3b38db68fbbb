//! `data_dir/admin.sock`: one request line, one answer line, then the connection ends.
//!
//! ```text
//! C: {"op":"list-gateway-mailboxes"}\n
//! S: {"done":{"gateway-mailboxes":[…]}}\n      or      {"failed":{"kind":"not-found","why":"…"}}\n
//! ```
//! A tail and an export alone go on after their answer, see `tail.rs` and `export.rs`: no longer as one of the connections
//! counted and timed here.
//!
//! Invariants:
//! - The socket is owner-only before it has its name: it is bound under another, restricted, then renamed. That also
//!   replaces the one a crashed server left; a living one cannot be there, since we hold the store's lock.
//! - Who connects is asked of the kernel too. Permissions on sockets are not honoured everywhere, and `data_dir` may
//!   have been opened up by mistake.
//! - A line, an answer, a connection's time and the number of connections have limits.

use super::client::socket_path;
use super::export::{self, Export};
use super::ops::{Context, blocking, perform};
use super::request::{OpError, Request, Response};
use super::tail::{self, Tail};
use super::wiped::Wiped;
use crate::net::drain::Drain;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Name of the socket in `data_dir`.
pub const SOCKET_FILE: &str = "admin.sock";
/// Longest request line, in octets.
pub(super) const REQUEST_OCTETS_MAX: u64 = 1024 * 1024;
/// Longest answer line, in octets.
pub(super) const ANSWER_OCTETS_MAX: u64 = 64 * 1024 * 1024;
/// Connections served at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 16;
/// How long whoever asks may take for the request and for taking the answer; and most requests to be answered.
pub(super) const CONNECTION_WAIT: Duration = Duration::from_secs(60);
/// How long connections may go on once the server ends.
const DRAIN_WAIT: Duration = Duration::from_secs(5);
/// Pause after an accept that failed.
const ACCEPT_FAILED_WAIT: Duration = Duration::from_millis(200);

/// What comes back for a request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Answer {
    /// It was done.
    Done(Box<Response>),
    /// It was not.
    Failed(OpError),
}

/// The socket, bound and not yet served.
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl AdminSocket {
    /// Binds the socket in `data_dir`. Whoever calls holds the lock of the store there.
    ///
    /// # Errors
    /// `data_dir` cannot be written to.
    pub fn bind(data_dir: &Path) -> io::Result<AdminSocket> {
        let unnamed = format!("{SOCKET_FILE}.new");
        let new = data_dir.join(&unnamed);
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let place = socket_path(data_dir, &unnamed)?;
        let listener = UnixListener::bind(place.path())?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
        let path = data_dir.join(SOCKET_FILE);
        fs::rename(&new, &path)?;
        Ok(AdminSocket { listener, path })
    }

    /// Answers requests until the drain starts; then takes the socket away and lets those being answered end.
    pub async fn serve(self, context: Context, drain: Drain) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = drain.started() => break,
                Some(_ended) = connections.join_next() => continue,
                accepted = accept(&self.listener, &permits) => accepted,
            };
            match accepted {
                Ok((stream, permit)) => {
                    let (context, drain) = (context.clone(), drain.clone());
                    connections.spawn(async move {
                        let served = connection(stream, &context).await;
                        drop(permit);
                        let ended = match served {
                            Ok(Some((stream_on, stream))) => stream_on.run(stream, &drain).await.is_ok(),
                            served => matches!(served, Ok(None)),
                        };
                        if !ended {
                            tracing::debug!(event = "admin.broken_off");
                        }
                    });
                }
                Err(error) => {
                    tracing::error!(event = "admin.accept_failed", %error);
                    tokio::time::sleep(ACCEPT_FAILED_WAIT).await;
                }
            }
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(event = "admin.socket_left", %error);
        }
        drop(self.listener);
        let all_ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_WAIT, all_ended).await.is_err() {
            connections.shutdown().await;
        }
    }
}

async fn accept(
    listener: &UnixListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(UnixStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

/// What goes on after the answer.
enum Stream {
    Tail(Tail),
    Export(Export),
}

impl Stream {
    async fn run(self, stream: UnixStream, drain: &Drain) -> io::Result<()> {
        match self {
            Stream::Tail(tail) => tail.run(stream, drain).await,
            Stream::Export(export) => export.run(stream, drain).await,
        }
    }
}

/// Answers one request. What was agreed to go on with is still to be run.
async fn connection(mut stream: UnixStream, context: &Context) -> io::Result<Option<(Stream, UnixStream)>> {
    let uid = stream.peer_cred()?.uid();
    let (answer, more) = if uid == 0 || uid == rustix::process::geteuid().as_raw() {
        let (reader, _) = stream.split();
        answer(reader, context, &format!("cli, uid {uid}")).await?
    } else {
        tracing::warn!(event = "admin.refused", uid);
        (Answer::Failed(OpError::Unavailable("the server belongs to another user".to_owned())), None)
    };
    in_time(CONNECTION_WAIT, stream.write_all(line(&answer).octets())).await?;
    if let Some(more) = more {
        return Ok(Some((more, stream)));
    }
    stream.shutdown().await?;
    Ok(None)
}

async fn answer(
    reader: impl tokio::io::AsyncRead + Unpin,
    context: &Context,
    actor: &str,
) -> io::Result<(Answer, Option<Stream>)> {
    let failed = |why: String| Ok((Answer::Failed(OpError::Usage(why)), None));
    let Some(request) = in_time(CONNECTION_WAIT, Wiped::line(reader, REQUEST_OCTETS_MAX)).await? else {
        return failed("the request is cut off or too long".to_owned());
    };
    let request: Request = match serde_json::from_slice(request.octets()) {
        Ok(request) => request,
        Err(error) => {
            // Most likely the program that asks is of another version than the server.
            let version = env!("CARGO_PKG_VERSION");
            return failed(format!(
                "the server (version {version}) does not understand the request: {error}"
            ));
        }
    };
    if let Request::Tail { filter, lines, follow } = request {
        return Ok(match tail::begin(context, filter, lines, follow) {
            Ok(tail) => {
                let version = env!("CARGO_PKG_VERSION").to_owned();
                (Answer::Done(Box::new(Response::Tailing { version })), Some(Stream::Tail(tail)))
            }
            Err(error) => (Answer::Failed(error), None),
        });
    }
    if let Request::ExportMessage { receipt_id, gateway_mailbox, key } = request {
        let actor = actor.to_owned();
        let begin = move |c: &Context| export::begin(c, &actor, receipt_id, gateway_mailbox.as_deref(), &key);
        return Ok(match blocking(context, begin).await {
            Ok(export) => (
                Answer::Done(Box::new(Response::Exporting(export.view.clone()))),
                Some(Stream::Export(export)),
            ),
            Err(error) => (Answer::Failed(error), None),
        });
    }
    let performed = tokio::time::timeout(request.wait(), perform(context, actor, request)).await;
    Ok(match performed.map_err(io::Error::from)? {
        Ok(response) => (Answer::Done(Box::new(response)), None),
        Err(error) => (Answer::Failed(error), None),
    })
}

async fn in_time<T>(wait: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(wait, work).await.map_err(io::Error::from)?
}

/// Wiped after use: it may hold a password.
fn line(answer: &Answer) -> Wiped {
    let written = |answer: &Answer| {
        let mut line = Wiped::default();
        // Not written is empty, which no answer is.
        serde_json::to_writer(&mut line, answer).map_or_else(|_| Wiped::default(), |()| line)
    };
    let failed = |why: &str| written(&Answer::Failed(OpError::Unavailable(why.to_owned())));
    let mut line = written(answer);
    if line.octets().is_empty() {
        line = failed("the answer cannot be written");
    } else if line.octets().len() as u64 >= ANSWER_OCTETS_MAX {
        line = failed("the answer is too long; ask for less");
    }
    line.push(b"\n");
    line
}

#[cfg(test)]
mod tests {
    use super::super::client::{AskError, ask};
    use super::*;
    use crate::config::{Live, Settings};
    use crate::directory::Directory;
    use crate::store::{Embedded, Options};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream as BlockingStream;

    struct Fixture {
        data_dir: PathBuf,
        drain: Drain,
        served: tokio::task::JoinHandle<()>,
        _dir: tempfile::TempDir,
    }

    /// Serves a new store below a folder with a name of `depth` octets.
    fn serve(depth: usize) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("d".repeat(depth));
        let (store, _) = Embedded::open(&Options { data_dir: data_dir.clone(), reserve_octets: 0 }).unwrap();
        let context = Context {
            store: Arc::new(store),
            directory: Arc::new(Directory::open(&[]).0),
            settings: Live::new(Settings::with_defaults("gw.example", &["gw.example"], &data_dir)),
            ports: Some(super::super::Ports::default()),
            serving: super::super::Serving::default(),
            visits: crate::observe::Visits::default(),
            refused_mail: crate::observe::RefusedMail::default(),
            watch: None,
            pullers: None,
        };
        fs::write(data_dir.join(SOCKET_FILE), "left by a crash").unwrap();
        let socket = AdminSocket::bind(&data_dir).unwrap();
        let drain = Drain::new();
        let served = tokio::spawn(socket.serve(context, drain.clone()));
        Fixture { data_dir, drain, served, _dir: dir }
    }

    async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    async fn raw(fixture: &Fixture, request: Vec<u8>) -> String {
        let path = fixture.data_dir.join(SOCKET_FILE);
        blocking(move || {
            let mut stream = BlockingStream::connect(path).unwrap();
            // The server may answer, and hang up, before it has been told everything.
            stream.write_all(&request).ok();
            stream.shutdown(std::net::Shutdown::Write).ok();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok();
            answer
        })
        .await
    }

    #[tokio::test]
    async fn answers_over_any_length_of_path_and_goes_with_the_server() {
        for depth in [1, 200] {
            let fixture = serve(depth);
            let data_dir = fixture.data_dir.clone();
            let answer = blocking(move || ask(&data_dir, &Request::ListGatewayMailboxes)).await.unwrap();
            assert_eq!(answer, Response::GatewayMailboxes(Vec::new()));
            fixture.drain.start();
            fixture.served.await.unwrap();
            assert!(!fixture.data_dir.join(SOCKET_FILE).exists());
            let data_dir = fixture.data_dir.clone();
            let answer = blocking(move || ask(&data_dir, &Request::Ready)).await;
            assert!(matches!(answer, Err(AskError::NobodyListens)), "{answer:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_request_is_answered_and_changes_nothing() {
        let fixture = serve(1);
        let mut long = vec![b' '; usize::try_from(REQUEST_OCTETS_MAX).unwrap()];
        long.extend_from_slice(b"{\"op\":\"ready\"}\n");
        for (request, expect) in [
            (b"{\"op\":\"ready\"".to_vec(), "cut off or too long"),
            (long, "cut off or too long"),
            (b"QUIT\n".to_vec(), "does not understand"),
            (b"\n".to_vec(), "does not understand"),
            (b"\xff\xfe\n".to_vec(), "does not understand"),
        ] {
            let answer = raw(&fixture, request).await;
            assert!(answer.contains(expect) && answer.contains("\"usage\""), "{answer}");
            assert!(answer.ends_with('\n') && answer.matches('\n').count() == 1, "{answer}");
        }
        assert!(raw(&fixture, b"{\"op\":\"ready\"}\n".to_vec()).await.contains("\"ready\":true"));
        fixture.drain.start();
        fixture.served.await.unwrap();
    }

    #[tokio::test]
    async fn silent_connections_keep_nobody_else_waiting() {
        let fixture = serve(1);
        let path = fixture.data_dir.join(SOCKET_FILE);
        let silent: Vec<_> = (1..CONNECTIONS_MAX).map(|_| BlockingStream::connect(&path).unwrap()).collect();
        assert!(raw(&fixture, b"{\"op\":\"ready\"}\n".to_vec()).await.contains("\"done\""));
        drop(silent);
        fixture.drain.start();
        fixture.served.await.unwrap();
    }
}
