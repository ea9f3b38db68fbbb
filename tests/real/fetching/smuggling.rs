//! Mail that holds what would end it early, or begin another, taken by BDAT: clients get as many messages as were sent, and each
//! as it should be.

use super::matrix::{cells, run_all};
use super::messages::smuggling;
use super::{Client, curl, fetchmail, mbsync, mpop, python};

#[test]
fn nothing_in_a_message_makes_another_or_breaks_the_protocol() {
    let clients: [&dyn Client; 5] =
        [&fetchmail::Fetchmail, &mpop::Mpop, &mbsync::Mbsync, &curl::Curl, &python::Python];
    run_all(&cells(&clients), &smuggling());
}
