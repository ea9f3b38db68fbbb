//! `daybook verify`: what was gone through, what is damaged, and what to do about it.

use super::output::{self, Failure, counted, grouped, safe};
use crate::admin;
use crate::config::Settings;
use crate::store::{FindingKind, PublicKey, VerifyFinding, VerifyReport};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::path::PathBuf;

/// Folder entries, or receipts, of one finding that are shown; `--json` gives all that are known.
const TOUCHED_SHOWN: usize = 10;
/// Findings that are shown; `--json` gives those that are kept, the first 1,000.
const FINDINGS_SHOWN: usize = 200;
/// Where the log is found not to be what was signed.
const LOG: &str = "log";
const CHECKPOINT_KEY: &str = "keys/checkpoint.key";

/// Ends with 1 when anything is damaged.
pub(super) fn run(
    settings: &Settings,
    deep: bool,
    known: (Option<PathBuf>, Option<PublicKey>),
    json: bool,
) -> Result<u8, Failure> {
    let bar = bar(json);
    let report = admin::verify(settings, deep, known, &mut |progress| {
        // A server may have added to what there was.
        bar.set_length(progress.octets_total.max(progress.octets));
        bar.set_position(progress.octets);
    });
    bar.finish_and_clear();
    let report = report?;
    if json {
        let value = serde_json::to_value(&report).map_err(|error| Failure::from(error.to_string()))?;
        output::print_json(&value)?;
    } else {
        output::print(&page(&report))?;
    }
    Ok(u8::from(!report.whole))
}

/// The same settings, for a store that lies elsewhere: a backup. Checkpoints kept outside are of the store itself, which went on
/// behind that.
pub(super) fn settings_of(mut settings: Settings, data_dir: Option<PathBuf>) -> Settings {
    if let Some(data_dir) = data_dir {
        settings.data_dir = data_dir;
        settings.store.checkpoint_dir = None;
    }
    settings
}

