//! `daybook check`: whether the index is whole, and with `--rebuild` making it anew from the log.

use super::output::{self, Failure, counted, grouped, safe};
use super::reach;
use super::start::store_options;
use crate::admin::{self, AskError, OpError, Request, Response};
use crate::config::Settings;
use crate::store::{IndexJob, IndexOutcome, IndexProgress, IndexState, Progress};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is looked how far it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How often it is said where there is no terminal.
const SAID_INTERVAL: Duration = Duration::from_secs(5);

pub(super) fn run(settings: &Settings, rebuild: bool, json: bool) -> Result<u8, Failure> {
    let job = if rebuild { IndexJob::Rebuild } else { IndexJob::Check };
    let mut shown = Shown::new();
    let outcome = reach::until_unlocked(settings, || {
        match admin::ask(&settings.data_dir, &Request::Index { begin: Some(job) }) {
            Ok(response) => follow(settings, job, response, &mut shown).map(Some),
            Err(AskError::NobodyListens) => here(settings, job, &mut shown),
            Err(AskError::Failed(error)) => Err(error.into()),
            Err(error @ AskError::Broken(_)) => Err(error.to_string().into()),
        }
    })?;
    shown.end();
    if let Some(error) = &outcome.error {
        return Err(Failure::from(error.clone()));
    }
    if json {
        let value = serde_json::to_value(&outcome).map_err(|error| Failure::from(error.to_string()))?;
        output::print_json(&value)?;
    } else {
        output::print(&text(&outcome))?;
    }
    Ok(u8::from(outcome.damaged > 0))
}

/// Looks how far the server is until it is done.
fn follow(
    settings: &Settings,
    job: IndexJob,
    begun: Response,
    shown: &mut Shown,
) -> Result<IndexOutcome, Failure> {
    let mut response = begun;
    loop {
        let Response::Index(state) = response else {
            let why = "the server gave another answer than asked for".to_owned();
            return Err(OpError::Unavailable(why).into());
        };
        let IndexState { doing, progress, last } = *state;
        if doing == Some(job) {
            shown.show(progress);
            std::thread::sleep(LOOK_INTERVAL);
            response = reach::ask_server(settings, &Request::Index { begin: None })?;
            continue;
        }
        let last = last.filter(|outcome| outcome.job == job);
        return last.ok_or_else(|| Failure::from("the server does not say what came of it".to_owned()));
    }
}

/// Does it with the store opened here. Nothing while another process has it open.
fn here(settings: &Settings, job: IndexJob, shown: &mut Shown) -> Result<Option<IndexOutcome>, Failure> {
    reach::check_owner(&settings.data_dir, false)?;
    let (options, progress) = (store_options(settings), Arc::new(Progress::default()));
    let work = {
        let progress = Arc::clone(&progress);
        std::thread::spawn(move || admin::do_to_index(job, &options, progress))
    };
    while !work.is_finished() {
        shown.show(progress.now());
        std::thread::sleep(LOOK_INTERVAL);
    }
    let done = work.join().map_err(|_| Failure::from("it failed; the log says where".to_owned()))?;
    match done {
        Ok(outcome) => Ok(Some(outcome)),
        Err(None) => Ok(None),
        Err(Some(error)) => Err(error.into()),
    }
}

/// Progress on standard error: a bar on a terminal, lines elsewhere.
struct Shown {
    began: Instant,
    said: Instant,
    bar: Option<ProgressBar>,
    is_terminal: bool,
}

impl Shown {
    fn new() -> Shown {
        let now = Instant::now();
        Shown { began: now, said: now, bar: None, is_terminal: std::io::stderr().is_terminal() }
    }

    fn show(&mut self, progress: IndexProgress) {
        if progress.octets_total == 0 {
            return;
        }
        if self.is_terminal {
            let bar = self.bar.get_or_insert_with(|| {
                let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}  {eta} left");
                ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            });
            bar.set_length(progress.octets_total);
            bar.set_position(progress.octets.min(progress.octets_total));
            bar.set_message(told(progress, self.began.elapsed()));
        } else if self.said.elapsed() >= SAID_INTERVAL {
            self.said = Instant::now();
            let percent = progress.octets.saturating_mul(100) / progress.octets_total;
            output::note(&format!("{} %, {}", percent.min(100), told(progress, self.began.elapsed())));
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// `1.5 of 20.0 MB of log, 1,234 messages, 810/s`
fn told(progress: IndexProgress, took: Duration) -> String {
    let IndexProgress { octets, octets_total, messages } = progress;
    format!(
        "{} of {} MB of log, {}, {}/s",
        megabytes(octets.min(octets_total)),
        megabytes(octets_total),
        counted(messages, "message"),
        grouped(rate(messages, took))
    )
}

fn megabytes(octets: u64) -> String {
    let tenths = octets / 100_000;
    format!("{}.{}", grouped(tenths / 10), tenths % 10)
}

fn rate(messages: u64, took: Duration) -> u64 {
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    messages.saturating_mul(1000) / ms
}

fn text(outcome: &IndexOutcome) -> String {
    let mut text: String = outcome.findings.iter().map(|finding| format!("{}\n", safe(finding))).collect();
    let untold = outcome.damaged.saturating_sub(outcome.findings.len() as u64);
    if untold > 0 {
        text.push_str(&format!("… and {} more\n", grouped(untold)));
    }
    let (folders, entries) = (counted(outcome.folders, "folder"), grouped(outcome.entries));
    text.push_str(&match (outcome.job, outcome.damaged) {
        (IndexJob::Check, 0) => format!("The index is whole: {folders} with {entries} live entries.\n"),
        (IndexJob::Check, _) => {
            "The index is damaged. No mail is lost by that: daybook check --rebuild makes it anew from \
                                 the log.\n"
                .to_owned()
        }
        (IndexJob::Rebuild, damaged) => {
            let took = Duration::from_millis(outcome.ms);
            let mut text = format!(
                "The index was made anew: {} from {} MB of log in {:.1} s ({} messages/s).\n",
                counted(outcome.progress.messages, "message"),
                megabytes(outcome.progress.octets),
                took.as_secs_f64(),
                grouped(rate(outcome.progress.messages, took))
            );
            if damaged > 0 {
                text.push_str("The log itself is damaged there: daybook verify tells what that is.\n");
            }
            text
        }
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_is_is_told_in_numbers_one_can_read() {
        let progress = IndexProgress { octets: 1_550_000, octets_total: 20_000_000, messages: 1_234 };
        let text = told(progress, Duration::from_millis(1_500));
        assert_eq!(text, "1.5 of 20.0 MB of log, 1,234 messages, 822/s");
    }
}
