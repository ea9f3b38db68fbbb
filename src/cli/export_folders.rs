//! `daybook export`: folders written out of the store, and an export looked at.

use super::args::{KeyArguments, Since, parse_since};
use super::output::{self, Failure, counted, grouped, safe};
use super::{configuration, reach, secret, verify};
use crate::admin::{
    self, ExportChecked, ExportFormat, ExportProgress, FoldersExport, FoldersExported, Request,
};
use crate::observe;
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use std::path::{Path, PathBuf};

/// Messages that could not be exported, or differences, that are shown; `--json` gives a thousand.
const NAMED_SHOWN: usize = 50;

#[derive(Debug, Args)]
#[command(
    after_help = "The store is read beside a server or without one. Run again on the same directory, it adds what is new and goes on \
                        where it was broken off; what was deleted since stays in the export. Names, times and hashes of all \
                        messages are in manifest.jsonl.\n\
                        eml: a file for each message, the octets as stored. mbox: a file for each folder, after RFC 4155 with \
                        mboxrd quoting, line ends as stored. Sealed: objects as stored; a message is the run of octets that the \
                        manifest says: age -d -i KEY objects/7.age | tail -c +<offset + 1> | head -c <octets>\n\
                        A message that was deleted and brought back stands in an export once: its new line names the UID of the old one, same_as.\n\
                        Exit code 1: a message is damaged, or sealed to a former key that none of the passwords and identities opens, \
                        and was left out, each named; or --check found a difference."
)]
pub(super) struct ExportArguments {
    /// The gateway mailbox: its address, login or name
    #[arg(value_name = "ADDRESS", required_unless_present = "check")]
    mailbox: Option<String>,
    /// A directory that is not there, is empty, or holds an export of the same gateway mailbox in the same format
    #[arg(long, value_name = "DIR", required_unless_present = "check")]
    to: Option<PathBuf>,
    /// Only this folder and those in it, such as INBOX or Users/alice@contoso.example; may be given several times
    #[arg(long, value_name = "PATH")]
    folder: Vec<String>,
    /// Received since: a time such as 2026-11-21T09:30:00Z, or how long ago, such as 90m, 24h, 7d
    #[arg(long, value_parser = parse_since)]
    since: Option<Since>,
    /// How messages are written
    #[arg(long, value_enum, default_value_t = FormatArgument::Eml, conflicts_with = "sealed")]
    format: FormatArgument,
    /// As they are stored; needs no password
    #[arg(long, conflicts_with_all = ["password_file", "identity"])]
    sealed: bool,
    /// A password, of today or a former one, in the first line of this file, or of standard input; may be given several times
    #[arg(long, value_name = "FILE|-")]
    password_file: Vec<PathBuf>,
    /// An escrow identity: an age identity file, as age-keygen writes it; may be given several times
    #[arg(long, value_name = "FILE|-")]
    identity: Vec<PathBuf>,
    /// Read an export again and compare it with its manifest; needs no store and no key
    #[arg(long, value_name = "DIR",
          conflicts_with_all = ["mailbox", "to", "folder", "since", "format", "sealed", "password_file", "identity"])]
    check: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatArgument {
    /// A file for each message
    Eml,
    /// A file for each folder
    Mbox,
}

/// Ends with 1 when a message is damaged, or an export differs from its manifest.
pub(super) fn run(config: Option<&Path>, arguments: ExportArguments, json: bool) -> Result<u8, Failure> {
    let ExportArguments { mailbox, to, folder, since, format, sealed, password_file, identity, check } =
        arguments;
    if let Some(dir) = check {
        return look(&dir, json);
    }
    let (Some(gateway_mailbox), Some(to)) = (mailbox, to) else {
        return Err(Failure::usage("say which gateway mailbox, and --to where".to_owned()));
    };
    let settings = configuration::load(config)?;
    let format = match (sealed, format) {
        (true, _) => ExportFormat::Sealed,
        (false, FormatArgument::Eml) => ExportFormat::Eml,
        (false, FormatArgument::Mbox) => ExportFormat::Mbox,
    };
    let asks = !sealed && password_file.is_empty() && identity.is_empty();
    let keys = match asks {
        true => vec![secret::key(&KeyArguments { password_file: None, identity: None }, &gateway_mailbox)?],
        false => secret::keys(&password_file, &identity)?,
    };
    let since = since.map(|since| since.before(observe::now()));
    let asked = FoldersExport { gateway_mailbox, to, folders: folder, since, format, keys };
    let actor = format!("cli, uid {}", rustix::process::geteuid().as_raw());
    let bar = verify::bar(json);
    let exported = admin::export_folders(&settings, &actor, &asked, &mut |progress| show(&bar, progress));
    bar.finish_and_clear();
    let exported = exported?;
    // A server that is not there has no log. One that is there and did not hear of it changes nothing about the export.
    if let Err(failure) = reach::ask_server(&settings, &Request::NoteExport(exported.note.clone()))
        && settings.data_dir.join(admin::SOCKET_FILE).exists()
    {
        output::note(&format!("the server's log does not tell of this export: {}", failure.why()));
    }
    print(&exported, json, page)?;
    Ok(u8::from(exported.damaged + exported.former_key > 0))
}

