//! The index looked through, or made anew from the log: by the server beside its work, or in this process when none runs.

use super::Context;
use super::request::OpError;
use crate::store::{IndexJob, IndexOutcome, IndexState, Options, Progress, check_index, rebuild_index};
use std::sync::Arc;

/// What is being done about the index of the running server, and what came of it; begins something first, if told so.
pub(super) fn index_state(context: &Context, begin: Option<IndexJob>) -> Result<IndexState, OpError> {
    Ok(context.store.index_state(begin)?)
}

/// Does it here, where no server runs. Blocks; `progress` can be looked at meanwhile.
///
/// # Errors
/// `None` while another process has the store open: it may be one that ends, or that begins to answer.
pub fn do_to_index(
    job: IndexJob,
    options: &Options,
    progress: Arc<Progress>,
) -> Result<IndexOutcome, Option<OpError>> {
    let done = match job {
        IndexJob::Check => check_index(&options.data_dir),
        IndexJob::Rebuild => rebuild_index(options, progress),
    };
    done.map_err(|error| match error {
        crate::store::StoreError::Locked => None,
        error => Some(error.into()),
    })
}
