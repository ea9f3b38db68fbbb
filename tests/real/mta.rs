//! What the mail servers that send to us have in common: a place of their own, a queue, and an end.

use super::gateway::until;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use tempfile::TempDir;

/// Largest message the senders take. Their own defaults are lower or near.
pub(crate) const MESSAGE_OCTETS_MAX: u64 = 64 * 1024 * 1024;

/// A mail server that takes reports on loopback, queues them, and sends them on.
pub(crate) trait Sender: Sync {
    /// Where it takes mail.
    fn address(&self) -> SocketAddr;
    /// Messages in its queue.
    fn queued(&self) -> usize;
    /// Its log so far.
    fn log(&self) -> String;
}

/// A loopback port that is free and that no outgoing connection is given: they come from 32768 up.
pub(crate) fn quiet_port() -> u16 {
    static DRAWN: AtomicU16 = AtomicU16::new(0);
    let start = 12_000 + (std::process::id() % 10_000) as u16;
    until("a free port", || {
        let port = start + DRAWN.fetch_add(1, Ordering::Relaxed) % 10_000;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(port)
    })
}

/// Waits until somebody greets there.
pub(crate) fn until_it_answers(port: u16) {
    until("a mail server to answer", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
}

/// A directory that users without rights can reach: mail servers drop theirs.
pub(crate) fn open_dir(name: &str) -> TempDir {
    let dir = tempfile::Builder::new().prefix(&format!("daybook-{name}-")).tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// A directory below, owned by this user.
pub(crate) fn make_dir(parent: &Path, name: &str, owner: &str) -> PathBuf {
    let dir = parent.join(name);
    fs::create_dir(&dir).unwrap();
    run(Command::new("chown").arg(owner).arg(&dir));
    dir
}

/// Starts a process that stays, in a process group of its own, so that it can be ended with its children.
pub(crate) fn spawn(command: &mut Command, output: &Path) -> Child {
    let output = fs::File::options().create(true).append(true).open(output).unwrap();
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output).process_group(0);
    command.spawn().unwrap_or_else(|error| panic!("{program} is needed: {error}"))
}

/// Ends a process and all in its group.
pub(crate) fn end(child: &mut Child) {
    let group = rustix::process::Pid::from_child(child);
    // Gone already, perhaps.
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
    child.wait().ok();
}

/// Runs a command to its good end; what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    let Output { status, stdout, stderr } = output;
    assert!(status.success(), "{program}: {status}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8_lossy(&stdout).into_owned()
}
