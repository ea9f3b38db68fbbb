//! Counts in rows and columns, to be read.

use std::collections::BTreeMap;
use std::fmt;

/// Counts by row.
pub(crate) struct Table<const N: usize> {
    columns: [&'static str; N],
    rows: BTreeMap<String, [u64; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(columns: [&'static str; N]) -> Table<N> {
        Table { columns, rows: BTreeMap::new() }
    }

    /// Adds one to each column that holds.
    pub(crate) fn count(&mut self, row: &str, holds: [bool; N]) {
        let counts = self.rows.entry(row.to_owned()).or_insert([0; N]);
        for (count, holds) in counts.iter_mut().zip(holds) {
            *count += u64::from(holds);
        }
    }

    /// One count; 0 where there is no such row.
    pub(crate) fn get(&self, row: &str, column: usize) -> u64 {
        self.rows.get(row).map_or(0, |counts| counts[column])
    }

    /// All of a column.
    pub(crate) fn total(&self, column: usize) -> u64 {
        self.rows.values().map(|counts| counts[column]).sum()
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.keys().map(String::len).max().unwrap_or(0);
        let mut line = |name: &str, cells: Vec<String>| {
            write!(f, "  {name:width$}")?;
            for (cell, column) in cells.iter().zip(self.columns) {
                let width = column.len().max(4);
                write!(f, "  {cell:>width$}")?;
            }
            writeln!(f)
        };
        line("", self.columns.map(str::to_owned).to_vec())?;
        for (row, counts) in &self.rows {
            line(row, counts.iter().map(u64::to_string).collect())?;
        }
        line("all", (0..N).map(|column| self.total(column).to_string()).collect())
    }
}
