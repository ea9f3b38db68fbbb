//! Sets of numbers and sizes by number, in little memory: numbers are handed out one after the other.

use std::collections::HashMap;

/// Numbers that lie together.
const RUN: u64 = 4_096;
const WORDS: usize = 64;

/// A set of numbers: a bit each, where they are dense.
#[derive(Default)]
pub(in crate::store) struct Bits(HashMap<u64, Box<[u64; WORDS]>>);

impl Bits {
    /// Adds a number. False when it was there.
    pub(in crate::store) fn add(&mut self, number: u64) -> bool {
        let run = self.0.entry(number / RUN).or_insert_with(|| Box::new([0; WORDS]));
        let (word, bit) = place(number);
        let Some(word) = run.get_mut(word) else { return false };
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Takes a number out.
    pub(in crate::store) fn remove(&mut self, number: u64) {
        let (word, bit) = place(number);
        let run = self.0.get_mut(&(number / RUN));
        run.and_then(|run| run.get_mut(word)).into_iter().for_each(|word| *word &= !bit);
    }

    pub(in crate::store) fn has(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.0.get(&(number / RUN)).and_then(|run| run.get(word)).is_some_and(|word| word & bit != 0)
    }
}

fn place(number: u64) -> (usize, u64) {
    let within = number % RUN;
    ((within / 64) as usize, 1 << (within % 64))
}

/// A size of up to 4 GiB for each number; larger ones are taken for endless.
#[derive(Default)]
pub(super) struct Sizes(HashMap<u64, Box<[u32]>>);

impl Sizes {
    /// Says the size of a number. False when it was said before.
    pub(super) fn set(&mut self, number: u64, octets: u64) -> bool {
        let run = self.0.entry(number / RUN).or_insert_with(|| vec![0; RUN as usize].into_boxed_slice());
        let Some(size) = run.get_mut((number % RUN) as usize) else { return false };
        let is_new = *size == 0;
        if is_new {
            *size = u32::try_from(octets).unwrap_or(u32::MAX).saturating_add(1);
        }
        is_new
    }

    /// The size of a number, if it was said.
    pub(super) fn get(&self, number: u64) -> Option<u64> {
        match self.0.get(&(number / RUN)).and_then(|run| run.get((number % RUN) as usize)) {
            None | Some(0) => None,
            Some(&u32::MAX) => Some(u64::MAX),
            Some(size) => Some(u64::from(size - 1)),
        }
    }
}

/// Numbers that have their marks together.
const MARKED: u64 = 64;

/// A mark of up to 32 bits for some numbers, which lie together more often than not: 4 octets each where they do.
#[derive(Default)]
pub(super) struct Marks(HashMap<u64, Box<[u32; MARKED as usize]>>);

impl Marks {
    /// Marks a number, in place of any mark it had. The highest mark there is counts for none.
    pub(super) fn set(&mut self, number: u64, mark: u32) {
        let run = self.0.entry(number / MARKED).or_insert_with(|| Box::new([0; MARKED as usize]));
        if let Some(place) = run.get_mut((number % MARKED) as usize) {
            *place = mark.wrapping_add(1);
        }
    }

    /// The mark of a number, if it has one.
    pub(super) fn get(&self, number: u64) -> Option<u32> {
        let run = self.0.get(&(number / MARKED))?;
        run.get((number % MARKED) as usize).and_then(|mark| mark.checked_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sizes_are_kept_apart() {
        let (mut bits, mut sizes) = (Bits::default(), Sizes::default());
        for number in [0, 63, 64, 4_095, 4_096, u64::MAX] {
            assert!(!bits.has(number) && bits.add(number) && !bits.add(number) && bits.has(number));
            assert!(sizes.set(number, number) && !sizes.set(number, 1));
            let expect = if number > 4_096 { u64::MAX } else { number };
            assert_eq!((sizes.get(number), sizes.get(number ^ 1)), (Some(expect), sizes.get(number ^ 1)));
        }
        assert!(!bits.has(1) && sizes.get(1).is_none());
        bits.remove(63);
        bits.remove(1 << 40);
        assert!(!bits.has(63) && bits.has(64));
        let mut marks = Marks::default();
        for (number, mark) in [(0, 0), (63, 7), (64, 9), (63, 8), (u64::MAX, u32::MAX - 1)] {
            marks.set(number, mark);
            assert_eq!(marks.get(number), Some(mark));
        }
        assert_eq!((marks.get(1), marks.get(63), marks.get(128)), (None, Some(8), None));
    }
}
