//! One SMTP session as a state machine that does no I/O.
//!
//! The shell shows it the octets it has with [`Session::step`]; each step says how many of them are done
//! with and one [`Effect`] to carry out. Some effects are questions; the shell answers with the method named
//! on them before the next step. Steps go on until [`Effect::Input`] asks for more octets, at which point
//! all replies so far must be sent (RFC 2920 §3.2): that is all PIPELINING takes.
//!
//! ```text
//! octets ─▶ step ─▶ Reply            say it
//!                ├▶ Open             opened(id)            MAIL is good
//!                ├▶ Recipient        recipient(verdict)    RCPT is well formed
//!                ├▶ Begin            begun(result)         a body is about to come
//!                ├▶ Body             (body_failed(fault))  octets of it
//!                ├▶ Discard          drop what was received of it
//!                ├▶ Commit           committed(result)     it is whole
//!                ├▶ StartTls         tls_started(facts)    run the handshake
//!                └▶ Close            the session is over
//! ```
//!
//! Invariants:
//! - The result does not depend on how the octets are cut into steps, with one wanted exception: octets that
//!   stand behind STARTTLS or DATA before the reply to it are an injection, and can only be told by being
//!   there already.
//! - A body is always consumed to its end, refused or not, before the next line is read as a command.
//! - Nothing learned in clear outlives STARTTLS.
//! - [`Effect::Commit`] is the only way to a 250 for a message.

use super::command::{Command, ForwardPath, LINE_OCTETS_MAX, Mail};
use super::data::{ChunkCounter, DataScanner, Scanned};
use super::reply::{Blame, Outcome, Reply};
use super::{Fault, RecipientVerdict};
use crate::mail::{Address, ReceiptId, ReversePath, SessionId, TlsFacts, TransportEnvelope};
use std::net::SocketAddr;

/// How much of an over-long command line is read before the peer is given up, in octets.
const LINE_DRAIN_OCTETS_MAX: usize = 64 * 1024;
/// Commands that carry no message (EHLO, NOOP, RSET, VRFY, HELP, MAIL) between two messages.
const IDLE_COMMANDS_MAX: u32 = 100;

/// What the session must know of the configuration.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Our name in the greeting.
    pub hostname: String,
    /// Largest message taken, in octets.
    pub message_octets_max: u64,
    /// STARTTLS can be offered.
    pub tls_offered: bool,
    /// Mail is taken over TLS only.
    pub require_tls: bool,
    /// Recipients of one transaction.
    pub recipients_max: usize,
    /// Mistakes of one session; a stored message wipes the slate.
    pub errors_max: u32,
}

/// How much was consumed, and what to do now.
#[derive(Debug)]
pub struct Step<'i> {
    /// Octets from the front of the input that need not be shown again.
    pub consumed: usize,
    /// What to do. It may borrow from the consumed octets.
    pub effect: Effect<'i>,
}

/// What the shell has to do.
#[derive(Debug)]
pub enum Effect<'i> {
    /// Send all replies, then read more octets and step again.
    Input,
    /// Say this, in order, at the latest at the next [`Effect::Input`].
    Reply(Reply),
    /// A transaction may start: draw its id and call [`Session::opened`].
    Open,
    /// Ask whether this address is served and call [`Session::recipient`].
    Recipient(Address),
    /// Open the reception of a message and call [`Session::begun`].
    Begin(TransportEnvelope),
    /// Give these octets to the reception; call [`Session::body_failed`] if it does not take them.
    Body(&'i [u8]),
    /// Drop the reception: the message is refused or given up.
    Discard,
    /// End the reception and call [`Session::committed`].
    Commit,
    /// Send all replies, run the handshake and call [`Session::tls_started`].
    StartTls,
    /// Send all replies and close the connection.
    Close,
}

/// A session. One per connection.
#[derive(Debug)]
pub struct Session {
    policy: Policy,
    session_id: SessionId,
    peer: SocketAddr,
    tls: Option<TlsFacts>,
    helo: Option<String>,
    transaction: Option<Transaction>,
    /// The transaction the last reply was about; outlives it until the next command.
    receipt_id: Option<ReceiptId>,
    phase: Phase,
    /// To be said by the next step.
    pending: Option<Reply>,
    overlong: Option<Overlong>,
    errors: u32,
    idle_commands: u32,
}

