//! Ctrl-C as a good end, for commands that go on until they are told to stop.

use tokio::signal::unix::{SignalKind, signal};

/// From now on SIGINT ends the process with code 0. Where that cannot be had, it ends it as it always did.
pub(super) fn ends_quietly() {
    let watch = || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let Ok(mut interrupt) = signal(SignalKind::interrupt()) else { return };
            interrupt.recv().await;
            std::process::exit(0);
        });
    };
    drop(std::thread::Builder::new().name("interrupt".to_owned()).spawn(watch));
}
