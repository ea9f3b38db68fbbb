//! System calls of a running server made to fail, by strace.
//!
//! strace counts calls by thread: `when=2` fails the second call of each thread. What was really hit, and on which file, is
//! read back from its output. A call that kills is not in it.

use super::gateway::until;
use std::collections::BTreeMap;
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
    /// To which of these calls of each thread: the first one,
    pub(crate) first: u32,
    /// and how often from there on.
    pub(crate) times: Times,
    /// To which files.
    pub(crate) on: On,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Times {
    Once,
    Twice,
    /// One in so many.
    OneIn(u32),
    Always,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Anything,
    /// The segments of the log, those to come included; the count is of calls on these.
    Log,
    /// The index and what SQLite keeps beside it.
    Index,
    /// The file that the server logs to, beside its data.
    ServerLog,
}

impl Injection {
    /// As strace's `when=` takes it.
    fn when(&self) -> String {
        let first = self.first;
        match self.times {
            Times::Once => first.to_string(),
            Times::Twice => format!("{first}..{}", first + 1),
            Times::OneIn(step) => format!("{first}+{step}"),
            Times::Always => format!("{first}+"),
        }
    }

    /// True when it does not end by itself.
    pub(crate) fn persists(&self) -> bool {
        matches!(self.times, Times::Always | Times::OneIn(_))
    }

    pub(crate) fn kills(&self) -> bool {
        self.effect.starts_with("signal=")
    }
}

/// Segments that a test may come to, counted from the newest one there is.
const SEGMENTS_AHEAD: u64 = 8;

/// The newest segment of the log and those that will follow.
fn segments(data_dir: &Path) -> Vec<PathBuf> {
    let log = data_dir.join("log");
    let names = fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let newest: Option<u64> = names.filter_map(|name| name.strip_suffix(".seg")?.parse().ok()).max();
    let newest = newest.expect("the log has a segment");
    (newest..newest + SEGMENTS_AHEAD).map(|number| log.join(format!("{number:08}.seg"))).collect()
}

pub(crate) struct Strace {
    child: Child,
    out: PathBuf,
}

impl Strace {
    /// Attaches to every thread of `pid`, which works in `data_dir`.
    pub(crate) fn attach(pid: u32, injection: Injection, data_dir: &Path, out: &Path) -> Strace {
        let Injection { calls, effect, .. } = injection;
        let mut command = Command::new("strace");
        command
            .args(["-f", "-qq", "-y", "-e", "signal=none", "-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:{effect}:when={}", injection.when())])
            .args(["-p", &pid.to_string(), "-o"])
            .arg(out);
        let files = match injection.on {
            On::Anything => Vec::new(),
            On::Log => segments(data_dir),
            On::Index => {
                let names = ["index.sqlite", "index.sqlite-wal", "index.sqlite-shm"];
                names.map(|name| data_dir.join(name)).to_vec()
            }
            On::ServerLog => vec![data_dir.with_file_name("log.jsonl")],
        };
        for file in files {
            command.arg("-P").arg(file);
        }
        let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("strace is needed");
        let mut strace = Strace { child, out: out.to_owned() };
        until("strace to attach", || {
            assert!(strace.child.try_wait().unwrap().is_none(), "strace ended: may this user trace?");
            is_traced(pid).then_some(())
        });
        strace
    }

    /// True once a call was interfered with.
    pub(crate) fn has_hit(&self) -> bool {
        fs::read_to_string(&self.out).is_ok_and(|trace| trace.contains("(INJECTED)"))
    }

    /// Lets go of the server, if it still runs; the calls that were interfered with.
    pub(crate) fn detach(mut self) -> Vec<String> {
        let pid = rustix::process::Pid::from_child(&self.child);
        // It ends by itself when the server does.
        rustix::process::kill_process(pid, rustix::process::Signal::INT).ok();
        self.child.wait().unwrap();
        hits_in(&fs::read_to_string(&self.out).unwrap_or_default())
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

/// The calls in a trace that were interfered with, each in one piece: of threads at the same time, strace writes the beginning of
/// a call and its end apart.
pub(crate) fn hits_in(trace: &str) -> Vec<String> {
    let mut begun: BTreeMap<&str, &str> = BTreeMap::new();
    let mut hits = Vec::new();
    for line in trace.lines() {
        let (thread, call) = line.split_once(' ').unwrap_or(("", line));
        let call = call.trim_start();
        if let Some(beginning) = call.strip_suffix("<unfinished ...>") {
            begun.insert(thread, beginning);
            continue;
        }
        let rest = call.starts_with("<... ").then(|| call.split_once(" resumed>")).flatten();
        let beginning = rest.and_then(|_| begun.remove(thread)).unwrap_or("");
        if call.contains("(INJECTED)") {
            hits.push(format!("{beginning}{}", rest.map_or(call, |(_, rest)| rest)));
        }
    }
    hits
}

/// The path that a call was about: of its descriptor, or the first it names.
fn path_of(call: &str) -> &str {
    let arguments = call.split_once('(').map_or("", |(_, arguments)| arguments);
    let (open, close) =
        if arguments.starts_with(|c: char| c.is_ascii_digit()) { ('<', '>') } else { ('"', '"') };
    arguments.split_once(open).and_then(|(_, rest)| rest.split_once(close)).map_or("", |(path, _)| path)
}

/// Which file a call was about, as a kind: `log/*.seg`, `content`, `index.sqlite-wal`.
pub(crate) fn site_of(call: &str, data_dir: &Path) -> String {
    let path = path_of(call);
    let name = call.split_once('(').map_or(call, |(name, _)| name);
    let name = name.rsplit(' ').next().unwrap_or(name);
    let below = path.strip_prefix(&*data_dir.to_string_lossy()).unwrap_or(path).trim_start_matches('/');
    // Names with numbers in them are all of a kind.
    let is_numbered = |part: &str| part.contains(|c: char| c.is_ascii_digit()) || part.len() == 2;
    let kind: Vec<_> = below.split('/').map(|part| if is_numbered(part) { "*" } else { part }).collect();
    let extension = below.rsplit_once('.').map_or("", |(_, extension)| extension);
    format!("{name} {} {extension}", kind.join("/"))
}
