//! Drives a session without a socket: octets in, replies out.

use super::smtp_fake::Fake;
use daybook::mail::TlsFacts;
use daybook::smtp::reply::{Outcome, Reply};
use daybook::smtp::session::{Effect, Policy, Session, Step};
use daybook::smtp::{BoxFuture, Fault, Receiver, Reception};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub(crate) struct SansIo<'f> {
    fake: &'f Fake,
    session: Session,
    reception: Option<Box<dyn Reception>>,
    unread: Vec<u8>,
    pub(crate) said: Vec<u8>,
    pub(crate) closed: bool,
    /// The session waits for [`SansIo::handshake`].
    pub(crate) wants_tls: bool,
}

pub(crate) fn policy() -> Policy {
    Policy {
        hostname: "mx.example".to_owned(),
        message_octets_max: 1_000_000,
        tls_offered: true,
        require_tls: false,
        recipients_max: 100,
        errors_max: 20,
        messages_max: 1000,
        tarpit_max: Duration::from_secs(8),
    }
}

impl<'f> SansIo<'f> {
    pub(crate) fn new(fake: &'f Fake, policy: Policy) -> SansIo<'f> {
        let session = Session::new(policy, fake.session_id(), "192.0.2.1:25".parse().unwrap());
        let mut driver = SansIo {
            fake,
            session,
            reception: None,
            unread: Vec::new(),
            said: Vec::new(),
            closed: false,
            wants_tls: false,
        };
        driver.run();
        driver
    }

    /// Shows the session more octets and carries out what it says until it wants more.
    pub(crate) fn feed(&mut self, octets: &[u8]) {
        self.unread.extend_from_slice(octets);
        self.run();
    }

    /// The handshake happened.
    pub(crate) fn handshake(&mut self) {
        assert!(self.wants_tls, "nobody asked for a handshake");
        assert!(self.unread.is_empty(), "octets received in clear would be read as if over TLS");
        self.wants_tls = false;
        let facts = TlsFacts {
            version: "TLSv1.3".to_owned(),
            cipher: "TLS_AES_256_GCM_SHA384".to_owned(),
            client_certificate: None,
        };
        self.session.tls_started(facts);
        self.run();
    }

    fn say(&mut self, reply: &Reply) {
        reply.write_to(&mut self.said);
    }

    fn run(&mut self) {
        while !self.closed && !self.wants_tls {
            let unread = std::mem::take(&mut self.unread);
            let Step { consumed, effect } = self.session.step(&unread);
            assert!(consumed <= unread.len());
            let more = self.carry_out(effect);
            self.unread = unread[consumed..].to_vec();
            if !more {
                return;
            }
        }
    }

    fn carry_out(&mut self, effect: Effect<'_>) -> bool {
        match effect {
            Effect::Input => return false,
            Effect::Reply(reply) => self.say(&reply),
            Effect::Open(octets) => {
                let reply = self.session.opened(self.fake.room(octets).map(|()| self.fake.receipt_id()));
                self.say(&reply);
            }
            Effect::Recipient(address) => {
                let (already, peer) = (self.session.recipients(), self.session.peer());
                let verdict = self.fake.recipient(&address, already, &peer);
                let reply = self.session.recipient(verdict);
                self.say(&reply);
            }
            Effect::Begin(envelope) => {
                let receipt_id = self.session.receipt_id().unwrap();
                let begun = self.fake.begin(receipt_id, envelope).map(|reception| {
                    assert!(self.reception.replace(reception).is_none(), "two receptions at once");
                });
                if let Some(reply) = self.session.begun(begun) {
                    self.say(&reply);
                }
            }
            Effect::Body([]) => {}
            Effect::Body(octets) => {
                let reception = self.reception.as_mut().expect("octets for no reception");
                if let Err(fault) = now(reception.write(octets)) {
                    self.reception = None;
                    self.session.body_failed(fault);
                }
            }
            Effect::Discard => self.reception = None,
            Effect::Commit => {
                let reception = self.reception.take().expect("commit of no reception");
                let reply = self.session.committed(now(reception.commit()));
                self.say(&reply);
            }
            Effect::StartTls => {
                self.say(&Outcome::SendHandshake.into());
                self.reception = None;
                self.wants_tls = true;
            }
            Effect::Close => {
                self.reception = None;
                self.closed = true;
            }
        }
        true
    }
}

/// The fake never waits, so neither need we.
fn now(mut future: BoxFuture<'_, Result<(), Fault>>) -> Result<(), Fault> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("the fake waits"),
    }
}
