//! Bodies: the octets of DATA and BDAT, kept or refused, always consumed to their end.

use super::{Effect, Phase, Question, Session, Step};
use crate::smtp::data::{ChunkCounter, Scanned};
use crate::smtp::reply::{Outcome, Reply};

impl Session {
    pub(super) fn data<'i>(&mut self, input: &'i [u8]) -> Step<'i> {
        let limit = self.policy.message_octets_max;
        let Phase::Data { scanner, octets, refusal } = &mut self.phase else {
            return Step { consumed: 0, effect: Effect::Close };
        };
        if input.is_empty() {
            return Step { consumed: 0, effect: Effect::Input };
        }
        let (consumed, scanned) = scanner.scan(input);
        let refused_before = refusal.is_some();
        if scanner.defect().is_some() {
            *refusal = Some(Outcome::BareLineEnd);
        }
        let effect = match scanned {
            Scanned::Body(body) => {
                *octets = octets.saturating_add(body.len() as u64);
                if *octets > limit {
                    refusal.get_or_insert(Outcome::MessageTooLarge);
                }
                match refusal {
                    None => Effect::Body(body),
                    Some(_) if refused_before => Effect::Body(&[]),
                    Some(_) => Effect::Discard,
                }
            }
            Scanned::End => match refusal.take() {
                None => self.commit(),
                Some(outcome) => self.refuse_body(outcome),
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
        self.phase = Phase::Asked(Question::Commit);
        Effect::Commit
    }

    pub(super) fn refuse_body(&mut self, outcome: Outcome) -> Effect<'static> {
        self.transaction = None;
        self.phase = Phase::Command;
        self.say(outcome)
    }
}
