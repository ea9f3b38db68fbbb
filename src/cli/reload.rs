//! SIGHUP: everything that can be read again is, and what is bad stays as it was.
//!
//! ```text
//! log file ─▶ configuration ─▶ what is made of it: SMTP limits, users, alarms, log level ─▶ certificate
//! ```
//! A configuration with a fault changes nothing, and the log, `readyz` and `/healthz` say so. Keys that only a start can
//! change keep their values, and are named.

use super::configuration::notices;
use super::limits;
use super::renewal;
use super::service::{Running, in_flight_limits, smtp_settings};
use super::start::reserve_octets;
use crate::admin::{configured_level, log_reload};
use crate::config::{self, Settings};
use crate::directory::{SourceFault, SourceReport};
use crate::observe;
use std::sync::Arc;

impl Running {
    /// Opens the log file anew and reads the configuration, the directory's files and the certificate again; what is bad
    /// stays as it was, and the log says so.
    pub async fn reload(&self) {
        // May wait for the log's thread. When it failed, the others are read all the same.
        tokio::task::spawn_blocking(observe::reopen).await.ok();
        let read_again = match self.read_configuration().await {
            Some(wanted) => self.reconfigure(wanted).await,
            None => false,
        };
        self.pullers.retry_failing();
        let (directory, tls) = (Arc::clone(&self.directory), Arc::clone(&self.tls));
        let settings = self.settings.current();
        let reloaded = tokio::task::spawn_blocking(move || {
            if !read_again {
                log_reload(&directory.reload(), false);
            }
            directory.ask_soon();
            renewal::reload(&tls, &settings)
        });
        if let Ok(Some(fault)) = reloaded.await {
            self.settings.note_fault(Some(fault));
        }
    }

    /// What the file says now; `None` when there is none, or it has a fault.
    async fn read_configuration(&self) -> Option<Settings> {
        let file = self.config_file.clone()?;
        let read = tokio::task::spawn_blocking(move || config::load(&file)).await.ok()?;
        match read {
            Ok(wanted) => {
                self.settings.note_fault(None);
                Some(wanted)
            }
            Err(errors) => {
                let error = errors.to_string().lines().collect::<Vec<_>>().join("; ");
                tracing::error!(event = "config.kept", error);
                self.settings.note_fault(Some(error));
                None
            }
        }
    }

    /// Puts other settings in force as far as a running gateway can; true when the directory was read anew for it.
    async fn reconfigure(&self, wanted: Settings) -> bool {
        let before = self.settings.current();
        let mut settings = wanted.clone().for_running(&before);
        let late = wanted.differences(&settings);
        if !late.is_empty() {
            tracing::warn!(event = "config.needs_restart", keys = late.join(", "));
        }
        let read_again = before.directories != settings.directories && self.read_other_users(&settings).await;
        if !read_again {
            settings.directories.clone_from(&before.directories);
        }
        if *before == settings {
            tracing::info!(event = "config.unchanged");
            return false;
        }
        for notice in notices(&settings) {
            tracing::warn!(event = "config.notice", notice);
        }
        self.settings.replace(settings.clone());
        self.smtp.replace(smtp_settings(&settings));
        self.admission.replace(limits::smtp(&settings, limits::descriptors()));
        limits::warn_of_few_descriptors(&settings, limits::descriptors());
        self.pipeline.replace_exchange(&settings.exchange);
        self.pipeline.replace_assign(&settings.assign, &settings.domains);
        self.pipeline.limit_in_flight(in_flight_limits(&settings));
        self.pullers.configure(&settings.pullers);
        self.embedded.set_reserve(reserve_octets(&settings));
        self.embedded.set_ballast(settings.store.ballast_bytes);
        self.embedded.set_scrub(settings.store.scrub_bytes_per_second);
        self.embedded.set_escrow(settings.keys.escrow.clone());
        self.embedded.set_checkpoint_dir(settings.store.checkpoint_dir.clone());
        if before.log.level != settings.log.level {
            observe::set_level(configured_level(&settings));
        }
        if before.alerts != settings.alerts
            && let Some(alarms) = &self.alarms
        {
            alarms.reconfigure().await;
        }
        // Last of all, so that whoever reads of it sees it done.
        tracing::info!(event = "config.reloaded", changed = before.differences(&settings).join(", "));
        read_again
    }

    /// Puts other sources of users in force; false when one of them is bad and those before stay.
    async fn read_other_users(&self, settings: &Settings) -> bool {
        let (directory, sources) = (Arc::clone(&self.directory), settings.directories.clone());
        let read = tokio::task::spawn_blocking(move || directory.reconfigure(&sources)).await;
        let Ok(report) = read else { return false };
        log_reload(&report, false);
        if !report.taken {
            let bad = report.sources.iter().filter(|source| source.error.is_some());
            let why = |error: &SourceFault| error.text.lines().next().unwrap_or_default().to_owned();
            let why = |source: &SourceReport| source.error.as_ref().map(why).unwrap_or_default();
            let bad: Vec<String> = bad.map(|source| format!("{} ({})", source.place, why(source))).collect();
            let error = format!("[[directory]] cannot be read: {}", bad.join(", "));
            tracing::error!(event = "config.kept", error);
            self.settings.note_fault(Some(error));
        }
        report.taken
    }
}
