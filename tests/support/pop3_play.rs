//! Plays: dialogues as files. The syntax is in `corpus/pop3/README.md`.

use super::pop3_fake::Fake;

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
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Play {
    pub(crate) name: String,
    pub(crate) mails: Vec<Vec<u8>>,
    pub(crate) fail_commit: bool,
    pub(crate) fail_open: bool,
    pub(crate) damaged: Option<(String, u64)>,
    pub(crate) short: Option<String>,
    pub(crate) acts: Vec<Act>,
}

impl Play {
    pub(crate) fn fake(&self) -> Fake {
        let fake = Fake::with(&self.mails);
        let mut state = fake.state.lock().unwrap();
        state.fail_commit = self.fail_commit;
        state.fail_open = self.fail_open;
        state.damaged = self.damaged.clone();
        state.short = self.short.clone();
        drop(state);
        fake
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
            "MAIL" => self.mails.push(unescape(rest)?),
            "FAULT" => self.fault(&words())?,
            "C" => self.send(who, [unescape(rest)?, b"\r\n".to_vec()].concat()),
            "RAW" => self.send(who, unescape(rest)?),
            "S" => self.acts.push(Act::Expect(who, rest.to_owned())),
            "TLS" => self.acts.push(Act::Tls(who)),
            "CLOSED" => self.acts.push(Act::Closed(who)),
            "DROP" => self.acts.push(Act::Drop(who)),
            "KEPT" => self.acts.push(Act::Kept(words())),
            "FETCHED" => self.acts.push(Act::Fetched(words())),
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

    fn fault(&mut self, words: &[String]) -> Option<()> {
        match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["commit"] => self.fail_commit = true,
            ["open"] => self.fail_open = true,
            ["damaged", uidl, after] => self.damaged = Some((uidl.to_owned(), after.parse().ok()?)),
            ["short", uidl] => self.short = Some(uidl.to_owned()),
            _ => return None,
        }
        Some(())
    }

    /// True when it is one client's over TLS from the start, so that it can be acted without sockets.
    pub(crate) fn is_simple(&self) -> bool {
        self.acts.first() == Some(&Act::Tls(0))
            && self.acts.iter().skip(1).all(|act| match act {
                Act::Send(who, _) | Act::Expect(who, _) | Act::Closed(who) | Act::Drop(who) => *who == 0,
                Act::Tls(_) => false,
                Act::Kept(_) | Act::Fetched(_) => true,
            })
    }
}

/// `\r`, `\n`, `\\`, `\xNN`, and `\*N*c` for N times c.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        octets.extend(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let used = match rest.as_bytes().first()? {
            b'r' => push(&mut octets, b'\r'),
            b'n' => push(&mut octets, b'\n'),
            b'\\' => push(&mut octets, b'\\'),
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

/// `*` in the pattern stands for anything.
pub(crate) fn matches(pattern: &str, line: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == line,
        Some((head, tail)) => line.strip_prefix(head).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| matches(tail, &rest[at..]))
        }),
    }
}
