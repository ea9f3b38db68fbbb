//! The built program as tests use it: a site (a folder with a configuration), a server running on it, commands, and the
//! smallest SMTP and POP3S clients that can talk to it.
//!
//! Take it in with `#[path = "support/daybook.rs"] mod support;`. Needs nothing but the standard library and `rustls`.
//! Whatever waits has a deadline of [`SOON`]; a server that is dropped is killed, a site that is dropped is removed.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take. Far more than it needs, so that a busy machine fails no test.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// The host name of every site, and what its certificate is made for.
pub(crate) const HOST: &str = "localhost";
/// The domain of its gateway mailboxes.
pub(crate) const DOMAIN: &str = "gateway.example";

/// Users as the corpus knows them.
pub(crate) const USERS: &str = r#"
[[user]]
id = "alice"
name = "Alice Archer"
addresses = ["alice@contoso.example", "a.archer@contoso.example"]

[[user]]
id = "bob"
name = "Bob Baker"
addresses = ["bob@contoso.example"]
"#;

/// Polls `holds` until it is true.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A message of the corpus.
pub(crate) fn corpus(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Its exit code.
    pub(crate) code: i32,
    /// What it printed.
    pub(crate) stdout: String,
    /// What it complained of.
    pub(crate) stderr: String,
}

impl Outcome {
    /// Asserts the exit code; shows what was said if it is another.
    pub(crate) fn expect(self, code: i32) -> Outcome {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }
}

/// A folder of its own with `daybook.toml`, `users.toml` and the `data` directory.
pub(crate) struct Site {
    dir: PathBuf,
}

impl Site {
    /// A site on loopback, any ports, with [`USERS`].
    pub(crate) fn new() -> Site {
        Site::with("", USERS)
    }

    /// A site with further configuration sections and these users.
    pub(crate) fn with(sections: &str, users: &str) -> Site {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(format!("daybook-test-{pid}-{count}"));
        fs::create_dir(&dir).unwrap();
        let site = Site { dir };
        site.write("users.toml", users);
        let any = "listen = [\"127.0.0.1:0\"]\nlisten_tls = [\"127.0.0.1:0\"]\n";
        let imap = if sections.contains("[imap]") { String::new() } else { format!("[imap]\n{any}") };
        site.write(
            "daybook.toml",
            &format!(
                "hostname = \"{HOST}\"\ndomains = [\"{DOMAIN}\", \"second.example\"]\ndata_dir = \"data\"\n\
                 [smtp]\nlisten = [\"127.0.0.1:0\"]\n\
                 [pop3]\n{any}{imap}\
                 [http]\nlisten = \"127.0.0.1:0\"\n\
                 [[directory]]\nkind = \"file\"\npath = \"users.toml\"\n{sections}"
            ),
        );
        site
    }

    /// Keeps everything in `dir`, by way of a link where `data` stood.
    pub(crate) fn keep_data_in(&self, dir: &Path) {
        let text = fs::read_to_string(self.path("daybook.toml")).unwrap();
        let here = format!("data_dir = \"{}\"", dir.display());
        self.write("daybook.toml", &text.replace("data_dir = \"data\"", &here));
        std::os::unix::fs::symlink(dir, self.path("data")).unwrap();
    }

    /// Adds keys to the `[smtp]` section.
    pub(crate) fn set_smtp(&self, keys: &str) {
        let text = fs::read_to_string(self.path("daybook.toml")).unwrap();
        self.write("daybook.toml", &text.replace("[smtp]\n", &format!("[smtp]\n{keys}\n")));
    }

    /// A file of the site.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file of the site, whole or not at all; a secret for its owner alone.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let new = self.path(&format!("{name}.new"));
        fs::write(&new, text).unwrap();
        if text.contains("PRIVATE KEY") || name.contains("password") {
            fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::rename(new, self.path(name)).unwrap();
    }

    /// A command on this site, to be run as the caller likes.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daybook"));
        command.arg("--config").arg(self.path("daybook.toml")).args(arguments).current_dir(&self.dir);
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_with_input(arguments, b"")
    }

    /// Runs a command that reads `input`.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // From a thread, since a command may answer before it has read everything.
        let writer = std::thread::spawn(move || stdin.write_all(&input).ok());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
        Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Starts a server and waits until it takes connections.
    pub(crate) fn serve(&self) -> Server<'_> {
        self.serve_unchecked().wait_until_it_serves()
    }

    /// Starts a server and does not wait. Its log is a file of the site.
    pub(crate) fn serve_unchecked(&self) -> Server<'_> {
        self.serve_by(self.command(&["serve"]))
    }

    /// Starts a server by a command of the caller's and does not wait. Its log is a file of the site.
    pub(crate) fn serve_by(&self, mut command: Command) -> Server<'_> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let log = self.path(&format!("log-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        Server { site: self, child: command.spawn().unwrap(), log }
    }

    /// Trusts only the certificate the site made for itself.
    pub(crate) fn client_config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("data/tls/cert.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// A server process. Killed when dropped.
pub(crate) struct Server<'s> {
    site: &'s Site,
    child: Child,
    log: PathBuf,
}

