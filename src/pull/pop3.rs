//! POP3 as a client (RFC 1939, 2449, 5034). What is deleted goes when the session ends in good order.

use super::account::{Given, Item, Key, Secret, base64_text, xoauth2};
use super::fault::{Fault, FaultKind, shown};
use super::talk::{Intake, LISTING_WAIT, Talk};
use super::unstuff::Unstuff;
use std::collections::HashMap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// Longest unique id, in octets (RFC 1939 §7).
const UIDL_OCTETS_MAX: usize = 70;

/// A session.
pub(super) struct Pop3<S> {
    talk: Talk<S>,
    capabilities: Vec<String>,
}

/// What a listing gave.
pub(super) struct Listed {
    /// The messages that are wanted, in their order.
    pub(super) items: Vec<Item>,
    /// There are more of those.
    pub(super) more: bool,
    /// Those that are not wanted: they are done.
    pub(super) done: Vec<Item>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Pop3<S> {
    /// Takes the greeting and asks what the server can.
    pub(super) async fn greet(stream: S) -> Result<Pop3<S>, Fault> {
        let mut pop3 = Pop3 { talk: Talk::new(stream), capabilities: Vec::new() };
        pop3.good("greeting", FaultKind::Unreachable).await?;
        pop3.talk.send(b"CAPA\r\n").await?;
        let mut told = Vec::new();
        // A server that knows no CAPA may be a good one all the same.
        if pop3.answer().await?.is_ok() {
            pop3.lines(|line| {
                told.push(line.to_ascii_uppercase());
                Ok(())
            })
            .await?;
        }
        pop3.capabilities = told;
        Ok(pop3)
    }

    /// Logs in.
    pub(super) async fn log_in(&mut self, login: &str, secret: &Secret) -> Result<(), Fault> {
        match secret {
            Secret::Password(password) => {
                self.say(&format!("USER {login}"), "USER", FaultKind::Login).await?;
                let line = Zeroizing::new(format!("PASS {}", **password));
                self.say(&line, "PASS", FaultKind::Login).await
            }
            Secret::Token(token) => self.log_in_by_token(login, token).await,
        }
    }

    /// The token is too long for a command line, so it is sent when it is asked for.
    async fn log_in_by_token(&mut self, login: &str, token: &str) -> Result<(), Fault> {
        let mut mechanisms = self.capabilities.iter().filter_map(|line| line.strip_prefix("SASL "));
        if !mechanisms.all(|list| list.split(' ').any(|mechanism| mechanism == "XOAUTH2")) {
            return Err(Fault::new(FaultKind::Login, "the server offers no XOAUTH2"));
        }
        self.talk.send(b"AUTH XOAUTH2\r\n").await?;
        let initial = xoauth2(login, token);
        let (mut sent, mut challenge) = (false, String::new());
        loop {
            let line = self.talk.line(Talk::<S>::soon()).await?;
            let Some(text) = line.strip_prefix(b"+").filter(|_| !line.starts_with(b"+OK")) else {
                let why = if challenge.is_empty() { String::new() } else { format!(" after {challenge}") };
                return judged(&line)?
                    .map(drop)
                    .map_err(|said| refused("AUTH XOAUTH2", FaultKind::Login, &said))
                    .map_err(|fault| Fault { text: format!("{}{why}", fault.text), ..fault });
            };
            if sent {
                challenge = shown(&base64_text(text.trim_ascii()));
                self.talk.send(b"\r\n").await?;
            } else {
                sent = true;
                let line = Zeroizing::new(format!("{}\r\n", *initial));
                self.talk.send(line.as_bytes()).await?;
            }
        }
    }

    /// The messages there are, each with its unique id and its size: at most so many that are wanted. Of the others those are
    /// told that `wanted` says no to.
    pub(super) async fn list(&mut self, most: usize, wanted: impl Fn(&str) -> bool) -> Result<Listed, Fault> {
        self.say("UIDL", "UIDL", FaultKind::Protocol).await.map_err(|fault| {
            fault.advised("without UIDL nothing can be told apart there: use IMAP, or another account")
        })?;
        let mut listed = Listed { items: Vec::new(), more: false, done: Vec::new() };
        self.lines(|line| {
            let unreadable = || Fault::protocol("the server sent a unique id that cannot be read");
            let (number, uidl) = line.trim_end().split_once(' ').ok_or_else(unreadable)?;
            let number: u32 = number.parse().ok().filter(|number| *number > 0).ok_or_else(unreadable)?;
            let is_id =
                (1..=UIDL_OCTETS_MAX).contains(&uidl.len()) && uidl.bytes().all(|b| b.is_ascii_graphic());
            if !is_id {
                return Err(unreadable());
            }
            let item = Item { key: Key::Uidl { number, uidl: uidl.to_owned() }, octets: 0 };
            match wanted(uidl) {
                // As many as were done at most: a server that names one again and again is not listened to.
                false if listed.done.len() < most.saturating_mul(2) => listed.done.push(item),
                true if listed.items.len() < most => listed.items.push(item),
                _ => listed.more = true,
            }
            Ok(())
        })
        .await?;
        if !listed.items.is_empty() {
            self.sizes(&mut listed.items).await?;
        }
        Ok(listed)
    }

    async fn sizes(&mut self, items: &mut [Item]) -> Result<(), Fault> {
        self.say("LIST", "LIST", FaultKind::Protocol).await?;
        let mut by_number: HashMap<u32, &mut u64> = HashMap::with_capacity(items.len());
        by_number.extend(items.iter_mut().map(|item| (item.number(), &mut item.octets)));
        self.lines(|line| {
            let mut words = line.split_ascii_whitespace();
            let number = words.next().and_then(|number| number.parse().ok());
            let octets = words.next().and_then(|octets| octets.parse::<u64>().ok());
            let (Some(number), Some(octets)) = (number, octets) else {
                return Err(Fault::protocol("the server sent a size that cannot be read"));
            };
            if let Some(size) = by_number.get_mut(&number) {
                **size = octets;
            }
            Ok(())
        })
        .await
    }

    /// Fetches one message.
    pub(super) async fn fetch(&mut self, item: &Item, intake: &mut Intake<'_>) -> Result<Given, Fault> {
        self.talk.send(format!("RETR {}\r\n", item.number()).as_bytes()).await?;
        if let Err(said) = self.answer().await? {
            return Ok(Given::Refused(shown(&said)));
        }
        // What a server says of a size may be an estimate.
        let by = Talk::<S>::until_whole(item.octets.max(intake.octets_max / 16));
        let (mut unstuff, mut content) = (Unstuff::default(), Vec::new());
        while !unstuff.is_at_end() {
            let here = self.talk.some(by).await?;
            let taken = unstuff.push(here, &mut content);
            self.talk.consume(taken);
            if !intake.take(&content).await {
                return Err(Fault::protocol("a message is larger than the server said"));
            }
            content.clear();
        }
        Ok(Given::Whole)
    }

    /// Has a message deleted at the end of the session.
    pub(super) async fn delete(&mut self, item: &Item) -> Result<(), Fault> {
        self.talk.send(format!("DELE {}\r\n", item.number()).as_bytes()).await?;
        self.answer().await?.map_err(|said| Fault::said(FaultKind::Message, "DELE", &said))
    }

    /// Ends the session: what was to be deleted is, when this succeeds.
    pub(super) async fn quit(mut self) -> Result<(), Fault> {
        self.say("QUIT", "QUIT", FaultKind::Protocol).await?;
        self.talk.close().await;
        Ok(())
    }

    async fn say(&mut self, command: &str, what: &str, otherwise: FaultKind) -> Result<(), Fault> {
        let line = Zeroizing::new(format!("{command}\r\n"));
        self.talk.send(line.as_bytes()).await?;
        self.good(what, otherwise).await
    }

    async fn good(&mut self, what: &str, otherwise: FaultKind) -> Result<(), Fault> {
        self.answer().await?.map_err(|said| refused(what, otherwise, &said))
    }

    /// Whether the server says yes; if not, what it says.
    async fn answer(&mut self) -> Result<Result<(), String>, Fault> {
        judged(&self.talk.line(Instant::now() + LISTING_WAIT).await?)
    }

    /// Hands the lines of a multi-line answer to `each`.
    async fn lines(&mut self, mut each: impl FnMut(&str) -> Result<(), Fault>) -> Result<(), Fault> {
        let by = Instant::now() + LISTING_WAIT;
        loop {
            let line = self.talk.line(by).await?;
            match line.as_slice() {
                b"." => return Ok(()),
                line => each(&String::from_utf8_lossy(line.strip_prefix(b".").unwrap_or(line)))?,
            }
        }
    }
}

fn judged(line: &[u8]) -> Result<Result<(), String>, Fault> {
    let text = String::from_utf8_lossy(line);
    match text.split(' ').next().unwrap_or_default() {
        "+OK" => Ok(Ok(())),
        "-ERR" => Ok(Err(text.into_owned())),
        _ => Err(Fault::said(FaultKind::Protocol, "POP3", &text)),
    }
}

/// What a refusal means; some pass by themselves (RFC 2449 §8, RFC 3206).
fn refused(what: &str, otherwise: FaultKind, said: &str) -> Fault {
    let upper = said.to_ascii_uppercase();
    let passes = ["-ERR [IN-USE]", "-ERR [LOGIN-DELAY]", "-ERR [SYS/TEMP]"];
    let passes = passes.iter().any(|code| upper.starts_with(code));
    Fault::said(if passes { FaultKind::Unreachable } else { otherwise }, what, said)
}
