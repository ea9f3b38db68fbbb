//! Daybook: a journal report ingestion gateway. (page to be written)
pub mod fetch;
pub mod mail;
pub mod net;
