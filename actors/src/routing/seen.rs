//! Which packets have passed already. Bounded in number and time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bowline_messages::PeerId;

use super::wire::PacketId;

/// Remembers each packet for at least `keep` and at most twice that, in two generations: no time is kept for a single packet.
#[derive(Debug)]
pub struct Seen {
    keep: Duration,
    /// Packets of one generation.
    most: usize,
    young: BTreeSet<PacketId>,
    old: BTreeSet<PacketId>,
    turns: Option<Instant>,
}

/// What is known of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// It is new, and remembered from now on.
    New,
    /// It was here before.
    Again,
    /// It is new and there is no room to remember it.
    Full,
}

impl Seen {
    /// Nothing was seen yet.
    pub const fn new(keep: Duration, most: usize) -> Self {
        Self { keep, most, young: BTreeSet::new(), old: BTreeSet::new(), turns: None }
    }

    /// A packet has come.
    pub fn on_packet(&mut self, now: Instant, id: PacketId) -> Sight {
        self.turn(now);
        if self.knows(id) {
            return Sight::Again;
        }
        if self.young.len() >= self.most {
            return Sight::Full;
        }
        self.young.insert(id);
        Sight::New
    }

    /// Whether a packet was here. It is not remembered for that.
    pub fn knows(&self, id: PacketId) -> bool {
        self.young.contains(&id) || self.old.contains(&id)
    }

    /// Packets that are remembered.
    pub fn remembered(&self) -> usize {
        self.young.len() + self.old.len()
    }

    fn turn(&mut self, now: Instant) {
        let Some(turns) = self.turns else {
            self.turns = Some(now + self.keep);
            return;
        };
        if now < turns {
            return;
        }
        self.old = std::mem::take(&mut self.young);
        if now >= turns + self.keep {
            self.old.clear();
        }
        self.turns = Some(now + self.keep);
    }
}

/// The last packets for this node, so many of each neighbour that brought them: no limit on relaying counts them, so what one brings must
/// not push out what others did. A packet that is forgotten too soon and comes again does no harm: the link that it belongs to knows it.
#[derive(Debug)]
pub struct Arrived {
    /// Packets of one neighbour.
    each: usize,
    all: BTreeSet<PacketId>,
    /// `None`: all those who are no neighbours, or not any more.
    neighbours: BTreeMap<Option<PeerId>, VecDeque<PacketId>>,
}

impl Arrived {
    /// Nothing has come yet.
    pub const fn new(each: usize) -> Self {
        Self { each, all: BTreeSet::new(), neighbours: BTreeMap::new() }
    }

    /// A packet has come; false when it had come before. The oldest of the same neighbour gives way.
    pub fn on_packet(&mut self, by: Option<PeerId>, id: PacketId) -> bool {
        let new = self.all.insert(id);
        if new {
            self.keep(by, id);
        }
        new
    }

    /// A neighbour is gone. Others may still bring what it brought.
    pub fn on_neighbour_lost(&mut self, peer: PeerId) {
        for id in self.neighbours.remove(&Some(peer)).into_iter().flatten() {
            self.keep(None, id);
        }
    }

    /// Packets that are remembered.
    pub fn remembered(&self) -> usize {
        self.all.len()
    }

    fn keep(&mut self, by: Option<PeerId>, id: PacketId) {
        let own = self.neighbours.entry(by).or_default();
        own.push_back(id);
        if own.len() > self.each
            && let Some(oldest) = own.pop_front()
        {
            self.all.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_neighbour_brings_makes_nothing_forgotten_that_another_brought() {
        let [quiet, loud] = [1, 2].map(|n| Some(PeerId::from_bytes([n; 32])));
        let mut arrived = Arrived::new(10);
        assert!(arrived.on_packet(quiet, PacketId(1)));
        for id in 100..1000 {
            assert!(arrived.on_packet(loud, PacketId(id)));
        }
        assert_eq!(arrived.remembered(), 11);
        assert!(!arrived.on_packet(loud, PacketId(1)), "whoever brings it");
        assert!(!arrived.on_packet(quiet, PacketId(999)));
        assert!(arrived.on_packet(loud, PacketId(100)), "the oldest gave way");
        arrived.on_neighbour_lost(loud.unwrap_or(PeerId::from_bytes([0; 32])));
        assert!(!arrived.on_packet(quiet, PacketId(999)), "it is remembered although its neighbour is gone");
        for id in 2000..3000 {
            arrived.on_packet(None, PacketId(id));
        }
        assert_eq!(arrived.remembered(), 11);
    }

    #[test]
    fn a_packet_is_remembered_for_its_time_and_then_forgotten() {
        let start = Instant::now();
        let keep = Duration::from_secs(10);
        for offset in 0..10 {
            let mut seen = Seen::new(keep, 100);
            seen.on_packet(start, PacketId(0));
            let came = start + Duration::from_secs(offset);
            assert_eq!(seen.on_packet(came, PacketId(1)), Sight::New);
            for second in 0..=10 {
                assert_eq!(seen.on_packet(came + Duration::from_secs(second), PacketId(1)), Sight::Again, "{offset}");
            }
            seen.on_packet(came + 2 * keep, PacketId(2));
            assert_eq!(seen.on_packet(came + 4 * keep, PacketId(1)), Sight::New);
        }
    }

    #[test]
    fn it_holds_no_more_than_its_bound_and_says_so() {
        let start = Instant::now();
        let mut seen = Seen::new(Duration::from_secs(1), 3);
        let sights: Vec<Sight> = (0..5).map(|id| seen.on_packet(start, PacketId(id))).collect();
        assert_eq!(sights, [Sight::New, Sight::New, Sight::New, Sight::Full, Sight::Full]);
        for step in 0..100 {
            seen.on_packet(start + Duration::from_millis(step * 100), PacketId(100 + step));
            assert!(seen.remembered() <= 6);
        }
    }
}
