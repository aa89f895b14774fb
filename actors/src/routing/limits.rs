//! Token buckets: what relaying may cost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bowline_messages::PeerId;

/// A rate with a burst of one second, kept as the moment at which everything taken so far is paid for (GCRA, ITU-T I.371).
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    /// A second; nothing at all when it is 0.
    per_second: u64,
    paid: Option<Instant>,
}

/// How far ahead of its rate a bucket may be.
const BURST: Duration = Duration::from_secs(1);

impl Bucket {
    /// A full bucket.
    pub const fn new(per_second: u64) -> Self {
        Self { per_second, paid: None }
    }

    /// The same with another rate: what was taken stays taken.
    const fn at(self, per_second: u64) -> Self {
        Self { per_second, ..self }
    }

    /// Whether anything that was taken is not paid for.
    fn owes(&self, now: Instant) -> bool {
        self.paid.is_some_and(|paid| now < paid)
    }

    /// Whether so much may be taken now.
    pub fn has(&self, now: Instant, amount: u64) -> bool {
        self.per_second > 0 && self.after(now, amount) <= now + BURST
    }

    /// Takes so much, whether it is there or not.
    pub fn take(&mut self, now: Instant, amount: u64) {
        if self.per_second > 0 {
            self.paid = Some(self.after(now, amount));
        }
    }

    fn after(&self, now: Instant, amount: u64) -> Instant {
        let nanos = u128::from(amount) * 1_000_000_000 / u128::from(self.per_second.max(1));
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(Duration::from_secs(3600));
        self.paid.map_or(now, |paid| paid.max(now)) + cost
    }
}

/// A bucket of packets and one of bytes.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    packets: Bucket,
    bytes: Bucket,
}

impl Budget {
    /// So many packets and bytes a second.
    pub const fn new(packets_per_second: u32, bytes_per_second: u64) -> Self {
        Self { packets: Bucket::new(packets_per_second as u64), bytes: Bucket::new(bytes_per_second) }
    }

    /// Whether a packet of this size may pass now.
    pub fn has(&self, now: Instant, bytes: usize) -> bool {
        self.packets.has(now, 1) && self.bytes.has(now, bytes as u64)
    }

    /// A packet of this size passes.
    pub fn take(&mut self, now: Instant, bytes: usize) {
        self.packets.take(now, 1);
        self.bytes.take(now, bytes as u64);
    }
}

/// What this node relays: a budget for each neighbour, so that none uses up what the others need, and one for all.
#[derive(Debug)]
pub struct RelayLimits {
    total: Budget,
    each: Budget,
    neighbours: BTreeMap<PeerId, Budget>,
}

impl RelayLimits {
    /// Full budgets.
    pub const fn new(total: Budget, each: Budget) -> Self {
        Self { total, each, neighbours: BTreeMap::new() }
    }

    /// Asks to relay a packet of this size for a neighbour.
    pub fn admit(&mut self, now: Instant, from: PeerId, bytes: usize) -> bool {
        let budget = self.neighbours.get(&from).unwrap_or(&self.each);
        if !budget.has(now, bytes) || !self.total.has(now, bytes) {
            return false;
        }
        self.neighbours.entry(from).or_insert(self.each).take(now, bytes);
        self.total.take(now, bytes);
        true
    }

    /// Forgets neighbours that are gone. What they owe is paid within a second anyway, and `alive` says who is still there.
    pub fn retain(&mut self, alive: impl Fn(&PeerId) -> bool) {
        self.neighbours.retain(|peer, _| alive(peer));
    }
}

/// A rate that each neighbour has for itself.
#[derive(Debug)]
pub struct Rates {
    each: Bucket,
    neighbours: BTreeMap<PeerId, Bucket>,
}

impl Rates {
    /// So many a second for each of them.
    pub const fn new(per_second: u64) -> Self {
        Self { each: Bucket::new(per_second), neighbours: BTreeMap::new() }
    }

    /// Asks for so many that a neighbour brings.
    pub fn admit(&mut self, now: Instant, by: PeerId, amount: u64) -> bool {
        let bucket = self.neighbours.entry(by).or_insert(self.each);
        let has = bucket.has(now, amount);
        if has {
            bucket.take(now, amount);
        }
        has
    }

