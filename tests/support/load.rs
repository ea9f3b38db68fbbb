//! Journal reports that can be told apart, and senders that go on while the server comes and goes.
//!
//! A Message-ID counts as acknowledged only once the whole final reply was read and it is a 250. What was not acknowledged is
//! sent again, the same octets, until it is: exactly what Exchange Online does. Every report that was ever begun is
//! remembered with its hash, so that whatever the store holds afterwards can be judged.

#[path = "dice.rs"]
mod dice;

use super::support::SOON;
use aws_lc_rs::digest::{Context, SHA256, digest};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) use dice::Dice;

/// Pause of a sender that found nobody at the address it was given.
const RECONNECT_PAUSE: Duration = Duration::from_millis(10);

/// SHA-256.
pub(crate) type Sha256 = [u8; 32];

pub(crate) fn sha256(octets: &[u8]) -> Sha256 {
    digest(&SHA256, octets).as_ref().try_into().unwrap()
}

pub(crate) fn finish(context: Context) -> Sha256 {
    context.finish().as_ref().try_into().unwrap()
}

/// A journal report that no other equals.
#[derive(Clone)]
pub(crate) struct Report {
    /// The outermost Message-ID, with its brackets.
    pub(crate) id: String,
    pub(crate) octets: Vec<u8>,
}

/// The Message-ID of a report, its head up to the text of the original, and what closes it. Its header is such that
/// Python's email package, which getmail writes with, leaves it as it is.
pub(crate) fn frame_of_report(name: &str) -> (String, Vec<u8>, Vec<u8>) {
    let id = format!("<journal-{name}@load.example>");
    let mut head = Vec::new();
    write!(
        head,
        "From: \"Microsoft Outlook\"\r\n\t<MicrosoftExchange329e71ec88ae4615bbc36ab6ce41109e@contoso.example>\r\n\
         To: <archive@gw.example>\r\nSubject: load\r\nMessage-ID: {id}\r\n\
         Date: Mon, 2 Nov 2026 09:00:01 +0000\r\nMIME-Version: 1.0\r\nX-MS-Journal-Report: \r\n\
         Content-Type: multipart/mixed; boundary=\"_{name}_\"\r\n\r\n\
         --_{name}_\r\nContent-Type: text/plain; charset=\"us-ascii\"\r\n\r\n\
         Sender: alice@contoso.example\r\nSubject: load\r\nMessage-Id: <{name}@contoso.example>\r\n\
         To: bob@contoso.example\r\nBcc: carol@contoso.example\r\n\r\n\
         --_{name}_\r\nContent-Type: message/rfc822\r\n\r\n\
         From: Alice Archer <alice@contoso.example>\r\nTo: Bob Baker <bob@contoso.example>\r\n\
         Subject: load\r\nMessage-ID: <{name}@contoso.example>\r\nDate: Mon, 2 Nov 2026 09:00:00 +0000\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=\"utf-8\"\r\n\
         Content-Transfer-Encoding: 8bit\r\n\r\n"
    )
    .unwrap();
    (id, head, format!("\r\n--_{name}_--\r\n").into_bytes())
}

/// Lines as mail has them and as clients trip over them: leading dots, a lone dot, 8-bit text, empty lines, trailing
/// blanks, `From `, and the longest that RFC 5322 allows.
pub(crate) fn awkward_text(dice: &mut Dice, octets_min: usize, into: &mut Vec<u8>) {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let end = into.len() + octets_min;
    while into.len() < end {
        let kind = dice.below(24);
        let long = match kind {
            0..8 => 76,
            8 => 998,
            _ => dice.below(72) as usize,
        };
        match kind {
            9 => into.extend_from_slice(b"."),
            10 => into.extend_from_slice(b".."),
            11 => into.extend_from_slice(b"From "),
            12 => into.extend_from_slice(b">From the \xc3\xbcber-list \xe2\x82\xac "),
            13 => into.extend_from_slice("Grüße, 你好, ".as_bytes()),
            14 => into.extend_from_slice(b"latin-1 \xfc\xe4\xff\x80 "),
            15 => into.extend_from_slice(b".\r\n.\r\n\r\n\r\n"),
            _ => {}
        }
        let mut left = long;
        while left > 0 {
            let mut bits = dice.next();
            for _ in 0..left.min(10) {
                into.push(LETTERS[(bits & 63) as usize]);
                bits >>= 6;
            }
            left -= left.min(10);
        }
        into.extend_from_slice(if kind == 16 { b" \t \r\n" } else { b"\r\n" });
    }
}

