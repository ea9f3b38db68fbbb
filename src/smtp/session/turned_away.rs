//! Transactions that end without their message being taken: told to the shell once, when they have ended.
//!
//! What the peer gives up by itself (RSET, QUIT, EHLO) was not turned away, unless all that it asked for was refused before.

use super::{Phase, Question, RefusedReason, Session, Transaction};
use crate::mail::{Address, ReceiptId, ReversePath, SessionId};
use crate::smtp::Fault;
use crate::smtp::data::Defect;
use crate::smtp::reply::{Blame, Outcome, Reply};
use std::net::SocketAddr;

/// Addresses of RCPT that are remembered of a transaction beside those accepted: the first ones.
const REFUSED_REMEMBERED_MAX: usize = 5;

/// A transaction that ended without its message being taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnedAway {
    /// The transaction; none when it was refused at MAIL.
    pub receipt_id: Option<ReceiptId>,
    /// The connection.
    pub session_id: SessionId,
    /// Who it was with.
    pub peer: SocketAddr,
    /// The peer is of those networks that the gateway is there for.
    pub is_favoured: bool,
    /// The name the peer gave, unverified.
    pub helo: Option<String>,
    /// How many of this session were turned away before.
    pub before: u32,
    /// Code and enhanced code of the reply that did it; none when the connection broke before there was one.
    pub reply: Option<(u16, &'static str)>,
    /// Whose fault it is.
    pub blame: Blame,
    /// Why, in one word: `unknown-recipient`, `store-full`, `bare-lf` …
    pub reason: &'static str,
    /// MAIL FROM; none when it could not be read.
    pub reverse_path: Option<ReversePath>,
    /// Recipients that were accepted.
    pub accepted: Vec<Address>,
    /// The first few that were refused.
    pub refused: Vec<Address>,
    /// How many recipients were asked for.
    pub recipients: u64,
    /// The size that MAIL declared, in octets.
    pub octets_declared: Option<u64>,
    /// Octets of the body that came; none when it did not come so far.
    pub octets_received: Option<u64>,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ended {
    /// With this said to the peer.
    Said(Outcome),
    /// The peer wanted no more of it.
    ByPeer,
    /// The connection broke.
    Broken,
}

/// Recipients of a transaction that were asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    count: u64,
    refused: Vec<Address>,
    /// The refusal to tell of, if none is accepted: one for now outweighs those for good.
    refusal: Option<Outcome>,
}

impl Asked {
    /// `address`: none where it could not be read.
    pub(super) fn note(&mut self, address: Option<&Address>, outcome: Outcome) {
        self.count = self.count.saturating_add(1);
        if outcome == Outcome::RecipientAccepted {
            return;
        }
        if let Some(address) = address.filter(|_| self.refused.len() < REFUSED_REMEMBERED_MAX) {
            self.refused.push(address.clone());
        }
        let is_for_good = |outcome: Outcome| Reply::from(outcome).code >= 500;
        if self.refusal.is_none_or(|before| is_for_good(before) && !is_for_good(outcome)) {
            self.refusal = Some(outcome);
        }
    }
}

impl Transaction {
    /// What it was turned away by: `None` when it was not, `Some(None)` when the connection broke.
    fn turned_away_by(&self, ended: Ended) -> Option<Option<Outcome>> {
        let refused_chunk = self.chunks.as_ref().and_then(|chunks| chunks.refusal);
        let refused = refused_chunk.or(self.asked.refusal.filter(|_| self.recipients.is_empty()));
        match (refused, ended) {
            (Some(outcome), _) | (None, Ended::Said(outcome)) => Some(Some(outcome)),
            (None, Ended::Broken) if !self.recipients.is_empty() => Some(None),
            (None, Ended::Broken | Ended::ByPeer) => None,
        }
    }
}

impl Session {
    /// The transaction that has been turned away, once. To be asked after every reply, after a handshake and at the end.
    pub fn take_turned_away(&mut self) -> Option<TurnedAway> {
        self.turned_away.take()
    }

    /// The connection broke, or is given up; the session is over.
    pub fn broken_off(&mut self) {
        // Whether it was taken is for the reception to say, and for the log.
        if matches!(self.phase, Phase::Asked(Question::Commit)) {
            self.transaction = None;
        }
        self.end_transaction(Ended::Broken);
        self.phase = Phase::Closed;
    }

