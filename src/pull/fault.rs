//! Why a run of a puller came to nothing, and what to do about it.

use crate::mail::Untrusted;
use crate::net::dial::DialError;
use crate::net::wire::WireError;
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::fmt;

/// Longest text of a server that is kept, in characters: an answer is a line for a person.
const SAID_CHARACTERS_MAX: usize = 300;

/// What went wrong, for those who count and for those who show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The server does not answer, broke the connection off or took too long. May pass.
    Unreachable,
    /// Its certificate is not good for its name, or it speaks no TLS. The operator's, here or there.
    Tls,
    /// It does not let this login in. The operator's.
    Login,
    /// It lets the login in and does not give it this mailbox (Exchange Online). The operator's.
    NotConnected,
    /// The password, secret or token cannot be had. The operator's.
    Credential,
    /// It says something that is no answer, or offers less than is needed.
    Protocol,
    /// It does not give a message, or not let it be deleted or marked. The others are seen to. The operator's, there.
    Message,
    /// The gateway mailbox to fetch into is not there, is suspended, or is no NDR mailbox. The operator's.
    Mailbox,
    /// The store does not take mail now: full, or in trouble.
    Store,
    /// What was fetched already cannot be read or written. The operator's.
    State,
}

impl FaultKind {
    /// Every value.
    pub const ALL: [FaultKind; 10] = [
        FaultKind::Unreachable,
        FaultKind::Tls,
        FaultKind::Login,
        FaultKind::NotConnected,
        FaultKind::Credential,
        FaultKind::Protocol,
        FaultKind::Message,
        FaultKind::Mailbox,
        FaultKind::Store,
        FaultKind::State,
    ];

    /// The name used in logs, metrics and output.
    pub fn as_str(self) -> &'static str {
        match self {
            FaultKind::Unreachable => "unreachable",
            FaultKind::Tls => "tls",
            FaultKind::Login => "login",
            FaultKind::NotConnected => "not-connected",
            FaultKind::Credential => "credential",
            FaultKind::Protocol => "protocol",
            FaultKind::Message => "message",
            FaultKind::Mailbox => "mailbox",
            FaultKind::Store => "store",
            FaultKind::State => "state",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            FaultKind::Unreachable => "check host, port and firewall; it is tried again by itself",
            FaultKind::Tls => {
                "the certificate must bear the configured host name; one of an authority of your own needs ca_file"
            }
            FaultKind::Login => "check login and password by hand; it is tried again ever more seldom",
            FaultKind::NotConnected => NOT_CONNECTED,
            FaultKind::Credential => "see that the server can read the secret and that nobody else can",
            FaultKind::Protocol => "is this the right port, and an IMAP or POP3 server?",
            FaultKind::Message => "look at this message by hand; the others are fetched",
            FaultKind::Mailbox => {
                "a puller needs an active gateway mailbox with role ndr: see daybook mailbox list"
            }
            FaultKind::Store => "nothing is lost, the mail stays at the account; see daybook status",
            FaultKind::State => {
                "see to data_dir/pull; without its file everything is looked at again, and adds nothing twice"
            }
        }
    }
}

/// Exchange Online lets the application in, and it may not open the mailbox.
const NOT_CONNECTED: &str = "the application may not open this mailbox: in Exchange Online PowerShell run New-ServicePrincipal, then \
    Add-MailboxPermission -AccessRights FullAccess, both with the object id of the Enterprise application (not of the app \
    registration), and wait up to an hour";

/// Why a run ended before its work was done. Nothing is lost by it: what is not stored here stays at the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What went wrong.
    pub kind: FaultKind,
    /// How, in words; text of the server is made harmless.
    pub text: String,
    /// What to do about it.
    pub advice: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Fault {}

impl Fault {
    /// A fault with the advice that goes with its kind.
    pub fn new(kind: FaultKind, text: impl Into<String>) -> Fault {
        Fault { kind, text: text.into(), advice: kind.advice().to_owned() }
    }

    /// It is of single messages: the visit did the rest of its work.
    pub(super) fn is_aside(&self) -> bool {
        self.kind == FaultKind::Message
    }

    pub(super) fn advised(self, advice: impl Into<String>) -> Fault {
        Fault { advice: advice.into(), ..self }
    }

    /// At login, or when the folder is opened. There Exchange Online says this, too, of a mailbox that it does not give; later it
    /// says it of single messages.
    pub(super) fn at_the_door(self) -> Fault {
        match self.text.to_ascii_lowercase().contains("command error. 12") {
            true => Fault::new(FaultKind::NotConnected, self.text),
            false => self,
        }
    }

    pub(super) fn protocol(text: impl Into<String>) -> Fault {
        Fault::new(FaultKind::Protocol, text)
    }

    /// The server said no. `what` was asked of it.
    pub(super) fn said(kind: FaultKind, what: &str, said: &str) -> Fault {
        // Exchange Online says so at the first command that needs the mailbox.
        let kind = match said.to_ascii_lowercase().contains("authenticated but not connected") {
            true => FaultKind::NotConnected,
            false => kind,
        };
        Fault::new(kind, format!("{what}: the server says {}", shown(said)))
    }
}

/// Text of a server, short and harmless.
pub(super) fn shown(said: &str) -> String {
    let short: String = said.trim().chars().take(SAID_CHARACTERS_MAX).collect();
    format!("\"{}\"", Untrusted(&short))
}

impl From<WireError> for Fault {
    fn from(error: WireError) -> Fault {
        match &error {
            WireError::Endless => Fault::protocol("the server sent a line that does not end"),
            WireError::Full => Fault::protocol("the server sent more than it was asked for"),
            WireError::Io(cause) => Fault::new(FaultKind::Unreachable, format!("{error}: {cause}")),
            WireError::Closed | WireError::Deadline => Fault::new(FaultKind::Unreachable, error.to_string()),
        }
    }
}

impl From<DialError> for Fault {
    fn from(error: DialError) -> Fault {
        let kind = match &error {
            DialError::Tls(_) => FaultKind::Tls,
            DialError::Unknown(_) | DialError::Unreachable(_) => FaultKind::Unreachable,
        };
        Fault::new(kind, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exchange_online_says_of_a_missing_permission_is_explained() {
        for said in ["BAD User is authenticated but not connected.", "BAD Command Error. 12"] {
            let fault = Fault::said(FaultKind::Protocol, "SELECT", said).at_the_door();
            assert_eq!(fault.kind, FaultKind::NotConnected);
            assert!(fault.advice.contains("Add-MailboxPermission"), "{}", fault.advice);
        }
        let fault = Fault::said(FaultKind::Protocol, "UID FETCH", "Command Error. 12");
        assert_eq!(fault.kind, FaultKind::Protocol, "a message, and not the mailbox");
        let fault = Fault::said(FaultKind::Login, "LOGIN", &format!("NO \u{1b}[2J{}", "x".repeat(5000)));
        assert_eq!(fault.kind, FaultKind::Login);
        assert!(fault.text.len() < 500 && !fault.text.contains('\u{1b}'), "{}", fault.text);
    }
}
