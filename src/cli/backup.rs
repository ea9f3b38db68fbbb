//! `daybook backup` and `daybook restore`: what was copied, what is damaged, and what an admin has to know of it.

use super::args::{BackupArguments, RestoreArguments};
use super::output::{self, Failure, counted, grouped, safe};
use super::reach::{actor, check_owner};
use super::verify;
use crate::admin;
use crate::config::Settings;
use crate::store::{BackupFinding, BackupReport, RestoreReport, RestoreStage};
use indicatif::ProgressBar;

/// Findings that are shown; `--json` gives those that are kept, the first 1,000.
const FINDINGS_SHOWN: usize = 50;
/// Receipts of one of them that are shown.
const RECEIPTS_SHOWN: usize = 10;

/// Ends with 1 when anything that was read is damaged.
pub(super) fn backup(settings: &Settings, arguments: &BackupArguments, json: bool) -> Result<u8, Failure> {
    let bar = verify::bar(json);
    let made = admin::backup(settings, &arguments.dir, &mut |at| show(&bar, at.octets, at.octets_total));
    bar.finish_and_clear();
    let report = made?;
    if json {
        print_json(&report)?;
    } else {
        output::print(&backup_page(&report))?;
    }
    Ok(u8::from(!report.whole))
}

/// Ends with 1 when anything is damaged.
pub(super) fn restore(settings: &Settings, arguments: &RestoreArguments, json: bool) -> Result<u8, Failure> {
    check_owner(&settings.data_dir, true)?;
    let bar = verify::bar(json);
    let mut stage = RestoreStage::Checking;
    let restored = admin::restore(settings, &arguments.dir, arguments.despite_damage, actor(), &mut |at| {
        if at.stage != stage {
            stage = at.stage;
            bar.reset();
        }
        show(&bar, at.octets, at.octets_total);
    });
    bar.finish_and_clear();
    let report = restored?;
    if json {
        print_json(&report)?;
    } else {
        output::print(&restore_page(&report))?;
    }
    Ok(u8::from(report.damaged > 0))
}

fn show(bar: &ProgressBar, octets: u64, total: u64) {
    bar.set_length(total);
    bar.set_position(octets);
}

fn print_json<T: serde::Serialize>(report: &T) -> Result<(), Failure> {
    let value = serde_json::to_value(report).map_err(|error| Failure::from(error.to_string()))?;
    output::print_json(&value)
}

fn backup_page(report: &BackupReport) -> String {
    let began = report.began_at.map(output::time).unwrap_or_default();
    let but = if report.whole { "" } else { ", but for what is named below" };
    let mut text = format!(
        "Backed up    all that was acknowledged at {began}{but}, up to group {}\n\
         Written      {}: {} and {}; in {:.1} s\n\
         Log          {} in {}\n",
        grouped(report.sequence),
        counted(report.written_octets, "octet"),
        counted(report.receipts, "message"),
        counted(report.content_files, "content file"),
        report.seconds,
        counted(report.log_octets, "octet"),
        counted(report.segments, "segment"),
    );
    if report.freed_objects > 0 {
        text.push_str(&format!(
            "Freed        {} of {} are in it no more\n",
            counted(report.freed_objects, "object"),
            counted(report.freed_octets, "octet"),
        ));
    }
    text.push_str(&findings(&report.findings, report.damaged));
    if report.damaged > 0 {
        text.push_str(
            "\nThe backup is made, with what is damaged as it is: daybook verify says what it touches.\n",
        );
    }
    text
}

fn restore_page(report: &RestoreReport) -> String {
    let what = if report.plain { "a plain copy, whose newest checkpoint is of" } else { "a backup of" };
    let of = report.backup_at.map_or_else(|| "an unknown time".to_owned(), output::time);
    let until = report.received_until.map_or_else(|| "none".to_owned(), output::time);
    let mut text = format!(
        "From         {what} {of}, up to group {}\n\
         Mail         {}, the last of {until}; {}\n\
         Log          {} in {}\n",
        grouped(report.sequence),
        counted(report.receipts, "message"),
        counted(report.content_files, "content file"),
        counted(report.log_octets, "octet"),
        counted(report.segments, "segment"),
    );
    if report.torn_octets > 0 {
        let torn = counted(report.torn_octets, "octet");
        text.push_str(&format!(
            "Left out     {torn} of a group that was being written and never acknowledged\n"
        ));
    }
    if let Some(why) = &report.outside_unread {
        text.push_str(&format!("Checkpoints  those kept outside could not be read: {}\n", safe(why)));
    }
    text.push_str(&findings(&report.findings, report.damaged));
    text.push('\n');
    if !report.restored {
        text.push_str(
            "Nothing was restored. Take another backup, or restore what is whole of this one with --despite-damage; daybook verify \
             --deep --data-dir DIR says which mail the damage touches.\n",
        );
        return text;
    }
    text.push_str(&format!("Restored in {:.1} s. {}", report.seconds, missing(report)));
    text.push_str(&format!(
        "UIDs and UIDLs of what is here are what they were. New mail gets neither that the original gave out since: every folder \
         leaves {} UIDs out, and new UIDLs begin with {:x}.\n",
        grouped(report.uids_skipped.into()),
        report.epoch,
    ));
    text.push_str(
        "Retention is paused, and nothing is freed: set again the legal holds and rules that were set after the backup, then run \
         daybook retention confirm.\n",
    );
    if let Some(key) = &report.checkpoint_key {
        text.push_str(&format!(
            "Checkpoints are signed by a new key from now on, which names the one before: write it down elsewhere.\n{key}\n"
        ));
    }
    text
}

/// What is not here.
fn missing(report: &RestoreReport) -> String {
    let until = report.missing_until.map(output::time).unwrap_or_default();
    match report.missing_groups {
        0 => "What the original took or did since that backup is not here; what was deleted since is here again. No checkpoint says \
              that there was anything.\n"
            .to_owned(),
        groups => format!(
            "What the original took or did since that backup is not here: {} up to {until}, as the newest checkpoint says. What was \
             deleted since is here again.\n",
            counted(groups, "group"),
        ),
    }
}

fn findings(found: &[BackupFinding], damaged: u64) -> String {
    let mut text = String::new();
    for finding in found.iter().take(FINDINGS_SHOWN) {
        text.push_str(&format!("DAMAGE  {}: {}\n", safe(&finding.place), safe(&finding.what)));
        let receipts: Vec<String> =
            finding.receipts.iter().take(RECEIPTS_SHOWN).map(ToString::to_string).collect();
        if !receipts.is_empty() {
            text.push_str(&format!("        receipt {}\n", receipts.join(", ")));
        }
    }
    match damaged.saturating_sub(found.len().min(FINDINGS_SHOWN) as u64) {
        0 => {}
        more => text.push_str(&format!("and {} more\n", counted(more, "finding"))),
    }
    text
}
