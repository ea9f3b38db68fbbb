//! What was promised, kept outside the failing disk, and the judgement on what is left of it.

use super::gateway::{Account, Gateway};
use super::load::Sha256;
use super::maildrop::{Fetched, Maildrop};
use rustls::ClientConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// What a poller saw and did.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Every message seen and not deleted, by UIDL; fetched, or only listed.
    seen: BTreeMap<String, Option<Fetched>>,
    deleted: BTreeSet<String>,
    /// Deleted in a session whose end was not answered: they may be there or not.
    leaving: BTreeSet<String>,
    /// The highest UID ever listed.
    uid_max: u64,
    /// Message-IDs of what was deleted.
    gone: BTreeSet<String>,
}

/// What is wrong; nothing in the best case.
#[derive(Default)]
pub(crate) struct Verdict {
    /// The server could not be started, or not be asked.
    pub(crate) unusable: Vec<String>,
    /// Acknowledged and not there, by Message-ID.
    pub(crate) lost: Vec<String>,
    /// There more than once.
    pub(crate) doubled: Vec<String>,
    /// Octets that were never sent, or others than before.
    pub(crate) altered: Vec<String>,
    /// UIDLs seen before and not there now.
    pub(crate) vanished: Vec<String>,
    /// UIDLs that were deleted and are back.
    pub(crate) returned: Vec<String>,
    /// New messages under a UID that was passed already.
    pub(crate) reused: Vec<String>,
    /// Damage the server named itself.
    pub(crate) damaged: Vec<String>,
    /// Messages in the maildrop.
    pub(crate) present: usize,
}

impl Verdict {
    fn kinds(&self) -> [(&'static str, &Vec<String>); 8] {
        [
            ("unusable", &self.unusable),
            ("lost", &self.lost),
            ("doubled", &self.doubled),
            ("altered", &self.altered),
            ("vanished", &self.vanished),
            ("returned", &self.returned),
            ("reused", &self.reused),
            ("damaged", &self.damaged),
        ]
    }

    pub(crate) fn is_good(&self) -> bool {
        self.names().is_empty()
    }

    /// Nothing is wrong, but that the end of the log is bad and nobody knows any more whether it was acknowledged.
    pub(crate) fn is_good_but_for_the_end(&self) -> bool {
        let is_the_end = |line: &String| line.contains("of log segment") && line.contains("cut short");
        self.names() == ["damaged"]
            && self.damaged.iter().filter(|line| is_the_end(line)).count() == self.damaged.len()
    }

    /// What kinds of things are wrong.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        let wrong = self.kinds().into_iter().filter(|(_, wrong)| !wrong.is_empty());
        wrong.map(|(kind, _)| kind).collect()
    }
}

/// Damage that the server named since its start, wherever it met it: mail that contradicts what is stored, a keyring that a login
/// cannot open.
pub(crate) fn damage_named(gateway: &Gateway) -> Vec<String> {
    let named = gateway.events().into_iter().filter(|(name, line)| {
        ["damaged", "rebuilt"].iter().any(|word| name.contains(word))
            || name == "store.thread_failed"
            || line.contains("\"error\":\"damaged: ")
    });
    named.map(|(_, line)| line).collect()
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_good() {
            return write!(f, "nothing wrong");
        }
        let wrong = self.kinds().into_iter().filter(|(_, wrong)| !wrong.is_empty());
        let words: Vec<_> = wrong
            .map(|(kind, wrong)| {
                let first: String = wrong[0].chars().take(200).collect();
                format!("{} {kind} ({first})", wrong.len())
            })
            .collect();
        f.write_str(&words.join(", "))
    }
}

/// How to get at a maildrop, from any thread.
#[derive(Clone)]
pub(crate) struct Door {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    account: Account,
}

impl Door {
    pub(crate) fn of(gateway: &Gateway, account: &Account) -> Door {
        Door { address: gateway.pop3s(), config: gateway.client_config(), account: account.clone() }
    }

    pub(crate) fn open(&self) -> io::Result<Maildrop> {
        Maildrop::try_open(self.address, &self.config, &self.account.login, &self.account.password)
    }
}

/// A session that lists everything and deletes some of it, and what it knows of that.
#[derive(Default)]
pub(crate) struct Visit {
    listed: BTreeSet<String>,
    marked: BTreeSet<String>,
    /// QUIT was sent.
    asked: bool,
    /// And answered: what was marked is gone.
    committed: bool,
}

impl Visit {
    /// Lists, and deletes `wanted` as far as the server is there to hear it.
    pub(crate) fn pay(door: &Door, wanted: &[String]) -> Visit {
        let mut visit = Visit::default();
        // Whatever fails, fails because the power is cut: how far it came is what counts.
        visit.go(door, wanted).ok();
        visit
    }

    fn go(&mut self, door: &Door, wanted: &[String]) -> io::Result<()> {
        let mut maildrop = door.open()?;
        let uidls = maildrop.try_uidls()?;
        self.listed.extend(uidls.keys().cloned());
        for uidl in wanted {
            if let Some(number) = uidls.get(uidl) {
                maildrop.ok(&format!("DELE {number}"))?;
                self.marked.insert(uidl.clone());
            }
        }
        self.asked = true;
        maildrop.quit()?;
        self.committed = true;
        Ok(())
    }
}

