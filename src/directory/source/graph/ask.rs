//! Asking Graph: one page at a time, with patience where it asks for some, and every page of a collection or none.

use super::super::SourceError;
use super::Patience;
use super::link::Links;
use super::shape::Page;
use crate::entra::{Answer, HttpError, Refusal, TokenError, Tokens, advice};
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Octets of one page: 999 users with 300 addresses each have some 20 MiB.
const PAGE_OCTETS_MAX: u64 = 64 * 1024 * 1024;
/// Pages of one collection: the most candidates there may be, in the smallest pages that can be asked for.
const PAGES_MAX: u64 = 100_000;
/// Pages with nothing on them, one after the other. Graph may send some where it filters.
const EMPTY_PAGES_MAX: u32 = 100;
/// Further tries for what was broken off or did not come: each may take its whole time limit.
const BROKEN_OFF_RETRIES: u32 = 2;
/// Between looks whether to go on.
const LOOK: Duration = Duration::from_millis(100);

/// What is asked for, for errors, and what it takes.
pub(super) struct Wanted<'a> {
    /// As errors name it: `users`.
    pub(super) what: &'a str,
    /// The least application permission that shows it.
    pub(super) permission: &'static str,
    /// Whether it needs the index that follows the directory with a delay.
    pub(super) eventual: bool,
}

/// Asks for one reading.
pub(super) struct Asker<'a> {
    pub(super) links: Links,
    tokens: &'a Tokens,
    patience: &'a Patience,
    go_on: &'a dyn Fn() -> bool,
    began: Instant,
    waited: Duration,
    /// Which page of a collection is asked for, from 1; 0 is none.
    page: u64,
    /// Something was had already.
    answered: bool,
    /// The place in a collection was lost: only from its first page on can it be read.
    stale: bool,
    /// Sent so far, also those that were refused or told to wait.
    pub(super) requests: u64,
}

impl<'a> Asker<'a> {
    pub(super) fn new(
        links: Links,
        tokens: &'a Tokens,
        patience: &'a Patience,
        go_on: &'a dyn Fn() -> bool,
    ) -> Asker<'a> {
        let (began, waited) = (Instant::now(), Duration::ZERO);
        let (page, answered, stale, requests) = (0, false, false, 0);
        Asker { links, tokens, patience, go_on, began, waited, page, answered, stale, requests }
    }

    /// Reads a collection to its end and hands every entry over.
    ///
    /// # Errors
    /// [`SourceError`]: not every page was had, or `each` took an entry for wrong. What was handed over is not to be used then.
    pub(super) fn collection<T: DeserializeOwned>(
        &mut self,
        wanted: &Wanted<'_>,
        first: String,
        mut each: impl FnMut(T) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        // Hashes with keys of this process: two links with the same one are not to be had on purpose.
        let hasher = RandomState::new();
        let mut seen = HashSet::from([hasher.hash_one(&first)]);
        let mut link = first;
        let mut empty = 0;
        for number in 1..=PAGES_MAX {
            self.page = number;
            let body = match self.get(&link, wanted)? {
                Ok(body) => body,
                Err(refusal) => {
                    self.stale = number > 1 && is_stale(&refusal);
                    return Err(self.verdict(&refusal, wanted));
                }
            };
            let place = self.place(wanted);
            let incomplete = |why: &str| Err(SourceError::Incomplete(format!("{place}: {why}")));
            let page: Page<T> = match serde_json::from_slice(&body) {
                Ok(page) => page,
                Err(error) => return incomplete(&no_sense(&error, body.len())),
            };
            empty = if page.value.is_empty() { empty + 1 } else { 0 };
            page.value.into_iter().try_for_each(&mut each)?;
            let Some(next) = page.next_link else {
                self.page = 0;
                return Ok(());
            };
            if empty > EMPTY_PAGES_MAX {
                return incomplete(&format!("{EMPTY_PAGES_MAX} pages before it were empty"));
            }
            if !self.links.is_ours(&next) {
                return incomplete("the link to the next page leads to another host");
            }
            if !seen.insert(hasher.hash_one(&next)) {
                return incomplete("the link to the next page leads back to one that was read");
            }
            link = next;
        }
        Err(SourceError::TooLarge(format!("{} on more than {PAGES_MAX} pages", wanted.what)))
    }

    /// Asks for one thing until it is there or refused: the body, or the refusal where asking again is no use.
    ///
    /// # Errors
    /// [`SourceError`] when there is neither.
    pub(super) fn get(
        &mut self,
        link: &str,
        wanted: &Wanted<'_>,
    ) -> Result<Result<Vec<u8>, Refusal>, SourceError> {
        let mut renewed = false;
        let mut tries = 0;
        loop {
            let (why, wait, retries) = match self.once(link, wanted)? {
                Ok(answer) if answer.status == 200 => {
                    self.answered = true;
                    return Ok(Ok(answer.body));
                }
                // The token has ended, or was taken back, since it was asked for. Once: a new one that is refused is no accident.
                Ok(answer) if answer.status == 401 && !renewed => {
                    renewed = true;
                    self.tokens.forget();
                    continue;
                }
                Ok(answer) => {
                    let refusal = Refusal::read(answer.status, &answer.body);
                    if !asks_for_patience(answer.status) {
                        return Ok(Err(refusal));
                    }
                    let why = format!("{}: {refusal}", self.place(wanted));
                    let why = match answer.retry_after {
                        Some(wait) => SourceError::Throttled { why, wait },
                        None => SourceError::Incomplete(why),
                    };
                    (why, answer.retry_after, self.patience.retries)
                }
                Err(error @ (HttpError::Cut(_) | HttpError::Unreachable(_))) => {
                    (self.broken_off(wanted, &error), None, self.patience.retries.min(BROKEN_OFF_RETRIES))
                }
                Err(error) => return Err(self.broken_off(wanted, &error)),
            };
            tries += 1;
            if tries > retries {
                return Err(why);
            }
            self.wait(wait.unwrap_or_else(|| self.patience.back_off(tries)), why)?;
        }
    }

    /// Whether the reading ended because Graph had forgotten where it was; said once.
    pub(super) fn was_stale(&mut self) -> bool {
        self.page = 0;
        std::mem::take(&mut self.stale)
    }

    /// One request, with a token that is good.
    fn once(&mut self, link: &str, wanted: &Wanted<'_>) -> Result<Result<Answer, HttpError>, SourceError> {
        self.look()?;
        if self.began.elapsed() > self.patience.reading {
            let minutes = self.patience.reading.as_secs() / 60;
            return Err(SourceError::Incomplete(format!(
                "{} were not read after {minutes} minutes",
                wanted.what
            )));
        }
        let token = match self.tokens.get_while(self.go_on) {
            Ok(token) => token,
            Err(error) => {
                self.look()?;
                return Err(no_token(error));
            }
        };
        let bearer = Zeroizing::new(format!("Bearer {}", token.as_str()));
        let mut headers = vec![
            ("Authorization", bearer.as_str()),
            ("Accept", "application/json"),
            // Whoever waits for an answer at a screen goes first.
            ("x-ms-throttle-priority", "low"),
        ];
        if wanted.eventual {
            headers.push(("ConsistencyLevel", "eventual"));
        }
        self.requests += 1;
        Ok(self.tokens.http().get(link, &headers, PAGE_OCTETS_MAX))
    }

    /// Nothing was there when nothing was read yet; later on, something is missing.
    fn broken_off(&self, wanted: &Wanted<'_>, error: &HttpError) -> SourceError {
        match error {
            HttpError::Setup(why) => {
                SourceError::Refused { said: why.clone(), advice: SETUP_ADVICE.to_owned() }
            }
            HttpError::TooLong(_) => SourceError::TooLarge(format!("{}: {error}", self.place(wanted))),
            HttpError::Unreachable(why) if !self.answered => SourceError::Unreachable(why.clone()),
            _ => SourceError::Incomplete(format!("{}: {error}", self.place(wanted))),
        }
    }

    /// What a refusal comes to: behind the first page something is missing, whatever the reason; before it nobody was let in.
    fn verdict(&self, refusal: &Refusal, wanted: &Wanted<'_>) -> SourceError {
        let said = format!("{}: {refusal}", self.place(wanted));
        match refusal.status {
            401 | 403 => refused(refusal, wanted, said),
            400..=499 if self.page == 1 => refused(refusal, wanted, said),
            _ => SourceError::Incomplete(said),
        }
    }

    /// What is being asked for.
    fn place(&self, wanted: &Wanted<'_>) -> String {
        if self.page == 0 { wanted.what.to_owned() } else { format!("{}, page {}", wanted.what, self.page) }
    }

    fn look(&self) -> Result<(), SourceError> {
        if (self.go_on)() { Ok(()) } else { Err(SourceError::Stopped) }
    }

    /// Waits, looking whether to go on. A wait that is too long is not begun: whoever asks before it is over is only told to wait
    /// for longer.
    fn wait(&mut self, wait: Duration, why: SourceError) -> Result<(), SourceError> {
        self.waited += wait;
        if wait > self.patience.wait || self.waited > self.patience.waits {
            return Err(why);
        }
        let until = Instant::now() + wait;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.look()?;
            std::thread::sleep(left.min(LOOK));
        }
        self.look()
    }
}

