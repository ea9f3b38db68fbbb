//! Octets that may hold a password or a key: wiped when dropped, and wherever growing would leave a copy behind.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};
use zeroize::Zeroizing;

/// Octets read at a time.
const CHUNK_OCTETS: usize = 4096;

/// Grows without leaving what it held where it was.
#[derive(Default)]
pub(super) struct Wiped(Zeroizing<Vec<u8>>);

impl Wiped {
    /// Makes room for so many more.
    fn reserve(&mut self, more: usize) {
        let wanted = self.0.len().saturating_add(more);
        if wanted > self.0.capacity() {
            let room = wanted.max(self.0.capacity() * 2).max(CHUNK_OCTETS);
            let mut moved = Zeroizing::new(Vec::with_capacity(room));
            moved.extend_from_slice(&self.0);
            self.0 = moved;
        }
    }

    pub(super) fn push(&mut self, octets: &[u8]) {
        self.reserve(octets.len());
        self.0.extend_from_slice(octets);
    }

    pub(super) fn octets(&self) -> &[u8] {
        &self.0
    }

    /// The line that `reader` gives, without its end; `None` when it ends, or has read so many octets, before the line does.
    pub(super) async fn line(
        mut reader: impl AsyncRead + Unpin,
        octets_max: u64,
    ) -> io::Result<Option<Wiped>> {
        let mut line = Wiped::default();
        let mut chunk = Zeroizing::new([0; CHUNK_OCTETS]);
        loop {
            let read = reader.read(chunk.as_mut_slice()).await?;
            let read = chunk.get(..read).unwrap_or_default();
            let end = read.iter().position(|octet| *octet == b'\n');
            line.push(read.get(..end.unwrap_or(read.len())).unwrap_or_default());
            let is_long = line.octets().len() as u64 >= octets_max;
            match end {
                _ if is_long || read.is_empty() => return Ok(None),
                Some(_) => return Ok(Some(line)),
                None => {}
            }
        }
    }
}

impl io::Write for Wiped {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.push(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A text as the array of its lines, for serde. Between quotes, a line's end is escaped, and what is escaped is read through a
/// buffer that nobody wipes.
pub(super) mod lines {
    use serde::{Deserialize, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(in crate::admin) fn serialize<S: Serializer>(
        text: &Zeroizing<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(text.lines())
    }

    /// Every line has an end then, the last one too.
    pub(in crate::admin) fn deserialize<'a, D: Deserializer<'a>>(
        deserializer: D,
    ) -> Result<Zeroizing<String>, D::Error> {
        let lines = Vec::<Zeroizing<String>>::deserialize(deserializer)?;
        // Of its full size at once: growing would leave copies behind.
        let octets = lines.iter().map(|line| line.len() + 1).sum();
        let mut text = Zeroizing::new(String::with_capacity(octets));
        for line in &lines {
            text.push_str(line);
            text.push('\n');
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_written_piece_by_piece_is_there_whole() {
        let mut wiped = Wiped::default();
        let octets: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        octets.chunks(997).for_each(|piece| wiped.write_all(piece).unwrap());
        assert_eq!(wiped.octets(), octets);
    }

    #[tokio::test]
    async fn a_line_ends_with_its_end_and_nowhere_else() {
        let long = [vec![b'a'; 10_000], b"\nrest".to_vec()].concat();
        for (octets, most, expect) in [
            (&b"one\ntwo"[..], 100, Some(&b"one"[..])),
            (b"\n", 100, Some(b"")),
            (b"one", 100, None),
            (b"", 100, None),
            (b"one\n", 3, None),
            (&long, 20_000, Some(&long[..10_000])),
            (&long, 10_000, None),
        ] {
            let line = Wiped::line(octets, most).await.unwrap();
            assert_eq!(line.as_ref().map(Wiped::octets), expect);
        }
    }
}
