//! Exim from its unpacked Debian package: the package cannot be installed beside Postfix.
//!
//! `DAYBOOK_EXIM` names the program. It insists on a user that only its package makes, so it runs in a mount namespace where
//! `/etc/passwd` and `/etc/group` have that user; the system's own stay as they are.

use super::mta::{MESSAGE_OCTETS_MAX, Sender, end, open_dir, quiet_port, run, spawn, until_it_answers};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command};
use tempfile::TempDir;

/// The user the Debian package is built for, and a number for it that nobody has.
const USER: &str = "Debian-exim";
const ID: u32 = 64_999;
/// Processes that send at a time.
const RUNNERS: u32 = 8;

pub(crate) struct Exim {
    dir: TempDir,
    port: u16,
    daemon: Child,
}

impl Exim {
    /// Started, sending everything to this port of this machine, with TLS if it is offered and in chunks if they are. Tries
    /// again every second.
    pub(crate) fn start(to: u16) -> Exim {
        let dir = open_dir("exim");
        let port = quiet_port();
        let program =
            std::env::var("DAYBOOK_EXIM").expect("DAYBOOK_EXIM names the program; tests/real.sh unpacks it");
        // Beside the queue, where its user can reach it wherever the package was unpacked.
        fs::copy(&program, dir.path().join("exim")).unwrap();
        fs::create_dir(dir.path().join("spool")).unwrap();
        fs::write(dir.path().join("configuration"), configuration(dir.path(), port, to)).unwrap();
        let user = format!("{USER}:x:{ID}:{ID}::/nonexistent:/usr/sbin/nologin\n");
        fs::write(dir.path().join("passwd"), fs::read_to_string("/etc/passwd").unwrap() + &user).unwrap();
        let group = format!("{USER}:x:{ID}:\n");
        fs::write(dir.path().join("group"), fs::read_to_string("/etc/group").unwrap() + &group).unwrap();
        run(Command::new("chown").arg(format!("{ID}:{ID}")).args([dir.path(), &dir.path().join("spool")]));
        let daemon = spawn(command(dir.path()).args(["-bdf", "-q1s"]), &dir.path().join("output"));
        let exim = Exim { dir, port, daemon };
        until_it_answers(port);
        exim
    }

    /// The lines of its log that tell of a delivery.
    pub(crate) fn deliveries(&self) -> Vec<String> {
        self.log().lines().filter(|line| line.contains(" => ")).map(str::to_owned).collect()
    }
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new("unshare");
    let script = "mount --bind \"$0/passwd\" /etc/passwd && mount --bind \"$0/group\" /etc/group && \
                  exec \"$0/exim\" -C \"$0/configuration\" \"$@\"";
    command.args(["--mount", "sh", "-c", script]).arg(dir).current_dir("/");
    command
}

/// One message a connection: Exim hands a TLS connection on to its next message through a process of its own, and when the server
/// is killed then, the sender is left writing to a socket of which it holds both ends, for ever. No connection is open by then.
fn configuration(dir: &Path, port: u16, to: u16) -> String {
    format!(
        "exim_path = {at}/exim\nspool_directory = {at}/spool\nlog_file_path = {at}/spool/%slog\n\
         pid_file_path = {at}/spool/exim.pid\nkeep_environment =\nprimary_hostname = exim.example\n\
         local_interfaces = 127.0.0.1\ndaemon_smtp_ports = {port}\ntls_advertise_hosts =\n\
         acl_smtp_rcpt = take\nacl_smtp_data = take\nmessage_size_limit = {MESSAGE_OCTETS_MAX}\n\
         deliver_drop_privilege = true\nqueue_run_max = {RUNNERS}\nlog_selector = +pipelining +tls_cipher +deliver_time\n\
         begin acl\ntake:\n  accept\n\
         begin routers\ngateway:\n  driver = manualroute\n  route_list = * 127.0.0.1\n  self = send\n  transport = gateway\n\
         begin transports\ngateway:\n  driver = smtp\n  port = {to}\n  allow_localhost = true\n  hosts_try_chunking = *\n\
         \x20 connection_max_messages = 1\n\
         \x20 message_linelength_limit = 10000\n\
         begin retry\n* * F,1h,1s\n",
        at = dir.display(),
    )
}

impl Sender for Exim {
    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    fn queued(&self) -> usize {
        let count = run(command(self.dir.path()).arg("-bpc"));
        count.trim().parse().unwrap_or_else(|_| panic!("exim -bpc: {count}"))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("spool/mainlog")).unwrap_or_default()
    }
}

impl Drop for Exim {
    fn drop(&mut self) {
        end(&mut self.daemon);
        if std::thread::panicking() {
            let read = |name: &str| fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(30)..].join("\n");
            eprintln!("exim: {}\n{}\n{last}", read("output"), read("spool/paniclog"));
        }
    }
}