/// What to do about a proxy or `ca_file` that is no good.
const SETUP_ADVICE: &str = "Mend proxy or ca_file of this source.";

/// Statuses that go away by themselves.
fn asks_for_patience(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504 | 509)
}

/// What Graph says when it has forgotten what a link to a next page meant. In large tenants that happens.
fn is_stale(refusal: &Refusal) -> bool {
    let forgotten = ["Directory_ExpiredPageToken", "DirectoryPageTokenNotFoundException"];
    refusal.status == 410 || forgotten.contains(&refusal.error.as_str())
}

/// A refusal, with what to do.
pub(super) fn refused(refusal: &Refusal, wanted: &Wanted<'_>, said: String) -> SourceError {
    let advice = advice::on_graph(refusal, wanted.permission);
    let advice =
        advice.unwrap_or_else(|| "Read what Microsoft says; give the ids to its support.".to_owned());
    SourceError::Refused { said, advice }
}

/// Why there is no token, as an error of a reading.
pub(super) fn no_token(error: TokenError) -> SourceError {
    let said = error.to_string();
    match error {
        TokenError::Refused { advice, .. } => SourceError::Refused { said, advice },
        TokenError::Unreachable(_) => SourceError::Unreachable(said),
        TokenError::Incomplete(_) => SourceError::Incomplete(said),
        TokenError::Credential(_) => {
            let advice = "Mend the secret, certificate or key, proxy or ca_file of this source.".to_owned();
            SourceError::Refused { said, advice }
        }
    }
}

/// Without what stands there: it is about people.
fn no_sense(error: &serde_json::Error, octets: usize) -> String {
    match error.classify() {
        serde_json::error::Category::Eof => format!("it breaks off after {octets} octets"),
        serde_json::error::Category::Data => {
            format!("it is not as documented (line {}, column {})", error.line(), error.column())
        }
        _ => format!("it is not JSON (line {}, column {})", error.line(), error.column()),
    }
}
