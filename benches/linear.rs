//! Twice the octets take at most two and a half times as long, for every message made to hurt (`tests/support/hostile.rs`).
//!
//! Prints a line for each kind and ends with 1 when one is not linear. Times are the best of several, the two sizes in turn, so that
//! a busy machine disturbs both alike; a kind that seems too slow is measured again before it counts.
//!
//! `cargo bench --bench linear -- NAME` measures those whose names contain NAME.

#![allow(clippy::print_stdout, reason = "figures are to be read")]
#![allow(clippy::expect_used, reason = "what is made here can be made")]

#[path = "../tests/support/hostile.rs"]
#[allow(dead_code, reason = "what must become of a message is for the tests")]
mod hostile;
#[path = "../tests/support/wrap.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod wrap;

use daybook::extract::{Scanner, extract};
use daybook::mail::Profile;
use hostile::{GENERATORS, Generator};
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Most that twice the octets may take, in times of once.
const RATIO_MAX: f64 = 2.5;
/// What takes less is disturbed too easily by everything else: the size is doubled until it takes this long.
const SHORTEST: Duration = Duration::from_millis(4);
/// Doublings at most: what meets a limit takes no longer however large it is.
const DOUBLINGS_MAX: u32 = 6;
/// Octets at most before that: what no longer fits the caches of the processor takes longer for that reason alone.
const OCTETS_MAX: usize = 8 * 1024 * 1024;
/// Runs of each size, the best of which counts.
const RUNS: usize = 9;
/// Measurements of a kind before it is said not to be linear.
const ATTEMPTS: usize = 4;
/// As the SMTP side hands a message over.
const CHUNK_OCTETS: usize = 64 * 1024;

fn time(octets: &[u8]) -> Duration {
    let clock = Instant::now();
    let mut scanner = Scanner::new();
    octets.chunks(CHUNK_OCTETS).for_each(|chunk| scanner.push(chunk));
    black_box(extract(&scanner.finish(), Profile::Microsoft365));
    clock.elapsed()
}

/// The best times of both, in seconds.
fn best(once: &[u8], twice: &[u8]) -> (f64, f64) {
    let mut best = (Duration::MAX, Duration::MAX);
    for _ in 0..RUNS {
        best = (best.0.min(time(once)), best.1.min(time(twice)));
    }
    (best.0.as_secs_f64(), best.1.as_secs_f64())
}

/// Measures one kind, says what it found, and whether it is linear.
fn is_linear(generator: &Generator) -> bool {
    let mut n = generator.small;
    let mut once = (generator.make)(n).octets;
    for _ in 0..DOUBLINGS_MAX {
        if time(&once) >= SHORTEST || once.len() >= OCTETS_MAX {
            break;
        }
        n *= 2;
        once = (generator.make)(n).octets;
    }
    let twice = (generator.make)(2 * n).octets;
    let growth = twice.len() as f64 / once.len() as f64;
    for _ in 0..ATTEMPTS {
        let (short, long) = best(&once, &twice);
        let ratio = long / short;
        let verdict = if ratio <= RATIO_MAX { "linear" } else { "NOT LINEAR" };
        println!(
            "{:40} n = {n:>9}: {:>10} octets {:>9.3} ms, {growth:.1} times that {:>9.3} ms, ratio {ratio:.2}: {verdict}",
            generator.name,
            once.len(),
            short * 1e3,
            long * 1e3,
        );
        if ratio <= RATIO_MAX {
            return true;
        }
    }
    false
}

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |generator: &&Generator| {
        wanted.is_empty() || wanted.iter().any(|word| generator.name.contains(word.as_str()))
    };
    let faults = GENERATORS.iter().filter(is_wanted).filter(|generator| !is_linear(generator)).count();
    if faults > 0 {
        println!("{faults} kinds are not linear");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
