//! A name server on loopback with a zone of its own (RFC 1035): A, AAAA and MX over UDP.
//!
//! Take it in with `#[path = "support/nameserver.rs"] mod nameserver;`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

/// What is known of a name.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    Address(IpAddr),
    Mx(u16, String),
}

type Zone = Arc<Mutex<Vec<(String, Record)>>>;

/// Answers until the test ends.
pub(crate) struct Nameserver {
    zone: Zone,
    pub(crate) address: SocketAddr,
}

impl Nameserver {
    pub(crate) fn start() -> Nameserver {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let zone = Zone::default();
        let known = Arc::clone(&zone);
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((octets, peer)) = socket.recv_from(&mut query) {
                socket.send_to(&answer(&query[..octets], &known.lock().unwrap()), peer).ok();
            }
        });
        Nameserver { zone, address }
    }

    /// Adds a line as zone files write it, without TTL: `gw.example. A 192.0.2.1`, `example. MX 10 gw.example.`
    pub(crate) fn add(&self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let record = match words.as_slice() {
            [_, "A" | "AAAA", address] => Record::Address(address.parse().unwrap()),
            [_, "MX", preference, exchange] => {
                Record::Mx(preference.parse().unwrap(), (*exchange).to_owned())
            }
            _ => panic!("no record: {line}"),
        };
        self.zone.lock().unwrap().push((words[0].to_ascii_lowercase(), record));
    }

    /// Forgets what is known of a name.
    pub(crate) fn remove(&self, name: &str) {
        self.zone.lock().unwrap().retain(|(known, _)| known != name);
    }
}

fn answer(query: &[u8], zone: &[(String, Record)]) -> Vec<u8> {
    let mut name = String::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        name.push_str(&String::from_utf8_lossy(&query[at + 1..end]).to_ascii_lowercase());
        name.push('.');
        at = end;
    }
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let known: Vec<&Record> = zone.iter().filter(|(at, _)| *at == name).map(|(_, record)| record).collect();
    let answers: Vec<Vec<u8>> = known.iter().filter_map(|record| data(record, kind)).collect();
    let mut reply = query[..2].to_vec();
    let code = if known.is_empty() { 3 } else { 0 };
    reply.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(answers.len()).unwrap(), 0, 0, 0, 0]);
    reply.extend(&query[12..at + 5]);
    for data in answers {
        // The name of the question, its kind, class IN, 60 seconds.
        reply.extend([0xc0, 12]);
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1, 0, 0, 0, 60]);
        reply.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        reply.extend(data);
    }
    reply
}

fn data(record: &Record, kind: u16) -> Option<Vec<u8>> {
    match (record, kind) {
        (Record::Address(IpAddr::V4(address)), 1) => Some(address.octets().to_vec()),
        (Record::Address(IpAddr::V6(address)), 28) => Some(address.octets().to_vec()),
        (Record::Mx(preference, exchange), 15) => {
            let mut data = preference.to_be_bytes().to_vec();
            for label in exchange.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
                data.push(u8::try_from(label.len()).unwrap());
                data.extend(label.as_bytes());
            }
            data.push(0);
            Some(data)
        }
        _ => None,
    }
}
