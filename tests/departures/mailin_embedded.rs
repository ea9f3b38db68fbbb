//! `mailin-embedded`, the server that the design card names.

use super::{OWN_ENGINE, child, still};
use mailin_embedded::response::OK;
use mailin_embedded::{Handler, Response, Server, SslConfig};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longest wait for anything that should come at once.
const SOON: Duration = Duration::from_secs(30);
/// Sessions that a server with nothing configured handles at once.
const THREADS: usize = 4;
/// A line that never ends, as far as we are ready to send it.
const LINE_OCTETS: usize = 64 * 1024 * 1024;

type Messages = Arc<Mutex<Vec<Vec<u8>>>>;

/// Keeps every message it is given.
#[derive(Clone, Default)]
struct Keeps {
    body: Vec<u8>,
    messages: Messages,
}

impl Handler for Keeps {
    fn data(&mut self, octets: &[u8]) -> io::Result<()> {
        self.body.extend_from_slice(octets);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        self.messages.lock().unwrap().push(std::mem::take(&mut self.body));
        OK
    }
}

/// Has a bug.
#[derive(Clone)]
struct Panics;

impl Handler for Panics {
    fn rcpt(&mut self, _: &str) -> Response {
        panic!("a bug in a handler");
    }
}

/// Starts a server that ends with this process.
fn serve<H: Handler + Clone + Send + 'static>(handler: H) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut server = Server::new(handler);
        server.with_ssl(SslConfig::None).unwrap().with_tcp_listener(listener);
        server.serve().ok();
    });
    address
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.set_write_timeout(Some(SOON))?;
        let mut client = Client(BufReader::new(stream));
        client.reply()?;
        Ok(client)
    }

    /// The last line of the next reply.
    fn reply(&mut self) -> io::Result<String> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line.as_bytes().get(3) == Some(&b' ') {
                return Ok(line);
            }
        }
    }

    fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(octets)
    }

    fn ask(&mut self, line: &str) -> io::Result<String> {
        self.send(line.as_bytes())?;
        self.reply()
    }
}

#[test]
fn takes_a_forged_second_message_behind_lf_dot_crlf() {
    let keeps = Keeps::default();
    let messages = keeps.messages.clone();
    let mut client = Client::connect(serve(keeps)).unwrap();
    for line in ["EHLO a.example\r\n", "MAIL FROM:<a@a.example>\r\n", "RCPT TO:<journal@gw.example>\r\n"] {
        assert!(client.ask(line).unwrap().starts_with("250"));
    }
    assert!(client.ask("DATA\r\n").unwrap().starts_with("354"));
    // One body by the rule of RFC 5321 §4.1.1.4: the only CRLF.CRLF is the last. A relay before us would have passed it on.
    let body = "Subject: one\r\n\r\nHello.\n.\r\n\
                MAIL FROM:<ceo@b.example>\r\nRCPT TO:<journal@gw.example>\r\nDATA\r\nSubject: forged\r\n\r\nPay.";
    assert!(!body.contains("\r\n.\r\n"));
    client.send(body.as_bytes()).unwrap();
    client.send(b"\r\n.\r\n").unwrap();
    client.reply().unwrap();
    // With the fault, MAIL, RCPT, DATA and the second body are answered; without it, only QUIT.
    let last = client.ask("QUIT\r\n").unwrap();
    let replies = std::iter::successors(Some(last), |_| client.reply().ok()).count();
    let messages = messages.lock().unwrap();
    let forged = messages.get(1).is_some_and(|message| message.starts_with(b"Subject: forged"));
    still(
        messages.len() == 2 && forged && replies == 5,
        OWN_ENGINE,
        "LF . CRLF ends a body, and what follows is obeyed",
    );
}

/// The most memory this process ever held, in octets.
fn peak_octets() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
fn keeps_a_line_without_end_in_memory() {
    let test = "mailin_embedded::keeps_a_line_without_end_in_memory";
    let ended = child::run(test, || {
        let mut client = Client::connect(serve(Keeps::default())).unwrap();
        let before = peak_octets();
        let piece = vec![b'x'; 64 * 1024];
        for _ in 0..LINE_OCTETS / piece.len() {
            if client.send(&piece).is_err() {
                return;
            }
        }
        // Its answer shows that the line was read to its end.
        let taken = client.ask("\r\n").is_ok_and(|reply| reply.starts_with("500"));
        if taken && peak_octets() - before >= LINE_OCTETS {
            std::process::exit(ALL_IN_MEMORY);
        }
    });
    let shown = ended.output.status.code() == Some(ALL_IN_MEMORY);
    assert!(shown || ended.survived(), "the child failed: {}", ended.complaint());
    still(shown, OWN_ENGINE, "a line without LF is kept in memory, however long");
}

/// Exit code of a child that saw the whole line in memory.
const ALL_IN_MEMORY: i32 = 64;

#[test]
fn aborts_the_process_after_as_many_panics_as_it_has_threads() {
    let test = "mailin_embedded::aborts_the_process_after_as_many_panics_as_it_has_threads";
    let ended = child::run(test, || {
        let address = serve(Panics);
        for _ in 0..THREADS {
            let mut client = Client::connect(address).unwrap();
            for line in ["EHLO a.example\r\n", "MAIL FROM:<a@a.example>\r\n"] {
                assert!(client.ask(line).unwrap().starts_with("250"));
            }
            // Not even a 421: the connection is gone.
            if client.ask("RCPT TO:<journal@gw.example>\r\n").is_ok() {
                return;
            }
        }
        // The threads that had the panics take a moment to end; then whoever comes next ends the server.
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            if Client::connect(address).is_ok() {
                return;
            }
        }
    });
    use std::os::unix::process::ExitStatusExt;
    let aborted = ended.output.status.signal() == Some(rustix::process::Signal::ABORT.as_raw());
    assert!(aborted || ended.survived(), "the child failed: {}", ended.complaint());
    still(aborted, OWN_ENGINE, "a panic in a handler costs a thread, and the last one the process");
}
