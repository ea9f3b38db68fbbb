//! What a session says besides replies: how long to wait, that it ends, what was refused for good, what was turned away.

use super::*;
use crate::smtp::RecipientVerdict;

const BEFORE: &str = "HELO client.example\r\nMAIL FROM:<>\r\n";

fn session(policy: impl FnOnce(&mut Policy)) -> Session {
    let mut wanted = Policy {
        hostname: "mx.example".to_owned(),
        message_octets_max: 10,
        tls_offered: false,
        require_tls: false,
        recipients_max: 100,
        errors_max: 10_000,
        messages_max: 1_000,
        tarpit_max: Duration::from_secs(8),
    };
    policy(&mut wanted);
    Session::new(wanted, SessionId::new(1, [1; 10]), "192.0.2.1:25".parse().unwrap())
}

/// Shows it these octets at once, accepting the recipient `journal`; gives the replies.
fn feed(session: &mut Session, octets: &str) -> Vec<Reply> {
    let mut rest = octets.as_bytes();
    let mut replies = Vec::new();
    loop {
        let Step { consumed, effect } = session.step(rest);
        let reply = match effect {
            Effect::Input | Effect::Close => return replies,
            Effect::Reply(reply) => Some(reply),
            Effect::Open(_) => Some(session.opened(Ok(ReceiptId::new(1, [2; 10])))),
            Effect::Recipient(address) => Some(session.recipient(match address.local() {
                "journal" => RecipientVerdict::Accept,
                "suspended" => RecipientVerdict::Suspended,
                _ => RecipientVerdict::Unknown,
            })),
            Effect::Begin(_) => session.begun(Ok(())),
            Effect::Commit => Some(session.committed(Ok(()))),
            Effect::Body(_) | Effect::Discard => None,
            Effect::StartTls => panic!("not offered"),
        };
        replies.extend(reply);
        rest = &rest[consumed..];
    }
}

fn to(local: &str) -> String {
    format!("RCPT TO:<{local}@gateway.example>\r\n")
}

