//! The causes of alarms, one function each: what is known to what it means.

use super::{
    Cause, CertificateFiles, CheckpointFacts, DamageFacts, Facts, MailboxNumbers, MissingFacts, PauseFacts,
    Raised, RefusedFacts, Severity, StoreState, Validity, Verdict, elapsed_ms, is_ahead,
};
use crate::mail::Timestamp;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The store may fail so long before somebody is called: it mends itself after most failed writes, within seconds.
pub(super) const STORE_TROUBLE_MS: i64 = 60 * 1000;
/// It must work so long before the alarm is over.
pub(super) const STORE_CALM_MS: i64 = 2 * 60 * 1000;
/// Checkpoints may fail so long before somebody is called: a share is gone for minutes when its server starts anew.
const CHECKPOINT_TROUBLE_MS: i64 = 10 * 60 * 1000;
/// The disk is low when less room is left than so many days of mail need.
const DISK_DAYS: u64 = 2;
/// An ending certificate is told of when so many days are left. Those with 90 days are renewed at 30, so the first is a
/// renewal that failed.
const CERTIFICATE_STAGES_DAYS: [u16; 4] = [28, 14, 7, 1];
/// From this one on it is critical: peers will refuse it soon.
const CERTIFICATE_CRITICAL_DAYS: u16 = 7;
/// Whatever lives shorter is renewed when this part of its life is left: what is usual is no alarm.
const CERTIFICATE_RENEWED_AT: i64 = 3;
/// Fewer messages for nobody are no alarm.
const UNASSIGNED_MIN: u64 = 20;
/// Nor is a smaller share of what was received, in percent.
const UNASSIGNED_PERCENT: u64 = 25;
/// The alarm is over below this share, in percent.
const UNASSIGNED_CALM_PERCENT: u64 = 10;

/// While the alarm is raised, a day's mail is the largest seen since: a weekend needs less room than the Monday after it.
pub(super) fn disk(facts: &Facts, margin_octets: u64, raised: Option<&Raised>, now: Timestamp) -> Verdict {
    let Some(space) = facts.space else { return Verdict::Unclear };
    let known = match raised.map(|raised| &raised.cause) {
        Some(Cause::DiskLow { daily_octets, .. }) => *daily_octets,
        _ => 0,
    };
    let daily_octets = space.daily_octets.unwrap_or(0).max(known);
    let left = space.free_octets.saturating_sub(space.reserve_octets);
    let wanted = margin_octets.max(daily_octets.saturating_mul(DISK_DAYS));
    let refuses = facts.store == StoreState::Full || left == 0;
    let is_over = space.daily_octets.is_some() && left >= wanted.saturating_add(wanted / 4);
    if !refuses && (is_over || raised.is_none() && left >= wanted) {
        return Verdict::Good;
    }
    let severity = if refuses { Severity::Critical } else { Severity::Warning };
    let (free_octets, reserve_octets) = (space.free_octets, space.reserve_octets);
    // Also where nothing changes what is seen does: mail refused before may be taken again.
    let cause = Cause::DiskLow { free_octets, reserve_octets, daily_octets, refuses };
    Verdict::Bad(severity, cause, now)
}

pub(super) fn log_end(facts: &Facts, now: Timestamp) -> Verdict {
    match &facts.checkpoints {
        None => Verdict::Unclear,
        Some(CheckpointFacts { missing: None, .. }) => Verdict::Good,
        Some(CheckpointFacts { missing: Some(what), .. }) => {
            Verdict::Bad(Severity::Critical, Cause::LogEndMissing { what: what.clone() }, now)
        }
    }
}

pub(super) fn checkpoints(facts: &Facts, now: Timestamp) -> Verdict {
    match facts.checkpoints.as_ref().map(|checkpoints| &checkpoints.failing) {
        None => Verdict::Unclear,
        Some(None) => Verdict::Good,
        Some(Some((since, _))) if elapsed_ms(*since, now) < CHECKPOINT_TROUBLE_MS => Verdict::Unclear,
        Some(Some((since, why))) => {
            Verdict::Bad(Severity::Warning, Cause::CheckpointsNotKept { why: why.clone() }, *since)
        }
    }
}

