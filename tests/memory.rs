//! How much memory the built server takes: for many connections, for large messages, and for what only looks like one.
//!
//! `VmHWM` in `/proc/PID/status` is the most that was ever in use; writing 5 to `clear_refs` makes it start again from now.
//! Run by `tests/real.sh`; alone: `cargo test --release --features real --test memory -- --show-output`.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures are to be read")]

#[path = "support/imap.rs"]
mod imap;
#[path = "support/daybook.rs"]
mod support;

#[path = "support/load.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod load;

#[path = "real/gateway.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod gateway;

#[path = "support/process_memory.rs"]
mod process_memory;

#[path = "real/maildrop.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod maildrop;

use aws_lc_rs::digest::{Context, SHA256};
use gateway::{Account, Gateway};
use imap::Imap;
use load::{Dice, Reply, Sha256, Smtp, awkward_text, finish};
use process_memory::{forget_peak, memory_kib};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;
use support::{HOST, SOON, Site, wait_until};

/// How a large body travels.
#[derive(Clone, Copy, Debug)]
enum By {
    Data,
    Bdat,
}

impl By {
    fn go_ahead(self) -> Option<&'static [u8]> {
        matches!(self, By::Data).then_some(b"DATA\r\n".as_slice())
    }
}

/// Sends a report of about `octets` piece by piece; its hash and its size.
fn send_large(name: &str, octets: u64, by: By, gateway: &Gateway, account: &Account) -> (Sha256, u64) {
    let mut smtp = Smtp::open(gateway.smtp()).unwrap();
    smtp.begin(&account.address, by.go_ahead()).unwrap().unwrap();
    let (_, head, tail) = load::frame_of_report(name);
    let mut context = Context::new(&SHA256);
    let mut dice = Dice::new(octets);
    let (mut sent, mut piece) = (0, head);
    let send = |smtp: &mut Smtp, piece: &[u8], is_last: bool| match by {
        By::Data => {
            // Every piece ends with a line end, so that each can be stuffed by itself.
            let stuffed = load::dot_stuffed(piece);
            let end = if is_last { stuffed.len() } else { stuffed.len() - 3 };
            smtp.send(&stuffed[..end]).unwrap();
        }
        By::Bdat => {
            smtp.send(format!("BDAT {}{}\r\n", piece.len(), if is_last { " LAST" } else { "" }).as_bytes())
                .unwrap();
            smtp.send(piece).unwrap();
            if !is_last {
                assert!(smtp.reply().unwrap().is_ok());
            }
        }
    };
    while sent < octets {
        context.update(&piece);
        sent += piece.len() as u64;
        send(&mut smtp, &piece, false);
        piece.clear();
        awkward_text(&mut dice, 1 << 20, &mut piece);
    }
    context.update(&tail);
    send(&mut smtp, &tail, true);
    let reply = smtp.reply().unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
    (finish(context), sent + tail.len() as u64)
}

#[test]
fn a_200_mb_report_takes_64_mb_of_memory_at_most_and_comes_back_identical() {
    const OCTETS: u64 = 200_000_000;
    const GROWTH_KIB_MAX: u64 = 64 * 1024;
    for by in [By::Data, By::Bdat] {
        // Each in a server that has taken nothing yet: what an earlier message left allocated would hide what this one needs.
        let gateway = Gateway::start();
        let account = gateway.create_account();
        let pid = gateway.pid();
        let idle = memory_kib(pid, "VmRSS");
        forget_peak(pid);
        let clock = Instant::now();
        let (sent, octets) = send_large("large", OCTETS, by, &gateway, &account);
        let (receive_seconds, receive_peak) = (clock.elapsed().as_secs_f64(), memory_kib(pid, "VmHWM"));
        // A login alone takes a fixed amount, since its password hash is made to: it is not the report's.
        gateway.maildrop(&account).quit().unwrap();
        let fetching = memory_kib(pid, "VmRSS");
        forget_peak(pid);
        let clock = Instant::now();
        let mut maildrop = gateway.maildrop(&account);
        let fetched = maildrop.fetch(1);
        maildrop.quit().unwrap();
        let (fetch_seconds, fetch_peak) = (clock.elapsed().as_secs_f64(), memory_kib(pid, "VmHWM"));
        println!(
            "{octets} octets by {by:?}: idle {idle} KiB, peak receiving {receive_peak} KiB (+{}) in {receive_seconds:.1} s, \
             peak fetching {fetch_peak} KiB (+{}) in {fetch_seconds:.1} s",
            receive_peak.saturating_sub(idle),
            fetch_peak.saturating_sub(fetching)
        );
        assert_eq!((fetched.sha256, fetched.octets), (sent, octets));
        assert!(receive_peak.saturating_sub(idle) <= GROWTH_KIB_MAX, "receiving took too much memory");
        assert!(fetch_peak.saturating_sub(fetching) <= GROWTH_KIB_MAX, "fetching took too much memory");
    }
}