#[test]
fn guessing_costs_more_with_every_guess_and_an_accepted_recipient_nothing() {
    let check = |tarpit_seconds: u64, recipients: &[&str], expect: &[u64]| {
        let mut session = session(|policy| policy.tarpit_max = Duration::from_secs(tarpit_seconds));
        feed(&mut session, BEFORE);
        let sent: String = recipients.iter().map(|local| to(local)).collect();
        let waits: Vec<u64> = feed(&mut session, &sent).iter().map(|reply| reply.delay.as_secs()).collect();
        assert_eq!(waits, expect, "{tarpit_seconds} {recipients:?}");
    };
    check(8, &["no"; 8], &[0, 0, 1, 2, 4, 8, 8, 8]);
    check(0, &["no"; 8], &[0; 8]);
    check(60, &["no"; 12], &[0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
    check(8, &["no", "no", "no", "journal", "no", "no", "no"], &[0, 0, 1, 0, 0, 0, 1]);
    check(8, &["suspended"; 5], &[0; 5]);
    check(8, &["no", "no", "suspended", "no"], &[0, 0, 0, 1]);
}

#[test]
fn a_new_transaction_does_not_forget_the_guesses() {
    let mut session = session(|_| {});
    feed(&mut session, BEFORE);
    feed(&mut session, &to("no").repeat(2));
    let replies = feed(&mut session, &format!("RSET\r\nMAIL FROM:<>\r\n{}", to("no")));
    assert_eq!(replies[2].delay, Duration::from_secs(1));
}

#[test]
fn an_old_session_ends_at_once_when_nothing_runs_and_behind_its_message_when_one_does() {
    let mut idle = session(|_| {});
    feed(&mut idle, "HELO client.example\r\n");
    idle.grow_old();
    assert_eq!(feed(&mut idle, "")[0], Outcome::SessionTooOld.into());

    let mut busy = session(|_| {});
    feed(&mut busy, BEFORE);
    feed(&mut busy, &format!("{}BDAT 1\r\nx", to("journal")));
    busy.grow_old();
    let codes: Vec<u16> =
        feed(&mut busy, "NOOP\r\nBDAT 1 LAST\r\nx").iter().map(|reply| reply.code).collect();
    assert_eq!(codes, [250, 250, 421]);
}

#[test]
fn a_transaction_without_a_body_keeps_no_old_session_alive() {
    let mut session = session(|_| {});
    feed(&mut session, BEFORE);
    feed(&mut session, &to("journal"));
    session.grow_old();
    assert_eq!(feed(&mut session, "NOOP\r\n"), [Outcome::SessionTooOld.into()]);
}

#[test]
fn one_recipient_too_many_is_forgiven_until_it_is_a_habit() {
    let mut session = session(|policy| (policy.recipients_max, policy.errors_max) = (1, 3));
    feed(&mut session, BEFORE);
    let replies = feed(&mut session, &to("journal").repeat(2 * RECIPIENTS_BEYOND_MAX as usize));
    assert_eq!(replies.len(), 1 + RECIPIENTS_BEYOND_MAX as usize + 4);
    assert_eq!(replies.last().unwrap().code, 421);
}

#[test]
fn a_body_refused_for_good_is_told_once_with_its_reason() {
    let check = |body: &str, expect: Option<(&str, u64)>| {
        let mut session = session(|_| {});
        feed(&mut session, BEFORE);
        feed(&mut session, &to("journal"));
        // Octets behind DATA must not come with it.
        let body = body.replace("{x*40}", &"x".repeat(40));
        let (first, rest) = body.split_once('|').unwrap_or((&body, ""));
        feed(&mut session, first);
        feed(&mut session, rest);
        let told = session.take_refused_body();
        assert_eq!(told.map(|told| (told.reason.as_str(), told.octets)), expect, "{body:?}");
        assert_eq!(session.take_refused_body(), None);
        feed(&mut session, "BDAT 1\r\nxBDAT 1 LAST\r\nx");
        assert_eq!(session.take_refused_body(), None, "{body:?}");
    };
    check("DATA\r\n|a\nb\r\n.\r\n", Some(("bare-lf", 5)));
    check("DATA\r\n|a\rb\nc\r\n.\r\n", Some(("bare-cr", 7)));
    check("DATA\r\n|\0\r\n.\r\n", Some(("nul", 3)));
    check("DATA\r\n|0123456789\r\n.\r\n", Some(("too-large", 12)));
    check("DATA\r\n|01234567\r\n.\r\n", None);
    check("BDAT 11 LAST\r\n01234567890", Some(("too-large", 11)));
    check("BDAT 11\r\n01234567890", Some(("too-large", 11)));
    check("BDAT 10 LAST\r\n0123456789", None);
    check("DATA\r\n|{x*40}", Some(("too-large", 21)));
    check("BDAT 21 LAST\r\n", Some(("too-large", 21)));
    check("BDAT 18446744073709551615\r\n", Some(("too-large", u64::MAX)));
    check("DATA\r\nSubject: x\r\n", Some(("pipelined", 0)));
    check("BDAT x\r\n", Some(("chunk-size", 0)));
    check("RCPT TO:<other@gateway.example> NOTIFY=NEVER\r\n", Some(("parameter", 0)));
}

#[test]
fn what_a_favoured_peer_declares_too_large_may_be_a_report() {
    let check = |is_favoured: bool, mail: &str, expect: Option<(&str, u64)>| {
        let mut session = session(|_| {}).favoured(is_favoured);
        let replies = feed(&mut session, &format!("HELO client.example\r\nMAIL FROM:<>{mail}\r\n"));
        assert!(replies[2].code >= 500 || expect.is_none(), "{mail}");
        let told = session.take_refused_body();
        assert_eq!(told.map(|told| (told.reason.as_str(), told.octets)), expect, "{is_favoured} {mail}");
        assert_eq!(told.and_then(|told| told.receipt_id), None);
    };
    check(true, " SIZE=11", Some(("declared-size", 11)));
    check(true, " SIZE=10", None);
    check(false, " SIZE=11", None);
    check(true, " BODY=BINARYMIME", Some(("parameter", 0)));
    check(false, " BODY=BINARYMIME", None);
}

#[test]
fn a_body_refused_to_nobody_served_is_nothing_lost() {
    let mut session = session(|_| {});
    feed(&mut session, BEFORE);
    feed(&mut session, &format!("{}BDAT 11 LAST\r\n01234567890", to("no")));
    feed(&mut session, "RSET\r\nMAIL FROM:<> SIZE=11\r\n");
    assert_eq!(session.take_refused_body(), None);
}

/// Plays these lines, then the connection breaks. Of each that was turned away: code, reason, octets that came.
fn check_turned_away(lines: &str, expect: &[(Option<u16>, &str, Option<u64>)]) {
    let mut session = session(|_| {});
    let mut told = Vec::new();
    for line in lines.split_inclusive("\r\n") {
        feed(&mut session, line);
        told.extend(session.take_turned_away());
    }
    session.broken_off();
    told.extend(session.take_turned_away());
    let told: Vec<_> =
        told.iter().map(|t| (t.reply.map(|(code, _)| code), t.reason, t.octets_received)).collect();
    assert_eq!(told, expect, "{lines}");
}

#[test]
fn each_transaction_that_is_not_taken_is_told_of_once_with_what_refused_it() {
    check_turned_away("MAIL FROM:<a@b.example>\r\n", &[(Some(503), "out-of-order", None)]);
    let check = |rest: &str, expect| check_turned_away(&format!("HELO client.example\r\n{rest}"), expect);
    check("MAIL FROM:<a@b.example> SIZE=11\r\n", &[(Some(552), "declared-size", None)]);
    let both = [(Some(501), "bad-sender", None), (Some(555), "parameter", None)];
    check("MAIL FROM:<nobody>\r\nMAIL FROM:<> BODY=BINARYMIME\r\nQUIT\r\n", &both);
    let check = |rest: &str, expect| check_turned_away(&format!("{BEFORE}{rest}"), &[expect]);
    let (to, no, later) = (to("journal"), to("no"), to("suspended"));
    let unknown = (Some(550), "unknown-recipient", None);
    check(&format!("{no}QUIT\r\n"), unknown);
    check(&format!("{no}DATA\r\nRSET\r\n"), unknown);
    check(&no.repeat(3), unknown);
    check(&format!("{no}{later}{no}RSET\r\n"), (Some(450), "suspended", None));
    check("RCPT TO:<nobody>\r\nQUIT\r\n", (Some(501), "bad-recipient", None));
    check(&to, (None, "broken-off", None));
    check(&format!("{no}{to}DATA\r\nab"), (None, "broken-off", Some(2)));
    check(&format!("{to}BDAT 3\r\nabc"), (None, "broken-off", Some(3)));
    check(&format!("{to}BDAT 12\r\n12345678\r\n\r\nRSET\r\n"), (Some(552), "too-large", Some(12)));
    check(&format!("{to}DATA\r\n12345678\r\n9\r\n.\r\n"), (Some(552), "too-large", Some(13)));
    check(&format!("{to}DATA\r\na\nb\r\n.\r\n"), (Some(554), "bare-lf", Some(5)));
    check(&format!("{to}BDAT x\r\n"), (Some(501), "chunk-size", None));
}

#[test]
fn what_was_taken_and_what_the_peer_gave_up_was_not_turned_away() {
    let (to, no) = (to("journal"), to("no"));
    for rest in [
        String::new(),
        "QUIT\r\n".to_owned(),
        format!("{to}RSET\r\nQUIT\r\n"),
        format!("{no}{to}DATA\r\nx\r\n.\r\n"),
        format!("{to}BDAT 2\r\n\r\nRSET\r\n"),
    ] {
        check_turned_away(&format!("{BEFORE}{rest}"), &[]);
    }
    check_turned_away("HELO x\r\nNONSENSE\r\nRCPT TO:<journal@x.example>\r\n", &[]);
}

#[test]
fn who_was_turned_away_is_told_with_whom_it_asked_for() {
    let mut session = session(|_| {}).favoured(true);
    feed(&mut session, "HELO client.example\r\nMAIL FROM:<a@b.example> SIZE=9\r\n");
    feed(&mut session, &format!("{}{}", to("no").repeat(9), to("journal")));
    assert_eq!(session.take_turned_away(), None);
    session.timed_out();
    let told = session.take_turned_away().unwrap();
    assert_eq!((told.reply, told.reason, told.before), (Some((421, "4.4.2")), "too-slow", 0));
    assert_eq!((told.accepted.len(), told.refused.len(), told.recipients), (1, 5, 10));
    assert_eq!((told.octets_declared, told.helo.as_deref()), (Some(9), Some("client.example")));
    assert!(told.is_favoured && told.receipt_id.is_some() && session.take_turned_away().is_none());
}

#[test]
fn a_fault_of_ours_is_told_wherever_it_is_met() {
    let mut session = session(|_| {});
    let check = |session: &mut Session, code, reason, octets_received| {
        let told = session.take_turned_away().unwrap();
        assert_eq!(
            (told.reply.unwrap().0, told.reason, told.octets_received),
            (code, reason, octets_received)
        );
        told
    };
    feed(&mut session, "HELO client.example\r\n");
    session.step(b"MAIL FROM:<> SIZE=5\r\n");
    session.opened(Err(Fault::StoreFull));
    let told = check(&mut session, 452, "store-full", None);
    assert_eq!((told.receipt_id, told.octets_declared, told.blame), (None, Some(5), Blame::Operator));
    let before = format!("MAIL FROM:<>\r\n{}", to("journal"));
    feed(&mut session, &before);
    session.step(b"DATA\r\n");
    session.begun(Err(Fault::Busy));
    check(&mut session, 451, "busy", None);
    feed(&mut session, &before);
    feed(&mut session, "DATA\r\n");
    let body: &[u8] = b"x\r\n.\r\n";
    let consumed = session.step(body).consumed;
    if consumed < body.len() {
        assert!(matches!(session.step(&body[consumed..]).effect, Effect::Commit));
    }
    session.committed(Err(Fault::StoreTrouble));
    let told = check(&mut session, 451, "store-trouble", Some(3));
    assert_eq!((told.before, told.blame), (2, Blame::Ours));
    feed(&mut session, &before);
    feed(&mut session, "DATA\r\n");
    session.shut_down();
    check(&mut session, 421, "shutting-down", Some(0));
    session.broken_off();
    assert_eq!(session.take_turned_away(), None, "it was told once");
}
