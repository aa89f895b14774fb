//! Two ends and a network between them that loses, delays, doubles and overtakes.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bowline_messages::config::MeshConfig;
use bytes::Bytes;
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::connection::{Connection, Failure, Tuning};
use super::frame::LANES;

const MS: Duration = Duration::from_millis(1);
const PACKET: usize = 16_000;

struct Pair {
    start: Instant,
    now: Instant,
    ends: [Connection; 2],
    coming: BTreeMap<(Instant, u64), (usize, u64, Bytes)>,
    order: u64,
    rng: ChaCha8Rng,
    /// Parts in a thousand.
    loss: u32,
    delay: Duration,
    jitter_ms: u32,
    cut: bool,
    sent: u64,
    sent_bytes: u64,
    read: [Vec<Vec<u8>>; 2],
}

impl Pair {
    fn new(config: &MeshConfig, seed: u64) -> Self {
        let now = Instant::now();
        let end = |called| Connection::new(now, Tuning::from(config), called);
        Self {
            start: now,
            now,
            ends: [end(false), end(true)],
            coming: BTreeMap::new(),
            order: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            loss: 0,
            delay: 20 * MS,
            jitter_ms: 1,
            cut: false,
            sent: 0,
            sent_bytes: 0,
            read: [vec![Vec::new(); LANES], vec![Vec::new(); LANES]],
        }
    }

    fn pump(&mut self) {
        for at in 0..2 {
            while let Some((number, frames)) = self.ends[at].poll_transmit(self.now, PACKET) {
                assert!(frames.len() <= PACKET);
                self.sent += 1;
                self.sent_bytes += frames.len() as u64;
                let copies = 1 + u32::from(self.rng.next_u32().is_multiple_of(50));
                for _ in 0..copies {
                    if self.cut || self.rng.next_u32() % 1000 < self.loss {
                        continue;
                    }
                    let jitter = Duration::from_micros(u64::from(self.rng.next_u32() % (1000 * self.jitter_ms)));
                    self.order += 1;
                    let at_time = self.now + self.delay + jitter;
                    self.coming.insert((at_time, self.order), (1 - at, number, frames.clone().freeze()));
                }
            }
        }
    }

    /// One event; false when nothing will happen any more before `end`.
    fn step(&mut self, end: Instant) -> bool {
        self.pump();
        let timer = (0..2).filter_map(|at| Some((self.ends[at].deadline()?, at))).min();
        let coming = self.coming.keys().next().copied();
        match (coming, timer) {
            (Some(key), timer) if key.0 <= end && timer.is_none_or(|(at, _)| key.0 <= at) => {
                self.now = self.now.max(key.0);
                let (to, number, frames) = self.coming.remove(&key).unwrap();
                self.ends[to].on_packet(self.now, number, frames);
            }
            (_, Some((at, which))) if at <= end => {
                assert!(at > self.now || self.ends[which].failure().is_none(), "a timer that is never off");
                self.now = self.now.max(at);
                self.ends[which].on_timeout(self.now);
            }
            _ => return false,
        }
        true
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        while self.step(end) {
            steps += 1;
            assert!(steps < 1_000_000, "it spins");
        }
        self.now = end;
    }

    fn read_all(&mut self, at: usize) {
        while let Some((lane, pieces)) = self.ends[at].read(100_000) {
            pieces.iter().for_each(|piece| self.read[at][usize::from(lane)].extend_from_slice(piece));
        }
    }

    /// Sends so many bytes on each lane from end 0 to end 1; how long it took.
    fn transfer(&mut self, bytes: usize, limit: Duration) -> Option<Duration> {
        let begin = self.now;
        let mut left: Vec<Bytes> = (0..LANES).map(|lane| pattern(lane, bytes)).collect();
        while self.now < begin + limit {
            for (lane, left) in left.iter_mut().enumerate() {
                self.ends[0].write(lane as u8, left);
            }
            self.pump();
            if !self.step(begin + limit) {
                return None;
            }
            self.read_all(1);
            if self.read[1].iter().all(|lane| lane.len() >= bytes) {
                return Some(self.now - begin);
            }
            if self.ends.iter().any(|end| end.failure().is_some()) {
                return None;
            }
        }
        None
    }
}

fn pattern(lane: usize, bytes: usize) -> Bytes {
    (0..bytes).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8 ^ (lane as u8).wrapping_mul(37)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_lost_doubled_or_overtaken_everything_arrives_once_and_in_order(seed in any::<u64>(), loss in 0..250_u32, jitter in 1..60_u32, bytes in 1..150_000_usize) {
        let mut pair = Pair::new(&MeshConfig::default(), seed);
        (pair.loss, pair.jitter_ms) = (loss, jitter);
        let took = pair.transfer(bytes, Duration::from_secs(120));
        prop_assert!(took.is_some(), "{:?} {:?}", pair.ends[0].failure(), pair.ends[1].failure());
        for lane in 0..LANES {
            prop_assert!(pair.read[1][lane] == pattern(lane, bytes));
        }
        pair.loss = 0;
        pair.run(Duration::from_secs(4));
        prop_assert!(pair.ends[0].is_quiet(), "everything is acknowledged");
        while !pair.ends[0].close() {
            prop_assert!(pair.step(pair.start + Duration::from_secs(200)));
        }
        prop_assert!(pair.ends[1].is_read_to_the_end());
    }

    #[test]
    fn no_frames_break_it(seed in any::<u64>(), packets in prop::collection::vec((0..100_u64, prop::collection::vec(any::<u8>(), 0..60), 1..8_u8), 0..60)) {
        let mut pair = Pair::new(&MeshConfig::default(), seed);
        for (number, mut frames, kind) in packets {
            if let Some(first) = frames.first_mut() {
                *first = kind;
            }
            pair.ends[1].on_packet(pair.now, number, frames.into());
            let _ = pair.ends[1].poll_transmit(pair.now, PACKET);
            let _ = pair.ends[1].read(1000);
        }
        pair.run(Duration::from_secs(20));
    }
}

