//! Bodies: the octets of DATA and BDAT, kept or refused, always consumed to their end.

use super::{Effect, Ended, Phase, Question, RefusedBody, RefusedReason, Session, Step};
use crate::smtp::data::{ChunkCounter, Defect, Scanned};
use crate::smtp::reply::{Outcome, Reply};

impl Session {
    pub(super) fn data<'i>(&mut self, input: &'i [u8]) -> Step<'i> {
        let (limit, drain_max) = (self.policy.message_octets_max, self.drain_octets_max());
        let Phase::Data { scanner, octets, refusal } = &mut self.phase else {
            return Step { consumed: 0, effect: Effect::Close };
        };
        if input.is_empty() {
            return Step { consumed: 0, effect: Effect::Input };
        }
        // To the next bound and no further, so that the cuts of the input change nothing.
        let bound = if *octets < limit { limit } else { drain_max.saturating_add(1) };
        let window = usize::try_from(bound.saturating_sub(*octets)).unwrap_or(usize::MAX);
        let input = input.get(..window).unwrap_or(input);
        let (consumed, scanned) = scanner.scan(input);
        let refused_before = refusal.is_some();
        if scanner.defect().is_some() {
            *refusal = Some(Outcome::BareLineEnd);
        }
        let defect = scanner.defect();
        let effect = match scanned {
            Scanned::Body(body) => {
                *octets = octets.saturating_add(body.len() as u64);
                if *octets > limit {
                    refusal.get_or_insert(Outcome::MessageTooLarge);
                }
                match *refusal {
                    None => Effect::Body(body),
                    Some(outcome) if *octets > drain_max => {
                        let octets = *octets;
                        self.note_refused(outcome, defect, octets);
                        self.give_up_body(outcome, !refused_before)
                    }
                    Some(_) if refused_before => Effect::Body(&[]),
                    Some(_) => Effect::Discard,
                }
            }
            Scanned::End => match refusal.take() {
                None => self.commit(),
                Some(outcome) => {
                    let octets = *octets;
                    self.note_refused(outcome, defect, octets);
                    self.refuse_body(outcome)
                }
            },
        };
        Step { consumed, effect }
    }

    pub(super) fn chunk<'i>(&mut self, input: &'i [u8]) -> Step<'i> {
        let Phase::Chunk { counter, octets, last, stray } = &mut self.phase else {
            return Step { consumed: 0, effect: Effect::Close };
        };
        let (octets, last, stray) = (*octets, *last, *stray);
        if !counter.is_complete() {
            if input.is_empty() {
                return Step { consumed: 0, effect: Effect::Input };
            }
            let body = counter.take(input);
            let refused = stray.is_some() || self.chunks().is_none_or(|chunks| chunks.refusal.is_some());
            let effect = Effect::Body(if refused { &[] } else { body });
            return Step { consumed: body.len(), effect };
        }
        self.phase = Phase::Command;
        let refusal = stray.or_else(|| self.chunks().and_then(|chunks| chunks.refusal));
        if stray.is_none()
            && let Some(outcome) = refusal
            && let Some(chunks) = self.chunks().filter(|chunks| !chunks.noted)
        {
            // A peer gives up when one chunk is refused: there may be no last one to note it at.
            chunks.noted = true;
            let octets = chunks.octets;
            self.note_refused(outcome, None, octets);
        }
        let effect = match refusal {
            Some(outcome) if stray.is_none() && last => self.refuse_body(outcome),
            Some(outcome) => self.say(outcome),
            None if last => self.commit(),
            None => Effect::Reply(Reply::chunk_taken(octets)),
        };
        Step { consumed: 0, effect }
    }

    pub(super) fn enter_chunk(&mut self, octets: u64, last: bool, stray: Option<Outcome>) {
        self.phase = Phase::Chunk { counter: ChunkCounter::new(octets), octets, last, stray };
    }

    pub(super) fn commit(&mut self) -> Effect<'static> {
        if let (Phase::Data { octets, .. }, Some(transaction)) = (&self.phase, &mut self.transaction) {
            transaction.octets_received = Some(*octets);
        }
        self.phase = Phase::Asked(Question::Commit);
        Effect::Commit
    }

    /// Keeps for the shell that a message was refused for good, if it may have been a report: whoever had a recipient accepted
    /// knows an address that is served.
    pub(super) fn note_refused(&mut self, outcome: Outcome, defect: Option<Defect>, octets: u64) {
        let transaction = self.transaction.as_ref();
        if !self.is_favoured && transaction.is_none_or(|transaction| transaction.recipients.is_empty()) {
            return;
        }
        let receipt_id = transaction.map(|transaction| transaction.receipt_id);
        if let Some(reason) = RefusedReason::of(outcome, defect) {
            self.refused_body = Some(RefusedBody { receipt_id, reason, octets });
        }
    }

    pub(super) fn refuse_body(&mut self, outcome: Outcome) -> Effect<'static> {
        self.end_transaction(Ended::Said(outcome));
        self.phase = Phase::Command;
        self.say(outcome)
    }
}
