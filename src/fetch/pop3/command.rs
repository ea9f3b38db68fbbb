//! Command lines of POP3 (RFC 1939 §3, RFC 2449 §4, RFC 5034 §4): from octets to [`Command`], nothing else.
//!
//! Numbers too large to hold become the largest there is: `TOP 1 99999999999999999999` means the whole message,
//! and no maildrop has that many messages, so a message number that large is simply not there.

use crate::fetch::auth::Password;
use crate::fetch::sasl::Mechanism;

/// Longest command line taken, line end included. RFC 2449 §4 asks for 255; passwords may be long.
pub const COMMAND_OCTETS_MAX: usize = 512;

/// A command with its arguments. Message numbers are as sent: they may be 0 or name no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// What can you do?
    Capa,
    /// Begin TLS.
    Stls,
    /// User name.
    User(String),
    /// Password.
    Pass(Password),
    /// Login by SASL; nothing: which mechanisms are there?
    Auth(Option<Auth>),
    /// How many messages, how many octets?
    Stat,
    /// Size of one or all.
    List(Option<u64>),
    /// Unique name of one or all.
    Uidl(Option<u64>),
    /// Send a message.
    Retr(u64),
    /// Send a message's header and some lines of its body.
    Top {
        /// Message number.
        number: u64,
        /// Lines of the body.
        lines: u64,
    },
    /// Mark as deleted.
    Dele(u64),
    /// Take all such marks off.
    Rset,
    /// Nothing.
    Noop,
    /// End; what is marked goes.
    Quit,
}

/// How a login by SASL begins (RFC 5034 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// `None`: one we do not know.
    pub mechanism: Option<Mechanism>,
    /// The initial response in base64, empty where `=` was sent. It may hold the password.
    pub initial: Option<Password>,
}

/// What is wrong with a line. The client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// Not text, or no command we know.
    Unknown,
    /// A known command with the wrong arguments.
    Arguments,
}

impl Command {
    /// Reads a line, with or without its line end.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn parse(line: &[u8]) -> Result<Command, CommandError> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = std::str::from_utf8(line).map_err(|_| CommandError::Unknown)?;
        if text.chars().any(char::is_control) {
            return Err(CommandError::Unknown);
        }
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let verb = verb.to_ascii_uppercase();
        match verb.as_str() {
            "PASS" if rest.is_empty() => Err(CommandError::Arguments),
            "PASS" => Ok(Command::Pass(Password::new(rest))),
            "USER" if rest.trim().is_empty() => Err(CommandError::Arguments),
            "USER" => Ok(Command::User(rest.trim().to_owned())),
            "AUTH" => Command::auth(rest),
            _ => Command::with_numbers(&verb, rest),
        }
    }

    fn auth(rest: &str) -> Result<Command, CommandError> {
        let mut arguments = rest.split(' ').filter(|argument| !argument.is_empty());
        match (arguments.next(), arguments.next(), arguments.next()) {
            (None, ..) => Ok(Command::Auth(None)),
            (Some(name), initial, None) => {
                let initial = initial.map(|text| Password::new(if text == "=" { "" } else { text }));
                Ok(Command::Auth(Some(Auth { mechanism: Mechanism::named(name), initial })))
            }
            _ => Err(CommandError::Arguments),
        }
    }

    fn with_numbers(verb: &str, rest: &str) -> Result<Command, CommandError> {
        let mut arguments = rest.split(' ').filter(|argument| !argument.is_empty());
        let numbers = (arguments.next().map(number), arguments.next().map(number), arguments.next());
        let command = match (verb, numbers) {
            ("CAPA", (None, ..)) => Command::Capa,
            ("STLS", (None, ..)) => Command::Stls,
            ("STAT", (None, ..)) => Command::Stat,
            ("RSET", (None, ..)) => Command::Rset,
            ("NOOP", (None, ..)) => Command::Noop,
            ("QUIT", (None, ..)) => Command::Quit,
            ("LIST", (one, None, _)) => Command::List(one.transpose()?),
            ("UIDL", (one, None, _)) => Command::Uidl(one.transpose()?),
            ("RETR", (Some(one), None, _)) => Command::Retr(one?),
            ("DELE", (Some(one), None, _)) => Command::Dele(one?),
            ("TOP", (Some(one), Some(lines), None)) => Command::Top { number: one?, lines: lines? },
            ("CAPA" | "STLS" | "STAT" | "RSET" | "NOOP" | "QUIT", _)
            | ("LIST" | "UIDL" | "RETR" | "DELE" | "TOP", _) => return Err(CommandError::Arguments),
            _ => return Err(CommandError::Unknown),
        };
        Ok(command)
    }
}

