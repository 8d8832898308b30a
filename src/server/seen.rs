//! Which texts were parsed lately, as far as a fixed piece of memory can tell. Pure.

/// Hashes of what was parsed. Each has one place, and takes it from whatever else has the same.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Empty until the first comes.
    places: Box<[u64]>,
}

/// Places: 128 KB. One in so many other texts takes the place of a text between two Parses of it.
const PLACES: usize = 16 * 1024;

impl Seen {
    /// Notes a hash; true if it was noted already. What was pushed out is new, and one that shares all its
    /// bits with another is not.
    pub(super) fn insert(&mut self, hash: u64) -> bool {
        if self.places.is_empty() {
            self.places = vec![0; PLACES].into();
        }
        let at = usize::try_from(hash % PLACES as u64).unwrap_or_default();
        let Some(place) = self.places.get_mut(at) else { return false };
        std::mem::replace(place, hash) == hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_a_second_time_is_known() {
        let mut seen = Seen::default();
        assert!(!seen.insert(7));
        assert!(!seen.insert(8));
        assert!(seen.insert(7));
    }

    /// However many others there are, they take no more memory; and each pushes out one.
    #[test]
    fn a_flood_of_others_pushes_out_what_shares_their_places_and_nothing_more() {
        let mut seen = Seen::default();
        let kept = PLACES as u64 - 1;
        assert!(!seen.insert(kept));
        for other in 0..10 {
            for place in 0..kept {
                seen.insert(place + other * PLACES as u64);
            }
        }
        assert!(seen.insert(kept));
        assert!(!seen.insert(kept + PLACES as u64));
        assert!(!seen.insert(kept));
        assert_eq!(seen.places.len(), PLACES);
    }
}
