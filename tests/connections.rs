//! Who may be connected to the built server, and what becomes of it when there are too many: by its own limits, and by the
//! system's limit of open files.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "support/daybook.rs"]
mod support;

#[path = "support/http.rs"]
mod http;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};
use support::{SOON, Server, Site, Smtp, wait_until};

/// How long the server is looked at while it is starved.
const LOOK: Duration = Duration::from_secs(2);
/// What of that time it may spend on a processor. A loop that retries at once would take all of it.
const CPU_MAX: Duration = Duration::from_millis(500);
/// What Linux counts in for `/proc/PID/stat`, on every machine we know (proc(5), `USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// Makes a gateway mailbox; its address.
fn create(site: &Site) -> String {
    let made = site.run(&["mailbox", "create", "--name", "Contoso", "--json"]).expect(0);
    let made: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
    made["address"].as_str().unwrap().to_owned()
}

/// A journal report with about so many octets.
fn report(octets: usize) -> Vec<u8> {
    let mut report = support::corpus("demo/report.eml");
    // Behind the last boundary: an epilogue, which belongs to the message.
    while report.len() < octets {
        report.extend_from_slice("0123456789".repeat(7).as_bytes());
        report.extend_from_slice(b"\r\n");
    }
    report
}

/// A connection, and the first line it hears.
fn connect(to: SocketAddr) -> (TcpStream, String) {
    greeted(TcpStream::connect(to).unwrap())
}

fn greeted(stream: TcpStream) -> (TcpStream, String) {
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    (stream, line)
}

/// The same from another address of this machine.
fn connect_from(from: &str, to: SocketAddr) -> (TcpStream, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        socket.connect(to).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    greeted(stream)
}

fn metric(server: &Server<'_>, name_and_labels: &str) -> u64 {
    let page = http::get(server.port("http"), "/metrics").body;
    let line = page.lines().find_map(|line| line.strip_prefix(name_and_labels)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name_and_labels} in {page}")).parse().unwrap()
}

#[test]
fn strangers_leave_room_for_favoured_networks_and_each_refusal_says_why() {
    let site = Site::new();
    site.set_smtp(
        "max_connections = 5\nreserved_connections = 2\nmax_connections_per_address = 2\n\
         max_connections_per_network = 3\nreserved_networks = [\"127.0.2.0/24\"]",
    );
    let server = site.serve();
    let smtp = server.port("smtp");
    let mut open = Vec::new();
    let mut check = |from: &str, expect: &str| {
        let (stream, line) = connect_from(from, smtp);
        assert!(line.starts_with(expect), "{from}: wanted {expect}, heard {line:?}");
        if expect == "220 " {
            open.push(stream);
        }
    };
    check("127.0.0.1", "220 ");
    check("127.0.0.1", "220 ");
    check("127.0.0.1", "421 4.7.0 "); // its address has two
    check("127.0.0.3", "220 ");
    check("127.0.0.4", "421 4.7.0 "); // its network has three
    check("127.0.1.1", "421 4.7.0 "); // only the two reserved are left
    check("127.0.2.1", "220 ");
    check("127.0.2.1", "220 ");
    check("127.0.2.1", "421 4.7.0 "); // its address has two, favoured or not
    check("127.0.2.2", "421 4.7.0 "); // there are five
    let turned_away = |limit: &str, from: &str| {
        metric(&server, &format!("daybook_smtp_turned_away_total{{limit=\"{limit}\",from=\"{from}\"}}"))
    };
    for (limit, others, favoured) in [("address", 1, 1), ("network", 1, 0), ("total", 1, 1)] {
        assert_eq!(
            (turned_away(limit, "others"), turned_away(limit, "favoured")),
            (others, favoured),
            "{limit}"
        );
        assert!(server.log().contains(&format!("\"limit\":\"{limit}\"")), "{}", server.log());
    }
    assert_eq!(metric(&server, "daybook_smtp_connections"), 5);
    assert_eq!(metric(&server, "daybook_smtp_favoured_connections"), 2);
    open.clear();
    wait_until("slots to come back", || metric(&server, "daybook_smtp_connections") == 0);
    assert_eq!(metric(&server, "daybook_smtp_favoured_connections"), 0);
    assert!(connect(smtp).1.starts_with("220 "));
}

#[test]
fn by_default_one_address_may_hold_128_connections() {
    let site = Site::new();
    let server = site.serve();
    let mut open = Vec::new();
    for number in 1..=128 {
        let (stream, line) = connect(server.port("smtp"));
        assert!(line.starts_with("220 "), "{number}: {line:?}");
        open.push(stream);
    }
    assert!(connect(server.port("smtp")).1.starts_with("421 4.7.0 "));
    drop(open.pop());
    wait_until("a slot to come back", || connect(server.port("smtp")).1.starts_with("220 "));
}

#[test]
fn a_peer_that_takes_no_replies_is_cut_off() {
    let site = Site::new();
    site.set_smtp("reply_seconds = 1");
    let address = create(&site);
    let server = site.serve();
    let (mut stream, _) = connect(server.port("smtp"));
    stream.set_write_timeout(Some(SOON)).unwrap();
    write!(stream, "HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<{address}>\r\n").unwrap();
    // Each is answered, until neither side takes any more; then the server ends it, and nothing can be written.
    let chunks = "BDAT 0\r\n".repeat(1_000);
    let error = loop {
        if let Err(error) = stream.write_all(chunks.as_bytes()) {
            break error;
        }
    };
    assert!(
        matches!(error.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe),
        "{error}"
    );
    wait_until("the metric", || metric(&server, "daybook_smtp_sessions_total{result=\"stuck\"}") == 1);
}

