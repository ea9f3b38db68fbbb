//! Command lines: finding their end, and what each command does in each state.

use super::{Chunks, Effect, Ended, Overlong, Phase, Question, RefusedBody, RefusedReason, Session, Step};
use super::{IDLE_COMMANDS_MAX, LINE_DRAIN_OCTETS_MAX};
use crate::mail::TransportEnvelope;
use crate::smtp::command::{Command, ForwardPath, LINE_OCTETS_MAX, Mail};
use crate::smtp::reply::{Outcome, Reply};
use std::borrow::Cow;

impl Session {
    pub(super) fn command_line<'i>(&mut self, input: &'i [u8]) -> Step<'i> {
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
            Err(outcome) => {
                self.note_refused(outcome, None, 0);
                self.note_unread(line, outcome);
                self.say(outcome)
            }
        };
        Step { consumed, effect }
    }

    /// Reads on to the end of a line that is too long, remembering whether it was garbled as well: one that
    /// is must end the session like a short one.
    pub(super) fn overlong_line<'i>(&mut self, input: &'i [u8]) -> Step<'i> {
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
                self.end_transaction(Ended::ByPeer);
                self.say(Outcome::Goodbye)
            }
        }
    }

    fn hello(&mut self, name: String, extended: bool) -> Effect<'static> {
        self.helo = Some(name);
        let extensions = if extended { self.extensions() } else { Vec::new() };
        self.reset(Reply::hello(&self.policy.hostname, extensions))
    }

    fn extensions(&self) -> Vec<Cow<'static, str>> {
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
        self.end_transaction(Ended::ByPeer);
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
            return self.refuse_mail(Outcome::HelloFirst, mail);
        }
        if self.policy.require_tls && self.tls.is_none() {
            return self.refuse_mail(Outcome::TlsRequired, mail);
        }
        if self.transaction.is_some() {
            return self.say(Outcome::MailAlready);
        }
        if self.messages >= self.policy.messages_max {
            return self.refuse_mail(Outcome::EnoughMessages, mail);
        }
        if let Some(octets) = mail.size_octets.filter(|octets| *octets > self.policy.message_octets_max) {
            if self.is_favoured {
                let reason = RefusedReason::DeclaredSize;
                self.refused_body = Some(RefusedBody { receipt_id: None, reason, octets });
            }
            return self.refuse_mail(Outcome::MessageTooLarge, mail);
        }
        let size_octets = mail.size_octets;
        self.phase = Phase::Asked(Question::Open(mail));
        Effect::Open(size_octets)
    }

    fn refuse_mail(&mut self, outcome: Outcome, mail: Mail) -> Effect<'static> {
        self.refused_at_mail(outcome, Some(mail.reverse_path), mail.size_octets);
        self.say(outcome)
    }

    /// A line that cannot be read may be MAIL or RCPT all the same.
    fn note_unread(&mut self, line: &[u8], outcome: Outcome) {
        let begins_with = |verb: &[u8]| line.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(verb));
        match &mut self.transaction {
            Some(transaction) if begins_with(b"RCPT") => transaction.asked.note(None, outcome),
            None if begins_with(b"MAIL") => self.refused_at_mail(outcome, None, None),
            _ => {}
        }
    }

    fn rcpt(&mut self, path: ForwardPath) -> Effect<'static> {
        let Some(transaction) = &mut self.transaction else {
            return self.say(self.first_of_all());
        };
        if transaction.chunks.is_some() {
            return self.say(Outcome::BdatBegun);
        }
        let named = match &path {
            ForwardPath::Postmaster => None,
            ForwardPath::Address(address) => Some(address.clone()),
        };
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
        transaction.asked.note(named.as_ref(), outcome);
        transaction.refused_recipient(outcome);
        Effect::Reply(self.recipient_reply(outcome))
    }

    fn data_command(&mut self, followed: bool) -> Effect<'static> {
        // Octets sent before the 354 are a body we would read as commands if we refused DATA, or commands we
        // would read as a body if we did not.
        if followed {
            self.note_refused(Outcome::Pipelined, None, 0);
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
        let is_endless = octets > self.drain_octets_max();
        if let Some(outcome) = self.body_obstacle() {
            if is_endless {
                return self.give_up_body(outcome, false);
            }
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
        let has_reception = begun && chunks.refusal.is_none();
        if is_endless {
            let (outcome, octets) = (chunks.refusal.unwrap_or(Outcome::MessageTooLarge), chunks.octets);
            if !chunks.noted {
                self.note_refused(outcome, None, octets);
            }
            return self.give_up_body(outcome, has_reception);
        }
        if chunks.octets > limit && chunks.refusal.is_none() {
            chunks.refusal = Some(Outcome::MessageTooLarge);
            self.enter_chunk(octets, last, None);
            return if has_reception { Effect::Discard } else { Effect::Body(&[]) };
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
            Some(transaction) => Some(transaction.no_recipient.unwrap_or(Outcome::RecipientFirst)),
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
            pulled: None,
        };
        self.phase = Phase::Asked(question);
        Effect::Begin(envelope)
    }

    pub(super) fn chunks(&mut self) -> Option<&mut Chunks> {
        self.transaction.as_mut().and_then(|transaction| transaction.chunks.as_mut())
    }

    pub(super) fn has_chunks(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.chunks.is_some())
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
