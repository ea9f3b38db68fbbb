//! `daybook user …`

use super::gateway_mailbox::folder_table;
use super::output::{self, grouped, safe, table};
use crate::admin::{Response, UserView};
use crate::mail::Timestamp;

pub(super) fn list(response: &Response) -> String {
    let Response::Users(users) = response else { return String::new() };
    if users.is_empty() {
        return "The directory names no user.\n".to_owned();
    }
    let row = |user: &UserView| {
        let kept: u64 = user.folders.iter().map(|folder| folder.entries).sum();
        vec![
            safe(&user.id),
            user.primary.as_deref().map(safe).unwrap_or_else(|| "-".to_owned()),
            grouped(kept),
            safe(user.gateway_mailbox.split('@').next().unwrap_or_default()),
            name(user),
        ]
    };
    table(&["ID", "ADDRESS", "KEPT", "GATEWAY MAILBOX", "NAME"], &users.iter().map(row).collect::<Vec<_>>())
}

fn name(user: &UserView) -> String {
    let name = user.name.as_deref().map(safe);
    match (name, user.gone_since) {
        (Some(name), None) => name,
        (Some(name), Some(since)) => format!("{name} ({})", gone(user, since)),
        (None, _) => "(no longer in the directory; what is kept stays)".to_owned(),
    }
}

fn gone(user: &UserView, since: Timestamp) -> String {
    let since = output::time(since);
    match user.addresses_until.filter(|_| !user.addresses.is_empty()) {
        Some(until) => format!("gone since {since}; still gets mail until {}", output::time(until)),
        None => format!("gone since {since}; what is kept stays"),
    }
}

pub(super) fn show(response: &Response) -> String {
    let Response::Users(users) = response else { return String::new() };
    let mut text = String::new();
    for user in users {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("{}\n  id        {}\n", name(user), safe(&user.id)));
        for address in &user.addresses {
            text.push_str(&format!("  address   {}\n", safe(address)));
        }
        text.push_str(&format!("  mailbox   {}\n", safe(&user.gateway_mailbox)));
        if user.folders.is_empty() {
            text.push_str("\nNo message has come for this user yet.\n");
        } else {
            text.push('\n');
            text.push_str(&folder_table(&user.folders));
        }
    }
    text
}
