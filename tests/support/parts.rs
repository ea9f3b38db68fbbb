//! The parts of a message as another reader finds them, compared with ours.
//!
//! Same parts means: as many, nested alike, each a multipart, a message or neither, and the same octets in every body that both know.

use super::extracted::read;
use aws_lc_rs::digest::{SHA256, digest};
use daybook::extract::{DefectKind, Part};
use daybook::mail::Profile;
use mail_parser::{MessageParser, MimeHeaders};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::Path;

/// What another reader says of one part.
#[derive(Debug, Deserialize)]
pub(crate) struct Theirs {
    pub(crate) kind: Kind,
    /// SHA-256 of the body as it stands in the message; `None` when the reader does not keep it.
    pub(crate) body: Option<String>,
    /// Parts of a multipart, or the message in a message part.
    #[serde(default)]
    pub(crate) parts: Vec<Theirs>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Leaf,
    Multipart,
    Message,
}

/// Octets looked at when a message is scanned alone.
const CHUNK_OCTETS: usize = 64 * 1024;

/// What a lawful structure has none of. Two readers may differ then, and neither is wrong.
const STRUCTURAL: [DefectKind; 9] = [
    DefectKind::HeaderCut,
    DefectKind::UnterminatedHeader,
    DefectKind::MissingCloseDelimiter,
    DefectKind::BoundaryMissing,
    DefectKind::BoundaryRecovered,
    DefectKind::BoundaryTooLong,
    DefectKind::BoundaryReused,
    DefectKind::DelimiterAfterClose,
    DefectKind::DuplicateHeader,
];

const LIMITS: [DefectKind; 3] = [DefectKind::TooDeep, DefectKind::TooManyParts, DefectKind::TooManyEncodings];

pub(crate) fn sha256(octets: &[u8]) -> String {
    digest(&SHA256, octets).as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Our tree of a message, when its structure is lawful all the way in.
pub(crate) fn well_formed(message: &[u8]) -> Option<Part> {
    let found = read(message, CHUNK_OCTETS, Profile::Microsoft365);
    // What is beyond a limit is not in the tree, wherever that was.
    let mut lawful = is_lawful(message) && !found.defects.iter().any(|defect| LIMITS.contains(&defect.kind));
    let whole = found.whole.structure;
    let mut todo = vec![&whole];
    while let Some(part) = todo.pop() {
        if let Some(enclosed) = &part.message {
            // It begins further in where the part is the text of a bounce that is no MIME.
            let end = (enclosed.body_offset + enclosed.octets) as usize;
            lawful &= is_lawful(&message[enclosed.header_offset as usize..end]);
            todo.push(enclosed);
        }
        todo.extend(&part.children);
    }
    lawful.then_some(whole)
}

/// Says it of the message itself, not of messages inside it: the generic profile looks at nothing else.
fn is_lawful(message: &[u8]) -> bool {
    let found = read(message, CHUNK_OCTETS, Profile::Generic);
    !found.defects.iter().any(|defect| STRUCTURAL.contains(&defect.kind))
}

pub(crate) fn body<'a>(message: &'a [u8], part: &Part) -> &'a [u8] {
    &message[part.body_offset as usize..(part.body_offset + part.octets) as usize]
}

