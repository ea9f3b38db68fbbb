//! One SMTP session as a state machine that does no I/O.
//!
//! The shell shows it the octets it has with [`Session::step`]; each step says how many of them are done
//! with and one [`Effect`] to carry out. Some effects are questions; the shell answers with the method named
//! on them before the next step. Steps go on until [`Effect::Input`] asks for more octets, at which point
//! all replies so far must be sent (RFC 2920 §3.2): that is all PIPELINING takes.
//!
//! ```text
//! octets ─▶ step ─▶ Reply            say it
//!                ├▶ Open             opened(result)        MAIL is good
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
//! - A body is always consumed to its end, refused or not, before the next line is read as a command; one that is refused and
//!   more than [`DRAIN_FACTOR`] times as long as the largest message ends the session instead.
//! - Nothing learned in clear outlives STARTTLS.
//! - [`Effect::Commit`] is the only way to a 250 for a message.
//! - A session that may go on no longer ends at a command boundary: outside a transaction ([`Policy::messages_max`]) or a body
//!   ([`Session::grow_old`]). A message whose body has begun may be finished.
//!
//! Who guesses addresses waits for each refusal: the session says how long with the reply, the shell waits.

mod answers;
mod bodies;
mod commands;
mod refused;
#[cfg(test)]
mod tests;
mod turned_away;

use super::Fault;
use super::command::Mail;
use super::data::{ChunkCounter, DataScanner};
use super::reply::{Blame, Outcome, Reply};
use crate::mail::{Address, ReceiptId, ReversePath, SessionId, TlsFacts, TransportEnvelope};
pub use refused::{RefusedBody, RefusedReason};
use std::net::SocketAddr;
use std::time::Duration;
pub use turned_away::TurnedAway;
use turned_away::{Asked, Ended};

/// How much of an over-long command line is read before the peer is given up, in octets.
const LINE_DRAIN_OCTETS_MAX: usize = 64 * 1024;
/// What is refused is read to its end if it is at most so many times as long as the largest message. A peer that sends on
/// beyond that wants no answer.
pub const DRAIN_FACTOR: u64 = 2;
/// Commands that carry no message (EHLO, NOOP, RSET, VRFY, HELP, MAIL) between two messages.
const IDLE_COMMANDS_MAX: u32 = 100;
/// Recipients in a session that may be asked for beyond those a transaction may have before they count as mistakes: a sender
/// that pipelines a long list hears about the limit only when all of it is on its way (RFC 5321 §4.5.3.1.10).
const RECIPIENTS_BEYOND_MAX: u32 = 1000;
/// How many recipients in a row are refused at once. The one behind them waits [`TARPIT_FIRST`].
const GUESSES_FREE: u32 = 2;
/// The first wait of one who guesses addresses; it doubles with every further guess.
const TARPIT_FIRST: Duration = Duration::from_secs(1);

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
    /// Messages stored over one session. Behind them MAIL is answered 421: the peer goes on over a new connection.
    pub messages_max: u64,
    /// The longest wait before a refused recipient is answered. Zero: nobody waits.
    pub tarpit_max: Duration,
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
    /// A transaction may start with a message of this many octets, if the peer declared it: see whether there is room,
    /// draw its id and call [`Session::opened`].
    Open(Option<u64>),
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
    is_favoured: bool,
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
    /// Messages stored.
    messages: u64,
    /// Recipients refused since one was accepted.
    guesses: u32,
    recipients_beyond: u32,
    /// To end when no body is under way.
    old: bool,
    refused_body: Option<RefusedBody>,
    turned_away: Option<TurnedAway>,
    /// How many were.
    turned_away_before: u32,
}

/// MAIL was accepted.
#[derive(Debug)]
struct Transaction {
    receipt_id: ReceiptId,
    reverse_path: ReversePath,
    smtputf8: bool,
    recipients: Vec<Address>,
    asked: Asked,
    octets_declared: Option<u64>,
    /// Of a body that came to its end in DATA.
    octets_received: Option<u64>,
    /// Some RCPT was refused: the answer to DATA when all were.
    no_recipient: Option<Outcome>,
    chunks: Option<Chunks>,
}

impl Transaction {
    /// A refusal for now outweighs those for good: the message may be taken when it comes again, and whoever is told 5xx at
    /// DATA does not bring it again.
    fn refused_recipient(&mut self, outcome: Outcome) {
        if self.no_recipient.is_none_or(|before| before == Outcome::NoValidRecipient) {
            let is_for_good = Reply::from(outcome).code >= 500;
            self.no_recipient = Some(if is_for_good { Outcome::NoValidRecipient } else { outcome });
        }
    }
}