/// A report of about `octets`; the same name and size give the same report.
pub(crate) fn report(name: &str, octets: usize) -> Report {
    let (id, mut all, tail) = frame_of_report(name);
    let seed = sha256(name.as_bytes());
    let mut dice = Dice::new(u64::from_le_bytes(seed[..8].try_into().unwrap()));
    awkward_text(&mut dice, octets.saturating_sub(all.len() + tail.len()), &mut all);
    all.extend_from_slice(&tail);
    Report { id, octets: all }
}

/// `octets` as DATA wants them, with the final dot.
pub(crate) fn dot_stuffed(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len() + octets.len() / 64 + 8);
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    assert!(out.ends_with(b"\r\n"), "a message ends with a line end");
    out.extend_from_slice(b".\r\n");
    out
}

/// A reply: its code and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn is_ok(&self) -> bool {
        self.code / 100 == 2
    }

    pub(crate) fn is_deferral(&self) -> bool {
        self.code / 100 == 4
    }
}

/// A connection to the SMTP port, in clear.
pub(crate) struct Smtp {
    stream: BufReader<TcpStream>,
}

impl Smtp {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Smtp> {
        let tcp = TcpStream::connect_timeout(&address, SOON)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(SOON))?;
        tcp.set_write_timeout(Some(SOON))?;
        let mut smtp = Smtp { stream: BufReader::new(tcp) };
        smtp.wanted(220)?;
        smtp.send(b"EHLO load.example\r\n")?;
        smtp.wanted(250)?;
        Ok(smtp)
    }

    pub(crate) fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(octets)
    }

    pub(crate) fn reply(&mut self) -> io::Result<Reply> {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 || !line.ends_with("\r\n") {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let code = line.get(..3).and_then(|code| code.parse().ok());
            let code = code.ok_or_else(|| io::Error::other(format!("no reply: {line:?}")))?;
            text.push_str(line.get(4..).unwrap_or_default());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Reply { code, text });
            }
        }
    }

    fn wanted(&mut self, code: u16) -> io::Result<()> {
        let reply = self.reply()?;
        if reply.code == code { Ok(()) } else { Err(io::Error::other(format!("{reply:?}"))) }
    }

    /// Up to the go-ahead for the body; any other reply than the good one is the answer.
    pub(crate) fn begin(&mut self, to: &str, go_ahead: Option<&[u8]>) -> io::Result<Result<(), Reply>> {
        let commands =
            [b"MAIL FROM:<> BODY=8BITMIME\r\n".to_vec(), format!("RCPT TO:<{to}>\r\n").into_bytes()];
        for command in commands {
            self.send(&command)?;
            let reply = self.reply()?;
            if !reply.is_ok() {
                return Ok(Err(reply));
            }
        }
        if let Some(command) = go_ahead {
            self.send(command)?;
            let reply = self.reply()?;
            if reply.code != 354 {
                return Ok(Err(reply));
            }
        }
        Ok(Ok(()))
    }

    /// Sends one message by DATA; the reply that settled it.
    pub(crate) fn deliver(&mut self, to: &str, octets: &[u8]) -> io::Result<Reply> {
        if let Err(reply) = self.begin(to, Some(b"DATA\r\n"))? {
            if reply.code != 421 {
                self.send(b"RSET\r\n")?;
                self.reply()?;
            }
            return Ok(reply);
        }
        self.send(&dot_stuffed(octets))?;
        self.reply()
    }
}

/// Where the server is just now, and a bell for those who wait for it to come back.
#[derive(Default)]
pub(crate) struct Target {
    address: Mutex<Option<SocketAddr>>,
    moved: Condvar,
}

impl Target {
    pub(crate) fn is_at(&self, address: Option<SocketAddr>) {
        *self.address.lock().unwrap() = address;
        self.moved.notify_all();
    }
}

/// What the senders have to say.
#[derive(Default)]
struct Record {
    /// Every report begun, by Message-ID.
    begun: BTreeMap<String, Sha256>,
    acknowledged: BTreeSet<String>,
    /// Replies that a sender would take for final.
    refused: Vec<String>,
    deferred: u64,
    broken: u64,
}

struct Shared {
    target: Target,
    to: String,
    name: String,
    next: AtomicU64,
    stop: AtomicBool,
    record: Mutex<Record>,
    progress: Condvar,
    octets_of: fn(u64) -> usize,
}

/// Some senders at work.
pub(crate) struct Loader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// How it went.
pub(crate) struct Outcome {
    pub(crate) begun: BTreeMap<String, Sha256>,
    pub(crate) acknowledged: BTreeSet<String>,
    pub(crate) refused: Vec<String>,
    pub(crate) deferred: u64,
    pub(crate) broken: u64,
}

