//! Why a message was placed where it is: one line of an envelope that matched one address of one user.
//!
//! Stored with the placement and printed by `explain`. The JSON shape is kept for ever, keys are only added:
//! `{"role": "recipient", "address": s, "matched": {"user": s, "name": s, "address": s}, "via": {"list": s}|null}`, and where
//! there is something to say, `"by"` and `"held"` in `matched`, and `"field"`, `"header"` and `"report"` in the reason.

use crate::directory::Held;
use crate::mail::{RecipientField, Untrusted, WrittenAddress};
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
    /// How it matched, unless it was written just so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// By what right, unless the user had it when the mail was sent and has it still.
    #[serde(default, skip_serializing_if = "is_plain")]
    pub held: Held,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
fn is_plain(held: &Held) -> bool {
    *held == Held::Plainly
}

/// How an address matched that is not written as the directory writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// By the domain that its own stands for.
    DomainAlias,
    /// Without its plus-tag.
    PlusTag,
    /// By the domain that its own stands for, and without its plus-tag.
    DomainAliasAndPlusTag,
    /// As an X.500 name.
    X500Name,
    /// By the X.500 name that it encapsulates.
    Imceaex,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            By::DomainAlias => "by domain alias",
            By::PlusTag => "without its plus-tag",
            By::DomainAliasAndPlusTag => "by domain alias and without its plus-tag",
            By::X500Name => "by X.500 name",
            By::Imceaex => "by the X.500 name it encapsulates",
        })
    }
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
    /// The field of a recipient line; absent for `Recipient:` lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<RecipientField>,
    /// The header field that named it, where no report did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// Which report it stands in, counted from 0 and the outermost one; absent for that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<u32>,
}

/// `Recipient bob@x matched proxy address of user b1 (Bob B.), via list all@x`
///
/// A recipient is called by the field of its line. The proxy address is named when it is not the address itself.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            Some(RecipientField::To) => f.write_str("To")?,
            Some(RecipientField::Cc) => f.write_str("Cc")?,
            Some(RecipientField::Bcc) => f.write_str("Bcc")?,
            Some(RecipientField::Unspecified) | None => self.role.fmt(f)?,
        }
        write!(f, " {} matched proxy address ", Untrusted(self.address.as_str()))?;
        let Matched { user, name, address, by, held } = &self.matched;
        if by.is_some() {
            write!(f, "{} ", Untrusted(address))?;
        }
        write!(f, "of user {} ({})", Untrusted(user), Untrusted(name))?;
        if let Some(by) = by {
            write!(f, " {by}")?;
        }
        if let Some(via) = &self.via {
            write!(f, ", {via}")?;
        }
        if let Some(header) = &self.header {
            write!(f, ", named in {}", Untrusted(header))?;
        }
        if let Some(report) = self.report {
            write!(f, ", in report {} from the outside", report.saturating_add(1))?;
        }
        match held {
            Held::Plainly => Ok(()),
            Held::Until(until) => write!(f, "; {} had this address until {until}", Untrusted(name)),
            Held::Grace { gone, until } => {
                write!(f, "; {} is gone from the directory since {gone}", Untrusted(name))?;
                write!(f, " and keeps this address until {until}")
            }
            Held::Since(since) => {
                f.write_str("; nobody had this address when the mail was sent, ")?;
                write!(f, "{} has had it since {since}", Untrusted(name))
            }
        }
    }
}