    /// Ends the transaction, if there is one.
    pub(super) fn end_transaction(&mut self, ended: Ended) {
        let (octets_received, defect) = self.body_so_far();
        let Some(transaction) = self.transaction.take() else { return };
        let Some(outcome) = transaction.turned_away_by(ended) else { return };
        let Transaction { receipt_id, reverse_path, recipients, asked, octets_declared, .. } = transaction;
        let told = self.told(outcome, defect);
        self.turned_away = Some(TurnedAway {
            receipt_id: Some(receipt_id),
            reverse_path: Some(reverse_path),
            accepted: recipients,
            refused: asked.refused,
            recipients: asked.count,
            octets_declared,
            octets_received,
            ..told
        });
    }

    /// A MAIL was refused: that, too, is a transaction.
    pub(super) fn refused_at_mail(
        &mut self,
        outcome: Outcome,
        reverse_path: Option<ReversePath>,
        octets_declared: Option<u64>,
    ) {
        let told = self.told(Some(outcome), None);
        let reason = match outcome {
            Outcome::MessageTooLarge => RefusedReason::DeclaredSize.as_str(),
            _ => told.reason,
        };
        self.turned_away = Some(TurnedAway { reverse_path, octets_declared, reason, ..told });
    }

    /// Octets of the body that have come, and what was wrong with them.
    fn body_so_far(&self) -> (Option<u64>, Option<Defect>) {
        if let Phase::Data { scanner, octets, .. } = &self.phase {
            return (Some(*octets), scanner.defect());
        }
        let Some(transaction) = &self.transaction else { return (None, None) };
        (transaction.chunks.as_ref().map(|chunks| chunks.octets).or(transaction.octets_received), None)
    }

    fn told(&mut self, outcome: Option<Outcome>, defect: Option<Defect>) -> TurnedAway {
        let before = self.turned_away_before;
        self.turned_away_before = before.saturating_add(1);
        let reply = outcome.map(Reply::from);
        TurnedAway {
            receipt_id: None,
            session_id: self.session_id,
            peer: self.peer,
            is_favoured: self.is_favoured,
            helo: self.helo.clone(),
            before,
            reply: reply.as_ref().map(|reply| (reply.code, reply.enhanced)),
            blame: reply.map_or(Blame::Nobody, |reply| reply.blame),
            reason: outcome.map_or("broken-off", |outcome| reason(outcome, defect)),
            reverse_path: None,
            accepted: Vec::new(),
            refused: Vec::new(),
            recipients: 0,
            octets_declared: None,
            octets_received: None,
        }
    }
}

/// One word for a refusal, as the log has it where it names one.
fn reason(outcome: Outcome, defect: Option<Defect>) -> &'static str {
    if let Some(reason) = RefusedReason::of(outcome, defect) {
        return reason.as_str();
    }
    match outcome {
        Outcome::UnknownCommand | Outcome::BadSyntax => "syntax",
        Outcome::LineTooLong => "line-too-long",
        Outcome::LineGarbled => "line-garbled",
        Outcome::BadSender => "bad-sender",
        Outcome::BadRecipient => "bad-recipient",
        Outcome::NeedsSmtpUtf8 => "needs-smtputf8",
        Outcome::TlsRequired => "tls-required",
        Outcome::TooManyErrors => "too-many-errors",
        Outcome::TooManyRecipients => "too-many-recipients",
        Outcome::UnknownRecipient => "unknown-recipient",
        Outcome::RecipientForbidden => "forbidden",
        Outcome::RecipientSuspended => "suspended",
        Outcome::RecipientUnclear => "recipient-unclear",
        Outcome::BareLineEnd => "bare-line-end",
        Outcome::TooSlow => "too-slow",
        Outcome::EnoughMessages => "enough-messages",
        Outcome::SessionTooOld => "session-too-old",
        Outcome::Fault(Fault::StoreFull) => "store-full",
        Outcome::Fault(Fault::StoreTrouble) => "store-trouble",
        Outcome::Fault(Fault::Busy) => "busy",
        Outcome::Fault(Fault::ShuttingDown) => "shutting-down",
        Outcome::Fault(Fault::Internal) => "internal",
        // Commands in the wrong order.
        _ => "out-of-order",
    }
}
