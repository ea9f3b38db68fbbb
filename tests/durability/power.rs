//! The power is cut at a random moment, again and again.
