//! The `graph` source: the users of a Microsoft 365 tenant, asked of Microsoft Graph.
//!
//! ```text
//! groups = […]   ─▶ /groups/{id} and its transitive members ─▶ who is in which ┐
//!                   /users, all pages                        ──────────────────┼▶ candidates
//! include_groups ─▶ /groups, Microsoft 365 ones              ──────────────────┘
//! ```
//! `shape` says what an answer means, `link` where may be asked, `ask` asks.
//!
//! Invariants:
//! - Every page of every collection, or an error: a page that is cut, is missing, or names a next one elsewhere ends the reading.
//! - Where Graph has forgotten what its link meant, everything is read anew, twice at most: pages of two readings are not mixed.
//! - The token goes to the one host of the configured cloud. Where the next page is, Graph says; that it is there is checked.
//! - Patience is bounded: each wait, all waits, the whole reading. All of them end when the program does.
//! - A group that is not there is an error and not an empty group: a mistyped id must not make nobody of everybody.
//!
//! Users are known by their object id, which outlives every rename. Shared mailboxes cannot be told from disabled users: Graph
//! says it only user by user, with a permission to read mailbox settings; `filter.rs` knows them by what they look like.
//! Changes since the last reading (delta) are not asked for: 100,000 users are 101 requests.

mod ask;
mod link;
mod shape;

use super::proxies::Held;
use super::{CANDIDATES_MAX, Candidate, Listing, Source, SourceError};
use crate::config::{self, Filters};
use crate::entra::{Http, Tokens};
use crate::mail::Untrusted;
use ask::{Asker, Wanted, no_token, refused};
use link::Links;
use shape::{GraphGroup, GraphMember, GraphUser, NoCandidate, Read, Weak, id_of};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use uuid::Uuid;

/// Memberships of all configured groups together: memory stays bounded where groups overlap.
const MEMBERSHIPS_MAX: usize = 4 * CANDIDATES_MAX;
/// Times a reading is begun anew when Graph has forgotten where it was. What was read before is not used.
const RESTARTS_MAX: u32 = 2;
/// What shows users with all that is asked for.
const USER_PERMISSION: &str = "User.Read.All";
/// What shows groups and who is in them.
const GROUP_PERMISSION: &str = "GroupMember.Read.All";
/// How a group says that only some may see who is in it.
const HIDDEN_MEMBERSHIP: &str = "HiddenMembership";

/// How long a reading bears with a Graph that asks for patience or does not answer.
#[derive(Clone, Debug)]
pub struct Patience {
    /// The first wait where Graph does not say how long; each further one is twice as long, give or take a fifth. Default 1 s.
    pub first: Duration,
    /// The longest single wait; Graph asking for more ends the reading. Default 5 minutes.
    pub wait: Duration,
    /// All waits of a reading together. Default 15 minutes.
    pub waits: Duration,
    /// Further tries for one page. Default 5.
    pub retries: u32,
    /// One request and the whole of its answer. Default a minute.
    pub answer: Duration,
    /// The whole reading. Default an hour.
    pub reading: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            first: Duration::from_secs(1),
            wait: Duration::from_secs(5 * 60),
            waits: Duration::from_secs(15 * 60),
            retries: 5,
            answer: Duration::from_secs(60),
            reading: Duration::from_secs(60 * 60),
        }
    }
}

impl Patience {
    /// How long to wait before this try, where nobody says. Not the same for everybody: who was told no together would come
    /// again together.
    fn back_off(&self, tries: u32) -> Duration {
        let mut random = [0_u8; 1];
        // Without randomness it is the shortest.
        aws_lc_rs::rand::fill(&mut random).unwrap_or_default();
        let wait = self.first.saturating_mul(1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX));
        let [part] = random;
        wait.saturating_mul(80 + u32::from(part) * 40 / 255) / 100
    }
}

/// Asks Microsoft Graph who the users are. Holds no secret and no connection between readings.
#[derive(Debug)]
pub struct GraphSource {
    config: config::GraphSource,
    filters: Filters,
    patience: Patience,
}

impl GraphSource {
    /// Asks nobody yet. Of the filters, those are used that decide what is asked for: groups, other addresses.
    pub fn new(config: &config::GraphSource, filters: &Filters) -> GraphSource {
        GraphSource { config: config.clone(), filters: filters.clone(), patience: Patience::default() }
    }

    /// The same, with other patience.
    pub fn with_patience(self, patience: Patience) -> GraphSource {
        GraphSource { patience, ..self }
    }
}