impl Loader {
    /// Starts so many senders of reports to `to`; the n-th has `octets_of(n)` octets.
    pub(crate) fn start(name: &str, to: &str, senders: usize, octets_of: fn(u64) -> usize) -> Loader {
        let shared = Arc::new(Shared {
            target: Target::default(),
            to: to.to_owned(),
            name: name.to_owned(),
            next: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            record: Mutex::default(),
            progress: Condvar::new(),
            octets_of,
        });
        let work = |_| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.send_until_stopped())
        };
        let threads = (0..senders).map(work).collect();
        Loader { shared, threads }
    }

    /// Says where the server is, or that it is gone.
    pub(crate) fn target(&self, address: Option<SocketAddr>) {
        self.shared.target.is_at(address);
    }

    pub(crate) fn acknowledged(&self) -> BTreeSet<String> {
        self.shared.record.lock().unwrap().acknowledged.clone()
    }

    pub(crate) fn acknowledged_count(&self) -> usize {
        self.shared.record.lock().unwrap().acknowledged.len()
    }

    pub(crate) fn begun(&self) -> BTreeMap<String, Sha256> {
        self.shared.record.lock().unwrap().begun.clone()
    }

    /// Waits until `count` reports are acknowledged in all, however slowly, as long as it goes on.
    pub(crate) fn wait_for(&self, count: usize) {
        loop {
            let next = count.min(self.acknowledged_count() + 1);
            self.try_to_wait_for(next, SOON).unwrap();
            if next == count {
                return;
            }
        }
    }

    /// As [`Loader::wait_for`], where it may not come to that within `most`; what happened instead.
    pub(crate) fn try_to_wait_for(&self, count: usize, most: Duration) -> Result<(), String> {
        let record = self.shared.record.lock().unwrap();
        let waited = self.shared.progress.wait_timeout_while(record, most, |record| {
            record.acknowledged.len() < count && record.refused.is_empty()
        });
        let (record, timeout) = waited.unwrap();
        if !record.refused.is_empty() {
            return Err(format!("refused: {:?}", record.refused));
        }
        match timeout.timed_out() {
            true => Err(format!("{} of {count} acknowledged in {most:?}", record.acknowledged.len())),
            false => Ok(()),
        }
    }

    /// Lets each sender end the message it is at, and tells how it went.
    pub(crate) fn stop(self) -> Outcome {
        self.shared.stop.store(true, Relaxed);
        self.shared.target.moved.notify_all();
        for thread in self.threads {
            thread.join().unwrap();
        }
        let record = std::mem::take(&mut *self.shared.record.lock().unwrap());
        let Record { begun, acknowledged, refused, deferred, broken } = record;
        Outcome { begun, acknowledged, refused, deferred, broken }
    }
}

impl Shared {
    fn send_until_stopped(&self) {
        let mut connection = None;
        while !self.stop.load(Relaxed) {
            let n = self.next.fetch_add(1, Relaxed);
            let report = report(&format!("{}-{n}", self.name), (self.octets_of)(n));
            self.record.lock().unwrap().begun.insert(report.id.clone(), sha256(&report.octets));
            while !self.try_to_send(&report, &mut connection) && !self.stop.load(Relaxed) {}
        }
    }

    /// True when the report is settled.
    fn try_to_send(&self, report: &Report, connection: &mut Option<Smtp>) -> bool {
        let smtp = match connection.take() {
            Some(smtp) => Ok(smtp),
            None => self.connect(),
        };
        let sent =
            smtp.and_then(|mut smtp| smtp.deliver(&self.to, &report.octets).map(|reply| (smtp, reply)));
        let mut record = self.record.lock().unwrap();
        match sent {
            Ok((smtp, reply)) => {
                if reply.code != 421 {
                    *connection = Some(smtp);
                }
                if reply.code == 250 {
                    assert!(record.acknowledged.insert(report.id.clone()), "{} settled twice", report.id);
                } else if reply.is_deferral() {
                    record.deferred += 1;
                    return false;
                } else {
                    record.refused.push(format!("{}: {reply:?}", report.id));
                }
                self.progress.notify_all();
                true
            }
            Err(_) => {
                record.broken += 1;
                false
            }
        }
    }

    /// Connects to where the server is, waiting for it while it is nowhere.
    fn connect(&self) -> io::Result<Smtp> {
        let deadline = Instant::now() + SOON;
        let mut address = self.target.address.lock().unwrap();
        loop {
            if self.stop.load(Relaxed) || Instant::now() > deadline {
                return Err(io::ErrorKind::NotConnected.into());
            }
            if let Some(at) = *address {
                drop(address);
                if let Ok(smtp) = Smtp::open(at) {
                    return Ok(smtp);
                }
                address = self.target.address.lock().unwrap();
            }
            // Nobody there: until the bell rings, or shortly, should the server only have been busy.
            address = self.target.moved.wait_timeout(address, RECONNECT_PAUSE).unwrap().0;
        }
    }
}
