//! How a fuzz target is told where to cut.

/// Most cuts that an input can ask for.
const CUTS_MAX: u8 = 16;

/// Takes a list of numbers off an input: an octet that says how many, then one octet each. What remains is the rest.
pub(crate) fn numbers(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = input.split_first()?;
    Some(rest.split_at(rest.len().min(usize::from(count % CUTS_MAX))))
}
