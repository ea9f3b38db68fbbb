//! Postfix with its own configuration, queue and ports, beside whatever Postfix the system has.

use super::mta::{
    MESSAGE_OCTETS_MAX, Sender, end, make_dir, open_dir, quiet_port, run, spawn, until_it_answers,
};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command};
use tempfile::TempDir;

pub(crate) struct Postfix {
    dir: TempDir,
    port: u16,
    master: Child,
}

/// Services besides smtpd, as the Debian package has them, none in a chroot. But the queue manager is woken every second and not every
/// 300: on a busy machine the word that a message is there can be lost, and it would lie in `incoming` until then.
const SERVICES: &str = "\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
";

impl Postfix {
    /// Started, sending everything to this port of this machine, with TLS if it is offered. Tries again every second.
    pub(crate) fn start(to: u16) -> Postfix {
        let dir = open_dir("postfix");
        let port = quiet_port();
        let at = dir.path().display();
        let queue = make_dir(dir.path(), "queue", "root");
        let data = make_dir(dir.path(), "data", "postfix");
        let configuration = dir.path().join("etc");
        fs::create_dir(&configuration).unwrap();
        let main = format!(
            "compatibility_level = 3.7\nqueue_directory = {queue}\ndata_directory = {data}\n\
             maillog_file = {at}/log\nmaillog_file_prefixes = {at}\n\
             inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmyhostname = postfix.example\nmynetworks = 127.0.0.0/8\n\
             mydestination =\nalias_maps =\nalias_database =\nlocal_transport = error:nobody lives here\n\
             relayhost = [127.0.0.1]:{to}\nsmtpd_relay_restrictions = permit_mynetworks, reject\n\
             smtp_tls_security_level = may\nlocal_header_rewrite_clients =\nsmtp_line_length_limit = 0\n\
             message_size_limit = {MESSAGE_OCTETS_MAX}\nmailbox_size_limit = 0\n\
             queue_run_delay = 1s\nminimal_backoff_time = 1s\nmaximal_backoff_time = 2s\ntransport_retry_time = 1s\n",
            queue = queue.display(),
            data = data.display(),
        );
        fs::write(configuration.join("main.cf"), main).unwrap();
        let master = format!("127.0.0.1:{port} inet n - n - - smtpd\n{SERVICES}");
        fs::write(configuration.join("master.cf"), master).unwrap();
        let start = &mut Command::new("postfix");
        start.arg("-c").arg(&configuration).arg("start-fg");
        let master = spawn(start, &dir.path().join("output"));
        let postfix = Postfix { dir, port, master };
        until_it_answers(port);
        postfix
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.dir.path().join("etc"));
        command
    }
}

impl Sender for Postfix {
    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    fn queued(&self) -> usize {
        // One JSON object a line.
        run(self.command("postqueue").arg("-j")).lines().count()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // The master has a process group of its own, which only it and its commands know.
        self.command("postfix").arg("abort").output().ok();
        end(&mut self.master);
        if std::thread::panicking() {
            let output = fs::read_to_string(self.dir.path().join("output")).unwrap_or_default();
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("postfix: {output}\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}
