//! Plays acted on real sockets.

use super::fetch_client::{Client, SOON, Server};
use super::fetch_play::{Act, Play, matches};
use daybook::fetch::door::Protocol;
use std::collections::HashMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Sends the pieces over an encrypted connection without sockets, each after the one before was read, and gives all that comes back.
pub(crate) async fn converse<P: Protocol>(server: P, pieces: [&[u8]; 2], piece_octets: usize) -> Vec<u8> {
    let (near, far) = tokio::io::duplex(piece_octets.max(1));
    let server = tokio::spawn(async move {
        let peer = "192.0.2.1".parse().unwrap();
        assert!(server.converse(near, true, peer).await.is_none());
    });
    let (mut reader, mut writer) = tokio::io::split(far);
    let pieces = pieces.map(<[u8]>::to_vec);
    let client = tokio::spawn(async move {
        for piece in pieces {
            // The server may close before it has read everything.
            if writer.write_all(&piece).await.is_err() {
                return writer;
            }
        }
        writer.shutdown().await.unwrap_or_default();
        writer
    });
    let mut received = Vec::new();
    tokio::time::timeout(SOON, reader.read_to_end(&mut received)).await.unwrap().unwrap();
    server.await.unwrap();
    drop(client.await.unwrap());
    received
}

/// A play on real sockets: the server and its clients.
pub(crate) struct Stage<'p> {
    play: &'p Play,
    server: Server,
    clients: HashMap<usize, Client>,
    wildcard: char,
}

impl<'p> Stage<'p> {
    pub(crate) fn new(play: &'p Play, server: Server, wildcard: char) -> Stage<'p> {
        Stage { play, server, clients: HashMap::new(), wildcard }
    }

    /// Does what a client does; false when it is something else.
    pub(crate) async fn act(&mut self, act: &Act) -> bool {
        let name = format!("{}: {act:?}", self.play.name);
        let (Act::Send(who, _) | Act::Expect(who, _) | Act::Tls(who) | Act::Closed(who) | Act::Drop(who)) =
            act
        else {
            return false;
        };
        if !self.clients.contains_key(who) {
            let is_implicit = matches!(act, Act::Tls(_));
            self.clients.insert(*who, self.server.connect(is_implicit).await);
            if is_implicit {
                return true;
            }
        }
        let mut client = self.clients.remove(who).unwrap();
        match act {
            Act::Send(_, octets) => client.send(octets).await,
            Act::Expect(_, pattern) => {
                let line = client.line().await.unwrap_or_else(|| panic!("{name}: the server closed"));
                assert!(matches(pattern, &line, self.wildcard), "{name}: {line:?}");
            }
            Act::Tls(_) => client = self.server.upgrade(client).await,
            Act::Closed(_) => {
                assert_eq!(client.line().await, None, "{name}");
                return true;
            }
            _ => return true,
        }
        self.clients.insert(*who, client);
        true
    }

    pub(crate) async fn end(self) {
        drop(self.clients);
        self.server.stop().await;
    }
}
