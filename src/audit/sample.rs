//! Which keys belong to a sample: the same seed always picks the same ones, whatever else is in the bucket.

use crate::model::object::Key;

/// A share of all keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    share: f64,
    seed: u64,
}

impl Sample {
    /// A share between 0 and 1 of all keys; `None` outside of that.
    #[must_use]
    pub fn of(share: f64, seed: u64) -> Option<Self> {
        (share > 0.0 && share <= 1.0).then_some(Self { share, seed })
    }

    /// Every key.
    #[must_use]
    pub fn all(seed: u64) -> Self {
        Self { share: 1.0, seed }
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The share, 0 to 1.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.share
    }

    /// Whether the key belongs to it.
    #[must_use]
    pub fn picks(&self, key: &Key) -> bool {
        self.share >= 1.0 || unit(hash(self.seed, key.as_str().as_bytes())) < self.share
    }
}

/// FNV-1a begun from the seed, then mixed as in splitmix64 so that keys which differ in one digit lie far apart.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let begun = mixed(seed ^ 0xCBF2_9CE4_8422_2325);
    mixed(bytes.iter().fold(begun, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)))
}

fn mixed(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^ (hash >> 31)
}

/// A hash as a number from 0 up to, not including, 1.
fn unit(hash: u64) -> f64 {
    let high = u32::try_from(hash >> 32).unwrap_or(u32::MAX);
    f64::from(high) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(share: f64, seed: u64) -> Vec<usize> {
        let sample = Sample::of(share, seed).unwrap();
        (0..20_000).filter(|n| sample.picks(&Key::new(format!("flat/{n:08}")))).collect()
    }

    #[test]
    fn a_share_is_about_that_share_and_the_seed_says_which() {
        let found = picked(0.01, 7);
        assert!((130..280).contains(&found.len()), "{}", found.len());
        assert_eq!(found, picked(0.01, 7));
        assert_ne!(found, picked(0.01, 8));
        let twice = picked(0.02, 7);
        assert!(found.iter().all(|n| twice.contains(n)), "a larger sample contains the smaller one");
    }

    #[test]
    fn nonsense_is_no_share() {
        assert!(Sample::of(0.0, 1).is_none() && Sample::of(1.01, 1).is_none() && Sample::of(f64::NAN, 1).is_none());
        assert!(Sample::all(1).picks(&Key::new("any")));
    }
}
