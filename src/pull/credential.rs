//! What a puller logs in with: a password that the operator lends, or a token of an application.

use super::account::Secret;
use super::fault::{Fault, FaultKind};
use super::run::blocking;
use crate::config::{PullCredential, Puller};
use crate::entra::{TokenError, Tokens};
use crate::net::drain::Drain;
use crate::net::secret;
use std::sync::Arc;

/// Reads the password, or asks for a token.
pub(super) async fn secret(
    puller: &Puller,
    tokens: Option<Arc<Tokens>>,
    drain: &Drain,
) -> Result<Secret, Fault> {
    let (credential, drain) = (puller.credential.clone(), drain.clone());
    blocking(move || match (&credential, tokens) {
        (PullCredential::Password(source), _) => secret::read(source)
            .map(Secret::Password)
            .map_err(|error| Fault::new(FaultKind::Credential, format!("password: {error}"))),
        (PullCredential::Xoauth2 { .. }, Some(tokens)) => {
            tokens.get_while(&|| !drain.is_started()).map(Secret::Token).map_err(|error| no_token(&error))
        }
        (PullCredential::Xoauth2 { .. }, None) => {
            Err(Fault::new(FaultKind::Credential, "no token can be asked for"))
        }
    })
    .await?
}

/// A token that the mail server refuses is not asked for again.
pub(super) fn refused_login(fault: Fault, tokens: Option<&Tokens>) -> Fault {
    match tokens {
        Some(tokens) if fault.kind == FaultKind::Login => {
            tokens.forget();
            fault.advised(TOKEN_ADVICE)
        }
        _ => fault,
    }
}

const TOKEN_ADVICE: &str = "Microsoft gave a token and the mail server refuses it. Give the application IMAP.AccessAsApp (for POP3: \
    POP.AccessAsApp) of Office 365 Exchange Online with admin consent, and in Exchange Online PowerShell run \
    New-ServicePrincipal and Add-MailboxPermission with the object id of the Enterprise application; see that login is \
    the mailbox and that the clock is right";

fn no_token(error: &TokenError) -> Fault {
    let kind = match error {
        TokenError::Unreachable(_) | TokenError::Incomplete(_) => FaultKind::Unreachable,
        TokenError::Refused { .. } | TokenError::Credential(_) => FaultKind::Credential,
    };
    let fault = Fault::new(kind, error.to_string());
    match error.advice() {
        Some(advice) => fault.advised(advice),
        None => fault,
    }
}