#[test]
fn strangers_that_fill_what_may_be_in_flight_keep_no_favoured_peer_waiting() {
    let site = Site::new();
    site.set_smtp(
        "max_message_bytes = 65536\nmax_in_flight_bytes = 131072\nin_flight_seconds = 1\nreserved_networks = [\"127.0.2.0/24\"]",
    );
    let address = create(&site);
    let server = site.serve();
    // Sends a chunk of one octet; gives the reply.
    let send = |from: &str, last: &str| {
        let (mut stream, _) = connect_from(from, server.port("smtp"));
        write!(stream, "HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<{address}>\r\nBDAT 1{last}\r\nx").unwrap();
        let replies = BufReader::new(stream.try_clone().unwrap()).lines().take(4);
        (stream, replies.last().unwrap().unwrap())
    };
    let (_holds, reply) = send("127.0.0.1", "");
    assert_eq!(reply, "250 2.0.0 1 octets received");
    assert_eq!(send("127.0.0.2", " LAST").1, "451 4.3.2 Too busy now");
    assert!(send("127.0.2.1", " LAST").1.starts_with("250 2.0.0 Ok "));
    assert!(send("127.0.2.2", " LAST").1.starts_with("250 2.0.0 Ok "));
}

#[test]
fn connections_never_take_the_descriptors_that_the_store_needs() {
    const DESCRIPTORS: usize = 160;
    let site = Site::new();
    site.set_smtp("reserved_connections = 0");
    let address = create(&site);
    let mut limited = Command::new("sh");
    let serve = site.command(&["serve"]);
    limited.args(["-c", &format!("ulimit -n {DESCRIPTORS}; exec \"$@\""), "sh"]);
    limited.arg(serve.get_program()).args(serve.get_args()).current_dir(site.path("."));
    let server = site.serve_by(limited).wait_until_it_serves();
    server.wait_for("service.descriptor_limit");
    assert!(server.log().contains("\"max_connections\":1024"), "{}", server.log());

    let mut sender = Smtp::connect(server.port("smtp"));
    let mut held = Vec::new();
    // SMTP last: whatever the others hold, it has its share.
    let services = [("imap", "* OK ", "* BYE "), ("pop3", "+OK", "-ERR "), ("smtp", "220 ", "421 ")];
    for (service, welcome, farewell) in services {
        let before = held.len();
        loop {
            let (stream, line) = connect(server.port(service));
            if !line.starts_with(welcome) {
                assert!(line.starts_with(farewell), "{service}: {line:?}");
                break;
            }
            held.push(stream);
            assert!(held.len() < DESCRIPTORS, "{service} takes connections without end");
        }
        let (taken, due) = (held.len() - before, if service == "smtp" { 3 } else { 10 });
        assert!(taken + 1 >= DESCRIPTORS / due, "{service} takes only {taken} connections");
    }
    // Too large for memory and for the log: it needs a spool and a file of its own.
    let reply = sender.send(&address, &report(3_000_000));
    assert!(reply.starts_with("250 2.0.0 "), "with {} connections: {reply}", held.len());
    let log = server.log();
    assert!(held.len() > DESCRIPTORS / 2, "only {} connections", held.len());
    assert!(!log.contains("accept_failed") && !log.contains("os error 24"), "{log}");
}

/// What of the processors the process has had.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Behind the name, which may hold blanks: state, then 10 others, then utime and stime.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}

#[test]
fn out_of_descriptors_it_neither_spins_nor_floods_the_log_and_takes_mail_again_afterwards() {
    let site = Site::new();
    let address = create(&site);
    let server = site.serve();
    let mut open: Vec<_> = (0..16).map(|_| connect(server.port("smtp")).0).collect();
    // As if something else had used them up: nothing that is not open yet can be opened.
    let is_open =
        |number: &u64| std::fs::symlink_metadata(format!("/proc/{}/fd/{number}", server.pid())).is_ok();
    let first_free = (0..).find(|number| !is_open(number)).unwrap();
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap());
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(first_free), maximum }).unwrap();
    // The system takes these for it; it cannot.
    let waiting: Vec<_> = (0..64).map(|_| TcpStream::connect(server.port("smtp")).unwrap()).collect();
    server.wait_for("smtp.accept_failed");

    let (began, before) = (Instant::now(), cpu(server.pid()));
    wait_until("the end of the look", || began.elapsed() >= LOOK);
    let used = cpu(server.pid()) - before;
    assert!(used < CPU_MAX, "{used:?} of {:?} on a processor", began.elapsed());
    drop((open.drain(..), waiting));
    let reply = server.send(&address, &report(0));
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    let complaints = server.log().matches("\"event\":\"smtp.accept_failed\"").count();
    let minutes = began.elapsed().as_secs() / 60;
    assert!(complaints as u64 <= 1 + minutes, "{complaints} lines in {:?}", began.elapsed());
}
