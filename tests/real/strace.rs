//! System calls of a running server made to fail, by strace.
//!
//! strace counts calls by thread: `when=2` fails the second call of each thread. What was really hit, and on which file, is
//! read back from its output.

use super::gateway::until;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Calls to be interfered with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Injection {
    /// As `-e trace=` takes them.
    pub(crate) calls: &'static str,
    /// What happens, as `-e inject=` takes it: `error=EIO`, `signal=KILL`.
    pub(crate) effect: &'static str,
    /// To the how-manieth call of each thread.
    pub(crate) when: u32,
}

pub(crate) struct Strace {
    child: Child,
    out: PathBuf,
}

impl Strace {
    /// Attaches to every thread of `pid`.
    pub(crate) fn attach(pid: u32, injection: Injection, out: &Path) -> Strace {
        let Injection { calls, effect, when } = injection;
        let child = Command::new("strace")
            .args(["-f", "-qq", "-y", "-e", "signal=none", "-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:{effect}:when={when}")])
            .args(["-p", &pid.to_string(), "-o"])
            .arg(out)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace is needed");
        let mut strace = Strace { child, out: out.to_owned() };
        until("strace to attach", || {
            assert!(strace.child.try_wait().unwrap().is_none(), "strace ended: may this user trace?");
            is_traced(pid).then_some(())
        });
        strace
    }

    /// Lets go of the server, if it still runs; the calls that were interfered with.
    pub(crate) fn detach(mut self) -> Vec<String> {
        let pid = rustix::process::Pid::from_child(&self.child);
        // It ends by itself when the server does.
        rustix::process::kill_process(pid, rustix::process::Signal::INT).ok();
        self.child.wait().unwrap();
        let lines = fs::read_to_string(&self.out).unwrap_or_default();
        lines.lines().filter(|line| line.contains("INJECTED")).map(str::to_owned).collect()
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn is_traced(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let mut threads = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("status")));
    threads.all(|status| {
        status.is_ok_and(|status| status.lines().any(|l| l.starts_with("TracerPid:") && !l.ends_with("\t0")))
    })
}

/// Which file a call was about, as a kind: `log/*.seg`, `content`, `index.sqlite-wal`.
pub(crate) fn site_of(line: &str, data_dir: &Path) -> String {
    let path = line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(path, _)| path);
    let call = line.split_once('(').map_or(line, |(call, _)| call);
    let call = call.rsplit(' ').next().unwrap_or(call);
    let below = path.strip_prefix(&*data_dir.to_string_lossy()).unwrap_or(path).trim_start_matches('/');
    // Names with numbers in them are all of a kind.
    let kind: Vec<_> = below
        .split('/')
        .map(|part| if part.chars().any(|c| c.is_ascii_digit()) { "*" } else { part })
        .collect();
    let extension = below.rsplit_once('.').map_or("", |(_, extension)| extension);
    format!("{call} {} {extension}", kind.join("/"))
}
