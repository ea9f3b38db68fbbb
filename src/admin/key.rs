//! Opening a gateway mailbox for an admin: with its password or an escrow identity, and on record.

use super::Context;
use super::gateway_mailboxes::resolve;
use super::request::OpError;
use crate::mail::{GatewayMailbox, GatewayMailboxId};
use crate::store::{EscrowIdentity, KeyringSecret, Opened, UnlockError, Unlocked};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroizing;

/// Most keys that one request may give.
pub(super) const KEYS_GIVEN_MAX: usize = 16;

/// What opens a gateway mailbox. Wiped when dropped, and in no log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Key {
    /// Its password.
    Password(Zeroizing<String>),
    /// The text of an `age` identity file that holds an escrow identity.
    Identity(#[serde(with = "super::wiped::lines")] Zeroizing<String>),
}

/// A password that is to be put in force. Wiped when dropped, and in no log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NewPassword(Zeroizing<String>);

impl NewPassword {
    /// Takes what was drawn.
    pub fn new(password: Zeroizing<String>) -> NewPassword {
        NewPassword(password)
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewPassword(…)")
    }
}

impl Key {
    /// What it is, for the record.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Key::Password(_) => "password",
            Key::Identity(_) => "escrow identity",
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.kind())
    }
}

/// Opens `mailbox` for this purpose. Blocks for as long as a login.
///
/// # Errors
/// [`OpError::Refused`] when the key is not the right one; [`OpError::Usage`] when it is none at all.
pub(super) fn open(
    context: &Context,
    actor: &str,
    mailbox: &GatewayMailbox,
    key: &Key,
    purpose: &'static str,
) -> Result<Unlocked, OpError> {
    let opened = match key {
        Key::Password(password) => context.store.unlock(mailbox.login(), password),
        Key::Identity(text) => context.store.unlock_with_identity(mailbox.id, &identity(text)?),
    };
    told(opened, mailbox, std::slice::from_ref(key), purpose, actor)
}

fn identity(text: &str) -> Result<EscrowIdentity, OpError> {
    EscrowIdentity::parse(text).map_err(|why| OpError::Usage(format!("the identity file is not one: {why}")))
}

/// Opens every keyring of `mailbox` that these keys open, former ones too, for this purpose. Blocks for as long as a login for each
/// of both.
///
/// # Errors
/// As [`open`]; each of the keys must open one.
pub(super) fn open_all(
    context: &Context,
    actor: &str,
    mailbox: &GatewayMailbox,
    keys: &[Key],
    purpose: &'static str,
) -> Result<Opened, OpError> {
    let open = |secrets: &[KeyringSecret<'_>]| context.store.open_keyrings(mailbox.id, secrets);
    open_all_by(actor, mailbox, keys, purpose, &open)
}

/// The same by whatever opens keyrings.
pub(super) fn open_all_by(
    actor: &str,
    mailbox: &GatewayMailbox,
    keys: &[Key],
    purpose: &'static str,
    open: &dyn Fn(&[KeyringSecret<'_>]) -> Result<Opened, UnlockError>,
) -> Result<Opened, OpError> {
    let mut identities = Vec::with_capacity(keys.len());
    for key in keys {
        if let Key::Identity(text) = key {
            identities.push(identity(text)?);
        }
    }
    let passwords = keys.iter().filter_map(|key| match key {
        Key::Password(password) => Some(KeyringSecret::Password(password)),
        Key::Identity(_) => None,
    });
    let secrets: Vec<_> = passwords.chain(identities.iter().map(KeyringSecret::Identity)).collect();
    told(open(&secrets), mailbox, keys, purpose, actor)
}

/// Logs what came of opening `mailbox`, and words why it was not opened.
fn told<T>(
    opened: Result<T, UnlockError>,
    mailbox: &GatewayMailbox,
    keys: &[Key],
    purpose: &'static str,
    actor: &str,
) -> Result<T, OpError> {
    let (login, mailbox_id) = (mailbox.login(), mailbox.id);
    let by = keys.first().map_or("", Key::kind);
    match opened {
        Ok(opened) => {
            tracing::info!(event = "keys.opened", mailbox = login, %mailbox_id, by, purpose, actor);
            Ok(opened)
        }
        Err(UnlockError::Wrong) => {
            tracing::warn!(event = "keys.refused", mailbox = login, %mailbox_id, by, purpose, actor);
            Err(OpError::Refused(match keys {
                [Key::Password(_)] => format!("this is not the password of gateway mailbox {login}"),
                [Key::Identity(_)] => format!(
                    "gateway mailbox {login} is not wrapped to this escrow identity; \
                     \"daybook mailbox show {login}\" tells to which it is"
                ),
                _ => format!("not all of these open gateway mailbox {login}, or ever did"),
            }))
        }
        Err(UnlockError::Unavailable(error)) => Err(error.into()),
    }
}

/// Wraps a gateway mailbox to the escrow recipients that cannot open it yet. Blocks.
pub(super) fn add_escrow(
    context: &Context,
    actor: &str,
    named: &str,
    key: &Key,
) -> Result<GatewayMailboxId, OpError> {
    let mailbox = resolve(context, named)?;
    if context.settings.current().keys.escrow.is_empty() {
        return Err(OpError::Refused("no escrow recipient is configured: see [keys] escrow".to_owned()));
    }
    let unlocked = open(context, actor, &mailbox, key, "escrow")?;
    let recipients = context.store.add_escrow(&unlocked)?;
    if recipients > 0 {
        let (login, mailbox_id) = (mailbox.login(), mailbox.id);
        tracing::info!(event = "keys.escrowed", mailbox = login, %mailbox_id, recipients, actor);
    }
    Ok(mailbox.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_goes_over_the_wire_as_lines_that_need_no_escapes() {
        let key = Key::Identity(Zeroizing::new("# key of\nAGE-SECRET-KEY-1X\n".to_owned()));
        let wire = serde_json::to_string(&key).unwrap();
        assert!(!wire.contains('\\') && wire.contains("\"AGE-SECRET-KEY-1X\""), "{wire}");
        assert!(serde_json::from_str::<Key>(&wire).unwrap() == key);
    }
}
