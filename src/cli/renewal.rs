//! Puts a renewed certificate in force: at SIGHUP, and by itself when its files change.

use super::start::StartError;
use crate::config::Settings;
use crate::net::drain::Drain;
use crate::net::tls::{Look, TlsError, TlsIdentity};
use std::sync::Arc;
use std::time::Duration;

/// How often the files are looked at. A bad pair counts as such after several looks, see [`crate::net::renewal`].
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Looks until the drain starts.
pub(super) async fn watch(identity: Arc<TlsIdentity>, drain: Drain) {
    loop {
        tokio::select! {
            () = drain.started() => return,
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
        let looking = Arc::clone(&identity);
        match tokio::task::spawn_blocking(move || looking.look()).await {
            Ok(Look::Reloaded) => log_reloaded(&identity),
            Ok(Look::Kept(error)) => log_kept(error),
            Ok(Look::Same) | Err(_) => {}
        }
    }
}

/// Reads everything these settings name again, being told to. What is bad stays as it was. Gives what is wrong with the
/// authorities, which nobody looks at again before the next time. Blocks.
pub(super) fn reload(identity: &TlsIdentity, settings: &Settings) -> Option<String> {
    let [certificate, key] = match &settings.tls {
        Some(files) => [files.certificate.clone(), files.private_key.clone()],
        None => TlsIdentity::self_signed_files(&settings.data_dir),
    };
    match identity.reload_from(&certificate, &key) {
        Ok(()) => log_reloaded(identity),
        Err(error) => log_kept(error),
    }
    let error = StartError::Tls(identity.trust(settings.exchange.ca_file.as_deref()).err()?);
    tracing::error!(event = "tls.authorities_kept", %error);
    Some(format!("[exchange] ca_file: {error}"))
}

fn log_reloaded(identity: &TlsIdentity) {
    tracing::info!(event = "tls.reloaded", not_after = identity.not_after().map(tracing::field::display));
}

fn log_kept(error: TlsError) {
    let error = StartError::Tls(error);
    tracing::error!(event = "tls.kept", %error);
}
