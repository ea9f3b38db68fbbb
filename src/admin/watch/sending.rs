//! From what is to be told to the relay: letters are put into the outbox, and sent from there, one after the other.
//!
//! Sending goes by the clock, whatever time is looked at. A letter that is on its way while the server ends is sent again at
//! the next start, under the same Message-ID.

use super::outbox::{Kind, Letter};
use super::page::{page, status_subject};
use super::status::{SentView, StatusMailView, StatusView};
use super::{LOOK_INTERVAL, Watch, lock};
use crate::admin::OpError;
use crate::mail::Timestamp;
use crate::observe::now;
use std::time::Duration;

/// How long a mail that is asked for may take, with all its recipients: less than the administration's connection lives.
const STATUS_MAIL_WAIT: Duration = Duration::from_secs(50);

impl Watch {
    /// Puts a letter into the outbox.
    pub(super) fn post(&self, letter: Letter) {
        let Some(mailer) = self.mailer.load_full() else { return };
        if let Some(dropped) = lock(&self.outbox).push(letter, mailer.recipients(), now()) {
            let (about, title) = (dropped.kind.as_str(), dropped.subject);
            tracing::warn!(event = "alert.mail_dropped", about, title, why = "too many wait");
        }
        self.posted.notify_one();
    }

    /// Sends what is due, for ever.
    pub(super) async fn send_all(&self) {
        loop {
            let due = lock(&self.outbox).due(now());
            let (Some(mailer), Some(due)) = (self.mailer.load_full(), due) else {
                // Those to be tried again become due at some look or other.
                tokio::select! {
                    () = self.posted.notified() => {}
                    () = tokio::time::sleep(LOOK_INTERVAL) => {}
                }
                continue;
            };
            let mut failure = None;
            for to in &due.to {
                match mailer.send(&due.letter, to).await {
                    Ok(answer) => {
                        let (about, title) = (due.letter.kind.as_str(), &due.letter.subject);
                        tracing::info!(event = "alert.mail_sent", about, title, to, answer);
                        lock(&self.outbox).sent(&due.letter.id, to);
                    }
                    Err(error) => failure = Some((error.kind, error.why)),
                }
            }
            self.note(failure.clone());
            if failure.is_some()
                && let Some(dropped) = lock(&self.outbox).failed(&due.letter.id, now())
            {
                let (about, title) = (dropped.kind.as_str(), dropped.subject);
                tracing::error!(event = "alert.mail_dropped", about, title, why = "not sent for a day");
            }
        }
    }

    /// Says once that sending fails, not at each try; and has everything tried when it works again.
    fn note(&self, failure: Option<(&'static str, String)>) {
        let mut outbox = lock(&self.outbox);
        let told = failure.clone();
        let differs = outbox.note(failure);
        match told {
            Some((kind, why)) if differs => {
                tracing::error!(event = "alert.mail_failed", kind, why, waiting = outbox.len());
            }
            Some(_) => {}
            None => {
                outbox.hurry(now());
                self.posted.notify_one();
            }
        }
    }

    /// The status report: only shown, or sent at once, past everything that waits.
    ///
    /// # Errors
    /// [`OpError::Usage`] when no relay is configured and it was to be sent.
    pub async fn status_mail(&self, send: bool) -> Result<StatusMailView, OpError> {
        let status = self.look(now(), true).await;
        let letter = report(&status);
        let mut view = StatusMailView {
            subject: letter.subject.clone(),
            text: letter.text.clone(),
            relay: None,
            sent: Vec::new(),
        };
        if !send {
            return Ok(view);
        }
        let Some(mailer) = self.mailer.load_full() else {
            let why = "no mail leaves: [alerts] in the configuration has no \"to\" and \"relay\"";
            return Err(OpError::Usage(why.to_owned()));
        };
        view.relay = Some(mailer.relay().to_owned());
        let deadline = tokio::time::Instant::now() + STATUS_MAIL_WAIT;
        let mut failure = None;
        for to in mailer.recipients() {
            let outcome = match tokio::time::timeout_at(deadline, mailer.send(&letter, &to)).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) => Err((error.kind, error.why)),
                Err(_) => Err(("late", "there was no time left".to_owned())),
            };
            let taken = outcome.is_ok();
            let answer = match &outcome {
                Ok(answer) | Err((_, answer)) => answer.clone(),
            };
            failure = outcome.err().or(failure);
            view.sent.push(SentView { to, taken, answer });
        }
        self.note(failure);
        Ok(view)
    }
}

pub(super) fn report(status: &StatusView) -> Letter {
    // A status that cannot be written as JSON still says everything in its text.
    let attachment = serde_json::to_string_pretty(status).ok();
    letter(Kind::Report, status_subject(status), page(status), attachment, status.at)
}

pub(super) fn letter(
    kind: Kind,
    subject: String,
    text: String,
    attachment: Option<String>,
    at: Timestamp,
) -> Letter {
    let mut random = [0_u8; 10];
    // Without randomness the id is guessable: it makes nothing open, but counts for no alarm.
    aws_lc_rs::rand::fill(&mut random).unwrap_or_default();
    let name: String = random.iter().map(|octet| format!("{octet:02x}")).collect();
    Letter { id: format!("{}.{name}", at.unix_ms()), kind, at, subject, text, attachment }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_letters_have_the_same_id() {
        let at = Timestamp::from_unix_ms(7);
        let id = || letter(Kind::Alert, String::new(), String::new(), None, at).id;
        assert_ne!(id(), id());
    }
}