/// A kind of difference that is no fault of ours, by name; the test says it of the message and of our part in question.
pub(crate) type Excuse = (&'static str, fn(&[u8], &Part) -> bool);

/// We look into files named `*.eml` in a wrapper, since relays and clients make them of messages, and into the text of bounces that
/// are no MIME.
pub(crate) const FILE_READ_AS_MESSAGE: Excuse =
    ("a file or a text that only we read as a message", |_, part| {
        part.message.is_some() && !media_type(part).starts_with("message/")
    });

/// The media type a part's header names, in lower case; empty without one.
fn media_type(part: &Part) -> String {
    let parsed = MessageParser::default().parse_headers(&part.header);
    let named = parsed.as_ref().and_then(|head| head.content_type());
    named.map_or_else(String::new, |named| {
        format!("{}/{}", named.ctype(), named.subtype().unwrap_or_default()).to_ascii_lowercase()
    })
}

/// The boundary a part's header names.
pub(crate) fn boundary(part: &Part) -> Option<String> {
    let parsed = MessageParser::default().parse_headers(&part.header)?;
    parsed.content_type()?.attribute("boundary").map(str::to_owned)
}

/// A comparison of many messages with what one reader says of them.
pub(crate) struct Comparison {
    /// The key of the reader in `cross_check` of an expectation.
    reader: &'static str,
    excuses: &'static [Excuse],
    same: usize,
    lawless: usize,
    used: BTreeSet<&'static str>,
    faults: Vec<String>,
}

impl Comparison {
    pub(crate) fn with(reader: &'static str, excuses: &'static [Excuse]) -> Comparison {
        Comparison { reader, excuses, same: 0, lawless: 0, used: BTreeSet::new(), faults: Vec::new() }
    }

    /// Compares one message; `path` is where it stands, if it is of the corpus.
    pub(crate) fn take(
        &mut self,
        name: &str,
        path: Option<&Path>,
        message: &[u8],
        theirs: impl FnOnce() -> Option<Theirs>,
    ) {
        let Some(ours) = well_formed(message) else {
            self.lawless += 1;
            return;
        };
        let found = match theirs() {
            Some(theirs) => self.unexcused(message, &ours, &theirs),
            None => self.excuse(message, &ours, "could not be read".to_owned()).into_iter().collect(),
        };
        let explained = path.is_some_and(|path| is_explained(path, self.reader));
        match (found.is_empty(), explained) {
            (true, false) => self.same += 1,
            (true, true) => self.faults.push(format!("{name}: explained, and does not differ")),
            (false, true) => {}
            (false, false) => self.faults.push(format!("{name}: {}", found.join("; "))),
        }
    }

    /// Ends the comparison: at least `least` messages agree, no difference is unexplained, and every excuse was needed.
    pub(crate) fn finish(self, least: usize) {
        println!("{}: {} messages agree, {} are lawless", self.reader, self.same, self.lawless);
        assert!(self.faults.is_empty(), "{}:\n{}", self.reader, self.faults.join("\n"));
        assert!(self.same >= least, "{}: only {} messages agree", self.reader, self.same);
        let idle: Vec<_> = self.excuses.iter().filter(|(name, _)| !self.used.contains(name)).collect();
        assert!(idle.is_empty(), "{}: no longer needed: {idle:?}", self.reader);
    }

    /// The difference, unless it is excused at this part.
    fn excuse(&mut self, message: &[u8], part: &Part, difference: String) -> Option<String> {
        let excuse = self.excuses.iter().find(|(_, applies)| applies(message, part));
        self.used.extend(excuse.map(|(name, _)| name));
        excuse.is_none().then_some(difference)
    }

    /// What differs without an excuse, each with where it lies: `0.1.2` is the second part of the first part.
    fn unexcused(&mut self, message: &[u8], ours: &Part, theirs: &Theirs) -> Vec<String> {
        let mut found = Vec::new();
        let mut todo = vec![(String::from("0"), ours, theirs)];
        while let Some((place, ours, theirs)) = todo.pop() {
            let inner: Vec<&Part> = ours.children.iter().chain(ours.message.as_deref()).collect();
            let kind = match (ours.message.is_some(), ours.children.is_empty()) {
                (true, _) => Kind::Message,
                (false, false) => Kind::Multipart,
                (false, true) => Kind::Leaf,
            };
            let octets = body(message, ours);
            let their = (theirs.kind, theirs.parts.len());
            let difference = if (kind, inner.len()) != their {
                Some(format!("{place}: {kind:?} of {} parts, theirs {their:?}", inner.len()))
            } else if kind == Kind::Leaf && theirs.body.as_ref().is_some_and(|body| *body != sha256(octets)) {
                Some(format!("{place}: another body than our {} octets", octets.len()))
            } else {
                None
            };
            match difference {
                Some(difference) => found.extend(self.excuse(message, ours, difference)),
                None => {
                    let pairs = inner.into_iter().zip(&theirs.parts).enumerate();
                    todo.extend(
                        pairs.map(|(n, (ours, theirs))| (format!("{place}.{}", n + 1), ours, theirs)),
                    );
                }
            }
        }
        found
    }
}

/// The expectation beside a message says why this reader differs.
fn is_explained(path: &Path, reader: &str) -> bool {
    let Ok(expect) = std::fs::read(path.with_extension("expect.json")) else { return false };
    let expect: serde_json::Value = serde_json::from_slice(&expect).unwrap();
    expect["cross_check"][reader].as_str().is_some_and(|why| !why.is_empty())
}