/// Critical: what is damaged may be the only copy, and what comes next may be too.
pub(super) fn damage(facts: &DamageFacts, now: Timestamp) -> Verdict {
    let DamageFacts { damaged, places, since } = facts.clone();
    match damaged {
        0 => Verdict::Good,
        _ => Verdict::Bad(Severity::Critical, Cause::StoreDamaged { damaged, places }, since.unwrap_or(now)),
    }
}

/// No mail is lost by it: mail that should leave stays.
pub(super) fn retention(facts: &Facts, now: Timestamp) -> Verdict {
    match facts.retention_pause {
        None => Verdict::Good,
        Some(PauseFacts { trusted, clock, restored }) => {
            Verdict::Bad(Severity::Warning, Cause::RetentionPaused { trusted, clock, restored }, now)
        }
    }
}

/// No mail is lost by it either, but the disk fills.
pub(super) fn retention_passes(facts: &Facts, now: Timestamp) -> Verdict {
    match &facts.retention_failure {
        None => Verdict::Good,
        Some(why) => Verdict::Bad(Severity::Warning, Cause::RetentionFailed { why: why.clone() }, now),
    }
}

/// The stage of an alarm that was written before there were stages.
pub(super) fn first_stage_days() -> u16 {
    CERTIFICATE_STAGES_DAYS[0]
}

pub(super) fn certificate(facts: &Facts, now: Timestamp) -> Verdict {
    let Some(Validity { begins, ends }) = facts.certificate else { return Verdict::Unclear };
    let left_ms = ends.unix_ms().saturating_sub(now.unix_ms());
    let renewed_at_ms = ends.unix_ms().saturating_sub(begins.unix_ms()) / CERTIFICATE_RENEWED_AT;
    let is_reached = |days: &u16| left_ms < (i64::from(*days) * DAY_MS).min(renewed_at_ms);
    let Some(within_days) = CERTIFICATE_STAGES_DAYS.into_iter().filter(is_reached).min() else {
        return Verdict::Good;
    };
    let is_critical = within_days <= CERTIFICATE_CRITICAL_DAYS;
    let severity = if is_critical { Severity::Critical } else { Severity::Warning };
    Verdict::Bad(severity, Cause::CertificateExpiring { ends, within_days }, now)
}

pub(super) fn certificate_files(facts: &Facts, now: Timestamp) -> Verdict {
    match &facts.certificate_files {
        None => Verdict::Unclear,
        Some(CertificateFiles::Shown) => Verdict::Good,
        Some(CertificateFiles::Bad(why)) => {
            Verdict::Bad(Severity::Warning, Cause::CertificateNotLoaded { why: why.clone() }, now)
        }
    }
}

/// What this process remembers ends with it, so a raised alarm brings what was known over a restart.
pub(super) fn refused(facts: &RefusedFacts, raised: Option<&Raised>, now: Timestamp) -> Verdict {
    let RefusedFacts { messages, forbidden, retired, last } = *facts;
    let known = match raised.map(|raised| &raised.cause) {
        Some(Cause::MailRefused { in_a_day, forbidden, retired, last }) => RefusedFacts {
            messages: in_a_day.saturating_sub(forbidden.saturating_add(*retired)),
            forbidden: *forbidden,
            retired: *retired,
            last: Some(*last),
        },
        _ => RefusedFacts::default(),
    };
    let Some(last) = last.max(known.last) else { return Verdict::Good };
    if elapsed_ms(last, now) >= DAY_MS {
        return Verdict::Good;
    }
    let messages = messages.max(known.messages);
    let (forbidden, retired) = (forbidden.max(known.forbidden), retired.max(known.retired));
    let in_a_day = messages.saturating_add(forbidden).saturating_add(retired);
    // Strangers can guess at an address that was given up, or find one out; only a message that had got further is as good as lost.
    let severity = if messages > 0 { Severity::Critical } else { Severity::Warning };
    Verdict::Bad(severity, Cause::MailRefused { in_a_day, forbidden, retired, last }, last)
}

