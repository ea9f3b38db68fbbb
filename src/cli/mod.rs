//! The command line: arguments to operations, answers to text or JSON, errors to exit codes.
//!
//! ```text
//! args ─▶ Request ─▶ reach ─▶ the running server, or the store opened here ─▶ Response ─▶ show | JSON
//! args ─▶ serve ─▶ service (Daybook::start … Running::stop)
//! args ─▶ inspect ─▶ extract
//! args ─▶ verify ─▶ admin::verify, past any server ─▶ report ─▶ text | JSON
//! args ─▶ backup, restore ─▶ admin::backup, admin::restore, past any server ─▶ report ─▶ text | JSON
//! args ─▶ export ─▶ admin::export_folders, past any server ─▶ a directory ─▶ text | JSON
//! args ─▶ doctor ─▶ admin::doctor ─▶ findings ─▶ text | JSON
//! ```
//! Every command works the same with and without a running server, but for those that are about it alone (`readyz`, `tail`,
//! `log-level`). Only this room writes to standard output; logs go to standard error or, of `serve`, to a file.
//!
//! Invariants:
//! - With `--json` a command prints one JSON value on one line, also when it fails: `{"error":{"kind":…,"why":…}}`. Only
//!   `tail` prints one a line for as long as it runs. The list of `receipts` is printed as it is read: one that fails half-way
//!   ends with the error as its last value.
//! - Text that came from a peer, an admin or a message is shown through [`Untrusted`](crate::mail::Untrusted): it can
//!   neither move the cursor nor forge a line.
//! - Exit codes: 0 done, 1 found a problem, 2 wrong usage or configuration, 3 could not do it (server or store out of
//!   reach), 4 needs an approval.
//! - What destroys something asks first, or wants `--yes` when nobody is there to be asked.
//!
//! This room does nothing to the store that [`admin`](crate::admin) does not offer.

mod approval;
mod args;
mod backup;
mod check;
mod configuration;
mod credential;
mod demo;
mod doctor;
mod export;
mod export_folders;
mod gaps;
mod gateway_mailbox;
mod inspect;
mod interrupt;
mod keeping;
mod key;
mod limits;
mod notify;
mod output;
mod pull;
mod quarantine;
mod reach;
mod reassign;
mod receipts;
mod reload;
mod renewal;
mod reprocess;
mod scrub;
mod secret;
mod serve;
mod service;
mod signals;
mod start;
mod status;
mod syncing;
mod tail;
mod transactions;
mod trust;
mod user;
mod user_sync;
mod verify;
mod vitals;

pub use service::{Daybook, Running};
pub use start::StartError;

use crate::admin::{OpError, Request, Response};
use crate::config::Settings;
use crate::observe::{self, Format, Level};
use args::{Arguments, Command, ConfigCommand, CredentialCommand, Since, UserCommand};
use clap::Parser;
use output::Failure;
use std::process::ExitCode;

/// How long the end waits for the last log lines to be written.
const LOG_FLUSH_WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// Runs the program: reads its arguments, does what they say, gives the exit code.
pub fn main() -> ExitCode {
    // Wrong usage ends here with code 2, --help and --version with 0.
    let arguments = Arguments::parse();
    let json = arguments.json;
    let code = match run(arguments) {
        Ok(code) => code,
        Err(failure) => output::fail(&failure, json),
    };
    observe::flush(LOG_FLUSH_WAIT);
    ExitCode::from(code)
}

