//! Listeners, TLS, deadlines, connection permits and drain: what every server here needs and no protocol.
//!
//! The flow of one connection: [`listen`] accepts it if [`admission`] has room for its peer and hands it to a
//! [`listen::Service`]; the service wraps it in a [`stream::Stream`], which is plain or TLS and can turn from
//! the first into the second once, and reads it through a [`wire::Wire`], whose buffer, line length and waits
//! are all bounded. A [`drain::Drain`] tells accept loops and connections that the process wants to end.
//!
//! Invariants:
//! - Nothing a peer sends makes a buffer grow past the number the caller named.
//! - A wait has one deadline for the whole thing waited for, never one per read: a peer that sends one octet
//!   just before each read would time out could otherwise hold a connection for ever.
//! - Octets that arrived in clear are never read as if they had come over TLS.
//! - Running out of file descriptors slows the accept loop down; it neither spins nor ends.
//! - A client certificate is asked for where that is wanted ([`client_certificate`]) and never required; what is wrong with one is
//!   recorded beside the handshake, which goes on.
//!
//! This room knows no protocol: what to say to a peer that is one too many comes from the service.

pub mod admission;
pub mod authorities;
pub mod certificate;
pub mod client_certificate;
pub mod dial;
pub mod drain;
pub mod listen;
pub mod private_file;
pub mod renewal;
pub mod secret;
mod self_signed;
pub mod stream;
pub mod tls;
pub mod tls_client;
pub mod wire;
