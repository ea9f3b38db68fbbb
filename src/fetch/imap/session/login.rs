//! Before login, and what both sides say of themselves: capabilities, ID (RFC 2971), AUTHENTICATE (RFC 3501 §6.2.2, RFC 4959).

use super::super::step::{Output, Step};
use super::messages::Doing;
use super::{CLIENT_CHARACTERS_MAX, Expect, LOGIN_ATTEMPTS_MAX, Running, Session, State, text};
use crate::fetch::auth::LoginRefusal;
use crate::fetch::folders::Account;
use crate::fetch::sasl::{self, Exchange, Mechanism, SaslError, Turn};
use crate::mail::Profile;
use imap_codec::imap_types::core::{IString, NString};

/// Most characters of either that are kept.
const ID_VALUE_CHARACTERS_MAX: usize = (CLIENT_CHARACTERS_MAX - 1) / 2;

/// What there is at all times.
const CAPABILITIES: &str =
    "CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID ENABLE IDLE NAMESPACE UIDPLUS UNSELECT CHILDREN";

impl Session {
    /// What can be done now: what TLS and login change is told by it.
    pub(super) fn capability(&self) -> String {
        let now = match (&self.state, self.encrypted) {
            (State::Stranger, false) => " STARTTLS LOGINDISABLED",
            (State::Stranger, true) => " AUTH=PLAIN AUTH=LOGIN",
            _ => "",
        };
        format!("{CAPABILITIES}{now}")
    }

    pub(super) fn authenticate(&mut self, tag: &str, mechanism: &str, initial: Option<&[u8]>) -> Step {
        let Some(mechanism) = Mechanism::named(mechanism) else {
            return Step::Reply(text::tagged(tag, "NO [CANNOT] mechanism is not offered"));
        };
        // `=` stands for one that is there and empty (RFC 4959 §3).
        let initial = initial.map(|encoded| sasl::decode(if encoded == b"=" { b"" } else { encoded }));
        let begun = initial.transpose().and_then(|decoded| {
            Exchange::begin(mechanism, decoded.as_ref().map(|decoded| decoded.as_slice()))
        });
        match begun {
            Ok((exchange, turn)) => self.turn(tag.to_owned(), exchange, turn),
            Err(error) => self.no_exchange(tag, error),
        }
    }

    /// Takes the answer to a challenge.
    pub(super) fn response(&mut self, tag: String, mut exchange: Exchange, line: &[u8]) -> Step {
        match exchange.line(line) {
            Ok(turn) => self.turn(tag, exchange, turn),
            Err(error) => self.no_exchange(&tag, error),
        }
    }

    fn turn(&mut self, tag: String, exchange: Exchange, turn: Turn) -> Step {
        match turn {
            Turn::Challenge(challenge) => {
                self.expect = Expect::Response { tag, exchange };
                Step::Challenge(format!("+ {challenge}\r\n").into_bytes())
            }
            Turn::Credentials(login, password) => {
                self.running = Some(Running { tag, doing: Doing::Login });
                Step::Login { login, password }
            }
        }
    }

    fn no_exchange(&mut self, tag: &str, error: SaslError) -> Step {
        match error {
            SaslError::Authzid => {
                Step::Reply(text::tagged(tag, "NO [AUTHORIZATIONFAILED] cannot act for another login"))
            }
            error => self.bad(tag, &error.to_string()),
        }
    }

    pub(super) fn refuse_login(&mut self, tag: &str, refusal: LoginRefusal) -> Step {
        self.login_attempts += 1;
        let answer = match refusal {
            LoginRefusal::Wrong => "NO [AUTHENTICATIONFAILED] wrong user name or password",
            LoginRefusal::InUse => "NO [INUSE] another session has this maildrop",
            LoginRefusal::TooMany => "NO [LIMIT] too many sessions in this gateway mailbox",
            _ => "NO [UNAVAILABLE] cannot log in now, try again later",
        };
        if self.login_attempts < LOGIN_ATTEMPTS_MAX {
            return Step::Reply(text::tagged(tag, answer));
        }
        self.give_up(tag, answer, "too many logins failed")
    }

    /// Takes note of who the client is, and tells who we are: to strangers not which version.
    pub(super) fn id(&mut self, tag: &str, parameters: Option<Vec<(IString<'_>, NString<'_>)>>) -> Step {
        let parameters = parameters.unwrap_or_default();
        let value = |name: &str| {
            let named =
                parameters.iter().find(|(key, _)| key.as_ref().eq_ignore_ascii_case(name.as_bytes()))?;
            let value = String::from_utf8_lossy(named.1.0.as_ref()?.as_ref()).into_owned();
            let printable = value.chars().filter(|c| !c.is_control()).take(ID_VALUE_CHARACTERS_MAX);
            Some(printable.collect::<String>()).filter(|value| !value.is_empty())
        };
        if let Some(name) = value("name") {
            self.client = Some(match value("version") {
                Some(version) => format!("{name} {version}"),
                None => name,
            });
        }
        let ours = match &self.state {
            State::LoggedIn { account, .. } => about(account),
            _ => r#""name" "Daybook""#.to_owned(),
        };
        let output: Output = format!("* ID ({ours})\r\n").into_bytes();
        Step::Reply(text::ended(output, tag, "OK pleased to meet you"))
    }
}

/// Our fields for who is logged in.
fn about(account: &Account) -> String {
    let profile = match account.profile {
        Profile::Microsoft365 => "microsoft365",
        Profile::Generic => "generic",
    };
    let role = if account.role.is_journal() { "journal" } else { "ndr" };
    format!(
        r#""name" "Daybook" "version" "{}" "profile" "{profile}" "role" "{role}" "maildrop" "{}""#,
        env!("CARGO_PKG_VERSION"),
        account.maildrop.as_str(),
    )
}