/// Digits only: `u64::from_str` would take a sign.
fn number(text: &str) -> Result<u64, CommandError> {
    if text.is_empty() || !text.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(CommandError::Arguments);
    }
    Ok(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(line: &str, expect: Result<Command, CommandError>) {
        for end in ["", "\n", "\r\n"] {
            assert_eq!(Command::parse(format!("{line}{end}").as_bytes()), expect, "{line:?}{end:?}");
        }
    }

    #[test]
    fn reads_commands_in_any_case() {
        check("CAPA", Ok(Command::Capa));
        check("quit ", Ok(Command::Quit));
        check("List", Ok(Command::List(None)));
        check("LIST 7", Ok(Command::List(Some(7))));
        check("uidl  007 ", Ok(Command::Uidl(Some(7))));
        check("TOP 1 0", Ok(Command::Top { number: 1, lines: 0 }));
        check("USER mbx-1@gateway.example ", Ok(Command::User("mbx-1@gateway.example".to_owned())));
    }

    #[test]
    fn keeps_every_character_of_a_password() {
        check("PASS  two words ", Ok(Command::Pass(Password::new(" two words "))));
        check("pass ü", Ok(Command::Pass(Password::new("ü"))));
        assert!(!format!("{:?}", Command::parse(b"PASS secret\r\n")).contains("secret"));
    }

    #[test]
    fn reads_how_a_login_by_sasl_begins() {
        let auth = |mechanism, initial: Option<&str>| {
            Ok(Command::Auth(Some(Auth { mechanism, initial: initial.map(Password::new) })))
        };
        check("AUTH", Ok(Command::Auth(None)));
        check("auth ", Ok(Command::Auth(None)));
        check("AUTH plain", auth(Some(Mechanism::Plain), None));
        check("AUTH LOGIN =", auth(Some(Mechanism::Login), Some("")));
        check("AUTH PLAIN AGEAYg==", auth(Some(Mechanism::Plain), Some("AGEAYg==")));
        check("AUTH CRAM-MD5", auth(None, None));
        check("AUTH PLAIN a b", Err(CommandError::Arguments));
        assert!(!format!("{:?}", Command::parse(b"AUTH PLAIN AGEAYg==")).contains("AGEAYg"));
    }

    #[test]
    fn caps_numbers_that_are_too_large() {
        check("TOP 1 99999999999999999999999", Ok(Command::Top { number: 1, lines: u64::MAX }));
        check("RETR 18446744073709551616", Ok(Command::Retr(u64::MAX)));
    }

    #[test]
    fn refuses_wrong_arguments() {
        for line in
            ["RETR", "RETR -1", "RETR +1", "RETR 1x", "RETR 1 2", "TOP 1", "TOP 1 2 3", "LIST a", "STAT 1"]
        {
            check(line, Err(CommandError::Arguments));
        }
        for line in ["USER", "USER  ", "PASS", "PASS ", "QUIT now", "DELE \u{661}"] {
            check(line, Err(CommandError::Arguments));
        }
    }

    #[test]
    fn refuses_what_is_no_command() {
        for line in
            ["", " ", " STAT", "STATS", "GET / HTTP/1.1", "APOP a b", "RETR\t1", "NOOP\0", "NOOP\rQUIT"]
        {
            check(line, Err(CommandError::Unknown));
        }
        assert_eq!(Command::parse(b"USER \xff\r\n"), Err(CommandError::Unknown));
    }

    proptest! {
        #[test]
        fn never_panics(line in prop::collection::vec(any::<u8>(), 0..64)) {
            let parsed = Command::parse(&line);
            prop_assert!(parsed.is_ok() || parsed.is_err());
        }
    }
}