impl Server<'_> {
    /// Waits until it takes connections.
    pub(crate) fn wait_until_it_serves(mut self) -> Self {
        wait_until("ports.json", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended with {status}:\n{}", self.log());
            }
            self.site.path("data/ports.json").exists()
        });
        self
    }

    /// Where it listens: `smtp`, `pop3`, `pop3s`, `http`, as `ports.json` says.
    pub(crate) fn port(&self, service: &str) -> SocketAddr {
        let text = fs::read_to_string(self.site.path("data/ports.json")).unwrap();
        let (_, rest) =
            text.split_once(&format!("\"{service}\":\"")).unwrap_or_else(|| panic!("no {service}: {text}"));
        rest.split('"').next().unwrap().parse().unwrap()
    }

    /// What it logged so far, one JSON object a line.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for an event in the log.
    pub(crate) fn wait_for(&self, event: &str) {
        let wanted = format!("\"event\":\"{event}\"");
        wait_until(event, || self.log().contains(&wanted));
    }

    /// What it logged, once `wanted` is in it so many times: lines reach the file a moment after what they tell of.
    pub(crate) fn log_with(&self, wanted: &str, times: usize) -> String {
        wait_until(wanted, || self.log().matches(wanted).count() >= times);
        self.log()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal: `TERM`, `HUP`, `INT`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
    }

    /// Waits for its end; gives the exit code.
    pub(crate) fn wait(&mut self) -> i32 {
        let mut status: Option<ExitStatus> = None;
        wait_until("the end of the server", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code()).unwrap_or(-1)
    }

    /// Ends it in good order; gives the exit code.
    pub(crate) fn terminate(&mut self) -> i32 {
        self.signal("TERM");
        self.wait()
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.wait();
    }

    /// Sends a message in clear from the null path; gives the reply to its end, such as `250 2.0.0 Ok …`.
    pub(crate) fn send(&self, to: &str, message: &[u8]) -> String {
        Smtp::connect(self.port("smtp")).send(to, message)
    }

    /// Logs in over POP3S.
    pub(crate) fn pop3s(&self, login: &str, password: &str) -> io::Result<Pop3s> {
        Pop3s::login(self.port("pop3s"), self.site.client_config(), login, password)
    }

    /// Logs in over POP3, with TLS begun by STLS.
    pub(crate) fn pop3_stls(&self, login: &str, password: &str) -> io::Result<Pop3s> {
        Pop3s::login_by_stls(self.port("pop3"), self.site.client_config(), login, password)
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An SMTP session in clear.
pub(crate) struct Smtp {
    stream: BufReader<TcpStream>,
}

impl Smtp {
    /// Connects and says EHLO.
    pub(crate) fn connect(address: SocketAddr) -> Smtp {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut smtp = Smtp { stream: BufReader::new(stream) };
        assert!(smtp.reply().starts_with("220 "));
        assert!(smtp.say("EHLO client.example").starts_with("250"));
        smtp
    }

    /// The last line of the next reply.
    pub(crate) fn reply(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.stream.read_line(&mut line).unwrap() > 0, "the server hung up");
            if line.as_bytes().get(3) != Some(&b'-') {
                return line.trim_end().to_owned();
            }
        }
    }

    /// Sends a command; gives the last line of its reply.
    pub(crate) fn say(&mut self, command: &str) -> String {
        self.stream.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap();
        self.reply()
    }

    /// Sends one message; gives the first reply that refuses it, or the one to its end. The message ends in CRLF.
    pub(crate) fn send(&mut self, to: &str, message: &[u8]) -> String {
        self.send_to(&[to], message)
    }

    /// Sends any octets to several, by BDAT; gives the first reply that refuses them, or the one to their end.
    pub(crate) fn send_by_bdat(&mut self, to: &[&str], octets: &[u8]) -> String {
        if let Err(refused) = self.envelope(to) {
            return refused;
        }
        let mut chunk = format!("BDAT {} LAST\r\n", octets.len()).into_bytes();
        chunk.extend_from_slice(octets);
        self.stream.get_mut().write_all(&chunk).unwrap();
        self.reply()
    }

    fn envelope(&mut self, to: &[&str]) -> Result<(), String> {
        self.accepted("MAIL FROM:<>")?;
        to.iter().try_for_each(|to| self.accepted(&format!("RCPT TO:<{to}>")))
    }

    /// Sends a command; gives the reply if it refuses it.
    fn accepted(&mut self, command: &str) -> Result<(), String> {
        let reply = self.say(command);
        if reply.starts_with(['2', '3']) { Ok(()) } else { Err(reply) }
    }

    /// The same to several.
    pub(crate) fn send_to(&mut self, to: &[&str], message: &[u8]) -> String {
        assert!(message.ends_with(b"\r\n"), "SMTP messages end in CRLF");
        if let Err(refused) = self.envelope(to).and_then(|()| self.accepted("DATA")) {
            return refused;
        }
        let mut stuffed = Vec::with_capacity(message.len() + 16);
        for line in message.split_inclusive(|octet| *octet == b'\n') {
            if line.starts_with(b".") {
                stuffed.push(b'.');
            }
            stuffed.extend_from_slice(line);
        }
        stuffed.extend_from_slice(b".\r\n");
        self.stream.get_mut().write_all(&stuffed).unwrap();
        self.reply()
    }
}

