//! IMAP4rev1 as a client that asks for little (RFC 3501): no ENABLE and no SEARCH, of which servers make different things.

mod parse;
mod text;

use super::account::{Given, Item, Key, Secret, base64_text, xoauth2};
use super::fault::{Fault, FaultKind, shown};
use super::sets::command_sets;
use super::talk::{Intake, LISTING_WAIT, Talk};
use parse::{Body, Status};
use std::collections::{BTreeMap, BTreeSet};
use text::{folder_name, quoted};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// Longest response without its message, in octets.
const RESPONSE_OCTETS_MAX: usize = 256 * 1024;
/// Longest literal that is not a message asked for, in octets.
const OTHER_LITERAL_OCTETS_MAX: u64 = 64 * 1024;
/// Messages marked as deleted that are looked through before EXPUNGE; with more nothing is expunged.
const DELETED_MAX: usize = 100_000;

/// A session.
pub(super) struct Imap<S> {
    talk: Talk<S>,
    tag: u32,
    capabilities: Vec<String>,
    /// Messages in the folder when it was opened, if the server told.
    exists: Option<u32>,
}

/// The tagged end of a command.
struct Done {
    status: Status,
    text: String,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Imap<S> {
    /// Takes the greeting and asks what the server can.
    pub(super) async fn greet(stream: S) -> Result<Imap<S>, Fault> {
        let mut imap = Imap { talk: Talk::new(stream), tag: 0, capabilities: Vec::new(), exists: None };
        let greeting = imap.response(Talk::<S>::soon(), None).await?;
        let greeting = String::from_utf8_lossy(&greeting).into_owned();
        match greeting.strip_prefix("* ").and_then(parse::status) {
            Some((Status::Ok, _)) => {}
            _ if greeting.get(..6).is_some_and(|bye| bye.eq_ignore_ascii_case("* BYE ")) => {
                return Err(Fault::said(FaultKind::Unreachable, "greeting", &greeting));
            }
            _ => return Err(Fault::said(FaultKind::Protocol, "greeting", &greeting)),
        }
        imap.ask_capabilities().await?;
        Ok(imap)
    }

    async fn ask_capabilities(&mut self) -> Result<(), Fault> {
        let tag = self.command("CAPABILITY").await?;
        let mut told = Vec::new();
        let done = self.until_done(&tag, Talk::<S>::soon(), |line| {
            let line = String::from_utf8_lossy(line);
            told.extend(parse::capabilities(&line).into_iter().flatten());
            Ok(())
        });
        done.await?.accepted("CAPABILITY", FaultKind::Protocol)?;
        self.capabilities = told;
        Ok(())
    }

    fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|told| told == capability)
    }

    /// Logs in.
    pub(super) async fn log_in(&mut self, login: &str, secret: &Secret) -> Result<(), Fault> {
        match secret {
            Secret::Password(password) => self.log_in_by_password(login, password).await?,
            Secret::Token(token) => self.log_in_by_token(login, token).await?,
        }
        // What it can may be told to those alone who are in.
        self.ask_capabilities().await
    }

    async fn log_in_by_password(&mut self, login: &str, password: &str) -> Result<(), Fault> {
        if self.can("LOGINDISABLED") {
            return Err(Fault::new(FaultKind::Login, "the server takes no passwords (LOGINDISABLED)"));
        }
        let tag = match (quoted(login), quoted(password)) {
            (Some(login), Some(password)) => self.command(&format!("LOGIN {} {}", *login, *password)).await?,
            _ => {
                let tag = self.command(&format!("LOGIN {{{}}}", login.len())).await?;
                self.await_continuation(&tag).await?;
                self.talk.send(format!("{login} {{{}}}\r\n", password.len()).as_bytes()).await?;
                self.await_continuation(&tag).await?;
                let line = Zeroizing::new(format!("{password}\r\n"));
                self.talk.send(line.as_bytes()).await?;
                tag
            }
        };
        let done = self.until_done(&tag, Talk::<S>::soon(), |_| Ok(())).await?;
        done.accepted("LOGIN", FaultKind::Login)
    }

    /// XOAUTH2. A token that is refused is told of by a challenge, which is answered by nothing.
    async fn log_in_by_token(&mut self, login: &str, token: &str) -> Result<(), Fault> {
        if !self.can("AUTH=XOAUTH2") {
            return Err(Fault::new(FaultKind::Login, "the server offers no XOAUTH2"));
        }
        let initial = xoauth2(login, token);
        let tag = match self.can("SASL-IR") {
            true => {
                let command = Zeroizing::new(format!("AUTHENTICATE XOAUTH2 {}", *initial));
                self.command(&command).await?
            }
            false => {
                let tag = self.command("AUTHENTICATE XOAUTH2").await?;
                self.await_continuation(&tag).await?;
                let line = Zeroizing::new(format!("{}\r\n", *initial));
                self.talk.send(line.as_bytes()).await?;
                tag
            }
        };
        let mut challenge = String::new();
        loop {
            let line = self.response(Talk::<S>::soon(), None).await?;
            if let Some(done) = tagged(&line, &tag) {
                return done.accepted("AUTHENTICATE XOAUTH2", FaultKind::Login).map_err(|fault| {
                    let why =
                        if challenge.is_empty() { String::new() } else { format!(" after {challenge}") };
                    Fault { text: format!("{}{why}", fault.text), ..fault }
                });
            }
            if let Some(text) = line.strip_prefix(b"+") {
                challenge = shown(&base64_text(text.trim_ascii()));
                self.talk.send(b"\r\n").await?;
            }
        }
    }

    /// Opens a folder; gives its UIDVALIDITY.
    pub(super) async fn open(&mut self, folder: &str, only_to_read: bool) -> Result<u32, Fault> {
        let command = if only_to_read { "EXAMINE" } else { "SELECT" };
        let tag = self.command(&format!("{command} \"{}\"", folder_name(folder))).await?;
        let (mut validity, mut exists) = (None, None);
        let done = self.until_done(&tag, Talk::<S>::soon(), |line| {
            let line = String::from_utf8_lossy(line);
            validity = parse::code_number(&line, "UIDVALIDITY").or(validity);
            exists = parse::exists(&line).or(exists);
            Ok(())
        });
        done.await?.accepted(&format!("{command} {folder}"), FaultKind::Protocol).map_err(
            |fault| match fault.at_the_door() {
                fault if fault.kind == FaultKind::Protocol => {
                    fault.advised("is folder right, as the server writes it?")
                }
                fault => fault,
            },
        )?;
        self.exists = exists;
        let validity = validity.filter(|validity| *validity > 0);
        validity.ok_or_else(|| {
            Fault::protocol("the server tells no UIDVALIDITY, so nothing can be told apart there")
        })
    }

    /// The messages from this UID on that are wanted, by UID; at most so many, and whether there are more.
    pub(super) async fn list(
        &mut self,
        from: u32,
        most: usize,
        wanted: impl Fn(u32) -> bool,
    ) -> Result<(Vec<Item>, bool), Fault> {
        let tag = self.command(&format!("UID FETCH {from}:* (UID RFC822.SIZE)")).await?;
        let mut sizes: BTreeMap<u32, u64> = BTreeMap::new();
        let mut more = false;
        let done = self.until_done(&tag, Instant::now() + LISTING_WAIT, |line| {
            let Some(read) = fetch_of(line)? else { return Ok(()) };
            let uid = match (read.uid, read.octets) {
                (Some(uid), _) => uid,
                // A change of flags that nobody asked for.
                (None, None) => return Ok(()),
                (None, Some(_)) => {
                    return Err(Fault::protocol("the server listed a message without its UID"));
                }
            };
            // Without a size it is a message all the same: its literal tells.
            let octets = read.octets.unwrap_or(0);
            // Behind the last message `n:*` gives the last one (RFC 3501 §6.4.8).
            if uid < from || !wanted(uid) {
                return Ok(());
            }
            let room = sizes.len() < most;
            match sizes.get_mut(&uid) {
                Some(known) => *known = octets.max(*known),
                None if room => drop(sizes.insert(uid, octets)),
                None => more = true,
            }
            Ok(())
        });
        let done = done.await?;
        // An empty folder has no `*`; some servers say so. Of any other folder a NO tells nothing about what is there.
        let is_empty = done.status == Status::No && sizes.is_empty() && self.exists == Some(0);
        if !is_empty {
            done.accepted("UID FETCH", FaultKind::Protocol)?;
        }
        let items = sizes.into_iter().map(|(uid, octets)| Item { key: Key::Uid(uid), octets });
        Ok((items.collect(), more))
    }

    /// Fetches one message.
    pub(super) async fn fetch(&mut self, uid: u32, intake: &mut Intake<'_>) -> Result<Given, Fault> {
        let tag = self.command(&format!("UID FETCH {uid} BODY.PEEK[]")).await?;
        let mut given = Given::Gone;
        let mut by = Talk::<S>::soon();
        loop {
            let before = given != Given::Whole;
            let line = self.response(by, before.then_some(&mut *intake)).await?;
            if let Some(done) = tagged(&line, &tag) {
                return match done.status {
                    Status::Ok => Ok(given),
                    Status::No => Ok(Given::Refused(shown(&done.text))),
                    Status::Bad => Err(Fault::said(FaultKind::Protocol, "UID FETCH", &done.text)),
                };
            }
            let Some(read) = fetch_of(&line)? else { continue };
            let Some(body) = read.body else { continue };
            if body == Body::Nil {
                if before && read.uid == Some(uid) {
                    // It is there: it may be given another time.
                    given = Given::Refused("BODY[] NIL".to_owned());
                }
                continue;
            }
            if !before || read.uid != Some(uid) {
                return Err(Fault::protocol("the server gave another message than it was asked for"));
            }
            match &body {
                Body::Quoted(octets) => drop(intake.take(octets).await),
                Body::Streamed if intake.streamed => {}
                _ => return Err(Fault::protocol("the server gave a message without its octets")),
            }
            given = Given::Whole;
            by = Talk::<S>::soon();
        }
    }

    /// Marks messages as seen.
    pub(super) async fn mark(&mut self, uids: &[u32]) -> Result<(), Fault> {
        self.store(uids, "\\Seen").await
    }

    /// Deletes messages. False when they are marked and stay so: without UIDPLUS, messages that somebody else marked would go
    /// with them.
    pub(super) async fn delete(&mut self, uids: &[u32]) -> Result<bool, Fault> {
        self.store(uids, "\\Deleted").await?;
        if self.can("UIDPLUS") {
            for set in command_sets(uids.iter().copied()) {
                self.simple(&format!("UID EXPUNGE {set}")).await?;
            }
            return Ok(true);
        }
        let ours: BTreeSet<u32> = uids.iter().copied().collect();
        let tag = self.command("UID FETCH 1:* (UID FLAGS)").await?;
        let (mut others, mut marked) = (false, 0_usize);
        let done = self.until_done(&tag, Instant::now() + LISTING_WAIT, |line| {
            if let Some(read) = fetch_of(line)?
                && read.deleted == Some(true)
            {
                marked += 1;
                others |= marked > DELETED_MAX || read.uid.is_none_or(|uid| !ours.contains(&uid));
            }
            Ok(())
        });
        done.await?.done("UID FETCH")?;
        if !others {
            self.simple("EXPUNGE").await?;
        }
        Ok(!others)
    }

    async fn store(&mut self, uids: &[u32], flag: &str) -> Result<(), Fault> {
        for set in command_sets(uids.iter().copied()) {
            self.simple(&format!("UID STORE {set} +FLAGS.SILENT ({flag})")).await?;
        }
        Ok(())
    }

    /// Ends the session.
    pub(super) async fn log_out(mut self) {
        // Whatever it says, the work is done.
        if self.simple("LOGOUT").await.is_ok() {
            self.talk.close().await;
        }
    }

    async fn simple(&mut self, command: &str) -> Result<(), Fault> {
        let tag = self.command(command).await?;
        let done = self.until_done(&tag, Instant::now() + LISTING_WAIT, |_| Ok(())).await?;
        let verb = command.split([' ']).take(2).filter(|word| word.bytes().all(|b| b.is_ascii_uppercase()));
        done.done(&verb.collect::<Vec<_>>().join(" "))
    }

    /// Sends a command; gives its tag.
    async fn command(&mut self, command: &str) -> Result<String, Fault> {
        self.tag += 1;
        let tag = format!("d{}", self.tag);
        let line = Zeroizing::new(format!("{tag} {command}\r\n"));
        self.talk.send(line.as_bytes()).await?;
        Ok(tag)
    }

    /// Hands untagged responses to `each` until the tagged one.
    async fn until_done(
        &mut self,
        tag: &str,
        by: Instant,
        mut each: impl FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<Done, Fault> {
        loop {
            let line = self.response(by, None).await?;
            match tagged(&line, tag) {
                Some(done) => return Ok(done),
                None if line.starts_with(b"+") => {
                    return Err(Fault::protocol("the server asks for more of a command that is whole"));
                }
                None => each(&line)?,
            }
        }
    }

    async fn await_continuation(&mut self, tag: &str) -> Result<(), Fault> {
        loop {
            let line = self.response(Talk::<S>::soon(), None).await?;
            if line.starts_with(b"+") {
                return Ok(());
            }
            if let Some(done) = tagged(&line, tag) {
                return Err(Fault::said(FaultKind::Login, "login", &done.text));
            }
        }
    }

    /// One response without its last line end. The literal of a body goes to `intake`, and [`parse::STREAMED`] stands for it.
    async fn response(&mut self, by: Instant, mut intake: Option<&mut Intake<'_>>) -> Result<Vec<u8>, Fault> {
        let mut text = self.talk.line(by).await?;
        if !parse::is_fetch(&text) {
            return Ok(text);
        }
        let mut by = by;
        // A line of the server that has the look of what stands for a literal is none.
        while let Some((octets, before)) = parse::literal(&text) {
            let before = before.to_vec();
            match intake.take_if(|_| parse::awaits_body(&before)) {
                Some(intake) => {
                    self.stream(octets, intake).await?;
                    text = [&before, parse::STREAMED].concat();
                    by = Talk::<S>::soon();
                }
                None => {
                    self.skip(octets, by).await?;
                    text = [&before, b"\"\"".as_slice()].concat();
                }
            }
            text.extend(self.talk.line(by).await?);
            if text.len() > RESPONSE_OCTETS_MAX {
                return Err(Fault::protocol("the server sent a response that is too long"));
            }
        }
        Ok(text)
    }

    async fn stream(&mut self, octets: u64, intake: &mut Intake<'_>) -> Result<(), Fault> {
        if octets > intake.octets_max {
            intake.octets = octets;
            return Err(Fault::protocol("a message is larger than the server said"));
        }
        intake.streamed = true;
        let by = Talk::<S>::until_whole(octets);
        let mut left = octets;
        while left > 0 {
            let here = self.talk.some(by).await?;
            let mine = here.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(here);
            intake.take(mine).await;
            let taken = mine.len();
            self.talk.consume(taken);
            left -= taken as u64;
        }
        Ok(())
    }

    async fn skip(&mut self, octets: u64, by: Instant) -> Result<(), Fault> {
        if octets > OTHER_LITERAL_OCTETS_MAX {
            return Err(Fault::protocol("the server sent a literal that nobody asked for"));
        }
        let mut left = usize::try_from(octets).unwrap_or(usize::MAX);
        while left > 0 {
            let here = self.talk.some(by).await?.len().min(left);
            self.talk.consume(here);
            left -= here;
        }
        Ok(())
    }
}

