//! Every message of the corpus, judged by what `daybook inspect --json` must say of it.
//!
//! Each `<name>.eml` has a `<name>.expect.json`: the part of the output that must match. Keys that are absent there
//! are not judged, `recipients` and `originals` are compared as sets, `defects_at_least` counts, `defects_include`
//! names kinds that must be among them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use aws_lc_rs::digest::{SHA256, digest};
use daybook::extract::{Decoder, Extraction, Scanner, extract, inspect};
use daybook::mail::{Extent, Profile};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn corpus() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut found = Vec::new();
    let mut todo = vec![root];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|ext| ext == "eml") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(bytes: &[u8], chunk_octets: usize, profile: Profile) -> Extraction {
    let mut scanner = Scanner::new();
    bytes.chunks(chunk_octets.max(1)).for_each(|chunk| scanner.push(chunk));
    extract(&scanner.finish(), profile)
}

/// The octets of every object, cut and decoded as the store would.
fn objects(bytes: &[u8], extraction: &Extraction) -> Vec<Vec<u8>> {
    let mut objects = vec![bytes.to_vec()];
    for derived in &extraction.derived {
        let mut decoder = Decoder::new(derived.encoding);
        let mut decoded = Vec::new();
        decoder.push(cut(&objects, &derived.source), &mut decoded);
        decoder.finish(&mut decoded);
        objects.push(decoded);
    }
    objects
}

fn cut<'a>(objects: &'a [Vec<u8>], extent: &Extent) -> &'a [u8] {
    &objects[extent.object as usize][extent.offset as usize..(extent.offset + extent.octets) as usize]
}

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

fn inspected(bytes: &[u8], extraction: &Extraction) -> Value {
    let objects = objects(bytes, extraction);
    inspect(extraction, &sha256(bytes), &|extent| sha256(cut(&objects, extent)))
}

/// What differs, as `path: expected … found …`.
fn differences(path: &str, expect: &Value, found: &Value, out: &mut Vec<String>) {
    match (expect, found) {
        (Value::Object(expect), _) => {
            for (key, wanted) in expect {
                let list = found["defects"].as_array().cloned().unwrap_or_default();
                match key.as_str() {
                    "defects_at_least" => {
                        if (list.len() as u64) < wanted.as_u64().unwrap() {
                            out.push(format!("{path}: wants {wanted} defects, found {}", found["defects"]));
                        }
                    }
                    "defects_include" => {
                        for kind in wanted.as_array().unwrap() {
                            if !list.iter().any(|defect| defect["kind"] == *kind) {
                                out.push(format!("{path}: wants defect {kind}, found {}", found["defects"]));
                            }
                        }
                    }
                    _ => differences(&format!("{path}.{key}"), wanted, &found[key], out),
                }
            }
        }
        (Value::Array(wanted), Value::Array(got)) if wanted.len() == got.len() => {
            let is_set = path.ends_with(".recipients") || path.ends_with(".originals");
            let mut left: Vec<&Value> = got.iter().collect();
            for (index, item) in wanted.iter().enumerate() {
                let fits = |candidate: &Value| {
                    let mut inner = Vec::new();
                    differences(path, item, candidate, &mut inner);
                    inner.is_empty()
                };
                match left.iter().position(|candidate| is_set && fits(candidate)) {
                    Some(at) => drop(left.remove(at)),
                    None if is_set => out.push(format!("{path}: {item} is missing in {found}")),
                    None => differences(&format!("{path}[{index}]"), item, &got[index], out),
                }
            }
        }
        _ if expect == found => {}
        _ => out.push(format!("{path}: expected {expect}, found {found}")),
    }
}

#[test]
fn every_corpus_message_is_read_as_its_expectation_says() {
    let cases = corpus();
    assert!(cases.len() >= 32, "the corpus is incomplete: {} cases", cases.len());
    let mut failures = Vec::new();
    for path in &cases {
        let bytes = std::fs::read(path).unwrap();
        let expect =
            std::fs::read(path.with_extension("expect.json")).expect("an expectation beside the message");
        let expect: Value = serde_json::from_slice(&expect).unwrap();
        for chunk_octets in [bytes.len(), 1, 7, 64 * 1024] {
            let found = inspected(&bytes, &read(&bytes, chunk_octets, Profile::Microsoft365));
            let name = format!("{} in chunks of {chunk_octets}", path.file_stem().unwrap().to_string_lossy());
            differences(&name, &expect, &found, &mut failures);
        }
    }
    assert!(failures.is_empty(), "{} differences:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn any_cut_of_a_message_is_read_without_a_panic_and_a_cut_report_is_never_assigned() {
    for path in corpus() {
        let bytes = std::fs::read(&path).unwrap();
        let whole = read(&bytes, 1024, Profile::Microsoft365);
        for end in (0..bytes.len()).step_by(50) {
            let cut = &bytes[..end];
            let extraction = read(cut, 1024, Profile::Microsoft365);
            let report = inspected(cut, &extraction);
            assert_eq!(report["bytes"], json!(end));
            // A cut that only misses the NDR around a complete report is still that report.
            if report["destination"] == "assign" {
                let found = |e: &Extraction| -> Vec<_> {
                    e.reports
                        .iter()
                        .flat_map(|r| &r.originals)
                        .map(|o| (o.facts.extent, o.facts.canonical))
                        .collect()
                };
                assert_eq!(found(&extraction), found(&whole), "{} cut at {end}", path.display());
            }
        }
    }
}

#[test]
fn the_generic_profile_unwraps_nothing() {
    for path in corpus() {
        let bytes = std::fs::read(&path).unwrap();
        let found = inspected(&bytes, &read(&bytes, 4096, Profile::Generic));
        assert_eq!((&found["class"], &found["destination"]), (&json!("plain"), &json!("unassigned")));
        assert_eq!(found["reports"], json!([]));
    }
}
