//! One message's answer to a FETCH: `* n FETCH (…)`, written piece by piece.
//!
//! The length of each literal is known before its first octet is read, and small messages are read before anything of them is
//! sent, so that one which cannot be read is left out instead of breaking the connection.

use super::address::ADDRESSES_MAX;
use super::content::{Content, Kept, Sink, Stop, Stretch};
use super::envelope;
use super::items::{Item, Octets, Plan};
use super::section::{Extent, Wanted};
use super::step::Numbered;
use super::strings::literal_start;
use super::structure;
use super::tree::Tree;
use crate::fetch::canonical::Canonical;
use crate::fetch::folders::{Folder, FolderEntry};
use crate::fetch::maildrop::FetchError;
use crate::mail::{Part, Timestamp};
use std::borrow::Cow;
use time::OffsetDateTime;

/// Most octets read of a header block that is not in the summary.
const HEADER_OCTETS_MAX: usize = 1024 * 1024;

/// Writes what is asked of a message and needs nothing but its row and its entry.
pub(super) fn write_row(out: &mut Vec<u8>, message: &Numbered, entry: Option<&FolderEntry>, plan: &Plan) {
    begin(out, message);
    for (number, item) in plan.items.iter().enumerate() {
        separate(out, number);
        write_small(out, message, entry, item);
    }
    out.extend_from_slice(b")\r\n");
}

fn begin(out: &mut Vec<u8>, message: &Numbered) {
    out.extend_from_slice(format!("* {} FETCH (", message.number).as_bytes());
}

fn separate(out: &mut Vec<u8>, number: usize) {
    if number > 0 {
        out.push(b' ');
    }
}

fn write_small(out: &mut Vec<u8>, message: &Numbered, entry: Option<&FolderEntry>, item: &Item) {
    let text = match (item, entry) {
        (Item::Flags, _) => format!("FLAGS ({})", message.row.flags),
        (Item::Uid, _) => format!("UID {}", message.row.uid),
        (Item::InternalDate, Some(entry)) => format!("INTERNALDATE \"{}\"", date_time(entry.received_at)),
        (Item::Size, Some(entry)) => format!("RFC822.SIZE {}", entry.canonical.octets),
        _ => return,
    };
    out.extend_from_slice(text.as_bytes());
}

/// `date-time` of RFC 3501, in UTC.
fn date_time(at: Timestamp) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let time = OffsetDateTime::from_unix_timestamp(at.unix_seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let month = MONTHS.get(usize::from(u8::from(time.month())) - 1).unwrap_or(&"Jan");
    let (hour, minute, second) = time.to_hms();
    format!("{:>2}-{month}-{:04} {hour:02}:{minute:02}:{second:02} +0000", time.day(), time.year())
}

/// What was given of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    /// Its whole content, or the last piece of it: whoever reads in pieces ends with that.
    pub(super) whole: bool,
    /// Something that makes it `\Seen`.
    pub(super) seen: bool,
}

/// A message being answered.
pub(super) struct Answer<'a> {
    folder: &'a dyn Folder,
    message: &'a Numbered,
    entry: &'a FolderEntry,
    content: Content<'a>,
    tree: Option<Tree>,
    /// There are parts, but what tells them cannot be read: a whole message and its header are all that can be given.
    lost_parts: bool,
    given: Given,
}

