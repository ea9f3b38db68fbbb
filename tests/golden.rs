//! Every message of the corpus, judged by what `daybook inspect --json` must say of it: as it is, with bare LF and with CRLF
//! throughout, in chunks of any size, and cut short.
//!
//! Each `<name>.eml` has a `<name>.expect.json`: `corpus/README.md` says what stands in it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/corpus.rs"]
mod corpus;
#[path = "support/extracted.rs"]
mod extracted;

use aws_lc_rs::digest::{SHA256, digest};
use daybook::extract::{Encoding, inspect};
use daybook::mail::Profile;
use extracted::{Extracted, read};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// Chunks a message is fed in; the first is larger than any message here.
const CHUNKS: [usize; 4] = [64 * 1024 * 1024, 1, 7, 64 * 1024];
/// A message is cut at every multiple of this, and at each of its last octets.
const CUT_EVERY: usize = 100;
const CUT_LAST: usize = 8;
/// What an expectation says about itself, not about the message.
const REMARKS: [&str; 5] = ["why", "edge_cases", "topics", "conversions", "cross_check"];

struct Case {
    name: String,
    octets: Vec<u8>,
    expect: Value,
}

fn cases() -> Vec<Case> {
    let case = |path: &std::path::PathBuf| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        let name = path.strip_prefix(root).unwrap().with_extension("").display().to_string();
        let expect = std::fs::read(path.with_extension("expect.json"))
            .unwrap_or_else(|error| panic!("the expectation of {name}: {error}"));
        let expect = serde_json::from_slice(&expect).unwrap_or_else(|error| panic!("{name}: {error}"));
        Case { name, octets: std::fs::read(path).unwrap(), expect }
    };
    corpus::messages().iter().map(case).collect()
}

/// Reads a message in chunks of every size, which must make no difference.
fn in_any_chunks(name: &str, octets: &[u8]) -> Extracted {
    let whole = Extracted::of(octets, CHUNKS[0]);
    for chunk_octets in &CHUNKS[1..] {
        let found = read(octets, *chunk_octets, Profile::Microsoft365);
        assert!(found == whole.found, "{name} reads differently in chunks of {chunk_octets}");
    }
    whole
}

fn inspected(all: &Extracted) -> Value {
    let hash = sha256(all.octets(&all.found.whole.extent));
    inspect(&all.found, &hash, &|extent| sha256(all.octets(extent)))
}

/// Of every original, whether a conversion of the message's line ends reaches it: base64 hides them.
fn reached(all: &Extracted) -> Vec<bool> {
    let mut objects = vec![true];
    for derived in &all.found.derived {
        objects
            .push(objects[derived.source.object as usize] && derived.encoding == Encoding::QuotedPrintable);
    }
    let originals = all.found.reports.iter().flat_map(|report| &report.originals);
    originals.map(|original| objects[original.facts.extent.object as usize]).collect()
}

fn defect_kinds(all: &Extracted) -> BTreeSet<String> {
    all.found.defects.iter().map(|defect| defect.kind.to_string()).collect()
}

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// What differs, as `path: expected … found …`.
fn differences(path: &str, expect: &Value, found: &Value, out: &mut Vec<String>) {
    match (expect, found) {
        (Value::Object(expect), _) => {
            for (key, wanted) in expect {
                match key.as_str() {
                    key if REMARKS.contains(&key) => {}
                    "defects_at_least" | "defects_include" | "defects_are" => {
                        defect_differences(path, key, wanted, &found["defects"], out);
                    }
                    _ => differences(&format!("{path}.{key}"), wanted, &found[key], out),
                }
            }
        }
        (Value::Array(wanted), Value::Array(got)) if wanted.len() == got.len() => {
            let is_set = path.ends_with(".recipients") || path.ends_with(".originals");
            let mut left: Vec<&Value> = got.iter().collect();
            for (index, item) in wanted.iter().enumerate() {
                let fits = |candidate: &&Value| {
                    let mut inner = Vec::new();
                    differences(path, item, candidate, &mut inner);
                    inner.is_empty()
                };
                match left.iter().position(fits) {
                    Some(at) if is_set => drop(left.remove(at)),
                    None if is_set => out.push(format!("{path}: {item} is missing in {found}")),
                    _ => differences(&format!("{path}[{index}]"), item, &got[index], out),
                }
            }
        }
        _ if expect == found => {}
        _ => out.push(format!("{path}: expected {expect}, found {found}")),
    }
}