impl Source for GraphSource {
    fn read(&self, go_on: &dyn Fn() -> bool) -> Result<Listing, SourceError> {
        let links = Links { host: self.config.app.cloud.graph_host() };
        // New each time: a secret that was replaced, or a permission that was granted, counts at once.
        let scope = format!("https://{}/.default", links.host);
        let app = &self.config.app;
        let http = Http::with_timeout(app, self.patience.answer).map_err(|error| no_token(error.into()))?;
        let tokens = Tokens::over(http, app.clone(), scope);
        let mut asker = Asker::new(links, &tokens, &self.patience, go_on);
        let mut restarts = 0;
        loop {
            match self.read_once(&mut asker) {
                Err(_) if asker.was_stale() && restarts < RESTARTS_MAX => restarts += 1,
                read => return read,
            }
        }
    }
}

impl GraphSource {
    fn read_once(&self, asker: &mut Asker<'_>) -> Result<Listing, SourceError> {
        let memberships = self.memberships(asker)?;
        let mut found = Found::default();
        self.users(asker, &memberships, &mut found)?;
        if self.filters.include_groups {
            self.unified_groups(asker, &memberships, &mut found)?;
        }
        found.listing.requests = asker.requests;
        Ok(found.finished())
    }

    fn users(
        &self,
        asker: &mut Asker<'_>,
        memberships: &[Membership],
        found: &mut Found,
    ) -> Result<(), SourceError> {
        let wanted = Wanted { what: "users", permission: USER_PERMISSION, eventual: false };
        let mut in_full = 0_u64;
        let link = asker.links.users(self.config.page_entries);
        asker.collection(&wanted, link, |user: GraphUser| {
            in_full += u64::from(user.is_shown_in_full());
            let groups = groups_of(memberships, &user.id);
            found.add(&user.id, user.candidate(&self.filters, groups))
        })?;
        // Without the permission Graph leaves out what it does not show, also all further addresses: nobody would seem gone, and
        // their mail would go astray.
        if in_full == 0 && !found.listing.candidates.is_empty() {
            let said = "no user comes with accountEnabled: Graph shows this application only a part of each"
                .to_owned();
            let advice = format!(
                "Add the application permission {USER_PERMISSION} of Microsoft Graph under App registrations > API permissions, \
                 and press \"Grant admin consent\"."
            );
            return Err(SourceError::Refused { said, advice });
        }
        Ok(())
    }

    fn unified_groups(
        &self,
        asker: &mut Asker<'_>,
        memberships: &[Membership],
        found: &mut Found,
    ) -> Result<(), SourceError> {
        let wanted = Wanted { what: "Microsoft 365 groups", permission: GROUP_PERMISSION, eventual: false };
        let link = asker.links.unified_groups(self.config.page_entries);
        asker.collection(&wanted, link, |group: GraphGroup| {
            let same = |membership: &&Membership| membership.group.eq_ignore_ascii_case(&group.id);
            let groups = memberships.iter().filter(same).map(|membership| membership.group.clone()).collect();
            found.add(&group.id, group.candidate(groups))
        })
    }

    /// Who is in which of the configured groups.
    fn memberships(&self, asker: &mut Asker<'_>) -> Result<Vec<Membership>, SourceError> {
        let mut all = 0;
        let mut memberships = Vec::new();
        for group in self.filters.groups.iter().flatten() {
            let id = Uuid::try_parse(group).map_err(|_| no_such_group(group, "is no object id"))?.to_string();
            let what = format!("members of group {id}");
            let wanted = Wanted { what: &what, permission: GROUP_PERMISSION, eventual: true };
            let hidden = look_up(asker, group, &id)?;
            let mut members = HashSet::new();
            let link = asker.links.members(&id);
            asker.collection(&wanted, link, |member: GraphMember| {
                all += usize::from(members.insert(member.id.to_ascii_lowercase()));
                if all > MEMBERSHIPS_MAX {
                    return Err(SourceError::TooLarge(format!(
                        "more than {MEMBERSHIPS_MAX} members of groups"
                    )));
                }
                Ok(())
            })?;
            if hidden && members.is_empty() {
                let said = format!("group {id} hides who is in it");
                let advice = "Add the application permission Member.Read.Hidden of Microsoft Graph, or name another group.";
                return Err(SourceError::Refused { said, advice: advice.to_owned() });
            }
            memberships.push(Membership { group: group.clone(), members });
        }
        Ok(memberships)
    }
}