/// The UID that a UIDL names: `epoch.validity.uid`, in hex.
fn uid(uidl: &str) -> u64 {
    let uid = uidl.rsplit('.').next().and_then(|uid| u64::from_str_radix(uid, 16).ok());
    uid.unwrap_or_else(|| panic!("{uidl} names no UID"))
}

impl Ledger {
    /// Some messages whose octets were found good, to be deleted: the oldest, so that segments come to hold none.
    pub(crate) fn some(&self, count: usize) -> Vec<String> {
        let fetched = self.seen.iter().filter(|(_, fetched)| fetched.is_some());
        let mut uidls: Vec<String> = fetched.map(|(uidl, _)| uidl.clone()).collect();
        uidls.sort_unstable_by_key(|uidl| uid(uidl));
        uidls.truncate(count);
        uidls
    }

    /// Message-IDs of what was deleted and is not there.
    pub(crate) fn gone(&self) -> &BTreeSet<String> {
        &self.gone
    }

    pub(crate) fn deleted(&self) -> usize {
        self.deleted.len()
    }

    /// Takes in what a session saw and did.
    pub(crate) fn note(&mut self, visit: Visit) {
        for uidl in visit.listed {
            self.uid_max = self.uid_max.max(uid(&uidl));
            self.seen.entry(uidl).or_default();
        }
        if !visit.asked {
            return;
        }
        for uidl in visit.marked {
            let fetched = self.seen.remove(&uidl).flatten();
            self.gone.extend(fetched.and_then(|fetched| fetched.message_id));
            let _: bool = match visit.committed {
                true => self.deleted.insert(uidl),
                false => self.leaving.insert(uidl),
            };
        }
    }

    /// Judges what is there, fetching what was not fetched yet; with `again`, everything.
    pub(crate) fn judge(
        &mut self,
        gateway: &Gateway,
        account: &Account,
        begun: &BTreeMap<String, Sha256>,
        acknowledged: &BTreeSet<String>,
        again: bool,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        let compared = self.compare(&Door::of(gateway, account), begun, again, &mut verdict);
        // Read last: damage that fetching came upon is in it too.
        verdict.damaged = damage_named(gateway);
        if let Err(error) = compared {
            // That is no machine that is busy: nobody knows of the gateway mailbox any more, nor of all it was sent.
            if error.to_string().contains("[AUTH]") {
                verdict.lost = acknowledged.iter().cloned().chain([account.login.clone()]).collect();
            }
            verdict.unusable.push(error.to_string());
            return verdict;
        }
        let mut copies: BTreeMap<&str, usize> = BTreeMap::new();
        for id in self.seen.values().flatten().filter_map(|fetched| fetched.message_id.as_deref()) {
            *copies.entry(id).or_default() += 1;
        }
        let is_lost = |id: &&String| !copies.contains_key(id.as_str()) && !self.gone.contains(*id);
        verdict.lost = acknowledged.iter().filter(is_lost).cloned().collect();
        verdict.doubled =
            copies.iter().filter(|(_, count)| **count > 1).map(|(id, _)| (*id).to_owned()).collect();
        verdict
    }

    fn compare(
        &mut self,
        door: &Door,
        begun: &BTreeMap<String, Sha256>,
        again: bool,
        verdict: &mut Verdict,
    ) -> io::Result<()> {
        let mut maildrop = door.open()?;
        let uidls = maildrop.try_uidls()?;
        verdict.present = uidls.len();
        self.seen.retain(|uidl, _| {
            let is_there = uidls.contains_key(uidl);
            if !is_there {
                verdict.vanished.push(uidl.clone());
            }
            is_there
        });
        let passed = self.uid_max;
        for (uidl, number) in &uidls {
            self.uid_max = self.uid_max.max(uid(uidl));
            if self.deleted.contains(uidl) {
                verdict.returned.push(uidl.clone());
                continue;
            }
            let is_known = self.seen.contains_key(uidl) || self.leaving.contains(uidl);
            if !is_known && uid(uidl) <= passed {
                verdict.reused.push(uidl.clone());
            }
            let before = self.seen.entry(uidl.clone()).or_default();
            if before.is_some() && !again {
                continue;
            }
            match maildrop.try_fetch(*number) {
                Err(error) => {
                    verdict.altered.push(format!("{uidl}: {error}"));
                    // Without a reply to the end it was the last of this session.
                    if !error.to_string().contains("-ERR") {
                        drop(maildrop);
                        maildrop = door.open()?;
                    }
                }
                Ok(fetched) => {
                    let sent = fetched.message_id.as_ref().and_then(|id| begun.get(id));
                    let is_good = sent == Some(&fetched.sha256)
                        && before.as_ref().is_none_or(|before| *before == fetched);
                    if !is_good {
                        verdict.altered.push(format!("{uidl}: {:?}", fetched.message_id));
                    }
                    // Of those whose deletion was not answered it was not deleted.
                    if let Some(id) = &fetched.message_id {
                        self.gone.remove(id);
                    }
                    *before = Some(fetched);
                }
            }
        }
        // The rest of them is deleted; it must stay so.
        let left = std::mem::take(&mut self.leaving).into_iter().filter(|uidl| !uidls.contains_key(uidl));
        self.deleted.extend(left);
        // On a full disk that something was fetched cannot be put on record, and it is told so. Nothing else depends on it.
        maildrop.quit().ok();
        Ok(())
    }
}
