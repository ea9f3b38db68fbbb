//! `daybook inspect`: what a message file is, and what would be cut out of it.
//!
//! The file is read in chunks, once to scan and hash it and once for each original to hash that; a message of any
//! size costs the same memory. Standard input that cannot be read twice is kept in a file that has no name.

use super::args::InspectArguments;
use super::output::{self, Failure, counted, grouped, safe};
use crate::extract::{self, Decoder, Extraction, Scanner};
use crate::mail::{Class, EnvelopeHeaders, Extent, GatewayAddress, Profile};
use aws_lc_rs::digest::{Context, SHA256};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Octets read at once.
const CHUNK_OCTETS: usize = 64 * 1024;

pub(super) fn run(arguments: &InspectArguments, json: bool) -> Result<u8, Failure> {
    let name = arguments.file.display();
    let opened =
        if arguments.file == Path::new("-") { keep(&mut io::stdin().lock()) } else { open(&arguments.file) };
    let file = opened.map_err(|error| Failure::from(format!("read {name}: {error}")))?;
    let headers = EnvelopeHeaders {
        recipients: arguments.recipient_header.clone(),
        senders: arguments.sender_header.clone(),
    };
    let inspected = inspect(&file, arguments.profile.into(), &headers)
        .map_err(|error| Failure::from(format!("read {name}: {error}")))?;
    if json {
        output::print_json(&inspected.described)?;
    } else {
        output::print(&text(&inspected.described))?;
    }
    Ok(u8::from(inspected.class == Class::Unreadable))
}

fn open(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    // A pipe or terminal gives its octets once.
    if kind.is_file() { Ok(file) } else { keep(&mut &file) }
}

/// Takes all octets into a file of our own that is gone when we are.
fn keep(source: &mut dyn Read) -> io::Result<File> {
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random).map_err(io::Error::other)?;
    let name: String = random.iter().map(|octet| format!("{octet:02x}")).collect();
    let path = std::env::temp_dir().join(format!("daybook-inspect-{name}"));
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    io::copy(source, &mut file)?;
    file.flush()?;
    Ok(file)
}

struct Inspected {
    class: Class,
    described: Value,
}

fn inspect(file: &File, profile: Profile, headers: &EnvelopeHeaders) -> io::Result<Inspected> {
    let mut scanner = Scanner::new();
    let mut whole = Context::new(&SHA256);
    each_chunk(file, 0, u64::MAX, &mut |chunk| {
        scanner.push(chunk);
        whole.update(chunk);
    })?;
    let scanned = scanner.finish();
    let extraction = extract::extract(&scanned, profile);
    let failed = std::cell::Cell::new(None);
    let sha256_of = |extent: &Extent| match sha256(file, &extraction, extent) {
        Ok(digest) => digest,
        Err(error) => {
            failed.set(Some(error));
            String::new()
        }
    };
    let mut described = extract::inspect(&extraction, &hex(whole), &sha256_of);
    if extraction.class == Class::Plain {
        let found = extract::header_envelope(&scanned, headers, &GatewayAddress::looks_made);
        extract::add_header_envelope(&mut described, &found);
    }
    match failed.take() {
        Some(error) => Err(error),
        None => Ok(Inspected { class: extraction.class, described }),
    }
}

fn sha256(file: &File, extraction: &Extraction, extent: &Extent) -> io::Result<String> {
    let mut hash = Context::new(&SHA256);
    each_of_object(file, extraction, extent, &mut |chunk| hash.update(chunk))?;
    Ok(hex(hash))
}

fn hex(hash: Context) -> String {
    hash.finish().as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Hands over the octets of `extent`. Those of a decoded part are decoded again each time: nothing is kept.
fn each_of_object(
    file: &File,
    extraction: &Extraction,
    extent: &Extent,
    take: &mut dyn FnMut(&[u8]),
) -> io::Result<()> {
    // Object 0 is the file, object n the n-th derived one; a derived object comes from an earlier one only.
    let Some(index) = (extent.object as usize).checked_sub(1) else {
        return each_chunk(file, extent.offset, extent.octets, take);
    };
    let derived = extraction.derived.get(index).filter(|derived| derived.source.object < extent.object);
    let derived = derived.ok_or_else(|| io::Error::other("an extent names an object that is not there"))?;
    let mut decoder = Decoder::new(derived.encoding);
    let mut decoded = Vec::new();
    let mut window = Window { skip: extent.offset, left: extent.octets };
    each_of_object(file, extraction, &derived.source, &mut |chunk| {
        decoder.push(chunk, &mut decoded);
        take(window.of(&decoded));
        decoded.clear();
    })?;
    decoder.finish(&mut decoded);
    take(window.of(&decoded));
    Ok(())
}

/// The part of a stream that is wanted.
struct Window {
    skip: u64,
    left: u64,
}

impl Window {
    fn of<'a>(&mut self, chunk: &'a [u8]) -> &'a [u8] {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(chunk.len());
        let rest = chunk.get(skipped..).unwrap_or_default();
        let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
        self.skip -= skipped as u64;
        self.left -= taken as u64;
        rest.get(..taken).unwrap_or_default()
    }
}