/// MAIL was accepted.
#[derive(Debug)]
struct Transaction {
    receipt_id: ReceiptId,
    reverse_path: ReversePath,
    smtputf8: bool,
    recipients: Vec<Address>,
    /// Some RCPT was refused; changes the answer to DATA when all were.
    refused_recipients: bool,
    chunks: Option<Chunks>,
}

/// BDAT has begun.
#[derive(Debug, Default)]
struct Chunks {
    octets: u64,
    /// Why the message is refused; stays until the transaction ends, since the octets lost do not come back.
    refusal: Option<Outcome>,
}

#[derive(Debug)]
enum Phase {
    /// Reading command lines.
    Command,
    /// The shell owes an answer.
    Asked(Question),
    /// Reading the body of DATA.
    Data { scanner: DataScanner, octets: u64, refusal: Option<Outcome> },
    /// Reading a chunk of BDAT. A `stray` one came out of order and belongs to no message.
    Chunk { counter: ChunkCounter, octets: u64, last: bool, stray: Option<Outcome> },
    /// Over.
    Closed,
}

#[derive(Debug)]
enum Question {
    Open(Mail),
    Recipient(Address),
    BeginData,
    BeginChunk { octets: u64, last: bool },
    Commit,
    StartTls,
}

/// A line over the limit, being read to its end.
#[derive(Clone, Copy, Debug, Default)]
struct Overlong {
    octets: usize,
    ends_in_cr: bool,
    garbled: bool,
}

impl Session {
    /// A session before the greeting.
    pub fn new(policy: Policy, session_id: SessionId, peer: SocketAddr) -> Session {
        let greeting = Reply::greeting(&policy.hostname);
        Session {
            policy,
            session_id,
            peer,
            tls: None,
            helo: None,
            transaction: None,
            receipt_id: None,
            phase: Phase::Command,
            pending: Some(greeting),
            overlong: None,
            errors: 0,
            idle_commands: 0,
        }
    }

    /// The id of the transaction that runs, or that the last reply was about.
    pub fn receipt_id(&self) -> Option<ReceiptId> {
        self.receipt_id
    }

    /// The name the peer gave in EHLO or HELO, unverified.
    pub fn helo(&self) -> Option<&str> {
        self.helo.as_deref()
    }

    /// True while a body is being received: octets of it are awaited, or its next chunk.
    pub fn is_receiving(&self) -> bool {
        match &self.phase {
            Phase::Data { .. } | Phase::Chunk { .. } => true,
            Phase::Asked(Question::BeginData | Question::BeginChunk { .. } | Question::Commit) => true,
            Phase::Asked(_) | Phase::Command => self.has_chunks(),
            Phase::Closed => false,
        }
    }

    /// True while octets of a body are awaited, as opposed to a command line.
    pub fn is_in_body(&self) -> bool {
        matches!(self.phase, Phase::Data { .. } | Phase::Chunk { .. })
    }

    /// Looks at the octets there are and says what to do.
    pub fn step<'i>(&mut self, input: &'i [u8]) -> Step<'i> {
        if let Some(reply) = self.pending.take() {
            return Step { consumed: 0, effect: Effect::Reply(reply) };
        }
        match &self.phase {
            Phase::Command if self.overlong.is_some() => self.overlong_line(input),
            Phase::Command => self.command_line(input),
            Phase::Data { .. } => self.data(input),
            Phase::Chunk { .. } => self.chunk(input),
            // A shell that steps without answering is wrong; ending the session loses nothing.
            Phase::Asked(_) | Phase::Closed => Step { consumed: 0, effect: Effect::Close },
        }
    }

    /// Ends the session at a command boundary because the process is ending.
    pub fn shut_down(&mut self) -> Reply {
        self.end_with(Outcome::Fault(Fault::ShuttingDown))
    }

    /// Ends the session because the peer was silent or slow for too long.
    pub fn timed_out(&mut self) -> Reply {
        self.end_with(Outcome::TooSlow)
    }

    fn end_with(&mut self, outcome: Outcome) -> Reply {
        self.transaction = None;
        self.phase = Phase::Closed;
        self.pending = None;
        outcome.into()
    }
}