/// A POP3 session over TLS, logged in.
pub(crate) struct Pop3s {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl Pop3s {
    /// Connects and logs in.
    pub(crate) fn login(
        address: SocketAddr,
        config: Arc<ClientConfig>,
        login: &str,
        password: &str,
    ) -> io::Result<Pop3s> {
        let mut pop3s = Pop3s::over(TcpStream::connect(address)?, config)?;
        pop3s.status()?;
        pop3s.log_in(login, password)
    }

    /// Connects in clear, begins TLS and logs in.
    pub(crate) fn login_by_stls(
        address: SocketAddr,
        config: Arc<ClientConfig>,
        login: &str,
        password: &str,
    ) -> io::Result<Pop3s> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(SOON))?;
        for command in ["", "STLS\r\n"] {
            socket.write_all(command.as_bytes())?;
            // Octet by octet: what comes behind the line is TLS.
            let (mut line, mut octet) = (String::new(), [0]);
            while !line.ends_with('\n') {
                socket.read_exact(&mut octet)?;
                line.push(char::from(octet[0]));
            }
            if !line.starts_with("+OK") {
                return Err(io::Error::other(line));
            }
        }
        Pop3s::over(socket, config)?.log_in(login, password)
    }

    fn over(socket: TcpStream, config: Arc<ClientConfig>) -> io::Result<Pop3s> {
        let name = ServerName::try_from(HOST).map_err(io::Error::other)?;
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        socket.set_read_timeout(Some(SOON))?;
        Ok(Pop3s { stream: BufReader::new(StreamOwned::new(connection, socket)) })
    }

    fn log_in(mut self, login: &str, password: &str) -> io::Result<Pop3s> {
        self.say(&format!("USER {login}"))?;
        self.say(&format!("PASS {password}"))?;
        Ok(self)
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.stream.by_ref().read_until(b'\n', &mut line)?;
        if line.ends_with(b"\r\n") { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn status(&mut self) -> io::Result<String> {
        let line = String::from_utf8_lossy(&self.line()?).trim_end().to_owned();
        if line.starts_with("+OK") { Ok(line) } else { Err(io::Error::other(line)) }
    }

    /// Sends a command; gives its status line, or the error it answered.
    pub(crate) fn say(&mut self, command: &str) -> io::Result<String> {
        self.stream.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        self.stream.get_mut().flush()?;
        self.status()
    }

    /// How many messages there are.
    pub(crate) fn count(&mut self) -> usize {
        let status = self.say("STAT").unwrap();
        status.split(' ').nth(1).and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{status}"))
    }

    /// The unique ids of all messages, in their order.
    pub(crate) fn uidls(&mut self) -> Vec<String> {
        self.say("UIDL").unwrap();
        let mut ids = Vec::new();
        loop {
            let line = String::from_utf8(self.line().unwrap()).unwrap();
            match line.trim_end().split_once(' ') {
                Some((_, id)) => ids.push(id.to_owned()),
                None => return ids,
            }
        }
    }

    /// One message, counted from 1, dot-stuffing undone.
    pub(crate) fn retrieve(&mut self, number: usize) -> Vec<u8> {
        self.several(&format!("RETR {number}")).unwrap()
    }

    /// Begins to read a message, reads so many lines of it and goes away.
    pub(crate) fn break_off(mut self, number: usize, lines: usize) {
        self.say(&format!("RETR {number}")).unwrap();
        for _ in 0..lines {
            self.line().unwrap();
        }
    }

    /// What a command answers with on several lines, dot-stuffing undone; or the error it answered.
    pub(crate) fn several(&mut self, command: &str) -> io::Result<Vec<u8>> {
        self.say(command)?;
        let mut lines = Vec::new();
        loop {
            let line = self.line()?;
            if line == b".\r\n" {
                return Ok(lines);
            }
            lines.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
    }

    /// Ends the session; what was marked with DELE is gone.
    pub(crate) fn quit(mut self) {
        self.say("QUIT").unwrap();
    }
}
