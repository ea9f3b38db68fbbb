//! The index looked through, for `daybook check`: nothing is changed, and nothing is read of the log.

use super::sums::damaged;
use super::{Index, StoreError};
use crate::store::log::Position;
use rusqlite::InterruptHandle;

/// Findings that are told in words; the rest is counted.
const FINDINGS_MAX: usize = 20;

/// What was found.
#[derive(Debug, Default)]
pub(in crate::store) struct Examined {
    /// How far the log was taken in.
    pub(in crate::store) position: Option<Position>,
    pub(in crate::store) folders: u64,
    /// Live entries.
    pub(in crate::store) entries: u64,
    /// The first of what is wrong.
    pub(in crate::store) findings: Vec<String>,
    /// How much is wrong.
    pub(in crate::store) damaged: u64,
}

impl Examined {
    /// An index that could not even be opened.
    pub(in crate::store) fn hopeless(why: String) -> Examined {
        let mut examined = Examined::default();
        examined.tell(why);
        examined
    }

    pub(in crate::store) fn tell(&mut self, finding: String) {
        self.damaged += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

impl Index {
    /// Looks through the index as it is now: SQLite's own check of its pages, what the index says of itself, every folder with
    /// its live entries, and the messages and objects behind them. Gives up early when `go_on` says so; what takes long in
    /// SQLite itself is left by [`Index::interrupt_handle`].
    ///
    /// # Errors
    /// [`StoreError::Refused`] when it gave up: what was not looked at may be damaged.
    pub(in crate::store) fn examine(&self, go_on: &dyn Fn() -> bool) -> Result<Examined, StoreError> {
        let mut examined = Examined::default();
        if let Err(error) = self.at_once(|index| index.examine_now(go_on, &mut examined)) {
            examined.tell(error.to_string());
        }
        match go_on() {
            true => Ok(examined),
            false => Err(StoreError::Refused("it was not looked through to the end".to_owned())),
        }
    }

    /// Ends what is asked on this connection just then.
    pub(in crate::store) fn interrupt_handle(&self) -> InterruptHandle {
        self.connection.get_interrupt_handle()
    }

    fn examine_now(&self, go_on: &dyn Fn() -> bool, examined: &mut Examined) -> Result<(), StoreError> {
        if !go_on() {
            return Ok(());
        }
        let mut check = self.connection.prepare(&format!("PRAGMA quick_check({FINDINGS_MAX})"))?;
        let mut rows = check.query([])?;
        while let Some(row) = rows.next()? {
            let said: String = row.get(0)?;
            if said != "ok" {
                examined.tell(said);
            }
        }
        drop(rows);
        self.examine_said(go_on, examined)
    }

    /// The same without SQLite's own check, for somebody who has had that made.
    pub(in crate::store) fn examine_said(
        &self,
        go_on: &dyn Fn() -> bool,
        examined: &mut Examined,
    ) -> Result<(), StoreError> {
        examined.position = self.position()?;
        if examined.position.is_none() {
            return Err(damaged("nothing of the log was taken in"));
        }
        self.numbers()?;
        self.gateway_mailboxes()?;
        let (folders, entries) =
            self.examine_folders(go_on, &mut |error| examined.tell(error.to_string()))?;
        (examined.folders, examined.entries) = (folders, entries);
        self.examine_keeping(go_on, &mut |what| examined.tell(what))
    }
}