/// Answers to effects. One that was not asked for changes nothing but ends the session.
impl Session {
    /// Answers [`Effect::Open`].
    pub fn opened(&mut self, receipt_id: ReceiptId) -> Reply {
        let Phase::Asked(Question::Open(mail)) = std::mem::replace(&mut self.phase, Phase::Command) else {
            return self.unasked();
        };
        self.receipt_id = Some(receipt_id);
        self.transaction = Some(Transaction {
            receipt_id,
            reverse_path: mail.reverse_path,
            smtputf8: mail.smtputf8,
            recipients: Vec::new(),
            refused_recipients: false,
            chunks: None,
        });
        self.reply(Outcome::SenderAccepted)
    }

    /// The recipients accepted so far in this transaction.
    pub fn recipients(&self) -> &[Address] {
        self.transaction.as_ref().map(|transaction| transaction.recipients.as_slice()).unwrap_or_default()
    }

    /// Answers [`Effect::Recipient`].
    pub fn recipient(&mut self, verdict: RecipientVerdict) -> Reply {
        let asked = std::mem::replace(&mut self.phase, Phase::Command);
        let (Phase::Asked(Question::Recipient(address)), Some(transaction)) = (asked, &mut self.transaction)
        else {
            return self.unasked();
        };
        if verdict == RecipientVerdict::Accept {
            transaction.recipients.push(address);
        } else {
            transaction.refused_recipients = true;
        }
        self.reply(verdict.into())
    }

    /// Answers [`Effect::Begin`]. `None`: there is nothing to say yet.
    pub fn begun(&mut self, result: Result<(), Fault>) -> Option<Reply> {
        match std::mem::replace(&mut self.phase, Phase::Command) {
            Phase::Asked(Question::BeginData) => Some(match result {
                Ok(()) => {
                    self.phase = Phase::Data { scanner: DataScanner::new(), octets: 0, refusal: None };
                    self.reply(Outcome::SendBody)
                }
                Err(fault) => {
                    self.transaction = None;
                    self.reply(Outcome::Fault(fault))
                }
            }),
            Phase::Asked(Question::BeginChunk { octets, last }) => {
                if let (Err(fault), Some(chunks)) = (result, self.chunks()) {
                    chunks.refusal.get_or_insert(Outcome::Fault(fault));
                }
                self.enter_chunk(octets, last, None);
                None
            }
            _ => Some(self.unasked()),
        }
    }

    /// The reception did not take the octets of [`Effect::Body`] and has been dropped.
    pub fn body_failed(&mut self, fault: Fault) {
        match &mut self.phase {
            Phase::Data { refusal, .. } => {
                refusal.get_or_insert(Outcome::Fault(fault));
            }
            Phase::Chunk { .. } => {
                if let Some(chunks) = self.chunks() {
                    chunks.refusal.get_or_insert(Outcome::Fault(fault));
                }
            }
            _ => {}
        }
    }

    /// Answers [`Effect::Commit`].
    pub fn committed(&mut self, result: Result<(), Fault>) -> Reply {
        let asked = std::mem::replace(&mut self.phase, Phase::Command);
        let (Phase::Asked(Question::Commit), Some(transaction)) = (asked, self.transaction.take()) else {
            return self.unasked();
        };
        match result {
            Ok(()) => {
                self.errors = 0;
                self.idle_commands = 0;
                Reply::stored(transaction.receipt_id)
            }
            Err(fault) => self.reply(Outcome::Fault(fault)),
        }
    }

    /// Answers [`Effect::StartTls`]: everything learned in clear is forgotten (RFC 3207 §4.2).
    pub fn tls_started(&mut self, facts: TlsFacts) {
        if !matches!(self.phase, Phase::Asked(Question::StartTls)) {
            self.phase = Phase::Closed;
            return;
        }
        self.phase = Phase::Command;
        self.tls = Some(facts);
        self.helo = None;
        self.transaction = None;
        self.receipt_id = None;
    }

    fn unasked(&mut self) -> Reply {
        self.end_with(Outcome::Fault(Fault::Internal))
    }
}

