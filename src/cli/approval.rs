//! What a person is asked about before it is done.
//!
//! The operation itself says what would become of it, as [`OpError::NeedsApproval`]; a terminal is asked, anybody else wants `--yes`.

use super::output::{Failure, safe};
use super::{print_response, reach};
use crate::admin::{OpError, Request, Response};
use crate::config::Settings;
use std::io::{self, IsTerminal, Write};

/// Exit code of what needs an approval.
const NEEDS_APPROVAL: u8 = 4;

/// Has `request` done after asking `question`, unless it is approved already or needs no approval, and prints the answer.
/// `consequence` says why it is asked.
pub(super) fn ask_approved(
    settings: &Settings,
    request: impl Fn(bool) -> Request,
    approved: bool,
    (question, consequence): (&str, &str),
    json: bool,
    show: impl FnOnce(&Response) -> String,
) -> Result<u8, Failure> {
    let response = match reach::perform(settings, request(approved)) {
        Err(plan) if !approved && plan.code() == NEEDS_APPROVAL => {
            confirm(&safe_lines(plan.why()), question, || {
                OpError::NeedsApproval(format!("{}\n{consequence}: say --yes", plan.why()))
            })?;
            reach::perform(settings, request(true))
        }
        other => other,
    }?;
    print_response(&response, json, show)?;
    Ok(0)
}

fn safe_lines(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", safe(line))).collect()
}

/// Asks the person at the terminal, telling what it is about; without one, `alone` says that it takes `--yes`.
pub(super) fn confirm(about: &str, question: &str, alone: impl FnOnce() -> OpError) -> Result<(), Failure> {
    let refused = |why: &str| Failure::from(OpError::NeedsApproval(why.to_owned()));
    if !io::stdin().is_terminal() {
        return Err(alone().into());
    }
    let mut answer = String::new();
    write!(io::stderr(), "{about}{question} [y/N] ")
        .and_then(|()| io::stderr().flush())
        .and_then(|()| io::stdin().read_line(&mut answer))
        .map_err(|error| Failure::from(format!("ask for an approval: {error}")))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(refused("nothing was done")),
    }
}
