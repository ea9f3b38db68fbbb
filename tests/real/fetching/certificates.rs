//! No client that can verify a certificate says its password to a server that it cannot verify: so those of the matrix did verify it.

use super::CLIENTS;
use super::matrix::{cells, with_each};
use super::visit::Visit;
use crate::gateway::Gateway;
use crate::run;
use crate::support::HOST;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

#[test]
fn every_client_that_can_verifies_the_certificate() {
    let gateway = Gateway::start();
    let (careful, careless) = (gateway.create_account(), gateway.create_account());
    // For the same name, by another key.
    let (other, key) = (gateway.path("other.pem"), gateway.path("other.key"));
    run(Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", &format!("/CN={HOST}"), "-addext", &format!("subjectAltName=DNS:{HOST}")])
        .arg("-out")
        .arg(&other)
        .arg("-keyout")
        .arg(&key));
    let cells = cells(&CLIENTS);
    let came_in = with_each(&cells, |(client, protocol, tls)| {
        let account = if client.verifies(*protocol, *tls) { &careful } else { &careless };
        let visit = Visit::trusting(&gateway, account.clone(), *protocol, *tls, &other);
        // It ends with a complaint, which is ours too then.
        catch_unwind(AssertUnwindSafe(|| client.keep(&visit))).is_ok()
    });
    for ((client, protocol, tls), came_in) in cells.into_iter().zip(came_in) {
        assert_eq!(came_in, !client.verifies(protocol, tls), "{} by {protocol:?}, {tls:?}", client.name());
    }
    let events = gateway.events();
    let tried: Vec<_> = events
        .iter()
        .filter(|(event, line)| event.starts_with("auth.") && line.contains(&careful.login))
        .collect();
    assert!(tried.is_empty(), "{tried:#?}");
}
