//! Faults that a test plants in the store, to see that its harness finds what it is there to find.
//!
//! Only with the cargo feature `planted-faults`, which nothing that is installed has: without it [`is_planted`] is a constant and
//! every branch on it is gone. With it the environment variable `DAYBOOK_PLANT` names one, and the server says so at each start
//! (`store.planted`). Each switches one safeguard off, where that safeguard stands.

use std::fs::File;
use std::io;

/// A sync that comes too late comes so much later: on a fast disk it would else be done before the answer has left.
const LATE: std::time::Duration = std::time::Duration::from_millis(50);

/// A safeguard that can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plant {
    /// The log is written and not synced.
    SkipDataSync,
    /// The log is synced only after the answer.
    AnswerBeforeSync,
    /// The log goes on in the old segment, behind what failed.
    AppendAfterFailure,
    /// A content file is not synced.
    SkipContentSync,
    /// The index is committed before the log is written.
    IndexBeforeLog,
    /// What a crash left unsynced at the end of the log is built upon as it is.
    SkipRehome,
    /// What a failed sync left behind is not given up, only synced once more.
    RetrySync,
    /// The directory of the log is not synced when a segment is begun.
    SkipSegmentDirSync,
    /// The directory of a content file is not synced.
    SkipContentDirSync,
    /// A directory is not synced when a file in it is replaced: keyrings, the clean mark.
    SkipRenameDirSync,
    /// A file that takes another's place is not synced first: keyrings, the clean mark.
    SkipRenameFileSync,
    /// A directory is not synced when one is made in it.
    SkipNewDirSync,
    /// Content is punched out before the entry that frees it is durable.
    FreeBeforeLog,
    /// Freed content counts as given back before it is.
    StrikeBeforePunch,
    /// What was punched out is not synced before it counts as given back.
    SkipPunchSync,
    /// The files of a new keyring take the place of those before while no entry names them yet.
    KeyringBeforeLog,
}

/// True when this safeguard is to be missing.
#[cfg(not(feature = "planted-faults"))]
#[inline(always)]
pub(super) const fn is_planted(_: Plant) -> bool {
    false
}

#[cfg(feature = "planted-faults")]
pub(super) use chosen::is_planted;

/// Makes what was written to a segment of the log durable.
pub(super) fn sync_log(segment: &File) -> io::Result<()> {
    if is_planted(Plant::SkipDataSync) {
        return Ok(());
    }
    if is_planted(Plant::AnswerBeforeSync) {
        let segment = segment.try_clone()?;
        std::thread::spawn(move || {
            std::thread::sleep(LATE);
            segment.sync_data()
        });
        return Ok(());
    }
    match segment.sync_data() {
        Err(_) if is_planted(Plant::RetrySync) => segment.sync_data(),
        synced => synced,
    }
}

/// Says at a start that a safeguard is missing.
pub(super) fn announce() {
    #[cfg(feature = "planted-faults")]
    if let Some(plant) = chosen::plant() {
        tracing::error!(event = "store.planted", what = ?plant);
    }
}

#[cfg(feature = "planted-faults")]
mod chosen {
    use super::Plant;
    use std::sync::OnceLock;

    const ALL: [(&str, Plant); 16] = [
        ("skip-data-sync", Plant::SkipDataSync),
        ("answer-before-sync", Plant::AnswerBeforeSync),
        ("append-after-failure", Plant::AppendAfterFailure),
        ("skip-content-sync", Plant::SkipContentSync),
        ("index-before-log", Plant::IndexBeforeLog),
        ("skip-rehome", Plant::SkipRehome),
        ("retry-sync", Plant::RetrySync),
        ("skip-segment-dir-sync", Plant::SkipSegmentDirSync),
        ("skip-content-dir-sync", Plant::SkipContentDirSync),
        ("skip-rename-dir-sync", Plant::SkipRenameDirSync),
        ("skip-rename-file-sync", Plant::SkipRenameFileSync),
        ("skip-new-dir-sync", Plant::SkipNewDirSync),
        ("free-before-log", Plant::FreeBeforeLog),
        ("strike-before-punch", Plant::StrikeBeforePunch),
        ("skip-punch-sync", Plant::SkipPunchSync),
        ("keyring-before-log", Plant::KeyringBeforeLog),
    ];

    /// The one that `DAYBOOK_PLANT` names; a name that nobody knows is none, which the test that gave it notices.
    pub(super) fn plant() -> Option<Plant> {
        static CHOSEN: OnceLock<Option<Plant>> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let name = std::env::var("DAYBOOK_PLANT").ok()?;
            ALL.iter().find(|(known, _)| *known == name).map(|(_, plant)| *plant)
        })
    }

    pub(in super::super) fn is_planted(plant: Plant) -> bool {
        self::plant() == Some(plant)
    }
}
