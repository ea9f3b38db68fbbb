//! How fast a report is scanned and read, in octets a second. Hashing, sealing and storing are not part of it.
//!
//! Beside it `mail-parser` on the same octets, whole in memory: what one would use if it could be shown a whole untrusted
//! message (`tests/departures.rs`). It also decodes every part, which we never do.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use daybook::extract::{Scanner, extract};
use daybook::mail::Profile;
use mail_parser::MessageParser;
use std::hint::black_box;
use std::time::Duration;

/// As the SMTP side hands them over.
const CHUNK_OCTETS: usize = 64 * 1024;

const SIZES: [(&str, usize); 3] = [("50 KB", 50_000), ("1 MB", 1_000_000), ("30 MB", 30_000_000)];

/// A report whose original is a text and an attachment in base64, as most big mail is.
fn report(octets: usize) -> Vec<u8> {
    let mut mail = String::from(
        "Content-Type: multipart/mixed;\r\n\tboundary=\"_1d193813-fafc-4b56-8a91-eb0391210649_\"\r\n\
         Message-ID: <1@journal.report.generator>\r\nX-MS-Journal-Report:\r\n\r\n\
         --_1d193813-fafc-4b56-8a91-eb0391210649_\r\nContent-Type: text/plain; charset=\"us-ascii\"\r\n\r\n\
         Sender: alice@contoso.example\r\nSubject: Quarterly numbers\r\nMessage-Id: <o@contoso.example>\r\n",
    );
    for user in 0..20 {
        mail.push_str(&format!("Recipient: user{user}@contoso.example\r\n"));
    }
    mail.push_str(
        "\r\n--_1d193813-fafc-4b56-8a91-eb0391210649_\r\nContent-Type: message/rfc822\r\n\r\n\
         From: Alice <alice@contoso.example>\r\nMessage-ID: <o@contoso.example>\r\nSubject: Quarterly numbers\r\n\
         Content-Type: multipart/mixed; boundary=\"inner\"\r\n\r\n--inner\r\nContent-Type: text/plain\r\n\r\nHello.\r\n\
         --inner\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n",
    );
    let line = "JVBERi0xLjcKJeLjz9MKMSAwIG9iago8PAovVHlwZSAvQ2F0YWxvZwovUGFnZXMgMiAwIFIKL1\r\n";
    mail.extend(std::iter::repeat_n(line, octets.saturating_sub(mail.len()) / line.len()));
    mail.push_str("--inner--\r\n\r\n--_1d193813-fafc-4b56-8a91-eb0391210649_--\r\n");
    mail.into_bytes()
}

/// Prose: short lines, many of them with dashes.
fn text_report(octets: usize) -> Vec<u8> {
    let text = String::from_utf8_lossy(&report(0)).into_owned();
    let body = "On Monday you wrote:\r\n> -- a quoted line\r\n-- \r\nAlice, and a line of the usual length of prose.\r\n";
    text.replace("Hello.\r\n", &body.repeat(octets / body.len())).into_bytes()
}

fn run(mail: &[u8]) -> usize {
    let mut scanner = Scanner::new();
    mail.chunks(CHUNK_OCTETS).for_each(|chunk| scanner.push(chunk));
    let extraction = extract(&scanner.finish(), Profile::Microsoft365);
    assert_eq!(extraction.reports.len(), 1);
    extraction.reports.iter().map(|report| report.envelope.recipients.len()).sum()
}

/// The whole message, by `mail-parser`.
fn run_mail_parser(mail: &[u8]) -> usize {
    let message = MessageParser::default().parse(mail);
    message.map_or(0, |message| message.parts.len())
}

fn throughput(criterion: &mut Criterion) {
    for (kind, make) in [("attachment", report as fn(usize) -> Vec<u8>), ("prose", text_report)] {
        for (reader, run) in [("daybook", run as fn(&[u8]) -> usize), ("mail-parser", run_mail_parser)] {
            let mut group = criterion.benchmark_group(format!("extract {kind}, {reader}"));
            group.sample_size(30).warm_up_time(Duration::from_secs(1));
            for (name, octets) in SIZES {
                let mail = make(octets);
                group.throughput(Throughput::Bytes(mail.len() as u64));
                group.bench_function(name, |bencher| bencher.iter(|| run(black_box(&mail))));
            }
            group.finish();
        }
    }
}

criterion_group!(benches, throughput);
criterion_main!(benches);
