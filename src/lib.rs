//! Daybook: a journal report ingestion gateway. (page to be written)
pub mod extract;
pub mod mail;
