//! `daybook key …` and `daybook mailbox reset-password`.

use super::args::{KeyCommand, ResetArguments};
use super::output::{self, Failure, counted, safe, time};
use super::{approval, ask, export, print_response, reach, secret};
use crate::admin::{
    FormerKeyView, GatewayMailboxView, KeyExportView, KeysView, NewPassword, OpError, PasswordResetView,
    Request, Response,
};
use crate::config::Settings;
use crate::store::generate_password;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use zeroize::Zeroizing;

pub(super) fn run(command: KeyCommand, settings: &Settings, json: bool) -> Result<u8, Failure> {
    match command {
        KeyCommand::Rotate { which, key } => {
            let key = secret::key(&key, &which.mailbox)?;
            ask(settings, Request::RotateKey { gateway_mailbox: which.mailbox, key }, json, rotated)
        }
        KeyCommand::Export { which, to, key } => {
            let out = to == Path::new("-");
            if out && json {
                return Err(Failure::usage(
                    "--json and --to - would both write to standard output".to_owned(),
                ));
            }
            if !out && to.symlink_metadata().is_ok() {
                return Err(export::exists(&to));
            }
            let key = secret::key(&key, &which.mailbox)?;
            let request = Request::ExportKey { gateway_mailbox: which.mailbox, key };
            let response = reach::perform(settings, request)?;
            let Response::KeyExport(keys) = &response else {
                return Err(Failure::from("there is no answer".to_owned()));
            };
            if out {
                output::print(&keys.file)?;
                output::note(&exported(keys, "standard output"));
            } else {
                write_secret(&keys.file, &to)?;
                let to = safe(&to.display().to_string());
                print_response(&response, json, |_| format!("{}\n", exported(keys, &to)))?;
            }
            Ok(0)
        }
    }
}

fn rotated(response: &Response) -> String {
    let Response::GatewayMailbox(mailbox) = response else { return String::new() };
    format!(
        "{} has a new key: what comes from now on is sealed to it.\n\
         Its password opens that too, and everything that came before.\n{}",
        safe(&mailbox.address),
        former(mailbox),
    )
}

fn exported(keys: &KeyExportView, to: &str) -> String {
    let count = counted(keys.public_keys.len() as u64, "key");
    let lacking = match keys.lacking {
        0 => "all there are".to_owned(),
        lacking => format!(
            "{} are not among them, since what was given does not open them",
            counted(lacking as u64, "other")
        ),
    };
    format!("{to}: {count} of {}, {lacking}; whoever has it reads the mail", safe(&keys.gateway_mailbox))
}

/// A new file that only its owner reads, durable when this returns.
fn write_secret(secret: &str, to: &Path) -> Result<(), Failure> {
    let cannot = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => export::exists(to),
        _ => Failure::from(format!("write {}: {error}", to.display())),
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(cannot)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = file
        .write_all(secret.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| File::open(folder)?.sync_all());
    if written.is_err() {
        // Half a secret helps nobody.
        fs::remove_file(to).ok();
    }
    written.map_err(cannot)
}

/// Has somebody know the password to be before it is in force: in a file, or on the standard output; with `--json`, whose output
/// comes when all is over, on the standard error.
fn tell_password(address: &str, password: &str, to: Option<&Path>, json: bool) -> Result<(), Failure> {
    let address = safe(address);
    match to {
        Some(to) => write_secret(&Zeroizing::new(format!("{password}\n")), to),
        None if json => {
            let text = Zeroizing::new(format!("daybook: the password to be of {address}: {password}\n"));
            output::show(&text, io::stderr().lock())
        }
        None => {
            let text = Zeroizing::new(format!(
                "The password to be of {address}:\n\n  {password}\n\nIt is shown this once. Put it into a safe place now, beside the old one.\n"
            ));
            output::show(&text, io::stdout().lock())
        }
    }
}

