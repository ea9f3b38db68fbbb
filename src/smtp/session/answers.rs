//! The shell's answers to the questions among the effects.
//!
//! An answer nobody asked for is a bug of the shell: it changes nothing and ends the session, so that no
//! message can be taken or acknowledged by mistake.

use super::{Asked, Ended, Phase, Question, Session, Transaction};
use crate::mail::{Address, ReceiptId, TlsFacts};
use crate::smtp::data::DataScanner;
use crate::smtp::reply::{Outcome, Reply};
use crate::smtp::{Fault, Peer, RecipientVerdict};

impl Session {
    /// Answers [`Effect::Open`](super::Effect::Open).
    pub fn opened(&mut self, result: Result<ReceiptId, Fault>) -> Reply {
        let Phase::Asked(Question::Open(mail)) = std::mem::replace(&mut self.phase, Phase::Command) else {
            return self.unasked();
        };
        let receipt_id = match result {
            Ok(receipt_id) => receipt_id,
            Err(fault) => {
                let outcome = Outcome::Fault(fault);
                self.refused_at_mail(outcome, Some(mail.reverse_path), mail.size_octets);
                return self.reply(outcome);
            }
        };
        self.receipt_id = Some(receipt_id);
        self.transaction = Some(Transaction {
            receipt_id,
            reverse_path: mail.reverse_path,
            smtputf8: mail.smtputf8,
            recipients: Vec::new(),
            asked: Asked::default(),
            octets_declared: mail.size_octets,
            octets_received: None,
            no_recipient: None,
            chunks: None,
        });
        self.reply(Outcome::SenderAccepted)
    }

    /// The recipients accepted so far in this transaction.
    pub fn recipients(&self) -> &[Address] {
        self.transaction.as_ref().map(|transaction| transaction.recipients.as_slice()).unwrap_or_default()
    }

    /// Who the session is with.
    pub fn peer(&self) -> Peer<'_> {
        Peer {
            session_id: self.session_id,
            receipt_id: self.receipt_id,
            address: self.peer.ip(),
            tls: self.tls.as_ref(),
        }
    }

    /// Answers [`Effect::Recipient`](super::Effect::Recipient).
    pub fn recipient(&mut self, verdict: RecipientVerdict) -> Reply {
        let asked = std::mem::replace(&mut self.phase, Phase::Command);
        let (Phase::Asked(Question::Recipient(address)), Some(transaction)) = (asked, &mut self.transaction)
        else {
            return self.unasked();
        };
        transaction.asked.note(Some(&address), verdict.into());
        if verdict == RecipientVerdict::Accept {
            transaction.recipients.push(address);
        } else {
            transaction.refused_recipient(verdict.into());
        }
        self.recipient_reply(verdict.into())
    }

    /// Answers [`Effect::Begin`](super::Effect::Begin). `None`: there is nothing to say yet.
    pub fn begun(&mut self, result: Result<(), Fault>) -> Option<Reply> {
        match std::mem::replace(&mut self.phase, Phase::Command) {
            Phase::Asked(Question::BeginData) => Some(match result {
                Ok(()) => {
                    self.phase = Phase::Data { scanner: DataScanner::new(), octets: 0, refusal: None };
                    self.reply(Outcome::SendBody)
                }
                Err(fault) => {
                    self.end_transaction(Ended::Said(Outcome::Fault(fault)));
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

    /// The reception did not take the octets of [`Effect::Body`](super::Effect::Body) and has been dropped.
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

    /// Answers [`Effect::Commit`](super::Effect::Commit).
    pub fn committed(&mut self, result: Result<(), Fault>) -> Reply {
        let asked = std::mem::replace(&mut self.phase, Phase::Command);
        let (Phase::Asked(Question::Commit), Some(transaction)) = (asked, &self.transaction) else {
            return self.unasked();
        };
        match result {
            Ok(()) => {
                let receipt_id = transaction.receipt_id;
                self.transaction = None;
                self.errors = 0;
                self.idle_commands = 0;
                self.messages = self.messages.saturating_add(1);
                Reply::stored(receipt_id)
            }
            Err(fault) => {
                self.end_transaction(Ended::Said(Outcome::Fault(fault)));
                self.reply(Outcome::Fault(fault))
            }
        }
    }

    /// Answers [`Effect::StartTls`](super::Effect::StartTls): everything learned in clear is forgotten (RFC 3207 §4.2).
    pub fn tls_started(&mut self, facts: TlsFacts) {
        if !matches!(self.phase, Phase::Asked(Question::StartTls)) {
            self.phase = Phase::Closed;
            return;
        }
        self.phase = Phase::Command;
        self.tls = Some(facts);
        // Before the name is forgotten under which it was refused.
        self.end_transaction(Ended::ByPeer);
        self.helo = None;
        self.receipt_id = None;
    }

    fn unasked(&mut self) -> Reply {
        self.end_with(Outcome::Fault(Fault::Internal))
    }
}
