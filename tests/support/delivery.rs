//! A message on its way into a store, when what it says does not matter: kept whole in INBOX.
//!
//! Take it in with `#[path = "support/delivery.rs"] mod delivery;`, and change what does matter: `Delivery { class, ..delivery(…) }`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use daybook::mail::*;
use daybook::store::*;
use std::io::Write;

/// `body` for that gateway mailbox, received then; `random` tells receipts of one moment apart, `body` the messages.
pub(crate) fn delivery(
    store: &dyn Store,
    to: &GatewayMailbox,
    at: Timestamp,
    random: [u8; 10],
    body: &[u8],
) -> Delivery {
    let stage = store.stage(to.id).unwrap();
    let seal = |octets: &[u8]| {
        let mut sealer = stage.sealer(octets.len() as u64).unwrap();
        sealer.write_all(octets).unwrap();
        sealer.finish().unwrap()
    };
    let (octets, lines) = (body.len() as u64, body.split_inclusive(|octet| *octet == b'\n').count() as u64);
    let ends_with_line_end = body.ends_with(b"\r\n");
    let digest = Digest::of(body);
    Delivery {
        gateway_mailbox: to.id,
        receipt_id: ReceiptId::new(u64::try_from(at.unix_ms()).unwrap(), random),
        received_at: at,
        transport: TransportEnvelope {
            session_id: SessionId::new(1, [0; 10]),
            peer: "127.0.0.1:25".parse().unwrap(),
            helo: "peer".to_owned(),
            tls: None,
            reverse_path: ReversePath::Null,
            recipients: vec![to.address().unwrap().clone()],
            smtputf8: false,
            pulled: None,
        },
        class: Class::Plain,
        octets,
        sha256: digest,
        message_id: None,
        parent_message_id: None,
        recovered_from: None,
        returned_message_id: None,
        reports: vec![],
        defects: vec![],
        unmatched: vec![],
        judgement: None,
        identity: stage.digest_key().identity(&[body]),
        heals: false,
        objects: vec![seal(body)],
        summary: seal(b"{}"),
        messages: vec![DeliveredMessage {
            sources: vec![Source::New(Extent { object: 0, offset: 0, octets })],
            octets,
            canonical: CanonicalSize { octets, lines, bare_line_ends: false, ends_with_line_end },
            exact: stage.digest_key().exact(&digest),
            join: stage.digest_key().join(&digest),
            message_id: None,
            rendition: Rendition::Original,
            held: None,
        }],
        placements: vec![WantedPlacement {
            folder: FolderName::Inbox,
            slug: None,
            message: 0,
            once_per_join: false,
            in_view: None,
            reasons: vec!["accepted".to_owned()],
        }],
    }
}
