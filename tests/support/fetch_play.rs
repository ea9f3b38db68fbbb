//! Plays: dialogues as files. The syntax is in `corpus/pop3/README.md` and `corpus/imap/README.md`.

#![allow(dead_code, reason = "each test file uses a part")]

use std::path::Path;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// The client of this number sends these octets.
    Send(usize, Vec<u8>),
    /// It receives a line like this.
    Expect(usize, String),
    /// It begins TLS.
    Tls(usize),
    /// The server closes.
    Closed(usize),
    /// It goes away.
    Drop(usize),
    /// These are in the maildrop then.
    Kept(Vec<String>),
    /// These were recorded as fetched, once it has come to be.
    Fetched(Vec<String>),
    /// Something is so, or happens in the world: what, and the rest of its line.
    Other(String, String),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Play {
    pub(crate) name: String,
    /// Each with the folder it lies in.
    pub(crate) mails: Vec<(String, Vec<u8>)>,
    /// Folders, in the order in which they were named.
    pub(crate) folders: Vec<String>,
    /// What is to go wrong, word by word.
    pub(crate) faults: Vec<Vec<String>>,
    pub(crate) acts: Vec<Act>,
}

impl Play {
    /// All of a folder of the corpus, by name.
    pub(crate) fn all(folder: &str) -> Vec<Play> {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(folder);
        let mut plays: Vec<Play> = std::fs::read_dir(corpus)
            .unwrap()
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
            .map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap();
                Play::parse(name, &std::fs::read_to_string(&path).unwrap())
            })
            .collect();
        plays.sort_by(|a, b| a.name.cmp(&b.name));
        plays
    }

    pub(crate) fn parse(name: &str, text: &str) -> Play {
        let mut play = Play { name: name.to_owned(), ..Play::default() };
        for (at, line) in text.lines().enumerate() {
            if !line.is_empty() && !line.starts_with('#') {
                play.line(line).unwrap_or_else(|| panic!("{name}:{}: {line:?}", at + 1));
            }
        }
        play
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let (key, rest) = line.split_once(':')?;
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        let who = match key.as_bytes().last()? {
            digit @ b'2'..=b'9' => usize::from(digit - b'1'),
            _ => 0,
        };
        let words = || rest.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        match key.trim_end_matches(|c: char| c.is_ascii_digit()) {
            "FOLDER" => self.folders.push(rest.to_owned()),
            "MAIL" => {
                let folder = self.folders.last().map_or("INBOX", String::as_str).to_owned();
                self.mails.push((folder, unescape(rest)?));
            }
            "FAULT" => self.faults.push(words()),
            "C" => self.send(who, [unescape(rest)?, b"\r\n".to_vec()].concat()),
            "RAW" => self.send(who, unescape(rest)?),
            "S" => self.acts.push(Act::Expect(who, rest.to_owned())),
            "TLS" => self.acts.push(Act::Tls(who)),
            "CLOSED" => self.acts.push(Act::Closed(who)),
            "DROP" => self.acts.push(Act::Drop(who)),
            "KEPT" => self.acts.push(Act::Kept(words())),
            "FETCHED" => self.acts.push(Act::Fetched(words())),
            key if key.bytes().all(|octet| octet.is_ascii_uppercase()) => {
                self.acts.push(Act::Other(key.to_owned(), rest.to_owned()));
            }
            _ => return None,
        }
        Some(())
    }

    /// Lines sent one after the other are sent as one: that is pipelining.
    fn send(&mut self, who: usize, octets: Vec<u8>) {
        match self.acts.last_mut() {
            Some(Act::Send(before, sent)) if *before == who => sent.extend(octets),
            _ => self.acts.push(Act::Send(who, octets)),
        }
    }

    /// All that the clients send.
    pub(crate) fn sent(&self) -> Vec<u8> {
        let sent = self.acts.iter().filter_map(|act| match act {
            Act::Send(_, octets) => Some(octets.as_slice()),
            _ => None,
        });
        sent.flatten().copied().collect()
    }

    /// True when it is one client's over TLS from the start, so that it can be acted without sockets.
    pub(crate) fn is_simple(&self) -> bool {
        self.acts.first() == Some(&Act::Tls(0))
            && self.acts.iter().skip(1).all(|act| match act {
                Act::Send(who, _) | Act::Expect(who, _) | Act::Closed(who) | Act::Drop(who) => *who == 0,
                Act::Tls(_) => false,
                Act::Kept(_) | Act::Fetched(_) => true,
                Act::Other(..) => false,
            })
    }
}

/// `\r`, `\n`, `\\`, `\xNN`, and `\*N*c` for N times c.
pub(crate) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        octets.extend(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let used = match rest.as_bytes().first()? {
            b'r' => push(&mut octets, b'\r'),
            b'n' => push(&mut octets, b'\n'),
            b'\\' => push(&mut octets, b'\\'),
            // A flag.
            b'A'..=b'Z' => push(&mut octets, b'\\') - 1,
            b'x' => {
                octets.push(u8::from_str_radix(rest.get(1..3)?, 16).ok()?);
                3
            }
            b'*' => {
                let (count, after) = rest[1..].split_once('*')?;
                octets.extend(std::iter::repeat_n(*after.as_bytes().first()?, count.parse().ok()?));
                count.len() + 3
            }
            _ => return None,
        };
        rest = rest.get(used..)?;
    }
    octets.extend(rest.as_bytes());
    Some(octets)
}

fn push(octets: &mut Vec<u8>, octet: u8) -> usize {
    octets.push(octet);
    1
}

/// The wildcard in the pattern stands for anything.
pub(crate) fn matches(pattern: &str, line: &str, wildcard: char) -> bool {
    match pattern.split_once(wildcard) {
        None => pattern == line,
        Some((head, tail)) => line.strip_prefix(head).is_some_and(|rest| {
            let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            ends.into_iter().any(|at| matches(tail, &rest[at..], wildcard))
        }),
    }
}

/// Asserts that this is what the server says in a play.
pub(crate) fn check_received(play: &Play, received: &[u8], how: &str, wildcard: char) {
    let text = String::from_utf8_lossy(received);
    let mut lines =
        text.strip_suffix("\r\n").unwrap_or_else(|| panic!("{} {how}: {text:?}", play.name)).split("\r\n");
    for act in &play.acts {
        if let Act::Expect(_, pattern) = act {
            let line = lines.next().unwrap_or_else(|| panic!("{} {how}: nothing for {pattern:?}", play.name));
            assert!(matches(pattern, line, wildcard), "{} {how}: {pattern:?} {line:?}", play.name);
        }
    }
    assert_eq!(lines.next(), None, "{} {how}", play.name);
}
