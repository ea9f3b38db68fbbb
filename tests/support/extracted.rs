//! What extraction finds in a message, with the octets it points at, cut and decoded as the store would.

use daybook::extract::{Decoder, Extraction, Scanner, extract};
use daybook::mail::{Extent, Profile};

/// A message as it was read.
pub(crate) struct Extracted {
    pub(crate) found: Extraction,
    /// The message, then every decoded part.
    objects: Vec<Vec<u8>>,
}

/// Reads a message in chunks of one size.
pub(crate) fn read(message: &[u8], chunk_octets: usize, profile: Profile) -> Extraction {
    let mut scanner = Scanner::new();
    message.chunks(chunk_octets).for_each(|chunk| scanner.push(chunk));
    extract(&scanner.finish(), profile)
}

impl Extracted {
    /// Reads a message as one that came to a gateway mailbox for Exchange's reports.
    pub(crate) fn of(message: &[u8], chunk_octets: usize) -> Extracted {
        let found = read(message, chunk_octets, Profile::Microsoft365);
        let mut all = Extracted { found, objects: vec![message.to_vec()] };
        for derived in all.found.derived.clone() {
            let (mut decoder, mut decoded) = (Decoder::new(derived.encoding), Vec::new());
            decoder.push(all.octets(&derived.source), &mut decoded);
            decoder.finish(&mut decoded);
            all.objects.push(decoded);
        }
        all
    }

    /// The octets of an extent. Panics when it does not lie inside its object.
    pub(crate) fn octets(&self, extent: &Extent) -> &[u8] {
        let end = extent.offset + extent.octets;
        &self.objects[extent.object as usize][extent.offset as usize..end as usize]
    }

    /// The octets of every original, of every report, outermost first.
    pub(crate) fn originals(&self) -> Vec<Vec<&[u8]>> {
        let of_report = |report: &daybook::extract::Report| -> Vec<&[u8]> {
            report.originals.iter().map(|original| self.octets(&original.facts.extent)).collect()
        };
        self.found.reports.iter().map(of_report).collect()
    }
}
