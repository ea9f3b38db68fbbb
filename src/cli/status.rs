//! `daybook status` and `daybook status-mail`: what the running server knows of itself.

use super::output::{Failure, safe};
use super::{print_response, reach};
use crate::admin::watch::{StatusMailView, page};
use crate::admin::{OpError, Request, Response};
use crate::config::Settings;

fn another_answer() -> Failure {
    OpError::Unavailable("the server gave another answer than asked for".to_owned()).into()
}

/// `status`: code 1 while an alarm is raised.
pub(super) fn status(settings: &Settings, json: bool) -> Result<u8, Failure> {
    let response = reach::ask_server(settings, &Request::Status)?;
    let Response::Status(status) = &response else { return Err(another_answer()) };
    print_response(&response, json, |_| page(status))?;
    Ok(u8::from(!status.alarms.is_empty()))
}

/// `status-mail`: code 1 when somebody did not get it.
pub(super) fn status_mail(settings: &Settings, send: bool, json: bool) -> Result<u8, Failure> {
    let response = reach::ask_server(settings, &Request::StatusMail { send })?;
    let Response::StatusMail(mail) = &response else { return Err(another_answer()) };
    print_response(&response, json, |_| shown(mail))?;
    Ok(u8::from(mail.sent.iter().any(|sent| !sent.taken)))
}

fn shown(mail: &StatusMailView) -> String {
    let Some(relay) = &mail.relay else {
        return format!("Subject: {}\n\n{}", safe(&mail.subject), mail.text);
    };
    let mut out = String::new();
    for sent in &mail.sent {
        let outcome = if sent.taken { "taken" } else { "NOT TAKEN" };
        let (to, answer) = (safe(&sent.to), safe(&sent.answer));
        out.push_str(&format!("{to}: {outcome} by {}: {answer}\n", safe(relay)));
    }
    out
}
