//! Daybook: a journal report ingestion gateway. (page to be written)
pub mod assign;
pub mod config;
pub mod directory;
pub mod mail;
