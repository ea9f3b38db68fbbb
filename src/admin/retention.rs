//! `daybook retention`: what retention and grace take, when, and by which clock.

use super::keeping::{Kind, after, going, is_held};
use super::ops::{Context, blocking, look_soon};
use super::request::OpError;
use super::watch::{ago, size, span};
use crate::mail::{Address, GatewayMailbox, GatewayMailboxId, Hold, Timestamp, Untrusted};
use crate::store::{ClockPause, FolderStatus, KeepingStatus, Recoverable};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// How long one answer waits for a pass; whoever asks waits on.
const PASS_WAIT: Duration = Duration::from_secs(30);
/// Pause between two looks at whether it has ended.
const PASS_LOOK: Duration = Duration::from_millis(20);
/// How long an answer may take: [`PASS_WAIT`], and as long again for what it tells.
pub(super) const RETENTION_WAIT: Duration = Duration::from_secs(60);

/// What retention and grace take, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionView {
    /// The clock, and the last pass.
    #[serde(flatten)]
    pub keeping: KeepingStatus,
    /// When it was asked for, by the clock of the gateway.
    pub at: Timestamp,
    /// A pass was asked for and has not ended yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub awaited: bool,
    /// Every gateway mailbox but the one for self-tests, oldest first.
    pub gateway_mailboxes: Vec<MailboxRetentionView>,
}

/// The same of one gateway mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxRetentionView {
    /// Never changes.
    pub id: GatewayMailboxId,
    /// The address reports are sent to.
    pub address: String,
    /// What it is called.
    pub name: String,
    /// So many days what was deleted can be had back.
    pub grace_days: u32,
    /// Legal holds on it.
    pub holds: Vec<Hold>,
    /// What retention takes out; nothing where there is no rule.
    pub rules: Vec<RuleView>,
    /// What was deleted and can be had back, folder by folder.
    pub recoverable: Vec<RecoverableView>,
}

/// One rule of retention.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleView {
    /// `INBOX`, or `Users` for all folders of users.
    pub folders: String,
    /// A message leaves so many days after its receipt.
    pub days: u32,
    /// Messages that leave at the next pass.
    pub due: u64,
    /// When the next one is due, if it is not yet; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
    /// Messages in folders that a legal hold keeps.
    pub held: u64,
}

/// What was deleted from a folder and can be had back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverableView {
    /// The path clients see.
    pub path: String,
    /// Messages.
    pub entries: u64,
    /// Their octets.
    pub octets: u64,
    /// When the first of them was deleted.
    pub oldest: Timestamp,
    /// When that one can be had back no more; absent under a legal hold.
    pub freed_from: Option<Timestamp>,
}

impl From<Recoverable> for RecoverableView {
    fn from(one: Recoverable) -> RecoverableView {
        let Recoverable { path, entries, octets, oldest, freed_from, .. } = one;
        RecoverableView { path, entries, octets, oldest, freed_from }
    }
}

/// What is asked of the pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PassAsked {
    /// Make one now, and tell when it has ended.
    Begin,
    /// Tell when the one that was begun has ended.
    Await,
}

/// How it stands; after a pass, if one is asked for and ends soon enough.
pub(super) async fn retention(context: &Context, asked: Option<PassAsked>) -> Result<RetentionView, OpError> {
    let awaited = match asked {
        None => false,
        Some(asked) => {
            let ended = pass(context, asked).await?;
            look_soon(context);
            !ended
        }
    };
    let view = blocking(context, look).await?;
    Ok(RetentionView { awaited, ..view })
}