#[test]
fn a_150_mb_message_fetched_by_imap_takes_16_mb_of_memory_at_most() {
    const OCTETS: u64 = 150_000_000;
    const GROWTH_KIB_MAX: u64 = 16 * 1024;
    let mut gateway = Gateway::start();
    let account = gateway.create_account();
    let (sent, octets) = send_large("large", OCTETS, By::Bdat, &gateway, &account);
    // What receiving left allocated would hide what fetching needs.
    gateway.terminate();
    gateway.start_again();
    let credentials = (account.login.as_str(), account.password.as_str());
    let mut client = Imap::login(gateway.imaps(), gateway.client_config(), HOST, credentials).unwrap();
    // What the login takes is the password's, not the message's.
    client.say("SELECT INBOX").ok();
    let pid = gateway.pid();
    for (how, command) in [
        ("whole", "UID FETCH 1 BODY[]".to_owned()),
        ("its text", "UID FETCH 1 BODY.PEEK[TEXT]".to_owned()),
        ("a piece of its end", format!("UID FETCH 1 BODY.PEEK[]<{}.1000000>", octets - 1_000_000)),
        ("a search in it", "UID SEARCH BODY nowhere-to-be-found".to_owned()),
    ] {
        let before = memory_kib(pid, "VmRSS");
        forget_peak(pid);
        let clock = Instant::now();
        let literals = client.say(&command).ok().literals();
        let (seconds, peak) = (clock.elapsed().as_secs_f64(), memory_kib(pid, "VmHWM"));
        let growth = peak.saturating_sub(before);
        println!("IMAP, {octets} octets, {how}: {before} KiB, peak +{growth} KiB in {seconds:.2} s");
        assert!(growth <= GROWTH_KIB_MAX, "{how} took too much memory");
        if how == "whole" {
            assert_eq!(finish(sha256_of(&literals[0])), sent);
        }
    }
    client.logout();
}

fn sha256_of(octets: &[u8]) -> Context {
    let mut context = Context::new(&SHA256);
    context.update(octets);
    context
}

/// What becomes of the session after the answer.
#[derive(Clone, Copy)]
enum Then {
    GoesOn,
    IsClosed,
}

#[test]
fn a_gigabyte_without_a_line_end_takes_no_memory_to_speak_of_is_answered_and_ends_the_session() {
    const PIECE: usize = 1 << 20;
    const PIECES: usize = 1_000;
    const GROWTH_KIB_MAX: u64 = 32 * 1024;
    let gateway = Gateway::start();
    let account = gateway.create_account();
    let pid = gateway.pid();
    let piece = vec![b'x'; PIECE];
    let idle = memory_kib(pid, "VmRSS");
    let check = |what: &str, codes: &[u16], then: Then, send: &dyn Fn(&mut Smtp) -> io::Result<Reply>| {
        forget_peak(pid);
        let clock = Instant::now();
        let mut smtp = Smtp::open(gateway.smtp()).unwrap();
        let heard = match send(&mut smtp) {
            Ok(reply) => reply.code,
            Err(error) => panic!("{what}: {error}"),
        };
        match then {
            Then::GoesOn => {
                smtp.send(b"QUIT\r\n").unwrap();
                assert_eq!(smtp.reply().unwrap().code, 221, "{what}");
            }
            Then::IsClosed => {
                let kind = smtp.reply().unwrap_err().kind();
                let ends = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
                assert!(ends.contains(&kind), "{what}: {kind}");
            }
        }
        let (seconds, peak) = (clock.elapsed().as_secs_f64(), memory_kib(pid, "VmHWM"));
        let growth = peak.saturating_sub(idle);
        println!("{what}: heard {heard}, idle {idle} KiB, peak {peak} KiB (+{growth}) in {seconds:.1} s");
        assert!(codes.contains(&heard), "{what}: {heard}");
        assert!(growth <= GROWTH_KIB_MAX, "{what} took too much memory");
    };
    let all = |smtp: &mut Smtp| (0..PIECES).try_for_each(|_| smtp.send(&piece));
    // More than twice the limit: it is not waited for.
    check("1 GB in one BDAT", &[552], Then::IsClosed, &|smtp| {
        smtp.begin(&account.address, None)?.unwrap();
        smtp.send(format!("BDAT {} LAST\r\n", PIECE * PIECES).as_bytes())?;
        drop(all(smtp));
        smtp.reply()
    });
    // Refused at the chunk that is too much; nothing more of it was announced.
    check("1 GB in BDATs of a megabyte", &[552], Then::GoesOn, &|smtp| {
        smtp.begin(&account.address, None)?.unwrap();
        let mut last = None;
        for _ in 0..PIECES {
            smtp.send(format!("BDAT {PIECE}\r\n").as_bytes())?;
            smtp.send(&piece)?;
            last = Some(smtp.reply()?);
            if last.as_ref().is_some_and(|reply| !reply.is_ok()) {
                break;
            }
        }
        last.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    });
    check("1 GB in a command", &[421, 500], Then::IsClosed, &|smtp| {
        // It hangs up long before the end.
        drop(all(smtp));
        smtp.reply()
    });
    check("1 GB in DATA", &[552], Then::IsClosed, &|smtp| {
        smtp.begin(&account.address, By::Data.go_ahead())?.unwrap();
        // More than twice the limit: it is not listened to until its end, and cannot be sent whole.
        drop(all(smtp));
        smtp.reply()
    });
    let reply =
        Smtp::open(gateway.smtp()).unwrap().deliver(&account.address, &load::report("after", 3_000).octets);
    assert_eq!(reply.unwrap().code, 250);
}

