//! `[keys]`: who besides the password opens gateway mailboxes.

use super::check::Reader;
use super::section::Section;
use super::settings::{Toml, array};
use crate::mail::Untrusted;
use age::x25519::{Identity, Recipient};

/// Most escrow recipients: each is one more file for every gateway mailbox, and one more key to keep safe.
pub const ESCROW_RECIPIENTS_MAX: usize = 8;

/// Who besides the password opens gateway mailboxes. Public keys only: no secret belongs into the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// `escrow`: age recipients (`age1…`, X25519) that the keyring of every new gateway mailbox is wrapped to as well. Up to
    /// [`ESCROW_RECIPIENTS_MAX`]. Default: none, and what a lost password sealed stays sealed.
    pub escrow: Vec<Recipient>,
}

impl Keys {
    pub(super) fn to_toml(&self, out: &mut Toml) {
        out.section("[keys]");
        out.key("escrow", array(&self.escrow));
    }
}

impl Reader<'_> {
    pub(super) fn keys(&mut self, mut section: Section<'_, '_>) -> Keys {
        let mut keys = Keys::default();
        let Some(given) = section.strings("escrow", self.problems) else {
            section.finish(self.problems);
            return keys;
        };
        for text in given.value {
            let recipient = match text.value.parse::<Recipient>() {
                Ok(recipient) => recipient,
                Err(_) => {
                    section.bad_value("escrow", text.line, &no_recipient(&text.value), self.problems);
                    continue;
                }
            };
            if keys.escrow.contains(&recipient) {
                section.bad_value(
                    "escrow",
                    text.line,
                    &format!("\"{recipient}\" stands twice"),
                    self.problems,
                );
                continue;
            }
            keys.escrow.push(recipient);
        }
        if keys.escrow.len() > ESCROW_RECIPIENTS_MAX {
            let why = format!("must name at most {ESCROW_RECIPIENTS_MAX}");
            section.bad_value("escrow", given.line, &why, self.problems);
        }
        section.finish(self.problems);
        keys
    }
}

/// A secret key put here by mistake is not repeated: what this says ends in logs.
fn no_recipient(text: &str) -> String {
    let upper = text.trim().to_ascii_uppercase();
    if upper.starts_with("AGE-SECRET-KEY-") {
        let own = text.trim().parse::<Identity>().map(|identity| identity.to_public().to_string());
        let own = own.map(|public| format!(", here \"{public}\"")).unwrap_or_default();
        return format!(
            "this is a secret key: write the public one{own}, and take the secret one away from here"
        );
    }
    format!("\"{}\" is not an age recipient, like \"age1…\" as age-keygen prints it", Untrusted(text))
}