    /// Forgets neighbours that are gone and owe nothing.
    pub fn retain(&mut self, now: Instant, alive: impl Fn(&PeerId) -> bool) {
        self.neighbours.retain(|peer, bucket| alive(peer) || bucket.owes(now));
    }
}

/// A rate that neighbours share. Half of it is divided evenly among those that use it, so that neither one of them nor many together
/// take what another needs; the other half is for whoever comes first. Each has at least one a second.
#[derive(Debug)]
pub struct Shares {
    per_second: u64,
    free: Bucket,
    /// Of those who owe something: what was paid for is the same as nothing.
    neighbours: BTreeMap<PeerId, Bucket>,
}

impl Shares {
    /// So many a second for all together; nothing at all when it is 0.
    pub const fn new(per_second: u32) -> Self {
        let per_second = per_second as u64;
        Self { per_second, free: Bucket::new(per_second / 2), neighbours: BTreeMap::new() }
    }

    /// Asks for one that a neighbour brought.
    pub fn admit(&mut self, now: Instant, by: PeerId) -> bool {
        if self.per_second == 0 {
            return false;
        }
        self.neighbours.retain(|_, bucket| bucket.owes(now));
        let own = self.neighbours.get(&by).copied();
        let users = self.neighbours.len() + usize::from(own.is_none());
        let share = (self.per_second.div_ceil(2) / users as u64).max(1);
        let mut own = own.unwrap_or(Bucket::new(share)).at(share);
        if own.has(now, 1) {
            own.take(now, 1);
            self.neighbours.insert(by, own);
            return true;
        }
        let free = self.free.has(now, 1);
        if free {
            self.free.take(now, 1);
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_rate_is_used_up_by_nobody() {
        let start = Instant::now();
        let mut shares = Shares::new(100);
        let mut take = |now, by, tries: usize| (0..tries).filter(|_| shares.admit(now, peer(by))).count();
        assert_eq!(take(start, 1, 1000), 100, "whoever is alone has all of it");
        assert_eq!(take(start, 2, 1000), 25, "and the next one its share");
        // Nine that take whatever they get, and one that asks five times a second.
        let mut got = (0, 0);
        for step in 1..=50 {
            let now = start + Duration::from_millis(step * 200);
            got.0 += (1..10).map(|by| take(now, by, 100)).sum::<usize>();
            got.1 += take(now, 100, 1);
        }
        assert_eq!(got.1, 50);
        assert!((900..1250).contains(&got.0), "ten seconds and the bursts of newcomers: {}", got.0);
        assert_eq!(shares.neighbours.len(), 10);
        assert!(shares.admit(start + Duration::from_secs(60), peer(3)));
        assert_eq!(shares.neighbours.len(), 1, "who owes nothing is forgotten");
        assert!(!Shares::new(0).admit(start, peer(1)));
    }

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }

    #[test]
    fn a_bucket_gives_a_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(100);
        let take = |bucket: &mut Bucket, now| {
            let has = bucket.has(now, 1);
            if has {
                bucket.take(now, 1);
            }
            has
        };
        let first = (0..1000).filter(|_| take(&mut bucket, start)).count();
        assert_eq!(first, 100);
        let later = start + Duration::from_millis(500);
        assert_eq!((0..1000).filter(|_| take(&mut bucket, later)).count(), 50);
        assert!(!Bucket::new(0).has(start, 1), "nothing is nothing");
    }

    #[test]
    fn one_neighbour_cannot_use_up_what_others_need() {
        let start = Instant::now();
        let mut limits = RelayLimits::new(Budget::new(100, 1 << 20), Budget::new(60, 1 << 20));
        let greedy = (0..1000).filter(|_| limits.admit(start, peer(1), 10)).count();
        assert_eq!(greedy, 60);
        assert_eq!((0..1000).filter(|_| limits.admit(start, peer(2), 10)).count(), 40, "the total is bounded as well");
        let second = start + Duration::from_secs(1);
        assert!(limits.admit(second, peer(2), 10));
        assert!(!limits.admit(second, peer(1), 2 << 20), "bytes count too");
    }
}
