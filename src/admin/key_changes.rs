//! Other keys and passwords for a gateway mailbox, and handing its keys out.
//!
//! A new password is drawn by whoever asks and given along, so that it is known to a person before it is in force: what came of
//! a server that ends in the middle can then be found out with the old one and the new one.

use super::Context;
use super::gateway_mailboxes::{changed, resolve};
use super::key::{self, KEYS_GIVEN_MAX, Key};
use super::request::{GatewayMailboxView, OpError};
use crate::mail::{FormerKey, GatewayMailbox, GatewayMailboxId, Timestamp};
use crate::store::Opened;
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroizing;

/// A key of a gateway mailbox that content was sealed to before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerKeyView {
    /// The `age` recipient.
    pub public_key: String,
    /// What came since then was sealed to it; from the beginning, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Until then.
    pub until: Timestamp,
    /// The password of today does not open that.
    pub lost: bool,
}

/// The keys of a gateway mailbox. Holds no secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysView {
    /// What comes now is sealed to this `age` recipient.
    pub public_key: String,
    /// Keys before it, oldest first.
    #[serde(default)]
    pub former: Vec<FormerKeyView>,
    /// Messages in its folders that the password of today does not open; absent where nobody counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unopened: Option<u64>,
}

impl KeysView {
    /// Those of `mailbox`; messages are not counted.
    pub(super) fn of(mailbox: &GatewayMailbox) -> KeysView {
        let mut since = None;
        let former = |former: &FormerKey| FormerKeyView {
            public_key: former.public_key.clone(),
            since: since.replace(former.until),
            until: former.until,
            lost: former.lost,
        };
        let former = mailbox.former_keys.iter().map(former).collect();
        KeysView { public_key: mailbox.public_key.clone(), former, unopened: None }
    }

    /// The same, with the messages counted when some cannot be opened.
    pub(super) fn counted(context: &Context, mailbox: &GatewayMailbox) -> Result<KeysView, OpError> {
        let unopened = match mailbox.lacks_keys() {
            true => context.store.unopened(mailbox.id)?,
            false => 0,
        };
        Ok(KeysView { unopened: Some(unopened), ..KeysView::of(mailbox) })
    }

    /// Those that the password of today does not open.
    pub fn lost(&self) -> impl Iterator<Item = &FormerKeyView> {
        self.former.iter().filter(|former| former.lost)
    }
}

/// What came, or would come, of another password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordResetView {
    /// The gateway mailbox, after it.
    #[serde(flatten)]
    pub gateway_mailbox: GatewayMailboxView,
    /// The password of today opens nothing more then: what came before is readable with it, or by escrow, alone.
    pub gives_up: bool,
    /// Former keys that what was given brings back.
    pub joins: usize,
    /// False: nothing was changed yet.
    pub applied: bool,
}

/// The keys of a gateway mailbox, as an identity file. Shown to nobody else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyExportView {
    /// Address of the gateway mailbox.
    pub gateway_mailbox: String,
    /// The `age` recipients whose identities are in it, newest first.
    pub public_keys: Vec<String>,
    /// Former keys that are not in it.
    pub lacking: usize,
    /// The file.
    #[serde(with = "super::wiped::lines")]
    pub file: Zeroizing<String>,
}

impl fmt::Debug for KeyExportView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyExportView").field("public_keys", &self.public_keys).finish_non_exhaustive()
    }
}

/// Makes a new key the newest. Blocks.
pub(super) fn rotate(
    context: &Context,
    actor: &str,
    named: &str,
    key: &Key,
) -> Result<GatewayMailboxId, OpError> {
    let mailbox = resolve(context, named)?;
    let Key::Password(password) = key else {
        let why = "the new keyring is wrapped by the password too, which an escrow identity does not tell: give the password; \
                   if it is lost, \"daybook mailbox reset-password\" makes another";
        return Err(OpError::Usage(why.to_owned()));
    };
    let unlocked = key::open(context, actor, &mailbox, key, "rotate")?;
    let rotated = context.store.rotate_key(&unlocked, password, actor)?;
    log_keys("keys.rotated", &rotated, actor);
    Ok(mailbox.id)
}

