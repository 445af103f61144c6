//! Seeded changes of known inputs, as fuzzers make them: flipped bits, numbers at their bounds, cuts, copies, splices.

/// Longest input made.
const BYTES_MAX: usize = 8 << 10;

pub struct Mutation {
    known: Vec<Vec<u8>>,
    state: u64,
}

impl Mutation {
    /// Changes of these, always the same ones.
    pub fn new(known: Vec<Vec<u8>>) -> Self {
        Self { known, state: 1 }
    }

    /// splitmix64.
    fn draw(&mut self, below: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % below.max(1) as u64) as usize
    }

    /// Another input.
    pub fn next(&mut self) -> Vec<u8> {
        let at = self.draw(self.known.len());
        let mut bytes = self.known[at].clone();
        for _ in 0..=self.draw(4) {
            self.change(&mut bytes);
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        const BOUNDS: [u8; 10] = [0, 1, 0x7f, 0x80, 0xff, 0xc0, 0xcf, 0xd9, 0xdd, 0xdf];
        let at = self.draw(bytes.len());
        match self.draw(7) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, BOUNDS[self.draw(BOUNDS.len())]),
            2 => {
                let other = self.draw(self.known.len());
                let from = self.draw(self.known[other].len());
                bytes.truncate(at);
                bytes.extend_from_slice(&self.known[other][from..]);
            }
            3 => {
                let end = at + self.draw(bytes.len() - at);
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            4 => {
                let end = at + self.draw(bytes.len() - at);
                bytes.drain(at..end);
            }
            5 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.draw(8);
                }
            }
            _ => {
                let bound = BOUNDS[self.draw(BOUNDS.len())];
                for byte in bytes.iter_mut().skip(at).take(1 + self.draw(8)) {
                    *byte = bound;
                }
            }
        }
    }
}
