//! Asks a running server, over its socket.

use super::export::{CHUNK_WAIT, ExportView};
use super::request::{OpError, Request, Response};
use super::socket::{ANSWER_OCTETS_MAX, Answer, SOCKET_FILE};
use super::wiped::Wiped;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// Longest path an address of a Unix socket holds everywhere, in octets.
const SOCKET_PATH_OCTETS_MAX: usize = 100;

/// Why there is no answer.
#[derive(Debug)]
pub enum AskError {
    /// No server runs on this `data_dir`.
    NobodyListens,
    /// There is one, and it could not be asked.
    Broken(io::Error),
    /// It answered that it did not do it.
    Failed(OpError),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskError::NobodyListens => f.write_str("no server is running"),
            AskError::Broken(error) => write!(f, "ask the server: {error}"),
            AskError::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AskError {}

/// The path to bind or connect to, usable while this lives.
pub(super) struct SocketPath {
    path: PathBuf,
    _dir: Option<File>,
}

impl SocketPath {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// A socket's address holds few octets, a path has no such limit: a long one is reached through its open folder.
pub(super) fn socket_path(data_dir: &Path, file: &str) -> io::Result<SocketPath> {
    let path = data_dir.join(file);
    if path.as_os_str().len() <= SOCKET_PATH_OCTETS_MAX {
        return Ok(SocketPath { path, _dir: None });
    }
    let dir = File::open(data_dir)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{file}", dir.as_raw_fd()));
    Ok(SocketPath { path, _dir: Some(dir) })
}

/// Asks the server that has `data_dir` open. Blocks.
///
/// # Errors
/// [`AskError`]; after [`AskError::Broken`] the operation may have been done all the same.
pub fn ask(data_dir: &Path, request: &Request) -> Result<Response, AskError> {
    match exchange(connect(data_dir)?, request).map_err(AskError::Broken)? {
        (Answer::Done(response), _) => Ok(*response),
        (Answer::Failed(error), _) => Err(AskError::Failed(error)),
    }
}

/// Lines of a running server, as they come.
#[derive(Debug)]
pub struct TailLines(BufReader<UnixStream>);

/// Asks the server that has `data_dir` open for lines: a [`Request::Tail`]. Blocks until it agrees.
///
/// # Errors
/// [`AskError`].
pub fn tail(data_dir: &Path, request: &Request) -> Result<TailLines, AskError> {
    match exchange(connect(data_dir)?, request).map_err(AskError::Broken)? {
        (Answer::Done(_), reader) => {
            // Whatever comes next may be long in coming.
            reader.get_ref().set_read_timeout(None).map_err(AskError::Broken)?;
            Ok(TailLines(reader))
        }
        (Answer::Failed(error), _) => Err(AskError::Failed(error)),
    }
}

/// Asks the server that has `data_dir` open for a message: a [`Request::ExportMessage`]. Its octets are read from what is
/// returned; they end early when the server cannot read on.
///
/// # Errors
/// [`AskError`].
pub fn export(data_dir: &Path, request: &Request) -> Result<(ExportView, impl Read + use<>), AskError> {
    let answered = exchange(connect(data_dir)?, request).map_err(AskError::Broken)?;
    let (response, reader) = match answered {
        (Answer::Done(response), reader) => (*response, reader),
        (Answer::Failed(error), _) => return Err(AskError::Failed(error)),
    };
    let Response::Exporting(view) = response else {
        return Err(AskError::Broken(io::Error::other("the server gave another answer than asked for")));
    };
    // A chunk that nobody hands on within this time never comes.
    reader.get_ref().set_read_timeout(Some(CHUNK_WAIT)).map_err(AskError::Broken)?;
    Ok((view, reader))
}

impl TailLines {
    /// Waits for the next line, without its end; `None` when the server has ended, or there are no more.
    pub fn next_line(&mut self) -> Option<String> {
        let mut line = String::new();
        // A line cut off by the end of the server is no line.
        self.0.read_line(&mut line).ok()?;
        line.pop().filter(|end| *end == '\n').map(|_| line)
    }
}

fn connect(data_dir: &Path) -> Result<UnixStream, AskError> {
    socket_path(data_dir, SOCKET_FILE).and_then(|place| UnixStream::connect(place.path())).map_err(|error| {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::NobodyListens,
            _ => AskError::Broken(error),
        }
    })
}

fn exchange(mut stream: UnixStream, request: &Request) -> io::Result<(Answer, BufReader<UnixStream>)> {
    // Longer than the server takes, so that its own word about lateness arrives.
    let wait = Some(request.wait() + Duration::from_secs(5));
    stream.set_read_timeout(wait)?;
    stream.set_write_timeout(wait)?;
    // It may hold what opens a gateway mailbox.
    let mut line = Wiped::default();
    serde_json::to_writer(&mut line, request)?;
    line.push(b"\n");
    stream.write_all(line.octets())?;
    let mut answer = Zeroizing::new(Vec::new());
    let mut reader = BufReader::new(stream);
    reader.by_ref().take(ANSWER_OCTETS_MAX).read_until(b'\n', &mut answer)?;
    if answer.last() != Some(&b'\n') {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer is cut off"));
    }
    Ok((serde_json::from_slice(&answer)?, reader))
}
