//! What is wrong with a file an operator wrote, line by line.

use std::fmt;
use std::path::{Path, PathBuf};

/// Most faults listed of one file; the rest are only counted, so that a wrong export of 10,000 users does not
/// write 10,000 log lines.
pub(crate) const ERRORS_LISTED_MAX: usize = 50;

/// One fault. Always the operator's; trying again without changing the file does not help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Counted from 1; `None` when the fault has no place, such as a file that cannot be read.
    pub line: Option<usize>,
    /// What is wrong, with the key and what was expected.
    pub message: String,
}

/// Every fault found in one file, in line order. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    file: PathBuf,
    errors: Vec<ConfigError>,
    unlisted: usize,
}

impl ConfigErrors {
    /// `errors` in line order; those without a line first.
    pub(crate) fn new(file: &Path, mut errors: Vec<ConfigError>, unlisted: usize) -> ConfigErrors {
        errors.sort_by_key(|error| error.line);
        ConfigErrors { file: file.to_owned(), errors, unlisted }
    }

    /// A single fault that concerns the whole file.
    pub(crate) fn whole_file(file: &Path, message: String) -> ConfigErrors {
        ConfigErrors { file: file.to_owned(), errors: vec![ConfigError { line: None, message }], unlisted: 0 }
    }

    /// The file as it was named by the caller.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The faults, in line order.
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }
}

/// One line for each fault: `file:line: message`.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}", self.file.display())?;
            if let Some(line) = error.line {
                write!(f, ":{line}")?;
            }
            write!(f, ": {}", error.message)?;
        }
        if self.unlisted > 0 {
            write!(f, "\n{}: and {} more", self.file.display(), self.unlisted)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
