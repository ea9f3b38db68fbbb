//! Passwords by SASL: PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login), the same for POP3 and IMAP.
//!
//! An [`Exchange`] is begun with the mechanism and the initial response, if there is one, and is then given each line the
//! client answers with, until it has a login and a password or an error. Base64 is the business of this file: POP3 gives
//! lines as they came; who has decoded an initial response already uses [`Exchange::begin`].
//!
//! Quirk, accepted on purpose: LOGIN takes the login as an initial response, which some clients send.
//!
//! No mechanism is here that needs the server to know a password: gateway mailboxes are sealed with it.

use super::auth::Password;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use zeroize::Zeroizing;

/// Longest line that answers a challenge, line end included: RFC 4616 §2 allows three names of 255 octets, which is 1,024 in
/// base64; LOGIN needs less.
pub const ANSWER_OCTETS_MAX: usize = 1026;

/// How a client gives its password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// Login and password in one answer.
    Plain,
    /// Asked for one after the other.
    Login,
}

impl Mechanism {
    /// Every mechanism there is, in the order in which they are advertised.
    pub const ALL: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];

    /// The mechanism of this name, in any case.
    pub fn named(name: &str) -> Option<Mechanism> {
        Mechanism::ALL.into_iter().find(|mechanism| mechanism.as_str().eq_ignore_ascii_case(name))
    }

    /// Its name (RFC 4422 §3.1).
    pub fn as_str(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
        }
    }
}

/// What is wrong with an exchange, which is over then. The client's fault; no password was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslError {
    /// The client called it off.
    Cancelled,
    /// Not base64, or too much of it.
    Encoding,
    /// Not what the mechanism says, or not UTF-8.
    Malformed,
    /// It wants to act for somebody else than it logs in as.
    Authzid,
}

impl SaslError {
    /// What to tell the client.
    pub fn as_str(self) -> &'static str {
        match self {
            SaslError::Cancelled => "authentication cancelled",
            SaslError::Encoding => "answer is not base64",
            SaslError::Malformed => "answer is not what the mechanism says",
            SaslError::Authzid => "cannot act for another login",
        }
    }
}

impl fmt::Display for SaslError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for SaslError {}

/// What follows in an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Ask with this text, in base64 already, maybe empty: POP3 `+ text`, IMAP `+ text`. The blank belongs there.
    Challenge(&'static str),
    /// It is complete: check these.
    Credentials(String, Password),
}

/// An exchange that waits for the client.
#[derive(Debug, PartialEq, Eq)]
pub struct Exchange {
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Plain,
    Login,
    Password { login: String },
}

impl Exchange {
    /// Begins an exchange; `initial` is the initial response, decoded.
    ///
    /// # Errors
    /// [`SaslError`].
    pub fn begin(mechanism: Mechanism, initial: Option<&[u8]>) -> Result<(Exchange, Turn), SaslError> {
        let state = match mechanism {
            Mechanism::Plain => State::Plain,
            Mechanism::Login => State::Login,
        };
        let mut exchange = Exchange { state };
        let turn = match initial {
            Some(decoded) => exchange.answer(decoded)?,
            None => Turn::Challenge(exchange.challenge()),
        };
        Ok((exchange, turn))
    }

    /// Takes the line that answers the challenge, with or without its line end.
    ///
    /// # Errors
    /// [`SaslError`]; the exchange is over then.
    pub fn line(&mut self, line: &[u8]) -> Result<Turn, SaslError> {
        let decoded = decode(line)?;
        self.answer(&decoded)
    }

    fn answer(&mut self, decoded: &[u8]) -> Result<Turn, SaslError> {
        match &mut self.state {
            State::Plain => plain(decoded).map(|(login, password)| Turn::Credentials(login, password)),
            State::Login => {
                let login = name(decoded)?.to_owned();
                self.state = State::Password { login };
                Ok(Turn::Challenge(self.challenge()))
            }
            State::Password { login } => {
                let password = secret(decoded)?;
                Ok(Turn::Credentials(std::mem::take(login), password))
            }
        }
    }

