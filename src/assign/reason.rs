//! Why a message was placed where it is: one line of an envelope that matched one address of one user.
//!
//! Stored with the placement and printed by `explain`. The JSON shape is kept for ever:
//! `{"role": "recipient", "address": s, "matched": {"user": s, "name": s, "address": s}, "via": {"list": s}|null}`.

use crate::mail::{Untrusted, WrittenAddress};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What an address was to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// `Sender:`
    Sender,
    /// `On-Behalf-Of:`
    OnBehalfOf,
    /// `To:`, `Cc:`, `Bcc:` or `Recipient:`
    Recipient,
    /// The user whose mail was forwarded to a recipient.
    ForwardingUser,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Sender => "Sender",
            Role::OnBehalfOf => "On-Behalf-Of",
            Role::Recipient => "Recipient",
            Role::ForwardingUser => "Forwarding user",
        })
    }
}

/// The way a message took to an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// Member of this list.
    List(WrittenAddress),
    /// This user's mail is forwarded to the address.
    ForwardedBy(WrittenAddress),
    /// The address's mail is forwarded to this one.
    ForwardedTo(WrittenAddress),
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Via::List(list) => write!(f, "via list {}", Untrusted(list.as_str())),
            Via::ForwardedBy(user) => write!(f, "forwarded by {}", Untrusted(user.as_str())),
            Via::ForwardedTo(target) => write!(f, "forwarded to {}", Untrusted(target.as_str())),
        }
    }
}

/// The user whose address it was, as the directory had it at that time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Matched {
    /// The directory's id.
    pub user: String,
    /// The user's name.
    pub name: String,
    /// The proxy address that matched, as the directory writes it.
    pub address: String,
}

/// One line that led to a placement.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reason {
    /// What the address was to the message.
    pub role: Role,
    /// The address, as the report wrote it.
    pub address: WrittenAddress,
    /// Whose it is.
    pub matched: Matched,
    /// How it came there, unless directly.
    #[serde(default)]
    pub via: Option<Via>,
}

/// `Recipient bob@x matched proxy address of user b1 (Bob B.), via list all@x`
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Matched { user, name, .. } = &self.matched;
        write!(f, "{} {} matched proxy address of user ", self.role, Untrusted(self.address.as_str()))?;
        write!(f, "{} ({})", Untrusted(user), Untrusted(name))?;
        match &self.via {
            Some(via) => write!(f, ", {via}"),
            None => Ok(()),
        }
    }
}