/// How far it is, for a person who looks on.
pub(super) fn bar(json: bool) -> ProgressBar {
    if json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    let form = "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    // A bar of another form would do as well.
    bar.set_style(ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn page(report: &VerifyReport) -> String {
    let mut text = summary(report);
    if !report.findings.is_empty() {
        text.push('\n');
    }
    for finding in report.findings.iter().take(FINDINGS_SHOWN) {
        text.push_str(&line(finding));
    }
    text.push_str(&more_findings(report));
    text.push('\n');
    text.push_str(&verdict(report));
    text
}

/// What is not shown: `--json` has those that were kept, the rest was only counted.
fn more_findings(report: &VerifyReport) -> String {
    let hidden = (report.damaged + report.notes).saturating_sub(FINDINGS_SHOWN as u64);
    let in_json = report.findings.len().saturating_sub(FINDINGS_SHOWN) as u64;
    match (hidden, in_json) {
        (0, _) => String::new(),
        (hidden, in_json) if in_json >= hidden => {
            format!("and {} more; see --json.\n", counted(hidden, "finding"))
        }
        (hidden, in_json) => format!(
            "and {} more: --json lists {} of them, the rest is only counted.\n",
            counted(hidden, "finding"),
            grouped(in_json)
        ),
    }
}

fn summary(report: &VerifyReport) -> String {
    let rate = |amount: u64| (amount as f64 / report.seconds.max(0.001)) as u64;
    let how = match (report.deep, report.index_compared) {
        (true, true) => "compared with the log row by row",
        (false, true) => "compared with the log by counts; --deep compares every row",
        _ => "not compared as a whole",
    };
    let content = if report.deep { "all content hashed" } else { "content not hashed; --deep does" };
    let checkpoints = match &report.checkpoint_key {
        Some(key) => format!("{}, signed by {}", counted(report.checkpoints, "checkpoint"), safe(key)),
        None => "no checkpoint".to_owned(),
    };
    format!(
        "Log          {}, {}, entries {}\n\
         Mail         {}, {}, entries in folders {}, content files {}; {content}\n\
         Checkpoints  {checkpoints}\n\
         Index        {how}\n{}\
         Read         {} in {:.1} s: {} octets and {} a second{}\n",
        counted(report.segments, "segment"),
        counted(report.groups, "group"),
        grouped(report.entries),
        counted(report.receipts, "receipt"),
        counted(report.messages, "message"),
        grouped(report.folder_entries),
        grouped(report.content_files),
        kept(report),
        counted(report.octets, "octet"),
        report.seconds,
        grouped(rate(report.octets)),
        counted(rate(report.messages), "message"),
        if report.running { "; a server has the store open" } else { "" },
    )
}

/// What is kept for a while or for good, and what was freed; nothing where there is none of that.
fn kept(report: &VerifyReport) -> String {
    let mut text = String::new();
    if report.in_grace + report.held > 0 {
        let (in_grace, held) = (grouped(report.in_grace), grouped(report.held));
        text.push_str(&format!(
            "Kept         deleted entries that can be had back {in_grace}, entries under a legal hold {held}\n"
        ));
    }
    let freed = &report.freed;
    if freed.objects + report.emptied_segments > 0 {
        let waiting = match freed.waiting_objects.zip(freed.waiting_octets) {
            Some((objects, octets)) => {
                format!("{} of them, of {}, not given back yet", grouped(objects), counted(octets, "octet"))
            }
            None => "--deep tells what of that was given back".to_owned(),
        };
        text.push_str(&format!(
            "Freed        {}, {}; {waiting}; emptied segments {}\n",
            counted(freed.objects, "object"),
            counted(freed.octets, "octet"),
            grouped(report.emptied_segments)
        ));
    }
    if report.restores > 0 {
        text.push_str(&format!("Restored     {} from a backup\n", counted(report.restores, "time")));
    }
    text
}

fn line(finding: &VerifyFinding) -> String {
    let mark = if finding.damage { "DAMAGE" } else { "note" };
    let mut text = format!("{mark:<6}  {}: {}\n", safe(&finding.place), safe(&finding.what));
    let receipts: Vec<String> =
        finding.receipts.iter().take(TOUCHED_SHOWN).map(ToString::to_string).collect();
    if !receipts.is_empty() {
        text.push_str(&format!("        receipt {}{}\n", receipts.join(", "), more(finding.receipts.len())));
    }
    for entry in finding.entries.iter().take(TOUCHED_SHOWN) {
        let (login, folder) = (safe(&entry.gateway_mailbox), safe(&entry.folder));
        text.push_str(&format!("        {login} {folder} UID {}\n", entry.uid));
    }
    if finding.entries.len() > TOUCHED_SHOWN {
        text.push_str(&format!("        {}\n", more(finding.entries.len()).trim_start_matches(", ")));
    }
    text
}

fn more(all: usize) -> String {
    match all.saturating_sub(TOUCHED_SHOWN) {
        0 => String::new(),
        further => format!(", and {further} more"),
    }
}

/// One sentence, and one for each thing to do.
fn verdict(report: &VerifyReport) -> String {
    if report.whole {
        let how = if report.deep { "" } else { " as far as can be told without reading content" };
        let index = if report.index_compared { "" } else { "; the index was not compared" };
        return format!("Everything is there and whole{how}{index}.\n");
    }
    let has = |kinds: &[FindingKind]| report.findings.iter().any(|f| f.damage && kinds.contains(&f.kind));
    // What a checkpoint says of the log is found there; what is found elsewhere is about checkpoints themselves.
    let signed = |f: &&VerifyFinding| f.damage && f.kind == FindingKind::Checkpoint;
    let is_not_what_was_signed = report.findings.iter().filter(signed).any(|f| f.place == LOG);
    let has_bad_lines = report.findings.iter().filter(signed).any(|f| f.place != LOG);
    let mut text = format!("{} found.\n", counted(report.damaged, "damage"));
    if has(&[FindingKind::Freed]) {
        text.push_str(
            "Content was freed, or entries were taken out, that should have been kept: stop the server before it frees more, keep \
             data_dir as it is, and restore from a backup made before that. This is a fault of Daybook or of somebody who wrote \
             to its log: report it.\n",
        );
    }
    if has(&[FindingKind::Log]) || is_not_what_was_signed {
        text.push_str(
            "Entries of the log are damaged or missing: keep data_dir as it is, index included, and restore the files named \
             from a backup. Do not have the index made anew before: it may know what the log has lost.\n",
        );
    } else if has(&[FindingKind::Index]) {
        text.push_str("The index can be made anew from the log: daybook check --rebuild\n");
    }
    if has_bad_lines {
        text.push_str(
            "Some checkpoints, or the key that signs them, are not what they should be, and prove nothing: find out whether the \
             disk or somebody changed them. Checkpoints kept elsewhere (--checkpoints) and a key written down elsewhere (--key) \
             tell whether the log is the one that was signed. No mail is in them.\n",
        );
    }
    if has(&[FindingKind::Content]) {
        text.push_str(
            "Restore the content named from a backup, or have the messages sent again: other mail is served meanwhile.\n",
        );
    }
    if has(&[FindingKind::Key]) {
        text.push_str(
            "Restore the keyrings named from a backup; an escrow recipient may still open the mail they are for.\n",
        );
    }
    if has(&[FindingKind::Directory]) {
        text.push_str(
            "A list of users that is damaged is not used; the list before it is in force, if there is one. Restore the file from a \
             backup while the server is stopped, or remove it and read the source again with daybook user sync; what only that list knew of \
             whose an address was is lost then. No mail is in them.\n",
        );
    }
    let is_state = |f: &&VerifyFinding| f.damage && f.kind == FindingKind::State;
    if report.findings.iter().filter(is_state).any(|f| f.place == CHECKPOINT_KEY) {
        text.push_str(
            "Leave the key of checkpoints where it is: the next start puts it aside and makes another.\n",
        );
    }
    if report.findings.iter().filter(is_state).any(|f| f.place != CHECKPOINT_KEY) {
        text.push_str("Files of state can be removed while the server is stopped: no mail is in them.\n");
    }
    text
}
