//! A command from its first line to the room it belongs to: its literals asked for or refused, its state checked.

use super::super::step::{Output, Step};
use super::assembly::{Announced, Gathered};
use super::messages::Doing;
use super::parse::{self, Said};
use super::{
    COMMAND_OCTETS_MAX, LITERAL_OCTETS_MAX, Running, STRANGER_COMMAND_OCTETS_MAX,
    STRANGER_LITERAL_OCTETS_MAX, Session, State, refused, text,
};
use imap_codec::imap_types::IntoStatic;
use imap_codec::imap_types::command::CommandBody;

impl Session {
    /// Takes a line of a command.
    pub(super) fn command_line(&mut self, line: &[u8]) -> Step {
        let octets_max = if self.is_logged_in() { COMMAND_OCTETS_MAX } else { STRANGER_COMMAND_OCTETS_MAX };
        match self.assembly.line(line, octets_max) {
            Gathered::Literal(announced) => self.announced(announced, octets_max),
            Gathered::Whole => {
                let whole = std::mem::take(&mut self.assembly);
                match parse::tag(whole.octets()) {
                    Some((tag, _)) if whole.holds_nul() => self.bad(tag, "NUL is not allowed in a literal"),
                    Some((tag, rest)) => self.command(tag, whole.octets(), rest),
                    None => self.bad("*", "a command begins with a tag"),
                }
            }
            Gathered::TooLong => {
                let whole = std::mem::take(&mut self.assembly);
                let tag = parse::tag(whole.octets()).map_or("*", |(tag, _)| tag).to_owned();
                self.give_up(&tag, "BAD [LIMIT] too long", "command is too long")
            }
        }
    }

    /// A literal is to come: it is asked for, refused before it is sent, or, if it comes unasked and is too long, the end.
    fn announced(&mut self, announced: Announced, octets_max: usize) -> Step {
        let literal_max = if self.is_logged_in() { LITERAL_OCTETS_MAX } else { STRANGER_LITERAL_OCTETS_MAX };
        let room = octets_max.saturating_sub(self.assembly.len());
        let octets = usize::try_from(announced.octets).unwrap_or(usize::MAX);
        let is_too_long = octets > literal_max.min(room);
        if announced.waits {
            let so_far = std::mem::take(&mut self.assembly);
            let Some((tag, rest)) = parse::tag(so_far.octets()) else {
                return self.bad("*", "a command begins with a tag");
            };
            // Neither is done whatever the literal says: best it is not sent.
            if let Some(step) = self.clear_refused(tag, rest) {
                return step;
            }
            if parse::is(rest, "APPEND") {
                return self.command_said(tag, Said::Append);
            }
            if is_too_long {
                return self.bad(tag, "[TOOBIG] literal is too long");
            }
            self.assembly = so_far;
        } else if is_too_long {
            let tag = parse::tag(self.assembly.octets()).map_or("*", |(tag, _)| tag).to_owned();
            return self.give_up(&tag, "BAD [TOOBIG] too long", "literal is too long to be thrown away");
        }
        let send = if announced.waits { b"+ go on\r\n".to_vec() } else { Output::new() };
        // Nothing is to be read: the command goes on with the next line.
        if octets == 0 { Step::Reply(send) } else { Step::Literal { send, octets } }
    }

    fn command(&mut self, tag: &str, whole: &[u8], rest: &[u8]) -> Step {
        if let Some(step) = self.clear_refused(tag, rest) {
            return step;
        }
        match parse::command(whole, rest) {
            Ok(said) => self.command_said(tag, said),
            Err(wrong) => self.bad(tag, wrong),
        }
    }

    /// Credentials in clear are refused by what the command is called, however it goes on.
    fn clear_refused(&self, tag: &str, rest: &[u8]) -> Option<Step> {
        let has_credentials = parse::is(rest, "LOGIN") || parse::is(rest, "AUTHENTICATE");
        (!self.encrypted && has_credentials).then(|| {
            let answer = "NO [PRIVACYREQUIRED] no credentials in clear, begin TLS with STARTTLS first";
            Step::ClearRefused(text::tagged(tag, answer))
        })
    }

    fn command_said(&mut self, tag: &str, said: Said<'_>) -> Step {
        let step = match (said, &self.state) {
            (Said::Other(CommandBody::Capability), _) => {
                let output = format!("* {}\r\n", self.capability()).into_bytes();
                Ok(Step::Reply(text::ended(output, tag, "OK done")))
            }
            (Said::Other(CommandBody::Noop), State::Stranger) => {
                Ok(Step::Reply(text::tagged(tag, "OK done")))
            }
            (Said::Other(CommandBody::Logout), _) => {
                self.state = State::Ended { logged_out: self.is_logged_in() };
                Ok(Step::Close(text::ended(b"* BYE logging out\r\n".to_vec(), tag, "OK bye")))
            }
            (Said::Other(CommandBody::Id { parameters }), _) => Ok(self.id(tag, parameters)),
            (Said::Other(CommandBody::StartTLS), State::Stranger) if !self.encrypted => {
                Ok(Step::StartTls(text::tagged(tag, "OK begin TLS")))
            }
            (Said::Other(CommandBody::StartTLS), _) => Err("TLS is active already"),
            (Said::Login { login, password }, State::Stranger) => {
                self.running = Some(Running { tag: tag.to_owned(), doing: Doing::Login });
                Ok(Step::Login { login, password })
            }
            (Said::Authenticate { mechanism, initial }, State::Stranger) => {
                return self.authenticate(tag, mechanism, initial);
            }
            (Said::Login { .. } | Said::Authenticate { .. }, _) => Err("logged in already"),
            (_, State::Stranger) => Err("log in first"),
            (Said::Append, _) => Ok(refused(tag)),
            (Said::Other(body), _) => self.when_logged_in(tag, body.into_static()),
        };
        match step {
            Ok(step) => {
                self.bad_commands = 0;
                step
            }
            Err(wrong) => self.bad(tag, wrong),
        }
    }
}
