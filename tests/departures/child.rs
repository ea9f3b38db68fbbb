//! A test's own program, run once more as a child that may die.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use std::ffi::OsStr;
use std::process::{Command, Output};

/// Set in a child: it plays the part that may end the process.
const IN_CHILD: &str = "DAYBOOK_DEPARTURES_CHILD";

/// Said by a child that came to its end.
const SURVIVED: &str = "the child came to its end";

/// How a child ended.
pub(crate) struct Ended {
    pub(crate) output: Output,
}

impl Ended {
    pub(crate) fn survived(&self) -> bool {
        self.output.status.success() && self.said().contains(SURVIVED)
    }

    /// What it printed.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// The last words of what it said to stderr, for a test that fails.
    pub(crate) fn complaint(&self) -> String {
        let stderr = String::from_utf8_lossy(&self.output.stderr);
        let last: Vec<&str> = stderr.lines().rev().take(3).collect();
        format!("{}: {}", self.output.status, last.join(" | "))
    }
}

/// Runs `play` in a child of its own and says how that ended. `test` is the whole name of the calling test.
///
/// In the child this plays and does not return.
pub(crate) fn run(test: &str, play: impl FnOnce()) -> Ended {
    run_under(&[], test, play)
}

/// As [`run`], with the child as the last arguments of the command `tracer`.
pub(crate) fn run_under(tracer: &[&str], test: &str, play: impl FnOnce()) -> Ended {
    if std::env::var_os(IN_CHILD).is_some() {
        act(play);
    }
    let program = std::env::current_exe().unwrap();
    let words = tracer.iter().map(OsStr::new).chain([program.as_os_str()]);
    let words: Vec<&OsStr> = words.chain(["--exact", "--nocapture", test].map(OsStr::new)).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env(IN_CHILD, "1");
    Ended { output: command.output().unwrap_or_else(|error| panic!("{:?} is needed: {error}", words[0])) }
}

/// Plays and ends the process. A death leaves no core behind.
#[allow(clippy::print_stdout, reason = "the parent reads it")]
fn act(play: impl FnOnce()) -> ! {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).unwrap();
    play();
    println!("{SURVIVED}");
    std::process::exit(0);
}