fn each_chunk(file: &File, offset: u64, octets: u64, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_OCTETS];
    let (mut at, mut left) = (offset, octets);
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let room = buffer.get_mut(..wanted).unwrap_or_default();
        let read = match file.read_at(room, at) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        take(room.get(..read).unwrap_or_default());
        at += read as u64;
        left -= read as u64;
    }
    Ok(())
}

/// The same for people.
fn text(described: &Value) -> String {
    let mut out = String::new();
    let mut line = |label: &str, value: &str| {
        out.push_str(format!("{label:<12} {value}").trim_end());
        out.push('\n');
    };
    let octets = |value: &Value| counted(value["bytes"].as_u64().unwrap_or(0), "octet");
    line("class", &shown(&described["class"]));
    line("size", &octets(described));
    line("sha256", &shown(&described["sha256"]));
    line("goes to", destination(&described["destination"]));
    if !described["parent_message_id"].is_null() {
        line("about", &shown(&described["parent_message_id"]));
    }
    for report in list(&described["reports"]) {
        line("report", "");
        for (key, label) in [
            ("sender", "  sender"),
            ("on_behalf_of", "  on behalf"),
            ("subject", "  subject"),
            ("message_id", "  message-id"),
            ("label", "  label"),
        ] {
            if !report[key].is_null() {
                line(label, &shown(&report[key]));
            }
        }
        for recipient in list(&report["recipients"]) {
            let via = [("expanded", ", a member of "), ("forwarded", ", forwarded by ")]
                .iter()
                .filter(|(key, _)| !recipient[*key].is_null())
                .map(|(key, words)| format!("{words}{}", shown(&recipient[*key])))
                .collect::<String>();
            line(
                "  recipient",
                &format!("{} {}{via}", shown(&recipient["type"]), shown(&recipient["address"])),
            );
        }
        for (index, original) in list(&report["originals"]).iter().enumerate() {
            let primary =
                if report["primary"].as_u64() == Some(index as u64) { ", the one to show" } else { "" };
            line("  original", &format!("{}, {}{primary}", octets(original), shown(&original["rendition"])));
            line("", &format!("sha256 {}", shown(&original["sha256"])));
            if !original["message_id"].is_null() {
                line("", &format!("message-id {}", shown(&original["message_id"])));
            }
        }
    }
    let named = &described["header_envelope"];
    if !named["sender"].is_null() {
        line("sender", &format!("{}, named in {}", shown(&named["sender"]), shown(&named["sender_header"])));
    }
    for recipient in list(&named["recipients"]) {
        line(
            "recipient",
            &format!("{}, named in {}", shown(&recipient["address"]), shown(&recipient["header"])),
        );
    }
    for defect in list(&described["defects"]) {
        line("defect", &format!("{}: {}", shown(&defect["kind"]), shown(&defect["detail"])));
    }
    out
}

fn destination(value: &Value) -> &'static str {
    match value.as_str() {
        Some("assign") => "the users its envelope names",
        Some("unassigned") => "Unassigned: readable, but nobody to give it to",
        _ => "Quarantine: kept whole, since it cannot be read for certain",
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "(empty)".to_owned(),
        Value::String(text) => safe(text),
        Value::Number(number) => number.as_u64().map(grouped).unwrap_or_else(|| number.to_string()),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_cuts_the_same_whatever_the_chunks() {
        let octets: Vec<u8> = (0..100).collect();
        for chunk in [1, 3, 7, 100] {
            let mut window = Window { skip: 10, left: 25 };
            let cut: Vec<u8> = octets.chunks(chunk).flat_map(|chunk| window.of(chunk).to_vec()).collect();
            assert_eq!(cut, &octets[10..35], "chunks of {chunk}");
        }
    }

    #[test]
    fn what_is_kept_of_a_pipe_reads_back() {
        let octets = vec![7; 3 * CHUNK_OCTETS + 1];
        let file = keep(&mut octets.as_slice()).unwrap();
        let mut back = Vec::new();
        each_chunk(&file, 0, u64::MAX, &mut |chunk| back.extend_from_slice(chunk)).unwrap();
        assert!(back == octets);
    }
}