fn look(dir: &Path, json: bool) -> Result<u8, Failure> {
    let bar = verify::bar(json);
    let checked = admin::check_export(dir, &mut |progress| show(&bar, progress));
    bar.finish_and_clear();
    let checked = checked?;
    print(&checked, json, checked_page)?;
    Ok(u8::from(checked.differing > 0))
}

fn show(bar: &ProgressBar, progress: &ExportProgress) {
    bar.set_length(progress.octets_total.max(progress.octets));
    bar.set_position(progress.octets);
}

fn print<T: serde::Serialize>(what: &T, json: bool, page: impl FnOnce(&T) -> String) -> Result<(), Failure> {
    if !json {
        return output::print(&page(what));
    }
    let value = serde_json::to_value(what).map_err(|error| Failure::from(error.to_string()))?;
    output::print_json(&value)
}

fn page(exported: &FoldersExported) -> String {
    let rows: Vec<Vec<String>> = exported
        .folders
        .iter()
        .map(|folder| {
            let numbers = [folder.added, folder.messages, folder.deleted_since].map(grouped);
            [&numbers[..], &[safe(&folder.folder)]].concat()
        })
        .collect();
    let mut text = output::table(&["ADDED", "MESSAGES", "DELETED SINCE", "FOLDER"], &rows);
    let shown = exported.not_exported.iter().take(NAMED_SHOWN);
    let left_out = exported.damaged + exported.gone + exported.former_key;
    if left_out > 0 {
        text.push_str("\nNot exported:\n");
    }
    for message in shown {
        let (folder, why) = (safe(&message.folder), safe(&message.why));
        text.push_str(&format!("  receipt {}  {folder} UID {}: {why}\n", message.receipt_id, message.uid));
    }
    text.push_str(&more(left_out));
    text.push_str(&format!(
        "\n{} added to {} in {:.1} s, {}; {} in it now.\n",
        counted(exported.added, "message"),
        safe(&exported.to.display().to_string()),
        exported.seconds,
        counted(exported.octets, "octet"),
        grouped(exported.messages),
    ));
    if exported.deleted_since > 0 {
        let count = counted(exported.deleted_since, "message");
        text.push_str(&format!("Deleted since, and kept in the export: {count}.\n"));
    }
    if exported.returned > 0 {
        let count = counted(exported.returned, "message");
        text.push_str(&format!("Back under a new UID, and in the export once: {count}.\n"));
    }
    if exported.gone > 0 {
        let count = counted(exported.gone, "message");
        text.push_str(&format!("Deleted for good while this ran: {count}.\n"));
    }
    if exported.damaged > 0 {
        let count = counted(exported.damaged, "message");
        text.push_str(&format!("Damaged in the store: {count}; see daybook verify --deep.\n"));
    }
    if exported.former_key > 0 {
        let count = counted(exported.former_key, "message");
        text.push_str(&format!(
            "Sealed to a former key: {count}; give the former password, or an escrow identity, too.\n"
        ));
    }
    text
}

fn more(all: u64) -> String {
    match all.saturating_sub(NAMED_SHOWN as u64) {
        0 => String::new(),
        further => format!("  and {} more\n", grouped(further)),
    }
}

fn checked_page(checked: &ExportChecked) -> String {
    let mut text = String::new();
    for difference in checked.differences.iter().take(NAMED_SHOWN) {
        let receipt =
            difference.receipt_id.map(|receipt_id| format!(" (receipt {receipt_id})")).unwrap_or_default();
        text.push_str(&format!("  {}: {}{receipt}\n", safe(&difference.path), safe(&difference.what)));
    }
    text.push_str(&more(checked.differing));
    if !checked.is_finished {
        text.push_str("An export was broken off here: the same command goes on with it.\n");
    }
    if checked.damaged_in_store > 0 {
        let count = counted(checked.damaged_in_store, "message");
        text.push_str(&format!("Damaged in the store, and left out by the last export: {count}.\n"));
    }
    if checked.former_key > 0 {
        let count = counted(checked.former_key, "message");
        text.push_str(&format!("Sealed to a former key, and left out by the last export: {count}.\n"));
    }
    let verdict = match checked.differing {
        0 => "everything is as the manifest says".to_owned(),
        differing => format!("{} found", counted(differing, "difference")),
    };
    text.push_str(&format!(
        "{} of {} as {}, {} read: {verdict}.\n",
        counted(checked.messages, "message"),
        safe(&checked.gateway_mailbox),
        checked.format,
        counted(checked.octets, "octet"),
    ));
    text
}
