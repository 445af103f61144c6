//! Identity and TLS, authenticated datagrams, framed calls.
