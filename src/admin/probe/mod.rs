//! The small clients with which Daybook goes through its own doors: the demonstration and `doctor` use them.
//!
//! They trust one certificate, known by its octets, and neither names nor dates: whether the certificate is a good one is
//! another question than whether it is ours. No message and no password goes to a listener that shows another.
//!
//! Blocking, with a deadline on every wait.

mod imap;
mod pop3;
mod smtp;
mod tls;

pub(crate) use imap::Imap;
pub(crate) use pop3::Pop3;
pub(crate) use smtp::Smtp;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// With the first octet.
    Implicit,
    /// With a command.
    InClear,
}

/// How long a connection may take to be there.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// How long an answer may take. A message is answered when it is durable, and a busy disk may keep it waiting.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// How long a greeting may take.
const GREETING_WAIT: Duration = Duration::from_secs(10);
/// Longest line taken, in octets; our own messages have short ones.
const LINE_OCTETS_MAX: u64 = 1024 * 1024;

/// Where to connect to for a listener bound to `address`, the first first: one bound to all addresses is reached on loopback.
/// One bound to all of IPv6 serves IPv4 too, and a machine may have no IPv6 on its loopback.
pub(crate) fn reachable(address: SocketAddr) -> Vec<SocketAddr> {
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    let hosts = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![v4],
        IpAddr::V6(ip) if ip.is_unspecified() => vec![v6, v4],
        given => vec![given],
    };
    hosts.into_iter().map(|host| SocketAddr::new(host, address.port())).collect()
}

/// Tries each of [`reachable`]; the last error, when none answers.
fn first_of<T>(address: SocketAddr, mut begin: impl FnMut(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let mut outcome = Err(io::ErrorKind::AddrNotAvailable.into());
    for address in reachable(address) {
        outcome = begin(address);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn connect(address: SocketAddr, wait: Duration) -> io::Result<TcpStream> {
    let socket = first_of(address, |address| TcpStream::connect_timeout(&address, CONNECT_WAIT))?;
    socket.set_read_timeout(Some(wait))?;
    socket.set_write_timeout(Some(wait))?;
    Ok(socket)
}

/// What a listener says first, in clear: one line.
///
/// # Errors
/// Nobody is there, or nothing was said in time.
pub(crate) fn greeting(address: SocketAddr) -> io::Result<String> {
    line_of(&mut BufReader::new(connect(address, GREETING_WAIT)?))
}

/// What a listener says first over TLS, whatever certificate it shows.
///
/// # Errors
/// Nobody is there, it does not speak TLS, or nothing was said in time.
pub(crate) fn greeting_over_tls(address: SocketAddr, host: &str) -> io::Result<String> {
    let socket = connect(address, GREETING_WAIT)?;
    line_of(&mut BufReader::new(tls::begin(socket, host, None)?))
}

/// The first line a listener answers to a request for `path`.
///
/// # Errors
/// Nobody is there, or nothing was said in time.
pub(crate) fn answer_to_http(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut socket = connect(address, GREETING_WAIT)?;
    write!(socket, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    line_of(&mut BufReader::new(socket))
}

fn line_of(reader: &mut impl BufRead) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&line(reader)?).trim_end().to_owned())
}

/// One line with its end.
fn line(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    Read::take(reader, LINE_OCTETS_MAX).read_until(b'\n', &mut line)?;
    if line.ends_with(b"\n") { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_listener_on_all_of_ipv6_is_also_looked_for_at_ipv4() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.write_all(b"220 here\r\n").unwrap();
        });
        let all = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
        assert_eq!(greeting(all).unwrap(), "220 here");
        server.join().unwrap();
        let given: SocketAddr = "192.0.2.1:25".parse().unwrap();
        assert_eq!(reachable(given), [given]);
    }
}