fn defect_differences(path: &str, key: &str, wanted: &Value, found: &Value, out: &mut Vec<String>) {
    let kinds: BTreeSet<&str> =
        found.as_array().unwrap().iter().map(|defect| defect["kind"].as_str().unwrap()).collect();
    let named: BTreeSet<&str> =
        wanted.as_array().into_iter().flatten().map(|kind| kind.as_str().unwrap()).collect();
    let fits = match key {
        "defects_at_least" => kinds.len() as u64 >= wanted.as_u64().unwrap(),
        "defects_include" => named.is_subset(&kinds),
        _ => named == kinds,
    };
    if !fits {
        out.push(format!("{path}: {key} {wanted}, found {found}"));
    }
}

#[test]
fn every_corpus_message_is_read_as_its_expectation_says() {
    let mut failures = Vec::new();
    for case in cases() {
        let found = inspected(&in_any_chunks(&case.name, &case.octets));
        differences(&case.name, &case.expect, &found, &mut failures);
    }
    assert!(failures.is_empty(), "{} differences:\n{}", failures.len(), failures.join("\n"));
}

/// Converts line ends.
type Convert = fn(&[u8]) -> Vec<u8>;

/// Takes the CR from every CRLF.
fn with_lf(bytes: &[u8]) -> Vec<u8> {
    let is_end = |at: usize| bytes[at] == b'\r' && bytes.get(at + 1) == Some(&b'\n');
    (0..bytes.len()).filter(|at| !is_end(*at)).map(|at| bytes[at]).collect()
}

/// Gives a CR to every LF that has none.
fn with_crlf(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() * 2);
    for (at, byte) in bytes.iter().enumerate() {
        if *byte == b'\n' && (at == 0 || bytes[at - 1] != b'\r') {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    out
}

/// What a reading says apart from sizes and hashes, which line ends change.
fn sense(all: &Extracted) -> Value {
    let mut json = inspected(all);
    for key in ["bytes", "sha256", "defects"] {
        json[key].take();
    }
    for original in json["reports"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .flat_map(|r| r["originals"].as_array_mut().unwrap())
    {
        original["bytes"].take();
        original["sha256"].take();
    }
    json["defect kinds"] = json!(defect_kinds(all));
    json
}

/// What is not the same after a conversion of line ends.
fn conversion_differences(before: &Extracted, after: &Extracted, convert: Convert) -> Vec<String> {
    let mut out = Vec::new();
    differences("", &sense(before), &sense(after), &mut out);
    let wanted: Vec<Vec<u8>> = before
        .originals()
        .iter()
        .flatten()
        .zip(reached(before))
        .map(|(octets, reached)| if reached { convert(octets) } else { octets.to_vec() })
        .collect();
    if wanted != after.originals().concat() {
        out.push("the originals are not the converted originals".into());
    }
    out
}

#[test]
fn every_corpus_message_reads_the_same_with_bare_lf_and_with_crlf() {
    let conversions: [(&str, Convert); 2] = [("lf", with_lf), ("crlf", with_crlf)];
    let mut failures = Vec::new();
    for case in cases() {
        let before = Extracted::of(&case.octets, CHUNKS[0]);
        for (form, convert) in conversions {
            let octets = convert(&case.octets);
            let name = format!("{} as {form}", case.name);
            let found = conversion_differences(&before, &in_any_chunks(&name, &octets), convert);
            match case.expect["conversions"][form].as_str() {
                None => failures.extend(found.into_iter().map(|difference| format!("{name}{difference}"))),
                Some(why) if found.is_empty() => {
                    failures.push(format!("{name} reads the same: not so that {why}"))
                }
                Some(_) => {}
            }
        }
    }
    assert!(failures.is_empty(), "{} differences:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn any_cut_of_a_message_is_read_without_a_panic_and_a_cut_report_is_never_assigned() {
    for Case { name, octets, .. } in cases() {
        let whole = Extracted::of(&octets, CHUNKS[0]);
        let last = octets.len().saturating_sub(CUT_LAST);
        for end in (0..octets.len()).step_by(CUT_EVERY).chain(last..octets.len()) {
            let cut = Extracted::of(&octets[..end], 1024);
            assert_eq!(cut.found.whole.extent.octets, end as u64);
            // A cut that only misses what is around a complete report is still that report.
            if json!(cut.found.destination) == "assign" {
                assert!(
                    cut.originals() == whole.originals(),
                    "{name} cut at {end}: not the originals of the whole"
                );
                let envelopes = |all: &Extracted| {
                    all.found.reports.iter().map(|r| r.envelope.clone()).collect::<Vec<_>>()
                };
                assert_eq!(envelopes(&cut), envelopes(&whole), "{name} cut at {end}");
            }
        }
    }
}

#[test]
fn the_generic_profile_unwraps_nothing() {
    for Case { name, octets, .. } in cases() {
        let found = read(&octets, 4096, Profile::Generic);
        assert_eq!(
            (json!(found.class), json!(found.destination)),
            (json!("plain"), json!("unassigned")),
            "{name}"
        );
        assert!(found.reports.is_empty(), "{name}");
    }
}