impl<'a> Answer<'a> {
    /// The answer for this message.
    pub(super) fn new(folder: &'a dyn Folder, message: &'a Numbered, entry: &'a FolderEntry) -> Answer<'a> {
        let content = Content::new(folder, entry);
        Answer { folder, message, entry, content, tree: None, lost_parts: false, given: Given::default() }
    }

    /// Writes it, for a client that may go on reading with the next command. Blocks.
    ///
    /// # Errors
    /// [`Stop`]; what was put by then is not a whole answer.
    pub(super) fn write_on(mut self, plan: &Plan, out: &mut dyn Sink, kept: &Kept) -> Result<Given, Stop> {
        self.content.take_from(kept);
        self.write(plan, out)?;
        if plan.partial && !self.given.whole {
            self.content.leave_to(kept);
        }
        Ok(self.given)
    }

    /// Writes it. Blocks.
    ///
    /// # Errors
    /// [`Stop`]; what was put by then is not a whole answer.
    pub(super) fn write(&mut self, plan: &Plan, out: &mut dyn Sink) -> Result<Given, Stop> {
        if plan.items.iter().any(Item::asks_for_parts) {
            let tree = self.tree()?;
            // Numbers and sizes of parts hold for good (RFC 3501 §2.3.1.1): none are made up.
            if self.lost_parts {
                return Err(FetchError::Damaged.into());
            }
            self.tree = Some(tree);
        }
        begin(out.room(), self.message);
        for (number, item) in plan.items.iter().enumerate() {
            separate(out.room(), number);
            match item {
                Item::Envelope => {
                    let tree = self.tree()?;
                    let block = self.block(&tree.root)?;
                    out.room().extend_from_slice(b"ENVELOPE ");
                    envelope::write(out.room(), &block, &mut { ADDRESSES_MAX });
                    self.tree = Some(tree);
                }
                Item::Structure { extended } => {
                    let tree = self.tree()?;
                    out.room().extend_from_slice(if *extended { b"BODYSTRUCTURE " } else { b"BODY " });
                    structure::write(out, &tree, *extended)?;
                    self.tree = Some(tree);
                }
                Item::Octets(octets) => self.octets(octets, out)?,
                small => write_small(out.room(), self.message, Some(self.entry), small),
            }
        }
        out.room().extend_from_slice(b")\r\n");
        Ok(self.given)
    }

    /// The MIME tree: what the summary holds, else one text behind the header block.
    fn tree(&mut self) -> Result<Tree, Stop> {
        if let Some(tree) = self.tree.take() {
            return Ok(tree);
        }
        match self.folder.summary(self.entry) {
            Ok(summary) => {
                if let Some(root) = summary.structure {
                    return Ok(Tree { root: root.into_owned(), unread: false });
                }
            }
            // The message may be whole all the same.
            Err(FetchError::Damaged) => self.lost_parts = true,
            Err(error) => return Err(error.into()),
        }
        let header = self.content.header(HEADER_OCTETS_MAX)?;
        let body = self.entry.canonical.octets.saturating_sub(header.canonical_octets);
        let root = Part {
            header: header.kept,
            header_octets: header.octets,
            body_offset: header.octets,
            // As many as there are: the root's body is read up to the message's end.
            octets: body,
            canonical_octets: body,
            lines: self.entry.canonical.lines.saturating_sub(header.lines),
            ..Part::default()
        };
        Ok(Tree { root, unread: true })
    }

    /// A header block in canonical form, or as much of it as is ever looked at.
    fn block(&mut self, part: &Part) -> Result<Vec<u8>, Stop> {
        let kept_max = part.header_octets.min(HEADER_OCTETS_MAX as u64);
        if part.header.len() as u64 >= kept_max {
            return Ok(Canonical::new().push(&part.header).into_owned());
        }
        let stretch =
            Stretch { start: part.header_offset, end: Some(part.header_offset.saturating_add(kept_max)) };
        let octets = self.content.count(stretch)?;
        let mut block = Vec::new();
        self.content.give(stretch, (0, octets), false, &mut |piece| {
            block.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(block)
    }

    fn octets(&mut self, asked: &Octets, out: &mut dyn Sink) -> Result<(), Stop> {
        out.room().extend_from_slice(&asked.label);
        out.room().push(b' ');
        self.given.seen |= asked.sets_seen;
        if asked.wanted == Wanted::Whole {
            let octets = self.entry.canonical.octets;
            return self.stretch(asked, Stretch { start: 0, end: None }, octets, out);
        }
        let tree = self.tree()?;
        match asked.wanted.find(&tree) {
            Extent::Nothing => cut(asked, b"", out)?,
            Extent::Fields(part, chosen) => {
                let block = self.block(part)?;
                cut(asked, &chosen.cut(&block), out)?;
            }
            Extent::Header(part) if part.header.len() as u64 == part.header_octets => {
                let block: Cow<'_, [u8]> = Canonical::new().push(&part.header);
                cut(asked, &block, out)?;
            }
            Extent::Header(part) => {
                let end = part.header_offset.saturating_add(part.header_octets);
                let stretch = Stretch { start: part.header_offset, end: Some(end) };
                let octets = self.content.count(stretch)?;
                self.stretch(asked, stretch, octets, out)?;
            }
            Extent::Body(part) => {
                let is_root = std::ptr::eq(part, &tree.root);
                let end = (!is_root).then(|| part.body_offset.saturating_add(part.octets));
                let stretch = Stretch { start: part.body_offset, end };
                self.stretch(asked, stretch, part.canonical_octets, out)?;
            }
        }
        self.tree = Some(tree);
        Ok(())
    }

    /// Gives of a stretch of so many canonical octets what is asked for.
    fn stretch(
        &mut self,
        asked: &Octets,
        stretch: Stretch,
        octets: u64,
        out: &mut dyn Sink,
    ) -> Result<(), Stop> {
        let (origin, wanted) = bounds(asked, octets);
        let reaches_end = origin + wanted == octets;
        literal_start(out.room(), wanted);
        self.content.give(stretch, (origin, wanted), reaches_end, &mut |piece| out.put(piece))?;
        // With the text the client has the whole: the header it has seen before.
        let is_content = matches!(asked.wanted, Wanted::Whole | Wanted::Text(None));
        let is_last = reaches_end && (wanted > 0 || octets == 0);
        self.given.whole |= is_content && is_last;
        Ok(())
    }
}

/// Where what is asked begins in so many octets, and how many it is.
fn bounds(asked: &Octets, octets: u64) -> (u64, u64) {
    let (origin, most) = asked.partial.unwrap_or((0, u64::MAX));
    let origin = origin.min(octets);
    (origin, most.min(octets - origin))
}

/// Gives of these octets what is asked for.
fn cut(asked: &Octets, octets: &[u8], out: &mut dyn Sink) -> Result<(), Stop> {
    let (origin, wanted) = bounds(asked, octets.len() as u64);
    literal_start(out.room(), wanted);
    let at = |octets: u64| usize::try_from(octets).unwrap_or(usize::MAX);
    out.put(octets.get(at(origin)..at(origin + wanted)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_dates_are_in_utc_and_padded_with_a_blank() {
        let at = |text| date_time(Timestamp::parse(text).unwrap());
        assert_eq!(at("2026-02-03T04:05:06.789Z"), " 3-Feb-2026 04:05:06 +0000");
        assert_eq!(at("1999-12-31T23:59:59+01:00"), "31-Dec-1999 22:59:59 +0000");
    }
}