/// Waits for a pass; false when it has not ended in time. One that begins while another is under way comes behind that.
async fn pass(context: &Context, asked: PassAsked) -> Result<bool, OpError> {
    let deadline = Instant::now() + PASS_WAIT;
    refuse_paused(&context.store.keeping())?;
    if asked == PassAsked::Begin {
        context.store.keep_now()?;
    }
    loop {
        let now = context.store.keeping();
        refuse_paused(&now)?;
        if !now.running {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
        tokio::time::sleep(PASS_LOOK).await;
    }
}

fn refuse_paused(keeping: &KeepingStatus) -> Result<(), OpError> {
    match &keeping.paused {
        None => Ok(()),
        Some(pause) => Err(OpError::Refused(format!(
            "retention is paused: {}; if all is right: daybook retention confirm",
            pause_seen(pause)
        ))),
    }
}

/// Has retention go by the clock again, which had jumped ahead.
pub(super) async fn confirm(
    context: &Context,
    actor: &str,
    approved: bool,
) -> Result<RetentionView, OpError> {
    let keeping = context.store.keeping();
    let Some(pause) = keeping.paused else {
        let trusted = keeping.trusted;
        return Err(OpError::Refused(format!("the clock is not in doubt: retention goes by {trusted}")));
    };
    if !approved {
        return Err(OpError::NeedsApproval(format!(
            "{}\nwith that clock, what became due in between leaves at the next pass, and what was deleted before is freed for good",
            pause_seen(&pause)
        )));
    }
    context.store.trust_clock(actor).await?;
    look_soon(context);
    blocking(context, look).await
}

/// `the clock says …, 400 days 0 h ahead of …, …`
fn pause_seen(pause: &ClockPause) -> String {
    if pause.is_of_restore() {
        return "the store was restored from a backup, which knows of no legal hold and no rule set after it: set them again first"
            .to_owned();
    }
    let ahead = span(pause.clock.unix_ms().saturating_sub(pause.trusted.unix_ms()));
    format!(
        "the clock says {}, {ahead} ahead of {}, the last time it was known to be right",
        pause.clock, pause.trusted
    )
}

fn look(context: &Context) -> Result<RetentionView, OpError> {
    let mut gateway_mailboxes = Vec::new();
    for mailbox in context.store.gateway_mailboxes().iter().filter(|mailbox| !mailbox.is_self_test()) {
        gateway_mailboxes.push(one(context, mailbox)?);
    }
    let at = crate::observe::now();
    Ok(RetentionView { keeping: context.store.keeping(), at, awaited: false, gateway_mailboxes })
}

fn one(context: &Context, mailbox: &GatewayMailbox) -> Result<MailboxRetentionView, OpError> {
    let folders = context.store.folders(mailbox.id)?;
    let mut rules = Vec::new();
    for kind in [Kind::Inbox, Kind::Users] {
        if let Some(days) = kind.days(mailbox.keeping) {
            rules.push(rule(context, mailbox, &folders, (kind, days))?);
        }
    }
    let recoverable = context.store.recoverable(mailbox.id, Timestamp::from_unix_ms(0))?;
    Ok(MailboxRetentionView {
        id: mailbox.id,
        address: mailbox.address().map(Address::as_str).unwrap_or_default().to_owned(),
        name: mailbox.name.clone(),
        grace_days: mailbox.keeping.grace_days,
        holds: mailbox.holds.clone(),
        rules,
        recoverable: recoverable.into_iter().map(RecoverableView::from).collect(),
    })
}

fn rule(
    context: &Context,
    mailbox: &GatewayMailbox,
    folders: &[FolderStatus],
    (kind, days): (Kind, u32),
) -> Result<RuleView, OpError> {
    let of_it = || folders.iter().filter(move |folder| kind.is_of(&folder.name));
    let free = of_it().filter(|folder| !is_held(mailbox, &folder.name));
    let due = going(context, mailbox, folders, kind)?;
    // While some are due, they are what comes next.
    let oldest = free.filter_map(|folder| folder.oldest).min().filter(|_| due == 0);
    let held = of_it().filter(|folder| is_held(mailbox, &folder.name)).map(|folder| folder.entries).sum();
    let next_at = oldest.map(|at| after(at, days));
    Ok(RuleView { folders: kind.name().to_owned(), days, due, next_at, held })
}

/// One line: whether it goes on, and what the last pass did.
pub(super) fn line(keeping: &KeepingStatus, now: Timestamp) -> String {
    if let Some(pause) = &keeping.paused {
        let since = ago(pause.since, now);
        return format!("retention: PAUSED since {since}: {}\n", pause_seen(pause));
    }
    match &keeping.last {
        None if keeping.running => "retention: the first pass is under way\n".to_owned(),
        None => "retention: no pass yet\n".to_owned(),
        Some(last) => match &last.error {
            Some(error) => {
                format!(
                    "retention: THE LAST PASS FAILED, {}: {}\n",
                    ago(last.ended_at, now),
                    Untrusted(error)
                )
            }
            None => format!(
                "retention: last pass {}: {} expired, {} freed\n",
                ago(last.ended_at, now),
                last.expired,
                size(last.freed_octets)
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::KeptPass;

    #[test]
    fn one_line_says_whether_it_goes_on() {
        let at = Timestamp::from_unix_ms(1_794_787_200_000);
        let day = |n: i64| Timestamp::from_unix_ms(at.unix_ms() + n * 86_400_000);
        let mut keeping = KeepingStatus { trusted: at, paused: None, running: false, last: None };
        assert_eq!(line(&keeping, at), "retention: no pass yet\n");
        let last = KeptPass {
            at,
            ended_at: at,
            expired: 3,
            freed_entries: 2,
            freed_objects: 2,
            freed_octets: 5 << 20,
            held: 0,
            error: None,
        };
        keeping.last = Some(last.clone());
        assert!(
            line(&keeping, at).ends_with("(just now): 3 expired, 5.0 MiB freed\n"),
            "{}",
            line(&keeping, at)
        );
        keeping.last = Some(KeptPass { error: Some("no space left".to_owned()), ..last });
        assert!(line(&keeping, at).contains("FAILED"));
        keeping.paused = Some(ClockPause { since: day(400), trusted: at, clock: day(400), restored: false });
        let paused = line(&keeping, day(400));
        assert!(paused.contains("PAUSED") && paused.contains("400 days 0 h ahead of"), "{paused}");
    }
}
