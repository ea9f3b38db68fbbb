//! What the index says twice, so that a flipped bit in its pages is an error and never a shorter answer.
//!
//! A check is 64 bits over the columns of a row. It tells damage from what was written, not from what somebody forged:
//! whoever can write here can write anything. Every step is a bijection of the state, so one changed word always shows.

use super::{Index, StoreError};
use rusqlite::{OptionalExtension, params};

/// The scope under which the census counts gateway mailboxes; folders are counted under the id of theirs.
pub(super) const GATEWAY_MAILBOXES: &[u8] = &[];

/// What a check is over: two rows of different kinds with the same columns differ.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Meta = 1,
    GatewayMailbox,
    Folder,
    FolderName,
    Object,
    Receipt,
    Message,
    Placement,
    Revision,
    LiveUid,
    Flags,
}

/// A check under construction.
#[derive(Clone, Copy)]
pub(super) struct RowSum(u64);

impl RowSum {
    pub(super) fn of(kind: Kind) -> RowSum {
        RowSum(0).mix(kind as u64)
    }

    fn mix(self, word: u64) -> RowSum {
        let mixed = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        RowSum(mixed ^ (mixed >> 29))
    }

    pub(super) fn int<T: Into<i64>>(self, value: T) -> RowSum {
        self.mix(value.into().cast_unsigned())
    }

    pub(super) fn bytes(self, octets: &[u8]) -> RowSum {
        octets.chunks(8).fold(self.mix(octets.len() as u64), |sum, chunk| {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            sum.mix(u64::from_le_bytes(word))
        })
    }

    /// A column that may be NULL.
    pub(super) fn maybe<T>(self, value: Option<T>, add: impl FnOnce(RowSum, T) -> RowSum) -> RowSum {
        match value {
            Some(value) => add(self.mix(1), value),
            None => self.mix(0),
        }
    }

    pub(super) fn end(self) -> i64 {
        self.mix(self.0 >> 32).0.cast_signed()
    }

    /// # Errors
    /// [`StoreError::IndexDamaged`] when the row says another check.
    pub(super) fn verify(self, said: i64, what: &str) -> Result<(), StoreError> {
        if self.end() == said { Ok(()) } else { Err(damaged(format!("{what} does not fit its check"))) }
    }
}

pub(super) fn damaged(why: impl Into<String>) -> StoreError {
    StoreError::IndexDamaged(why.into())
}

/// How many rows there are of something, and the sum of their checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    pub(super) rows: i64,
    pub(super) sum: i64,
}

impl Census {
    pub(super) fn add(&mut self, check: i64) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(check);
    }
}

impl Index {
    pub(super) fn census(&self, scope: &[u8]) -> Result<Census, StoreError> {
        let mut select = self.connection.prepare_cached("SELECT rows, sum FROM census WHERE scope = ?")?;
        let row = select.query_row([scope], |row| Ok(Census { rows: row.get(0)?, sum: row.get(1)? }));
        Ok(row.optional()?.unwrap_or_default())
    }

    /// Replaces, in what the census says, one row's check by another; a new row has none before.
    pub(super) fn count(&self, scope: &[u8], before: Option<i64>, after: i64) -> Result<(), StoreError> {
        let mut census = self.census(scope)?;
        census.rows += i64::from(before.is_none());
        census.sum = census.sum.wrapping_sub(before.unwrap_or(0)).wrapping_add(after);
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO census VALUES (?, ?, ?)")?
            .execute(params![scope, census.rows, census.sum])?;
        Ok(())
    }

    /// # Errors
    /// [`StoreError::IndexDamaged`] unless `found` is what the census says.
    pub(super) fn compare(&self, scope: &[u8], found: Census, what: &str) -> Result<(), StoreError> {
        let said = self.census(scope)?;
        if said == found {
            return Ok(());
        }
        Err(damaged(format!("{} of {} {what} found", found.rows, said.rows)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_one_bit_changes_a_check() {
        let octets: Vec<u8> = (0..37).collect();
        let check = |octets: &[u8], number: i64| RowSum::of(Kind::Object).int(number).bytes(octets).end();
        let whole = check(&octets, 5);
        for bit in 0..octets.len() * 8 {
            let mut flipped = octets.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(check(&flipped, 5), whole, "bit {bit}");
        }
        for bit in 0..64 {
            assert_ne!(check(&octets, 5 ^ (1_i64 << bit)), whole, "bit {bit} of the number");
        }
        assert_ne!(check(&octets[..36], 5), whole);
        let null = RowSum::of(Kind::Object).maybe(None::<i64>, RowSum::int);
        assert_ne!(null.end(), RowSum::of(Kind::Object).maybe(Some(0_i64), RowSum::int).end());
    }
}
