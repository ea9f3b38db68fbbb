//! Durability, tested where it breaks: the power of a loop-mounted ext4 is cut, calls fail one after the other, processes are
//! killed at the worst moments, disks fill up, bits rot. What was acknowledged is logged outside the failing disk; afterwards all
//! of it must be there, once, octet for octet, every UID and UIDL as it was.
//!
//! A harness that finds nothing proves something only when it finds what is there: `planted.rs` switches the store's safeguards
//! off one by one, and each must be missed.
//!
//! Run by `tests/real.sh`, as root. `DAYBOOK_LONG=1` runs more rounds, `DAYBOOK_ROUNDS` so many, `DAYBOOK_SEED` others.
#![cfg(feature = "real")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures are to be read")]

#[path = "support/daybook.rs"]
mod support;

#[path = "support/load.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod load;

#[path = "real/gateway.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod gateway;

#[path = "real/maildrop.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod maildrop;

#[path = "support/mixed.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod mixed;

#[path = "real/strace.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod strace;

#[path = "durability/disk.rs"]
mod disk;

#[path = "durability/full.rs"]
mod full;

#[path = "durability/keeping.rs"]
mod keeping;

#[path = "durability/kills.rs"]
mod kills;

#[path = "durability/ledger.rs"]
mod ledger;

#[path = "durability/order.rs"]
mod order;

#[path = "durability/planted.rs"]
mod planted;

#[path = "durability/power.rs"]
mod power;

#[path = "durability/rig.rs"]
mod rig;

#[path = "durability/rot.rs"]
mod rot;

#[path = "durability/seen.rs"]
#[allow(dead_code, reason = "parts of it are for some of the tests")]
mod seen;

#[path = "durability/sender.rs"]
mod sender;

#[path = "durability/sled.rs"]
mod sled;

#[path = "durability/starting.rs"]
mod starting;

#[path = "durability/storms.rs"]
mod storms;

#[path = "durability/sweep.rs"]
mod sweep;

#[path = "durability/table.rs"]
mod table;

#[path = "durability/touching.rs"]
mod touching;

/// True when the long forms are asked for.
#[allow(dead_code, reason = "each module that has a long form asks")]
fn is_long() -> bool {
    std::env::var("DAYBOOK_LONG").is_ok_and(|value| value == "1")
}

/// A number that may be given from outside.
#[allow(dead_code, reason = "each module that has rounds asks")]
fn given(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|value| value.parse().ok())
}
