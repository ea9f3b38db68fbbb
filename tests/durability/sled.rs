//! The same cuts against `sled`, the store that the design card names.