/// Command lines.
impl Session {
    fn command_line<'i>(&mut self, input: &'i [u8]) -> Step<'i> {
        let window = input.get(..LINE_OCTETS_MAX).unwrap_or(input);
        let Some(end) = memchr::memchr(b'\n', window) else {
            if window.len() < LINE_OCTETS_MAX {
                return Step { consumed: 0, effect: Effect::Input };
            }
            self.overlong = Some(Overlong::default());
            return self.overlong_line(input);
        };
        let consumed = end + 1;
        let (line, behind) = input.split_at_checked(consumed).unwrap_or((input, &[]));
        if self.transaction.is_none() {
            self.receipt_id = None;
        }
        let effect = match Command::parse(line) {
            Ok(command) => self.command(command, !behind.is_empty()),
            Err(outcome) => self.say(outcome),
        };
        Step { consumed, effect }
    }

    /// Reads on to the end of a line that is too long, remembering whether it was garbled as well: one that
    /// is must end the session like a short one.
    fn overlong_line<'i>(&mut self, input: &'i [u8]) -> Step<'i> {
        let mut line = self.overlong.take().unwrap_or_default();
        let end = memchr::memchr(b'\n', input);
        let body = end.and_then(|end| input.get(..end)).unwrap_or(input);
        line.garbled |= line.ends_in_cr && !body.is_empty();
        let inner = body.strip_suffix(b"\r").unwrap_or(body);
        line.garbled |= memchr::memchr2(b'\r', 0, inner).is_some();
        if !body.is_empty() {
            line.ends_in_cr = body.ends_with(b"\r");
        }
        line.octets = line.octets.saturating_add(body.len());
        let Some(end) = end else {
            if line.octets > LINE_DRAIN_OCTETS_MAX {
                let reply = self.end_with(Outcome::LineTooLong);
                return Step { consumed: input.len(), effect: Effect::Reply(reply) };
            }
            self.overlong = Some(line);
            return Step { consumed: input.len(), effect: Effect::Input };
        };
        let garbled = line.garbled || !line.ends_in_cr;
        let outcome = if garbled { Outcome::LineGarbled } else { Outcome::LineTooLong };
        Step { consumed: end + 1, effect: self.say(outcome) }
    }

    /// `followed`: more octets are there already.
    fn command(&mut self, command: Command, followed: bool) -> Effect<'static> {
        if command_is_idle(&command) {
            self.idle_commands += 1;
            if self.idle_commands > IDLE_COMMANDS_MAX {
                return self.say(Outcome::TooManyErrors);
            }
        }
        match command {
            Command::Ehlo(name) => self.hello(name, true),
            Command::Helo(name) => self.hello(name, false),
            Command::StartTls => self.start_tls(followed),
            Command::Mail(mail) => self.mail(mail),
            Command::Rcpt(path) => self.rcpt(path),
            Command::Data => self.data_command(followed),
            Command::Bdat { octets, last } => self.bdat(octets, last),
            Command::Rset => self.reset(Outcome::Done.into()),
            Command::Noop => self.say(Outcome::Done),
            Command::Vrfy => self.say(Outcome::NotVerified),
            Command::Expn => self.say(Outcome::ExpnNotOffered),
            Command::Help => self.say(Outcome::Helped),
            Command::Auth => self.say(Outcome::AuthNotOffered),
            Command::Quit => {
                self.transaction = None;
                self.say(Outcome::Goodbye)
            }
        }
    }

    fn hello(&mut self, name: String, extended: bool) -> Effect<'static> {
        self.helo = Some(name);
        let extensions = if extended { self.extensions() } else { Vec::new() };
        self.reset(Reply::hello(&self.policy.hostname, extensions))
    }

    fn extensions(&self) -> Vec<std::borrow::Cow<'static, str>> {
        let mut extensions = vec![
            "PIPELINING".into(),
            format!("SIZE {}", self.policy.message_octets_max).into(),
            "8BITMIME".into(),
            "SMTPUTF8".into(),
            "CHUNKING".into(),
            "ENHANCEDSTATUSCODES".into(),
        ];
        if self.policy.tls_offered && self.tls.is_none() {
            extensions.push("STARTTLS".into());
        }
        extensions
    }

    /// Forgets the transaction, and says so once the shell has dropped its reception.
    fn reset(&mut self, reply: Reply) -> Effect<'static> {
        let had_chunks = self.has_chunks();
        self.transaction = None;
        if had_chunks {
            self.pending = Some(reply);
            return Effect::Discard;
        }
        Effect::Reply(reply)
    }

    fn start_tls(&mut self, followed: bool) -> Effect<'static> {
        if self.tls.is_some() {
            return self.say(Outcome::TlsAlready);
        }
        if !self.policy.tls_offered {
            return self.say(Outcome::TlsNotOffered);
        }
        if followed {
            return self.say(Outcome::Pipelined);
        }
        self.phase = Phase::Asked(Question::StartTls);
        Effect::StartTls
    }

    fn mail(&mut self, mail: Mail) -> Effect<'static> {
        if self.helo.is_none() {
            return self.say(Outcome::HelloFirst);
        }
        if self.policy.require_tls && self.tls.is_none() {
            return self.say(Outcome::TlsRequired);
        }
        if self.transaction.is_some() {
            return self.say(Outcome::MailAlready);
        }
        if mail.size_octets.is_some_and(|octets| octets > self.policy.message_octets_max) {
            return self.say(Outcome::MessageTooLarge);
        }
        self.phase = Phase::Asked(Question::Open(mail));
        Effect::Open
    }

    fn rcpt(&mut self, path: ForwardPath) -> Effect<'static> {
        let Some(transaction) = &mut self.transaction else {
            return self.say(self.first_of_all());
        };
        if transaction.chunks.is_some() {
            return self.say(Outcome::BdatBegun);
        }
        let outcome = match path {
            _ if transaction.recipients.len() >= self.policy.recipients_max => Outcome::TooManyRecipients,
            ForwardPath::Postmaster => Outcome::UnknownRecipient,
            ForwardPath::Address(address) if !address.as_str().is_ascii() && !transaction.smtputf8 => {
                Outcome::NeedsSmtpUtf8
            }
            ForwardPath::Address(address) => {
                self.phase = Phase::Asked(Question::Recipient(address.clone()));
                return Effect::Recipient(address);
            }
        };
        transaction.refused_recipients = true;
        self.say(outcome)
    }

    fn data_command(&mut self, followed: bool) -> Effect<'static> {
        // Octets sent before the 354 are a body we would read as commands if we refused DATA, or commands we
        // would read as a body if we did not.
        if followed {
            return self.say(Outcome::Pipelined);
        }
        if let Some(outcome) = self.body_obstacle() {
            return self.say(outcome);
        }
        if self.has_chunks() {
            return self.say(Outcome::BdatBegun);
        }
        self.begin(Question::BeginData)
    }

    fn bdat(&mut self, octets: u64, last: bool) -> Effect<'static> {
        if let Some(outcome) = self.body_obstacle() {
            self.enter_chunk(octets, last, Some(outcome));
            return Effect::Body(&[]);
        }
        let limit = self.policy.message_octets_max;
        let begun = self.has_chunks();
        let Some(transaction) = &mut self.transaction else {
            return self.say(Outcome::MailFirst);
        };
        let chunks = transaction.chunks.get_or_insert_default();
        chunks.octets = chunks.octets.saturating_add(octets);
        if chunks.octets > limit && chunks.refusal.is_none() {
            chunks.refusal = Some(Outcome::MessageTooLarge);
            self.enter_chunk(octets, last, None);
            return if begun { Effect::Discard } else { Effect::Body(&[]) };
        }
        if begun {
            self.enter_chunk(octets, last, None);
            return Effect::Body(&[]);
        }
        self.begin(Question::BeginChunk { octets, last })
    }

    /// What stands in the way of any body.
    fn body_obstacle(&self) -> Option<Outcome> {
        match &self.transaction {
            None => Some(self.first_of_all()),
            Some(transaction) if !transaction.recipients.is_empty() => None,
            Some(transaction) if transaction.refused_recipients => Some(Outcome::NoValidRecipient),
            Some(_) => Some(Outcome::RecipientFirst),
        }
    }

    fn first_of_all(&self) -> Outcome {
        if self.helo.is_none() { Outcome::HelloFirst } else { Outcome::MailFirst }
    }

    fn begin(&mut self, question: Question) -> Effect<'static> {
        let Some(transaction) = &self.transaction else {
            return self.say(Outcome::MailFirst);
        };
        let envelope = TransportEnvelope {
            session_id: self.session_id,
            peer: self.peer,
            helo: self.helo.clone().unwrap_or_default(),
            tls: self.tls.clone(),
            reverse_path: transaction.reverse_path.clone(),
            recipients: transaction.recipients.clone(),
            smtputf8: transaction.smtputf8,
        };
        self.phase = Phase::Asked(question);
        Effect::Begin(envelope)
    }

    fn chunks(&mut self) -> Option<&mut Chunks> {
        self.transaction.as_mut().and_then(|transaction| transaction.chunks.as_mut())
    }

    fn has_chunks(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.chunks.is_some())
    }

    fn say(&mut self, outcome: Outcome) -> Effect<'static> {
        Effect::Reply(self.reply(outcome))
    }

    /// The reply for an outcome; counts mistakes and ends the session where the table says so.
    fn reply(&mut self, outcome: Outcome) -> Reply {
        let mut reply = Reply::from(outcome);
        // More recipients than fit is no mistake: the peer sends the rest in another transaction.
        if reply.blame == Blame::Peer && outcome != Outcome::TooManyRecipients {
            self.errors = self.errors.saturating_add(1);
            if self.errors > self.policy.errors_max && !reply.closes {
                reply = Outcome::TooManyErrors.into();
            }
        }
        if reply.closes {
            self.transaction = None;
            self.phase = Phase::Closed;
        }
        reply
    }
}

