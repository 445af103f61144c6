//! Numbers that nobody can guess, from the kernel by way of `ring`.

use ring::rand::{SecureRandom, SystemRandom};

use crate::engine::state::DatagramKey;
use crate::engine::{ClusterId, Nonce};

/// `N` random bytes.
///
/// # Panics
/// When the kernel has no random numbers to give (no getrandom and no /dev/urandom): nothing that follows would be
/// safe, and there is nothing to fall back to.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    SystemRandom::new().fill(&mut out).expect("the kernel gives random numbers");
    out
}

/// A nonce for a keeper's life or a request.
pub fn nonce() -> Nonce {
    Nonce(u64::from_be_bytes(bytes()))
}

/// The identity of a new cluster.
pub fn cluster_id() -> ClusterId {
    ClusterId(u64::from_be_bytes(bytes()))
}

/// A fresh key for the datagrams' MAC.
pub fn datagram_key() -> DatagramKey {
    DatagramKey(bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        assert_ne!(bytes::<32>(), bytes::<32>());
        assert_ne!(nonce(), nonce());
    }
}
