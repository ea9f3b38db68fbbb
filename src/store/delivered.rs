//! What tests in here deliver with: the same as those outside.

#[path = "../../tests/support/delivery.rs"]
mod support;

pub(super) use support::delivery;
