//! Safeguards of the store switched off one by one: each must be missed by the harness.
