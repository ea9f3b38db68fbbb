//! Daybook: a journal report ingestion gateway. (page to be written)
pub mod admin;
pub mod assign;
pub mod cli;
pub mod config;
pub mod directory;
pub mod extract;
pub mod fetch;
pub mod mail;
pub mod net;
pub mod observe;
pub mod pipeline;
pub mod smtp;
pub mod store;
