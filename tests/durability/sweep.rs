//! Every call on the way to the 250 fails once.
