//! A connection to OpenLDAP that breaks off after so many octets, wherever that is: nothing of what came is taken.

use super::slapd::Slapd;
use super::*;
use std::io::{Read, Write};
use std::thread;

/// Where it breaks off, of all that the server sends.
const CUTS: usize = 40;

/// Stands before a server and passes on so many octets of what it says to each client, one client after the other.
fn cutting(server: SocketAddr, limits: Vec<usize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for limit in limits {
            let (mut client, _) = listener.accept().unwrap();
            let mut server = TcpStream::connect(server).unwrap();
            let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let asking = thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
            let mut left = limit;
            let mut octets = vec![0; 4_096];
            while left > 0 {
                let wanted = left.min(octets.len());
                let Ok(read @ 1..) = server.read(&mut octets[..wanted]) else { break };
                left -= read;
                if client.write_all(&octets[..read]).is_err() {
                    break;
                }
            }
            client.shutdown(std::net::Shutdown::Both).ok();
            server.shutdown(std::net::Shutdown::Both).ok();
            drop(asking.join());
        }
    });
    address
}

/// How many octets a server says to this reader in all.
fn octets_of(settings: &Settings) -> usize {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let through = Settings { port: listener.local_addr().unwrap().port(), ..settings.clone() };
    let server = SocketAddr::from(([127, 0, 0, 1], settings.port));
    let counting = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut server = TcpStream::connect(server).unwrap();
        let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let asking = thread::spawn(move || std::io::copy(&mut from_client, &mut to_server).ok());
        let said = std::io::copy(&mut server, &mut client).unwrap();
        asking.join().unwrap();
        said
    });
    read(&through, &Filters::default()).unwrap();
    usize::try_from(counting.join().unwrap()).unwrap()
}

#[test]
fn a_connection_that_breaks_off_anywhere_gives_no_list() {
    let slapd = Slapd::start();
    for security in [LdapSecurity::None, LdapSecurity::Ldaps] {
        let settings = slapd.settings(security);
        let octets = octets_of(&settings);
        // What a server says last over TLS is good-bye, of which nothing depends.
        let last = octets - 200;
        let limits: Vec<usize> = (0..CUTS).map(|cut| last * cut / CUTS).chain([last]).collect();
        let address = cutting(SocketAddr::from(([127, 0, 0, 1], settings.port)), limits.clone());
        let through = Settings { port: address.port(), ..settings };
        for limit in limits {
            let error =
                read(&through, &Filters::default()).map(|listing| listing.candidates.len()).unwrap_err();
            assert!(matches!(error, SourceError::Unreachable(_)), "cut after {limit} of {octets}: {error:?}");
        }
    }
}
