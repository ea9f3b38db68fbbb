//! A small HTTP/1.1 server on loopback whose answers are scripted, flaws included: what a service far away may say.
//!
//! Take it in with `#[path = "support/http_double.rs"] mod http_double;`.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

/// A request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// As it stands in the request line, with the query.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Without the query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// A parameter of the query, decoded.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        parameter(self.target.split_once('?')?.1, name)
    }

    /// A field of a form, decoded.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        parameter(&self.body, name)
    }

    /// The token after `Bearer `.
    pub(crate) fn bearer(&self) -> &str {
        self.header("authorization").strip_prefix("Bearer ").unwrap_or_default()
    }
}

fn parameter(text: &str, name: &str) -> Option<String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    let mut pairs = pairs.map(|(key, value)| (decoded(key), decoded(value)));
    pairs.find(|(key, _)| key == name).map(|(_, value)| value)
}

fn decoded(text: &str) -> String {
    let mut octets = Vec::new();
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            octet => octet,
        });
    }
    String::from_utf8(octets).unwrap()
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Flaw {
    #[default]
    None,
    /// Nothing: it comes in chunks, whole.
    Chunked,
    /// Hangs up after so many octets of the body, with a `Content-Length` of all.
    Cut(usize),
    /// The same in chunks, without the last one.
    CutChunks(usize),
    /// Hangs up without a word.
    Mute,
    /// Says nothing for as long as the peer stays.
    Never,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) flaw: Flaw,
}

impl Reply {
    pub(crate) fn json(status: u16, body: impl Into<String>) -> Reply {
        let headers = vec![("Content-Type".to_owned(), "application/json; charset=utf-8".to_owned())];
        Reply { status, headers, body: body.into().into_bytes(), flaw: Flaw::None }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn flawed(mut self, flaw: Flaw) -> Reply {
        self.flaw = flaw;
        self
    }
}

/// Answers every request by `handler` until the test ends.
pub(crate) fn start(handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let handler = Arc::new(handler);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let handler = Arc::clone(&handler);
            std::thread::spawn(move || serve(stream.unwrap(), &*handler));
        }
    });
    address
}

/// Answers the requests that come over one connection, which is clear or TLS.
pub(crate) fn serve(stream: impl Read + Write, handler: &(impl Fn(&Asked) -> Reply + ?Sized)) {
    let mut stream = BufReader::new(stream);
    while let Some(asked) = read(&mut stream) {
        let reply = handler(&asked);
        if !write(&mut stream, &reply) {
            return;
        }
    }
}

fn read(stream: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    let mut next = |stream: &mut dyn BufRead| {
        line.clear();
        let octets = stream.read_line(&mut line).unwrap_or(0);
        (octets > 0).then(|| line.trim_end().to_owned())
    };
    let first = next(stream)?;
    let mut words = first.split(' ').map(str::to_owned);
    let mut asked = Asked { method: words.next()?, target: words.next()?, ..Asked::default() };
    while let Some(line) = next(stream)?.split_once(':') {
        asked.headers.insert(line.0.to_lowercase(), line.1.trim().to_owned());
    }
    let octets = asked.header("content-length").parse().unwrap_or(0);
    let mut body = vec![0; octets];
    stream.read_exact(&mut body).ok()?;
    asked.body = String::from_utf8(body).unwrap();
    Some(asked)
}

/// Says whether the connection is still good.
fn write<S: Read + Write>(stream: &mut BufReader<S>, reply: &Reply) -> bool {
    match reply.flaw {
        Flaw::Mute => return false,
        Flaw::Never => {
            stream.read_exact(&mut [0]).ok();
            return false;
        }
        _ => {}
    }
    let chunked = matches!(reply.flaw, Flaw::Chunked | Flaw::CutChunks(_));
    let sent = match reply.flaw {
        Flaw::Cut(octets) | Flaw::CutChunks(octets) => &reply.body[..octets],
        _ => &reply.body,
    };
    let mut octets = format!("HTTP/1.1 {} Said\r\n", reply.status).into_bytes();
    for (name, value) in &reply.headers {
        octets.extend(format!("{name}: {value}\r\n").bytes());
    }
    if chunked {
        octets.extend(b"Transfer-Encoding: chunked\r\n\r\n");
        for chunk in sent.chunks(4_096) {
            octets.extend(format!("{:x}\r\n", chunk.len()).bytes());
            octets.extend(chunk);
            octets.extend(b"\r\n");
        }
        if reply.flaw == Flaw::Chunked {
            octets.extend(b"0\r\n\r\n");
        }
    } else {
        octets.extend(format!("Content-Length: {}\r\n\r\n", reply.body.len()).bytes());
        octets.extend(sent);
    }
    let stream = stream.get_mut();
    let whole = stream.write_all(&octets).and_then(|()| stream.flush()).is_ok();
    whole && matches!(reply.flaw, Flaw::None | Flaw::Chunked)
}