#[test]
fn an_idle_link_stays_and_costs_little() {
    let mut pair = Pair::new(&MeshConfig::default(), 1);
    pair.run(Duration::from_secs(100));
    assert!(pair.ends.iter().all(|end| end.failure().is_none()));
    assert!(pair.sent <= 2 + 4 * 20 + 20, "{} packets", pair.sent);
}

#[test]
fn silence_fails_a_link_in_time_and_tries_other_routes_first() {
    let mut pair = Pair::new(&MeshConfig::default(), 1);
    pair.run(Duration::from_secs(1));
    pair.cut = true;
    pair.ends[0].write(0, &mut Bytes::from_static(b"x"));
    pair.run(Duration::from_secs(2));
    assert!(pair.ends[0].route() > 0);
    assert_eq!(pair.ends[0].failure(), None);
    pair.run(Duration::from_secs(7));
    assert_eq!(pair.ends[0].failure(), Some(Failure::Silent));
    pair.run(Duration::from_secs(10));
    assert_eq!(pair.ends[1].failure(), Some(Failure::Silent), "an idle end finds out by its probes");
}

#[test]
fn an_outage_shorter_than_the_limit_is_survived() {
    let mut pair = Pair::new(&MeshConfig::default(), 1);
    pair.run(Duration::from_secs(1));
    pair.cut = true;
    pair.ends[0].write(0, &mut Bytes::from_static(b"x"));
    pair.run(Duration::from_secs(4));
    pair.cut = false;
    pair.run(Duration::from_secs(2));
    pair.read_all(1);
    assert_eq!(pair.read[1][0], b"x");
}

#[test]
fn a_link_without_a_route_fails_soon_and_one_that_is_found_again_does_not() {
    let mut pair = Pair::new(&MeshConfig::default(), 1);
    pair.run(Duration::from_secs(1));
    pair.ends[0].on_unreachable(pair.now);
    pair.run(Duration::from_secs(2));
    pair.ends[1].write(0, &mut Bytes::from_static(b"x"));
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.ends[0].failure(), None, "a packet came");
    pair.ends[0].on_unreachable(pair.now);
    pair.cut = true;
    pair.run(Duration::from_secs(4));
    assert_eq!(pair.ends[0].failure(), Some(Failure::NoRoute));
    // What comes now is not answered, and nothing waits to be.
    let ping = [4_u8];
    pair.ends[0].on_packet(pair.now, 1000, Bytes::copy_from_slice(&ping));
    assert_eq!(pair.ends[0].poll_transmit(pair.now, PACKET), None);
    assert_eq!(pair.ends[0].deadline(), None);
}

#[test]
fn whoever_is_dropped_tells_the_other_side_even_when_that_is_lost_at_first() {
    let mut pair = Pair::new(&MeshConfig::default(), 1);
    pair.run(Duration::from_secs(1));
    pair.cut = true;
    pair.ends[0].reset();
    pair.run(Duration::from_millis(300));
    pair.cut = false;
    pair.run(Duration::from_secs(3));
    assert_eq!(pair.ends[1].failure(), Some(Failure::Reset));
    assert!(pair.ends[0].is_forgotten());
}

#[test]
fn whoever_has_reset_a_link_asks_for_nothing_more() {
    let mut pair = Pair::new(&MeshConfig::default(), 1);
    // Before anything of the other side has come.
    pair.pump();
    pair.ends[0].reset();
    while pair.ends[1].failure().is_none() {
        assert!(pair.step(pair.start + Duration::from_secs(1)));
    }
    pair.run(100 * MS);
    assert!(pair.ends[0].is_forgotten());
}

#[test]
fn a_reader_that_does_not_read_stops_the_writer_and_no_other_lane() {
    let mut pair = Pair::new(&MeshConfig::default(), 1);
    pair.run(Duration::from_secs(1));
    let mut written = 0;
    for _ in 0..100 {
        written += pair.ends[0].write(4, &mut pattern(4, 100_000));
        pair.run(100 * MS);
    }
    assert!(written <= 2 * MeshConfig::default().lane_window as usize, "{written}");
    assert!(pair.ends[0].write(0, &mut Bytes::from_static(b"urgent")) > 0);
    let before = pair.now;
    while pair.read[1][0].is_empty() {
        assert!(pair.step(before + Duration::from_secs(1)));
        if let Some((lane, pieces)) = pair.ends[1].read(1) {
            pieces.iter().for_each(|piece| pair.read[1][usize::from(lane)].extend_from_slice(piece));
        }
    }
    assert!(pair.now - before < 100 * MS);
}

#[test]
fn it_is_fast_without_losses_and_still_moves_with_many() {
    // Per second at 40 ms round trip: what one link carries.
    for (loss, least) in [(0, 10_000_000), (10, 2_000_000), (50, 600_000)] {
        let mut pair = Pair::new(&MeshConfig::default(), 5);
        pair.loss = loss;
        let bytes = 4_000_000;
        let took = pair.transfer(bytes / LANES, Duration::from_secs(60)).unwrap();
        let rate = (bytes as f64 / took.as_secs_f64()) as u64;
        let overhead = pair.sent_bytes as f64 / bytes as f64;
        println!(
            "loss {loss} in a thousand: {rate} bytes a second, {overhead:.3} times the bytes, {} packets",
            pair.sent
        );
        assert!(rate > least, "{rate} with {loss}");
        assert!(overhead < 1.05 + f64::from(loss) * 0.002, "{overhead} with {loss}");
    }
}
