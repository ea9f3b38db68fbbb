//! The built binary, serving on loopback ports out of a directory of its own, to be killed and started again.

use super::maildrop::Maildrop;
use super::support::{SOON, Site};
use rustix::process::{Pid, Signal, kill_process};
use rustls::ClientConfig;
use serde_json::Value;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks at something that is awaited.
const POLL_PAUSE: Duration = Duration::from_millis(2);

/// A gateway mailbox and how to get at it.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) address: String,
    pub(crate) login: String,
    pub(crate) password: String,
}

/// The command that makes an account.
pub(crate) const CREATE_ACCOUNT: [&str; 4] = ["mailbox", "create", "--name", "Contoso"];

impl Account {
    /// As [`CREATE_ACCOUNT`] prints it.
    pub(crate) fn of(made: &Value) -> Account {
        let text = |key: &str| made[key].as_str().unwrap().to_owned();
        Account { address: text("address"), login: text("login"), password: text("password") }
    }
}

/// A site with a server that comes and goes.
pub(crate) struct Gateway {
    site: Site,
    child: Option<Child>,
    ports: Value,
    /// Octets of the log that stood there before this start.
    log_before: usize,
    /// How long it may take to begin to serve.
    start_max: Duration,
    /// What its process finds in its environment, besides what is there.
    environment: Vec<(&'static str, String)>,
    /// A command that starts it, which it replaces.
    starter: Vec<String>,
}

/// Polls until `ask` has an answer.
pub(crate) fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(SOON, what, ask)
}

fn within<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} for {what}");
        std::thread::park_timeout(POLL_PAUSE);
    }
}

