//! Daybook: a journal report ingestion gateway. (page to be written)
pub mod mail;
pub mod net;
pub mod smtp;
pub mod store;
