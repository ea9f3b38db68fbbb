//! Why Daybook departs from the design card: each fault that README's section of that name states and that can be shown
//! quickly is shown here, on the version that Cargo.lock names.
//!
//! A test fails on the day its fault is gone. That is good news: look again at the decision the message names, and either
//! take the crate up or take the sentence out.
//!
//! Nothing here is about Daybook itself. What ends a process runs in a child process: the test binary once more, told by
//! an environment variable that it is the child. Servers listen on loopback, on a port the system picks, and end with
//! their process. What needs strace runs with feature `real` only.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "departures/child.rs"]
mod child;
#[path = "departures/mail_parser.rs"]
mod mail_parser;
#[path = "departures/mailin.rs"]
mod mailin;
#[path = "departures/mailin_embedded.rs"]
mod mailin_embedded;
#[cfg(feature = "real")]
#[path = "departures/sled.rs"]
mod sled;
#[path = "departures/smtp_proto.rs"]
mod smtp_proto;

/// Fails when `shown` is not: then the fault that `decision` rests on is gone.
#[track_caller]
fn still(shown: bool, decision: &str, fault: &str) {
    assert!(shown, "this fault is gone: look again at {decision} ({fault})");
}

/// As [`still`], of our own SMTP engine.
const OWN_ENGINE: &str = "D1, an SMTP engine of our own";
