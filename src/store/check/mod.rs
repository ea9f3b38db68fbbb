//! Looking through what is stored: without a key, without the lock, without changing anything.
//!
//! [`walk_segment`] goes through a segment of the log, [`content_file`] through a file beside it; both read in bounded memory, at
//! the pace of whoever looks on, and name what is damaged: the file, the octet, and the mail that is touched. The scrub does it
//! slowly and for ever, `daybook verify` once, with everything else that must fit together.

mod against;
mod bits;
mod content;
mod covers;
mod damage;
mod end;
mod files;
mod flagged;
#[cfg(test)]
mod keeping_tests;
mod kept;
mod ledger;
mod needed;
mod opening;
mod report;
mod restored;
mod rows;
mod said;
mod second;
mod segment;
mod source;
mod taking;
#[cfg(test)]
mod tests;
mod verifier;
mod withheld;
#[cfg(test)]
mod written;

pub use report::{
    FindingKind, FolderEntry, FreedContent, Unused, VerifyFinding, VerifyProgress, VerifyReport,
};
pub use verifier::{VerifyOptions, verify};

pub(in crate::store) use bits::Bits;
pub(in crate::store) use content::{Found, content_file};
pub(in crate::store) use covers::is_open;
pub(in crate::store) use damage::{Damage, Touched};
pub(in crate::store) use opening::{Unopenable, open_index};
pub(in crate::store) use segment::{End, Expect, Seen, Tail, Visit, segment_name, walk_segment};
