//! Fuzz target `imap_command`: whatever a client sends and whatever others do in its folder, the session keeps its promises. Run by
//! `tests/fuzz` and, over all that was ever found, by `tests/fuzz_replay.rs`.
//!
//! Input: an octet of settings, one from which the turns of others are drawn, then what the client sends. The settings are: bits 0–1
//! how far it is (in clear, over TLS, logged in, INBOX open), bits 2–4 what goes wrong (committing, opening, keys changed),
//! bit 5 a message is damaged.
//!
//! Checked in [`Play`]: each command is answered once, by its tag; what is said is whole lines of printable ASCII; numbers mean the
//! messages the client was told of until it is told otherwise, and that is not while numbers are in use; literals that are asked
//! for are not too long; nothing is said behind the end.

#[path = "../imap_fake.rs"]
mod imap_fake;
#[path = "../imap_play.rs"]
mod imap_play;

use daybook::mail::Flags;
use imap_fake::Fake;
use imap_play::Play;

/// Panics when the session breaks a promise.
pub(crate) fn run(input: &[u8]) {
    let [settings, others, sent @ ..] = input else { return };
    let fake = Fake::with(&[b"a: b\r\n\r\nc\r\n".to_vec(), b"x".to_vec(), Vec::new()]);
    fake.deliver("Users/a/Journal Incoming", b"x: y\r\n\r\n");
    let mut play = match settings & 3 {
        0 => Play::new(false, fake),
        1 => Play::new(true, fake),
        2 => Play::logged_in(fake),
        _ => Play::in_inbox(fake),
    };
    {
        let mut state = play.fake.state();
        state.faults.commit = settings & 4 != 0;
        state.faults.open = settings & 8 != 0;
        state.faults.lacks_key = settings & 16 != 0;
        state.faults.damaged = (settings & 32 != 0).then_some((1, 0));
    }
    let mut drawn = u32::from(*others);
    if drawn > 0 {
        play.meanwhile = Some(Box::new(move |fake, _| others_turn(fake, &mut drawn)));
    }
    for line in sent.split_inclusive(|octet| *octet == b'\n') {
        play.octets(line);
        if play.is_over {
            return;
        }
        if play.session.is_idling() {
            play.push();
        }
    }
}

/// Another client comes by: something comes, goes, is flagged, or nothing.
fn others_turn(fake: &Fake, drawn: &mut u32) {
    *drawn = drawn.wrapping_mul(1_103_515_245).wrapping_add(12_345);
    let (what, which) = (*drawn >> 16 & 7, *drawn >> 20 & 3);
    let uid = fake.rows("INBOX").get(which as usize).map(|row| row.0);
    match (what, uid) {
        (0 | 1, _) if fake.rows("INBOX").len() < 20 => {
            fake.deliver("INBOX", b"x: y\r\n\r\n");
        }
        (2 | 3, Some(uid)) => fake.remove("INBOX", uid),
        (4 | 5, Some(uid)) => fake.flag("INBOX", uid, Flags::from_bits((*drawn >> 24) as u8)),
        _ => {}
    }
}