/// Only a report ends the alarm: silence that has become usual is still silence.
pub(super) fn silence(
    numbers: &MailboxNumbers,
    watching_since: Timestamp,
    raised: Option<&Raised>,
    now: Timestamp,
) -> Verdict {
    let Some(last_received) = numbers.last_received else { return Verdict::Unclear };
    if let Some(Cause::NoReport { last_received: known, .. }) = raised.map(|raised| &raised.cause) {
        return if last_received > *known { Verdict::Good } else { Verdict::Unclear };
    }
    let Some(rhythm) = &numbers.rhythm else { return Verdict::Unclear };
    // While the server was down nothing could come.
    // What came since the last count is not known: the silence lasted until then, no longer.
    let until = numbers.counted_at.unwrap_or(now);
    if rhythm.is_too_long(last_received.max(watching_since), until) {
        let usual_silence_ms = rhythm.usual_silence_ms(until);
        let cause = Cause::NoReport { last_received, usual_silence_ms };
        return Verdict::Bad(Severity::Warning, cause, last_received);
    }
    Verdict::Good
}

pub(super) fn fetch(
    numbers: &MailboxNumbers,
    watching_since: Timestamp,
    limit_ms: Option<i64>,
    raised: Option<&Raised>,
    now: Timestamp,
) -> Verdict {
    let (Some(limit_ms), Some(oldest)) = (limit_ms, numbers.oldest_waiting) else { return Verdict::Good };
    let last_visit = numbers.last_visit.filter(|visit| !is_ahead(*visit, now));
    let since = match raised {
        Some(raised) if last_visit.is_some_and(|visit| visit > raised.since) => return Verdict::Good,
        Some(raised) => raised.since,
        // While the server was down nobody could come.
        None => {
            let oldest = if is_ahead(oldest, now) { watching_since } else { oldest };
            oldest.max(watching_since).max(last_visit.unwrap_or(oldest))
        }
    };
    if raised.is_none() && elapsed_ms(since, now) < limit_ms {
        return Verdict::Good;
    }
    let cause =
        Cause::NobodyFetched { waiting: numbers.waiting, oldest_waiting: numbers.oldest_waiting, last_visit };
    Verdict::Bad(Severity::Warning, cause, since)
}

/// However long ago: what is lost stays lost.
pub(super) fn missing(numbers: &MailboxNumbers, now: Timestamp) -> Verdict {
    let Some(MissingFacts { missing, original_held, oldest }) = numbers.missing else {
        return Verdict::Unclear;
    };
    let severity = match (missing, original_held) {
        (0, 0) => return Verdict::Good,
        (0, _) => Severity::Warning,
        _ => Severity::Critical,
    };
    Verdict::Bad(severity, Cause::ReportMissing { missing, original_held }, oldest.unwrap_or(now))
}

pub(super) fn quarantine(numbers: &MailboxNumbers, now: Timestamp) -> Verdict {
    match numbers.quarantined {
        0 => Verdict::Good,
        in_a_day => Verdict::Bad(Severity::Warning, Cause::QuarantineGrowing { in_a_day }, now),
    }
}

pub(super) fn unassigned(numbers: &MailboxNumbers, now: Timestamp) -> Verdict {
    let Some(unassigned) = numbers.unassigned else { return Verdict::Good };
    let received = numbers.received.max(unassigned);
    let reaches = |percent: u64| unassigned.saturating_mul(100) >= received.saturating_mul(percent);
    if unassigned >= UNASSIGNED_MIN && reaches(UNASSIGNED_PERCENT) {
        let cause = Cause::UnassignedGrowing { in_a_day: unassigned, received };
        Verdict::Bad(Severity::Warning, cause, now)
    } else if unassigned == 0 || !reaches(UNASSIGNED_CALM_PERCENT) {
        Verdict::Good
    } else {
        Verdict::Unclear
    }
}
