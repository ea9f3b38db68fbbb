//! The process killed: under load, while it starts, while it makes its index anew.