fn run(arguments: Arguments) -> Result<u8, Failure> {
    let no_dumps = limits::forbid_core_dumps();
    let Arguments { config, json, command } = arguments;
    let config = config.as_deref();
    if let Command::Serve = command {
        let file = configuration::found(config)?;
        return serve::run(configuration::load(Some(&file))?, file, no_dumps);
    }
    // Commands talk for themselves; only what is wrong is worth a log line among their output. The demonstration shows
    // what is odd itself. So does doctor, but for what opening the store mended.
    let tap = matches!(command, Command::Demo { .. });
    let level = if tap { Level::Error } else { Level::Warn };
    let setup = observe::Setup { format: Format::Text, level, file: None, tap };
    observe::init(setup).map_err(|error| Failure::from(error.to_string()))?;
    limits::warn_of_core_dumps(no_dumps);
    match command {
        Command::Serve => Ok(0),
        Command::Mailbox(command) => gateway_mailbox::run(command, &configuration::load(config)?, json),
        Command::Key(command) => key::run(command, &configuration::load(config)?, json),
        Command::User(command) => user(command, &configuration::load(config)?, json),
        Command::Inspect(arguments) => inspect::run(&arguments, json),
        Command::Trace { query, since, limit } => {
            let since = since.map(|since| since.before(observe::now()));
            let request = Request::Trace { query, since, most: limit };
            ask(&configuration::load(config)?, request, json, |found| receipts::trace(found, limit))
        }
        Command::Receipts(arguments) => transactions::run(&configuration::load(config)?, &arguments, json),
        Command::Gaps { mailbox, since, all, close } => {
            let since = since.map(|since| since.before(observe::now()));
            let request = match close.is_empty() {
                true => Request::Gaps { gateway_mailbox: mailbox, since, all },
                false => Request::CloseGaps { receipt_ids: close },
            };
            gaps::run(&configuration::load(config)?, &request, json)
        }
        Command::Explain { receipt_id } => {
            let request = Request::Explain { receipt_id };
            ask(&configuration::load(config)?, request, json, receipts::explain)
        }
        Command::Quarantine(command) => quarantine::run(command, &configuration::load(config)?, json),
        Command::Reassign { apply, mailbox, since, .. } => {
            let since = since.map(|since| since.before(observe::now()));
            reassign::run(&configuration::load(config)?, apply, mailbox, since, json)
        }
        Command::Reprocess(arguments) => reprocess::run(arguments, &configuration::load(config)?, json),
        Command::Undelete(arguments) => keeping::undelete(&configuration::load(config)?, arguments, json),
        Command::Retention { command } => keeping::retention(&configuration::load(config)?, command, json),
        Command::Check { rebuild } => check::run(&configuration::load(config)?, rebuild, json),
        Command::Config(ConfigCommand::Check) => configuration::check(config, json),
        Command::Config(ConfigCommand::Show) => configuration::show(config, json),
        Command::Credential(CredentialCommand::Create { out, name, days }) => {
            credential::make(&out, &name, days, json)
        }
        Command::Credential(CredentialCommand::List) => credential::list(&configuration::load(config)?, json),
        Command::Credential(CredentialCommand::Test { name }) => {
            credential::test(&configuration::load(config)?, name.as_deref(), json)
        }
        Command::Demo { keep } => demonstrate(keep, json),
        Command::Doctor(arguments) => doctor::run(config, arguments, json),
        Command::Tail(arguments) => tail::run(&arguments, config, json),
        Command::LogLevel { level, span } => log_level(&configuration::load(config)?, level, span, json),
        Command::Pull { name, status } => pull::run(&configuration::load(config)?, name, status, json),
        Command::Status => status::status(&configuration::load(config)?, json),
        Command::Scrub { now, close } => scrub::run(&configuration::load(config)?, now, close, json),
        Command::StatusMail { now } => status::status_mail(&configuration::load(config)?, now, json),
        Command::Verify { deep, checkpoints, key, data_dir } => {
            let settings = verify::settings_of(configuration::load(config)?, data_dir);
            verify::run(&settings, deep, (checkpoints, key), json)
        }
        Command::Backup(arguments) => backup::backup(&configuration::load(config)?, &arguments, json),
        Command::Restore(arguments) => backup::restore(&configuration::load(config)?, &arguments, json),
        Command::Export(arguments) => export_folders::run(config, arguments, json),
        Command::Readyz => ready(&configuration::load(config)?, json),
    }
}

fn demonstrate(keep: bool, json: bool) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::from(format!("start: {error}")))?;
    let mut out = std::io::stdout();
    runtime.block_on(demo::run(keep, json, &mut out)).map_err(|error| OpError::Refused(error.to_string()))?;
    Ok(0)
}

fn user(command: UserCommand, settings: &Settings, json: bool) -> Result<u8, Failure> {
    match command {
        UserCommand::List { mailbox } => {
            ask(settings, Request::ListUsers { gateway_mailbox: mailbox }, json, user::list)
        }
        UserCommand::Show { user, mailbox } => {
            ask(settings, Request::ShowUser { user, gateway_mailbox: mailbox }, json, user::show)
        }
        UserCommand::Sync(arguments) => user_sync::sync(settings, arguments, json),
        UserCommand::Plans => user_sync::plans(settings, json),
        UserCommand::Rollback(arguments) => user_sync::rollback(settings, arguments, json),
        UserCommand::Find(arguments) => user_sync::find(settings, arguments, json),
    }
}

/// Has `request` done and prints the answer.
fn ask(
    settings: &Settings,
    request: Request,
    json: bool,
    show: impl FnOnce(&Response) -> String,
) -> Result<u8, Failure> {
    let response = reach::perform(settings, request)?;
    print_response(&response, json, show)?;
    Ok(0)
}

fn print_response(
    response: &Response,
    json: bool,
    show: impl FnOnce(&Response) -> String,
) -> Result<(), Failure> {
    if json {
        let value = response.to_json().map_err(|error| Failure::from(error.to_string()))?;
        output::print_json(&value)
    } else {
        output::print(&show(response))
    }
}

fn log_level(
    settings: &Settings,
    level: Option<Level>,
    span: Option<std::time::Duration>,
    json: bool,
) -> Result<u8, Failure> {
    let seconds = span.map(|span| span.as_secs());
    let response = reach::ask_server(settings, &Request::LogLevel { level, seconds })?;
    print_response(&response, json, |response| match response {
        Response::LogLevel(view) if view.level == view.configured => format!("{}\n", view.level),
        Response::LogLevel(view) => {
            let until = view.until.map_or_else(|| "the next start".to_owned(), output::time);
            format!("{} until {until}, then {}\n", view.level, view.configured)
        }
        _ => String::new(),
    })?;
    Ok(0)
}

fn ready(settings: &Settings, json: bool) -> Result<u8, Failure> {
    let response = reach::ask_server(settings, &Request::Ready)?;
    let Response::Ready(readiness) = &response else {
        return Err(OpError::Unavailable("the server gave another answer than asked for".to_owned()).into());
    };
    print_response(&response, json, |_| readiness.to_text())?;
    Ok(u8::from(!readiness.ready))
}

impl Since {
    /// The instant meant, seen from `now`.
    fn before(self, now: crate::mail::Timestamp) -> crate::mail::Timestamp {
        match self {
            Since::At(at) => at,
            Since::Ago(ago) => {
                let ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
                crate::mail::Timestamp::from_unix_ms(now.unix_ms().saturating_sub(ms))
            }
        }
    }
}
