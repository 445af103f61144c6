//! What happened, as lines for people and as one number to compare two runs by.

use std::fmt;

use super::MS;

/// A running hash of every event; the lines themselves only when somebody reads them.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    print: bool,
}

impl Trace {
    pub fn new(print: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, print }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// FNV-1a over the numbers that make an event.
    pub fn mix(&mut self, numbers: &[u64]) {
        for byte in numbers.iter().flat_map(|n| n.to_le_bytes()) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// A line worth reading; it is part of the hash too.
    pub fn line(&mut self, at: u64, text: fmt::Arguments) {
        let text = text.to_string();
        self.mix(&[at]);
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.print {
            println!("{:>11.3} {text}", at as f64 / MS as f64);
        }
    }
}
