//! Assigning a report by a directory of 10,000 users with three addresses each, and making that directory's snapshot.

#![allow(clippy::expect_used)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use daybook::assign::{Policy, assign};
use daybook::directory::{ProxyAddress, Snapshot, User};
use daybook::mail::{
    Address, JournaledEnvelope, JournaledRecipient, RecipientField, Timestamp, WrittenAddress,
};
use std::hint::black_box;

const USERS: usize = 10_000;
/// One in so many recipients is nobody's here, as in mail to the outside.
const EXTERNAL_ONE_IN: usize = 10;

fn users() -> Vec<User> {
    let address = |text: String| Address::parse(&text).expect("an address");
    let proxy = |text: String| ProxyAddress::parse(&text).expect("an address");
    let user = |n: usize| User {
        id: format!("u-{n:08}"),
        name: format!("User {n}"),
        primary: address(format!("First.Last{n}@contoso.example")),
        aliases: vec![
            proxy(format!("user{n}@contoso.example")),
            proxy(format!("first.last{n}@contoso.onmicrosoft.example")),
        ],
    };
    (0..USERS).map(user).collect()
}

/// A report that names so many recipients, by any of their addresses and in any case.
fn envelope(recipients: usize) -> JournaledEnvelope {
    let recipient = |n: usize| {
        let user = n * 7 % USERS;
        let address = match n % 3 {
            _ if n % EXTERNAL_ONE_IN == EXTERNAL_ONE_IN - 1 => format!("someone{n}@fabrikam.example"),
            0 => format!("First.Last{user}@Contoso.example"),
            1 => format!("user{user}@contoso.example"),
            _ => format!("first.last{user}@contoso.onmicrosoft.example"),
        };
        JournaledRecipient {
            field: RecipientField::Unspecified,
            address: WrittenAddress(address),
            redirection: None,
        }
    };
    JournaledEnvelope {
        sender: Some(WrittenAddress("user9999@contoso.example".to_owned())),
        recipients: (0..recipients).map(recipient).collect(),
        ..JournaledEnvelope::default()
    }
}

fn reports(criterion: &mut Criterion) {
    let snapshot = Snapshot::of(users());
    let policy = Policy::default();
    let received_at = Timestamp::from_unix_ms(1_795_000_000_000);
    let mut group = criterion.benchmark_group("assign, 10,000 users");
    // The last two show that the time a recipient takes does not grow.
    for recipients in [5, 1_000, 6_000, 12_000] {
        let envelopes = [envelope(recipients)];
        let assignment = assign(&envelopes, received_at, &snapshot, &policy);
        let named: usize = assignment.placements.iter().map(|placement| placement.reasons.len()).sum();
        assert_eq!(named + assignment.unmatched.len(), recipients + 1);
        group.throughput(Throughput::Elements(recipients as u64));
        group.bench_function(format!("{recipients} recipients"), |bencher| {
            bencher.iter(|| assign(black_box(&envelopes), received_at, &snapshot, &policy));
        });
    }
    group.finish();
}

fn snapshot(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("snapshot");
    group.sample_size(20).throughput(Throughput::Elements(USERS as u64));
    let users = users();
    group.bench_function("10,000 users", |bencher| {
        bencher.iter_with_large_drop(|| Snapshot::of(black_box(users.clone())));
    });
    group.finish();
}

criterion_group!(benches, reports, snapshot);
criterion_main!(benches);
