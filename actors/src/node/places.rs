//! Room in the mailbox of an actor to which neighbours send, so that none of them keeps another out.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bowline_messages::PeerId;

/// The places there are, and who has how many. A sender gets one as long as it has no more than are free: so one alone has at most half of
/// them, n of them together n in n + 1, and whoever comes next finds some (dynamic thresholds, Choudhury and Hahne 1998).
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    taken: Arc<AtomicUsize>,
    by: RefCell<BTreeMap<PeerId, Arc<AtomicUsize>>>,
}

/// A place that is taken, until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    taken: Arc<AtomicUsize>,
    own: Arc<AtomicUsize>,
}

impl Places {
    /// So many, all free.
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: Arc::default(), by: RefCell::default() }
    }

    /// Takes a place for a sender; none when it has its share already.
    pub(super) fn take(&self, sender: PeerId) -> Option<Place> {
        let mut by = self.by.borrow_mut();
        if !by.contains_key(&sender) {
            // Whoever has none is as good as new.
            by.retain(|_, own| own.load(Ordering::Relaxed) > 0);
        }
        let own = by.entry(sender).or_default();
        let free = self.most.saturating_sub(self.taken.load(Ordering::Relaxed));
        if own.load(Ordering::Relaxed) >= free {
            return None;
        }
        own.fetch_add(1, Ordering::Relaxed);
        self.taken.fetch_add(1, Ordering::Relaxed);
        Some(Place { taken: Arc::clone(&self.taken), own: Arc::clone(own) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.own.fetch_sub(1, Ordering::Relaxed);
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }

    #[test]
    fn whoever_takes_all_it_gets_leaves_room_for_the_next() {
        let places = Places::new(90);
        let take = |n: u8| (0..1000).filter_map(|_| places.take(peer(n))).collect::<Vec<_>>();
        let all: Vec<Vec<Place>> = (1..6).map(take).collect();
        let counts: Vec<usize> = all.iter().map(Vec::len).collect();
        assert_eq!(counts, [45, 23, 11, 6, 3]);
        assert!(places.take(peer(9)).is_some(), "and one that sends little finds a place");
        assert!(places.take(peer(1)).is_none());
    }

    #[test]
    fn what_was_handled_is_free_again_and_whoever_has_nothing_is_forgotten() {
        let places = Places::new(10);
        for n in 0..100 {
            drop(places.take(peer(n)).unwrap());
        }
        let kept: Vec<Place> = (0..100).filter_map(|_| places.take(peer(200))).collect();
        assert_eq!((kept.len(), places.taken.load(Ordering::Relaxed), places.by.borrow().len()), (5, 5, 1));
        drop(kept);
        assert_eq!(places.taken.load(Ordering::Relaxed), 0);
    }
}
