//! One segment looked through, with the content files its entries name; and which mail a fault touches.

use super::pace::Pace;
use super::{DAMAGED_MAX, DamagedThing, Scrub};
use crate::mail::{GatewayMailboxId, Timestamp};
use crate::observe::{metrics, now};
use crate::store::check::{Bits, Damage, Found, Seen, Visit, content_file, segment_name};
use crate::store::embedded::Shared;
use crate::store::fact::{Fact, ObjectFact};
use crate::store::log::SegmentFile;
use crate::store::{ReceiptQuery, StoreError};
use rustix::fs::Advice;
use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::ControlFlow;

/// Transactions, and entries in folders, that are named of one damaged thing.
const NAMED_MAX: usize = 16;

/// Entries in folders that are asked of the index at a time: no reading connection may keep its WAL from being folded in.
const ENTRIES_AT_ONCE: usize = 4_096;

/// Looks at what is read of one segment.
pub(super) struct Look<'a> {
    scrub: &'a Scrub,
    shared: &'a Shared,
    segment: u64,
    /// Of this segment, to have the kernel forget what was read of it; none of the one that mail is appended to.
    forgets: Option<SegmentFile>,
    /// Octets read of it.
    read: u64,
    pace: Pace,
    /// Some of it could not be read, or made out.
    has_lost: bool,
    /// Objects that live entries need, once that was asked; none when the index could not tell.
    needed: OnceCell<Option<Bits>>,
    /// Why the walk must be begun anew: it is nothing that is stored.
    failure: Option<StoreError>,
}

/// What one damaged thing is to the mail around it.
#[derive(Default)]
struct Named {
    gateway_mailbox: Option<GatewayMailboxId>,
    placements: Vec<String>,
    /// Everything that it touches has left its folder: nobody can ask for it any more.
    is_over: bool,
}

/// True for errors that say nothing of what is stored.
pub(super) fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR].map(Some).contains(&errno)
}

impl<'a> Look<'a> {
    pub(super) fn new(scrub: &'a Scrub, shared: &'a Shared, segment: u64, is_full: bool) -> Look<'a> {
        let file = || SegmentFile::open(&shared.log_dir(), segment).ok();
        let forgets = is_full.then(file).flatten();
        Look {
            scrub,
            shared,
            segment,
            forgets,
            read: 0,
            pace: Pace::new(),
            has_lost: false,
            needed: OnceCell::new(),
            failure: None,
        }
    }

    /// True when all of it was read.
    ///
    /// # Errors
    /// What kept it from looking; nothing is known then of what was not looked at.
    pub(super) fn end(self) -> Result<bool, StoreError> {
        self.failure.map_or(Ok(!self.has_lost), Err)
    }

    /// The segment itself cannot be read.
    pub(super) fn cannot_open(&mut self, error: &io::Error) {
        self.has_lost = true;
        let file = segment_name(self.segment);
        self.damage(Damage { file, what: format!("cannot be read: {error}"), ..Damage::default() });
    }

    fn count(&self, octets: u64, objects: u64) {
        metrics::scrubbed(octets, objects);
        self.scrub.state().add(octets, objects);
    }

    fn spend(&mut self, octets: u64) -> ControlFlow<()> {
        self.count(octets, 0);
        if self.failure.is_some() {
            return ControlFlow::Break(());
        }
        self.pace.spend(octets, self.scrub, self.shared)
    }

    fn content(&mut self, fact: &ObjectFact, name: &str) {
        let Some(is_freed) = self.is_freed(fact.object) else { return };
        if is_freed {
            self.count(0, 1);
            self.scrub.state().is_over(&format!("content/{name}"));
            return;
        }
        let dir = self.shared.content_dir();
        let file = File::open(dir.join(name));
        if let Err(error) = &file
            && is_passing(error)
        {
            self.failure = Some(StoreError::io("opening a content file", io::Error::from(error.kind())));
            return;
        }
        let (octets, sha256) = (fact.sealed_octets, Some(&fact.sealed_sha256));
        let mut read = 0;
        let found = content_file(&dir, name, octets, sha256, &mut |octets| {
            read += octets;
            if let Ok(file) = &file {
                forget(file, read);
            }
            self.spend(octets)
        });
        match found {
            Found::Damaged(damage) => {
                let receipts = vec![fact.receipt_id];
                self.damage(Damage { object: Some(fact.object), receipts, ..damage });
            }
            Found::Whole => {
                self.count(0, 1);
                // Brought back, say; also in a segment of which something else is lost for good.
                self.scrub.state().is_over(&format!("content/{name}"));
            }
            Found::Stopped => {}
        }
    }

    /// True when the content of an object was freed, whatever is left of it: that is in the index before any of it goes. None
    /// when the index cannot tell: what is freed must not be named as damage, so all is looked at again later.
    fn is_freed(&mut self, object: u64) -> Option<bool> {
        match self.shared.read(|index| index.is_freed(object)) {
            Ok(is_freed) => Some(is_freed),
            Err(error) => {
                self.failure.get_or_insert(error);
                None
            }
        }
    }

    /// True when no message that anybody can ask for lies in an object. Content is shared: the receipt it came with says
    /// nothing of those that came later.
    fn is_needed_no_more(&self, object: u64) -> bool {
        let needed = self.needed.get_or_init(|| {
            let mut needed = Bits::default();
            let mut after = (i64::MIN, i64::MIN);
            loop {
                let take = &mut |object| {
                    needed.add(object);
                };
                match self.shared.read(|index| index.objects_in_use(after, ENTRIES_AT_ONCE, take)) {
                    Ok(Some(last)) => after = last,
                    Ok(None) => return Some(needed),
                    Err(_) => return None,
                }
            }
        });
        !self.shared.index_is_behind() && needed.as_ref().is_some_and(|needed| !needed.has(object))
    }

    fn name(&self, damage: &Damage) -> Named {
        // What is no content is the log's, which needs all of itself.
        let may_be_over = damage.object.is_some() && !damage.loses_entries && !damage.receipts.is_empty();
        let mut named = Named { is_over: may_be_over, ..Named::default() };
        for receipt_id in damage.receipts.iter().take(NAMED_MAX) {
            let query = ReceiptQuery::Id(*receipt_id);
            let views = crate::store::view::receipts(self.shared, &query, Timestamp::from_unix_ms(0), 1)
                .unwrap_or_default();
            // What says where it is may be what is damaged.
            named.is_over &= !views.is_empty();
            for view in views {
                named.gateway_mailbox.get_or_insert(view.gateway_mailbox);
                let there =
                    view.placements.iter().filter(|placement| placement.is_there() && !placement.spared);
                named.placements.extend(there.map(|p| format!("{}:{}", p.folder, p.uid)));
            }
        }
        if named.placements.is_empty() {
            named.is_over &= damage.receipts.len() <= NAMED_MAX
                && damage.object.is_some_and(|object| self.is_needed_no_more(object));
            if !named.is_over {
                named.gateway_mailbox = damage.entries.first().map(|touched| touched.gateway_mailbox);
                let entries = damage.entries.iter().take(NAMED_MAX);
                named.placements = entries.map(|t| format!("{}:{}", t.folder.path(None), t.uid)).collect();
            }
        } else {
            named.is_over = false;
        }
        named.placements.truncate(NAMED_MAX);
        named
    }

    fn log(&self, thing: &DamagedThing, damage: &Damage) {
        let known = thing.gateway_mailbox.and_then(|id| self.shared.known(id));
        tracing::error!(
            event = "store.damaged",
            receipt_id = thing.receipt_ids.first().map(tracing::field::display),
            place = thing.place,
            what = thing.what,
            octets = damage.octets,
            object = damage.object,
            receipts = damage.receipts.len(),
            mailbox = known.as_ref().map(|mailbox| mailbox.login()),
            mailbox_id = thing.gateway_mailbox.map(tracing::field::display),
            placements = thing.placements.join(" "),
        );
    }
}