/// Bodies.
impl Session {
    fn data<'i>(&mut self, input: &'i [u8]) -> Step<'i> {
        let limit = self.policy.message_octets_max;
        let Phase::Data { scanner, octets, refusal } = &mut self.phase else {
            return Step { consumed: 0, effect: Effect::Close };
        };
        if input.is_empty() {
            return Step { consumed: 0, effect: Effect::Input };
        }
        let (consumed, scanned) = scanner.scan(input);
        let refused_before = refusal.is_some();
        if scanner.defect().is_some() {
            *refusal = Some(Outcome::BareLineEnd);
        }
        let effect = match scanned {
            Scanned::Body(body) => {
                *octets = octets.saturating_add(body.len() as u64);
                if *octets > limit {
                    refusal.get_or_insert(Outcome::MessageTooLarge);
                }
                match refusal {
                    None => Effect::Body(body),
                    Some(_) if refused_before => Effect::Body(&[]),
                    Some(_) => Effect::Discard,
                }
            }
            Scanned::End => match refusal.take() {
                None => self.commit(),
                Some(outcome) => self.refuse_body(outcome),
            },
        };
        Step { consumed, effect }
    }

    fn chunk<'i>(&mut self, input: &'i [u8]) -> Step<'i> {
        let Phase::Chunk { counter, octets, last, stray } = &mut self.phase else {
            return Step { consumed: 0, effect: Effect::Close };
        };
        let (octets, last, stray) = (*octets, *last, *stray);
        if !counter.is_complete() {
            if input.is_empty() {
                return Step { consumed: 0, effect: Effect::Input };
            }
            let body = counter.take(input);
            let refused = stray.is_some() || self.chunks().is_none_or(|chunks| chunks.refusal.is_some());
            let effect = Effect::Body(if refused { &[] } else { body });
            return Step { consumed: body.len(), effect };
        }
        self.phase = Phase::Command;
        let refusal = stray.or_else(|| self.chunks().and_then(|chunks| chunks.refusal));
        let effect = match refusal {
            Some(outcome) if stray.is_none() && last => self.refuse_body(outcome),
            Some(outcome) => self.say(outcome),
            None if last => self.commit(),
            None => Effect::Reply(Reply::chunk_taken(octets)),
        };
        Step { consumed: 0, effect }
    }

    fn enter_chunk(&mut self, octets: u64, last: bool, stray: Option<Outcome>) {
        self.phase = Phase::Chunk { counter: ChunkCounter::new(octets), octets, last, stray };
    }

    fn commit(&mut self) -> Effect<'static> {
        self.phase = Phase::Asked(Question::Commit);
        Effect::Commit
    }

    fn refuse_body(&mut self, outcome: Outcome) -> Effect<'static> {
        self.transaction = None;
        self.phase = Phase::Command;
        self.say(outcome)
    }
}

/// Commands that bring no message nearer. MAIL is among them: a session of MAIL and RSET is one of nothing.
fn command_is_idle(command: &Command) -> bool {
    matches!(
        command,
        Command::Ehlo(_)
            | Command::Helo(_)
            | Command::Mail(_)
            | Command::Rset
            | Command::Noop
            | Command::Vrfy
            | Command::Help
    )
}
