//! What the arguments of commands about messages mean.

use crate::mail::{FlagChange, Flags};
use imap_codec::imap_types::IntoStatic;
use imap_codec::imap_types::core::{Charset, Vec1};
use imap_codec::imap_types::fetch::{MacroOrMessageDataItemNames, MessageDataItemName};
use imap_codec::imap_types::flag::{Flag, StoreType};
use imap_codec::imap_types::search::SearchKey;
use imap_codec::imap_types::sequence::SequenceSet;

/// Most data items of one FETCH. Clients ask for a handful.
pub(super) const FETCH_ITEMS_MAX: usize = 64;

/// What is to be fetched, macros expanded.
pub(super) fn items(
    names: MacroOrMessageDataItemNames<'static>,
    uid: bool,
) -> Result<Vec<MessageDataItemName<'static>>, &'static str> {
    let mut items: Vec<MessageDataItemName<'static>> = match names {
        MacroOrMessageDataItemNames::Macro(short) => {
            short.expand().into_iter().map(IntoStatic::into_static).collect()
        }
        MacroOrMessageDataItemNames::MessageDataItemNames(names) => names,
    };
    if items.len() > FETCH_ITEMS_MAX {
        return Err("too many data items");
    }
    let is_offered = |item: &MessageDataItemName<'_>| {
        !matches!(item, MessageDataItemName::Binary { .. } | MessageDataItemName::BinarySize { .. })
    };
    if items.is_empty() || !items.iter().all(is_offered) {
        return Err("these data items are not offered");
    }
    // UID FETCH tells UIDs, asked for or not (RFC 3501 §6.4.8).
    if uid && !items.contains(&MessageDataItemName::Uid) {
        items.insert(0, MessageDataItemName::Uid);
    }
    Ok(items)
}

/// What is to become of flags. Keywords are left out: there are none, as PERMANENTFLAGS says.
pub(super) fn change(kind: StoreType, flags: &[Flag<'_>]) -> Result<FlagChange, &'static str> {
    let mut set = Flags::NONE;
    for flag in flags {
        set = set
            | match flag {
                Flag::Answered => Flags::ANSWERED,
                Flag::Deleted => Flags::DELETED,
                Flag::Draft => Flags::DRAFT,
                Flag::Flagged => Flags::FLAGGED,
                Flag::Seen => Flags::SEEN,
                Flag::Keyword(_) => Flags::NONE,
                Flag::Extension(_) => return Err("no such system flag, or not one to change"),
            };
    }
    Ok(match kind {
        StoreType::Replace => FlagChange::Replace(set),
        StoreType::Add => FlagChange::Add(set),
        StoreType::Remove => FlagChange::Remove(set),
    })
}

pub(super) fn is_known(charset: Option<&Charset<'_>>) -> bool {
    charset.is_none_or(|charset| {
        ["UTF-8", "US-ASCII"].iter().any(|known| known.eq_ignore_ascii_case(charset.as_ref()))
    })
}

pub(super) fn one_key(criteria: Vec1<SearchKey<'static>>) -> SearchKey<'static> {
    match criteria.as_ref() {
        [one] => one.clone(),
        _ => SearchKey::And(criteria),
    }
}

/// True when every set of numbers in a key is what `check` wants.
pub(super) fn every_number(key: &SearchKey<'_>, check: &mut impl FnMut(&SequenceSet) -> bool) -> bool {
    match key {
        SearchKey::SequenceSet(set) => check(set),
        SearchKey::And(keys) => keys.as_ref().iter().all(|key| every_number(key, check)),
        SearchKey::Not(key) => every_number(key, check),
        SearchKey::Or(one, other) => every_number(one, check) && every_number(other, check),
        _ => true,
    }
}
