//! `checkpoint-dir`: whether signed checkpoints can be written to the folder outside, and whether that is outside.

use super::{Finding, Subject, quoted};
use crate::store::{StoreError, try_checkpoint_dir};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

pub(super) const NAME: &str = "checkpoint-dir";
/// How long the folder may take: a share whose server is gone takes for ever.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    let Some(dir) = &subject.settings.store.checkpoint_dir else {
        return vec![Finding::ok(
            NAME,
            "none is configured: checkpoints are kept in data_dir and told to the log",
        )];
    };
    if !subject.settings.data_dir.is_dir() {
        return vec![Finding::skipped(NAME, "data_dir is not made yet")];
    }
    let (answer, tried) = mpsc::channel();
    let (there, data_dir) = (dir.clone(), subject.settings.data_dir.clone());
    // Whoever waited for it may have gone on.
    let work = move || drop(answer.send(try_checkpoint_dir(&there, &data_dir)));
    let started = std::thread::Builder::new().name("doctor-checkpoint-dir".to_owned()).spawn(work);
    vec![judge(dir, started.ok().and_then(|_| tried.recv_timeout(ANSWER_WAIT).ok()))]
}

/// `tried` is whether the folder lies on another file system; `None` when there was no answer.
fn judge(dir: &Path, tried: Option<Result<bool, StoreError>>) -> Finding {
    let (shown, place) = (dir.display(), quoted(dir));
    match tried {
        Some(Ok(true)) => {
            Finding::ok(NAME, format!("{shown} can be written to and is on another file system"))
        }
        Some(Ok(false)) => Finding::warning(
            NAME,
            format!("{shown} is on the file system of data_dir: what takes the end of the log takes it too"),
            format!(
                "mount a folder of another machine or disk there: `findmnt -T {place}` shows what is; or name another one"
            ),
        ),
        Some(Err(error)) => Finding::problem(
            NAME,
            format!("{shown}: {error}"),
            format!("mount it, make room there, and let the server's user write to it: `ls -ld {place}`"),
        ),
        None => Finding::problem(
            NAME,
            format!("{shown} does not answer"),
            "is it a share whose server is gone? `dmesg` and the mount say more; mail is taken meanwhile",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn judges_what_the_folder_is() {
        let judged = |tried| judge(Path::new("/audit"), tried).status;
        assert_eq!(judged(Some(Ok(true))), Status::Ok);
        assert_eq!(judged(Some(Ok(false))), Status::Warning);
        assert_eq!(judged(Some(Err(StoreError::Full))), Status::Problem);
        assert_eq!(judged(None), Status::Problem);
    }

    #[test]
    fn a_folder_beside_data_dir_is_not_outside() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(try_checkpoint_dir(dir.path(), dir.path()), Ok(false)));
        assert!(try_checkpoint_dir(&dir.path().join("none"), dir.path()).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left there");
    }
}
