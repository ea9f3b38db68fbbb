//! What an admin can do about what was found in a message: one line for each cause.

use crate::mail::Class;
use crate::store::ReceiptView;
use serde::{Deserialize, Serialize};

/// What can be done about one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// The cause: `held-back`, a class, or the kind of a defect.
    pub about: String,
    /// What can be done, for people.
    pub advice: String,
}

/// Why it is in Quarantine, and what else was found in it; each kind once.
pub(super) fn advice(receipt: &ReceiptView) -> Vec<Advice> {
    let mut found: Vec<Advice> = Vec::new();
    let mut say = |about: &str, advice: &str| {
        if found.iter().all(|said| said.about != about) {
            found.push(Advice { about: about.to_owned(), advice: advice.to_owned() });
        }
    };
    if receipt.came_held_back() {
        say("held-back", HELD_BACK);
    }
    match receipt.class {
        Class::NdrWithoutReport => say(receipt.class.as_str(), HEADER_ALONE),
        Class::Unreadable if receipt.defects.is_empty() => say(receipt.class.as_str(), NEWER),
        _ => {}
    }
    for (kind, _) in &receipt.defects {
        say(kind, about_defect(kind));
    }
    found
}

const HELD_BACK: &str = "nothing proves who sent it: look at the evidence above. If it is genuine, release it; so that the \
    next is let in, name the tenant (daybook mailbox pin) or trust the peer (daybook mailbox set … trusted_networks=…)";
const HEADER_ALONE: &str = "only the header of a journal report came back, not the mail it held: ask the sender's side for the \
    original by the Message-ID above; to release this keeps the NDR under Unassigned";
const NEWER: &str = "a newer version of Daybook may read it: daybook reprocess tries again; to release it gives what was \
    found to those it names, or keeps the whole under Unassigned";
const LARGE: &str = "it goes beyond what is read of one message, so that something may be missing: export it and look; to \
    release it gives what was found to those it names";
const CUT: &str = "it may have been cut on the way: look for a limit on size at the sender or a relay; to release it gives \
    what came to those it names";
const AMBIGUOUS: &str = "it can be read in more than one way, which broken relays and forgers bring about: export it and look; \
    to release it vouches for the reading above";
const MARKER: &str = "something on the way took the marker of journal reports off: look for a relay that removes header \
    fields; to release it keeps the whole under Unassigned";
const NO_ORIGINAL: &str = "the report came without the mail it tells of: look for a filter that removes attachments on the \
    way; to release it keeps the whole under Unassigned";
const RICH_TEXT: &str = "Exchange sent it as rich text: switch that off for the journal contact \
    (Set-MailContact … -UseMapiRichTextFormat Never; Set-RemoteDomain … -TNEFEnabled $false); to release it keeps the whole \
    under Unassigned";
const NO_HOME: &str = "the gateway mailbox that its report is for was deleted: export it, and bring it to where reports go now; \
    to release it keeps the NDR under Unassigned";
const HARMLESS: &str = "accepted as it is: this alone brings nothing to Quarantine";

fn about_defect(kind: &str) -> &'static str {
    match kind {
        "too-deep" | "too-many-parts" | "too-many-encodings" | "too-many-layers" | "header-cut"
        | "report-text-cut" => LARGE,
        "missing-close-delimiter" | "unterminated-header" | "returned-message-cut" => CUT,
        "boundary-reused" | "delimiter-after-close" | "bare-cr-header" => AMBIGUOUS,
        "marker-missing" => MARKER,
        "original-missing" | "original-empty" => NO_ORIGINAL,
        "tnef-wrapper" => RICH_TEXT,
        "unsupported-encoding" | "extraction-failed" => NEWER,
        "served-mailbox-gone" => NO_HOME,
        _ => HARMLESS,
    }
}