/// Has the kernel drop what it cached of the first so many octets of a file: this reading must not push mail out. What it has
/// read ahead stays, and so does what is not written yet.
fn forget(file: &File, read: u64) {
    if let Some(octets) = NonZeroU64::new(read) {
        rustix::fs::fadvise(file, 0, Some(octets), Advice::DontNeed).ok();
    }
}

impl Visit for Look<'_> {
    fn pace(&mut self, octets: u64) -> ControlFlow<()> {
        self.read += octets;
        if let Some(segment) = &self.forgets {
            forget(segment.file(), self.read);
        }
        self.spend(octets)
    }

    fn entry(&mut self, seen: &Seen) {
        if self.failure.is_some() || self.scrub.is_broken_off() {
            return;
        }
        self.count(0, 1);
        if let Fact::Object(fact) = &seen.fact
            && let Some(name) = &fact.file
        {
            self.content(fact, name);
        }
    }

    fn damage(&mut self, damage: Damage) {
        if let Some(object) = damage.object {
            match self.is_freed(object) {
                // One that is being made anew has not come to what was freed since.
                Some(false) if self.shared.index_is_behind() => {
                    self.failure
                        .get_or_insert(StoreError::Refused("the index is being made anew".to_owned()));
                    return;
                }
                Some(false) => {}
                Some(true) => {
                    self.scrub.state().is_over(&damage.place());
                    return;
                }
                None => return,
            }
        }
        self.has_lost |= damage.loses_entries && damage.octets > 0;
        let named = self.name(&damage);
        if named.is_over {
            self.scrub.state().is_over(&damage.place());
            return;
        }
        let thing = DamagedThing {
            place: damage.place(),
            what: damage.what.clone(),
            found_at: now(),
            segment: self.segment,
            receipt_ids: damage.receipts.iter().copied().take(NAMED_MAX).collect(),
            gateway_mailbox: named.gateway_mailbox,
            placements: named.placements,
            closed_by: None,
            seen: true,
        };
        let noted = self.scrub.state().note(thing.clone());
        match noted {
            super::state::Noted::Known => {}
            super::state::Noted::New => {
                self.log(&thing, &damage);
                self.scrub.save();
            }
            super::state::Noted::FirstUnlisted => {
                let what = format!(
                    "more than {DAMAGED_MAX} things are damaged; those beyond are only counted: daybook verify --deep names all"
                );
                tracing::error!(event = "store.damaged", what);
            }
            super::state::Noted::Unlisted => {}
        }
    }
}
