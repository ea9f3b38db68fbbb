//! Bits that flip and files that lose their end, long after they were written well.