    fn challenge(&self) -> &'static str {
        match self.state {
            State::Plain => "",
            // "Username:" and "Password:"; clients know no other words.
            State::Login => "VXNlcm5hbWU6",
            State::Password { .. } => "UGFzc3dvcmQ6",
        }
    }
}

/// Reads the message of PLAIN: `[authzid] NUL login NUL password` (RFC 4616 §2).
///
/// # Errors
/// [`SaslError::Malformed`] or [`SaslError::Authzid`].
pub fn plain(decoded: &[u8]) -> Result<(String, Password), SaslError> {
    let mut fields = decoded.split(|octet| *octet == 0);
    let (Some(authzid), Some(login), Some(password), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(SaslError::Malformed);
    };
    let (login, password) = (name(login)?, secret(password)?);
    if !authzid.is_empty() && !authzid.eq_ignore_ascii_case(login.as_bytes()) {
        return Err(SaslError::Authzid);
    }
    Ok((login.to_owned(), password))
}

/// Decodes a line that answers a challenge, with or without its line end. Wiped when dropped.
///
/// # Errors
/// [`SaslError::Cancelled`] for `*`, [`SaslError::Encoding`].
pub fn decode(line: &[u8]) -> Result<Zeroizing<Vec<u8>>, SaslError> {
    if line.len() > ANSWER_OCTETS_MAX {
        return Err(SaslError::Encoding);
    }
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line == b"*" {
        return Err(SaslError::Cancelled);
    }
    // Room for all of it at once: what a growing buffer leaves behind is not wiped.
    let mut decoded = Zeroizing::new(vec![0; ANSWER_OCTETS_MAX]);
    let octets = STANDARD.decode_slice(line, &mut decoded).map_err(|_| SaslError::Encoding)?;
    decoded.truncate(octets);
    Ok(decoded)
}

/// A login: text without control characters, as USER takes it.
fn name(octets: &[u8]) -> Result<&str, SaslError> {
    let text = std::str::from_utf8(octets).map_err(|_| SaslError::Malformed)?;
    let text = text.trim();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(SaslError::Malformed);
    }
    Ok(text)
}

