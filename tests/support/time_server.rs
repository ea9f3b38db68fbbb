//! A time server on loopback that is right, or off by as much as wanted (SNTP, RFC 5905).
//!
//! Take it in with `#[path = "support/time_server.rs"] mod time_server;`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds from 1900, where its time begins, to 1970.
const EPOCHS_APART: u64 = 2_208_988_800;

/// Starts one that is `ahead` of this machine; it answers until the test ends.
pub(crate) fn start(ahead: Duration) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 48];
        while let Ok((48, peer)) = socket.recv_from(&mut query) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + ahead;
            let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
            let time = ((now.as_secs() + EPOCHS_APART) << 32 | fraction).to_be_bytes();
            // Version 4, server, stratum 1, poll 6, precision 2^-20; no delay, no dispersion.
            let mut reply = vec![0x24, 1, 6, 0xec, 0, 0, 0, 0, 0, 0, 0, 0];
            reply.extend(b"LOCL");
            reply.extend(time);
            reply.extend(&query[40..48]);
            reply.extend(time);
            reply.extend(time);
            socket.send_to(&reply, peer).ok();
        }
    });
    address
}