/// A configured group, as the configuration writes it, and the ids of those in it, also by way of groups in it.
struct Membership {
    group: String,
    members: HashSet<String>,
}

fn groups_of(memberships: &[Membership], user: &str) -> Vec<String> {
    let Some(id) = id_of(user).filter(|_| !memberships.is_empty()) else { return Vec::new() };
    let within = memberships.iter().filter(|membership| membership.members.contains(&id));
    within.map(|membership| membership.group.clone()).collect()
}

/// Whether a group is there at all, and hides its members.
fn look_up(asker: &mut Asker<'_>, group: &str, id: &str) -> Result<bool, SourceError> {
    let what = format!("group {id}");
    let wanted = Wanted { what: &what, permission: GROUP_PERMISSION, eventual: false };
    let link = asker.links.group(id);
    let body = match asker.get(&link, &wanted)? {
        Ok(body) => body,
        Err(refusal) if refusal.status == 404 => {
            return Err(no_such_group(group, &format!("is not there: {refusal}")));
        }
        Err(refusal) => return Err(refused(&refusal, &wanted, format!("{what}: {refusal}"))),
    };
    let shown: GraphGroup = serde_json::from_slice(&body)
        .map_err(|_| SourceError::Incomplete(format!("{what}: the answer is not as documented")))?;
    if !shown.id.eq_ignore_ascii_case(id) {
        return Err(SourceError::Incomplete(format!("{what}: the answer is about another group")));
    }
    Ok(shown.visibility.is_some_and(|visibility| visibility.eq_ignore_ascii_case(HIDDEN_MEMBERSHIP)))
}

fn no_such_group(group: &str, why: &str) -> SourceError {
    SourceError::Refused {
        said: format!("group \"{}\" {why}", Untrusted(group)),
        advice: "Each entry of groups must be the object id of a group of this tenant, as its page in the portal shows it."
            .to_owned(),
    }
}

/// What was found so far.
#[derive(Default)]
struct Found {
    listing: Listing,
    /// What each of its candidates claims only where nobody has it, in the same order.
    weak: Vec<Weak>,
    /// Where in the listing an id stands.
    known: HashMap<String, usize>,
}

impl Found {
    /// Adds what an entry came to. Collections that change while they are read may name an entry twice: the same again counts
    /// once; where it says something else, which is right cannot be known.
    fn add(&mut self, entry: &str, read: Result<Read, NoCandidate>) -> Result<(), SourceError> {
        let Read { candidate, weak, faults } = match read {
            Ok(read) => read,
            Err(NoCandidate::Skipped(why)) => {
                self.listing.skip(Untrusted(entry).to_string(), why);
                return Ok(());
            }
            Err(NoCandidate::TooLarge) => {
                let why = format!("\"{}\" has too many addresses", Untrusted(entry));
                return Err(SourceError::TooLarge(why));
            }
        };
        let before = self.known.get(&candidate.id).copied();
        if let Some(before) =
            before.and_then(|place| Some((self.listing.candidates.get(place)?, self.weak.get(place)?)))
        {
            let changed = format!("{} was changed while the users were read", Untrusted(&candidate.id));
            return if before == (&candidate, &weak) {
                Ok(())
            } else {
                Err(SourceError::Incomplete(changed))
            };
        }
        if self.listing.candidates.len() == CANDIDATES_MAX {
            return Err(SourceError::TooLarge(format!("more than {CANDIDATES_MAX} users")));
        }
        for fault in faults {
            self.listing.skip(shown(&candidate), fault);
        }
        self.known.insert(candidate.id.clone(), self.listing.candidates.len());
        self.listing.candidates.push(candidate);
        self.weak.push(weak);
        Ok(())
    }

    /// With the weaker claims granted, now that everybody is known: names to sign in with first.
    fn finished(mut self) -> Listing {
        let candidates = &mut self.listing.candidates;
        let mut held = Held::by(candidates.iter());
        for (candidate, weak) in candidates.iter_mut().zip(&mut self.weak) {
            weak.sign_in.drain(..).for_each(|address| held.give(candidate, address));
        }
        for (candidate, weak) in candidates.iter_mut().zip(self.weak) {
            weak.other_mails.into_iter().for_each(|address| held.give(candidate, address));
        }
        self.listing
    }
}

fn shown(candidate: &Candidate) -> String {
    format!("{} \"{}\"", candidate.id, Untrusted(&candidate.name))
}
