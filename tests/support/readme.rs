//! The README as tests read it: its sections, their code blocks, and the files that blocks write.
//!
//! Take it in with `#[path = "support/readme.rs"] mod page;`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

/// Where the repository is.
pub(crate) fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A code block.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// The section it stands in, without its marks.
    pub(crate) section: String,
    /// What the fence names.
    pub(crate) language: String,
    /// Its lines, not indented.
    pub(crate) text: String,
}

/// A file that a block writes with a here-document.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// Where to.
    pub(crate) path: String,
    /// What.
    pub(crate) text: String,
}

/// The README.
pub(crate) fn text() -> String {
    fs::read_to_string(repository().join("README.md")).unwrap()
}

/// Every code block, in order.
pub(crate) fn blocks() -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut section, mut indent, mut open) = (String::new(), 0, false);
    for line in text().lines() {
        if !open && let Some(heading) = line.strip_prefix("## ") {
            section = heading.to_owned();
        }
        let bare = line.trim_start();
        if let Some(language) = bare.strip_prefix("```") {
            open = !open;
            if open {
                indent = line.len() - bare.len();
                blocks.push(Block {
                    section: section.clone(),
                    language: language.to_owned(),
                    text: String::new(),
                });
            }
        } else if open {
            let text = &mut blocks.last_mut().unwrap().text;
            text.push_str(line.get(indent..).unwrap_or(bare));
            text.push('\n');
        }
    }
    assert!(!open, "a code block of the README does not end");
    blocks
}

/// What a reader types in a section's shell blocks.
pub(crate) fn shell(section: &str) -> Vec<String> {
    let found: Vec<String> = blocks()
        .into_iter()
        .filter(|block| block.section == section && block.language == "sh")
        .map(|block| block.text)
        .collect();
    assert!(!found.is_empty(), "README has no commands under \"{section}\"");
    found
}

/// The commands of a section, one a line, without the here-documents' bodies.
pub(crate) fn commands(section: &str) -> Vec<String> {
    let mut commands = Vec::new();
    for block in shell(section) {
        let mut inside = false;
        for line in block.lines() {
            if inside {
                inside = line != "END";
            } else {
                inside = line.ends_with("<<'END'");
                commands.push(line.to_owned());
            }
        }
    }
    commands
}

/// The files a section writes.
pub(crate) fn files(section: &str) -> Vec<Written> {
    let mut files: Vec<Written> = Vec::new();
    for block in shell(section) {
        let mut inside = false;
        for line in block.lines() {
            if inside && line == "END" {
                inside = false;
            } else if inside {
                let text = &mut files.last_mut().unwrap().text;
                text.push_str(line);
                text.push('\n');
            } else if let Some(start) = line.strip_suffix(" <<'END'") {
                inside = true;
                let path = start.split_whitespace().last().unwrap().to_owned();
                files.push(Written { path, text: String::new() });
            }
        }
    }
    files
}

/// The file of a section with this name.
pub(crate) fn file(section: &str, name: &str) -> String {
    let found = files(section).into_iter().find(|file| Path::new(&file.path).ends_with(name));
    found.unwrap_or_else(|| panic!("README writes no {name} under \"{section}\"")).text
}