impl Done {
    /// What is to be done with messages is; a refusal is of these alone.
    fn done(self, what: &str) -> Result<(), Fault> {
        match self.status {
            Status::Ok => Ok(()),
            Status::No | Status::Bad => Err(Fault::said(FaultKind::Message, what, &self.text)),
        }
    }

    fn accepted(self, what: &str, otherwise: FaultKind) -> Result<(), Fault> {
        match self.status {
            Status::Ok => Ok(()),
            Status::No | Status::Bad => {
                // RFC 5530: these pass by themselves.
                let passes = ["[UNAVAILABLE]", "[INUSE]", "[LIMIT]", "[SERVERBUG]"];
                let passes = passes.iter().any(|code| self.text.to_ascii_uppercase().starts_with(code));
                let kind = if passes { FaultKind::Unreachable } else { otherwise };
                Err(Fault::said(kind, what, &self.text))
            }
        }
    }
}

/// The end of the command with this tag, if the line is that.
fn tagged(line: &[u8], tag: &str) -> Option<Done> {
    let text = String::from_utf8_lossy(line.strip_prefix(tag.as_bytes())?.strip_prefix(b" ")?).into_owned();
    let (status, text) = parse::status(&text).map(|(status, text)| (status, text.to_owned()))?;
    Some(Done { status, text })
}

/// A FETCH response that can be read; `None` when the line is another.
fn fetch_of(line: &[u8]) -> Result<Option<parse::Fetched>, Fault> {
    if !parse::is_fetch(line) {
        return Ok(None);
    }
    let read = parse::fetched(line);
    read.map(Some).ok_or_else(|| Fault::protocol("the server sent a FETCH response that cannot be read"))
}