fn log_keys(event: &'static str, mailbox: &GatewayMailbox, actor: &str) {
    let lost = mailbox.former_keys.iter().filter(|former| former.lost).count();
    let (login, mailbox_id) = (mailbox.login(), mailbox.id);
    tracing::info!(event, mailbox = login, %mailbox_id, former = mailbox.former_keys.len(), lost, actor);
}

/// Gives `named` another password; without one, only says what that would mean. Blocks.
///
/// # Errors
/// [`OpError::NeedsApproval`] when mail would be given up, and that is not approved.
pub(super) fn reset_password(
    context: &Context,
    actor: &str,
    named: &str,
    (keys, password): (&[Key], Option<&str>),
    approved: bool,
) -> Result<PasswordResetView, OpError> {
    let mailbox = resolve(context, named)?;
    if keys.len() > KEYS_GIVEN_MAX {
        return Err(OpError::Usage(format!("at most {KEYS_GIVEN_MAX} keys at once")));
    }
    let opened = match keys {
        [] => None,
        keys => Some(key::open_all(context, actor, &mailbox, keys, "reset-password")?),
    };
    let gives_up = !opened.as_ref().is_some_and(Opened::has_present);
    let mut lost = mailbox.former_keys.iter().filter(|former| former.lost);
    let joins = opened
        .as_ref()
        .map_or(0, |opened| lost.by_ref().filter(|former| opened.keyring.knows(&former.public_key)).count());
    let told = |applied| {
        let gateway_mailbox = changed(context, mailbox.id, None)?;
        Ok(PasswordResetView { gateway_mailbox, gives_up, joins, applied })
    };
    let Some(password) = password else { return told(false) };
    if gives_up && !approved {
        return Err(OpError::NeedsApproval(
            "the present password is not among what was given: what it opens would be given up".to_owned(),
        ));
    }
    let reset = context.store.set_password(mailbox.id, opened.as_ref(), password, actor)?;
    log_keys("keys.password_reset", &reset, actor);
    told(true)
}

/// Hands out every key of `named` that `key` opens. Blocks.
pub(super) fn export(
    context: &Context,
    actor: &str,
    named: &str,
    key: &Key,
) -> Result<KeyExportView, OpError> {
    let mailbox = resolve(context, named)?;
    let opened = key::open_all(context, actor, &mailbox, std::slice::from_ref(key), "key-export")?;
    context.store.record_key_export(mailbox.id, actor)?;
    log_keys("keys.exported", &mailbox, actor);
    let view = KeysView::of(&opened.gateway_mailbox);
    let lacking = view.former.iter().filter(|former| !opened.keyring.knows(&former.public_key)).count();
    Ok(KeyExportView {
        gateway_mailbox: mailbox.address().map(ToString::to_string).unwrap_or_default(),
        public_keys: opened.keyring.public_keys().to_vec(),
        lacking: lacking + usize::from(!opened.has_present()),
        file: identity_file(&opened, &view),
    })
}

/// What `age -d -i` reads.
fn identity_file(opened: &Opened, keys: &KeysView) -> Zeroizing<String> {
    let mailbox = &opened.gateway_mailbox;
    let secrets = opened.keyring.reveal();
    // Of its full size at once: growing would leave copies behind.
    let mut file = Zeroizing::new(String::with_capacity(1024 + 512 * secrets.len()));
    let address = mailbox.address().map(ToString::to_string).unwrap_or_default();
    let at = crate::observe::now();
    file.push_str(&format!("# Daybook: keys of gateway mailbox {address} ({}), exported {at}\n", mailbox.id));
    file.push_str("# age -d -i THIS-FILE SEALED.age opens what was sealed for it. Keep it as secret as the mail itself.\n");
    for (secret, public_key) in secrets.iter().zip(opened.keyring.public_keys()) {
        let former = keys.former.iter().find(|former| former.public_key == *public_key);
        let span = match former {
            None => keys.former.last().map(|last| format!("since {}", last.until)),
            Some(former) => Some(match former.since {
                None => format!("until {}", former.until),
                Some(since) => format!("from {since} until {}", former.until),
            }),
        };
        file.push_str(&format!("\n# received {}\n", span.as_deref().unwrap_or("at any time")));
        file.push_str(&format!("# public key: {public_key}\n"));
        file.push_str(secret);
        file.push('\n');
    }
    file
}
