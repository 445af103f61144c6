//! Stands in for the crate of this name, of which openraft uses counts by size for its own statistics.
//!
//! The original (0.2.3) keeps precomputed tables for each of its 16 precisions, 26 MB in all, whichever is used; pkgctl has an
//! agent on every host and shows none of these statistics. This has the same interface as far as openraft goes,
//! and the precision that openraft asks for: four buckets between a power of two and the next. `Cargo.toml` puts it in
//! the original's place, and the day the original makes its tables when they are asked for, this goes.

use std::fmt;
use std::marker::PhantomData;

/// Buckets between a power of two and the next one, as a power of two itself.
const PRECISION_BITS: u32 = 2;
const STEPS: usize = 1 << PRECISION_BITS;
/// Every bucket that a `u64` can fall into.
const BUCKETS: usize = (u64::BITS - PRECISION_BITS + 1) as usize * STEPS;

/// How often values of which size were recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: Box<[u64; BUCKETS]>,
    /// What the original can note beside each period of time; openraft notes nothing.
    noted: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]), noted: PhantomData }
    }
}

impl<T> Histogram<T> {
    /// One in which nothing has been recorded.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Records a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Records a value that was met `count` times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let counted = &mut self.counts[bucket_of(value)];
        *counted = counted.saturating_add(count);
    }

    /// How many values were recorded.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The least value of the bucket in which that part (0 to 1) of all values is reached; 0 where there are none.
    #[must_use]
    pub fn percentile(&self, part: f64) -> u64 {
        let total = self.total();
        let rank = ((total as f64 * part).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0_u64;
        let reached = self.counts.iter().position(|count| {
            seen = seen.saturating_add(*count);
            seen >= rank
        });
        reached.map_or(0, least_of)
    }

    /// The usual percentiles together.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.1),
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }
}

/// The usual percentiles of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many values were recorded.
    pub samples: u64,
    /// 999 in 1000 values are at least this.
    pub p0_1: u64,
    /// 99 in 100 values are at least this.
    pub p1: u64,
    /// 95 in 100 values are at least this.
    pub p5: u64,
    /// 9 in 10 values are at least this.
    pub p10: u64,
    /// The median.
    pub p50: u64,
    /// 9 in 10 values are at most this.
    pub p90: u64,
    /// 99 in 100 values are at most this.
    pub p99: u64,
    /// 999 in 1000 values are at most this.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p0_1, p1, p5, p10, p50, p90, p99, p99_9 } = self;
        write!(
            f,
            "{samples} samples, p0.1 {p0_1}, p1 {p1}, p5 {p5}, p10 {p10}, p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p99_9}"
        )
    }
}

/// Histograms by name, to be read one below the other; the original draws them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AsciiChart<T = ()> {
    rows: Vec<(&'static str, Histogram<T>)>,
}

impl<T> AsciiChart<T> {
    /// One without a row.
    #[must_use]
    pub fn new() -> Self {
        Self { rows: Vec::new() }
    }

    /// The same with one row more.
    #[must_use]
    pub fn add(mut self, name: &'static str, sizes: Histogram<T>) -> Self {
        self.rows.push((name, sizes));
        self
    }
}

impl<T> fmt::Display for AsciiChart<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.iter().try_for_each(|(name, sizes)| writeln!(f, "{name}: {}", sizes.percentile_stats()))
    }
}

/// Small values have a bucket each; of a larger one, the highest bit and the two below it count.
fn bucket_of(value: u64) -> usize {
    let Some(shift) = value.checked_ilog2().and_then(|high| high.checked_sub(PRECISION_BITS)) else {
        return value as usize;
    };
    shift as usize * STEPS + (value >> shift) as usize
}

/// The least value that falls into a bucket.
fn least_of(bucket: usize) -> u64 {
    let Some(shift) = (bucket / STEPS).checked_sub(1) else { return bucket as u64 };
    ((STEPS + bucket % STEPS) as u64) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_into_the_bucket_between_whose_ends_it_lies() {
        let near = |bit: u32| [-2_i64, -1, 0, 1, 2].map(|off| (1_u64 << bit).wrapping_add_signed(off));
        for value in (0..5000).chain((4..64).flat_map(near)).chain([u64::MAX]) {
            let bucket = bucket_of(value);
            assert!(least_of(bucket) <= value, "{value}");
            assert!(bucket + 1 == BUCKETS || value < least_of(bucket + 1), "{value}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_right_to_a_quarter() {
        let mut sizes = Histogram::<()>::new();
        (1..=1000).for_each(|value| sizes.record(value));
        let all = sizes.percentile_stats();
        assert_eq!(all.samples, 1000);
        for (found, exact) in [(all.p1, 10), (all.p10, 100), (all.p50, 500), (all.p90, 900), (all.p99, 990)] {
            assert!(found <= exact && exact < found + found / 4 + 1, "{found} for {exact}");
        }
    }

    #[test]
    fn nothing_recorded_is_nothing_and_counts_add_up() {
        assert_eq!(Histogram::<()>::new().percentile_stats().p99, 0);
        let mut sizes = Histogram::<()>::new();
        sizes.record_n(7, 3);
        sizes.record(9);
        assert_eq!((sizes.total(), sizes.percentile(0.5), sizes.percentile(1.0)), (4, 7, 8));
    }
}
