//! Journal reports of which no two are the same, and writers that deliver them.

use super::engines::share;
use super::gateway::{Gateway, text};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// A journal report with a number in it.
pub(crate) struct Reports {
    template: Vec<u8>,
    /// Where the number stands.
    numbers: Vec<usize>,
    next: AtomicU64,
}

const NUMBER: &str = "0123456789ABCDEF";

impl Reports {
    /// Reports of about so many octets.
    pub(crate) fn new(octets: usize) -> Reports {
        let body = text(octets);
        let template = format!(
            "X-MS-Journal-Report:\r\nMessage-ID: <{NUMBER}@journal.report.generator>\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/mixed; boundary=\"b\"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n\
             Sender: a@example.com\r\nSubject: s\r\nMessage-Id: <{NUMBER}@example.com>\r\nTo: b@example.com\r\n\r\n\
             --b\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: <{NUMBER}@example.com>\r\nSubject: s\r\n\r\n\
             {body}\r\n--b--\r\n"
        );
        let numbers = template.match_indices(NUMBER).map(|(at, _)| at).collect();
        Reports { template: template.into_bytes(), numbers, next: AtomicU64::new(1) }
    }

    pub(crate) fn next(&self) -> Vec<u8> {
        let number = format!("{:016X}", self.next.fetch_add(1, Ordering::Relaxed));
        let mut report = self.template.clone();
        for at in &self.numbers {
            report[*at..at + NUMBER.len()].copy_from_slice(number.as_bytes());
        }
        report
    }
}

/// `writers` tasks that deliver through the pipeline, each after the 250 of its last.
pub(crate) fn deliver(
    runtime: &Runtime,
    gateway: &Arc<Gateway>,
    reports: &Arc<Reports>,
    writers: u64,
    n: u64,
) -> Duration {
    let started = Instant::now();
    runtime.block_on(async {
        let write = |writer| {
            let (gateway, reports) = (gateway.clone(), reports.clone());
            tokio::spawn(async move {
                for _ in 0..share(writer, writers, n) {
                    gateway.deliver(&reports.next()).await;
                }
            })
        };
        let tasks: Vec<_> = (0..writers).map(write).collect();
        for task in tasks {
            task.await.expect("a writer");
        }
    });
    started.elapsed()
}
