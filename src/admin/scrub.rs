//! `daybook scrub`: how reading again what is stored stands, what it found damaged, and what an admin makes of it.

use super::ops::{Context, blocking, look_soon};
use super::request::OpError;
use super::watch::{ago, size, span};
use crate::mail::{Timestamp, Untrusted};
use crate::store::{DamagedThing, ScrubStatus, StoreError};

/// Closes damage at these places, begins a pass if that is asked for, and tells how it stands then.
pub(super) async fn scrub(
    context: &Context,
    actor: &str,
    begin: bool,
    close: Vec<String>,
) -> Result<ScrubStatus, OpError> {
    if !close.is_empty() {
        let actor = actor.to_owned();
        blocking(context, move |c| c.store.close_damage(&close, &actor).map_err(unknown)).await?;
        look_soon(context);
    }
    if begin {
        context.store.scrub_now()?;
    }
    Ok(context.store.scrub())
}

fn unknown(error: StoreError) -> OpError {
    match error {
        StoreError::Gone => {
            let why = "nothing there is known to be damaged; `daybook scrub` lists what is, place by place";
            OpError::NotFound(why.to_owned())
        }
        error => error.into(),
    }
}

/// One line: whether it runs, how fast, and when all was last read.
pub(super) fn line(scrub: &ScrubStatus, now: Timestamp) -> String {
    let speed = match scrub.bytes_per_second {
        0 => "off".to_owned(),
        rate => format!("{} a second", size(rate)),
    };
    let last = match (scrub.last, scrub.pass) {
        (Some(last), _) => format!("everything read again {}", ago(last.ended, now)),
        (None, Some(_)) => "everything is being read again for the first time".to_owned(),
        (None, None) => "nothing read again yet".to_owned(),
    };
    let damaged = match scrub.damaged {
        0 => String::new(),
        count => format!(", DAMAGED: {count}"),
    };
    format!("scrub: {speed}, {last}{damaged}\n")
}

/// How it stands, on one page.
pub fn scrub_page(scrub: &ScrubStatus, now: Timestamp) -> String {
    let mut out = line(scrub, now);
    if let Some(last) = scrub.last {
        let took = span(last.ended.unix_ms() - last.began.unix_ms());
        out.push_str(&format!(
            "  that was {} in {took}, {} entries and files\n",
            size(last.octets),
            last.objects
        ));
    }
    if let Some(pass) = scrub.pass {
        out.push_str(&format!(
            "  under way since {}: {} so far, in segment {} of {}\n",
            ago(pass.began, now),
            size(pass.octets),
            pass.segment,
            pass.until
        ));
    }
    for thing in &scrub.things {
        out.push_str(&thing_lines(thing, now));
    }
    let listed = scrub.things.iter().filter(|thing| thing.closed_by.is_none()).count() as u64;
    if scrub.damaged > listed {
        out.push_str(&format!("\n{} more are not listed: daybook verify --deep\n", scrub.damaged - listed));
    }
    if scrub.damaged > 0 {
        out.push_str(
            "\nBring the file back from a backup. A report that is sent again is stored anew beside the damaged copy.\n\
             Known, and no more to be alarmed:  daybook scrub --close PLACE\n",
        );
    }
    out
}

fn thing_lines(thing: &DamagedThing, now: Timestamp) -> String {
    let mut out = format!(
        "\n{}: {}\n  found {}",
        Untrusted(&thing.place),
        Untrusted(&thing.what),
        ago(thing.found_at, now)
    );
    if let Some(actor) = &thing.closed_by {
        out.push_str(&format!(", closed by {}", Untrusted(actor)));
    }
    out.push('\n');
    if let Some(id) = thing.gateway_mailbox {
        out.push_str(&format!("  in {id}: {}\n", Untrusted(&thing.placements.join(" "))));
    }
    for receipt_id in &thing.receipt_ids {
        out.push_str(&format!("  receipt {receipt_id}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ScrubbedPass;

    #[test]
    fn says_whether_it_runs_and_when_all_was_read() {
        let at = Timestamp::from_unix_ms(1_794_787_200_000);
        let mut scrub = ScrubStatus::default();
        assert_eq!(line(&scrub, at), "scrub: off, nothing read again yet\n");
        scrub.bytes_per_second = 8 << 20;
        scrub.last = Some(ScrubbedPass { began: at, ended: at, octets: 5 << 20, objects: 7, unlisted: 2 });
        scrub.damaged = 2;
        let page = scrub_page(&scrub, at);
        for part in [
            "8.0 MiB a second",
            "(just now), DAMAGED: 2",
            "5.0 MiB in 0 min, 7 entries",
            "2 more are not listed",
        ] {
            assert!(page.contains(part), "{part} is not in\n{page}");
        }
    }
}