/// Puts a copy of the directory `from` in the place of `to`.
pub(crate) fn copy(from: &Path, to: &Path) {
    drop(fs::remove_dir_all(to));
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// Takes the index in `data_dir` away, and puts that of `other` in its place.
pub(crate) fn replace_index(data_dir: &Path, other: Option<&Path>) {
    for suffix in ["", "-wal", "-shm"] {
        let name = format!("index.sqlite{suffix}");
        // After an orderly end, or a crash at the right moment, some of these are not there.
        fs::remove_file(data_dir.join(&name)).ok();
        if let Some(other) = other.map(|other| other.join(&name)).filter(|other| other.exists()) {
            fs::copy(other, data_dir.join(&name)).unwrap();
        }
    }
}

impl Gateway {
    /// A server with nothing in it yet, started.
    pub(crate) fn start() -> Gateway {
        Gateway::start_on(Site::new(), Vec::new())
    }

    /// As [`Gateway::start`], on a site of the caller's, with these variables in the server's environment.
    pub(crate) fn start_on(site: Site, environment: Vec<(&'static str, String)>) -> Gateway {
        let mut gateway = Gateway::at(site);
        gateway.environment = environment;
        gateway.start_again();
        gateway
    }

    /// From now on a start may take this long.
    pub(crate) fn may_start_for(&mut self, limit: Duration) {
        self.start_max = limit;
    }

    /// A server at this site, not started yet.
    pub(crate) fn at(site: Site) -> Gateway {
        Gateway {
            site,
            child: None,
            ports: Value::Null,
            log_before: 0,
            environment: Vec::new(),
            starter: Vec::new(),
            start_max: SOON,
        }
    }

    /// From its next start on it finds this in its environment.
    pub(crate) fn set_environment(&mut self, variable: &'static str, value: &str) {
        self.environment.push((variable, value.to_owned()));
    }

    /// From its next start on it is started by this command, of which it becomes the process: `strace -D …`.
    pub(crate) fn set_starter(&mut self, words: &[&str]) {
        self.starter = words.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Starts the server on the directory as it is.
    pub(crate) fn start_again(&mut self) {
        self.begin_start();
        if let Err(why) = self.finish_start() {
            panic!("{why}");
        }
    }

    /// The command that starts the server.
    pub(crate) fn serve(&self) -> Command {
        let mut serve = self.site.command(&["serve"]);
        if let Some((program, words)) = self.starter.split_first() {
            let mut started = Command::new(program);
            started.args(words).arg(serve.get_program()).args(serve.get_args());
            started.current_dir(serve.get_current_dir().unwrap());
            serve = started;
        }
        serve.envs(self.environment.iter().map(|(variable, value)| (variable, value)));
        serve
    }

    /// Starts the server and does not wait.
    pub(crate) fn begin_start(&mut self) {
        self.begin_to_start(self.serve());
    }

    /// Starts the server by `serve`, without waiting for anything.
    pub(crate) fn begin_to_start(&mut self, mut serve: Command) {
        assert!(self.child.is_none(), "it runs already");
        let ports = self.data_dir().join("ports.json");
        // A killed server leaves its file; what stands there after this is of the new one.
        drop(fs::remove_file(&ports));
        self.log_before = fs::read(self.log_path()).map_or(0, |log| log.len());
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let child = serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.child = Some(child);
    }

    /// Waits until the server that was started takes connections; says why it does not if it ends instead.
    pub(crate) fn finish_start(&mut self) -> Result<(), String> {
        let served = self.wait_until_it_serves();
        served.map_err(|status| format!("the server ended with {status}: {}", last_lines(&self.log(), 40)))
    }

    /// Waits for a server that was begun to be started; its status if it ends instead of serving.
    pub(crate) fn wait_until_it_serves(&mut self) -> Result<(), ExitStatus> {
        let ports = self.data_dir().join("ports.json");
        let mut ended = None;
        self.ports = within(self.start_max, "ports.json", || {
            ended = self.child.as_mut()?.try_wait().unwrap();
            if ended.is_some() {
                return Some(Value::Null);
            }
            serde_json::from_slice(&fs::read(&ports).ok()?).ok()
        });
        let Some(status) = ended else { return Ok(()) };
        self.child = None;
        Err(status)
    }

    /// A command on its site, to be run as the caller likes.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.site.command(arguments)
    }

    /// What clients of its site trust.
    pub(crate) fn client_config(&self) -> Arc<ClientConfig> {
        self.site.client_config()
    }

    /// Runs a command.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.site.command(arguments).output().unwrap()
    }

    /// Runs a command against the server, and reads the JSON it prints.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Value {
        let Output { status, stdout, stderr } = self.site.command(arguments).arg("--json").output().unwrap();
        assert!(status.success(), "{arguments:?}: {status}: {}", String::from_utf8_lossy(&stderr));
        serde_json::from_slice(&stdout).unwrap()
    }

    pub(crate) fn create_account(&self) -> Account {
        Account::of(&self.ask(&CREATE_ACCOUNT))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        // Gone already when an injected signal was faster.
        drop(child.kill());
        child.wait().unwrap();
    }

    /// Ends it in good order, frozen or not.
    pub(crate) fn terminate(&mut self) {
        self.signal(Signal::TERM);
        self.thaw();
        let mut child = self.child.take().unwrap();
        let status = until("an orderly end", || child.try_wait().unwrap());
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Ends it in good order and takes its index away, so that it has to be made anew from the log.
    pub(crate) fn start_again_without_index(&mut self) {
        self.terminate();
        replace_index(&self.data_dir(), None);
        self.start_again();
    }

    /// From its next start on it takes mail at this port, and no longer at any free one: for senders that are told once.
    pub(crate) fn take_mail_at(&self, port: u16) {
        let any = "[smtp]\nlisten = [\"127.0.0.1:0\"]";
        let configuration = fs::read_to_string(self.site.path("daybook.toml")).unwrap();
        assert!(configuration.contains(any), "{configuration}");
        let this = format!("[smtp]\nlisten = [\"127.0.0.1:{port}\"]");
        self.site.write("daybook.toml", &configuration.replace(any, &this));
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), signal).unwrap();
    }

    /// Stops it where it is, until [`Gateway::thaw`] or its end.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
        let status = format!("/proc/{}/status", self.pid());
        until("the server to stand still", || {
            fs::read_to_string(&status).unwrap().contains("\nState:\tT").then_some(())
        });
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Connections to the SMTP port that it has taken and that are open at both ends.
    pub(crate) fn smtp_connections(&self) -> usize {
        // Columns: number, local and remote address, state, queues, timer, retransmissions, user, timeout, inode
        // (proc_net_tcp.txt). One that waits to be taken has no inode.
        const ESTABLISHED: &str = "01";
        let local = format!(":{:04X}", self.smtp().port());
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let is_ours = |line: &&str| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            columns[1].ends_with(&local) && columns[3] == ESTABLISHED && columns[9] != "0"
        };
        table.lines().skip(1).filter(is_ours).count()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    fn port(&self, service: &str) -> SocketAddr {
        self.ports[service].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn smtp(&self) -> SocketAddr {
        self.port("smtp")
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.port("http")
    }

    pub(crate) fn pop3(&self) -> SocketAddr {
        self.port("pop3")
    }

    pub(crate) fn pop3s(&self) -> SocketAddr {
        self.port("pop3s")
    }

    pub(crate) fn imap(&self) -> SocketAddr {
        self.port("imap")
    }

    pub(crate) fn imaps(&self) -> SocketAddr {
        self.port("imaps")
    }

    /// A file or directory beside the server's data.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.site.path(name)
    }

    /// Where it keeps everything; never by way of a link, once it is there.
    pub(crate) fn data_dir(&self) -> PathBuf {
        let dir = self.site.path("data");
        dir.canonicalize().unwrap_or(dir)
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.site.path("data/tls/cert.pem")
    }

    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    pub(crate) fn maildrop(&self, account: &Account) -> Maildrop {
        Maildrop::open(self.pop3s(), &self.site.client_config(), &account.login, &account.password)
    }

    /// The file it logs to.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.site.path("log.jsonl")
    }

    /// What it logged since the last start.
    pub(crate) fn log(&self) -> String {
        let all = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&all[self.log_before..]).into_owned()
    }

    /// The names of the events since the last start, with the whole line.
    pub(crate) fn events(&self) -> Vec<(String, String)> {
        let log = self.log();
        let named = log.lines().filter_map(|line| {
            let event: Value = serde_json::from_str(line).ok()?;
            let name = event.get("event").or_else(|| event.get("fields")?.get("event"))?;
            Some((name.as_str()?.to_owned(), line.to_owned()))
        });
        named.collect()
    }

    /// The log since the first start.
    pub(crate) fn whole_log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// Fails when the server said since its start that something stored is damaged.
    pub(crate) fn assert_store_is_whole(&self) {
        // What opening the store found stands before that. Lines reach the file a moment after what they tell of.
        let events = until("the server to say that it listens", || {
            Some(self.events()).filter(|events| events.iter().any(|(name, _)| name == "listening"))
        });
        let bad = events.iter().find(|(name, _)| name.contains("damaged") || name.contains("rebuilt"));
        assert!(bad.is_none(), "{bad:?}");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
        if std::thread::panicking() {
            eprintln!("the server's last words:\n{}", last_lines(&self.log(), 40));
        }
    }
}

/// The end of a text.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
