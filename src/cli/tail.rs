//! `daybook tail`: events as they happen in the running server, or those of a log.
//!
//! With `--json` every line is one JSON object, as the log has them: the one command, besides those that only fail, whose
//! output is more than one value.

use super::args::TailArguments;
use super::output::{self, Failure, safe};
use super::{configuration, interrupt};
use crate::admin::{self, AskError, OpError, Request, TailLines};
use crate::config::Settings;
use crate::observe::{self, Filter, Line, Look, Matcher, RECENT_LINES_MAX};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::Path;
use std::time::Duration;

/// Columns of a line, unless everything is shown.
const COLUMNS: usize = 120;
/// Last lines of the server shown first, unless told otherwise.
const LINES: usize = 10;
/// Longest line read from a log, in octets; what follows of a longer one is another line.
const LINE_OCTETS_MAX: u64 = 1024 * 1024;
/// How often a server that ended is looked for.
const RETURN_INTERVAL: Duration = Duration::from_millis(250);

/// Prints what is wanted until there is nothing more, nobody reads it, or Ctrl-C.
pub(super) fn run(arguments: &TailArguments, config: Option<&Path>, json: bool) -> Result<u8, Failure> {
    interrupt::ends_quietly();
    let printer = Printer::new(json, arguments.wide);
    match &arguments.file {
        Some(file) => read(file, arguments, &printer)?,
        None => follow(&configuration::load(config)?, arguments, &printer)?,
    }
    Ok(0)
}

/// Turns lines into output.
struct Printer {
    json: bool,
    look: Look,
}

impl Printer {
    fn new(json: bool, wide: bool) -> Printer {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let columns = (!wide).then_some(COLUMNS);
        Printer { json, look: Look { date: false, colour, wide, columns } }
    }

    fn show(&self, line: &Line, json: &str) -> String {
        if self.json { observe::json_safe(json).into_owned() } else { observe::write_text(line, &self.look) }
    }
}

/// The server's events.
fn follow(settings: &Settings, arguments: &TailArguments, printer: &Printer) -> Result<(), Failure> {
    let mut lines = match tail(settings, arguments, arguments.lines.unwrap_or(LINES)) {
        Ok(lines) => lines,
        Err(AskError::Failed(error)) => return Err(error.into()),
        Err(error) => return Err(OpError::Unavailable(error.to_string()).into()),
    };
    loop {
        while let Some(json) = lines.next_line() {
            let shown = match Line::parse(&json) {
                Some(line) => printer.show(&line, &json),
                None => safe(&json),
            };
            if !output::print_line(shown)? {
                return Ok(());
            }
        }
        if arguments.no_follow {
            return Ok(());
        }
        output::note("the server has ended; waiting for it to come back");
        lines = again(settings, arguments)?;
        output::note("the server is back");
    }
}

fn tail(settings: &Settings, arguments: &TailArguments, lines: usize) -> Result<TailLines, AskError> {
    let filter = arguments.filter();
    admin::tail(&settings.data_dir, &Request::Tail { filter, lines, follow: !arguments.no_follow })
}

/// Waits for the server. Shown first is what it keeps of what it said since it started: the last [`RECENT_LINES_MAX`] lines of
/// INFO and more severe, so that debug events of the start are missed.
fn again(settings: &Settings, arguments: &TailArguments) -> Result<TailLines, Failure> {
    loop {
        std::thread::sleep(RETURN_INTERVAL);
        match tail(settings, arguments, RECENT_LINES_MAX) {
            Ok(lines) => return Ok(lines),
            Err(AskError::Failed(error)) => return Err(error.into()),
            Err(AskError::Broken(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Failure::from(error.to_string()));
            }
            // Not there yet, or caught while it ends.
            Err(AskError::NobodyListens | AskError::Broken(_)) => {}
        }
    }
}

/// A log that was written.
fn read(file: &Path, arguments: &TailArguments, printer: &Printer) -> Result<(), Failure> {
    let filter = arguments.filter();
    // A log knows logins; what else names a gateway mailbox is known to the server.
    let mailbox = filter.mailbox.as_ref().map(|name| name.split('@').next().unwrap_or(name).to_owned());
    let mut reading = Reading {
        passes_unknown: filter.is_empty() && !printer.json,
        matcher: Matcher::new(Filter { mailbox, ..filter }),
        last: VecDeque::new(),
        keep: arguments.lines,
        printer,
    };
    if file == Path::new("-") {
        return reading.lines(io::stdin().lock());
    }
    let open = || {
        let failed = |error| Failure::from(format!("read {}: {error}", file.display()));
        File::open(file).map_err(failed)
    };
    if arguments.receipt.is_some() && open()?.metadata().is_ok_and(|metadata| metadata.is_file()) {
        reading.learn(BufReader::new(open()?))?;
    }
    reading.lines(BufReader::new(open()?))
}

/// A log being read.
struct Reading<'a> {
    /// Lines that are no events are shown as they are.
    passes_unknown: bool,
    matcher: Matcher,
    /// Lines to show at the end.
    last: VecDeque<String>,
    /// How many of them; `None` shows every line at once.
    keep: Option<usize>,
    printer: &'a Printer,
}

impl Reading<'_> {
    fn learn(&mut self, mut log: impl BufRead) -> Result<(), Failure> {
        while let Some(text) = next_line(&mut log)? {
            if let Some(line) = Line::parse(&text) {
                self.matcher.learn(&line);
            }
        }
        Ok(())
    }

    fn lines(&mut self, mut log: impl BufRead) -> Result<(), Failure> {
        while let Some(text) = next_line(&mut log)? {
            let Some(shown) = self.shown(&text) else { continue };
            let Some(keep) = self.keep else {
                if output::print_line(shown)? {
                    continue;
                }
                return Ok(());
            };
            self.last.push_back(shown);
            if self.last.len() > keep {
                self.last.pop_front();
            }
        }
        for shown in std::mem::take(&mut self.last) {
            if !output::print_line(shown)? {
                break;
            }
        }
        Ok(())
    }

    fn shown(&mut self, text: &str) -> Option<String> {
        match Line::parse(text) {
            Some(line) => self.matcher.matches(&line).then(|| self.printer.show(&line, text)),
            None => self.passes_unknown.then(|| whole(text)),
        }
    }
}

/// [`safe`] shows a limited number of characters; a line has more.
fn whole(text: &str) -> String {
    text.chars().map(|c| safe(c.encode_utf8(&mut [0; 4]))).collect()
}

/// The next line without its end; `None` after the last.
fn next_line(log: &mut impl BufRead) -> Result<Option<String>, Failure> {
    let mut octets = Vec::new();
    let read = log.by_ref().take(LINE_OCTETS_MAX).read_until(b'\n', &mut octets);
    if read.map_err(|error| Failure::from(format!("read the log: {error}")))? == 0 {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&octets);
    Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()))
}
