//! A crowd kept within bounds: how many connections one address may have at once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts per address. Clones count together.
#[derive(Clone, Debug)]
pub(super) struct Crowd {
    most: usize,
    counts: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

/// One connection's seat; dropping it frees it.
pub(super) struct Seat {
    crowd: Crowd,
    of: IpAddr,
}

impl Crowd {
    /// So many for each address at most.
    pub(super) fn new(most: usize) -> Self {
        Self { most, counts: Arc::default() }
    }

    /// A seat, unless the address has all of its own.
    pub(super) fn enter(&self, of: IpAddr) -> Option<Seat> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(of).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Seat { crowd: self.clone(), of })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.crowd.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_one_address_are_bounded_and_come_back() {
        const MOST: usize = 32;
        let (crowd, source) = (Crowd::new(MOST), IpAddr::from([10, 0, 0, 1]));
        let mut held: Vec<_> = (0..MOST).map(|_| crowd.enter(source).unwrap()).collect();
        assert!(crowd.enter(source).is_none());
        assert!(crowd.enter(IpAddr::from([10, 0, 0, 2])).is_some(), "another address is not affected");
        held.pop();
        assert!(crowd.enter(source).is_some());
        drop(held);
        assert!(crowd.counts.lock().unwrap().is_empty(), "nothing is remembered of those who left");
    }
}
