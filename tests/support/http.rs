//! The smallest HTTP client, and metrics read back from the text they are shown in.
//!
//! Take it in with `#[path = "support/http.rs"] mod http;` beside `support/daybook.rs`.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take.
const SOON: Duration = Duration::from_secs(60);

/// An answer, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Sends octets, reads until the server hangs up.
pub(crate) fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    // The server may answer, and hang up, before it has been told everything.
    stream.write_all(request).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    String::from_utf8(answer).unwrap()
}

/// Asks for a page; `accept` may be empty.
pub(crate) fn ask(address: SocketAddr, method: &str, path: &str, accept: &str) -> Answer {
    let accept = if accept.is_empty() { String::new() } else { format!("Accept: {accept}\r\n") };
    let said = exchange(address, format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{accept}\r\n").as_bytes());
    let (head, body) = said.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: {said:?}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let header =
        |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Answer {
        status: status.unwrap_or_else(|| panic!("{said:?}")),
        headers: lines.filter_map(header).collect(),
        body: body.to_owned(),
    }
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path, "")
}

/// One scrape, in the older text form.
#[derive(Debug)]
pub(crate) struct Scrape {
    /// What stands before the blank, to the number behind it.
    pub(crate) samples: BTreeMap<String, f64>,
    /// As `# TYPE` names them.
    pub(crate) families: BTreeMap<String, String>,
    pub(crate) text: String,
}

impl Scrape {
    pub(crate) fn of(address: SocketAddr) -> Scrape {
        let answer = get(address, "/metrics");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let mut scrape = Scrape { samples: BTreeMap::new(), families: BTreeMap::new(), text: answer.body };
        for line in scrape.text.lines() {
            if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                let before = scrape.families.insert(name.to_owned(), kind.to_owned());
                assert_eq!(before, None, "{name} stands twice");
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
                let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
                assert_eq!(scrape.samples.insert(series.to_owned(), value), None, "{series} stands twice");
            }
        }
        scrape
    }

    /// The value of a series, written as in the exposition; it must be there.
    pub(crate) fn value(&self, series: &str) -> f64 {
        *self.samples.get(series).unwrap_or_else(|| panic!("no {series} in\n{}", self.text))
    }

    /// The sum of all series of a name.
    pub(crate) fn total(&self, name: &str) -> f64 {
        let found = self.samples.iter().filter(|(series, _)| series.split('{').next() == Some(name));
        found.map(|(_, value)| value).sum()
    }

    /// The label names of each sample name.
    pub(crate) fn labels(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for series in self.samples.keys() {
            let (name, rest) = series.split_once('{').unwrap_or((series, ""));
            // Values of these tests hold neither quotes nor commas.
            let names = rest.trim_end_matches('}').split(',').filter_map(|pair| pair.split_once('='));
            labels.entry(name.to_owned()).or_default().extend(names.map(|(name, _)| name.to_owned()));
        }
        labels
    }
}