fn secret(octets: &[u8]) -> Result<Password, SaslError> {
    let text = std::str::from_utf8(octets).map_err(|_| SaslError::Malformed)?;
    if text.is_empty() || text.contains('\0') {
        return Err(SaslError::Malformed);
    }
    Ok(Password::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_plain(decoded: &[u8], expect: Result<(&str, &str), SaslError>) {
        let expect = expect.map(|(login, password)| (login.to_owned(), Password::new(password)));
        assert_eq!(plain(decoded), expect, "{:?}", String::from_utf8_lossy(decoded));
    }

    #[test]
    fn plain_is_two_nuls_with_a_login_and_a_password() {
        check_plain(b"\0a\0b", Ok(("a", "b")));
        check_plain("\0a@b\0 p\u{e4}ss ".as_bytes(), Ok(("a@b", " p\u{e4}ss ")));
        for broken in [b"".as_slice(), b"a\0b", b"\0a\0b\0", b"\0a\0b\0c", b"\0\0b", b"\0a\0", b"\0\0"] {
            check_plain(broken, Err(SaslError::Malformed));
        }
        check_plain(b"\0\xff\0b", Err(SaslError::Malformed));
        check_plain(b"\0a\0\xff", Err(SaslError::Malformed));
        check_plain(b"\0a\r\nb\0c", Err(SaslError::Malformed));
    }

    #[test]
    fn nobody_acts_for_somebody_else() {
        check_plain(b"a\0a\0b", Ok(("a", "b")));
        check_plain(b"MBX-1\0mbx-1\0b", Ok(("mbx-1", "b")));
        check_plain(b"c\0a\0b", Err(SaslError::Authzid));
        check_plain(b" \0a\0b", Err(SaslError::Authzid));
    }

    #[test]
    fn lines_are_strict_base64_within_their_limit() {
        let check = |line: &[u8], expect: Result<&[u8], SaslError>| {
            assert_eq!(decode(line).map(|decoded| decoded.to_vec()), expect.map(<[u8]>::to_vec));
        };
        check(b"AGEAYg==\r\n", Ok(b"\0a\0b"));
        check(b"AGEAYg==", Ok(b"\0a\0b"));
        check(b"\r\n", Ok(b""));
        check(b"*\r\n", Err(SaslError::Cancelled));
        for broken in ["AGEAYg", "AGEAYg=", "AGEAYh==", " AGEAYg==", "AGEA\rYg==", "**", "=", "\u{e4}"] {
            check(broken.as_bytes(), Err(SaslError::Encoding));
        }
        let full = [vec![b'A'; ANSWER_OCTETS_MAX - 2], b"\r\n".to_vec()].concat();
        check(&full, Ok(&[0; (ANSWER_OCTETS_MAX - 2) / 4 * 3]));
        check(&[b"AAAA".to_vec(), full].concat(), Err(SaslError::Encoding));
    }

    /// Answers in turn; gives the last turn.
    fn exchange(mechanism: Mechanism, initial: Option<&[u8]>, lines: &[&str]) -> Result<Turn, SaslError> {
        let (mut exchange, mut turn) = Exchange::begin(mechanism, initial)?;
        for line in lines {
            assert!(matches!(turn, Turn::Challenge(_)), "{line} comes after the end");
            turn = exchange.line(line.as_bytes())?;
        }
        Ok(turn)
    }

    #[test]
    fn an_exchange_ends_with_what_was_given() {
        let done = Ok(Turn::Credentials("a".to_owned(), Password::new("b")));
        assert_eq!(exchange(Mechanism::Plain, None, &[]), Ok(Turn::Challenge("")));
        assert_eq!(exchange(Mechanism::Plain, None, &["AGEAYg=="]), done);
        assert_eq!(exchange(Mechanism::Plain, Some(b"\0a\0b"), &[]), done);
        assert_eq!(exchange(Mechanism::Login, None, &[]), Ok(Turn::Challenge("VXNlcm5hbWU6")));
        assert_eq!(exchange(Mechanism::Login, None, &["YQ=="]), Ok(Turn::Challenge("UGFzc3dvcmQ6")));
        assert_eq!(exchange(Mechanism::Login, None, &["YQ==", "Yg==\r\n"]), done);
        assert_eq!(exchange(Mechanism::Login, Some(b"a"), &["Yg=="]), done);
    }

    #[test]
    fn an_exchange_that_breaks_off_gives_nothing() {
        assert_eq!(exchange(Mechanism::Login, None, &["YQ==", "*"]), Err(SaslError::Cancelled));
        assert_eq!(exchange(Mechanism::Login, None, &[""]), Err(SaslError::Malformed));
        assert_eq!(exchange(Mechanism::Login, None, &["YQ==", ""]), Err(SaslError::Malformed));
        assert_eq!(exchange(Mechanism::Login, None, &["YQBi"]), Err(SaslError::Malformed));
        assert_eq!(exchange(Mechanism::Plain, Some(b""), &[]), Err(SaslError::Malformed));
    }

    #[test]
    fn mechanisms_are_known_in_any_case() {
        assert_eq!(Mechanism::named("plain"), Some(Mechanism::Plain));
        assert_eq!(Mechanism::named("LOGIN"), Some(Mechanism::Login));
        assert_eq!(Mechanism::named("CRAM-MD5"), None);
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(login in "[a-z@.]{1,40}", password in "[^\0]{1,40}") {
            let line = STANDARD.encode(format!("\0{login}\0{password}"));
            let decoded = decode(line.as_bytes()).unwrap();
            prop_assert_eq!(plain(&decoded), Ok((login, Password::new(&password))));
        }
    }
}