/// A TLS session over STARTTLS that has said EHLO and says nothing more.
struct Idle {
    _stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Idle {
    fn open(smtp: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Idle> {
        let mut tcp = TcpStream::connect(smtp)?;
        tcp.set_read_timeout(Some(SOON))?;
        // The EHLO behind the handshake would else wait for a delayed acknowledgement, ten thousand times.
        tcp.set_nodelay(true)?;
        hear(&tcp)?;
        tcp.write_all(b"EHLO idle.example\r\n")?;
        hear(&tcp)?;
        tcp.write_all(b"STARTTLS\r\n")?;
        hear(&tcp)?;
        let name = ServerName::try_from(HOST).map_err(io::Error::other)?;
        let mut connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        connection.set_buffer_limit(Some(4 * 1024));
        let mut stream = StreamOwned::new(connection, tcp);
        stream.write_all(b"EHLO idle.example\r\n")?;
        hear(&mut stream)?;
        Ok(Idle { _stream: stream })
    }
}

/// Reads one good reply, and no octet more.
fn hear(from: impl io::Read) -> io::Result<()> {
    // Nothing follows a reply that nobody asked for.
    let mut from = BufReader::with_capacity(1024, from);
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        if !line.starts_with('2') {
            return Err(io::Error::other(format!("heard {line:?}")));
        }
        if line.as_bytes().get(3) == Some(&b' ') {
            return Ok(());
        }
    }
}

#[test]
fn ten_thousand_idle_tls_connections_take_200_mb_at_most() {
    const WANTED: u64 = 10_000;
    const OWN: u64 = 100;
    const THREADS: u64 = 8;
    const KIB_MAX: u64 = 200 * 1000 * 1000 / 1024;
    // The server has a limit of its own, of which it gives two thirds to connections.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let most = maximum.map_or(WANTED, |limit| WANTED.min(limit.saturating_sub(1_000) * 2 / 3 - OWN));
    if most < WANTED {
        eprintln!("the limit of open files is {maximum:?}: {most} connections only");
    }
    let site = Site::new();
    site.set_smtp(
        "max_connections = 20000\nmax_connections_per_address = 20000\nmax_connections_per_network = 20000\n\
         reserved_connections = 0\ncommand_seconds = 3600",
    );
    let server = site.serve();
    let (pid, smtp, config) = (server.pid(), server.port("smtp"), site.client_config());
    // What TLS needs once is there before.
    drop(Idle::open(smtp, &config).unwrap());
    let before = memory_kib(pid, "VmRSS");
    forget_peak(pid);
    let clock = Instant::now();
    let open: Vec<Idle> = std::thread::scope(|scope| {
        let open =
            |_| scope.spawn(|| (0..most / THREADS).map(|_| Idle::open(smtp, &config).unwrap()).collect());
        let threads: Vec<_> = (0..THREADS).map(open).collect();
        threads.into_iter().flat_map(|thread| -> Vec<Idle> { thread.join().unwrap() }).collect()
    });
    let seconds = clock.elapsed().as_secs_f64();
    let (after, peak) = (memory_kib(pid, "VmRSS"), memory_kib(pid, "VmHWM"));
    let grown = after.saturating_sub(before);
    println!(
        "{} idle TLS connections in {seconds:.1} s: {before} KiB before, {after} KiB with them (+{grown}, {:.2} KiB each), \
         peak {peak} KiB",
        open.len(),
        grown as f64 / open.len() as f64
    );
    // Mail comes through all the same.
    let mut late = support::Smtp::connect(smtp);
    assert!(late.say("RCPT TO:<nobody@gateway.example>").starts_with("503 "));
    assert!(after * WANTED / open.len() as u64 <= KIB_MAX, "{after} KiB");
    drop(open);
    wait_until("the connections to end", || {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        descriptors.count() < 200
    });
    println!("{} KiB when they have gone", memory_kib(pid, "VmRSS"));
}
