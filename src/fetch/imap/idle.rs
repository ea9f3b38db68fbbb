//! IDLE (RFC 2177): tells a client what happens in its folder while it waits.

use super::conversation::{Conversation, SILENT_TOO_LONG, at};
use super::stay::Stay;
use super::step::Step;
use crate::fetch::talk::{End, last_words};
use crate::net::wire::{IDLE_OCTETS, WireError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;

/// A folder is looked at no more often than this: in a burst of mail one look tells of all that came.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// When a look could not be had it is tried again after so long.
const LOOK_RETRY_WAIT: Duration = Duration::from_secs(5);
/// How often a client to which nothing else was said hears that it is still served: a connection over which nothing passes is
/// forgotten on the way.
const STILL_HERE_INTERVAL: Duration = Duration::from_secs(2 * 60);
/// What it hears.
const STILL_HERE: &[u8] = b"* OK Still here\r\n";

/// Waits until the client sends a line, which is left unread, or the server goes down: then `None`. Or until the session has
/// something else to do.
pub(super) async fn wait<S: AsyncRead + AsyncWrite + Unpin + Send>(
    conversation: &mut Conversation<'_, S>,
) -> Result<Option<Step>, End> {
    let door = conversation.door();
    let until = Instant::now() + door.waits.idle;
    let mut changes = conversation.stay.as_ref().and_then(Stay::watch);
    // Something may have happened between the last look and now.
    let mut look_at = changes.is_some().then(Instant::now);
    let mut looked_at = Instant::now();
    loop {
        if conversation.talk.has_line() {
            return Ok(None);
        }
        conversation.flush().await?;
        let still_here_at = looked_at + STILL_HERE_INTERVAL;
        let due = conversation.stay.as_ref().and_then(Stay::due);
        tokio::select! {
            biased;
            () = door.drain.started() => return Ok(None),
            read = conversation.talk.wire.fill(IDLE_OCTETS, until) => match read {
                Ok(_) => {}
                // More than the line that ends it: for the reader of lines to judge.
                Err(WireError::Full) => return Ok(None),
                Err(WireError::Deadline) => {
                    conversation.talk.say(SILENT_TOO_LONG);
                    last_words(conversation.flush()).await;
                    return Err(End::Timeout);
                }
                Err(error) => return Err(error.into()),
            },
            is_open = changed(&mut changes), if look_at.is_none() => {
                if is_open {
                    look_at = Some(looked_at + LOOK_INTERVAL);
                } else {
                    // Nobody tells any more: the gateway mailbox is gone, which the next look finds.
                    changes = None;
                    look_at = Some(Instant::now());
                }
            }
            () = at(look_at) => {
                look_at = None;
                looked_at = Instant::now();
                match look(conversation).await {
                    Looked::Told => {}
                    // Whatever woke us is still untold, and nobody will say it again.
                    Looked::Failed => look_at = Some(looked_at + LOOK_RETRY_WAIT),
                    Looked::Next(step) => return Ok(Some(step)),
                }
            }
            () = at(Some(still_here_at)) => {
                looked_at = Instant::now();
                conversation.talk.say(STILL_HERE);
            }
            () = at(due) => {}
        }
    }
}

/// What came of a look.
enum Looked {
    /// What is new has been said.
    Told,
    /// Nobody could tell what is new.
    Failed,
    /// Something else is to be done.
    Next(Step),
}

/// Says what is new.
async fn look<S: AsyncRead + AsyncWrite + Unpin + Send>(conversation: &mut Conversation<'_, S>) -> Looked {
    let (Some(stay), Some(known)) = (&conversation.stay, conversation.session.marks()) else {
        return Looked::Told;
    };
    let changes = stay.changes(known, &conversation.client).await;
    let has_failed = changes.is_err();
    match conversation.session.pushed(changes) {
        Step::Reply(news) => {
            conversation.talk.say(&news);
            if has_failed { Looked::Failed } else { Looked::Told }
        }
        step => Looked::Next(step),
    }
}

/// Wakes with true when something changed, with false when nobody will tell any more.
async fn changed(changes: &mut Option<watch::Receiver<u64>>) -> bool {
    match changes {
        Some(changes) => changes.changed().await.is_ok(),
        None => std::future::pending().await,
    }
}