/// BDAT has begun.
#[derive(Debug, Default)]
struct Chunks {
    octets: u64,
    /// The refusal was noted as a [`RefusedBody`].
    noted: bool,
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
            is_favoured: false,
            tls: None,
            helo: None,
            transaction: None,
            receipt_id: None,
            phase: Phase::Command,
            pending: Some(greeting),
            overlong: None,
            errors: 0,
            idle_commands: 0,
            messages: 0,
            guesses: 0,
            recipients_beyond: 0,
            old: false,
            refused_body: None,
            turned_away: None,
            turned_away_before: 0,
        }
    }

    /// The same with a peer of those networks that the gateway is there for, if `is_favoured`.
    pub fn favoured(self, is_favoured: bool) -> Session {
        Session { is_favoured, ..self }
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

    /// The session has lasted long enough: the next step outside a body ends it. Nothing is lost by that, since nothing of a
    /// message has come yet.
    pub fn grow_old(&mut self) {
        self.old = true;
    }

    /// The message the last reply refused for good, once. To be asked after every reply.
    pub fn take_refused_body(&mut self) -> Option<RefusedBody> {
        self.refused_body.take()
    }

    /// Looks at the octets there are and says what to do.
    pub fn step<'i>(&mut self, input: &'i [u8]) -> Step<'i> {
        if let Some(reply) = self.pending.take() {
            return Step { consumed: 0, effect: Effect::Reply(reply) };
        }
        match &self.phase {
            Phase::Command if self.old && !self.has_chunks() => {
                Step { consumed: 0, effect: self.say(Outcome::SessionTooOld) }
            }
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
        self.end_transaction(Ended::Said(outcome));
        self.phase = Phase::Closed;
        self.pending = None;
        outcome.into()
    }

    /// Says it, and ends the session whatever the table says: more is announced, or under way, than will be read.
    fn give_up_body(&mut self, outcome: Outcome, has_reception: bool) -> Effect<'static> {
        self.end_transaction(Ended::Said(outcome));
        let reply = Reply { closes: true, ..self.reply(outcome) };
        self.phase = Phase::Closed;
        if has_reception {
            self.pending = Some(reply);
            return Effect::Discard;
        }
        Effect::Reply(reply)
    }

    /// Beyond how many octets what is refused is not read any more.
    fn drain_octets_max(&self) -> u64 {
        self.policy.message_octets_max.saturating_mul(DRAIN_FACTOR)
    }

    fn say(&mut self, outcome: Outcome) -> Effect<'static> {
        Effect::Reply(self.reply(outcome))
    }

    /// The reply for an outcome; counts mistakes and ends the session where the table says so.
    fn reply(&mut self, mut outcome: Outcome) -> Reply {
        let mut reply = Reply::from(outcome);
        // More recipients than fit is no mistake: the peer sends the rest in another transaction. One who never stops
        // is wrong all the same.
        let forgiven = outcome == Outcome::TooManyRecipients && {
            self.recipients_beyond = self.recipients_beyond.saturating_add(1);
            self.recipients_beyond <= RECIPIENTS_BEYOND_MAX
        };
        if reply.blame == Blame::Peer && !forgiven {
            self.errors = self.errors.saturating_add(1);
            if self.errors > self.policy.errors_max && !reply.closes {
                outcome = Outcome::TooManyErrors;
                reply = outcome.into();
            }
        }
        if reply.closes {
            self.end_transaction(Ended::Said(outcome));
            self.phase = Phase::Closed;
        }
        reply
    }

    /// The reply to a recipient, with the wait it costs to have guessed several in a row that are not served. Ours and the
    /// operator's refusals are no guesses, and neither is one recipient too many.
    fn recipient_reply(&mut self, outcome: Outcome) -> Reply {
        let mut reply = self.reply(outcome);
        match outcome {
            Outcome::RecipientAccepted => self.guesses = 0,
            Outcome::UnknownRecipient | Outcome::RecipientForbidden | Outcome::NeedsSmtpUtf8 => {
                self.guesses = self.guesses.saturating_add(1);
                if let Some(doublings) = self.guesses.checked_sub(GUESSES_FREE + 1) {
                    let wait = TARPIT_FIRST.saturating_mul(2_u32.saturating_pow(doublings));
                    reply.delay = wait.min(self.policy.tarpit_max);
                }
            }
            _ => {}
        }
        reply
    }
}
