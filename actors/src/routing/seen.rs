//! Which packets have passed already. Bounded in number and time.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

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
        if self.young.contains(&id) || self.old.contains(&id) {
            return Sight::Again;
        }
        if self.young.len() >= self.most {
            return Sight::Full;
        }
        self.young.insert(id);
        Sight::New
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

#[cfg(test)]
mod tests {
    use super::*;

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