/// Asks what would come of it, shows the password to be, and has it put in force.
pub(super) fn reset_password(
    arguments: ResetArguments,
    settings: &Settings,
    json: bool,
) -> Result<u8, Failure> {
    let ResetArguments { which, password_file, identity, password_to, yes } = arguments;
    if let Some(to) = password_to.as_deref().filter(|to| to.symlink_metadata().is_ok()) {
        return Err(export::exists(to));
    }
    let keys = secret::keys(&password_file, &identity)?;
    let request = |password, approved| Request::ResetPassword {
        gateway_mailbox: which.mailbox.clone(),
        keys: keys.clone(),
        password,
        approved,
    };
    let plan = reset(reach::perform(settings, request(None, false))?)?;
    if plan.gives_up && !yes {
        let lost = given_up(&plan.gateway_mailbox);
        approval::confirm(&lost, "Give it another password all the same?", || {
            OpError::NeedsApproval(format!("{lost}this gives mail up: say --yes"))
        })?;
    }
    let password = generate_password().map_err(|error| Failure::from(error.to_string()))?;
    tell_password(&plan.gateway_mailbox.address, &password, password_to.as_deref(), json)?;
    let new = NewPassword::new(password.clone());
    let done = match reach::perform(settings, request(Some(new.clone()), yes || plan.gives_up)) {
        Err(failure) if failure.code() == UNAVAILABLE => {
            let unknown = "whether it is in force is not known: when the server is back, try the old password and the new one";
            let failure = Failure::from(format!("{}; {unknown}", failure.why()));
            return Err(if password_to.is_none() { failure.with_password(new) } else { failure });
        }
        Err(failure) => {
            // Refused: it is the password of nothing.
            password_to.iter().for_each(|to| fs::remove_file(to).unwrap_or_default());
            return Err(failure);
        }
        Ok(done) => reset(done)?,
    };
    if json {
        let mut value = serde_json::to_value(&done).map_err(|error| Failure::from(error.to_string()))?;
        if let Some(object) = value.as_object_mut() {
            let (name, value) = match &password_to {
                Some(to) => ("password_to", to.display().to_string()),
                None => ("password", password.as_str().to_owned()),
            };
            object.insert(name.to_owned(), value.into());
        }
        output::print_json(&value)?;
    } else {
        output::print(&told(&done))?;
    }
    Ok(0)
}

/// Exit code of what a server or a store out of reach did not do, or perhaps did.
const UNAVAILABLE: u8 = 3;

fn reset(response: Response) -> Result<PasswordResetView, Failure> {
    match response {
        Response::PasswordReset(reset) => Ok(*reset),
        _ => Err(Failure::from("the server gave another answer than asked for".to_owned())),
    }
}

/// What nobody reads any more with the password of today.
fn given_up(mailbox: &GatewayMailboxView) -> String {
    let waiting: u64 = mailbox.folders.iter().flatten().map(|folder| folder.entries).sum();
    let escrow = match mailbox.escrow.as_ref().map_or(0, |escrow| escrow.open_by.len()) {
        0 => "there is no escrow identity that could: without the old password it is lost".to_owned(),
        count => format!("{} can still open it", counted(count as u64, "escrow recipient")),
    };
    format!(
        "Nothing that was given opens {}. A new password opens only what comes from now on.\n\
         What came before ({} in its folders) stays sealed: the old password opens it, and {escrow}.\n",
        safe(&mailbox.address),
        counted(waiting, "entry").replace("entrys", "entries"),
    )
}

fn told(done: &PasswordResetView) -> String {
    let mailbox = &done.gateway_mailbox;
    let mut text = String::from(
        "It is in force: log in with it from now on. The one before does not log in any more.\n",
    );
    if done.gives_up {
        text.push_str("It opens what comes from now on. Should the old password or an escrow identity turn up, all is joined by\n");
        text.push_str(&format!(
            "  daybook mailbox reset-password {} --password-file OLD --password-file NEW\n",
            safe(&mailbox.login)
        ));
    }
    if done.joins > 0 {
        text.push_str(&format!("{} brought back.\n", counted(done.joins as u64, "former key")));
    }
    text + &former(mailbox)
}

/// What the password of today opens and what not, a line for each span of time; nothing when there was one key only.
pub(super) fn former(mailbox: &GatewayMailboxView) -> String {
    let KeysView { former, unopened, .. } = &mailbox.keys;
    if former.is_empty() {
        return String::new();
    }
    let line = |key: &FormerKeyView| {
        let since = key.since.map_or_else(|| "the beginning".to_owned(), time);
        let opened = if key.lost { "NOT opened by the password of today" } else { "opened" };
        format!("  received from {since} until {}: {opened}\n", time(key.until))
    };
    let mut text: String = former.iter().map(line).collect();
    if let Some(last) = former.last() {
        text.push_str(&format!("  received since {}: opened\n", time(last.until)));
    }
    if let Some(unopened) = unopened.filter(|_| former.iter().any(|key| key.lost)) {
        text.push_str(&format!(
            "  {} in its folders cannot be opened with it: the old password or an escrow identity can\n",
            counted(unopened, "message")
        ));
    }
    text
}
