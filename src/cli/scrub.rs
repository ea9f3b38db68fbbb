//! `daybook scrub`: how reading again what is stored stands, and what is damaged.

use super::output::Failure;
use super::{print_response, reach};
use crate::admin::{OpError, Request, Response, scrub_page};
use crate::config::Settings;
use crate::observe::now;

/// Code 1 while something is damaged that nobody has closed.
pub(super) fn run(settings: &Settings, begin: bool, close: Vec<String>, json: bool) -> Result<u8, Failure> {
    let response = reach::perform(settings, Request::Scrub { begin, close })?;
    let Response::Scrub(scrub) = &response else {
        return Err(OpError::Unavailable("the server gave another answer than asked for".to_owned()).into());
    };
    print_response(&response, json, |_| scrub_page(scrub, now()))?;
    Ok(u8::from(scrub.damaged > 0))
}
