//! What is logged, read back.

use std::io;
use std::sync::{Arc, Mutex};

/// The log as JSON lines, for the thread that listens.
#[derive(Clone, Default)]
pub(crate) struct Log {
    written: Arc<Mutex<Vec<u8>>>,
}

impl Log {
    /// As long as what it gives lives.
    pub(crate) fn listen(&self) -> (tracing::subscriber::DefaultGuard, tracing::Dispatch) {
        let log = self.clone();
        // While there is one subscriber only, a thread that has none and is the first to come to an event turns it off for all.
        let second = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(io::sink);
        let second = tracing::Dispatch::new(second.finish());
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || log.clone())
            .finish();
        (tracing::subscriber::set_default(subscriber), second)
    }

    /// Ours only.
    pub(crate) fn lines(&self) -> Vec<serde_json::Value> {
        let written = self.written.lock().unwrap();
        let lines = written.split(|&octet| octet == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap())
            .filter(|line| line["target"].as_str().is_some_and(|target| target.starts_with("daybook")))
            .collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.written.lock().unwrap().extend(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
